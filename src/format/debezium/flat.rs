//! Flattened events: the rows that `ExtractNewRecordState` makes of envelopes.
//!
//! A row of the table with chosen parts of the event behind its columns. A delete is `null` with the row's schema (`tombstone`), a record
//! without value (`delete-to-tombstone`), the row before with `__deleted` (`rewrite`), or nothing (`drop`); tombstones behind deletes are left out
//! unless `rewrite-with-tombstone` keeps them; truncations have no row, and no record. Messages and the records of transactions stay as they
//! are. Parts of `source` are copied from its text.

use std::ops::Range;
use std::sync::Arc;

use rowcast_core::Op;

use super::schema::{Kind, Schema, int64, text};
use super::source::{self, TransactionText};
use super::{Codec, TableText, ValuePlace, envelope, string};
use crate::config::{Added, DELETED, DeleteMode, EventPart, FlattenConfig};
use crate::format::flat::{self, Written, copy_member, member};
use crate::format::json::{RowEvent, int, uint};
use crate::pipeline::RecordHeader;

/// The prepared parts of one table version.
#[derive(Debug)]
pub(super) struct Flat {
    deletes: DeleteMode,
    /// What stands before a row: its schema, if values have one.
    head: Vec<u8>,
    /// The value of a delete that is null.
    gone: Vec<u8>,
    /// `"name":`, and what it is.
    fields: Vec<(Vec<u8>, EventPart)>,
    headers: Vec<(Arc<str>, EventPart)>,
    /// A `snapshot` that is false is told.
    exact: bool,
}

/// Whether a part is what rows say of the snapshot that they are from.
pub(super) fn is_marker(part: &EventPart) -> bool {
    matches!(part, EventPart::Source(field) if field == "snapshot")
}

impl Flat {
    /// Where a row's value says that it is from a snapshot; `closing` is the length of what stands behind the row.
    pub(super) fn markers(&self, value: &[u8], closing: usize) -> Vec<Range<usize>> {
        let row = value.get(..value.len().saturating_sub(closing)).unwrap_or_default();
        let places = self.fields.iter().filter(|(_, part)| is_marker(part)).filter_map(|(name, _)| {
            // `"name":`
            let name = std::str::from_utf8(name.get(1..name.len().checked_sub(2)?)?).ok()?;
            member(row, name)
        });
        places.collect()
    }

    /// What stands before a row.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// The names of the headers that say it.
    pub(super) fn marker_headers(&self) -> impl Iterator<Item = &str> {
        self.headers.iter().filter(|(_, part)| is_marker(part)).map(|(name, _)| &**name)
    }

    /// Prepares for rows with this schema.
    pub(super) fn new(config: &FlattenConfig, codec: &Codec, row: &Schema) -> Self {
        let (schemas, exact) = (codec.config.value_schemas, codec.config.exact);
        let mut fields: Vec<(String, Schema)> = match &row.kind {
            Kind::Struct(fields) => fields.clone(),
            _ => Vec::new(),
        };
        let mut added = Vec::new();
        for it in &config.fields {
            let field = it.name.clone();
            if fields.iter().any(|(name, _)| *name == field) {
                tracing::warn!(of = row.name.as_deref().unwrap_or_default(), %field, "a column has the name of a field of \
                    `flatten.add_fields`, which is left out; repair: another name behind a colon, or `flatten.add_fields_prefix`");
                continue;
            }
            added.push((field, it));
        }
        if config.deletes.rewrites() {
            fields.push((DELETED.to_owned(), text(true)));
        }
        let mut prepared = Vec::new();
        for (name, it) in added {
            let mut quoted = Vec::new();
            string(&mut quoted, &name);
            quoted.push(b':');
            prepared.push((quoted, it.part.clone()));
            fields.push((name, schema_of(it, codec)));
        }
        let with_fields = Schema { kind: Kind::Struct(fields), optional: false, ..row.clone() };
        let mut gone = if schemas { envelope(&row.clone().optional()) } else { Vec::new() };
        gone.extend_from_slice(if schemas { b"null}" } else { b"null" });
        Self {
            deletes: config.deletes,
            head: if schemas { envelope(&with_fields) } else { Vec::new() },
            gone,
            fields: prepared,
            headers: config.headers.iter().map(|it| (Arc::from(&*it.name), it.part.clone())).collect(),
            exact,
        }
    }
}

/// The schema of a field that is added: optional, without a default.
fn schema_of(added: &Added, codec: &Codec) -> Schema {
    let of_source = |field: &str| {
        let schema = source::schema(codec.server);
        let Kind::Struct(fields) = schema.kind else { return None };
        fields.into_iter().find(|(name, _)| name == field).map(|(_, schema)| schema)
    };
    let schema = match &added.part {
        EventPart::Event(field) if field == "op" => text(true),
        EventPart::Transaction(field) if field == "id" => text(true),
        EventPart::Event(_) | EventPart::Transaction(_) => int64(true),
        EventPart::Source(field) => of_source(field).unwrap_or_else(|| text(true)),
    };
    Schema { optional: true, default: None, ..schema }
}

impl TableText {
    /// What becomes of deletes, if rows are flattened.
    pub(in crate::format) fn flattened(&self) -> Option<DeleteMode> {
        self.flat.as_ref().map(|flat| flat.deletes)
    }

    /// Writes the value of a flattened event.
    pub(super) fn flat_event(
        &self,
        flat: &Flat,
        out: &mut Vec<u8>,
        transaction: &TransactionText,
        event: &RowEvent<'_>,
    ) -> Written {
        let (row, before) = match (event.op, flat.deletes) {
            (Op::Truncate, _) | (Op::Delete, DeleteMode::Drop) => return Written::Nothing,
            (Op::Delete, DeleteMode::DeleteToTombstone) => return Written::Tombstone,
            (Op::Delete, DeleteMode::Tombstone) => {
                out.extend_from_slice(&flat.gone);
                return Written::Value;
            }
            (Op::Delete, _) => (event.before, true),
            _ => (event.after, false),
        };
        let scratch = self.scratch(out, &flat.fields, transaction, event);
        let place = ValuePlace { read: transaction.is_read(), adjust: self.adjust };
        self.row(out, Some(row.unwrap_or_default()), place, before);
        out.pop();
        let mut separator = if out.last() == Some(&b'{') { &b""[..] } else { b"," };
        if flat.deletes.rewrites() {
            out.extend_from_slice(separator);
            out.extend_from_slice(if before { b"\"__deleted\":\"true\"" } else { b"\"__deleted\":\"false\"" });
            separator = b",";
        }
        for (name, part) in &flat.fields {
            out.extend_from_slice(separator);
            out.extend_from_slice(name);
            flat.write(out, part, transaction, event, scratch.clone());
            separator = b",";
        }
        out.extend_from_slice(if self.value_schemas { b"}}" } else { b"}" });
        flat::take_away(out, scratch, &mut []);
        Written::Headless
    }

    /// Writes what the headers of a flattened event say.
    pub(in crate::format) fn headers(
        &self,
        out: &mut Vec<u8>,
        transaction: &TransactionText,
        event: &RowEvent<'_>,
    ) -> Box<[RecordHeader]> {
        let Some(flat) = self.flat.as_ref().filter(|flat| !flat.headers.is_empty()) else { return Box::default() };
        let scratch = self.scratch(out, &flat.headers, transaction, event);
        let header = |(name, part): &(Arc<str>, EventPart)| {
            let start = out.len();
            flat.write(out, part, transaction, event, scratch.clone());
            flat::header(out, start, name)
        };
        let mut headers: Vec<RecordHeader> = flat.headers.iter().map(header).collect();
        flat::take_away(out, scratch, &mut headers);
        headers.into_boxed_slice()
    }

    /// The same of a tombstone: it says that it is a delete.
    pub(in crate::format) fn tombstone_headers(&self, out: &mut Vec<u8>) -> Box<[RecordHeader]> {
        let headers = self.flat.iter().flat_map(|flat| &flat.headers);
        let ops = headers.filter(|(_, part)| matches!(part, EventPart::Event(field) if field == "op"));
        ops.map(|(name, _)| {
            let start = out.len();
            out.extend_from_slice(b"\"d\"");
            flat::header(out, start, name)
        })
        .collect()
    }

    /// The text of `source`, if one of the parts is from it.
    fn scratch<N>(
        &self,
        out: &mut Vec<u8>,
        parts: &[(N, EventPart)],
        transaction: &TransactionText,
        event: &RowEvent<'_>,
    ) -> Range<usize> {
        let from = out.len();
        if parts.iter().any(|(_, part)| matches!(part, EventPart::Source(_))) {
            transaction.source(out, &self.source, event.place, false);
        }
        from..out.len()
    }
}

impl Flat {
    /// Writes a part of an event; `source` is where the buffer has its source.
    fn write(
        &self,
        out: &mut Vec<u8>,
        part: &EventPart,
        transaction: &TransactionText,
        event: &RowEvent<'_>,
        source: Range<usize>,
    ) {
        match (part, event.order) {
            (EventPart::Event(field), _) => match field.as_str() {
                "op" => {
                    out.push(b'"');
                    out.extend_from_slice(source::letter(event.op));
                    out.push(b'"');
                }
                "ts_ms" => int(out, transaction.now_us().div_euclid(1_000)),
                "ts_us" => int(out, transaction.now_us()),
                _ => int(out, transaction.now_us().saturating_mul(1_000)),
            },
            (EventPart::Transaction(_), None) => out.extend_from_slice(b"null"),
            (EventPart::Transaction(field), Some([total, of_table])) => match field.as_str() {
                "id" => transaction.id(out, event.place.at),
                "total_order" => uint(out, total),
                _ => uint(out, of_table),
            },
            (EventPart::Source(field), _) => {
                // the original leaves out what is the default
                let is_default = |text: &[u8]| member(text, field).and_then(|at| text.get(at)) == Some(b"\"false\"");
                if !self.exact && field == "snapshot" && out.get(source.clone()).is_some_and(is_default) {
                    out.extend_from_slice(b"null");
                } else {
                    copy_member(out, source, field);
                }
            }
        }
    }
}
