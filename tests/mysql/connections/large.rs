//! Packets of 16 MiB and more, and where their limits are.

use super::{KINDS, shop, shop_on, yaml};
use crate::support::daemon::Daemon;
use crate::support::local::{refused, run, stops, streams};
use crate::support::mysql::Db;
use crate::support::process::Watch;
use crate::support::source::PATIENCE;
use crate::support::{Servers, eventually};

/// Sizes around those at which a row takes one packet more: the event has some bytes of its own.
const PACKET: usize = 0x00ff_ffff;

/// The lengths of the notes in the events, by id.
async fn lengths(daemon: &Daemon, op: &str, count: usize) -> Vec<(i64, usize)> {
    eventually(PATIENCE, "large events", || async {
        let text = std::fs::read_to_string(daemon.dir().join("out.jsonl")).unwrap_or_default();
        let events = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let found: Vec<(i64, usize)> = events
            .filter(|event| event["op"] == op)
            .map(|event| (event["after"]["id"].as_i64().unwrap(), event["after"]["note"].as_str().unwrap().len()))
            .collect();
        if found.len() >= count { Ok(found) } else { Err(found) }
    })
    .await
}

async fn large(db: &Db) {
    let sizes = [PACKET - 100, PACKET, 45 << 20];
    let mut expected = Vec::new();
    let mut daemon = run(&yaml(db, "").replace("backfill: never", "backfill: never\nmemory: {budget: 64MiB}"));
    streams(&mut daemon).await;
    let watch = Watch::new(daemon.pid());
    for (id, size) in sizes.into_iter().enumerate() {
        db.exec(&format!("insert into orders values ({id}, repeat('x', {size}))")).await;
        expected.push((id as i64, size));
    }
    // an event has some fifty bytes of its own: one of these fills its packet, which an empty one follows
    for size in PACKET - 55..PACKET - 43 {
        let id = expected.len() as i64;
        db.exec(&format!("insert into orders values ({id}, repeat('y', {size})); delete from orders where id = {id}"))
            .await;
        expected.push((id, size));
    }
    assert_eq!(lengths(&daemon, "c", expected.len()).await, expected);
    let streamed = watch.peak();
    stops(&mut daemon).await;
    // and by a copy
    let mut daemon = run(&yaml(db, "").replace("backfill: never", "backfill: initial_only\nmemory: {budget: 64MiB}"));
    let watch = Watch::new(daemon.pid());
    assert_eq!(daemon.wait(PATIENCE).await, 0, "{}", daemon.logs());
    let mut copied = lengths(&daemon, "r", sizes.len()).await;
    copied.sort_unstable();
    assert_eq!(copied, expected[..sizes.len()]);
    println!("{}: peak {} MB streaming, {} MB copying", db.kind.server(), streamed >> 20, watch.peak() >> 20);
    assert!(streamed < MOST && watch.peak() < MOST, "{streamed} {}", watch.peak());
}

/// A row of 45 MiB is read, put together from its packets, and written out as JSON; and that several times over while queues hold 64 MiB.
const MOST: u64 = 400 << 20;

#[tokio::test]
async fn rows_of_many_packets_are_joined_in_bounded_memory() {
    for kind in KINDS {
        large(&shop(kind, "large").await).await;
    }
}

/// The server sends what is in its binlog even if it is larger than its `max_allowed_packet` was made since; a statement that reads it by a
/// copy does as well.
#[tokio::test]
async fn a_limit_that_was_lowered_since_stops_neither_stream_nor_copy() {
    for kind in KINDS {
        let servers = Servers::private(&[kind.server()]);
        let db = shop_on(&servers, kind, "limit").await;
        let mut daemon = run(&yaml(&db, ""));
        streams(&mut daemon).await;
        stops(&mut daemon).await;
        db.exec("insert into orders values (1, repeat('x', 20000000))").await;
        db.exec("set global max_allowed_packet = 1048576").await;
        daemon.start();
        assert_eq!(lengths(&daemon, "c", 1).await, [(1, 20_000_000)]);
        stops(&mut daemon).await;
        let mut copied = run(&yaml(&db, "").replace("backfill: never", "backfill: initial_only"));
        assert_eq!(copied.wait(PATIENCE).await, 0, "{}", copied.logs());
        assert_eq!(lengths(&copied, "r", 1).await, [(1, 20_000_000)]);
    }
}

/// A statement of ours that is too large for the server, not a row.
#[tokio::test]
async fn a_statement_that_the_server_does_not_take_names_the_setting() {
    for kind in KINDS {
        let servers = Servers::private(&[kind.server()]);
        let db = shop_on(&servers, kind, "statement").await;
        let columns: String = (0..60).map(|n| format!(", a_column_with_a_rather_long_name_{n} int")).collect();
        db.exec(&format!("create table wide (id int primary key{columns}); insert into wide (id) values (1)")).await;
        db.exec("set global net_buffer_length = 1024; set global max_allowed_packet = 1024").await;
        let mut daemon = run(&yaml(&db, "").replace("backfill: never", "backfill: initial_only"));
        let parts = ["server error 1153", "max_allowed_packet=1073741824"];
        refused(&mut daemon, &parts).await;
    }
}
