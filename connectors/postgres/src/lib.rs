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
//! - a transaction that the server sends before its end is kept in a file until it is committed.

#![forbid(unsafe_code)]

mod backfill;
mod catalog;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod monitor;
mod pgoutput;
mod replication;
mod servers;
mod session;
mod source;
mod stream;
mod timeline;
mod types;
mod wire;

use std::path::PathBuf;
use std::time::Duration;

use rowcast_core::{Handover, TableFilter};

pub use backfill::PostgresReader;
pub use pgoutput::assembler::MessageFilter;
pub use rowcast_net::{Host, Password, Servers, SessionAttributes, TlsMode, TlsOptions};
pub use source::{PostgresConfirm, PostgresSource};
pub use stream::PostgresStream;

/// What to do about a slot that somebody else streams from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InUse {
    /// Stop with an error that names the process.
    #[default]
    Fail,
    /// Try again until it is free: a second daemon that stands by.
    Wait,
}

/// What a source needs to know. Its `Debug` form doesn't show the password.
#[derive(Debug, Clone)]
pub struct Options {
    /// The source's name; it appears in `pg_stat_activity`.
    pub name: String,
    /// The server, or several of which one is.
    pub servers: Servers,
    /// Database; a slot belongs to one.
    pub database: String,
    /// Role with REPLICATION.
    pub user: String,
    /// Its password.
    pub password: Password,
    /// TLS, for all connections.
    pub tls: TlsOptions,
    /// Captured tables, `schema.table`.
    pub tables: TableFilter,
    /// Replication slot: lower-case letters, digits and underscores.
    pub slot: String,
    /// What becomes of a source whose slot somebody else streams from.
    pub slot_in_use: InUse,
    /// Names of the slots and publications of all configured sources: what else of ours is on the server is told of.
    pub known: Vec<String>,
    /// Publication.
    pub publication: String,
    /// A peek: the slot is temporary and has a name of its own, the stream begins "now", and nothing is left behind
    /// on the server. A checkpoint is not looked at.
    pub temporary: bool,
    /// Values may come in binary form, where all published types allow it.
    pub binary: bool,
    /// Bound of connecting and of each query.
    pub connect_timeout: Duration,
    /// Silence of the server after which the connection is given up.
    pub read_timeout: Duration,
    /// Logical messages that are given out.
    pub messages: MessageFilter,
    /// Only changes that were made on this server, not those that a subscription brought there (`origin 'none'`). Needs
    /// PostgreSQL 16.
    pub local_only: bool,
    /// Prepared transactions are received at their PREPARE; the slot then keeps to that. Needs PostgreSQL 15.
    pub two_phase: bool,
    /// Where transactions in progress are kept.
    pub spill_folder: PathBuf,
    /// Bytes that they may take there together; 0: the server keeps them.
    pub spill_limit: u64,
    /// Columns are described as schemas need it (their `facts`, and whether NULL is allowed), transactions by their origin. Costs look-ups
    /// per table version, and a word per row of transactions in progress.
    pub describe: bool,
    /// Where somebody else stopped who published these tables before: of a transaction that follows this position, a part is left out.
    pub start_at: Option<Handover>,
}
