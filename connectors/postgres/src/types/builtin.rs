//! The types that every server has under the same oid: no catalog query is needed for them.
//!
//! Oids are those of `pg_type.dat`, which never change. The native names are what `format_type` writes; where
//! its rules are involved (interval fields, `bit` without length) [`native`] gives none and the catalog is asked.

use rowcast_core::Type;

use super::{ArrayPlan, Form, Plan};

/// oid, oid of its array type, name.
type Row = (u32, u32, &'static str);

/// Types with a variant of their own; `bpchar`, `varchar`, `bit` and the like get their modifiers in [`native`].
const PLAIN: &[Row] = &[
    (16, 1000, "boolean"),
    (17, 1001, "bytea"),
    (18, 1002, "\"char\""),
    (19, 1003, "name"),
    (20, 1016, "bigint"),
    (21, 1005, "smallint"),
    (22, 1006, "int2vector"),
    (23, 1007, "integer"),
    (25, 1009, "text"),
    (26, 1028, "oid"),
    (30, 1013, "oidvector"),
    (114, 199, "json"),
    (700, 1021, "real"),
    (701, 1022, "double precision"),
    (1042, 1014, "character"),
    (1043, 1015, "character varying"),
    (1082, 1182, "date"),
    (1083, 1183, "time without time zone"),
    (1114, 1115, "timestamp without time zone"),
    (1184, 1185, "timestamp with time zone"),
    (1186, 1187, "interval"),
    (1266, 1270, "time with time zone"),
    (1560, 1561, "bit"),
    (1562, 1563, "bit varying"),
    (1700, 1231, "numeric"),
    (2950, 2951, "uuid"),
    (3802, 3807, "jsonb"),
];

/// Types that are given as the server's text, by what their binary form is. Geometric types have none that is exact: their
/// text has floats by the server's own rules. `money` is missing: its text is the locale's, which only the server knows.
const OTHER: &[(Row, Form)] = &[
    ((24, 1008, "regproc"), Form::Opaque),
    ((27, 1010, "tid"), Form::Tid),
    ((28, 1011, "xid"), Form::Number),
    ((29, 1012, "cid"), Form::Number),
    ((142, 143, "xml"), Form::Text),
    ((600, 1017, "point"), Form::Opaque),
    ((601, 1018, "lseg"), Form::Opaque),
    ((602, 1019, "path"), Form::Opaque),
    ((603, 1020, "box"), Form::Opaque),
    ((604, 1027, "polygon"), Form::Opaque),
    ((628, 629, "line"), Form::Opaque),
    ((650, 651, "cidr"), Form::Network),
    ((718, 719, "circle"), Form::Opaque),
    ((774, 775, "macaddr8"), Form::Mac),
    ((829, 1040, "macaddr"), Form::Mac),
    ((869, 1041, "inet"), Form::Network),
    ((1033, 1034, "aclitem"), Form::Unsendable),
    ((1790, 2201, "refcursor"), Form::Text),
    ((2202, 2207, "regprocedure"), Form::Opaque),
    ((2203, 2208, "regoper"), Form::Opaque),
    ((2204, 2209, "regoperator"), Form::Opaque),
    ((2205, 2210, "regclass"), Form::Opaque),
    ((2206, 2211, "regtype"), Form::Opaque),
    ((2970, 2949, "txid_snapshot"), Form::Snapshot),
    ((3220, 3221, "pg_lsn"), Form::Lsn),
    ((3614, 3643, "tsvector"), Form::TsVector),
    ((3615, 3645, "tsquery"), Form::Opaque),
    ((3642, 3644, "gtsvector"), Form::Unsendable),
    ((3734, 3735, "regconfig"), Form::Opaque),
    ((3769, 3770, "regdictionary"), Form::Opaque),
    ((4072, 4073, "jsonpath"), Form::Versioned),
    ((4089, 4090, "regnamespace"), Form::Opaque),
    ((4096, 4097, "regrole"), Form::Opaque),
    ((4191, 4192, "regcollation"), Form::Opaque),
    ((5038, 5039, "pg_snapshot"), Form::Snapshot),
    ((5069, 271, "xid8"), Form::Xid8),
];

/// Ranges and multiranges, with the oid of what they are of.
const RANGES: &[(Row, Row, u32)] = &[
    ((3904, 3905, "int4range"), (4451, 6150, "int4multirange"), 23),
    ((3906, 3907, "numrange"), (4532, 6151, "nummultirange"), 1700),
    ((3908, 3909, "tsrange"), (4533, 6152, "tsmultirange"), 1114),
    ((3910, 3911, "tstzrange"), (4534, 6153, "tstzmultirange"), 1184),
    ((3912, 3913, "daterange"), (4535, 6155, "datemultirange"), 1082),
    ((3926, 3927, "int8range"), (4536, 6157, "int8multirange"), 20),
];

/// `box[]` is the only built-in array that isn't delimited by commas.
const BOX: u32 = 603;

/// Every builtin type.
fn rows() -> impl Iterator<Item = &'static Row> {
    let ranges = RANGES.iter().flat_map(|(range, multirange, _)| [range, multirange]);
    PLAIN.iter().chain(OTHER.iter().map(|(row, _)| row)).chain(ranges)
}

/// The oids of all of them and of their arrays.
#[cfg(feature = "fuzzing")]
pub(crate) fn oids() -> impl Iterator<Item = u32> {
    rows().flat_map(|(scalar, array, _)| [*scalar, *array])
}

enum Found {
    Scalar(Row),
    Array(Row),
}

fn find(oid: u32) -> Option<Found> {
    rows().find_map(|row| match row {
        (scalar, _, _) if *scalar == oid => Some(Found::Scalar(*row)),
        (_, array, _) if *array == oid => Some(Found::Array(*row)),
        _ => None,
    })
}

/// The plan and logical type of a builtin; none for any other oid.
pub(crate) fn plan(oid: u32, typmod: i32) -> Option<(Plan, Type)> {
    match find(oid)? {
        Found::Scalar(_) => Some(scalar(oid, typmod)),
        Found::Array((element, _, _)) => {
            let (plan, ty) = scalar(element, typmod);
            let delimiter = if element == BOX { b';' } else { b',' };
            Some((Plan::Array(Box::new(ArrayPlan { element: plan, delimiter })), Type::Array(Box::new(ty))))
        }
    }
}

fn scalar(oid: u32, typmod: i32) -> (Plan, Type) {
    let int = |bits| (Plan::Int, Type::Int { bits, unsigned: false });
    let digits = fraction_digits(typmod);
    match oid {
        16 => (Plan::Bool, Type::Bool),
        17 => (Plan::Bytes, Type::Bytes),
        18 => (Plan::Char, Type::Text),
        19 | 25 | 1042 | 1043 => (Plan::Text, Type::Text),
        20 => int(64),
        21 => int(16),
        23 => int(32),
        26 => (Plan::Oid, Type::Int { bits: 32, unsigned: true }),
        22 | 30 => {
            let (plan, ty) = scalar(if oid == 22 { 21 } else { 26 }, -1);
            (Plan::Spaced(Box::new(plan)), Type::Array(Box::new(ty)))
        }
        114 => (Plan::Json, Type::Json),
        3802 => (Plan::JsonB, Type::Json),
        700 => (Plan::Float, Type::Float),
        701 => (Plan::Double, Type::Double),
        1082 => (Plan::Date, Type::Date),
        1083 => (Plan::Time(digits), Type::Time { digits }),
        1114 => (Plan::DateTime(digits), Type::DateTime { digits }),
        1184 => (Plan::Instant(digits), Type::Instant { digits }),
        1186 => (Plan::Interval, Type::Interval),
        1266 => (Plan::TimeTz(digits), Type::TimeTz { digits }),
        1560 | 1562 => (Plan::Bits, Type::Bits { length: u32::try_from(typmod).ok() }),
        1700 => (Plan::Decimal, Type::Decimal { precision_scale: precision_scale(typmod) }),
        2950 => (Plan::Uuid, Type::Uuid),
        _ => ranged(oid).unwrap_or_else(|| {
            let form = OTHER.iter().find(|((other, ..), _)| *other == oid).map_or(Form::Opaque, |(_, form)| *form);
            (Plan::Other(form), Type::Other)
        }),
    }
}

/// A range or multirange.
fn ranged(oid: u32) -> Option<(Plan, Type)> {
    RANGES.iter().find_map(|((range, ..), (multirange, ..), element)| {
        let of = || scalar(*element, -1);
        if *range == oid {
            let (plan, ty) = of();
            Some((Plan::Range(Box::new(plan)), Type::Range(Box::new(ty))))
        } else if *multirange == oid {
            let (plan, ty) = of();
            Some((Plan::Multirange(Box::new(plan)), Type::Multirange(Box::new(ty))))
        } else {
            None
        }
    })
}

/// Declared digits of a time type; six unless declared.
fn fraction_digits(typmod: i32) -> u8 {
    u8::try_from(typmod).ok().filter(|digits| *digits <= 6).unwrap_or(6)
}

/// Precision and scale as `numeric.c` packs them: the scale has eleven bits, signed since version 15.
fn precision_scale(typmod: i32) -> Option<(u16, i16)> {
    let packed = typmod.checked_sub(4).filter(|packed| *packed >= 0)?;
    let scale = ((packed & 0x7ff) ^ 1024) - 1024;
    Some((((packed >> 16) & 0xffff) as u16, scale as i16))
}

/// The name as `format_type(oid, typmod)` writes it; none if only the server knows.
pub(crate) fn native(oid: u32, typmod: i32) -> Option<String> {
    match find(oid)? {
        Found::Scalar(row) => named(row, typmod),
        Found::Array(row) => named(row, typmod).map(|name| name + "[]"),
    }
}

fn named((oid, _, name): Row, typmod: i32) -> Option<String> {
    if typmod < 0 {
        // without a length these two are written as `bpchar` and `"bit"`, since SQL means a length of one
        return match oid {
            1042 => Some("bpchar".to_owned()),
            1560 => None,
            _ => Some(name.to_owned()),
        };
    }
    match oid {
        1042 | 1043 => Some(format!("{name}({})", typmod.checked_sub(4)?)),
        1560 | 1562 => Some(format!("{name}({typmod})")),
        1083 => Some(format!("time({typmod}) without time zone")),
        1114 => Some(format!("timestamp({typmod}) without time zone")),
        1184 => Some(format!("timestamp({typmod}) with time zone")),
        1266 => Some(format!("time({typmod}) with time zone")),
        1700 => precision_scale(typmod).map(|(precision, scale)| format!("{name}({precision},{scale})")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn modifiers_are_read_as_the_server_packs_them() {
        let typmod = |precision: i32, scale: i32| ((precision << 16) | (scale & 0x7ff)) + 4;
        assert_eq!(native(1700, typmod(12, 2)).unwrap(), "numeric(12,2)");
        assert_eq!(native(1700, typmod(3, -2)).unwrap(), "numeric(3,-2)");
        assert_eq!(native(1231, typmod(12, 2)).unwrap(), "numeric(12,2)[]");
        assert_eq!(native(1700, -1).unwrap(), "numeric");
        assert_eq!(native(1043, 24).unwrap(), "character varying(20)");
        assert_eq!(native(1184, 3).unwrap(), "timestamp(3) with time zone");
        assert_eq!(native(1042, -1).unwrap(), "bpchar");
        assert_eq!(native(1186, 3), None);
        assert_eq!(plan(1114, 3).unwrap().1, Type::DateTime { digits: 3 });
        assert_eq!(plan(1083, -1).unwrap().1, Type::Time { digits: 6 });
    }

    #[test]
    fn no_oid_occurs_twice() {
        let mut oids: Vec<u32> = rows().flat_map(|(a, b, _)| [*a, *b]).collect();
        let count = oids.len();
        oids.sort_unstable();
        oids.dedup();
        assert_eq!(oids.len(), count);
    }
}
