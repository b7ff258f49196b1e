//! Values of every kind, with bytes as the servers write them; and damage.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use rand::{Rng, SeedableRng, rngs::StdRng};
use rowcast_core::Span;

use super::*;

fn one<'a>(kind: &'a Kind, bytes: &'a [u8], arena: &'a Bump) -> Value<'a> {
    let mut at = Cursor::new(bytes);
    let value = kind.value(&mut at, arena).unwrap();
    assert!(at.is_empty());
    value
}

#[test]
fn signed_and_unsigned_integers_of_every_width() {
    let arena = Bump::new();
    for (bytes, unsigned, raw, expected) in [
        (1, false, &[0xff][..], Value::Int(-1)),
        (1, true, &[0xff], Value::UInt(255)),
        (2, false, &[0, 0x80], Value::Int(-32_768)),
        (3, false, &[0xff, 0xff, 0xff], Value::Int(-1)),
        (3, false, &[0, 0, 0x80], Value::Int(-8_388_608)),
        (3, true, &[0xff, 0xff, 0xff], Value::UInt(16_777_215)),
        (4, true, &[0xff; 4], Value::UInt(4_294_967_295)),
        (8, false, &[0xff; 8], Value::Int(-1)),
        (8, true, &[0xff; 8], Value::UInt(u64::MAX)),
    ] {
        let kind = Kind::Int { bytes, unsigned };
        assert_eq!(one(&kind, raw, &arena), expected, "{kind:?}");
    }
    assert_eq!(one(&Kind::Year, &[0], &arena), Value::UInt(0));
    assert_eq!(one(&Kind::Year, &[255], &arena), Value::UInt(2155));
}

#[test]
fn enums_sets_and_bits() {
    let arena = Bump::new();
    let labels = vec!["a".to_owned(), "b,c".to_owned()];
    let kind = Kind::Enum { width: 1, labels: labels.clone() };
    assert_eq!(one(&kind, &[0], &arena), Value::Enum(""));
    assert_eq!(one(&kind, &[2], &arena), Value::Enum("b,c"));
    assert!(kind.value(&mut Cursor::new(&[3]), &arena).is_err());
    let kind = Kind::Set { width: 1, labels };
    assert_eq!(one(&kind, &[3], &arena), Value::Set(&["a", "b,c"]));
    assert_eq!(one(&kind, &[0], &arena), Value::Set(&[]));
    assert!(kind.value(&mut Cursor::new(&[4]), &arena).is_err());
    assert_eq!(one(&Kind::Bits { bits: 10 }, &[0b10, 0b1], &arena), Value::Bits("1000000001"));
    assert_eq!(one(&Kind::Bits { bits: 1 }, &[1], &arena), Value::Bits("1"));
}

#[test]
fn binary_columns_get_their_zero_bytes_back() {
    let arena = Bump::new();
    assert_eq!(one(&Kind::Bytes { prefix: 1, pad: 4 }, &[1, 7], &arena), Value::Bytes(&[7, 0, 0, 0]));
    assert_eq!(one(&Kind::Bytes { prefix: 1, pad: 0 }, &[1, 7], &arena), Value::Bytes(&[7]));
}

#[test]
fn addresses_and_uuids_of_mariadb() {
    let arena = Bump::new();
    assert_eq!(one(&Kind::Inet4, &[4, 10, 0, 0, 1], &arena), Value::Other("10.0.0.1"));
    let mut mapped = vec![16; 1];
    mapped.extend_from_slice(&[0; 10]);
    mapped.extend_from_slice(&[0xff, 0xff, 1, 2, 3, 4]);
    assert_eq!(one(&Kind::Inet6, &mapped, &arena), Value::Other("::ffff:1.2.3.4"));
    assert_eq!(one(&Kind::Inet6, &[0], &arena), Value::Other("::"));
}

#[test]
fn columns_that_the_image_leaves_out_are_absent() {
    let arena = Bump::new();
    let plan = Plan::new(vec![Kind::Int { bytes: 1, unsigned: false }, Kind::Year, Kind::Date]);
    // present: 0 and 2; null: the second of these
    let data = [0b101, 0b10, 5];
    let image = Image { span: Span::new(1, 2).unwrap(), shape: 0 };
    let mut row = Vec::new();
    plan.decode(&data, image, &arena, &mut row).unwrap();
    assert_eq!(row, [Value::Int(5), Value::Absent, Value::Null]);
}

#[test]
fn an_unsupported_character_set_is_named() {
    let arena = Bump::new();
    let wire = WireType { kind: wire::VARCHAR, a: 0, b: 0, length: 10 };
    let kind = Kind::new(&wire, &Attributes { charset: Some("swe7".to_owned()), ..Attributes::default() }).unwrap();
    let error = kind.value(&mut Cursor::new(&[1, b'a']), &arena).unwrap_err();
    assert!(error.to_string().contains("swe7"));
}

#[test]
fn random_bytes_never_panic() {
    let mut random = StdRng::seed_from_u64(20_261_122);
    let labels = vec!["a".to_owned(); 3];
    let charset = Charset::named("gb18030");
    let plan = Plan::new(vec![
        Kind::Int { bytes: 3, unsigned: false },
        Kind::Decimal { precision: 20, scale: 7 },
        Kind::Json { prefix: 2 },
        Kind::Time { digits: 5 },
        Kind::DateTime { digits: 3 },
        Kind::Timestamp { digits: 6 },
        Kind::OldTime,
        Kind::OldDateTime,
        Kind::OldTimestamp,
        Kind::Bits { bits: 33 },
        Kind::Enum { width: 2, labels: labels.clone() },
        Kind::Set { width: 8, labels },
        Kind::Text { prefix: 1, charset, name: "gb18030".to_owned() },
        Kind::Bytes { prefix: 1, pad: 20 },
        Kind::Inet6,
    ]);
    let mut arena = Bump::new();
    for _ in 0..100_000 {
        let length = random.random_range(0..200);
        let mut data: Vec<u8> = (0..length).map(|_| random.random()).collect();
        if random.random() {
            data.splice(0..0, [0xff, 0xff, 0, 0]);
        }
        let image = Image { span: Span { start: 2, len: data.len() as u32 }, shape: 0 };
        let whole = Image { span: Span { start: 2, len: (data.len() as u32).saturating_sub(2) }, shape: 0 };
        for image in [image, whole] {
            let mut row = Vec::new();
            let _ = plan.decode(&data, image, &arena, &mut row);
        }
        let mut json = data.clone();
        json.splice(0..0, [random.random_range(0..4), random.random_range(0..6), 0, data.len() as u8, 0]);
        let _ = json::text(&json, &arena);
        arena.reset();
    }
}
