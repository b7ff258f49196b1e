//! Pieces that are held back for formats that tell which row is the last: whether one is the last of its table, or of all, is known only
//! when there are others behind it, or none left.
//!
//! ```text
//! waiting ─► ready ─► held, one per table ─► judged: the table's next piece with rows is ready, or nothing of the table is left
//!                                            (a table's last piece: another table's rows are there, or none is left)
//! ```
//!
//! Guarantees: what is held isn't judged, so that no checkpoint counts it, and a run that ends forgets it as it does with any piece that waits;
//! a table's pieces are judged in their order. Nothing is held for longer than [`LONGEST`] ([`LAST`] for a table's last piece), nor while a reader
//! has no room. Fails never; what can't wait is judged without knowing what comes behind it.

use std::time::{Duration, Instant};

use super::copies::Copies;
use crate::backfill::board::{Board, Part, PieceOf};
use crate::backfill::coordinator::ReadPiece;
use crate::backfill::markers::Behind;

/// How long a piece is held for the next one of its table.
const LONGEST: Duration = Duration::from_secs(1);
/// How long a table's last piece is held for the rows of other tables: those behind it may be empty, each of which is looked up.
const LAST: Duration = Duration::from_secs(5);

/// A piece that is held back.
pub(super) struct HeldBack {
    piece: ReadPiece,
    since: Instant,
    /// The board was told that other tables may be read.
    told: bool,
}

impl HeldBack {
    /// Whether it is to be judged now. `alone`: no other table has rows at hand.
    fn is_due(&mut self, board: &Board, alone: bool) -> bool {
        let held = self.since.elapsed();
        match board.behind(&self.piece.of) {
            Behind::Rows => held >= LONGEST,
            Behind::Tables if alone => {
                if !std::mem::replace(&mut self.told, true) {
                    board.hold_back(&self.piece.of.copy);
                }
                held >= LAST
            }
            Behind::Tables | Behind::Nothing => true,
        }
    }
}

impl Copies {
    /// The piece that is to be judged now. `holds`: what is the last one is to be known.
    pub(super) fn next(&mut self, board: &Board, holds: bool) -> Option<ReadPiece> {
        while self.is_ready() {
            let piece = self.waiting.pop_front()?;
            if !holds {
                return Some(piece);
            }
            match self.held.iter().position(|held| held.piece.of.copy == piece.of.copy) {
                // without rows it says only what is left of its range, which may be that of the piece before
                before if piece.of.rows == 0 => match before.and_then(|at| self.held.get_mut(at)) {
                    Some(held) if is_same_range(&held.piece.of, &piece.of) => held.piece.of.rest = piece.of.rest,
                    _ => return Some(piece),
                },
                Some(before) => {
                    self.waiting.push_front(piece);
                    return Some(self.held.remove(before).piece);
                }
                None => self.held.push(HeldBack { piece, since: Instant::now(), told: false }),
            }
        }
        let (alone, full) = (self.held.len() == 1, board.is_full());
        let due = self.held.iter_mut().position(|held| full || held.is_due(board, alone))?;
        Some(self.held.remove(due).piece)
    }
}

fn is_same_range(one: &PieceOf, other: &PieceOf) -> bool {
    match (&one.part, &other.part) {
        (Part::Range { index, epoch }, Part::Range { index: other, epoch: of }) => (index, epoch) == (other, of),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
