//! A topic of ten thousand partitions: how soon a source streams to it, and in how much memory. Only in `make chaos`.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use tokio::task::block_in_place;

use crate::support::daemon::Daemon;
use crate::support::process::{Watch, usage};
use crate::support::source::{Kind, PATIENCE, Source, wait_until_streaming};
use crate::support::{Servers, eventually, kafka};

const PARTITIONS: u64 = 10_000;
const ROWS: u64 = 30_000;
/// librdkafka keeps some kilobytes for each partition.
const MOST: u64 = 256 << 20;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a broker with ten thousand partitions: part of `make chaos`"]
async fn a_topic_of_ten_thousand_partitions_is_published_to() {
    let servers = block_in_place(|| Servers::private_with(&["kafka"], &[("ROWCAST_KAFKA_HEAP", "-Xmx2g")]));
    let source = Source::create(Kind::Postgres, "wide").await;
    source.create_table("t", "id bigint primary key, body text").await;
    let topic = source.topic("t");
    // a controller makes fewer than ten thousand at once
    block_in_place(|| {
        for (how, count) in [("--create", PARTITIONS / 2), ("--alter", PARTITIONS)] {
            let count = count.to_string();
            let words = ["--bootstrap-server", servers.brokers(), how, "--topic", &topic, "--partitions", &count];
            servers.kafka_tool("org.apache.kafka.tools.TopicCommand", &words);
        }
    });
    // a broker that makes logs for thousands of partitions makes no further topic for a while
    eventually(4 * PATIENCE, "a leader for every partition", || async {
        let led = kafka::led_partitions(servers.brokers(), &topic).await;
        if led == PARTITIONS { Ok(()) } else { Err(led) }
    })
    .await;
    let yaml =
        format!("{}sink: {{ type: kafka, brokers: \"{}\" }}\nbackfill: never\n", source.yaml("*"), servers.brokers());
    let mut daemon = Daemon::command().file("source.yaml", &yaml).args(&["run", "source.yaml"]).spawn();
    wait_until_streaming(&mut daemon).await;
    let watch = Watch::new(daemon.pid());
    let began = Instant::now();
    source.exec(&format!("insert into t select n, md5(n::text) from generate_series(1, {ROWS}) n")).await;
    let out = |rows: u64| {
        let (brokers, topic) = (servers.brokers().to_owned(), topic.clone());
        eventually(6 * PATIENCE, "all records", move || {
            let (brokers, topic) = (brokers.clone(), topic.clone());
            async move {
                let end = kafka::committed_end(&brokers, &topic).await as u64;
                // each transaction also leaves a mark in every partition that it wrote to
                if end >= rows { Ok(end) } else { Err(end) }
            }
        })
    };
    let first = out(ROWS).await;
    let (out_after, after) = (began.elapsed(), usage(daemon.pid()).unwrap().rss);
    daemon.kill9();
    daemon.start();
    watch.follow(daemon.pid());
    let began = Instant::now();
    source.exec("truncate t").await;
    // the ends of transactions have offsets too, so these tell nothing here
    let records = eventually(6 * PATIENCE, "a truncation in every partition", || async {
        let records = kafka::read(servers.brokers(), &topic, true).await;
        let truncations = records.iter().filter(|record| record.json()["op"] == "t").count() as u64;
        if truncations >= PARTITIONS { Ok(records) } else { Err(truncations) }
    })
    .await;
    println!(
        "{PARTITIONS} partitions: {ROWS} rows out in {:.1} s, then {} MB; killed, and a truncation read in all of them after \
         {:.1} s; at most {} MB; {first} offsets before the kill",
        out_after.as_secs_f64(),
        after >> 20,
        began.elapsed().as_secs_f64(),
        watch.peak() >> 20
    );
    let of: HashSet<i32> =
        records.iter().filter(|record| record.json()["op"] == "t").map(|record| record.partition).collect();
    assert_eq!((records.len() as u64, of.len() as u64), (ROWS + PARTITIONS, PARTITIONS));
    assert!(watch.peak() < MOST, "{} MB", watch.peak() >> 20);
    assert_eq!(daemon.shutdown(Duration::from_secs(60)).await, 0);
}
