//! A stream that begins where somebody else stopped: what of its first transaction is published already, and a place behind that transaction's first
//! event.
//!
//! Whoever counts events counts from BEGIN on, and remembers its place in the binlog: that lies behind the event with the GTID, or without one, that
//! each of MySQL's transactions begins with. Such a transaction is known by the place of its BEGIN.
//!
//! Guarantee: only the first transaction of a stream is begun or shortened so; rows that are left out count all the same.

use std::cmp::Ordering;

use rowcast_core::{BinlogMark, BinlogPlace, Handover, LogPosition, Mark, Part, SourceError};

use super::super::draft::Draft;
use super::super::places;
use super::{Assembler, Began, commit_time};
use crate::Flavor;
use crate::binlog::event::{Header, kind};
use crate::binlog::statement::Statement;

/// What of the first transaction is published.
#[derive(Debug, Clone, Copy)]
pub(super) struct LeftOut {
    /// So many events.
    events: u64,
    /// And so many rows of the next one.
    rows: u32,
    /// Texts of statements are counted.
    queries: bool,
}

impl Assembler {
    /// What is left out of the first transaction, if the stream begins where it was handed over.
    pub(crate) fn leaving_out(mut self, handover: Option<&Handover>, resume: Option<&LogPosition>) -> Self {
        if let (Some(Handover { position, part: Some(Part::Events { events, rows, queries }) }), Some(resume)) =
            (handover, resume)
            && is_there(position, resume)
        {
            self.left_out = Some(LeftOut { events: *events, rows: *rows, queries: *queries });
        }
        self
    }

    /// MariaDB must send the texts of statements, since they are counted.
    pub(crate) fn counts_queries(&self) -> bool {
        self.left_out.is_some_and(|it| it.queries)
    }

    /// Whether an event is one of those that are counted.
    pub(super) fn counts(&self, header: &Header) -> bool {
        header.kind != kind::MARIA_ANNOTATE_ROWS || self.left_out.is_none_or(|it| it.queries)
    }

    /// What is left out of the rows' event that was reached: none, the first ones, or all.
    pub(super) fn rows_left_out(&self) -> u32 {
        let Some(LeftOut { events, rows, .. }) = self.left_out.filter(|_| self.transactions == 1) else { return 0 };
        // MySQL's first event isn't counted there, and BEGIN is; MariaDB's first event is the beginning
        let before = match self.place.flavor {
            Flavor::Mysql => self.nth.saturating_sub(1),
            Flavor::MariaDb => self.nth,
        };
        match before.cmp(&events) {
            Ordering::Less => u32::MAX,
            Ordering::Equal => rows,
            Ordering::Greater => 0,
        }
    }

    /// Begins the first transaction by a statement, if the stream begins behind its first event; whether it did.
    pub(super) fn begin_by_statement(
        &mut self,
        statement: &Statement<'_>,
        header: &Header,
        draft: &mut Draft,
    ) -> Result<bool, SourceError> {
        if statement.goes_on() || !self.by_place() || self.transactions > 0 {
            return Ok(false);
        }
        let place = BinlogPlace { byte: self.begins, ..self.place_here() };
        let began = Began { at_once: false, flagged: false };
        let mark = Mark::Binlog(BinlogMark { place: place.clone(), gtid: None });
        self.begin(places::name(&place), mark, commit_time(0, header), began, header, draft)?;
        self.nth = 1;
        Ok(true)
    }
}

/// Whether a position is the one that was handed over, which doesn't say a binlog's server.
fn is_there(handed: &LogPosition, position: &LogPosition) -> bool {
    match (handed, position) {
        (LogPosition::Binlog(handed), LogPosition::Binlog(position)) => {
            handed.place.file == position.place.file && handed.place.byte == position.place.byte
        }
        (handed, position) => handed == position,
    }
}
