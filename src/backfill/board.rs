//! The board: what the copies of one run are doing. Shared by the readers, who take work from it, and the publisher, who decides
//! what becomes of what they read.
//!
//! Guarantees: a range's rest, the counters and the list of keys to be read again change only when the publisher handles a
//! piece, so that a commit made after that holds exactly what was staged. A lock is held for short, never across an await.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rowcast_core::TableName;
use rowcast_core::backfill::{Offset, Reading};
use tokio::sync::{Notify, watch};

use super::copy::Copy;
use super::merge::{KeyHash, Literals};
use super::state::{CopyState, Settled, TableId, Tables};
use super::watch::WatchList;
use crate::error::RunError;

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
    pub(super) tables: Arc<Tables>,
    pub(super) tables_changed: bool,
    /// Counts what a commit has to keep besides pieces.
    pub(super) version: u64,
    pub(super) committed: u64,
    pub(super) reached: Offset,
    pub(super) lag: Duration,
    /// Copies that may be read at the same time.
    pub(super) parallelism: usize,
    /// Tables of which no event may be published: found anew whenever one of them changes.
    pub(super) stopped: Arc<HashSet<TableId>>,
    /// A row of the snapshot was published that these copies are (`markers`).
    pub(super) begun: bool,
    /// Readers that wait for room for what they have read.
    pub(super) wanting: usize,
}

impl Inner {
    pub(super) fn copy(&mut self, copy: &str) -> Option<&mut Copy> {
        self.copies.iter_mut().find(|it| it.state.copy == copy)
    }

    /// A table is settled, or forgotten.
    pub(super) fn set_table(&mut self, id: &TableId, settled: Option<Settled>) {
        let tables = Arc::make_mut(&mut self.tables);
        match settled {
            Some(settled) => tables.insert(id.clone(), settled),
            None => tables.remove(id),
        };
        self.tables_changed = true;
        self.version += 1;
        self.find_stopped();
    }
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
        let begun = copies.iter().any(|copy| copy.snapshot_begun || copy.rows > 0);
        // of a run that told no markers it is only known how many rows there were
        let copies = copies.into_iter().map(|copy| CopyState { begun: copy.begun || copy.rows > 0, ..copy });
        let inner = Inner {
            copies: copies.map(Copy::new).collect(),
            tables: Arc::new(tables),
            tables_changed: true,
            version: 1,
            committed: 0,
            reached: Offset::default(),
            lag: Duration::ZERO,
            parallelism,
            stopped: Arc::default(),
            begun,
            wanting: 0,
        };
        let board = Self {
            inner: Arc::new(Mutex::new(inner)),
            changed: Arc::new(Notify::new()),
            committed: watch::Sender::new(0),
            watch,
        };
        // the keys of what will be copied are noted from the first batch on, so that nothing has to be waited for
        let mut inner = board.lock();
        inner.find_stopped();
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

    /// Whether a copy is in progress or waiting.
    pub fn is_busy(&self) -> bool {
        !self.lock().copies.is_empty()
    }

    /// What a commit keeps: copies in progress, settled tables, whether these have changed, and the version that it makes durable.
    pub fn to_keep(&self) -> (Vec<CopyState>, Arc<Tables>, bool, u64) {
        let mut inner = self.lock();
        let changed = std::mem::take(&mut inner.tables_changed);
        let snapshot_begun = inner.begun;
        let kept = inner.copies.iter().map(|copy| CopyState { snapshot_begun, ..copy.kept() }).collect();
        (kept, Arc::clone(&inner.tables), changed, inner.version)
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
            Settled::Failed { why } | Settled::Stopped { why } => Some(format!("{id}: {why}")),
            _ => None,
        });
        let failed: Vec<String> = failed.collect();
        if failed.is_empty() {
            return Ok(());
        }
        Err(RunError::definite(format!("not every table could be copied: {}", failed.join("; "))))
    }
}
