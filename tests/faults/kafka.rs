//! Kafka: commits of unknown outcome, brokers that restart, are killed or hang.

use std::time::{Duration, Instant};

use tokio::task::{JoinSet, block_in_place};

use crate::check::Mode;
use crate::rig::{Rig, Setup};
use crate::support::Servers;
use crate::support::process::Watch;
use crate::support::proxy::{END_TXN, End, Flow, Lose, Proxy, Rules};
use crate::support::source::{Kind, PATIENCE};

/// The most memory that a daemon may have.
pub const MOST: u64 = 128 << 20;

/// A broker of the test's own, which tells those who come through the proxy to come through it again.
fn proxied() -> (Servers, Proxy) {
    let proxy = Proxy::kafka();
    let port = proxy.port().to_string();
    let servers = block_in_place(|| Servers::private_with(&["kafka"], &[("ROWCAST_KAFKA_PROXY", &port)]));
    proxy.retarget(servers.var("KAFKA_PROXIED_PORT").parse().unwrap());
    (servers, proxy)
}

async fn through(kind: Kind, name: &str, mode: Mode, servers: &Servers, proxy: &Proxy) -> Rig {
    let setup = Setup::of(kind, name, 11).await;
    let brokers = (format!("127.0.0.1:{}", proxy.port()), servers.brokers().to_owned());
    Rig::start(Setup { brokers, mode, ..setup }).await
}

/// The connection breaks while a commit is asked for: the broker never hears of it, or its answer is lost. librdkafka asks
/// again, unless the broker stays away; then only the checkpoint can say what came of it.
async fn unknown_outcome(kind: Kind) {
    let (servers, proxy) = proxied();
    let mut rig = through(kind, "unknown", Mode::ExactlyOnce, &servers, &proxy).await;
    for round in 0..10 {
        rig.progress(5).await;
        let lose = if round % 2 == 0 { Lose::Answer } else { Lose::Request };
        let count = proxy.lose(END_TXN, lose, false);
        proxy.caught(count, PATIENCE).await;
    }
    for lose in [Lose::Answer, Lose::Request] {
        rig.progress(5).await;
        let mark = rig.daemon.mark();
        let count = proxy.lose(END_TXN, lose, true);
        proxy.caught(count, PATIENCE).await;
        // the run gives up; nobody knows whether the transaction was committed
        rig.daemon.wait_for_log_since(mark, " waiting ", PATIENCE).await;
        let mark = rig.daemon.mark();
        proxy.pass();
        rig.daemon.wait_for_log_since(mark, "streaming: ", PATIENCE).await;
        rig.progress(5).await;
        // the process is killed instead
        let count = proxy.lose(END_TXN, lose, true);
        proxy.caught(count, PATIENCE).await;
        rig.kill();
        proxy.pass();
        rig.progress(5).await;
    }
    rig.finish().await.print("14 commits without an answer").assert_right();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_unknown_outcome_is_decided_by_the_checkpoint() {
    JoinSet::from_iter([Kind::Postgres, Kind::Mysql].map(unknown_outcome)).join_all().await;
}

/// The connection to the broker is cut, refused, stalled and slow.
async fn bad_network(kind: Kind, mode: Mode) {
    let (servers, proxy) = proxied();
    let mut rig = through(kind, "network", mode, &servers, &proxy).await;
    for end in [End::Rst, End::Fin, End::Rst, End::Fin] {
        rig.progress(20).await;
        proxy.cut(end);
    }
    for rules in [
        Rules { refuse: true, ..Rules::PASS },
        Rules { down: Flow::Stall, ..Rules::PASS },
        Rules { up: Flow::Stall, ..Rules::PASS },
        Rules { up: Flow::Slow(50_000), down: Flow::Slow(50_000), ..Rules::PASS },
    ] {
        rig.progress(20).await;
        proxy.set(rules);
        if rules.refuse {
            proxy.cut(End::Rst);
        }
        tokio::time::sleep(Duration::from_secs(8)).await;
        proxy.pass();
    }
    rig.finish().await.print(&format!("{mode:?}, 4 cuts, refused, stalled twice, slow")).assert_right();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_network_to_the_broker_loses_nothing_and_repeats_nothing_with_transactions() {
    let both = [(Kind::Mariadb, Mode::ExactlyOnce), (Kind::Mysql, Mode::AtLeastOnce)];
    JoinSet::from_iter(both.map(|(kind, mode)| bad_network(kind, mode))).join_all().await;
}

/// Restarted, killed, and hanging for a minute below full traffic: the daemon waits, with bounded memory and a living connection
/// to the database, and goes on by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_restarts_dies_or_hangs_is_waited_for_in_bounded_memory() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    let servers = block_in_place(|| Servers::private(&["kafka"]));
    let setup = Setup::of(Kind::Postgres, "broker", 13).await;
    let brokers = (servers.brokers().to_owned(), servers.brokers().to_owned());
    let mut rig = Rig::start(Setup { brokers, ..setup }).await;
    let watch = Watch::new(rig.daemon.pid());
    rig.progress(50).await;
    block_in_place(|| servers.restart("kafka"));
    rig.progress(50).await;
    block_in_place(|| {
        servers.kill("kafka");
        servers.start("kafka");
    });
    rig.progress(50).await;
    let pid = Pid::from_raw(servers.pid("kafka"));
    kill(pid, Signal::SIGSTOP).unwrap();
    // much more than the daemon may hold: 200 MB of rows
    rig.setup.source.create_table("ballast", "id bigint primary key, body text").await;
    let began = Instant::now();
    for part in 0..20 {
        rig.setup
            .source
            .exec(&format!(
                "insert into ballast select {part} * 20000 + n, repeat('b', 500) from generate_series(1, 20000) n"
            ))
            .await;
    }
    let paused = Duration::from_secs(60);
    tokio::time::sleep(paused.saturating_sub(began.elapsed())).await;
    kill(pid, Signal::SIGCONT).unwrap();
    rig.progress(50).await;
    let peak = watch.peak();
    assert!(peak < MOST, "{} MB", peak >> 20);
    let outcome = rig.finish().await;
    outcome.print(&format!("restarted, killed, stopped for {paused:?}, peak {} MB", watch.peak() >> 20)).assert_right();
    assert!(watch.peak() < MOST, "{} MB", watch.peak() >> 20);
}
