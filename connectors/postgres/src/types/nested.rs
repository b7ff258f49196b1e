//! Text of values that are made of values: composites `(1,"a ""b""",)`, ranges `[1,"2")`, multiranges `{[1,2),[4,5)}`, and
//! `hstore`'s `"a"=>"1", "b"=>NULL`.
//!
//! The forms are those of `record_out`, `range_out`, `multirange_out` and `hstore_out`; nothing else is accepted. What is quoted is
//! borrowed unless something in it is escaped. Memory is bounded by the text: some tens of bytes for each part, which takes
//! one byte of text at least.
//!
//! A composite's text has the attributes that its type had when it was written. Where the type was altered since: attributes that
//! were added are left out, and a value with more of them than the type has now is given as its text.

use bumpalo::collections::Vec as BumpVec;
use rowcast_core::value::{Array, Dimension, Range};
use rowcast_core::{Bump, Value};

use super::scalar::{self, Wrong};
use super::{Attribute, Plan};

/// Text up to the closing quote, and what follows it. A quote in it is doubled (`doubled`) or behind a backslash, a backslash
/// always behind another.
pub(super) fn quoted<'a>(text: &'a [u8], doubled: bool, arena: &'a Bump) -> Option<(&'a [u8], &'a [u8])> {
    let plain = text.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
    let (head, mut rest) = text.split_at_checked(plain)?;
    if let [b'"', after @ ..] = rest
        && !(doubled && after.first() == Some(&b'"'))
    {
        return Some((head, after));
    }
    let mut unescaped = BumpVec::new_in(arena);
    unescaped.extend_from_slice_copy(head);
    loop {
        match rest {
            [b'"', b'"', after @ ..] if doubled => {
                unescaped.push(b'"');
                rest = after;
            }
            [b'"', after @ ..] => return Some((unescaped.into_bump_slice(), after)),
            [b'\\', byte, after @ ..] => {
                unescaped.push(*byte);
                rest = after;
            }
            _ => {
                let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
                let (run, after) = rest.split_at_checked(plain).filter(|(run, _)| !run.is_empty())?;
                unescaped.extend_from_slice_copy(run);
                rest = after;
            }
        }
    }
}

/// One part of a composite or range: to the first of the two delimiters. None in the text is NULL, or no bound.
struct Part<'a> {
    text: Option<&'a [u8]>,
    rest: &'a [u8],
}

fn part<'a>(text: &'a [u8], delimiters: &[u8], arena: &'a Bump) -> Option<Part<'a>> {
    if let Some(inside) = text.strip_prefix(b"\"") {
        let (inside, rest) = quoted(inside, true, arena)?;
        return Some(Part { text: Some(inside), rest });
    }
    let end = text.iter().position(|byte| delimiters.contains(byte))?;
    let (inside, rest) = text.split_at_checked(end)?;
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | b'(');
    (!inside.iter().any(special)).then_some(Part { text: (!inside.is_empty()).then_some(inside), rest })
}

/// Decodes a composite.
pub(super) fn composite<'a>(attributes: &'a [Attribute], text: &'a [u8], arena: &'a Bump) -> Result<Value<'a>, Wrong> {
    const WRONG: Wrong = "not a composite";
    let mut rest = text.strip_prefix(b"(").ok_or(WRONG)?;
    if attributes.is_empty() && rest == b")" {
        return Ok(Value::Object(&[]));
    }
    let mut members = BumpVec::new_in(arena);
    let mut count = 0_usize;
    loop {
        let part = part(rest, b",)", arena).ok_or(WRONG)?;
        if let Some(attribute) = attributes.get(count) {
            let value = match part.text {
                Some(text) => scalar::value(&attribute.plan, text, arena)?,
                None => Value::Null,
            };
            members.push((&*attribute.name, value));
        }
        count += 1;
        match part.rest {
            [b',', after @ ..] => rest = after,
            b")" => break,
            _ => return Err(WRONG),
        }
    }
    if count > attributes.len() {
        return scalar::utf8(text).map(Value::Other);
    }
    Ok(Value::Object(members.into_bump_slice()))
}

/// Decodes a range at the start of the text; gives what follows it.
fn range_at<'a>(element: &'a Plan, text: &'a [u8], arena: &'a Bump) -> Result<(Range<'a>, &'a [u8]), Wrong> {
    const WRONG: Wrong = "not a range";
    if let Some(rest) = text.strip_prefix(b"empty") {
        return Ok((Range::Empty, rest));
    }
    let (first, rest) = text.split_first().ok_or(WRONG)?;
    let lower_inclusive = match first {
        b'[' => true,
        b'(' => false,
        _ => return Err(WRONG),
    };
    let bound = |text: Option<&'a [u8]>| text.map_or(Ok(Value::Null), |text| scalar::value(element, text, arena));
    let lower = part(rest, b",", arena).ok_or(WRONG)?;
    let upper = part(lower.rest.strip_prefix(b",").ok_or(WRONG)?, b")]", arena).ok_or(WRONG)?;
    let (last, rest) = upper.rest.split_first().ok_or(WRONG)?;
    let upper_inclusive = match last {
        b']' => true,
        b')' => false,
        _ => return Err(WRONG),
    };
    let range =
        Range::Between { lower: bound(lower.text)?, upper: bound(upper.text)?, lower_inclusive, upper_inclusive };
    Ok((range, rest))
}

/// Decodes a range.
pub(super) fn range<'a>(element: &'a Plan, text: &'a [u8], arena: &'a Bump) -> Result<Value<'a>, Wrong> {
    match range_at(element, text, arena)? {
        (range, []) => Ok(Value::Range(arena.alloc(range))),
        _ => Err("not a range"),
    }
}

/// Decodes a multirange.
pub(super) fn multirange<'a>(element: &'a Plan, text: &'a [u8], arena: &'a Bump) -> Result<Value<'a>, Wrong> {
    const WRONG: Wrong = "not a multirange";
    let mut rest = text.strip_prefix(b"{").ok_or(WRONG)?;
    let mut ranges = BumpVec::new_in(arena);
    if rest != b"}" {
        loop {
            let (range, after) = range_at(element, rest, arena)?;
            ranges.push(Value::Range(arena.alloc(range)));
            match after {
                [b',', after @ ..] => rest = after,
                b"}" => break,
                _ => return Err(WRONG),
            }
        }
    }
    list(ranges, arena).ok_or(WRONG)
}

/// An array of one dimension.
pub(super) fn list<'a>(elements: BumpVec<'a, Value<'a>>, arena: &'a Bump) -> Option<Value<'a>> {
    let length = u32::try_from(elements.len()).ok()?;
    let dimensions: &[Dimension] = if length == 0 { &[] } else { arena.alloc([Dimension { length, lower: 1 }]) };
    Some(Value::Array(arena.alloc(Array { dimensions, elements: elements.into_bump_slice() })))
}

/// Decodes numbers with blanks between them.
pub(super) fn spaced<'a>(element: &'a Plan, text: &'a [u8], arena: &'a Bump) -> Result<Value<'a>, Wrong> {
    let mut elements = BumpVec::new_in(arena);
    if !text.is_empty() {
        for number in text.split(|byte| *byte == b' ') {
            elements.push(scalar::value(element, number, arena)?);
        }
    }
    list(elements, arena).ok_or("too many numbers")
}

/// Decodes an `hstore`; the pairs are in the server's order, by length of the key and then by its bytes.
pub(super) fn hstore<'a>(text: &'a [u8], arena: &'a Bump) -> Result<Value<'a>, Wrong> {
    const WRONG: Wrong = "not an hstore";
    let mut pairs = BumpVec::new_in(arena);
    let mut rest = text;
    while !rest.is_empty() {
        if !pairs.is_empty() {
            rest = rest.strip_prefix(b", ").ok_or(WRONG)?;
        }
        let (key, after) = rest.strip_prefix(b"\"").and_then(|text| quoted(text, false, arena)).ok_or(WRONG)?;
        let after = after.strip_prefix(b"=>").ok_or(WRONG)?;
        let value;
        (value, rest) = match after.strip_prefix(b"\"") {
            Some(inside) => {
                let (text, rest) = quoted(inside, false, arena).ok_or(WRONG)?;
                (Value::Text(scalar::utf8(text)?), rest)
            }
            None => (Value::Null, after.strip_prefix(b"NULL").ok_or(WRONG)?),
        };
        pairs.push((scalar::utf8(key)?, value));
    }
    Ok(Value::Object(pairs.into_bump_slice()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::unreachable)]
    use super::super::temporal;
    use super::*;

    fn attributes() -> Vec<Attribute> {
        let attribute = |name: &str, plan| Attribute { name: name.into(), oid: 0, plan };
        vec![attribute("n", Plan::Int), attribute("t", Plan::Text), attribute("u", Plan::Text)]
    }

    #[test]
    fn attributes_are_unquoted_and_null_is_not_the_empty_text() {
        let (attributes, arena) = (attributes(), Bump::new());
        let is = |text: &str, t, u| {
            let expected = [("n", Value::Int(1)), ("t", t), ("u", u)];
            assert_eq!(composite(&attributes, text.as_bytes(), &arena), Ok(Value::Object(&expected)), "{text}");
        };
        is("(1,,\"\")", Value::Null, Value::Text(""));
        is(r#"(1,"a ""b"" \\ (c)",d)"#, Value::Text(r#"a "b" \ (c)"#), Value::Text("d"));
        is("(1,\"\"\"\",NULL)", Value::Text("\""), Value::Text("NULL"));
    }

    #[test]
    fn composites_of_composites_are_quoted_once_more() {
        let outer = [Attribute { name: "in".into(), oid: 0, plan: Plan::Composite(attributes().into()) }];
        let arena = Bump::new();
        let value = composite(&outer, br#"("(1,""x """"y"""""",)")"#, &arena).unwrap();
        let Value::Object([("in", Value::Object(inner))]) = value else { unreachable!("{value:?}") };
        assert_eq!(inner.get(1), Some(&("t", Value::Text("x \"y\""))));
        assert_eq!(inner.get(2), Some(&("u", Value::Null)));
    }

    #[test]
    fn a_composite_of_an_altered_type_loses_nothing() {
        let (attributes, arena) = (attributes(), Bump::new());
        let fewer = [("n", Value::Int(1)), ("t", Value::Null)];
        assert_eq!(composite(&attributes, b"(1,)", &arena), Ok(Value::Object(&fewer)));
        assert_eq!(composite(&attributes, b"(1,a,b,c)", &arena), Ok(Value::Other("(1,a,b,c)")));
        assert_eq!(composite(&[], b"()", &arena), Ok(Value::Object(&[])));
        let one = [("n", Value::Null)];
        assert_eq!(composite(attributes.get(..1).unwrap(), b"()", &arena), Ok(Value::Object(&one)));
    }

    #[test]
    fn ranges_keep_their_bounds() {
        let arena = Bump::new();
        let is = |plan: &Plan, text: &str, expected: Range<'_>| {
            assert_eq!(range(plan, text.as_bytes(), &arena), Ok(Value::Range(&expected)), "{text}");
        };
        let between = |lower, upper, lower_inclusive, upper_inclusive| Range::Between {
            lower,
            upper,
            lower_inclusive,
            upper_inclusive,
        };
        is(&Plan::Int, "empty", Range::Empty);
        is(&Plan::Int, "[1,5)", between(Value::Int(1), Value::Int(5), true, false));
        is(&Plan::Int, "(,)", between(Value::Null, Value::Null, false, false));
        is(&Plan::Text, r#"["","a ""]"]"#, between(Value::Text(""), Value::Text("a \"]"), true, true));
        let day = temporal::date(b"2026-11-22").unwrap();
        let never = Value::TemporalInfinity { negative: false };
        is(&Plan::Date, "[2026-11-22,infinity)", between(day, never, true, false));
        for text in ["", "[", "[1", "[1,", "[1,2", "1,2", "[1,2)x", "{1,2}", "[1,2,3)", "emptyx", "[a,b)", "[\"1,2)"] {
            assert!(range(&Plan::Int, text.as_bytes(), &arena).is_err(), "{text}");
        }
    }

    #[test]
    fn multiranges_are_arrays_of_ranges() {
        let arena = Bump::new();
        let count = |text: &str| match multirange(&Plan::Int, text.as_bytes(), &arena) {
            Ok(Value::Array(array)) => Some(array.elements.len()),
            _ => None,
        };
        for (text, expected) in [
            ("{}", Some(0)),
            ("{[1,2)}", Some(1)),
            ("{[1,2),[4,)}", Some(2)),
            ("{[1,2),}", None),
            ("{", None),
            ("{[1,2)", None),
            ("{[1,2)}}", None),
        ] {
            assert_eq!(count(text), expected, "{text}");
        }
    }

    #[test]
    fn pairs_of_an_hstore_keep_their_nulls() {
        let arena = Bump::new();
        let text = r#""a"=>NULL, "b c"=>"x \"y\" \\ z", "n"=>"NULL", ""=>"""#;
        let expected = [
            ("a", Value::Null),
            ("b c", Value::Text(r#"x "y" \ z"#)),
            ("n", Value::Text("NULL")),
            ("", Value::Text("")),
        ];
        assert_eq!(hstore(text.as_bytes(), &arena), Ok(Value::Object(&expected)));
        assert_eq!(hstore(b"", &arena), Ok(Value::Object(&[])));
        for text in ["a=>1", "\"a\"", "\"a\"=>", "\"a\"=>1", "\"a\"=>NULL,", "\"a\"=>NULL,\"b\"=>NULL", "\"a"] {
            assert!(hstore(text.as_bytes(), &arena).is_err(), "{text}");
        }
    }

    #[test]
    fn vectors_of_numbers_have_blanks_between_them() {
        let arena = Bump::new();
        let Ok(Value::Array(array)) = spaced(&Plan::Int, b"1 -2 3", &arena) else { unreachable!() };
        assert_eq!(array.elements, [Value::Int(1), Value::Int(-2), Value::Int(3)]);
        assert!(matches!(spaced(&Plan::Int, b"", &arena), Ok(Value::Array(array)) if array.elements.is_empty()));
        assert!(spaced(&Plan::Int, b"1  2", &arena).is_err());
    }
}
