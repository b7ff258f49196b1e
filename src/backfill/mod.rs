//! Backfill: the rows that are already there, by one mechanism for the first load, a table added later, and a resync.
//!
//! ```text
//!                 control ◄── rowcast backfill
//!                    │
//! coordinator ──► board ◄────────────── publisher (judge: merge)
//!   │ readers  work   ▲ pieces' fates       ▲  held back: hold
//!   ▼                 └──────────┐          │
//! chunks ──► encode ─────────────┴── pieces ┘        stream ──► encode (keys noted: watch) ──► publisher
//! ```
//!
//! - [`merge`]: which rows may be published, and the proof.
//! - [`board`]: what the copies of one run are doing; each is a `copy`. `taking`, `judging` and `operator` are its sides: the
//!   readers', the publisher's, the operator's. `stopped`: tables that can't be followed. [`markers`]: which rows are first or last.
//! - [`coordinator`]: the readers: which table, which range, how fast.
//! - [`hold`]: the events of a table without a key, kept on disk until its rows are out.
//! - [`plan`]: what a run copies. [`state`]: what a checkpoint keeps of it. [`watch`]: for which tables the encoders note keys.
//! - [`control`]: what an operator asks for. [`report`]: what he is told.

mod answer;
pub mod board;
pub mod control;
pub mod coordinator;
mod copy;
pub mod hold;
mod judging;
pub mod markers;
pub mod merge;
mod operator;
pub mod plan;
pub mod report;
pub mod state;
mod stopped;
mod taking;
pub mod watch;
