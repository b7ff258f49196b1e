//! The server's name of a type (`varchar(60)`, `enum('a','b')`), as far as the log tells it: for tables that the catalog doesn't have
//! any more as the log has them.
//!
//! It is what information_schema has as COLUMN_TYPE, without what is for display only: MariaDB's widths of integers, ZEROFILL.

use rowcast_core::Type;

use crate::binlog::table_map::{Optional, WireType, wire};
use crate::rows::charset::Charset;
use crate::rows::kind::Kind;

/// Names of geometries by their numbers in WKB.
const SHAPES: [&str; 8] =
    ["geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon", "geomcollection"];

/// The name of the type of column `index`.
pub(crate) fn native(column: &WireType, kind: &Kind, optional: &Optional, index: usize) -> String {
    match kind {
        Kind::Text { name, compressed, .. } => {
            string(column, Charset::width(name), *compressed, ["char", "varchar", "text"])
        }
        Kind::Bytes { compressed, .. } => string(column, 1, *compressed, ["binary", "varbinary", "blob"]),
        Kind::Geometry { .. } => {
            let shape = optional.shapes.get(index).copied().flatten().unwrap_or(0);
            usize::try_from(shape).ok().and_then(|shape| SHAPES.get(shape)).copied().unwrap_or("geometry").to_owned()
        }
        Kind::Vector { .. } => match optional.dimensions.get(index).copied().flatten() {
            Some(dimensions) => format!("vector({dimensions})"),
            None => "vector".to_owned(),
        },
        Kind::Inet4 => "inet4".to_owned(),
        Kind::Inet6 => "inet6".to_owned(),
        _ => by_type(&kind.ty()),
    }
}

fn by_type(ty: &Type) -> String {
    let digits = |base: &str, digits: u8| if digits == 0 { base.to_owned() } else { format!("{base}({digits})") };
    let labels = |base: &str, labels: &[String]| {
        let quoted: Vec<String> =
            labels.iter().map(|label| format!("'{}'", label.replace('\\', "\\\\").replace('\'', "''"))).collect();
        format!("{base}({})", quoted.join(","))
    };
    match ty {
        Type::Int { bits, unsigned } => {
            let base = match bits {
                8 => "tinyint",
                16 => "smallint",
                24 => "mediumint",
                32 => "int",
                _ => "bigint",
            };
            format!("{base}{}", if *unsigned { " unsigned" } else { "" })
        }
        Type::Decimal { precision_scale: Some((precision, scale)) } => format!("decimal({precision},{scale})"),
        Type::Bits { length: Some(length) } => format!("bit({length})"),
        Type::Time { digits: d } => digits("time", *d),
        Type::DateTime { digits: d } => digits("datetime", *d),
        Type::Instant { digits: d } => digits("timestamp", *d),
        Type::Enum { labels: all } => labels("enum", all),
        Type::Set { labels: all } => labels("set", all),
        other => other.name().to_owned(),
    }
}

/// Texts and bytes. `names` are those of fixed and of variable length, and of what has no length.
fn string(column: &WireType, width: u16, compressed: bool, names: [&str; 3]) -> String {
    let [fixed, variable, large] = names;
    // A compressed value has a byte in front.
    let length = (column.length - u16::from(compressed).min(column.length)) / width;
    let name = match column.kind {
        wire::STRING => format!("{fixed}({length})"),
        wire::VARCHAR | wire::VAR_STRING | wire::VARCHAR_COMPRESSED => format!("{variable}({length})"),
        _ => {
            let size = match column.a {
                1 => "tiny",
                3 => "medium",
                4 => "long",
                _ => "",
            };
            format!("{size}{large}")
        }
    };
    if compressed { name + " /*M!100301 COMPRESSED*/" } else { name }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::rows::Attributes;
    use crate::rows::labels::Labels;

    #[test]
    fn types_are_named_as_the_server_names_them() {
        let named = |column: WireType, charset: &str| {
            let labels = Labels::of_type(r"enum('a''b','c\\d')", Some("latin1"));
            let attributes = Attributes { charset: Some(charset.to_owned()), labels, ..Attributes::default() };
            let kind = Kind::new(&column, &attributes).unwrap();
            let optional = Optional { shapes: vec![Some(3)], dimensions: vec![Some(7)], ..Optional::default() };
            native(&column, &kind, &optional, 0)
        };
        let of = |kind, a, b, length| WireType { kind, a, b, length };
        for (column, charset, expected) in [
            (of(wire::STRING, 0, 0, 1020), "utf8mb4", "char(255)"),
            (of(wire::VARCHAR, 0, 0, 180), "utf8mb3", "varchar(60)"),
            (of(wire::VARCHAR, 0, 0, 60), "latin1", "varchar(60)"),
            (of(wire::VARCHAR, 0, 0, 60), "gbk", "varchar(30)"),
            (of(wire::VARCHAR_COMPRESSED, 0, 0, 401), "utf8mb4", "varchar(100) /*M!100301 COMPRESSED*/"),
            (of(wire::STRING, 0, 0, 5), "binary", "binary(5)"),
            (of(wire::VARCHAR, 0, 0, 300), "binary", "varbinary(300)"),
            (of(wire::BLOB, 4, 0, 0), "utf8mb4", "longtext"),
            (of(wire::BLOB, 2, 0, 0), "binary", "blob"),
            (of(wire::GEOMETRY, 4, 0, 0), "binary", "polygon"),
            (of(wire::VECTOR, 4, 0, 0), "binary", "vector(7)"),
            (of(wire::DATETIME2, 3, 0, 0), "binary", "datetime(3)"),
            (of(wire::ENUM, 1, 0, 0), "latin1", r"enum('a''b','c\\d')"),
            (of(wire::NEWDECIMAL, 12, 2, 0), "binary", "decimal(12,2)"),
        ] {
            assert_eq!(named(column, charset), expected);
        }
    }
}
