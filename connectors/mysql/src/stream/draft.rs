//! A batch in the making.

use std::sync::Arc;

use bytes::Bytes;
use rowcast_core::{Batch, Event, Table, Transaction};

/// Events and the tables that they refer to; the data is added when it is known where the batch ends.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    open: Option<Arc<Transaction>>,
    tables: Vec<Arc<Table>>,
    pub(crate) events: Vec<Event>,
}

impl Draft {
    /// An empty one that begins inside `open`.
    pub(crate) fn new(open: Option<Arc<Transaction>>) -> Self {
        Self { open, ..Self::default() }
    }

    /// The table's index in this batch. Few tables are in one batch, and the last one is the likeliest.
    pub(crate) fn table(&mut self, table: &Arc<Table>) -> u32 {
        let found = self.tables.iter().rposition(|known| Arc::ptr_eq(known, table));
        found.unwrap_or_else(|| {
            self.tables.push(Arc::clone(table));
            self.tables.len() - 1
        }) as u32
    }

    /// The batch; without its data if nothing points into it.
    pub(crate) fn finish(self, data: Bytes) -> Batch {
        let data = if self.tables.is_empty() { Bytes::new() } else { data };
        Batch { data, tables: self.tables, open: self.open, events: self.events }
    }
}
