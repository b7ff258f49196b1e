//! The publisher: a thread of its own that owns the sink, stages encoded batches, and decides when to commit.
//!
//! A commit is made as soon as the stream pauses, else when enough bytes or time have gathered, and always between
//! transactions, unless a transaction is so large or slow that it must be published in parts: then the checkpoint says how
//! many of its rows are out, and a reader of committed records sees it grow.
//!
//! Guarantees: the position in a checkpoint is exactly that of the records staged before it; `confirm` is called only after a
//! commit, and only with whole transactions.

mod link;

use std::cmp::Ordering;
use std::collections::HashSet;
use std::mem;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rowcast_core::{Confirm, Inside, LogPosition, Position, Prepared, TableName, Transaction};
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

pub use self::link::{Job, Link, Started, spawn};
use super::PipelineOptions;
use super::beat::Beat;
use super::copies::Copies;
use super::encode::{Encoded, Encoder, Progress, Record, Touched};
use super::poison;
use super::size::CommitSize;
use super::stopped::Schemas;
use crate::backfill::board::Board;
use crate::backfill::coordinator::Message;
use crate::backfill::state::TableId;
use crate::checkpoint::Checkpoint;
use crate::error::RunError;
use crate::fail;
use crate::format::json;
use crate::route;
use crate::sink::{Changed, Sink};
use crate::status::Doing;

/// A pause shorter than this doesn't end a busy stretch.
const QUIET: Duration = Duration::from_millis(10);
/// Records a second from which a stretch is busy. Below, a commit is made at the first pause: a Kafka commit costs some
/// milliseconds of the client and the broker together, so a few hundred a second would be all that they do.
const BUSY: f64 = 5_000.0;
/// The shortest time between commits: many single-row transactions a second share one.
const BREATH: Duration = Duration::from_millis(4);
/// How long a transaction may stay open in the sink while its rest is awaited, before it is published in parts.
const LONGEST_WAIT: Duration = Duration::from_secs(4);
/// The size while tables are copied: the stream's events wait for the commit before theirs, so that one must not take long.
const COPYING_COMMIT: usize = 2 << 20;
/// How long the publisher sleeps at most while rows of a copy wait for the stream.
const COPYING: Duration = Duration::from_millis(50);
/// How often a position that moved without events is committed.
const IDLE_COMMIT: Duration = Duration::from_secs(10);
/// How often the sink is looked after while nothing happens.
const SERVE: Duration = Duration::from_millis(500);

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
    /// Of our claim.
    generation: u64,
    /// The first checkpoint is still to be written.
    first: bool,
    begun: Option<oneshot::Sender<()>>,
    void: Vec<TableName>,
    /// Tables of which nothing is published at the moment.
    pub(super) stopped: Arc<HashSet<TableId>>,
    /// What is kept of the tables' columns, and whether that isn't in the checkpoint yet.
    pub(super) schemas: Arc<Schemas>,
    pub(super) schemas_changed: bool,
    /// Table versions whose schema was sent in this run.
    announced: HashSet<String>,
    pub(super) poison: poison::Met,
    pub(super) log: LogPosition,
    /// Of `log`; the same for a whole run.
    timeline: Option<u32>,
    /// What was prepared before `log` and hasn't ended.
    prepared: Vec<Prepared>,
    /// What the transaction in progress does to that at its end.
    preparing: Option<Preparing>,
    /// The partly published transaction of the checkpoint, until it comes by.
    pending: Option<Inside>,
    /// The transaction in progress and its last row staged.
    pub(super) open: Option<(Arc<Transaction>, u64)>,
    pub(super) staged: Gathered,
    last_commit: Instant,
    /// Records a second, as the last commits saw it.
    rate: f64,
    size: CommitSize,
    beat: Beat,
}

/// What the end of a transaction does to the prepared ones.
#[derive(Debug)]
enum Preparing {
    One(Prepared),
    Settled(Box<str>),
}

/// What has gathered since the last commit.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    records: usize,
    bytes: usize,
    /// Of these, what was staged before the transaction in progress.
    earlier: usize,
    /// When the first and the last of the records were staged.
    span: Option<(Instant, Instant)>,
    /// The position moved, or something else has to be committed.
    pub(super) moved: bool,
}

impl Publisher {
    fn new(
        (sink, generation): (Box<dyn Sink>, u64),
        started: Started,
        options: PipelineOptions,
        runtime: Handle,
    ) -> Self {
        let Started { position, identity, first, begun, void, confirm, board, encoder, schemas } = started;
        let size = CommitSize::new(&options.commit_size, options.commit_bytes, Instant::now());
        let stopped = board.stopped();
        let beat = Beat::new(encoder.heartbeat_interval(), Instant::now());
        Self {
            sink,
            confirm,
            options,
            runtime,
            board,
            encoder,
            copies: Copies::default(),
            last_read: None,
            identity,
            generation,
            first,
            begun: Some(begun),
            void,
            stopped,
            // the claim has written them
            schemas,
            schemas_changed: false,
            announced: HashSet::new(),
            poison: poison::Met::default(),
            log: position.log,
            timeline: position.timeline,
            prepared: position.prepared,
            preparing: None,
            pending: position.inside,
            open: None,
            staged: Gathered::default(),
            last_commit: Instant::now(),
            rate: 0.0,
            size,
            beat,
        }
    }

    fn run(mut self, mut jobs: mpsc::Receiver<Job>, mut pieces: mpsc::Receiver<Message>) -> Result<(), RunError> {
        if self.first {
            // from now on a restart goes on here, whatever happens
            self.begin_source()?;
            self.commit()?;
        }
        // nobody listens any more if the run was stopped meanwhile
        let _ = self.begun.take().map(|begun| begun.send(()));
        // before the first event of the table, so that none is left out behind the void
        self.void_copies()?;
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

    /// Says that the source begins to stream; behind a gap, that what was published before is void.
    fn begin_source(&mut self) -> Result<(), RunError> {
        let (pos, gap) = (self.log.to_string(), self.options.anew.is_some());
        // all at once: their topics are looked up together
        let mut voids = Encoded::default();
        for name in mem::take(&mut self.void) {
            let text = self.encoder.own_text(&pos, &format!("gap-{:016x}", route::fnv1a(&name.to_string())));
            self.encoder.encode_void(&mut voids, &name, &text);
        }
        self.stage_records(&voids, 0..voids.records.len())?;
        let mut value = Vec::new();
        json::source_marker(&mut value, &self.options.format.names, &self.options.db, &pos, gap);
        self.sink.stage_schema(&route::schema_topic(&self.options.name), "source", &value)
    }

    fn stage_job(&mut self, job: Job) -> Result<(), RunError> {
        let staged = self
            .runtime
            .block_on(job)
            .map_err(|error| RunError::definite(format!("the encoder failed: {error}: a defect of rowcast")))??;
        if let Some((count, reason)) = &staged.encoded.poison {
            self.poisoned(*count, reason);
        }
        self.stage(&staged.encoded)
    }

    /// Stages a batch, with commits between its transactions when they are due.
    fn stage(&mut self, encoded: &Encoded) -> Result<(), RunError> {
        self.announce(encoded)?;
        self.stopped = self.board.stopped();
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
        if self.open.is_none() && self.pending.is_none() && self.staged.span.is_none() {
            self.options.meter.passed(&self.log, self.copies.reached);
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
        let slice = encoded.records.get(records.clone()).unwrap_or(&[]);
        let now = Instant::now();
        if self.staged.records == 0 {
            self.size.begins(now);
        }
        self.staged.bytes += slice.iter().map(Record::size).sum::<usize>();
        self.staged.records += records.len();
        self.staged.span = Some((self.staged.span.map_or(now, |(first, _)| first), now));
        self.options.meter.enters(Doing::Stage, now);
        let staged = self.stage_fitting(encoded, records);
        self.options.meter.leaves();
        staged
    }

    /// Sends the schemas of table versions that weren't met in this run.
    pub(super) fn announce(&mut self, encoded: &Encoded) -> Result<(), RunError> {
        for destination in &encoded.destinations {
            if let Some((table, fingerprint)) = &destination.table
                && !self.announced.contains(fingerprint)
            {
                let mut value = Vec::new();
                json::schema(&mut value, &self.options.format.names, table);
                self.options.meter.enters(Doing::Stage, Instant::now());
                self.sink.stage_schema(&route::schema_topic(&self.options.name), fingerprint, &value)?;
                self.options.meter.leaves();
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
                if let Some(inside) = &published {
                    check_same(inside, transaction)?;
                }
                if same.is_none() {
                    self.preparing = None;
                    self.staged.earlier = self.staged.bytes;
                }
                let rows = same.or(published.map(|inside| inside.rows)).unwrap_or(0);
                self.open = Some((Arc::clone(transaction), rows));
            }
            Progress::Rows(row) => {
                if let Some((_, rows)) = &mut self.open {
                    *rows = (*rows).max(*row);
                    self.staged.moved = true;
                }
            }
            Progress::Prepared(prepared) => self.preparing = Some(Preparing::One(prepared.clone())),
            Progress::Settled(name) => self.preparing = Some(Preparing::Settled(name.clone())),
            Progress::Commit(mark, end) => {
                match self.preparing.take() {
                    Some(Preparing::One(prepared)) => {
                        self.prepared.retain(|known| known.name != prepared.name);
                        self.prepared.push(prepared);
                    }
                    Some(Preparing::Settled(name)) => self.prepared.retain(|known| *known.name != *name),
                    None => {}
                }
                self.copies.reached = *end;
                if let Some((transaction, _)) = self.open.take() {
                    self.options.meter.staged_commit(transaction.commit_us);
                    self.board.commit(&transaction, *end, behind(transaction.commit_us));
                    self.hold_commit(&transaction, *end);
                }
                self.log.advance(mark).map_err(|error| RunError::definite(error.to_string()))?;
                self.staged.moved = true;
            }
            Progress::TableFailed(failure) => self.table_failed(failure)?,
            Progress::Schema(schema) => self.keep_schema(schema),
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
        self.staged.bytes >= self.size.bytes().min(most)
            || self.staged.span.is_some_and(|(first, _)| first.elapsed() >= self.options.commit_interval)
    }

    /// The transaction in progress is too large or too slow to be published whole.
    fn must_split(&self) -> bool {
        let late = self.staged.span.is_some_and(|(first, _)| first.elapsed() >= LONGEST_WAIT);
        // what is before it was not too large by itself; small transactions are whole, however small commits have become
        let large = self.staged.bytes.saturating_sub(self.staged.earlier) >= self.size.bytes();
        // what belongs to no row, as a statement, isn't in the checkpoint's place inside a transaction
        let told = matches!(&self.open, Some((_, 0))) && self.staged.bytes > self.staged.earlier;
        // one checkpoint holds one partly published transaction
        self.pending.is_none() && !told && (large || late)
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
                let moved = self.staged.moved && since_commit >= IDLE_COMMIT;
                if self.board.wants_commit() || moved || self.beat.is_due(Instant::now()) {
                    self.commit()?;
                }
            }
            self.sink.serve()?;
            // one that is due while a transaction is open waits for its end
            let beat = if self.open.is_none() { self.beat.at_most(SERVE, Instant::now()) } else { SERVE };
            return Ok(beat);
        };
        if self.open.is_some() {
            if self.must_split() {
                self.commit()?;
                return Ok(SERVE);
            }
            self.sink.serve()?;
            return Ok(SERVE.min(LONGEST_WAIT));
        }
        // batches that were read and aren't here yet are no pause: a commit for each of them would be slower than they come
        let (queued, _) = self.options.meter.queue_bytes();
        let least = if queued > 0 {
            Duration::MAX
        } else if self.rate < BUSY {
            BREATH.saturating_sub(since_commit)
        } else {
            QUIET.saturating_sub(last.elapsed())
        };
        let wait = least.min(self.options.commit_interval.saturating_sub(first.elapsed()));
        if wait.is_zero() {
            self.commit()?;
        }
        Ok(wait)
    }

    fn position(&self) -> Position {
        let inside = match &self.open {
            Some((transaction, rows)) if *rows > 0 => Some(Inside {
                transaction: transaction.pos.clone(),
                rows: *rows,
                commit_us: Some(transaction.commit_us),
            }),
            _ => self.pending.clone(),
        };
        Position { log: self.log.clone(), inside, timeline: self.timeline, prepared: self.prepared.clone() }
    }

    pub(super) fn commit(&mut self) -> Result<(), RunError> {
        self.stage_heartbeat()?;
        let position = self.position();
        let (copies, tables, tables_changed, version) = self.board.to_keep();
        let checkpoint = Checkpoint {
            source: self.options.name.clone(),
            kind: Some(self.options.kind.to_owned()),
            identity: self.identity.clone(),
            position: Some(position),
            owner: self.options.owner.clone(),
            generation: self.generation,
            copies,
            tables: Some(tables),
            schemas: Arc::clone(&self.schemas),
            topic: self.options.topic.as_ref().map(ToString::to_string),
        };
        let began = Instant::now();
        self.options.meter.enters(Doing::Commit, began);
        let schemas_changed = mem::take(&mut self.schemas_changed);
        self.sink.commit(&checkpoint, Changed { tables: tables_changed, schemas: schemas_changed })?;
        self.board.committed(version);
        self.tell_finished();
        let took = began.elapsed();
        let Gathered { records, bytes, .. } = self.staged;
        self.options.meter.committed(&checkpoint, self.copies.reached, records, bytes, took);
        self.size.done(bytes, took, Instant::now());
        // the log position lies before the transaction in progress, so the server keeps all of that one
        self.confirm.confirm(&self.log);
        fail::point("confirm.done");
        tracing::trace!(source = %self.options.name, records = self.staged.records, bytes = self.staged.bytes, "committed");
        let seen = self.staged.records as f64 / self.last_commit.elapsed().as_secs_f64().max(1e-3);
        self.rate = (self.rate + seen) / 2.0;
        self.staged = Gathered::default();
        self.last_commit = Instant::now();
        Ok(())
    }

    /// A heartbeat, if one is due.
    fn stage_heartbeat(&mut self) -> Result<(), RunError> {
        let now = Instant::now();
        if !self.beat.is_due(now) {
            return Ok(());
        }
        let it = self.encoder.encode_heartbeat();
        self.sink.prepare(&it, 0..it.records.len())?;
        self.sink.stage(&it, 0..it.records.len())?;
        self.beat.sent(now);
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

/// A crash of the server may tear the transaction that is published in part: a server that forgets it (MariaDB) gives its GTID to the
/// next one.
fn check_same(inside: &Inside, transaction: &Transaction) -> Result<(), RunError> {
    match inside.commit_us {
        Some(published) if published != transaction.commit_us => Err(RunError::gap(format!(
            "gap: {} rows of transaction {} are published, which the server doesn't have any more: the transaction that it has under              this name was committed at another time; it crashed while it wrote the first one; repair: set `on_gap: backfill`, which              copies all tables again; or remove the checkpoint to start at the server's current end",
            inside.rows, transaction.pos
        ))),
        _ => Ok(()),
    }
}

/// How long ago a commit of the source was, by our clock.
fn behind(commit_us: i64) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_micros(commit_us.max(0) as u64))
}
