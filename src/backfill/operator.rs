//! The operator's side of the board: requests, cancelling, pausing, and how all tables are getting on.

use super::board::Board;
use super::control::TableProgress;
use super::copy::{Copy, Ending, Phase};
use super::merge::Literals;
use super::state::{CopyState, Settled, TableId};

impl Board {
    /// Waits until everything that is on the board now is committed.
    pub async fn durable(&self) {
        let version = self.lock().version;
        let mut committed = self.committed.subscribe();
        // an error means that the board is gone, and the run with it
        let _ = committed.wait_for(|committed| *committed >= version).await;
    }

    /// Adds a copy; one of the whole table replaces one of the same table that is in progress.
    ///
    /// # Errors
    /// If a part is asked for while the table is being copied: what is in progress would be lost.
    pub fn request(&self, id: TableId, filter: Option<String>, keys: Option<Vec<Literals>>) -> Result<(), String> {
        let mut inner = self.lock();
        let place = inner.copies.iter().position(|copy| copy.state.id == id);
        let stopped = matches!(inner.tables.get(&id), Some(Settled::Stopped { .. }));
        if stopped && (filter.is_some() || keys.is_some()) {
            return Err(format!(
                "{id} can't be followed, and what was published of it is void: ask for the whole table"
            ));
        }
        if place.is_some() && (filter.is_some() || keys.is_some()) {
            return Err(format!("{id} is being copied: ask for a part of it when that is done, or cancel it first"));
        }
        let running = place.and_then(|place| inner.copies.get(place));
        let void = stopped || running.is_some_and(|copy| copy.state.void);
        let before = match running {
            Some(copy) if !stopped => copy.state.before.clone(),
            _ => inner.tables.get(&id).cloned(),
        };
        let mut state = CopyState::new(id.clone(), filter, keys, before);
        (state.requested, state.void) = (true, void);
        match place {
            Some(place) => self.end(&mut inner, place, Ending { settled: None, next: Some(state) }),
            None => {
                inner.copies.push(Copy::new(state));
                inner.set_table(&id, None);
            }
        }
        drop(inner);
        self.changed.notify_waiters();
        Ok(())
    }

    /// Ends copies without completing them; of one table or of all. How many.
    pub fn cancel(&self, table: Option<&TableId>) -> usize {
        let found: Vec<(String, Settled)> = self
            .lock()
            .copies
            .iter()
            .filter(|copy| table.is_none_or(|id| copy.state.id == *id))
            .map(|copy| (copy.state.copy.clone(), copy.state.before.clone().unwrap_or(Settled::Cancelled)))
            .collect();
        for (copy, settled) in &found {
            self.settle(copy, Some(settled.clone()));
        }
        found.len()
    }

    /// Pauses or resumes copies; of one table or of all. How many.
    pub fn pause(&self, table: Option<&TableId>, paused: bool) -> usize {
        let mut inner = self.lock();
        inner.version += 1;
        let mut count = 0;
        for copy in inner.copies.iter_mut().filter(|copy| table.is_none_or(|id| copy.state.id == *id)) {
            copy.state.paused = paused;
            count += 1;
        }
        drop(inner);
        self.changed.notify_waiters();
        count
    }

    /// How many tables' copies aren't complete.
    pub fn left(&self) -> usize {
        self.lock().copies.len()
    }

    /// What each table is doing: those being copied first, then all others.
    pub fn progress(&self) -> Vec<TableProgress> {
        let inner = self.lock();
        let settled = inner.tables.iter().map(|(id, settled)| {
            let (state, why) = match settled {
                Settled::Copied => ("copied", None),
                Settled::Skipped => ("skipped", Some("streamed before copies were known".to_owned())),
                Settled::Cancelled => ("cancelled", None),
                Settled::Failed { why } => ("failed", Some(why.clone())),
                Settled::Stopped { why } => ("stopped", Some(why.clone())),
            };
            TableProgress {
                table: id.to_string(),
                state: state.to_owned(),
                rows: 0,
                bytes: 0,
                estimated_rows: None,
                percent: None,
                rows_per_second: 0.0,
                seconds_left: None,
                dropped: 0,
                reread: 0,
                why,
            }
        });
        inner.copies.iter().map(Copy::progress).chain(settled).collect()
    }

    /// The copies that are being read.
    pub fn reading(&self) -> Vec<TableProgress> {
        let inner = self.lock();
        inner.copies.iter().filter(|copy| copy.phase == Phase::Reading).map(Copy::progress).collect()
    }
}
