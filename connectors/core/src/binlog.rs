//! Places in MySQL's binlog: where there are no GTIDs, a file and an offset is all that a position can be.
//!
//! A file's number counts up until the log is reset, and the offset grows within the file, so places of one server are ordered. Two
//! things make such a place mean something: the server (another one has other files) and when the file was begun, since
//! `RESET BINARY LOGS AND GTIDS` and a restored backup begin again at the same names. Both are part of a position, and compared with
//! what the server has before a stream goes on there.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::backfill::Offset;
use crate::gtid::{Gtid, GtidSet, parse_uuid, write_uuid};
use crate::position::PositionError;

/// A place in one server's binlog, between two transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BinlogPlace {
    /// Name of the file, without a folder: `binlog.000042`.
    pub file: Arc<str>,
    /// When the server began the file, in seconds since 1970-01-01T00:00:00Z; 0 while that isn't known.
    pub born: u32,
    /// Offset in it.
    pub byte: u64,
}

impl BinlogPlace {
    /// The number of a file, 42 of `binlog.000042`; 0 if it has none.
    pub fn number(file: &str) -> u64 {
        file.rsplit_once('.').and_then(|(_, number)| number.trim_end_matches('\0').parse().ok()).unwrap_or(0)
    }

    /// The same without what makes it mean something on another day.
    pub fn offset(&self) -> Offset {
        Offset { file: Self::number(&self.file), byte: self.byte }
    }

    /// False if the two are known to be files of the same name that were begun at different times.
    fn same_log(&self, other: &Self) -> bool {
        *self.file != *other.file || self.born == other.born || self.born == 0 || other.born == 0
    }
}

impl BinlogPlace {
    /// `binlog.000042:1234`
    fn parse(text: &str, born: u32) -> Option<Self> {
        let (file, byte) = text.rsplit_once(':').filter(|(file, _)| !file.is_empty())?;
        let digits = byte.bytes().all(|byte| byte.is_ascii_digit());
        Some(Self { file: file.into(), born, byte: byte.parse().ok().filter(|_| digits)? })
    }
}

/// As people write it: `binlog.000042:1234`.
impl fmt::Display for BinlogPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.byte)
    }
}

/// The commit of one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BinlogMark {
    /// Where it ends.
    pub place: BinlogPlace,
    /// Its GTID; none if it has none.
    pub gtid: Option<Gtid>,
}

/// Everything in one server's binlog before a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BinlogPosition {
    /// The server's `server_uuid`; zeros ([`UNKNOWN_SERVER`]) where somebody else has told the place, who doesn't say it.
    pub server: [u8; 16],
    /// Where.
    pub place: BinlogPlace,
    /// The transactions with GTIDs before it, where these are known: they are once the stream has seen a file begin. Where
    /// GTIDs are switched on in mid-stream, a later start goes on by these.
    pub gtids: Option<GtidSet>,
}

/// No server has this `server_uuid`.
pub const UNKNOWN_SERVER: [u8; 16] = [0; 16];

impl BinlogPosition {
    /// A place as people write it, `binlog.000042:1234`, on a server that isn't told.
    ///
    /// # Errors
    /// The text isn't of the form.
    pub fn told(text: &str) -> Result<Self, PositionError> {
        let wrong = || PositionError(format!("`{text}` is not of the form binlog.000042:1234"));
        let place = BinlogPlace::parse(text, 0).ok_or_else(wrong)?;
        Ok(Self { server: UNKNOWN_SERVER, place, gtids: None })
    }

    /// Takes in a committed transaction.
    pub(crate) fn advance(&mut self, mark: &BinlogMark) {
        let behind = self.place.same_log(&mark.place) && mark.place.offset() < self.place.offset();
        if !behind {
            self.place = mark.place.clone();
        }
        if let (Some(known), Some(gtid)) = (&mut self.gtids, &mark.gtid) {
            known.add(gtid);
        }
    }
}

/// By place, on the same server.
impl PartialOrd for BinlogPosition {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        let comparable = self.server == other.server && self.place.same_log(&other.place);
        comparable.then(|| self.place.offset().cmp(&other.place.offset()))
    }
}

/// `binlog.000042:1234 begun 1732612345 on 3e11fa47-71ca-11e1-9e33-c80aa9429562`, and ` with ` the GTIDs if they are known; the place alone
/// if the server isn't.
impl fmt::Display for BinlogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.server == UNKNOWN_SERVER {
            return self.place.fmt(f);
        }
        write!(f, "{} begun {} on ", self.place, self.place.born)?;
        write_uuid(f, &self.server)?;
        match &self.gtids {
            Some(gtids) => write!(f, " with {gtids}"),
            None => Ok(()),
        }
    }
}

impl FromStr for BinlogPosition {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let wrong = || {
            PositionError(format!("`{text}` is not of the form binlog.000042:1234 begun 1732612345 on <server_uuid>"))
        };
        let (front, gtids) = match text.split_once(" with ") {
            Some((front, gtids)) => (front, Some(gtids.parse()?)),
            None => (text, None),
        };
        let (front, server) = front.rsplit_once(" on ").ok_or_else(wrong)?;
        let (place, born) = front.rsplit_once(" begun ").ok_or_else(wrong)?;
        let born = Some(born).filter(|born| born.bytes().all(|byte| byte.is_ascii_digit()));
        let born = born.and_then(|born| born.parse().ok()).ok_or_else(wrong)?;
        let place = BinlogPlace::parse(place, born).ok_or_else(wrong)?;
        Ok(Self { server: parse_uuid(server).ok_or_else(wrong)?, place, gtids })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::position::{LogPosition, Mark};

    const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn at(text: &str) -> BinlogPosition {
        format!("{text} on {UUID}").parse().unwrap()
    }

    #[test]
    fn a_position_reads_back_as_it_is_written() {
        let plain = format!("binlog.000042:1234 begun 1732612345 on {UUID}");
        for text in [plain.clone(), format!("{plain} with {UUID}:1-5:7"), format!("{plain} with ")] {
            let position: BinlogPosition = text.parse().unwrap();
            assert_eq!(position.to_string(), text);
            assert_eq!(LogPosition::parse("binlog", &text), Ok(LogPosition::Binlog(position)));
        }
        assert_eq!(at("db-1 bin.log.000007:4 begun 0").place.to_string(), "db-1 bin.log.000007:4");
        for wrong in
            ["", "binlog.000001:4", "binlog.000001 begun 1 on x", ":4 begun 1 on", "a:x begun 1 on", "a:+1 begun 1 on"]
        {
            assert!(wrong.parse::<BinlogPosition>().is_err(), "{wrong}");
            assert!(format!("{wrong} {UUID}").parse::<BinlogPosition>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_place_that_is_told_is_of_no_server() {
        let told = BinlogPosition::told("mysql-bin.000042:1234").unwrap();
        assert_eq!((told.to_string().as_str(), told.place.born), ("mysql-bin.000042:1234", 0));
        // a checkpoint always says the server
        assert!("mysql-bin.000042:1234".parse::<BinlogPosition>().is_err());
        for wrong in ["", "binlog.000042", ":4", "binlog.000042:", "binlog.000042:+4", "binlog.000042:x"] {
            assert!(BinlogPosition::told(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn places_of_one_log_are_ordered_by_file_and_offset() {
        let ordered = [
            at("binlog.000009:900 begun 5"),
            at("binlog.000010:4 begun 6"),
            at("binlog.000010:157 begun 6"),
            at("binlog.999999:4 begun 7"),
            at("binlog.1000000:4 begun 8"),
        ];
        for (index, earlier) in ordered.iter().enumerate() {
            assert_eq!(earlier.partial_cmp(earlier), Some(Ordering::Equal));
            for later in ordered.iter().skip(index + 1) {
                assert_eq!(earlier.partial_cmp(later), Some(Ordering::Less), "{earlier} {later}");
                assert_eq!(later.partial_cmp(earlier), Some(Ordering::Greater), "{earlier} {later}");
            }
        }
        // a log that was reset, and another server
        let one = at("binlog.000001:900 begun 5");
        assert_eq!(one.partial_cmp(&at("binlog.000001:900 begun 6")), None);
        assert_eq!(one.partial_cmp(&at("binlog.000001:900 begun 0")), Some(Ordering::Equal));
        let other = BinlogPosition { server: [1; 16], ..one.clone() };
        assert_eq!(one.partial_cmp(&other), None);
    }

    #[test]
    fn a_position_goes_on_with_each_commit_and_never_back() {
        let mark = |file: &str, byte, number: Option<u64>| {
            let gtid = number.map(|number| format!("{UUID}:{number}").parse::<GtidSet>().unwrap());
            let gtid = gtid.and_then(|set| {
                let (origin, intervals) = set.origins().next()?;
                Some(Gtid { origin: origin.clone(), number: intervals.first()?.0 })
            });
            Mark::Binlog(BinlogMark { place: BinlogPlace { file: file.into(), born: 5, byte }, gtid })
        };
        let mut log =
            LogPosition::Binlog(BinlogPosition { gtids: Some(GtidSet::default()), ..at("binlog.000002:100 begun 5") });
        for (mark, expected) in [
            (mark("binlog.000002", 300, None), "binlog.000002:300"),
            (mark("binlog.000002", 200, None), "binlog.000002:300"),
            (mark("binlog.000003", 150, Some(7)), "binlog.000003:150"),
            (mark("binlog.000002", 900, None), "binlog.000003:150"),
        ] {
            log.advance(&mark).unwrap();
            let LogPosition::Binlog(position) = &log else { panic!() };
            assert_eq!(position.place.to_string(), expected);
        }
        assert!(log.to_string().ends_with(&format!(" with {UUID}:7")), "{log}");
        assert!(log.advance(&Mark::Lsn(crate::Lsn(5))).is_err());
    }
}
