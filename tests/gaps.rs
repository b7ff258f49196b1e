//! Gaps: the server no longer has what follows the checkpoint, or the checkpoint itself is gone. By default the source stops and says
//! so; with `on_gap: backfill` a reader's copy of the tables is right again afterwards, rows deleted in the gap included.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable,
    missing_docs
)]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value as Json;
use support::daemon::Daemon;
use support::source::{Kind, PATIENCE, Source, wait_until_streaming};
use support::{Servers, eventually, kafka, mysql};

/// Copies and forgotten logs take longer than a change.
const LONG: Duration = Duration::from_secs(180);

/// What a reader of the topic has: everything behind the last truncation.
fn held(events: &[Json]) -> BTreeMap<i64, i64> {
    let mut rows = BTreeMap::new();
    for event in events {
        let row = |image: &Json| (image["id"].as_i64().unwrap(), image["v"].as_i64().unwrap());
        match event["op"].as_str().unwrap() {
            "t" => rows.clear(),
            "d" => {
                rows.remove(&event["before"]["id"].as_i64().unwrap());
            }
            _ => {
                let (id, v) = row(&event["after"]);
                rows.insert(id, v);
            }
        }
    }
    rows
}

async fn table(source: &Source) -> BTreeMap<i64, i64> {
    let number = |cell: &Option<String>| cell.as_ref().unwrap().parse().unwrap();
    source.query("select id, v from orders").await.iter().map(|row| (number(&row[0]), number(&row[1]))).collect()
}

async fn wait_until_equal(source: &Source) {
    eventually(LONG, "the topic to be the table", || async {
        let (held, table) = (held(&source.events("orders").await), table(source).await);
        if held == table { Ok(()) } else { Err(format!("{held:?}, not {table:?}")) }
    })
    .await;
}

fn truncations(events: &[Json]) -> usize {
    events.iter().filter(|event| event["op"] == "t").count()
}

/// A source that has streamed and was stopped; then rows were added, changed and deleted.
async fn stopped(source: &Source) -> Daemon {
    source.create_table("orders", "id bigint primary key, v bigint not null").await;
    source.exec("insert into orders values (1, 1), (2, 1), (3, 1), (4, 1)").await;
    let mut daemon = source.to_kafka_with("").spawn();
    wait_until_streaming(&mut daemon).await;
    wait_until_equal(source).await;
    source.exec("update orders set v = 2 where id = 1").await;
    wait_until_equal(source).await;
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
    source.exec("insert into orders values (5, 1)").await;
    source.exec("update orders set v = 2 where id = 3").await;
    source.exec("delete from orders where id = 2").await;
    daemon
}

/// The slot of a source that was stopped, once nobody streams from it.
async fn free_slot(source: &Source) -> String {
    let Source::Postgres(db) = source else { unreachable!() };
    let slot = format!("rowcast_{}", source.name());
    db.slot_is_free(&slot).await;
    slot
}

/// Behind the gap: refused first; then, if that is asked for, copied again.
async fn closes(source: &Source, mut daemon: Daemon, reason: &str) {
    let mark = daemon.mark();
    daemon.start();
    assert_eq!(daemon.wait(PATIENCE).await, 1, "{}", daemon.logs());
    let said = daemon.wait_for_log_since(mark, "stopped: ", PATIENCE).await;
    assert!(said.contains("ERROR") && said.contains(reason) && said.contains("on_gap: backfill"), "{said}");
    assert_eq!(truncations(&source.events("orders").await), 0, "nothing is published before it is allowed");

    daemon.write("source.yaml", &source.to_kafka_yaml("*", "on_gap: backfill\n"));
    let mark = daemon.mark();
    daemon.start();
    daemon.wait_for_log_since(mark, "streaming behind a gap", PATIENCE).await;
    source.exec("insert into orders values (6, 1)").await;
    wait_until_equal(source).await;
    let events = source.events("orders").await;
    assert_eq!(truncations(&events), 1);
    assert_eq!(events.iter().filter(|event| event["op"] == "t").count(), 1);

    // a gap is closed once: the next start goes on from the checkpoint
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
    source.exec("delete from orders where id = 6").await;
    let mark = daemon.mark();
    daemon.start();
    daemon.wait_for_log_since(mark, "resumed from its checkpoint", PATIENCE).await;
    wait_until_equal(source).await;
    assert_eq!(truncations(&source.events("orders").await), 1);
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_slot_is_a_gap_that_can_be_closed() {
    let source = Source::create(Kind::Postgres, "gap").await;
    let daemon = stopped(&source).await;
    let slot = free_slot(&source).await;
    source.exec(&format!("select pg_drop_replication_slot('{slot}')")).await;
    closes(&source, daemon, "does not exist").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_ahead_of_the_checkpoint_is_a_gap_that_can_be_closed() {
    let source = Source::create(Kind::Postgres, "gap").await;
    let daemon = stopped(&source).await;
    let slot = free_slot(&source).await;
    source.exec(&format!("select pg_replication_slot_advance('{slot}', pg_current_wal_lsn())")).await;
    closes(&source, daemon, "ahead of the checkpoint").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalidated_slot_is_a_gap_that_can_be_closed() {
    let servers = Servers::private(&["pg"]);
    let db = support::postgres::Db::create_on(&servers, "gap").await;
    let source = Source::Postgres(db);
    let daemon = stopped(&source).await;
    source.exec("alter system set max_slot_wal_keep_size = '1MB'").await;
    source.exec("select pg_reload_conf()").await;
    eventually(LONG, "the slot to be invalidated", || async {
        source.exec("create table if not exists ballast (id int)").await;
        source.exec("insert into ballast values (1)").await;
        source.exec("select pg_switch_wal()").await;
        source.exec("checkpoint").await;
        let status = source.query("select wal_status from pg_replication_slots").await[0][0].clone().unwrap();
        if status == "lost" { Ok(()) } else { Err(status) }
    })
    .await;
    source.exec("drop table ballast").await;
    source.exec("alter system set max_slot_wal_keep_size = -1").await;
    source.exec("select pg_reload_conf()").await;
    closes(&source, daemon, "was invalidated").await;
}

async fn purged_binlogs(kind: mysql::Kind) {
    let servers = Servers::private(&[kind.server()]);
    let source = Source::Mysql(mysql::Db::create_on(&servers, kind, "gap").await);
    let daemon = stopped(&source).await;
    source.exec("flush binary logs").await;
    source.exec("insert into orders values (7, 1)").await;
    source.exec("flush binary logs").await;
    let newest = source.query("show binary logs").await.last().unwrap()[0].clone().unwrap();
    // MariaDB keeps a log until its engines have written all of it
    eventually(LONG, "the binlogs to be purged", || async {
        source.exec(&format!("purge binary logs to '{newest}'")).await;
        let logs = source.query("show binary logs").await;
        if logs.len() == 1 { Ok(()) } else { Err(logs) }
    })
    .await;
    closes(&source, daemon, "purged").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn purged_binlogs_of_mysql_are_a_gap_that_can_be_closed() {
    purged_binlogs(mysql::Kind::Mysql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn purged_binlogs_of_mariadb_are_a_gap_that_can_be_closed() {
    purged_binlogs(mysql::Kind::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_checkpoint_topic_is_a_gap_and_never_a_new_source() {
    for kind in [Kind::Postgres, Kind::Mysql, Kind::Mariadb] {
        let source = Source::create(kind, "gap").await;
        let daemon = stopped(&source).await;
        kafka::delete_topics(&[&format!("rowcast.checkpoint.{}", source.name())]).await;
        closes(&source, daemon, "holds no checkpoint").await;
    }
}

/// The checkpoint topic vanishes under a running daemon: it stops, and doesn't make a new one up.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_topic_that_is_deleted_under_the_stream_stops_it() {
    let source = Source::create(Kind::Postgres, "gap").await;
    source.create_table("orders", "id bigint primary key, v bigint not null").await;
    let mut daemon = source.to_kafka().spawn();
    wait_until_streaming(&mut daemon).await;
    source.exec("insert into orders values (1, 1)").await;
    wait_until_equal(&source).await;
    let mark = daemon.mark();
    kafka::delete_topics(&[&format!("rowcast.checkpoint.{}", source.name())]).await;
    // each write is a commit that needs the topic; the producer's view of it may be some seconds old
    let mut next = 2;
    eventually(LONG, "the daemon to stop", || {
        next += 1;
        let (id, source, ended) = (next, &source, !daemon.is_running());
        async move {
            source.exec(&format!("insert into orders values ({id}, 1)")).await;
            if ended { Ok(()) } else { Err("it runs") }
        }
    })
    .await;
    assert_eq!(daemon.wait(PATIENCE).await, 1, "{}", daemon.logs());
    let said = daemon.wait_for_log_since(mark, "stopped: ", PATIENCE).await;
    assert!(said.contains("holds no checkpoint") || said.contains("rowcast.checkpoint."), "{said}");
}

/// What stands in the checkpoint topic and can't be the checkpoint is refused with the repair, and never taken for nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_no_checkpoint_of_this_source_is_refused() {
    let source = Source::create(Kind::Postgres, "gap").await;
    let mut daemon = stopped(&source).await;
    daemon.write("source.yaml", &source.to_kafka_yaml("*", "on_gap: backfill\n"));
    let topic = format!("rowcast.checkpoint.{}", source.name());
    let good =
        kafka::read_committed(&topic).await.into_iter().rfind(|record| record.key_str() == source.name()).unwrap();
    let good = String::from_utf8(good.value.unwrap()).unwrap();
    for (record, expected) in [
        (good.replace("\"version\":2", "\"version\":99"), "has version 99"),
        (
            good.replace(&format!("\"source\":\"{}\"", source.name()), "\"source\":\"other\""),
            "belongs to source `other`",
        ),
        ("{\"version\":2".to_owned(), "can't be read"),
        ("garbage".to_owned(), "can't be read"),
    ] {
        // a higher generation, so that it counts
        kafka::produce(&topic, source.name(), &record.replace("\"generation\":", "\"generation\":9")).await;
        let mark = daemon.mark();
        daemon.start();
        assert_eq!(daemon.wait(PATIENCE).await, 1, "{}", daemon.logs());
        let said = daemon.wait_for_log_since(mark, "stopped: ", PATIENCE).await;
        assert!(said.contains(expected) && said.contains(&topic) && said.contains("repair: "), "{said}");
        assert_eq!(truncations(&source.events("orders").await), 0, "{expected}: nothing is made up");
    }
}

/// Without transactions nothing stops the last write of a process that was replaced: it doesn't count.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_checkpoint_of_a_replaced_process_does_not_count() {
    let source = Source::create(Kind::Postgres, "gap").await;
    source.create_table("orders", "id bigint primary key, v bigint not null").await;
    let mut daemon = source.to_kafka_with("delivery: at_least_once\nbackfill: never\n").spawn();
    let topic = format!("rowcast.checkpoint.{}", source.name());
    let mut older: Option<String> = None;
    for run in 1..=3 {
        let mark = daemon.mark();
        if run > 1 {
            daemon.start();
        }
        daemon.wait_for_log_since(mark, "streaming: ", PATIENCE).await;
        source.exec(&format!("insert into orders values ({run}, 1)")).await;
        wait_until_equal(&source).await;
        assert_eq!(daemon.shutdown(PATIENCE).await, 0, "{}", daemon.logs());
        let records = kafka::read_committed(&topic).await;
        let last = records.into_iter().rfind(|record| record.key_str() == source.name()).unwrap();
        // the first run's last record comes again, behind the second's
        if let Some(older) = older.take() {
            kafka::produce(&topic, source.name(), &older).await;
        }
        older = Some(String::from_utf8(last.value.unwrap()).unwrap());
    }
    let events = source.events("orders").await;
    assert_eq!(events.len(), 3, "nothing is repeated, and nothing was taken for a gap");
}
