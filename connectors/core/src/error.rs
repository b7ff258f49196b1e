//! Errors of a source, each with a class that decides what the supervisor does.
//!
//! An error says what happened, where, and what to do about it, in words that an operator can act on;
//! it never holds a row value or a secret. It is logged once, where it is handled (the supervisor).

use std::fmt;

/// What an error means for the source that met it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// May go away by itself (connection lost, server restarting): restart with back-off.
    Transient,
    /// Will not go away by itself (wrong password, missing privilege): stop and say so.
    Definite,
    /// The server no longer has what follows the checkpoint: changes are lost to the stream. Will not go away by itself either;
    /// the configuration may say that the tables are to be copied again ([`crate::Begin::Anew`]).
    Gap,
}

/// An error of a source: class, what happened, and the repair.
#[derive(Debug, Clone)]
pub struct SourceError {
    class: ErrorClass,
    what: String,
    repair: Option<String>,
}

impl SourceError {
    /// An error that may go away by itself.
    pub fn transient(what: impl Into<String>) -> Self {
        Self { class: ErrorClass::Transient, what: what.into(), repair: None }
    }

    /// An error that only an operator can repair.
    pub fn definite(what: impl Into<String>) -> Self {
        Self { class: ErrorClass::Definite, what: what.into(), repair: None }
    }

    /// Changes are lost to the stream.
    pub fn gap(what: impl Into<String>) -> Self {
        Self { class: ErrorClass::Gap, what: what.into(), repair: None }
    }

    /// Adds the statement, setting or configuration key that repairs it.
    #[must_use]
    pub fn repair(mut self, how: impl Into<String>) -> Self {
        self.repair = Some(how.into());
        self
    }

    /// Puts what was being done in front of what happened: `while doing X: Y`.
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.what = format!("{doing}: {}", self.what);
        self
    }

    /// Whether a restart may help.
    pub fn class(&self) -> ErrorClass {
        self.class
    }

    /// True if a restart may help.
    pub fn is_transient(&self) -> bool {
        self.class == ErrorClass::Transient
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.repair {
            Some(how) => write!(f, "; repair: {how}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for SourceError {}

/// A row image that can't be decoded: damaged, or of a form that is not supported. Always definite.
///
/// Names the column by index, never its content; [`crate::Table::decode`] adds the names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    /// Index of the column in the table, if the error belongs to one.
    pub column: Option<usize>,
    /// What is wrong, without the value.
    pub what: String,
    /// What to do about it, if the connector knows anything better than to leave the table out.
    pub repair: Option<String>,
}

impl DecodeError {
    /// An error of the row as a whole.
    pub fn row(what: impl Into<String>) -> Self {
        Self { column: None, what: what.into(), repair: None }
    }

    /// An error of one column.
    pub fn column(index: usize, what: impl Into<String>) -> Self {
        Self { column: Some(index), ..Self::row(what) }
    }

    /// Adds what repairs it.
    #[must_use]
    pub fn repair(mut self, how: impl Into<String>) -> Self {
        self.repair = Some(how.into());
        self
    }

    /// Sets the column unless one is set already.
    #[must_use]
    pub fn at(mut self, index: usize) -> Self {
        self.column.get_or_insert(index);
        self
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.column {
            Some(column) => write!(f, "column {}: {}", column + 1, self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl std::error::Error for DecodeError {}
