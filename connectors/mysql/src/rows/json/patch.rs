//! Differences of a document (`binlog_row_value_options=PARTIAL_JSON`), applied to the one before.
//!
//! ```text
//! operation (a byte) | length, path | length, value: type and data, as in a document; a removal has none
//! ```
//!
//! Of the document before only what lies on the paths is taken apart; all else is written from its bytes. Objects keep the server's
//! order of keys: by length, then by bytes.
//!
//! Guarantees: what is taken apart is bounded by the number of bytes, since offsets of damaged documents may point anywhere. A
//! difference that doesn't fit the document is none at all, never a guess.

use bumpalo::Bump;
use bumpalo::collections::Vec;

use super::{ARRAY, LARGE_ARRAY, LARGE_OBJECT, MAX_DEPTH, OBJECT, Writer, container, key, member, root};
use crate::cursor::{Cursor, Short};

const REPLACE: u8 = 0;
const INSERT: u8 = 1;
const REMOVE: u8 = 2;

/// The text of the document after; none if the differences don't fit the document before, or one of both is damaged.
pub(in crate::rows) fn changed<'a>(before: &'a [u8], differences: &'a [u8], arena: &'a Bump) -> Option<&'a str> {
    let size = before.len() + differences.len();
    let (kind, data) = root(before);
    let mut tree = Tree { root: Node::Raw(kind, data), left: size, arena };
    let mut at = Cursor::new(differences);
    while !at.is_empty() {
        tree.apply(&mut at).ok()?;
    }
    let mut out = Writer::new(size, arena);
    out.node(&tree.root, 0).ok()?;
    Some(out.out.into_bump_str())
}

/// A value, taken apart or not.
enum Node<'a> {
    /// Type and data.
    Raw(u8, &'a [u8]),
    Object(Vec<'a, (&'a str, Node<'a>)>),
    Array(Vec<'a, Node<'a>>),
}

struct Tree<'a> {
    root: Node<'a>,
    /// Members that may still be taken apart.
    left: usize,
    arena: &'a Bump,
}

/// A step of a path.
#[derive(Debug, PartialEq)]
enum Step<'a> {
    Key(&'a str),
    Place(usize),
}

impl<'a> Tree<'a> {
    fn apply(&mut self, at: &mut Cursor<'a>) -> Result<(), Short> {
        let operation = at.u8()?;
        let path = std::str::from_utf8(at.lenenc_bytes()?).map_err(|_| Short)?;
        let value = match operation {
            REPLACE | INSERT => {
                let (kind, data) = at.lenenc_bytes()?.split_first().ok_or(Short)?;
                Some(Node::Raw(*kind, data))
            }
            REMOVE => None,
            _ => return Err(Short),
        };
        let mut steps = steps(path, self.arena)?;
        let last = steps.pop();
        let (arena, left) = (self.arena, &mut self.left);
        let mut parent = &mut self.root;
        for step in &steps {
            parent = parent.child(step, left, arena)?;
        }
        match (last, value) {
            (None, Some(value)) if operation == REPLACE => *parent = value,
            (Some(last), Some(value)) if operation == REPLACE => *parent.child(&last, left, arena)? = value,
            (Some(last), Some(value)) => parent.insert(last, value, left, arena)?,
            (Some(last), None) => parent.remove(&last, left, arena)?,
            (None, _) => return Err(Short),
        }
        Ok(())
    }
}

impl<'a> Node<'a> {
    /// Takes a container apart; what is none stays as it is.
    fn open(&mut self, left: &mut usize, arena: &'a Bump) -> Result<(), Short> {
        let Node::Raw(kind, data) = *self else { return Ok(()) };
        let width = if matches!(kind, LARGE_OBJECT | LARGE_ARRAY) { 4 } else { 2 };
        let mut taken = |count: usize| -> Result<(), Short> {
            *left = left.checked_sub(count).ok_or(Short)?;
            Ok(())
        };
        match kind {
            OBJECT | LARGE_OBJECT => {
                let (count, all, mut keys) = container(data, width)?;
                taken(count)?;
                let mut values = keys;
                values.take(count.checked_mul(width + 2).ok_or(Short)?)?;
                let mut members = Vec::with_capacity_in(count + 1, arena);
                for _ in 0..count {
                    let name = key(&mut keys, all, width)?;
                    let (kind, data) = member(&mut values, all, width)?;
                    members.push((name, Node::Raw(kind, data)));
                }
                *self = Node::Object(members);
            }
            ARRAY | LARGE_ARRAY => {
                let (count, all, mut values) = container(data, width)?;
                taken(count)?;
                let mut members = Vec::with_capacity_in(count + 1, arena);
                for _ in 0..count {
                    let (kind, data) = member(&mut values, all, width)?;
                    members.push(Node::Raw(kind, data));
                }
                *self = Node::Array(members);
            }
            _ => {}
        }
        Ok(())
    }

    fn child(&mut self, step: &Step<'_>, left: &mut usize, arena: &'a Bump) -> Result<&mut Node<'a>, Short> {
        self.open(left, arena)?;
        match (self, step) {
            (Node::Object(members), Step::Key(key)) => {
                members.iter_mut().find(|(name, _)| name == key).map(|(_, node)| node).ok_or(Short)
            }
            (Node::Array(members), Step::Place(place)) => members.get_mut(*place).ok_or(Short),
            // What isn't an array counts as one of itself.
            (node @ (Node::Raw(..) | Node::Object(_)), Step::Place(0)) => Ok(node),
            _ => Err(Short),
        }
    }

    fn insert(&mut self, step: Step<'a>, value: Node<'a>, left: &mut usize, arena: &'a Bump) -> Result<(), Short> {
        self.open(left, arena)?;
        match (self, step) {
            (Node::Object(members), Step::Key(key)) => {
                let order = |name: &str| name.len().cmp(&key.len()).then_with(|| name.as_bytes().cmp(key.as_bytes()));
                let place = members.binary_search_by(|(name, _)| order(name)).err().ok_or(Short)?;
                members.insert(place, (key, value));
            }
            (Node::Array(members), Step::Place(place)) => members.insert(place.min(members.len()), value),
            _ => return Err(Short),
        }
        Ok(())
    }

    fn remove(&mut self, step: &Step<'_>, left: &mut usize, arena: &'a Bump) -> Result<(), Short> {
        self.open(left, arena)?;
        match (self, step) {
            (Node::Object(members), Step::Key(key)) => {
                let place = members.iter().position(|(name, _)| name == key).ok_or(Short)?;
                members.remove(place);
            }
            (Node::Array(members), Step::Place(place)) if *place < members.len() => {
                members.remove(*place);
            }
            _ => return Err(Short),
        }
        Ok(())
    }
}

impl Writer<'_> {
    fn node(&mut self, node: &Node<'_>, depth: u32) -> Result<(), Short> {
        if depth > MAX_DEPTH {
            return Err(Short);
        }
        match node {
            Node::Raw(kind, data) => self.value(*kind, data, depth)?,
            Node::Object(members) => {
                self.out.push('{');
                for (index, (name, member)) in members.iter().enumerate() {
                    if index > 0 {
                        self.out.push_str(", ");
                    }
                    self.string(name);
                    self.out.push_str(": ");
                    self.node(member, depth + 1)?;
                }
                self.out.push('}');
            }
            Node::Array(members) => {
                self.out.push('[');
                for (index, member) in members.iter().enumerate() {
                    if index > 0 {
                        self.out.push_str(", ");
                    }
                    self.node(member, depth + 1)?;
                }
                self.out.push(']');
            }
        }
        Ok(())
    }
}

/// The steps of a path as the server writes it: `$.name."another name"[3]`.
fn steps<'a>(path: &'a str, arena: &'a Bump) -> Result<Vec<'a, Step<'a>>, Short> {
    let mut found = Vec::new_in(arena);
    let mut rest = path.strip_prefix('$').ok_or(Short)?;
    while !rest.is_empty() {
        if found.len() > MAX_DEPTH as usize {
            return Err(Short);
        }
        if let Some(behind) = rest.strip_prefix('[') {
            let (place, behind) = behind.split_once(']').ok_or(Short)?;
            found.push(Step::Place(place.parse().map_err(|_| Short)?));
            rest = behind;
            continue;
        }
        let name = rest.strip_prefix('.').ok_or(Short)?;
        if name.starts_with('"') {
            let (quoted, behind) = quoted(name)?;
            let name: String = serde_json::from_str(quoted).map_err(|_| Short)?;
            found.push(Step::Key(arena.alloc_str(&name)));
            rest = behind;
        } else {
            let (name, behind) = name.split_at(name.find(['.', '[']).unwrap_or(name.len()));
            if name.is_empty() {
                return Err(Short);
            }
            found.push(Step::Key(name));
            rest = behind;
        }
    }
    Ok(found)
}

/// A text in double quotes, and what is behind it.
fn quoted(text: &str) -> Result<(&str, &str), Short> {
    let mut escaped = false;
    for (index, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return text.split_at_checked(index + 1).ok_or(Short),
            _ => {}
        }
    }
    Err(Short)
}

#[cfg(test)]
mod tests;
