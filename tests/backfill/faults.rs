//! What happens while a copy runs: kills, restarts with another configuration, requests, DDL.

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::Value as Json;

use super::racing::{copied, until_same};
use super::support::daemon::Daemon;
use super::support::source::{Kind, PATIENCE, Source, wait_until_streaming};
use super::traffic::{COLUMNS, Traffic, fill};

const ALL: [Kind; 3] = [Kind::Postgres, Kind::Mysql, Kind::Mariadb];

/// `rowcast backfill NAME ...` beside a daemon: exit code, standard output and error.
pub async fn ask(daemon: &Daemon, source: &Source, arguments: &[&str]) -> (i32, String, String) {
    let state = daemon.dir().join("rowcast-state");
    let fixed = ["backfill", source.name()];
    let arguments: Vec<&str> =
        fixed.iter().chain(arguments).copied().chain(["--state-dir", state.to_str().unwrap()]).collect();
    Daemon::command().args(&arguments).output(PATIENCE).await
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_in_a_copy_lose_and_repeat_nothing() {
    for kind in ALL {
        let source = Source::create(kind, "killed").await;
        source.create_table("accounts", COLUMNS).await;
        fill(&source, "accounts", 120_000).await;
        // slow enough that the lives of the daemon, short as they are, keep up with them
        let traffic = Traffic::start_with(&source, "accounts", 120_000, Duration::from_millis(8)).await;
        let mut daemon = source.to_kafka_with("backfill: { rows_per_second: 12000 }\n").spawn();
        let mut random = StdRng::seed_from_u64(7);
        let kills = daemon.kill_until_copied(1, &mut random).await;
        traffic.stop().await;
        let folded = until_same(&source, "accounts").await;
        assert_eq!(folded.most_reads, 1, "a row that nobody changed is published once, whatever happens");
        eprintln!("{kind:?}: {kills} kills; events {:?}", folded.counts);
        assert!(kills > 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_added_later_is_copied_while_the_others_stream_and_a_resync_repeats_it() {
    for kind in ALL {
        let source = Source::create(kind, "added").await;
        for table in ["first", "second", "third"] {
            source.create_table(table, COLUMNS).await;
            fill(&source, table, 20_000).await;
        }
        let first = Traffic::start_with(&source, "first", 20_000, Duration::from_millis(5)).await;
        let second = Traffic::start_with(&source, "second", 20_000, Duration::from_millis(5)).await;
        let builder = source.to_kafka_with("").file("source.yaml", &source.to_kafka_yaml("first", ""));
        let mut daemon = builder.spawn();
        copied(&mut daemon, (0, 0), &source, "first").await;
        assert_eq!(daemon.shutdown(PATIENCE).await, 0);
        // the two others are copied at the same time
        daemon.write("source.yaml", &source.to_kafka_yaml("*", "backfill: { rows_per_second: 15000 }\n"));
        let mark = daemon.mark();
        daemon.start();
        daemon.wait_for_log_since(mark, "copying the table", PATIENCE).await;
        let schema = source.schema();
        let (code, out, err) = ask(&daemon, &source, &[&format!("{schema}.first")]).await;
        assert_eq!(code, 0, "{out}{err}");
        for table in ["first", "second", "third"] {
            copied(&mut daemon, mark, &source, table).await;
        }
        let (code, out, _) = ask(&daemon, &source, &["--status"]).await;
        assert!(code == 0 && out.matches("copied").count() >= 3, "{out}");
        first.stop().await;
        second.stop().await;
        for (table, copies) in [("first", 2), ("second", 1), ("third", 1)] {
            let folded = until_same(&source, table).await;
            let (most, read) = (folded.most_reads, folded.counts["r"]);
            assert!(most <= copies && read > 1_000, "{kind:?} {table}: {most}, {read}");
            // the writers delete as they go; where there are none every row is read, once
            assert!(table != "third" || read == 20_000, "{kind:?}: {read}");
            assert_eq!(markers(&source, table).await, ["start", "end"].repeat(copies as usize), "{kind:?} {table}");
        }
        assert_eq!(daemon.shutdown(PATIENCE).await, 0);
        // a third start has nothing to copy
        let mark = daemon.mark();
        daemon.start();
        daemon.wait_for_log_since(mark, "streaming: resumed", PATIENCE).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!daemon.stderr()[mark.1..].contains("copying the table"), "{}", daemon.logs());
    }
}

/// The markers of a table's copies on the schema topic, in order.
pub async fn markers(source: &Source, table: &str) -> Vec<String> {
    let records = super::support::kafka::read_committed(&format!("rowcast.schema.{}", source.name())).await;
    let json: Vec<Json> = records.iter().filter(|record| record.value.is_some()).map(|record| record.json()).collect();
    json.iter()
        .filter(|json| json["backfill"].is_string() && json["source"]["table"] == table)
        .map(|json| json["backfill"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_altered_emptied_or_dropped_meanwhile_is_never_wrong() {
    for kind in ALL {
        let source = Source::create(kind, "ddl").await;
        for table in ["altered", "emptied", "dropped", "rewritten"] {
            source.create_table(table, COLUMNS).await;
            fill(&source, table, 30_000).await;
        }
        let traffic = Traffic::start(&source, "altered", 30_000).await;
        // none of the copies may be complete when its table is changed
        let limits = "backfill: { rows_per_second: 10000, chunk_rows: 2000, parallelism: 4 }\n";
        let mut daemon = source.to_kafka_with(limits).spawn();
        daemon.wait_for_log("copying the table", PATIENCE).await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        traffic.stop().await;
        source.exec("alter table altered add column extra int default 5").await;
        source.exec("truncate table emptied").await;
        source.exec("insert into emptied values (1, 1, 'behind', 'x')").await;
        source.exec("drop table dropped").await;
        // moves every row, without a word in the log
        match &source {
            Source::Postgres(db) => db.exec("vacuum full rewritten").await,
            Source::Mysql(db) => db.exec("optimize table rewritten").await,
        }
        for table in ["altered", "emptied", "rewritten"] {
            copied(&mut daemon, (0, 0), &source, table).await;
        }
        daemon.wait_for_log("the table is gone", PATIENCE).await;
        source.exec("alter table altered drop column extra").await;
        source.exec("insert into altered values (999999, 1000000, 'after', 'b')").await;
        // rows that were read before the column was added don't have it in the topic, as in the log
        let records = source.records("altered").await;
        let last = super::support::eventually(PATIENCE, "the last change", || async {
            let events = source.events("altered").await;
            events.last().filter(|event| event["after"]["note"] == "after").cloned().ok_or(events.len())
        })
        .await;
        assert!(last["after"].get("extra").is_none(), "{last}");
        let with = records.iter().filter(|record| record.json()["after"].get("extra").is_some()).count();
        assert!(with > 0, "{kind:?}: no row was read with the new column");
        for table in ["emptied", "rewritten"] {
            let folded = until_same(&source, table).await;
            let counts = &folded.counts;
            assert!(counts.get("t").is_some() == (table == "emptied"), "{kind:?} {table} {counts:?}");
        }
        assert_eq!(daemon.shutdown(PATIENCE).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_paused_resumed_and_cancelled() {
    let source = Source::create(Kind::Postgres, "asked").await;
    source.create_table("accounts", COLUMNS).await;
    fill(&source, "accounts", 50_000).await;
    let mut daemon = source.to_kafka_with("backfill: { rows_per_second: 4000 }\n").spawn();
    daemon.wait_for_log("copying the table", PATIENCE).await;
    tokio::time::sleep(Duration::from_millis(800)).await;
    let (code, out, err) = ask(&daemon, &source, &["--pause"]).await;
    assert_eq!(code, 0, "{out}{err}");
    // what was read before is published
    let before = super::support::eventually(PATIENCE, "the pause", || async {
        let before = source.events("accounts").await.len();
        tokio::time::sleep(Duration::from_secs(3)).await;
        let now = source.events("accounts").await.len();
        if now == before { Ok(now) } else { Err((before, now)) }
    })
    .await;
    assert!(before < 50_000, "all was copied before the pause");
    let (_, out, _) = ask(&daemon, &source, &["--status"]).await;
    assert!(out.contains("paused"), "{out}");
    // a pause outlives the daemon
    daemon.kill9();
    daemon.start();
    wait_until_streaming(&mut daemon).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(source.events("accounts").await.len(), before, "still paused");
    assert_eq!(ask(&daemon, &source, &["--resume"]).await.0, 0);
    super::support::eventually(PATIENCE, "more rows", || async {
        let now = source.events("accounts").await.len();
        if now > before { Ok(()) } else { Err(now) }
    })
    .await;
    assert_eq!(ask(&daemon, &source, &["public.accounts", "--cancel"]).await.0, 0);
    let (_, out, _) = ask(&daemon, &source, &["--status"]).await;
    assert!(out.contains("cancelled"), "{out}");
    let (code, _, err) = ask(&daemon, &source, &["public.accounts", "--cancel"]).await;
    assert!(code == 1 && err.contains("public.accounts isn't being copied"), "{err}");
    // some rows, by key and by condition
    let mark = daemon.mark();
    assert_eq!(ask(&daemon, &source, &["public.accounts", "--keys", "[7, 49999]"]).await.0, 0);
    let line = copied(&mut daemon, mark, &source, "accounts").await;
    assert!(line.contains("rows=2 "), "{line}");
    let mark = daemon.mark();
    assert_eq!(ask(&daemon, &source, &["public.accounts", "--where", "id between 100 and 149"]).await.0, 0);
    let line = copied(&mut daemon, mark, &source, "accounts").await;
    assert!(line.contains("rows=50 "), "{line}");
    let (code, _, err) = ask(&daemon, &source, &["public.nothing"]).await;
    assert!(code == 1 && err.contains("public.nothing"), "{err}");
    let mark = daemon.mark();
    let (code, out, err) = ask(&daemon, &source, &["public.accounts", "--where", "no_such_column = 1"]).await;
    assert_eq!(code, 0, "{out}{err}");
    let line = daemon.wait_for_log_since(mark, "can't copy the table", PATIENCE).await;
    assert!(line.contains("no_such_column"), "{line}");
}
