//! Keys go to the partitions that Kafka's own Java client would choose, so that a topic shared with Java programs has one key in one
//! partition. The vectors in `tests/data/murmur2.tsv` are that client's words (`scripts/murmur2-vectors.sh`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod support;

use std::collections::HashMap;
use std::time::Instant;

use rowcast::checkpoint::Checkpoint;
use rowcast::config::{Environment, Request, SinkConfig, load};
use rowcast::error::RunErrorClass;
use rowcast::pipeline::{Destination, Encoded, Record};
use rowcast::sink::{Changed, OpenSink};
use rowcast::supervisor::kafka_settings;
use support::kafka::{create_topic, delete_topics, wait_for_records};
use support::source::PATIENCE;
use support::{env, unique};

const VECTORS: &str = include_str!("data/murmur2.tsv");

fn bytes(hex: &str) -> Vec<u8> {
    hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// A number of partitions, and the partition of each key among so many.
type Among = (i32, Vec<i32>);

fn vectors() -> (Vec<Vec<u8>>, Vec<Among>) {
    let mut lines = VECTORS.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let head = lines.next().unwrap();
    let rows: Vec<Vec<&str>> = lines.collect();
    let keys = rows.iter().map(|row| bytes(row[0])).collect();
    let columns = head.iter().enumerate().skip(1);
    let partitions = |(at, count): (usize, &&str)| {
        (count.parse().unwrap(), rows.iter().map(|row| row[at].parse().unwrap()).collect())
    };
    (keys, columns.map(partitions).collect())
}

/// Records with these keys, all for one topic.
fn encoded(topic: &str, keys: &[Option<Vec<u8>>]) -> Encoded {
    let mut encoded = Encoded { destinations: vec![Destination::plain(topic)], ..Encoded::default() };
    for key in keys {
        let start = encoded.buf.len();
        encoded.buf.extend_from_slice(key.as_deref().unwrap_or_default());
        let key = key.as_ref().map(|_| start..encoded.buf.len());
        encoded.buf.push(b'x');
        let value = Some(encoded.buf.len() - 1..encoded.buf.len());
        encoded.records.push(Record { key, value, ..Record::default() });
    }
    encoded
}

/// Sends through the sink, as it is configured for a source, and commits.
async fn send(name: &str, topic: &str, keys: Vec<Option<Vec<u8>>>) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("source.yaml");
    let text = format!(
        "name: {name}\nsource: {{type: postgres, host: h, database: d, user: u, tables: [s.*]}}\nsink: {{type: kafka, brokers: {}}}\n",
        env().brokers()
    );
    std::fs::write(&file, text).unwrap();
    let request = Request { paths: vec![file], shared: None, sink: None, environment: Environment::default() };
    let source = load(&request).unwrap().sources.remove(0);
    let SinkConfig::Kafka(kafka) = &source.sink else { panic!("{source:?}") };
    let mut settings = kafka_settings(&source.name, "test", kafka, source.delivery);
    let encoded = encoded(topic, &keys);
    let name = name.to_owned();
    tokio::task::spawn_blocking(move || {
        // a broker that is busy makes topics slowly: a source, too, tries again then
        let deadline = Instant::now() + PATIENCE;
        let mut sink = loop {
            let opened = settings.open(false).and_then(|opened| {
                let mut sink = opened.sink;
                sink.prepare(&encoded, 0..encoded.records.len())?;
                Ok(sink)
            });
            match opened {
                Ok(sink) => break sink,
                Err(error) => {
                    let passes = matches!(error.class, RunErrorClass::Transient) && Instant::now() < deadline;
                    assert!(passes, "{error:?}");
                }
            }
        };
        sink.stage(&encoded, 0..encoded.records.len()).unwrap();
        sink.commit(&Checkpoint::claim(&name, "test"), Changed { tables: false, schemas: false }).unwrap();
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn keys_go_where_the_java_client_sends_them() {
    let (keys, expected) = vectors();
    assert!(keys.len() > 140 && keys[0].is_empty() && expected.len() == 6, "the vectors");
    for (count, partitions) in expected {
        let name = unique("murmur");
        create_topic(&name, count, &[]).await;
        send(&name, &name, keys.iter().cloned().map(Some).collect()).await;
        let records = wait_for_records(&name, keys.len()).await;
        assert_eq!(records.len(), keys.len());
        let sent: HashMap<&[u8], i32> =
            records.iter().map(|record| (record.key.as_deref().unwrap_or_default(), record.partition)).collect();
        for (key, expected) in keys.iter().zip(partitions) {
            assert_eq!(sent[key.as_slice()], expected, "{key:02x?} among {count}");
        }
        delete_topics(&[&name, &format!("rowcast.checkpoint.{name}")]).await;
    }
}

/// Without a key there is nothing to keep in order: such records are spread, a batch at a time, and all arrive.
#[tokio::test]
async fn records_without_a_key_go_to_any_partition() {
    let name = unique("nokey");
    create_topic(&name, 4, &[]).await;
    send(&name, &name, vec![None; 500]).await;
    let records = wait_for_records(&name, 500).await;
    assert_eq!(records.len(), 500);
    assert!(records.iter().all(|record| record.key.is_none()));
    delete_topics(&[&name, &format!("rowcast.checkpoint.{name}")]).await;
}
