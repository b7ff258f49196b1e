//! `numeric`: digits to the base 10,000, as the decimal that the server would write.

use bumpalo::collections::Vec as BumpVec;
use rowcast_core::Bump;

use super::SHORT;
use crate::types::scalar::{Wrong, utf8};
use crate::wire::Wire;

/// A number of up to so many digits, four at a time, takes no more memory than others do.
const FEW: usize = 256;
/// What the server can write as one value's text, at most.
const MOST: usize = 1 << 30;

/// Number of digits, weight of the first (powers of 10,000), sign, digits behind the point (2 each), and the digits (2 each).
pub(super) fn numeric<'a>(bytes: &[u8], arena: &'a Bump) -> Result<&'a str, Wrong> {
    const WRONG: Wrong = "not a numeric";
    let mut wire = Wire::new(bytes);
    let (Some(count), Some(weight), Some(sign), Some(scale)) = (wire.u16(), wire.u16(), wire.u16(), wire.u16()) else {
        return Err(SHORT);
    };
    let negative = match sign {
        0 => false,
        0x4000 => true,
        0xc000 => return Ok("NaN"),
        0xd000 => return Ok("Infinity"),
        0xf000 => return Ok("-Infinity"),
        _ => return Err(WRONG),
    };
    let (digits, []) = wire.take(wire.left()).unwrap_or(&[]).as_chunks::<2>() else { return Err(SHORT) };
    // the server's own limit of the scale
    if digits.len() != usize::from(count) || scale > 0x3fff {
        return Err(SHORT);
    }
    let weight = i32::from(weight.cast_signed());
    // of the place with this weight
    let digit = |place: i32| -> Result<u16, Wrong> {
        let index = usize::try_from(weight - place).ok();
        let digit = index.and_then(|index| digits.get(index)).map_or(0, |digit| u16::from_be_bytes(*digit));
        if digit < 10_000 { Ok(digit) } else { Err(WRONG) }
    };
    let whole = usize::try_from(weight + 1).unwrap_or(0);
    if whole > FEW && arena.allocated_bytes() > MOST {
        return Err("numbers of more digits than the server could write in one value");
    }
    let mut out = BumpVec::with_capacity_in(whole * 4 + usize::from(scale) + 6, arena);
    if negative {
        out.push(b'-');
    }
    let start = out.len();
    for place in (0..=weight).rev() {
        let digit = four(digit(place)?);
        let from = if out.len() > start { 0 } else { digit.iter().take_while(|byte| **byte == b'0').count() };
        out.extend_from_slice_copy(digit.get(from..).unwrap_or(&[]));
    }
    if out.len() == start {
        out.push(b'0');
    }
    if scale > 0 {
        out.push(b'.');
        let (mut left, mut place) = (usize::from(scale), -1);
        while left > 0 {
            let digit = four(digit(place)?);
            let taken = digit.get(..left.min(4)).unwrap_or(&digit);
            out.extend_from_slice_copy(taken);
            (left, place) = (left - taken.len(), place - 1);
        }
    }
    utf8(out.into_bump_slice())
}

/// Four decimal digits.
fn four(digit: u16) -> [u8; 4] {
    let decimal = |unit: u16| b'0' + (digit / unit % 10) as u8;
    [decimal(1000), decimal(100), decimal(10), decimal(1)]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn bytes(weight: i16, sign: u16, scale: u16, digits: &[u16]) -> Vec<u8> {
        let head = [digits.len() as u16, weight.cast_unsigned(), sign, scale];
        head.iter().chain(digits).flat_map(|part| part.to_be_bytes()).collect()
    }

    #[test]
    fn digits_are_those_that_the_server_writes() {
        let arena = Bump::new();
        for (expected, bytes) in [
            ("0", bytes(0, 0, 0, &[])),
            ("0.00", bytes(0, 0, 2, &[])),
            ("1.10", bytes(0, 0, 2, &[1, 1000])),
            ("-12345.6789", bytes(1, 0x4000, 4, &[1, 2345, 6789])),
            ("0.000012", bytes(-2, 0, 6, &[1200])),
            ("0.0000000001", bytes(-3, 0, 10, &[100])),
            ("10000", bytes(1, 0, 0, &[1])),
            ("12345000", bytes(1, 0, 0, &[1234, 5000])),
            ("100000000.5", bytes(2, 0, 1, &[1, 0, 0, 5000])),
            ("NaN", bytes(0, 0xc000, 0, &[])),
            ("Infinity", bytes(0, 0xd000, 32, &[])),
            ("-Infinity", bytes(0, 0xf000, 32, &[])),
        ] {
            assert_eq!(numeric(&bytes, &arena), Ok(expected));
        }
        for bad in [bytes(0, 1, 0, &[]), bytes(0, 0, 0x4000, &[]), bytes(0, 0, 0, &[10_000]), vec![0; 7], vec![0; 9]] {
            assert!(numeric(&bad, &arena).is_err());
        }
    }
}
