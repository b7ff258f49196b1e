#![allow(clippy::unwrap_used, clippy::panic)]
use super::*;

#[test]
fn a_snapshot_is_read_with_the_transactions_in_progress() {
    let Some(Snapshot::Xids { xmin, xmax, running }) = snapshot("10:4294967310:12,10") else { panic!() };
    assert_eq!((xmin, xmax, running), (10, 4_294_967_310, vec![10, 12]));
    assert_eq!(snapshot("7:7:").unwrap().running(), []);
    for text in ["", "1", "1:2", "1:2:x", "a:2:", "1:b:"] {
        assert!(snapshot(text).is_none(), "{text}");
    }
}

#[test]
fn the_bound_is_where_a_record_can_end() {
    let (page, segment) = (8192, 16 << 20);
    for (insert, expected) in [
        (3 * segment + 5 * page + 24, 3 * segment + 5 * page),
        (3 * segment + 40, 3 * segment),
        // 40 is inside an ordinary page, and 24 can't be behind the long header
        (3 * segment + 5 * page + 40, 3 * segment + 5 * page + 40),
        (3 * segment + 24, 3 * segment + 24),
        (3 * segment + 5 * page + 128, 3 * segment + 5 * page + 128),
    ] {
        assert_eq!(reachable(insert, page, segment), expected);
    }
    assert_eq!(reachable(7, 0, 0), 7);
}

#[test]
fn keys_are_compared_with_the_operators_of_their_types() {
    let column = |name: &str, operator: Option<&str>| lookup::KeyColumn {
        name: name.to_owned(),
        operator: operator.map(str::to_owned),
    };
    let keys = |keys: &[&[&str]]| -> Vec<Vec<String>> {
        keys.iter().map(|key| key.iter().map(|text| (*text).to_owned()).collect()).collect()
    };
    let one = key_condition(&[column("\"id\"", None)], &keys(&[&["'1'"], &["'2'"]]));
    assert_eq!(one.unwrap(), "(\"id\") IN ('1', '2')");
    let two = [column("\"a\"", None), column("\"b\"", None)];
    assert_eq!(key_condition(&two, &keys(&[&["'1'", "'x'"]])).unwrap(), "(\"a\", \"b\") IN (('1', 'x'))");
    let odd = [column("\"a\"", None), column("\"b\"", Some("\"public\""))];
    assert_eq!(
        key_condition(&odd, &keys(&[&["'1'", "'x'"], &["'2'", "'y'"]])).unwrap(),
        "(\"a\" OPERATOR(pg_catalog.=) '1' AND \"b\" OPERATOR(\"public\".=) 'x' OR \
         \"a\" OPERATOR(pg_catalog.=) '2' AND \"b\" OPERATOR(\"public\".=) 'y')"
    );
    assert_eq!(key_condition(&two, &keys(&[&["'1'"]])), None);
    assert_eq!(key_condition(&[], &keys(&[&[]])), None);
}

#[test]
fn filters_cannot_become_joins_nor_hide_what_follows() {
    assert_eq!(conditions(None, None, None), "");
    assert_eq!(
        conditions(Some("p".to_owned()), Some("a -- b"), Some("c")),
        " WHERE p AND CASE WHEN (a -- b\n) AND (c\n) THEN true ELSE false END"
    );
}

#[test]
fn the_planners_estimate_is_found() {
    assert_eq!(estimated_rows("Seq Scan on t  (cost=0.00..431.00 rows=21000 width=16)"), Some(21_000));
    assert_eq!(estimated_rows("Result"), None);
}
