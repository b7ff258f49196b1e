//! The publisher: a thread of its own that owns the sink, stages encoded batches, and decides when to commit.
//!
//! A commit is made as soon as the stream pauses, else when enough bytes or time have gathered, and always between
//! transactions, unless a transaction is so large or slow that it must be published in parts: then the checkpoint says how
//! many of its rows are out, and a reader of committed records sees it grow.
//!
//! Guarantees: the position in a checkpoint is exactly that of the records staged before it; `confirm` is called only after a
//! commit, and only with whole transactions.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::mem;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rowcast_core::{Confirm, Inside, LogPosition, Position, Transaction};
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::PipelineOptions;
use super::encode::{Encoded, Progress};
use crate::checkpoint::Checkpoint;
use crate::error::RunError;
use crate::format::json;
use crate::route;
use crate::sink::{OpenSink, OpenedSink, Sink};

/// Encoded batches that may wait for the publisher; the slots bound them further.
const JOBS: usize = 16;
/// A pause shorter than this doesn't end a busy stretch.
const QUIET: Duration = Duration::from_millis(10);
/// Records a second from which a stretch is busy. Below, a commit is made at the first pause: a Kafka commit costs some
/// milliseconds of the client and the broker together, so a few hundred a second would be all that they do.
const BUSY: f64 = 5_000.0;
/// The shortest time between commits: many single-row transactions a second share one.
const BREATH: Duration = Duration::from_millis(4);
/// How long a transaction may stay open in the sink while its rest is awaited, before it is published in parts.
const LONGEST_WAIT: Duration = Duration::from_secs(4);
/// Bytes of the first commit of a run. The size doubles with each commit that is quick and halves with each that is slow, so
/// that what is staged can be delivered within the transaction's time-out however slow the sink is: a size that is never
/// delivered in time would be tried for ever.
const FIRST_COMMIT: usize = 1 << 20;
/// The smallest size that slow commits lead to.
const LEAST_COMMIT: usize = 64 << 10;
/// A commit that takes less is quick, one that takes more is slow.
const QUICK: Duration = Duration::from_millis(500);
const SLOW: Duration = Duration::from_secs(2);
/// How often a position that moved without events is committed.
const IDLE_COMMIT: Duration = Duration::from_secs(10);
/// How often the sink is looked after while nothing happens.
const SERVE: Duration = Duration::from_millis(500);

/// An encoded batch, or being encoded.
pub type Job = JoinHandle<Result<Staged, RunError>>;

/// Output buffers, used again.
#[derive(Debug, Clone, Default)]
pub struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

impl Buffers {
    /// Buffers kept, and the largest one that is.
    const KEPT: usize = 4;
    const LARGEST: usize = 4 << 20;

    /// An empty buffer.
    pub fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < Self::KEPT && buffer.capacity() <= Self::LARGEST {
            buffer.clear();
            kept.push(buffer);
        }
    }
}

/// An encoded batch whose buffer goes back to its pool.
#[derive(Debug)]
pub struct Staged {
    encoded: Encoded,
    pool: Buffers,
}

impl Staged {
    /// Ties an encoded batch to the pool of its buffer.
    pub fn new(encoded: Encoded, pool: Buffers) -> Self {
        Self { encoded, pool }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        self.pool.give_back(mem::take(&mut self.encoded.buf));
    }
}

/// What the publisher learns once the source is open.
pub struct Started {
    /// Where the stream begins.
    pub position: Position,
    /// The server's identity, for the checkpoint.
    pub identity: Option<String>,
    /// There was no checkpoint with a position: one is committed before anything is streamed.
    pub first: bool,
    /// The way back to the source.
    pub confirm: Box<dyn Confirm>,
}

/// The pipeline's ends of the channels to a publisher.
pub struct Link {
    /// The checkpoint, once the sink is open.
    pub open: oneshot::Receiver<Option<Checkpoint>>,
    /// Tells the publisher that the source is open; dropped if it never will be.
    pub start: oneshot::Sender<Started>,
    /// Batches, in order. Dropped at the end: the publisher then commits what it has.
    pub jobs: mpsc::Sender<Job>,
    /// How it ended.
    pub done: oneshot::Receiver<Result<(), RunError>>,
}

/// Starts a publisher's thread.
pub fn spawn<O: OpenSink>(mut opener: O, options: PipelineOptions) -> Link {
    let (opened, open) = oneshot::channel();
    let (start, started) = oneshot::channel();
    let (jobs, waiting) = mpsc::channel(JOBS);
    let (ended, done) = oneshot::channel();
    let runtime = Handle::current();
    let thread = std::thread::Builder::new().name(format!("publish-{}", options.name));
    let spawned = thread.spawn(move || {
        let publish = || {
            let OpenedSink { sink, checkpoint } = opener.open()?;
            if opened.send(checkpoint).is_err() {
                return Ok(());
            }
            match runtime.block_on(started) {
                Ok(started) => Publisher::new(sink, started, options, runtime).run(waiting),
                Err(_) => Ok(()),
            }
        };
        let _ = ended.send(publish());
    });
    if let Err(error) = spawned {
        // the dropped channels end the run; the reason is worth a line
        tracing::error!(%error, "can't start a thread");
    }
    Link { open, start, jobs, done }
}

struct Publisher {
    sink: Box<dyn Sink>,
    confirm: Box<dyn Confirm>,
    options: PipelineOptions,
    runtime: Handle,
    identity: Option<String>,
    /// The first checkpoint is still to be written.
    first: bool,
    names: json::SourceNames,
    /// Table versions whose schema was sent in this run.
    announced: HashSet<String>,
    log: LogPosition,
    /// The partly published transaction of the checkpoint, until it comes by.
    pending: Option<Inside>,
    /// The transaction in progress and its last row staged.
    open: Option<(Arc<Transaction>, u64)>,
    staged: Gathered,
    last_commit: Instant,
    /// Records a second, as the last commits saw it.
    rate: f64,
    /// Bytes after which a commit is due, as the last commits allow.
    commit_bytes: usize,
}

/// What has gathered since the last commit.
#[derive(Debug, Default)]
struct Gathered {
    records: usize,
    bytes: usize,
    /// When the first and the last of the records were staged.
    span: Option<(Instant, Instant)>,
    /// The position moved.
    moved: bool,
}

impl Publisher {
    fn new(sink: Box<dyn Sink>, started: Started, options: PipelineOptions, runtime: Handle) -> Self {
        let Started { position, identity, first, confirm } = started;
        let commit_bytes = options.commit_bytes.min(FIRST_COMMIT);
        Self {
            sink,
            confirm,
            names: json::SourceNames { name: options.name.clone(), kind: options.kind },
            options,
            runtime,
            identity,
            first,
            announced: HashSet::new(),
            log: position.log,
            pending: position.inside,
            open: None,
            staged: Gathered::default(),
            last_commit: Instant::now(),
            rate: 0.0,
            commit_bytes,
        }
    }

    fn run(mut self, mut jobs: mpsc::Receiver<Job>) -> Result<(), RunError> {
        if self.first {
            // from now on a restart goes on here, whatever happens
            self.commit()?;
        }
        loop {
            let job = match jobs.try_recv() {
                Ok(job) => job,
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => {
                    let wait = self.paused()?;
                    match self.runtime.block_on(async { tokio::time::timeout(wait, jobs.recv()).await }) {
                        Ok(Some(job)) => job,
                        Ok(None) => break,
                        Err(_) => continue,
                    }
                }
            };
            let staged = self
                .runtime
                .block_on(job)
                .map_err(|error| RunError::definite(format!("the encoder failed: {error}: a defect of rowcast")))??;
            self.stage(&staged.encoded)?;
        }
        self.finish()
    }

    /// Stages a batch, with commits between its transactions when they are due.
    fn stage(&mut self, encoded: &Encoded) -> Result<(), RunError> {
        self.announce(encoded)?;
        let mut from = 0;
        for (to, progress) in &encoded.progress {
            self.stage_records(encoded, from..*to)?;
            from = *to;
            self.advance(progress)?;
            if self.open.is_none() && self.is_due() {
                self.commit()?;
            }
        }
        self.stage_records(encoded, from..encoded.records.len())?;
        if self.open.is_some() && self.must_split() {
            self.commit()?;
        }
        Ok(())
    }

    fn stage_records(&mut self, encoded: &Encoded, records: Range<usize>) -> Result<(), RunError> {
        if records.is_empty() {
            return Ok(());
        }
        let end = |range: &Option<Range<usize>>| range.as_ref().map_or(0, Range::len);
        let slice = encoded.records.get(records.clone()).unwrap_or(&[]);
        self.staged.bytes += slice.iter().map(|record| end(&record.key) + end(&record.value)).sum::<usize>();
        self.staged.records += records.len();
        let now = Instant::now();
        self.staged.span = Some((self.staged.span.map_or(now, |(first, _)| first), now));
        self.sink.stage(encoded, records)
    }

    /// Sends the schemas of table versions that weren't met in this run.
    fn announce(&mut self, encoded: &Encoded) -> Result<(), RunError> {
        for destination in &encoded.destinations {
            if let Some((table, fingerprint)) = &destination.table
                && !self.announced.contains(fingerprint)
            {
                let mut value = Vec::new();
                json::schema(&mut value, &self.names, table);
                self.sink.stage_schema(&route::schema_topic(&self.options.name), fingerprint, &value)?;
                self.announced.insert(fingerprint.clone());
                let columns = table.columns.len();
                tracing::debug!(source = %self.options.name, table = %table.name, columns, fingerprint, "table version");
            }
        }
        Ok(())
    }

    fn advance(&mut self, progress: &Progress) -> Result<(), RunError> {
        match progress {
            Progress::Begin(transaction) => {
                let same = self.open.as_ref().filter(|(open, _)| open.pos == transaction.pos).map(|(_, rows)| *rows);
                let published = self.pending.take_if(|pending| pending.transaction == transaction.pos);
                let rows = same.or(published.map(|inside| inside.rows)).unwrap_or(0);
                self.open = Some((Arc::clone(transaction), rows));
            }
            Progress::Rows(row) => {
                if let Some((_, rows)) = &mut self.open {
                    *rows = (*rows).max(*row);
                    self.staged.moved = true;
                }
            }
            Progress::Commit(mark, _) => {
                self.open = None;
                self.log.advance(mark).map_err(|error| RunError::definite(error.to_string()))?;
                self.staged.moved = true;
            }
            Progress::Heartbeat(position, _) => {
                if self.log.partial_cmp(position) == Some(Ordering::Less) {
                    self.log = position.clone();
                    self.staged.moved = true;
                }
            }
        }
        Ok(())
    }

    /// Enough has gathered: commit at the next transaction's end.
    fn is_due(&self) -> bool {
        self.staged.bytes >= self.commit_bytes
            || self.staged.span.is_some_and(|(first, _)| first.elapsed() >= self.options.commit_interval)
    }

    /// The transaction in progress is too large or too slow to be published whole.
    fn must_split(&self) -> bool {
        let late = self.staged.span.is_some_and(|(first, _)| first.elapsed() >= LONGEST_WAIT);
        // one checkpoint holds one partly published transaction
        self.pending.is_none() && (self.staged.bytes >= self.commit_bytes || late)
    }

    /// Nothing is waiting: commits if that is the moment; returns how long to wait for more.
    fn paused(&mut self) -> Result<Duration, RunError> {
        let since_commit = self.last_commit.elapsed();
        let Some((first, last)) = self.staged.span else {
            if self.staged.moved && self.open.is_none() && since_commit >= IDLE_COMMIT {
                self.commit()?;
            }
            self.sink.serve()?;
            return Ok(SERVE);
        };
        if self.open.is_some() {
            if self.must_split() {
                self.commit()?;
                return Ok(SERVE);
            }
            self.sink.serve()?;
            return Ok(SERVE.min(LONGEST_WAIT));
        }
        let least =
            if self.rate < BUSY { BREATH.saturating_sub(since_commit) } else { QUIET.saturating_sub(last.elapsed()) };
        let wait = least.min(self.options.commit_interval.saturating_sub(first.elapsed()));
        if wait.is_zero() {
            self.commit()?;
        }
        Ok(wait)
    }

    fn position(&self) -> Position {
        let inside = match &self.open {
            Some((transaction, rows)) if *rows > 0 => {
                Some(Inside { transaction: transaction.pos.clone(), rows: *rows })
            }
            _ => self.pending.clone(),
        };
        Position { log: self.log.clone(), inside }
    }

    fn commit(&mut self) -> Result<(), RunError> {
        let position = self.position();
        let checkpoint = Checkpoint {
            source: self.options.name.clone(),
            kind: Some(self.options.kind.to_owned()),
            identity: self.identity.clone(),
            position: Some(position),
            owner: self.options.owner.clone(),
        };
        let began = Instant::now();
        self.sink.commit(&checkpoint)?;
        let took = began.elapsed();
        self.commit_bytes = next_size(self.commit_bytes, took, self.options.commit_bytes);
        // the log position lies before the transaction in progress, so the server keeps all of that one
        self.confirm.confirm(&self.log);
        tracing::trace!(source = %self.options.name, records = self.staged.records, bytes = self.staged.bytes, "committed");
        let seen = self.staged.records as f64 / self.last_commit.elapsed().as_secs_f64().max(1e-3);
        self.rate = (self.rate + seen) / 2.0;
        self.staged = Gathered::default();
        self.last_commit = Instant::now();
        Ok(())
    }

    /// The last commit of a run. A transaction of which only a part has come is given up where the sink can take it back, so
    /// that nobody sees half of it; elsewhere its rows are out already, and the checkpoint says so.
    fn finish(&mut self) -> Result<(), RunError> {
        let nothing = self.staged.span.is_none() && !self.staged.moved;
        if nothing || (self.open.is_some() && self.sink.takes_back()) {
            return Ok(());
        }
        self.commit()
    }
}

/// The size of the next commit after one of `size` that took `took`; `most` is the configured one.
fn next_size(size: usize, took: Duration, most: usize) -> usize {
    if took < QUICK {
        size.saturating_mul(2).min(most)
    } else if took > SLOW {
        (size / 2).max(LEAST_COMMIT.min(most))
    } else {
        size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_grow_while_they_are_quick_and_shrink_while_they_are_slow() {
        let most = 16 << 20;
        let after = |start: usize, took: Duration| (0..20).fold(start, |size, _| next_size(size, took, most));
        assert_eq!(after(FIRST_COMMIT, Duration::from_millis(30)), most);
        assert_eq!(after(most, Duration::from_secs(9)), LEAST_COMMIT);
        assert_eq!(after(FIRST_COMMIT, Duration::from_secs(1)), FIRST_COMMIT);
        assert_eq!(next_size(1000, Duration::from_secs(9), 1000), 1000);
    }
}
