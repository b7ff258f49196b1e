//! MySQL without GTIDs: positions are files and offsets of one server.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde_json::Value as Json;
use tokio::task::block_in_place;

use super::{checkpoint, of_ids, refused, stops};
use crate::support::daemon::Daemon;
use crate::support::mysql::{self, Db, Kind};
use crate::support::source::{PATIENCE, Source, wait_until_streaming};
use crate::support::{Servers, env, eventually, kafka};

/// Settings of a server without GTIDs.
pub const OFF: (&str, &str) = ("ROWCAST_MYSQL_CONF", "--gtid-mode=OFF --enforce-gtid-consistency=OFF");
const LONG: Duration = Duration::from_secs(120);

/// MySQL without GTIDs, a database on it, and a daemon.
struct Placed {
    servers: Servers,
    source: Source,
}

impl Placed {
    async fn start(more: &str) -> Placed {
        let settings = [(OFF.0, format!("{} {more}", OFF.1))];
        let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let servers = block_in_place(|| Servers::private_with(&["mysql"], &settings));
        let db = Db::create_on(&servers, Kind::Mysql, "placed").await;
        db.exec("create table orders (id bigint primary key, v bigint not null)").await;
        Placed { servers, source: Source::Mysql(db) }
    }

    fn db(&self) -> &Db {
        match &self.source {
            Source::Mysql(db) => db,
            Source::Postgres(_) => unreachable!(),
        }
    }

    /// Where the binlog ends.
    async fn end(&self) -> String {
        let row = &self.db().query("show binary log status").await[0];
        format!("{}:{}", row[0].as_deref().unwrap(), row[1].as_deref().unwrap())
    }

    /// Purges all files before this one. One that a replica's session reads stays, and the server notices late that ours has gone.
    async fn purge_to(&self, file: &str) {
        eventually(PATIENCE, "a purge", || async {
            self.db().exec(&format!("purge binary logs to '{file}'")).await;
            let left = self.db().query("show binary logs").await;
            if left[0][0].as_deref() == Some(file) { Ok(()) } else { Err(left) }
        })
        .await;
    }

    /// Inserts a row and returns the place of its commit.
    async fn insert(&self, id: u64) -> String {
        self.db().exec(&format!("insert into orders values ({id}, 1)")).await;
        self.end().await
    }

    /// Waits for events with these ids, each once and in this order.
    async fn sees(&self, ids: &[u64]) -> Vec<Json> {
        let events = self.source.wait_for_events("orders", ids.len()).await;
        assert_eq!(of_ids(&events), ids);
        events
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_gtids_a_commit_is_known_by_its_file_and_offset_and_nothing_is_lost_or_repeated() {
    let placed = Placed::start("").await;
    let (db, source) = (placed.db(), &placed.source);
    let mut daemon = source.to_kafka().spawn();
    wait_until_streaming(&mut daemon).await;
    daemon.wait_for_log("gtid_mode is OFF: positions are files and offsets", PATIENCE).await;
    let mut expected = vec![placed.insert(1).await, placed.insert(2).await];
    placed.sees(&[1, 2]).await;
    // into the next file, while nobody reads
    stops(&mut daemon).await;
    expected.push(placed.insert(3).await);
    db.exec("flush binary logs").await;
    expected.push(placed.insert(4).await);
    daemon.start();
    placed.sees(&[1, 2, 3, 4]).await;
    // under a running daemon; killed with something in flight
    db.exec("flush binary logs").await;
    expected.push(placed.insert(5).await);
    daemon.kill9();
    expected.push(placed.insert(6).await);
    daemon.start();
    placed.sees(&[1, 2, 3, 4, 5, 6]).await;
    // the server is restarted, which begins another file
    block_in_place(|| placed.servers.restart("mysql"));
    let Source::Mysql(again) = &placed.source else { unreachable!() };
    let mut session = again.connect().await;
    mysql::exec(&mut session, "insert into orders values (7, 1)").await;
    let row = &mysql::query(&mut session, "show binary log status").await[0];
    expected.push(format!("{}:{}", row[0].as_deref().unwrap(), row[1].as_deref().unwrap()));
    let events = placed.sees(&[1, 2, 3, 4, 5, 6, 7]).await;

    let places: Vec<&str> = events.iter().map(|event| event["source"]["pos"].as_str().unwrap()).collect();
    assert_eq!(places, expected, "where the server says that these commits end");
    let mut ids = HashSet::new();
    for event in &events {
        let (source, id) = (&event["source"], event["id"].as_str().unwrap());
        assert_eq!(source["tx"], source["pos"]);
        let stem = format!("{}/{}@", placed.source.name(), source["pos"].as_str().unwrap());
        assert!(id.starts_with(&stem), "{id} not as {stem}");
        assert!(ids.insert(id.to_owned()), "{id} twice");
    }
    stops(&mut daemon).await;
}

/// An idle source's position moves on with the files, so that one that was read may be purged.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_read_may_be_purged_and_one_that_was_not_is_a_gap() {
    let placed = Placed::start("").await;
    let (db, source) = (placed.db(), &placed.source);
    let mut daemon = source.to_kafka().spawn();
    wait_until_streaming(&mut daemon).await;
    placed.insert(1).await;
    placed.sees(&[1]).await;
    db.exec("flush binary logs").await;
    let end = placed.end().await;
    eventually(PATIENCE, "the checkpoint to move to the new file", || async {
        let (kind, log) = checkpoint(source).await;
        assert_eq!(kind, "binlog");
        if log.starts_with(&format!("{end} begun ")) { Ok(()) } else { Err(log) }
    })
    .await;
    stops(&mut daemon).await;
    let file = end.split(':').next().unwrap();
    placed.purge_to(file).await;
    daemon.start();
    placed.insert(2).await;
    placed.sees(&[1, 2]).await;
    stops(&mut daemon).await;

    placed.insert(3).await;
    db.exec("flush binary logs").await;
    let newest = placed.end().await;
    placed.purge_to(newest.split(':').next().unwrap()).await;
    refused(&mut daemon, &["gap: the server has no ", file, "it was purged", "on_gap: backfill"]).await;
}

/// RESET begins again at the first file, whose offsets soon are those of old; only the time of its beginning tells.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_reset_is_a_gap_even_where_the_same_place_is_there_again() {
    let placed = Placed::start("").await;
    let (db, source) = (placed.db(), &placed.source);
    let seconds = || async { source.query("select unix_timestamp()").await[0][0].clone() };
    db.exec("reset binary logs and gtids").await;
    let began = seconds().await;
    let mut daemon = source.to_kafka().spawn();
    wait_until_streaming(&mut daemon).await;
    placed.insert(1).await;
    let first = placed.sees(&[1]).await;
    stops(&mut daemon).await;
    // a log is known by the second in which it began
    eventually(PATIENCE, "the next second", || async {
        let now = seconds().await;
        if now > began { Ok(()) } else { Err(now) }
    })
    .await;
    db.exec("reset binary logs and gtids").await;
    refused(&mut daemon, &["gap: the server's ", "reset", "on_gap: backfill"]).await;
    for id in 2..6 {
        placed.insert(id).await;
    }
    refused(&mut daemon, &["gap: the server's ", "is not the one that we read", "on_gap: backfill"]).await;
    // made good, it goes on; the first commit behind is where one was before, and has another id
    daemon.write("source.yaml", &source.to_kafka_yaml("*", "on_gap: backfill\n"));
    let mark = daemon.mark();
    daemon.start();
    daemon.wait_for_log_since(mark, "streaming behind a gap", PATIENCE).await;
    eventually(PATIENCE, "the copy", || async {
        let events = source.events("orders").await;
        let copied = events.iter().filter(|event| event["op"] == "r").count();
        if copied == 5 { Ok(()) } else { Err(copied) }
    })
    .await;
    assert_eq!(first.len(), 1);
    stops(&mut daemon).await;
}

/// Files and offsets of one server mean nothing on another one.
#[tokio::test(flavor = "multi_thread")]
async fn another_server_is_a_gap_without_gtids() {
    let placed = Placed::start("").await;
    let other = block_in_place(|| Servers::private_with(&["mysql"], &[OFF]));
    let mut daemon = placed.source.to_kafka().spawn();
    wait_until_streaming(&mut daemon).await;
    placed.insert(1).await;
    placed.sees(&[1]).await;
    stops(&mut daemon).await;
    // the same tables are there
    let mut session = mysql::try_connect(Kind::Mysql.socket_of(&other), None, "app", "apppw").await.unwrap();
    let name = placed.source.name();
    let sql = format!("create database {name}; create table {name}.orders (id bigint primary key, v bigint not null)");
    mysql::exec(&mut session, &sql).await;
    let yaml = placed.source.to_kafka_yaml("*", "backfill: never\n");
    let (ours, theirs) = (format!("port: {}\n", placed.source.port()), format!("port: {}\n", other.mysql_port()));
    daemon.write("source.yaml", &yaml.replace(&ours, &theirs));
    refused(&mut daemon, &["gap: the position ", "is of another server", "server_uuid", "on_gap: backfill"]).await;
}

/// A transaction that is published in parts, killed in between, and gone on with behind the last row that is out.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_transaction_without_a_gtid_is_resumed_within() {
    const ROWS: usize = 100_000;
    let placed = Placed::start("").await;
    let (db, source) = (placed.db(), &placed.source);
    let more = "memory: { budget: 4MiB }\ncommit: { max_bytes: 256KiB }\nbackfill: never\n";
    let mut daemon = source.to_kafka_with(more).spawn();
    wait_until_streaming(&mut daemon).await;
    let series = format!("with recursive s(n) as (select 1 union all select n + 1 from s where n < {ROWS})");
    db.exec("set session cte_max_recursion_depth = 1000000").await;
    db.exec(&format!("insert into orders {series} select n, n from s")).await;
    let end = placed.end().await;
    let topic = source.topic("orders");
    let mut before = 0;
    for _ in 0..3 {
        before = eventually(LONG, "a further part of the transaction", || async {
            let end = kafka::committed_end(env().brokers(), &topic).await;
            if end > before + 1000 { Ok(end) } else { Err(end) }
        })
        .await;
        assert!((before as usize) < ROWS, "all was out before a kill");
        daemon.kill9();
        daemon.start();
    }
    let events = source.wait_for_events("orders", ROWS).await;
    assert_eq!(of_ids(&events), (1..=ROWS as u64).collect::<Vec<_>>());
    let ids: HashSet<&str> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), ROWS);
    assert!(events.iter().all(|event| event["source"]["pos"] == end.as_str()), "known from the first row on");
    stops(&mut daemon).await;
}

/// `gtid_mode` goes from OFF to ON under the stream: nothing is lost or repeated, and a later start goes on by GTIDs.
#[tokio::test(flavor = "multi_thread")]
async fn gtids_that_are_switched_on_under_the_stream_are_taken_up() {
    let placed = Placed::start("").await;
    let (db, source) = (placed.db(), &placed.source);
    let mut daemon = source.to_kafka().spawn();
    wait_until_streaming(&mut daemon).await;
    let mut next = 1;
    placed.insert(next).await;
    db.exec("set global enforce_gtid_consistency = ON").await;
    for mode in ["OFF_PERMISSIVE", "ON_PERMISSIVE", "ON"] {
        db.exec(&format!("set global gtid_mode = {mode}")).await;
        next += 1;
        placed.insert(next).await;
    }
    let events = placed.sees(&[1, 2, 3, 4]).await;
    let uuid = db.value("select @@server_uuid").await;
    for (event, gtid) in events.iter().zip([false, false, true, true]) {
        let (pos, id) = (event["source"]["pos"].as_str().unwrap(), event["id"].as_str().unwrap());
        assert_eq!(pos.starts_with(&uuid), gtid, "{pos}");
        assert_eq!(id.contains('@'), !gtid, "{id}");
    }
    eventually(PATIENCE, "the checkpoint of the last event", || async {
        let (kind, log) = checkpoint(source).await;
        if kind == "binlog" && log.contains(&format!(" with {uuid}:1-2")) { Ok(()) } else { Err((kind, log)) }
    })
    .await;
    // killed, so that the last commits may have to be read again
    daemon.kill9();
    placed.insert(5).await;
    let mark = daemon.mark();
    daemon.start();
    daemon.wait_for_log_since(mark, "the stream goes on by these", PATIENCE).await;
    placed.sees(&[1, 2, 3, 4, 5]).await;
    stops(&mut daemon).await;
    let (kind, log) = checkpoint(source).await;
    assert_eq!((kind.as_str(), log), ("gtid", format!("{uuid}:1-3")));
    // and back: GTIDs can't be read any more, and nothing is made up
    for mode in ["ON_PERMISSIVE", "OFF_PERMISSIVE"] {
        db.exec(&format!("set global gtid_mode = {mode}")).await;
    }
    refused(&mut daemon, &["gtid_mode is OFF_PERMISSIVE", "which a server gives only with ON", "repair: "]).await;
}

/// Copies are merged into the stream by place, with either way of learning it, while rows change.
async fn copied_by_place(user: &str, grants: &str, expected: Result<(), &str>) {
    let placed = Placed::start("--performance-schema=ON").await;
    let (db, source) = (placed.db(), &placed.source);
    db.exec(&format!("create user {user} identified by 'cdcpw'; grant replication slave, replication client, select{grants} on *.* to {user}")).await;
    let series = "with recursive s(n) as (select 1 union all select n + 1 from s where n < 900)";
    db.exec(&format!("insert into orders {series} select n, 0 from s")).await;
    let yaml =
        source.to_kafka_yaml("*", "backfill: { chunk_rows: 100 }\n").replace("user: cdc\n", &format!("user: {user}\n"));
    let mut daemon = Daemon::command().file("source.yaml", &yaml).args(&["run", "source.yaml"]).spawn();
    if let Err(expected) = expected {
        let said = daemon.wait_for_log(expected, PATIENCE).await;
        assert!(said.contains("BACKUP_ADMIN") && said.contains("RELOAD") && said.contains("repair"), "{said}");
        return;
    }
    wait_until_streaming(&mut daemon).await;
    let mut writer = db.connect().await;
    for round in 1..=150_u64 {
        let (old, new, gone) = (1 + round * 5 % 900, 1000 + round, 1 + round * 7 % 900);
        let sql = format!(
            "update orders set v = v + 1 where id = {old}; insert into orders values ({new}, {round}); \
             delete from orders where id = {gone}"
        );
        mysql::exec(&mut writer, &sql).await;
    }
    eventually(LONG, "the topic to be the table", || async {
        let mut held = BTreeMap::new();
        for event in source.events("orders").await {
            let (image, gone) = if event["op"] == "d" { ("before", true) } else { ("after", false) };
            let (id, v) = (event[image]["id"].as_i64().unwrap(), event[image]["v"].as_i64());
            match gone {
                true => drop(held.remove(&id)),
                false => drop(held.insert(id, v.unwrap())),
            }
        }
        let rows = db.query("select id, v from orders order by id").await;
        let number = |cell: &Option<String>| cell.as_ref().unwrap().parse::<i64>().unwrap();
        let table = rows.iter().map(|row| (number(&row[0]), number(&row[1]))).collect();
        if held == table { Ok(()) } else { Err(format!("{} rows, not {}", held.len(), rows.len())) }
    })
    .await;
    let reads = source.events("orders").await.into_iter().filter(|event| event["op"] == "r").count();
    assert!(reads > 100, "{reads} rows were copied");
    stops(&mut daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_gtids_tables_are_copied_with_the_servers_word_on_its_logs() {
    copied_by_place("cdc_backup", ", backup_admin", Ok(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_gtids_tables_are_copied_under_a_short_lock() {
    copied_by_place("cdc_reload", ", reload", Ok(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_gtids_and_without_a_privilege_a_copy_is_refused_with_the_grants() {
    copied_by_place("cdc_plain", "", Err("a table can be read only by a user who")).await;
}
