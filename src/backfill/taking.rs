//! The readers' side of the board: taking work, telling what reads began, giving back what isn't done.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rowcast_core::backfill::{Offset, Plan, Reading, Snapshot};

use super::board::{Board, Part, Work};
use super::copy::{Copy, Ending, Phase, Range, release};
use super::merge::{KeyHash, Literals, Merge};
use super::state::Settled;

/// Keys of one read.
const KEYS_AT_ONCE: usize = 500;

impl Board {
    /// The next thing to do; none if there is nothing at the moment.
    pub fn take(&self) -> Option<Work> {
        let mut inner = self.lock();
        for copy in inner.copies.iter_mut().filter(|copy| copy.phase == Phase::Reading && !copy.state.paused) {
            let now = Instant::now();
            copy.later.retain(|_, look| *look > now);
            let open: Vec<(KeyHash, Literals)> = copy
                .merge
                .rereads()
                .iter()
                .filter(|(key, _)| !copy.asked.contains(*key) && !copy.later.contains_key(*key))
                .take(KEYS_AT_ONCE)
                .map(|(key, literals)| (*key, literals.clone()))
                .collect();
            if !open.is_empty() {
                copy.asked.extend(open.iter().map(|(key, _)| *key));
                return Some(Work::Keys { copy: copy.state.clone(), keys: open });
            }
        }
        for copy in inner.copies.iter_mut().filter(|copy| copy.phase == Phase::Reading && !copy.state.paused) {
            let (state, keyed) = (copy.state.clone(), copy.keyed);
            let free = copy.ranges.iter_mut().enumerate().find(|(_, range)| !range.busy && range.unread().is_some());
            if let Some((index, range)) = free {
                range.busy = true;
                let epoch = range.epoch;
                return Some(match range.unread() {
                    Some(rest) if keyed => Work::Range { copy: state, index, epoch, rest: rest.to_owned() },
                    _ => Work::Whole { copy: state, epoch },
                });
            }
        }
        let is_active = |copy: &&Copy| matches!(copy.phase, Phase::Preparing | Phase::Reading) && !copy.held_back;
        let active = inner.copies.iter().filter(is_active).count();
        if active < inner.parallelism
            && let Some(next) = inner
                .copies
                .iter_mut()
                .find(|copy| copy.phase == Phase::Waiting && !copy.state.paused && !copy.state.void)
        {
            next.phase = Phase::Preparing;
            return Some(Work::Prepare(next.state.clone()));
        }
        None
    }

    pub(super) fn with<T>(&self, copy: &str, act: impl FnOnce(&mut Copy) -> T) -> Option<T> {
        self.lock().copy(copy).map(act)
    }

    /// A copy was planned: from now on the keys of its changes are noted. False if it is gone.
    pub fn planned(&self, copy: &str, plan: &Plan) -> bool {
        let watch = self.watch.clone();
        let mut inner = self.lock();
        inner.version += 1;
        let Some(it) = inner.copy(copy).filter(|it| it.phase == Phase::Preparing) else { return false };
        it.name = Some(plan.name.clone());
        it.keyed = plan.keyed || it.state.keys.is_some();
        it.merge.set_rows_move(plan.rows_move);
        if !it.keyed {
            // only now its events can be held: what was streamed before must be seen by the read
            watch.set(&it.state.id, false);
            it.merge = Merge::new(plan.rows_move);
            it.watched = false;
        }
        if !it.watched {
            it.generation = watch.set(&it.state.id, true);
            it.watched = true;
        }
        if it.state.incomplete || !it.keyed {
            // a table without a key is read in one transaction or not at all
            it.state.start_over();
        }
        if it.state.ranges.is_none() {
            it.state.estimate = plan.rows;
            let ranges = match (&it.state.keys, it.keyed) {
                (Some(keys), _) => {
                    for literals in keys {
                        it.merge.read_again(watch.hasher().of_literals(literals), literals.clone());
                    }
                    it.state.estimate = Some(keys.len() as u64);
                    Vec::new()
                }
                (None, true) => plan.ranges.clone(),
                (None, false) => vec![String::new()],
            };
            it.state.planned = ranges.len();
            it.state.ranges = Some(ranges);
        }
        // the hashes of this process aren't those of the one that wrote the list
        for literals in std::mem::take(&mut it.state.reread) {
            it.merge.read_again(watch.hasher().of_literals(&literals), literals);
        }
        let ranges = it.state.ranges.clone().unwrap_or_default();
        it.ranges =
            ranges.into_iter().map(|rest| Range { rest: Some(rest), ahead: None, epoch: 0, busy: false }).collect();
        true
    }

    /// What ran on the server after the keys were noted.
    pub fn gate(&self, copy: &str, snapshot: &Snapshot) {
        self.with(copy, |copy| copy.merge.gate(snapshot));
    }

    /// Transactions that must be visible before a read is of use; none if the copy is gone.
    pub fn waits_for(&self, copy: &str, snapshot: &Snapshot) -> Option<Vec<u64>> {
        self.with(copy, |copy| copy.merge.waits_for(snapshot))
    }

    /// The copy can be read.
    pub fn ready(&self, copy: &str) {
        self.with(copy, |copy| {
            if copy.phase == Phase::Preparing {
                copy.phase = Phase::Reading;
            }
        });
        self.changed.notify_waiters();
    }

    /// A copy that was being prepared waits again.
    pub fn not_ready(&self, copy: &str) {
        self.with(copy, |copy| {
            if copy.phase == Phase::Preparing {
                copy.phase = Phase::Waiting;
            }
        });
    }

    /// Whether a reader may go on with what it took.
    pub fn goes_on(&self, copy: &str, part: &Part) -> bool {
        self.with(copy, |copy| !copy.state.paused && copy.is_current(part)).unwrap_or(false)
    }

    /// How many keys wait to be read again, which goes before reading on.
    pub fn rereads(&self, copy: &str) -> usize {
        let open = |copy: &mut Copy| copy.merge.rereads().len().saturating_sub(copy.asked.len() + copy.later.len());
        self.with(copy, open).unwrap_or(0)
    }

    /// A read is about to begin.
    pub fn beginning(&self, copy: &str) {
        self.with(copy, |copy| copy.beginning += 1);
    }

    /// A read has begun, or failed to.
    pub fn began(&self, copy: &str, reading: Option<&Arc<Reading>>) {
        self.with(copy, |copy| {
            copy.beginning = copy.beginning.saturating_sub(1);
            copy.readings.retain(|reading| reading.strong_count() > 0);
            copy.readings.extend(reading.map(Arc::downgrade));
            if let Some(reading) = reading {
                copy.last_reading = Some(Arc::new(Reading::clone(reading)));
            }
        });
    }

    /// A reader gives back what it took: with what is left of it, or none if it failed, so that it is read again from where the
    /// publisher is.
    pub fn give_back(&self, copy: &str, part: &Part, left: Option<Option<String>>) {
        self.with(copy, |copy| match part {
            Part::Range { index, epoch } => release(copy.ranges.get_mut(*index), *epoch, left),
            // another read sees more than the first one did, by which held events may have been judged
            Part::Whole { .. } if left.is_none() => {
                if copy.is_current(part) {
                    copy.start_over();
                }
            }
            Part::Whole { epoch } => release(copy.ranges.get_mut(0), *epoch, Some(None)),
            Part::Keys(keys) if left.is_none() => keys.iter().for_each(|key| {
                copy.asked.remove(key);
            }),
            Part::Keys(_) => {}
        });
        self.changed.notify_waiters();
    }

    /// The ranges mean nothing any more: the copy begins anew.
    pub fn start_over(&self, copy: &str) {
        let mut inner = self.lock();
        inner.version += 1;
        if let Some(it) = inner.copy(copy) {
            it.start_over();
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    /// The copy ends without having been made: the table is gone (`None`), or can't be copied.
    pub fn settle(&self, copy: &str, settled: Option<Settled>) {
        let mut inner = self.lock();
        let Some(place) = inner.copies.iter().position(|it| it.state.copy == copy) else { return };
        self.end(&mut inner, place, Ending { settled, next: None });
        drop(inner);
        self.changed.notify_waiters();
    }

    /// How far the stream has come, and how far behind the server it is.
    pub fn stream(&self) -> (Offset, Duration) {
        let inner = self.lock();
        (inner.reached, inner.lag)
    }
}
