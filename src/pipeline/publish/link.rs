//! A publisher's thread, and the pipeline's ends of the channels to it.

use std::sync::Arc;
use std::time::Instant;

use rowcast_core::{Confirm, Position, TableName};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::Publisher;
use crate::backfill::board::Board;
use crate::backfill::coordinator::Message;
use crate::checkpoint::Checkpoint;
use crate::error::RunError;
use crate::pipeline::PipelineOptions;
use crate::pipeline::encode::Encoder;
use crate::pipeline::staged::Staged;
use crate::pipeline::stopped::Schemas;
use crate::sink::{OpenSink, OpenedSink};
use crate::status::Doing;

/// Encoded batches that may wait for the publisher; the slots bound them further.
const JOBS: usize = 16;
/// Pieces of reads that may be on their way to the publisher.
const PIECES: usize = 8;

/// An encoded batch, or being encoded.
pub type Job = JoinHandle<Result<Staged, RunError>>;

/// What the publisher learns once the source is open.
pub struct Started {
    /// Where the stream begins.
    pub position: Position,
    /// The server's identity, for the checkpoint.
    pub identity: Option<String>,
    /// There was no checkpoint with a position: one is committed before anything is streamed.
    pub first: bool,
    /// Told when that is done.
    pub begun: oneshot::Sender<()>,
    /// Tables whose rows downstream are void, since the stream begins behind a gap.
    pub void: Vec<TableName>,
    /// The way back to the source.
    pub confirm: Box<dyn Confirm>,
    /// What is being copied.
    pub board: Board,
    /// Encodes what belongs to copies.
    pub encoder: Arc<Encoder>,
    /// What is kept of the tables' columns.
    pub schemas: Arc<Schemas>,
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
            options.meter.enters(Doing::OpenSink, Instant::now());
            let OpenedSink { sink, checkpoint, generation } = opener.open(options.anew.is_some())?;
            options.meter.set_probe(sink.probe());
            if opened.send(checkpoint).is_err() {
                return Ok(());
            }
            match runtime.block_on(started) {
                Ok(started) => Publisher::new((sink, generation), started, options, runtime).run(waiting, read),
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
