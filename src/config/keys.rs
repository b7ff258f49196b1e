//! The table of all configuration keys, and the check of a file's keys against it.
//!
//! It is the single place that says which keys exist, in which file they may stand and for which kind of source or sink
//! they mean something. The environment overrides, the "unknown key" errors and the test that compares the documentation
//! with the code all read it.

use super::errors::Collector;
use super::suggest::{did_you_mean, nearest};
use super::yaml::{Entry, Kind, Node};

/// What a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A single value.
    Text,
    /// A list of single values.
    List,
    /// Other keys of the table.
    Section,
    /// A section that can also be written as a single value, short for one of its keys, or as a list, short for another.
    /// A short form takes the place of both keys wherever a lower layer has them.
    Short {
        /// The path of the key that a single value stands for.
        word: &'static str,
        /// The path of the key that a list stands for.
        list: &'static str,
    },
    /// Free keys with single values.
    Properties,
}

/// Where a key may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Only in a source file.
    Source,
    /// Only in the shared file.
    Shared,
    /// In the shared file, and overridden in a source file.
    Both,
}

/// For which kinds of source or sink a key means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum For {
    /// For all.
    All,
    /// For these values of `source.type`.
    Source(&'static [&'static str]),
    /// For these values of `sink.type`.
    Sink(&'static [&'static str]),
}

/// One key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// Dotted path from the root.
    pub(crate) path: &'static str,
    pub(crate) shape: Shape,
    pub(crate) scope: Scope,
    pub(crate) used_by: For,
}

const POSTGRES: For = For::Source(&["postgres"]);
const MYSQL: For = For::Source(&["mysql", "mariadb"]);
const KAFKA: For = For::Sink(&["kafka"]);
const FILE: For = For::Sink(&["file"]);

const fn key(path: &'static str, shape: Shape, scope: Scope, used_by: For) -> Key {
    Key { path, shape, scope, used_by }
}

/// `flatten: true`, or the fields that are added.
const FLATTEN: Shape = Shape::Short { word: "flatten.enabled", list: "flatten.add_fields" };
const BACKFILL: Shape = Shape::Short { word: "backfill.mode", list: "backfill.tables" };

/// Every key there is.
pub(crate) const KEYS: &[Key] = &[
    key("name", Shape::Text, Scope::Source, For::All),
    key("source", Shape::Section, Scope::Source, For::All),
    key("source.type", Shape::Text, Scope::Source, For::All),
    key("source.host", Shape::Text, Scope::Source, For::All),
    key("source.port", Shape::Text, Scope::Source, For::All),
    key("source.socket", Shape::Text, Scope::Source, MYSQL),
    key("source.target_session_attrs", Shape::Text, Scope::Source, For::All),
    key("source.database", Shape::Text, Scope::Source, POSTGRES),
    key("source.user", Shape::Text, Scope::Source, For::All),
    key("source.password", Shape::Text, Scope::Source, For::All),
    key("source.password_command", Shape::List, Scope::Source, For::All),
    key("source.tls", Shape::Section, Scope::Source, For::All),
    key("source.tls.mode", Shape::Text, Scope::Source, For::All),
    key("source.tls.ca", Shape::Text, Scope::Source, For::All),
    key("source.tls.cert", Shape::Text, Scope::Source, For::All),
    key("source.tls.key", Shape::Text, Scope::Source, For::All),
    key("source.tls.server_name", Shape::Text, Scope::Source, For::All),
    key("source.tables", Shape::List, Scope::Source, For::All),
    key("source.slot", Shape::Text, Scope::Source, POSTGRES),
    key("source.slot_in_use", Shape::Text, Scope::Source, POSTGRES),
    key("source.publication", Shape::Text, Scope::Source, POSTGRES),
    key("source.messages", Shape::List, Scope::Source, POSTGRES),
    key("source.origin", Shape::Text, Scope::Source, POSTGRES),
    key("source.two_phase", Shape::Text, Scope::Source, POSTGRES),
    key("source.spill_limit", Shape::Text, Scope::Source, For::All),
    key("source.binary", Shape::Text, Scope::Source, POSTGRES),
    key("source.server_public_key", Shape::Text, Scope::Source, MYSQL),
    key("source.cleartext_password", Shape::Text, Scope::Source, MYSQL),
    key("source.compression", Shape::Text, Scope::Source, MYSQL),
    key("source.server_id", Shape::Text, Scope::Source, MYSQL),
    key("source.include_query", Shape::Text, Scope::Source, MYSQL),
    key("source.start_at", Shape::Text, Scope::Source, For::All),
    key("source.connect_timeout", Shape::Text, Scope::Source, For::All),
    key("source.read_timeout", Shape::Text, Scope::Source, For::All),
    key("sink", Shape::Section, Scope::Both, For::All),
    key("sink.type", Shape::Text, Scope::Both, For::All),
    key("sink.brokers", Shape::Text, Scope::Both, KAFKA),
    key("sink.topic", Shape::Text, Scope::Both, KAFKA),
    key("sink.properties", Shape::Properties, Scope::Both, KAFKA),
    key("sink.topics", Shape::Section, Scope::Both, KAFKA),
    key("sink.topics.create", Shape::Text, Scope::Both, KAFKA),
    key("sink.topics.partitions", Shape::Text, Scope::Both, KAFKA),
    key("sink.topics.replication", Shape::Text, Scope::Both, KAFKA),
    key("sink.topics.config", Shape::Properties, Scope::Both, KAFKA),
    key("sink.topics.rules", Shape::List, Scope::Both, KAFKA),
    key("sink.tombstones", Shape::Text, Scope::Both, KAFKA),
    key("sink.path", Shape::Text, Scope::Both, FILE),
    key("sink.rotate", Shape::Section, Scope::Both, FILE),
    key("sink.rotate.max_bytes", Shape::Text, Scope::Both, FILE),
    key("sink.rotate.keep", Shape::Text, Scope::Both, FILE),
    key("format", Shape::Text, Scope::Both, For::All),
    key("debezium", Shape::Section, Scope::Both, For::All),
    key("debezium.exact", Shape::Text, Scope::Both, For::All),
    key("debezium.topic_prefix", Shape::Text, Scope::Both, For::All),
    key("debezium.key_schemas_enable", Shape::Text, Scope::Both, For::All),
    key("debezium.value_schemas_enable", Shape::Text, Scope::Both, For::All),
    key("debezium.value_replace_null_with_default", Shape::Text, Scope::Both, For::All),
    key("debezium.extended_headers_enabled", Shape::Text, Scope::Both, For::All),
    key("debezium.tombstones_on_delete", Shape::Text, Scope::Both, For::All),
    key("debezium.decimal_handling_mode", Shape::Text, Scope::Both, For::All),
    key("debezium.time_precision_mode", Shape::Text, Scope::Both, For::All),
    key("debezium.binary_handling_mode", Shape::Text, Scope::Both, For::All),
    key("debezium.bigint_unsigned_handling_mode", Shape::Text, Scope::Both, For::All),
    key("debezium.interval_handling_mode", Shape::Text, Scope::Both, For::All),
    key("debezium.hstore_handling_mode", Shape::Text, Scope::Both, For::All),
    key("debezium.money_fraction_digits", Shape::Text, Scope::Both, For::All),
    key("debezium.unavailable_value_placeholder", Shape::Text, Scope::Both, For::All),
    key("debezium.skipped_operations", Shape::Text, Scope::Both, For::All),
    key("debezium.schema_name_adjustment_mode", Shape::Text, Scope::Both, For::All),
    key("debezium.field_name_adjustment_mode", Shape::Text, Scope::Both, For::All),
    key("debezium.provide_transaction_metadata", Shape::Text, Scope::Both, For::All),
    key("debezium.topic_transaction", Shape::Text, Scope::Both, For::All),
    key("debezium.include_schema_changes", Shape::Text, Scope::Both, MYSQL),
    key("debezium.heartbeat_interval_ms", Shape::Text, Scope::Both, For::All),
    key("debezium.topic_heartbeat_prefix", Shape::Text, Scope::Both, For::All),
    key("debezium.topic_heartbeat_name", Shape::Text, Scope::Both, For::All),
    key("debezium.message_key_columns", Shape::Text, Scope::Both, For::All),
    key("debezium.column_include_list", Shape::Text, Scope::Both, For::All),
    key("debezium.column_exclude_list", Shape::Text, Scope::Both, For::All),
    key("debezium.column_truncate_to_chars", Shape::Properties, Scope::Both, For::All),
    key("debezium.column_mask_with_chars", Shape::Properties, Scope::Both, For::All),
    key("debezium.column_mask_hash", Shape::Properties, Scope::Both, For::All),
    key("debezium.column_mask_hash_v2", Shape::Properties, Scope::Both, For::All),
    key("debezium.column_propagate_source_type", Shape::Text, Scope::Both, For::All),
    key("debezium.datatype_propagate_source_type", Shape::Text, Scope::Both, For::All),
    key("debezium.skip_messages_without_change", Shape::Text, Scope::Both, For::All),
    key("debezium.topic_delimiter", Shape::Text, Scope::Both, For::All),
    key("flatten", FLATTEN, Scope::Both, For::All),
    key("flatten.enabled", Shape::Text, Scope::Both, For::All),
    key("flatten.delete_tombstone_handling_mode", Shape::Text, Scope::Both, For::All),
    key("flatten.add_fields", Shape::List, Scope::Both, For::All),
    key("flatten.add_fields_prefix", Shape::Text, Scope::Both, For::All),
    key("flatten.add_headers", Shape::List, Scope::Both, For::All),
    key("flatten.add_headers_prefix", Shape::Text, Scope::Both, For::All),
    key("delivery", Shape::Text, Scope::Both, For::All),
    key("memory", Shape::Section, Scope::Both, For::All),
    key("memory.budget", Shape::Text, Scope::Both, For::All),
    key("commit", Shape::Section, Scope::Both, For::All),
    key("commit.interval", Shape::Text, Scope::Both, For::All),
    key("commit.max_bytes", Shape::Text, Scope::Both, For::All),
    key("backfill", BACKFILL, Scope::Both, For::All),
    key("backfill.mode", Shape::Text, Scope::Both, For::All),
    key("backfill.tables", Shape::List, Scope::Both, For::All),
    key("backfill.rows_per_second", Shape::Text, Scope::Both, For::All),
    key("backfill.parallelism", Shape::Text, Scope::Both, For::All),
    key("backfill.chunk_rows", Shape::Text, Scope::Both, For::All),
    key("backfill.max_load", Shape::Text, Scope::Both, For::All),
    key("backfill.max_lag", Shape::Text, Scope::Both, For::All),
    key("backfill.max_lag_bytes", Shape::Text, Scope::Both, For::All),
    key("on_gap", Shape::Text, Scope::Both, For::All),
    key("on_poison", Shape::Text, Scope::Both, For::All),
    key("on_table_failure", Shape::Text, Scope::Both, For::All),
    key("state_dir", Shape::Text, Scope::Both, For::All),
    key("admin", Shape::Text, Scope::Shared, For::All),
    key("logging", Shape::Section, Scope::Shared, For::All),
    key("logging.format", Shape::Text, Scope::Shared, For::All),
    key("logging.level", Shape::Text, Scope::Shared, For::All),
];

/// Whether there is such a key.
pub(crate) fn is_key(path: &str) -> bool {
    KEYS.iter().any(|key| key.path == path)
}

/// Keys that people look for and that can't be there, with the reason; each says what to do.
const REFUSED: &[(&str, &str)] = &[
    (
        "backfill.host",
        "what a replica shows can't be compared with the primary's log: PostgreSQL standbys don't say which transactions a \
         snapshot sees, and a MySQL replica has a binlog of its own; remove `backfill.host`",
    ),
    ("debezium.snapshot_mode", "which rows are copied is said by `backfill`; remove `debezium.snapshot_mode`"),
    (
        "debezium.heartbeat_action_query",
        "nothing is written to the source: positions are committed without events, so that neither a slot nor a checkpoint stays behind \
         while the captured tables are idle; remove `debezium.heartbeat_action_query`",
    ),
    (
        "debezium.heartbeat_topics_prefix",
        "that is `debezium.topic_heartbeat_prefix`, as in the original since 2.0; write it there",
    ),
    ("debezium.table_include_list", "tables are chosen by `source.tables`; write them there"),
    ("debezium.table_exclude_list", "tables are chosen by `source.tables`, where `!` leaves one out; write them there"),
    ("debezium.include_query", "that is `source.include_query`; write it there"),
    (
        "debezium.event_processing_failure_handling_mode",
        "what becomes of an event that can't be encoded is said by `on_poison`; write it there",
    ),
    (
        "debezium.enable_time_adjuster",
        "years stay as they are with `exact: true`, and move as in the original with `exact: false`; remove `debezium.enable_time_adjuster`",
    ),
    (
        "debezium.include_unknown_datatypes",
        "with `exact: true` types that the original leaves out are text; remove `debezium.include_unknown_datatypes`",
    ),
    ("debezium.xmin_fetch_interval_ms", "`xmin` is always null; remove `debezium.xmin_fetch_interval_ms`"),
];

/// The kinds that are in effect for a source; `None` while unknown (missing, misspelt or behind `${...}`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kinds {
    pub(crate) source: Option<String>,
    pub(crate) sink: Option<String>,
}

impl Key {
    /// The path of the section that the key stands in; empty at the root.
    pub(crate) fn parent(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(parent, _)| parent)
    }

    /// The last part of the path.
    pub(crate) fn name(&self) -> &'static str {
        self.path.rsplit_once('.').map_or(self.path, |(_, name)| name)
    }

    /// Whether other keys of the table stand in it.
    pub(crate) fn is_section(&self) -> bool {
        matches!(self.shape, Shape::Section | Shape::Short { .. })
    }

    /// Whether the key means something for these kinds; true while they are unknown.
    pub(crate) fn fits(&self, kinds: &Kinds) -> bool {
        let (allowed, kind) = match self.used_by {
            For::All => return true,
            For::Source(allowed) => (allowed, &kinds.source),
            For::Sink(allowed) => (allowed, &kinds.sink),
        };
        kind.as_deref().is_none_or(|kind| allowed.contains(&kind))
    }
}

/// The key with this path.
pub(crate) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// The message for a key that can't be there; none if this is no such key.
pub(crate) fn refused(path: &str) -> Option<String> {
    REFUSED.iter().find(|(refused, _)| *refused == path).map(|(_, why)| format!("`{path}` isn't supported: {why}"))
}

/// The path of `name` in the section `parent`.
pub(crate) fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
}

/// Reports every key of a file that doesn't exist or may not stand there, and gives back the tree without them.
///
/// `kinds` narrows the list of allowed keys in the message; a key of another kind is left to [`report_misfits`], because
/// only the merged layers tell which kind is in effect.
pub(crate) fn check_file(root: Node, scope: Scope, kinds: &Kinds, errors: &Collector) -> Node {
    check_section(root, "", scope, kinds, errors)
}

fn check_section(node: Node, path: &str, scope: Scope, kinds: &Kinds, errors: &Collector) -> Node {
    let Kind::Map(entries) = node.kind else { return node };
    let mut kept = Vec::new();
    for entry in entries {
        let entry_path = join(path, &entry.key);
        match find(&entry_path) {
            // A key with a dot in it (`source.host: x` in one line) has the path of a real one, but isn't it.
            Some(key) if !entry.key.contains('.') => {
                if key.scope != Scope::Both && key.scope != scope {
                    let home = if scope == Scope::Shared { "a source file" } else { "the shared file, rowcast.yaml" };
                    errors.push(&entry.key_place, format!("`{entry_path}` belongs in {home}"));
                    continue;
                }
                let value = match key.is_section() {
                    true => check_section(entry.value, &entry_path, scope, kinds, errors),
                    false => entry.value,
                };
                kept.push(Entry { value, ..entry });
            }
            _ => {
                let refused = refused(&entry_path).filter(|_| !entry.key.contains('.'));
                errors.push(&entry.key_place, refused.unwrap_or_else(|| unknown(&entry.key, path, scope, kinds)));
            }
        }
    }
    Node { kind: Kind::Map(kept), ..node }
}

fn unknown(name: &str, section: &str, scope: Scope, kinds: &Kinds) -> String {
    let allowed: Vec<&str> = KEYS
        .iter()
        .filter(|key| key.parent() == section && (key.scope == Scope::Both || key.scope == scope) && key.fits(kinds))
        .map(Key::name)
        .collect();
    let first = first_word(name);
    let shown = shown(name);
    let within = if section.is_empty() { String::new() } else { format!(" in `{section}`") };
    let advice = match nearest(name, allowed.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? "),
        None if name == "<<" => {
            "YAML merge keys aren't supported, what sources share belongs in rowcast.yaml; ".to_owned()
        }
        None if first != name => "a colon and a blank belong behind the key; ".to_owned(),
        None if name.contains('.') => "write nested keys in lines of their own, indented; ".to_owned(),
        None => KEYS
            .iter()
            .find(|key| key.name() == name)
            .map(|key| match key.parent() {
                "" => format!("`{name}` belongs at the top level; "),
                parent => format!("`{name}` belongs in `{parent}`; "),
            })
            .unwrap_or_default(),
    };
    format!("unknown key `{shown}`{within}; {advice}allowed: {}", allowed.join(", "))
}

/// A forgotten colon makes `password hunter2` a key: its first word only.
fn first_word(name: &str) -> &str {
    name.split_whitespace().next().unwrap_or_default()
}

fn shown(name: &str) -> String {
    let first = first_word(name);
    if first == name { name.to_owned() } else { format!("{first} …") }
}

/// The message for a key that is unknown in an entry of a list; such keys aren't in the table.
pub(crate) fn unknown_in_entry(name: &str, list: &str, allowed: &[&str]) -> String {
    let meant = not_one_of(name, allowed);
    format!("unknown key `{}` in an entry of `{list}`; {meant}", shown(name))
}

/// Reports keys of the merged tree that belong to another kind of source or sink.
pub(crate) fn report_misfits(root: &Node, kinds: &Kinds, errors: &Collector) {
    misfits(root, "", kinds, errors);
}

fn misfits(node: &Node, path: &str, kinds: &Kinds, errors: &Collector) {
    let Kind::Map(entries) = &node.kind else { return };
    for entry in entries {
        let entry_path = join(path, &entry.key);
        let Some(key) = find(&entry_path) else { continue };
        if !key.fits(kinds) {
            let (allowed, section, kind) = match key.used_by {
                For::All => continue,
                For::Source(allowed) => (allowed, "source", &kinds.source),
                For::Sink(allowed) => (allowed, "sink", &kinds.sink),
            };
            errors.push(
                &entry.key_place,
                format!(
                    "`{entry_path}` means nothing here: it belongs to `type: {}`, and this {section} has `type: {}`",
                    allowed.join("` or `type: "),
                    kind.as_deref().unwrap_or_default()
                ),
            );
        } else if key.is_section() {
            misfits(&entry.value, &entry_path, kinds, errors);
        }
    }
}

/// `kafka`, or what was meant instead: the message for a value that is none of the allowed words.
pub(crate) fn not_one_of(word: &str, allowed: &[&str]) -> String {
    let meant = did_you_mean(word, allowed.iter().copied());
    let meant = meant.strip_prefix("; ").map(|meant| format!("{meant} ")).unwrap_or_default();
    format!("{meant}allowed: {}", allowed.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_its_section_in_the_table_and_is_there_once() {
        for (index, key) in KEYS.iter().enumerate() {
            assert!(key.parent().is_empty() || find(key.parent()).is_some_and(Key::is_section), "{}", key.path);
            if let Shape::Short { word, list } = key.shape {
                assert_eq!(find(word).map(|found| (found.parent(), found.shape)), Some((key.path, Shape::Text)));
                assert_eq!(find(list).map(|found| (found.parent(), found.shape)), Some((key.path, Shape::List)));
            }
            assert!(KEYS.iter().skip(index + 1).all(|other| other.path != key.path), "{}", key.path);
        }
    }
}
