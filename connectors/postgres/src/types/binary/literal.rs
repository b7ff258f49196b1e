//! A value as the text that its type's output function writes, for literals: keys that came in binary form are compared in SQL.

use std::fmt::Write;

use rowcast_core::{Bump, Date, Interval, Time, Value};

use super::value;
use crate::types::Plan;

/// The text; none for types that are no keys of a stream in binary form ([`Plan::is_scalar`]), and for bytes that are no value.
pub(crate) fn text(plan: &Plan, bytes: &[u8]) -> Option<String> {
    if !plan.is_scalar() {
        return None;
    }
    let arena = Bump::new();
    let mut out = String::new();
    match value(plan, bytes, &arena).ok()? {
        Value::Bool(it) => out.push(if it { 't' } else { 'f' }),
        Value::Int(number) => write!(out, "{number}").ok()?,
        Value::UInt(number) => write!(out, "{number}").ok()?,
        Value::Float(number) if number.is_finite() => write!(out, "{number:e}").ok()?,
        Value::Double(number) if number.is_finite() => write!(out, "{number:e}").ok()?,
        Value::Float(number) => out.push_str(not_finite(f64::from(number))),
        Value::Double(number) => out.push_str(not_finite(number)),
        Value::Decimal(text)
        | Value::Text(text)
        | Value::Bits(text)
        | Value::Json(text)
        | Value::Enum(text)
        | Value::Other(text) => out.push_str(text),
        Value::Bytes(bytes) => {
            out.push_str("\\x");
            bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}")).ok()?;
        }
        Value::Date(it) => {
            date(&mut out, it)?;
            era(&mut out, it);
        }
        Value::Time(it) => clock(&mut out, it.micros)?,
        Value::TimeTz(Time { micros, .. }, offset) => {
            clock(&mut out, micros)?;
            let east = offset.unsigned_abs();
            let sign = if offset < 0 { '-' } else { '+' };
            write!(out, "{sign}{:02}:{:02}:{:02}", east / 3600, east / 60 % 60, east % 60).ok()?;
        }
        Value::DateTime(it) => {
            date(&mut out, it.date)?;
            out.push(' ');
            clock(&mut out, it.micros.cast_signed())?;
            era(&mut out, it.date);
        }
        Value::Instant(it) => {
            date(&mut out, it.date)?;
            out.push(' ');
            clock(&mut out, it.micros.cast_signed())?;
            out.push_str("+00");
            era(&mut out, it.date);
        }
        Value::TemporalInfinity { negative } => out.push_str(if negative { "-infinity" } else { "infinity" }),
        Value::Interval(Interval { months, days, micros }) => {
            let sign = if micros < 0 { "-" } else { "" };
            let micros = micros.unsigned_abs();
            write!(out, "P{months}M{days}DT{sign}{}.{:06}S", micros / 1_000_000, micros % 1_000_000).ok()?;
        }
        Value::Uuid(bytes) => {
            for (index, byte) in bytes.iter().enumerate() {
                let separator = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
                write!(out, "{separator}{byte:02x}").ok()?;
            }
        }
        Value::Null
        | Value::Absent
        | Value::Set(_)
        | Value::Array(_)
        | Value::Range(_)
        | Value::Object(_)
        | Value::Geometry(_)
        | Value::Vector(_)
        | Value::SparseVector(_) => return None,
    }
    Some(out)
}

fn not_finite(number: f64) -> &'static str {
    match (number.is_nan(), number > 0.0) {
        (true, _) => "NaN",
        (_, true) => "Infinity",
        _ => "-Infinity",
    }
}

/// The year 0 is 1 BC.
fn date(out: &mut String, it: Date) -> Option<()> {
    let year = if it.year > 0 { it.year } else { 1_i32.checked_sub(it.year)? };
    write!(out, "{year:04}-{:02}-{:02}", it.month, it.day).ok()
}

fn era(out: &mut String, it: Date) {
    if it.year <= 0 {
        out.push_str(" BC");
    }
}

fn clock(out: &mut String, micros: i64) -> Option<()> {
    let (seconds, mut fraction) = (micros / 1_000_000, micros % 1_000_000);
    write!(out, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60).ok()?;
    let mut width = 6;
    while fraction != 0 && fraction % 10 == 0 {
        fraction /= 10;
        width -= 1;
    }
    if fraction != 0 { write!(out, ".{fraction:0width$}").ok() } else { Some(()) }
}
