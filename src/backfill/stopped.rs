//! Tables that can't be followed any more, on the board: none of their events is published until an operator has asked for a copy,
//! which begins by voiding what was published of them.
//!
//! Guarantees: a table is stopped in the same commit as the position behind which it is; a copy of it isn't read before the void is
//! staged, and its events are published again from exactly there, so that each of its changes is in the copy or behind the void.

use std::collections::HashSet;
use std::sync::Arc;

use super::board::{Board, Inner};
use super::copy::Ending;
use super::state::{Settled, TableId};

impl Inner {
    /// Finds out anew of which tables no event may be published.
    pub(super) fn find_stopped(&mut self) {
        let is_stopped = |settled: &Settled| matches!(settled, Settled::Stopped { .. });
        let stopped = self.tables.iter().filter(|(_, settled)| is_stopped(settled)).map(|(id, _)| id);
        let void = self.copies.iter().filter(|copy| copy.state.void).map(|copy| &copy.state.id);
        self.stopped = Arc::new(stopped.chain(void).cloned().collect());
    }
}

impl Board {
    /// Tables of which no event may be published at the moment.
    pub fn stopped(&self) -> Arc<HashSet<TableId>> {
        Arc::clone(&self.lock().stopped)
    }

    /// Whether the table is one that can't be followed.
    pub fn is_stopped(&self, id: &TableId) -> bool {
        matches!(self.lock().tables.get(id), Some(Settled::Stopped { .. }))
    }

    /// A table can't be followed from here on; false if that was known. A copy of it ends.
    pub fn stop_table(&self, id: &TableId, settled: Settled) -> bool {
        let mut inner = self.lock();
        if matches!(inner.tables.get(id), Some(Settled::Stopped { .. })) {
            return false;
        }
        if let Some(place) = inner.copies.iter().position(|copy| copy.state.id == *id) {
            self.end(&mut inner, place, Ending { settled: Some(settled.clone()), next: None });
        }
        inner.set_table(id, Some(settled));
        drop(inner);
        self.changed.notify_waiters();
        true
    }

    /// Copies of tables whose rows downstream are void, which is to be said before they are read.
    pub fn to_void(&self) -> Vec<(String, TableId)> {
        let inner = self.lock();
        inner
            .copies
            .iter()
            .filter(|copy| copy.state.void && copy.ending.is_none())
            .map(|copy| (copy.state.copy.clone(), copy.state.id.clone()))
            .collect()
    }

    /// It was said: from here on the table's events are published again.
    pub fn voided(&self, copy: &str) {
        let mut inner = self.lock();
        inner.version += 1;
        if let Some(copy) = inner.copy(copy) {
            copy.state.void = false;
        }
        inner.find_stopped();
        drop(inner);
        self.changed.notify_waiters();
    }

    /// The tables that can't be followed, and why.
    pub fn stopped_tables(&self) -> Vec<(TableId, String)> {
        let inner = self.lock();
        let why = |(id, settled): (&TableId, &Settled)| match settled {
            Settled::Stopped { why } => Some((id.clone(), why.clone())),
            _ => None,
        };
        inner.tables.iter().filter_map(why).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::backfill::board::Work;
    use crate::backfill::state::Tables;
    use crate::backfill::watch::WatchList;

    fn stopped() -> Settled {
        Settled::Stopped { why: "altered".into() }
    }

    #[test]
    fn a_stopped_table_is_voided_before_its_copy_is_read_and_streams_from_there() {
        let id = TableId { qualifier: "shop".into(), table: "orders".into() };
        let board = Board::new(Vec::new(), Tables::from([(id.clone(), Settled::Copied)]), 2, WatchList::default());
        assert!(board.stopped().is_empty());
        assert!(board.stop_table(&id, stopped()) && !board.stop_table(&id, stopped()));
        assert!(board.is_stopped(&id) && board.stopped().contains(&id));
        assert_eq!(board.to_keep().1.get(&id), Some(&stopped()));
        // a part of it would leave the rest void
        assert!(board.request(id.clone(), Some("id > 1".into()), None).unwrap_err().contains("whole"));
        board.request(id.clone(), None, None).unwrap();
        assert!(board.take().is_none() && board.stopped().contains(&id), "not before the void");
        assert!(board.to_keep().0[0].void, "a restart must know");
        let voids = board.to_void();
        board.voided(&voids[0].0);
        assert!(board.stopped().is_empty() && board.to_void().is_empty());
        assert!(matches!(board.take(), Some(Work::Prepare(_))));
        // given up, it is as before
        board.cancel(Some(&id));
        assert!(board.is_stopped(&id) && board.stopped().contains(&id));
    }

    #[test]
    fn a_table_that_is_stopped_while_it_is_copied_is_copied_no_further() {
        let id = TableId { qualifier: "shop".into(), table: "orders".into() };
        let copy = crate::backfill::state::CopyState::new(id.clone(), None, None, None);
        let board = Board::new(vec![copy], Tables::new(), 2, WatchList::default());
        assert!(board.stop_table(&id, stopped()));
        assert_eq!((board.left(), board.stopped_tables().len()), (0, 1));
        assert!(board.outcome().unwrap_err().message.contains("altered"));
    }
}
