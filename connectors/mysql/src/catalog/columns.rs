//! From a TABLE_MAP and the catalog to a table version.
//!
//! The event decides: it is as old as the rows. The catalog adds names, labels and key where the event lacks them
//! (`binlog_row_metadata=MINIMAL`), and the server's type names, if both agree on the number and type of all columns
//! (and on their names, if the event has them). If they don't agree, an event with names stands alone, and one without
//! is an error: guessing which column is which would be silent corruption.

use std::collections::HashMap;

use rowcast_core::{Column, Table, TableName, Type};

use super::tables::CatalogTable;
use crate::binlog::table_map::{Optional, TableMap, WireType};
use crate::rows::charset::Charset;
use crate::rows::{Attributes, Kind, Plan};

/// Builds a version.
///
/// # Errors
/// A sentence: a type that isn't supported, or no way to know the columns' names.
pub(crate) fn build(
    name: TableName,
    map: &TableMap<'_>,
    optional: &Optional,
    catalog: Option<&CatalogTable>,
    charsets: &HashMap<u32, String>,
) -> Result<Table, String> {
    let in_band = in_band(map, optional, charsets);
    let agreed = catalog.and_then(|table| with_catalog(map, optional, &in_band, table));
    let (kinds, key) = match (agreed, &optional.names, catalog) {
        (Some(found), _, _) => found,
        (None, Some(_), _) => (kinds(&map.columns, &in_band, optional.names.as_deref())?, optional.key.clone()),
        (None, None, None) => {
            return Err("its columns' names aren't in the binlog (binlog_row_metadata=MINIMAL), and the table is not \
                        in information_schema (any more)"
                .to_owned());
        }
        (None, None, Some(_)) => {
            // A column that can't be decoded at all is the better explanation.
            kinds(&map.columns, &in_band, None).map_err(|error| error.clone())?;
            return Err("its columns' names aren't in the binlog (binlog_row_metadata=MINIMAL), and its columns in \
                        information_schema are others than those of the row event: it was altered in between"
                .to_owned());
        }
    };
    let catalog = if agrees_by_name(optional, catalog) { catalog } else { None };
    let columns = kinds
        .iter()
        .enumerate()
        .map(|(index, kind)| {
            let known = catalog.and_then(|table| table.columns.get(index)).filter(|column| column.ty == kind.ty());
            let name = optional.names.as_ref().and_then(|names| names.get(index)).cloned();
            Column {
                name: name.or_else(|| known.map(|column| column.name.clone())).unwrap_or_default(),
                ty: kind.ty(),
                native: known.map_or_else(|| native(kind), |column| column.native.clone()),
                nullable: map.nullable.get(index).copied(),
            }
        })
        .collect();
    Ok(Table::new(name, columns, key, Box::new(Plan::new(kinds))))
}

/// What the event itself says about its columns.
fn in_band(map: &TableMap<'_>, optional: &Optional, charsets: &HashMap<u32, String>) -> Vec<Attributes> {
    (0..map.columns.len())
        .map(|index| {
            let collation = optional.collations.get(index).copied().flatten();
            let charset = collation.and_then(|id| charsets.get(&id)).cloned();
            let decoder = charset.as_deref().map_or(Charset::Utf8, Charset::named);
            let arena = rowcast_core::Bump::new();
            let label = |bytes: &Vec<u8>| match decoder {
                Charset::Binary => String::from_utf8_lossy(bytes).into_owned(),
                _ => decoder.decode(bytes, &arena).map_or_else(|| String::from_utf8_lossy(bytes).into(), str::to_owned),
            };
            Attributes {
                unsigned: optional.unsigned.as_ref().and_then(|all| all.get(index)).copied().unwrap_or(false),
                charset,
                labels: optional.labels.get(index).map_or_else(Vec::new, |all| all.iter().map(label).collect()),
                special: crate::rows::Special::None,
            }
        })
        .collect()
}

fn agrees_by_name(optional: &Optional, catalog: Option<&CatalogTable>) -> bool {
    match (&optional.names, catalog) {
        (Some(names), Some(table)) => names.iter().eq(table.columns.iter().map(|column| &column.name)),
        _ => true,
    }
}

/// Kinds and key with the catalog's help; none if it is about other columns.
fn with_catalog(
    map: &TableMap<'_>,
    optional: &Optional,
    in_band: &[Attributes],
    catalog: &CatalogTable,
) -> Option<(Vec<Kind>, Vec<usize>)> {
    if catalog.columns.len() != map.columns.len() || !agrees_by_name(optional, Some(catalog)) {
        return None;
    }
    let mut kinds = Vec::with_capacity(map.columns.len());
    for ((wire, ours), theirs) in map.columns.iter().zip(in_band).zip(&catalog.columns) {
        let attributes = Attributes {
            unsigned: if optional.unsigned.is_some() { ours.unsigned } else { theirs.unsigned },
            charset: ours.charset.clone().or_else(|| theirs.charset.clone().or(Some("binary".to_owned()))),
            labels: if optional.names.is_some() { ours.labels.clone() } else { theirs.labels.clone() },
            special: theirs.special,
        };
        let kind = Kind::new(wire, &attributes).ok()?;
        if kind.ty() != theirs.ty {
            return None;
        }
        kinds.push(kind);
    }
    // The event knows of primary keys only; the catalog takes a unique index where there is none.
    let known = optional.names.is_some() && !optional.key.is_empty();
    let key = if known { optional.key.clone() } else { catalog.key.clone() };
    Some((kinds, key))
}

fn kinds(columns: &[WireType], attributes: &[Attributes], names: Option<&[String]>) -> Result<Vec<Kind>, String> {
    columns
        .iter()
        .zip(attributes)
        .enumerate()
        .map(|(index, (wire, attributes))| {
            Kind::new(wire, attributes).map_err(|error| {
                let name = names.and_then(|names| names.get(index)).map_or("?", String::as_str);
                format!("column {} (`{name}`): {error}", index + 1)
            })
        })
        .collect()
}

/// The server's name of a type, as far as the event tells it.
fn native(kind: &Kind) -> String {
    let digits = |base: &str, digits: u8| if digits == 0 { base.to_owned() } else { format!("{base}({digits})") };
    match kind.ty() {
        Type::Int { bits, unsigned } => {
            let base = match bits {
                8 => "tinyint",
                16 => "smallint",
                24 => "mediumint",
                32 => "int",
                _ => "bigint",
            };
            format!("{base}{}", if unsigned { " unsigned" } else { "" })
        }
        Type::Decimal { precision_scale: Some((precision, scale)) } => format!("decimal({precision},{scale})"),
        Type::Bits { length: Some(length) } => format!("bit({length})"),
        Type::Time { digits: d } => digits("time", d),
        Type::DateTime { digits: d } => digits("datetime", d),
        Type::Instant { digits: d } => digits("timestamp", d),
        Type::Bytes => "binary".to_owned(),
        other => other.name().to_owned(),
    }
}
