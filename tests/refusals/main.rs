//! Bad input gets one clear error: what is wrong, where, and the statement or key that repairs it.
//!
//! Each test runs the daemon as people do, against the real servers, and reads its log. Where the message gives a statement,
//! the test runs that statement and sees the source stream.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod config;
mod files;
mod gaps;
mod kafka;
mod mysql;
mod postgres;

use std::time::{Duration, Instant};

use support::daemon::{Builder, Daemon};
use support::eventually;

/// For what takes a second on an idle machine.
const LIMIT: Duration = Duration::from_secs(60);
/// After SIGTERM; what isn't over in 20 s is cut short by the daemon itself.
const SOON: Duration = Duration::from_secs(15);
/// No output may show one of these.
const PASSWORDS: [&str; 4] = ["cdcpw", "noreplpw", "wrongpw", "ownpw"];

/// The daemon about to run these sources, with a log that can be taken apart.
fn command(sources: &[(&str, &str)]) -> Builder {
    let builder = Daemon::command().args(&["run", "--log-format", "json"]);
    sources.iter().fold(builder, |builder, (file, text)| builder.file(file, text).arg(file))
}

/// The daemon, running one source.
fn run(source: &str) -> Daemon {
    command(&[("source.yaml", source)]).spawn()
}

/// Starts it again; gives the mark from which its new lines count.
fn again(daemon: &mut Daemon) -> (usize, usize) {
    let mark = daemon.mark();
    daemon.start();
    mark
}

/// A line of the log.
#[derive(Debug)]
struct Line {
    level: String,
    source: String,
    message: String,
}

/// The whole lines after a mark. Whatever isn't a line of the log fails the test: a library's chatter, a panic.
fn lines(daemon: &Daemon, mark: (usize, usize)) -> Vec<Line> {
    let log = daemon.stderr();
    let whole = log.rfind('\n').map_or(0, |end| end + 1);
    let line = |text: &str| {
        let json: serde_json::Value =
            serde_json::from_str(text).unwrap_or_else(|e| panic!("not a line of the log: {e}: {text}"));
        let field = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
        Line { level: field("level"), source: field("source"), message: field("message") }
    };
    log[mark.1.min(whole)..whole].lines().map(line).collect()
}

fn at(lines: &[Line], level: &str) -> Vec<String> {
    lines.iter().filter(|line| line.level == level).map(|line| line.message.clone()).collect()
}

fn has_all(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "no {part:?} in: {message}");
    }
    for password in PASSWORDS {
        assert!(!message.contains(password), "a password in: {message}");
    }
    assert!(!message.contains('\n'), "several lines: {message}");
}

/// The one error with which a daemon of one source ended after `mark`: it stopped at once, with code 1.
async fn refused_since(daemon: &mut Daemon, mark: (usize, usize), parts: &[&str]) -> String {
    let message = stopped_since(daemon, mark, parts).await;
    let mut warnings = at(&lines(daemon, mark), "WARN");
    // that requests can't be taken is told, and stops nothing
    warnings.retain(|message| !message.starts_with("`rowcast backfill "));
    assert_eq!(warnings, [""; 0], "tried again before");
    message
}

async fn refused(daemon: &mut Daemon, parts: &[&str]) -> String {
    refused_since(daemon, (0, 0), parts).await
}

/// [`refused_since`], perhaps after it had been waiting.
async fn stopped_since(daemon: &mut Daemon, mark: (usize, usize), parts: &[&str]) -> String {
    assert_eq!(daemon.wait(LIMIT).await, 1, "exit code");
    let errors = at(&lines(daemon, mark), "ERROR");
    assert_eq!(errors.len(), 1, "{errors:?}");
    let message = errors[0].strip_prefix("stopped: ").unwrap().to_owned();
    assert!(message.contains("repair: "), "no repair: {message}");
    has_all(&message, parts);
    has_all(&daemon.stdout(), &[]);
    message
}

/// The daemon says that it waits, and why; it goes on trying, and stops when asked to.
async fn waits(mut daemon: Daemon, parts: &[&str]) {
    let line = daemon.wait_for_log("waiting ", LIMIT).await;
    let json: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(json["level"], "WARN");
    has_all(json["message"].as_str().unwrap(), parts);
    let mark = daemon.mark();
    daemon.wait_for_log_since(mark, "waiting ", LIMIT).await;
    stops(&mut daemon).await;
    assert_eq!(at(&lines(&daemon, (0, 0)), "ERROR"), [""; 0]);
}

/// It stops when asked to, soon and in good order.
async fn stops(daemon: &mut Daemon) {
    let start = Instant::now();
    assert_eq!(daemon.shutdown(LIMIT).await, 0, "exit code after SIGTERM");
    assert!(start.elapsed() < SOON, "it took {:?} to stop", start.elapsed());
}

async fn streams_since(daemon: &mut Daemon, mark: (usize, usize)) {
    daemon.wait_for_log_since(mark, "\"streaming: ", LIMIT).await;
}

async fn streams(daemon: &mut Daemon) {
    streams_since(daemon, (0, 0)).await;
}

/// The column `id` of the rows that were inserted, in the order of the lines; what isn't a whole event is left out.
fn inserted(events: &str) -> Vec<i64> {
    let events = events.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    events.filter(|event| event["op"] == "c").filter_map(|event| event["after"]["id"].as_i64()).collect()
}

/// Waits for inserted rows in the daemon's `out.jsonl`.
async fn sees(daemon: &Daemon, expected: &[i64]) {
    eventually(LIMIT, "the events", || async {
        let found = inserted(&std::fs::read_to_string(daemon.dir().join("out.jsonl")).unwrap_or_default());
        if found == expected { Ok(()) } else { Err(found) }
    })
    .await;
}

/// The statement between two texts of a message.
fn statement<'a>(message: &'a str, before: &str, after: &str) -> &'a str {
    let (_, rest) = message.split_once(before).unwrap_or_else(|| panic!("no {before:?} in: {message}"));
    if after.is_empty() { rest } else { rest.split_once(after).unwrap_or_else(|| panic!("no {after:?} in: {rest}")).0 }
}

/// A PostgreSQL source of all tables in `public`, its events in `out.jsonl`.
fn pg(db: &support::postgres::Db) -> String {
    format!(
        "name: {name}
source:
  type: postgres
  host: 127.0.0.1
  port: {port}
  database: {name}
  user: cdc
  password: cdcpw
  tables: [public.*]
{FILE_SINK}",
        name = db.name,
        port = db.port(),
    )
}

const FILE_SINK: &str = "sink:
  type: file
  path: out.jsonl
state_dir: state
backfill: never
";

/// The place that every message of this source begins with.
fn place(db: &support::postgres::Db, user: &str) -> String {
    format!("postgres 127.0.0.1:{}/{} as {user}: ", db.port(), db.name)
}

/// A database with a table `orders` that belongs to `cdc`, so that the daemon may publish it.
async fn shop(prefix: &str) -> support::postgres::Db {
    let db = support::postgres::Db::create(prefix).await;
    db.exec("create table orders (id bigint primary key, note text); alter table orders owner to cdc").await;
    db
}
