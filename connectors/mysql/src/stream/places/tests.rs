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
