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
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod monitor;
mod replica;
mod rows;
mod servers;
mod shared;
mod source;
mod stream;
mod xa;

pub use backfill::MysqlReader;
pub use connection::compress::Compression;
pub use rowcast_net::{Host, Password, Servers, SessionAttributes, TlsMode, TlsOptions};
pub use source::{MysqlConfirm, MysqlSource};
pub use stream::MysqlStream;
pub use stream::replay::Replay;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use rowcast_core::{Handover, TableFilter};

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
    /// The server, or several of which one is. A host may be the path of a Unix socket.
    pub servers: Servers,
    /// Account.
    pub user: String,
    /// Its password.
    pub password: Password,
    /// TLS.
    pub tls: TlsOptions,
    /// The server's RSA key (PEM): without TLS a password is encrypted for this one only, never for one that the server sends.
    pub server_public_key: Option<PathBuf>,
    /// The server may have the password itself, over TLS or a Unix socket.
    pub cleartext_password: bool,
    /// How the server compresses what it sends.
    pub compression: Compression,
    /// Captured tables, as `database.table`.
    pub tables: TableFilter,
    /// Our id among the server's replicas: different from the ids of the server and of all its other replicas.
    pub server_id: u32,
    /// The id was made up and not given: another one is taken if a replica has it already.
    pub server_id_derived: bool,
    /// Limit for connecting and logging in.
    pub connect_timeout: Duration,
    /// A server that is silent for so long is taken for dead; heartbeats are asked for three times as often.
    pub read_timeout: Duration,
    /// Statements' texts are asked for and told with their rows.
    pub include_query: bool,
    /// Where transactions are kept of which it isn't known yet whether they commit.
    pub spill_folder: PathBuf,
    /// Bytes of all of them together.
    pub spill_limit: u64,
    /// Columns are described as schemas need it (their `facts`), transactions by their connection. Costs a copy of each transaction's
    /// description.
    pub describe: bool,
    /// Statements that change no rows are told ([`rowcast_core::Event::Ddl`]).
    pub ddl: bool,
    /// Where somebody else stopped who published these tables before: of a transaction that follows this position, a part is left out.
    pub start_at: Option<Handover>,
}

impl Options {
    pub(crate) fn place(&self) -> error::Where {
        error::Where {
            flavor: self.flavor,
            host: self.servers.host().name.clone(),
            port: self.servers.host().port,
            user: self.user.clone(),
            server_id: self.server_id,
        }
    }
}
