//! Messages into events: transactions, ordinals, table versions, and the batch that is being filled.
//!
//! ```text
//! payload ──► Done ─────────────────► (next frame)
//!        └──► NeedsCatalog(relation) ─► the stream asks the catalog ─► define(relation, facts) ─► (next frame)
//! ```
//!
//! Guarantees: events are in commit order; the ordinal counts every row and every transactional message of a
//! transaction, whether its table is captured or not; a span always lies in the batch's own bytes. State only
//! changes by whole messages, so the stream may stop and go on between any two of them.

use std::collections::HashMap;
use std::sync::Arc;

use rowcast_core::event::Message as LogMessage;
use rowcast_core::{
    Change, Event, Image, LogPosition, Lsn, Mark, Offset, Op, SourceError, Span, Table, TableFilter, Transaction,
};

use super::message::{self, Message, Old, Relation, Tuple};
use super::relation::{self, CatalogFacts};
use crate::types::row::{SHAPE_FULL, SHAPE_KEY};

/// What is to be done after a message.
#[derive(Debug)]
pub(crate) enum Step {
    /// Go on.
    Done,
    /// Ask the catalog about this relation, then [`Assembler::define`] it, before the next message.
    NeedsCatalog(Relation),
}

/// A relation of the stream.
#[derive(Debug)]
struct Known {
    /// None if the table isn't captured.
    table: Option<Arc<Table>>,
    /// The identity flags of its columns, which its decoder holds beside what the fingerprint covers.
    identity: Vec<bool>,
    /// The batch (by number) in which the table has an index, and the index.
    indexed: (u64, u32),
}

/// The events collected for the next batch.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub(crate) tables: Vec<Arc<Table>>,
    pub(crate) open: Option<Arc<Transaction>>,
    pub(crate) events: Vec<Event>,
}

/// The state of the stream between messages.
#[derive(Debug)]
pub(crate) struct Assembler {
    db: Arc<str>,
    filter: TableFilter,
    relations: HashMap<u32, Known>,
    type_names: HashMap<u32, String>,
    transaction: Option<Arc<Transaction>>,
    seq: u64,
    /// Everything before it was given out or is collected.
    position: u64,
    /// The last keep-alive outside of a transaction.
    idle_at: u64,
    batch: u64,
    collected: Collected,
}

/// A stream that breaks the protocol: going on could lose or repeat rows.
fn broken(what: impl Into<String>) -> SourceError {
    SourceError::definite(what)
        .repair("this is a defect of rowcast or of the server: please report it with both versions")
}

impl Assembler {
    pub(crate) fn new(db: &str, filter: TableFilter, start: u64) -> Self {
        Self {
            db: Arc::from(db),
            filter,
            relations: HashMap::new(),
            type_names: HashMap::new(),
            transaction: None,
            seq: 0,
            position: start,
            idle_at: 0,
            batch: 1,
            collected: Collected::default(),
        }
    }

    /// True if a batch would hold an event.
    pub(crate) fn has_something(&self) -> bool {
        !self.collected.events.is_empty() || self.heartbeat().is_some()
    }

    /// A keep-alive outside of a transaction: nothing for us lies before `wal_end`.
    ///
    /// The server's `sentPtr`, which this is, moves behind a commit only after all of the transaction was sent.
    pub(crate) fn keepalive(&mut self, wal_end: u64) {
        if self.transaction.is_none() {
            self.idle_at = self.idle_at.max(wal_end);
        }
    }

    /// After a start the server reads from `restart_lsn`, and its keep-alives name positions before our own.
    fn heartbeat(&self) -> Option<u64> {
        (self.transaction.is_none() && self.idle_at > self.position).then_some(self.idle_at)
    }

    /// Takes out what was collected; the caller adds the bytes.
    pub(crate) fn take(&mut self) -> Collected {
        if let Some(at) = self.heartbeat() {
            self.position = at;
            self.collected.events.push(Event::Heartbeat(LogPosition::Lsn(Lsn(at)), lsn_offset(at)));
        }
        self.batch += 1;
        let capacity = self.collected.events.len();
        let next = Collected {
            tables: Vec::new(),
            open: self.transaction.clone(),
            // batches of a busy stream are alike in size
            events: Vec::with_capacity(capacity.min(4096)),
        };
        std::mem::replace(&mut self.collected, next)
    }

    /// Takes in one message, which lies at `offset` of the batch's bytes.
    pub(crate) fn message(&mut self, payload: &[u8], offset: usize) -> Result<Step, SourceError> {
        let message = message::parse(payload).map_err(|error| broken(error.to_string()))?;
        match message {
            Message::Insert { relation, new } => self.row(relation, Op::Insert, None, Some(new), offset)?,
            Message::Update { relation, old, new } => self.row(relation, Op::Update, old, Some(new), offset)?,
            Message::Delete { relation, old } => self.row(relation, Op::Delete, Some(old), None, offset)?,
            Message::Begin { final_lsn, commit_us, xid } => self.begin(final_lsn, commit_us, Some(xid))?,
            Message::Commit { end_lsn } => self.commit(end_lsn)?,
            Message::Truncate { relations } => {
                for relation in relations {
                    self.row(relation, Op::Truncate, None, None, offset)?;
                }
            }
            Message::Relation(relation) => return Ok(self.relation(relation)),
            Message::Type { oid, schema, name } => {
                let full = if schema.is_empty() { name.to_owned() } else { format!("{schema}.{name}") };
                self.type_names.insert(oid, full);
            }
            Message::Logical { transactional, lsn, prefix, content } => {
                self.logical(transactional, lsn, prefix, content, offset)?;
            }
            Message::Origin => {}
        }
        Ok(Step::Done)
    }

    fn begin(&mut self, at: u64, commit_us: i64, xid: Option<u32>) -> Result<(), SourceError> {
        if self.transaction.is_some() {
            return Err(broken("a transaction begins before the last one ended"));
        }
        let at = Lsn(at);
        let id = xid.map_or_else(String::new, |xid| xid.to_string());
        let transaction = Arc::new(Transaction { id, xid, pos: at.to_string(), mark: Mark::Lsn(at), commit_us });
        self.collected.events.push(Event::Begin(Arc::clone(&transaction)));
        self.transaction = Some(transaction);
        self.seq = 0;
        Ok(())
    }

    fn commit(&mut self, end: u64) -> Result<(), SourceError> {
        if self.transaction.take().is_none() {
            return Err(broken("a commit without a transaction"));
        }
        self.position = self.position.max(end);
        self.collected.events.push(Event::Commit(Mark::Lsn(Lsn(end)), lsn_offset(end)));
        Ok(())
    }

    fn row(&mut self, id: u32, op: Op, old: Option<Old>, new: Option<Tuple>, offset: usize) -> Result<(), SourceError> {
        if self.transaction.is_none() {
            return Err(broken("a row outside of a transaction"));
        }
        self.seq += 1;
        let known = self.relations.get_mut(&id).ok_or_else(|| broken(format!("a row of the unknown relation {id}")))?;
        let Some(table) = &known.table else { return Ok(()) };
        if known.indexed.0 != self.batch {
            let index = u32::try_from(self.collected.tables.len()).map_err(|_| broken("too many tables in a batch"))?;
            self.collected.tables.push(Arc::clone(table));
            known.indexed = (self.batch, index);
        }
        let before = match old {
            Some(Old { tuple, key_only }) => {
                Some(Image { span: span(tuple, offset)?, shape: if key_only { SHAPE_KEY } else { SHAPE_FULL } })
            }
            None => None,
        };
        let after = match new {
            Some(tuple) => Some(Image { span: span(tuple, offset)?, shape: SHAPE_FULL }),
            None => None,
        };
        let change = Change { op, table: known.indexed.1, seq: self.seq, before, after };
        self.collected.events.push(Event::Change(change));
        Ok(())
    }

    /// A message that isn't transactional is decoded at once, between transactions, and holds by itself: it is given
    /// out as a transaction of its own, with an empty id.
    ///
    /// Its LSN is the end of its record (`logicalmsg_decode` passes `buf->endptr`), which is where the next record may
    /// begin: exactly this position, and not one more, skips the message and nothing else when the stream resumes.
    /// That next record may be a commit, whose position would then be the same; one byte less, inside the message's
    /// own record, is a position that no commit has, so that event ids stay unique.
    fn logical(
        &mut self,
        transactional: bool,
        lsn: u64,
        prefix: Tuple,
        content: Tuple,
        offset: usize,
    ) -> Result<(), SourceError> {
        let (prefix, content) = (span(prefix, offset)?, span(content, offset)?);
        if transactional != self.transaction.is_some() {
            return Err(broken("a logical message at the wrong side of a transaction"));
        }
        if transactional {
            self.seq += 1;
            self.collected.events.push(Event::Message(LogMessage { seq: self.seq, prefix, content }));
            return Ok(());
        }
        // the server says no time for it
        self.begin(lsn.saturating_sub(1), 0, None)?;
        self.collected.events.push(Event::Message(LogMessage { seq: 1, prefix, content }));
        self.commit(lsn)
    }

    fn relation(&mut self, relation: Relation) -> Step {
        if !self.filter.matches_parts(&relation.schema, &relation.table) {
            self.relations.insert(relation.id, Known { table: None, identity: Vec::new(), indexed: (0, 0) });
            return Step::Done;
        }
        if relation::needs_catalog(&relation) {
            return Step::NeedsCatalog(relation);
        }
        self.define(&relation, &CatalogFacts::default());
        Step::Done
    }

    /// Makes this the table's current version. The server sends a relation again whenever its cache was
    /// invalidated, mostly without a change: then the version stays the same.
    pub(crate) fn define(&mut self, relation: &Relation, facts: &CatalogFacts) {
        let table = relation::table(&self.db, relation, facts, &self.type_names);
        let flags: Vec<bool> = relation.columns.iter().map(|column| column.identity).collect();
        if let Some(Known { table: Some(old), identity, .. }) = self.relations.get(&relation.id)
            && old.fingerprint == table.fingerprint
            && *identity == flags
        {
            return;
        }
        tracing::debug!(table = %table.name, columns = table.columns.len(), "table version");
        self.relations.insert(relation.id, Known { table: Some(table), identity: flags, indexed: (0, 0) });
    }
}

/// A point of the log for comparisons.
fn lsn_offset(lsn: u64) -> Offset {
    Offset { file: 0, byte: lsn }
}

/// Where a part of the payload lies in the batch.
fn span(tuple: Tuple, offset: usize) -> Result<Span, SourceError> {
    offset
        .checked_add(tuple.start)
        .and_then(|start| Span::new(start, tuple.length))
        .ok_or_else(|| broken("a batch of more than 4 GiB"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn assembler() -> Assembler {
        Assembler::new("db", TableFilter::parse(&["public.a"]).unwrap(), 50)
    }

    fn relation(id: u32, table: &str) -> Vec<u8> {
        let mut bytes = [&b"R"[..], &id.to_be_bytes(), b"public\0", table.as_bytes(), b"\0d\0\x01\x01id\0"].concat();
        bytes.extend_from_slice(&23_u32.to_be_bytes());
        bytes.extend_from_slice(&(-1_i32).to_be_bytes());
        bytes
    }

    fn begin(at: u64) -> Vec<u8> {
        [&b"B"[..], &at.to_be_bytes(), &[0; 8], &7_u32.to_be_bytes()].concat()
    }

    fn commit(at: u64) -> Vec<u8> {
        [&b"C\0"[..], &at.to_be_bytes(), &(at + 8).to_be_bytes(), &[0; 8]].concat()
    }

    fn insert(id: u32) -> Vec<u8> {
        [&b"I"[..], &id.to_be_bytes(), b"N\0\x01t\0\0\0\x011"].concat()
    }

    fn feed(assembler: &mut Assembler, messages: &[Vec<u8>]) {
        for message in messages {
            assert!(matches!(assembler.message(message, 0).unwrap(), Step::Done));
        }
    }

    fn message(transactional: bool, lsn: u64) -> Vec<u8> {
        [&[b'M', u8::from(transactional)][..], &lsn.to_be_bytes(), b"p\0", &1_u32.to_be_bytes(), b"x"].concat()
    }

    #[test]
    fn ordinals_count_rows_of_tables_that_are_not_captured() {
        let mut it = assembler();
        feed(&mut it, &[begin(100), relation(1, "a"), relation(2, "b"), insert(2), message(true, 90), insert(1)]);
        feed(&mut it, &[commit(100)]);
        let collected = it.take();
        let Some(Event::Change(change)) = collected.events.get(2) else { panic!("{:?}", collected.events) };
        assert_eq!((change.seq, change.table), (3, 0));
        assert_eq!(collected.tables.len(), 1);
        assert!(matches!(collected.events.last(), Some(Event::Commit(Mark::Lsn(Lsn(108)), _))));
    }

    #[test]
    fn a_batch_says_which_transaction_was_open_and_indexes_its_own_tables() {
        let mut it = assembler();
        feed(&mut it, &[begin(100), relation(1, "a"), insert(1)]);
        assert!(it.take().open.is_none());
        feed(&mut it, &[insert(1)]);
        let second = it.take();
        assert_eq!(second.open.unwrap().pos, "0/64");
        assert_eq!(second.tables.len(), 1);
        assert!(matches!(second.events.first(), Some(Event::Change(change)) if change.seq == 2));
    }

    #[test]
    fn keepalives_become_one_heartbeat_that_never_goes_back() {
        let mut it = assembler();
        it.keepalive(40);
        assert!(!it.has_something());
        it.keepalive(60);
        it.keepalive(70);
        assert!(matches!(it.take().events.as_slice(), [Event::Heartbeat(LogPosition::Lsn(Lsn(70)), _)]));
        it.keepalive(70);
        assert!(!it.has_something());
        feed(&mut it, &[begin(100)]);
        it.keepalive(200);
        feed(&mut it, &[commit(100)]);
        assert!(it.take().events.iter().all(|event| !matches!(event, Event::Heartbeat(..))));
    }

    #[test]
    fn a_message_outside_of_transactions_is_one_of_its_own() {
        let mut it = assembler();
        feed(&mut it, &[message(false, 80), begin(100), commit(100)]);
        let events = it.take().events;
        assert!(matches!(events.first(), Some(Event::Begin(own)) if own.id.is_empty() && own.pos == "0/4F"));
        assert!(matches!(events.get(2), Some(Event::Commit(Mark::Lsn(Lsn(80)), _))));
    }

    #[test]
    fn a_relation_that_is_sent_again_unchanged_keeps_its_version() {
        let mut it = assembler();
        feed(&mut it, &[begin(100), relation(1, "a"), insert(1), relation(1, "a"), insert(1)]);
        assert_eq!(it.take().tables.len(), 1);
    }

    #[test]
    fn rows_without_relation_or_transaction_are_errors() {
        assert!(assembler().message(&insert(1), 0).is_err());
        let mut it = assembler();
        feed(&mut it, &[begin(100)]);
        assert!(it.message(&insert(1), 0).is_err());
        assert!(it.message(&begin(200), 0).is_err());
        assert!(assembler().message(&commit(1), 0).is_err());
        assert!(assembler().message(&message(true, 1), 0).is_err());
    }
}
