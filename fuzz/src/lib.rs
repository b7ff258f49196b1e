//! What the targets share: a value that was read must be written as one JSON value.

use rowcast_core::Value;

#[path = "../../src/format/json/write.rs"]
#[allow(dead_code)]
mod write;

/// Writes the value, and has it parsed if nothing in it is the server's own document.
pub fn see(value: &Value<'_>, checked: bool) {
    let mut out = Vec::new();
    write::value(&mut out, value);
    if checked && let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&out) {
        panic!("{error} in {}", String::from_utf8_lossy(&out));
    }
}
