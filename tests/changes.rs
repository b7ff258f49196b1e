//! The configuration is changed between two runs: positions still hold, and what can't be changed is refused with the reason.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable,
    missing_docs
)]

mod support;

use support::daemon::Daemon;
use support::eventually;
use support::kafka::read_committed;
use support::source::{Kind, PATIENCE, Source, wait_until_streaming};

/// Rows of each of two tables in one transaction.
const ROWS: u64 = 6_000;

fn yaml(source: &Source, tables: &str, more: &str) -> String {
    source.to_kafka_yaml(tables, &format!("backfill: never\ncommit:\n  max_bytes: 64KiB\n{more}"))
}

/// One transaction that writes to `a` and `b` in turns.
async fn both(source: &Source) {
    for table in ["a", "b"] {
        source.create_table(table, "id bigint primary key, pad varchar(100) not null").await;
    }
    source.exec("insert into a values (0, '')").await;
    source.exec("insert into b values (0, '')").await;
}

async fn write(source: &Source) {
    let mut statements = vec!["begin".to_owned()];
    for chunk in 0..12 {
        let (from, to) = (chunk * ROWS / 12 + 1, (chunk + 1) * ROWS / 12);
        for table in ["a", "b"] {
            let rows: Vec<String> = (from..=to).map(|id| format!("({id},repeat('p',80))")).collect();
            statements.push(format!("insert into {table} values {}", rows.join(",")));
        }
    }
    statements.push("commit".to_owned());
    let mut writer = support::source::Writer::of(source).await;
    for statement in statements {
        writer.run(&statement).await;
    }
}

/// The ids of a table's events in their order, without the row from before.
async fn ids(source: &Source, table: &str) -> Vec<u64> {
    let events = source.events(table).await;
    events.iter().map(|event| event["after"]["id"].as_u64().unwrap()).filter(|id| *id > 0).collect()
}

/// A transaction is published in part when the daemon is killed; the next run captures other tables.
async fn tables_change_inside(kind: Kind, before: &str, after: &str) {
    let source = Source::create(kind, "changes").await;
    both(&source).await;
    let builder = Daemon::command().file("source.yaml", &yaml(&source, before, "")).args(&["run", "source.yaml"]);
    let mut daemon = builder.spawn();
    wait_until_streaming(&mut daemon).await;
    daemon.kill9();
    write(&source).await;
    // the claim, and then some parts of the transaction
    daemon.set_env("ROWCAST_FAIL_POINT", Some("commit.done:5"));
    daemon.start();
    assert_eq!(daemon.wait(PATIENCE).await, -6, "{}", daemon.logs());
    daemon.set_env("ROWCAST_FAIL_POINT", None);
    let published = ids(&source, "b").await.len() + ids(&source, "a").await.len();
    assert!(published > 0 && published < 2 * ROWS as usize, "{kind:?}: {published}: not inside the transaction");
    daemon.write("source.yaml", &yaml(&source, after, ""));
    let mark = daemon.mark();
    daemon.start();
    let said = daemon.wait_for_log_since(mark, "resumed from its checkpoint", PATIENCE).await;
    assert!(said.contains("rows of transaction"), "{said}");
    eventually(PATIENCE, "the rest of the transaction", || async {
        let found = ids(&source, "b").await;
        if found.len() as u64 >= ROWS { Ok(()) } else { Err(found.len()) }
    })
    .await;
    assert!(ids(&source, "b").await.into_iter().eq(1..=ROWS), "{kind:?}: each row once, in order");
    // of the other table there is what lies on one side of the position: before it, or, in MySQL's log, which has all tables, behind
    let others = ids(&source, "a").await;
    assert!(others.windows(2).all(|pair| pair[1] == pair[0] + 1), "{kind:?}: a gap in a");
    source.exec("insert into b values (100000, '')").await;
    eventually(PATIENCE, "the stream to go on", || async {
        if ids(&source, "b").await.last() == Some(&100_000) { Ok(()) } else { Err("not yet") }
    })
    .await;
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_inside_a_transaction_holds_when_fewer_tables_are_captured() {
    for kind in Kind::ALL {
        tables_change_inside(kind, "*", "b").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_inside_a_transaction_holds_when_more_tables_are_captured() {
    for kind in Kind::ALL {
        tables_change_inside(kind, "b", "*").await;
    }
}

/// Other topics, and the other mode of delivery and back: each event once in all topics together.
#[tokio::test(flavor = "multi_thread")]
async fn topics_and_the_mode_of_delivery_can_change() {
    let source = Source::create(Kind::Postgres, "changes").await;
    source.create_table("a", "id bigint primary key").await;
    let with = |topic: &str, mode: &str| {
        source
            .to_kafka_yaml("*", &format!("delivery: {mode}\nbackfill: never\n"))
            .replace("sink:\n", &format!("sink:\n  topic: \"{topic}\"\n"))
    };
    let (old, new) = ("{name}.old.{table}", "{name}.new.{table}");
    let mut daemon =
        Daemon::command().file("source.yaml", &with(old, "exactly_once")).args(&["run", "source.yaml"]).spawn();
    wait_until_streaming(&mut daemon).await;
    let mut next = 0;
    let topic = |which: &str| format!("{}.{which}.a", source.name());
    for (template, which, mode) in [
        (old, "old", "exactly_once"),
        (old, "old", "at_least_once"),
        (old, "old", "exactly_once"),
        (new, "new", "exactly_once"),
        (new, "new", "at_least_once"),
    ] {
        assert_eq!(daemon.shutdown(PATIENCE).await, 0);
        // written while it is down, and while it runs
        source.exec(&format!("insert into a values ({})", next + 1)).await;
        daemon.write("source.yaml", &with(template, mode));
        let mark = daemon.mark();
        daemon.start();
        daemon.wait_for_log_since(mark, "resumed from its checkpoint", PATIENCE).await;
        source.exec(&format!("insert into a values ({})", next + 2)).await;
        next += 2;
        eventually(PATIENCE, "the events", || async {
            let events = read_committed(&topic(which)).await;
            let last = events.last().map(|record| record.json()["after"]["id"].as_u64().unwrap());
            if last == Some(next) { Ok(()) } else { Err(last) }
        })
        .await;
        let warned = daemon.stderr()[mark.1..].contains("`sink.topic` was {name}.old.{table} until");
        assert_eq!(warned, next == 8, "{}", daemon.logs());
    }
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
    let mut found = Vec::new();
    for which in ["old", "new"] {
        found.extend(read_committed(&topic(which)).await.iter().map(|it| it.json()["after"]["id"].as_u64().unwrap()));
    }
    assert!(found.iter().copied().eq(1..=next), "{found:?}");
}

/// The same name for another kind of server, or another cluster.
#[tokio::test(flavor = "multi_thread")]
async fn another_server_under_the_same_name_is_refused() {
    let postgres = Source::create(Kind::Postgres, "changes").await;
    postgres.create_table("a", "id bigint primary key").await;
    let mut daemon = postgres.to_kafka().spawn();
    wait_until_streaming(&mut daemon).await;
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
    let mysql = Source::create(Kind::Mysql, "changes").await;
    mysql.create_table("a", "id bigint primary key").await;
    let yaml = mysql.to_kafka_yaml("*", "on_gap: backfill\n");
    let yaml = yaml.replacen(&format!("name: {}", mysql.name()), &format!("name: {}", postgres.name()), 1);
    daemon.write("source.yaml", &yaml);
    let mark = daemon.mark();
    daemon.start();
    assert_eq!(daemon.wait(PATIENCE).await, 1, "{}", daemon.logs());
    let said = daemon.wait_for_log_since(mark, "stopped: ", PATIENCE).await;
    assert!(said.contains("repair: "), "{said}");
}
