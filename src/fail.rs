//! Fail points: named places, behind every step of taking over, committing and confirming, where a test can have the process end as
//! if its machine had lost power. Not in releases: there [`point`] is empty.
//!
//! `ROWCAST_FAIL_POINT=commit.sent:3` ends the process when `commit.sent` is passed for the third time. The points are listed in
//! [`POINTS`]; a name that isn't there ends the process at its start, so that a test can't wait for what never happens.

/// All points, in the order in which a source passes them.
pub const POINTS: [&str; 14] = [
    "open.reached",
    "open.fenced",
    "open.read",
    "open.claimed",
    "open.source",
    "stage.begun",
    "stage.sent",
    "commit.begun",
    "commit.sent",
    "commit.drained",
    "commit.done",
    "confirm.done",
    "file.synced",
    "file.written",
];

/// Ends the process here if that was asked for.
#[cfg(debug_assertions)]
pub fn point(name: &str) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static ASKED: LazyLock<Option<(String, AtomicU64)>> = LazyLock::new(|| {
        let text = std::env::var("ROWCAST_FAIL_POINT").ok()?;
        let (point, times) = text.split_once(':').unwrap_or((&text, "1"));
        let times = times.parse::<u64>().ok().filter(|_| POINTS.contains(&point));
        let Some(times) = times else {
            tracing::error!("ROWCAST_FAIL_POINT={text}: no such fail point");
            std::process::abort();
        };
        Some((point.to_owned(), AtomicU64::new(times)))
    });
    if let Some((point, left)) = &*ASKED
        && point == name
        && left.fetch_sub(1, Ordering::Relaxed) == 1
    {
        tracing::warn!(point, "the process ends here, as asked for");
        // no destructor runs, no buffer is written
        std::process::abort();
    }
}

/// Nothing, in a release.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point(_: &str) {}
