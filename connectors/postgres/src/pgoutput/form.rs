//! Whether values come as text or in binary form, which is decided once for a whole stream.
//!
//! Binary is asked for if all published columns have types that are decoded here ([`crate::catalog::forms`]). A table that is altered
//! later, or WAL of a table as it was before, may have others: then this stream ends with a transient error before a row of them is
//! decoded, and the next one is asked for text. For how long: until the process ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rowcast_core::SourceError;

use super::message::Relation;
use super::relation::{self, CatalogFacts};
use crate::error::ServerError;

/// The form of one stream's values.
#[derive(Debug, Clone, Default)]
pub(crate) struct ValueForm {
    binary: bool,
    /// `server_version_num`
    server: i32,
    /// Shared with the source: the next stream is to have text.
    text_next: Arc<AtomicBool>,
}

impl ValueForm {
    /// A stream that was asked for binary values or for text; `text_next` is set when binary turns out to be impossible.
    pub(crate) fn new(binary: bool, server: i32, text_next: &Arc<AtomicBool>) -> Self {
        Self { binary, server, text_next: Arc::clone(text_next) }
    }

    /// Whether no interval is infinite.
    pub(crate) fn before_17(&self) -> bool {
        self.server < 170_000
    }

    /// Looks at a relation before any row of it.
    pub(crate) fn check(&self, relation: &Relation, facts: &CatalogFacts) -> Result<(), SourceError> {
        match relation::without_binary(relation, facts).filter(|_| self.binary) {
            Some(column) => Err(self.give_up(&format!(
                "column {column} of {}.{} has a type whose binary form isn't decoded",
                relation.schema, relation.table
            ))),
            None => Ok(()),
        }
    }

    /// An error of the server that only binary values have.
    pub(crate) fn explain(&self, error: &ServerError) -> Option<SourceError> {
        // undefined_function: a type in an array or composite has no send function
        (self.binary && error.code == "42883").then(|| self.give_up(&error.to_string()))
    }

    fn give_up(&self, why: &str) -> SourceError {
        self.text_next.store(true, Ordering::Relaxed);
        SourceError::transient(format!("{why}: the stream begins again with values as text"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::message::RelationColumn;
    use super::*;

    fn relation(oid: u32, identity: bool) -> Relation {
        let column = RelationColumn { identity, name: "c".to_owned(), oid, typmod: -1 };
        let (schema, table) = ("public".to_owned(), "t".to_owned());
        Relation { id: 1, schema, table, replica_identity: b'd', columns: vec![column] }
    }

    #[test]
    fn a_type_without_binary_form_ends_a_binary_stream_and_only_that() {
        let (flag, facts) = (Arc::default(), CatalogFacts::default());
        let (binary, text) = (ValueForm::new(true, 150_000, &flag), ValueForm::new(false, 150_000, &flag));
        // int4, int4[], aclitem; as a key too
        for (oid, key) in [(23, true), (1007, false), (1033, false)] {
            binary.check(&relation(oid, key), &facts).unwrap();
        }
        // point, int4[] as a key
        text.check(&relation(600, false), &facts).unwrap();
        assert!(!flag.load(Ordering::Relaxed));
        for (oid, key) in [(600, false), (1007, true)] {
            assert!(binary.check(&relation(oid, key), &facts).unwrap_err().is_transient());
            assert!(flag.swap(false, Ordering::Relaxed));
        }
        let error = ServerError { code: "42883".to_owned(), ..ServerError::default() };
        assert!(text.explain(&error).is_none() && binary.explain(&error).is_some());
        assert!(flag.load(Ordering::Relaxed));
    }
}
