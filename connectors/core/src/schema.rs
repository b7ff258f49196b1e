//! Tables as the log describes them: one immutable [`Table`] per version of a table's schema.
//!
//! A connector builds a `Table` once, when it meets a new version, together with the plan that decodes its
//! rows; every row of that version shares it. A table whose columns change is another `Table`.

use std::fmt;
use std::sync::Arc;

use bumpalo::Bump;

use crate::error::DecodeError;
use crate::event::Image;
use crate::value::Value;

/// The full name of a table. Ordered and hashable: it identifies a table within one source.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// Database.
    pub db: Arc<str>,
    /// Schema; none in MySQL and MariaDB, where database and schema are the same thing.
    pub schema: Option<Arc<str>>,
    /// Table.
    pub table: Arc<str>,
}

impl TableName {
    /// The part that qualifies the table in the configuration's patterns: the schema, else the database.
    pub fn qualifier(&self) -> &str {
        self.schema.as_deref().unwrap_or(&self.db)
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.qualifier(), self.table)
    }
}

/// The logical type of a column: what its values are, whichever server they come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    /// [`Value::Bool`].
    Bool,
    /// [`Value::Int`] or [`Value::UInt`].
    Int {
        /// Width in bits: 8, 16, 24, 32 or 64.
        bits: u8,
        /// True if values are [`Value::UInt`].
        unsigned: bool,
    },
    /// [`Value::Float`].
    Float,
    /// [`Value::Double`].
    Double,
    /// [`Value::Decimal`]; without precision and scale where the server declares none.
    Decimal {
        /// Total digits and digits after the point.
        precision_scale: Option<(u16, i16)>,
    },
    /// [`Value::Text`].
    Text,
    /// [`Value::Bytes`].
    Bytes,
    /// [`Value::Bits`].
    Bits {
        /// Declared length; none for PostgreSQL's unlimited `varbit`.
        length: Option<u32>,
    },
    /// [`Value::Date`].
    Date,
    /// [`Value::Time`].
    Time {
        /// Declared fraction digits.
        digits: u8,
    },
    /// [`Value::TimeTz`].
    TimeTz {
        /// Declared fraction digits.
        digits: u8,
    },
    /// [`Value::DateTime`].
    DateTime {
        /// Declared fraction digits.
        digits: u8,
    },
    /// [`Value::Instant`].
    Instant {
        /// Declared fraction digits.
        digits: u8,
    },
    /// [`Value::Interval`].
    Interval,
    /// [`Value::UInt`], MySQL's `year`.
    Year,
    /// [`Value::Uuid`].
    Uuid,
    /// [`Value::Json`].
    Json,
    /// [`Value::Enum`].
    Enum {
        /// Labels in order of definition; empty where the server keeps them elsewhere.
        labels: Vec<String>,
    },
    /// [`Value::Set`].
    Set {
        /// Labels in order of definition.
        labels: Vec<String>,
    },
    /// [`Value::Array`] of this type.
    Array(Box<Type>),
    /// [`Value::Range`] of this type.
    Range(Box<Type>),
    /// [`Value::Array`] of [`Value::Range`]s of this type.
    Multirange(Box<Type>),
    /// [`Value::Object`] with these attributes.
    Composite(Vec<(String, Type)>),
    /// [`Value::Object`] with texts or NULLs.
    Map,
    /// [`Value::Geometry`].
    Geometry,
    /// [`Value::Vector`] or [`Value::SparseVector`].
    Vector,
    /// [`Value::Other`] (the server's text) or [`Value::Bytes`]; [`Column::native`] says what it is.
    Other,
}

impl Type {
    /// The type's name in published schemas.
    pub fn name(&self) -> &'static str {
        match self {
            Type::Bool => "bool",
            Type::Int { unsigned: false, .. } => "int",
            Type::Int { unsigned: true, .. } => "uint",
            Type::Float => "float",
            Type::Double => "double",
            Type::Decimal { .. } => "decimal",
            Type::Text => "text",
            Type::Bytes => "bytes",
            Type::Bits { .. } => "bits",
            Type::Date => "date",
            Type::Time { .. } => "time",
            Type::TimeTz { .. } => "timetz",
            Type::DateTime { .. } => "datetime",
            Type::Instant { .. } => "instant",
            Type::Interval => "interval",
            Type::Year => "year",
            Type::Uuid => "uuid",
            Type::Json => "json",
            Type::Enum { .. } => "enum",
            Type::Set { .. } => "set",
            Type::Array(_) => "array",
            Type::Range(_) => "range",
            Type::Multirange(_) => "multirange",
            Type::Composite(_) => "composite",
            Type::Map => "map",
            Type::Geometry => "geometry",
            Type::Vector => "vector",
            Type::Other => "other",
        }
    }
}

/// One column of a table version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Name as the server has it.
    pub name: String,
    /// Logical type.
    pub ty: Type,
    /// The server's own name of the type, with its modifiers: `numeric(12,2)`, `int unsigned`.
    pub native: String,
    /// Whether NULL is allowed; none where the log doesn't say, and the catalog wasn't asked.
    pub nullable: Option<bool>,
    /// What the catalog says of it besides; none unless the connector is asked for it (`Options::describe`), and of columns that the
    /// catalog has no more. It says what is now: a part of published schemas, never of a value.
    pub facts: Option<Box<ColumnFacts>>,
}

/// What a server's catalog says of a column besides what its values need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnFacts {
    /// The DEFAULT; none if there is none, or it is NULL, or the column is generated.
    pub default: Option<ColumnDefault>,
    /// Declared length, precision or fraction digits: the first number of the type's modifiers.
    pub length: Option<u32>,
    /// Declared scale: the second one.
    pub scale: Option<i32>,
    /// MySQL and MariaDB: character set of text.
    pub charset: Option<String>,
    /// MySQL and MariaDB: its collation.
    pub collation: Option<String>,
    /// Its values are computed from other columns.
    pub generated: bool,
    /// The server counts its values up: AUTO_INCREMENT, an identity, a default of `nextval`.
    pub auto_increment: bool,
    /// Its comment; none if there is none.
    pub comment: Option<String>,
    /// PostgreSQL: its type in the catalog.
    pub pg: Option<PgType>,
}

/// What a server's catalog says of a table besides what its rows need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableFacts {
    /// Columns of the primary key, in key order; empty if there is none. [`Table::key`] may be another: PostgreSQL's replica identity.
    pub primary_key: Vec<usize>,
    /// PostgreSQL: columns of the first unique index by name that isn't over expressions, or over some rows only, in its order, NULLs
    /// allowed; empty if there is none.
    pub unique_key: Vec<usize>,
    /// MySQL and MariaDB: the table's default character set.
    pub charset: Option<String>,
    /// Its comment; none if there is none.
    pub comment: Option<String>,
}

/// A column's DEFAULT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnDefault {
    /// As the catalog has it: PostgreSQL an expression in SQL (`'a'::text`), MySQL a constant without quotes or an expression, MariaDB an
    /// expression in SQL.
    pub sql: String,
    /// What it comes to.
    pub value: DefaultValue,
}

/// What a DEFAULT comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DefaultValue {
    /// Always this value, in the text that [`Table::text_value`] reads.
    Constant(String),
    /// The current time, or (PostgreSQL) what a function gives.
    Call,
    /// Any other expression.
    Expression,
}

/// A type of PostgreSQL's catalog, as far as schemas depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgType {
    /// Its oid.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// `typname`: `int4`, `_text`, `hstore`.
    pub name: String,
    /// Its modifier; -1 if there is none.
    pub typmod: i32,
    /// `typtype`: `b` base, `c` composite, `d` domain, `e` enum, `r` range, `m` multirange.
    pub kind: char,
    /// What a domain is made of, with the domain's modifier.
    pub base: Option<Box<PgType>>,
    /// Of an array, its elements, with the array's modifier.
    pub element: Option<Box<PgType>>,
}

/// Decodes the row images of one table version. Built by the connector, called by the encoder.
///
/// Implementations never panic, never read outside `data`, and allocate only in `arena`.
pub trait RowDecoder: Send + Sync + fmt::Debug {
    /// Appends one value per column of the table to `row`.
    ///
    /// `data` is the batch's bytes that `image` points into.
    ///
    /// # Errors
    /// If the bytes aren't a row of this table version.
    fn decode<'a>(
        &'a self,
        data: &'a [u8],
        image: Image,
        arena: &'a Bump,
        row: &mut Vec<Value<'a>>,
    ) -> Result<(), DecodeError>;

    /// The columns of a row as SQL literals that the server reads back as exactly these values; none if the image lacks one
    /// of them or can't be read.
    fn literals(&self, data: &[u8], image: Image, columns: &[usize]) -> Option<Vec<String>>;

    /// The value of a column of this type that the server writes as this text ([`DefaultValue::Constant`]); none if it can't be read.
    fn text_value<'a>(&'a self, column: usize, ty: &Type, text: &'a str, arena: &'a Bump) -> Option<Value<'a>> {
        let _ = (column, ty, text, arena);
        None
    }
}

/// One version of a table's schema, with the plan that decodes its rows.
#[derive(Debug)]
pub struct Table {
    /// Full name.
    pub name: TableName,
    /// Columns in the order of the row images.
    pub columns: Vec<Column>,
    /// Indexes into `columns` of the key columns, in key order; empty if the table has no key.
    pub key: Vec<usize>,
    /// What the catalog says of the table besides; none unless the connector is asked for it (`Options::describe`).
    pub facts: Option<Box<TableFacts>>,
    /// Equal for equal schemas, whenever and wherever computed: names, types, nullability, facts and key.
    pub fingerprint: u64,
    decoder: Box<dyn RowDecoder>,
}

impl Table {
    /// A table version. Key indexes that don't name a column are dropped.
    pub fn new(name: TableName, columns: Vec<Column>, key: Vec<usize>, decoder: Box<dyn RowDecoder>) -> Self {
        let key: Vec<usize> = key.into_iter().filter(|index| *index < columns.len()).collect();
        let fingerprint = fingerprint(&name, &columns, &key);
        Self { name, columns, key, facts: None, fingerprint, decoder }
    }

    /// The same with what the catalog says of the table besides.
    #[must_use]
    pub fn described(mut self, facts: TableFacts) -> Self {
        self.fingerprint = hashed(self.fingerprint, &format!("{facts:?}"));
        Self { facts: Some(Box::new(facts)), ..self }
    }

    /// Decodes a row image into one value per column; `row` is cleared first.
    ///
    /// # Errors
    /// If the bytes aren't a row of this table; the message names table and column.
    pub fn decode<'a>(
        &'a self,
        data: &'a [u8],
        image: Image,
        arena: &'a Bump,
        row: &mut Vec<Value<'a>>,
    ) -> Result<(), DecodeError> {
        row.clear();
        self.decoder.decode(data, image, arena, row)?;
        if row.len() == self.columns.len() {
            Ok(())
        } else {
            Err(DecodeError::row(format!("{} values for {} columns", row.len(), self.columns.len())))
        }
    }

    /// The constant that is a column's DEFAULT; none if there is none, or it is no constant, or it can't be read.
    pub fn default_value<'a>(&'a self, column: usize, arena: &'a Bump) -> Option<Value<'a>> {
        match &self.columns.get(column)?.facts.as_ref()?.default.as_ref()?.value {
            DefaultValue::Constant(text) => self.text_value(column, text, arena),
            DefaultValue::Call | DefaultValue::Expression => None,
        }
    }

    /// The value of a column that the server writes as this text; none if it can't be read.
    pub fn text_value<'a>(&'a self, column: usize, text: &'a str, arena: &'a Bump) -> Option<Value<'a>> {
        self.decoder.text_value(column, &self.columns.get(column)?.ty, text, arena)
    }

    /// A row's key as SQL literals, in key order, each column from the first of the images that has it; none if one of them is
    /// in no image, or the table has no key.
    pub fn key_literals(&self, data: &[u8], images: &[Image]) -> Option<Vec<String>> {
        let literal = |column: &usize| {
            let mut found = images.iter().filter_map(|image| self.decoder.literals(data, *image, &[*column]));
            found.next().and_then(|literals| literals.into_iter().next())
        };
        if self.key.is_empty() { None } else { self.key.iter().map(literal).collect() }
    }

    /// The key columns, in key order.
    pub fn key_columns(&self) -> impl Iterator<Item = &Column> {
        self.key.iter().filter_map(|index| self.columns.get(*index))
    }
}

/// 64-bit FNV-1a over a canonical rendering: stable across versions of Rust and of Rowcast.
fn fingerprint(name: &TableName, columns: &[Column], key: &[usize]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut add = |text: &str| hash = hashed(hash, text);
    add(&name.db);
    add(name.schema.as_deref().unwrap_or(""));
    add(&name.table);
    for column in columns {
        add(&column.name);
        add(&column.native);
        add(&format!("{:?}", column.ty));
        add(match column.nullable {
            None => "?",
            Some(true) => "null",
            Some(false) => "not null",
        });
        if let Some(facts) = &column.facts {
            add(&format!("{facts:?}"));
        }
    }
    for index in key {
        add(&index.to_string());
    }
    hash
}

/// Takes a text, and that it ends, into the hash.
fn hashed(hash: u64, text: &str) -> u64 {
    text.bytes().chain([0]).fold(hash, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
