//! The tables of `scripts/mysql-charsets.sh`, which says how they are laid out, and text by them.

use std::fmt;
use std::str;

use bumpalo::Bump;
use bumpalo::collections::String as Text;

/// A character set by its table.
pub(crate) struct Table {
    name: &'static str,
    form: Form,
}

enum Form {
    /// Single bytes. `ascii`: the lower half is ASCII, as in all sets of more bytes.
    Single { points: &'static [u8; 512], ascii: bool },
    /// One or two bytes; three behind 8f, or four, where there are tables of them.
    Multi { two: Plane, three: Option<Plane>, four: Option<&'static [u8]> },
}

/// First bytes whose second bytes make a sequence.
#[derive(Clone, Copy)]
struct Plane(&'static [u8]);

macro_rules! bytes {
    ($name:expr) => {
        include_bytes!(concat!($name, ".bin"))
    };
}

macro_rules! single {
    ($name:literal) => {
        Table { name: $name, form: Form::Single { points: bytes!($name), ascii: true } }
    };
}

macro_rules! multi {
    ($name:literal) => {
        Table { name: $name, form: Form::Multi { two: Plane(bytes!($name)), three: None, four: None } }
    };
    ($name:literal, three) => {
        Table {
            name: $name,
            form: Form::Multi {
                two: Plane(bytes!($name)),
                three: Some(Plane(bytes!(concat!($name, "3")))),
                four: None,
            },
        }
    };
}

static TABLES: [Table; 34] = [
    single!("armscii8"),
    single!("ascii"),
    multi!("big5"),
    single!("cp1250"),
    single!("cp1251"),
    single!("cp1256"),
    single!("cp1257"),
    single!("cp850"),
    single!("cp852"),
    single!("cp866"),
    multi!("cp932"),
    single!("dec8"),
    multi!("eucjpms", three),
    multi!("euckr"),
    multi!("gb2312"),
    multi!("gbk"),
    Table {
        name: "gb18030",
        form: Form::Multi { two: Plane(bytes!("gb18030")), three: None, four: Some(bytes!("gb18030-4")) },
    },
    single!("geostd8"),
    single!("greek"),
    single!("hebrew"),
    single!("hp8"),
    single!("keybcs2"),
    single!("koi8r"),
    single!("koi8u"),
    single!("latin1"),
    single!("latin2"),
    single!("latin5"),
    single!("latin7"),
    single!("macce"),
    single!("macroman"),
    multi!("sjis"),
    Table { name: "swe7", form: Form::Single { points: bytes!("swe7"), ascii: false } },
    single!("tis620"),
    multi!("ujis", three),
];

/// What a table has for bytes that mean nothing.
const NOTHING: u16 = 0xffff;
/// Bytes of a plane before its code points: 128 single bytes, then 128 heads of four bytes.
const SINGLES: usize = 256;
const HEADS: usize = SINGLES + 512;
/// In front of three bytes.
const THREE: u8 = 0x8f;

impl Table {
    pub(crate) fn named(name: &str) -> Option<&'static Table> {
        TABLES.iter().find(|table| table.name == name)
    }

    /// Whether all its characters are in the first plane of Unicode.
    pub(crate) fn is_basic(&self) -> bool {
        !matches!(self.form, Form::Multi { four: Some(_), .. })
    }

    /// Bytes of a character at most.
    pub(crate) fn width(&self) -> u16 {
        match self.form {
            Form::Single { .. } => 1,
            Form::Multi { four: Some(_), .. } => 4,
            Form::Multi { three: Some(_), .. } => 3,
            Form::Multi { .. } => 2,
        }
    }

    pub(crate) fn decode<'a>(&self, bytes: &'a [u8], arena: &'a Bump) -> Option<&'a str> {
        match self.form {
            Form::Single { ascii: true, .. } | Form::Multi { .. } if bytes.is_ascii() => str::from_utf8(bytes).ok(),
            Form::Single { points, .. } => {
                let mut out = Text::with_capacity_in(bytes.len() * 2, arena);
                for byte in bytes {
                    out.push(point(points, usize::from(*byte))?);
                }
                Some(out.into_bump_str())
            }
            Form::Multi { two, three, four } => {
                let mut out = Text::with_capacity_in(bytes.len() * 3 / 2, arena);
                let mut rest = bytes;
                while let Some((first, behind)) = rest.split_first() {
                    let (character, behind) = if first.is_ascii() {
                        (char::from(*first), behind)
                    } else {
                        sequence(*first, behind, (two, three, four))?
                    };
                    out.push(character);
                    rest = behind;
                }
                Some(out.into_bump_str())
            }
        }
    }
}

/// One character whose first byte isn't ASCII, and what is behind it.
#[inline]
fn sequence<'b>(
    first: u8,
    behind: &'b [u8],
    (two, three, four): (Plane, Option<Plane>, Option<&'static [u8]>),
) -> Option<(char, &'b [u8])> {
    if let Some(character) = two.single(first) {
        return Some((character, behind));
    }
    let (second, rest) = behind.split_first()?;
    if let (THREE, Some(plane)) = (first, three) {
        let (third, rest) = rest.split_first()?;
        return Some((plane.pair(*second, *third)?, rest));
    }
    if let (b'0'..=b'9', Some(runs)) = (*second, four) {
        let ([third, fourth], rest) = rest.split_first_chunk()?;
        return Some((quad(runs, [first, *second, *third, *fourth])?, rest));
    }
    Some((two.pair(first, *second)?, rest))
}

/// Code point number `index`.
#[inline]
fn point(points: &[u8], index: usize) -> Option<char> {
    let unit = points.get(2 * index..)?.first_chunk::<2>()?;
    match u16::from_le_bytes(*unit) {
        NOTHING => None,
        point => char::from_u32(point.into()),
    }
}

impl Plane {
    fn single(self, byte: u8) -> Option<char> {
        point(self.0.get(..SINGLES)?, usize::from(byte.checked_sub(0x80)?))
    }

    fn pair(self, first: u8, second: u8) -> Option<char> {
        let head = SINGLES + 4 * usize::from(first.checked_sub(0x80)?);
        let [least, count, low, high] = *self.0.get(head..)?.first_chunk::<4>()?;
        let nth = second.checked_sub(least).filter(|nth| *nth < count)?;
        point(self.0.get(HEADS..)?, usize::from(u16::from_le_bytes([low, high])) + usize::from(nth))
    }
}

/// Four bytes of GB 18030.
fn quad(runs: &[u8], [first, second, third, fourth]: [u8; 4]) -> Option<char> {
    /// The number of U+10000.
    const SUPPLEMENT: u32 = 189_000;
    /// Numbers that stand for what has two bytes in UTF-16's first plane.
    const BASIC: u32 = 39_420;
    let within = |byte: u8, least: u8, most: u8| (least..=most).contains(&byte).then(|| u32::from(byte - least));
    let number = ((within(first, 0x81, 0xfe)? * 10 + within(second, 0x30, 0x39)?) * 126 + within(third, 0x81, 0xfe)?)
        * 10
        + within(fourth, 0x30, 0x39)?;
    if number >= SUPPLEMENT {
        return char::from_u32(0x1_0000 + number - SUPPLEMENT);
    }
    if number >= BASIC {
        return None;
    }
    let (runs, _) = runs.as_chunks::<4>();
    let start = |[low, high, ..]: &[u8; 4]| u32::from(u16::from_le_bytes([*low, *high]));
    let run = runs.get(runs.partition_point(|run| start(run) <= number).checked_sub(1)?)?;
    let [.., low, high] = *run;
    char::from_u32(u32::from(u16::from_le_bytes([low, high])) + number - start(run))
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Table {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_lower_half_is_ascii_where_it_is_said_to_be() {
        for table in &TABLES {
            if let Form::Single { points, ascii } = table.form {
                let same = (0..0x80_u8).all(|byte| point(points, byte.into()) == Some(char::from(byte)));
                assert_eq!(same, ascii, "{}", table.name);
            }
        }
    }
}
