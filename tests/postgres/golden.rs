//! Every type with its odd values: as files, one row each, that were compared with `psql` by eye.
//!
//! The files are those of [`crate::support::golden`], in `tests/golden/postgres`; what they expect holds by stream in binary form and as
//! text, and by a copy. Each event is held against the envelope's JSON Schema, and each value against its
//! type's. The lines of debezium-losses.md about values are named in the files' heads.

use crate::support::daemon::Daemon;
use crate::support::env;
use crate::support::golden::{Family, after, check_schema, same_from_a_copy};
use crate::support::source::{Kind, PATIENCE, Source, wait_until_streaming};

/// Types with an exact binary form.
const BINARY: [&str; 6] = ["numbers", "texts", "times", "ranges", "networks", "extensions"];
/// And the others.
const ALL: [&str; 7] = ["numbers", "texts", "times", "ranges", "networks", "extensions", "shapes"];

/// Makes a table.
async fn create(source: &Source, name: &'static str) -> Family {
    let major: u32 = env().var("PG_MAJOR").parse().unwrap();
    // `-- 17` in front of a row: from this version on
    let family = Family::read("postgres", name, |line| match line.strip_prefix("-- ") {
        Some(line) => {
            let (since, row) = line.split_once(' ').unwrap();
            (since.parse::<u32>().unwrap() <= major).then(|| row.to_owned())
        }
        None => Some(line.to_owned()),
    });
    source.exec(&family.setup).await;
    source.exec(&format!("alter table {name} owner to cdc")).await;
    family
}

fn debugging(source: &Source, more: &str) -> Daemon {
    let yaml = source.to_kafka_yaml("*", "backfill: never\n").replace("  user: cdc\n", &format!("  user: cdc\n{more}"));
    Daemon::command()
        .file("source.yaml", &yaml)
        .args(&["run", "source.yaml"])
        .env("ROWCAST__LOGGING__LEVEL", "info,rowcast_postgres=debug")
        .spawn()
}

/// Whether the last stream was begun in binary form.
async fn in_binary(daemon: &mut Daemon) -> bool {
    let line = daemon.wait_for_log("stream started", PATIENCE).await;
    assert!(line.contains("binary=true") || line.contains("binary=false"), "{line}");
    line.contains("binary=true")
}

async fn golden(tables: &[&'static str], binary: bool) {
    let source = Source::create(Kind::Postgres, "golden").await;
    let mut families = Vec::new();
    for table in tables {
        families.push(create(&source, table).await);
    }
    let mut daemon = debugging(&source, "");
    wait_until_streaming(&mut daemon).await;
    // no server before 14 has the option
    let has_option = env().var("PG_MAJOR").parse::<u32>().unwrap() >= 14;
    assert_eq!(in_binary(&mut daemon).await, binary && has_option);
    for family in &families {
        source.exec(&family.rows.join("\n")).await;
    }
    for family in &families {
        source.wait_for_events(family.name, family.rows.len()).await;
        let images: Vec<String> = source.records(family.name).await.iter().map(after).collect();
        family.check(&images);
    }
    let counts: Vec<(&str, usize)> = families.iter().map(|family| (family.name, family.rows.len())).collect();
    same_from_a_copy(&source, &daemon, &counts).await;
    check_schema(&source, tables).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_have_their_documented_form_from_binary() {
    golden(&BINARY, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_have_their_documented_form_from_text() {
    golden(&ALL, false).await;
}
