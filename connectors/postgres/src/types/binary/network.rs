//! Addresses of networks as the server writes them.

use std::fmt::Write;

use bumpalo::collections::String as BumpString;
use rowcast_core::Bump;

use super::SHORT;
use crate::types::scalar::Wrong;

/// Family, length of the prefix in bits, whether it is a `cidr`, length of the address (1 each), and the address.
pub(super) fn address<'a>(bytes: &[u8], arena: &'a Bump) -> Result<&'a str, Wrong> {
    let mut out = BumpString::new_in(arena);
    let (bits, is_cidr, most) = match bytes {
        // PGSQL_AF_INET
        [2, bits, is_cidr, 4, a, b, c, d] => {
            write!(out, "{a}.{b}.{c}.{d}").map_err(|_| SHORT)?;
            (*bits, *is_cidr, 32)
        }
        // PGSQL_AF_INET6
        [3, bits, is_cidr, 16, address @ ..] => {
            six(&mut out, address)?;
            (*bits, *is_cidr, 128)
        }
        _ => return Err("not an address"),
    };
    if bits > most {
        return Err("not an address");
    }
    if is_cidr != 0 || bits != most {
        write!(out, "/{bits}").map_err(|_| SHORT)?;
    }
    Ok(out.into_bump_str())
}

/// The longest run of zeros, if there are two or more of them, is `::`; the first of equally long ones. Addresses that hold one of
/// version 4 end with it.
fn six(out: &mut BumpString<'_>, address: &[u8]) -> Result<(), Wrong> {
    let address: [u8; 16] = address.try_into().map_err(|_| SHORT)?;
    let (pairs, _) = address.as_chunks::<2>();
    let words: Vec<u16> = pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect();
    let (mut best, mut run) = (0..0, 0..0);
    for (index, word) in words.iter().enumerate() {
        run = match (*word, run.end == index && !run.is_empty()) {
            (0, true) => run.start..index + 1,
            (0, false) => index..index + 1,
            _ => 0..0,
        };
        if run.len() > best.len() {
            best = run.clone();
        }
    }
    if best.len() < 2 {
        best = 0..0;
    }
    let last = words.get(7).copied().unwrap_or(0);
    let mapped = best.start == 0
        && (best.len() == 6 || (best.len() == 7 && last != 1) || (best.len() == 5 && words.get(5) == Some(&0xffff)));
    for (index, word) in words.iter().enumerate() {
        if best.contains(&index) {
            if index == best.start {
                out.push(':');
            }
            continue;
        }
        if index > 0 {
            out.push(':');
        }
        if index == 6 && mapped {
            let [.., a, b, c, d] = address;
            return write!(out, "{a}.{b}.{c}.{d}").map_err(|_| SHORT);
        }
        write!(out, "{word:x}").map_err(|_| SHORT)?;
    }
    if best.end == 8 && !best.is_empty() {
        out.push(':');
    }
    Ok(())
}

/// Six or eight bytes.
pub(super) fn mac<'a>(bytes: &[u8], arena: &'a Bump) -> Result<&'a str, Wrong> {
    if !matches!(bytes.len(), 6 | 8) {
        return Err("not a MAC address");
    }
    let mut out = BumpString::new_in(arena);
    for (index, byte) in bytes.iter().enumerate() {
        let separator = if index > 0 { ":" } else { "" };
        write!(out, "{separator}{byte:02x}").map_err(|_| SHORT)?;
    }
    Ok(out.into_bump_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_the_server_does() {
        let arena = Bump::new();
        let four = |bits, is_cidr| [2, bits, is_cidr, 4, 10, 0, 0, 1];
        assert_eq!(address(&four(32, 0), &arena), Ok("10.0.0.1"));
        assert_eq!(address(&four(8, 0), &arena), Ok("10.0.0.1/8"));
        assert_eq!(address(&four(32, 1), &arena), Ok("10.0.0.1/32"));
        for (expected, words) in [
            ("::", [0, 0, 0, 0, 0, 0, 0, 0]),
            ("::1", [0, 0, 0, 0, 0, 0, 0, 1]),
            ("::2", [0, 0, 0, 0, 0, 0, 0, 2]),
            ("::10.1.2.3", [0, 0, 0, 0, 0, 0, 0x0a01, 0x0203]),
            ("::ffff:1.2.3.4", [0, 0, 0, 0, 0, 0xffff, 0x0102, 0x0304]),
            ("2001:db8::1", [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]),
            ("1::2:0:0:3:4", [1, 0, 0, 2, 0, 0, 3, 4]),
            ("1:0:2:3:4:5:6:7", [1, 0, 2, 3, 4, 5, 6, 7]),
            ("fe80::", [0xfe80, 0, 0, 0, 0, 0, 0, 0]),
        ] {
            let mut bytes = vec![3, 128, 0, 16];
            bytes.extend(words.iter().flat_map(|word: &u16| word.to_be_bytes()));
            assert_eq!(address(&bytes, &arena), Ok(expected));
        }
        for bad in [&[][..], &[2, 33, 0, 4, 1, 2, 3, 4], &[2, 32, 0, 4, 1], &[3, 1, 0, 16, 1], &[4, 0, 0, 0]] {
            assert!(address(bad, &arena).is_err());
        }
    }

    #[test]
    fn mac_addresses_have_six_or_eight_bytes() {
        let arena = Bump::new();
        assert_eq!(mac(&[8, 0, 0x2b, 1, 2, 0xff], &arena), Ok("08:00:2b:01:02:ff"));
        assert_eq!(mac(&[8, 0, 0x2b, 1, 2, 3, 4, 5], &arena), Ok("08:00:2b:01:02:03:04:05"));
        assert!(mac(&[1, 2], &arena).is_err());
    }
}
