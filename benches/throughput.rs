//! A backlog of row changes through the release binary, beside the servers' own tools on the same log in the same run.
//!
//! `make bench`, or `cargo bench --bench throughput -- [postgres|mysql] [ROWS]` inside `scripts/with-servers.sh`. Figures are
//! wall time from the start of the process to the last row, CPU of the process, and its peak RSS; the ratio is what counts,
//! since machines differ and are shared. The backlog: ten columns, transactions of 100 rows.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable,
    missing_docs
)]

mod common;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::support::daemon::Daemon;
use common::support::env;
use common::support::source::{Kind, Source, wait_until_streaming};
use common::{COLUMNS, Figure, LIMIT, PER_TRANSACTION, Wanted, cost, fill, report, run};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

#[tokio::main(flavor = "multi_thread")]
async fn main() {
    let wanted = Wanted::read();
    let rows = wanted.rows;
    let title = |database: &str| format!("{database}: {rows} rows of 10 columns in transactions of {PER_TRANSACTION}");
    if wanted.includes("postgres") {
        report(&title("PostgreSQL"), "first ms", "pg_recvlogical", rows, &postgres(rows).await);
    }
    if wanted.includes("mysql") {
        report(&title("MySQL"), "first ms", "mysqlbinlog --raw", rows, &mysql(rows).await);
    }
}

async fn postgres(rows: u64) -> Vec<Figure> {
    let source = Source::create(Kind::Postgres, "bench").await;
    let Source::Postgres(db) = &source else { unreachable!() };
    source.create_table("load", COLUMNS).await;
    let (mut kafka, mut null) = daemons(&source).await;
    let slot = format!("{}_ref", db.name);
    db.exec(&format!("select pg_create_logical_replication_slot('{slot}', 'pgoutput')")).await;
    fill(&source, "load", rows).await;
    let end = db.value("select pg_current_wal_lsn()").await;
    let reference = || {
        run(
            Command::new(env().pg_bin().join("pg_recvlogical"))
                .args(["-h", "127.0.0.1", "-p", &db.port().to_string(), "-U", "app", "-d", &db.name])
                .args(["--slot", &slot, "--start", "-f", "/dev/null", "--endpos", &end])
                .args(["-o", "proto_version=1", "-o", &format!("publication_names=rowcast_{}", db.name)])
                .env("PGPASSWORD", "apppw")
                .env("PGSSLMODE", "disable"),
            "pg_recvlogical",
        )
    };
    let mut figures = vec![reference()];
    figures.push(to_kafka(&mut kafka, &source, rows).await);
    figures.push(to_null(&mut null, &source).await);
    figures
}

async fn mysql(rows: u64) -> Vec<Figure> {
    let source = Source::create(Kind::Mysql, "bench").await;
    let Source::Mysql(db) = &source else { unreachable!() };
    source.create_table("`load`", COLUMNS).await;
    let (mut kafka, mut null) = daemons(&source).await;
    db.exec("flush binary logs").await;
    let file = db.query("show binary log status").await[0][0].clone().unwrap();
    fill(&source, "`load`", rows).await;
    db.exec("flush binary logs").await;
    let folder = tempfile::tempdir().unwrap();
    let reference = run(
        Command::new(env().var("MYSQLBINLOG"))
            .args(["--no-defaults", "--read-from-remote-server", "--raw", "-h", "127.0.0.1", "-u", "app", "-papppw"])
            .args(["-P", &db.port().to_string(), "--ssl-mode=DISABLED", "--get-server-public-key"])
            .arg(format!("--result-file={}/", folder.path().display()))
            .arg(file),
        "mysqlbinlog --raw",
    );
    let mut figures = vec![reference];
    figures.push(to_kafka(&mut kafka, &source, rows).await);
    figures.push(to_null(&mut null, &source).await);
    figures
}

/// Two daemons, into Kafka and into nothing, that know where to begin and are stopped.
async fn daemons(source: &Source) -> (Daemon, Daemon) {
    let tls = "\n  tls: { mode: disable }\nsink";
    let brokers = env().brokers();
    let yaml = source.yaml("*") + &format!("sink: {{ type: kafka, brokers: \"{brokers}\" }}\nbackfill: never\n");
    let mut kafka = Daemon::command().file("s.yaml", &yaml.replace("\nsink", tls)).args(&["run", "s.yaml"]).spawn();
    // another name, so another slot and checkpoint; the publication is shared
    let publication = format!("  publication: rowcast_{}\n", source.name());
    let mut yaml = source.yaml("*").replacen("name: ", "name: null-", 1);
    if source.kind() == Kind::Postgres {
        yaml += &publication;
    }
    yaml += "sink: { type: file, path: /dev/null }\nstate_dir: state\nbackfill: never\n";
    wait_until_streaming(&mut kafka).await;
    let mut null = Daemon::command().file("s.yaml", &yaml.replace("\nsink", tls)).args(&["run", "s.yaml"]).spawn();
    wait_until_streaming(&mut null).await;
    assert_eq!(kafka.shutdown(LIMIT).await, 0);
    assert_eq!(null.shutdown(LIMIT).await, 0);
    (kafka, null)
}

async fn to_kafka(daemon: &mut Daemon, source: &Source, rows: u64) -> Figure {
    let topic = source.topic("load");
    let watcher: BaseConsumer = ClientConfig::new().set("bootstrap.servers", env().brokers()).create().unwrap();
    let records = |topic: &str| watcher.fetch_watermarks(topic, 0, Duration::from_secs(5)).map_or(0, |(_, high)| high);
    let begun = Instant::now();
    daemon.start();
    let mut first = None;
    // the log's end counts the transactions' markers too: a few hundred among a million
    let deadline = begun + LIMIT;
    while records(&topic) < rows as i64 {
        if first.is_none() && records(&topic) > 0 {
            first = Some(begun.elapsed().as_secs_f64() * 1000.0);
        }
        assert!(Instant::now() < deadline, "{} of {rows} records after {LIMIT:?}\n{}", records(&topic), daemon.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    figure("rowcast to kafka (lz4, EOS)", begun, daemon, first).await
}

async fn to_null(daemon: &mut Daemon, source: &Source) -> Figure {
    let checkpoint = daemon.dir().join("state").join(format!("null-{}.checkpoint.json", source.name()));
    let before = position(&checkpoint);
    let target = match source {
        Source::Postgres(db) => db.value("select pg_current_wal_lsn()").await,
        Source::Mysql(db) => db.value("select @@global.gtid_executed").await.replace(['\n', ' '], ""),
    };
    let begun = Instant::now();
    daemon.start();
    let deadline = begun + LIMIT;
    while !reached(&position(&checkpoint), &target) {
        assert!(Instant::now() < deadline, "{before} -> {} of {target}\n{}", position(&checkpoint), daemon.logs());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    figure("rowcast to /dev/null", begun, daemon, None).await
}

fn position(checkpoint: &Path) -> String {
    let text = std::fs::read(checkpoint).unwrap_or_default();
    let json: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    json["position"]["log"].as_str().unwrap_or_default().to_owned()
}

fn reached(at: &str, target: &str) -> bool {
    use rowcast_core::{GtidSet, Lsn};
    match (at.parse::<Lsn>(), target.parse::<Lsn>()) {
        (Ok(at), Ok(target)) => at >= target,
        _ => match (at.parse::<GtidSet>(), target.parse::<GtidSet>()) {
            (Ok(at), Ok(target)) => at.contains_all(&target),
            _ => false,
        },
    }
}

/// Reads the process' own figures, then stops it.
async fn figure(what: &str, begun: Instant, daemon: &mut Daemon, first_ms: Option<f64>) -> Figure {
    let wall = begun.elapsed().as_secs_f64();
    let cost = cost(daemon.pid());
    assert_eq!(daemon.shutdown(LIMIT).await, 0);
    let extra = first_ms.map(|ms| format!("{ms:.0}"));
    Figure { what: what.to_owned(), wall, cpu: cost.cpu, rss_mb: cost.rss_mb, extra }
}
