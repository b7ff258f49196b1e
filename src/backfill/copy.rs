//! One copy on the board: what is left of it, what is on its way, and how it is getting on.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Instant;

use rowcast_core::TableName;
use rowcast_core::backfill::Reading;

use super::board::Part;
use super::control::TableProgress;
use super::merge::{KeyHash, Merge};
use super::state::{CopyState, Settled};

/// Keys to be read again that a checkpoint holds; with more, a restart reads the table from its start.
const KEPT_REREADS: usize = 5_000;

#[derive(Debug)]
pub(super) struct Range {
    /// What isn't published; none at the end.
    pub(super) rest: Option<String>,
    /// What isn't read, if pieces are still on their way to the publisher: none in it at the end.
    pub(super) ahead: Option<Option<String>>,
    pub(super) epoch: u32,
    pub(super) busy: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Waiting,
    Preparing,
    Reading,
    /// It ends without being complete: the events that were held for it are published first.
    Ending,
}

/// What follows a copy that ends without being complete.
#[derive(Debug, Clone)]
pub(super) struct Ending {
    /// What becomes of the table; none if it is gone.
    pub(super) settled: Option<Settled>,
    /// The copy that takes its place.
    pub(super) next: Option<CopyState>,
}

#[derive(Debug)]
pub(super) struct Copy {
    pub(super) state: CopyState,
    pub(super) phase: Phase,
    pub(super) name: Option<TableName>,
    pub(super) keyed: bool,
    pub(super) merge: Merge,
    /// Batches of this version of the watch list and later have all touches of the table.
    pub(super) generation: u64,
    pub(super) watched: bool,
    pub(super) ranges: Vec<Range>,
    /// Keys that a reader is reading.
    pub(super) asked: HashSet<KeyHash>,
    /// Keys whose last change no read sees yet (a commit that waits for a standby): when to look again.
    pub(super) later: HashMap<KeyHash, Instant>,
    pub(super) readings: Vec<Weak<Reading>>,
    /// Reads that have been begun and whose snapshot isn't known yet.
    pub(super) beginning: usize,
    pub(super) last_reading: Option<Arc<Reading>>,
    pub(super) speed: Speed,
    /// In [`Phase::Ending`].
    pub(super) ending: Option<Ending>,
    /// It is read to its end, and its last rows are held back until another table has some.
    pub(super) held_back: bool,
    /// A read was refused, since more changed meanwhile than is remembered: nothing of it is held back.
    pub(super) hurried: bool,
}

/// Rows a second, over the last moments.
#[derive(Debug)]
pub(super) struct Speed {
    pub(super) since: Instant,
    pub(super) rows: u64,
    pub(super) shown: f64,
}

impl Copy {
    pub(super) fn new(state: CopyState) -> Self {
        let speed = Speed { since: Instant::now(), rows: state.rows, shown: 0.0 };
        Self {
            state,
            phase: Phase::Waiting,
            name: None,
            keyed: true,
            merge: Merge::new(true),
            generation: 0,
            watched: false,
            ranges: Vec::new(),
            asked: HashSet::new(),
            later: HashMap::new(),
            readings: Vec::new(),
            beginning: 0,
            last_reading: None,
            speed,
            ending: None,
            held_back: false,
            hurried: false,
        }
    }

    /// The state as a checkpoint has it.
    pub(super) fn kept(&self) -> CopyState {
        let mut state = self.state.clone();
        if self.phase == Phase::Reading {
            state.ranges = Some(self.ranges.iter().filter_map(|range| range.rest.clone()).collect());
            let rereads = self.merge.rereads();
            state.incomplete = rereads.len() > KEPT_REREADS;
            state.reread = if state.incomplete { Vec::new() } else { rereads.values().cloned().collect() };
        }
        state
    }

    /// Whether a part still counts: its range wasn't taken up again since it was taken.
    pub(super) fn is_current(&self, part: &Part) -> bool {
        let same = |index: usize, epoch: u32| self.ranges.get(index).is_some_and(|range| range.epoch == epoch);
        self.phase == Phase::Reading
            && match part {
                Part::Range { index, epoch } => same(*index, *epoch),
                Part::Whole { epoch } => same(0, *epoch),
                Part::Keys(_) => true,
            }
    }

    /// The ranges mean nothing any more: the copy begins anew, behind another look at what must be visible to it.
    pub(super) fn start_over(&mut self) {
        self.state.start_over();
        self.merge.restart();
        self.ranges.clear();
        self.asked.clear();
        self.later.clear();
        self.held_back = false;
        if self.phase != Phase::Ending {
            self.phase = Phase::Waiting;
        }
    }

    /// Whether events of its table may be held for it.
    pub(super) fn holds(&self) -> bool {
        !self.keyed && self.watched
    }

    pub(super) fn is_done(&self) -> bool {
        self.phase == Phase::Reading
            && self.ranges.iter().all(|range| range.rest.is_none())
            && self.merge.rereads().is_empty()
            && !self.merge.is_overflown()
    }

    /// No row of it will be published any more.
    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Ending || self.is_done()
    }

    pub(super) fn progress(&self) -> TableProgress {
        let state = match (self.state.paused && self.phase != Phase::Ending, self.phase) {
            (true, _) => "paused",
            (false, Phase::Reading) => "reading",
            (false, Phase::Ending) => "ending",
            (false, _) => "waiting",
        };
        let rows = self.state.rows;
        // what is left, by ranges where the estimate is wrong or missing
        let left = self.ranges.iter().filter(|range| range.rest.is_some()).count();
        let by_ranges = if self.state.planned > 0 && self.phase == Phase::Reading {
            Some(100.0 * (self.state.planned.saturating_sub(left)) as f64 / self.state.planned as f64)
        } else {
            None
        };
        let estimate = self.state.estimate.map(|estimate| if left > 0 { estimate.max(rows + 1) } else { rows });
        let percent = match (estimate, by_ranges) {
            (Some(0), _) => Some(100.0),
            (Some(estimate), _) => Some(100.0 * rows as f64 / estimate as f64),
            (None, by_ranges) => by_ranges,
        };
        let speed = self.speed.shown;
        let seconds_left = estimate
            .filter(|_| speed >= 1.0)
            .map(|estimate| (estimate.saturating_sub(rows) as f64 / speed).ceil() as u64);
        TableProgress {
            table: self.state.id.to_string(),
            state: state.to_owned(),
            rows,
            bytes: self.state.bytes,
            estimated_rows: estimate,
            percent,
            rows_per_second: speed,
            seconds_left,
            dropped: self.state.dropped,
            reread: self.merge.rereads().len() as u64,
            why: None,
        }
    }
}

/// A reader leaves a range, unless it was taken from it already.
pub(super) fn release(range: Option<&mut Range>, epoch: u32, left: Option<Option<String>>) {
    let Some(range) = range.filter(|range| range.epoch == epoch) else { return };
    match left {
        Some(left) => (range.busy, range.ahead) = (false, Some(left)),
        None => read_again(Some(range)),
    }
}

pub(super) fn read_again(range: Option<&mut Range>) {
    if let Some(range) = range {
        range.epoch += 1;
        (range.busy, range.ahead) = (false, None);
    }
}

impl Range {
    /// Where reading goes on.
    pub(super) fn unread(&self) -> Option<&str> {
        match &self.ahead {
            Some(ahead) => ahead.as_deref(),
            None => self.rest.as_deref(),
        }
    }
}
