//! A crash behind every step of taking over, publishing, committing and confirming.

use std::collections::HashMap;
use std::time::Duration;

use rowcast::fail::POINTS;
use serde_json::Value as Json;
use tokio::task::JoinSet;

use crate::check::Mode;
use crate::rig::{Rig, Setup};
use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::support::source::{Kind, PATIENCE, Source};

const VARIABLE: &str = "ROWCAST_FAIL_POINT";

/// Each point, passed for the first, second and fifth time: in the start itself, in its first commits, and in mid traffic.
async fn crashed(kind: Kind, mode: Mode) {
    let name = if mode == Mode::ExactlyOnce { "steps" } else { "steps at least once" };
    let setup = Setup::of(kind, "steps", 11).await;
    let name = format!("{} {name}", kind.name());
    let mut rig = Rig::start(Setup { mode, name: name.clone(), ..setup }).await;
    let mut crashes = 0;
    for point in POINTS.iter().filter(|point| !point.starts_with("file.")) {
        let times: &[u32] = if point.starts_with("open.") { &[1] } else { &[1, 2, 5] };
        for times in times {
            rig.daemon.kill9();
            rig.daemon.set_env(VARIABLE, Some(&format!("{point}:{times}")));
            rig.mark = rig.daemon.mark();
            rig.daemon.start();
            assert_eq!(rig.daemon.wait(PATIENCE).await, -6, "{name}: {point}: {}", &rig.daemon.stderr()[rig.mark.1..]);
            rig.daemon.set_env(VARIABLE, None);
            rig.mark = rig.daemon.mark();
            rig.daemon.start();
            rig.progress(1).await;
            crashes += 1;
        }
    }
    let outcome = rig.finish().await;
    outcome.print(&format!("{crashes} crashes at {} steps", POINTS.len() - 2)).assert_right();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_behind_any_step_loses_repeats_and_reorders_nothing() {
    JoinSet::from_iter(Kind::ALL.map(|kind| crashed(kind, Mode::ExactlyOnce))).join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_behind_any_step_loses_nothing_at_least_once() {
    JoinSet::from_iter(Kind::ALL.map(|kind| crashed(kind, Mode::AtLeastOnce))).join_all().await;
}

/// The events in the file, by row; a repeat must be the same text.
fn in_file(daemon: &Daemon) -> HashMap<i64, usize> {
    let text = std::fs::read_to_string(daemon.dir().join("events.jsonl")).unwrap_or_default();
    let mut texts: HashMap<String, String> = HashMap::new();
    let mut rows: HashMap<i64, usize> = HashMap::new();
    for line in text.lines() {
        // the last line may be in writing, and a crash may have cut one short: both are sent again whole
        let Ok(event) = serde_json::from_str::<Json>(line) else { continue };
        let id = event["id"].as_str().unwrap().to_owned();
        let known = texts.entry(id).or_insert_with(|| line.to_owned());
        let stable = |text: &str| text.split("\"ts_us\"").next().unwrap().to_owned();
        assert_eq!(stable(known), stable(line));
        *rows.entry(event["after"]["id"].as_i64().unwrap()).or_default() += 1;
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_behind_any_step_of_a_file_loses_nothing() {
    let source = Source::create(Kind::Postgres, "steps").await;
    source.create_table("orders", "id bigint primary key").await;
    let yaml = source.yaml("*") + "sink:\n  type: file\n  path: events.jsonl\nstate_dir: state\nbackfill: never\n";
    let mut daemon = Daemon::command().file("source.yaml", &yaml).args(&["run", "source.yaml"]).spawn();
    daemon.wait_for_log("streaming: ", PATIENCE).await;
    let mut rows = 0;
    for point in ["open.source", "file.synced:1", "file.synced:3", "file.written:1", "file.written:2", "confirm.done:2"]
    {
        daemon.kill9();
        daemon.set_env(VARIABLE, Some(point));
        daemon.start();
        // one commit after the other
        eventually(PATIENCE, &format!("the crash at {point}"), || {
            rows += 1;
            let (row, source, running) = (rows, &source, daemon.is_running());
            async move {
                source.exec(&format!("insert into orders values ({row})")).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
                if running { Err("it runs") } else { Ok(()) }
            }
        })
        .await;
        assert_eq!(daemon.wait(PATIENCE).await, -6, "{point}: {}", daemon.logs());
        daemon.set_env(VARIABLE, None);
        daemon.start();
        eventually(PATIENCE, &format!("all rows after {point}"), || async {
            let found = in_file(&daemon);
            let missing: Vec<i64> = (1..=rows).filter(|row| !found.contains_key(row)).collect();
            if missing.is_empty() { Ok(()) } else { Err(missing) }
        })
        .await;
    }
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
    println!("file: {rows} rows, {} repeated", in_file(&daemon).values().filter(|times| **times > 1).count());
}
