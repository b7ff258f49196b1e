#![allow(clippy::unwrap_used)]
use rowcast_core::{Date, Time};

use super::*;

fn shown(form: &Form, value: Value<'_>, read: bool) -> String {
    let mut out = Vec::new();
    form.write(&mut out, &value, Place { read, adjust: false });
    String::from_utf8(out).unwrap()
}

#[test]
fn values_have_the_originals_form() {
    let point: Vec<u8> = [&[1_u8, 1, 0, 0, 0][..], &1.0_f64.to_le_bytes(), &1.0_f64.to_le_bytes()].concat();
    let geometry = |srid| Value::Geometry(Geometry { wkb: &point, srid });
    let as_written = Form::Bits { bytes: 0, as_long: true };
    let trimmed = Form::Bits { bytes: 0, as_long: false };
    for (form, value, expected) in [
        (Form::Plain, Value::UInt(u64::MAX), "18446744073709551615"),
        (Form::Wrapping, Value::UInt(u64::MAX), "-1"),
        (Form::Decimal { scale: 0 }, Value::UInt(u64::MAX), "\"AP//////////\""),
        (Form::Decimal { scale: 2 }, Value::Decimal("NaN"), "null"),
        (Form::DecimalText, Value::Decimal("-Infinity"), "\"NEGATIVE_INFINITY\""),
        (Form::DecimalDouble, Value::Decimal("NaN"), "\"NaN\""),
        (Form::Bytes(BinaryMode::Hex), Value::Bytes(b"\x01\xab"), "\"01ab\""),
        (Form::Bytes(BinaryMode::Base64UrlSafe), Value::Bytes(b"\xfb\xff"), "\"-_8=\""),
        (Form::Bit, Value::Bits("1"), "true"),
        (trimmed.clone(), Value::Bits("000000110000001000000001"), "\"AQID\""),
        (trimmed.clone(), Value::Bits("00"), "\"\""),
        (trimmed, Value::Bits("101"), "\"BQ==\""),
        (as_written, Value::Bits("000000001"), "\"AQA=\""),
        (Form::Bits { bytes: 8, as_long: false }, Value::Bits("10"), "\"AgAAAAAAAAA=\""),
        (Form::Set, Value::Set(&["a", "b\"c"]), "\"a,b\\\"c\""),
        (
            Form::HstoreText,
            Value::Object(&[("a", Value::Text("1")), ("b", Value::Null)]),
            r#""{\"a\":\"1\",\"b\":null}""#,
        ),
        (Form::Point, geometry(0), r#"{"x":1.0,"y":1.0,"wkb":"AQEAAAAAAAAAAADwPwAAAAAAAPA/","srid":null}"#),
        (Form::Point, Value::Other("(1,1)"), r#"{"x":1.0,"y":1.0,"wkb":"AQEAAAAAAAAAAADwPwAAAAAAAPA/","srid":null}"#),
        (
            Form::Geometry { extended: true },
            geometry(3187),
            r#"{"wkb":"AQEAACBzDAAAAAAAAAAA8D8AAAAAAADwPw==","srid":3187}"#,
        ),
        (Form::Time { unit: Unit::Millis, day_only: true }, Value::Time(Time { micros: -1, digits: 6 }), "null"),
        (
            Form::IsoTime { day_only: false },
            Value::Time(Time { micros: -3_661_000_001, digits: 6 }),
            "\"-01:01:01.000001Z\"",
        ),
        (Form::Days { exact: true }, Value::Date(Date { year: 0, month: 0, day: 0 }), "null"),
        (Form::OwnText, Value::Other("a\"b"), r#""a\"b""#),
        (Form::OwnText, Value::Object(&[("x", Value::Int(1))]), r#""{\"x\":1}""#),
    ] {
        assert_eq!(shown(&form, value, false), expected, "{form:?}");
    }
}

#[test]
fn documents_and_instants_tell_a_snapshot_from_the_stream_only_as_the_original() {
    let text = Value::Json("{\"a b\": [1, \"c , d\\\" \"]}");
    let document = |spaced| Form::Document { compact: true, spaced };
    let compact = r#""{\"a b\":[1,\"c , d\\\" \"]}""#;
    assert_eq!(shown(&document(true), text, false), compact);
    assert_eq!(shown(&document(false), text, true), compact);
    assert_eq!(shown(&document(true), text, true), r#""{\"a b\": [1, \"c , d\\\" \"]}""#);
    let at = DateTime { date: Date { year: 2026, month: 1, day: 2 }, micros: 1_000_000, digits: 3 };
    let zoned = |trimmed| Form::Zoned { digits: Some(3), trimmed };
    assert_eq!(shown(&zoned(true), Value::Instant(at), false), "\"2026-01-02T00:00:01.000Z\"");
    assert_eq!(shown(&zoned(true), Value::Instant(at), true), "\"2026-01-02T00:00:01Z\"");
    assert_eq!(shown(&zoned(false), Value::Instant(at), true), "\"2026-01-02T00:00:01.000Z\"");
}

#[test]
fn hash_maps_have_javas_order() {
    let members = [("a", Value::Text("1")), ("bb", Value::Null), ("c d", Value::Text("x"))];
    let names: Vec<&str> = java_order(&members).iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["bb", "a", "c d"]);
}
