//! A cursor over bytes from the wire: every read is checked, nothing is copied, nothing panics.
//!
//! Integers are little-endian unless the name says otherwise. A read past the end is [`Short`], which callers turn
//! into an error that names what they were reading.

/// The bytes ended too early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Short;

impl From<Short> for String {
    fn from(_: Short) -> String {
        "the bytes end too early".to_owned()
    }
}

/// What is still unread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// What is still unread.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[inline]
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Short> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(Short)?;
        self.0 = tail;
        Ok(head)
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Short> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(Short)?;
        self.0 = tail;
        Ok(*head)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, Short> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, Short> {
        self.array().map(u16::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u24(&mut self) -> Result<u32, Short> {
        let [a, b, c] = self.array()?;
        Ok(u32::from_le_bytes([a, b, c, 0]))
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, Short> {
        self.array().map(u32::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Result<u64, Short> {
        self.array().map(u64::from_le_bytes)
    }

    /// An unsigned integer of `width` bytes (at most 8).
    #[inline]
    pub(crate) fn uint(&mut self, width: usize) -> Result<u64, Short> {
        let mut raw = [0_u8; 8];
        raw.get_mut(..width).ok_or(Short)?.copy_from_slice(self.take(width)?);
        Ok(u64::from_le_bytes(raw))
    }

    /// An unsigned big-endian integer of `width` bytes (at most 8).
    #[inline]
    pub(crate) fn uint_be(&mut self, width: usize) -> Result<u64, Short> {
        if width > 8 {
            return Err(Short);
        }
        Ok(self.take(width)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// A length-encoded integer; NULL (0xfb) and the reserved 0xff are [`Short`].
    pub(crate) fn lenenc(&mut self) -> Result<u64, Short> {
        match self.u8()? {
            0xfc => self.u16().map(u64::from),
            0xfd => self.u24().map(u64::from),
            0xfe => self.u64(),
            0xfb | 0xff => Err(Short),
            small => Ok(u64::from(small)),
        }
    }

    /// Bytes with a length-encoded length in front.
    pub(crate) fn lenenc_bytes(&mut self) -> Result<&'a [u8], Short> {
        let length = usize::try_from(self.lenenc()?).map_err(|_| Short)?;
        self.take(length)
    }

    /// Bytes up to a NUL, which is taken too.
    pub(crate) fn until_nul(&mut self) -> Result<&'a [u8], Short> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or(Short)?;
        let text = self.take(end)?;
        self.u8()?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_are_checked_and_leave_the_cursor_where_it_was() {
        let mut at = Cursor::new(&[1, 2, 3]);
        assert_eq!(at.u32(), Err(Short));
        assert_eq!(at.u24(), Ok(0x03_02_01));
        assert_eq!(at.u8(), Err(Short));
        assert_eq!(Cursor::new(&[1, 2]).uint_be(2), Ok(0x0102));
        assert_eq!(Cursor::new(&[0xfc, 1]).lenenc(), Err(Short));
        assert_eq!(Cursor::new(&[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).lenenc_bytes(), Err(Short));
        assert_eq!(Cursor::new(b"ab\0c").until_nul().unwrap(), b"ab");
    }
}
