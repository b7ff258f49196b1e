//! Binlog events: header, checksum, and the bodies that aren't rows.
//!
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_replication_binlog_event.html>,
//! <https://mariadb.com/docs/server/reference/clientserver-protocol/replication-protocol>. Every length is checked;
//! a body that is too short is [`Short`], never a panic.

use rowcast_core::gtid::Origin;
use rowcast_core::{Gtid, MariaGtid};

use crate::cursor::{Cursor, Short};

/// Length of an event's header.
pub(crate) const HEADER: usize = 19;
/// Length of the CRC32 behind an event.
pub(crate) const CHECKSUM: usize = 4;

/// Event types.
pub(crate) mod kind {
    pub(crate) const QUERY: u8 = 2;
    pub(crate) const STOP: u8 = 3;
    pub(crate) const ROTATE: u8 = 4;
    pub(crate) const INTVAR: u8 = 5;
    pub(crate) const RAND: u8 = 13;
    pub(crate) const USER_VAR: u8 = 14;
    pub(crate) const FORMAT_DESCRIPTION: u8 = 15;
    pub(crate) const XID: u8 = 16;
    pub(crate) const TABLE_MAP: u8 = 19;
    pub(crate) const WRITE_ROWS_V1: u8 = 23;
    pub(crate) const UPDATE_ROWS_V1: u8 = 24;
    pub(crate) const DELETE_ROWS_V1: u8 = 25;
    pub(crate) const INCIDENT: u8 = 26;
    pub(crate) const HEARTBEAT: u8 = 27;
    pub(crate) const IGNORABLE: u8 = 28;
    pub(crate) const ROWS_QUERY: u8 = 29;
    pub(crate) const WRITE_ROWS: u8 = 30;
    pub(crate) const UPDATE_ROWS: u8 = 31;
    pub(crate) const DELETE_ROWS: u8 = 32;
    pub(crate) const GTID: u8 = 33;
    pub(crate) const ANONYMOUS_GTID: u8 = 34;
    pub(crate) const PREVIOUS_GTIDS: u8 = 35;
    pub(crate) const TRANSACTION_CONTEXT: u8 = 36;
    pub(crate) const VIEW_CHANGE: u8 = 37;
    pub(crate) const XA_PREPARE: u8 = 38;
    pub(crate) const PARTIAL_UPDATE_ROWS: u8 = 39;
    pub(crate) const TRANSACTION_PAYLOAD: u8 = 40;
    pub(crate) const HEARTBEAT_V2: u8 = 41;
    pub(crate) const GTID_TAGGED: u8 = 42;
    pub(crate) const MARIA_ANNOTATE_ROWS: u8 = 160;
    pub(crate) const MARIA_CHECKPOINT: u8 = 161;
    pub(crate) const MARIA_GTID: u8 = 162;
    pub(crate) const MARIA_GTID_LIST: u8 = 163;
    pub(crate) const MARIA_START_ENCRYPTION: u8 = 164;
    pub(crate) const MARIA_QUERY_COMPRESSED: u8 = 165;
    pub(crate) const MARIA_WRITE_ROWS_COMPRESSED_V1: u8 = 166;
    pub(crate) const MARIA_DELETE_ROWS_COMPRESSED_V1: u8 = 168;
    pub(crate) const MARIA_WRITE_ROWS_COMPRESSED: u8 = 169;
    pub(crate) const MARIA_DELETE_ROWS_COMPRESSED: u8 = 171;
    pub(crate) const MARIA_PARTIAL_ROW_DATA: u8 = 172;

    /// Events of MariaDB's `log_bin_compress`.
    pub(crate) fn is_compressed(kind: u8) -> bool {
        matches!(kind, MARIA_QUERY_COMPRESSED..=MARIA_DELETE_ROWS_COMPRESSED)
    }

    /// What a row event is made of, and what goes with it: nothing that a transaction that is kept could be read without.
    pub(crate) fn is_of_rows(kind: u8) -> bool {
        matches!(
            kind,
            TABLE_MAP
                | WRITE_ROWS_V1
                | UPDATE_ROWS_V1
                | DELETE_ROWS_V1
                | WRITE_ROWS
                | UPDATE_ROWS
                | DELETE_ROWS
                | PARTIAL_UPDATE_ROWS
                | ROWS_QUERY
                | MARIA_ANNOTATE_ROWS
        )
    }

    /// Statements with the data of a LOAD DATA file.
    pub(crate) fn is_load(kind: u8) -> bool {
        matches!(kind, 6 | 8..=12 | 17 | 18)
    }
}

/// An event that an older reader may skip.
pub(crate) const FLAG_IGNORABLE: u16 = 0x80;
/// Made up by the server for the stream; not in the binlog.
pub(crate) const FLAG_ARTIFICIAL: u16 = 0x20;
/// The binlog file wasn't closed; not covered by the checksum.
const FLAG_IN_USE: u16 = 0x01;

/// An event's header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    pub(crate) timestamp: u32,
    pub(crate) kind: u8,
    pub(crate) server_id: u32,
    /// Offset behind the event in its file; 0 for artificial events.
    pub(crate) end: u32,
    pub(crate) flags: u16,
}

impl Header {
    /// Reads the header; the event's length in it must be the packet's.
    pub(crate) fn parse(event: &[u8]) -> Result<Self, Short> {
        let mut at = Cursor::new(event);
        let (timestamp, kind, server_id) = (at.u32()?, at.u8()?, at.u32()?);
        let (length, end, flags) = (at.u32()?, at.u32()?, at.u16()?);
        if length as usize != event.len() {
            return Err(Short);
        }
        Ok(Self { timestamp, kind, server_id, end, flags })
    }
}

/// The length that an event's header says, with its checksum.
pub(crate) fn length(head: &[u8]) -> usize {
    head.get(9..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes) as usize)
}

/// Sets type and length in the header of an event that was made from another one.
pub(crate) fn set_head(event: &mut [u8], event_kind: u8) {
    let length = event.len() as u32;
    if let Some(place) = event.get_mut(4) {
        *place = event_kind;
    }
    if let Some(place) = event.get_mut(9..13) {
        place.copy_from_slice(&length.to_le_bytes());
    }
}

/// True if the last four bytes of the event are the CRC32 of the others.
pub(crate) fn checksum_holds(event: &[u8]) -> bool {
    let Some((body, sum)) = event.split_last_chunk::<CHECKSUM>() else { return false };
    let sum = u32::from_le_bytes(*sum);
    if crc32fast::hash(body) == sum {
        return true;
    }
    // The in-use flag is set and cleared after the checksum was written (`Log_event_footer::event_checksum_test`).
    let (Some(front), Some(flags), Some(back)) = (body.get(..17), body.get(17..19), body.get(19..)) else {
        return false;
    };
    let [low, high] = *flags else { return false };
    if u16::from_le_bytes([low, high]) & FLAG_IN_USE == 0 {
        return false;
    }
    let mut crc = crc32fast::Hasher::new();
    crc.update(front);
    crc.update(&[low & !(FLAG_IN_USE as u8), high]);
    crc.update(back);
    crc.finalize() == sum
}

/// What the first event of a file says about the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FormatDescription {
    /// Events end with a CRC32.
    pub(crate) checksum: bool,
    /// When the server started, if the file is the first since then; else 0.
    pub(crate) created: u32,
}

impl FormatDescription {
    /// Reads the body, its checksum still behind it: version, server version, created, header length, post-header
    /// lengths, then (since 5.6) one byte for the algorithm and always four bytes of checksum.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Short> {
        let mut at = Cursor::new(body);
        let version = at.u16()?;
        at.take(50)?;
        let created = at.u32()?;
        let header = at.u8()?;
        if version != 4 || usize::from(header) != HEADER {
            return Err(Short);
        }
        let (front, _) = at.rest().split_last_chunk::<CHECKSUM>().ok_or(Short)?;
        match front.last() {
            Some(0) => Ok(Self { checksum: false, created }),
            Some(1) => Ok(Self { checksum: true, created }),
            _ => Err(Short),
        }
    }
}

/// FLAG_MAY_HAVE_SBR of a GTID event.
const MAY_HOLD_STATEMENTS: u8 = 1;

/// A MySQL transaction's first event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct GtidEvent {
    pub(crate) gtid: Gtid,
    /// Microseconds; 0 if the server didn't say.
    pub(crate) commit_us: u64,
    /// It may hold statements, and so a ROLLBACK; else it is rows only.
    pub(crate) statements: bool,
    /// Bytes of the whole transaction in the log, this event included; 0 if the server didn't say.
    pub(crate) length: u64,
}

impl GtidEvent {
    /// GTID_EVENT and ANONYMOUS_GTID: flags, uuid, number, then (type 2) logical clock, commit timestamps and length.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Short> {
        let mut at = Cursor::new(body);
        let statements = at.u8()? & MAY_HOLD_STATEMENTS != 0;
        let uuid = at.array()?;
        let number = at.u64()?;
        let (mut commit_us, mut length) = (0, 0);
        if at.rest().first() == Some(&2) && at.len() >= 17 + 7 {
            at.take(17)?;
            const ORIGINAL_FOLLOWS: u64 = 1 << 55;
            commit_us = at.uint(7)?;
            if commit_us & ORIGINAL_FOLLOWS != 0 {
                commit_us = at.uint(7)?;
            }
            if !at.is_empty() {
                length = at.lenenc()?;
            }
        }
        Ok(Self { gtid: Gtid { origin: Origin { uuid, tag: String::new() }, number }, commit_us, statements, length })
    }

    /// GTID_TAGGED_LOG_EVENT (8.3): written by the library `mysql::serialization`: version, size, the last field that
    /// must be known, then pairs of field number and value; integers of variable length, the UUID as 16 of them.
    pub(crate) fn parse_tagged(body: &[u8]) -> Result<Self, Short> {
        let mut at = Cursor::new(body);
        if varlen(&mut at)? != 1 {
            return Err(Short);
        }
        let size = usize::try_from(varlen(&mut at)?).map_err(|_| Short)?;
        let must_know = varlen(&mut at)?;
        let consumed = body.len() - at.len();
        let mut at = Cursor::new(at.take(size.checked_sub(consumed).ok_or(Short)?)?);
        let (mut uuid, mut number, mut tag) = (None, None, String::new());
        let (mut immediate, mut original, mut flags) = (0, None, 0);
        while !at.is_empty() {
            match varlen(&mut at)? {
                1 => {
                    let mut bytes = [0_u8; 16];
                    for byte in &mut bytes {
                        *byte = u8::try_from(varlen(&mut at)?).map_err(|_| Short)?;
                    }
                    uuid = Some(bytes);
                }
                2 => number = Some(varlen_signed(&mut at)?),
                3 => {
                    let length = usize::try_from(varlen(&mut at)?).map_err(|_| Short)?;
                    let text = at.take(length)?;
                    if length > 32 || !text.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_') {
                        return Err(Short);
                    }
                    tag = String::from_utf8_lossy(text).into_owned();
                }
                6 => immediate = varlen(&mut at)?,
                7 => original = Some(varlen(&mut at)?),
                0 => flags = varlen(&mut at)?,
                4 | 5 | 8..=11 => {
                    varlen(&mut at)?;
                }
                unknown if unknown <= must_know => return Err(Short),
                // Fields are written in order; one that may be ignored ends what we know.
                _ => break,
            }
        }
        let (Some(uuid), Some(number)) = (uuid, number) else { return Err(Short) };
        let gtid = Gtid { origin: Origin { uuid, tag }, number };
        let statements = flags & u64::from(MAY_HOLD_STATEMENTS) != 0;
        Ok(Self { gtid, commit_us: original.unwrap_or(immediate), statements, length: 0 })
    }
}

/// An unsigned integer of 1 to 9 bytes: as many trailing one bits in the first byte as further bytes.
fn varlen(at: &mut Cursor<'_>) -> Result<u64, Short> {
    let first = at.rest().first().ok_or(Short)?;
    let extra = first.trailing_ones();
    if extra == 8 {
        at.u8()?;
        return at.u64();
    }
    Ok(at.uint(extra as usize + 1)? >> (extra + 1))
}

/// A signed one that must not be negative: the sign is the lowest bit.
fn varlen_signed(at: &mut Cursor<'_>) -> Result<u64, Short> {
    let raw = varlen(at)?;
    if raw & 1 == 0 { Ok(raw >> 1) } else { Err(Short) }
}

/// A MariaDB transaction's first event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MariaGtidEvent {
    pub(crate) gtid: MariaGtid,
    /// No COMMIT follows: the next statement is all there is (DDL).
    pub(crate) standalone: bool,
    /// It has changes of transactional tables only, so that no ROLLBACK is in it.
    pub(crate) transactional: bool,
    /// It ends with XA PREPARE.
    pub(crate) prepared: bool,
}

impl MariaGtidEvent {
    pub(crate) fn parse(body: &[u8], server: u32) -> Result<Self, Short> {
        let mut at = Cursor::new(body);
        let (sequence, domain, flags) = (at.u64()?, at.u32()?, at.u8()?);
        Ok(Self {
            gtid: MariaGtid { domain, server, sequence },
            standalone: flags & 1 != 0,
            transactional: flags & 4 != 0,
            prepared: flags & 64 != 0,
        })
    }
}

/// A statement.
#[derive(Debug)]
pub(crate) struct Query<'a> {
    /// The connection's id.
    pub(crate) thread: u32,
    /// The session's database.
    pub(crate) db: &'a [u8],
    pub(crate) sql: &'a [u8],
    /// How long it took.
    pub(crate) seconds: u32,
}

impl<'a> Query<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Short> {
        let mut at = Cursor::new(body);
        let thread = at.u32()?;
        let seconds = at.u32()?;
        let db_length = usize::from(at.u8()?);
        at.u16()?; // error code
        let status_length = usize::from(at.u16()?);
        at.take(status_length)?;
        let db = at.take(db_length)?;
        at.u8()?;
        Ok(Self { thread, db, sql: at.rest(), seconds })
    }
}

/// The table that a TABLE_MAP is about.
pub(crate) fn mapped_table(body: &[u8]) -> Result<(&[u8], &[u8]), Short> {
    let mut at = Cursor::new(body);
    at.take(8)?; // table id, flags
    let mut name = || -> Result<&[u8], Short> {
        let length = usize::from(at.u8()?);
        let name = at.take(length)?;
        at.u8()?;
        Ok(name)
    };
    Ok((name()?, name()?))
}

/// Whether a row event is the last one of its statement.
pub(crate) fn ends_statement(body: &[u8]) -> bool {
    body.get(6).is_some_and(|flags| flags & 1 != 0)
}

/// The text of a statement whose rows follow; none if the event isn't one that has it.
pub(crate) fn statement_text(event_kind: u8, body: &[u8]) -> Option<&[u8]> {
    match event_kind {
        // a length of one byte that says nothing in front
        kind::ROWS_QUERY => Some(body.get(1..).unwrap_or(&[])),
        kind::MARIA_ANNOTATE_ROWS => Some(body),
        _ => None,
    }
}

/// The transaction's name as XA PREPARE and XA COMMIT write it.
pub(crate) fn xa_name(format: u32, global: &[u8], branch: &[u8]) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("X'{}',X'{}',{format}", hex(global), hex(branch))
}

/// XA PREPARE: whether it is a one-phase commit, and the transaction's name as statements write it.
pub(crate) fn xa_prepare(body: &[u8]) -> Result<(bool, String), Short> {
    let mut at = Cursor::new(body);
    let one_phase = at.u8()? != 0;
    let format = at.u32()?;
    let (global, branch) = (at.u32()? as usize, at.u32()? as usize);
    let (global, branch) = (at.take(global)?, at.take(branch)?);
    Ok((one_phase, xa_name(format, global, branch)))
}

/// The name of the file that follows.
pub(crate) fn rotate(body: &[u8]) -> Result<(String, u64), Short> {
    let mut at = Cursor::new(body);
    let offset = at.u64()?;
    Ok((String::from_utf8_lossy(at.rest().get(..512).unwrap_or(at.rest())).into_owned(), offset))
}

/// The number in a binlog file's name, `binlog.000042`; 0 if it has none.
pub(crate) fn file_number(name: &str) -> u64 {
    rowcast_core::BinlogPlace::number(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn variable_length_integers_read_as_the_library_writes_them() {
        for (bytes, value) in [
            (&[0b0000_0000][..], 0_u64),
            (&[0b1111_1110], 127),
            (&[0b0000_0001, 0b0000_0010], 128),
            (&[0xff, 1, 0, 0, 0, 0, 0, 0, 0x80], 0x8000_0000_0000_0001),
        ] {
            assert_eq!(varlen(&mut Cursor::new(bytes)), Ok(value), "{bytes:?}");
        }
        assert_eq!(varlen(&mut Cursor::new(&[0xff, 1])), Err(Short));
    }

    #[test]
    fn a_flipped_bit_breaks_the_checksum() {
        let mut event = vec![7_u8; 40];
        let sum = crc32fast::hash(&event);
        event.extend_from_slice(&sum.to_le_bytes());
        assert!(checksum_holds(&event));
        *event.get_mut(20).unwrap() ^= 1;
        assert!(!checksum_holds(&event));
        assert!(!checksum_holds(&[1, 2]));
    }

    #[test]
    fn a_mariadb_gtid_takes_its_server_from_the_header() {
        let body = [5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        let event = MariaGtidEvent::parse(&body, 7).unwrap();
        assert_eq!(event.gtid.to_string(), "1-7-5");
        assert!(event.standalone);
    }
}
