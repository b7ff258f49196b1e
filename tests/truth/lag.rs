//! A backlog shows as a lag by every measure, and the lag goes when the backlog is published; copies show as such.

use std::collections::BTreeSet;

use crate::asking::{Asked, caught_up, is_behind, pause, to_brokers};
use crate::support::source::{Kind, PATIENCE, Source};
use crate::support::{Servers, env, eventually, kafka};

async fn backlog(kind: Kind) {
    let source = Source::create(kind, "truth").await;
    let name = source.name();
    source.create_table("t", "id int primary key, note varchar(200)").await;
    let broker = Servers::private(&["kafka"]);
    let brokers = broker.brokers();
    let asked = Asked::start(&[to_brokers(&source, brokers)]).await;
    asked.all_stream(&[name]).await;
    source.exec("insert into t values (0, 'first')").await;
    asked.wait_for(name, PATIENCE, "the row", |it| it["totals"]["rows"] == 1 && caught_up(it)).await;

    // a backlog that stays until it was seen: the lag is measured every few seconds, and a machine with nothing else to do publishes it in less
    let paused = pause(broker.pid("kafka"));
    let (mut rows, note) = (1, "repeat('x', 200)");
    for id in 1..=20 {
        source.exec(&format!("insert into t values ({id}, {note})")).await;
        rows += 1;
    }
    // doubled until there are some megabytes of log
    while rows < 50_000 {
        source.exec(&format!("insert into t select id + {rows}, {note} from t")).await;
        rows *= 2;
    }
    let all = |it: &serde_json::Value| is_behind(it) && it["lag"]["bytes"].as_u64() > Some(5_000_000);
    let behind = asked.wait_for(name, PATIENCE, "a lag of all that was written", all).await;
    let bytes = behind["lag"]["bytes"].as_u64().unwrap();
    if kind == Kind::Postgres {
        assert!(behind["slot"]["kept_bytes"].as_u64() >= Some(bytes), "{behind}");
        assert!(["reserved", "extended"].contains(&behind["slot"]["wal_status"].as_str().unwrap()), "{behind}");
    }
    drop(paused);
    let streams = |it: &serde_json::Value| it["totals"]["rows"] == rows && caught_up(it) && it["state"] == "streaming";
    let last = asked.wait_for(name, PATIENCE, "all rows, and no lag", streams).await;
    eventually(PATIENCE, "all rows in the topic, once", || async {
        let found = kafka::read(brokers, &source.topic("t"), true).await.len();
        if found == rows { Ok(()) } else { Err(found) }
    })
    .await;
    assert!(last["position"].is_string() && last["committed_at"].is_number(), "{last}");

    // what other tests write is behind for a moment, too
    let metrics = eventually(PATIENCE, "no lag in the metrics", || async {
        let metrics = asked.metrics().await;
        let lag = [metrics.of("rowcast_lag_bytes", name), metrics.of("rowcast_lag_seconds", name)];
        if lag == [Some(0.0); 2] { Ok(metrics) } else { Err(lag) }
    })
    .await;
    assert_eq!(metrics.of("rowcast_rows_total", name), Some(rows as f64));
    assert!(metrics.of("rowcast_bytes_total", name) > Some(rows as f64 * 200.0));
    assert!(metrics.of("rowcast_commits_total", name) >= Some(1.0));
    assert_eq!(metrics.of("rowcast_commit_duration_seconds_count", name), metrics.of("rowcast_commits_total", name));
    assert!(metrics.of("rowcast_queue_limit_bytes", name) > Some(1e6));
    assert!(metrics.with("process_resident_memory_bytes", &[]) > Some(1e6));
}

#[tokio::test]
async fn a_backlog_in_postgres_is_a_lag_that_goes() {
    backlog(Kind::Postgres).await;
}

#[tokio::test]
async fn a_backlog_in_mysql_is_a_lag_that_goes() {
    backlog(Kind::Mysql).await;
}

#[tokio::test]
async fn a_backlog_in_mariadb_is_a_lag_that_goes() {
    backlog(Kind::Mariadb).await;
}

/// MySQL's binlog in several files.
#[tokio::test]
async fn a_lag_is_counted_across_the_files_of_a_binlog() {
    let servers = crate::support::Servers::private(&["mysql"]);
    let db = crate::support::mysql::Db::create_on(&servers, crate::support::mysql::Kind::Mysql, "truth").await;
    let source = Source::Mysql(db);
    let name = source.name();
    source.create_table("t", "id int primary key, note longtext").await;
    let kafka = crate::support::Servers::private(&["kafka"]);
    let asked = Asked::start(&[to_brokers(&source, kafka.brokers())]).await;
    asked.all_stream(&[name]).await;
    source.exec("insert into t values (-1, '')").await;
    // with a topic for the table, before its broker is paused
    asked.wait_for(name, PATIENCE, "the row", |it| it["totals"]["rows"] == 1 && caught_up(it)).await;
    let _paused = crate::asking::pause(kafka.pid("kafka"));
    for id in 0..3 {
        source.exec(&format!("insert into t values ({id}, repeat('x', 1000000)); flush binary logs")).await;
    }
    let enough =
        |it: &serde_json::Value| it["lag"]["bytes"].as_u64() > Some(3_000_000) && it["lag"]["transactions"] == 3;
    let behind = asked.wait_for(name, PATIENCE, "all three files", enough).await;
    assert!(behind["lag"]["bytes"].as_u64() < Some(3_100_000), "{behind}");
}

/// Streaming needs less than looking at the binlog's end: what can't be seen is said, with the repair, which works.
async fn without_the_privilege(kind: Kind, privilege: &str) {
    let source = Source::create(kind, "truth").await;
    let (name, user) = (source.name(), format!("u{}", source.name()));
    source.create_table("t", "id int primary key").await;
    source
        .exec(&format!(
            "create user '{user}'@'%' identified by 'ownpw'; grant replication slave on *.* to '{user}'@'%'; \
             grant select on {name}.* to '{user}'@'%'"
        ))
        .await;
    let config = to_brokers(&source, env().brokers()).replace("user: cdc", &format!("user: {user}"));
    let asked = Asked::start(&[config.replace("cdcpw", "ownpw")]).await;
    asked.all_stream(&[name]).await;
    let noted = |it: &serde_json::Value| {
        let note = it["lag"]["note"].as_str().unwrap_or_default();
        note.contains("repair: GRANT") && it["state"] == "streaming" && it["lag"]["known"] == true
    };
    let seen = asked.wait_for(name, PATIENCE, "what can't be seen, and why, beside what can", noted).await;
    assert!(seen["lag"]["note"].as_str().unwrap().contains(privilege), "{seen}");
    asked.wait_for(name, PATIENCE, "no transaction behind", |it| it["lag"]["transactions"] == 0).await;
    source.exec(&format!("grant {privilege} on *.* to '{user}'@'%'")).await;
    asked.wait_for(name, PATIENCE, "nothing to note", |it| it["lag"]["note"].is_null() && caught_up(it)).await;
    source.exec(&format!("drop user '{user}'@'%'")).await;
}

#[tokio::test]
async fn mysql_without_replication_client_counts_transactions_only() {
    without_the_privilege(Kind::Mysql, "REPLICATION CLIENT").await;
}

#[tokio::test]
async fn mariadb_without_binlog_monitor_counts_transactions_only() {
    without_the_privilege(Kind::Mariadb, "BINLOG MONITOR").await;
}

#[tokio::test]
async fn copies_are_told_of_until_they_are_complete() {
    let source = Source::create(Kind::Postgres, "truth").await;
    let name = source.name();
    source.create_table("t", "id int primary key, note text").await;
    source.exec("insert into t select g, repeat('x', 100) from generate_series(1, 30000) g; analyze t").await;
    let config = to_brokers(&source, env().brokers())
        .replace("backfill: never\n", "backfill:\n  mode: initial\n  rows_per_second: 3000\n");
    let asked = Asked::start(&[config]).await;
    let reads = |it: &serde_json::Value| it["state"] == "backfilling" && it["backfill"]["rows_left"].is_number();
    let copying = asked.wait_for(name, PATIENCE, "backfilling", reads).await;
    assert_eq!((&copying["tables_left"], &copying["backfill"]["tables"][0]["table"]), (&1.into(), &"public.t".into()));
    assert!(copying["backfill"]["rows_left"].as_u64() > Some(0), "{copying}");
    assert_eq!(asked.get("/readyz").await.0, 200, "changes are streamed meanwhile");
    let metrics = asked.metrics().await;
    assert_eq!(
        (metrics.state(name), metrics.of("rowcast_backfill_tables_left", name)),
        ("backfilling".into(), Some(1.0))
    );
    let done = |it: &serde_json::Value| it["state"] == "streaming" && it["totals"]["rows"] == 30_000;
    let done = asked.wait_for(name, PATIENCE, "all rows, and streaming", done).await;
    assert_eq!(done["backfill"]["tables_left"], 0);
}

/// What the README documents is what there is.
#[tokio::test]
async fn the_documented_metrics_are_those_that_there_are() {
    let source = Source::create(Kind::Postgres, "truth").await;
    let other = Source::create(Kind::Mysql, "truth").await;
    for it in [&source, &other] {
        it.create_table("t", "id int primary key").await;
    }
    let brokers = env().brokers();
    let gone = to_brokers(&Source::create(Kind::Mysql, "gone").await, "127.0.0.1:1");
    let asked = Asked::start(&[to_brokers(&source, brokers), to_brokers(&other, brokers), gone]).await;
    for it in [&source, &other] {
        asked.wait_for(it.name(), PATIENCE, "streaming", |it| it["state"] == "streaming").await;
        it.exec("insert into t values (1)").await;
        asked.wait_for(it.name(), PATIENCE, "a commit", |it| it["committed_at"].is_number() && caught_up(it)).await;
    }
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let documented: BTreeSet<&str> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| line.split(['`', '{']).next())
        .filter(|name| name.starts_with("rowcast_") || name.starts_with("process_"))
        .collect();
    // some are there once a first look has told them
    eventually(PATIENCE, "all documented metrics, and no other", || async {
        let metrics = asked.metrics().await;
        let mut found: BTreeSet<&str> = metrics.names().iter().copied().collect();
        // PostgreSQL has a limit only if `max_slot_wal_keep_size` is set; the next attempt is there only between two
        found.extend(["rowcast_slot_safe_bytes", "rowcast_source_next_attempt_timestamp_seconds"]);
        let differs: Vec<String> = found.symmetric_difference(&documented).map(|it| (*it).to_owned()).collect();
        if differs.is_empty() { Ok(()) } else { Err(differs) }
    })
    .await;
}

/// A server that may purge what isn't read yet is warned about: in the log, in the report and in the metrics.
async fn purged_soon(kind: crate::support::mysql::Kind) {
    let servers = crate::support::Servers::private(&[kind.server()]);
    let source = Source::Mysql(crate::support::mysql::Db::create_on(&servers, kind, "truth").await);
    let name = source.name();
    source.create_table("t", "id int primary key").await;
    // everything read so far may go
    source.exec("flush binary logs").await;
    let newest = source.query("show binary logs").await.last().unwrap()[0].clone().unwrap();
    // MariaDB keeps a log until its engines have written all of it, and then another one would be the oldest
    eventually(PATIENCE, "the older files to be purged", || async {
        source.exec(&format!("purge binary logs to '{newest}'")).await;
        let logs = source.query("show binary logs").await;
        if logs.len() == 1 { Ok(()) } else { Err(logs) }
    })
    .await;
    let kafka = crate::support::Servers::private(&["kafka"]);
    let mut asked = Asked::start(&[to_brokers(&source, kafka.brokers())]).await;
    asked.all_stream(&[name]).await;
    source.exec("insert into t values (0)").await;
    // the row, not only no lag, which was there before it: the table's topic has to exist before its broker is paused
    asked.wait_for(name, PATIENCE, "the row", |it| it["totals"]["rows"] == 1 && caught_up(it)).await;
    let warned = async |asked: &Asked, warning: &str| {
        let metrics = asked.metrics().await;
        metrics.with("rowcast_binlog_warning", &[("source", name), ("warning", warning)])
    };
    assert_eq!((warned(&asked, "expiry").await, warned(&asked, "oldest").await), (Some(0.0), Some(0.0)));
    let mark = asked.daemon.mark();
    let paused = crate::asking::pause(kafka.pid("kafka"));
    for id in 1..4 {
        source.exec(&format!("insert into t values ({id}); flush binary logs")).await;
    }
    source.exec("set global binlog_expire_logs_seconds = 5").await;
    let said =
        asked.daemon.wait_for_log_since(mark, "s behind, and the server purges binary logs after 5 s", PATIENCE).await;
    assert!(said.contains("WARN") && said.contains("repair: "), "{said}");
    asked.daemon.wait_for_log_since(mark, "the oldest binary log that the server has left", PATIENCE).await;
    let kinds = |it: &serde_json::Value| {
        let warnings = it["binlog"]["warnings"].as_array().cloned().unwrap_or_default();
        warnings.iter().map(|it| it["kind"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let told = asked.wait_for(name, PATIENCE, "both warnings", |it| kinds(it) == ["expiry", "oldest"]).await;
    assert_eq!(told["binlog"]["expire_seconds"], 5);
    assert_eq!((warned(&asked, "expiry").await, warned(&asked, "oldest").await), (Some(1.0), Some(1.0)));
    assert_eq!(asked.metrics().await.of("rowcast_binlog_expire_seconds", name), Some(5.0));
    drop(paused);
    asked.wait_for(name, PATIENCE, "no warning", |it| kinds(it).is_empty()).await;
    asked.daemon.wait_for_log_since(mark, "the binary log is out of this danger", PATIENCE).await;
}

#[tokio::test]
async fn a_lag_that_nears_the_purge_of_mysqls_binary_logs_is_warned_about() {
    purged_soon(crate::support::mysql::Kind::Mysql).await;
}

#[tokio::test]
async fn a_lag_that_nears_the_purge_of_mariadbs_binary_logs_is_warned_about() {
    purged_soon(crate::support::mysql::Kind::Mariadb).await;
}
