//! The rule against a model: a small database whose commits are logged, become visible and are streamed at moments of their own.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rowcast_core::gtid::{Gtid, GtidSet, Origin};
use rowcast_core::{Lsn, Mark};

use super::*;

const KEYS: u64 = 12;
const PLACES: u64 = 16;

/// A row: where it lies, the version of its last change, and a column that updates leave out.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Row {
    place: u64,
    version: u64,
    body: u64,
}

#[derive(Debug, Clone, Copy)]
struct Write {
    old: Option<u64>,
    new: Option<(u64, Row)>,
    /// The body isn't in the event.
    partial: bool,
}

#[derive(Debug, Clone, Default)]
struct Tx {
    xid: u64,
    writes: Vec<Write>,
    empties: bool,
    /// Where its commit ends in the log, from 1.
    end: Option<u64>,
    visible: bool,
    /// MySQL: it is in `gtid_executed`.
    executed: bool,
}

#[derive(Debug, Clone, Copy)]
enum Out {
    /// `from` is the key that the row had; a reader of the topic who has that row has its body.
    Put {
        key: u64,
        from: Option<u64>,
        version: u64,
        body: Option<u64>,
    },
    Delete {
        key: u64,
        version: u64,
    },
    Read {
        key: u64,
        row: Row,
    },
    Empty,
}

struct Read {
    reading: Reading,
    rows: Vec<(u64, Row)>,
    range: Option<usize>,
    keys: Vec<u64>,
}

struct World {
    rng: StdRng,
    gtids: bool,
    /// What is visible.
    rows: BTreeMap<u64, Row>,
    /// What transactions in progress will make of it; a key in here is locked by one.
    locked: BTreeMap<u64, u64>,
    txs: Vec<Tx>,
    log: Vec<u64>,
    streamed: usize,
    versions: u64,
    merge: Option<Merge>,
    gated: bool,
    ranges: Vec<(u64, u64, bool)>,
    reads: VecDeque<Read>,
    out: Vec<Out>,
    forgotten_before_watch: usize,
}

fn transaction(gtids: bool, xid: u64) -> Arc<Transaction> {
    let gtid = Gtid { origin: Origin { uuid: [7; 16], tag: String::new() }, number: xid };
    let mark = if gtids { Mark::Gtid(gtid) } else { Mark::Lsn(Lsn(xid)) };
    let (id, pos) = (xid.to_string(), xid.to_string());
    Arc::new(Transaction {
        id,
        xid: (!gtids).then_some(xid as u32),
        pos,
        mark,
        commit_us: 0,
        facts: rowcast_core::TransactionFacts::default(),
    })
}

impl World {
    fn new(seed: u64, gtids: bool) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut rows = BTreeMap::new();
        for key in 0..KEYS {
            if rng.random_bool(0.7) {
                rows.insert(key, Row { place: rng.random_range(0..PLACES), version: 0, body: key });
            }
        }
        let ranges = (0..4).map(|n| (n * PLACES / 4, (n + 1) * PLACES / 4, false)).collect();
        Self {
            rng,
            gtids,
            rows,
            locked: BTreeMap::new(),
            txs: Vec::new(),
            log: Vec::new(),
            streamed: 0,
            versions: 0,
            merge: None,
            gated: false,
            ranges,
            reads: VecDeque::new(),
            out: Vec::new(),
            forgotten_before_watch: 0,
        }
    }

    /// Where a row lies for the ranges: its place, or its key where rows stay.
    fn place(&self, key: u64, row: &Row) -> u64 {
        if self.gtids { key } else { row.place }
    }

    fn write(&mut self) {
        let xid = self.txs.len() as u64 + 1;
        let open: Vec<usize> = (0..self.txs.len()).filter(|i| self.txs[*i].end.is_none()).collect();
        let index = match open.as_slice() {
            [.., last] if self.rng.random_bool(0.7) => *last,
            _ if open.len() < 3 => {
                self.txs.push(Tx { xid, ..Tx::default() });
                self.txs.len() - 1
            }
            [first, ..] => *first,
            [] => return,
        };
        if self.txs[index].empties {
            return;
        }
        if self.rng.random_bool(0.03) && self.locked.is_empty() && self.txs[index].writes.is_empty() {
            (0..KEYS).for_each(|key| {
                self.locked.insert(key, self.txs[index].xid);
            });
            self.txs[index].empties = true;
            return;
        }
        let own = self.txs[index].xid;
        let key = self.rng.random_range(0..KEYS);
        if self.locked.get(&key).is_some_and(|by| *by != own) {
            return;
        }
        let mut now = self.rows.clone();
        apply(&mut now, &self.txs[index]);
        self.versions += 1;
        let version = self.versions;
        let place = self.rng.random_range(0..PLACES);
        let write = match now.get(&key).copied() {
            None => Write { old: None, new: Some((key, Row { place, version, body: 100 + version })), partial: false },
            Some(_) if self.rng.random_bool(0.2) => Write { old: Some(key), new: None, partial: false },
            Some(row) => {
                let to = self.rng.random_range(0..KEYS);
                let free = !now.contains_key(&to) && self.locked.get(&to).is_none_or(|by| *by == own);
                let target = if self.rng.random_bool(0.2) && free { to } else { key };
                let partial = self.rng.random_bool(0.6);
                let body = if partial { row.body } else { 100 + version };
                Write { old: Some(key), new: Some((target, Row { place, version, body })), partial }
            }
        };
        for key in write.old.into_iter().chain(write.new.map(|(key, _)| key)) {
            self.locked.insert(key, own);
        }
        self.txs[index].writes.push(write);
    }

    fn commit(&mut self) {
        let open: Vec<usize> = (0..self.txs.len()).filter(|i| self.txs[*i].end.is_none()).collect();
        if open.is_empty() {
            return;
        }
        let index = open[self.rng.random_range(0..open.len())];
        self.log.push(self.txs[index].xid);
        self.txs[index].end = Some(self.log.len() as u64);
    }

    fn show(&mut self) {
        let ready: Vec<usize> =
            (0..self.txs.len()).filter(|i| self.txs[*i].end.is_some() && !self.txs[*i].visible).collect();
        if !ready.is_empty() {
            let index = ready[self.rng.random_range(0..ready.len())];
            self.txs[index].visible = true;
            let own = self.txs[index].xid;
            apply(&mut self.rows, &self.txs[index]);
            self.locked.retain(|_, by| *by != own);
        }
        let shown: Vec<usize> =
            (0..self.txs.len()).filter(|i| self.txs[*i].visible && !self.txs[*i].executed).collect();
        if !shown.is_empty() && self.rng.random_bool(0.6) {
            let index = shown[self.rng.random_range(0..shown.len())];
            self.txs[index].executed = true;
        }
    }

    fn position(&self) -> LogPosition {
        if !self.gtids {
            return LogPosition::Lsn(Lsn(self.streamed as u64));
        }
        let mut set = GtidSet::default();
        for xid in &self.log[..self.streamed] {
            if let Mark::Gtid(gtid) = &transaction(true, *xid).mark {
                set.add(gtid);
            }
        }
        LogPosition::Gtid(set)
    }

    fn stream(&mut self) {
        if self.streamed >= self.log.len() {
            return;
        }
        let position = self.position();
        let tx = self.txs[self.log[self.streamed] as usize - 1].clone();
        self.streamed += 1;
        let transaction = transaction(self.gtids, tx.xid);
        let end = Offset { file: 0, byte: self.streamed as u64 };
        if let Some(merge) = &mut self.merge {
            merge.watched(&position);
            merge.begin(&transaction);
        } else {
            self.forgotten_before_watch += 1;
        }
        if tx.empties {
            self.out.push(Out::Empty);
            if let Some(merge) = &mut self.merge {
                merge.empty(&transaction);
            }
        }
        for write in &tx.writes {
            let to = write.new.map(|(key, _)| key);
            let moved = write.old.is_some() && to.is_some() && write.old != to;
            let version = write.new.map_or(0, |(_, row)| row.version);
            if let Some(key) = write.old.filter(|_| moved || to.is_none()) {
                if !moved {
                    self.out.push(Out::Delete { key, version });
                }
                if let Some(merge) = &mut self.merge {
                    merge.touch(&transaction, Touch { key: key.into(), missing: None, moved: false });
                }
            }
            if let Some((key, row)) = write.new {
                let from = write.old.filter(|_| moved);
                self.out.push(Out::Put { key, from, version, body: (!write.partial).then_some(row.body) });
                let missing = write.partial.then(|| vec![key.to_string()]);
                if let Some(merge) = &mut self.merge {
                    merge.touch(&transaction, Touch { key: key.into(), missing, moved });
                }
            }
        }
        if let Some(merge) = &mut self.merge {
            merge.commit(&transaction, end);
        }
    }

    fn reading(&self) -> Reading {
        let bound = Offset { file: 0, byte: self.log.len() as u64 };
        let snapshot = if self.gtids {
            let mut set = GtidSet::default();
            for tx in self.txs.iter().filter(|tx| tx.executed) {
                if let Mark::Gtid(gtid) = &transaction(true, tx.xid).mark {
                    set.add(gtid);
                }
            }
            Snapshot::AtLeast(set)
        } else {
            let running: Vec<u64> = self.txs.iter().filter(|tx| !tx.visible).map(|tx| tx.xid).collect();
            let xmax = self.txs.len() as u64 + 1;
            Snapshot::Xids { xmin: running.first().copied().unwrap_or(xmax), xmax, running }
        };
        Reading { snapshot, bound, pos: String::new(), file: String::new(), now_us: 0 }
    }

    fn read(&mut self) {
        if !self.gated || self.reads.len() >= 3 {
            return;
        }
        let reading = self.reading();
        let rereads: Vec<u64> = self.merge.as_ref().unwrap().rereads().keys().map(|key| *key as u64).collect();
        if !rereads.is_empty() && self.rng.random_bool(0.4) {
            let rows =
                self.rows.iter().filter(|(key, _)| rereads.contains(key)).map(|(key, row)| (*key, *row)).collect();
            self.reads.push_back(Read { reading, rows, range: None, keys: rereads });
            return;
        }
        let range = self.rng.random_range(0..self.ranges.len());
        let (from, to, done) = self.ranges[range];
        if done || self.reads.iter().any(|read| read.range == Some(range)) {
            return;
        }
        let inside = |key: u64, row: &Row| (from..to).contains(&self.place(key, row));
        let rows = self.rows.iter().filter(|(key, row)| inside(**key, row)).map(|(key, row)| (*key, *row)).collect();
        self.reads.push_back(Read { reading, rows, range: Some(range), keys: Vec::new() });
    }

    fn handle(&mut self) {
        let Some(merge) = &mut self.merge else { return };
        if self.reads.front().is_none_or(|read| read.reading.bound.byte > self.streamed as u64) {
            return;
        }
        let Some(read) = self.reads.pop_front() else { return };
        if !merge.accepts(&read.reading) {
            return;
        }
        for (key, row) in read.rows.iter().copied() {
            if merge.fate(&read.reading, key.into()) == Fate::Publish {
                self.out.push(Out::Read { key, row });
            }
        }
        let keys: Vec<KeyHash> = read.keys.iter().map(|key| KeyHash::from(*key)).collect();
        merge.resolve_keys(&read.reading, &keys);
        if let Some(range) = read.range {
            self.ranges[range].2 = true;
        }
        let left: Vec<&Reading> = self.reads.iter().map(|read| &read.reading).collect();
        let latest = [&read.reading];
        merge.prune(if left.is_empty() { &latest } else { &left });
    }

    fn done(&self) -> bool {
        self.ranges.iter().all(|range| range.2) && self.merge.as_ref().is_some_and(|merge| merge.rereads().is_empty())
    }

    fn watch(&mut self) {
        // nothing was watched so far
        let position = self.position();
        let mut merge = Merge::new(!self.gtids);
        merge.most_keys = if self.rng.random_bool(0.3) { 4 } else { 1000 };
        merge.unwatched(&position, None);
        self.merge = Some(merge);
    }

    fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..35 => self.write(),
            35..50 => self.commit(),
            50..63 => self.show(),
            63..78 => self.stream(),
            78..88 => self.read(),
            _ => self.handle(),
        }
    }

    fn check(&self) {
        let mut rows: BTreeMap<u64, (u64, Option<u64>)> = BTreeMap::new();
        let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
        for out in &self.out {
            match *out {
                Out::Put { key, from, version, body } => {
                    let carried = from.and_then(|from| rows.remove(&from)).and_then(|(_, body)| body);
                    if let Some(from) = from {
                        let old = newest.get(&from).copied().unwrap_or(0);
                        newest.insert(from, old.max(version));
                    }
                    let before = newest.insert(key, version).unwrap_or(0);
                    assert!(version > before, "key {key}: version {version} after {before}");
                    let kept = rows.get(&key).and_then(|(_, body)| *body);
                    rows.insert(key, (version, body.or(if from.is_some() { carried } else { kept })));
                }
                Out::Delete { key, version } => {
                    let before = newest.get(&key).copied().unwrap_or(0);
                    newest.insert(key, before.max(version));
                    rows.remove(&key);
                }
                Out::Read { key, row } => {
                    let before = newest.get(&key).copied().unwrap_or(0);
                    assert!(row.version >= before, "key {key}: read of version {} after {before}", row.version);
                    if let Some((version, _)) = rows.get(&key) {
                        assert!(row.version >= *version);
                    } else {
                        assert!(row.version > before || before == 0, "key {key} resurrected");
                    }
                    newest.insert(key, row.version);
                    rows.insert(key, (row.version, Some(row.body)));
                }
                Out::Empty => rows.clear(),
            }
        }
        let expected: BTreeMap<u64, (u64, Option<u64>)> =
            self.rows.iter().map(|(key, row)| (*key, (row.version, Some(row.body)))).collect();
        assert_eq!(rows, expected);
    }
}

fn apply(rows: &mut BTreeMap<u64, Row>, tx: &Tx) {
    if tx.empties {
        rows.clear();
    }
    for write in &tx.writes {
        if let Some(key) = write.old {
            rows.remove(&key);
        }
        if let Some((key, row)) = write.new {
            rows.insert(key, row);
        }
    }
}

fn run(seed: u64, gtids: bool) {
    let mut world = World::new(seed, gtids);
    let before = world.rng.random_range(0..60);
    for _ in 0..before {
        world.step();
    }
    world.watch();
    let mut steps = 0;
    while !world.done() {
        world.step();
        if !world.gated && world.rng.random_bool(0.1) {
            world.gated = true;
            let snapshot = world.reading().snapshot;
            world.merge.as_mut().unwrap().gate(&snapshot);
        }
        steps += 1;
        if steps > 3000 {
            // let it come to rest
            while !world.txs.iter().all(|tx| tx.end.is_some()) {
                world.commit();
            }
            while !world.txs.iter().all(|tx| tx.visible && tx.executed) {
                world.show();
            }
            world.stream();
            world.read();
            world.handle();
        }
        assert!(steps < 20_000, "no end");
    }
    while !world.txs.iter().all(|tx| tx.end.is_some()) {
        world.commit();
    }
    while !world.txs.iter().all(|tx| tx.visible) {
        world.show();
    }
    while world.streamed < world.log.len() {
        world.stream();
    }
    world.check();
}

#[test]
fn xid_snapshots_with_rows_that_move_lose_and_resurrect_nothing() {
    for seed in 0..300 {
        run(seed, false);
    }
}

#[test]
fn gtid_sets_with_rows_that_stay_lose_and_resurrect_nothing() {
    for seed in 0..300 {
        run(seed, true);
    }
}

#[test]
fn forgotten_keys_have_the_read_refused_until_it_sees_them() {
    let mut merge = Merge::new(false);
    merge.most_keys = 1;
    merge.gate(&Snapshot::Xids { xmin: 5, xmax: 5, running: vec![] });
    let (first, second) = (transaction(false, 5), transaction(false, 6));
    for (tx, end) in [(&first, 10), (&second, 20)] {
        merge.touch(tx, Touch { key: end, missing: None, moved: false });
        merge.commit(tx, Offset { file: 0, byte: end as u64 });
    }
    let reading = |xmin| Reading {
        snapshot: Snapshot::Xids { xmin, xmax: 7, running: (xmin..7).collect() },
        bound: Offset { file: 0, byte: 20 },
        pos: String::new(),
        file: String::new(),
        now_us: 0,
    };
    assert!(!merge.accepts(&reading(5)));
    assert!(merge.accepts(&reading(6)));
    assert_eq!(merge.fate(&reading(6), 20), Fate::Drop);
    assert_eq!(merge.fate(&reading(6), 10), Fate::Publish);
    assert_eq!(merge.fate(&reading(7), 20), Fate::Publish);
}

#[test]
fn more_rereads_than_are_remembered_mean_reading_from_the_start() {
    let mut merge = Merge::new(true);
    for key in 0..MOST_REREADS as u128 + 1 {
        merge.read_again(key, vec!["1".to_owned()]);
    }
    assert!(merge.is_overflown());
    merge.restart();
    assert!(!merge.is_overflown() && merge.rereads().is_empty());
}
