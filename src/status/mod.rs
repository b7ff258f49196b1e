//! What each source is doing, and how far behind it is: the truth, for the log, the status file and the admin endpoint.
//!
//! ```text
//! supervisor ── Phase ─┐
//! pipeline ──── facts ─┼─► Meter ─► state::derive ─► State ─► status file, admin endpoint, `rowcast status`
//! watch ─── lag, probe ┘
//! ```
//!
//! - [`meter`]: what a run notes of itself, in single stores.
//! - [`state`]: what follows from it. Nothing else decides whether a source counts as streaming.
//! - [`watch`]: looks at the server's end of the log, asks an idle sink for a sign of life, logs when either falls silent.
//! - [`report`]: all of it as one structure, for JSON and metrics.
//! - [`file`](mod@file): the status file.

pub mod file;
pub mod meter;
pub mod report;
pub mod state;
pub mod watch;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch as channel;

pub use file::{FILE_VARIABLE, read};
pub use meter::{About, Doing, Meter, Probe};
pub use state::{Phase, State};

/// The meters of all sources.
#[derive(Debug, Clone, Default)]
pub struct Status(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sources: Mutex<BTreeMap<String, Entry>>,
    changed: channel::Sender<()>,
}

impl Default for Inner {
    fn default() -> Self {
        Self { sources: Mutex::default(), changed: channel::Sender::new(()) }
    }
}

#[derive(Debug)]
struct Entry {
    meter: Arc<Meter>,
    /// The state that was seen last: its name, since when it holds, and when it was seen.
    seen: Option<(&'static str, SystemTime, SystemTime)>,
}

/// A state and since when it holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Now {
    /// What the source is doing.
    pub state: State,
    /// Since when.
    pub since: SystemTime,
}

impl Status {
    fn sources(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.0.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The meter of a source, which is added if it isn't known.
    pub fn add(&self, about: About) -> Arc<Meter> {
        let name = about.name.clone();
        let new = || Entry { meter: Arc::new(Meter::new(about)), seen: None };
        let meter = Arc::clone(&self.sources().entry(name).or_insert_with(new).meter);
        self.changed();
        meter
    }

    /// Says what a source is doing from now on.
    pub fn set(&self, source: &str, phase: Phase) {
        if let Some(entry) = self.sources().get(source) {
            entry.meter.set(phase);
        }
        self.changed();
    }

    /// Something has changed that those who wait for [`Status::changes`] should see.
    pub fn changed(&self) {
        self.0.changed.send_replace(());
    }

    /// Tells of changes.
    pub fn changes(&self) -> channel::Receiver<()> {
        self.0.changed.subscribe()
    }

    /// The meter of a source.
    pub fn meter(&self, source: &str) -> Option<Arc<Meter>> {
        self.sources().get(source).map(|entry| Arc::clone(&entry.meter))
    }

    /// The meters of all sources, by name.
    pub fn meters(&self) -> Vec<Arc<Meter>> {
        self.sources().values().map(|entry| Arc::clone(&entry.meter)).collect()
    }

    /// What a source is doing now.
    pub fn state(&self, source: &str) -> Option<Now> {
        self.sources().get_mut(source).map(Entry::now)
    }

    /// What all sources are doing now, by name.
    pub fn states(&self) -> BTreeMap<String, Now> {
        self.sources().iter_mut().map(|(name, entry)| (name.clone(), entry.now())).collect()
    }
}

impl Entry {
    fn now(&mut self) -> Now {
        let about = &self.meter.about;
        let (state, age) = state::derive(&self.meter.facts(), about.sink, about.read_timeout);
        let now = SystemTime::now();
        let began = now.checked_sub(age).unwrap_or(now);
        let since = match self.seen {
            Some((name, since, _)) if name == state.name() => since,
            // the stream may have been open for long, but wasn't found to flow before
            Some((_, _, seen)) if state.flows() => began.max(seen),
            _ => began,
        };
        self.seen = Some((state.name(), since, now));
        Now { state, since }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_state_knows_since_when_it_holds() {
        let status = Status::default();
        let about = About { name: "a".into(), kind: "mysql", sink: "kafka", read_timeout: Duration::from_secs(60) };
        let meter = status.add(about);
        status.set("a", Phase::Streaming);
        let opened = status.state("a").unwrap();
        assert_eq!(opened.state, State::Streaming);
        // a commit that began before the process was born, as far as the meter can tell: stuck since its birth
        std::thread::sleep(Duration::from_millis(30));
        let Some(long_ago) = Instant::now().checked_sub(state::STUCK) else { return };
        meter.enters(Doing::Commit, long_ago);
        assert_eq!(status.state("a").unwrap().state, State::Streaming, "not stuck for long enough");
        meter.leaves();
        let again = status.state("a").unwrap();
        assert_eq!(again.since, opened.since);
        status.set("a", Phase::Stopped { why: None });
        assert!(status.state("a").unwrap().since > opened.since);
        assert_eq!(status.states().len(), 1);
        assert!(status.state("b").is_none());
    }
}
