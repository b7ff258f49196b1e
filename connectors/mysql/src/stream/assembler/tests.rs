//! Binlog files of real servers through the assembler: whole, damaged, and cut.
//!
//! The fixtures are whole files as MySQL 9.7.4 and MariaDB 10.11.19 wrote them (CRC32, full metadata): a database, a
//! table of every type, inserts, an update, a delete and a TRUNCATE; see `fixtures/README.md`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use rand::{Rng, SeedableRng, rngs::StdRng};
use rowcast_core::{Bump, Op, Value};

use super::*;
use crate::Flavor;

mod kept;

pub(in crate::stream) const MYSQL: &[u8] = include_bytes!("../../../fixtures/mysql-9.7-types.binlog");
const MARIADB: &[u8] = include_bytes!("../../../fixtures/mariadb-10.11-types.binlog");

fn assembler(flavor: Flavor) -> Assembler {
    let place = Where { flavor, host: "h".into(), port: 1, user: "u".into(), server_id: 5 };
    let position = match flavor {
        Flavor::Mysql => LogPosition::Gtid("".parse().unwrap()),
        Flavor::MariaDb => LogPosition::MariaDb("".parse().unwrap()),
    };
    let room = Room::new(std::env::temp_dir(), 1 << 20);
    let mut assembler = Assembler::new(place, TableFilter::parse(&["ty.*"]).unwrap(), position, false, room, true);
    let charsets =
        [(63, "binary"), (255, "utf8mb4"), (45, "utf8mb4"), (46, "utf8mb4"), (8, "latin1"), (28, "gbk"), (54, "utf16")];
    assembler.set_charsets(charsets.map(|(id, name)| (id, name.to_owned())).into());
    assembler
}

/// Offsets of the events in a file.
pub(in crate::stream) fn events(file: &[u8]) -> Vec<(usize, usize)> {
    let (mut found, mut at) = (Vec::new(), 4);
    while let Some(length) = file.get(at + 9..at + 13) {
        let length = u32::from_le_bytes(length.try_into().unwrap()) as usize;
        found.push((at, at + length));
        at += length;
    }
    found
}

/// Runs all events; the catalog knows nothing. What follows out of others is run to its end, its rows are counted only.
pub(in crate::stream) fn run(
    assembler: &mut Assembler,
    file: &[u8],
    at: &[(usize, usize)],
) -> Result<Draft, SourceError> {
    let mut draft = Draft::new(None, None);
    for (start, end) in at {
        loop {
            match assembler.event(file, *start, *end, &mut draft)? {
                Outcome::Done => break,
                Outcome::Need(name) => assembler.answer(name, None),
                Outcome::Unpack => {
                    let (head, body) = file[*start..*end].split_at(event::HEADER);
                    let _ = crate::binlog::compressed::unpack(head, head[4], body, &mut bytes::BytesMut::new());
                    break;
                }
                other => {
                    follow(assembler, other, file, &mut Vec::new())?;
                    break;
                }
            }
        }
    }
    Ok(draft)
}

/// Runs what follows an event, as the stream does, into a batch for each run of events.
fn follow(
    assembler: &mut Assembler,
    outcome: Outcome,
    data: &[u8],
    batches: &mut Vec<rowcast_core::Batch>,
) -> Result<(), SourceError> {
    let mut inner = match outcome {
        Outcome::Inner(inner) => *inner,
        Outcome::Payload(head, start) => {
            let payload = std::io::Cursor::new(data[start..].to_vec());
            Inner::new(Origin::Payload, head.read(payload).unwrap())
        }
        Outcome::Unpack => return Ok(()),
        other => panic!("{other:?} isn't in the fixture"),
    };
    let mut draft = assembler.draft();
    loop {
        let event = inner.event().map_err(|what| assembler.inner_unreadable(inner.origin, &what))?;
        let Some((start, end)) = event else { break };
        match assembler.inner_event(inner.data(), (start, end), inner.origin, &mut draft)? {
            Outcome::Done => inner.advance(end),
            Outcome::Need(name) => assembler.answer(name, None),
            outcome => {
                let data = inner.data().to_vec();
                inner.advance(end);
                batches.push(std::mem::replace(&mut draft, assembler.draft()).finish(data.clone().into()));
                follow(assembler, outcome, &data, batches)?;
                draft = assembler.draft();
            }
        }
    }
    match inner.origin {
        Origin::Kept => assembler.replayed(&mut draft)?,
        Origin::Payload => assembler.payload_ended()?,
        Origin::Unpacked => {}
    }
    batches.push(draft.finish(inner.split()));
    Ok(())
}

/// Column names and values.
type Cells = Vec<(String, String)>;

/// All changes.
fn decoded(file: &[u8], draft: Draft) -> Vec<(Op, u64, Cells)> {
    let batch = draft.finish(file.to_vec().into());
    let arena = Bump::new();
    let changes = batch.events.iter().filter_map(|event| match event {
        Event::Change(change) => Some(*change),
        _ => None,
    });
    changes
        .map(|change| {
            let table = &batch.tables[change.table as usize];
            let mut row = Vec::new();
            if let Some(image) = change.after.or(change.before) {
                table.decode(&batch.data, image, &arena, &mut row).unwrap();
            }
            let cells = table.columns.iter().zip(&row);
            (change.op, change.seq, cells.map(|(column, value)| (column.name.clone(), format!("{value:?}"))).collect())
        })
        .collect()
}

fn cell<'a>(row: &'a [(String, String)], name: &str) -> &'a str {
    &row.iter().find(|(column, _)| column == name).unwrap().1
}

#[test]
fn every_type_of_a_real_server_decodes_from_the_binlog_alone() {
    for (flavor, file) in [(Flavor::Mysql, MYSQL), (Flavor::MariaDb, MARIADB)] {
        let mut assembler = assembler(flavor);
        let draft = run(&mut assembler, file, &events(file)).unwrap();
        let rows = decoded(file, draft);
        let (op, seq, first) = &rows[0];
        assert_eq!((*op, *seq), (Op::Insert, 1));
        for (name, expected) in [
            ("t1", format!("{:?}", Value::Int(-128))),
            ("m", format!("{:?}", Value::Int(-8_388_608))),
            ("bu", format!("{:?}", Value::UInt(u64::MAX))),
            ("de", r#"Decimal("-1234567890.05")"#.to_owned()),
            ("dl", r#"Decimal("12345678901234567890123456789012345.123456789012345678901234567891")"#.to_owned()),
            ("bi", r#"Bits("1000000001")"#.to_owned()),
            ("t2", "Time(Time { micros: -3723450000, digits: 2 })".to_owned()),
            ("t6", "Time(Time { micros: -1, digits: 6 })".to_owned()),
            ("y", "UInt(2155)".to_owned()),
            ("l1", r#"Text("é€")"#.to_owned()),
            ("gb", r#"Text("汉字")"#.to_owned()),
            ("u16", r#"Text("😀")"#.to_owned()),
            ("bin", "Bytes([1, 2, 0, 0, 0])".to_owned()),
            ("vb", "Bytes([1, 0])".to_owned()),
            ("e", r#"Enum("y'z")"#.to_owned()),
            ("st", r#"Set(["a", "c d"])"#.to_owned()),
            ("el", r#"Enum("ö")"#.to_owned()),
        ] {
            assert_eq!(cell(first, name), expected, "{flavor} {name}");
        }
        assert!(rows.iter().any(|(op, ..)| *op == Op::Truncate));
        assert!(assembler.open().is_none());
    }
}

#[test]
fn transactions_tell_their_connection_and_statements_are_told_if_asked() {
    let told = |flavor, file: &[u8], asked| {
        let draft = run(&mut assembler(flavor).telling(asked, asked), file, &events(file)).unwrap();
        let with = |found: &mut (Vec<Option<u32>>, Vec<Arc<rowcast_core::Ddl>>), event: &Event| match event {
            Event::Begin(transaction) => found.0.push(transaction.facts.thread),
            Event::Ddl(it) => found.1.push(Arc::clone(it)),
            _ => {}
        };
        let mut found = (Vec::new(), Vec::new());
        draft.events.iter().for_each(|event| with(&mut found, event));
        found
    };
    let (threads, ddl) = told(Flavor::Mysql, MYSQL, true);
    assert!(threads.iter().flatten().count() >= 2 && threads.iter().any(Option::is_none), "{threads:?}");
    let create = ddl.iter().find(|it| it.verb == rowcast_core::DdlVerb::CreateTable).unwrap();
    assert_eq!(create.tables.iter().map(ToString::to_string).collect::<Vec<_>>(), ["ty.a"], "{create:?}");
    assert!(create.sql.to_lowercase().starts_with("create table") && create.place.at > 0);
    let (threads, ddl) = told(Flavor::Mysql, MYSQL, false);
    assert!(threads.iter().all(Option::is_none) && ddl.is_empty());
    let (threads, ddl) = told(Flavor::MariaDb, MARIADB, true);
    assert!(threads.iter().all(Option::is_none) && !ddl.is_empty());
}

#[test]
fn a_flipped_bit_is_a_transient_error_or_of_no_matter() {
    let at = events(MYSQL);
    let mut random = StdRng::seed_from_u64(1);
    for _ in 0..2000 {
        let mut file = MYSQL.to_vec();
        let place = random.random_range(4..file.len());
        file[place] ^= 1 << random.random_range(0..8);
        // The lengths in the headers are the packets', so they are taken from the whole file.
        if let Err(error) = run(&mut assembler(Flavor::Mysql), &file, &at) {
            // Before the first format description nothing says whether there are checksums.
            assert!(error.is_transient() || place < at[0].1, "{place}: {error}");
        }
    }
}

#[test]
fn damage_with_a_right_checksum_never_panics() {
    let mut random = StdRng::seed_from_u64(2);
    for (flavor, original) in [(Flavor::Mysql, MYSQL), (Flavor::MariaDb, MARIADB)] {
        let at = events(original);
        for _ in 0..3000 {
            let mut file = original.to_vec();
            let (start, end) = at[random.random_range(1..at.len())];
            for _ in 0..random.random_range(1..4) {
                let place = random.random_range(start..end - event::CHECKSUM);
                file[place] = random.random();
            }
            let length = u32::try_from(end - start).unwrap();
            file[start + 9..start + 13].copy_from_slice(&length.to_le_bytes());
            let sum = crc32fast::hash(&file[start..end - event::CHECKSUM]);
            file[end - event::CHECKSUM..end].copy_from_slice(&sum.to_le_bytes());
            if let Ok(draft) = run(&mut assembler(flavor), &file, &at) {
                let batch = draft.finish(file.into());
                let arena = Bump::new();
                for event in &batch.events {
                    let Event::Change(change) = event else { continue };
                    let table = &batch.tables[change.table as usize];
                    for image in change.before.into_iter().chain(change.after) {
                        let _ = table.decode(&batch.data, image, &arena, &mut Vec::new());
                    }
                }
            }
        }
    }
}

#[test]
fn a_transaction_that_does_not_end_is_an_error() {
    let at: Vec<_> = events(MYSQL).into_iter().filter(|(start, _)| MYSQL[start + 4] != kind::XID).collect();
    let error = run(&mut assembler(Flavor::Mysql), MYSQL, &at).unwrap_err();
    assert!(!error.is_transient());
    assert!(error.to_string().contains("begins before"), "{error}");
}

#[test]
fn rows_without_their_table_map_are_an_error() {
    let at: Vec<_> = events(MYSQL).into_iter().filter(|(start, _)| MYSQL[start + 4] != kind::TABLE_MAP).collect();
    let error = run(&mut assembler(Flavor::Mysql), MYSQL, &at).unwrap_err();
    assert!(error.to_string().contains("no table map"), "{error}");
}
