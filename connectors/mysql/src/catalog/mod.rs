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

use rowcast_core::{SourceError, TableName};

use crate::connection::{Connection, Rows};
use crate::{Flavor, Options};
use tables::CatalogTable;

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
        let key = self.query(&tables::key_sql(name)).await?;
        let checks = if maria { self.query(&tables::checks_sql(name)).await? } else { Rows::new() };
        Ok(CatalogTable::new(name, maria, &columns, &key, &checks))
    }

    /// Says good-bye.
    pub(crate) async fn close(self) {
        if let Some(connection) = self.connection {
            connection.quit().await;
        }
    }

    /// One statement; again on a new connection if the old one was lost while idle.
    async fn query(&mut self, sql: &str) -> Result<Rows, SourceError> {
        const DOING: &str = "looking up a table in information_schema";
        if let Some(mut connection) = self.connection.take() {
            match connection.query(DOING, sql).await {
                Ok(rows) => {
                    self.connection = Some(connection);
                    return Ok(rows);
                }
                Err(error) if !error.is_transient() => return Err(error),
                Err(error) => tracing::debug!(%error, "catalog connection lost, connecting again"),
            }
        }
        let mut connection = open(&self.options).await?;
        let rows = connection.query(DOING, sql).await?;
        self.connection = Some(connection);
        Ok(rows)
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
