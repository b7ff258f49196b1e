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

use std::process::Command;

use common::stream::{begun, recvlogical, to_kafka, to_null};
use common::support::daemon::Daemon;
use common::support::env;
use common::support::source::{Kind, Source};
use common::{COLUMNS, Figure, PER_TRANSACTION, Wanted, fill, report, run};

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
    let (mut kafka, mut at_least, mut null) = daemons(&source).await;
    let slot = format!("{}_ref", db.name);
    db.exec(&format!("select pg_create_logical_replication_slot('{slot}', 'pgoutput')")).await;
    fill(&source, "load", rows).await;
    let end = db.value("select pg_current_wal_lsn()").await;
    let reference = recvlogical(db, &slot, &end, &format!("rowcast_{}", db.name), &[("proto_version", "1")]);
    let mut figures = vec![reference];
    figures.push(to_kafka("rowcast to kafka (lz4, EOS)", &mut kafka, &source.topic("load"), rows).await);
    let topic = format!("alo-{}", source.topic("load"));
    figures.push(to_kafka("rowcast to kafka (at least once)", &mut at_least, &topic, rows).await);
    figures.push(to_null("rowcast to /dev/null", "null-", &mut null, &source).await);
    figures
}

async fn mysql(rows: u64) -> Vec<Figure> {
    let source = Source::create(Kind::Mysql, "bench").await;
    let Source::Mysql(db) = &source else { unreachable!() };
    source.create_table("`load`", COLUMNS).await;
    let (mut kafka, mut at_least, mut null) = daemons(&source).await;
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
    figures.push(to_kafka("rowcast to kafka (lz4, EOS)", &mut kafka, &source.topic("load"), rows).await);
    let topic = format!("alo-{}", source.topic("load"));
    figures.push(to_kafka("rowcast to kafka (at least once)", &mut at_least, &topic, rows).await);
    figures.push(to_null("rowcast to /dev/null", "null-", &mut null, &source).await);
    figures
}

/// Three daemons that know where to begin and are stopped: into Kafka exactly once, at least once, and into nothing.
async fn daemons(source: &Source) -> (Daemon, Daemon, Daemon) {
    let kafka = format!("sink: {{ type: kafka, brokers: \"{}\" }}\n", env().brokers());
    let null = "sink: { type: file, path: /dev/null }\nstate_dir: state\n";
    let exactly = begun(source, "", "", &kafka).await;
    let at_least = begun(source, "alo-", "", &format!("{kafka}delivery: at_least_once\n")).await;
    (exactly, at_least, begun(source, "null-", "", null).await)
}
