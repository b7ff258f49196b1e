//! A topic of ten thousand partitions: how soon a source streams to it, and in how much memory. Only in `make chaos`.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use tokio::task::block_in_place;

use crate::asking::{Asked, caught_up, to_brokers};
use crate::support::process::{Watch, usage};
use crate::support::source::{Kind, PATIENCE, Source};
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
    let mut asked = Asked::start(&[to_brokers(&source, servers.brokers())]).await;
    let name = source.name().to_owned();
    asked.wait_for(&name, PATIENCE, "streaming", |it| it["state"] == "streaming").await;
    let watch = Watch::new(asked.daemon.pid());
    let began = Instant::now();
    source.exec(&format!("insert into t select n, md5(n::text) from generate_series(1, {ROWS}) n")).await;
    let ends = || kafka::committed_ends(servers.brokers(), &topic);
    // what was read is committed then, and each transaction has left its mark in every partition that it wrote to
    let all_out = |rows: u64| move |it: &Json| it["totals"]["rows"].as_u64().unwrap() >= rows && caught_up(it);
    asked.wait_for(&name, 10 * PATIENCE, "all rows", all_out(ROWS)).await;
    let out_after = began.elapsed();
    let before = eventually(PATIENCE, "the ends of all transactions", || async {
        let ends = ends().await;
        if ends.iter().sum::<i64>() as u64 > ROWS { Ok(ends) } else { Err(ends.iter().sum::<i64>()) }
    })
    .await;
    let after = usage(asked.daemon.pid()).unwrap().rss;
    asked.daemon.kill9();
    asked.again().await;
    watch.follow(asked.daemon.pid());
    let began = Instant::now();
    source.exec("truncate t").await;
    asked.wait_for(&name, 6 * PATIENCE, "the truncation", all_out(1)).await;
    // a record and the mark of its transaction
    let last: Vec<i64> = before.iter().map(|end| end + 2).collect();
    eventually(PATIENCE, "a truncation in every partition", || async {
        let now = ends().await;
        let missing = now.iter().zip(&last).filter(|(now, last)| now < last).count();
        if missing == 0 { Ok(()) } else { Err(format!("not in {missing} partitions")) }
    })
    .await;
    println!(
        "{PARTITIONS} partitions: {ROWS} rows out within {:.1} s, then {} MB; killed, and a truncation in all of them within \
         {:.1} s; at most {} MB",
        out_after.as_secs_f64(),
        after >> 20,
        began.elapsed().as_secs_f64(),
        watch.peak() >> 20
    );
    // one consumer of all these partitions takes minutes; of every fortieth it takes seconds
    let some: Vec<i32> = (0..PARTITIONS as i32).step_by(40).collect();
    let records = kafka::read_some(servers.brokers(), &topic, some.clone()).await;
    let mut ids = HashSet::new();
    for partition in some {
        let events: Vec<Json> =
            records.iter().filter(|record| record.partition == partition).map(kafka::Record::json).collect();
        let (last, rows) = events.split_last().unwrap();
        assert!(last["op"] == "t" && rows.iter().all(|row| row["op"] == "c"), "{events:?}");
        assert!(rows.iter().all(|row| ids.insert(row["after"]["id"].as_u64().unwrap())), "a row twice");
    }
    let share = ROWS as usize / 40;
    assert!(ids.len() > share / 2 && ids.len() < share * 2, "{} rows in a fortieth of the partitions", ids.len());
    assert!(watch.peak() < MOST, "{} MB", watch.peak() >> 20);
    assert_eq!(asked.daemon.shutdown(Duration::from_secs(60)).await, 0);
}
