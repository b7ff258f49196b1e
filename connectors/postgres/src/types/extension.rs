//! Types of the usual extensions, which have no oid of their own: they are known by the extension that made them and their name.
//!
//! - PostGIS `geometry`, `geography`: EWKB, as hexadecimal digits in text. The SRID is taken out of the header, everything else stays:
//!   Z and M are marked by the two high bits of the types, as PostGIS does.
//! - pgvector `vector`, `halfvec`: `[1,2.5]`; `sparsevec`: `{1:1.5,3:-2}/5`. The floats are the shortest that read back the same,
//!   so that text and binary are the same number.
//!
//! The binary forms are those of their send functions, big-endian but for EWKB, which says itself.

use bumpalo::collections::Vec as BumpVec;
use rowcast_core::value::{Geometry, SparseVector};
use rowcast_core::{Bump, Type, Value};

use super::scalar::{self, Wrong};
use super::{Form, Plan};
use crate::wire::Wire;

/// The plan of a base type that isn't builtin, by its extension, its name, and its send function's name.
pub(super) fn resolve(extension: Option<&str>, name: &str, send: &str) -> (Plan, Type) {
    match (extension, name) {
        (Some("citext"), "citext") => (Plan::Text, Type::Text),
        (Some("hstore"), "hstore") => (Plan::Hstore, Type::Map),
        (Some("postgis"), "geometry" | "geography") => (Plan::Geometry, Type::Geometry),
        (Some("vector"), "vector") => (Plan::Vector, Type::Vector),
        (Some("vector"), "halfvec") => (Plan::HalfVector, Type::Vector),
        (Some("vector"), "sparsevec") => (Plan::SparseVector, Type::Vector),
        (Some("ltree"), "ltree" | "lquery" | "ltxtquery") => (Plan::Other(Form::Versioned), Type::Other),
        _ => {
            let form = match send {
                "-" => Form::Unsendable,
                _ => Form::Opaque,
            };
            (Plan::Other(form), Type::Other)
        }
    }
}

const NO_GEOMETRY: Wrong = "not a geometry in extended well-known binary";

/// EWKB as hexadecimal digits.
pub(super) fn geometry_text<'a>(text: &[u8], arena: &'a Bump) -> Result<Value<'a>, Wrong> {
    geometry(scalar::hex(text, arena).ok_or(NO_GEOMETRY)?, arena)
}

/// EWKB: byte order (1), type (4), SRID (4) if the type has the bit for it, and the coordinates.
pub(super) fn geometry<'a>(ewkb: &'a [u8], arena: &'a Bump) -> Result<Value<'a>, Wrong> {
    const HAS_SRID: u32 = 0x2000_0000;
    let (order, rest) = ewkb.split_first().ok_or(NO_GEOMETRY)?;
    let (kind, rest) = rest.split_first_chunk::<4>().ok_or(NO_GEOMETRY)?;
    let little = match order {
        0 => false,
        1 => true,
        _ => return Err(NO_GEOMETRY),
    };
    let read = |bytes: [u8; 4]| if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) };
    let kind = read(*kind);
    if kind & HAS_SRID == 0 {
        return Ok(Value::Geometry(Geometry { wkb: ewkb, srid: 0 }));
    }
    let (srid, rest) = rest.split_first_chunk::<4>().ok_or(NO_GEOMETRY)?;
    let mut wkb = BumpVec::with_capacity_in(5 + rest.len(), arena);
    wkb.push(*order);
    let kind = kind & !HAS_SRID;
    wkb.extend_from_slice_copy(&if little { kind.to_le_bytes() } else { kind.to_be_bytes() });
    wkb.extend_from_slice_copy(rest);
    Ok(Value::Geometry(Geometry { wkb: wkb.into_bump_slice(), srid: read(*srid) }))
}

const NO_VECTOR: Wrong = "not a vector";

/// The next float of a text; Rust reads some words and signs that the server doesn't write, which is no harm.
fn number(text: &str) -> Result<f32, Wrong> {
    text.parse().map_err(|_| NO_VECTOR)
}

/// `[1,2.5]`
pub(super) fn vector_text<'a>(text: &[u8], arena: &'a Bump) -> Result<Value<'a>, Wrong> {
    let inside = scalar::utf8(text)?.strip_prefix('[').and_then(|text| text.strip_suffix(']')).ok_or(NO_VECTOR)?;
    let mut numbers = BumpVec::new_in(arena);
    if !inside.is_empty() {
        for text in inside.split(',') {
            numbers.push(number(text)?);
        }
    }
    Ok(Value::Vector(numbers.into_bump_slice()))
}

/// `{1:1.5,3:-2}/5`
pub(super) fn sparse_text<'a>(text: &[u8], arena: &'a Bump) -> Result<Value<'a>, Wrong> {
    let (pairs, dimensions) =
        scalar::utf8(text)?.strip_prefix('{').and_then(|text| text.split_once("}/")).ok_or(NO_VECTOR)?;
    let (mut indices, mut values) = (BumpVec::new_in(arena), BumpVec::new_in(arena));
    if !pairs.is_empty() {
        for pair in pairs.split(',') {
            let (index, value) = pair.split_once(':').ok_or(NO_VECTOR)?;
            indices.push(index.parse().map_err(|_| NO_VECTOR)?);
            values.push(number(value)?);
        }
    }
    let dimensions = dimensions.parse().map_err(|_| NO_VECTOR)?;
    let (indices, values) = (indices.into_bump_slice(), values.into_bump_slice());
    Ok(Value::SparseVector(arena.alloc(SparseVector { dimensions, indices, values })))
}

/// Dimensions (2), nothing (2), and the floats.
pub(super) fn vector<'a>(bytes: &[u8], arena: &'a Bump) -> Result<Value<'a>, Wrong> {
    let (count, floats) = vector_head(bytes).ok_or(NO_VECTOR)?;
    let (floats, rest) = floats.as_chunks::<4>();
    if floats.len() != count || !rest.is_empty() {
        return Err(NO_VECTOR);
    }
    Ok(Value::Vector(arena.alloc_slice_fill_iter(floats.iter().map(|float| f32::from_be_bytes(*float)))))
}

/// The same with floats of two bytes.
pub(super) fn half_vector<'a>(bytes: &[u8], arena: &'a Bump) -> Result<Value<'a>, Wrong> {
    let (count, floats) = vector_head(bytes).ok_or(NO_VECTOR)?;
    let (floats, rest) = floats.as_chunks::<2>();
    if floats.len() != count || !rest.is_empty() {
        return Err(NO_VECTOR);
    }
    Ok(Value::Vector(arena.alloc_slice_fill_iter(floats.iter().map(|float| half(u16::from_be_bytes(*float))))))
}

fn vector_head(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (head, floats) = bytes.split_first_chunk::<4>()?;
    let [high, low, ..] = head;
    Some((usize::from(u16::from_be_bytes([*high, *low])), floats))
}

/// An IEEE 754 float of two bytes: sign, five bits of exponent, ten of the fraction.
fn half(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f32::from(bits & 0x3ff));
    match exponent {
        0 => sign * fraction * 2_f32.powi(-24),
        0x1f if fraction == 0.0 => sign * f32::INFINITY,
        0x1f => f32::NAN,
        _ => sign * (1.0 + fraction / 1024.0) * 2_f32.powi(exponent - 15),
    }
}

/// Dimensions, number of values, nothing (4 each), the indices from 0 and the values.
pub(super) fn sparse<'a>(bytes: &[u8], arena: &'a Bump) -> Result<Value<'a>, Wrong> {
    let mut wire = Wire::new(bytes);
    let mut read = || {
        let dimensions = wire.u32()?;
        let count = usize::try_from(wire.u32()?).ok()?;
        wire.u32()?;
        let (indices, _) = wire.take(count.checked_mul(4)?)?.as_chunks::<4>();
        let (values, _) = wire.take(count.checked_mul(4)?)?.as_chunks::<4>();
        (wire.left() == 0).then_some((dimensions, indices, values))
    };
    let (dimensions, indices, values) = read().ok_or(NO_VECTOR)?;
    let indices = indices.iter().map(|index| u32::from_be_bytes(*index).saturating_add(1));
    Ok(Value::SparseVector(arena.alloc(SparseVector {
        dimensions,
        indices: arena.alloc_slice_fill_iter(indices),
        values: arena.alloc_slice_fill_iter(values.iter().map(|value| f32::from_be_bytes(*value))),
    })))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// `SELECT ST_SetSRID(ST_MakePoint(1, 2), 4326)` and the same without a reference system.
    const POINT_4326: &[u8] = b"0101000020E6100000000000000000F03F0000000000000040";
    const POINT: &[u8] = b"0101000000000000000000F03F0000000000000040";

    #[test]
    fn a_geometry_is_its_plain_form_and_its_srid() {
        let arena = Bump::new();
        let plain = scalar::hex(POINT, &arena).unwrap();
        for (text, srid) in [(POINT_4326, 4326), (POINT, 0)] {
            assert_eq!(geometry_text(text, &arena), Ok(Value::Geometry(Geometry { wkb: plain, srid })));
        }
        // big-endian, with Z
        let ewkb = [&[0_u8, 0xa0, 0, 0, 1, 0, 0, 0x10, 0xe6][..], &[7; 24]].concat();
        let expected = [&[0_u8, 0x80, 0, 0, 1][..], &[7; 24]].concat();
        assert_eq!(geometry(&ewkb, &arena), Ok(Value::Geometry(Geometry { wkb: &expected, srid: 4326 })));
        for bad in [&b""[..], b"0", b"01", b"0201000000", b"0101000020E610", b"zz01000000"] {
            assert!(geometry_text(bad, &arena).is_err());
        }
    }

    #[test]
    fn vectors_are_numbers_in_both_forms() {
        let arena = Bump::new();
        let expected = Ok(Value::Vector(&[1.0, -2.5, 0.1]));
        assert_eq!(vector_text(b"[1,-2.5,0.1]", &arena), expected);
        let binary: Vec<u8> =
            [0, 3, 0, 0].into_iter().chain([1.0_f32, -2.5, 0.1].iter().flat_map(|it| it.to_be_bytes())).collect();
        assert_eq!(vector(&binary, &arena), expected);
        assert!(vector(binary.get(..15).unwrap(), &arena).is_err());
        for text in ["", "[", "[1", "[,]", "[1,]", "1,2", "[a]"] {
            assert!(vector_text(text.as_bytes(), &arena).is_err(), "{text}");
        }
    }

    #[test]
    fn halves_are_the_floats_that_they_stand_for() {
        for (bits, expected) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65_504.0),
            (0x0400, 6.103_515_6e-5),
            (0x0001, 5.960_464_5e-8),
            (0x03ff, 6.097_555e-5),
            (0x3555, 0.333_251_95),
            (0, 0.0),
            (0x7c00, f32::INFINITY),
        ] {
            assert_eq!(half(bits), expected, "{bits:x}");
        }
        assert!(half(0x7e00).is_nan());
        assert!(half(0x8000).is_sign_negative());
        let arena = Bump::new();
        assert_eq!(half_vector(&[0, 2, 0, 0, 0x3c, 0, 0xc0, 0], &arena), Ok(Value::Vector(&[1.0, -2.0])));
        assert!(half_vector(&[0, 2, 0, 0, 0x3c, 0, 0xc0], &arena).is_err());
    }

    #[test]
    fn sparse_vectors_count_from_one_in_both_forms() {
        let arena = Bump::new();
        let it = SparseVector { dimensions: 5, indices: &[1, 3], values: &[1.5, -2.0] };
        assert_eq!(sparse_text(b"{1:1.5,3:-2}/5", &arena), Ok(Value::SparseVector(&it)));
        let binary: Vec<u8> =
            [5_u32, 2, 0, 0, 2, 1.5_f32.to_bits(), (-2_f32).to_bits()].iter().flat_map(|it| it.to_be_bytes()).collect();
        assert_eq!(sparse(&binary, &arena), Ok(Value::SparseVector(&it)));
        assert!(sparse(binary.get(..27).unwrap(), &arena).is_err());
        assert!(sparse(&[0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0], &arena).is_err());
        let none = SparseVector { dimensions: 3, indices: &[], values: &[] };
        assert_eq!(sparse_text(b"{}/3", &arena), Ok(Value::SparseVector(&none)));
        for text in ["", "{}", "{}/", "{1}/2", "{1:}/2", "{1:1/2"] {
            assert!(sparse_text(text.as_bytes(), &arena).is_err(), "{text}");
        }
    }
}
