//! PostgreSQL 13 and later as a source: logical replication by pgoutput.
//!
//! ```text
//! PostgresSource::open ─► catalog: checks, tables, publication, slot     (SQL, tokio-postgres)
//!                      └► replication: START_REPLICATION                 (our own connection)
//! socket ─► replication::reader (frames in place) ─► pgoutput (messages, events) ─► Batch
//!                                   types (a plan per table version) ◄── whoever decodes a row
//! PostgresSource::reader ─► backfill: tables by ranges of places        (our own connection, SQL) ─► Piece
//! PostgresConfirm ─► replication::feedback (a task) ─► socket
//! ```
//!
//! Guarantees
//! - the stream begins at the checkpoint; what the server no longer has is a definite error, never skipped;
//! - rows stay the bytes that came from the socket; memory is bounded by a batch (256 KiB) or one row;
//! - the server learns only what was confirmed, and hears from us in time even while nobody reads the stream;
//! - a partitioned table's events come under its own name, not its partitions';
//! - rows that a backfill reads have the table (columns, key, fingerprint) and the values that the stream has.
//!
//! Not yet: streaming of transactions in progress, binary values, two-phase commits, slots on standbys. A server
//! that sends one of them all the same is an error that names it.

#![forbid(unsafe_code)]

mod backfill;
mod catalog;
mod error;
mod pgoutput;
mod replication;
mod session;
mod source;
mod stream;
mod types;
mod wire;

use std::time::Duration;

use rowcast_core::TableFilter;
use secrecy::SecretString;

pub use backfill::PostgresReader;
pub use rowcast_net::{TlsMode, TlsOptions};
pub use source::{PostgresConfirm, PostgresSource};
pub use stream::PostgresStream;

/// What a source needs to know. Its `Debug` form doesn't show the password.
#[derive(Debug, Clone)]
pub struct Options {
    /// The source's name; it appears in `pg_stat_activity`.
    pub name: String,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Database; a slot belongs to one.
    pub database: String,
    /// Role with REPLICATION.
    pub user: String,
    /// Its password.
    pub password: SecretString,
    /// TLS, for all connections.
    pub tls: TlsOptions,
    /// Captured tables, `schema.table`.
    pub tables: TableFilter,
    /// Replication slot: lower-case letters, digits and underscores.
    pub slot: String,
    /// Publication.
    pub publication: String,
    /// A peek: the slot is temporary and has a name of its own, the stream begins "now", and nothing is left behind
    /// on the server. A checkpoint is not looked at.
    pub temporary: bool,
    /// Bound of connecting and of each query.
    pub connect_timeout: Duration,
    /// Silence of the server after which the connection is given up.
    pub read_timeout: Duration,
}
