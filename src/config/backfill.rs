//! The `backfill:` key: which tables are copied before their changes, and what that may cost the server.
//!
//! ```text
//! backfill: initial | never | initial_only               short for `mode`; all captured tables
//! backfill: [public.orders, {table: public.items, where: "price > 0"}]       short for `tables`
//! backfill: {mode: initial, tables: [...], parallelism: 2, max_lag: 30s, ...}
//! ```
//!
//! The short forms are written out when the layers are merged (`layers.rs`), so that only the section is read here.
//! Tables are names, never patterns, since their order is that of the copying; each must be one that the source captures.
//! The limits hold for copies that are asked for later (`rowcast backfill`), too, whatever the mode is.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use rowcast_core::{TableFilter, TablePattern};

use super::keys::{not_one_of, unknown_in_entry};
use super::reader::{Item, Section, Text};
use super::source::within;
use super::units::{parse_bytes, parse_duration, show_bytes};

const MAX_LAG: Duration = Duration::from_secs(60);
const MAX_LAG_BYTES: u64 = 1 << 30;
const PARALLELISM: usize = 2;
const CHUNK_ROWS: u64 = 100_000;

/// What is copied of the rows that are already there, and how fast.
#[derive(Clone, Debug, PartialEq)]
pub struct BackfillConfig {
    /// Whether and when.
    pub mode: BackfillMode,
    /// Only these tables, in this order; all captured ones if none. Never with [`BackfillMode::Never`].
    pub tables: Option<Vec<BackfillTable>>,
    /// Limit over all readers; from 1.
    pub rows_per_second: Option<u64>,
    /// Connections that read, 1 to 16.
    pub parallelism: usize,
    /// Most rows of one chunk, 1 to 10 million.
    pub chunk_rows: u64,
    /// Share of time that a reader keeps the server busy, 0.01 to 1.
    pub max_load: f64,
    /// Reading pauses while the stream is further behind the server than this, 1 s to 24 h.
    pub max_lag: Duration,
    /// Or while the log between the stream and the server's end is larger, 1 MiB to 1 TiB.
    pub max_lag_bytes: u64,
}

impl Default for BackfillConfig {
    fn default() -> Self {
        Self {
            mode: BackfillMode::Initial,
            tables: None,
            rows_per_second: None,
            parallelism: PARALLELISM,
            chunk_rows: CHUNK_ROWS,
            max_load: 1.0,
            max_lag: MAX_LAG,
            max_lag_bytes: MAX_LAG_BYTES,
        }
    }
}

/// Whether and when tables are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackfillMode {
    /// Each table once, then its changes are streamed; the default.
    Initial,
    /// Only when asked for.
    Never,
    /// Each table once; then the source ends, and the process with exit code 0.
    InitialOnly,
}

const MODES: [(&str, BackfillMode); 3] =
    [("initial", BackfillMode::Initial), ("never", BackfillMode::Never), ("initial_only", BackfillMode::InitialOnly)];

impl fmt::Display for BackfillMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MODES.iter().find(|(_, mode)| mode == self).map_or("", |(word, _)| word))
    }
}

/// A table that is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackfillTable {
    /// Schema, or database for MySQL and MariaDB.
    pub qualifier: String,
    /// Table.
    pub table: String,
    /// An SQL condition that its rows must meet.
    pub filter: Option<String>,
}

impl fmt::Display for BackfillTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&table_text(&self.qualifier, &self.table))?;
        match &self.filter {
            Some(filter) => write!(f, " where {filter}"),
            None => Ok(()),
        }
    }
}

/// Reads the name of one table as `(qualifier, table)`: a pattern of `source.tables` without `*`, `?` and `!`.
///
/// # Errors
/// Says what is expected.
pub fn parse_table(text: &str) -> Result<(String, String), String> {
    let pattern = TablePattern::parse(text)?;
    TableFilter::new(vec![pattern])
        .and_then(|filter| {
            filter.literal_includes().next().map(|(schema, table)| (schema.to_owned(), table.to_owned()))
        })
        .ok_or_else(|| {
            "expected the name of one table, not a pattern; write a name with * or ? in double quotes: public.\"a*b\""
                .to_owned()
        })
}

/// The name of a table as [`parse_table`] reads it: parts in double quotes only where they need them.
pub fn table_text(qualifier: &str, table: &str) -> String {
    let part = |name: &str| {
        let plain = parse_table(&format!("x.{name}")).is_ok_and(|(_, table)| table == name) && !name.starts_with('"');
        if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
    };
    format!("{}.{}", part(qualifier), part(table))
}

/// Reads `backfill`; `None` after a report. `captured` is none if `source.tables` has a mistake itself.
pub(crate) fn read(root: &Section<'_>, captured: Option<&TableFilter>) -> Option<BackfillConfig> {
    if root.is_malformed("backfill") {
        return None;
    }
    let section = root.section("backfill");
    let mode = if section.has("mode") { section.value("mode", parse_mode) } else { Some(BackfillMode::Initial) };
    let tables = if section.has("tables") { read_tables(&section, captured).map(Some) } else { Some(None) };
    if mode == Some(BackfillMode::Never) && section.has("tables") {
        section.report(
            section.key_place("tables"),
            "`backfill.tables` means nothing with `mode: never`; leave one of them out",
        );
        return None;
    }
    let number = |key: &str, most: u64, default: u64| match section.has(key) {
        true => section.value(key, |text| whole(text, most)),
        false => Some(default),
    };
    let rows_per_second = match section.has("rows_per_second") {
        true => section.value("rows_per_second", |text| whole(text, 1_000_000_000)).map(Some),
        false => Some(None),
    };
    let parallelism = number("parallelism", 16, PARALLELISM as u64).and_then(|number| usize::try_from(number).ok());
    let chunk_rows = number("chunk_rows", 10_000_000, CHUNK_ROWS);
    let max_load = if section.has("max_load") { section.value("max_load", parse_load) } else { Some(1.0) };
    let max_lag = match section.has("max_lag") {
        true => section.value("max_lag", |text| {
            within(parse_duration(text)?, Duration::from_secs(1), Duration::from_secs(24 * 3600))
        }),
        false => Some(MAX_LAG),
    };
    let max_lag_bytes = match section.has("max_lag_bytes") {
        true => section.value("max_lag_bytes", parse_lag_bytes),
        false => Some(MAX_LAG_BYTES),
    };
    Some(BackfillConfig {
        mode: mode?,
        tables: tables?,
        rows_per_second: rows_per_second?,
        parallelism: parallelism?,
        chunk_rows: chunk_rows?,
        max_load: max_load?,
        max_lag: max_lag?,
        max_lag_bytes: max_lag_bytes?,
    })
}

fn parse_mode(text: &str) -> Result<BackfillMode, String> {
    MODES.iter().find(|(word, _)| *word == text).map(|(_, mode)| *mode).ok_or_else(|| {
        // One table without the brackets of a list.
        let advice = if text.contains('.') { "; or a list of tables: [public.orders]" } else { "" };
        format!("{}{advice}", not_one_of(text, &MODES.map(|(word, _)| word)))
    })
}

fn whole(text: &str, most: u64) -> Result<u64, String> {
    text.parse()
        .ok()
        .filter(|number| (1..=most).contains(number))
        .ok_or_else(|| format!("expected a whole number from 1 to {most}"))
}

/// Below a hundredth a reader would rest for minutes after a second of work.
fn parse_load(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|load| (0.01..=1.0).contains(load))
        .ok_or_else(|| "expected a share from 0.01 to 1, such as 0.5".to_owned())
}

fn parse_lag_bytes(text: &str) -> Result<u64, String> {
    let (least, most) = (1 << 20, 1 << 40);
    let bytes = parse_bytes(text)?;
    match (least..=most).contains(&bytes) {
        true => Ok(bytes),
        false => Err(format!("expected {} to {}", show_bytes(least), show_bytes(most))),
    }
}

fn read_tables(section: &Section<'_>, captured: Option<&TableFilter>) -> Option<Vec<BackfillTable>> {
    let items = section.items("tables")?;
    if items.is_empty() {
        section.report(
            section.key_place("tables"),
            format!(
                "`{}` names no table; leave it out to copy all captured tables, or write `backfill: never`",
                section.full("tables")
            ),
        );
        return None;
    }
    let mut named = BTreeSet::new();
    let tables: Vec<Option<BackfillTable>> = items
        .into_iter()
        .map(|item| {
            let (text, filter) = match item {
                Item::Text(text) => (Some(text), Some(None)),
                Item::Section(entry) => read_entry(&entry),
            };
            let text = text?;
            let table = named_table(section, &text, captured);
            if let Some(name) = &table
                && !named.insert(name.clone())
            {
                section.report(&text.place, format!("`{}`: `{}` is there twice", section.full("tables"), text.shown));
                return None;
            }
            let (qualifier, table) = table?;
            Some(BackfillTable { qualifier, table, filter: filter? })
        })
        .collect();
    tables.into_iter().collect()
}

/// `{table: public.items, where: "price > 0"}`
#[allow(clippy::type_complexity)]
fn read_entry(entry: &Section<'_>) -> (Option<Text>, Option<Option<String>>) {
    for (key, place) in entry.keys() {
        if !["table", "where"].contains(&key) {
            entry.report(place, unknown_in_entry(key, entry.of(), &["table", "where"]));
        }
    }
    if !entry.has("table") {
        entry.missing("table", "such as {table: public.items, where: \"price > 0\"}");
    }
    let filter = match entry.has("where") {
        true => entry
            .value("where", |text| match text.trim() {
                "" => Err("expected an SQL condition, such as \"price > 0\"".to_owned()),
                _ => Ok(text.to_owned()),
            })
            .map(Some),
        false => Some(None),
    };
    (entry.text("table"), filter)
}

fn named_table(section: &Section<'_>, text: &Text, captured: Option<&TableFilter>) -> Option<(String, String)> {
    let why = match parse_table(&text.value) {
        Ok((qualifier, table)) if captured.is_none_or(|captured| captured.matches_parts(&qualifier, &table)) => {
            return Some((qualifier, table));
        }
        Ok(_) => "`source.tables` doesn't capture it; add it there, or take it out here".to_owned(),
        Err(why) => why,
    };
    section.report(&text.place, format!("`{}`: `{}`: {why}", section.full("tables"), text.shown));
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_named_and_shown_in_the_same_form() {
        for (text, qualifier, table) in [
            ("public.orders", "public", "orders"),
            ("Shop.Orders", "Shop", "Orders"),
            ("public.\"a.b\"", "public", "a.b"),
            ("\"my db\".\"x*\"", "my db", "x*"),
            ("public.\"a\"\"b\"", "public", "a\"b"),
            ("public.\"\"\"x\"\"\"", "public", "\"x\""),
            ("\"!a\".größe", "!a", "größe"),
        ] {
            assert_eq!(parse_table(text), Ok((qualifier.to_owned(), table.to_owned())), "{text}");
            assert_eq!(table_text(qualifier, table), text);
        }
        assert_eq!(parse_table("\"public\".\"orders\""), parse_table("public.orders"));
    }

    #[test]
    fn what_names_no_single_table_is_refused() {
        for text in ["public.*", "public.order?", "!public.orders"] {
            assert!(parse_table(text).unwrap_err().contains("not a pattern"), "{text}");
        }
        for text in ["orders", "a.b.c", "", "public.\"a"] {
            assert!(parse_table(text).is_err(), "{text}");
        }
    }
}
