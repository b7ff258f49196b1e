//! Golden tables: as files, one row each, with what `after` must be for it, byte for byte.
//!
//! `tests/golden/FOLDER/NAME.sql` makes the table NAME and, behind a line `-- rows`, has an insert per line; `NAME.jsonl` has what
//! `after` must be. `ROWCAST_GOLDEN=write` writes these files anew (then look at what has changed).

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use serde_json::Value as Json;

use super::daemon::Daemon;
use super::kafka::{Record, read_committed};
use super::schema::Envelope;
use super::source::{PATIENCE, Source};

/// A table of the golden files.
pub struct Family {
    /// Its name, and that of its files.
    pub name: &'static str,
    folder: &'static str,
    /// Statements that make the table.
    pub setup: String,
    /// An insert each.
    pub rows: Vec<String>,
    /// Where what is expected differs between servers, the name of this one.
    variant: Option<String>,
}

impl Family {
    /// Reads the statements. `row` says what a line behind `-- rows` means: its insert, or nothing.
    pub fn read(folder: &'static str, name: &'static str, row: impl FnMut(&str) -> Option<String>) -> Family {
        let it = Family { name, folder, setup: String::new(), rows: Vec::new(), variant: None };
        let sql = fs::read_to_string(it.path("sql")).unwrap();
        let (setup, rows) = sql.split_once("-- rows\n").unwrap();
        Family { setup: setup.to_owned(), rows: rows.lines().filter_map(row).collect(), ..it }
    }

    /// Expects what is in `NAME.VARIANT.jsonl`.
    pub fn variant(self, variant: &str) -> Family {
        Family { variant: Some(variant.to_owned()), ..self }
    }

    fn path(&self, ending: &str) -> PathBuf {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(self.folder);
        folder.join(format!("{}.{ending}", self.name))
    }

    /// Compares the images, in the order of the rows, with the file.
    pub fn check(&self, images: &[String]) {
        assert_eq!(images.len(), self.rows.len(), "{}", self.name);
        let path = self.path(&self.variant.as_ref().map_or("jsonl".to_owned(), |variant| format!("{variant}.jsonl")));
        if std::env::var("ROWCAST_GOLDEN").is_ok_and(|it| it == "write") {
            fs::write(path, images.join("\n") + "\n").unwrap();
            return;
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        for (image, expected) in images.iter().zip(expected.lines()) {
            assert_eq!(image, expected, "{}", self.name);
        }
        assert!(expected.lines().count() >= images.len(), "{} has fewer rows than the table", path.display());
    }
}

/// The bytes of `after` in an event: the contract is about bytes, and a parser would hide differences.
pub fn after(record: &Record) -> String {
    let text = std::str::from_utf8(record.value.as_ref().unwrap()).unwrap();
    let from = text.find("\"after\":").unwrap() + "\"after\":".len();
    text[from..text.rfind(",\"source\":").unwrap()].to_owned()
}

/// The columns of all table versions of a source, by fingerprint.
pub async fn columns(source: &Source) -> HashMap<String, Json> {
    let schemas = read_committed(&format!("rowcast.schema.{}", source.name())).await;
    schemas
        .iter()
        .map(Record::json)
        .filter(|it| it["columns"].is_array())
        .map(|it| (it["fingerprint"].as_str().unwrap().to_owned(), it["columns"].clone()))
        .collect()
}

/// Holds all events of a source against the schema, and each value against its column's type.
pub async fn check_schema(source: &Source, tables: &[&'static str]) {
    let mut envelope = Envelope::new();
    let types = columns(source).await;
    for table in tables {
        for record in source.records(table).await.iter().filter(|record| record.value.is_some()) {
            let event = record.json();
            envelope.check(&event);
            let columns = types[record.header("rowcast.schema").unwrap()].as_array().unwrap();
            for image in [&event["before"], &event["after"]] {
                for (name, value) in image.as_object().into_iter().flatten() {
                    let column = columns.iter().find(|column| column["name"] == name.as_str()).unwrap();
                    envelope.check_value(column["type"].as_str().unwrap(), value);
                }
            }
        }
    }
}

/// What a copy must have as the stream had it: key, image, schema.
pub fn parts(records: &[Record]) -> Vec<(Option<Vec<u8>>, String, String)> {
    let part =
        |record: &Record| (record.key.clone(), after(record), record.header("rowcast.schema").unwrap().to_owned());
    let mut parts: Vec<_> = records.iter().map(part).collect();
    parts.sort();
    parts
}

/// Asks a daemon that runs for a copy of a table.
pub async fn copy(source: &Source, daemon: &Daemon, table: &str) {
    let state = daemon.dir().join("rowcast-state");
    let name = format!("{}.{table}", source.schema());
    let arguments = ["backfill", source.name(), &name, "--state-dir", state.to_str().unwrap()];
    let (code, out, err) = Daemon::command().args(&arguments).output(PATIENCE).await;
    assert_eq!(code, 0, "{out}{err}");
}

/// The events of a table, without tombstones.
async fn events(source: &Source, table: &str) -> Vec<Record> {
    source.records(table).await.into_iter().filter(|record| record.value.is_some()).collect()
}

/// Has tables copied whose rows are there and were streamed, and compares key, value and schema of both.
pub async fn same_from_a_copy(source: &Source, daemon: &Daemon, tables: &[(&str, usize)]) {
    let mut streamed = Vec::new();
    for (table, _) in tables {
        streamed.push(events(source, table).await);
        copy(source, daemon, table).await;
    }
    for ((table, rows), streamed) in tables.iter().zip(streamed) {
        source.wait_for_events(table, streamed.len() + rows).await;
        let mut copied = events(source, table).await;
        copied.retain(|record| record.json()["op"] == "r");
        // the rows that are there are those that were streamed last
        let last: Vec<Record> = streamed[streamed.len() - rows..].to_vec();
        assert_eq!(parts(&copied), parts(&last), "{table}: a copy gives other bytes than the stream");
    }
}
