//! PostgreSQL's modes and shapes of rows, each beside `pg_recvlogical` on the same log in the same run, into /dev/null: text against
//! binary values, one huge transaction streamed and whole, wide rows, updates of rows with unchanged large values.
//!
//! `BENCH=postgres make bench`, or `cargo bench --bench postgres -- [small|huge|wide|toast] [ROWS]` inside `scripts/with-servers.sh`; a
//! fifth of ROWS are wide rows, a tenth large values; five times ROWS are the huge transaction.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable,
    missing_docs
)]

mod common;

use common::stream::{begun, recvlogical, to_null};
use common::support::daemon::Daemon;
use common::support::source::{Kind, Source};
use common::{COLUMNS, Figure, PER_TRANSACTION, Wanted, fill, report};

/// Ways to stream: a name, lines below `source:`, and options of pgoutput for the reference.
type Way = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const TEXT: Way = ("text", "  binary: off\n", &[("proto_version", "2")]);
const BINARY: Way = ("binary", "", &[("proto_version", "2"), ("binary", "true")]);
const WHOLE: Way = ("whole", "  spill_limit: off\n", &[("proto_version", "2"), ("binary", "true")]);
const STREAMED: Way = ("streamed", "", &[("proto_version", "2"), ("binary", "true"), ("streaming", "on")]);

#[tokio::main(flavor = "multi_thread")]
async fn main() {
    let wanted = Wanted::read();
    let rows = wanted.rows;
    if wanted.includes("small") || wanted.includes("postgres") {
        let source = Source::create(Kind::Postgres, "bench").await;
        source.create_table("load", COLUMNS).await;
        let daemons = ready(&source, &[TEXT, BINARY]).await;
        fill(&source, "load", rows).await;
        let title = format!("PostgreSQL: {rows} rows of 10 columns in transactions of {PER_TRANSACTION}");
        report(&title, "", "pg_recvlogical (text)", rows, &measure(&source, daemons).await);
    }
    if wanted.includes("huge") || wanted.includes("postgres") {
        let rows = rows * 5;
        let source = Source::create(Kind::Postgres, "bench").await;
        source.create_table("load", "id bigint primary key, v int, body text").await;
        let daemons = ready(&source, &[WHOLE, STREAMED]).await;
        println!("postgres: writing {rows} rows in one transaction");
        source
            .exec(&format!("insert into load select n, n % 1000, md5(n::text) from generate_series(1, {rows}) n"))
            .await;
        let title = format!("PostgreSQL: one transaction of {rows} rows of 3 columns");
        report(&title, "", "pg_recvlogical (whole)", rows, &measure(&source, daemons).await);
    }
    if wanted.includes("wide") || wanted.includes("postgres") {
        let rows = rows / 5;
        let source = Source::create(Kind::Postgres, "bench").await;
        let columns: Vec<String> = (0..100).map(|n| format!("i{n} int, t{n} text")).collect();
        source.create_table("load", &format!("id bigint primary key, {}", columns.join(", "))).await;
        let daemons = ready(&source, &[TEXT, BINARY]).await;
        println!("postgres: writing {rows} rows of 201 columns");
        let values: Vec<String> = (0..100).map(|n| format!("g.n + {n}, 'value ' || g.n % {}", n + 1)).collect();
        let insert = format!("insert into load select g.n, {} from", values.join(", "));
        in_transactions(&source, &insert, rows).await;
        let title = format!("PostgreSQL: {rows} rows of 201 columns in transactions of {PER_TRANSACTION}");
        report(&title, "", "pg_recvlogical (text)", rows, &measure(&source, daemons).await);
    }
    if wanted.includes("toast") || wanted.includes("postgres") {
        let rows = rows / 10;
        let source = Source::create(Kind::Postgres, "bench").await;
        source.create_table("load", "id bigint primary key, v int, body text, doc jsonb").await;
        source.exec("alter table load alter body set storage external").await;
        let insert = "insert into load select g.n, 0, repeat(md5(g.n::text), 200), '{\"a\": 1}' from";
        in_transactions(&source, insert, rows).await;
        let daemons = ready(&source, &[TEXT, BINARY]).await;
        println!("postgres: updating {rows} rows with 6 kB that stay as they are");
        source.exec("update load set v = v + 1").await;
        let title = format!("PostgreSQL: {rows} updates beside unchanged values of 6 kB, in one transaction");
        report(&title, "", "pg_recvlogical (text)", rows, &measure(&source, daemons).await);
    }
}

/// Rows by numbers `g.n`, in transactions of [`PER_TRANSACTION`].
async fn in_transactions(source: &Source, insert: &str, rows: u64) {
    let last = (rows / PER_TRANSACTION).saturating_sub(1);
    source
        .exec(&format!(
            "do $$ begin for t in 0..{last} loop {insert} \
             generate_series(t * {PER_TRANSACTION}::bigint, t * {PER_TRANSACTION} + {PER_TRANSACTION} - 1) g(n); commit; end loop; end $$"
        ))
        .await;
}

/// A daemon and a slot for the reference per way.
async fn ready(source: &Source, ways: &[Way]) -> Vec<(Way, Daemon)> {
    let Source::Postgres(db) = source else { unreachable!() };
    let mut daemons = Vec::new();
    for way in ways {
        let null = "sink: { type: file, path: /dev/null }\nstate_dir: state\n";
        daemons.push((*way, begun(source, &prefix(way), way.1, null).await));
        db.exec(&format!("select pg_create_logical_replication_slot('{}_{}', 'pgoutput')", db.name, way.0)).await;
    }
    daemons
}

fn prefix(way: &Way) -> String {
    format!("{}-", way.0)
}

async fn measure(source: &Source, daemons: Vec<(Way, Daemon)>) -> Vec<Figure> {
    let Source::Postgres(db) = source else { unreachable!() };
    let end = db.value("select pg_current_wal_lsn()").await;
    let publication = format!("rowcast_{}", db.name);
    let mut figures = Vec::new();
    for (way, _) in &daemons {
        let slot = format!("{}_{}", db.name, way.0);
        let figure = recvlogical(db, &slot, &end, &publication, way.2);
        figures.push(Figure { what: format!("pg_recvlogical ({})", way.0), ..figure });
        db.exec(&format!("select pg_drop_replication_slot('{slot}')")).await;
    }
    for (way, mut daemon) in daemons {
        figures.push(to_null(&format!("rowcast ({})", way.0), &prefix(&way), &mut daemon, source).await);
    }
    figures
}
