//! Poison: events that can't be delivered. By default the source stops before one; otherwise it becomes a dead letter or is left
//! out, and nothing else is lost with it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable,
    missing_docs
)]

mod support;

use serde_json::Value as Json;
use support::daemon::Daemon;
use support::eventually;
use support::kafka::{self, Record};
use support::source::{Kind, PATIENCE, Source, wait_until_streaming};

/// What the topic of `notes` takes.
const LIMIT: usize = 20_000;

/// A source with a table of small and large notes, whose topic takes no large ones. Not started.
async fn notes(kind: Kind) -> Source {
    let source = Source::create(kind, "poison").await;
    source.create_table("notes", "id bigint primary key, note text").await;
    kafka::create_topic(&source.topic("notes"), 1, &[("max.message.bytes", &LIMIT.to_string())]).await;
    source
}

fn with(source: &Source, policy: &str) -> String {
    source.to_kafka_yaml("*", &format!("backfill: never\non_poison: {policy}\n"))
}

async fn started(source: &Source, policy: &str) -> Daemon {
    let mut daemon = Daemon::command().file("source.yaml", &with(source, policy)).args(&["run", "source.yaml"]).spawn();
    wait_until_streaming(&mut daemon).await;
    daemon
}

async fn insert(source: &Source, id: u64, length: usize) {
    source.exec(&format!("insert into notes values ({id}, repeat('x', {length}))")).await;
}

fn ids(records: &[Record]) -> Vec<(String, u64)> {
    let events = records.iter().filter(|record| record.value.is_some()).map(Record::json);
    let row = |event: &Json| if event["op"] == "d" { event["before"].clone() } else { event["after"].clone() };
    events.map(|event| (event["op"].as_str().unwrap().to_owned(), row(&event)["id"].as_u64().unwrap())).collect()
}

async fn wait_for(source: &Source, expected: &[(&str, u64)]) {
    let expected: Vec<(String, u64)> = expected.iter().map(|(op, id)| ((*op).to_owned(), *id)).collect();
    eventually(PATIENCE, "the events that can be delivered", || async {
        let found = ids(&source.records("notes").await);
        if found == expected { Ok(()) } else { Err(found) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_too_large_stops_the_source_until_its_topic_takes_it() {
    for kind in Kind::ALL {
        let source = notes(kind).await;
        let mut daemon = started(&source, "fail").await;
        insert(&source, 1, 10).await;
        wait_for(&source, &[("c", 1)]).await;
        insert(&source, 2, 3 * LIMIT).await;
        insert(&source, 3, 10).await;
        assert_eq!(daemon.wait(PATIENCE).await, 1, "{}", daemon.logs());
        let said = daemon.wait_for_log("stopped: ", PATIENCE).await;
        for part in ["bytes", "fit into topic", "max.message.bytes", "repair: ", "on_poison"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(!daemon.logs().contains("xxxx"), "no row value in the log");
        assert_eq!(ids(&source.records("notes").await), [("c".to_owned(), 1)]);
        kafka::set_topic(&source.topic("notes"), "max.message.bytes", "1000000").await;
        let mark = daemon.mark();
        daemon.start();
        daemon.wait_for_log_since(mark, "streaming: ", PATIENCE).await;
        wait_for(&source, &[("c", 1), ("c", 2), ("c", 3)]).await;
        assert_eq!(daemon.shutdown(PATIENCE).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_too_large_becomes_a_dead_letter_in_its_place() {
    for kind in Kind::ALL {
        let source = notes(kind).await;
        let mut daemon = started(&source, "dead_letter").await;
        insert(&source, 1, 10).await;
        insert(&source, 2, 3 * LIMIT).await;
        source.exec("update notes set note = 'short' where id = 2").await;
        insert(&source, 3, 10).await;
        // PostgreSQL's update doesn't have the long value, the others' has it in its row before
        let update: &[(&str, u64)] = if kind == Kind::Postgres { &[("u", 2)] } else { &[] };
        wait_for(&source, &[&[("c", 1)], update, &[("c", 3)]].concat()).await;
        let count = if kind == Kind::Postgres { 1 } else { 2 };
        let letters = kafka::wait_for_records(&format!("rowcast.dead_letter.{}", source.name()), count).await;
        assert_eq!(letters.len(), count);
        let (letter, json) = (&letters[0], letters[0].json());
        assert_eq!(letter.key_str(), "{\"id\":2}");
        assert_eq!((&json["op"], &json["topic"]), (&Json::from("c"), &Json::from(source.topic("notes"))));
        assert_eq!(json["source"]["table"], "notes");
        assert!(json["bytes"].as_u64().unwrap() > 3 * LIMIT as u64);
        assert!(json["id"].as_str().unwrap().starts_with(source.name()), "{json}");
        assert!(json["dead_letter"].as_str().unwrap().contains("max.message.bytes"), "{json}");
        daemon.wait_for_log("sent to the dead letters", PATIENCE).await;
        assert!(!daemon.logs().contains("xxxx"), "no row value in the log");
        assert_eq!(daemon.shutdown(PATIENCE).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_too_large_is_left_out_and_logged() {
    let source = notes(Kind::Postgres).await;
    let mut daemon = started(&source, "skip").await;
    insert(&source, 1, 10).await;
    insert(&source, 2, 3 * LIMIT).await;
    source.exec("delete from notes where id = 2").await;
    insert(&source, 3, 10).await;
    // a delete and its tombstone are small: a compacted topic is right again
    wait_for(&source, &[("c", 1), ("d", 2), ("c", 3)]).await;
    daemon.wait_for_log("poison was left out", PATIENCE).await;
    assert!(kafka::topics(&format!("rowcast.dead_letter.{}", source.name())).await.is_empty());
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
}

/// A topic that takes less than the producer's batches: small events all fit, many of them together don't.
#[tokio::test(flavor = "multi_thread")]
async fn batches_are_no_larger_than_a_topic_takes() {
    let source = notes(Kind::Postgres).await;
    let mut daemon = started(&source, "fail").await;
    source
        .exec("insert into notes select n, md5(n::text) || repeat(md5(n::text), 20) from generate_series(1, 3000) n")
        .await;
    let events = source.wait_for_events("notes", 3000).await;
    assert_eq!(events.len(), 3000);
    source.exec("insert into notes select n, md5(n::text) from generate_series(3001, 4000) n").await;
    assert_eq!(source.wait_for_events("notes", 4000).await.len(), 4000);
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
}

/// A row that can't be decoded: a character set that nobody but the server knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_decoded_follows_the_policy_too() {
    for policy in ["fail", "dead_letter", "skip"] {
        let source = Source::create(Kind::Mysql, "poison").await;
        source.create_table("notes", "id bigint primary key, note varchar(20) character set cp1250").await;
        let mut daemon = started(&source, policy).await;
        // "hunter2", and a byte that means nothing in this character set
        source.exec("insert into notes values (1, null), (2, _cp1250 X'68756e7465723281'), (3, null)").await;
        if policy == "fail" {
            assert_eq!(daemon.wait(PATIENCE).await, 1, "{}", daemon.logs());
            let said = daemon.wait_for_log("stopped: ", PATIENCE).await;
            assert!(said.contains("column `note`") && said.contains("repair: ") && !said.contains("hunter2"), "{said}");
            continue;
        }
        wait_for(&source, &[("c", 1), ("c", 3)]).await;
        daemon.wait_for_log("poison was", PATIENCE).await;
        let letters = match policy {
            "dead_letter" => kafka::wait_for_records(&format!("rowcast.dead_letter.{}", source.name()), 1).await,
            _ => Vec::new(),
        };
        let told: Vec<Json> = letters.iter().map(Record::json).collect();
        assert_eq!(told.len(), usize::from(policy == "dead_letter"));
        for json in told {
            assert_eq!(
                (&json["op"], &json["source"]["table"], &json["source"]["seq"]),
                (&"c".into(), &"notes".into(), &2.into())
            );
            assert_eq!(json["key"], serde_json::json!(["2"]));
        }
        assert_eq!(daemon.shutdown(PATIENCE).await, 0);
    }
}
