//! Flattened events in our own form: the row's columns at the top, and behind them what is chosen of the event.
//!
//! ```text
//! {"id":1,"note":"x","__op":"u","__ts_us":1760000000123456}
//! ```
//!
//! Columns have the same text as in the envelope; what the log left out is left out here, too, and `absent` names it. With
//! `rewrite` deletes are the row before, and all rows have `__deleted`. Truncations have no row, and no record. A field that has the name of a
//! column isn't added to that table's rows, which is told.

use std::ops::Range;
use std::sync::Arc;

use rowcast_core::{Op, Table};

use super::{RowEvent, TableText, TransactionText, absent, letter, place, row, string};
use crate::config::{DELETED, DeleteMode, EventPart, FlattenConfig};
use crate::format::flat::{self, Written, copy_member, member};
use crate::pipeline::RecordHeader;

/// The prepared parts of one table version.
#[derive(Debug)]
pub struct FlatText {
    deletes: DeleteMode,
    /// Rows have `__deleted`.
    says_deleted: bool,
    /// `"name":`, and what it is.
    fields: Vec<(Vec<u8>, EventPart)>,
    headers: Vec<(Arc<str>, EventPart)>,
}

impl FlatText {
    /// Prepares a table version, or a table of which none is known.
    pub fn new(config: &FlattenConfig, table: Option<&Table>) -> Self {
        let is_column = |name: &str| table.is_some_and(|table| table.columns.iter().any(|column| column.name == name));
        if let (Some(table), true) = (table, config.deletes.rewrites() && is_column(DELETED)) {
            tracing::warn!(table = %table.name, "the table has a column `{DELETED}`: its rows don't say whether they are gone");
        }
        let mut fields = Vec::new();
        for field in &config.fields {
            if let (Some(table), true) = (table, is_column(&field.name)) {
                tracing::warn!(table = %table.name, field = %field.name, "a column of the table has the name of a field of \
                    `flatten.add_fields`, which is left out; repair: another name behind a colon, or `flatten.add_fields_prefix`");
                continue;
            }
            let mut name = Vec::new();
            string(&mut name, &field.name);
            name.push(b':');
            fields.push((name, field.part.clone()));
        }
        let headers = config.headers.iter().map(|header| (Arc::from(&*header.name), header.part.clone())).collect();
        let says_deleted = config.deletes.rewrites() && !is_column(DELETED);
        Self { deletes: config.deletes, says_deleted, fields, headers }
    }

    /// What becomes of deletes.
    pub fn deletes(&self) -> DeleteMode {
        self.deletes
    }

    /// Writes an event's value.
    pub fn event(
        &self,
        out: &mut Vec<u8>,
        table: &TableText,
        transaction: &TransactionText,
        event: &RowEvent<'_>,
    ) -> Written {
        let (values, deleted) = match (event.op, self.deletes) {
            (Op::Truncate, _) | (Op::Delete, DeleteMode::Drop) => return Written::Nothing,
            (Op::Delete, DeleteMode::Tombstone | DeleteMode::DeleteToTombstone) => return Written::Tombstone,
            (Op::Delete, _) => (event.before, true),
            _ => (event.after, false),
        };
        let from = out.len();
        if !self.fields.is_empty() {
            envelope(out, table, transaction, event);
        }
        let envelope = from..out.len();
        row(out, table, Some(values.unwrap_or_default()));
        out.pop();
        let mut separator = if out.last() == Some(&b'{') { &b""[..] } else { b"," };
        if self.says_deleted {
            out.extend_from_slice(separator);
            out.extend_from_slice(if deleted { b"\"__deleted\":true" } else { b"\"__deleted\":false" });
            separator = b",";
        }
        for (name, part) in &self.fields {
            out.extend_from_slice(separator);
            out.extend_from_slice(name);
            write(out, part, envelope.clone());
            separator = b",";
        }
        out.push(b'}');
        flat::take_away(out, envelope, &mut []);
        Written::Value
    }

    /// Writes what the headers of an event say.
    pub fn headers(
        &self,
        out: &mut Vec<u8>,
        table: &TableText,
        transaction: &TransactionText,
        event: &RowEvent<'_>,
    ) -> Box<[RecordHeader]> {
        if self.headers.is_empty() {
            return Box::default();
        }
        let from = out.len();
        envelope(out, table, transaction, event);
        let envelope = from..out.len();
        let header = |(name, part): &(Arc<str>, EventPart)| {
            let start = out.len();
            write(out, part, envelope.clone());
            flat::header(out, start, name)
        };
        let mut headers: Vec<RecordHeader> = self.headers.iter().map(header).collect();
        flat::take_away(out, envelope, &mut headers);
        headers.into_boxed_slice()
    }

    /// The same of the tombstone behind a delete: what it is.
    pub fn tombstone_headers(&self, out: &mut Vec<u8>) -> Box<[RecordHeader]> {
        let ops = self.headers.iter().filter(|(_, part)| matches!(part, EventPart::Event(field) if field == "op"));
        ops.map(|(name, _)| {
            let start = out.len();
            out.extend_from_slice(b"\"d\"");
            flat::header(out, start, name)
        })
        .collect()
    }
}

/// Writes the envelope without its rows.
fn envelope(out: &mut Vec<u8>, table: &TableText, transaction: &TransactionText, event: &RowEvent<'_>) {
    out.extend_from_slice(b"{\"op\":\"");
    out.extend_from_slice(letter(event.op));
    out.push(b'"');
    absent(out, table, event.after);
    out.push(b',');
    out.extend_from_slice(&table.source);
    place(out, transaction, event.seq, event.id_suffix);
}

/// Writes a part of the envelope, which the buffer holds; `null` if it isn't there.
fn write(out: &mut Vec<u8>, part: &EventPart, envelope: Range<usize>) {
    let (of, field) = match part {
        EventPart::Event(field) => (envelope, field),
        EventPart::Source(field) | EventPart::Transaction(field) => {
            let source = out.get(envelope.clone()).and_then(|text| member(text, "source"));
            let source = source.unwrap_or_default();
            (envelope.start + source.start..envelope.start + source.end, field)
        }
    };
    copy_member(out, of, field);
}
