//! A bounds-checked walk over bytes from the network: big-endian integers and zero-terminated strings.
//!
//! Every step gives none at the end of the bytes; nothing is allocated by a length that was read.

/// The walk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wire<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Wire<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0 }
    }

    /// Offset of the next byte.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Bytes left.
    pub(crate) fn left(&self) -> usize {
        self.data.len().saturating_sub(self.at)
    }

    pub(crate) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.data.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let found = *self.data.get(self.at..)?.first_chunk()?;
        self.at += N;
        Some(found)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_be_bytes)
    }

    /// Bytes up to a zero byte, which is skipped.
    pub(crate) fn until_zero(&mut self) -> Option<&'a [u8]> {
        let length = self.data.get(self.at..)?.iter().position(|byte| *byte == 0)?;
        let found = self.take(length)?;
        self.at += 1;
        Some(found)
    }

    /// A zero-terminated string in UTF-8.
    pub(crate) fn string(&mut self) -> Option<&'a str> {
        self.until_zero().and_then(|bytes| std::str::from_utf8(bytes).ok())
    }
}
