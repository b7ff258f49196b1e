//! The file sink's rotation: nothing is lost or cut at a SIGKILL, transactions stay in one file, the number of files is bounded.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value as Json;
use support::daemon::{Builder, Daemon};
use support::eventually;
use support::source::{Kind, Source, Writer};

const LIMIT: Duration = Duration::from_secs(90);

fn with(source: &Source, sink: &str, more: &str) -> Builder {
    let text = source.yaml("*")
        + &format!("backfill: never\nsink:\n  type: file\n  path: out.jsonl\n{sink}state_dir: state\n{more}");
    Daemon::command().file("source.yaml", &text).args(&["run", "source.yaml"])
}

/// The files of events, the oldest first, the current one last.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("out.jsonl."))
        .collect();
    files.sort();
    files.push(folder.join("out.jsonl"));
    files.retain(|file| file.exists());
    files
}

/// The events of a file; every line must be a whole one, but for the end of the file that is being written.
fn events(file: &Path) -> Vec<Json> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    assert!(whole == text.len() || file.ends_with("out.jsonl"), "{} ends inside a line", file.display());
    text[..whole].lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

fn all(folder: &Path) -> Vec<Json> {
    // while files get their numbers one may be met under both names, or none
    files(folder).iter().flat_map(|file| events(file)).collect()
}

fn ids(events: &[Json]) -> BTreeSet<i64> {
    events.iter().filter_map(|event| event["after"]["id"].as_i64()).collect()
}

async fn shop() -> Source {
    let source = Source::create(Kind::Postgres, "rotate").await;
    source.create_table("orders", "id bigint primary key, note text").await;
    source
}

/// Twelve SIGKILLs while rows are written and files are set aside every few transactions.
#[tokio::test]
async fn nothing_is_lost_or_cut_when_the_daemon_is_killed() {
    let source = shop().await;
    let more = "commit: {interval: 5ms}\n";
    let mut daemon = with(&source, "  rotate: {max_bytes: 16KiB, keep: 10000}\n", more).spawn();
    daemon.wait_for_log("streaming: ", LIMIT).await;
    let mut writer = Writer::of(&source).await;
    let mut last = 0;
    for round in 0..12 {
        let (before, marked) = (files(daemon.dir()).len(), last);
        // until files were set aside in this round too
        while files(daemon.dir()).len() < before + 3 || last < marked + 50 {
            let rows = format!(
                "insert into orders select i, repeat('x', 200) from generate_series({}, {}) i",
                last + 1,
                last + 7
            );
            writer.run(&rows).await;
            last += 7;
            tokio::time::sleep(Duration::from_millis(3)).await;
            assert!(last < 200_000, "no file is set aside in round {round}");
        }
        daemon.kill9();
        // every line is whole at the next start, at the latest
        writer.run(&format!("insert into orders values ({}, 'while it was down')", last + 1)).await;
        last += 1;
        daemon.start();
    }
    let expected: BTreeSet<i64> = (1..=last).collect();
    eventually(LIMIT, "all events", || async {
        let found = ids(&all(daemon.dir()));
        if found == expected { Ok(()) } else { Err(expected.difference(&found).copied().collect::<Vec<_>>()) }
    })
    .await;
    assert_eq!(daemon.shutdown(LIMIT).await, 0);
    // what came again has the same id, and a transaction is whole in one file: the last time that it was sent
    let mut rows: BTreeMap<String, i64> = BTreeMap::new();
    let mut home: BTreeMap<String, BTreeMap<PathBuf, BTreeSet<i64>>> = BTreeMap::new();
    for file in files(daemon.dir()) {
        for event in events(&file) {
            let (id, row) = (event["id"].as_str().unwrap().to_owned(), event["after"]["id"].as_i64().unwrap());
            assert_eq!(*rows.entry(id).or_insert(row), row);
            let tx = event["source"]["tx"].as_str().unwrap().to_owned();
            home.entry(tx).or_default().entry(file.clone()).or_default().insert(row);
        }
    }
    assert_eq!(rows.len(), expected.len(), "an event has two ids");
    for (tx, files) in &home {
        let size = files.values().map(BTreeSet::len).max().unwrap();
        assert!(size == 7 || size == 1, "transaction {tx} is in no file whole: {files:?}");
    }
}

#[tokio::test]
async fn files_are_set_aside_between_transactions_and_the_oldest_deleted() {
    let source = shop().await;
    let mut daemon = with(&source, "  rotate: {max_bytes: 4KiB, keep: 3}\n", "commit: {max_bytes: 64KiB}\n").spawn();
    daemon.wait_for_log("streaming: ", LIMIT).await;
    // larger than a file, and than a commit, so that it is committed in parts: it stays in one
    source.exec("insert into orders select i, repeat('x', 300) from generate_series(-3000, -1) i").await;
    eventually(LIMIT, "the first file", || async {
        match files(daemon.dir()).len() {
            2.. => Ok(()),
            other => Err(other),
        }
    })
    .await;
    assert_eq!(ids(&events(&files(daemon.dir())[0])), (-3000..=-1).collect());
    for round in 1..=6 {
        source
            .exec(&format!(
                "insert into orders select i, repeat('x', 100) from generate_series({round}001, {round}030) i"
            ))
            .await;
        eventually(LIMIT, "a file", || async {
            let aside = files(daemon.dir());
            let newest = aside.iter().rev().nth(1).map(|file| ids(&events(file)));
            if newest.as_ref().is_some_and(|ids| ids.contains(&(round * 1000 + 30))) { Ok(()) } else { Err(newest) }
        })
        .await;
    }
    // the oldest goes a moment after the newest has its number
    let kept = ["out.jsonl.00000005", "out.jsonl.00000006", "out.jsonl.00000007", "out.jsonl"];
    eventually(LIMIT, "the files that are kept", || async {
        let names: Vec<String> =
            files(daemon.dir()).iter().map(|file| file.file_name().unwrap().to_str().unwrap().to_owned()).collect();
        if names == kept { Ok(()) } else { Err(names) }
    })
    .await;
    // numbers go on after a restart
    assert_eq!(daemon.shutdown(LIMIT).await, 0);
    daemon.start();
    source.exec("insert into orders select i, repeat('x', 100) from generate_series(9001, 9030) i").await;
    eventually(LIMIT, "the next number", || async {
        let names = files(daemon.dir());
        // the current one isn't there for a moment
        if names.iter().any(|name| name.ends_with("out.jsonl.00000008")) { Ok(()) } else { Err(names) }
    })
    .await;
}

async fn sees(daemon: &Daemon, expected: &[i64]) {
    eventually(LIMIT, "the events", || async {
        let found = ids(&events(&daemon.dir().join("out.jsonl")));
        if found.iter().eq(expected) { Ok(()) } else { Err(found) }
    })
    .await;
}

#[tokio::test]
async fn a_line_that_a_crash_cut_short_is_removed() {
    let source = shop().await;
    let builder = with(&source, "", "");
    // what somebody else began is kept, and ended
    std::fs::write(builder.dir().join("out.jsonl"), "{\"not\":\"ours\"}").unwrap();
    let mut daemon = builder.spawn();
    daemon.wait_for_log("streaming: ", LIMIT).await;
    source.exec("insert into orders values (1)").await;
    sees(&daemon, &[1]).await;
    daemon.kill9();
    let file = daemon.dir().join("out.jsonl");
    let whole = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{whole}{{\"op\":\"c\",{}", " ".repeat(20_000))).unwrap();
    daemon.start();
    source.exec("insert into orders values (2)").await;
    sees(&daemon, &[1, 2]).await;
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.starts_with(&whole) && text.starts_with("{\"not\":\"ours\"}\n"), "{text}");
}

#[tokio::test]
async fn what_can_not_be_set_aside_is_told() {
    let source = shop().await;
    // a device takes events, and never grows
    let builder = with(&source, "  rotate: {max_bytes: 1KiB}\n", "");
    std::os::unix::fs::symlink("/dev/null", builder.dir().join("out.jsonl")).unwrap();
    let mut daemon = builder.spawn();
    assert_eq!(daemon.wait(LIMIT).await, 1);
    let log = daemon.stderr();
    assert!(
        log.contains("out.jsonl is a symbolic link, which can't be set aside") && log.contains("repair: "),
        "{log}"
    );
}
