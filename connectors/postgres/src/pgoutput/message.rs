//! The messages of pgoutput, protocol versions 1 to 4, as slices of the payload.
//!
//! Forms: <https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html>. Nothing is read
//! outside the payload; a message that is cut short or of an unknown kind is an error that names it.
//!
//! Between Stream Start and Stream Stop the messages of rows, relations and types have the id of their (sub-)transaction
//! behind their kind, which they don't say themselves: [`of_stream`] takes it off, and what is left reads as any other.

use crate::wire::Wire;

/// Microseconds between 1970-01-01 and 2000-01-01, the server's epoch.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// A message that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MessageError {
    #[error("a {0} message of pgoutput is damaged")]
    Damaged(&'static str),
    #[error("pgoutput sent an unknown message 0x{0:02x}")]
    Unknown(u8),
}

/// A tuple: offset and length within the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tuple {
    pub(crate) start: usize,
    pub(crate) length: usize,
}

/// What of the old row an update or delete holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Old {
    pub(crate) tuple: Tuple,
    /// `K`: columns of the replica identity only; else `O`: the whole row.
    pub(crate) key_only: bool,
}

/// A column of a Relation message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RelationColumn {
    /// Part of the replica identity; all columns with `REPLICA IDENTITY FULL`.
    pub(crate) identity: bool,
    pub(crate) name: String,
    pub(crate) oid: u32,
    pub(crate) typmod: i32,
}

/// A Relation message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Relation {
    pub(crate) id: u32,
    pub(crate) schema: String,
    pub(crate) table: String,
    /// `d` default, `n` nothing, `f` full, `i` index.
    pub(crate) replica_identity: u8,
    pub(crate) columns: Vec<RelationColumn>,
}

/// A message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    Begin {
        final_lsn: u64,
        commit_us: i64,
        xid: u32,
    },
    Commit {
        end_lsn: u64,
    },
    /// The replication origin of the transaction in progress, and its commit there; 0 of one that is streamed before its commit.
    Origin {
        lsn: u64,
        name: &'a str,
    },
    Relation(Relation),
    /// The name of a type that isn't built in; of a domain's base type for a domain (`logicalrep_write_typ`).
    Type {
        oid: u32,
        schema: &'a str,
        name: &'a str,
    },
    Insert {
        relation: u32,
        new: Tuple,
    },
    Update {
        relation: u32,
        old: Option<Old>,
        new: Tuple,
    },
    Delete {
        relation: u32,
        old: Old,
    },
    Truncate {
        relations: Relations<'a>,
    },
    Logical {
        transactional: bool,
        lsn: u64,
        prefix: Tuple,
        content: Tuple,
        /// The prefix's bytes.
        name: &'a [u8],
    },
    /// Rows of a transaction in progress follow; `first` if none came before.
    StreamStart {
        xid: u32,
        first: bool,
    },
    StreamStop,
    StreamCommit(Committed),
    /// Of the whole transaction if both ids are the same, else of a sub-transaction.
    StreamAbort {
        xid: u32,
        sub: u32,
    },
    /// The rows of a prepared transaction follow, up to Prepare.
    BeginPrepare(Prepared),
    Prepare {
        xid: u32,
    },
    /// The streamed transaction was prepared.
    StreamPrepare(Prepared),
    CommitPrepared(Committed),
    RollbackPrepared {
        xid: u32,
    },
}

/// A transaction that was sent before its commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) xid: u32,
    /// Of the commit record, as [`Message::Begin`] has it.
    pub(crate) commit_lsn: u64,
    pub(crate) end_lsn: u64,
    pub(crate) commit_us: i64,
}

/// A prepared transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Prepared {
    pub(crate) xid: u32,
    /// Of the record of PREPARE: a stream that starts behind it doesn't get the rows again.
    pub(crate) prepare_lsn: u64,
}

/// The relation ids of a Truncate message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Relations<'a>(&'a [[u8; 4]]);

impl Iterator for Relations<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*first))
    }
}

/// Reads one message.
pub(crate) fn parse(payload: &[u8]) -> Result<Message<'_>, MessageError> {
    let mut wire = Wire::new(payload);
    let kind = wire.u8().ok_or(MessageError::Damaged("empty"))?;
    let (name, message) = match kind {
        b'I' => ("Insert", insert(&mut wire)),
        b'U' => ("Update", update(&mut wire)),
        b'D' => ("Delete", delete(&mut wire)),
        b'B' => ("Begin", begin(&mut wire)),
        b'C' => ("Commit", commit(&mut wire)),
        b'R' => ("Relation", relation(&mut wire).map(Message::Relation)),
        b'Y' => ("Type", type_name(&mut wire)),
        b'T' => ("Truncate", truncate(&mut wire)),
        b'M' => ("Message", logical(&mut wire)),
        b'O' => ("Origin", origin(&mut wire)),
        b'S' => ("Stream Start", stream_start(&mut wire)),
        b'E' => ("Stream Stop", Some(Message::StreamStop)),
        b'c' => ("Stream Commit", stream_commit(&mut wire)),
        b'A' => ("Stream Abort", stream_abort(&mut wire)),
        b'b' => ("Begin Prepare", begin_prepare(&mut wire)),
        b'P' => ("Prepare", prepare(&mut wire).map(|it| Message::Prepare { xid: it.xid })),
        b'p' => ("Stream Prepare", prepare(&mut wire).map(Message::StreamPrepare)),
        b'K' => ("Commit Prepared", commit_prepared(&mut wire)),
        b'r' => ("Rollback Prepared", rollback_prepared(&mut wire)),
        other => return Err(MessageError::Unknown(other)),
    };
    message.ok_or(MessageError::Damaged(name))
}

fn begin<'a>(wire: &mut Wire<'a>) -> Option<Message<'a>> {
    let final_lsn = wire.u64()?;
    let commit_us = wire.i64()?.saturating_add(POSTGRES_EPOCH_US);
    Some(Message::Begin { final_lsn, commit_us, xid: wire.u32()? })
}

fn commit<'a>(wire: &mut Wire<'a>) -> Option<Message<'a>> {
    let _flags = wire.u8()?;
    let _commit_lsn = wire.u64()?;
    Some(Message::Commit { end_lsn: wire.u64()? })
}

fn origin<'a>(wire: &mut Wire<'a>) -> Option<Message<'a>> {
    Some(Message::Origin { lsn: wire.u64()?, name: wire.string()? })
}

fn stream_start<'a>(wire: &mut Wire<'a>) -> Option<Message<'a>> {
    Some(Message::StreamStart { xid: wire.u32()?, first: wire.u8()? == 1 })
}

fn stream_commit<'a>(wire: &mut Wire<'a>) -> Option<Message<'a>> {
    let xid = wire.u32()?;
    let _flags = wire.u8()?;
    committed(wire, Some(xid)).map(Message::StreamCommit)
}

/// Version 4 with `streaming 'parallel'` adds position and time, which nobody needs here.
fn stream_abort<'a>(wire: &mut Wire<'a>) -> Option<Message<'a>> {
    Some(Message::StreamAbort { xid: wire.u32()?, sub: wire.u32()? })
}

fn committed(wire: &mut Wire<'_>, xid: Option<u32>) -> Option<Committed> {
    let (commit_lsn, end_lsn) = (wire.u64()?, wire.u64()?);
    let commit_us = wire.i64()?.saturating_add(POSTGRES_EPOCH_US);
    let xid = match xid {
        Some(xid) => xid,
        None => wire.u32()?,
    };
    Some(Committed { xid, commit_lsn, end_lsn, commit_us })
}

fn prepared(wire: &mut Wire<'_>) -> Option<Prepared> {
    let prepare_lsn = wire.u64()?;
    let (_end_lsn, _time) = (wire.u64()?, wire.i64()?);
    Some(Prepared { prepare_lsn, xid: wire.u32()? })
}

fn begin_prepare<'a>(wire: &mut Wire<'a>) -> Option<Message<'a>> {
    prepared(wire).map(Message::BeginPrepare)
}

fn prepare(wire: &mut Wire<'_>) -> Option<Prepared> {
    let _flags = wire.u8()?;
    prepared(wire)
}

fn commit_prepared<'a>(wire: &mut Wire<'a>) -> Option<Message<'a>> {
    let _flags = wire.u8()?;
    committed(wire, None).map(Message::CommitPrepared)
}

fn rollback_prepared<'a>(wire: &mut Wire<'a>) -> Option<Message<'a>> {
    let _flags = wire.u8()?;
    let (_prepare_end, _rollback_end) = (wire.u64()?, wire.u64()?);
    let (_prepared_at, _rolled_back_at) = (wire.i64()?, wire.i64()?);
    Some(Message::RollbackPrepared { xid: wire.u32()? })
}

/// A message between Stream Start and Stream Stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OfStream<'a> {
    pub(crate) kind: u8,
    /// The (sub-)transaction that it belongs to.
    pub(crate) xid: u32,
    /// What follows the id: with the kind in front, a message that [`parse`] reads.
    pub(crate) rest: &'a [u8],
}

/// Takes the transaction's id off a message that has one; none for the others (Stream Stop, Origin).
pub(crate) fn of_stream(payload: &[u8]) -> Result<Option<OfStream<'_>>, MessageError> {
    let mut wire = Wire::new(payload);
    let kind = wire.u8().ok_or(MessageError::Damaged("empty"))?;
    if !matches!(kind, b'I' | b'U' | b'D' | b'T' | b'R' | b'Y' | b'M') {
        return Ok(None);
    }
    let mut split = || Some((wire.u32()?, wire.take(wire.left())?));
    let (xid, rest) = split().ok_or(MessageError::Damaged("streamed"))?;
    Ok(Some(OfStream { kind, xid, rest }))
}

fn relation(wire: &mut Wire<'_>) -> Option<Relation> {
    let id = wire.u32()?;
    // an empty namespace stands for pg_catalog (logicalrep_write_namespace)
    let schema = match wire.string()? {
        "" => "pg_catalog",
        schema => schema,
    };
    let (schema, table) = (schema.to_owned(), wire.string()?.to_owned());
    let replica_identity = wire.u8()?;
    let count = wire.u16()?;
    // no capacity from the count: a damaged one would allocate for nothing
    let mut columns = Vec::new();
    for _ in 0..count {
        let identity = wire.u8()? & 1 != 0;
        let name = wire.string()?.to_owned();
        columns.push(RelationColumn { identity, name, oid: wire.u32()?, typmod: wire.i32()? });
    }
    Some(Relation { id, schema, table, replica_identity, columns })
}

fn type_name<'a>(wire: &mut Wire<'a>) -> Option<Message<'a>> {
    Some(Message::Type { oid: wire.u32()?, schema: wire.string()?, name: wire.string()? })
}

/// The tuple that ends the message. It isn't walked: whoever decodes it checks it.
fn last(wire: &Wire<'_>) -> Tuple {
    Tuple { start: wire.at(), length: wire.left() }
}

/// A tuple with something behind it.
fn walked(wire: &mut Wire<'_>) -> Option<Tuple> {
    let start = wire.at();
    for _ in 0..wire.u16()? {
        match wire.u8()? {
            b'n' | b'u' => {}
            b't' | b'b' => {
                let length = wire.u32()?;
                wire.take(length as usize)?;
            }
            _ => return None,
        }
    }
    Some(Tuple { start, length: wire.at().checked_sub(start)? })
}

fn insert<'a>(wire: &mut Wire<'a>) -> Option<Message<'a>> {
    let relation = wire.u32()?;
    let new = wire.u8()?;
    (new == b'N').then(|| Message::Insert { relation, new: last(wire) })
}

fn update<'a>(wire: &mut Wire<'a>) -> Option<Message<'a>> {
    let relation = wire.u32()?;
    let mut kind = wire.u8()?;
    let mut old = None;
    if matches!(kind, b'K' | b'O') {
        old = Some(Old { tuple: walked(wire)?, key_only: kind == b'K' });
        kind = wire.u8()?;
    }
    (kind == b'N').then(|| Message::Update { relation, old, new: last(wire) })
}

fn delete<'a>(wire: &mut Wire<'a>) -> Option<Message<'a>> {
    let relation = wire.u32()?;
    let kind = wire.u8()?;
    matches!(kind, b'K' | b'O')
        .then(|| Message::Delete { relation, old: Old { tuple: last(wire), key_only: kind == b'K' } })
}

fn truncate<'a>(wire: &mut Wire<'a>) -> Option<Message<'a>> {
    let count = wire.u32()?;
    let _cascade_and_restart = wire.u8()?;
    let ids = wire.take((count as usize).checked_mul(4)?)?;
    Some(Message::Truncate { relations: Relations(ids.as_chunks().0) })
}

fn logical<'a>(wire: &mut Wire<'a>) -> Option<Message<'a>> {
    let transactional = wire.u8()? & 1 != 0;
    let lsn = wire.u64()?;
    let start = wire.at();
    let name = wire.until_zero()?;
    let prefix = Tuple { start, length: name.len() };
    let length = wire.u32()? as usize;
    let content = Tuple { start: wire.at(), length };
    wire.take(length)?;
    Some(Message::Logical { transactional, lsn, prefix, content, name })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn insert_bytes() -> Vec<u8> {
        [&b"I"[..], &7_u32.to_be_bytes(), b"N", b"\0\x01t\0\0\0\x01x"].concat()
    }

    fn update_bytes() -> Vec<u8> {
        [&b"U"[..], &7_u32.to_be_bytes(), b"K\0\x02t\0\0\0\x011n", b"N\0\x02nu"].concat()
    }

    fn relation_bytes() -> Vec<u8> {
        let mut bytes = [&b"R"[..], &7_u32.to_be_bytes(), b"public\0we\"ird.t\0d\0\x02"].concat();
        for (flag, name) in [(1, "id"), (0, "x")] {
            bytes.push(flag);
            bytes.extend_from_slice(name.as_bytes());
            bytes.push(0);
            bytes.extend_from_slice(&23_u32.to_be_bytes());
            bytes.extend_from_slice(&(-1_i32).to_be_bytes());
        }
        bytes
    }

    #[test]
    fn begin_holds_the_commit_time_in_unix_microseconds() {
        let bytes = [&b"B"[..], &100_u64.to_be_bytes(), &1_i64.to_be_bytes(), &42_u32.to_be_bytes()].concat();
        let expected = Message::Begin { final_lsn: 100, commit_us: 946_684_800_000_001, xid: 42 };
        assert_eq!(parse(&bytes).unwrap(), expected);
    }

    #[test]
    fn images_are_spans_of_the_payload() {
        let insert = insert_bytes();
        let Message::Insert { relation: 7, new } = parse(&insert).unwrap() else { panic!() };
        assert_eq!(&insert[new.start..new.start + new.length], b"\0\x01t\0\0\0\x01x");
        let update = update_bytes();
        let Message::Update { old: Some(old), new, .. } = parse(&update).unwrap() else { panic!() };
        assert!(old.key_only);
        assert_eq!(&update[old.tuple.start..old.tuple.start + old.tuple.length], b"\0\x02t\0\0\0\x011n");
        assert_eq!(&update[new.start..new.start + new.length], b"\0\x02nu");
    }

    #[test]
    fn a_relation_names_its_identity_columns() {
        let bytes = relation_bytes();
        let Message::Relation(relation) = parse(&bytes).unwrap() else { panic!() };
        assert_eq!((relation.schema.as_str(), relation.table.as_str()), ("public", "we\"ird.t"));
        let identity: Vec<bool> = relation.columns.iter().map(|column| column.identity).collect();
        assert_eq!(identity, [true, false]);
    }

    fn numbers(kind: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        [&[kind], parts].concat().concat()
    }

    #[test]
    fn transactions_in_progress_and_prepared_ones_are_read() {
        let (lsn, end, time, xid) =
            (100_u64.to_be_bytes(), 108_u64.to_be_bytes(), 1_i64.to_be_bytes(), 42_u32.to_be_bytes());
        let ended = Committed { xid: 42, commit_lsn: 100, end_lsn: 108, commit_us: 946_684_800_000_001 };
        let prepared = Prepared { xid: 42, prepare_lsn: 100 };
        let sub = 43_u32.to_be_bytes();
        let cases: Vec<(Vec<u8>, Message<'_>)> = vec![
            (numbers(b"S", &[&xid, &[1]]), Message::StreamStart { xid: 42, first: true }),
            (numbers(b"E", &[]), Message::StreamStop),
            (numbers(b"c", &[&xid, &[0], &lsn, &end, &time]), Message::StreamCommit(ended)),
            (numbers(b"A", &[&xid, &sub]), Message::StreamAbort { xid: 42, sub: 43 }),
            (numbers(b"A", &[&xid, &sub, &lsn, &time]), Message::StreamAbort { xid: 42, sub: 43 }),
            (numbers(b"b", &[&lsn, &end, &time, &xid, b"gid\0"]), Message::BeginPrepare(prepared)),
            (numbers(b"P", &[&[0], &lsn, &end, &time, &xid, b"gid\0"]), Message::Prepare { xid: 42 }),
            (numbers(b"p", &[&[0], &lsn, &end, &time, &xid, b"gid\0"]), Message::StreamPrepare(prepared)),
            (numbers(b"K", &[&[0], &lsn, &end, &time, &xid, b"gid\0"]), Message::CommitPrepared(ended)),
            (numbers(b"r", &[&[0], &lsn, &end, &time, &time, &xid, b"gid\0"]), Message::RollbackPrepared { xid: 42 }),
        ];
        for (bytes, expected) in cases {
            assert_eq!(parse(&bytes).unwrap(), expected);
            for end in 0..bytes.len() {
                let _ = parse(&bytes[..end]);
            }
        }
        assert_eq!(parse(b"?").unwrap_err(), MessageError::Unknown(b'?'));
        assert_eq!(parse(b"T\xff\xff\xff\xff\0").unwrap_err(), MessageError::Damaged("Truncate"));
    }

    #[test]
    fn a_streamed_message_says_its_transaction() {
        let insert = insert_bytes();
        let streamed = numbers(b"I", &[&43_u32.to_be_bytes(), &insert[1..]]);
        assert_eq!(of_stream(&streamed).unwrap(), Some(OfStream { kind: b'I', xid: 43, rest: &insert[1..] }));
        assert_eq!(of_stream(b"E").unwrap(), None);
        assert!(of_stream(b"I\0\0").is_err() && of_stream(b"").is_err());
    }

    #[test]
    fn messages_cut_anywhere_or_damaged_never_panic() {
        let logical = [&b"M\x01"[..], &9_u64.to_be_bytes(), b"p\0", &3_u32.to_be_bytes(), b"abc"].concat();
        let truncate = [&b"T"[..], &2_u32.to_be_bytes(), b"\0", &7_u32.to_be_bytes(), &8_u32.to_be_bytes()].concat();
        for bytes in [insert_bytes(), update_bytes(), relation_bytes(), logical, truncate] {
            assert!(parse(&bytes).is_ok());
            for end in 0..bytes.len() {
                let _ = parse(&bytes[..end]);
            }
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    let mut damaged = bytes.clone();
                    damaged[at] ^= 1 << bit;
                    let _ = parse(&damaged);
                }
            }
        }
    }
}
