//! Tables as information_schema describes them now, which may be later than the row event that asks.
//!
//! So what is found here only adds to what the event itself says, and only if both agree on every column
//! ([`super::columns`]).
//!
//! A table's key is its primary key; without one, the unique index that InnoDB stores the rows by: the first, in the
//! server's order of indexes, whose columns are all NOT NULL and whole. Stream and backfill take the same.

use rowcast_core::{Column, ColumnFacts, Table, TableFacts, TableName, Type};

use super::{describe, literal};
use crate::connection::Rows;
use crate::rows::labels::Labels;
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
    pub(crate) labels: Labels,
    pub(crate) special: Special,
    pub(crate) ty: Type,
    /// What schemas say besides, if it was asked for.
    pub(crate) facts: Option<Box<ColumnFacts>>,
}

/// A table of information_schema.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct CatalogTable {
    pub(crate) columns: Vec<CatalogColumn>,
    /// Columns of the key in its order; empty if there is none.
    pub(crate) key: Vec<usize>,
    /// The index that the key is of.
    pub(crate) index: Option<Index>,
    /// What schemas say of it besides, if it was asked for.
    pub(crate) facts: Option<Box<TableFacts>>,
    /// MariaDB: system-versioned; the columns of its period may be hidden from information_schema.
    pub(crate) versioned: bool,
}

/// An index by which rows are told apart.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Index {
    pub(crate) name: String,
    /// Per column of the key: sorted from the greatest.
    pub(crate) descending: Vec<bool>,
    /// False if some column is indexed by its beginning only: the index doesn't sort by it then.
    pub(crate) whole: bool,
}

/// Kind of table, and when it was made or altered last, in seconds since 1970.
pub(crate) fn about_sql(name: &TableName) -> String {
    format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, UNIX_TIMESTAMP(CREATE_TIME) FROM information_schema.TABLES \
         WHERE TABLE_SCHEMA={} AND TABLE_NAME={}",
        literal(&name.db),
        literal(&name.table)
    )
}

pub(crate) fn columns_sql(name: &TableName) -> String {
    format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, IS_NULLABLE, CHARACTER_SET_NAME \
         FROM information_schema.COLUMNS WHERE TABLE_SCHEMA={} AND TABLE_NAME={} ORDER BY ORDINAL_POSITION",
        literal(&name.db),
        literal(&name.table)
    )
}

/// All unique indexes that may be a key; invisible ones, which can't be asked for by name, only if primary.
pub(crate) fn key_sql(name: &TableName, maria: bool) -> String {
    format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, INDEX_NAME, SUB_PART, NULLABLE, COLLATION \
         FROM information_schema.STATISTICS WHERE TABLE_SCHEMA={} AND TABLE_NAME={} AND NON_UNIQUE=0 AND \
         (INDEX_NAME='PRIMARY' OR INDEX_TYPE='BTREE'{}) ORDER BY INDEX_NAME, SEQ_IN_INDEX",
        literal(&name.db),
        literal(&name.table),
        if maria { "" } else { " AND IS_VISIBLE='YES'" }
    )
}

/// The server's order of the indexes, which decides where several may be the key.
pub(crate) fn order_sql(name: &TableName) -> String {
    let quoted = |name: &str| name.replace('`', "``");
    format!("SHOW INDEX FROM `{}`.`{}`", quoted(&name.db), quoted(&name.table))
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
    /// `keys`, `checks` and `order` are the answers to the statements above; `order` may be empty unless [`is_ambiguous`].
    pub(crate) fn new(
        name: &TableName,
        maria: bool,
        columns: &Rows,
        keys: &Rows,
        checks: &Rows,
        order: &Rows,
    ) -> Option<Self> {
        // information_schema compares names without case; tables may differ only in it.
        let ours = |row: &&Vec<Option<String>>| text(row, 0) == &*name.db && text(row, 1) == &*name.table;
        let json: Vec<&str> = checks.iter().filter(ours).map(|row| text(row, 2)).collect();
        let columns: Vec<CatalogColumn> =
            columns.iter().filter(ours).map(|row| CatalogColumn::new(row, maria, &json)).collect();
        if columns.is_empty() {
            return None;
        }
        let candidates = candidates(name, keys);
        let ordinal = |name: &str| order.iter().position(|row| text(row, 2) == name).unwrap_or(usize::MAX);
        let chosen = candidates.iter().min_by_key(|(name, _)| (*name != PRIMARY, ordinal(name), *name));
        let Some((index, rows)) = chosen else { return Some(Self { columns, ..Self::default() }) };
        let place = |row: &&Vec<Option<String>>| columns.iter().position(|column| column.name == text(row, 2));
        let key: Vec<usize> = rows.iter().filter_map(place).collect();
        let index = Index {
            name: (*index).to_owned(),
            descending: rows.iter().map(|row| text(row, 6) == "D").collect(),
            whole: rows.iter().all(|row| is_null(row, 4)) && key.len() == rows.len(),
        };
        Some(Self { columns, key, index: Some(index), ..Self::default() })
    }

    /// Whether its key is the primary one.
    pub(crate) fn has_primary_key(&self) -> bool {
        self.index.as_ref().is_some_and(|index| index.name == PRIMARY)
    }

    /// Its columns are described as schemas need it.
    pub(crate) fn is_described(&self) -> bool {
        self.columns.iter().any(|column| column.facts.is_some())
    }

    /// The same without what schemas say besides.
    pub(crate) fn undescribed(&self) -> Self {
        let columns = self.columns.iter().cloned();
        Self {
            columns: columns.map(|column| CatalogColumn { facts: None, ..column }).collect(),
            facts: None,
            ..self.clone()
        }
    }

    /// A version of the table with what schemas say of it besides.
    pub(crate) fn described(&self, version: Table) -> Table {
        match &self.facts {
            Some(facts) => version.described(TableFacts::clone(facts)),
            None => version,
        }
    }

    /// The table with as many columns as a row event has: a system-versioned table's period, if its columns are hidden, is behind all
    /// others, and its end is part of the key, so that every version of a row has a key of its own.
    pub(crate) fn with_period(self, columns: usize) -> Self {
        if !self.versioned || self.columns.len() + 2 != columns {
            return self;
        }
        let mut whole = self;
        for name in ["row_start", "row_end"] {
            let row = ["", "", name, "timestamp", "timestamp(6)", "NO"].map(|cell| Some(cell.to_owned()));
            whole.columns.push(CatalogColumn::new(&row, true, &[]));
        }
        if !whole.key.is_empty() {
            whole.key.push(columns - 1);
        }
        whole
    }

    /// A version for a TRUNCATE; no row of it has been seen.
    pub(crate) fn into_table(self, name: TableName) -> Table {
        let columns = self.columns.iter().map(CatalogColumn::column).collect();
        let version = Table::new(name, columns, self.key.clone(), Box::new(NoRows));
        self.described(version)
    }
}

impl CatalogColumn {
    /// As versions have it.
    pub(crate) fn column(&self) -> Column {
        Column {
            name: self.name.clone(),
            ty: self.ty.clone(),
            native: self.native.clone(),
            nullable: Some(self.nullable),
            facts: self.facts.clone(),
        }
    }
}

const PRIMARY: &str = "PRIMARY";

/// Indexes that may be the key, with their rows: the primary one, or all whose columns are not NULL and whole.
fn candidates<'a>(name: &TableName, keys: &'a Rows) -> Vec<(&'a str, Vec<&'a Vec<Option<String>>>)> {
    let mut found: Vec<(&str, Vec<&Vec<Option<String>>>)> = Vec::new();
    for row in keys.iter().filter(|row| text(row, 0) == &*name.db && text(row, 1) == &*name.table) {
        match found.iter_mut().find(|(index, _)| *index == text(row, 3)) {
            Some((_, rows)) => rows.push(row),
            None => found.push((text(row, 3), vec![row])),
        }
    }
    // No column name: an expression. NULLABLE is empty or NO.
    let fits = |row: &&Vec<Option<String>>| !is_null(row, 2) && is_null(row, 4) && text(row, 5) != "YES";
    if found.iter().any(|(index, _)| *index == PRIMARY) {
        found.retain(|(index, _)| *index == PRIMARY);
    } else {
        found.retain(|(_, rows)| rows.iter().all(fits));
    }
    found
}

/// Whether the server's order of the indexes has to decide.
pub(crate) fn is_ambiguous(name: &TableName, keys: &Rows) -> bool {
    candidates(name, keys).len() > 1
}

fn is_null(row: &[Option<String>], index: usize) -> bool {
    row.get(index).is_none_or(Option::is_none)
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
            "vector" if maria => Special::Vector,
            "longtext" if maria && checks.iter().any(|check| *check == json_check) => Special::JsonText,
            _ => Special::None,
        };
        let labels = match data_type {
            "enum" | "set" => Labels::of_type(&native, charset.as_deref()),
            _ => Labels::default(),
        };
        let unsigned = native.contains(" unsigned");
        let ty = logical(data_type, &native, charset.as_deref(), unsigned, &labels, special);
        let facts = describe::facts(row, maria);
        Self { name, nullable: text(row, 5) == "YES", charset, unsigned, labels, special, ty, native, facts }
    }
}

/// Numbers in the first parentheses of a column type.
pub(crate) fn arguments(native: &str) -> (Option<u32>, Option<u32>) {
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
    labels: &Labels,
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
        "enum" => Type::Enum { labels: labels.shown() },
        "set" => Type::Set { labels: labels.shown() },
        "json" => Type::Json,
        "longtext" if special == Special::JsonText => Type::Json,
        "uuid" => Type::Uuid,
        "inet4" | "inet6" => Type::Other,
        "vector" => Type::Vector,
        "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring" | "multipolygon"
        | "geometrycollection" | "geomcollection" => Type::Geometry,
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" | "xmltype"
            if charset.is_some_and(|name| name != "binary") =>
        {
            Type::Text
        }
        _ => Type::Bytes,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rows(cells: &[&[&str]]) -> Rows {
        let cell = |cell: &&str| if *cell == "-" { None } else { Some((*cell).to_owned()) };
        cells.iter().map(|row| row.iter().map(cell).collect()).collect()
    }

    fn key(keys: &[&[&str]], order: &[&str]) -> (Vec<usize>, Option<String>) {
        let name = TableName { db: "d".into(), schema: None, table: "t".into() };
        let columns = rows(&[&["d", "t", "a", "int", "int", "NO", "-"], &["d", "t", "b", "int", "int", "NO", "-"]]);
        let order: Vec<Vec<&str>> = order.iter().map(|index| vec!["t", "0", index]).collect();
        let order: Vec<&[&str]> = order.iter().map(Vec::as_slice).collect();
        let found = CatalogTable::new(&name, false, &columns, &rows(keys), &Rows::new(), &rows(&order)).unwrap();
        (found.key, found.index.map(|index| index.name))
    }

    #[test]
    fn the_key_is_the_primary_or_the_first_whole_unique_index_without_nulls() {
        let (a, b) = (["d", "t", "a", "ua", "-", "", "A"], ["d", "t", "b", "ub", "-", "", "D"]);
        assert_eq!(key(&[&a, &b], &["ub", "ua"]), (vec![1], Some("ub".to_owned())));
        assert_eq!(key(&[&a, &b], &["ua", "ub"]), (vec![0], Some("ua".to_owned())));
        assert_eq!(key(&[&["d", "t", "b", "PRIMARY", "-", "", "A"], &a], &["ua"]), (vec![1], Some("PRIMARY".into())));
        for unfit in [
            ["d", "t", "a", "u", "5", "", "A"],
            ["d", "t", "a", "u", "-", "YES", "A"],
            ["d", "t", "-", "u", "-", "", "A"],
            ["d", "T", "a", "u", "-", "", "A"],
        ] {
            assert_eq!(key(&[&unfit], &[]), (vec![], None), "{unfit:?}");
            assert_eq!(
                key(&[&unfit, &["d", "t", "b", "u", "-", "", "A"], &a], &[]),
                if unfit[1] == "T" { (vec![1], Some("u".to_owned())) } else { (vec![0], Some("ua".to_owned())) }
            );
        }
        let prefix = ["d", "t", "a", "PRIMARY", "5", "", "A"];
        assert_eq!(key(&[&prefix, &b], &[]), (vec![0], Some("PRIMARY".to_owned())));
    }

    #[test]
    fn types_of_newer_and_older_servers_are_known_by_their_documentation() {
        let column = |ty: &str, native: &str, charset: &str| {
            let rows = rows(&[&["d", "t", "c", ty, native, "YES", charset]]);
            let found = CatalogColumn::new(rows.first().unwrap(), true, &[]);
            (found.ty, found.special)
        };
        assert_eq!(column("vector", "vector(3)", "-"), (Type::Vector, Special::Vector));
        assert_eq!(column("xmltype", "xmltype", "utf8mb4"), (Type::Text, Special::None));
        assert_eq!(column("time", "time(3) /* mariadb-5.3 */", "-"), (Type::Time { digits: 3 }, Special::None));
        assert_eq!(column("varchar", "varchar(100) /*M!100301 COMPRESSED*/", "utf8mb4"), (Type::Text, Special::None));
        assert_eq!(column("geomcollection", "geomcollection", "-"), (Type::Geometry, Special::None));
    }

    #[test]
    fn arguments_of_a_type_are_read() {
        assert_eq!(arguments("decimal(12,2) unsigned"), (Some(12), Some(2)));
        assert_eq!(arguments("datetime(6)"), (Some(6), None));
        assert_eq!(arguments("int unsigned"), (None, None));
    }
}
