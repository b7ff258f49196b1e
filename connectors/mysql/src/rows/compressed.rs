//! MariaDB's COMPRESSED columns: a byte that says how, the length (big-endian), then zlib's or raw deflate's data.
//!
//! The length is believed only as far as deflate can shrink: [`MOST`] times the data, so that a few damaged bytes can't ask for
//! gigabytes; and the data must give exactly this length.

use bumpalo::Bump;
use flate2::{Decompress, FlushDecompress, Status};

/// Deflate can't shrink by more: 258 bytes to two bits.
const MOST: usize = 1032;

/// How the data is packed, in the upper half of the first byte.
const STORED: u8 = 0;
const ZLIB: u8 = 8;
/// Without zlib's header.
const RAW: u8 = 8;

/// The data as it was; none if the bytes aren't such data.
pub(super) fn plain<'a>(bytes: &'a [u8], arena: &'a Bump) -> Option<&'a [u8]> {
    // An empty value has no head.
    let Some((head, rest)) = bytes.split_first() else { return Some(&[]) };
    match head >> 4 {
        STORED => return (*head == 0).then_some(rest),
        ZLIB => {}
        _ => return None,
    }
    let (length, packed) = rest.split_at_checked(usize::from(head & 7))?;
    if length.len() > 4 {
        return None;
    }
    let length = length.iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
    if length > packed.len().saturating_mul(MOST) {
        return None;
    }
    let out = arena.alloc_slice_fill_copy(length, 0_u8);
    let mut inflate = Decompress::new(head & RAW == 0);
    let status = inflate.decompress(packed, out, FlushDecompress::Finish).ok()?;
    (status == Status::StreamEnd && inflate.total_out() == length as u64).then_some(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn values_are_as_mariadb_packs_them() {
        let arena = Bump::new();
        let abc = "abc".repeat(300);
        // As MariaDB 10.11 writes them, without and with column_compression_zlib_wrap.
        let raw = [0x8a, 0x03, 0x84, 0x4b, 0x4c, 0x4a, 0x4e, 0x1c, 0x45, 0xa3, 0x68, 0x14, 0x0d, 0x1c, 0x02, 0x00];
        let wrapped = [
            0x82, 0x03, 0x84, 0x78, 0x9c, 0x4b, 0x4c, 0x4a, 0x4e, 0x1c, 0x45, 0xa3, 0x68, 0x14, 0x0d, 0x1c, 0x02, 0x00,
            0x70, 0x02, 0x58, 0x98,
        ];
        assert_eq!(plain(&raw, &arena), Some(abc.as_bytes()));
        assert_eq!(plain(&wrapped, &arena), Some(abc.as_bytes()));
        assert_eq!(plain(b"\0short", &arena), Some(&b"short"[..]));
        assert_eq!(plain(b"", &arena), Some(&b""[..]));
    }

    #[test]
    fn damage_is_refused_and_bounded() {
        let arena = Bump::new();
        let raw = [0x8a, 0x03, 0x84, 0x4b, 0x4c, 0x4a, 0x4e, 0x1c, 0x45, 0xa3, 0x68, 0x14, 0x0d, 0x1c, 0x02, 0x00];
        for place in 0..3 {
            let mut damaged = raw;
            *damaged.get_mut(place).unwrap() ^= 0x10;
            assert_eq!(plain(&damaged, &arena), None, "{place}");
        }
        assert_eq!(plain(raw.get(..12).unwrap(), &arena), None);
        // 4 GiB of nothing
        assert_eq!(plain(&[0x8c, 0xff, 0xff, 0xff, 0xff, 0x4b, 0x4c], &arena), None);
        assert_eq!(plain(&[0x8f, 1], &arena), None);
        assert_eq!(plain(&[1, 1], &arena), None);
        assert!(arena.allocated_bytes() < 100_000);
    }
}
