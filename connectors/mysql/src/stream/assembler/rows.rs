//! Rows: which table they are of, by the TABLE_MAP in front of them, and where each of them lies.

use std::sync::Arc;

use rowcast_core::{Change, Event, Image, Op, Place, SourceError, Span, Table, TableFailure, TableName};

use super::super::draft::Draft;
use super::super::versions::Resolved;
use super::{Assembler, Outcome};
use crate::Flavor;
use crate::binlog::event::{self, Header};
use crate::binlog::rows_event::{PARTIAL, Present, RowsHead, Walker, table_id, width};
use crate::binlog::table_map::{Optional, TableMap, wire};
use crate::catalog::{checks, columns};
use crate::cursor::Short;
use crate::error::Where;

/// Table maps that are remembered.
const MAX_KNOWN: usize = 8192;
/// "Table id" of a row event that only ends a statement.
const NO_TABLE: u64 = 0x00ff_ffff;

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
    /// Second images have differences of documents; they can't be read without the first ones.
    partial: bool,
    /// Where the event ends.
    ends: u32,
    /// Where the next row stands.
    place: Place,
}

/// A table map that was met.
#[derive(Debug)]
pub(super) struct Known {
    body: Box<[u8]>,
    walker: Walker,
    /// None if the table isn't captured, or can't be decoded.
    table: Option<Arc<Table>>,
    /// Why it can't.
    failed: Option<Arc<TableFailure>>,
    /// The transaction that it was last announced in.
    announced: u64,
}

impl Assembler {
    /// What TABLE_MAPs have said of a table is looked at anew.
    pub(in crate::stream) fn forget(&mut self, name: &TableName) {
        let is_it = |known: &Known| match (&known.table, &known.failed) {
            (Some(table), _) => table.name == *name,
            (None, Some(failed)) => failed.table == *name,
            (None, None) => false,
        };
        self.known.retain(|_, known| !is_it(known));
    }

    pub(super) fn table_map(
        &mut self,
        body: &[u8],
        header: &Header,
        draft: &mut Draft,
    ) -> Result<Outcome, SourceError> {
        let id = table_id(body).map_err(|Short| self.unreadable(header))?;
        // The flags behind the id may differ from statement to statement.
        let same = |known: &Known| known.body.get(8..) == body.get(8..);
        if let Some(known) = self.known.get_mut(&id).filter(|known| same(known)) {
            let before = std::mem::replace(&mut known.announced, self.transactions);
            if before != self.transactions {
                draft.events.extend(known.failed.clone().map(Event::TableFailed));
            }
            return Ok(Outcome::Done);
        }
        let mut map = TableMap::parse(body).map_err(|Short| self.unreadable(header))?;
        let maria = self.place.flavor == Flavor::MariaDb;
        let captured = checks::captures(&self.filter, map.db, map.table);
        let name = TableName { db: map.db.into(), schema: None, table: map.table.into() };
        // Without the fractions of MariaDB's old times nobody knows where its rows end, captured or not.
        if maria && map.has_old_times() {
            let answer = match captured {
                true => self.answer.clone().filter(|(answered, _)| *answered == name),
                false => self.answer.take_if(|(answered, _)| *answered == name),
            };
            let found = match (answer, self.versions.get(&name)) {
                (Some((_, found)), _) => found.map(|found| Arc::new(found.table)),
                (None, Some(known)) => Some(known),
                (None, None) => return Ok(Outcome::Need(name)),
            };
            columns::add_fractions(&mut map, found.as_deref());
        }
        let shown = format!("`{}.{}`", map.db, map.table);
        let mut widths = Vec::with_capacity(map.columns.len());
        for (index, column) in map.columns.iter().enumerate() {
            widths.push(width(column).ok_or_else(|| {
                let what = format!("column {} of {shown} has binlog type {}, which is unknown", index + 1, column.kind);
                self.definite(header, what)
            })?);
        }
        let (mut table, mut failed) = (None, None);
        if captured {
            let optional =
                Optional::parse(map.optional, &map.columns, maria).map_err(|Short| self.unreadable(header))?;
            match self.resolve(&name, &map, &optional, header, draft) {
                Resolved::Ask => return Ok(Outcome::Need(name)),
                Resolved::Version(version) => {
                    self.newest.insert(name, Arc::clone(&version));
                    table = Some(version);
                }
                Resolved::Failed(failure) => {
                    draft.events.push(Event::TableFailed(Arc::clone(&failure)));
                    failed = Some(failure);
                }
            }
        }
        if self.known.len() >= MAX_KNOWN {
            let current = self.transactions;
            self.known.retain(|_, known| known.announced == current);
        }
        let documents = map.columns.iter().filter(|column| column.kind == wire::JSON).count();
        let (walker, announced) = (Walker::new(widths, documents), self.transactions);
        let known = Known { body: body.into(), walker, table, failed, announced };
        self.known.insert(map.table_id, known);
        Ok(Outcome::Done)
    }

    pub(super) fn rows_event(
        &mut self,
        body: &[u8],
        start: usize,
        header: &Header,
    ) -> Result<Option<RowsCursor>, SourceError> {
        let damaged = |Short| self.unreadable(header);
        let id = table_id(body).map_err(damaged)?;
        if std::mem::replace(&mut self.statement_over, event::ends_statement(body)) {
            self.statement = None;
        }
        let damaged = |Short| self.unreadable(header);
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
        let offset = |at: usize| {
            u32::try_from(start + at).ok().filter(|at| *at < PARTIAL).ok_or_else(|| self.unreadable(header))
        };
        Ok(Some(RowsCursor {
            table_id: id,
            op: head.op,
            next: start + head.rows,
            end: start + body.len(),
            present: known.walker.present(body.get(head.present..).unwrap_or(&[])),
            present_at: offset(head.present)?,
            present_after: known.walker.present(body.get(head.present_after..).unwrap_or(&[])),
            present_after_at: offset(head.present_after)?,
            partial: head.partial,
            ends: header.end,
            place: self.row_event(header, event::HEADER + body.len()),
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
                cursor.ends
            ))
        };
        // rows that come later than their events can't be told by these
        let by_event = self.out_of.is_none() && self.ending.is_none();
        let left_out = if by_event { self.rows_left_out() } else { 0 };
        let (Some(known), Some(open)) = (self.known.get(&cursor.table_id), &mut self.open) else {
            return Err(damaged(&self.place, &self.file));
        };
        let table = known.table.as_ref().map(|table| draft.table(table));
        open.captured |= table.is_some();
        if table.is_some() && self.statement != self.told_statement {
            draft.statement(self.statement.clone());
            self.told_statement.clone_from(&self.statement);
        }
        let all = data.get(..cursor.end).unwrap_or(&[]);
        let image = |at: usize, present: &Present, shape: u32| -> Result<Image, Short> {
            let length = known.walker.image(present, all.get(at..).ok_or(Short)?)?;
            Ok(Image { span: Span::new(at, length).ok_or(Short)?, shape })
        };
        while cursor.next < cursor.end {
            if draft.is_full() {
                break;
            }
            let first = image(cursor.next, &cursor.present, cursor.present_at)
                .map_err(|Short| damaged(&self.place, &self.file))?;
            let mut next = cursor.next + first.span.len as usize;
            let (before, after) = match cursor.op {
                Op::Update if cursor.partial => {
                    let both = known
                        .walker
                        .partial_image(&cursor.present_after, all.get(next..).unwrap_or(&[]))
                        .and_then(|length| Span::new(cursor.next, next + length - cursor.next).ok_or(Short))
                        .map_err(|Short| damaged(&self.place, &self.file))?;
                    next = cursor.next + both.len as usize;
                    let after = Image { span: both, shape: cursor.present_at | PARTIAL };
                    (Some(first).filter(|_| cursor.present.count > 0), Some(after))
                }
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
            if let Some(table) = table
                && cursor.place.row >= left_out
            {
                let (op, seq, place) = (cursor.op, open.rows, cursor.place);
                draft.events.push(Event::Change(Change { op, table, seq, place, before, after }));
            }
            cursor.place.row = cursor.place.row.wrapping_add(1);
        }
        if let Some((_, rows)) = &mut self.out_of {
            *rows = cursor.place.row;
        }
        Ok((cursor.next < cursor.end).then_some(cursor))
    }
}
