//! The table reader against a real server, which `make test` starts; by hand:
//!
//! ```text
//! scripts/with-servers.sh --only pg cargo test -p rowcast-postgres
//! ```
//!
//! Every test has a database of its own, which goes at its end. The server must have `wal_level = logical`, and the role
//! `cdc` (password `cdcpw`).
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeMap;

use rowcast_core::backfill::{Plan, ReadError, Reading, Snapshot, Target, What};
use rowcast_core::{Batch, Begin, Bump, Event, Op, Source, SourceStream, TableReader};
use rowcast_postgres::{PostgresReader, PostgresSource};
use support::{Db, connect, var};

fn source(db: &Db) -> PostgresSource {
    PostgresSource::new(db.options(&var("PG_SUPER"), &var("PG_PASSWORD"))).unwrap()
}

async fn reader(db: &Db) -> PostgresReader {
    source(db).reader().await.unwrap()
}

fn target(qualifier: &str, table: &str) -> Target {
    Target { qualifier: qualifier.to_owned(), table: table.to_owned(), filter: None }
}

/// Table, fingerprint, key, and values of a row.
type Row = (String, u64, Vec<usize>, Option<Vec<String>>, Vec<String>);

fn rows(batch: &Batch, op: Op) -> Vec<Row> {
    let arena = Bump::new();
    let mut found = Vec::new();
    for event in &batch.events {
        let Event::Change(change) = event else { continue };
        if change.op != op {
            continue;
        }
        let (table, after) = (&batch.tables[change.table as usize], change.after.unwrap());
        let mut row = Vec::new();
        table.decode(&batch.data, after, &arena, &mut row).unwrap();
        let values = row.iter().map(|value| format!("{value:?}")).collect();
        let literals = table.key_literals(&batch.data, &[after]);
        found.push((table.name.to_string(), table.fingerprint, table.key.clone(), literals, values));
    }
    found
}

#[derive(Default, Debug)]
struct Seen {
    rows: Vec<Row>,
    reads: usize,
    pieces: usize,
    largest: usize,
}

/// Reads what a read gives; what is left of it.
async fn pieces(reader: &mut PostgresReader, seen: &mut Seen) -> Result<Option<String>, ReadError> {
    let (mut rest, mut seq, mut over) = (None, 0, false);
    while let Some(piece) = reader.next().await? {
        assert!(!over, "a piece behind the end");
        let found = rows(&piece.batch, Op::Read);
        assert_eq!((found.len() as u64, found.len()), (piece.rows, piece.batch.events.len()));
        for event in &piece.batch.events {
            let Event::Change(change) = event else { panic!("{event:?}") };
            seq += 1;
            assert_eq!(change.seq, seq);
        }
        seen.pieces += 1;
        seen.largest = seen.largest.max(piece.batch.data.len());
        seen.rows.extend(found);
        over = piece.rest.is_none();
        rest = piece.rest;
    }
    assert!(reader.next().await?.is_none());
    reader.end().await?;
    Ok(rest)
}

async fn read_range(
    reader: &mut PostgresReader,
    target: &Target,
    range: &str,
    count: u64,
    seen: &mut Seen,
) -> Result<(), ReadError> {
    let mut range = Some(range.to_owned());
    while let Some(text) = range {
        reader.begin(target, What::Range(&text), count).await?;
        seen.reads += 1;
        range = pieces(reader, seen).await?;
        assert!(range.as_ref().is_none_or(|rest| *rest != text), "no progress at {text}");
    }
    Ok(())
}

async fn read_all(reader: &mut PostgresReader, target: &Target, ranges: usize, count: u64) -> (Plan, Seen) {
    let plan = reader.plan(target, ranges).await.unwrap();
    let mut seen = Seen::default();
    for range in &plan.ranges {
        read_range(reader, target, range, count, &mut seen).await.unwrap();
    }
    seen.rows.sort();
    (plan, seen)
}

async fn read_what(reader: &mut PostgresReader, target: &Target, what: What<'_>) -> (Reading, Seen) {
    let reading = reader.begin(target, what, 10).await.unwrap();
    let mut seen = Seen::default();
    assert_eq!(pieces(reader, &mut seen).await.unwrap(), None);
    seen.rows.sort();
    (reading, seen)
}

fn refused(result: Result<impl std::fmt::Debug, ReadError>, part: &str) {
    match result {
        Err(ReadError::Refused(what)) => assert!(what.contains(part) && what.contains("repair"), "{part}: {what}"),
        other => panic!("{part}: {other:?}"),
    }
}

const TABLES: &str = r#"
    create extension if not exists citext; create extension if not exists ltree;
    create type mood as enum ('sad', 'it''s ok'); create domain price as numeric(12,3); create type pair as (a int, b text);
    create schema "Odd s";
    create table types (id bigint primary key, i2 int2, n numeric, n2 numeric(10,2), p price, f4 real, f8 double precision,
        b bytea, v varchar(20), ch char(6), ts timestamp(3), tz timestamptz, d date, t time, tt timetz, iv interval, u uuid,
        j json, jb jsonb, m mood, ma mood[], ia int[], pr pair, bo boolean, bi bit(5), x xml, mo money, inet inet,
        r int4range, o oid, reg regclass, tx text);
    create table "Odd s"."a.b""c" ("x ""y" text, "Z" int, "drop me" int, val text, primary key ("Z", "x ""y"));
    alter table "Odd s"."a.b""c" drop column "drop me"; alter table "Odd s"."a.b""c" add column late int default 7;
    create table generated (a int primary key, twice int generated always as (a * 2) stored, c text);
    create table uniq (a int, b citext not null, c ltree not null, d text); create unique index z on uniq (c, b);
    create unique index a_null on uniq (a); create unique index b_part on uniq (b) where a > 0;
    create unique index c_expr on uniq (b, (lower(b::text)));
    alter table uniq replica identity full;
    create table keyless (a int, b text); alter table keyless replica identity full;
    create table parts (id int, at date, v text, primary key (at, id)) partition by range (at);
    create table parts_1 partition of parts for values from ('2020-01-01') to ('2021-01-01');
    create table parts_2 (v text, gone int, at date not null, id int not null); alter table parts_2 drop column gone;
    alter table parts attach partition parts_2 for values from ('2021-01-01') to ('2022-01-01');
    create table listed (id int primary key, secret text, shown text);
"#;

const ROWS: &str = r#"
    insert into types select n, n, n / 3.0, n, n / 7.0, n / 3.0, n / 3.0, '\x00ff5c'::bytea, 'v''\' || n, 'ch' || n,
        '2020-01-01 10:11:12.5678'::timestamp, '1999-12-31 23:59:59.999999+05', '0044-03-15 BC', '04:05:06.5', '04:05:06+03:30',
        '1 year 2 mons -3 days 04:05:06.7', '3e11fa47-71ca-11e1-9e33-c80aa9429562', '{"a" :  1}', '{"b": [1, null]}', 'it''s ok',
        '{sad,"it''s ok"}', '{1,null,3}', row(1, 'x,"y')::pair, n % 2 = 0, B'10101', '<a/>', 12.34, '10.0.0.0/8', '[1,5)', 4294967295,
        'pg_class', repeat('long' || n, 2000) from generate_series(1, 50) n;
    insert into types (id) values (99), (-1);
    insert into "Odd s"."a.b""c" select 'k''' || n || E'\\', n, 'v' || n from generate_series(1, 30) n;
    insert into generated (a, c) values (1, 'x'), (2, null);
    insert into uniq select n, 'Key' || n, ('Top.n' || n)::ltree, 'd' from generate_series(1, 20) n;
    insert into keyless values (1, 'a'), (1, 'a'), (null, null);
    insert into parts values (1, '2020-05-05', 'one'), (2, '2021-05-05', 'two'), (3, '2021-06-06', null);
    insert into listed values (1, 'hidden', 'a'), (2, 'hidden', 'b'), (3, 'hidden', 'c');
"#;

#[tokio::test]
async fn rows_and_tables_are_equal_to_the_streams() {
    let db = Db::create("bf_equal", TABLES).await;
    db.exec(&format!(
        r#"create publication {} for table types, "Odd s"."a.b""c", generated, uniq, keyless, parts, listed (id, shown) where (id <> 2)
        with (publish_via_partition_root = true)"#,
        db.name
    ))
    .await;
    let source = source(&db);
    let mut opened = source.open(Begin::Now).await.unwrap();
    db.exec(ROWS).await;
    let total = 52 + 30 + 2 + 20 + 3 + 3 + 2;
    let mut streamed: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    while streamed.values().map(Vec::len).sum::<usize>() < total {
        let batch = opened.stream.next().await.unwrap();
        for row in rows(&batch, Op::Insert) {
            streamed.entry(row.0.clone()).or_default().push(row);
        }
    }
    opened.stream.close().await;
    let mut reader = source.reader().await.unwrap();
    for (schema, table) in [
        ("public", "types"),
        ("Odd s", "a.b\"c"),
        ("public", "generated"),
        ("public", "uniq"),
        ("public", "keyless"),
        ("public", "parts"),
        ("public", "listed"),
    ] {
        let target = target(schema, table);
        let mut expected = streamed.remove(&format!("{schema}.{table}")).unwrap();
        expected.sort();
        let (plan, seen) = read_all(&mut reader, &target, 8, 7).await;
        assert_eq!(seen.rows, expected, "{table}");
        assert_eq!(plan.keyed, table != "keyless");
        assert_eq!(format!("{}", plan.name), format!("{schema}.{table}"));
        assert!(plan.rows.is_some() && plan.bytes.is_some() && plan.rows_move);
        let (_, whole) = read_what(&mut reader, &target, What::Whole).await;
        assert_eq!(whole.rows, expected, "{table}");
        // every other row by the literals of the stream's key
        let wanted: Vec<Row> = expected.into_iter().step_by(2).collect();
        let keys: Vec<Vec<String>> = wanted.iter().filter_map(|row| row.3.clone()).collect();
        if plan.keyed {
            assert_eq!(keys.len(), wanted.len());
            let (_, by_key) = read_what(&mut reader, &target, What::Keys(&keys)).await;
            assert_eq!(by_key.rows, wanted, "{table}");
            let (_, none) = read_what(&mut reader, &target, What::Keys(&[])).await;
            assert_eq!((none.rows.len(), none.pieces), (0, 1));
        } else {
            assert!(keys.is_empty());
        }
    }
    let mut filtered = target("public", "types");
    filtered.filter = Some("id in (select a from public.generated) or id = 99 -- all of them".to_owned());
    let (_, seen) = read_all(&mut reader, &filtered, 2, 100).await;
    assert_eq!(seen.rows.len(), 3);
    drop(reader);
    db.drop().await;
}

#[tokio::test]
async fn ranges_hold_every_row_once_however_small_the_reads_are() {
    let db = Db::create(
        "ranges",
        "create table t (id int primary key, v text); insert into t select n, repeat('v', n % 90) from generate_series(1, 60000) n;
         delete from t where id % 5 = 0 or id between 20000 and 30000; create table empty (id int primary key);
         create table big (id int primary key, v text);
         alter table big alter v set storage external;
         insert into big select n, repeat(chr(65 + n % 26), case when n = 7 then 30000000 else 1000000 end) from generate_series(1, 60) n;",
    )
    .await;
    let mut reader = reader(&db).await;
    for (ranges, count) in [(1, 1_000_000), (5, 1000), (1, 100), (100, 50_000)] {
        let (plan, seen) = read_all(&mut reader, &target("public", "t"), ranges, count).await;
        let mut ids: Vec<&String> = seen.rows.iter().map(|row| &row.4[0]).collect();
        ids.dedup();
        assert_eq!((seen.rows.len(), ids.len()), (40_000, 40_000));
        assert!(plan.ranges.len() <= ranges + 1 && seen.reads >= 39_999 / count as usize, "{}", seen.reads);
        assert!(seen.largest <= (256 << 10) + 200, "{}", seen.largest);
    }
    // a filter that few rows pass: more and smaller reads, all the same rows
    let filter = Some("id % 1000 = 1".to_owned());
    let (_, seen) = read_all(&mut reader, &Target { filter, ..target("public", "t") }, 1, 10).await;
    assert_eq!(seen.rows.len(), 50);
    let plan = reader.plan(&target("public", "empty"), 8).await.unwrap();
    assert_eq!((plan.ranges.len(), plan.rows), (0, Some(0)));
    let (_, seen) = read_what(&mut reader, &target("public", "empty"), What::Whole).await;
    assert_eq!((seen.rows.len(), seen.pieces), (0, 1));

    let before = peak();
    let plan = reader.plan(&target("public", "big"), 1).await.unwrap();
    let (mut count, mut largest) = (0, 0);
    reader.begin(&target("public", "big"), What::Range(&plan.ranges[0]), 1000).await.unwrap();
    while let Some(piece) = reader.next().await.unwrap() {
        count += piece.rows;
        largest = largest.max(piece.batch.data.len());
    }
    reader.end().await.unwrap();
    assert_eq!(count, 60);
    assert!((30_000_000..30_100_000).contains(&largest), "{largest}");
    let grown = peak().saturating_sub(before);
    assert!(grown < 130_000, "{grown} KiB more than before");
    // a read that ends early
    reader.begin(&target("public", "big"), What::Range(&plan.ranges[0]), 1000).await.unwrap();
    assert!(reader.next().await.unwrap().is_some());
    reader.end().await.unwrap();
    assert!(reader.snapshot().await.is_ok());
    drop(reader);
    db.drop().await;
}

/// Peak of this process' memory in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_read_sees_its_snapshot() {
    let db = Db::create("bf_snapshot", "create table t (id int primary key); insert into t values (1), (2)").await;
    let mut reader = reader(&db).await;
    let plan = reader.plan(&target("public", "t"), 1).await.unwrap();
    let mut other = connect(&db.name).await;
    let open = other.transaction().await.unwrap();
    open.execute("insert into t values (3)", &[]).await.unwrap();
    let row =
        open.query_one("select pg_current_xact_id()::text, extract(epoch from now())::float8", &[]).await.unwrap();
    let (xid, now): (String, f64) = (row.get(0), row.get(1));
    let reading = reader.begin(&target("public", "t"), What::Range(&plan.ranges[0]), 10).await.unwrap();
    db.exec("insert into t values (4)").await;
    open.commit().await.unwrap();
    let mut seen = Seen::default();
    pieces(&mut reader, &mut seen).await.unwrap();
    assert_eq!(seen.rows.len(), 2);
    let xid: u64 = xid.parse().unwrap();
    assert!(!reading.snapshot.sees_xid(xid), "{reading:?}");
    assert!((reading.now_us as f64 / 1e6 - now).abs() < 60.0);
    assert!(reader.snapshot().await.unwrap().sees_xid(xid));
    assert!(matches!(reading.snapshot, Snapshot::Xids { .. }));
    let end = db.client.query_one("select pg_current_wal_insert_lsn()::text", &[]).await.unwrap();
    let end: rowcast_core::Lsn = end.get::<_, String>(0).parse().unwrap();
    assert!(reading.bound.file == 0 && reading.bound.byte < end.0 && reading.bound.byte > 0);
    let (_, again) = read_what(&mut reader, &target("public", "t"), What::Range(&plan.ranges[0])).await;
    assert_eq!(again.rows.len(), 4);
    drop((reader, other));
    db.drop().await;
}

#[tokio::test]
async fn what_can_not_be_read_is_refused_with_the_repair() {
    let role = format!("bf_role_{}", std::process::id());
    let db = Db::create("bf_refused", &format!("create role {role} login password 'bfpw'")).await;
    db.exec(
        &"create table t (id int primary key, v text); insert into t values (1, 'x'), (2, 'secret');
         create view v as select * from t; create unlogged table u (id int primary key);
         create table p (id int) partition by list (id); create table p1 partition of p for values in (1);
         create table closed (id int primary key); insert into closed values (1);
         create table rls (id int primary key); alter table rls enable row level security; grant select on rls, t, p to READER;
         create schema hidden; create table hidden.t (id int);"
            .replace("READER", &role),
    )
    .await;
    let mut reader = PostgresSource::new(db.options(&role, "bfpw")).unwrap().reader().await.unwrap();
    refused(reader.plan(&target("public", "v"), 1).await, "view");
    refused(reader.plan(&target("public", "u"), 1).await, "SET LOGGED");
    refused(reader.plan(&target("public", "p1"), 1).await, "partition of p");
    refused(reader.plan(&target("public", "closed"), 1).await, "GRANT SELECT ON \"public\".\"closed\" TO \"bf_role_");
    refused(reader.plan(&target("hidden", "t"), 1).await, "GRANT USAGE ON SCHEMA \"hidden\"");
    refused(reader.plan(&target("public", "p"), 1).await, "GRANT SELECT ON \"public\".\"p1\"");
    refused(reader.plan(&target("public", "rls"), 1).await, "BYPASSRLS");
    assert!(matches!(reader.plan(&target("public", "nothing"), 1).await, Err(ReadError::Gone)));
    assert!(matches!(reader.plan(&target("nothing", "t"), 1).await, Err(ReadError::Gone)));
    for filter in ["nope = 1", "v", "id = ", "id = 1)", "count(*) > 1", "id = 1; drop table t"] {
        let wrong = Target { filter: Some(filter.to_owned()), ..target("public", "t") };
        refused(reader.plan(&wrong, 1).await, "filter");
    }
    let plan = reader.plan(&target("public", "t"), 1).await.unwrap();
    // a filter that fails on a row: its value isn't told
    let failing = Target { filter: Some("v::int = 1".to_owned()), ..target("public", "t") };
    reader.plan(&failing, 1).await.unwrap();
    for _ in 0..2 {
        reader.begin(&failing, What::Range(&plan.ranges[0]), 10).await.unwrap();
        let result = reader.next().await;
        assert!(!format!("{result:?}").contains("secret"));
        refused(result, "22P02");
    }
    for range in ["", "0-1000", "x/y:0-1", "1/1:5-2"] {
        refused(reader.begin(&target("public", "t"), What::Range(range), 1).await, "range");
    }
    let (_, seen) = read_what(&mut reader, &target("public", "t"), What::Range(&plan.ranges[0])).await;
    assert_eq!(seen.rows.len(), 2);
    db.exec(&format!("revoke select on t from {role}")).await;
    let result = reader.begin(&target("public", "t"), What::Range(&plan.ranges[0]), 1).await;
    refused(result, "GRANT SELECT ON \"public\".\"t\" TO \"bf_role_");
    db.exec(&format!("grant select on t to {role}")).await;
    let (_, seen) = read_what(&mut reader, &target("public", "t"), What::Range(&plan.ranges[0])).await;
    assert_eq!(seen.rows.len(), 2);
    drop(reader);
    db.exec(&format!("drop owned by {role}; drop role {role}")).await;
    db.drop().await;
}

#[tokio::test]
async fn tables_that_change_between_reads_are_noticed() {
    let db = Db::create(
        "changes",
        "create table t (id int primary key, v text); insert into t select n, repeat('x', 200) from generate_series(1, 10000) n;
         create table p (id int primary key, v text) partition by range (id);
         create table p1 partition of p for values from (1) to (100); create table p2 partition of p for values from (100) to (200);
         insert into p select n, 'x' from generate_series(1, 199) n;",
    )
    .await;
    let mut reader = reader(&db).await;
    let t = target("public", "t");
    let plan = reader.plan(&t, 4).await.unwrap();
    assert_eq!(plan.ranges.len(), 4);
    read_range(&mut reader, &t, &plan.ranges[0], 1000, &mut Seen::default()).await.unwrap();
    db.exec("alter table t add column w int default 5").await;
    assert!(matches!(reader.begin(&t, What::Range(&plan.ranges[1]), 10).await, Err(ReadError::Changed(_))));
    let mut second = Seen::default();
    read_range(&mut reader, &t, &plan.ranges[1], 1000, &mut second).await.unwrap();
    assert_eq!(second.rows[0].4.len(), 3);
    // another key is another table version
    db.exec("alter table t replica identity full; alter table t drop constraint t_pkey").await;
    assert!(matches!(reader.begin(&t, What::Whole, 10).await, Err(ReadError::Changed(_))));
    let (_, whole) = read_what(&mut reader, &t, What::Whole).await;
    assert_eq!((whole.rows.len(), whole.rows[0].2.len()), (10_000, 0));
    // rows move: ranges of the old file mean nothing any more
    db.exec("delete from t where id > 9000").await;
    db.exec("vacuum full t").await;
    let result = reader.begin(&t, What::Range(&plan.ranges[2]), 10).await;
    assert!(matches!(result, Err(ReadError::Moved(_))), "{result:?}");
    let plan = reader.plan(&t, 4).await.unwrap();
    let mut all = Seen::default();
    for range in &plan.ranges {
        read_range(&mut reader, &t, range, 1000, &mut all).await.unwrap();
    }
    assert_eq!(all.rows.len(), 9000);
    // so it is when the table is emptied
    db.exec("truncate t").await;
    let result = reader.begin(&t, What::Range(&plan.ranges[1]), 10).await;
    assert!(matches!(result, Err(ReadError::Moved(_))), "{result:?}");
    // renamed and there again: its ranges are another table's
    db.exec("alter table t rename to t_old; create table t (id int primary key); insert into t values (1)").await;
    let result = reader.begin(&t, What::Range(&plan.ranges[2]), 10).await;
    assert!(matches!(result, Err(ReadError::Gone)), "{result:?}");
    db.exec("drop table t").await;
    assert!(matches!(reader.begin(&t, What::Whole, 10).await, Err(ReadError::Gone)));

    let p = target("public", "p");
    let plan = reader.plan(&p, 4).await.unwrap();
    assert_eq!(plan.ranges.len(), 2);
    db.exec("drop table p1; alter table p detach partition p2").await;
    for range in &plan.ranges {
        let mut seen = Seen::default();
        if let Err(error) = read_range(&mut reader, &p, range, 10, &mut seen).await {
            assert!(matches!(error, ReadError::Changed(_)), "{error:?}");
            read_range(&mut reader, &p, range, 10, &mut seen).await.unwrap();
        }
        assert_eq!(seen.rows.len(), 0);
    }
    drop(reader);
    db.drop().await;
}

#[tokio::test]
async fn a_locked_table_is_too_slow_and_a_lost_session_the_sources_error() {
    let db = Db::create("bf_locks", "create table t (id int primary key); insert into t values (1)").await;
    let mut reader = reader(&db).await;
    let t = target("public", "t");
    let plan = reader.plan(&t, 1).await.unwrap();
    let mut other = connect(&db.name).await;
    let lock = other.transaction().await.unwrap();
    lock.batch_execute("lock table t").await.unwrap();
    let result = reader.begin(&t, What::Range(&plan.ranges[0]), 1).await;
    assert!(matches!(result, Err(ReadError::TooSlow(_))), "{result:?}");
    lock.rollback().await.unwrap();
    let (_, seen) = read_what(&mut reader, &t, What::Range(&plan.ranges[0])).await;
    assert_eq!(seen.rows.len(), 1);
    db.exec(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'rowcast test' and datname = current_database()",
    )
    .await;
    match reader.begin(&t, What::Range(&plan.ranges[0]), 1).await {
        Err(ReadError::Source(error)) => assert!(error.is_transient(), "{error}"),
        other => panic!("{other:?}"),
    }
    drop(other);
    db.drop().await;
}
