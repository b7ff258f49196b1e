//! MySQL's binlog by file: decoding and encoding in memory, on one core, beside `mysqlbinlog` that prints the same file; and one huge
//! transaction through the daemon, whose memory must not grow with it.
//!
//! `BENCH=mysql make bench`, or `cargo bench --bench mysql -- [rows|single|compressed|huge] [ROWS]` inside
//! `scripts/with-servers.sh`; a fifth of ROWS are transactions of a single row, five times ROWS are the huge transaction.
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
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::stream::{begun, to_null};
use common::support::env;
use common::support::mysql::{Db, exec};
use common::support::source::{Kind, Source};
use common::{COLUMNS, Figure, PER_TRANSACTION, Wanted, cost, mysql_row, report, run};
use rowcast::backfill::control::Control;
use rowcast::backfill::watch::WatchList;
use rowcast::config::{OnPoison, TopicTemplate};
use rowcast::format::{Format, SourceNames};
use rowcast::pipeline::{Encoder, PipelineOptions};
use rowcast::status::Status;
use rowcast::status::meter::{About, Meter};
use rowcast_core::{Bump, Event, TableFilter};
use rowcast_mysql::{Flavor, Replay};

#[tokio::main(flavor = "multi_thread")]
async fn main() {
    let wanted = Wanted::read();
    let rows = wanted.rows;
    for (name, what, rows, per, setting) in [
        ("rows", "in transactions of 100", rows, PER_TRANSACTION, ""),
        ("single", "each a transaction", rows / 5, 1, ""),
        (
            "compressed",
            "in compressed transactions of 100",
            rows,
            PER_TRANSACTION,
            "binlog_transaction_compression = on",
        ),
    ] {
        if wanted.includes(name) || wanted.includes("mysql") {
            let source = Source::create(Kind::Mysql, "bench").await;
            let Source::Mysql(db) = &source else { unreachable!() };
            source.create_table("`load`", COLUMNS).await;
            let files = recorded(db, rows, per, setting).await;
            let title = format!("MySQL: a binlog of {rows} rows of 10 columns {what}, in memory, on one core");
            report(&title, "MB", "mysqlbinlog -v", rows, &in_memory(db, &files, rows).await);
        }
    }
    if wanted.includes("huge") || wanted.includes("mysql") {
        huge(rows * 5).await;
    }
}

/// Writes rows, and returns the binlog files that hold them.
async fn recorded(db: &Db, rows: u64, per: u64, setting: &str) -> Vec<PathBuf> {
    println!("mysql: writing {rows} rows");
    db.exec("flush binary logs").await;
    let first = last_file(db).await;
    let mut writer = db.connect().await;
    if !setting.is_empty() {
        exec(&mut writer, &format!("set session {setting}")).await;
    }
    for transaction in 0..rows / per {
        let from = transaction * per;
        let values: Vec<String> = (from..from + per).map(mysql_row).collect();
        exec(&mut writer, &format!("insert into `load` values {}", values.join(","))).await;
    }
    let last = last_file(db).await;
    db.exec("flush binary logs").await;
    let folder = PathBuf::from(env().var("MYSQL_DATA"));
    let names = db.query("show binary logs").await.into_iter().map(|row| row[0].clone().unwrap());
    names.filter(|name| *name >= first && *name <= last).map(|name| folder.join(name)).collect()
}

async fn last_file(db: &Db) -> String {
    db.query("show binary log status").await[0][0].clone().unwrap()
}

async fn in_memory(db: &Db, files: &[PathBuf], rows: u64) -> Vec<Figure> {
    let mut command = Command::new(env().var("MYSQLBINLOG"));
    command.args(["--no-defaults", "-v", "--base64-output=decode-rows"]).args(files);
    let size: u64 = files.iter().map(|file| std::fs::metadata(file).unwrap().len()).sum();
    let megabytes = Some(format!("{:.0}", size as f64 / 1e6));
    let mut figures = vec![Figure { extra: megabytes, ..run(&mut command, "mysqlbinlog -v") }];
    let collations = db.query("select id, character_set_name from information_schema.collations").await;
    let charsets: HashMap<u32, String> = collations
        .into_iter()
        .map(|row| (row[0].as_ref().unwrap().parse().unwrap(), row[1].clone().unwrap()))
        .collect();
    for (what, work) in [
        ("walk: batches only", Work::Walk),
        ("decode: all values", Work::Decode),
        ("decode + encode: records", Work::Encode),
    ] {
        let read = || files.iter().map(|file| replay(file, &db.name, &charsets, work)).sum::<u64>();
        let (count, figure) = measured(what, read);
        assert_eq!(count, rows, "{what}");
        figures.push(figure);
    }
    figures
}

/// What is done with each batch.
#[derive(Clone, Copy)]
enum Work {
    Walk,
    Decode,
    Encode,
}

/// Wall and CPU of something that this thread does.
fn measured<T>(what: &str, work: impl FnOnce() -> T) -> (T, Figure) {
    let pid = std::process::id().try_into().unwrap();
    let (before, begun) = (cost(pid), Instant::now());
    let result = work();
    let wall = begun.elapsed().as_secs_f64();
    let after = cost(pid);
    let cpu = after.cpu - before.cpu;
    (result, Figure { what: what.to_owned(), wall, cpu, rss_mb: after.rss_mb, extra: None })
}

/// Reads a file; the number of its rows.
fn replay(file: &Path, db: &str, charsets: &HashMap<u32, String>, work: Work) -> u64 {
    let tables = TableFilter::parse(&[format!("{db}.*")]).unwrap();
    let bytes = Bytes::from(std::fs::read(file).unwrap());
    let mut replay = Replay::new(Flavor::Mysql, tables, charsets.clone(), bytes).unwrap();
    let encoder = Encoder::new(&options(), None, WatchList::default());
    let (mut rows, mut arena, mut buf) = (0, Bump::new(), Vec::new());
    while let Some(batch) = replay.next_batch().unwrap() {
        let changes = batch.events.iter().filter_map(|event| match event {
            Event::Change(change) => Some(*change),
            _ => None,
        });
        match work {
            Work::Walk => rows += changes.count() as u64,
            Work::Decode => {
                for change in changes {
                    let table = &batch.tables[change.table as usize];
                    let mut values = Vec::with_capacity(table.columns.len());
                    table.decode(&batch.data, change.after.unwrap(), &arena, &mut values).unwrap();
                    rows += u64::from(values.len() == table.columns.len());
                }
                arena.reset();
            }
            Work::Encode => {
                let encoded = encoder.encode(&batch, std::mem::take(&mut buf)).unwrap();
                rows += encoded.records.len() as u64;
                buf = encoded.buf;
            }
        }
    }
    rows
}

fn options() -> PipelineOptions {
    PipelineOptions {
        name: "bench".to_owned(),
        kind: "mysql",
        db: String::new(),
        format: Arc::new(Format::new(
            SourceNames { name: "bench".to_owned(), kind: "mysql" },
            "",
            &rowcast::config::FormatConfig::Json(None),
        )),
        topic: Some(TopicTemplate::parse("{name}.{db}.{table}").unwrap()),
        tombstones: true,
        budget: 64 << 20,
        commit_interval: Duration::from_secs(1),
        commit_bytes: 16 << 20,
        commit_size: Default::default(),
        owner: "bench".to_owned(),
        status: Status::default(),
        meter: Arc::new(Meter::new(About {
            name: "bench".to_owned(),
            kind: "mysql",
            sink: "kafka",
            read_timeout: Duration::from_secs(30),
        })),
        backfill: None,
        state_dir: PathBuf::new(),
        control: Control::default(),
        anew: None,
        start_at: None,
        on_poison: OnPoison::Fail,
        on_table_failure: Default::default(),
    }
}

/// One transaction through the daemon into nothing: what counts is the memory.
async fn huge(rows: u64) {
    let source = Source::create(Kind::Mysql, "bench").await;
    let Source::Mysql(db) = &source else { unreachable!() };
    source.create_table("`load`", "id bigint primary key, v int, body varchar(40)").await;
    let null = "sink: { type: file, path: /dev/null }\nstate_dir: state\n";
    let mut daemon = begun(&source, "null-", "", null).await;
    println!("mysql: writing {rows} rows in one transaction");
    let mut writer = db.connect().await;
    exec(&mut writer, "set session cte_max_recursion_depth = 1000000").await;
    exec(&mut writer, "begin").await;
    let per = 500_000.min(rows);
    for from in (0..rows).step_by(per as usize) {
        let until = (from + per).min(rows) - 1;
        exec(
            &mut writer,
            &format!(
                "insert into `load` with recursive n(i) as (select {from} union all select i + 1 from n where i < {until}) \
                 select i, i % 1000, left(sha2(i, 256), 40) from n"
            ),
        )
        .await;
    }
    exec(&mut writer, "commit").await;
    let figure = to_null("rowcast to /dev/null", "null-", &mut daemon, &source).await;
    assert!(figure.rss_mb < 256.0, "{} MB for one transaction", figure.rss_mb);
    report(&format!("MySQL: one transaction of {rows} rows of 3 columns"), "", "itself", rows, &[figure]);
}
