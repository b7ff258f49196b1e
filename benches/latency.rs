//! Latency from a commit in the database to the moment at which a reader of committed records has the event, at several loads, in both
//! modes of delivery, with the memory and CPU of the daemon meanwhile.
//!
//! `make bench`, or `cargo bench --bench latency -- [postgres|mysql] [SECONDS]` inside `scripts/with-servers.sh`. The commit's
//! time is the database's own (`ts_us` of the event), on the same machine. Loads: `idle`, one row every 250 ms; `1,000/s`, commits of a
//! single row; `full`, as many transactions of 100 rows as one connection writes; `half`, half as many.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable,
    missing_docs
)]

mod common;

use std::time::{Duration, Instant};

use common::latency::{WARM_UP, drained, reader, write};
use common::support::daemon::Daemon;
use common::support::source::{Kind, Source, Writer, wait_until_streaming};
use common::{LIMIT, cost};

/// Rows of a transaction at half and full load.
const LARGE: u64 = 100;

fn main() {
    let mut names: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let seconds = names.iter().find_map(|name| name.parse().ok()).unwrap_or(15);
    names.retain(|name| name.parse::<u64>().is_err());
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    for kind in [Kind::Postgres, Kind::Mysql].into_iter().filter(|kind| wanted(kind.name())) {
        println!("\n{}: from commit to visible for a reader of committed records, ms", kind.name());
        println!(
            "{:<16}{:<10}{:>10}{:>9}{:>9}{:>9}{:>9}{:>12}",
            "delivery", "load", "rows/s", "p50", "p99", "worst", "RSS MB", "CPU s/min"
        );
        for delivery in ["exactly_once", "at_least_once"] {
            runtime.block_on(measure(kind, delivery, Duration::from_secs(seconds)));
        }
    }
}

async fn measure(kind: Kind, delivery: &str, time: Duration) {
    let source = Source::create(kind, "latency").await;
    source.create_table("t", "id bigint primary key, v bigint, pad varchar(100)").await;
    let more = format!("delivery: {delivery}\nbackfill: never\n");
    let mut daemon = source.to_kafka_with(&more).spawn();
    wait_until_streaming(&mut daemon).await;
    source.exec("insert into t values (-1, 0, '')").await;
    source.wait_for_events("t", 1).await;
    let mut writer = Writer::of(&source).await;
    let mut next = 0_u64;
    let mut full = 0;
    // the first isn't told: a broker's code is compiled while it runs, and whoever is measured first would pay for all
    for (name, told) in [("1,000/s", false), ("idle", true), ("1,000/s", true), ("full", true), ("half", true)] {
        let (stop, reader) = reader(&source.topic("t"), b"\"ts_us\":");
        let (begun, before) = (Instant::now(), cost(daemon.pid()));
        let rows = load(&mut writer, &mut next, name, full, time + WARM_UP).await;
        let took = begun.elapsed().as_secs_f64();
        let per_second = rows as f64 / took;
        if name == "full" {
            full = per_second as u64;
        }
        let after = cost(daemon.pid());
        // what is still on its way counts too
        let mut latencies = drained(stop, reader, rows, begun).await;
        if !told {
            continue;
        }
        latencies.sort_unstable();
        let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize] as f64 / 1000.0;
        println!(
            "{delivery:<16}{name:<10}{per_second:>10.0}{:>9.1}{:>9.1}{:>9.1}{:>9.1}{:>12.1}",
            at(0.5),
            at(0.99),
            at(1.0),
            after.rss_mb,
            (after.cpu - before.cpu) / took * 60.0
        );
    }
    assert_eq!(stopped(&mut daemon).await, 0);
}

async fn stopped(daemon: &mut Daemon) -> i32 {
    daemon.shutdown(LIMIT).await
}

/// Writes for so long; the number of rows.
async fn load(writer: &mut Writer, next: &mut u64, load: &str, full: u64, time: Duration) -> u64 {
    let (per, pause) = match load {
        "idle" => (1, Duration::from_millis(250)),
        "1,000/s" => (1, Duration::from_millis(1)),
        "full" => (LARGE, Duration::ZERO),
        _ => (LARGE, Duration::from_secs_f64(LARGE as f64 / (full as f64 / 2.0).max(1.0))),
    };
    write(writer, next, time, pause, |next| {
        let rows: Vec<String> = (0..per).map(|n| format!("({},{n},'{:064x}')", next + n, next + n)).collect();
        (per, format!("insert into t values {}", rows.join(",")))
    })
    .await
}
