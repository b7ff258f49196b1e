//! Rows: from the bytes of an image to values, by a plan that is made once per table version.
//!
//! ```text
//! present bitmap (of the event) | null bitmap, values (of the row)  ──plan──►  one Value per column
//! ```
//!
//! Text in UTF-8 and bytes are borrowed; decimals, JSON and text of other character sets are written into the arena.
//! Damage is a [`DecodeError`] that names the column, never a panic and never a guess.

pub(crate) mod charset;
pub(crate) mod decimal;
pub(crate) mod json;
pub(crate) mod literal;
pub(crate) mod select;
pub(crate) mod temporal;

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use bumpalo::Bump;
use bumpalo::collections::String as Text;
use rowcast_core::{DecodeError, Image, RowDecoder, Type, Value};

use crate::binlog::table_map::{WireType, bit, wire};
use crate::cursor::{Cursor, Short};
use charset::Charset;

impl From<Short> for DecodeError {
    #[cold]
    fn from(_: Short) -> Self {
        DecodeError::row("the bytes aren't a value of the column's type")
    }
}

/// What the event doesn't say about a column: found in the optional metadata or in the catalog.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attributes {
    pub(crate) unsigned: bool,
    /// Name of the character set; none for columns without one.
    pub(crate) charset: Option<String>,
    pub(crate) labels: Vec<String>,
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
}

/// How the values of one column are read.
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
    OldTime,
    OldDateTime,
    OldTimestamp,
    Bits {
        bits: u16,
    },
    Enum {
        width: u8,
        labels: Vec<String>,
    },
    Set {
        width: u8,
        labels: Vec<String>,
    },
    Text {
        prefix: u8,
        charset: Charset,
        name: String,
    },
    /// `pad`: BINARY(n) loses its trailing zero bytes in the binlog; they are put back.
    Bytes {
        prefix: u8,
        pad: u16,
    },
    Json {
        prefix: u8,
    },
    JsonText {
        prefix: u8,
        charset: Charset,
        name: String,
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
            wire::STRING | wire::VARCHAR | wire::VAR_STRING => 1 + u8::from(column.length > 255),
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
            wire::TIME => Kind::OldTime,
            wire::DATETIME => Kind::OldDateTime,
            wire::TIMESTAMP => Kind::OldTimestamp,
            wire::BIT => Kind::Bits { bits: u16::from(column.b) * 8 + u16::from(column.a) },
            wire::ENUM => Kind::Enum { width: column.a, labels: attributes.labels.clone() },
            wire::SET => Kind::Set { width: column.a, labels: attributes.labels.clone() },
            wire::JSON => Kind::Json { prefix },
            wire::GEOMETRY | wire::VECTOR => Kind::Bytes { prefix, pad: 0 },
            wire::STRING if attributes.special == Special::Uuid => Kind::Uuid,
            wire::STRING if attributes.special == Special::Inet4 => Kind::Inet4,
            wire::STRING if attributes.special == Special::Inet6 => Kind::Inet6,
            wire::STRING
            | wire::VARCHAR
            | wire::VAR_STRING
            | wire::BLOB
            | wire::TINY_BLOB
            | wire::MEDIUM_BLOB
            | wire::LONG_BLOB => {
                let Some(name) = attributes.charset.clone() else {
                    return Err("its character set isn't known".to_owned());
                };
                match (Charset::named(&name), attributes.special) {
                    (Charset::Binary, _) => {
                        Kind::Bytes { prefix, pad: if column.kind == wire::STRING { column.length } else { 0 } }
                    }
                    (charset, Special::JsonText) => Kind::JsonText { prefix, charset, name },
                    (charset, _) => Kind::Text { prefix, charset, name },
                }
            }
            wire::BLOB_COMPRESSED | wire::VARCHAR_COMPRESSED => {
                return Err("COMPRESSED columns are not supported; ALTER TABLE ... MODIFY it without COMPRESSED, or \
                            exclude the table"
                    .to_owned());
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
            Kind::Time { digits } => Type::Time { digits: *digits },
            Kind::OldTime => Type::Time { digits: 0 },
            Kind::DateTime { digits } => Type::DateTime { digits: *digits },
            Kind::OldDateTime => Type::DateTime { digits: 0 },
            Kind::Timestamp { digits } => Type::Instant { digits: *digits },
            Kind::OldTimestamp => Type::Instant { digits: 0 },
            Kind::Bits { bits } => Type::Bits { length: Some(u32::from(*bits)) },
            Kind::Enum { labels, .. } => Type::Enum { labels: labels.clone() },
            Kind::Set { labels, .. } => Type::Set { labels: labels.clone() },
            Kind::Text { .. } => Type::Text,
            Kind::Bytes { .. } => Type::Bytes,
            Kind::Json { .. } | Kind::JsonText { .. } => Type::Json,
            Kind::Uuid => Type::Uuid,
            Kind::Inet4 | Kind::Inet6 => Type::Other,
        }
    }

    /// The SQL literal of a value that isn't NULL, if it is wanted and there is one; the cursor goes on in any case.
    fn literal(&self, at: &mut Cursor<'_>, wanted: bool) -> Result<Option<String>, DecodeError> {
        Ok(match self {
            Kind::Enum { width, .. } | Kind::Set { width, .. } => Some(at.uint(usize::from(*width))?.to_string()),
            Kind::Text { prefix, name, .. } => {
                let bytes = prefixed(at, *prefix)?;
                wanted.then(|| literal::text(name, bytes))
            }
            // Never in a key, and dear to decode.
            Kind::Json { prefix } | Kind::JsonText { prefix, .. } => {
                prefixed(at, *prefix)?;
                None
            }
            _ => {
                let (arena, mut ahead) = (Bump::new(), Cursor::new(at.rest()));
                let value = self.value(&mut ahead, &arena)?;
                at.take(at.len() - ahead.len())?;
                if wanted { literal::of(&value) } else { None }
            }
        })
    }

    /// One value that isn't NULL.
    #[inline]
    fn value<'a>(&'a self, at: &mut Cursor<'a>, arena: &'a Bump) -> Result<Value<'a>, DecodeError> {
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
            Kind::OldTime => temporal::old_time(at.u24()?)?,
            Kind::OldDateTime => temporal::old_datetime(at.u64()?)?,
            Kind::OldTimestamp => temporal::old_timestamp(at.u32()?),
            Kind::Bits { bits } => self::bits(at.take(usize::from(bits.div_ceil(8)))?, usize::from(*bits), arena),
            Kind::Enum { width, labels } => enumerated(at.uint(usize::from(*width))?, labels)?,
            Kind::Set { width, labels } => set(at.uint(usize::from(*width))?, labels, arena)?,
            Kind::Text { prefix, charset, name } => {
                let bytes = prefixed(at, *prefix)?;
                Value::Text(charset.decode(bytes, arena).ok_or_else(|| undecodable(*charset, name))?)
            }
            Kind::JsonText { prefix, charset, name } => {
                let bytes = prefixed(at, *prefix)?;
                Value::Json(charset.decode(bytes, arena).ok_or_else(|| undecodable(*charset, name))?)
            }
            Kind::Bytes { prefix, pad } => {
                let bytes = prefixed(at, *prefix)?;
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
            Kind::Uuid => Value::Uuid(fixed(prefixed(at, 1)?)?),
            Kind::Inet4 => other(Ipv4Addr::from(fixed::<4>(prefixed(at, 1)?)?), arena),
            Kind::Inet6 => inet6(fixed(prefixed(at, 1)?)?, arena),
        })
    }
}

#[inline]
fn integer<'a>(at: &mut Cursor<'_>, bytes: u8, unsigned: bool) -> Result<Value<'a>, Short> {
    Ok(match (bytes, unsigned) {
        (1, true) => Value::UInt(u64::from(at.u8()?)),
        (1, false) => Value::Int(i64::from(at.u8()? as i8)),
        (2, true) => Value::UInt(u64::from(at.u16()?)),
        (2, false) => Value::Int(i64::from(at.u16()? as i16)),
        (3, true) => Value::UInt(u64::from(at.u24()?)),
        // Shifted up and down again to extend the sign.
        (3, false) => Value::Int(i64::from((at.u24()? << 8) as i32 >> 8)),
        (4, true) => Value::UInt(u64::from(at.u32()?)),
        (4, false) => Value::Int(i64::from(at.u32()? as i32)),
        (_, true) => Value::UInt(at.u64()?),
        (_, false) => Value::Int(at.u64()? as i64),
    })
}

#[inline]
fn prefixed<'a>(at: &mut Cursor<'a>, prefix: u8) -> Result<&'a [u8], Short> {
    let length = match prefix {
        1 => usize::from(at.u8()?),
        2 => usize::from(at.u16()?),
        other => usize::try_from(at.uint(usize::from(other))?).map_err(|_| Short)?,
    };
    at.take(length)
}

/// Bytes of a fixed length whose trailing zeros the binlog may have left out.
fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Short> {
    let mut whole = [0_u8; N];
    whole.get_mut(..bytes.len()).ok_or(Short)?.copy_from_slice(bytes);
    Ok(whole)
}

fn padded<'a>(bytes: &[u8], length: usize, arena: &'a Bump) -> &'a [u8] {
    let whole = arena.alloc_slice_fill_copy(length, 0_u8);
    if let Some(front) = whole.get_mut(..bytes.len()) {
        front.copy_from_slice(bytes);
    }
    whole
}

fn bits<'a>(bytes: &[u8], length: usize, arena: &'a Bump) -> Value<'a> {
    let mut text = Text::with_capacity_in(length, arena);
    let unused = bytes.len() * 8 - length.min(bytes.len() * 8);
    for place in unused..bytes.len() * 8 {
        let set = bytes.get(place / 8).is_some_and(|byte| byte >> (7 - place % 8) & 1 == 1);
        text.push(if set { '1' } else { '0' });
    }
    Value::Bits(text.into_bump_str())
}

fn enumerated(index: u64, labels: &[String]) -> Result<Value<'_>, DecodeError> {
    let label = |place| usize::try_from(place).ok().and_then(|place| labels.get(place));
    Ok(Value::Enum(match index.checked_sub(1) {
        None => "",
        Some(place) => label(place).ok_or_else(|| unlabelled(index, labels.len()))?,
    }))
}

fn set<'a>(mask: u64, labels: &'a [String], arena: &'a Bump) -> Result<Value<'a>, DecodeError> {
    if labels.len() < 64 && mask >> labels.len() != 0 {
        return Err(DecodeError::row(format!("a set with a member beyond its {} labels", labels.len())));
    }
    let members =
        || labels.iter().enumerate().filter(|(place, _)| mask >> place & 1 == 1).map(|(_, label)| label.as_str());
    let found = arena.alloc_slice_fill_copy(mask.count_ones() as usize, "");
    for (slot, label) in found.iter_mut().zip(members()) {
        *slot = label;
    }
    Ok(Value::Set(found))
}

fn other<'a>(text: impl std::fmt::Display, arena: &'a Bump) -> Value<'a> {
    let mut out = Text::new_in(arena);
    // Writing to a string can't fail.
    let _ = write!(out, "{text}");
    Value::Other(out.into_bump_str())
}

/// MariaDB writes IPv6 as inet_ntop does: dotted quads for mapped (`::ffff:1.2.3.4`) and compatible (`::1.2.3.4`).
fn inet6<'a>(octets: [u8; 16], arena: &'a Bump) -> Value<'a> {
    let address = Ipv6Addr::from(octets);
    let [front @ .., a, b, c, d] = octets;
    let compatible = front == [0; 12] && (a != 0 || b != 0);
    if compatible { other(format_args!("::{}", Ipv4Addr::new(a, b, c, d)), arena) } else { other(address, arena) }
}

#[cold]
fn unlabelled(index: u64, labels: usize) -> DecodeError {
    DecodeError::row(format!("enum index {index} of {labels} labels"))
}

#[cold]
fn undecodable(charset: Charset, name: &str) -> DecodeError {
    DecodeError::row(if charset == Charset::Unsupported {
        format!("character set `{name}` is not supported; convert the column to utf8mb4")
    } else {
        format!("bytes that aren't valid in character set `{name}`")
    })
}

/// The plan of one table version.
#[derive(Debug)]
pub(crate) struct Plan {
    kinds: Vec<Kind>,
}

impl Plan {
    pub(crate) fn new(kinds: Vec<Kind>) -> Self {
        Self { kinds }
    }
}

impl RowDecoder for Plan {
    /// `image.shape` is the offset in `data` of the bitmap of present columns.
    fn decode<'a>(
        &'a self,
        data: &'a [u8],
        image: Image,
        arena: &'a Bump,
        row: &mut Vec<Value<'a>>,
    ) -> Result<(), DecodeError> {
        let columns = self.kinds.len();
        let present = Cursor::new(data.get(image.shape as usize..).unwrap_or(&[])).take(columns.div_ceil(8))?;
        let count = (0..columns).filter(|index| bit(present, *index)).count();
        let mut at = Cursor::new(image.span.of(data));
        let nulls = at.take(count.div_ceil(8))?;
        row.reserve(columns);
        let mut nth = 0;
        for (index, kind) in self.kinds.iter().enumerate() {
            if !bit(present, index) {
                row.push(Value::Absent);
                continue;
            }
            let null = bit(nulls, nth);
            nth += 1;
            row.push(if null { Value::Null } else { kind.value(&mut at, arena).map_err(|error| error.at(index))? });
        }
        if at.is_empty() { Ok(()) } else { Err(DecodeError::row(format!("{} bytes behind the last column", at.len()))) }
    }

    fn literals(&self, data: &[u8], image: Image, columns: &[usize]) -> Option<Vec<String>> {
        let bitmap = data.get(image.shape as usize..).unwrap_or(&[]);
        let present = Cursor::new(bitmap).take(self.kinds.len().div_ceil(8)).ok()?;
        let count = (0..self.kinds.len()).filter(|index| bit(present, *index)).count();
        let mut at = Cursor::new(image.span.of(data));
        let nulls = at.take(count.div_ceil(8)).ok()?;
        let mut found = vec![None; columns.len()];
        let last = columns.iter().max().copied().unwrap_or(0);
        let there = self.kinds.iter().enumerate().take(last + 1).filter(|(index, _)| bit(present, *index));
        for (nth, (index, kind)) in there.enumerate() {
            if bit(nulls, nth) {
                continue;
            }
            let value = kind.literal(&mut at, columns.contains(&index)).ok()?;
            for (slot, _) in found.iter_mut().zip(columns).filter(|(_, wanted)| **wanted == index) {
                slot.clone_from(&value);
            }
        }
        found.into_iter().collect()
    }
}

/// The plan of a version of which no row was seen: only a TRUNCATE is known.
#[derive(Debug)]
pub(crate) struct NoRows;

impl RowDecoder for NoRows {
    fn decode<'a>(&'a self, _: &'a [u8], _: Image, _: &'a Bump, _: &mut Vec<Value<'a>>) -> Result<(), DecodeError> {
        Err(DecodeError::row("a row of a table version without rows"))
    }

    fn literals(&self, _: &[u8], _: Image, _: &[usize]) -> Option<Vec<String>> {
        None
    }
}

#[cfg(test)]
mod tests;
