//! Tables that are altered, under the stream and while nobody streams: each change has the columns of its time, and the schema topic says
//! each version once, before or with the first event of it.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::support::kafka::{Record, read_committed};
use crate::support::source::{PATIENCE, Source, wait_until_streaming};
use crate::tables::{copied, database, db, wait_for};

/// The schema topic's records of a table: fingerprint, columns and native types, key.
async fn versions(source: &Source, table: &str) -> Vec<(String, Vec<(String, String)>, Json)> {
    let records = read_committed(&format!("rowcast.schema.{}", source.name())).await;
    let records =
        records.iter().filter(|record| record.json()["source"]["table"] == table && record.key_str() != "source");
    let text = |json: &Json| json.as_str().unwrap().to_owned();
    records
        .map(|record| {
            let json = record.json();
            let columns = json["columns"].as_array().unwrap().iter();
            (
                record.key_str().to_owned(),
                columns.map(|it| (text(&it["name"]), text(&it["native"]))).collect(),
                json["key"].clone(),
            )
        })
        .collect()
}

fn fingerprints(records: &[Record]) -> Vec<String> {
    let mut all: Vec<String> =
        records.iter().filter_map(|record| record.header("rowcast.schema").map(str::to_owned)).collect();
    all.dedup();
    all
}

/// Statement, and the row of the one event that it gives, if it gives one.
type Step = (&'static str, Option<Json>);

/// What is done to a table `t (id int primary key, a int, b text)`, between changes of its rows.
fn steps() -> Vec<Step> {
    let insert = |sql, row: Json| (sql, Some(row));
    let alter = |sql| (sql, None);
    vec![
        insert("insert into t values (1, 10, 'x')", json!({"id": 1, "a": 10, "b": "x"})),
        alter("alter table t add c numeric(6,2) not null default 1.5"),
        insert("insert into t values (2, 20, 'y', 2)", json!({"id": 2, "a": 20, "b": "y", "c": "2.00"})),
        // what the server fills in by itself is no change: the next event of the row has it
        insert("update t set a = 11 where id = 1", json!({"id": 1, "a": 11, "b": "x", "c": "1.50"})),
        alter("alter table t rename a to \"A new\""),
        insert("insert into t values (3, 30, 'z', 3)", json!({"id": 3, "A new": 30, "b": "z", "c": "3.00"})),
        alter("alter table t alter \"A new\" type text using 'n' || \"A new\""),
        insert("insert into t values (4, 'n40', 'z', 4)", json!({"id": 4, "A new": "n40", "b": "z", "c": "4.00"})),
        // reordered: out, and in again at the end, with another type
        alter("alter table t drop b, add b boolean"),
        insert("insert into t values (5, 'n50', 5, true)", json!({"id": 5, "A new": "n50", "c": "5.00", "b": true})),
        alter("alter table t alter c type numeric(8,3)"),
        insert("update t set b = false where id = 4", json!({"id": 4, "A new": "n40", "c": "4.000", "b": false})),
        alter("alter table t drop c, drop b, drop \"A new\""),
        insert("insert into t values (6)", json!({"id": 6})),
        alter(
            "alter table t drop constraint t_pkey, add k uuid not null default 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', add primary key (k, id)",
        ),
        insert(
            "insert into t values (7, 'b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11')",
            json!({"id": 7, "k": "b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"}),
        ),
        insert("update t set id = 8 where id = 7", json!({"id": 8, "k": "b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"})),
        alter("alter table t drop constraint t_pkey, drop k"),
        insert("insert into t values (9)", json!({"id": 9})),
    ]
}

/// The rows of the steps as events: an update of the key is two.
async fn wait_for_steps(source: &Source, steps: &[Step]) -> Vec<Record> {
    let expected: Vec<&Json> = steps.iter().filter_map(|(_, row)| row.as_ref()).collect();
    eventually(PATIENCE, "the rows of all steps", || async {
        let records = source.records("t").await;
        let rows: Vec<Json> =
            records.iter().map(|record| record.json()["after"].clone()).filter(|row| !row.is_null()).collect();
        if rows.iter().collect::<Vec<_>>() == expected { Ok(records) } else { Err(rows) }
    })
    .await
}

const TABLE: &str = "create table t (id int primary key, a int, b text)";

#[tokio::test(flavor = "multi_thread")]
async fn each_version_of_a_table_is_told_once_in_order_with_the_events_that_have_it() {
    let source = database("ddl", TABLE).await;
    let mut daemon = source.to_kafka().spawn();
    wait_until_streaming(&mut daemon).await;
    let steps = steps();
    let mut rows = 0;
    for (sql, row) in &steps {
        source.exec(sql).await;
        rows += usize::from(row.is_some());
        // the order of a key's columns is the catalog's, so it must be there when the first row comes
        source.wait_for_events("t", rows).await;
    }
    let records = wait_for_steps(&source, &steps).await;
    let versions = versions(&source, "t").await;
    let order: Vec<&String> = versions.iter().map(|(fingerprint, ..)| fingerprint).collect();
    let used = fingerprints(&records);
    assert_eq!(order, used.iter().collect::<Vec<_>>(), "one record for each version, in the order of the events");
    assert_eq!(versions.len(), 9);
    let pair = |name: &str, ty: &str| (name.to_owned(), ty.to_owned());
    assert_eq!(
        versions[1].1,
        [pair("id", "integer"), pair("a", "integer"), pair("b", "text"), pair("c", "numeric(6,2)")]
    );
    assert_eq!(
        versions[4].1,
        [pair("id", "integer"), pair("A new", "text"), pair("c", "numeric(6,2)"), pair("b", "boolean")]
    );
    assert_eq!(versions[7].2, json!(["k", "id"]));
    assert_eq!(versions[8].2, json!([]));
    let keys: Vec<Json> = records.iter().rev().take(5).map(Record::key_json).collect();
    let uuid = "b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
    // insert without a key; insert, tombstone and delete of the changed one; insert
    assert_eq!(keys[0], Json::Null);
    assert_eq!(keys[1], json!({"k": uuid, "id": 8}));
    assert!(keys[2..5].iter().all(|key| *key == json!({"k": uuid, "id": 7})), "{keys:?}");
}

/// The same, with nobody there: the catalog describes the last version, the log all of them.
#[tokio::test(flavor = "multi_thread")]
async fn changes_from_before_a_table_was_altered_have_the_columns_of_their_time() {
    let source = database("late", TABLE).await;
    let mut daemon = source.to_kafka().spawn();
    wait_until_streaming(&mut daemon).await;
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
    let steps = steps();
    for (sql, _) in &steps {
        source.exec(sql).await;
    }
    // the server refuses updates of it now: it was published when it had a key
    daemon.start();
    let records = wait_for_steps(&source, &steps).await;
    assert_eq!(fingerprints(&records).len(), 9);
    let keys: Vec<Json> = records.iter().map(Record::key_json).collect();
    let first: Vec<i64> = keys[..8].iter().map(|key| key["id"].as_i64().unwrap()).collect();
    assert_eq!(first, [1, 2, 1, 3, 4, 5, 4, 6]);
    assert!(keys[..8].iter().all(|key| key.as_object().unwrap().len() == 1), "{keys:?}");
    assert_eq!(versions(&source, "t").await.len(), 9);
}

/// A schema that was told is told again by the next run, if its table changes: the same record. Readers may keep the last of each key.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_comes_back_is_the_same_record() {
    let source = database("again", TABLE).await;
    let mut daemon = source.to_kafka().spawn();
    wait_until_streaming(&mut daemon).await;
    source.exec("insert into t values (1)").await;
    source.exec("alter table t add c int").await;
    source.exec("insert into t values (2)").await;
    source.exec("alter table t drop c").await;
    source.exec("insert into t values (3)").await;
    let events = source.wait_for_events("t", 3).await;
    assert_eq!(events.len(), 3);
    let first = versions(&source, "t").await;
    assert_eq!(first.len(), 2, "the third is the first");
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
    daemon.start();
    source.exec("insert into t values (4)").await;
    source.wait_for_events("t", 4).await;
    let all = versions(&source, "t").await;
    assert!(all.iter().all(|version| first.contains(version)), "{all:?}");
}

/// Renamed, moved to another schema, dropped: while nobody streams.
#[tokio::test(flavor = "multi_thread")]
async fn changes_of_tables_that_are_gone_come_under_their_old_names() {
    let source = database(
        "gone",
        "create type mood as enum ('sad', 'happy'); create domain posint as int check (value > 0); create domain words as text[];
         create table renamed (id int primary key, m mood, p posint, w words, h mood[]);
         create table dropped (id int primary key, m mood, p posint, w words, h mood[]);
         create table keyed (b int, a int, v text, primary key (a, b));
         create table stays (id int primary key)",
    )
    .await;
    let mut daemon = source.to_kafka().spawn();
    wait_until_streaming(&mut daemon).await;
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
    let values = "'happy', 5, '{a,\"b c\"}', '{sad,NULL}'";
    source.exec(&format!("insert into renamed values (1, {values}); insert into dropped values (1, {values})")).await;
    source.exec("insert into keyed values (1, 2, 'x'); delete from keyed").await;
    source.exec("alter table renamed rename to new_name").await;
    source.exec(&format!("insert into new_name values (2, {values})")).await;
    source.exec("drop table dropped, keyed").await;
    source.exec("insert into stays values (1)").await;
    daemon.start();
    let row = |id: i32| json!({"id": id, "m": "happy", "p": 5, "w": ["a", "b c"], "h": ["sad", null]});
    wait_for(&source, "renamed", &[("c", row(1))]).await;
    wait_for(&source, "new_name", &[("c", row(2))]).await;
    wait_for(&source, "dropped", &[("c", row(1))]).await;
    let keyed = json!({"b": 1, "a": 2});
    wait_for(&source, "keyed", &[("c", json!({"b": 1, "a": 2, "v": "x"})), ("d", keyed.clone())]).await;
    assert!(source.records("keyed").await.iter().all(|record| record.key_json() == keyed));
    wait_for(&source, "stays", &[("c", json!({"id": 1}))]).await;
}

/// The types of old columns are gone, too. What an enum's label or a number was is still written as such.
#[tokio::test(flavor = "multi_thread")]
async fn values_of_types_that_are_gone_keep_their_form() {
    let source = database(
        "types",
        "create type mood as enum ('sad', 'happy'); create domain posint as int; create domain flag as boolean; create domain words as text[];
         create table t (id int primary key, m mood, p posint, f flag, w words)",
    )
    .await;
    let mut daemon = source.to_kafka().spawn();
    wait_until_streaming(&mut daemon).await;
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
    source.exec("insert into t values (1, 'happy', 5, true, '{a}')").await;
    source.exec("drop table t; drop type mood; drop domain posint; drop domain flag; drop domain words").await;
    source.exec("create table other (id int primary key)").await;
    crate::tables::own(db(&source)).await;
    daemon.start();
    wait_for(&source, "t", &[("c", json!({"id": 1, "m": "happy", "p": 5, "f": true, "w": ["a"]}))]).await;
    let native: BTreeMap<String, String> = versions(&source, "t").await.remove(0).1.into_iter().collect();
    assert_eq!(native["m"], "public.mood");
}

/// The last table of all went while nobody streamed: its changes come, and the source waits for new ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_whose_last_table_was_dropped_still_publishes_its_last_changes() {
    let source = database("last", "create table t (id int primary key)").await;
    let mut daemon = source.to_kafka().spawn();
    wait_until_streaming(&mut daemon).await;
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
    source.exec("insert into t values (1)").await;
    source.exec("drop table t").await;
    let mark = daemon.mark();
    daemon.start();
    daemon.wait_for_log_since(mark, "only changes from before come", PATIENCE).await;
    wait_for(&source, "t", &[("c", json!({"id": 1}))]).await;
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
    // by name it is a mistake as likely as not
    daemon.write("source.yaml", &source.to_kafka_yaml("t", "backfill: never\n"));
    let mark = daemon.mark();
    daemon.start();
    assert_eq!(daemon.wait(PATIENCE).await, 1);
    let said = daemon.wait_for_log_since(mark, "no such table", PATIENCE).await;
    assert!(said.contains("`public.t*`"), "{said}");
}

/// A table that is altered in the middle of a transaction has both versions in it; one that is dropped and made again is another one
/// with the same name.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_may_change_within_a_transaction_and_be_made_anew() {
    let source =
        database("within", "create table t (id int primary key, a int); create table u (id int primary key)").await;
    let mut daemon = copied(&source, &["t", "u"]).await;
    source
        .exec(
            "begin; insert into t values (1, 1); alter table t add b int; insert into t values (2, 2, 2);
             savepoint s; alter table t drop a; insert into t values (3, 3); rollback to s;
             insert into t values (4, 4, 4); truncate t; alter table t drop a; insert into t values (5, 5); commit",
        )
        .await;
    let both = |id: i32| json!({"id": id, "a": id, "b": id});
    let mut expected = vec![
        ("c", json!({"id": 1, "a": 1})),
        ("c", both(2)),
        ("c", both(4)),
        ("t", Json::Null),
        ("c", json!({"id": 5, "b": 5})),
    ];
    wait_for(&source, "t", &expected).await;
    // made anew it isn't in the publication, until a start adds it
    source.exec("drop table t; create table t (k text primary key)").await;
    crate::tables::own(db(&source)).await;
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
    daemon.start();
    daemon.wait_for_log("added public.t", PATIENCE).await;
    source.exec("insert into t values ('new')").await;
    expected.push(("c", json!({"k": "new"})));
    wait_for(&source, "t", &expected).await;
}

/// What a prepared transaction says of a table, the server says to nobody again. (The fold test's seed 77, with `two_phase`.)
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_a_prepared_transaction_described_is_known_to_all_that_follow() {
    let source = database("prepared", "create table t (id int primary key)").await;
    let yaml = source.to_kafka_yaml("*", "backfill: never\n").replace("sink:\n", "  two_phase: true\nsink:\n");
    let mut daemon = Daemon::command().file("source.yaml", &yaml).args(&["run", "source.yaml"]).spawn();
    wait_until_streaming(&mut daemon).await;
    let name = source.name();
    source.exec("insert into t values (1)").await;
    source.exec("alter table t add a int").await;
    source.exec(&format!("begin; insert into t values (2, 2); prepare transaction '{name}'")).await;
    source.exec("insert into t values (3, 3)").await;
    let row = |id: i32| json!({"id": id, "a": id});
    let mut expected = vec![("c", json!({"id": 1})), ("c", row(3))];
    wait_for(&source, "t", &expected).await;
    // whatever becomes of it
    source.exec(&format!("rollback prepared '{name}'")).await;
    source.exec("insert into t values (4, 4)").await;
    expected.push(("c", row(4)));
    wait_for(&source, "t", &expected).await;
}
