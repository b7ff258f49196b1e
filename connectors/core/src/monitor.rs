//! What a source tells of its server for those who watch it: when it was last heard, and how far its log goes.
//!
//! A [`Monitor`] has an ordinary connection of its own, so that it also answers while the stream is held back. It needs no
//! privileges beyond those of streaming; what it may not see is left out, with the reason. Its failure stops nothing.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::backfill::Offset;
use crate::error::SourceError;
use crate::position::LogPosition;

/// When something was last received on a connection. Clones beat together.
#[derive(Debug, Clone)]
pub struct Pulse {
    base: Instant,
    /// Milliseconds since `base`.
    last: Arc<AtomicU64>,
}

impl Default for Pulse {
    /// One that beats now.
    fn default() -> Self {
        Self { base: Instant::now(), last: Arc::new(AtomicU64::new(0)) }
    }
}

impl Pulse {
    /// Something was received. Once per read from the socket; costs a look at the clock.
    pub fn beat(&self) {
        self.last.store(self.base.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// How long ago it last beat.
    pub fn age(&self) -> Duration {
        self.base.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }
}

/// Looks at a server from time to time.
pub trait Monitor: Send + 'static {
    /// Asks the server for the current end of its log. `from` is what is published: a position, and its place in the log if that
    /// is known. Connects if need be, and again after an error.
    ///
    /// # Errors
    /// As [`crate::Source::open`]; the next call tries again.
    fn look(
        &mut self,
        from: &LogPosition,
        at: Option<Offset>,
    ) -> impl Future<Output = Result<Look, SourceError>> + Send;
}

/// What was seen on a server, and how far behind it a position is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Look {
    /// The end of the log as the server writes positions.
    pub end: String,
    /// The same as a place in the log.
    pub offset: Option<Offset>,
    /// The server's clock, in microseconds since 1970-01-01T00:00:00Z.
    pub now_us: i64,
    /// Bytes of log between the position and the end; none if they can't be counted.
    pub bytes: Option<u64>,
    /// Transactions in between; none where the log doesn't count them (PostgreSQL).
    pub transactions: Option<u64>,
    /// Log that the server keeps for this source alone; none where it keeps none (MySQL, MariaDB).
    pub kept: Option<Kept>,
    /// When the server purges log, whoever still needs it; none where it keeps what its readers need (PostgreSQL).
    pub purge: Option<Purge>,
    /// What could not be learnt, and what to do about it.
    pub note: Option<String>,
}

impl Look {
    /// Whether the position was at the end; unknown counts as no.
    pub fn caught_up(&self) -> bool {
        self.transactions.or(self.bytes) == Some(0)
    }
}

/// How long a server keeps its log without asking its readers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Purge {
    /// Age in seconds at which a file goes; none if files don't go by age.
    pub expire_seconds: Option<u64>,
    /// The position lies in the oldest file that is left, and newer ones are there: it is the next to go.
    pub in_oldest: bool,
}

impl Purge {
    /// What an operator should do something about, if the source is so many seconds behind.
    pub fn warnings(&self, lag_seconds: f64) -> Vec<LogWarning> {
        let mut warnings = Vec::new();
        if let Some(expire) = self.expire_seconds.filter(|expire| lag_seconds > *expire as f64 / 2.0) {
            let text = format!(
                "the source is {lag_seconds:.0} s behind, and the server purges binary logs after {expire} s \
                 (binlog_expire_logs_seconds): what isn't read by then is lost; repair: let the source catch up (`rowcast status` says \
                 what it waits for), and until then SET GLOBAL binlog_expire_logs_seconds={}",
                expire.saturating_mul(4).max(4 * 86_400)
            );
            warnings.push(LogWarning { kind: "expiry", text });
        }
        if self.in_oldest {
            let text = "the source reads the oldest binary log that the server has left, and it is the next one to be purged; repair: let \
                        the source catch up, and purge nothing until then"
                .to_owned();
            warnings.push(LogWarning { kind: "oldest", text });
        }
        warnings
    }
}

/// The kinds of [`Purge::warnings`]: more than half of the time until files are purged has gone by; the next file to be purged is
/// the one that is read.
pub const BINLOG_WARNINGS: [&str; 2] = ["expiry", "oldest"];

/// What a PostgreSQL replication slot holds back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Bytes of WAL from the slot's `restart_lsn` to the end.
    pub bytes: Option<u64>,
    /// Bytes that may still be written before the slot is in danger of being invalidated; none if there is no limit
    /// (`max_slot_wal_keep_size`). Zero or less when it is.
    pub safe_bytes: Option<i64>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub status: Option<String>,
    /// Transactions since the oldest one whose rows vacuum keeps for the slot; none if it holds back none.
    pub horizon_age: Option<u64>,
    /// Whether somebody streams from it.
    pub active: bool,
    /// Seconds for which nobody has; none while somebody does, and where the server doesn't say (before PostgreSQL 17).
    pub inactive_seconds: Option<u64>,
    /// What an operator should do something about before the slot is lost or the server suffers.
    pub warnings: Vec<LogWarning>,
}

/// What the server keeps for us is in danger, or endangers the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogWarning {
    /// One of [`SLOT_WARNINGS`] or [`BINLOG_WARNINGS`].
    pub kind: &'static str,
    /// What is the matter, by how much, and the repair.
    pub text: String,
}

/// The kinds of a slot's warnings: it keeps more WAL than the server otherwise would; little more may be written before it is
/// in danger; the server may remove its WAL at any moment; it was invalidated; it holds vacuum back; it is about to be
/// invalidated because nobody streams from it.
pub const SLOT_WARNINGS: [&str; 6] = ["extended", "safe_wal", "unreserved", "lost", "horizon", "idle"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pulse_ages_until_it_beats() {
        let pulse = Pulse::default();
        let clone = pulse.clone();
        std::thread::sleep(Duration::from_millis(20));
        let before = clone.age();
        assert!(before >= Duration::from_millis(15), "{before:?}");
        pulse.beat();
        assert!(clone.age() < before);
    }

    #[test]
    fn half_of_the_time_until_a_purge_is_worth_a_warning() {
        let purge = Purge { expire_seconds: Some(3600), in_oldest: false };
        let kinds = |purge: Purge, lag| purge.warnings(lag).iter().map(|it| it.kind).collect::<Vec<_>>();
        assert!(kinds(purge, 1800.0).is_empty());
        assert_eq!(kinds(purge, 1801.0), ["expiry"]);
        assert_eq!(kinds(Purge { expire_seconds: None, in_oldest: true }, 1e9), ["oldest"]);
        let said = purge.warnings(2000.0);
        assert!(
            said.iter().any(|it| it.text.contains("2000 s behind") && it.text.contains("after 3600 s")),
            "{said:?}"
        );
        let both = Purge { in_oldest: true, ..purge };
        assert!(both.warnings(1e6).iter().all(|it| BINLOG_WARNINGS.contains(&it.kind)));
    }

    #[test]
    fn what_is_unknown_is_not_caught_up() {
        let look = |transactions, bytes| Look { transactions, bytes, ..Look::default() };
        assert!(!look(None, None).caught_up());
        assert!(look(None, Some(0)).caught_up());
        assert!(look(Some(0), Some(120)).caught_up());
        assert!(!look(Some(2), Some(0)).caught_up());
    }
}
