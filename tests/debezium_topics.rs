//! The topics of `format: debezium` that aren't a table's: statements that change tables, and heartbeats. What is in a statement's record is compared
//! with the original in tests/debezium.rs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod support;

use std::time::Duration;

use serde_json::{Value as Json, json};
use support::kafka::{self, Record, wait_for_records};
use support::source::{Kind, PATIENCE, Source, wait_until_streaming};

const BINLOG: [Kind; 2] = [Kind::Mysql, Kind::Mariadb];

/// What a statement's record says of a table: its kind, which table, and the names of its columns.
fn told(record: &Record) -> Vec<Json> {
    let value = record.json();
    assert_eq!((record.partition, &value["schemaName"]), (0, &Json::Null));
    assert_eq!(record.key_json()["databaseName"], value["databaseName"]);
    let columns = |change: &Json| -> Json {
        let columns = change["table"]["columns"].as_array();
        columns.map_or(Json::Null, |all| all.iter().map(|column| column["name"].clone()).collect())
    };
    let changes = value["tableChanges"].as_array().unwrap();
    changes.iter().map(|change| json!([change["type"], change["id"], columns(change)])).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_about_captured_tables_are_published_once_and_in_order() {
    for kind in BINLOG {
        let source = Source::create(kind, "dbztopics").await;
        let db = source.name().to_owned();
        source.create_table("t", "id int primary key, a int").await;
        let more =
            "backfill: never\nformat: debezium\ndebezium: {key_schemas_enable: false, value_schemas_enable: false}\n";
        let yaml = source.to_kafka_yaml("*", more).replace(".*\"]", &format!(".*\", \"!{db}.aside\"]"));
        let command = support::daemon::Daemon::command().file("source.yaml", &yaml).args(&["run", "source.yaml"]);
        let mut daemon = command.spawn();
        wait_until_streaming(&mut daemon).await;
        for statement in [
            "create table aside (id int primary key)".to_owned(),
            "create table u (id int primary key, b varchar(5))".to_owned(),
            "create view v as select 1 as one".to_owned(),
            "create temporary table tmp (id int)".to_owned(),
            format!("create database {db}_other"),
            format!("create table {db}_other.t (id int primary key)"),
            format!("drop database {db}_other"),
            "alter table t add b int".to_owned(),
            "insert into t values (1, 1, 1)".to_owned(),
        ] {
            source.exec(&statement).await;
        }
        let first = wait_for_records(&db, 2).await;
        source.wait_for_events("t", 1).await;
        let id = |table: &str| format!("\"{db}\".\"{table}\"");
        assert_eq!(told(&first[0]), [json!(["CREATE", id("u"), ["id", "b"]])]);
        assert_eq!(told(&first[1]), [json!(["ALTER", id("t"), ["id", "a", "b"]])]);

        // killed and started again, nothing is told twice
        daemon.kill9();
        source.exec("drop table u, aside").await;
        source.exec("create index by_a on t (a)").await;
        source.exec("create table copied (primary key (id)) as select * from t").await;
        source.exec("alter table t add c int").await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        // by the time that the stream meets the statement before, the catalog has this one's columns
        source.exec("alter table t add d int, algorithm=copy").await;
        daemon.start();
        let all = wait_for_records(&db, 7).await;
        source.exec("insert into t (id) values (2)").await;
        source.wait_for_events("t", 2).await;
        assert_eq!(kafka::read_committed(&db).await.len(), 7, "{:?}", all.iter().map(told).collect::<Vec<_>>());
        let drop = all[2].json();
        assert_eq!(told(&all[2]), [json!(["DROP", id("u"), null])]);
        assert_eq!(drop["ddl"], format!("DROP TABLE `{db}`.`u`"));
        assert_eq!((told(&all[3]), &all[3].json()["source"]["table"]), (Vec::new(), &json!("")));
        assert_eq!(told(&all[4]), [json!(["CREATE", id("copied"), ["id", "a", "b"]])]);
        assert_eq!(told(&all[5]), [json!(["ALTER", id("t"), null])]);
        assert_eq!(told(&all[6]), [json!(["ALTER", id("t"), ["id", "a", "b", "c", "d"]])]);
        assert_eq!(source.events("copied").await.len(), 1);
        assert_eq!(daemon.shutdown(PATIENCE).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_are_left_out_if_they_are_not_wanted() {
    let source = Source::create(Kind::Mysql, "dbztopics").await;
    source.create_table("t", "id int primary key").await;
    let more = "backfill: never\nformat: debezium\ndebezium: {include_schema_changes: false}\n";
    let mut daemon = source.to_kafka_with(more).spawn();
    wait_until_streaming(&mut daemon).await;
    source.exec("alter table t add a int").await;
    source.exec("insert into t values (1, 1)").await;
    source.wait_for_events("t", 1).await;
    assert!(!kafka::topics(source.name()).await.contains(&source.name().to_owned()));
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_go_out_while_nothing_changes_and_only_if_they_are_asked_for() {
    for kind in Kind::ALL {
        let source = Source::create(kind, "dbzbeats").await;
        source.create_table("t", "id int primary key").await;
        let name = source.name().to_owned();
        let with = |interval: u32| {
            format!(
                "backfill: never\nformat: debezium\ndebezium:\n  heartbeat_interval_ms: {interval}\n  key_schemas_enable: false\n"
            )
        };
        let topic = format!("__debezium-heartbeat.{name}");
        let mut daemon = source.to_kafka_with(&with(0)).spawn();
        wait_until_streaming(&mut daemon).await;
        source.exec("insert into t values (1)").await;
        source.wait_for_events("t", 1).await;
        assert!(!kafka::topics(&topic).await.contains(&topic));
        assert_eq!(daemon.shutdown(PATIENCE).await, 0);

        daemon.write("source.yaml", &source.to_kafka_yaml("*", &with(300)));
        daemon.start();
        let beats = wait_for_records(&topic, 4).await;
        for record in &beats {
            assert_eq!((record.partition, record.key_json()), (0, json!({"serverName": name})));
            assert!(record.headers.is_empty());
            let value = record.json();
            assert_eq!(value["schema"]["name"], "io.debezium.connector.common.Heartbeat");
            assert_eq!(value["payload"].as_object().unwrap().len(), 1);
        }
        let at: Vec<i64> = beats.iter().map(|record| record.json()["payload"]["ts_ms"].as_i64().unwrap()).collect();
        assert!(at.windows(2).all(|two| two[1] - two[0] >= 290), "{at:?}");
        // beside changes, too, and no more often
        source.exec("insert into t values (2)").await;
        source.wait_for_events("t", 2).await;
        assert_eq!(daemon.shutdown(PATIENCE).await, 0);
    }
}
