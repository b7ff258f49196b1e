//! The layers of a source's configuration, merged key by key.
//!
//! ```text
//! shared file  <  source file  <  environment  <  command line (--to)      the right one wins
//! ```
//!
//! The merge is the `config` crate's. It is given strings only, because it would turn `0123` into `123` and `1.10` into
//! `1.1`; every string carries an index into our table of places as its `origin`, so that an error found after the merge
//! still names the file and line, or the variable, that the value came from. Its keys are paths (`a.b`, `a[0]`), so
//! characters that mean something there are escaped on the way in, and restored on the way out.
//!
//! Lists and single values replace each other; mappings merge. The short form of a section (`backfill: never`) becomes the
//! section first, and what lower layers say about the keys that it stands for is left out. A `sink` whose `type` differs from the one in effect is
//! left out as a whole: brokers of a shared Kafka mean nothing to a source that writes to a file.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

use config::{Map, Source, Value, ValueKind};

use super::environment::Override;
use super::errors::{Collector, Place};
use super::keys::{self, Kinds, Scope, Shape};
use super::yaml::{Entry, Kind, Node};

/// What goes into one source's configuration. The trees hold known keys only (see [`keys::check_file`]).
pub(crate) struct Layers<'a> {
    pub(crate) shared: Option<&'a Node>,
    pub(crate) file: Option<&'a Node>,
    pub(crate) overrides: &'a [Override],
    /// `sink.type` from the command line: replaces the sink as a whole, and the delivery with it.
    pub(crate) sink: Option<&'static str>,
}

impl Layers<'_> {
    /// The kinds in effect, as far as they can be told before `${...}` is resolved.
    pub(crate) fn kinds(&self) -> Kinds {
        let known = |text: String, allowed: &[&str]| allowed.contains(&text.as_str()).then_some(text);
        let variable = |path: &str| {
            self.overrides.iter().find(|candidate| candidate.key.path == path).map(|found| found.text.clone())
        };
        let source = variable("source.type").or_else(|| text_at(self.file?, "source", "type"));
        let sink = self
            .sink
            .map(str::to_owned)
            .or_else(|| variable("sink.type"))
            .or_else(|| text_at(self.file?, "sink", "type"))
            .or_else(|| text_at(self.shared?, "sink", "type"));
        Kinds {
            source: source.and_then(|text| known(text, &["postgres", "mysql", "mariadb"])),
            sink: sink.and_then(|text| known(text, &["kafka", "stdout", "file"])),
        }
    }

    /// Merges the keys of `scope` (a source's, or what the shared file alone holds).
    pub(crate) fn merge(&self, scope: Scope, errors: &Collector) -> Node {
        let kinds = self.kinds();
        let mut merge = Merge::default();
        let mut builder = config::Config::builder();
        let chosen: Vec<&Override> = self.chosen(scope, &kinds).collect();
        for (tree, above) in [(self.shared, self.file), (self.file, None)] {
            if let Some(Node { place, kind: Kind::Map(entries) }) = tree {
                merge.sections.insert(String::new(), (place.clone(), place.clone()));
                let kept = entries
                    .iter()
                    .filter(|entry| self.takes_part(entry, scope, &kinds))
                    .map(|entry| long_form(entry, above, &chosen));
                builder = builder.add_source(merge.layer(kept));
            }
        }
        builder = builder.add_source(merge.environment(chosen.into_iter()));
        if let Some(sink) = self.sink.filter(|_| scope != Scope::Shared) {
            builder = builder.add_source(merge.command_line(sink));
        }
        let (place, _) = merge.sections.get("").cloned().unwrap_or((Place::CommandLine, Place::CommandLine));
        match builder.build() {
            Ok(merged) => merge.restore("", merged.cache, &place).1,
            // Strings and tables alone can't make the merge fail; should it all the same, say so rather than go on.
            Err(error) => {
                errors.push(&place, format!("the configuration can't be merged: {error}"));
                Node { place, kind: Kind::Map(Vec::new()) }
            }
        }
    }

    fn takes_part(&self, entry: &Entry, scope: Scope, kinds: &Kinds) -> bool {
        let Some(key) = keys::find(&entry.key) else { return false };
        if (scope == Scope::Shared) != (key.scope == Scope::Shared) {
            return false;
        }
        match key.path {
            "sink" | "delivery" if self.sink.is_some() => false,
            "sink" => match (text_in(&entry.value, "type"), &kinds.sink) {
                (Some(written), Some(in_effect)) => {
                    written == *in_effect || !["kafka", "stdout", "file"].contains(&written.as_str())
                }
                _ => true,
            },
            _ => true,
        }
    }

    /// The overrides that apply here; they are marked as used.
    fn chosen(&self, scope: Scope, kinds: &Kinds) -> impl Iterator<Item = &Override> {
        self.overrides.iter().filter(move |candidate| {
            let of_sink = candidate.key.path == "delivery" || candidate.key.path.starts_with("sink.");
            if self.sink.is_some() && of_sink {
                candidate.used.set(true);
                return false;
            }
            let applies =
                (scope == Scope::Shared) == (candidate.key.scope == Scope::Shared) && candidate.key.fits(kinds);
            if applies {
                candidate.used.set(true);
            }
            applies
        })
    }
}

/// The entry with a short form written out as a section, without the keys that a short form above it takes the place of.
fn long_form<'e>(entry: &'e Entry, above: Option<&Node>, chosen: &[&Override]) -> Cow<'e, Entry> {
    let Some(key) = keys::find(&entry.key) else { return Cow::Borrowed(entry) };
    let Shape::Short { word, list } = key.shape else { return Cow::Borrowed(entry) };
    let name = |path| keys::find(path).map_or(path, |key| key.name()).to_owned();
    let short =
        |name: String| vec![Entry { key: name, key_place: entry.key_place.clone(), value: entry.value.clone() }];
    let mut entries = match &entry.value.kind {
        Kind::Scalar(_) => short(name(word)),
        Kind::List(_) => short(name(list)),
        Kind::Map(entries) => entries.clone(),
        Kind::Null | Kind::Reported => return Cow::Borrowed(entry),
    };
    let in_file = above.and_then(|node| match &node.kind {
        Kind::Map(entries) => entries.iter().find(|above| above.key == entry.key),
        _ => None,
    });
    let replaced = in_file.is_some_and(|above| matches!(above.value.kind, Kind::Scalar(_) | Kind::List(_)))
        || chosen.iter().any(|found| found.short == Some(key));
    if replaced {
        entries.retain(|entry| entry.key != name(word) && entry.key != name(list));
    }
    let value = Node { place: entry.value.place.clone(), kind: Kind::Map(entries) };
    Cow::Owned(Entry { key: entry.key.clone(), key_place: entry.key_place.clone(), value })
}

/// The text of `section.name`, if it is there and a single value.
fn text_at(root: &Node, section: &str, name: &str) -> Option<String> {
    let Kind::Map(entries) = &root.kind else { return None };
    entries.iter().find(|entry| entry.key == section).and_then(|entry| text_in(&entry.value, name))
}

fn text_in(node: &Node, name: &str) -> Option<String> {
    let Kind::Map(entries) = &node.kind else { return None };
    entries.iter().find(|entry| entry.key == name).and_then(|entry| match &entry.value.kind {
        Kind::Scalar(text) => Some(text.clone()),
        _ => None,
    })
}

/// What is remembered beside the strings, to restore the tree after the merge.
#[derive(Default)]
struct Merge {
    /// (place of the key, place of the value), by the index that a value carries as its origin.
    places: Vec<(Place, Place)>,
    /// The same of mappings, by escaped path; the highest layer that has it.
    sections: BTreeMap<String, (Place, Place)>,
    /// Variables by escaped path.
    variables: HashMap<String, String>,
    /// Escaped keys back to what was written.
    names: HashMap<String, String>,
}

impl Merge {
    fn layer<'a>(&mut self, entries: impl Iterator<Item = Cow<'a, Entry>>) -> Layer {
        let values = entries.map(|entry| self.entry("", &entry)).collect();
        Layer { values }
    }

    fn entry(&mut self, parent: &str, entry: &Entry) -> (String, Value) {
        let escaped = self.escape(&entry.key);
        let path = keys::join(parent, &escaped);
        (escaped, self.value(&path, &entry.key_place, &entry.value))
    }

    fn value(&mut self, path: &str, key_place: &Place, node: &Node) -> Value {
        let holds_keys = keys::find(path).is_some_and(|key| key.is_section() || key.shape == Shape::Properties);
        let kind = match &node.kind {
            // An empty section (all its keys commented out) overrides nothing.
            Kind::Null if holds_keys => {
                self.sections.insert(path.to_owned(), (key_place.clone(), node.place.clone()));
                ValueKind::Table(Map::new())
            }
            Kind::Null => ValueKind::Nil,
            // The one boolean there is: a mark, since all values are strings.
            Kind::Reported => ValueKind::Boolean(false),
            Kind::Scalar(text) => ValueKind::String(text.clone()),
            Kind::List(items) => {
                let item = |(index, item): (usize, &Node)| self.value(&entry_of(path, index), &item.place, item);
                ValueKind::Array(items.iter().enumerate().map(item).collect())
            }
            Kind::Map(entries) => {
                self.sections.insert(path.to_owned(), (key_place.clone(), node.place.clone()));
                ValueKind::Table(entries.iter().map(|entry| self.entry(path, entry)).collect())
            }
        };
        self.places.push((key_place.clone(), node.place.clone()));
        Value::new(Some(&(self.places.len() - 1).to_string()), kind)
    }

    fn environment<'a>(&mut self, overrides: impl Iterator<Item = &'a Override>) -> config::Environment {
        let mut variables = Map::new();
        for found in overrides {
            let mut path = found.key.path.to_owned();
            if let Some(property) = &found.property {
                path = keys::join(&path, &self.escape(property));
            }
            variables.insert(format!("ROWCAST__{}", path.replace('.', "__")), found.text.clone());
            self.variables.insert(path, found.variable.clone());
        }
        config::Environment::with_prefix("ROWCAST").separator("__").source(Some(variables))
    }

    fn command_line(&mut self, sink: &str) -> Layer {
        self.places.push((Place::CommandLine, Place::CommandLine));
        let value = Value::new(Some(&(self.places.len() - 1).to_string()), ValueKind::String(sink.to_owned()));
        let table = Value::new(None, ValueKind::Table([("type".to_owned(), value)].into_iter().collect()));
        self.sections.insert("sink".to_owned(), (Place::CommandLine, Place::CommandLine));
        Layer { values: [("sink".to_owned(), table)].into_iter().collect() }
    }

    /// `(place of the key, value)`; `within` is the place of the mapping around it.
    fn restore(&self, path: &str, value: Value, within: &Place) -> (Place, Node) {
        let known =
            value.origin().and_then(|origin| origin.parse::<usize>().ok()).and_then(|index| self.places.get(index));
        let from_variable = || self.variables.get(path).map(|name| Place::Variable(name.clone()));
        let (key_place, place) = match (known, &value.kind) {
            (_, ValueKind::Table(_)) | (None, _) => match self.sections.get(path).filter(|_| is_table(&value)) {
                Some(places) => places.clone(),
                None => {
                    let place = from_variable().unwrap_or_else(|| within.clone());
                    (place.clone(), place)
                }
            },
            (Some(places), _) => places.clone(),
        };
        let kind = match value.kind {
            ValueKind::Nil => Kind::Null,
            ValueKind::Boolean(_) => Kind::Reported,
            ValueKind::Table(table) => {
                let mut entries: Vec<Entry> = table
                    .into_iter()
                    .map(|(escaped, value)| {
                        let (key_place, value) = self.restore(&keys::join(path, &escaped), value, &key_place);
                        let key = self.names.get(&escaped).cloned().unwrap_or(escaped);
                        Entry { key, key_place, value }
                    })
                    .collect();
                entries.sort_by(|a, b| a.key.cmp(&b.key));
                Kind::Map(entries)
            }
            ValueKind::Array(items) => {
                let item = |(index, item)| self.restore(&entry_of(path, index), item, &place).1;
                Kind::List(items.into_iter().enumerate().map(item).collect())
            }
            other => Kind::Scalar(other.to_string()),
        };
        (key_place, Node { place, kind })
    }

    /// Escapes what means something in the `config` crate's paths; injective, since `-` itself is escaped.
    fn escape(&mut self, key: &str) -> String {
        let mut escaped = String::with_capacity(key.len());
        for letter in key.chars() {
            if letter.is_ascii_alphanumeric() || letter == '_' {
                escaped.push(letter);
            } else {
                escaped.push_str(&format!("-{:x}-", u32::from(letter)));
            }
        }
        self.names.insert(escaped.clone(), key.to_owned());
        escaped
    }
}

/// The path of an entry of a list; no key has one.
fn entry_of(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

fn is_table(value: &Value) -> bool {
    matches!(value.kind, ValueKind::Table(_))
}

/// A file's keys as a source of the `config` crate.
#[derive(Clone)]
struct Layer {
    values: Map<String, Value>,
}

impl fmt::Debug for Layer {
    /// Keys only: values may be passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.values.clone())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::super::environment::{Environment, overrides};
    use super::super::yaml;
    use super::*;

    fn tree(file: &str, text: &str) -> Node {
        let errors = Collector::default();
        let node = yaml::parse(&Arc::from(Path::new(file)), text.as_bytes(), &errors).unwrap();
        errors.finish().unwrap();
        node
    }

    fn merged(shared: &str, file: &str, variables: &[(&str, &str)], sink: Option<&'static str>) -> Node {
        let (shared, file) = (tree("rowcast.yaml", shared), tree("x.yaml", file));
        let errors = Collector::default();
        let environment: Environment = variables.iter().copied().collect();
        let overrides = overrides(&environment, &errors);
        let layers = Layers { shared: Some(&shared), file: Some(&file), overrides: &overrides, sink };
        let node = layers.merge(Scope::Source, &errors);
        errors.finish().unwrap();
        node
    }

    /// `path = text @ place` of every leaf.
    fn leaves(node: &Node, path: &str) -> Vec<String> {
        match &node.kind {
            Kind::Map(entries) => {
                entries.iter().flat_map(|entry| leaves(&entry.value, &keys::join(path, &entry.key))).collect()
            }
            Kind::List(items) => items.iter().flat_map(|item| leaves(item, &format!("{path}[]"))).collect(),
            Kind::Scalar(text) => vec![format!("{path} = {text} @ {}", node.place)],
            Kind::Null | Kind::Reported => vec![format!("{path} null @ {}", node.place)],
        }
    }

    #[test]
    fn layers_override_key_by_key_and_keep_their_places() {
        let node = merged(
            "sink:\n  type: kafka\n  brokers: a:1\n  properties: {linger.ms: 5, compression.type: lz4}\n",
            "name: x\nsink:\n  properties: {linger.ms: 0}\n",
            &[("ROWCAST__SINK__BROKERS", "b:2"), ("ROWCAST__SINK__PROPERTIES__BATCH_SIZE", "0010")],
            None,
        );
        assert_eq!(
            leaves(&node, ""),
            [
                "name = x @ x.yaml:1:7",
                "sink.brokers = b:2 @ environment variable ROWCAST__SINK__BROKERS",
                "sink.properties.batch.size = 0010 @ environment variable ROWCAST__SINK__PROPERTIES__BATCH_SIZE",
                "sink.properties.compression.type = lz4 @ rowcast.yaml:4:48",
                "sink.properties.linger.ms = 0 @ x.yaml:3:27",
                "sink.type = kafka @ rowcast.yaml:2:9",
            ]
        );
    }

    #[test]
    fn text_is_never_turned_into_numbers() {
        let node = merged("delivery: 1.10\n", "name: 0123\n", &[("ROWCAST__SOURCE__PASSWORD", "007")], None);
        assert_eq!(
            leaves(&node, ""),
            [
                "delivery = 1.10 @ rowcast.yaml:1:11",
                "name = 0123 @ x.yaml:1:7",
                "source.password = 007 @ environment variable ROWCAST__SOURCE__PASSWORD",
            ]
        );
    }

    #[test]
    fn a_list_replaces_a_list() {
        let node = merged("delivery: x\n", "source: {tables: [a.b, c.d]}\n", &[], None);
        assert_eq!(leaves(&node, "").len(), 3);
        let node =
            merged("delivery: x\n", "source: {tables: [a.b, c.d]}\n", &[("ROWCAST__SOURCE__TABLES", "e.f")], None);
        assert_eq!(leaves(&node, "")[1], "source.tables = e.f @ environment variable ROWCAST__SOURCE__TABLES");
    }

    #[test]
    fn a_shared_sink_of_another_type_is_left_out() {
        let node = merged("sink: {type: kafka, brokers: a:1}\n", "sink: {type: file, path: x}\n", &[], None);
        assert_eq!(leaves(&node, ""), ["sink.path = x @ x.yaml:1:26", "sink.type = file @ x.yaml:1:14"]);
    }

    #[test]
    fn a_sink_of_the_command_line_replaces_all_others_and_the_delivery() {
        let node = merged(
            "sink: {type: kafka, brokers: a:1}\ndelivery: exactly_once\n",
            "name: x\nsink: {topic: t}\n",
            &[("ROWCAST__SINK__BROKERS", "b:2")],
            Some("stdout"),
        );
        assert_eq!(leaves(&node, ""), ["name = x @ x.yaml:1:7", "sink.type = stdout @ command line"]);
    }

    #[test]
    fn an_empty_section_overrides_nothing() {
        let node = merged("commit: {interval: 1s}\n", "name: x\ncommit:\n", &[], None);
        assert_eq!(leaves(&node, "")[0], "commit.interval = 1s @ rowcast.yaml:1:20");
    }

    #[test]
    fn keys_with_odd_characters_survive() {
        let node = merged("sink: {type: kafka, properties: {'a.b[0] - ü': 1, 'a-2e-b': 2}}\n", "name: x\n", &[], None);
        assert_eq!(leaves(&node, "")[1], "sink.properties.a-2e-b = 2 @ rowcast.yaml:1:61");
        assert_eq!(leaves(&node, "")[2], "sink.properties.a.b[0] - ü = 1 @ rowcast.yaml:1:48");
    }
}
