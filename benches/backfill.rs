//! A copy of the rows that are there through the release binary, beside the servers' own tools on the same table in the same
//! run; then what a copy does to the latency of the stream.
//!
//! `make bench`, or `cargo bench --bench backfill -- [postgres|mysql|mariadb] [ROWS]` inside `scripts/with-servers.sh`.
//! Walls are from the start of the process to its end; `copy s` is from "copying the table" to "the table is copied" in its
//! log. Latency is measured in two ways: the timestamp of the Kafka record, which is that of its staging, and the moment at
//! which a reader of committed records has it; both from the time of the commit.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable,
    missing_docs
)]

mod common;

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::support::daemon::Daemon;
use common::support::env;
use common::support::source::{Kind, Source, Writer, wait_until_streaming};
use common::{COLUMNS, Figure, LIMIT, Wanted, cost, fill, report, run, watch};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

/// The table that is copied.
const BIG: &str = "big";
/// One that isn't, with this many rows.
const SMALL: (&str, u64) = ("small", 100);
/// Updates, one in [`SMALL`], one in [`BIG`], and so on: one each, for so long.
const TRICKLE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(5));

#[tokio::main(flavor = "multi_thread")]
async fn main() {
    let wanted = Wanted::read();
    let rows = wanted.rows;
    for (kind, title, reference) in [
        (Kind::Postgres, "PostgreSQL", "COPY"),
        (Kind::Mysql, "MySQL", "mysql --quick"),
        (Kind::Mariadb, "MariaDB", "mariadb --quick"),
    ] {
        if !wanted.includes(kind.name()) {
            continue;
        }
        let source = Source::create(kind, "bench").await;
        source.create_table(BIG, COLUMNS).await;
        fill(&source, BIG, rows).await;
        source
            .exec(&format!("{} {BIG}", if kind == Kind::Postgres { "vacuum analyze" } else { "analyze table" }))
            .await;
        let mut figures = tools(&source);
        let brokers = env().brokers();
        let kafka = format!("sink: {{ type: kafka, brokers: \"{brokers}\" }}\n");
        figures.push(copy("rowcast to kafka (lz4, EOS)", &yaml(&source, "kafka", &kafka), rows).await);
        let null = "sink: { type: file, path: /dev/null }\n";
        figures.push(copy("rowcast to /dev/null", &yaml(&source, "null", null), rows).await);
        report(&format!("{title}: copy of {rows} rows of 10 columns"), "copy s", reference, rows, &figures);
        latency(&source, title, &yaml(&source, "latency", &kafka)).await;
    }
}

/// Name of a source of this database with a checkpoint of its own.
fn name_of(source: &Source, prefix: &str) -> String {
    format!("{prefix}_{}", source.name())
}

fn yaml(source: &Source, prefix: &str, sink: &str) -> String {
    let yaml = source.yaml("*").replacen("name: ", &format!("name: {prefix}_"), 1);
    yaml + "  tls: { mode: disable }\n" + sink + "state_dir: state\n"
}

/// The servers' own tools; each reads the table once before it counts.
fn tools(source: &Source) -> Vec<Figure> {
    let twice = |mut command: Command, what: &str| {
        run(&mut command, what);
        run(&mut command, what)
    };
    match source {
        Source::Postgres(db) => {
            let mut psql = Command::new(env().pg_bin().join("psql"));
            psql.args(["-X", "-h", "127.0.0.1", "-p", &db.port().to_string(), "-U", "app", "-d", &db.name])
                .args(["-c", &format!("copy {BIG} to stdout")])
                .env("PGPASSWORD", "apppw")
                .env("PGSSLMODE", "disable");
            vec![twice(psql, "psql -c COPY")]
        }
        Source::Mysql(db) => {
            let mysql = source.kind() == Kind::Mysql;
            let client: Vec<&str> =
                env().var(if mysql { "MYSQL_CLIENT" } else { "MARIADB_CLIENT" }).split_whitespace().collect();
            let no_tls: &[&str] =
                if mysql { &["--ssl-mode=DISABLED", "--get-server-public-key"] } else { &["--skip-ssl"] };
            let tool = |program: &Path| {
                let mut command = Command::new(program);
                command.args(&client[1..]).args(["-h", "127.0.0.1", "-P", &db.port().to_string(), "-u", "app"]);
                command.args(["-papppw", "--quick"]).args(no_tls);
                command
            };
            let program = Path::new(client[0]);
            let mut select = tool(program);
            select.args(["-e", &format!("select * from {BIG}"), &db.name]);
            let mut figures =
                vec![twice(select, if mysql { "mysql --quick, select *" } else { "mariadb --quick, select *" })];
            let dump = if mysql { "mysqldump" } else { "mariadb-dump" };
            let program = program.with_file_name(dump);
            if program.exists() {
                let mut command = tool(&program);
                command.args(["--single-transaction", "--skip-lock-tables", "--no-tablespaces"]);
                if mysql {
                    command.arg("--set-gtid-purged=OFF");
                }
                command.args([&db.name, BIG]);
                figures.push(twice(command, &format!("{dump} --quick")));
            }
            figures
        }
    }
}

/// `backfill: initial_only`, to the end of the process.
async fn copy(what: &str, yaml: &str, rows: u64) -> Figure {
    let yaml = format!("{yaml}backfill: initial_only\n");
    let begun = Instant::now();
    let mut daemon = Daemon::command().file("s.yaml", &yaml).args(&["run", "s.yaml"]).spawn();
    let mut figure = watch(what, begun, daemon.pid());
    let code = daemon.wait(LIMIT).await;
    let log = daemon.logs();
    assert_eq!(code, 0, "{log}");
    remarks(&log);
    let line = |text: &str| log.lines().find(|line| line.contains(text)).unwrap_or_else(|| panic!("no {text}: {log}"));
    let (first, last) = (line("copying the table"), line("the table is copied"));
    assert!(last.contains(&format!(" rows={rows} ")), "{log}");
    figure.extra = Some(format!("{:.2}", (seconds(last) - seconds(first)).rem_euclid(86_400.0)));
    figure
}

/// Warnings and errors of a daemon.
fn remarks(log: &str) {
    for line in log.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")) {
        println!("{line}");
    }
}

/// The time of day of a line of the log.
fn seconds(line: &str) -> f64 {
    let time = line.split_once('T').and_then(|(_, rest)| rest.split_once('Z')).unwrap().0;
    time.split(':').fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().unwrap())
}

/// One update as it arrived; microseconds since 1970.
struct Arrival {
    number: i64,
    committed: i64,
    stamped: i64,
    seen: i64,
}

/// Latencies of one series in milliseconds, sorted.
type Series = Vec<f64>;

/// Updates without a copy and beside one, in the same process.
async fn latency(source: &Source, title: &str, yaml: &str) {
    source.create_table(SMALL.0, COLUMNS).await;
    fill(source, SMALL.0, SMALL.1).await;
    let name = name_of(source, "latency");
    // limits to try: BACKFILL="parallelism: 1, max_load: 0.5"
    let limits = std::env::var("BACKFILL").map(|limits| format!(", {limits}")).unwrap_or_default();
    let yaml = format!("{yaml}backfill: {{ mode: never{limits} }}\n");
    let mut daemon = Daemon::command().file("s.yaml", &yaml).args(&["run", "s.yaml"]).spawn();
    wait_until_streaming(&mut daemon).await;
    let mut writer = Writer::of(source).await;
    let big_rows: u64 =
        source.query(&format!("select count(*) from {BIG}")).await[0][0].as_deref().unwrap().parse().unwrap();
    // the first events make the topics; no number is one that a row has already, since MySQL doesn't log such an update
    round(source, &mut writer, &name, big_rows, 500_000, |begun| begun.elapsed() >= Duration::from_secs(1)).await;
    let alone = round(source, &mut writer, &name, big_rows, 1_000_000, |begun| begun.elapsed() >= TRICKLE.1).await;
    let before = cost(daemon.pid());

    let mark = daemon.mark();
    let table = format!("{}.{BIG}", source.schema());
    let state = daemon.dir().join("state");
    let arguments = ["backfill", &name, &table, "--state-dir", state.to_str().unwrap()];
    let (code, out, err) = Daemon::command().args(&arguments).output(LIMIT).await;
    assert_eq!(code, 0, "{out}{err}");
    let first = daemon.wait_for_log_since(mark, "copying the table", LIMIT).await;
    let copied = |daemon: &Daemon| daemon.stderr()[mark.1..].contains("the table is copied");
    let beside =
        round(source, &mut writer, &name, big_rows, 2_000_000, |begun| begun.elapsed() >= TRICKLE.1 || copied(&daemon))
            .await;
    let last = daemon.wait_for_log_since(mark, "the table is copied", LIMIT).await;
    let after = cost(daemon.pid());
    assert_eq!(daemon.shutdown(LIMIT).await, 0);
    remarks(&daemon.logs());

    println!(
        "\n{title}: latency in ms of single updates, one each {} ms: without a copy, and beside one of {big_rows} rows \
         (that took {:.2} s)",
        TRICKLE.0.as_millis(),
        (seconds(&last) - seconds(&first)).rem_euclid(86_400.0)
    );
    println!(
        "{:<32}{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}",
        "", "alone n", "median", "p99", "beside n", "median", "p99", "ratio", "p99's"
    );
    for ((what, alone), (_, beside)) in alone.iter().zip(&beside) {
        let of = |series: &Series| (at(series, 0.5), at(series, 0.99));
        let ((median, p99), (median2, p99_2)) = (of(alone), of(beside));
        println!(
            "{what:<32}{:>8}{median:>8.1}{p99:>8.1}{:>8}{median2:>8.1}{p99_2:>8.1}{:>8.2}{:>8.2}",
            alone.len(),
            beside.len(),
            median2 / median,
            p99_2 / p99
        );
    }
    if source.kind() == Kind::Mariadb {
        println!("MariaDB's log has whole seconds: from the moment before the statement was sent");
    }
    println!("peak RSS {:.1} MB before the copy, {:.1} MB after it", before.rss_mb, after.rss_mb);
}

fn at(sorted: &Series, share: f64) -> f64 {
    let index = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

/// Updates until it is over, and their latencies.
async fn round(
    source: &Source,
    writer: &mut Writer,
    name: &str,
    big_rows: u64,
    first: i64,
    over: impl Fn(Instant) -> bool,
) -> Vec<(&'static str, Series)> {
    let topic = |table: &str| format!("{name}.{}.{table}", source.schema());
    let (small, big) = (topic(SMALL.0), topic(BIG));
    let from = ends(&[&small, &big]);
    let expected = Arc::new(AtomicUsize::new(usize::MAX));
    let follower = {
        let (expected, small, from) = (expected.clone(), small.clone(), from[0]);
        std::thread::spawn(move || read(&small, from, first, &expected))
    };
    // the reader's first fetch
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut sent = HashMap::new();
    let begun = Instant::now();
    let mut ticks = tokio::time::interval(TRICKLE.0);
    let mut number = first;
    while number % 10 != 0 || !over(begun) {
        ticks.tick().await;
        let (table, rows) = if number % 2 == 0 { SMALL } else { (BIG, big_rows) };
        let id = (number.unsigned_abs() * 7_919_993) % rows;
        let sql = format!("update {table} set customer = {number} where id = {id}");
        sent.insert(number, now());
        writer.run(&sql).await;
        number += 1;
    }
    let half = sent.len() / 2;
    expected.store(half, Ordering::Release);
    let small = tokio::task::spawn_blocking(move || follower.join().unwrap()).await.unwrap();
    let big = tokio::task::spawn_blocking(move || read(&big, from[1], first, &AtomicUsize::new(half))).await.unwrap();
    let series = |arrivals: &[Arrival], of: fn(&Arrival) -> i64| {
        let mut series: Series = arrivals
            .iter()
            .map(|arrival| {
                let whole_seconds = source.kind() == Kind::Mariadb;
                let since = if whole_seconds { sent[&arrival.number] } else { arrival.committed };
                (of(arrival) - since) as f64 / 1000.0
            })
            .collect();
        series.sort_by(f64::total_cmp);
        series
    };
    vec![
        ("other table, record's timestamp", series(&small, |arrival| arrival.stamped)),
        ("other table, seen committed", series(&small, |arrival| arrival.seen)),
        ("same table, record's timestamp", series(&big, |arrival| arrival.stamped)),
    ]
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros().try_into().unwrap()
}

fn consumer() -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", env().brokers())
        .set("group.id", "rowcast-bench")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .create()
        .unwrap()
}

/// Where the topics end now.
fn ends(topics: &[&str]) -> Vec<i64> {
    let consumer = consumer();
    let end = |topic: &&str| consumer.fetch_watermarks(topic, 0, Duration::from_secs(5)).map_or(0, |(_, high)| high);
    topics.iter().map(end).collect()
}

/// Reads the updates from a number on, until there are as many as expected.
fn read(topic: &str, from: i64, first: i64, expected: &AtomicUsize) -> Vec<Arrival> {
    let consumer = consumer();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(from)).unwrap();
    consumer.assign(&list).unwrap();
    let (mut arrivals, deadline) = (Vec::new(), Instant::now() + LIMIT);
    while arrivals.len() < expected.load(Ordering::Acquire) {
        assert!(Instant::now() < deadline, "{topic}: {} of {expected:?} updates after {LIMIT:?}", arrivals.len());
        // a topic that isn't there yet is an error now and then
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else { continue };
        let seen = now();
        let Some(payload) = message.payload().filter(|payload| payload.starts_with(b"{\"op\":\"u\"")) else { continue };
        let json: serde_json::Value = serde_json::from_slice(payload).unwrap();
        let number = json["after"]["customer"].as_i64().unwrap();
        if number >= first {
            let committed = json["source"]["ts_us"].as_i64().unwrap();
            arrivals.push(Arrival {
                number,
                committed,
                stamped: message.timestamp().to_millis().unwrap() * 1000,
                seen,
            });
        }
    }
    arrivals
}
