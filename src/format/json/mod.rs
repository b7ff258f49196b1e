//! Format `json`: our own envelope, written straight from the row's bytes into a reused buffer.
//!
//! What doesn't change from row to row is prepared: per table version the names of the columns and the constant part of
//! `source`; per transaction its identity. A row then costs its decoding and some copies.
//!
//! The value is deterministic: the same change gives the same bytes whenever and by whomever it is encoded.

mod flat;
mod write;

use rowcast_core::{Column, Op, Place, Table, TableName, Transaction, Value};

pub use flat::FlatText;
pub use write::string;
pub(super) use write::{
    base64, clock, fraction, int, jackson_part, jackson_string, significant, uint, value, write_offset, write_uuid,
};

/// Version of the envelope, sent as the header `rowcast.v`.
pub const ENVELOPE_VERSION: &str = "1";

/// What is the same for all events of one source.
#[derive(Debug, Clone)]
pub struct SourceNames {
    /// The source's name in the configuration.
    pub name: String,
    /// `postgres`, `mysql`, `mariadb`.
    pub kind: &'static str,
}

/// The prepared parts of one table version.
#[derive(Debug)]
pub struct TableText {
    /// `"name":` per column, escaped.
    columns: Vec<Vec<u8>>,
    /// `"source":{"name":...,"table":...,`
    source: Vec<u8>,
}

impl TableText {
    /// Prepares a table version.
    pub fn new(source: &SourceNames, table: &Table) -> Self {
        let column = |column: &Column| {
            let mut text = Vec::new();
            string(&mut text, &column.name);
            text.push(b':');
            text
        };
        let schema = table.name.schema.as_deref();
        Self {
            columns: table.columns.iter().map(column).collect(),
            source: source_text(source, &table.name.db, schema, Some(&table.name.table)),
        }
    }
}

impl ReadText {
    /// As the place of an event.
    pub fn place(&self) -> &TransactionText {
        &self.parts
    }
}

impl TableText {
    /// What is said of a table of which no version is known: its name.
    pub fn of_name(source: &SourceNames, name: &TableName) -> Self {
        Self { columns: Vec::new(), source: source_text(source, &name.db, name.schema.as_deref(), Some(&name.table)) }
    }
}

fn source_text(source: &SourceNames, db: &str, schema: Option<&str>, table: Option<&str>) -> Vec<u8> {
    let mut text = b"\"source\":{\"name\":".to_vec();
    let optional = |text: &mut Vec<u8>, name: Option<&str>| match name {
        Some(name) => string(text, name),
        None => text.extend_from_slice(b"null"),
    };
    string(&mut text, &source.name);
    text.extend_from_slice(b",\"kind\":");
    string(&mut text, source.kind);
    text.extend_from_slice(b",\"db\":");
    string(&mut text, db);
    text.extend_from_slice(b",\"schema\":");
    optional(&mut text, schema);
    text.extend_from_slice(b",\"table\":");
    optional(&mut text, table);
    text.push(b',');
    text
}

/// The prepared parts of one transaction.
#[derive(Debug, Clone, Default)]
pub struct TransactionText {
    /// `"tx":"...","seq":`
    before_seq: Vec<u8>,
    /// `,"pos":"...","ts_us":...,"snapshot":false`
    after_seq: Vec<u8>,
    /// `,"query":"..."`, if the statement's text is to be told.
    query: Vec<u8>,
    /// `},"id":"name/pos/`
    id: Vec<u8>,
}

impl TransactionText {
    /// Prepares for the events of `transaction`, reusing the buffers.
    pub fn begin(&mut self, source: &SourceNames, transaction: &Transaction) {
        let Self { before_seq, after_seq, query, id } = self;
        query.clear();
        before_seq.clear();
        before_seq.extend_from_slice(b"\"tx\":");
        string(before_seq, &transaction.id);
        before_seq.extend_from_slice(b",\"seq\":");
        after_seq.clear();
        after_seq.extend_from_slice(b",\"pos\":");
        string(after_seq, &transaction.pos);
        after_seq.extend_from_slice(b",\"ts_us\":");
        int(after_seq, transaction.commit_us);
        // names and positions hold nothing that JSON would escape
        after_seq.extend_from_slice(b",\"snapshot\":false");
        id.clear();
        id.extend_from_slice(b"},\"id\":\"");
        id.extend_from_slice(source.name.as_bytes());
        id.push(b'/');
        id.extend_from_slice(transaction.pos.as_bytes());
        if let Some(era) = transaction.era() {
            id.push(b'@');
            uint(id, u64::from(era));
        }
        id.push(b'/');
    }

    /// The statement that the following events are of, until the next one or the next transaction. A text that isn't UTF-8 is told with
    /// its odd bytes replaced: nobody computes with it.
    pub fn statement(&mut self, text: Option<&[u8]>) {
        self.query.clear();
        if let Some(text) = text {
            self.query.extend_from_slice(b",\"query\":");
            string(&mut self.query, &String::from_utf8_lossy(text));
        }
    }
}

/// The prepared parts of the rows of one read.
#[derive(Debug, Clone, Default)]
pub struct ReadText {
    /// `"tx":null,"seq":`, as in [`TransactionText`].
    parts: TransactionText,
}

impl ReadText {
    /// Prepares for rows of a read that sees the database as it was at `pos`; `read` tells it from other reads at the same place.
    pub fn new(source: &SourceNames, pos: &str, now_us: i64, read: &str) -> Self {
        let mut parts = TransactionText::default();
        let TransactionText { before_seq, after_seq, query: _, id } = &mut parts;
        before_seq.extend_from_slice(b"\"tx\":null,\"seq\":");
        after_seq.extend_from_slice(b",\"pos\":");
        string(after_seq, pos);
        after_seq.extend_from_slice(b",\"ts_us\":");
        int(after_seq, now_us);
        after_seq.extend_from_slice(b",\"snapshot\":true");
        for part in ["},\"id\":\"", source.name.as_str(), "/", pos, "/", read, "/"] {
            id.extend_from_slice(part.as_bytes());
        }
        Self { parts }
    }
}

/// The event of a row that was read.
pub fn read_row<'a>(seq: u64, row: &'a [Value<'a>]) -> RowEvent<'a> {
    let place = Place::default();
    RowEvent { op: Op::Read, seq, place, order: None, id_suffix: "", before: None, after: Some(row) }
}

/// Writes the event that voids all rows of a table before its copy begins again: a truncation by us, not by the source.
pub fn void_event(out: &mut Vec<u8>, table: &TableText, read: &ReadText) {
    let place = Place::default();
    let it = RowEvent { op: Op::Truncate, seq: 0, place, order: None, id_suffix: "", before: None, after: None };
    event(out, table, &read.parts, &it);
}

/// Where a copy of a table stands, for the schema topic.
#[derive(Debug, Clone, Copy)]
pub struct CopyMarker<'a> {
    /// `start` or `end`.
    pub marker: &'a str,
    /// Tells this copy from others of the same table.
    pub copy: &'a str,
    /// Rows published so far.
    pub rows: u64,
    /// A place in the source's log: the start is the first read's, at the end every row is there as of this place.
    pub pos: &'a str,
}

/// Writes a marker.
pub fn copy_marker(
    out: &mut Vec<u8>,
    source: &SourceNames,
    (db, schema, table): (&str, Option<&str>, &str),
    it: &CopyMarker<'_>,
) {
    out.extend_from_slice(b"{\"backfill\":");
    string(out, it.marker);
    out.extend_from_slice(b",\"copy\":");
    string(out, it.copy);
    out.push(b',');
    out.extend_from_slice(&source_text(source, db, schema, Some(table)));
    out.pop();
    out.extend_from_slice(b"},\"rows\":");
    uint(out, it.rows);
    out.extend_from_slice(b",\"pos\":");
    string(out, it.pos);
    out.push(b'}');
}

/// One change of one row, decoded.
#[derive(Debug, Clone, Copy)]
pub struct RowEvent<'a> {
    /// What the event says; for an update that changes the key the two halves are a delete and an insert.
    pub op: Op,
    /// Ordinal of the row in its transaction.
    pub seq: u64,
    /// Where it stands in the log; not in our own envelope, whose positions are the transactions'.
    pub place: Place,
    /// Its number in its transaction, and among the events of its table there, if events are numbered.
    pub order: Option<[u64; 2]>,
    /// Told apart when one change makes two events: appended to the id.
    pub id_suffix: &'static str,
    /// The row before, one value per column; none if nothing is to be shown.
    pub before: Option<&'a [Value<'a>]>,
    /// The row after.
    pub after: Option<&'a [Value<'a>]>,
}

/// Writes the event's value.
pub fn event(out: &mut Vec<u8>, table: &TableText, transaction: &TransactionText, event: &RowEvent<'_>) {
    out.extend_from_slice(b"{\"op\":\"");
    out.extend_from_slice(letter(event.op));
    out.extend_from_slice(b"\",\"before\":");
    row(out, table, event.before);
    out.extend_from_slice(b",\"after\":");
    row(out, table, event.after);
    absent(out, table, event.after);
    out.push(b',');
    out.extend_from_slice(&table.source);
    place(out, transaction, event.seq, event.id_suffix);
}

/// Writes what is told of a change that can't be encoded; `key` are the literals of its key's columns, if they are known.
pub fn dead_letter(
    out: &mut Vec<u8>,
    (table, transaction): (&TableText, &TransactionText),
    event: &RowEvent<'_>,
    (topic, reason, bytes): (&str, &str, u64),
    key: Option<&[String]>,
) {
    dead_letter_head(out, letter(event.op), topic, reason, bytes);
    if let Some(literals) = key {
        out.extend_from_slice(b"\"key\":[");
        for (index, literal) in literals.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            string(out, literal);
        }
        out.extend_from_slice(b"],");
    }
    out.extend_from_slice(&table.source);
    place(out, transaction, event.seq, event.id_suffix);
}

/// Writes what is told of an encoded event that its topic doesn't take; false if it isn't one of ours.
///
/// `source` and `id` stand at an event's end, and what stands before them holds no unescaped quote outside of JSON's own: the last
/// `,"source":{` is theirs.
pub fn dead_letter_of(out: &mut Vec<u8>, value: &[u8], (topic, reason): (&str, &str)) -> bool {
    const SOURCE: &[u8] = b",\"source\":{";
    let place = value.windows(SOURCE.len()).rposition(|window| window == SOURCE);
    let op = value.get(7..8).filter(|_| value.starts_with(b"{\"op\":\""));
    let (Some(op), Some(tail)) = (op, place.and_then(|place| value.get(place + 1..))) else { return false };
    dead_letter_head(out, op, topic, reason, value.len() as u64);
    out.extend_from_slice(tail);
    true
}

/// Writes what is told of an event of another format that its topic doesn't take: its `source` as it is.
pub fn dead_letter_with(out: &mut Vec<u8>, op: &[u8], source: &[u8], (topic, reason): (&str, &str), bytes: u64) {
    dead_letter_head(out, op, topic, reason, bytes);
    out.extend_from_slice(b"\"source\":");
    out.extend_from_slice(source);
    out.push(b'}');
}

/// Writes what is told of a flattened event that its topic doesn't take, which says neither what it is nor where it stands: its table.
pub fn dead_letter_of_row(
    out: &mut Vec<u8>,
    source: &SourceNames,
    table: &TableName,
    (topic, reason): (&str, &str),
    bytes: u64,
) {
    dead_letter_head(out, b"", topic, reason, bytes);
    out.extend_from_slice(&source_text(source, &table.db, table.schema.as_deref(), Some(&table.table)));
    out.pop();
    out.extend_from_slice(b"}}");
}

fn dead_letter_head(out: &mut Vec<u8>, op: &[u8], topic: &str, reason: &str, bytes: u64) {
    out.extend_from_slice(b"{\"dead_letter\":");
    string(out, reason);
    if !op.is_empty() {
        out.extend_from_slice(b",\"op\":\"");
        out.extend_from_slice(op);
        out.push(b'"');
    }
    out.extend_from_slice(b",\"topic\":");
    string(out, topic);
    out.extend_from_slice(b",\"bytes\":");
    uint(out, bytes);
    out.push(b',');
}

/// The id of an encoded event or dead letter: what stands in its last quotes.
pub fn id_of(value: &[u8]) -> &str {
    let text = value.strip_suffix(b"\"}").unwrap_or(&[]);
    let start = text.iter().rposition(|byte| *byte == b'"').map_or(text.len(), |quote| quote + 1);
    std::str::from_utf8(text.get(start..).unwrap_or(&[])).unwrap_or("")
}

fn letter(op: Op) -> &'static [u8] {
    match op {
        Op::Insert => b"c",
        Op::Update => b"u",
        Op::Delete => b"d",
        Op::Read => b"r",
        Op::Truncate => b"t",
    }
}

/// Writes `seq` to the end of the envelope.
fn place(out: &mut Vec<u8>, transaction: &TransactionText, seq: u64, id_suffix: &str) {
    out.extend_from_slice(&transaction.before_seq);
    uint(out, seq);
    out.extend_from_slice(&transaction.after_seq);
    out.extend_from_slice(&transaction.query);
    out.extend_from_slice(&transaction.id);
    uint(out, seq);
    out.extend_from_slice(id_suffix.as_bytes());
    out.extend_from_slice(b"\"}");
}

fn row(out: &mut Vec<u8>, table: &TableText, values: Option<&[Value<'_>]>) {
    let Some(values) = values else {
        out.extend_from_slice(b"null");
        return;
    };
    let mut separator = b'{';
    for (name, column) in table.columns.iter().zip(values) {
        if !column.is_absent() {
            out.push(separator);
            out.extend_from_slice(name);
            value(out, column);
            separator = b',';
        }
    }
    if separator == b'{' {
        out.push(b'{');
    }
    out.push(b'}');
}

/// Names the columns that the log left out of the row after; nothing if there are none.
fn absent(out: &mut Vec<u8>, table: &TableText, after: Option<&[Value<'_>]>) {
    let mut separator: &[u8] = b",\"absent\":[";
    for (name, column) in table.columns.iter().zip(after.unwrap_or(&[])) {
        if column.is_absent() {
            out.extend_from_slice(separator);
            // without the colon
            out.extend_from_slice(name.split_last().map_or(&[][..], |(_, quoted)| quoted));
            separator = b",";
        }
    }
    if separator == b"," {
        out.push(b']');
    }
}

/// Writes the key: the key columns as an object in key order. The table has a key.
pub fn key<'a>(out: &mut Vec<u8>, table: &TableText, columns: impl Iterator<Item = (usize, Value<'a>)>) {
    let mut separator = b'{';
    for (index, column) in columns {
        out.push(separator);
        out.extend_from_slice(table.columns.get(index).map_or(&[][..], Vec::as_slice));
        value(out, &column);
        separator = b',';
    }
    if separator == b'{' {
        out.push(b'{');
    }
    out.push(b'}');
}

/// Writes an application's message (`op` `m`): prefix and content, the content as text if it is UTF-8, else as base64.
pub fn message(
    out: &mut Vec<u8>,
    source: &SourceNames,
    db: &str,
    transaction: &TransactionText,
    seq: u64,
    prefix: &[u8],
    content: &[u8],
) {
    out.extend_from_slice(b"{\"op\":\"m\",\"before\":null,\"after\":null,\"message\":{\"prefix\":");
    string(out, &String::from_utf8_lossy(prefix));
    match std::str::from_utf8(content) {
        Ok(text) => {
            out.extend_from_slice(b",\"text\":");
            string(out, text);
        }
        Err(_) => {
            out.extend_from_slice(b",\"base64\":");
            value(out, &Value::Bytes(content));
        }
    }
    out.extend_from_slice(b"},");
    out.extend_from_slice(&source_text(source, db, None, None));
    place(out, transaction, seq, "");
}

/// Writes the record that says from where on a source has streamed, for the schema topic.
pub fn source_marker(out: &mut Vec<u8>, source: &SourceNames, db: &str, pos: &str, gap: bool) {
    out.extend_from_slice(b"{\"stream\":\"start\",");
    out.extend_from_slice(&source_text(source, db, None, None));
    out.pop();
    out.extend_from_slice(b"},\"pos\":");
    string(out, pos);
    out.extend_from_slice(if gap { b",\"gap\":true}" } else { b",\"gap\":false}" });
}

/// Writes a table version for the schema topic.
pub fn schema(out: &mut Vec<u8>, source: &SourceNames, table: &Table) {
    out.extend_from_slice(b"{\"fingerprint\":");
    string(out, &fingerprint(table));
    out.push(b',');
    out.extend_from_slice(&source_text(source, &table.name.db, table.name.schema.as_deref(), Some(&table.name.table)));
    out.pop();
    out.extend_from_slice(b"},\"key\":[");
    for (index, column) in table.key_columns().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        string(out, &column.name);
    }
    out.extend_from_slice(b"],\"columns\":[");
    for (index, column) in table.columns.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"name\":");
        string(out, &column.name);
        out.extend_from_slice(b",\"type\":");
        string(out, column.ty.name());
        out.extend_from_slice(b",\"native\":");
        string(out, &column.native);
        out.extend_from_slice(b",\"nullable\":");
        out.extend_from_slice(match column.nullable {
            None => b"null".as_slice(),
            Some(true) => b"true",
            Some(false) => b"false",
        });
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
}

/// The header `rowcast.schema`: 16 hexadecimal digits.
pub fn fingerprint(table: &Table) -> String {
    format!("{:016x}", table.fingerprint)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use std::sync::Arc;

    use rowcast_core::{Bump, DecodeError, Image, Lsn, Mark, RowDecoder, Type};

    use super::*;

    #[derive(Debug)]
    struct NoRows;

    impl RowDecoder for NoRows {
        fn decode<'a>(&'a self, _: &'a [u8], _: Image, _: &'a Bump, _: &mut Vec<Value<'a>>) -> Result<(), DecodeError> {
            Err(DecodeError::row("no rows"))
        }

        fn literals(&self, _: &[u8], _: Image, _: &[usize]) -> Option<Vec<String>> {
            None
        }
    }

    fn orders() -> Table {
        let column = |name: &str, ty| Column {
            name: name.to_owned(),
            ty,
            native: "x".to_owned(),
            nullable: Some(false),
            facts: None,
        };
        let name = TableName { db: Arc::from("shop"), schema: Some(Arc::from("public")), table: Arc::from("orders") };
        let columns = vec![
            column("id", Type::Int { bits: 64, unsigned: false }),
            column("st\"atus", Type::Text),
            column("body", Type::Text),
        ];
        Table::new(name, columns, vec![0], Box::new(NoRows))
    }

    fn prepared() -> (SourceNames, TransactionText) {
        let source = SourceNames { name: "shop".to_owned(), kind: "postgres" };
        let mut text = TransactionText::default();
        let lsn = Lsn(0x16B_3748);
        text.begin(
            &source,
            &Transaction {
                id: "751".into(),
                xid: Some(751),
                pos: lsn.to_string(),
                mark: Mark::Lsn(lsn),
                commit_us: 17,
                facts: rowcast_core::TransactionFacts::default(),
            },
        );
        (source, text)
    }

    #[test]
    fn an_event_is_the_envelope_of_the_contract() {
        let (source, transaction) = prepared();
        let table = TableText::new(&source, &orders());
        let before = [Value::Int(7), Value::Absent, Value::Absent];
        let after = [Value::Int(7), Value::Text("paid"), Value::Absent];
        let mut out = Vec::new();
        let place = Place::default();
        let row = RowEvent {
            op: Op::Update,
            seq: 3,
            place,
            order: None,
            id_suffix: "",
            before: Some(&before),
            after: Some(&after),
        };
        event(&mut out, &table, &transaction, &row);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            concat!(
                r#"{"op":"u","before":{"id":7},"after":{"id":7,"st\"atus":"paid"},"absent":["body"],"#,
                r#""source":{"name":"shop","kind":"postgres","db":"shop","schema":"public","table":"orders","#,
                r#""tx":"751","seq":3,"pos":"0/16B3748","ts_us":17,"snapshot":false},"id":"shop/0/16B3748/3"}"#
            )
        );
    }

    #[test]
    fn schemas_and_messages_are_json() {
        let (source, transaction) = prepared();
        let mut out = Vec::new();
        schema(&mut out, &source, &orders());
        let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(json["source"]["table"], "orders");
        assert_eq!(json["key"][0], "id");
        assert_eq!(json["columns"][1]["name"], "st\"atus");
        for (content, member) in [(&b"hi"[..], "text"), (b"\xff", "base64")] {
            out.clear();
            message(&mut out, &source, "shop", &transaction, 1, b"p", content);
            let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
            assert!(json["message"][member].is_string());
            assert_eq!(json["source"]["table"], serde_json::Value::Null);
            assert_eq!(json["id"], "shop/0/16B3748/1");
        }
    }
}
