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
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rowcast_core::{Confirm, Inside, LogPosition, Position, Transaction};
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::PipelineOptions;
use super::copies::Copies;
use super::encode::{Encoded, Encoder, Progress, Touched};
use crate::backfill::board::Board;
use crate::backfill::coordinator::Message;
use crate::checkpoint::Checkpoint;
use crate::error::RunError;
use crate::format::json;
use crate::route;
use crate::sink::{OpenSink, OpenedSink, Sink};

/// Encoded batches that may wait for the publisher; the slots bound them further.
const JOBS: usize = 16;
/// Pieces of reads that may be on their way to the publisher.
const PIECES: usize = 8;
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
/// The size while tables are copied: the stream's events wait for the commit before theirs, so that one must not take long.
const COPYING_COMMIT: usize = 2 << 20;
/// How long the publisher sleeps at most while rows of a copy wait for the stream.
const COPYING: Duration = Duration::from_millis(50);
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
    /// What is being copied.
    pub board: Board,
    /// Encodes what belongs to copies.
    pub encoder: Arc<Encoder>,
}

/// The pipeline's ends of the channels to a publisher.
pub struct Link {
    /// The checkpoint, once the sink is open.
    pub open: oneshot::Receiver<Option<Checkpoint>>,
    /// Tells the publisher that the source is open; dropped if it never will be.
    pub start: oneshot::Sender<Started>,
    /// Batches, in order. Dropped at the end: the publisher then commits what it has.
    pub jobs: mpsc::Sender<Job>,
    /// What was read of tables.
    pub pieces: mpsc::Sender<Message>,
    /// How it ended.
    pub done: oneshot::Receiver<Result<(), RunError>>,
}

/// Starts a publisher's thread.
pub fn spawn<O: OpenSink>(mut opener: O, options: PipelineOptions) -> Link {
    let (opened, open) = oneshot::channel();
    let (start, started) = oneshot::channel();
    let (jobs, waiting) = mpsc::channel(JOBS);
    let (pieces, read) = mpsc::channel(PIECES);
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
                Ok(started) => Publisher::new(sink, started, options, runtime).run(waiting, read),
                Err(_) => Ok(()),
            }
        };
        let _ = ended.send(publish());
    });
    if let Err(error) = spawned {
        // the dropped channels end the run; the reason is worth a line
        tracing::error!(%error, "can't start a thread");
    }
    Link { open, start, jobs, pieces, done }
}

/// What a publisher waits for.
enum Next {
    Job(Option<Job>),
    Message(Message),
    Nothing,
}

pub(super) struct Publisher {
    pub(super) sink: Box<dyn Sink>,
    pub(super) confirm: Box<dyn Confirm>,
    pub(super) options: PipelineOptions,
    pub(super) runtime: Handle,
    pub(super) board: Board,
    pub(super) encoder: Arc<Encoder>,
    pub(super) copies: Copies,
    /// The place of the last read that was handled.
    pub(super) last_read: Option<String>,
    identity: Option<String>,
    /// The first checkpoint is still to be written.
    first: bool,
    pub(super) names: json::SourceNames,
    /// Table versions whose schema was sent in this run.
    announced: HashSet<String>,
    pub(super) log: LogPosition,
    /// The partly published transaction of the checkpoint, until it comes by.
    pending: Option<Inside>,
    /// The transaction in progress and its last row staged.
    pub(super) open: Option<(Arc<Transaction>, u64)>,
    pub(super) staged: Gathered,
    last_commit: Instant,
    /// Records a second, as the last commits saw it.
    rate: f64,
    /// Bytes after which a commit is due, as the last commits allow.
    commit_bytes: usize,
}

/// What has gathered since the last commit.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    records: usize,
    bytes: usize,
    /// When the first and the last of the records were staged.
    span: Option<(Instant, Instant)>,
    /// The position moved, or something else has to be committed.
    pub(super) moved: bool,
}

impl Publisher {
    fn new(sink: Box<dyn Sink>, started: Started, options: PipelineOptions, runtime: Handle) -> Self {
        let Started { position, identity, first, confirm, board, encoder } = started;
        let commit_bytes = options.commit_bytes.min(FIRST_COMMIT);
        Self {
            sink,
            confirm,
            names: json::SourceNames { name: options.name.clone(), kind: options.kind },
            options,
            runtime,
            board,
            encoder,
            copies: Copies::default(),
            last_read: None,
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

    fn run(mut self, mut jobs: mpsc::Receiver<Job>, mut pieces: mpsc::Receiver<Message>) -> Result<(), RunError> {
        if self.first {
            // from now on a restart goes on here, whatever happens
            self.commit()?;
        }
        // the stream goes first; between any two of its batches there is room for one piece
        loop {
            let mut busy = true;
            match jobs.try_recv() {
                Ok(job) => self.stage_job(job)?,
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => busy = false,
            }
            while self.copies.has_room()
                && let Ok(message) = pieces.try_recv()
            {
                self.copies.take(message);
            }
            busy |= self.publish_copies()?;
            if busy {
                continue;
            }
            self.ask_for_progress();
            let mut wait = self.paused()?;
            if self.is_copying() {
                wait = wait.min(COPYING);
            }
            let next = async {
                tokio::select! {
                    biased;
                    job = jobs.recv() => Next::Job(job),
                    Some(message) = pieces.recv(), if self.copies.has_room() => Next::Message(message),
                    () = tokio::time::sleep(wait) => Next::Nothing,
                }
            };
            match self.runtime.block_on(next) {
                Next::Job(Some(job)) => self.stage_job(job)?,
                Next::Job(None) => break,
                Next::Message(message) => self.copies.take(message),
                Next::Nothing => {}
            }
        }
        self.finish()
    }

    fn stage_job(&mut self, job: Job) -> Result<(), RunError> {
        let staged = self
            .runtime
            .block_on(job)
            .map_err(|error| RunError::definite(format!("the encoder failed: {error}: a defect of rowcast")))??;
        self.stage(&staged.encoded)
    }

    /// Stages a batch, with commits between its transactions when they are due.
    fn stage(&mut self, encoded: &Encoded) -> Result<(), RunError> {
        self.announce(encoded)?;
        let copying = self.board.is_busy();
        if copying {
            self.board.batch_begins(encoded.watch, &self.log);
            self.hold_tables(encoded.watch)?;
        }
        let mut from = 0;
        let mut touches = encoded.touches.iter().peekable();
        for (index, (to, progress)) in encoded.progress.iter().enumerate() {
            self.stage_or_hold(encoded, from..*to)?;
            from = *to;
            while let Some(touched) = touches.next_if(|touched| touched.progress <= index) {
                self.touch(encoded, touched);
            }
            self.advance(progress, encoded.watch, copying)?;
            if self.open.is_none() && self.is_due() {
                self.commit()?;
            }
        }
        self.stage_or_hold(encoded, from..encoded.records.len())?;
        touches.for_each(|touched| self.touch(encoded, touched));
        if copying {
            self.board.batch_ends(encoded.watch, &self.log, self.open.as_ref().map(|(open, _)| &**open));
        }
        if self.open.is_some() && self.must_split() {
            self.commit()?;
        }
        Ok(())
    }

    /// Notes what a change did to a key of a table that is being copied.
    fn touch(&self, encoded: &Encoded, touched: &Touched) {
        let table = encoded.destinations.get(touched.destination as usize).and_then(|it| it.table.as_ref());
        if let (Some((table, _)), Some((transaction, _))) = (table, &self.open) {
            self.board.touch(&table.name, transaction, touched.touch.as_ref());
        }
    }

    pub(super) fn stage_records(&mut self, encoded: &Encoded, records: Range<usize>) -> Result<(), RunError> {
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
    pub(super) fn announce(&mut self, encoded: &Encoded) -> Result<(), RunError> {
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

    fn advance(&mut self, progress: &Progress, watch: u64, copying: bool) -> Result<(), RunError> {
        match progress {
            Progress::Begin(transaction) => {
                let same = self.open.as_ref().filter(|(open, _)| open.pos == transaction.pos).map(|(_, rows)| *rows);
                if copying && same.is_none() {
                    self.board.begin(watch, transaction);
                }
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
            Progress::Commit(mark, end) => {
                self.copies.reached = *end;
                if let Some((transaction, _)) = self.open.take() {
                    self.board.commit(&transaction, *end, behind(transaction.commit_us));
                    self.hold_commit(&transaction, *end);
                }
                self.log.advance(mark).map_err(|error| RunError::definite(error.to_string()))?;
                self.staged.moved = true;
            }
            Progress::Heartbeat(position, at) => {
                self.copies.reached = self.copies.reached.max(*at);
                self.board.reached(Some(*at), Duration::ZERO);
                if self.log.partial_cmp(position) == Some(Ordering::Less) {
                    self.log = position.clone();
                    self.staged.moved = true;
                }
            }
        }
        Ok(())
    }

    /// Enough has gathered: commit at the next transaction's end.
    pub(super) fn is_due(&self) -> bool {
        let most = if self.board.is_busy() { COPYING_COMMIT } else { usize::MAX };
        self.staged.bytes >= self.commit_bytes.min(most)
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
            if self.open.is_none() {
                // nothing is behind if nothing comes
                if since_commit >= SERVE {
                    self.board.reached(None, Duration::ZERO);
                }
                if self.board.wants_commit() || (self.staged.moved && since_commit >= IDLE_COMMIT) {
                    self.commit()?;
                }
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

    pub(super) fn commit(&mut self) -> Result<(), RunError> {
        let position = self.position();
        let (copies, tables, tables_changed, version) = self.board.to_keep();
        let checkpoint = Checkpoint {
            source: self.options.name.clone(),
            kind: Some(self.options.kind.to_owned()),
            identity: self.identity.clone(),
            position: Some(position),
            owner: self.options.owner.clone(),
            copies,
            tables: Some(tables),
        };
        let began = Instant::now();
        self.sink.commit(&checkpoint, tables_changed)?;
        self.board.committed(version);
        self.tell_finished();
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
        let nothing = self.staged.span.is_none() && !self.staged.moved && !self.board.wants_commit();
        if nothing || (self.open.is_some() && self.sink.takes_back()) {
            return Ok(());
        }
        self.commit()
    }
}

/// How long ago a commit of the source was, by our clock.
fn behind(commit_us: i64) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_micros(commit_us.max(0) as u64))
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
