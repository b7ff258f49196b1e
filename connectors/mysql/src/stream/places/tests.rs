//! A binlog file of a real server read by files and offsets, as it is and with its GTIDs taken away.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use rowcast_core::{BinlogPosition, Event, TableFilter, Transaction};

use super::*;
use crate::Flavor;
use crate::binlog::event::kind;
use crate::stream::assembler::tests::{MYSQL, events, run};

const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

/// The event's bytes with a right checksum.
fn room() -> crate::stream::spill::Room {
    crate::stream::spill::Room::new(std::env::temp_dir(), 1 << 20)
}

fn summed(mut event: Vec<u8>) -> Vec<u8> {
    let end = event.len() - event::CHECKSUM;
    let sum = crc32fast::hash(&event[..end]);
    event[end..].copy_from_slice(&sum.to_le_bytes());
    event
}

/// What a server sends first: which file it is, and where it begins to read.
fn rotate(file: &str, byte: u64) -> Vec<u8> {
    let length = event::HEADER + 8 + file.len() + event::CHECKSUM;
    let mut out = vec![0, 0, 0, 0, kind::ROTATE, 1, 0, 0, 0];
    out.extend_from_slice(&(length as u32).to_le_bytes());
    out.extend_from_slice(&[0, 0, 0, 0]);
    out.extend_from_slice(&event::FLAG_ARTIFICIAL.to_le_bytes());
    out.extend_from_slice(&byte.to_le_bytes());
    out.extend_from_slice(file.as_bytes());
    out.extend_from_slice(&[0; event::CHECKSUM]);
    summed(out)
}

/// The fixture behind a rotation, each GTID event turned into an anonymous one.
fn anonymous() -> Vec<u8> {
    let mut out = vec![0xfe, b'b', b'i', b'n'];
    out.extend_from_slice(&rotate("bin.000007", 4));
    for (start, end) in events(MYSQL) {
        let mut event = MYSQL[start..end].to_vec();
        if event[4] == kind::GTID {
            event[4] = kind::ANONYMOUS_GTID;
            event[event::HEADER + 1..event::HEADER + 25].fill(0);
            event = summed(event);
        }
        out.extend_from_slice(&event);
    }
    out
}

fn assembler(at: &str) -> Assembler {
    let place = Where { flavor: Flavor::Mysql, host: "h".into(), port: 1, user: "u".into(), server_id: 5 };
    let position = LogPosition::Binlog(format!("{at} on {UUID}").parse().unwrap());
    Assembler::new(place, TableFilter::parse(&["other.*"]).unwrap(), position, false, room(), false)
}

fn position(assembler: &Assembler) -> BinlogPosition {
    match assembler.position() {
        LogPosition::Binlog(position) => position.clone(),
        other => panic!("{other}"),
    }
}

/// Transactions with where their commits ended.
fn commits(draft: &Draft) -> Vec<(std::sync::Arc<Transaction>, Mark)> {
    let (mut found, mut open) = (Vec::new(), None);
    for event in &draft.events {
        match event {
            Event::Begin(transaction) => open = Some(std::sync::Arc::clone(transaction)),
            Event::Commit(mark, _) => found.push((open.take().unwrap(), mark.clone())),
            _ => {}
        }
    }
    found
}

#[test]
fn a_transaction_without_a_gtid_is_known_by_the_place_of_its_commit_from_its_first_event_on() {
    let file = anonymous();
    let mut assembler = assembler("bin.000007:4 begun 0");
    let draft = run(&mut assembler, &file, &events(&file)).unwrap();
    let commits = commits(&draft);
    assert!(commits.len() > 5);
    for (transaction, mark) in &commits {
        assert_eq!(transaction.pos, mark.to_string());
        assert_eq!(&transaction.mark, mark, "the place foretold is the one that was read");
        assert!(transaction.era().is_some_and(|born| born > 1_600_000_000));
    }
    let mut all: Vec<&str> = commits.iter().map(|(it, _)| it.pos.as_str()).collect();
    all.dedup();
    assert_eq!(all.len(), commits.len());
    // the last event names the next file, which isn't known before it begins
    let position = position(&assembler);
    assert_eq!(position.place.byte, events(MYSQL).last().unwrap().0 as u64);
    assert!(position.place.born > 0);
    // those of the files before
    let (start, end) = events(MYSQL).into_iter().find(|(start, _)| MYSQL[start + 4] == kind::PREVIOUS_GTIDS).unwrap();
    let before = gtid_set::decode(&MYSQL[start + event::HEADER..end - event::CHECKSUM]).unwrap();
    assert_eq!(position.gtids, Some(before));
}

#[test]
fn a_transaction_with_a_gtid_keeps_its_name_and_is_counted() {
    let mut file = vec![0xfe, b'b', b'i', b'n'];
    file.extend_from_slice(&rotate("bin.000007", 4));
    file.extend_from_slice(&MYSQL[4..]);
    let mut assembler = assembler("bin.000007:4 begun 0");
    let draft = run(&mut assembler, &file, &events(&file)).unwrap();
    let commits = commits(&draft);
    for (transaction, mark) in &commits {
        assert!(transaction.pos.contains("-") && transaction.era().is_none(), "{}", transaction.pos);
        assert!(mark.to_string().starts_with("bin.000007:"), "{mark}");
    }
    // with those of the files before
    let mut gtids = position(&assembler).gtids.unwrap();
    let first = commits[0].0.pos.rsplit_once(':').unwrap();
    let before = first.1.parse::<u64>().unwrap() - 1;
    assert_eq!(gtids.to_string(), format!("{}:1-{}", first.0, before + commits.len() as u64));
    gtids = gtids.minus(&commits[0].0.pos.parse().unwrap());
    assert_eq!(gtids.count(), before + commits.len() as u64 - 1);
}

#[test]
fn a_file_of_the_same_name_that_was_begun_at_another_time_is_a_gap() {
    let file = anonymous();
    let error = run(&mut assembler("bin.000007:4 begun 5"), &file, &events(&file)).unwrap_err();
    assert_eq!(error.class(), rowcast_core::ErrorClass::Gap, "{error}");
    assert!(error.to_string().contains("bin.000007 is not the one that we read"), "{error}");
    // a later file was never met
    assert!(run(&mut assembler("bin.000006:900 begun 5"), &file, &events(&file)).is_ok());
}

#[test]
fn a_transaction_without_a_gtid_is_refused_where_gtids_are_the_position() {
    let place = Where { flavor: Flavor::Mysql, host: "h".into(), port: 1, user: "u".into(), server_id: 5 };
    let position = LogPosition::Gtid(Default::default());
    let mut assembler =
        Assembler::new(place, TableFilter::parse(&["other.*"]).unwrap(), position, false, room(), false);
    let file = anonymous();
    let error = run(&mut assembler, &file, &events(&file)).unwrap_err();
    assert_eq!(error.class(), rowcast_core::ErrorClass::Gap);
    assert!(error.to_string().contains("without a GTID") && error.to_string().contains("on_gap"), "{error}");
}

/// The first transaction of several events that has rows: where its GTID event begins in the log, and its events with the description in front.
fn behind_its_first_event(from: usize) -> (u64, Vec<u8>) {
    let all = events(MYSQL);
    let is = |at: &(usize, usize), which: u8| MYSQL[at.0 + 4] == which;
    let rows = all.iter().position(|at| is(at, kind::WRITE_ROWS)).unwrap();
    let gtid = all[..rows].iter().rposition(|at| is(at, kind::GTID)).unwrap();
    let begins = all[gtid + from].0;
    let mut out = vec![0xfe, b'b', b'i', b'n'];
    out.extend_from_slice(&rotate("bin.000007", begins as u64));
    let (start, end) = *all.iter().find(|at| is(at, kind::FORMAT_DESCRIPTION)).unwrap();
    out.extend_from_slice(&MYSQL[start..end]);
    out.extend_from_slice(&MYSQL[begins..]);
    (begins as u64, out)
}

/// As servers send it from there on, where [`behind_its_first_event`] is cut after so many events.
fn first(assembler: &mut Assembler, from: usize, count: usize) -> (u64, Result<Draft, SourceError>) {
    let (begins, file) = behind_its_first_event(from);
    let all = events(&file);
    (begins, run(assembler, &file, &all[..all.len().min(2 + count)]))
}

fn rows(draft: &Draft) -> Vec<(u64, u32)> {
    let of =
        |event: &Event| if let Event::Change(change) = event { Some((change.seq, change.place.row)) } else { None };
    draft.events.iter().filter_map(of).collect()
}

#[test]
fn a_stream_may_begin_at_a_begin_and_leaves_out_what_was_counted_from_there() {
    let handed = |text: &str| rowcast_core::Handover::parse("gtid", text).unwrap();
    let (begins, _) = behind_its_first_event(1);
    let whole = {
        let mut assembler = of_types(begins);
        let (_, draft) = first(&mut assembler, 1, 4);
        let draft = draft.unwrap();
        let commits = commits(&draft);
        assert_eq!(commits.len(), 1);
        assert_eq!(commits[0].0.pos, format!("bin.000007:{begins}"));
        assert_eq!(commits[0].0.facts.begins, begins);
        assert!(commits[0].0.commit_us > 1_600_000_000_000_000);
        assert_ne!(commits[0].1.to_string(), commits[0].0.pos, "the position is behind it");
        rows(&draft)
    };
    assert_eq!(whole, [(1, 0)]);
    // BEGIN and TABLE_MAP are before the row
    for (events, count, left) in [(1, 1, 1), (2, 0, 1), (2, 1, 0), (3, 0, 0)] {
        let handed = handed(&format!("bin.000007:{begins} events {events} rows {count}"));
        // as it is told, and as a checkpoint has it
        for resume in [handed.position.clone(), position_at(begins)] {
            let mut assembler = of_types(begins).leaving_out(Some(&handed), Some(&resume));
            let (_, draft) = first(&mut assembler, 1, 9);
            let draft = draft.unwrap();
            // the next transaction is whole
            assert_eq!(rows(&draft).len(), left + 1, "{handed}");
            assert_eq!(commits(&draft).len(), 2, "{handed}");
        }
    }
    // elsewhere nothing is left out
    let handed = handed(&format!("bin.000007:{begins} events 3 rows 0"));
    let elsewhere = position_at(begins + 1);
    let mut assembler = of_types(begins).leaving_out(Some(&handed), Some(&elsewhere));
    assert_eq!(rows(&first(&mut assembler, 1, 4).1.unwrap()), whole);
}

/// Captures the fixture's tables, from this byte on.
fn of_types(byte: u64) -> Assembler {
    let mut assembler = assembler(&format!("bin.000007:{byte} begun 0"));
    assembler.filter = TableFilter::parse(&["ty.*"]).unwrap();
    let charsets =
        [(63, "binary"), (255, "utf8mb4"), (45, "utf8mb4"), (46, "utf8mb4"), (8, "latin1"), (28, "gbk"), (54, "utf16")];
    assembler.set_charsets(charsets.map(|(id, name)| (id, name.to_owned())).into());
    assembler
}

fn position_at(byte: u64) -> LogPosition {
    LogPosition::Binlog(format!("bin.000007:{byte} begun 5 on {UUID}").parse().unwrap())
}

#[test]
fn a_stream_that_begins_inside_of_a_transaction_ends_with_an_error() {
    for (from, what) in [(2, "rows outside"), (3, "rows of table id"), (4, "the end of a transaction")] {
        let mut assembler = assembler("bin.000007:4 begun 0");
        let (_, run) = first(&mut assembler, from, 4);
        let error = run.unwrap_err().to_string();
        assert!(error.contains(what), "{from}: {error}");
    }
}
