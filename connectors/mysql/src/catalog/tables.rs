//! Tables as information_schema describes them now, which may be later than the row event that asks.
//!
//! So what is found here only adds to what the event itself says, and only if both agree on every column
//! ([`super::columns`]).

use rowcast_core::{Column, Table, TableName, Type};

use super::literal;
use crate::connection::Rows;
use crate::rows::{NoRows, Special};

/// A column of information_schema.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CatalogColumn {
    pub(crate) name: String,
    /// COLUMN_TYPE: `int unsigned`, `enum('a','b')`.
    pub(crate) native: String,
    pub(crate) nullable: bool,
    pub(crate) charset: Option<String>,
    pub(crate) unsigned: bool,
    pub(crate) labels: Vec<String>,
    pub(crate) special: Special,
    pub(crate) ty: Type,
}

/// A table of information_schema.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CatalogTable {
    pub(crate) columns: Vec<CatalogColumn>,
    pub(crate) key: Vec<usize>,
}

pub(crate) fn columns_sql(name: &TableName) -> String {
    format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, IS_NULLABLE, CHARACTER_SET_NAME \
         FROM information_schema.COLUMNS WHERE TABLE_SCHEMA={} AND TABLE_NAME={} ORDER BY ORDINAL_POSITION",
        literal(&name.db),
        literal(&name.table)
    )
}

pub(crate) fn key_sql(name: &TableName) -> String {
    format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME FROM information_schema.STATISTICS \
         WHERE TABLE_SCHEMA={} AND TABLE_NAME={} AND INDEX_NAME='PRIMARY' ORDER BY SEQ_IN_INDEX",
        literal(&name.db),
        literal(&name.table)
    )
}

/// MariaDB only: its JSON type is LONGTEXT with this check.
pub(crate) fn checks_sql(name: &TableName) -> String {
    format!(
        "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CHECK_CLAUSE FROM information_schema.CHECK_CONSTRAINTS \
         WHERE CONSTRAINT_SCHEMA={} AND TABLE_NAME={}",
        literal(&name.db),
        literal(&name.table)
    )
}

impl CatalogTable {
    pub(crate) fn new(name: &TableName, maria: bool, columns: &Rows, key: &Rows, checks: &Rows) -> Option<Self> {
        // information_schema compares names without case; tables may differ only in it.
        let ours = |row: &&Vec<Option<String>>| text(row, 0) == &*name.db && text(row, 1) == &*name.table;
        let json: Vec<&str> = checks.iter().filter(ours).map(|row| text(row, 2)).collect();
        let columns: Vec<CatalogColumn> =
            columns.iter().filter(ours).map(|row| CatalogColumn::new(row, maria, &json)).collect();
        if columns.is_empty() {
            return None;
        }
        let place = |row: &Vec<Option<String>>| columns.iter().position(|column| column.name == text(row, 2));
        let key = key.iter().filter(ours).filter_map(place).collect();
        Some(Self { columns, key })
    }

    /// A version for a TRUNCATE; no row of it has been seen.
    pub(crate) fn into_table(self, name: TableName) -> Table {
        let columns = self
            .columns
            .into_iter()
            .map(|column| Column {
                name: column.name,
                ty: column.ty,
                native: column.native,
                nullable: Some(column.nullable),
            })
            .collect();
        Table::new(name, columns, self.key, Box::new(NoRows))
    }
}

fn text(row: &[Option<String>], index: usize) -> &str {
    row.get(index).and_then(Option::as_deref).unwrap_or("")
}

impl CatalogColumn {
    fn new(row: &[Option<String>], maria: bool, checks: &[&str]) -> Self {
        let (name, data_type, native) = (text(row, 2).to_owned(), text(row, 3), text(row, 4).to_owned());
        let charset = row.get(6).cloned().flatten();
        let json_check = format!("json_valid(`{}`)", name.replace('`', "``"));
        let special = match data_type {
            "uuid" if maria => Special::Uuid,
            "inet4" if maria => Special::Inet4,
            "inet6" if maria => Special::Inet6,
            "longtext" if maria && checks.iter().any(|check| *check == json_check) => Special::JsonText,
            _ => Special::None,
        };
        let labels = if matches!(data_type, "enum" | "set") { labels(&native) } else { Vec::new() };
        let unsigned = native.contains(" unsigned");
        let ty = logical(data_type, &native, charset.as_deref(), unsigned, &labels, special);
        Self { name, nullable: text(row, 5) == "YES", charset, unsigned, labels, special, ty, native }
    }
}

/// Numbers in the first parentheses of a column type.
fn arguments(native: &str) -> (Option<u32>, Option<u32>) {
    let inside = native.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map_or("", |(inside, _)| inside);
    let mut numbers = inside.split(',').map(|number| number.trim().parse().ok());
    (numbers.next().flatten(), numbers.next().flatten())
}

/// The logical type; the same that [`crate::rows::Kind::ty`] gives for such a column in the binlog.
fn logical(
    data_type: &str,
    native: &str,
    charset: Option<&str>,
    unsigned: bool,
    labels: &[String],
    special: Special,
) -> Type {
    let (first, second) = arguments(native);
    let digits = first.unwrap_or(0) as u8;
    let int = |bits| Type::Int { bits, unsigned };
    match data_type {
        "tinyint" => int(8),
        "smallint" => int(16),
        "mediumint" => int(24),
        "int" => int(32),
        "bigint" => int(64),
        "float" => Type::Float,
        "double" => Type::Double,
        "year" => Type::Year,
        "decimal" => Type::Decimal { precision_scale: Some((first.unwrap_or(10) as u16, second.unwrap_or(0) as i16)) },
        "bit" => Type::Bits { length: Some(first.unwrap_or(1)) },
        "date" => Type::Date,
        "time" => Type::Time { digits },
        "datetime" => Type::DateTime { digits },
        "timestamp" => Type::Instant { digits },
        "enum" => Type::Enum { labels: labels.to_vec() },
        "set" => Type::Set { labels: labels.to_vec() },
        "json" => Type::Json,
        "longtext" if special == Special::JsonText => Type::Json,
        "uuid" => Type::Uuid,
        "inet4" | "inet6" => Type::Other,
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext"
            if charset.is_some_and(|name| name != "binary") =>
        {
            Type::Text
        }
        _ => Type::Bytes,
    }
}

/// Labels of `enum('a','b''c')`.
fn labels(native: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut label: Option<String> = None;
    let mut characters = native.chars().peekable();
    while let Some(character) = characters.next() {
        match (&mut label, character) {
            (None, '\'') => label = Some(String::new()),
            (None, _) => {}
            (Some(text), '\'') if characters.peek() == Some(&'\'') => {
                characters.next();
                text.push('\'');
            }
            (Some(_), '\'') => found.extend(label.take()),
            (Some(text), other) => text.push(other),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_with_their_quotes() {
        assert_eq!(labels("enum('a','b''c','','x,y')"), ["a", "b'c", "", "x,y"]);
        assert_eq!(labels("set('ä')"), ["ä"]);
    }

    #[test]
    fn arguments_of_a_type_are_read() {
        assert_eq!(arguments("decimal(12,2) unsigned"), (Some(12), Some(2)));
        assert_eq!(arguments("datetime(6)"), (Some(6), None));
        assert_eq!(arguments("int unsigned"), (None, None));
    }
}
