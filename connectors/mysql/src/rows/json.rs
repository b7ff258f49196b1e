//! MySQL's binary JSON to text, in the server's own form: `{"a": 1, "b": [true, null]}`, keys in stored order.
//!
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/json__binary_8h.html>.
//!
//! Opaque members, which JSON has no form for, are written exactly as the server's own text has them: a decimal is a number
//! (`1.50`), dates and times are `"2026-11-22 11:32:36.000000"`, text of wide character sets is a string, everything else
//! is `"base64:type252:..."`, in lines of 76 as the server's base64 has them. This is deliberate, and not the form that such values have as columns: a backfill
//! gets the text from the server, where nothing tells such a member from a string, and a row must be the same bytes
//! whether it was read or streamed.
//!
//! Guarantees: nesting is bounded by [`MAX_DEPTH`], and the text by a multiple of the binary form: offsets of damaged
//! documents may point anywhere, also many times at the same member. No panic, whatever the bytes.

pub(super) mod patch;

use std::fmt::Write;

use bumpalo::Bump;
use bumpalo::collections::String as Text;

use super::{decimal, temporal};
use crate::binlog::table_map::wire;
use crate::cursor::{Cursor, Short};

/// The server refuses deeper documents at 100 (`JSON_DOCUMENT_MAX_DEPTH`).
const MAX_DEPTH: u32 = 101;
/// Groups of three bytes in a line of the server's base64.
const BASE64_LINE: usize = 19;
/// An 8-bit control character becomes `\u001f`, a 3-byte entry of an array `-32768, `; nothing grows more.
const GROWTH: usize = 16;

/// Types of values whose bytes are a container's: objects and arrays, small and large, and `true`, `false` and `null`.
const OBJECT: u8 = 0x00;
const LARGE_OBJECT: u8 = 0x01;
const ARRAY: u8 = 0x02;
const LARGE_ARRAY: u8 = 0x03;
const LITERAL: u8 = 0x04;

/// The text of a document; none if the bytes aren't one.
pub(crate) fn text<'a>(bytes: &[u8], arena: &'a Bump) -> Option<&'a str> {
    let mut out = Writer::new(bytes.len(), arena);
    let (kind, data) = root(bytes);
    out.value(kind, data, 0).ok()?;
    Some(out.out.into_bump_str())
}

/// Type and data of a document.
fn root(bytes: &[u8]) -> (u8, &[u8]) {
    match bytes.split_first() {
        // `INSERT IGNORE` of NULL into a NOT NULL column stores nothing at all; the server reads it as null.
        None => (LITERAL, &[0]),
        Some((kind, data)) => (*kind, data),
    }
}

struct Writer<'a> {
    out: Text<'a>,
    limit: usize,
    arena: &'a Bump,
}

/// Members of an object or array: how many, and all bytes that their offsets may point into.
fn container(data: &[u8], width: usize) -> Result<(usize, &[u8], Cursor<'_>), Short> {
    let mut at = Cursor::new(data);
    let count = at.uint(width)? as usize;
    let size = at.uint(width)? as usize;
    let all = data.get(..size).ok_or(Short)?;
    let entries = Cursor::new(all.get(2 * width..).ok_or(Short)?);
    // Each entry takes some bytes: a count beyond them is damage.
    if count > entries.len() { Err(Short) } else { Ok((count, all, entries)) }
}

/// One key.
fn key<'d>(keys: &mut Cursor<'_>, all: &'d [u8], width: usize) -> Result<&'d str, Short> {
    let (offset, length) = (keys.uint(width)? as usize, usize::from(keys.u16()?));
    let key = all.get(offset..).and_then(|rest| rest.get(..length)).ok_or(Short)?;
    std::str::from_utf8(key).map_err(|_| Short)
}

/// One value entry: its type, then the value itself if it is small, else its offset. Type and data of the value.
fn member<'d>(values: &mut Cursor<'d>, all: &'d [u8], width: usize) -> Result<(u8, &'d [u8]), Short> {
    let kind = values.u8()?;
    let entry = values.take(width)?;
    let inlined = matches!(kind, 0x04..=0x06) || (width == 4 && matches!(kind, 0x07 | 0x08));
    if inlined {
        return Ok((kind, entry));
    }
    let offset = Cursor::new(entry).uint(width)? as usize;
    Ok((kind, all.get(offset..).ok_or(Short)?))
}

impl<'a> Writer<'a> {
    /// For a document of so many bytes.
    fn new(size: usize, arena: &'a Bump) -> Self {
        Self {
            out: Text::with_capacity_in(size.saturating_mul(2), arena),
            limit: size.saturating_mul(GROWTH).saturating_add(1024),
            arena,
        }
    }

    fn value(&mut self, kind: u8, data: &[u8], depth: u32) -> Result<(), Short> {
        if depth > MAX_DEPTH || self.out.len() > self.limit {
            return Err(Short);
        }
        let mut at = Cursor::new(data);
        match kind {
            OBJECT => self.object(data, 2, depth)?,
            LARGE_OBJECT => self.object(data, 4, depth)?,
            ARRAY => self.array(data, 2, depth)?,
            LARGE_ARRAY => self.array(data, 4, depth)?,
            LITERAL => self.out.push_str(match at.u8()? {
                0 => "null",
                1 => "true",
                2 => "false",
                _ => return Err(Short),
            }),
            0x05 => self.number(at.u16()? as i16)?,
            0x06 => self.number(at.u16()?)?,
            0x07 => self.number(at.u32()? as i32)?,
            0x08 => self.number(at.u32()?)?,
            0x09 => self.number(at.u64()? as i64)?,
            0x0a => self.number(at.u64()?)?,
            0x0b => double(f64::from_le_bytes(at.array()?), &mut self.out)?,
            0x0c => {
                let length = variable_length(&mut at)?;
                let string = std::str::from_utf8(at.take(length)?).map_err(|_| Short)?;
                self.string(string);
            }
            0x0f => {
                let of = at.u8()?;
                let length = variable_length(&mut at)?;
                self.opaque(of, at.take(length)?)?;
            }
            _ => return Err(Short),
        }
        Ok(())
    }

    fn number(&mut self, number: impl std::fmt::Display) -> Result<(), Short> {
        write!(self.out, "{number}").map_err(|_| Short)
    }

    fn object(&mut self, data: &[u8], width: usize, depth: u32) -> Result<(), Short> {
        let (count, all, mut keys) = container(data, width)?;
        let mut values = keys;
        values.take(count.checked_mul(width + 2).ok_or(Short)?)?;
        self.out.push('{');
        for index in 0..count {
            if index > 0 {
                self.out.push_str(", ");
            }
            self.string(key(&mut keys, all, width)?);
            self.out.push_str(": ");
            let (kind, data) = member(&mut values, all, width)?;
            self.value(kind, data, depth + 1)?;
        }
        self.out.push('}');
        Ok(())
    }

    fn array(&mut self, data: &[u8], width: usize, depth: u32) -> Result<(), Short> {
        let (count, all, mut values) = container(data, width)?;
        self.out.push('[');
        for index in 0..count {
            if index > 0 {
                self.out.push_str(", ");
            }
            let (kind, data) = member(&mut values, all, width)?;
            self.value(kind, data, depth + 1)?;
        }
        self.out.push(']');
        Ok(())
    }

    /// Escapes as the server does (`double_quote` in sql-common/json_dom.cc).
    fn string(&mut self, text: &str) {
        self.out.push('"');
        let mut plain = 0;
        for (index, byte) in text.bytes().enumerate() {
            let escape = match byte {
                b'"' => "\\\"",
                b'\\' => "\\\\",
                0x08 => "\\b",
                0x09 => "\\t",
                0x0a => "\\n",
                0x0c => "\\f",
                0x0d => "\\r",
                0..=0x1f => "",
                _ => continue,
            };
            self.out.push_str(text.get(plain..index).unwrap_or(""));
            plain = index + 1;
            if escape.is_empty() {
                // Writing to a string can't fail.
                let _ = write!(self.out, "\\u{byte:04x}");
            } else {
                self.out.push_str(escape);
            }
        }
        self.out.push_str(text.get(plain..).unwrap_or(""));
        self.out.push('"');
    }

    /// As `Json_wrapper::to_string` and `my_*_to_str` of the server do.
    fn opaque(&mut self, kind: u8, data: &[u8]) -> Result<(), Short> {
        let mut at = Cursor::new(data);
        if kind == wire::NEWDECIMAL {
            let (precision, scale) = (at.u8()?, at.u8()?);
            let text = decimal::text(at.rest(), precision, scale, self.arena).ok_or(Short)?;
            self.out.push_str(text);
            return Ok(());
        }
        if kind == wire::VAR_STRING {
            // The server takes these for strings: text of wide character sets, which it forgets to convert.
            self.string(std::str::from_utf8(data).map_err(|_| Short)?);
            return Ok(());
        }
        self.out.push('"');
        match kind {
            wire::DATE | wire::NEWDATE | wire::DATETIME | wire::TIMESTAMP => {
                let packed = at.u64()?;
                let value = temporal::packed_datetime(packed >> 24, packed & 0xff_ffff, 6)?;
                let date = value.date;
                write!(self.out, "{:04}-{:02}-{:02}", date.year, date.month, date.day).map_err(|_| Short)?;
                if !matches!(kind, wire::DATE | wire::NEWDATE) {
                    self.out.push(' ');
                    self.clock(value.micros)?;
                }
            }
            wire::TIME => {
                let packed = at.u64()? as i64;
                let size = packed.unsigned_abs();
                let time = temporal::packed_time(packed < 0, size >> 24, size & 0xff_ffff, 6)?;
                if packed < 0 {
                    self.out.push('-');
                }
                self.clock(time.micros.unsigned_abs())?;
            }
            _ => {
                write!(self.out, "base64:type{kind}:").map_err(|_| Short)?;
                base64(data, &mut self.out);
            }
        }
        self.out.push('"');
        Ok(())
    }

    fn clock(&mut self, micros: u64) -> Result<(), Short> {
        let seconds = micros / 1_000_000;
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(self.out, "{hour:02}:{minute:02}:{second:02}.{:06}", micros % 1_000_000).map_err(|_| Short)
    }
}

/// A length of 1 to 5 bytes, seven bits each, the lowest first.
fn variable_length(at: &mut Cursor<'_>) -> Result<usize, Short> {
    let mut length = 0_u64;
    for shift in [0, 7, 14, 21, 28] {
        let byte = at.u8()?;
        length |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return usize::try_from(length).map_err(|_| Short);
        }
    }
    Err(Short)
}

/// Shortest digits that read back the same, laid out as the server lays them out (`my_gcvt` in strings/dtoa.cc:
/// without an exponent where the point falls within 15 digits or between digits; JSON adds `.0` to what looks like an
/// integer).
fn double(value: f64, out: &mut Text<'_>) -> Result<(), Short> {
    if !value.is_finite() {
        return Err(Short);
    }
    if value == 0.0 {
        out.push_str(if value.is_sign_negative() { "-0.0" } else { "0.0" });
        return Ok(());
    }
    let mut scientific = Text::with_capacity_in(32, out.bump());
    write!(scientific, "{value:e}").map_err(|_| Short)?;
    to_even(value, &mut scientific)?;
    let (mantissa, exponent) = scientific.split_once('e').ok_or(Short)?;
    let point = exponent.parse::<i32>().map_err(|_| Short)? + 1;
    let count = mantissa.bytes().filter(u8::is_ascii_digit).count();
    let within = point > 15 && usize::try_from(point).is_ok_and(|point| count > point);
    if !(-14..=15).contains(&point) && !within {
        out.push_str(&scientific);
        return Ok(());
    }
    if mantissa.starts_with('-') {
        out.push('-');
    }
    let mut digits = Text::with_capacity_in(20, out.bump());
    digits.extend(mantissa.chars().filter(char::is_ascii_digit));
    if point <= 0 {
        out.push_str("0.");
        for _ in point..0 {
            out.push('0');
        }
        out.push_str(&digits);
    } else {
        let whole = point as usize;
        out.push_str(digits.get(..whole).unwrap_or(&digits));
        for _ in digits.len()..whole {
            out.push('0');
        }
        out.push('.');
        out.push_str(digits.get(whole..).filter(|rest| !rest.is_empty()).unwrap_or("0"));
    }
    Ok(())
}

/// Of two shortest texts that are equally near, the server takes the one with the even last digit, Rust the greater one.
fn to_even(value: f64, scientific: &mut Text<'_>) -> Result<(), Short> {
    let count = scientific.bytes().take_while(|byte| *byte != b'e').filter(u8::is_ascii_digit).count();
    // Fewer digits are never ambiguous.
    if count < 16 {
        return Ok(());
    }
    let mut exact = Text::with_capacity_in(80, scientific.bump());
    write!(exact, "{value:.*e}", count + 40).map_err(|_| Short)?;
    let (digits, exponent) = exact.split_once('e').ok_or(Short)?;
    // A sign perhaps, a digit and the point before the others.
    let (front, tail) = digits.split_at_checked(digits.len() - 41).ok_or(Short)?;
    let halfway = tail.strip_prefix('5').is_some_and(|rest| rest.bytes().all(|digit| digit == b'0'));
    if halfway && front.bytes().last().is_some_and(|digit| digit % 2 == 0) {
        scientific.clear();
        write!(scientific, "{front}e{exponent}").map_err(|_| Short)?;
    }
    Ok(())
}

fn base64(data: &[u8], out: &mut Text<'_>) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (nth, group) in data.chunks(3).enumerate() {
        // A line is full; within a JSON string its end is escaped.
        if nth > 0 && nth % BASE64_LINE == 0 {
            out.push_str("\\n");
        }
        let mut bits = 0_u32;
        for place in 0..3 {
            bits = bits << 8 | group.get(place).copied().map_or(0, u32::from);
        }
        for place in 0..4 {
            let digit = ALPHABET.get((bits >> (18 - 6 * place) & 63) as usize).copied().unwrap_or(b'=');
            out.push(if place <= group.len() { char::from(digit) } else { '=' });
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn written(value: f64) -> String {
        let arena = Bump::new();
        let mut out = Text::new_in(&arena);
        double(value, &mut out).unwrap();
        out.as_str().to_owned()
    }

    #[test]
    #[allow(clippy::excessive_precision)]
    fn doubles_look_as_the_server_writes_them() {
        for (value, expected) in [
            (1.0, "1.0"),
            (-1.5, "-1.5"),
            (0.1, "0.1"),
            (123_456.789, "123456.789"),
            (1e14, "100000000000000.0"),
            (1e15, "1e15"),
            (3_606_438_894_907_473.5, "3606438894907473.5"),
            // halfway between two texts
            (1_225_937_609_971_963.25, "1225937609971963.2"),
            (-1_746_740_961_723_083.25, "-1746740961723083.2"),
            (1_225_937_609_971_963.75, "1225937609971963.8"),
            (190_916_150_729_918.625, "190916150729918.62"),
            (-3_606_438_894_907_473.0, "-3.606438894907473e15"),
            (123_456_789_012_345_680.0, "1.2345678901234568e17"),
            (1.5e300, "1.5e300"),
            (1e-7, "0.0000001"),
            (1e-15, "0.000000000000001"),
            (1e-16, "1e-16"),
            (-0.0, "-0.0"),
        ] {
            assert_eq!(written(value), expected);
        }
    }

    #[test]
    fn a_small_document_reads_as_the_server_prints_it() {
        let arena = Bump::new();
        // {"a": 1, "b": [true, "x"]} as MySQL 9.7 stores it
        let bytes = [
            0x00, 0x02, 0x00, 0x20, 0x00, 0x12, 0x00, 0x01, 0x00, 0x13, 0x00, 0x01, 0x00, 0x05, 0x01, 0x00, 0x02, 0x14,
            0x00, b'a', b'b', 0x02, 0x00, 0x0c, 0x00, 0x04, 0x01, 0x00, 0x0c, 0x0a, 0x00, 0x01, b'x',
        ];
        assert_eq!(text(&bytes, &arena), Some(r#"{"a": 1, "b": [true, "x"]}"#));
        assert_eq!(text(&[], &arena), Some("null"));
    }

    /// A document that is one opaque value.
    fn opaque(kind: u8, data: &[u8]) -> Option<String> {
        let arena = Bump::new();
        let mut bytes = vec![0x0f, kind];
        bytes.extend(if data.len() < 128 { vec![data.len() as u8] } else { vec![data.len() as u8 | 0x80, 1] });
        bytes.extend_from_slice(data);
        text(&bytes, &arena).map(str::to_owned)
    }

    #[test]
    fn opaque_members_are_what_the_server_prints() {
        // As MySQL 9.7.4 stores and prints CAST(... AS JSON).
        let datetime = |packed: u64| packed.to_le_bytes();
        let noon = ((2026 * 13 + 11) << 5 | 22) << 17 | 11 << 12 | 32 << 6 | 36;
        assert_eq!(opaque(wire::NEWDECIMAL, &[3, 2, 0x81, 0x32]).unwrap(), "1.50");
        assert_eq!(opaque(wire::DATE, &datetime(noon << 24)).unwrap(), r#""2026-11-22""#);
        assert_eq!(opaque(wire::DATETIME, &datetime(noon << 24 | 500_000)).unwrap(), r#""2026-11-22 11:32:36.500000""#);
        assert_eq!(opaque(wire::TIMESTAMP, &datetime(noon << 24)).unwrap(), r#""2026-11-22 11:32:36.000000""#);
        assert_eq!(opaque(wire::DATETIME, &[0; 8]).unwrap(), r#""0000-00-00 00:00:00.000000""#);
        assert_eq!(opaque(wire::TIME, &(-1_i64).to_le_bytes()).unwrap(), r#""-00:00:00.000001""#);
        let long = -((838 << 12 | 59 << 6 | 59) << 24_i64);
        assert_eq!(opaque(wire::TIME, &i64::to_le_bytes(long)).unwrap(), r#""-838:59:59.000000""#);
        assert_eq!(opaque(wire::BIT, &[2, 1]).unwrap(), r#""base64:type16:AgE=""#);
        assert_eq!(opaque(wire::BLOB, &[0xff, 0]).unwrap(), r#""base64:type252:/wA=""#);
        assert_eq!(opaque(wire::VARCHAR, &[]).unwrap(), r#""base64:type15:""#);
        assert_eq!(opaque(wire::VAR_STRING, b"\0a").unwrap(), r#""\u0000a""#);
        assert_eq!(opaque(wire::VAR_STRING, b"\xff"), None);
        let line = "eHh4".repeat(19);
        assert_eq!(opaque(wire::VARCHAR, &[b'x'; 57]).unwrap(), format!(r#""base64:type15:{line}""#));
        assert_eq!(opaque(wire::VARCHAR, &[b'x'; 58]).unwrap(), format!(r#""base64:type15:{line}\neA==""#));
        assert_eq!(opaque(wire::VARCHAR, &[b'x'; 150]).unwrap().matches("\\n").count(), 2);
    }

    #[test]
    fn damage_is_refused_and_bounded() {
        let arena = Bump::new();
        // An array whose member is itself.
        assert_eq!(text(&[0x02, 1, 0, 7, 0, 0x02, 0, 0], &arena), None);
        // One with 200 members that each are an array of 200 that each ... : exponential if unbounded.
        let mut bytes = vec![0x02, 200, 0, 0x5c, 0x02];
        for _ in 0..200 {
            bytes.extend_from_slice(&[0x02, 0, 0]);
        }
        assert_eq!(text(&bytes, &arena), None);
        assert_eq!(text(&[0x0c, 0xff, 0xff, 0xff, 0xff, 0xff], &arena), None);
        assert_eq!(text(&[0x0f, wire::NEWDECIMAL, 3, 255, 255, 1], &arena), None);
        assert_eq!(text(&[0x77], &arena), None);
    }

    #[test]
    fn base64_is_padded() {
        let arena = Bump::new();
        for (bytes, expected) in [(&b""[..], ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v")] {
            let mut out = Text::new_in(&arena);
            base64(bytes, &mut out);
            assert_eq!(out.as_str(), expected);
        }
    }
}
