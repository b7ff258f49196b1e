//! What reads bytes of the server's, by itself: for the targets in `fuzz/` (feature `fuzzing`) and the property tests below, and no part
//! of the crate's interface.
//!
//! Besides not panicking, what is read must not allocate more than its length allows; that is asserted here.
#![allow(missing_docs, clippy::panic)]

use std::collections::HashMap;

use rowcast_core::{Bump, Event, GtidSet, MariaGtidSet, TableFilter, Value};

use crate::binlog::event::{self, GtidEvent, MariaGtidEvent, Query, kind};
use crate::binlog::rows_event::width;
use crate::binlog::statement;
use crate::binlog::table_map::{WireType, wire};
use crate::cursor::Cursor;
use crate::rows::charset::Charset;
use crate::rows::labels::Labels;
use crate::rows::{Attributes, Kind, Special, decimal, json};
use crate::{Flavor, Replay};

/// A value that was read, and whether it is valid JSON whatever the server sent.
pub type See<'s> = &'s mut dyn FnMut(&Value<'_>, bool);

/// Character sets of the columns in the inputs, by a collation's number as both servers have it.
const CHARSETS: [(u32, &str); 14] = [
    (63, "binary"),
    (255, "utf8mb4"),
    (45, "utf8mb4"),
    (46, "utf8mb4"),
    (8, "latin1"),
    (28, "gbk"),
    (13, "sjis"),
    (54, "utf16"),
    (60, "utf32"),
    (35, "ucs2"),
    (12, "ujis"),
    (1, "big5"),
    (248, "gb18030"),
    (19, "euckr"),
];

/// A kilobyte for each byte and a block for the arena, and what a column is padded to.
fn check(arena: &Bump, bytes: &[u8], what: &dyn std::fmt::Debug) {
    let limit = 200_000 + 1024 * bytes.len();
    if arena.allocated_bytes() > limit {
        panic!("{what:?}: {} bytes for {}", arena.allocated_bytes(), bytes.len());
    }
}

/// The kind of server (1), then events as a binlog file has them, but without checksums. Lengths in their headers are put right.
pub fn binlog(input: &[u8], see: See<'_>) {
    let Some((flavor, mut rest)) = input.split_first() else { return };
    let mut file = description();
    while rest.len() >= event::HEADER {
        let length =
            rest.get(9..13).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes));
        let length = (length as usize).clamp(event::HEADER, rest.len());
        let Some((one, others)) = rest.split_at_checked(length) else { return };
        push(&mut file, one);
        rest = others;
    }
    replay(*flavor, file, see);
}

/// The kind of server (1), the length of a TABLE_MAP's body (2), the body, the kind of a row event (1), and its body.
pub fn row(input: &[u8], see: See<'_>) {
    let Some((flavor, rest)) = input.split_first() else { return };
    let Some((length, rest)) = rest.split_first_chunk::<2>() else { return };
    let Some((map, rest)) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length))) else { return };
    let Some((row_kind, rows)) = rest.split_first() else { return };
    let mut file = description();
    let (begin, gtid): (u8, &[u8]) = if is_mysql(*flavor) {
        (kind::GTID, &[0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0])
    } else {
        (kind::MARIA_GTID, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    };
    for (event_kind, body) in [(begin, gtid), (kind::TABLE_MAP, map), (*row_kind, rows), (kind::XID, &[0; 8][..])] {
        push(&mut file, &[&[0, 0, 0, 0, event_kind][..], &[0; 14], body].concat());
    }
    replay(*flavor, file, see);
}

fn is_mysql(flavor: u8) -> bool {
    flavor.is_multiple_of(2)
}

/// Appends an event whose length is put right.
fn push(file: &mut Vec<u8>, one: &[u8]) {
    let at = file.len();
    file.extend_from_slice(one);
    if let Some(place) = file.get_mut(at + 9..at + 13) {
        place.copy_from_slice(&(one.len() as u32).to_le_bytes());
    }
}

/// The first event of a file whose events have no checksums.
fn description() -> Vec<u8> {
    let mut file = b"\xfebin".to_vec();
    let mut one = vec![0_u8; event::HEADER];
    if let Some(place) = one.get_mut(4) {
        *place = kind::FORMAT_DESCRIPTION;
    }
    one.extend_from_slice(&4_u16.to_le_bytes());
    one.extend_from_slice(&[0; 54]);
    one.push(event::HEADER as u8);
    one.extend_from_slice(&[0; 40]);
    // no checksums; four bytes for one all the same
    one.extend_from_slice(&[0; 5]);
    push(&mut file, &one);
    file
}

fn replay(flavor: u8, file: Vec<u8>, see: See<'_>) {
    let length = file.len();
    let flavor = if is_mysql(flavor) { Flavor::Mysql } else { Flavor::MariaDb };
    let charsets: HashMap<u32, String> = CHARSETS.iter().map(|(id, name)| (*id, (*name).to_owned())).collect();
    let Ok(tables) = TableFilter::parse(&["*.*"]) else { return };
    let Ok(mut replay) = Replay::new(flavor, tables, charsets, file) else { return };
    while let Ok(Some(batch)) = replay.next_batch() {
        if batch.data.len() > 64 * length + (1 << 20) {
            panic!("a batch of {} bytes out of a file of {length}", batch.data.len());
        }
        for event in &batch.events {
            let Event::Change(change) = event else { continue };
            let Some(table) = batch.tables.get(change.table as usize) else { panic!("a change of no table") };
            let images: Vec<_> = change.before.into_iter().chain(change.after).collect();
            for image in &images {
                let (arena, mut values) = (Bump::new(), Vec::new());
                if table.decode(&batch.data, *image, &arena, &mut values).is_ok() {
                    values.iter().for_each(|value| see(value, !matches!(value, Value::Json(_))));
                }
            }
            let _ = table.key_literals(&batch.data, &images);
        }
    }
}

/// A column's type: kind, two bytes of metadata, length (2), sign and what MariaDB's types are (1), character set (1); then a value.
pub fn value(input: &[u8], see: See<'_>) {
    let Some(([kind, a, b, low, high, special, charset], bytes)) = input.split_first_chunk::<7>() else { return };
    let column = WireType { kind: *kind, a: *a, b: *b, length: u16::from_le_bytes([*low, *high]) };
    if width(&column).is_none() {
        return;
    }
    let charset = CHARSETS.get(usize::from(*charset)).map(|(_, name)| *name);
    let labels: Vec<Vec<u8>> = ["a", "b", "", "it's"].map(|label| label.as_bytes().to_vec()).into();
    let attributes = Attributes {
        unsigned: special & 1 == 1,
        charset: charset.map(str::to_owned),
        labels: Labels::of_bytes(&labels, Charset::Utf8),
        special: match special >> 1 {
            1 => Special::JsonText,
            2 => Special::Uuid,
            3 => Special::Inet4,
            4 => Special::Inet6,
            5 => Special::Vector,
            _ => Special::None,
        },
    };
    let Ok(kind) = Kind::new(&column, &attributes) else { return };
    let (arena, mut at) = (Bump::new(), Cursor::new(bytes));
    if let Ok(value) = kind.value(&mut at, &arena) {
        see(&value, !matches!(value, Value::Json(_)));
    }
    // a compressed column says itself how much is in it, and the server's limit is a gigabyte
    if !matches!(column.kind, wire::BLOB_COMPRESSED | wire::VARCHAR_COMPRESSED) {
        check(&arena, bytes, &kind);
    }
}

/// A document of MySQL's.
pub fn document(bytes: &[u8], see: See<'_>) {
    let arena = Bump::new();
    if let Some(text) = json::text(bytes, &arena) {
        // nothing that could be read lacks a form
        see(&Value::Json(text), true);
    }
    check(&arena, bytes, &"a document");
}

/// Precision, scale, and a number.
pub fn number(input: &[u8], see: See<'_>) {
    let Some(([precision, scale], bytes)) = input.split_first_chunk::<2>() else { return };
    let Some(size) = decimal::size(*precision, *scale) else { return };
    let arena = Bump::new();
    let Some(bytes) = bytes.get(..usize::from(size)) else { return };
    if let Some(text) = decimal::text(bytes, *precision, *scale, &arena) {
        see(&Value::Decimal(text), true);
    }
    check(&arena, bytes, &"a number");
}

/// What names transactions: bodies of three events, and two texts, which must be read again as they are written.
pub fn gtid(bytes: &[u8]) {
    let _ = GtidEvent::parse(bytes);
    let _ = GtidEvent::parse_tagged(bytes);
    let _ = MariaGtidEvent::parse(bytes, 1);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(set) = text.parse::<GtidSet>()
        && set.to_string().parse().as_ref() != Ok(&set)
    {
        panic!("{text} is {set}, which isn't the same");
    }
    if let Ok(set) = text.parse::<MariaGtidSet>()
        && set.to_string().parse().as_ref() != Ok(&set)
    {
        panic!("{text} is {set}, which isn't the same");
    }
}

/// A statement, by itself and as the body of a QUERY event.
pub fn statement(bytes: &[u8]) {
    let _ = statement::classify(bytes);
    if let Ok(query) = Query::parse(bytes) {
        let _ = statement::classify(query.sql);
    }
}

/// The inputs for the functions above, by name, that a recorded binlog holds: one of each kind of event, a table's first rows.
pub fn inputs(flavor: Flavor, file: &[u8]) -> Vec<(&'static str, String, Vec<u8>)> {
    let first = u8::from(flavor == Flavor::MariaDb);
    let mut found: Vec<(&'static str, String, Vec<u8>)> = Vec::new();
    let (mut rest, mut map, mut maps) = (file.get(4..).unwrap_or(&[]), Vec::new(), 0);
    let mut run = vec![first];
    while let Some(length) = rest.get(9..13).and_then(|bytes| bytes.first_chunk()) {
        let Some((one, others)) = rest.split_at_checked(u32::from_le_bytes(*length) as usize) else { break };
        rest = others;
        let (Some(head), Some(event_kind)) = (one.get(..event::HEADER), one.get(4)) else { break };
        let body = one.get(event::HEADER..one.len() - event::CHECKSUM).unwrap_or(&[]);
        match *event_kind {
            kind::FORMAT_DESCRIPTION => continue,
            kind::TABLE_MAP => {
                map = body.to_vec();
                maps += 1;
            }
            kind::GTID | kind::GTID_TAGGED | kind::MARIA_GTID => {
                found.push(("gtid", format!("{event_kind}"), body.to_vec()));
            }
            kind::QUERY => found.push(("statement", format!("query-{}", found.len()), body.to_vec())),
            row_kind @ (kind::WRITE_ROWS_V1..=kind::DELETE_ROWS_V1
            | kind::WRITE_ROWS..=kind::DELETE_ROWS
            | kind::PARTIAL_UPDATE_ROWS)
                if map.len() <= usize::from(u16::MAX) =>
            {
                let length = (map.len() as u16).to_le_bytes();
                let input = [&[first], &length[..], &map, &[row_kind], body].concat();
                found.push(("row", format!("{row_kind}-{maps}"), input));
            }
            _ => {}
        }
        if run.len() + one.len() < 4096 {
            let at = run.len();
            run.extend_from_slice(head);
            run.extend_from_slice(body);
            if let Some(place) = run.get_mut(at + 9..at + 13) {
                place.copy_from_slice(&((head.len() + body.len()) as u32).to_le_bytes());
            }
        }
    }
    found.push(("binlog", "events".to_owned(), run));
    found
}

#[cfg(test)]
mod tests;
