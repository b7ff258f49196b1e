//! A Relation message into a [`Table`]: column types, key, and the plan that decodes its rows.
//!
//! The message says names, type oids and which columns are the replica identity. The rest is the catalog's: what
//! a user-defined type is, the order of a composite key, the key behind `REPLICA IDENTITY FULL` (the primary key, else
//! a unique index that tells every row apart). The catalog describes the table as it is *now*; where it doesn't fit the message, which describes it as of the
//! change, the message is believed.
//!
//! Nullability isn't in the message, so it stays unknown.

use std::collections::HashMap;
use std::sync::Arc;

use rowcast_core::{Column, Table, TableName};

use super::message::Relation;
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

/// Builds the table version. `reported` holds the names of Type messages, for types that are gone by now.
pub(crate) fn table(
    db: &Arc<str>,
    relation: &Relation,
    facts: &CatalogFacts,
    reported: &HashMap<u32, String>,
) -> Arc<Table> {
    let name = TableName {
        db: Arc::clone(db),
        schema: Some(Arc::from(relation.schema.as_str())),
        table: Arc::from(relation.table.as_str()),
    };
    let (mut columns, mut plans) = (Vec::new(), Vec::new());
    for column in &relation.columns {
        let (plan, ty) = resolve(column.oid, column.typmod, &facts.types);
        let native = builtin::native(column.oid, column.typmod)
            .or_else(|| facts.names.get(&(column.oid, column.typmod)).cloned())
            .or_else(|| reported.get(&column.oid).cloned())
            .unwrap_or_else(|| format!("oid:{}", column.oid));
        columns.push(Column { name: column.name.clone(), ty, native, nullable: None });
        plans.push(ColumnPlan { plan, identity: column.identity });
    }
    Arc::new(Table::new(name, columns, key(relation, facts), Box::new(RowPlan(plans))))
}

#[cfg(test)]
mod tests {
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
    fn one_key_column_of_builtin_types_needs_no_catalog() {
        assert!(!needs_catalog(&relation(b'd', [true, false, false])));
        assert!(needs_catalog(&relation(b'd', [true, true, false])));
        assert!(needs_catalog(&relation(b'f', [true; 3])));
        let mut other = relation(b'd', [true, false, false]);
        other.columns.iter_mut().for_each(|column| column.oid = 99_999);
        assert!(needs_catalog(&other));
        let table =
            table(&Arc::from("db"), &other, &CatalogFacts::default(), &HashMap::from([(99_999, "s.t".to_owned())]));
        assert!(table.columns.iter().all(|column| column.native == "s.t"));
    }
}
