//! Our own connection, up to the start of a stream of any kind: log in, simple queries, START_REPLICATION.
//!
//! Both kinds of session have the same settings where these decide how values are written.
//!
//! Every step is bounded by the time-out of the source. An ErrorResponse is an error with the server's words;
//! after one inside a query the connection is usable again (ReadyForQuery is awaited).

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use postgres_protocol::message::frontend;
use rowcast_core::SourceError;
use rowcast_net::{Arrivals, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use super::frame::{self, HEADER, Peek};
use super::{auth, tls};
use crate::error::{ServerError, Target};
use crate::wire::Wire;
use crate::{Options, session};

/// Rows of text values.
pub(crate) type Rows = Vec<Vec<Option<String>>>;

/// No answer before the stream is longer than this: a server that says so isn't one.
const MAX_ANSWER: usize = 1 << 20;

/// Frames over a connection, with a time-out on each receive.
#[derive(Debug)]
pub(crate) struct Wired {
    stream: Stream,
    buf: BytesMut,
    target: Target,
    timeout: Duration,
    /// SQLSTATE of the last error that was received as one.
    refused: Option<String>,
}

impl Wired {
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    pub(super) fn is_tls(&self) -> bool {
        self.stream.is_tls()
    }

    pub(super) fn certificate(&self) -> Option<Vec<u8>> {
        self.stream.server_certificate().map(|certificate| certificate.to_vec())
    }

    pub(super) fn damaged(&self) -> SourceError {
        self.target.definite("the server's answer is damaged").repair("check that `source.port` is PostgreSQL's")
    }

    pub(super) fn unexpected(&self, tag: u8, doing: &str) -> SourceError {
        self.target.definite(format!("{doing}: the server sent an unexpected message 0x{tag:02x}"))
    }

    pub(super) async fn send(
        &mut self,
        message: impl FnOnce(&mut BytesMut) -> io::Result<()>,
    ) -> Result<(), SourceError> {
        let mut out = BytesMut::new();
        message(&mut out).map_err(|error| self.target.definite(format!("a message can't be built: {error}")))?;
        let sent = async {
            self.stream.write_all(&out).await?;
            self.stream.flush().await
        };
        match tokio::time::timeout(self.timeout, sent).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.target.transient(format!("connection lost: {error}"))),
            Err(_) => Err(self.target.transient(format!("the server took no message within {:?}", self.timeout))),
        }
    }

    /// The next message that isn't a notice or a parameter's status. An ErrorResponse is the error.
    pub(super) async fn receive(&mut self, doing: &str) -> Result<(u8, Vec<u8>), SourceError> {
        match self.receive_any(doing).await? {
            (b'E', body) => {
                let error = ServerError::parse(&body);
                let explained = error.explain(&self.target, doing);
                self.refused = Some(error.code);
                Err(explained)
            }
            message => Ok(message),
        }
    }

    async fn receive_any(&mut self, doing: &str) -> Result<(u8, Vec<u8>), SourceError> {
        let deadline = tokio::time::Instant::now() + self.timeout;
        loop {
            match frame::peek(&self.buf).map_err(|error| self.target.definite(error).repair("check `source.port`"))? {
                Peek::Whole { total, .. } | Peek::Part { total } if total > MAX_ANSWER => return Err(self.damaged()),
                Peek::Whole { tag, total } => {
                    let body = self.buf.get(HEADER..total).unwrap_or_default().to_vec();
                    self.buf.advance(total);
                    // ParameterStatus, NoticeResponse, BackendKeyData, NegotiateProtocolVersion
                    if !matches!(tag, b'S' | b'N' | b'K' | b'v') {
                        return Ok((tag, body));
                    }
                }
                Peek::Part { .. } | Peek::Nothing => {
                    let read = tokio::time::timeout_at(deadline, self.stream.read_buf(&mut self.buf)).await;
                    match read {
                        Ok(Ok(0)) => {
                            return Err(self.target.transient(format!("{doing}: the server closed the connection")));
                        }
                        Ok(Ok(_)) => {}
                        Ok(Err(error)) => {
                            return Err(self.target.transient(format!("{doing}: connection lost: {error}")));
                        }
                        Err(_) => {
                            let what = format!("{doing}: no answer within {:?}", self.timeout);
                            return Err(self.target.transient(what));
                        }
                    }
                }
            }
        }
    }

    /// Reads to ReadyForQuery, after an error.
    async fn recover(&mut self, doing: &str) -> Result<(), SourceError> {
        loop {
            if self.receive_any(doing).await?.0 == b'Z' {
                return Ok(());
            }
        }
    }
}

/// What a query came to: rows, or the server's error with the connection still usable.
pub(crate) type Answer<T> = Result<Result<T, ServerError>, SourceError>;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// `replication=database`.
    Replication,
    /// An ordinary session that reads tables.
    Reading,
}

/// A logged-in connection that doesn't stream yet.
#[derive(Debug)]
pub(crate) struct Connection {
    wired: Wired,
}

/// The halves of a connection that streams, and the bytes that were read already.
#[derive(Debug)]
pub(crate) struct Streaming {
    pub(crate) read: ReadHalf<Stream>,
    pub(crate) write: WriteHalf<Stream>,
    pub(crate) buf: BytesMut,
    pub(crate) arrivals: Option<Arrivals>,
}

impl Connection {
    /// Connects and logs in, in each way that the TLS mode allows.
    pub(crate) async fn connect(options: &Options, target: &Target, purpose: Purpose) -> Result<Self, SourceError> {
        let mut refused: Option<SourceError> = None;
        for way in tls::ways(options) {
            let connecting = tls::connect(options, target, options.servers.chosen(), *way);
            let connected = tokio::time::timeout(options.connect_timeout, connecting)
                .await
                .map_err(|_| target.transient(format!("no connection within {:?}", options.connect_timeout)));
            let stream = match (connected.and_then(|connected| connected), refused.take()) {
                (Ok(stream), _) => stream,
                (Err(_), Some(first)) => return Err(first),
                (Err(error), None) => return Err(error),
            };
            let encrypted = stream.is_tls();
            let mut wired = Wired {
                stream,
                buf: BytesMut::with_capacity(8192),
                target: target.clone(),
                timeout: options.connect_timeout,
                refused: None,
            };
            match Self::log_in(&mut wired, options, purpose).await {
                Ok(()) => return Ok(Self { wired }),
                Err(error) => {
                    let another = wired.refused.as_deref().is_some_and(tls::is_of_the_way);
                    if !another || (!encrypted && *way == tls::Encrypt::IfOffered) {
                        return Err(error);
                    }
                    refused = Some(error);
                }
            }
        }
        Err(refused.unwrap_or_else(|| target.transient("no connection")))
    }

    async fn log_in(wired: &mut Wired, options: &Options, purpose: Purpose) -> Result<(), SourceError> {
        let name = session::application_name(&options.name);
        let reading = format!("{} {}", session::OPTIONS, session::READING);
        let (settings, kind) = match purpose {
            Purpose::Replication => (session::OPTIONS, Some(("replication", "database"))),
            Purpose::Reading => (reading.as_str(), None),
        };
        let parameters = [
            ("user", options.user.as_str()),
            ("database", options.database.as_str()),
            ("application_name", name.as_str()),
            ("client_encoding", "UTF8"),
            ("options", settings),
        ]
        .into_iter()
        .chain(kind);
        wired.send(|buf| frontend::startup_message(parameters, buf)).await?;
        auth::log_in(wired, options).await?;
        match wired.receive("starting a session").await? {
            (b'Z', _) => Ok(()),
            (tag, _) => Err(wired.unexpected(tag, "starting a session")),
        }
    }

    pub(crate) fn target(&self) -> &Target {
        self.wired.target()
    }

    /// Runs one command and collects its rows. May take longer than other steps: creating a slot waits for
    /// transactions in progress to end.
    pub(crate) async fn query(&mut self, command: &str, doing: &str, timeout: Duration) -> Answer<Rows> {
        let usual = std::mem::replace(&mut self.wired.timeout, timeout);
        let answer = self.query_inner(command, doing).await;
        self.wired.timeout = usual;
        answer
    }

    async fn query_inner(&mut self, command: &str, doing: &str) -> Answer<Rows> {
        self.wired.send(|buf| frontend::query(command, buf)).await?;
        let mut rows = Rows::new();
        loop {
            match self.wired.receive_any(doing).await? {
                (b'D', body) => rows.push(data_row(&body).ok_or_else(|| self.wired.damaged())?),
                (b'T' | b'C' | b'I', _) => {}
                (b'Z', _) => return Ok(Ok(rows)),
                (b'E', body) => {
                    self.wired.recover(doing).await?;
                    return Ok(Err(ServerError::parse(&body)));
                }
                (tag, _) => return Err(self.wired.unexpected(tag, doing)),
            }
        }
    }

    /// Sends START_REPLICATION and waits for CopyBothResponse.
    pub(crate) async fn start(&mut self, command: &str) -> Answer<()> {
        const DOING: &str = "starting the stream";
        self.wired.send(|buf| frontend::query(command, buf)).await?;
        match self.wired.receive_any(DOING).await? {
            (b'W', _) => Ok(Ok(())),
            (b'E', body) => {
                self.wired.recover(DOING).await?;
                Ok(Err(ServerError::parse(&body)))
            }
            (tag, _) => Err(self.wired.unexpected(tag, DOING)),
        }
    }

    /// Takes the connection apart: after [`Connection::start`], or between queries.
    pub(crate) fn into_streaming(self) -> Streaming {
        let arrivals = self.wired.stream.arrivals();
        let (read, write) = tokio::io::split(self.wired.stream);
        Streaming { read, write, buf: self.wired.buf, arrivals }
    }
}

/// A DataRow: number of columns, then for each a length (-1 for NULL) and text.
pub(crate) fn data_row(body: &[u8]) -> Option<Vec<Option<String>>> {
    let mut wire = Wire::new(body);
    let mut row = Vec::new();
    for _ in 0..wire.u16()? {
        row.push(match usize::try_from(wire.i32()?) {
            Ok(length) => Some(String::from_utf8_lossy(wire.take(length)?).into_owned()),
            Err(_) => None,
        });
    }
    Some(row)
}

/// An identifier in double quotes, for commands and SQL.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A literal in single quotes.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_literals_are_quoted() {
        assert_eq!(quote("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("it's"), "'it''s'");
    }

    #[test]
    fn a_data_row_with_nulls_is_read_and_a_damaged_one_refused() {
        let row = data_row(b"\0\x02\0\0\0\x01x\xff\xff\xff\xff");
        assert_eq!(row, Some(vec![Some("x".to_owned()), None]));
        assert_eq!(data_row(b"\0\x01\0\0\0\x05x"), None);
        assert_eq!(data_row(b""), None);
    }
}
