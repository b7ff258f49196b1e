//! `format` and the section `debezium:`: how events are written.
//!
//! The keys of the section are the original's options in snake_case, with the original's defaults, so that a connector's configuration
//! carries over word by word; `exact` and `topic_prefix`'s default are ours. Every key is honoured or, where the original has one that
//! means nothing here, refused with what to write instead ([`super::keys`]).
//!
//! Guarantee: the section without `format: debezium` is a mistake, not ignored.

use std::time::Duration;

use super::columns::{self, ColumnsConfig, Patterns, parse_key_columns};
use super::flatten::{self, FlattenConfig};
use super::keys::not_one_of;
use super::reader::Section;

/// How events are written.
#[derive(Clone, Debug)]
pub enum FormatConfig {
    /// Our own envelope, or rows alone.
    Json(Option<Box<FlattenConfig>>),
    /// Debezium's.
    Debezium(Box<DebeziumConfig>),
}

impl Default for FormatConfig {
    fn default() -> Self {
        Self::Json(None)
    }
}

impl FormatConfig {
    /// How rows are flattened, if they are.
    pub fn flatten(&self) -> Option<&FlattenConfig> {
        match self {
            Self::Json(flatten) => flatten.as_deref(),
            Self::Debezium(config) => config.flatten.as_ref(),
        }
    }
}

/// `decimal_handling_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecimalMode {
    /// The unscaled number's bytes; the scale is in the schema.
    Precise,
    /// A JSON number of 8 bytes.
    Double,
    /// Text.
    String,
}

/// `time_precision_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeMode {
    /// By the column's digits: milliseconds up to three, else microseconds.
    Adaptive,
    /// The same, but times of day are microseconds always.
    AdaptiveTimeMicroseconds,
    /// Kafka Connect's own types: milliseconds.
    Connect,
    /// ISO 8601 text.
    IsoString,
    /// Microseconds.
    Microseconds,
    /// Nanoseconds.
    Nanoseconds,
}

/// `binary_handling_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryMode {
    /// Bytes, which are base64 in JSON.
    Bytes,
    /// Text in base64.
    Base64,
    /// Text in the alphabet of base64 that is safe in URLs.
    Base64UrlSafe,
    /// Text of hexadecimal digits.
    Hex,
}

/// `bigint_unsigned_handling_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnsignedMode {
    /// A number.
    Long,
    /// As a decimal of twenty digits in precise mode.
    Precise,
}

/// `interval_handling_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntervalMode {
    /// Microseconds, a month being a twelfth of 365.25 days.
    Numeric,
    /// ISO 8601 text with all fields.
    String,
}

/// `hstore_handling_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HstoreMode {
    /// A text that holds JSON.
    Json,
    /// A map.
    Map,
}

/// `schema_name_adjustment_mode` and `field_name_adjustment_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdjustMode {
    /// Names as they are.
    None,
    /// What Avro doesn't allow becomes `_`.
    Avro,
    /// What Avro doesn't allow, and `_`, becomes `_uXXXX`.
    AvroUnicode,
}

/// `skipped_operations`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[allow(clippy::struct_excessive_bools)]
pub struct Skipped {
    /// `c`
    pub creates: bool,
    /// `u`
    pub updates: bool,
    /// `d`
    pub deletes: bool,
    /// `t`
    pub truncates: bool,
}

/// The section `debezium:`.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools)]
pub struct DebeziumConfig {
    /// Where the original loses or falsifies a value, the right one in the same form.
    pub exact: bool,
    /// Begins the topics' and the schemas' names; `source.name` in each event.
    pub topic_prefix: String,
    /// Keys carry their schema.
    pub key_schemas: bool,
    /// Values carry their schema.
    pub value_schemas: bool,
    /// Whether a NULL in a column with a DEFAULT is the default; if it isn't said, unless `exact`.
    pub replace_nulls: Option<bool>,
    /// Each record has the headers `__debezium.context.*`.
    pub extended_headers: bool,
    /// A null value after each delete.
    pub tombstones: bool,
    /// Of decimals.
    pub decimal: DecimalMode,
    /// Of dates and times.
    pub time: TimeMode,
    /// Of bytes.
    pub binary: BinaryMode,
    /// Of MySQL's `bigint unsigned`.
    pub bigint_unsigned: UnsignedMode,
    /// Of PostgreSQL's `interval`.
    pub interval: IntervalMode,
    /// Of PostgreSQL's `hstore`.
    pub hstore: HstoreMode,
    /// Fraction digits of PostgreSQL's `money`.
    pub money_fraction_digits: u8,
    /// Stands for a value that the log left out; mostly text.
    pub placeholder: Vec<u8>,
    /// Changes that aren't published.
    pub skipped: Skipped,
    /// Of names of schemas.
    pub schema_names: AdjustMode,
    /// Of names of fields.
    pub field_names: AdjustMode,
    /// Events are numbered in their transactions, which have records of their own.
    pub transaction_metadata: bool,
    /// The end of the name of these records' topic.
    pub transaction_topic: String,
    /// Statements that change tables have a topic (MySQL and MariaDB).
    pub schema_changes: bool,
    /// How often a heartbeat is sent, if any.
    pub heartbeat_interval: Option<Duration>,
    /// Stands before `topic_prefix` in their topic's name.
    pub heartbeat_prefix: String,
    /// Their topic's whole name, if it is another one.
    pub heartbeat_topic: Option<String>,
    /// Keys of tables other than their own: the columns that each matches, in order.
    pub key_columns: Vec<Patterns>,
    /// Which columns are published, and how.
    pub columns: ColumnsConfig,
    /// Updates that change nothing that is published are left out.
    pub skip_unchanged: bool,
    /// Between the parts of the names of topics and schemas.
    pub delimiter: String,
    /// Rows instead of envelopes.
    pub flatten: Option<FlattenConfig>,
}

const DECIMAL: [(&str, DecimalMode); 3] =
    [("precise", DecimalMode::Precise), ("double", DecimalMode::Double), ("string", DecimalMode::String)];
const TIME: [(&str, TimeMode); 6] = [
    ("adaptive", TimeMode::Adaptive),
    ("adaptive_time_microseconds", TimeMode::AdaptiveTimeMicroseconds),
    ("connect", TimeMode::Connect),
    ("isostring", TimeMode::IsoString),
    ("microseconds", TimeMode::Microseconds),
    ("nanoseconds", TimeMode::Nanoseconds),
];
const BINARY: [(&str, BinaryMode); 4] = [
    ("bytes", BinaryMode::Bytes),
    ("base64", BinaryMode::Base64),
    ("base64-url-safe", BinaryMode::Base64UrlSafe),
    ("hex", BinaryMode::Hex),
];
const UNSIGNED: [(&str, UnsignedMode); 2] = [("long", UnsignedMode::Long), ("precise", UnsignedMode::Precise)];
const INTERVAL: [(&str, IntervalMode); 2] = [("numeric", IntervalMode::Numeric), ("string", IntervalMode::String)];
const HSTORE: [(&str, HstoreMode); 2] = [("json", HstoreMode::Json), ("map", HstoreMode::Map)];
const ADJUST: [(&str, AdjustMode); 3] =
    [("none", AdjustMode::None), ("avro", AdjustMode::Avro), ("avro_unicode", AdjustMode::AvroUnicode)];

/// The text that stands for what the log left out, unless another one is configured.
const PLACEHOLDER: &str = "__debezium_unavailable_value";

impl DebeziumConfig {
    /// Whether a NULL in a column with a DEFAULT is the default.
    pub fn replaces_nulls(&self) -> bool {
        self.replace_nulls.unwrap_or(!self.exact)
    }

    /// What holds if nothing is written, for the source called `name` of this kind.
    pub fn defaults(name: &str, kind: &str) -> Self {
        Self {
            exact: true,
            topic_prefix: name.to_owned(),
            key_schemas: true,
            value_schemas: true,
            replace_nulls: None,
            extended_headers: true,
            tombstones: true,
            decimal: DecimalMode::Precise,
            // the binlog connectors' default differs from PostgreSQL's
            time: if kind == "postgres" { TimeMode::Adaptive } else { TimeMode::AdaptiveTimeMicroseconds },
            binary: BinaryMode::Bytes,
            bigint_unsigned: UnsignedMode::Long,
            interval: IntervalMode::Numeric,
            hstore: HstoreMode::Json,
            money_fraction_digits: 2,
            placeholder: PLACEHOLDER.as_bytes().to_vec(),
            skipped: Skipped { truncates: true, ..Skipped::default() },
            schema_names: AdjustMode::None,
            field_names: AdjustMode::None,
            transaction_metadata: false,
            transaction_topic: "transaction".to_owned(),
            schema_changes: true,
            heartbeat_interval: None,
            heartbeat_prefix: "__debezium-heartbeat".to_owned(),
            heartbeat_topic: None,
            key_columns: Vec::new(),
            columns: ColumnsConfig::default(),
            skip_unchanged: false,
            delimiter: ".".to_owned(),
            flatten: None,
        }
    }
}

/// Reads `format` and `debezium`; `None` after a report.
pub(crate) fn read(root: &Section<'_>, name: &str, kind: &str) -> Option<FormatConfig> {
    let debezium = match root.has("format") {
        true => root.choice("format", &[("json", false), ("debezium", true)])?,
        false => false,
    };
    if root.is_malformed("debezium") {
        root.section("debezium");
        return None;
    }
    let section = root.section("debezium");
    let flatten = flatten::read(root, debezium, kind);
    if debezium {
        let config = read_section(&section, name, kind)?;
        return Some(FormatConfig::Debezium(Box::new(DebeziumConfig { flatten: flatten?, ..config })));
    }
    if section.keys().next().is_some() {
        section.report(
            section.place(),
            "`debezium` means nothing here: events are written in our own format; write `format: debezium`, or remove the section",
        );
        return None;
    }
    Some(FormatConfig::Json(flatten?.map(Box::new)))
}

fn read_section(section: &Section<'_>, name: &str, kind: &str) -> Option<DebeziumConfig> {
    let defaults = DebeziumConfig::defaults(name, kind);
    let switch = |key: &str, default: bool| if section.has(key) { section.switch(key) } else { Some(default) };
    fn choice<T: Copy>(section: &Section<'_>, key: &str, words: &[(&str, T)], default: T) -> Option<T> {
        if section.has(key) { section.choice(key, words) } else { Some(default) }
    }
    let adjust = |key: &str| choice(section, key, &ADJUST, AdjustMode::None);
    // all of them are read before the first that is wrong ends it, so that one pass finds every mistake
    let exact = switch("exact", defaults.exact);
    let topic_prefix = match section.has("topic_prefix") {
        true => section.value("topic_prefix", parse_prefix),
        false => Some(defaults.topic_prefix),
    };
    let (key_schemas, value_schemas) = (switch("key_schemas_enable", true), switch("value_schemas_enable", true));
    let replace_nulls = match section.has("value_replace_null_with_default") {
        true => section.switch("value_replace_null_with_default").map(Some),
        false => Some(None),
    };
    let (extended_headers, tombstones) =
        (switch("extended_headers_enabled", true), switch("tombstones_on_delete", true));
    let decimal = choice(section, "decimal_handling_mode", &DECIMAL, defaults.decimal);
    let time = choice(section, "time_precision_mode", &TIME, defaults.time);
    if kind != "postgres" && time == Some(TimeMode::Adaptive) && section.has("time_precision_mode") {
        section.report(
            section.key_place("time_precision_mode"),
            "`debezium.time_precision_mode` is `adaptive`, which the original doesn't take for MySQL and MariaDB; write adaptive_time_microseconds",
        );
        return None;
    }
    let binary = choice(section, "binary_handling_mode", &BINARY, defaults.binary);
    let bigint_unsigned = choice(section, "bigint_unsigned_handling_mode", &UNSIGNED, defaults.bigint_unsigned);
    let interval = choice(section, "interval_handling_mode", &INTERVAL, defaults.interval);
    let hstore = choice(section, "hstore_handling_mode", &HSTORE, defaults.hstore);
    let money = match section.has("money_fraction_digits") {
        true => section.value("money_fraction_digits", |text| {
            text.parse()
                .ok()
                .filter(|digits| *digits <= 10)
                .ok_or_else(|| "expected a whole number from 0 to 10".to_owned())
        }),
        false => Some(defaults.money_fraction_digits),
    };
    let placeholder = match section.has("unavailable_value_placeholder") {
        true => section.text("unavailable_value_placeholder").map(|text| placeholder(&text.value)),
        false => Some(defaults.placeholder),
    };
    let skipped = match section.has("skipped_operations") {
        true => section.value("skipped_operations", parse_skipped),
        false => Some(defaults.skipped),
    };
    let (schema_names, field_names) = (adjust("schema_name_adjustment_mode"), adjust("field_name_adjustment_mode"));
    let transaction_metadata = switch("provide_transaction_metadata", false);
    let transaction_topic = match section.has("topic_transaction") {
        true => section.value("topic_transaction", parse_prefix),
        false => Some(defaults.transaction_topic),
    };
    let schema_changes = switch("include_schema_changes", defaults.schema_changes);
    let heartbeat_interval = match section.has("heartbeat_interval_ms") {
        true => section.value("heartbeat_interval_ms", parse_heartbeat),
        false => Some(None),
    };
    let heartbeat_prefix = match section.has("topic_heartbeat_prefix") {
        true => section.value("topic_heartbeat_prefix", parse_prefix),
        false => Some(defaults.heartbeat_prefix),
    };
    let heartbeat_topic = match section.has("topic_heartbeat_name") {
        true => section.value("topic_heartbeat_name", parse_prefix).map(Some),
        false => Some(None),
    };
    let key_columns = match section.has("message_key_columns") {
        true => section.value("message_key_columns", parse_key_columns),
        false => Some(Vec::new()),
    };
    let columns = columns::read(section);
    let skip_unchanged = switch("skip_messages_without_change", false);
    let delimiter = match section.has("topic_delimiter") {
        true => section.value("topic_delimiter", parse_delimiter),
        false => Some(defaults.delimiter),
    };
    Some(DebeziumConfig {
        exact: exact?,
        topic_prefix: topic_prefix?,
        key_schemas: key_schemas?,
        value_schemas: value_schemas?,
        replace_nulls: replace_nulls?,
        extended_headers: extended_headers?,
        tombstones: tombstones?,
        decimal: decimal?,
        time: time?,
        binary: binary?,
        bigint_unsigned: bigint_unsigned?,
        interval: interval?,
        hstore: hstore?,
        money_fraction_digits: money?,
        placeholder: placeholder?,
        skipped: skipped?,
        schema_names: schema_names?,
        field_names: field_names?,
        transaction_metadata: transaction_metadata?,
        transaction_topic: transaction_topic?,
        schema_changes: schema_changes?,
        heartbeat_interval: heartbeat_interval?,
        heartbeat_prefix: heartbeat_prefix?,
        heartbeat_topic: heartbeat_topic?,
        key_columns: key_columns?,
        columns: columns?,
        skip_unchanged: skip_unchanged?,
        delimiter: delimiter?,
        flatten: None,
    })
}

/// Milliseconds, as the original has them; 0 is never.
fn parse_heartbeat(text: &str) -> Result<Option<Duration>, String> {
    const MOST: u64 = 24 * 60 * 60 * 1000;
    match text.parse::<u64>() {
        Ok(0) => Ok(None),
        Ok(millis) if millis <= MOST => Ok(Some(Duration::from_millis(millis))),
        _ => Err(format!("expected milliseconds, a whole number from 0 (never) to {MOST}")),
    }
}

/// As the original takes it: a topic's name without anything that its own topics would need to change.
fn parse_prefix(text: &str) -> Result<String, String> {
    let legal = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
    match !text.is_empty() && text.len() <= 200 && text.chars().all(legal) {
        true => Ok(text.to_owned()),
        false => Err("expected letters, digits, . _ -, at most 200".to_owned()),
    }
}

/// As the original takes it: letters of topics' names.
fn parse_delimiter(text: &str) -> Result<String, String> {
    let legal = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
    match !text.is_empty() && text.len() <= 10 && text.chars().all(legal) {
        true => Ok(text.to_owned()),
        false => Err("expected letters, digits, . _ -, at most 10".to_owned()),
    }
}

/// A text, or bytes in hexadecimal digits behind `hex:`.
fn placeholder(text: &str) -> Vec<u8> {
    let decoded = text.strip_prefix("hex:").and_then(|digits| {
        let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
        let byte = |pair: &[u8; 2]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
        let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
        if rest.is_empty() { bytes } else { None }
    });
    decoded.unwrap_or_else(|| text.as_bytes().to_vec())
}

fn parse_skipped(text: &str) -> Result<Skipped, String> {
    let mut skipped = Skipped::default();
    let words: Vec<&str> = text.split(',').map(str::trim).collect();
    for word in &words {
        match *word {
            "none" if words.len() == 1 => {}
            "none" => return Err("`none` stands alone".to_owned()),
            "c" => skipped.creates = true,
            "u" => skipped.updates = true,
            "d" => skipped.deletes = true,
            "t" => skipped.truncates = true,
            other => return Err(not_one_of(other, &["c", "u", "d", "t", "none"])),
        }
    }
    Ok(skipped)
}
