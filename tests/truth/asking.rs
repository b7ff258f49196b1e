//! A daemon that is asked what it is doing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value as Json;

use crate::exposition::Exposition;
use crate::support::admin;
use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::support::source::{PATIENCE, Source};

/// Within this time of a fault the daemon must say so: five seconds without an answer, the pause between two questions to an
/// idle Kafka, and what a busy machine adds.
pub const SOON: Duration = Duration::from_secs(20);

/// A running daemon with its admin endpoint.
pub struct Asked {
    pub daemon: Daemon,
    address: String,
}

/// The configuration of a source that publishes to these brokers.
pub fn to_brokers(source: &Source, brokers: &str) -> String {
    format!("{}sink:\n  type: kafka\n  brokers: {brokers}\nbackfill: never\nstate_dir: state\n", source.yaml("*"))
}

impl Asked {
    /// Starts a daemon with these sources, by configuration.
    pub async fn start(configs: &[String]) -> Asked {
        let mut builder = Daemon::command().arg("run").env(admin::ANY.0, admin::ANY.1);
        for (index, config) in configs.iter().enumerate() {
            let name = format!("{index}.yaml");
            builder = builder.file(&name, config).arg(&name);
        }
        let mut asked = Asked { daemon: builder.spawn(), address: String::new() };
        asked.find((0, 0)).await;
        asked
    }

    /// Starts it again after its end; `tests/chaos` does.
    #[allow(dead_code)]
    pub async fn again(&mut self) {
        let mark = self.daemon.mark();
        self.daemon.start();
        self.find(mark).await;
    }

    async fn find(&mut self, mark: (usize, usize)) {
        self.address = admin::address(&mut self.daemon, mark).await;
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// Status code and body.
    pub async fn get(&self, path: &str) -> (u16, String) {
        admin::get(&self.address, path).await
    }

    /// All sources, by name.
    pub async fn sources(&self) -> BTreeMap<String, Json> {
        let (code, body) = self.get("/api/v1/sources").await;
        assert_eq!(code, 200, "{body}");
        let all: Vec<Json> = serde_json::from_str(&body).unwrap();
        all.into_iter().map(|source| (source["name"].as_str().unwrap().to_owned(), source)).collect()
    }

    pub async fn source(&self, name: &str) -> Json {
        admin::source(&self.address, name).await
    }

    pub async fn metrics(&self) -> Exposition {
        let (code, body) = self.get("/metrics").await;
        assert_eq!(code, 200, "{body}");
        Exposition::parse(&body)
    }

    /// Waits until a source is as it should be.
    pub async fn wait_for(&self, name: &str, within: Duration, what: &str, is: impl Fn(&Json) -> bool) -> Json {
        eventually(within, &format!("{name}: {what}"), || async {
            let source = self.source(name).await;
            if is(&source) { Ok(source) } else { Err(source) }
        })
        .await
    }

    /// Waits until all of these stream, and everything that can be asked says so.
    pub async fn all_stream(&self, names: &[&str]) {
        // asked one after the other, and behind a fault a source may stream for a moment and then connect again
        eventually(PATIENCE, "all to stream, by every answer", || async {
            let (sources, ready, metrics) = (self.sources().await, self.get("/readyz").await, self.metrics().await);
            let streams = |name: &&str| {
                sources[*name]["state"] == "streaming"
                    && metrics.of("rowcast_source_ready", name) == Some(1.0)
                    && metrics.state(name) == "streaming"
            };
            if ready.0 == 200 && names.iter().all(streams) { Ok(()) } else { Err((sources, ready)) }
        })
        .await;
    }

    /// Waits until none of these is ready any more, and everything that can be asked says so. How long that took.
    pub async fn none_is_ready(&self, names: &[&str]) -> Duration {
        let began = Instant::now();
        for name in names {
            self.wait_for(name, SOON, "not streaming", |it| !is_ready(it)).await;
        }
        let took = began.elapsed();
        self.agree_that_none_is_ready(names).await;
        took
    }

    /// Over some time, nothing says that one of these works.
    pub async fn stay_unready(&self, names: &[&str], time: Duration) {
        let began = Instant::now();
        while began.elapsed() < time {
            self.agree_that_none_is_ready(names).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn agree_that_none_is_ready(&self, names: &[&str]) {
        let (sources, metrics, (code, why)) = (self.sources().await, self.metrics().await, self.get("/readyz").await);
        for name in names {
            let source = &sources[*name];
            assert!(!is_ready(source), "{source}");
            assert_eq!(metrics.of("rowcast_source_ready", name), Some(0.0));
            assert!(!["streaming", "backfilling"].contains(&metrics.state(name).as_str()));
            assert_eq!(code, 503);
            assert!(why.contains(&format!("{name}: ")), "{why}");
        }
    }
}

fn is_ready(source: &Json) -> bool {
    ["streaming", "backfilling"].contains(&source["state"].as_str().unwrap())
}

/// Nothing is behind, and the server says so.
pub fn caught_up(source: &Json) -> bool {
    let lag = &source["lag"];
    let transactions = source["kind"] == "postgres" || lag["transactions"] == 0;
    lag["known"] == true && lag["bytes"] == 0 && lag["seconds"] == 0.0 && transactions
}

/// Something is behind, by every measure that the database has.
pub fn is_behind(source: &Json) -> bool {
    let lag = &source["lag"];
    let transactions = source["kind"] == "postgres" || lag["transactions"].as_u64() > Some(0);
    lag["known"] == true && lag["bytes"].as_u64() > Some(0) && lag["seconds"].as_f64() > Some(0.0) && transactions
}

/// A server that stands still until this is dropped: a test that fails must not wait for it while it cleans up.
pub struct Paused(i32);

/// SIGSTOP.
pub fn pause(pid: i32) -> Paused {
    signal(pid, Signal::SIGSTOP);
    Paused(pid)
}

impl Drop for Paused {
    fn drop(&mut self) {
        signal(self.0, Signal::SIGCONT);
    }
}

/// Sends a signal to a server and its processes; PostgreSQL's sessions are processes of their own.
fn signal(pid: i32, signal: Signal) {
    let mut processes = vec![pid];
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(child) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)?.parse::<i32>().ok());
        if parent == Some(pid) {
            processes.push(child);
        }
    }
    for process in processes {
        // one may have ended by itself
        let _ = kill(Pid::from_raw(process), signal);
    }
}
