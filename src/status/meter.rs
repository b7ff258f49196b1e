//! The meter of a source: what its run is doing, as facts that the run notes and everybody may read.
//!
//! One per source, kept across its restarts. Notes are single stores per batch, sink call or commit, none per row. Facts are
//! of the form "since when": a run that hangs can't tell that it hangs, but the last thing it noted grows old
//! (`super::state` says what follows from that).

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use prometheus_client::metrics::histogram::Histogram;
use rowcast_core::{LogPosition, Look, Offset, Position, Pulse};
use tokio::sync::{Notify, Semaphore};

use super::state::{Facts, Phase};
use crate::backfill::board::Board;
use crate::checkpoint::Checkpoint;
use crate::error::RunErrorClass;

/// Upper ends of the buckets of commit durations, in seconds.
const BUCKETS: [f64; 12] = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0];

/// Asks the sink's server for a sign of life; blocks for some seconds at most. An error is a sentence.
pub type Probe = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What the run waits for that isn't the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Doing {
    /// Opening the sink.
    OpenSink = 1,
    /// Connecting to the database and starting the stream.
    OpenSource = 2,
    /// Handing records to the sink.
    Stage = 3,
    /// Committing.
    Commit = 4,
}

impl Doing {
    fn of(code: u8) -> Option<Self> {
        [Self::OpenSink, Self::OpenSource, Self::Stage, Self::Commit].into_iter().find(|it| *it as u8 == code)
    }
}

/// What is fixed for a source.
#[derive(Debug, Clone)]
pub struct About {
    /// Name.
    pub name: String,
    /// `postgres`, `mysql`, `mariadb`.
    pub kind: &'static str,
    /// `kafka`, `file`, `stdout`.
    pub sink: &'static str,
    /// A connection to the database that is silent for so long is given up.
    pub read_timeout: Duration,
}

/// Up to where everything is published.
#[derive(Debug, Clone, Default)]
pub struct Published {
    /// As the checkpoint has it; none until the source was opened.
    pub position: Option<Position>,
    /// The same as a place in the server's log, if that is known.
    pub offset: Option<Offset>,
    /// When the last published transaction was committed, by the server's clock in microseconds since 1970; 0 if unknown.
    pub commit_us: i64,
}

/// How far behind the server the published position is.
#[derive(Debug, Clone, PartialEq)]
pub struct Lag {
    /// What was seen.
    pub look: Look,
    /// Age of the oldest change that isn't published, at most; none if it isn't known.
    pub seconds: Option<f64>,
    /// When this was measured.
    pub at: Instant,
}

/// What is known of the lag.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The last measurement.
    pub lag: Option<Lag>,
    /// Since when there is none, and why.
    pub unknown: Option<(Instant, String)>,
    /// The server's clock when nothing was behind last; 0 if never.
    caught_up_us: i64,
    /// When a stream without a checkpoint began at the server's end: nothing was behind then.
    began_at_end: Option<Instant>,
}

/// Totals since the process began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Events committed in the sink, those of copies included.
    pub rows: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Commits.
    pub commits: u64,
    /// Runs that were started after a failed one.
    pub restarts: u64,
    /// Events that could not be delivered, and were left out or became dead letters.
    pub poison: u64,
    /// Failed runs by what was done about them: transient, fenced, definite, gap.
    pub errors: [u64; 4],
}

/// The names of [`Totals::errors`].
pub const ERROR_KINDS: [&str; 4] = ["transient", "fenced", "definite", "gap"];

/// The meter of one source.
pub struct Meter {
    /// What is fixed.
    pub about: About,
    born: Instant,
    phase: Mutex<(Phase, SystemTime)>,
    last_error: Mutex<Option<String>>,
    rows: AtomicU64,
    bytes: AtomicU64,
    commits: AtomicU64,
    restarts: AtomicU64,
    poison: AtomicU64,
    errors: [AtomicU64; 4],
    /// Durations of commits, in seconds.
    pub commit_seconds: Histogram,
    /// Milliseconds since `born`, and 1; 0 for never. See [`Meter::clock`].
    doing_since: AtomicU64,
    doing: AtomicU8,
    reading_since: AtomicU64,
    acknowledged: AtomicU64,
    probing_since: AtomicU64,
    /// Commit time of the last transaction that was staged whole.
    staged_us: AtomicI64,
    wants_progress: AtomicBool,
    /// Told when a stream is open.
    pub open: Notify,
    published: Mutex<Published>,
    seen: Mutex<Seen>,
    run: Mutex<Run>,
}

/// What belongs to one run.
#[derive(Default)]
struct Run {
    board: Option<Board>,
    pulse: Option<Pulse>,
    queue: Option<(Arc<Semaphore>, usize)>,
    probe: Option<Probe>,
    probe_failed: Option<String>,
}

/// Nobody listens to the database once this is dropped, be it because a batch came.
struct Reading<'a>(&'a Meter);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.reading_since.store(0, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meter").field("about", &self.about).finish_non_exhaustive()
    }
}

impl Meter {
    /// The meter of a source that starts.
    pub fn new(about: About) -> Self {
        Self {
            about,
            born: Instant::now(),
            phase: Mutex::new((Phase::Starting, SystemTime::now())),
            last_error: Mutex::default(),
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            poison: AtomicU64::new(0),
            errors: Default::default(),
            commit_seconds: Histogram::new(BUCKETS),
            doing_since: AtomicU64::new(0),
            doing: AtomicU8::new(0),
            reading_since: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            probing_since: AtomicU64::new(0),
            staged_us: AtomicI64::new(0),
            wants_progress: AtomicBool::new(false),
            open: Notify::new(),
            published: Mutex::default(),
            seen: Mutex::default(),
            run: Mutex::default(),
        }
    }

    fn clock(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.born).as_millis() as u64 + 1
    }

    fn since(&self, at: &AtomicU64) -> Option<Duration> {
        match at.load(Ordering::Relaxed) {
            0 => None,
            at => Some(Duration::from_millis(self.clock(Instant::now()).saturating_sub(at))),
        }
    }

    // --- the supervisor's side

    /// What the source is doing from now on. A start forgets what the run before it was waiting for.
    pub fn set(&self, phase: Phase) {
        match &phase {
            Phase::Starting => {
                for fact in [&self.doing_since, &self.reading_since, &self.probing_since] {
                    fact.store(0, Ordering::Relaxed);
                }
                let mut run = lock(&self.run);
                // how far its copies were is still of interest
                *run = Run { board: run.board.take(), ..Run::default() };
            }
            Phase::Streaming => *lock(&self.last_error) = None,
            Phase::Waiting { why, .. } => *lock(&self.last_error) = Some(why.clone()),
            Phase::Stopped { .. } => {}
        }
        *lock(&self.phase) = (phase, SystemTime::now());
    }

    /// A run has failed.
    pub fn failed(&self, class: RunErrorClass) {
        let [transient, fenced, definite, gap] = &self.errors;
        let count = match class {
            RunErrorClass::Transient => transient,
            RunErrorClass::Fenced => fenced,
            RunErrorClass::Definite => definite,
            RunErrorClass::Gap => gap,
            RunErrorClass::OutputClosed => return,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// It is started again.
    pub fn restarted(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }

    // --- the pipeline's side

    /// So many events could not be delivered and were left out or became dead letters.
    pub fn poisoned(&self, count: u64) {
        self.poison.fetch_add(count, Ordering::Relaxed);
    }

    /// The run waits for this from now on.
    pub fn enters(&self, doing: Doing, now: Instant) {
        self.doing.store(doing as u8, Ordering::Relaxed);
        self.doing_since.store(self.clock(now), Ordering::Relaxed);
    }

    /// It no longer does.
    pub fn leaves(&self) {
        self.doing_since.store(0, Ordering::Relaxed);
    }

    /// The stream is open, behind a position; `now`: it is the server's end, since there was no checkpoint.
    pub fn opened(&self, position: &Position, now: bool, board: &Board, pulse: Pulse) {
        self.leaves();
        if now {
            lock(&self.seen).began_at_end = Some(Instant::now());
        }
        let mut published = lock(&self.published);
        if published.position.as_ref().is_none_or(|known| known.log != position.log) {
            published.offset = place(&position.log);
        }
        published.position = Some(position.clone());
        drop(published);
        let mut run = lock(&self.run);
        (run.board, run.pulse) = (Some(board.clone()), Some(pulse));
        self.open.notify_one();
    }

    /// Where batches wait: a budget of so many bytes.
    pub fn queue(&self, budget: &Arc<Semaphore>, bytes: usize) {
        lock(&self.run).queue = Some((Arc::clone(budget), bytes));
    }

    /// How the sink can be asked for a sign of life.
    pub fn set_probe(&self, probe: Option<Probe>) {
        self.acknowledged();
        lock(&self.run).probe = probe;
    }

    /// Awaits the source's next batch, and knows meanwhile that it is awaited.
    pub async fn reading<T>(&self, next: impl Future<Output = T>) -> T {
        self.reading_since.store(self.clock(Instant::now()), Ordering::Relaxed);
        let _reading = Reading(self);
        next.await
    }

    /// A transaction was staged whole; it was committed at this time of the server.
    pub fn staged_commit(&self, commit_us: i64) {
        self.staged_us.store(commit_us, Ordering::Relaxed);
    }

    /// A commit is through: a checkpoint at this place of the log, with so many events and bytes.
    pub fn committed(&self, checkpoint: &Checkpoint, at: Offset, rows: usize, bytes: usize, took: Duration) {
        self.leaves();
        self.acknowledged();
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.commit_seconds.observe(took.as_secs_f64());
        let mut published = lock(&self.published);
        if let Some(position) = &checkpoint.position {
            published.offset = place(&position.log).or(known(at)).or(published.offset);
            published.position = Some(position.clone());
        }
        let staged = self.staged_us.load(Ordering::Relaxed);
        published.commit_us = published.commit_us.max(staged);
    }

    /// The stream has come this far, and nothing before it waits to be published.
    pub fn passed(&self, log: &LogPosition, at: Offset) {
        let mut published = lock(&self.published);
        published.offset = place(log).or(known(at)).or(published.offset);
        if published.position.as_ref().is_none_or(|known| known.log != *log || known.inside.is_some()) {
            published.position = Some(Position::boundary(log.clone()));
        }
        let staged = self.staged_us.load(Ordering::Relaxed);
        published.commit_us = published.commit_us.max(staged);
    }

    /// Whether somebody waits to learn how far the server has sent; asked for once.
    pub fn take_wants_progress(&self) -> bool {
        self.wants_progress.load(Ordering::Relaxed) && self.wants_progress.swap(false, Ordering::Relaxed)
    }

    // --- the watcher's side

    /// The server's progress is wanted.
    pub fn want_progress(&self) {
        self.wants_progress.store(true, Ordering::Relaxed);
    }

    /// The sink has answered just now.
    fn acknowledged(&self) {
        self.acknowledged.store(self.clock(Instant::now()), Ordering::Relaxed);
        self.probing_since.store(0, Ordering::Relaxed);
    }

    /// The probe, if the source streams and the sink's last answer is older than this.
    pub fn due_probe(&self, after: Duration) -> Option<Probe> {
        let streaming = matches!(lock(&self.phase).0, Phase::Streaming);
        let due = streaming && self.since(&self.acknowledged).is_none_or(|age| age >= after);
        if due { lock(&self.run).probe.clone() } else { None }
    }

    /// A probe is sent; the first one without an answer counts.
    pub fn probes(&self) {
        let now = self.clock(Instant::now());
        let _ = self.probing_since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// A probe was answered, or failed.
    pub fn probed(&self, result: Result<(), String>) {
        if result.is_ok() {
            self.acknowledged();
        }
        lock(&self.run).probe_failed = result.err();
    }

    /// Notes what was seen on the server when `from` was published. `caught_up` says that what was behind has come since.
    pub fn saw(&self, look: Look, from: Option<&LogPosition>, caught_up: bool) {
        let staged = self.staged_us.load(Ordering::Relaxed);
        let published = {
            let mut published = lock(&self.published);
            // a binlog says where we are only with its next event; at its end that is known without
            if caught_up && published.offset.is_none() && from == published.position.as_ref().map(|it| &it.log) {
                published.offset = look.offset;
            }
            published.clone()
        };
        let mut seen = lock(&self.seen);
        if let Some(began) = seen.began_at_end.take() {
            let ago = began.elapsed().as_micros() as i64;
            seen.caught_up_us = seen.caught_up_us.max(look.now_us.saturating_sub(ago));
        }
        let seconds = if caught_up {
            seen.caught_up_us = look.now_us;
            Some(0.0)
        } else {
            // nothing older than both waits; without them what was read last stands for what is read
            let known = published.commit_us.max(seen.caught_up_us);
            let oldest = if known > 0 { known } else { staged };
            (oldest > 0).then(|| look.now_us.saturating_sub(oldest).max(0) as f64 / 1e6)
        };
        seen.lag = Some(Lag { look, seconds, at: Instant::now() });
        seen.unknown = None;
    }

    /// The server could not be looked at. True if that is new.
    pub fn saw_nothing(&self, why: String) -> bool {
        let mut seen = lock(&self.seen);
        let first = seen.unknown.is_none();
        match &mut seen.unknown {
            Some((_, last)) => *last = why,
            None => seen.unknown = Some((Instant::now(), why)),
        }
        first
    }

    // --- for whoever asks

    /// The phase and since when it is that.
    pub fn phase(&self) -> (Phase, SystemTime) {
        lock(&self.phase).clone()
    }

    /// Up to where everything is published.
    pub fn published(&self) -> Published {
        lock(&self.published).clone()
    }

    /// What is known of the lag.
    pub fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }

    /// The copies of the run, or of the last one.
    pub fn board(&self) -> Option<Board> {
        lock(&self.run).board.clone()
    }

    /// Bytes that wait between the database and the sink, and their limit.
    pub fn queue_bytes(&self) -> (usize, usize) {
        let run = lock(&self.run);
        run.queue.as_ref().map_or((0, 0), |(budget, all)| (all.saturating_sub(budget.available_permits()), *all))
    }

    /// Totals.
    pub fn totals(&self) -> Totals {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            rows: get(&self.rows),
            bytes: get(&self.bytes),
            commits: get(&self.commits),
            restarts: get(&self.restarts),
            poison: get(&self.poison),
            errors: self.errors.each_ref().map(get),
        }
    }

    /// What the state follows from.
    pub fn facts(&self) -> Facts {
        let (phase, since) = self.phase();
        let run = lock(&self.run);
        let (board, heard) = (run.board.clone(), run.pulse.as_ref().map(Pulse::age));
        let (probing, probe_failed) = (self.since(&self.probing_since), run.probe_failed.clone());
        drop(run);
        let doing = Doing::of(self.doing.load(Ordering::Relaxed)).zip(self.since(&self.doing_since));
        let silent = match (self.since(&self.reading_since), heard) {
            (Some(waits), Some(heard)) => Some(waits.min(heard)),
            _ => None,
        };
        Facts {
            phase,
            since,
            last_error: lock(&self.last_error).clone(),
            doing,
            probing: probing.map(|since| (since, probe_failed)),
            silent,
            tables_left: board.as_ref().map_or(0, Board::left),
            tables_stopped: board.map_or((0, None), |board| {
                let stopped = board.stopped_tables();
                (stopped.len(), stopped.into_iter().next().map(|(_, why)| why))
            }),
            queue: self.queue_bytes(),
        }
    }
}

/// PostgreSQL's positions are places in its log, and so are MySQL's without GTIDs.
fn place(log: &LogPosition) -> Option<Offset> {
    match log {
        LogPosition::Lsn(lsn) => Some(Offset { file: 0, byte: lsn.0 }),
        LogPosition::Binlog(at) => Some(at.place.offset()),
        _ => None,
    }
}

fn known(at: Offset) -> Option<Offset> {
    (at != Offset::default()).then_some(at)
}

#[cfg(test)]
mod tests;
