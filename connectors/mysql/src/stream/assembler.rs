//! From events to transactions: the state of the stream, without I/O.
//!
//! ```text
//! GTID ─► Begin ─► TABLE_MAP, rows ... ─► Change ... ─► XID | COMMIT | DDL ─► Commit
//! ```
//!
//! Statements are in `assembler/statements.rs`, rows in `assembler/rows.rs`; what has to wait for its transaction's end in `keep.rs`.
//!
//! Guarantees: a transaction is closed before the next one begins, else the stream ends with an error; rows are counted
//! over all tables, captured or not; every event is either understood, known to be of no matter, marked by the server
//! as ignorable, or an error that names it. Row bytes are never copied: a change is two offsets into the caller's data.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rowcast_core::{
    Event, LogPosition, Mark, Offset, Place, SourceError, Table, TableFilter, TableName, Transaction, TransactionFacts,
};

use super::draft::Draft;
use super::inner::{Inner, Origin};
use super::keep::{Doubt, Keep, Registry};
use super::passing::Passing;
use super::spill::Room;
use crate::binlog::event::{self, FormatDescription, GtidEvent, Header, MariaGtidEvent, kind};
use crate::binlog::payload::PayloadHead;
use crate::catalog::versions::{Found, Versions};
use crate::cursor::Short;
use crate::error::Where;
pub(crate) use rows::RowsCursor;

/// Events in one batch; a row event with more rows is spread over several.
pub(crate) const BATCH_EVENTS: usize = 4 * 1024;
/// Bytes of a statement's text that are told.
const MOST_STATEMENT: usize = 64 << 10;

/// What an event asks for.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is dealt with.
    Done,
    /// The batch is full; the event has more rows.
    More(RowsCursor),
    /// The catalog's word on this table; then the same event again.
    Need(TableName),
    /// These events come next.
    Inner(Box<Inner>),
    /// The events in this payload come next; where it begins in the data.
    Payload(PayloadHead, usize),
    /// It is one of MariaDB's compressed events, and to be unpacked; then again what comes of it.
    Unpack,
}

/// The transaction in progress.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) transaction: Arc<Transaction>,
    /// BEGIN was seen (or is implied): statements don't end it, only COMMIT does.
    pub(super) began: bool,
    /// Rows so far, of all tables.
    pub(super) rows: u64,
    /// Rows of captured tables are among them.
    pub(super) captured: bool,
    /// It may hold what is rolled back within it, so that it is kept until its end.
    pub(super) may_roll_back: bool,
    /// What it prepares or ends counts; not if the stream passes over it and it lies behind what is asked for.
    pub(super) wanted: bool,
    /// The server says itself that it may hold what is rolled back.
    pub(super) flagged: bool,
}

/// How a transaction begins.
pub(super) struct Began {
    /// Without a BEGIN.
    pub(super) at_once: bool,
    /// It may hold what is rolled back, by the server's own word.
    pub(super) flagged: bool,
}

/// The stream's state.
#[derive(Debug)]
pub(crate) struct Assembler {
    pub(super) place: Where,
    pub(super) filter: TableFilter,
    /// Everything that was committed in this stream, and what it began with.
    pub(super) position: LogPosition,
    /// The server compares names without case.
    pub(super) fold_case: bool,
    pub(super) file: Arc<str>,
    /// When the server began this file; 0 until it has said so.
    pub(super) born: u32,
    /// How far the server's log was read.
    pub(super) at: Offset,
    /// Where the event begins that ends there.
    begins: u64,
    /// Rows come out of one event that begins here, so many so far: a compressed transaction, or the commit of an XA transaction.
    pub(super) out_of: Option<(u64, u32)>,
    /// The events behind the first one of the transaction in progress, up to the one that was reached.
    nth: u64,
    /// Of the first transaction, what somebody else has published.
    left_out: Option<handed::LeftOut>,
    /// Transactions tell their connection, and columns are described.
    pub(super) describe: bool,
    /// Statements that change no rows are told.
    pub(super) tells_ddl: bool,
    /// What the last heartbeat that was handed out said.
    told: Offset,
    /// Whether events have checksums; none before the first format description.
    pub(super) checksum: Option<bool>,
    pub(super) open: Option<Open>,
    transactions: u64,
    known: HashMap<u64, rows::Known>,
    /// Newest version by name, for TRUNCATE.
    pub(super) newest: HashMap<TableName, Arc<Table>>,
    pub(super) answer: Option<(TableName, Option<Found>)>,
    /// The catalog's word on tables of the statement that is to be told.
    pub(super) asked: Vec<(TableName, Option<Found>)>,
    /// It is such a table that is asked for.
    pub(super) asks_of_statement: bool,
    pub(super) versions: Versions,
    pub(super) room: Room,
    /// The transaction in progress is kept until its end.
    pub(super) keep: Option<Keep>,
    /// What was kept is being replayed; the event that ended its transaction.
    pub(super) ending: Option<Header>,
    /// XA transactions that wait for their second phase.
    pub(super) prepared: Registry,
    /// Only what is prepared is looked for, and nothing is given out.
    pub(super) passing: Option<Passing>,
    pub(super) doubt: Doubt,
    /// Texts of statements are told.
    pub(super) statements: bool,
    /// The text of the statement whose rows come.
    statement: Option<Bytes>,
    /// Its last row event was met.
    statement_over: bool,
    /// What was told last.
    pub(super) told_statement: Option<Bytes>,
    pub(super) charsets: HashMap<u32, String>,
    /// When changes of other tables that aren't in the log were warned about.
    pub(super) told_unlogged: Option<Instant>,
}

/// How far the log was read behind an event that ends at `end`: offsets in events have 32 bits, files may be larger. Events
/// that the server makes up have none.
fn reached(at: Offset, end: u32) -> Offset {
    if end == 0 {
        return at;
    }
    let byte = (at.byte & !0xffff_ffff) | u64::from(end);
    // an offset that went back by half of its range has wrapped
    let wrapped = byte + (1 << 31) < at.byte;
    Offset { byte: (byte + if wrapped { 1 << 32 } else { 0 }).max(at.byte), ..at }
}

/// When a transaction was committed, in microseconds: as its first event says, else to the second.
pub(super) fn commit_time(micros: u64, header: &Header) -> i64 {
    match i64::try_from(micros) {
        Ok(micros) if micros > 0 => micros,
        _ => i64::from(header.timestamp) * 1_000_000,
    }
}

impl Assembler {
    pub(crate) fn new(
        place: Where,
        filter: TableFilter,
        position: LogPosition,
        fold_case: bool,
        room: Room,
        statements: bool,
    ) -> Self {
        Self {
            place,
            filter,
            position,
            fold_case,
            file: Arc::from(""),
            born: 0,
            at: Offset::default(),
            begins: 0,
            out_of: None,
            nth: 0,
            left_out: None,
            describe: false,
            tells_ddl: false,
            told: Offset::default(),
            checksum: None,
            open: None,
            transactions: 0,
            known: HashMap::new(),
            newest: HashMap::new(),
            answer: None,
            asked: Vec::new(),
            asks_of_statement: false,
            versions: Versions::default(),
            room,
            keep: None,
            ending: None,
            prepared: Registry::default(),
            passing: None,
            doubt: Doubt::default(),
            statements,
            statement: None,
            statement_over: false,
            told_statement: None,
            charsets: HashMap::new(),
            told_unlogged: None,
        }
    }

    /// Tells more of transactions, and of statements that change no rows.
    pub(crate) fn telling(mut self, describe: bool, ddl: bool) -> Self {
        (self.describe, self.tells_ddl) = (describe, ddl);
        self
    }

    /// What was prepared before the stream begins.
    pub(crate) fn with_prepared(mut self, prepared: Registry) -> Self {
        self.prepared = prepared;
        self
    }

    /// What is made of transactions that may be rolled back although the server doesn't say so.
    pub(crate) fn doubting(mut self, doubt: Doubt) -> Self {
        self.doubt = doubt;
        self
    }

    /// Only looks for what is prepared.
    pub(crate) fn passing(mut self, passing: Passing) -> Self {
        self.passing = Some(passing);
        self
    }

    /// What was found, once everything was looked at.
    pub(crate) fn passed(&mut self) -> Option<Registry> {
        let passing = self.passing.as_ref()?;
        (self.open.is_none() && passing.is_over(self.at)).then(|| std::mem::take(&mut self.prepared))
    }

    /// A batch that begins here.
    pub(crate) fn draft(&self) -> Draft {
        Draft::new(self.open().filter(|_| self.passing.is_none()), self.told_statement.clone())
    }

    /// Collations by id, from the server.
    pub(crate) fn set_charsets(&mut self, charsets: HashMap<u32, String>) {
        self.charsets = charsets;
    }

    /// What is known of the tables' columns from the start.
    pub(crate) fn set_versions(&mut self, versions: Versions) {
        self.versions = versions;
    }

    /// Whether [`Outcome::Need`] is about the table of a statement that changes it.
    pub(crate) fn asks_of_statement(&self) -> bool {
        self.asks_of_statement
    }

    /// The answer to [`Outcome::Need`].
    pub(crate) fn answer(&mut self, name: TableName, found: Option<Found>) {
        self.asks_of_statement = false;
        self.answer = Some((name, found));
    }

    /// The transaction in progress, for a batch that begins here.
    pub(crate) fn open(&self) -> Option<Arc<Transaction>> {
        self.open.as_ref().map(|open| Arc::clone(&open.transaction))
    }

    /// Everything up to the last commit.
    pub(crate) fn position(&self) -> &LogPosition {
        &self.position
    }

    /// Deals with the event at `data[start..end]`.
    pub(crate) fn event(
        &mut self,
        data: &[u8],
        start: usize,
        end: usize,
        draft: &mut Draft,
    ) -> Result<Outcome, SourceError> {
        let bytes = data.get(start..end).unwrap_or(&[]);
        let header = Header::parse(bytes)
            .map_err(|Short| self.place.protocol(format_args!("a binlog event of {} bytes", bytes.len())))?;
        let first =
            matches!(header.kind, kind::ROTATE | kind::FORMAT_DESCRIPTION | kind::HEARTBEAT | kind::HEARTBEAT_V2);
        if self.checksum.is_none() && !first {
            // nothing says how it is to be checked
            return Err(self
                .place
                .protocol(format_args!("event type {} before the binlog's description", header.kind)));
        }
        let body = self.body(bytes, &header)?;
        if header.kind != kind::ROTATE {
            self.reach(&header);
        }
        if header.kind == kind::FORMAT_DESCRIPTION {
            return self.format(bytes, &header).map(|()| Outcome::Done);
        }
        self.known_event(data, (start, start + event::HEADER + body.len()), &header, draft)
    }

    /// A format description, its checksum still behind it.
    fn format(&mut self, bytes: &[u8], header: &Header) -> Result<(), SourceError> {
        let format = FormatDescription::parse(bytes.get(event::HEADER..).unwrap_or(&[]));
        let format = format.map_err(|Short| self.unreadable(header))?;
        self.checksum = Some(format.checksum);
        self.file_begins(header)?;
        // A restarted server gives out its table ids anew.
        if format.created != 0 {
            self.known.clear();
            self.torn(header)?;
        }
        Ok(())
    }

    /// Deals with the event at `data[start..end]`, which has no checksum.
    pub(crate) fn inner_event(
        &mut self,
        data: &[u8],
        (start, end): (usize, usize),
        origin: Origin,
        draft: &mut Draft,
    ) -> Result<Outcome, SourceError> {
        let bytes = data.get(start..end).unwrap_or(&[]);
        let header = Header::parse(bytes)
            .map_err(|Short| self.place.protocol(format_args!("an enclosed event of {} bytes", bytes.len())))?;
        if origin == Origin::Unpacked {
            self.reach(&header);
        }
        self.known_event(data, (start, end), &header, draft)
    }

    /// An event ends here. One that comes again has begun where it did.
    fn reach(&mut self, header: &Header) {
        let end = reached(self.at, header.end);
        if end != self.at {
            self.begins = self.at.byte;
            self.nth += u64::from(self.counts(header));
        }
        self.at = end;
    }

    /// Where the event begins that rows of `length` bytes without checksum are in.
    pub(super) fn row_event(&self, header: &Header, length: usize) -> Place {
        let (at, row) = match self.out_of {
            Some(known) => known,
            // what was kept comes later than it was read; its header says where it ended
            None if self.ending.is_some() => {
                let length = length + if self.has_checksums() { event::CHECKSUM } else { 0 };
                let end = (self.at.byte & !0xffff_ffff) | u64::from(header.end);
                let end = if end > self.at.byte { end.saturating_sub(1 << 32) } else { end };
                (end.saturating_sub(length as u64), 0)
            }
            None => (self.begins, 0),
        };
        Place { at, row, seconds: header.timestamp }
    }

    /// Deals with an event whose checksum was looked at and doesn't count to it.
    fn known_event(
        &mut self,
        data: &[u8],
        (start, end): (usize, usize),
        header: &Header,
        draft: &mut Draft,
    ) -> Result<Outcome, SourceError> {
        let header = *header;
        let body_start = start + event::HEADER;
        let (head, body) =
            data.get(start..end).and_then(|bytes| bytes.split_at_checked(event::HEADER)).unwrap_or_default();
        if kind::is_of_rows(header.kind) {
            if self.keep.is_some() {
                if !self.statements && event::statement_text(header.kind, body).is_some() {
                    return Ok(Outcome::Done);
                }
                let captured = self.is_captured(&header, body);
                return self.keep_event(head, body, &header, captured).map(|()| Outcome::Done);
            }
            if self.passing.is_some() {
                return Ok(Outcome::Done);
            }
        }
        let damaged = |Short| self.unreadable(&header);
        match header.kind {
            kind::ROTATE => {
                let (file, byte) = event::rotate(body).map_err(|Short| self.unreadable(&header))?;
                self.at = Offset { file: event::file_number(&file), byte };
                if *self.file != *file {
                    self.born = 0;
                    self.file = file.into();
                }
                self.heartbeat(draft);
            }
            kind::GTID | kind::ANONYMOUS_GTID if self.by_place() => {
                let found = GtidEvent::parse(body).map_err(damaged)?;
                self.begin_placed(found, event::length(head), &header, draft)?;
            }
            kind::GTID_TAGGED if self.by_place() => {
                let found = GtidEvent::parse_tagged(body).map_err(damaged)?;
                self.begin_placed(found, event::length(head), &header, draft)?;
            }
            kind::PREVIOUS_GTIDS if self.by_place() => {
                self.previous_gtids(body, &header)?;
                self.heartbeat(draft);
            }
            kind::GTID => self.begin_mysql(GtidEvent::parse(body).map_err(damaged)?, &header, draft)?,
            kind::GTID_TAGGED => self.begin_mysql(GtidEvent::parse_tagged(body).map_err(damaged)?, &header, draft)?,
            kind::MARIA_GTID => {
                let gtid = MariaGtidEvent::parse(body, header.server_id).map_err(damaged)?;
                let text = gtid.gtid.to_string();
                let commit_us = i64::from(header.timestamp) * 1_000_000;
                let flagged = !gtid.standalone && !gtid.transactional;
                let may_roll_back = !gtid.standalone && (flagged || self.doubt.all);
                let began = Began { at_once: !gtid.standalone, flagged };
                self.begin(text, Mark::MariaDb(gtid.gtid), commit_us, began, &header, draft)?;
                if gtid.prepared || (may_roll_back && self.passing.is_none()) {
                    self.keeps();
                }
            }
            kind::ANONYMOUS_GTID => return Err(self.without_gtid(&header)),
            kind::QUERY => return self.query((head, body), &header, draft),
            kind::XID => return self.end(&header, draft),
            kind::XA_PREPARE => return self.xa_prepare(body, &header, draft),
            kind::TABLE_MAP => return self.table_map(body, &header, draft),
            kind::WRITE_ROWS
            | kind::UPDATE_ROWS
            | kind::DELETE_ROWS
            | kind::WRITE_ROWS_V1
            | kind::UPDATE_ROWS_V1
            | kind::DELETE_ROWS_V1
            | kind::PARTIAL_UPDATE_ROWS => {
                return match self.rows_event(body, body_start, &header)? {
                    Some(cursor) => {
                        self.rows(data, cursor, draft).map(|more| more.map_or(Outcome::Done, Outcome::More))
                    }
                    None => Ok(Outcome::Done),
                };
            }
            kind::TRANSACTION_PAYLOAD => {
                let payload = PayloadHead::parse(body).map_err(|what| self.payload_unreadable(&what))?;
                self.payload_begins(&payload, body.len(), &header)?;
                self.out_of = Some((self.begins, 0));
                let start = body_start + payload.start;
                return Ok(Outcome::Payload(payload, start));
            }
            compressed if kind::is_compressed(compressed) => return Ok(Outcome::Unpack),
            kind::HEARTBEAT | kind::HEARTBEAT_V2 => {
                self.told = Offset::default();
                self.heartbeat(draft);
            }
            kind::ROWS_QUERY | kind::MARIA_ANNOTATE_ROWS => {
                self.statement_is(event::statement_text(header.kind, body));
                self.heartbeat(draft);
            }
            // Of no matter: ends of files, what a statement would need to be run again (a statement that changes rows
            // is an error by itself), lists of GTIDs, group replication's notes.
            kind::STOP
            | kind::INTVAR
            | kind::RAND
            | kind::USER_VAR
            | kind::IGNORABLE
            | kind::PREVIOUS_GTIDS
            | kind::TRANSACTION_CONTEXT
            | kind::VIEW_CHANGE
            | kind::MARIA_CHECKPOINT
            | kind::MARIA_GTID_LIST
            | kind::MARIA_START_ENCRYPTION => self.heartbeat(draft),
            _ if self.passing.is_some() => {}
            other => return self.unsupported(other, &header).map(|()| Outcome::Done),
        }
        Ok(Outcome::Done)
    }

    /// The body without its checksum, which is checked.
    pub(crate) fn body<'a>(&self, bytes: &'a [u8], header: &Header) -> Result<&'a [u8], SourceError> {
        let end = bytes.len().saturating_sub(event::CHECKSUM);
        let artificial = header.flags & event::FLAG_ARTIFICIAL != 0;
        let sums = match self.checksum {
            // The format description says itself whether it has one.
            _ if header.kind == kind::FORMAT_DESCRIPTION => {
                FormatDescription::parse(bytes.get(event::HEADER..).unwrap_or(&[])).is_ok_and(|format| format.checksum)
            }
            // What the server makes up between files has a checksum or not, whatever the file has.
            None => event::checksum_holds(bytes),
            Some(sums) if artificial && header.kind == kind::ROTATE => sums || event::checksum_holds(bytes),
            Some(sums) => sums,
        };
        if sums && !event::checksum_holds(bytes) {
            return Err(self.mismatch(header));
        }
        Ok(bytes.get(event::HEADER..if sums { end } else { bytes.len() }).unwrap_or(&[]))
    }

    fn begin_mysql(&mut self, found: GtidEvent, header: &Header, draft: &mut Draft) -> Result<(), SourceError> {
        let commit_us = commit_time(found.commit_us, header);
        let began = Began { at_once: false, flagged: found.statements };
        self.begin(found.gtid.to_string(), Mark::Gtid(found.gtid), commit_us, began, header, draft)
    }

    pub(super) fn begin(
        &mut self,
        text: String,
        mark: Mark,
        commit_us: i64,
        began: Began,
        header: &Header,
        draft: &mut Draft,
    ) -> Result<(), SourceError> {
        if let Some(open) = &self.open {
            let what = format!("transaction {text} begins before {} has ended", open.transaction.id);
            return Err(self.definite(header, what));
        }
        let wanted = self.passing.as_ref().is_none_or(|passing| passing.reaches(&mark));
        let facts = TransactionFacts {
            file: Some(Arc::clone(&self.file)),
            server_id: header.server_id,
            // where its BEGIN stands
            begins: if header.kind == kind::QUERY { self.begins } else { self.at.byte },
            ..TransactionFacts::default()
        };
        let transaction = Arc::new(Transaction { id: text.clone(), xid: None, pos: text, mark, commit_us, facts });
        if self.passing.is_none() {
            draft.begins(&transaction);
        }
        self.transactions += 1;
        self.nth = 0;
        self.statement = None;
        self.told_statement = None;
        let Began { at_once: began, flagged } = began;
        let may_roll_back = flagged || self.doubt.all;
        self.open = Some(Open { transaction, began, rows: 0, captured: false, may_roll_back, wanted, flagged });
        Ok(())
    }

    fn commit(&mut self, header: &Header, draft: &mut Draft) -> Result<(), SourceError> {
        let Some(open) = self.open.take() else {
            return Err(self.definite(header, "the end of a transaction that never began"));
        };
        self.keep = None;
        self.out_of = None;
        if self.passing.is_some() {
            return Ok(());
        }
        let mark = self.committed(&open.transaction.mark);
        self.position.advance(&mark).map_err(|error| self.definite(header, error.to_string()))?;
        self.told = self.at;
        draft.events.push(Event::Commit(mark, self.at));
        self.versions_reached(draft);
        Ok(())
    }

    /// The connection that the transaction in progress is of. Rows of it come later.
    pub(super) fn thread_is(&mut self, thread: u32, draft: &mut Draft) {
        if let Some(open) = self.open.as_mut().filter(|_| self.describe) {
            let mut told = Transaction::clone(&open.transaction);
            told.facts.thread = Some(thread);
            open.transaction = Arc::new(told);
            draft.begun_as(&open.transaction);
        }
    }

    /// Between transactions, what was read without an event for us is told all the same: somebody may wait for this point.
    fn heartbeat(&mut self, draft: &mut Draft) {
        if self.open.is_none() && self.passing.is_none() && self.told != self.at {
            self.told = self.at;
            self.pass();
            draft.events.push(Event::Heartbeat(self.position.clone(), self.at));
            self.versions_reached(draft);
        }
    }

    /// The statement whose rows follow says its text.
    fn statement_is(&mut self, text: Option<&[u8]>) {
        self.statement_over = false;
        self.statement = text.filter(|_| self.statements).map(|text| {
            let mut end = text.len().min(MOST_STATEMENT);
            // not within a character
            while end < text.len() && end > 0 && text.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) {
                end -= 1;
            }
            Bytes::copy_from_slice(text.get(..end).unwrap_or(text))
        });
    }
}

mod handed;
mod rows;
mod statements;
#[cfg(test)]
pub(super) mod tests;
