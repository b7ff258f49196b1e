//! Events of 16 MiB and more, which come in several packets.
//!
//! One is put together in memory, since its rows lie in it, and a row may be as large. A compressed transaction is put together in a
//! file, whatever its size: only what is decompressed of it at a time is in memory.

use std::io::BufReader;

use bytes::{Buf, BytesMut};
use rowcast_core::SourceError;

use super::inner::{Inner, Origin};
use super::spill::Spill;
use super::{Failure, MysqlStream};
use crate::binlog::event::{self, kind};
use crate::binlog::payload::{MOST_HEAD, PayloadHead};
use crate::connection::packet::{Header, MAX_LOGICAL, MAX_PAYLOAD};

/// The packet's first byte and what of the event is kept in memory in any case.
const FRONT: usize = 1 + event::HEADER + MOST_HEAD;
/// Reads of a payload's file.
const READ: usize = 256 << 10;

/// An event of several packets in the making.
#[derive(Debug, Default)]
pub(super) struct Large {
    event: BytesMut,
    /// Bytes of the current packet that are still to come.
    missing: usize,
    last: bool,
    /// Where a compressed transaction is put together, and its checksum so far.
    file: Option<(Spill, Sum)>,
}

/// A checksum of everything but the last four bytes, which say what it must be.
#[derive(Debug, Default)]
struct Sum {
    hasher: crc32fast::Hasher,
    held: Vec<u8>,
}

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
        let front = self.held.len().saturating_sub(event::CHECKSUM);
        self.hasher.update(self.held.get(..front).unwrap_or_default());
        self.held.drain(..front);
    }

    fn holds(self) -> bool {
        let sum = self.hasher.finalize();
        self.held == sum.to_le_bytes()
    }
}

impl Large {
    fn len(&self) -> usize {
        self.file.as_ref().map_or(self.event.len(), |(spill, _)| usize::try_from(spill.len()).unwrap_or(usize::MAX))
    }
}

impl MysqlStream {
    /// Moves bytes of a large event from the buffer; true when it is whole.
    pub(super) fn collect(&mut self) -> Result<bool, Failure> {
        let Some(large) = &mut self.large else { return Ok(false) };
        let place = &self.place;
        let no_room = |error: super::spill::NoRoom| error.explain(place, "a compressed transaction of many packets");
        loop {
            if large.missing > 0 {
                let part = self.wire.buf.split_to(large.missing.min(self.wire.buf.len()));
                if part.is_empty() {
                    return Ok(false);
                }
                large.missing -= part.len();
                if let Some((spill, sum)) = &mut large.file {
                    sum.add(&part);
                    spill.push(&[&part]).map_err(no_room)?;
                    continue;
                }
                large.event.extend_from_slice(&part);
                if large.event.len() >= FRONT && large.event.get(5) == Some(&kind::TRANSACTION_PAYLOAD) {
                    let (mut spill, mut sum) = (Spill::new(self.room.clone()), Sum::default());
                    sum.add(large.event.get(1..).unwrap_or_default());
                    spill.push(&[&large.event]).map_err(no_room)?;
                    large.event.truncate(FRONT);
                    large.file = Some((spill, sum));
                }
            } else if large.last {
                let large = self.large.take().unwrap_or_default();
                match large.file {
                    Some((spill, sum)) => self.payload_in_file(&large.event, spill, sum)?,
                    None => self.whole = Some(large.event.freeze()),
                }
                return Ok(true);
            } else {
                let Some(header) = Header::read(&self.wire.buf) else { return Ok(false) };
                self.wire.check_sequence(header).map_err(|error| self.place.transient(error))?;
                self.wire.buf.advance(crate::connection::packet::HEADER);
                if large.len() + header.length > MAX_LOGICAL {
                    return Err(self.place.definite("a binlog event of more than 1 GiB").into());
                }
                large.missing = header.length;
                large.last = header.length < MAX_PAYLOAD;
            }
        }
    }

    /// A compressed transaction is whole in a file; `front` are its first bytes.
    fn payload_in_file(&mut self, front: &[u8], spill: Spill, sum: Sum) -> Result<(), Failure> {
        self.payload(front)?;
        let bytes = usize::try_from(spill.len()).unwrap_or(usize::MAX);
        let (head, start) =
            self.assembler.payload_event(front.get(1..).unwrap_or_default(), bytes - 1, || sum.holds())?;
        let mut reader = spill.read();
        reader.skip_to(1 + start as u64);
        let read = head.read(BufReader::with_capacity(READ, reader));
        let read = read.map_err(|error| self.assembler.payload_unreadable(&error.to_string()))?;
        self.inner.push(Inner::new(Origin::Payload, read));
        Ok(())
    }
}

impl super::assembler::Assembler {
    /// A compressed transaction of so many bytes whose first ones are `front`: its fields, and where its payload begins.
    fn payload_event(
        &mut self,
        front: &[u8],
        bytes: usize,
        sum_holds: impl FnOnce() -> bool,
    ) -> Result<(PayloadHead, usize), SourceError> {
        let mut head = front.get(..event::HEADER).unwrap_or_default().to_vec();
        let announced =
            head.get(9..13).and_then(|length| length.first_chunk()).map(|length| u32::from_le_bytes(*length));
        let short = |length: Option<u32>| length.is_none_or(|length| length as usize != bytes);
        if short(announced) {
            return Err(self.payload_unreadable("its length isn't the event's"));
        }
        let length = head.len();
        event::set_head(&mut head, kind::TRANSACTION_PAYLOAD);
        let header = event::Header::parse(&head);
        let header = header.map_err(|_| self.payload_unreadable(&format!("a header of {length} bytes")))?;
        let sums = self.has_checksums();
        if sums && !sum_holds() {
            return Err(self.mismatch(&header));
        }
        let body = bytes.saturating_sub(event::HEADER + if sums { event::CHECKSUM } else { 0 });
        let fields = front.get(event::HEADER..).unwrap_or_default();
        let payload = PayloadHead::parse(fields).map_err(|what| self.payload_unreadable(&what))?;
        self.payload_begins(&payload, body, &header)?;
        Ok((payload, event::HEADER + payload.start))
    }
}
