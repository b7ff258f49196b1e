//! The connection of a reader: statements out, frames in.
//!
//! It counts the ReadyForQuery messages that the server still owes. What comes is bounded by who reads it: rows stay in
//! the [`Reader`]'s buffer until they are given out, and [`Link::collect`] keeps few.
//!
//! Fails with the source's error (a lost connection, a silent server, a broken protocol); then the connection is of no use
//! any more. The server's own errors are answers.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rowcast_core::SourceError;
use rowcast_net::Stream;
use tokio::io::{AsyncWriteExt, WriteHalf};
use tokio::time::Instant;

use crate::Options;
use crate::error::{ServerError, Target};
use crate::replication::connection::{Connection, Purpose, Rows, data_row};
use crate::replication::reader::{Frame, Reader};

/// Silence after which the server is given up. Statements end by themselves before ([`crate::session::READING`]).
pub(super) const SILENCE: Duration = Duration::from_secs(90);
/// The same where a statement has no time limit. A server that is gone is noticed earlier by TCP's keep-alive.
pub(super) const LONG_SILENCE: Duration = Duration::from_secs(3600);
/// Rows that [`Link::collect`] keeps.
const MAX_ROWS: usize = 64;

/// What a server is like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Server {
    /// `server_version_num`
    pub(super) version: u32,
    /// Size of a table's blocks.
    pub(super) block: u32,
    /// Size of a page of the log.
    pub(super) wal_page: u64,
    /// Size of a file of the log.
    pub(super) wal_segment: u64,
}

/// The connection.
#[derive(Debug)]
pub(super) struct Link {
    reader: Reader,
    write: WriteHalf<Stream>,
    target: Target,
    timeout: Duration,
    pub(super) silence: Duration,
    owed: u32,
}

impl Link {
    /// Connects, and looks at the server.
    ///
    /// # Errors
    /// Definite for a standby, whose snapshots don't say which transactions are in progress: there these are kept as
    /// subtransactions (`procarray.c`, GetSnapshotData in recovery), which `pg_current_snapshot` leaves out.
    pub(super) async fn open(options: &Options, target: &Target) -> Result<(Self, Server), SourceError> {
        const DOING: &str = "opening a connection that reads tables";
        let mut connection = Connection::connect(options, target, Purpose::Reading).await?;
        let mut query = async |sql: &str| {
            let rows = connection.query(sql, DOING, options.connect_timeout).await?;
            rows.map_err(|error| error.explain(target, DOING))
        };
        let rows = query(SERVER).await?;
        let cell = |index: usize| rows.first().and_then(|row| row.get(index)?.as_deref());
        let number = |index| cell(index).and_then(|text| text.parse::<u64>().ok());
        let found = || {
            Some(Server {
                version: u32::try_from(number(0)?).ok()?,
                block: u32::try_from(number(2)?).ok()?,
                wal_page: number(3)?,
                wal_segment: number(4)?,
            })
        };
        let server = found().ok_or_else(|| target.transient(format!("{DOING}: an answer that can't be read")))?;
        if cell(1) != Some("f") {
            return Err(target
                .definite("the server is a standby: what a read there sees can't be told exactly, so that no backfill is possible")
                .repair("set `source.host` to the primary"));
        }
        // a reader waits between reads, and reads as long as the daemon wants to
        for (since, setting) in [(140_000, "idle_session_timeout"), (170_000, "transaction_timeout")] {
            if server.version >= since {
                query(&format!("SET {setting} = 0")).await?;
            }
        }
        let streaming = connection.into_streaming();
        let reader = Reader::new(streaming.read, streaming.buf);
        let (timeout, target) = (options.connect_timeout, target.clone());
        Ok((Self { reader, write: streaming.write, target, timeout, silence: SILENCE, owed: 0 }, server))
    }

    /// The frames.
    pub(super) fn reader(&mut self) -> &mut Reader {
        &mut self.reader
    }

    /// How many ReadyForQuery are still to come.
    pub(super) fn owed(&self) -> u32 {
        self.owed
    }

    /// Sends messages that the server answers with `ready` times ReadyForQuery.
    pub(super) async fn send(
        &mut self,
        ready: u32,
        messages: impl FnOnce(&mut BytesMut) -> io::Result<()>,
    ) -> Result<(), SourceError> {
        let mut out = BytesMut::new();
        messages(&mut out).map_err(|error| self.target.definite(format!("a message can't be built: {error}")))?;
        self.owed += ready;
        let sent = async {
            self.write.write_all(&out).await?;
            self.write.flush().await
        };
        match tokio::time::timeout(self.timeout, sent).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.lost(&error)),
            Err(_) => Err(self.target.transient(format!("the server took no message within {:?}", self.timeout))),
        }
    }

    fn lost(&self, error: &io::Error) -> SourceError {
        self.target.transient(format!("reading a table: connection lost: {error}"))
    }

    pub(super) fn broken(&self, what: &str) -> SourceError {
        self.target
            .definite(format!("reading a table: {what}"))
            .repair("this is a defect of rowcast or of the server: please report it with both versions")
    }

    /// The next frame if it is there. Notices and changed parameters are skipped; ReadyForQuery is counted.
    /// It stays next until [`Reader::advance`].
    pub(super) fn ready_frame(&mut self) -> Result<Option<Frame>, SourceError> {
        loop {
            let Some(frame) = self.reader.frame().map_err(|error| self.target.definite(error))? else {
                return Ok(None);
            };
            if !matches!(frame.tag, b'N' | b'S' | b'A') {
                return Ok(Some(frame));
            }
            self.reader.advance(frame);
        }
    }

    /// Takes a ReadyForQuery in.
    pub(super) fn ready(&mut self) -> Result<(), SourceError> {
        self.owed = self.owed.checked_sub(1).ok_or_else(|| self.broken("an answer that nobody asked for"))?;
        Ok(())
    }

    /// Waits for bytes.
    pub(super) async fn wait(&mut self) -> Result<(), SourceError> {
        match tokio::time::timeout_at(Instant::now() + self.silence, self.reader.read()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.lost(&error)),
            Err(_) => {
                let what = format!("reading a table: nothing was heard from the server for {:?}", self.silence);
                Err(self.target.transient(what))
            }
        }
    }

    /// Waits for a frame.
    pub(super) async fn frame(&mut self) -> Result<Frame, SourceError> {
        loop {
            if let Some(frame) = self.ready_frame()? {
                return Ok(frame);
            }
            self.wait().await?;
        }
    }

    /// A frame was taken in, and nothing points into it.
    pub(super) fn drop_frame(&mut self, frame: Frame) {
        self.reader.advance(frame);
        self.reader.discard();
    }

    /// Reads until the server owes `owed` answers: the first rows of text, or the first error.
    pub(super) async fn collect(&mut self, owed: u32) -> Result<Result<Rows, ServerError>, SourceError> {
        let mut answer = Ok(Rows::new());
        while self.owed > owed {
            let frame = self.frame().await?;
            match frame.tag {
                b'Z' => self.ready()?,
                b'E' if answer.is_ok() => answer = Err(ServerError::parse(self.reader.body(frame))),
                b'D' => {
                    if let Ok(rows) = &mut answer
                        && rows.len() < MAX_ROWS
                    {
                        let row = data_row(self.reader.body(frame));
                        rows.push(row.ok_or_else(|| self.target.definite("reading a table: a damaged answer"))?);
                    }
                }
                _ => {}
            }
            self.drop_frame(frame);
        }
        Ok(answer)
    }

    /// Forgets all that the server still has to say. Memory: one frame at a time.
    pub(super) async fn drain(&mut self) -> Result<(), SourceError> {
        self.reader.discard();
        while self.owed > 0 {
            let frame = self.frame().await?;
            if frame.tag == b'Z' {
                self.ready()?;
            }
            self.drop_frame(frame);
        }
        Ok(())
    }

    /// Runs statements that give a few short rows, or none.
    pub(super) async fn query(&mut self, sql: &str) -> Result<Result<Rows, ServerError>, SourceError> {
        self.send(1, |out| frontend::query(sql, out)).await?;
        self.collect(0).await
    }

    /// Ends the transaction, whatever state it is in.
    pub(super) async fn roll_back(&mut self) -> Result<(), SourceError> {
        self.drain().await?;
        self.silence = SILENCE;
        // an error here is one of a session that ends
        self.query("ROLLBACK").await?.map(drop).map_err(|error| error.explain(&self.target, "ending a read"))
    }
}

const SERVER: &str = "\
    SELECT current_setting('server_version_num'), pg_is_in_recovery(), current_setting('block_size'), \
        current_setting('wal_block_size'), pg_size_bytes(current_setting('wal_segment_size'))";
