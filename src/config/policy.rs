//! What is done where something is lost or can't be delivered: `on_gap`, `on_poison` and `on_table_failure`.

use std::fmt;

use super::reader::Section;

/// What follows when the server no longer has what comes behind the checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnGap {
    /// The source stops.
    #[default]
    Fail,
    /// All captured tables are voided downstream and copied again, and the stream goes on at the server's end.
    Backfill,
}

/// What becomes of an event that can't be encoded or that its topic doesn't take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnPoison {
    /// The source stops before it.
    #[default]
    Fail,
    /// Its place, the reason and its key go to the topic `rowcast.dead_letter.<name>`.
    DeadLetter,
    /// It is left out, counted and logged.
    Skip,
}

/// What follows when a table can't be followed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnTableFailure {
    /// No event of it is published any more, until it was copied anew; all others go on.
    #[default]
    StopTable,
    /// The source stops before it.
    StopSource,
}

const GAP: [(&str, OnGap); 2] = [("fail", OnGap::Fail), ("backfill", OnGap::Backfill)];
const POISON: [(&str, OnPoison); 3] =
    [("fail", OnPoison::Fail), ("dead_letter", OnPoison::DeadLetter), ("skip", OnPoison::Skip)];

const TABLE_FAILURE: [(&str, OnTableFailure); 2] =
    [("stop_table", OnTableFailure::StopTable), ("stop_source", OnTableFailure::StopSource)];

fn word<T: PartialEq>(words: &[(&'static str, T)], it: &T) -> &'static str {
    words.iter().find(|(_, value)| value == it).map_or("", |(word, _)| word)
}

impl fmt::Display for OnGap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(word(&GAP, self))
    }
}

impl fmt::Display for OnPoison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(word(&POISON, self))
    }
}

impl fmt::Display for OnTableFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(word(&TABLE_FAILURE, self))
    }
}

/// Reads a policy, or takes its default; `None` after a report.
fn choice<T: Copy + Default>(root: &Section<'_>, key: &str, words: &[(&'static str, T)]) -> Option<T> {
    if root.has(key) { root.choice(key, words) } else { Some(T::default()) }
}

/// Reads all three; `None` after a report.
pub(crate) fn read(root: &Section<'_>) -> Option<(OnGap, OnPoison, OnTableFailure)> {
    let (gap, poison) = (choice(root, "on_gap", &GAP), choice(root, "on_poison", &POISON));
    let table_failure = choice(root, "on_table_failure", &TABLE_FAILURE);
    Some((gap?, poison?, table_failure?))
}
