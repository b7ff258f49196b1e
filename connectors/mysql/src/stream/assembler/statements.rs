//! Statements in the binlog: the ends of transactions, savepoints, XA, DDL, and those that change rows.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rowcast_core::{Change, Event, Op, Prepared, SourceError, TableName};

use super::super::draft::Draft;
use super::super::inner::{Inner, Origin};
use super::super::keep::{CantKeep, Keep};
use super::{Assembler, Outcome};
use crate::binlog::ddl;
use crate::binlog::event::{self, Header, Query, kind};
use crate::binlog::statement::{Statement, classify};
use crate::catalog::{checks, tables::CatalogTable};
use crate::cursor::Short;
use crate::error::GAP_REPAIR;

impl Assembler {
    /// A statement in an event whose header lies in front of its body.
    pub(super) fn query(
        &mut self,
        (head, body): (&[u8], &[u8]),
        header: &Header,
        draft: &mut Draft,
    ) -> Result<Outcome, SourceError> {
        let query = Query::parse(body).map_err(|Short| self.unreadable(header))?;
        let statement = classify(query.sql);
        if self.open.is_none() && !self.begin_by_statement(&statement, header, draft)? {
            return Err(self.definite(header, "a statement outside of any transaction"));
        }
        let Some(open) = &mut self.open else { return Ok(Outcome::Done) };
        let (captured, open_rows, passing) = (open.captured, open.rows, self.passing.is_some());
        match statement {
            Statement::Begin => {
                open.began = true;
                let may_roll_back = open.may_roll_back;
                self.thread_is(query.thread, draft);
                if may_roll_back && !passing {
                    self.keeps();
                }
            }
            Statement::XaStart => {
                open.began = true;
                if self.keep.is_none() {
                    self.keeps();
                }
            }
            Statement::XaEnd | Statement::Release => {}
            Statement::Savepoint(name) => {
                let (name, rows) = (name.unwrap_or_default(), open.rows);
                match &mut self.keep {
                    Some(keep) => {
                        let kept = keep.savepoint(&name);
                        self.kept(header, kept)?;
                    }
                    None => draft.savepoint(&name, rows),
                }
            }
            Statement::RollbackTo(name) => {
                let name = name.unwrap_or_default();
                if self.keep.is_some() {
                    self.rolled_back(header)?;
                }
                match &mut self.keep {
                    Some(keep) => {
                        let kept = keep.rollback_to(&name);
                        self.kept(header, kept)?;
                    }
                    None if open_rows == 0 || passing => {}
                    None => match draft.rollback_to(&name) {
                        Some(rows) => {
                            if let Some(open) = &mut self.open {
                                open.rows = rows;
                            }
                            self.untold(draft);
                        }
                        None => return Err(self.taken_back(header)),
                    },
                }
            }
            Statement::Rollback => {
                if self.keep.is_some() {
                    self.rolled_back(header)?;
                }
                if self.keep.take().is_none() && captured && !draft.rollback() {
                    return Err(self.taken_back(header));
                }
                self.commit(header, draft)?;
            }
            Statement::Commit => return self.end(header, draft),
            Statement::XaCommit(name) => return self.xa_commit(&String::from_utf8_lossy(name), header, draft),
            Statement::XaRollback(name) => {
                let name = String::from_utf8_lossy(name);
                if self.is_wanted() && self.prepared.take(&name).is_some() {
                    draft.events.push(Event::Settled(name.into()));
                }
                self.commit(header, draft)?;
            }
            // what follows is judged when, and if, it is replayed
            _ if self.keep.is_some() => self.keep_event(head, body, header, false)?,
            _ if passing => self.end_of_ddl(header, draft)?,
            Statement::Dml(keyword) => {
                self.statement_logged(keyword, ddl::target(query.sql), &query, header, draft)?;
            }
            Statement::TruncateUnread => {
                return Err(self.definite(header, "a TRUNCATE whose table name can't be read"));
            }
            Statement::Truncate { db, table } => {
                let db = db.unwrap_or_else(|| String::from_utf8_lossy(query.db).into_owned());
                if let Some(name) = self.truncate(db, table, header, draft) {
                    return Ok(Outcome::Need(name));
                }
                self.end_of_ddl(header, draft)?;
            }
            Statement::Other if query.sql.starts_with(b"# Dummy event") => {
                return Err(self.definite(header, "the server hides an event that it takes us for too old to know"));
            }
            Statement::Other => {
                if let Some(name) = self.asks_of_ddl(&query) {
                    return Ok(Outcome::Need(name));
                }
                self.ddl(&query, header, draft);
                self.tell_ddl(&query, header, draft);
                self.end_of_ddl(header, draft)?;
            }
        }
        Ok(Outcome::Done)
    }

    /// From here on the transaction in progress is kept until its end.
    pub(super) fn keeps(&mut self) {
        self.keep = Some(Keep::new(self.room.clone()));
    }

    /// Keeps an event of the transaction in progress.
    pub(super) fn keep_event(
        &mut self,
        head: &[u8],
        body: &[u8],
        header: &Header,
        captured: bool,
    ) -> Result<(), SourceError> {
        let Some(keep) = &mut self.keep else { return Ok(()) };
        let kept = keep.push(head, body, captured);
        self.kept(header, kept)
    }

    /// Whether a kept table map is of a captured table.
    pub(super) fn is_captured(&self, header: &Header, body: &[u8]) -> bool {
        let Ok((db, table)) = event::mapped_table(body) else { return false };
        header.kind == kind::TABLE_MAP
            && checks::captures(&self.filter, &String::from_utf8_lossy(db), &String::from_utf8_lossy(table))
    }

    fn kept(&self, header: &Header, kept: Result<(), CantKeep>) -> Result<(), SourceError> {
        kept.map_err(|error| match error {
            CantKeep::NoRoom(error) => {
                let of = self.open.as_ref().map(|open| open.transaction.id.as_str()).unwrap_or_default();
                error.explain(&self.place, &format!("transaction {of}"))
            }
            CantKeep::Wrong(what) => self.definite(header, what),
        })
    }

    /// Rows of the transaction in progress that are gone were handed out: the stream has to begin again, and keep transactions.
    fn taken_back(&self, header: &Header) -> SourceError {
        self.doubt.next.store(true, Ordering::Relaxed);
        let inside = self.open.as_ref().map(|open| open.transaction.id.as_str()).unwrap_or_default();
        self.place.transient(format_args!(
            "binlog {}, event ending at offset {}: transaction {inside} is rolled back in the binlog behind rows that were read already, \
             though its GTID event doesn't say that it may be; the stream begins again and keeps transactions until their end",
            self.file, header.end
        ))
    }

    /// A kept transaction is rolled back, whole or in part. If it was published in part by a stream that didn't keep it, that was wrong.
    fn rolled_back(&self, header: &Header) -> Result<(), SourceError> {
        let Some(open) = self.open.as_ref().filter(|open| !open.flagged) else { return Ok(()) };
        if self.doubt.inside.as_deref() != Some(open.transaction.pos.as_str()) {
            return Ok(());
        }
        let what = format_args!(
            "gap: binlog {}, event ending at offset {}: rows of transaction {} are published that the server rolled back",
            self.file, header.end, open.transaction.id
        );
        Err(self.place.lost(what).repair(GAP_REPAIR))
    }

    /// What was told of the statement's text may have been taken back.
    fn untold(&mut self, draft: &mut Draft) {
        if self.statements {
            draft.statement(None);
            self.told_statement = None;
        }
    }

    /// The transaction commits: what was kept of it is replayed first.
    pub(super) fn end(&mut self, header: &Header, draft: &mut Draft) -> Result<Outcome, SourceError> {
        match self.keep.take() {
            Some(keep) if !keep.is_empty() && self.passing.is_none() => Ok(self.replay(keep, header)),
            _ => self.commit(header, draft).map(|()| Outcome::Done),
        }
    }

    fn replay(&mut self, keep: Keep, header: &Header) -> Outcome {
        self.ending = Some(*header);
        Outcome::Inner(Box::new(Inner::new(Origin::Kept, Box::new(keep.read()))))
    }

    /// What was kept of the transaction has been replayed.
    pub(crate) fn replayed(&mut self, draft: &mut Draft) -> Result<(), SourceError> {
        match self.ending.take() {
            Some(header) => self.commit(&header, draft),
            None => Ok(()),
        }
    }

    /// XA PREPARE, or the commit in one phase.
    pub(super) fn xa_prepare(
        &mut self,
        body: &[u8],
        header: &Header,
        draft: &mut Draft,
    ) -> Result<Outcome, SourceError> {
        let (one_phase, name) = event::xa_prepare(body).map_err(|Short| self.unreadable(header))?;
        if one_phase {
            return self.end(header, draft);
        }
        let Some(open) = &self.open else {
            return Err(self.definite(header, "XA PREPARE outside of any transaction"));
        };
        if open.captured {
            return Err(self.definite(header, "XA PREPARE of a transaction that began as an ordinary one"));
        }
        let prepared = Prepared { name, pos: open.transaction.pos.clone(), from: self.sent_from() };
        let keep = self.keep.take();
        if self.looks_for(&prepared) {
            draft.events.push(Event::Prepared(Box::new(prepared.clone())));
            let added = self.prepared.add(prepared, keep);
            self.kept(header, added).map_err(|error| error.repair("end those that XA RECOVER shows"))?;
        }
        self.commit(header, draft)?;
        Ok(Outcome::Done)
    }

    fn xa_commit(&mut self, name: &str, header: &Header, draft: &mut Draft) -> Result<Outcome, SourceError> {
        if self.passing.is_some() {
            if self.is_wanted() {
                self.prepared.take(name);
            }
            return self.commit(header, draft).map(|()| Outcome::Done);
        }
        let Some(kept) = self.prepared.take(name) else {
            let what = format!(
                "gap: XA COMMIT {name} of a transaction that was prepared before this source began to stream: its rows"
            );
            let place =
                format_args!("binlog {}, event ending at offset {}: {what} were not seen", self.file, header.end);
            return Err(self.place.lost(place).repair(GAP_REPAIR));
        };
        draft.events.push(Event::Settled(name.into()));
        match kept {
            Some(keep) => {
                // its rows stand elsewhere, maybe in another file
                let here = self.row_event(header, 0).at;
                self.out_of.get_or_insert((here, 0));
                Ok(self.replay(keep, header))
            }
            None => self.commit(header, draft).map(|()| Outcome::Done),
        }
    }

    /// DDL is a transaction of its own, unless it stands inside one (CREATE TABLE ... SELECT).
    fn end_of_ddl(&mut self, header: &Header, draft: &mut Draft) -> Result<(), SourceError> {
        if self.open.as_ref().is_some_and(|open| open.began) { Ok(()) } else { self.commit(header, draft) }
    }

    /// Emits the truncation; or the name of a table that must be looked up first.
    fn truncate(&mut self, db: String, table: String, header: &Header, draft: &mut Draft) -> Option<TableName> {
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
                Some((_, Some(found))) => Some(Arc::new(found.table.into_table(name))),
            },
        };
        let place = self.row_event(header, 0);
        let open = self.open.as_mut()?;
        open.rows += 1;
        if let Some(version) = version {
            let table = draft.table(&version);
            draft.events.push(Event::Change(Change {
                op: Op::Truncate,
                table,
                seq: open.rows,
                place,
                before: None,
                after: None,
            }));
        }
        None
    }
}
