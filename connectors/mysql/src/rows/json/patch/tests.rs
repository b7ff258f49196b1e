//! Differences as MySQL 9.7 logs them, and damage.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;

/// `{"a": 1, "b": [1, 2, 3], "long": "xxxx"}`.
const BEFORE: &[u8] = &[
    0x00, 0x03, 0x00, 0x31, 0x00, 0x19, 0x00, 0x01, 0x00, 0x1a, 0x00, 0x01, 0x00, 0x1b, 0x00, 0x04, 0x00, 0x05, 0x01,
    0x00, 0x02, 0x1f, 0x00, 0x0c, 0x2c, 0x00, 0x61, 0x62, 0x6c, 0x6f, 0x6e, 0x67, 0x03, 0x00, 0x0d, 0x00, 0x05, 0x01,
    0x00, 0x05, 0x02, 0x00, 0x05, 0x03, 0x00, 0x04, b'x', b'x', b'x', b'x',
];

fn difference(operation: u8, path: &str, value: &[u8]) -> Vec<'static, u8> {
    let arena: &'static Bump = Box::leak(Box::new(Bump::new()));
    let mut out = Vec::new_in(arena);
    out.extend_from_slice(&[operation, path.len() as u8]);
    out.extend_from_slice(path.as_bytes());
    if operation != REMOVE {
        out.push(value.len() as u8);
        out.extend_from_slice(value);
    }
    out
}

fn after(differences: &[(u8, &str, &[u8])]) -> Option<String> {
    let arena = Bump::new();
    let all: std::vec::Vec<u8> =
        differences.iter().flat_map(|(operation, path, value)| difference(*operation, path, value).to_vec()).collect();
    changed(BEFORE, &all, &arena).map(str::to_owned)
}

const TWO: &[u8] = &[0x05, 2, 0];
const NEW: &[u8] = &[0x0c, 3, b'n', b'e', b'w'];

#[test]
fn values_are_replaced_inserted_and_removed_in_order() {
    for (differences, expected) in [
        (&[][..], r#"{"a": 1, "b": [1, 2, 3], "long": "xxxx"}"#),
        (&[(REPLACE, "$.a", TWO)], r#"{"a": 2, "b": [1, 2, 3], "long": "xxxx"}"#),
        (&[(REPLACE, "$", NEW)], r#""new""#),
        (&[(REPLACE, "$.a[0]", TWO)], r#"{"a": 2, "b": [1, 2, 3], "long": "xxxx"}"#),
        (&[(REPLACE, "$.b[2]", NEW)], r#"{"a": 1, "b": [1, 2, "new"], "long": "xxxx"}"#),
        (&[(INSERT, "$.b[1]", NEW)], r#"{"a": 1, "b": [1, "new", 2, 3], "long": "xxxx"}"#),
        (&[(INSERT, "$.b[99]", NEW)], r#"{"a": 1, "b": [1, 2, 3, "new"], "long": "xxxx"}"#),
        (&[(REMOVE, "$.b[0]", &[])], r#"{"a": 1, "b": [2, 3], "long": "xxxx"}"#),
        (&[(REMOVE, "$.b", &[]), (REMOVE, "$.a", &[])], r#"{"long": "xxxx"}"#),
        // by length, then by bytes
        (&[(INSERT, "$.zz", TWO)], r#"{"a": 1, "b": [1, 2, 3], "zz": 2, "long": "xxxx"}"#),
        (&[(INSERT, "$.B", TWO)], r#"{"B": 2, "a": 1, "b": [1, 2, 3], "long": "xxxx"}"#),
        (&[(INSERT, r#"$."k\"ey . [q""#, TWO)], r#"{"a": 1, "b": [1, 2, 3], "long": "xxxx", "k\"ey . [q": 2}"#),
        (
            &[(INSERT, "$.o", &[0, 0, 0, 4, 0]), (INSERT, "$.o.é", TWO)],
            r#"{"a": 1, "b": [1, 2, 3], "o": {"é": 2}, "long": "xxxx"}"#,
        ),
    ] {
        assert_eq!(after(differences).as_deref(), Some(expected));
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    for difference in [
        (REPLACE, "$.c", TWO),
        (REPLACE, "$.b[3]", TWO),
        (REPLACE, "$.b.a", TWO),
        (REPLACE, "$.a[1]", TWO),
        (INSERT, "$.a", TWO),
        (INSERT, "$", TWO),
        (INSERT, "$.c.d", TWO),
        (INSERT, "$.a.b", TWO),
        (REMOVE, "$", &[]),
        (REMOVE, "$.c", &[]),
        (REMOVE, "$.b[3]", &[]),
        (REPLACE, "a", TWO),
        (REPLACE, "$a", TWO),
        (REPLACE, "$.", TWO),
        (REPLACE, "$[*]", TWO),
        (REPLACE, "$.\"a", TWO),
        (REPLACE, "$.a", &[]),
        (REPLACE, "$.a", &[0x77]),
        (7, "$.a", TWO),
    ] {
        assert_eq!(after(&[difference]), None, "{difference:?}");
    }
}

#[test]
fn damage_never_panics_and_is_bounded() {
    let mut random = StdRng::seed_from_u64(20_261_126);
    let differences: std::vec::Vec<u8> = [
        difference(INSERT, "$.b[1]", NEW).to_vec(),
        difference(REPLACE, "$.b[0]", TWO).to_vec(),
        difference(REMOVE, "$.a", &[]).to_vec(),
    ]
    .concat();
    let mut arena = Bump::new();
    for _ in 0..20_000 {
        let (mut before, mut differences) = (BEFORE.to_vec(), differences.clone());
        for _ in 0..random.random_range(1..4) {
            let place = random.random_range(0..before.len());
            before[place] = random.random();
        }
        if random.random() {
            let place = random.random_range(0..differences.len());
            differences[place] = random.random();
        }
        let _ = changed(&before, &differences, &arena);
        assert!(arena.allocated_bytes() < 1 << 20);
        arena.reset();
    }
    // an array of itself many times, on a path that enters it again and again
    let count = 10_000_u32;
    let mut before = [&[LARGE_ARRAY][..], &count.to_le_bytes(), &(8 + 5 * count).to_le_bytes()].concat();
    for _ in 0..count {
        before.extend_from_slice(&[LARGE_ARRAY, 0, 0, 0, 0]);
    }
    let path = "$".to_owned() + &"[1]".repeat(80);
    assert_eq!(changed(&before, &difference(REMOVE, &path, &[]), &arena), None);
    assert!(arena.allocated_bytes() < 4 << 20, "{}", arena.allocated_bytes());
}
