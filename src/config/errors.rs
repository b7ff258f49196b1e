//! Configuration errors: where, what is wrong, what is allowed.
//!
//! Every stage (YAML, keys, layers, secrets, typed reading) reports into one [`Collector`] and goes on, so that a user
//! sees all mistakes of all files at once. [`ConfigErrors`] prints them in rustc's short form, sorted by file and line:
//!
//! ```text
//! config/sources/shop.yaml:12:5: unknown key `broker` in `sink`; did you mean `brokers`? allowed: ...
//! ```
//!
//! Guarantee: a message quotes a value only as it is written in the file, never what `${...}` resolved to, and never
//! the value of a key that holds a secret.

use std::cell::RefCell;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Where a value of the configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A file; line and column count from 1 (the column in characters), and are 0 when the file as a whole is meant.
    File {
        /// The path, as the user named it.
        file: Arc<Path>,
        /// Line, from 1; 0 for the file as a whole.
        line: usize,
        /// Column in characters, from 1; 0 for the file as a whole.
        column: usize,
    },
    /// An environment variable, by its name.
    Variable(String),
    /// An argument of the command line.
    CommandLine,
}

impl Place {
    /// The file as a whole.
    pub fn file(file: impl Into<Arc<Path>>) -> Self {
        Self::at(file, 0, 0)
    }

    /// A line and column (both from 1) of a file.
    pub fn at(file: impl Into<Arc<Path>>, line: usize, column: usize) -> Self {
        Self::File { file: file.into(), line, column }
    }

    /// The folder that relative paths of this place start from; `None` means the working directory.
    pub(crate) fn folder(&self) -> Option<&Path> {
        match self {
            Self::File { file, .. } => file.parent(),
            Self::Variable(_) | Self::CommandLine => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line: 0, .. } => write!(f, "{}", file.display()),
            Self::File { file, line, column } => write!(f, "{}:{line}:{column}", file.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

/// One mistake in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigError {
    place: Place,
    message: String,
}

impl ConfigError {
    /// An error at a place.
    pub fn new(place: Place, message: impl Into<String>) -> Self {
        Self { place, message: message.into() }
    }

    /// Where the mistake is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What is wrong and what is allowed, without the place.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

impl std::error::Error for ConfigError {}

/// All mistakes found, sorted by file, line and column, each once. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    errors: Vec<ConfigError>,
}

impl ConfigErrors {
    /// The errors, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.errors.iter()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.errors.len()
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self { errors: vec![error] }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in &self.errors {
            writeln!(f, "{error}")?;
        }
        match self.errors.len() {
            1 => f.write_str("1 configuration error"),
            count => write!(f, "{count} configuration errors"),
        }
    }
}

impl std::error::Error for ConfigErrors {}

/// Gathers errors while the reading goes on.
///
/// It is shared by reference between the nested sections of a file, hence the `RefCell`; it is never borrowed across
/// a call out of this module.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    errors: RefCell<Vec<ConfigError>>,
}

impl Collector {
    pub(crate) fn push(&self, place: &Place, message: impl Into<String>) {
        self.errors.borrow_mut().push(ConfigError::new(place.clone(), message));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.errors.borrow().is_empty()
    }

    /// `Ok` if nothing was reported; else everything, sorted, without repeats (a mistake in the shared file is met
    /// once for every source).
    pub(crate) fn finish(self) -> Result<(), ConfigErrors> {
        let mut errors = self.errors.into_inner();
        if errors.is_empty() {
            return Ok(());
        }
        errors.sort();
        errors.dedup();
        Err(ConfigErrors { errors })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn place(file: &str, line: usize, column: usize) -> Place {
        Place::at(Path::new(file), line, column)
    }

    #[test]
    fn errors_are_sorted_by_file_and_line_and_counted() {
        let collector = Collector::default();
        collector.push(&place("b.yaml", 1, 1), "later file");
        collector.push(&place("a.yaml", 10, 2), "later line");
        collector.push(&place("a.yaml", 9, 3), "earlier line");
        collector.push(&place("a.yaml", 9, 3), "earlier line");
        collector.push(&Place::Variable("ROWCAST__X".into()), "unknown");
        collector.push(&Place::file(Path::new("a.yaml")), "whole file");
        assert_eq!(
            collector.finish().unwrap_err().to_string(),
            "a.yaml: whole file\na.yaml:9:3: earlier line\na.yaml:10:2: later line\nb.yaml:1:1: later file\n\
             environment variable ROWCAST__X: unknown\n5 configuration errors"
        );
    }

    #[test]
    fn nothing_reported_is_no_error() {
        assert_eq!(Collector::default().finish(), Ok(()));
    }
}
