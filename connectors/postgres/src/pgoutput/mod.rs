//! pgoutput, the server's built-in logical decoding plug-in: its messages, and what they add up to.
//!
//! ```text
//! XLogData payload ──► message::parse ──► assembler ──► Batch { data, tables, events }
//!                                            ▲  Relation: Arc<Table>, by relation.rs and the catalog
//! ```
//!
//! Protocol versions 1 and 2 without streaming of transactions in progress. Rows aren't decoded here: an image is
//! a span of the batch's bytes.

pub(crate) mod assembler;
pub(crate) mod message;
pub(crate) mod relation;
