//! Compact JSON as text, with the order of its members: for comparisons in which bytes count. A parser that reads values would hide how numbers
//! are written, escapes, and order.

/// JSON with the order of its members, and all else as its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Json {
    /// Names as text with their quotes.
    Object(Vec<(String, Json)>),
    /// An array.
    Array(Vec<Json>),
    /// Anything else, as it is written.
    Raw(String),
}

impl Json {
    /// Reads compact JSON; `None` if it's none, or has a space between its parts (no writer that we know puts one there, and it would be lost).
    pub fn parse(text: &str) -> Option<Json> {
        let mut at = 0;
        let it = Json::value(text, &mut at)?;
        (at == text.len()).then_some(it)
    }

    fn value(text: &str, at: &mut usize) -> Option<Json> {
        match text.as_bytes().get(*at)? {
            b'{' => {
                let mut members = Vec::new();
                Json::parts(text, at, b'}', |text, at| {
                    let name = Json::string(text, at)?;
                    Json::byte(text, at, b':')?;
                    members.push((name, Json::value(text, at)?));
                    Some(())
                })?;
                Some(Json::Object(members))
            }
            b'[' => {
                let mut items = Vec::new();
                Json::parts(text, at, b']', |text, at| {
                    items.push(Json::value(text, at)?);
                    Some(())
                })?;
                Some(Json::Array(items))
            }
            b'"' => Json::string(text, at).map(Json::Raw),
            _ => {
                let rest = &text[*at..];
                let end = rest.find([',', '}', ']', ' ', '\n', ':', '"']).unwrap_or(rest.len());
                let word = &rest[..end];
                *at += end;
                serde_json::from_str::<serde_json::Value>(word).ok()?;
                Some(Json::Raw(word.to_owned()))
            }
        }
    }

    fn parts(text: &str, at: &mut usize, end: u8, mut part: impl FnMut(&str, &mut usize) -> Option<()>) -> Option<()> {
        *at += 1;
        if text.as_bytes().get(*at) == Some(&end) {
            *at += 1;
            return Some(());
        }
        loop {
            part(text, at)?;
            if text.as_bytes().get(*at) == Some(&end) {
                *at += 1;
                return Some(());
            }
            Json::byte(text, at, b',')?;
        }
    }

    fn byte(text: &str, at: &mut usize, byte: u8) -> Option<()> {
        (text.as_bytes().get(*at) == Some(&byte)).then(|| *at += 1)
    }

    fn string(text: &str, at: &mut usize) -> Option<String> {
        let from = *at;
        Json::byte(text, at, b'"')?;
        loop {
            match text.as_bytes().get(*at)? {
                b'\\' => *at += 2,
                b'"' => {
                    *at += 1;
                    return text.get(from..*at).map(str::to_owned);
                }
                _ => *at += 1,
            }
        }
    }

    /// As text.
    pub fn write(&self, to: &mut String) {
        match self {
            Json::Raw(text) => to.push_str(text),
            Json::Array(items) => {
                to.push('[');
                for (i, item) in items.iter().enumerate() {
                    to.push_str(if i == 0 { "" } else { "," });
                    item.write(to);
                }
                to.push(']');
            }
            Json::Object(members) => {
                to.push('{');
                for (i, (name, value)) in members.iter().enumerate() {
                    to.push_str(if i == 0 { "" } else { "," });
                    to.push_str(name);
                    to.push(':');
                    value.write(to);
                }
                to.push('}');
            }
        }
    }

    /// As text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text);
        text
    }

    /// A member of an object.
    pub fn get(&self, name: &str) -> Option<&Json> {
        let Json::Object(members) = self else { return None };
        members.iter().find(|(it, _)| it.trim_matches('"') == name).map(|(_, value)| value)
    }

    /// [`Json::get`], to change it.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Json> {
        let Json::Object(members) = self else { return None };
        members.iter_mut().find(|(it, _)| it.trim_matches('"') == name).map(|(_, value)| value)
    }

    /// The text of a string (without escapes, which no name that we look at has) or of a number.
    pub fn plain(&self) -> Option<&str> {
        match self {
            Json::Raw(text) if text != "null" => Some(text.trim_matches('"')),
            _ => None,
        }
    }

    /// A whole number.
    pub fn number(&self) -> Option<i128> {
        match self {
            Json::Raw(text) => text.parse().ok(),
            _ => None,
        }
    }
}
