//! The merge rule: which rows of a read may be published, and when.
//!
//! One [`Merge`] per table that is being copied. It remembers which keys the stream's transactions touched, as long as a read
//! may not see these transactions, and decides the fate of each row that was read.
//!
//! # The rule
//!
//! A read R sees a set of transactions V(R) and tells a bound L(R) in the log before which every commit in V(R) ends. Its rows
//! are handled when the stream has passed L(R) and stands between two transactions:
//!
//! 1. a row is **dropped** if the last transaction that touched its key in the stream so far isn't certainly in V(R), where an
//!    update touches its old key and its new one, and TRUNCATE touches every key; else it is **published**;
//! 2. if that last touch came with columns left out (unchanged TOAST, a minimal image), the key is **read again**;
//! 3. a touch that left columns out makes its key be read again at once where rows may move between ranges, and where it
//!    brought a row to a new key, since such a row may be in none of the ranges still to be read;
//! 4. a read is **accepted** only if it sees every transaction whose keys aren't remembered: those streamed before the table
//!    was watched, and those forgotten since memory is bounded; else its range is read again.
//!
//! # No `r` event follows a newer change of its key
//!
//! Let the row of key k that R read be written by W ∈ V(R), and let N be any transaction that changed k after W and whose event
//! was published before the row. N ∉ V(R), else R had read N's row. N was streamed before the row was handled. If N was
//! streamed while the table was watched, its touch of k was remembered: forgetting happens only for transactions that R sees
//! ([`Merge::prune`] with a read that isn't later than R, since what one read sees every later one sees), or is noted and R
//! isn't accepted (rule 4). If N was streamed before, R isn't accepted either (rule 4). So the last touch of k in the stream is
//! N or something after N; call it M. A transaction can change k only after the one before it has ended and become visible to
//! it, so M ∈ V(R) would give N ∈ V(R). Hence M ∉ V(R), and rule 1 drops the row.
//!
//! # No `r` event precedes an older change of its key
//!
//! W and all that changed k before it are in V(R), so their commits end before L(R), which the stream has passed.
//!
//! # No row is missed
//!
//! Take a row of key k at the end of the copy, and the last transaction N that changed k. If N was streamed while the table was
//! watched, its event carries the row, and the columns that it left out are those of the row before: rule 2 or 3 has them read
//! again, or the row before was published and not dropped. In detail: if no columns were left out nothing is missing. If some
//! were and N ∉ V(R) for the read R that found k, then either R's row was published (it has these columns: N didn't change
//! them), or it was dropped because of a touch M; N is not before M, and if M is N rule 2 applies; if M came before N and was
//! complete, M's event has the columns; if it wasn't, the key is read again already. If N ∈ V(R), R's row is N's and is
//! published or dropped for a newer touch, and the same holds for that. If no read found k, then the row wasn't in the range
//! when that was read: it was moved or came to this key later, by a transaction streamed while watched: rule 3. If N was
//! streamed before the table was watched, every accepted read sees N (rule 4), finds the row in the one range that covers its
//! place, and no touch drops it. A key that is to be read again stays so until a read that sees the touch has answered
//! ([`Merge::resolve_keys`]), across restarts too: the list is in the checkpoint.
//!
//! # What each server gives
//!
//! - PostgreSQL: V(R) is a snapshot with 64-bit top-level xids: exact. A commit is streamed once it is in the WAL, but visible
//!   only after that, with synchronous replication much later: hence rule 1 for what is already published, and the gate
//!   ([`Merge::gate`]) for what was streamed before the table was watched. Prepared transactions count as running; subtransactions
//!   share the fate of their parent, whose xid is the one in the stream. L(R) is the insert position of the WAL.
//! - MySQL: V(R) contains `gtid_executed` as read before the snapshot, and perhaps more. What it may contain besides is treated as
//!   not in it: the row is dropped, and since the stream has passed L(R) its newest state was published by its event.
//! - MariaDB: the binlog position of a consistent snapshot: exact.
//!
//! Fails never; memory is bounded by [`MOST_KEYS`] and [`MOST_REREADS`].

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use rowcast_core::backfill::{Offset, Reading, Sight, Snapshot};
use rowcast_core::{LogPosition, Transaction};

/// Keys remembered per table; some 100 bytes each.
const MOST_KEYS: usize = 200_000;
/// Transactions noted until the gate is known.
const MOST_BEGUN: usize = 100_000;
/// Keys that wait to be read again; beyond it the table is read from the start.
const MOST_REREADS: usize = 50_000;

/// A key, as 128 bits of its bytes in the events (two keyed hashes, chosen per process): to confuse two would drop a row.
pub type KeyHash = u128;
/// A key as SQL literals.
pub type Literals = Vec<String>;

/// What the stream did to a key.
#[derive(Debug, Clone)]
pub struct Touch {
    /// Which.
    pub key: KeyHash,
    /// The event left columns out of the row after: the key, to read it again.
    pub missing: Option<Literals>,
    /// The row came to this key from another one.
    pub moved: bool,
}

/// What becomes of a row that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is published.
    Publish,
    /// A newer event was published, or is about to be.
    Drop,
}

/// A transaction that touched the table.
#[derive(Debug)]
struct Tracked {
    transaction: Arc<Transaction>,
    /// Where its commit ends; none while it is streamed.
    end: Option<Offset>,
    keys: Vec<KeyHash>,
}

impl Tracked {
    fn sight(&self, reading: &Reading) -> Sight {
        self.end.map_or(Sight::Unseen, |end| reading.sight(&self.transaction, end))
    }
}

#[derive(Debug)]
struct Last {
    /// Number of the transaction.
    by: u64,
    missing: Option<Literals>,
}

/// The keys of one table that reads may not have seen.
#[derive(Debug)]
pub struct Merge {
    rows_move: bool,
    keys: HashMap<KeyHash, Last>,
    /// Transactions in the order of the stream; the first has the number `first`.
    tracked: VecDeque<Tracked>,
    first: u64,
    /// The last TRUNCATE.
    emptied: Option<u64>,
    /// Transactions whose keys were forgotten for want of room.
    forgotten: Vec<Tracked>,
    /// Keys to be read again.
    reread: HashMap<KeyHash, Literals>,
    overflown: bool,
    gate: Gate,
    most_keys: usize,
}

/// What was streamed before the table was watched.
#[derive(Debug, Default)]
struct Gate {
    /// PostgreSQL: transactions that ran when the watch began and haven't begun in the watched part of the stream.
    unsettled: Option<HashSet<u64>>,
    /// Transactions that began in the watched stream before `unsettled` was known.
    begun: HashSet<u32>,
    /// Everything in the stream up to here wasn't watched.
    since: Option<LogPosition>,
    /// A transaction of which only a part was watched.
    partial: Option<String>,
}

impl Merge {
    /// Begins to remember. `reread` is what a checkpoint says is still to be read again, with the hashes of the keys.
    pub fn new(rows_move: bool) -> Self {
        Self {
            rows_move,
            keys: HashMap::new(),
            tracked: VecDeque::new(),
            first: 0,
            emptied: None,
            forgotten: Vec::new(),
            reread: HashMap::new(),
            overflown: false,
            gate: Gate::default(),
            most_keys: MOST_KEYS,
        }
    }

    /// A part of the stream went by unwatched, up to `position`, with `open` in progress.
    pub fn unwatched(&mut self, position: &LogPosition, open: Option<&Transaction>) {
        self.gate.since = Some(position.clone());
        self.gate.partial = open.map(|transaction| transaction.pos.clone());
    }

    /// The watched part of the stream begins behind `position`, unless it has begun.
    pub fn watched(&mut self, position: &LogPosition) {
        self.gate.since.get_or_insert_with(|| position.clone());
    }

    /// A transaction begins in the watched part.
    pub fn begin(&mut self, transaction: &Transaction) {
        let Some(xid) = transaction.xid else { return };
        match &mut self.gate.unsettled {
            // widened ids can't collide here: running transactions are less than 2^31 apart
            Some(unsettled) => unsettled.retain(|running| *running as u32 != xid),
            // one that isn't noted only makes the gate stricter
            None if self.gate.begun.len() < MOST_BEGUN => {
                self.gate.begun.insert(xid);
            }
            None => {}
        }
    }

    /// What ran on the server after the watch had begun: each of these either shows up in the watched stream, or was streamed
    /// before and must be visible to a read. Reads begin after this snapshot was taken.
    pub fn gate(&mut self, snapshot: &Snapshot) {
        let begun = std::mem::take(&mut self.gate.begun);
        let unsettled = snapshot.running().iter().copied().filter(|xid| !begun.contains(&(*xid as u32)));
        self.gate.unsettled = Some(unsettled.collect());
    }

    /// Transactions that a read must see before it is accepted and that this snapshot doesn't.
    pub fn waits_for(&self, snapshot: &Snapshot) -> Vec<u64> {
        self.gate.unsettled.iter().flatten().copied().filter(|xid| !snapshot.sees_xid(*xid)).collect()
    }

    /// Whether all that isn't remembered is seen by a read (rule 4); never before [`Merge::gate`].
    pub fn accepts(&mut self, reading: &Reading) -> bool {
        self.forgotten.retain(|it| it.sight(reading) != Sight::Seen);
        let settled = match &mut self.gate.unsettled {
            Some(unsettled) => {
                unsettled.retain(|xid| !reading.snapshot.sees_xid(*xid));
                unsettled.is_empty()
            }
            None => false,
        };
        let covered = self.gate.since.as_ref().is_none_or(|since| reading.snapshot.covers(since));
        settled && covered && self.forgotten.is_empty()
    }

    /// The transaction's number; it is tracked from now on.
    fn track(&mut self, transaction: &Arc<Transaction>) -> u64 {
        let same =
            self.tracked.back().is_some_and(|last| last.end.is_none() && last.transaction.pos == transaction.pos);
        if !same {
            let transaction = Arc::clone(transaction);
            self.tracked.push_back(Tracked { transaction, end: None, keys: Vec::new() });
        }
        self.first + self.tracked.len() as u64 - 1
    }

    /// The transaction in progress touches a key.
    pub fn touch(&mut self, transaction: &Arc<Transaction>, touch: Touch) {
        let by = self.track(transaction);
        let Touch { key, missing, moved } = touch;
        if let Some(literals) = missing.as_ref().filter(|_| self.rows_move || moved) {
            self.read_again(key, literals.clone());
        }
        let before = self.keys.insert(key, Last { by, missing });
        if before.is_none_or(|last| last.by != by)
            && let Some(tracked) = self.tracked.back_mut()
        {
            tracked.keys.push(key);
        }
        while self.keys.len() > self.most_keys && self.forget_oldest() {}
    }

    /// The transaction in progress empties the table.
    pub fn empty(&mut self, transaction: &Arc<Transaction>) {
        self.emptied = Some(self.track(transaction));
    }

    /// A transaction ended.
    pub fn commit(&mut self, transaction: &Transaction, end: Offset) {
        if self.gate.partial.as_ref().is_some_and(|partial| *partial == transaction.pos) {
            self.gate.partial = None;
            if let Some(since) = &mut self.gate.since {
                // of the same kind as the stream's other positions
                let _ = since.advance(&transaction.mark);
            }
        }
        let ended = |it: &mut Tracked| {
            if it.end.is_none() && it.transaction.pos == transaction.pos {
                it.end = Some(end);
            }
        };
        if let Some(last) = self.tracked.back_mut() {
            ended(last);
        }
        self.forgotten.iter_mut().for_each(ended);
    }

    /// Removes the oldest transaction; false if there is none.
    fn remove_oldest(&mut self) -> Option<Tracked> {
        let oldest = self.tracked.pop_front()?;
        for key in &oldest.keys {
            if self.keys.get(key).is_some_and(|last| last.by == self.first) {
                self.keys.remove(key);
            }
        }
        if self.emptied == Some(self.first) {
            self.emptied = None;
        }
        self.first += 1;
        Some(oldest)
    }

    fn forget_oldest(&mut self) -> bool {
        match self.remove_oldest() {
            Some(oldest) => {
                self.forgotten.push(Tracked { keys: Vec::new(), ..oldest });
                true
            }
            None => false,
        }
    }

    /// Forgets the transactions that all these reads see: every read that isn't handled yet is one of them, or begins later.
    pub fn prune(&mut self, reads: &[&Reading]) {
        let seen = |it: &Tracked| reads.iter().all(|read| it.sight(read) == Sight::Seen);
        while self.tracked.front().is_some_and(seen) {
            self.remove_oldest();
        }
    }

    /// Whether rows may be in another range after an update.
    pub fn set_rows_move(&mut self, rows_move: bool) {
        self.rows_move = rows_move;
    }

    fn number(&self, number: u64) -> Option<&Tracked> {
        self.tracked.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    fn unseen(&self, number: u64, reading: &Reading) -> bool {
        // one that isn't tracked any more is seen, else the read weren't accepted
        self.number(number).is_some_and(|tracked| tracked.sight(reading) != Sight::Seen)
    }

    /// Rules 1 and 2 for a row with this key. The read has been accepted and its bound passed.
    pub fn fate(&mut self, reading: &Reading, key: KeyHash) -> Fate {
        if self.emptied.is_some_and(|number| self.unseen(number, reading)) {
            return Fate::Drop;
        }
        let Some(last) = self.keys.get(&key) else { return Fate::Publish };
        if !self.unseen(last.by, reading) {
            return Fate::Publish;
        }
        if let Some(literals) = last.missing.clone() {
            self.read_again(key, literals);
        }
        Fate::Drop
    }

    /// The keys that a read was asked for have been answered, with a row or without: those whose touch it saw are done.
    pub fn resolve_keys(&mut self, reading: &Reading, keys: &[KeyHash]) {
        for key in keys {
            let again = self.keys.get(key).is_some_and(|last| last.missing.is_some() && self.unseen(last.by, reading));
            if !again {
                self.reread.remove(key);
            }
        }
    }

    /// Has a key read again.
    pub fn read_again(&mut self, key: KeyHash, literals: Literals) {
        if self.reread.len() >= MOST_REREADS && !self.reread.contains_key(&key) {
            self.overflown = true;
            return;
        }
        self.reread.insert(key, literals);
    }

    /// Keys that are to be read again.
    pub fn rereads(&self) -> &HashMap<KeyHash, Literals> {
        &self.reread
    }

    /// More keys are to be read again than are remembered: only reading the whole table again has them all.
    pub fn is_overflown(&self) -> bool {
        self.overflown
    }

    /// The table is read from the start.
    pub fn restart(&mut self) {
        self.overflown = false;
        self.reread.clear();
    }
}

#[cfg(test)]
mod tests;
