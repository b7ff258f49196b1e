//! Row images that are not whole: MINIMAL, NOBLOB, partial JSON. What the log leaves out is named, the key is always there.
//!
//! Lost elsewhere: a session with `binlog_row_image=MINIMAL` or `NOBLOB` stops the connector, an update with
//! `binlog_row_value_options=PARTIAL_JSON` is lost silently.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};

use crate::support::Servers;
use crate::support::daemon::Daemon;
use crate::support::golden::{check_schema, copy};
use crate::support::kafka::{Record, wait_for_records};
use crate::support::source::{Kind, PATIENCE, Source, wait_until_streaming};

const BOTH: [Kind; 2] = [Kind::Mysql, Kind::Mariadb];

async fn streaming(kind: Kind, columns: &str) -> (Source, Daemon) {
    let source = Source::create(kind, "images").await;
    source.create_table("t", columns).await;
    let mut daemon = source.to_kafka().spawn();
    wait_until_streaming(&mut daemon).await;
    (source, daemon)
}

/// Op, before, after and absent columns of an event, and its record's key.
fn shape(record: &Record) -> (String, Json, Json, Json, Json) {
    let event = record.json();
    let part = |name: &str| event.get(name).cloned().unwrap_or(Json::Null);
    (event["op"].as_str().unwrap().to_owned(), part("before"), part("after"), part("absent"), record.key_json())
}

async fn shapes(source: &Source, count: usize) -> Vec<(String, Json, Json, Json, Json)> {
    source.wait_for_events("t", count).await;
    check_schema(source, &["t"]).await;
    source.records("t").await.iter().filter(|record| record.value.is_some()).map(shape).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn minimal_images_name_what_they_lack() {
    for kind in BOTH {
        let columns = "a int, id int, b text, c varchar(9) default 'x', d decimal(5,2), id2 int, primary key (id2, id)";
        let (source, _daemon) = streaming(kind, columns).await;
        source.exec("set binlog_row_image = MINIMAL").await;
        source.exec("insert into t (id, id2, a) values (1, 7, 5)").await;
        source.exec("update t set a = 6 where id = 1").await;
        source.exec("update t set b = 'text', d = null where id = 1").await;
        source.exec("update t set id = 2, a = null where id = 1").await;
        source.exec("delete from t").await;
        let found = shapes(&source, 6).await;
        let key = json!({"id2": 7, "id": 1});
        let expected = [
            ("c", json!(null), json!({"a": 5, "id": 1, "id2": 7}), json!(["b", "c", "d"]), &key),
            ("u", key.clone(), json!({"a": 6, "id": 1, "id2": 7}), json!(["b", "c", "d"]), &key),
            ("u", key.clone(), json!({"id": 1, "b": "text", "d": null, "id2": 7}), json!(["a", "c"]), &key),
            ("d", key.clone(), json!(null), json!(null), &key),
            (
                "c",
                json!(null),
                json!({"a": null, "id": 2, "id2": 7}),
                json!(["b", "c", "d"]),
                &json!({"id2": 7, "id": 2}),
            ),
            ("d", json!({"id2": 7, "id": 2}), json!(null), json!(null), &json!({"id2": 7, "id": 2})),
        ];
        for (found, (op, before, after, absent, key)) in found.iter().zip(expected) {
            assert_eq!(*found, (op.to_owned(), before, after, absent, key.clone()), "{kind:?}");
        }
    }
}

/// Without a primary key the log has the columns of a unique key, and without that all.
#[tokio::test(flavor = "multi_thread")]
async fn minimal_images_of_tables_without_a_primary_key_have_what_tells_rows_apart() {
    for kind in BOTH {
        let (source, _daemon) = streaming(kind, "a int, u varchar(9) not null unique, b int").await;
        source.create_table("bare", "a int, b text").await;
        source.exec("set binlog_row_image = MINIMAL").await;
        source.exec("insert into t values (1, 'k', 2); update t set b = 3; delete from t").await;
        source.exec("insert into bare values (1, 'x'); update bare set a = 2; delete from bare").await;
        let found = shapes(&source, 3).await;
        assert_eq!((&found[1].2["u"], &found[1].2["b"], &found[1].4), (&json!("k"), &json!(3), &json!({"u": "k"})));
        assert_eq!((&found[2].1["u"], &found[2].4), (&json!("k"), &json!({"u": "k"})), "{kind:?}");
        let bare = source.wait_for_events("bare", 3).await;
        assert_eq!((&bare[1]["before"], &bare[1]["after"]["a"]), (&json!({"a": 1, "b": "x"}), &json!(2)), "{kind:?}");
        assert_eq!(
            bare[1]["after"]["b"], "x",
            "what is left out of the row after and is in the one before is the same"
        );
        assert_eq!(bare[2]["before"], json!({"a": 2, "b": "x"}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn noblob_images_lack_blobs_that_did_not_change() {
    for kind in BOTH {
        let (source, _daemon) =
            streaming(kind, "id int primary key, a int, b text, c blob, v varchar(9), j json").await;
        source.exec("set binlog_row_image = NOBLOB").await;
        source.exec("insert into t values (1, 5, 'text', x'00', 'v', '{}')").await;
        source.exec("update t set a = 6; update t set b = 'new', a = 7; delete from t").await;
        let found = shapes(&source, 4).await;
        let row = |a: i64| json!({"id": 1, "a": a, "v": "v"});
        assert_eq!(found[0].2, json!({"id": 1, "a": 5, "b": "text", "c": "AA==", "v": "v", "j": {}}), "{kind:?}");
        // MySQL's log has the old row's JSON all the same, since it doesn't take it for a blob
        let known = kind == Kind::Mysql;
        let with = |mut row: Json, more: &[(&str, Json)]| {
            let row_ = row.as_object_mut().unwrap();
            row_.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
            if known {
                row_.insert("j".to_owned(), json!({}));
            }
            row
        };
        let absent = |names: &[&str]| {
            let names: Vec<&str> = names.iter().copied().filter(|name| *name != "j" || !known).collect();
            json!(names)
        };
        assert_eq!((&found[1].1, &found[1].2), (&with(row(5), &[]), &with(row(6), &[])), "{kind:?}");
        assert_eq!(found[1].3, absent(&["b", "c", "j"]));
        assert_eq!(found[2].2, with(row(7), &[("b", json!("new"))]), "{kind:?}");
        assert_eq!(found[2].3, absent(&["c", "j"]));
        assert_eq!((&found[3].1, &found[3].4), (&with(row(7), &[]), &json!({"id": 1})));
    }
}

/// A daemon whose dead letters aren't errors.
fn lenient(source: &Source) -> Daemon {
    let yaml = source.to_kafka_yaml("*", "backfill: never\non_poison: dead_letter\n");
    Daemon::command().file("source.yaml", &yaml).args(&["run", "source.yaml"]).spawn()
}

/// The documents of an event as they are in it.
fn documents(record: &Record, side: &str) -> BTreeMap<String, String> {
    let event: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(record.value.as_ref().unwrap()).unwrap();
    let row: BTreeMap<String, Box<RawValue>> = serde_json::from_str(event[side].get()).unwrap();
    row.into_iter().map(|(name, value)| (name, value.get().to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn partial_json_updates_are_applied_to_the_row_before() {
    let (source, _daemon) = streaming(Kind::Mysql, "id int primary key, n int, j json, t text, k json").await;
    source.exec("set binlog_row_value_options = PARTIAL_JSON").await;
    let long = "x".repeat(500);
    source.exec(&format!("insert into t values (1, 0, '{{\"a\": 1, \"b\": [1, 2, {{\"c\": null}}], \"long\": \"{long}\"}}', 'text', '[1, \"{long}\"]')")).await;
    let statements = [
        "update t set j = json_set(j, '$.a', 2)",
        "update t set j = json_replace(j, '$.b[2].c', 'é😀'), n = n + 1",
        "update t set j = json_set(j, '$.b[2].d', cast('2026-11-22' as date), '$.\"odd \\\\\"key. [0]\"', 1.50)",
        "update t set j = json_remove(j, '$.b[0]'), k = json_set(k, '$[0]', json_object('z', 1, 'a', 2))",
        "update t set j = json_set(j, '$.a[0]', 'in an array of itself')",
        "update t set k = json_set(k, '$[0].y', true)",
        "update t set n = 9",
        "update t set j = null",
        "update t set j = json_object('new', 1)",
        "update t set j = json_set(j, '$.new', 2), k = json_remove(k, '$[1]'), id = 2",
    ];
    for statement in statements {
        source.exec(statement).await;
    }
    let events = 1 + statements.len() + 1;
    source.wait_for_events("t", events).await;
    check_schema(&source, &["t"]).await;
    let records: Vec<Record> = source.records("t").await.into_iter().filter(|record| record.value.is_some()).collect();
    let images: Vec<_> = records.iter().map(|record| record.json()["after"].clone()).collect();
    assert_eq!(images[1]["j"]["a"], 2);
    assert_eq!(images[2]["j"]["b"][2], json!({"c": "é😀"}));
    assert_eq!(images[3]["j"]["b"][2], json!({"c": "é😀", "d": "2026-11-22"}));
    assert_eq!(images[3]["j"]["odd \"key. [0]"], 1.5);
    assert_eq!((&images[4]["j"]["b"][0], &images[4]["k"][0]), (&json!(2), &json!({"a": 2, "z": 1})));
    assert_eq!(images[5]["j"]["a"], "in an array of itself");
    assert_eq!((&images[7]["n"], &images[7]["k"][0]["y"]), (&json!(9), &json!(true)));
    assert_eq!((&images[8]["j"], &images[9]["j"]), (&json!(null), &json!({"new": 1})));
    // the row after is the row before of the next, byte for byte; the last two are the halves of a changed key
    for pair in records[..records.len() - 1].windows(2) {
        assert_eq!(documents(&pair[0], "after"), documents(&pair[1], "before"));
    }
    let last = &records[records.len() - 1];
    assert_eq!((last.json()["op"].as_str(), &last.json()["after"]["j"]), (Some("c"), &json!({"new": 2})));
    assert_eq!(last.json()["after"]["k"].as_array().unwrap().len(), 1);
}

/// Whatever is done to documents: each row after is the row before of the next change, as the server logs it whole, and the last one
/// what a SELECT says.
#[tokio::test(flavor = "multi_thread")]
async fn documents_changed_at_random_stay_the_servers() {
    let (source, _daemon) = streaming(Kind::Mysql, "id int primary key, n int not null, j json, k json").await;
    source.exec("set binlog_row_value_options = PARTIAL_JSON").await;
    let mut random = StdRng::seed_from_u64(20_261_126);
    let rows = 4;
    for id in 0..rows {
        let pad = "y".repeat(if id == 3 { 70_000 } else { 300 });
        let document = format!("{{\"a\": [1, 2, 3, [4]], \"b\": {{\"c\": {{\"d\": 1}}}}, \"pad\": \"{pad}\"}}");
        source.exec(&format!("insert into t values ({id}, 0, '{document}', '{document}')")).await;
    }
    let paths = [
        "$.a",
        "$.a[0]",
        "$.a[1]",
        "$.a[3][0]",
        "$.a[9]",
        "$.b",
        "$.b.c",
        "$.b.c.d",
        "$.b.zz",
        "$.b.c.\"x y\"",
        "$.é",
        "$.pad",
    ];
    let values = [
        "1",
        "-70000",
        "1.5e0",
        "'text'",
        "'ein längerer Text'",
        "null",
        "true",
        "json_array(1, 'x')",
        "json_object('b', 1, 'aa', 2, 'a', json_array())",
        "repeat('z', 200)",
        "cast('12:34:56.5' as time(1))",
    ];
    let mut statements = 0;
    for _ in 0..150 {
        let (path, value) = (paths.choose(&mut random).unwrap(), values.choose(&mut random).unwrap());
        let column = if random.random() { "j" } else { "k" };
        let change = match random.random_range(0..5) {
            0 => format!("json_set({column}, '{path}', {value})"),
            1 => format!("json_replace({column}, '{path}', {value})"),
            2 => format!("json_remove({column}, '{path}')"),
            3 => format!("json_set(json_remove({column}, '{path}'), '$.b', {value})"),
            _ => format!("json_set({column}, '{path}', {value}, '$.a[1]', {value})"),
        };
        // each statement is logged, also one that changes no document
        source
            .exec(&format!("update t set n = n + 1, {column} = {change} where id <> {}", random.random_range(0..rows)))
            .await;
        statements += 1;
    }
    let events = rows + statements * (rows - 1);
    source.wait_for_events("t", events).await;
    let mut last: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for record in source.records("t").await {
        let after = documents(&record, "after");
        if record.json()["op"] == "u" {
            assert_eq!(documents(&record, "before"), last[&after["id"]], "{}", record.json()["id"]);
        }
        last.insert(after["id"].clone(), after);
    }
    for row in source.query("select cast(id as char), cast(j as char), cast(k as char) from t").await {
        let [id, j, k] = [0, 1, 2].map(|column| row[column].clone().unwrap_or("null".to_owned()));
        assert_eq!((&last[&id]["j"], &last[&id]["k"]), (&j, &k));
    }
}

/// The log then has what changes in a document, and not the document: no event can be made of it, and none is.
#[tokio::test(flavor = "multi_thread")]
async fn a_partial_update_of_a_document_that_was_not_logged_is_poison() {
    let source = Source::create(Kind::Mysql, "images").await;
    source.create_table("t", "id int primary key, n int, j json").await;
    let mut daemon = lenient(&source);
    wait_until_streaming(&mut daemon).await;
    source.exec("insert into t values (1, 1, '{\"a\": 1, \"b\": \"xxxxxxxxxxxxxxxxxxxx\"}')").await;
    source.exec("set binlog_row_value_options = PARTIAL_JSON, binlog_row_image = MINIMAL").await;
    source.exec("update t set n = 2; update t set j = json_set(j, '$.a', 2); update t set j = '{}', n = 3").await;
    let events = source.wait_for_events("t", 3).await;
    assert_eq!((&events[1]["after"], &events[1]["absent"]), (&json!({"id": 1, "n": 2}), &json!(["j"])));
    assert_eq!(events[2]["after"], json!({"id": 1, "n": 3, "j": {}}));
    let letters = wait_for_records(&format!("rowcast.dead_letter.{}", source.name()), 1).await;
    assert_eq!(letters.len(), 1);
    let letter = letters[0].json();
    let reason = letter["dead_letter"].as_str().unwrap();
    for part in ["t, column `j` (json)", "a partial JSON update", "SET GLOBAL binlog_row_image=FULL"] {
        assert!(reason.contains(part), "{reason}");
    }
    assert_eq!(letter["key"], json!(["1"]));
}

/// A server that is set to both is streamed, with a note; a copy fills in what the log leaves out.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_has_what_minimal_images_lack() {
    for kind in BOTH {
        let conf = match kind {
            Kind::Mysql => ("ROWCAST_MYSQL_CONF", "--binlog-row-image=MINIMAL --binlog-row-value-options=PARTIAL_JSON"),
            _ => ("ROWCAST_MARIADB_CONF", "--binlog-row-image=MINIMAL"),
        };
        let servers = tokio::task::block_in_place(|| Servers::private_with(&[kind.server()], &[conf]));
        let source = Source::create_on(&servers, kind, "images").await;
        source.create_table("t", "id int primary key, a int, b text").await;
        source.exec("insert into t values (1, 1, 'one'), (2, 2, 'two')").await;
        let mut daemon = source.to_kafka().spawn();
        wait_until_streaming(&mut daemon).await;
        daemon.wait_for_log("binlog_row_image=MINIMAL", PATIENCE).await;
        if kind == Kind::Mysql {
            daemon.wait_for_log("binlog_row_value_options=PARTIAL_JSON without whole rows", PATIENCE).await;
        }
        source.exec("update t set a = 3 where id = 1").await;
        assert_eq!(source.wait_for_events("t", 1).await[0]["absent"], json!(["b"]));
        copy(&source, &daemon, "t").await;
        let events = source.wait_for_events("t", 3).await;
        let read = |id: i64| events.iter().find(|event| event["op"] == "r" && event["after"]["id"] == id).unwrap();
        assert_eq!(read(1)["after"], json!({"id": 1, "a": 3, "b": "one"}), "{kind:?}");
        assert_eq!(read(2)["after"], json!({"id": 2, "a": 2, "b": "two"}));
    }
}
