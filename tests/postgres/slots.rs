//! The slot: everything that can go wrong with it, done to a real server, is recognised before an event is published.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value as Json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::block_in_place;

use crate::local::{
    CDC, again, becomes, command, events, place, refused, refused_since, run, sees, shop, shop_on, stops, streams,
    streams_since, yaml, yaml_at,
};
use crate::support::daemon::Daemon;
use crate::support::source::{PATIENCE, Source, wait_until_streaming};
use crate::support::{Servers, eventually, postgres};

pub const SEVENTEEN: (&str, &str) = ("ROWCAST_PG_SUITE", "trixie");
const EIGHTEEN: (&str, &str) = ("ROWCAST_PG_SUITE", "sid");

fn private(settings: &[(&str, &str)]) -> Servers {
    block_in_place(|| Servers::private_with(&["pg"], settings))
}

async fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// One transaction that stays open holds the slot where it is, while the server goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_is_warned_about_long_before_it_is_lost() {
    let settings = "max_slot_wal_keep_size=96MB max_wal_size=32MB min_wal_size=32MB autovacuum_freeze_max_age=100000";
    let servers = private(&[("ROWCAST_PG_CONF", settings)]);
    let db = shop_on(&servers, "danger").await;
    let mut daemon = command(&yaml(&db)).env("ROWCAST__ADMIN", "127.0.0.1:0").spawn();
    let line = daemon.wait_for_log("admin endpoint: http://", PATIENCE).await;
    let address = line.split("http://").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    streams(&mut daemon).await;
    db.exec("create schema elsewhere; create table elsewhere.ballast (id int)").await;
    let slot = format!("rowcast_{}", db.name);
    let mark = daemon.mark();
    let open = db.connect().await;
    open.batch_execute("begin; insert into orders values (0)").await.unwrap();
    // what a server does by itself
    db.exec("checkpoint").await;

    let long = db.connect().await;
    long.batch_execute("do $$ begin for i in 1..51000 loop perform pg_current_xact_id(); commit; end loop; end $$")
        .await
        .unwrap();
    db.exec("checkpoint").await;
    let said = daemon.wait_for_log_since(mark, "keeps vacuum from removing rows of the catalogs", PATIENCE).await;
    assert!(said.contains("WARN") && said.contains("autovacuum_freeze_max_age is 100000"), "{said}");

    // one segment after the other, until this is so
    let written = async |what: &str| {
        let sql = format!("select {what} from pg_replication_slots where slot_name = '{slot}'");
        for _ in 0..20 {
            if db.value(&sql).await == "t" {
                return;
            }
            db.exec("insert into elsewhere.ballast values (1)").await;
            db.exec("select pg_switch_wal()").await;
        }
        panic!("never: {what}");
    };
    written("wal_status = 'extended'").await;
    let said = daemon.wait_for_log_since(mark, "more than the server otherwise would", PATIENCE).await;
    assert!(said.contains("max_wal_size is 32.0 MB") && said.contains("at 96.0 MB"), "{said}");
    written("safe_wal_size < 24 * 1024 * 1024").await;
    let said = daemon.wait_for_log_since(mark, &format!("slot {slot} is in danger after another"), PATIENCE).await;
    assert!(said.contains("max_slot_wal_keep_size is 96.0 MB") && said.contains("repair: "), "{said}");

    // the same for those who ask
    let json = get(&address, &format!("/api/v1/sources/{}", db.name)).await;
    let json: Json = serde_json::from_str(json.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let warnings = json["slot"]["warnings"].as_array().unwrap();
    let kinds: Vec<&str> = warnings.iter().map(|warning| warning["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["extended", "safe_wal", "horizon"]);
    assert!(json["slot"]["horizon_age"].as_u64().unwrap() > 50_000 && json["slot"]["active"] == true, "{json}");
    let metrics = get(&address, "/metrics").await;
    for (kind, value) in [("extended", 1), ("safe_wal", 1), ("horizon", 1), ("lost", 0)] {
        let sample = format!("rowcast_slot_warning{{source=\"{}\",warning=\"{kind}\"}} {value}", db.name);
        assert!(metrics.lines().any(|line| line.trim_end_matches(".0") == sample), "no {sample} in {metrics}");
    }
    let shown = Daemon::command().args(&["status", "--admin", &address]).output(PATIENCE).await;
    assert!(shown.1.contains("warning: replication slot"), "{shown:?}");

    // a server that writes on removes the log by itself
    written("wal_status in ('unreserved', 'lost')").await;
    db.exec("checkpoint").await;
    let said =
        refused_since(&mut daemon, mark, &["gap: ", &format!("slot {slot} was invalidated"), "max_slot_wal_keep_size"])
            .await;
    assert!(said.contains("on_gap: backfill"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_18_is_streamed_from_and_its_idle_time_out_is_a_gap() {
    let servers = private(&[EIGHTEEN, ("ROWCAST_PG_CONF", "idle_replication_slot_timeout=1h")]);
    let db = shop_on(&servers, "eighteen").await;
    assert_eq!(servers.var("PG_MAJOR"), "18");
    let mut daemon = run(&yaml(&db));
    streams(&mut daemon).await;
    let slot = format!("rowcast_{}", db.name);
    daemon.wait_for_log("idle_replication_slot_timeout is 1h: if this source is stopped for longer", PATIENCE).await;
    let of_slot = |column: &str| format!("select {column} from pg_replication_slots where slot_name = '{slot}'");
    assert_eq!(db.value(&of_slot("failover")).await, "t");
    db.exec("insert into orders values (1)").await;
    sees(&daemon, &[1]).await;
    stops(&mut daemon).await;

    db.exec("insert into orders values (2)").await;
    db.exec("alter system set idle_replication_slot_timeout = '1s'").await;
    db.exec("select pg_reload_conf()").await;
    eventually(PATIENCE, "the slot to be invalidated", || async {
        db.exec("checkpoint").await;
        let reason = db.query(&of_slot("invalidation_reason")).await[0][0].clone();
        if reason.as_deref() == Some("idle_timeout") { Ok(()) } else { Err(reason) }
    })
    .await;
    let mark = again(&mut daemon);
    refused_since(&mut daemon, mark, &["gap: ", "it was idle longer than idle_replication_slot_timeout"]).await;
    sees(&daemon, &[1]).await;
}

#[tokio::test]
async fn a_slot_in_use_is_waited_for_if_that_is_asked_for() {
    let db = shop("inuse").await;
    let mut first = run(&yaml(&db));
    streams(&mut first).await;
    let slot = format!("rowcast_{}", db.name);
    let pid = db.walsender(&slot).await;
    let more = format!("{CDC}  slot: {slot}\n  publication: {slot}\n");
    let other = |more: &str| yaml_at(&db, &place(&db), more).replacen(&db.name, "standby-daemon", 1);
    let mut second = run(&other(&format!("{more}  slot_in_use: wait\n")));
    let mut third = run(&other(&more));
    let used = format!("replication slot {slot} is in use by the server process {pid} (of `rowcast {}`)", db.name);
    refused(&mut third, &[&used, "`source.slot_in_use: wait`", &format!("pg_terminate_backend({pid})")]).await;
    let said = second.wait_for_log("waiting ", PATIENCE).await;
    assert!(said.contains(&used), "{said}");
    db.exec("insert into orders values (1)").await;
    sees(&first, &[1]).await;
    stops(&mut first).await;
    streams(&mut second).await;
    db.exec("insert into orders values (2)").await;
    sees(&second, &[2]).await;
}

/// What the database writes elsewhere must not be kept for us.
#[tokio::test]
async fn the_slot_of_an_idle_source_follows_the_servers_log() {
    let (db, other) = (shop("idle").await, shop("idle").await);
    db.exec("create schema elsewhere; create table elsewhere.t (id int)").await;
    let mut daemon = run(&yaml(&db));
    streams(&mut daemon).await;
    let reached = async |at: &str| {
        let sql = format!(
            "select confirmed_flush_lsn >= '{at}' from pg_replication_slots where slot_name = 'rowcast_{}'",
            db.name
        );
        becomes(&db, &sql, "t").await;
    };
    for (writes, sql) in
        [(&db, "insert into elsewhere.t values (1)"), (&other, "insert into orders select count(*) from orders")]
    {
        writes.exec(sql).await;
        reached(&writes.value("select pg_current_wal_insert_lsn()").await).await;
    }
    assert!(events(&daemon).is_empty());
    stops(&mut daemon).await;
}

#[tokio::test]
async fn a_look_aside_leaves_nothing_on_the_server() {
    let db = shop("aside").await;
    let left = "select (select count(*) from pg_replication_slots where database = current_database()) \
                || ' ' || (select count(*) from pg_publication)";
    for end in [Signal::SIGTERM, Signal::SIGINT] {
        let mut daemon =
            Daemon::command().file("source.yaml", &yaml(&db)).args(&["run", "source.yaml", "--to", "stdout"]).spawn();
        streams(&mut daemon).await;
        becomes(&db, left, "1 1").await;
        db.exec("insert into orders (id) select coalesce(max(id), 0) + 1 from orders").await;
        daemon.wait_for_log("\"op\":\"c\"", PATIENCE).await;
        daemon.signal(end);
        assert_eq!(daemon.wait(PATIENCE).await, 0);
        becomes(&db, left, "0 0").await;
    }
    // beside a production source, whose publication it borrows; killed, it leaves nothing either
    let mut production = run(&yaml(&db));
    streams(&mut production).await;
    let mut daemon =
        Daemon::command().file("source.yaml", &yaml(&db)).args(&["run", "source.yaml", "--to", "stdout"]).spawn();
    streams(&mut daemon).await;
    becomes(&db, left, "2 1").await;
    daemon.kill9();
    becomes(&db, left, "1 1").await;
}

/// The database moved: a dump loaded elsewhere, or what pg_upgrade made. Its log has other positions.
#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_is_a_gap_that_can_be_closed() {
    let db = shop("moved").await;
    let mut daemon = run(&yaml(&db));
    streams(&mut daemon).await;
    db.exec("insert into orders values (1)").await;
    sees(&daemon, &[1]).await;
    stops(&mut daemon).await;

    // of another major version, as after pg_upgrade
    let servers = private(&[SEVENTEEN]);
    let new = shop_on(&servers, "moved").await;
    new.exec("insert into orders values (1), (7)").await;
    // a slot with the right name doesn't make it the same log
    new.exec(&format!("select pg_create_logical_replication_slot('rowcast_{}', 'pgoutput')", db.name)).await;
    let moved = |on_gap: &str| {
        let text = yaml(&db).replace(&place(&db), &place(&new));
        text.replace(&format!("database: {}", db.name), &format!("database: {}", new.name)) + on_gap
    };
    daemon.write("source.yaml", &moved(""));
    let mark = again(&mut daemon);
    let id = async |db: &postgres::Db| db.value("select system_identifier from pg_control_system()").await;
    let (old_id, new_id) = (id(&db).await, id(&new).await);
    let parts =
        ["gap: ", &format!("system identifier {old_id}"), &new_id, "pg_upgrade", "point `source` at the old server"];
    refused_since(&mut daemon, mark, &parts).await;
    assert_eq!(new.value("select count(*) from pg_publication").await, "0", "nothing was changed there");
    sees(&daemon, &[1]).await;

    daemon.write("source.yaml", &moved("on_gap: backfill\n"));
    let mark = again(&mut daemon);
    daemon.wait_for_log_since(mark, "streaming behind a gap", PATIENCE).await;
    sees(&daemon, &[1, 1, 7]).await;
    assert_eq!(events(&daemon).iter().filter(|event| event["op"] == "t").count(), 1);
    new.exec("insert into orders values (8)").await;
    sees(&daemon, &[1, 1, 7, 8]).await;
    // from now on it is this one
    stops(&mut daemon).await;
    let mark = again(&mut daemon);
    daemon.wait_for_log_since(mark, "resumed from its checkpoint", PATIENCE).await;
}

/// Yesterday's files under today's checkpoint: slot and log are older than what was published.
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_database_is_a_gap() {
    let servers = private(&[]);
    let db = shop_on(&servers, "restored").await;
    let mut daemon = run(&yaml(&db));
    streams(&mut daemon).await;
    db.exec("insert into orders values (1)").await;
    sees(&daemon, &[1]).await;
    let data = servers.var("PG_DATA").to_owned();
    let copy = |from: &str, to: &str| {
        let done = std::process::Command::new("cp").args(["-a", from, to]).status().unwrap();
        assert!(done.success());
    };
    stops(&mut daemon).await;
    block_in_place(|| {
        servers.stop("pg");
        copy(&data, &format!("{data}.backup"));
        servers.start("pg");
    });
    let session = postgres::try_connect(db.port(), &db.name, "app", "apppw").await.unwrap();
    let mark = again(&mut daemon);
    streams_since(&mut daemon, mark).await;
    session.batch_execute("insert into orders values (2)").await.unwrap();
    sees(&daemon, &[1, 2]).await;
    stops(&mut daemon).await;
    block_in_place(|| {
        servers.stop("pg");
        std::fs::remove_dir_all(&data).unwrap();
        copy(&format!("{data}.backup"), &data);
        servers.start("pg");
    });
    let mark = again(&mut daemon);
    refused_since(&mut daemon, mark, &["gap: ", "the server's log ends at ", "before the checkpoint at ", "restored"])
        .await;
    sees(&daemon, &[1, 2]).await;
}

/// A walsender that isn't answered for four seconds ends; Kafka answers nothing for far longer.
#[tokio::test(flavor = "multi_thread")]
async fn the_connection_outlives_a_kafka_that_hangs() {
    let servers =
        block_in_place(|| Servers::private_with(&["pg", "kafka"], &[("ROWCAST_PG_CONF", "wal_sender_timeout=4s")]));
    let source = Source::Postgres(postgres::Db::create_on(&servers, "pause").await);
    source.create_table("orders", "id bigint primary key, note text").await;
    let yaml = source.yaml("*") + &format!("sink:\n  type: kafka\n  brokers: {}\nbackfill: never\n", servers.brokers());
    let mut daemon = Daemon::command().file("source.yaml", &yaml).args(&["run", "source.yaml"]).spawn();
    wait_until_streaming(&mut daemon).await;
    source.exec("insert into orders values (0)").await;
    let last = async |id: i64| {
        eventually(PATIENCE, "the last row", || async {
            let records = crate::support::kafka::read(servers.brokers(), &source.topic("orders"), true).await;
            let last = records.last().map(|record| record.key_str().to_owned());
            if last == Some(format!("{{\"id\":{id}}}")) { Ok(()) } else { Err(last) }
        })
        .await;
    };
    last(0).await;
    let walsender = "select active_pid from pg_replication_slots where active";
    let pid = source.query(walsender).await;
    let broker = Pid::from_raw(servers.pid("kafka"));
    kill(broker, Signal::SIGSTOP).unwrap();
    // more than the budget: the socket is full, and nobody reads it. What Kafka doesn't take for longer than a transaction may last
    // (15 s) ends the run, by our own choice; up to there the connection is the one that it was.
    let began = Instant::now();
    let mut rows = 0;
    while began.elapsed() < Duration::from_secs(20) {
        if rows < 5000 {
            source
                .exec(&format!(
                    "insert into orders select i, repeat('x', 10000) from generate_series({}, {}) i",
                    rows + 1,
                    rows + 500
                ))
                .await;
            rows += 500;
        }
        let now = source.query(walsender).await;
        assert!(now == pid || began.elapsed() > Duration::from_secs(8), "{}", daemon.logs());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    kill(broker, Signal::SIGCONT).unwrap();
    source.exec("insert into orders values (-1)").await;
    last(-1).await;
    let records = crate::support::kafka::read(servers.brokers(), &source.topic("orders"), true).await;
    assert_eq!(records.len(), rows + 2, "each row once");
    let log = std::fs::read_to_string(servers.dir.join("pg/log")).unwrap();
    assert!(!log.contains("replication timeout"), "{log}");
}

/// From PostgreSQL 16 on a standby decodes, with a slot of its own. (A copy of its primary's slot waits for the promotion.)
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_streamed_from_with_a_slot_of_its_own() {
    let primary = private(&[SEVENTEEN]);
    let db = shop_on(&primary, "standby").await;
    let port = primary.pg_port().to_string();
    let standby = private(&[SEVENTEEN, ("ROWCAST_PG_PRIMARY", &port)]);
    let there = format!("  host: 127.0.0.1\n  port: {}\n", standby.pg_port());
    let at_standby = |slot: &str| {
        let more = format!("{CDC}  slot: {slot}\n  publication: pub_{}\n", db.name);
        yaml_at(&db, &there, &more).replacen(&db.name, "reader", 1)
    };

    // what can't be created there
    let error =
        refused(&mut run(&at_standby("own")), &["the server is a standby", "on the primary: CREATE PUBLICATION"]).await;
    let statement = error.split("on the primary: ").nth(1).unwrap().rsplit_once(" source=").unwrap().0;
    db.exec(statement).await;

    // the primary's slot
    // of several hosts the primary is taken, though the standby comes first
    let hosts = format!("  host: \"127.0.0.1:{},127.0.0.1:{}\"\n", standby.pg_port(), primary.pg_port());
    let of_primary = yaml_at(&db, &hosts, &format!("{CDC}  publication: pub_{}\n", db.name));
    let mut on_primary = run(&of_primary);
    streams(&mut on_primary).await;
    let slot = format!("rowcast_{}", db.name);
    let session = postgres::try_connect(standby.pg_port(), "postgres", "app", "apppw").await.unwrap();
    let synced =
        format!("select count(*) from pg_replication_slots where slot_name = '{slot}' and synced and not temporary");
    eventually(PATIENCE, "the slot on the standby", || async {
        let found = postgres::query(&session, &synced).await;
        if found[0][0].as_deref() == Some("1") { Ok(()) } else { Err(found) }
    })
    .await;
    refused(
        &mut run(&at_standby(&slot)),
        &["is the standby's copy of its primary's slot", "before the standby is promoted"],
    )
    .await;

    let mut daemon = run(&at_standby("own"));
    daemon.wait_for_log("SELECT pg_log_standby_snapshot()", PATIENCE).await;
    eventually(PATIENCE, "the stream", || async {
        db.exec("select pg_log_standby_snapshot()").await;
        if daemon.stderr().contains("streaming: ") { Ok(()) } else { Err(daemon.stderr()) }
    })
    .await;
    db.exec("insert into orders values (1)").await;
    sees(&daemon, &[1]).await;
    sees(&on_primary, &[1]).await;
    stops(&mut daemon).await;
    db.exec("insert into orders values (2)").await;
    let mark = again(&mut daemon);
    daemon.wait_for_log_since(mark, "resumed from its checkpoint", PATIENCE).await;
    sees(&daemon, &[1, 2]).await;
    // the primary keeps what the standby's slot needs
    becomes(&db, "select catalog_xmin is not null from pg_replication_slots where slot_name = 'standby'", "t").await;
    stops(&mut on_primary).await;
    stops(&mut daemon).await;
}
