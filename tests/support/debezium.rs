//! What the real Debezium says and what we say, in a form that can be compared: cases, recordings, masks.
//!
//! A record is one line of text: topic, partition, key, value, headers, in the bytes that were sent, except for what can't be the same twice. That
//! is masked by one function, [`Masker::lines`], for the original's records and for ours:
//!
//! - names that a run chooses (topic prefix, database) are replaced wherever they are;
//! - clocks are `"<clock>"`, if the three of them say the same time; else they stay and will differ;
//! - positions (LSN, transaction, GTID, file, offset, thread, server) are numbered by first appearance, kind by kind: `"<lsn 2>"`. So which of them
//!   are equal is still compared;
//! - a Connect schema is written once and then named, `"<schema 3>"`, to keep recordings small. Its text counts.
//!
//! Nothing else is touched: order of fields, escapes, forms of numbers and spaces are compared as they are. See tests/debezium/README.md.

use std::collections::HashMap;
use std::fmt::Write as _;

pub use super::cases::{Case, SETTLE};
use super::compact::Json;
use super::kafka::Record;

/// The table with which a run finds its ends. Its rows, and what says of them, are left out of recordings.
pub const SENTINEL: &str = "zz_sentinel";

/// Makes the sentinel's table.
pub const SENTINEL_TABLE: &str = "create table zz_sentinel (id int primary key, n int)";

/// Statements for the sentinel's row `n`: there are cases in which inserts, and some in which updates aren't captured.
pub fn sentinel(n: u32) -> [String; 2] {
    [format!("insert into {SENTINEL} values ({n}, 0)"), format!("update {SENTINEL} set n = 1 where id = {n}")]
}

/// Whether a statement changes a table that there is. What MySQL doesn't log of a table is read from its catalog, as long as the table is as it was.
pub fn changes_a_table(statement: &str) -> bool {
    ["alter", "rename", "drop"].iter().any(|word| statement.trim_start().starts_with(word))
}

/// Whether a line is a record of the topic of statements that change tables.
pub fn is_statement(line: &str) -> bool {
    line.starts_with("{\"topic\":\"<prefix>\",")
}

/// Whether a line is such a statement of a snapshot; a copy has none.
pub fn is_statement_of_snapshot(line: &str) -> bool {
    is_statement(line) && line.contains("\"snapshot\":\"true\"")
}

/// Masks the records of one run. Records must come topic by topic in the order of names, and in their order.
#[derive(Debug, Default)]
pub struct Masker {
    names: Vec<(String, &'static str)>,
    seen: HashMap<(&'static str, String), usize>,
    schemas: HashMap<String, usize>,
    lines: Vec<String>,
    /// The topic that is being masked is that of transactions.
    transactions: bool,
    /// The topic that is being masked is that of heartbeats.
    heartbeats: bool,
    /// Keeps the times and positions of streamed changes: two that read the same log must agree on them.
    live: bool,
}

impl Masker {
    /// For a run that had this topic prefix and this database.
    pub fn new(prefix: &str, database: &str) -> Masker {
        // the mode avro_unicode spells out what has another meaning in its names
        let spelled = |name: &str| name.replace('_', "_u005f");
        let mut names = vec![
            (prefix.to_owned(), "<prefix>"),
            (database.to_owned(), "<db>"),
            (spelled(prefix), "<prefix>"),
            (spelled(database), "<db>"),
        ];
        // one may be the beginning of the other
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        Masker { names, ..Masker::default() }
    }

    /// Positions and database times of the stream are compared as they are.
    pub fn live(self) -> Masker {
        Masker { live: true, ..self }
    }

    /// All records of a run, by topic: the lines of a recording.
    pub fn lines(mut self, topics: &[(String, Vec<Record>)]) -> Vec<String> {
        let mut topics: Vec<_> = topics.iter().collect();
        topics.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (topic, records) in topics {
            if topic.contains(SENTINEL) {
                continue;
            }
            self.heartbeats = self.names.iter().any(|(name, mask)| {
                *mask == "<prefix>" && topic.strip_suffix(name.as_str()).is_some_and(|before| before.ends_with('.'))
            });
            let foreign = self.foreign(records);
            self.transactions = records.iter().filter_map(value_of).any(|it| payload(&it).get("event_count").is_some());
            for record in records {
                if !Masker::is_foreign(record, &foreign) {
                    self.record(topic, record);
                }
            }
        }
        self.lines
    }

    /// Transactions of the sentinel, and those without a change in what is captured (the server's other work), by their ids.
    fn foreign(&self, records: &[Record]) -> Vec<String> {
        let mut foreign = Vec::new();
        for record in records {
            let Some(value) = value_of(record) else { continue };
            let value = payload(&value);
            let ended = value.get("status").and_then(Json::plain) == Some("END");
            let count = value.get("event_count").and_then(Json::plain);
            if ended
                && (count == Some("0") || value.get("data_collections").is_some_and(|it| it.text().contains(SENTINEL)))
            {
                foreign.extend(value.get("id").and_then(Json::plain).map(|id| transaction_of(id).to_owned()));
            }
        }
        foreign
    }

    fn is_foreign(record: &Record, foreign: &[String]) -> bool {
        let Some(value) = value_of(record) else { return false };
        let value = payload(&value);
        if let Some(ddl) = value.get("ddl") {
            return ddl.text().contains(SENTINEL);
        }
        value.get("status").is_some()
            && value.get("id").and_then(Json::plain).is_some_and(|id| foreign.iter().any(|it| it == transaction_of(id)))
    }

    fn record(&mut self, topic: &str, record: &Record) {
        let mut line = format!("{{\"topic\":{},\"partition\":{}", quoted(topic), record.partition);
        self.part(&mut line, "key", record.key.as_deref());
        self.part(&mut line, "value", record.value.as_deref());
        if !record.headers.is_empty() {
            line.push_str(",\"headers\":{");
            for (i, (name, value)) in record.headers.iter().enumerate() {
                line.push_str(if i == 0 { "" } else { "," });
                let mut text = String::new();
                // each start of the original has a number of its own
                let value =
                    if name == "__debezium.context.runId" { Some(b"<run>".as_slice()) } else { value.as_deref() };
                self.part(&mut text, name, value);
                line.push_str(if text.is_empty() { "" } else { &text[1..] });
                if text.is_empty() {
                    let _ = write!(line, "{}:null", quoted(name));
                }
            }
            line.push('}');
        }
        line.push('}');
        for (name, mask) in &self.names {
            line = line.replace(name.as_str(), mask);
        }
        // as many as there was time for
        if self.heartbeats && self.lines.contains(&line) {
            return;
        }
        self.lines.push(line);
    }

    /// Nothing for null; JSON as it is; other text as `NAME_text`, other bytes as `NAME_hex`.
    fn part(&mut self, line: &mut String, name: &str, bytes: Option<&[u8]>) {
        let Some(bytes) = bytes else { return };
        match std::str::from_utf8(bytes) {
            Ok(text) => match Json::parse(text) {
                Some(json) => {
                    let json = self.json(json);
                    let _ = write!(line, ",{}:", quoted(name));
                    json.write(line);
                }
                None => {
                    let _ = write!(line, ",{}:{}", quoted(&format!("{name}_text")), quoted(text));
                }
            },
            Err(_) => {
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                let _ = write!(line, ",{}:{}", quoted(&format!("{name}_hex")), quoted(&hex));
            }
        }
    }

    fn json(&mut self, mut json: Json) -> Json {
        let is_connect = matches!(&json, Json::Object(members)
            if members.len() == 2 && members[0].0 == "\"schema\"" && members[1].0 == "\"payload\"");
        if !is_connect {
            self.mask(&mut json);
            return json;
        }
        let Json::Object(members) = &mut json else { return json };
        members[0].1 = self.schema(&members[0].1);
        self.mask(&mut members[1].1);
        json
    }

    fn schema(&mut self, schema: &Json) -> Json {
        let mut text = schema.text();
        if text == "null" {
            return schema.clone();
        }
        for (name, mask) in &self.names {
            text = text.replace(name.as_str(), mask);
        }
        let next = self.schemas.len() + 1;
        let number = *self.schemas.entry(text.clone()).or_insert(next);
        if number == next {
            self.lines.push(format!("{{\"schema\":{number},\"is\":{text}}}"));
        }
        Json::Raw(format!("\"<schema {number}>\""))
    }

    fn mask(&mut self, it: &mut Json) {
        let streamed =
            it.get("source").and_then(|source| source.get("snapshot")).and_then(Json::plain) == Some("false");
        let keep = self.live && streamed;
        if let Some(source) = it.get_mut("source") {
            self.source(source, keep);
        }
        if self.heartbeats {
            return replace(it, "ts_ms", "clock");
        }
        let is_envelope = it.get("op").is_some() || it.get("ddl").is_some() || it.get("status").is_some();
        if is_envelope {
            clocks(it, "clock");
        }
        if let Some(transaction) = it.get_mut("transaction")
            && !keep
        {
            self.transaction(transaction);
        }
        // keys and values of the transaction topic have the id at their top
        if self.transactions && !self.live {
            self.transaction(it);
        }
        // the original has them in the order of a hash table
        if let Some(Json::Array(counts)) = it.get_mut("data_collections") {
            for count in counts.iter_mut() {
                if let Some(Json::Raw(name)) = count.get_mut("data_collection") {
                    // the address of an object, where the original has no name for what was written
                    let known = name.split_once("LogicalDecodingMessageId@").map(|(before, _)| before.to_owned());
                    if let Some(before) = known {
                        *name = format!("{before}LogicalDecodingMessageId@<hash>\"");
                    }
                }
            }
            counts.sort_by_key(Json::text);
        }
        if !is_envelope && !self.live {
            self.flattened(it);
        }
    }

    /// What a flattened row has of its source and transaction, under the names that the original gives to it.
    fn flattened(&mut self, it: &mut Json) {
        let Json::Object(members) = it else { return };
        let times = members.iter().filter(|(name, _)| name.starts_with("\"__") && name.ends_with("ts_ms\""));
        let times: Vec<String> = times.map(|(name, _)| name.trim_matches('"').to_owned()).collect();
        for name in times {
            replace(it, &name, "time");
        }
        self.transaction_id(it, "__transaction_id");
    }

    /// `{"id": "769:24023119", ...}`, or a GTID, or file and offset.
    fn transaction(&mut self, it: &mut Json) {
        self.transaction_id(it, "id");
    }

    fn transaction_id(&mut self, it: &mut Json, name: &str) {
        let Some(id) = it.get_mut(name) else { return };
        let Json::Raw(text) = id else { return };
        let Some(bare) = text.strip_prefix('"').and_then(|it| it.strip_suffix('"')) else { return };
        let masked = if let Some((file, pos)) = bare.strip_prefix("file=").and_then(|it| it.split_once(",pos=")) {
            let pos = self.number("pos", &format!("{file}:{pos}"));
            format!("file={},pos={pos}", self.number("file", file))
        } else if let Some((tx, lsn)) =
            bare.split_once(':').filter(|(tx, lsn)| tx.parse::<u64>().is_ok() && lsn.parse::<u64>().is_ok())
        {
            format!("{}:{}", self.number("tx", tx), self.number("lsn", lsn))
        } else if bare.contains('-') {
            self.number("gtid", bare)
        } else if bare.parse::<u64>().is_ok() {
            self.number("tx", bare)
        } else {
            return;
        };
        *text = format!("\"{masked}\"");
    }

    fn source(&mut self, source: &mut Json, keep: bool) {
        replace(source, "version", "version");
        if keep {
            return;
        }
        clocks(source, "time");
        // what a snapshot says of its place is numbered apart: nothing of the stream has to be equal to it
        let snapshot = source.get("snapshot").and_then(Json::plain) != Some("false");
        let (lsn, tx) = if snapshot { ("snapshot lsn", "snapshot tx") } else { ("lsn", "tx") };
        if let Some(Json::Raw(text)) = source.get_mut("sequence")
            && text != "null"
        {
            // a string that holds an array of strings
            let numbers = text.trim_matches('"').replace('\\', "");
            let numbers: Vec<&str> = numbers.trim_matches(['[', ']']).split(',').collect();
            // The first is the end of the commit before: the same number as that of the next change if nobody has written meanwhile, and
            // that is chance.
            let kinds = ["commit"].into_iter().chain(std::iter::repeat(lsn));
            let numbers: Vec<String> = numbers
                .into_iter()
                .zip(kinds)
                .map(|(it, kind)| if it == "null" { it.to_owned() } else { self.number(kind, it.trim_matches('"')) })
                .collect();
            // other forms than the known one differ by their quotes
            let known = text.starts_with("\"[") && text.ends_with("]\"");
            *text =
                format!("\"{}{}{}\"", if known { "[" } else { "?" }, numbers.join(","), if known { "]" } else { "?" });
        }
        for (field, kind) in
            [("txId", tx), ("lsn", lsn), ("xmin", tx), ("origin_lsn", "lsn"), ("gtid", "gtid"), ("thread", "thread")]
        {
            self.position(source, field, kind, "");
        }
        let file = source.get("file").and_then(Json::plain).unwrap_or_default().to_owned();
        self.position(source, "file", "file", "");
        self.position(source, "pos", "pos", &format!("{file}:"));
        // 0 says that it isn't known
        if source.get("server_id").and_then(Json::plain).is_some_and(|id| id != "0") {
            self.position(source, "server_id", "server", "");
        }
    }

    /// Strings and numbers stay what they are: a number's mask has no quotes inside of it.
    fn position(&mut self, it: &mut Json, field: &str, kind: &'static str, context: &str) {
        let Some(Json::Raw(text)) = it.get_mut(field) else { return };
        if text == "null" || text == "\"\"" {
            return;
        }
        let is_string = text.starts_with('"');
        let masked = self.number(kind, &format!("{context}{}", text.trim_matches('"')));
        *text = if is_string { format!("\"'{masked}'\"") } else { format!("\"{masked}\"") };
    }

    fn number(&mut self, kind: &'static str, value: &str) -> String {
        let next = self.seen.keys().filter(|(it, _)| *it == kind).count() + 1;
        let number = *self.seen.entry((kind, value.to_owned())).or_insert(next);
        format!("<{kind} {number}>")
    }
}

/// Of PostgreSQL's `769:24023119` the transaction: an end has another LSN than its begin.
fn transaction_of(id: &str) -> &str {
    match id.split_once(':') {
        Some((tx, lsn)) if tx.parse::<u64>().is_ok() && lsn.parse::<u64>().is_ok() => tx,
        _ => id,
    }
}

/// `ts_ms`, `ts_us`, `ts_ns`, if they are one time.
fn clocks(it: &mut Json, mask: &str) {
    let of = |name: &str| it.get(name).and_then(Json::number);
    let (ms, us, ns) = (of("ts_ms"), of("ts_us"), of("ts_ns"));
    let agree = match (ms, us, ns) {
        (Some(ms), Some(us), Some(ns)) => us.div_euclid(1000) == ms && ns.div_euclid(1000) == us,
        (Some(_), None, None) => true,
        _ => false,
    };
    // what is no time of these years is a mistake, and stays
    if agree && ms.is_some_and(|ms| (1_700_000_000_000..4_000_000_000_000).contains(&ms)) {
        for name in ["ts_ms", "ts_us", "ts_ns"] {
            replace(it, name, mask);
        }
    }
}

fn replace(it: &mut Json, name: &str, mask: &str) {
    if let Some(value) = it.get_mut(name) {
        *value = Json::Raw(format!("\"<{mask}>\""));
    }
}

fn value_of(record: &Record) -> Option<Json> {
    Json::parse(std::str::from_utf8(record.value.as_deref()?).ok()?)
}

/// Of the form with schemas the payload, else all of it.
fn payload(value: &Json) -> &Json {
    match (value.get("schema"), value.get("payload")) {
        (Some(_), Some(payload)) => payload,
        _ => value,
    }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

/// What differs between two sets of lines: a text for people; nothing if they are the same.
pub fn differences(expected: &[String], ours: &[String]) -> Vec<String> {
    let mut all = Vec::new();
    for (i, pair) in (1..).zip(expected.iter().zip(ours)) {
        let (expected, ours) = pair;
        if expected != ours {
            let common = expected.bytes().zip(ours.bytes()).take_while(|(a, b)| a == b).count();
            let from = (0..=common.saturating_sub(40))
                .rev()
                .find(|&at| expected.is_char_boundary(at) && ours.is_char_boundary(at))
                .unwrap_or(0);
            let cut = |text: &str| text[from..].chars().take(160).collect::<String>();
            all.push(format!("line {i}, byte {common}:\n  original: ..{}\n  ours:     ..{}", cut(expected), cut(ours)));
        }
    }
    if expected.len() != ours.len() {
        let (longer, what) = if expected.len() > ours.len() { (expected, "missing") } else { (ours, "too much") };
        let rest = longer.iter().skip(expected.len().min(ours.len())).take(5);
        let rest: Vec<String> = rest.map(|line| format!("  {}", line.chars().take(300).collect::<String>())).collect();
        all.push(format!("{} lines instead of {}; {what}:\n{}", ours.len(), expected.len(), rest.join("\n")));
    }
    all
}
