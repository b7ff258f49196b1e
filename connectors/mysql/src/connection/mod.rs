//! A connection to a MySQL or MariaDB server: TCP or a Unix socket, TLS, login, compression, and catalog queries.
//!
//! ```text
//! connect ─► greeting ─► [TLS] ─► login ─► [frames] query ... ─► (into the binlog stream)
//! ```
//!
//! Our own, because no crate gives access to the packets of a binlog dump. Every wait has a time-out; every error
//! names server and user, never the password. A query that was cancelled midway leaves the connection unusable, so
//! callers drop it then.

mod auth;
pub(crate) mod compress;
pub(crate) mod handshake;
mod login;
pub(crate) mod packet;
pub(crate) mod proxy;
pub(crate) mod statement;

use std::time::Duration;

use rowcast_core::SourceError;

use crate::Options;
use crate::cursor::{Cursor, Short};
use crate::error::{ServerError, Where};
use packet::{Wire, WireError};

const COM_QUIT: u8 = 1;
const COM_QUERY: u8 = 3;
/// Most bytes that the result of one catalog query may have.
const MAX_RESULT: usize = 64 << 20;

/// Rows of a catalog query: text or NULL.
pub(crate) type Rows = Vec<Vec<Option<String>>>;

/// A connection that is logged in.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) wire: Wire,
    pub(crate) place: Where,
    pub(crate) version: String,
    pub(crate) read_timeout: Duration,
}

/// Why a statement failed: the connection is lost, or the server said no and waits for the next one.
#[derive(Debug)]
pub(crate) enum Failure {
    Source(SourceError),
    Server(ServerError),
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        Failure::Source(error)
    }
}

impl Connection {
    /// Connects and logs in within `connect_timeout`; a command that prints the password has its share of it.
    pub(crate) async fn open(options: &Options) -> Result<Self, SourceError> {
        let place = options.place();
        let limit = options.connect_timeout;
        match tokio::time::timeout(limit, Box::pin(login::login(options, place.clone()))).await {
            Ok(result) => result,
            Err(_) => Err(place.transient(format_args!("not logged in within {limit:?}"))),
        }
    }

    /// Runs a statement and returns its rows (none for a statement without a result).
    pub(crate) async fn query(&mut self, doing: &str, sql: &str) -> Result<Rows, SourceError> {
        self.ask(doing, sql).await.map_err(|failure| match failure {
            Failure::Source(error) => error,
            Failure::Server(error) => self.place.server(doing, &error),
        })
    }

    /// The same for callers that look at the server's error themselves.
    pub(crate) async fn ask(&mut self, doing: &str, sql: &str) -> Result<Rows, Failure> {
        let mut payload = Vec::with_capacity(sql.len() + 1);
        payload.push(COM_QUERY);
        payload.extend_from_slice(sql.as_bytes());
        let place = self.place.clone();
        let wire_error = |error: WireError| place.transient(format_args!("{doing}: {error}"));
        let protocol = |Short| place.protocol(format_args!("{doing}: a malformed result"));

        self.wire.command(&payload).await.map_err(wire_error)?;
        let head = self.wire.read(self.read_timeout).await.map_err(wire_error)?;
        match head.first() {
            Some(0x00) => return Ok(Vec::new()),
            Some(0xff) => return Err(Failure::Server(handshake::parse_error(&head))),
            _ => {}
        }
        let columns = Cursor::new(&head).lenenc().map_err(protocol)?;
        for _ in 0..columns {
            self.wire.read(self.read_timeout).await.map_err(wire_error)?;
        }
        let end = self.wire.read(self.read_timeout).await.map_err(wire_error)?;
        if end.first() != Some(&0xfe) {
            return Err(protocol(Short).into());
        }
        let (mut rows, mut size) = (Rows::new(), 0_usize);
        loop {
            let packet = self.wire.read(self.read_timeout).await.map_err(wire_error)?;
            match packet.first() {
                Some(0xff) => return Err(Failure::Server(handshake::parse_error(&packet))),
                // An EOF packet; a row that begins with 0xfe is longer.
                Some(0xfe) if packet.len() < 9 => return Ok(rows),
                _ => {}
            }
            size += packet.len();
            if size > MAX_RESULT {
                let what = format_args!("{doing}: the result is larger than {MAX_RESULT} bytes");
                return Err(place.definite(what).into());
            }
            let mut at = Cursor::new(&packet);
            let mut row = Vec::new();
            for _ in 0..columns {
                if at.rest().first() == Some(&0xfb) {
                    at.u8().map_err(protocol)?;
                    row.push(None);
                } else {
                    row.push(Some(String::from_utf8_lossy(at.lenenc_bytes().map_err(protocol)?).into_owned()));
                }
            }
            rows.push(row);
        }
    }

    /// Says good-bye; failures don't matter any more.
    pub(crate) async fn quit(mut self) {
        let _ = tokio::time::timeout(Duration::from_millis(200), self.wire.command(&[COM_QUIT])).await;
    }
}
