//! The command line: what can be asked of the binary, and how it answers.

pub mod args;
mod commands;

pub use commands::main;
