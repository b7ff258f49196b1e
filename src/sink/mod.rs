//! Sinks: where records go, and where the checkpoint of a source is kept with them.
//!
//! Opening fences an older writer first and reads the checkpoint second, and hands out both together: there is no way to
//! get the checkpoint without having fenced, nor to write without having read it.

pub mod kafka;
pub mod lines;
mod rotate;

use std::ops::Range;

use crate::checkpoint::Checkpoint;
use crate::error::RunError;
use crate::pipeline::Encoded;
use crate::status::Probe;

/// Which parts of a checkpoint that seldom change are others than at the last commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changed {
    /// The list of settled tables.
    pub tables: bool,
    /// What is kept of the tables' columns.
    pub schemas: bool,
}

/// An open sink and the checkpoint that it holds.
pub struct OpenedSink {
    /// The sink, owned by this process.
    pub sink: Box<dyn Sink>,
    /// The last committed checkpoint; none if this source has never been run.
    pub checkpoint: Option<Checkpoint>,
    /// What further checkpoints have as theirs.
    pub generation: u64,
}

/// How a source's sink is opened; again for each run.
pub trait OpenSink: Send + 'static {
    /// Fences the older writer, then reads the checkpoint. Blocks; called on the publisher's thread. With `anew` it doesn't matter
    /// that a checkpoint is missing which was there once.
    ///
    /// # Errors
    /// Definite if a later process owns the source, or if only an operator can help; a gap if the checkpoint of a source that has
    /// streamed is gone; transient otherwise.
    fn open(&mut self, anew: bool) -> Result<OpenedSink, RunError>;
}

/// Where records are staged and committed together with the checkpoint.
///
/// Used by one thread. After an error it is dropped; the next run opens it anew and believes the checkpoint.
pub trait Sink {
    /// Is told of records before they are staged: what it needs to know of their topics it learns for all of them at once.
    ///
    /// # Errors
    /// As `stage`.
    fn prepare(&mut self, encoded: &Encoded, records: Range<usize>) -> Result<(), RunError>;

    /// The largest record, key and value together in bytes, that a topic takes.
    ///
    /// # Errors
    /// As `stage`.
    fn largest(&mut self, topic: &str) -> Result<usize, RunError>;

    /// Takes records in order, for which it was prepared. They need not be visible to anybody before `commit`.
    ///
    /// # Errors
    /// Nothing of what was staged since the last commit may be relied on.
    fn stage(&mut self, encoded: &Encoded, records: Range<usize>) -> Result<(), RunError>;

    /// Takes a table's schema, which is sent when the table version is first met; `topic` is the source's schema topic.
    ///
    /// # Errors
    /// As `stage`.
    fn stage_schema(&mut self, topic: &str, key: &str, value: &[u8]) -> Result<(), RunError>;

    /// Makes everything staged and the checkpoint durable: together where the sink has transactions, else the events first.
    ///
    /// # Errors
    /// The outcome may be unknown: only the checkpoint read at the next opening says it.
    fn commit(&mut self, checkpoint: &Checkpoint, changed: Changed) -> Result<(), RunError>;

    /// Lets the sink work while nothing is to be done, and reports what went wrong meanwhile.
    ///
    /// # Errors
    /// As `stage`.
    fn serve(&mut self) -> Result<(), RunError>;

    /// True if what was staged and not committed vanishes when the sink is dropped.
    fn takes_back(&self) -> bool;

    /// How a server behind it can be asked for a sign of life from another thread; none if there is no server.
    fn probe(&self) -> Option<Probe> {
        None
    }
}
