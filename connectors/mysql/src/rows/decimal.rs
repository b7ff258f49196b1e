//! Packed decimals: groups of nine digits in four bytes, big-endian, the sign in the first bit.
//!
//! `strings/decimal.cc`, `bin2decimal`. The text keeps the declared scale; leading zeros go, one before the point
//! stays; a negative zero, which arithmetic can leave behind, is zero.

use bumpalo::Bump;
use bumpalo::collections::String as Text;

/// Bytes of a partial group by its digits.
fn partial(digits: u8) -> u8 {
    digits.div_ceil(2)
}

/// Bytes of a packed decimal; none for a precision and scale that can't be.
pub(crate) fn size(precision: u8, scale: u8) -> Option<u8> {
    let whole = precision.checked_sub(scale)?;
    if precision > 65 || scale > 38 || precision == 0 {
        return None;
    }
    Some(whole / 9 * 4 + partial(whole % 9) + scale / 9 * 4 + partial(scale % 9))
}

/// The text of a packed decimal of `size(precision, scale)` bytes; none if the bytes are no decimal.
pub(crate) fn text<'a>(bytes: &[u8], precision: u8, scale: u8, arena: &'a Bump) -> Option<&'a str> {
    if size(precision, scale)? as usize != bytes.len() {
        return None;
    }
    let whole = precision - scale;
    let negative = bytes.first()? & 0x80 == 0;
    let mask = if negative { 0xff } else { 0 };
    // Groups as (digits, bytes): the partial one is the outermost on both sides.
    let left = [(whole % 9, partial(whole % 9))].into_iter().chain((0..whole / 9).map(|_| (9, 4)));
    let right = (0..scale / 9).map(|_| (9, 4)).chain([(scale % 9, partial(scale % 9))]);
    let mut digits = [b'0'; 72];
    let (mut filled, mut rest, mut first) = (0_usize, bytes, true);
    for (count, width) in left.chain(right) {
        let (group, tail) = rest.split_at_checked(usize::from(width))?;
        rest = tail;
        let mut value = 0_u32;
        for byte in group {
            let mut byte = byte ^ mask;
            if first {
                byte ^= 0x80;
                first = false;
            }
            value = value << 8 | u32::from(byte);
        }
        for place in digits.get_mut(filled..filled + usize::from(count))?.iter_mut().rev() {
            *place = b'0' + (value % 10) as u8;
            value /= 10;
        }
        if value != 0 {
            return None;
        }
        filled += usize::from(count);
    }
    let digits = std::str::from_utf8(digits.get(..filled)?).ok()?;
    let (whole, fraction) = digits.split_at_checked(usize::from(whole))?;
    let whole = whole.trim_start_matches('0');
    let zero = whole.is_empty() && fraction.bytes().all(|digit| digit == b'0');
    let mut out = Text::with_capacity_in(filled + 3, arena);
    if negative && !zero {
        out.push('-');
    }
    out.push_str(if whole.is_empty() { "0" } else { whole });
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
    Some(out.into_bump_str())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_manuals_example_and_its_negative() {
        let arena = Bump::new();
        // https://dev.mysql.com/doc/dev/mysql-server/latest/ decimal2bin: 1234567890.1234 as DECIMAL(14,4)
        let bytes = [0x81, 0x0d, 0xfb, 0x38, 0xd2, 0x04, 0xd2];
        assert_eq!(text(&bytes, 14, 4, &arena), Some("1234567890.1234"));
        let negative: Vec<u8> = bytes.iter().map(|byte| !byte).collect();
        assert_eq!(text(&negative, 14, 4, &arena), Some("-1234567890.1234"));
    }

    #[test]
    fn scale_is_kept_and_zero_has_no_sign() {
        let arena = Bump::new();
        assert_eq!(text(&[0x80, 0, 0], 5, 2, &arena), Some("0.00"));
        assert_eq!(text(&[0x7f, 0xff, 0xff], 5, 2, &arena), Some("0.00"));
        assert_eq!(text(&[0x80, 0x05], 3, 3, &arena), Some("0.005"));
        assert_eq!(text(&[0x80, 0x01, 0x32], 5, 2, &arena), Some("1.50"));
        assert_eq!(text(&[0x80], 2, 0, &arena), Some("0"));
    }

    #[test]
    fn bytes_that_are_no_decimal_are_refused() {
        let arena = Bump::new();
        assert_eq!(text(&[0xff, 0xff, 0xff], 5, 2, &arena), None);
        assert_eq!(text(&[0x80], 5, 2, &arena), None);
        assert_eq!(text(&[], 0, 0, &arena), None);
        assert_eq!(size(5, 9), None);
    }
}
