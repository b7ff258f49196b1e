//! What a run copies: the checkpoint's word on each table, the configuration's wish, and what is there.

use rowcast_core::Position;

use super::state::{CopyState, Settled, TableId, Tables};
use crate::checkpoint::Checkpoint;
use crate::config::{BackfillConfig, BackfillMode};

/// What a run begins with.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Start {
    /// Copies to be made, in this order.
    pub copies: Vec<CopyState>,
    /// Tables that aren't copied, or not any more.
    pub tables: Tables,
    /// What an operator should know.
    pub notes: Vec<String>,
}

/// Decides it. `captured` are the tables that are there and captured now.
///
/// A table that isn't captured any more is forgotten, so that it is copied again when it comes back. One that could not be copied is
/// tried again; one that can't be followed stays stopped until an operator asks for a copy. A checkpoint of version 1 that has a position knows no tables: they streamed before there were copies, and go on.
pub fn start(checkpoint: Option<&Checkpoint>, config: &BackfillConfig, captured: &[TableId]) -> Start {
    let mut it = Start::default();
    match checkpoint.and_then(|checkpoint| checkpoint.tables.clone()) {
        Some(tables) => it.tables = Tables::clone(&tables),
        None if position(checkpoint).is_some() && !captured.is_empty() => {
            it.tables = captured.iter().map(|id| (id.clone(), Settled::Skipped)).collect();
            it.notes.push(
                "the checkpoint is of a version without copies of tables: the rows that were there before are taken as known; \
                 `rowcast backfill` sends them"
                    .to_owned(),
            );
        }
        None => {}
    }
    it.tables.retain(|id, settled| captured.contains(id) && !matches!(settled, Settled::Failed { .. }));
    it.notes.extend(it.tables.iter().filter_map(|(id, settled)| match settled {
        Settled::Stopped { why } => Some(format!("{id} stays stopped: {why}")),
        _ => None,
    }));
    let never = config.mode == BackfillMode::Never;
    let kept = checkpoint.map_or(&[][..], |checkpoint| &checkpoint.copies).iter();
    let stopped = |id: &TableId| matches!(it.tables.get(id), Some(Settled::Stopped { .. }));
    it.copies = kept
        .filter(|copy| captured.contains(&copy.id) && (copy.requested || !never) && !stopped(&copy.id))
        .cloned()
        .collect();
    if never {
        return it;
    }
    let wanted: Vec<(TableId, Option<String>)> = match &config.tables {
        Some(tables) => tables
            .iter()
            .map(|it| (TableId { qualifier: it.qualifier.clone(), table: it.table.clone() }, it.filter.clone()))
            .collect(),
        None => captured.iter().map(|id| (id.clone(), None)).collect(),
    };
    for (id, filter) in wanted {
        if !captured.contains(&id) {
            it.notes.push(format!("`backfill` names {id}, which isn't there: nothing is copied of it"));
        } else if !it.tables.contains_key(&id) && !it.copies.iter().any(|copy| copy.id == id) {
            it.copies.push(CopyState::new(id, filter, None, None));
        }
    }
    it
}

/// What a run copies that begins behind a gap: every captured table, whatever was done of it before, and also if `backfill` says
/// never or names some only.
pub fn anew(config: &BackfillConfig, captured: &[TableId]) -> Start {
    let filter = |id: &TableId| {
        let listed = config.tables.iter().flatten().find(|it| it.qualifier == id.qualifier && it.table == id.table);
        listed.and_then(|it| it.filter.clone())
    };
    let copy = |id: &TableId| {
        let filter = filter(id);
        // a copy that was asked for goes on in later runs also if `backfill` says never
        CopyState { requested: filter.is_none(), ..CopyState::new(id.clone(), filter, None, None) }
    };
    Start { copies: captured.iter().map(copy).collect(), ..Start::default() }
}

fn position(checkpoint: Option<&Checkpoint>) -> Option<&Position> {
    checkpoint.and_then(|checkpoint| checkpoint.position.as_ref())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use rowcast_core::{LogPosition, Lsn};

    use super::*;
    use crate::config::BackfillTable;

    fn id(table: &str) -> TableId {
        TableId { qualifier: "public".into(), table: table.into() }
    }

    fn ids(tables: &[&str]) -> Vec<TableId> {
        tables.iter().map(|table| id(table)).collect()
    }

    fn config(mode: BackfillMode) -> BackfillConfig {
        BackfillConfig { mode, ..BackfillConfig::default() }
    }

    fn copied(start: &Start) -> Vec<&str> {
        start.copies.iter().map(|copy| copy.id.table.as_str()).collect()
    }

    fn checkpoint(tables: Option<Tables>) -> Checkpoint {
        let position = Some(Position::boundary(LogPosition::Lsn(Lsn(1))));
        Checkpoint { position, tables: tables.map(std::sync::Arc::new), ..Checkpoint::claim("shop", "a") }
    }

    #[test]
    fn the_first_start_copies_all_and_never_means_never() {
        let initial = config(BackfillMode::Initial);
        assert_eq!(copied(&start(None, &initial, &ids(&["a", "b"]))), ["a", "b"]);
        let claimed = Checkpoint::claim("shop", "a");
        assert_eq!(copied(&start(Some(&claimed), &initial, &ids(&["a"]))), ["a"]);
        assert!(start(None, &config(BackfillMode::Never), &ids(&["a"])).copies.is_empty());
    }

    #[test]
    fn added_tables_are_copied_and_removed_ones_forgotten() {
        let known = checkpoint(Some(Tables::from([(id("a"), Settled::Copied), (id("gone"), Settled::Copied)])));
        let it = start(Some(&known), &config(BackfillMode::Initial), &ids(&["a", "new"]));
        assert_eq!(copied(&it), ["new"]);
        assert_eq!(it.tables.keys().collect::<Vec<_>>(), [&id("a")]);
    }

    #[test]
    fn a_copy_in_progress_goes_on_and_a_failed_one_is_tried_again() {
        let mut known = checkpoint(Some(Tables::from([(id("bad"), Settled::Failed { why: "x".into() })])));
        known.copies.push(CopyState { rows: 7, ..CopyState::new(id("b"), None, None, None) });
        let it = start(Some(&known), &config(BackfillMode::Initial), &ids(&["bad", "b"]));
        assert_eq!((copied(&it), it.copies[0].rows), (vec!["b", "bad"], 7));
        assert!(start(Some(&known), &config(BackfillMode::Never), &ids(&["bad", "b"])).copies.is_empty());
    }

    #[test]
    fn a_stopped_table_stays_stopped() {
        let stopped = Settled::Stopped { why: "x".into() };
        let mut known = checkpoint(Some(Tables::from([(id("bad"), stopped.clone())])));
        known.copies.push(CopyState::new(id("bad"), None, None, None));
        let it = start(Some(&known), &config(BackfillMode::Initial), &ids(&["bad"]));
        assert_eq!((copied(&it).len(), it.tables.get(&id("bad"))), (0, Some(&stopped)));
    }

    #[test]
    fn behind_a_gap_everything_is_copied_again() {
        let it = anew(&config(BackfillMode::Never), &ids(&["a", "b"]));
        assert_eq!((copied(&it), it.tables.len()), (vec!["a", "b"], 0));
        let known = Checkpoint { copies: it.copies, ..checkpoint(Some(it.tables)) };
        assert_eq!(copied(&start(Some(&known), &config(BackfillMode::Never), &ids(&["a", "b"]))), ["a", "b"]);
    }

    #[test]
    fn a_list_says_which_and_in_what_order() {
        let table = |name: &str, filter: Option<&str>| BackfillTable {
            qualifier: "public".into(),
            table: name.into(),
            filter: filter.map(str::to_owned),
        };
        let tables = Some(vec![table("c", None), table("a", Some("id > 5")), table("missing", None)]);
        let it = start(None, &BackfillConfig { tables, ..BackfillConfig::default() }, &ids(&["a", "b", "c"]));
        assert_eq!(copied(&it), ["c", "a"]);
        assert_eq!(it.copies[1].filter.as_deref(), Some("id > 5"));
        assert!(it.notes[0].contains("missing"));
    }

    #[test]
    fn a_checkpoint_from_before_copies_streams_on() {
        let it = start(Some(&checkpoint(None)), &config(BackfillMode::Initial), &ids(&["a"]));
        assert!(it.copies.is_empty() && it.tables[&id("a")] == Settled::Skipped && it.notes.len() == 1);
    }
}
