//! Logical messages (`pg_logical_emit_message`): which are given out, and as what.
//!
//! One inside of a transaction counts in it as a row does; one outside is a transaction of its own.

use rowcast_core::event::Message as LogMessage;
use rowcast_core::{Event, Lsn, SourceError};

use super::super::message::Tuple;
use super::{Assembler, broken, is_left_out, span};

/// Which logical messages are given out: by prefix.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum MessageFilter {
    /// All.
    #[default]
    All,
    /// Those with one of these prefixes; `*` at the end of one stands for any rest.
    Prefixes(Vec<String>),
}

impl MessageFilter {
    pub(super) fn matches(&self, prefix: &[u8]) -> bool {
        match self {
            Self::All => true,
            Self::Prefixes(patterns) => patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(start) => prefix.starts_with(start.as_bytes()),
                None => prefix == pattern.as_bytes(),
            }),
        }
    }
}

impl Assembler {
    /// A message that isn't transactional is decoded at once, between transactions, and holds by itself: it is given
    /// out as a transaction of its own, with an empty id.
    ///
    /// Its LSN is the end of its record (`logicalmsg_decode` passes `buf->endptr`), which is where the next record may
    /// begin: exactly this position, and not one more, skips the message and nothing else when the stream resumes.
    /// That next record may be a commit, whose position would then be the same; one byte less, inside the message's
    /// own record, is a position that no commit has, so that event ids stay unique.
    pub(super) fn logical(
        &mut self,
        (transactional, lsn): (bool, u64),
        name: &[u8],
        (prefix, content): (Tuple, Tuple),
        offset: usize,
    ) -> Result<(), SourceError> {
        let (prefix, content) = (span(prefix, offset)?, span(content, offset)?);
        if transactional != self.transaction.is_some() {
            return Err(broken("a logical message at the wrong side of a transaction"));
        }
        let wanted = self.messages.matches(name);
        if transactional {
            // counted all the same: the ordinals of the rows behind it must not depend on what is wanted
            self.seq += 1;
            let left_out = is_left_out(self.left_out, self.transaction.as_deref(), lsn);
            if wanted && !self.passing && !left_out {
                self.collected.events.push(Event::Message(LogMessage {
                    seq: self.seq,
                    lsn: Lsn(lsn),
                    prefix,
                    content,
                }));
            }
            return Ok(());
        }
        self.reached(lsn);
        if !wanted || lsn <= self.start {
            return Ok(());
        }
        // the server says no time for it
        self.begin(lsn.saturating_sub(1), 0, None)?;
        self.collected.events.push(Event::Message(LogMessage { seq: 1, lsn: Lsn(lsn), prefix, content }));
        self.commit(lsn)
    }
}
