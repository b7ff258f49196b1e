//! From events to transactions: the state of the stream, without I/O.
//!
//! ```text
//! GTID ─► Begin ─► TABLE_MAP, rows ... ─► Change ... ─► XID | COMMIT | DDL ─► Commit
//! ```
//!
//! Guarantees: a transaction is closed before the next one begins, else the stream ends with an error; rows are counted
//! over all tables, captured or not; every event is either understood, known to be of no matter, marked by the server
//! as ignorable, or an error that names it. Row bytes are never copied: a change is two offsets into the caller's data.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rowcast_core::{
    Change, Event, Image, LogPosition, Mark, Offset, Op, SourceError, Span, Table, TableFilter, TableName, Transaction,
};

use super::draft::Draft;
use crate::Flavor;
use crate::binlog::event::{self, FormatDescription, GtidEvent, Header, MariaGtidEvent, Query, kind};
use crate::binlog::rows_event::{Present, RowsHead, Walker, table_id, width};
use crate::binlog::statement::{Statement, classify};
use crate::binlog::table_map::{Optional, TableMap};
use crate::catalog::{checks, columns, tables::CatalogTable};
use crate::cursor::Short;
use crate::error::Where;

/// Events in one batch; a row event with more rows is spread over several.
pub(crate) const BATCH_EVENTS: usize = 16 * 1024;
/// Table maps that are remembered.
const MAX_KNOWN: usize = 8192;
/// Prepared XA transactions that are remembered.
const MAX_PREPARED: usize = 4096;
/// "Table id" of a row event that only ends a statement.
const NO_TABLE: u64 = 0x00ff_ffff;

/// What an event asks for.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is dealt with.
    Done,
    /// The batch is full; the event has more rows.
    More(RowsCursor),
    /// The catalog's word on this table; then the same event again.
    Need(TableName),
}

/// Where to go on in a row event. Offsets are into the data.
#[derive(Debug)]
pub(crate) struct RowsCursor {
    table_id: u64,
    op: Op,
    next: usize,
    end: usize,
    present: Present,
    present_at: u32,
    present_after: Present,
    present_after_at: u32,
    place: u32,
}

/// The transaction in progress.
#[derive(Debug)]
struct Open {
    transaction: Arc<Transaction>,
    /// BEGIN was seen (or is implied): statements don't end it, only COMMIT does.
    began: bool,
    /// Rows so far, of all tables.
    rows: u64,
    /// Rows of captured tables are among them.
    captured: bool,
}

/// A table map that was met.
#[derive(Debug)]
struct Known {
    body: Box<[u8]>,
    walker: Walker,
    /// None if the table isn't captured.
    table: Option<Arc<Table>>,
    /// The transaction that it was last announced in.
    announced: u64,
}

/// The stream's state.
#[derive(Debug)]
pub(crate) struct Assembler {
    place: Where,
    filter: TableFilter,
    /// Everything that was committed in this stream, and what it began with.
    position: LogPosition,
    /// The server compares names without case.
    fold_case: bool,
    file: String,
    /// How far the server's log was read.
    at: Offset,
    /// What the last heartbeat that was handed out said.
    told: Offset,
    /// Whether events have checksums; none before the first format description.
    checksum: Option<bool>,
    open: Option<Open>,
    transactions: u64,
    known: HashMap<u64, Known>,
    /// Newest version by name, for TRUNCATE.
    newest: HashMap<TableName, Arc<Table>>,
    answer: Option<(TableName, Option<CatalogTable>)>,
    /// XA transactions without rows of captured tables that wait for their second phase.
    prepared: HashSet<String>,
    charsets: HashMap<u32, String>,
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

impl Assembler {
    pub(crate) fn new(place: Where, filter: TableFilter, position: LogPosition, fold_case: bool) -> Self {
        Self {
            place,
            filter,
            position,
            fold_case,
            file: String::new(),
            at: Offset::default(),
            told: Offset::default(),
            checksum: None,
            open: None,
            transactions: 0,
            known: HashMap::new(),
            newest: HashMap::new(),
            answer: None,
            prepared: HashSet::new(),
            charsets: HashMap::new(),
        }
    }

    /// Collations by id, from the server.
    pub(crate) fn set_charsets(&mut self, charsets: HashMap<u32, String>) {
        self.charsets = charsets;
    }

    /// The answer to [`Outcome::Need`].
    pub(crate) fn answer(&mut self, name: TableName, found: Option<CatalogTable>) {
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
        let body = self.body(bytes, &header)?;
        let body_start = start + event::HEADER;
        if header.kind != kind::ROTATE {
            self.at = reached(self.at, header.end);
        }
        let damaged = |Short| self.unreadable(&header);
        match header.kind {
            kind::FORMAT_DESCRIPTION => {
                let format = FormatDescription::parse(bytes.get(event::HEADER..).unwrap_or(&[])).map_err(damaged)?;
                self.checksum = Some(format.checksum);
                // A restarted server gives out its table ids anew.
                if format.created != 0 {
                    self.known.clear();
                }
            }
            kind::ROTATE => {
                let (file, byte) = event::rotate(body).map_err(|Short| self.unreadable(&header))?;
                self.at = Offset { file: event::file_number(&file), byte };
                self.file = file;
                self.heartbeat(draft);
            }
            kind::GTID => self.begin_mysql(GtidEvent::parse(body).map_err(damaged)?, &header, draft)?,
            kind::GTID_TAGGED => self.begin_mysql(GtidEvent::parse_tagged(body).map_err(damaged)?, &header, draft)?,
            kind::MARIA_GTID => {
                let gtid = MariaGtidEvent::parse(body, header.server_id).map_err(damaged)?;
                let text = gtid.gtid.to_string();
                let commit_us = i64::from(header.timestamp) * 1_000_000;
                self.begin(text, Mark::MariaDb(gtid.gtid), commit_us, !gtid.standalone, &header, draft)?;
            }
            kind::ANONYMOUS_GTID => {
                return Err(self
                    .definite(&header, "a transaction without GTID: gtid_mode is or was not ON")
                    .repair(self.place.set("gtid_mode=ON")));
            }
            kind::QUERY => return self.query(&Query::parse(body).map_err(damaged)?, &header, draft),
            kind::XID => self.commit(&header, draft)?,
            kind::XA_PREPARE => {
                let (one_phase, name) = event::xa_prepare(body).map_err(damaged)?;
                if !one_phase && self.open.as_ref().is_some_and(|open| open.captured) {
                    return Err(self
                        .definite(
                            &header,
                            "XA PREPARE of a transaction that changed captured tables; XA transactions \
                                            are not supported yet",
                        )
                        .repair("exclude the tables, or don't use XA transactions on them"));
                }
                if !one_phase && self.prepared.len() < MAX_PREPARED {
                    self.prepared.insert(name);
                }
                self.commit(&header, draft)?;
            }
            kind::TABLE_MAP => return self.table_map(body, &header),
            kind::WRITE_ROWS
            | kind::UPDATE_ROWS
            | kind::DELETE_ROWS
            | kind::WRITE_ROWS_V1
            | kind::UPDATE_ROWS_V1
            | kind::DELETE_ROWS_V1 => {
                return match self.rows_event(body, body_start, &header)? {
                    Some(cursor) => {
                        self.rows(data, cursor, draft).map(|more| more.map_or(Outcome::Done, Outcome::More))
                    }
                    None => Ok(Outcome::Done),
                };
            }
            kind::HEARTBEAT | kind::HEARTBEAT_V2 => {
                self.told = Offset::default();
                self.heartbeat(draft);
            }
            // Of no matter: ends of files, what a statement would need to be run again (a statement that changes rows
            // is an error by itself), lists of GTIDs, group replication's notes, statements' texts.
            kind::STOP
            | kind::INTVAR
            | kind::RAND
            | kind::USER_VAR
            | kind::IGNORABLE
            | kind::ROWS_QUERY
            | kind::PREVIOUS_GTIDS
            | kind::TRANSACTION_CONTEXT
            | kind::VIEW_CHANGE
            | kind::MARIA_ANNOTATE_ROWS
            | kind::MARIA_CHECKPOINT
            | kind::MARIA_GTID_LIST
            | kind::MARIA_START_ENCRYPTION => self.heartbeat(draft),
            other => return self.unsupported(other, &header).map(|()| Outcome::Done),
        }
        Ok(Outcome::Done)
    }

    /// The body without its checksum, which is checked.
    fn body<'a>(&self, bytes: &'a [u8], header: &Header) -> Result<&'a [u8], SourceError> {
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
            return Err(self.place.transient(format_args!(
                "checksum mismatch in event type {} of {} ending at offset {}; reading it again",
                header.kind, self.file, header.end
            )));
        }
        Ok(bytes.get(event::HEADER..if sums { end } else { bytes.len() }).unwrap_or(&[]))
    }

    fn begin_mysql(&mut self, found: GtidEvent, header: &Header, draft: &mut Draft) -> Result<(), SourceError> {
        let commit_us = match i64::try_from(found.commit_us) {
            Ok(micros) if micros > 0 => micros,
            _ => i64::from(header.timestamp) * 1_000_000,
        };
        self.begin(found.gtid.to_string(), Mark::Gtid(found.gtid), commit_us, false, header, draft)
    }

    fn begin(
        &mut self,
        text: String,
        mark: Mark,
        commit_us: i64,
        began: bool,
        header: &Header,
        draft: &mut Draft,
    ) -> Result<(), SourceError> {
        if let Some(open) = &self.open {
            let what = format!("transaction {text} begins before {} has ended", open.transaction.id);
            return Err(self.definite(header, what));
        }
        let transaction = Arc::new(Transaction { id: text.clone(), xid: None, pos: text, mark, commit_us });
        draft.events.push(Event::Begin(Arc::clone(&transaction)));
        self.transactions += 1;
        self.open = Some(Open { transaction, began, rows: 0, captured: false });
        Ok(())
    }

    fn commit(&mut self, header: &Header, draft: &mut Draft) -> Result<(), SourceError> {
        let Some(open) = self.open.take() else {
            return Err(self.definite(header, "the end of a transaction that never began"));
        };
        let mark = open.transaction.mark.clone();
        self.position.advance(&mark).map_err(|error| self.definite(header, error.to_string()))?;
        self.told = self.at;
        draft.events.push(Event::Commit(mark, self.at));
        Ok(())
    }

    /// Between transactions, what was read without an event for us is told all the same: somebody may wait for this point.
    fn heartbeat(&mut self, draft: &mut Draft) {
        if self.open.is_none() && self.told != self.at {
            self.told = self.at;
            draft.events.push(Event::Heartbeat(self.position.clone(), self.at));
        }
    }

    fn query(&mut self, query: &Query<'_>, header: &Header, draft: &mut Draft) -> Result<Outcome, SourceError> {
        let statement = classify(query.sql);
        let Some(open) = &mut self.open else {
            return Err(self.definite(header, "a statement outside of any transaction"));
        };
        let captured = open.captured;
        match statement {
            Statement::Begin | Statement::XaWithin => open.began = true,
            Statement::Savepoint => {}
            Statement::Commit => self.commit(header, draft)?,
            Statement::Rollback | Statement::RollbackTo if captured => {
                return Err(self.definite(
                    header,
                    "a ROLLBACK in the binlog behind row changes of captured tables (a statement mixed transactional \
                     and other tables); taking changes back is not supported",
                ));
            }
            Statement::RollbackTo => {}
            Statement::Rollback | Statement::XaRollback => self.commit(header, draft)?,
            // Prepared in this stream without a row of a captured table, else the stream had ended there.
            Statement::XaCommit(name) if self.prepared.remove(&*String::from_utf8_lossy(name)) => {
                self.commit(header, draft)?;
            }
            Statement::XaCommit(_) => {
                return Err(self.definite(
                    header,
                    "XA COMMIT of a transaction that was prepared before this stream began, so its rows were not \
                     seen; XA transactions are not supported yet",
                ));
            }
            Statement::Dml(keyword) => {
                let db = String::from_utf8_lossy(query.db).into_owned();
                return Err(self
                    .definite(
                        header,
                        format!(
                            "{keyword} logged as a statement (database `{db}`): that session's binlog_format was not \
                             ROW, so its row changes are not in the binlog"
                        ),
                    )
                    .repair(format!("{}; don't set it in sessions", self.place.set("binlog_format=ROW"))));
            }
            Statement::TruncateUnread => {
                return Err(self.definite(header, "a TRUNCATE whose table name can't be read"));
            }
            Statement::Truncate { db, table } => {
                let db = db.unwrap_or_else(|| String::from_utf8_lossy(query.db).into_owned());
                if let Some(name) = self.truncate(db, table, draft) {
                    return Ok(Outcome::Need(name));
                }
                self.end_of_ddl(header, draft)?;
            }
            Statement::Other if query.sql.starts_with(b"# Dummy event") => {
                return Err(self.definite(header, "the server hides an event that it takes us for too old to know"));
            }
            Statement::Other => self.end_of_ddl(header, draft)?,
        }
        Ok(Outcome::Done)
    }

    /// DDL is a transaction of its own, unless it stands inside one (CREATE TABLE ... SELECT).
    fn end_of_ddl(&mut self, header: &Header, draft: &mut Draft) -> Result<(), SourceError> {
        if self.open.as_ref().is_some_and(|open| open.began) { Ok(()) } else { self.commit(header, draft) }
    }

    /// Emits the truncation; or the name of a table that must be looked up first.
    fn truncate(&mut self, db: String, table: String, draft: &mut Draft) -> Option<TableName> {
        let fold = |name: String| if self.fold_case { name.to_lowercase() } else { name };
        let (db, table) = (fold(db), fold(table));
        let captured = checks::captures(&self.filter, &db, &table);
        let name = TableName { db: db.into(), schema: None, table: table.into() };
        let version = match (captured, self.newest.get(&name)) {
            (false, _) => None,
            (true, Some(version)) => Some(Arc::clone(version)),
            (true, None) => match self.answer.take_if(|(answered, _)| *answered == name) {
                None => return Some(name),
                // Dropped since: nobody knows its columns any more, but it was emptied all the same.
                Some((_, None)) => Some(Arc::new(CatalogTable::default().into_table(name))),
                Some((_, Some(found))) => Some(Arc::new(found.into_table(name))),
            },
        };
        let open = self.open.as_mut()?;
        open.rows += 1;
        if let Some(version) = version {
            let table = draft.table(&version);
            draft.events.push(Event::Change(Change {
                op: Op::Truncate,
                table,
                seq: open.rows,
                before: None,
                after: None,
            }));
        }
        None
    }

    fn table_map(&mut self, body: &[u8], header: &Header) -> Result<Outcome, SourceError> {
        let id = table_id(body).map_err(|Short| self.unreadable(header))?;
        // The flags behind the id may differ from statement to statement.
        let same = |known: &Known| known.body.get(8..) == body.get(8..);
        if let Some(known) = self.known.get_mut(&id).filter(|known| same(known)) {
            known.announced = self.transactions;
            return Ok(Outcome::Done);
        }
        let map = TableMap::parse(body).map_err(|Short| self.unreadable(header))?;
        let shown = format!("`{}.{}`", map.db, map.table);
        let mut widths = Vec::with_capacity(map.columns.len());
        for (index, column) in map.columns.iter().enumerate() {
            widths.push(width(column).ok_or_else(|| {
                let what = format!("column {} of {shown} has binlog type {}, which is unknown", index + 1, column.kind);
                self.definite(header, what)
            })?);
        }
        let table = if checks::captures(&self.filter, map.db, map.table) {
            let name = TableName { db: map.db.into(), schema: None, table: map.table.into() };
            let Some((_, found)) = self.answer.take_if(|(answered, _)| *answered == name) else {
                return Ok(Outcome::Need(name));
            };
            let maria = self.place.flavor == Flavor::MariaDb;
            let optional =
                Optional::parse(map.optional, &map.columns, maria).map_err(|Short| self.unreadable(header))?;
            let version =
                columns::build(name.clone(), &map, &optional, found.as_ref(), &self.charsets).map_err(|what| {
                    self.definite(header, format!("table {shown}: {what}")).repair(
                        "SET GLOBAL binlog_row_metadata=FULL for the future, or exclude the table in `source.tables`",
                    )
                })?;
            let version = Arc::new(version);
            self.newest.insert(name, Arc::clone(&version));
            Some(version)
        } else {
            None
        };
        if self.known.len() >= MAX_KNOWN {
            let current = self.transactions;
            self.known.retain(|_, known| known.announced == current);
        }
        let known = Known { body: body.into(), walker: Walker::new(widths), table, announced: self.transactions };
        self.known.insert(map.table_id, known);
        Ok(Outcome::Done)
    }

    fn rows_event(&mut self, body: &[u8], start: usize, header: &Header) -> Result<Option<RowsCursor>, SourceError> {
        let damaged = |Short| self.unreadable(header);
        let id = table_id(body).map_err(damaged)?;
        let head = RowsHead::parse(header.kind, body).map_err(damaged)?;
        if id == NO_TABLE && head.rows >= body.len() {
            return Ok(None);
        }
        let Some(known) = self.known.get(&id).filter(|known| known.announced == self.transactions) else {
            return Err(self.definite(header, format!("rows of table id {id}, which no table map announced")));
        };
        if self.open.is_none() {
            return Err(self.definite(header, "rows outside of any transaction"));
        }
        if known.walker.columns() != head.columns || head.rows >= body.len() {
            return Err(self.unreadable(header));
        }
        let offset = |at: usize| u32::try_from(start + at).map_err(|_| self.unreadable(header));
        Ok(Some(RowsCursor {
            table_id: id,
            op: head.op,
            next: start + head.rows,
            end: start + body.len(),
            present: known.walker.present(body.get(head.present..).unwrap_or(&[])),
            present_at: offset(head.present)?,
            present_after: known.walker.present(body.get(head.present_after..).unwrap_or(&[])),
            present_after_at: offset(head.present_after)?,
            place: header.end,
        }))
    }

    /// Walks rows until the event ends or the batch is full.
    pub(crate) fn rows(
        &mut self,
        data: &[u8],
        mut cursor: RowsCursor,
        draft: &mut Draft,
    ) -> Result<Option<RowsCursor>, SourceError> {
        let damaged = |place: &Where, file: &str| {
            place.definite(format_args!(
                "rows that don't fit their table map, in {file} in the event ending at offset {}",
                cursor.place
            ))
        };
        let (Some(known), Some(open)) = (self.known.get(&cursor.table_id), &mut self.open) else {
            return Err(damaged(&self.place, &self.file));
        };
        let table = known.table.as_ref().map(|table| draft.table(table));
        open.captured |= table.is_some();
        let all = data.get(..cursor.end).unwrap_or(&[]);
        let image = |at: usize, present: &Present, shape: u32| -> Result<Image, Short> {
            let length = known.walker.image(present, all.get(at..).ok_or(Short)?)?;
            Ok(Image { span: Span::new(at, length).ok_or(Short)?, shape })
        };
        while cursor.next < cursor.end {
            if draft.events.len() >= BATCH_EVENTS {
                return Ok(Some(cursor));
            }
            let first = image(cursor.next, &cursor.present, cursor.present_at)
                .map_err(|Short| damaged(&self.place, &self.file))?;
            let mut next = cursor.next + first.span.len as usize;
            let (before, after) = match cursor.op {
                Op::Update => {
                    let second = image(next, &cursor.present_after, cursor.present_after_at)
                        .map_err(|Short| damaged(&self.place, &self.file))?;
                    next += second.span.len as usize;
                    (Some(first).filter(|_| cursor.present.count > 0), Some(second))
                }
                Op::Delete => (Some(first), None),
                _ => (None, Some(first)),
            };
            if next == cursor.next {
                return Err(damaged(&self.place, &self.file));
            }
            cursor.next = next;
            open.rows += 1;
            if let Some(table) = table {
                draft.events.push(Event::Change(Change { op: cursor.op, table, seq: open.rows, before, after }));
            }
        }
        Ok(None)
    }

    /// Known by name and not supported, or unknown: an error, unless the server says that it may be ignored.
    fn unsupported(&self, event_kind: u8, header: &Header) -> Result<(), SourceError> {
        let (what, repair) = match event_kind {
            kind::TRANSACTION_PAYLOAD => (
                "a compressed transaction (binlog_transaction_compression=ON in the session that wrote it)",
                self.place.set("binlog_transaction_compression=OFF"),
            ),
            kind::PARTIAL_UPDATE_ROWS => (
                "a partial JSON update (binlog_row_value_options=PARTIAL_JSON in the session that wrote it)",
                self.place.set("binlog_row_value_options=''"),
            ),
            kind::MARIA_QUERY_COMPRESSED..=kind::MARIA_DELETE_ROWS_COMPRESSED => {
                ("a compressed event (log_bin_compress=ON)", self.place.set("log_bin_compress=OFF"))
            }
            kind::INCIDENT => (
                "an incident: the server lost changes before it could log them (LOST_EVENTS)",
                "look into the server's error log; remove the checkpoint to start at the server's current end"
                    .to_owned(),
            ),
            load if kind::is_load(load) => (
                "LOAD DATA logged as a statement: binlog_format was not ROW in the session that ran it",
                format!("{}; don't set it in sessions", self.place.set("binlog_format=ROW")),
            ),
            _ if header.flags & event::FLAG_IGNORABLE != 0 => return Ok(()),
            unknown => return Err(self.definite(header, format!("unknown event type {unknown}"))),
        };
        Err(self.definite(header, format!("{what}, which is not supported yet")).repair(repair))
    }

    fn definite(&self, header: &Header, what: impl std::fmt::Display) -> SourceError {
        let inside =
            self.open.as_ref().map(|open| format!(" in transaction {}", open.transaction.id)).unwrap_or_default();
        self.place.definite(format_args!("binlog {}, event ending at offset {}{inside}: {what}", self.file, header.end))
    }

    fn unreadable(&self, header: &Header) -> SourceError {
        self.definite(header, format!("event type {} can't be read: it is damaged or of an unknown form", header.kind))
    }
}

#[cfg(test)]
mod tests;
