//! Reading the rows that are already there: [`MysqlReader`], the connectors' `TableReader` for MySQL and MariaDB.
//!
//! ```text
//! plan ─► table (looked up under its lock) ─► ranges
//! begin ─► session (snapshot, place in the binlog) ─► table (still the same?) ─► statement ─► pieces ─► next
//! ```
//!
//! - [`session`]: settings, snapshots, what errors mean.
//! - [`table`]: the version, equal to the stream's, and the SELECT.
//! - [`lock`]: what a snapshot sees where there are no GTIDs.
//! - [`range`]: parts of a table along its key.
//! - [`pieces`]: packets to batches.
//!
//! Guarantees: every statement of a read is in one read-only transaction with a consistent snapshot; the table can't be
//! altered between the comparison with what is known of it and its last row; what the server says no to leaves the reader
//! ready. A read along the key is one pass over the index without a sort. A table without a key, or whose primary key
//! sorts by the beginning of a column only, is read whole. A partitioned table needs nothing special: the server merges
//! its partitions along the key. Only tables with transactions are read.
//!
//! A connection is made when one is needed; a whole read that is cut short costs its connection, since the rest would have
//! to be read to get it back.

mod lock;
mod pieces;
mod range;
mod session;
mod table;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rowcast_core::backfill::{Piece, Plan, ReadError, Reading, Snapshot, TableReader, Target, What};

use crate::Options;
use crate::connection::Failure;
use crate::shared::Shared;
use pieces::{Broken, Pieces};
use range::{Order, Range, Unfit};
use session::Session;
use table::{Known, Statistics};

/// Tables that are remembered.
const MAX_KNOWN: usize = 256;
/// How long a whole read may be silent: a filter may let nothing through for hours. A peer that has vanished is noticed by
/// TCP.
const WHOLE_SILENCE: Duration = Duration::from_secs(86_400);
const READING: &str = "read";
/// The only range of a table that has no key to be read along.
const WHOLE: &str = "whole";

/// A connection that reads tables.
#[derive(Debug)]
pub struct MysqlReader {
    options: Options,
    shared: Shared,
    /// Taken out while in use: what is cancelled midway leaves none behind.
    session: Option<Session>,
    /// By qualifier and name.
    known: HashMap<(String, String), Arc<Known>>,
    read: Option<Read>,
}

/// The read in progress.
#[derive(Debug)]
struct Read {
    known: Arc<Known>,
    pieces: Pieces,
    statement: u32,
    /// The end of the range, and how many rows were asked for; none for other reads.
    range: Option<(Range, u64)>,
    whole: bool,
    /// Nothing is left for `next`.
    finished: bool,
}

impl MysqlReader {
    /// Connects.
    pub(crate) async fn open(options: Options, shared: Shared) -> Result<Self, rowcast_core::SourceError> {
        let session = Some(Session::open(&options, &shared).await?);
        Ok(Self { options, shared, session, known: HashMap::new(), read: None })
    }

    /// The session for a new piece of work; a read that wasn't ended is ended.
    async fn idle(&mut self) -> Result<Session, ReadError> {
        if self.read.is_some() {
            self.end().await?;
        }
        match self.session.take() {
            Some(session) => Ok(session),
            None => Ok(Session::open(&self.options, &self.shared).await?),
        }
    }

    /// Ends the transaction and keeps the session, unless the connection is of no use any more.
    async fn put_back<T>(&mut self, mut session: Session, result: Result<T, ReadError>) -> Result<T, ReadError> {
        if !matches!(result, Err(ReadError::Source(_))) {
            match (session.finish().await, &result) {
                (Ok(()), _) => self.session = Some(session),
                // a server that has hung up on us said why
                (Err(_), Err(_)) => {}
                (Err(error), Ok(_)) => return Err(error.into()),
            }
        }
        result
    }

    fn key(target: &Target) -> (String, String) {
        (target.qualifier.clone(), target.table.clone())
    }

    fn remember(&mut self, target: &Target, known: Known) -> Arc<Known> {
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        let known = Arc::new(known);
        self.known.insert(Self::key(target), Arc::clone(&known));
        known
    }

    async fn started(
        &mut self,
        session: &mut Session,
        target: &Target,
        what: What<'_>,
        rows: u64,
    ) -> Result<(Reading, Read), ReadError> {
        let whole = matches!(what, What::Whole | What::Range(WHOLE));
        session.limit(!whole).await?;
        let known = match self.known.get(&Self::key(target)) {
            Some(known) => Arc::clone(known),
            None => {
                let (known, _) = Known::look_up(session, target).await?;
                session.finish().await?;
                self.remember(target, known)
            }
        };
        let reading = session.begin().await?;
        known.verify(session).await?;
        let filter = target.filter.as_deref();
        let order = || match &known.order {
            Some((order, _)) => Ok(order),
            None => Err(ReadError::Moved(format!("{} has no key any more that it can be read along", known.shown))),
        };
        let unfit = |unfit: Unfit| match unfit {
            Unfit::OtherKey => {
                ReadError::Moved(format!("{} has another key than when its ranges were planned", known.shown))
            }
            Unfit::Damaged(what) => ReadError::Refused(format!("{}: {what}; begin its backfill anew", known.shown)),
        };
        let mut range = None;
        let sql = match what {
            What::Whole => known.sql(&[], filter, None),
            What::Range(WHOLE) if known.order.is_none() => known.sql(&[], filter, None),
            What::Keys(keys) => {
                let keys = order()?.keys(keys).map_err(unfit)?;
                known.sql(&[keys], filter, None)
            }
            What::Range(text) => {
                let part = order()?.parse(text).map_err(unfit)?;
                // A read of no rows would never get on.
                let rows = rows.max(1);
                let sql = known.sql(&order()?.conditions(&part), filter, Some(rows));
                range = Some((part, rows));
                sql
            }
        };
        let failed = |session: &Session, failure: Failure| session.failed(&known.shown, READING, failure);
        let prepared = session.connection.prepare(READING, &sql).await;
        let prepared = prepared.map_err(|failure| failed(session, failure))?;
        match session.connection.execute(READING, prepared.id).await {
            Ok(columns) => {
                let limit = if whole { WHOLE_SILENCE } else { session.connection.read_timeout };
                let mut pieces = Pieces::new(Arc::clone(&known.table), limit);
                if columns != known.columns {
                    let lost = pieces.drain(&mut session.connection.wire).await;
                    lost.map_err(|error| session.connection.lost(READING, &error))?;
                    session.connection.close_statement(prepared.id).await?;
                    return Err(known.changed());
                }
                let statement = prepared.id;
                Ok((reading, Read { known, pieces, statement, range, whole, finished: false }))
            }
            Err(failure) => {
                let error = failed(session, failure);
                if !matches!(error, ReadError::Source(_)) {
                    session.connection.close_statement(prepared.id).await?;
                }
                Err(error)
            }
        }
    }
}

impl TableReader for MysqlReader {
    async fn plan(&mut self, target: &Target, ranges: usize) -> Result<Plan, ReadError> {
        self.known.remove(&Self::key(target));
        let mut session = self.idle().await?;
        let result = planned(&mut session, target, ranges).await;
        let (plan, known) = self.put_back(session, result).await?;
        self.remember(target, known);
        Ok(plan)
    }

    async fn snapshot(&mut self) -> Result<Snapshot, ReadError> {
        let mut session = self.idle().await?;
        let result = session.snapshot().await;
        self.put_back(session, result).await
    }

    async fn begin(&mut self, target: &Target, what: What<'_>, rows: u64) -> Result<Reading, ReadError> {
        let mut session = self.idle().await?;
        match self.started(&mut session, target, what, rows).await {
            Ok((reading, read)) => {
                self.session = Some(session);
                self.read = Some(read);
                Ok(reading)
            }
            Err(error) => {
                if matches!(error, ReadError::Changed(_) | ReadError::Gone) {
                    self.known.remove(&Self::key(target));
                }
                self.put_back(session, Err(error)).await
            }
        }
    }

    async fn next(&mut self) -> Result<Option<Piece>, ReadError> {
        let Some(read) = self.read.as_mut().filter(|read| !read.finished) else { return Ok(None) };
        let Some(mut session) = self.session.take() else {
            return Err(ReadError::Source(self.options.place().transient("the read was cancelled")));
        };
        match read.pieces.next(&mut session.connection.wire).await {
            Ok(cut) => {
                read.finished = read.pieces.is_done();
                let rest = match &read.range {
                    // Fewer than were asked for: there are no more.
                    Some((_, wanted)) if read.finished && read.pieces.rows < *wanted => None,
                    None => None,
                    Some((range, _)) => {
                        let key = cut.last.and_then(|last| read.known.table.key_literals(&cut.batch.data, &[last]));
                        let order: Option<&Order> = read.known.order.as_ref().map(|(order, _)| order);
                        let (Some(after), Some(order)) = (key, order) else {
                            let what = format_args!("a row of {} whose key can't be read", read.known.shown);
                            return Err(ReadError::Source(self.options.place().definite(what)));
                        };
                        Some(order.text(&Range { after, from: None, to: range.to.clone() }))
                    }
                };
                self.session = Some(session);
                Ok(Some(Piece { batch: cut.batch, rows: cut.rows, rest }))
            }
            Err(Broken::Wire(error)) => Err(ReadError::Source(session.connection.lost(READING, &error))),
            Err(Broken::Server(error)) => {
                let error = session.failed(&read.known.shown, READING, Failure::Server(error));
                let statement = read.statement;
                if matches!(error, ReadError::Changed(_) | ReadError::Gone) {
                    let table = &read.known.table.name;
                    let key = (table.qualifier().to_owned(), table.table.to_string());
                    self.known.remove(&key);
                }
                self.read = None;
                if !matches!(error, ReadError::Source(_)) {
                    session.connection.close_statement(statement).await?;
                }
                self.put_back(session, Err(error)).await
            }
        }
    }

    async fn end(&mut self) -> Result<(), ReadError> {
        let Some(mut read) = self.read.take() else { return Ok(()) };
        let Some(mut session) = self.session.take() else { return Ok(()) };
        if !read.pieces.over {
            if read.whole {
                return Ok(());
            }
            let drained = read.pieces.drain(&mut session.connection.wire).await;
            drained.map_err(|error| session.connection.lost(READING, &error))?;
        }
        session.connection.close_statement(read.statement).await?;
        self.put_back(session, Ok(())).await
    }
}

/// The plan of a table, in a transaction that the caller ends.
async fn planned(session: &mut Session, target: &Target, ranges: usize) -> Result<(Plan, Known), ReadError> {
    const PLANNING: &str = "planning";
    session.limit(true).await?;
    let (known, Statistics { rows, bytes }) = Known::look_up(session, target).await?;
    if let Some(filter) = &target.filter {
        known.check_filter(session, filter).await?;
    }
    let shown = &known.shown;
    let sql = format!("SELECT 1 FROM {shown} LIMIT 1");
    let empty = session.ask(shown, PLANNING, &sql).await?.is_empty();
    let ranges = match &known.order {
        _ if empty => Vec::new(),
        None => vec![WHOLE.to_owned()],
        Some((order, force)) => {
            let parts = match order.parts.first() {
                Some(first) if known.divisible => {
                    let sql = format!("SELECT MIN({0}), MAX({0}) FROM {shown}{force}", first.name);
                    let found = session.ask(shown, PLANNING, &sql).await?;
                    let number = |index: usize| -> Option<i128> { found.first()?.get(index)?.as_ref()?.parse().ok() };
                    match (number(0), number(1)) {
                        (Some(least), Some(most)) => order.cut(least, most, ranges),
                        _ => vec![Range::default()],
                    }
                }
                _ => vec![Range::default()],
            };
            parts.iter().map(|range| order.text(range)).collect()
        }
    };
    let keyed = known.order.is_some();
    let plan = Plan { name: known.table.name.clone(), keyed, rows_move: false, ranges, rows, bytes };
    Ok((plan, known))
}
