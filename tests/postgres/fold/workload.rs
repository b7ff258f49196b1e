//! Writers: each a session that runs transactions drawn from a seed. They ask the catalog what the tables look like before each, so
//! that most statements succeed while others change the tables; what the server refuses is rolled back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value as Json;
use tokio_postgres::Client;

use crate::support::fold::{Defaults, Shown};
use crate::support::postgres::query;

/// What has a topic. `r_a` and `r_b` are names of one table.
pub const TABLES: [&str; 9] = ["a", "b", "bare", "parent", "child", "r_a", "r_b", "part", "big"];

pub const SCHEMA: &str = "
    create type mood as enum ('sad', 'ok', 'it''s');
    create domain posint as int check (value > 0);
    create table a (id bigint primary key, n int, body text, price numeric(12,2));
    alter table a alter body set storage external;
    create table b (x int not null, y text not null, u bigint not null, v text, constraint b_pk primary key (y, x));
    create unique index b_u on b (u);
    create table bare (v int, w text);
    alter table bare replica identity full;
    create table parent (id serial primary key, v int);
    create table child (id serial primary key, parent int references parent on delete cascade, v text);
    create table r_a (id int primary key, v text);
    create table part (id int, region int, v text, primary key (id, region)) partition by list (region);
    create table part_1 partition of part for values in (1);
    create table part_2 partition of part for values in (2);
    create table big (id bigint primary key, v text);
    create table marker (id int primary key);
    alter table a owner to cdc; alter table b owner to cdc; alter table bare owner to cdc; alter table parent owner to cdc;
    alter table child owner to cdc; alter table r_a owner to cdc; alter table part owner to cdc; alter table big owner to cdc;
    alter table marker owner to cdc;";

/// Types of columns that are added, and a default of each with its JSON.
const TYPES: [(&str, &str, &str); 12] = [
    ("int", "7", "7"),
    ("bigint", "-9007199254740993", "-9007199254740993"),
    ("text", "'dflt'", "\"dflt\""),
    ("numeric(12,3)", "1.5", "\"1.500\""),
    ("numeric", "-0.10", "\"-0.10\""),
    ("boolean", "true", "true"),
    ("double precision", "0.25", "0.25"),
    ("uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "\"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\""),
    ("jsonb", "'{\"d\": 1}'", "{\"d\": 1}"),
    ("int[]", "'{1,NULL}'", "[1,null]"),
    ("mood", "'it''s'", "\"it's\""),
    ("posint", "3", "3"),
];

/// What the server may say to writers that run into each other: conflicts, deadlocks, time-outs, tables that changed
/// meanwhile, and updates that the table's replica identity doesn't allow.
const ALLOWED: [&str; 20] = [
    "40001", "55000", "40P01", "55P03", "23505", "23503", "23502", "23514", "42703", "42P01", "42701", "42804",
    "42P16", "42704", "42P07", "22P02", "42883", "42710", "55006", "42P17",
];

/// What writers did.
#[derive(Debug, Default, Clone, Copy)]
pub struct Done {
    pub committed: u64,
    pub refused: u64,
    pub altered: u64,
    pub prepared: u64,
    pub large: u64,
}

pub struct Writer {
    client: Client,
    random: StdRng,
    /// Tells writers' names and keys apart.
    number: u64,
    database: String,
    defaults: Defaults,
    names: u64,
    done: Done,
}

/// Columns and their types.
type Columns = Vec<(String, String)>;

impl Writer {
    pub fn new(client: Client, seed: u64, number: u64, database: &str, defaults: Defaults) -> Self {
        let random = StdRng::seed_from_u64(seed.wrapping_mul(31).wrapping_add(number));
        Self { client, random, number, database: database.to_owned(), defaults, names: 0, done: Done::default() }
    }

    /// Works until told to stop; no prepared transaction is left.
    pub async fn run(mut self, stop: Arc<AtomicBool>) -> Done {
        self.client.batch_execute("set lock_timeout = '2s'; set timezone = 'UTC'").await.unwrap();
        while !stop.load(Ordering::Relaxed) {
            match self.random.random_range(0..100) {
                0..8 => self.alter().await,
                8..10 => self.large().await,
                10..20 => self.prepared().await,
                _ => {
                    let statements = self.changes().await;
                    self.transaction(&statements, "commit").await;
                }
            }
        }
        self.done
    }

    /// Runs statements in a transaction with this end; false if the server refused one of them.
    async fn transaction(&mut self, statements: &[String], end: &str) -> bool {
        let all = ["begin"].into_iter().chain(statements.iter().map(String::as_str)).chain([end]);
        for statement in all {
            let Err(error) = self.client.batch_execute(statement).await else { continue };
            let code = error.code().map(|code| code.code().to_owned()).unwrap_or_default();
            assert!(ALLOWED.contains(&code.as_str()), "{error:?} in: {statement}");
            self.client.batch_execute("rollback").await.unwrap();
            self.done.refused += 1;
            return false;
        }
        self.done.committed += 1;
        true
    }

    async fn columns(&mut self, table: &str) -> Columns {
        let sql = format!(
            "select a.attname, format_type(a.atttypid, a.atttypmod) from pg_attribute a where a.attrelid = to_regclass('{table}') \
             and a.attnum > 0 and not a.attisdropped order by a.attnum"
        );
        let rows = query(&self.client, &sql).await;
        rows.into_iter().map(|row| (row[0].clone().unwrap(), row[1].clone().unwrap())).collect()
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.random.random_range(0..of.len())].clone()
    }

    fn word(&mut self) -> String {
        (0..8).map(|_| char::from(self.random.random_range(b'a'..=b'z'))).collect()
    }

    /// SQL of a value.
    fn value(&mut self, ty: &str, nulls: bool) -> String {
        if nulls && self.random.random_ratio(1, 8) {
            return "NULL".to_owned();
        }
        let n = self.random.random_range(-500..500);
        match ty {
            "integer" | "bigint" => n.to_string(),
            "posint" => (n + 501).to_string(),
            "boolean" => (n > 0).to_string(),
            "double precision" => format!("{n}.25"),
            "uuid" => {
                format!("'{:08x}-0000-4000-8000-{:012x}'", self.random.random::<u32>(), self.random.random::<u32>())
            }
            "jsonb" => format!("'{{\"k\": {n}, \"w\": \"{}\"}}'", self.word()),
            "integer[]" => format!("'{{{n},NULL,{}}}'", n + 1),
            "mood" => self.one(&["'sad'", "'ok'", "'it''s'"]).to_owned(),
            numeric if numeric.starts_with("numeric") => format!("{n}.{:02}", self.random.random_range(0..100)),
            // beyond what fits into a row, now and then
            _ if self.random.random_ratio(1, 4) => {
                format!("repeat('{}', {})", self.word(), self.random.random_range(300..900))
            }
            _ => format!("'{} ü {n}'", self.word()),
        }
    }

    fn small(&mut self) -> i32 {
        self.random.random_range(1..60)
    }

    /// A statement that changes rows of a table.
    async fn change(&mut self, table: &str) -> String {
        let columns = self.columns(table).await;
        let free: Columns = columns
            .into_iter()
            .filter(|(name, _)| !["id", "x", "y", "u", "region", "parent"].contains(&name.as_str()))
            .collect();
        let (id, other) = (self.small(), self.small());
        let region = self.random.random_range(1..3);
        let keys = match table {
            "b" => vec![
                ("x", (id % 7).to_string()),
                ("y", format!("'k{}'", other % 9)),
                ("u", self.random.random_range(0..1_000_000).to_string()),
            ],
            "bare" => vec![],
            "child" => vec![("parent", format!("(select id from parent order by id limit 1 offset {})", id % 5))],
            "parent" => vec![],
            "part" => vec![("id", id.to_string()), ("region", region.to_string())],
            _ => vec![("id", id.to_string())],
        };
        let place = match table {
            "b" => format!("x = {} and y = 'k{}'", id % 7, other % 9),
            "bare" => format!("v % 50 = {}", id % 50),
            _ => format!("id = {id}"),
        };
        let some: Columns = free.iter().filter(|_| self.random.random_ratio(1, 2)).cloned().collect();
        match self.random.random_range(0..10) {
            0..4 => {
                let mut names: Vec<String> = keys.iter().map(|(name, _)| (*name).to_owned()).collect();
                let mut values: Vec<String> = keys.into_iter().map(|(_, value)| value).collect();
                for (name, ty) in free {
                    values.push(self.value(&ty, true));
                    names.push(format!("\"{name}\""));
                }
                if names.is_empty() {
                    return format!("insert into {table} default values");
                }
                format!(
                    "insert into {table} ({}) values ({}) on conflict do nothing",
                    names.join(", "),
                    values.join(", ")
                )
            }
            4..8 if !some.is_empty() => {
                let mut sets = Vec::new();
                for (name, ty) in some {
                    sets.push(format!("\"{name}\" = {}", self.value(&ty, true)));
                }
                let wide = self.random.random_ratio(1, 6) && table != "bare";
                let place = if wide {
                    format!("({place}) or id % 5 = 0").replace("id % 5", if table == "b" { "x % 5" } else { "id % 5" })
                } else {
                    place
                };
                format!("update {table} set {} where {place}", sets.join(", "))
            }
            8 => match table {
                // the key, or a column of it
                "b" => format!("update b set y = 'k{}' where {place}", (other + 1) % 9),
                "part" => format!("update part set region = {} where {place}", 3 - region),
                "bare" | "parent" | "child" => format!("delete from {table} where {place}"),
                _ => format!(
                    "update {table} set id = {other} where id = {id} and not exists (select from {table} where id = {other})"
                ),
            },
            _ => format!("delete from {table} where {place}"),
        }
    }

    /// Changes of rows, some of them in subtransactions that are rolled back.
    async fn changes(&mut self) -> Vec<String> {
        let renamed = query(&self.client, "select to_regclass('r_b') is null").await;
        let last = if renamed[0][0].as_deref() == Some("t") { "r_a" } else { "r_b" };
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
                    statements.push(format!("release s{open}"));
                    open -= 1;
                }
                // a subtransaction that fails by itself
                5 => {
                    let inner = self.change("a").await;
                    statements.push(format!(
                        "do $$ begin {inner}; perform 1 / 0; exception when division_by_zero then null; end $$"
                    ));
                }
                6 if self.random.random_ratio(1, 6) => {
                    let how = self.one(&[
                        "a",
                        "b",
                        "bare",
                        "part",
                        "parent cascade",
                        "parent, child restart identity",
                        "big restart identity",
                    ]);
                    statements.push(format!("truncate {how}"));
                }
                _ => {
                    let table = self.one(&["a", "a", "a", "b", "b", "bare", "parent", "child", "part", last]);
                    statements.push(self.change(table).await);
                }
            }
        }
        statements
    }

    /// A transaction far beyond `logical_decoding_work_mem`, with a part of it undone.
    async fn large(&mut self) {
        let rows = self.random.random_range(500..4000);
        let from = self.random.random_range(0..20) * 10_000;
        let word = self.word();
        let until = from + rows;
        let statements = [
            format!(
                "insert into big select i, repeat('{word}', 12) from generate_series({from}, {until}) i on conflict do nothing"
            ),
            "savepoint s".to_owned(),
            format!("update big set v = v || '+' where id between {from} and {until} and id % 3 = 0"),
            self.one(&["rollback to s", "release s"]).to_owned(),
            format!("delete from big where id between {from} and {until} and id % 50 <> 7"),
        ];
        let end = if self.random.random_ratio(1, 4) { "rollback" } else { "commit" };
        if self.transaction(&statements, end).await {
            self.done.large += 1;
        }
    }

    /// Prepares a transaction and decides about it later, after another one.
    async fn prepared(&mut self) {
        self.names += 1;
        let name = format!("{}_{}_{}", self.database, self.number, self.names);
        let statements = self.changes().await;
        if !self.transaction(&statements, &format!("prepare transaction '{name}'")).await {
            return;
        }
        let between = self.changes().await;
        self.transaction(&between, "commit").await;
        let end = self.one(&["commit", "commit", "rollback"]);
        self.client.batch_execute(&format!("{end} prepared '{name}'")).await.unwrap();
        self.done.prepared += 1;
    }

    /// A column's name that no other has had.
    fn fresh(&mut self) -> String {
        self.names += 1;
        format!("c{}_{}", self.number, self.names)
    }

    /// Changes a table. Where the server changes rows without logging it, an update in the same transaction says what they are
    /// now, as it would have to be done for any consumer.
    async fn alter(&mut self) {
        let table = self.one(&["a", "b"]);
        let columns = self.columns(table).await;
        let keep: &[&str] = if table == "a" { &["id", "n"] } else { &["x", "y", "u", "v"] };
        let others: Columns = columns.iter().filter(|(name, _)| !keep.contains(&name.as_str())).cloned().collect();
        let touched = if table == "a" { "n" } else { "v" };
        let touch = format!("update {table} set {touched} = {touched}");
        let (ty, default, json) = self.one(&TYPES);
        let mut added = None;
        let picked = if others.is_empty() { None } else { Some(self.one(&others)) };
        let external = |name: &str, ty: &str| match ty {
            "text" => format!(", alter {name} set storage external"),
            _ => String::new(),
        };
        let statements = match (self.random.random_range(0..20), picked) {
            (0..5, _) if others.len() < 9 => {
                let name = self.fresh();
                let mut add = format!("alter table {table} add {name} {ty}");
                if self.random.random_ratio(1, 2) {
                    add += &format!(" default {default}");
                    added = Some((name.clone(), serde_json::from_str::<Json>(json).unwrap()));
                }
                vec![add + &external(&name, ty)]
            }
            (0..8, Some((name, _))) => vec![format!("alter table {table} drop {name}"), self.change(table).await],
            (8..10, Some((name, ty))) => {
                let new = self.fresh();
                // a value out of line is logged only if it is another one
                let same = if ty == "text" { format!("{new} || ''") } else { new.clone() };
                vec![
                    format!("alter table {table} rename {name} to {new}"),
                    format!("update {table} set {new} = {same}"),
                ]
            }
            (10..12, Some((name, _))) => vec![
                format!("alter table {table} alter {name} drop default"),
                format!(
                    "alter table {table} alter {name} type text using {name}::text, alter {name} set storage external"
                ),
                format!("update {table} set {name} = {name} || ''"),
            ],
            (12, Some((name, old))) => {
                let ty = if old == "integer" { "text" } else { "integer" };
                vec![format!("alter table {table} drop {name}, add {name} {ty}"), touch]
            }
            (13..16, _) if table == "b" => match self.random.random_range(0..5) {
                0 => vec!["alter table b drop constraint b_pk".to_owned()],
                1 => vec!["truncate b".to_owned(), "alter table b add constraint b_pk primary key (y, x)".to_owned()],
                choice => {
                    let key = ["y, x", "x, y", "u"][choice - 2];
                    vec![format!("alter table b drop constraint b_pk, add constraint b_pk primary key ({key})")]
                }
            },
            (13..18, _) => {
                // a key that changes is in the log, unless the old rows are logged whole: then only the catalog has it, as it is now
                let identities: &[&str] = match table {
                    "a" => &["default", "default", "full", "full", "nothing"],
                    _ => &["default", "default", "using index b_u"],
                };
                vec![format!("alter table {table} replica identity {}", self.one(identities))]
            }
            (18, _) => {
                let names = if self.random.random_ratio(1, 2) { ("r_a", "r_b") } else { ("r_b", "r_a") };
                let word = self.word();
                // the rows' topic is another one from then on
                vec![
                    format!("truncate {}", names.0),
                    format!("alter table {} rename to {}", names.0, names.1),
                    format!("insert into {} values (1, '{word}'), (2, null)", names.1),
                ]
            }
            _ => match self.random.random_range(0..3) {
                0 => vec![
                    "create table part_3 partition of part for values in (3)".to_owned(),
                    "insert into part values (1, 3, 'new')".to_owned(),
                ],
                // rows of a partition that is detached are not deleted: nothing says so
                1 => vec![
                    "delete from part where region = 3".to_owned(),
                    "alter table part detach partition part_3".to_owned(),
                    "drop table part_3".to_owned(),
                ],
                _ => vec![
                    "insert into bare values (1, 'x')".to_owned(),
                    format!("alter table bare replica identity {}", self.one(&["full", "full", "nothing"])),
                ],
            },
        };
        // before the column is: a reader may see it at once
        if let Some((name, json)) = added {
            self.defaults.lock().unwrap().insert(name, json);
        }
        if self.transaction(&statements, "commit").await {
            self.done.altered += 1;
        }
    }
}

/// What a table holds by SQL: its columns, and its rows as the envelope would have them.
pub async fn rows(client: &Client, table: &str) -> Shown {
    let sql = format!(
        "select a.attname, format_type(a.atttypid, a.atttypmod) from pg_attribute a where a.attrelid = to_regclass('{table}') \
         and a.attnum > 0 and not a.attisdropped order by a.attnum"
    );
    let columns = query(client, &sql).await;
    let names: Vec<String> = columns.iter().map(|row| row[0].clone().unwrap()).collect();
    let select: Vec<String> = columns
        .iter()
        .map(|row| {
            let (name, ty) = (row[0].as_ref().unwrap(), row[1].as_ref().unwrap());
            let cast = if ty.starts_with("numeric") { "::text" } else { "" };
            format!("\"{name}\"{cast} as \"{name}\"")
        })
        .collect();
    let sql = format!("select to_jsonb(whole) from (select {} from {table}) whole", select.join(", "));
    let rows = query(client, &sql).await;
    let rows = rows.iter().map(|row| serde_json::from_str(row[0].as_ref().unwrap()).unwrap()).collect();
    (names, rows)
}
