//! Flink's tables over our topics: `debezium-json` applied to all records is the database's table.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::env;
use crate::support::env::flink;
use crate::support::source::Kind;
use crate::{Captured, assert_same};

/// Seconds: the JVM compiles the program and the query, on a busy machine.
const PATIENCE: &str = "240";

async fn fold(options: &str, format: &str) {
    let brokers = env().brokers();
    let mut all = Vec::new();
    for kind in Kind::ALL {
        let captured = Captured::start(kind, brokers, &format!("  decimal_handling_mode: string\n{options}")).await;
        captured.change(brokers).await;
        all.push(captured);
    }
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/consumers/ReadTable.java");
    let mut command = Command::new("timeout");
    // what Flink's own start scripts open
    command.args([PATIENCE, "java", "-XX:+UseSerialGC", "-Xmx512m", "--add-opens=java.base/java.util=ALL-UNNAMED"]);
    command.args(["--add-opens=java.base/java.lang=ALL-UNNAMED", "-cp", &flink()]).arg(program).args([brokers, format]);
    for captured in &all {
        let paid = if captured.source.kind() == Kind::Postgres { "BOOLEAN" } else { "SMALLINT" };
        command.arg(captured.topic());
        command.arg(format!(
            "id INT, big BIGINT, name STRING, price STRING, paid {paid}, `at` BIGINT, `day` INT, weight DOUBLE, data STRING, doc STRING"
        ));
        command.arg(
            "SELECT id, big, name, price, CAST(paid AS INT), `at`, `day`, weight, data, REPLACE(doc, ' ', '') FROM {t}",
        );
    }
    command.stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{printed}\n{errors}");
    let mut tables = printed.split("table ").skip(1);
    for captured in &all {
        let table = tables.next().unwrap();
        let (head, rows) = table.split_once('\n').unwrap();
        assert!(head.starts_with(&captured.topic()), "{head}");
        let mut found: Vec<String> =
            rows.lines().map(|row| row.strip_prefix("row ").unwrap_or(row).to_owned()).collect();
        found.sort();
        assert_same(head, &captured.rows().await, &found);
    }
}

#[tokio::test]
async fn flink_folds_events_with_schemas_to_the_tables() {
    fold("", "debezium-json.schema-include=true").await;
}

#[tokio::test]
async fn flink_folds_events_without_schemas_to_the_tables() {
    fold("  key_schemas_enable: false\n  value_schemas_enable: false\n", "-").await;
}
