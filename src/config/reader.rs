//! Typed reading of the merged tree.
//!
//! A [`Section`] gives single values, lists and sections by key. Each call reports what is wrong and goes on, so that one
//! pass finds everything; a caller gets `None` and must not build its result from it (the collector isn't empty then).
//! `${...}` is resolved here, when a key is read. Messages quote a value as it is written, never what it resolved to.

use std::collections::BTreeSet;
use std::path::PathBuf;

use secrecy::SecretString;

use super::environment::Environment;
use super::errors::{Collector, Place};
use super::files::reason;
use super::keys::{self, not_one_of};
use super::secrets;
use super::yaml::{Entry, Kind, Node};

/// What all sections of one source share.
pub(crate) struct Context<'a> {
    pub(crate) errors: &'a Collector,
    pub(crate) environment: &'a Environment,
}

/// A mapping that is being read.
pub(crate) struct Section<'a> {
    context: &'a Context<'a>,
    path: String,
    place: Place,
    entries: &'a [Entry],
}

/// A single value.
pub(crate) struct Text {
    /// With every `${...}` resolved.
    pub(crate) value: String,
    /// As it is written, cut short, for messages.
    pub(crate) shown: String,
    /// Whether a `${...}` was resolved in it.
    pub(crate) resolved: bool,
    pub(crate) place: Place,
}

/// An entry of a list.
pub(crate) enum Item<'a> {
    Text(Text),
    Section(Section<'a>),
}

impl<'a> Section<'a> {
    /// The root of a tree, which is a mapping.
    pub(crate) fn root(context: &'a Context<'a>, node: &'a Node) -> Self {
        let entries = match &node.kind {
            Kind::Map(entries) => entries.as_slice(),
            Kind::Null | Kind::Reported | Kind::Scalar(_) | Kind::List(_) => &[],
        };
        Self { context, path: String::new(), place: node.place.clone(), entries }
    }

    /// Where the section begins: its key.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Its path; an entry of a list has that of the list.
    pub(crate) fn of(&self) -> &str {
        &self.path
    }

    /// Reports a mistake.
    pub(crate) fn report(&self, place: &Place, message: impl Into<String>) {
        self.context.errors.push(place, message);
    }

    /// The full path of a key, for messages; the section's where the key was written as the section's short form, which only
    /// then begins at the same place.
    pub(crate) fn full(&self, key: &str) -> String {
        match self.entry(key) {
            Some(entry) if !self.path.is_empty() && entry.key_place == self.place => self.path.clone(),
            _ => keys::join(&self.path, key),
        }
    }

    fn entry(&self, key: &str) -> Option<&'a Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// A section below; missing or empty, it has no keys.
    pub(crate) fn section(&self, key: &str) -> Section<'a> {
        let mut section =
            Section { context: self.context, path: self.full(key), place: self.place.clone(), entries: &[] };
        if let Some(entry) = self.entry(key) {
            section.place = entry.key_place.clone();
            match &entry.value.kind {
                Kind::Map(entries) => section.entries = entries,
                Kind::Null | Kind::Reported => {}
                other => self.report(
                    &entry.value.place,
                    format!("`{}` must be a mapping with keys of its own, found {}", section.path, other.name()),
                ),
            }
        }
        section
    }

    /// True if the key is there and holds something other than a mapping; what is below it can't be asked for then.
    pub(crate) fn is_malformed(&self, key: &str) -> bool {
        self.entry(key)
            .is_some_and(|entry| matches!(entry.value.kind, Kind::Reported | Kind::Scalar(_) | Kind::List(_)))
    }

    /// True if the key is there at all.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    /// Where a key stands; where the section begins if it isn't there.
    pub(crate) fn key_place(&self, key: &str) -> &Place {
        self.entry(key).map_or(&self.place, |entry| &entry.key_place)
    }

    /// All keys, with their places.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (&'a str, &'a Place)> {
        self.entries.iter().map(|entry| (entry.key.as_str(), &entry.key_place))
    }

    /// Reports that a required key is missing.
    pub(crate) fn missing(&self, key: &str, hint: &str) {
        let within = if self.path.is_empty() { String::new() } else { format!(" in `{}`", self.path) };
        let hint = if hint.is_empty() { String::new() } else { format!("; {hint}") };
        self.report(&self.place, format!("missing key `{key}`{within}{hint}"));
    }

    /// A single value, if the key is there.
    pub(crate) fn text(&self, key: &str) -> Option<Text> {
        let entry = self.entry(key)?;
        if entry.value.kind == Kind::Null {
            self.report(&entry.key_place, format!("`{}` has no value", self.full(key)));
            return None;
        }
        self.text_of(&self.full(key), &entry.value)
    }

    fn text_of(&self, path: &str, node: &Node) -> Option<Text> {
        match &node.kind {
            Kind::Scalar(written) => match secrets::resolve(written, &node.place, self.context.environment) {
                Ok(value) => Some(Text {
                    value,
                    shown: cut(written),
                    resolved: secrets::has_reference(written),
                    place: node.place.clone(),
                }),
                Err(message) => {
                    self.report(&node.place, format!("`{path}`: {message}"));
                    None
                }
            },
            Kind::Reported => None,
            Kind::Null => {
                self.report(&node.place, format!("an entry of `{path}` has no value"));
                None
            }
            other => {
                let advice = if matches!(other, Kind::Map(_)) { "; put a text with { } in quotes" } else { "" };
                self.report(&node.place, format!("`{path}` must be a single value, found {}{advice}", other.name()));
                None
            }
        }
    }

    /// Reads a single value with `parse`, whose error says what is expected.
    pub(crate) fn value<T>(&self, key: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text(key)?;
        match parse(&text.value) {
            Ok(value) => Some(value),
            Err(why) => {
                self.report(&text.place, format!("`{}` is `{}`: {why}", self.full(key), text.shown));
                None
            }
        }
    }

    /// Like [`Section::value`] for a key that must be there.
    pub(crate) fn required<T>(
        &self,
        key: &str,
        hint: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        if !self.has(key) {
            self.missing(key, hint);
        }
        self.value(key, parse)
    }

    /// One of some words.
    pub(crate) fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        self.value(key, |text| {
            choices.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice).ok_or_else(|| {
                let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
                not_one_of(text, &words)
            })
        })
    }

    /// `true` or `false`.
    pub(crate) fn switch(&self, key: &str) -> Option<bool> {
        self.choice(key, &[("true", true), ("false", false)])
    }

    /// A secret; no message quotes it.
    pub(crate) fn secret(&self, key: &str) -> Option<SecretString> {
        self.text(key).map(|text| SecretString::from(text.value))
    }

    /// A path; relative ones start from the folder of the file that they stand in.
    pub(crate) fn path(&self, key: &str) -> Option<PathBuf> {
        let text = self.text(key)?;
        if text.value.is_empty() {
            self.report(&text.place, format!("`{}` is empty: expected a path", self.full(key)));
            return None;
        }
        Some(secrets::relative_to(&text.place, &text.value))
    }

    /// A path of a file that must be readable now.
    pub(crate) fn file(&self, key: &str) -> Option<PathBuf> {
        let place = self.entry(key)?.value.place.clone();
        let path = self.path(key)?;
        let why = match std::fs::File::open(&path).and_then(|file| file.metadata()) {
            Ok(metadata) if metadata.is_dir() => "it is a folder".to_owned(),
            Ok(_) => return Some(path),
            Err(error) => reason(&error),
        };
        self.report(&place, format!("`{}`: can't read `{}`: {why}", self.full(key), path.display()));
        None
    }

    /// A list of single values; from an environment variable, separated by commas.
    pub(crate) fn list(&self, key: &str) -> Option<Vec<Text>> {
        let entry = self.entry(key)?;
        let path = self.full(key);
        match (&entry.value.kind, &entry.value.place) {
            (Kind::List(items), _) => {
                let texts: Vec<Option<Text>> = items.iter().map(|item| self.text_of(&path, item)).collect();
                texts.into_iter().collect()
            }
            (Kind::Scalar(_), Place::Variable(_)) => {
                let text = self.text_of(&path, &entry.value)?;
                let part = |part: &str| Text {
                    value: part.trim().to_owned(),
                    shown: cut(part.trim()),
                    resolved: text.resolved,
                    place: text.place.clone(),
                };
                Some(text.value.split(',').filter(|item| !item.trim().is_empty()).map(part).collect())
            }
            (Kind::Reported, _) => None,
            (Kind::Null, _) => {
                self.report(&entry.key_place, format!("`{path}` has no value"));
                None
            }
            (other, place) => {
                self.report(place, format!("`{path}` must be a list such as [a, b], found {}", other.name()));
                None
            }
        }
    }

    /// A list of single values and mappings; from an environment variable, single values separated by commas.
    pub(crate) fn items(&self, key: &str) -> Option<Vec<Item<'a>>> {
        let path = self.full(key);
        let Kind::List(nodes) = &self.entry(key)?.value.kind else {
            return self.list(key).map(|texts| texts.into_iter().map(Item::Text).collect());
        };
        let item = |node: &'a Node| match &node.kind {
            Kind::Map(entries) => Some(Item::Section(Section {
                context: self.context,
                path: path.clone(),
                place: node.place.clone(),
                entries,
            })),
            _ => self.text_of(&path, node).map(Item::Text),
        };
        let items: Vec<Option<Item<'a>>> = nodes.iter().map(item).collect();
        items.into_iter().collect()
    }

    /// The free keys of this section with their values, in order, each key once.
    pub(crate) fn texts(&self) -> Vec<(&'a str, &'a Place, Text)> {
        let names: BTreeSet<&str> = self.entries.iter().map(|entry| entry.key.as_str()).collect();
        names
            .into_iter()
            .filter_map(|name| {
                let entry = self.entry(name)?;
                Some((entry.key.as_str(), &entry.key_place, self.text(name)?))
            })
            .collect()
    }
}

/// The start of a text, for a message of one line. What stands before an `@` is left out: in a URL it may be a password.
fn cut(text: &str) -> String {
    const LONGEST: usize = 60;
    if let Some((_, host)) = text.rsplit_once('@') {
        return format!("…@{}", cut(host));
    }
    let mut shown: String = text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_multi_line_values_are_cut_for_messages() {
        assert_eq!(cut("a\nb"), "a b");
        assert_eq!(cut("postgres://cdc:hunter2@db/shop"), "…@db/shop");
        assert_eq!(cut(&"x".repeat(61)).chars().count(), 61);
        assert_eq!(cut(&"x".repeat(60)), "x".repeat(60));
    }
}
