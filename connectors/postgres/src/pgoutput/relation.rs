//! A Relation message into a [`Table`]: column types, key, and the plan that decodes its rows.
//!
//! The message says names, type oids and which columns are the replica identity. The rest is the catalog's: what
//! a user-defined type is, the order of a composite key, the key behind `REPLICA IDENTITY FULL` (the primary key, else
//! a unique index that tells every row apart). The catalog describes the table as it is *now*; where it doesn't fit the message, which describes it as of the
//! change, the message is believed.
//!
//! What it can't say of the past: with `full` and `nothing` the key is the catalog's, of now. Changes that are decoded after the key
//! of such a table was altered have the new one.
//!
//! Nullability isn't in the message, so it stays unknown, unless the table is described ([`crate::catalog::describe`]).

use std::collections::HashMap;
use std::sync::Arc;

use rowcast_core::{Column, Table, TableName};

use super::message::Relation;
use crate::catalog::describe::Description;
use crate::types::row::{ColumnPlan, RowPlan};
use crate::types::{CatalogType, builtin, resolve};

/// What the catalog knows about a relation.
#[derive(Debug, Default)]
pub(crate) struct CatalogFacts {
    /// The types that aren't builtin, and those that they are made of.
    pub(crate) types: HashMap<u32, CatalogType>,
    /// `format_type` of (oid, typmod).
    pub(crate) names: HashMap<(u32, i32), String>,
    /// Columns of the primary key in key order; empty if there is none.
    pub(crate) primary_key: Vec<String>,
    /// Columns of the replica identity's index in key order; empty if there is none.
    pub(crate) identity_index: Vec<String>,
    /// Columns, in key order, of the first index by name that tells every row apart: unique, valid, checked at once, over
    /// all rows, of columns that can't be NULL. Empty if there is none.
    pub(crate) unique_key: Vec<String>,
    /// The table's identity is `full`, that of one of its partitions isn't: the server sends its old rows with NULL for each column
    /// that wasn't logged.
    pub(crate) narrower: bool,
    /// What schemas say besides, if it is wanted.
    pub(crate) description: Option<Description>,
}

/// Whether the message alone doesn't say everything.
pub(crate) fn needs_catalog(relation: &Relation) -> bool {
    let known = relation.columns.iter().all(|column| {
        builtin::plan(column.oid, column.typmod).is_some() && builtin::native(column.oid, column.typmod).is_some()
    });
    let key_known = match relation.replica_identity {
        // a key of one column has no order
        b'd' | b'i' => relation.columns.iter().filter(|column| column.identity).count() <= 1,
        _ => false,
    };
    !(known && key_known)
}

/// Indexes of the key columns, in key order.
fn key(relation: &Relation, facts: &CatalogFacts) -> Vec<usize> {
    let flagged = || -> Vec<usize> {
        relation.columns.iter().enumerate().filter(|(_, column)| column.identity).map(|(index, _)| index).collect()
    };
    let indexes = |names: &[String]| -> Option<Vec<usize>> {
        names.iter().map(|name| relation.columns.iter().position(|column| column.name == *name)).collect()
    };
    match relation.replica_identity {
        // all columns are flagged with `full`, none with `nothing`: only the catalog knows the key
        b'f' | b'n' => {
            let names = if facts.primary_key.is_empty() { &facts.unique_key } else { &facts.primary_key };
            indexes(names).unwrap_or_default()
        }
        identity => {
            let names = if identity == b'i' { &facts.identity_index } else { &facts.primary_key };
            let (ordered, flagged) = (indexes(names).unwrap_or_default(), flagged());
            let mut sorted = ordered.clone();
            sorted.sort_unstable();
            if sorted == flagged { ordered } else { flagged }
        }
    }
}

/// The first column whose values can't be decoded from their binary form, as its key or at all.
pub(crate) fn without_binary<'a>(relation: &'a Relation, facts: &CatalogFacts) -> Option<&'a str> {
    let key = key(relation, facts);
    relation.columns.iter().enumerate().find_map(|(index, column)| {
        let (plan, _) = resolve(column.oid, column.typmod, &facts.types);
        (!plan.streams_in_binary(key.contains(&index))).then_some(column.name.as_str())
    })
}

/// Types that the catalog has no more. The name of a Type message is that of a domain's base (`getBaseType` in
/// `logicalrep_write_typ`), without a schema if that is `pg_catalog`: its values are written as that type's. The domain's
/// modifier isn't said.
fn gone(relation: &Relation, facts: &CatalogFacts, reported: &HashMap<u32, String>) -> HashMap<u32, CatalogType> {
    let unknown = |oid: &u32| !facts.types.contains_key(oid) && builtin::plan(*oid, -1).is_none();
    let described = |oid: u32| {
        let name = reported.get(&oid)?;
        let found = |wanted: &str| BASES.iter().find(|(name, _)| *name == wanted).map(|(_, oid)| *oid);
        let it = match name.strip_prefix('_') {
            Some(element) => CatalogType::Array { element: found(element)?, delimiter: b',' },
            None => CatalogType::Domain { base: found(name)?, typmod: -1 },
        };
        Some((oid, it))
    };
    relation.columns.iter().map(|column| column.oid).filter(unknown).filter_map(described).collect()
}

/// `typname` and oid of the builtin types whose values aren't written as the server's text.
const BASES: [(&str, u32); 31] = [
    ("bool", 16),
    ("bytea", 17),
    ("char", 18),
    ("name", 19),
    ("int8", 20),
    ("int2", 21),
    ("int4", 23),
    ("text", 25),
    ("oid", 26),
    ("json", 114),
    ("float4", 700),
    ("float8", 701),
    ("bpchar", 1042),
    ("varchar", 1043),
    ("date", 1082),
    ("time", 1083),
    ("timestamp", 1114),
    ("timestamptz", 1184),
    ("interval", 1186),
    ("timetz", 1266),
    ("bit", 1560),
    ("varbit", 1562),
    ("numeric", 1700),
    ("uuid", 2950),
    ("jsonb", 3802),
    ("int4range", 3904),
    ("numrange", 3906),
    ("tsrange", 3908),
    ("tstzrange", 3910),
    ("daterange", 3912),
    ("int8range", 3926),
];

/// Of which columns an old row surely has its values.
pub(crate) fn identity(relation: &Relation, facts: &CatalogFacts) -> Vec<bool> {
    let key = if facts.narrower { key(relation, facts) } else { Vec::new() };
    let columns = relation.columns.iter().enumerate();
    columns.map(|(index, column)| if facts.narrower { key.contains(&index) } else { column.identity }).collect()
}

/// Builds the table version. `reported` holds the names of Type messages, for types that are gone by now.
pub(crate) fn table(
    db: &Arc<str>,
    relation: &Relation,
    facts: &CatalogFacts,
    reported: &HashMap<u32, String>,
    before_17: bool,
) -> Arc<Table> {
    let name = TableName {
        db: Arc::clone(db),
        schema: Some(Arc::from(relation.schema.as_str())),
        table: Arc::from(relation.table.as_str()),
    };
    let (mut columns, mut plans) = (Vec::new(), Vec::new());
    let gone = gone(relation, facts, reported);
    for column in &relation.columns {
        let types = if gone.contains_key(&column.oid) { &gone } else { &facts.types };
        let (plan, ty) = resolve(column.oid, column.typmod, types);
        let native = builtin::native(column.oid, column.typmod)
            .or_else(|| facts.names.get(&(column.oid, column.typmod)).cloned())
            .or_else(|| reported.get(&column.oid).cloned())
            .unwrap_or_else(|| format!("oid:{}", column.oid));
        let described = facts.description.as_ref().map(|description| description.column(column));
        let (facts, nullable) = described.map_or((None, None), |(facts, null)| (Some(Box::new(facts)), Some(null)));
        columns.push(Column { name: column.name.clone(), ty, native, nullable, facts });
        plans.push(if before_17 { plan.before_17() } else { plan });
    }
    let plans = plans.into_iter().zip(identity(relation, facts));
    let plans = plans.map(|(plan, identity)| ColumnPlan { plan, identity }).collect();
    let table = Table::new(name, columns, key(relation, facts), Box::new(RowPlan(plans)));
    Arc::new(match &facts.description {
        Some(description) => table.described(description.table(relation)),
        None => table,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use rowcast_core::Type;

    use super::super::message::RelationColumn;
    use super::*;

    fn relation(replica_identity: u8, identity: [bool; 3]) -> Relation {
        let columns = ["a", "b", "c"]
            .into_iter()
            .zip(identity)
            .map(|(name, identity)| RelationColumn { identity, name: name.to_owned(), oid: 23, typmod: -1 })
            .collect();
        Relation { id: 1, schema: "public".to_owned(), table: "t".to_owned(), replica_identity, columns }
    }

    fn facts(primary_key: &[&str]) -> CatalogFacts {
        CatalogFacts { primary_key: primary_key.iter().map(|name| (*name).to_owned()).collect(), ..Default::default() }
    }

    #[test]
    fn a_composite_key_has_the_order_of_its_index() {
        assert_eq!(key(&relation(b'd', [true, false, true]), &facts(&["c", "a"])), [2, 0]);
    }

    #[test]
    fn a_key_that_changed_since_is_taken_from_the_message() {
        assert_eq!(key(&relation(b'd', [true, true, false]), &facts(&["c", "a"])), [0, 1]);
        assert_eq!(key(&relation(b'd', [true, true, false]), &facts(&["gone"])), [0, 1]);
    }

    #[test]
    fn full_identity_has_the_primary_key_or_none() {
        assert_eq!(key(&relation(b'f', [true; 3]), &facts(&["b"])), [1]);
        assert_eq!(key(&relation(b'f', [true; 3]), &facts(&[])), Vec::<usize>::new());
    }

    #[test]
    fn full_identity_without_a_primary_key_has_a_unique_index_as_key() {
        let unique =
            |primary: &[&str]| CatalogFacts { unique_key: vec!["c".to_owned(), "b".to_owned()], ..facts(primary) };
        assert_eq!(key(&relation(b'f', [true; 3]), &unique(&[])), [2, 1]);
        assert_eq!(key(&relation(b'f', [true; 3]), &unique(&["a"])), [0]);
        // where the message says what the key is, it is believed
        assert_eq!(key(&relation(b'd', [true, false, false]), &unique(&[])), [0]);
    }

    #[test]
    fn a_domain_that_was_dropped_is_written_as_the_base_that_the_stream_named() {
        let mut it = relation(b'd', [true, false, false]);
        for (column, oid) in it.columns.iter_mut().zip([90_000, 90_001, 90_002]) {
            column.oid = oid;
        }
        let named = |names: [&str; 3]| (90_000..).zip(names.map(str::to_owned)).collect::<HashMap<u32, String>>();
        let types = |names| {
            let table = table(&Arc::from("db"), &it, &CatalogFacts::default(), &named(names), false);
            table.columns.iter().map(|column| column.ty.clone()).collect::<Vec<_>>()
        };
        let int = || Type::Int { bits: 32, unsigned: false };
        assert_eq!(types(["int4", "_int4", "public.int4"]), [int(), Type::Array(Box::new(int())), Type::Other]);
        // what the catalog says of a type that is there counts
        let label = || CatalogType::Enum { labels: Vec::new() };
        let facts = CatalogFacts { types: HashMap::from([(90_000, label())]), ..CatalogFacts::default() };
        let table = table(&Arc::from("db"), &it, &facts, &named(["int4", "bool", "public.t"]), false);
        assert_eq!((&table.columns[0].ty, &table.columns[1].ty), (&Type::Enum { labels: Vec::new() }, &Type::Bool));
    }

    #[test]
    fn one_key_column_of_builtin_types_needs_no_catalog() {
        assert!(!needs_catalog(&relation(b'd', [true, false, false])));
        assert!(needs_catalog(&relation(b'd', [true, true, false])));
        assert!(needs_catalog(&relation(b'f', [true; 3])));
        let mut other = relation(b'd', [true, false, false]);
        other.columns.iter_mut().for_each(|column| column.oid = 99_999);
        assert!(needs_catalog(&other));
        let table = table(
            &Arc::from("db"),
            &other,
            &CatalogFacts::default(),
            &HashMap::from([(99_999, "s.t".to_owned())]),
            false,
        );
        assert!(table.columns.iter().all(|column| column.native == "s.t"));
    }
}
