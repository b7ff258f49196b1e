//! Debezium's JDBC sink, fed with our topics through Connect's JsonConverter with schemas, keeps tables in PostgreSQL that it makes from our schemas.

use serde_json::json;

use crate::support::connect::ask;
use crate::support::env::{APP_PASSWORD, APP_USER};
use crate::support::eventually;
use crate::support::source::{Kind, Source};
use crate::{Captured, assert_same, connect, text_rows};

/// Connect starts its task, which makes the tables, on a busy machine.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(240);

#[tokio::test]
async fn the_jdbc_sink_keeps_copies_of_the_tables() {
    let servers = connect();
    let brokers = servers.brokers();
    let mut all = Vec::new();
    for kind in Kind::ALL {
        all.push(Captured::start(kind, brokers, "").await);
    }
    let target = Source::create(Kind::Postgres, "copies").await;
    let topics: Vec<String> = all.iter().map(Captured::topic).collect();
    let config = json!({
        "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
        "tasks.max": "1",
        "connection.url": format!("jdbc:postgresql://127.0.0.1:{}/{}", target.port(), target.name()),
        "connection.username": APP_USER,
        "connection.password": APP_PASSWORD,
        "insert.mode": "upsert",
        "delete.enabled": "true",
        "primary.key.mode": "record_key",
        "schema.evolution": "basic",
        "use.time.zone": "UTC",
        "topics": topics.join(","),
        "key.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "consumer.override.isolation.level": "read_committed",
        "consumer.override.auto.offset.reset": "earliest",
    });
    let (code, body) = ask(&servers, "PUT", "/connectors/copies/config", Some(&config)).await;
    assert!(code < 300, "Connect refused it: {code} {body}");
    for captured in &all {
        captured.change(brokers).await;
    }
    for captured in &all {
        let table = captured.topic().replace('.', "_");
        let expected = captured.rows().await;
        eventually(PATIENCE, &format!("the last row in {table}"), || async {
            let (_, status) = ask(&servers, "GET", "/connectors/copies/status", None).await;
            assert!(!status.contains("FAILED"), "{status}");
            let there = target.query(&format!("select to_regclass('{table}')")).await[0][0].is_some();
            if !there {
                return Err("no table".to_owned());
            }
            match text_rows(&target, &table).await {
                rows if rows.iter().any(|row| row.starts_with("999|")) => Ok(()),
                rows => Err(format!("{} rows", rows.len())),
            }
        })
        .await;
        assert_same(&table, &expected, &text_rows(&target, &table).await);
    }
}
