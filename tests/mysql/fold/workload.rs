//! Writers: each a session that runs transactions drawn from a seed. They ask the catalog what the tables look like before each, so
//! that most statements succeed while others change the tables; what the server refuses is rolled back, or left out.

use std::ops::AddAssign;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::Shared;
use super::statements::{Columns, columns, value, word};
use crate::support::mysql::{exec, try_query};
use crate::support::source::{Kind, Source};

/// What the server may say to writers that run into each other: conflicts, deadlocks, time-outs, tables that changed meanwhile,
/// values that a column doesn't take, changes of tables that can't be made at once.
const ALLOWED: [u16; 39] = [
    159, 1020, 1048, 1050, 1051, 1054, 1060, 1061, 1062, 1068, 1072, 1091, 1100, 1136, 1146, 1192, 1205, 1213, 1223,
    1264, 1265, 1292, 1305, 1364, 1366, 1399, 1406, 1412, 1451, 1452, 1507, 1517, 1613, 1614, 1615, 1845, 1846, 4092,
    3572,
];

/// Whether a refusal is one of [`ALLOWED`].
pub fn is_allowed(error: &Error) -> bool {
    code(error).is_some_and(|code| ALLOWED.contains(&code))
}

fn code(error: &Error) -> Option<u16> {
    match error {
        Error::Server(error) => Some(error.code),
        _ => None,
    }
}

/// What writers did.
#[derive(Debug, Default, Clone, Copy)]
pub struct Done {
    pub committed: u64,
    pub refused: u64,
    pub altered: u64,
    pub replaced: u64,
    pub prepared: u64,
    pub large: u64,
}

impl AddAssign for Done {
    fn add_assign(&mut self, more: Done) {
        self.committed += more.committed;
        self.refused += more.refused;
        self.altered += more.altered;
        self.replaced += more.replaced;
        self.prepared += more.prepared;
        self.large += more.large;
    }
}

pub struct Writer {
    pub(super) conn: Conn,
    pub(super) shared: Arc<Shared>,
    pub(super) random: StdRng,
    /// Tells writers' names and keys apart.
    pub(super) number: u64,
    names: u64,
    pub(super) done: Done,
}

impl Writer {
    pub fn new(conn: Conn, shared: Arc<Shared>, seed: u64, number: u64) -> Self {
        let random = StdRng::seed_from_u64(seed.wrapping_mul(31).wrapping_add(number));
        Self { conn, shared, random, number, names: 0, done: Done::default() }
    }

    /// The session's settings.
    async fn set_up(&mut self) {
        let (mode, maria) = (self.shared.mode, self.shared.mode.kind == Kind::Mariadb);
        exec(&mut self.conn, "set session lock_wait_timeout = 2, session innodb_lock_wait_timeout = 1").await;
        exec(&mut self.conn, "set session time_zone = '+00:00'").await;
        let odd = self.number % 2 == 1;
        let mut settings = Vec::new();
        if !maria {
            settings.push("cte_max_recursion_depth = 100000".to_owned());
        }
        if odd && mode.origins {
            let tagged = format!("gtid_next = 'AUTOMATIC:w{}'", self.number);
            settings.push(if maria { "gtid_domain_id = 1".to_owned() } else { tagged });
        }
        if odd && mode.compressed && !maria {
            settings.push("binlog_transaction_compression = on".to_owned());
        }
        if odd && mode.partial_json {
            settings.push("binlog_row_value_options = 'PARTIAL_JSON'".to_owned());
        }
        for setting in settings {
            exec(&mut self.conn, &format!("set session {setting}")).await;
        }
    }

    /// Works until told to stop; no prepared transaction is left.
    pub async fn run(mut self, stop: Arc<AtomicBool>) -> Done {
        self.set_up().await;
        while !stop.load(Ordering::Relaxed) {
            match self.random.random_range(0..100) {
                0..8 => self.alter().await,
                8..9 => self.large().await,
                9..11 if self.number == 0 => self.replace_online().await,
                11..20 => self.prepared().await,
                20..22 => {
                    let table = self.one(&["a", "b", "bare", "part", "docs", "audit", "big"]);
                    let shared = Arc::clone(&self.shared);
                    // MariaDB's snapshots show the table empty, whenever they were taken
                    let _unseen = shared.pictures.read().await;
                    self.single(&format!("truncate {table}")).await;
                }
                22..32 => {
                    let statement = self.change().await;
                    self.single(&statement).await;
                }
                _ => {
                    let statements = self.changes().await;
                    self.transaction(&statements, "commit").await;
                }
            }
        }
        self.done
    }

    /// Runs a statement; whether the server took it.
    pub(super) async fn try_run(&mut self, statement: &str) -> bool {
        match self.conn.query_drop(statement).await {
            Ok(()) => true,
            Err(error) => {
                assert!(is_allowed(&error), "{error:?} in: {statement}");
                self.done.refused += 1;
                false
            }
        }
    }

    /// A statement that is a transaction.
    async fn single(&mut self, statement: &str) {
        let shared = Arc::clone(&self.shared);
        let _open = shared.transaction().await;
        if self.try_run(statement).await {
            self.done.committed += 1;
        }
    }

    /// Runs statements in a transaction with this end; what is refused is left out, or ends the transaction.
    async fn transaction(&mut self, statements: &[String], end: &str) -> bool {
        let shared = Arc::clone(&self.shared);
        let _open = shared.transaction().await;
        self.run_transaction(statements, end).await
    }

    /// [`Writer::transaction`] for who has said already that it writes.
    async fn run_transaction(&mut self, statements: &[String], end: &str) -> bool {
        let begin = self.one(&["begin", "start transaction", "start transaction with consistent snapshot"]);
        for statement in [begin].into_iter().chain(statements.iter().map(String::as_str)).chain([end]) {
            let Err(error) = self.conn.query_drop(statement).await else { continue };
            assert!(is_allowed(&error), "{error:?} in: {statement}");
            self.done.refused += 1;
            // a deadlock has rolled back the whole transaction, and what follows would be by itself
            if code(&error) != Some(1213) && statement != end && self.random.random() {
                continue;
            }
            exec(&mut self.conn, "rollback").await;
            return false;
        }
        self.done.committed += 1;
        true
    }

    pub(super) async fn columns(&mut self, table: &str) -> Columns {
        columns(&mut self.conn, table).await
    }

    pub(super) fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.random.random_range(0..of.len())].clone()
    }

    pub(super) fn word(&mut self) -> String {
        word(&mut self.random)
    }

    fn small(&mut self) -> i32 {
        self.random.random_range(1..60)
    }

    /// A name that no other column has had.
    pub(super) fn fresh(&mut self) -> String {
        self.names += 1;
        format!("c{}_{}", self.number, self.names)
    }

    /// A statement that changes rows of some table.
    async fn change(&mut self) -> String {
        let last = if self.columns("r_b").await.is_empty() { "r_a" } else { "r_b" };
        let table = self.one(&[
            "a", "a", "a", "b", "b", "b", "bare", "parent", "child", "part", "docs", "docs", "o", "o", last, "several",
        ]);
        if table == "several" { self.several().await } else { self.change_of(table).await }
    }

    /// A statement about several tables.
    async fn several(&mut self) -> String {
        let (id, n) = (self.small(), self.random.random_range(-500..500));
        let word = self.word();
        match self.random.random_range(0..6) {
            0 => format!("update a join b on b.x = a.id % 7 set a.n = {n}, b.v = '{word}' where a.id = {id}"),
            1 => format!("update a, docs set a.n = {n}, docs.v = {n} where a.id = docs.id and a.id < {id}"),
            2 => format!("delete a, docs from a join docs on docs.id = a.id where a.id between {id} and {}", id + 2),
            3 => format!("insert into bare (v, w) select n, left(body, 50) from a where id % 9 = {}", id % 9),
            4 => format!("insert ignore into o (id, v) select id, '{word}' from docs where id > {id}"),
            _ => format!("delete from child where parent in (select id from parent where id % 3 = {})", id % 3),
        }
    }

    async fn change_of(&mut self, table: &str) -> String {
        let columns = self.columns(table).await;
        let own = ["id", "x", "y", "u", "region", "parent", "touched"];
        let free: Columns = columns.into_iter().filter(|(name, _)| !own.contains(&name.as_str())).collect();
        let (id, other) = (self.small(), self.small());
        let region = self.random.random_range(1..3);
        let (x, y) = (id % 7, format!("k{}", other % 9));
        let place = match table {
            "b" => format!("x = {x} and y = '{y}'"),
            "bare" => format!("v % 50 = {}", id % 50),
            _ => format!("id = {id}"),
        };
        let some: Columns = free.iter().filter(|_| self.random.random_ratio(1, 2)).cloned().collect();
        match self.random.random_range(0..12) {
            0..5 => self.insert(table, &free, (id, region, x, &y)),
            5..9 if !some.is_empty() => {
                let mut sets = Vec::new();
                for (name, ty) in some {
                    let value = value(&mut self.random, &ty, true);
                    let path = self.one(&["$.k", "$.w", "$.l[1]", "$.new"]);
                    // changes of a document that may be logged as such
                    let set = match (name.as_str(), self.random.random_range(0..4)) {
                        ("doc", 0) => format!("json_set(doc, '{path}', {other})"),
                        ("doc", 1) => format!("json_replace(doc, '{path}', '{}')", self.word()),
                        ("doc", 2) => format!("json_remove(doc, '{path}')"),
                        _ => value,
                    };
                    sets.push(format!("`{name}` = {set}"));
                }
                let by = if table == "b" { "x" } else { "id" };
                let wide = self.random.random_ratio(1, 6) && table != "bare";
                let place = if wide { format!("({place}) or {by} % 5 = 0") } else { place };
                let end = self.one(&["", "", " limit 3"]);
                format!("update {table} set {} where {place}{end}", sets.join(", "))
            }
            9..11 => match table {
                // the key, or a column of it
                "b" => self.one(&[
                    format!("update b set y = 'k{}' where {place}", (other + 1) % 9),
                    format!("update b set u = u + 1000000 where {place}"),
                    format!("update b set x = x + 7 where y = '{y}' order by x desc"),
                ]),
                "part" => format!("update part set region = {} where {place}", 3 - region),
                "bare" | "parent" | "child" => format!("delete from {table} where {place}"),
                _ => self.one(&[
                    format!("update {table} set id = {other} where {place}"),
                    format!("update {table} set id = id + 1 where id >= {id} order by id desc"),
                ]),
            },
            _ => format!("delete from {table} where {place}"),
        }
    }

    /// An INSERT of one of many kinds, of one row or several.
    fn insert(&mut self, table: &str, free: &Columns, (id, region, x, y): (i32, i32, i32, &str)) -> String {
        let mut names: Vec<String> = match table {
            "b" => vec!["x".to_owned(), "y".to_owned(), "u".to_owned()],
            "bare" | "parent" => vec![],
            "child" => vec!["parent".to_owned()],
            "part" => vec!["id".to_owned(), "region".to_owned()],
            _ => vec!["id".to_owned()],
        };
        names.extend(free.iter().map(|(name, _)| format!("`{name}`")));
        let mut rows = Vec::new();
        for row in 0..self.random.random_range(1..4) {
            let mut values = match table {
                "b" => {
                    vec![(x + row).to_string(), format!("'{y}'"), self.random.random_range(0..1_000_000).to_string()]
                }
                "bare" | "parent" => vec![],
                "child" => vec![format!("(select id from parent order by id limit 1 offset {})", id % 5)],
                "part" => vec![(id + row).to_string(), region.to_string()],
                _ => vec![(id + row).to_string()],
            };
            values.extend(free.iter().map(|(_, ty)| value(&mut self.random, ty, true)));
            rows.push(format!("({})", values.join(", ")));
        }
        let mut kind = self.one(&["insert ignore", "insert", "replace", "upsert"]);
        let mode = self.shared.mode;
        if kind == "replace" && mode.kind == Kind::Mariadb && mode.image != "FULL" {
            // MariaDB's event lacks the columns that REPLACE sets to their defaults: its own replicas keep the old values
            kind = "upsert";
        }
        let (verb, end) = match kind {
            "upsert" if !free.is_empty() => {
                let set = |(name, _): &(String, String)| format!("`{name}` = values(`{name}`)");
                let sets: Vec<String> = free.iter().filter(|_| self.random.random()).map(set).collect();
                let sets = if sets.is_empty() { set(&free[0]) } else { sets.join(", ") };
                ("insert", format!(" on duplicate key update {sets}"))
            }
            "upsert" => ("insert ignore", String::new()),
            other => (other, String::new()),
        };
        // a parent that others refer to can't be replaced, and its number is the server's
        let verb = if matches!(table, "parent" | "child" | "bare") { "insert" } else { verb };
        let end = if verb == "insert" && matches!(table, "parent" | "child" | "bare") { String::new() } else { end };
        format!("{verb} into {table} ({}) values {}{end}", names.join(", "), rows.join(", "))
    }

    /// Changes of rows, some of them behind savepoints that are rolled back, some in temporary tables.
    async fn changes(&mut self) -> Vec<String> {
        let mut statements = Vec::new();
        let mut open = 0;
        for _ in 0..self.random.random_range(1..8) {
            match self.random.random_range(0..20) {
                0..2 => {
                    open += 1;
                    statements.push(format!("savepoint s{open}"));
                }
                2..4 if open > 0 => {
                    statements.push(format!("rollback to s{open}"));
                    open -= 1;
                }
                4 if open > 0 => {
                    statements.push(format!("release savepoint s{open}"));
                    open -= 1;
                }
                5 if self.random.random_ratio(1, 4) => {
                    let id = self.small();
                    statements.extend([
                        format!("create temporary table tmp as select id, n from a where id < {id}"),
                        "update tmp set n = n + 1".to_owned(),
                        "update a join tmp on tmp.id = a.id set a.n = tmp.n".to_owned(),
                        "drop temporary table tmp".to_owned(),
                    ]);
                }
                _ => statements.push(self.change().await),
            }
        }
        statements
    }

    /// A transaction of many events, with a part of it undone.
    async fn large(&mut self) {
        let rows = self.random.random_range(500..4000);
        let from = self.random.random_range(0..20) * 10_000;
        let (word, until) = (self.word(), from + rows);
        let statements = [
            format!(
                "insert ignore into big with recursive n as (select {from} as i union all select i + 1 from n where i < {until}) \
                 select i, repeat('{word}', 12) from n"
            ),
            "savepoint s".to_owned(),
            format!("update big set v = concat(v, '+') where id between {from} and {until} and id % 3 = 0"),
            self.one(&["rollback to s", "release savepoint s"]).to_owned(),
            format!("delete from big where id between {from} and {until} and id % 50 <> 7"),
        ];
        let end = if self.random.random_ratio(1, 4) { "rollback" } else { "commit" };
        if self.transaction(&statements, end).await {
            self.done.large += 1;
        }
    }

    /// An XA transaction: prepared, then decided about after another transaction; or committed at once.
    async fn prepared(&mut self) {
        self.names += 1;
        let name = format!("'{}','{}_{}'", self.shared.source.name(), self.number, self.names);
        let statements = self.changes().await;
        let shared = Arc::clone(&self.shared);
        // up to its end: what it has locked nobody else could change
        let _open = shared.transaction().await;
        exec(&mut self.conn, &format!("xa start {name}")).await;
        let mut failed = false;
        for statement in statements.iter().filter(|statement| !statement.contains("tmp")) {
            failed = !self.try_run(statement).await;
            if failed {
                break;
            }
        }
        // one that met a deadlock is at its end already
        failed |= !self.try_run(&format!("xa end {name}")).await;
        if failed || self.random.random_ratio(1, 8) {
            exec(&mut self.conn, &format!("xa rollback {name}")).await;
            return;
        }
        if self.random.random_ratio(1, 4) {
            exec(&mut self.conn, &format!("xa commit {name} one phase")).await;
            return;
        }
        exec(&mut self.conn, &format!("xa prepare {name}")).await;
        self.done.prepared += 1;
        if self.shared.mode.kind == Kind::Mariadb || self.random.random() {
            // only a session that ends lets go of a transaction that it prepared
            let Source::Mysql(db) = &self.shared.source else { unreachable!() };
            let conn = db.connect().await;
            let _ = std::mem::replace(&mut self.conn, conn).disconnect().await;
            self.set_up().await;
        }
        let between = self.changes().await;
        self.run_transaction(&between, "commit").await;
        let end = self.one(&["commit", "commit", "rollback"]);
        let mut tries = 0;
        // who ended the session may be faster than the server
        while let Err(error) = try_query(&mut self.conn, &format!("xa {end} {name}")).await {
            tries += 1;
            if tries == 20 && code(&error) == Some(1397) && self.shared.mode.kind == Kind::Mariadb {
                // MariaDB forgets a prepared transaction without changes with its session
                break;
            }
            assert!(tries < 50, "{error:?} in xa {end} {name}");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
}
