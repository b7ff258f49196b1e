//! Character sets: from a column's bytes to UTF-8, or an error; never a replacement character.
//!
//! What bytes mean is what the server says that they mean (its `CONVERT(.. USING utf8mb4)`), in tables that a script has asked a
//! server for (`scripts/mysql-charsets.sh`): the servers' sets aren't those of the web that bear the same names, nor quite those of
//! other libraries. `tests/mysql/charsets.rs` compares every byte and every sequence with both servers. Bytes that mean nothing to
//! the server (it shows `?` for them) are an error here.

mod table;

use std::str;

use bumpalo::Bump;
use bumpalo::collections::String as Text;
use table::Table;

/// How a column's bytes become text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Charset {
    Binary,
    /// utf8mb4 and utf8mb3.
    Utf8,
    /// utf16 and utf16le.
    Utf16 {
        little_endian: bool,
    },
    /// Two bytes each, without surrogates.
    Ucs2,
    Utf32,
    /// One that isn't a form of Unicode.
    Table(&'static Table),
    /// One that isn't decoded; columns of it are an error when they are not NULL.
    Unsupported,
}

impl Charset {
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "binary" => Charset::Binary,
            "utf8mb4" | "utf8mb3" | "utf8" => Charset::Utf8,
            "utf16" => Charset::Utf16 { little_endian: false },
            "utf16le" => Charset::Utf16 { little_endian: true },
            "ucs2" => Charset::Ucs2,
            "utf32" => Charset::Utf32,
            other => Table::named(other).map_or(Charset::Unsupported, Charset::Table),
        }
    }

    /// Bytes of a character at most, by which the server reckons the lengths that it logs.
    pub(crate) fn width(name: &str) -> u16 {
        match Self::named(name) {
            Charset::Utf8 if name != "utf8mb4" => 3,
            Charset::Utf8 | Charset::Utf16 { .. } | Charset::Utf32 => 4,
            Charset::Ucs2 => 2,
            Charset::Table(table) => table.width(),
            Charset::Binary | Charset::Unsupported => 1,
        }
    }

    /// The bytes as text: borrowed where they are UTF-8, else decoded into the arena, where they take three bytes for each at most.
    /// None if they mean nothing.
    #[inline]
    pub(crate) fn decode<'a>(self, bytes: &'a [u8], arena: &'a Bump) -> Option<&'a str> {
        match self {
            Charset::Utf8 => str::from_utf8(bytes).ok(),
            Charset::Table(table) => table.decode(bytes, arena),
            Charset::Utf16 { little_endian } => {
                let units = units::<2>(bytes)?
                    .iter()
                    .map(|unit| if little_endian { u16::from_le_bytes(*unit) } else { u16::from_be_bytes(*unit) });
                collected(char::decode_utf16(units).map(Result::ok), bytes, arena)
            }
            Charset::Ucs2 => {
                let units = units::<2>(bytes)?.iter().map(|unit| char::from_u32(u16::from_be_bytes(*unit).into()));
                collected(units, bytes, arena)
            }
            Charset::Utf32 => {
                let units = units::<4>(bytes)?.iter().map(|unit| char::from_u32(u32::from_be_bytes(*unit)));
                collected(units, bytes, arena)
            }
            Charset::Binary | Charset::Unsupported => None,
        }
    }
}

/// The bytes in groups; none if some are left.
fn units<const N: usize>(bytes: &[u8]) -> Option<&[[u8; N]]> {
    let (units, rest) = bytes.as_chunks::<N>();
    rest.is_empty().then_some(units)
}

fn collected<'a>(characters: impl Iterator<Item = Option<char>>, bytes: &[u8], arena: &'a Bump) -> Option<&'a str> {
    let mut out = Text::with_capacity_in(bytes.len(), arena);
    for character in characters {
        out.push(character?);
    }
    Some(out.into_bump_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(name: &str, bytes: &[u8]) -> Option<String> {
        let arena = Bump::new();
        Charset::named(name).decode(bytes, &arena).map(str::to_owned)
    }

    #[test]
    fn names_mean_what_the_server_means_by_them() {
        for (name, bytes, expected) in [
            ("latin1", &b"\x80\x81\x9d\xe9"[..], "\u{20ac}\u{81}\u{9d}\u{e9}"),
            ("koi8u", b"\xa6\xa4", "іє"),
            ("cp866", b"\xfc\x80a", "ⁿАa"),
            ("swe7", b"sm|rg}s", "smörgås"),
            ("armscii8", b"\xb2\xb3", "Աա"),
            ("keybcs2", b"\x80\xd0", "Č╨"),
            ("cp932", b"\x93\xfa\x96\x7b\x8c\xea\x87\x40", "日本語①"),
            ("sjis", b"\\\xb1\x93\xfa", "\\ｱ日"),
            ("ujis", b"\xc6\xfc\x8e\xb1\x8f\xb0\xa1x", "日ｱ丂x"),
            ("eucjpms", b"\xad\xa1", "①"),
            ("euckr", b"\xc7\xd1\x81\x41", "한갂"),
            ("big5", b"\xa4\xa4\xa4\xe5", "中文"),
            ("gb2312", b"\xba\xba", "汉"),
            ("gbk", b"\xba\xba\x81\x40", "汉丂"),
            ("gb18030", b"\xba\xba\x94\x39\xda\x33\x81\x30\x84\x36\xa8\xbc", "汉💩¥ḿ"),
            ("utf16", b"\xd8\x3d\xde\x00", "😀"),
            ("utf16le", b"a\x00", "a"),
            ("utf32", b"\x00\x01\xf6\x00", "😀"),
            ("ucs2", b"\x00a", "a"),
            ("ascii", b"a\x7f", "a\x7f"),
        ] {
            assert_eq!(decoded(name, bytes).as_deref(), Some(expected), "{name}");
        }
    }

    #[test]
    fn undecodable_bytes_are_never_replaced() {
        for (name, bytes) in [
            ("utf8mb4", &b"\xff"[..]),
            ("utf8mb3", b"\xed\xa0\xbd"),
            ("gbk", b"a\xff"),
            ("gbk", b"a\x81"),
            ("gbk", b"\x81\x30"),
            ("gb18030", b"\x81\x30\x81"),
            ("gb18030", b"\x84\x31\xa5\x30"),
            ("gb18030", b"\xe3\x32\x9a\x36"),
            ("gb18030", b"\x80"),
            ("ujis", b"\x8f\xb0"),
            ("ujis", b"\x8f\xf4\xa1"),
            ("utf16", b"\xd8\x00"),
            ("utf16", b"\xd8"),
            ("ucs2", b"\xd8\x3d\xde\x00"),
            ("utf32", b"\x00\x11\x00\x00"),
            ("utf32", b"\x00"),
            ("cp1250", b"\x81"),
            ("ascii", b"\xc3\xa9"),
            ("swe7", b"\x7f"),
        ] {
            assert_eq!(decoded(name, bytes), None, "{name}");
        }
        assert_eq!(Charset::named("klingon"), Charset::Unsupported);
    }
}
