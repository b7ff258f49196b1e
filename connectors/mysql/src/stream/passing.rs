//! Passing over the binlog to find what is prepared in it: what is looked for, and when everything was looked at.

use std::collections::HashSet;

use rowcast_core::{LogPosition, Mark, Offset, Prepared};

use super::assembler::Assembler;

/// What a stream that gives nothing out looks for.
#[derive(Debug)]
pub(crate) struct Passing {
    /// Transactions behind this position are left to the stream that begins there.
    until: LogPosition,
    /// The positions of the PREPAREs that are looked for; none: whatever is prepared, and ended.
    wanted: Option<HashSet<String>>,
    /// A place in the log behind `until`.
    end: Offset,
}

impl Passing {
    pub(crate) fn new(until: LogPosition, wanted: Option<HashSet<String>>, end: Offset) -> Self {
        Self { until, wanted, end }
    }

    /// Whether a transaction is to be looked at.
    pub(crate) fn reaches(&self, mark: &Mark) -> bool {
        self.until.contains(mark)
    }

    /// Nothing more is to be found.
    pub(crate) fn is_over(&self, at: Offset) -> bool {
        at >= self.end || self.wanted.as_ref().is_some_and(HashSet::is_empty)
    }
}

impl Assembler {
    /// What the transaction in progress prepares or ends counts.
    pub(super) fn is_wanted(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.wanted)
    }

    /// Whether this PREPARE is to be kept.
    pub(super) fn looks_for(&mut self, prepared: &Prepared) -> bool {
        match self.passing.as_mut().and_then(|passing| passing.wanted.as_mut()) {
            Some(wanted) => wanted.remove(&prepared.pos),
            None => self.is_wanted(),
        }
    }

    /// Where the server has to begin to send the transaction in progress once more; none if its position says so by itself.
    pub(super) fn sent_from(&self) -> Option<String> {
        match &self.position {
            LogPosition::Gtid(_) => None,
            before => Some(before.to_string()),
        }
    }
}
