//! The running stream: bytes from the socket into batches.
//!
//! ```text
//! next():  pending relation? ─► catalog
//!          walk whole frames ─► full? ─► batch
//!          nothing left: events there? ─► busy: one short pause ─► more there? walk : batch
//!                        none?         ─► wait for bytes, with the read time-out
//!          a kept transaction was committed ─► batches from its file, then on with the frames
//! ```
//!
//! Cancel-safe: everything that was read or decided is in the struct before the next await.
//!
//! Fails transiently when the connection breaks or falls silent; definitely when the protocol is violated or the
//! slot is lost. After an error the stream is at its end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rowcast_core::{Batch, Pulse, SourceError, SourceStream};
use rowcast_net::{Arrivals, Stream};
use tokio::io::{AsyncWriteExt, ReadHalf};
use tokio::time::Instant;

use crate::catalog::{Catalog, publication, slot};
use crate::error::{ServerError, Target};
use crate::pgoutput::assembler::{Assembler, Step};
use crate::pgoutput::form::ValueForm;
use crate::pgoutput::in_progress::Room;
use crate::pgoutput::message::{Committed, Relation};
use crate::pgoutput::replay::Replay;
use crate::replication::feedback::{Feedback, Shared};
use crate::replication::frame::{self, Replication};
use crate::replication::reader::{BATCH_BYTES, Frame, Reader};

/// What a busy stream waits for more.
const PAUSE: Duration = Duration::from_millis(1);
/// Batches beyond this size go out without a pause.
const WORTH_A_PAUSE: usize = 64 << 10;
/// With so much read in a pause the stream is a backlog, and waits some more times: each batch wakes four threads, whatever its size.
const BACKLOG: usize = 16 << 10;
/// Pauses of one batch of a backlog.
const MOST_PAUSES: u8 = 3;
/// How long an orderly end may take.
const GOODBYE: Duration = Duration::from_secs(5);

/// What a stream is made of.
pub(crate) struct Parts {
    pub(crate) pulse: Pulse,
    pub(crate) read: ReadHalf<Stream>,
    pub(crate) buf: BytesMut,
    pub(crate) arrivals: Option<Arrivals>,
    pub(crate) assembler: Assembler,
    pub(crate) form: ValueForm,
    pub(crate) room: Room,
    /// Transactions in progress were asked for.
    pub(crate) streaming: bool,
    pub(crate) shared: Arc<Shared>,
    pub(crate) feedback: Feedback,
    pub(crate) catalog: Catalog,
    pub(crate) target: Target,
    pub(crate) read_timeout: Duration,
    pub(crate) slot: String,
    pub(crate) publication: String,
    pub(crate) drop_publication: Option<String>,
}

/// A running stream of a PostgreSQL database.
#[derive(Debug)]
pub struct PostgresStream {
    reader: Reader,
    assembler: Assembler,
    form: ValueForm,
    room: Room,
    streaming: bool,
    /// A transaction that comes from its file; true once it has begun.
    replay: Option<(Committed, Box<Replay>, bool)>,
    shared: Arc<Shared>,
    feedback: Option<Feedback>,
    catalog: Catalog,
    target: Target,
    read_timeout: Duration,
    slot: String,
    publication: String,
    drop_publication: Option<String>,
    /// A relation that waits for the catalog.
    pending: Option<Relation>,
    /// Since when nothing came while somebody waited.
    waiting_since: Option<Instant>,
    /// Pauses that this batch has had.
    pauses: u8,
    /// An error that is given out after the events before it.
    failed: Option<SourceError>,
}

enum Walked {
    /// The batch is large enough.
    Full,
    /// `pending` is to be looked up.
    NeedsCatalog,
    /// `replay` is to come first.
    Replay,
    /// No whole frame is left.
    Drained,
}

impl PostgresStream {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            reader: Reader::new(parts.read, parts.buf).with_pulse(parts.pulse).with_arrivals(parts.arrivals),
            assembler: parts.assembler,
            form: parts.form,
            room: parts.room,
            streaming: parts.streaming,
            replay: None,
            shared: parts.shared,
            feedback: Some(parts.feedback),
            catalog: parts.catalog,
            target: parts.target,
            read_timeout: parts.read_timeout,
            slot: parts.slot,
            publication: parts.publication,
            drop_publication: parts.drop_publication,
            pending: None,
            waiting_since: None,
            pauses: 0,
            failed: None,
        }
    }

    /// Takes in the frames that are there.
    fn walk(&mut self) -> Result<Walked, SourceError> {
        while let Some(frame) = self.reader.frame().map_err(|error| self.target.definite(error))? {
            let step = self.take_in(frame)?;
            self.reader.advance(frame);
            match step {
                Step::Done => {}
                Step::NeedsCatalog(relation) => {
                    self.pending = Some(relation);
                    return Ok(Walked::NeedsCatalog);
                }
                Step::Replay(committed, replay) => {
                    self.replay = Some((committed, replay, false));
                    return Ok(Walked::Replay);
                }
            }
            if self.reader.walked() >= BATCH_BYTES {
                if self.assembler.has_something() {
                    return Ok(Walked::Full);
                }
                self.reader.discard();
            }
        }
        Ok(Walked::Drained)
    }

    fn take_in(&mut self, frame: Frame) -> Result<Step, SourceError> {
        let body = self.reader.body(frame);
        match frame.tag {
            b'd' => match frame::replication(body) {
                Some(Replication::Data { start, payload, offset }) => {
                    self.shared.received(start);
                    self.assembler
                        .message(payload, (frame.body + offset, start))
                        .map_err(|error| error.context(format!("{} at {}", self.target, rowcast_core::Lsn(start))))
                }
                Some(Replication::Keepalive { wal_end, reply }) => {
                    self.shared.received(wal_end);
                    self.assembler.keepalive(wal_end);
                    if reply {
                        self.shared.asked();
                    }
                    Ok(Step::Done)
                }
                None => Err(self.target.definite("a damaged replication message")),
            },
            // notices and changed parameters may come at any time
            b'N' | b'S' => Ok(Step::Done),
            b'E' => {
                let error = ServerError::parse(body);
                if let Some(error) = self.form.explain(&error) {
                    return Err(error.context(&self.target));
                }
                if self.streaming && error.is_internal() {
                    let error = self.room.leave(&format!("the server can't decode it yet: {error}"));
                    return Err(error.context(self.target.to_string()));
                }
                Err(slot::explain(&error, &self.target, "streaming", &self.slot, &self.publication))
            }
            // CopyDone, or the command's end: what a walsender says when its server shuts down
            b'c' | b'C' => Err(self.target.transient("the server ended the stream (is it shutting down?)")),
            tag => Err(self.target.definite(format!("an unexpected message 0x{tag:02x} in the stream"))),
        }
    }

    /// Takes in the records of the transaction that comes from its file; a batch, unless the catalog has to be asked first.
    fn replay(&mut self) -> Result<Option<Batch>, SourceError> {
        let Some((committed, replay, begun)) = &mut self.replay else { return Ok(None) };
        if !*begun {
            *begun = true;
            self.assembler.replay_begins(*committed, replay.origin.take())?;
        }
        loop {
            let record = replay
                .record()
                .map_err(|error| self.room.leave(&error.to_string()).context(self.target.to_string()))?;
            let Some(record) = record else {
                self.assembler.replay_ends(*committed)?;
                let data = replay.split();
                self.replay = None;
                return Ok(self.assembler.has_something().then(|| self.batch_of(data)));
            };
            let step = self.assembler.replayed(replay.message(record), record.start, record.number)?;
            replay.advance(record);
            if let Step::NeedsCatalog(relation) = step {
                self.pending = Some(relation);
                return Ok(None);
            }
            if replay.walked() >= BATCH_BYTES {
                if self.assembler.has_something() {
                    let data = replay.split();
                    return Ok(Some(self.batch_of(data)));
                }
                replay.discard();
            }
        }
    }

    fn batch(&mut self) -> Batch {
        let data = self.reader.split();
        self.batch_of(data)
    }

    fn batch_of(&mut self, data: Bytes) -> Batch {
        let collected = self.assembler.take();
        self.pauses = 0;
        self.waiting_since = None;
        Batch { data, tables: collected.tables, open: collected.open, events: collected.events, ..Batch::default() }
    }

    fn lost(&self, error: &io::Error) -> SourceError {
        self.target.transient(format!("connection lost: {error}"))
    }

    /// Waits for bytes, and gives up when the server has been silent for too long.
    async fn wait(&mut self) -> Result<(), SourceError> {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        // silence counts from when we looked: while nobody called us, nothing was read
        let deadline = since.max(self.reader.last_arrival()) + self.read_timeout;
        match tokio::time::timeout_at(deadline, self.reader.read()).await {
            Ok(result) => result.map_err(|error| self.lost(&error))?,
            Err(_) => {
                // calls that were dropped may have used the time up: bytes that are there count
                tokio::task::yield_now().await;
                match self.reader.read_ready().await.map_err(|error| self.lost(&error))? {
                    Some(count) => count,
                    None => {
                        let what = format!("nothing was heard from the server for {:?}", self.read_timeout);
                        return Err(self.target.transient(what));
                    }
                }
            }
        };
        self.waiting_since = None;
        Ok(())
    }

    /// One round: a batch if one is ready.
    async fn advance(&mut self) -> Result<Option<Batch>, SourceError> {
        if let Some(relation) = &self.pending {
            let facts = self.catalog.facts(relation).await?;
            if let Some(relation) = self.pending.take() {
                self.assembler.define(&relation, &facts).map_err(|error| error.context(&self.target))?;
            }
        }
        if self.replay.is_some() {
            return self.replay();
        }
        match self.walk()? {
            Walked::NeedsCatalog => return Ok(None),
            // what came before it has its bytes elsewhere
            Walked::Replay => {
                let before = self.assembler.has_something();
                if !before {
                    self.reader.discard();
                }
                return Ok(before.then(|| self.batch()));
            }
            Walked::Full => return Ok(Some(self.batch())),
            Walked::Drained => {}
        }
        if !self.assembler.has_something() {
            self.reader.discard();
            self.wait().await?;
            return Ok(None);
        }
        if self.reader.large_frame_ahead() {
            return Ok(Some(self.batch()));
        }
        if self.reader.read_ready().await.map_err(|error| self.lost(&error))?.is_some() {
            return Ok(None);
        }
        let most = if self.reader.walked() > BACKLOG { MOST_PAUSES } else { 1 };
        if self.pauses >= most || !self.reader.is_busy() || self.reader.walked() > WORTH_A_PAUSE {
            return Ok(Some(self.batch()));
        }
        // before the await: a dropped call must not pause again
        self.pauses += 1;
        self.reader.gather(PAUSE).await.map_err(|error| self.lost(&error))?;
        Ok(None)
    }

    /// Reads to the end that the server gives the stream after our CopyDone.
    async fn read_to_end(&mut self) {
        loop {
            match self.reader.frame() {
                Ok(Some(frame)) => {
                    self.reader.advance(frame);
                    self.reader.discard();
                    if matches!(frame.tag, b'c' | b'E') {
                        return;
                    }
                }
                Ok(None) => {
                    if self.reader.read().await.is_err() {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    }
}

impl SourceStream for PostgresStream {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        loop {
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            match self.advance().await {
                Ok(Some(batch)) => return Ok(batch),
                Ok(None) => {}
                // what came before the error goes out before it; the part of a replay that failed comes again
                Err(error) if self.replay.is_none() && self.assembler.has_something() => {
                    self.failed = Some(error);
                    return Ok(self.batch());
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn close(mut self) {
        let end = async {
            let write = match self.feedback.take() {
                Some(feedback) => feedback.finish().await,
                None => None,
            };
            self.read_to_end().await;
            if let Some(mut write) = write {
                // the server may be gone already: nothing is left to do about it
                let _ = write.write_all(b"X\0\0\0\x04").await;
                let _ = write.shutdown().await;
            }
        };
        if tokio::time::timeout(GOODBYE, end).await.is_err() {
            tracing::debug!("the stream's end was not answered in time");
        }
        if let Some(name) = self.drop_publication.take() {
            publication::drop(&mut self.catalog, &name).await;
        }
    }
}

/// A peek that ends without [`SourceStream::close`] (an error) drops its publication all the same, if the runtime
/// still runs; the temporary slot ends with its connection.
impl Drop for PostgresStream {
    fn drop(&mut self) {
        let (Some(name), Ok(runtime)) = (self.drop_publication.take(), tokio::runtime::Handle::try_current()) else {
            return;
        };
        let again = self.catalog.reconnecting();
        runtime.spawn(async move {
            let mut catalog = again;
            publication::drop(&mut catalog, &name).await;
        });
    }
}
