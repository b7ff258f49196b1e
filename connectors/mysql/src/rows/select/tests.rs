//! Rows as both servers send them, and damage.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use rand::{Rng, SeedableRng, rngs::StdRng};
use rowcast_core::Span;

use super::*;

fn bytes(labels: &[String]) -> Vec<Vec<u8>> {
    labels.iter().map(|label| label.as_bytes().to_vec()).collect()
}

fn column(ty: Type, charset: Option<&str>, special: Special) -> CatalogColumn {
    CatalogColumn {
        name: "c".to_owned(),
        native: String::new(),
        nullable: true,
        charset: charset.map(str::to_owned),
        unsigned: false,
        labels: match &ty {
            Type::Enum { labels } | Type::Set { labels } => Labels::of_bytes(&bytes(labels), Charset::Utf8),
            _ => Labels::default(),
        },
        special,
        ty,
        facts: None,
    }
}

fn cell(ty: Type, kind: u8) -> Cell {
    Cell::new(&column(ty, Some("latin1"), Special::None), kind).unwrap()
}

fn whole(data: &[u8]) -> Image {
    Image { span: Span::new(0, data.len()).unwrap(), shape: 0 }
}

/// A value with its length in front where it has one.
fn one(cell: Cell, bytes: &[u8]) -> String {
    let (arena, plan) = (Bump::new(), Plan { cells: vec![cell] });
    let data = [&[0, 0], bytes].concat();
    let mut row = Vec::new();
    plan.decode(&data, whole(&data), &arena, &mut row).unwrap();
    format!("{:?}", row[0])
}

#[test]
fn integers_have_the_width_of_the_protocol_and_the_sign_of_the_column() {
    let int = |bits, unsigned| Type::Int { bits, unsigned };
    assert_eq!(one(cell(int(8, false), wire::TINY), &[0x80]), "Int(-128)");
    assert_eq!(one(cell(int(24, false), wire::INT24), &[0, 0, 0x80, 0xff]), "Int(-8388608)");
    assert_eq!(one(cell(int(24, true), wire::INT24), &[0xff, 0xff, 0xff, 0]), "UInt(16777215)");
    assert_eq!(one(cell(int(64, true), wire::LONGLONG), &[0xff; 8]), format!("UInt({})", u64::MAX));
    assert_eq!(one(cell(int(64, false), wire::LONGLONG), &[0xff; 8]), "Int(-1)");
    assert_eq!(one(cell(Type::Year, wire::YEAR), &[0x6b, 0x08]), "UInt(2155)");
}

#[test]
fn decimals_lose_their_padding_and_keep_their_scale() {
    let arena = Bump::new();
    for (text, expected) in [
        ("0001.50", Some("1.50")),
        ("-0.50", Some("-0.50")),
        ("-000.50", Some("-0.50")),
        ("-0.00", Some("0.00")),
        ("00000", Some("0")),
        ("0", Some("0")),
        ("-12", Some("-12")),
        ("1.", None),
        ("", None),
        ("-", None),
        ("1e5", None),
    ] {
        assert_eq!(decimal(text.as_bytes(), &arena), expected, "{text}");
    }
}

#[test]
fn times_come_without_their_zeros() {
    let zero = Date { year: 0, month: 0, day: 0 };
    assert_eq!(datetime(&[], 3).unwrap(), DateTime { date: zero, micros: 0, digits: 3 });
    assert_eq!(datetime(&[0xea, 7, 0, 0], 0).unwrap().date, Date { year: 2026, month: 0, day: 0 });
    let full = datetime(&[0xea, 7, 11, 22, 1, 2, 3, 1, 0, 0, 0], 6).unwrap();
    assert_eq!((full.date.day, full.micros), (22, 3_723_000_001));
    assert_eq!(time(&[], 0).unwrap().micros, 0);
    assert_eq!(time(&[1, 34, 0, 0, 0, 22, 59, 59], 0).unwrap().micros, -3_020_399_000_000);
    assert_eq!(time(&[1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], 6).unwrap().micros, -1);
    for bad in [&[0xea, 7][..], &[0xea, 7, 13, 1], &[0xea, 7, 1, 1, 24, 0, 0], &[0xea, 7, 1, 1, 1, 1, 1, 1]] {
        assert!(datetime(bad, 0).is_err(), "{bad:?}");
    }
    assert!(time(&[0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0], 0).is_err());
}

#[test]
fn labels_are_found_by_number_and_text_by_its_character_set() {
    let labels = || vec![String::new(), "b,c".to_owned()];
    assert_eq!(one(cell(Type::Enum { labels: labels() }, wire::LONGLONG), &[0; 8]), r#"Enum("")"#);
    assert_eq!(one(cell(Type::Enum { labels: labels() }, wire::LONG), &[2, 0, 0, 0]), r#"Enum("b,c")"#);
    assert_eq!(one(cell(Type::Set { labels: labels() }, wire::LONG), &[3, 0, 0, 0]), r#"Set(["", "b,c"])"#);
    assert_eq!(one(cell(Type::Text, wire::VAR_STRING), &[2, 0xe9, b'a']), r#"Text("éa")"#);
    assert_eq!(one(cell(Type::Bits { length: Some(10) }, wire::BIT), &[2, 2, 1]), r#"Bits("1000000001")"#);
    let uuid = Cell::new(&column(Type::Uuid, None, Special::Uuid), wire::STRING).unwrap();
    let text = b"\x24123e4567-e89b-12d3-a456-426655440000";
    assert!(one(uuid, text).starts_with("Uuid([18, 62, 69"));
    let inet = Cell::new(&column(Type::Other, None, Special::Inet6), wire::STRING).unwrap();
    assert_eq!(one(inet, b"\x0e::ffff:1.2.3.4"), r#"Other("::ffff:1.2.3.4")"#);
}

#[test]
fn literals_are_in_the_columns_own_terms_and_in_key_order() {
    let labels = vec!["a".to_owned(), "b".to_owned()];
    let plan = Plan {
        cells: vec![
            cell(Type::Text, wire::VARCHAR),
            cell(Type::Float, wire::FLOAT),
            cell(Type::Enum { labels }, wire::LONG),
        ],
    };
    let mut data = vec![0, 0, 1, 0xe9];
    data.extend_from_slice(&1.1_f32.to_le_bytes());
    data.extend_from_slice(&[2, 0, 0, 0]);
    let expected = ["2", "_latin1 X'E9'", "1.100000023841858e0"].map(str::to_owned).to_vec();
    assert_eq!(plan.literals(&data, whole(&data), &[2, 0, 1]), Some(expected));
    // the second is NULL
    let data = [0, 0b1000, 1, 0xe9, 2, 0, 0, 0];
    assert_eq!(plan.literals(&data, whole(&data), &[0, 1]), None);
    assert_eq!(plan.literals(&data, whole(&data), &[2]), Some(vec!["2".to_owned()]));
    assert_eq!(plan.literals(&data, whole(&data), &[7]), None);
}

#[test]
fn a_result_of_other_types_is_refused() {
    let of = |ty, kind| Cell::new(&column(ty, None, Special::None), kind);
    assert_eq!(of(Type::Float, wire::DOUBLE), None);
    assert_eq!(of(Type::Text, wire::LONG), None);
    assert_eq!(of(Type::Date, wire::VAR_STRING), None);
    assert_eq!(of(Type::Int { bits: 64, unsigned: true }, wire::VAR_STRING), None);
    assert!(Plan::new(&[column(Type::Float, None, Special::None)], &[]).is_err());
}

#[test]
fn random_bytes_never_panic() {
    let mut random = StdRng::seed_from_u64(20_261_122);
    let labels = vec!["a".to_owned(); 3];
    let cells = vec![
        cell(Type::Int { bits: 24, unsigned: false }, wire::INT24),
        cell(Type::Decimal { precision_scale: Some((20, 7)) }, wire::NEWDECIMAL),
        cell(Type::Time { digits: 5 }, wire::TIME),
        cell(Type::DateTime { digits: 3 }, wire::DATETIME),
        cell(Type::Instant { digits: 6 }, wire::TIMESTAMP),
        cell(Type::Date, wire::DATE),
        cell(Type::Bits { length: Some(33) }, wire::BIT),
        cell(Type::Enum { labels: labels.clone() }, wire::LONG),
        cell(Type::Set { labels }, wire::LONGLONG),
        cell(Type::Text, wire::VARCHAR),
        cell(Type::Json, wire::JSON),
        cell(Type::Bytes, wire::BLOB),
        Cell::Uuid,
        Cell::Inet4,
        Cell::Inet6,
    ];
    let mut arena = Bump::new();
    let columns: Vec<usize> = (0..cells.len()).collect();
    let plan = Plan { cells };
    for _ in 0..100_000 {
        let length = random.random_range(0..200);
        let mut data: Vec<u8> = (0..length).map(|_| random.random::<u8>() >> random.random_range(0..8)).collect();
        data.splice(0..0, [0]);
        let _ = plan.decode(&data, whole(&data), &arena, &mut Vec::new());
        let _ = plan.literals(&data, whole(&data), &columns);
        arena.reset();
    }
}
