//! How many bytes a commit holds, so that a sink of any speed delivers them within the transaction's time-out.
//!
//! The size begins at 1 MiB, doubles with each commit that is quick and shrinks by the excess of each that is slow. A broker that
//! throttles by quota lets some seconds' worth pass at once and then stands still as long: so for some minutes behind a commit
//! that was slow or failed, a size is also at most what the sink has taken in two seconds, over the last half minute. All of this
//! is kept from run to run: a size that is never delivered in time would be tried for ever.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of a source's first commit.
const FIRST: usize = 1 << 20;
/// The smallest size that slow commits lead to.
const LEAST: usize = 64 << 10;
/// A commit that takes less is quick, one that takes more is slow.
const QUICK: Duration = Duration::from_millis(500);
const SLOW: Duration = Duration::from_secs(2);
/// How long the sink's pace is kept to behind a slow commit.
const WARY: Duration = Duration::from_secs(180);
/// What one commit then holds of the sink's pace, in seconds.
const SHARE: f64 = 2.0;
/// The time that the pace is an average of, in seconds.
const AVERAGE: f64 = 30.0;

#[derive(Debug)]
struct State {
    bytes: usize,
    /// Bytes a second that were committed.
    pace: f64,
    /// Of the last commit.
    last: Option<Instant>,
    /// A commit is being filled or delivered.
    began: Option<Instant>,
    /// When the sink was slow.
    slow: Option<Instant>,
}

/// What is known of a source's sink, from run to run.
#[derive(Debug, Clone)]
pub struct Remembered(Arc<Mutex<State>>);

impl Default for Remembered {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State { bytes: FIRST, pace: 0.0, last: None, began: None, slow: None })))
    }
}

/// The size in one run.
#[derive(Debug)]
pub(super) struct CommitSize {
    bytes: usize,
    most: usize,
    remembered: Remembered,
}

impl CommitSize {
    /// `most` is the configured size.
    pub(super) fn new(remembered: &Remembered, most: usize, now: Instant) -> Self {
        let mut size = Self { bytes: 0, most, remembered: remembered.clone() };
        size.bytes = size.with(|it| {
            // the last run ended inside a commit: the sink may be too slow for its size
            if it.began.take().is_some() {
                it.bytes /= 2;
                it.slow = Some(now);
            }
            it.bytes = it.bytes.min(FIRST);
            it.limited(most, now)
        });
        size
    }

    /// Bytes after which a commit is due.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The first record of a commit is staged.
    pub(super) fn begins(&self, now: Instant) {
        self.with(|it| it.began = Some(now));
    }

    /// A commit of so many bytes is done, which took so long since the last one of them was staged.
    pub(super) fn done(&mut self, bytes: usize, took: Duration, now: Instant) {
        let (size, most) = (self.bytes, self.most);
        self.bytes = self.with(|it| {
            it.began = None;
            let last = it.last.replace(now);
            let since = last.map_or(took, |last| now.duration_since(last)).as_secs_f64().max(1e-3);
            let old = if last.is_some() { (-since / AVERAGE).exp() } else { 0.0 };
            it.pace = it.pace * old + bytes as f64 / since * (1.0 - old);
            it.bytes = if took < QUICK {
                size.saturating_mul(2)
            } else if took > SLOW {
                it.slow = Some(now);
                (size as f64 * SLOW.as_secs_f64() / took.as_secs_f64()) as usize
            } else {
                size
            };
            it.limited(most, now)
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.remembered.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    /// The size within its limits.
    fn limited(&mut self, most: usize, now: Instant) -> usize {
        let wary = self.slow.is_some_and(|slow| now.duration_since(slow) < WARY);
        let pace = if wary && self.pace > 0.0 { (self.pace * SHARE) as usize } else { usize::MAX };
        self.bytes = self.bytes.min(pace).max(LEAST).min(most);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 16 << 20;

    #[test]
    fn commits_grow_while_they_are_quick_and_shrink_while_they_are_slow() {
        let after = |most: usize, took: Duration| {
            let mut now = Instant::now();
            let mut size = CommitSize::new(&Remembered::default(), most, now);
            for _ in 0..20 {
                now += took;
                size.done(size.bytes(), took, now);
            }
            size.bytes()
        };
        assert_eq!(after(MOST, Duration::from_millis(30)), MOST);
        assert_eq!(after(MOST, Duration::from_secs(9)), LEAST);
        assert_eq!(after(MOST, Duration::from_secs(1)), FIRST);
        assert_eq!(after(1000, Duration::from_secs(9)), 1000);
    }

    #[test]
    fn a_run_that_ended_inside_a_commit_is_followed_by_smaller_ones() {
        let (remembered, now) = (Remembered::default(), Instant::now());
        let begun = || {
            let size = CommitSize::new(&remembered, MOST, now);
            size.begins(now);
            size
        };
        assert_eq!([begun().bytes(), begun().bytes(), begun().bytes()], [FIRST, FIRST / 2, FIRST / 4]);
        // one that was committed is as good as any
        begun().done(FIRST / 8, Duration::from_secs(1), now + Duration::from_secs(1));
        assert_eq!(CommitSize::new(&remembered, MOST, now).bytes(), FIRST / 8);
    }

    /// A quota of 100 kB/s over eleven seconds: what is above it is paid for by standing still, which a commit must outlast.
    #[test]
    fn behind_a_quota_no_commit_takes_long_once_the_pace_is_known() {
        let quota = 100_000.0;
        let (mut now, mut allowance) = (Instant::now(), 11.0 * quota);
        let mut size = CommitSize::new(&Remembered::default(), MOST, now);
        let mut longest = Duration::ZERO;
        for commit in 0..200 {
            allowance -= size.bytes() as f64;
            let wait = Duration::from_secs_f64((-allowance / quota).max(0.01));
            allowance = (allowance + wait.as_secs_f64() * quota).min(11.0 * quota);
            now += wait;
            size.done(size.bytes(), wait, now);
            if commit > 10 {
                longest = longest.max(wait);
            }
        }
        assert!(longest < Duration::from_secs(4), "{longest:?}");
        assert!(size.bytes() >= LEAST);
    }

    #[test]
    fn a_sink_that_was_slow_once_is_trusted_again() {
        let mut now = Instant::now();
        let mut size = CommitSize::new(&Remembered::default(), MOST, now);
        let mut quick = |size: &mut CommitSize, count: usize, pause: Duration| {
            for _ in 0..count {
                now += pause;
                size.done(size.bytes().min(1000), Duration::from_millis(5), now);
            }
        };
        quick(&mut size, 30, Duration::from_millis(10));
        assert_eq!(size.bytes(), MOST);
        size.done(MOST, Duration::from_secs(12), Instant::now() + Duration::from_secs(12));
        quick(&mut size, 20, Duration::from_secs(1));
        assert!(size.bytes() < MOST);
        quick(&mut size, 200, Duration::from_secs(1));
        assert_eq!(size.bytes(), MOST);
    }
}
