//! No descriptor is left: connections can't be made again until there are some.

use std::process::Command;

use crate::rig::{Rig, Setup};
use crate::support::eventually;
use crate::support::process::usage;
use crate::support::proxy::{End, Proxy};
use crate::support::source::{Kind, PATIENCE};

fn allow(pid: i32, descriptors: u64) {
    let limit = format!("--nofile={descriptors}:20000");
    let done = Command::new("prlimit").args(["--pid", &pid.to_string(), &limit]).status().unwrap();
    assert!(done.success(), "prlimit: {done}");
}

async fn none_left(kind: Kind) {
    let setup = Setup::of(kind, "descriptors", 31).await;
    let proxy = Proxy::to(setup.source.port());
    let mut rig = Rig::start(Setup { port: proxy.port(), ..setup }).await;
    rig.progress(20).await;
    let pid = rig.daemon.pid();
    let mark = rig.daemon.mark();
    // what is open stays open, and nothing can be opened
    allow(pid, 3);
    proxy.cut(End::Rst);
    // the look at the lag, on a connection of its own, meets it too
    eventually(PATIENCE, "the source to say why it waits", || async {
        let log = rig.daemon.stderr();
        let waits = |line: &str| line.contains(" waiting ") && line.contains("Too many open files");
        if log[mark.1..].lines().any(waits) { Ok(()) } else { Err(log[mark.1..].to_owned()) }
    })
    .await;
    assert!(rig.daemon.is_running());
    allow(pid, 20_000);
    rig.progress(20).await;
    let descriptors = usage(pid).unwrap().descriptors;
    rig.finish().await.print(&format!("no descriptors for a while, {descriptors} at the end")).assert_right();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_without_descriptors_says_so_and_goes_on_when_it_has_some() {
    tokio::task::JoinSet::from_iter([Kind::Postgres, Kind::Mysql].map(none_left)).join_all().await;
}
