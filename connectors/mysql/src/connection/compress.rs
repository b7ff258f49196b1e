//! The compressed protocol: frames around the stream of packets, from the first byte behind the login on.
//!
//! ```text
//! 3 bytes: length of what follows | number | 3 bytes: its length before compression, 0 if it isn't compressed | payload
//! ```
//!
//! A frame holds any part of the stream: pieces of packets, or several. What we send is never compressed: it is small, and
//! the protocol leaves that to the sender.
//!
//! Guarantees: one frame is opened at a time, when its bytes are wanted, so that a frame adds at most 16 MiB whatever it claims
//! or holds; a frame that doesn't hold exactly what it says is an error; numbers are checked. (Those of the packets inside aren't,
//! for the servers take them from the frames when these are sent.)

use bytes::{Buf, BytesMut};
use flate2::{Decompress, FlushDecompress, Status};

use super::packet::WireError;

/// Length of a frame's header.
const HEADER: usize = 7;
/// The largest payload of a frame.
const MAX_FRAME: usize = 0x00ff_ffff;

/// How a server compresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// Both servers.
    Zlib,
    /// MySQL 8.0.18 and later.
    Zstd,
}

enum Codec {
    Zlib(Decompress),
    Zstd(zstd::bulk::Decompressor<'static>),
}

impl std::fmt::Debug for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Codec::Zlib(_) => "zlib",
            Codec::Zstd(_) => "zstd",
        })
    }
}

/// One connection's frames.
#[derive(Debug)]
pub(crate) struct Frames {
    codec: Codec,
    /// Bytes that have arrived.
    pub(crate) raw: BytesMut,
    /// The number that the next frame must have.
    pub(crate) number: u8,
}

impl Frames {
    /// None without compression.
    pub(crate) fn new(compression: Compression) -> Result<Option<Self>, WireError> {
        let codec = match compression {
            Compression::None => return Ok(None),
            Compression::Zlib => Codec::Zlib(Decompress::new(true)),
            Compression::Zstd => Codec::Zstd(zstd::bulk::Decompressor::new()?),
        };
        Ok(Some(Self { codec, raw: BytesMut::new(), number: 0 }))
    }

    /// Opens the frame in front into `out`; false if it isn't whole yet.
    pub(crate) fn open(&mut self, out: &mut BytesMut) -> Result<bool, WireError> {
        let Some([a, b, c, number, x, y, z]) = self.raw.first_chunk::<HEADER>().copied() else { return Ok(false) };
        let packed = u32::from_le_bytes([a, b, c, 0]) as usize;
        let length = u32::from_le_bytes([x, y, z, 0]) as usize;
        if self.raw.len() < HEADER + packed {
            return Ok(false);
        }
        if number != self.number {
            let what = format!("compressed frame number {number} where {} was due", self.number);
            return Err(WireError::Malformed(what));
        }
        self.number = self.number.wrapping_add(1);
        self.raw.advance(HEADER);
        let payload = self.raw.split_to(packed);
        if length == 0 {
            out.extend_from_slice(&payload);
            return Ok(true);
        }
        let start = out.len();
        out.resize(start + length, 0);
        let opened = out.get_mut(start..).is_some_and(|room| self.codec.open(&payload, room));
        if !opened {
            out.truncate(start);
            return Err(WireError::Malformed("a compressed frame that is damaged".to_owned()));
        }
        Ok(true)
    }

    /// Frames for bytes that we send.
    pub(crate) fn pack(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for part in bytes.chunks(MAX_FRAME) {
            let [a, b, c, _] = (part.len() as u32).to_le_bytes();
            out.extend_from_slice(&[a, b, c, self.number, 0, 0, 0]);
            out.extend_from_slice(part);
            self.number = self.number.wrapping_add(1);
        }
    }
}

impl Codec {
    /// True if `payload` fills `room` exactly.
    fn open(&mut self, payload: &[u8], room: &mut [u8]) -> bool {
        let size = room.len();
        match self {
            Codec::Zlib(zlib) => {
                zlib.reset(true);
                let status = zlib.decompress(payload, room, FlushDecompress::Finish);
                matches!(status, Ok(Status::StreamEnd)) && zlib.total_out() == size as u64
            }
            Codec::Zstd(zstd) => zstd.decompress_to_buffer(payload, room).is_ok_and(|written| written == size),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use std::io::Write;

    use super::*;

    fn pack(compression: Compression, bytes: &[u8]) -> Vec<u8> {
        match compression {
            Compression::None => bytes.to_vec(),
            Compression::Zlib => {
                let mut writer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
                writer.write_all(bytes).unwrap();
                writer.finish().unwrap()
            }
            Compression::Zstd => zstd::bulk::compress(bytes, 3).unwrap(),
        }
    }

    fn frame(number: u8, payload: &[u8], length: usize) -> Vec<u8> {
        let mut out = (payload.len() as u32).to_le_bytes()[..3].to_vec();
        out.push(number);
        out.extend_from_slice(&(length as u32).to_le_bytes()[..3]);
        out.extend_from_slice(payload);
        out
    }

    const BOTH: [Compression; 2] = [Compression::Zlib, Compression::Zstd];

    #[test]
    fn frames_are_opened_one_at_a_time_and_may_be_plain() {
        for compression in BOTH {
            let mut frames = Frames::new(compression).unwrap().unwrap();
            let zeros = vec![0; MAX_FRAME];
            for number in 0..3 {
                frames.raw.extend_from_slice(&frame(number, &pack(compression, &zeros), MAX_FRAME));
            }
            frames.raw.extend_from_slice(&frame(3, b"plain", 0));
            frames.raw.extend_from_slice(&frame(4, b"", 0));
            let mut out = BytesMut::new();
            for _ in 0..3 {
                assert!(frames.open(&mut out).unwrap());
                // one frame, whatever else has arrived
                assert_eq!(out.len(), MAX_FRAME);
                out.clear();
            }
            assert!(frames.open(&mut out).unwrap());
            assert!(frames.open(&mut out).unwrap());
            assert_eq!(&out[..], b"plain");
            assert!(!frames.open(&mut out).unwrap());
        }
        assert!(Frames::new(Compression::None).unwrap().is_none());
    }

    /// A frame comes byte by byte, and any byte of it may be another one.
    #[test]
    fn damaged_frames_are_errors() {
        let text = b"insert into t values (1), (2), (3), (4), (5), (6), (7), (8)";
        for compression in BOTH {
            let good = frame(0, &pack(compression, text), text.len());
            for end in 0..good.len() {
                let mut frames = Frames::new(compression).unwrap().unwrap();
                frames.raw.extend_from_slice(&good[..end]);
                assert!(!frames.open(&mut BytesMut::new()).unwrap());
            }
            for length in [1, text.len() - 1, text.len() + 1, MAX_FRAME] {
                let mut frames = Frames::new(compression).unwrap().unwrap();
                frames.raw.extend_from_slice(&frame(0, &pack(compression, text), length));
                let mut out = BytesMut::from(&b"before"[..]);
                assert!(frames.open(&mut out).is_err());
                assert_eq!(&out[..], b"before");
            }
            let mut frames = Frames::new(compression).unwrap().unwrap();
            frames.raw.extend_from_slice(&frame(1, b"x", 0));
            assert!(frames.open(&mut BytesMut::new()).is_err(), "its number");
            for at in 0..good.len() {
                for bit in 0..8 {
                    let mut bad = good.clone();
                    bad[at] ^= 1 << bit;
                    let mut frames = Frames::new(compression).unwrap().unwrap();
                    frames.raw.extend_from_slice(&bad);
                    let mut out = BytesMut::new();
                    if frames.open(&mut out).is_err() {
                        assert!(out.is_empty());
                    }
                }
            }
        }
    }

    #[test]
    fn what_we_send_is_cut_at_the_largest_frame() {
        let mut frames = Frames::new(Compression::Zlib).unwrap().unwrap();
        let mut out = Vec::new();
        frames.pack(&vec![1; MAX_FRAME + 5], &mut out);
        assert_eq!((&out[..7], out.len()), (&[0xff, 0xff, 0xff, 0, 0, 0, 0][..], MAX_FRAME + 5 + 2 * HEADER));
        assert_eq!(out[HEADER + MAX_FRAME..][..7], [5, 0, 0, 1, 0, 0, 0]);
    }
}
