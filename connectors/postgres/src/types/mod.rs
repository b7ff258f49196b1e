//! From a column's type to the plan that decodes its values.
//!
//! ```text
//! (type oid, typmod) ──► builtin table ──► Plan + Type + native name
//!                   └──► pg_type rows  ──► domain: its base; array: its element; enum: labels; else Other
//! ```
//!
//! A plan is built once per table version; decoding walks it once per value. All values come as the text that
//! the type's output function writes under the session settings of [`crate::session`]: these make the text
//! independent of server, database and role settings.
//!
//! Fails never: a type that nobody knows is [`Plan::Other`], the server's own text.

pub(crate) mod array;
pub(crate) mod builtin;
pub(crate) mod row;
pub(crate) mod scalar;
pub(crate) mod temporal;

use std::collections::HashMap;

use rowcast_core::Type;

/// How one value's text becomes a [`rowcast_core::Value`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plan {
    Bool,
    Int,
    Oid,
    Float,
    Double,
    Decimal,
    Text,
    Bytes,
    Bits,
    Date,
    /// With the declared fraction digits, as the next three.
    Time(u8),
    TimeTz(u8),
    DateTime(u8),
    Instant(u8),
    Interval,
    Uuid,
    Json,
    Enum,
    Array(Box<ArrayPlan>),
    Other,
}

/// How an array's text is taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ArrayPlan {
    pub(crate) element: Plan,
    /// `,` for every built-in type but `box`.
    pub(crate) delimiter: u8,
}

/// What the catalog says about a type that isn't in the builtin table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CatalogType {
    Domain { base: u32, typmod: i32 },
    Array { element: u32, delimiter: u8 },
    Enum { labels: Vec<String> },
    Other,
}

/// Domains over domains over arrays: deeper than this is not followed and stays text.
const MAX_NESTING: u8 = 16;

/// The plan and logical type of `(oid, typmod)`; `known` holds what the catalog said about other types.
pub(crate) fn resolve(oid: u32, typmod: i32, known: &HashMap<u32, CatalogType>) -> (Plan, Type) {
    resolve_nested(oid, typmod, known, 0)
}

fn resolve_nested(oid: u32, typmod: i32, known: &HashMap<u32, CatalogType>, depth: u8) -> (Plan, Type) {
    if depth > MAX_NESTING {
        return (Plan::Other, Type::Other);
    }
    if let Some(found) = builtin::plan(oid, typmod) {
        return found;
    }
    match known.get(&oid) {
        // a column of a domain type has typmod -1; the domain holds its own
        Some(CatalogType::Domain { base, typmod }) => resolve_nested(*base, *typmod, known, depth + 1),
        Some(CatalogType::Array { element, delimiter }) => {
            let (plan, ty) = resolve_nested(*element, typmod, known, depth + 1);
            (Plan::Array(Box::new(ArrayPlan { element: plan, delimiter: *delimiter })), Type::Array(Box::new(ty)))
        }
        Some(CatalogType::Enum { labels }) => (Plan::Enum, Type::Enum { labels: labels.clone() }),
        Some(CatalogType::Other) | None => (Plan::Other, Type::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_over_an_array_decodes_as_the_array_of_its_element() {
        let known = HashMap::from([
            (20_000, CatalogType::Domain { base: 1231, typmod: ((10 << 16) | 2) + 4 }),
            (20_001, CatalogType::Array { element: 20_002, delimiter: b',' }),
            (20_002, CatalogType::Enum { labels: vec!["a".to_owned()] }),
        ]);
        let (plan, ty) = resolve(20_000, -1, &known);
        assert_eq!(plan, Plan::Array(Box::new(ArrayPlan { element: Plan::Decimal, delimiter: b',' })));
        assert_eq!(ty, Type::Array(Box::new(Type::Decimal { precision_scale: Some((10, 2)) })));
        let (_, ty) = resolve(20_001, -1, &known);
        assert_eq!(ty, Type::Array(Box::new(Type::Enum { labels: vec!["a".to_owned()] })));
    }

    #[test]
    fn a_domain_that_contains_itself_ends_as_text() {
        let known = HashMap::from([(20_000, CatalogType::Domain { base: 20_000, typmod: -1 })]);
        assert_eq!(resolve(20_000, -1, &known).0, Plan::Other);
        assert_eq!(resolve(20_001, -1, &known).0, Plan::Other);
    }
}
