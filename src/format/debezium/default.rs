//! What stands for values that aren't there: a column's DEFAULT in its schema, what a required column has in an image that lacks it, and the
//! placeholder of what the log left out.

use md5::{Digest, Md5};
use rowcast_core::{Bump, Column, Date, DateTime, DefaultValue, Interval, Table, Time, Type, Value};

use super::form::{Form, Place};
use super::schema::{Kind, Schema};
use super::time::is_zero;
use super::{Codec, Server, string};
use crate::config::BinaryMode;
use crate::format::json::{base64, int, write_uuid};

/// A column's DEFAULT as JSON, as its schema has it; none if it has none that the original knows.
pub(super) fn of(
    table: &Table,
    index: usize,
    form: &Form,
    schema: &Schema,
    codec: &Codec,
    arena: &Bump,
) -> Option<Vec<u8>> {
    let column = table.columns.get(index)?;
    let nullable = column.nullable.unwrap_or(true);
    let default = column.facts.as_ref()?.default.as_ref()?;
    // a struct can't be a default, and of these types the original knows none
    if matches!(schema.kind, Kind::Struct(_) | Kind::Array(_) | Kind::Map(..)) || !has_default(column, codec) {
        return None;
    }
    let value = match &default.value {
        DefaultValue::Constant(_) => table.default_value(index, arena)?,
        DefaultValue::Call => call(&column.ty)?,
        DefaultValue::Expression => return None,
    };
    let value = match value {
        // the original takes the moment that stands for a function for a date of zeros
        Value::Instant(_) if codec.server != Server::Postgres && default.value == DefaultValue::Call && nullable => {
            return None;
        }
        // the original reads it as the largest number of 64 bits with a sign
        Value::UInt(number) if *form == Form::Wrapping => Value::UInt(number.min(i64::MAX as u64)),
        Value::Bytes(bytes) => Value::Bytes(padded(bytes, column, arena)),
        // it reads up to the first quote, and doesn't pad
        Value::Text(text) if !codec.config.exact && codec.server == Server::Postgres => {
            let text = text.split('\'').next().unwrap_or_default();
            Value::Text(if column.native.starts_with("character(") { text.trim_end_matches(' ') } else { text })
        }
        value => value,
    };
    let mut out = Vec::new();
    // a zero date as a text: with `exact` the zeros, as in rows
    let zero = matches!(value, Value::Date(date) | Value::DateTime(DateTime { date, .. }) | Value::Instant(DateTime { date, .. }) if is_zero(date));
    let place = Place { read: false, adjust: zero && !codec.config.exact };
    if form.written(&mut out, &value, place) {
        return Some(out);
    }
    // none where NULL stands for it, else what its rows have
    (zero && !nullable).then(|| fallback(form, schema))
}

/// What a server of a fixed length has of shorter bytes.
fn padded<'a>(bytes: &'a [u8], column: &Column, arena: &'a Bump) -> &'a [u8] {
    let length = column.native.strip_prefix("binary(").and_then(|rest| rest.strip_suffix(')'));
    match length.and_then(|length| length.parse::<usize>().ok()).filter(|length| *length <= 255) {
        Some(length) if length > bytes.len() => {
            arena.alloc_slice_fill_iter((0..length).map(|at| bytes.get(at).copied().unwrap_or(0)))
        }
        _ => bytes,
    }
}

/// Whether the original reads DEFAULTs of this type.
fn has_default(column: &Column, codec: &Codec) -> bool {
    if codec.server != Server::Postgres {
        return true;
    }
    let name = column.facts.as_ref().and_then(|facts| facts.pg.as_ref()).map_or("", |ty| ty.name.as_str());
    match &column.ty {
        Type::Text => matches!(name, "bpchar" | "varchar" | "text"),
        Type::Decimal { .. } => name == "numeric",
        Type::Other => name == "xml",
        Type::Int { .. } => name != "oid",
        Type::Bool
        | Type::Float
        | Type::Double
        | Type::Bits { .. }
        | Type::Uuid
        | Type::Json
        | Type::Date
        | Type::Time { .. }
        | Type::DateTime { .. }
        | Type::Instant { .. }
        | Type::Interval
        | Type::Enum { .. } => true,
        _ => false,
    }
}

/// What stands for the value of a function.
fn call(ty: &Type) -> Option<Value<'static>> {
    let epoch = |digits| DateTime { date: Date { year: 1970, month: 1, day: 1 }, micros: 0, digits };
    Some(match ty {
        Type::Bool => Value::Bool(false),
        Type::Int { .. } => Value::Int(0),
        Type::Float => Value::Float(0.0),
        Type::Double => Value::Double(0.0),
        Type::Decimal { .. } => Value::Decimal("0"),
        Type::Text => Value::Text(""),
        Type::Other => Value::Other(""),
        Type::Bits { .. } => Value::Bits("00"),
        Type::Json => Value::Json("{}"),
        Type::Uuid => Value::Uuid([0; 16]),
        Type::Date => Value::Date(epoch(0).date),
        Type::Time { digits } => Value::Time(Time { micros: 0, digits: *digits }),
        Type::DateTime { digits } => Value::DateTime(epoch(*digits)),
        Type::Instant { digits } => Value::Instant(epoch(*digits)),
        Type::Interval => Value::Interval(Interval { months: 0, days: 0, micros: 0 }),
        _ => return None,
    })
}

/// What a required column has where there is no value and no DEFAULT.
pub(super) fn fallback(form: &Form, schema: &Schema) -> Vec<u8> {
    match form {
        Form::Zoned { .. } | Form::IsoTimestamp { .. } => b"\"1970-01-01T00:00:00Z\"".to_vec(),
        Form::ZonedTime { .. } | Form::IsoTime { .. } => b"\"00:00:00Z\"".to_vec(),
        Form::IsoDate => b"\"1970-01-01Z\"".to_vec(),
        Form::IntervalText { .. } => b"\"P0Y0M0DT0H0M0S\"".to_vec(),
        Form::HstoreText => b"\"{}\"".to_vec(),
        Form::Document { compact: true, .. } => b"\"{}\"".to_vec(),
        Form::Decimal { .. } => b"\"AA==\"".to_vec(),
        Form::Variable { .. } => br#"{"scale":0,"value":"AA=="}"#.to_vec(),
        Form::DecimalText => b"\"0\"".to_vec(),
        Form::Point => br#"{"x":0.0,"y":0.0,"wkb":"AQEAAAAAAAAAAAAAAAAAAAAAAAAA","srid":null}"#.to_vec(),
        Form::Geometry { .. } => br#"{"wkb":"AQcAAAAAAAAA","srid":null}"#.to_vec(),
        _ => match schema.kind {
            Kind::Boolean => b"false".to_vec(),
            Kind::Int16 | Kind::Int32 | Kind::Int64 => b"0".to_vec(),
            Kind::Float | Kind::Double => b"0.0".to_vec(),
            Kind::String | Kind::Bytes => b"\"\"".to_vec(),
            Kind::Array(_) => b"[]".to_vec(),
            Kind::Map(..) => b"{}".to_vec(),
            Kind::Struct(_) => b"null".to_vec(),
        },
    }
}

/// What a column of the row after is written as that the log left out.
pub(super) fn unavailable(column: &Column, form: &Form, schema: &Schema, codec: &Codec) -> Vec<u8> {
    let bytes = codec.config.placeholder.as_slice();
    let text = &*String::from_utf8_lossy(bytes);
    let mut out = Vec::new();
    let map = |out: &mut Vec<u8>| {
        out.push(b'{');
        string(out, text);
        out.push(b':');
        string(out, text);
        out.push(b'}');
    };
    match (form, &schema.kind) {
        (Form::Bytes(_), Kind::Bytes) => base64(&mut out, bytes),
        (Form::HstoreText, _) => {
            let mut inner = Vec::new();
            map(&mut inner);
            string(&mut out, &String::from_utf8_lossy(&inner));
        }
        (Form::Map, _) => map(&mut out),
        (Form::Array { of, .. }, _) if codec.server == Server::Postgres => array(&mut out, column, of, bytes, text),
        (_, Kind::String) => string(&mut out, text),
        _ => out.extend_from_slice(b"null"),
    }
    out
}

/// The original has placeholders for arrays of some types, among them the placeholder's bytes as numbers, and a uuid made of it.
fn array(out: &mut Vec<u8>, column: &Column, of: &Form, bytes: &[u8], text: &str) {
    let native = column.native.split('(').next().unwrap_or_default().trim_end_matches("[]");
    match native {
        "text" | "character varying" | "character" | "bpchar" | "json" | "jsonb" => {
            out.push(b'[');
            string(out, text);
            out.push(b']');
        }
        "bytea" => {
            out.push(b'[');
            match of {
                Form::Bytes(BinaryMode::Bytes) => base64(out, bytes),
                _ => string(out, text),
            }
            out.push(b']');
        }
        "integer" | "date" | "bigint" => {
            out.push(b'[');
            for (at, byte) in bytes.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                int(out, i64::from(*byte as i8));
            }
            out.push(b']');
        }
        "uuid" => {
            let mut uuid: [u8; 16] = Md5::digest(bytes).into();
            for (at, byte) in uuid.iter_mut().enumerate() {
                match at {
                    6 => *byte = (*byte & 0x0f) | 0x30,
                    8 => *byte = (*byte & 0x3f) | 0x80,
                    _ => {}
                }
            }
            out.push(b'[');
            write_uuid(out, &uuid);
            out.push(b']');
        }
        _ => out.extend_from_slice(b"null"),
    }
}
