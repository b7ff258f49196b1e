//! The messages of pgoutput, protocol versions 1 and 2, as slices of the payload.
//!
//! Forms: <https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html>. Nothing is read
//! outside the payload; a message that is cut short, of an unknown kind, or of a mode that was not asked for
//! (streaming, two-phase) is an error that names it.

use crate::wire::Wire;

/// Microseconds between 1970-01-01 and 2000-01-01, the server's epoch.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// A message that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MessageError {
    #[error("a {0} message of pgoutput is damaged")]
    Damaged(&'static str),
    #[error("pgoutput sent {0}, which was not asked for")]
    NotAskedFor(&'static str),
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
    Origin,
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
    },
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
        b'O' => ("Origin", Some(Message::Origin)),
        b'S' => return Err(MessageError::NotAskedFor("Stream Start (a transaction in progress)")),
        b'E' => return Err(MessageError::NotAskedFor("Stream Stop (a transaction in progress)")),
        b'c' => return Err(MessageError::NotAskedFor("Stream Commit (a transaction in progress)")),
        b'A' => return Err(MessageError::NotAskedFor("Stream Abort (a transaction in progress)")),
        b'b' => return Err(MessageError::NotAskedFor("Begin Prepare (a two-phase commit)")),
        b'P' => return Err(MessageError::NotAskedFor("Prepare (a two-phase commit)")),
        b'K' => return Err(MessageError::NotAskedFor("Commit Prepared (a two-phase commit)")),
        b'r' => return Err(MessageError::NotAskedFor("Rollback Prepared (a two-phase commit)")),
        b'p' => return Err(MessageError::NotAskedFor("Stream Prepare (a two-phase commit)")),
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
    let prefix = Tuple { start, length: wire.until_zero()?.len() };
    let length = wire.u32()? as usize;
    let content = Tuple { start: wire.at(), length };
    wire.take(length)?;
    Some(Message::Logical { transactional, lsn, prefix, content })
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

    #[test]
    fn modes_that_were_not_asked_for_are_named() {
        assert!(parse(b"S\0\0\0\x01\x01").unwrap_err().to_string().contains("Stream Start"));
        assert!(parse(b"b").unwrap_err().to_string().contains("Begin Prepare"));
        assert_eq!(parse(b"?").unwrap_err(), MessageError::Unknown(b'?'));
        assert_eq!(parse(b"T\xff\xff\xff\xff\0").unwrap_err(), MessageError::Damaged("Truncate"));
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
