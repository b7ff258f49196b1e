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
//! 0/16B3748 xid 745 to 0/16B3900
//! ```

use std::fmt;

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
    /// MySQL: of the first transaction behind the position, counted from its BEGIN.
    Events {
        /// So many events of the binlog.
        events: u64,
        /// And so many rows of the next one.
        rows: u32,
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
    /// Reads the text form, with a position of this kind.
    ///
    /// # Errors
    /// The text isn't of the form.
    pub fn parse(kind: &str, text: &str) -> Result<Self, PositionError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let no_number = |word: &str| PositionError(format!("`{word}` is not a number that can stand there"));
        let number = |word: &str| word.parse().map_err(|_| no_number(word));
        let small = |word: &str| word.parse().map_err(|_| no_number(word));
        let (position, part) = match words.as_slice() {
            [rest @ .., "events", events, "rows", rows] if kind == "gtid" => {
                (rest.concat(), Some(Part::Events { events: number(events)?, rows: small(rows)? }))
            }
            [position, "xid", xid, "to", lsn] if kind == "lsn" => {
                ((*position).to_owned(), Some(Part::UpTo { xid: small(xid)?, lsn: lsn.parse()? }))
            }
            all => (all.concat(), None),
        };
        if position.is_empty() {
            return Err(wrong(text));
        }
        Ok(Self { position: LogPosition::parse(kind, &position)?, part })
    }
}

fn wrong(text: &str) -> PositionError {
    PositionError(format!("`{text}` is not a position and what is published behind it"))
}

impl fmt::Display for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.position.fmt(f)?;
        match self.part {
            None => Ok(()),
            Some(Part::Events { events, rows }) => write!(f, " events {events} rows {rows}"),
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
            ("mariadb-gtid", "0-1-7".to_owned()),
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
            ("mariadb-gtid", "0-1-7 events 1 rows 1"),
            ("lsn", "0/5 events 1 rows 1"),
            ("lsn", "0/5 xid x to 0/7"),
            ("lsn", "0/5 xid 1 to 7"),
        ] {
            assert!(Handover::parse(kind, text).is_err(), "{kind} {text}");
        }
        assert!(Handover::parse("gtid", &format!("{UUID}:1 events -1 rows 1")).is_err());
    }
}
