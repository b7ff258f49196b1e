//! What the stream can't go on behind: events that aren't supported, changes that the server lost, bytes that can't be read.

use rowcast_core::SourceError;

use super::assembler::Assembler;
use crate::binlog::event::{self, Header, kind};
use crate::binlog::payload::PayloadHead;
use crate::error::GAP_REPAIR;

impl Assembler {
    /// Known by name and not supported, or unknown: an error, unless the server says that it may be ignored.
    pub(super) fn unsupported(&self, event_kind: u8, header: &Header) -> Result<(), SourceError> {
        let (what, repair) = match event_kind {
            kind::MARIA_PARTIAL_ROW_DATA => (
                "a row event in fragments (PARTIAL_ROW_DATA_EVENT of MariaDB 12.3)",
                self.place.set("binlog_row_event_fragment_threshold=1073741824"),
            ),
            kind::INCIDENT => {
                let what = "gap: an incident: the server lost changes before it could log them (LOST_EVENTS)";
                let place = format_args!("binlog {}, event ending at offset {}: {what}", self.file, header.end);
                return Err(self.place.lost(place).repair(format!("look into the server's error log; {GAP_REPAIR}")));
            }
            load if kind::is_load(load) => (
                "LOAD DATA logged as a statement: binlog_format was not ROW in the session that ran it",
                format!("{}; don't set it in sessions", self.place.set("binlog_format=ROW")),
            ),
            _ if header.flags & event::FLAG_IGNORABLE != 0 => return Ok(()),
            unknown => return Err(self.definite(header, format!("unknown event type {unknown}"))),
        };
        Err(self.definite(header, format!("{what}, which is not supported yet")).repair(repair))
    }

    /// A file begins that the server made at its start, and the one before ended inside a transaction: the server crashed while it wrote
    /// that, and has rolled it back. MariaDB leaves its beginning in the file; who asks by GTID again gets the next file.
    pub(super) fn torn(&self, header: &Header) -> Result<(), SourceError> {
        let Some(open) = &self.open else { return Ok(()) };
        Err(self.place.transient(format_args!(
            "binlog {}, event ending at offset {}: the server was restarted while it wrote transaction {}, which it has rolled back; \
             beginning again behind the last commit",
            self.file, header.end, open.transaction.id
        )))
    }

    /// A compressed transaction can't be decompressed. It is never taken for an empty one.
    pub(crate) fn payload_unreadable(&self, what: &str) -> SourceError {
        let of = self.open.as_ref().map(|open| open.transaction.id.as_str()).unwrap_or_default();
        self.place
            .definite(format_args!("binlog {}: the compressed transaction {of} can't be read: {what}", self.file))
            .repair("if the server's own mysqlbinlog can't read it either, its binlog is damaged: set `on_gap: backfill` and remove the \
                     checkpoint, so that all tables are copied again")
    }

    /// Events out of something can't be read.
    pub(crate) fn inner_unreadable(&self, origin: super::inner::Origin, what: &str) -> SourceError {
        use super::inner::Origin;
        match origin {
            Origin::Payload => self.payload_unreadable(what),
            Origin::Unpacked => self.place.definite(format_args!("binlog {}: a compressed event: {what}", self.file)),
            Origin::Kept => self.place.transient(format_args!("a kept transaction can't be read again: {what}")),
        }
    }

    /// A compressed transaction with a body of so many bytes.
    pub(super) fn payload_begins(
        &mut self,
        payload: &PayloadHead,
        body: usize,
        header: &Header,
    ) -> Result<(), SourceError> {
        if self.open.is_none() {
            return Err(self.definite(header, "a compressed transaction outside of any transaction"));
        }
        if body as u64 != payload.length.saturating_add(payload.start as u64) {
            return Err(self.payload_unreadable("its length isn't the event's"));
        }
        Ok(())
    }

    /// A compressed transaction was read to its end.
    pub(crate) fn payload_ended(&self) -> Result<(), SourceError> {
        // its last event is a commit
        match &self.open {
            None => Ok(()),
            Some(_) => Err(self.payload_unreadable("it has no commit")),
        }
    }

    pub(super) fn has_checksums(&self) -> bool {
        self.checksum == Some(true)
    }

    pub(super) fn mismatch(&self, header: &Header) -> SourceError {
        self.place.transient(format_args!(
            "checksum mismatch in event type {} of {} ending at offset {}; reading it again",
            header.kind, self.file, header.end
        ))
    }

    pub(super) fn definite(&self, header: &Header, what: impl std::fmt::Display) -> SourceError {
        let inside =
            self.open.as_ref().map(|open| format!(" in transaction {}", open.transaction.id)).unwrap_or_default();
        self.place.definite(format_args!("binlog {}, event ending at offset {}{inside}: {what}", self.file, header.end))
    }

    pub(super) fn unreadable(&self, header: &Header) -> SourceError {
        self.definite(header, format!("event type {} can't be read: it is damaged or of an unknown form", header.kind))
    }
}
