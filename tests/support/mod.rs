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

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A port of 127.0.0.1 on which nobody listens, and nobody can while this value lives: one that is only looked for is free for the next
/// who asks, which may be a server of the test beside.
pub struct ClosedPort(tokio::net::TcpSocket);

impl ClosedPort {
    /// Takes one.
    pub fn take() -> ClosedPort {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        ClosedPort(socket)
    }

    /// Its number.
    pub fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }
}

/// A free port of 127.0.0.1 for a server that is started later: below those that the system gives to connections, so that none of these
/// has it by then.
pub fn server_port() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let first: u16 = range.split_whitespace().next().unwrap().parse().unwrap();
    let free = |port: &u16| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    (0..100).map(|_| rand::random_range(10_240..first.max(14_240))).find(free).unwrap()
}

/// A name that no other test of this or another run uses: lower case letters, digits and underscores, at most
/// `prefix` and 22 more characters.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() % 100_000_000;
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}_{:x}_{millis:x}_{n}", std::process::id())
}
