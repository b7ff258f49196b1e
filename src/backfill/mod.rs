//! Backfill.
pub mod merge;
pub mod state;
pub mod watch;
