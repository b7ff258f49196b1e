//! Positions: where in a source's log something is, and from where to go on.
//!
//! - [`Mark`]: one point, the commit of one transaction.
//! - [`LogPosition`]: everything up to some point; the fold of marks. This is what a stream resumes from.
//! - [`Position`]: a log position, and how far into the next transaction the sink already is.
//!
//! The text forms are the servers' own, so that they can be pasted into a SQL prompt; they are what the
//! checkpoint keeps.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use crate::binlog::{BinlogMark, BinlogPosition};
use crate::gtid::{Gtid, GtidSet, MariaGtid, MariaGtidSet};

/// A text that isn't a position, or positions of different kinds put together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PositionError(pub String);

/// A PostgreSQL log sequence number: a byte offset in the WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl FromStr for Lsn {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let wrong = || PositionError(format!("`{text}` is not an LSN of the form 16/B374D848"));
        let (high, low) = text.split_once('/').ok_or_else(wrong)?;
        let part = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
            if plain { u32::from_str_radix(digits, 16).ok() } else { None }
        };
        let (high, low) = (part(high).ok_or_else(wrong)?, part(low).ok_or_else(wrong)?);
        Ok(Self(u64::from(high) << 32 | u64::from(low)))
    }
}

/// The position of one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// PostgreSQL.
    Lsn(Lsn),
    /// MySQL.
    Gtid(Gtid),
    /// MariaDB.
    MariaDb(MariaGtid),
    /// MySQL, read by files and offsets.
    Binlog(BinlogMark),
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mark::Lsn(lsn) => lsn.fmt(f),
            Mark::Gtid(gtid) => gtid.fmt(f),
            Mark::MariaDb(gtid) => gtid.fmt(f),
            Mark::Binlog(mark) => mark.place.fmt(f),
        }
    }
}

/// Everything in a source's log up to some point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogPosition {
    /// PostgreSQL: everything that committed before this LSN.
    Lsn(Lsn),
    /// MySQL: these transactions.
    Gtid(GtidSet),
    /// MariaDB: in each domain, everything up to and including this GTID.
    MariaDb(MariaGtidSet),
    /// MySQL without GTIDs: everything before this place in the binlog of one server.
    Binlog(BinlogPosition),
}

impl LogPosition {
    /// Takes in a committed transaction.
    ///
    /// # Errors
    /// If the mark is of another kind: a connector's defect.
    pub fn advance(&mut self, mark: &Mark) -> Result<(), PositionError> {
        match (self, mark) {
            (LogPosition::Lsn(at), Mark::Lsn(to)) => *at = (*at).max(*to),
            (LogPosition::Gtid(set), Mark::Gtid(gtid)) => set.add(gtid),
            (LogPosition::MariaDb(set), Mark::MariaDb(gtid)) => set.add(*gtid),
            (LogPosition::Binlog(at), Mark::Binlog(mark)) => at.advance(mark),
            (at, mark) => {
                return Err(PositionError(format!("mark {mark} is of another kind than position {at}")));
            }
        }
        Ok(())
    }

    /// Whether a transaction of this mark is in it. Marks of another kind never are.
    pub fn contains(&self, mark: &Mark) -> bool {
        match (self, mark) {
            (LogPosition::Lsn(at), Mark::Lsn(lsn)) => lsn <= at,
            (LogPosition::Gtid(set), Mark::Gtid(gtid)) => set.contains(gtid),
            (LogPosition::MariaDb(set), Mark::MariaDb(gtid)) => {
                set.domains().any(|last| last.domain == gtid.domain && last.sequence >= gtid.sequence)
            }
            (LogPosition::Binlog(at), Mark::Binlog(mark)) => mark.place.offset() <= at.place.offset(),
            _ => false,
        }
    }

    /// The kind as the checkpoint names it.
    pub fn kind(&self) -> &'static str {
        match self {
            LogPosition::Lsn(_) => "lsn",
            LogPosition::Gtid(_) => "gtid",
            LogPosition::MariaDb(_) => "mariadb-gtid",
            LogPosition::Binlog(_) => "binlog",
        }
    }

    /// Parses the text form of a kind.
    ///
    /// # Errors
    /// For an unknown kind or a text that isn't of it.
    pub fn parse(kind: &str, text: &str) -> Result<Self, PositionError> {
        match kind {
            "lsn" => text.parse().map(LogPosition::Lsn),
            "gtid" => text.parse().map(LogPosition::Gtid),
            "mariadb-gtid" => text.parse().map(LogPosition::MariaDb),
            "binlog" => text.parse().map(LogPosition::Binlog),
            _ => Err(PositionError(format!("`{kind}` is not a kind of position"))),
        }
    }
}

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogPosition::Lsn(lsn) => lsn.fmt(f),
            LogPosition::Gtid(set) => set.fmt(f),
            LogPosition::MariaDb(set) => set.fmt(f),
            LogPosition::Binlog(at) => at.fmt(f),
        }
    }
}

/// GTID sets are ordered by inclusion, places of one binlog by file and offset; positions of different kinds aren't ordered.
impl PartialOrd for LogPosition {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (LogPosition::Lsn(a), LogPosition::Lsn(b)) => Some(a.cmp(b)),
            (LogPosition::Gtid(a), LogPosition::Gtid(b)) => a.partial_cmp(b),
            (LogPosition::MariaDb(a), LogPosition::MariaDb(b)) => a.partial_cmp(b),
            (LogPosition::Binlog(a), LogPosition::Binlog(b)) => a.partial_cmp(b),
            _ => None,
        }
    }
}

/// How far into a transaction the sink is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inside {
    /// The transaction, by the text of its position ([`crate::Transaction::pos`]), which is the same whenever it is
    /// streamed.
    pub transaction: String,
    /// Rows of it that are published: the ordinal of the last one.
    pub rows: u64,
    /// Its commit time, where the server may give its position to another transaction: one that a crash tore, of which MariaDB
    /// uses the GTID again. None in checkpoints of older versions.
    pub commit_us: Option<i64>,
}

/// A transaction whose rows stand in the log before the position, while it hasn't ended yet: an XA transaction behind its PREPARE. Its
/// rows are published at its commit, so that the stream needs them once more if it begins between the two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The server's name of it.
    pub name: String,
    /// The position of its PREPARE: the text of a [`Mark`].
    pub pos: String,
    /// Where the server has to begin to send it, if `pos` doesn't say: the text of the log position before it.
    pub from: Option<String>,
}

/// From where a source goes on: a log position, and the part of the transaction behind it that is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Everything up to here is published.
    pub log: LogPosition,
    /// And this part of the next transaction.
    pub inside: Option<Inside>,
    /// The branch of the server's history that `log` lies on, where the position doesn't say it itself: PostgreSQL's timeline.
    pub timeline: Option<u32>,
    /// What was prepared before `log` and hasn't ended.
    pub prepared: Vec<Prepared>,
}

impl Position {
    /// A position between transactions.
    pub fn boundary(log: LogPosition) -> Self {
        Self { log, inside: None, timeline: None, prepared: Vec::new() }
    }

    /// True between transactions. Only boundaries may be confirmed to a server.
    pub fn is_boundary(&self) -> bool {
        self.inside.is_none()
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.log.fmt(f)?;
        match &self.inside {
            Some(inside) => write!(f, " and {} rows of transaction {}", inside.rows, inside.transaction),
            None => Ok(()),
        }
    }
}

/// By log position first; at the same one, by the rows of the same transaction.
impl PartialOrd for Position {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.log.partial_cmp(&other.log)? {
            Ordering::Equal => match (&self.inside, &other.inside) {
                (None, None) => Some(Ordering::Equal),
                (None, Some(_)) => Some(Ordering::Less),
                (Some(_), None) => Some(Ordering::Greater),
                (Some(a), Some(b)) if a.transaction == b.transaction => Some(a.rows.cmp(&b.rows)),
                (Some(_), Some(_)) => None,
            },
            different => Some(different),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_lsn_reads_back_as_the_server_writes_it() {
        let lsn: Lsn = "16/B374D848".parse().unwrap();
        assert_eq!(lsn.0, 0x16_B374_D848);
        assert_eq!(lsn.to_string(), "16/B374D848");
        for wrong in ["", "16", "16/", "/1", "G/0", "1/1/1", "123456789/0", "+1/0"] {
            assert!(wrong.parse::<Lsn>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_position_inside_a_transaction_lies_behind_the_boundary_before_it() {
        let log = LogPosition::Lsn(Lsn(100));
        let boundary = Position::boundary(log.clone());
        let inside = |tx: &str, rows| Position {
            inside: Some(Inside { transaction: tx.to_owned(), rows, commit_us: None }),
            ..Position::boundary(log.clone())
        };
        assert!(boundary < inside("a", 1));
        assert!(inside("a", 1) < inside("a", 2));
        assert_eq!(inside("a", 1).partial_cmp(&inside("b", 1)), None);
        assert!(inside("a", 9) < Position::boundary(LogPosition::Lsn(Lsn(101))));
        assert!(!inside("a", 1).is_boundary());
    }

    #[test]
    fn a_mark_of_another_kind_does_not_move_a_position() {
        let mut at = LogPosition::Lsn(Lsn(5));
        let maria = Mark::MariaDb("0-1-2".parse().unwrap());
        assert!(at.advance(&maria).is_err());
        at.advance(&Mark::Lsn(Lsn(3))).unwrap();
        assert_eq!(at, LogPosition::Lsn(Lsn(5)));
    }
}
