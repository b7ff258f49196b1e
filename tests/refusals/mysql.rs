//! MySQL and MariaDB: what the server, the user and the tables must be like, and binlogs that are gone.

use super::{FILE_SINK, LIMIT, again, refused, refused_since, run, sees, stops, streams, streams_since, waits};
use crate::support::env::{CDC_USER, NOREPL_PASSWORD, NOREPL_USER, Servers};
use crate::support::mysql::{Db, Kind};
use crate::support::{ClosedPort, eventually};

const KINDS: [Kind; 2] = [Kind::Mysql, Kind::Mariadb];

/// A source of all tables of the database, its events in `out.jsonl`.
fn my(db: &Db) -> String {
    format!(
        "name: {name}
source:
  type: {kind}
  host: 127.0.0.1
  port: {port}
  user: cdc
  password: cdcpw
  tables: [{name}.*]
{FILE_SINK}",
        name = db.name,
        kind = db.kind.server(),
        port = db.port(),
    )
}

/// The place that every message of this source begins with.
fn place(db: &Db, user: &str) -> String {
    format!("{} 127.0.0.1:{} as user `{user}`: ", db.kind.server(), db.port())
}

async fn shop(kind: Kind, prefix: &str) -> Db {
    let db = Db::create(kind, prefix).await;
    db.exec("create table orders (id bigint primary key, note text)").await;
    db
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_never_shown() {
    for kind in KINDS {
        let db = shop(kind, "password").await;
        let mut daemon = run(&my(&db).replace("cdcpw", "wrongpw"));
        refused(&mut daemon, &[&place(&db, CDC_USER), "Access denied", "check `source.user` and `source.password`"])
            .await;
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_waited_for() {
    let db = shop(Kind::Mysql, "host").await;
    let closed = ClosedPort::take();
    let (right, port) = (format!("port: {}", db.port()), closed.port());
    waits(run(&my(&db).replace(&right, &format!("port: {port}"))), &[&format!("127.0.0.1:{port}"), "refused"]).await;
    let config = my(&db).replace("host: 127.0.0.1", "host: no-such-host.invalid");
    waits(run(&config), &[&format!("no-such-host.invalid:{}", db.port())]).await;
}

#[tokio::test]
async fn a_user_that_may_not_replicate_is_refused_with_the_grant() {
    for kind in KINDS {
        let db = shop(kind, "norepl").await;
        let config = my(&db).replace("user: cdc", &format!("user: {NOREPL_USER}")).replace("cdcpw", NOREPL_PASSWORD);
        let grant = "GRANT REPLICATION SLAVE ON *.* TO 'norepl'@";
        refused(&mut run(&config), &[&place(&db, NOREPL_USER), grant]).await;
    }
}

#[tokio::test]
async fn a_table_that_is_not_there_is_named_with_the_nearest_name() {
    for kind in KINDS {
        let db = shop(kind, "table").await;
        let (all, name) = (format!("[{}.*]", db.name), &db.name);
        let config = my(&db).replace(&all, &format!("[{name}.order]"));
        let parts = [
            &*place(&db, CDC_USER),
            &format!("no table `{name}.order`"),
            &format!("did you mean `{name}.orders`?"),
            "`source.tables`",
        ];
        refused(&mut run(&config), &parts).await;
        let config = my(&db).replace(&all, &format!("[{name}.x*]"));
        refused(&mut run(&config), &[&place(&db, CDC_USER), "matches `source.tables`", "correct `source.tables`"])
            .await;
    }
}

#[tokio::test]
async fn the_servers_own_server_id_is_refused() {
    for kind in KINDS {
        let db = shop(kind, "id").await;
        let id = db.value("select @@server_id").await;
        let config = my(&db).replace("  user: cdc", &format!("  user: cdc\n  server_id: {id}"));
        refused(
            &mut run(&config),
            &[&place(&db, CDC_USER), &format!("server_id {id}"), "set another `source.server_id`"],
        )
        .await;
    }
}

/// Wrong settings first, then the gap: one private server for both.
async fn wrong_settings_and_purged_binlogs(kind: Kind) {
    let servers = Servers::private(&[kind.server()]);
    let db = Db::create_on(&servers, kind, "purged").await;
    db.exec("create table orders (id bigint primary key, note text)").await;
    let from = place(&db, CDC_USER);
    db.exec("set global binlog_format = 'STATEMENT'").await;
    let mut daemon = run(&my(&db));
    refused(&mut daemon, &[&from, "binlog_format is STATEMENT, not ROW", "binlog_format=ROW"]).await;
    db.exec("set global binlog_format = 'ROW'").await;

    let mark = again(&mut daemon);
    streams_since(&mut daemon, mark).await;
    db.exec("insert into orders values (1, null)").await;
    sees(&daemon, &[1]).await;
    stops(&mut daemon).await;

    db.exec("insert into orders values (2, null)").await;
    db.exec("flush binary logs").await;
    db.exec("insert into orders values (3, null)").await;
    db.exec("flush binary logs").await;
    let newest = db.query("show binary logs").await.last().unwrap()[0].clone().unwrap();
    // MariaDB keeps a log until its engines have written all of it
    eventually(LIMIT, "the binlogs to be purged", || async {
        db.exec(&format!("purge binary logs to '{newest}'")).await;
        let logs = db.query("show binary logs").await;
        if logs.len() == 1 { Ok(()) } else { Err(logs) }
    })
    .await;
    // MySQL: exactly what is lost. MariaDB: from where on
    let checkpoint = daemon.dir().join(format!("state/{}.checkpoint.json", db.name));
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(&checkpoint).unwrap()).unwrap();
    let ours = json["position"]["log"].as_str().unwrap();
    let lost = match kind {
        Kind::Mysql => db.value(&format!("select gtid_subtract(@@gtid_purged, '{ours}')")).await,
        Kind::Mariadb => ours.to_owned(),
    };
    assert!(!lost.is_empty());
    for _ in 0..2 {
        let mark = again(&mut daemon);
        refused_since(&mut daemon, mark, &[&from, "gap: ", &lost, "remove the checkpoint"]).await;
        sees(&daemon, &[1]).await;
    }
    // the message's own way out
    std::fs::remove_file(&checkpoint).unwrap();
    let mark = again(&mut daemon);
    streams_since(&mut daemon, mark).await;
    db.exec("insert into orders values (4, null)").await;
    sees(&daemon, &[1, 4]).await;
}

#[tokio::test]
async fn mysqls_wrong_settings_and_purged_gtids_are_refused() {
    wrong_settings_and_purged_binlogs(Kind::Mysql).await;
}

#[tokio::test]
async fn mariadbs_wrong_settings_and_purged_gtids_are_refused() {
    wrong_settings_and_purged_binlogs(Kind::Mariadb).await;
}

/// A checkpoint of a server that has executed more than this one.
#[tokio::test]
async fn a_checkpoint_ahead_of_the_server_is_refused() {
    let db = shop(Kind::Mysql, "ahead").await;
    let mut daemon = run(&my(&db));
    streams(&mut daemon).await;
    stops(&mut daemon).await;
    let file = daemon.dir().join(format!("state/{}.checkpoint.json", db.name));
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let alien = "00000000-0000-4000-8000-000000000001:1-7";
    json["position"]["log"] = format!("{alien},{}", json["position"]["log"].as_str().unwrap()).into();
    std::fs::write(&file, json.to_string()).unwrap();
    let mark = again(&mut daemon);
    refused_since(&mut daemon, mark, &[&place(&db, CDC_USER), "ahead of the server", alien, "repair: "]).await;
}
