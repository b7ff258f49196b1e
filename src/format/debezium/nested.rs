//! Values that are made of values: ranges as the server's text, arrays.

use rowcast_core::value::{Array, Dimension, Range};
use rowcast_core::{DateTime, Value};

use super::form::{Form, Place};
use super::{string, time};
use crate::format::json;

/// A range as the server writes it: `["2026-11-22 11:32:36",infinity)`.
pub(super) fn write_range(out: &mut Vec<u8>, range: &Range<'_>) {
    let Range::Between { lower, upper, lower_inclusive, upper_inclusive } = range else {
        return out.extend_from_slice(b"\"empty\"");
    };
    let mut text = String::new();
    text.push(if *lower_inclusive { '[' } else { '(' });
    push_bound(&mut text, lower);
    text.push(',');
    push_bound(&mut text, upper);
    text.push(if *upper_inclusive { ']' } else { ')' });
    string(out, &text);
}

/// A bound by the rules of `range_out`: in quotes if something in it would be misread.
fn push_bound(text: &mut String, bound: &Value<'_>) {
    let mut plain = Vec::new();
    match bound {
        Value::Null | Value::Absent => return,
        Value::DateTime(at) => push_server_time(&mut plain, *at, false),
        Value::Instant(at) => push_server_time(&mut plain, *at, true),
        Value::Date(date) => push_server_date(&mut plain, *date),
        Value::Text(value) | Value::Decimal(value) | Value::Other(value) => plain.extend_from_slice(value.as_bytes()),
        value => {
            json::value(&mut plain, value);
            plain.retain(|byte| *byte != b'"');
        }
    }
    let plain = String::from_utf8_lossy(&plain);
    let odd = |letter: char| matches!(letter, '"' | '\\' | '(' | ')' | '[' | ']' | ',') || letter.is_ascii_whitespace();
    if !plain.is_empty() && !plain.contains(odd) {
        return text.push_str(&plain);
    }
    text.push('"');
    for letter in plain.chars() {
        if matches!(letter, '"' | '\\') {
            text.push(letter);
        }
        text.push(letter);
    }
    text.push('"');
}

/// `0044-03-15 BC` is the year -43.
fn push_server_date(out: &mut Vec<u8>, date: rowcast_core::Date) {
    let year = if date.year < 1 { 1 - date.year } else { date.year };
    let shown = format!("{year:04}-{:02}-{:02}{}", date.month, date.day, if date.year < 1 { " BC" } else { "" });
    out.extend_from_slice(shown.as_bytes());
}

fn push_server_time(out: &mut Vec<u8>, at: DateTime, zone: bool) {
    push_server_date(out, at.date);
    let era = out.ends_with(b" BC");
    if era {
        out.truncate(out.len() - 3);
    }
    out.push(b' ');
    time::write_clock(out, at.micros, None);
    if zone {
        out.extend_from_slice(b"+00");
    }
    if era {
        out.extend_from_slice(b" BC");
    }
}

pub(super) fn write_array(out: &mut Vec<u8>, of: &Form, array: &Array<'_>, nested: bool, place: Place) {
    let mut elements = array.elements.iter();
    if array.dimensions.len() > 1 && !nested {
        let outer = array.dimensions.first().map_or(0, |dimension| dimension.length);
        out.push(b'[');
        for index in 0..outer {
            out.extend_from_slice(if index > 0 { b",null" } else { b"null" });
        }
        return out.push(b']');
    }
    write_dimension(out, of, array.dimensions, &mut elements, place);
}

fn write_dimension<'a>(
    out: &mut Vec<u8>,
    of: &Form,
    dimensions: &[Dimension],
    elements: &mut impl Iterator<Item = &'a Value<'a>>,
    place: Place,
) {
    out.push(b'[');
    if let Some((outer, inner)) = dimensions.split_first() {
        for index in 0..outer.length {
            if index > 0 {
                out.push(b',');
            }
            if !inner.is_empty() {
                write_dimension(out, of, inner, elements, place);
            } else if let Some(element) = elements.next() {
                of.write(out, element, place);
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
    use rowcast_core::Date;

    use super::*;

    #[test]
    fn ranges_are_the_servers_text() {
        let at = |year, micros| DateTime { date: Date { year, month: 3, day: 15 }, micros, digits: 6 };
        let between = |lower, upper| Range::Between { lower, upper, lower_inclusive: true, upper_inclusive: false };
        for (range, expected) in [
            (Range::Empty, r#""empty""#),
            (between(Value::Int(1), Value::Int(5)), r#""[1,5)""#),
            (between(Value::Decimal("1.10"), Value::Null), r#""[1.10,)""#),
            (
                between(Value::Date(at(-43, 0).date), Value::TemporalInfinity { negative: false }),
                r#""[\"0044-03-15 BC\",infinity)""#,
            ),
            (between(Value::DateTime(at(2026, 41_556_500_000)), Value::Null), r#""[\"2026-03-15 11:32:36.5\",)""#),
            (between(Value::Instant(at(2026, 41_556_000_000)), Value::Null), r#""[\"2026-03-15 11:32:36+00\",)""#),
            (between(Value::Text("a\"b"), Value::Text("")), r#""[\"a\"\"b\",\"\")""#),
        ] {
            let mut out = Vec::new();
            write_range(&mut out, &range);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn arrays_of_several_dimensions_are_nested_or_nulls() {
        let elements = [Value::Int(1), Value::Null, Value::Int(3), Value::Int(4)];
        let two = Dimension { length: 2, lower: 1 };
        let grid = Array { dimensions: &[two, two], elements: &elements };
        let flat = Array { dimensions: &[Dimension { length: 4, lower: 1 }], elements: &elements };
        let place = Place { read: false, adjust: false };
        for (array, nested, expected) in [
            (&grid, true, "[[1,null],[3,4]]"),
            (&grid, false, "[null,null]"),
            (&flat, false, "[1,null,3,4]"),
            (&Array { dimensions: &[], elements: &[] }, true, "[]"),
        ] {
            let mut out = Vec::new();
            write_array(&mut out, &Form::Plain, array, nested, place);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
