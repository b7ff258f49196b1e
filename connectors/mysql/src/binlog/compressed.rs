//! MariaDB's compressed events (`log_bin_compress=ON`): a statement's text or a row event's rows, by zlib.
//!
//! <https://mariadb.com/docs/server/server-management/server-monitoring-logs/binary-log/compressing-events-to-reduce-size-of-the-binary-log>.
//! In front stands a byte: the highest bit is set, three bits are the algorithm (0: zlib), four say how many bytes follow with the
//! original length, highest first. The event's header, a row event's table id, flags and column bitmaps aren't compressed.
//!
//! An event is turned into the one that it would be without compression. The announced length is a bound, never an allocation.

use std::io::Read;

use bytes::BytesMut;

use super::event::{self, Query, kind};
use super::rows_event::RowsHead;
use crate::connection::packet::MAX_LOGICAL;
use crate::cursor::{Cursor, Short};

/// Appends the event that this one (its header and its body without checksum) stands for; one that isn't compressed as it is.
///
/// # Errors
/// What is wrong, in words.
pub(crate) fn unpack(header: &[u8], event_kind: u8, body: &[u8], out: &mut BytesMut) -> Result<(), String> {
    let from = out.len();
    let split = |Short| "it ends too early".to_owned();
    let (plain_kind, plain) = match event_kind {
        kind::MARIA_QUERY_COMPRESSED => (kind::QUERY, body.len() - Query::parse(body).map_err(split)?.sql.len()),
        // types with and without the older header lie as far apart as those without compression
        kind::MARIA_WRITE_ROWS_COMPRESSED_V1..=kind::MARIA_DELETE_ROWS_COMPRESSED_V1 => {
            let plain_kind = event_kind - kind::MARIA_WRITE_ROWS_COMPRESSED_V1 + kind::WRITE_ROWS_V1;
            (plain_kind, RowsHead::parse(plain_kind, body).map_err(split)?.rows)
        }
        kind::MARIA_WRITE_ROWS_COMPRESSED..=kind::MARIA_DELETE_ROWS_COMPRESSED => {
            let plain_kind = event_kind - kind::MARIA_WRITE_ROWS_COMPRESSED + kind::WRITE_ROWS;
            (plain_kind, RowsHead::parse(plain_kind, body).map_err(split)?.rows)
        }
        _ => (event_kind, body.len()),
    };
    let (front, packed) = body.split_at_checked(plain).ok_or("it ends too early")?;
    out.extend_from_slice(header);
    out.extend_from_slice(front);
    if plain_kind != event_kind {
        inflate(packed, out)?;
    }
    event::set_head(out.get_mut(from..).unwrap_or_default(), plain_kind);
    Ok(())
}

fn inflate(packed: &[u8], out: &mut BytesMut) -> Result<(), String> {
    let short = |Short| "its compressed part ends too early".to_owned();
    let mut at = Cursor::new(packed);
    let first = at.u8().map_err(short)?;
    let width = usize::from(first & 0x07);
    if first & 0x80 == 0 || first & 0x70 != 0 || !(1..=4).contains(&width) {
        return Err(format!("its compressed part begins with 0x{first:02x}, which is unknown"));
    }
    let length = usize::try_from(at.uint_be(width).map_err(short)?).map_err(|_| "it is too long")?;
    if length > MAX_LOGICAL {
        return Err(format!("{length} bytes are announced"));
    }
    let from = out.len();
    let mut decoder = flate2::read::ZlibDecoder::new(at.rest()).take(length as u64 + 1);
    let mut chunk = [0; 16 << 10];
    loop {
        match decoder.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => out.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(error) => return Err(error.to_string()),
        }
    }
    match out.len() - from {
        found if found == length => Ok(()),
        found => Err(format!("{length} bytes were announced, and {found} came out")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use std::io::Write;

    use super::*;

    fn packed(plain: &[u8], announced: u32) -> Vec<u8> {
        let mut out = vec![0x84];
        out.extend_from_slice(&announced.to_be_bytes());
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).unwrap();
        out.extend_from_slice(&encoder.finish().unwrap());
        out
    }

    fn unpacked(event_kind: u8, body: &[u8]) -> Result<Vec<u8>, String> {
        let mut out = BytesMut::from(&b"before"[..]);
        unpack(&[0; event::HEADER], event_kind, body, &mut out)?;
        assert!(out.starts_with(b"before"));
        Ok(out[6..].to_vec())
    }

    #[test]
    fn an_event_becomes_what_it_would_be_without_compression() {
        let front = [9, 0, 0, 0, 0, 0, 1, 0, 3, 0b111];
        let rows = vec![5; 5000];
        let body = [&front[..], &packed(&rows, 5000)].concat();
        let event = unpacked(kind::MARIA_WRITE_ROWS_COMPRESSED_V1, &body).unwrap();
        assert_eq!(event[4], kind::WRITE_ROWS_V1);
        assert_eq!(event[9..13], (event.len() as u32).to_le_bytes());
        assert_eq!(event[event::HEADER..], [&front[..], &rows].concat());
        // an update has two bitmaps
        let body = [&front[..], &[0b101], &packed(&rows, 5000)].concat();
        let event = unpacked(kind::MARIA_WRITE_ROWS_COMPRESSED_V1 + 1, &body).unwrap();
        assert_eq!((event[4], event.len()), (kind::UPDATE_ROWS_V1, event::HEADER + 11 + 5000));
        let query = [&[0; 8][..], &[2, 0, 0, 1, 0, 7], b"db\0", &packed(b"COMMIT", 6)].concat();
        let event = unpacked(kind::MARIA_QUERY_COMPRESSED, &query).unwrap();
        assert_eq!(Query::parse(&event[event::HEADER..]).unwrap().sql, b"COMMIT");
        // one that isn't compressed
        assert_eq!(unpacked(kind::XID, &[1, 2]).unwrap()[event::HEADER..], [1, 2]);
    }

    #[test]
    fn damage_and_a_wrong_length_are_errors() {
        let front = [9, 0, 0, 0, 0, 0, 1, 0, 3, 0b111];
        let good = packed(&[5; 5000], 5000);
        for wrong in [
            packed(&[5; 5000], 4999),
            packed(&[5; 5000], 5001),
            packed(&[5; 5000], u32::MAX),
            good[..good.len() - 5].to_vec(),
            [&[0x94][..], &good[1..]].concat(),
            [&[0x85][..], &good[1..]].concat(),
            [&[0x04][..], &good[1..]].concat(),
            vec![0x84, 0, 0],
            vec![],
        ] {
            let body = [&front[..], &wrong].concat();
            assert!(unpacked(kind::MARIA_WRITE_ROWS_COMPRESSED_V1, &body).is_err(), "{wrong:x?}");
        }
        assert!(unpacked(kind::MARIA_DELETE_ROWS_COMPRESSED, &[1, 2]).is_err());
    }
}
