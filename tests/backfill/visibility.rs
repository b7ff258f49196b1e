//! Commits whose place in the stream and visibility to a SELECT differ, made on purpose.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::racing::{copied, until_same};
use super::support::source::{PATIENCE, Source, wait_until_streaming};
use super::support::{Servers, eventually, postgres};
use super::traffic::{COLUMNS, fill};

/// Ten seconds for the 20,000 rows, of which the last must not be read before this test has done something to it.
const SLOWLY: &str = "backfill: { rows_per_second: 2000, chunk_rows: 500, parallelism: 1 }\n";

/// Commits wait for a standby that doesn't exist: they are in the log, and nobody sees them.
async fn hold_commits(db: &postgres::Db, hold: bool) {
    let names = if hold { "nobody" } else { "" };
    db.exec("set synchronous_commit = local").await;
    db.exec(&format!("alter system set synchronous_standby_names = '{names}'")).await;
    db.exec("select pg_reload_conf()").await;
    eventually(PATIENCE, "the setting", || async {
        let now = db.value("select coalesce(nullif(current_setting('synchronous_standby_names'), ''), '-')").await;
        if (now == "nobody") == hold { Ok(()) } else { Err(now) }
    })
    .await;
    // sessions wait once the checkpointer knows of it, too
    while hold && !waits(db).await {}
}

/// Whether a commit waits; it is let go then.
async fn waits(db: &postgres::Db) -> bool {
    let probe = db.connect().await;
    let pid = postgres::query(&probe, "select pg_backend_pid()").await[0][0].clone().unwrap();
    // a schema that isn't published
    let sql = "create schema if not exists probe; create table if not exists probe.t (id int); insert into probe.t values (1)";
    let commit = tokio::spawn(async move { probe.batch_execute(sql).await });
    let sql = format!("select count(*) from pg_stat_activity where pid = {pid} and wait_event = 'SyncRep'");
    let held = eventually(PATIENCE, "a commit to wait or be through", || async {
        let waits = db.value(&sql).await == "1";
        if waits || commit.is_finished() { Ok(waits) } else { Err("neither") }
    })
    .await;
    if held {
        db.exec(&format!("select pg_cancel_backend({pid})")).await;
    }
    commit.await.unwrap().unwrap();
    held
}

fn database(source: &Source) -> &postgres::Db {
    let Source::Postgres(db) = source else { panic!("not postgres") };
    db
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_streamed_before_it_is_visible_is_not_undone_by_the_copy() {
    let servers = Servers::private(&["pg"]);
    let source = Source::Postgres(postgres::Db::create_on(&servers, "early").await);
    let db = database(&source);
    // what the daemon itself commits must not wait
    db.exec("alter role cdc set synchronous_commit = local").await;
    source.create_table("accounts", COLUMNS).await;
    fill(&source, "accounts", 20_000).await;
    hold_commits(db, true).await;
    let mut daemon = source.to_kafka_with(SLOWLY).spawn();
    daemon.wait_for_log("copying the table", PATIENCE).await;
    // the last rows are read last: by then their changes are published, and no SELECT sees them yet; the large text of the very
    // last is left out of its change
    let mut updates = Vec::new();
    for id in [19_999, 20_000] {
        let writer = db.connect().await;
        updates.push(tokio::spawn(async move {
            let sql = format!("update accounts set v = 7, note = 'early' where id = {id}");
            writer.batch_execute(&sql).await.unwrap();
        }));
    }
    eventually(PATIENCE, "the changes", || async {
        let events = source.events("accounts").await;
        let changes = events.iter().filter(|event| event["op"] == "u").count();
        if changes == 2 { Ok(()) } else { Err(events.len()) }
    })
    .await;
    assert_eq!(db.value("select max(v) from accounts").await, "0", "they are visible already");
    eventually(PATIENCE, "all other rows", || async {
        let rows = source.events("accounts").await.len();
        if rows == 20_000 { Ok(()) } else { Err(rows) }
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!daemon.logs().contains("the table is copied"), "the text that was left out is still to be read");
    assert!(updates.iter().all(|update| !update.is_finished()), "the commits were held");
    hold_commits(db, false).await;
    for update in updates {
        update.await.unwrap();
    }
    copied(&mut daemon, (0, 0), &source, "accounts").await;
    let folded = until_same(&source, "accounts").await;
    assert_eq!(folded.rows[&20_000]["v"], 7);
    let events = source.events("accounts").await;
    let of = |id: u64| -> Vec<String> {
        let its = events.iter().filter(|event| event["after"]["id"] == id);
        its.map(|event| event["op"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(of(19_999), ["u"], "the row that was read is older than the change");
    assert_eq!(of(20_000), ["u", "r"], "it is read again when it is visible");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_waits_for_a_commit_that_was_streamed_before_it_and_is_not_visible() {
    let servers = Servers::private(&["pg"]);
    let source = Source::Postgres(postgres::Db::create_on(&servers, "before").await);
    let db = database(&source);
    // what the daemon itself commits must not wait
    db.exec("alter role cdc set synchronous_commit = local").await;
    source.create_table("accounts", COLUMNS).await;
    fill(&source, "accounts", 1_000).await;
    let mut daemon = source.to_kafka().spawn();
    wait_until_streaming(&mut daemon).await;
    hold_commits(db, true).await;
    let writer = db.connect().await;
    let update = tokio::spawn(async move {
        writer.batch_execute("update accounts set v = 7, note = 'before' where id = 500").await.unwrap();
    });
    source.wait_for_events("accounts", 1).await;
    // nothing of this transaction is streamed again, so only waiting can tell what it did
    let (code, out, err) = super::faults::ask(&daemon, &source, &["public.accounts"]).await;
    assert_eq!(code, 0, "{out}{err}");
    daemon.wait_for_log("the copy waits for transactions", PATIENCE).await;
    assert_eq!(source.events("accounts").await.len(), 1, "nothing is read before");
    hold_commits(db, false).await;
    update.await.unwrap();
    copied(&mut daemon, (0, 0), &source, "accounts").await;
    assert_eq!(until_same(&source, "accounts").await.rows[&500]["v"], 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_visible_before_it_is_streamed_comes_before_the_row() {
    let servers = Servers::private(&["pg"]);
    let source = Source::Postgres(postgres::Db::create_on(&servers, "late").await);
    let db = database(&source);
    // what the daemon itself commits must not wait
    db.exec("alter role cdc set synchronous_commit = local").await;
    source.create_table("accounts", COLUMNS).await;
    fill(&source, "accounts", 20_000).await;
    let mut daemon = source.to_kafka_with(SLOWLY).spawn();
    daemon.wait_for_log("copying the table", PATIENCE).await;
    // the server's sender stands still: the change is visible to every read, and not streamed
    let sender: i32 = db.walsender(&format!("rowcast_{}", source.name())).await.parse().unwrap();
    kill(Pid::from_raw(sender), Signal::SIGSTOP).unwrap();
    source.exec("update accounts set v = 7, note = 'late' where id = 20000").await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    let published = source.events("accounts").await;
    assert!(published.iter().all(|event| event["after"]["v"] == 0), "a row overtook its change");
    kill(Pid::from_raw(sender), Signal::SIGCONT).unwrap();
    copied(&mut daemon, (0, 0), &source, "accounts").await;
    let folded = until_same(&source, "accounts").await;
    assert_eq!(folded.rows[&20_000]["v"], 7);
    let last =
        source.events("accounts").await.into_iter().filter(|event| event["after"]["id"] == 20_000).collect::<Vec<_>>();
    assert_eq!(last[0]["op"], "u", "the change comes first: {last:?}");
}
