//! PostgreSQL forgot what comes after the checkpoint: the source stops and says what is lost. Nothing is skipped silently.

use std::fs;

use super::{
    LIMIT, again, lines, pg, place, refused_since, run, sees, shop, statement, stopped_since, stops, streams,
    streams_since,
};
use crate::support::daemon::Daemon;
use crate::support::env::CDC_USER;
use crate::support::{Servers, eventually, postgres};

/// A source that has published row 1 and stopped, and row 2 that it hasn't seen.
async fn stopped_before_row_2(db: &postgres::Db) -> Daemon {
    let mut daemon = run(&pg(db));
    streams(&mut daemon).await;
    db.exec("insert into orders values (1)").await;
    sees(&daemon, &[1]).await;
    stops(&mut daemon).await;
    db.slot_is_free(&format!("rowcast_{}", db.name)).await;
    db.exec("insert into orders values (2)").await;
    daemon
}

fn checkpoint(daemon: &Daemon, db: &postgres::Db) -> (std::path::PathBuf, String) {
    let path = daemon.dir().join(format!("state/{}.checkpoint.json", db.name));
    let json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let log = json["position"]["log"].as_str().unwrap().to_owned();
    (path, log)
}

/// The message's own way out: the slot is dropped, the checkpoint removed; changes stream again from then on.
async fn accept_the_loss(daemon: &mut Daemon, db: &postgres::Db, message: &str, next: i64) {
    let sql = statement(message, "accept the loss: ", " and start");
    if db.value(&format!("select count(*) from pg_replication_slots where slot_name = 'rowcast_{}'", db.name)).await
        == "1"
    {
        db.exec(sql).await;
    }
    assert!(sql.contains(&format!("pg_drop_replication_slot('rowcast_{}')", db.name)), "{sql}");
    fs::remove_file(checkpoint(daemon, db).0).unwrap();
    let mark = again(daemon);
    streams_since(daemon, mark).await;
    db.exec(&format!("insert into orders values ({next})")).await;
    sees(daemon, &[1, next]).await;
}

#[tokio::test]
async fn a_slot_ahead_of_the_checkpoint_is_a_gap_of_so_many_bytes() {
    let db = shop("ahead").await;
    let mut daemon = stopped_before_row_2(&db).await;
    let slot = format!("rowcast_{}", db.name);
    let (_, at) = checkpoint(&daemon, &db);
    let to =
        db.value(&format!("select end_lsn from pg_replication_slot_advance('{slot}', pg_current_wal_lsn())")).await;
    let bytes = db.value(&format!("select ('{to}'::pg_lsn - '{at}')::text")).await;
    let found = format!("replication slot {slot} is at {to}, {bytes} bytes of WAL ahead of the checkpoint at {at}");
    for _ in 0..2 {
        let mark = again(&mut daemon);
        refused_since(&mut daemon, mark, &[&place(&db, CDC_USER), "gap: ", &found, "lost to the stream"]).await;
        sees(&daemon, &[1]).await;
    }
    let mark = again(&mut daemon);
    let message = refused_since(&mut daemon, mark, &[]).await;
    accept_the_loss(&mut daemon, &db, &message, 3).await;
}

#[tokio::test]
async fn a_slot_that_was_dropped_is_a_gap() {
    let db = shop("dropped").await;
    let mut daemon = stopped_before_row_2(&db).await;
    let slot = format!("rowcast_{}", db.name);
    db.exec(&format!("select pg_drop_replication_slot('{slot}')")).await;
    let (_, at) = checkpoint(&daemon, &db);
    let mark = again(&mut daemon);
    let found =
        format!("gap: replication slot {slot} does not exist, but the checkpoint says that the stream was at {at}");
    let message = refused_since(&mut daemon, mark, &[&place(&db, CDC_USER), &found, "lost to the stream"]).await;
    sees(&daemon, &[1]).await;
    accept_the_loss(&mut daemon, &db, &message, 3).await;
}

/// The lost connection is a reason to wait, the lost slot is not.
#[tokio::test]
async fn a_slot_that_is_dropped_under_the_stream_is_a_gap() {
    let db = shop("dropped").await;
    let mut daemon = run(&pg(&db));
    streams(&mut daemon).await;
    let slot = format!("rowcast_{}", db.name);
    eventually(LIMIT, "the slot to be dropped", || async {
        let sql = format!(
            "select pg_terminate_backend(active_pid, 1000) from pg_replication_slots where slot_name = '{slot}' and active;
             select pg_drop_replication_slot('{slot}')"
        );
        db.connect().await.batch_execute(&sql).await
    })
    .await;
    stopped_since(
        &mut daemon,
        (0, 0),
        &[&place(&db, CDC_USER), &format!("gap: replication slot {slot} does not exist")],
    )
    .await;
    let waited = lines(&daemon, (0, 0)).into_iter().filter(|line| line.level == "WARN").count();
    assert!(waited >= 1, "the connection was lost first");
}

#[tokio::test]
async fn a_slot_that_the_server_invalidated_is_a_gap() {
    let servers = Servers::private(&["pg"]);
    let db = postgres::Db::create_on(&servers, "invalid").await;
    db.exec("create table orders (id bigint primary key, note text); alter table orders owner to cdc").await;
    let mut daemon = stopped_before_row_2(&db).await;
    db.exec("alter system set max_slot_wal_keep_size = '1MB'").await;
    db.exec("select pg_reload_conf()").await;
    let slot = format!("rowcast_{}", db.name);
    eventually(LIMIT, "the slot to be invalidated", || async {
        db.exec("create table if not exists ballast (id int)").await;
        db.exec("insert into ballast values (1)").await;
        db.exec("select pg_switch_wal()").await;
        db.exec("checkpoint").await;
        let status = db.value(&format!("select wal_status from pg_replication_slots where slot_name = '{slot}'")).await;
        if status == "lost" { Ok(()) } else { Err(status) }
    })
    .await;
    db.exec("drop table ballast").await;
    let mark = again(&mut daemon);
    let found =
        format!("replication slot {slot} was invalidated by the server: its WAL exceeded max_slot_wal_keep_size");
    let message = refused_since(&mut daemon, mark, &[&place(&db, CDC_USER), &found, "lost"]).await;
    sees(&daemon, &[1]).await;
    accept_the_loss(&mut daemon, &db, &message, 3).await;
}
