//! Copies of tables: while writers change them, while the daemon is killed, by request, under DDL.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable,
    missing_docs
)]

#[path = "../support/mod.rs"]
mod support;

mod faults;
mod keyless;
mod modes;
mod racing;
mod traffic;
mod visibility;
