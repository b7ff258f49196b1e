//! Online changes of a table as tools do them: a shadow table with the new form, filled while the writers go on, takes the name.
//! `pt-online-schema-change` keeps the shadow up to date by triggers; `gh-ost` reads the binlog, and locks the table for its last
//! look: the same is done here with a last comparison. The shadow's events have topics too, which nobody compares.
//!
//! The shadow's name comes behind the table's: a rename asks for locks by name, and must be the first to wait for the table's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mysql_async::Conn;
use rand::Rng;

use super::statements::TYPES;
use super::workload::{Writer, is_allowed};
use crate::support::mysql::{exec, query};
use crate::support::source::Source;

/// Ranges of keys that are copied one after the other.
const CHUNKS: [&str; 4] = ["id < 20", "id between 20 and 39", "id between 40 and 59", "id > 59"];

impl Writer {
    /// Replaces `o` by a table of another form.
    pub(super) async fn replace_online(&mut self) {
        let columns = self.columns("o").await;
        let added: Vec<String> =
            columns.iter().map(|(name, _)| name.clone()).filter(|name| name.starts_with('c')).collect();
        let mut common: Vec<String> = columns.iter().map(|(name, _)| format!("`{name}`")).collect();
        let change = match self.random.random_range(0..6) {
            0..2 if added.len() < 5 => {
                let ((ty, default, json), name) = (self.one(&TYPES), self.fresh());
                if default.is_empty() {
                    format!("add column {name} {ty}")
                } else {
                    let value = serde_json::from_str(json).unwrap();
                    self.shared.defaults.lock().unwrap().insert(name.clone(), value);
                    format!("add column {name} {ty} default {default} first")
                }
            }
            2 if !added.is_empty() => {
                let name = self.one(&added);
                common.retain(|other| *other != format!("`{name}`"));
                format!("drop column {name}")
            }
            3 => "modify v varchar(200) character set utf16 after w".to_owned(),
            4 => self.one(&["modify id bigint not null", "modify id int not null"]).to_owned(),
            _ => "modify w text after id, engine = innodb".to_owned(),
        };
        let common = common.join(", ");
        let done = if self.random.random() {
            self.by_triggers(&change, &common).await
        } else {
            self.by_lock(&change, &common).await
        };
        self.clean().await;
        if done {
            self.done.replaced += 1;
        }
    }

    /// Statements that change tables, with all that was written before published, where that has to be.
    async fn define(&mut self, statements: &[String]) -> bool {
        let shared = Arc::clone(&self.shared);
        let _settled = shared.settled().await;
        for statement in statements {
            if !self.try_run(statement).await {
                return false;
            }
        }
        true
    }

    /// Copies what is there.
    async fn copy(&mut self, shadow: &str, common: &str) -> bool {
        for chunk in CHUNKS {
            let shared = Arc::clone(&self.shared);
            let _open = shared.transaction().await;
            let copy = format!(
                "insert low_priority ignore into {shadow} ({common}) select {common} from o force index (primary) \
                 where {chunk} lock in share mode"
            );
            if !self.try_run(&copy).await {
                return false;
            }
        }
        true
    }

    /// The way of pt-online-schema-change.
    async fn by_triggers(&mut self, change: &str, common: &str) -> bool {
        let new: Vec<String> = common.split(", ").map(|name| format!("new.{name}")).collect();
        let replace = format!("replace into o_new ({common}) values ({})", new.join(", "));
        let definitions = [
            "create table o_new like o".to_owned(),
            format!("alter table o_new {change}"),
            "create trigger o_del after delete on o for each row delete ignore from o_new where o_new.id <=> old.id"
                .to_owned(),
            format!(
                "create trigger o_upd after update on o for each row begin delete ignore from o_new where \
                 !(old.id <=> new.id) and o_new.id <=> old.id; {replace}; end"
            ),
            format!("create trigger o_ins after insert on o for each row {replace}"),
        ];
        if !self.define(&definitions).await || !self.copy("o_new", common).await {
            return false;
        }
        let shared = Arc::clone(&self.shared);
        // a snapshot that was taken before would read the other table by this name, as it was then
        let _unseen = shared.pictures.read().await;
        self.define(&["rename table o to o_was, o_new to o".to_owned()]).await
    }

    /// The way of gh-ost: the rename waits for the lock, and is the next to have it.
    async fn by_lock(&mut self, change: &str, common: &str) -> bool {
        let definitions = ["create table o_new like o".to_owned(), format!("alter table o_new {change}")];
        if !self.define(&definitions).await || !self.copy("o_new", common).await {
            return false;
        }
        let shared = Arc::clone(&self.shared);
        let Source::Mysql(db) = &shared.source else { unreachable!() };
        let _unseen = shared.pictures.read().await;
        let _settled = shared.settled().await;
        let mut locker = db.connect().await;
        exec(&mut locker, "set session lock_wait_timeout = 2").await;
        let last = [
            "lock tables o write, o_new write".to_owned(),
            "delete o_new from o_new left join o on o.id = o_new.id where o.id is null".to_owned(),
            format!("replace into o_new ({common}) select {common} from o"),
        ];
        for statement in last {
            if let Err(error) = mysql_async::prelude::Queryable::query_drop(&mut locker, &statement).await {
                assert!(is_allowed(&error), "{error:?} in: {statement}");
                return false;
            }
        }
        let over = AtomicBool::new(false);
        let rename = async {
            let renamed = self.try_run("rename table o to o_was, o_new to o").await;
            over.store(true, Ordering::Relaxed);
            renamed
        };
        let (renamed, waited) = tokio::join!(rename, unlock_behind(&mut locker, &shared, &over));
        assert!(!renamed || waited, "the rename didn't wait for the lock");
        renamed
    }

    /// Removes what an online change leaves, whether it went well or not.
    async fn clean(&mut self) {
        let drops = ["o_del", "o_upd", "o_ins"].map(|name| format!("drop trigger if exists {name}"));
        let drops: Vec<String> = drops.into_iter().chain(["drop table if exists o_new, o_was".to_owned()]).collect();
        let mut tries = 0;
        while !self.define(&drops).await {
            tries += 1;
            assert!(tries < 100, "the shadow table can't be removed");
        }
    }
}

/// Lets go of the lock when a rename waits for it, however late it comes; false if it was refused before it was seen.
async fn unlock_behind(locker: &mut Conn, shared: &super::Shared, over: &AtomicBool) -> bool {
    let Source::Mysql(db) = &shared.source else { unreachable!() };
    let mut waits = false;
    while !over.load(Ordering::Relaxed) {
        let sql = "select 1 from information_schema.processlist where db = database() and \
                   info like 'rename table o %' and state like 'Waiting for table%'";
        waits = !db.query(sql).await.is_empty();
        if waits {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let _ = query(locker, "select 1").await;
    exec(locker, "unlock tables").await;
    waits
}
