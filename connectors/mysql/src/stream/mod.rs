//! The running stream: packets in, batches out.
//!
//! ```text
//! socket ─► buffer ─► whole packets ─► Assembler ─► Draft ─┐
//!              └────────── the same bytes, frozen ─────────┴─► Batch
//! ```
//!
//! - A batch is what is there, up to [`BATCH_BYTES`]; its row bytes are the ones that were read.
//! - An event of 16 MiB or more comes in several packets and is put together in a buffer of its own (`large.rs`); a row event with
//!   very many rows is spread over several batches that share its bytes.
//! - Events that lie in others (compressed transactions, MariaDB's compressed events), and those that had to wait for their
//!   transaction's end, make batches of their own (`enclosed.rs`): they are decompressed and read back only as batches are asked for.
//! - While `next` isn't called nothing is read, and TCP holds the server back (its `net_write_timeout` is a day).
//!   Heartbeats come three times per read time-out, so a silent server is a dead one.
//! - Cancel-safe: an event is consumed only after everything that it needs has been awaited.
//! - An error ends the stream, after the events before it have been handed out.

pub(crate) mod assembler;
mod draft;
mod enclosed;
mod inner;
pub(crate) mod keep;
mod large;
pub(crate) mod passing;
pub(crate) mod places;
mod refuse;
pub(crate) mod replay;
pub(crate) mod spill;
mod versions;

use std::time::{Duration, Instant};

use bytes::Bytes;
use rowcast_core::{Batch, LogPosition, Pulse, SourceError, SourceStream, TableName};

use crate::Options;
use crate::binlog::{event, request};
use crate::catalog::Catalog;
use crate::catalog::versions::Found;
use crate::connection::packet::{HEADER, Header, MAX_PAYLOAD, Wire, WireError};
use crate::connection::{Connection, handshake, proxy};
use crate::error::{ServerError, Where};
use crate::replica;
use crate::shared::Shared;
use assembler::{Assembler, Outcome, RowsCursor};
use draft::Draft;
use inner::{Inner, Origin};
use keep::Registry;
use large::Large;
use spill::Room;

/// Bytes after which a batch is handed out.
pub(crate) const BATCH_BYTES: usize = 256 * 1024;
/// A read of less than this, soon after the last, is worth a pause: a busy server then fills the socket, and we make
/// one call instead of many.
const SHORT_READ: usize = 16 * 1024;
const BUSY: Duration = Duration::from_millis(2);
const PAUSE: Duration = Duration::from_millis(1);
/// How long a table that the catalog doesn't have may be on its way there, and how often that is looked at.
const NOT_YET_SEEN: Duration = Duration::from_millis(500);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A binlog stream.
#[derive(Debug)]
pub struct MysqlStream {
    wire: Wire,
    pulse: Pulse,
    place: Where,
    catalog: Catalog,
    assembler: Assembler,
    read_timeout: Duration,
    shared: Shared,
    /// When the last read was, and whether it was short.
    last_read: Option<(Instant, bool)>,
    /// An event of several packets in the making.
    large: Option<Large>,
    /// Such an event, whole.
    whole: Option<Bytes>,
    /// A row event whose rows didn't fit into the last batch.
    rest: Option<(Bytes, RowsCursor)>,
    /// Events that come before those of the socket, the last of them first: a transaction that was kept may end in a compressed one.
    inner: Vec<Inner>,
    /// The next packet holds an event to unpack.
    unpack: bool,
    room: Room,
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

enum Step {
    Batch(Batch),
    Need(TableName),
    /// There is more in memory.
    Again,
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
        pulse: Pulse,
        (shared, room): (Shared, Room),
    ) -> Result<Self, SourceError> {
        const DOING: &str = "starting the binlog stream";
        let Connection { mut wire, place, version, .. } = replica;
        let lost = |error: WireError| proxy::blamed(&version, place.transient(format_args!("{DOING}: {error}")));
        wire.command(&request::register(options.server_id, &replica::host(&options.name))).await.map_err(lost)?;
        let answer = wire.read(options.read_timeout).await.map_err(lost)?;
        if answer.first() == Some(&0xff) {
            let refused = place.server(crate::error::REGISTERING, &handshake::parse_error(&answer));
            return Err(proxy::blamed(&version, refused));
        }
        let dump = match start {
            LogPosition::Gtid(set) => request::dump_gtid(options.server_id, set),
            LogPosition::Binlog(at) => {
                let byte = u32::try_from(at.place.byte).map_err(|_| place.definite("an offset beyond 4 GiB"))?;
                request::dump_place(options.server_id, &at.place.file, byte)
            }
            _ => request::dump_maria(options.server_id, options.include_query || assembler.counts_queries()),
        };
        wire.command(&dump).await.map_err(lost)?;
        assembler.set_charsets(catalog.charsets.clone());
        let mut stream = Self {
            wire,
            pulse,
            place,
            catalog,
            assembler,
            read_timeout: options.read_timeout,
            shared,
            last_read: None,
            large: None,
            whole: None,
            rest: None,
            inner: Vec::new(),
            unpack: false,
            room,
            failed: None,
        };
        while Header::read(&stream.wire.buf).is_none_or(|header| stream.wire.buf.len() < HEADER + header.length) {
            stream.fill().await.map_err(|error| proxy::blamed(&version, error))?;
        }
        let first = stream.wire.buf.get(HEADER..).unwrap_or(&[]);
        if first.first() == Some(&0xff) {
            let length = Header::read(&stream.wire.buf).map_or(0, |header| header.length);
            let error = handshake::parse_error(first.get(..length).unwrap_or(first));
            return Err(proxy::blamed(&version, stream.explain(DOING, Failure::Server(error)).await));
        }
        if stream.assembler.by_place() {
            stream.first_file().await?;
        }
        Ok(stream)
    }

    /// Where the stream is.
    pub(crate) fn position(&self) -> &LogPosition {
        self.assembler.position()
    }

    /// Looks ahead at the two events that a stream begins with, which say which file is read and when it was begun: a position that is
    /// a place means something only with that.
    async fn first_file(&mut self) -> Result<(), SourceError> {
        let mut at = 0;
        loop {
            let rest = self.wire.buf.get(at..).unwrap_or(&[]);
            let Some(header) = Header::read(rest) else {
                self.fill().await?;
                continue;
            };
            let Some(payload) = rest.get(HEADER..HEADER + header.length) else {
                self.fill().await?;
                continue;
            };
            let event =
                payload.get(1..).filter(|_| payload.first() == Some(&0)).and_then(|it| event::Header::parse(it).ok());
            match event {
                Some(event) if event.kind == event::kind::FORMAT_DESCRIPTION => {
                    return self.assembler.first_file(event.timestamp);
                }
                Some(_) => at += HEADER + header.length,
                // an error: `next` meets it again
                None => return Ok(()),
            }
        }
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
        self.pulse.beat();
        self.last_read = Some((Instant::now(), count < SHORT_READ));
        match self.shared.take_alarm() {
            Some(why) => Err(self.place.transient(why)),
            None => Ok(()),
        }
    }

    /// Makes the next batch from what is in memory.
    fn step(&mut self) -> Result<Step, Failure> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let mut draft = self.assembler.draft();
        if let Some((data, cursor)) = self.rest.take() {
            let more = self.assembler.rows(&data, cursor, &mut draft)?;
            self.rest = more.map(|cursor| (data.clone(), cursor));
            return Ok(if draft.events.is_empty() { Step::Again } else { Step::Batch(draft.finish(data)) });
        }
        if !self.inner.is_empty() {
            return self.enclosed(draft);
        }
        if self.large.is_some() {
            return Ok(if self.collect()? { Step::Again } else { Step::Read });
        }
        if let Some(data) = self.whole.clone() {
            let outcome = match self.payload(&data)? {
                Some(start) => self.assembler.event(&data, start, data.len(), &mut draft)?,
                None => Outcome::Done,
            };
            match outcome {
                Outcome::Need(name) => return Ok(Step::Need(name)),
                Outcome::Unpack => self.inner.push(self.unpacked(&data)?),
                outcome => self.follow(outcome, &data)?,
            }
            self.whole = None;
            return Ok(if draft.events.is_empty() { Step::Again } else { Step::Batch(draft.finish(data)) });
        }
        if std::mem::take(&mut self.unpack) {
            return self.unpack_packets();
        }
        self.packets(draft)
    }

    /// What comes next after an event of `data`.
    fn follow(&mut self, outcome: Outcome, data: &Bytes) -> Result<(), Failure> {
        match outcome {
            Outcome::Done | Outcome::Need(_) | Outcome::Unpack => {}
            Outcome::More(cursor) => self.rest = Some((data.clone(), cursor)),
            Outcome::Inner(inner) => self.inner.push(*inner),
            Outcome::Payload(head, start) => {
                let payload = std::io::Cursor::new(data.slice(start.min(data.len())..));
                let read = head.read(payload).map_err(|error| self.assembler.payload_unreadable(&error.to_string()))?;
                self.inner.push(Inner::new(Origin::Payload, read));
            }
        }
        Ok(())
    }

    /// Walks the whole packets in the buffer.
    fn packets(&mut self, mut draft: Draft) -> Result<Step, Failure> {
        let (mut at, mut follows) = (0, None);
        while at < BATCH_BYTES && !draft.is_full() {
            let Some(header) = Header::read(self.wire.buf.get(at..).unwrap_or(&[])) else { break };
            if header.length == MAX_PAYLOAD {
                self.large = Some(Large::default());
                break;
            }
            let (start, end) = (at + HEADER, at + HEADER + header.length);
            let Some(payload) = self.wire.buf.get(start..end) else { break };
            let known = draft.events.len();
            let outcome = match self.payload(payload) {
                Err(error) => Err(error),
                Ok(_) if !self.wire.is_due(header) => {
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
                Ok(Outcome::Done) => {}
                // the same event again
                Ok(outcome @ (Outcome::Need(_) | Outcome::Unpack)) => {
                    follows = Some(outcome);
                    break;
                }
                Ok(outcome) => follows = Some(outcome),
            }
            self.wire.sequence = self.wire.sequence.wrapping_add(1);
            at = end;
            if follows.is_some() {
                break;
            }
        }
        let data = self.wire.buf.split_to(at).freeze();
        let mut step =
            if at >= BATCH_BYTES || follows.is_some() || self.failed.is_some() { Step::Again } else { Step::Read };
        if self.large.is_some() {
            step = Step::Again;
        }
        match follows {
            // asked again behind a batch
            Some(Outcome::Need(name)) => step = Step::Need(name),
            Some(Outcome::Unpack) => self.unpack = true,
            Some(outcome) => self.follow(outcome, &data)?,
            None => {}
        }
        Ok(if draft.events.is_empty() { step } else { Step::Batch(draft.finish(data)) })
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

    /// Passes over the binlog until everything that is asked for was found, and ends the connection.
    pub(crate) async fn gather(mut self) -> Result<Registry, SourceError> {
        loop {
            if let Some(found) = self.assembler.passed() {
                self.close().await;
                return Ok(found);
            }
            match self.step() {
                Ok(Step::Read) => self.fill().await?,
                Ok(_) => {}
                Err(failure) => {
                    return Err(self.explain("reading the binlog for prepared XA transactions", failure).await);
                }
            }
        }
    }
}

impl MysqlStream {
    /// What the catalog says of a table. The rows of `CREATE TABLE ... SELECT` are sent before the table is to be seen: at the log's
    /// end one that isn't there is asked for again.
    async fn look_up(&mut self, name: &TableName) -> Result<Option<Found>, SourceError> {
        let until = Instant::now() + NOT_YET_SEEN;
        loop {
            let found = self.catalog.table(name).await?;
            let at_the_end = self.last_read.is_some_and(|(_, short)| short);
            if found.is_some() || !at_the_end || Instant::now() >= until {
                return Ok(found);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
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
                Step::Again => {}
                Step::Need(name) => {
                    if self.assembler.asks_of_statement() {
                        Box::pin(self.catalog.await_statement(&name)).await;
                    }
                    let found = self.look_up(&name).await?;
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
