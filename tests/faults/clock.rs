//! The wall clock jumps below a daemon that streams: an hour, a day, ahead and back. libfaketime stands between it and the system's clock;
//! `clock_waits.c` beside it has waits that are in progress meanwhile end by the clock as it was set, as the kernel does.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::rig::{Rig, Setup};
use crate::support::admin;
use crate::support::env::faketime;
use crate::support::eventually;
use crate::support::source::{Kind, PATIENCE};

/// A bit less: Kafka takes records that are an hour ahead at most (`message.timestamp.after.max.ms`).
const HOUR: i64 = 3540;
const DAY: i64 = 24 * 3600;
/// One after the other; each is where the clock stands then, beside the true time.
const JUMPS: [i64; 8] = [HOUR, 0, -HOUR, 0, -DAY, HOUR, -DAY, 0];
/// No source is further behind than that, whatever its clock says: a machine that is busy adds a minute, a jump an hour.
const LAG: f64 = 900.0;

/// A clock that a daemon goes by.
struct Clock {
    folder: TempDir,
    file: PathBuf,
}

impl Clock {
    fn new() -> Clock {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock { file: folder.path().join("offset"), folder };
        clock.set(0);
        clock
    }

    /// So many seconds beside the true time, from now on.
    fn set(&self, seconds: i64) {
        let beside = self.file.with_extension("new");
        std::fs::write(&beside, format!("{seconds:+}\n")).unwrap();
        std::fs::rename(&beside, &self.file).unwrap();
    }

    /// The library with timed waits.
    fn waits(&self) -> String {
        let library = self.folder.path().join("waits.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/clock_waits.c");
        let compiled =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status().unwrap();
        assert!(compiled.success());
        library.to_str().unwrap().to_owned()
    }

    fn environment(&self) -> Vec<(String, String)> {
        let file = self.file.to_str().unwrap();
        // the monotonic clock is the system's: it doesn't jump
        [
            ("LD_PRELOAD", format!("{}:{}", self.waits(), faketime()).as_str()),
            ("FAKETIME_TIMESTAMP_FILE", file),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            admin::ANY,
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }
}

/// Seconds since 1970 by the true clock.
fn now() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64()
}

/// Everything that can be asked says that all is well, or that a server which other tests use, too, is slow with an answer.
async fn is_well(address: &str, name: &str) {
    let source = admin::source(address, name).await;
    if source["state"] == "waiting" {
        let why = source["why"].as_str().unwrap();
        assert!(why.starts_with("kafka has not ") || why.starts_with("nothing was heard "), "{source}");
        return;
    }
    assert_eq!(source["state"], "streaming", "{source}");
    let seconds = source["lag"]["seconds"].as_f64();
    assert!(seconds.is_none_or(|seconds| (0.0..LAG).contains(&seconds)), "{source}");
}

/// Every clock's jump ends well.
async fn is_ready(address: &str) {
    eventually(PATIENCE, "/readyz", || async {
        match admin::get(address, "/readyz").await {
            (200, _) => Ok(()),
            other => Err(other),
        }
    })
    .await;
}

/// The same, soon: what the killed process had sent may be read before the new one is ready.
async fn becomes_well(address: &str, name: &str) {
    eventually(PATIENCE, "streaming", || async {
        let source = admin::source(address, name).await;
        if source["state"] == "streaming" { Ok(()) } else { Err(source) }
    })
    .await;
    is_well(address, name).await;
}

async fn jumping(kind: Kind) {
    let clock = Clock::new();
    let setup = Setup::of(kind, "clock", 7).await;
    let name = setup.source.name().to_owned();
    let mut rig = Rig::start(Setup { environment: clock.environment(), ..setup }).await;
    let address = admin::address(&mut rig.daemon, (0, 0)).await;
    eventually(PATIENCE, "a known lag", || async {
        let source = admin::source(&address, &name).await;
        if source["lag"]["seconds"].is_number() { Ok(()) } else { Err(source) }
    })
    .await;
    let mark = rig.daemon.mark();
    for offset in JUMPS {
        clock.set(offset);
        rig.progress(40).await;
        // long enough for what asks every few seconds: lag, sign of life, keep-alives, feedback
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(6) {
            is_well(&address, &name).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        rig.progress(10).await;
        is_ready(&address).await;
    }
    let said = rig.daemon.stderr()[mark.1..].to_owned();
    assert!(!said.contains("starting again") && !said.contains(" ERROR "), "{name}: {said}");
    // further ahead than Kafka takes: waited for, with the reason, until the clock is right
    let mark = rig.daemon.mark();
    clock.set(DAY);
    let said = rig.daemon.wait_for_log_since(mark, "starting again: ", PATIENCE).await;
    assert!(said.contains("it takes no records of this time") && said.contains("set this machine's clock"), "{said}");
    // between two attempts it streams for a moment
    eventually(PATIENCE, "/readyz to say so", || async {
        match admin::get(&address, "/readyz").await {
            (200, _) => Err("ready"),
            _ => Ok(()),
        }
    })
    .await;
    clock.set(0);
    rig.progress(20).await;
    becomes_well(&address, &name).await;
    // a process that starts by another clock than the one before it goes on where that ended
    for offset in [-DAY, HOUR] {
        clock.set(offset);
        rig.kill();
        rig.progress(20).await;
        let mark = rig.mark;
        let address = admin::address(&mut rig.daemon, mark).await;
        becomes_well(&address, &name).await;
        // that it goes by this clock at all is in its log
        let written = log_time(&rig.daemon.stderr()[mark.1..]);
        assert!((written - now() - offset as f64).abs() < 600.0, "{written} {offset}");
    }
    rig.finish().await.print("the clock jumped 12 times").assert_right();
}

/// The time of the last line of a log, in seconds since 1970.
fn log_time(log: &str) -> f64 {
    let line = log.lines().rfind(|line| line.starts_with("20")).unwrap();
    let stamp: jiff::Timestamp = line.split_whitespace().next().unwrap().parse().unwrap();
    stamp.as_second() as f64
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_loses_and_repeats_nothing_and_all_is_said_to_be_well() {
    JoinSet::from_iter(Kind::ALL.map(jumping)).join_all().await;
}
