//! A daemon with one source whose events go to the file `out.jsonl`: all that a test of the server's side needs.

use serde_json::Value as Json;

use super::daemon::{Builder, Daemon};
use super::eventually;
use super::source::PATIENCE;

/// The daemon about to run this source.
pub fn command(yaml: &str) -> Builder {
    Daemon::command().file("source.yaml", yaml).args(&["run", "source.yaml"])
}

/// [`command`], started.
pub fn run(yaml: &str) -> Daemon {
    command(yaml).spawn()
}

/// Starts it again; gives the mark from which its new lines count.
pub fn again(daemon: &mut Daemon) -> (usize, usize) {
    let mark = daemon.mark();
    daemon.start();
    mark
}

/// It streams.
pub async fn streams(daemon: &mut Daemon) {
    streams_since(daemon, (0, 0)).await;
}

/// It streams again.
pub async fn streams_since(daemon: &mut Daemon, mark: (usize, usize)) {
    daemon.wait_for_log_since(mark, "streaming", PATIENCE).await;
}

/// It stops in good order when asked to.
pub async fn stops(daemon: &mut Daemon) {
    assert_eq!(daemon.shutdown(PATIENCE).await, 0, "{}", daemon.logs());
}

/// It ends with code 1, and its one error has all these parts.
pub async fn refused_since(daemon: &mut Daemon, mark: (usize, usize), parts: &[&str]) -> String {
    assert_eq!(daemon.wait(PATIENCE).await, 1, "{}", daemon.logs());
    let error = daemon.wait_for_log_since(mark, "stopped: ", PATIENCE).await;
    for part in [&["ERROR", "repair: "], parts].concat() {
        assert!(error.contains(part), "no {part:?} in: {error}");
    }
    assert!(!daemon.logs().contains("cdcpw"), "a password");
    error
}

/// [`refused_since`] its start.
pub async fn refused(daemon: &mut Daemon, parts: &[&str]) -> String {
    refused_since(daemon, (0, 0), parts).await
}

/// The events in `out.jsonl`.
pub fn events(daemon: &Daemon) -> Vec<Json> {
    let text = std::fs::read_to_string(daemon.dir().join("out.jsonl")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The ids of inserted and copied rows of `orders`, in order.
pub fn ids(daemon: &Daemon) -> Vec<i64> {
    let row = |event: &Json| matches!(event["op"].as_str(), Some("c" | "r"));
    events(daemon).iter().filter(|event| row(event)).filter_map(|event| event["after"]["id"].as_i64()).collect()
}

/// Waits for exactly these [`ids`].
pub async fn sees(daemon: &Daemon, expected: &[i64]) {
    eventually(PATIENCE, "the events", || async {
        let found = ids(daemon);
        if found == expected { Ok(()) } else { Err(found) }
    })
    .await;
}

/// Waits until all connections to this port of 127.0.0.1, at least so many, are probed by TCP when they are silent.
pub async fn keeps_alive(port: u16, least: usize) {
    // columns: number, local, remote, state (01: established), queues, timer (02: keep-alive; 01: an answer is awaited)
    let remote = format!(":{port:04X}");
    eventually(PATIENCE, "keep-alive timers", || async {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let timers: Vec<String> = rows
            .filter(|row| row.len() > 5 && row[2].ends_with(&remote) && row[3] == "01")
            .map(|row| row[5][..2].to_owned())
            .collect();
        if timers.len() >= least && timers.iter().all(|timer| timer == "02") { Ok(()) } else { Err(timers) }
    })
    .await;
}
