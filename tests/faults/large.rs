//! A transaction far larger than memory: published in parts, killed in between, and gone on with behind the last row that is out.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;

use crate::kafka::MOST;
use crate::support::process::Watch;
use crate::support::source::{Kind, Source, wait_until_streaming};
use crate::support::{env, eventually, kafka};

const ROWS: usize = 300_000;
const KILLS: usize = 4;
/// Three of these at once, built without optimisation, on a machine that does other things.
const LIMIT: Duration = Duration::from_secs(400);

/// One transaction of that many rows.
async fn fill(source: &Source, kind: Kind, table: &str, rows: usize, body: &str) {
    match source {
        Source::Postgres(db) => {
            db.exec(&format!("insert into {table} select n, {body} from generate_series(1, {rows}) n")).await;
        }
        Source::Mysql(db) => {
            let limit = if kind == Kind::Mysql { "cte_max_recursion_depth" } else { "max_recursive_iterations" };
            db.exec(&format!("set session {limit} = 1000000")).await;
            let series = format!("with recursive s(n) as (select 1 union all select n + 1 from s where n < {rows})");
            db.exec(&format!("insert into {table} {series} select n, {body} from s")).await;
        }
    }
}

async fn larger_than_memory(kind: Kind) {
    let mut random = StdRng::seed_from_u64(23);
    let source = Source::create(kind, "huge").await;
    source.create_table("rows_of", "id bigint primary key, body varchar(250)").await;
    let mut daemon =
        source.to_kafka_with("memory: { budget: 4MiB }\ncommit: { max_bytes: 1MiB }\nbackfill: never\n").spawn();
    wait_until_streaming(&mut daemon).await;
    let watch = Watch::new(daemon.pid());
    let began = Instant::now();
    fill(&source, kind, "rows_of", ROWS, "repeat('x', 200)").await;
    let topic = source.topic("rows_of");
    let mut cuts = Vec::new();
    for _ in 0..KILLS {
        let before = cuts.last().copied().unwrap_or(0);
        let out = eventually(LIMIT, "a further part of the transaction", || async {
            let end = kafka::committed_end(env().brokers(), &topic).await;
            if end > before + 2_000 { Ok(end) } else { Err(end) }
        })
        .await;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..1000))).await;
        cuts.push(out);
        daemon.kill9();
        daemon.start();
        watch.follow(daemon.pid());
    }
    assert!(
        cuts.iter().all(|cut| (*cut as usize) < ROWS),
        "{}: all was out before the last kill: {cuts:?}",
        kind.name()
    );
    eventually(LIMIT, "the whole transaction", || async {
        let end = kafka::committed_end(env().brokers(), &topic).await;
        // the ends of transactions count too
        if end as usize > ROWS { Ok(()) } else { Err(end) }
    })
    .await;
    let took = began.elapsed();
    let mut transactions = std::collections::HashSet::new();
    let events = eventually(LIMIT, "all rows", || async {
        let records = kafka::read(env().brokers(), &topic, true).await;
        if records.len() >= ROWS { Ok(records) } else { Err(records.len()) }
    })
    .await;
    for (index, record) in events.iter().enumerate() {
        let event = record.json();
        assert_eq!(event["after"]["id"].as_u64().unwrap(), index as u64 + 1, "{}: {event}", kind.name());
        transactions.insert(event["source"]["tx"].as_str().unwrap().to_owned());
    }
    assert_eq!((events.len(), transactions.len()), (ROWS, 1));
    let peak = watch.peak();
    println!(
        "{}: {ROWS} rows in one transaction, killed with {cuts:?} out, {:.0} s, peak {} MB",
        kind.name(),
        took.as_secs_f64(),
        peak >> 20
    );
    assert!(peak < MOST, "{}: {} MB", kind.name(), peak >> 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_larger_than_memory_is_gone_on_with_after_every_kill() {
    JoinSet::from_iter(Kind::ALL.map(larger_than_memory)).join_all().await;
}

/// Narrow rows take far more memory as events and records than they have bytes: the budget counts what they take.
async fn narrow(kind: Kind) {
    let source = Source::create(kind, "narrow").await;
    source.create_table("t", "id bigint primary key, v smallint").await;
    let mut daemon = source.to_kafka_with("backfill: never\n").spawn();
    wait_until_streaming(&mut daemon).await;
    let watch = Watch::new(daemon.pid());
    fill(&source, kind, "t", ROWS, "n % 7").await;
    let topic = source.topic("t");
    eventually(LIMIT, "the whole transaction", || async {
        let end = kafka::committed_end(env().brokers(), &topic).await;
        if end as usize > ROWS { Ok(()) } else { Err(end) }
    })
    .await;
    println!("{}: {ROWS} narrow rows, peak {} MB", kind.name(), watch.peak() >> 20);
    assert!(watch.peak() < MOST, "{}: {} MB", kind.name(), watch.peak() >> 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn narrow_rows_keep_within_memory_with_the_default_settings() {
    JoinSet::from_iter(Kind::ALL.map(narrow)).join_all().await;
}

/// With schemas, which Debezium's connectors have unless they are switched off, a value is a hundred times as long as its row: copied and streamed.
async fn narrow_with_schemas(kind: Kind) {
    let rows = ROWS / 2;
    let source = Source::create(kind, "narrow").await;
    for table in ["t", "streamed"] {
        source.create_table(table, "id bigint primary key, v smallint").await;
    }
    fill(&source, kind, "t", rows, "n % 7").await;
    let mut daemon = source.to_kafka_with("format: debezium\n").spawn();
    let watch = Watch::new(daemon.pid());
    eventually(LIMIT, "both copies", || async {
        let copied = daemon.stderr().matches("the table is copied").count();
        if copied == 2 { Ok(()) } else { Err(copied) }
    })
    .await;
    let copied = watch.peak();
    fill(&source, kind, "streamed", rows, "n % 7").await;
    for table in ["t", "streamed"] {
        let topic = source.topic(table);
        eventually(LIMIT, "all rows", || async {
            let end = kafka::committed_end(env().brokers(), &topic).await;
            if end as usize >= rows { Ok(()) } else { Err(end) }
        })
        .await;
    }
    println!(
        "{}: {rows} narrow rows with schemas, peak {} MB, then {} MB",
        kind.name(),
        copied >> 20,
        watch.peak() >> 20
    );
    assert!(watch.peak() < MOST, "{}: {} MB", kind.name(), watch.peak() >> 20);
    assert_eq!(daemon.shutdown(LIMIT).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_in_values_keep_within_memory_with_the_default_settings() {
    JoinSet::from_iter(Kind::ALL.map(narrow_with_schemas)).join_all().await;
}
