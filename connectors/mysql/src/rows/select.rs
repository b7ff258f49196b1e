//! Rows of a SELECT: from a packet of the binary protocol to the values that the binlog gives for the same row.
//!
//! ```text
//! 0x00 | null bitmap, two bits in | values ──plan──► one Value per column
//! ```
//!
//! Which columns there are and what they mean comes from the catalog, how wide they are from the result's own definitions;
//! [`Plan::new`] refuses a result where the two don't fit. ENUM and SET are selected as their numbers ([`expression`]):
//! their texts can't tell an invalid value from an empty label; with their text where the catalog's labels are in doubt. Text is the column's own bytes, since our sessions have no
//! `character_set_results`. Damage is a [`DecodeError`] that names the column, never a panic.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str;

use bumpalo::Bump;
use bumpalo::collections::String as Text;
use rowcast_core::{Date, DateTime, DecodeError, Image, RowDecoder, Time, Type, Value};

use super::charset::Charset;
use super::kind::{Form, Special};
use super::labels::Labels;
use super::literal;
use super::values::{bits, enumerated, geometry, inet6, other, set, undecodable, vector};
use crate::binlog::table_map::{bit, wire};
use crate::catalog::tables::CatalogColumn;
use crate::connection::statement::ColumnDefinition;
use crate::cursor::{Cursor, Short};

/// "Column of type NULL, DECIMAL before 5.0".
const OLD_DECIMAL: u8 = 0;

/// How the values of one column are read.
#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Int {
        width: u8,
        unsigned: bool,
    },
    Float,
    Double,
    Decimal,
    Date,
    Time {
        digits: u8,
    },
    DateTime {
        digits: u8,
    },
    Instant {
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
    /// Number and labels of an ENUM or SET, `3:a,b`.
    Labelled {
        many: bool,
        charset: Charset,
        name: String,
    },
    Text {
        charset: Charset,
        name: String,
        form: Form,
    },
    Bytes,
    Geometry,
    Vector,
    Uuid,
    Inet4,
    Inet6,
}

/// What to select for a column, which is the quoted name of one.
pub(crate) fn expression(column: &CatalogColumn, quoted: &str) -> String {
    match column.ty {
        Type::Enum { .. } | Type::Set { .. } if !column.labels.are_certain() => {
            format!("CONCAT(CAST({quoted} AS UNSIGNED), ':', CAST({quoted} AS BINARY))")
        }
        Type::Enum { .. } | Type::Set { .. } => format!("CAST({quoted} AS UNSIGNED)"),
        _ => quoted.to_owned(),
    }
}

/// Width of an integer in the binary protocol.
fn width(kind: u8) -> Option<u8> {
    Some(match kind {
        wire::TINY => 1,
        wire::SHORT | wire::YEAR => 2,
        wire::INT24 | wire::LONG => 4,
        wire::LONGLONG => 8,
        _ => return None,
    })
}

impl Cell {
    /// None if the result isn't of the catalog's type.
    fn new(column: &CatalogColumn, kind: u8) -> Option<Self> {
        let string = matches!(
            kind,
            OLD_DECIMAL | wire::VARCHAR | wire::BIT | wire::VECTOR | wire::JSON | wire::NEWDECIMAL..=wire::GEOMETRY
        );
        let charset = || column.charset.clone().unwrap_or_else(|| "utf8mb4".to_owned());
        Some(match &column.ty {
            Type::Int { unsigned, .. } => Cell::Int { width: width(kind)?, unsigned: *unsigned },
            Type::Year => Cell::Int { width: width(kind)?, unsigned: true },
            Type::Enum { .. } | Type::Set { .. } if string && !column.labels.are_certain() => Cell::Labelled {
                many: matches!(column.ty, Type::Set { .. }),
                charset: Charset::named(column.charset.as_deref().unwrap_or("binary")),
                name: charset(),
            },
            Type::Enum { .. } => Cell::Enum { width: width(kind)?, labels: column.labels.clone() },
            Type::Set { .. } => Cell::Set { width: width(kind)?, labels: column.labels.clone() },
            Type::Float if kind == wire::FLOAT => Cell::Float,
            Type::Double if kind == wire::DOUBLE => Cell::Double,
            Type::Date if matches!(kind, wire::DATE | wire::NEWDATE) => Cell::Date,
            Type::Time { digits } if matches!(kind, wire::TIME | wire::TIME2) => Cell::Time { digits: *digits },
            Type::DateTime { digits } if matches!(kind, wire::DATETIME | wire::DATETIME2) => {
                Cell::DateTime { digits: *digits }
            }
            Type::Instant { digits } if matches!(kind, wire::TIMESTAMP | wire::TIMESTAMP2) => {
                Cell::Instant { digits: *digits }
            }
            _ if !string => return None,
            Type::Decimal { .. } => Cell::Decimal,
            Type::Bits { length } => Cell::Bits { bits: u16::try_from((*length)?).ok()? },
            Type::Json | Type::Text => Cell::Text {
                charset: Charset::named(&charset()),
                name: charset(),
                form: match (&column.ty, column.special) {
                    (Type::Text, _) => Form::Plain,
                    (_, Special::JsonText) => Form::Json,
                    _ => Form::Document,
                },
            },
            Type::Bytes => Cell::Bytes,
            Type::Geometry => Cell::Geometry,
            Type::Vector => Cell::Vector,
            Type::Uuid => Cell::Uuid,
            Type::Other if column.special == Special::Inet4 => Cell::Inet4,
            Type::Other if column.special == Special::Inet6 => Cell::Inet6,
            _ => return None,
        })
    }

    /// The bytes of one value, without the length in front.
    #[inline]
    fn bytes<'a>(&self, at: &mut Cursor<'a>) -> Result<&'a [u8], Short> {
        match self {
            Cell::Int { width, .. } | Cell::Enum { width, .. } | Cell::Set { width, .. } => at.take((*width).into()),
            Cell::Float => at.take(4),
            Cell::Double => at.take(8),
            Cell::Date | Cell::Time { .. } | Cell::DateTime { .. } | Cell::Instant { .. } => {
                let length = at.u8()?;
                at.take(length.into())
            }
            _ => at.lenenc_bytes(),
        }
    }

    #[inline]
    fn value<'a>(&'a self, bytes: &'a [u8], arena: &'a Bump) -> Result<Value<'a>, DecodeError> {
        let mut at = Cursor::new(bytes);
        Ok(match self {
            Cell::Int { width, unsigned: true } => Value::UInt(at.uint((*width).into())?),
            Cell::Int { width, unsigned: false } => {
                // Shifted up and down again to extend the sign.
                let unused = 64 - 8 * u32::from(*width);
                Value::Int((at.uint((*width).into())? << unused) as i64 >> unused)
            }
            Cell::Float => Value::Float(f32::from_le_bytes(at.array()?)),
            Cell::Double => Value::Double(f64::from_le_bytes(at.array()?)),
            Cell::Decimal => Value::Decimal(decimal(bytes, arena).ok_or(Short)?),
            Cell::Date => Value::Date(datetime(bytes, 0)?.date),
            Cell::Time { digits } => Value::Time(time(bytes, *digits)?),
            Cell::DateTime { digits } => Value::DateTime(datetime(bytes, *digits)?),
            Cell::Instant { digits } => Value::Instant(datetime(bytes, *digits)?),
            Cell::Bits { bits: length } => bits(bytes, (*length).into(), arena),
            Cell::Enum { width, labels } => enumerated(at.uint((*width).into())?, labels)?,
            Cell::Set { width, labels } => set(at.uint((*width).into())?, labels, arena)?,
            Cell::Labelled { many, charset, name } => labelled(bytes, *many, (*charset, name), arena)?,
            Cell::Text { charset, name, form } => {
                form.value(charset.decode(bytes, arena).ok_or_else(|| undecodable(*charset, name))?)?
            }
            Cell::Bytes => Value::Bytes(bytes),
            Cell::Geometry => geometry(bytes)?,
            Cell::Vector => vector(bytes, arena)?,
            Cell::Uuid => Value::Uuid(text(bytes).ok().and_then(rowcast_core::gtid::parse_uuid).ok_or(Short)?),
            Cell::Inet4 => other(text(bytes)?.parse::<Ipv4Addr>().map_err(|_| Short)?, arena),
            Cell::Inet6 => inet6(text(bytes)?.parse::<Ipv6Addr>().map_err(|_| Short)?.octets(), arena),
        })
    }

    fn literal(&self, bytes: &[u8]) -> Option<String> {
        match self {
            Cell::Enum { width, .. } | Cell::Set { width, .. } => {
                Some(Cursor::new(bytes).uint((*width).into()).ok()?.to_string())
            }
            Cell::Labelled { .. } => numbered(bytes).ok().map(|(number, _)| number.to_string()),
            Cell::Text { name, form: Form::Plain, .. } => Some(literal::text(name, bytes)),
            Cell::Text { .. } => None,
            _ => literal::of(&self.value(bytes, &Bump::new()).ok()?),
        }
    }
}

/// Number and text of an ENUM or SET.
fn numbered(bytes: &[u8]) -> Result<(u64, &[u8]), Short> {
    let end = bytes.iter().position(|byte| *byte == b':').ok_or(Short)?;
    let (number, text) = bytes.split_at_checked(end).ok_or(Short)?;
    let number = str::from_utf8(number).ok().and_then(|number| number.parse().ok()).ok_or(Short)?;
    Ok((number, text.get(1..).unwrap_or(&[])))
}

/// An ENUM or SET by its text, where the catalog's labels are in doubt. A SET's labels have no commas in them.
fn labelled<'a>(
    bytes: &'a [u8],
    many: bool,
    (charset, name): (Charset, &str),
    arena: &'a Bump,
) -> Result<Value<'a>, DecodeError> {
    let (number, bytes) = numbered(bytes)?;
    let decoder = if charset == Charset::Binary { Charset::Utf8 } else { charset };
    let text = decoder.decode(bytes, arena).ok_or_else(|| undecodable(charset, name))?;
    if !many {
        return Ok(Value::Enum(if number == 0 { "" } else { text }));
    }
    let found = arena.alloc_slice_fill_copy(number.count_ones() as usize, "");
    if number != 0 {
        let mut labels = text.split(',');
        for slot in found.iter_mut() {
            *slot = labels.next().ok_or(Short)?;
        }
        if labels.next().is_some() {
            return Err(Short.into());
        }
    }
    Ok(Value::Set(found))
}

fn text(bytes: &[u8]) -> Result<&str, Short> {
    str::from_utf8(bytes).map_err(|_| Short)
}

/// A decimal as [`super::decimal::text`] writes it: no zeros in front but one before the point (ZEROFILL has more), no
/// negative zero.
fn decimal<'a>(bytes: &'a [u8], arena: &'a Bump) -> Option<&'a str> {
    let whole = str::from_utf8(bytes).ok()?;
    let unsigned = whole.strip_prefix('-').unwrap_or(whole);
    let (front, fraction) = unsigned.split_once('.').map_or((unsigned, None), |(front, back)| (front, Some(back)));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(front) || !fraction.is_none_or(digits) {
        return None;
    }
    let short = front.trim_start_matches('0');
    let zero = short.is_empty() && fraction.is_none_or(|fraction| fraction.bytes().all(|digit| digit == b'0'));
    let kept = if short.is_empty() { 1 } else { short.len() };
    let plain = unsigned.get(front.len() - kept..)?;
    if zero || plain.len() == whole.len() {
        return Some(plain);
    }
    if plain.len() + 1 == whole.len() && whole.starts_with('-') {
        return Some(whole);
    }
    let mut out = Text::with_capacity_in(whole.len(), arena);
    if whole.starts_with('-') {
        out.push('-');
    }
    out.push_str(plain);
    Some(out.into_bump_str())
}

/// Year, month, day, then what isn't zero: hour, minute, second, then microseconds. The zero date has no bytes at all.
#[inline]
fn datetime(bytes: &[u8], digits: u8) -> Result<DateTime, Short> {
    let mut at = Cursor::new(bytes);
    let (mut date, mut micros) = (Date { year: 0, month: 0, day: 0 }, 0);
    if !at.is_empty() {
        date = Date { year: at.u16()?.into(), month: at.u8()?, day: at.u8()? };
    }
    if !at.is_empty() {
        micros = clock(at.u8()?, at.u8()?, at.u8()?)?;
    }
    if !at.is_empty() {
        micros += fraction(&mut at)?;
    }
    if date.month > 12 || date.day > 31 || !at.is_empty() { Err(Short) } else { Ok(DateTime { date, micros, digits }) }
}

/// A sign, days, hour, minute, second, then microseconds unless they are zero. Zero has no bytes at all.
fn time(bytes: &[u8], digits: u8) -> Result<Time, Short> {
    let mut at = Cursor::new(bytes);
    if at.is_empty() {
        return Ok(Time { micros: 0, digits });
    }
    let (negative, days) = (at.u8()? != 0, at.u32()?);
    if days > 34 {
        return Err(Short);
    }
    let mut micros = u64::from(days) * 86_400_000_000 + clock(at.u8()?, at.u8()?, at.u8()?)?;
    if !at.is_empty() {
        micros += fraction(&mut at)?;
    }
    // 838:59:59 is the most
    if micros >= 839 * 3_600_000_000 || !at.is_empty() {
        return Err(Short);
    }
    Ok(Time { micros: if negative { -(micros as i64) } else { micros as i64 }, digits })
}

#[inline]
fn clock(hour: u8, minute: u8, second: u8) -> Result<u64, Short> {
    if hour > 23 || minute > 59 || second > 59 {
        return Err(Short);
    }
    Ok(((u64::from(hour) * 60 + u64::from(minute)) * 60 + u64::from(second)) * 1_000_000)
}

#[inline]
fn fraction(at: &mut Cursor<'_>) -> Result<u64, Short> {
    let micros = at.u32()?;
    if micros < 1_000_000 { Ok(micros.into()) } else { Err(Short) }
}

/// The plan of one table version.
#[derive(Debug)]
pub(crate) struct Plan {
    cells: Vec<Cell>,
}

impl Plan {
    /// For a result that has the catalog's columns in their order.
    ///
    /// # Errors
    /// A sentence: the result has other columns.
    pub(crate) fn new(columns: &[CatalogColumn], found: &[ColumnDefinition]) -> Result<Self, String> {
        if columns.len() != found.len() {
            return Err(format!("{} columns where the catalog has {}", found.len(), columns.len()));
        }
        let cells = columns.iter().zip(found).map(|(column, definition)| {
            Cell::new(column, definition.kind).ok_or_else(|| {
                format!("column `{}` of type {} came as protocol type {}", column.name, column.native, definition.kind)
            })
        });
        Ok(Self { cells: cells.collect::<Result<_, _>>()? })
    }

    /// The null bitmap and the values.
    fn open<'a>(&self, data: &'a [u8], image: Image) -> Result<(&'a [u8], Cursor<'a>), Short> {
        let mut at = Cursor::new(image.span.of(data));
        if at.u8()? != 0 {
            return Err(Short);
        }
        Ok((at.take((self.cells.len() + 2).div_ceil(8))?, at))
    }
}

impl RowDecoder for Plan {
    /// The image is the packet's payload; its shape says nothing.
    fn decode<'a>(
        &'a self,
        data: &'a [u8],
        image: Image,
        arena: &'a Bump,
        row: &mut Vec<Value<'a>>,
    ) -> Result<(), DecodeError> {
        let (nulls, mut at) = self.open(data, image)?;
        row.reserve(self.cells.len());
        for (index, cell) in self.cells.iter().enumerate() {
            let value = if bit(nulls, index + 2) {
                Ok(Value::Null)
            } else {
                cell.bytes(&mut at).map_err(DecodeError::from).and_then(|bytes| cell.value(bytes, arena))
            };
            row.push(value.map_err(|error| error.at(index))?);
        }
        if at.is_empty() { Ok(()) } else { Err(DecodeError::row(format!("{} bytes behind the last column", at.len()))) }
    }

    fn text_value<'a>(&'a self, _: usize, ty: &Type, text: &'a str, arena: &'a Bump) -> Option<Value<'a>> {
        super::constant::value(ty, text, arena)
    }

    fn literals(&self, data: &[u8], image: Image, columns: &[usize]) -> Option<Vec<String>> {
        let (nulls, mut at) = self.open(data, image).ok()?;
        let mut found = vec![None; columns.len()];
        for (index, cell) in self.cells.iter().enumerate() {
            if bit(nulls, index + 2) {
                continue;
            }
            let bytes = cell.bytes(&mut at).ok()?;
            for (slot, _) in found.iter_mut().zip(columns).filter(|(_, wanted)| **wanted == index) {
                *slot = cell.literal(bytes);
            }
        }
        found.into_iter().collect()
    }
}

#[cfg(test)]
mod tests;
