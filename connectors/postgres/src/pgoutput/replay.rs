//! The replay of a kept transaction: its records from the file, in batches whose bytes the events point into.
//!
//! Memory: a batch, or one record if that is larger. A file that doesn't hold what was written to it is an error.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytes::{Buf, Bytes, BytesMut};

use super::in_progress::{HEAD, NUMBER, Origin};
use crate::replication::reader::BATCH_BYTES;

/// A record in the buffer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record {
    /// Where its message begins: behind length, transaction and number.
    pub(crate) start: usize,
    end: usize,
    /// Of a relation when the server sent it, of others their LSN.
    pub(crate) number: u64,
}

/// The replay.
#[derive(Debug)]
pub(crate) struct Replay {
    file: File,
    at: u64,
    end: u64,
    /// Sorted.
    aborted: Vec<u32>,
    buf: BytesMut,
    walked: usize,
    /// Where the transaction was replicated from.
    pub(crate) origin: Option<Origin>,
}

fn damaged() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the file of a transaction in progress doesn't hold what was written to it",
    )
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_be_bytes(*chunk))
}

impl Replay {
    pub(crate) fn new(file: File, length: u64, mut aborted: Vec<u32>) -> Self {
        aborted.sort_unstable();
        Self { file, at: 0, end: length, aborted, buf: BytesMut::new(), walked: 0, origin: None }
    }

    /// One of a transaction that was replicated from here.
    pub(crate) fn of(self, origin: Option<Origin>) -> Self {
        Self { origin, ..self }
    }

    /// Bytes of the records that were walked.
    pub(crate) fn walked(&self) -> usize {
        self.walked
    }

    /// The next record that counts; none at the end. It stays next until [`Replay::advance`].
    pub(crate) fn record(&mut self) -> io::Result<Option<Record>> {
        loop {
            let rest = self.buf.get(self.walked..).unwrap_or_default();
            let (length, sub) = match (number(rest, 0), number(rest, 4)) {
                (Some(length), Some(sub)) => (length as usize, sub),
                _ if self.at < self.end => {
                    self.fill(BATCH_BYTES)?;
                    continue;
                }
                _ if rest.is_empty() => return Ok(None),
                _ => return Err(damaged()),
            };
            let total = HEAD.checked_add(length).ok_or_else(damaged)?;
            if rest.len() < total {
                let missing = total - rest.len();
                if missing as u64 > self.end.saturating_sub(self.at) {
                    return Err(damaged());
                }
                self.fill(missing.max(BATCH_BYTES))?;
                continue;
            }
            let end = self.walked + total;
            let kind = rest.get(HEAD + NUMBER..total).and_then(<[u8]>::first).copied().ok_or_else(damaged)?;
            let rolled_back = self.aborted.binary_search(&sub).is_ok();
            if rolled_back && !matches!(kind, b'R' | b'Y') {
                self.walked = end;
                continue;
            }
            let of = |at: usize| number(rest, HEAD + at).map(u64::from).ok_or_else(damaged);
            let number = of(0)? << 32 | of(4)?;
            let start = self.walked + HEAD + NUMBER;
            return Ok(Some(Record { start, end, number }));
        }
    }

    /// A record's message.
    pub(crate) fn message(&self, record: Record) -> &[u8] {
        self.buf.get(record.start..record.end).unwrap_or_default()
    }

    /// The record was taken in.
    pub(crate) fn advance(&mut self, record: Record) {
        self.walked = record.end;
    }

    fn fill(&mut self, bytes: usize) -> io::Result<()> {
        let bytes = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX).min(bytes);
        let from = self.buf.len();
        self.buf.resize(from + bytes, 0);
        let read = self.file.read_at(self.buf.get_mut(from..).unwrap_or_default(), self.at);
        let count = read.as_ref().copied().unwrap_or(0);
        self.buf.truncate(from + count);
        self.at += count as u64;
        match read {
            Ok(0) => Err(damaged()),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Gives out the walked bytes.
    pub(crate) fn split(&mut self) -> Bytes {
        let data = self.buf.split_to(self.walked.min(self.buf.len())).freeze();
        self.walked = 0;
        data
    }

    /// Forgets the walked bytes: no event points into them.
    pub(crate) fn discard(&mut self) {
        self.buf.advance(self.walked.min(self.buf.len()));
        self.walked = 0;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn file(bytes: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file
    }

    fn record(sub: u32, message: &[u8]) -> Vec<u8> {
        let length = (NUMBER + message.len()) as u32;
        [&length.to_be_bytes()[..], &sub.to_be_bytes(), &0x102_u64.to_be_bytes(), message].concat()
    }

    #[test]
    fn records_larger_than_a_batch_and_across_its_end_are_whole() {
        let large = [&b"I"[..], &vec![7; 3 * BATCH_BYTES]].concat();
        let small: Vec<u8> = (0..1000).flat_map(|n: u32| record(1, &[&b"I"[..], &n.to_be_bytes()].concat())).collect();
        let bytes = [record(1, &large), small, record(1, &large)].concat();
        let mut replay = Replay::new(file(&bytes), bytes.len() as u64, Vec::new());
        let mut lengths = Vec::new();
        while let Some(record) = replay.record().unwrap() {
            lengths.push(replay.message(record).len());
            replay.advance(record);
            if replay.walked() >= BATCH_BYTES {
                assert!(replay.split().len() >= BATCH_BYTES);
            }
        }
        assert_eq!(lengths.len(), 1002);
        assert_eq!(
            (lengths.first(), lengths.get(1), lengths.last()),
            (Some(&large.len()), Some(&5), Some(&large.len()))
        );
    }

    #[test]
    fn a_relation_says_when_it_arrived_and_reads_as_it_was_sent() {
        let bytes = record(9, b"Rrest");
        let mut replay = Replay::new(file(&bytes), bytes.len() as u64, vec![9]);
        let found = replay.record().unwrap().unwrap();
        assert_eq!((replay.message(found), found.number), (&b"Rrest"[..], 0x102));
    }

    #[test]
    fn a_damaged_file_is_an_error_and_allocates_nothing() {
        for bytes in [
            &b"\0\0"[..],
            b"\xff\xff\xff\xff\0\0\0\x01I",
            b"\0\0\0\0\0\0\0\x01",
            b"\0\0\0\x02\0\0\0\x01R\0",
            b"\0\0\0\x08\0\0\0\x0112345678",
        ] {
            assert!(Replay::new(file(bytes), bytes.len() as u64, Vec::new()).record().is_err(), "{bytes:?}");
        }
        // shorter than it was
        assert!(Replay::new(file(b""), 100, Vec::new()).record().is_err());
    }
}
