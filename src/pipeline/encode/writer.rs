//! The records of one change: key, event and tombstone, or two events where the key changed.

use std::ops::Range;

use rowcast_core::{Op, Place, TableName, Value};

use super::{Encoded, HeaderName, Record, RecordHeader};
use crate::format::debezium::{Codec, Counts, NEW_KEY, OLD_KEY};
use crate::format::{RowEvent, TableText, TransactionText, Written};

/// A key column is in none of a change's images.
pub(super) struct KeyMissing;

/// A key's bytes; none if the table has no key.
type Key = Option<Range<usize>>;

/// Writes the records of one change.
pub(super) struct Writer<'w> {
    pub(super) out: &'w mut Encoded,
    /// Columns of the key, by their indexes.
    pub(super) key: &'w [usize],
    pub(super) text: &'w TableText,
    pub(super) transaction: &'w TransactionText,
    pub(super) destination: u32,
    pub(super) seq: u64,
    pub(super) place: Place,
    pub(super) tombstones: bool,
    /// Debezium's form, if that is the format: the two events of a changed key name each other's key in a header, and a truncation goes to
    /// one partition only.
    pub(super) debezium: Option<&'w Codec>,
    /// Records without key and value are published, too, as the original does.
    pub(super) bare: bool,
    /// What the log lacks of a key is written as in rows.
    pub(super) lenient: bool,
    /// Numbers events in their transaction, if that is asked for.
    pub(super) counts: Option<(&'w mut Counts, &'w TableName)>,
}

impl Writer<'_> {
    pub(super) fn change<'v>(
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
                        let first = self.out.records.len();
                        self.event(Op::Delete, "/d", Some(old.clone()), before, None);
                        self.tombstone(Some(old));
                        let second = self.out.records.len();
                        self.event(Op::Insert, "/c", key, None, after);
                        if self.debezium.is_some() {
                            self.header(first..second, NEW_KEY, after, before);
                            self.header(second..self.out.records.len(), OLD_KEY, before, after);
                        }
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
        // then what the log lacks of the old key is a part of it, too
        let all = self.lenient && before.is_some();
        let differs = |index: &usize| match (column(before, *index), column(after, *index)) {
            (Some(old), Some(new)) => old != new,
            _ => false,
        };
        if !all && !self.key.iter().any(differs) {
            return Ok(None);
        }
        let (old, new) = (self.key(before, after)?, self.key(after, before)?);
        let bytes = |key: &Key| key.clone().and_then(|range| self.out.buf.get(range));
        Ok(if bytes(&old) == bytes(&new) { None } else { old })
    }

    /// Writes the key of a row, taking from `other` what `row` lacks.
    fn key<'v>(&mut self, row: Option<&[Value<'v>]>, other: Option<&[Value<'v>]>) -> Result<Key, KeyMissing> {
        let key = self.key;
        if key.is_empty() {
            return Ok(None);
        }
        let lenient = self.lenient;
        let value = |index: &usize| key_column(lenient, row, other, *index);
        if !key.iter().all(|index| value(index).is_some()) {
            return Err(KeyMissing);
        }
        let start = self.out.buf.len();
        self.text.key(&mut self.out.buf, key.iter().filter_map(value));
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
        let order = self.counts.as_mut().map(|(counts, table)| counts.next(table));
        let event = RowEvent { op, seq: self.seq, place: self.place, order, id_suffix, before, after };
        let written = self.text.event(&mut self.out.buf, self.transaction, &event);
        let value = match written {
            Written::Value | Written::Headless => Some(start..self.out.buf.len()),
            // without a key it says nothing, and a compacted topic refuses it
            Written::Tombstone if key.is_none() && !self.bare => return,
            Written::Tombstone => None,
            Written::Nothing => return,
        };
        let headers = self.text.headers(&mut self.out.buf, self.transaction, &event);
        let to_all_partitions = op == Op::Truncate && self.debezium.is_none();
        let (destination, head) = (self.destination, self.text.head_of(written));
        self.out.records.push(Record { destination, key, value, head, to_all_partitions, headers });
    }

    /// Gives these records a header with the key of a row.
    fn header<'v>(
        &mut self,
        records: Range<usize>,
        name: &'static str,
        row: Option<&[Value<'v>]>,
        other: Option<&[Value<'v>]>,
    ) {
        let (lenient, start) = (self.lenient, self.out.buf.len());
        let value = |index: &usize| key_column(lenient, row, other, *index);
        if let Some(table) = self.text.debezium() {
            table.key_header(&mut self.out.buf, self.key.iter().filter_map(value));
        }
        let header = RecordHeader { name: HeaderName::Known(name), value: Some(start..self.out.buf.len()) };
        for record in self.out.records.get_mut(records).unwrap_or_default() {
            record.headers = std::iter::once(&header).chain(&record.headers).cloned().collect();
        }
    }

    /// Lets a compacted topic forget the key.
    fn tombstone(&mut self, key: Key) {
        if self.tombstones {
            let destination = self.destination;
            let headers = self.text.tombstone_headers(&mut self.out.buf);
            self.out.records.push(Record { destination, key, headers, ..Record::default() });
        }
    }
}

/// A column's value, unless the log left it out.
fn column<'v>(row: Option<&[Value<'v>]>, index: usize) -> Option<Value<'v>> {
    row.and_then(|row| row.get(index)).copied().filter(|value| !value.is_absent())
}

/// A column of a row's key, from another row where this one lacks it; if what is lacking is written as such, as absent.
fn key_column<'v>(
    lenient: bool,
    row: Option<&[Value<'v>]>,
    other: Option<&[Value<'v>]>,
    index: usize,
) -> Option<(usize, Value<'v>)> {
    let value = match lenient {
        true => Some(column(row, index).unwrap_or(Value::Absent)),
        false => column(row, index).or_else(|| column(other, index)),
    };
    value.map(|value| (index, value))
}
