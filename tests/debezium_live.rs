//! The original at work: Kafka Connect with the real Debezium, beside Rowcast on the same databases, or alone to record what it says.
//! Needs Connect among the servers, so nothing here runs in `make test`: `make record-debezium` and `make diff-debezium` do.
//!
//! `ROWCAST_DEBEZIUM_CASES` and `ROWCAST_DEBEZIUM_CONNECTORS` choose (names with spaces between); without them all are run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable,
    missing_docs
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Mutex;

use serde_json::Value as Json;
use support::cases::Case;
use support::connect::{Run, ask};
use support::daemon::Daemon;
use support::env::APP_PASSWORD;
use support::source::{Kind, PATIENCE, Source, Writer};
use support::{compare, debezium, env};

/// Names that an environment variable chooses.
fn chosen(variable: &str, all: Vec<String>) -> Vec<String> {
    match std::env::var(variable) {
        Ok(text) if !text.trim().is_empty() => {
            let wanted: Vec<&str> = text.split_whitespace().collect();
            all.into_iter().filter(|name| wanted.contains(&name.as_str())).collect()
        }
        _ => all,
    }
}

fn connectors() -> Vec<Kind> {
    let known = [
        ("postgres", Kind::Postgres, "PG_PORT"),
        ("mysql", Kind::Mysql, "MYSQL_PORT"),
        ("mariadb", Kind::Mariadb, "MARIADB_PORT"),
    ];
    let here = known.iter().filter(|(_, _, variable)| env().has(variable));
    let names = chosen("ROWCAST_DEBEZIUM_CONNECTORS", here.map(|it| it.0.to_owned()).collect());
    known.into_iter().filter(|it| names.iter().any(|name| name == it.0)).map(|it| it.1).collect()
}

/// Runs `each` for every case of every connector: connectors side by side, a connector's cases one after the other, since transactions and DDL of
/// one are seen by another. Returns what failed.
async fn run_all<F, Fut>(each: F) -> Vec<String>
where
    F: Fn(Kind, &'static Case) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Vec<String>> + Send + 'static,
{
    let of_connectors = connectors().into_iter().map(|kind| {
        let each = each.clone();
        tokio::spawn(async move {
            let mut failed = Vec::new();
            support::connect::clear(env(), kind).await;
            for name in chosen("ROWCAST_DEBEZIUM_CASES", Case::names(kind.name())) {
                let case: &'static Case = Box::leak(Box::new(Case::read(kind.name(), &name)));
                let started = std::time::Instant::now();
                match tokio::spawn(each(kind, case)).await {
                    Ok(found) => failed.extend(found),
                    Err(error) => {
                        failed.push(format!("{}, {name}: {error}", kind.name()));
                        support::connect::clear(env(), kind).await;
                    }
                }
                println!("{}, {name}: {} variants, {:.0?}", kind.name(), case.variants.len(), started.elapsed());
            }
            failed
        })
    });
    let mut failed = Vec::new();
    for one in of_connectors.collect::<Vec<_>>() {
        failed.extend(one.await.unwrap());
    }
    failed
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes tests/debezium/recorded with what the original says; scripts/debezium-record.sh runs it"]
async fn record() {
    let failed = run_all(|kind, case| async move {
        let mut run = Run::prepare(env(), kind, case).await;
        for (variant, _) in &case.variants {
            run.start(variant).await;
        }
        run.streaming().await;
        run.stream(&run.prefixes(), false).await;
        for connector in &run.connectors {
            let lines = run.lines(&connector.prefix, false).await;
            let path = case.recording(kind.name(), &connector.variant);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, lines.join("\n") + "\n").unwrap();
        }
        run.end().await;
        Vec::new()
    })
    .await;
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Our configuration for a variant: the connector's options under a prefix of our own, imported as an operator would. Or the options of the variant
/// that we don't have, as the import tells them.
async fn imported(run: &Run<'_>, variant: &str, prefix: &str) -> Result<String, String> {
    let mut options: serde_json::Map<String, serde_json::Value> =
        run.options(variant, prefix).into_iter().map(|(name, value)| (name, value.into())).collect();
    // the original's publication is there already, for all tables
    if let (Kind::Postgres, Some(original)) = (run.source.kind(), run.connectors.first()) {
        options.insert("publication.name".to_owned(), original.prefix.clone().into());
    }
    let file = serde_json::json!({"name": prefix, "config": options}).to_string();
    let importing = Daemon::command().file("connector.json", &file).args(&["import", "debezium", "connector.json"]);
    let (code, yaml, report) = importing.output(PATIENCE).await;
    assert_eq!(code, 0, "{variant}: {report}");
    let missing = report.lines().filter(|line| line.starts_with("not supported") || line.starts_with("unknown"));
    let missing: Vec<&str> = missing.collect();
    if !missing.is_empty() {
        let names = missing.iter().map(|line| line.split(": ").next().unwrap());
        return Err(names.map(|it| it.split_whitespace().last().unwrap()).collect::<Vec<_>>().join(" "));
    }
    // nulls are kept by `exact` alone otherwise, and all here are compared without it
    let kept = options.get("value.converter.replace.null.with.default").is_some_and(|value| value == "false");
    let nulls = if kept { "  value_replace_null_with_default: false\n" } else { "" };
    let without = format!("format: debezium\ndebezium:\n  exact: false\n{nulls}");
    Ok(yaml.replace("format: debezium\ndebezium:\n", &without)
        // rows of a copy in the order of the original's
        + "commit:\n  interval: 20ms\nbackfill:\n  parallelism: 1\n")
}

/// Our daemon with a configuration.
fn daemon(prefix: &str, yaml: &str) -> Daemon {
    Daemon::command()
        .file("source.yaml", yaml)
        .env(&format!("{}_PASSWORD", prefix.to_ascii_uppercase()), APP_PASSWORD)
        .env("KAFKA_BROKERS", env().brokers())
        .args(&["run", "source.yaml"])
        .spawn()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs the original beside us on the same databases; make diff-debezium runs it"]
async fn live() {
    static COUNTS: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());
    static LEFT_OUT: Mutex<Vec<String>> = Mutex::new(Vec::new());
    // of the list, what was met
    static MET: Mutex<BTreeSet<usize>> = Mutex::new(BTreeSet::new());
    let failed = run_all(|kind, case| async move {
        let mut run = Run::prepare(env(), kind, case).await;
        let mut ours = Vec::new();
        for (variant, _) in &case.variants {
            match imported(&run, variant, "asked").await {
                Ok(_) => run.start(variant).await,
                Err(missing) => {
                    LEFT_OUT.lock().unwrap().push(format!("{}, {}, {variant}: {missing}", kind.name(), case.name))
                }
            }
        }
        if run.connectors.is_empty() {
            return Vec::new();
        }
        run.streaming().await;
        for connector in &run.connectors {
            let prefix = support::unique("ours");
            let yaml = imported(&run, &connector.variant, &prefix).await.unwrap();
            let daemon = daemon(&prefix, &yaml);
            ours.push((prefix, daemon));
        }
        let tables = run.tables().await;
        for (prefix, daemon) in &mut ours {
            support::eventually_within(PATIENCE, &format!("the copies of {prefix}"), || async {
                let log = daemon.stderr();
                assert!(!log.contains("stopped: "), "{log}");
                log.matches("the table is copied").count() >= tables
            })
            .await;
        }
        let prefixes: Vec<String> = run.prefixes().into_iter().chain(ours.iter().map(|it| it.0.clone())).collect();
        run.stream(&prefixes, true).await;
        let (mut failed, allowed) = (Vec::new(), compare::allowed());
        for (connector, (prefix, _)) in run.connectors.iter().zip(&ours) {
            let mut original = run.lines(&connector.prefix, true).await;
            original.retain(|line| !debezium::is_statement_of_snapshot(line));
            let found = compare::compare(&original, &run.lines(prefix, true).await);
            let (known, new): (Vec<_>, Vec<_>) = found.iter().partition(|difference| {
                let covers = |it: &compare::Allowed| it.covers(kind.name(), &case.name, &connector.variant, difference);
                let met = allowed.iter().position(covers);
                MET.lock().unwrap().extend(met);
                met.is_some()
            });
            let mut counts = COUNTS.lock().unwrap();
            *counts.entry("variants".to_owned()).or_default() += 1;
            *counts.entry("lines of the original".to_owned()).or_default() += original.len();
            *counts.entry("differences on the list".to_owned()).or_default() += known.len();
            if !new.is_empty() {
                let shown: Vec<String> = new.iter().take(12).map(ToString::to_string).collect();
                failed.push(format!(
                    "{}, {}, {}: {} differences\n  {}",
                    kind.name(),
                    case.name,
                    connector.variant,
                    new.len(),
                    shown.join("\n  ")
                ));
            }
        }
        run.end().await;
        failed
    })
    .await;
    println!("{:?}", COUNTS.lock().unwrap());
    let met = MET.lock().unwrap();
    let unmet = compare::allowed().into_iter().enumerate().filter(|(index, _)| !met.contains(index));
    let unmet: Vec<String> = unmet.map(|(_, it)| format!("{} {}: {}", it.cases, it.path, it.why)).collect();
    println!("on the list, and not met in this run:\n  {}", unmet.join("\n  "));
    println!("not compared, for want of options:\n  {}", LEFT_OUT.lock().unwrap().join("\n  "));
    assert!(failed.is_empty(), "{} variants differ\n{}", failed.len(), failed.join("\n"));
}

/// Stops the original inside of a transaction; then the daemon goes on by Connect's topic of offsets, into the same topic. `queries`: the original asks
/// for the texts of statements, which are events of their own in MariaDB's log.
async fn goes_on_behind(source: Source, queries: bool) {
    let (kind, name) = (source.kind(), source.name().to_owned());
    source.create_table("t", "id bigint primary key, a int").await;
    source.exec("insert into t values (1, 0)").await;
    let prefix = support::unique(match kind {
        Kind::Postgres => "dbzpg",
        Kind::Mysql => "dbzmy",
        Kind::Mariadb => "dbzma",
    });
    let mut options: BTreeMap<String, String> =
        support::connect::connector_options(env(), &source, &prefix).into_iter().collect();
    // slow, so that it is in the middle when it is told to stop
    for (option, value) in [("max.batch.size", "5"), ("max.queue.size", "6"), ("poll.interval.ms", "100")] {
        options.insert(option.to_owned(), value.to_owned());
    }
    if queries {
        options.insert("include.query".to_owned(), "true".to_owned());
    }
    let (code, body) =
        ask(env(), "PUT", &format!("/connectors/{prefix}/config"), Some(&serde_json::json!(options))).await;
    assert!(code < 300, "Connect refused it: {code} {body}");
    let topic = format!("{prefix}.{}.t", source.schema());
    let ids = || async {
        let records = support::kafka::read_committed(&topic).await;
        let id = |record: &support::kafka::Record| record.json()["payload"]["after"]["id"].as_i64().unwrap();
        records.iter().map(id).collect::<Vec<i64>>()
    };
    support::eventually_within(PATIENCE, "the snapshot", || async { ids().await == [1] }).await;
    let rows = |from: i64| (from..from + 400).map(|id| format!("({id}, 0)")).collect::<Vec<_>>().join(", ");
    let statements: Vec<String> = (0..20).map(|it| format!("insert into t values {}", rows(100 + 400 * it))).collect();
    let mut writer = Writer::of(&source).await;
    // the stream has begun
    writer.run("insert into t values (2, 0)").await;
    support::eventually_within(PATIENCE, "the stream", || async { ids().await == [1, 2] }).await;
    writer.transaction(&statements).await;
    support::eventually_within(PATIENCE, "some rows", || async { ids().await.len() > 60 }).await;
    let (code, body) = ask(env(), "PUT", &format!("/connectors/{prefix}/stop"), None).await;
    assert!(code < 300, "{code} {body}");
    support::eventually_within(PATIENCE, "the original to stop", || async {
        let (_, body) = ask(env(), "GET", &format!("/connectors/{prefix}/status"), None).await;
        body.contains("STOPPED") && body.contains("\"tasks\":[]")
    })
    .await;
    let published = ids().await;
    assert!(published.len() < 7_900, "it was over before it was stopped: {}", published.len());
    // what it delivered without an answer is behind the offset, and comes again with the original, too
    let (_, offsets) = ask(env(), "GET", &format!("/connectors/{prefix}/offsets"), None).await;
    let offsets: Json = serde_json::from_str(&offsets).unwrap();
    let offset = &offsets["offsets"][0]["offset"];
    let last = match kind {
        Kind::Postgres => {
            let records = support::kafka::read_committed(&topic).await;
            let of_lsn = records
                .iter()
                .map(support::kafka::Record::json)
                .rfind(|it| it["payload"]["source"]["lsn"] == offset["lsn"]);
            of_lsn.unwrap()["payload"]["after"]["id"].as_i64().unwrap()
        }
        // the beginning, a TABLE_MAP and the rows of each statement
        _ => {
            let each = if queries { 3 } else { 2 };
            let statements = (offset["event"].as_i64().unwrap() - each) / each;
            100 + statements * 400 + offset["row"].as_i64().unwrap() - 1
        }
    };

    let file = serde_json::json!({"name": prefix, "config": options}).to_string();
    let args = ["--offsets-topic", "connect-offsets", "--brokers", env().brokers()];
    let importing = Daemon::command().file("connector.json", &file).args(&["import", "debezium", "connector.json"]);
    let (code, yaml, report) = importing.args(&args).output(PATIENCE).await;
    assert_eq!(code, 0, "{report}");
    let start = yaml.lines().find(|line| line.contains("start_at")).unwrap();
    let last_of_all = published.last().unwrap();
    println!("{}, {name}: the original up to {last_of_all}, its offset at {last}: {}", kind.name(), start.trim());
    writer.run("insert into t values (9000, 0)").await;
    let mut daemon = daemon(&prefix, &yaml);
    daemon.wait_for_log("streaming: ", PATIENCE).await;
    support::eventually_within(PATIENCE, "the last row", || async { ids().await.contains(&9000) }).await;
    let all = ids().await;
    let (theirs, ours) = all.split_at(published.len());
    let end = 100 + i64::try_from(theirs.len()).unwrap() - 2;
    assert!(theirs.iter().copied().eq([1, 2].into_iter().chain(100..end)), "{theirs:?}");
    assert!(ours.iter().copied().eq((last + 1..8_100).chain([9000])), "behind {last}: {ours:?}");
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
    ask(env(), "DELETE", &format!("/connectors/{prefix}"), None).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "stops the original inside of a transaction and goes on there; scripts/debezium-record.sh --test handover runs it"]
async fn handover() {
    for kind in connectors() {
        goes_on_behind(Source::create_on(env(), kind, "dbzcase").await, false).await;
        if kind == Kind::Mariadb {
            goes_on_behind(Source::create_on(env(), kind, "dbzcase").await, true).await;
        }
        if kind == Kind::Mysql {
            let off = [("ROWCAST_MYSQL_CONF", "--gtid-mode=OFF --enforce-gtid-consistency=OFF")];
            let servers = tokio::task::block_in_place(|| support::Servers::private_with(&["mysql"], &off));
            goes_on_behind(Source::create_on(&servers, kind, "dbzcase").await, false).await;
        }
    }
}
