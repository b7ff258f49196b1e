//! What a column is, by what the log says of it: how long its values are, what they mean, how they are written in SQL.

use bumpalo::Bump;
use rowcast_core::{DecodeError, Type, Value};

use super::charset::Charset;
use super::labels::Labels;
use super::values::{
    bits, enumerated, fixed, geometry, inet4, inet6, integer, padded, prefixed, set, undecodable, vector,
};
use super::{compressed, decimal, document, json, literal, temporal};
use crate::binlog::rows_event::Width;
use crate::binlog::table_map::{WireType, wire};
use crate::cursor::{Cursor, Short};

/// What the event doesn't say about a column: found in the optional metadata or in the catalog.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attributes {
    pub(crate) unsigned: bool,
    /// Name of the character set; none for columns without one.
    pub(crate) charset: Option<String>,
    pub(crate) labels: Labels,
    pub(crate) special: Special,
}

/// MariaDB's types that look like others in the binlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Special {
    #[default]
    None,
    JsonText,
    Uuid,
    Inet4,
    Inet6,
    Vector,
}

/// What a text is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Plain,
    /// MariaDB's JSON, which is kept as it was written.
    Json,
    /// MySQL's JSON as text: the server's own.
    Document,
}

impl Form {
    /// The value of a decoded text.
    pub(crate) fn value<'a>(self, text: &'a str) -> Result<Value<'a>, DecodeError> {
        match self {
            Form::Plain => Ok(Value::Text(text)),
            Form::Document => Ok(Value::Json(text)),
            Form::Json if document::is_json(text) => Ok(Value::Json(text)),
            Form::Json => Err(DecodeError::row(
                "its text isn't JSON (RFC 8259): the server takes `1.` and unknown escapes, and anything without its check",
            )
            .repair("correct the rows")),
        }
    }
}

/// How the values of one column are read. Prefixes are widths of the length in front.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Int {
        bytes: u8,
        unsigned: bool,
    },
    Float,
    Double,
    Year,
    Decimal {
        precision: u8,
        scale: u8,
    },
    Date,
    Time {
        digits: u8,
    },
    DateTime {
        digits: u8,
    },
    Timestamp {
        digits: u8,
    },
    OldTime {
        digits: u8,
    },
    OldDateTime {
        digits: u8,
    },
    OldTimestamp {
        digits: u8,
    },
    Bits {
        bits: u16,
    },
    Enum {
        width: u8,
        labels: Labels,
    },
    Set {
        width: u8,
        labels: Labels,
    },
    Text {
        prefix: u8,
        charset: Charset,
        name: String,
        form: Form,
        compressed: bool,
    },
    /// `pad`: BINARY(n) loses its trailing zero bytes in the binlog; they are put back.
    Bytes {
        prefix: u8,
        pad: u16,
        compressed: bool,
    },
    Json {
        prefix: u8,
    },
    Geometry {
        prefix: u8,
    },
    Vector {
        prefix: u8,
    },
    Uuid,
    Inet4,
    Inet6,
}

impl Kind {
    /// The kind of a column.
    ///
    /// # Errors
    /// A sentence about a type that isn't supported.
    pub(crate) fn new(column: &WireType, attributes: &Attributes) -> Result<Self, String> {
        let prefix = match column.kind {
            wire::STRING | wire::VARCHAR | wire::VAR_STRING | wire::VARCHAR_COMPRESSED => {
                1 + u8::from(column.length > 255)
            }
            _ => column.a,
        };
        let int = |bytes| Kind::Int { bytes, unsigned: attributes.unsigned };
        Ok(match column.kind {
            wire::TINY => int(1),
            wire::SHORT => int(2),
            wire::INT24 => int(3),
            wire::LONG => int(4),
            wire::LONGLONG => int(8),
            wire::FLOAT => Kind::Float,
            wire::DOUBLE => Kind::Double,
            wire::YEAR => Kind::Year,
            wire::NEWDECIMAL => Kind::Decimal { precision: column.a, scale: column.b },
            wire::DATE | wire::NEWDATE => Kind::Date,
            wire::TIME2 => Kind::Time { digits: column.a },
            wire::DATETIME2 => Kind::DateTime { digits: column.a },
            wire::TIMESTAMP2 => Kind::Timestamp { digits: column.a },
            wire::TIME => Kind::OldTime { digits: column.a },
            wire::DATETIME => Kind::OldDateTime { digits: column.a },
            wire::TIMESTAMP => Kind::OldTimestamp { digits: column.a },
            wire::BIT => Kind::Bits { bits: u16::from(column.b) * 8 + u16::from(column.a) },
            wire::ENUM => Kind::Enum { width: column.a, labels: attributes.labels.clone() },
            wire::SET => Kind::Set { width: column.a, labels: attributes.labels.clone() },
            wire::JSON => Kind::Json { prefix },
            wire::GEOMETRY => Kind::Geometry { prefix },
            wire::VECTOR => Kind::Vector { prefix },
            wire::VARCHAR if attributes.special == Special::Vector => Kind::Vector { prefix },
            wire::STRING if attributes.special == Special::Uuid => Kind::Uuid,
            wire::STRING if attributes.special == Special::Inet4 => Kind::Inet4,
            wire::STRING if attributes.special == Special::Inet6 => Kind::Inet6,
            wire::STRING
            | wire::VARCHAR
            | wire::VAR_STRING
            | wire::BLOB
            | wire::TINY_BLOB
            | wire::MEDIUM_BLOB
            | wire::LONG_BLOB
            | wire::BLOB_COMPRESSED
            | wire::VARCHAR_COMPRESSED => {
                let Some(name) = attributes.charset.clone() else {
                    return Err("its character set isn't known".to_owned());
                };
                let compressed = matches!(column.kind, wire::BLOB_COMPRESSED | wire::VARCHAR_COMPRESSED);
                let form = if attributes.special == Special::JsonText { Form::Json } else { Form::Plain };
                match Charset::named(&name) {
                    Charset::Binary => {
                        let pad = if column.kind == wire::STRING { column.length } else { 0 };
                        Kind::Bytes { prefix, pad, compressed }
                    }
                    charset => Kind::Text { prefix, charset, name, form, compressed },
                }
            }
            other => return Err(format!("binlog type {other} is not supported")),
        })
    }

    /// The logical type of the values.
    pub(crate) fn ty(&self) -> Type {
        match self {
            Kind::Int { bytes, unsigned } => Type::Int { bits: bytes * 8, unsigned: *unsigned },
            Kind::Float => Type::Float,
            Kind::Double => Type::Double,
            Kind::Year => Type::Year,
            Kind::Decimal { precision, scale } => {
                Type::Decimal { precision_scale: Some((u16::from(*precision), i16::from(*scale))) }
            }
            Kind::Date => Type::Date,
            Kind::Time { digits } | Kind::OldTime { digits } => Type::Time { digits: *digits },
            Kind::DateTime { digits } | Kind::OldDateTime { digits } => Type::DateTime { digits: *digits },
            Kind::Timestamp { digits } | Kind::OldTimestamp { digits } => Type::Instant { digits: *digits },
            Kind::Bits { bits } => Type::Bits { length: Some(u32::from(*bits)) },
            Kind::Enum { labels, .. } => Type::Enum { labels: labels.shown() },
            Kind::Set { labels, .. } => Type::Set { labels: labels.shown() },
            Kind::Text { form: Form::Plain, .. } => Type::Text,
            Kind::Bytes { .. } => Type::Bytes,
            Kind::Json { .. } | Kind::Text { form: Form::Json | Form::Document, .. } => Type::Json,
            Kind::Geometry { .. } => Type::Geometry,
            Kind::Vector { .. } => Type::Vector,
            Kind::Uuid => Type::Uuid,
            Kind::Inet4 | Kind::Inet6 => Type::Other,
        }
    }

    /// How many bytes a value takes; what [`crate::binlog::rows_event::width`] says of the column.
    pub(crate) fn width(&self) -> Width {
        match self {
            Kind::Int { bytes, .. } => Width::Fixed(*bytes),
            Kind::Float => Width::Fixed(4),
            Kind::Double => Width::Fixed(8),
            Kind::Year => Width::Fixed(1),
            // A precision that can't be was refused when the table map was read.
            Kind::Decimal { precision, scale } => Width::Fixed(decimal::size(*precision, *scale).unwrap_or(0)),
            Kind::Date => Width::Fixed(3),
            Kind::Time { digits } => Width::Fixed(3 + digits.div_ceil(2)),
            Kind::DateTime { digits } => Width::Fixed(5 + digits.div_ceil(2)),
            Kind::Timestamp { digits } => Width::Fixed(4 + digits.div_ceil(2)),
            Kind::OldTime { digits } => Width::Fixed(temporal::old_time_size(*digits)),
            Kind::OldDateTime { digits } => Width::Fixed(temporal::old_datetime_size(*digits)),
            Kind::OldTimestamp { digits } => Width::Fixed(temporal::old_timestamp_size(*digits)),
            Kind::Bits { bits } => Width::Fixed(bits.div_ceil(8) as u8),
            Kind::Enum { width, .. } | Kind::Set { width, .. } => Width::Fixed(*width),
            Kind::Text { prefix, .. }
            | Kind::Bytes { prefix, .. }
            | Kind::Json { prefix }
            | Kind::Geometry { prefix }
            | Kind::Vector { prefix } => Width::Prefixed(*prefix),
            Kind::Uuid | Kind::Inet4 | Kind::Inet6 => Width::Prefixed(1),
        }
    }

    /// A document that may be logged by its differences.
    pub(crate) fn is_document(&self) -> bool {
        matches!(self, Kind::Json { .. })
    }

    /// The bytes of a document or of its differences; none if it is no document. The cursor goes on in any case.
    pub(crate) fn document<'a>(&self, at: &mut Cursor<'a>) -> Result<Option<&'a [u8]>, Short> {
        match self {
            Kind::Json { prefix } => prefixed(at, *prefix).map(Some),
            other => crate::binlog::rows_event::skip(at, other.width()).map(|_| None),
        }
    }

    /// The SQL literal of a value that isn't NULL, by its bytes with the length in front, if there is one.
    pub(crate) fn literal(&self, bytes: &[u8]) -> Result<Option<String>, DecodeError> {
        let arena = Bump::new();
        let mut at = Cursor::new(bytes);
        Ok(match self {
            Kind::Enum { width, .. } | Kind::Set { width, .. } => Some(at.uint(usize::from(*width))?.to_string()),
            Kind::Text { prefix, name, form: Form::Plain, compressed: false, .. } => {
                Some(literal::text(name, prefixed(&mut at, *prefix)?))
            }
            // Never in a key, and dear to decode.
            Kind::Json { .. } | Kind::Text { .. } | Kind::Bytes { compressed: true, .. } => None,
            _ => literal::of(&self.value(&mut at, &arena)?),
        })
    }

    /// One value that isn't NULL.
    #[inline]
    pub(crate) fn value<'a>(&'a self, at: &mut Cursor<'a>, arena: &'a Bump) -> Result<Value<'a>, DecodeError> {
        Ok(match self {
            Kind::Int { bytes, unsigned } => integer(at, *bytes, *unsigned)?,
            Kind::Float => Value::Float(f32::from_le_bytes(at.array()?)),
            Kind::Double => Value::Double(f64::from_le_bytes(at.array()?)),
            Kind::Year => match at.u8()? {
                0 => Value::UInt(0),
                since => Value::UInt(1900 + u64::from(since)),
            },
            Kind::Decimal { precision, scale } => {
                let size = decimal::size(*precision, *scale).ok_or(Short)?;
                let bytes = at.take(usize::from(size))?;
                Value::Decimal(decimal::text(bytes, *precision, *scale, arena).ok_or(Short)?)
            }
            Kind::Date => Value::Date(temporal::date(at.u24()?)?),
            Kind::Time { digits } => temporal::time2(at, *digits)?,
            Kind::DateTime { digits } => temporal::datetime2(at, *digits)?,
            Kind::Timestamp { digits } => temporal::timestamp2(at, *digits)?,
            Kind::OldTime { digits } => temporal::old_time(at, *digits)?,
            Kind::OldDateTime { digits } => temporal::old_datetime(at, *digits)?,
            Kind::OldTimestamp { digits } => temporal::old_timestamp(at, *digits)?,
            Kind::Bits { bits: count } => bits(at.take(usize::from(count.div_ceil(8)))?, usize::from(*count), arena),
            Kind::Enum { width, labels } => enumerated(at.uint(usize::from(*width))?, labels)?,
            Kind::Set { width, labels } => set(at.uint(usize::from(*width))?, labels, arena)?,
            Kind::Text { prefix, charset, name, form, compressed } => {
                let bytes = unpacked(prefixed(at, *prefix)?, *compressed, arena)?;
                form.value(charset.decode(bytes, arena).ok_or_else(|| undecodable(*charset, name))?)?
            }
            Kind::Bytes { prefix, pad, compressed } => {
                let bytes = unpacked(prefixed(at, *prefix)?, *compressed, arena)?;
                Value::Bytes(if bytes.len() < usize::from(*pad) {
                    padded(bytes, usize::from(*pad), arena)
                } else {
                    bytes
                })
            }
            Kind::Json { prefix } => {
                let bytes = prefixed(at, *prefix)?;
                Value::Json(json::text(bytes, arena).ok_or_else(|| DecodeError::row("damaged binary JSON"))?)
            }
            Kind::Geometry { prefix } => geometry(prefixed(at, *prefix)?)?,
            Kind::Vector { prefix } => vector(prefixed(at, *prefix)?, arena)?,
            Kind::Uuid => Value::Uuid(fixed(prefixed(at, 1)?)?),
            Kind::Inet4 => inet4(fixed(prefixed(at, 1)?)?, arena),
            Kind::Inet6 => inet6(fixed(prefixed(at, 1)?)?, arena),
        })
    }
}

#[inline]
fn unpacked<'a>(bytes: &'a [u8], compressed: bool, arena: &'a Bump) -> Result<&'a [u8], DecodeError> {
    if compressed {
        compressed::plain(bytes, arena).ok_or_else(|| DecodeError::row("damaged compressed data"))
    } else {
        Ok(bytes)
    }
}
