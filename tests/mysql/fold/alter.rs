//! Changes of tables. Where the server changes rows without logging it, an update says what they are now, as it would have to be done
//! for any consumer: with whole rows, and where others' events are partial, before they see the changed table.

use std::sync::Arc;

use rand::Rng;
use serde_json::Value as Json;

use super::statements::{Columns, TYPES, base};
use super::workload::Writer;
use crate::support::mysql::exec;
use crate::support::source::Kind;

/// What is done to a table.
struct Alteration {
    table: &'static str,
    statements: Vec<String>,
    /// Rows are others behind it: they are updated.
    touch: bool,
    /// Nobody may see the table between two of the statements.
    locked: bool,
    /// What a column is added with.
    default: Option<(String, Json)>,
}

impl Alteration {
    fn plain(table: &'static str, statements: Vec<String>) -> Self {
        Alteration { table, statements, touch: false, locked: false, default: None }
    }

    fn touched(table: &'static str, statement: String) -> Self {
        Alteration { touch: true, ..Alteration::plain(table, vec![statement]) }
    }

    fn locked(table: &'static str, statements: Vec<String>) -> Self {
        Alteration { locked: true, ..Alteration::plain(table, statements) }
    }
}

impl Writer {
    /// Changes a table.
    pub(super) async fn alter(&mut self) {
        let shared = Arc::clone(&self.shared);
        let _unseen = shared.pictures.read().await;
        let _settled = shared.settled().await;
        let Alteration { table, statements, touch, locked, default } = match self.random.random_range(0..20) {
            0..13 => self.columns_of_a_table().await,
            13..15 => self.key_of_b(),
            15 => self.rename().await,
            16 => self.partition().await,
            // its rows are in the log before the catalog knows the table
            17 if self.number == 1 && !shared.mode.calm() => self.make().await,
            _ => self.without_effect(),
        };
        // before the column is: a reader may see it at once
        self.shared.defaults.lock().unwrap().extend(default);
        let whole = self.shared.mode.image == "FULL";
        let locked = locked || touch && (!whole || self.random.random());
        if locked && !self.try_run(&format!("lock tables {table} write")).await {
            return;
        }
        let mut done = true;
        for statement in &statements {
            done = self.try_run(statement).await;
            if !done {
                break;
            }
        }
        if touch && done {
            self.touch(table).await;
        }
        if locked {
            exec(&mut self.conn, "unlock tables").await;
        }
        if done {
            self.done.altered += 1;
        }
    }

    /// Updates all rows of a table, whole.
    async fn touch(&mut self, table: &str) {
        exec(&mut self.conn, "set session binlog_row_image = 'FULL'").await;
        let mut tries = 0;
        while !self.try_run(&format!("update {table} set touched = touched + 1")).await {
            tries += 1;
            assert!(tries < 200, "{table} can't be updated");
        }
        let back = format!("set session binlog_row_image = '{}'", self.shared.mode.image);
        exec(&mut self.conn, &back).await;
    }

    /// Columns that come, go, move, or are of another type or name.
    async fn columns_of_a_table(&mut self) -> Alteration {
        let table = self.one(&["a", "b"]);
        let columns = self.columns(table).await;
        let keep: &[&str] = if table == "a" { &["id", "touched"] } else { &["x", "y", "u", "touched"] };
        let others: Columns = columns.iter().filter(|(name, _)| !keep.contains(&name.as_str())).cloned().collect();
        let picked = if others.is_empty() { None } else { Some(self.one(&others)) };
        let (behind, _) = self.one(&columns);
        let place = self.one(&[String::new(), String::new(), " first".to_owned(), format!(" after `{behind}`")]);
        let how = self.one(&["", "", ", algorithm=instant", ", algorithm=copy"]);
        match (self.random.random_range(0..14), picked) {
            (0..4, _) | (_, None) if others.len() < 9 => {
                let ((ty, default, json), name) = (self.one(&TYPES), self.fresh());
                let mut add = format!("alter table {table} add column {name} {ty}");
                let mut added = None;
                if !default.is_empty() && self.random.random() {
                    add += &format!(" default {default}");
                    added = Some((name, serde_json::from_str(json).unwrap()));
                }
                Alteration { default: added, ..Alteration::plain(table, vec![add + &place + how]) }
            }
            (0..6, Some((name, _))) => {
                Alteration::plain(table, vec![format!("alter table {table} drop column `{name}`{how}")])
            }
            (6..8, Some((name, _))) => {
                let new = self.fresh();
                Alteration::touched(table, format!("alter table {table} rename column `{name}` to {new}"))
            }
            // not back to the type that a row was last sent with
            (8, Some((name, ty))) if base(&ty) != "bigint" => {
                let ty = if ty.starts_with("int") { "varchar(40)" } else { "int" };
                Alteration::touched(
                    table,
                    format!("alter table {table} drop column `{name}`, add column `{name}` {ty}"),
                )
            }
            (9, Some((name, ty))) if !is_half_told(&ty) => {
                Alteration::plain(table, vec![format!("alter table {table} modify `{name}` {ty}{place}")])
            }
            (_, Some((name, ty))) => {
                let charset = self.one(&["latin1", "utf8mb4", "utf16", "utf8mb3"]);
                let labels = self.one(&["'sad','ok','it''s','new'", "'it''s','sad','ok'", "'sad','ok','it''s'"]);
                let (new, touch) = match base(&ty) {
                    "int" | "mediumint" | "smallint" if !ty.contains("unsigned") => {
                        self.one(&[("bigint".to_owned(), false), ("varchar(40)".to_owned(), true)])
                    }
                    "varchar" | "text" | "mediumtext" => {
                        let wider = self.one(&["varchar(400)", "text"]);
                        (format!("{wider} character set {charset}"), false)
                    }
                    "decimal" => ("decimal(14,4)".to_owned(), true),
                    "enum" => (format!("enum({labels})"), false),
                    "datetime" => ("datetime(6)".to_owned(), true),
                    // MariaDB's JSON, which would else be text
                    "longtext" => ("json".to_owned(), false),
                    _ => (ty.clone(), false),
                };
                let statement = format!("alter table {table} modify `{name}` {new}{place}");
                if touch { Alteration::touched(table, statement) } else { Alteration::plain(table, vec![statement]) }
            }
            (_, None) => self.without_effect(),
        }
    }

    /// Another primary key, or none: then a unique index takes its place.
    fn key_of_b(&mut self) -> Alteration {
        // which columns tell partial rows apart without a primary key is nowhere but in the catalog, as it is now
        let none = self.shared.mode.image == "FULL" && self.random.random_ratio(1, 5);
        let statements = if none {
            vec!["alter table b drop primary key".to_owned()]
        } else {
            let key = self.one(&["y, x", "x, y", "u"]);
            vec![self.one(&[
                format!("alter table b drop primary key, add primary key ({key})"),
                format!("alter table b add primary key ({key})"),
            ])]
        };
        Alteration::plain("b", statements)
    }

    /// The rows' topic is another one from then on.
    async fn rename(&mut self) -> Alteration {
        let (old, new) = if self.columns("r_b").await.is_empty() { ("r_a", "r_b") } else { ("r_b", "r_a") };
        let mut empty = self.one(&["delete from", "truncate table"]);
        if self.shared.mode.calm() {
            // rows that are deleted must be read while the table has this name
            empty = "truncate table";
        }
        let statements = vec![format!("{empty} {old}"), format!("alter table {old} rename to {new}")];
        Alteration::locked(old, statements)
    }

    /// A partition comes, or goes when it is empty: what goes with it is in no log.
    async fn partition(&mut self) -> Alteration {
        let word = self.word();
        let statements = if self.random.random() {
            vec![
                "alter table part add partition (partition p3 values in (3))".to_owned(),
                format!("insert into part values (1, 3, '{word}'), (2, 3, null)"),
            ]
        } else {
            vec!["delete from part where region = 3".to_owned(), "alter table part drop partition p3".to_owned()]
        };
        Alteration::locked("part", statements)
    }

    /// A table that is made of another's rows.
    async fn make(&mut self) -> Alteration {
        // the one before may not have been made
        let mut statements = Vec::new();
        if !self.columns("made").await.is_empty() {
            statements.extend(["truncate table made".to_owned(), "drop table made".to_owned()]);
        }
        let create = match self.shared.mode.kind {
            Kind::Mariadb => self.one(&["create table", "create or replace table", "create table if not exists"]),
            _ => self.one(&["create table", "create table if not exists"]),
        };
        statements.push(format!("{create} made (primary key (id)) select id, n from a where id < 30"));
        Alteration::plain("made", statements)
    }

    /// Statements that leave every row and name as it is.
    fn without_effect(&mut self) -> Alteration {
        let statement = self.one(&[
            "alter table a engine = innodb",
            "alter table b force",
            "/* a comment */ alter table a comment 'truncate table b; drop table a'",
            "create index docs_v on docs (v)",
            "drop index docs_v on docs",
            "analyze table a",
            "optimize table docs",
            "create or replace view seen as select id from a",
            "drop view if exists seen",
            "flush tables a",
            "alter table part rebuild partition p1",
        ]);
        Alteration::plain("a", vec![statement.to_owned()])
    }
}

/// COLUMN_TYPE doesn't say all of these types: NULL, a character set, MariaDB's JSON.
fn is_half_told(ty: &str) -> bool {
    matches!(base(ty), "timestamp" | "varchar" | "text" | "longtext")
}
