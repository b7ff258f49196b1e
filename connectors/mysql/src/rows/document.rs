//! Whether a text of MariaDB's JSON type is JSON.
//!
//! Its JSON is text with a check (`json_valid`), which can be switched off, and takes some things that aren't JSON. A document
//! becomes a part of our events, so it must be one.

use serde::de::IgnoredAny;

/// By RFC 8259. The memory that this takes is a byte per level of nesting.
pub(super) fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_is_json() {
        for text in [
            "{\"a\": 1,\n \"a\":2}",
            "1e999",
            "-0",
            "\"\\u00e9\x7f\"",
            "null",
            &format!("{}{}", "[".repeat(5000), "]".repeat(5000)),
        ] {
            assert!(is_json(text), "{text}");
        }
        for text in ["", "1.", "\"\\x\"", "01", "'a'", "[1,]", "\"a\tb\"", "1 2", "NaN"] {
            assert!(!is_json(text), "{text}");
        }
    }
}
