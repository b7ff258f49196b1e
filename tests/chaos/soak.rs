//! Half of the load that four writers make, for ten minutes: memory, descriptors and threads don't grow. Only in `make chaos`.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::check::Mode;
use crate::rig::{Rig, Setup};
use crate::support::process::{Usage, usage};
use crate::support::source::Kind;

const WRITERS: i64 = 4;

/// The middle one of these.
fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values[values.len() / 2]
}

async fn soak(kind: Kind, mode: Mode, length: Duration, seed: u64) {
    let setup = Setup::of(kind, "soak", seed).await;
    let name = format!("{} {mode:?}", kind.name());
    let mut rig = Rig::start(Setup { name: name.clone(), mode, writers: (WRITERS, Duration::ZERO), ..setup }).await;
    rig.progress(100).await;
    // as fast as it goes, for a while; then each writer rests as long as it works
    let (began, before) = (Instant::now(), rig.reader.distinct());
    tokio::time::sleep(length / 20).await;
    let full = (rig.reader.distinct() - before) as f64 / began.elapsed().as_secs_f64();
    // about four changes, so a transaction of a writer takes this long, and its pause is half of the longest one
    let rest = 2.0 * 4.0 * WRITERS as f64 / full;
    rig.pace.pause.store((rest * 1e6) as u64, Ordering::Relaxed);
    tokio::time::sleep(length / 20).await;

    let (began, before, pid) = (Instant::now(), rig.reader.distinct(), rig.daemon.pid());
    let mut seen: Vec<Usage> = Vec::new();
    while began.elapsed() < length {
        seen.push(usage(pid).unwrap());
        tokio::time::sleep(length / 600).await;
    }
    let half = (rig.reader.distinct() - before) as f64 / began.elapsed().as_secs_f64();
    let part = seen.len() / 10;
    let at = |which: &[Usage], what: fn(&Usage) -> u64| median(which.iter().map(what).collect());
    let (first, last) = (&seen[..part], &seen[seen.len() - part..]);
    let grown = |what: fn(&Usage) -> u64| (at(first, what), at(last, what));
    let (rss, descriptors, threads) = (grown(|it| it.rss), grown(|it| it.descriptors), grown(|it| it.threads));
    println!(
        "{name}: {:.0} s at {half:.0} events/s, {full:.0} at full load: {:.1} MB at first, {:.1} MB at last; {} and {} \
         descriptors; {} and {} threads",
        length.as_secs_f64(),
        rss.0 as f64 / 1e6,
        rss.1 as f64 / 1e6,
        descriptors.0,
        descriptors.1,
        threads.0,
        threads.1
    );
    // an allocator's pages come and go by some megabytes; a leak of a hundred bytes per event would be more than this
    assert!(rss.1 < rss.0 + rss.0 / 8 + (2 << 20), "{name}: {rss:?}");
    assert!(descriptors.1 <= descriptors.0 + 2, "{name}: {descriptors:?}");
    assert!(threads.1 <= threads.0 + 4, "{name}: {threads:?}");
    rig.finish().await.print("soak").assert_right();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "ten minutes: part of `make chaos`"]
async fn nothing_grows_at_half_load() {
    let (seed, seconds) = (crate::seed(), crate::setting("ROWCAST_CHAOS_SOAK", 600));
    let mut running = JoinSet::new();
    for kind in Kind::ALL {
        running.spawn(soak(kind, Mode::ExactlyOnce, Duration::from_secs(seconds), seed));
    }
    running.spawn(soak(Kind::Postgres, Mode::AtLeastOnce, Duration::from_secs(seconds), seed));
    running.join_all().await;
}
