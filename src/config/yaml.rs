//! YAML text into a located tree.
//!
//! ```text
//! bytes -> UTF-8 -> serde-saphyr's parser events -> Node (map, list, scalar text, null; each with line and column)
//! ```
//!
//! serde-saphyr's own deserializer stops at the first error and types plain scalars; we need every error and the literal
//! text (`0123`, `1.10` and `no` are what the user wrote, the typed reader decides what they mean). So this file drives the
//! event parser that serde-saphyr is built on and re-exports; it is the only YAML parser of the daemon.
//!
//! Guarantees: work and memory are bounded whatever the input (file size, nodes after alias expansion, depth); duplicate
//! keys, tags and several documents are errors. After a syntax error nothing more of that file is read.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use serde_saphyr::granit_parser::{self, ErrorKind, Event, Marker, Parser, ScalarStyle, StrInput, Tag};

use super::errors::{Collector, Place};

/// Largest configuration file that is read, in bytes.
pub(crate) const MAX_FILE_BYTES: u64 = 1 << 20;
/// Most nodes in one file, counted after aliases are expanded.
const MAX_NODES: usize = 20_000;
/// Deepest nesting; the configuration itself needs 3.
const MAX_DEPTH: usize = 32;

/// A value with its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    /// Where the value starts.
    pub(crate) place: Place,
    /// What it is.
    pub(crate) kind: Kind,
}

/// What a [`Node`] holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// Nothing, `~` or `null`, unquoted.
    Null,
    /// A scalar's literal text after YAML's own unescaping.
    Scalar(String),
    /// A value with a mistake that is reported already; nothing more is said about it.
    Reported,
    /// A sequence.
    List(Vec<Node>),
    /// A mapping in file order.
    Map(Vec<Entry>),
}

/// A key of a mapping and its value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_place: Place,
    pub(crate) value: Node,
}

impl Kind {
    /// What this is called in messages.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Null | Self::Reported => "nothing",
            Self::Scalar(_) => "a single value",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }

    fn nodes(&self) -> usize {
        match self {
            Self::Null | Self::Reported | Self::Scalar(_) => 1,
            Self::List(items) => 1 + items.iter().map(|item| item.kind.nodes()).sum::<usize>(),
            Self::Map(entries) => 1 + entries.iter().map(|entry| 1 + entry.value.kind.nodes()).sum::<usize>(),
        }
    }
}

/// Parses one file; an empty one is null. Mistakes go to `errors`; `None` when there is no tree to go on with.
pub(crate) fn parse(file: &Arc<Path>, bytes: &[u8], errors: &Collector) -> Option<Node> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let valid = bytes.get(..error.valid_up_to()).map(String::from_utf8_lossy).unwrap_or_default();
            let line = valid.matches('\n').count() + 1;
            let column = valid.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
            errors.push(&Place::at(Arc::clone(file), line, column), "the file is not UTF-8 text");
            return None;
        }
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let options = granit_parser::options! {
        emit_comments: false,
        emit_unresolved_aliases: true,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let parser = Parser::new_from_str_with_options(text, options);
    let mut builder = Builder { parser, file, errors, anchors: HashMap::new(), nodes: 0 };
    builder.document().ok()
}

/// The error is in the collector already; there is no way to go on with this file.
struct Stop;

struct Builder<'a> {
    parser: Parser<'a, StrInput<'a>>,
    file: &'a Arc<Path>,
    errors: &'a Collector,
    /// Finished anchored nodes, by the parser's anchor id.
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'a> Builder<'a> {
    fn place(&self, mark: &Marker) -> Place {
        Place::at(Arc::clone(self.file), mark.line(), mark.col() + 1)
    }

    fn stop(&self, place: &Place, message: impl Into<String>) -> Stop {
        self.errors.push(place, message);
        Stop
    }

    fn next(&mut self) -> Result<(Event<'a>, Place), Stop> {
        match self.parser.next_event() {
            // A tagged value starts at its tag; the parser's span is that of the value alone.
            Some(Ok((event, span))) => Ok((event, self.place(&span.tag_start().unwrap_or(span.start)))),
            Some(Err(error)) => {
                let place = self.place(error.marker());
                Err(self.stop(&place, format!("invalid YAML: {}{}", error.info(), hint(error.kind()))))
            }
            None => Err(self.stop(&Place::file(Arc::clone(self.file)), "invalid YAML: the text ends unexpectedly")),
        }
    }

    fn document(&mut self) -> Result<Node, Stop> {
        let mut root = None;
        loop {
            match self.next()? {
                (Event::StreamStart | Event::DocumentEnd, _) => {}
                (Event::DocumentStart(..), place) if root.is_some() => {
                    return Err(self.stop(&place, "more than one YAML document; write one file per source"));
                }
                (Event::DocumentStart(..), _) => {
                    let (event, place) = self.next()?;
                    root = Some(self.node(event, place, 0)?);
                }
                (Event::StreamEnd, _) => break,
                (_, place) => return Err(self.stop(&place, "invalid YAML")),
            }
        }
        Ok(root.unwrap_or_else(|| Node { place: Place::at(Arc::clone(self.file), 1, 1), kind: Kind::Null }))
    }

    fn node(&mut self, event: Event<'a>, place: Place, depth: usize) -> Result<Node, Stop> {
        self.count(1, &place)?;
        if depth > MAX_DEPTH {
            return Err(self.stop(&place, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let (kind, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let string_tag = self.tag(tag.as_deref(), &place);
                let null = style == ScalarStyle::Plain && !string_tag && matches!(&*text, "" | "~" | "null");
                let kind = match (&tag, string_tag) {
                    (Some(_), false) => Kind::Reported,
                    _ if null => Kind::Null,
                    _ => Kind::Scalar(text.into_owned()),
                };
                (kind, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.tag(tag.as_deref(), &place);
                (Kind::List(self.list(depth)?), anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.tag(tag.as_deref(), &place);
                (Kind::Map(self.map(depth)?), anchor)
            }
            Event::Alias(id) => {
                // An alias inside its own anchor is not finished yet, and so not found.
                let Some(target) = self.anchors.get(&id) else {
                    return Err(self.stop(&place, "an alias can't refer to the value that it is a part of"));
                };
                let kind = target.kind.clone();
                self.count(kind.nodes(), &place)?;
                (kind, 0)
            }
            // The name isn't quoted: it may be a password that should have been.
            Event::UnresolvedAlias(_) => {
                self.errors.push(
                    &place,
                    "a value that begins with `*` is a YAML alias, and no anchor has this name; put the value in quotes",
                );
                (Kind::Reported, 0)
            }
            _ => return Err(self.stop(&place, "invalid YAML: a value is missing")),
        };
        let node = Node { place, kind };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Stop> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, place) => items.push(self.node(event, place, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<Entry>, Stop> {
        let mut entries: Vec<Entry> = Vec::new();
        // Found by key, so that a mapping with thousands of keys isn't quadratic.
        let mut seen: HashMap<String, Place> = HashMap::new();
        loop {
            let (event, key_place) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(entries);
            }
            let key = self.node(event, key_place.clone(), depth + 1)?;
            let (event, place) = self.next()?;
            let value = self.node(event, place, depth + 1)?;
            let key = match key.kind {
                Kind::Scalar(text) => text,
                Kind::Null => String::new(),
                Kind::Reported => continue,
                Kind::List(_) | Kind::Map(_) => {
                    self.errors.push(&key_place, "a key must be a single word; put a value with { } or [ ] in quotes");
                    continue;
                }
            };
            match seen.get(&key) {
                Some(Place::File { line, .. }) => {
                    self.errors.push(&key_place, format!("duplicate key `{key}`; it is already set in line {line}"));
                }
                _ => {
                    seen.insert(key.clone(), key_place.clone());
                    entries.push(Entry { key, key_place, value });
                }
            }
        }
    }

    /// Counts nodes, also those that an alias copies: ten lines of nested aliases would otherwise be a billion nodes.
    fn count(&mut self, nodes: usize, place: &Place) -> Result<(), Stop> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            return Err(self.stop(place, format!("more than {MAX_NODES} values (aliases counted where they are used)")));
        }
        Ok(())
    }

    /// Refuses tags; `!!str` is harmless, since all scalars are text, and makes a null a text. True for `!!str`.
    fn tag(&self, tag: Option<&Tag>, place: &Place) -> bool {
        let Some(tag) = tag else { return false };
        if tag.core_suffix() == Some("str") {
            return true;
        }
        self.errors.push(
            place,
            "a value that begins with `!` is a YAML tag, and tags aren't used here; put the value in quotes",
        );
        false
    }
}

fn hint(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::TabNotAllowed | ErrorKind::TabInBlockIndentation | ErrorKind::TabInIndentation => {
            "; indent with spaces"
        }
        ErrorKind::UnexpectedCharacter { .. } => "; put the value in quotes",
        _ => "",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn parse_text(text: &str) -> Result<Node, String> {
        let errors = Collector::default();
        let node = parse(&Arc::from(Path::new("x.yaml")), text.as_bytes(), &errors);
        errors.finish().map_err(|errors| errors.iter().map(|e| e.to_string()).collect::<Vec<_>>().join("\n"))?;
        node.ok_or_else(|| "no tree and no error".to_owned())
    }

    fn entry<'a>(node: &'a Node, key: &str) -> &'a Entry {
        let Kind::Map(entries) = &node.kind else { panic!("not a map: {node:?}") };
        entries.iter().find(|entry| entry.key == key).unwrap()
    }

    #[test]
    fn scalars_keep_their_literal_text() {
        let node =
            parse_text("a: 0123\nb: 1.10\nc: no\nd: 1e3\ne: \"x\\ty\"\nf: 0x1F\ng: 2026-01-01\nh: 'null'\n").unwrap();
        for (key, text) in [("a", "0123"), ("b", "1.10"), ("c", "no"), ("d", "1e3"), ("e", "x\ty"), ("f", "0x1F")] {
            assert_eq!(entry(&node, key).value.kind, Kind::Scalar(text.into()), "{key}");
        }
        assert_eq!(entry(&node, "g").value.kind, Kind::Scalar("2026-01-01".into()));
        assert_eq!(entry(&node, "h").value.kind, Kind::Scalar("null".into()));
    }

    #[test]
    fn nothing_tilde_and_null_are_null() {
        let node = parse_text("a:\nb: ~\nc: null\nd: !!str\n").unwrap();
        for key in ["a", "b", "c"] {
            assert_eq!(entry(&node, key).value.kind, Kind::Null, "{key}");
        }
        assert_eq!(entry(&node, "d").value.kind, Kind::Scalar(String::new()));
    }

    #[test]
    fn places_count_lines_and_columns_from_one() {
        let node = parse_text("a: 1\nb:\n  ü: {c: x}\n").unwrap();
        let inner = entry(&entry(&node, "b").value, "ü");
        assert_eq!(inner.key_place, Place::at(Path::new("x.yaml"), 3, 3));
        assert_eq!(entry(&inner.value, "c").value.place, Place::at(Path::new("x.yaml"), 3, 10));
    }

    #[test]
    fn an_alias_copies_its_anchor() {
        let node = parse_text("a: &x [1, 2]\nb: *x\n").unwrap();
        assert_eq!(entry(&node, "b").value.kind.nodes(), 3);
        assert_eq!(entry(&node, "b").value.place, Place::at(Path::new("x.yaml"), 2, 4));
    }

    #[test]
    fn an_alias_bomb_is_stopped_early() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..40 {
            let previous = level - 1;
            let items = vec![format!("*a{previous}"); 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{items}]\n"));
        }
        let error = parse_text(&text).unwrap_err();
        assert!(error.contains("more than 20000 values (aliases counted where they are used)"), "{error}");
    }

    #[test]
    fn an_alias_to_its_own_parent_is_an_error() {
        let error = parse_text("a: &a [1, *a]\n").unwrap_err();
        assert!(error.starts_with("x.yaml:1:11: "), "{error}");
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_stack_overflow() {
        for text in ["[".repeat(100_000), "- ".repeat(100_000), format!("a: {}", "{a: ".repeat(100))] {
            assert!(parse_text(&text).is_err());
        }
    }

    #[test]
    fn glob_and_exclusion_without_quotes_are_explained() {
        let error = parse_text("tables:\n  - !public.audit\n  - *.orders\n").unwrap_err();
        assert_eq!(
            error,
            "x.yaml:2:5: a value that begins with `!` is a YAML tag, and tags aren't used here; put the value in quotes\n\
             x.yaml:3:5: a value that begins with `*` is a YAML alias, and no anchor has this name; put the value in quotes"
        );
    }

    #[test]
    fn a_byte_order_mark_and_windows_line_ends_are_accepted() {
        let node = parse_text("\u{feff}a: 1\r\nb: 2\r\n").unwrap();
        assert_eq!(entry(&node, "b").value.kind, Kind::Scalar("2".into()));
    }

    #[test]
    fn damaged_input_never_panics() {
        let good = include_bytes!("../../config/sources/shop-postgres.yaml");
        for cut in 0..good.len() {
            let errors = Collector::default();
            let _ = parse(&Arc::from(Path::new("x.yaml")), &good[..cut], &errors);
            let mut flipped = good.to_vec();
            flipped[cut] ^= 0x15;
            let _ = parse(&Arc::from(Path::new("x.yaml")), &flipped, &errors);
        }
    }
}
