//! MySQL and MariaDB as a source of changes: the binlog as [`rowcast_core`] batches.
//!
//! ```text
//! connection ─► binlog (events) ─► stream (transactions, batches) ─► daemon
//!                    catalog ─► rows (plan per table version) ─┘ decodes lazily
//! ```
//!
//! - [`connection`]: TCP, TLS, login, catalog queries.
//! - [`binlog`]: requests and events of the replication protocol, checked byte by byte.
//! - [`catalog`]: what the server must be set to, where to begin, what the columns are.
//! - [`rows`]: from the bytes of a row to values.
//! - [`stream`]: transactions and batches.
//!
//! MariaDB is a dialect: other GTIDs, version 1 row events, JSON as text. Everything that is met and not supported
//! ends the stream with an error that names it; nothing is skipped silently.

mod backfill;
mod binlog;
mod catalog;
mod connection;
mod cursor;
mod error;
mod rows;
mod source;
mod stream;

pub use backfill::MysqlReader;
pub use rowcast_net::{TlsMode, TlsOptions};
pub use source::{MysqlConfirm, MysqlSource};
pub use stream::MysqlStream;

use std::fmt;
use std::time::Duration;

use rowcast_core::TableFilter;
use secrecy::SecretString;

/// Which of the two dialects the server must speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    /// Oracle MySQL and Percona Server, 8.0 or later.
    Mysql,
    /// MariaDB 10.5 or later.
    MariaDb,
}

impl fmt::Display for Flavor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Flavor::Mysql => "mysql",
            Flavor::MariaDb => "mariadb",
        })
    }
}

/// Settings of one source.
#[derive(Debug, Clone)]
pub struct Options {
    /// Name of the source; the server shows it as a connection attribute.
    pub name: String,
    /// Dialect.
    pub flavor: Flavor,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Account.
    pub user: String,
    /// Its password.
    pub password: SecretString,
    /// TLS.
    pub tls: TlsOptions,
    /// Captured tables, as `database.table`.
    pub tables: TableFilter,
    /// Our id among the server's replicas: different from the ids of the server and of all its other replicas.
    pub server_id: u32,
    /// Limit for connecting and logging in.
    pub connect_timeout: Duration,
    /// A server that is silent for so long is taken for dead; heartbeats are asked for three times as often.
    pub read_timeout: Duration,
}

impl Options {
    pub(crate) fn place(&self) -> error::Where {
        error::Where {
            flavor: self.flavor,
            host: self.host.clone(),
            port: self.port,
            user: self.user.clone(),
            server_id: self.server_id,
        }
    }
}
