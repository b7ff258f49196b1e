//! The session that tables are read in: its settings, its transactions, and what the server's errors mean for a read.
//!
//! ```text
//! open ─► settings ─► begin: snapshot, and a place in the binlog ─► statements ─► finish
//! ```
//!
//! What a snapshot sees:
//! - MySQL: `gtid_executed` is read *before* the transaction begins. A GTID enters it after the engine's commit, so all of it
//!   is visible; how much more is not known. The end of the binlog is read *after* it has begun: the binlog is written
//!   before the engine commits, so everything visible lies before it.
//!   Where the stream is read by files and offsets, a place says what is visible: see [`super::lock`].
//! - MariaDB: `binlog_snapshot_position` is the snapshot's own place, exactly. Its GTIDs are `gtid_binlog_pos` if the
//!   binlog still ends there, else the server has to look for them in the file (`BINLOG_GTID_POS`, which reads it).
//!
//! The session is read-only, in UTC, without `sql_mode`, and gets text in the columns' own character sets. The server may
//! wait a day for us to read on, since that is how it is held back; statements that read a range end after a minute.

use rowcast_core::backfill::{ReadError, Reading, Snapshot};
use rowcast_core::{GtidSet, MariaGtidSet, Offset, SourceError};

use super::lock::Ways;
use crate::binlog::event::file_number;
use crate::catalog::{self, literal, place};
use crate::connection::{Connection, Failure, Rows};
use crate::error::{ServerError, quoted};
use crate::shared::Shared;
use crate::{Flavor, Options};

/// Limit for statements that read a range.
const STATEMENT_SECONDS: u64 = 60;
/// How long the server may be silent: longer than it lets a statement run.
const SILENCE: std::time::Duration = std::time::Duration::from_secs(STATEMENT_SECONDS + 15);

/// A connection with our settings.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) connection: Connection,
    /// Statements are ended by the server after [`STATEMENT_SECONDS`].
    limited: bool,
    /// Whether the stream is read by files and offsets.
    shared: Shared,
    /// What the user may do to learn a place in the binlog.
    pub(super) ways: Ways,
    /// Tables are described as schemas need it.
    pub(super) describe: bool,
}

impl Session {
    pub(crate) async fn open(options: &Options, shared: &Shared) -> Result<Self, SourceError> {
        let mut connection = catalog::open(options).await?;
        connection.read_timeout = connection.read_timeout.max(SILENCE);
        let statements: &[&str] = &[
            "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
            "SET SESSION TRANSACTION READ ONLY",
            "SET NAMES utf8mb4",
            "SET SESSION character_set_results=NULL, time_zone='+00:00', net_write_timeout=86400, lock_wait_timeout=10",
        ];
        let own: &[&str] = match options.flavor {
            // Statistics as they are now; any number of keys in one condition.
            Flavor::Mysql => &["SET SESSION information_schema_stats_expiry=0, range_optimizer_max_mem_size=0"],
            Flavor::MariaDb => &[],
        };
        for statement in statements.iter().chain(own) {
            connection.query("preparing the session that reads tables", statement).await?;
        }
        let mut session = Self {
            connection,
            limited: false,
            shared: shared.clone(),
            ways: Ways::default(),
            describe: options.describe,
        };
        session.limit(true).await?;
        Ok(session)
    }

    /// Sets or lifts the limit for statements.
    pub(crate) async fn limit(&mut self, limited: bool) -> Result<(), SourceError> {
        if self.limited != limited {
            let seconds = if limited { STATEMENT_SECONDS } else { 0 };
            let statement = match self.connection.place.flavor {
                Flavor::Mysql => format!("SET SESSION max_execution_time={}", seconds * 1000),
                Flavor::MariaDb => format!("SET SESSION max_statement_time={seconds}"),
            };
            self.connection.query("setting the limit for statements", &statement).await?;
            self.limited = limited;
        }
        Ok(())
    }

    /// A statement in the course of a read of `table`.
    pub(crate) async fn ask(&mut self, table: &str, doing: &str, sql: &str) -> Result<Rows, ReadError> {
        let answer = self.connection.ask(doing, sql).await;
        answer.map_err(|failure| self.failed(table, doing, failure))
    }

    /// A transaction whose snapshot is taken at once.
    pub(crate) async fn begin(&mut self) -> Result<Reading, ReadError> {
        match self.connection.place.flavor {
            Flavor::Mysql if self.shared.by_place() => self.begin_at_place().await,
            Flavor::Mysql => Ok(self.begin_mysql().await?),
            Flavor::MariaDb => Ok(self.begin_maria().await?),
        }
    }

    /// What a read that begins now would see.
    pub(crate) async fn snapshot(&mut self) -> Result<Snapshot, ReadError> {
        match self.connection.place.flavor {
            Flavor::Mysql if !self.shared.by_place() => Ok(Snapshot::AtLeast(self.executed().await?.0)),
            _ => self.begin().await.map(|reading| reading.snapshot),
        }
    }

    /// MySQL's executed GTIDs and its clock.
    pub(crate) async fn executed(&mut self) -> Result<(GtidSet, i64), SourceError> {
        const DOING: &str = "reading the server's position";
        let sql = format!("SELECT @@global.gtid_executed, {NOW}");
        let row = self.connection.query(DOING, &sql).await?.into_iter().next().unwrap_or_default();
        let text = row.first().and_then(Option::as_deref).unwrap_or_default();
        let set = text.parse().map_err(|error| self.connection.place.protocol(format_args!("gtid_executed: {error}")));
        Ok((set?, number(&row, 1)))
    }

    async fn begin_mysql(&mut self) -> Result<Reading, SourceError> {
        let (set, now_us) = self.executed().await?;
        self.connection.query(BEGINNING, "START TRANSACTION WITH CONSISTENT SNAPSHOT").await?;
        let (bound, file, _) = self.end_of_log().await?;
        Ok(Reading { pos: set.to_string(), snapshot: Snapshot::AtLeast(set), bound, file, now_us })
    }

    /// MySQL's end of the binlog, its file's name, and both as text.
    pub(super) async fn end_of_log(&mut self) -> Result<(Offset, String, String), SourceError> {
        let status = place::status(&self.connection.version);
        let row = self.connection.query(BEGINNING, status).await?.into_iter().next().unwrap_or_default();
        let (file, byte) = (row.first().cloned().flatten(), row.get(1).cloned().flatten());
        let text = format!("{}:{}", file.as_deref().unwrap_or_default(), byte.as_deref().unwrap_or_default());
        Ok((self.place(file.clone(), byte)?, file.unwrap_or_default(), text))
    }

    async fn begin_maria(&mut self) -> Result<Reading, SourceError> {
        self.connection.query(BEGINNING, "START TRANSACTION WITH CONSISTENT SNAPSHOT").await?;
        let rows = self.connection.query(BEGINNING, "SHOW STATUS LIKE 'binlog_snapshot_%'").await?;
        let status = |name: &str| {
            let named = |row: &&Vec<Option<String>>| {
                row.first().and_then(Option::as_deref).is_some_and(|found| found.eq_ignore_ascii_case(name))
            };
            rows.iter().find(named).and_then(|row| row.get(1).cloned().flatten())
        };
        let (file, byte) = (status("binlog_snapshot_file"), status("binlog_snapshot_position"));
        let end = self.place(file.clone(), byte.clone())?;
        let (file, byte) = (file.unwrap_or_default(), byte.unwrap_or_default());
        // In this order: what the binlog had got when it ended at the snapshot's place is what the snapshot sees.
        let sql = format!("SELECT @@global.gtid_binlog_pos, {NOW}");
        let row = self.connection.query(BEGINNING, &sql).await?.into_iter().next().unwrap_or_default();
        let now_us = number(&row, 1);
        let written = self.connection.query(BEGINNING, "SHOW MASTER STATUS").await?.into_iter().next();
        let is = |index: usize, text: &str| {
            written.as_ref().and_then(|row| row.get(index)).and_then(Option::as_deref) == Some(text)
        };
        let mut text = row.into_iter().next().flatten().unwrap_or_default();
        if !(is(0, &file) && is(1, &byte)) {
            let sql = format!("SELECT BINLOG_GTID_POS({}, {})", literal(&file), end.byte);
            let rows = self.connection.query(BEGINNING, &sql).await?;
            text = rows.into_iter().next().and_then(|row| row.into_iter().next().flatten()).unwrap_or_default();
        }
        let gtids: MariaGtidSet =
            text.parse().map_err(|error| self.connection.place.protocol(format_args!("BINLOG_GTID_POS: {error}")))?;
        let pos = if gtids.is_empty() { format!("{file}:{byte}") } else { gtids.to_string() };
        Ok(Reading { snapshot: Snapshot::Exactly { end, gtids }, bound: end, pos, file, now_us })
    }

    pub(super) fn place(&self, file: Option<String>, byte: Option<String>) -> Result<Offset, SourceError> {
        match (file.filter(|file| !file.is_empty()), byte.and_then(|byte| byte.parse().ok())) {
            (Some(file), Some(byte)) => Ok(Offset { file: file_number(&file), byte }),
            _ => Err(self
                .connection
                .place
                .definite("the server doesn't say where its binary log ends")
                .repair("start it with --log-bin --binlog-format=ROW")),
        }
    }

    /// Ends the transaction, whether it went well or not; nothing was written in it.
    pub(crate) async fn finish(&mut self) -> Result<(), SourceError> {
        self.connection.query("ending a read", "ROLLBACK").await.map(drop)
    }

    /// What a failure means for a read of `table`, quoted for SQL.
    pub(crate) fn failed(&self, table: &str, doing: &str, failure: Failure) -> ReadError {
        match failure {
            Failure::Source(error) => ReadError::Source(error),
            Failure::Server(error) => self.classified(table, doing, &error),
        }
    }

    fn classified(&self, table: &str, doing: &str, error: &ServerError) -> ReadError {
        let place = &self.connection.place;
        let what = || format!("{place}: {doing} of {table}: {error}");
        match error.code {
            // ER_BAD_DB_ERROR, ER_BAD_TABLE_ERROR, ER_NO_SUCH_TABLE
            1049 | 1051 | 1146 => ReadError::Gone,
            // ER_TABLE_DEF_CHANGED, ER_NEED_REPREPARE
            1412 | 1615 => ReadError::Changed(what()),
            // ER_LOCK_WAIT_TIMEOUT, ER_LOCK_DEADLOCK, ER_QUERY_INTERRUPTED, ER_STATEMENT_TIMEOUT (MariaDB),
            // ER_QUERY_TIMEOUT
            1205 | 1213 | 1317 | 1969 | 3024 => ReadError::TooSlow(what()),
            // ER_DBACCESS_DENIED_ERROR, ER_TABLEACCESS_DENIED_ERROR, ER_COLUMNACCESS_DENIED_ERROR, ER_VIEW_INVALID
            1044 | 1142 | 1143 => ReadError::Refused(format!(
                "{}; repair: GRANT SELECT ON {table} TO {}@'...'",
                what(),
                quoted(&place.user)
            )),
            _ => match place.server(&format!("{doing} of {table}"), error) {
                lost if lost.is_transient() => ReadError::Source(lost),
                refused => ReadError::Refused(refused.to_string()),
            },
        }
    }
}

pub(super) const BEGINNING: &str = "beginning a read";
/// The server's clock in microseconds.
pub(super) const NOW: &str = "CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)";

pub(super) fn number(row: &[Option<String>], index: usize) -> i64 {
    row.get(index).and_then(Option::as_deref).and_then(|text| text.parse().ok()).unwrap_or(0)
}
