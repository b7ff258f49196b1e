//! The same values in PostgreSQL, MySQL and MariaDB give the same bytes of `after`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod support;

use support::golden::{after, check_schema, same_from_a_copy};
use support::source::{Kind, Source, wait_until_streaming};

/// Column, its type in PostgreSQL, its type in MySQL and MariaDB.
const COLUMNS: [(&str, &str, &str); 20] = [
    ("id", "int primary key", "int primary key"),
    ("small", "smallint", "smallint"),
    ("big", "bigint", "bigint"),
    ("total", "numeric(20,5)", "decimal(20,5)"),
    ("whole", "numeric(30,0)", "decimal(30,0)"),
    ("single", "real", "float"),
    ("dbl", "double precision", "double"),
    ("body", "text", "text"),
    ("title", "varchar(60)", "varchar(60)"),
    ("code", "char(4)", "char(4)"),
    ("data", "bytea", "varbinary(300)"),
    ("day", "date", "date"),
    ("clock", "time(3)", "time(3)"),
    ("local", "timestamp(6)", "datetime(6)"),
    ("instant", "timestamptz(6)", "timestamp(6) null"),
    ("coarse", "timestamp(0)", "datetime"),
    ("doc", "jsonb", "json"),
    ("bits", "bit(9)", "bit(9)"),
    ("mood", "mood", "enum('sad', 'o,k', 'äöü \"x\"')"),
    ("page", "xml", "text"),
];

/// Rows as SQL that all three servers read alike (`X'..'` apart, which PostgreSQL spells `'\x..'`), and what `after` must be.
const ROWS: [(&str, &str); 5] = [
    (
        "1, -32768, -9223372036854775808, -123456789012345.00001, 123456789012345678901234567890, 0.1, 0.1, 'plain', 'title', \
         'abcd', BYTES(00ff), '2026-11-22', '23:59:59.999', '2026-11-22 11:32:36.411035', '2026-11-22 11:32:36.411035', \
         '2026-11-22 11:32:36', '{\"a\": 1, \"b\": [true, null, \"x\"]}', b'101000001', 'o,k', '<a>1</a>'",
        r#"{"id":1,"small":-32768,"big":-9223372036854775808,"total":"-123456789012345.00001","whole":"123456789012345678901234567890","single":0.1,"dbl":0.1,"body":"plain","title":"title","code":"abcd","data":"AP8=","day":"2026-11-22","clock":"23:59:59.999","local":"2026-11-22T11:32:36.411035","instant":"2026-11-22T11:32:36.411035Z","coarse":"2026-11-22T11:32:36","doc":{"a": 1, "b": [true, null, "x"]},"bits":"101000001","mood":"o,k","page":"<a>1</a>"}"#,
    ),
    (
        "2, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null",
        r#"{"id":2,"small":null,"big":null,"total":null,"whole":null,"single":null,"dbl":null,"body":null,"title":null,"code":null,"data":null,"day":null,"clock":null,"local":null,"instant":null,"coarse":null,"doc":null,"bits":null,"mood":null,"page":null}"#,
    ),
    (
        "3, 32767, 9223372036854775807, 0.00001, 0, 3.4e38, 1.7976931348623157e308, 'äöü \"quoted\"\t\n€ 😀', '', 'ab', BYTES(), \
         '1970-01-01', '00:00:00', '1999-12-31 23:59:59.000001', '2038-01-19 03:14:07.000000', '2000-02-29 00:00:00', '[]', b'000000000', 'sad', '<b/>'",
        r#"{"id":3,"small":32767,"big":9223372036854775807,"total":"0.00001","whole":"0","single":3.4e+38,"dbl":1.7976931348623157e+308,"body":"äöü \"quoted\"\t\n€ 😀","title":"","code":"CODE","data":"","day":"1970-01-01","clock":"00:00:00.000","local":"1999-12-31T23:59:59.000001","instant":"2038-01-19T03:14:07.000000Z","coarse":"2000-02-29T00:00:00","doc":[],"bits":"000000000","mood":"sad","page":"<b/>"}"#,
    ),
    (
        "4, 0, 0, -0.50000, -1, -1.5, -0.0000001, 'back\\\\slash', 'x', 'zzzz', BYTES(deadbeef), '9999-12-31', '12:00:00.5', \
         '9999-12-31 23:59:59.999999', '1970-01-01 00:00:01', '1000-01-01 00:00:00', '\"text\"', b'111111111', 'äöü \"x\"', 'text'",
        r#"{"id":4,"small":0,"big":0,"total":"-0.50000","whole":"-1","single":-1.5,"dbl":-1e-7,"body":"back\\slash","title":"x","code":"zzzz","data":"3q2+7w==","day":"9999-12-31","clock":"12:00:00.500","local":"9999-12-31T23:59:59.999999","instant":"1970-01-01T00:00:01.000000Z","coarse":"1000-01-01T00:00:00","doc":"text","bits":"111111111","mood":"äöü \"x\"","page":"text"}"#,
    ),
    (
        "5, 1, 4503599627370497, 1.00000, 10, 16777216, 123456789.123, 'line', 'ß', 'q', BYTES(ff), '2024-02-29', '01:02:03.004', \
         '2024-02-29 12:00:00', '2024-02-29 12:00:00', '2024-02-29 12:00:00', '{\"n\": -1.5, \"s\": \"é\"}', b'000000001', 'sad', ''",
        r#"{"id":5,"small":1,"big":4503599627370497,"total":"1.00000","whole":"10","single":16777216.0,"dbl":123456789.123,"body":"line","title":"ß","code":"CODE","data":"/w==","day":"2024-02-29","clock":"01:02:03.004","local":"2024-02-29T12:00:00.000000","instant":"2024-02-29T12:00:00.000000Z","coarse":"2024-02-29T12:00:00","doc":{"n": -1.5, "s": "é"},"bits":"000000001","mood":"sad","page":""}"#,
    ),
];

async fn images(kind: Kind) -> Vec<String> {
    let source = Source::create(kind, "golden").await;
    let postgres = kind == Kind::Postgres;
    if postgres {
        source.exec("create type mood as enum ('sad', 'o,k', 'äöü \"x\"')").await;
    }
    let columns: Vec<String> =
        COLUMNS.iter().map(|(name, pg, my)| format!("{name} {}", if postgres { pg } else { my })).collect();
    source.create_table("golden", &columns.join(", ")).await;
    let mut daemon = source.to_kafka().spawn();
    wait_until_streaming(&mut daemon).await;
    source.exec(if postgres { "set timezone = 'UTC'" } else { "set time_zone = '+00:00'" }).await;
    for (row, _) in ROWS {
        let mut sql = format!("insert into golden values ({row})");
        while let Some((before, rest)) = sql.split_once("BYTES(") {
            let (hex, behind) = rest.split_once(')').unwrap();
            let literal = if postgres { format!("'\\x{hex}'") } else { format!("X'{hex}'") };
            sql = format!("{before}{literal}{behind}");
        }
        if postgres {
            // standard strings: a backslash is itself
            sql = sql.replace("back\\\\slash", "back\\slash");
        }
        source.exec(&sql).await;
    }
    source.wait_for_events("golden", ROWS.len()).await;
    let images = source.records("golden").await.iter().map(after).collect();
    same_from_a_copy(&source, &daemon, &[("golden", ROWS.len())]).await;
    check_schema(&source, &["golden"]).await;
    images
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_values_give_the_same_bytes_from_every_server() {
    for kind in [Kind::Postgres, Kind::Mysql, Kind::Mariadb] {
        let images = images(kind).await;
        for (index, (_, expected)) in ROWS.iter().enumerate() {
            // the one difference that the servers make themselves: PostgreSQL pads char(n), MySQL strips
            let code = match (kind, index) {
                (Kind::Postgres, 2) => "ab  ",
                (Kind::Postgres, _) => "q   ",
                (_, 2) => "ab",
                _ => "q",
            };
            assert_eq!(images[index], expected.replace("CODE", code), "{kind:?}, row {}", index + 1);
        }
    }
}

/// Types that only one server has.
#[tokio::test(flavor = "multi_thread")]
async fn values_of_single_servers_have_the_documented_form() {
    let cases = [
        (
            Kind::Postgres,
            "id int primary key, flag boolean, uid uuid, tags text[], grid int[], mood mood, span interval, at timetz, bits bit(4), n numeric, far date",
            "1, true, 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '{a,NULL,\"b c\"}', '{{1,2},{3,4}}', 'sad', '1 year 2 mons 3 days 04:05:06.7', \
             '12:00:00+02', B'0101', 'NaN', 'infinity'",
            r#"{"id":1,"flag":true,"uid":"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11","tags":["a",null,"b c"],"grid":[[1,2],[3,4]],"mood":"sad","span":"P1Y2M3DT4H5M6.7S","at":"12:00:00.000000+02:00","bits":"0101","n":"NaN","far":"infinity"}"#,
        ),
        (
            Kind::Mysql,
            "id int primary key, u bigint unsigned, flag tinyint(1), mood enum('a','b'), opts set('x','y','z'), bits bit(4), span time(1), y year, m mediumint, l varchar(9) character set latin1, j json",
            "1, 18446744073709551615, 7, 'b', 'x,z', b'0101', '-838:59:59.0', 0, -8388608, 'café', \
             json_object('d', cast('2026-11-22 11:32:36.5' as datetime(6)), 'n', cast(1.50 as decimal(5, 2)), 'f', 0.1e0)",
            r#"{"id":1,"u":18446744073709551615,"flag":7,"mood":"b","opts":["x","z"],"bits":"0101","span":"-838:59:59.0","y":0,"m":-8388608,"l":"café","j":{"d": "2026-11-22 11:32:36.500000", "f": 0.1, "n": 1.50}}"#,
        ),
        (
            Kind::Mariadb,
            "id int primary key, u bigint unsigned, flag tinyint(1), mood enum('a','b'), opts set('x','y','z'), bits bit(4), span time(1), y year, m mediumint, uid uuid",
            "1, 18446744073709551615, 7, 'b', 'x,z', b'0101', '-838:59:59.0', 0, -8388608, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
            r#"{"id":1,"u":18446744073709551615,"flag":7,"mood":"b","opts":["x","z"],"bits":"0101","span":"-838:59:59.0","y":0,"m":-8388608,"uid":"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"}"#,
        ),
    ];
    for (kind, columns, row, expected) in cases {
        let source = Source::create(kind, "own").await;
        if kind == Kind::Postgres {
            source.exec("create type mood as enum ('happy', 'sad')").await;
        }
        source.create_table("own", columns).await;
        let mut daemon = source.to_kafka().spawn();
        wait_until_streaming(&mut daemon).await;
        source.exec(&format!("insert into own values ({row})")).await;
        source.wait_for_events("own", 1).await;
        let records = source.records("own").await;
        assert_eq!(after(&records[0]), expected, "{kind:?}");
        same_from_a_copy(&source, &daemon, &[("own", 1)]).await;
    }
}
