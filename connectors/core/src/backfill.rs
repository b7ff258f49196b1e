//! Reading the rows that are already there: what a connector's [`TableReader`] gives the daemon's backfill.
//!
//! ```text
//! plan(table) ─► ranges, estimate
//! begin(range) ─► Reading { snapshot, bound } ─► next() ─► Piece ─► Piece ─► ... ─► end()
//! ```
//!
//! A read is one transaction of one ordinary read-only connection. It tells two things besides its rows: which transactions
//! it sees ([`Snapshot`]), and a place in the log before which all of these lie ([`Reading::bound`]). With both the daemon can
//! put the rows between the right events of the stream without a lock and without a pause.
//!
//! Ranges and keys are texts of the connector; the daemon keeps ranges in its checkpoint and never looks into them.

use std::future::Future;

use crate::error::SourceError;
use crate::event::{Batch, Transaction};
use crate::gtid::{GtidSet, MariaGtidSet};
use crate::position::{LogPosition, Mark};
use crate::schema::TableName;

/// A point in the log of one server: comparable while connected to that server, never kept.
///
/// PostgreSQL: `file` is 0 and `byte` an LSN. MySQL and MariaDB: number and offset of a binlog file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Offset {
    /// Number of the binlog file.
    pub file: u64,
    /// Offset in it, or LSN.
    pub byte: u64,
}

/// Which transactions a read sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Snapshot {
    /// PostgreSQL's `pg_current_snapshot()`: all below `xmin`, none from `xmax` on, in between all but those running.
    Xids {
        /// Every transaction below is over.
        xmin: u64,
        /// The first that wasn't given out yet.
        xmax: u64,
        /// In progress: top-level transactions with their epoch, sorted.
        running: Vec<u64>,
    },
    /// MySQL's `gtid_executed`, read before the read began: certainly these. A transaction enters it after the engine's commit.
    AtLeast(GtidSet),
    /// MariaDB's `binlog_snapshot_position`: exactly the commits whose end in the binlog is not behind `end`.
    Exactly {
        /// Where in the binlog.
        end: Offset,
        /// The same place as GTIDs.
        gtids: MariaGtidSet,
    },
    /// MySQL without GTIDs: certainly the commits whose end in the binlog is not behind this place.
    UpTo(Offset),
}

/// Whether a read sees a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// It does.
    Seen,
    /// It doesn't.
    Unseen,
    /// Nobody can tell; treated as unseen where that is safe.
    Unknown,
}

impl Snapshot {
    /// Whether it certainly sees a transaction whose commit ends at `end`.
    pub fn sees(&self, transaction: &Transaction, end: Offset) -> bool {
        match (self, &transaction.mark) {
            (Snapshot::Xids { .. }, _) => transaction.xid.is_some_and(|xid| self.sees_xid(self.widen(xid))),
            (Snapshot::AtLeast(set), Mark::Gtid(gtid)) => set.contains(gtid),
            (Snapshot::Exactly { end: until, .. } | Snapshot::UpTo(until), _) => end <= *until,
            _ => false,
        }
    }

    /// Whether a 64-bit transaction id is visible; false for other kinds than PostgreSQL's.
    pub fn sees_xid(&self, xid: u64) -> bool {
        match self {
            Snapshot::Xids { xmin, xmax, running } => {
                xid < *xmin || (xid < *xmax && running.binary_search(&xid).is_err())
            }
            _ => false,
        }
    }

    /// The 64-bit form of an xid of the stream, which has 32 bits: the nearest one to this snapshot. A server stops before
    /// ids in use are 2^31 apart.
    pub fn widen(&self, xid: u32) -> u64 {
        let Snapshot::Xids { xmax, .. } = self else { return u64::from(xid) };
        let distance = (*xmax as u32).wrapping_sub(xid) as i32;
        xmax.saturating_add_signed(-i64::from(distance))
    }

    /// The transactions in progress that it names; empty for other kinds than PostgreSQL's.
    pub fn running(&self) -> &[u64] {
        match self {
            Snapshot::Xids { running, .. } => running,
            _ => &[],
        }
    }

    /// Whether everything up to a log position is visible. PostgreSQL's positions don't say that: true, and its running
    /// transactions have to be looked at instead.
    pub fn covers(&self, position: &LogPosition) -> bool {
        match (self, position) {
            (Snapshot::Xids { .. }, _) => true,
            (Snapshot::AtLeast(set), LogPosition::Gtid(position)) => position.minus(set).is_empty(),
            (Snapshot::Exactly { gtids, .. }, LogPosition::MariaDb(position)) => {
                LogPosition::MariaDb(gtids.clone()) >= LogPosition::MariaDb(position.clone())
            }
            (Snapshot::UpTo(until), LogPosition::Binlog(position)) => position.place.offset() <= *until,
            _ => false,
        }
    }
}

/// What a read sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Which transactions.
    pub snapshot: Snapshot,
    /// The commit of every transaction that it sees ends here or before.
    pub bound: Offset,
    /// The same place as a text of the stream's kind (an LSN, a GTID set), for the events.
    pub pos: String,
    /// MySQL and MariaDB: the name of the binlog file that `bound` lies in; empty for PostgreSQL.
    pub file: String,
    /// The server's clock when it began, in microseconds since 1970-01-01T00:00:00Z.
    pub now_us: i64,
}

impl Reading {
    /// Whether it sees a transaction whose commit ends at `end`.
    pub fn sight(&self, transaction: &Transaction, end: Offset) -> Sight {
        if self.snapshot.sees(transaction, end) {
            Sight::Seen
        } else if matches!(self.snapshot, Snapshot::AtLeast(_) | Snapshot::UpTo(_)) && end <= self.bound {
            Sight::Unknown
        } else {
            Sight::Unseen
        }
    }
}

/// A table, and which of its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Schema, or database where there are no schemas: as patterns name it.
    pub qualifier: String,
    /// Table.
    pub table: String,
    /// An SQL condition that rows must meet.
    pub filter: Option<String>,
}

/// How a table will be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Full name, as the stream's events have it.
    pub name: TableName,
    /// Rows can be told apart by the key that their events have too. If not, the table is read whole in one read.
    pub keyed: bool,
    /// A row may be in another range after an update (ranges are places, not keys), so that a changed row may be read twice,
    /// or by no range; the stream has that change.
    pub rows_move: bool,
    /// What is to be read, in parts that may be read in any order; empty for an empty table.
    pub ranges: Vec<String>,
    /// Estimated number of rows, by the server's statistics.
    pub rows: Option<u64>,
    /// Estimated size in bytes.
    pub bytes: Option<u64>,
}

/// What one read reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What<'a> {
    /// A range of the plan, or what an earlier read has left of it.
    Range(&'a str),
    /// The rows with these keys; each key as the SQL literals of its columns, in key order.
    Keys(&'a [Vec<String>]),
    /// The whole table, in one transaction.
    Whole,
}

/// Rows of a read.
///
/// Which row is the first or the last of its table, or of all tables, can't be told here or when a row is encoded: ranges are read by
/// several connections at once, and which rows are published is decided later, when the stream has passed the read. A format whose
/// rows have such marks (Debezium's `first`, `last`, `first_in_data_collection`, `last_in_data_collection`) gives all of them the
/// one for any row (`true`); a copy's begin and end are records of their own on the schema topic.
#[derive(Debug)]
pub struct Piece {
    /// The rows: changes of [`crate::Op::Read`] with an image after, numbered by `seq` from 1 over the whole read; nothing else.
    pub batch: Batch,
    /// How many.
    pub rows: u64,
    /// What is left of the range behind this piece; none at its end. Means nothing in a read of keys or of a whole table.
    pub rest: Option<String>,
}

/// Why a read failed.
#[derive(Debug, Clone)]
pub enum ReadError {
    /// There is no such table (any more).
    Gone,
    /// The table was altered while it was read; the same read will see the new form.
    Changed(String),
    /// Rows were moved without a change in the log (a rewrite of the table: VACUUM FULL, some ALTER TABLE, TRUNCATE): ranges
    /// that were planned before mean nothing any more.
    Moved(String),
    /// The server ended a statement that took too long; a smaller read may pass.
    TooSlow(String),
    /// This table can't be read until an operator repairs something; others can. Says what and how.
    Refused(String),
    /// The connection or the server failed; the reader is of no use any more.
    Source(SourceError),
}

impl From<SourceError> for ReadError {
    fn from(error: SourceError) -> Self {
        ReadError::Source(error)
    }
}

/// A connection that reads tables. One read at a time; an error of kind [`ReadError::Source`], or a future that was dropped,
/// leaves it unusable, any other ready for the next read.
///
/// Read-only: it takes no lock that a SELECT doesn't take, and writes nothing.
pub trait TableReader: Send + 'static {
    /// Looks a table up and cuts it into about `ranges` ranges of like size. Never counts rows.
    ///
    /// # Errors
    /// `Refused` for what can't be read (no privilege, an engine without transactions, a wrong filter).
    fn plan(&mut self, target: &Target, ranges: usize) -> impl Future<Output = Result<Plan, ReadError>> + Send;

    /// What a read that begins now sees.
    ///
    /// # Errors
    /// `Source`.
    fn snapshot(&mut self) -> impl Future<Output = Result<Snapshot, ReadError>> + Send;

    /// Begins a read of about `rows` rows; fewer if they are large.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn begin(
        &mut self,
        target: &Target,
        what: What<'_>,
        rows: u64,
    ) -> impl Future<Output = Result<Reading, ReadError>> + Send;

    /// The next rows; none when all that `begin` asked for is there. A piece is about 256 KiB, or one row.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn next(&mut self) -> impl Future<Output = Result<Option<Piece>, ReadError>> + Send;

    /// Ends the read, also before its last row.
    ///
    /// # Errors
    /// `Source`.
    fn end(&mut self) -> impl Future<Output = Result<(), ReadError>> + Send;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::event::TransactionFacts;
    use crate::position::Lsn;

    fn transaction(xid: u32) -> Transaction {
        let mark = Mark::Lsn(Lsn(1));
        Transaction {
            id: xid.to_string(),
            xid: Some(xid),
            pos: String::new(),
            mark,
            commit_us: 0,
            facts: TransactionFacts::default(),
        }
    }

    fn xids(xmin: u64, xmax: u64, running: &[u64]) -> Snapshot {
        Snapshot::Xids { xmin, xmax, running: running.to_vec() }
    }

    #[test]
    fn a_postgres_snapshot_sees_what_was_over() {
        let snapshot = xids(10, 20, &[10, 15]);
        for (xid, seen) in [(9, true), (10, false), (11, true), (15, false), (19, true), (20, false), (25, false)] {
            assert_eq!(snapshot.sees(&transaction(xid), Offset::default()), seen, "{xid}");
        }
    }

    #[test]
    fn xids_are_widened_to_the_epoch_of_the_snapshot_across_its_ends() {
        let epoch = 1_u64 << 32;
        let after_wrap = xids(3 * epoch - 20, 3 * epoch + 10, &[3 * epoch - 5]);
        assert_eq!(after_wrap.widen(u32::MAX - 4), 3 * epoch - 5);
        assert!(!after_wrap.sees(&transaction(u32::MAX - 4), Offset::default()));
        assert!(after_wrap.sees(&transaction(u32::MAX - 100), Offset::default()));
        assert!(after_wrap.sees(&transaction(3), Offset::default()));
        assert!(!after_wrap.sees(&transaction(12), Offset::default()));
        let before_wrap = xids(2 * epoch - 3, 2 * epoch - 2, &[2 * epoch - 3]);
        assert_eq!(before_wrap.widen(5), 2 * epoch + 5);
        assert!(!before_wrap.sees(&transaction(5), Offset::default()));
        assert_eq!(xids(700, 800, &[]).widen(750), 750);
    }

    #[test]
    fn a_gtid_set_knows_what_is_seen_and_not_what_isnt() {
        const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let set: GtidSet = format!("{UUID}:1-5").parse().unwrap();
        let bound = Offset { file: 1, byte: 500 };
        let reading = Reading {
            snapshot: Snapshot::AtLeast(set.clone()),
            bound,
            pos: String::new(),
            file: String::new(),
            now_us: 0,
        };
        let origin = crate::gtid::Origin { uuid: crate::gtid::parse_uuid(UUID).unwrap(), tag: String::new() };
        let with = |number| Transaction {
            mark: Mark::Gtid(crate::gtid::Gtid { origin: origin.clone(), number }),
            xid: None,
            ..transaction(0)
        };
        assert_eq!(reading.sight(&with(3), Offset { file: 1, byte: 100 }), Sight::Seen);
        assert_eq!(reading.sight(&with(6), Offset { file: 1, byte: 500 }), Sight::Unknown);
        assert_eq!(reading.sight(&with(7), Offset { file: 1, byte: 501 }), Sight::Unseen);
        assert_eq!(reading.sight(&with(8), Offset { file: 2, byte: 4 }), Sight::Unseen);
        assert!(reading.snapshot.covers(&LogPosition::Gtid(set)));
        assert!(!reading.snapshot.covers(&LogPosition::Gtid(format!("{UUID}:1-6").parse().unwrap())));
    }

    #[test]
    fn a_place_is_seen_up_to_and_unknown_until_the_bound() {
        let at = |byte| Offset { file: 2, byte };
        let reading = Reading {
            snapshot: Snapshot::UpTo(at(400)),
            bound: at(500),
            pos: String::new(),
            file: String::new(),
            now_us: 0,
        };
        for (byte, sight) in [(4, Sight::Seen), (400, Sight::Seen), (401, Sight::Unknown), (501, Sight::Unseen)] {
            assert_eq!(reading.sight(&transaction(0), at(byte)), sight, "{byte}");
        }
        let position = |byte| {
            let text = format!("binlog.000002:{byte} begun 5 on 3e11fa47-71ca-11e1-9e33-c80aa9429562");
            LogPosition::Binlog(text.parse().unwrap())
        };
        assert!(reading.snapshot.covers(&position(400)));
        assert!(!reading.snapshot.covers(&position(401)));
        assert!(!reading.snapshot.covers(&LogPosition::MariaDb("0-1-7".parse().unwrap())));
    }

    #[test]
    fn a_binlog_snapshot_sees_commits_up_to_its_place() {
        let snapshot = Snapshot::Exactly { end: Offset { file: 2, byte: 400 }, gtids: "0-1-7".parse().unwrap() };
        let it = transaction(0);
        assert!(snapshot.sees(&it, Offset { file: 1, byte: 9_999 }));
        assert!(snapshot.sees(&it, Offset { file: 2, byte: 400 }));
        assert!(!snapshot.sees(&it, Offset { file: 2, byte: 401 }));
        assert!(snapshot.covers(&LogPosition::MariaDb("0-1-7".parse().unwrap())));
        assert!(!snapshot.covers(&LogPosition::MariaDb("0-1-8".parse().unwrap())));
        assert!(!snapshot.covers(&LogPosition::MariaDb("0-1-7,1-1-1".parse().unwrap())));
    }
}
