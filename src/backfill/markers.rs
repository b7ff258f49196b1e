//! Markers: which rows of a copy say that they are the first or the last, for formats that tell it (`debezium`).
//!
//! A snapshot is all copies that are in progress together: it begins with the first row that is published while no other snapshot is in
//! progress, and ends when no copy on the board has anything left. A copy that is asked for meanwhile becomes a part of it.
//!
//! Guarantees: a snapshot has one `first` at most, also across restarts, since what was said is in the checkpoint of the rows that say it; a row
//! that is the last of its table, or of all, is the last that is published of it. Not every table and snapshot has them: the last rows may be
//! dropped for newer changes, a copy may end without being complete, and what is published isn't held back for long ([`crate::pipeline`]). Fails never.

use super::board::{Board, Inner, Part, PieceOf};

/// What a row says of its place in a snapshot, where it doesn't only say that it is of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    /// The first of the snapshot.
    First,
    /// The first of its table.
    FirstInDataCollection,
    /// The last of its table.
    LastInDataCollection,
    /// The last of the snapshot.
    Last,
}

impl Marker {
    /// As events say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::FirstInDataCollection => "first_in_data_collection",
            Self::LastInDataCollection => "last_in_data_collection",
            Self::Last => "last",
        }
    }
}

/// What the first and the last of some rows of a table say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Markers {
    /// The first of them.
    pub first: Option<Marker>,
    /// The last.
    pub last: Option<Marker>,
}

impl Markers {
    /// What the row says if it is the only one: that it is the last of all goes before all, then that it is the first of all.
    pub fn of_one(self) -> Option<Marker> {
        match self {
            Self { last: Some(Marker::Last), .. } => self.last,
            Self { first: Some(Marker::First), .. } => self.first,
            Self { first, last } => last.or(first),
        }
    }
}

/// What may be published of a snapshot behind a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// Rows of the same table.
    Rows,
    /// Rows of other tables only.
    Tables,
    /// Nothing.
    Nothing,
}

/// A reader that waits for room.
#[derive(Debug)]
pub struct WantsRoom(Board);

impl Drop for WantsRoom {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.wanting = inner.wanting.saturating_sub(1);
    }
}

impl Inner {
    /// A copy was taken off the board: without copies there is no snapshot.
    pub(super) fn left(&mut self) {
        self.begun &= !self.copies.is_empty();
    }
}

impl Board {
    /// Rows of a piece that was judged are about to be published: what the first and the last of them say.
    pub fn mark(&self, copy: &str) -> Markers {
        let mut inner = self.lock();
        let (over, snapshot_begun) = (inner.copies.iter().all(|it| it.is_over()), inner.begun);
        let Some(it) = inner.copy(copy) else { return Markers::default() };
        let first = match (snapshot_begun, std::mem::replace(&mut it.state.begun, true)) {
            (false, _) => Some(Marker::First),
            (true, false) => Some(Marker::FirstInDataCollection),
            (true, true) => None,
        };
        let last = it.is_done().then_some(if over { Marker::Last } else { Marker::LastInDataCollection });
        // rows that come behind the last are of another snapshot
        inner.begun = last != Some(Marker::Last);
        Markers { first, last }
    }

    /// What may follow a piece that isn't judged yet, if all of its rows are published; nothing if it doesn't count or mustn't wait.
    pub fn behind(&self, piece: &PieceOf) -> Behind {
        let mut inner = self.lock();
        let others = inner.copies.iter().any(|it| it.state.copy != piece.copy && !it.is_over());
        let Some(copy) = inner.copy(&piece.copy).filter(|copy| copy.is_current(&piece.part) && !copy.hurried) else {
            return Behind::Nothing;
        };
        let (this, asked) = match &piece.part {
            Part::Range { index, .. } => (Some(*index), 0),
            Part::Whole { .. } => (Some(0), 0),
            Part::Keys(keys) => (None, keys.len()),
        };
        let mut ranges = copy.ranges.iter().enumerate();
        let unread = ranges.any(|(index, range)| match Some(index) == this {
            true => piece.rest.is_some(),
            false => range.rest.is_some(),
        });
        match unread || copy.merge.rereads().len() > asked || copy.merge.is_overflown() {
            true => Behind::Rows,
            false if others => Behind::Tables,
            false => Behind::Nothing,
        }
    }

    /// A reader waits for room, until what this returns is dropped.
    pub fn wants_room(&self) -> WantsRoom {
        self.lock().wanting += 1;
        WantsRoom(self.clone())
    }

    /// Whether one does.
    pub fn is_full(&self) -> bool {
        self.lock().wanting > 0
    }

    /// The last piece of a table is held back: another table may be read meanwhile.
    pub fn hold_back(&self, copy: &str) {
        self.with(copy, |copy| copy.held_back = true);
        self.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
