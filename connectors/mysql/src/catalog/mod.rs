//! The server's catalog: what it must be set to ([`checks`]), where the stream begins ([`position`]), and what the
//! binlog doesn't say about a table ([`tables`]).
//!
//! Look-ups go over a connection of their own, made when needed and made again when it was lost: the stream's
//! connection is busy streaming.

pub(crate) mod checks;
pub(crate) mod columns;
pub(crate) mod position;
pub(crate) mod tables;

use std::collections::HashMap;
use std::time::Duration;

use rowcast_core::{MariaGtidSet, SourceError, TableName};

use crate::connection::{Connection, Failure, Rows};
use crate::error::Kept;
use crate::{Flavor, Options};
use tables::CatalogTable;

const DOING: &str = "looking up a table in information_schema";
/// Limit for what only makes a message say more.
const KEPT_LIMIT: Duration = Duration::from_secs(3);

/// Look-ups while streaming.
#[derive(Debug)]
pub(crate) struct Catalog {
    options: Options,
    /// Taken out while in use: a look-up that is cancelled midway leaves none behind.
    connection: Option<Connection>,
    /// Character set by collation id.
    pub(crate) charsets: HashMap<u32, String>,
}

impl Catalog {
    pub(crate) fn new(options: Options, connection: Connection, charsets: HashMap<u32, String>) -> Self {
        Self { options, connection: Some(connection), charsets }
    }

    /// The table's columns as they are now; none if there is no such table (any more).
    pub(crate) async fn table(&mut self, name: &TableName) -> Result<Option<CatalogTable>, SourceError> {
        let maria = self.options.flavor == Flavor::MariaDb;
        let columns = self.query(&tables::columns_sql(name)).await?;
        let keys = self.query(&tables::key_sql(name, maria)).await?;
        let checks = if maria { self.query(&tables::checks_sql(name)).await? } else { Rows::new() };
        let order = if tables::is_ambiguous(name, &keys) { self.order(name).await? } else { Rows::new() };
        Ok(CatalogTable::new(name, maria, &columns, &keys, &checks, &order))
    }

    /// The server's order of a table's indexes; nothing if the table is gone.
    async fn order(&mut self, name: &TableName) -> Result<Rows, SourceError> {
        // information_schema answers what it hides from us with no rows, SHOW INDEX with an error.
        match self.ask(&tables::order_sql(name)).await {
            Err(Failure::Server(error)) if matches!(error.code, 1049 | 1142 | 1146) => Ok(Rows::new()),
            other => self.explained(other),
        }
    }

    /// What a MariaDB server still has of its binlog; for a message only, so what can't be learnt soon is left out.
    pub(crate) async fn kept(&mut self) -> Kept {
        let mut kept = Kept::default();
        if self.options.flavor == Flavor::MariaDb
            && tokio::time::timeout(KEPT_LIMIT, self.ask_kept(&mut kept)).await.is_err()
        {
            tracing::debug!("no answer in time to what the server still has of its binlog");
        }
        kept
    }

    async fn ask_kept(&mut self, kept: &mut Kept) {
        let first = |rows: Rows| rows.into_iter().next().and_then(|row| row.into_iter().next().flatten());
        let set = |rows: Rows| first(rows).and_then(|text| text.parse::<MariaGtidSet>().ok());
        kept.newest = self.query("SELECT @@global.gtid_binlog_pos").await.ok().and_then(set);
        // Needs the privilege BINLOG MONITOR.
        let Some(file) = self.query("SHOW BINARY LOGS").await.ok().and_then(first) else { return };
        // 4: where the first event of a file is.
        let sql = format!("SELECT BINLOG_GTID_POS({}, 4)", literal(&file));
        kept.oldest = self.query(&sql).await.ok().and_then(set).map(|before| (file, before));
    }

    /// Says good-bye.
    pub(crate) async fn close(self) {
        if let Some(connection) = self.connection {
            connection.quit().await;
        }
    }

    async fn query(&mut self, sql: &str) -> Result<Rows, SourceError> {
        let answer = self.ask(sql).await;
        self.explained(answer)
    }

    fn explained(&self, answer: Result<Rows, Failure>) -> Result<Rows, SourceError> {
        answer.map_err(|failure| match failure {
            Failure::Source(error) => error,
            Failure::Server(error) => self.options.place().server(DOING, &error),
        })
    }

    /// One statement; again on a new connection if the old one was lost while idle.
    async fn ask(&mut self, sql: &str) -> Result<Rows, Failure> {
        if let Some(mut connection) = self.connection.take() {
            match connection.ask(DOING, sql).await {
                Err(failure) if self.is_lost(&failure) => {
                    tracing::debug!(?failure, "catalog connection lost, connecting again");
                }
                Err(Failure::Source(error)) => return Err(error.into()),
                answer => {
                    self.connection = Some(connection);
                    return answer;
                }
            }
        }
        let mut connection = open(&self.options).await?;
        let answer = connection.ask(DOING, sql).await;
        if !matches!(answer, Err(Failure::Source(_))) {
            self.connection = Some(connection);
        }
        answer
    }

    /// Whether a new connection may help.
    fn is_lost(&self, failure: &Failure) -> bool {
        match failure {
            Failure::Source(error) => error.is_transient(),
            Failure::Server(error) => self.options.place().server(DOING, error).is_transient(),
        }
    }
}

/// A connection for catalog queries; its `sql_mode` is empty, so that our quoting holds.
pub(crate) async fn open(options: &Options) -> Result<Connection, SourceError> {
    let mut connection = Connection::open(options).await?;
    connection.query("preparing the session", "SET SESSION sql_mode=''").await?;
    Ok(connection)
}

/// A string literal for a session with an empty `sql_mode`.
pub(crate) fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('\'');
    for character in text.chars() {
        if matches!(character, '\'' | '\\') {
            out.push('\\');
        }
        out.push(character);
    }
    out.push('\'');
    out
}
