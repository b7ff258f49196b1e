//! When a heartbeat is due: only if the format has them, and they are asked for.
//!
//! One is sent with the first commit behind its time; an idle stream is committed for it alone. So that they add no commits to a busy
//! one, and none that isn't asked for to an idle one.

use std::time::{Duration, Instant};

/// The time of the next heartbeat.
#[derive(Debug)]
pub(super) struct Beat {
    /// How often, and when next; none if there are none.
    next: Option<(Duration, Instant)>,
}

impl Beat {
    pub(super) fn new(interval: Option<Duration>, now: Instant) -> Self {
        Self { next: interval.map(|interval| (interval, now + interval)) }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.next.is_some_and(|(_, at)| at <= now)
    }

    /// At most this long, so that one isn't late.
    pub(super) fn at_most(&self, wait: Duration, now: Instant) -> Duration {
        self.next.map_or(wait, |(_, at)| wait.min(at.saturating_duration_since(now)))
    }

    /// One was sent.
    pub(super) fn sent(&mut self, now: Instant) {
        if let Some((interval, at)) = &mut self.next {
            *at = now + *interval;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_due_when_its_time_has_come_and_none_if_there_are_none() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut beat = Beat::new(Some(second), now);
        assert!(!beat.is_due(now) && beat.is_due(now + second));
        assert_eq!(beat.at_most(second * 9, now + second / 4), second * 3 / 4);
        assert_eq!(beat.at_most(second * 9, now + second * 2), Duration::ZERO);
        beat.sent(now + second * 2);
        assert!(!beat.is_due(now + second * 2) && beat.is_due(now + second * 3));
        let none = Beat::new(None, now);
        assert!(!none.is_due(now + second * 9));
        assert_eq!(none.at_most(second, now), second);
    }
}
