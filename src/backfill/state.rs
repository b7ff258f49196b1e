//! What is kept of the tables between runs: which were copied, and how far the copies in progress are.
//!
//! Two records, since one changes with every commit and the other seldom: copies in progress stand in the checkpoint itself
//! ([`CopyState`]), all other tables in a list beside it ([`Tables`]). Both are committed with the events.

use std::collections::BTreeMap;
use std::fmt;

use rowcast_core::TableName;
use serde::{Deserialize, Serialize};

/// A table of the source, as patterns name it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableId {
    /// Schema, or database where there are no schemas.
    #[serde(rename = "schema")]
    pub qualifier: String,
    /// Table.
    pub table: String,
}

impl TableId {
    /// The table with this name.
    pub fn of(name: &TableName) -> Self {
        Self { qualifier: name.qualifier().to_owned(), table: name.table.to_string() }
    }

    /// Whether it is the table with this name.
    pub fn is(&self, name: &TableName) -> bool {
        *self.table == *name.table && self.qualifier == name.qualifier()
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::config::table_text(&self.qualifier, &self.table))
    }
}

/// What became of a table that isn't being copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Settled {
    /// All its rows were published.
    Copied,
    /// Its rows were there before there were copies (a checkpoint of an older version): it only streams.
    Skipped,
    /// Its copy was cancelled by an operator.
    Cancelled,
    /// It can't be copied until an operator repairs something; tried again at the next start.
    Failed {
        /// The reason and the repair.
        why: String,
    },
    /// Its changes can't be followed: none of its events is published until a copy was asked for.
    Stopped {
        /// From where on, the reason and the repair.
        why: String,
    },
}

/// Tables that aren't being copied. A captured table that is in neither list is copied at the next start, if the configuration
/// wants copies.
pub type Tables = BTreeMap<TableId, Settled>;

/// A copy in progress, or waiting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CopyState {
    /// Which table.
    #[serde(flatten)]
    pub id: TableId,
    /// Tells this copy from others of the same table.
    pub copy: String,
    /// Rows that don't meet this SQL condition are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Only these keys, as SQL literals in key order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Vec<Vec<String>>>,
    /// What is left to be read; none until it was planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranges: Option<Vec<String>>,
    /// Ranges that the plan had.
    #[serde(default)]
    pub planned: usize,
    /// Keys to be read again, as SQL literals.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reread: Vec<Vec<String>>,
    /// There are too many of those to be kept: after a restart the table is read from its start.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub incomplete: bool,
    /// The start marker was published.
    #[serde(default)]
    pub announced: bool,
    /// What was published of the table before is void, and that isn't said yet: until then it isn't read, and none of the table's
    /// events is published.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub void: bool,
    /// An operator paused it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// The table had been copied before: a resync. What it goes back to when this is cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Settled>,
    /// An operator asked for it, not the configuration.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub requested: bool,
    /// A row was published that says that it is the table's first, or that is taken for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub begun: bool,
    /// The same of the snapshot that the copy is a part of; known on the board while the copy is in progress.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub snapshot_begun: bool,
    /// Rows published.
    #[serde(default)]
    pub rows: u64,
    /// Bytes read.
    #[serde(default)]
    pub bytes: u64,
    /// Rows by the server's statistics when it was planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate: Option<u64>,
    /// Rows dropped for newer changes.
    #[serde(default)]
    pub dropped: u64,
    /// Rows read again.
    #[serde(default)]
    pub again: u64,
}

impl CopyState {
    /// A copy that is to be made.
    pub fn new(id: TableId, filter: Option<String>, keys: Option<Vec<Vec<String>>>, before: Option<Settled>) -> Self {
        Self {
            id,
            copy: format!("{:016x}", rand::random::<u64>()),
            filter,
            keys,
            ranges: None,
            planned: 0,
            reread: Vec::new(),
            incomplete: false,
            announced: false,
            void: false,
            paused: false,
            before,
            requested: false,
            begun: false,
            snapshot_begun: false,
            rows: 0,
            bytes: 0,
            estimate: None,
            dropped: 0,
            again: 0,
        }
    }

    /// Whether an operator asked for a part of the table only, after which the table isn't copied more than it was before.
    pub fn requested_part(&self) -> bool {
        self.requested && (self.filter.is_some() || self.keys.is_some())
    }

    /// Begins anew: what was read counts for nothing.
    pub fn start_over(&mut self) {
        self.ranges = None;
        self.reread.clear();
        self.incomplete = false;
        self.begun = false;
        (self.rows, self.bytes, self.dropped, self.again) = (0, 0, 0, 0);
    }
}

/// The list of settled tables as it is stored.
#[derive(Debug, Serialize, Deserialize)]
pub struct StoredTables {
    /// Version of the record's form.
    pub version: u32,
    /// Name of the source.
    pub source: String,
    /// The tables.
    pub tables: Vec<StoredTable>,
}

/// One of them.
#[derive(Debug, Serialize, Deserialize)]
pub struct StoredTable {
    /// Which.
    #[serde(flatten)]
    pub id: TableId,
    /// What became of it.
    #[serde(flatten)]
    pub settled: Settled,
}
