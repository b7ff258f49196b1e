//! Encoding: a batch of raw rows becomes records ready for the sink.
//!
//! A pure function of the batch (and of what was configured): batches can be encoded in parallel and put back in order. What
//! it prepares once per table version is shared by all workers.
//!
//! ```text
//! Batch { bytes, events } ──decode──► Value on the stack ──format──► Encoded { buf, records, progress }
//! ```
//!
//! Fails only for a row that can't be decoded; the error names table, column and position, never the value.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rowcast_core::{
    Batch, Bump, Change, DecodeError, Event, Image, Inside, KeptSchema, LogPosition, Mark, Message, Offset, Op,
    Prepared, Table, TableFailure, TableName, Transaction, Value,
};
use tokio::sync::OwnedSemaphorePermit;

use super::poison::Poison;
use super::{PipelineOptions, RunError};
use crate::backfill::merge::{KeyHash, Touch};
use crate::backfill::watch::WatchList;
use crate::config::{OnPoison, TopicTemplate};
use crate::format::json::{self, ReadText, RowEvent, SourceNames, TableText, TransactionText};
use crate::route;

/// Table versions kept prepared at once; beyond it all are prepared anew. Far above what a database has in use.
const PREPARED_TABLES: usize = 16_384;

/// Turns batches into records. Shared by the workers of one source.
#[derive(Debug)]
pub struct Encoder {
    source: SourceNames,
    /// Database for events that belong to no table.
    db: String,
    template: Option<TopicTemplate>,
    tombstones: bool,
    /// The part of a transaction that the sink has already.
    skip: Option<Inside>,
    messages: Arc<Destination>,
    pub(super) dead_letters: Arc<Destination>,
    pub(super) on_poison: OnPoison,
    watch: WatchList,
    tables: Mutex<HashMap<u64, Arc<Destination>>>,
}

/// Where records go: a topic, and for tables what their events have in common.
#[derive(Debug)]
pub struct Destination {
    /// Kafka topic.
    pub topic: String,
    /// The table version and its fingerprint as text; none for messages.
    pub table: Option<(Arc<Table>, String)>,
    text: Option<TableText>,
    /// The largest record that the topic takes, once the sink was asked.
    pub(super) largest: OnceLock<usize>,
}

impl Destination {
    /// One without a table.
    pub fn plain(topic: &str) -> Arc<Self> {
        Arc::new(Self { topic: topic.to_owned(), table: None, text: None, largest: OnceLock::new() })
    }
}

/// Records of one batch, in order, with the progress between them.
#[derive(Debug, Default)]
pub struct Encoded {
    /// Keys and values.
    pub buf: Vec<u8>,
    /// The records.
    pub records: Vec<Record>,
    /// Progress: each behind the first `usize` records.
    pub progress: Vec<(usize, Progress)>,
    /// What the records' `destination` is an index of.
    pub destinations: Vec<Arc<Destination>>,
    /// What the changes did to keys of tables that are being copied, in order.
    pub touches: Vec<Touched>,
    /// The version of the watch list that `touches` were made by.
    pub watch: u64,
    /// Changes and rows that can't be encoded, if the configuration says that this is no error, and the first one's reason.
    pub poison: Option<(u64, String)>,
    /// The key of each record, for the rows of a read; empty if the table has none.
    pub keys: Vec<KeyHash>,
    /// Bytes of the source's budget and the place among the workers, given back when this is dropped.
    pub held: Vec<OwnedSemaphorePermit>,
}

/// What a change did to a table that is being copied.
#[derive(Debug)]
pub struct Touched {
    /// It comes before this element of [`Encoded::progress`].
    pub progress: usize,
    /// Index into [`Encoded::destinations`].
    pub destination: u32,
    /// The key; none if the table was emptied.
    pub touch: Option<Touch>,
}

/// One record.
#[derive(Debug, Clone)]
pub struct Record {
    /// Index into [`Encoded::destinations`].
    pub destination: u32,
    /// Key in [`Encoded::buf`]; none for tables without a key.
    pub key: Option<Range<usize>>,
    /// Value; none for a tombstone.
    pub value: Option<Range<usize>>,
    /// Send it to every partition of the topic (truncate).
    pub to_all_partitions: bool,
}

impl Record {
    /// Bytes of key and value.
    pub fn size(&self) -> usize {
        let length = |range: &Option<Range<usize>>| range.as_ref().map_or(0, Range::len);
        length(&self.key) + length(&self.value)
    }
}

/// How the source's position moves.
#[derive(Debug)]
pub enum Progress {
    /// A transaction begins, or goes on at the start of the batch.
    Begin(Arc<Transaction>),
    /// The batch ends inside a transaction, behind this row of it.
    Rows(u64),
    /// The transaction will have prepared another one, once it ends.
    Prepared(Prepared),
    /// The transaction will have ended a prepared one, once it ends.
    Settled(Box<str>),
    /// The transaction ended.
    Commit(Mark, Offset),
    /// A table can't be followed from here on.
    TableFailed(Arc<TableFailure>),
    /// Something is to be kept of a table's columns.
    Schema(Arc<KeptSchema>),
    /// Nothing before this position is of interest.
    Heartbeat(LogPosition, Offset),
}

impl Encoder {
    /// An encoder for one run of a source that resumes inside a transaction if `skip` says so.
    pub fn new(options: &PipelineOptions, skip: Option<Inside>, watch: WatchList) -> Self {
        let source = SourceNames { name: options.name.clone(), kind: options.kind };
        Self {
            messages: Destination::plain(&route::message_topic(&source.name)),
            dead_letters: Destination::plain(&route::dead_letter_topic(&source.name)),
            source,
            db: options.db.clone(),
            template: options.topic.clone(),
            tombstones: options.tombstones,
            on_poison: options.on_poison,
            skip,
            watch,
            tables: Mutex::default(),
        }
    }

    /// Encodes a batch into `buf`, which is cleared first.
    ///
    /// # Errors
    /// Definite, for a row that can't be decoded.
    pub fn encode(&self, batch: &Batch, buf: Vec<u8>) -> Result<Encoded, RunError> {
        let mut destinations: Vec<Arc<Destination>> =
            batch.tables.iter().map(|table| self.destination(table)).collect();
        destinations.push(Arc::clone(&self.messages));
        destinations.push(Arc::clone(&self.dead_letters));
        let arena = Bump::new();
        let watch = self.watch.load();
        let watched = batch.tables.iter().map(|table| watch.has(&table.name)).collect();
        let mut work = Work {
            encoder: self,
            batch,
            arena: &arena,
            out: Encoded { buf, destinations, watch: watch.version, ..Encoded::default() },
            watched,
            transaction: TransactionText::default(),
            open: None,
            skip_rows: 0,
            rows: 0,
            before: Vec::new(),
            after: Vec::new(),
        };
        work.out.buf.clear();
        if let Some(open) = &batch.open {
            work.begin(open);
            work.transaction.statement(batch.statement.as_deref());
        }
        for event in &batch.events {
            work.event(event)?;
        }
        if work.open.is_some() {
            work.progress(Progress::Rows(work.rows));
        }
        Ok(work.out)
    }

    /// Encodes rows that were read. `text` is what their events have in common.
    ///
    /// # Errors
    /// Definite, for a row that can't be decoded.
    pub fn encode_read(&self, batch: &Batch, text: &ReadText, buf: Vec<u8>) -> Result<Encoded, RunError> {
        let mut destinations: Vec<Arc<Destination>> =
            batch.tables.iter().map(|table| self.destination(table)).collect();
        destinations.push(Arc::clone(&self.dead_letters));
        let mut out = Encoded { buf, destinations, ..Encoded::default() };
        out.buf.clear();
        let (arena, mut row) = (Bump::new(), Vec::new());
        for event in &batch.events {
            let Event::Change(Change { table: index, seq, after: Some(image), .. }) = event else { continue };
            let (Some(table), Some(destination)) =
                (batch.tables.get(*index as usize), out.destinations.get(*index as usize))
            else {
                return Err(RunError::definite(
                    "a row of a table that its batch doesn't hold: a defect of the connector",
                ));
            };
            let destination = Arc::clone(destination);
            let Some(table_text) = &destination.text else { continue };
            if let Err(error) = table.decode(&batch.data, *image, &arena, &mut row) {
                let it = Poison {
                    table,
                    text: (table_text, text.place()),
                    event: RowEvent { op: Op::Read, seq: *seq, id_suffix: "", before: None, after: None },
                    images: [None, Some(*image)],
                    data: &batch.data,
                    topic: &destination.topic,
                    dead_letters: batch.tables.len() as u32,
                };
                self.poison(&mut out, &it, undecodable(table, "the copy", *seq, &error))?;
                if !table.key.is_empty() && out.keys.len() < out.records.len() {
                    // nothing that the stream touches
                    let start = out.records.last().and_then(|record| record.value.clone()).unwrap_or_default();
                    out.keys.push(self.watch.hasher().hash(out.buf.get(start).unwrap_or(&[])));
                }
                continue;
            }
            let mut key = None;
            if !table.key.is_empty() {
                let start = out.buf.len();
                let values = table.key.iter().filter_map(|index| row.get(*index).map(|value| (*index, *value)));
                json::key(&mut out.buf, table_text, values);
                out.keys.push(self.watch.hasher().hash(out.buf.get(start..).unwrap_or(&[])));
                key = Some(start..out.buf.len());
            }
            let start = out.buf.len();
            json::read_event(&mut out.buf, table_text, text, *seq, &row);
            let value = Some(start..out.buf.len());
            out.records.push(Record { destination: *index, key, value, to_all_partitions: false });
        }
        Ok(out)
    }

    /// The event that tells readers of a table without key that what they have of it is void, since its copy begins again.
    pub fn encode_restart(&self, table: &Arc<Table>, text: &ReadText) -> Encoded {
        let destination = self.destination(table);
        let mut out = Encoded::default();
        if let Some(table_text) = &destination.text {
            json::void_event(&mut out.buf, table_text, text);
        }
        let value = Some(0..out.buf.len());
        out.records.push(Record { destination: 0, key: None, value, to_all_partitions: true });
        out.destinations.push(destination);
        out
    }

    /// Adds the event that voids a table of which nothing but its name is known.
    pub fn encode_void(&self, out: &mut Encoded, name: &TableName, text: &ReadText) {
        let start = out.buf.len();
        json::void_event(&mut out.buf, &TableText::of_name(&self.source, name), text);
        let (value, destination) = (Some(start..out.buf.len()), out.destinations.len() as u32);
        out.records.push(Record { destination, key: None, value, to_all_partitions: true });
        out.destinations.push(Destination::plain(&self.topic(name)));
    }

    fn topic(&self, name: &TableName) -> String {
        self.template.as_ref().map_or_else(String::new, |template| route::topic(template, &self.source.name, name))
    }

    fn destination(&self, table: &Arc<Table>) -> Arc<Destination> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = tables.get(&table.fingerprint) {
            return Arc::clone(known);
        }
        if tables.len() >= PREPARED_TABLES {
            tables.clear();
        }
        let made = Arc::new(Destination {
            topic: self.topic(&table.name),
            table: Some((Arc::clone(table), json::fingerprint(table))),
            text: Some(TableText::new(&self.source, table)),
            largest: OnceLock::new(),
        });
        tables.insert(table.fingerprint, Arc::clone(&made));
        made
    }
}

/// The state of encoding one batch. Rows are decoded into two vectors that are reused from row to row.
struct Work<'a> {
    encoder: &'a Encoder,
    batch: &'a Batch,
    arena: &'a Bump,
    out: Encoded,
    /// Of the batch's tables, those that are being copied.
    watched: Vec<bool>,
    transaction: TransactionText,
    open: Option<&'a Arc<Transaction>>,
    skip_rows: u64,
    rows: u64,
    before: Vec<Value<'a>>,
    after: Vec<Value<'a>>,
}

impl<'a> Work<'a> {
    fn progress(&mut self, progress: Progress) {
        self.out.progress.push((self.out.records.len(), progress));
    }

    fn begin(&mut self, transaction: &'a Arc<Transaction>) {
        self.transaction.begin(&self.encoder.source, transaction);
        self.skip_rows = match &self.encoder.skip {
            Some(inside) if inside.transaction == transaction.pos => inside.rows,
            _ => 0,
        };
        self.rows = 0;
        self.open = Some(transaction);
        self.progress(Progress::Begin(Arc::clone(transaction)));
    }

    fn event(&mut self, event: &'a Event) -> Result<(), RunError> {
        match event {
            Event::Begin(transaction) => self.begin(transaction),
            Event::Statement(text) => self.transaction.statement(text.as_deref()),
            Event::Prepared(prepared) => self.progress(Progress::Prepared(Prepared::clone(prepared))),
            Event::Settled(name) => self.progress(Progress::Settled(name.clone())),
            Event::Commit(mark, end) => {
                self.open = None;
                self.progress(Progress::Commit(mark.clone(), *end));
            }
            Event::Heartbeat(position, at) => self.progress(Progress::Heartbeat(position.clone(), *at)),
            Event::TableFailed(failure) => self.progress(Progress::TableFailed(Arc::clone(failure))),
            // the json format has nothing for these, and doesn't ask for them
            Event::Ddl(_) => {}
            Event::Schema(schema) => self.progress(Progress::Schema(Arc::clone(schema))),
            Event::Change(change) => {
                self.rows = change.seq;
                let watched = self.watched.get(change.table as usize).copied().unwrap_or(false);
                if change.seq > self.skip_rows {
                    self.change(change, watched)?;
                } else if watched {
                    // published by an earlier run, but this one's reads must know of it
                    let (bytes, records) = (self.out.buf.len(), self.out.records.len());
                    self.change(change, true)?;
                    self.out.buf.truncate(bytes);
                    self.out.records.truncate(records);
                }
            }
            Event::Message(message) => {
                self.rows = message.seq;
                if message.seq > self.skip_rows {
                    self.message(message);
                }
            }
        }
        Ok(())
    }

    fn message(&mut self, message: &Message) {
        let start = self.out.buf.len();
        let (prefix, content) = (self.batch.bytes(message.prefix), self.batch.bytes(message.content));
        self.out.buf.extend_from_slice(prefix);
        let middle = self.out.buf.len();
        let Encoder { source, db, .. } = self.encoder;
        json::message(&mut self.out.buf, source, db, &self.transaction, message.seq, prefix, content);
        let end = self.out.buf.len();
        self.out.records.push(Record {
            destination: self.batch.tables.len() as u32,
            key: Some(start..middle),
            value: Some(middle..end),
            to_all_partitions: false,
        });
    }

    fn change(&mut self, change: &Change, watched: bool) -> Result<(), RunError> {
        let index = change.table as usize;
        let (Some(table), Some(destination)) = (self.batch.tables.get(index), self.out.destinations.get(index)) else {
            return Err(RunError::definite(
                "a change of a table that its batch doesn't hold: a defect of the connector",
            ));
        };
        let destination = Arc::clone(destination);
        let Some(text) = &destination.text else {
            return Err(RunError::definite("a table without a schema: a defect of the connector"));
        };
        let (data, arena) = (&self.batch.data, self.arena);
        let decode = |image: Option<Image>, row: &mut Vec<Value<'a>>| match image {
            Some(image) => table.decode(data, image, arena, row).map(|()| true),
            None => Ok(false),
        };
        let decoded = decode(change.before, &mut self.before).and_then(|has| {
            let before = has;
            decode(change.after, &mut self.after).map(|after| (before, after))
        });
        let (has_before, has_after) = match decoded {
            Ok(has) => has,
            Err(error) => return self.poison(change, &destination, self.decode_failed(table, change, &error)),
        };
        if has_before && has_after {
            // what the log left out of the new row and has of the old one is what it was
            for (old, new) in self.before.iter().zip(&mut self.after) {
                if new.is_absent() {
                    *new = *old;
                }
            }
        }
        let before = has_before.then_some(self.before.as_slice());
        let after = has_after.then_some(self.after.as_slice());

        let first = self.out.records.len();
        let tombstones = self.encoder.tombstones && !table.key.is_empty();
        let (transaction, seq) = (&self.transaction, change.seq);
        let mut writer =
            Writer { out: &mut self.out, table, text, transaction, destination: change.table, seq, tombstones };
        if let Err(KeyMissing) = writer.change(change.op, before, after) {
            self.out.records.truncate(first);
            return self.poison(change, &destination, self.key_missing(table, change));
        }
        if watched {
            self.touch(table, change, first);
        }
        Ok(())
    }

    fn poison(&mut self, change: &Change, destination: &Destination, error: RunError) -> Result<(), RunError> {
        let (Some(table), Some(text)) = (self.batch.tables.get(change.table as usize), &destination.text) else {
            return Err(error);
        };
        let it = Poison {
            table,
            text: (text, &self.transaction),
            event: RowEvent { op: change.op, seq: change.seq, id_suffix: "", before: None, after: None },
            images: [change.before, change.after],
            data: &self.batch.data,
            topic: &destination.topic,
            dead_letters: self.batch.tables.len() as u32 + 1,
        };
        self.encoder.poison(&mut self.out, &it, error)
    }

    /// Notes which keys the records from `first` on, those of one change, are about.
    fn touch(&mut self, table: &Table, change: &Change, first: usize) {
        let progress = self.out.progress.len();
        let mut add = |touch| self.out.touches.push(Touched { progress, destination: change.table, touch });
        if change.op == Op::Truncate {
            return add(None);
        }
        let events = self.out.records.get(first..).unwrap_or(&[]).iter().filter(|record| record.value.is_some());
        let keys: Vec<KeyHash> = events
            .filter_map(|record| record.key.clone().and_then(|range| self.out.buf.get(range)))
            .map(|bytes| self.encoder.watch.hasher().hash(bytes))
            .collect();
        let moved = keys.len() > 1;
        let mut missing = None;
        if change.after.is_some() && self.after.iter().any(Value::is_absent) {
            let images: Vec<Image> = change.after.into_iter().chain(change.before).collect();
            missing = table.key_literals(&self.batch.data, &images);
        }
        if let Some((last, before)) = keys.split_last() {
            before.iter().for_each(|key| add(Some(Touch { key: *key, missing: None, moved: false })));
            add(Some(Touch { key: *last, missing, moved }));
        }
    }

    fn position(&self) -> String {
        self.open.map_or_else(|| "no transaction".to_owned(), |open| format!("transaction {}", open.pos))
    }

    fn decode_failed(&self, table: &Table, change: &Change, error: &DecodeError) -> RunError {
        undecodable(table, &self.position(), change.seq, error)
    }

    fn key_missing(&self, table: &Table, change: &Change) -> RunError {
        RunError::definite(format!(
            "the log holds no key for a row of {} at {}, row {}; repair: give the table a primary key, or log whole rows \
             (PostgreSQL: REPLICA IDENTITY FULL; MySQL: binlog_row_image=FULL)",
            table.name,
            self.position(),
            change.seq
        ))
    }
}

fn undecodable(table: &Table, at: &str, row: u64, error: &DecodeError) -> RunError {
    let column = error.column.and_then(|index| table.columns.get(index));
    let place = match column {
        Some(column) => format!("{}, column `{}` ({})", table.name, column.name, column.native),
        None => table.name.to_string(),
    };
    let repair = match &error.repair {
        Some(how) => format!("{how}; or set `on_poison` to dead_letter or skip"),
        None => format!("exclude the table with `\"!{}\"` in `tables`, or report this", table.name),
    };
    RunError::definite(format!("can't decode a row of {place} at {at}, row {row}: {}; repair: {repair}", error.what))
}

/// A key column is in none of a change's images.
struct KeyMissing;

/// A key's bytes; none if the table has no key.
type Key = Option<Range<usize>>;

/// Writes the records of one change.
struct Writer<'w> {
    out: &'w mut Encoded,
    table: &'w Table,
    text: &'w TableText,
    transaction: &'w TransactionText,
    destination: u32,
    seq: u64,
    tombstones: bool,
}

impl Writer<'_> {
    fn change<'v>(
        &mut self,
        op: Op,
        before: Option<&[Value<'v>]>,
        after: Option<&[Value<'v>]>,
    ) -> Result<(), KeyMissing> {
        match op {
            Op::Truncate => self.event(op, "", None, None, None),
            Op::Delete => {
                let key = self.key(before, None)?;
                self.event(op, "", key.clone(), before, None);
                self.tombstone(key);
            }
            Op::Insert | Op::Read => {
                let key = self.key(after, None)?;
                self.event(op, "", key, before, after);
            }
            Op::Update => {
                let key = self.key(after, before)?;
                match self.changed_key(before, after)? {
                    None => self.event(op, "", key, before, after),
                    // consumers keep state by key: to them a row under a new key is another row
                    Some(old) => {
                        self.event(Op::Delete, "/d", Some(old.clone()), before, None);
                        self.tombstone(Some(old));
                        self.event(Op::Insert, "/c", key, None, after);
                    }
                }
            }
        }
        Ok(())
    }

    /// The old key, if the update changed it. Values that look different but are written alike (NaN) are the same key.
    fn changed_key<'v>(
        &mut self,
        before: Option<&[Value<'v>]>,
        after: Option<&[Value<'v>]>,
    ) -> Result<Key, KeyMissing> {
        let differs = |index: &usize| match (column(before, *index), column(after, *index)) {
            (Some(old), Some(new)) => old != new,
            _ => false,
        };
        if !self.table.key.iter().any(differs) {
            return Ok(None);
        }
        let (old, new) = (self.key(before, after)?, self.key(after, before)?);
        let bytes = |key: &Key| key.clone().and_then(|range| self.out.buf.get(range));
        Ok(if bytes(&old) == bytes(&new) { None } else { old })
    }

    /// Writes the key of a row, taking from `other` what `row` lacks.
    fn key<'v>(&mut self, row: Option<&[Value<'v>]>, other: Option<&[Value<'v>]>) -> Result<Key, KeyMissing> {
        let key = &self.table.key;
        if key.is_empty() {
            return Ok(None);
        }
        let value = |index: &usize| column(row, *index).or_else(|| column(other, *index)).map(|value| (*index, value));
        if !key.iter().all(|index| value(index).is_some()) {
            return Err(KeyMissing);
        }
        let start = self.out.buf.len();
        json::key(&mut self.out.buf, self.text, key.iter().filter_map(value));
        Ok(Some(start..self.out.buf.len()))
    }

    fn event(
        &mut self,
        op: Op,
        id_suffix: &'static str,
        key: Key,
        before: Option<&[Value<'_>]>,
        after: Option<&[Value<'_>]>,
    ) {
        let start = self.out.buf.len();
        let event = RowEvent { op, seq: self.seq, id_suffix, before, after };
        json::event(&mut self.out.buf, self.text, self.transaction, &event);
        let value = Some(start..self.out.buf.len());
        let to_all_partitions = op == Op::Truncate;
        self.out.records.push(Record { destination: self.destination, key, value, to_all_partitions });
    }

    /// Lets a compacted topic forget the key.
    fn tombstone(&mut self, key: Key) {
        if self.tombstones {
            let record = Record { destination: self.destination, key, value: None, to_all_partitions: false };
            self.out.records.push(record);
        }
    }
}

/// A column's value, unless the log left it out.
fn column<'v>(row: Option<&[Value<'v>]>, index: usize) -> Option<Value<'v>> {
    row.and_then(|row| row.get(index)).copied().filter(|value| !value.is_absent())
}
