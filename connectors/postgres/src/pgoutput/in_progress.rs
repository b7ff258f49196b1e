//! Transactions whose rows come before it is known how they end: streamed while in progress, or prepared. They are kept in
//! files, one each, and replayed at their commit.
//!
//! ```text
//! Stream Start x ─ rows ─ Stop ─ (others) ─ Start x ─ rows ─ Stop ─┬─ Stream Commit ──► Replay
//!                                                                  ├─ Stream Abort ───► dropped, or a sub-transaction noted
//! Begin Prepare x ─ rows ─ Prepare ────────────────────────────────┴─ Stream Prepare ─► Commit Prepared, Rollback Prepared
//! ```
//!
//! A file has no name, so that nothing is left behind by a crash: the server sends such a transaction again. What is kept is
//! what the server sent, one record a message: length and transaction (4 bytes each), a number (of relations when they came, of others their LSN), then the message. Rows of aborted
//! sub-transactions are left out by the replay; relations and types aren't, since the server sends each once, in whichever
//! sub-transaction needs it first.
//!
//! Memory: a buffer for the transaction that is being received, and four bytes per aborted sub-transaction. Disk: a bound for all
//! together. Fails transiently when the disk is full or a bound is reached; the next stream is then opened without streaming, and the
//! server keeps such transactions itself until they end, as it does below version 14. The same happens when the server itself fails at
//! one: 15.18 does with `could not map filenode` behind an ALTER TABLE in a savepoint that is rolled back, and decodes the transaction
//! well once it is committed.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rowcast_core::{Lsn, SourceError};

use super::message::OfStream;
use super::replay::Replay;

/// Received bytes of a transaction that are written at once.
const WRITE: usize = 256 << 10;
/// Sub-transactions of one transaction that may be aborted (16 MiB of ids).
const MOST_ABORTED: usize = 4 << 20;
/// Length and transaction.
pub(crate) const HEAD: usize = 8;
/// The message's number.
pub(crate) const NUMBER: usize = 8;

/// A replication origin: its name, and the commit there as far as it is known.
pub(crate) type Origin = (Arc<str>, Option<Lsn>);

/// Where transactions in progress are kept, and how much of them.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    pub(crate) folder: PathBuf,
    /// Bytes of all files together.
    pub(crate) limit: u64,
    /// Set when one couldn't be kept: the next stream does without.
    pub(crate) leave: Arc<AtomicBool>,
}

/// One transaction.
#[derive(Debug)]
struct Kept {
    file: File,
    written: u64,
    aborted: Vec<u32>,
    /// It has a logical message.
    message: bool,
    /// It came as a whole, at its PREPARE.
    whole: bool,
    /// Where it was replicated from.
    origin: Option<Origin>,
}

#[derive(Debug, Clone, Copy)]
struct Current {
    xid: u32,
    /// Between Stream Start and Stream Stop, else between Begin Prepare and Prepare.
    streamed: bool,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct InProgress {
    room: Room,
    transactions: HashMap<u32, Kept>,
    current: Option<Current>,
    /// Of the current one, not written yet.
    buffer: Vec<u8>,
    /// Bytes of all.
    total: u64,
}

/// The protocol is violated.
pub(crate) type Wrong = &'static str;

/// What can go wrong.
#[derive(Debug)]
pub(crate) enum Failure {
    /// By the server.
    Wrong(Wrong),
    /// There is no room, or the disk fails.
    NoRoom(String),
}

impl From<Wrong> for Failure {
    fn from(wrong: Wrong) -> Self {
        Self::Wrong(wrong)
    }
}

impl InProgress {
    pub(crate) fn new(room: Room) -> Self {
        Self { room, transactions: HashMap::new(), current: None, buffer: Vec::new(), total: 0 }
    }

    /// The error of a failure; what isn't the server's fault makes the next stream do without streaming.
    pub(crate) fn explain(&self, failure: Failure) -> SourceError {
        match failure {
            Failure::Wrong(what) => super::assembler::broken(what),
            Failure::NoRoom(why) => self.room.leave(&why),
        }
    }

    /// What is being received, if it is such a transaction.
    pub(crate) fn receives(&self) -> Option<bool> {
        self.current.map(|current| current.streamed)
    }

    /// Stream Start or Begin Prepare.
    pub(crate) fn start(&mut self, xid: u32, streamed: bool, first: bool) -> Result<(), Failure> {
        if self.current.is_some() {
            return Err("a transaction in progress begins inside another one".into());
        }
        if first {
            self.drop(xid);
            let file = std::fs::create_dir_all(&self.room.folder)
                .and_then(|()| tempfile::tempfile_in(&self.room.folder))
                .map_err(|error| self.no_room(&error))?;
            let kept = Kept { file, written: 0, aborted: Vec::new(), message: false, whole: !streamed, origin: None };
            self.transactions.insert(xid, kept);
        } else if !self.transactions.contains_key(&xid) {
            return Err("a transaction in progress goes on that never began".into());
        }
        self.current = Some(Current { xid, streamed });
        Ok(())
    }

    /// Stream Stop or Prepare.
    pub(crate) fn stop(&mut self) -> Result<(), Failure> {
        self.write()?;
        if self.current.take().is_none() {
            return Err("a transaction in progress stops that didn't go on".into());
        }
        // as much as one large row may have grown it
        self.buffer.shrink_to(WRITE * 2);
        Ok(())
    }

    /// A message of the transaction that is being received, with its number: of a relation that of its arrival, of others their LSN.
    pub(crate) fn push(&mut self, message: OfStream<'_>, number: u64) -> Result<(), Failure> {
        let Some(current) = self.current else { return Err("a row outside of a transaction".into()) };
        let length = u32::try_from(NUMBER + 1 + message.rest.len());
        let length = length.map_err(|_| Failure::Wrong("a message of more than 4 GiB"))?;
        for part in [
            &length.to_be_bytes()[..],
            &message.xid.to_be_bytes(),
            &number.to_be_bytes(),
            &[message.kind],
            message.rest,
        ] {
            self.buffer.extend_from_slice(part);
        }
        if message.kind == b'M'
            && let Some(kept) = self.transactions.get_mut(&current.xid)
        {
            kept.message = true;
        }
        if self.buffer.len() >= WRITE { self.write() } else { Ok(()) }
    }

    /// Where the transaction that is being received was replicated from.
    pub(crate) fn origin(&mut self, origin: Origin) {
        if let Some(kept) = self.current.and_then(|current| self.transactions.get_mut(&current.xid)) {
            kept.origin = Some(origin);
        }
    }

    fn write(&mut self) -> Result<(), Failure> {
        let bytes = self.buffer.len() as u64;
        if bytes == 0 {
            return Ok(());
        }
        if self.total.saturating_add(bytes) > self.room.limit {
            return Err(Failure::NoRoom(format!(
                "transactions in progress take more than `source.spill_limit` ({} bytes)",
                self.room.limit
            )));
        }
        let kept = self.current.and_then(|current| self.transactions.get_mut(&current.xid));
        let Some(kept) = kept else { return Err("a row outside of a transaction".into()) };
        kept.file.write_all_at(&self.buffer, kept.written).map_err(|error| self.room.failed(&error))?;
        kept.written += bytes;
        self.total += bytes;
        self.buffer.clear();
        Ok(())
    }

    fn no_room(&self, error: &io::Error) -> Failure {
        self.room.failed(error)
    }

    /// A part of a transaction, or all of it, was rolled back.
    pub(crate) fn abort(&mut self, xid: u32, sub: u32) -> Result<(), Failure> {
        if xid == sub {
            self.drop(xid);
        } else if let Some(kept) = self.transactions.get_mut(&xid) {
            if kept.aborted.len() >= MOST_ABORTED {
                return Err(Failure::NoRoom(format!("transaction {xid} rolled back {MOST_ABORTED} savepoints")));
            }
            kept.aborted.push(sub);
        }
        Ok(())
    }

    /// Forgets a transaction.
    pub(crate) fn drop(&mut self, xid: u32) {
        if let Some(kept) = self.transactions.remove(&xid) {
            self.total = self.total.saturating_sub(kept.written);
        }
    }

    /// The transaction was committed. None if nothing of it is known.
    ///
    /// A streamed logical message says the whole transaction's id, never a sub-transaction's (`pgoutput_message`): which of them were
    /// rolled back can't be told, so that the transaction has to come again as a whole; unless it is `passed`, published before.
    pub(crate) fn take(&mut self, xid: u32, passed: bool) -> Result<Option<Replay>, Failure> {
        let Some(kept) = self.transactions.get(&xid) else { return Ok(None) };
        if kept.message && !kept.aborted.is_empty() && !kept.whole && !passed {
            return Err(Failure::NoRoom(format!(
                "transaction {xid} has logical messages and rolled savepoints back, which can't be told apart while it is streamed"
            )));
        }
        let Some(kept) = self.transactions.remove(&xid) else { return Ok(None) };
        self.total = self.total.saturating_sub(kept.written);
        Ok(Some(Replay::new(kept.file, kept.written, kept.aborted).of(kept.origin)))
    }
}

impl Room {
    fn failed(&self, error: &io::Error) -> Failure {
        Failure::NoRoom(format!("{}: {error}", self.folder.display()))
    }

    /// Leaves them to the server: the next stream does without.
    pub(crate) fn leave(&self, why: &str) -> SourceError {
        self.leave.store(true, Ordering::Relaxed);
        SourceError::transient(format!(
            "a transaction in progress can't be streamed: {why}; the stream begins again without streaming, so that the server keeps such \
             transactions itself until they end"
        ))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn room(limit: u64) -> Room {
        Room { folder: std::env::temp_dir(), limit, leave: Arc::default() }
    }

    fn message(xid: u32, rest: &[u8]) -> OfStream<'_> {
        OfStream { kind: b'I', xid, rest }
    }

    fn replayed(it: &mut InProgress, xid: u32) -> Vec<Vec<u8>> {
        let mut replay = it.take(xid, false).unwrap().unwrap();
        let mut found = Vec::new();
        while let Some(record) = replay.record().unwrap() {
            found.push(replay.message(record).to_vec());
            replay.advance(record);
        }
        found
    }

    #[test]
    fn pieces_of_transactions_are_put_together_and_rolled_back_ones_left_out() {
        let mut it = InProgress::new(room(1 << 20));
        it.start(1, true, true).unwrap();
        it.push(message(1, b"a"), 0).unwrap();
        it.push(message(11, b"b"), 0).unwrap();
        it.push(OfStream { kind: b'R', xid: 11, rest: b"r" }, 7).unwrap();
        it.stop().unwrap();
        it.start(2, true, true).unwrap();
        it.push(message(2, b"x"), 0).unwrap();
        it.stop().unwrap();
        it.start(1, true, false).unwrap();
        it.push(message(1, b"c"), 0).unwrap();
        it.stop().unwrap();
        it.abort(1, 11).unwrap();
        it.abort(2, 2).unwrap();
        assert_eq!(replayed(&mut it, 1), [b"Ia".to_vec(), b"Rr".to_vec(), b"Ic".to_vec()]);
        assert!(it.take(2, false).unwrap().is_none());
        assert_eq!((it.total, it.transactions.len()), (0, 0));
    }

    #[test]
    fn a_protocol_out_of_order_is_an_error() {
        let mut it = InProgress::new(room(1 << 20));
        assert!(matches!(it.push(message(1, b"a"), 0), Err(Failure::Wrong(_))));
        assert!(matches!(it.stop(), Err(Failure::Wrong(_))));
        assert!(matches!(it.start(1, true, false), Err(Failure::Wrong(_))));
        it.start(1, true, true).unwrap();
        assert!(matches!(it.start(2, true, true), Err(Failure::Wrong(_))));
    }

    #[test]
    fn without_room_the_next_stream_does_without() {
        let room = room(1000);
        let mut it = InProgress::new(room.clone());
        it.start(1, true, true).unwrap();
        it.push(message(1, &[0; 2000]), 0).unwrap();
        let error = it.stop().map_err(|failure| it.explain(failure)).unwrap_err();
        assert!(error.is_transient() && error.to_string().contains("spill_limit"), "{error}");
        assert!(room.leave.load(Ordering::Relaxed));
        let mut nowhere = InProgress::new(Room { folder: "/dev/null/x".into(), ..room });
        assert!(matches!(nowhere.start(1, true, true), Err(Failure::NoRoom(_))));
    }

    #[test]
    fn messages_beside_rolled_back_savepoints_are_not_guessed_at() {
        let mut it = InProgress::new(room(1 << 20));
        it.start(1, true, true).unwrap();
        it.push(OfStream { kind: b'M', xid: 1, rest: b"m" }, 0).unwrap();
        it.stop().unwrap();
        it.abort(1, 11).unwrap();
        assert!(matches!(it.take(1, false), Err(Failure::NoRoom(_))));
        assert!(it.take(1, true).unwrap().is_some());
    }
}
