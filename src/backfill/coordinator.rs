//! The readers: as many connections as may read at once, each of which takes work from the board, reads it in chunks of about a
//! second, and hands the pieces to the publisher.
//!
//! Guarantees: memory is bounded by a budget of its own, so that pieces that wait for the stream never starve it; the source is
//! spared as configured (rows a second, share of time, lag); what fails is tried again with growing pauses, and never ends the
//! source: a table that can't be read is settled as failed, with the reason.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rowcast_core::backfill::{Piece, ReadError, Reading, TableReader, Target, What};
use rowcast_core::{Offset, Source};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::answer;
use super::board::{Board, Part, PieceOf, Work};
use super::control::Asked;
use super::merge::{KeyHash, Literals};
use super::report;
use super::state::{CopyState, Settled, TableId};
use crate::config::BackfillConfig;
use crate::error::RunError;
use crate::format::ReadText;
use crate::logging;
use crate::pipeline::{Encoded, Encoder};
use crate::route;

/// How long a chunk should take.
const CHUNK: Duration = Duration::from_secs(1);
/// Rows of the first chunk of a range; later ones by the time that they take.
const FIRST_ROWS: u64 = 5_000;
const LEAST_ROWS: u64 = 100;
/// A read whose pieces find no room for so long is ended, so that its transaction doesn't hold back the server's clean-up.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How often a reader without work, or one that waits, looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// How often progress is logged, and shown on a terminal.
const LOGGED: Duration = Duration::from_secs(5);
const SHOWN: Duration = Duration::from_millis(500);
/// Pauses after a failure, and failures in a row after which a table is given up for this run.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
const MOST_FAILURES: u32 = 20;
/// With so many keys to be read again a chunk ends before its time, so that they don't pile up.
const MANY_REREADS: usize = 250;
/// Ranges that a table is cut into, per reader.
const RANGES_PER_READER: usize = 4;

/// Encoded rows take so many times as much memory as raw ones, until it is known, and at least.
const GROWTH: usize = 3;

/// A piece on its way to the publisher.
pub struct ReadPiece {
    /// What it is.
    pub of: PieceOf,
    /// Its rows, being encoded.
    pub rows: JoinHandle<Result<Encoded, RunError>>,
}

/// What the publisher is told.
pub enum Message {
    /// Rows.
    Piece(ReadPiece),
    /// Something on the board has changed.
    Look,
}

/// What the readers of a run share.
#[derive(Clone)]
pub struct Readers {
    /// The board.
    pub board: Board,
    /// To the publisher.
    pub pieces: mpsc::Sender<Message>,
    /// Bytes that pieces may take before they are published.
    pub budget: usize,
    /// Encodes rows.
    pub encoder: Arc<Encoder>,
    /// Limits.
    pub config: BackfillConfig,
    /// The tables that are captured.
    pub captured: Arc<Vec<TableId>>,
}

/// Starts the readers of a source; they end when the set is dropped.
pub fn start<S: Source>(
    source: &Arc<S>,
    readers: &Readers,
    asked: mpsc::Receiver<Asked>,
    stop: &watch::Receiver<bool>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let permits = Arc::new(Semaphore::new(readers.budget.clamp(1, u32::MAX as usize >> 1)));
    let pace = Arc::new(tokio::sync::Mutex::new(Pace { free_at: tokio::time::Instant::now() }));
    for _ in 0..readers.config.parallelism {
        let it = Reader {
            shared: readers.clone(),
            permits: Arc::clone(&permits),
            pace: Arc::clone(&pace),
            end: Offset::default(),
            first: FIRST_ROWS,
            growth: Arc::new(AtomicUsize::new(GROWTH)),
        };
        tasks.spawn(it.work(Arc::clone(source), stop.clone()));
    }
    tasks.spawn(answer::answer(readers.clone(), asked));
    tasks.spawn(tell(readers.clone()));
    tasks
}

/// Waits until every copy is made, given up or cancelled, and that is in a checkpoint.
pub async fn all_done(board: Board) {
    while board.is_busy() {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    board.durable().await;
}

/// When the next rows may be read.
struct Pace {
    free_at: tokio::time::Instant,
}

struct Reader {
    shared: Readers,
    permits: Arc<Semaphore>,
    pace: Arc<tokio::sync::Mutex<Pace>>,
    /// Where the server's log ended when this reader began its last read.
    end: Offset,
    /// Rows of the next range's first chunk: fewer after a read that took too long.
    first: u64,
    /// How many times as much memory as the raw rows the last piece took when it was encoded; envelopes make much of narrow rows.
    growth: Arc<AtomicUsize>,
}

/// Why a reader stops with what it was doing.
enum Failure {
    /// The read failed.
    Read(ReadError),
    /// The run is ending.
    Ended,
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Failure::Read(error)
    }
}

impl Reader {
    async fn work<S: Source>(mut self, source: Arc<S>, mut stop: watch::Receiver<bool>) {
        let mut connection: Option<S::Reader> = None;
        let (mut pause, mut failures) = (FIRST_PAUSE, 0);
        loop {
            let changed = Arc::clone(&self.shared.board.changed);
            let notified = changed.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            let Some(work) = self.shared.board.take() else {
                // a connection that has nothing to do isn't kept
                let busy = self.shared.board.is_busy();
                if !busy {
                    connection = None;
                }
                tokio::select! {
                    () = notified => {}
                    () = tokio::time::sleep(LOOK_AGAIN), if busy => {}
                }
                continue;
            };
            let copy = work.copy().clone();
            let done = tokio::select! {
                done = self.with_connection(&*source, &mut connection, &work) => done,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            match done {
                Ok(()) => (pause, failures) = (FIRST_PAUSE, 0),
                Err(Failure::Ended) => return,
                Err(Failure::Read(error)) => {
                    failures += 1;
                    if matches!(error, ReadError::Source(_)) {
                        connection = None;
                    }
                    if matches!(error, ReadError::TooSlow(_)) {
                        self.first = (self.first / 4).max(1);
                    }
                    self.failed(&work, &copy, error, failures);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
            // the publisher announces what has begun or ended
            if self.shared.pieces.send(Message::Look).await.is_err() {
                return;
            }
        }
    }

    async fn with_connection<S: Source>(
        &mut self,
        source: &S,
        connection: &mut Option<S::Reader>,
        work: &Work,
    ) -> Result<(), Failure> {
        let mut reader = match connection.take() {
            Some(reader) => reader,
            None => source.reader().await.map_err(ReadError::from)?,
        };
        let done = match work {
            Work::Prepare(copy) => self.prepare(&mut reader, copy).await.map(|()| None),
            Work::Range { copy, index, epoch, rest } => {
                let part = Part::Range { index: *index, epoch: *epoch };
                self.read_range(&mut reader, copy, part, rest.clone()).await
            }
            Work::Whole { copy, epoch } => {
                let part = Part::Whole { epoch: *epoch };
                self.read(&mut reader, copy, &part, What::Whole, "", u64::MAX).await.map(|_| None)
            }
            Work::Keys { copy, keys } => self.read_keys(&mut reader, copy, keys).await.map(|()| None),
        };
        let left = done.as_ref().ok().cloned();
        match &work {
            Work::Prepare(_) => {}
            Work::Range { copy, index, epoch, .. } => {
                let part = Part::Range { index: *index, epoch: *epoch };
                self.shared.board.give_back(&copy.copy, &part, left);
            }
            Work::Whole { copy, epoch } => {
                self.shared.board.give_back(&copy.copy, &Part::Whole { epoch: *epoch }, left);
            }
            Work::Keys { copy, keys } => {
                let part = Part::Keys(keys.iter().map(|(key, _)| *key).collect());
                self.shared.board.give_back(&copy.copy, &part, left);
            }
        }
        // any error but one of the connection leaves it ready
        if !matches!(&done, Err(Failure::Read(ReadError::Source(_)) | Failure::Ended)) {
            *connection = Some(reader);
        }
        done.map(drop)
    }

    /// Says and settles what went wrong.
    fn failed(&self, work: &Work, copy: &CopyState, error: ReadError, failures: u32) {
        let (board, source, table) = (&self.shared.board, self.shared.encoder.source(), copy.id.to_string());
        if matches!(work, Work::Prepare(_)) {
            board.not_ready(&copy.copy);
        }
        let refused = |why: String| {
            tracing::error!(source, table, "can't copy the table: {why}");
            board.settle(&copy.copy, Some(Settled::Failed { why }));
        };
        match error {
            ReadError::Gone => {
                tracing::warn!(source, table, "the table is gone: its copy ends");
                board.settle(&copy.copy, None);
            }
            ReadError::Moved(why) => {
                tracing::info!(source, table, "the table's rows were moved ({why}): it is read from its start");
                board.start_over(&copy.copy);
            }
            ReadError::Refused(why) => refused(why),
            ReadError::Source(error) if !error.is_transient() => refused(error.to_string()),
            ReadError::Source(error) if failures >= MOST_FAILURES => refused(error.to_string()),
            ReadError::Source(error) => tracing::warn!(source, table, "reading the table: {error}; trying again"),
            ReadError::Changed(why) => {
                tracing::info!(source, table, "the table was altered ({why}): reading it as it is now")
            }
            ReadError::TooSlow(why) => {
                tracing::warn!(source, table, "a read took too long ({why}): reading less at once")
            }
        }
    }

    fn target(copy: &CopyState) -> Target {
        let TableId { qualifier, table } = copy.id.clone();
        Target { qualifier, table, filter: copy.filter.clone() }
    }

    /// Plans a copy, has the keys of its changes noted, and waits until a read sees all that happened before.
    async fn prepare<R: TableReader>(&mut self, reader: &mut R, copy: &CopyState) -> Result<(), Failure> {
        let board = &self.shared.board;
        let plan = reader.plan(&Self::target(copy), self.shared.config.parallelism * RANGES_PER_READER).await?;
        if !board.planned(&copy.copy, &plan) {
            return Ok(());
        }
        let first = reader.snapshot().await?;
        board.gate(&copy.copy, &first);
        let (began, mut told) = (Instant::now(), false);
        let mut snapshot = first;
        while let Some(waits_for) = board.waits_for(&copy.copy, &snapshot).filter(|running| !running.is_empty()) {
            if !told && began.elapsed() >= LOGGED {
                told = true;
                let (source, table) = (self.shared.encoder.source(), copy.id.to_string());
                let first: Vec<u64> = waits_for.iter().copied().take(8).collect();
                tracing::info!(source, table, transactions = ?first, "the copy waits for transactions that were in progress when it was asked for");
            }
            tokio::time::sleep(LOOK_AGAIN / 2).await;
            snapshot = reader.snapshot().await?;
        }
        let (source, table, rows) = (self.shared.encoder.source(), copy.id.to_string(), plan.rows);
        let resumed = copy.ranges.is_some() && plan.keyed;
        tracing::info!(source, table, estimated_rows = rows, resumed, "copying the table");
        board.ready(&copy.copy);
        Ok(())
    }

    async fn read_range<R: TableReader>(
        &mut self,
        reader: &mut R,
        copy: &CopyState,
        part: Part,
        rest: String,
    ) -> Result<Option<String>, Failure> {
        let config = &self.shared.config;
        let most = config.rows_per_second.map_or(config.chunk_rows, |most| most.min(config.chunk_rows));
        let (mut rows, mut rest) = (self.first.min(most), Some(rest));
        while let Some(from) = rest {
            self.spare(copy, rows).await;
            if !self.shared.board.goes_on(&copy.copy, &part) || self.shared.board.rereads(&copy.copy) > 0 {
                return Ok(Some(from));
            }
            let began = Instant::now();
            match self.read(reader, copy, &part, What::Range(&from), &from, rows).await {
                Ok((read, left)) => {
                    let took = began.elapsed();
                    let fitting = read as f64 * CHUNK.as_secs_f64() / took.as_secs_f64().max(0.001);
                    let near = (fitting as u64).clamp(rows / 4, rows.saturating_mul(4));
                    rows = near.clamp(LEAST_ROWS.min(rows.saturating_mul(4)), most.max(LEAST_ROWS)).min(most);
                    self.first = self.first.max(rows.min(FIRST_ROWS));
                    rest = left;
                    self.rest(took).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    async fn read_keys<R: TableReader>(
        &mut self,
        reader: &mut R,
        copy: &CopyState,
        keys: &[(KeyHash, Literals)],
    ) -> Result<(), Failure> {
        self.book(keys.len() as u64, true).await;
        let literals: Vec<Literals> = keys.iter().map(|(_, literals)| literals.clone()).collect();
        let part = Part::Keys(keys.iter().map(|(key, _)| *key).collect());
        let tag: String = literals.iter().flatten().cloned().collect();
        self.read(reader, copy, &part, What::Keys(&literals), &tag, u64::MAX).await.map(drop)
    }

    /// One read: the number of rows, and what is left of its range.
    async fn read<R: TableReader>(
        &mut self,
        reader: &mut R,
        copy: &CopyState,
        part: &Part,
        what: What<'_>,
        from: &str,
        rows: u64,
    ) -> Result<(u64, Option<String>), Failure> {
        let board = self.shared.board.clone();
        board.beginning(&copy.copy);
        let began = reader.begin(&Self::target(copy), what, rows).await;
        let reading = match began {
            Ok(reading) => Arc::new(reading),
            Err(error) => {
                board.began(&copy.copy, None);
                return Err(error.into());
            }
        };
        board.began(&copy.copy, Some(&reading));
        self.end = reading.bound;
        let text = Arc::new(self.text(copy, &reading, from));
        let (mut count, mut rest) = (0, Some(from.to_owned()));
        let whole = matches!(part, Part::Whole { .. });
        // the last piece is known only when the next one is asked for
        let mut previous: Option<Piece> = None;
        let mut paid = 0;
        loop {
            let piece = reader.next().await?;
            // no rows: what is left behind it is left behind the one before
            if let (Some(empty), Some(before)) = (&piece, &mut previous)
                && empty.rows == 0
            {
                before.rest.clone_from(&empty.rest);
                continue;
            }
            let last = piece.is_none();
            if let Some(piece) = std::mem::replace(&mut previous, piece) {
                count += piece.rows;
                rest = if whole { (!last).then(|| "more".to_owned()) } else { piece.rest.clone() };
                let asked = match part {
                    Part::Keys(keys) if last => Part::Keys(keys.clone()),
                    Part::Keys(_) => Part::Keys(Vec::new()),
                    part => part.clone(),
                };
                let waited = self.hand_over(copy, asked, &reading, &text, piece, rest.clone()).await?;
                let go_on = whole
                    || matches!(part, Part::Keys(_))
                    || (waited < LONGEST_WAIT
                        && board.rereads(&copy.copy) < MANY_REREADS
                        && board.goes_on(&copy.copy, part));
                if !go_on {
                    break;
                }
                if whole {
                    self.keep_pace(count.saturating_sub(paid)).await;
                    paid = count;
                    if !board.goes_on(&copy.copy, part) {
                        break;
                    }
                }
            }
            if last {
                break;
            }
        }
        reader.end().await?;
        Ok((count, rest))
    }

    fn text(&self, copy: &CopyState, reading: &Reading, from: &str) -> ReadText {
        let hash = route::fnv1a(&[copy.copy.as_str(), from].concat());
        self.shared.encoder.read_text(reading, &format!("r{hash:016x}"))
    }

    /// Encodes a piece and sends it; how long it found no room.
    async fn hand_over(
        &mut self,
        copy: &CopyState,
        part: Part,
        reading: &Arc<Reading>,
        text: &Arc<ReadText>,
        piece: Piece,
        rest: Option<String>,
    ) -> Result<Duration, Failure> {
        let most = self.shared.budget.clamp(1, u32::MAX as usize >> 1);
        let began = Instant::now();
        let raw = piece.batch.memory().max(1);
        let needed = raw.saturating_mul(self.growth.load(Ordering::Relaxed)).clamp(1, most) as u32;
        let held = match Arc::clone(&self.permits).try_acquire_many_owned(needed) {
            Ok(held) => held,
            Err(_) => self.wait_for_room(needed).await?,
        };
        let waited = began.elapsed();
        let of = PieceOf {
            copy: copy.copy.clone(),
            part,
            reading: Arc::clone(reading),
            rest,
            rows: piece.rows,
            bytes: piece.batch.data.len() as u64,
        };
        let (encoder, text, growth) = (Arc::clone(&self.shared.encoder), Arc::clone(text), Arc::clone(&self.growth));
        let rows = tokio::task::spawn_blocking(move || {
            let mut encoded = encoder.encode_read(&piece.batch, &text, Vec::new())?;
            growth.store((encoded.shrunk() / raw + 1).max(GROWTH), Ordering::Relaxed);
            encoded.held = vec![held];
            Ok(encoded)
        });
        match self.shared.pieces.send(Message::Piece(ReadPiece { of, rows })).await {
            Ok(()) => Ok(waited),
            Err(_) => Err(Failure::Ended),
        }
    }

    /// Waits for memory; what the publisher holds back gives way.
    async fn wait_for_room(&self, needed: u32) -> Result<OwnedSemaphorePermit, Failure> {
        let _waits = self.shared.board.wants_room();
        // if there is no room for the message, the publisher has others to wake up for
        let _ = self.shared.pieces.try_send(Message::Look);
        Arc::clone(&self.permits).acquire_many_owned(needed).await.map_err(|_| Failure::Ended)
    }

    /// Waits while the stream is too far behind, and for its share of the rows a second.
    async fn spare(&self, copy: &CopyState, rows: u64) {
        let config = &self.shared.config;
        while self.shared.board.rereads(&copy.copy) == 0 {
            let (reached, lag) = self.shared.board.stream();
            let end = self.end;
            let behind = if reached.file == end.file { end.byte.saturating_sub(reached.byte) } else { 0 };
            if lag <= config.max_lag && behind <= config.max_lag_bytes {
                break;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        while self.shared.board.rereads(&copy.copy) == 0 {
            match self.book(rows, false).await {
                Some(free_at) => {
                    tokio::time::sleep_until(free_at.min(tokio::time::Instant::now() + LOOK_AGAIN / 4)).await
                }
                None => break,
            }
        }
    }

    /// Waits as long as so many rows, which are read already, may take.
    async fn keep_pace(&self, rows: u64) {
        while let Some(free_at) = self.book(rows, false).await {
            tokio::time::sleep_until(free_at).await;
        }
    }

    /// Counts rows against the limit of rows a second; or, unless they are `urgent`, says from when on they may be read.
    async fn book(&self, rows: u64, urgent: bool) -> Option<tokio::time::Instant> {
        let per_second = self.shared.config.rows_per_second?;
        let mut pace = self.pace.lock().await;
        let now = tokio::time::Instant::now();
        if pace.free_at > now && !urgent {
            return Some(pace.free_at);
        }
        pace.free_at = pace.free_at.max(now) + Duration::from_secs_f64(rows as f64 / per_second as f64);
        None
    }

    /// Rests behind a chunk, so that the server is busy with this reader for its share of the time only.
    async fn rest(&self, took: Duration) {
        let load = self.shared.config.max_load;
        if load < 1.0 && load > 0.0 {
            tokio::time::sleep(took.mul_f64(1.0 / load - 1.0)).await;
        }
    }
}

impl Work {
    /// The copy that it is about.
    pub fn copy(&self) -> &CopyState {
        match self {
            Work::Prepare(copy) | Work::Range { copy, .. } | Work::Keys { copy, .. } | Work::Whole { copy, .. } => copy,
        }
    }
}

/// Tells how the copies are getting on: in the log, and below it on a terminal.
async fn tell(readers: Readers) {
    let mut last = Instant::now();
    let mut shown = false;
    loop {
        tokio::time::sleep(SHOWN).await;
        let reading = readers.board.reading();
        if reading.is_empty() && !shown {
            continue;
        }
        shown = !reading.is_empty();
        if let Some(width) = logging::status_line_width() {
            logging::set_status_line(shown.then(|| report::bar(&reading, width)));
        }
        if last.elapsed() >= LOGGED {
            last = Instant::now();
            for table in &reading {
                tracing::info!(source = readers.encoder.source(), "copying {}", report::line(table));
            }
        }
    }
}
