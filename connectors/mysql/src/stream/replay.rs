//! A binlog file instead of a server: its events through the same stream, for tests, benchmarks and trials by hand.
//!
//! ```text
//! file ─► events ─► packets ─► MysqlStream::step ─► Batch
//! ```
//!
//! Guarantees: what is handed out is what a server that sends this file would give; a file that is cut within an event is an
//! error; memory is that of the stream. There is no catalog: a table whose columns the file doesn't name is an error.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use rowcast_core::{Batch, LogPosition, Pulse, SourceError, TableFilter};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};

use super::assembler::Assembler;
use super::spill::Room;
use super::{Failure, MysqlStream, Step};
use crate::binlog::event;
use crate::catalog::Catalog;
use crate::connection::packet::{MAX_PAYLOAD, Wire};
use crate::shared::Shared;
use crate::{Compression, Flavor, Host, Options, Password, Servers, SessionAttributes, TlsOptions};

/// What a file begins with.
const MAGIC: &[u8] = b"\xfebin";
/// Bytes that are given to the stream at a time, like reads of a socket.
const READ: usize = 256 * 1024;

/// A binlog file that is being read.
#[derive(Debug)]
pub struct Replay {
    stream: MysqlStream,
    file: Bytes,
    at: usize,
    sequence: u8,
    /// The stream's socket, which nobody uses, belongs to it.
    runtime: Option<Runtime>,
}

impl Drop for Replay {
    fn drop(&mut self) {
        // dropped as it is, it would panic inside another one
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Replay {
    /// `charsets` are character sets by the id of their collations, as the file's server numbers them.
    ///
    /// # Errors
    /// The system's, if it has no more descriptors.
    pub fn new(
        flavor: Flavor,
        tables: TableFilter,
        charsets: HashMap<u32, String>,
        file: impl Into<Bytes>,
    ) -> io::Result<Self> {
        let options = Options {
            name: "replay".to_owned(),
            flavor,
            servers: Servers::new(Host { name: "file".to_owned(), port: 0 }, Vec::new(), SessionAttributes::Any),
            user: String::new(),
            password: Password::Fixed(String::new().into()),
            tls: TlsOptions::default(),
            server_public_key: None,
            cleartext_password: false,
            compression: Compression::None,
            tables: tables.clone(),
            server_id: 1,
            server_id_derived: false,
            connect_timeout: Duration::ZERO,
            read_timeout: Duration::ZERO,
            include_query: false,
            spill_folder: std::env::temp_dir(),
            spill_limit: 1 << 30,
            describe: false,
            ddl: false,
            start_at: None,
        };
        let room = Room::new(options.spill_folder.clone(), options.spill_limit);
        let position = match flavor {
            Flavor::Mysql => LogPosition::Gtid(rowcast_core::GtidSet::default()),
            Flavor::MariaDb => LogPosition::MariaDb(rowcast_core::MariaGtidSet::default()),
        };
        let place = options.place();
        let mut assembler = Assembler::new(place.clone(), tables, position, false, room.clone(), false);
        assembler.set_charsets(charsets.clone());
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let socket = {
            let _inside = runtime.enter();
            UnixStream::pair()?.0
        };
        let stream = MysqlStream {
            wire: Wire::new(rowcast_net::Stream::Unix(socket)),
            pulse: Pulse::default(),
            place,
            catalog: Catalog::offline(options, charsets),
            assembler,
            read_timeout: Duration::ZERO,
            shared: Shared::default(),
            last_read: None,
            large: None,
            whole: None,
            rest: None,
            inner: Vec::new(),
            unpack: false,
            room,
            failed: None,
        };
        let file = file.into();
        let at = if file.starts_with(MAGIC) { MAGIC.len() } else { 0 };
        Ok(Self { stream, file, at, sequence: 0, runtime: Some(runtime) })
    }

    /// The next batch; none at the end of the file.
    ///
    /// # Errors
    /// The stream's, and of a file that ends within an event.
    pub fn next_batch(&mut self) -> Result<Option<Batch>, SourceError> {
        loop {
            match self.stream.step() {
                Ok(Step::Batch(batch)) => return Ok(Some(batch)),
                Ok(Step::Again) => {}
                Ok(Step::Need(name)) => self.stream.assembler.answer(name, None),
                Ok(Step::Read) if self.at >= self.file.len() => return Ok(None),
                Ok(Step::Read) => self.feed()?,
                Err(Failure::Source(error)) => return Err(error),
                Err(Failure::Server(error)) => return Err(self.stream.place.server("reading a file", &error)),
            }
        }
    }

    /// Whether the file has ended within a transaction.
    pub fn is_inside(&self) -> bool {
        self.stream.assembler.open().is_some()
    }

    /// Everything that was committed in the file.
    pub fn position(&self) -> &LogPosition {
        self.stream.assembler.position()
    }

    /// Gives the next events to the stream, as packets.
    fn feed(&mut self) -> Result<(), SourceError> {
        let begin = self.at;
        while self.at < self.file.len() && self.at - begin < READ {
            let rest = self.file.get(self.at..).unwrap_or(&[]);
            let length = rest.get(9..13).and_then(|bytes| bytes.first_chunk());
            let length = length.map_or(0, |bytes| u32::from_le_bytes(*bytes) as usize);
            let event = rest.get(..length).filter(|event| event.len() >= event::HEADER).ok_or_else(|| {
                self.stream.place.definite(format_args!("the file ends within the event at offset {}", self.at))
            })?;
            self.at += length;
            // a byte that says "an event" stands in front
            let mut first: &[u8] = &[0];
            let mut left = event;
            loop {
                let taken = (MAX_PAYLOAD - first.len()).min(left.len());
                let (part, rest) = left.split_at_checked(taken).unwrap_or((left, &[]));
                let length = first.len() + part.len();
                let [a, b, c, _] = (length as u32).to_le_bytes();
                let buf = &mut self.stream.wire.buf;
                buf.extend_from_slice(&[a, b, c, self.sequence]);
                buf.extend_from_slice(first);
                buf.extend_from_slice(part);
                self.sequence = self.sequence.wrapping_add(1);
                (first, left) = (&[], rest);
                if length < MAX_PAYLOAD {
                    break;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
