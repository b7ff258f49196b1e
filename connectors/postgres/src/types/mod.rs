//! From a column's type to the plan that decodes its values.
//!
//! ```text
//! (type oid, typmod) ──► builtin table ──► Plan + Type + native name
//!                   └──► pg_type rows  ──► domain: its base; array, range, composite: of their parts; else Other
//! Plan ──► scalar::value  the text that the type's output function writes
//!     └──► binary::value  what its send function writes; the same value either way
//! ```
//!
//! A plan is built once per table version; decoding walks it once per value. Text is what the session settings of
//! [`crate::session`] make of it: they make it independent of server, database and role settings, `lc_monetary` apart,
//! which [`money::Form`] is for.
//!
//! Fails never: a type that nobody knows is [`Plan::Other`], the server's own text.

pub(crate) mod array;
pub(crate) mod binary;
pub(crate) mod builtin;
pub(crate) mod extension;
pub(crate) mod money;
pub(crate) mod nested;
pub(crate) mod row;
pub(crate) mod scalar;
pub(crate) mod temporal;

use std::collections::HashMap;

use rowcast_core::Type;

/// How one value becomes a [`rowcast_core::Value`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plan {
    Bool,
    Int,
    Oid,
    Float,
    Double,
    Decimal,
    /// The amount's text is the server's locale's.
    Money(Box<money::Form>),
    Text,
    /// `"char"`, a single byte.
    Char,
    Bytes,
    Bits,
    Date,
    /// With the declared fraction digits, as the next three.
    Time(u8),
    TimeTz(u8),
    DateTime(u8),
    Instant(u8),
    Interval,
    /// Of a server before version 17, where no interval is infinite: its binary form is told apart by nothing else.
    FiniteInterval,
    Uuid,
    Json,
    JsonB,
    Enum,
    Array(Box<ArrayPlan>),
    /// `int2vector`, `oidvector`: numbers with blanks between them.
    Spaced(Box<Plan>),
    Range(Box<Plan>),
    Multirange(Box<Plan>),
    Composite(Box<[Attribute]>),
    Hstore,
    /// PostGIS.
    Geometry,
    /// pgvector, of 4-byte floats, as the next two.
    Vector,
    /// Of 2-byte floats.
    HalfVector,
    SparseVector,
    /// The server's text.
    Other(Form),
}

/// How an array's text is taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ArrayPlan {
    pub(crate) element: Plan,
    /// `,` for every built-in type but `box`.
    pub(crate) delimiter: u8,
}

/// An attribute of a composite type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attribute {
    pub(crate) name: Box<str>,
    pub(crate) oid: u32,
    pub(crate) plan: Plan,
}

/// What the binary form of a type without a variant of its own is; its text is the value in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Nothing that is understood here.
    Opaque,
    /// The type has no send function: the server sends text even if binary was asked for, but can't send arrays and
    /// composites of it at all.
    Unsendable,
    /// The text.
    Text,
    /// A version (1) and the text.
    Versioned,
    /// `xid`, `cid`
    Number,
    Xid8,
    Tid,
    Lsn,
    /// `inet`, `cidr`
    Network,
    /// `macaddr`, `macaddr8`
    Mac,
    TsVector,
    /// `pg_snapshot`, `txid_snapshot`
    Snapshot,
}

impl Plan {
    /// The same for a server before version 17.
    pub(crate) fn before_17(self) -> Plan {
        match self {
            Plan::Interval => Plan::FiniteInterval,
            Plan::Array(it) => {
                Plan::Array(Box::new(ArrayPlan { element: it.element.before_17(), delimiter: it.delimiter }))
            }
            Plan::Range(it) => Plan::Range(Box::new(it.before_17())),
            Plan::Multirange(it) => Plan::Multirange(Box::new(it.before_17())),
            Plan::Composite(attributes) => Plan::Composite(
                attributes.into_iter().map(|it| Attribute { plan: it.plan.before_17(), ..it }).collect(),
            ),
            other => other,
        }
    }

    /// Whether the binary form is decoded here, wherever it occurs.
    pub(crate) fn has_binary(&self) -> bool {
        match self {
            Plan::Other(Form::Opaque | Form::Unsendable) => false,
            Plan::Array(array) => array.element.has_binary(),
            Plan::Range(element) | Plan::Multirange(element) => element.has_binary(),
            Plan::Composite(attributes) => attributes.iter().all(|attribute| attribute.plan.has_binary()),
            _ => true,
        }
    }

    /// Whether a value is a single one, whose text can be made from its binary form (of an amount only the locale's way).
    pub(crate) fn is_scalar(&self) -> bool {
        !matches!(
            self,
            Plan::Money(_)
                | Plan::Array(_)
                | Plan::Spaced(_)
                | Plan::Range(_)
                | Plan::Multirange(_)
                | Plan::Composite(_)
                | Plan::Hstore
                | Plan::Geometry
                | Plan::Vector
                | Plan::HalfVector
                | Plan::SparseVector
        )
    }

    /// Whether a column of this type can be part of a stream that was asked for binary values. Of a key the text is needed too.
    pub(crate) fn streams_in_binary(&self, key: bool) -> bool {
        *self == Plan::Other(Form::Unsendable) || (self.has_binary() && (!key || self.is_scalar()))
    }
}

/// What the catalog says about a type that isn't in the builtin table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CatalogType {
    Domain {
        base: u32,
        typmod: i32,
    },
    Array {
        element: u32,
        delimiter: u8,
    },
    Enum {
        labels: Vec<String>,
    },
    Range {
        element: u32,
    },
    Multirange {
        element: u32,
    },
    /// Name, type and modifier of each attribute.
    Composite(Vec<(String, u32, i32)>),
    Money(money::Form),
    /// Any other type, by the extension that it came with (or none), its name, and its send function's.
    Base {
        extension: Option<String>,
        name: String,
        send: String,
    },
}

/// Domains over domains over arrays: deeper than this is not followed and stays text.
const MAX_NESTING: u8 = 16;
/// Composites of composites of composites: a type of more parts than this stays text from there on.
const MAX_PARTS: u32 = 10_000;

/// The plan and logical type of `(oid, typmod)`; `known` holds what the catalog said about other types.
pub(crate) fn resolve(oid: u32, typmod: i32, known: &HashMap<u32, CatalogType>) -> (Plan, Type) {
    Resolver { known, parts: 0 }.resolve(oid, typmod, 0)
}

struct Resolver<'a> {
    known: &'a HashMap<u32, CatalogType>,
    parts: u32,
}

impl Resolver<'_> {
    fn resolve(&mut self, oid: u32, typmod: i32, depth: u8) -> (Plan, Type) {
        self.parts += 1;
        if depth > MAX_NESTING || self.parts > MAX_PARTS {
            return (Plan::Other(Form::Opaque), Type::Other);
        }
        if let Some(found) = builtin::plan(oid, typmod) {
            return found;
        }
        let known = self.known;
        match known.get(&oid) {
            // a column of a domain type has typmod -1; the domain holds its own
            Some(CatalogType::Domain { base, typmod }) => self.resolve(*base, *typmod, depth + 1),
            Some(CatalogType::Array { element, delimiter }) => {
                let (plan, ty) = self.resolve(*element, typmod, depth + 1);
                (Plan::Array(Box::new(ArrayPlan { element: plan, delimiter: *delimiter })), Type::Array(Box::new(ty)))
            }
            Some(CatalogType::Enum { labels }) => (Plan::Enum, Type::Enum { labels: labels.clone() }),
            Some(CatalogType::Range { element }) => {
                let (plan, ty) = self.resolve(*element, -1, depth + 1);
                (Plan::Range(Box::new(plan)), Type::Range(Box::new(ty)))
            }
            Some(CatalogType::Multirange { element }) => {
                let (plan, ty) = self.resolve(*element, -1, depth + 1);
                (Plan::Multirange(Box::new(plan)), Type::Multirange(Box::new(ty)))
            }
            Some(CatalogType::Composite(attributes)) => {
                let (mut plans, mut types) = (Vec::new(), Vec::new());
                for (name, oid, typmod) in attributes {
                    let (plan, ty) = self.resolve(*oid, *typmod, depth + 1);
                    plans.push(Attribute { name: name.as_str().into(), oid: *oid, plan });
                    types.push((name.clone(), ty));
                }
                (Plan::Composite(plans.into_boxed_slice()), Type::Composite(types))
            }
            Some(CatalogType::Money(form)) => {
                let scale = i16::from(form.digits);
                (Plan::Money(Box::new(form.clone())), Type::Decimal { precision_scale: Some((19, scale)) })
            }
            Some(CatalogType::Base { extension, name, send }) => extension::resolve(extension.as_deref(), name, send),
            None => (Plan::Other(Form::Opaque), Type::Other),
        }
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
        assert_eq!(resolve(20_000, -1, &known).0, Plan::Other(Form::Opaque));
        assert_eq!(resolve(20_001, -1, &known).0, Plan::Other(Form::Opaque));
    }

    #[test]
    fn composites_that_grow_without_bound_end_as_text() {
        let wide = |oid: u32| (0..40).map(|n| (format!("a{n}"), oid + 1, -1)).collect();
        let known = (0..20).map(|n| (20_000 + n, CatalogType::Composite(wide(20_000 + n)))).collect();
        fn parts(plan: &Plan) -> usize {
            match plan {
                Plan::Composite(attributes) => 1 + attributes.iter().map(|it| parts(&it.plan)).sum::<usize>(),
                _ => 1,
            }
        }
        assert!(parts(&resolve(20_000, -1, &known).0) < 50 * MAX_PARTS as usize);
    }

    #[test]
    fn what_has_no_send_function_streams_alone_but_in_nothing_else() {
        let unsendable = Plan::Other(Form::Unsendable);
        assert!(unsendable.streams_in_binary(true) && !unsendable.has_binary());
        let array = Plan::Array(Box::new(ArrayPlan { element: unsendable, delimiter: b',' }));
        assert!(!array.streams_in_binary(false));
        assert!(!Plan::Other(Form::Opaque).streams_in_binary(false));
        let range = Plan::Range(Box::new(Plan::Decimal));
        assert!(range.streams_in_binary(false) && !range.streams_in_binary(true));
    }
}
