//! The pipeline: one run of one source, from the open sink to the last commit.
//!
//! ```text
//!            budget in bytes        slots                  one thread
//! source ──► reader ──► queue ──► encode, in parallel ──► publisher ──► sink
//!   ▲                              put back in order          │
//!   └──────────────────── confirm(position) ◄─────────────────┘ after each commit
//! ```
//!
//! Guarantees: records reach the sink in the source's order; what waits between reader and publisher is bounded in bytes
//! (`budget`, and as many encoded batches as there are slots); the database is told of a position only after the sink has
//! committed it. Fails as a whole: any error ends the run, and the next one starts from the checkpoint.

mod beat;
mod copies;
mod encode;
mod held;
mod markers;
mod poison;
mod publish;
pub mod size;
mod staged;
mod stopped;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rowcast_core::{
    Batch, Begin, Event, KeptSchema, LogPosition, Opened, Position, Source, SourceInfo, SourceStream, TableName,
};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

pub use encode::{Destination, Encoded, Encoder, HeaderName, Headers, Record, RecordHeader};
pub use stopped::Schemas;

use crate::backfill::board::Board;
use crate::backfill::control::Control;
use crate::backfill::coordinator::{self, Readers};
use crate::backfill::plan;
use crate::backfill::state::TableId;
use crate::backfill::watch::WatchList;
use crate::checkpoint::Checkpoint;
use crate::config::{BackfillConfig, BackfillMode, OnPoison, OnTableFailure, TopicTemplate, table_text};
use crate::error::RunError;
use crate::fail;
use crate::format::Format;
use crate::sink::OpenSink;
use crate::status::{Doing, Meter, Phase, Status};

/// Batches that may wait, whatever their size: bounds what an empty batch costs.
const QUEUED_BATCHES: usize = 1024;
/// After a request to stop, how long the reader may go on to the end of a transaction.
const DRAIN: Duration = Duration::from_secs(3);
/// How long the source may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// What the pipeline needs to know of a source's configuration.
#[derive(Debug, Clone)]
pub struct PipelineOptions {
    /// Name of the source.
    pub name: String,
    /// `postgres`, `mysql`, `mariadb`.
    pub kind: &'static str,
    /// Database of the events that belong to no table.
    pub db: String,
    /// How events are written.
    pub format: Arc<Format>,
    /// Topic of a table; none for sinks without topics.
    pub topic: Option<TopicTemplate>,
    /// A null value after each delete.
    pub tombstones: bool,
    /// Bytes between reader and publisher.
    pub budget: usize,
    /// Longest time between commits while data flows.
    pub commit_interval: Duration,
    /// Bytes after which a commit is due.
    pub commit_bytes: usize,
    /// What they begin with.
    pub commit_size: size::Remembered,
    /// This process.
    pub owner: String,
    /// Told when the stream is open.
    pub status: Status,
    /// Told what the run is doing.
    pub meter: Arc<Meter>,
    /// What is copied of the rows that are there already; none for a look aside, which copies nothing.
    pub backfill: Option<BackfillConfig>,
    /// Where events of a table without a key are kept while it is copied.
    pub state_dir: PathBuf,
    /// Where an operator's requests come from.
    pub control: Control,
    /// Where to begin if there is no checkpoint: everything up to here was published by somebody else. None: now.
    pub start_at: Option<LogPosition>,
    /// The run begins behind a gap, and this is what was lost: tables are voided and copied again.
    pub anew: Option<String>,
    /// What becomes of an event that can't be delivered.
    pub on_poison: OnPoison,
    /// What becomes of a table that can't be followed any more.
    pub on_table_failure: OnTableFailure,
}

/// Runs a source until `stop` turns true or something fails.
///
/// # Errors
/// What ended the run; whatever was committed before is committed.
pub async fn run<S: Source, O: OpenSink>(
    source: &Arc<S>,
    opener: O,
    options: &PipelineOptions,
    mut stop: watch::Receiver<bool>,
) -> Result<(), RunError> {
    let publish::Link { open, start, jobs, pieces, done } = publish::spawn(opener, options.clone());
    let mut stream = None;
    let read = match open_source(&**source, open, start, options, &mut stop).await {
        Ok(Some(Started { stream: opened, encoder, board, captured })) => {
            let stream = stream.insert(opened);
            let config = options.backfill.clone().unwrap_or_default();
            let only = config.mode == BackfillMode::InitialOnly;
            // pieces have a share of the memory of their own: those that wait for the stream must not hold it back
            let share = options.budget / 4;
            let readers = Readers {
                board: board.clone(),
                pieces,
                budget: share,
                encoder: Arc::clone(&encoder),
                config,
                captured,
            };
            let tasks = options
                .backfill
                .is_some()
                .then(|| coordinator::start(source, &readers, options.control.register(), &stop));
            let mut complete = false;
            let read = tokio::select! {
                read = read(stream, encoder, jobs, options.budget - share, &options.meter, &mut stop) => read,
                () = coordinator::all_done(board.clone()), if only => {
                    complete = true;
                    Ok(())
                }
            };
            drop((tasks, readers));
            if complete { board.outcome() } else { read }
        }
        Ok(None) => {
            drop(jobs);
            Ok(())
        }
        Err(error) => {
            drop(jobs);
            Err(error)
        }
    };
    // everything read is with the publisher now; it commits while the connection is still there to be told
    let published = done.await.unwrap_or_else(|_| Err(RunError::transient("the publisher ended without a word")));
    if let Some(stream) = stream {
        let _ = tokio::time::timeout(GOODBYE, stream.close()).await;
    }
    // what the publisher says is nearer to the cause than a reader whose queue was closed
    published.and(read)
}

/// Waits for the sink, then opens the source behind its checkpoint. None if asked to stop before.
async fn open_source<S: Source>(
    source: &S,
    open: oneshot::Receiver<Option<Checkpoint>>,
    start: oneshot::Sender<publish::Started>,
    options: &PipelineOptions,
    stop: &mut watch::Receiver<bool>,
) -> Result<Option<Started<S::Stream>>, RunError> {
    let checkpoint = tokio::select! {
        opened = open => match opened {
            Ok(checkpoint) => checkpoint,
            // the publisher failed, and says why itself
            Err(_) => return Ok(None),
        },
        _ = stop.wait_for(|stop| *stop) => return Ok(None),
    };
    options.meter.enters(Doing::OpenSource, std::time::Instant::now());
    let resume = checkpoint.as_ref().and_then(|checkpoint| checkpoint.position.clone());
    let identity = checkpoint.as_ref().and_then(|checkpoint| checkpoint.identity.as_deref());
    let schemas = checkpoint.as_ref().map(|checkpoint| Arc::clone(&checkpoint.schemas)).unwrap_or_default();
    let kept: Vec<Arc<KeptSchema>> = schemas.values().cloned().collect();
    let handed = options.start_at.clone().map(Position::boundary).filter(|_| resume.is_none());
    let begin = match resume.as_ref().or(handed.as_ref()) {
        _ if options.anew.is_some() => Begin::Anew { identity },
        Some(position) => Begin::At { position, identity, schemas: &kept },
        None => Begin::Now,
    };
    let opened = tokio::select! {
        opened = source.open(begin) => opened?,
        _ = stop.wait_for(|stop| *stop) => return Ok(None),
    };
    fail::point("open.source");
    let Opened { info, start: now, stream, confirm, pulse } = opened;
    if let Some(checkpoint) = &checkpoint {
        checkpoint.check_server(info.kind, info.identity.as_deref())?;
    }
    let resume = resume.filter(|_| options.anew.is_none());
    let mut position = resume.clone().unwrap_or_else(|| Position::boundary(now.clone()));
    // the same place, perhaps in other words: a file and an offset of MySQL as GTIDs
    position.log = now;
    position.timeline = info.timeline;
    if resume.is_none() {
        position.prepared = info.prepared.clone();
    }
    let captured: Vec<TableId> = info
        .tables
        .iter()
        .map(|(qualifier, table)| TableId { qualifier: qualifier.clone(), table: table.clone() })
        .collect();
    let begin = match &options.backfill {
        Some(config) if options.anew.is_some() => plan::anew(config, &captured),
        Some(config) => plan::start(checkpoint.as_ref(), config, &captured),
        None => plan::Start::default(),
    };
    let parallelism = options.backfill.as_ref().map_or(1, |config| config.parallelism);
    let watch = WatchList::default();
    let (copying, mut notes) = (!begin.copies.is_empty(), begin.notes);
    let before = checkpoint.as_ref().and_then(|checkpoint| checkpoint.topic.as_deref());
    notes.extend(other_topics(before, options.topic.as_ref(), &position));
    let board = Board::new(begin.copies, begin.tables, parallelism, watch.clone());
    let at_end = resume.is_none() && (handed.is_none() || options.anew.is_some());
    options.meter.opened(&position, at_end, &board, pulse);
    let encoder = Arc::new(Encoder::new(options, position.inside.clone(), watch));
    let (begun, streams) = oneshot::channel();
    let started = publish::Started {
        position: position.clone(),
        identity: info.identity.clone(),
        first: resume.is_none(),
        begun,
        void: if options.anew.is_some() {
            captured.iter().map(|id| table_name(options, id)).collect()
        } else {
            Vec::new()
        },
        confirm: Box::new(confirm),
        board: board.clone(),
        encoder: Arc::clone(&encoder),
        // what was kept holds behind the checkpoint only
        schemas: if resume.is_some() { schemas } else { Arc::default() },
    };
    // it streams once a restart would go on from here; if the publisher fails before, it says why itself
    if start.send(started).is_err() || streams.await.is_err() {
        return Ok(None);
    }
    // the status first: who reads the line and asks is told the same
    options.status.set(&options.name, Phase::Streaming);
    log_start(options, &info, resume.is_some(), &position, copying, &notes);
    Ok(Some(Started { stream, encoder, board, captured: Arc::new(captured) }))
}

/// The full name of a table.
fn table_name(options: &PipelineOptions, id: &TableId) -> TableName {
    let schemas = options.kind == "postgres";
    TableName {
        db: if schemas { options.db.as_str() } else { id.qualifier.as_str() }.into(),
        schema: schemas.then(|| id.qualifier.as_str().into()),
        table: id.table.as_str().into(),
    }
}

/// A source that streams.
struct Started<T> {
    stream: T,
    encoder: Arc<Encoder>,
    board: Board,
    captured: Arc<Vec<TableId>>,
}

/// What to say if events went to other topics before.
fn other_topics(before: Option<&str>, now: Option<&TopicTemplate>, position: &Position) -> Option<String> {
    let (before, now) = (before?, now?.to_string());
    let note = format!(
        "`sink.topic` was {before} until {position}: events up to there stay in those topics; `rowcast backfill` copies a table into \
         its new one"
    );
    (before != now).then_some(note)
}

fn log_start(
    options: &PipelineOptions,
    info: &SourceInfo,
    resumes: bool,
    from: &Position,
    copying: bool,
    notes: &[String],
) {
    const SHOWN: usize = 8;
    let mut tables = info
        .tables
        .iter()
        .take(SHOWN)
        .map(|(qualifier, table)| table_text(qualifier, table))
        .collect::<Vec<_>>()
        .join(", ");
    if info.tables.len() > SHOWN {
        tables.push_str(&format!(" and {} more", info.tables.len() - SHOWN));
    }
    let (source, server, kind) = (options.name.as_str(), info.server.as_str(), info.kind);
    if resumes {
        tracing::info!(source, kind, server, %from, tables, "streaming: resumed from its checkpoint");
        if options.start_at.is_some() {
            tracing::info!(source, "`source.start_at` isn't used: it is for a source without a checkpoint");
        }
    } else if let Some(lost) = &options.anew {
        let what = "streaming behind a gap: what was published of the tables is void, and they are copied again";
        tracing::warn!(source, kind, server, %from, tables, "{what}; {lost}");
    } else if options.start_at.is_some() {
        let rows = if copying { "are copied beside them" } else { "are not sent" };
        let what = "streaming: no checkpoint, so changes from `source.start_at` on; rows that are already there";
        tracing::info!(source, kind, server, %from, tables, "{what} {rows}");
    } else {
        let rows = if copying { "are copied beside them" } else { "are not sent" };
        let what = "streaming: no checkpoint, so changes from now on; rows that are already there";
        tracing::info!(source, kind, server, %from, tables, "{what} {rows}");
    }
    for note in info.notes.iter().chain(notes) {
        tracing::info!(source, "{note}");
    }
}

/// Reads batches into the pipeline until stopped, then up to the end of the transaction in progress.
async fn read<T: SourceStream>(
    stream: &mut T,
    encoder: Arc<Encoder>,
    jobs: mpsc::Sender<publish::Job>,
    budget: usize,
    meter: &Meter,
    stop: &mut watch::Receiver<bool>,
) -> Result<(), RunError> {
    let workers = std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2));
    let permits = budget.clamp(1, u32::MAX as usize >> 1);
    let budget = Arc::new(Semaphore::new(permits));
    meter.queue(&budget, permits);
    let (queue, waiting) = mpsc::channel(QUEUED_BATCHES);
    let dispatcher = tokio::spawn(dispatch(waiting, encoder, jobs.clone(), workers));
    let mut deadline: Option<Instant> = None;
    let mut inside = false;
    let result = loop {
        if deadline.is_some() && !inside {
            break Ok(());
        }
        let batch = tokio::select! {
            biased;
            () = jobs.closed() => break Ok(()),
            _ = stop.wait_for(|stop| *stop), if deadline.is_none() => {
                deadline = Some(Instant::now() + DRAIN);
                continue;
            }
            () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => break Ok(()),
            batch = meter.reading(stream.next()) => match batch {
                Ok(batch) => batch,
                Err(error) => break Err(RunError::from(error)),
            },
        };
        inside = ends_inside(&batch);
        // a batch larger than the whole budget takes all of it and passes alone
        let needed = batch.memory().clamp(1, permits) as u32;
        let held = tokio::select! {
            held = Arc::clone(&budget).acquire_many_owned(needed) => held,
            () = jobs.closed() => break Ok(()),
        };
        let Ok(held) = held else { break Ok(()) };
        if queue.send((batch, held)).await.is_err() {
            break Ok(());
        }
    };
    // with both senders gone the publisher commits what it has and ends
    drop((queue, jobs));
    if dispatcher.await.is_err() {
        return Err(RunError::transient("the dispatcher failed: a defect of rowcast"));
    }
    result
}

fn ends_inside(batch: &Batch) -> bool {
    let last = batch.events.iter().rev().find_map(|event| match event {
        Event::Begin(_) => Some(true),
        Event::Commit(..) => Some(false),
        _ => None,
    });
    last.unwrap_or(batch.open.is_some())
}

type Queued = (Batch, tokio::sync::OwnedSemaphorePermit);

/// Hands batches to the workers and their results, in order, to the publisher.
///
/// A slot is held from before a batch is encoded until the publisher has staged it, so that fast workers can't pile up encoded
/// batches in front of a slow sink. Slots are taken in order: the batch that the publisher waits for always has one.
async fn dispatch(
    mut waiting: mpsc::Receiver<Queued>,
    encoder: Arc<Encoder>,
    publisher: mpsc::Sender<publish::Job>,
    workers: usize,
) {
    let slots = Arc::new(Semaphore::new(workers + 1));
    // a turn is taken here, in order, and ends with the batch
    let turns = Arc::new(Semaphore::new(if encoder.is_sequential() { 1 } else { workers + 1 }));
    let buffers = staged::Buffers::default();
    while let Some((batch, held)) = waiting.recv().await {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { return };
        let (encoder, buffer) = (Arc::clone(&encoder), buffers.take());
        let pool = buffers.clone();
        let work = tokio::task::spawn_blocking(move || {
            let mut encoded = encoder.encode(&batch, buffer)?;
            drop((batch, turn));
            encoded.held = vec![held, slot];
            Ok(staged::Staged::new(encoded, pool))
        });
        if publisher.send(work).await.is_err() {
            return;
        }
    }
}
