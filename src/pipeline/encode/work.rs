//! The encoding of one batch: its events in order, each change decoded and handed to the writer.
//!
//! Rows are decoded into two vectors that are reused from row to row, with an arena that lives as long as the batch.

use std::sync::Arc;

use rowcast_core::{
    Batch, Bump, Change, Ddl, DecodeError, Event, Image, Message, Op, Place, Prepared, Table, Transaction, Value,
};

use super::writer::{KeyMissing, Writer};
use super::{Destination, Encoded, Encoder, Progress, Record, Touched, undecodable};
use crate::backfill::merge::{KeyHash, Touch};
use crate::config::DeleteMode;
use crate::error::RunError;
use crate::format::debezium::Counts;
use crate::format::json;
use crate::format::{RowEvent, TableText, TransactionText};
use crate::pipeline::poison::Poison;

/// The state of encoding one batch. Rows are decoded into two vectors that are reused from row to row.
pub(super) struct Work<'a> {
    pub(super) encoder: &'a Encoder,
    pub(super) batch: &'a Batch,
    pub(super) arena: &'a Bump,
    pub(super) out: Encoded,
    /// Of the batch's tables, those that are being copied.
    pub(super) watched: Vec<bool>,
    pub(super) transaction: TransactionText,
    pub(super) open: Option<&'a Arc<Transaction>>,
    pub(super) skip_rows: u64,
    pub(super) rows: u64,
    pub(super) before: Vec<Value<'a>>,
    pub(super) after: Vec<Value<'a>>,
    /// Of the transaction in progress, if events are numbered.
    pub(super) counts: Option<Counts>,
}

impl<'a> Work<'a> {
    pub(super) fn progress(&mut self, progress: Progress) {
        self.out.progress.push((self.out.records.len(), progress));
    }

    pub(super) fn begin(&mut self, transaction: &'a Arc<Transaction>) {
        self.transaction.begin(&self.encoder.format, transaction);
        if let Some(counts) = &mut self.counts {
            counts.begin(&transaction.pos);
        }
        self.skip_rows = match &self.encoder.skip {
            Some(inside) if inside.transaction == transaction.pos => inside.rows,
            _ => 0,
        };
        self.rows = 0;
        self.open = Some(transaction);
        self.progress(Progress::Begin(Arc::clone(transaction)));
    }

    pub(super) fn event(&mut self, event: &'a Event) -> Result<(), RunError> {
        match event {
            Event::Begin(transaction) => self.begin(transaction),
            Event::Statement(text) => self.transaction.statement(text.as_deref()),
            Event::Prepared(prepared) => self.progress(Progress::Prepared(Prepared::clone(prepared))),
            Event::Settled(name) => self.progress(Progress::Settled(name.clone())),
            Event::Commit(mark, end) => {
                self.tell_end(end.byte);
                self.open = None;
                self.progress(Progress::Commit(mark.clone(), *end));
            }
            Event::Heartbeat(position, at) => self.progress(Progress::Heartbeat(position.clone(), *at)),
            Event::TableFailed(failure) => self.progress(Progress::TableFailed(Arc::clone(failure))),
            Event::Ddl(ddl) => self.statement(ddl),
            Event::Schema(schema) => self.progress(Progress::Schema(Arc::clone(schema))),
            Event::Change(change) => {
                self.rows = change.seq;
                let watched = self.watched.get(change.table as usize).copied().unwrap_or(false);
                if change.seq > self.skip_rows {
                    self.change(change, watched)?;
                } else if watched || self.counts.is_some() {
                    // published by an earlier run, but this one's reads must know of it, and it counts
                    let (bytes, records) = (self.out.buf.len(), self.out.records.len());
                    self.change(change, watched)?;
                    self.out.buf.truncate(bytes);
                    self.out.records.truncate(records);
                }
            }
            Event::Message(message) => {
                self.rows = message.seq;
                if message.seq > self.skip_rows {
                    self.message(message);
                } else if self.counts.is_some() {
                    let (bytes, records) = (self.out.buf.len(), self.out.records.len());
                    self.message(message);
                    self.out.buf.truncate(bytes);
                    self.out.records.truncate(records);
                }
            }
        }
        Ok(())
    }

    /// A statement that isn't about rows: where the format has it, a record for each table that it changes.
    fn statement(&mut self, ddl: &Ddl) {
        let (Some(codec), TransactionText::Debezium(transaction)) = (self.encoder.format.debezium(), &self.transaction)
        else {
            return;
        };
        // of a transaction that is published in part what stands before the last published row is published; behind it nothing is, since
        // a transaction is cut behind a row only
        if self.rows < self.skip_rows {
            return;
        }
        for change in codec.changes_of(ddl) {
            let start = self.out.buf.len();
            let value = codec.statement(&mut self.out.buf, transaction, ddl, &change);
            let destination = self.batch.tables.len() as u32 + 3;
            let (key, value) = (Some(start..value), Some(value..self.out.buf.len()));
            self.out.records.push(Record { destination, key, value, ..Record::default() });
        }
    }

    fn message(&mut self, message: &Message) {
        let place = Place { at: message.lsn.0, ..Place::default() };
        let alone = matches!(&self.transaction, TransactionText::Debezium(transaction) if transaction.is_alone());
        let order = if alone {
            None
        } else {
            self.tell_begin(place);
            self.counts.as_mut().map(Counts::next_message)
        };
        let start = self.out.buf.len();
        let (prefix, content) = (self.batch.bytes(message.prefix), self.batch.bytes(message.content));
        let Encoder { format, db, .. } = self.encoder;
        let middle = match (format.debezium(), &self.transaction) {
            (Some(codec), TransactionText::Debezium(transaction)) => {
                codec.message(&mut self.out.buf, transaction, (place, order), prefix, content)
            }
            _ => {
                self.out.buf.extend_from_slice(prefix);
                let middle = self.out.buf.len();
                if let TransactionText::Json(transaction) = &self.transaction {
                    json::message(&mut self.out.buf, &format.names, db, transaction, message.seq, prefix, content);
                }
                middle
            }
        };
        let end = self.out.buf.len();
        self.out.records.push(Record {
            destination: self.batch.tables.len() as u32,
            key: Some(start..middle),
            value: Some(middle..end),
            ..Record::default()
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
        let unchanged = self.encoder.skips_unchanged()
            && change.op == Op::Update
            && text.debezium().is_some_and(|table| {
                let row = |has: bool, row| if has { Some(row) } else { None };
                let rows = [row(has_before, self.before.as_slice()), row(has_after, self.after.as_slice())];
                table.is_unchanged(&mut self.out.buf, rows)
            });
        let skipped = unchanged || self.encoder.skips(change.op);
        if !skipped {
            self.tell_begin(change.place);
        }
        let before = has_before.then_some(self.before.as_slice());
        let after = has_after.then_some(self.after.as_slice());

        let first = self.out.records.len();
        let key = text.configured_key().unwrap_or(&table.key);
        let debezium = self.encoder.format.debezium();
        let tombstones = match debezium {
            // a record without key and value says nothing, and a compacted topic refuses it
            Some(codec) => codec.config.tombstones && !(codec.config.exact && key.is_empty()),
            None => !key.is_empty(),
        };
        let flat = text.flattened();
        let tombstones =
            tombstones && self.encoder.tombstones && flat.is_none_or(|mode| mode == DeleteMode::RewriteWithTombstone);
        let (transaction, seq, place) = (&self.transaction, change.seq, change.place);
        let out = &mut self.out;
        let mut writer = Writer {
            out,
            key,
            text,
            transaction,
            destination: change.table,
            seq,
            place,
            tombstones,
            debezium,
            bare: debezium.is_some_and(|codec| !codec.config.exact),
            lenient: text.configured_key().is_some() && debezium.is_some_and(|codec| !codec.config.exact),
            counts: self.counts.as_mut().filter(|_| !skipped).map(|counts| (counts, &table.name)),
        };
        if let Err(KeyMissing) = writer.change(change.op, before, after) {
            self.out.records.truncate(first);
            return self.poison(change, &destination, self.key_missing(table, change));
        }
        if watched {
            self.touch(table, text, change, first);
        }
        if skipped {
            self.out.records.truncate(first);
        } else if let Some(codec) = self.encoder.format.debezium() {
            codec.leave_halves_out(&mut self.out.records, first);
        }
        Ok(())
    }

    /// The record that says that the transaction in progress begins, before its first event.
    fn tell_begin(&mut self, place: Place) {
        if let (Some(counts), Some(codec), TransactionText::Debezium(transaction)) =
            (&mut self.counts, self.encoder.format.debezium(), &self.transaction)
            && counts.begins()
        {
            let start = self.out.buf.len();
            let value = codec.transaction_begin(&mut self.out.buf, transaction, place.at);
            self.tell(start, value);
        }
    }

    /// The record that says that it ends, with the numbers of its events.
    fn tell_end(&mut self, end: u64) {
        if let (Some(counts), Some(codec), TransactionText::Debezium(transaction)) =
            (&mut self.counts, self.encoder.format.debezium(), &self.transaction)
            && counts.ends()
        {
            let start = self.out.buf.len();
            let value = codec.transaction_end(&mut self.out.buf, transaction, end, counts);
            self.tell(start, value);
        }
    }

    fn tell(&mut self, start: usize, value: usize) {
        self.out.records.push(Record {
            destination: self.batch.tables.len() as u32 + 2,
            key: Some(start..value),
            value: Some(value..self.out.buf.len()),
            ..Record::default()
        });
    }

    fn poison(&mut self, change: &Change, destination: &Destination, error: RunError) -> Result<(), RunError> {
        let (Some(table), Some(text)) = (self.batch.tables.get(change.table as usize), &destination.text) else {
            return Err(error);
        };
        let transaction = self.transaction.own(&self.encoder.format, self.open.map(|open| &**open));
        let it = Poison {
            table,
            text: (text.own(), &transaction),
            event: RowEvent {
                op: change.op,
                seq: change.seq,
                place: change.place,
                order: None,
                id_suffix: "",
                before: None,
                after: None,
            },
            images: [change.before, change.after],
            data: &self.batch.data,
            topic: &destination.topic,
            dead_letters: self.batch.tables.len() as u32 + 1,
        };
        self.encoder.poison(&mut self.out, &it, error)
    }

    /// Notes which keys the records from `first` on, those of one change, are about.
    fn touch(&mut self, table: &Table, text: &TableText, change: &Change, first: usize) {
        let progress = self.out.progress.len();
        if change.op == Op::Truncate {
            return self.out.touches.push(Touched { progress, destination: change.table, touch: None });
        }
        // flattened, some changes have no records, or some without a value
        let keys = if text.configured_key().is_some() || text.flattened().is_some() {
            self.own_keys(table, text, change)
        } else {
            let events = self.out.records.get(first..).unwrap_or(&[]).iter().filter(|record| record.value.is_some());
            events
                .filter_map(|record| record.key.clone().and_then(|range| self.out.buf.get(range)))
                .map(|bytes| self.encoder.watch.hasher().hash(bytes))
                .collect()
        };
        let mut add = |touch| self.out.touches.push(Touched { progress, destination: change.table, touch });
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

    /// The keys of a change by the table's own key, where records have another one.
    fn own_keys(&mut self, table: &Table, text: &TableText, change: &Change) -> Vec<KeyHash> {
        let mut keys: Vec<KeyHash> = Vec::new();
        for (image, row) in [(change.before, &self.before), (change.after, &self.after)] {
            let value =
                |index: &usize| row.get(*index).filter(|value| !value.is_absent()).map(|value| (*index, *value));
            // a row before that lacks a part of its key has the key of the row after
            if image.is_some() && !table.key.is_empty() && table.key.iter().all(|index| value(index).is_some()) {
                let start = self.out.buf.len();
                text.own_key(&mut self.out.buf, table.key.iter().filter_map(value));
                let key = self.encoder.watch.hasher().hash(self.out.buf.get(start..).unwrap_or(&[]));
                self.out.buf.truncate(start);
                if keys.last() != Some(&key) {
                    keys.push(key);
                }
            }
        }
        keys
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
