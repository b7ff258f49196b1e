//! Events that can't be delivered: rows that can't be decoded, changes without a key, records that are larger than their topic takes.
//!
//! `on_poison` decides: the source stops before the event (`fail`), a dead letter with its place, the reason and its key takes its
//! place in the same transaction (`dead_letter`), or it is left out (`skip`). Nothing is ever left out silently: the last two are
//! counted, and logged at most once every [`TOLD`] with the number since.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rowcast_core::{Image, Table};

use super::encode::{Destination, Encoded, Encoder, Record};
use super::publish::Publisher;
use crate::config::OnPoison;
use crate::error::RunError;
use crate::format::debezium;
use crate::format::json::{self, RowEvent, TableText, TransactionText};

/// How often poison is logged.
const TOLD: Duration = Duration::from_secs(10);

/// A change or row that can't be encoded.
pub(super) struct Poison<'a> {
    pub(super) table: &'a Table,
    pub(super) text: (&'a TableText, &'a TransactionText),
    pub(super) event: RowEvent<'a>,
    pub(super) images: [Option<Image>; 2],
    pub(super) data: &'a [u8],
    pub(super) topic: &'a str,
    /// Index of the dead letters' destination.
    pub(super) dead_letters: u32,
}

impl Encoder {
    /// Deals with a change or row that can't be encoded: an error, a dead letter, or nothing but a count.
    pub(super) fn poison(&self, out: &mut Encoded, it: &Poison<'_>, error: RunError) -> Result<(), RunError> {
        if self.on_poison == OnPoison::Fail {
            return Err(error);
        }
        if self.on_poison == OnPoison::DeadLetter {
            let images: Vec<Image> = it.images.into_iter().flatten().collect();
            let bytes = images.iter().map(|image| u64::from(image.span.len)).sum();
            let key = it.table.key_literals(it.data, &images);
            let start = out.buf.len();
            json::dead_letter(&mut out.buf, it.text, &it.event, (it.topic, &error.message, bytes), key.as_deref());
            let value = Some(start..out.buf.len());
            let destination = it.dead_letters;
            out.records.push(Record { destination, value, ..Record::default() });
        }
        out.poison.get_or_insert((0, error.message)).0 += 1;
        Ok(())
    }

    /// The dead letter of a record that its topic doesn't take, with the record's key.
    fn dead_letter(&self, encoded: &Encoded, record: &Record, topic: &str, reason: &str) -> Option<Encoded> {
        let bytes = |range: &Option<Range<usize>>| range.clone().and_then(|range| encoded.buf.get(range));
        let mut out = Encoded::default();
        let key = bytes(&record.key).map(|key| {
            out.buf.extend_from_slice(key);
            0..key.len()
        });
        let start = out.buf.len();
        let mut whole = Vec::new();
        let value = encoded.value(record, &mut whole)?;
        let written = match (self.format.debezium(), table_of(encoded, record)) {
            (_, Some(table)) if self.format.is_flattened() => {
                let length = value.len() as u64;
                json::dead_letter_of_row(&mut out.buf, &self.format.names, &table.name, (topic, reason), length);
                true
            }
            (None, _) => json::dead_letter_of(&mut out.buf, value, (topic, reason)),
            (Some(_), _) => debezium::parts_of(value).is_some_and(|(source, op)| {
                json::dead_letter_with(&mut out.buf, op, source, (topic, reason), value.len() as u64);
                true
            }),
        };
        if !written {
            return None;
        }
        let value = Some(start..out.buf.len());
        out.records.push(Record { key, value, ..Record::default() });
        out.destinations.push(Arc::clone(&self.dead_letters));
        Some(out)
    }
}

/// The table that a record is of; none of messages and the like.
fn table_of<'a>(encoded: &'a Encoded, record: &Record) -> Option<&'a Table> {
    let destination = encoded.destinations.get(record.destination as usize)?;
    destination.table.as_ref().map(|(table, _)| &**table)
}

/// What was met of it in a run.
#[derive(Debug, Default)]
pub(super) struct Met {
    /// Since the last line in the log.
    untold: u64,
    told: Option<Instant>,
}

impl Publisher {
    /// Hands records to the sink, except those that it can't take.
    pub(super) fn stage_fitting(&mut self, encoded: &Encoded, records: Range<usize>) -> Result<(), RunError> {
        self.sink.prepare(encoded, records.clone())?;
        let mut from = records.start;
        for index in records.clone() {
            let Some(record) = encoded.records.get(index) else { break };
            let Some(destination) = encoded.destinations.get(record.destination as usize) else { continue };
            let limit = self.largest(destination)?;
            let size = record.size();
            if size > limit {
                self.sink.stage(encoded, from..index)?;
                from = index + 1;
                self.too_large(encoded, record, &destination.topic, (size, limit))?;
            }
        }
        self.sink.stage(encoded, from..records.end)
    }

    /// The largest record that a topic takes; asked for once.
    fn largest(&mut self, destination: &Destination) -> Result<usize, RunError> {
        if let Some(limit) = destination.largest.get() {
            return Ok(*limit);
        }
        let limit = self.sink.largest(&destination.topic)?;
        Ok(*destination.largest.get_or_init(|| limit))
    }

    fn too_large(
        &mut self,
        encoded: &Encoded,
        record: &Record,
        topic: &str,
        (size, limit): (usize, usize),
    ) -> Result<(), RunError> {
        let mut whole = Vec::new();
        let value = encoded.value(record, &mut whole).unwrap_or(&[]);
        let reason = format!(
            "event {} has {size} bytes, and at most {limit} fit into topic {topic} (its `max.message.bytes`, or `message.max.bytes` \
             or `queue.buffering.max.kbytes` in `sink.properties`)",
            match (self.options.format.debezium(), table_of(encoded, record)) {
                // its last text may be a row's
                (_, Some(table)) if self.options.format.is_flattened() => format!("of {}", table.name),
                (None, _) => json::id_of(value).to_owned(),
                (Some(_), _) => debezium::place_of(value),
            }
        );
        if self.options.on_poison == OnPoison::Fail {
            return Err(RunError::definite(format!(
                "{reason}; repair: raise that, exclude the table, or set `on_poison` to dead_letter or skip"
            )));
        }
        if self.options.on_poison == OnPoison::DeadLetter {
            let letter = self
                .encoder
                .dead_letter(encoded, record, topic, &reason)
                .ok_or_else(|| RunError::definite(format!("{reason}; and no dead letter can be made of it")))?;
            let dead_letters = Arc::clone(&self.encoder.dead_letters);
            let limit = self.largest(&dead_letters)?;
            if letter.records.iter().any(|record| record.size() > limit) {
                return Err(RunError::definite(format!("{reason}; and its key is too large for a dead letter")));
            }
            self.sink.prepare(&letter, 0..letter.records.len())?;
            self.sink.stage(&letter, 0..letter.records.len())?;
        }
        self.poisoned(1, &reason);
        Ok(())
    }

    /// Counts, and tells now and then.
    pub(super) fn poisoned(&mut self, count: u64, reason: &str) {
        self.options.meter.poisoned(count);
        self.poison.untold += count;
        if self.poison.told.is_some_and(|told| told.elapsed() < TOLD) {
            return;
        }
        let what = match self.options.on_poison {
            OnPoison::DeadLetter => "sent to the dead letters",
            OnPoison::Fail | OnPoison::Skip => "left out",
        };
        let events = std::mem::take(&mut self.poison.untold);
        self.poison.told = Some(Instant::now());
        tracing::warn!(source = %self.options.name, events, "poison was {what}; the last: {reason}");
    }
}
