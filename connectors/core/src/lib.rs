//! What every connector and the daemon agree on: events, schemas, values, positions, the [`Source`]
//! trait and errors. Pure types: no I/O, no Kafka, no JSON.
//!
//! ```text
//! connector ──► Batch { raw bytes, tables, events } ──► daemon: encode, publish, commit ──► Confirm
//! ```
//!
//! The one rule that shapes everything here: a row stays the bytes that came from the socket. A
//! [`Change`] points into its [`Batch`]; whoever needs the columns decodes them with the table's
//! [`RowDecoder`] into borrowed [`Value`]s, once, at the place of use.

pub mod backfill;
pub mod binlog;
pub mod error;
pub mod event;
pub mod filter;
pub mod gtid;
pub mod handover;
pub mod kept;
pub mod monitor;
pub mod position;
pub mod schema;
pub mod source;
pub mod value;

pub use backfill::{Offset, TableReader};
pub use binlog::{BinlogMark, BinlogPlace, BinlogPosition};
pub use bumpalo::Bump;
pub use error::{DecodeError, ErrorClass, SourceError};
pub use event::{Batch, Change, Ddl, DdlVerb, Event, Image, Message, Op, Place, Span, Transaction, TransactionFacts};
pub use filter::{Glob, TableFilter, TablePattern};
pub use gtid::{Gtid, GtidSet, MariaGtid, MariaGtidSet};
pub use handover::{Handover, Part};
pub use kept::{KeptSchema, TableFailure};
pub use monitor::{BINLOG_WARNINGS, Kept, LogWarning, Look, Monitor, Pulse, Purge, SLOT_WARNINGS};
pub use position::{Inside, LogPosition, Lsn, Mark, Position, PositionError, Prepared};
pub use schema::{
    Column, ColumnDefault, ColumnFacts, DefaultValue, PgType, RowDecoder, Table, TableFacts, TableName, Type,
};
pub use source::{Begin, Confirm, Opened, Source, SourceInfo, SourceStream};
pub use value::{Array, Date, DateTime, Interval, Time, Value};
