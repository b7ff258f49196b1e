//! Values as SQL literals that the server reads back as exactly these values: the keys of rows, to look them up again.
//!
//! The comparison is always the server's, so a literal must meet the column's own rules: text is the column's bytes in the
//! column's character set (`_latin1 X'E9'`), so that the column's collation decides; ENUM and SET are numbers, by which
//! their indexes are sorted; a FLOAT is the exact double that it is compared as; times are in UTC, as our sessions are.
//! [`is_literal`] knows every form that is written here and nothing else, so that texts that were kept can be checked.

use std::fmt::Write;

use rowcast_core::{Date, Value};

/// The literal of a value that needs to know nothing about its column: of every kind but text, ENUM and SET.
pub(crate) fn of(value: &Value<'_>) -> Option<String> {
    Some(match value {
        Value::Int(number) => number.to_string(),
        Value::UInt(number) => number.to_string(),
        Value::Float(number) => double(f64::from(*number))?,
        Value::Double(number) => double(*number)?,
        Value::Decimal(text) => (*text).to_owned(),
        Value::Bits(digits) => u64::from_str_radix(digits, 2).ok()?.to_string(),
        Value::Bytes(bytes) => hex(bytes),
        Value::Date(it) => format!("'{}'", date(*it)),
        Value::DateTime(it) | Value::Instant(it) => format!("'{} {}'", date(it.date), clock(it.micros)),
        Value::Time(it) => {
            format!("'{}{}'", if it.micros < 0 { "-" } else { "" }, clock(it.micros.unsigned_abs()))
        }
        Value::Uuid(bytes) => {
            let mut out = String::with_capacity(38);
            out.push('\'');
            for (place, byte) in bytes.iter().enumerate() {
                if matches!(place, 4 | 6 | 8 | 10) {
                    out.push('-');
                }
                // Writing to a string can't fail.
                let _ = write!(out, "{byte:02x}");
            }
            out.push('\'');
            out
        }
        Value::Other(text) => format!("'{text}'"),
        _ => return None,
    })
}

/// Text by its bytes in the column's character set.
pub(crate) fn text(charset: &str, bytes: &[u8]) -> String {
    format!("_{charset} {}", hex(bytes))
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 * bytes.len() + 3);
    out.push_str("X'");
    for byte in bytes {
        // Writing to a string can't fail.
        let _ = write!(out, "{byte:02X}");
    }
    out.push('\'');
    out
}

/// With an exponent, which makes it a DOUBLE and not a DECIMAL; the shortest digits that read back the same.
fn double(number: f64) -> Option<String> {
    number.is_finite().then(|| format!("{number:e}"))
}

fn date(it: Date) -> String {
    format!("{:04}-{:02}-{:02}", it.year, it.month, it.day)
}

fn clock(micros: u64) -> String {
    let seconds = micros / 1_000_000;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{hour:02}:{minute:02}:{second:02}.{:06}", micros % 1_000_000)
}

/// Whether a text is one literal of the forms above.
pub(crate) fn is_literal(text: &str) -> bool {
    let inside =
        |rest: &str, allowed: fn(u8) -> bool| rest.strip_suffix('\'').is_some_and(|inside| inside.bytes().all(allowed));
    let is_hex = |rest: &str| inside(rest, |byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F')) && rest.len() % 2 == 1;
    if let Some(rest) = text.strip_prefix('\'') {
        return inside(rest, |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-' | b':' | b'.' | b' '));
    }
    if let Some(rest) = text.strip_prefix("X'") {
        return is_hex(rest);
    }
    if let Some((charset, rest)) = text.strip_prefix('_').and_then(|text| text.split_once(" X'")) {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        return !charset.is_empty() && charset.bytes().all(plain) && is_hex(rest);
    }
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = text.split_once('e').map_or((text, None), |(front, back)| (front, Some(back)));
    let (whole, fraction) = mantissa.split_once('.').map_or((mantissa, None), |(front, back)| (front, Some(back)));
    digits(whole)
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|exponent| digits(exponent.strip_prefix('-').unwrap_or(exponent)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rowcast_core::{DateTime, Time};

    #[test]
    fn values_are_written_exactly_and_are_known_again() {
        let day = Date { year: 2026, month: 0, day: 3 };
        for (value, expected) in [
            (Value::Int(i64::MIN), "-9223372036854775808"),
            (Value::UInt(u64::MAX), "18446744073709551615"),
            (Value::Float(1.1), "1.100000023841858e0"),
            (Value::Double(-0.1), "-1e-1"),
            (Value::Double(f64::MAX), "1.7976931348623157e308"),
            (Value::Decimal("-0.50"), "-0.50"),
            (Value::Bits("1000000001"), "513"),
            (Value::Bytes(&[0, 255]), "X'00FF'"),
            (Value::Bytes(&[]), "X''"),
            (Value::Date(day), "'2026-00-03'"),
            (Value::DateTime(DateTime { date: day, micros: 3_723_000_001, digits: 6 }), "'2026-00-03 01:02:03.000001'"),
            (Value::Time(Time { micros: -3_020_399_000_000, digits: 0 }), "'-838:59:59.000000'"),
            (Value::Uuid([0xab; 16]), "'abababab-abab-abab-abab-abababababab'"),
            (Value::Other("::ffff:1.2.3.4"), "'::ffff:1.2.3.4'"),
        ] {
            let literal = of(&value).unwrap();
            assert_eq!(literal, expected);
            assert!(is_literal(&literal), "{literal}");
        }
        assert_eq!(text("latin1", b"\xe9'"), "_latin1 X'E927'");
        assert!(is_literal("_latin1 X'E927'"));
        assert_eq!(of(&Value::Null), None);
        assert_eq!(of(&Value::Double(f64::NAN)), None);
    }

    #[test]
    fn nothing_else_is_a_literal() {
        for text in [
            "",
            "-",
            "1 OR 1",
            "1,2",
            "X'0'",
            "X'0g'",
            "X'00' OR X'00'",
            "_ X'00'",
            "_a b X'00'",
            "'a'b'",
            "'2026' OR '1'",
            "'",
            "1.",
            ".5",
            "1e",
            "0x10",
            "'\\'",
            "--1",
        ] {
            assert!(!is_literal(text), "{text}");
        }
    }
}
