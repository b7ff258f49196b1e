//! Exactly once: a reader of committed records sees every change once and in order, whatever happens to the daemon.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable,
    missing_docs
)]

mod support;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value as Json;
use support::daemon::Daemon;
use support::source::{Kind, PATIENCE, Source, Writer, wait_until_streaming};
use support::{Servers, eventually, kafka};

const KILLS: usize = 20;
const COUNTERS: u64 = 8;

/// Counts counters up in transactions of one to four rows, with an inserted and deleted row now and then, until told to stop.
/// Returns the number of row changes.
async fn count_up(mut writer: Writer, seed: u64, stop: Arc<AtomicBool>) -> usize {
    let mut random = StdRng::seed_from_u64(seed);
    let (mut changes, mut next) = (0, 1000);
    while !stop.load(Ordering::Relaxed) {
        let rows = random.random_range(1..=4);
        let mut statements: Vec<String> = (0..rows)
            .map(|_| {
                let id = random.random_range(1..=COUNTERS);
                format!("update counters set version = version + 1 where id = {id}")
            })
            .collect();
        changes += rows;
        if random.random_ratio(1, 5) {
            next += 1;
            statements.push(format!("insert into counters values ({next}, 1)"));
            statements.push(format!("delete from counters where id = {next}"));
            changes += 2;
        }
        writer.transaction(&statements).await;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..4))).await;
    }
    changes
}

/// Every change once, each counter's versions without gap, repeat or step back, every transaction whole.
fn check(events: &[Json], changes: usize) {
    let mut ids = HashSet::new();
    let mut versions: BTreeMap<u64, u64> = BTreeMap::new();
    let mut transactions: BTreeMap<String, HashSet<u64>> = BTreeMap::new();
    for event in events {
        assert!(ids.insert(event["id"].as_str().unwrap().to_owned()), "twice: {event}");
        let place = &event["source"];
        let rows = transactions.entry(place["tx"].as_str().unwrap().to_owned()).or_default();
        rows.insert(place["seq"].as_u64().unwrap());
        if event["op"] == "d" {
            continue;
        }
        let id = event["after"]["id"].as_u64().unwrap();
        let version = event["after"]["version"].as_u64().unwrap();
        let before = versions.insert(id, version).unwrap_or(0);
        assert_eq!(version, before + 1, "counter {id} stepped from {before} to {version}");
    }
    for (transaction, rows) in transactions {
        assert_eq!((1..=rows.len() as u64).collect::<HashSet<_>>(), rows, "transaction {transaction} is not whole");
    }
    assert_eq!(events.len(), changes + COUNTERS as usize, "events for the changes made");
}

async fn nothing_is_lost_or_repeated_when_killed(kind: Kind) {
    let seed = rand::rng().random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let source = Source::create(kind, "kill").await;
    source.create_table("counters", "id bigint primary key, version bigint not null").await;
    let mut daemon = source.to_kafka().spawn();
    wait_until_streaming(&mut daemon).await;
    for id in 1..=COUNTERS {
        source.exec(&format!("insert into counters values ({id}, 1)")).await;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn(count_up(Writer::of(&source).await, seed, Arc::clone(&stop)));
    for _ in 0..KILLS {
        // from the middle of its start to well into the traffic
        tokio::time::sleep(Duration::from_millis(random.random_range(100..1500))).await;
        daemon.kill9();
        daemon.start();
    }
    let mark = daemon.mark();
    stop.store(true, Ordering::Relaxed);
    let changes = writing.await.unwrap();
    let expected = changes + COUNTERS as usize;
    let events = source.wait_for_events("counters", expected).await;
    check(&events, changes);
    // what the last daemon does when it is stopped in good order adds nothing
    assert_eq!(daemon.shutdown(PATIENCE).await, 0, "{}", &daemon.stderr()[mark.1..]);
    assert_eq!(source.events("counters").await.len(), expected);
    println!("{}: {KILLS} kills, {expected} events, none lost, none repeated", kind.name());
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_loses_and_repeats_nothing_when_killed_in_mid_traffic() {
    nothing_is_lost_or_repeated_when_killed(Kind::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_loses_and_repeats_nothing_when_killed_in_mid_traffic() {
    nothing_is_lost_or_repeated_when_killed(Kind::Mysql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_loses_and_repeats_nothing_when_killed_in_mid_traffic() {
    nothing_is_lost_or_repeated_when_killed(Kind::Mariadb).await;
}

/// A process that was suspended, replaced, and wakes up.
async fn a_zombie_publishes_nothing(kind: Kind) {
    let source = Source::create(kind, "zombie").await;
    source.create_table("counters", "id bigint primary key, version bigint not null").await;
    let mut old = source.to_kafka().spawn();
    wait_until_streaming(&mut old).await;
    source.exec("insert into counters values (1, 1)").await;
    source.wait_for_events("counters", 1).await;

    old.stop_signal();
    source.exec("insert into counters values (2, 1)").await;
    let mut new = source.to_kafka().spawn();
    wait_until_streaming(&mut new).await;
    source.exec("insert into counters values (3, 1)").await;
    source.wait_for_events("counters", 3).await;

    old.cont();
    source.exec("insert into counters values (4, 1)").await;
    let said = old.wait_for_log("taken over", PATIENCE).await;
    assert!(said.contains("ERROR"), "{said}");
    assert_eq!(old.wait(PATIENCE).await, 1, "{}", old.logs());

    source.exec("insert into counters values (5, 1)").await;
    let events = source.wait_for_events("counters", 5).await;
    let ids: Vec<u64> = events.iter().map(|event| event["after"]["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [1, 2, 3, 4, 5]);
    assert!(new.is_running(), "{}", new.logs());
    assert_eq!(new.shutdown(PATIENCE).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_postgres_daemon_that_wakes_up_publishes_nothing_and_stops_with_the_reason() {
    a_zombie_publishes_nothing(Kind::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_mysql_daemon_that_wakes_up_publishes_nothing_and_stops_with_the_reason() {
    a_zombie_publishes_nothing(Kind::Mysql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_mariadb_daemon_that_wakes_up_publishes_nothing_and_stops_with_the_reason() {
    a_zombie_publishes_nothing(Kind::Mariadb).await;
}

/// A transaction larger than a commit may be is published in parts; killed in between, it goes on behind the last part.
async fn a_large_transaction_goes_on_where_it_was_cut(kind: Kind) {
    const ROWS: usize = 40_000;
    let source = Source::create(kind, "large").await;
    source.create_table("rows_of", "id bigint primary key, body varchar(200)").await;
    let mut daemon = source.to_kafka_with("commit: { max_bytes: 256KiB }\nbackfill: never\n").spawn();
    wait_until_streaming(&mut daemon).await;
    match &source {
        Source::Postgres(db) => {
            db.exec(&format!("insert into rows_of select n, repeat('x', 150) from generate_series(1, {ROWS}) n")).await;
        }
        Source::Mysql(db) => {
            db.exec("set session cte_max_recursion_depth = 1000000").await;
            let series = format!("with recursive s(n) as (select 1 union all select n + 1 from s where n < {ROWS})");
            db.exec(&format!("insert into rows_of {series} select n, repeat('x', 150) from s")).await;
        }
    }
    let parts = eventually(PATIENCE, "a part of the transaction", || async {
        let seen = source.events("rows_of").await.len();
        if seen > 0 { Ok(seen) } else { Err(seen) }
    })
    .await;
    daemon.kill9();
    daemon.start();
    let events = source.wait_for_events("rows_of", ROWS).await;
    println!("{}: {parts} of {ROWS} rows were out when it was killed", kind.name());
    assert_eq!(events.len(), ROWS);
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event["source"]["seq"].as_u64().unwrap(), index as u64 + 1);
    }
    let transactions: HashSet<&str> = events.iter().map(|event| event["source"]["tx"].as_str().unwrap()).collect();
    assert_eq!(transactions.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_postgres_transaction_is_published_in_parts_and_survives_a_kill() {
    a_large_transaction_goes_on_where_it_was_cut(Kind::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_mysql_transaction_is_published_in_parts_and_survives_a_kill() {
    a_large_transaction_goes_on_where_it_was_cut(Kind::Mysql).await;
}

/// The database's session is ended below a running daemon: it reconnects by itself and nothing is repeated.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_database_connection_is_made_again_without_a_repeat() {
    let source = Source::create(Kind::Postgres, "cut").await;
    source.create_table("counters", "id bigint primary key, version bigint not null").await;
    let mut daemon = source.to_kafka().spawn();
    wait_until_streaming(&mut daemon).await;
    for id in 1..=5 {
        let mark = daemon.mark();
        source.exec(&format!("insert into counters values ({id}, 1)")).await;
        source.wait_for_events("counters", id).await;
        let Source::Postgres(db) = &source else { unreachable!() };
        db.disconnect_cdc().await;
        daemon.wait_for_log_since(mark, "streaming: ", PATIENCE).await;
    }
    assert_eq!(source.events("counters").await.len(), 5);
}

/// The broker is killed below a running daemon and comes back: what was in flight is decided by the checkpoint that is read.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_and_comes_back_leaves_no_gap_and_no_repeat() {
    let servers = Servers::private(&["kafka"]);
    let source = Source::create(Kind::Postgres, "broker").await;
    source.create_table("counters", "id bigint primary key, version bigint not null").await;
    let sink = format!("sink: {{ type: kafka, brokers: \"{}\" }}\nbackfill: never\n", servers.brokers());
    let mut daemon =
        Daemon::command().file("source.yaml", &(source.yaml("*") + &sink)).args(&["run", "source.yaml"]).spawn();
    wait_until_streaming(&mut daemon).await;
    for id in 1..=COUNTERS {
        source.exec(&format!("insert into counters values ({id}, 1)")).await;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn(count_up(Writer::of(&source).await, 7, Arc::clone(&stop)));
    let topic = source.topic("counters");
    let read = || async {
        let records = kafka::read(servers.brokers(), &topic, true).await;
        records.iter().filter(|record| record.value.is_some()).map(|record| record.json()).collect::<Vec<Json>>()
    };
    for _ in 0..2 {
        let seen = read().await.len();
        eventually(PATIENCE, "traffic", || async { if read().await.len() > seen + 50 { Ok(()) } else { Err(seen) } })
            .await;
        servers.kill("kafka");
        servers.start("kafka");
    }
    stop.store(true, Ordering::Relaxed);
    let changes = writing.await.unwrap();
    let expected = changes + COUNTERS as usize;
    let events = eventually(PATIENCE, "all events", || async {
        let events = read().await;
        if events.len() >= expected { Ok(events) } else { Err(events.len()) }
    })
    .await;
    check(&events, changes);
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
}
