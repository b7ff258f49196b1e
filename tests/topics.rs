//! The topics of the Kafka sink: made by rule, compared with it, deleted and widened while the source runs. Real Kafka, PostgreSQL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use support::daemon::{Builder, Daemon};
use support::kafka::{create_topic, delete_topics, read_committed};
use support::source::{Kind, Source, wait_until_streaming};
use support::{env, eventually};

const LIMIT: Duration = Duration::from_secs(90);

async fn shop(prefix: &str) -> Source {
    let source = Source::create(Kind::Postgres, prefix).await;
    source.create_table("orders", "id bigint primary key, note text").await;
    source
}

/// A daemon with these lines in its `sink` section.
fn with(source: &Source, sink: &str) -> Builder {
    let text = source.to_kafka_yaml("*", sink) + "backfill: never\n";
    Daemon::command().file("source.yaml", &text).args(&["run", "source.yaml"])
}

fn admin() -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", env().brokers()).create().unwrap()
}

async fn settings(topic: &str) -> BTreeMap<String, String> {
    let found = admin().describe_configs(&[ResourceSpecifier::Topic(topic)], &AdminOptions::new()).await.unwrap();
    let found = found.into_iter().next().unwrap().unwrap();
    found.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect()
}

async fn partitions(topic: &str) -> usize {
    let topic = topic.to_owned();
    tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", env().brokers()).create().unwrap();
        let found = consumer.fetch_metadata(Some(&topic), LIMIT).unwrap();
        found.topics()[0].partitions().len()
    })
    .await
    .unwrap()
}

/// Runs a command of a message: `kafka-topics ...` or `kafka-configs ...`.
async fn run_command(message: &str) {
    let (_, command) = message.rsplit_once("repair: ").unwrap();
    let mut words = command.split_whitespace();
    let class = match words.next() {
        Some("kafka-topics") => "org.apache.kafka.tools.TopicCommand",
        Some("kafka-configs") => "kafka.admin.ConfigCommand",
        other => panic!("{other:?} in {message}"),
    };
    env().kafka_tool(class, &words.collect::<Vec<_>>());
}

async fn ids(source: &Source) -> BTreeSet<i64> {
    source.events("orders").await.iter().filter_map(|event| event["after"]["id"].as_i64()).collect()
}

async fn sees(source: &Source, expected: &[i64]) {
    eventually(LIMIT, "the events", || async {
        let found = ids(source).await;
        if expected.iter().copied().eq(found.iter().copied()) { Ok(()) } else { Err(found) }
    })
    .await;
}

async fn clean_up(source: &Source) {
    let name = source.name();
    let state = [format!("rowcast.checkpoint.{name}"), format!("rowcast.schema.{name}")];
    delete_topics(&[&source.topic("orders"), &source.topic("audit"), &state[0], &state[1]]).await;
}

fn warnings(daemon: &Daemon) -> Vec<String> {
    daemon.stderr().lines().filter(|line| line.contains("WARN") && line.contains("topic ")).map(str::to_owned).collect()
}

#[tokio::test]
async fn topics_are_created_by_the_first_rule_that_matches() {
    let source = shop("rules").await;
    source.create_table("audit", "id bigint primary key").await;
    let mut daemon = with(
        &source,
        "  topics:
    partitions: 3
    config: {retention.ms: \"7200000\", min.insync.replicas: \"1\"}
    rules:
      - {match: \"*.audit\", partitions: 5, config: {cleanup.policy: compact}}
      - {match: \"*\", config: {segment.ms: \"3600000\"}}
",
    )
    .spawn();
    wait_until_streaming(&mut daemon).await;
    source.exec("insert into orders values (1); insert into audit values (1)").await;
    sees(&source, &[1]).await;
    source.wait_for_events("audit", 1).await;
    let (orders, audit) = (source.topic("orders"), source.topic("audit"));
    assert_eq!((partitions(&orders).await, partitions(&audit).await), (3, 5));
    let (orders, audit) = (settings(&orders).await, settings(&audit).await);
    assert_eq!(
        (&*orders["retention.ms"], &*orders["segment.ms"], &*orders["cleanup.policy"]),
        ("7200000", "3600000", "delete")
    );
    assert_eq!((&*audit["retention.ms"], &*audit["cleanup.policy"]), ("7200000", "compact"));
    assert_ne!(audit["segment.ms"], "3600000", "the second rule");
    for state in ["checkpoint", "schema"] {
        let topic = format!("rowcast.{state}.{}", source.name());
        assert_eq!(partitions(&topic).await, 1, "{topic}");
        assert_eq!(settings(&topic).await["cleanup.policy"], "compact", "{topic}");
    }
    assert_eq!(warnings(&daemon), [""; 0]);
    // and a second start finds nothing to complain about
    daemon.shutdown(LIMIT).await;
    let mark = daemon.mark();
    daemon.start();
    daemon.wait_for_log_since(mark, "streaming: ", LIMIT).await;
    source.exec("insert into orders values (2)").await;
    sees(&source, &[1, 2]).await;
    assert_eq!(warnings(&daemon), [""; 0]);
    clean_up(&source).await;
}

#[tokio::test]
async fn a_missing_topic_that_may_not_be_created_is_named_with_the_command() {
    let source = shop("nocreate").await;
    let mut daemon =
        with(&source, "  topics: {create: false, partitions: 2, config: {retention.ms: \"7200000\"}}\n").spawn();
    // the checkpoint, the schemas, and the table: one after the other
    for found in 0..3 {
        if found == 2 {
            // the topics of its state exist now: it streams until the first event
            source.exec("insert into orders values (1)").await;
        }
        assert_eq!(daemon.wait(LIMIT).await, 1);
        let log = daemon.stderr();
        let line = log.lines().rfind(|line| line.contains("ERROR")).unwrap().to_owned();
        assert!(line.contains("doesn't exist, and `sink.topics.create` is false; repair: kafka-topics"), "{line}");
        run_command(&line).await;
        let mark = daemon.mark();
        daemon.start();
        if found == 1 {
            daemon.wait_for_log_since(mark, "streaming: ", LIMIT).await;
        }
    }
    sees(&source, &[1]).await;
    assert_eq!(partitions(&source.topic("orders")).await, 2);
    assert_eq!(settings(&source.topic("orders")).await["retention.ms"], "7200000");
    assert_eq!(settings(&format!("rowcast.checkpoint.{}", source.name())).await["cleanup.policy"], "compact");
    daemon.kill9();
    clean_up(&source).await;
}

#[tokio::test]
async fn a_topic_that_differs_is_told_and_left_alone() {
    let source = shop("differs").await;
    let topic = source.topic("orders");
    create_topic(&topic, 1, &[("retention.ms", "3600000")]).await;
    create_topic(&format!("rowcast.schema.{}", source.name()), 1, &[]).await;
    let mut daemon =
        with(&source, "  topics: {partitions: 4, replication: 1, config: {retention.ms: \"7200000\"}}\n").spawn();
    wait_until_streaming(&mut daemon).await;
    source.exec("insert into orders values (1)").await;
    sees(&source, &[1]).await;
    let told = warnings(&daemon).join("\n");
    for part in [
        &format!("topic {topic} has 1 partitions, the configuration says 4; it is left as it is"),
        &format!("topic {topic} has retention.ms=3600000, the configuration says 7200000"),
        "has cleanup.policy=delete: consumers will miss schemas",
    ] {
        assert!(told.contains(part), "{part} in {told}");
    }
    assert_eq!(warnings(&daemon).len(), 3, "{told}");
    assert_eq!((partitions(&topic).await, &*settings(&topic).await["retention.ms"]), (1, "3600000"));
    clean_up(&source).await;
}

#[tokio::test]
async fn a_checkpoint_topic_that_is_not_compacted_is_refused_with_the_command() {
    for policy in ["delete", "compact,delete"] {
        let source = shop("policy").await;
        let topic = format!("rowcast.checkpoint.{}", source.name());
        create_topic(&topic, 1, &[("cleanup.policy", policy)]).await;
        let mut daemon = with(&source, "").spawn();
        assert_eq!(daemon.wait(LIMIT).await, 1);
        let log = daemon.stderr();
        let line = log.lines().rfind(|line| line.contains("ERROR")).unwrap();
        assert!(
            line.contains(&format!("topic {topic} has cleanup.policy={policy}: the checkpoint would be")),
            "{line}"
        );
        run_command(line).await;
        let mark = daemon.mark();
        daemon.start();
        daemon.wait_for_log_since(mark, "streaming: ", LIMIT).await;
        daemon.kill9();
        clean_up(&source).await;
    }
}

/// Found by a look beside the stream while nothing comes, and by the failing delivery while something does.
#[tokio::test]
async fn a_deleted_topic_is_created_again_with_a_warning() {
    let source = shop("deleted").await;
    let topic = source.topic("orders");
    let mut daemon = with(&source, "  topics: {partitions: 2}\n").spawn();
    wait_until_streaming(&mut daemon).await;
    source.exec("insert into orders values (1)").await;
    sees(&source, &[1]).await;
    let mark = daemon.mark();
    delete_topics(&[&topic]).await;
    // in the midst of work: the delivery fails
    source.exec("insert into orders values (2)").await;
    daemon.wait_for_log_since(mark, "was deleted while this source ran, and has been created again", LIMIT).await;
    sees(&source, &[2]).await;
    assert_eq!(partitions(&topic).await, 2);
    source.exec("insert into orders values (3)").await;
    sees(&source, &[2, 3]).await;
    clean_up(&source).await;
}

/// Somebody empties a topic by deleting and making it: the producer's sequence numbers start anew there.
#[tokio::test]
async fn a_topic_that_somebody_made_again_is_used_as_it_is() {
    let source = shop("remade").await;
    let topic = source.topic("orders");
    let mut daemon = with(&source, "").spawn();
    wait_until_streaming(&mut daemon).await;
    source.exec("insert into orders select generate_series(1, 10)").await;
    source.wait_for_events("orders", 10).await;
    delete_topics(&[&topic]).await;
    eventually(LIMIT, "the end of the topic", || async {
        let left = support::kafka::topics(&topic).await;
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
    create_topic(&topic, 3, &[]).await;
    let expected: Vec<i64> = (11..=30).collect();
    for id in &expected {
        source.exec(&format!("insert into orders values ({id})")).await;
    }
    sees(&source, &expected).await;
    assert_eq!(source.events("orders").await.len(), expected.len(), "repeated");
    assert_eq!(partitions(&topic).await, 3);
    clean_up(&source).await;
}

#[tokio::test]
async fn a_topic_deleted_while_nothing_comes_is_created_again_without_a_restart() {
    let source = shop("deleted").await;
    let topic = source.topic("orders");
    let mut daemon = with(&source, "").env("RUST_LOG", "info,rowcast=debug").spawn();
    wait_until_streaming(&mut daemon).await;
    source.exec("insert into orders values (1)").await;
    sees(&source, &[1]).await;
    let mark = daemon.mark();
    delete_topics(&[&topic]).await;
    daemon.wait_for_log_since(mark, "topic is gone", LIMIT).await;
    source.exec("insert into orders values (2)").await;
    sees(&source, &[2]).await;
    let log = &daemon.stderr()[mark.1..];
    assert!(log.contains("has been created again") && !log.contains("waiting "), "{log}");
    clean_up(&source).await;
}

#[tokio::test]
async fn a_deleted_topic_that_may_not_be_created_stops_the_source() {
    let source = shop("deleted").await;
    let topic = source.topic("orders");
    for (name, settings) in [
        (format!("rowcast.checkpoint.{}", source.name()), &[("cleanup.policy", "compact")][..]),
        (format!("rowcast.schema.{}", source.name()), &[("cleanup.policy", "compact")][..]),
        (topic.clone(), &[][..]),
    ] {
        create_topic(&name, 1, settings).await;
    }
    let mut daemon = with(&source, "  topics: {create: false}\n").spawn();
    wait_until_streaming(&mut daemon).await;
    source.exec("insert into orders values (1)").await;
    sees(&source, &[1]).await;
    delete_topics(&[&topic]).await;
    source.exec("insert into orders values (2)").await;
    assert_eq!(daemon.wait(LIMIT).await, 1);
    let log = daemon.stderr();
    let line = log.lines().rfind(|line| line.contains("ERROR")).unwrap();
    assert!(
        line.contains(&format!("topic {topic} was deleted while this source ran, and `sink.topics.create`")),
        "{line}"
    );
    run_command(line).await;
    daemon.start();
    sees(&source, &[2]).await;
    clean_up(&source).await;
}

/// All partitions of a transaction are refused if one is missing: the message must not blame the one that was waited for.
#[tokio::test]
async fn a_deleted_checkpoint_topic_is_named_and_nothing_starts_anew() {
    let source = shop("nocheck").await;
    let checkpoint = format!("rowcast.checkpoint.{}", source.name());
    let mut daemon = with(&source, "").spawn();
    wait_until_streaming(&mut daemon).await;
    source.exec("insert into orders values (1)").await;
    sees(&source, &[1]).await;
    let mark = daemon.mark();
    delete_topics(&[&checkpoint]).await;
    source.exec("insert into orders values (2)").await;
    daemon.wait_for_log_since(mark, &format!("(missing: {checkpoint})"), LIMIT).await;
    assert_eq!(ids(&source).await, BTreeSet::from([1]));
    clean_up(&source).await;
}

#[tokio::test]
async fn partitions_that_are_added_are_used_and_told() {
    let source = shop("wider").await;
    let topic = source.topic("orders");
    let mut daemon =
        with(&source, "  topics: {partitions: 1}\n  properties: {topic.metadata.refresh.interval.ms: 1000}\n").spawn();
    wait_until_streaming(&mut daemon).await;
    source.exec("insert into orders select generate_series(1, 20)").await;
    source.wait_for_events("orders", 20).await;
    let mark = daemon.mark();
    for result in admin().create_partitions(&[NewPartitions::new(&topic, 4)], &AdminOptions::new()).await.unwrap() {
        result.unwrap();
    }
    let told = daemon.wait_for_log_since(mark, "has 4 partitions now, and had 1: keys are in other", LIMIT).await;
    assert!(told.contains(&topic), "{told}");
    let mut next = 100;
    eventually(LIMIT, "records in the new partitions", || {
        next += 20;
        let (source, topic) = (&source, &topic);
        async move {
            source.exec(&format!("insert into orders select generate_series({next}, {next} + 19)")).await;
            let used: BTreeSet<i32> = read_committed(topic).await.iter().map(|record| record.partition).collect();
            if used.len() == 4 { Ok(()) } else { Err(used) }
        }
    })
    .await;
    let rows = source.query("select id from orders").await.len();
    let events = source.wait_for_events("orders", rows).await;
    assert_eq!(events.len(), rows);
    assert!(!daemon.stderr()[mark.1..].contains("waiting "));
    clean_up(&source).await;
}
