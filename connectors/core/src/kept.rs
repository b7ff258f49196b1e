//! What a connector tells the daemon of single tables besides their rows: that one can't be followed any more, and what it wants to
//! know of their columns in later runs.
//!
//! Both are events ([`crate::Event`]) and take effect where they stand in the stream: the daemon commits them with the position, so
//! that a restart knows of them exactly if it goes on behind them.

use crate::schema::TableName;

/// A table that can't be followed from here on: what its rows are isn't known, or changes of it aren't in the log.
///
/// The connector may go on with events of the table as soon as it can, and says this again whenever it leaves some out. Whether they
/// are published is the daemon's matter: not before the table was copied anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFailure {
    /// Which.
    pub table: TableName,
    /// What happened, where, and what to do about its cause. Without values.
    pub why: String,
}

/// What a connector wants to be told of a table in later runs ([`crate::Begin::At`]): a text of its own, which the daemon keeps with the
/// position and never looks into. For what the log doesn't say and the server knows only as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptSchema {
    /// Of which table; there is one text per table.
    pub table: TableName,
    /// From which position on it holds, for people.
    pub from: String,
    /// The text; none: what was kept holds no longer.
    pub text: Option<String>,
}
