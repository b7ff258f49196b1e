//! Values of every kind, with bytes as the servers write them; and damage.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use rand::{Rng, SeedableRng, rngs::StdRng};
use rowcast_core::Span;

use super::charset::Charset;
use super::kind::Form;
use super::labels::Labels;
use super::*;
use crate::binlog::table_map::{WireType, wire};

fn labels(labels: &[&str]) -> Labels {
    let labels: Vec<Vec<u8>> = labels.iter().map(|label| label.as_bytes().to_vec()).collect();
    Labels::of_bytes(&labels, Charset::Utf8)
}

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
    let labels = labels(&["a", "b,c"]);
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
    assert_eq!(
        one(&Kind::Bytes { prefix: 1, pad: 4, compressed: false }, &[1, 7], &arena),
        Value::Bytes(&[7, 0, 0, 0])
    );
    assert_eq!(one(&Kind::Bytes { prefix: 1, pad: 0, compressed: false }, &[1, 7], &arena), Value::Bytes(&[7]));
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
fn geometries_and_vectors() {
    let arena = Bump::new();
    let point = [25, 0xe6, 0x10, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0x40];
    let Value::Geometry(found) = one(&Kind::Geometry { prefix: 1 }, &point, &arena) else { panic!("no geometry") };
    assert_eq!((found.srid, found.wkb), (4326, &point[5..]));
    assert!(Kind::Geometry { prefix: 1 }.value(&mut Cursor::new(&[3, 1, 2, 3]), &arena).is_err());
    let vector = [8, 0, 0, 0, 0, 0, 0xc0, 0x3f, 0, 0, 0, 0xc0];
    assert_eq!(one(&Kind::Vector { prefix: 4 }, &vector, &arena), Value::Vector(&[1.5, -2.0]));
    assert!(Kind::Vector { prefix: 1 }.value(&mut Cursor::new(&[3, 1, 2, 3]), &arena).is_err());
    // MariaDB 11.7 has vectors as bytes of variable length, MySQL a type of the binlog.
    let wire = WireType { kind: wire::VARCHAR, a: 0, b: 0, length: 400 };
    let attributes =
        Attributes { charset: Some("binary".to_owned()), special: Special::Vector, ..Attributes::default() };
    assert_eq!(Kind::new(&wire, &attributes), Ok(Kind::Vector { prefix: 2 }));
}

#[test]
fn a_partial_update_is_applied_to_the_documents_of_the_row_before() {
    let arena = Bump::new();
    let plan = Plan::new(vec![
        Kind::Int { bytes: 1, unsigned: false },
        Kind::Json { prefix: 4 },
        Kind::Json { prefix: 4 },
        Kind::Year,
    ]);
    let (one, two) = ([0x05, 1, 0], [0x05, 2, 0]);
    // bitmaps; a row with two documents; the row after: its own options, then one document by what changes in it
    let mut data = vec![0b1111, 0b1111, 0, 7];
    for document in [one, one] {
        data.extend_from_slice(&[3, 0, 0, 0]);
        data.extend_from_slice(&document);
    }
    data.extend_from_slice(&[126, 1, 0b10, 0, 7, 3, 0, 0, 0]);
    data.extend_from_slice(&two);
    data.extend_from_slice(&[7, 0, 0, 0, 0, 1, b'$', 3]);
    data.extend_from_slice(&two);
    data.push(127);
    let image = Image { span: Span::new(2, data.len() - 2).unwrap(), shape: PARTIAL };
    let mut row = Vec::new();
    plan.decode(&data, image, &arena, &mut row).unwrap();
    assert_eq!(row, [Value::Int(7), Value::Json("2"), Value::Json("2"), Value::UInt(2027)]);
    assert_eq!(plan.literals(&data, image, &[3, 0]), Some(vec!["2027".to_owned(), "7".to_owned()]));
    // the row before has no documents
    let lacks = [0b1, 0b1111, 0, 7, 1, 0b11, 0, 7, 0, 0, 0, 0, 7, 0, 0, 0, 0, 1, b'$', 3, 5, 2, 0, 127];
    let image = Image { span: Span::new(2, lacks.len() - 2).unwrap(), shape: PARTIAL };
    row.clear();
    let error = plan.decode(&lacks, image, &arena, &mut row).unwrap_err();
    assert_eq!((error.column, error.repair.is_some()), (Some(2), true), "{error}");
    assert_eq!(row, [Value::Int(7), Value::Absent], "nothing changed in the first");
    for cut in 2..lacks.len() {
        let image = Image { span: Span::new(2, cut - 2).unwrap(), shape: PARTIAL };
        assert!(plan.decode(&lacks, image, &arena, &mut Vec::new()).is_err());
    }
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
    let kind = Kind::new(&wire, &Attributes { charset: Some("klingon".to_owned()), ..Attributes::default() }).unwrap();
    let error = kind.value(&mut Cursor::new(&[1, b'a']), &arena).unwrap_err();
    assert!(error.to_string().contains("klingon"));
}

#[test]
fn random_bytes_never_panic() {
    let mut random = StdRng::seed_from_u64(20_261_122);
    let labels = labels(&["a"; 3]);
    let charset = Charset::named("gb18030");
    let plan = Plan::new(vec![
        Kind::Int { bytes: 3, unsigned: false },
        Kind::Decimal { precision: 20, scale: 7 },
        Kind::Json { prefix: 2 },
        Kind::Json { prefix: 1 },
        Kind::Time { digits: 5 },
        Kind::DateTime { digits: 3 },
        Kind::Timestamp { digits: 6 },
        Kind::OldTime { digits: 0 },
        Kind::OldDateTime { digits: 5 },
        Kind::OldTimestamp { digits: 0 },
        Kind::Bits { bits: 33 },
        Kind::Enum { width: 2, labels: labels.clone() },
        Kind::Set { width: 8, labels },
        Kind::Text { prefix: 1, charset, name: "gb18030".to_owned(), form: Form::Plain, compressed: true },
        Kind::Geometry { prefix: 1 },
        Kind::Vector { prefix: 1 },
        Kind::Bytes { prefix: 1, pad: 20, compressed: false },
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
        let partial = Image { shape: PARTIAL, ..image };
        for image in [image, whole, partial] {
            let mut row = Vec::new();
            let _ = plan.decode(&data, image, &arena, &mut row);
        }
        let mut json = data.clone();
        json.splice(0..0, [random.random_range(0..4), random.random_range(0..6), 0, data.len() as u8, 0]);
        let _ = json::text(&json, &arena);
        arena.reset();
    }
}
