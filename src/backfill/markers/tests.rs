#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
use std::sync::Arc;

use rowcast_core::backfill::{Offset, Plan, Reading, Snapshot};
use rowcast_core::{LogPosition, Lsn, TableName};

use super::super::board::Work;
use super::super::state::{CopyState, TableId, Tables};
use super::super::watch::WatchList;
use super::*;

fn id(table: &str) -> TableId {
    TableId { qualifier: "public".into(), table: table.into() }
}

fn copy(table: &str) -> CopyState {
    CopyState { copy: table.to_owned(), ..CopyState::new(id(table), None, None, None) }
}

fn snapshot() -> Snapshot {
    Snapshot::Xids { xmin: 9, xmax: 9, running: vec![] }
}

/// A board whose readers have planned all tables, with ranges of these names.
fn board(copies: Vec<CopyState>, ranges: &[&str]) -> Board {
    let board = Board::new(copies, Tables::new(), 9, WatchList::default());
    let work: Vec<Work> = std::iter::from_fn(|| board.take()).collect();
    for copy in work.iter().map(Work::copy) {
        let name = TableName { db: "d".into(), schema: Some("public".into()), table: copy.id.table.as_str().into() };
        let ranges = ranges.iter().map(|it| (*it).to_owned()).collect();
        let plan = Plan { name, keyed: true, rows_move: false, ranges, rows: None, bytes: None };
        assert!(board.planned(&copy.copy, &plan));
        board.gate(&copy.copy, &snapshot());
        board.ready(&copy.copy);
    }
    board
}

fn piece(copy: &str, index: usize, rest: Option<&str>) -> PieceOf {
    let bound = Offset { file: 0, byte: 1 };
    let reading = Reading { snapshot: snapshot(), bound, pos: String::new(), file: String::new(), now_us: 0 };
    PieceOf {
        copy: copy.to_owned(),
        part: Part::Range { index, epoch: 0 },
        reading: Arc::new(reading),
        rest: rest.map(str::to_owned),
        rows: 1,
        bytes: 1,
    }
}

/// Publishes a piece of `rows` rows.
fn publish(board: &Board, of: &PieceOf, rows: usize) -> [Option<&'static str>; 2] {
    let verdict = board.judge(of, &[], rows, &LogPosition::Lsn(Lsn(1)));
    assert_eq!(verdict.publish.iter().map(|it| it.len()).sum::<usize>(), rows);
    let markers = if rows > 0 { board.mark(&of.copy) } else { Markers::default() };
    [markers.first.map(Marker::as_str), markers.last.map(Marker::as_str)]
}

/// The copies as a checkpoint brings them back.
fn kept(board: &Board) -> Vec<CopyState> {
    let text = serde_json::to_string(&board.to_keep().0).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn the_first_and_the_last_of_each_table_and_of_all_are_told() {
    let board = board(vec![copy("a"), copy("b")], &["r0", "r1"]);
    assert_eq!(publish(&board, &piece("a", 0, Some("r")), 3), [Some("first"), None]);
    assert_eq!(publish(&board, &piece("b", 0, None), 1), [Some("first_in_data_collection"), None]);
    assert_eq!(publish(&board, &piece("a", 0, None), 2), [None, None]);
    assert_eq!(publish(&board, &piece("a", 1, None), 2), [None, Some("last_in_data_collection")]);
    assert!(board.take_finished().is_some());
    assert_eq!(publish(&board, &piece("b", 1, None), 2), [None, Some("last")]);
    assert!(board.take_finished().is_some() && !board.is_busy());
}

#[test]
fn one_row_says_what_weighs_most() {
    let told = |first, last| Markers { first: Some(first), last: Some(last) }.of_one().unwrap().as_str();
    assert_eq!(told(Marker::First, Marker::Last), "last");
    assert_eq!(told(Marker::First, Marker::LastInDataCollection), "first");
    assert_eq!(told(Marker::FirstInDataCollection, Marker::LastInDataCollection), "last_in_data_collection");
    assert_eq!(Markers { first: Some(Marker::First), last: None }.of_one(), Some(Marker::First));
    assert_eq!(Markers::default().of_one(), None);
}

#[test]
fn a_restart_says_nothing_twice() {
    let first = board(vec![copy("a"), copy("b"), copy("c")], &["r0"]);
    assert_eq!(kept(&first).iter().filter(|it| it.begun || it.snapshot_begun).count(), 0);
    assert_eq!(publish(&first, &piece("a", 0, Some("r")), 3), [Some("first"), None]);
    let state = kept(&first);
    assert_eq!(
        state.iter().map(|it| (it.begun, it.snapshot_begun)).collect::<Vec<_>>(),
        [(true, true), (false, true), (false, true)]
    );
    let again = board(state, &["r0"]);
    assert_eq!(publish(&again, &piece("a", 0, None), 2), [None, Some("last_in_data_collection")]);
    assert!(again.take_finished().is_some());
    assert_eq!(
        publish(&again, &piece("b", 0, None), 2),
        [Some("first_in_data_collection"), Some("last_in_data_collection")]
    );
    // only a table of which nothing was published is left
    assert!(again.take_finished().is_some());
    let third = board(kept(&again), &["r0"]);
    assert_eq!(publish(&third, &piece("c", 0, None), 1), [Some("first_in_data_collection"), Some("last")]);
    // a run that told no markers has left the number of rows
    let older = CopyState { rows: 7, ranges: Some(vec!["r".into()]), ..copy("a") };
    assert_eq!(publish(&board(vec![older], &[]), &piece("a", 0, None), 1), [None, Some("last")]);
}

#[test]
fn a_snapshot_ends_with_its_last_table_and_the_next_begins_anew() {
    let it = board(vec![copy("a"), copy("b")], &["r0"]);
    assert_eq!(publish(&it, &piece("a", 0, None), 1), [Some("first"), Some("last_in_data_collection")]);
    it.take_finished().unwrap();
    // no row of the last table is left to be published
    assert_eq!(publish(&it, &piece("b", 0, None), 0), [None, None]);
    it.take_finished().unwrap();
    it.request(id("a"), None, None).unwrap();
    let again = board(kept(&it), &["r0"]);
    let copy = again.to_keep().0[0].copy.clone();
    assert_eq!(publish(&again, &piece(&copy, 0, None), 5), [Some("first"), Some("last")]);
    // a table that begins anew says so, the snapshot doesn't
    let anew = board(vec![self::copy("a")], &["r0"]);
    assert_eq!(publish(&anew, &piece("a", 0, Some("r")), 1), [Some("first"), None]);
    anew.start_over("a");
    let anew = board(kept(&anew), &["r0"]);
    assert_eq!(publish(&anew, &piece("a", 0, None), 2), [Some("first_in_data_collection"), Some("last")]);
}

#[test]
fn what_comes_behind_a_piece_is_known_before_it_is_judged() {
    let it = board(vec![copy("a"), copy("b")], &["r0", "r1"]);
    assert_eq!(it.behind(&piece("a", 0, None)), Behind::Rows);
    publish(&it, &piece("a", 0, None), 1);
    assert_eq!(it.behind(&piece("a", 1, Some("r"))), Behind::Rows);
    assert_eq!(it.behind(&piece("a", 1, None)), Behind::Tables);
    publish(&it, &piece("b", 0, None), 1);
    publish(&it, &piece("b", 1, None), 0);
    assert_eq!(it.behind(&piece("a", 1, None)), Behind::Nothing);
    assert_eq!(it.behind(&piece("gone", 1, None)), Behind::Nothing);
    // room is wanted as long as somebody waits for it
    assert!(!it.is_full());
    let waits = it.wants_room();
    assert!(it.is_full());
    drop(waits);
    assert!(!it.is_full());
}

#[test]
fn what_is_of_no_use_later_is_not_held_back() {
    let it = board(vec![copy("a"), copy("b")], &["r0"]);
    let running = Snapshot::Xids { xmin: 5, xmax: 9, running: vec![5] };
    it.gate("a", &running);
    let mut of = piece("a", 0, None);
    assert_eq!(it.behind(&of), Behind::Tables);
    let reading = Reading { snapshot: running, ..Reading::clone(&of.reading) };
    of.reading = Arc::new(reading);
    assert!(it.judge(&of, &[], 1, &LogPosition::Lsn(Lsn(1))).publish.is_empty(), "it isn't accepted");
    of.part = Part::Range { index: 0, epoch: 1 };
    assert_eq!(it.behind(&of), Behind::Nothing);
}

#[test]
fn another_table_is_read_while_the_last_rows_of_one_are_held_back() {
    let it = Board::new(vec![copy("a"), copy("b")], Tables::new(), 1, WatchList::default());
    assert!(matches!(it.take(), Some(Work::Prepare(copy)) if copy.copy == "a"));
    assert!(it.take().is_none(), "one at a time");
    it.hold_back("a");
    assert!(matches!(it.take(), Some(Work::Prepare(copy)) if copy.copy == "b"));
}
