//! Backfill.
pub mod merge;
pub mod state;
