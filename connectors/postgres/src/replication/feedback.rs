//! Standby status updates: what tells the server that we live, and what it may forget.
//!
//! A task of its own owns the write half, so that a stream which isn't polled (back-pressure) still answers in
//! time. It sends
//! - every interval (a third of `wal_sender_timeout`, two seconds at most), asking for an answer, so that silence
//!   means a dead connection even where the server sends no keep-alives of its own;
//! - at once when the server asks, or when somebody here waits to learn how far it has sent;
//! - when a confirmation moved, at most every 100 ms, the last one always.
//!
//! `flush` and `apply` are the confirmed position, never more: the server may drop WAL up to there, and begins there after a
//! restart. Prepared transactions bound it (holds.rs). `write` is
//! what was received. The task ends when the connection breaks; the reader notices that by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rowcast_net::Stream;
use tokio::io::{AsyncWriteExt, WriteHalf};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::holds::Holds;

/// Confirmations closer together than this are sent as one.
const COALESCE: Duration = Duration::from_millis(100);
/// The server is told, and asked, at least this often: soon after it fell silent somebody should know.
const LONGEST_INTERVAL: Duration = Duration::from_secs(2);
/// 1970 to 2000 in microseconds.
const POSTGRES_EPOCH_US: u128 = 946_684_800_000_000;

/// What the reader tells the task.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    received: AtomicU64,
    /// Bounds what may be confirmed.
    pub(crate) holds: Holds,
    asked: Notify,
    asking: Notify,
}

impl Shared {
    /// Everything up to this position has arrived.
    pub(crate) fn received(&self, at: u64) {
        self.received.fetch_max(at, Ordering::Relaxed);
    }

    /// The server is to say how far it has sent.
    pub(crate) fn ask(&self) {
        self.asking.notify_one();
    }

    /// The server wants an answer.
    pub(crate) fn asked(&self) {
        self.asked.notify_one();
    }
}

/// How often to send, from the server's `wal_sender_timeout` (0: off) and our own read time-out.
pub(crate) fn interval(wal_sender_timeout: Duration, read_timeout: Duration) -> Duration {
    let third = |timeout: Duration| if timeout.is_zero() { LONGEST_INTERVAL } else { timeout / 3 };
    third(wal_sender_timeout).min(third(read_timeout)).min(LONGEST_INTERVAL).max(Duration::from_millis(50))
}

/// The running task. Dropping it ends the task.
#[derive(Debug)]
pub(crate) struct Feedback {
    task: JoinHandle<Option<WriteHalf<Stream>>>,
    stop: Option<oneshot::Sender<()>>,
}

impl Feedback {
    /// Starts the task.
    pub(crate) fn start(
        write: WriteHalf<Stream>,
        shared: Arc<Shared>,
        confirmed: watch::Receiver<u64>,
        interval: Duration,
    ) -> Self {
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut write = write;
            match run(&mut write, &shared, confirmed, interval, stopped).await {
                Ok(()) => Some(write),
                Err(error) => {
                    tracing::debug!(%error, "status updates to the server end");
                    None
                }
            }
        });
        Self { task, stop: Some(stop) }
    }

    /// Sends the last confirmation and CopyDone, and gives the write half back; none if the connection is broken.
    pub(crate) async fn finish(mut self) -> Option<WriteHalf<Stream>> {
        if let Some(stop) = self.stop.take() {
            // an error says that the task has ended already
            let _ = stop.send(());
        }
        (&mut self.task).await.ok().flatten()
    }
}

impl Drop for Feedback {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(
    write: &mut WriteHalf<Stream>,
    shared: &Shared,
    mut confirmed: watch::Receiver<u64>,
    interval: Duration,
    mut stop: oneshot::Receiver<()>,
) -> std::io::Result<()> {
    let (mut last_sent, mut confirmation_due, mut can_move) = (Instant::now(), None, true);
    loop {
        let periodic = last_sent + interval;
        let due = confirmation_due.map_or(periodic, |due: Instant| due.min(periodic));
        // a stop first; then what is due; a flood of requests can't starve either
        let ask = tokio::select! {
            biased;
            // the sender is gone with the stream: then the task is aborted anyway
            _ = &mut stop => {
                let last = *confirmed.borrow_and_update();
                status(write, shared, last, false).await?;
                write.write_all(b"c\0\0\0\x04").await?;
                return write.flush().await;
            }
            () = sleep_until(due) => Instant::now() >= periodic,
            () = shared.asked.notified() => false,
            () = shared.asking.notified() => true,
            changed = confirmed.changed(), if can_move && confirmation_due.is_none() => {
                match changed {
                    Ok(()) => confirmation_due = Some(last_sent + COALESCE),
                    // nobody will confirm any more
                    Err(_) => can_move = false,
                }
                continue;
            }
        };
        let now_confirmed = *confirmed.borrow_and_update();
        status(write, shared, now_confirmed, ask).await?;
        last_sent = Instant::now();
        confirmation_due = None;
    }
}

async fn status(write: &mut WriteHalf<Stream>, shared: &Shared, confirmed: u64, ask: bool) -> std::io::Result<()> {
    let confirmed = shared.holds.bound(confirmed);
    let received = shared.received.load(Ordering::Relaxed).max(confirmed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    write.write_all(&message(received, confirmed, now.saturating_sub(POSTGRES_EPOCH_US) as u64, ask)).await?;
    write.flush().await
}

/// CopyData with a standby status update: write, flush, apply, clock, reply requested.
fn message(received: u64, confirmed: u64, clock: u64, ask: bool) -> Vec<u8> {
    let mut message = Vec::with_capacity(39);
    message.extend_from_slice(b"d\0\0\0\x26r");
    for number in [received, confirmed, confirmed, clock] {
        message.extend_from_slice(&number.to_be_bytes());
    }
    message.push(u8::from(ask));
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_update_says_its_own_length() {
        let message = message(3, 2, 1, true);
        assert_eq!(message.len(), 1 + 0x26);
        assert!(message.ends_with(&[0, 0, 0, 0, 0, 0, 0, 1, 1]));
    }

    #[test]
    fn the_interval_stays_well_below_the_servers_timeout() {
        let seconds = Duration::from_secs;
        assert_eq!(interval(seconds(60), seconds(60)), seconds(2));
        assert_eq!(interval(seconds(6), seconds(60)), seconds(2));
        assert_eq!(interval(seconds(0), seconds(60)), seconds(2));
        assert_eq!(interval(seconds(60), seconds(3)), seconds(1));
    }
}
