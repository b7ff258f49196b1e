//! Tables that are copied while writers change them at full speed: the topic folds to the table, and no row that was read comes
//! behind a newer change.

use std::time::{Duration, Instant};

use super::support::daemon::Daemon;
use super::support::source::{Kind, PATIENCE, Source};
use super::support::{env, eventually, kafka};
use super::traffic::{COLUMNS, Folded, Traffic, assert_same, fill, fold, rows};

/// Longer than for other tests: a million rows are read, published and read back.
const LONG: Duration = Duration::from_secs(600);

fn million() -> u64 {
    std::env::var("ROWCAST_TEST_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(1_000_000)
}

/// Waits until the topic folds to the table, which nobody changes any more, and nothing more comes.
pub async fn until_same(source: &Source, table: &str) -> Folded {
    let expected = rows(source, table).await;
    let (topic, began) = (source.topic(table), Instant::now());
    loop {
        let end = eventually(LONG, &format!("the end of {table}'s events"), || async {
            let end = kafka::committed_end(env().brokers(), &topic).await;
            tokio::time::sleep(Duration::from_millis(700)).await;
            let again = kafka::committed_end(env().brokers(), &topic).await;
            if again == end { Ok(end) } else { Err(again) }
        })
        .await;
        let folded = fold(&source.records(table).await);
        let unchanged = kafka::committed_end(env().brokers(), &topic).await == end;
        if unchanged && folded.rows == expected {
            return folded;
        }
        // a daemon that starts, or a machine that is busy: the rest is still to come
        if began.elapsed() > PATIENCE && unchanged {
            assert_same(&folded.rows, &expected);
        }
    }
}

/// Waits until a daemon says that a table is copied, after a mark in its log.
pub async fn copied(daemon: &mut Daemon, mark: (usize, usize), source: &Source, table: &str) -> String {
    let text = format!("the table is copied source={} table=\"{}.{table}\"", source.name(), source.schema());
    daemon.wait_for_log_since(mark, &text, LONG).await
}

async fn racing(kind: Kind) {
    let source = Source::create(kind, "racing").await;
    let count = million();
    source.create_table("accounts", COLUMNS).await;
    fill(&source, "accounts", count).await;
    let traffic = Traffic::start(&source, "accounts", count).await;
    let mut daemon = source.to_kafka_with("").spawn();
    copied(&mut daemon, (0, 0), &source, "accounts").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let transactions = traffic.stop().await;
    let folded = until_same(&source, "accounts").await;
    let counts = &folded.counts;
    eprintln!("{kind:?}: {transactions} transactions beside the copy; events {counts:?}");
    assert!(counts["r"] > count * 9 / 10 && counts["u"] > 100 && counts["d"] > 50 && counts["c"] > 50, "{counts:?}");
    assert_eq!(folded.most_reads, 1, "a row that nobody changed is published once");
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_rows_are_copied_from_postgres_while_they_change() {
    racing(Kind::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_rows_are_copied_from_mysql_while_they_change() {
    racing(Kind::Mysql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_rows_are_copied_from_mariadb_while_they_change() {
    racing(Kind::Mariadb).await;
}
