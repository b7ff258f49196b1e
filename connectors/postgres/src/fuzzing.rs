//! What reads bytes of the server's, by itself: for the targets in `fuzz/` (feature `fuzzing`), and no part of the crate's interface.
//!
//! Besides not panicking, what is read must not allocate more than its length allows; that is asserted here.
#![allow(missing_docs, clippy::panic)]

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use rowcast_core::{Bump, Image, Span, Value};

use crate::pgoutput::message::{self, Message, Relation};
use crate::pgoutput::relation::{self, CatalogFacts};
use crate::types::row::{SHAPE_DATA_ROW, SHAPE_FULL, SHAPE_KEY};
use crate::types::{CatalogType, Plan, binary, builtin, money, resolve, scalar};

/// Types that aren't builtin, by oids that no server has given them.
const OWN: u32 = 1_000_000;

static TYPES: LazyLock<HashMap<u32, CatalogType>> = LazyLock::new(|| {
    let base = |extension: &str, name: &str| CatalogType::Base {
        extension: Some(extension.to_owned()),
        name: name.to_owned(),
        send: "x".to_owned(),
    };
    let attributes = [("a", 23), ("b", 25), ("c", 1231), ("d", OWN + 3)];
    let it = [
        CatalogType::Composite(attributes.map(|(name, oid)| (name.to_owned(), oid, -1)).into()),
        CatalogType::Array { element: OWN, delimiter: b',' },
        CatalogType::Domain { base: OWN + 1, typmod: -1 },
        CatalogType::Range { element: 25 },
        CatalogType::Multirange { element: 25 },
        CatalogType::Enum { labels: vec!["a".to_owned()] },
        base("hstore", "hstore"),
        base("postgis", "geometry"),
        base("vector", "vector"),
        base("vector", "halfvec"),
        base("vector", "sparsevec"),
        base("ltree", "ltree"),
        base("none", "opaque"),
    ];
    let mut types: HashMap<u32, CatalogType> = (OWN..).zip(it).collect();
    if let Some(form) = money::Form::new("$1.00", "-$1.00") {
        types.insert(790, CatalogType::Money(form));
    }
    types
});

/// Every plan that there is, in the order of its type's oid.
static PLANS: LazyLock<Vec<(u32, Plan)>> = LazyLock::new(|| {
    let mut oids: Vec<u32> = builtin::oids().chain(TYPES.keys().copied()).collect();
    oids.sort_unstable();
    oids.into_iter().map(|oid| (oid, resolve(oid, -1, &TYPES).0)).collect()
});

/// The byte that stands for a type in the inputs of [`text`] and [`binary`].
pub fn selector(oid: u32) -> Option<u8> {
    PLANS.iter().position(|(known, _)| *known == oid).and_then(|index| u8::try_from(index).ok())
}

/// A value that was read, and whether it is valid JSON whatever the server sent (a JSON document is the server's).
pub type See<'s> = &'s mut dyn FnMut(&Value<'_>, bool);

fn holds(plan: &Plan, what: &dyn Fn(&Plan) -> bool) -> bool {
    what(plan)
        || match plan {
            Plan::Array(array) => holds(&array.element, what),
            Plan::Range(it) | Plan::Multirange(it) | Plan::Spaced(it) => holds(it, what),
            Plan::Composite(attributes) => attributes.iter().any(|it| holds(&it.plan, what)),
            _ => false,
        }
}

fn is_json(plan: &Plan) -> bool {
    holds(plan, &|plan| matches!(plan, Plan::Json | Plan::JsonB))
}

/// A hundred bytes for each byte and a block for the arena; a number may be of more digits.
fn check(arena: &Bump, bytes: &[u8], plan: &Plan) {
    let limit = 4096 + 256 * bytes.len();
    if arena.allocated_bytes() > limit && !holds(plan, &|plan| matches!(plan, Plan::Decimal)) {
        panic!("{} bytes for {}", arena.allocated_bytes(), bytes.len());
    }
}

/// A type's [`selector`], and the text of a value.
pub fn text(input: &[u8], see: See<'_>) {
    let Some(((_, plan), text)) = chosen(input) else { return };
    let arena = Bump::new();
    if let Ok(value) = scalar::value(plan, text, &arena) {
        see(&value, !is_json(plan));
    }
    check(&arena, text, plan);
}

/// A type's [`selector`], and the binary form of a value.
pub fn binary(input: &[u8], see: See<'_>) {
    let Some(((_, plan), bytes)) = chosen(input) else { return };
    let arena = Bump::new();
    if let Ok(value) = binary::value(plan, bytes, &arena) {
        see(&value, !is_json(plan));
        // what a key is compared by is the same value, but for NaN, which is no value that equals itself
        if let Some(literal) = binary::literal(plan, bytes) {
            let read = scalar::value(plan, literal.as_bytes(), &arena);
            let unequal = holds(plan, &|plan| matches!(plan, Plan::Float | Plan::Double));
            if read != Ok(value) && !unequal && !odd(&value) {
                panic!("{plan:?}: {value:?} and {read:?}");
            }
            return;
        }
    }
    check(&arena, bytes, plan);
}

/// Values that a server doesn't send, of which nothing is promised: dates beyond the calendar.
fn odd(value: &Value<'_>) -> bool {
    matches!(value, Value::DateTime(_) | Value::Instant(_) | Value::Date(_))
}

fn chosen(input: &[u8]) -> Option<(&'static (u32, Plan), &[u8])> {
    let (selector, rest) = input.split_first()?;
    PLANS.get(usize::from(*selector)).map(|plan| (plan, rest))
}

/// A message of pgoutput.
pub fn message(payload: &[u8]) {
    let _ = message::parse(payload);
}

/// The length of a Relation message (2), the message, the shape of a row (1), and the row.
pub fn row(input: &[u8], see: See<'_>) {
    let Some((length, rest)) = input.split_first_chunk::<2>() else { return };
    let Some((head, rest)) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length))) else { return };
    let Some((shape, row)) = rest.split_first() else { return };
    let Ok(Message::Relation(relation)) = message::parse(head) else { return };
    let shape = match shape % 3 {
        0 => SHAPE_FULL,
        1 => SHAPE_KEY,
        _ => SHAPE_DATA_ROW,
    };
    let table = table(&relation);
    let Some(span) = Span::new(0, row.len()) else { return };
    let (image, arena, mut values) = (Image { span, shape }, Bump::new(), Vec::new());
    if table.decode(row, image, &arena, &mut values).is_ok() {
        values.iter().for_each(|value| see(value, false));
    }
    let _ = table.key_literals(row, &[image]);
}

fn table(relation: &Relation) -> Arc<rowcast_core::Table> {
    let facts = CatalogFacts { types: TYPES.clone(), ..CatalogFacts::default() };
    let _ = relation::without_binary(relation, &facts);
    relation::table(&Arc::from("db"), relation, &facts, &HashMap::new(), false)
}

/// The inputs that a message of a server makes for [`row`], [`text`] and [`binary`], if it is an insert: `relations` are those before it.
pub fn inputs(payload: &[u8], relations: &mut HashMap<u32, Vec<u8>>) -> Vec<(&'static str, u32, Vec<u8>)> {
    let mut inputs = Vec::new();
    match message::parse(payload) {
        Ok(Message::Relation(relation)) => {
            relations.insert(relation.id, payload.to_vec());
        }
        Ok(Message::Insert { relation, new }) => {
            let Some(head) = relations.get(&relation) else { return inputs };
            let (Ok(Message::Relation(described)), Some(row)) =
                (message::parse(head), payload.get(new.start..new.start + new.length))
            else {
                return inputs;
            };
            let length = u16::try_from(head.len()).unwrap_or(0).to_be_bytes();
            inputs.push(("row", relation, [&length, head.as_slice(), &[0], row].concat()));
            let mut wire = crate::wire::Wire::new(row);
            let _count = wire.u16();
            for column in &described.columns {
                let Some(kind) = wire.u8() else { break };
                let target = match kind {
                    b't' => "text",
                    b'b' => "binary",
                    _ => continue,
                };
                let Some(bytes) = wire.u32().and_then(|length| wire.take(length as usize)) else { break };
                if let Some(selector) = selector(column.oid) {
                    inputs.push((target, column.oid, [&[selector], bytes].concat()));
                }
            }
        }
        _ => {}
    }
    inputs
}
