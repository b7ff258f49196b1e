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

mod copies;
mod encode;
mod publish;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rowcast_core::{Batch, Event, Opened, Position, Source, SourceInfo, SourceStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

pub use encode::{Destination, Encoded, Encoder, Record};

use crate::backfill::board::Board;
use crate::backfill::control::Control;
use crate::backfill::coordinator::{self, Readers};
use crate::backfill::plan;
use crate::backfill::state::TableId;
use crate::backfill::watch::WatchList;
use crate::checkpoint::Checkpoint;
use crate::config::{BackfillConfig, BackfillMode, TopicTemplate, table_text};
use crate::error::RunError;
use crate::format::json::SourceNames;
use crate::sink::OpenSink;
use crate::status::{State, Status};

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
    /// This process.
    pub owner: String,
    /// Told when the stream is open.
    pub status: Status,
    /// What is copied of the rows that are there already; none for a look aside, which copies nothing.
    pub backfill: Option<BackfillConfig>,
    /// Where events of a table without a key are kept while it is copied.
    pub state_dir: PathBuf,
    /// Where an operator's requests come from.
    pub control: Control,
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
            let names = SourceNames { name: options.name.clone(), kind: options.kind };
            let readers = Readers {
                board: board.clone(),
                pieces,
                budget: share,
                encoder: Arc::clone(&encoder),
                names,
                config,
                captured,
            };
            let tasks = options
                .backfill
                .is_some()
                .then(|| coordinator::start(source, &readers, options.control.register(), &stop));
            let mut complete = false;
            let read = tokio::select! {
                read = read(stream, encoder, jobs, options.budget - share, &mut stop) => read,
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
    let resume = checkpoint.as_ref().and_then(|checkpoint| checkpoint.position.clone());
    let opened = tokio::select! {
        opened = source.open(resume.as_ref()) => opened?,
        _ = stop.wait_for(|stop| *stop) => return Ok(None),
    };
    let Opened { info, start: now, stream, confirm } = opened;
    if let Some(checkpoint) = &checkpoint {
        checkpoint.check_server(info.kind, info.identity.as_deref())?;
    }
    let position = resume.clone().unwrap_or_else(|| Position::boundary(now));
    let captured: Vec<TableId> = info
        .tables
        .iter()
        .map(|(qualifier, table)| TableId { qualifier: qualifier.clone(), table: table.clone() })
        .collect();
    let begin =
        options.backfill.as_ref().map(|config| plan::start(checkpoint.as_ref(), config, &captured)).unwrap_or_default();
    log_start(options, &info, resume.is_some(), &position, &begin);
    options.status.set(&options.name, State::Streaming);
    let parallelism = options.backfill.as_ref().map_or(1, |config| config.parallelism);
    let watch = WatchList::default();
    let board = Board::new(begin.copies, begin.tables, parallelism, watch.clone());
    let names = SourceNames { name: options.name.clone(), kind: options.kind };
    let (db, topic) = (options.db.clone(), options.topic.clone());
    let encoder = Arc::new(Encoder::new(names, db, topic, options.tombstones, position.inside.clone(), watch));
    let first = resume.is_none();
    let started = publish::Started {
        position,
        identity: info.identity,
        first,
        confirm: Box::new(confirm),
        board: board.clone(),
        encoder: Arc::clone(&encoder),
    };
    if start.send(started).is_err() {
        return Ok(None);
    }
    Ok(Some(Started { stream, encoder, board, captured: Arc::new(captured) }))
}

/// A source that streams.
struct Started<T> {
    stream: T,
    encoder: Arc<Encoder>,
    board: Board,
    captured: Arc<Vec<TableId>>,
}

fn log_start(options: &PipelineOptions, info: &SourceInfo, resumes: bool, from: &Position, begin: &plan::Start) {
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
    } else {
        let rows = if begin.copies.is_empty() { "are not sent" } else { "are copied beside them" };
        let what = "streaming: no checkpoint, so changes from now on; rows that are already there";
        tracing::info!(source, kind, server, %from, tables, "{what} {rows}");
    }
    for note in info.notes.iter().chain(&begin.notes) {
        tracing::info!(source, "{note}");
    }
}

/// Reads batches into the pipeline until stopped, then up to the end of the transaction in progress.
async fn read<T: SourceStream>(
    stream: &mut T,
    encoder: Arc<Encoder>,
    jobs: mpsc::Sender<publish::Job>,
    budget: usize,
    stop: &mut watch::Receiver<bool>,
) -> Result<(), RunError> {
    let workers = std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2));
    let permits = budget.clamp(1, u32::MAX as usize >> 1);
    let budget = Arc::new(Semaphore::new(permits));
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
            batch = stream.next() => match batch {
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
    let buffers = publish::Buffers::default();
    while let Some((batch, held)) = waiting.recv().await {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let (encoder, buffer) = (Arc::clone(&encoder), buffers.take());
        let pool = buffers.clone();
        let work = tokio::task::spawn_blocking(move || {
            let mut encoded = encoder.encode(&batch, buffer)?;
            drop(batch);
            encoded.held = vec![held, slot];
            Ok(publish::Staged::new(encoded, pool))
        });
        if publisher.send(work).await.is_err() {
            return;
        }
    }
}
