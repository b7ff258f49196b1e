//! The publisher's side of the board: what the stream does while tables are copied, and what becomes of the pieces that were read.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rowcast_core::backfill::{Offset, Reading};
use rowcast_core::{LogPosition, TableName, Transaction};

use super::board::{Board, Inner, Part, PieceOf, Verdict};
use super::copy::{Copy, Ending, Phase, read_again};
use super::merge::{Fate, KeyHash, Touch};
use super::state::{CopyState, Settled, TableId};

/// After how long a key is read again whose last change the read before didn't see.
const LATER: Duration = Duration::from_millis(500);
/// Over how long the shown speed is measured, about.
const SPEED: Duration = Duration::from_secs(5);

impl Board {
    /// A batch was made by this version of the watch list; it is about to be staged, behind `position`.
    pub fn batch_begins(&self, version: u64, position: &LogPosition) {
        for copy in self.lock().copies.iter_mut().filter(|copy| copy.watched && copy.generation <= version) {
            copy.merge.watched(position);
        }
    }

    /// A batch was staged, up to `position` and, if it ends in one, a part of a transaction.
    pub fn batch_ends(&self, version: u64, position: &LogPosition, open: Option<&Transaction>) {
        for copy in self.lock().copies.iter_mut().filter(|copy| copy.watched && copy.generation > version) {
            copy.merge.unwatched(position, open);
        }
    }

    /// A transaction begins in a batch of this version.
    pub fn begin(&self, version: u64, transaction: &Transaction) {
        for copy in self.lock().copies.iter_mut().filter(|copy| copy.watched && copy.generation <= version) {
            copy.merge.begin(transaction);
        }
    }

    /// A change touched a key of a table, or emptied it.
    pub fn touch(&self, name: &TableName, transaction: &Arc<Transaction>, touch: Option<&Touch>) {
        for copy in self.lock().copies.iter_mut().filter(|copy| copy.watched && copy.state.id.is(name)) {
            match touch {
                Some(touch) => copy.merge.touch(transaction, touch.clone()),
                None => copy.merge.empty(transaction),
            }
        }
    }

    /// A transaction ended.
    pub fn commit(&self, transaction: &Transaction, end: Offset, lag: Duration) {
        let mut inner = self.lock();
        (inner.reached, inner.lag) = (end, lag);
        for copy in &mut inner.copies {
            copy.merge.commit(transaction, end);
        }
    }

    /// The stream has come this far and is behind by so much.
    pub fn reached(&self, at: Option<Offset>, lag: Duration) {
        let mut inner = self.lock();
        inner.reached = at.unwrap_or(inner.reached).max(inner.reached);
        inner.lag = lag;
    }

    /// Whether a piece still counts: its range wasn't taken up again since it was read.
    pub fn is_current(&self, piece: &PieceOf) -> bool {
        self.with(&piece.copy, |copy| copy.is_current(&piece.part)).unwrap_or(false)
    }

    /// Decides on a piece whose bound was passed, with the stream at `position`. `keys` are those of its rows, `records` their
    /// number.
    pub fn judge(&self, piece: &PieceOf, keys: &[KeyHash], records: usize, position: &LogPosition) -> Verdict {
        let mut inner = self.lock();
        let Some(copy) = inner.copy(&piece.copy) else { return Verdict::default() };
        if !copy.is_current(&piece.part) {
            return Verdict::default();
        }
        copy.held_back = false;
        copy.merge.watched(position);
        if !copy.merge.accepts(&piece.reading) {
            copy.hurried = true;
            match &piece.part {
                Part::Range { index, .. } => read_again(copy.ranges.get_mut(*index)),
                Part::Whole { .. } => copy.start_over(),
                Part::Keys(keys) => keys.iter().for_each(|key| {
                    copy.asked.remove(key);
                }),
            }
            return Verdict::default();
        }
        let mut publish: Vec<std::ops::Range<usize>> = Vec::new();
        for index in 0..records {
            let fate = keys.get(index).map_or(Fate::Publish, |key| copy.merge.fate(&piece.reading, *key));
            match (fate, publish.last_mut()) {
                (Fate::Drop, _) => copy.state.dropped += 1,
                (Fate::Publish, Some(run)) if run.end == index => run.end += 1,
                (Fate::Publish, _) => publish.push(index..index + 1),
            }
        }
        let published: usize = publish.iter().map(std::ops::Range::len).sum();
        copy.state.rows += published as u64;
        copy.state.bytes += piece.bytes;
        let start = !std::mem::replace(&mut copy.state.announced, true);
        let mut void = false;
        match &piece.part {
            Part::Range { index, .. } => {
                if let Some(range) = copy.ranges.get_mut(*index) {
                    range.rest.clone_from(&piece.rest);
                }
            }
            Part::Whole { .. } => {
                if let Some(range) = copy.ranges.get_mut(0) {
                    // what was published of this table before this read's first piece doesn't count
                    void = range.rest.as_deref() == Some("");
                    range.rest.clone_from(&piece.rest);
                }
            }
            Part::Keys(asked) => {
                copy.state.again += published as u64;
                copy.merge.resolve_keys(&piece.reading, asked);
                for key in asked {
                    copy.asked.remove(key);
                    if copy.merge.rereads().contains_key(key) {
                        copy.later.insert(*key, Instant::now() + LATER);
                    }
                }
            }
        }
        let measured = copy.speed.since.elapsed();
        if measured >= SPEED {
            copy.speed.shown = copy.state.rows.saturating_sub(copy.speed.rows) as f64 / measured.as_secs_f64();
            (copy.speed.since, copy.speed.rows) = (Instant::now(), copy.state.rows);
        }
        let name = copy.name.clone().map(|name| (name, copy.state.clone()));
        Verdict { publish, start, void, copy: name }
    }

    /// A piece was handled and dropped: what no read that is left needs is forgotten.
    pub fn handled(&self, copy: &str) {
        self.with(copy, |copy| {
            let open: Vec<Arc<Reading>> = copy.readings.iter().filter_map(Weak::upgrade).collect();
            if copy.beginning > 0 {
                return;
            }
            match (open.as_slice(), &copy.last_reading) {
                ([], Some(last)) => copy.merge.prune(&[last]),
                ([], None) => {}
                (open, _) => copy.merge.prune(&open.iter().map(AsRef::as_ref).collect::<Vec<_>>()),
            }
        });
        if self.with(copy, |copy| copy.merge.is_overflown()).unwrap_or(false) {
            tracing::warn!(
                copy,
                "more rows wait to be read again than are remembered: the table is read from its start"
            );
            self.start_over(copy);
        }
        self.changed.notify_waiters();
    }

    /// A copy that is complete; it is taken off the board. None while there is none.
    pub fn take_finished(&self) -> Option<(TableName, CopyState)> {
        let mut inner = self.lock();
        let place = inner.copies.iter().position(|copy| copy.keyed && copy.is_done())?;
        self.finish(&mut inner, place)
    }

    /// The held events of a table without a key are all published: its copy is complete, or ends as it was asked to. What is to
    /// be announced, if it is complete.
    pub fn finish_held(&self, copy: &str) -> Option<(TableName, CopyState)> {
        let mut inner = self.lock();
        let place = inner.copies.iter().position(|it| it.state.copy == copy)?;
        let ending = inner.copies.get_mut(place).and_then(|it| it.ending.take());
        let Some(ending) = ending else { return self.finish(&mut inner, place) };
        self.remove(&mut inner, place, ending);
        self.changed.notify_waiters();
        None
    }

    /// Ends a copy that isn't complete: at once, or when the events that were held for it are published.
    pub(super) fn end(&self, inner: &mut Inner, place: usize, ending: Ending) {
        match inner.copies.get_mut(place) {
            Some(copy) if copy.holds() => {
                copy.phase = Phase::Ending;
                copy.ending = Some(ending);
                inner.version += 1;
            }
            Some(_) => self.remove(inner, place, ending),
            None => {}
        }
    }

    fn remove(&self, inner: &mut Inner, place: usize, ending: Ending) {
        let id = inner.copies.remove(place).state.id;
        inner.left();
        self.watch.set(&id, false);
        match ending.next {
            Some(next) => {
                inner.copies.push(Copy::new(next));
                inner.set_table(&id, None);
            }
            None => inner.set_table(&id, ending.settled),
        }
    }

    fn finish(&self, inner: &mut Inner, place: usize) -> Option<(TableName, CopyState)> {
        let copy = inner.copies.remove(place);
        inner.left();
        self.watch.set(&copy.state.id, false);
        let settled = if copy.state.requested_part() { copy.state.before.clone() } else { Some(Settled::Copied) };
        inner.set_table(&copy.state.id, settled);
        self.changed.notify_waiters();
        copy.name.map(|name| (name, copy.state))
    }

    /// Tables without a key whose events are held back, with the version of the watch list from which on.
    pub fn held(&self) -> HashMap<TableId, (String, u64)> {
        let inner = self.lock();
        let held = inner.copies.iter().filter(|copy| copy.holds());
        held.map(|copy| (copy.state.id.clone(), (copy.state.copy.clone(), copy.generation))).collect()
    }

    /// Whether the held events of a table without a key can be published: its rows all are, or never will be (`Some(true)`).
    pub fn may_replay(&self, copy: &str) -> Option<bool> {
        self.with(copy, |copy| match copy.phase {
            Phase::Ending => Some(true),
            _ => copy.is_done().then_some(false),
        })
        .flatten()
    }

    /// A whole read is of no use: nobody can tell which transactions it sees. It is read again.
    pub fn reject_whole(&self, copy: &str) {
        self.with(copy, Copy::start_over);
        self.changed.notify_waiters();
    }
}
