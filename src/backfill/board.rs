//! The board: what the copies of one run are doing. Shared by the readers, who take work from it, and the publisher, who decides
//! what becomes of what they read.
//!
//! Guarantees: a range's rest, the counters and the list of keys to be read again change only when the publisher handles a
//! piece, so that a commit made after that holds exactly what was staged. A lock is held for short, never across an await.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rowcast_core::backfill::{Offset, Plan, Reading, Snapshot};
use rowcast_core::{LogPosition, TableName, Transaction};
use tokio::sync::{Notify, watch};

use super::copy::{Copy, Phase, Range, read_again, read_whole_again, release, release_whole};
use super::merge::{Fate, KeyHash, Literals, Merge, Touch};
use super::state::{CopyState, Settled, TableId, Tables};
use super::watch::WatchList;
use crate::error::RunError;

/// Keys of one read.
const KEYS_AT_ONCE: usize = 500;
/// After how long a key is read again whose last change the read before didn't see.
const LATER: Duration = Duration::from_millis(500);
/// Over how long the shown speed is measured, about.
const SPEED: Duration = Duration::from_secs(5);

/// What a reader is to do.
#[derive(Debug, Clone)]
pub enum Work {
    /// Plan a copy and wait until it can be read.
    Prepare(CopyState),
    /// Read on in a range.
    Range {
        /// The copy.
        copy: CopyState,
        /// Which of its ranges.
        index: usize,
        /// Changes when the range is to be read again.
        epoch: u32,
        /// What is left of it.
        rest: String,
    },
    /// Read these keys.
    Keys {
        /// The copy.
        copy: CopyState,
        /// The keys.
        keys: Vec<(KeyHash, Literals)>,
    },
    /// Read the whole table in one read.
    Whole {
        /// The copy.
        copy: CopyState,
        /// Changes when it is to be read again.
        epoch: u32,
    },
}

/// What a piece is a part of.
#[derive(Debug, Clone)]
pub enum Part {
    /// A range.
    Range {
        /// Which.
        index: usize,
        /// As in [`Work::Range`].
        epoch: u32,
    },
    /// Keys that were asked for; with the last piece their hashes.
    Keys(Vec<KeyHash>),
    /// A whole table.
    Whole {
        /// As in [`Work::Whole`].
        epoch: u32,
    },
}

/// A piece of a read as the board sees it.
#[derive(Debug, Clone)]
pub struct PieceOf {
    /// [`CopyState::copy`].
    pub copy: String,
    /// Of what.
    pub part: Part,
    /// The read.
    pub reading: Arc<Reading>,
    /// What is left behind it.
    pub rest: Option<String>,
    /// Rows and bytes in it.
    pub rows: u64,
    /// See `rows`.
    pub bytes: u64,
}

/// What becomes of a piece.
#[derive(Debug, Default)]
pub struct Verdict {
    /// The rows to be published, by index; nothing else of it is.
    pub publish: Vec<std::ops::Range<usize>>,
    /// The copy's start is to be announced first.
    pub start: bool,
    /// Rows published before are void: a table without a key is copied anew.
    pub void: bool,
    /// The copy's name and number of rows, for the marker.
    pub copy: Option<(TableName, CopyState)>,
}

/// What the lock protects.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) copies: Vec<Copy>,
    pub(super) tables: Tables,
    pub(super) tables_changed: bool,
    /// Counts what a commit has to keep besides pieces.
    pub(super) version: u64,
    pub(super) committed: u64,
    pub(super) reached: Offset,
    pub(super) lag: Duration,
    /// Copies that may be read at the same time.
    pub(super) parallelism: usize,
    pub(super) paused: bool,
}

/// The board of one run.
#[derive(Debug, Clone)]
pub struct Board {
    pub(super) inner: Arc<Mutex<Inner>>,
    /// Somebody may have something to do.
    pub changed: Arc<Notify>,
    pub(super) committed: watch::Sender<u64>,
    pub(super) watch: WatchList,
}

impl Board {
    /// The board of a run that goes on with these copies.
    pub fn new(copies: Vec<CopyState>, tables: Tables, parallelism: usize, watch: WatchList) -> Self {
        let inner = Inner {
            copies: copies.into_iter().map(Copy::new).collect(),
            tables,
            tables_changed: true,
            version: 1,
            committed: 0,
            reached: Offset::default(),
            lag: Duration::ZERO,
            parallelism,
            paused: false,
        };
        let board = Self {
            inner: Arc::new(Mutex::new(inner)),
            changed: Arc::new(Notify::new()),
            committed: watch::Sender::new(0),
            watch,
        };
        // the keys of what will be copied are noted from the first batch on, so that nothing has to be waited for
        let mut inner = board.lock();
        for copy in &mut inner.copies {
            copy.generation = board.watch.set(&copy.state.id, true);
            copy.watched = true;
        }
        drop(inner);
        board
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The watch list of this run.
    pub fn watch(&self) -> &WatchList {
        &self.watch
    }

    /// Whether a copy is in progress or waiting.
    pub fn is_busy(&self) -> bool {
        !self.lock().copies.is_empty()
    }

    // --- the readers' side

    /// The next thing to do; none if there is nothing at the moment.
    pub fn take(&self) -> Option<Work> {
        let mut inner = self.lock();
        if inner.paused {
            return None;
        }
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
        let active = inner.copies.iter().filter(|copy| copy.phase != Phase::Waiting).count();
        if active < inner.parallelism
            && let Some(next) = inner.copies.iter_mut().find(|copy| copy.phase == Phase::Waiting && !copy.state.paused)
        {
            next.phase = Phase::Preparing;
            return Some(Work::Prepare(next.state.clone()));
        }
        None
    }

    fn with<T>(&self, copy: &str, act: impl FnOnce(&mut Copy) -> T) -> Option<T> {
        self.lock().copies.iter_mut().find(|it| it.state.copy == copy).map(act)
    }

    /// A copy was planned: from now on the keys of its changes are noted. False if it is gone.
    pub fn planned(&self, copy: &str, plan: &Plan) -> bool {
        let watch = self.watch.clone();
        let mut inner = self.lock();
        inner.version += 1;
        let Some(it) = inner.copies.iter_mut().find(|it| it.state.copy == copy) else { return false };
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
                        let text: String = literals.iter().map(|literal| format!("{literal}\u{0}")).collect();
                        it.merge.read_again(watch.hasher().hash(text.as_bytes()), literals.clone());
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
            let text: String = literals.iter().map(|literal| format!("{literal}\u{0}")).collect();
            it.merge.read_again(watch.hasher().hash(text.as_bytes()), literals);
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
        self.with(copy, |copy| copy.phase = Phase::Reading);
        self.changed.notify_waiters();
    }

    /// A copy that was being prepared waits again.
    pub fn not_ready(&self, copy: &str) {
        self.with(copy, |copy| copy.phase = Phase::Waiting);
    }

    /// Whether a reader may go on with what it took.
    pub fn goes_on(&self, copy: &str, part: &Part) -> bool {
        let inner = self.lock();
        if inner.paused {
            return false;
        }
        let Some(it) = inner.copies.iter().find(|it| it.state.copy == copy) else { return false };
        let current = |index: usize, epoch: u32| it.ranges.get(index).is_some_and(|range| range.epoch == epoch);
        it.phase == Phase::Reading
            && !it.state.paused
            && match part {
                Part::Range { index, epoch } => current(*index, *epoch),
                Part::Whole { epoch } => current(0, *epoch),
                Part::Keys(_) => true,
            }
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
            Part::Whole { epoch } => release_whole(copy.ranges.get_mut(0), *epoch, left.is_none()),
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
        if let Some(it) = inner.copies.iter_mut().find(|it| it.state.copy == copy) {
            it.state.start_over();
            it.merge.restart();
            it.ranges.clear();
            it.asked.clear();
            it.later.clear();
            it.phase = Phase::Waiting;
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    /// The copy ends without having been made: the table is gone (`None`), or can't be copied.
    pub fn settle(&self, copy: &str, settled: Option<Settled>) {
        let mut inner = self.lock();
        let Some(place) = inner.copies.iter().position(|it| it.state.copy == copy) else { return };
        let it = inner.copies.remove(place);
        self.watch.set(&it.state.id, false);
        match settled {
            Some(settled) => inner.tables.insert(it.state.id, settled),
            None => inner.tables.remove(&it.state.id),
        };
        inner.tables_changed = true;
        inner.version += 1;
        drop(inner);
        self.changed.notify_waiters();
    }

    /// How far the stream has come, and how far behind the server it is.
    pub fn stream(&self) -> (Offset, Duration) {
        let inner = self.lock();
        (inner.reached, inner.lag)
    }

    // --- the publisher's side

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
        self.with(&piece.copy, |copy| copy.is_current(piece)).unwrap_or(false)
    }

    /// Decides on a piece whose bound was passed, with the stream at `position`. `keys` are those of its rows, `records` their
    /// number.
    pub fn judge(&self, piece: &PieceOf, keys: &[KeyHash], records: usize, position: &LogPosition) -> Verdict {
        let mut inner = self.lock();
        let Some(copy) = inner.copies.iter_mut().find(|it| it.state.copy == piece.copy) else {
            return Verdict::default();
        };
        if !copy.is_current(piece) {
            return Verdict::default();
        }
        copy.merge.watched(position);
        if !copy.merge.accepts(&piece.reading) {
            match &piece.part {
                Part::Range { index, .. } => read_again(copy.ranges.get_mut(*index)),
                Part::Whole { .. } => read_whole_again(copy.ranges.get_mut(0)),
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

    /// The copy of a table without a key, whose held events are all published by now, is complete.
    pub fn finish_held(&self, copy: &str) -> Option<(TableName, CopyState)> {
        let mut inner = self.lock();
        let place = inner.copies.iter().position(|it| it.state.copy == copy)?;
        self.finish(&mut inner, place)
    }

    fn finish(&self, inner: &mut Inner, place: usize) -> Option<(TableName, CopyState)> {
        let copy = inner.copies.remove(place);
        self.watch.set(&copy.state.id, false);
        let requested = copy.state.before.clone();
        let partial = copy.state.requested_part();
        match (partial, requested) {
            (true, Some(before)) => inner.tables.insert(copy.state.id.clone(), before),
            (true, None) => inner.tables.remove(&copy.state.id),
            (false, _) => inner.tables.insert(copy.state.id.clone(), Settled::Copied),
        };
        inner.tables_changed = true;
        inner.version += 1;
        self.changed.notify_waiters();
        copy.name.map(|name| (name, copy.state))
    }

    /// Tables without a key whose events are held back, with the version of the watch list from which on.
    pub fn held(&self) -> HashMap<TableId, (String, u64)> {
        let inner = self.lock();
        let held = inner.copies.iter().filter(|copy| !copy.keyed && copy.phase != Phase::Waiting && copy.watched);
        held.map(|copy| (copy.state.id.clone(), (copy.state.copy.clone(), copy.generation))).collect()
    }

    /// All rows of a table without a key are published.
    pub fn is_read(&self, copy: &str) -> bool {
        self.with(copy, |copy| copy.is_done()).unwrap_or(false)
    }

    /// A whole read is of no use: nobody can tell which transactions it sees. It is read again.
    pub fn reject_whole(&self, copy: &str) {
        self.with(copy, |copy| read_whole_again(copy.ranges.get_mut(0)));
    }

    /// What a commit keeps: copies in progress, settled tables, whether these have changed, and the version that it makes durable.
    pub fn to_keep(&self) -> (Vec<CopyState>, Tables, bool, u64) {
        let mut inner = self.lock();
        let changed = std::mem::take(&mut inner.tables_changed);
        (inner.copies.iter().map(Copy::kept).collect(), inner.tables.clone(), changed, inner.version)
    }

    /// Whether something waits to be committed besides events.
    pub fn wants_commit(&self) -> bool {
        let inner = self.lock();
        inner.version > inner.committed
    }

    /// A version is durable.
    pub fn committed(&self, version: u64) {
        self.lock().committed = version;
        self.committed.send_replace(version);
    }

    /// How a run that only copies has ended.
    ///
    /// # Errors
    /// Definite, with the tables that could not be copied.
    pub fn outcome(&self) -> Result<(), RunError> {
        let inner = self.lock();
        let failed = inner.tables.iter().filter_map(|(id, settled)| match settled {
            Settled::Failed { why } => Some(format!("{id}: {why}")),
            _ => None,
        });
        let failed: Vec<String> = failed.collect();
        if failed.is_empty() {
            return Ok(());
        }
        Err(RunError::definite(format!("not every table could be copied: {}", failed.join("; "))))
    }
}
