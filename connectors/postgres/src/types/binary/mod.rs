//! The binary form of one value into a [`Value`], the same as its text gives.
//!
//! The forms are those of the types' send functions, big-endian throughout. Lengths and counts are believed only as far as
//! there are bytes; what is left over is an error, as is anything that a send function doesn't write. Memory: what the text would
//! take at most (a `numeric` of ten bytes may have 131,072 digits).

mod literal;
mod network;
mod number;

use std::fmt::Write;

use bumpalo::collections::{String as BumpString, Vec as BumpVec};
use rowcast_core::value::{Array, Dimension, Range};
use rowcast_core::{Bump, Date, DateTime, Interval, Time, Value};

use super::scalar::{Wrong, utf8};
use super::{Attribute, Form, Plan, extension, nested};
use crate::wire::Wire;

pub(crate) use literal::text as literal;

const SHORT: Wrong = "a binary value that is too short or too long";
/// From 1970-01-01 to 2000-01-01.
const EPOCH_DAYS: i64 = 10_957;
const DAY: i64 = 86_400_000_000;
/// The server's own limit (`MAXDIM`).
const MAX_DIMENSIONS: u32 = 6;

/// All of the bytes as an array of this length.
fn whole<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Wrong> {
    bytes.try_into().map_err(|_| SHORT)
}

/// Decodes one value that isn't NULL.
pub(crate) fn value<'a>(plan: &'a Plan, bytes: &'a [u8], arena: &'a Bump) -> Result<Value<'a>, Wrong> {
    match plan {
        Plan::Int => integer(bytes).map(Value::Int),
        Plan::Text => utf8(bytes).map(Value::Text),
        Plan::Bool => match bytes {
            [0] => Ok(Value::Bool(false)),
            [1] => Ok(Value::Bool(true)),
            _ => Err("not a boolean"),
        },
        Plan::Oid => whole(bytes).map(|oid| Value::UInt(u64::from(u32::from_be_bytes(oid)))),
        Plan::Float => whole(bytes).map(|float| Value::Float(f32::from_be_bytes(float))),
        Plan::Double => whole(bytes).map(|float| Value::Double(f64::from_be_bytes(float))),
        Plan::Decimal => number::numeric(bytes, arena).map(Value::Decimal),
        Plan::Money(form) => whole(bytes).map(|units| Value::Decimal(form.of_units(i64::from_be_bytes(units), arena))),
        Plan::Char => char(bytes, arena).map(Value::Text),
        Plan::Bytes => Ok(Value::Bytes(bytes)),
        Plan::Bits => bits(bytes, arena).map(Value::Bits),
        Plan::Date => whole(bytes).map(|days| date(i32::from_be_bytes(days))),
        Plan::Time(digits) => {
            let micros = whole(bytes).map(i64::from_be_bytes)?;
            Ok(Value::Time(Time { micros: of_day(micros)?, digits: *digits }))
        }
        Plan::TimeTz(digits) => time_tz(bytes, *digits),
        Plan::DateTime(digits) => Ok(match timestamp(bytes, *digits)? {
            Moment::At(at) => Value::DateTime(at),
            Moment::Never(negative) => Value::TemporalInfinity { negative },
        }),
        Plan::Instant(digits) => Ok(match timestamp(bytes, *digits)? {
            Moment::At(at) => Value::Instant(at),
            Moment::Never(negative) => Value::TemporalInfinity { negative },
        }),
        Plan::Interval => interval(bytes, true),
        Plan::FiniteInterval => interval(bytes, false),
        Plan::Uuid => whole(bytes).map(Value::Uuid),
        Plan::Json => utf8(bytes).map(Value::Json),
        Plan::JsonB => versioned(bytes).map(Value::Json),
        Plan::Enum => utf8(bytes).map(Value::Enum),
        Plan::Array(plan) => array(&plan.element, bytes, arena),
        Plan::Spaced(element) => match array(element, bytes, arena)? {
            // the server's text doesn't say that they begin at 0
            Value::Array(Array { elements, .. }) => {
                nested::list(BumpVec::from_iter_in(elements.iter().copied(), arena), arena).ok_or(SHORT)
            }
            other => Ok(other),
        },
        Plan::Range(element) => range(element, bytes, arena),
        Plan::Multirange(element) => multirange(element, bytes, arena),
        Plan::Composite(attributes) => composite(attributes, bytes, arena),
        Plan::Hstore => hstore(bytes, arena),
        Plan::Geometry => extension::geometry(bytes, arena),
        Plan::Vector => extension::vector(bytes, arena),
        Plan::HalfVector => extension::half_vector(bytes, arena),
        Plan::SparseVector => extension::sparse(bytes, arena),
        Plan::Other(form) => other(*form, bytes, arena).map(Value::Other),
    }
}

fn integer(bytes: &[u8]) -> Result<i64, Wrong> {
    match *bytes {
        [a, b] => Ok(i64::from(i16::from_be_bytes([a, b]))),
        [a, b, c, d] => Ok(i64::from(i32::from_be_bytes([a, b, c, d]))),
        _ => whole(bytes).map(i64::from_be_bytes),
    }
}

/// A byte beyond ASCII is written as the server does from version 15 on; before, its text isn't UTF-8.
fn char<'a>(bytes: &'a [u8], arena: &'a Bump) -> Result<&'a str, Wrong> {
    match whole(bytes)? {
        [0] => Ok(""),
        [byte] if byte.is_ascii() => utf8(bytes),
        [byte] => formatted(arena, format_args!("\\{byte:03o}")),
    }
}

/// What doesn't belong to a hot path is formatted into the arena.
fn formatted<'a>(arena: &'a Bump, what: std::fmt::Arguments<'_>) -> Result<&'a str, Wrong> {
    let mut out = BumpString::new_in(arena);
    out.write_fmt(what).map_err(|_| SHORT)?;
    Ok(out.into_bump_str())
}

/// A number of bits (4) and the bytes that hold them, the first in the highest place.
fn bits<'a>(bytes: &[u8], arena: &'a Bump) -> Result<&'a str, Wrong> {
    let (count, bytes) = bytes.split_first_chunk::<4>().ok_or(SHORT)?;
    let count = u32::from_be_bytes(*count) as usize;
    if bytes.len() != count.div_ceil(8) {
        return Err(SHORT);
    }
    let mut text = BumpString::with_capacity_in(count, arena);
    let places = bytes.iter().flat_map(|byte| (0..8).map(move |place| byte & (0x80 >> place) != 0));
    places.take(count).for_each(|bit| text.push(if bit { '1' } else { '0' }));
    Ok(text.into_bump_str())
}

fn date(days: i32) -> Value<'static> {
    match days {
        i32::MAX => Value::TemporalInfinity { negative: false },
        i32::MIN => Value::TemporalInfinity { negative: true },
        days => Value::Date(Date::from_unix_days(i64::from(days) + EPOCH_DAYS)),
    }
}

fn of_day(micros: i64) -> Result<i64, Wrong> {
    if (0..=DAY).contains(&micros) { Ok(micros) } else { Err("not a time of day") }
}

fn time_tz<'a>(bytes: &[u8], digits: u8) -> Result<Value<'a>, Wrong> {
    let mut wire = Wire::new(bytes);
    let (Some(micros), Some(west), 0) = (wire.i64(), wire.i32(), wire.left()) else { return Err(SHORT) };
    // 15:59:59 either way
    if west.unsigned_abs() >= 16 * 3600 {
        return Err("not an offset of a time with zone");
    }
    Ok(Value::TimeTz(Time { micros: of_day(micros)?, digits }, -west))
}

enum Moment {
    At(DateTime),
    /// Infinite; negative if true.
    Never(bool),
}

fn timestamp(bytes: &[u8], digits: u8) -> Result<Moment, Wrong> {
    Ok(match i64::from_be_bytes(whole(bytes)?) {
        i64::MAX => Moment::Never(false),
        i64::MIN => Moment::Never(true),
        micros => Moment::At(DateTime {
            date: Date::from_unix_days(micros.div_euclid(DAY) + EPOCH_DAYS),
            micros: micros.rem_euclid(DAY).unsigned_abs(),
            digits,
        }),
    })
}

fn interval<'a>(bytes: &[u8], infinite: bool) -> Result<Value<'a>, Wrong> {
    let mut wire = Wire::new(bytes);
    let (Some(micros), Some(days), Some(months), 0) = (wire.i64(), wire.i32(), wire.i32(), wire.left()) else {
        return Err(SHORT);
    };
    Ok(match (micros, days, months) {
        (i64::MAX, i32::MAX, i32::MAX) if infinite => Value::TemporalInfinity { negative: false },
        (i64::MIN, i32::MIN, i32::MIN) if infinite => Value::TemporalInfinity { negative: true },
        _ => Value::Interval(Interval { months, days, micros }),
    })
}

fn versioned(bytes: &[u8]) -> Result<&str, Wrong> {
    utf8(bytes.strip_prefix(&[1]).ok_or("an unknown version of a binary value")?)
}

/// A length (4, -1 for NULL) and as many bytes.
fn field<'a>(wire: &mut Wire<'a>) -> Result<Option<&'a [u8]>, Wrong> {
    match wire.i32().ok_or(SHORT)? {
        -1 => Ok(None),
        length => usize::try_from(length).ok().and_then(|length| wire.take(length)).map(Some).ok_or(SHORT),
    }
}

/// The value of a [`field`].
fn element<'a>(plan: &'a Plan, wire: &mut Wire<'a>, arena: &'a Bump) -> Result<Value<'a>, Wrong> {
    field(wire)?.map_or(Ok(Value::Null), |bytes| value(plan, bytes, arena))
}

/// Number of dimensions, a flag, the elements' type (4 each), then length and lower bound (4 each) of each, then the elements.
fn array<'a>(plan: &'a Plan, bytes: &'a [u8], arena: &'a Bump) -> Result<Value<'a>, Wrong> {
    let mut wire = Wire::new(bytes);
    let (Some(depth), Some(_has_nulls), Some(_type)) = (wire.u32(), wire.u32(), wire.u32()) else { return Err(SHORT) };
    if depth > MAX_DIMENSIONS {
        return Err("an array of more than six dimensions");
    }
    let (mut dimensions, mut count) = (BumpVec::new_in(arena), u64::from(depth > 0));
    for _ in 0..depth {
        let (Some(length), Some(lower)) = (wire.u32(), wire.i32()) else { return Err(SHORT) };
        // only an empty int2vector or oidvector has a dimension, of no length
        count = count
            .checked_mul(u64::from(length))
            .filter(|count| *count > 0 || depth == 1)
            .ok_or("an array of no size")?;
        dimensions.push(Dimension { length, lower });
    }
    let mut elements = BumpVec::new_in(arena);
    // each takes four bytes at least
    if count > wire.left() as u64 / 4 {
        return Err(SHORT);
    }
    for _ in 0..count {
        elements.push(element(plan, &mut wire, arena)?);
    }
    if wire.left() > 0 {
        return Err(SHORT);
    }
    let (dimensions, elements) = (dimensions.into_bump_slice(), elements.into_bump_slice());
    Ok(Value::Array(arena.alloc(Array { dimensions, elements })))
}

/// Flags of a range.
const EMPTY: u8 = 1;
const LOWER_INCLUSIVE: u8 = 2;
const UPPER_INCLUSIVE: u8 = 4;
const NO_LOWER: u8 = 8;
const NO_UPPER: u8 = 16;

/// Flags (1), then the bounds that there are, each with its length (4).
fn range<'a>(plan: &'a Plan, bytes: &'a [u8], arena: &'a Bump) -> Result<Value<'a>, Wrong> {
    let mut wire = Wire::new(bytes);
    let flags = wire.u8().ok_or(SHORT)?;
    let has = |flag: u8| flags & flag != 0;
    let range = if has(EMPTY) {
        Range::Empty
    } else {
        let mut bound = |without| match has(without) {
            true => Ok(Value::Null),
            false => {
                let bytes = field(&mut wire)?.ok_or("a bound of a range that is NULL")?;
                value(plan, bytes, arena)
            }
        };
        let (lower, upper) = (bound(NO_LOWER)?, bound(NO_UPPER)?);
        let (lower_inclusive, upper_inclusive) = (has(LOWER_INCLUSIVE), has(UPPER_INCLUSIVE));
        Range::Between { lower, upper, lower_inclusive, upper_inclusive }
    };
    if wire.left() > 0 {
        return Err(SHORT);
    }
    Ok(Value::Range(arena.alloc(range)))
}

/// A count (4), then the ranges, each with its length (4).
fn multirange<'a>(plan: &'a Plan, bytes: &'a [u8], arena: &'a Bump) -> Result<Value<'a>, Wrong> {
    let mut wire = Wire::new(bytes);
    let count = wire.u32().ok_or(SHORT)?;
    let mut ranges = BumpVec::new_in(arena);
    for _ in 0..count {
        let bytes = field(&mut wire)?.ok_or("a range that is NULL")?;
        ranges.push(range(plan, bytes, arena)?);
    }
    if wire.left() > 0 {
        return Err(SHORT);
    }
    nested::list(ranges, arena).ok_or(SHORT)
}

/// A count (4), then for each attribute its type (4), its length (4) and its bytes.
fn composite<'a>(attributes: &'a [Attribute], bytes: &'a [u8], arena: &'a Bump) -> Result<Value<'a>, Wrong> {
    const ALTERED: Wrong = "a composite of a type that was altered since (`source.binary: off` gives it as text)";
    let mut wire = Wire::new(bytes);
    let count = wire.u32().ok_or(SHORT)? as usize;
    let known = attributes.get(..count).ok_or(ALTERED)?;
    let mut members = BumpVec::new_in(arena);
    for attribute in known {
        if wire.u32().ok_or(SHORT)? != attribute.oid {
            return Err(ALTERED);
        }
        members.push((&*attribute.name, element(&attribute.plan, &mut wire, arena)?));
    }
    if wire.left() > 0 {
        return Err(SHORT);
    }
    Ok(Value::Object(members.into_bump_slice()))
}

/// A count (4), then keys and values, each with its length (4).
fn hstore<'a>(bytes: &'a [u8], arena: &'a Bump) -> Result<Value<'a>, Wrong> {
    let mut wire = Wire::new(bytes);
    let count = wire.u32().ok_or(SHORT)?;
    let mut pairs = BumpVec::new_in(arena);
    for _ in 0..count {
        let key = utf8(field(&mut wire)?.ok_or("a key of an hstore that is NULL")?)?;
        let value = field(&mut wire)?.map_or(Ok(Value::Null), |text| utf8(text).map(Value::Text))?;
        pairs.push((key, value));
    }
    if wire.left() > 0 {
        return Err(SHORT);
    }
    Ok(Value::Object(pairs.into_bump_slice()))
}

/// The text of a type that is given as the server's text.
fn other<'a>(form: Form, bytes: &'a [u8], arena: &'a Bump) -> Result<&'a str, Wrong> {
    let mut wire = Wire::new(bytes);
    match form {
        Form::Opaque | Form::Unsendable => Err("binary form of a type that has none here"),
        Form::Text => utf8(bytes),
        Form::Versioned => versioned(bytes),
        Form::Number => formatted(arena, format_args!("{}", u32::from_be_bytes(whole(bytes)?))),
        Form::Xid8 => formatted(arena, format_args!("{}", u64::from_be_bytes(whole(bytes)?))),
        Form::Tid => match (wire.u32(), wire.u16(), wire.left()) {
            (Some(block), Some(offset), 0) => formatted(arena, format_args!("({block},{offset})")),
            _ => Err(SHORT),
        },
        Form::Lsn => {
            let lsn = u64::from_be_bytes(whole(bytes)?);
            formatted(arena, format_args!("{:X}/{:X}", lsn >> 32, lsn & 0xffff_ffff))
        }
        Form::Network => network::address(bytes, arena),
        Form::Mac => network::mac(bytes, arena),
        Form::TsVector => ts_vector(bytes, arena),
        Form::Snapshot => snapshot(bytes, arena),
    }
}

/// `xmin:xmax:xip,xip`, from the number of the last (4) and all of them (8 each).
fn snapshot<'a>(bytes: &[u8], arena: &'a Bump) -> Result<&'a str, Wrong> {
    let mut wire = Wire::new(bytes);
    let (Some(count), Some(xmin), Some(xmax)) = (wire.u32(), wire.u64(), wire.u64()) else { return Err(SHORT) };
    let mut out = BumpString::new_in(arena);
    write!(out, "{xmin}:{xmax}:").map_err(|_| SHORT)?;
    for index in 0..count {
        let separator = if index > 0 { "," } else { "" };
        write!(out, "{separator}{}", wire.u64().ok_or(SHORT)?).map_err(|_| SHORT)?;
    }
    if wire.left() > 0 { Err(SHORT) } else { Ok(out.into_bump_str()) }
}

/// `'fat':2,4A 'rat'`, from a count (4), then for each lexeme its zero-terminated text, a count (2), and as many positions (2) with
/// the weight in the two high bits.
fn ts_vector<'a>(bytes: &[u8], arena: &'a Bump) -> Result<&'a str, Wrong> {
    let mut wire = Wire::new(bytes);
    let count = wire.u32().ok_or(SHORT)?;
    let mut out = BumpString::new_in(arena);
    for index in 0..count {
        out.push_str(if index > 0 { " '" } else { "'" });
        for letter in utf8(wire.until_zero().ok_or(SHORT)?)?.chars() {
            if matches!(letter, '\'' | '\\') {
                out.push(letter);
            }
            out.push(letter);
        }
        out.push('\'');
        for index in 0..wire.u16().ok_or(SHORT)? {
            let position = wire.u16().ok_or(SHORT)?;
            let weight = ["", "C", "B", "A"].get(usize::from(position >> 14)).copied().unwrap_or("");
            let separator = if index > 0 { ',' } else { ':' };
            write!(out, "{separator}{}{weight}", position & 0x3fff).map_err(|_| SHORT)?;
        }
    }
    if wire.left() > 0 { Err(SHORT) } else { Ok(out.into_bump_str()) }
}

#[cfg(test)]
mod tests;
