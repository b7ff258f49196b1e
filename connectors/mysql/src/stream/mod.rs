//! The running stream: packets in, batches out.
//!
//! ```text
//! socket ─► buffer ─► whole packets ─► Assembler ─► Draft ─┐
//!              └────────── the same bytes, frozen ─────────┴─► Batch
//! ```
//!
//! - A batch is what is there, up to [`BATCH_BYTES`]; its row bytes are the ones that were read.
//! - An event of 16 MiB or more comes in several packets and is put together in a buffer of its own; a row event with
//!   very many rows is spread over several batches that share its bytes.
//! - While `next` isn't called nothing is read, and TCP holds the server back (its `net_write_timeout` is a day).
//!   Heartbeats come three times per read time-out, so a silent server is a dead one.
//! - Cancel-safe: an event is consumed only after everything that it needs has been awaited.
//! - An error ends the stream, after the events before it have been handed out.

pub(crate) mod assembler;
mod draft;

use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use rowcast_core::{Batch, LogPosition, SourceError, SourceStream, TableName};

use crate::Options;
use crate::binlog::request;
use crate::catalog::Catalog;
use crate::connection::packet::{HEADER, Header, MAX_LOGICAL, MAX_PAYLOAD, Wire, WireError};
use crate::connection::{Connection, handshake};
use crate::error::{ServerError, Where};
use assembler::{Assembler, BATCH_EVENTS, Outcome, RowsCursor};
use draft::Draft;

/// Bytes after which a batch is handed out.
const BATCH_BYTES: usize = 256 * 1024;
/// A read of less than this, soon after the last, is worth a pause: a busy server then fills the socket, and we make
/// one call instead of many.
const SHORT_READ: usize = 16 * 1024;
const BUSY: Duration = Duration::from_millis(2);
const PAUSE: Duration = Duration::from_millis(1);

/// A binlog stream.
#[derive(Debug)]
pub struct MysqlStream {
    wire: Wire,
    place: Where,
    catalog: Catalog,
    assembler: Assembler,
    read_timeout: Duration,
    /// When the last read was, and whether it was short.
    last_read: Option<(Instant, bool)>,
    /// An event of several packets in the making.
    large: Option<Large>,
    /// Such an event, whole.
    whole: Option<Bytes>,
    /// A row event whose rows didn't fit into the last batch.
    rest: Option<(Bytes, RowsCursor)>,
    /// An error that waits until the events before it are handed out.
    failed: Option<Failure>,
}

/// Why the stream ends.
#[derive(Debug)]
enum Failure {
    Source(SourceError),
    /// The server's answer, which may take a look-up to explain.
    Server(ServerError),
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        Failure::Source(error)
    }
}

#[derive(Debug)]
struct Large {
    event: BytesMut,
    /// Bytes of the current packet that are still to come.
    missing: usize,
    last: bool,
}

enum Step {
    Batch(Batch),
    Need(TableName),
    Read,
}

impl MysqlStream {
    /// Registers as a replica and asks for the stream; returns when its first packet is there, so that a refusal is an
    /// error of `open`.
    pub(crate) async fn start(
        replica: Connection,
        catalog: Catalog,
        mut assembler: Assembler,
        options: &Options,
        start: &LogPosition,
    ) -> Result<Self, SourceError> {
        const DOING: &str = "starting the binlog stream";
        let Connection { mut wire, place, .. } = replica;
        let lost = |error: WireError| place.transient(format_args!("{DOING}: {error}"));
        wire.command(&request::register(options.server_id, &options.name)).await.map_err(lost)?;
        let answer = wire.read(options.read_timeout).await.map_err(lost)?;
        if answer.first() == Some(&0xff) {
            return Err(place.server(crate::error::REGISTERING, &handshake::parse_error(&answer)));
        }
        let dump = match start {
            LogPosition::Gtid(set) => request::dump_gtid(options.server_id, set),
            _ => request::dump_maria(options.server_id),
        };
        wire.command(&dump).await.map_err(lost)?;
        assembler.set_charsets(catalog.charsets.clone());
        let mut stream = Self {
            wire,
            place,
            catalog,
            assembler,
            read_timeout: options.read_timeout,
            last_read: None,
            large: None,
            whole: None,
            rest: None,
            failed: None,
        };
        while Header::read(&stream.wire.buf).is_none_or(|header| stream.wire.buf.len() < HEADER + header.length) {
            stream.fill().await?;
        }
        let first = stream.wire.buf.get(HEADER..).unwrap_or(&[]);
        if first.first() == Some(&0xff) {
            let length = Header::read(&stream.wire.buf).map_or(0, |header| header.length);
            let error = handshake::parse_error(first.get(..length).unwrap_or(first));
            return Err(stream.explain(DOING, Failure::Server(error)).await);
        }
        Ok(stream)
    }

    /// The error for the operator; a gap's says what is lost.
    async fn explain(&mut self, doing: &str, failure: Failure) -> SourceError {
        match failure {
            Failure::Source(error) => error,
            Failure::Server(error) if error.is_gap() => {
                let kept = self.catalog.kept().await;
                self.place.gap(self.assembler.position(), &kept, &error)
            }
            Failure::Server(error) => self.place.server(doing, &error),
        }
    }

    async fn fill(&mut self) -> Result<(), SourceError> {
        let count = self.wire.fill(self.read_timeout).await.map_err(|error| self.place.transient(error))?;
        self.last_read = Some((Instant::now(), count < SHORT_READ));
        Ok(())
    }

    /// Makes the next batch from what is in memory.
    fn step(&mut self) -> Result<Step, Failure> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let mut draft = Draft::new(self.assembler.open());
        if let Some((data, cursor)) = self.rest.take() {
            let more = self.assembler.rows(&data, cursor, &mut draft)?;
            self.rest = more.map(|cursor| (data.clone(), cursor));
            if !draft.events.is_empty() {
                return Ok(Step::Batch(draft.finish(data)));
            }
            draft = Draft::new(self.assembler.open());
        }
        if self.large.is_some() && !self.collect()? {
            return Ok(Step::Read);
        }
        if let Some(data) = self.whole.clone() {
            let outcome = match self.payload(&data)? {
                Some(start) => self.assembler.event(&data, start, data.len(), &mut draft)?,
                None => Outcome::Done,
            };
            match outcome {
                Outcome::Need(name) => return Ok(Step::Need(name)),
                Outcome::Done => {}
                Outcome::More(cursor) => self.rest = Some((data.clone(), cursor)),
            }
            self.whole = None;
            return Ok(if draft.events.is_empty() { self.step()? } else { Step::Batch(draft.finish(data)) });
        }
        self.packets(draft)
    }

    /// Walks the whole packets in the buffer.
    fn packets(&mut self, mut draft: Draft) -> Result<Step, Failure> {
        let (mut at, mut need, mut more) = (0, None, None);
        while at < BATCH_BYTES && draft.events.len() < BATCH_EVENTS {
            let Some(header) = Header::read(self.wire.buf.get(at..).unwrap_or(&[])) else { break };
            if header.length == MAX_PAYLOAD {
                self.large = Some(Large { event: BytesMut::new(), missing: 0, last: false });
                break;
            }
            let (start, end) = (at + HEADER, at + HEADER + header.length);
            let Some(payload) = self.wire.buf.get(start..end) else { break };
            let known = draft.events.len();
            let outcome = match self.payload(payload) {
                Err(error) => Err(error),
                Ok(_) if header.sequence != self.wire.sequence => {
                    Err(self.place.protocol("packets of the binlog stream out of order").into())
                }
                Ok(None) => Ok(Outcome::Done),
                Ok(Some(skip)) => {
                    self.assembler.event(&self.wire.buf, start + skip, end, &mut draft).map_err(Failure::from)
                }
            };
            match outcome {
                Err(error) if known == 0 => return Err(error),
                Err(error) => {
                    draft.events.truncate(known);
                    self.failed = Some(error);
                    break;
                }
                Ok(Outcome::Need(name)) => {
                    need = Some(name);
                    break;
                }
                Ok(Outcome::More(cursor)) => more = Some(cursor),
                Ok(Outcome::Done) => {}
            }
            self.wire.sequence = self.wire.sequence.wrapping_add(1);
            at = end;
            if more.is_some() {
                break;
            }
        }
        let data = self.wire.buf.split_to(at).freeze();
        if let Some(cursor) = more {
            self.rest = Some((data.clone(), cursor));
        }
        if !draft.events.is_empty() {
            return Ok(Step::Batch(draft.finish(data)));
        }
        match need {
            Some(name) => Ok(Step::Need(name)),
            // A full buffer without an event for us: there may be more whole packets.
            None if at >= BATCH_BYTES => self.step(),
            None => Ok(Step::Read),
        }
    }

    /// Where in a packet's payload the event begins; none if there is none.
    fn payload(&self, payload: &[u8]) -> Result<Option<usize>, Failure> {
        match payload.first() {
            Some(0x00) => Ok(Some(1)),
            Some(0xff) => Err(Failure::Server(handshake::parse_error(payload))),
            Some(0xfe) if payload.len() < 9 => Err(self.place.transient("the server ended the binlog stream").into()),
            _ => Err(self.place.protocol("in the binlog stream").into()),
        }
    }

    /// Moves bytes of a large event from the buffer; true when it is whole.
    fn collect(&mut self) -> Result<bool, SourceError> {
        let Some(large) = &mut self.large else { return Ok(false) };
        loop {
            if large.missing > 0 {
                let part = self.wire.buf.split_to(large.missing.min(self.wire.buf.len()));
                if part.is_empty() {
                    return Ok(false);
                }
                large.missing -= part.len();
                large.event.extend_from_slice(&part);
            } else if large.last {
                self.whole = self.large.take().map(|large| large.event.freeze());
                return Ok(true);
            } else {
                let Some(header) = Header::read(&self.wire.buf) else { return Ok(false) };
                self.wire.check_sequence(header).map_err(|error| self.place.transient(error))?;
                self.wire.buf.advance(HEADER);
                if large.event.len() + header.length > MAX_LOGICAL {
                    return Err(self.place.definite("a binlog event of more than 1 GiB"));
                }
                large.missing = header.length;
                large.last = header.length < MAX_PAYLOAD;
            }
        }
    }
}

impl SourceStream for MysqlStream {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        loop {
            let step = match self.step() {
                Ok(step) => step,
                // Cancelled in here, the next call meets the server's error again: its packet is still in the buffer.
                Err(failure) => return Err(self.explain("reading the binlog", failure).await),
            };
            match step {
                Step::Batch(batch) => return Ok(batch),
                Step::Need(name) => {
                    let found = self.catalog.table(&name).await?;
                    self.assembler.answer(name, found);
                }
                Step::Read => {
                    let busy = self.last_read.is_some_and(|(when, short)| short && when.elapsed() < BUSY);
                    if busy {
                        tokio::time::sleep(PAUSE).await;
                    }
                    self.fill().await?;
                }
            }
        }
    }

    async fn close(mut self) {
        use tokio::io::AsyncWriteExt;
        // A server that is sending a binlog reads no commands: the end of the connection is the good-bye.
        let _ = self.wire.stream.shutdown().await;
        self.catalog.close().await;
    }
}
