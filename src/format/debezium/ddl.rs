//! The topic of statements that change tables (`include_schema_changes`, MySQL and MariaDB): a record per statement and table, with the
//! table's columns as they are behind it.
//!
//! The columns are the catalog's, asked for when the stream meets the statement: of statements in quick succession each may show what the
//! last one made. Where the catalog's version is known to be a later one (by seconds), or the table is gone, `table` is null. Statements about tables that aren't captured have no record, nor have those that are
//! about no table or database (views, routines, users). A TRUNCATE is an event of its table.
//!
//! Guarantee: a statement is published in the Kafka transaction of its position, once, in its order with the others.

use rowcast_core::{Column, Ddl, DdlVerb, DefaultValue, Table, TableName, Type};

use super::schema::{Kind, Schema, fields, int64, text};
use super::{Codec, Server, TransactionText, close, envelope, names, source, string};
use crate::config::DebeziumConfig;
use crate::format::json::int;

/// What a DEFAULT that is the time of the insert is told as, as in the schemas of rows.
const NOW: &str = "1970-01-01 00:00:00";

/// One record of a statement.
#[derive(Debug)]
pub struct TableChange<'a> {
    db: &'a str,
    /// Its text; as the log has it if this is none.
    sql: Option<String>,
    /// The table; none for databases and indexes, of which the original says nothing more than the statement.
    of: Option<(&'static str, &'a TableName, Option<&'a Table>)>,
}

/// The prepared schemas.
#[derive(Debug)]
pub(super) struct Heads {
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Heads {
    pub(super) fn new(config: &DebeziumConfig, server: Server) -> Self {
        let adjusted = |name: String| names::adjusted(&name, config.schema_names);
        let own = |part: &str| adjusted(format!("io.debezium.connector.{}.{part}", server.connector()));
        let shared = |part: &str| adjusted(format!("io.debezium.connector.schema.{part}"));
        let number = || Schema::of(Kind::Int32);
        let list = |of: Schema| Schema::of(Kind::Array(Box::new(of)));
        let switch = || Schema::of(Kind::Boolean).optional();
        let column = fields([
            ("name", text(false)),
            ("jdbcType", number()),
            ("nativeType", number().optional()),
            ("typeName", text(false)),
            ("typeExpression", text(true)),
            ("charsetName", text(true)),
            ("length", number().optional()),
            ("scale", number().optional()),
            ("position", number()),
            ("optional", switch()),
            ("autoIncremented", switch()),
            ("generated", switch()),
            ("comment", text(true)),
            ("defaultValueExpression", text(true)),
            ("enumValues", list(text(false)).optional()),
        ]);
        let table = fields([
            ("defaultCharsetName", text(true)),
            ("primaryKeyColumnNames", list(text(false)).optional()),
            ("columns", list(Schema::named(column, &shared("Column")))),
            ("comment", text(true)),
        ]);
        let change = fields([
            ("type", text(false)),
            ("id", text(false)),
            ("table", Schema::named(table, &shared("Table")).optional()),
        ]);
        let value = fields([
            ("source", source::schema(server)),
            ("ts_ms", int64(false)),
            ("databaseName", text(true)),
            ("schemaName", text(true)),
            ("ddl", text(true)),
            ("tableChanges", list(Schema::named(change, &shared("Change")))),
        ]);
        let key = Schema::named(fields([("databaseName", text(false))]), &own("SchemaChangeKey"));
        let value = Schema::named(value, &own("SchemaChangeValue"));
        Self {
            key: if config.key_schemas { envelope(&key) } else { Vec::new() },
            value: if config.value_schemas { envelope(&value) } else { Vec::new() },
        }
    }
}

impl Codec {
    /// The topic of statements.
    pub fn statement_topic(&self) -> String {
        self.config.topic_prefix.clone()
    }

    /// The records of a statement: one for each captured table that it is about, or one for its database.
    pub fn changes_of<'a>(&self, ddl: &'a Ddl) -> Vec<TableChange<'a>> {
        let after = |name: &TableName| ddl.after.iter().find(|table| table.name == *name).map(|table| &**table);
        let captured = || ddl.tables.iter().zip(&ddl.captured).filter(|(_, captured)| **captured).map(|(name, _)| name);
        let with = |kind: &'static str, name: &'a TableName, sql| {
            let table = if kind == "DROP" { None } else { after(name) };
            TableChange { db: &name.db, sql, of: Some((kind, name, table)) }
        };
        match ddl.verb {
            DdlVerb::CreateTable => captured().map(|name| with("CREATE", name, None)).collect(),
            DdlVerb::Index => captured().map(|name| TableChange { db: &name.db, sql: None, of: None }).collect(),
            DdlVerb::AlterTable => captured().map(|name| with("ALTER", name, None)).collect(),
            DdlVerb::DropTable => {
                // the original tells each table alone
                let start = if ddl.conditional { "DROP TABLE IF EXISTS " } else { "DROP TABLE " };
                let sql = |name: &TableName| format!("{start}{}.{}", quoted(&name.db, '`'), quoted(&name.table, '`'));
                captured().map(|name| with("DROP", name, Some(sql(name)))).collect()
            }
            DdlVerb::RenameTable => {
                let (pairs, _) = ddl.tables.as_chunks::<2>();
                let (either, _) = ddl.captured.as_chunks::<2>();
                let pairs = pairs.iter().zip(either).filter(|(_, captured)| captured.contains(&true));
                pairs.map(|([_, new], _)| with("ALTER", new, None)).collect()
            }
            DdlVerb::CreateDatabase | DdlVerb::AlterDatabase | DdlVerb::DropDatabase if ddl.captured_db => {
                vec![TableChange { db: &ddl.db, sql: None, of: None }]
            }
            DdlVerb::CreateDatabase | DdlVerb::AlterDatabase | DdlVerb::DropDatabase | DdlVerb::Other => Vec::new(),
        }
    }

    /// Writes the key and the value of a record; gives back where the value begins.
    pub fn statement(
        &self,
        out: &mut Vec<u8>,
        transaction: &TransactionText,
        ddl: &Ddl,
        change: &TableChange<'_>,
    ) -> usize {
        out.extend_from_slice(&self.statements.key);
        out.extend_from_slice(b"{\"databaseName\":");
        string(out, change.db);
        close(out, self.config.key_schemas);
        let value = out.len();
        out.extend_from_slice(&self.statements.value);
        out.extend_from_slice(b"{\"source\":");
        let table = change.of.map_or("", |(_, name, _)| &*name.table);
        transaction.source_of_statement(out, (change.db, table), ddl.place, !self.config.exact);
        out.extend_from_slice(b",\"ts_ms\":");
        int(out, transaction.now_ms());
        out.extend_from_slice(b",\"databaseName\":");
        string(out, change.db);
        out.extend_from_slice(b",\"schemaName\":null,\"ddl\":");
        string(out, change.sql.as_deref().unwrap_or(&ddl.sql));
        out.extend_from_slice(b",\"tableChanges\":[");
        if let Some((kind, name, table)) = change.of {
            out.extend_from_slice(b"{\"type\":\"");
            out.extend_from_slice(kind.as_bytes());
            out.extend_from_slice(b"\",\"id\":");
            string(out, &format!("{}.{}", quoted(&name.db, '"'), quoted(&name.table, '"')));
            out.extend_from_slice(b",\"table\":");
            match table {
                Some(table) => self.described(out, table),
                None => out.extend_from_slice(b"null"),
            }
            out.push(b'}');
        }
        out.push(b']');
        close(out, self.config.value_schemas);
        value
    }

    fn described(&self, out: &mut Vec<u8>, table: &Table) {
        let facts = table.facts.as_deref();
        out.extend_from_slice(b"{\"defaultCharsetName\":");
        optional(out, facts.and_then(|facts| facts.charset.as_deref()));
        out.extend_from_slice(b",\"primaryKeyColumnNames\":");
        let key = facts.map_or(&table.key, |facts| &facts.primary_key);
        let names = key.iter().filter_map(|index| table.columns.get(*index)).map(|column| column.name.as_str());
        strings(out, names);
        out.extend_from_slice(b",\"columns\":[");
        for (index, column) in table.columns.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            self.column(out, index, column);
        }
        // tables' comments aren't passed on unless that is asked for
        out.extend_from_slice(b"],\"comment\":null}");
    }

    fn column(&self, out: &mut Vec<u8>, index: usize, column: &Column) {
        let facts = column.facts.as_deref();
        let name = type_name(&column.native);
        let labels = match &column.ty {
            Type::Enum { labels } | Type::Set { labels } => Some(labels),
            _ => None,
        };
        let (length, scale) = match (&column.ty, labels) {
            (Type::Set { .. }, Some(labels)) => (Some((labels.len() * 2).saturating_sub(1) as i64), None),
            (_, Some(_)) => (Some(1), None),
            (_, None) => (
                facts.and_then(|facts| facts.length).map(i64::from),
                facts.and_then(|facts| facts.scale).map(i64::from),
            ),
        };
        let is = |of: fn(&rowcast_core::ColumnFacts) -> bool| -> &'static [u8] {
            if facts.is_some_and(of) { b"true" } else { b"false" }
        };
        out.extend_from_slice(b"{\"name\":");
        string(out, &column.name);
        out.extend_from_slice(b",\"jdbcType\":");
        int(out, jdbc_type(&name));
        out.extend_from_slice(b",\"nativeType\":null,\"typeName\":");
        string(out, &name);
        out.extend_from_slice(b",\"typeExpression\":");
        string(out, &name);
        out.extend_from_slice(b",\"charsetName\":");
        optional(out, facts.and_then(|facts| facts.charset.as_deref()));
        out.extend_from_slice(b",\"length\":");
        number(out, length);
        out.extend_from_slice(b",\"scale\":");
        number(out, scale);
        out.extend_from_slice(b",\"position\":");
        int(out, index as i64 + 1);
        out.extend_from_slice(b",\"optional\":");
        out.extend_from_slice(if column.nullable.unwrap_or(true) { b"true" } else { b"false" });
        out.extend_from_slice(b",\"autoIncremented\":");
        out.extend_from_slice(is(|facts| facts.auto_increment));
        out.extend_from_slice(b",\"generated\":");
        // the original takes an AUTO_INCREMENT for one
        out.extend_from_slice(is(|facts| facts.generated || facts.auto_increment));
        out.extend_from_slice(b",\"comment\":");
        // as in the schemas of rows: only MariaDB's connector passes them on
        optional(out, facts.and_then(|facts| facts.comment.as_deref()).filter(|_| self.server == Server::MariaDb));
        out.extend_from_slice(b",\"defaultValueExpression\":");
        optional(out, default(column).as_deref());
        out.extend_from_slice(b",\"enumValues\":");
        match labels {
            Some(labels) => {
                let quoted: Vec<String> = labels.iter().map(|label| quoted(label, '\'')).collect();
                strings(out, quoted.iter().map(String::as_str));
            }
            None => out.extend_from_slice(b"null"),
        }
        out.push(b'}');
    }
}

/// `int(10) unsigned` is `INT UNSIGNED`.
fn type_name(native: &str) -> String {
    let mut name = match (native.split_once('('), native.rsplit_once(')')) {
        (Some((start, _)), Some((_, end))) => format!("{start}{end}"),
        _ => native.to_owned(),
    };
    name.make_ascii_uppercase();
    name
}

/// The number of `java.sql.Types` that the original's parser gives a type.
fn jdbc_type(name: &str) -> i64 {
    match name.split(' ').next().unwrap_or(name) {
        "TINYINT" | "SMALLINT" => 5,
        "MEDIUMINT" | "INT" | "YEAR" => 4,
        "BIGINT" => -5,
        "FLOAT" => 6,
        "DOUBLE" => 8,
        "DECIMAL" => 3,
        "BIT" => -7,
        "CHAR" | "ENUM" | "SET" => 1,
        "VARCHAR" | "TINYTEXT" | "TEXT" | "MEDIUMTEXT" | "LONGTEXT" => 12,
        "BINARY" => -2,
        "VARBINARY" => -3,
        "TINYBLOB" | "BLOB" | "MEDIUMBLOB" | "LONGBLOB" => 2004,
        "DATE" => 91,
        "TIME" => 92,
        "DATETIME" => 93,
        "TIMESTAMP" => 2014,
        _ => 1111,
    }
}

/// A DEFAULT's text, without quotes; none where it is an expression.
fn default(column: &Column) -> Option<String> {
    let default = column.facts.as_deref()?.default.as_ref()?;
    match &default.value {
        DefaultValue::Call => Some(NOW.to_owned()),
        DefaultValue::Expression => None,
        DefaultValue::Constant(text) => {
            let bits = default.sql.strip_prefix("b'").and_then(|rest| rest.strip_suffix('\''));
            let bytes = || text.strip_prefix("0x").filter(|_| column.native.contains("binary(")).and_then(unhex);
            Some(bits.map(str::to_owned).or_else(bytes).unwrap_or_else(|| text.clone()))
        }
    }
}

fn unhex(digits: &str) -> Option<String> {
    let (pairs, _) = digits.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Vec<u8> = pairs.iter().map(byte).collect::<Option<_>>()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// A name in quotes, which are doubled in it.
fn quoted(name: &str, quote: char) -> String {
    let mut out = String::with_capacity(name.len() + 2);
    out.push(quote);
    for letter in name.chars() {
        if letter == quote {
            out.push(quote);
        }
        out.push(letter);
    }
    out.push(quote);
    out
}

fn optional(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => string(out, text),
        None => out.extend_from_slice(b"null"),
    }
}

fn number(out: &mut Vec<u8>, number: Option<i64>) {
    match number {
        Some(number) => int(out, number),
        None => out.extend_from_slice(b"null"),
    }
}

fn strings<'a>(out: &mut Vec<u8>, texts: impl Iterator<Item = &'a str>) {
    out.push(b'[');
    for (index, text) in texts.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        string(out, text);
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_named_without_their_arguments() {
        for (native, name, number) in [
            ("int(10) unsigned", "INT UNSIGNED", 4),
            ("bigint(20) unsigned zerofill", "BIGINT UNSIGNED ZEROFILL", -5),
            ("decimal(6,2)", "DECIMAL", 3),
            ("enum('a)','(b')", "ENUM", 1),
            ("timestamp(3)", "TIMESTAMP", 2014),
            ("json", "JSON", 1111),
        ] {
            assert_eq!((type_name(native).as_str(), jdbc_type(name)), (name, number));
        }
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(quoted("a`b", '`'), "`a``b`");
        assert_eq!(unhex("6162").as_deref(), Some("ab"));
        assert_eq!(unhex("6x"), None);
    }
}
