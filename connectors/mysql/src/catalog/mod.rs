//! The server's catalog: what it must be set to ([`checks`]), where the stream begins ([`position`]), and what the
//! binlog doesn't say about a table ([`tables`]), and from where on that holds ([`versions`]).
//!
//! Look-ups go over a connection of their own, made when needed and made again when it was lost: the stream's
//! connection is busy streaming.

pub(crate) mod checks;
pub(crate) mod columns;
pub(crate) mod describe;
pub(crate) mod foreign_keys;
mod native;
pub(crate) mod place;
pub(crate) mod position;
mod rights;
pub(crate) mod tables;
pub(crate) mod versions;

use std::collections::HashMap;
use std::time::Duration;

use rowcast_core::{MariaGtidSet, Offset, SourceError, TableName};

use crate::binlog::event::file_number;
use crate::connection::{Connection, Failure, Rows};
use crate::error::Kept;
use crate::{Flavor, Options};
use versions::{Answers, Found};

const DOING: &str = "looking up a table in information_schema";
/// How long a statement's lock is waited for.
const STATEMENT_LOCK: &str = "SET SESSION lock_wait_timeout=2";
const PREPARING: &str = "preparing the session";
/// Tables that are looked up together.
const MOST_AT_ONCE: usize = 4_096;
/// Limit for what only makes a message say more.
const KEPT_LIMIT: Duration = Duration::from_secs(3);

/// Look-ups while streaming.
#[derive(Debug)]
pub(crate) struct Catalog {
    options: Options,
    /// The server's.
    version: String,
    /// Taken out while in use: a look-up that is cancelled midway leaves none behind.
    connection: Option<Connection>,
    /// Character set by collation id.
    pub(crate) charsets: HashMap<u32, String>,
}

impl Catalog {
    pub(crate) fn new(options: Options, connection: Connection, charsets: HashMap<u32, String>) -> Self {
        Self { options, version: connection.version.clone(), connection: Some(connection), charsets }
    }

    /// One that nobody asks: of a file, which has no server.
    pub(crate) fn offline(options: Options, charsets: HashMap<u32, String>) -> Self {
        Self { options, version: String::new(), connection: None, charsets }
    }

    /// The table's columns as they are now; none if there is no such table (any more).
    pub(crate) async fn table(&mut self, name: &TableName) -> Result<Option<Found>, SourceError> {
        let maria = self.options.flavor == Flavor::MariaDb;
        // before all else: what is altered between two of these statements looks too young
        let about = self.query(&describe::about(self.options.describe)(name)).await?;
        let columns = self.query(&describe::columns(self.options.describe)(name)).await?;
        let keys = self.query(&tables::key_sql(name, maria)).await?;
        let checks = if maria { self.query(&tables::checks_sql(name)).await? } else { Rows::new() };
        let order = if tables::is_ambiguous(name, &keys) { self.order(name).await? } else { Rows::new() };
        let answers = Answers { about, columns, keys, checks, order };
        let Some(table) = answers.table(name, self.options.flavor) else { return Ok(None) };
        Ok(Some(Found { table, answers, until: self.end().await? }))
    }

    /// Waits until a statement that changes the table, which is in the binlog, is in the catalog, too: MySQL sends it before, and
    /// information_schema doesn't wait for the statement's lock, as a SELECT does. Whatever stands against it (no right, no such table, a
    /// lock that is held for long), the catalog is asked all the same.
    pub(crate) async fn await_statement(&mut self, name: &TableName) {
        if self.options.flavor == Flavor::MariaDb {
            return;
        }
        let Some(mut connection) = self.connection.take() else { return };
        let [db, table] = [&name.db, &name.table].map(|name| name.replace('`', "``"));
        let select = format!("SELECT 1 FROM `{db}`.`{table}` LIMIT 0");
        for sql in [STATEMENT_LOCK, &select] {
            if let Err(Failure::Source(error)) = connection.ask(DOING, sql).await {
                tracing::debug!(%error, "the connection is lost; the next question makes another one");
                return;
            }
        }
        self.connection = Some(connection);
    }

    /// All of these tables as they are now, if they aren't too many.
    pub(crate) async fn all(&mut self, names: &[TableName]) -> Result<HashMap<TableName, Found>, SourceError> {
        let mut found = HashMap::new();
        if names.len() > MOST_AT_ONCE {
            return Ok(found);
        }
        let flavor = self.options.flavor;
        let mut databases: Vec<&str> = names.iter().map(|name| &*name.db).collect();
        databases.sort_unstable();
        databases.dedup();
        for db in databases {
            let mut all = Answers {
                about: self.query(&versions::of_database(describe::about(self.options.describe), db)).await?,
                columns: self.query(&versions::of_database(describe::columns(self.options.describe), db)).await?,
                keys: self.query(&versions::of_database(versions::key_sql(flavor), db)).await?,
                ..Answers::default()
            };
            if flavor == Flavor::MariaDb {
                all.checks = self.query(&versions::of_database(tables::checks_sql, db)).await?;
            }
            for name in names.iter().filter(|name| &*name.db == db) {
                let mut answers = versions::part(&all, name);
                if tables::is_ambiguous(name, &answers.keys) {
                    answers.order = self.order(name).await?;
                }
                if let Some(table) = answers.table(name, flavor) {
                    found.insert(name.clone(), Found { table, answers, until: None });
                }
            }
        }
        Ok(found)
    }

    /// The end of the server's binlog; none if we may not ask.
    pub(crate) async fn end(&mut self) -> Result<Option<Offset>, SourceError> {
        let maria = self.options.flavor == Flavor::MariaDb;
        let status = if maria { "SHOW MASTER STATUS" } else { place::status(&self.version) };
        let rows = match self.ask(status).await {
            Ok(rows) => rows,
            Err(Failure::Server(error)) if !self.options.place().server(DOING, &error).is_transient() => {
                return Ok(None);
            }
            failed => self.explained(failed)?,
        };
        let row = rows.into_iter().next().unwrap_or_default();
        let cell = |index: usize| row.get(index).and_then(Option::as_deref).unwrap_or_default();
        Ok(cell(1).parse().ok().map(|byte| Offset { file: file_number(cell(0)), byte }))
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
    connection.query(PREPARING, "SET SESSION sql_mode=''").await?;
    if options.flavor == Flavor::Mysql {
        // Primary keys that the server made itself are in the log, and must be in the catalog. Before 8.0.30 there are none.
        let show = "SET SESSION show_gipk_in_create_table_and_information_schema=ON";
        if let Err(Failure::Source(error)) = connection.ask(PREPARING, show).await {
            return Err(error);
        }
    }
    connection.refuse_proxies().await?;
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
