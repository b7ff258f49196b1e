//! The section `flatten:`: rows instead of envelopes, with chosen parts of an event in fields and headers of their own.
//!
//! Its keys are the options of Debezium's `ExtractNewRecordState` in snake_case, with its defaults; they mean the same for both formats, and
//! what an event's parts are called is the format's. `enabled` is ours: it says whether, in the shared file or above it.
//!
//! Guarantee: a part that the format's events don't have is a mistake, not a field that is left out.

use std::fmt;

use super::keys::not_one_of;
use super::reader::Section;
use super::suggest::did_you_mean;

/// `delete_tombstone_handling_mode`: what becomes of a delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteMode {
    /// One record without a row: its value is null.
    Tombstone,
    /// Nothing.
    Drop,
    /// The row before, and a field that says that it is gone.
    Rewrite,
    /// The same, and a tombstone after it.
    RewriteWithTombstone,
    /// A tombstone.
    DeleteToTombstone,
}

impl DeleteMode {
    /// Whether rows have the field `__deleted`.
    pub fn rewrites(self) -> bool {
        matches!(self, Self::Rewrite | Self::RewriteWithTombstone)
    }
}

impl fmt::Display for DeleteMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MODES.iter().find(|(_, mode)| mode == self).map_or("", |(word, _)| *word))
    }
}

/// The name of the field that says whether a row is gone.
pub const DELETED: &str = "__deleted";

/// A part of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventPart {
    /// A member of the event itself.
    Event(String),
    /// A member of its `source`.
    Source(String),
    /// A member of its `transaction`, which may be null.
    Transaction(String),
}

/// A field or header that is added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    /// Its name, with the prefix.
    pub name: String,
    /// What it says.
    pub part: EventPart,
}

/// The section, if rows are flattened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlattenConfig {
    /// Of deletes.
    pub deletes: DeleteMode,
    /// Behind the row's columns.
    pub fields: Vec<Added>,
    /// Behind the other headers.
    pub headers: Vec<Added>,
}

const MODES: [(&str, DeleteMode); 5] = [
    ("tombstone", DeleteMode::Tombstone),
    ("drop", DeleteMode::Drop),
    ("rewrite", DeleteMode::Rewrite),
    ("rewrite-with-tombstone", DeleteMode::RewriteWithTombstone),
    ("delete-to-tombstone", DeleteMode::DeleteToTombstone),
];

/// What the parts of an event are called.
struct Parts {
    event: &'static [&'static str],
    source: &'static [&'static str],
    transaction: &'static [&'static str],
}

const OWN: Parts = Parts {
    event: &["op", "id", "absent"],
    source: &["name", "kind", "db", "schema", "table", "tx", "seq", "pos", "ts_us", "snapshot", "query"],
    transaction: &[],
};

const DEBEZIUM_POSTGRES: Parts = Parts {
    event: &["op", "ts_ms", "ts_us", "ts_ns"],
    source: &[
        "version",
        "connector",
        "name",
        "ts_ms",
        "snapshot",
        "db",
        "sequence",
        "ts_us",
        "ts_ns",
        "schema",
        "table",
        "txId",
        "lsn",
        "xmin",
        "origin",
        "origin_lsn",
    ],
    transaction: &["id", "total_order", "data_collection_order"],
};

const DEBEZIUM_BINLOG: Parts = Parts {
    source: &[
        "version",
        "connector",
        "name",
        "ts_ms",
        "snapshot",
        "db",
        "sequence",
        "ts_us",
        "ts_ns",
        "table",
        "server_id",
        "gtid",
        "file",
        "pos",
        "row",
        "thread",
        "query",
    ],
    ..DEBEZIUM_POSTGRES
};

/// Reads the section for a format and a kind of source; the outer `None` after a report.
pub(crate) fn read(root: &Section<'_>, debezium: bool, kind: &str) -> Option<Option<FlattenConfig>> {
    if root.is_malformed("flatten") {
        root.section("flatten");
        return None;
    }
    let section = root.section("flatten");
    let enabled = match section.has("enabled") {
        true => section.switch("enabled"),
        false => Some(section.keys().next().is_some()),
    };
    let parts = match (debezium, kind) {
        (false, _) => OWN,
        (true, "postgres") => DEBEZIUM_POSTGRES,
        (true, _) => DEBEZIUM_BINLOG,
    };
    let deletes = match section.has("delete_tombstone_handling_mode") {
        true => section.choice("delete_tombstone_handling_mode", &MODES),
        false => Some(DeleteMode::Tombstone),
    };
    let fields = added(&section, "add_fields", &parts, true);
    let headers = added(&section, "add_headers", &parts, false);
    let (enabled, config) = (enabled?, FlattenConfig { deletes: deletes?, fields: fields?, headers: headers? });
    Some(enabled.then_some(config))
}

fn added(section: &Section<'_>, key: &str, parts: &Parts, in_rows: bool) -> Option<Vec<Added>> {
    let prefix_key = format!("{key}_prefix");
    let prefix = match section.has(&prefix_key) {
        true => section.text(&prefix_key).map(|text| text.value),
        false => Some("__".to_owned()),
    };
    let entries = if section.has(key) { section.list(key) } else { Some(Vec::new()) };
    let (prefix, entries) = (prefix?, entries?);
    let mut all: Vec<Added> = Vec::new();
    for entry in &entries {
        let report =
            |why: String| section.report(&entry.place, format!("`{}` has `{}`: {why}", section.full(key), entry.shown));
        match parse(&entry.value, &prefix, parts) {
            Err(why) => {
                report(why);
                return None;
            }
            Ok(it) if all.iter().any(|other| other.name == it.name) => {
                report(format!(
                    "`{}` is there twice; another name is written behind a colon, such as op:operation",
                    it.name
                ));
                return None;
            }
            Ok(it) if in_rows && it.name == DELETED => {
                report(format!("`{DELETED}` says whether a row is gone; choose another name"));
                return None;
            }
            Ok(it) => all.push(it),
        }
    }
    Some(all)
}

/// Why a field or header that an event of Debezium's form doesn't have can't be added.
///
/// # Errors
/// If it can't.
pub(crate) fn check(text: &str, kind: &str) -> Result<(), String> {
    let parts = if kind == "postgres" { DEBEZIUM_POSTGRES } else { DEBEZIUM_BINLOG };
    parse(text, "__", &parts).map(|_| ())
}

/// `op`, `source.ts_ms`, `source.ts_ms:at`: a part that stands alone is of the event itself, of its transaction or of its source.
fn parse(text: &str, prefix: &str, parts: &Parts) -> Result<Added, String> {
    let (path, given) = match text.trim().split_once(':') {
        Some((path, name)) => (path.trim(), Some(name.trim())),
        None => (text.trim(), None),
    };
    let (of, field) = match path.split_once('.') {
        Some((of, field)) => (Some(of), field),
        None => (None, path),
    };
    let owned = field.to_owned();
    let part = match of {
        None if parts.event.contains(&field) => EventPart::Event(owned),
        None if parts.transaction.contains(&field) => EventPart::Transaction(owned),
        None | Some("source") if parts.source.contains(&field) => EventPart::Source(owned),
        Some("transaction") if parts.transaction.contains(&field) => EventPart::Transaction(owned),
        None => {
            let all: Vec<&str> = [parts.event, parts.transaction, parts.source].concat();
            return Err(not_one_of(field, &all));
        }
        Some("source") => return Err(not_one_of(field, parts.source)),
        Some("transaction") if !parts.transaction.is_empty() => return Err(not_one_of(field, parts.transaction)),
        Some(of) => {
            let all: &[&str] = if parts.transaction.is_empty() { &["source"] } else { &["source", "transaction"] };
            return Err(format!(
                "`{of}` has no fields that can be added{}; allowed before the dot: {}",
                did_you_mean(of, all.iter().copied()),
                all.join(", ")
            ));
        }
    };
    let name = match (given, of) {
        (Some(""), _) => return Err("a name is missing behind the colon".to_owned()),
        (Some(name), _) => format!("{prefix}{name}"),
        (None, Some(of)) => format!("{prefix}{of}_{field}"),
        (None, None) => format!("{prefix}{field}"),
    };
    Ok(Added { name, part })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_where_the_original_looks_for_them() {
        let source = |field: &str| EventPart::Source(field.to_owned());
        for (text, name, part) in [
            ("op", "__op", EventPart::Event("op".to_owned())),
            (" ts_ms ", "__ts_ms", EventPart::Event("ts_ms".to_owned())),
            ("table", "__table", source("table")),
            ("source.ts_ms", "__source_ts_ms", source("ts_ms")),
            ("source.snapshot:snap", "__snap", source("snapshot")),
            ("id", "__id", EventPart::Transaction("id".to_owned())),
            ("transaction.total_order", "__transaction_total_order", EventPart::Transaction("total_order".to_owned())),
        ] {
            assert_eq!(parse(text, "__", &DEBEZIUM_POSTGRES).unwrap(), Added { name: name.to_owned(), part }, "{text}");
        }
        assert_eq!(parse("pos", "", &OWN).unwrap().name, "pos");
        assert_eq!(parse("id", "_", &OWN).unwrap().part, EventPart::Event("id".to_owned()));
    }

    #[test]
    fn parts_that_are_not_there_are_refused() {
        for (text, parts, why) in [
            ("lsm", &DEBEZIUM_POSTGRES, "did you mean `lsn`?"),
            ("source.gtid", &DEBEZIUM_POSTGRES, "allowed: version"),
            ("gtid", &OWN, "allowed: op, id, absent, name"),
            ("transaction.id", &OWN, "`transaction` has no fields that can be added; allowed before the dot: source"),
            ("after.x", &DEBEZIUM_BINLOG, "allowed before the dot: source, transaction"),
            ("op:", &OWN, "a name is missing"),
            ("", &OWN, "allowed: "),
        ] {
            let found = parse(text, "__", parts).unwrap_err();
            assert!(found.contains(why), "{text}: {found}");
        }
    }
}
