//! Waiting until all that was sent is delivered, without a spinning librdkafka.
//!
//! An idempotent producer of librdkafka has one request of a partition under way at a time: it counts messages in flight where it means
//! requests (`rktp_msgs_inflight`, `RD_KAFKA_IDEMP_MAX_INFLIGHT`). While records wait behind that request that are older than `linger.ms`, or
//! while anybody flushes, its broker thread asks `poll` without a time-out until the answer is there: 29 % of the daemon's CPU time when a
//! backlog of PostgreSQL was published exactly once. So `linger.ms` is long ([`super::client`]), full batches go out by their size, and
//! a flush is for the last, partly filled batches, when nothing is under way before them.
//!
//! Guarantees nothing about the deliveries themselves: [`super::KafkaSink`] looks at failures while it waits.

use std::cell::Cell;
use std::time::{Duration, Instant};

use rdkafka::producer::{BaseProducer, Producer};

use super::client::{self, Background};

/// How long a flush waits before failed deliveries are looked at; it returns at once when all is delivered.
const FLUSH_SLICE: Duration = Duration::from_millis(50);
/// How often it is asked whether batches have arrived.
const TICK: Duration = Duration::from_micros(500);
/// A short flush: what lingers in partitions with nothing under way is sent, and librdkafka spins no longer than this.
const PULSE: Duration = Duration::from_millis(1);
/// Without a delivery for so long, partly filled batches are what is waited for; from one such pulse to the next it is twice as long.
const STALLED: Duration = Duration::from_millis(5);
/// The longest time between pulses.
const MOST_STALLED: Duration = Duration::from_millis(80);

/// What was sent since everything was delivered, to guess the bytes of what is left.
#[derive(Debug, Default)]
pub(super) struct Sent {
    records: Cell<usize>,
    bytes: Cell<usize>,
}

impl Sent {
    /// A record of so many bytes.
    pub(super) fn add(&self, bytes: usize) {
        self.records.set(self.records.get() + 1);
        self.bytes.set(self.bytes.get().saturating_add(bytes));
    }

    /// Everything was delivered.
    pub(super) fn clear(&self) {
        self.records.set(0);
        self.bytes.set(0);
    }

    /// Whether that many records may fill a batch, so that a request may be under way with others waiting behind it.
    fn fills(&self, left: usize, batch: usize) -> bool {
        let average = self.bytes.get() / self.records.get().max(1);
        left.saturating_mul(average) >= batch / 4 * 3
    }
}

/// One wait for deliveries.
#[derive(Debug)]
pub(super) struct Wait {
    left: usize,
    since: Instant,
    stalled: Duration,
}

impl Wait {
    pub(super) fn new() -> Self {
        Self { left: usize::MAX, since: Instant::now(), stalled: STALLED }
    }

    /// Waits a moment for the producer's queue to become shorter.
    pub(super) fn a_moment(&mut self, producer: &BaseProducer<Background>, moment: Duration) {
        let left = in_flight(producer);
        if left != self.left {
            *self = Self { left, ..Self::new() };
        } else if self.since.elapsed() >= self.stalled {
            client::flush(producer, PULSE);
            self.since = Instant::now();
            self.stalled = (self.stalled * 2).min(MOST_STALLED);
            return;
        }
        std::thread::sleep(moment);
    }

    /// Waits until everything may be delivered, or for some milliseconds. `batch`: the bytes with which one is full.
    pub(super) fn for_all(&mut self, producer: &BaseProducer<Background>, sent: &Sent, batch: usize) {
        if sent.fills(in_flight(producer), batch) {
            self.a_moment(producer, TICK);
        } else {
            client::flush(producer, FLUSH_SLICE);
        }
    }
}

/// Records that aren't delivered yet.
pub(super) fn in_flight(producer: &BaseProducer<Background>) -> usize {
    usize::try_from(producer.in_flight_count()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_filled_by_records_of_the_usual_size() {
        let sent = Sent::default();
        assert!(!sent.fills(1000, 1000));
        (0..10).for_each(|_| sent.add(100));
        assert!(sent.fills(8, 1000) && !sent.fills(7, 1000));
        sent.clear();
        sent.add(10);
        assert!(!sent.fills(8, 1000));
    }
}
