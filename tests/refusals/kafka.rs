//! Kafka: out of reach, or a topic that it doesn't take.

use super::{FILE_SINK, inserted, pg, refused, run, shop, streams, waits};
use crate::support;
use crate::support::kafka::{create_topic, delete_topics, read_committed, unique_topic};

fn to_kafka(db: &support::postgres::Db, brokers: &str, more: &str) -> String {
    pg(db).replace(FILE_SINK, &format!("sink:\n  type: kafka\n  brokers: {brokers}\n{more}"))
}

#[tokio::test]
async fn a_kafka_out_of_reach_is_waited_for() {
    let db = shop("unreachable").await;
    let closed = support::ClosedPort::take();
    let brokers = format!("127.0.0.1:{}", closed.port());
    waits(run(&to_kafka(&db, &brokers, "")), &["kafka: can't ", &brokers, "refused", "`sink.brokers`"]).await;
    assert_eq!(db.value("select count(*) from pg_publication").await, "0", "nothing is done to the database before");
}

#[tokio::test]
async fn a_kafka_whose_name_does_not_resolve_is_waited_for() {
    let db = shop("unreachable").await;
    waits(
        run(&to_kafka(&db, "no-such-host.invalid:9092", "")),
        &["kafka: can't ", "no-such-host.invalid:9092", "`sink.brokers`"],
    )
    .await;
}

/// Kafka takes names that differ in `.` and `_` only for one.
#[tokio::test]
async fn a_topic_that_kafka_does_not_take_is_refused_with_the_key_that_names_it() {
    let db = shop("collides").await;
    let (taken, wanted) = (format!("{}.orders", db.name), format!("{}_orders", db.name));
    create_topic(&taken, 1, &[]).await;
    let mut daemon = run(&to_kafka(&db, support::env().brokers(), "  topic: \"{name}_{table}\"\n"));
    streams(&mut daemon).await;
    db.exec("insert into orders values (1)").await;
    refused(&mut daemon, &[&format!("kafka: can't create topic {wanted}: "), "`sink.topic`"]).await;

    // with another template the change is still there
    let config = to_kafka(&db, support::env().brokers(), "  topic: \"{name}.{table}\"\n");
    daemon.write("source.yaml", &config);
    daemon.start();
    support::eventually(super::LIMIT, "the event", || async {
        let values = read_committed(&taken).await.into_iter().map(|record| record.json().to_string() + "\n");
        let found = inserted(&values.collect::<String>());
        if found == [1] { Ok(()) } else { Err(found) }
    })
    .await;
    daemon.kill9();
    delete_topics(&[&taken, &format!("rowcast.checkpoint.{}", db.name)]).await;
}

/// The topic was made by somebody with settings of their own.
#[tokio::test]
async fn an_event_larger_than_its_topic_takes_is_refused_with_the_settings() {
    let db = shop("large").await;
    let topic = unique_topic("large");
    create_topic(&topic, 1, &[("max.message.bytes", "2000")]).await;
    let mut daemon = run(&to_kafka(
        &db,
        support::env().brokers(),
        &format!("  topic: {topic}\n  properties: {{compression.type: none, batch.size: 1500}}\n"),
    ));
    streams(&mut daemon).await;
    db.exec("insert into orders values (1, repeat('x', 10000))").await;
    refused(
        &mut daemon,
        &[&format!("fit into topic {topic} "), "in `sink.properties`", "`max.message.bytes`", "`on_poison`"],
    )
    .await;
    assert!(read_committed(&topic).await.is_empty());
    delete_topics(&[&topic, &format!("rowcast.checkpoint.{}", db.name)]).await;
}
