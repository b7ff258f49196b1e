//! The race: Rowcast beside Debezium Server, the same backlog, the same Kafka, the same form in its topics, one after the other in one run.
//!
//! `make race`, or `cargo bench --bench race -- [postgres|mysql] [CHANGES]` inside `scripts/with-servers.sh`; with
//! `ROWCAST_RACE_ALONE` set the original is left out, for profiles. The backlog: half of the changes are inserts,
//! half updates, ten columns, transactions of 100. Each contestant knows where to begin and is stopped when the backlog is written; its wall goes
//! from the start of its process to the last record in the topic, and its CPU and memory are its process' own. Several rounds
//! (`ROWCAST_RACE_ROUNDS`, 3), each with every contestant; the figures told are medians. Then the latency of single-row commits, 1,000 a second, from
//! the moment before the INSERT to the reader of committed records.
//!
//! It writes what it prints as a plot, too (`ROWCAST_RACE_PLOT`: the file).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable,
    missing_docs
)]

#[path = "../common/mod.rs"]
mod common;

mod contestant;
mod plot;
mod spent;

use std::time::{Duration, Instant};

use common::latency::{drained, reader, write};
use common::support::source::{Kind, Source, Writer};
use common::{COLUMNS, LIMIT, PER_TRANSACTION, Wanted, cost, fill};
use contestant::{Contestant, Who};
use spent::Spent;

/// One contestant's way through the backlog.
#[derive(Debug, Clone, Copy)]
pub struct Lap {
    /// Seconds from the start of the process to the last record.
    pub wall: f64,
    /// Seconds.
    pub cpu: f64,
    /// Peak.
    pub rss_mb: f64,
    /// Milliseconds from the start of the process to the first record.
    pub first_ms: f64,
    /// Whose CPU time it was.
    pub spent: Spent,
}

/// What a contestant reached: the medians of its laps, and its latency.
#[derive(Debug, Clone)]
pub struct Result {
    /// Who.
    pub who: Who,
    /// Changes a second.
    pub rate: f64,
    /// CPU seconds per million changes.
    pub cpu: f64,
    /// MB.
    pub rss_mb: f64,
    /// Seconds.
    pub first: f64,
    /// Milliseconds at 1,000 commits a second: the median, and what 99 % stay below.
    pub latency: (f64, f64),
    /// CPU seconds per million changes, by whose they are.
    pub spent: Spent,
}

#[tokio::main(flavor = "multi_thread")]
async fn main() {
    let wanted = Wanted::read();
    let changes = wanted.rows;
    let rounds = std::env::var("ROWCAST_RACE_ROUNDS").ok().map_or(3, |text| text.parse().unwrap());
    let mut all = Vec::new();
    for kind in [Kind::Postgres, Kind::Mysql].into_iter().filter(|kind| wanted.includes(kind.name())) {
        let (server, results) = race(kind, changes, rounds).await;
        tell(&server, changes, &results);
        all.push((server, results));
    }
    let about = format!("{changes} changes, {rounds} rounds; {}", machine());
    println!("\n{about}");
    if let Some(path) = std::env::var_os("ROWCAST_RACE_PLOT") {
        std::fs::write(&path, plot::svg(&all, &about)).unwrap();
        println!("written: {}", std::path::Path::new(&path).display());
    }
}

async fn race(kind: Kind, changes: u64, rounds: usize) -> (String, Vec<Result>) {
    let source = Source::create(kind, "race").await;
    source.create_table("load_", COLUMNS).await;
    source.create_table("pulse", "id bigint primary key, w bigint").await;
    let server = match kind {
        Kind::Postgres => format!("PostgreSQL {}", source.query("show server_version").await[0][0].clone().unwrap()),
        _ => format!("MySQL {}", source.query("select version()").await[0][0].clone().unwrap()),
    };
    let mut contestants = Vec::new();
    for round in 0..rounds {
        for who in Who::all() {
            contestants.push((who, Contestant::begin(who, &source, round).await));
        }
    }
    fill(&source, "load_", changes / 2).await;
    update(&source, changes / 2).await;
    let mut laps: Vec<(Who, Lap)> = Vec::new();
    for (who, contestant) in &mut contestants {
        let lap = lap(contestant, &source, changes).await;
        println!(
            "{server}: {:<32} {:>8.2} s {:>7.2} CPU s {:>8.1} MB, first after {:.0} ms",
            who.name(),
            lap.wall,
            lap.cpu,
            lap.rss_mb,
            lap.first_ms
        );
        laps.push((*who, lap));
    }
    let mut results = Vec::new();
    for who in Who::all() {
        let of = |figure: fn(&Lap) -> f64| {
            let mut all: Vec<f64> = laps.iter().filter(|lap| lap.0 == who).map(|lap| figure(&lap.1)).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        let per_million = changes as f64 / 1e6;
        // those of the last round
        let (_, contestant) = contestants.iter_mut().rev().find(|it| it.0 == who).unwrap();
        results.push(Result {
            who,
            rate: changes as f64 / of(|lap| lap.wall),
            cpu: of(|lap| lap.cpu) / per_million,
            rss_mb: of(|lap| lap.rss_mb),
            first: of(|lap| lap.first_ms) / 1000.0,
            latency: latency(contestant, &source).await,
            spent: Spent {
                database: of(|lap| lap.spent.database) / per_million,
                broker: of(|lap| lap.spent.broker) / per_million,
                librdkafka: of(|lap| lap.spent.librdkafka) / per_million,
                publisher: of(|lap| lap.spent.publisher) / per_million,
            },
        });
    }
    (server, results)
}

/// The second half of the backlog: each row is changed once.
async fn update(source: &Source, rows: u64) {
    let set = "set total = total + 1, status = 'changed'";
    match source {
        Source::Postgres(db) => {
            let last = (rows / PER_TRANSACTION).saturating_sub(1);
            db.exec(&format!(
                "do $$ begin for t in 0..{last} loop update load_ {set} where id between t * {PER_TRANSACTION} and \
                 t * {PER_TRANSACTION} + {PER_TRANSACTION} - 1; commit; end loop; end $$"
            ))
            .await;
        }
        Source::Mysql(_) => {
            let mut writer = Writer::of(source).await;
            for first in (0..rows).step_by(PER_TRANSACTION as usize) {
                let last = first + PER_TRANSACTION - 1;
                writer.run(&format!("update load_ {set} where id between {first} and {last}")).await;
            }
        }
    }
}

/// Starts it and waits for its last record.
async fn lap(contestant: &mut Contestant, source: &Source, changes: u64) -> Lap {
    let topic = contestant.topic(source, "load_");
    let before = spent::servers(source.kind());
    let begun = Instant::now();
    contestant.start();
    let deadline = begun + LIMIT;
    let mut first_ms = None;
    // the log's end counts the transactions' markers too: a few hundred among a million
    loop {
        let arrived = contestant.records(&topic);
        if first_ms.is_none() && arrived > 0 {
            first_ms = Some(begun.elapsed().as_secs_f64() * 1000.0);
        }
        if arrived >= changes {
            break;
        }
        assert!(
            Instant::now() < deadline && contestant.runs(),
            "{arrived} of {changes} records after {LIMIT:?}\n{}",
            contestant.logs()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let wall = begun.elapsed().as_secs_f64();
    let (cost, threads) = (cost(contestant.pid()), spent::threads(contestant.pid()));
    contestant.stop().await;
    let spent = Spent::since(before, source.kind(), threads);
    Lap { wall, cpu: cost.cpu, rss_mb: cost.rss_mb, first_ms: first_ms.unwrap_or_default(), spent }
}

/// Milliseconds from before an INSERT to its reader, at 1,000 a second.
async fn latency(contestant: &mut Contestant, source: &Source) -> (f64, f64) {
    contestant.start();
    let mut writer = Writer::of(source).await;
    let topic = contestant.topic(source, "pulse");
    // it runs, and the topic is there
    let mut next =
        source.query("select coalesce(max(id), 0) + 1 from pulse").await[0][0].clone().unwrap().parse().unwrap();
    let before = contestant.records(&topic);
    writer.run(&format!("insert into pulse values ({next}, 0)")).await;
    next += 1;
    let deadline = Instant::now() + LIMIT;
    let mut arrived = before;
    // what the others were measured with comes first; then nothing does
    loop {
        assert!(Instant::now() < deadline && contestant.runs(), "no record in {topic}\n{}", contestant.logs());
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = contestant.records(&topic);
        if now == arrived && now > before {
            break;
        }
        arrived = now;
    }
    let (stop, reading) = reader(&topic, b"\"w\":");
    let begun = Instant::now();
    let rows = write(&mut writer, &mut next, Duration::from_secs(20), Duration::from_millis(1), |next| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros();
        (1, format!("insert into pulse values ({next}, {now})"))
    })
    .await;
    let mut ages = drained(stop, reading, rows, begun).await;
    contestant.stop().await;
    ages.sort_unstable();
    let at = |share: f64| ages[((ages.len() - 1) as f64 * share) as usize] as f64 / 1000.0;
    (at(0.5), at(0.99))
}

fn tell(server: &str, changes: u64, results: &[Result]) {
    println!(
        "\n{server}: {changes} changes of 10 columns in transactions of {PER_TRANSACTION}; in brackets: Debezium's figure by ours, or ours by Debezium's"
    );
    println!(
        "{:<34}{:>18}{:>20}{:>20}{:>18}{:>24}",
        "", "changes/s", "CPU s per million", "peak MB", "first after s", "latency ms p50 / p99"
    );
    let first = &results[0];
    for it in results {
        let times = |value: f64, by: f64| format!("{value:.2} ({by:.1})");
        println!(
            "{:<34}{:>18}{:>20}{:>20}{:>18}{:>24}",
            it.who.name(),
            format!("{:.0} ({:.1})", it.rate, it.rate / first.rate),
            times(it.cpu, first.cpu / it.cpu),
            times(it.rss_mb, first.rss_mb / it.rss_mb),
            times(it.first, first.first / it.first),
            format!("{:.1} / {:.1}", it.latency.0, it.latency.1),
        );
    }
    println!("CPU s per million, of which:");
    println!(
        "{:<34}{:>12}{:>12}{:>22}{:>20}{:>20}",
        "", "database", "broker", "reading, encoding", "handing over", "librdkafka"
    );
    for it in results {
        let Spent { database, broker, librdkafka, publisher } = it.spent;
        let own = |value: f64| if it.who == Who::Debezium { "-".to_owned() } else { format!("{value:.2}") };
        println!(
            "{:<34}{database:>12.2}{broker:>12.2}{:>22}{:>20}{:>20}",
            it.who.name(),
            own(it.cpu - librdkafka - publisher),
            own(publisher),
            own(librdkafka),
        );
    }
}

/// What the figures were measured with.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("?");
        line.trim_matches([':', ' ', '\t']).to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory: f64 = field(&read("/proc/meminfo"), "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0.0);
    format!(
        "{}, {cores} cores, {:.0} GB, Linux {}; Rowcast {}, Debezium Server {}, Kafka {}",
        field(&read("/proc/cpuinfo"), "model name"),
        memory / 1_048_576.0,
        read("/proc/sys/kernel/osrelease").trim(),
        env!("CARGO_PKG_VERSION"),
        contestant::version(),
        contestant::kafka_version(),
    )
}
