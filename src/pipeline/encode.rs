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

mod work;
mod writer;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rowcast_core::backfill::{Reading, Snapshot};
use rowcast_core::{
    Batch, Bump, Change, DecodeError, Event, Inside, KeptSchema, LogPosition, Mark, Offset, Op, Place, Prepared, Table,
    TableFailure, TableName, Transaction,
};
use tokio::sync::OwnedSemaphorePermit;

use super::poison::Poison;
use super::{PipelineOptions, RunError};
use crate::backfill::markers::Marker;
use crate::backfill::merge::{KeyHash, Touch};
use crate::backfill::watch::WatchList;
use crate::config::{OnPoison, TopicTemplate};
use crate::format::debezium::{Codec, Counts};
use crate::format::json;
use crate::format::{Format, ReadAt, ReadText, RowEvent, TableText, Written};
use crate::route;
use work::Work;

/// Table versions kept prepared at once; beyond it all are prepared anew. Far above what a database has in use.
const PREPARED_TABLES: usize = 16_384;

/// The partition of statements and of heartbeats: their topics have one order, as the original's.
const FIRST_PARTITION: i32 = 0;

/// Turns batches into records. Shared by the workers of one source.
#[derive(Debug)]
pub struct Encoder {
    pub(super) format: Arc<Format>,
    /// Database for events that belong to no table.
    db: String,
    template: Option<TopicTemplate>,
    tombstones: bool,
    /// Of records of tables.
    headers: Headers,
    /// The part of a transaction that the sink has already.
    skip: Option<Inside>,
    messages: Arc<Destination>,
    pub(super) dead_letters: Arc<Destination>,
    pub(super) on_poison: OnPoison,
    watch: WatchList,
    /// The topic of begins and ends, and what is counted of the transaction in progress, if events are numbered: then batches are encoded
    /// one after the other.
    transactions: Arc<Destination>,
    counts: Option<Mutex<Counts>>,
    /// The topic of statements that change tables.
    statements: Arc<Destination>,
    heartbeats: Arc<Destination>,
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
    /// Headers of its records.
    pub headers: Headers,
    /// The partition that all of them go to; none if their keys decide.
    pub partition: Option<i32>,
    /// The largest record that the topic takes, once the sink was asked.
    pub(super) largest: OnceLock<usize>,
}

/// The headers that all records of a destination have.
#[derive(Debug, Clone)]
pub enum Headers {
    /// The version of our envelope, and the fingerprint of the table version.
    Own,
    /// These, which are the same for all destinations of a source that have any.
    Fixed(Arc<[(String, String)]>),
}

/// A header of one record.
#[derive(Debug, Clone)]
pub struct RecordHeader {
    /// Its name.
    pub name: HeaderName,
    /// Its value in [`Encoded::buf`]; none for a null.
    pub value: Option<Range<usize>>,
}

/// The name of a record's header.
#[derive(Debug, Clone)]
pub enum HeaderName {
    /// One of ours.
    Known(&'static str),
    /// One that is configured.
    Given(Arc<str>),
}

impl HeaderName {
    /// The name itself.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(name) => name,
            Self::Given(name) => name,
        }
    }
}

impl Destination {
    /// What stands before the values of which [`Record::head`] says so.
    pub fn head(&self) -> &[u8] {
        self.text.as_ref().map_or(&[], TableText::head)
    }

    /// One without a table.
    pub fn plain(topic: &str) -> Arc<Self> {
        let (topic, headers) = (topic.to_owned(), Headers::Own);
        Arc::new(Self { topic, table: None, text: None, headers, partition: None, largest: OnceLock::new() })
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

impl Encoded {
    /// A record's value in two parts: its head, which may be empty, and what is behind it.
    pub fn parts(&self, record: &Record) -> Option<[&[u8]; 2]> {
        let value = record.value.clone().and_then(|range| self.buf.get(range))?;
        let head = match record.head {
            0 => &[],
            _ => self.destinations.get(record.destination as usize)?.head(),
        };
        Some([head, value])
    }

    /// The same in one piece: if there is a head, they are put together in the scratch.
    pub fn value<'a>(&'a self, record: &Record, scratch: &'a mut Vec<u8>) -> Option<&'a [u8]> {
        let [head, value] = self.parts(record)?;
        if head.is_empty() {
            return Some(value);
        }
        scratch.clear();
        scratch.extend_from_slice(head);
        scratch.extend_from_slice(value);
        Some(scratch)
    }

    /// Gives room back that isn't needed; the bytes that are left.
    pub fn shrunk(&mut self) -> usize {
        self.buf.shrink_to_fit();
        self.records.shrink_to_fit();
        self.keys.shrink_to_fit();
        self.buf.len() + size_of_val(&*self.records) + size_of_val(&*self.keys)
    }

    /// Whether a record is of a table's row, and not of what couldn't be encoded.
    pub(super) fn is_row(&self, index: usize) -> bool {
        let record = self.records.get(index);
        let destination = record.and_then(|record| self.destinations.get(record.destination as usize));
        destination.is_some_and(|destination| destination.table.is_some())
    }

    /// Has a row that was read say which one of its snapshot it is.
    pub(super) fn mark(&mut self, index: usize, marker: Marker) {
        let Some(record) = self.records.get_mut(index) else { return };
        let destination = self.destinations.get(record.destination as usize);
        if let Some(text) = destination.and_then(|destination| destination.text.as_ref()) {
            text.mark(&mut self.buf, record, marker);
        }
    }
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
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Index into [`Encoded::destinations`].
    pub destination: u32,
    /// Key in [`Encoded::buf`]; none for tables without a key.
    pub key: Option<Range<usize>>,
    /// Value in [`Encoded::buf`], behind its head; none for a tombstone.
    pub value: Option<Range<usize>>,
    /// Length of its head in bytes: 0, or that of [`Destination::head`].
    pub head: u32,
    /// Send it to every partition of the topic (truncate).
    pub to_all_partitions: bool,
    /// Headers besides those of its destination; few records have any, unless some are configured.
    pub headers: Box<[RecordHeader]>,
}

impl Record {
    /// Bytes of key, value with its head, and own headers.
    pub fn size(&self) -> usize {
        let length = |range: &Option<Range<usize>>| range.as_ref().map_or(0, Range::len);
        let headers: usize = self.headers.iter().map(|header| header.name.as_str().len() + length(&header.value)).sum();
        length(&self.key) + self.head as usize + length(&self.value) + headers
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
        let (name, format) = (&options.name, &options.format);
        let plain = |topic, headers, partition| {
            Arc::new(Destination { topic, table: None, text: None, headers, partition, largest: OnceLock::new() })
        };
        let bare = |topic| plain(topic, Headers::Fixed(Arc::from([])), None);
        let messages = match format.debezium() {
            Some(codec) => bare(codec.message_topic()),
            None => Destination::plain(&route::message_topic(name)),
        };
        let numbered = format.debezium().filter(|codec| codec.config.transaction_metadata);
        let headers = match format.debezium() {
            Some(codec) => Headers::Fixed(Arc::from(codec.headers())),
            None => Headers::Own,
        };
        Self {
            messages,
            statements: plain(
                format.debezium().map(Codec::statement_topic).unwrap_or_default(),
                headers.clone(),
                Some(FIRST_PARTITION),
            ),
            heartbeats: plain(
                format.debezium().map(Codec::heartbeat_topic).unwrap_or_default(),
                Headers::Fixed(Arc::from([])),
                Some(FIRST_PARTITION),
            ),
            transactions: bare(numbered.map(Codec::transaction_topic).unwrap_or_default()),
            counts: numbered.map(|_| Mutex::default()),
            dead_letters: Destination::plain(&route::dead_letter_topic(name)),
            headers,
            format: Arc::clone(format),
            db: options.db.clone(),
            template: options.topic.clone(),
            tombstones: options.tombstones,
            on_poison: options.on_poison,
            skip,
            watch,
            tables: Mutex::default(),
        }
    }

    /// Whether batches must be encoded one after the other, in order.
    pub fn is_sequential(&self) -> bool {
        self.counts.is_some()
    }

    /// Name of the source.
    pub fn source(&self) -> &str {
        &self.format.names.name
    }

    /// Its kind: `postgres`, `mysql`, `mariadb`.
    pub fn kind(&self) -> &'static str {
        self.format.names.kind
    }

    /// What the events of a read's rows have in common; `read` tells it from others at the same place.
    pub fn read_text(&self, reading: &Reading, read: &str) -> ReadText {
        let log = (reading.file.as_str(), reading.bound.byte);
        let xid = match reading.snapshot {
            Snapshot::Xids { xmax, .. } => Some(i64::from(xmax as u32)),
            _ => None,
        };
        ReadText::new(&self.format, ReadAt { pos: &reading.pos, log, xid, now_us: reading.now_us }, read)
    }

    /// The same of an event of ours at a place in the log, now.
    pub fn own_text(&self, pos: &str, read: &str) -> ReadText {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_us = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
        ReadText::new(&self.format, ReadAt { pos, log: ("", 0), xid: None, now_us }, read)
    }

    /// Whether rows that are read say which are the first and the last of their snapshot.
    pub fn tells_markers(&self) -> bool {
        self.format.tells_markers()
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
        destinations.push(Arc::clone(&self.transactions));
        destinations.push(Arc::clone(&self.statements));
        let arena = Bump::new();
        let watch = self.watch.load();
        let watched = batch.tables.iter().map(|table| watch.has(&table.name)).collect();
        let mut work = Work {
            encoder: self,
            batch,
            arena: &arena,
            out: Encoded { buf, destinations, watch: watch.version, ..Encoded::default() },
            watched,
            transaction: self.format.transactions(),
            open: None,
            skip_rows: 0,
            rows: 0,
            before: Vec::new(),
            after: Vec::new(),
            counts: self
                .counts
                .as_ref()
                .map(|counts| std::mem::take(&mut *counts.lock().unwrap_or_else(PoisonError::into_inner))),
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
        if let (Some(kept), Some(counts)) = (&self.counts, work.counts.take()) {
            *kept.lock().unwrap_or_else(PoisonError::into_inner) = counts;
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
                    text: (table_text.own(), text.own()),
                    event: RowEvent {
                        op: Op::Read,
                        seq: *seq,
                        place: Place::default(),
                        order: None,
                        id_suffix: "",
                        before: None,
                        after: None,
                    },
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
            let value = |index: &usize| row.get(*index).map(|value| (*index, *value));
            let mut key = None;
            if !table.key.is_empty() {
                let start = out.buf.len();
                table_text.own_key(&mut out.buf, table.key.iter().filter_map(value));
                out.keys.push(self.watch.hasher().hash(out.buf.get(start..).unwrap_or(&[])));
                match table_text.configured_key() {
                    None => key = Some(start..out.buf.len()),
                    Some(_) => out.buf.truncate(start),
                }
            }
            if let Some(columns) = table_text.configured_key().filter(|columns| !columns.is_empty()) {
                let start = out.buf.len();
                table_text.key(&mut out.buf, columns.iter().filter_map(value));
                key = Some(start..out.buf.len());
            }
            let start = out.buf.len();
            let written = table_text.read_event(&mut out.buf, text, *seq, &row);
            let value = Some(start..out.buf.len());
            let head = table_text.head_of(written);
            let headers = table_text.read_headers(&mut out.buf, text, *seq, &row);
            out.records.push(Record { destination: *index, key, value, head, to_all_partitions: false, headers });
        }
        Ok(out)
    }

    /// The event that tells readers of a table without key that what they have of it is void, since its copy begins again. Nothing where
    /// truncations aren't published.
    pub fn encode_restart(&self, table: &Arc<Table>, text: &ReadText) -> Encoded {
        let destination = self.destination(table);
        let mut out = Encoded::default();
        if let Some(table_text) = destination.text.as_ref().filter(|_| self.tells_void(&table.name))
            && table_text.void_event(&mut out.buf, text) == Written::Value
        {
            let value = Some(0..out.buf.len());
            let to_all_partitions = self.format.truncates_all_partitions();
            out.records.push(Record { value, to_all_partitions, ..Record::default() });
        }
        out.destinations.push(destination);
        out
    }

    /// A heartbeat, if the format has them.
    pub fn encode_heartbeat(&self) -> Encoded {
        let mut out = Encoded::default();
        if let Some(codec) = self.format.debezium() {
            let value = codec.heartbeat(&mut out.buf);
            let (key, value) = (Some(0..value), Some(value..out.buf.len()));
            out.records.push(Record { key, value, ..Record::default() });
            out.destinations.push(Arc::clone(&self.heartbeats));
        }
        out
    }

    /// How often one is asked for.
    pub fn heartbeat_interval(&self) -> Option<Duration> {
        self.format.debezium().and_then(|codec| codec.config.heartbeat_interval)
    }

    /// Adds the event that voids a table of which nothing but its name is known; nothing where truncations aren't published.
    pub fn encode_void(&self, out: &mut Encoded, name: &TableName, text: &ReadText) {
        if !self.tells_void(name) {
            return;
        }
        let start = out.buf.len();
        if self.format.table_of_name(name).void_event(&mut out.buf, text) != Written::Value {
            return;
        }
        let (value, destination) = (Some(start..out.buf.len()), out.destinations.len() as u32);
        let to_all_partitions = self.format.truncates_all_partitions();
        out.records.push(Record { destination, value, to_all_partitions, ..Record::default() });
        out.destinations.push(Arc::new(Destination {
            topic: self.topic(name),
            table: None,
            text: None,
            headers: self.headers.clone(),
            partition: None,
            largest: OnceLock::new(),
        }));
    }

    /// Whether readers are told that what they have of a table is void: not where truncations aren't published, which is said.
    fn tells_void(&self, table: &TableName) -> bool {
        let flattened = self.format.is_flattened();
        let skipped = flattened || self.skips(Op::Truncate);
        if skipped {
            let (why, repair) = match flattened {
                true => {
                    ("rows that are flattened have no form for a truncation", "empty the consumers' tables by hand")
                }
                false => ("`debezium.skipped_operations` leaves truncations out", "`skipped_operations: none`"),
            };
            tracing::warn!(
                source = self.source(),
                %table,
                "what consumers have of the table is void before its copy, and they aren't told: {why}, so that rows deleted meanwhile stay \
                 with them; repair: {repair}"
            );
        }
        !skipped
    }

    /// Whether the format leaves changes of this kind out.
    fn skips(&self, op: Op) -> bool {
        self.format.debezium().is_some_and(|codec| codec.skips(op))
    }

    fn skips_unchanged(&self) -> bool {
        self.format.debezium().is_some_and(|codec| codec.config.skip_unchanged)
    }

    fn topic(&self, name: &TableName) -> String {
        self.template
            .as_ref()
            .map_or_else(String::new, |template| route::topic(template, &self.format.names.name, name))
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
            text: Some(self.format.table(table)),
            headers: self.headers.clone(),
            partition: None,
            largest: OnceLock::new(),
        });
        tables.insert(table.fingerprint, Arc::clone(&made));
        made
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
