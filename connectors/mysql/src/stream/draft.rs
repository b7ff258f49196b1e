//! A batch in the making.

use std::sync::Arc;

use bytes::Bytes;
use rowcast_core::{Batch, Ddl, Event, Table, Transaction};

use super::BATCH_BYTES;
use super::assembler::BATCH_EVENTS;

/// Events and the tables that they refer to; the data is added when it is known where the batch ends.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    open: Option<Arc<Transaction>>,
    statement: Option<Bytes>,
    tables: Vec<Arc<Table>>,
    beside: usize,
    /// The event that began the transaction in progress, if it is here.
    begin: Option<usize>,
    /// Its savepoints: name, events, rows.
    savepoints: Vec<(String, usize, u64)>,
    pub(crate) events: Vec<Event>,
}

impl Draft {
    /// An empty one that begins inside `open`, in the statement of this text.
    pub(crate) fn new(open: Option<Arc<Transaction>>, statement: Option<Bytes>) -> Self {
        Self { open, beside: statement.as_ref().map_or(0, Bytes::len), statement, ..Self::default() }
    }

    /// The table's index in this batch. Few tables are in one batch, and the last one is the likeliest.
    pub(crate) fn table(&mut self, table: &Arc<Table>) -> u32 {
        let found = self.tables.iter().rposition(|known| Arc::ptr_eq(known, table));
        found.unwrap_or_else(|| {
            self.tables.push(Arc::clone(table));
            self.tables.len() - 1
        }) as u32
    }

    /// The statement of the changes that follow.
    pub(crate) fn statement(&mut self, text: Option<Bytes>) {
        self.beside += text.as_ref().map_or(0, Bytes::len);
        self.events.push(Event::Statement(text));
    }

    /// A statement that changes no rows.
    pub(crate) fn ddl(&mut self, it: Ddl) {
        self.beside += it.sql.len();
        self.events.push(Event::Ddl(Arc::new(it)));
    }

    /// A transaction begins.
    pub(crate) fn begins(&mut self, transaction: &Arc<Transaction>) {
        self.begin = Some(self.events.len());
        self.savepoints.clear();
        self.events.push(Event::Begin(Arc::clone(transaction)));
    }

    /// More is known of the transaction in progress, which has no rows yet.
    pub(crate) fn begun_as(&mut self, transaction: &Arc<Transaction>) {
        let begun = self.begin.and_then(|index| self.events.get_mut(index));
        let same = |other: &Transaction| other.mark == transaction.mark;
        match (begun, &mut self.open) {
            (Some(Event::Begin(begun)), _) if same(begun) => *begun = Arc::clone(transaction),
            (_, Some(open)) if same(open) => *open = Arc::clone(transaction),
            _ => {}
        }
    }

    /// A savepoint of the transaction in progress behind so many rows. Those that are many and long stay bounded by the batch's bytes.
    pub(crate) fn savepoint(&mut self, name: &str, rows: u64) {
        if self.begin.is_some() {
            let name = name.to_lowercase();
            self.savepoints.retain(|(known, ..)| *known != name);
            self.savepoints.push((name, self.events.len(), rows));
        }
    }

    /// Takes back what follows a savepoint; the rows before it. None if that isn't all here.
    pub(crate) fn rollback_to(&mut self, name: &str) -> Option<u64> {
        let name = name.to_lowercase();
        let index = self.savepoints.iter().position(|(known, ..)| *known == name)?;
        self.savepoints.truncate(index + 1);
        let (_, events, rows) = self.savepoints.last()?;
        self.events.truncate(*events);
        Some(*rows)
    }

    /// Takes back the changes of the transaction in progress; false if it didn't begin here.
    pub(crate) fn rollback(&mut self) -> bool {
        match self.begin.take() {
            Some(begin) => {
                self.events.truncate(begin + 1);
                true
            }
            None => false,
        }
    }

    /// No more events have room.
    pub(crate) fn is_full(&self) -> bool {
        self.events.len() >= BATCH_EVENTS || self.beside >= BATCH_BYTES
    }

    /// The batch; without its data if nothing points into it.
    pub(crate) fn finish(self, data: Bytes) -> Batch {
        let data = if self.tables.is_empty() { Bytes::new() } else { data };
        let Self { open, statement, tables, beside, events, .. } = self;
        Batch { data, tables, open, statement, beside, events }
    }
}
