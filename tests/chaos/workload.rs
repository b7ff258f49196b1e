//! Writers, and the truth: what they committed, as they themselves know it.
//!
//! Every row says which version of its key it is, and which writer's transaction wrote it, as which of how many rows. A
//! writer owns its keys, so it knows every version without asking; all writers share one row, the clock, whose versions
//! order their transactions. When a writer's connection breaks during a commit, the ledger, a row per writer that each
//! transaction counts up, says whether it was committed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::support::eventually;
use crate::support::session::{Address, Session};
use crate::support::source::{PATIENCE, Source};

/// The tables that writers change; the ledger is the last one.
pub const TABLES: [&str; 3] = ["accounts", "orders", LEDGER];
/// One row per writer, and the clock.
pub const LEDGER: &str = "ledger";
/// The clock's key in the ledger.
pub const CLOCK: i64 = 0;
/// Columns of every table.
pub const COLUMNS: &str = "id bigint primary key, version bigint not null, writer int not null, txn bigint not null, n int \
                           not null, rows_of int not null, pad varchar(400) not null";
/// Keys of one writer in one table, except where rows are there before.
const KEYS: i64 = 24;
/// The distance between the keys of two writers.
pub const SPAN: i64 = 100_000;

/// One change of one key, in the order of the key's versions. A delete has the version of the row that it removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// `c`, `u` or `d`.
    pub op: char,
    /// Version of the row that was written or removed.
    pub version: u64,
}

/// A key: number of the table in [`TABLES`], and the row's.
pub type Key = (usize, i64);

/// What was committed.
#[derive(Debug, Default)]
pub struct Truth {
    /// All changes of every key.
    pub changes: BTreeMap<Key, Vec<Change>>,
    /// Keys that were there before the source began, all with version 0.
    pub initial: BTreeSet<Key>,
    /// By writer: the clock's version in each of its transactions that moved it.
    pub clock: BTreeMap<(i64, u64), u64>,
    /// Transactions.
    pub transactions: u64,
    /// Transactions that were rolled back, wholly or to a savepoint.
    pub rolled_back: u64,
    /// Commits whose outcome had to be looked up.
    pub looked_up: u64,
}

impl Truth {
    /// The number of changes.
    pub fn count(&self) -> usize {
        self.changes.values().map(Vec::len).sum()
    }

    /// Adds what another writer did; its keys are others, except the clock, of which only the number of changes is known.
    pub fn add(&mut self, other: Truth) {
        for (key, changes) in other.changes {
            self.changes.entry(key).or_default().extend(changes);
        }
        self.initial.extend(other.initial);
        self.clock.extend(other.clock);
        self.transactions += other.transactions;
        self.rolled_back += other.rolled_back;
        self.looked_up += other.looked_up;
    }
}

/// Makes the tables, with the ledger's rows of so many writers, and returns these as the beginning of the truth. They are
/// to be inserted while the source streams: they are the first events.
pub async fn prepare(source: &Source) {
    for table in TABLES {
        source.create_table(table, COLUMNS).await;
        if let Source::Postgres(db) = source {
            // else a delete would say only which key went, not which version
            db.exec(&format!("alter table {table} replica identity full")).await;
        }
    }
}

/// Rows of the first table that are there before the source begins: keys of a writer, to be copied while it changes them.
pub async fn populate(source: &Source, writer: i64, rows: i64) {
    let first = writer * SPAN;
    for start in (0..rows).step_by(500) {
        let values: Vec<String> = (start..rows.min(start + 500))
            .map(|n| format!("({}, 0, -1, 0, 1, 1, '{}')", first + n, "p".repeat(n as usize % 50)))
            .collect();
        source.exec(&format!("insert into {} values {}", TABLES[0], values.join(", "))).await;
    }
}

/// Inserts the ledger's rows, and one row each into the other tables, so that all topics exist.
pub async fn begin(source: &Source, writers: i64) -> Truth {
    let mut truth = Truth::default();
    let mut insert = |table: usize, id: i64| {
        truth.changes.insert((table, id), vec![Change { op: 'c', version: 0 }]);
        format!("insert into {} values ({id}, 0, -1, 0, 1, 1, '')", TABLES[table])
    };
    let mut statements: Vec<String> = (0..=writers).map(|id| insert(2, id)).collect();
    statements.extend([insert(0, -1), insert(1, -1)]);
    for statement in statements {
        source.exec(&statement).await;
    }
    truth
}

/// How fast a writer works, changed at any time.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Ends it.
    pub stop: Arc<AtomicBool>,
    /// The longest pause between two transactions, in microseconds.
    pub pause: Arc<AtomicU64>,
}

impl Pace {
    /// With pauses of at most so many milliseconds.
    pub fn new(pause: Duration) -> Pace {
        Pace {
            stop: Arc::new(AtomicBool::new(false)),
            pause: Arc::new(AtomicU64::new(u64::try_from(pause.as_micros()).unwrap())),
        }
    }
}

/// Starts a writer; 1 is the first. `rows` are its rows that [`populate`] made.
pub fn start(address: Address, writer: i64, rows: i64, seed: u64, pace: Pace) -> tokio::task::JoinHandle<Truth> {
    tokio::spawn(async move {
        let random = StdRng::seed_from_u64(seed ^ writer as u64);
        let initial: BTreeSet<Key> = (0..rows).map(|n| (0, writer * SPAN + n)).collect();
        let live: BTreeMap<Key, u64> = initial.iter().map(|key| (*key, 0)).collect();
        let truth = Truth { initial, ..Truth::default() };
        Writer { address, writer, keys: rows.max(KEYS), random, truth, versions: live.clone(), live }.work(pace).await
    })
}

struct Writer {
    address: Address,
    writer: i64,
    /// In each table.
    keys: i64,
    random: StdRng,
    truth: Truth,
    /// Rows that exist and their versions.
    live: BTreeMap<Key, u64>,
    /// The last version of every key that ever was.
    versions: BTreeMap<Key, u64>,
}

/// A transaction before it is run.
#[derive(Default)]
struct Draft {
    statements: Vec<String>,
    changes: Vec<(Key, Change)>,
    live: BTreeMap<Key, u64>,
    versions: BTreeMap<Key, u64>,
}

enum Outcome {
    Committed(Option<u64>),
    RolledBack,
}

impl Writer {
    async fn work(mut self, pace: Pace) -> Truth {
        let mut session = self.address.connect_patiently().await;
        let mut txn = 1;
        while !pace.stop.load(Ordering::Relaxed) {
            let clock = self.random.random_ratio(1, 4);
            let rolls_back = self.random.random_ratio(1, 12);
            let draft = self.draft(txn, clock);
            let outcome = match self.run(&mut session, &draft, clock, rolls_back).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    session = self.address.connect_patiently().await;
                    self.truth.looked_up += 1;
                    self.look_up(&mut session, txn).await
                }
            };
            match outcome {
                Outcome::RolledBack => self.truth.rolled_back += 1,
                Outcome::Committed(at) => {
                    for (key, change) in draft.changes {
                        self.truth.changes.entry(key).or_default().push(change);
                    }
                    if let Some(at) = at {
                        self.truth.clock.insert((self.writer, txn), at);
                    }
                    (self.live, self.versions) = (draft.live, draft.versions);
                    self.truth.transactions += 1;
                    txn += 1;
                }
            }
            let pause = self.random.random_range(0..=pace.pause.load(Ordering::Relaxed));
            tokio::time::sleep(Duration::from_micros(pause)).await;
        }
        self.truth
    }

    /// Whether the transaction whose connection broke was committed. The server may have to end the old session first.
    async fn look_up(&mut self, session: &mut Session, txn: u64) -> Outcome {
        let (writer, address) = (self.writer, self.address.clone());
        let row = format!("select version from {LEDGER} where id = {writer} for update");
        let done = loop {
            // the lock waits for the old session's end
            match session.number(&row).await {
                Ok(done) => break done,
                Err(_) => *session = address.connect_patiently().await,
            }
        };
        assert!(done == txn || done == txn - 1, "writer {writer}: transaction {txn}, and the ledger says {done}");
        if done != txn {
            return Outcome::RolledBack;
        }
        // which version of the clock it was is not known any more
        Outcome::Committed(None)
    }

    /// Runs a transaction. An error that is not the connection's end (a deadlock) rolls it back.
    async fn run(
        &mut self,
        session: &mut Session,
        draft: &Draft,
        clock: bool,
        rolls_back: bool,
    ) -> Result<Outcome, String> {
        session.run("begin").await?;
        session.run(&draft.statements.join("; ")).await?;
        let at = if clock {
            Some(session.number(&format!("select version from {LEDGER} where id = {CLOCK}")).await?)
        } else {
            None
        };
        if rolls_back {
            session.run("rollback").await?;
            return Ok(Outcome::RolledBack);
        }
        session.run("commit").await?;
        Ok(Outcome::Committed(at))
    }

    /// Plans a transaction of one to six changes of own rows, sometimes of fifty; then the clock, sometimes; then the ledger.
    fn draft(&mut self, txn: u64, clock: bool) -> Draft {
        let mut draft = Draft { live: self.live.clone(), versions: self.versions.clone(), ..Draft::default() };
        let changes = if self.random.random_ratio(1, 50) { 50 } else { self.random.random_range(1..=6) };
        // rows by table that the transaction writes, counted first, since each row says how many there are
        let mut planned: Vec<(Key, &str, Option<Key>)> = Vec::new();
        let mut live = draft.live.clone();
        for _ in 0..changes {
            let table = self.random.random_range(0..TABLES.len() - 1);
            let key = (table, self.writer * SPAN + self.random.random_range(0..self.keys));
            if live.insert(key, 0).is_none() {
                planned.push((key, "c", None));
                continue;
            }
            let other = (table, self.writer * SPAN + self.random.random_range(0..self.keys));
            match self.random.random_range(0..10) {
                0..=1 => {
                    live.remove(&key);
                    planned.push((key, "d", None));
                }
                2 if !live.contains_key(&other) => {
                    live.remove(&key);
                    live.insert(other, 0);
                    planned.push((key, "k", Some(other)));
                }
                _ => planned.push((key, "u", None)),
            }
        }
        let mut rows = [0; TABLES.len()];
        for (key, op, _) in &planned {
            rows[key.0] += usize::from(*op != "d");
        }
        let mut ns = [0; TABLES.len()];
        if self.random.random_ratio(1, 8) {
            // what is rolled back to a savepoint never was
            let table = TABLES[0];
            draft.statements.push(format!(
                "savepoint s; update {table} set pad = 'undone' where writer = {}; rollback to savepoint s",
                self.writer
            ));
        }
        for (key, op, other) in planned {
            let target = other.unwrap_or(key);
            let table = TABLES[key.0];
            if op != "d" {
                ns[key.0] += 1;
            }
            let (n, of) = (ns[key.0], rows[key.0]);
            if op == "d" || op == "k" {
                let version = draft.live.remove(&key).unwrap();
                draft.changes.push((key, Change { op: 'd', version }));
            }
            if op == "d" {
                draft.statements.push(format!("delete from {table} where id = {}", key.1));
                continue;
            }
            let version = draft.versions.get(&target).map_or(1, |version| version + 1);
            draft.versions.insert(target, version);
            draft.live.insert(target, version);
            draft.changes.push((target, Change { op: if op == "u" { 'u' } else { 'c' }, version }));
            let pad = "x".repeat(self.random.random_range(0..200));
            let writer = self.writer;
            draft.statements.push(if op == "c" {
                format!("insert into {table} values ({}, {version}, {writer}, {txn}, {n}, {of}, '{pad}')", key.1)
            } else {
                format!(
                    "update {table} set id = {}, version = {version}, writer = {writer}, txn = {txn}, n = {n}, rows_of = {of}, \
                     pad = '{pad}' where id = {}",
                    target.1, key.1
                )
            });
        }
        let of = 1 + usize::from(clock);
        if clock {
            draft.statements.push(format!(
                "update {LEDGER} set version = version + 1, writer = {}, txn = {txn}, n = 1, rows_of = {of} where id = {CLOCK}",
                self.writer
            ));
        }
        draft.statements.push(format!(
            "update {LEDGER} set version = {txn}, writer = {}, txn = {txn}, n = {of}, rows_of = {of} where id = {}",
            self.writer, self.writer
        ));
        draft.changes.push(((2, self.writer), Change { op: 'u', version: txn }));
        draft
    }
}

/// The clock's changes, which no writer knows alone: one after another, as many as the database says.
pub async fn read_clock(address: &Address, truth: &mut Truth) {
    let last = eventually(PATIENCE, "the clock", || async {
        let mut session = address.connect().await?;
        session.number(&format!("select version from {LEDGER} where id = {CLOCK}")).await
    })
    .await;
    let changes = truth.changes.entry((2, CLOCK)).or_default();
    changes.extend((1..=last).map(|version| Change { op: 'u', version }));
}
