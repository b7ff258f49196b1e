//! Why a run of a source ended, and what follows from it.

use std::fmt;

use rowcast_core::{ErrorClass, SourceError};

/// What the supervisor does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunErrorClass {
    /// May go away by itself: run again from the checkpoint, after a pause.
    Transient,
    /// Needs an operator: stop this source.
    Definite,
    /// Changes are lost to the stream: stop this source, or copy its tables again (`on_gap`).
    Gap,
    /// Another producer took the source's transactional id: nothing more is published or confirmed. Opening the sink again
    /// reads who owns the source now, and is refused if that is another process.
    Fenced,
    /// The reader of the output went away (`rowcast run --to stdout | head`): stop quietly.
    OutputClosed,
}

/// Why a run ended before it was asked to.
#[derive(Debug, Clone)]
pub struct RunError {
    /// What follows.
    pub class: RunErrorClass,
    /// What happened, where, and how to repair it. Without row values and secrets.
    pub message: String,
}

impl RunError {
    /// An error that may go away by itself.
    pub fn transient(message: impl Into<String>) -> Self {
        Self { class: RunErrorClass::Transient, message: message.into() }
    }

    /// An error that needs an operator.
    pub fn definite(message: impl Into<String>) -> Self {
        Self { class: RunErrorClass::Definite, message: message.into() }
    }

    /// Changes are lost to the stream.
    pub fn gap(message: impl Into<String>) -> Self {
        Self { class: RunErrorClass::Gap, message: message.into() }
    }

    /// Another process has taken over.
    pub fn fenced(message: impl Into<String>) -> Self {
        Self { class: RunErrorClass::Fenced, message: message.into() }
    }
}

impl From<SourceError> for RunError {
    fn from(error: SourceError) -> Self {
        let class = match error.class() {
            ErrorClass::Transient => RunErrorClass::Transient,
            ErrorClass::Definite => RunErrorClass::Definite,
            ErrorClass::Gap => RunErrorClass::Gap,
        };
        Self { class, message: error.to_string() }
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for RunError {}
