//! Numbers of events in their transactions, and the records that say that a transaction begins and ends (`provide_transaction_metadata`).
//!
//! Counting goes through the batches in order, so that these are encoded one after the other. A transaction that goes on after a restart is
//! counted from its first row, which the server sends again: events keep their numbers. Transactions without an event have no records.
//! Messages of applications count as events of their own collection.

use rowcast_core::TableName;

use super::schema::{Kind, Schema, fields, int64, text};
use super::{Codec, TransactionText, close, envelope, names, string};
use crate::config::DebeziumConfig;
use crate::format::json::{int, uint};

/// The collection that messages are of.
const MESSAGES: &str = "LOGICAL_DECODING_MESSAGE";

/// What is counted of the transaction in progress.
#[derive(Debug, Default)]
pub struct Counts {
    /// Its position; empty before the first one.
    pos: String,
    begun: bool,
    total: u64,
    /// By table, in the order of their first events.
    tables: Vec<(String, u64)>,
    /// The last one that was counted: runs of the same table are the rule.
    last: usize,
}

impl Counts {
    /// A transaction begins, or goes on in another batch.
    pub fn begin(&mut self, pos: &str) {
        if self.pos != pos {
            pos.clone_into(&mut self.pos);
            (self.begun, self.total) = (false, 0);
            self.tables.clear();
        }
    }

    /// True once per transaction, for its first event.
    pub fn begins(&mut self) -> bool {
        !std::mem::replace(&mut self.begun, true)
    }

    /// Whether it had an event; it has ended then.
    pub fn ends(&mut self) -> bool {
        self.pos.clear();
        std::mem::replace(&mut self.begun, false)
    }

    /// The numbers of the next event of a table.
    pub fn next(&mut self, table: &TableName) -> [u64; 2] {
        let is = |name: &str| {
            name.strip_prefix(table.qualifier()).and_then(|rest| rest.strip_prefix('.')) == Some(&*table.table)
        };
        let again = self.tables.get(self.last).filter(|(name, _)| is(name)).map(|_| self.last);
        let known = again.or_else(|| self.tables.iter().position(|(name, _)| is(name)));
        self.count(known, || table.to_string())
    }

    /// The numbers of the next message.
    pub fn next_message(&mut self) -> [u64; 2] {
        let known = self.tables.iter().position(|(name, _)| name == MESSAGES);
        self.count(known, || MESSAGES.to_owned())
    }

    fn count(&mut self, known: Option<usize>, name: impl FnOnce() -> String) -> [u64; 2] {
        self.total += 1;
        self.last = known.unwrap_or(self.tables.len());
        if let Some((_, count)) = self.tables.get_mut(self.last) {
            *count += 1;
            return [self.total, *count];
        }
        self.tables.push((name(), 1));
        [self.total, 1]
    }
}

/// The prepared schemas of both records.
#[derive(Debug)]
pub(super) struct Heads {
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Heads {
    pub(super) fn new(config: &DebeziumConfig) -> Self {
        let name = |part: &str| names::adjusted(&format!("io.debezium.connector.common.{part}"), config.schema_names);
        let key = Schema::named(fields([("id", text(false))]), &name("TransactionMetadataKey"));
        let count = fields([("data_collection", text(false)), ("event_count", int64(false))]);
        let counts = Schema::of(Kind::Array(Box::new(Schema::named(count, "event.collection").optional())));
        let value = fields([
            ("status", text(false)),
            ("id", text(false)),
            ("event_count", int64(true)),
            ("data_collections", counts.optional()),
            ("ts_ms", int64(false)),
        ]);
        let value = Schema::named(value, &name("TransactionMetadataValue"));
        Self {
            key: if config.key_schemas { envelope(&key) } else { Vec::new() },
            value: if config.value_schemas { envelope(&value) } else { Vec::new() },
        }
    }
}

impl Codec {
    /// The topic of these records.
    pub fn transaction_topic(&self) -> String {
        [&*self.config.topic_prefix, &*self.config.transaction_topic].join(&self.config.delimiter)
    }

    /// Writes the key and the value of a begin at the place of its first event; gives back where the value begins.
    pub fn transaction_begin(&self, out: &mut Vec<u8>, transaction: &TransactionText, at: u64) -> usize {
        self.status(out, transaction, at, None)
    }

    /// The same of an end.
    pub fn transaction_end(&self, out: &mut Vec<u8>, transaction: &TransactionText, at: u64, counts: &Counts) -> usize {
        self.status(out, transaction, at, Some(counts))
    }

    fn status(&self, out: &mut Vec<u8>, transaction: &TransactionText, at: u64, ended: Option<&Counts>) -> usize {
        out.extend_from_slice(&self.transactions.key);
        out.extend_from_slice(b"{\"id\":");
        transaction.id(out, at);
        close(out, self.config.key_schemas);
        let value = out.len();
        out.extend_from_slice(&self.transactions.value);
        out.extend_from_slice(if ended.is_some() {
            b"{\"status\":\"END\",\"id\":"
        } else {
            b"{\"status\":\"BEGIN\",\"id\":"
        });
        transaction.id(out, at);
        match ended {
            None => out.extend_from_slice(b",\"event_count\":null,\"data_collections\":null"),
            Some(counts) => {
                out.extend_from_slice(b",\"event_count\":");
                uint(out, counts.total);
                let mut separator: &[u8] = b",\"data_collections\":[";
                for (table, count) in &counts.tables {
                    out.extend_from_slice(separator);
                    out.extend_from_slice(b"{\"data_collection\":");
                    string(out, table);
                    out.extend_from_slice(b",\"event_count\":");
                    uint(out, *count);
                    out.push(b'}');
                    separator = b",";
                }
                out.push(b']');
            }
        }
        out.extend_from_slice(b",\"ts_ms\":");
        int(out, transaction.commit_ms());
        close(out, self.config.value_schemas);
        value
    }
}
