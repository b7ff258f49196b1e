//! What the log holds of a row: values out of line that didn't change, and the old row by each replica identity. Lines of
//! `debezium-losses.md` are quoted where a test stands against them.

use serde_json::{Value as Json, json};

use crate::support::eventually;
use crate::support::source::{PATIENCE, Source, wait_until_streaming};
use crate::tables::{copied, database, wait_for};

/// Column, type, SQL of a value that is far too large for its row.
const LARGE: [(&str, &str, &str); 9] = [
    ("t", "text", "(select string_agg(md5(i::text), '') from generate_series(1, 400) i)"),
    ("n", "numeric", "(select string_agg('1234567', '')::numeric from generate_series(1, 3000) i)"),
    ("f", "float8[]", "(select array_agg(i + 0.5) from generate_series(1, 3000) i)"),
    (
        "ts",
        "timestamp[]",
        "(select array_agg(timestamp '2026-11-22' + i * interval '1 s') from generate_series(1, 2000) i)",
    ),
    ("us", "uuid[]", "(select array_agg(md5(i::text)::uuid) from generate_series(1, 1000) i)"),
    ("ns", "int[]", "(select array_agg(i) from generate_series(1, 4000) i)"),
    ("bs", "bool[]", "(select array_agg(i % 2 = 0) from generate_series(1, 9000) i)"),
    ("ds", "numeric[]", "(select array_agg(i + 0.10) from generate_series(1, 2000) i)"),
    ("j", "jsonb", "(select jsonb_object_agg('k' || i, md5(i::text)) from generate_series(1, 300) i)"),
];

fn large_table() -> String {
    let columns: Vec<String> = LARGE.iter().map(|(name, ty, _)| format!("{name} {ty}")).collect();
    let external: Vec<String> = LARGE.iter().map(|(name, ..)| format!("alter {name} set storage external")).collect();
    let values: Vec<&str> = LARGE.iter().map(|(.., value)| *value).collect();
    format!(
        "create extension if not exists hstore;
         create table docs (id int primary key, v int, h hstore, {});
         alter table docs alter h set storage external, {};
         insert into docs values (1, 1, (select hstore(array_agg('k' || i), array_agg(md5(i::text))) from generate_series(1, 200) i), {})",
        columns.join(", "),
        external.join(", "),
        values.join(", ")
    )
}

/// "Unchanged TOAST: numeric, float8[], timestamp[], numeric[], bool[] become **null**; uuid[] an invented uuid; int[]/bigint[]/date[] the
/// placeholder's bytes as numbers; hstore has it as key and value; text cannot be told from a real value."
#[tokio::test(flavor = "multi_thread")]
async fn what_is_out_of_line_and_did_not_change_is_absent_whatever_its_type() {
    let source = database("toast", &large_table()).await;
    let _daemon = copied(&source, &["docs"]).await;
    source.exec("update docs set v = 2").await;
    source.exec("update docs set v = 3, t = '__debezium_unavailable_value'").await;
    source.exec("update docs set t = null, n = null, f = null").await;
    let events = source.wait_for_events("docs", 4).await;
    let mut left_out: Vec<&str> = ["h"].into_iter().chain(LARGE.iter().map(|(name, ..)| *name)).collect();
    assert_eq!(events[1]["after"], json!({"id": 1, "v": 2}));
    assert_eq!(events[1]["absent"], json!(left_out));
    assert_eq!(events[1]["before"], Json::Null);
    left_out.retain(|name| *name != "t");
    assert_eq!(events[2]["after"], json!({"id": 1, "v": 3, "t": "__debezium_unavailable_value"}), "a text is a text");
    assert_eq!(events[2]["absent"], json!(left_out));
    left_out.retain(|name| !["n", "f"].contains(name));
    assert_eq!(events[3]["after"], json!({"id": 1, "v": 3, "t": null, "n": null, "f": null}), "a NULL is a NULL");
    assert_eq!(events[3]["absent"], json!(left_out));

    // logged whole, the old row says what the new one has
    source.exec("alter table docs replica identity full").await;
    source.exec("update docs set v = 4").await;
    source.exec("update docs set id = 2, j = '{}'").await;
    let events = source.wait_for_events("docs", 7).await;
    let first = events[0]["after"].clone();
    let mut row = events[3]["after"].clone();
    for name in left_out {
        row[name] = first[name].clone();
    }
    assert_eq!((&events[4]["op"], &events[4]["before"], &events[4]["absent"]), (&json!("u"), &row, &Json::Null));
    row["v"] = json!(4);
    assert_eq!(events[4]["after"], row);
    assert_eq!((&events[5]["op"], &events[5]["before"]), (&json!("d"), &row));
    (row["id"], row["j"]) = (json!(2), json!({}));
    assert_eq!((&events[6]["op"], &events[6]["after"], &events[6]["absent"]), (&json!("c"), &row, &Json::Null));
}

/// `op`, key, before and after of each event.
fn parts(records: &[crate::support::kafka::Record]) -> Vec<(String, Json, Json, Json)> {
    let events = records.iter().filter(|record| record.value.is_some());
    events
        .map(|record| {
            let event = record.json();
            let op = event["op"].as_str().unwrap().to_owned();
            (op, record.key_json(), event["before"].clone(), event["after"].clone())
        })
        .collect()
}

async fn wait_for_parts(source: &Source, table: &str, expected: &[(&str, Json, Json, Json)]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|(op, key, before, after)| ((*op).to_owned(), key.clone(), before.clone(), after.clone()))
        .collect();
    eventually(PATIENCE, &format!("the events of {table}"), || async {
        let found = parts(&source.records(table).await);
        assert!(found.len() <= expected.len(), "{table}: {found:#?}");
        if found == expected { Ok(()) } else { Err(found) }
    })
    .await;
}

/// "Default-identity deletes: NOT NULL columns with a default show that default in `before`, others null." And of any source: "Explicit
/// NULL becomes the column's DEFAULT in `after` (and `before`) of every column with a DEFAULT."
#[tokio::test(flavor = "multi_thread")]
async fn the_old_row_is_what_was_logged_and_no_default_is_ever_made_up() {
    let source = database(
        "identity",
        "create table t (id int primary key, e text not null default 'made up', d timestamptz default now(),
           u uuid default gen_random_uuid(), n int default 7, other int)",
    )
    .await;
    let mut daemon = source.to_kafka().spawn();
    wait_until_streaming(&mut daemon).await;
    let row = |id: i32, n: Option<i32>| json!({"id": id, "e": "e", "d": null, "u": null, "n": n, "other": null});
    let key = |id: i32| json!({"id": id});
    let null = Json::Null;
    source.exec("insert into t values (1, 'e', null, null, null, null)").await;
    source.exec("update t set n = 1").await;
    source.exec("update t set id = 2").await;
    source.exec("delete from t").await;
    let mut expected = vec![
        ("c", key(1), null.clone(), row(1, None)),
        ("u", key(1), null.clone(), row(1, Some(1))),
        ("d", key(1), key(1), null.clone()),
        ("c", key(2), null.clone(), row(2, Some(1))),
        ("d", key(2), key(2), null.clone()),
    ];
    wait_for_parts(&source, "t", &expected).await;
    // whole rows from here on
    source.exec("alter table t replica identity full").await;
    source.exec("insert into t values (3, 'e', null, null, null, null)").await;
    source.exec("update t set n = 3").await;
    source.exec("update t set id = 4").await;
    source.exec("delete from t").await;
    expected.extend([
        ("c", key(3), null.clone(), row(3, None)),
        ("u", key(3), row(3, None), row(3, Some(3))),
        ("d", key(3), row(3, Some(3)), null.clone()),
        ("c", key(4), null.clone(), row(4, Some(3))),
        ("d", key(4), row(4, Some(3)), null.clone()),
    ]);
    wait_for_parts(&source, "t", &expected).await;
    // nothing: the server lets no row be changed or deleted, but all of them at once
    source.exec("alter table t replica identity nothing").await;
    source.exec("insert into t values (5, 'e', null, null, null, null)").await;
    let client = crate::tables::db(&source).connect().await;
    for sql in ["update t set n = 5", "delete from t"] {
        let refused = client.batch_execute(sql).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "55000", "{sql}");
    }
    source.exec("truncate t").await;
    expected.extend([("c", key(5), null.clone(), row(5, None)), ("t", null.clone(), null.clone(), null.clone())]);
    wait_for_parts(&source, "t", &expected).await;
    // a start finds it published like that: it goes on, and says so
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
    source.exec("insert into t values (6, 'e', null, null, null, null)").await;
    let mark = daemon.mark();
    daemon.start();
    let said = daemon.wait_for_log_since(mark, "has no replica identity", PATIENCE).await;
    assert!(said.contains("public.t ") && said.contains("REPLICA IDENTITY"), "{said}");
    expected.push(("c", key(6), null.clone(), row(6, None)));
    wait_for_parts(&source, "t", &expected).await;
}

/// "`REPLICA IDENTITY USING INDEX`: delete has key and before `{"id":0}`; update of the index column is delete of id 0 + create; update of the
/// primary key is a plain `u` with the new key, old key never deleted."
#[tokio::test(flavor = "multi_thread")]
async fn the_index_of_the_replica_identity_is_the_key() {
    let source = database(
        "index",
        "create table t (id int primary key, b int not null, a int not null, v text);
         create unique index by_ab on t (a, b) include (v); alter table t replica identity using index by_ab",
    )
    .await;
    let mut daemon = source.to_kafka().spawn();
    wait_until_streaming(&mut daemon).await;
    let row = |id: i32, b: i32, a: i32, v: &str| json!({"id": id, "b": b, "a": a, "v": v});
    let key = |b: i32, a: i32| json!({"a": a, "b": b});
    let null = Json::Null;
    source.exec("insert into t values (1, 2, 3, 'x')").await;
    source.exec("update t set id = 10").await;
    source.exec("update t set v = 'y'").await;
    source.exec("update t set b = 20").await;
    source.exec("delete from t").await;
    let mut expected = vec![
        ("c", key(2, 3), null.clone(), row(1, 2, 3, "x")),
        // to the server, and to who holds rows by this key, the primary key is a column like others
        ("u", key(2, 3), null.clone(), row(10, 2, 3, "x")),
        ("u", key(2, 3), null.clone(), row(10, 2, 3, "y")),
        ("d", key(2, 3), key(2, 3), null.clone()),
        ("c", key(20, 3), null.clone(), row(10, 20, 3, "y")),
        ("d", key(20, 3), key(20, 3), null.clone()),
    ];
    wait_for_parts(&source, "t", &expected).await;
    assert!(source.records("t").await[0].key_str().starts_with("{\"a\":"), "in the order of the index");
    // the index goes while streaming: nothing identifies rows any more
    source.exec("drop index by_ab").await;
    source.exec("insert into t values (2, 2, 3, 'z')").await;
    source.exec("alter table t replica identity default").await;
    source.exec("update t set id = 3").await;
    let id = |id: i32| json!({"id": id});
    expected.extend([
        ("c", null.clone(), null.clone(), row(2, 2, 3, "z")),
        ("d", id(2), id(2), null.clone()),
        ("c", id(3), null.clone(), row(3, 2, 3, "z")),
    ]);
    wait_for_parts(&source, "t", &expected).await;
}

/// "Nullable unique index is taken as key (`s_uniq_null`, key `{"u":null}`)." And of any source: "A table without a key gets tombstones with
/// key null."
#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_the_key_is_null_and_what_may_be_null_is_no_key() {
    let source = database(
        "keyless",
        "create table t (u int unique, p int not null, e int not null, v text);
         create unique index part on t (p) where p > 0; create unique index expr on t ((e + 1));
         alter table t replica identity full",
    )
    .await;
    let mut daemon = source.to_kafka().spawn();
    wait_until_streaming(&mut daemon).await;
    let row = |u: Option<i32>, p: i32| json!({"u": u, "p": p, "e": p, "v": null});
    let null = Json::Null;
    source.exec("insert into t values (null, 1, 1, null), (1, 2, 2, null)").await;
    source.exec("update t set u = 7 where u = 1").await;
    source.exec("delete from t where u is null").await;
    let mut expected = vec![
        ("c", null.clone(), null.clone(), row(None, 1)),
        ("c", null.clone(), null.clone(), row(Some(1), 2)),
        ("u", null.clone(), row(Some(1), 2), row(Some(7), 2)),
        ("d", null.clone(), row(None, 1), null.clone()),
    ];
    wait_for_parts(&source, "t", &expected).await;
    assert!(source.records("t").await.iter().all(|record| record.value.is_some()), "no tombstone without a key");
    // not null by now: a unique index that tells all rows apart
    source.exec("alter table t alter u set not null").await;
    source.exec("update t set p = 3").await;
    expected.push(("u", json!({"u": 7}), row(Some(7), 2), json!({"u": 7, "p": 3, "e": 2, "v": null})));
    wait_for_parts(&source, "t", &expected).await;
}

/// A truncation is an event of each table that it empties, whoever named it.
#[tokio::test(flavor = "multi_thread")]
async fn truncations_reach_the_tables_that_they_cascade_to() {
    let source = database(
        "truncate",
        "create table parent (id serial primary key); create table child (id serial primary key, parent int references parent);
         create table other (id int primary key);
         insert into parent values (default); insert into child values (default, 1)",
    )
    .await;
    let _daemon = copied(&source, &["parent", "child", "other"]).await;
    source.exec("truncate parent restart identity cascade").await;
    source.exec("insert into parent values (default)").await;
    source.exec("truncate other, child").await;
    wait_for(&source, "parent", &[("r", json!({"id": 1})), ("t", Json::Null), ("c", json!({"id": 1}))]).await;
    wait_for(&source, "child", &[("r", json!({"id": 1, "parent": 1})), ("t", Json::Null), ("t", Json::Null)]).await;
    wait_for(&source, "other", &[("t", Json::Null)]).await;
}
