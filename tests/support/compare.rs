//! What differs between two recordings, place by place, and the list of what may: tests/debezium/differences.yaml.
//!
//! Records are compared topic by topic, each with the one at its place; schemas by what they say, not by their number. A difference has a path
//! such as `value.payload.after.price`, in schemas by the fields' names: `value.schema.after.price.default`.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs;

use super::cases::Case;
use super::compact::Json;

/// One place that isn't the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The topic, masked.
    pub topic: String,
    /// The record's number in its topic, from 1.
    pub record: usize,
    /// Where in the record.
    pub path: String,
    /// What the original says there.
    pub original: String,
    /// What we say.
    pub ours: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = |text: &str| match text.char_indices().nth(200) {
            Some((at, _)) => format!("{}...", &text[..at]),
            None => text.to_owned(),
        };
        let Difference { topic, record, path, original, ours } = self;
        write!(f, "{topic} {record} {path}: {} | {}", cut(original), cut(ours))
    }
}

/// All differences of two recordings' lines.
pub fn compare(original: &[String], ours: &[String]) -> Vec<Difference> {
    let (original, ours) = (topics(original), topics(ours));
    let mut all = Vec::new();
    let names: std::collections::BTreeSet<&String> = original.keys().chain(ours.keys()).collect();
    let none = Vec::new();
    for topic in names {
        let (a, b) = (original.get(topic).unwrap_or(&none), ours.get(topic).unwrap_or(&none));
        for (record, (a, b)) in (1..).zip(a.iter().zip(b)) {
            let mut at = |path: &str, original: &str, ours: &str| {
                let (original, ours) = (original.to_owned(), ours.to_owned());
                all.push(Difference { topic: topic.clone(), record, path: path.to_owned(), original, ours });
            };
            walk("", a, b, &mut at);
        }
        for (record, (longer, ours)) in (a.len().min(b.len()) + 1..)
            .zip(a.iter().skip(b.len()).map(|it| (it, false)).chain(b.iter().skip(a.len()).map(|it| (it, true))))
        {
            let text = longer.text();
            let (original, ours) = if ours { (String::new(), text) } else { (text, String::new()) };
            all.push(Difference { topic: topic.clone(), record, path: "record".to_owned(), original, ours });
        }
    }
    all
}

/// Records by their topic, each with its schemas in place of their numbers.
fn topics(lines: &[String]) -> BTreeMap<String, Vec<Json>> {
    let mut schemas: HashMap<String, Json> = HashMap::new();
    let mut all: BTreeMap<String, Vec<Json>> = BTreeMap::new();
    for line in lines {
        let mut json = Json::parse(line).unwrap_or_else(|| panic!("no line of a recording: {line}"));
        if let (Some(number), Some(schema)) = (json.get("schema").and_then(Json::plain), json.get("is")) {
            schemas.insert(format!("<schema {number}>"), schema.clone());
            continue;
        }
        let topic = json.get("topic").and_then(Json::plain).unwrap().to_owned();
        for part in ["key", "value"] {
            let Some(schema) = json.get_mut(part).and_then(|it| it.get_mut("schema")) else { continue };
            if let Some(is) = schema.plain().and_then(|number| schemas.get(number)) {
                *schema = is.clone();
            }
        }
        all.entry(topic).or_default().push(json);
    }
    all
}

fn walk(path: &str, a: &Json, b: &Json, at: &mut impl FnMut(&str, &str, &str)) {
    match (a, b) {
        (Json::Object(x), Json::Object(y)) => {
            let (xs, ys): (Vec<&String>, Vec<&String>) =
                (x.iter().map(|it| &it.0).collect(), y.iter().map(|it| &it.0).collect());
            for (name, a) in x {
                let inner = join(path, name.trim_matches('"'));
                match y.iter().find(|(other, _)| other == name) {
                    Some((_, b)) => walk(&inner, a, b, at),
                    None => at(&inner, &a.text(), "(absent)"),
                }
            }
            for (name, b) in y.iter().filter(|(name, _)| !xs.contains(&name)) {
                at(&join(path, name.trim_matches('"')), "(absent)", &b.text());
            }
            let common = |these: &[&String], those: &[&String]| -> Vec<String> {
                these.iter().filter(|it| those.contains(it)).map(|it| (*it).clone()).collect()
            };
            let (x, y) = (common(&xs, &ys), common(&ys, &xs));
            if x != y {
                at(&join(path, "(order)"), &x.join(","), &y.join(","));
            }
        }
        // fields of a schema by their names
        (Json::Array(x), Json::Array(y)) if x.iter().chain(y).all(|it| it.get("field").is_some()) && !x.is_empty() => {
            let named = |items: &[Json]| {
                let name = |it: &Json| it.get("field").map(Json::text).unwrap_or_default();
                Json::Object(items.iter().map(|it| (name(it), it.clone())).collect())
            };
            let path = path.strip_suffix(".fields").unwrap_or(path);
            walk(path, &named(x), &named(y), at);
        }
        (Json::Array(x), Json::Array(y)) if x.len() == y.len() => {
            for (i, (a, b)) in x.iter().zip(y).enumerate() {
                walk(&join(path, &i.to_string()), a, b, at);
            }
        }
        _ if a == b => {}
        _ => at(path, &a.text(), &b.text()),
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// An entry of the list: what may differ, and why.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowed {
    /// Connectors, with spaces between; none: all.
    #[serde(default)]
    pub connectors: String,
    /// Cases, with spaces between; none: all.
    #[serde(default)]
    pub cases: String,
    /// Variants, with spaces between; none: all.
    #[serde(default)]
    pub variants: String,
    /// A pattern for the topic; none: all.
    #[serde(default)]
    pub topic: String,
    /// A pattern for the path.
    pub path: String,
    /// What the original must say there, if it matters.
    #[serde(default)]
    pub original: String,
    /// Why.
    pub why: String,
}

/// The list.
pub fn allowed() -> Vec<Allowed> {
    let path = Case::folder().join("differences.yaml");
    let text = fs::read_to_string(&path).unwrap();
    let all: Vec<Allowed> = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(
        all.iter().all(|it| !it.why.trim().is_empty() && !it.path.is_empty()),
        "each difference has a path and a reason"
    );
    all
}

impl Allowed {
    /// Whether it is about this difference.
    pub fn covers(&self, connector: &str, case: &str, variant: &str, difference: &Difference) -> bool {
        let among = |list: &str, name: &str| list.is_empty() || list.split_whitespace().any(|it| it == name);
        let like = |pattern: &str, text: &str| pattern.is_empty() || matches(pattern, text);
        among(&self.connectors, connector)
            && among(&self.cases, case)
            && among(&self.variants, variant)
            && like(&self.topic, &difference.topic)
            && like(&self.path, &difference.path)
            && like(&self.original, &difference.original)
    }
}

/// `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, rest)) => text.strip_prefix(before).is_some_and(|text| {
            (0..=text.len()).filter(|&at| text.is_char_boundary(at)).any(|at| matches(rest, &text[at..]))
        }),
    }
}
