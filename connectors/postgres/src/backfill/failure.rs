//! What the server's error means for a read.
//!
//! Decided by SQLSTATE, as everywhere. Words of the server that may hold a row's values (data exceptions, constraint
//! violations: `invalid input syntax for type integer: "..."`) are not passed on.

use rowcast_core::backfill::ReadError;

use crate::error::{ServerError, Target};

/// Whether the server says that there is no such table or schema.
pub(super) fn is_missing(error: &ServerError) -> bool {
    matches!(error.code.as_str(), "42P01" | "3F000")
}

/// The error as one of a read; `table` is the table's quoted name, `grant` the statement that gives our role the right.
pub(super) fn explain(error: &ServerError, target: &Target, table: &str, grant: &str) -> ReadError {
    match error.code.as_str() {
        // time in which nobody took the rows counts too: a read that is held back doesn't keep its snapshot for ever
        "57014" => ReadError::TooSlow(format!(
            "{target}: reading {table}: a statement took too long, or its rows were not taken for so long: {error}"
        )),
        "55P03" => ReadError::TooSlow(format!(
            "{target}: reading {table}: another session holds a lock that excludes readers (ALTER TABLE, VACUUM FULL, \
             TRUNCATE, ...): {error}"
        )),
        // a filter may read other tables, and row-level security names the role's lack in its own words
        "42501" => ReadError::Refused(format!("{target}: reading {table}: {error}; repair: {grant}")),
        code if ["22", "23"].iter().any(|class| code.starts_with(class)) => ReadError::Refused(format!(
            "{target}: reading {table}: the filter, or the conversion of a key, fails on a row [SQLSTATE {code}] (the \
             server's words may hold its values, and are in the server's log); repair: correct the table's `filter` so \
             that it can be computed for every row"
        )),
        // damaged tables and internal errors: one table's, where a connection that ends would say so by itself
        code if ["0A", "42", "XX", "58"].iter().any(|class| code.starts_with(class)) => {
            let how = error.hint.as_deref().unwrap_or("the server's log says more");
            ReadError::Refused(format!("{target}: reading {table}: {error}; repair: {how}"))
        }
        _ => ReadError::Source(error.explain(target, &format!("reading {table}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_error(code: &str) -> ReadError {
        let error =
            ServerError { code: code.to_owned(), message: "value \"secret\"".to_owned(), detail: None, hint: None };
        explain(&error, &Target::new("h:1", "d", "u"), "\"s\".\"t\"", "GRANT SELECT ON \"s\".\"t\" TO \"u\";")
    }

    #[test]
    fn states_decide() {
        for code in ["57014", "55P03"] {
            assert!(matches!(read_error(code), ReadError::TooSlow(_)), "{code}");
        }
        for code in ["42501", "42703", "22P02", "XX001", "0A000"] {
            assert!(matches!(read_error(code), ReadError::Refused(_)), "{code}");
        }
        for code in ["57P01", "08006", "53200", "53100"] {
            assert!(matches!(read_error(code), ReadError::Source(error) if error.is_transient()), "{code}");
        }
        assert!(matches!(read_error("42501"), ReadError::Refused(what) if what.contains("GRANT SELECT")));
    }

    #[test]
    fn values_are_not_passed_on() {
        for code in ["22P02", "22003", "23514"] {
            assert!(matches!(read_error(code), ReadError::Refused(what) if !what.contains("secret")), "{code}");
        }
    }
}
