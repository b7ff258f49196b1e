//! The command line: what can be asked of the binary, and how it answers.

pub mod args;
pub mod backfill;
mod commands;

pub use commands::main;
