//! What flattened events of both formats share: what an event became, members of a JSON object that we wrote, and a JSON value as the text of a
//! header.
//!
//! Parts of an event that are added to its row are taken from the text of the envelope, which is written behind the buffer's end and taken
//! away again: a part is then what the envelope says, to the byte. Nothing here allocates but for headers.

use std::ops::Range;
use std::sync::Arc;

use crate::pipeline::{HeaderName, RecordHeader};

/// What an event became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// A value.
    Value,
    /// A value without what stands at the beginning of all values of its table; see `TableText::head`.
    Headless,
    /// A record without a value.
    Tombstone,
    /// No record.
    Nothing,
}

/// Where the value of a member stands in the text of an object, counted from the text's beginning; none if it has no such member. The names
/// of members hold nothing that is escaped.
pub(super) fn member(object: &[u8], name: &str) -> Option<Range<usize>> {
    let mut at = 1;
    loop {
        let from = at + usize::from(*object.get(at)? == b',');
        let colon = value_end(object, from)?;
        let is_it = object.get(from + 1..colon.checked_sub(1)?) == Some(name.as_bytes());
        let end = value_end(object, colon + 1)?;
        if is_it {
            return Some(colon + 1..end);
        }
        at = end;
    }
}

/// The end of the value that begins at a place.
fn value_end(text: &[u8], from: usize) -> Option<usize> {
    let (mut depth, mut at) = (0_usize, from);
    loop {
        match *text.get(at)? {
            b'"' => {
                at += 1;
                while *text.get(at)? != b'"' {
                    at += if *text.get(at)? == b'\\' { 2 } else { 1 };
                }
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return Some(at),
            b'}' | b']' => depth -= 1,
            b',' | b':' if depth == 0 => return Some(at),
            _ => {}
        }
        at += 1;
        if depth == 0 && matches!(text.get(at), None | Some(b',' | b'}' | b']' | b':')) {
            return Some(at);
        }
    }
}

/// Adds the member of an object to the buffer, which holds the object's text; `null` if there is none.
pub(super) fn copy_member(out: &mut Vec<u8>, object: Range<usize>, name: &str) {
    let value = out.get(object.clone()).and_then(|text| member(text, name));
    match value {
        Some(value) => out.extend_from_within(object.start + value.start..object.start + value.end),
        None => out.extend_from_slice(b"null"),
    }
}

/// A header with the JSON value that the buffer ends with from `start` on: texts without quotes and escapes, no value instead of `null`.
pub(super) fn header(out: &mut Vec<u8>, start: usize, name: &Arc<str>) -> RecordHeader {
    let json = out.get(start..).unwrap_or_default();
    let value = match json.first() {
        _ if json == b"null" => {
            out.truncate(start);
            None
        }
        Some(b'"') => {
            if let Ok(text) = serde_json::from_slice::<String>(json) {
                out.truncate(start);
                out.extend_from_slice(text.as_bytes());
            }
            Some(start..out.len())
        }
        _ => Some(start..out.len()),
    };
    RecordHeader { name: HeaderName::Given(Arc::clone(name)), value }
}

/// Takes the text of an envelope out of the buffer again, from the headers' ranges too, which stand behind it.
pub(super) fn take_away(out: &mut Vec<u8>, scratch: Range<usize>, headers: &mut [RecordHeader]) {
    let length = scratch.len();
    out.drain(scratch);
    for range in headers.iter_mut().filter_map(|header| header.value.as_mut()) {
        *range = range.start.saturating_sub(length)..range.end.saturating_sub(length);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_behind_nested_ones() {
        let text = br#"{"a":"x\"}","b":{"c":[1,{"d":2}],"e":"]"},"c":null,"d":-1.5,"e":[]}"#;
        for (name, value) in
            [("a", r#""x\"}""#), ("b", r#"{"c":[1,{"d":2}],"e":"]"}"#), ("c", "null"), ("d", "-1.5"), ("e", "[]")]
        {
            assert_eq!(&text[member(text, name).unwrap()], value.as_bytes(), "{name}");
        }
        for absent in ["f", "", "x\\\"}"] {
            assert_eq!(member(text, absent), None);
        }
        assert_eq!(member(b"{}", "a"), None);
        assert_eq!(member(b"", "a"), None);
        assert_eq!(member(br#"{"a":"#, "a"), None);
    }

    #[test]
    fn headers_are_texts() {
        let name = Arc::from("h");
        for (json, text) in [("null", None), (r#""a\"b""#, Some("a\"b")), ("17", Some("17")), ("true", Some("true"))] {
            let mut out = b"xy".to_vec();
            out.extend_from_slice(json.as_bytes());
            let mut found = [header(&mut out, 2, &name)];
            take_away(&mut out, 0..1, &mut found);
            assert_eq!(found[0].value.clone().map(|range| &out[range]), text.map(str::as_bytes), "{json}");
        }
    }
}
