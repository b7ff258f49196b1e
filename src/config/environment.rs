//! The process environment: `${NAME}` look-ups, and the overrides `ROWCAST__SECTION__KEY=value`.
//!
//! The name of an override is the key's path in capitals with `__` between the parts: `ROWCAST__SINK__BROKERS`,
//! `ROWCAST__SOURCE__TLS__MODE`. In the free keys below `sink.properties` and `sink.topics.config` every `_` stands for a dot,
//! since Kafka's names have dots and no underscores: `ROWCAST__SINK__PROPERTIES__COMPRESSION_TYPE` is `compression.type`. Lists are
//! separated by commas. Values are text, never guessed into numbers. `ROWCAST__BACKFILL` is the short form of a section, as
//! in a file: a word, or tables separated by commas.
//!
//! An override applies to every source that has such a key (a `slot` to PostgreSQL sources only); one that exists nowhere,
//! or applies to none of the sources loaded, is an error.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;

use super::errors::{Collector, Place};
use super::keys::{self, KEYS, Key, Shape};
use super::suggest::nearest;

const PREFIX: &str = "ROWCAST__";
/// The keys below which names are free, each with a sample.
const PROPERTIES: [(&str, &str); 2] = [("sink.properties", "compression.type"), ("sink.topics.config", "retention.ms")];

/// The environment variables that the configuration may use. Its `Debug` shows names only.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
}

impl Environment {
    /// The environment of this process.
    pub fn of_process() -> Self {
        Self { variables: std::env::vars_os().collect() }
    }

    /// The variable's value, if it is set.
    pub(crate) fn get(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// The names of all variables that are text, for suggestions.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().filter_map(|name| name.to_str())
    }
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self { variables: pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect() }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

/// One `ROWCAST__...` variable that names an existing key.
pub(crate) struct Override {
    pub(crate) variable: String,
    pub(crate) key: &'static Key,
    /// The free key below `key`.
    pub(crate) property: Option<String>,
    /// The section that the variable names, where it sets one of its keys in short.
    pub(crate) short: Option<&'static Key>,
    pub(crate) text: String,
    /// Set once it has applied to a source, or to what all share.
    pub(crate) used: Cell<bool>,
}

/// Reads all overrides; unknown ones are reported.
pub(crate) fn overrides(environment: &Environment, errors: &Collector) -> Vec<Override> {
    let mut found: Vec<Override> = Vec::new();
    for (name, value) in &environment.variables {
        let Some(name) = name.to_str() else { continue };
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let place = Place::Variable(name.to_owned());
        let Some(text) = value.to_str() else {
            errors.push(&place, "the value is not UTF-8 text");
            continue;
        };
        let (named, property) = match resolve(rest) {
            Ok(resolved) => resolved,
            Err(message) => {
                errors.push(&place, message);
                continue;
            }
        };
        let (key, short) = match named.shape {
            // Tables have a dot in their names, words don't.
            Shape::Short { word, list } => {
                (keys::find(if text.contains('.') { list } else { word }).unwrap_or(named), Some(named))
            }
            _ => (named, None),
        };
        if let Some(other) = found.iter().find(|other| other.short.is_some() && other.key.path == key.path) {
            errors.push(&place, format!("sets `{}`, as {} does; remove one of them", key.path, other.variable));
            continue;
        }
        let text = text.to_owned();
        found.push(Override { variable: name.to_owned(), key, property, short, text, used: Cell::new(false) });
    }
    found
}

/// Reports overrides that applied to nothing.
pub(crate) fn report_unused(overrides: &[Override], errors: &Collector) {
    for unused in overrides.iter().filter(|candidate| !candidate.used.get()) {
        let kinds = match unused.key.used_by {
            keys::For::All => continue,
            keys::For::Source(kinds) | keys::For::Sink(kinds) => kinds.join("` or `type: "),
        };
        errors.push(
            &Place::Variable(unused.variable.clone()),
            format!("applies to none of the sources: `{}` belongs to `type: {kinds}`", unused.key.path),
        );
    }
}

fn resolve(rest: &str) -> Result<(&'static Key, Option<String>), String> {
    let path = rest.to_lowercase().replace("__", ".");
    let free = |(parent, _): &(&'static str, &str)| Some((*parent, path.strip_prefix(*parent)?.strip_prefix('.')?));
    if let Some((parent, property)) = PROPERTIES.iter().find_map(free) {
        let key = keys::find(parent).ok_or("unknown key")?;
        if property.is_empty() {
            return Err("the property's name is missing".to_owned());
        }
        return Ok((key, Some(property.replace('_', "."))));
    }
    match keys::find(&path) {
        Some(key) if plain(key) => Ok((key, None)),
        Some(key) if key.shape == Shape::Properties => {
            let sample = PROPERTIES.iter().find(|(parent, _)| *parent == path).map_or("", |(_, sample)| *sample);
            let suffix = sample.to_uppercase().replace('.', "_");
            Err(format!("`{path}` holds keys of its own: {}__{suffix} sets {sample}", variable(key)))
        }
        Some(_) => {
            let within: Vec<String> = KEYS.iter().filter(|key| key.parent() == path).map(variable).collect();
            Err(format!("`{path}` is a section; set one of its keys: {}", within.join(", ")))
        }
        None => {
            if let Some(refused) = keys::refused(&path) {
                return Err(refused);
            }
            let names: Vec<String> = KEYS.iter().filter(|key| plain(key)).map(variable).collect();
            // Compared without the prefix, which would make everything look alike.
            let near = nearest(rest, names.iter().filter_map(|name| name.strip_prefix(PREFIX)));
            let meant = match near {
                Some(near) => format!("did you mean `{PREFIX}{near}`?"),
                None => {
                    "a name is ROWCAST__ and the key's path with __ between its parts, such as ROWCAST__SINK__BROKERS"
                        .to_owned()
                }
            };
            Err(format!("no configuration key has this name; {meant}"))
        }
    }
}

/// Whether one variable can hold it.
fn plain(key: &Key) -> bool {
    matches!(key.shape, Shape::Text | Shape::List | Shape::Short { .. })
}

fn variable(key: &Key) -> String {
    format!("{PREFIX}{}", key.path.to_uppercase().replace('.', "__"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_plain_key_can_be_overridden() {
        for key in KEYS.iter().filter(|key| plain(key)) {
            let name = variable(key);
            assert_eq!(resolve(name.strip_prefix(PREFIX).unwrap()), Ok((key, None)), "{name}");
        }
    }

    #[test]
    fn underscores_in_a_property_are_dots() {
        let (key, property) = resolve("SINK__PROPERTIES__SSL_CA_LOCATION").unwrap();
        assert_eq!((key.path, property.as_deref()), ("sink.properties", Some("ssl.ca.location")));
        let (key, property) = resolve("SINK__TOPICS__CONFIG__RETENTION_MS").unwrap();
        assert_eq!((key.path, property.as_deref()), ("sink.topics.config", Some("retention.ms")));
    }

    #[test]
    fn an_unknown_name_is_explained() {
        assert_eq!(
            resolve("SINK__BROKER").unwrap_err(),
            "no configuration key has this name; did you mean `ROWCAST__SINK__BROKERS`?"
        );
        assert!(resolve("XYZ").unwrap_err().contains("such as ROWCAST__SINK__BROKERS"));
        assert_eq!(
            resolve("COMMIT").unwrap_err(),
            "`commit` is a section; set one of its keys: ROWCAST__COMMIT__INTERVAL, ROWCAST__COMMIT__MAX_BYTES"
        );
    }

    #[test]
    fn debug_shows_names_and_no_values() {
        let environment: Environment = [("SECRET", "hunter2")].into_iter().collect();
        assert_eq!(format!("{environment:?}"), r#"{"SECRET"}"#);
    }
}
