//! Rowcast: change data capture from PostgreSQL, MySQL and MariaDB into Kafka.
//!
//! This is the daemon's own library, made for its binary and its tests; see `ARCHITECTURE.md` for the plan of the house.

pub mod admin;
pub mod backfill;
pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod error;
pub mod fail;
pub mod format;
pub mod import;
pub mod logging;
pub mod pipeline;
pub mod route;
pub mod sink;
pub mod status;
pub mod supervisor;
