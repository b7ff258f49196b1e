//! The checker: compares what a reader saw with what writers know that they committed, and with the tables themselves.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::reader::{Image, Seen};
use crate::support::session::Session;
use crate::workload::{CLOCK, Change, Key, TABLES, Truth};

/// What to expect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Every event once.
    ExactlyOnce,
    /// Repeats with the same id and the same bytes.
    AtLeastOnce,
}

/// What was found. All counts but the first two must be zero; `repeated` may be more in at-least-once mode.
#[derive(Debug, Default)]
pub struct Report {
    /// Distinct events.
    pub events: usize,
    /// Of these, rows that were read.
    pub copied: usize,
    /// Events that came again.
    pub repeated: usize,
    /// Changes without an event.
    pub lost: usize,
    /// Events in another order than their changes, within a key, a writer or the order of commits.
    pub reordered: usize,
    /// In words.
    pub wrong: Vec<String>,
}

impl Report {
    fn note(&mut self, what: String) {
        if self.wrong.len() < 20 {
            self.wrong.push(what);
        }
    }

    /// Fails if anything is wrong.
    pub fn assert_right(&self, name: &str) {
        assert!(
            self.wrong.is_empty(),
            "{name}: {} events, {} repeated, {} lost, {} reordered:\n{}",
            self.events,
            self.repeated,
            self.lost,
            self.reordered,
            self.wrong.join("\n")
        );
    }
}

/// Checks all events of a source.
pub fn check(truth: &Truth, seen: &[Seen], torn: &[String], mode: Mode) -> Report {
    let mut report = Report::default();
    // at least once has no transactions
    for torn in torn.iter().filter(|_| mode == Mode::ExactlyOnce) {
        report.note(format!("a part of a transaction was visible: {torn}"));
    }
    let first = distinct(seen, mode, &mut report);
    report.events = first.len();
    by_key(truth, &first, &mut report);
    by_transaction(truth, &first, &mut report);
    report
}

/// The events without their repeats, in order; a repeat has the same bytes as the first one.
fn distinct<'a>(seen: &'a [Seen], mode: Mode, report: &mut Report) -> Vec<&'a Seen> {
    let mut ids: HashMap<&str, &Seen> = HashMap::new();
    let mut first = Vec::new();
    for event in seen {
        let Some(before) = ids.get(event.id.as_str()) else {
            ids.insert(&event.id, event);
            first.push(event);
            continue;
        };
        report.repeated += 1;
        if mode == Mode::ExactlyOnce {
            report.note(format!("twice: {event:?}"));
        } else if (before.digest, before.partition) != (event.digest, event.partition) {
            report.note(format!("one id, two contents: {before:?} and {event:?}"));
        }
    }
    first
}

/// Every key's events are its changes.
fn by_key(truth: &Truth, first: &[&Seen], report: &mut Report) {
    let mut events: BTreeMap<Key, Vec<&Seen>> = BTreeMap::new();
    for event in first {
        events.entry((event.table, event.row.id)).or_default().push(event);
    }
    let empty = Vec::new();
    for (key, changes) in &truth.changes {
        let found = events.remove(key).unwrap_or_default();
        one_key(*key, changes, &found, report);
        copied(truth, *key, &found, report);
    }
    for (key, found) in events {
        one_key(key, &empty, &found, report);
        copied(truth, key, &found, report);
    }
}

/// A row that was read is the one that the events before it lead to.
fn copied(truth: &Truth, key: Key, found: &[&Seen], report: &mut Report) {
    let mut row = truth.initial.contains(&key).then_some(0);
    for event in found {
        match event.op {
            'r' => {
                report.copied += 1;
                if row != Some(event.row.version) {
                    report.reordered += 1;
                    report.note(format!("read when the row was at version {row:?}: {event:?}"));
                }
            }
            'd' => row = None,
            _ => row = Some(event.row.version),
        }
    }
}

fn one_key(key: Key, changes: &[Change], found: &[&Seen], report: &mut Report) {
    let streamed: Vec<Change> = found
        .iter()
        .filter(|event| event.op != 'r')
        .map(|event| Change { op: event.op, version: event.row.version })
        .collect();
    if streamed != changes {
        let have: HashSet<_> = streamed.iter().map(|change| (change.op, change.version)).collect();
        let lost = changes.iter().filter(|change| !have.contains(&(change.op, change.version))).count();
        report.lost += lost;
        if lost == 0 {
            report.reordered += 1;
        }
        let at = streamed.iter().zip(changes).take_while(|(a, b)| a == b).count();
        let part = |all: &[Change]| {
            let some = all.iter().skip(at.saturating_sub(2)).take(6);
            some.map(|change| format!("{}{}", change.op, change.version)).collect::<Vec<_>>().join(" ")
        };
        let (is, should) = (part(&streamed), part(changes));
        report.note(format!(
            "{} {}: {} of {} events are missing; from number {at} of them: `{is}` instead of `{should}`",
            TABLES[key.0],
            key.1,
            lost,
            changes.len()
        ));
    }
}

/// In each partition: the rows of a transaction follow each other, in order and all of them; a writer's transactions follow
/// each other; and those that moved the clock do so by its versions.
fn by_transaction(truth: &Truth, first: &[&Seen], report: &mut Report) {
    let mut partitions: BTreeMap<(usize, i32), Vec<&Seen>> = BTreeMap::new();
    for event in first.iter().filter(|event| !matches!(event.op, 'd' | 'r') && event.row.writer >= 0) {
        partitions.entry((event.table, event.partition)).or_default().push(event);
    }
    for events in partitions.values() {
        let mut last: HashMap<i64, u64> = HashMap::new();
        let mut clock = 0;
        for rows in events.chunk_by(|a, b| (a.row.writer, a.row.txn) == (b.row.writer, b.row.txn)) {
            let row = &rows[0].row;
            let table = TABLES[rows[0].table];
            let ns: Vec<u64> = rows.iter().map(|row| row.row.n).collect();
            if ns.iter().copied().ne(1..=row.rows_of) {
                report.reordered += 1;
                report.note(format!(
                    "{table}: writer {}, transaction {}: rows {ns:?} of {}",
                    row.writer, row.txn, row.rows_of
                ));
            }
            if last.insert(row.writer, row.txn).is_some_and(|before| before >= row.txn) {
                report.reordered += 1;
                report.note(format!("{table}: transaction {} of writer {} after a later one", row.txn, row.writer));
            }
            if let Some(&at) = truth.clock.get(&(row.writer, row.txn)) {
                if at <= clock {
                    report.reordered += 1;
                    report.note(format!(
                        "{table}: transaction {} of writer {} moved the clock to {at}, after {clock}",
                        row.txn, row.writer
                    ));
                }
                clock = at;
            }
        }
    }
}

/// The last event of every key is the table's row, or its absence.
pub async fn compare_with_tables(session: &mut Session, seen: &[Seen], report: &mut Report) {
    let mut rows: BTreeMap<Key, Option<&Image>> = BTreeMap::new();
    let mut ids = HashSet::new();
    for event in seen.iter().filter(|event| ids.insert(event.id.as_str())) {
        rows.insert((event.table, event.row.id), (event.op != 'd').then_some(&event.row));
    }
    for (table, name) in TABLES.iter().enumerate() {
        let sql = format!("select id, version, writer, txn, n, rows_of, pad from {name}");
        let found = session.rows(&sql).await.unwrap();
        for row in found {
            let text = |index: usize| row[index].clone().unwrap_or_default();
            let number = |index: usize| text(index).parse::<i64>().unwrap();
            let image = Image {
                id: number(0),
                version: number(1) as u64,
                writer: number(2),
                txn: number(3) as u64,
                n: number(4) as u64,
                rows_of: number(5) as u64,
                pad: text(6),
            };
            let folded = rows.remove(&(table, image.id)).flatten();
            if folded != Some(&image) {
                report.note(format!("{name}: the table has {image:?}, the topic {folded:?}"));
            }
        }
    }
    for (key, row) in rows {
        if let Some(row) = row {
            report.note(format!("{}: the topic has {row:?}, the table nothing", TABLES[key.0]));
        }
    }
}

/// The clock's rows say the same as the writers.
pub fn compare_with_clock(truth: &Truth, seen: &[Seen], report: &mut Report) {
    for event in
        seen.iter().filter(|event| TABLES[event.table] == "ledger" && event.row.id == CLOCK && event.row.writer > 0)
    {
        let at = truth.clock.get(&(event.row.writer, event.row.txn));
        if at.is_some_and(|at| *at != event.row.version) {
            report.note(format!("the clock was at {at:?} for {event:?}"));
        }
    }
}
