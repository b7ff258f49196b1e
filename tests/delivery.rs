//! Exactly once: processes that are replaced, transactions that are published in parts. Kills are in `tests/chaos/`, what breaks
//! around the daemon in `tests/faults/`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable,
    missing_docs
)]

mod support;

use std::collections::HashSet;

use support::eventually;
use support::source::{Kind, PATIENCE, Source, wait_until_streaming};

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
    let said = old.wait_for_log("stopped: ", PATIENCE).await;
    // by the checkpoint's owner, or by the server of which both are replicas, whichever it hears first
    let noticed = ["taken over by another process", "took over the binlog stream"];
    assert!(said.contains("ERROR") && noticed.iter().any(|why| said.contains(why)), "{said}");
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
