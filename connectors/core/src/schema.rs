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
    /// Whether NULL is allowed; none where the log doesn't say.
    pub nullable: Option<bool>,
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
    /// Equal for equal schemas, whenever and wherever computed: names, types, nullability and key.
    pub fingerprint: u64,
    decoder: Box<dyn RowDecoder>,
}

impl Table {
    /// A table version. Key indexes that don't name a column are dropped.
    pub fn new(name: TableName, columns: Vec<Column>, key: Vec<usize>, decoder: Box<dyn RowDecoder>) -> Self {
        let key: Vec<usize> = key.into_iter().filter(|index| *index < columns.len()).collect();
        let fingerprint = fingerprint(&name, &columns, &key);
        Self { name, columns, key, fingerprint, decoder }
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
    let mut add = |text: &str| {
        for byte in text.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
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
    }
    for index in key {
        add(&index.to_string());
    }
    hash
}
