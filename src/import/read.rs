//! Reads what a connector's configuration is kept in: JSON as Kafka Connect's REST interface takes and gives it, or properties as a standalone
//! worker and Debezium Server have them.
//!
//! Guarantee: an error names the line, never a value. Options keep their order; one that comes twice counts as it stands last, as in the
//! original.

use std::fmt;

use serde_json::Value;

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The connector's name, if the file has one besides the options.
    pub name: Option<String>,
    /// Names and values, in order, each name once.
    pub all: Vec<(String, String)>,
}

impl Options {
    /// The value of an option.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn put(&mut self, name: String, value: String) {
        self.all.retain(|(known, _)| *known != name);
        self.all.push((name, value));
    }
}

/// Why a file can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ReadError(String);

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads either form: JSON begins with a brace.
///
/// # Errors
/// What is wrong, and where.
pub fn read(text: &str) -> Result<Options, ReadError> {
    let text = text.trim_start_matches('\u{feff}');
    if text.trim_start().starts_with('{') { json(text) } else { of_properties(text) }
}

/// `{"name": "...", "config": {...}}`, or the options alone.
fn json(text: &str) -> Result<Options, ReadError> {
    let wrong = |what: &str| ReadError(format!("not a connector's configuration: {what}"));
    let value: Value = serde_json::from_str(text)
        .map_err(|error| ReadError(format!("line {}, column {}: not JSON", error.line(), error.column())))?;
    let Value::Object(mut outer) = value else { return Err(wrong("not an object")) };
    let mut options = Options::default();
    let inner = match outer.remove("config") {
        Some(Value::Object(inner)) => {
            options.name = outer.get("name").and_then(Value::as_str).map(str::to_owned);
            inner
        }
        Some(_) => return Err(wrong("`config` is not an object")),
        None => outer,
    };
    for (name, value) in inner {
        let value = match value {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            Value::Bool(switch) => switch.to_string(),
            Value::Null => continue,
            Value::Array(_) | Value::Object(_) => return Err(wrong(&format!("`{name}` is not a single value"))),
        };
        options.put(name, value);
    }
    Ok(options)
}

/// The names and values of properties.
///
/// # Errors
/// What is wrong, and where.
pub fn properties(text: &str) -> Result<Vec<(String, String)>, ReadError> {
    of_properties(text.trim_start_matches('\u{feff}')).map(|options| options.all)
}

/// Java's properties: `name=value`, `name: value` or `name value`; comments behind # and !; a backslash escapes, and continues a line.
fn of_properties(text: &str) -> Result<Options, ReadError> {
    let mut options = Options::default();
    let mut lines = (1..).zip(text.lines());
    while let Some((number, line)) = lines.next() {
        let mut logical = line.trim_start().to_owned();
        if logical.is_empty() || logical.starts_with(['#', '!']) {
            continue;
        }
        while continues(&logical) {
            logical.pop();
            match lines.next() {
                Some((_, next)) => logical.push_str(next.trim_start()),
                None => break,
            }
        }
        let (name, value) = split(&logical);
        let name = unescape(name).ok_or_else(|| ReadError(format!("line {number}: a \\u without four digits")))?;
        let value = unescape(value).ok_or_else(|| ReadError(format!("line {number}: a \\u without four digits")))?;
        if name.is_empty() {
            return Err(ReadError(format!("line {number}: a value without a name")));
        }
        options.put(name, value);
    }
    Ok(options)
}

/// Whether a line ends in an odd number of backslashes.
fn continues(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    for (at, letter) in line.char_indices() {
        if escaped {
            escaped = false;
        } else if letter == '\\' {
            escaped = true;
        } else if matches!(letter, '=' | ':') || letter.is_whitespace() {
            let (name, rest) = line.split_at(at);
            let rest = rest.trim_start();
            let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start();
            return (name, rest);
        }
    }
    (line, "")
}

fn unescape(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            plain.push(letter);
            continue;
        }
        match letters.next() {
            Some('t') => plain.push('\t'),
            Some('n') => plain.push('\n'),
            Some('r') => plain.push('\r'),
            Some('f') => plain.push('\u{c}'),
            Some('u') => {
                let digits: String = letters.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 4)?;
                plain.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            Some(other) => plain.push(other),
            None => {}
        }
    }
    Some(plain)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        read(text).unwrap().all
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn json_comes_with_and_without_its_envelope() {
        let whole =
            read(r#"{"name": "c", "config": {"tasks.max": 1, "slot.drop.on.stop": true, "a": null, "b": "x"}}"#)
                .unwrap();
        assert_eq!(whole.name.as_deref(), Some("c"));
        assert_eq!(whole.all, [pair("b", "x"), pair("slot.drop.on.stop", "true"), pair("tasks.max", "1")]);
        assert_eq!(pairs(r#"  {"tasks.max": "1"}"#), [pair("tasks.max", "1")]);
        assert_eq!(read("{\"a\": }").unwrap_err().to_string(), "line 1, column 7: not JSON");
        assert!(read(r#"{"a": ["secret"]}"#).unwrap_err().to_string().contains("`a`"));
        assert!(!read(r#"{"a": ["secret"]}"#).unwrap_err().to_string().contains("secret"));
    }

    #[test]
    fn properties_are_read_as_java_does() {
        let text = "# comment\n! another\n\na=1\n  b : two words  \nc d\nlist=x,\\\n   y\nregex=public\\\\.(a|b)\nu=\\u00fc\\t.\na = 3\nempty=\nend\\=name=v";
        assert_eq!(
            pairs(text),
            [
                pair("b", "two words  "),
                pair("c", "d"),
                pair("list", "x,y"),
                pair("regex", "public\\.(a|b)"),
                pair("u", "ü\t."),
                pair("a", "3"),
                pair("empty", ""),
                pair("end=name", "v"),
            ]
        );
        assert_eq!(read("a=\\u12").unwrap_err().to_string(), "line 1: a \\u without four digits");
        assert_eq!(read("\n=1").unwrap_err().to_string(), "line 2: a value without a name");
    }
}
