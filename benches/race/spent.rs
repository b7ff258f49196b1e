//! Whose CPU time a lap took: the servers' and, of Rowcast, that of its kinds of threads. Whole processes are counted, with what else they do meanwhile.

use crate::common::support::env;
use crate::common::support::source::Kind;

/// CPU seconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spent {
    /// The database's server, with the process or thread that sends the log.
    pub database: f64,
    /// The broker.
    pub broker: f64,
    /// librdkafka's threads: batches, compression, requests.
    pub librdkafka: f64,
    /// The thread that hands records to librdkafka, which copies them, and commits.
    pub publisher: f64,
}

/// What the servers have taken so far.
pub fn servers(kind: Kind) -> Spent {
    let database = if kind == Kind::Postgres { "pg" } else { "mysql" };
    Spent { database: seconds(env().pid(database)), broker: seconds(env().pid("kafka")), ..Spent::default() }
}

impl Spent {
    /// What was taken since `before`, and by the threads of a process of ours up to now.
    pub fn since(before: Spent, kind: Kind, threads: Spent) -> Spent {
        let now = servers(kind);
        Spent { database: now.database - before.database, broker: now.broker - before.broker, ..threads }
    }
}

/// What the threads of a process have taken, by their names: none of these if it isn't Rowcast.
pub fn threads(pid: i32) -> Spent {
    let mut spent = Spent::default();
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
        // one may end meanwhile
        let Ok(stat) = std::fs::read_to_string(thread.path().join("stat")) else { continue };
        let name = stat.split(['(', ')']).nth(1).unwrap_or_default();
        match name {
            _ if name.starts_with("rdk:") => spent.librdkafka += ticks(&stat, 2),
            _ if name.starts_with("publish-") => spent.publisher += ticks(&stat, 2),
            _ => {}
        }
    }
    spent
}

/// Of a process and of those of its children that have ended: a walsender is a child.
fn seconds(pid: i32) -> f64 {
    ticks(&std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap(), 4)
}

/// The sum of so many fields from `utime` on: it, `stime`, and both of children. Clock ticks are 10 ms.
fn ticks(stat: &str, fields: usize) -> f64 {
    let behind = stat.rsplit_once(')').unwrap().1;
    behind.split_whitespace().skip(11).take(fields).map(|field| field.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}
