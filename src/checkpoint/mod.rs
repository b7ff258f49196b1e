//! The checkpoint: the only state that Rowcast keeps.
//!
//! One small record per source: where to go on, on which server, and who writes it. It is kept where the events go, so that
//! both move together: in a compacted topic, committed in the same Kafka transaction as the events ([`mod@kafka`]), or in a file
//! beside a sink without transactions ([`mod@file`]). Copies of tables in progress are part of it; the list of all other tables,
//! which changes seldom, is a record of its own in Kafka, so that a commit's cost doesn't grow with the number of tables.
//!
//! What is kept of the tables' columns is in more such records ([`schemas`]).
//!
//! A record of a newer version, of another source or that isn't a checkpoint at all is refused, never guessed at.

pub mod file;
pub mod kafka;
mod schemas;

use std::sync::Arc;

use rowcast_core::{Inside, LogPosition, Position, Prepared};
use serde::{Deserialize, Serialize};

use crate::backfill::state::{CopyState, StoredTable, StoredTables, Tables};
use crate::error::RunError;
use crate::pipeline::Schemas;
use schemas::StoredSchema;

/// Version of the record's form. Version 1 knew no copies of tables.
const VERSION: u32 = 2;

/// Where a source goes on.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Name of the source.
    pub source: String,
    /// `postgres`, `mysql`, `mariadb`; none until the source was opened once.
    pub kind: Option<String>,
    /// What must not change below a source (PostgreSQL's system identifier).
    pub identity: Option<String>,
    /// Up to where everything is published; none if the source was claimed but has never streamed.
    pub position: Option<Position>,
    /// The process that wrote it: told by this, an older process that wakes up knows that it was replaced, before it touches
    /// anything.
    pub owner: String,
    /// Counts the processes that have owned the source. Where nothing fences, a process that was replaced may still write its older
    /// position behind its successor's: the record with the highest generation counts, not the last one.
    pub generation: u64,
    /// Copies of tables in progress.
    pub copies: Vec<CopyState>,
    /// All tables that were copied or otherwise settled; none in a checkpoint of version 1.
    pub tables: Option<Arc<Tables>>,
    /// What the connector has kept of the tables' columns.
    pub schemas: Arc<Schemas>,
    /// The template of the topics that events went to last; none for sinks without topics.
    pub topic: Option<String>,
}

/// The record as JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    version: u32,
    source: String,
    kind: Option<String>,
    identity: Option<String>,
    position: Option<StoredPosition>,
    owner: String,
    #[serde(default)]
    generation: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    copies: Vec<CopyState>,
    /// In a file, where there is one record for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tables: Option<Vec<StoredTable>>,
    /// Records beside this one that hold what is kept of the tables' columns; see [`schemas`].
    #[serde(default, skip_serializing_if = "is_zero")]
    schema_records: usize,
    /// The same, in a file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    schemas: Vec<StoredSchema>,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredPosition {
    kind: String,
    log: String,
    inside: Option<StoredInside>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeline: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    prepared: Vec<StoredPrepared>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredInside {
    transaction: String,
    rows: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    commit_us: Option<i64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredPrepared {
    name: String,
    pos: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<String>,
}

impl StoredPosition {
    fn new(position: &Position) -> Self {
        let inside = position.inside.clone();
        let prepared = position.prepared.iter().cloned();
        Self {
            kind: position.log.kind().to_owned(),
            log: position.log.to_string(),
            inside: inside.map(|Inside { transaction, rows, commit_us }| StoredInside { transaction, rows, commit_us }),
            timeline: position.timeline,
            prepared: prepared.map(|Prepared { name, pos, from }| StoredPrepared { name, pos, from }).collect(),
        }
    }

    fn position(self) -> Result<Position, rowcast_core::PositionError> {
        let prepared = self.prepared.into_iter();
        Ok(Position {
            log: LogPosition::parse(&self.kind, &self.log)?,
            inside: self.inside.map(|StoredInside { transaction, rows, commit_us }| Inside {
                transaction,
                rows,
                commit_us,
            }),
            timeline: self.timeline,
            prepared: prepared.map(|StoredPrepared { name, pos, from }| Prepared { name, pos, from }).collect(),
        })
    }
}

/// Only the version, to refuse a newer record before its other fields are looked at.
#[derive(Debug, Deserialize)]
struct Versioned {
    version: u32,
}

impl Checkpoint {
    /// The first record of a source that has never streamed.
    pub fn claim(source: &str, owner: &str) -> Self {
        Self {
            source: source.to_owned(),
            kind: None,
            identity: None,
            position: None,
            owner: owner.to_owned(),
            generation: 0,
            copies: Vec::new(),
            tables: Some(Arc::default()),
            schemas: Arc::default(),
            topic: None,
        }
    }

    /// The generation of a record; none if it isn't one.
    pub fn generation_of(bytes: &[u8]) -> Option<u64> {
        #[derive(Deserialize)]
        struct Generation {
            #[serde(default)]
            generation: u64,
        }
        serde_json::from_slice::<Generation>(bytes).ok().map(|it| it.generation)
    }

    /// The record's bytes, with the lists of tables and schemas if they are to stand in it.
    pub fn to_bytes(&self, with_tables: bool) -> Vec<u8> {
        let position = self.position.as_ref().map(StoredPosition::new);
        let stored = Stored {
            version: VERSION,
            source: self.source.clone(),
            kind: self.kind.clone(),
            identity: self.identity.clone(),
            position,
            owner: self.owner.clone(),
            generation: self.generation,
            topic: self.topic.clone(),
            copies: self.copies.clone(),
            tables: if with_tables { self.tables.as_deref().map(stored) } else { None },
            schema_records: if with_tables { 0 } else { schemas::records(&self.schemas) },
            schemas: if with_tables { schemas::stored(&self.schemas) } else { Vec::new() },
        };
        // a struct of strings and numbers always serializes
        serde_json::to_vec(&stored).unwrap_or_default()
    }

    /// Reads a record of `source` found at `place` (a topic or file, for the error).
    ///
    /// # Errors
    /// Definite: newer version, another source, damaged.
    pub fn from_bytes(bytes: &[u8], source: &str, place: &str) -> Result<Self, RunError> {
        check_version(bytes, place)?;
        let damaged = |what: String| damaged(place, &what);
        let stored: Stored = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        if stored.source != source {
            return Err(belongs_to_another(place, &stored.source, source));
        }
        let position = stored.position.map(StoredPosition::position).transpose();
        let position = position.map_err(|error| damaged(error.to_string()))?;
        Ok(Self {
            source: stored.source,
            kind: stored.kind,
            identity: stored.identity,
            position,
            owner: stored.owner,
            generation: stored.generation,
            topic: stored.topic,
            copies: stored.copies,
            tables: stored.tables.map(listed).map(Arc::new),
            schemas: Arc::new(schemas::read(stored.schemas)),
        })
    }

    /// The record of the settled tables; none if they aren't known.
    pub fn tables_to_bytes(&self) -> Option<Vec<u8>> {
        let tables = stored(self.tables.as_deref()?);
        let record = StoredTables { version: VERSION, source: self.source.clone(), tables };
        Some(serde_json::to_vec(&record).unwrap_or_default())
    }

    /// Takes in the record of the settled tables found at `place`.
    ///
    /// # Errors
    /// Definite: newer version, another source, damaged.
    pub fn take_tables(&mut self, bytes: &[u8], place: &str) -> Result<(), RunError> {
        check_version(bytes, place)?;
        let record: StoredTables = serde_json::from_slice(bytes).map_err(|error| damaged(place, &error.to_string()))?;
        if record.source != self.source {
            return Err(belongs_to_another(place, &record.source, &self.source));
        }
        self.tables = Some(Arc::new(listed(record.tables)));
        Ok(())
    }

    /// Refuses to go on with a server of another kind than the one that this checkpoint is about. Whether it is the same server is
    /// judged by the connector, before it changes anything there.
    ///
    /// # Errors
    /// Definite, naming both.
    pub fn check_server(&self, kind: &str, identity: Option<&str>) -> Result<(), RunError> {
        let differs = |ours: Option<&str>, theirs: Option<&str>| matches!((ours, theirs), (Some(a), Some(b)) if a != b);
        if differs(self.kind.as_deref(), Some(kind)) {
            let name = |kind: Option<&str>, identity: Option<&str>| {
                format!("{} {}", kind.unwrap_or("?"), identity.unwrap_or("")).trim_end().to_owned()
            };
            return Err(RunError::definite(format!(
                "the checkpoint of `{}` was written for {}, but the server is {}: positions of one mean nothing on the other; \
                 repair: point `source` at the old server, or give the new one another `name`",
                self.source,
                name(self.kind.as_deref(), self.identity.as_deref()),
                name(Some(kind), identity)
            )));
        }
        Ok(())
    }
}

fn damaged(place: &str, what: &str) -> RunError {
    RunError::definite(format!(
        "the checkpoint in {place} can't be read: {what}; repair: restore it, or remove it and set `on_gap: backfill` to \
         copy all tables again"
    ))
}

fn belongs_to_another(place: &str, theirs: &str, ours: &str) -> RunError {
    RunError::definite(format!(
        "the checkpoint in {place} belongs to source `{theirs}`, not `{ours}`; repair: give each source a place of its own"
    ))
}

fn check_version(bytes: &[u8], place: &str) -> Result<(), RunError> {
    let Versioned { version } = serde_json::from_slice(bytes).map_err(|error| damaged(place, &error.to_string()))?;
    if version <= VERSION {
        return Ok(());
    }
    Err(RunError::definite(format!(
        "the checkpoint in {place} has version {version}, this rowcast reads up to {VERSION}; repair: run the newer rowcast"
    )))
}

fn stored(tables: &Tables) -> Vec<StoredTable> {
    tables.iter().map(|(id, settled)| StoredTable { id: id.clone(), settled: settled.clone() }).collect()
}

fn listed(tables: Vec<StoredTable>) -> Tables {
    tables.into_iter().map(|table| (table.id, table.settled)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rowcast_core::Lsn;

    use super::*;
    use crate::backfill::state::{Settled, TableId};

    fn orders() -> TableId {
        TableId { qualifier: "public".into(), table: "or.ders".into() }
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            source: "shop".into(),
            kind: Some("postgres".into()),
            identity: Some("7391".into()),
            position: Some(Position {
                log: LogPosition::Lsn(Lsn(0x16B_3748)),
                inside: Some(Inside { transaction: "0/16B3800".into(), rows: 5, commit_us: Some(7) }),
                timeline: Some(2),
                prepared: vec![Prepared {
                    name: "X'61',X'',1".into(),
                    pos: "0-1-7".into(),
                    from: Some("0-1-6".into()),
                }],
            }),
            owner: "a".into(),
            generation: 4,
            topic: Some("{name}.{table}".into()),
            copies: vec![CopyState::new(orders(), None, None, None)],
            tables: Some(Arc::new(Tables::from([(orders(), Settled::Failed { why: "x".into() })]))),
            schemas: Arc::new(schemas::read(vec![StoredSchema {
                db: "shop".into(),
                schema: Some("public".into()),
                table: "or.ders".into(),
                from: "0/5".into(),
                text: "[]".into(),
            }])),
        }
    }

    #[test]
    fn a_checkpoint_reads_back() {
        for written in [checkpoint(), Checkpoint::claim("shop", "b")] {
            assert_eq!(Checkpoint::from_bytes(&written.to_bytes(true), "shop", "here").unwrap(), written);
            let mut read = Checkpoint::from_bytes(&written.to_bytes(false), "shop", "here").unwrap();
            assert_eq!(read.tables, None);
            read.take_tables(&written.tables_to_bytes().unwrap(), "here").unwrap();
            read.take_schemas(&written.schemas_to_bytes(), "here").unwrap();
            assert_eq!(read, written);
        }
    }

    #[test]
    fn a_checkpoint_of_version_1_knows_no_tables() {
        let old = r#"{"version":1,"source":"shop","kind":"mysql","identity":null,"position":null,"owner":"a"}"#;
        let read = Checkpoint::from_bytes(old.as_bytes(), "shop", "here").unwrap();
        assert_eq!((read.tables, read.copies.len()), (None, 0));
    }

    #[test]
    fn what_is_not_this_sources_checkpoint_is_refused() {
        let text = String::from_utf8(checkpoint().to_bytes(true)).unwrap();
        let newer = text.replace("\"version\":2", "\"version\":3,\"surprise\":true");
        let no_lsn = text.replace("0/16B3748", "16B3748");
        for (bytes, source, expected) in [
            (newer.as_str(), "shop", "version 3"),
            (text.as_str(), "other", "belongs to source `shop`"),
            (no_lsn.as_str(), "shop", "not an LSN"),
            ("", "shop", "can't be read"),
            ("{}", "shop", "can't be read"),
        ] {
            let error = Checkpoint::from_bytes(bytes.as_bytes(), source, "topic x").unwrap_err().message;
            assert!(error.contains(expected) && error.contains("topic x") && error.contains("repair"), "{error}");
        }
    }

    #[test]
    fn another_server_under_the_same_name_is_refused() {
        assert!(checkpoint().check_server("postgres", Some("7391")).is_ok());
        // the connector's matter
        assert!(checkpoint().check_server("postgres", Some("7392")).is_ok());
        assert!(checkpoint().check_server("mysql", None).unwrap_err().message.contains("7391"));
        assert!(Checkpoint::claim("shop", "b").check_server("mysql", None).is_ok());
    }
}
