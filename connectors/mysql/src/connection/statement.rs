//! Prepared statements: the only way to rows in the binary protocol, in which a FLOAT is its own four bytes.
//!
//! ```text
//! prepare ─► Prepared { id, columns } ─► execute ─► [column definitions] ─► rows, framed by the caller ─► close
//! ```
//!
//! Statements have no parameters: what they compare with are literals that the server reads back exactly. An error of the
//! server leaves the connection ready; one of the connection, or a damaged answer, doesn't.

use rowcast_core::SourceError;

use super::packet::WireError;
use super::{Connection, Failure, handshake};
use crate::cursor::{Cursor, Short};

const COM_STMT_PREPARE: u8 = 0x16;
const COM_STMT_EXECUTE: u8 = 0x17;
const COM_STMT_CLOSE: u8 = 0x19;

/// What a result says about one of its columns, as far as it tells one version of a table from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ColumnDefinition {
    /// Alias.
    pub(crate) name: Vec<u8>,
    /// Column of the table; empty for an expression.
    pub(crate) column: Vec<u8>,
    /// Collation id.
    pub(crate) collation: u16,
    pub(crate) length: u32,
    pub(crate) kind: u8,
    /// NOT NULL, unsigned, part of a key, ...
    pub(crate) flags: u16,
    pub(crate) decimals: u8,
}

impl ColumnDefinition {
    fn parse(payload: &[u8]) -> Result<Self, Short> {
        let mut at = Cursor::new(payload);
        // catalog, schema, table's alias, table
        for _ in 0..4 {
            at.lenenc_bytes()?;
        }
        let (name, column) = (at.lenenc_bytes()?.to_vec(), at.lenenc_bytes()?.to_vec());
        let mut at = Cursor::new(at.lenenc_bytes()?);
        let (collation, length) = (at.u16()?, at.u32()?);
        Ok(Self { name, column, collation, length, kind: at.u8()?, flags: at.u16()?, decimals: at.u8()? })
    }
}

/// A prepared statement.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) id: u32,
    /// Question marks in it.
    pub(crate) parameters: u16,
    pub(crate) columns: Vec<ColumnDefinition>,
}

impl Connection {
    pub(crate) async fn prepare(&mut self, doing: &str, sql: &str) -> Result<Prepared, Failure> {
        let mut payload = Vec::with_capacity(sql.len() + 1);
        payload.push(COM_STMT_PREPARE);
        payload.extend_from_slice(sql.as_bytes());
        let head = self.exchange(doing, &payload).await?;
        let mut at = Cursor::new(&head);
        let mut numbers = || -> Result<(u32, u16, u16), Short> {
            at.u8()?;
            Ok((at.u32()?, at.u16()?, at.u16()?))
        };
        let (id, columns, parameters) = numbers().map_err(|Short| self.malformed(doing))?;
        self.definitions(doing, parameters.into()).await?;
        let columns = self.definitions(doing, columns.into()).await?;
        Ok(Prepared { id, parameters, columns })
    }

    /// Runs a statement; returns when its rows begin, which are the packets that follow.
    pub(crate) async fn execute(&mut self, doing: &str, id: u32) -> Result<Vec<ColumnDefinition>, Failure> {
        let mut payload = vec![COM_STMT_EXECUTE];
        payload.extend_from_slice(&id.to_le_bytes());
        // no cursor, once
        payload.extend_from_slice(&[0, 1, 0, 0, 0]);
        let head = self.exchange(doing, &payload).await?;
        let columns = Cursor::new(&head).lenenc().map_err(|Short| self.malformed(doing))?;
        self.definitions(doing, columns).await
    }

    /// Forgets a statement; the server doesn't answer.
    pub(crate) async fn close_statement(&mut self, id: u32) -> Result<(), SourceError> {
        let mut payload = vec![COM_STMT_CLOSE];
        payload.extend_from_slice(&id.to_le_bytes());
        self.wire.command(&payload).await.map_err(|error| self.lost("closing a statement", &error))
    }

    /// Sends a command and reads the first packet of its answer, which is no error.
    async fn exchange(&mut self, doing: &str, payload: &[u8]) -> Result<bytes::Bytes, Failure> {
        let sent = self.wire.command(payload).await;
        sent.map_err(|error| self.lost(doing, &error))?;
        let head = self.wire.read(self.read_timeout).await.map_err(|error| self.lost(doing, &error))?;
        match head.first() {
            Some(0xff) => Err(Failure::Server(handshake::parse_error(&head))),
            _ => Ok(head),
        }
    }

    /// `count` column definitions and the EOF packet behind them; nothing if there are none.
    async fn definitions(&mut self, doing: &str, count: u64) -> Result<Vec<ColumnDefinition>, Failure> {
        let mut found = Vec::new();
        for _ in 0..count {
            let packet = self.wire.read(self.read_timeout).await.map_err(|error| self.lost(doing, &error))?;
            if packet.first() == Some(&0xff) {
                return Err(Failure::Server(handshake::parse_error(&packet)));
            }
            found.push(ColumnDefinition::parse(&packet).map_err(|Short| self.malformed(doing))?);
        }
        if count > 0 {
            let end = self.wire.read(self.read_timeout).await.map_err(|error| self.lost(doing, &error))?;
            match end.first() {
                Some(0xfe) if end.len() < 9 => {}
                Some(0xff) => return Err(Failure::Server(handshake::parse_error(&end))),
                _ => return Err(self.malformed(doing).into()),
            }
        }
        Ok(found)
    }

    pub(crate) fn lost(&self, doing: &str, error: &WireError) -> SourceError {
        self.place.transient(format_args!("{doing}: {error}"))
    }

    pub(crate) fn malformed(&self, doing: &str) -> SourceError {
        self.place.protocol(format_args!("{doing}: a malformed result"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_definition_is_read_and_damage_is_refused() {
        let mut bytes = b"\x03def\x01d\x01t\x01t\x01a\x01A\x0c\x3f\x00\x0b\0\0\0\x03\x03\x50\x06\0\0".to_vec();
        let found = ColumnDefinition::parse(&bytes).unwrap();
        assert_eq!((found.name.as_slice(), found.column.as_slice()), (&b"a"[..], &b"A"[..]));
        assert_eq!((found.collation, found.length, found.kind), (63, 11, 3));
        assert_eq!((found.flags, found.decimals), (0x5003, 6));
        while bytes.pop().is_some() {
            let _ = ColumnDefinition::parse(&bytes);
        }
    }
}
