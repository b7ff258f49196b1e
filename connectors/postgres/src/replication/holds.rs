//! What the server must not forget although everything before it, and much behind it, is published: the rows of prepared
//! transactions.
//!
//! They come with the PREPARE and are published with the COMMIT PREPARED. A stream that begins between the two gets the latter
//! alone. So the server is told no more than where the first of them was prepared, until its commit is confirmed.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One of them.
#[derive(Debug, Clone, Copy)]
struct Hold {
    xid: u32,
    at: u64,
    /// It ends when this is confirmed.
    until: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Holds(Mutex<Vec<Hold>>);

impl Holds {
    fn lock(&self) -> MutexGuard<'_, Vec<Hold>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The transaction was prepared at this position.
    pub(crate) fn hold(&self, xid: u32, at: u64) {
        let mut holds = self.lock();
        holds.retain(|hold| hold.xid != xid);
        holds.push(Hold { xid, at, until: u64::MAX });
    }

    /// It was committed; the commit ends here.
    pub(crate) fn committed(&self, xid: u32, end: u64) {
        self.lock().iter_mut().filter(|hold| hold.xid == xid).for_each(|hold| hold.until = end);
    }

    /// Its rows are not needed.
    pub(crate) fn forget(&self, xid: u32) {
        self.lock().retain(|hold| hold.xid != xid);
    }

    /// What the server may be told of a confirmed position.
    pub(crate) fn bound(&self, confirmed: u64) -> u64 {
        let mut holds = self.lock();
        holds.retain(|hold| confirmed < hold.until);
        holds.iter().map(|hold| hold.at).min().unwrap_or(u64::MAX).min(confirmed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prepared_transaction_holds_until_its_commit_is_confirmed() {
        let holds = Holds::default();
        assert_eq!(holds.bound(100), 100);
        holds.hold(7, 50);
        holds.hold(8, 60);
        assert_eq!((holds.bound(40), holds.bound(100)), (40, 50));
        holds.committed(7, 200);
        assert_eq!(holds.bound(199), 50);
        assert_eq!(holds.bound(200), 60);
        holds.forget(8);
        assert_eq!(holds.bound(300), 300);
    }
}
