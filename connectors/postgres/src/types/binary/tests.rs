//! The forms of the send functions, and that nothing else is taken for one.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::types::{ArrayPlan, money, scalar};

fn array(element: Plan) -> Plan {
    Plan::Array(Box::new(ArrayPlan { element, delimiter: b',' }))
}

/// Bytes from parts of any length.
fn bytes(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

fn four(number: i32) -> [u8; 4] {
    number.to_be_bytes()
}

fn eight(number: i64) -> [u8; 8] {
    number.to_be_bytes()
}

/// Plan, text and binary form of values: both must give the same.
fn pairs() -> Vec<(Plan, &'static str, Vec<u8>)> {
    let money = Plan::Money(Box::new(money::Form::new("$1.00", "-$1.00").unwrap()));
    let composite = Plan::Composite(
        [("a", 23, Plan::Int), ("b", 25, Plan::Text)]
            .map(|(name, oid, plan)| Attribute { name: name.into(), oid, plan })
            .into(),
    );
    let one = [&four(4)[..], &four(1)].concat();
    let range = bytes(&[&[2], &one, &four(4), &four(5)]);
    vec![
        (Plan::Bool, "t", vec![1]),
        (Plan::Int, "-2", vec![0xff, 0xfe]),
        (Plan::Int, "7", four(7).into()),
        (Plan::Int, "-9223372036854775808", eight(i64::MIN).into()),
        (Plan::Oid, "4294967295", vec![0xff; 4]),
        (Plan::Float, "0.1", 0.1_f32.to_be_bytes().into()),
        (Plan::Double, "-1e-300", (-1e-300_f64).to_be_bytes().into()),
        (Plan::Double, "Infinity", f64::INFINITY.to_be_bytes().into()),
        (money, "-$1,234.56", eight(-123_456).into()),
        (Plan::Text, "grüße", "grüße".into()),
        (Plan::Char, "a", vec![b'a']),
        (Plan::Char, "", vec![0]),
        (Plan::Char, "\\377", vec![0xff]),
        (Plan::Bytes, "\\x00ff", vec![0, 0xff]),
        (Plan::Bits, "010100001", bytes(&[&four(9), &[0b0101_0000, 0x80]])),
        (Plan::Bits, "", four(0).into()),
        (Plan::Date, "2000-01-01", four(0).into()),
        (Plan::Date, "4714-11-24 BC", four(-2_451_545).into()),
        (Plan::Date, "infinity", four(i32::MAX).into()),
        (Plan::Time(6), "24:00:00", eight(DAY).into()),
        (Plan::TimeTz(6), "12:00:00+02", bytes(&[&eight(DAY / 2), &four(-7200)])),
        (Plan::DateTime(6), "1999-12-31 23:59:59.999999", eight(-1).into()),
        (Plan::DateTime(6), "-infinity", eight(i64::MIN).into()),
        (Plan::Instant(3), "2000-01-01 00:00:01+00", eight(1_000_000).into()),
        (Plan::Interval, "P1Y2M-3DT4H", bytes(&[&eight(14_400_000_000), &four(-3), &four(14)])),
        (Plan::Interval, "infinity", bytes(&[&eight(i64::MAX), &four(i32::MAX), &four(i32::MAX)])),
        (
            array(Plan::Interval).before_17(),
            "{P178956970Y7M2147483647DT2562047788H54.775807S}",
            bytes(&[
                &four(1),
                &four(0),
                &four(1186),
                &four(1),
                &four(1),
                &four(16),
                &eight(i64::MAX),
                &four(i32::MAX),
                &four(i32::MAX),
            ]),
        ),
        (Plan::Uuid, "00112233-4455-6677-8899-aabbccddeeff", (0..16).map(|digit| digit * 0x11).collect()),
        (Plan::JsonB, "{\"a\": 1}", b"\x01{\"a\": 1}".into()),
        (Plan::Enum, "new", b"new".into()),
        (array(Plan::Int), "{}", bytes(&[&four(0), &four(0), &four(23)])),
        (
            array(Plan::Int),
            "[0:1]={1,NULL}",
            bytes(&[&four(1), &four(1), &four(23), &four(2), &four(0), &one, &four(-1)]),
        ),
        (
            array(Plan::Int),
            "{{1},{1}}",
            bytes(&[&four(2), &four(0), &four(23), &four(2), &four(1), &four(1), &four(1), &one, &one]),
        ),
        (
            Plan::Spaced(Box::new(Plan::Int)),
            "1",
            bytes(&[&four(1), &four(0), &four(21), &four(1), &four(0), &four(2), &[0, 1]]),
        ),
        (Plan::Spaced(Box::new(Plan::Int)), "", bytes(&[&four(1), &four(0), &four(21), &four(0), &four(0)])),
        (Plan::Range(Box::new(Plan::Int)), "[1,5)", range.clone()),
        (Plan::Range(Box::new(Plan::Int)), "empty", vec![1]),
        (Plan::Range(Box::new(Plan::Int)), "(,)", vec![24]),
        (Plan::Multirange(Box::new(Plan::Int)), "{[1,5)}", bytes(&[&four(1), &four(17), &range])),
        (composite, "(1,)", bytes(&[&four(2), &four(23), &one, &four(25), &four(-1)])),
        (
            Plan::Hstore,
            "\"a\"=>\"1\", \"b\"=>NULL",
            bytes(&[&four(2), &four(1), b"a", &four(1), b"1", &four(1), b"b", &four(-1)]),
        ),
        (Plan::Other(Form::Lsn), "16/B374D848", eight(0x16_B374_D848).into()),
        (Plan::Other(Form::Number), "7", four(7).into()),
        (Plan::Other(Form::Tid), "(1,2)", bytes(&[&four(1), &[0, 2]])),
        (Plan::Other(Form::Versioned), "$.\"a\"", b"\x01$.\"a\"".into()),
        (
            Plan::Other(Form::TsVector),
            r"'a''\\':1,2A 'b'",
            bytes(&[&four(2), b"a'\\\0", &[0, 2, 0, 1, 0xc0, 2], b"b\0", &[0, 0]]),
        ),
        (Plan::Other(Form::Snapshot), "1:3:1,2", bytes(&[&four(2), &eight(1), &eight(3), &eight(1), &eight(2)])),
    ]
}

#[test]
fn text_and_binary_are_the_same_value() {
    let arena = Bump::new();
    for (plan, text, bytes) in pairs() {
        let expected = scalar::value(&plan, text.as_bytes(), &arena).unwrap();
        assert_eq!(value(&plan, &bytes, &arena), Ok(expected), "{text}");
    }
}

#[test]
fn literals_are_read_as_the_value_that_they_are_of() {
    let arena = Bump::new();
    for (plan, text, bytes) in pairs() {
        let literal = literal(&plan, &bytes);
        assert_eq!(literal.is_some(), plan.is_scalar(), "{text}");
        if let Some(literal) = literal {
            assert_eq!(
                scalar::value(&plan, literal.as_bytes(), &arena),
                scalar::value(&plan, text.as_bytes(), &arena),
                "{literal}"
            );
        }
    }
}

#[test]
fn values_that_are_cut_or_too_long_are_refused() {
    let arena = Bump::new();
    for (plan, text, bytes) in pairs() {
        // these end where their bytes end
        let open = matches!(plan, Plan::Text | Plan::Bytes | Plan::JsonB | Plan::Enum | Plan::Int)
            || matches!(plan, Plan::Other(Form::Versioned));
        for end in 0..bytes.len() {
            assert!(open || value(&plan, &bytes[..end], &arena).is_err(), "{text} {end}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(open || value(&plan, &longer, &arena).is_err(), "{text}");
    }
}

#[test]
fn sizes_that_no_server_sends_allocate_nothing() {
    let arena = Bump::new();
    let huge = bytes(&[&four(2), &four(0), &four(23), &four(i32::MAX), &four(1), &four(i32::MAX), &four(1)]);
    assert!(value(&array(Plan::Int), &huge, &arena).is_err());
    let none = bytes(&[&four(2), &four(0), &four(23), &four(i32::MAX), &four(1), &four(0), &four(1)]);
    assert!(value(&array(Plan::Int), &none, &arena).is_err());
    for plan in [Plan::Hstore, Plan::Multirange(Box::new(Plan::Int)), Plan::Bits, Plan::Other(Form::TsVector)] {
        assert!(value(&plan, &four(i32::MAX), &arena).is_err());
    }
    assert!(arena.allocated_bytes() < 100_000);
}

#[test]
fn no_bytes_make_any_plan_panic() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    let pairs = pairs();
    let mut arena = Bump::new();
    for round in 0..20_000 {
        arena.reset();
        let mut input = pairs[round % pairs.len()].2.clone();
        for _ in 0..random() % 4 {
            let at = random() % input.len().max(1);
            match random() % 4 {
                0 => input.insert(at.min(input.len()), random() as u8),
                1 if !input.is_empty() => drop(input.remove(at)),
                2 => input.truncate(at),
                _ => input.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (random() % 8)),
            }
        }
        for (plan, ..) in &pairs {
            let _ = value(plan, &input, &arena);
            let _ = scalar::value(plan, &input, &arena);
        }
    }
}
