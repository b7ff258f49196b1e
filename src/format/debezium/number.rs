//! Numbers as Java writes them: floats by `Double.toString` and `Float.toString`, decimals as the bytes of their unscaled number.
//!
//! Nothing is allocated for a decimal of up to 38 digits. Fails never: a text that is no number is no decimal ([`unscaled`] gives none).

use crate::format::json::base64;

/// Writes a float of 8 bytes. NaN and infinities are words in quotes, as in JSON of Kafka Connect.
pub(super) fn double(out: &mut Vec<u8>, number: f64) {
    if !number.is_finite() {
        return not_finite(out, number.is_nan(), number > 0.0);
    }
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(number);
    if let Some(plain) = plain(text, number.abs()) {
        return out.extend_from_slice(plain);
    }
    let mut digits = Digits::read(text.as_bytes());
    if digits.count == 1 && number.abs() < 1e-300 {
        digits = digits.two(|text| text.parse::<f64>().is_ok_and(|it| it == number), number);
    }
    digits.write(out);
}

/// The same of 4 bytes.
pub(super) fn float(out: &mut Vec<u8>, number: f32) {
    if !number.is_finite() {
        return not_finite(out, number.is_nan(), number > 0.0);
    }
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(number);
    if let Some(plain) = plain(text, f64::from(number.abs())) {
        return out.extend_from_slice(plain);
    }
    let mut digits = Digits::read(text.as_bytes());
    if digits.count == 1 && number.abs() < 1e-37 {
        digits = digits.two(|text| text.parse::<f32>().is_ok_and(|it| it == number), f64::from(number));
    }
    digits.write(out);
}

/// The text of a number that Java writes without an exponent, if it is in this form already.
fn plain(text: &str, size: f64) -> Option<&[u8]> {
    let bytes = text.as_bytes();
    let (_, fraction) = bytes.split_at(bytes.iter().position(|byte| *byte == b'.')?);
    let ends = fraction.len() > 1 && fraction.iter().skip(1).all(u8::is_ascii_digit);
    (ends && (1e-3..1e7).contains(&size)).then_some(bytes)
}

fn not_finite(out: &mut Vec<u8>, nan: bool, positive: bool) {
    out.extend_from_slice(match (nan, positive) {
        (true, _) => b"\"NaN\"",
        (false, true) => b"\"Infinity\"",
        (false, false) => b"\"-Infinity\"",
    });
}

/// A number as sign, digits without zeros at either end, and the place of the point: `0.DIGITS * 10^point`.
struct Digits {
    negative: bool,
    digits: [u8; 24],
    count: usize,
    point: i32,
}

impl Digits {
    /// Reads `-1.25e-7`.
    fn read(text: &[u8]) -> Self {
        let mut it = Self { negative: false, digits: [b'0'; 24], count: 0, point: 0 };
        let (mut behind, mut exponent, mut exponent_negative, mut in_exponent) = (0, 0_i32, false, false);
        let mut seen_point = false;
        for byte in text {
            match byte {
                b'-' if in_exponent => exponent_negative = true,
                b'-' => it.negative = true,
                b'.' => seen_point = true,
                b'e' | b'E' => in_exponent = true,
                b'0'..=b'9' if in_exponent => exponent = exponent * 10 + i32::from(byte - b'0'),
                b'0'..=b'9' => {
                    // zeros in front only move the point
                    if it.count > 0 || *byte != b'0' {
                        if let Some(place) = it.digits.get_mut(it.count) {
                            *place = *byte;
                            it.count += 1;
                        }
                        it.point += i32::from(!seen_point);
                    } else if seen_point {
                        behind += 1;
                    }
                }
                _ => {}
            }
        }
        it.point += if exponent_negative { -exponent } else { exponent } - behind;
        while it.count > 0 && it.digits.get(it.count - 1) == Some(&b'0') {
            it.count -= 1;
        }
        it
    }

    /// Java writes two digits at least, and of those that read back as the number the nearest: `4.9E-324`, not `5E-324`.
    fn two(self, same: impl Fn(&str) -> bool, number: f64) -> Self {
        let text = format!("{number:.1e}");
        if same(&text) { Self::read(text.as_bytes()) } else { self }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let digits = self.digits.get(..self.count).unwrap_or(&[]);
        if self.negative {
            out.push(b'-');
        }
        let zeros = |out: &mut Vec<u8>, count: i32| out.extend((0..count).map(|_| b'0'));
        match self.point {
            _ if digits.is_empty() => out.extend_from_slice(b"0.0"),
            // 0.001 to 9999999.9...
            point @ -2..=0 => {
                out.extend_from_slice(b"0.");
                zeros(out, -point);
                out.extend_from_slice(digits);
            }
            point @ 1..=7 => {
                let whole = (point as usize).min(digits.len());
                let (before, behind) = digits.split_at(whole);
                out.extend_from_slice(before);
                zeros(out, point - whole as i32);
                out.push(b'.');
                out.extend_from_slice(if behind.is_empty() { b"0" } else { behind });
            }
            point => {
                let (first, rest) = digits.split_at(1.min(digits.len()));
                out.extend_from_slice(first);
                out.push(b'.');
                out.extend_from_slice(if rest.is_empty() { b"0" } else { rest });
                out.push(b'E');
                out.extend_from_slice(itoa::Buffer::new().format(point - 1).as_bytes());
            }
        }
    }
}

/// The unscaled number of a decimal's text at a scale, as big-endian two's complement without superfluous bytes, given to `with`; false if
/// the text is no decimal (`NaN`). Digits beyond the scale are dropped: no server writes any.
pub(super) fn unscaled(text: &str, scale: i32, with: impl FnOnce(&[u8])) -> bool {
    let bytes = text.as_bytes();
    let (negative, digits) = match bytes.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, bytes),
    };
    let point = digits.iter().position(|byte| *byte == b'.').unwrap_or(digits.len());
    let (whole, fraction) = digits.split_at(point);
    let fraction = fraction.get(1..).unwrap_or(&[]);
    let plain = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    if (whole.is_empty() && fraction.is_empty()) || !plain(whole) || !plain(fraction) {
        return false;
    }
    // digits in front of the unscaled number's end, which may lie before or behind those that are there
    let kept = whole.len() as i64 + i64::from(scale);
    let all = whole.iter().chain(fraction).copied().chain(std::iter::repeat(b'0'));
    let count = usize::try_from(kept).unwrap_or(0);
    if count <= 18 {
        let number = all.take(count).fold(0_i64, |sum, digit| sum * 10 + i64::from(digit - b'0'));
        shortest(&(if negative { -number } else { number }).to_be_bytes(), with);
    } else if count <= 38 {
        let number = all.take(count).fold(0_i128, |sum, digit| sum * 10 + i128::from(digit - b'0'));
        integer(if negative { -number } else { number }, with);
    } else {
        large(negative, all.take(count), with);
    }
    true
}

/// The bytes of an integer.
pub(super) fn integer(number: i128, with: impl FnOnce(&[u8])) {
    shortest(&number.to_be_bytes(), with);
}

/// Big-endian bytes of an integer without those that are superfluous: the sign's, where the next one begins with the sign's bit.
fn shortest(bytes: &[u8], with: impl FnOnce(&[u8])) {
    let sign = if bytes.first().is_some_and(|first| *first >= 0x80) { 0xff } else { 0 };
    let extra = bytes
        .windows(2)
        .take_while(|pair| matches!(pair, [first, second] if *first == sign && (*second ^ sign) < 0x80));
    with(bytes.get(extra.count()..).unwrap_or(bytes));
}

/// The same for more digits than fit into sixteen bytes.
fn large(negative: bool, digits: impl Iterator<Item = u8>, with: impl FnOnce(&[u8])) {
    // little-endian limbs of 32 bits
    let mut limbs: Vec<u32> = vec![0];
    let mut push = |factor: u32, add: u32| {
        let mut carry = u64::from(add);
        for limb in &mut limbs {
            let product = u64::from(*limb) * u64::from(factor) + carry;
            *limb = product as u32;
            carry = product >> 32;
        }
        if carry > 0 {
            limbs.push(carry as u32);
        }
    };
    let (mut group, mut factor) = (0_u32, 1_u32);
    for digit in digits {
        group = group * 10 + u32::from(digit - b'0');
        factor *= 10;
        if factor == 1_000_000_000 {
            push(factor, group);
            (group, factor) = (0, 1);
        }
    }
    if factor > 1 {
        push(factor, group);
    }
    let mut bytes: Vec<u8> = std::iter::once(0).chain(limbs.iter().rev().flat_map(|limb| limb.to_be_bytes())).collect();
    if negative {
        let mut carry = true;
        for byte in bytes.iter_mut().rev() {
            let (next, over) = (!*byte).overflowing_add(u8::from(carry));
            *byte = next;
            carry = over;
        }
    }
    shortest(&bytes, with);
}

/// Writes a decimal's unscaled number in base64; false, and nothing, if the text is none.
pub(super) fn decimal(out: &mut Vec<u8>, text: &str, scale: i32) -> bool {
    unscaled(text, scale, |bytes| base64(out, bytes))
}

/// Writes a decimal without a declared scale: scale and unscaled number. `as_written` keeps zeros at the end of the fraction.
pub(super) fn variable(out: &mut Vec<u8>, text: &str, as_written: bool) -> bool {
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    let fraction = if as_written { fraction } else { fraction.trim_end_matches('0') };
    let (from, scale) = (out.len(), fraction.len() as i32);
    out.extend_from_slice(b"{\"scale\":");
    out.extend_from_slice(itoa::Buffer::new().format(scale).as_bytes());
    out.extend_from_slice(b",\"value\":");
    let written = decimal(out, text, scale);
    if written {
        out.push(b'}');
    } else {
        out.truncate(from);
    }
    written
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shown(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn doubles_are_written_as_java_writes_them() {
        for (number, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (100.0, "100.0"),
            (123456.789, "123456.789"),
            (9999999.0, "9999999.0"),
            (9999999.999, "9999999.999"),
            (1e7, "1.0E7"),
            (12345678.0, "1.2345678E7"),
            (0.001, "0.001"),
            (0.00123, "0.00123"),
            (0.0001, "1.0E-4"),
            (0.000999, "9.99E-4"),
            (1e23, "1.0E23"),
            (1e300, "1.0E300"),
            (1.7976931348623157e308, "1.7976931348623157E308"),
            (2.2250738585072014e-308, "2.2250738585072014E-308"),
            (5e-324, "4.9E-324"),
            (-2.5, "-2.5"),
            (f64::NAN, "\"NaN\""),
            (f64::NEG_INFINITY, "\"-Infinity\""),
        ] {
            assert_eq!(shown(|out| double(out, number)), expected);
        }
        for (number, expected) in [
            (0.1, "0.1"),
            (3.4028235e38, "3.4028235E38"),
            (1e-45, "1.4E-45"),
            (16777216.0, "1.6777216E7"),
            (1.5, "1.5"),
        ] {
            assert_eq!(shown(|out| float(out, number)), expected);
        }
    }

    #[test]
    fn decimals_are_the_bytes_of_the_unscaled_number() {
        for (text, scale, expected) in [
            ("1.10", 2, "\"bg==\""),
            ("10", 0, "\"Cg==\""),
            ("3.30", 2, "\"AUo=\""),
            ("22.2200", 4, "\"A2P4\""),
            ("12345.67", 2, "\"EtaH\""),
            ("1234.11", 2, "\"AeIT\""),
            ("-1234.11", 2, "\"/h3t\""),
            ("18446744073709551615", 0, "\"AP//////////\""),
            ("0", 0, "\"AA==\""),
            ("0.00", 2, "\"AA==\""),
            ("-1", 0, "\"/w==\""),
            ("128", 0, "\"AIA=\""),
            ("-128", 0, "\"gA==\""),
            ("12345000", -3, "\"MDk=\""),
            ("1.5", 3, "\"Bdw=\""),
        ] {
            assert_eq!(shown(|out| assert!(decimal(out, text, scale))), expected, "{text}");
        }
        for text in ["NaN", "Infinity", "-Infinity", "", "-", "."] {
            assert_eq!(shown(|out| assert!(!decimal(out, text, 2))), "", "{text}");
        }
    }

    #[test]
    fn numbers_beyond_sixteen_bytes_are_computed_alike() {
        // every size that both ways can do
        for digits in 1..=38_usize {
            let text: String = (0..digits).map(|at| char::from(b'1' + (at % 9) as u8)).collect();
            let (mut small, mut long) = (Vec::new(), Vec::new());
            for negative in [false, true] {
                let number: i128 = text.parse().unwrap();
                integer(if negative { -number } else { number }, |bytes| small = bytes.to_vec());
                large(negative, text.bytes(), |bytes| long = bytes.to_vec());
                assert_eq!(small, long, "{text}");
            }
        }
        let (mut bytes, googol) = (Vec::new(), format!("1{}", "0".repeat(100)));
        assert!(unscaled(&googol, 0, |it| bytes = it.to_vec()));
        assert_eq!(bytes.len(), 42);
        assert_eq!(bytes.first(), Some(&0x12));
    }

    #[test]
    fn a_decimal_without_a_scale_tells_its_own() {
        for (text, as_written, expected) in [
            ("10.1111", false, r#"{"scale":4,"value":"AYr3"}"#),
            ("10", false, r#"{"scale":0,"value":"Cg=="}"#),
            ("1.10", false, r#"{"scale":1,"value":"Cw=="}"#),
            ("1.10", true, r#"{"scale":2,"value":"bg=="}"#),
            ("10000", true, r#"{"scale":0,"value":"JxA="}"#),
        ] {
            assert_eq!(shown(|out| assert!(variable(out, text, as_written))), expected);
        }
        assert_eq!(shown(|out| assert!(!variable(out, "NaN", true))), "");
    }
}
