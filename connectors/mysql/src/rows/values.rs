//! Values that need more than a number's bytes: prefixed, padded, labelled, of MariaDB's own types, geometries, vectors.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use bumpalo::Bump;
use bumpalo::collections::String as Text;
use rowcast_core::value::Geometry;
use rowcast_core::{DecodeError, Value};

use super::charset::Charset;
use super::labels::Labels;
use crate::cursor::{Cursor, Short};

#[inline]
pub(super) fn integer<'a>(at: &mut Cursor<'_>, bytes: u8, unsigned: bool) -> Result<Value<'a>, Short> {
    Ok(match (bytes, unsigned) {
        (1, true) => Value::UInt(u64::from(at.u8()?)),
        (1, false) => Value::Int(i64::from(at.u8()? as i8)),
        (2, true) => Value::UInt(u64::from(at.u16()?)),
        (2, false) => Value::Int(i64::from(at.u16()? as i16)),
        (3, true) => Value::UInt(u64::from(at.u24()?)),
        // Shifted up and down again to extend the sign.
        (3, false) => Value::Int(i64::from((at.u24()? << 8) as i32 >> 8)),
        (4, true) => Value::UInt(u64::from(at.u32()?)),
        (4, false) => Value::Int(i64::from(at.u32()? as i32)),
        (_, true) => Value::UInt(at.u64()?),
        (_, false) => Value::Int(at.u64()? as i64),
    })
}

#[inline]
pub(super) fn prefixed<'a>(at: &mut Cursor<'a>, prefix: u8) -> Result<&'a [u8], Short> {
    let length = match prefix {
        1 => usize::from(at.u8()?),
        2 => usize::from(at.u16()?),
        other => usize::try_from(at.uint(usize::from(other))?).map_err(|_| Short)?,
    };
    at.take(length)
}

/// Bytes of a fixed length whose trailing zeros the binlog may have left out.
pub(super) fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Short> {
    let mut whole = [0_u8; N];
    whole.get_mut(..bytes.len()).ok_or(Short)?.copy_from_slice(bytes);
    Ok(whole)
}

pub(super) fn padded<'a>(bytes: &[u8], length: usize, arena: &'a Bump) -> &'a [u8] {
    let whole = arena.alloc_slice_fill_copy(length, 0_u8);
    if let Some(front) = whole.get_mut(..bytes.len()) {
        front.copy_from_slice(bytes);
    }
    whole
}

pub(super) fn bits<'a>(bytes: &[u8], length: usize, arena: &'a Bump) -> Value<'a> {
    let mut text = Text::with_capacity_in(length, arena);
    let unused = bytes.len() * 8 - length.min(bytes.len() * 8);
    for place in unused..bytes.len() * 8 {
        let set = bytes.get(place / 8).is_some_and(|byte| byte >> (7 - place % 8) & 1 == 1);
        text.push(if set { '1' } else { '0' });
    }
    Value::Bits(text.into_bump_str())
}

pub(super) fn enumerated(index: u64, labels: &Labels) -> Result<Value<'_>, DecodeError> {
    let Some(place) = index.checked_sub(1) else { return Ok(Value::Enum("")) };
    let label = usize::try_from(place).ok().and_then(|place| labels.get(place));
    Ok(Value::Enum(label.ok_or_else(|| unlabelled(index, labels.len()))??))
}

pub(super) fn set<'a>(mask: u64, labels: &'a Labels, arena: &'a Bump) -> Result<Value<'a>, DecodeError> {
    if labels.len() < 64 && mask >> labels.len() != 0 {
        return Err(DecodeError::row(format!("a set with a member beyond its {} labels", labels.len())));
    }
    let found = arena.alloc_slice_fill_copy(mask.count_ones() as usize, "");
    let places = (0..labels.len().min(64)).filter(|place| mask >> place & 1 == 1);
    for (slot, place) in found.iter_mut().zip(places) {
        *slot = labels.get(place).ok_or(Short)??;
    }
    Ok(Value::Set(found))
}

/// The reference system in four bytes, then WKB. The coordinates are in the order in which the server keeps them, whatever the
/// reference system says: x (longitude), y (latitude), as PostGIS has them too.
pub(super) fn geometry(bytes: &[u8]) -> Result<Value<'_>, Short> {
    // What an ignored error can leave in a column that must not be NULL.
    if bytes.is_empty() {
        return Ok(Value::Geometry(Geometry { wkb: &[], srid: 0 }));
    }
    let mut at = Cursor::new(bytes);
    let srid = at.u32()?;
    Ok(Value::Geometry(Geometry { wkb: at.rest(), srid }))
}

/// Floats of four bytes.
pub(super) fn vector<'a>(bytes: &[u8], arena: &'a Bump) -> Result<Value<'a>, Short> {
    let (numbers, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(Short);
    }
    Ok(Value::Vector(arena.alloc_slice_fill_iter(numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)))))
}

pub(super) fn other<'a>(text: impl std::fmt::Display, arena: &'a Bump) -> Value<'a> {
    let mut out = Text::new_in(arena);
    // Writing to a string can't fail.
    let _ = write!(out, "{text}");
    Value::Other(out.into_bump_str())
}

pub(super) fn inet4<'a>(octets: [u8; 4], arena: &'a Bump) -> Value<'a> {
    other(Ipv4Addr::from(octets), arena)
}

/// MariaDB writes IPv6 as inet_ntop does: dotted quads for mapped (`::ffff:1.2.3.4`) and compatible (`::1.2.3.4`).
pub(super) fn inet6<'a>(octets: [u8; 16], arena: &'a Bump) -> Value<'a> {
    let address = Ipv6Addr::from(octets);
    let [front @ .., a, b, c, d] = octets;
    let compatible = front == [0; 12] && (a != 0 || b != 0);
    if compatible { other(format_args!("::{}", Ipv4Addr::new(a, b, c, d)), arena) } else { other(address, arena) }
}

#[cold]
pub(super) fn unlabelled(index: u64, labels: usize) -> DecodeError {
    DecodeError::row(format!("enum index {index} of {labels} labels"))
}

#[cold]
pub(super) fn undecodable(charset: Charset, name: &str) -> DecodeError {
    if charset == Charset::Unsupported {
        return DecodeError::row(format!("character set `{name}` is not supported"))
            .repair("convert the column to utf8mb4 (ALTER TABLE ... MODIFY ... CHARACTER SET utf8mb4)");
    }
    DecodeError::row(format!("bytes that mean nothing in character set `{name}`"))
        .repair("correct the rows, or give the column the character set that its bytes are in")
}
