//! Transactions that the server sends before their end: streamed while in progress, or prepared. What is published must be what is
//! published without either.

use serde_json::Value as Json;

use crate::support::daemon::Daemon;
use crate::support::kafka::read_committed;
use crate::support::source::{Kind, PATIENCE, Source, wait_until_streaming};
use crate::support::{env, eventually};

/// A daemon of this database with a name of its own, and lines below `source:` and at the top level.
fn daemon(source: &Source, suffix: &str, in_source: &str, more: &str) -> Daemon {
    let yaml = source.yaml("*").replacen(
        &format!("name: {}\n", source.name()),
        &format!("name: {}_{suffix}\n", source.name()),
        1,
    );
    let yaml = format!(
        "{yaml}{in_source}sink:\n  type: kafka\n  brokers: {}\n  topic: \"{{name}}\"\nbackfill: never\n{more}",
        env().brokers()
    );
    Daemon::command().file("source.yaml", &yaml).args(&["run", "source.yaml"]).spawn()
}

/// The events of one of these daemons, without what its name makes different.
async fn events(source: &Source, suffix: &str) -> Vec<Json> {
    let topic = format!("{}_{suffix}", source.name());
    let mut events: Vec<Json> = Vec::new();
    for record in read_committed(&topic).await {
        if record.value.is_some() {
            let mut event = record.json();
            event["source"]["name"] = Json::Null;
            event["id"] = event["id"].as_str().unwrap().split_once('/').unwrap().1.into();
            events.push(event);
        }
    }
    events
}

async fn wait_for(source: &Source, suffix: &str, count: usize) -> Vec<Json> {
    eventually(PATIENCE, &format!("{count} events of {suffix}"), || async {
        let events = events(source, suffix).await;
        if events.len() >= count { Ok(events) } else { Err(events.len()) }
    })
    .await
}

/// Two tables, and a server that streams what is larger than 64 kB.
async fn source() -> Source {
    let source = Source::create(Kind::Postgres, "parts").await;
    source.create_table("orders", "id int primary key, v int, body text").await;
    source.create_table("items", "id int primary key, v int, body text").await;
    let Source::Postgres(db) = &source else { unreachable!() };
    source.exec(&format!("alter role cdc in database {} set logical_decoding_work_mem = '64kB'", db.name)).await;
    source
}

/// Waits until the server has counted so many transactions that it streamed by a slot before their end; it counts a moment after it sends.
async fn streams_by(source: &Source, suffix: &str, least: u64) {
    eventually(PATIENCE, "streamed transactions", || async {
        let count = streamed(source, suffix).await;
        if count >= least { Ok(()) } else { Err(count) }
    })
    .await;
}

/// Streamed and prepared transactions that the server counted for a slot.
async fn streamed(source: &Source, suffix: &str) -> u64 {
    let slot = format!("rowcast_{}_{suffix}", source.name());
    let rows =
        source.query(&format!("select stream_txns from pg_stat_replication_slots where slot_name = '{slot}'")).await;
    rows.first().and_then(|row| row.first().cloned().flatten()).map_or(0, |count| count.parse().unwrap())
}

/// Everything that a large transaction can do, between small ones of another session.
async fn work(source: &Source) {
    let Source::Postgres(db) = source else { unreachable!() };
    let (a, b) = (db.connect().await, db.connect().await);
    let a = async |sql: &str| a.batch_execute(sql).await.unwrap_or_else(|error| panic!("{error:?} in {sql}"));
    let b = async |sql: &str| b.batch_execute(sql).await.unwrap_or_else(|error| panic!("{error:?} in {sql}"));
    let rows = |table: &str, from: u32, to: u32| {
        format!("insert into {table} (id, v, body) select n, n, repeat('x', 100) from generate_series({from}, {to}) n")
    };
    a("begin").await;
    a(&rows("orders", 1, 2000)).await;
    b(&rows("items", 1, 3)).await;
    a("savepoint s1").await;
    a(&rows("orders", 2001, 4000)).await;
    a("savepoint s2").await;
    a(&rows("orders", 4001, 5000)).await;
    a("rollback to s2").await;
    b("update items set v = v + 1").await;
    a("release s1").await;
    a(&rows("orders", 6001, 7000)).await;
    // the table's next version, which nobody else sees yet
    a("alter table orders add column more int default 7").await;
    a("insert into orders select n, n, repeat('z', 100), n from generate_series(7001, 8000) n").await;
    a("update orders set v = -v where id <= 500; delete from orders where id between 501 and 600").await;
    a("commit").await;
    a("insert into orders values (9001, 1, 'behind', 1)").await;
    a("begin").await;
    a(&rows("orders", 10001, 12000)).await;
    b("delete from items where id = 3").await;
    a("rollback").await;
    a("begin; truncate items").await;
    a(&rows("items", 10, 2000)).await;
    a("commit").await;
    a("insert into items values (9001, 1, 'the end')").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streamed_transaction_is_published_as_one_that_came_whole() {
    let source = source().await;
    let mut whole = daemon(&source, "whole", "  spill_limit: off\n", "");
    let mut parts = daemon(&source, "parts", "", "");
    wait_until_streaming(&mut whole).await;
    wait_until_streaming(&mut parts).await;
    work(&source).await;
    // rows of orders, 500 updates, 100 deletes, the one behind; items: 3, 3, 1, a truncation, 1,991 and the end
    let count = 2000 + 2000 + 1000 + 1000 + 600 + 1 + 3 + 3 + 1 + 1 + 1991 + 1;
    let expected = wait_for(&source, "whole", count).await;
    let got = wait_for(&source, "parts", count).await;
    assert_eq!((expected.len(), got.len()), (count, count));
    for (expected, got) in expected.iter().zip(&got) {
        assert_eq!(expected, got);
    }
    streams_by(&source, "parts", 2).await;
    assert_eq!(streamed(&source, "whole").await, 0);
    for daemon in [&mut whole, &mut parts] {
        assert_eq!(daemon.shutdown(PATIENCE).await, 0, "{}", daemon.logs());
    }
}

/// PostgreSQL 15.18 fails at this while it streams the transaction (`could not map filenode`), not once it is committed.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_the_server_fails_to_stream_is_left_to_it() {
    let source = source().await;
    let mut daemon = daemon(&source, "parts", "", "");
    wait_until_streaming(&mut daemon).await;
    let rows = |from: u32, to: u32| {
        format!("insert into orders (id, v, body) select n, n, repeat('x', 100) from generate_series({from}, {to}) n;")
    };
    let parts = [
        "begin;".to_owned(),
        rows(1, 2000),
        "savepoint s; alter table orders add column gone int;".to_owned(),
        rows(2001, 4000),
        "rollback to s;".to_owned(),
        rows(4001, 6000),
        "commit;".to_owned(),
    ];
    source.exec(&parts.concat()).await;
    let events = wait_for(&source, "parts", 4000).await;
    let ids: Vec<u64> = events.iter().map(|event| event["after"]["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, (1..=2000).chain(4001..=6000).collect::<Vec<_>>());
    assert!(events.iter().all(|event| event["after"].as_object().unwrap().len() == 3));
    assert!(daemon.is_running(), "{}", daemon.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streamed_transaction_goes_on_behind_its_last_published_row() {
    let source = source().await;
    let mut daemon = daemon(&source, "parts", "", "commit: {interval: 20ms, max_bytes: 64KiB}\n");
    wait_until_streaming(&mut daemon).await;
    const ROWS: usize = 30_000;
    source.exec(&format!("insert into orders select n, n, repeat('x', 100) from generate_series(1, {ROWS}) n")).await;
    let mut seen = 0;
    for kill in 1..=3 {
        let wanted = (seen + 1).max(ROWS / 8 * kill);
        seen = wait_for(&source, "parts", wanted.min(ROWS)).await.len();
        daemon.kill9();
        daemon.start();
    }
    let events = wait_for(&source, "parts", ROWS).await;
    let ordinals: Vec<u64> = events.iter().map(|event| event["source"]["seq"].as_u64().unwrap()).collect();
    assert_eq!(ordinals, (1..=ROWS as u64).collect::<Vec<_>>());
    streams_by(&source, "parts", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_in_progress_without_room_are_left_to_the_server() {
    let source = source().await;
    let mut daemon = daemon(&source, "parts", "  spill_limit: 1MiB\n", "");
    wait_until_streaming(&mut daemon).await;
    source.exec("insert into orders select n, n, repeat('x', 100) from generate_series(1, 20000) n").await;
    daemon.wait_for_log("`source.spill_limit` (1048576 bytes)", PATIENCE).await;
    let events = wait_for(&source, "parts", 20_000).await;
    assert_eq!(events.len(), 20_000);
    assert!(events.iter().enumerate().all(|(n, event)| event["after"]["id"] == n as u64 + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_published_by_prefix_and_never_those_of_a_savepoint_that_was_rolled_back() {
    let source = source().await;
    let mut daemon = daemon(&source, "parts", "  messages: [outbox, \"app.*\"]\n", "");
    wait_until_streaming(&mut daemon).await;
    let emit = |transactional: bool, prefix: &str, text: &str| {
        format!("select pg_logical_emit_message({transactional}, '{prefix}', '{text}');")
    };
    let large = |from: u32| {
        let to = from + 1999;
        format!("insert into orders select n, n, repeat('x', 100) from generate_series({from}, {to}) n;")
    };
    // streamed, and what is rolled back can't be told by the messages themselves
    let streamed = [
        "begin;".to_owned(),
        large(1),
        emit(true, "outbox", "kept"),
        emit(true, "other", "not wanted"),
        "savepoint s;".to_owned(),
        emit(true, "app.gone", "rolled back"),
        large(3001),
        "rollback to s;".to_owned(),
        emit(true, "app.kept", "kept too"),
        large(6001),
        "commit;".to_owned(),
        emit(false, "outbox", "outside"),
        emit(false, "other", "not wanted outside"),
    ];
    source.exec(&streamed.concat()).await;
    let expected = [("outbox", "kept", 2001), ("app.kept", "kept too", 2003), ("outbox", "outside", 1)];
    let topic = format!("rowcast.message.{}_parts", source.name());
    let records = eventually(PATIENCE, "three messages", || async {
        let records = read_committed(&topic).await;
        if records.len() >= expected.len() { Ok(records) } else { Err(records.len()) }
    })
    .await;
    assert_eq!(records.len(), expected.len());
    for (record, (prefix, content, seq)) in records.iter().zip(expected) {
        let event = record.json();
        assert_eq!((event["op"].as_str(), record.key_str()), (Some("m"), prefix));
        assert_eq!(event["source"]["seq"], seq, "{event}");
        assert_eq!(event["message"]["text"], content, "{event}");
    }
    assert_eq!(wait_for(&source, "parts", 4000).await.len(), 4000);
}

#[tokio::test(flavor = "multi_thread")]
async fn prepared_transactions_are_published_at_their_commit_and_survive_restarts() {
    let source = source().await;
    let name = source.name().to_owned();
    let mut whole = daemon(&source, "whole", "  spill_limit: off\n", "");
    let mut parts = daemon(&source, "parts", "  two_phase: true\n", "commit: {interval: 20ms}\n");
    wait_until_streaming(&mut whole).await;
    wait_until_streaming(&mut parts).await;
    let large = |from: u32, to: u32| {
        format!("insert into orders select n, n, repeat('x', 100) from generate_series({from}, {to}) n;")
    };
    let prepare = async |gid: &str, sql: &str| {
        source.exec(&format!("begin; {sql} prepare transaction '{name}_{gid}'")).await;
    };
    prepare("small", "insert into orders values (1, 1, 'small');").await;
    prepare("large", &(large(1001, 3000) + "savepoint s;" + &large(4001, 5000) + "rollback to s;")).await;
    prepare("undone", "insert into orders values (2, 2, 'undone');").await;
    prepare("late", "insert into orders values (3, 3, 'late');").await;
    source.exec("insert into items values (1, 1, 'between')").await;
    wait_for(&source, "parts", 1).await;
    parts.kill9();
    source.exec(&format!("commit prepared '{name}_small'")).await;
    source.exec("insert into items values (2, 2, 'while it was down')").await;
    parts.start();
    wait_for(&source, "parts", 3).await;
    source.exec(&format!("commit prepared '{name}_large'")).await;
    source.exec(&format!("rollback prepared '{name}_undone'")).await;
    wait_for(&source, "parts", 2003).await;
    // in good order, with one still prepared, whose rows the server has to send again
    assert_eq!(parts.shutdown(PATIENCE).await, 0, "{}", parts.logs());
    source.exec("insert into items values (3, 3, 'while it was down again')").await;
    source.exec(&format!("commit prepared '{name}_late'")).await;
    parts.start();
    source.exec("insert into items values (4, 4, 'the end')").await;
    let count = 1 + 1 + 1 + 2000 + 1 + 1 + 1;
    let got = wait_for(&source, "parts", count).await;
    let expected = wait_for(&source, "whole", count).await;
    assert_eq!((expected.len(), got.len()), (count, count));
    for (expected, got) in expected.iter().zip(&got) {
        assert_eq!(expected, got);
    }
    // nothing is held any more
    let slot = format!("rowcast_{name}_parts");
    eventually(PATIENCE, "the slot to move on", || async {
        let sql = format!(
            "select two_phase and confirmed_flush_lsn > (select max(lsn) from (select pg_current_wal_lsn() - 65536 as lsn) x) \
             from pg_replication_slots where slot_name = '{slot}'"
        );
        let rows = source.query(&sql).await;
        if rows == [[Some("t".to_owned())]] { Ok(()) } else { Err(rows) }
    })
    .await;
}
