//! Messages into events: transactions, ordinals, table versions, and the batch that is being filled.
//!
//! ```text
//! payload ──► Done ─────────────────► (next frame)
//!        ├──► NeedsCatalog(relation) ─► the stream asks the catalog ─► define(relation, facts) ─► (next frame)
//!        └──► Replay ─► replay_begins, replayed for each message of the file, replay_ends ─► (next frame)
//! ```
//!
//! Guarantees: events are in commit order; the ordinal counts every row and every transactional message of a
//! transaction, whether its table is captured or not; a span always lies in the batch's own bytes. State only
//! changes by whole messages, so the stream may stop and go on between any two of them.

mod logical;

use std::collections::HashMap;
use std::sync::Arc;

use rowcast_core::{
    Change, Event, Image, LogPosition, Lsn, Mark, Offset, Op, Place, SourceError, Span, Table, TableFilter,
    Transaction, TransactionFacts,
};

pub use self::logical::MessageFilter;
use super::form::ValueForm;
use super::in_progress::{InProgress, Origin, Room};
use super::message::{self, Committed, Message, OfStream, Old, Relation, Tuple};
use super::relation::{self, CatalogFacts};
use super::replay::Replay;
use crate::replication::feedback::Shared;
use crate::types::row::{SHAPE_FULL, SHAPE_KEY, SHAPE_PARTIAL};

/// What is to be done after a message.
#[derive(Debug)]
pub(crate) enum Step {
    /// Go on.
    Done,
    /// Ask the catalog about this relation, then [`Assembler::define`] it, before the next message.
    NeedsCatalog(Relation),
    /// This transaction was committed: replay it before the next message.
    Replay(Committed, Box<Replay>),
}

/// What the assembler is told at the start.
#[derive(Debug)]
pub(crate) struct Setup<'a> {
    pub(crate) db: &'a str,
    pub(crate) filter: TableFilter,
    pub(crate) form: ValueForm,
    pub(crate) messages: MessageFilter,
    pub(crate) room: Room,
    /// Everything before it is published.
    pub(crate) start: u64,
    /// Where the server begins to send, if that is before `start`: what lies between is passed over.
    pub(crate) sends_from: Option<u64>,
    /// What may be confirmed is bounded here.
    pub(crate) shared: Arc<Shared>,
    /// Where the last commit before `start` ended, if there was one.
    pub(crate) before: Option<Lsn>,
    /// Transactions say where they were replicated from.
    pub(crate) describe: bool,
    /// Of this transaction, what stands up to this LSN is left out: somebody else has published it.
    pub(crate) left_out: Option<(u32, u64)>,
}

/// No transaction's id: holds what comes before the stream's start.
const CATCHING_UP: u32 = 0;

/// A relation of the stream.
#[derive(Debug)]
struct Known {
    /// None if the table isn't captured.
    table: Option<Arc<Table>>,
    /// The identity flags of its columns, which its decoder holds beside what the fingerprint covers.
    identity: Vec<bool>,
    /// [`CatalogFacts::narrower`].
    narrower: bool,
    /// The batch (by number) in which the table has an index, and the index.
    indexed: (u64, u32),
    /// When the server sent it: a replay brings relations that may be older than what is known.
    arrival: u64,
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
    form: ValueForm,
    messages: MessageFilter,
    relations: HashMap<u32, Known>,
    /// The relations of the transaction that is being replayed, which holds for it alone.
    replaying: Option<HashMap<u32, Known>>,
    in_progress: InProgress,
    /// Relations that arrived.
    arrivals: u64,
    /// Of the relation that waits for the catalog.
    arrival: u64,
    type_names: HashMap<u32, String>,
    transaction: Option<Arc<Transaction>>,
    seq: u64,
    /// Where the last commit ended.
    before: Option<Lsn>,
    describe: bool,
    left_out: Option<(u32, u64)>,
    /// Everything before it was given out or is collected.
    position: u64,
    /// Transactions that were committed before it are passed over.
    start: u64,
    /// It sends from before `start`, which isn't reached yet.
    catches_up: bool,
    shared: Arc<Shared>,
    /// The transaction in progress was published before.
    passing: bool,
    /// The last keep-alive outside of a transaction.
    idle_at: u64,
    batch: u64,
    collected: Collected,
}

/// Whether somebody else has published what stands there in the transaction in progress.
fn is_left_out(left_out: Option<(u32, u64)>, transaction: Option<&Transaction>, lsn: u64) -> bool {
    let xid = transaction.and_then(|transaction| transaction.xid);
    left_out.is_some_and(|(of, up_to)| xid == Some(of) && lsn <= up_to)
}

/// A stream that breaks the protocol: going on could lose or repeat rows.
pub(crate) fn broken(what: impl Into<String>) -> SourceError {
    SourceError::definite(what)
        .repair("this is a defect of rowcast or of the server: please report it with both versions")
}

impl Assembler {
    pub(crate) fn new(setup: Setup<'_>) -> Self {
        if let Some(at) = setup.sends_from {
            setup.shared.holds.hold(CATCHING_UP, at);
        }
        Self {
            db: Arc::from(setup.db),
            filter: setup.filter,
            form: setup.form,
            messages: setup.messages,
            relations: HashMap::new(),
            replaying: None,
            in_progress: InProgress::new(setup.room),
            arrivals: 0,
            arrival: 0,
            type_names: HashMap::new(),
            transaction: None,
            seq: 0,
            before: setup.before,
            describe: setup.describe,
            left_out: setup.left_out,
            position: setup.start,
            start: setup.start,
            catches_up: setup.sends_from.is_some(),
            shared: setup.shared,
            passing: false,
            idle_at: 0,
            batch: 1,
            collected: Collected::default(),
        }
    }

    /// The server has sent everything before this position.
    fn reached(&mut self, at: u64) {
        if self.catches_up && at >= self.start {
            self.catches_up = false;
            self.shared.holds.forget(CATCHING_UP);
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
            self.reached(wal_end);
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
            open: self.transaction.clone().filter(|_| !self.passing),
            // batches of a busy stream are alike in size
            events: Vec::with_capacity(capacity.min(4096)),
        };
        std::mem::replace(&mut self.collected, next)
    }

    /// Takes in one message, which lies at `offset` of the batch's bytes and is of a record at this LSN.
    pub(crate) fn message(&mut self, payload: &[u8], (offset, lsn): (usize, u64)) -> Result<Step, SourceError> {
        if let Some(streamed) = self.in_progress.receives()
            && self.keep(payload, streamed, lsn)?
        {
            return Ok(Step::Done);
        }
        let message = message::parse(payload).map_err(|error| broken(error.to_string()))?;
        match message {
            Message::StreamStart { .. }
            | Message::StreamStop
            | Message::StreamAbort { .. }
            | Message::BeginPrepare(_)
            | Message::Prepare { .. }
            | Message::StreamPrepare(_)
            | Message::RollbackPrepared { .. } => self.in_parts(&message)?,
            Message::StreamCommit(committed) | Message::CommitPrepared(committed) => return self.committed(committed),
            Message::Relation(relation) => {
                self.arrivals += 1;
                return self.relation(relation, self.arrivals);
            }
            message => self.take_in(message, (offset, lsn))?,
        }
        Ok(Step::Done)
    }

    /// A message of a row, a type or a transaction.
    fn take_in(&mut self, message: Message<'_>, at: (usize, u64)) -> Result<(), SourceError> {
        match message {
            Message::Insert { relation, new } => self.row(relation, Op::Insert, None, Some(new), at),
            Message::Update { relation, old, new } => self.row(relation, Op::Update, old, Some(new), at),
            Message::Delete { relation, old } => self.row(relation, Op::Delete, Some(old), None, at),
            Message::Begin { final_lsn, commit_us, xid } => {
                self.passing = final_lsn < self.start;
                self.reached(final_lsn);
                self.begin(final_lsn, commit_us, Some(xid))
            }
            Message::Commit { end_lsn } => self.commit(end_lsn),
            Message::Truncate { relations } => {
                relations.into_iter().try_for_each(|relation| self.row(relation, Op::Truncate, None, None, at))
            }
            Message::Type { oid, schema, name } => {
                let full = if schema.is_empty() { name.to_owned() } else { format!("{schema}.{name}") };
                self.type_names.insert(oid, full);
                Ok(())
            }
            Message::Logical { transactional, lsn, prefix, content, name } => {
                self.logical((transactional, lsn), name, (prefix, content), at.0)
            }
            Message::Origin { lsn, name } => {
                self.origin((Arc::from(name), Some(Lsn(lsn)).filter(|lsn| lsn.0 != 0)));
                Ok(())
            }
            _ => Err(broken("a message that a transaction can't hold")),
        }
    }

    /// Keeps a message of the transaction in progress; false if it is none, or not only its own.
    fn keep(&mut self, payload: &[u8], streamed: bool, lsn: u64) -> Result<bool, SourceError> {
        let wrong = |error: message::MessageError| broken(error.to_string());
        let message = if streamed {
            message::of_stream(payload).map_err(wrong)?
        } else {
            // a prepared transaction's rows don't say whose they are
            match payload.split_first() {
                Some((kind, rest)) if matches!(kind, b'I' | b'U' | b'D' | b'T' | b'R' | b'Y' | b'M') => {
                    Some(OfStream { kind: *kind, xid: 0, rest })
                }
                _ => None,
            }
        };
        let Some(message) = message else { return Ok(false) };
        let mut number = lsn;
        if message.kind == b'R' {
            self.arrivals += 1;
            number = self.arrivals;
        }
        // relations and types of a prepared transaction are sent for all: whoever comes next has them, whatever becomes of it
        let all = !streamed && matches!(message.kind, b'R' | b'Y');
        self.in_progress.push(message, number).map_err(|failure| self.in_progress.explain(failure))?;
        Ok(!all)
    }

    /// Transactions that come before their commit.
    fn in_parts(&mut self, message: &Message<'_>) -> Result<(), SourceError> {
        let it = &mut self.in_progress;
        let done = match message {
            Message::StreamStart { xid, first } => it.start(*xid, true, *first),
            Message::BeginPrepare(prepared) => {
                self.shared.holds.hold(prepared.xid, prepared.prepare_lsn);
                it.start(prepared.xid, false, true)
            }
            Message::StreamStop | Message::Prepare { .. } => it.stop(),
            Message::StreamPrepare(prepared) => {
                self.shared.holds.hold(prepared.xid, prepared.prepare_lsn);
                Ok(())
            }
            Message::StreamAbort { xid, sub } => it.abort(*xid, *sub),
            Message::RollbackPrepared { xid } => {
                self.shared.holds.forget(*xid);
                it.abort(*xid, *xid)
            }
            _ => Ok(()),
        };
        done.map_err(|failure| self.in_progress.explain(failure))
    }

    fn committed(&mut self, committed: Committed) -> Result<Step, SourceError> {
        self.reached(committed.commit_lsn);
        self.shared.holds.committed(committed.xid, committed.end_lsn);
        let passed = self.is_passed(committed);
        match self.in_progress.take(committed.xid, passed) {
            // also if its rows were published before: the server takes its relations for sent from now on
            Ok(Some(replay)) => Ok(Step::Replay(committed, Box::new(replay))),
            Ok(None) if passed => Ok(Step::Done),
            // prepared before the slot began to give out prepared transactions to us
            Ok(None) => Err(SourceError::gap(format!(
                "gap: transaction {} was committed, but its rows came with its PREPARE, before this stream began",
                committed.xid
            ))
            .repair("set `on_gap: backfill`, which copies all tables again")),
            Err(failure) => Err(self.in_progress.explain(failure)),
        }
    }

    /// Its rows were published before this stream.
    fn is_passed(&self, committed: Committed) -> bool {
        committed.commit_lsn < self.start
    }

    /// The replay of a committed transaction begins. One that was published before is only read for its relations.
    pub(crate) fn replay_begins(&mut self, committed: Committed, origin: Option<Origin>) -> Result<(), SourceError> {
        self.passing = self.is_passed(committed);
        self.begin(committed.commit_lsn, committed.commit_us, Some(committed.xid))?;
        if let Some(origin) = origin {
            self.origin(origin);
        }
        self.replaying = Some(HashMap::new());
        Ok(())
    }

    /// Takes in a message of the transaction that is being replayed, which lies at `offset` of the batch's bytes. Its number is that of its
    /// arrival, if it is a relation, else its LSN.
    pub(crate) fn replayed(&mut self, payload: &[u8], offset: usize, number: u64) -> Result<Step, SourceError> {
        match message::parse(payload).map_err(|error| broken(error.to_string()))? {
            Message::Relation(relation) => self.relation(relation, number),
            message => self.take_in(message, (offset, number)).map(|()| Step::Done),
        }
    }

    /// It is replayed.
    ///
    /// The server takes its relations for sent from now on. Those that were sent again meanwhile, outside of it, are newer.
    pub(crate) fn replay_ends(&mut self, committed: Committed) -> Result<(), SourceError> {
        for (id, known) in self.replaying.take().unwrap_or_default() {
            if self.relations.get(&id).is_none_or(|other| other.arrival < known.arrival) {
                self.relations.insert(id, known);
            }
        }
        self.commit(committed.end_lsn)
    }

    fn begin(&mut self, at: u64, commit_us: i64, xid: Option<u32>) -> Result<(), SourceError> {
        if self.transaction.is_some() {
            return Err(broken("a transaction begins before the last one ended"));
        }
        let at = Lsn(at);
        let id = xid.map_or_else(String::new, |xid| xid.to_string());
        let facts = TransactionFacts { before: self.before, ..TransactionFacts::default() };
        let transaction = Arc::new(Transaction { id, xid, pos: at.to_string(), mark: Mark::Lsn(at), commit_us, facts });
        if !self.passing {
            self.collected.events.push(Event::Begin(Arc::clone(&transaction)));
        }
        self.transaction = Some(transaction);
        self.seq = 0;
        Ok(())
    }

    /// Where the transaction in progress, or the one that is being received, was replicated from: it is told before its rows.
    fn origin(&mut self, origin: Origin) {
        if !self.describe {
            return;
        }
        let Some(transaction) = &mut self.transaction else { return self.in_progress.origin(origin) };
        let (name, lsn) = origin;
        let mut told = Transaction::clone(transaction);
        (told.facts.origin, told.facts.origin_lsn) = (Some(name), lsn);
        let told = Arc::new(told);
        // its beginning is in this batch, or in one that has gone out without rows of it
        match self.collected.events.last_mut() {
            Some(Event::Begin(begun)) => *begun = Arc::clone(&told),
            _ if self.collected.open.is_some() => self.collected.open = Some(Arc::clone(&told)),
            _ => {}
        }
        *transaction = told;
    }

    fn commit(&mut self, end: u64) -> Result<(), SourceError> {
        if self.transaction.take().is_none() {
            return Err(broken("a commit without a transaction"));
        }
        self.before = Some(Lsn(end));
        if std::mem::take(&mut self.passing) {
            return Ok(());
        }
        self.position = self.position.max(end);
        self.collected.events.push(Event::Commit(Mark::Lsn(Lsn(end)), lsn_offset(end)));
        Ok(())
    }

    fn row(
        &mut self,
        id: u32,
        op: Op,
        old: Option<Old>,
        new: Option<Tuple>,
        (offset, lsn): (usize, u64),
    ) -> Result<(), SourceError> {
        if self.transaction.is_none() {
            return Err(broken("a row outside of a transaction"));
        }
        self.seq += 1;
        let known = match self.replaying.as_mut().and_then(|own| own.get_mut(&id)) {
            Some(known) => known,
            None => self.relations.get_mut(&id).ok_or_else(|| broken(format!("a row of the unknown relation {id}")))?,
        };
        let Some(table) = &known.table else { return Ok(()) };
        if self.passing || is_left_out(self.left_out, self.transaction.as_deref(), lsn) {
            return Ok(());
        }
        if known.indexed.0 != self.batch {
            let index = u32::try_from(self.collected.tables.len()).map_err(|_| broken("too many tables in a batch"))?;
            self.collected.tables.push(Arc::clone(table));
            known.indexed = (self.batch, index);
        }
        let before = match old {
            Some(Old { tuple, key_only }) => {
                let shape = match (key_only, known.narrower) {
                    (true, _) => SHAPE_KEY,
                    (false, true) => SHAPE_PARTIAL,
                    (false, false) => SHAPE_FULL,
                };
                Some(Image { span: span(tuple, offset)?, shape })
            }
            None => None,
        };
        let after = match new {
            Some(tuple) => Some(Image { span: span(tuple, offset)?, shape: SHAPE_FULL }),
            None => None,
        };
        let place = Place { at: lsn, ..Place::default() };
        let change = Change { op, table: known.indexed.1, seq: self.seq, place, before, after };
        self.collected.events.push(Event::Change(change));
        Ok(())
    }

    fn relation(&mut self, relation: Relation, arrival: u64) -> Result<Step, SourceError> {
        self.arrival = arrival;
        if !self.filter.matches_parts(&relation.schema, &relation.table) {
            let known = Known { table: None, identity: Vec::new(), narrower: false, indexed: (0, 0), arrival };
            self.current_relations().insert(relation.id, known);
            return Ok(Step::Done);
        }
        if self.describe || relation::needs_catalog(&relation) {
            return Ok(Step::NeedsCatalog(relation));
        }
        self.define(&relation, &CatalogFacts::default())?;
        Ok(Step::Done)
    }

    fn current_relations(&mut self) -> &mut HashMap<u32, Known> {
        self.replaying.as_mut().unwrap_or(&mut self.relations)
    }

    /// Makes this the table's current version. The server sends a relation again whenever its cache was
    /// invalidated, mostly without a change: then the version stays the same.
    pub(crate) fn define(&mut self, relation: &Relation, facts: &CatalogFacts) -> Result<(), SourceError> {
        self.form.check(relation, facts)?;
        let table = relation::table(&self.db, relation, facts, &self.type_names, self.form.before_17());
        let (flags, narrower) = (relation::identity(relation, facts), facts.narrower);
        let arrival = self.arrival;
        let own = self.replaying.as_ref().and_then(|own| own.get(&relation.id));
        let table = match own.or_else(|| self.relations.get(&relation.id)) {
            Some(Known { table: Some(old), identity, .. })
                if old.fingerprint == table.fingerprint && *identity == flags =>
            {
                Arc::clone(old)
            }
            _ => {
                tracing::debug!(table = %table.name, columns = table.columns.len(), "table version");
                table
            }
        };
        let batch = self.batch;
        let known = self.current_relations().entry(relation.id);
        known
            .and_modify(|known| {
                let same = known.table.as_ref().is_some_and(|known| Arc::ptr_eq(known, &table));
                let indexed = if same && known.indexed.0 == batch { known.indexed } else { (0, 0) };
                *known = Known { table: Some(Arc::clone(&table)), identity: flags.clone(), narrower, indexed, arrival };
            })
            .or_insert_with(|| Known {
                table: Some(Arc::clone(&table)),
                identity: flags.clone(),
                narrower,
                indexed: (0, 0),
                arrival,
            });
        Ok(())
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
mod tests;
