//! The examples of `config/` load, and document exactly the keys that exist.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rowcast::config::{Environment, Request, load};

use super::Folder;

const KEYS: &str = include_str!("../../src/config/keys.rs");

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

/// Copies the examples; `all` takes the `#` from `#key:` lines.
fn copy(all: bool) -> Folder {
    let copy = Folder::new(&[]);
    for secret in ["shop", "stock", "blog", "kafka"] {
        copy.write(&format!("run/{secret}"), b"hunter2\n");
    }
    for file in ["ca.pem", "client.pem", "client.key", "public_key.pem"] {
        copy.write(&format!("tls/{file}"), b"sample");
    }
    for path in folder().join("examples").read_dir().unwrap().map(|entry| entry.unwrap().path()) {
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let mut text = std::fs::read_to_string(&path).unwrap();
        if all {
            text = text.lines().map(in_effect).collect::<Vec<_>>().join("\n");
        }
        let text = text
            .replace("/run/secrets/", &format!("{}/run/", copy.0.display()))
            .replace("/etc/rowcast/tls/", &format!("{}/tls/", copy.0.display()));
        copy.write(&format!("examples/{}", path.file_name().unwrap().to_str().unwrap()), text.as_bytes());
    }
    copy
}

/// `  #key: value` -> `  key: value`
fn in_effect(line: &str) -> String {
    match line.split_once('#') {
        Some((indent, rest)) if indent.trim().is_empty() && rest.starts_with(|c: char| c.is_ascii_lowercase()) => {
            format!("{indent}{rest}")
        }
        _ => line.to_owned(),
    }
}

/// Key paths of a file in block style, by indentation: independent of the code under test.
fn paths(text: &str) -> BTreeSet<String> {
    let mut open: Vec<(usize, String)> = Vec::new();
    let mut found = BTreeSet::new();
    for line in text.lines() {
        let trimmed = line.trim_start();
        let Some((key, _)) = trimmed.split_once(':').filter(|_| !trimmed.starts_with('#')) else { continue };
        let indent = line.len() - trimmed.len();
        open.retain(|(outer, _)| *outer < indent);
        open.push((indent, key.to_owned()));
        let path: Vec<&str> = open.iter().map(|(_, key)| key.as_str()).collect();
        found.insert(path.join("."));
    }
    found
}

fn files() -> Vec<&'static str> {
    vec!["postgres.yaml", "mysql.yaml", "mariadb.yaml", "stdout.yaml", "file.yaml"]
}

#[test]
fn all_examples_load_as_they_are_and_with_every_key_in_effect() {
    for all in [false, true] {
        let copy = copy(all);
        let present = copy.0.join("examples").read_dir().unwrap().count();
        assert_eq!(present, files().len() + 1, "an example that this test doesn't know");
        for file in files() {
            let loaded = load(&copy.request(&[&format!("examples/{file}")], &[]));
            assert!(loaded.is_ok(), "{}", copy.shown(&loaded.unwrap_err()));
        }
    }
}

#[test]
fn the_compose_configuration_loads_with_and_without_its_variables() {
    let mut request = Request { paths: vec![folder()], shared: None, sink: None, environment: Environment::default() };
    let loaded = load(&request).unwrap();
    let names: Vec<&str> = loaded.sources.iter().map(|source| source.name.as_str()).collect();
    assert_eq!(names, ["shop-mysql", "shop-postgres"]);
    let hosts: Vec<&str> = loaded.sources.iter().map(|source| source.kind.connection().host.as_str()).collect();
    assert_eq!(hosts, ["mysql", "postgres"]);
    assert!(loaded.shared.file.is_some());
    request.environment = [("POSTGRES_HOST", "localhost"), ("KAFKA_BROKERS", "localhost:1")].into_iter().collect();
    let loaded = load(&request).unwrap();
    assert_eq!(loaded.sources[1].kind.connection().host, "localhost");
}

#[test]
fn the_documented_keys_are_exactly_the_accepted_ones() {
    let copy = copy(true);
    let mut documented = BTreeSet::new();
    for entry in copy.0.join("examples").read_dir().unwrap() {
        documented.extend(paths(&std::fs::read_to_string(entry.unwrap().path()).unwrap()));
    }
    documented.retain(|path| !path.starts_with("sink.properties."));
    let accepted: BTreeSet<String> = KEYS
        .lines()
        .filter_map(|line| line.trim().strip_prefix("key(\""))
        .filter_map(|rest| rest.split_once('"'))
        .map(|(path, _)| path.to_owned())
        .collect();
    assert_eq!(documented, accepted);
}

/// With a nested list in place of its value each key must complain: one in the table that nobody reads would not.
#[test]
fn every_accepted_key_is_read() {
    let copy = copy(true);
    for file in ["rowcast.yaml", "postgres.yaml", "mysql.yaml", "mariadb.yaml", "file.yaml"] {
        let text = std::fs::read_to_string(copy.0.join("examples").join(file)).unwrap();
        for path in paths(&text) {
            let inner = paths(&text).iter().any(|other| other.starts_with(&format!("{path}.")));
            // A source overrides what the shared file holds of these.
            let overridden = file == "rowcast.yaml" && !path.starts_with("logging.") && path != "admin";
            if inner || overridden {
                continue;
            }
            copy.write(&format!("examples/{file}"), spoilt(&text, &path).as_bytes());
            let source = if file == "rowcast.yaml" { "postgres.yaml" } else { file };
            let shown = copy.errors(&copy.request(&[&format!("examples/{source}")], &[]));
            assert!(shown.contains(&format!("`{path}`")), "{file} {path}: {shown}");
            assert!(shown.contains(&format!("examples/{file}:")), "{file} {path}: {shown}");
        }
        copy.write(&format!("examples/{file}"), text.as_bytes());
    }
}

/// The text with `[[]]` as the value of one key.
fn spoilt(text: &str, path: &str) -> String {
    let mut so_far = String::new();
    for line in text.lines() {
        let known = paths(&so_far).contains(path);
        so_far.push_str(line);
        so_far.push('\n');
        if !known && paths(&so_far).contains(path) {
            let start = so_far.trim_end().rfind('\n').map_or(0, |at| at + 1);
            let key = line.split_once(':').unwrap().0.to_owned();
            so_far.truncate(start);
            so_far.push_str(&format!("{key}: [[]]\n"));
        }
    }
    so_far
}
