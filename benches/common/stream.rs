//! A backlog through the stream: daemons that know where to begin, and how long they take to its end.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::support::daemon::Daemon;
use super::support::env;
use super::support::postgres::Db;
use super::support::source::{Kind, Source, wait_until_streaming};
use super::{Figure, LIMIT, cost, run};

/// `pg_recvlogical` into /dev/null, up to a position, with options of pgoutput.
pub fn recvlogical(db: &Db, slot: &str, end: &str, publication: &str, options: &[(&str, &str)]) -> Figure {
    let mut command = Command::new(env().pg_bin().join("pg_recvlogical"));
    command
        .args(["-h", "127.0.0.1", "-p", &db.port().to_string(), "-U", "app", "-d", &db.name])
        .args(["--slot", slot, "--start", "-f", "/dev/null", "--endpos", end])
        .args(["-o", &format!("publication_names={publication}")])
        .env("PGPASSWORD", "apppw")
        .env("PGSSLMODE", "disable");
    for (name, value) in options {
        command.args(["-o", &format!("{name}={value}")]);
    }
    run(&mut command, "pg_recvlogical")
}

/// A daemon that knows where to begin and is stopped. Its name has this prefix; `in_source` are lines below `source:`, two blanks in front.
pub async fn begun(source: &Source, prefix: &str, in_source: &str, sink: &str) -> Daemon {
    let mut yaml = source.yaml("*").replacen("name: ", &format!("name: {prefix}"), 1);
    // another name is another slot and checkpoint; the publication is shared
    if source.kind() == Kind::Postgres {
        yaml += &format!("  publication: rowcast_{}\n", source.name());
    }
    yaml += &format!("  tls: {{ mode: disable }}\n{in_source}{sink}backfill: never\n");
    let mut daemon = Daemon::command().file("s.yaml", &yaml).args(&["run", "s.yaml"]).spawn();
    wait_until_streaming(&mut daemon).await;
    assert_eq!(daemon.shutdown(LIMIT).await, 0);
    daemon
}

/// Starts it and waits for so many records in a topic of one partition.
pub async fn to_kafka(what: &str, daemon: &mut Daemon, topic: &str, rows: u64) -> Figure {
    let watcher: BaseConsumer = ClientConfig::new().set("bootstrap.servers", env().brokers()).create().unwrap();
    let records = |topic: &str| watcher.fetch_watermarks(topic, 0, Duration::from_secs(5)).map_or(0, |(_, high)| high);
    let begun = Instant::now();
    daemon.start();
    let mut first = None;
    // the log's end counts the transactions' markers too: a few hundred among a million
    let deadline = begun + LIMIT;
    while records(topic) < rows as i64 {
        if first.is_none() && records(topic) > 0 {
            first = Some(begun.elapsed().as_secs_f64() * 1000.0);
        }
        assert!(Instant::now() < deadline, "{} of {rows} records after {LIMIT:?}\n{}", records(topic), daemon.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    figure(what, begun, daemon, first).await
}

/// Starts one whose sink is /dev/null and waits until its checkpoint, in `state`, is at the end of the log as it is now.
pub async fn to_null(what: &str, prefix: &str, daemon: &mut Daemon, source: &Source) -> Figure {
    let checkpoint = daemon.dir().join("state").join(format!("{prefix}{}.checkpoint.json", source.name()));
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
    figure(what, begun, daemon, None).await
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
