//! Transactions of which it isn't known yet whether they commit, and what was prepared.
//!
//! ```text
//! XA START ─ rows ─ XA END ─┬─ XA PREPARE ─► Prepared ─┬─ XA COMMIT ───► replayed in that transaction
//!                           │                          └─ XA ROLLBACK ─► dropped
//!                           └─ one phase ──► replayed
//! BEGIN (may hold changes that can't be rolled back) ─ rows ─┬─ COMMIT, XID ──► replayed
//!         └─ SAVEPOINT s ─ rows ─ ROLLBACK TO s: cut ────────┴─ ROLLBACK ─────► dropped
//! ```
//!
//! Nearly all transactions are in the binlog only because they were committed, and pass as they come. Three kinds aren't:
//! - MySQL's XA transactions: whether they end in one phase is known at their end only. MariaDB says it at the beginning.
//! - MariaDB's transactions that also changed a table of an engine without transactions, or a temporary table: the server writes what
//!   was rolled back, and a ROLLBACK (or ROLLBACK TO) behind it. The rows of engines without transactions aren't among them: they are
//!   written at once, as transactions of their own. The GTID event says which transactions these may be.
//! - MySQL's that may hold statements (a flag of the GTID event).
//!
//! A fourth kind says nothing beforehand: [`Doubt`].
//!
//! What is kept are the events as they would be without checksums. Table maps are among them, and hold for the replay: both servers
//! refuse to change a table that a prepared transaction has changed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rowcast_core::Prepared;

use super::spill::{NoRoom, Room, Spill, SpillReader};
use crate::binlog::event;

/// Transactions that may be prepared at a time: the checkpoint names them all.
const MOST_PREPARED: usize = 1000;
/// Savepoints of one transaction.
const MOST_SAVEPOINTS: usize = 64 << 10;

/// What is made of a transaction that is rolled back in the log although the server didn't say that it may be: MariaDB does so to one that
/// made a temporary table. Within a batch in the making it is taken out of that; behind, the next stream keeps all transactions until
/// their end.
#[derive(Debug, Default)]
pub(crate) struct Doubt {
    /// All are kept.
    pub(crate) all: bool,
    /// Set if the next stream has to keep all.
    pub(crate) next: Arc<AtomicBool>,
    /// The transaction of which a part is published, by its position.
    pub(crate) inside: Option<String>,
}

/// A transaction that is being kept.
#[derive(Debug)]
pub(crate) struct Keep {
    spill: Spill,
    savepoints: Vec<(String, u64)>,
    /// It has a table that is captured.
    captured: bool,
}

/// Why a transaction can't be kept.
#[derive(Debug)]
pub(crate) enum CantKeep {
    NoRoom(NoRoom),
    Wrong(String),
}

impl From<NoRoom> for CantKeep {
    fn from(error: NoRoom) -> Self {
        CantKeep::NoRoom(error)
    }
}

impl Keep {
    pub(crate) fn new(room: Room) -> Self {
        Self { spill: Spill::new(room), savepoints: Vec::new(), captured: false }
    }

    /// Keeps an event: its header, and its body without checksum.
    pub(crate) fn push(&mut self, header: &[u8], body: &[u8], captured: bool) -> Result<(), CantKeep> {
        self.captured |= captured;
        let mut head = [0_u8; event::HEADER];
        if header.len() != head.len() {
            return Err(CantKeep::Wrong("an event without a header".to_owned()));
        }
        head.copy_from_slice(header);
        let length = u32::try_from(event::HEADER + body.len());
        let length = length.map_err(|_| CantKeep::Wrong("an event of more than 4 GiB".to_owned()))?;
        if let Some(place) = head.get_mut(9..13) {
            place.copy_from_slice(&length.to_le_bytes());
        }
        Ok(self.spill.push(&[&head, body])?)
    }

    /// A savepoint; one of the same name is replaced, as the server does. Names are compared without case.
    pub(crate) fn savepoint(&mut self, name: &str) -> Result<(), CantKeep> {
        let name = name.to_lowercase();
        self.savepoints.retain(|(known, _)| *known != name);
        if self.savepoints.len() >= MOST_SAVEPOINTS {
            return Err(CantKeep::Wrong(format!("more than {MOST_SAVEPOINTS} savepoints in one transaction")));
        }
        self.savepoints.push((name, self.spill.len()));
        Ok(())
    }

    /// Takes back what follows a savepoint.
    pub(crate) fn rollback_to(&mut self, name: &str) -> Result<(), CantKeep> {
        let name = name.to_lowercase();
        let Some(index) = self.savepoints.iter().position(|(known, _)| *known == name) else {
            return Err(CantKeep::Wrong("a ROLLBACK TO a savepoint that isn't in the transaction".to_owned()));
        };
        self.savepoints.truncate(index + 1);
        if let Some((_, length)) = self.savepoints.last() {
            self.spill.truncate(*length);
        }
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.spill.len() == 0
    }

    /// Its events.
    pub(crate) fn read(self) -> SpillReader {
        self.spill.read()
    }
}

/// What was prepared and hasn't ended, by the server's name; with its events, if a captured table is in them.
#[derive(Debug, Default)]
pub(crate) struct Registry(HashMap<String, Entry>);

#[derive(Debug)]
struct Entry {
    prepared: Prepared,
    kept: Option<Keep>,
}

impl Registry {
    /// XA PREPARE.
    pub(crate) fn add(&mut self, prepared: Prepared, kept: Option<Keep>) -> Result<(), CantKeep> {
        let mut kept = kept.filter(|kept| kept.captured && !kept.is_empty());
        if let Some(kept) = &mut kept {
            kept.savepoints = Vec::new();
            kept.spill.rest()?;
        }
        if self.0.len() >= MOST_PREPARED && !self.0.contains_key(&prepared.name) {
            return Err(CantKeep::Wrong(format!("more than {MOST_PREPARED} XA transactions are prepared at a time")));
        }
        self.0.insert(prepared.name.clone(), Entry { prepared, kept });
        Ok(())
    }

    /// XA COMMIT or XA ROLLBACK. None if it isn't known; else its events, if there are any for us.
    pub(crate) fn take(&mut self, name: &str) -> Option<Option<Keep>> {
        self.0.remove(name).map(|entry| entry.kept)
    }

    pub(crate) fn knows(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// All of them, the oldest first as far as the text of their positions tells.
    pub(crate) fn prepared(&self) -> Vec<Prepared> {
        let mut all: Vec<Prepared> = self.0.values().map(|entry| entry.prepared.clone()).collect();
        all.sort_by(|a, b| (a.pos.len(), &a.pos).cmp(&(b.pos.len(), &b.pos)));
        all
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Read;

    use super::*;

    fn keep() -> Keep {
        Keep::new(Room::new(std::env::temp_dir(), 1 << 20))
    }

    fn bodies(kept: Keep) -> String {
        let mut bytes = Vec::new();
        kept.read().read_to_end(&mut bytes).unwrap();
        let mut out = Vec::new();
        while let Some(length) = bytes.get(9..13) {
            let length = u32::from_le_bytes(length.try_into().unwrap()) as usize;
            let event: Vec<u8> = bytes.drain(..length).collect();
            out.extend_from_slice(event.get(event::HEADER..).unwrap());
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_a_savepoint_takes_back_is_gone_and_the_savepoint_stays() {
        let mut kept = keep();
        let header = [0; event::HEADER];
        let push = |kept: &mut Keep, text: &str| kept.push(&header, text.as_bytes(), true).unwrap();
        push(&mut kept, "a");
        kept.savepoint("S").unwrap();
        push(&mut kept, "b");
        kept.savepoint("inner").unwrap();
        push(&mut kept, "c");
        kept.rollback_to("s").unwrap();
        assert!(kept.rollback_to("inner").is_err());
        push(&mut kept, "d");
        kept.rollback_to("s").unwrap();
        push(&mut kept, "e");
        // the same name again is another place
        kept.savepoint("s").unwrap();
        push(&mut kept, "f");
        kept.rollback_to("s").unwrap();
        assert_eq!(bodies(kept), "ae");
    }

    #[test]
    fn what_is_prepared_is_listed_until_it_ends_and_bounded() {
        let mut registry = Registry::default();
        let prepared = |n: usize| Prepared { name: format!("x{n}"), pos: format!("0-1-{n}"), from: None };
        let mut kept = keep();
        kept.push(&[0; event::HEADER], b"a", true).unwrap();
        registry.add(prepared(10), Some(kept)).unwrap();
        let mut uncaptured = keep();
        uncaptured.push(&[0; event::HEADER], b"a", false).unwrap();
        registry.add(prepared(9), Some(uncaptured)).unwrap();
        assert_eq!(registry.prepared(), [prepared(9), prepared(10)]);
        assert!(registry.take("x9").is_some_and(|kept| kept.is_none()));
        assert_eq!(registry.take("x10").flatten().map(bodies).as_deref(), Some("a"));
        assert!(registry.take("x10").is_none());
        for n in 0..MOST_PREPARED {
            registry.add(prepared(n), None).unwrap();
        }
        assert!(matches!(registry.add(prepared(MOST_PREPARED), None), Err(CantKeep::Wrong(_))));
        registry.add(prepared(7), None).unwrap();
    }
}
