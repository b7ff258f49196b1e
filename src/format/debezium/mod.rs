//! Format `debezium`: the envelope of Debezium 3.6 in JSON, byte by byte, with or without Connect's schemas.
//!
//! ```text
//! mod      the codec of a source; a table version prepared as bytes; events, keys, messages
//! source   the `source` block            column   which schema and form a column has
//! schema   Connect's schemas as JSON     form     how a value is written; number, time: their texts
//! names    names of topics and schemas   default  DEFAULTs, what stands for missing values
//! ddl      the topic of statements       transactions  numbers of events; heartbeat
//! mask     columns cut or hidden         flat     rows instead of envelopes
//! marker   first and last rows of snapshots
//! ```
//!
//! What doesn't change from row to row is prepared per table version, the schemas too: a row costs its decoding and some copies; only some
//! rare types allocate ([`form`]).
//!
//! Guarantees: where the original is exact, the same bytes, but for the three times behind `op` ([`source`]). Where it loses or falsifies,
//! the same form with the right value (`exact`, on by default; `docs/debezium.md` lists each). A value that its form can't hold at all is
//! null, as the original's is.

mod column;
mod ddl;
mod default;
mod flat;
mod form;
mod heartbeat;
mod marker;
mod mask;
pub mod names;
mod nested;
mod number;
mod schema;
mod source;
mod time;
mod transactions;

use rowcast_core::{Bump, Op, Table, TableName, Value};

pub use source::{TransactionText, VERSION, parts_of, place_of};
pub use transactions::Counts;

use self::form::{Form, Place as ValuePlace};
use self::schema::{Kind, Schema, fields, int64, text};
use self::source::TableSource;
use crate::config::{BinaryMode, Change, DebeziumConfig};
use crate::format::Written;
use crate::format::json::jackson_string as string;
use crate::format::json::{RowEvent, int};
use crate::pipeline::Record;

/// Headers of the two events of a changed key: of the delete and its tombstone, and of the create.
pub const NEW_KEY: &str = "__debezium.newkey";
/// See [`NEW_KEY`].
pub const OLD_KEY: &str = "__debezium.oldkey";

/// Which connector of the original it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Postgres,
    MySql,
    MariaDb,
}

impl Server {
    /// The connector's name in events.
    fn connector(self) -> &'static str {
        match self {
            Server::Postgres => "postgresql",
            Server::MySql => "mysql",
            Server::MariaDb => "mariadb",
        }
    }
}

/// What all tables of a source have in common.
#[derive(Debug)]
pub struct Codec {
    /// What is configured.
    pub config: DebeziumConfig,
    server: Server,
    kind: &'static str,
    /// PostgreSQL's database.
    db: String,
    headers: Vec<(String, String)>,
    message: MessageText,
    transactions: transactions::Heads,
    statements: ddl::Heads,
    heartbeats: heartbeat::Texts,
}

/// The prepared schemas of applications' messages.
#[derive(Debug)]
struct MessageText {
    key: Vec<u8>,
    value: Vec<u8>,
}

/// The topic of the messages that applications write into the log.
pub(crate) fn message_topic(config: &DebeziumConfig) -> String {
    format!("{}.message", config.topic_prefix)
}

impl Codec {
    /// For a source of this kind (`postgres`, `mysql`, `mariadb`).
    pub fn new(config: &DebeziumConfig, kind: &'static str, db: &str) -> Self {
        let server = match kind {
            "postgres" => Server::Postgres,
            "mariadb" => Server::MariaDb,
            _ => Server::MySql,
        };
        let plugin = if server == Server::Postgres { "postgresql" } else { kind };
        let run = uuid();
        let header = |name: &str, value: &str| (format!("__debezium.context.{name}"), value.to_owned());
        let headers = match config.extended_headers {
            true => vec![
                header("connectorLogicalName", &config.topic_prefix),
                header("taskId", "0"),
                header("connectorName", plugin),
                header("runId", &run),
            ],
            false => Vec::new(),
        };
        let message = MessageText::new(config, server);
        let transactions = transactions::Heads::new(config);
        let statements = ddl::Heads::new(config, server);
        let heartbeats = heartbeat::Texts::new(config);
        let (config, db) = (config.clone(), db.to_owned());
        Self { config, server, kind, db, headers, message, transactions, statements, heartbeats }
    }

    /// The headers of every record of a table.
    pub fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    /// The topic of applications' messages.
    pub fn message_topic(&self) -> String {
        message_topic(&self.config)
    }

    /// Whether a change isn't published.
    pub fn skips(&self, op: Op) -> bool {
        let skipped = &self.config.skipped;
        match op {
            Op::Insert => skipped.creates,
            Op::Update => skipped.updates,
            Op::Delete => skipped.deletes,
            Op::Truncate => skipped.truncates,
            Op::Read => false,
        }
    }

    /// Takes back the half of a changed key, from the record `first` on, that is of a kind that isn't published: PostgreSQL's connector looks
    /// at both halves, the others at the change alone.
    pub fn leave_halves_out(&self, records: &mut Vec<Record>, first: usize) {
        let skipped = |op| self.server == Server::Postgres && self.skips(op);
        if !(skipped(Op::Delete) || skipped(Op::Insert)) {
            return;
        }
        let left_out = |record: &Record| {
            record.headers.iter().any(|header| match header.name.as_str() {
                NEW_KEY => skipped(Op::Delete),
                OLD_KEY => skipped(Op::Insert),
                _ => false,
            })
        };
        if !records.get(first..).unwrap_or_default().iter().any(left_out) {
            return;
        }
        let change = records.split_off(first.min(records.len()));
        records.extend(change.into_iter().filter(|record| !left_out(record)));
    }

    /// The columns of a table's key by their indexes, if they are configured to be others than its own; names that the table doesn't have
    /// are left out, as the original does.
    pub fn key_of(&self, table: &Table) -> Option<Vec<usize>> {
        let mut configured: Vec<usize> = Vec::new();
        for patterns in &self.config.key_columns {
            for (index, column) in table.columns.iter().enumerate() {
                if !configured.contains(&index) && patterns.match_any(&full_name(table, &column.name)) {
                    configured.push(index);
                }
            }
        }
        if !configured.is_empty() {
            return Some(configured);
        }
        // without a primary key it is the first unique index, also one that allows NULLs, which tell no rows apart
        let facts = table.facts.as_deref()?;
        if !self.config.exact && !facts.primary_key.is_empty() {
            // whatever the log knows rows by
            return (facts.primary_key != table.key).then(|| facts.primary_key.clone());
        }
        let unique = || facts.unique_key.iter().filter_map(|index| table.columns.get(*index));
        let usable = !self.config.exact || unique().all(|column| column.nullable == Some(false));
        let taken = facts.primary_key.is_empty() && !facts.unique_key.is_empty() && usable;
        (taken && facts.unique_key != table.key).then(|| facts.unique_key.clone())
    }

    /// Writes an application's message: its key, then its value from the place that is given back.
    pub fn message(
        &self,
        out: &mut Vec<u8>,
        transaction: &TransactionText,
        (place, order): (rowcast_core::Place, Option<[u64; 2]>),
        prefix: &[u8],
        content: &[u8],
    ) -> usize {
        let prefix = String::from_utf8_lossy(prefix);
        out.extend_from_slice(&self.message.key);
        out.extend_from_slice(b"{\"prefix\":");
        string(out, &prefix);
        close(out, self.config.key_schemas);
        let value = out.len();
        out.extend_from_slice(&self.message.value);
        out.extend_from_slice(b"{\"op\":\"m\",\"ts_ms\":");
        int(out, transaction.now_ms());
        out.extend_from_slice(b",\"source\":");
        let nothing = TableName { db: "".into(), schema: Some("".into()), table: "".into() };
        transaction.source(out, &TableSource::new(self.server, &nothing), place, false);
        transaction.transaction(out, place.at, order);
        out.extend_from_slice(b",\"message\":{\"prefix\":");
        string(out, &prefix);
        out.extend_from_slice(b",\"content\":");
        form::binary(out, content, self.config.binary);
        out.push(b'}');
        close(out, self.config.value_schemas);
        value
    }
}

/// `schema.table.column`, or `database.table.column` where there are no schemas: what expressions are of.
fn full_name(table: &Table, column: &str) -> String {
    format!("{}.{}.{column}", table.name.qualifier(), table.name.table)
}

/// Ends an object, and the one that the schema stands in.
fn close(out: &mut Vec<u8>, schemas: bool) {
    out.extend_from_slice(if schemas { b"}}" } else { b"}" });
}

/// `{"schema":...,"payload":`
fn envelope(schema: &Schema) -> Vec<u8> {
    let mut out = b"{\"schema\":".to_vec();
    schema.write(&mut out);
    out.extend_from_slice(b",\"payload\":");
    out
}

impl MessageText {
    fn new(config: &DebeziumConfig, server: Server) -> Self {
        let name =
            |part: &str| names::adjusted(&format!("io.debezium.connector.postgresql.{part}"), config.schema_names);
        let prefix = || fields([("prefix", text(true))]);
        let content = if config.binary == BinaryMode::Bytes { Kind::Bytes } else { Kind::String };
        let key = Schema::named(prefix(), &name("MessageKey"));
        let block = fields([("prefix", text(true)), ("content", Schema::of(content).optional())]);
        let value = fields([
            ("op", text(false)),
            ("ts_ms", int64(true)),
            ("source", source::schema(server)),
            ("transaction", source::transaction_schema()),
            ("message", Schema::named(block, &name("Message"))),
        ]);
        Self {
            key: if config.key_schemas { envelope(&key) } else { Vec::new() },
            value: if config.value_schemas {
                envelope(&Schema::named(value, &name("MessageValue")))
            } else {
                Vec::new()
            },
        }
    }
}

/// A random one, for this process.
fn uuid() -> String {
    let mut bytes: [u8; 16] = rand::random();
    for (at, byte) in bytes.iter_mut().enumerate() {
        match at {
            6 => *byte = (*byte & 0x0f) | 0x40,
            8 => *byte = (*byte & 0x3f) | 0x80,
            _ => {}
        }
    }
    let mut out = Vec::new();
    crate::format::json::write_uuid(&mut out, &bytes);
    String::from_utf8_lossy(out.get(1..37).unwrap_or_default()).into_owned()
}

/// One column of a table version.
#[derive(Debug, Clone)]
struct ColumnText {
    /// `"name":`
    name: Vec<u8>,
    form: Form,
    /// What NULL is written as: `null`, or the column's DEFAULT where that is what consumers are used to.
    null: Vec<u8>,
    /// What a column of the row before is written as that the log left out.
    missing: Vec<u8>,
    /// The same of the row after.
    unavailable: Vec<u8>,
    /// What a value is written as that its form can't hold.
    otherwise: Vec<u8>,
}

/// The columns of rows by the options of columns, and their schemas, which were those of keys.
fn masked(
    codec: &Codec,
    table: &Table,
    columns: &[Option<ColumnText>],
    schemas: &mut [Option<(String, Schema)>],
) -> Vec<Option<ColumnText>> {
    let config = &codec.config.columns;
    let mut masked = Vec::new();
    for ((column, text), schema) in table.columns.iter().zip(columns).zip(schemas) {
        let name = full_name(table, &column.name);
        let (Some(text), Some((_, of))) = (text.as_ref().filter(|_| config.publishes(&name)), &mut *schema) else {
            *schema = None;
            masked.push(None);
            continue;
        };
        let mut text = text.clone();
        if let Some(change) = config.change_of(&name) {
            match mask::Mask::of(column, &text.form, of, change, codec) {
                Some(mask) => {
                    for part in [&mut text.null, &mut text.missing, &mut text.unavailable, &mut text.otherwise] {
                        *part = mask.changed(part);
                    }
                    text.form = Form::Masked(Box::new(mask));
                }
                None if !matches!(change, Change::Truncate(_)) => tracing::warn!(
                    column = %name,
                    "the column isn't text, so that `debezium.column_mask_...` doesn't hide it; repair: `column_exclude_list` leaves it out"
                ),
                None => {}
            }
        }
        let by_type = || full_name(table, &mask::type_name(column, codec.server));
        if config.typed.as_ref().is_some_and(|typed| typed.match_any(&name))
            || config.typed_by_type.as_ref().is_some_and(|typed| typed.match_any(&by_type()))
        {
            mask::tell_type(column, of, codec.server);
        }
        masked.push(Some(text));
    }
    masked
}

/// The prepared parts of one table version.
#[derive(Debug)]
pub struct TableText {
    /// By the table's columns; none for those that aren't published.
    columns: Vec<Option<ColumnText>>,
    /// The same of rows, if these have other columns than keys, or other values.
    row_columns: Option<Vec<Option<ColumnText>>>,
    key_head: Vec<u8>,
    key_schemas: bool,
    /// What envelopes begin with: their schema, or nothing.
    value_head: Vec<u8>,
    value_schemas: bool,
    source: TableSource,
    adjust: bool,
    exact: bool,
    /// Rows are published instead of envelopes.
    flat: Option<flat::Flat>,
    /// The columns of the key in order, if they are configured.
    pub key: Option<Vec<usize>>,
}

impl TableText {
    /// Prepares a table version.
    pub fn new(codec: &Codec, table: &Table) -> Self {
        let config = &codec.config;
        let key = codec.key_of(table);
        let topic = names::topic(&config.topic_prefix, &config.delimiter, &table.name);
        let arena = Bump::new();
        let mut schemas = Vec::new();
        let mut columns = Vec::new();
        for (index, column) in table.columns.iter().enumerate() {
            let Some((form, schema)) = column::mapped(column, codec.kind, config) else {
                schemas.push(None);
                columns.push(None);
                continue;
            };
            let optional = schema.optional || column.nullable.unwrap_or(true);
            let default = default::of(table, index, &form, &schema, codec, &arena);
            // only MariaDB's connector passes comments on
            let comment = column.facts.as_ref().and_then(|facts| facts.comment.clone());
            let doc = comment.filter(|_| codec.server == Server::MariaDb).or(schema.doc);
            let schema = Schema { optional, default: default.clone(), doc, ..schema };
            let fallback = default::fallback(&form, &schema);
            let replaced = default.clone().filter(|_| config.replaces_nulls());
            let null = replaced.unwrap_or_else(|| b"null".to_vec());
            let required = if optional { null.clone() } else { default.unwrap_or(fallback) };
            let field = names::field(&column.name, config.field_names);
            let mut name = Vec::new();
            string(&mut name, &field);
            name.push(b':');
            columns.push(Some(ColumnText {
                name,
                null,
                // without a schema nothing stands in the way of saying that there is no value
                missing: if config.exact && !config.value_schemas { b"null".to_vec() } else { required.clone() },
                unavailable: default::unavailable(column, &form, &schema, codec),
                otherwise: required,
                form,
            }));
            schemas.push(Some((field, schema)));
        }
        let name = |part: &str| Some(names::adjusted(&format!("{topic}.{part}"), config.schema_names));
        let struct_of = |fields: Vec<(String, Schema)>| Schema::of(Kind::Struct(fields));
        let key_columns = key.as_deref().unwrap_or(&table.key).iter();
        let key_fields = key_columns.filter_map(|index| schemas.get(*index).cloned().flatten()).collect();
        let key_schema = Schema { name: name("Key"), ..struct_of(key_fields) };
        let row_columns = (!config.columns.is_empty()).then(|| masked(codec, table, &columns, &mut schemas));
        let row = Schema { name: name("Value"), ..struct_of(schemas.iter().flatten().cloned().collect()) };
        Self {
            columns,
            row_columns,
            key_head: if config.key_schemas { envelope(&key_schema) } else { Vec::new() },
            key_schemas: config.key_schemas,
            value_head: Self::envelope_head(codec, &row, name("Envelope")),
            value_schemas: config.value_schemas,
            source: TableSource::new(codec.server, &table.name),
            adjust: !config.exact && codec.server != Server::Postgres,
            exact: config.exact,
            flat: config.flatten.as_ref().map(|flatten| flat::Flat::new(flatten, codec, &row)),
            key,
        }
    }

    /// What is said of a table of which no version is known: its name.
    pub fn of_name(codec: &Codec, name: &TableName) -> Self {
        let config = &codec.config;
        let topic = names::topic(&config.topic_prefix, &config.delimiter, name);
        let named = |part: &str| Some(names::adjusted(&format!("{topic}.{part}"), config.schema_names));
        let row = Schema { name: named("Value"), ..Schema::of(Kind::Struct(Vec::new())) };
        Self {
            columns: Vec::new(),
            row_columns: None,
            key_head: Vec::new(),
            key_schemas: false,
            value_head: Self::envelope_head(codec, &row, named("Envelope")),
            value_schemas: config.value_schemas,
            source: TableSource::new(codec.server, name),
            adjust: false,
            exact: config.exact,
            flat: config.flatten.as_ref().map(|flatten| flat::Flat::new(flatten, codec, &row)),
            key: None,
        }
    }

    fn envelope_head(codec: &Codec, row: &Schema, name: Option<String>) -> Vec<u8> {
        let mut head = Vec::new();
        if codec.config.value_schemas {
            let kind = fields([
                ("before", row.clone().optional()),
                ("after", row.clone().optional()),
                ("source", source::schema(codec.server)),
                ("transaction", source::transaction_schema()),
                ("op", text(false)),
                ("ts_ms", int64(true)),
                ("ts_us", int64(true)),
                ("ts_ns", int64(true)),
            ]);
            head = envelope(&Schema { name, version: Some(2), ..Schema::of(kind) });
        }
        head
    }

    /// What stands before the values that [`TableText::event`] writes: their schema, which is often many times as long as they are, so that it
    /// isn't kept in memory with each of them.
    pub fn head(&self) -> &[u8] {
        self.flat.as_ref().map_or(&self.value_head, flat::Flat::head)
    }

    /// Writes an event's value without its head.
    pub fn event(&self, out: &mut Vec<u8>, transaction: &TransactionText, event: &RowEvent<'_>) -> Written {
        if let Some(flat) = &self.flat {
            return self.flat_event(flat, out, transaction, event);
        }
        let place = ValuePlace { read: transaction.is_read(), adjust: self.adjust };
        out.extend_from_slice(b"{\"before\":");
        self.row(out, event.before, place, true);
        out.extend_from_slice(b",\"after\":");
        self.row(out, event.after, place, false);
        out.extend_from_slice(b",\"source\":");
        transaction.source(out, &self.source, event.place, event.op == Op::Truncate && !self.exact);
        transaction.transaction(out, event.place.at, event.order);
        transaction.end(out, event.op);
        if self.value_schemas {
            out.push(b'}');
        }
        Written::Headless
    }

    fn row(&self, out: &mut Vec<u8>, values: Option<&[Value<'_>]>, place: ValuePlace, before: bool) {
        let Some(values) = values else {
            out.extend_from_slice(b"null");
            return;
        };
        let mut separator = b'{';
        for (column, value) in self.row_columns.as_ref().unwrap_or(&self.columns).iter().zip(values) {
            let Some(column) = column else { continue };
            out.push(separator);
            separator = b',';
            out.extend_from_slice(&column.name);
            match value {
                Value::Null => out.extend_from_slice(&column.null),
                Value::Absent => out.extend_from_slice(if before { &column.missing } else { &column.unavailable }),
                value => {
                    if !column.form.written(out, value, place) {
                        out.extend_from_slice(&column.otherwise);
                    }
                }
            }
        }
        if separator == b'{' {
            out.push(b'{');
        }
        out.push(b'}');
    }

    /// Whether an update changes nothing that is published.
    pub fn is_unchanged(&self, out: &mut Vec<u8>, [before, after]: [Option<&[Value<'_>]>; 2]) -> bool {
        let (Some(before), Some(after)) = (before, after) else { return false };
        let (start, place) = (out.len(), ValuePlace { read: false, adjust: self.adjust });
        // what the log lacks of the row before isn't known to be the same
        let known = before.iter().all(|value| !value.is_absent()) || !self.exact;
        self.row(out, Some(before), place, true);
        let middle = out.len();
        self.row(out, Some(after), place, false);
        let same = known && out.get(start..middle) == out.get(middle..);
        out.truncate(start);
        same
    }

    /// Writes a key.
    pub fn key<'a>(&self, out: &mut Vec<u8>, columns: impl Iterator<Item = (usize, Value<'a>)>) {
        out.extend_from_slice(&self.key_head);
        self.key_payload(out, columns);
        if self.key_schemas {
            out.push(b'}');
        }
    }

    /// Writes a key as the headers of a changed key have it.
    pub fn key_header<'a>(&self, out: &mut Vec<u8>, columns: impl Iterator<Item = (usize, Value<'a>)>) {
        self.key_payload(out, columns);
    }

    fn key_payload<'a>(&self, out: &mut Vec<u8>, columns: impl Iterator<Item = (usize, Value<'a>)>) {
        // the same bytes whether the row was streamed or read: records of one key must have one key
        let place = ValuePlace { read: false, adjust: self.adjust };
        let mut separator = b'{';
        for (index, value) in columns {
            let Some(Some(column)) = self.columns.get(index) else { continue };
            out.push(separator);
            separator = b',';
            out.extend_from_slice(&column.name);
            match value {
                Value::Absent => out.extend_from_slice(&column.missing),
                value if column.form.written(out, &value, place) => {}
                _ => out.extend_from_slice(&column.otherwise),
            }
        }
        if separator == b'{' {
            out.push(b'{');
        }
        out.push(b'}');
    }
}

#[cfg(test)]
mod tests;
