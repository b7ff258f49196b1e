//! Least privileges: what the README asks for is enough for all that a source does; each one that lacks is named with its GRANT.

use super::{KINDS, at_port, yaml_at};
use crate::support::admin;
use crate::support::daemon::Daemon;
use crate::support::local::{again, command, refused, refused_since, run, sees, stops, streams, streams_since};
use crate::support::mysql::{Db, Kind};
use crate::support::source::PATIENCE;
use crate::support::{Servers, eventually};

/// An account of this test's own, without any right.
struct Account<'a> {
    db: &'a Db,
    name: String,
}

impl<'a> Account<'a> {
    async fn new(db: &'a Db) -> Account<'a> {
        let name = format!("least_{}", db.name.rsplit('_').take(2).collect::<String>());
        db.exec(&format!("create user '{name}'@'%' identified by 'cdcpw'")).await;
        Account { db, name }
    }

    async fn grant(&self, rights: &str) {
        self.db.exec(&format!("grant {rights} to '{}'@'%'", self.name)).await;
    }

    async fn revoke(&self, rights: &str) {
        self.db.exec(&format!("revoke {rights} from '{}'@'%'", self.name)).await;
    }

    fn yaml(&self, backfill: &str) -> String {
        let source = format!("  user: {}\n  password: cdcpw\n", self.name);
        yaml_at(self.db, &at_port(self.db.port()), &source).replace("backfill: never", &format!("backfill: {backfill}"))
    }

    /// Runs the statement that an error gives as its repair, for this account.
    async fn repair(&self, error: &str) -> String {
        let (_, grant) = error.rsplit_once("repair: ").unwrap();
        let grant = grant[grant.find("GRANT").unwrap()..].split(" source=").next().unwrap().to_owned();
        let real = grant.replace("@'...'", "@'%'").replace("<database>", &self.db.name).replace("<table>", "*");
        self.db.exec(&real).await;
        grant
    }

    async fn gone(self) {
        self.db.exec(&format!("drop user '{}'@'%'", self.name)).await;
    }
}

/// Seeing the binlog's end.
fn looking(kind: Kind) -> &'static str {
    if kind == Kind::Mysql { "REPLICATION CLIENT" } else { "BINLOG MONITOR" }
}

/// On a server of its own: one on which others have prepared XA transactions asks for one right more.
async fn database(kind: Kind) -> (Servers, Db) {
    let servers = tokio::task::block_in_place(|| Servers::private(&[kind.server()]));
    let db = Db::create_on(&servers, kind, "least").await;
    db.exec("create table orders (id bigint primary key, note text); insert into orders values (1, 'a')").await;
    // tables of every sort are looked at: without a key, and with what only the catalog knows
    db.exec("create table bare (a int, b enum('x', 'y')); insert into bare values (1, 'x')").await;
    (servers, db)
}

async fn asked(yaml: &str) -> (Daemon, String) {
    let mut daemon = command(yaml).env(admin::ANY.0, admin::ANY.1).spawn();
    let address = admin::address(&mut daemon, (0, 0)).await;
    (daemon, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_rights_are_enough_for_all_that_a_source_does() {
    for kind in KINDS {
        let (_servers, db) = database(kind).await;
        let account = Account::new(&db).await;
        account.grant(&format!("REPLICATION SLAVE, {} on *.*", looking(kind))).await;
        account.grant(&format!("SELECT on {}.*", db.name)).await;
        let (mut daemon, address) = asked(&account.yaml("initial")).await;
        streams(&mut daemon).await;
        // copied, and streamed
        sees(&daemon, &[1]).await;
        db.exec("insert into orders values (2, 'b'); insert into bare values (2, 'y')").await;
        sees(&daemon, &[1, 2]).await;
        eventually(PATIENCE, "its lag in bytes, without a note", || async {
            let source = admin::source(&address, &db.name).await;
            let lag = &source["lag"];
            if lag["bytes"] == 0 && lag["transactions"] == 0 { Ok(()) } else { Err(source) }
        })
        .await;
        let told = daemon.logs();
        assert!(!told.contains("GRANT") && !told.contains("privilege"), "{told}");
        stops(&mut daemon).await;
        account.gone().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_right_that_lacks_is_named_with_its_grant() {
    for kind in KINDS {
        let (_servers, db) = database(kind).await;
        let account = Account::new(&db).await;
        // none at all: no table is seen
        let mut daemon = run(&account.yaml("never"));
        let parts = ["no table that this user may read matches `source.tables`", "GRANT SELECT ON <database>.*"];
        let error = refused(&mut daemon, &parts).await;
        account.repair(&error.replace("correct `source.tables`, or ", "")).await;
        let mark = again(&mut daemon);
        let error = refused_since(&mut daemon, mark, &["REPLICATION SLAVE", "GRANT REPLICATION SLAVE ON *.*"]).await;
        account.repair(&error).await;
        // enough for the stream; that the lag is unknown is told where it is asked for
        let mark = again(&mut daemon);
        streams_since(&mut daemon, mark).await;
        db.exec("insert into orders values (5, 'a')").await;
        sees(&daemon, &[5]).await;
        stops(&mut daemon).await;

        let (mut daemon, address) = asked(&account.yaml("never")).await;
        streams(&mut daemon).await;
        let grant = format!("GRANT {} ON *.*", looking(kind));
        eventually(PATIENCE, "a note about the lag", || async {
            let source = admin::source(&address, &db.name).await;
            if source.to_string().contains(&grant) { Ok(()) } else { Err(source) }
        })
        .await;
        stops(&mut daemon).await;

        // a copy needs the binlog's end
        let mut daemon = run(&account.yaml("initial_only"));
        let error = refused(&mut daemon, &[&grant]).await;
        account.repair(&error).await;
        let mark = again(&mut daemon);
        streams_since(&mut daemon, mark).await;
        assert_eq!(daemon.wait(PATIENCE).await, 0, "{}", daemon.logs());
        sees(&daemon, &[1, 5]).await;
        account.gone().await;
    }
}

/// A right for some columns of a table isn't one for the table.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_readable_in_part_is_refused() {
    for kind in KINDS {
        let (_servers, db) = database(kind).await;
        let account = Account::new(&db).await;
        account.grant(&format!("REPLICATION SLAVE, {} on *.*", looking(kind))).await;
        account.grant(&format!("SELECT on {}.bare", db.name)).await;
        account.grant(&format!("SELECT (id) on {}.orders", db.name)).await;
        for backfill in ["never", "initial"] {
            let mut daemon = run(&account.yaml(backfill));
            let error =
                refused(&mut daemon, &["some columns of", &format!("GRANT SELECT ON `{}`.`orders`", db.name)]).await;
            if backfill == "initial" {
                account.repair(&error).await;
                let mark = again(&mut daemon);
                streams_since(&mut daemon, mark).await;
                sees(&daemon, &[1]).await;
                stops(&mut daemon).await;
            }
        }
        account.revoke(&format!("SELECT on {}.orders", db.name)).await;
        account.gone().await;
    }
}
