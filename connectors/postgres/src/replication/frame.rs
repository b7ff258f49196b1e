//! Frames of the protocol in a buffer: a tag, a length that counts itself, a body.
//!
//! Nothing is copied: [`peek`] says where the first frame of some bytes ends, or how long it will be.

use crate::wire::Wire;

/// Bytes of tag and length.
pub(crate) const HEADER: usize = 5;

/// The server builds a message in a StringInfo, which ends at 1 GiB (`MaxAllocSize`); some slack for headers.
pub(crate) const MAX_FRAME: usize = (1 << 30) + (1 << 20);

/// A frame that can't be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("the server sent a message 0x{tag:02x} of {length} bytes, which is beyond PostgreSQL's limit of 1 GiB")]
    TooLong { tag: u8, length: u32 },
    #[error("the server sent a message 0x{tag:02x} of length {length}: this is not PostgreSQL's protocol")]
    TooShort { tag: u8, length: u32 },
}

/// What lies at the beginning of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peek {
    /// A whole frame of `total` bytes, header included.
    Whole { tag: u8, total: usize },
    /// Part of a frame of `total` bytes.
    Part { total: usize },
    /// Less than a header.
    Nothing,
}

/// Looks at the first frame.
pub(crate) fn peek(bytes: &[u8]) -> Result<Peek, FrameError> {
    let mut wire = Wire::new(bytes);
    let (Some(tag), Some(length)) = (wire.u8(), wire.u32()) else { return Ok(Peek::Nothing) };
    if length < 4 {
        return Err(FrameError::TooShort { tag, length });
    }
    let total = length as usize + 1;
    if total > MAX_FRAME {
        return Err(FrameError::TooLong { tag, length });
    }
    Ok(if bytes.len() >= total { Peek::Whole { tag, total } } else { Peek::Part { total } })
}

/// What a CopyData frame holds while replicating.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Replication<'a> {
    /// WAL data of the plug-in: where it begins, and the message, with its offset in the frame's body.
    Data { start: u64, payload: &'a [u8], offset: usize },
    /// Where the server is; whether it wants an answer at once.
    Keepalive { wal_end: u64, reply: bool },
}

/// Reads the body of a CopyData frame; none if it is damaged or of an unknown kind.
pub(crate) fn replication(body: &[u8]) -> Option<Replication<'_>> {
    let mut wire = Wire::new(body);
    match wire.u8()? {
        b'w' => {
            let start = wire.u64()?;
            let _wal_end = wire.u64()?;
            let _sent_at = wire.u64()?;
            let offset = wire.at();
            Some(Replication::Data { start, payload: wire.take(wire.left())?, offset })
        }
        b'k' => {
            let wal_end = wire.u64()?;
            let _sent_at = wire.u64()?;
            Some(Replication::Keepalive { wal_end, reply: wire.u8()? != 0 })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_known_by_its_header() {
        assert_eq!(peek(b"d\0\0\0"), Ok(Peek::Nothing));
        assert_eq!(peek(b"d\0\0\0\x06a"), Ok(Peek::Part { total: 7 }));
        assert_eq!(peek(b"d\0\0\0\x06abX"), Ok(Peek::Whole { tag: b'd', total: 7 }));
        assert_eq!(peek(b"d\0\0\0\x03"), Err(FrameError::TooShort { tag: b'd', length: 3 }));
        assert!(matches!(peek(b"d\x7f\xff\xff\xff"), Err(FrameError::TooLong { .. })));
        assert!(matches!(peek(b"HTTP/1.1 400"), Err(FrameError::TooLong { .. })));
    }

    #[test]
    fn copy_data_is_wal_or_keepalive() {
        let keepalive = [&b"k"[..], &9_u64.to_be_bytes(), &[0; 8], &[1]].concat();
        assert_eq!(replication(&keepalive), Some(Replication::Keepalive { wal_end: 9, reply: true }));
        let data = [&b"w"[..], &9_u64.to_be_bytes(), &[0; 16], b"xy"].concat();
        assert_eq!(replication(&data), Some(Replication::Data { start: 9, payload: b"xy", offset: 25 }));
        for body in [&b""[..], b"w", b"k\0", b"x\0\0\0"] {
            assert_eq!(replication(body), None);
        }
    }
}
