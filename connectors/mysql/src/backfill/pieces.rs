//! Packets of a result cut into pieces: framed, not decoded, not copied.
//!
//! A piece is what is in the buffer up to [`PIECE_BYTES`], or one row. It is handed out only when the first byte behind it is
//! there, so that the last piece is known to be the last. A row of 16 MiB or more comes in several packets, is put together
//! in a buffer of its own and is a piece of its own. While nothing is asked for nothing is read, which holds the server
//! back. An error of the server comes after the rows before it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rowcast_core::{Batch, Change, Event, Image, Op, Place, Span, Table};

use crate::connection::handshake;
use crate::connection::packet::{HEADER, Header, MAX_PAYLOAD, Wire, WireError};
use crate::error::ServerError;

/// Bytes after which a piece is handed out.
const PIECE_BYTES: usize = 256 * 1024;

/// The rows of one result, in the course of being read.
#[derive(Debug)]
pub(crate) struct Pieces {
    table: Arc<Table>,
    /// Rows so far.
    pub(crate) rows: u64,
    /// The result is over.
    pub(crate) over: bool,
    /// What the server ended it with.
    failed: Option<ServerError>,
    /// Longest silence.
    limit: Duration,
}

/// Rows, and the image of the last.
#[derive(Debug)]
pub(crate) struct Cut {
    pub(crate) batch: Batch,
    pub(crate) rows: u64,
    pub(crate) last: Option<Image>,
}

/// Why there is no piece.
#[derive(Debug)]
pub(crate) enum Broken {
    Wire(WireError),
    Server(ServerError),
}

impl From<WireError> for Broken {
    fn from(error: WireError) -> Self {
        Broken::Wire(error)
    }
}

/// What stands at a place of the buffer.
enum Next {
    /// A whole row packet of this payload length.
    Row(usize),
    /// The beginning of a row with this payload length.
    Part(usize),
    /// A packet that ends the result, of this payload length.
    End(usize),
    /// Too few bytes to tell.
    More,
}

fn next(buf: &[u8], at: usize) -> Next {
    let bytes = buf.get(at..).unwrap_or(&[]);
    let (Some(Header { length, .. }), Some(first)) = (Header::read(bytes), bytes.get(HEADER)) else {
        return Next::More;
    };
    let whole = bytes.len() >= HEADER + length;
    match first {
        0x00 if length == MAX_PAYLOAD || !whole => Next::Part(length),
        0x00 => Next::Row(length),
        _ if whole => Next::End(length),
        _ => Next::More,
    }
}

impl Pieces {
    pub(crate) fn new(table: Arc<Table>, limit: Duration) -> Self {
        Self { table, rows: 0, over: false, failed: None, limit }
    }

    /// Nothing is left, not even an error.
    pub(crate) fn is_done(&self) -> bool {
        self.over && self.failed.is_none()
    }

    /// The next rows; without rows only if the result has none.
    pub(crate) async fn next(&mut self, wire: &mut Wire) -> Result<Cut, Broken> {
        if let Some(error) = self.failed.take() {
            return Err(Broken::Server(error));
        }
        let (mut at, mut events) = (0, Vec::new());
        let mut last = None;
        loop {
            match next(&wire.buf, at) {
                Next::Row(_) | Next::Part(_) if at >= PIECE_BYTES => break,
                Next::Row(length) => {
                    self.sequence(wire, at)?;
                    let image = image(at + HEADER, length)?;
                    events.push(self.change(image));
                    last = Some(image);
                    at += HEADER + length;
                }
                // What is there needn't wait for a large row.
                Next::Part(length) if at > 0 && length > PIECE_BYTES => break,
                Next::Part(MAX_PAYLOAD) => return self.large(wire).await,
                Next::End(length) => {
                    self.sequence(wire, at)?;
                    let (start, end) = (at + HEADER, at + HEADER + length);
                    let failed = self.end(wire.buf.get(start..end).unwrap_or(&[]))?;
                    let data = wire.buf.split_to(at).freeze();
                    let _ = wire.buf.split_to(end - at);
                    if let Some(error) = failed {
                        if events.is_empty() {
                            return Err(Broken::Server(error));
                        }
                        self.failed = Some(error);
                    }
                    return Ok(self.cut(data, events, last));
                }
                Next::Part(_) | Next::More => {
                    wire.fill(self.limit).await?;
                }
            }
        }
        let data = wire.buf.split_to(at).freeze();
        Ok(self.cut(data, events, last))
    }

    /// A row of several packets, and what is behind it.
    async fn large(&mut self, wire: &mut Wire) -> Result<Cut, Broken> {
        let data = wire.read(self.limit).await?;
        let image = image(0, data.len())?;
        let events = vec![self.change(image)];
        loop {
            match next(&wire.buf, 0) {
                Next::Row(_) | Next::Part(_) => break,
                Next::End(length) => {
                    self.sequence(wire, 0)?;
                    let packet = wire.buf.split_to(HEADER + length);
                    self.failed = self.end(packet.get(HEADER..).unwrap_or(&[]))?;
                    break;
                }
                Next::More => {
                    wire.fill(self.limit).await?;
                }
            }
        }
        Ok(self.cut(data, events, Some(image)))
    }

    /// Reads the result to its end and forgets it.
    pub(crate) async fn drain(&mut self, wire: &mut Wire) -> Result<(), WireError> {
        while !self.over {
            match self.next(wire).await {
                Ok(_) => {}
                Err(Broken::Server(_)) => self.over = true,
                Err(Broken::Wire(error)) => return Err(error),
            }
        }
        self.failed = None;
        Ok(())
    }

    fn change(&mut self, image: Image) -> Event {
        self.rows += 1;
        Event::Change(Change {
            op: Op::Read,
            table: 0,
            seq: self.rows,
            place: Place::default(),
            before: None,
            after: Some(image),
        })
    }

    fn cut(&self, data: Bytes, events: Vec<Event>, last: Option<Image>) -> Cut {
        let rows = events.len() as u64;
        Cut { batch: Batch { data, tables: vec![Arc::clone(&self.table)], events, ..Batch::default() }, rows, last }
    }

    /// Reads the packet that ends the result: EOF, or an error.
    fn end(&mut self, payload: &[u8]) -> Result<Option<ServerError>, WireError> {
        match payload.first() {
            Some(0xfe) if payload.len() < 9 => {
                self.over = true;
                Ok(None)
            }
            Some(0xff) => {
                self.over = true;
                Ok(Some(handshake::parse_error(payload)))
            }
            _ => Err(WireError::Malformed("a packet that is no row".to_owned())),
        }
    }

    fn sequence(&self, wire: &mut Wire, at: usize) -> Result<(), WireError> {
        let header = Header::read(wire.buf.get(at..).unwrap_or(&[]));
        header.map_or(Ok(()), |header| wire.check_sequence(header))
    }
}

fn image(start: usize, length: usize) -> Result<Image, WireError> {
    let span = Span::new(start, length).ok_or_else(|| WireError::Malformed("a piece of more than 4 GiB".to_owned()))?;
    Ok(Image { span, shape: 0 })
}

#[cfg(test)]
mod tests;
