//! The replication connection: our own, thin, since tokio-postgres has no CopyBoth.
//!
//! ```text
//! Connection::connect ─► simple queries (IDENTIFY_SYSTEM, CREATE_REPLICATION_SLOT) ─► start()
//!      ┌─────────────────────────────────────────────────────────────────────────────────┘
//!      ├─ read half:  frames walked in place in one growing buffer       (reader.rs, frame.rs)
//!      └─ write half: a task of its own sends status updates in time     (feedback.rs)
//! ```
//!
//! The halves share three atomics and a notification: a stream that isn't polled (back-pressure) still answers.
//! Protocol: <https://www.postgresql.org/docs/current/protocol-replication.html>.

mod auth;
pub(crate) mod connection;
pub(crate) mod feedback;
pub(crate) mod frame;
pub(crate) mod holds;
pub(crate) mod plugin;
pub(crate) mod reader;
pub(crate) mod tls;
