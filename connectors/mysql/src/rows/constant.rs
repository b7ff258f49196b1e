//! Constants of the catalog (a column's DEFAULT) into the values that rows have. What can't be read is none: it is for schemas only.

use bumpalo::Bump;
use rowcast_core::{Date, DateTime, Time, Type, Value};

/// The value of a column of this type that the server writes as `text`.
pub(crate) fn value<'a>(ty: &Type, text: &'a str, arena: &'a Bump) -> Option<Value<'a>> {
    Some(match ty {
        Type::Int { unsigned: false, .. } => Value::Int(text.parse().ok()?),
        Type::Int { unsigned: true, .. } | Type::Year => Value::UInt(text.parse().ok()?),
        Type::Float => Value::Float(text.parse().ok()?),
        Type::Double => Value::Double(text.parse().ok()?),
        Type::Decimal { precision_scale } => {
            Value::Decimal(decimal(text, precision_scale.map_or(0, |it| it.1), arena)?)
        }
        Type::Text => Value::Text(text),
        Type::Bytes => Value::Bytes(bytes(text, arena)?),
        Type::Bits { .. } if text.bytes().all(|byte| matches!(byte, b'0' | b'1')) => Value::Bits(text),
        Type::Date => Value::Date(date(text)?),
        Type::Time { digits } => Value::Time(Time { micros: time(text)?, digits: *digits }),
        Type::DateTime { digits } => Value::DateTime(date_time(text, *digits)?),
        Type::Instant { digits } => Value::Instant(date_time(text, *digits)?),
        Type::Json => Value::Json(text),
        Type::Enum { .. } => Value::Enum(text),
        Type::Set { .. } => {
            let labels = text.split(',').filter(|label| !label.is_empty());
            Value::Set(arena.alloc_slice_fill_iter(labels.collect::<Vec<_>>()))
        }
        Type::Uuid => Value::Uuid(uuid(text)?),
        Type::Other => Value::Other(text),
        _ => return None,
    })
}

/// With as many digits behind the point as the column has.
fn decimal<'a>(text: &'a str, scale: i16, arena: &'a Bump) -> Option<&'a str> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    let behind = digits.split_once('.').map_or(0, |(_, behind)| behind.len());
    let missing = usize::try_from(scale).ok()?.checked_sub(behind)?;
    if missing == 0 {
        return Some(text);
    }
    let point = if behind == 0 { "." } else { "" };
    Some(arena.alloc_str(&format!("{text}{point}{:0<missing$}", "")))
}

/// MySQL shows the bytes of binary columns as a number in hexadecimal form.
fn bytes<'a>(text: &'a str, arena: &'a Bump) -> Option<&'a [u8]> {
    let Some(digits) = text.strip_prefix("0x") else { return Some(text.as_bytes()) };
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    Some(arena.alloc_slice_copy(&pairs.iter().map(byte).collect::<Option<Vec<u8>>>()?))
}

fn date(text: &str) -> Option<Date> {
    let mut parts = text.splitn(3, '-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Date { year: year.parse().ok()?, month: month.parse().ok()?, day: day.parse().ok()? })
}

/// Microseconds.
fn time(text: &str) -> Option<i64> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = whole.splitn(3, ':').map(|part| part.parse::<u32>().ok().map(i64::from));
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    let micros: u32 = if fraction.is_empty() { 0 } else { format!("{fraction:0<6}").get(..6)?.parse().ok()? };
    let all = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + i64::from(micros);
    Some(if negative { -all } else { all })
}

fn date_time(text: &str, digits: u8) -> Option<DateTime> {
    let (day, of_day) = text.split_once(' ').unwrap_or((text, "00:00:00"));
    Some(DateTime { date: date(day)?, micros: u64::try_from(time(of_day)?).ok()?, digits })
}

fn uuid(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.chars().filter(|character| *character != '-').collect();
    if digits.len() != 32 {
        return None;
    }
    Some(u128::from_str_radix(&digits, 16).ok()?.to_be_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn constants_are_the_values_that_rows_would_have() {
        let arena = Bump::new();
        let of = |ty: Type, text: &'static str| value(&ty, text, &arena);
        assert_eq!(of(Type::Int { bits: 64, unsigned: true }, "18446744073709551615"), Some(Value::UInt(u64::MAX)));
        assert_eq!(of(Type::Int { bits: 32, unsigned: false }, "-1"), Some(Value::Int(-1)));
        assert_eq!(of(Type::Decimal { precision_scale: Some((12, 2)) }, "1"), Some(Value::Decimal("1.00")));
        assert_eq!(of(Type::Decimal { precision_scale: Some((12, 3)) }, "-1.5"), Some(Value::Decimal("-1.500")));
        assert_eq!(of(Type::Bytes, "0x616200"), Some(Value::Bytes(b"ab\0")));
        assert_eq!(of(Type::Set { labels: Vec::new() }, "a,c"), Some(Value::Set(&["a", "c"])));
        let time = Time { micros: -3_661_000_001, digits: 6 };
        assert_eq!(of(Type::Time { digits: 6 }, "-01:01:01.000001"), Some(Value::Time(time)));
        let date = Date { year: 2020, month: 2, day: 3 };
        let at = DateTime { date, micros: 3_661_500_000, digits: 3 };
        assert_eq!(of(Type::Instant { digits: 3 }, "2020-02-03 01:01:01.500"), Some(Value::Instant(at)));
        assert_eq!(of(Type::Date, "0000-00-00"), Some(Value::Date(Date { year: 0, month: 0, day: 0 })));
        for (ty, text) in [(Type::Float, "x"), (Type::Date, "2020"), (Type::Bytes, "0x6"), (Type::Geometry, "0x00")] {
            assert_eq!(of(ty, text), None, "{text}");
        }
    }
}
