//! The servers answer, and the helpers that the other tests stand on work.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod support;

use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use support::daemon::Daemon;
use support::mysql::Kind;
use support::{Servers, eventually, kafka, mysql, postgres};

const TIMEOUT: Duration = Duration::from_secs(30);

fn row(values: &[Option<&str>]) -> Vec<Option<String>> {
    values.iter().map(|value| value.map(str::to_owned)).collect()
}

#[tokio::test]
async fn postgres_answers() {
    let name = {
        let db = postgres::Db::create("answers").await;
        db.exec("create table t (id int primary key, name text); insert into t values (1, 'one'), (2, null)").await;
        let rows = db.query("select id, name from t order by id").await;
        assert_eq!(rows, [row(&[Some("1"), Some("one")]), row(&[Some("2"), None])]);
        assert_eq!(db.value("show wal_level").await, "logical");
        let cdc = db.connect_as(support::env::CDC_USER, support::env::CDC_PASSWORD).await;
        assert_eq!(postgres::query(&cdc, "select count(*) from t").await, [row(&[Some("2")])]);
        // A slot does not keep its database.
        db.exec(&format!("select pg_create_logical_replication_slot('{}', 'pgoutput')", db.name)).await;
        db.name.clone()
    };
    let db = postgres::Db::create("after").await;
    assert_eq!(db.value(&format!("select count(*) from pg_database where datname = '{name}'")).await, "0");
    assert_eq!(db.value(&format!("select count(*) from pg_replication_slots where slot_name = '{name}'")).await, "0");
}

async fn mysql_or_mariadb_answers(kind: Kind) {
    let name = {
        let db = mysql::Db::create(kind, "answers").await;
        db.exec("create table t (id int primary key, name varchar(20)); insert into t values (1, 'one'), (2, null)")
            .await;
        let rows = db.query("select id, name from t order by id").await;
        assert_eq!(rows, [row(&[Some("1"), Some("one")]), row(&[Some("2"), None])]);
        let settings = db.query("select @@log_bin, @@binlog_format, @@binlog_row_image, @@binlog_row_metadata").await;
        assert_eq!(settings, [row(&[Some("1"), Some("ROW"), Some("FULL"), Some("FULL")])]);
        let mut cdc = db.connect_as(support::env::CDC_USER, support::env::CDC_PASSWORD).await;
        assert_eq!(mysql::query(&mut cdc, "select count(*) from t").await, [row(&[Some("2")])]);
        assert!(!mysql::query(&mut cdc, "show binary logs").await.is_empty());
        db.name.clone()
    };
    let db = mysql::Db::create(kind, "after").await;
    assert_eq!(
        db.value(&format!("select count(*) from information_schema.schemata where schema_name = '{name}'")).await,
        "0"
    );
}

#[tokio::test]
async fn mysql_answers() {
    mysql_or_mariadb_answers(Kind::Mysql).await;
}

#[tokio::test]
async fn mariadb_answers() {
    mysql_or_mariadb_answers(Kind::Mariadb).await;
}

#[tokio::test]
async fn kafka_keeps_transactions_apart() {
    let topic = kafka::unique_topic("transactions");
    assert!(kafka::read_committed(&topic).await.is_empty(), "a topic that doesn't exist is empty");
    kafka::create_topic(&topic, 2, &[("cleanup.policy", "compact")]).await;
    let (to, brokers) = (topic.clone(), support::env().brokers());
    tokio::task::spawn_blocking(move || {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("transactional.id", &to)
            .set("linger.ms", "1")
            .create()
            .unwrap();
        producer.init_transactions(TIMEOUT).unwrap();
        for (n, commit) in [(0, true), (1, false), (2, true)] {
            producer.begin_transaction().unwrap();
            for partition in 0..2 {
                let (key, value) = (format!("k{n}"), format!("{{\"n\":{n}}}"));
                let headers = OwnedHeaders::new().insert(Header { key: "id", value: Some("a") });
                producer
                    .send(BaseRecord::to(&to).partition(partition).key(&key).payload(&value).headers(headers))
                    .map_err(|(e, _)| e)
                    .unwrap();
            }
            if commit {
                producer.commit_transaction(TIMEOUT).unwrap();
            } else {
                // Else they would be purged from the queue, never having been on the broker.
                producer.flush(TIMEOUT).unwrap();
                producer.abort_transaction(TIMEOUT).unwrap();
            }
        }
    })
    .await
    .unwrap();
    // a commit is answered before its end is in each partition
    let committed = kafka::wait_for_records(&topic, 4).await;
    let seen: Vec<_> =
        committed.iter().map(|r| (r.partition, r.key_str(), r.json()["n"].as_i64(), r.header("id"))).collect();
    let id = Some("a");
    assert_eq!(seen, [(0, "k0", Some(0), id), (0, "k2", Some(2), id), (1, "k0", Some(0), id), (1, "k2", Some(2), id)]);
    assert_eq!(kafka::read_uncommitted(&topic).await.len(), 6);

    assert_eq!(kafka::topics(&topic).await, [topic.as_str()]);
    kafka::delete_topics(&[&topic, "no_such_topic"]).await;
    eventually(TIMEOUT, "the topic to go", || async {
        let topics = kafka::topics(&topic).await;
        if topics.is_empty() { Ok(()) } else { Err(topics) }
    })
    .await;
}

/// Servers of a test's own survive a kill with their data, on the same port.
#[tokio::test]
async fn private_servers_restart() {
    let servers = Servers::private(&["pg", "mariadb"]);
    assert_ne!(servers.pg_port(), support::env().pg_port());
    let pg = postgres::Db::create_on(&servers, "kept").await;
    let maria = mysql::Db::create_on(&servers, Kind::Mariadb, "kept").await;
    pg.exec("create table t as select 7 as n").await;
    maria.exec("create table t as select 7 as n").await;
    servers.kill("pg");
    servers.start("pg");
    servers.restart("mariadb");
    assert_eq!(postgres::query(&pg.connect().await, "select n from t").await, [row(&[Some("7")])]);
    assert_eq!(mysql::query(&mut maria.connect().await, "select n from t").await, [row(&[Some("7")])]);
}

#[tokio::test]
async fn the_daemon_is_a_process() {
    let (code, stdout, stderr) = Daemon::command().arg("--version").output(TIMEOUT).await;
    assert_eq!(code, 0, "{stdout}{stderr}");
}
