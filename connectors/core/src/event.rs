//! Events: what a source yields, in batches that keep the raw bytes of the rows.
//!
//! A [`Batch`] is self-contained: it says which transaction was open when it began, so that batches can be
//! encoded in parallel and put back in order. Transactions may span batches; a batch may hold many
//! transactions. The order of events is the source's commit order.

use std::sync::Arc;

use bytes::Bytes;

use crate::backfill::Offset;
use crate::binlog::BinlogMark;
use crate::kept::{KeptSchema, TableFailure};
use crate::position::{LogPosition, Lsn, Mark, Prepared};
use crate::schema::{Table, TableName};

/// A piece of the stream: raw bytes and the events that point into them.
#[derive(Debug, Default)]
pub struct Batch {
    /// The bytes as they came from the socket. Below 4 GiB.
    pub data: Bytes,
    /// The table versions that the changes refer to by index, each once.
    pub tables: Vec<Arc<Table>>,
    /// The transaction in progress where the batch begins; none between transactions.
    pub open: Option<Arc<Transaction>>,
    /// The text of the statement in progress where the batch begins, if it is asked for.
    pub statement: Option<Bytes>,
    /// Bytes that the events keep beside `data`: texts of statements.
    pub beside: usize,
    /// Events in commit order.
    pub events: Vec<Event>,
}

impl Batch {
    /// Bytes that this batch keeps in memory, for the budget: data and events, with the room that these have.
    pub fn memory(&self) -> usize {
        self.data.len() + self.beside + self.events.capacity() * size_of::<Event>()
    }

    /// The bytes of a span; empty if the span lies outside, which only a connector's defect can cause.
    pub fn bytes(&self, span: Span) -> &[u8] {
        span.of(&self.data)
    }
}

/// One event.
#[derive(Debug)]
pub enum Event {
    /// A transaction begins; all changes up to its `Commit` belong to it.
    Begin(Arc<Transaction>),
    /// A row changed, or a table was truncated.
    Change(Change),
    /// A message that an application wrote into the log (PostgreSQL `pg_logical_emit_message`).
    Message(Message),
    /// The statement whose changes follow, as the server logged its text; none if it doesn't say. It holds until the next one, at
    /// most to the transaction's end.
    Statement(Option<Bytes>),
    /// The transaction in progress, which has no changes, ends with the PREPARE of another one; see [`crate::Position::prepared`].
    /// Of effect with its `Commit`.
    Prepared(Box<Prepared>),
    /// The transaction in progress ends a prepared one, by this name. Of effect with its `Commit`.
    Settled(Box<str>),
    /// The transaction ends, at this point of the server's log. After it, the log position is advanced by this mark.
    Commit(Mark, Offset),
    /// A statement that isn't about rows, as the server logged it: DDL. Only if the connector is asked for these (MySQL, MariaDB).
    Ddl(Arc<Ddl>),
    /// A table can't be followed from here on.
    TableFailed(Arc<TableFailure>),
    /// What is to be kept of a table's columns has changed.
    Schema(Arc<KeptSchema>),
    /// Outside of any transaction: the server has nothing for us before this position, which is this point of its log.
    Heartbeat(LogPosition, Offset),
}

/// A transaction of the source. `id` and `pos` are formatted once for all of its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// The source's name of it: PostgreSQL's xid, a GTID.
    pub id: String,
    /// PostgreSQL's id as a number, without its epoch; none for other kinds.
    pub xid: Option<u32>,
    /// The position of its commit as text: an LSN, a GTID, file and offset of a binlog. Sortable by the rules of its kind.
    pub pos: String,
    /// The position of its commit.
    pub mark: Mark,
    /// Commit time in microseconds since 1970-01-01T00:00:00Z.
    pub commit_us: i64,
    /// What the log says of it besides.
    pub facts: TransactionFacts,
}

/// What the log says of a transaction besides what positions need. Filled in as far as it costs nothing; what takes work only if the
/// connector is asked for it (`Options::describe`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TransactionFacts {
    /// PostgreSQL: where the last commit before it ended. At the start of a stream that is the position that it begins at, which may be
    /// a bit further; none in the first transaction of a source that began without a position.
    pub before: Option<Lsn>,
    /// PostgreSQL, if asked: the name of the replication origin that brought it here.
    pub origin: Option<Arc<str>>,
    /// PostgreSQL, if asked: its commit there; none if it was sent before its commit, when the server doesn't know it yet.
    pub origin_lsn: Option<Lsn>,
    /// MySQL and MariaDB: the binlog file that its commit stands in.
    pub file: Option<Arc<str>>,
    /// MySQL and MariaDB: the id of the server that it was made on.
    pub server_id: u32,
    /// MySQL and MariaDB: where its second event begins in the file, BEGIN or a statement: the first one, with the GTID, ends there.
    pub begins: u64,
    /// MySQL, if asked: the connection that made it. MariaDB doesn't say.
    pub thread: Option<u32>,
}

impl Transaction {
    /// What `pos` lacks to be unique for all time: when the file was begun, where `pos` is a place in a binlog. A log that is reset
    /// has the same places again.
    pub fn era(&self) -> Option<u32> {
        match &self.mark {
            Mark::Binlog(BinlogMark { place, gtid: None }) => Some(place.born),
            _ => None,
        }
    }
}

/// What happened to a row or table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// A row was inserted: `after`.
    Insert,
    /// A row was updated: `after`, and `before` as far as the server logged it.
    Update,
    /// A row was deleted: `before` as far as the server logged it.
    Delete,
    /// A row was read by the backfill: `after`.
    Read,
    /// The table was emptied: no images.
    Truncate,
}

/// A change of one row (or the truncation of one table).
#[derive(Debug, Clone, Copy)]
pub struct Change {
    /// What happened.
    pub op: Op,
    /// Index into [`Batch::tables`].
    pub table: u32,
    /// Ordinal of the row in its transaction, from 1, counted over all raw rows before any filter: it must not
    /// depend on which tables are captured or how the server splits its events.
    pub seq: u64,
    /// Where the row stands in the log; all zero in rows that were read.
    pub place: Place,
    /// The row before, if the server logged anything of it.
    pub before: Option<Image>,
    /// The row after.
    pub after: Option<Image>,
}

/// Where in the source's log a row stands. Not a position: nothing can be resumed from here, and a part of these may be the same for many
/// rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// PostgreSQL: the LSN of the row's record in the WAL. MySQL and MariaDB: where the row's event begins in the binlog file; of rows
    /// that don't stand there as they are (in a compressed transaction, in an XA transaction that was prepared before) the event
    /// that brought them: the compressed one, the XA COMMIT.
    pub at: u64,
    /// MySQL and MariaDB: the row's index in that event, from 0.
    pub row: u32,
    /// MySQL and MariaDB: the event's own time in seconds since 1970-01-01T00:00:00Z: mostly when its statement began.
    pub seconds: u32,
}

/// Where a row's bytes lie in [`Batch::data`], and how to read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image {
    /// The bytes.
    pub span: Span,
    /// The connector's own note on their form (a key-only tuple, where the bitmap of present columns is);
    /// only its [`crate::RowDecoder`] understands it.
    pub shape: u32,
}

/// A range of bytes in [`Batch::data`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Number of bytes.
    pub len: u32,
}

impl Span {
    /// A span; none if it doesn't fit in 32 bits.
    pub fn new(start: usize, len: usize) -> Option<Self> {
        start.checked_add(len).filter(|end| *end <= u32::MAX as usize)?;
        Some(Self { start: start as u32, len: len as u32 })
    }

    /// These bytes of `data`; empty if the span lies outside.
    pub fn of(self, data: &[u8]) -> &[u8] {
        let start = self.start as usize;
        data.get(start..start.saturating_add(self.len as usize)).unwrap_or(&[])
    }
}

/// A statement that isn't about rows, in the log, of whatever database. A TRUNCATE isn't one: it is a [`Change`].
#[derive(Debug, Clone)]
pub struct Ddl {
    /// Its text, as the server logged it, whole; bytes that aren't UTF-8 are replaced.
    pub sql: String,
    /// The session's database, empty if it had none; of a statement about a database, that one.
    pub db: String,
    /// What it does, by its first words.
    pub verb: DdlVerb,
    /// It has IF EXISTS, or IF NOT EXISTS, in front of the names.
    pub conditional: bool,
    /// The tables that it is about, by name: words are looked at, there is no grammar. Those of it that can't be told aren't here. Of a
    /// RENAME TABLE each old name is followed by the new one.
    pub tables: Vec<TableName>,
    /// For each of these, whether it is captured.
    pub captured: Vec<bool>,
    /// Of a statement about a database: whether tables in it may be captured.
    pub captured_db: bool,
    /// Of these, the captured ones that are there behind it, as the catalog describes them when the stream meets the statement. One that
    /// was altered again by then, as far as that can be told, isn't here.
    pub after: Vec<Arc<Table>>,
    /// Where it stands in the log.
    pub place: Place,
}

/// What a statement does, by its first words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DdlVerb {
    /// `CREATE TABLE`
    CreateTable,
    /// `ALTER TABLE`
    AlterTable,
    /// `CREATE INDEX`, `DROP INDEX`
    Index,
    /// `DROP TABLE`
    DropTable,
    /// `RENAME TABLE`
    RenameTable,
    /// `CREATE DATABASE`
    CreateDatabase,
    /// `ALTER DATABASE`
    AlterDatabase,
    /// `DROP DATABASE`
    DropDatabase,
    /// Anything else: views, routines, users, grants, temporary tables.
    Other,
}

/// An application's message in the log.
#[derive(Debug, Clone, Copy)]
pub struct Message {
    /// Ordinal in its transaction, from 1, counted with the rows.
    pub seq: u64,
    /// Its LSN.
    pub lsn: Lsn,
    /// The application's name for this kind of message (UTF-8).
    pub prefix: Span,
    /// Any bytes.
    pub content: Span,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every row passes through both: what isn't needed per row belongs elsewhere.
    #[test]
    fn a_change_is_a_cache_line_and_no_larger_than_other_events() {
        assert_eq!((size_of::<Change>(), size_of::<Place>()), (64, 16));
        assert!(size_of::<Event>() <= 128 && size_of::<Event>() > size_of::<Change>(), "{}", size_of::<Event>());
    }
}
