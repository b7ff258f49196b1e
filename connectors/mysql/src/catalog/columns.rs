//! From a TABLE_MAP and the catalog to a table version.
//!
//! The event decides: it is as old as the rows. The catalog adds names, labels and key where the event lacks them
//! (`binlog_row_metadata=MINIMAL`), and the server's type names, if both agree on the number and type of all columns
//! (and on their names, if the event has them). If they don't agree, an event with names stands alone, but for MariaDB's types that it can't
//! tell from others, which are the catalog's by name; and one without is an error: guessing which column is which would be silent corruption.

use std::collections::HashMap;

use rowcast_core::{Column, Table, TableName, Type};

use super::native::native;
use super::tables::{CatalogColumn, CatalogTable};
use crate::binlog::table_map::{Optional, TableMap, WireType, is_old_time};
use crate::rows::charset::Charset;
use crate::rows::labels::Labels;
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
        (None, Some(names), _) => {
            let told = with_specials(map, names, &in_band, catalog);
            (kinds(&map.columns, &told, Some(names))?, optional.key.clone())
        }
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
            let known = catalog.and_then(|table| table.columns.get(index)).filter(|column| agree(kind, column));
            let name = optional.names.as_ref().and_then(|names| names.get(index)).cloned();
            let told = || map.columns.get(index).map_or_else(String::new, |wire| native(wire, kind, optional, index));
            Column {
                name: name.or_else(|| known.map(|column| column.name.clone())).unwrap_or_default(),
                // Labels as the catalog shows them: a copy knows no others, and the same table must be the same version.
                ty: known.map_or_else(|| kind.ty(), |column| column.ty.clone()),
                native: known.map_or_else(told, |column| column.native.clone()),
                nullable: map.nullable.get(index).copied(),
                facts: known.and_then(|column| column.facts.clone()),
            }
        })
        .collect();
    let version = Table::new(name, columns, key, Box::new(Plan::new(kinds)));
    Ok(match catalog {
        Some(catalog) => catalog.described(version),
        None => version,
    })
}

/// Whether what the catalog says of a table fits the event: number and types of all columns, and their names if it has them.
pub(crate) fn fits(
    map: &TableMap<'_>,
    optional: &Optional,
    catalog: &CatalogTable,
    charsets: &HashMap<u32, String>,
) -> bool {
    with_catalog(map, optional, &in_band(map, optional, charsets), catalog).is_some()
}

/// What the event says, and of each column that the catalog knows by this name whether it is one of MariaDB's types that look like others
/// in the log: a table that was altered since its rows were written would else have its JSON as text.
fn with_specials(
    map: &TableMap<'_>,
    names: &[String],
    in_band: &[Attributes],
    catalog: Option<&CatalogTable>,
) -> Vec<Attributes> {
    let special = |(wire, name): (&WireType, &String), ours: &Attributes| {
        let theirs = catalog?.columns.iter().find(|column| column.name == *name)?;
        let attributes = Attributes { special: theirs.special, ..ours.clone() };
        Kind::new(wire, &attributes).is_ok_and(|kind| agree(&kind, theirs)).then_some(attributes)
    };
    let columns = map.columns.iter().zip(names).zip(in_band);
    columns.map(|(column, ours)| special(column, ours).unwrap_or_else(|| ours.clone())).collect()
}

/// What the event itself says about its columns.
fn in_band(map: &TableMap<'_>, optional: &Optional, charsets: &HashMap<u32, String>) -> Vec<Attributes> {
    (0..map.columns.len())
        .map(|index| {
            let collation = optional.collations.get(index).copied().flatten();
            let charset = collation.and_then(|id| charsets.get(&id)).cloned();
            let labels = optional.labels.get(index).map_or(&[][..], Vec::as_slice);
            Attributes {
                unsigned: optional.unsigned.as_ref().and_then(|all| all.get(index)).copied().unwrap_or(false),
                labels: Labels::of_bytes(labels, charset.as_deref().map_or(Charset::Utf8, Charset::named)),
                charset,
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

/// Whether a column of the event may be one of the catalog.
fn agree(kind: &Kind, theirs: &CatalogColumn) -> bool {
    match (kind, &theirs.ty) {
        (Kind::Enum { labels, .. }, Type::Enum { .. }) | (Kind::Set { labels, .. }, Type::Set { .. }) => {
            labels.fit(&theirs.labels)
        }
        (kind, ty) => kind.ty() == *ty,
    }
}

/// Gives MariaDB's old times their fractions, which the event doesn't have, if the catalog is about the same columns.
pub(crate) fn add_fractions(map: &mut TableMap<'_>, catalog: Option<&CatalogTable>) {
    let Some(catalog) = catalog.filter(|catalog| catalog.columns.len() == map.columns.len()) else { return };
    for (wire, theirs) in map.columns.iter_mut().zip(&catalog.columns).filter(|(wire, _)| is_old_time(wire.kind)) {
        if let Type::Time { digits } | Type::DateTime { digits } | Type::Instant { digits } = theirs.ty
            && digits <= 6
        {
            wire.a = digits;
        }
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
        if !agree(&kind, theirs) {
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
