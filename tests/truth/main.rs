//! The truth tests: in every fault the daemon says what is the case within seconds, in its state, in `/readyz` and in
//! `/metrics`, and never that a source streams while nothing flows.
//!
//! Each test runs a daemon as people do, on real servers; those that it pauses or kills are its own. The databases of all three
//! kinds go through the same faults, as sources of one daemon where the fault is Kafka's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod asking;
mod database;
mod exposition;
mod kafka;
mod lag;
mod stopped;
