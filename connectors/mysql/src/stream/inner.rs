//! Events that don't come straight from the socket: out of a compressed transaction, out of what was kept, or unpacked from MariaDB's
//! compressed events. In all three they lie behind each other, without checksums, each with its length in its header.
//!
//! Memory: a batch, or one event if that is larger. No announced length is allocated before its bytes are there.

use std::io::Read;

use bytes::{Buf, Bytes, BytesMut};

use super::BATCH_BYTES;
use crate::binlog::event;
use crate::connection::packet::MAX_LOGICAL;

/// Where the events come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A TRANSACTION_PAYLOAD: their offsets aren't those of the binlog.
    Payload,
    /// A transaction that was kept; at its end it is ended.
    Kept,
    /// Events of the stream itself.
    Unpacked,
}

/// Such events.
pub(crate) struct Inner {
    pub(crate) origin: Origin,
    from: Box<dyn Read + Send + Sync>,
    at_end: bool,
    buf: BytesMut,
    walked: usize,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("origin", &self.origin).field("walked", &self.walked).finish_non_exhaustive()
    }
}

impl Inner {
    pub(crate) fn new(origin: Origin, from: Box<dyn Read + Send + Sync>) -> Self {
        Self { origin, from, at_end: false, buf: BytesMut::new(), walked: 0 }
    }

    /// No whole event is in memory: what was taken in is better given out before more is read, so that a batch holds no more memory
    /// than it counts.
    pub(crate) fn is_dry(&self) -> bool {
        let rest = self.buf.get(self.walked..).unwrap_or_default();
        let length = rest.get(9..).and_then(|rest| rest.first_chunk()).map(|bytes| u32::from_le_bytes(*bytes) as usize);
        !self.at_end && length.is_none_or(|length| length > rest.len())
    }

    /// Of events in memory.
    pub(crate) fn of(origin: Origin, buf: BytesMut) -> Self {
        Self { origin, from: Box::new(std::io::empty()), at_end: true, buf, walked: 0 }
    }

    /// Where the next event lies in [`Inner::data`]; none at the end. It stays next until [`Inner::advance`].
    pub(crate) fn event(&mut self) -> Result<Option<(usize, usize)>, String> {
        loop {
            let rest = self.buf.get(self.walked..).unwrap_or_default();
            let length =
                rest.get(9..).and_then(|rest| rest.first_chunk()).map(|bytes| u32::from_le_bytes(*bytes) as usize);
            match length {
                Some(length) if !(event::HEADER..=MAX_LOGICAL).contains(&length) => {
                    return Err(format!("an event of {length} bytes"));
                }
                Some(length) if rest.len() >= length => return Ok(Some((self.walked, self.walked + length))),
                _ if self.at_end && rest.is_empty() => return Ok(None),
                _ if self.at_end => return Err("it ends within an event".to_owned()),
                _ => self.fill()?,
            }
        }
    }

    fn fill(&mut self) -> Result<(), String> {
        let from = self.buf.len();
        if from < BATCH_BYTES {
            // room for what is read and no more; large events grow by doubling
            let mut fresh = BytesMut::with_capacity(from + BATCH_BYTES);
            fresh.extend_from_slice(&self.buf);
            self.buf = fresh;
        }
        self.buf.resize(from + BATCH_BYTES, 0);
        let read = loop {
            match self.from.read(self.buf.get_mut(from..).unwrap_or_default()) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        let count = *read.as_ref().unwrap_or(&0);
        self.buf.truncate(from + count);
        self.at_end = count == 0;
        read.map(|_| ()).map_err(|error| error.to_string())
    }

    pub(crate) fn data(&self) -> &[u8] {
        &self.buf
    }

    /// The events before here were taken in.
    pub(crate) fn advance(&mut self, end: usize) {
        self.walked = end;
    }

    /// Bytes that were taken in.
    pub(crate) fn walked(&self) -> usize {
        self.walked
    }

    /// Gives out the bytes that were taken in.
    pub(crate) fn split(&mut self) -> Bytes {
        let data = self.buf.split_to(self.walked.min(self.buf.len())).freeze();
        self.walked = 0;
        data
    }

    /// Forgets them: no event points into them.
    pub(crate) fn discard(&mut self) {
        self.buf.advance(self.walked.min(self.buf.len()));
        self.walked = 0;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn of_length(length: usize) -> Vec<u8> {
        let mut event = vec![7; length];
        event[9..13].copy_from_slice(&(length as u32).to_le_bytes());
        event
    }

    #[test]
    fn events_across_the_end_of_a_read_are_whole() {
        let lengths = [19, 40, 3 * BATCH_BYTES, 20, BATCH_BYTES];
        let bytes: Vec<u8> = lengths.iter().flat_map(|length| of_length(*length)).collect();
        let mut inner = Inner::new(Origin::Kept, Box::new(std::io::Cursor::new(bytes)));
        let mut found = Vec::new();
        while let Some((start, end)) = inner.event().unwrap() {
            found.push(end - start);
            inner.advance(end);
            if inner.walked() >= BATCH_BYTES {
                inner.split();
            }
        }
        assert_eq!(found, lengths);
    }

    #[test]
    fn a_wrong_length_is_an_error_and_allocates_nothing() {
        for bytes in [vec![0; 19], of_length(30)[..25].to_vec(), vec![0xff; 40], vec![1, 2, 3]] {
            let mut inner = Inner::new(Origin::Payload, Box::new(std::io::Cursor::new(bytes)));
            assert!(inner.event().is_err());
            assert!(inner.buf.capacity() <= 2 * BATCH_BYTES);
        }
    }
}
