//! Chaos: workload, faults and checker composed by a seed, and kills without end. `make chaos` runs the long form.
//!
//! The checker's truth is what the writers themselves committed and what the tables hold; the topics are read by a reader
//! of its own. `ROWCAST_CHAOS_SEED` repeats a run's choices, `ROWCAST_CHAOS_KILLS`, `ROWCAST_CHAOS_SECONDS`, `ROWCAST_CHAOS_SOAK`
//! and `ROWCAST_CHAOS_SLOW` (seconds) set its length.
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

mod check;
mod composed;
mod kills;
mod reader;
mod rig;
mod slow;
mod soak;
mod wide;
mod workload;

/// A number from the environment.
fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text}: not a number")),
        Err(_) => default,
    }
}

/// The seed of this run, printed so that it can be repeated.
fn seed() -> u64 {
    let seed = setting("ROWCAST_CHAOS_SEED", u64::from(rand::random::<u32>()));
    println!("ROWCAST_CHAOS_SEED={seed}");
    seed
}

/// One of these suites at a time: each of them alone is more than the machine can do.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
