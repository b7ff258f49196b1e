//! TABLE_MAP: which table the row events behind it are about, and how its columns lie in them.
//!
//! With `binlog_row_metadata=FULL` it says nearly all: names, signs, character sets, labels, primary key. With
//! MINIMAL (both servers' default) it has types and little more; the rest comes from the catalog.
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/classbinary__log_1_1Table__map__event.html>

use crate::cursor::{Cursor, Short};

/// Column types of the binlog.
pub(crate) mod wire {
    pub(crate) const TINY: u8 = 1;
    pub(crate) const SHORT: u8 = 2;
    pub(crate) const LONG: u8 = 3;
    pub(crate) const FLOAT: u8 = 4;
    pub(crate) const DOUBLE: u8 = 5;
    pub(crate) const TIMESTAMP: u8 = 7;
    pub(crate) const LONGLONG: u8 = 8;
    pub(crate) const INT24: u8 = 9;
    pub(crate) const DATE: u8 = 10;
    pub(crate) const TIME: u8 = 11;
    pub(crate) const DATETIME: u8 = 12;
    pub(crate) const YEAR: u8 = 13;
    pub(crate) const NEWDATE: u8 = 14;
    pub(crate) const VARCHAR: u8 = 15;
    pub(crate) const BIT: u8 = 16;
    pub(crate) const TIMESTAMP2: u8 = 17;
    pub(crate) const DATETIME2: u8 = 18;
    pub(crate) const TIME2: u8 = 19;
    pub(crate) const BLOB_COMPRESSED: u8 = 140;
    pub(crate) const VARCHAR_COMPRESSED: u8 = 141;
    pub(crate) const VECTOR: u8 = 242;
    pub(crate) const JSON: u8 = 245;
    pub(crate) const NEWDECIMAL: u8 = 246;
    pub(crate) const ENUM: u8 = 247;
    pub(crate) const SET: u8 = 248;
    pub(crate) const TINY_BLOB: u8 = 249;
    pub(crate) const MEDIUM_BLOB: u8 = 250;
    pub(crate) const LONG_BLOB: u8 = 251;
    pub(crate) const BLOB: u8 = 252;
    pub(crate) const VAR_STRING: u8 = 253;
    pub(crate) const STRING: u8 = 254;
    pub(crate) const GEOMETRY: u8 = 255;
}

/// A column's type as the event gives it; ENUM and SET, which hide behind STRING, are uncovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WireType {
    pub(crate) kind: u8,
    /// First metadata byte: precision, fraction digits, bits, width of the length, ... Of old times the fraction digits, which
    /// the event doesn't have ([`TableMap::has_old_times`]).
    pub(crate) a: u8,
    /// Second metadata byte: scale, bytes, ...
    pub(crate) b: u8,
    /// Declared length in bytes of CHAR, VARCHAR and BINARY.
    pub(crate) length: u16,
}

/// Most columns that a table can have.
const MAX_COLUMNS: u64 = 4096;

/// A TABLE_MAP's own, unnamed part.
#[derive(Debug)]
pub(crate) struct TableMap<'a> {
    pub(crate) table_id: u64,
    pub(crate) db: &'a str,
    pub(crate) table: &'a str,
    pub(crate) columns: Vec<WireType>,
    /// One bit per column.
    pub(crate) nullable: Vec<bool>,
    /// The optional part, unparsed.
    pub(crate) optional: &'a [u8],
}

/// The table id alone.
pub(crate) fn table_id(body: &[u8]) -> Result<u64, Short> {
    Cursor::new(body).uint(6)
}

impl<'a> TableMap<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Short> {
        let mut at = Cursor::new(body);
        let table_id = at.uint(6)?;
        at.u16()?;
        let mut name = || {
            let length = usize::from(at.u8()?);
            let text = at.take(length)?;
            at.u8()?;
            std::str::from_utf8(text).map_err(|_| Short)
        };
        let (db, table) = (name()?, name()?);
        let count = at.lenenc()?;
        if count > MAX_COLUMNS {
            return Err(Short);
        }
        let count = count as usize;
        let kinds = at.take(count)?;
        let mut meta = Cursor::new(at.lenenc_bytes()?);
        let columns = kinds.iter().map(|kind| wire_type(*kind, &mut meta)).collect::<Result<Vec<_>, _>>()?;
        let bits = at.take(count.div_ceil(8))?;
        let nullable = (0..count).map(|index| bit(bits, index)).collect();
        Ok(Self { table_id, db, table, columns, nullable, optional: at.rest() })
    }
}

impl TableMap<'_> {
    /// Whether there are times in old forms. MariaDB's may have fractions, which changes their width, and the event doesn't say so.
    pub(crate) fn has_old_times(&self) -> bool {
        self.columns.iter().any(|column| is_old_time(column.kind))
    }
}

/// TIME, DATETIME and TIMESTAMP of before MySQL 5.6.
pub(crate) fn is_old_time(kind: u8) -> bool {
    matches!(kind, wire::TIME | wire::DATETIME | wire::TIMESTAMP)
}

/// Bit `index` of a bitmap, lowest bit first.
#[inline]
pub(crate) fn bit(bits: &[u8], index: usize) -> bool {
    bits.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1)
}

fn wire_type(kind: u8, meta: &mut Cursor<'_>) -> Result<WireType, Short> {
    let mut column = WireType { kind, a: 0, b: 0, length: 0 };
    match kind {
        wire::FLOAT
        | wire::DOUBLE
        | wire::TIMESTAMP2
        | wire::DATETIME2
        | wire::TIME2
        | wire::TINY_BLOB
        | wire::MEDIUM_BLOB
        | wire::LONG_BLOB
        | wire::BLOB
        | wire::BLOB_COMPRESSED
        | wire::GEOMETRY
        | wire::JSON
        | wire::VECTOR => column.a = meta.u8()?,
        wire::VARCHAR | wire::VAR_STRING | wire::VARCHAR_COMPRESSED => column.length = meta.u16()?,
        wire::NEWDECIMAL | wire::BIT => (column.a, column.b) = (meta.u8()?, meta.u8()?),
        wire::STRING | wire::ENUM | wire::SET => {
            let (real, low) = (meta.u8()?, meta.u8()?);
            // Lengths above 255 borrow two bits of the type (Field_string::do_save_field_metadata).
            (column.kind, column.length) = if real & 0x30 == 0x30 {
                (real, u16::from(low))
            } else {
                (real | 0x30, u16::from(low) | u16::from((real & 0x30) ^ 0x30) << 4)
            };
            column.a = low;
            if !matches!(column.kind, wire::STRING | wire::ENUM | wire::SET) {
                return Err(Short);
            }
        }
        _ => {}
    }
    Ok(column)
}

/// The optional part, as far as it is there. Character sets are collation ids.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Optional {
    pub(crate) names: Option<Vec<String>>,
    /// Per column: true for an unsigned number.
    pub(crate) unsigned: Option<Vec<bool>>,
    /// Per column: collation of character columns, ENUM and SET.
    pub(crate) collations: Vec<Option<u32>>,
    /// Per column: labels of ENUM and SET, in the column's character set.
    pub(crate) labels: Vec<Vec<Vec<u8>>>,
    pub(crate) key: Vec<usize>,
    /// Per column: which geometries it holds, as WKB numbers them; 0 for any.
    pub(crate) shapes: Vec<Option<u64>>,
    /// Per column: how many numbers a vector has at most.
    pub(crate) dimensions: Vec<Option<u64>>,
}

impl Optional {
    /// `maria`: MariaDB counts geometries among the character columns (their class is derived from BLOB's), MySQL
    /// doesn't; lists that don't fit their columns are refused, so that a difference can't shift them silently.
    pub(crate) fn parse(bytes: &[u8], columns: &[WireType], maria: bool) -> Result<Self, Short> {
        let mut found = Self {
            collations: vec![None; columns.len()],
            labels: vec![Vec::new(); columns.len()],
            shapes: vec![None; columns.len()],
            dimensions: vec![None; columns.len()],
            ..Self::default()
        };
        let of = |test: fn(u8) -> bool| -> Vec<usize> {
            columns.iter().enumerate().filter(|(_, column)| test(column.kind)).map(|(index, _)| index).collect()
        };
        let is_character: fn(u8) -> bool = if maria { is_maria_character } else { is_character };
        let labelled = |kind: u8| kind == wire::ENUM || kind == wire::SET;
        let mut at = Cursor::new(bytes);
        while !at.is_empty() {
            let field = at.u8()?;
            let mut value = Cursor::new(at.lenenc_bytes()?);
            match field {
                1 => {
                    let mut unsigned = vec![false; columns.len()];
                    for (nth, index) in of(is_numeric).into_iter().enumerate() {
                        // Highest bit first, unlike all other bitmaps.
                        let byte = value.rest().get(nth / 8).ok_or(Short)?;
                        *unsigned.get_mut(index).ok_or(Short)? = byte >> (7 - nth % 8) & 1 == 1;
                    }
                    found.unsigned = Some(unsigned);
                }
                2 => default_charset(&mut value, &of(is_character), &mut found.collations)?,
                3 => column_charset(&mut value, &of(is_character), &mut found.collations)?,
                4 => {
                    let mut names = Vec::with_capacity(columns.len());
                    for _ in columns {
                        let name = std::str::from_utf8(value.lenenc_bytes()?).map_err(|_| Short)?;
                        names.push(name.to_owned());
                    }
                    found.names = Some(names);
                }
                5 => labels(&mut value, &of(|kind| kind == wire::SET), &mut found.labels)?,
                6 => labels(&mut value, &of(|kind| kind == wire::ENUM), &mut found.labels)?,
                8 | 9 => {
                    while !value.is_empty() {
                        found.key.push(usize::try_from(value.lenenc()?).map_err(|_| Short)?);
                        if field == 9 {
                            value.lenenc()?; // length of the prefix; the whole column identifies the row as well
                        }
                    }
                }
                10 => default_charset(&mut value, &of(labelled), &mut found.collations)?,
                11 => column_charset(&mut value, &of(labelled), &mut found.collations)?,
                7 => numbers(&mut value, &of(|kind| kind == wire::GEOMETRY), &mut found.shapes)?,
                13 => numbers(&mut value, &of(|kind| kind == wire::VECTOR), &mut found.dimensions)?,
                // 12 visibility, and what the future brings: not needed
                _ => {}
            }
        }
        Ok(found)
    }
}

fn is_numeric(kind: u8) -> bool {
    matches!(
        kind,
        wire::TINY
            | wire::SHORT
            | wire::INT24
            | wire::LONG
            | wire::LONGLONG
            | wire::NEWDECIMAL
            | wire::FLOAT
            | wire::DOUBLE
            | wire::YEAR
    )
}

fn is_character(kind: u8) -> bool {
    matches!(
        kind,
        wire::STRING | wire::VAR_STRING | wire::VARCHAR | wire::BLOB | wire::BLOB_COMPRESSED | wire::VARCHAR_COMPRESSED
    )
}

fn is_maria_character(kind: u8) -> bool {
    is_character(kind) || kind == wire::GEOMETRY
}

/// One collation for all of `among`, then exceptions as pairs of (number among them, collation).
fn default_charset(value: &mut Cursor<'_>, among: &[usize], out: &mut [Option<u32>]) -> Result<(), Short> {
    let collation = |at: &mut Cursor<'_>| at.lenenc().and_then(|id| u32::try_from(id).map_err(|_| Short));
    let default = collation(value)?;
    for index in among {
        *out.get_mut(*index).ok_or(Short)? = Some(default);
    }
    while !value.is_empty() {
        let nth = usize::try_from(value.lenenc()?).map_err(|_| Short)?;
        let index = among.get(nth).ok_or(Short)?;
        *out.get_mut(*index).ok_or(Short)? = Some(collation(value)?);
    }
    Ok(())
}

fn column_charset(value: &mut Cursor<'_>, among: &[usize], out: &mut [Option<u32>]) -> Result<(), Short> {
    for index in among {
        let collation = u32::try_from(value.lenenc()?).map_err(|_| Short)?;
        *out.get_mut(*index).ok_or(Short)? = Some(collation);
    }
    if value.is_empty() { Ok(()) } else { Err(Short) }
}

/// A number for each of `among`.
fn numbers(value: &mut Cursor<'_>, among: &[usize], out: &mut [Option<u64>]) -> Result<(), Short> {
    for index in among {
        *out.get_mut(*index).ok_or(Short)? = Some(value.lenenc()?);
    }
    if value.is_empty() { Ok(()) } else { Err(Short) }
}

fn labels(value: &mut Cursor<'_>, among: &[usize], out: &mut [Vec<Vec<u8>>]) -> Result<(), Short> {
    for index in among {
        let count = value.lenenc()?;
        let list = out.get_mut(*index).ok_or(Short)?;
        for _ in 0..count {
            list.push(value.lenenc_bytes()?.to_vec());
        }
    }
    if value.is_empty() { Ok(()) } else { Err(Short) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn long_char_columns_borrow_bits_of_their_type() {
        // CHAR(255) in utf8mb4: 1020 bytes
        let column = wire_type(wire::STRING, &mut Cursor::new(&[0xce, 0xfc])).unwrap();
        assert_eq!((column.kind, column.length), (wire::STRING, 1020));
        let column = wire_type(wire::STRING, &mut Cursor::new(&[wire::ENUM, 2])).unwrap();
        assert_eq!((column.kind, column.a), (wire::ENUM, 2));
        assert_eq!(wire_type(wire::STRING, &mut Cursor::new(&[0x31, 2])), Err(Short));
    }

    #[test]
    fn signs_are_read_from_the_highest_bit() {
        let column = |kind| WireType { kind, a: 0, b: 0, length: 0 };
        let columns = [column(wire::LONG), column(wire::VARCHAR), column(wire::TINY)];
        let optional = Optional::parse(&[1, 1, 0b0100_0000], &columns, false).unwrap();
        assert_eq!(optional.unsigned.unwrap(), [false, false, true]);
    }
}
