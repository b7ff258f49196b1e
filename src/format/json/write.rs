//! Writes values as JSON straight into a buffer.
//!
//! The form of every value is the contract of the envelope: lossless, readable, the same for every source. Nothing is
//! allocated; strings are copied in runs between the characters that must be escaped.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rowcast_core::value::{Dimension, Range};
use rowcast_core::{Array, Date, DateTime, Interval, Time, Value};

/// Writes one value. [`Value::Absent`] is written as `null`: the caller leaves such columns out.
pub fn value(out: &mut Vec<u8>, value: &Value<'_>) {
    match value {
        Value::Null | Value::Absent => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Int(number) => int(out, *number),
        Value::UInt(number) => uint(out, *number),
        Value::Float(number) => float(out, *number),
        Value::Double(number) => double(out, *number),
        // decimals and bits consist of digits, signs and letters: nothing to escape
        Value::Decimal(text) | Value::Bits(text) => quoted(out, text.as_bytes()),
        Value::Text(text) | Value::Enum(text) | Value::Other(text) => string(out, text),
        Value::Bytes(bytes) => base64(out, bytes),
        Value::Date(date) => {
            out.push(b'"');
            write_date(out, *date);
            out.push(b'"');
        }
        Value::Time(time) => {
            out.push(b'"');
            write_time(out, *time);
            out.push(b'"');
        }
        Value::TimeTz(time, offset) => {
            out.push(b'"');
            write_time(out, *time);
            write_offset(out, *offset);
            out.push(b'"');
        }
        Value::DateTime(at) => {
            out.push(b'"');
            write_datetime(out, *at);
            out.push(b'"');
        }
        Value::Instant(at) => {
            out.push(b'"');
            write_datetime(out, *at);
            out.extend_from_slice(b"Z\"");
        }
        Value::TemporalInfinity { negative: false } => out.extend_from_slice(b"\"infinity\""),
        Value::TemporalInfinity { negative: true } => out.extend_from_slice(b"\"-infinity\""),
        Value::Interval(interval) => write_interval(out, *interval),
        Value::Uuid(bytes) => write_uuid(out, bytes),
        Value::Json(text) => document(out, text),
        Value::Set(labels) => write_list(out, labels, |out, label| string(out, label)),
        Value::Array(array) => write_array(out, array),
        Value::Range(range) => write_range(out, range),
        Value::Object(members) => write_object(out, members),
        Value::Geometry(geometry) => {
            out.extend_from_slice(b"{\"wkb\":");
            base64(out, geometry.wkb);
            out.extend_from_slice(b",\"srid\":");
            uint(out, u64::from(geometry.srid));
            out.push(b'}');
        }
        Value::Vector(numbers) => write_list(out, numbers, |out, number| float(out, *number)),
        Value::SparseVector(vector) => {
            out.extend_from_slice(b"{\"dimensions\":");
            uint(out, u64::from(vector.dimensions));
            out.extend_from_slice(b",\"indices\":");
            write_list(out, vector.indices, |out, index| uint(out, u64::from(*index)));
            out.extend_from_slice(b",\"values\":");
            write_list(out, vector.values, |out, number| float(out, *number));
            out.push(b'}');
        }
    }
}

/// Writes a signed integer.
pub fn int(out: &mut Vec<u8>, number: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Writes an unsigned integer.
pub fn uint(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn double(out: &mut Vec<u8>, number: f64) {
    if number.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(number).as_bytes());
    } else {
        not_finite(out, number.is_nan(), number > 0.0);
    }
}

fn float(out: &mut Vec<u8>, number: f32) {
    if number.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(number).as_bytes());
    } else {
        not_finite(out, number.is_nan(), number > 0.0);
    }
}

fn not_finite(out: &mut Vec<u8>, nan: bool, positive: bool) {
    out.extend_from_slice(match (nan, positive) {
        (true, _) => b"\"NaN\"",
        (false, true) => b"\"Infinity\"",
        (false, false) => b"\"-Infinity\"",
    });
}

fn quoted(out: &mut Vec<u8>, plain: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(plain);
    out.push(b'"');
}

/// Writes a string with its quotes.
pub fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    part::<false>(out, text);
    out.push(b'"');
}

/// The same as Jackson writes it: hexadecimal digits in capitals where a character has no short escape, and escapes for characters beyond
/// Unicode's first plane.
pub fn jackson_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    jackson_part(out, text);
    out.push(b'"');
}

/// A part of such a string, without quotes.
pub fn jackson_part(out: &mut Vec<u8>, text: &str) {
    part::<true>(out, text);
}

#[inline]
fn part<const JACKSON: bool>(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    loop {
        let run = plain_run::<JACKSON>(rest);
        let (plain, special) = rest.split_at(run.min(rest.len()));
        out.extend_from_slice(plain);
        let Some((byte, after)) = special.split_first() else { break };
        rest = match special.split_first_chunk::<4>() {
            Some((letter, after)) if JACKSON && *byte >= 0xf0 => {
                surrogates(out, *letter);
                after
            }
            _ => {
                escape::<JACKSON>(out, *byte);
                after
            }
        };
    }
}

/// A character beyond Unicode's first plane, of four bytes, as the escapes of its two surrogates.
fn surrogates(out: &mut Vec<u8>, letter: [u8; 4]) {
    let mut units = [0_u16; 2];
    let letter = std::str::from_utf8(&letter).ok().and_then(|text| text.chars().next());
    for unit in letter.map(|letter| letter.encode_utf16(&mut units)).unwrap_or_default() {
        out.extend_from_slice(b"\\u");
        for shift in [12, 8, 4, 0] {
            let digit = usize::from(*unit >> shift & 15);
            out.push(b"0123456789ABCDEF".get(digit).copied().unwrap_or(b'0'));
        }
    }
}

fn escape<const JACKSON: bool>(out: &mut Vec<u8>, byte: u8) {
    let hex = if JACKSON { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
    let short = match byte {
        b'"' => b'"',
        b'\\' => b'\\',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => {
            out.extend_from_slice(b"\\u00");
            for digit in [byte >> 4, byte & 15] {
                out.push(hex.get(usize::from(digit)).copied().unwrap_or(b'0'));
            }
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Length of the longest prefix without a character that must be escaped: eight bytes at a time.
#[inline]
fn plain_run<const JACKSON: bool>(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let has_zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let (words, _) = bytes.as_chunks::<8>();
    let mut length = 0;
    for word in words {
        let word = u64::from_ne_bytes(*word);
        // below 0x20: subtracting borrows into the high bit, unless it was set (UTF-8 beyond ASCII)
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let quote = has_zero(word ^ (ONES * u64::from(b'"')));
        let backslash = has_zero(word ^ (ONES * u64::from(b'\\')));
        // the first byte of a character of four: its upper four bits are set
        let four = if JACKSON { word & (word << 1) & (word << 2) & (word << 3) & HIGHS } else { 0 };
        if (control | quote | backslash | four) != 0 {
            break;
        }
        length += 8;
    }
    let tail = bytes.get(length..).unwrap_or(&[]);
    let plain = |byte: &u8| *byte >= 0x20 && *byte != b'"' && *byte != b'\\' && !(JACKSON && *byte >= 0xf0);
    length + tail.iter().take_while(|byte| plain(byte)).count()
}

/// A JSON document as the server has it. Line breaks between its tokens become blanks, so that an event stays one line;
/// inside strings JSON has none.
fn document(out: &mut Vec<u8>, text: &str) {
    if text.is_empty() {
        out.extend_from_slice(b"null");
        return;
    }
    let from = out.len();
    out.extend_from_slice(text.as_bytes());
    if let Some(written) = out.get_mut(from..) {
        for byte in written.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')) {
            *byte = b' ';
        }
    }
}

/// Writes bytes in base64, with quotes.
pub fn base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    let mut block = [0_u8; 1024];
    for chunk in bytes.chunks(768) {
        // 768 bytes make exactly 1,024 characters, so padding occurs at the very end only
        let length = STANDARD.encode_slice(chunk, &mut block).unwrap_or(0);
        out.extend_from_slice(block.get(..length).unwrap_or(&[]));
    }
    out.push(b'"');
}

fn padded(out: &mut Vec<u8>, number: u64, width: usize) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(number).as_bytes();
    for _ in digits.len()..width {
        out.push(b'0');
    }
    out.extend_from_slice(digits);
}

fn two(out: &mut Vec<u8>, number: u8) {
    let number = number.min(99);
    out.extend_from_slice(&[b'0' + number / 10, b'0' + number % 10]);
}

/// Years 0 to 9999 with four digits, others in ISO 8601's expanded form with a sign and at least six (as ECMAScript reads
/// them).
fn write_date(out: &mut Vec<u8>, date: Date) {
    if (0..=9999).contains(&date.year) {
        two(out, (date.year / 100) as u8);
        two(out, (date.year % 100) as u8);
    } else {
        out.push(if date.year < 0 { b'-' } else { b'+' });
        padded(out, u64::from(date.year.unsigned_abs()), 6);
    }
    out.push(b'-');
    two(out, date.month);
    out.push(b'-');
    two(out, date.day);
}

/// Writes a point and so many digits; nothing for none.
pub fn fraction(out: &mut Vec<u8>, micros: u64, digits: u8) {
    if digits > 0 {
        out.push(b'.');
        let mut unit = 100_000;
        for _ in 0..digits.min(6) {
            out.push(b'0' + (micros / unit % 10) as u8);
            unit /= 10;
        }
    }
}

/// Writes `11:32:36.5`, with so many digits.
pub fn clock(out: &mut Vec<u8>, micros: u64, digits: u8) {
    let seconds = micros / 1_000_000;
    let hours = seconds / 3600;
    if hours < 100 {
        two(out, hours as u8);
    } else {
        uint(out, hours);
    }
    out.push(b':');
    two(out, (seconds / 60 % 60) as u8);
    out.push(b':');
    two(out, (seconds % 60) as u8);
    fraction(out, micros % 1_000_000, digits);
}

fn write_time(out: &mut Vec<u8>, time: Time) {
    if time.micros < 0 {
        out.push(b'-');
    }
    clock(out, time.micros.unsigned_abs(), time.digits);
}

fn write_datetime(out: &mut Vec<u8>, at: DateTime) {
    write_date(out, at.date);
    out.push(b'T');
    clock(out, at.micros, at.digits);
}

/// Writes `Z`, or an offset in hours, minutes and, where there are some, seconds.
pub fn write_offset(out: &mut Vec<u8>, seconds: i32) {
    if seconds == 0 {
        out.push(b'Z');
        return;
    }
    out.push(if seconds < 0 { b'-' } else { b'+' });
    let seconds = seconds.unsigned_abs();
    two(out, (seconds / 3600) as u8);
    out.push(b':');
    two(out, (seconds / 60 % 60) as u8);
    if !seconds.is_multiple_of(60) {
        out.push(b':');
        two(out, (seconds % 60) as u8);
    }
}

/// ISO 8601 duration with every field signed on its own: `P1Y-2M3DT-4H`.
fn write_interval(out: &mut Vec<u8>, interval: Interval) {
    out.extend_from_slice(b"\"P");
    let from = out.len();
    let field = |out: &mut Vec<u8>, number: i64, unit: u8| {
        if number != 0 {
            int(out, number);
            out.push(unit);
        }
    };
    field(out, i64::from(interval.months / 12), b'Y');
    field(out, i64::from(interval.months % 12), b'M');
    field(out, i64::from(interval.days), b'D');
    if interval.micros != 0 {
        out.push(b'T');
        let seconds = interval.micros / 1_000_000;
        field(out, seconds / 3600, b'H');
        field(out, seconds / 60 % 60, b'M');
        let (whole, micros) = (seconds % 60, interval.micros % 1_000_000);
        if whole != 0 || micros != 0 {
            if interval.micros < 0 {
                out.push(b'-');
            }
            uint(out, whole.unsigned_abs());
            fraction(out, micros.unsigned_abs(), significant(micros.unsigned_abs()));
            out.push(b'S');
        }
    }
    if out.len() == from {
        out.extend_from_slice(b"T0S");
    }
    out.push(b'"');
}

/// Fraction digits without trailing zeros.
pub fn significant(mut micros: u64) -> u8 {
    if micros == 0 {
        return 0;
    }
    let mut digits = 6;
    while micros.is_multiple_of(10) {
        micros /= 10;
        digits -= 1;
    }
    digits
}

/// Writes a uuid with quotes.
pub fn write_uuid(out: &mut Vec<u8>, uuid: &[u8; 16]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for (index, byte) in uuid.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        for digit in [byte >> 4, byte & 15] {
            out.push(HEX.get(usize::from(digit)).copied().unwrap_or(b'0'));
        }
    }
    out.push(b'"');
}

fn write_list<T>(out: &mut Vec<u8>, members: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (index, member) in members.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, member);
    }
    out.push(b']');
}

fn write_object(out: &mut Vec<u8>, members: &[(&str, Value<'_>)]) {
    out.push(b'{');
    for (index, (name, member)) in members.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        string(out, name);
        out.push(b':');
        value(out, member);
    }
    out.push(b'}');
}

/// `"empty"`, or both bounds (null: there is none) and whether they are in the range.
fn write_range(out: &mut Vec<u8>, range: &Range<'_>) {
    let Range::Between { lower, upper, lower_inclusive, upper_inclusive } = range else {
        return out.extend_from_slice(b"\"empty\"");
    };
    out.extend_from_slice(b"{\"lower\":");
    value(out, lower);
    out.extend_from_slice(b",\"upper\":");
    value(out, upper);
    out.extend_from_slice(b",\"bounds\":\"");
    out.push(if *lower_inclusive { b'[' } else { b'(' });
    out.push(if *upper_inclusive { b']' } else { b')' });
    out.extend_from_slice(b"\"}");
}

/// Nested arrays; with lower bounds other than 1 as `{"lower":[..],"values":[..]}`.
fn write_array(out: &mut Vec<u8>, array: &Array<'_>) {
    let bounded = array.dimensions.iter().any(|dimension| dimension.lower != 1);
    if bounded {
        out.extend_from_slice(b"{\"lower\":");
        write_list(out, array.dimensions, |out, dimension| int(out, i64::from(dimension.lower)));
        out.extend_from_slice(b",\"values\":");
    }
    let mut elements = array.elements.iter();
    write_dimension(out, array.dimensions, &mut elements);
    if bounded {
        out.push(b'}');
    }
}

fn write_dimension<'a>(
    out: &mut Vec<u8>,
    dimensions: &[Dimension],
    elements: &mut impl Iterator<Item = &'a Value<'a>>,
) {
    out.push(b'[');
    if let Some((outer, inner)) = dimensions.split_first() {
        for index in 0..outer.length {
            if index > 0 {
                out.push(b',');
            }
            if !inner.is_empty() {
                write_dimension(out, inner, elements);
            } else if let Some(element) = elements.next() {
                value(out, element);
            } else {
                break;
            }
        }
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rowcast_core::value::{Geometry, SparseVector};

    use super::*;

    fn json(of: Value<'_>) -> String {
        let mut out = Vec::new();
        value(&mut out, &of);
        let text = String::from_utf8(out).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
        text
    }

    fn instant(year: i32, micros: u64, digits: u8) -> Value<'static> {
        Value::Instant(DateTime { date: Date { year, month: 11, day: 22 }, micros, digits })
    }

    #[test]
    fn every_kind_of_value_has_the_form_of_the_contract() {
        let elements = [Value::Int(1), Value::Null, Value::Int(3), Value::Int(4)];
        let grid = Array {
            dimensions: &[Dimension { length: 2, lower: 1 }, Dimension { length: 2, lower: 1 }],
            elements: &elements,
        };
        let shifted = Array { dimensions: &[Dimension { length: 1, lower: 0 }], elements: &[Value::Text("x")] };
        let empty = Array { dimensions: &[], elements: &[] };
        let range =
            |lower, upper, lower_inclusive| Range::Between { lower, upper, lower_inclusive, upper_inclusive: false };
        let (some, open) = (range(Value::Int(1), Value::Decimal("2.5"), true), range(Value::Null, Value::Null, false));
        let sparse = SparseVector { dimensions: 5, indices: &[1, 3], values: &[1.5, -2.0] };
        for (value, expected) in [
            (Value::Null, "null"),
            (Value::Bool(true), "true"),
            (Value::Int(i64::MIN), "-9223372036854775808"),
            (Value::UInt(u64::MAX), "18446744073709551615"),
            (Value::Double(0.1), "0.1"),
            (Value::Double(f64::NEG_INFINITY), "\"-Infinity\""),
            (Value::Float(f32::NAN), "\"NaN\""),
            (Value::Float(0.1), "0.1"),
            (Value::Decimal("12.50"), "\"12.50\""),
            (Value::Bytes(b"\0\xff"), "\"AP8=\""),
            (Value::Bits("0101"), "\"0101\""),
            (Value::Date(Date { year: 0, month: 0, day: 0 }), "\"0000-00-00\""),
            (Value::Date(Date { year: 12345, month: 1, day: 2 }), "\"+012345-01-02\""),
            (Value::Date(Date { year: -43, month: 3, day: 15 }), "\"-000043-03-15\""),
            (Value::Time(Time { micros: -3_020_399_000_000, digits: 6 }), "\"-838:59:59.000000\""),
            (Value::Time(Time { micros: 43_200_500_000, digits: 1 }), "\"12:00:00.5\""),
            (Value::TimeTz(Time { micros: 43_200_000_000, digits: 0 }, -12_600), "\"12:00:00-03:30\""),
            (instant(2026, 41_556_411_035, 6), "\"2026-11-22T11:32:36.411035Z\""),
            (instant(2026, 41_556_411_035, 3), "\"2026-11-22T11:32:36.411Z\""),
            (Value::TemporalInfinity { negative: true }, "\"-infinity\""),
            (Value::Interval(Interval { months: 14, days: 3, micros: 14_706_700_000 }), "\"P1Y2M3DT4H5M6.7S\""),
            (Value::Interval(Interval { months: -1, days: 0, micros: -500_000 }), "\"P-1MT-0.5S\""),
            (Value::Interval(Interval { months: 0, days: 0, micros: 0 }), "\"PT0S\""),
            (Value::Uuid([0xab; 16]), "\"abababab-abab-abab-abab-abababababab\""),
            (Value::Json("{\"a\":\n 1.10}"), "{\"a\":  1.10}"),
            (Value::Set(&["a", "b"]), "[\"a\",\"b\"]"),
            (Value::Array(&grid), "[[1,null],[3,4]]"),
            (Value::Array(&shifted), "{\"lower\":[0],\"values\":[\"x\"]}"),
            (Value::Array(&empty), "[]"),
            (Value::Range(&some), r#"{"lower":1,"upper":"2.5","bounds":"[)"}"#),
            (Value::Range(&open), r#"{"lower":null,"upper":null,"bounds":"()"}"#),
            (Value::Range(&Range::Empty), "\"empty\""),
            (Value::Object(&[("a\"b", Value::Int(1)), ("", Value::Null)]), r#"{"a\"b":1,"":null}"#),
            (Value::Object(&[]), "{}"),
            (Value::Geometry(Geometry { wkb: &[1, 2], srid: 4326 }), r#"{"wkb":"AQI=","srid":4326}"#),
            (Value::Vector(&[1.0, 0.1, -3e38]), "[1.0,0.1,-3e+38]"),
            (Value::SparseVector(&sparse), r#"{"dimensions":5,"indices":[1,3],"values":[1.5,-2.0]}"#),
        ] {
            assert_eq!(json(value), expected);
        }
    }

    #[test]
    fn strings_equal_what_serde_json_writes_at_every_length_and_place() {
        for special in ["\"", "\\", "\n", "\u{1}", "\u{7f}", "ä", "\u{10ffff}", "\u{2028}", "\t\r\u{8}\u{c}"] {
            for before in 0..18 {
                for after in [0, 1, 7, 8, 9] {
                    let text = format!("{}{special}{}", "x".repeat(before), "é".repeat(after));
                    assert_eq!(json(Value::Text(&text)), serde_json::to_string(&text).unwrap());
                }
            }
        }
    }

    #[test]
    fn jackson_escapes_what_lies_beyond_the_first_plane() {
        let mut out = Vec::new();
        for before in 0..18 {
            out.clear();
            jackson_string(&mut out, &format!("{}é\u{1f600}€\u{1f}\u{10ffff}y", "x".repeat(before)));
            let expected = format!("\"{}é\\uD83D\\uDE00€\\u001F\\uDBFF\\uDFFFy\"", "x".repeat(before));
            assert_eq!(String::from_utf8(out.clone()).unwrap(), expected);
        }
    }

    #[test]
    fn long_bytes_are_one_base64_text() {
        for length in [0, 1, 2, 3, 767, 768, 769, 2000] {
            let bytes = vec![0x5a; length];
            assert_eq!(json(Value::Bytes(&bytes)), format!("\"{}\"", STANDARD.encode(&bytes)));
        }
    }
}
