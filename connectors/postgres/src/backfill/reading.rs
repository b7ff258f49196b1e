//! One read in progress: frames of an open portal into pieces.
//!
//! ```text
//! Execute n ─► DataRow, DataRow, ... ─► suspended | complete ─► ReadyForQuery
//! Execute n ─► (asked for before the answer to the one before it is read: the server never waits for us)
//! ```
//!
//! Rows stay the bytes from the socket. Memory: a piece, or one row that is larger, and what the sockets hold; an Execute
//! asks for about [`ASK_BYTES`], by the width of the rows so far, so that little has to be thrown away when a read ends early.
//!
//! Rows of a range must come in the order of their places, since what is left of a range is what lies behind the last
//! row that was given out: a row out of order is an error.

use std::sync::Arc;
use std::time::Duration;

use postgres_protocol::message::frontend;
use rowcast_core::backfill::Piece;
use rowcast_core::{Batch, Change, Event, Image, Op, Place, SourceError, Span, Table};

use super::link::Link;
use super::range::{Range, Tid};
use crate::error::ServerError;
use crate::replication::reader::{BATCH_BYTES, Frame};
use crate::types::row::SHAPE_DATA_ROW;
use crate::wire::Wire;

/// Name of the portal. Not the unnamed one, which the next simple query would close.
pub(super) const PORTAL: &str = "c";
/// Bytes that an Execute asks for.
const ASK_BYTES: f64 = 512.0 * 1024.0;
/// Rows that an Execute asks for at most.
const ASK_ROWS: f64 = 65_536.0;
/// Rows of the first: the width is a guess then, and what it brings has to be read to the end.
const FIRST_ROWS: f64 = 256.0;
/// What a busy read waits for more.
const PAUSE: Duration = Duration::from_millis(1);
/// Executes whose answers are on their way.
const IN_FLIGHT: u32 = 2;

/// What a read reads.
#[derive(Debug, Clone, Copy)]
pub(super) enum Extent {
    /// The rows of a range before the block `until`.
    Places { range: Range, until: u32 },
    /// Rows anywhere, to the end; what is left of them has no text but this one, which nobody can read on from.
    Rows(&'static str),
}

/// Why a read ended.
#[derive(Debug)]
pub(super) enum Halt {
    /// The server ended the statement.
    Server(ServerError),
    /// The connection is of no use any more.
    Source(SourceError),
}

impl From<SourceError> for Halt {
    fn from(error: SourceError) -> Self {
        Halt::Source(error)
    }
}

/// A read.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) table: Arc<Table>,
    extent: Extent,
    /// Where the table ends.
    blocks: u32,
    /// Not all rows are given out.
    filtered: bool,
    wanted: u64,
    asked: u64,
    seen: u64,
    bytes: u64,
    /// Bytes of a row, as the catalog has it.
    width: f64,
    events: Vec<Event>,
    /// The last row of the piece that is being filled.
    last: Option<Frame>,
    /// The portal has no more rows.
    finished: bool,
    done: bool,
}

/// How many rows the first Execute asks for.
pub(super) fn first(width: f64, wanted: u64) -> u64 {
    // a guess must not ask for much
    ((ASK_BYTES / 4.0 / width).clamp(1.0, FIRST_ROWS) as u64).min(wanted)
}

impl Read {
    /// A read whose first Execute was sent.
    pub(super) fn new(table: Arc<Table>, extent: Extent, blocks: u32, wanted: u64, width: f64, filtered: bool) -> Self {
        let asked = first(width, wanted);
        Self {
            table,
            extent,
            blocks,
            filtered,
            wanted,
            asked,
            seen: 0,
            bytes: 0,
            width,
            events: Vec::new(),
            last: None,
            finished: false,
            done: false,
        }
    }

    /// Bytes of a row, so far.
    pub(super) fn width(&self) -> f64 {
        if self.seen == 0 { self.width } else { (self.bytes as f64 / self.seen as f64).max(1.0) }
    }

    /// Rows in a block, if enough blocks were read to tell. Fewer rows pass a filter than there are: more blocks for them
    /// would only take longer.
    pub(super) fn density(&self) -> Option<f64> {
        match self.extent {
            Extent::Places { range, until } if self.finished && self.seen > 0 && !self.filtered => {
                let blocks = until.min(self.blocks).saturating_sub(range.from.block);
                (blocks >= 16).then(|| self.seen as f64 / f64::from(blocks))
            }
            _ => None,
        }
    }

    /// Asks for more, while the answers before are still on their way.
    async fn ask(&mut self, link: &mut Link) -> Result<(), SourceError> {
        while link.owed() < IN_FLIGHT && !self.finished && self.asked < self.wanted {
            let rows = (ASK_BYTES / self.width()).clamp(1.0, ASK_ROWS) as u64;
            let rows = rows.min(self.wanted - self.asked);
            self.asked += rows;
            link.send(1, |out| {
                frontend::execute(PORTAL, i32::try_from(rows).unwrap_or(i32::MAX), out)?;
                frontend::sync(out);
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Takes in the frames that are there; true if a piece is full.
    fn walk(&mut self, link: &mut Link) -> Result<bool, Halt> {
        while let Some(frame) = link.ready_frame()? {
            match frame.tag {
                b'D' => {
                    let span = Span::new(frame.body, frame.end.saturating_sub(frame.body))
                        .ok_or_else(|| link.broken("a piece of more than 4 GiB"))?;
                    self.seen += 1;
                    self.bytes += u64::from(span.len);
                    self.last = Some(frame);
                    let after = Some(Image { span, shape: SHAPE_DATA_ROW });
                    let change =
                        Change { op: Op::Read, table: 0, seq: self.seen, place: Place::default(), before: None, after };
                    self.events.push(Event::Change(change));
                }
                b'C' => self.finished = true,
                b's' => {}
                b'Z' => link.ready()?,
                b'E' => {
                    let error = ServerError::parse(link.reader().body(frame));
                    link.drop_frame(frame);
                    return Err(Halt::Server(error));
                }
                tag => return Err(link.broken(&format!("an unexpected message 0x{tag:02x}")).into()),
            }
            link.reader().advance(frame);
            if frame.tag == b'D' && link.reader().walked() >= BATCH_BYTES {
                return Ok(true);
            }
        }
        if self.events.is_empty() {
            link.reader().discard();
        }
        Ok(false)
    }

    /// The next rows; none when everything was given out.
    pub(super) async fn next(&mut self, link: &mut Link) -> Result<Option<Piece>, Halt> {
        loop {
            if self.done {
                return Ok(None);
            }
            self.ask(link).await?;
            if self.walk(link)? {
                return Ok(Some(self.piece(link)?));
            }
            if link.owed() == 0 {
                if !self.finished && self.asked < self.wanted {
                    continue;
                }
                self.done = true;
                // what the last piece has left is known already, unless the range is at its end now
                if self.events.is_empty() && !self.finished {
                    return Ok(None);
                }
                return Ok(Some(self.piece(link)?));
            }
            if !self.events.is_empty() && link.reader().large_frame_ahead() {
                return Ok(Some(self.piece(link)?));
            }
            // the server sends 8 KiB at a time: rows that are waited for one millisecond cost half as much to receive
            if link.reader().is_busy() {
                tokio::time::sleep(PAUSE).await;
            }
            link.wait().await?;
        }
    }

    /// Gives out what was walked.
    fn piece(&mut self, link: &mut Link) -> Result<Piece, SourceError> {
        if let (Extent::Places { range, until }, Some(frame)) = (&mut self.extent, self.last.take()) {
            let place = place(link.reader().body(frame)).ok_or_else(|| link.broken("a row without its place"))?;
            if place <= range.from || place.block >= *until {
                return Err(link.broken("a row out of the order of places"));
            }
            *range = range.behind(place);
        }
        let over = self.done && self.finished;
        let rest = match self.extent {
            Extent::Places { range, until } if over => {
                let left = until < range.to.min(self.blocks);
                left.then(|| range.behind(Tid { block: until, offset: 0 }).to_string())
            }
            Extent::Places { range, .. } => Some(range.to_string()),
            Extent::Rows(what) => (!over).then(|| what.to_owned()),
        };
        let rows = self.events.len();
        let next = Vec::with_capacity(rows.min(8192));
        let events = std::mem::replace(&mut self.events, next);
        let data = link.reader().split();
        let batch = Batch { data, tables: vec![Arc::clone(&self.table)], events, ..Batch::default() };
        Ok(Piece { batch, rows: rows as u64, rest })
    }
}

/// The last column of a DataRow, which is the row's place.
fn place(body: &[u8]) -> Option<Tid> {
    let mut wire = Wire::new(body);
    let mut last = None;
    for _ in 0..wire.u16()? {
        last = match usize::try_from(wire.i32()?) {
            Ok(length) => Some(wire.take(length)?),
            Err(_) => None,
        };
    }
    Tid::parse(last?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn the_place_of_a_row_is_its_last_column() {
        let row = b"\0\x03\0\0\0\x017\xff\xff\xff\xff\0\0\0\x06\0\0\0\x09\0\x02";
        assert_eq!(place(row), Some(Tid { block: 9, offset: 2 }));
        for end in 0..row.len() {
            assert_eq!(place(&row[..end]), None);
        }
        assert_eq!(place(b"\0\x01\xff\xff\xff\xff"), None);
    }

    #[test]
    fn the_first_rows_are_few_and_never_more_than_wanted() {
        assert_eq!(first(10.0, 1_000_000), 256);
        assert_eq!(first(1e8, 1_000_000), 1);
        assert_eq!(first(100.0, 7), 7);
    }
}
