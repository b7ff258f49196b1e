//! The command line: what can be asked of the binary, and how it answers.

pub mod args;
pub mod backfill;
mod commands;
mod drop;
mod import;
mod limits;
mod named;
mod status;
mod tail;

pub use commands::main;
