//! Where another system stopped that published the same tables before: the place to begin at where there is no checkpoint.
//!
//! Such a system may have stopped inside a transaction. What it says of that is kept in its own terms, since nothing else can be made of
//! it without reading the log: the connector leaves those rows out when the transaction comes. They count all the same, so that ordinals
//! and ids are those of a transaction that comes whole.
//!
//! The text form is that of `source.start_at`: a position, and what is published of the transaction behind it.
//!
//! ```text
//! 3e11fa47-71ca-11e1-9e33-c80aa9429562:1-77
//! 3e11fa47-71ca-11e1-9e33-c80aa9429562:1-77 events 2 rows 1
//! binlog.000042:1234 events 2 rows 1
//! 0-1-77 events 3 rows 1 queries
//! 0/16B3748 xid 745 to 0/16B3900
//! ```

use std::fmt;

use crate::binlog::BinlogPosition;
use crate::position::{LogPosition, Lsn, PositionError};

/// Where to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handover {
    /// Everything up to here is published.
    pub position: LogPosition,
    /// And this part of a transaction behind it.
    pub part: Option<Part>,
}

/// What is published of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// MySQL and MariaDB: of the first transaction behind the position, counted from its BEGIN; MariaDB's GTID event is one.
    Events {
        /// So many events of the binlog.
        events: u64,
        /// And so many rows of the next one.
        rows: u32,
        /// MariaDB: the events with statements' texts are counted. It sends them only if they are asked for.
        queries: bool,
    },
    /// PostgreSQL: of this transaction, what stands in the log up to here.
    UpTo {
        /// Its number, without an epoch.
        xid: u32,
        /// The LSN of its last row that is published.
        lsn: Lsn,
    },
}

impl Handover {
    /// Reads the text form, with a position of this kind; instead of MySQL's GTIDs there may be a file and an offset.
    ///
    /// # Errors
    /// The text isn't of the form.
    pub fn parse(kind: &str, text: &str) -> Result<Self, PositionError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let no_number = |word: &str| PositionError(format!("`{word}` is not a number that can stand there"));
        let number = |word: &str| word.parse().map_err(|_| no_number(word));
        let small = |word: &str| word.parse().map_err(|_| no_number(word));
        let of_events = |events: &str, rows: &str, queries| {
            Ok::<_, PositionError>(Some(Part::Events { events: number(events)?, rows: small(rows)?, queries }))
        };
        let maria = kind == "mariadb-gtid";
        let (position, part) = match words.as_slice() {
            [rest @ .., "events", events, "rows", rows] if maria || kind == "gtid" => {
                (rest.join(" "), of_events(events, rows, false)?)
            }
            [rest @ .., "events", events, "rows", rows, "queries"] if maria => {
                (rest.join(" "), of_events(events, rows, true)?)
            }
            [position, "xid", xid, "to", lsn] if kind == "lsn" => {
                ((*position).to_owned(), Some(Part::UpTo { xid: small(xid)?, lsn: lsn.parse()? }))
            }
            all => (all.join(" "), None),
        };
        if position.is_empty() {
            return Err(wrong(text));
        }
        let position = match kind {
            "gtid" if is_place(&position) => LogPosition::Binlog(BinlogPosition::told(&position)?),
            // sets are written on several lines
            _ => LogPosition::parse(kind, &position.replace(' ', ""))?,
        };
        Ok(Self { position, part })
    }
}

/// A file's name has a dot before its number, and nothing in a set of GTIDs has one.
fn is_place(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(file, _)| file.contains('.'))
}

fn wrong(text: &str) -> PositionError {
    PositionError(format!("`{text}` is not a position and what is published behind it"))
}

impl fmt::Display for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.position.fmt(f)?;
        match self.part {
            None => Ok(()),
            Some(Part::Events { events, rows, queries }) => {
                write!(f, " events {events} rows {rows}{}", if queries { " queries" } else { "" })
            }
            Some(Part::UpTo { xid, lsn }) => write!(f, " xid {xid} to {lsn}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    #[test]
    fn a_place_to_begin_at_reads_back() {
        for (kind, text) in [
            ("gtid", format!("{UUID}:1-77")),
            ("gtid", format!("{UUID}:1-77 events 2 rows 1")),
            ("gtid", "mysql-bin.000042:1234".to_owned()),
            ("gtid", "my bin.000042:1234 events 2 rows 1".to_owned()),
            ("mariadb-gtid", "0-1-7".to_owned()),
            ("mariadb-gtid", "0-1-7,1-1-8 events 2 rows 1".to_owned()),
            ("mariadb-gtid", "0-1-7 events 3 rows 1 queries".to_owned()),
            ("lsn", "0/16B3748".to_owned()),
            ("lsn", "0/16B3748 xid 745 to 0/16B3900".to_owned()),
        ] {
            assert_eq!(Handover::parse(kind, &text).unwrap().to_string(), text);
        }
        // as servers and files write it, on several lines
        let two = format!("{UUID}:1-7,\n4e11fa47-71ca-11e1-9e33-c80aa9429562:1");
        assert!(Handover::parse("gtid", &two).is_ok());
        for (kind, text) in [
            ("gtid", "0/5"),
            ("gtid", ""),
            ("gtid", "events 1 rows 1"),
            ("gtid", "x events 1 rows 1"),
            ("gtid", "binlog.000042:x"),
            ("gtid", "binlog.000042"),
            ("gtid", "binlog.000042:4 events 1 rows 1 queries"),
            ("mariadb-gtid", "binlog.000042:4"),
            ("lsn", "0/5 events 1 rows 1"),
            ("lsn", "0/5 xid x to 0/7"),
            ("lsn", "0/5 xid 1 to 7"),
        ] {
            assert!(Handover::parse(kind, text).is_err(), "{kind} {text}");
        }
        assert!(Handover::parse("gtid", &format!("{UUID}:1 events -1 rows 1")).is_err());
    }
}
