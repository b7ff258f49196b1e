//! The contract between a connector and the daemon.
//!
//! ```text
//! open(resume) ─► Opened { info, start, stream, confirm }
//!                                 │          └─ confirm(position): durable downstream, the server may forget
//!                                 └─ next() ─► Batch, Batch, ...
//! ```
//!
//! A source never resumes from what the server remembers; it is told the position by the checkpoint, and
//! answers with a definite error if the server no longer has what follows (a gap).

use std::future::Future;

use crate::backfill::TableReader;
use crate::error::SourceError;
use crate::event::Batch;
use crate::position::{LogPosition, Position};

/// A database whose log can be tailed.
pub trait Source: Send + Sync + 'static {
    /// The stream of batches that `open` starts.
    type Stream: SourceStream;
    /// How positions are confirmed to the server.
    type Confirm: Confirm;
    /// A connection that reads tables.
    type Reader: TableReader;

    /// Connects, checks the server's set-up, and starts the stream behind `resume`, or at the server's
    /// current end if there is no checkpoint ("now").
    ///
    /// The resume position may lie inside a transaction: the stream then begins with that whole transaction,
    /// and the daemon skips the rows that it has already published.
    ///
    /// # Errors
    /// Transient if a retry may help; definite for wrong configuration, missing privileges, and gaps.
    fn open(
        &self,
        resume: Option<&Position>,
    ) -> impl Future<Output = Result<Opened<Self::Stream, Self::Confirm>, SourceError>> + Send;

    /// Opens another connection, which reads tables.
    ///
    /// # Errors
    /// As `open`.
    fn reader(&self) -> impl Future<Output = Result<Self::Reader, SourceError>> + Send;
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
    /// Tables that match the configuration now, by qualifier (schema, else database) and name, sorted.
    pub tables: Vec<(String, String)>,
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
