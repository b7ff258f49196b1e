//! What is MySQL's and MariaDB's own: their types, row images, events, statements, positions, connections.
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

#[path = "../truth/asking.rs"]
#[allow(dead_code)]
mod asking;
#[path = "../truth/exposition.rs"]
#[allow(dead_code)]
mod exposition;

mod charsets;
mod connections;
mod ddl;
mod events;
mod failover;
mod fold;
mod golden;
mod images;
mod positions;
mod review;
mod versions;
mod xa;
