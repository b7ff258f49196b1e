//! How the values of one column are written: a [`Form`] per column, chosen once per table version ([`super::column`]), and the writer
//! that walks it for each value. Written straight into the buffer. What is a text of a text
//! allocates one: `hstore`, what has our own form as a text, PostGIS's bytes with their reference system; and decimals of more than 38 digits.
//!
//! A value that its form can't hold (a decimal's `NaN` in bytes) is `null`, as the original's is.

use rowcast_core::value::Geometry;
use rowcast_core::{DateTime, Value};

use super::mask::Mask;
use super::nested::{write_array, write_range};
use super::number;
use super::string;
use super::time::{self, Unit};
use crate::config::BinaryMode;
use crate::format::json::{self, base64, int, uint};

/// How a value is written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Form {
    /// Integers and booleans as they are.
    Plain,
    /// MySQL's `bigint unsigned` as the original has it: what doesn't fit is negative.
    Wrapping,
    Float,
    Double,
    /// Bytes of the number that is left without the point.
    Decimal {
        scale: i32,
    },
    /// With the scale beside; zeros at the end are kept or not.
    Variable {
        as_written: bool,
    },
    DecimalDouble,
    DecimalText,
    Text,
    Bytes(BinaryMode),
    /// One bit as a boolean.
    Bit,
    /// Little-endian bytes: this many at least. `as_long`: as many as the value's bits need, zeros included.
    Bits {
        bytes: usize,
        as_long: bool,
    },
    Days {
        exact: bool,
    },
    IsoDate,
    Time {
        unit: Unit,
        /// Times outside of a day are null, as they are where Connect's type or ISO's text is meant.
        day_only: bool,
    },
    IsoTime {
        day_only: bool,
    },
    Timestamp {
        unit: Unit,
        exact: bool,
    },
    IsoTimestamp {
        exact: bool,
    },
    /// A text in UTC with so many digits; none: as many as there are. `trimmed`: rows that were read have no zeros at the end.
    Zoned {
        digits: Option<u8>,
        trimmed: bool,
    },
    ZonedTime {
        keep_offset: bool,
    },
    IntervalMicros {
        exact: bool,
    },
    IntervalText {
        exact: bool,
    },
    Uuid,
    /// A label list as one text.
    Set,
    /// JSON as a text. `compact`: without blanks between tokens, but in rows that were read if these are `spaced`.
    Document {
        compact: bool,
        spaced: bool,
    },
    HstoreText,
    Map,
    /// Of MySQL, or of PostgreSQL's text.
    Point,
    /// `extended`: the reference system in the bytes too, as PostGIS has it.
    Geometry {
        extended: bool,
    },
    Vector,
    SparseVector,
    /// The server's text of a range.
    Range,
    /// `nested`: of several dimensions; else their elements are null.
    Array {
        of: Box<Form>,
        nested: bool,
    },
    /// Our own form as a text: of what the original leaves out.
    OwnText,
    /// Another one, cut or hidden.
    Masked(Box<Mask>),
}

/// What a value is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// A row that was read, not streamed.
    pub(super) read: bool,
    /// Years of two digits are of this century or the last.
    pub(super) adjust: bool,
}

impl Form {
    /// Writes a value that is neither NULL nor absent.
    #[inline]
    pub(super) fn write(&self, out: &mut Vec<u8>, value: &Value<'_>, place: Place) {
        if !self.written(out, value, place) {
            out.extend_from_slice(b"null");
        }
    }

    /// False if the form can't hold the value, or if the connector gave a value of another type: then nothing is written.
    pub(super) fn written(&self, out: &mut Vec<u8>, value: &Value<'_>, place: Place) -> bool {
        match (self, value) {
            (_, Value::Null | Value::Absent) => return false,
            (Form::Plain, Value::Int(number)) => int(out, *number),
            (Form::Plain, Value::UInt(number)) => uint(out, *number),
            (Form::Plain, Value::Bool(true)) => out.extend_from_slice(b"true"),
            (Form::Plain, Value::Bool(false)) => out.extend_from_slice(b"false"),
            (Form::Wrapping, Value::UInt(number)) => int(out, *number as i64),
            (Form::Float, Value::Float(number)) => number::float(out, *number),
            (Form::Double, Value::Double(number)) => number::double(out, *number),
            (Form::Double, Value::Float(number)) => number::double(out, f64::from(*number)),
            (Form::Decimal { scale }, Value::Decimal(text)) => return number::decimal(out, text, *scale),
            (Form::Decimal { .. }, Value::UInt(number)) => {
                number::integer(i128::from(*number), |bytes| base64(out, bytes))
            }
            (Form::Variable { as_written }, Value::Decimal(text)) => return number::variable(out, text, *as_written),
            (Form::DecimalDouble, Value::Decimal(text)) => number::double(out, text.parse().unwrap_or(f64::NAN)),
            (Form::DecimalText, Value::Decimal(text)) => quoted(out, decimal_word(text).as_bytes()),
            (Form::Text, Value::Text(text) | Value::Enum(text) | Value::Other(text) | Value::Json(text)) => {
                string(out, text);
            }
            (Form::Text | Form::Uuid, Value::Uuid(uuid)) => json::write_uuid(out, uuid),
            (Form::Bytes(mode), Value::Bytes(bytes)) => binary(out, bytes, *mode),
            (Form::Bit, Value::Bits(bits)) => {
                let set = bits.bytes().any(|bit| bit == b'1');
                out.extend_from_slice(if set { b"true" } else { b"false" });
            }
            (Form::Bits { bytes, as_long }, Value::Bits(bits)) => write_bits(out, bits, *bytes, *as_long),
            (Form::Set, Value::Set(labels)) => write_set(out, labels),
            (Form::Document { compact, spaced }, Value::Json(text)) => {
                if *compact && !(place.read && *spaced) {
                    compacted(out, text)
                } else {
                    string(out, text)
                }
            }
            (Form::HstoreText, Value::Object(members)) => write_hstore(out, members),
            (Form::Map, Value::Object(members)) => write_members(out, &java_order(members)),
            (Form::Point, Value::Geometry(geometry)) => return write_point(out, geometry.wkb, geometry.srid),
            (Form::Point, Value::Other(text)) => return write_text_point(out, text),
            (Form::Geometry { extended }, Value::Geometry(geometry)) => write_geometry(out, geometry, *extended),
            (Form::Vector, Value::Vector(numbers)) => write_numbers(out, numbers),
            (Form::SparseVector, Value::SparseVector(vector)) => {
                out.extend_from_slice(b"{\"dimensions\":");
                uint(out, u64::from(vector.dimensions));
                out.extend_from_slice(b",\"vector\":[");
                for (at, (index, number)) in vector.indices.iter().zip(vector.values).enumerate() {
                    out.extend_from_slice(if at > 0 { b",[" } else { b"[" });
                    uint(out, u64::from(*index));
                    out.push(b',');
                    number::float(out, *number);
                    out.push(b']');
                }
                out.extend_from_slice(b"]}");
            }
            (Form::Range, Value::Range(range)) => write_range(out, range),
            (Form::Array { of, nested }, Value::Array(array)) => write_array(out, of, array, *nested, place),
            (Form::OwnText, value) => own_text(out, value),
            (Form::Masked(mask), value) => return mask.written(out, value, place),
            _ => return self.temporal(out, value, place),
        }
        true
    }

    /// The same of dates and times.
    fn temporal(&self, out: &mut Vec<u8>, value: &Value<'_>, place: Place) -> bool {
        let shifted = |date| if place.adjust { time::adjusted(date) } else { date };
        match (self, value) {
            (Form::Days { exact }, Value::TemporalInfinity { negative }) => {
                time::number(out, time::infinite_date(*negative, *exact), true);
            }
            (Form::Days { .. }, Value::Date(date)) => {
                if time::is_zero(*date) {
                    return false;
                }
                time::number(out, time::days(shifted(*date)), true);
            }
            (Form::IsoDate, Value::Date(date)) => {
                if time::is_zero(*date) && place.adjust {
                    return false;
                }
                out.push(b'"');
                time::write_date(out, shifted(*date));
                out.extend_from_slice(b"Z\"");
            }
            (Form::Time { unit, day_only }, Value::Time(at)) => {
                if *day_only && !(0..=86_400_000_000).contains(&at.micros) {
                    return false;
                }
                time::number(out, time::time(*at, *unit), true);
            }
            (Form::IsoTime { day_only }, Value::Time(at)) => {
                if *day_only && !(0..=86_400_000_000).contains(&at.micros) {
                    return false;
                }
                out.extend_from_slice(if at.micros < 0 { b"\"-" } else { b"\"" });
                time::write_clock(out, at.micros.unsigned_abs(), None);
                out.extend_from_slice(b"Z\"");
            }
            (Form::Timestamp { unit, exact }, Value::DateTime(at) | Value::Instant(at)) => {
                if time::is_zero(at.date) {
                    return false;
                }
                let at = DateTime { date: shifted(at.date), ..*at };
                time::number(out, time::timestamp(at, *unit), *exact);
            }
            (Form::Timestamp { unit, .. }, Value::TemporalInfinity { negative }) => {
                time::number(out, time::infinity(*negative, *unit), true);
            }
            (Form::IsoTimestamp { .. }, Value::DateTime(at)) => {
                if time::is_zero(at.date) && place.adjust {
                    return false;
                }
                let at = DateTime { date: shifted(at.date), ..*at };
                out.push(b'"');
                time::write_instant(out, at, None);
                out.push(b'"');
            }
            (Form::IsoTimestamp { exact: false }, Value::TemporalInfinity { negative }) => {
                let micros = time::infinity(*negative, Unit::Micros) as i64;
                out.push(b'"');
                time::write_instant(out, DateTime::from_unix_micros(micros, 6), None);
                out.push(b'"');
            }
            (Form::Zoned { digits, trimmed }, Value::Instant(at)) => {
                if time::is_zero(at.date) {
                    return false;
                }
                let at = DateTime { date: shifted(at.date), ..*at };
                out.push(b'"');
                time::write_instant(out, at, digits.filter(|digits| *digits > 0 && !(place.read && *trimmed)));
                out.push(b'"');
            }
            (
                Form::Zoned { .. } | Form::IsoDate | Form::IsoTimestamp { .. } | Form::IntervalText { exact: true },
                Value::TemporalInfinity { negative },
            ) => {
                out.extend_from_slice(if *negative { b"\"-infinity\"" } else { b"\"infinity\"" });
            }
            (Form::ZonedTime { keep_offset }, Value::TimeTz(at, offset)) => {
                out.push(b'"');
                time::write_zoned_time(out, *at, *offset, *keep_offset);
                out.push(b'"');
            }
            (Form::IntervalMicros { exact }, Value::Interval(interval)) => {
                time::number(out, time::interval(*interval, *exact), *exact);
            }
            (Form::IntervalMicros { exact }, Value::TemporalInfinity { negative }) => {
                out.extend_from_slice(match (exact, negative) {
                    (false, _) => b"0",
                    (true, true) => b"-9223372036854775808".as_slice(),
                    (true, false) => b"9223372036854775807",
                });
            }
            (Form::IntervalText { .. }, Value::Interval(interval)) => {
                out.push(b'"');
                time::write_interval(out, *interval);
                out.push(b'"');
            }
            (Form::IntervalText { exact: false }, Value::TemporalInfinity { .. }) => {
                out.extend_from_slice(b"\"P0Y0M0DT0H0M0S\"");
            }
            _ => return false,
        }
        true
    }
}

fn quoted(out: &mut Vec<u8>, plain: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(plain);
    out.push(b'"');
}

/// The original's words for what is no number.
fn decimal_word(text: &str) -> &str {
    match text {
        "NaN" => "NAN",
        "Infinity" => "POSITIVE_INFINITY",
        "-Infinity" => "NEGATIVE_INFINITY",
        number => number,
    }
}

/// Writes bytes in a mode.
pub(super) fn binary(out: &mut Vec<u8>, bytes: &[u8], mode: BinaryMode) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match mode {
        BinaryMode::Bytes | BinaryMode::Base64 => base64(out, bytes),
        BinaryMode::Base64UrlSafe => {
            let from = out.len();
            base64(out, bytes);
            for letter in out.get_mut(from..).unwrap_or_default() {
                match letter {
                    b'+' => *letter = b'-',
                    b'/' => *letter = b'_',
                    _ => {}
                }
            }
        }
        BinaryMode::Hex => {
            out.push(b'"');
            for digit in bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]) {
                out.push(HEX.get(usize::from(digit)).copied().unwrap_or(b'0'));
            }
            out.push(b'"');
        }
    }
}

fn write_bits(out: &mut Vec<u8>, bits: &str, least: usize, as_long: bool) {
    let bits = bits.as_bytes();
    let first = bits.iter().position(|bit| *bit == b'1').unwrap_or(bits.len());
    let needed = if as_long { bits.len() } else { bits.len() - first };
    let count = needed.div_ceil(8).max(least);
    let byte = |at: usize| {
        (0..8).fold(0_u8, |byte, bit| {
            let place = bits.len().checked_sub(at * 8 + bit + 1).and_then(|place| bits.get(place));
            byte | u8::from(place == Some(&b'1')) << bit
        })
    };
    // values are short: 64 bits for MySQL
    let mut block = [0_u8; 768];
    if let Some(bytes) = block.get_mut(..count) {
        bytes.iter_mut().enumerate().for_each(|(at, place)| *place = byte(at));
        base64(out, bytes);
    } else {
        base64(out, &(0..count).map(byte).collect::<Vec<u8>>());
    }
}

fn write_set(out: &mut Vec<u8>, labels: &[&str]) {
    out.push(b'"');
    for (index, label) in labels.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        json::jackson_part(out, label);
    }
    out.push(b'"');
}

/// JSON without blanks between its tokens, as a text.
fn compacted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let (mut from, mut in_string, mut escaped) = (0, false, false);
    for (at, byte) in text.bytes().enumerate() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = byte == b'\\' && !escaped;
        } else if byte == b'"' {
            in_string = true;
        } else if byte.is_ascii_whitespace() {
            json::jackson_part(out, text.get(from..at).unwrap_or(""));
            from = at + 1;
        }
    }
    json::jackson_part(out, text.get(from..).unwrap_or(""));
    out.push(b'"');
}

fn write_members(out: &mut Vec<u8>, members: &[(&str, Value<'_>)]) {
    out.push(b'{');
    for (index, (key, value)) in members.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        string(out, key);
        out.push(b':');
        match value {
            Value::Text(text) => string(out, text),
            _ => out.extend_from_slice(b"null"),
        }
    }
    out.push(b'}');
}

/// The order in which Java's hash map gives its members back, which the original's are in: by the bucket of the key's hash, in a table that
/// doubles when it is three quarters full. (Java makes trees of buckets with eight members and more; nobody has seen one of these.)
fn java_order<'v>(members: &[(&'v str, Value<'v>)]) -> Vec<(&'v str, Value<'v>)> {
    let mut capacity = 16_usize;
    while members.len() > capacity / 4 * 3 {
        capacity *= 2;
    }
    let bucket = |key: &str| {
        let hash = key.encode_utf16().fold(0_u32, |hash, unit| hash.wrapping_mul(31).wrapping_add(u32::from(unit)));
        (hash ^ hash >> 16) as usize & (capacity - 1)
    };
    let mut ordered = members.to_vec();
    ordered.sort_by_key(|(key, _)| bucket(key));
    ordered
}

/// An object as a text: the object's own text is escaped once more.
fn write_hstore(out: &mut Vec<u8>, members: &[(&str, Value<'_>)]) {
    let mut inner = Vec::new();
    write_members(&mut inner, &java_order(members));
    string(out, std::str::from_utf8(&inner).unwrap_or_default());
}

fn own_text(out: &mut Vec<u8>, value: &Value<'_>) {
    let mut inner = Vec::new();
    json::value(&mut inner, value);
    let text = std::str::from_utf8(&inner).unwrap_or_default();
    match value {
        // its own text is one already
        Value::Other(_) | Value::Text(_) | Value::Enum(_) => out.extend_from_slice(&inner),
        _ => string(out, text),
    }
}

fn write_srid(out: &mut Vec<u8>, srid: u32) {
    out.extend_from_slice(b",\"srid\":");
    if srid == 0 {
        out.extend_from_slice(b"null")
    } else {
        uint(out, u64::from(srid))
    }
    out.push(b'}');
}

fn write_geometry(out: &mut Vec<u8>, geometry: &Geometry<'_>, extended: bool) {
    const HAS_SRID: u32 = 0x2000_0000;
    out.extend_from_slice(b"{\"wkb\":");
    match geometry.wkb.split_first().and_then(|(order, rest)| Some((order, rest.split_first_chunk::<4>()?))) {
        Some((order, (kind, rest))) if extended && geometry.srid != 0 => {
            let little = *order != 0;
            let bytes = |number: u32| if little { number.to_le_bytes() } else { number.to_be_bytes() };
            let kind = if little { u32::from_le_bytes(*kind) } else { u32::from_be_bytes(*kind) };
            let mut ewkb = Vec::with_capacity(geometry.wkb.len() + 4);
            ewkb.push(*order);
            ewkb.extend_from_slice(&bytes(kind | HAS_SRID));
            ewkb.extend_from_slice(&bytes(geometry.srid));
            ewkb.extend_from_slice(rest);
            base64(out, &ewkb);
        }
        _ => base64(out, geometry.wkb),
    }
    write_srid(out, geometry.srid);
}

/// A point's coordinates and its bytes; false if it isn't a plain one.
fn write_point(out: &mut Vec<u8>, wkb: &[u8], srid: u32) -> bool {
    let read = || {
        let (order, rest) = wkb.split_first()?;
        let (kind, rest) = rest.split_first_chunk::<4>()?;
        let (x, rest) = rest.split_first_chunk::<8>()?;
        let (y, rest) = rest.split_first_chunk::<8>()?;
        let little = *order != 0;
        let float = |bytes: [u8; 8]| if little { f64::from_le_bytes(bytes) } else { f64::from_be_bytes(bytes) };
        let kind = if little { u32::from_le_bytes(*kind) } else { u32::from_be_bytes(*kind) };
        (kind == 1 && rest.is_empty()).then_some((float(*x), float(*y)))
    };
    let Some((x, y)) = read() else { return false };
    out.extend_from_slice(b"{\"x\":");
    number::double(out, x);
    out.extend_from_slice(b",\"y\":");
    number::double(out, y);
    out.extend_from_slice(b",\"wkb\":");
    base64(out, wkb);
    write_srid(out, srid);
    true
}

/// `(1.5,-2)`
fn write_text_point(out: &mut Vec<u8>, text: &str) -> bool {
    let inside = text.strip_prefix('(').and_then(|text| text.strip_suffix(')')).and_then(|text| text.split_once(','));
    let Some((Ok(x), Ok(y))) = inside.map(|(x, y)| (x.parse::<f64>(), y.parse::<f64>())) else { return false };
    let mut wkb = [0_u8; 21];
    let parts = [&[1_u8, 1, 0, 0, 0][..], &x.to_le_bytes(), &y.to_le_bytes()];
    for (place, byte) in wkb.iter_mut().zip(parts.into_iter().flatten()) {
        *place = *byte;
    }
    write_point(out, &wkb, 0)
}

fn write_numbers(out: &mut Vec<u8>, numbers: &[f32]) {
    out.push(b'[');
    for (index, number) in numbers.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        number::float(out, *number);
    }
    out.push(b']');
}

#[cfg(test)]
mod tests;
