//! What the integration tests share: real servers, private databases and topics on them, the daemon as a process.
//!
//! A test file starts with `mod support;`. The servers are started once for a whole test run: by `make test`
//! (`scripts/with-servers.sh`), else by the first test that asks for them. A test that can't have its servers fails.
#![allow(dead_code, unused_imports)]

pub mod admin;
pub mod cases;
pub mod compact;
pub mod compare;
pub mod connect;
pub mod daemon;
pub mod debezium;
pub mod env;
pub mod fold;
pub mod golden;
pub mod kafka;
pub mod local;
pub mod mysql;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod schema;
pub mod session;
pub mod source;
mod wait;

pub use env::{Servers, env};
pub use wait::{eventually, eventually_within};

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A name that no other test of this or another run uses: lower case letters, digits and underscores, at most
/// `prefix` and 22 more characters.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() % 100_000_000;
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}_{:x}_{millis:x}_{n}", std::process::id())
}
