//! What the stream says about every kind of change, and what the sinks do with it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable,
    missing_docs
)]

mod support;

use serde_json::{Value as Json, json};
use support::daemon::Daemon;
use support::kafka::{create_topic, read_committed, wait_for_records};
use support::source::{Kind, PATIENCE, Source, fold, wait_until_streaming};
use support::{eventually, eventually_within};

const KINDS: [Kind; 3] = [Kind::Postgres, Kind::Mysql, Kind::Mariadb];

async fn streaming(kind: Kind, table: &str, columns: &str) -> (Source, Daemon) {
    let source = Source::create(kind, "stream").await;
    source.create_table(table, columns).await;
    let mut daemon = source.to_kafka().spawn();
    wait_until_streaming(&mut daemon).await;
    (source, daemon)
}

#[tokio::test(flavor = "multi_thread")]
async fn inserts_updates_and_deletes_have_one_envelope_whichever_the_database() {
    for kind in KINDS {
        let (source, mut daemon) =
            streaming(kind, "orders", "id bigint primary key, status varchar(20), total decimal(12,2)").await;
        source.exec("begin; insert into orders values (7, 'new', 12.50); update orders set status = 'paid' where id = 7; commit").await;
        source.exec("delete from orders where id = 7").await;
        source.wait_for_events("orders", 3).await;
        let records = source.records("orders").await;
        assert_eq!(records.len(), 4, "three events and a tombstone");
        assert!(records.iter().all(|record| record.key_str() == r#"{"id":7}"#));
        assert_eq!(records[3].value, None, "the tombstone follows the delete");
        assert_eq!(records[0].header("rowcast.v"), Some("1"));
        let events: Vec<Json> = records[..3].iter().map(|record| record.json()).collect();
        let row = |status: &str| json!({"id": 7, "status": status, "total": "12.50"});
        assert_eq!(events[0]["op"], "c");
        assert_eq!(events[0]["before"], Json::Null);
        assert_eq!(events[0]["after"], row("new"));
        assert_eq!(events[1]["op"], "u");
        assert_eq!(events[1]["after"], row("paid"));
        assert_eq!(events[2]["op"], "d");
        assert_eq!(events[2]["after"], Json::Null);
        if kind == Kind::Postgres {
            assert_eq!(events[2]["before"], json!({"id": 7}), "only the key is logged");
        } else {
            assert_eq!(events[1]["before"], row("new"));
            assert_eq!(events[2]["before"], row("paid"));
        }
        let place = &events[1]["source"];
        let members: Vec<&String> = place.as_object().unwrap().keys().collect();
        let mut expected = ["name", "kind", "db", "schema", "table", "tx", "seq", "pos", "ts_us", "snapshot"];
        expected.sort_unstable();
        assert_eq!(members, expected);
        assert_eq!(place["kind"], kind.name());
        assert_eq!(place["seq"], 2);
        assert_eq!(place["tx"], events[0]["source"]["tx"]);
        assert_ne!(place["tx"], events[2]["source"]["tx"]);
        assert_eq!(place["schema"], if kind == Kind::Postgres { json!("public") } else { Json::Null });
        let age = now_us() - place["ts_us"].as_i64().unwrap();
        assert!((-2_000_000..600_000_000).contains(&age), "commit time {age} us ago");
        let id = format!("{}/{}/2", source.name(), place["pos"].as_str().unwrap());
        assert_eq!(events[1]["id"], id);
        assert_eq!(daemon.shutdown(PATIENCE).await, 0);
    }
}

fn now_us() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as i64
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_changes_the_key_is_a_delete_and_an_insert_with_one_id_stem() {
    for kind in KINDS {
        let (source, _daemon) = streaming(kind, "t", "a int, b int, v int, primary key (b, a)").await;
        source.exec("insert into t values (1, 2, 3)").await;
        source.exec("update t set a = 9 where b = 2").await;
        source.wait_for_events("t", 3).await;
        let records = source.records("t").await;
        let keys: Vec<&str> = records.iter().map(|record| record.key_str()).collect();
        let (old, new) = (r#"{"b":2,"a":1}"#, r#"{"b":2,"a":9}"#);
        assert_eq!(keys, [old, old, old, new], "insert, delete, tombstone, insert; keys in key order");
        let (delete, insert) = (records[1].json(), records[3].json());
        assert_eq!((&delete["op"], &insert["op"]), (&json!("d"), &json!("c")));
        assert_eq!(insert["after"], json!({"a": 9, "b": 2, "v": 3}));
        let stem = |event: &Json| event["id"].as_str().unwrap().rsplit_once('/').unwrap().0.to_owned();
        assert_eq!(stem(&delete), stem(&insert));
        assert_ne!(delete["id"], insert["id"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncate_is_an_event_of_its_own_and_tables_without_a_key_have_null_keys() {
    for kind in KINDS {
        let source = Source::create(kind, "stream").await;
        source.create_table("bare", "v int").await;
        if kind == Kind::Postgres {
            source.exec("alter table bare replica identity full").await;
        }
        let mut daemon = source.to_kafka().spawn();
        wait_until_streaming(&mut daemon).await;
        source.exec("insert into bare values (1)").await;
        source.exec("update bare set v = 2").await;
        source.exec("truncate table bare").await;
        let events = source.wait_for_events("bare", 3).await;
        let ops: Vec<&str> = events.iter().map(|event| event["op"].as_str().unwrap()).collect();
        assert_eq!(ops, ["c", "u", "t"], "{kind:?}");
        assert_eq!(events[1]["before"], json!({"v": 1}));
        assert!(source.records("bare").await.iter().all(|record| record.key.is_none()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_the_log_left_out_is_named_absent_and_never_replaced() {
    let (source, _daemon) = streaming(Kind::Postgres, "docs", "id int primary key, n int, body text").await;
    source.exec("alter table docs alter body set storage external").await;
    source.exec("insert into docs values (1, 1, repeat('x', 20000))").await;
    source.exec("update docs set n = 2").await;
    let events = source.wait_for_events("docs", 2).await;
    assert_eq!(events[0]["after"]["body"].as_str().unwrap().len(), 20_000);
    assert_eq!(events[0].get("absent"), None);
    assert_eq!(events[1]["after"], json!({"id": 1, "n": 2}));
    assert_eq!(events[1]["absent"], json!(["body"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_with_odd_names_have_topics_of_their_own() {
    for kind in KINDS {
        let source = Source::create(kind, "odd").await;
        let quote = if kind == Kind::Postgres { '"' } else { '`' };
        let names = ["Order Items", "a.b", "a_b", "größe", "it's", "select"];
        for name in names {
            source.create_table(&format!("{quote}{name}{quote}"), "id int primary key").await;
        }
        let mut daemon = source.to_kafka().spawn();
        wait_until_streaming(&mut daemon).await;
        for (index, name) in names.iter().enumerate() {
            source.exec(&format!("insert into {quote}{name}{quote} values ({index})")).await;
        }
        let escaped = ["Order_x20_Items", "a_x2E_b", "a_b", "gr_xC3__xB6__xC3__x9F_e", "it_x27_s", "select"];
        for (index, topic) in escaped.iter().enumerate() {
            let events = source.wait_for_events(topic, 1).await;
            assert_eq!(events[0]["after"], json!({"id": index}));
            assert_eq!(events[0]["source"]["table"], names[index]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_added_while_streaming_appear_with_the_schema_that_describes_them() {
    for kind in KINDS {
        let (source, _daemon) = streaming(kind, "grows", "id int primary key").await;
        source.exec("insert into grows values (1)").await;
        source.wait_for_events("grows", 1).await;
        source.exec("alter table grows add column note varchar(10) default 'x'").await;
        source.exec("insert into grows values (2, 'new')").await;
        source.exec("alter table grows drop column note").await;
        source.exec("insert into grows values (3)").await;
        source.wait_for_events("grows", 3).await;
        let records = source.records("grows").await;
        let rows: Vec<Json> = records.iter().map(|record| record.json()["after"].clone()).collect();
        assert_eq!(rows, [json!({"id": 1}), json!({"id": 2, "note": "new"}), json!({"id": 3})], "{kind:?}");
        // two versions, and the mark of a source that has begun
        let schemas = wait_for_records(&format!("rowcast.schema.{}", source.name()), 3).await;
        for (index, columns) in [(0, 1), (1, 2), (2, 1)] {
            let fingerprint = records[index].header("rowcast.schema").unwrap();
            let schema = schemas.iter().find(|record| record.key_str() == fingerprint).unwrap().json();
            assert_eq!(schema["columns"].as_array().unwrap().len(), columns);
            assert_eq!(schema["key"], json!(["id"]));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_in_the_log_is_published() {
    let (source, _daemon) = streaming(Kind::Postgres, "t", "id int primary key").await;
    source.exec("begin; insert into t values (1); select pg_logical_emit_message(true, 'app', 'in'); commit").await;
    source.exec("select pg_logical_emit_message(false, 'app', 'out')").await;
    source.exec("insert into t values (2)").await;
    source.wait_for_events("t", 2).await;
    let messages = wait_for_records(&format!("rowcast.message.{}", source.name()), 2).await;
    let texts: Vec<Json> = messages.iter().map(|record| record.json()["message"].clone()).collect();
    assert_eq!(texts, [json!({"prefix": "app", "text": "in"}), json!({"prefix": "app", "text": "out"})]);
    assert_eq!(messages[0].json()["source"]["seq"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_without_a_checkpoint_starts_now_and_one_with_it_goes_on() {
    for kind in KINDS {
        let source = Source::create(kind, "resume").await;
        source.create_table("t", "id int primary key").await;
        source.exec("insert into t values (1)").await;
        let mut daemon = source.to_kafka().spawn();
        daemon.wait_for_log("no checkpoint", PATIENCE).await;
        assert_eq!(daemon.shutdown(PATIENCE).await, 0);
        source.exec("insert into t values (2)").await;
        daemon.start();
        daemon.wait_for_log("resumed from its checkpoint", PATIENCE).await;
        let events = source.wait_for_events("t", 1).await;
        assert_eq!(events.len(), 1);
        assert_eq!(events[0]["after"]["id"], 2, "{kind:?}: what was there before is not sent, what came meanwhile is");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_with_to_stdout_leaves_no_trace_and_moves_nothing() {
    for kind in KINDS {
        let (source, _daemon) = streaming(kind, "t", "id int primary key").await;
        let yaml = source.yaml("*") + &format!("sink: {{ type: kafka, brokers: \"{}\" }}\n", support::env().brokers());
        let mut look = Daemon::command().file("s.yaml", &yaml).args(&["run", "s.yaml", "--to", "stdout"]).spawn();
        wait_until_streaming(&mut look).await;
        source.exec("insert into t values (1)").await;
        let line = look.wait_for_log("\"op\":\"c\"", PATIENCE).await;
        assert_eq!(serde_json::from_str::<Json>(&line).unwrap()["after"], json!({"id": 1}));
        assert_eq!(look.shutdown(PATIENCE).await, 0);
        assert_eq!(source.wait_for_events("t", 1).await.len(), 1, "the daemon beside it got the change too");
        if let Source::Postgres(db) = &source {
            eventually_within(PATIENCE, "only the daemon's slot and publication", || async {
                let count = "select (select count(*) from pg_replication_slots where database = current_database()) + \
                             (select count(*) from pg_publication)";
                db.value(count).await == "2"
            })
            .await;
        }
        let left: Vec<_> = std::fs::read_dir(look.dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().contains("checkpoint")), "{left:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_sink_goes_on_after_a_kill_and_repeats_at_most_with_the_same_id() {
    for kind in KINDS {
        let source = Source::create(kind, "file").await;
        source.create_table("t", "id int primary key").await;
        let yaml = source.yaml("*") + "sink: { type: file, path: events.jsonl }\nstate_dir: state\nbackfill: never\n";
        let mut daemon = Daemon::command().file("s.yaml", &yaml).args(&["run", "s.yaml"]).spawn();
        wait_until_streaming(&mut daemon).await;
        let file = daemon.dir().join("events.jsonl");
        for id in 1..=10 {
            source.exec(&format!("insert into t values ({id})")).await;
            if id % 3 == 0 {
                daemon.kill9();
                daemon.start();
            }
        }
        let events = eventually(PATIENCE, "all rows in the file", || async {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let mut events: Vec<Json> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            let mut seen = std::collections::HashSet::new();
            events.retain(|event| seen.insert(event["id"].as_str().unwrap().to_owned()));
            if events.len() == 10 { Ok(events) } else { Err(events.len()) }
        })
        .await;
        assert_eq!(fold(&events, "id").len(), 10);
        assert_eq!(daemon.shutdown(PATIENCE).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_whether_every_source_streams() {
    let source = Source::create(Kind::Postgres, "health").await;
    source.create_table("t", "id int primary key").await;
    let yaml = source.yaml("*") + "sink: { type: stdout }\nstate_dir: state\n";
    let mut daemon = Daemon::command()
        .file("s.yaml", &yaml)
        .args(&["run", "s.yaml"])
        .env("ROWCAST_STATUS_FILE", "status.json")
        .spawn();
    wait_until_streaming(&mut daemon).await;
    let file = daemon.dir().join("status.json").display().to_string();
    let health = || async { Daemon::command().args(&["health", "--file", &file]).output(PATIENCE).await };
    eventually_within(PATIENCE, "healthy", || async { health().await.0 == 0 }).await;
    // a database that takes no more connections: the state must say so
    let limit = |limit: i32| format!("alter database {} connection limit {limit}", source.name());
    source.exec(&limit(0)).await;
    let Source::Postgres(db) = &source else { unreachable!() };
    db.disconnect_cdc().await;
    let (code, _, said) = eventually(PATIENCE, "not healthy", || async {
        let (code, out, err) = health().await;
        if code == 1 && err.contains("waiting") { Ok((code, out, err)) } else { Err(err) }
    })
    .await;
    source.exec(&limit(-1)).await;
    assert!(code == 1 && said.contains(source.name()), "{said}");
    eventually_within(PATIENCE, "healthy again", || async { health().await.0 == 0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flattened_rows_have_what_is_chosen_of_the_event_beside_their_columns() {
    const MORE: &str = "flatten:\n  delete_tombstone_handling_mode: rewrite-with-tombstone\n  add_fields: [op, \"source.table:of\", absent]\n  \
                        add_headers: [op, pos]\n";
    for kind in KINDS {
        let source = Source::create(kind, "stream").await;
        source.create_table("orders", "id bigint primary key, status varchar(20)").await;
        source.create_table("notes", "n bigint").await;
        if kind == Kind::Postgres {
            source.exec("alter table notes replica identity full").await;
        }
        source.exec("insert into orders values (1, 'old')").await;
        let mut daemon = source.to_kafka_with(MORE).spawn();
        wait_until_streaming(&mut daemon).await;
        source.wait_for_events("orders", 1).await;
        for sql in [
            "insert into orders values (2, 'new')",
            "update orders set id = 3 where id = 2",
            "delete from orders where id = 3",
            "insert into notes values (5)",
        ] {
            source.exec(sql).await;
        }
        source.wait_for_events("orders", 5).await;
        assert_eq!(
            source.wait_for_events("notes", 1).await,
            [json!({"n": 5, "__deleted": false, "__op": "c", "__of": "notes", "__absent": null})]
        );
        let records = eventually(PATIENCE, "the last tombstone", || async {
            let records = source.records("orders").await;
            if records.len() == 7 { Ok(records) } else { Err(records.len()) }
        })
        .await;
        let row = |id: i64, status: Option<&str>, deleted: bool, op: &str| {
            let mut row = json!({"id": id, "__deleted": deleted, "__op": op, "__of": "orders", "__absent": null});
            // PostgreSQL logs of a row that goes no more than its key
            if let Some(status) = status.filter(|_| !deleted || kind != Kind::Postgres) {
                row["status"] = json!(status);
            }
            Some(row)
        };
        let expected = [
            (1, row(1, Some("old"), false, "r"), "r"),
            (2, row(2, Some("new"), false, "c"), "c"),
            (2, row(2, Some("new"), true, "d"), "d"),
            (2, None, "d"),
            (3, row(3, Some("new"), false, "c"), "c"),
            (3, row(3, Some("new"), true, "d"), "d"),
            (3, None, "d"),
        ];
        // by key: they may be in several partitions
        for id in 1..=3 {
            let wanted: Vec<_> = expected.iter().filter(|it| it.0 == id).map(|it| (it.1.clone(), it.2)).collect();
            let of_key = records.iter().filter(|record| record.key_json()["id"] == id);
            let found: Vec<_> = of_key
                .map(|record| (record.value.as_ref().map(|_| record.json()), record.header("__op").unwrap()))
                .collect();
            assert_eq!(found, wanted, "{kind:?}");
        }
        assert!(records.iter().filter(|record| record.value.is_some()).all(|record| record.header("__pos").is_some()));
        assert_eq!(records[0].header("rowcast.v"), Some("1"));
        assert_eq!(daemon.shutdown(PATIENCE).await, 0);
        let yaml = source.to_kafka_yaml("*", MORE);
        let shown = async |more: &[&str]| {
            let all = ["tail", source.name(), "source.yaml", "--from", "beginning", "--until-end"];
            Daemon::command().file("source.yaml", &yaml).args(&all).args(more).output(PATIENCE).await
        };
        let (code, out, error) = shown(&[]).await;
        assert_eq!((code, out.lines().count()), (0, 6), "{error}");
        assert_eq!(shown(&["--key", "3"]).await.1.lines().count(), 2);
        let (code, _, error) = shown(&["--op", "c"]).await;
        assert!(code == 2 && error.contains("its events are flattened"), "{code} {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flattened_event_that_is_too_large_becomes_a_dead_letter_of_its_table_and_key() {
    for format in ["json", "debezium"] {
        let source = Source::create(Kind::Postgres, "stream").await;
        source.create_table("orders", "id bigint primary key, note text").await;
        create_topic(&source.topic("orders"), 1, &[("max.message.bytes", "20000")]).await;
        let more = format!("backfill: never\non_poison: dead_letter\nflatten: true\nformat: {format}\n");
        let mut daemon = source.to_kafka_with(&more).spawn();
        wait_until_streaming(&mut daemon).await;
        for values in ["1, 'a'", "2, repeat('x', 60000)", "3, 'b'"] {
            source.exec(&format!("insert into orders values ({values})")).await;
        }
        assert_eq!(source.wait_for_events("orders", 2).await.len(), 2);
        let letters = read_committed(&format!("rowcast.dead_letter.{}", source.name())).await;
        assert_eq!(letters.len(), 1);
        let letter = letters[0].json();
        assert!(letters[0].key_str().contains("\"id\":2}"), "{}", letters[0].key_str());
        assert!(letter["dead_letter"].as_str().unwrap().contains("max.message.bytes"), "{letter}");
        assert_eq!((letter["source"]["table"].as_str(), letter["op"].as_str()), (Some("orders"), None));
        assert!(!daemon.logs().contains("xxxx"), "no row value in the log");
        assert_eq!(daemon.shutdown(PATIENCE).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flattened_deletes_are_tombstones_and_a_copy_in_progress_knows_of_them() {
    for kind in KINDS {
        let source = Source::create(kind, "stream").await;
        source.create_table("orders", "id bigint primary key, status varchar(20)").await;
        for half in 0..2 {
            let values: Vec<String> = (1..=500).map(|id| format!("({}, 'old')", half * 500 + id)).collect();
            source.exec(&format!("insert into orders values {}", values.join(", "))).await;
        }
        let more = "flatten: true\nbackfill: {rows_per_second: 400, chunk_rows: 50}\n";
        let mut daemon = source.to_kafka_with(more).spawn();
        wait_until_streaming(&mut daemon).await;
        for id in (1..=1000).step_by(20) {
            source.exec(&format!("delete from orders where id = {id}")).await;
        }
        eventually_within(PATIENCE, "the copy", || async { daemon.stderr().contains("the table is copied") }).await;
        eventually(PATIENCE, "what the topic adds up to is the table", || async {
            let mut left = std::collections::BTreeMap::new();
            for record in source.records("orders").await {
                match &record.value {
                    Some(_) => left.insert(record.key_str().to_owned(), record.json()),
                    None => left.remove(record.key_str()),
                };
            }
            if left.len() == 950 { Ok(()) } else { Err(format!("{} rows", left.len())) }
        })
        .await;
        assert_eq!(daemon.shutdown(PATIENCE).await, 0);
    }
}
