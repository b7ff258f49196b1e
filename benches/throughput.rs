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

#[path = "../tests/support/mod.rs"]
mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use support::daemon::Daemon;
use support::env;
use support::source::{Kind, Source, wait_until_streaming};

const PER_TRANSACTION: u64 = 100;
const LIMIT: Duration = Duration::from_secs(600);

/// One way of reading the backlog.
struct Figure {
    what: String,
    wall: f64,
    cpu: f64,
    rss_mb: f64,
    first_ms: Option<f64>,
}

#[tokio::main(flavor = "multi_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let rows = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(1_000_000_u64);
    let wanted =
        |name: &str| !arguments.iter().any(|a| a.parse::<u64>().is_err()) || arguments.iter().any(|a| a == name);
    if wanted("postgres") {
        let figures = postgres(rows).await;
        report("PostgreSQL", "pg_recvlogical", rows, &figures);
    }
    if wanted("mysql") {
        let figures = mysql(rows).await;
        report("MySQL", "mysqlbinlog --raw", rows, &figures);
    }
}

fn report(database: &str, reference: &str, rows: u64, figures: &[Figure]) {
    println!("\n{database}: {rows} rows of 10 columns in transactions of {PER_TRANSACTION}");
    println!(
        "{:<28}{:>9}{:>12}{:>8}{:>12}{:>10}{:>12}",
        "", "wall s", "rows/s", "ratio", "CPU s/M", "RSS MB", "first ms"
    );
    let base = figures[0].wall;
    for figure in figures {
        let millions = rows as f64 / 1e6;
        println!(
            "{:<28}{:>9.2}{:>12.0}{:>8.2}{:>12.2}{:>10.1}{:>12}",
            figure.what,
            figure.wall,
            rows as f64 / figure.wall,
            base / figure.wall,
            figure.cpu / millions,
            figure.rss_mb,
            figure.first_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.0}")),
        );
    }
    println!("ratio: rows/s as a multiple of {reference}'s in the same run");
}

const COLUMNS: &str = "id bigint primary key, customer int not null, status varchar(20), total decimal(12,2), \
    created timestamp, paid boolean, body varchar(200), weight double precision, day date, doc json";

async fn postgres(rows: u64) -> Vec<Figure> {
    let source = Source::create(Kind::Postgres, "bench").await;
    let Source::Postgres(db) = &source else { unreachable!() };
    source.create_table("load", COLUMNS).await;
    let (mut kafka, mut null) = daemons(&source).await;
    let slot = format!("{}_ref", db.name);
    db.exec(&format!("select pg_create_logical_replication_slot('{slot}', 'pgoutput')")).await;
    println!("postgres: writing {rows} rows");
    db.exec(&format!(
        "do $$ begin for t in 0..{} loop insert into load select n, n % 1000, 'status-' || n % 7, n / 100.0, \
         timestamp '2026-11-22 10:00:00' + n * interval '1 ms', n % 2 = 0, md5(n::text) || md5((n + 1)::text) || 'tail', \
         n / 7.0, date '2026-01-01' + (n % 300)::int, json_build_object('n', n, 'tag', 't' || n % 10) \
         from generate_series(t * {PER_TRANSACTION}::bigint, t * {PER_TRANSACTION} + {PER_TRANSACTION} - 1) n; commit; \
         end loop; end $$",
        rows / PER_TRANSACTION - 1
    ))
    .await;
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
    println!("mysql: writing {rows} rows");
    let mut writer = db.connect().await;
    for transaction in 0..rows / PER_TRANSACTION {
        let first = transaction * PER_TRANSACTION;
        let values: Vec<String> = (first..first + PER_TRANSACTION)
            .map(|n| {
                format!(
                    "({n},{},'status-{}',{}.{:02},'2026-11-22 10:00:00' + interval {} second,{},'{:032x}{:032x}tail',{}/7e0,\
                     '2026-01-01' + interval {} day,'{{\"n\": {n}, \"tag\": \"t{}\"}}')",
                    n % 1000,
                    n % 7,
                    n / 100,
                    n % 100,
                    n / 1000,
                    n % 2,
                    n * 0x9E37_79B9,
                    n,
                    n,
                    n % 300,
                    n % 10
                )
            })
            .collect();
        support::mysql::exec(&mut writer, &format!("insert into `load` values {}", values.join(","))).await;
    }
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
    let yaml = source.yaml("*") + &format!("sink: {{ type: kafka, brokers: \"{brokers}\" }}\n");
    let mut kafka = Daemon::command().file("s.yaml", &yaml.replace("\nsink", tls)).args(&["run", "s.yaml"]).spawn();
    // another name, so another slot and checkpoint; the publication is shared
    let publication = format!("  publication: rowcast_{}\n", source.name());
    let mut yaml = source.yaml("*").replacen("name: ", "name: null-", 1);
    if source.kind() == Kind::Postgres {
        yaml += &publication;
    }
    yaml += "sink: { type: file, path: /dev/null }\nstate_dir: state\n";
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
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", daemon.pid())).unwrap();
    let stat = read("stat");
    // fields 14 and 15 in clock ticks of 10 ms; the name in field 2 may hold blanks
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let cpu = (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0;
    let status = read("status");
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap().split_whitespace().nth(1).unwrap();
    let rss_mb = peak.parse::<f64>().unwrap() / 1024.0;
    assert_eq!(daemon.shutdown(LIMIT).await, 0);
    Figure { what: what.to_owned(), wall, cpu, rss_mb, first_ms }
}

/// Runs a tool to its end.
fn run(command: &mut Command, what: &str) -> Figure {
    let cpu = || {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
        let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
        (seconds(usage.user_time()) + seconds(usage.system_time()), usage.max_rss() as f64 / 1024.0)
    };
    let (before, _) = cpu();
    let begun = Instant::now();
    let output = command.stdout(Stdio::null()).stderr(Stdio::piped()).output().unwrap();
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    let wall = begun.elapsed().as_secs_f64();
    let (after, rss_mb) = cpu();
    Figure { what: what.to_owned(), wall, cpu: after - before, rss_mb, first_ms: None }
}
