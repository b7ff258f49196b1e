//! Prometheus' text format (0.0.4), read strictly: whatever its own parser or its linter would complain of fails the test.

use std::collections::{BTreeMap, BTreeSet};

/// Name and sorted labels.
type Series = (String, Vec<(String, String)>);

/// What `/metrics` said.
#[derive(Debug)]
pub struct Exposition {
    /// By name and labels, sorted.
    samples: BTreeMap<Series, f64>,
    types: BTreeMap<String, String>,
}

impl Exposition {
    /// Reads it; panics at the first mistake.
    pub fn parse(text: &str) -> Exposition {
        assert!(text.ends_with('\n'), "no newline at the end");
        let (mut helps, mut types, mut done) = (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
        let mut samples = BTreeMap::new();
        let mut family = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap_or_else(|| panic!("no help: {line}"));
                assert!(!help.is_empty() && helps.insert(name.to_owned()), "{line}");
                if !family.is_empty() {
                    assert!(done.insert(std::mem::take(&mut family)), "a family in two parts before: {line}");
                }
                name.clone_into(&mut family);
                assert!(!done.contains(name), "a family in two parts: {line}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!(name, family, "a type without its help: {line}");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{line}");
                check_name(name, kind);
            } else {
                assert!(!line.starts_with('#'), "a comment of another kind: {line}");
                let (name, labels, value) = sample(line);
                let of = |suffix: &str| name.strip_suffix(suffix) == Some(&family);
                let kind = types.get(&family).map(String::as_str);
                let belongs = match kind {
                    Some("histogram") => of("_bucket") || of("_sum") || of("_count"),
                    Some(_) => name == family,
                    None => false,
                };
                assert!(belongs, "a sample outside of its family `{family}`: {line}");
                assert!(kind != Some("counter") || value >= 0.0, "{line}");
                assert!(samples.insert((name, labels), value).is_none(), "a series twice: {line}");
            }
        }
        let found = Exposition { samples, types };
        found.check_histograms();
        found
    }

    /// The value of a source's only series of this name.
    pub fn of(&self, name: &str, source: &str) -> Option<f64> {
        self.with(name, &[("source", source)])
    }

    /// The value of a series.
    pub fn with(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut labels: Vec<_> = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        labels.sort();
        self.samples.get(&(name.to_owned(), labels)).copied()
    }

    /// The one state that a source is in.
    pub fn state(&self, source: &str) -> String {
        let states = ["starting", "backfilling", "streaming", "waiting", "stopped"];
        let value = |state| self.with("rowcast_source_state", &[("source", source), ("state", state)]).unwrap();
        let on: Vec<&str> = states.into_iter().filter(|state| value(state) == 1.0).collect();
        assert_eq!(on.len(), 1, "one-hot: {on:?}");
        on[0].to_owned()
    }

    pub fn names(&self) -> BTreeSet<&str> {
        self.types.keys().map(String::as_str).collect()
    }

    fn check_histograms(&self) {
        let mut last: BTreeMap<Series, Vec<(f64, f64)>> = BTreeMap::new();
        for ((name, labels), value) in &self.samples {
            let Some(family) = name.strip_suffix("_bucket") else { continue };
            let (bounds, rest): (Vec<_>, Vec<_>) = labels.iter().cloned().partition(|(name, _)| name == "le");
            let bound = if bounds[0].1 == "+Inf" { f64::INFINITY } else { bounds[0].1.parse().unwrap() };
            last.entry((family.to_owned(), rest)).or_default().push((bound, *value));
        }
        for ((family, labels), mut buckets) in last {
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{family}: buckets aren't cumulative");
            let end = buckets.last().unwrap();
            let count = self.samples[&(format!("{family}_count"), labels.clone())];
            assert!(end.0.is_infinite() && end.1 == count, "{family}: {end:?} and {count}");
            assert!(self.samples.contains_key(&(format!("{family}_sum"), labels)));
        }
    }
}

fn check_name(name: &str, kind: &str) {
    assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{name}");
    assert!(name.starts_with("rowcast_") || name.starts_with("process_"), "{name}");
    assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
    for wrong in ["_ms", "_millis", "_milliseconds", "_mb", "_kb", "_percent"] {
        assert!(!name.contains(wrong), "not a base unit: {name}");
    }
}

fn sample(line: &str) -> (String, Vec<(String, String)>, f64) {
    let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("no value: {line}"));
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        let mut text = inner;
        loop {
            let (label, behind) = text.split_once("=\"").unwrap_or_else(|| panic!("labels: {line}"));
            assert!(label.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{line}");
            let mut value = String::new();
            let mut letters = behind.char_indices();
            let close = loop {
                match letters.next().unwrap_or_else(|| panic!("labels: {line}")) {
                    (_, '\\') => value.push(match letters.next().unwrap().1 {
                        'n' => '\n',
                        letter @ ('\\' | '"') => letter,
                        other => panic!("escape {other}: {line}"),
                    }),
                    (at, '"') => break at,
                    (_, letter) => value.push(letter),
                }
            };
            labels.push((label.to_owned(), value));
            text = &behind[close + 1..];
            match text.strip_prefix(',') {
                Some(more) => text = more,
                None => break,
            }
        }
        rest = text.strip_prefix('}').unwrap_or_else(|| panic!("labels: {line}"));
    }
    labels.sort();
    let value = rest.strip_prefix(' ').unwrap_or_else(|| panic!("no blank: {line}"));
    (name.to_owned(), labels, value.parse().unwrap_or_else(|_| panic!("no number: {line}")))
}

#[test]
fn the_checker_finds_mistakes() {
    let good = "# HELP rowcast_a_total A.\n# TYPE rowcast_a_total counter\nrowcast_a_total{source=\"x\\\"\"} 1\n";
    assert_eq!(Exposition::parse(good).of("rowcast_a_total", "x\""), Some(1.0));
    for (from, to) in [
        ("counter", "gauge"),
        ("rowcast_a_total{", "rowcast_b_total{"),
        ("} 1\n", "} one\n"),
        ("} 1\n", "} 1"),
        ("} 1\n", "} 1\nrowcast_a_total{source=\"x\\\"\"} 2\n"),
        ("# TYPE", "# TIPE"),
        ("} 1\n", "} -1\n"),
    ] {
        let bad = good.replace(from, to);
        assert!(std::panic::catch_unwind(|| Exposition::parse(&bad)).is_err(), "{bad}");
    }
}
