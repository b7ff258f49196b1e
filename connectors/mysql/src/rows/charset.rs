//! Character sets: from a column's bytes to UTF-8, or an error; never a replacement character.
//!
//! MySQL's names aren't the web's: `latin1` is cp1252 with the five holes filled by C1 controls, which is what the
//! encoding standard calls windows-1252 too. A set is in the list only where this gives what the server's
//! CONVERT gives (`examples/dump.rs --compare` compares them on a live server); others are refused by name.
//! Bytes that mean nothing to the server (it shows `?`) are what the encoding standard says, if it says anything.

use std::str;

use bumpalo::Bump;
use bumpalo::collections::String as Text;
use encoding_rs::Encoding;

/// Where MySQL 9.7 decodes otherwise than the encoding standard.
const CP866: &[(u8, Option<char>)] = &[(0xfc, Some('ⁿ')), (0xfd, Some('²'))];
const GREEK: &[(u8, Option<char>)] = &[(0xa1, Some('ʽ')), (0xa2, Some('ʼ')), (0xa4, None), (0xa5, None), (0xaa, None)];
const HEBREW: &[(u8, Option<char>)] = &[(0xaf, Some('‾'))];
const KOI8U: &[(u8, Option<char>)] = &[(0x95, Some('•')), (0xae, Some('╝')), (0xbe, Some('╬'))];
const TIS620: &[(u8, Option<char>)] = &[
    (0x80, Some('\u{80}')),
    (0x85, Some('\u{85}')),
    (0x91, Some('\u{91}')),
    (0x92, Some('\u{92}')),
    (0x93, Some('\u{93}')),
    (0x94, Some('\u{94}')),
    (0x95, Some('\u{95}')),
    (0x96, Some('\u{96}')),
    (0x97, Some('\u{97}')),
    (0xa0, None),
];

/// How a column's bytes become text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Charset {
    Binary,
    /// utf8mb4, utf8mb3, and ascii, which is part of it.
    Utf8,
    Utf16 {
        little_endian: bool,
    },
    Utf32,
    /// One that `encoding_rs` decodes.
    Other(&'static Encoding),
    /// One of single bytes that `encoding_rs` decodes with exceptions.
    Except(&'static Encoding, &'static [(u8, Option<char>)]),
    /// One that isn't decoded; columns of it are an error when they are not NULL.
    Unsupported,
}

impl Charset {
    pub(crate) fn named(name: &str) -> Self {
        Charset::Other(match name {
            "binary" => return Charset::Binary,
            "utf8mb4" | "utf8mb3" | "utf8" | "ascii" => return Charset::Utf8,
            "ucs2" | "utf16" => return Charset::Utf16 { little_endian: false },
            "utf16le" => return Charset::Utf16 { little_endian: true },
            "utf32" => return Charset::Utf32,
            "latin1" => encoding_rs::WINDOWS_1252,
            "latin2" => encoding_rs::ISO_8859_2,
            "cp1250" => encoding_rs::WINDOWS_1250,
            "cp1251" => encoding_rs::WINDOWS_1251,
            "cp1256" => encoding_rs::WINDOWS_1256,
            "cp1257" => encoding_rs::WINDOWS_1257,
            "cp866" => return Charset::Except(encoding_rs::IBM866, CP866),
            "greek" => return Charset::Except(encoding_rs::ISO_8859_7, GREEK),
            "hebrew" => return Charset::Except(encoding_rs::ISO_8859_8, HEBREW),
            "koi8r" => encoding_rs::KOI8_R,
            "koi8u" => return Charset::Except(encoding_rs::KOI8_U, KOI8U),
            "latin7" => encoding_rs::ISO_8859_13,
            "tis620" => return Charset::Except(encoding_rs::WINDOWS_874, TIS620),
            "macroman" => encoding_rs::MACINTOSH,
            "cp932" => encoding_rs::SHIFT_JIS,
            "gbk" => encoding_rs::GBK,
            _ => return Charset::Unsupported,
        })
    }

    /// The bytes as text: borrowed where they are UTF-8, else decoded into the arena. None if they can't be.
    #[inline]
    pub(crate) fn decode<'a>(self, bytes: &'a [u8], arena: &'a Bump) -> Option<&'a str> {
        match self {
            Charset::Utf8 => str::from_utf8(bytes).ok(),
            Charset::Other(encoding) => other(encoding, bytes, arena),
            Charset::Except(encoding, exceptions) => except(encoding, exceptions, bytes, arena),
            Charset::Utf16 { little_endian } => {
                let (units, rest) = bytes.as_chunks::<2>();
                if !rest.is_empty() {
                    return None;
                }
                let units = units
                    .iter()
                    .map(|unit| if little_endian { u16::from_le_bytes(*unit) } else { u16::from_be_bytes(*unit) });
                let mut out = Text::with_capacity_in(bytes.len(), arena);
                for character in char::decode_utf16(units) {
                    out.push(character.ok()?);
                }
                Some(out.into_bump_str())
            }
            Charset::Utf32 => {
                let (units, rest) = bytes.as_chunks::<4>();
                if !rest.is_empty() {
                    return None;
                }
                let mut out = Text::with_capacity_in(bytes.len(), arena);
                for unit in units {
                    out.push(char::from_u32(u32::from_be_bytes(*unit))?);
                }
                Some(out.into_bump_str())
            }
            Charset::Binary | Charset::Unsupported => None,
        }
    }
}

fn other<'a>(encoding: &'static Encoding, bytes: &'a [u8], arena: &'a Bump) -> Option<&'a str> {
    if bytes.is_ascii() {
        return str::from_utf8(bytes).ok();
    }
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let capacity = decoder.max_utf8_buffer_length_without_replacement(bytes.len())?;
    let space = arena.alloc_slice_fill_copy(capacity, 0_u8);
    let (result, _, written) = decoder.decode_to_utf8_without_replacement(bytes, space, true);
    match result {
        encoding_rs::DecoderResult::InputEmpty => str::from_utf8(space.get(..written)?).ok(),
        _ => None,
    }
}

/// Byte by byte where an exception occurs, else as a whole.
fn except<'a>(
    encoding: &'static Encoding,
    exceptions: &[(u8, Option<char>)],
    bytes: &'a [u8],
    arena: &'a Bump,
) -> Option<&'a str> {
    let exception = |byte: &u8| exceptions.iter().find(|(differs, _)| differs == byte);
    if !bytes.iter().any(|byte| exception(byte).is_some()) {
        return other(encoding, bytes, arena);
    }
    let mut out = Text::with_capacity_in(bytes.len() * 3, arena);
    for byte in bytes {
        match exception(byte) {
            Some((_, character)) => out.push((*character)?),
            None => out.push_str(&encoding.decode_without_bom_handling_and_without_replacement(&[*byte])?),
        }
    }
    Some(out.into_bump_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latin1_is_what_mysql_means_by_it() {
        let arena = Bump::new();
        let latin1 = Charset::named("latin1");
        assert_eq!(latin1.decode(b"\x80\x81\x9d\xe9", &arena), Some("\u{20ac}\u{81}\u{9d}\u{e9}"));
    }

    #[test]
    fn undecodable_bytes_are_never_replaced() {
        let arena = Bump::new();
        assert_eq!(Charset::named("utf8mb4").decode(b"\xff", &arena), None);
        assert_eq!(Charset::named("gbk").decode(b"a\xff", &arena), None);
        assert_eq!(Charset::named("utf16").decode(b"\xd8\x00", &arena), None);
        assert_eq!(Charset::named("utf16").decode(b"\xd8", &arena), None);
        assert_eq!(Charset::named("utf32").decode(b"\x00\x11\x00\x00", &arena), None);
        assert_eq!(Charset::named("swe7"), Charset::Unsupported);
        assert_eq!(Charset::named("cp866").decode(b"\xfc\x80a", &arena), Some("ⁿАa"));
        assert_eq!(Charset::named("tis620").decode(b"\xa0", &arena), None);
    }

    #[test]
    fn wide_sets_are_decoded_with_surrogates() {
        let arena = Bump::new();
        assert_eq!(Charset::named("utf16").decode(b"\xd8\x3d\xde\x00", &arena), Some("😀"));
        assert_eq!(Charset::named("utf16le").decode(b"a\x00", &arena), Some("a"));
        assert_eq!(Charset::named("utf32").decode(b"\x00\x01\xf6\x00", &arena), Some("😀"));
    }
}
