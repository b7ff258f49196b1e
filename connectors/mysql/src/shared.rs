//! What the parts of one source tell each other: stream, readers and monitor have connections of their own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shared(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// The stream's positions are files and offsets.
    by_place: AtomicBool,
    /// Why the stream is to begin anew: the server isn't any more what it was when the stream began.
    alarm: Mutex<Option<String>>,
}

impl Shared {
    /// A stream begins: how its positions are, and nothing is wrong.
    pub(crate) fn begins(&self, by_place: bool) {
        self.0.by_place.store(by_place, Ordering::Relaxed);
        *self.0.alarm.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether positions are files and offsets.
    pub(crate) fn by_place(&self) -> bool {
        self.0.by_place.load(Ordering::Relaxed)
    }

    /// The stream ends soon, with this reason, and begins anew with all checks.
    pub(crate) fn alarm(&self, why: String) {
        *self.0.alarm.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    /// The reason, once.
    pub(crate) fn take_alarm(&self) -> Option<String> {
        self.0.alarm.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
