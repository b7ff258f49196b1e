//! The contract between a connector and the daemon.
//!
//! ```text
//! open(resume) ─► Opened { info, start, stream, confirm, pulse }
//!                                 │          └─ confirm(position): durable downstream, the server may forget
//!                                 └─ next() ─► Batch, Batch, ...
//! ```
//!
//! A source never resumes from what the server remembers; it is told the position by the checkpoint, and
//! answers with a definite error if the server no longer has what follows (a gap).

use std::future::Future;
use std::sync::Arc;

use crate::backfill::TableReader;
use crate::error::SourceError;
use crate::event::Batch;
use crate::kept::KeptSchema;
use crate::monitor::{Monitor, Pulse};
use crate::position::{LogPosition, Position, Prepared};

/// A database whose log can be tailed.
pub trait Source: Send + Sync + 'static {
    /// The stream of batches that `open` starts.
    type Stream: SourceStream;
    /// How positions are confirmed to the server.
    type Confirm: Confirm;
    /// A connection that reads tables.
    type Reader: TableReader;
    /// What looks at the server's end of the log.
    type Monitor: Monitor;

    /// Connects, checks the server's set-up, and starts the stream where `begin` says.
    ///
    /// The checkpoint's position may lie inside a transaction: the stream then begins with that whole transaction,
    /// and the daemon skips the rows that it has already published.
    ///
    /// # Errors
    /// Transient if a retry may help; definite for wrong configuration, missing privileges, another server than the
    /// checkpoint's; a gap if the server no longer has what follows the position.
    fn open(
        &self,
        begin: Begin<'_>,
    ) -> impl Future<Output = Result<Opened<Self::Stream, Self::Confirm>, SourceError>> + Send;

    /// Opens another connection, which reads tables.
    ///
    /// # Errors
    /// As `open`.
    fn reader(&self) -> impl Future<Output = Result<Self::Reader, SourceError>> + Send;

    /// Something that tells how far the server's log goes, on a connection of its own; it connects when it is first asked.
    fn monitor(&self) -> Self::Monitor;
}

/// Where a stream begins.
#[derive(Debug, Clone, Copy)]
pub enum Begin<'a> {
    /// There is no checkpoint: at the server's current end, or where the server remembers us.
    Now,
    /// Behind the checkpoint's position, on the server of this identity ([`SourceInfo::identity`]).
    At {
        /// Everything up to here is published.
        position: &'a Position,
        /// None if it isn't known.
        identity: Option<&'a str>,
        /// What the connector has had kept of the tables.
        schemas: &'a [Arc<KeptSchema>],
    },
    /// Behind a gap: at the server's current end. What the server remembers of us and is of no use any more is replaced.
    Anew {
        /// As in [`Begin::At`].
        identity: Option<&'a str>,
    },
}

impl<'a> Begin<'a> {
    /// The checkpoint's position, if the stream begins there.
    pub fn position(&self) -> Option<&'a Position> {
        match self {
            Begin::At { position, .. } => Some(position),
            Begin::Now | Begin::Anew { .. } => None,
        }
    }

    /// What was kept of the tables' columns at the checkpoint's position.
    pub fn schemas(&self) -> &'a [Arc<KeptSchema>] {
        match self {
            Begin::At { schemas, .. } => schemas,
            Begin::Now | Begin::Anew { .. } => &[],
        }
    }

    /// The identity that the server must have.
    pub fn identity(&self) -> Option<&'a str> {
        match self {
            Begin::At { identity, .. } | Begin::Anew { identity } => *identity,
            Begin::Now => None,
        }
    }
}

/// A source that streams.
#[derive(Debug)]
pub struct Opened<S, C> {
    /// What was found on the server.
    pub info: SourceInfo,
    /// Where the stream begins: the resume position's log position, or "now".
    pub start: LogPosition,
    /// The stream.
    pub stream: S,
    /// The way back.
    pub confirm: C,
    /// Beats with everything that the stream's connection receives.
    pub pulse: Pulse,
}

/// What a source found on its server; for the start line in the log and for the checkpoint's identity check.
#[derive(Debug, Clone)]
pub struct SourceInfo {
    /// `postgres`, `mysql` or `mariadb`.
    pub kind: &'static str,
    /// Server version as it says.
    pub server: String,
    /// What must stay the same between runs (PostgreSQL's system identifier); none where the position itself
    /// says it (GTID sets are valid on every server of a replication topology).
    pub identity: Option<String>,
    /// The branch of its history that positions lie on from now on; see [`Position::timeline`].
    pub timeline: Option<u32>,
    /// Tables that match the configuration now, by qualifier (schema, else database) and name, sorted.
    pub tables: Vec<(String, String)>,
    /// At a first start: what was prepared before it and hasn't ended; see [`Position::prepared`].
    pub prepared: Vec<Prepared>,
    /// What an operator should know at start: a table whose updates hold only the key, a slot that was created.
    pub notes: Vec<String>,
}

/// A running stream.
pub trait SourceStream: Send + 'static {
    /// The next batch. Returns as soon as something is there, with all that is there up to a bounded size; waits
    /// otherwise. Dropping the future between calls loses nothing (cancel-safe).
    ///
    /// While it isn't called the connection stays alive, and the server is held back by its full socket.
    ///
    /// # Errors
    /// Ends the stream: it must not be called again.
    fn next(&mut self) -> impl Future<Output = Result<Batch, SourceError>> + Send;

    /// Ends the stream in an orderly way, after a last confirmation was sent. Bounded in time by the caller.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// Tells the server what is durable downstream. Called from the publisher's thread; never blocks.
pub trait Confirm: Send + 'static {
    /// Everything before this position is committed in the sink. Called in order; never inside a transaction.
    fn confirm(&self, position: &LogPosition);

    /// Somebody waits to learn how far the server has sent; a source whose server says so by itself, soon, does nothing.
    fn ask(&self) {}
}
