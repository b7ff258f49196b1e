//! Writers at full speed, and a check of what a topic says about their table, event by event.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value as Json;
use tokio::task::JoinHandle;

use super::support::kafka::Record;
use super::support::source::{Source, Writer};

/// Writers; each has the keys of its own residue, so that a key's versions are written in order.
pub const WRITERS: u64 = 3;

/// Columns of the table: a key, a version that grows with each change of a key, a large text that most updates leave alone.
pub const COLUMNS: &str = "id bigint primary key, v bigint not null, note varchar(100), body text";

/// Fills a table with rows 1 to `rows`, version 0; every hundredth has a body of some 4,000 characters.
pub async fn fill(source: &Source, table: &str, rows: u64) {
    let body =
        |n: &str| format!("case when {n} % 100 = 0 then repeat(lpad({n}, 32, 'x'), 125) else concat('b', {n}) end");
    match source {
        Source::Postgres(db) => {
            // as it is: a text that compresses well isn't moved out of the row
            db.exec(&format!("alter table {table} alter column body set storage external")).await;
            let body = body("n::text").replace("n::text % 100", "n % 100");
            db.exec(&format!(
                "insert into {table} select n, 0, 'note ' || n, {body} from generate_series(1, {rows}) n; analyze {table}"
            ))
            .await;
        }
        Source::Mysql(db) => {
            let digits = "(select 0 d union all select 1 union all select 2 union all select 3 union all select 4 union all select 5 \
                          union all select 6 union all select 7 union all select 8 union all select 9)";
            let n = "a.d + b.d * 10 + c.d * 100 + e.d * 1000 + f.d * 10000 + g.d * 100000 + 1";
            db.exec(&format!(
                "insert into {table} select n, 0, concat('note ', n), {} from (select {n} n from {digits} a, {digits} b, {digits} c, \
                 {digits} e, {digits} f, {digits} g) numbers where n <= {rows}",
                body("n")
            ))
            .await;
        }
    }
}

/// Running writers.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    writers: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Starts them on a table with keys up to `rows`, at full speed.
    pub async fn start(source: &Source, table: &str, rows: u64) -> Traffic {
        Self::start_with(source, table, rows, Duration::ZERO).await
    }

    /// The same with a pause behind each transaction.
    pub async fn start_with(source: &Source, table: &str, rows: u64, pause: Duration) -> Traffic {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut writers = Vec::new();
        for residue in 0..WRITERS {
            let writer = Writer::of(source).await;
            let it = One {
                writer,
                table: table.to_owned(),
                rows,
                residue,
                version: 0,
                random: StdRng::seed_from_u64(residue),
                pause,
            };
            writers.push(tokio::spawn(it.run(Arc::clone(&stop), Arc::clone(&written))));
        }
        Traffic { stop, written, writers }
    }

    /// Ends them.
    pub async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for writer in self.writers {
            writer.await.unwrap();
        }
        self.written.load(Ordering::Relaxed)
    }
}

struct One {
    writer: Writer,
    table: String,
    rows: u64,
    residue: u64,
    version: u64,
    random: StdRng,
    pause: Duration,
}

impl One {
    async fn run(mut self, stop: Arc<AtomicBool>, written: Arc<AtomicU64>) {
        while !stop.load(Ordering::Relaxed) {
            let statements: Vec<String> = (0..self.random.random_range(1..=5)).flat_map(|_| self.statement()).collect();
            let end = if self.random.random_ratio(1, 12) { "rollback" } else { "commit" };
            self.writer.run(&format!("begin; {}; {end}", statements.join("; "))).await;
            written.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(self.pause).await;
        }
    }

    /// A key of this writer; now and then one behind those that are there.
    fn key(&mut self) -> u64 {
        self.random.random_range(0..self.rows / WRITERS + 50) * WRITERS + self.residue
    }

    fn statement(&mut self) -> Vec<String> {
        self.version += 1;
        let (table, v, id) = (self.table.clone(), self.version, self.key());
        let insert =
            |id: u64, v: u64| format!("insert into {table} values ({id}, {v}, 'new', repeat('{v} ', {}))", 1 + v % 900);
        match self.random.random_range(0..20) {
            0..10 => vec![format!("update {table} set v = {v}, note = 'changed {v}' where id = {id}")],
            10..12 => {
                vec![format!("update {table} set v = {v}, body = repeat('{v};', {}) where id = {id}", 1 + v % 700)]
            }
            12..14 => vec![format!("delete from {table} where id = {id}")],
            14..17 => vec![format!("delete from {table} where id = {id}"), insert(id, v)],
            // another key, with the text left where it is
            _ => {
                let to = self.key();
                let delete = format!("delete from {table} where id = {to} and {to} <> {id}");
                vec![delete, format!("update {table} set id = {to}, v = {v} where id = {id}")]
            }
        }
    }
}

/// What the events of a topic come to.
#[derive(Debug, Default)]
pub struct Folded {
    /// The rows.
    pub rows: BTreeMap<u64, Json>,
    /// Events by `op`.
    pub counts: HashMap<String, u64>,
    /// How often a row that nobody has ever changed was read, at most.
    pub most_reads: u32,
}

/// Folds a topic by key, and checks each event: ids occur once, versions of a key only grow, and what was read never comes behind a
/// newer change of its key.
pub fn fold(records: &[Record]) -> Folded {
    let mut it = Folded::default();
    let mut newest: HashMap<u64, u64> = HashMap::new();
    let mut ids: HashMap<String, u64> = HashMap::new();
    let mut reads: HashMap<u64, u32> = HashMap::new();
    // a row that moves to another key leaves its large text out: a reader takes it from the row that was deleted just before
    let mut carried: HashMap<String, Json> = HashMap::new();
    for record in records.iter().filter(|record| record.value.is_some()) {
        let event = record.json();
        let op = event["op"].as_str().unwrap().to_owned();
        *it.counts.entry(op.clone()).or_default() += 1;
        let id = event["id"].as_str().unwrap();
        let seen = ids.entry(id.to_owned()).or_default();
        *seen += 1;
        // a truncation goes to every partition
        assert!(*seen == 1 || op == "t", "twice: {event}");
        assert_eq!(event["source"]["snapshot"] == true, op == "r", "{event}");
        if op == "t" {
            it.rows.clear();
            continue;
        }
        let image = if op == "d" { &event["before"] } else { &event["after"] };
        let key = image["id"].as_u64().unwrap();
        let stem = id.rsplit_once('/').map_or(id, |(stem, _)| stem).to_owned();
        if op == "d" {
            if let Some(row) = it.rows.remove(&key)
                && id.ends_with("/d")
            {
                carried.insert(stem, row["body"].clone());
            }
            continue;
        }
        let version = image["v"].as_u64().unwrap();
        if op == "r" && version == 0 {
            *reads.entry(key).or_default() += 1;
        }
        let last = newest.insert(key, version);
        match last {
            Some(last) if op == "r" => {
                assert!(version >= last, "a row of version {version} behind {last}: {event}");
                assert!(version > last || it.rows.contains_key(&key) || last == 0, "brought back: {event}");
            }
            Some(last) => assert!(version > last || version == 0, "version {version} behind {last}: {event}"),
            None => {}
        }
        let mut row = image.clone();
        for absent in event["absent"].as_array().into_iter().flatten() {
            let name = absent.as_str().unwrap();
            let known = carried.remove(&stem).or_else(|| it.rows.get(&key).map(|row| row[name].clone()));
            row[name] = known.unwrap_or(Json::Null);
        }
        it.rows.insert(key, row);
    }
    it.most_reads = reads.values().copied().max().unwrap_or(0);
    it
}

/// The rows of a table as a fold has them.
pub async fn rows(source: &Source, table: &str) -> BTreeMap<u64, Json> {
    let rows = source.query(&format!("select id, v, note, body from {table}")).await;
    let number = |cell: &Option<String>| cell.as_ref().unwrap().parse::<u64>().unwrap();
    rows.iter()
        .map(|row| {
            let json = serde_json::json!({"id": number(&row[0]), "v": number(&row[1]), "note": row[2], "body": row[3]});
            (number(&row[0]), json)
        })
        .collect()
}

/// Fails with the first differences only.
pub fn assert_same(folded: &BTreeMap<u64, Json>, table: &BTreeMap<u64, Json>) {
    let differences: Vec<String> = folded
        .keys()
        .chain(table.keys())
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .filter(|key| folded.get(*key) != table.get(*key))
        .take(5)
        .map(|key| format!("key {key}: topic {:?}, table {:?}", folded.get(key), table.get(key)))
        .collect();
    assert!(
        differences.is_empty(),
        "{} rows in the topic, {} in the table:\n{}",
        folded.len(),
        table.len(),
        differences.join("\n")
    );
}
