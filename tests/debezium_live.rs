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

use std::fs;

use support::cases::Case;
use support::connect::Run;
use support::env;
use support::source::Kind;

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
        run.stream(&run.prefixes()).await;
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
