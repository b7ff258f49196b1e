//! Ranges of places in a table: their text, how a table is cut into them, and their SQL.
//!
//! ```text
//! 16401/16423:0-1000         blocks 0 to 999 of table (or partition) 16401, whose file is 16423
//! 16401/16423:12.5-1000      what is left of it behind the row (12,5)
//! ```
//!
//! The file changes when the server rewrites the table (VACUUM FULL, CLUSTER, TRUNCATE, some ALTER TABLE): then rows have
//! moved and the blocks mean nothing any more. A text that isn't written exactly like this is no range.

use std::fmt;

use crate::wire::Wire;

/// A row's place, as `ctid` has it. Offsets count from 1; with 0 the block's beginning is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tid {
    pub(super) block: u32,
    pub(super) offset: u16,
}

impl Tid {
    /// Reads the binary form (`tidsend`).
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut wire = Wire::new(bytes);
        let tid = Self { block: wire.u32()?, offset: wire.u16()? };
        (wire.left() == 0).then_some(tid)
    }
}

/// A block that no table has: ranges may end there, which is "at the table's end".
pub(super) const NO_BLOCK: u32 = u32::MAX;

/// A range, or what is left of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    /// Oid of the table or partition.
    pub(super) leaf: u32,
    /// Its file when the range was made (`pg_relation_filenode`).
    pub(super) file: u32,
    /// Rows behind this place.
    pub(super) from: Tid,
    /// Blocks before this one.
    pub(super) to: u32,
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.leaf, self.file, self.from.block)?;
        if self.from.offset > 0 {
            write!(f, ".{}", self.from.offset)?;
        }
        write!(f, "-{}", self.to)
    }
}

impl Range {
    /// Reads a range's text; none unless it is exactly what [`Range`] writes.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (leaf, rest) = text.split_once('/')?;
        let (file, rest) = rest.split_once(':')?;
        let (from, to) = rest.split_once('-')?;
        let (block, offset) = from.split_once('.').unwrap_or((from, "0"));
        let range = Self {
            leaf: leaf.parse().ok()?,
            file: file.parse().ok()?,
            from: Tid { block: block.parse().ok()?, offset: offset.parse().ok()? },
            to: to.parse().ok()?,
        };
        (range.from.block <= range.to && range.to_string() == text).then_some(range)
    }

    /// What is left behind a place.
    pub(super) fn behind(self, from: Tid) -> Self {
        Self { from, ..self }
    }

    /// The condition on `ctid` for its rows before block `until`, for a server that scans ranges of tids (14 and later).
    pub(super) fn condition(self, until: u32) -> String {
        let Tid { block, offset } = self.from;
        let from = if offset == 0 { ">=" } else { ">" };
        format!("ctid {from} '({block},{offset})'::tid AND ctid < '({until},0)'::tid")
    }

    /// The same for PostgreSQL 13, which fetches rows by tid but doesn't scan ranges: every tid that a block of this size
    /// can hold (`MaxHeapTuplesPerPage`). The server sorts them and skips those that aren't there.
    pub(super) fn condition_13(self, until: u32, block_size: u32) -> String {
        let Tid { block, offset } = self.from;
        let most = block_size.saturating_sub(24) / 28;
        let last = i64::from(until) - 1;
        let behind = if offset == 0 { String::new() } else { format!(" AND ctid > '({block},{offset})'::tid") };
        format!(
            "ctid = ANY (ARRAY(SELECT format('(%s,%s)', b, o)::tid FROM generate_series({block}::int8, {last}::int8) AS b, \
             generate_series(1, {most}) AS o)){behind}"
        )
    }
}

/// A range isn't made smaller than this.
const LEAST_BLOCKS: u32 = 64;

/// Cuts tables, given by oid, file and number of blocks, into about `count` ranges of like size.
pub(super) fn cut(leaves: impl Iterator<Item = (u32, u32, u32)> + Clone, count: usize) -> Vec<Range> {
    let total: u64 = leaves.clone().map(|(.., blocks)| u64::from(blocks)).sum();
    let count = u64::try_from(count.max(1)).unwrap_or(u64::MAX);
    let size = u32::try_from(total.div_ceil(count)).unwrap_or(NO_BLOCK).max(LEAST_BLOCKS);
    let mut ranges = Vec::new();
    for (leaf, file, blocks) in leaves {
        let parts = u64::from(blocks.div_ceil(size));
        // like parts instead of whole ones and a rest
        let edge = |part: u64| u32::try_from(u64::from(blocks) * part / parts.max(1)).unwrap_or(blocks);
        for part in 0..parts {
            let from = Tid { block: edge(part), offset: 0 };
            ranges.push(Range { leaf, file, from, to: edge(part + 1) });
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_range_is_read_as_it_is_written() {
        for text in ["16401/16423:0-1000", "16401/16423:12.5-1000", "1/2:3-4294967295", "1/2:7-7"] {
            assert_eq!(Range::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_damaged_range_is_none() {
        for text in [
            "",
            "0-1000",
            "1/2:5-4",
            "1/2:05-6",
            "1/2:+5-6",
            "1/2:5.0-6",
            "1/2:5.-6",
            "1/2:5.70000-6",
            "1/2:5-6 ",
            "1/2:5-4294967296",
            "x/2:5-6",
            "1:5-6",
            "1/2:5",
            "1/2:5-6-7",
            "1/2:'-6",
        ] {
            assert_eq!(Range::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_tid_has_six_bytes() {
        assert_eq!(Tid::parse(b"\0\x01\0\x02\0\x05"), Some(Tid { block: 65_538, offset: 5 }));
        for bytes in [&b""[..], b"(1,5)", b"\0\0\0\0\0\0\0"] {
            assert_eq!(Tid::parse(bytes), None);
        }
    }

    #[test]
    fn tables_are_cut_without_gap_or_overlap() {
        let leaves = [(1, 11, 1000), (2, 12, 0), (3, 13, 65), (4, 14, 10)];
        let ranges = cut(leaves.into_iter(), 8);
        for (leaf, file, blocks) in leaves {
            let mut at = 0;
            for range in ranges.iter().filter(|range| range.leaf == leaf) {
                assert_eq!((range.from, range.file), (Tid { block: at, offset: 0 }, file));
                assert!(range.to > at && range.to - at <= 135);
                at = range.to;
            }
            assert_eq!(at, blocks);
        }
        assert_eq!(cut([(1, 1, 10)].into_iter(), 100).len(), 1);
        assert_eq!(cut([(1, 1, u32::MAX - 1)].into_iter(), 1).len(), 1);
        assert!(cut(std::iter::empty(), 4).is_empty());
    }

    #[test]
    fn conditions_begin_behind_the_row_that_was_read_last() {
        let range = Range::parse("1/2:12.5-1000").unwrap();
        assert_eq!(range.condition(100), "ctid > '(12,5)'::tid AND ctid < '(100,0)'::tid");
        let fresh = Range::parse("1/2:12-1000").unwrap();
        assert_eq!(fresh.condition(1000), "ctid >= '(12,0)'::tid AND ctid < '(1000,0)'::tid");
        assert_eq!(
            range.condition_13(14, 8192),
            "ctid = ANY (ARRAY(SELECT format('(%s,%s)', b, o)::tid FROM generate_series(12::int8, 13::int8) AS b, \
             generate_series(1, 291) AS o)) AND ctid > '(12,5)'::tid"
        );
        assert!(!fresh.condition_13(14, 8192).contains("ctid >"));
    }
}
