//! Which rows of a copy say that they are the first or the last (`format: debezium`): in order, beside writers, and when the daemon is killed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod support;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value as Json;
use support::source::{Kind, PATIENCE, Source, Writer};
use support::{eventually, local};

/// Waits until the log says that so many tables are copied.
async fn copied(daemon: &support::daemon::Daemon, tables: usize) {
    eventually(PATIENCE, "the copies", || async {
        let log = daemon.stderr();
        assert!(!log.contains("stopped: "), "{log}");
        let done = log.matches("the table is copied").count();
        if done >= tables { Ok(()) } else { Err(done) }
    })
    .await;
}

/// Rows 1 to `rows` of a table `(id, n)`.
async fn fill(source: &Source, table: &str, rows: u32) {
    for first in (1..=rows).step_by(5_000) {
        let values: Vec<String> = (first..(first + 5_000).min(rows + 1)).map(|id| format!("({id}, 0)")).collect();
        source.exec(&format!("insert into {table} values {}", values.join(","))).await;
    }
}

/// What the copied rows say in the order in which they were published: table by table what isn't `true`, and all that isn't.
fn told(events: &[Json]) -> (BTreeMap<String, Vec<String>>, Vec<String>) {
    let (mut tables, mut all): (BTreeMap<String, Vec<String>>, _) = (BTreeMap::new(), Vec::new());
    let reads: Vec<&Json> = events.iter().filter(|event| event["op"] == "r").collect();
    let mut last_of: HashMap<&str, usize> = HashMap::new();
    let mut first_of: HashMap<&str, usize> = HashMap::new();
    for (at, event) in reads.iter().enumerate() {
        let table = event["source"]["table"].as_str().unwrap();
        last_of.insert(table, at);
        first_of.entry(table).or_insert(at);
    }
    for (at, event) in reads.iter().enumerate() {
        let (table, marker) =
            (event["source"]["table"].as_str().unwrap(), event["source"]["snapshot"].as_str().unwrap());
        // where it stands is what it says
        let is = match marker {
            "true" => true,
            "first" => at == 0,
            "first_in_data_collection" => first_of[table] == at,
            "last_in_data_collection" => last_of[table] == at,
            "last" => at + 1 == reads.len(),
            _ => false,
        };
        assert!(is, "{marker} of {table} at {at} of {}", reads.len());
        if marker != "true" {
            tables.entry(table.to_owned()).or_default().push(marker.to_owned());
            all.push(marker.to_owned());
        }
    }
    (tables, all)
}

const PLAIN: &str = "format: debezium\ndebezium: {key_schemas_enable: false, value_schemas_enable: false}\n";

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_one_row_of_many_and_of_none_are_marked_as_the_original_does() {
    for kind in Kind::ALL {
        let source = Source::create(kind, "markers").await;
        let tables =
            [("a", 0), ("b", 1), ("c", 12_345), ("d", 300), ("e", 0), ("f", 1), ("g", 5_000), ("h", 0), ("i", 0)];
        for (table, rows) in tables {
            let key = if table == "d" { "" } else { " primary key" };
            source.create_table(table, &format!("id bigint{key}, n int")).await;
            fill(&source, table, rows).await;
        }
        if kind == Kind::Postgres {
            source.exec("alter table d replica identity full").await;
        }
        let (first, last) = ("first_in_data_collection", "last_in_data_collection");
        for parallelism in [1, 3] {
            let yaml = source.yaml("*")
                + &format!(
                    "sink: {{ type: file, path: out.jsonl }}\nstate_dir: state\nbackfill: {{ parallelism: {parallelism} }}\n{PLAIN}"
                );
            let mut daemon = local::run(&yaml);
            copied(&daemon, tables.len()).await;
            let events = local::events(&daemon);
            assert_eq!(events.len(), tables.iter().map(|it| it.1 as usize).sum::<usize>());
            let (by_table, all) = told(&events);
            if parallelism == 1 {
                let expected: [(&str, &[&str]); 5] = [
                    ("b", &["first"]),
                    ("c", &[first, last]),
                    ("d", &[first, last]),
                    ("f", &[last]),
                    ("g", &[first, "last"]),
                ];
                let found: Vec<_> = by_table.iter().map(|(table, told)| (table.as_str(), told.clone())).collect();
                assert_eq!(
                    found,
                    expected.map(|(table, told)| (table, told.iter().map(|it| (*it).to_owned()).collect()))
                );
            } else {
                // the order of tables is that of their reads: what is first and last of all is so by `told`
                let count = |marker: &str| all.iter().filter(|told| *told == marker).count();
                assert_eq!((count("first"), count("last")), (1, 1), "{by_table:?}");
                for (table, told) in &by_table {
                    let both = !matches!(table.as_str(), "b" | "f");
                    assert_eq!(told.len(), if both { 2 } else { 1 }, "{kind:?} {table}: {told:?}");
                }
                assert_eq!(by_table.len(), 5, "{by_table:?}");
            }
            // what is copied later is a snapshot of its own
            let state = daemon.dir().join("state");
            let ask =
                ["backfill", source.name(), &format!("{}.b", source.schema()), "--state-dir", state.to_str().unwrap()];
            let (code, out, error) = support::daemon::Daemon::command().args(&ask).output(PATIENCE).await;
            assert_eq!(code, 0, "{out}{error}");
            copied(&daemon, tables.len() + 1).await;
            let later = local::events(&daemon)[events.len()..].to_vec();
            assert_eq!(told(&later).1, ["last"], "{later:?}");
            local::stops(&mut daemon).await;
            if kind == Kind::Postgres {
                source.exec("select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = current_database()").await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flattened_rows_say_it_in_fields_and_headers() {
    let source = Source::create(Kind::Postgres, "markers").await;
    source.create_table("t", "id bigint primary key, n int").await;
    fill(&source, "t", 3).await;
    let more = format!("{PLAIN}flatten:\n  add_fields: [\"source.snapshot:of\"]\n  add_headers: [source.snapshot]\n");
    let mut daemon = source.to_kafka_with(&more).spawn();
    copied(&daemon, 1).await;
    let records = source.records("t").await;
    let told: Vec<(String, &str)> = records
        .iter()
        .map(|record| (record.json()["__of"].as_str().unwrap().to_owned(), record.header("__source_snapshot").unwrap()))
        .collect();
    let expected = ["first", "true", "last"];
    assert_eq!(told, expected.map(|it| (it.to_owned(), it)));
    local::stops(&mut daemon).await;
}

/// What a topic says of a table `(id, n)`, whose `n` grows with each change: its rows, and how often a row that nobody changed was read at most.
fn fold(events: &[Json]) -> (BTreeMap<u64, u64>, u32) {
    let (mut rows, mut newest, mut reads) = (BTreeMap::new(), HashMap::new(), HashMap::new());
    for event in events {
        let image = if event["op"] == "d" { &event["before"] } else { &event["after"] };
        let id = image["id"].as_u64().unwrap();
        if event["op"] == "d" {
            rows.remove(&id);
            continue;
        }
        let n = image["n"].as_u64().unwrap();
        let newest = newest.entry(id).or_insert(0);
        assert!(n >= *newest, "a row behind a newer one: {event}");
        *newest = n;
        if event["op"] == "r" && n == 0 {
            *reads.entry(id).or_insert(0) += 1;
        }
        rows.insert(id, n);
    }
    (rows, reads.values().copied().max().unwrap_or(0))
}

/// Changes rows of `busy` until told to stop.
async fn write(source: &Source, stop: Arc<AtomicBool>, rows: u64) -> tokio::task::JoinHandle<()> {
    let mut writer = Writer::of(source).await;
    tokio::spawn(async move {
        let (mut random, mut n) = (StdRng::seed_from_u64(3), 0);
        while !stop.load(Ordering::Relaxed) {
            n += 1;
            let id = random.random_range(1..=rows);
            let statement = match random.random_range(0..6) {
                0 => format!("delete from busy where id = {id}"),
                1 => format!("insert into busy values ({}, {n})", rows + n),
                // also among the last ones, which the copy comes to at its end
                2 => format!("update busy set n = {n} where id between {} and {rows}", rows - 3),
                _ => format!("update busy set n = {n} where id = {id}"),
            };
            writer.run(&statement).await;
            // slow enough that the lives of the daemon, short as they are, keep up with it
            tokio::time::sleep(Duration::from_millis(8)).await;
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_writers_and_kills_nothing_is_said_twice_or_wrongly() {
    const BUSY: u64 = 30_000;
    const QUIET: u32 = 20_000;
    for kind in Kind::ALL {
        let source = Source::create(kind, "markers").await;
        for table in ["busy", "calm", "still", "void"] {
            source.create_table(table, "id bigint primary key, n bigint not null").await;
        }
        fill(&source, "busy", BUSY as u32).await;
        fill(&source, "calm", QUIET).await;
        fill(&source, "still", QUIET).await;
        let stop = Arc::new(AtomicBool::new(false));
        let writers = write(&source, Arc::clone(&stop), BUSY).await;
        let more = format!("backfill: {{ rows_per_second: 9000 }}\n{PLAIN}");
        let mut daemon = source.to_kafka_with(&more).spawn();
        let mut random = StdRng::seed_from_u64(11);
        let kills = daemon.kill_until_copied(4, &mut random).await;
        stop.store(true, Ordering::Relaxed);
        writers.await.unwrap();
        let rows = source.query("select id, n from busy").await;
        let number = |cell: &Option<String>| cell.as_ref().unwrap().parse::<u64>().unwrap();
        let expected: BTreeMap<u64, u64> = rows.iter().map(|row| (number(&row[0]), number(&row[1]))).collect();
        let busy = eventually(PATIENCE, "the last change", || async {
            let events = source.events("busy").await;
            if fold(&events).0 == expected { Ok(events) } else { Err(events.len()) }
        })
        .await;
        assert_eq!(fold(&busy).1, 1, "{kind:?}: twice");
        let mut all = Vec::new();
        for table in ["busy", "calm", "still"] {
            let events = if table == "busy" { busy.clone() } else { source.events(table).await };
            let reads: Vec<&str> = events
                .iter()
                .filter(|event| event["op"] == "r")
                .map(|event| event["source"]["snapshot"].as_str().unwrap())
                .collect();
            let marked: Vec<(usize, &str)> =
                reads.iter().copied().enumerate().filter(|(_, marker)| *marker != "true").collect();
            eprintln!("{kind:?} {table}: {marked:?} of {}", reads.len());
            let firsts: Vec<_> = marked.iter().filter(|(_, marker)| marker.starts_with("first")).collect();
            let lasts: Vec<_> = marked.iter().filter(|(_, marker)| marker.starts_with("last")).collect();
            assert!(
                firsts.iter().all(|(at, _)| *at == 0) && lasts.iter().all(|(at, _)| at + 1 == reads.len()),
                "{marked:?}"
            );
            assert_eq!((firsts.len(), lasts.len() <= 1), (1, true), "{kind:?} {table}: {marked:?}");
            if table != "busy" {
                let (rows, most) = fold(&events);
                assert_eq!((rows.len(), most, reads.len()), (QUIET as usize, 1, QUIET as usize), "{kind:?} {table}");
                assert_eq!(lasts.len(), 1, "{kind:?} {table}: nothing is dropped here: {marked:?}");
            }
            all.extend(marked.into_iter().map(|(_, marker)| marker.to_owned()));
        }
        let count = |marker: &str| all.iter().filter(|told| *told == marker).count();
        assert_eq!((count("first"), count("last") <= 1), (1, true), "{all:?}");
        eprintln!("{kind:?}: {kills} kills, {all:?}");
        assert!(kills > 2);
        local::stops(&mut daemon).await;
    }
}
