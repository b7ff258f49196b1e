//! Tables without any key: read whole, their newer events held back until then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::faults::ask;
use super::racing::copied;
use super::support::eventually;
use super::support::source::{Kind, PATIENCE, Source, Writer};

/// The rows of a table without a key: how often each occurs.
type Bag = BTreeMap<(i64, String), i64>;

async fn table(source: &Source) -> Bag {
    let mut bag = Bag::new();
    for row in source.query("select a, b from bag").await {
        *bag.entry((row[0].as_ref().unwrap().parse().unwrap(), row[1].clone().unwrap())).or_default() += 1;
    }
    bag
}

async fn topic(source: &Source) -> Bag {
    let mut bag = Bag::new();
    let mut change = |image: &serde_json::Value, by: i64| {
        if image.is_object() {
            let row = (image["a"].as_i64().unwrap(), image["b"].as_str().unwrap().to_owned());
            *bag.entry(row).or_default() += by;
        }
    };
    let records = source.records("bag").await;
    // without a key events may be in any partition; here there is one
    let events: Vec<_> = records.iter().filter(|record| record.value.is_some()).map(|record| record.json()).collect();
    let from = events.iter().rposition(|event| event["op"] == "t").map_or(0, |place| place + 1);
    for event in &events[from..] {
        change(&event["before"], -1);
        change(&event["after"], 1);
    }
    bag.retain(|_, count| *count != 0);
    bag
}

/// The events' kinds in the order of the topic, with how many of each follow each other.
async fn runs(source: &Source) -> Vec<(String, u32)> {
    let mut runs: Vec<(String, u32)> = Vec::new();
    for event in source.events("bag").await {
        let op = event["op"].as_str().unwrap().to_owned();
        match runs.last_mut() {
            Some((last, count)) if *last == op => *count += 1,
            _ => runs.push((op, 1)),
        }
    }
    runs
}

async fn write(source: &Source, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<i64> {
    let mut writer = Writer::of(source).await;
    // rows without a key can't be told apart, so each statement is about one of its own kind
    tokio::spawn(async move {
        let mut n: i64 = 0;
        while !stop.load(Ordering::Relaxed) {
            n += 1;
            let (old, b) = (n - 7, format!("w{}", n % 5));
            writer
                .run(&format!(
                    "begin; insert into bag values ({n}, '{b}'); update bag set b = 'u' where a = {old}; \
                     delete from bag where a = {}; commit",
                    n - 20
                ))
                .await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        n
    })
}

/// A table without a key and about so many rows.
async fn create(source: &Source, rows: usize) {
    source.create_table("bag", "a int not null, b varchar(40) not null").await;
    match source {
        Source::Postgres(db) => {
            db.exec("alter table bag replica identity full").await;
            db.exec(&format!("insert into bag select -(n % 5000) - 1, 'first' from generate_series(1, {rows}) n"))
                .await;
        }
        Source::Mysql(db) => {
            db.exec("insert into bag values (-1, 'first'), (-2, 'first'), (-3, 'first')").await;
            for _ in 0..(rows / 3).ilog2() {
                db.exec("insert into bag select a - 3, b from bag").await;
            }
        }
    }
}

async fn keyless(kind: Kind, kills: usize) {
    let source = Source::create(kind, "keyless").await;
    create(&source, 60_000).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = write(&source, Arc::clone(&stop)).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    // the copy takes three seconds: kills come in the midst of it
    let mut daemon = source.to_kafka_with("backfill: { rows_per_second: 20000 }\n").spawn();
    let mut mark = (0, 0);
    for _ in 0..kills {
        daemon.wait_for_log_since(mark, "copying the table", PATIENCE).await;
        tokio::time::sleep(Duration::from_millis(250)).await;
        daemon.kill9();
        mark = daemon.mark();
        daemon.start();
    }
    copied(&mut daemon, (0, 0), &source, "bag").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.store(true, Ordering::Relaxed);
    let written = writer.await.unwrap();
    let expected = table(&source).await;
    eventually(PATIENCE, "the topic to be the table", || async {
        let bag = topic(&source).await;
        let wrong: Vec<_> = bag.iter().filter(|(row, count)| expected.get(*row) != Some(count)).take(5).collect();
        let total = |bag: &Bag| bag.values().sum::<i64>();
        let wrong = format!("{kind:?}: {} rows of {}, such as {wrong:?}", total(&bag), total(&expected));
        if bag == expected { Ok(()) } else { Err(format!("{wrong}; {:?}", runs(&source).await)) }
    })
    .await;
    assert!(written > 3, "{written} transactions only");
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_without_a_key_are_copied_while_they_change() {
    for kind in [Kind::Postgres, Kind::Mysql, Kind::Mariadb] {
        keyless(kind, 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_copy_of_a_table_without_a_key_begins_anew_after_a_kill() {
    for kind in [Kind::Postgres, Kind::Mysql, Kind::Mariadb] {
        keyless(kind, 2).await;
    }
}

/// A copy that ends before it is complete, by request or because another one takes its place, keeps no event back.
async fn interrupted(kind: Kind, cancelled: bool) {
    let source = Source::create(kind, "interrupted").await;
    create(&source, 300_000).await;
    // the copy takes ten seconds: it is to be interrupted
    let mut daemon = source.to_kafka_with("backfill: { rows_per_second: 30000 }\n").spawn();
    daemon.wait_for_log("copying the table", PATIENCE).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = write(&source, Arc::clone(&stop)).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mark = daemon.mark();
    let table_name = format!("{}.bag", source.schema());
    let mut what = vec![table_name.as_str()];
    what.extend(cancelled.then_some("--cancel"));
    let (code, out, err) = ask(&daemon, &source, &what).await;
    assert_eq!(code, 0, "{out}{err}");
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.store(true, Ordering::Relaxed);
    let written = writer.await.unwrap();
    if cancelled {
        eventually(PATIENCE, "every insert once", || async {
            let events = source.events("bag").await;
            let mut inserted: Vec<i64> = events
                .iter()
                .filter(|event| event["op"] == "c")
                .map(|event| event["after"]["a"].as_i64().unwrap())
                .collect();
            inserted.sort_unstable();
            let all = inserted.iter().copied().eq(1..=written);
            if all { Ok(()) } else { Err(format!("{} of {written}, {:?}", inserted.len(), runs(&source).await)) }
        })
        .await;
    } else {
        copied(&mut daemon, mark, &source, "bag").await;
        let expected = table(&source).await;
        eventually(PATIENCE, "the topic to be the table", || async {
            if topic(&source).await == expected { Ok(()) } else { Err(format!("{:?}", runs(&source).await)) }
        })
        .await;
    }
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_copy_of_a_table_without_a_key_keeps_no_event_back() {
    for kind in [Kind::Postgres, Kind::Mysql, Kind::Mariadb] {
        interrupted(kind, true).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_table_without_a_key_can_be_asked_for_again_while_it_is_made() {
    for kind in [Kind::Postgres, Kind::Mysql, Kind::Mariadb] {
        interrupted(kind, false).await;
    }
}
