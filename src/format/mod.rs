//! Formats: how an event becomes the bytes of a record. One module per format, and here what the encoder asks of whichever is configured.
//!
//! A format is chosen once per source; per row it costs one branch that always goes the same way. What is kept for ourselves (the schema
//! topic, dead letters) is written in our own form, whatever the events' format is.

pub mod debezium;
mod flat;
pub mod json;

use rowcast_core::{Op, Place, Table, TableName, Transaction, Value};

use crate::backfill::markers::Marker;
use crate::config::{DeleteMode, FlattenConfig, FormatConfig};
use crate::pipeline::{Record, RecordHeader};
pub use flat::Written;
pub use json::{RowEvent, SourceNames};

/// How the events of one source are written.
#[derive(Debug)]
pub struct Format {
    /// The source.
    pub names: SourceNames,
    debezium: Option<debezium::Codec>,
    flatten: Option<FlattenConfig>,
}

/// The prepared parts of one table version.
#[derive(Debug)]
pub struct TableText {
    json: json::TableText,
    /// Of rows that are flattened in our own form.
    flat: Option<Box<json::FlatText>>,
    debezium: Option<Box<debezium::TableText>>,
}

/// The prepared parts of one transaction.
#[derive(Debug)]
pub enum TransactionText {
    /// In our own envelope.
    Json(json::TransactionText),
    /// In Debezium's.
    Debezium(debezium::TransactionText),
}

/// The prepared parts of the rows of one read.
#[derive(Debug)]
pub struct ReadText {
    json: json::ReadText,
    debezium: Option<TransactionText>,
}

/// Where a read sees the database, for its events.
#[derive(Debug, Clone, Copy)]
pub struct ReadAt<'a> {
    /// The place as a text of the stream's kind.
    pub pos: &'a str,
    /// MySQL and MariaDB: a file of the binlog and an offset in it; empty and 0 where that isn't known.
    pub log: (&'a str, u64),
    /// PostgreSQL: the first transaction that it doesn't see.
    pub xid: Option<i64>,
    /// The clock, in microseconds since 1970-01-01T00:00:00Z.
    pub now_us: i64,
}

impl Format {
    /// The format of a source. `db` is the database of events that belong to no table.
    pub fn new(names: SourceNames, db: &str, config: &FormatConfig) -> Self {
        let debezium = match config {
            FormatConfig::Json(_) => None,
            FormatConfig::Debezium(config) => Some(debezium::Codec::new(config, names.kind, db)),
        };
        Self { names, debezium, flatten: config.flatten().cloned() }
    }

    /// Whether rows are published instead of envelopes.
    pub fn is_flattened(&self) -> bool {
        self.flatten.is_some()
    }

    /// Whether rows that are read say which are the first and the last of their snapshot.
    pub fn tells_markers(&self) -> bool {
        self.debezium.as_ref().is_some_and(debezium::Codec::tells_markers)
    }

    fn flat(&self, table: Option<&Table>) -> Option<Box<json::FlatText>> {
        let flatten = self.flatten.as_ref().filter(|_| self.debezium.is_none())?;
        Some(Box::new(json::FlatText::new(flatten, table)))
    }

    /// Debezium's, if that is configured.
    pub fn debezium(&self) -> Option<&debezium::Codec> {
        self.debezium.as_ref()
    }

    /// Whether a truncation goes to every partition of its topic: in our own form, in which a reader of one partition must learn of it.
    pub fn truncates_all_partitions(&self) -> bool {
        self.debezium.is_none()
    }

    /// Prepares a table version.
    pub fn table(&self, table: &Table) -> TableText {
        let debezium = self.debezium.as_ref().map(|codec| Box::new(debezium::TableText::new(codec, table)));
        TableText { json: json::TableText::new(&self.names, table), flat: self.flat(Some(table)), debezium }
    }

    /// What is said of a table of which no version is known.
    pub fn table_of_name(&self, name: &TableName) -> TableText {
        let debezium = self.debezium.as_ref().map(|codec| Box::new(debezium::TableText::of_name(codec, name)));
        TableText { json: json::TableText::of_name(&self.names, name), flat: self.flat(None), debezium }
    }

    /// Buffers for the transactions of one batch.
    pub fn transactions(&self) -> TransactionText {
        match &self.debezium {
            None => TransactionText::Json(json::TransactionText::default()),
            Some(codec) => TransactionText::Debezium(debezium::TransactionText::new(codec)),
        }
    }
}

impl TransactionText {
    /// Prepares for the events of `transaction`, reusing the buffers.
    pub fn begin(&mut self, format: &Format, transaction: &Transaction) {
        match (self, &format.debezium) {
            (TransactionText::Json(text), _) => text.begin(&format.names, transaction),
            (TransactionText::Debezium(text), Some(codec)) => text.begin(codec, transaction),
            (TransactionText::Debezium(_), None) => {}
        }
    }

    /// The statement that the following events are of, until the next one or the next transaction.
    pub fn statement(&mut self, text: Option<&[u8]>) {
        match self {
            TransactionText::Json(it) => it.statement(text),
            TransactionText::Debezium(it) => it.statement(text),
        }
    }

    /// The same for our own envelope, which dead letters have in any format.
    pub fn own(&self, format: &Format, open: Option<&Transaction>) -> json::TransactionText {
        match (self, open) {
            (TransactionText::Json(text), _) => text.clone(),
            (TransactionText::Debezium(_), Some(transaction)) => {
                let mut text = json::TransactionText::default();
                text.begin(&format.names, transaction);
                text
            }
            (TransactionText::Debezium(_), None) => json::TransactionText::default(),
        }
    }
}

impl ReadText {
    /// Prepares for rows of a read; `read` tells it from other reads at the same place.
    pub fn new(format: &Format, at: ReadAt<'_>, read: &str) -> Self {
        let debezium = format.debezium.as_ref().map(|codec| {
            let mut text = debezium::TransactionText::new(codec);
            text.read(codec, at);
            TransactionText::Debezium(text)
        });
        Self { json: json::ReadText::new(&format.names, at.pos, at.now_us, read), debezium }
    }

    /// As the place of an event in our own envelope.
    pub fn own(&self) -> &json::TransactionText {
        self.json.place()
    }
}

impl TableText {
    /// For our own envelope, which dead letters have in any format.
    pub fn own(&self) -> &json::TableText {
        &self.json
    }

    /// Debezium's, if that is the format.
    pub fn debezium(&self) -> Option<&debezium::TableText> {
        self.debezium.as_deref()
    }

    /// What stands before each value of which [`Self::event`] says so.
    pub fn head(&self) -> &[u8] {
        self.debezium.as_ref().map_or(&[], |table| table.head())
    }

    /// The length of the head that a value has which was written so.
    #[inline]
    pub fn head_of(&self, written: Written) -> u32 {
        if written == Written::Headless { self.head().len() as u32 } else { 0 }
    }

    /// Writes an event's value.
    #[inline]
    pub fn event(&self, out: &mut Vec<u8>, transaction: &TransactionText, event: &RowEvent<'_>) -> Written {
        match (&self.debezium, transaction) {
            (Some(table), TransactionText::Debezium(transaction)) => table.event(out, transaction, event),
            (_, TransactionText::Json(transaction)) => self.own_event(out, transaction, event),
            (None, TransactionText::Debezium(_)) => Written::Nothing,
        }
    }

    #[inline]
    fn own_event(&self, out: &mut Vec<u8>, transaction: &json::TransactionText, event: &RowEvent<'_>) -> Written {
        match &self.flat {
            Some(flat) => flat.event(out, &self.json, transaction, event),
            None => {
                json::event(out, &self.json, transaction, event);
                Written::Value
            }
        }
    }

    /// What becomes of deletes, if rows are flattened.
    pub fn flattened(&self) -> Option<DeleteMode> {
        match &self.debezium {
            Some(table) => table.flattened(),
            None => self.flat.as_ref().map(|flat| flat.deletes()),
        }
    }

    /// Writes what the headers of a flattened event say.
    #[inline]
    pub fn headers(
        &self,
        out: &mut Vec<u8>,
        transaction: &TransactionText,
        event: &RowEvent<'_>,
    ) -> Box<[RecordHeader]> {
        match (&self.debezium, &self.flat, transaction) {
            (Some(table), _, TransactionText::Debezium(transaction)) => table.headers(out, transaction, event),
            (None, Some(flat), TransactionText::Json(transaction)) => flat.headers(out, &self.json, transaction, event),
            _ => Box::default(),
        }
    }

    /// The same of a tombstone behind the event.
    pub fn tombstone_headers(&self, out: &mut Vec<u8>) -> Box<[RecordHeader]> {
        match (&self.debezium, &self.flat) {
            (Some(table), _) => table.tombstone_headers(out),
            (None, Some(flat)) => flat.tombstone_headers(out),
            (None, None) => Box::default(),
        }
    }

    /// Writes the event of a row that was read.
    pub fn read_event(&self, out: &mut Vec<u8>, read: &ReadText, seq: u64, row: &[Value<'_>]) -> Written {
        let it = json::read_row(seq, row);
        match (&self.debezium, &read.debezium) {
            (Some(table), Some(TransactionText::Debezium(place))) => table.event(out, place, &it),
            _ => self.own_event(out, read.json.place(), &it),
        }
    }

    /// Has the record of a row that was read say which one of its snapshot it is.
    pub fn mark(&self, buf: &mut Vec<u8>, record: &mut Record, marker: Marker) {
        if let Some(table) = &self.debezium {
            table.mark(buf, record, marker);
        }
    }

    /// Writes what the headers of a row that was read say, if it is flattened.
    pub fn read_headers(&self, out: &mut Vec<u8>, read: &ReadText, seq: u64, row: &[Value<'_>]) -> Box<[RecordHeader]> {
        let it = json::read_row(seq, row);
        match (&self.debezium, &self.flat, &read.debezium) {
            (Some(table), _, Some(TransactionText::Debezium(place))) => table.headers(out, place, &it),
            (None, Some(flat), _) => flat.headers(out, &self.json, read.json.place(), &it),
            _ => Box::default(),
        }
    }

    /// Writes the event that voids all rows of a table before its copy begins again, with all that it begins with.
    pub fn void_event(&self, out: &mut Vec<u8>, read: &ReadText) -> Written {
        match (&self.debezium, &read.debezium) {
            (Some(table), Some(TransactionText::Debezium(place))) => {
                let at = Place::default();
                let it = RowEvent {
                    op: Op::Truncate,
                    seq: 0,
                    place: at,
                    order: None,
                    id_suffix: "",
                    before: None,
                    after: None,
                };
                let start = out.len();
                out.extend_from_slice(table.head());
                match table.event(out, place, &it) {
                    Written::Headless => Written::Value,
                    written => {
                        out.truncate(start);
                        written
                    }
                }
            }
            _ if self.flat.is_some() => Written::Nothing,
            _ => {
                json::void_event(out, &self.json, &read.json);
                Written::Value
            }
        }
    }

    /// The columns of the records' key by their indexes, if these aren't the table's own key.
    pub fn configured_key(&self) -> Option<&[usize]> {
        self.debezium.as_ref().and_then(|table| table.key.as_deref())
    }

    /// Writes what tells rows of the table apart: the records' key, or the table's own where that is another one.
    pub fn own_key<'a>(&self, out: &mut Vec<u8>, columns: impl Iterator<Item = (usize, Value<'a>)>) {
        match self.configured_key() {
            Some(_) => json::key(out, &self.json, columns),
            None => self.key(out, columns),
        }
    }

    /// Writes a key, from the values of its columns by their indexes, in key order.
    #[inline]
    pub fn key<'a>(&self, out: &mut Vec<u8>, columns: impl Iterator<Item = (usize, Value<'a>)>) {
        match &self.debezium {
            Some(table) => table.key(out, columns),
            None => json::key(out, &self.json, columns),
        }
    }
}
