//! `rowcast tail`: the committed events of a source as lines, read from Kafka; changes nothing anywhere.
//!
//! The source's file tells the brokers and the topics. A record is shown if it is an event of this source (its `source.name`) and
//! passes the filters; tombstones, schemas and checkpoints never are. Values are printed as they are in the topic, byte by byte;
//! `--pretty` only adds blanks and line ends. A reader that goes away ends it quietly.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use rowcast_core::{TableFilter, TablePattern};
use serde::Deserialize;

use super::commands::{CONFIGURATION, FAILED, complain};
use super::named::named;
use crate::config::{FormatConfig, KafkaConfig, SinkConfig, SourceConfig, parse_duration, parse_name};
use crate::format::debezium;
use crate::route;
use crate::sink::kafka::tail::{From, Tail, Tailed, TailedRecord};
use crate::supervisor;

pub(super) const EXAMPLES: &str = "\
Examples:
  rowcast tail shop                                        what is committed from now on
  rowcast tail shop config --from beginning --until-end    all that there is, then end
  rowcast tail shop --table 'public.order*' --op c,u       some tables and operations
  rowcast tail shop --table public.orders --key 7 --from 1h   the last hour of one row
  rowcast tail shop --limit 1 --pretty                     how an event looks
  rowcast tail shop --with-topic                           {\"topic\":...,\"partition\":...,\"offset\":...,\"event\":{...}}

PATH is as for `run`; without one, config in the working directory, else /etc/rowcast.
A record's time, which --from compares with, is when it was sent to Kafka.

Exit codes:
  0  ended as asked, or the reader of the output went away
  1  Kafka refused, or could not be reached at the start
  2  wrong usage or configuration";

/// Arguments of `tail`.
#[derive(Clone, Debug, Args)]
pub struct TailArgs {
    /// The source's name
    #[arg(value_name = "NAME", value_parser = parse_name)]
    pub source: String,

    /// Source files, or folders of them
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,

    /// What all sources share; default: rowcast.yaml beside the source file, or in the folder above it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Only events of these tables: schema.table with * and ?, and ! in front, as in `source.tables`; may be repeated
    #[arg(long = "table", value_name = "PATTERN", value_parser = TablePattern::parse, value_delimiter = ',')]
    pub tables: Vec<TablePattern>,

    /// Only these operations: c, u, d, r, t, m
    #[arg(long = "op", value_name = "OPS", value_delimiter = ',')]
    pub ops: Vec<Op>,

    /// Only events with this key: the JSON object, or the value alone where the key has one column
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,

    /// Where to begin: beginning, end, a time such as 2026-01-31T12:00:00Z, or a duration such as 10m ago
    #[arg(long, value_name = "WHERE", default_value = "end", value_parser = parse_from)]
    pub from: From,

    /// End after this many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,

    /// End at what is the end of the topics when it starts
    #[arg(long)]
    pub until_end: bool,

    /// Print the events indented, on several lines each
    #[arg(long)]
    pub pretty: bool,

    /// Print each event in an object with its topic, partition and offset
    #[arg(long)]
    pub with_topic: bool,
}

/// What an event tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Op {
    /// Insert
    C,
    /// Update
    U,
    /// Delete
    D,
    /// A row that was there before
    R,
    /// Truncate
    T,
    /// Message
    M,
}

fn parse_from(text: &str) -> Result<From, String> {
    match text {
        "beginning" => return Ok(From::Beginning),
        "end" => return Ok(From::End),
        _ => {}
    }
    if let Ok(ago) = parse_duration(text) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        return Ok(From::Time(i64::try_from(now.saturating_sub(ago).as_millis()).unwrap_or(0)));
    }
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => Ok(From::Time(time.as_millisecond().max(0))),
        Err(_) => Err(
            "expected beginning, end, a time such as 2026-01-31T12:00:00Z or 2026-01-31T13:00:00+01:00, or a duration \
                       such as 30s, 10m or 2h"
                .to_owned(),
        ),
    }
}

/// Which events are shown.
struct Filter {
    source: String,
    tables: Option<TableFilter>,
    ops: Vec<Op>,
    key: Option<String>,
    /// Rows are published, which don't say what they are of: all records of the topics that may be the source's are shown.
    flattened: bool,
}

/// An event, or one with its schema beside it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Shown {
    Payload { payload: Head },
    Event(Head),
}

/// What a filter looks at in an event.
#[derive(Deserialize)]
struct Head {
    op: String,
    source: HeadSource,
}

#[derive(Deserialize)]
struct HeadSource {
    name: String,
    db: String,
    schema: Option<String>,
    table: Option<String>,
}

impl Filter {
    /// `source` is the name that events have it by.
    fn new(args: &TailArgs, source: &str, flattened: bool) -> Result<Self, String> {
        if flattened && !(args.tables.is_empty() && args.ops.is_empty()) {
            return Err(format!(
                "`--table` and `--op` can't be used for `{}`: its events are flattened (`flatten`), and don't say what they are of; repair: \
                 --key, or kcat -t TOPIC",
                args.source
            ));
        }
        let tables = match args.tables.is_empty() {
            true => None,
            false => {
                let mut patterns = args.tables.clone();
                // exclusions alone take out of all tables
                if patterns.iter().all(TablePattern::excludes) {
                    patterns.push(TablePattern::parse("*.*")?);
                }
                TableFilter::new(patterns)
            }
        };
        Ok(Self { source: source.to_owned(), tables, ops: args.ops.clone(), key: args.key.clone(), flattened })
    }

    fn shows(&self, key: Option<&[u8]>, value: &[u8]) -> bool {
        // what isn't an event of this source, others have written
        let wanted = |wanted: &str| key.is_some_and(|key| same_key(wanted, key));
        let Ok(Shown::Payload { payload: head } | Shown::Event(head)) = serde_json::from_slice(value) else {
            return self.flattened && self.key.as_deref().is_none_or(wanted);
        };
        if head.source.name != self.source {
            return false;
        }
        let op = || Op::from_str(&head.op, true).is_ok_and(|op| self.ops.contains(&op));
        let table = |tables: &TableFilter| {
            let qualifier = head.source.schema.as_deref().unwrap_or(&head.source.db);
            head.source.table.as_deref().is_some_and(|table| tables.matches_parts(qualifier, table))
        };
        (self.ops.is_empty() || op())
            && self.tables.as_ref().is_none_or(table)
            && self.key.as_deref().is_none_or(wanted)
    }
}

/// `{"id":7}`, however it is written; or its one value, `7`; or the text of that value without quotes.
fn same_key(wanted: &str, key: &[u8]) -> bool {
    use serde_json::Value;
    if wanted.as_bytes() == key {
        return true;
    }
    let Ok(Value::Object(mut columns)) = serde_json::from_slice::<Value>(key) else { return false };
    // a key with its schema beside it
    if columns.len() == 2
        && columns.contains_key("schema")
        && let Some(Value::Object(payload)) = columns.get_mut("payload")
    {
        columns = std::mem::take(payload);
    }
    let given = serde_json::from_str::<Value>(wanted).ok();
    if let Some(Value::Object(given)) = &given {
        return *given == columns;
    }
    let mut values = columns.values();
    match (values.next(), values.next()) {
        (Some(Value::String(text)), None) => text == wanted || given.is_some_and(|given| given == text.as_str()),
        (Some(value), None) => given.as_ref() == Some(value),
        _ => false,
    }
}

/// Writes events, and knows when enough were.
struct Printer<W: Write> {
    out: W,
    pretty: bool,
    with_topic: bool,
}

impl<W: Write> Printer<W> {
    fn print(&mut self, record: &TailedRecord, value: &[u8]) -> std::io::Result<()> {
        let wrapped;
        let text = if self.with_topic {
            // a topic's name needs no escapes
            let place = format!(
                "{{\"topic\":\"{}\",\"partition\":{},\"offset\":{},\"event\":",
                record.topic, record.partition, record.offset
            );
            wrapped = [place.as_bytes(), value, b"}"].concat();
            &wrapped
        } else {
            value
        };
        match self.pretty {
            true => self.out.write_all(&indented(text))?,
            false => self.out.write_all(text)?,
        }
        self.out.write_all(b"\n")
    }
}

/// JSON text with line ends and blanks; every token as it is, so that no number loses digits.
fn indented(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() * 2);
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    let line = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        out.extend(std::iter::repeat_n(b' ', depth * 2));
    };
    for (at, &byte) in json.iter().enumerate() {
        if in_text {
            out.push(byte);
            in_text = escaped || byte != b'"';
            escaped = byte == b'\\' && !escaped;
            continue;
        }
        let next = || json.get(at + 1..).and_then(|rest| rest.iter().find(|byte| !byte.is_ascii_whitespace()));
        match byte {
            b'"' => {
                in_text = true;
                out.push(byte);
            }
            b'{' | b'[' => {
                out.push(byte);
                depth += 1;
                if !matches!(next(), Some(b'}' | b']')) {
                    line(&mut out, depth);
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if !matches!(out.last(), Some(b'{' | b'[')) {
                    line(&mut out, depth);
                }
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                line(&mut out, depth);
            }
            b':' => out.extend(b": "),
            _ if byte.is_ascii_whitespace() => {}
            _ => out.push(byte),
        }
    }
    out
}

/// Why it ended.
enum Ended {
    Done,
    ReaderGone,
    Failed(String),
}

pub(super) fn tail(args: &TailArgs, runtime: &tokio::runtime::Runtime) -> ExitCode {
    let (source, kafka) = match find(args) {
        Ok(found) => found,
        Err(message) => return complain(CONFIGURATION, format_args!("{message}")),
    };
    let name = match &source.format {
        FormatConfig::Json(_) => &source.name,
        FormatConfig::Debezium(config) => &config.topic_prefix,
    };
    let filter = match Filter::new(args, name, source.format.flatten().is_some()) {
        Ok(filter) => filter,
        Err(message) => return complain(CONFIGURATION, format_args!("{message}")),
    };
    let _context = runtime.enter();
    match read(args, &source, &kafka, &filter) {
        Ended::Done | Ended::ReaderGone => ExitCode::SUCCESS,
        Ended::Failed(message) => complain(FAILED, format_args!("{message}")),
    }
}

/// The source and where its events are.
fn find(args: &TailArgs) -> Result<(SourceConfig, KafkaConfig), String> {
    let source = named("tail", &args.source, &args.paths, args.config.as_ref())?;
    match &source.sink {
        SinkConfig::Kafka(kafka) => {
            let kafka = kafka.clone();
            Ok((source, kafka))
        }
        SinkConfig::File { path, .. } => {
            let path = path.display();
            Err(format!(
                "source `{}` writes its events to a file, and not to Kafka; repair: tail -f {path}",
                args.source
            ))
        }
        SinkConfig::Stdout => Err(format!(
            "source `{}` writes its events to the standard output, where they can't be read again; repair: a `sink` of `type: kafka`",
            args.source
        )),
    }
}

fn read(args: &TailArgs, source: &SourceConfig, kafka: &KafkaConfig, filter: &Filter) -> Ended {
    let settings = supervisor::kafka_settings(&source.name, "tail", kafka, source.delivery);
    let messages = match &source.format {
        FormatConfig::Json(_) => route::message_topic(&source.name),
        FormatConfig::Debezium(config) => debezium::message_topic(config),
    };
    let mut tail = match Tail::open(&settings, &kafka.topic, messages, args.from) {
        Ok(tail) => tail,
        Err(error) => return Ended::Failed(error.message),
    };
    let count = tail.topics().count();
    // for whoever starts it by hand or in a test: what comes from now on is shown
    complain(0, format_args!("reading {count} topic{} of {}", if count == 1 { "" } else { "s" }, source.name));
    let out = std::io::BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    let mut printer = Printer { out, pretty: args.pretty, with_topic: args.with_topic };
    let mut left = args.limit;
    let mut told = String::new();
    loop {
        let written = match tail.wait() {
            Err(error) => return Ended::Failed(error.message),
            Ok(Tailed::End) if args.until_end => break,
            Ok(Tailed::Record(record)) => match &record.value {
                Some(value) if filter.shows(record.key.as_deref(), value) => {
                    left = left.map(|left| left - 1);
                    printer.print(&record, value)
                }
                _ => Ok(()),
            },
            Ok(Tailed::Trouble(message)) => {
                if message != told {
                    complain(0, format_args!("{message}"));
                    told = message;
                }
                printer.out.flush()
            }
            Ok(Tailed::Nothing | Tailed::End) => printer.out.flush(),
        };
        if let Err(error) = written {
            return gone(&error);
        }
        if left == Some(0) {
            break;
        }
    }
    match printer.out.flush() {
        Ok(()) => Ended::Done,
        Err(error) => gone(&error),
    }
}

fn gone(error: &std::io::Error) -> Ended {
    match error.kind() {
        ErrorKind::BrokenPipe => Ended::ReaderGone,
        _ => Ended::Failed(format!("can't write to the standard output: {error}")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn indenting_changes_no_token() {
        let text = br#"{"a":[],"b":{},"n":12345678901234567890.10,"s":"a\"{,:[\\","l":[1,{"x":null}]}"#;
        let shown = indented(text);
        assert_eq!(
            String::from_utf8(shown.clone()).unwrap(),
            "{\n  \"a\": [],\n  \"b\": {},\n  \"n\": 12345678901234567890.10,\n  \"s\": \"a\\\"{,:[\\\\\",\n  \"l\": [\n    1,\n    {\n      \
             \"x\": null\n    }\n  ]\n}"
        );
        assert_eq!(indented(&shown), shown);
    }

    #[test]
    fn a_key_is_given_whole_or_by_its_one_value() {
        for (wanted, key, same) in [
            (r#"{"id":7}"#, r#"{"id":7}"#, true),
            (r#"{ "id": 7 }"#, r#"{"id":7}"#, true),
            ("7", r#"{"id":7}"#, true),
            ("7", r#"{"id":77}"#, false),
            ("7", r#"{"id":"7"}"#, true),
            ("\"7\"", r#"{"id":"7"}"#, true),
            ("ann", r#"{"name":"ann"}"#, true),
            ("7", r#"{"a":7,"b":7}"#, false),
            (r#"{"b":1,"a":2}"#, r#"{"a":2,"b":1}"#, true),
            ("plain", "plain", true),
            ("9007199254740993", r#"{"id":9007199254740992}"#, false),
            ("7", r#"{"schema":{"type":"struct"},"payload":{"id":7}}"#, true),
            (r#"{"id":8}"#, r#"{"schema":{"type":"struct"},"payload":{"id":7}}"#, false),
        ] {
            assert_eq!(same_key(wanted, key.as_bytes()), same, "{wanted} {key}");
        }
    }

    #[test]
    fn the_place_to_begin_is_a_word_a_time_or_a_duration() {
        assert_eq!(parse_from("beginning"), Ok(From::Beginning));
        assert_eq!(parse_from("1970-01-01T01:00:01.5+01:00"), Ok(From::Time(1500)));
        assert!(matches!(parse_from("10m"), Ok(From::Time(at)) if at > 1_600_000_000_000));
        for text in ["10", "yesterday", "2026-01-31", ""] {
            assert!(parse_from(text).unwrap_err().starts_with("expected beginning, end"), "{text}");
        }
    }
}
