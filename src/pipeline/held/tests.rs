#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use rowcast_core::TableName;
use rowcast_core::backfill::{Offset, Plan, Reading, Snapshot};

use super::*;
use crate::backfill::board::Work;
use crate::backfill::coordinator::Message;
use crate::backfill::state::{CopyState, TableId, Tables};
use crate::backfill::watch::WatchList;
use crate::pipeline::Encoded;

fn board(tables: &[&str]) -> Board {
    let copy = |table: &&str| {
        let id = TableId { qualifier: "public".into(), table: (*table).to_owned() };
        CopyState { copy: (*table).to_owned(), ..CopyState::new(id, None, None, None) }
    };
    Board::new(tables.iter().map(copy).collect(), Tables::new(), 9, WatchList::default())
}

/// The readers plan what is waiting, each with these ranges.
fn plan(board: &Board, ranges: &[&str]) {
    let work: Vec<Work> = std::iter::from_fn(|| board.take()).collect();
    for copy in work.iter().map(Work::copy) {
        let name = TableName { db: "d".into(), schema: Some("public".into()), table: copy.id.table.as_str().into() };
        let ranges = ranges.iter().map(|it| (*it).to_owned()).collect();
        board.planned(&copy.copy, &Plan { name, keyed: true, rows_move: false, ranges, rows: None, bytes: None });
        board.ready(&copy.copy);
    }
}

/// A piece of the first range.
fn piece(copy: &str, rows: u64, rest: Option<&str>) -> Message {
    let snapshot = Snapshot::Xids { xmin: 9, xmax: 9, running: vec![] };
    let reading = Reading { snapshot, bound: Offset::default(), pos: String::new(), file: String::new(), now_us: 0 };
    let of = PieceOf {
        copy: copy.to_owned(),
        part: Part::Range { index: 0, epoch: 0 },
        reading: Arc::new(reading),
        rest: rest.map(str::to_owned),
        rows,
        bytes: 1,
    };
    Message::Piece(ReadPiece { of, rows: tokio::spawn(async { Ok(Encoded::default()) }) })
}

/// What is to be judged next: the copy, and what is left of the range.
fn next(copies: &mut Copies, board: &Board) -> Option<(String, Option<String>)> {
    copies.next(board, true).map(|piece| (piece.of.copy, piece.of.rest))
}

fn is(copy: &str, rest: Option<&str>) -> Option<(String, Option<String>)> {
    Some((copy.to_owned(), rest.map(str::to_owned)))
}

fn older(copies: &mut Copies, by: Duration) {
    for held in &mut copies.held {
        held.since = Instant::now().checked_sub(by).unwrap();
    }
}

#[tokio::test]
async fn a_piece_waits_for_the_next_one_of_its_table() {
    let (board, mut copies) = (board(&["a"]), Copies::default());
    plan(&board, &["r"]);
    copies.take(piece("a", 5, Some("s")));
    assert_eq!(next(&mut copies, &board), None);
    copies.take(piece("a", 5, Some("t")));
    assert_eq!(next(&mut copies, &board), is("a", Some("s")));
    assert_eq!(next(&mut copies, &board), None);
    // without rows it tells where the one before ends
    copies.take(piece("a", 0, None));
    assert_eq!(next(&mut copies, &board), is("a", None));
    assert_eq!(next(&mut copies, &board), None);
}

#[tokio::test]
async fn nothing_is_held_for_long_nor_while_a_reader_has_no_room() {
    let (board, mut copies) = (board(&["a", "b"]), Copies::default());
    plan(&board, &["r"]);
    copies.take(piece("a", 5, Some("s")));
    assert_eq!(next(&mut copies, &board), None);
    older(&mut copies, LONGEST);
    assert_eq!(next(&mut copies, &board), is("a", Some("s")));
    copies.take(piece("a", 5, None));
    older(&mut copies, LONGEST);
    assert_eq!(next(&mut copies, &board), None, "others may have rows");
    older(&mut copies, LAST);
    assert_eq!(next(&mut copies, &board), is("a", None));
    let _waits = board.wants_room();
    copies.take(piece("b", 5, Some("s")));
    assert_eq!(next(&mut copies, &board), is("b", Some("s")));
}

#[tokio::test]
async fn the_last_piece_of_a_table_waits_for_rows_of_others() {
    let (board, mut copies) = (board(&["a", "b", "c"]), Copies::default());
    plan(&board, &["r"]);
    copies.take(piece("a", 5, None));
    assert_eq!(next(&mut copies, &board), None);
    // an empty table changes nothing
    copies.take(piece("b", 0, None));
    assert_eq!(next(&mut copies, &board), is("b", None));
    assert_eq!(next(&mut copies, &board), None);
    copies.take(piece("c", 5, Some("s")));
    assert_eq!(next(&mut copies, &board), is("a", None));
    assert_eq!(next(&mut copies, &board), None);
    // nobody waits for what isn't copied any more
    board.cancel(None);
    assert_eq!(next(&mut copies, &board), is("c", Some("s")));
}

#[tokio::test]
async fn a_format_without_markers_holds_nothing() {
    let (board, mut copies) = (board(&["a", "b"]), Copies::default());
    plan(&board, &["r"]);
    copies.take(piece("a", 5, Some("s")));
    assert!(copies.next(&board, false).is_some() && copies.held.is_empty());
}
