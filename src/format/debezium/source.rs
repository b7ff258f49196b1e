//! The `source` block and what stands around it: prepared per transaction, completed per row with its place in the log.
//!
//! ```text
//! PostgreSQL  head │ts_ms..sequence│ lsn │..ts_ns,schema│ table │txId│ lsn │xmin..origin_lsn
//! MySQL       head │ms│ db of the table │us│ns│ table │server_id..file,pos│ at │row│ n │thread,query
//! ```
//!
//! `version` is that of the form: the Debezium whose events these are equal to. The three times behind `op` are the clock when the batch
//! was encoded, as the original's are those of its processing: they are the one thing in an event that differs when it is sent again.

use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

use rowcast_core::{Lsn, Mark, Op, Place, TableName, Transaction};

use super::schema::{Kind, Schema, fields, int64, text};
use super::{Codec, Server, string};
use crate::format::ReadAt;
use crate::format::json::{int, jackson_part, uint};

/// The version of Debezium whose form this is.
pub const VERSION: &str = "3.6.0.Final";

/// The prepared parts of the events of one transaction, or of one read.
#[derive(Debug)]
pub struct TransactionText {
    server: Server,
    /// `{"version":...,"name":"p","ts_ms":`, the same for all.
    head: Vec<u8>,
    /// What stands before and behind the parts of the row and of its table.
    parts: [Vec<u8>; 4],
    /// Commit time in microseconds, where it is the events'; else each event has its own, in seconds.
    commit_us: Option<i64>,
    /// A text with its quotes, or `null`.
    query: Vec<u8>,
    /// The place of rows that were read.
    read: Option<Place>,
    /// The transaction's id: PostgreSQL's is followed by the place of a row.
    id: Vec<u8>,
    /// It is no transaction, but a message outside of one.
    alone: bool,
    /// Commit time in milliseconds, if it is known.
    commit_ms: i64,
    /// `,"ts_ms":...,"ts_us":...,"ts_ns":...}`
    now: Vec<u8>,
    now_us: i64,
}

/// The parts of the block that are the table's.
#[derive(Debug, Default)]
pub(super) struct TableSource {
    db: Vec<u8>,
    table: Vec<u8>,
}

impl TableSource {
    pub(super) fn new(server: Server, name: &TableName) -> Self {
        let mut it = Self::default();
        match server {
            Server::Postgres => {
                string(&mut it.table, name.schema.as_deref().unwrap_or_default());
                it.table.extend_from_slice(b",\"table\":");
                string(&mut it.table, &name.table);
                it.table.extend_from_slice(b",\"txId\":");
            }
            Server::MySql | Server::MariaDb => {
                string(&mut it.db, &name.db);
                it.db.extend_from_slice(b",\"sequence\":null,\"ts_us\":");
                it.table.extend_from_slice(b",\"table\":");
                string(&mut it.table, &name.table);
                it.table.extend_from_slice(b",\"server_id\":");
            }
        }
        it
    }
}

impl TransactionText {
    /// Empty buffers, and the clock.
    pub fn new(codec: &Codec) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let micros = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
        let mut now = Vec::new();
        push_times(&mut now, micros);
        now.push(b'}');
        let mut head = b"{\"version\":".to_vec();
        string(&mut head, VERSION);
        head.extend_from_slice(b",\"connector\":");
        string(&mut head, codec.server.connector());
        head.extend_from_slice(b",\"name\":");
        string(&mut head, &codec.config.topic_prefix);
        head.extend_from_slice(b",\"ts_ms\":");
        Self {
            server: codec.server,
            head,
            parts: Default::default(),
            commit_us: None,
            query: b"null".to_vec(),
            read: None,
            id: Vec::new(),
            alone: false,
            commit_ms: 0,
            now,
            now_us: micros,
        }
    }

    /// Prepares for the events of a transaction.
    pub fn begin(&mut self, codec: &Codec, transaction: &Transaction) {
        self.statement(None);
        self.read = None;
        let facts = &transaction.facts;
        self.id.clear();
        self.alone = self.server == Server::Postgres && transaction.xid.is_none();
        self.commit_ms = transaction.commit_us.div_euclid(1_000);
        match self.server {
            Server::Postgres => {
                let origin = (facts.origin.as_deref(), facts.origin_lsn);
                let xid = transaction.xid.map(i64::from);
                // a message outside of a transaction is its own commit, whose mark is the byte before it, and has no time
                let (before, micros) = match (&transaction.mark, xid) {
                    (Mark::Lsn(mark), None) => {
                        (Some(Lsn(mark.0 + 1)), self.now_us.div_euclid(1_000).saturating_mul(1_000))
                    }
                    _ => (facts.before, transaction.commit_us),
                };
                int(&mut self.id, xid.unwrap_or_default());
                self.id.push(b':');
                self.postgres(codec, (streamed(codec), micros), before, xid, origin);
            }
            Server::MySql | Server::MariaDb => {
                let gtid = match &transaction.mark {
                    Mark::Gtid(_) | Mark::MariaDb(_) => Some(transaction.id.as_str()),
                    Mark::Binlog(mark) if mark.gtid.is_some() => Some(transaction.id.as_str()),
                    Mark::Binlog(_) | Mark::Lsn(_) => None,
                };
                // MySQL's GTID events say when it was committed, to the microsecond
                let with_time = self.server == Server::MySql && gtid.is_some();
                self.commit_us = with_time.then_some(transaction.commit_us);
                let file = facts.file.as_deref().unwrap_or_default();
                match gtid {
                    Some(gtid) => self.id.extend_from_slice(gtid.as_bytes()),
                    None => {
                        for part in ["file=", file, ",pos="] {
                            self.id.extend_from_slice(part.as_bytes());
                        }
                        uint(&mut self.id, facts.begins);
                    }
                }
                self.mysql(streamed(codec), facts.server_id, gtid, file, facts.thread);
            }
        }
    }

    /// Prepares for rows that are read.
    pub fn read(&mut self, codec: &Codec, at: ReadAt<'_>) {
        self.statement(None);
        match self.server {
            Server::Postgres => {
                let lsn: Lsn = at.pos.parse().unwrap_or_default();
                self.read = Some(Place { at: lsn.0, ..Place::default() });
                self.postgres(codec, ("\"true\"", at.now_us), None, at.xid, (None, None));
            }
            Server::MySql | Server::MariaDb => {
                let (file, byte) = at.log;
                self.read = Some(Place { at: byte, ..Place::default() });
                // a read has no finer time in the original either
                self.commit_us = Some(at.now_us.div_euclid(1_000) * 1_000);
                self.mysql("\"true\"", 0, None, file, None);
            }
        }
    }

    /// The statement that the following events are of.
    pub fn statement(&mut self, query: Option<&[u8]>) {
        self.query.clear();
        match query {
            Some(query) => string(&mut self.query, &String::from_utf8_lossy(query)),
            None => self.query.extend_from_slice(b"null"),
        }
    }

    fn postgres(
        &mut self,
        codec: &Codec,
        (snapshot, micros): (&str, i64),
        before: Option<Lsn>,
        xid: Option<i64>,
        (origin, origin_lsn): (Option<&str>, Option<Lsn>),
    ) {
        let [first, second, third, fourth] = &mut self.parts;
        [&mut *first, &mut *second, &mut *third, &mut *fourth].into_iter().for_each(Vec::clear);
        int(first, micros.div_euclid(1_000));
        first.extend_from_slice(b",\"snapshot\":");
        first.extend_from_slice(snapshot.as_bytes());
        first.extend_from_slice(b",\"db\":");
        string(first, &codec.db);
        first.extend_from_slice(b",\"sequence\":\"[");
        match before {
            Some(lsn) => {
                first.extend_from_slice(b"\\\"");
                uint(first, lsn.0);
                first.extend_from_slice(b"\\\"");
            }
            None => first.extend_from_slice(b"null"),
        }
        first.extend_from_slice(b",\\\"");
        second.extend_from_slice(b"\\\"]\",\"ts_us\":");
        int(second, micros);
        second.extend_from_slice(b",\"ts_ns\":");
        int(second, micros.saturating_mul(1_000));
        second.extend_from_slice(b",\"schema\":");
        match xid {
            Some(xid) => int(third, xid),
            None => third.extend_from_slice(b"null"),
        }
        third.extend_from_slice(b",\"lsn\":");
        fourth.extend_from_slice(b",\"xmin\":null,\"origin\":");
        match origin {
            Some(origin) => string(fourth, origin),
            None => fourth.extend_from_slice(b"null"),
        }
        fourth.extend_from_slice(b",\"origin_lsn\":");
        match origin_lsn {
            Some(lsn) => uint(fourth, lsn.0),
            None => fourth.extend_from_slice(b"null"),
        }
        fourth.push(b'}');
    }

    fn mysql(&mut self, snapshot: &str, server_id: u32, gtid: Option<&str>, file: &str, thread: Option<u32>) {
        let [first, second, third, _] = &mut self.parts;
        [&mut *first, &mut *second, &mut *third].into_iter().for_each(Vec::clear);
        first.extend_from_slice(b",\"snapshot\":");
        first.extend_from_slice(snapshot.as_bytes());
        first.extend_from_slice(b",\"db\":");
        uint(second, u64::from(server_id));
        second.extend_from_slice(b",\"gtid\":");
        match gtid {
            Some(gtid) => string(second, gtid),
            None => second.extend_from_slice(b"null"),
        }
        second.extend_from_slice(b",\"file\":");
        string(second, file);
        second.extend_from_slice(b",\"pos\":");
        third.extend_from_slice(b",\"thread\":");
        match thread {
            Some(thread) => uint(third, u64::from(thread)),
            None => third.extend_from_slice(b"null"),
        }
        third.extend_from_slice(b",\"query\":");
    }

    /// Writes the block of a row. `to_millis` cuts MySQL's and MariaDB's time, as the original does where a statement is the event.
    pub(super) fn source(&self, out: &mut Vec<u8>, table: &TableSource, place: Place, to_millis: bool) {
        let place = self.read.unwrap_or(place);
        let [first, second, third, fourth] = &self.parts;
        out.extend_from_slice(&self.head);
        if self.server == Server::Postgres {
            out.extend_from_slice(first);
            uint(out, place.at);
            out.extend_from_slice(second);
            out.extend_from_slice(&table.table);
            out.extend_from_slice(third);
            uint(out, place.at);
            out.extend_from_slice(fourth);
            return;
        }
        self.to_row(out, table, place, to_millis);
        uint(out, u64::from(place.row));
        out.extend_from_slice(third);
        out.extend_from_slice(&self.query);
        out.push(b'}');
    }

    /// Writes the block of a statement that changes tables (MySQL, MariaDB); `of` are the names of a database and a table.
    pub(super) fn source_of_statement(&self, out: &mut Vec<u8>, of: (&str, &str), place: Place, to_millis: bool) {
        let name = TableName { db: of.0.into(), schema: None, table: of.1.into() };
        let table = TableSource::new(self.server, &name);
        out.extend_from_slice(&self.head);
        self.to_row(out, &table, place, to_millis);
        out.extend_from_slice(b"0,\"thread\":null,\"query\":null}");
    }

    /// What stands between a block's head and the number of a row in MySQL's and MariaDB's.
    fn to_row(&self, out: &mut Vec<u8>, table: &TableSource, place: Place, to_millis: bool) {
        let [first, second, ..] = &self.parts;
        let micros = self.micros(place);
        let micros = if to_millis { micros - micros.rem_euclid(1_000) } else { micros };
        int(out, micros.div_euclid(1_000));
        out.extend_from_slice(first);
        out.extend_from_slice(&table.db);
        int(out, micros);
        out.extend_from_slice(b",\"ts_ns\":");
        int(out, micros.saturating_mul(1_000));
        out.extend_from_slice(&table.table);
        out.extend_from_slice(second);
        uint(out, place.at);
        out.extend_from_slice(b",\"row\":");
    }

    /// The time of an event at a place of MySQL's or MariaDB's log.
    fn micros(&self, place: Place) -> i64 {
        self.commit_us.unwrap_or(i64::from(place.seconds) * 1_000_000)
    }

    /// Whether it is about rows that were read.
    pub(super) fn is_read(&self) -> bool {
        self.read.is_some()
    }

    /// Writes the transaction's id with its quotes; of PostgreSQL with a place in it.
    pub(super) fn id(&self, out: &mut Vec<u8>, at: u64) {
        out.push(b'"');
        jackson_part(out, &String::from_utf8_lossy(&self.id));
        if self.server == Server::Postgres {
            uint(out, at);
        }
        out.push(b'"');
    }

    /// Whether this is a message outside of a transaction, which isn't counted in one.
    pub fn is_alone(&self) -> bool {
        self.alone
    }

    /// When it was committed, in milliseconds.
    pub(super) fn commit_ms(&self) -> i64 {
        self.commit_ms
    }

    /// Writes `,"transaction":` and its value.
    pub(super) fn transaction(&self, out: &mut Vec<u8>, at: u64, order: Option<[u64; 2]>) {
        let Some([total, of_table]) = order else {
            out.extend_from_slice(b",\"transaction\":null");
            return;
        };
        out.extend_from_slice(b",\"transaction\":{\"id\":");
        self.id(out, at);
        out.extend_from_slice(b",\"total_order\":");
        uint(out, total);
        out.extend_from_slice(b",\"data_collection_order\":");
        uint(out, of_table);
        out.push(b'}');
    }

    /// Writes what stands behind that, to the end of an event.
    pub(super) fn end(&self, out: &mut Vec<u8>, op: Op) {
        out.extend_from_slice(b",\"op\":\"");
        out.extend_from_slice(letter(op));
        out.push(b'"');
        out.extend_from_slice(&self.now);
    }

    /// The clock in milliseconds.
    pub(super) fn now_ms(&self) -> i64 {
        self.now_us.div_euclid(1_000)
    }

    /// The same in microseconds.
    pub(super) fn now_us(&self) -> i64 {
        self.now_us
    }
}

/// What streamed events say of snapshots: the original leaves it at its default, which a converter may be told not to write.
fn streamed(codec: &Codec) -> &'static str {
    let config = &codec.config;
    if config.exact || config.replaces_nulls() { "\"false\"" } else { "null" }
}

/// What an event says that it is.
pub(super) fn letter(op: Op) -> &'static [u8] {
    match op {
        Op::Insert => b"c",
        Op::Update => b"u",
        Op::Delete => b"d",
        Op::Read => b"r",
        Op::Truncate => b"t",
    }
}

fn push_times(out: &mut Vec<u8>, micros: i64) {
    out.extend_from_slice(b",\"ts_ms\":");
    int(out, micros.div_euclid(1_000));
    out.extend_from_slice(b",\"ts_us\":");
    int(out, micros);
    out.extend_from_slice(b",\"ts_ns\":");
    int(out, micros.saturating_mul(1_000));
}

/// The block's schema.
pub(super) fn schema(server: Server) -> Schema {
    const SNAPSHOTS: &str = "true,first,first_in_data_collection,last_in_data_collection,last,false,incremental";
    let snapshot = Schema {
        default: Some(b"\"false\"".to_vec()),
        ..Schema::named(Kind::String, "io.debezium.data.Enum").optional().with("allowed", SNAPSHOTS)
    };
    let mut all = vec![
        ("version", text(false)),
        ("connector", text(false)),
        ("name", text(false)),
        ("ts_ms", int64(false)),
        ("snapshot", snapshot),
        ("db", text(false)),
        ("sequence", text(true)),
        ("ts_us", int64(true)),
        ("ts_ns", int64(true)),
    ];
    match server {
        Server::Postgres => all.extend([
            ("schema", text(false)),
            ("table", text(false)),
            ("txId", int64(true)),
            ("lsn", int64(true)),
            ("xmin", int64(true)),
            ("origin", text(true)),
            ("origin_lsn", int64(true)),
        ]),
        Server::MySql | Server::MariaDb => all.extend([
            ("table", text(true)),
            ("server_id", int64(false)),
            ("gtid", text(true)),
            ("file", text(false)),
            ("pos", int64(false)),
            ("row", Schema::of(Kind::Int32)),
            ("thread", int64(true)),
            ("query", text(true)),
        ]),
    }
    Schema::named(fields(all), &format!("io.debezium.connector.{}.Source", server.connector()))
}

/// The schema of `transaction`.
pub(super) fn transaction_schema() -> Schema {
    let kind = fields([("id", text(false)), ("total_order", int64(false)), ("data_collection_order", int64(false))]);
    Schema::named(kind, "event.block").optional()
}

/// The text between an event's `"source":` and `,"transaction":`, and its `op`; none if it is no event of this format. Texts of rows hold
/// no unescaped quote, so that the last of these words is the envelope's.
pub fn parts_of(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let op = last_of(value, b",\"op\":\"")? + 7;
    Some((value.get(source_of(value)?)?, value.get(op..=op)?))
}

/// Where an event has its source.
pub(super) fn source_of(value: &[u8]) -> Option<Range<usize>> {
    let end = last_of(value, b",\"transaction\":")?;
    let from = last_of(value.get(..end)?, b",\"source\":")? + 10;
    Some(from..end)
}

fn last_of(text: &[u8], word: &[u8]) -> Option<usize> {
    text.windows(word.len()).rposition(|window| window == word)
}

/// Appends a text to a line for people: `RowEvent`s have no id in this format, so that its place is told.
pub fn place_of(value: &[u8]) -> String {
    let Some((source, op)) = parts_of(value) else { return String::new() };
    let mut shown = Vec::new();
    jackson_part(&mut shown, &String::from_utf8_lossy(op));
    format!("`{}` at {}", String::from_utf8_lossy(&shown), String::from_utf8_lossy(source))
}
