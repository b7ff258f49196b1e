//! pgoutput, the server's built-in logical decoding plug-in: its messages, and what they add up to.
//!
//! ```text
//! XLogData payload ──► message::parse ──► assembler ──► Batch { data, tables, events }
//!                                            ▲  Relation: Arc<Table>, by relation.rs and the catalog
//! ```
//!
//! Transactions that come before their commit go a longer way: in_progress.rs keeps them in files, replay.rs gives
//! their messages to the assembler once they are committed. Rows aren't decoded here: an image is a span of the batch's bytes.

pub(crate) mod assembler;
pub(crate) mod form;
pub(crate) mod in_progress;
pub(crate) mod message;
pub(crate) mod relation;
pub(crate) mod replay;
