//! Copies of the rows that are already there.

pub mod control;
pub mod report;
