//! One fault each, on real servers: connections that break or hang, databases and brokers that stop, are killed or replaced,
//! transactions larger than memory, sources by the dozen. Writers, reader and checker are those of `tests/chaos/`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable,
    missing_docs
)]

#[path = "../chaos/check.rs"]
mod check;
#[path = "../chaos/reader.rs"]
mod reader;
// daemons are replaced in the other suite
#[allow(dead_code)]
#[path = "../chaos/rig.rs"]
mod rig;
#[path = "../support/mod.rs"]
mod support;
#[path = "../chaos/workload.rs"]
mod workload;

mod clock;
mod cluster;
mod connections;
mod databases;
mod descriptors;
mod failover;
mod kafka;
mod large;
mod many;
mod steps;
