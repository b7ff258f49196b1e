//! The reader of the fold tests, which knows only the topics: rows by key, after, absent and before merged, columns and keys as
//! the schema topic says. It also holds the events to what follows from "exactly once, in order": an insert of a row that is
//! there, a change of one that isn't, an id twice, or a position that goes back is a failure.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};

use serde_json::{Map, Value as Json};

use super::kafka::{Record, read_committed};
use super::source::Source;

type Row = Map<String, Json>;

/// Defaults of columns that were added, by the column's name, which is never used twice with a default.
pub type Defaults = Arc<Mutex<BTreeMap<String, Json>>>;

/// Columns and rows of a table as the server gave them.
pub type Shown = (Vec<String>, Vec<Json>);

/// The seed of `make test`: the same choices every time, so that what fails was changed. `make fold` makes others.
const SEED: u64 = 701;

/// Where a run begins.
pub fn seed() -> u64 {
    setting("ROWCAST_FOLD_SEED").unwrap_or(SEED)
}

/// A setting of the fold tests: a number from the environment.
pub fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: not a number")))
}

/// A record of the schema topic.
#[derive(Debug)]
struct Schema {
    columns: Vec<String>,
    key: Vec<String>,
}

#[derive(Debug)]
pub struct Event {
    transaction: String,
    op: String,
    id: String,
    key: Option<String>,
    before: Option<Row>,
    after: Option<Row>,
    absent: Vec<String>,
    fingerprint: String,
    schema: Option<Arc<Schema>>,
}

/// The schema topic's records by fingerprint.
fn schemas(records: &[Record]) -> HashMap<String, Arc<Schema>> {
    let names = |list: &Json, of: &dyn Fn(&Json) -> String| list.as_array().unwrap().iter().map(of).collect();
    let records = records.iter().filter(|record| record.json().get("columns").is_some());
    records
        .map(|record| {
            let json = record.json();
            let columns = names(&json["columns"], &|column| column["name"].as_str().unwrap().to_owned());
            let key = names(&json["key"], &|name| name.as_str().unwrap().to_owned());
            (record.key_str().to_owned(), Arc::new(Schema { columns, key }))
        })
        .collect()
}

/// A position's number, and what it counts: an LSN of the log, a GTID of its origin or domain.
fn place(pos: &str) -> (&str, u64) {
    if let Some((high, low)) = pos.split_once('/') {
        return ("", (u64::from_str_radix(high, 16).unwrap() << 32) + u64::from_str_radix(low, 16).unwrap());
    }
    if let Some((origin, number)) = pos.rsplit_once(':') {
        return (origin, number.parse().unwrap());
    }
    let mut parts = pos.split('-');
    let (domain, number) = (parts.next().unwrap(), parts.next_back().unwrap());
    (domain, number.parse().unwrap())
}

/// All topics' events, by table.
pub async fn read(source: &Source, tables: &[&'static str]) -> BTreeMap<&'static str, Vec<Event>> {
    let schemas = schemas(&read_committed(&format!("rowcast.schema.{}", source.name())).await);
    let mut all = BTreeMap::new();
    for table in tables {
        all.insert(*table, events(&source.records(table).await, &schemas));
    }
    all
}

/// A topic's events, checked for order and repetition.
fn events(records: &[Record], schemas: &HashMap<String, Arc<Schema>>) -> Vec<Event> {
    let mut ids = HashSet::new();
    let mut last: HashMap<String, (u64, u64, String)> = HashMap::new();
    let mut deleted: Option<Option<Vec<u8>>> = None;
    let mut events = Vec::new();
    for record in records {
        assert_eq!(record.partition, 0, "the order of events holds in one partition only");
        if record.value.is_none() {
            assert_eq!(deleted.take(), Some(record.key.clone()), "a tombstone that follows no delete");
            continue;
        }
        let json = record.json();
        let image = |image: &Json| image.as_object().cloned();
        let (line, number) = place(json["source"]["pos"].as_str().unwrap());
        let here = (number, json["source"]["seq"].as_u64().unwrap());
        if let Some((number, seq, id)) = last.get(line) {
            assert!(here >= (*number, *seq), "{json} follows {id}");
        }
        let fingerprint = record.header("rowcast.schema").unwrap_or_default().to_owned();
        let event = Event {
            transaction: json["source"]["tx"].as_str().unwrap().to_owned(),
            op: json["op"].as_str().unwrap().to_owned(),
            id: json["id"].as_str().unwrap().to_owned(),
            key: record.key.is_some().then(|| text(&record.key_json())),
            before: image(&json["before"]),
            after: image(&json["after"]),
            absent: json["absent"]
                .as_array()
                .map_or(Vec::new(), |names| names.iter().map(|name| name.as_str().unwrap().to_owned()).collect()),
            schema: schemas.get(&fingerprint).cloned(),
            fingerprint,
        };
        assert!(ids.insert(event.id.clone()), "twice: {json}");
        last.insert(line.to_owned(), (here.0, here.1, event.id.clone()));
        deleted = (event.op == "d").then(|| record.key.clone());
        events.push(event);
    }
    events
}

/// Canonical: members in alphabetical order.
fn text(json: &Json) -> String {
    json.to_string()
}

/// A row and the version of the table that its last event had.
#[derive(Debug, Clone)]
struct Held {
    row: Row,
    fingerprint: String,
}

/// What a topic's events add up to.
struct Topic<'a> {
    table: &'a str,
    defaults: &'a Defaults,
    /// An insert may leave columns out, which then have their defaults (MySQL's partial row images).
    partial: bool,
    key: Vec<String>,
    /// By key; all in one place without.
    rows: BTreeMap<String, Vec<Held>>,
    /// The row of a delete that is the first half of a change of its key.
    moved: Option<(String, Held)>,
}

impl<'a> Topic<'a> {
    fn new(table: &'a str, defaults: &'a Defaults, partial: bool) -> Self {
        Self { table, defaults, partial, key: Vec::new(), rows: BTreeMap::new(), moved: None }
    }

    fn key_of(&self, row: &Row) -> String {
        if self.key.is_empty() {
            return String::new();
        }
        let column = |name: &String| {
            let value = row.get(name).unwrap_or_else(|| panic!("{}: no {name} in {row:?}", self.table));
            (name.clone(), value.clone())
        };
        text(&Json::Object(self.key.iter().map(column).collect()))
    }

    /// The rows by another key.
    fn rekey(&mut self, key: &[String]) {
        self.key = key.to_vec();
        for held in std::mem::take(&mut self.rows).into_values().flatten() {
            self.rows.entry(self.key_of(&held.row)).or_default().push(held);
        }
    }

    /// Whether a value is what a row says, or what a column was added with after the row's last event.
    fn agrees(&self, row: &Row, name: &str, value: &Json) -> bool {
        match row.get(name) {
            Some(known) => known == value,
            None => value.is_null() || self.defaults.lock().unwrap().get(name) == Some(value),
        }
    }

    fn take(&mut self, event: &Event) -> Held {
        let key = event.key.clone().unwrap_or_default();
        let rows = self.rows.get(&key).map_or(&[][..], Vec::as_slice);
        let index = match (&event.key, &event.before) {
            (Some(_), _) => (!rows.is_empty()).then_some(0),
            (None, Some(before)) => {
                rows.iter().position(|held| before.iter().all(|(name, value)| self.agrees(&held.row, name, value)))
            }
            (None, None) => None,
        };
        let index = index
            .unwrap_or_else(|| panic!("{}: changes a row that isn't there: {event:?}\namong {rows:?}", self.table));
        let held = self.rows.get_mut(&key).unwrap().remove(index);
        if held.fingerprint == event.fingerprint {
            for (name, value) in event.before.iter().flatten() {
                assert_eq!(held.row.get(name), Some(value), "{}: `before` isn't what was there: {event:?}", self.table);
            }
        }
        held
    }

    fn put(&mut self, event: &Event, old: Option<Held>) {
        let mut row = event.after.clone().unwrap();
        for name in &event.absent {
            assert!(old.is_some() || self.partial, "{}: nothing to take {name} from: {event:?}", self.table);
            let value = old.as_ref().and_then(|old| old.row.get(name).cloned());
            let value = value.or_else(|| self.defaults.lock().unwrap().get(name).cloned());
            let value = value.or_else(|| self.partial.then_some(Json::Null));
            row.insert(
                name.clone(),
                value.unwrap_or_else(|| panic!("{}: {name} was never sent: {event:?}", self.table)),
            );
        }
        let schema = event.schema.as_ref().unwrap();
        let columns: HashSet<&String> = schema.columns.iter().collect();
        assert_eq!(
            row.keys().collect::<HashSet<_>>(),
            columns,
            "{}: other columns than the schema's: {event:?}",
            self.table
        );
        let key = self.key_of(&row);
        assert_eq!(event.key.clone().unwrap_or_default(), key, "{}: another key than the row's: {event:?}", self.table);
        let rows = self.rows.entry(key).or_default();
        assert!(rows.is_empty() || event.key.is_none(), "{}: there are two rows: {event:?} and {rows:?}", self.table);
        rows.push(Held { row, fingerprint: event.fingerprint.clone() });
    }

    fn fold(&mut self, event: &Event) {
        if event.op == "t" {
            self.rows.clear();
            return;
        }
        let schema = event.schema.as_ref().unwrap_or_else(|| panic!("no schema {:?}: {event:?}", event.fingerprint));
        if schema.key != self.key {
            self.rekey(&schema.key);
        }
        let stem = event.id.strip_suffix("/c").or_else(|| event.id.strip_suffix("/d")).map(str::to_owned);
        match event.op.as_str() {
            "c" => {
                let old = stem.map(|stem| {
                    let (deleted, held) = self.moved.take().unwrap_or_else(|| panic!("half of a change: {event:?}"));
                    assert_eq!(deleted, stem);
                    held
                });
                self.put(event, old);
            }
            "u" => {
                let old = self.take(event);
                self.put(event, Some(old));
            }
            "d" => {
                let old = self.take(event);
                self.moved = stem.map(|stem| (stem, old));
            }
            other => panic!("unexpected op {other}"),
        }
    }

    /// Fails if a table that a snapshot showed is another one. None: there was no such table.
    fn compare(&self, expected: Option<&Shown>, when: &str) {
        let folded: Vec<&Held> = self.rows.values().flatten().collect();
        let Some((columns, rows)) = expected else {
            assert!(folded.is_empty(), "{}: {} rows are left of it {when}: {folded:?}", self.table, folded.len());
            return;
        };
        let defaults = self.defaults.lock().unwrap();
        let mut ours: Vec<String> = folded
            .iter()
            .map(|held| {
                let value = |name: &String| {
                    let value = held.row.get(name).or_else(|| defaults.get(name)).cloned();
                    (name.clone(), value.unwrap_or(Json::Null))
                };
                text(&Json::Object(columns.iter().map(value).collect()))
            })
            .collect();
        let mut theirs: Vec<String> = rows.iter().map(text).collect();
        ours.sort();
        theirs.sort();
        if ours != theirs {
            let only = |these: &[String], others: &[String]| -> Vec<String> {
                let others: HashSet<&String> = others.iter().collect();
                let short = |row: &&String| row.chars().take(300).collect();
                these.iter().filter(|row| !others.contains(row)).take(5).map(|row| short(&row)).collect()
            };
            panic!(
                "{} {when}: {} rows in the topic, {} in the table\nonly in the topic: {:#?}\nonly in the table: {:#?}",
                self.table,
                ours.len(),
                theirs.len(),
                only(&ours, &theirs),
                only(&theirs, &ours),
            );
        }
    }
}

/// What one snapshot saw.
pub struct Picture {
    pub name: String,
    /// Whether it sees what a transaction did, by the name of the transaction.
    pub sees: Box<dyn Fn(&str) -> bool>,
    /// Columns and rows of the tables that were there.
    pub tables: BTreeMap<&'static str, Shown>,
}

impl Picture {
    /// Folds what the snapshot sees, and compares.
    pub fn compare(&self, all: &BTreeMap<&'static str, Vec<Event>>, defaults: &Defaults, partial: bool) {
        for (table, events) in all {
            let mut topic = Topic::new(table, defaults, partial);
            let events = events.iter().filter(|event| (self.sees)(&event.transaction));
            events.for_each(|event| topic.fold(event));
            topic.compare(self.tables.get(table), &self.name);
        }
    }
}
