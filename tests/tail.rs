//! `rowcast tail` against real Kafka: what it shows, what it doesn't, how it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value as Json;
use support::daemon::{Builder, Daemon};
use support::kafka::{create_topic, delete_topics, read_committed};
use support::source::{Kind, Source, wait_until_streaming};
use support::{env, eventually, unique};

const LIMIT: Duration = Duration::from_secs(90);

/// `rowcast tail` of a source whose file is `source.yaml`.
fn tail(yaml: &str, name: &str, args: &[&str]) -> Builder {
    Daemon::command().file("source.yaml", yaml).args(&["tail", name, "source.yaml"]).args(args)
}

/// Everything that there is, with these filters.
async fn all(yaml: &str, name: &str, args: &[&str]) -> Vec<Json> {
    let (code, out, error) = tail(yaml, name, &["--from", "beginning", "--until-end"]).args(args).output(LIMIT).await;
    assert_eq!(code, 0, "{error}");
    assert!(error.starts_with("reading ") && error.lines().count() == 1, "{error}");
    out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

fn ids(events: &[Json]) -> Vec<i64> {
    let image = |event: &Json| if event["op"] == "d" { event["before"].clone() } else { event["after"].clone() };
    events.iter().map(|event| image(event)["id"].as_i64().unwrap_or(-1)).collect()
}

async fn clean_up(name: &str) {
    let topics = support::kafka::topics(name).await;
    let state = ["checkpoint", "schema", "message"].map(|kind| format!("rowcast.{kind}.{name}"));
    delete_topics(&topics.iter().chain(&state).map(String::as_str).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn events_are_shown_as_they_are_and_by_table_op_key_and_time() {
    let source = Source::create(Kind::Postgres, "tail").await;
    let name = source.name().to_owned();
    source.create_table("orders", "id bigint primary key, note text").await;
    source.create_table("items", "id bigint, shop text, primary key (id, shop)").await;
    let mut daemon = source.to_kafka().spawn();
    wait_until_streaming(&mut daemon).await;
    for sql in [
        "insert into orders values (1, 'ä'), (2, 'b')",
        "insert into items values (1, 'x')",
        "update orders set note = 'c' where id = 1",
        "delete from orders where id = 2",
        "select pg_logical_emit_message(true, 'note', 'hello')",
    ] {
        source.exec(sql).await;
    }
    source.wait_for_events("orders", 4).await;
    let yaml = source.to_kafka_yaml("*", "");
    let events = eventually(LIMIT, "all six events", || async {
        let events = all(&yaml, &name, &[]).await;
        if events.len() == 6 { Ok(events) } else { Err(events) }
    })
    .await;
    // neither tombstone nor schema nor checkpoint, and each value byte by byte
    let topic = source.topic("orders");
    let raw: Vec<Vec<u8>> = read_committed(&topic).await.into_iter().filter_map(|record| record.value).collect();
    let (_, out, _) =
        tail(&yaml, &name, &["--from", "beginning", "--until-end", "--table", "public.orders"]).output(LIMIT).await;
    let mut expected: Vec<&[u8]> = raw.iter().map(Vec::as_slice).collect();
    let mut shown: Vec<&[u8]> = out.lines().map(str::as_bytes).collect();
    expected.sort_unstable();
    shown.sort_unstable();
    assert_eq!(shown, expected);
    assert_eq!(events.iter().filter(|event| event["op"] == "m").count(), 1);

    for (args, count) in [
        (&["--table", "public.orders"][..], 4),
        (&["--table", "public.*", "--table", "!public.orders"], 1),
        (&["--table", "!public.orders"], 1),
        (&["--op", "c"], 3),
        (&["--op", "u,d"], 2),
        (&["--op", "m"], 1),
        (&["--key", "1"], 2),
        (&["--key", "{\"id\": 1}"], 2),
        (&["--key", "{\"shop\":\"x\",\"id\":1}"], 1),
        (&["--key", "3"], 0),
        (&["--table", "public.orders", "--op", "c", "--key", "2"], 1),
        (&["--limit", "2"], 2),
        (&["--limit", "20"], 6),
    ] {
        assert_eq!(all(&yaml, &name, args).await.len(), count, "{args:?}");
    }
    let wrapped = all(&yaml, &name, &["--with-topic", "--op", "d"]).await;
    assert_eq!((wrapped[0]["topic"].as_str(), &wrapped[0]["event"]["op"]), (Some(&*topic), &Json::from("d")));
    assert!(wrapped[0]["offset"].as_i64().is_some() && wrapped[0]["partition"].as_i64().is_some());
    let args = ["--from", "beginning", "--until-end", "--op", "d", "--pretty"];
    let (_, pretty, _) = tail(&yaml, &name, &args).output(LIMIT).await;
    assert!(pretty.starts_with("{\n  \"op\": \"d\",\n"), "{pretty}");
    assert_eq!(serde_json::from_str::<Json>(&pretty).unwrap(), wrapped[0]["event"]);

    // from a time on
    let between = eventually(LIMIT, "a later millisecond", || async {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
        let last = read_committed(&topic).await.iter().filter_map(|record| record.timestamp).max().unwrap();
        if now > last { Ok(now) } else { Err(last) }
    })
    .await;
    source.exec("insert into orders values (3, 'd')").await;
    source.wait_for_events("orders", 5).await;
    let time = jiff::Timestamp::from_millisecond(between).unwrap().to_string();
    for (from, expected) in [(time.as_str(), vec![3]), ("2100-01-01T00:00:00Z", vec![]), ("end", vec![])] {
        let (code, out, error) = tail(&yaml, &name, &["--from", from, "--until-end", "--op", "c"]).output(LIMIT).await;
        assert_eq!(code, 0, "{error}");
        let events: Vec<Json> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(ids(&events), expected, "{from}");
    }
    let (_, out, _) = tail(&yaml, &name, &["--from", "1h", "--until-end"]).output(LIMIT).await;
    assert_eq!(out.lines().count(), 7);
    daemon.kill9();
    clean_up(&name).await;
}

#[tokio::test]
async fn it_follows_what_is_committed_new_topics_and_new_partitions() {
    let source = Source::create(Kind::Postgres, "tail").await;
    let name = source.name().to_owned();
    source.create_table("orders", "id bigint primary key").await;
    source.create_table("items", "id bigint primary key").await;
    let mut daemon = source.to_kafka().spawn();
    wait_until_streaming(&mut daemon).await;
    source.exec("insert into orders values (1)").await;
    source.wait_for_events("orders", 1).await;
    let mut tail = tail(&source.to_kafka_yaml("*", ""), &name, &["--with-topic"]).spawn();
    tail.wait_for_log("reading 1 topic of ", LIMIT).await;
    source.exec("insert into orders values (2)").await;
    tail.wait_for_log("\"after\":{\"id\":2}", LIMIT).await;
    source.exec("insert into items values (3)").await;
    tail.wait_for_log("\"after\":{\"id\":3}", LIMIT).await;
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", env().brokers()).create().unwrap();
    let topic = source.topic("items");
    admin.create_partitions(&[NewPartitions::new(&topic, 8)], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
    daemon.shutdown(LIMIT).await;
    daemon.start();
    source.exec("insert into items select generate_series(100, 120)").await;
    eventually(LIMIT, "events of all partitions", || async {
        let shown = tail.stdout();
        let missing: Vec<i64> =
            (100..=120).filter(|id| !shown.contains(&format!("\"after\":{{\"id\":{id}}}"))).collect();
        if missing.is_empty() { Ok(()) } else { Err(missing) }
    })
    .await;
    let shown = tail.stdout();
    assert_eq!(shown.lines().count(), 23, "{shown}");
    assert!((1..8).any(|partition| shown.contains(&format!("\"partition\":{partition},"))), "{shown}");
    assert!(!shown.contains("\"after\":{\"id\":1}"), "it was there before");
    daemon.kill9();
    clean_up(&name).await;
}

fn producer(id: &str) -> BaseProducer {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", env().brokers()).set("transactional.id", id).create().unwrap();
    producer.init_transactions(LIMIT).unwrap();
    producer
}

fn send(producer: &BaseProducer, topic: &str, source: &str, id: i64) {
    let value = format!(
        "{{\"op\":\"c\",\"before\":null,\"after\":{{\"id\":{id}}},\"source\":{{\"name\":\"{source}\",\"db\":\"d\",\"schema\":\"s\",\
         \"table\":\"t\"}}}}"
    );
    producer.send(BaseRecord::to(topic).key("k").payload(&value)).unwrap();
    producer.flush(LIMIT).unwrap();
}

/// A source that no database has to be there for.
fn yaml(name: &str, sink: &str) -> String {
    format!(
        "name: {name}\nsource: {{type: postgres, host: localhost, database: d, user: u, tables: [s.*]}}\nsink:\n{sink}"
    )
}

#[tokio::test]
async fn aborted_and_open_transactions_are_not_shown() {
    let name = unique("tail");
    let topic = format!("{name}.s.t");
    create_topic(&topic, 1, &[]).await;
    let kafka = yaml(&name, &format!("  type: kafka\n  brokers: {}\n", env().brokers()));
    let (first, second) = tokio::task::spawn_blocking({
        let (name, topic) = (name.clone(), topic.clone());
        move || {
            let (first, second) = (producer(&format!("{name}-1")), producer(&format!("{name}-2")));
            first.begin_transaction().unwrap();
            send(&first, &topic, &name, 1);
            first.commit_transaction(LIMIT).unwrap();
            first.begin_transaction().unwrap();
            send(&first, &topic, &name, 2);
            // what others write into the topic is none of ours
            send(&first, &topic, "other", 20);
            first.send(BaseRecord::to(&topic).key("k").payload("no JSON")).unwrap();
            first.flush(LIMIT).unwrap();
            first.abort_transaction(LIMIT).unwrap();
            first.begin_transaction().unwrap();
            send(&first, &topic, "other", 21);
            first.send(BaseRecord::to(&topic).key("k").payload("no JSON")).unwrap();
            send(&first, &topic, &name, 3);
            first.commit_transaction(LIMIT).unwrap();
            // from here on nothing is decided
            second.begin_transaction().unwrap();
            send(&second, &topic, &name, 4);
            (first, second)
        }
    })
    .await
    .unwrap();
    // a commit is answered before it is seen
    eventually(LIMIT, "what is decided", || async {
        let shown = ids(&all(&kafka, &name, &[]).await);
        if shown == [1, 3] { Ok(()) } else { Err(shown) }
    })
    .await;
    let mut following = tail(&kafka, &name, &["--from", "beginning"]).spawn();
    following.wait_for_log("\"id\":3", LIMIT).await;
    let (first, second) = tokio::task::spawn_blocking({
        let (name, topic) = (name.clone(), topic.clone());
        move || {
            first.begin_transaction().unwrap();
            send(&first, &topic, &name, 5);
            first.commit_transaction(LIMIT).unwrap();
            (first, second)
        }
    })
    .await
    .unwrap();
    // committed, but behind an open one
    assert_eq!(ids(&all(&kafka, &name, &[]).await), [1, 3]);
    tokio::task::spawn_blocking(move || {
        second.commit_transaction(LIMIT).unwrap();
        drop(first);
    })
    .await
    .unwrap();
    following.wait_for_log("\"id\":5", LIMIT).await;
    let shown = eventually(LIMIT, "whole lines", || async {
        let text = following.stdout();
        text.lines().map(serde_json::from_str).collect::<Result<Vec<Json>, _>>()
    })
    .await;
    assert_eq!(ids(&shown), [1, 3, 4, 5]);
    delete_topics(&[&topic]).await;
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_it_quietly() {
    let name = unique("tail");
    let topic = format!("{name}.s.t");
    create_topic(&topic, 1, &[]).await;
    tokio::task::spawn_blocking({
        let (name, topic) = (name.clone(), topic.clone());
        move || {
            let producer = producer(&name);
            producer.begin_transaction().unwrap();
            for id in 0..200 {
                send(&producer, &topic, &name, id);
            }
            producer.commit_transaction(LIMIT).unwrap();
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("source.yaml");
            std::fs::write(&file, yaml(&name, &format!("  type: kafka\n  brokers: {}\n", env().brokers()))).unwrap();
            let mut tail = Command::new(env!("CARGO_BIN_EXE_rowcast"))
                .args(["tail", &name, file.to_str().unwrap(), "--from", "beginning"])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut out = BufReader::new(tail.stdout.take().unwrap());
            let mut line = String::new();
            out.read_line(&mut line).unwrap();
            assert!(line.contains("\"id\":0}"), "{line}");
            drop(out);
            producer.begin_transaction().unwrap();
            send(&producer, &topic, &name, 1000);
            producer.commit_transaction(LIMIT).unwrap();
            let ended = tail.wait_with_output().unwrap();
            assert_eq!(ended.status.code(), Some(0));
            assert_eq!(String::from_utf8_lossy(&ended.stderr), format!("reading 1 topic of {name}\n"));
        }
    })
    .await
    .unwrap();
    delete_topics(&[&topic]).await;
}

#[tokio::test]
async fn what_can_not_be_read_is_told_in_one_line() {
    let kafka = format!("  type: kafka\n  brokers: {}\n", env().brokers());
    let closed = support::ClosedPort::take();
    let nobody = format!("  type: kafka\n  brokers: 127.0.0.1:{}\n", closed.port());
    for (sink, name, code, parts) in [
        (kafka.as_str(), "shpo", 2, &["no source is called `shpo` in source.yaml; repair: one of shop"][..]),
        (
            "  type: file\n  path: out.jsonl\n",
            "shop",
            2,
            &["source `shop` writes its events to a file", "repair: tail -f "],
        ),
        ("  type: stdout\n", "shop", 2, &["source `shop` writes its events to the standard output", "repair: "]),
        (&nobody, "shop", 1, &["kafka: can't reach 127.0.0.1:", "refused", "repair: check `sink.brokers`"]),
    ] {
        let (ended, out, error) = tail(&yaml("shop", sink), name, &["--until-end"]).output(LIMIT).await;
        assert_eq!((ended, out.as_str(), error.lines().count()), (code, "", 1), "{error}");
        for part in parts {
            assert!(error.contains(part), "no {part} in {error}");
        }
    }
    let (code, _, error) = Daemon::command().args(&["tail", "shop"]).output(LIMIT).await;
    // a machine may have its configuration in the second of the default places
    if !std::path::Path::new("/etc/rowcast").exists() {
        assert_eq!(code, 2);
        assert!(error.contains("neither config nor /etc/rowcast is there; repair: name the source's file"), "{error}");
    }
    for wrong in [&["--op", "x"][..], &["--from", "soon"], &["--table", "orders"], &["--limit", "0"]] {
        let (code, _, error) = tail(&yaml("shop", &kafka), "shop", wrong).output(LIMIT).await;
        assert_eq!(code, 2, "{error}");
        assert!(error.contains(wrong[0]), "{error}");
    }
}
