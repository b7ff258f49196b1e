//! TRANSACTION_PAYLOAD: the events of a whole transaction in one, compressed (`binlog_transaction_compression=ON`).
//!
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/classmysql_1_1binlog_1_1event_1_1Transaction__payload__event.html>: a list of
//! fields (type, length, value; all length-encoded integers) up to an end mark, then the payload.
//!
//! The payload is decompressed as it is read. What it announces is compared with what comes out, and allocates nothing; zstd's window
//! is at most 128 MiB, its own bound for streams. A payload that is damaged, cut, or of another size is an error.

use std::io::{self, BufRead, Read};

use crate::cursor::{Cursor, Short};

/// Bytes in which the fields have room: five known ones of at most 27 bytes each, and as much again.
pub(crate) const MOST_HEAD: usize = 256;
/// zstd's window: 2 to the power of this (ZSTD_WINDOWLOG_LIMIT_DEFAULT).
const WINDOW: u32 = 27;
const ZSTD: u64 = 0;
const NONE: u64 = 255;

/// The fields in front of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PayloadHead {
    /// Where the payload begins in the event's body.
    pub(crate) start: usize,
    /// Its length.
    pub(crate) length: u64,
    compressed: bool,
    /// Bytes of the events in it.
    size: Option<u64>,
}

impl PayloadHead {
    /// Reads the fields from the front of an event's body.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, String> {
        let mut at = Cursor::new(body);
        let (mut length, mut kind, mut size) = (None, None, None);
        let mut field = || -> Result<bool, Short> {
            let number = at.lenenc()?;
            if number == 0 {
                return Ok(false);
            }
            let bytes = usize::try_from(at.lenenc()?).map_err(|_| Short)?;
            let mut value = Cursor::new(at.take(bytes)?);
            match number {
                1 => length = Some(value.lenenc()?),
                2 => kind = Some(value.lenenc()?),
                3 => size = Some(value.lenenc()?),
                // one of a newer server, which an older reader may skip
                _ => {}
            }
            Ok(true)
        };
        loop {
            match field() {
                Ok(true) => {}
                Ok(false) => break,
                Err(Short) => return Err("its fields end too early".to_owned()),
            }
        }
        let compressed = match kind {
            None | Some(ZSTD) => true,
            Some(NONE) => false,
            Some(other) => return Err(format!("compression type {other}, which is unknown")),
        };
        let length = length.ok_or("it doesn't say how long it is")?;
        Ok(Self { start: body.len() - at.len(), length, compressed, size })
    }

    /// Reads the events.
    ///
    /// # Errors
    /// If zstd has no memory for its own state.
    pub(crate) fn read<R: BufRead + Send + Sync + 'static>(
        &self,
        payload: R,
    ) -> io::Result<Box<dyn Read + Send + Sync>> {
        let payload = payload.take(self.length);
        Ok(if self.compressed {
            let mut decoder = zstd::Decoder::with_buffer(payload)?;
            decoder.window_log_max(WINDOW)?;
            Box::new(Measured { from: decoder, read: 0, size: self.size })
        } else {
            Box::new(Measured { from: payload, read: 0, size: self.size.or(Some(self.length)) })
        })
    }
}

/// Holds what comes out against what was announced.
struct Measured<R> {
    from: R,
    read: u64,
    size: Option<u64>,
}

impl<R: Read> Read for Measured<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(out)?;
        self.read += count as u64;
        let wrong = match self.size {
            Some(size) if count == 0 && !out.is_empty() => self.read != size,
            Some(size) => self.read > size,
            None => false,
        };
        if wrong {
            let size = self.size.unwrap_or_default();
            let text = format!("{size} bytes were announced, and {} came out", self.read);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    pub(crate) fn body(compression: u8, size: u64, payload: &[u8]) -> Vec<u8> {
        let mut body = vec![2, 1, compression, 1, 9, 0xfe];
        if compression == 255 {
            body = vec![2, 3, 0xfc, 255, 0, 1, 9, 0xfe];
        }
        body.extend_from_slice(&(payload.len() as u64).to_le_bytes());
        body.extend_from_slice(&[3, 9, 0xfe]);
        body.extend_from_slice(&size.to_le_bytes());
        body.push(0);
        body.extend_from_slice(payload);
        body
    }

    fn unpacked(body: &[u8]) -> Result<Vec<u8>, String> {
        let head = PayloadHead::parse(body)?;
        let payload = body.get(head.start..).unwrap_or_default().to_vec();
        let mut out = Vec::new();
        let mut reader = head.read(io::Cursor::new(payload)).map_err(|error| error.to_string())?;
        reader.read_to_end(&mut out).map_err(|error| error.to_string())?;
        Ok(out)
    }

    fn sample() -> Vec<u8> {
        (0..100_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect()
    }

    #[test]
    fn both_kinds_of_payload_are_read() {
        let plain = sample();
        let packed = zstd::encode_all(&plain[..], 3).unwrap();
        assert!(packed.len() < plain.len() / 2);
        assert!(unpacked(&body(0, plain.len() as u64, &packed)) == Ok(plain.clone()));
        assert!(unpacked(&body(255, plain.len() as u64, &plain)) == Ok(plain));
    }

    #[test]
    fn a_payload_that_is_damaged_or_of_another_size_is_an_error_and_never_less() {
        let plain = sample();
        let packed = zstd::encode_all(&plain[..], 3).unwrap();
        let size = plain.len() as u64;
        for wrong in [
            body(0, size - 1, &packed),
            body(0, size + 1, &packed),
            body(0, u64::MAX, &packed),
            body(0, size, &packed[..packed.len() - 1]),
            body(0, size, &[]),
            body(0, size, &plain),
            body(7, size, &packed),
            body(255, size + 1, &plain),
            vec![],
            vec![1, 2, 3],
            vec![9, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert!(unpacked(&wrong).is_err());
        }
        // a cut event: less than was announced
        let mut cut = body(0, size, &packed);
        cut.truncate(cut.len() - 100);
        assert!(unpacked(&cut).is_err());
        let mut random = StdRng::seed_from_u64(3);
        let whole = body(0, size, &packed);
        for _ in 0..300 {
            let mut flipped = whole.clone();
            let place = random.random_range(0..flipped.len());
            flipped[place] ^= 1 << random.random_range(0..8);
            // without a checksum of its own a frame may hold other bytes, never fewer
            if let Ok(out) = unpacked(&flipped) {
                assert!(out.len() == plain.len() || place < 30, "{place}: {} bytes", out.len());
            }
        }
    }

    #[test]
    fn a_window_beyond_the_bound_is_refused() {
        // magic, a descriptor without size, and a window of 2^38 bytes
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 28 << 3, 1, 0, 0];
        assert!(unpacked(&body(0, 10, &frame)).is_err());
    }
}
