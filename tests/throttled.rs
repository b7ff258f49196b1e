//! A Kafka that holds a producer back by quota: delivery goes on, nothing is lost or repeated, memory stays bounded.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod support;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use support::daemon::Daemon;
use support::eventually;
use support::kafka::{delete_topics, read_committed, throttle};
use support::source::{Kind, Source, wait_until_streaming};

const LIMIT: Duration = Duration::from_secs(240);
/// Bytes a second that the broker lets the daemon send.
const RATE: u64 = 1_000_000;
const ROWS: usize = 40_000;
/// Bytes of text in a row: hexadecimal digits by chance, which no compression makes smaller than half.
const TEXT: usize = 640;
/// Most memory, of a debug build with these settings; with the default ones it was 57 MB.
const MOST_KIB: u64 = 44 << 10;

/// The most memory that the process ever had, in KiB.
fn peak(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
async fn a_quota_slows_delivery_and_breaks_nothing() {
    let source = Source::create(Kind::Postgres, "quota").await;
    source.create_table("orders", "id bigint primary key, note text").await;
    let name = source.name().to_owned();
    throttle(&format!("rowcast-{name}"), Some(RATE)).await;
    // a tenth of what waits, so that memory without a bound would show
    let small = "  properties: {queue.buffering.max.kbytes: 2048}\nmemory: {budget: 2MiB}\nbackfill: never\n";
    let mut daemon = source.to_kafka_with(small).spawn();
    wait_until_streaming(&mut daemon).await;
    let start = Instant::now();
    for first in (1..=ROWS).step_by(1000) {
        let text =
            format!("select string_agg(md5(random()::text || i || n), '') from generate_series(1, {}) n", TEXT / 32);
        source
            .exec(&format!("insert into orders select i, ({text}) from generate_series({first}, {}) i", first + 999))
            .await;
    }
    let written = start.elapsed();
    let topic = source.topic("orders");
    let records = eventually(LIMIT, "all rows", || async {
        let records = read_committed(&topic).await;
        if records.len() >= ROWS { Ok(records) } else { Err(records.len()) }
    })
    .await;
    let took = start.elapsed();
    let ids: HashSet<i64> = records.iter().map(|record| record.json()["after"]["id"].as_i64().unwrap()).collect();
    assert_eq!((records.len(), ids.len()), (ROWS, ROWS), "rows that came twice or not at all");
    // else the broker held nothing back, and this has tested nothing
    let least = Duration::from_secs((ROWS * TEXT / 2) as u64 / RATE);
    println!("written in {written:.1?}, delivered in {took:.1?} of at least {least:.1?}, peak {} KiB", peak(&daemon));
    assert!(took >= least, "{took:?} is quicker than {RATE} bytes a second allow");
    assert!(peak(&daemon) < MOST_KIB, "{} KiB", peak(&daemon));
    // a slow Kafka is no failure
    assert!(!daemon.stderr().contains("waiting "), "{}", daemon.stderr());
    daemon.kill9();
    throttle(&format!("rowcast-{name}"), None).await;
    delete_topics(&[&topic, &format!("rowcast.checkpoint.{name}"), &format!("rowcast.schema.{name}")]).await;
}
