//! The connection to the database: cut at every phase of its protocol, stalled both ways and one way, slow.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::rig::{Rig, Setup};
use crate::support::eventually;
use crate::support::proxy::{End, Flow, Proxy, Rules, Way};
use crate::support::source::{Kind, PATIENCE};

/// What the daemon is told to bear; how much longer it may take on a busy machine to say so.
const TIMEOUT: Duration = Duration::from_secs(4);
/// Where nothing falls silent: a server that is busy with other tests' sources must not seem to.
const PATIENT: Duration = Duration::from_secs(20);
const SLACK: Duration = Duration::from_secs(20);

/// A source behind a proxy, with this time-out for every answer, and more lines of its section.
async fn behind(kind: Kind, name: &str, timeout: Duration, more: &str) -> (Proxy, Rig) {
    let setup = Setup::of(kind, name, 7).await;
    let proxy = Proxy::to(setup.source.port());
    let in_source = format!("  connect_timeout: {timeout:?}\n  read_timeout: {timeout:?}\n{more}").replace(".0s", "s");
    let rig = Rig::start(Setup { port: proxy.port(), in_source, ..setup }).await;
    (proxy, rig)
}

/// Every connection is cut after so many bytes from the server, or to it, so that in each round another phase fails: the greeting,
/// TLS, the login, the catalog, the start of replication, the stream. Then the network is good again.
async fn cut_at_every_phase(kind: Kind, name: &str, more: &str) {
    const DOWN: [u64; 14] = [0, 1, 5, 60, 200, 450, 900, 1_500, 2_500, 4_000, 6_000, 9_000, 14_000, 30_000];
    const UP: [u64; 8] = [1, 20, 60, 150, 400, 800, 1_600, 3_200];
    let (proxy, mut rig) = behind(kind, name, PATIENT, more).await;
    let rounds = DOWN.map(|bytes| (Way::Down, bytes)).into_iter().chain(UP.map(|bytes| (Way::Up, bytes)));
    let mut failed = 0;
    for (round, (way, bytes)) in rounds.enumerate() {
        let end = if round % 2 == 0 { End::Rst } else { End::Fin };
        let before = proxy.connections();
        proxy.set(Rules { cut_after: Some((way, bytes, end)), ..Rules::PASS });
        // a new process: the pauses of one that fails again and again would grow
        rig.kill();
        // so small an amount ends in the start; a larger one may end in the stream, or not before all is well again
        let mark = rig.mark;
        let began = Instant::now();
        eventually(PATIENCE, &format!("{}: a cut after {bytes} bytes {way:?}", rig.setup.name), || async {
            let log = &rig.daemon.stderr()[mark.1..];
            let tired = began.elapsed() > Duration::from_secs(3) && log.contains("streaming: ");
            if log.contains(" waiting ") || tired { Ok(()) } else { Err(proxy.connections() - before) }
        })
        .await;
        failed += usize::from(rig.daemon.stderr()[mark.1..].contains(" waiting "));
        proxy.pass();
        rig.progress(1).await;
    }
    assert!(failed >= 12, "{}: only {failed} cuts ended a run", rig.setup.name);
    // and in the middle of the stream, below a process that lives on
    for end in [End::Rst, End::Fin, End::Rst] {
        rig.progress(20).await;
        proxy.cut(end);
        rig.progress(20).await;
    }
    let outcome = rig.finish().await;
    outcome.print(&format!("{} connections cut at {} places", failed + 3, DOWN.len() + UP.len() + 3)).assert_right();
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_cut_at_every_phase_are_made_again_without_loss_or_repeat() {
    tokio::join!(
        cut_at_every_phase(Kind::Postgres, "phases", ""),
        cut_at_every_phase(Kind::Mysql, "phases", ""),
        cut_at_every_phase(Kind::Mariadb, "phases", "")
    );
}

/// Without TLS, where a login has other steps, and with frames around the packets.
#[tokio::test(flavor = "multi_thread")]
async fn compressed_connections_cut_at_every_phase_are_made_again_without_loss_or_repeat() {
    let more = |compression: &str| format!("  tls: {{mode: disabled}}\n  compression: {compression}\n");
    let (zlib, zstd) = (more("zlib"), more("zstd"));
    tokio::join!(cut_at_every_phase(Kind::Mysql, "frames", &zstd), cut_at_every_phase(Kind::Mariadb, "frames", &zlib));
}

/// The server falls silent, without a cut: first while nothing happens, then in mid traffic, then while the daemon starts.
async fn stalled(kind: Kind) {
    let (proxy, mut rig) = behind(kind, "stalls", TIMEOUT, "").await;
    let stalls = [
        Rules { up: Flow::Stall, down: Flow::Stall, ..Rules::PASS },
        Rules { down: Flow::Stall, ..Rules::PASS },
        Rules { up: Flow::Stall, down: Flow::Stall, ..Rules::PASS },
    ];
    let mut longest = Duration::ZERO;
    for (round, rules) in stalls.into_iter().enumerate() {
        rig.progress(10).await;
        if round == 2 {
            // silent from the first byte on
            proxy.set(rules);
            rig.kill();
        }
        let mark = rig.daemon.mark();
        let began = Instant::now();
        proxy.set(rules);
        let said = rig.daemon.wait_for_log_since(mark, " waiting ", PATIENCE).await;
        let took = began.elapsed();
        assert!(took < TIMEOUT + SLACK, "{}: noticed after {took:?}: {said}", rig.setup.name);
        longest = longest.max(took);
        proxy.pass();
        // what was held back must not be believed to be fresh: a new connection is made
        let mark = rig.daemon.mark();
        rig.daemon.wait_for_log_since(mark, "streaming: ", PATIENCE).await;
        rig.progress(10).await;
    }
    // nothing reaches the server: what it sends is delivered all the same, until it ends the connection itself
    deaf(&proxy, &mut rig).await;
    tokio::time::sleep(2 * TIMEOUT).await;
    proxy.pass();
    rig.progress(10).await;
    // a line so slow that the start takes many reads
    proxy.set(Rules { up: Flow::Slow(20_000), down: Flow::Slow(20_000), ..Rules::PASS });
    proxy.cut(End::Rst);
    rig.progress(10).await;
    proxy.pass();
    let outcome = rig.finish().await;
    outcome.print(&format!("3 stalls, noticed within {:.1} s", longest.as_secs_f64())).assert_right();
}

/// Events come while nothing reaches the server. One that sends nothing for as long as the time-out, since the machine is busy, is left, and
/// a new connection can't be made: then once more.
async fn deaf(proxy: &Proxy, rig: &mut Rig) {
    for _ in 0..5 {
        let (mark, before) = (rig.daemon.mark(), rig.reader.distinct());
        proxy.set(Rules { up: Flow::Stall, ..Rules::PASS });
        let came = eventually(2 * PATIENCE, &format!("{}: events of a deaf server", rig.setup.name), || async {
            let left = rig.daemon.stderr()[mark.1..].contains(" waiting ");
            let came = rig.reader.distinct() >= before + 10;
            if came || left { Ok(came) } else { Err(rig.reader.distinct()) }
        })
        .await;
        if came {
            return;
        }
        proxy.pass();
        rig.daemon.wait_for_log_since(mark, "streaming: ", PATIENCE).await;
        rig.progress(10).await;
    }
    panic!("{}: a server that hears nothing is left each time", rig.setup.name);
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_connections_are_noticed_in_time_and_nothing_is_lost_or_repeated() {
    JoinSet::from_iter(Kind::ALL.map(stalled)).join_all().await;
}
