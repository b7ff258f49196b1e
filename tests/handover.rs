//! A source begins where Debezium stopped (`rowcast import debezium --offsets`): exactly the rows behind its offset arrive, also if that lies
//! inside a transaction, and while others write. tests/debezium/offsets has offsets of the real one; here they are made of what the servers say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value as Json, json};
use support::daemon::Daemon;
use support::source::{Kind, PATIENCE, Source, Writer};

/// Connect's file with one offset.
fn offset_file(prefix: &str, offset: &Json) -> Vec<u8> {
    let mut bytes = b"\xac\xed\x00\x05sr\x00\x11java.util.HashMap\x05\x07\xda\xc1\xc3\x16`\xd1\x03\x00\x02F\x00\x0aloadFactorI\x00\x09thresholdxp".to_vec();
    bytes.extend_from_slice(b"?@\0\0\0\0\0\x0cw\x08\0\0\0\x10\0\0\0\x01");
    let texts = [format!("[\"{prefix}\",{{\"server\":\"{prefix}\"}}]"), offset.to_string()];
    for (text, class) in
        texts.iter().zip([&b"ur\x00\x02[B\xac\xf3\x17\xf8\x06\x08T\xe0\x02\x00\x00xp"[..], b"uq\x00\x7e\x00\x02"])
    {
        bytes.extend_from_slice(class);
        bytes.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes.push(b'x');
    bytes
}

/// The line `start_at` that the import makes of an offset.
async fn start_at(source: &Source, offset: &Json) -> String {
    let (class, database) = match source.kind() {
        Kind::Postgres => ("postgresql.PostgresConnector", "database.dbname"),
        Kind::Mysql => ("mysql.MySqlConnector", "database.include.list"),
        Kind::Mariadb => ("mariadb.MariaDbConnector", "database.include.list"),
    };
    let name = source.name();
    let connector =
        json!({"connector.class": format!("io.debezium.connector.{class}"), "topic.prefix": name, (database): name});
    let command = Daemon::command().file("connector.json", &connector.to_string());
    std::fs::write(command.dir().join("offsets.dat"), offset_file(name, offset)).unwrap();
    let command = command.args(&["import", "debezium", "connector.json", "--offsets", "offsets.dat"]);
    let (code, out, error) = command.output(PATIENCE).await;
    assert_eq!(code, 0, "{error}");
    assert!(out.contains("mode: never"), "{out}");
    out.lines().find(|line| line.trim().starts_with("start_at: ")).unwrap().trim().to_owned()
}

async fn one(source: &Source, sql: &str) -> String {
    source.query(sql).await[0][0].clone().unwrap().replace('\n', "")
}

/// Rows that the traffic has at least.
const LEAST: u32 = 50;

/// Writes rows of the table `t` from 1000 on, one a transaction, until it is told to stop and has written some; gives back how many.
fn traffic(source: Arc<Source>, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<u32> {
    tokio::spawn(async move {
        let mut writer = Writer::of(&source).await;
        let mut count = 0;
        while !stop.load(Ordering::Relaxed) || count < LEAST {
            writer.run(&format!("insert into t values ({}, 0)", 1000 + count)).await;
            count += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        count
    })
}

/// Operation and id of each event of `t`.
async fn seen(source: &Source) -> Vec<(String, i64)> {
    let of = |event: &Json| {
        let image = if event["after"].is_null() { &event["before"] } else { &event["after"] };
        (event["op"].as_str().unwrap().to_owned(), image["id"].as_i64().unwrap())
    };
    source.events("t").await.iter().map(of).collect()
}

/// Begins at the offset, in mid-traffic, killed twice; then `behind` and the rows of the traffic have arrived, each once and in order.
async fn hands_over(
    source: Arc<Source>,
    offset: Json,
    behind: &[(&str, i64)],
    stop: Arc<AtomicBool>,
    writing: tokio::task::JoinHandle<u32>,
) {
    let line = start_at(&source, &offset).await;
    let config =
        "backfill: never\nformat: debezium\ndebezium: {key_schemas_enable: false, value_schemas_enable: false}\n";
    let yaml = source.to_kafka_yaml("*", config).replacen("  user: cdc\n", &format!("  user: cdc\n  {line}\n"), 1);
    let mut daemon = Daemon::command().file("source.yaml", &yaml).args(&["run", "source.yaml"]).spawn();
    for _ in 0..2 {
        let mark = daemon.mark();
        tokio::time::sleep(Duration::from_millis(700)).await;
        daemon.kill9();
        daemon.start();
        daemon.wait_for_log_since(mark, "streaming: ", PATIENCE).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    stop.store(true, Ordering::Relaxed);
    let written = writing.await.unwrap();
    let expected: Vec<(String, i64)> = behind
        .iter()
        .map(|(op, id)| ((*op).to_owned(), *id))
        .chain((0..written).map(|it| ("c".to_owned(), i64::from(1000 + it))))
        .collect();
    let found = support::eventually(PATIENCE, "the rows behind the offset", || async {
        let found = seen(&source).await;
        if found.len() >= expected.len() { Ok(found) } else { Err(format!("{} of {}", found.len(), expected.len())) }
    })
    .await;
    // between keys there is no order
    let (mut found, mut expected) = (found, expected);
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    assert!(written >= LEAST, "{written}");
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_goes_on_behind_the_row_where_the_connector_stopped() {
    let source = Source::create(Kind::Mysql, "handover").await;
    source.create_table("t", "id bigint primary key, a int").await;
    source.create_table("aside", "id bigint primary key, a int").await;
    source.exec("insert into t values (1, 0), (2, 0)").await;
    let mut writer = Writer::of(&source).await;
    let statements = [
        "insert into t values (10, 0), (11, 0)",
        "update t set a = 1 where id = 10",
        "insert into aside values (1, 0)",
        "insert into t values (12, 0), (13, 0), (14, 0)",
        "delete from t where id = 11",
    ];
    // an offset has all transactions before this one, also those of other tests: until none came between
    let before = loop {
        writer.run("delete from t where id >= 10; delete from aside").await;
        let before = one(&source, "select @@global.gtid_executed").await;
        writer.transaction(&statements.map(str::to_owned)).await;
        let between = one(&source, &format!("select gtid_subtract(@@global.gtid_executed, '{before}')")).await;
        // `uuid:7`, not `uuid:7-8` or `uuid:7:9`
        let numbers = between.split_once(':').map(|(_, numbers)| numbers);
        if numbers.is_some_and(|numbers| numbers.bytes().all(|byte| byte.is_ascii_digit())) {
            break before;
        }
    };
    let stop = Arc::new(AtomicBool::new(false));
    let source = Arc::new(source);
    let writing = traffic(Arc::clone(&source), Arc::clone(&stop));
    // BEGIN, then a TABLE_MAP and the rows of each statement: those of the fourth are the eighth behind BEGIN, and two of them are out
    let offset = json!({"file": "binlog.000001", "pos": 4, "gtids": before, "event": 8, "row": 2, "server_id": 1});
    let behind = [("c", 14), ("d", 11)];
    hands_over(source, offset, &behind, stop, writing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_and_mariadb_go_on_between_transactions() {
    for (kind, gtids) in
        [(Kind::Mysql, "select @@global.gtid_executed"), (Kind::Mariadb, "select @@global.gtid_binlog_pos")]
    {
        let source = Source::create(kind, "handover").await;
        source.create_table("t", "id bigint primary key, a int").await;
        source.exec("insert into t values (1, 0), (2, 0)").await;
        let before = one(&source, gtids).await;
        source.exec("update t set a = 1 where id = 2").await;
        let stop = Arc::new(AtomicBool::new(false));
        let source = Arc::new(source);
        let writing = traffic(Arc::clone(&source), Arc::clone(&stop));
        let offset = json!({"file": "binlog.000001", "pos": 4, "gtids": before});
        hands_over(source, offset, &[("u", 2)], stop, writing).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_goes_on_behind_the_row_where_the_connector_stopped() {
    let source = Source::create(Kind::Postgres, "handover").await;
    source.create_table("t", "id bigint primary key, a int").await;
    source.create_table("places", "at text primary key, xid text").await;
    let name = source.name().replace('-', "_");
    source
        .exec(&format!(
            "create publication rowcast_{name} for table t, places; alter publication rowcast_{name} owner to cdc"
        ))
        .await;
    source.query(&format!("select pg_create_logical_replication_slot('rowcast_{name}', 'pgoutput')")).await;
    source.exec("insert into t values (1, 0), (2, 0)").await;
    // what another session has begun before, and commits later, isn't published, though it stands before
    let mut other = Writer::of(&source).await;
    other.run("begin; insert into t values (20, 0)").await;
    let number = |text: String| {
        let (high, low) = text.split_once('/').unwrap();
        (u64::from_str_radix(high, 16).unwrap() << 32) | u64::from_str_radix(low, 16).unwrap()
    };
    source.exec("insert into t values (3, 0)").await;
    let commit = number(one(&source, "select pg_current_wal_insert_lsn()::text").await);
    let mut writer = Writer::of(&source).await;
    let place = "insert into places select pg_current_wal_insert_lsn()::text, pg_current_xact_id()::text";
    let statements = [
        "insert into t values (10, 0), (11, 0)",
        place,
        "update t set a = 1 where id = 10",
        "delete from t where id = 11",
    ];
    writer.transaction(&statements.map(str::to_owned)).await;
    other.run("insert into t values (21, 0); commit").await;
    let rows = source.query("select at, xid from places").await;
    let (at, xid) = (number(rows[0][0].clone().unwrap()), rows[0][1].clone().unwrap().parse::<u64>().unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    let source = Arc::new(source);
    let writing = traffic(Arc::clone(&source), Arc::clone(&stop));
    let offset = json!({"lsn_proc": at - 1, "messageType": "INSERT", "lsn_commit": commit, "lsn": at - 1, "txId": xid, "ts_usec": 1});
    let behind = [("u", 10), ("d", 11), ("c", 20), ("c", 21)];
    hands_over(source, offset, &behind, stop, writing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_goes_before_the_place_to_begin_at() {
    let source = Source::create(Kind::Mysql, "handover").await;
    source.create_table("t", "id bigint primary key, a int").await;
    let before = one(&source, "select @@global.gtid_executed").await;
    source.exec("insert into t values (1, 0)").await;
    let mut daemon = source.to_kafka_with("backfill: never\n").spawn();
    support::source::wait_until_streaming(&mut daemon).await;
    source.exec("insert into t values (2, 0)").await;
    source.wait_for_events("t", 1).await;
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
    let yaml = source.to_kafka_yaml("*", "backfill: never\n");
    daemon
        .write("source.yaml", &yaml.replacen("  user: cdc\n", &format!("  user: cdc\n  start_at: \"{before}\"\n"), 1));
    daemon.start();
    source.exec("insert into t values (3, 0)").await;
    source.wait_for_events("t", 2).await;
    assert_eq!(seen(&source).await, [("c".to_owned(), 2), ("c".to_owned(), 3)]);
    assert!(daemon.logs().contains("`source.start_at` isn't used"), "{}", daemon.logs());
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
}
