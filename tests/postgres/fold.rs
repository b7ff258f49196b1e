//! The fold test: writers change rows and tables at random, by a seed; a reader that knows nothing but the topics holds, at the end
//! and at each snapshot that was taken meanwhile, exactly what `SELECT *` gave.
//!
//! `ROWCAST_FOLD_SEED` repeats a run's choices (not the order in which its sessions meet), `ROWCAST_FOLD_SECONDS` sets its length;
//! `make fold` is the long form. A snapshot is compared by the transactions that it sees: the reader folds their events, in
//! the topics' order, and no others.

mod workload;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_postgres::Client;

use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::support::fold::{Defaults, Picture, read, seed, setting};
use crate::support::postgres::{Db, try_query};
use crate::support::source::{Kind, PATIENCE, Source, wait_until_streaming};
use workload::{TABLES, Writer};

/// How long the writers of `make test` work.
const SECONDS: u64 = 20;
/// How long one database is worked on at most.
const ROUND: u64 = 30;
const WRITERS: u64 = 4;

/// Whether a snapshot sees a transaction: `snapshot` is what `pg_current_snapshot()` gave.
fn visible(snapshot: &str) -> Box<dyn Fn(&str) -> bool> {
    let mut parts = snapshot.split(':');
    let mut number = || parts.next().unwrap().parse::<u64>().unwrap();
    let (below, above) = (number(), number());
    let running: HashSet<u64> =
        parts.next().unwrap_or_default().split(',').filter_map(|xid| xid.parse().ok()).collect();
    Box::new(move |transaction| {
        let xid = transaction.parse().unwrap();
        xid < below || (xid < above && !running.contains(&xid))
    })
}

/// A snapshot of all tables, between two changes of any of them; none if one was renamed meanwhile.
async fn picture(client: &Client, name: String) -> Option<Picture> {
    let names =
        try_query(client, "select case when to_regclass('r_b') is null then 'r_a' else 'r_b' end").await.unwrap();
    let missing = if names[0][0].as_deref() == Some("r_a") { "r_b" } else { "r_a" };
    let there: Vec<&'static str> = TABLES.into_iter().filter(|table| *table != missing).collect();
    // locked before the snapshot is taken: what holds the lock of an ALTER is then over, and seen
    let lock = format!("begin isolation level repeatable read; lock table {} in access share mode", there.join(", "));
    if client.batch_execute(&lock).await.is_err() {
        client.batch_execute("rollback").await.unwrap();
        return None;
    }
    let snapshot = try_query(client, "select pg_current_snapshot()").await.unwrap()[0][0].clone().unwrap();
    let mut tables = BTreeMap::new();
    for table in there {
        tables.insert(table, workload::rows(client, table).await);
    }
    client.batch_execute("commit").await.unwrap();
    Some(Picture { name, sees: visible(&snapshot), tables })
}

async fn wait_for_the_end(source: &Source, db: &Db, daemon: &mut Daemon) {
    db.exec("insert into marker values (1)").await;
    eventually(3 * PATIENCE, "the last transaction to be published", || {
        let running = daemon.is_running();
        async move {
            assert!(running, "the daemon has ended");
            if source.events("marker").await.is_empty() { Err("not yet") } else { Ok(()) }
        }
    })
    .await;
}

/// One run: `kills` are SIGKILLs of the daemon, at random moments.
async fn run(seed: u64, seconds: u64, kills: bool) {
    println!("ROWCAST_FOLD_SEED={seed} ROWCAST_FOLD_SECONDS={seconds}");
    let source = Source::create(Kind::Postgres, "fold").await;
    let Source::Postgres(db) = &source else { unreachable!() };
    // large transactions are then sent before they end, or spooled
    db.exec(&format!("alter role cdc in database {} set logical_decoding_work_mem = '64kB'", db.name)).await;
    db.exec(workload::SCHEMA).await;
    // odd seeds: prepared transactions come when they are prepared
    let more = if seed % 2 == 1 { "  two_phase: true\n" } else { "" };
    let yaml = source.to_kafka_yaml("*", "backfill: never\n").replace("sink:\n", &format!("{more}sink:\n"));
    let mut daemon = Daemon::command().file("source.yaml", &yaml).args(&["run", "source.yaml"]).spawn();
    wait_until_streaming(&mut daemon).await;

    let (stop, defaults) = (Arc::new(AtomicBool::new(false)), Defaults::default());
    let mut writers = Vec::new();
    for number in 0..WRITERS {
        let writer = Writer::new(db.connect().await, seed, number, &db.name, Arc::clone(&defaults));
        writers.push(tokio::spawn(writer.run(Arc::clone(&stop))));
    }
    let mut random = StdRng::seed_from_u64(seed);
    let (client, end) = (db.connect().await, Instant::now() + Duration::from_secs(seconds));
    let (mut pictures, mut killed) = (Vec::new(), 0);
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(random.random_range(500..4000))).await;
        assert!(daemon.is_running(), "the daemon has ended");
        assert!(writers.iter().all(|writer| !writer.is_finished()), "a writer has ended");
        if kills && random.random_ratio(1, 4) {
            daemon.kill9();
            daemon.start();
            killed += 1;
        }
        pictures.extend(picture(&client, format!("at snapshot {}", pictures.len() + 1)).await);
    }
    stop.store(true, Ordering::Relaxed);
    let mut all = workload::Done::default();
    for writer in writers {
        let done = writer.await.unwrap();
        all.committed += done.committed;
        all.refused += done.refused;
        all.altered += done.altered;
        all.prepared += done.prepared;
        all.large += done.large;
    }
    pictures.push(picture(&client, "at the end".to_owned()).await.unwrap());
    wait_for_the_end(&source, db, &mut daemon).await;
    let events = read(&source, &TABLES).await;
    let count: usize = events.values().map(Vec::len).sum();
    println!("{all:?}, {killed} kills, {} snapshots, {count} events", pictures.len());
    for picture in &pictures {
        picture.compare(&events, &defaults, false);
    }
    assert!(all.committed > 20 && all.altered > 0 && all.prepared > 0, "{all:?}: nothing was tried");
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
}

/// A longer run is several, with one seed behind the other: a reader of the topics has them in memory.
#[tokio::test(flavor = "multi_thread")]
async fn the_folded_topics_are_the_tables() {
    let seed = seed();
    let seconds = setting("ROWCAST_FOLD_SECONDS").unwrap_or(SECONDS);
    for round in 0..seconds.div_ceil(ROUND) {
        run(seed + round, ROUND.min(seconds - round * ROUND), true).await;
    }
}
