//! Markers of copied rows, written into their records when they are staged: only then it is known which rows are published. What is said is
//! decided by the board ([`crate::backfill::markers`]); formats without markers are left alone. Fails never: two rows of a
//! piece are looked at, however many it has.

use std::ops::Range;

use super::encode::Encoded;
use super::publish::Publisher;

impl Publisher {
    /// Has the first and the last row of a judged piece say that they are, if they are the first or the last of more than it.
    pub(super) fn mark_rows(&self, encoded: &mut Encoded, publish: &[Range<usize>], copy: &str) {
        if !self.encoder.tells_markers() {
            return;
        }
        let rows = || publish.iter().cloned().flatten().filter(|index| encoded.is_row(*index));
        let (Some(first), Some(last)) = (rows().next(), rows().next_back()) else { return };
        let markers = self.board.mark(copy);
        let told = if first == last {
            [(first, markers.of_one()), (first, None)]
        } else {
            [(first, markers.first), (last, markers.last)]
        };
        for (index, marker) in told {
            if let Some(marker) = marker {
                encoded.mark(index, marker);
            }
        }
    }
}
