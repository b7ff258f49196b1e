//! A database session that reports errors instead of failing the test: its server may be killed below it.

use mysql_async::prelude::Queryable;

use super::env::{APP_PASSWORD, APP_USER};
use super::source::Source;
use super::{mysql, postgres};

/// Rows of text; `None` is NULL.
pub type Rows = Vec<Vec<Option<String>>>;

/// Where a database is.
#[derive(Debug, Clone)]
pub enum Address {
    /// PostgreSQL on 127.0.0.1.
    Postgres {
        /// Port.
        port: u16,
        /// Database.
        database: String,
    },
    /// MySQL or MariaDB.
    Mysql {
        /// Path of the server's socket.
        socket: String,
        /// Database.
        database: String,
    },
}

impl Address {
    /// Where the database of a source is.
    pub fn of(source: &Source) -> Address {
        let database = source.name().to_owned();
        match source {
            Source::Postgres(db) => Address::Postgres { port: db.port(), database },
            Source::Mysql(db) => Address::Mysql { socket: db.socket().to_owned(), database },
        }
    }

    /// A new session, as the user that may do everything.
    ///
    /// # Errors
    /// What the server or the system says.
    pub async fn connect(&self) -> Result<Session, String> {
        match self {
            Address::Postgres { port, database } => postgres::try_connect(*port, database, APP_USER, APP_PASSWORD)
                .await
                .map(Session::Postgres)
                .map_err(|error| format!("{error:?}")),
            Address::Mysql { socket, database } => mysql::try_connect(socket, Some(database), APP_USER, APP_PASSWORD)
                .await
                .map(|conn| Session::Mysql(Box::new(conn)))
                .map_err(|error| format!("{error:?}")),
        }
    }

    /// [`Address::connect`] again and again until it works, for as long as a server may take to come back.
    pub async fn connect_patiently(&self) -> Session {
        super::eventually(super::source::PATIENCE, "a session with the database", || self.connect()).await
    }
}

/// A session.
pub enum Session {
    /// PostgreSQL.
    Postgres(tokio_postgres::Client),
    /// MySQL or MariaDB.
    Mysql(Box<mysql_async::Conn>),
}

impl Session {
    /// Runs statements, separated by semicolons.
    ///
    /// # Errors
    /// Of the statement or of the connection; what went before the failed statement has been done.
    pub async fn run(&mut self, sql: &str) -> Result<(), String> {
        match self {
            Session::Postgres(client) => client.batch_execute(sql).await.map_err(|error| format!("{error:?}")),
            Session::Mysql(conn) => conn.query_drop(sql).await.map_err(|error| format!("{error:?}")),
        }
    }

    /// Rows of one query.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub async fn rows(&mut self, sql: &str) -> Result<Rows, String> {
        match self {
            Session::Postgres(client) => postgres::try_query(client, sql).await.map_err(|error| format!("{error:?}")),
            Session::Mysql(conn) => mysql::try_query(conn, sql).await.map_err(|error| format!("{error:?}")),
        }
    }

    /// The first column of the first row as a number.
    ///
    /// # Errors
    /// As [`Session::run`], and if there is no such value.
    pub async fn number(&mut self, sql: &str) -> Result<u64, String> {
        let rows = self.rows(sql).await?;
        let value = rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten();
        value.and_then(|text| text.parse().ok()).ok_or_else(|| format!("no number from: {sql}"))
    }
}
