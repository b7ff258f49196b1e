//! The cases of tests/debezium: tables, what is done to them, and the options under which the original has captured them. Their form is
//! described in tests/debezium/README.md.

use std::fs;
use std::path::PathBuf;

/// A case: tables, what is done to them, and the options under which it is captured.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its folder's name.
    pub name: String,
    /// Statements before the capture begins: tables and the rows of the snapshot.
    pub before: Vec<String>,
    /// What is done while it goes on.
    pub stream: Vec<String>,
    /// Options of each variant by its name: the connector's own names.
    pub variants: Vec<(String, Vec<(String, String)>)>,
}

/// In `stream`: wait until everything before it has arrived.
pub const SETTLE: &str = "settle";

impl Case {
    /// The folder with cases, recordings and the list of differences.
    pub fn folder() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/debezium")
    }

    /// Names of the cases that there are for a connector (`postgres`, `mysql`, `mariadb`), sorted. MariaDB's are MySQL's
    /// unless it has its own, or the case says that it has none.
    pub fn names(connector: &str) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(Case::folder().join("cases"))
            .unwrap()
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .filter(|name| Case::sql(connector, name).is_some())
            .collect();
        names.sort();
        names
    }

    fn sql(connector: &str, name: &str) -> Option<PathBuf> {
        let folder = Case::folder().join("cases").join(name);
        let own = folder.join(format!("{connector}.sql"));
        if own.exists() {
            return Some(own);
        }
        let shared = folder.join("mysql.sql");
        (connector == "mariadb" && shared.exists() && !folder.join("mysql-only").exists()).then_some(shared)
    }

    /// Reads a case.
    pub fn read(connector: &str, name: &str) -> Case {
        let path = Case::sql(connector, name).unwrap_or_else(|| panic!("no case {name} for {connector}"));
        let sql = fs::read_to_string(path).unwrap();
        let (before, stream) = sql.split_once("\n-- stream\n").unwrap_or((&sql, ""));
        let options = Case::folder().join("cases").join(name).join("case.json");
        let options: serde_json::Value = serde_json::from_str(&fs::read_to_string(options).unwrap()).unwrap();
        let mut variants = Vec::new();
        for (variant, own) in options["variants"].as_object().unwrap() {
            let only = own["only"].as_str().unwrap_or(connector);
            if only.split(' ').all(|it| it != connector && !(it == "mysql" && connector == "mariadb")) {
                continue;
            }
            // what comes later wins
            let parts = [&options["connect"], &options[connector], &own["connect"], &own[connector]];
            let mut merged: Vec<(String, String)> = Vec::new();
            for (name, value) in parts.into_iter().filter_map(serde_json::Value::as_object).flatten() {
                merged.retain(|(known, _)| known != name);
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                merged.push((name.clone(), value));
            }
            variants.push((variant.clone(), merged));
        }
        Case { name: name.to_owned(), before: statements(before), stream: statements(stream), variants }
    }

    /// Where the recording of a variant is.
    pub fn recording(&self, connector: &str, variant: &str) -> PathBuf {
        Case::folder().join("recorded").join(connector).join(&self.name).join(format!("{variant}.jsonl"))
    }

    /// The lines of a recording; none if there is none.
    pub fn recorded(&self, connector: &str, variant: &str) -> Vec<String> {
        let text = fs::read_to_string(self.recording(connector, variant)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

/// A statement ends with a semicolon at the end of a line; lines of comments and empty ones are left out. A line `-- settle` is kept as
/// [`SETTLE`].
fn statements(sql: &str) -> Vec<String> {
    let (mut all, mut one) = (Vec::new(), String::new());
    for line in sql.lines() {
        if line.trim() == "-- settle" {
            all.push(SETTLE.to_owned());
        } else if !(line.starts_with("--") || one.is_empty() && line.trim().is_empty()) {
            one.push_str(line);
            if line.trim_end().ends_with(';') {
                let statement = std::mem::take(&mut one);
                all.push(statement.trim_end().trim_end_matches(';').to_owned());
            } else {
                one.push('\n');
            }
        }
    }
    assert!(one.trim().is_empty(), "a statement without a semicolon at the end: {one}");
    all
}
