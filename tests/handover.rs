//! A source begins where Debezium stopped (`rowcast import debezium --offsets`): exactly the rows behind its offset arrive, also if that lies
//! inside a transaction, and while others write. tests/debezium/offsets has offsets of the real one; here they are made of what the servers say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::producer::Producer;
use serde_json::{Value as Json, json};
use support::daemon::Daemon;
use support::source::{Kind, PATIENCE, Source, Writer};
use support::{Servers, env, kafka};

/// Connect's file with one offset.
fn offset_file(prefix: &str, offset: &Json) -> Vec<u8> {
    let mut bytes = b"\xac\xed\x00\x05sr\x00\x11java.util.HashMap\x05\x07\xda\xc1\xc3\x16`\xd1\x03\x00\x02F\x00\x0aloadFactorI\x00\x09thresholdxp".to_vec();
    bytes.extend_from_slice(b"?@\0\0\0\0\0\x0cw\x08\0\0\0\x10\0\0\0\x01");
    let texts = [key_of(prefix), offset.to_string()];
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

/// Connect's key of a connector's offset.
fn key_of(prefix: &str) -> String {
    format!("[\"{prefix}\",{{\"server\":\"{prefix}\"}}]")
}

/// A topic as Connect makes it for offsets (with 25 partitions), and what is in it: another connector's, one that isn't Debezium's, what was aborted, and old ones.
async fn offsets_topic(prefix: &str, offset: &Json) -> String {
    let topic = support::unique("connect-offsets");
    kafka::create_topic(&topic, 8, &[("cleanup.policy", "compact")]).await;
    let (own, key) = (topic.clone(), key_of(prefix));
    let offset = offset.to_string();
    tokio::task::spawn_blocking(move || {
        let mirror: Vec<String> = (0..500)
            .map(|it| format!("[\"mirror\",{{\"cluster\":\"a\",\"partition\":{it},\"topic\":\"t\"}}]"))
            .collect();
        let others: Vec<_> =
            (0..).zip(&mirror).map(|(it, key)| (it % 8, key.as_str(), Some("{\"offset\":1}"))).collect();
        kafka::write(&own, &others, None);
        let stale = Some("{\"file\":\"stale\"}");
        let records = [
            (7, key.as_str(), stale),
            (7, &key_of("another"), stale),
            (7, &key, Some(&offset)),
            (3, &key_of("gone"), stale),
            (3, &key_of("gone"), None),
        ];
        kafka::write(&own, &records, None);
        let producer = kafka::write(&own, &[(7, key.as_str(), stale), (7, &key, None)], Some(&format!("{own}-aborts")));
        producer.abort_transaction(PATIENCE).unwrap();
    })
    .await
    .unwrap();
    topic
}

/// The line `start_at` that the import makes of an offset: in a file, or MariaDB's in a topic.
async fn start_at(source: &Source, offset: &Json, queries: bool) -> String {
    let (class, database) = match source.kind() {
        Kind::Postgres => ("postgresql.PostgresConnector", "database.dbname"),
        Kind::Mysql => ("mysql.MySqlConnector", "database.include.list"),
        Kind::Mariadb => ("mariadb.MariaDbConnector", "database.include.list"),
    };
    let name = source.name();
    let class = format!("io.debezium.connector.{class}");
    let connector =
        json!({"connector.class": class, "topic.prefix": name, (database): name, "include.query": queries.to_string()});
    let command = Daemon::command().file("connector.json", &connector.to_string()).args(&[
        "import",
        "debezium",
        "connector.json",
    ]);
    let command = if source.kind() == Kind::Mariadb {
        let topic = offsets_topic(name, offset).await;
        command.args(&["--offsets-topic", &topic, "--brokers", env().brokers()])
    } else {
        std::fs::write(command.dir().join("offsets.dat"), offset_file(name, offset)).unwrap();
        command.args(&["--offsets", "offsets.dat"])
    };
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
    hands_over_queries((false, false), source, offset, behind, stop, writing).await;
}

/// The same: whether the connector has been sent the texts of statements, and whether we are.
async fn hands_over_queries(
    (theirs, ours): (bool, bool),
    source: Arc<Source>,
    offset: Json,
    behind: &[(&str, i64)],
    stop: Arc<AtomicBool>,
    writing: tokio::task::JoinHandle<u32>,
) {
    let mut line = start_at(&source, &offset, theirs).await;
    if ours {
        line.push_str("\n  include_query: true");
    }
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

/// A transaction that a connector stops in.
const STATEMENTS: [&str; 5] = [
    "insert into t values (10, 0), (11, 0)",
    "update t set a = 1 where id = 10",
    "insert into aside values (1, 0)",
    "insert into t values (12, 0), (13, 0), (14, 0)",
    "delete from t where id = 11",
];
/// BEGIN, then a TABLE_MAP and the rows of each statement: those of the fourth are the eighth behind BEGIN, and two of them are out.
const STOPPED: (u64, u64) = (8, 2);
/// What of it is behind that.
const BEHIND: [(&str, i64); 2] = [("c", 14), ("d", 11)];

async fn create_tables(source: &Source) {
    source.create_table("t", "id bigint primary key, a int").await;
    source.create_table("aside", "id bigint primary key, a int").await;
    source.exec("insert into t values (1, 0), (2, 0)").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_goes_on_behind_the_row_where_the_connector_stopped() {
    let source = Source::create(Kind::Mysql, "handover").await;
    create_tables(&source).await;
    let mut writer = Writer::of(&source).await;
    // an offset has all transactions before this one, also those of other tests: until none came between
    let before = loop {
        writer.run("delete from t where id >= 10; delete from aside").await;
        let before = one(&source, "select @@global.gtid_executed").await;
        writer.transaction(&STATEMENTS.map(str::to_owned)).await;
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
    let (event, row) = STOPPED;
    let offset =
        json!({"file": "binlog.000001", "pos": 4, "gtids": before, "event": event, "row": row, "server_id": 1});
    hands_over(source, offset, &BEHIND, stop, writing).await;
}

/// A server of its own without GTIDs, with the tables, and the end of its log: file and offset.
async fn without_gtids() -> (Servers, Source, String, String) {
    let off = [("ROWCAST_MYSQL_CONF", "--gtid-mode=OFF --enforce-gtid-consistency=OFF")];
    let servers = tokio::task::block_in_place(|| Servers::private_with(&["mysql"], &off));
    let source = Source::create_on(&servers, Kind::Mysql, "handover").await;
    create_tables(&source).await;
    let end = source.query("show binary log status").await.remove(0);
    let (file, end) = (end[0].clone().unwrap(), end[1].clone().unwrap());
    (servers, source, file, end)
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_without_gtids_goes_on_behind_the_row_where_the_connector_stopped() {
    let (_servers, source, file, end) = without_gtids().await;
    let mut writer = Writer::of(&source).await;
    writer.transaction(&STATEMENTS.map(str::to_owned)).await;
    let events = source.query(&format!("show binlog events in '{file}' from {end} limit 2")).await;
    assert_eq!((events[0][2].as_deref(), events[1][5].as_deref()), (Some("Anonymous_Gtid"), Some("BEGIN")));
    let begin: u64 = events[1][1].as_deref().unwrap().parse().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let source = Arc::new(source);
    let writing = traffic(Arc::clone(&source), Arc::clone(&stop));
    let (event, row) = STOPPED;
    // as the original's are: {"file":"binlog.000001","pos":926,"row":14,"server_id":32069,"event":20}
    let offset = json!({"file": file, "pos": begin, "event": event, "row": row, "server_id": 1, "ts_sec": 1});
    hands_over(source, offset, &BEHIND, stop, writing).await;
}

/// A place that is none to begin at, and one that another server would have, are refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_place_inside_of_a_transaction_is_refused() {
    let (_servers, source, file, end) = without_gtids().await;
    let mut writer = Writer::of(&source).await;
    writer.transaction(&STATEMENTS.map(str::to_owned)).await;
    let events = source.query(&format!("show binlog events in '{file}' from {end} limit 4")).await;
    let place = |index: usize| format!("{file}:{}", events[index][1].as_deref().unwrap());
    let begin: u64 = events[1][1].as_deref().unwrap().parse().unwrap();
    assert_eq!(events[2][2].as_deref(), Some("Table_map"));
    for (at, parts) in [
        (place(2), &["where Table_map stands", "repair: the place of a BEGIN"][..]),
        (format!("{}1", place(1)), &["has ", "bytes"]),
        (format!("{file}:{}", begin + 1), &["the server finds no event"]),
        ("other.000001:4".to_owned(), &["gap: ", "no other.000001 any more"]),
    ] {
        let yaml = source.to_kafka_yaml("*", "backfill: never\n");
        let yaml = yaml.replacen("  user: cdc\n", &format!("  user: cdc\n  start_at: {at}\n"), 1);
        let mut daemon = Daemon::command().file("source.yaml", &yaml).args(&["run", "source.yaml"]).spawn();
        let said = daemon.wait_for_log("stopped: ", PATIENCE).await;
        for part in parts {
            assert!(said.contains(part), "no `{part}` in: {said}");
        }
        assert_eq!(daemon.wait(PATIENCE).await, 1);
    }
    assert_eq!(seen(&source).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_goes_on_behind_the_row_where_the_connector_stopped() {
    // whether the connector was sent the texts of statements, which are events then, and whether we are
    for queries in [(false, false), (true, false), (false, true), (true, true)] {
        let source = Source::create(Kind::Mariadb, "handover").await;
        create_tables(&source).await;
        let mut writer = Writer::of(&source).await;
        let number = |gtid: &str| gtid.rsplit('-').next().unwrap().parse::<u64>().unwrap();
        let before = loop {
            writer.run("delete from t where id >= 10; delete from aside").await;
            let before = one(&source, "select @@global.gtid_binlog_pos").await;
            writer.transaction(&STATEMENTS.map(str::to_owned)).await;
            if number(&one(&source, "select @@global.gtid_binlog_pos").await) == number(&before) + 1 {
                break before;
            }
        };
        let stop = Arc::new(AtomicBool::new(false));
        let source = Arc::new(source);
        let writing = traffic(Arc::clone(&source), Arc::clone(&stop));
        let (event, row) = STOPPED;
        // a text before each of the four TABLE_MAPs
        let event = event + if queries.0 { 4 } else { 0 };
        let offset = json!({"file": "binlog.000001", "pos": 4, "gtids": before, "event": event, "row": row});
        hands_over_queries(queries, source, offset, &BEHIND, stop, writing).await;
    }
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

/// What `import` ends with for a PostgreSQL connector of this prefix: code, file, and what it says.
async fn imports(prefix: &str, args: &[&str], kafka_config: &str) -> (i32, String, String) {
    let connector =
        json!({"connector.class": "io.debezium.connector.postgresql.PostgresConnector", "topic.prefix": prefix});
    let command =
        Daemon::command().file("connector.json", &connector.to_string()).file("kafka.properties", kafka_config);
    command.args(&["import", "debezium", "connector.json"]).args(args).output(PATIENCE).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_topic_of_offsets_lacks_is_said() {
    let offset = json!({"lsn": 256, "lsn_commit": 256, "messageType": "COMMIT"});
    let topic = offsets_topic("shop", &offset).await;
    let of_topic = ["--offsets-topic", &topic, "--brokers", env().brokers()];
    let secure = [&of_topic[..], &["--kafka-config", "kafka.properties"]].concat();
    let (code, yaml, said) = imports("shop", &secure, "# of the connection\nsecurity.protocol = plaintext\n").await;
    assert_eq!(code, 0, "{said}");
    assert!(yaml.contains("start_at: 0/100\n"), "{yaml}");
    let near = format!("{}-not", &topic);
    for (prefix, args, config, code, parts) in [
        (
            "other",
            &of_topic[..],
            "",
            2,
            vec!["no offset of a connector whose `topic.prefix` is `other`", "those of another, gone, shop"],
        ),
        ("gone", &of_topic, "", 2, vec!["`gone` was removed"]),
        (
            "shop",
            &["--offsets-topic", &near, "--brokers", env().brokers()],
            "",
            1,
            vec!["no topic", &near, "there are ", "connect-offsets"],
        ),
        (
            "shop",
            &["--offsets-topic", &topic, "--brokers", "127.0.0.1:1"],
            "",
            1,
            vec!["can't reach 127.0.0.1:1", "repair: check `--brokers`"],
        ),
        ("shop", &secure, "group.id=x\n", 1, vec!["`group.id`", "the file of `--kafka-config`"]),
        ("shop", &secure, "ssl.truststore.location=x\n", 1, vec!["`ssl.truststore.location`", "`ssl.ca.location`"]),
        ("shop", &["--offsets-topic", &topic], "", 2, vec!["--brokers"]),
        ("shop", &[&of_topic[..], &["--offsets", "x"]].concat(), "", 2, vec!["cannot be used with"]),
    ] {
        let (found, yaml, said) = imports(prefix, args, config).await;
        assert_eq!(found, code, "{args:?}: {said}");
        assert_eq!(yaml, "", "{args:?}");
        for part in parts {
            assert!(said.contains(part), "no `{part}` in: {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_in_an_open_transaction_is_waited_for() {
    let old = json!({"lsn": 256, "lsn_commit": 256, "messageType": "COMMIT"});
    let topic = offsets_topic("shop", &old).await;
    let (own, new) = (topic.clone(), r#"{"lsn":512,"lsn_commit":512,"messageType":"COMMIT"}"#);
    let write = move || kafka::write(&own, &[(7, key_of("shop").as_str(), Some(new))], Some(&format!("{own}-commits")));
    let producer = tokio::task::spawn_blocking(write).await.unwrap();
    let importing =
        tokio::spawn(
            async move { imports("shop", &["--offsets-topic", &topic, "--brokers", env().brokers()], "").await },
        );
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!importing.is_finished());
    tokio::task::spawn_blocking(move || producer.commit_transaction(PATIENCE).unwrap()).await.unwrap();
    let (code, yaml, said) = importing.await.unwrap();
    assert_eq!(code, 0, "{said}");
    assert!(yaml.contains("start_at: 0/200\n"), "{yaml}");
}
