//! Streaming by files and offsets, where the server has no GTIDs or had none when the source began.
//!
//! A transaction without a GTID is known by the place of its commit, which its first event gives away: where that begins, and how
//! long the transaction is. One with a GTID keeps that as its name, whichever way the stream is read, so that an `id` never depends
//! on it. Between transactions the position moves with everything that is read: a file that holds nothing more for us may be purged.
//! A file that begins with other than what a position says of it is another log: the stream ends, as a gap.

use std::sync::Arc;

use rowcast_core::{BinlogMark, BinlogPlace, LogPosition, Mark, SourceError};

use super::assembler::{Assembler, Began};
use super::draft::Draft;
use crate::binlog::event::{self, GtidEvent, Header};
use crate::binlog::gtid_set;
use crate::cursor::Short;
use crate::error::{GAP_CHOICES, GAP_REPAIR, Where};

/// A transaction that doesn't say how long it is (written by MySQL before 8.0.2) is known by the place of its beginning.
const UNKNOWN_LENGTH: u64 = 0;

/// The log that a position comes from isn't the one that the server has now.
pub(crate) fn another_log(place: &Where, ours: &BinlogPlace, born: u32) -> SourceError {
    place
        .lost(format_args!(
            "gap: the server's {} is not the one that we read: it was begun at {born} (seconds since 1970), ours at {}; its binary \
             logs were reset, or it was restored from a backup, and what followed {ours} is gone",
            ours.file, ours.born
        ))
        .repair(GAP_REPAIR)
}

/// The name of a transaction that is known by a place: it stands in events as it is.
pub(super) fn name(place: &BinlogPlace) -> String {
    place.to_string().replace(['"', '\\'], "_")
}

impl Assembler {
    /// A stream by GTIDs meets a transaction without one: nobody can say where it would go on behind it.
    pub(super) fn without_gtid(&self, header: &Header) -> SourceError {
        self.place
            .lost(format_args!(
                "gap: a transaction without a GTID in {}, in the event ending at offset {}: gtid_mode was not ON when it was written, and the \
                 position is one of GTIDs",
                self.file, header.end
            ))
            .repair(format!("{}; and {GAP_CHOICES}", self.place.set("gtid_mode=ON")))
    }

    /// Whether the stream is read by files and offsets.
    pub(super) fn by_place(&self) -> bool {
        matches!(self.position, LogPosition::Binlog(_))
    }

    /// How far the log was read.
    pub(super) fn place_here(&self) -> BinlogPlace {
        BinlogPlace { file: Arc::clone(&self.file), born: self.born, byte: self.at.byte }
    }

    /// The position's file was begun at this time: it must be the one that the position means.
    pub(super) fn first_file(&mut self, born: u32) -> Result<(), SourceError> {
        if let LogPosition::Binlog(ours) = &mut self.position {
            if ours.place.born == 0 {
                ours.place.born = born;
            } else if ours.place.born != born {
                return Err(another_log(&self.place, &ours.place, born));
            }
        }
        Ok(())
    }

    /// A file begins, or is read from somewhere within.
    pub(super) fn file_begins(&mut self, header: &Header) -> Result<(), SourceError> {
        self.born = header.timestamp;
        let same = matches!(&self.position, LogPosition::Binlog(ours) if *ours.place.file == *self.file);
        if same { self.first_file(self.born) } else { Ok(()) }
    }

    /// What was executed before this file: from here on the GTIDs of a position are known.
    pub(super) fn previous_gtids(&mut self, body: &[u8], header: &Header) -> Result<(), SourceError> {
        let set = gtid_set::decode(body).map_err(|Short| self.unreadable(header))?;
        if let LogPosition::Binlog(ours) = &mut self.position
            && self.open.is_none()
        {
            ours.gtids = Some(set);
        }
        Ok(())
    }

    /// The first event of a transaction, `length` bytes long, where files and offsets are the positions.
    pub(super) fn begin_placed(
        &mut self,
        found: GtidEvent,
        length: usize,
        header: &Header,
        draft: &mut Draft,
    ) -> Result<(), SourceError> {
        let begins = self.at.byte.saturating_sub(length as u64);
        let ends = match found.length {
            UNKNOWN_LENGTH => begins,
            length => begins.saturating_add(length),
        };
        let place = BinlogPlace { byte: ends, ..self.place_here() };
        let gtid = (header.kind != event::kind::ANONYMOUS_GTID).then_some(found.gtid);
        let text = match &gtid {
            Some(gtid) => gtid.to_string(),
            None => name(&place),
        };
        let commit_us = super::assembler::commit_time(found.commit_us, header);
        let began = Began { at_once: false, flagged: found.statements };
        self.begin(text, Mark::Binlog(BinlogMark { place, gtid }), commit_us, began, header, draft)
    }

    /// The mark of a commit that was just read: its place is known for certain now.
    pub(super) fn committed(&self, mark: &Mark) -> Mark {
        match mark {
            Mark::Binlog(mark) => Mark::Binlog(BinlogMark { place: self.place_here(), gtid: mark.gtid.clone() }),
            mark => mark.clone(),
        }
    }

    /// Nothing before this place is for us: a position that is a place moves here. Only between transactions, and once it is known
    /// which file this is.
    pub(super) fn pass(&mut self) {
        let here = self.place_here();
        if let LogPosition::Binlog(ours) = &mut self.position
            && here.born != 0
            && here.byte > 0
            && (here.offset() > ours.place.offset())
        {
            ours.place = here;
        }
    }
}

#[cfg(test)]
mod tests;
