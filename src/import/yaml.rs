//! A configuration file of ours, built key by key.
//!
//! Guarantee: whatever a value is, reading the file gives it back: what isn't plainly a word or a number is in quotes.

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Text(String),
    List(Vec<String>),
}

/// Keys and values in the order of their sections.
#[derive(Clone, Debug, Default)]
pub(super) struct Document {
    keys: Vec<(String, Value)>,
}

/// The sections in the order in which people read them; what isn't here comes last.
const ORDER: [&str; 9] = ["name", "source", "sink", "format", "debezium", "flatten", "delivery", "memory", "backfill"];

impl Document {
    /// Sets a key, in place of what it had.
    pub(super) fn set(&mut self, key: &str, value: &str) {
        self.put(key, Value::Text(value.to_owned()));
    }

    /// Sets a key to a list.
    pub(super) fn list(&mut self, key: &str, values: &[String]) {
        self.put(key, Value::List(values.to_vec()));
    }

    /// Whether a key has been set.
    pub(super) fn has(&self, key: &str) -> bool {
        self.keys.iter().any(|(known, _)| known == key)
    }

    fn put(&mut self, key: &str, value: Value) {
        self.keys.retain(|(known, _)| known != key);
        self.keys.push((key.to_owned(), value));
    }

    /// The file's text.
    pub(super) fn text(&self) -> String {
        let section = |key: &str| {
            let first = key.split('.').next().unwrap_or_default();
            ORDER.iter().position(|known| *known == first).unwrap_or(ORDER.len())
        };
        let mut keys: Vec<&(String, Value)> = self.keys.iter().collect();
        // sorting is stable: within a section keys stay in their order, those of a part of it together
        keys.sort_by(|(a, _), (b, _)| section(a).cmp(&section(b)).then_with(|| depth(a).cmp(&depth(b))));
        let (mut text, mut open): (String, Vec<String>) = (String::new(), Vec::new());
        for (key, value) in keys {
            let mut parts = path(key);
            let Some(last) = parts.pop() else { continue };
            let common = open.iter().zip(&parts).take_while(|(a, b)| a == b).count();
            for (level, part) in parts.iter().enumerate().skip(common) {
                text.push_str(&format!("{}{}:\n", "  ".repeat(level), quoted(part)));
            }
            let indent = "  ".repeat(parts.len());
            match value {
                Value::Text(value) => text.push_str(&format!("{indent}{}: {}\n", quoted(&last), quoted(value))),
                Value::List(values) => {
                    let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
                    text.push_str(&format!("{indent}{}: [{}]\n", quoted(&last), values.join(", ")));
                }
            }
            open = parts;
        }
        text
    }
}

/// Keys of properties have dots themselves: everything behind `properties.` and `config.` is one name.
fn path(key: &str) -> Vec<String> {
    const FREE: [&str; 6] = [
        "sink.properties.",
        "sink.topics.config.",
        "debezium.column_truncate_to_chars.",
        "debezium.column_mask_with_chars.",
        "debezium.column_mask_hash.",
        "debezium.column_mask_hash_v2.",
    ];
    for free in FREE {
        if let Some(name) = key.strip_prefix(free) {
            let mut parts: Vec<String> = free.trim_end_matches('.').split('.').map(str::to_owned).collect();
            parts.push(name.to_owned());
            return parts;
        }
    }
    key.split('.').map(str::to_owned).collect()
}

/// Sections behind single values, each with what is in it.
fn depth(key: &str) -> (usize, String) {
    let mut parts = path(key);
    parts.pop();
    (parts.len(), parts.join("."))
}

fn quoted(text: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.' | '/' | '-');
    let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", ""];
    let odd =
        words.contains(&text.to_ascii_lowercase().as_str()) || text.starts_with(['-', '.']) || !text.chars().all(plain);
    // switches and numbers are read as text by key, so that they need no quotes
    let switch = matches!(text, "true" | "false");
    if odd && !switch { serde_json::to_string(text).unwrap_or_else(|_| "\"\"".to_owned()) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_come_in_order_and_each_once() {
        let mut document = Document::default();
        document.set("sink.topics.config.retention.ms", "1");
        document.set("sink.brokers", "a:1,b:2");
        document.set("source.tls.mode", "prefer");
        document.set("source.host", "db");
        document.set("name", "shop");
        document.set("sink.topics.partitions", "6");
        document.set("source.user", "off");
        document.list("source.tables", &["public.*".to_owned(), "!x.y".to_owned()]);
        document.set("source.host", "db2");
        document.set("on_gap", "fail");
        document.set("debezium.tombstones_on_delete", "false");
        let expected = "name: shop\nsource:\n  user: \"off\"\n  tables: [\"public.*\", \"!x.y\"]\n  host: db2\n  tls:\n    mode: prefer\nsink:\n  brokers: \"a:1,b:2\"\n  \
                        topics:\n    partitions: 6\n    config:\n      retention.ms: 1\ndebezium:\n  tombstones_on_delete: false\non_gap: fail\n";
        assert_eq!(document.text(), expected);
        assert!(document.has("name") && !document.has("delivery"));
    }
}
