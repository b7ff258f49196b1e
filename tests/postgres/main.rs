//! What is PostgreSQL's own: its protocol's modes, its types, its tables, its slots.
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

mod connections;
mod ddl;
mod drop;
mod fold;
mod golden;
mod in_progress;
mod local;
mod origin;
mod slots;
mod tables;
mod toast;
mod values;
