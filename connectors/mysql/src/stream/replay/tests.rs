//! Recorded binlogs of both servers through the whole stream: their events as they were once reviewed (`fixtures/*.events`, written
//! anew by `ROWCAST_GOLDEN=write`), and copies that are cut, or have bits flipped: an error or the same events, never others.
//!
//! Damage is chosen by a seed, another one each run; `ROWCAST_DAMAGE_SEED` repeats one.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rowcast_core::{Bump, Event, Image, Table, Value};

use super::*;
use crate::binlog::event::CHECKSUM;

/// A recorded file.
struct Recorded {
    name: String,
    flavor: Flavor,
    charsets: HashMap<u32, String>,
    bytes: Bytes,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn recorded() -> Vec<Recorded> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "binlog"));
    files.sort();
    assert!(files.len() >= 10, "{files:?}");
    let read = |path: PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let (server, _) = name.rsplit_once('-').unwrap();
        let collations = std::fs::read_to_string(folder().join(format!("{server}-collations.tsv"))).unwrap();
        let collation = |line: &str| {
            let (id, charset) = line.split_once('\t').unwrap();
            (id.parse().unwrap(), charset.to_owned())
        };
        Recorded {
            flavor: if server.starts_with("mysql") { Flavor::Mysql } else { Flavor::MariaDb },
            charsets: collations.lines().map(collation).collect(),
            bytes: std::fs::read(path).unwrap().into(),
            name,
        }
    };
    files.into_iter().map(read).collect()
}

impl Recorded {
    /// What another version of the file adds up to: its events, and how it ends. Nothing of an event is told before it is whole.
    fn events(&self, bytes: impl Into<Bytes>) -> Vec<String> {
        let tables = TableFilter::parse(&["*.*"]).unwrap();
        let mut replay = Replay::new(self.flavor, tables, self.charsets.clone(), bytes).unwrap();
        let mut lines = Vec::new();
        loop {
            match replay.next_batch() {
                Ok(Some(batch)) => told(&batch, &mut lines),
                Ok(None) => {
                    let end = if replay.is_inside() { "ends within a transaction" } else { "ends" };
                    lines.push(format!("{end} at {}", replay.position()));
                    return lines;
                }
                Err(error) => {
                    let class = if error.is_transient() { "transient" } else { "definite" };
                    lines.push(format!("{class}: {error}"));
                    return lines;
                }
            }
        }
    }

    /// Offsets of the events.
    fn places(&self) -> Vec<(usize, usize)> {
        let (mut found, mut at) = (Vec::new(), MAGIC.len());
        while let Some(length) = self.bytes.get(at + 9..at + 13) {
            let length = u32::from_le_bytes(length.try_into().unwrap()) as usize;
            found.push((at, at + length));
            at += length;
        }
        found
    }
}

/// A line per event.
fn told(batch: &Batch, lines: &mut Vec<String>) {
    let arena = Bump::new();
    for event in &batch.events {
        lines.push(match event {
            Event::Begin(transaction) => format!("begin {} {}", transaction.id, transaction.commit_us),
            Event::Commit(mark, _) => format!("commit {mark}"),
            // where they fall depends on how the bytes came
            Event::Heartbeat(..) => continue,
            Event::Change(change) => {
                let table = &batch.tables[change.table as usize];
                let mut line = format!("{:?} {} {}", change.op, table.name, change.seq);
                for (side, image) in [("before", change.before), ("after", change.after)] {
                    if let Some(image) = image {
                        write!(line, " {side}{{{}}}", row(batch, table, image, &arena)).unwrap();
                    }
                }
                line
            }
            other => format!("{other:?}"),
        });
    }
}

fn row(batch: &Batch, table: &Table, image: Image, arena: &Bump) -> String {
    let mut values = Vec::new();
    let result = table.decode(&batch.data, image, arena, &mut values);
    let cells =
        table.columns.iter().zip(&values).filter(|(_, value)| **value != Value::Absent).map(|(column, value)| {
            let text = format!("{value:?}");
            let long = text.len() > 160;
            let text =
                if long { format!("{} bytes, {:x}", text.len(), crc32fast::hash(text.as_bytes())) } else { text };
            format!("{}={text}", column.name)
        });
    let cells = cells.collect::<Vec<_>>().join(", ");
    result.map_or_else(|error| format!("{cells}; {error}"), |()| cells.clone())
}

#[test]
fn the_events_are_those_that_were_reviewed() {
    let mut others = Vec::new();
    for file in recorded() {
        let events = file.events(file.bytes.clone()).join("\n") + "\n";
        let path = folder().join(format!("{}.events", file.name));
        if std::env::var("ROWCAST_GOLDEN").is_ok_and(|it| it == "write") {
            std::fs::write(path, events).unwrap();
        } else if std::fs::read_to_string(&path).unwrap_or_default() != events {
            others.push(format!("{}:\n{events}", file.name));
        }
    }
    assert!(others.is_empty(), "{}", others.join("\n"));
}

/// Where rows stand: in the row event at that place, of the compressed transaction, or of the statement that brought them; no two at the
/// same, and in order.
#[test]
fn rows_stand_where_their_events_begin() {
    use crate::binlog::event::kind;
    for file in recorded() {
        let starts: Vec<u64> = file.places().iter().map(|(start, _)| *start as u64).collect();
        let kind_at = |at: u64| file.bytes[usize::try_from(at).unwrap() + 4];
        let tables = TableFilter::parse(&["*.*"]).unwrap();
        let mut replay = Replay::new(file.flavor, tables, file.charsets.clone(), file.bytes.clone()).unwrap();
        let (mut last, mut rows) = (None, 0);
        while let Ok(Some(batch)) = replay.next_batch() {
            let begun = batch.events.iter().filter_map(|event| match event {
                Event::Begin(transaction) => Some(transaction),
                _ => None,
            });
            for transaction in begun.chain(&batch.open) {
                let facts = &transaction.facts;
                assert!(starts.contains(&facts.begins) && facts.server_id > 0, "{} {transaction:?}", file.name);
            }
            for event in &batch.events {
                let Event::Change(change) = event else { continue };
                let (what, place) = (format!("{} {change:?}", file.name), change.place);
                assert!(starts.contains(&place.at) && place.seconds > 1_600_000_000, "{what}");
                let kind = kind_at(place.at);
                let of_rows = kind::is_of_rows(kind) && kind != kind::TABLE_MAP;
                let fits = match change.op {
                    rowcast_core::Op::Truncate => matches!(kind, kind::QUERY | kind::MARIA_QUERY_COMPRESSED),
                    // an XA COMMIT is a statement
                    _ => {
                        of_rows || kind::is_compressed(kind) || matches!(kind, kind::TRANSACTION_PAYLOAD | kind::QUERY)
                    }
                };
                assert!(fits, "kind {kind}: {what}");
                let place = (place.at, place.row);
                assert!(last.is_none_or(|last| last < place), "{last:?}: {what}");
                assert!(place.1 == 0 || last.is_some_and(|(at, row)| (at, row + 1) == place), "{last:?}: {what}");
                last = Some(place);
                rows += 1;
            }
        }
        assert!(rows > 0, "{}", file.name);
    }
}

fn random() -> StdRng {
    let seed =
        std::env::var("ROWCAST_DAMAGE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random);
    println!("ROWCAST_DAMAGE_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// The events without what is said of their end.
fn but_the_end(events: &[String]) -> &[String] {
    events.split_last().map_or(&[], |(_, others)| others)
}

#[test]
fn a_file_that_is_cut_has_the_first_events_and_says_so() {
    let mut random = random();
    for file in recorded() {
        let whole = file.events(file.bytes.clone());
        let ends: Vec<usize> = file.places().into_iter().map(|(_, end)| end).collect();
        for _ in 0..60 {
            let cut = random.random_range(MAGIC.len()..file.bytes.len());
            let events = file.events(file.bytes.slice(..cut));
            assert!(whole.starts_with(but_the_end(&events)), "{} cut at {cut}", file.name);
            let last = events.last().unwrap();
            let within = !ends.contains(&cut) && cut > MAGIC.len();
            // what couldn't be read before the cut was said before
            let early = whole.len() == events.len() && whole.last() == Some(last);
            assert!(early || last.contains("ends within the event") == within, "{} cut at {cut}: {last}", file.name);
        }
    }
}

#[test]
fn a_bit_that_flips_is_an_error_behind_the_same_events() {
    let mut random = random();
    for file in recorded() {
        let whole = file.events(file.bytes.clone());
        let (_, description) = file.places()[0];
        for _ in 0..200 {
            let mut bytes = file.bytes.to_vec();
            let place = random.random_range(MAGIC.len()..bytes.len());
            bytes[place] ^= 1 << random.random_range(0..8);
            let events = file.events(bytes);
            let last = events.last().unwrap();
            let what = format!("{}, byte {place}: {last}", file.name);
            // the description itself says whether there are checksums
            if place < description && last.contains("definite") {
                continue;
            }
            assert!(whole.starts_with(but_the_end(&events)), "{what}");
            // an error, unless the flag that a file is being written has changed, which its sum doesn't cover
            let flag = file.places().iter().any(|(start, _)| place == start + 17);
            assert!(flag || events != whole || last.contains("definite") || last.contains("transient"), "{what}");
        }
    }
}

#[test]
fn damage_with_a_right_checksum_never_panics_and_ends() {
    let mut random = random();
    for file in recorded() {
        let places = file.places();
        for _ in 0..150 {
            let mut bytes = file.bytes.to_vec();
            let (start, end) = places[random.random_range(0..places.len())];
            for _ in 0..random.random_range(1..5) {
                // lengths stay, so that what is behind them is reached
                let from = if random.random_ratio(1, 20) { start + 4 } else { start + 13 };
                let place = random.random_range(from..end - CHECKSUM);
                bytes[place] = match random.random_range(0..4) {
                    0 => 0xff,
                    1 => 0,
                    2 => bytes[place] ^ 1 << random.random_range(0..8),
                    _ => random.random(),
                };
            }
            let sum = crc32fast::hash(&bytes[start..end - CHECKSUM]);
            bytes[end - CHECKSUM..end].copy_from_slice(&sum.to_le_bytes());
            file.events(bytes);
        }
    }
}

#[test]
fn events_of_several_packets_are_put_together() {
    let file = recorded().into_iter().find(|file| file.name.ends_with("mysql-9.7-changes")).unwrap();
    let whole = file.events(file.bytes.clone());
    // an event that may be ignored, of so many bytes that it takes three packets; the second is full
    for length in [2 * MAX_PAYLOAD - 1, 2 * MAX_PAYLOAD + 5] {
        let (_, end) = file.places()[0];
        let mut event = vec![0_u8; length];
        event[4] = crate::binlog::event::kind::IGNORABLE;
        event[9..13].copy_from_slice(&(length as u32).to_le_bytes());
        let sum = crc32fast::hash(&event[..length - CHECKSUM]);
        event[length - CHECKSUM..].copy_from_slice(&sum.to_le_bytes());
        let bytes = [&file.bytes[..end], &event, &file.bytes[end..]].concat();
        assert_eq!(file.events(bytes), whole);
    }
}
