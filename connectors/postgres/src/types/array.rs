//! Array text: `{1,NULL,"a \"b\""}`, `{{1,2},{3,4}}`, `[0:2]={7,8,9}`.
//!
//! The form is `array_out`'s: an element is quoted if it is empty, reads `NULL`, or holds braces, the delimiter,
//! quotes, backslashes or blanks; bounds stand in front only if one of them isn't 1. Nothing else is accepted.
//! Elements and dimensions go to the arena: some tens of bytes for each element, which takes two bytes of
//! text at least, so memory is bounded by the row.

use bumpalo::collections::Vec as BumpVec;
use rowcast_core::value::{Array, Dimension};
use rowcast_core::{Bump, Value};

use super::scalar::{self, Wrong};
use super::{ArrayPlan, nested};

/// The server's own limit (`MAXDIM`).
const MAX_DIMENSIONS: usize = 6;

const WRONG: Wrong = "not an array";

struct Reader<'a> {
    plan: &'a ArrayPlan,
    rest: &'a [u8],
    arena: &'a Bump,
    elements: BumpVec<'a, Value<'a>>,
    /// Length of each dimension, as far as one of its rows was read to the end.
    lengths: [Option<u32>; MAX_DIMENSIONS],
    /// Number of dimensions, known from the first element on.
    depth: Option<usize>,
}

/// Decodes an array.
pub(crate) fn decode<'a>(plan: &'a ArrayPlan, text: &'a [u8], arena: &'a Bump) -> Result<Value<'a>, Wrong> {
    let (bounds, count, rest) = bounds(text).ok_or("not the bounds of an array")?;
    let mut reader =
        Reader { plan, rest, arena, elements: BumpVec::new_in(arena), lengths: [None; MAX_DIMENSIONS], depth: None };
    if reader.rest == b"{}" && count == 0 {
        return Ok(Value::Array(arena.alloc(Array { dimensions: &[], elements: &[] })));
    }
    reader.level(0)?;
    if !reader.rest.is_empty() {
        return Err(WRONG);
    }
    let depth = reader.depth.ok_or(WRONG)?;
    if count != 0 && count != depth {
        return Err("bounds of an array don't fit its dimensions");
    }
    let mut dimensions = BumpVec::with_capacity_in(depth, arena);
    for (at, length) in reader.lengths.iter().take(depth).enumerate() {
        let length = length.ok_or(WRONG)?;
        let lower = match bounds.get(at).copied().filter(|_| count != 0) {
            Some((lower, upper)) if i64::from(upper) - i64::from(lower) + 1 == i64::from(length) => lower,
            Some(_) => return Err("bounds of an array don't fit its elements"),
            None => 1,
        };
        dimensions.push(Dimension { length, lower });
    }
    let array = Array { dimensions: dimensions.into_bump_slice(), elements: reader.elements.into_bump_slice() };
    Ok(Value::Array(arena.alloc(array)))
}

/// `[lower:upper]...=`: bounds, how many, and what follows. None of them is fine too.
type Bounds<'a> = ([(i32, i32); MAX_DIMENSIONS], usize, &'a [u8]);

fn bounds(text: &[u8]) -> Option<Bounds<'_>> {
    let (mut bounds, mut count, mut rest) = ([(0, 0); MAX_DIMENSIONS], 0, text);
    while let Some(inner) = rest.strip_prefix(b"[") {
        let end = inner.iter().position(|byte| *byte == b']')?;
        let (pair, after) = inner.split_at_checked(end)?;
        let (lower, upper) = std::str::from_utf8(pair).ok()?.split_once(':')?;
        *bounds.get_mut(count)? = (lower.parse().ok()?, upper.parse().ok()?);
        count += 1;
        rest = after.get(1..)?;
    }
    if count > 0 {
        rest = rest.strip_prefix(b"=")?;
    }
    Some((bounds, count, rest))
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<u8, Wrong> {
        let (first, rest) = self.rest.split_first().ok_or(WRONG)?;
        self.rest = rest;
        Ok(*first)
    }

    /// One `{...}` at a depth; recursion ends at `MAX_DIMENSIONS`.
    fn level(&mut self, depth: usize) -> Result<(), Wrong> {
        if depth >= MAX_DIMENSIONS {
            return Err("an array of more than six dimensions");
        }
        if self.next()? != b'{' {
            return Err(WRONG);
        }
        let mut length = 0_u32;
        loop {
            if self.rest.first() == Some(&b'{') {
                self.level(depth + 1)?;
            } else {
                if *self.depth.get_or_insert(depth + 1) != depth + 1 {
                    return Err("an array with elements at unlike depths");
                }
                self.element()?;
            }
            length = length.checked_add(1).ok_or(WRONG)?;
            match self.next()? {
                b'}' => break,
                byte if byte == self.plan.delimiter => {}
                _ => return Err(WRONG),
            }
        }
        let slot = self.lengths.get_mut(depth).ok_or(WRONG)?;
        if *slot.get_or_insert(length) != length {
            return Err("an array with rows of unlike length");
        }
        Ok(())
    }

    fn element(&mut self) -> Result<(), Wrong> {
        let plan = self.plan;
        let value = match self.rest.strip_prefix(b"\"") {
            Some(quoted) => {
                let (text, rest) = nested::quoted(quoted, false, self.arena).ok_or(WRONG)?;
                self.rest = rest;
                scalar::value(&plan.element, text, self.arena)?
            }
            None => {
                let end = self.rest.iter().position(|byte| *byte == plan.delimiter || *byte == b'}').ok_or(WRONG)?;
                let (text, rest) = self.rest.split_at_checked(end).ok_or(WRONG)?;
                self.rest = rest;
                match text {
                    b"" => return Err("an empty element of an array"),
                    b"NULL" => Value::Null,
                    text => scalar::value(&plan.element, text, self.arena)?,
                }
            }
        };
        self.elements.push(value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::super::{Form, Plan};
    use super::*;

    fn with(element: Plan, delimiter: u8, text: &str, check: impl FnOnce(Result<&Array<'_>, Wrong>)) {
        let (plan, arena) = (ArrayPlan { element, delimiter }, Bump::new());
        match decode(&plan, text.as_bytes(), &arena) {
            Ok(Value::Array(array)) => check(Ok(array)),
            Ok(other) => panic!("{other:?}"),
            Err(wrong) => check(Err(wrong)),
        }
    }

    #[test]
    fn elements_are_unquoted_and_nulls_kept_apart() {
        with(Plan::Text, b',', r#"{a,NULL,"NULL","","x \"y\" \\ {z}","ü,1"}"#, |array| {
            let text = Value::Text;
            let expected = [text("a"), Value::Null, text("NULL"), text(""), text("x \"y\" \\ {z}"), text("ü,1")];
            assert_eq!(array.unwrap().elements, expected);
            assert_eq!(array.unwrap().dimensions, [Dimension { length: 6, lower: 1 }]);
        });
    }

    #[test]
    fn dimensions_and_lower_bounds_are_kept() {
        with(Plan::Int, b',', "[0:1][-2:0]={{1,2,3},{4,5,NULL}}", |array| {
            let array = array.unwrap();
            assert_eq!(array.dimensions, [Dimension { length: 2, lower: 0 }, Dimension { length: 3, lower: -2 }]);
            assert_eq!(array.elements.len(), 6);
            assert_eq!(array.elements.last(), Some(&Value::Null));
        });
        with(Plan::Int, b',', "{{{{{{1}}}}}}", |array| assert_eq!(array.unwrap().dimensions.len(), 6));
        with(Plan::Int, b',', "{}", |array| assert!(array.unwrap().dimensions.is_empty()));
    }

    #[test]
    fn boxes_are_delimited_by_semicolons() {
        with(Plan::Other(Form::Opaque), b';', "{(1,1),(0,0);(2,2),(1,1)}", |array| {
            assert_eq!(array.unwrap().elements, [Value::Other("(1,1),(0,0)"), Value::Other("(2,2),(1,1)")]);
        });
    }

    #[test]
    fn an_array_of_a_domain_over_an_array_nests() {
        let inner = Plan::Array(Box::new(ArrayPlan { element: Plan::Int, delimiter: b',' }));
        with(inner, b',', r#"{"{1,2}","{3}"}"#, |array| {
            let lengths: Vec<usize> = array
                .unwrap()
                .elements
                .iter()
                .map(|value| if let Value::Array(inner) = value { inner.elements.len() } else { 0 })
                .collect();
            assert_eq!(lengths, [2, 1]);
        });
    }

    #[test]
    fn damaged_arrays_are_refused() {
        for text in [
            "",
            "{",
            "}",
            "{1",
            "{1,",
            "{1,}",
            "{,1}",
            "{1}}",
            "{{1},2}",
            "{1,{2}}",
            "{{1},{2,3}}",
            "{{{{{{{1}}}}}}}",
            "{\"1}",
            "{\"1\\",
            "{{}}",
            "[0:1]={1}",
            "[0:0]={{1}}",
            "[0:0]{1}",
            "[0:]={1}",
            "[]={1}",
            "{1;2}",
            "{a}",
            "[2147483647:-2147483648]={1}",
            "1,2",
            "[1:0]={}",
        ] {
            with(Plan::Int, b',', text, |array| assert!(array.is_err(), "{text}"));
        }
    }
}
