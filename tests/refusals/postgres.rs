//! PostgreSQL: what the server, the role, the tables, the publication and the slot must be like.

use super::{
    LIMIT, again, at, command, lines, pg, place, refused, run, sees, shop, statement, stops, streams, streams_since,
    waits,
};
use crate::support::env::{CDC_USER, NOREPL_PASSWORD, NOREPL_USER};
use crate::support::{ClosedPort, Servers, postgres, unique};

#[tokio::test]
async fn a_wrong_password_is_refused_and_never_shown() {
    let db = shop("password").await;
    let mut daemon = run(&pg(&db).replace("cdcpw", "wrongpw"));
    refused(&mut daemon, &[&place(&db, CDC_USER), "password authentication failed", "`source.password`"]).await;
}

#[tokio::test]
async fn a_database_that_is_not_there_is_named() {
    let db = shop("database").await;
    let mut daemon = run(&pg(&db).replace("database: ", "database: no_"));
    refused(&mut daemon, &[&format!("/no_{} as cdc: ", db.name), "does not exist", "check `source.database`"]).await;
}

/// The server's pg_hba.conf lets `cdc_tls` in with TLS only.
#[tokio::test]
async fn a_user_that_pg_hba_conf_rejects_is_told_the_file() {
    let db = shop("hba").await;
    let config = pg(&db).replace("user: cdc", "tls: {mode: disable}\n  user: cdc_tls");
    refused(&mut run(&config), &[&place(&db, "cdc_tls"), "pg_hba.conf", "SELECT pg_reload_conf()"]).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_waited_for() {
    let db = shop("host").await;
    let closed = ClosedPort::take();
    let (right, port) = (format!("port: {}", db.port()), closed.port());
    let config = pg(&db).replace(&right, &format!("port: {port}"));
    waits(
        run(&config),
        &[&format!("can't connect to 127.0.0.1:{port}: "), "refused", "`source.host` and `source.port`"],
    )
    .await;
    let config = pg(&db).replace("host: 127.0.0.1", "host: no-such-host.invalid");
    waits(run(&config), &[&format!("can't connect to no-such-host.invalid:{}: ", db.port()), "check `source.host`"])
        .await;
}

#[tokio::test]
async fn a_wrong_wal_level_is_refused_until_the_repair_was_run() {
    let servers = Servers::private(&["pg"]);
    let db = postgres::Db::create_on(&servers, "level").await;
    db.exec("create table orders (id bigint primary key, note text); alter table orders owner to cdc").await;
    db.exec("alter system set wal_level = replica").await;
    servers.restart("pg");
    let mut daemon = run(&pg(&db));
    let message = refused(&mut daemon, &[&place(&db, CDC_USER), "wal_level is `replica`", "restart the server"]).await;
    let sql = format!("{}logical", statement(&message, "repair: ", "logical"));
    db.connect().await.batch_execute(&sql).await.unwrap();
    servers.restart("pg");
    let mark = again(&mut daemon);
    streams_since(&mut daemon, mark).await;
}

#[tokio::test]
async fn a_role_that_may_not_replicate_is_refused_until_the_repair_was_run() {
    let db = shop("role").await;
    // a role of our own: the repair changes it
    let role = unique("norepl");
    db.exec(&format!("create role {role} login password 'ownpw'; grant create on database {} to {role}", db.name))
        .await;
    db.exec(&format!("alter table orders owner to {role}")).await;
    let mut daemon = run(&pg(&db).replace("user: cdc", &format!("user: {role}")).replace("cdcpw", "ownpw"));
    let message = refused(&mut daemon, &[&place(&db, &role), &format!("role {role} may not replicate")]).await;
    db.exec(statement(&message, "repair: ", " (")).await;
    let mark = again(&mut daemon);
    streams_since(&mut daemon, mark).await;
    stops(&mut daemon).await;
    db.exec(&format!("drop publication rowcast_{}", db.name)).await;
    db.exec(&format!("drop owned by {role} cascade; drop role {role}")).await;
}

#[tokio::test]
async fn the_shared_user_without_replication_is_refused() {
    let db = shop("norepl").await;
    let config = pg(&db).replace("user: cdc", &format!("user: {NOREPL_USER}")).replace("cdcpw", NOREPL_PASSWORD);
    let repair = "repair: ALTER ROLE \"norepl\" REPLICATION;";
    refused(&mut run(&config), &[&place(&db, NOREPL_USER), "role norepl may not replicate", repair]).await;
}

/// `cdc` owns neither the table nor a publication of it.
#[tokio::test]
async fn a_missing_privilege_is_named_with_the_statement_that_its_owner_runs() {
    let db = postgres::Db::create("owner").await;
    db.exec("create table orders (id bigint primary key, note text)").await;
    let mut daemon = run(&pg(&db));
    let parts = [&*place(&db, CDC_USER), "must be owner of table orders", "SQLSTATE 42501"];
    let message = refused(&mut daemon, &parts).await;
    db.exec(statement(&message, "(or as a superuser): ", "")).await;
    let mark = again(&mut daemon);
    streams_since(&mut daemon, mark).await;
    db.exec("insert into orders values (1)").await;
    sees(&daemon, &[1]).await;
}

#[tokio::test]
async fn a_publication_that_lacks_a_table_is_refused_until_the_repair_was_run() {
    let db = postgres::Db::create("lacks").await;
    db.exec("create table orders (id bigint primary key, note text); create table items (id bigint primary key)").await;
    let publication = format!("rowcast_{}", db.name);
    db.exec(&format!("create publication {publication} for table items")).await;
    let mut daemon = run(&pg(&db));
    let parts =
        [&*place(&db, CDC_USER), &format!("publication {publication}: it lacks public.orders"), "as its owner: "];
    let message = refused(&mut daemon, &parts).await;
    db.exec(statement(&message, "as its owner: ", "")).await;
    let mark = again(&mut daemon);
    streams_since(&mut daemon, mark).await;
    db.exec("insert into orders values (1)").await;
    sees(&daemon, &[1]).await;
}

#[tokio::test]
async fn a_publication_that_leaves_out_deletes_is_refused_until_the_repair_was_run() {
    let db = postgres::Db::create("partly").await;
    db.exec("create table orders (id bigint primary key, note text)").await;
    let publication = format!("rowcast_{}", db.name);
    db.exec(&format!("create publication {publication} for table orders with (publish = 'insert')")).await;
    let mut daemon = run(&pg(&db));
    let message =
        refused(&mut daemon, &[&publication, "does not publish all of insert, update, delete and truncate"]).await;
    db.exec(statement(&message, "as its owner: ", "")).await;
    let mark = again(&mut daemon);
    streams_since(&mut daemon, mark).await;
}

#[tokio::test]
async fn a_table_that_is_not_there_is_named_with_the_nearest_name() {
    let db = shop("table").await;
    db.exec("create view report as select id from orders").await;
    let from = place(&db, CDC_USER);
    for (tables, parts) in [
        (
            "[public.order]",
            ["`public.order` can't be captured: no such table", "did you mean `public.orders`?", "`source.tables`"],
        ),
        ("[public.report]", ["`public.report` can't be captured", "it is a view", "`source.tables`"]),
        ("[sales.*]", ["no table of the database matches `source.tables`", "tables looked at", "correct the patterns"]),
    ] {
        let mut daemon = run(&pg(&db).replace("[public.*]", tables));
        refused(&mut daemon, &[&[&*from], &parts[..]].concat()).await;
    }
    assert_eq!(db.value("select count(*) from pg_publication").await, "0", "nothing is left on the server");
}

/// As a published table it would refuse the application's updates.
#[tokio::test]
async fn a_table_whose_updates_can_not_be_logged_is_refused_until_the_repair_was_run() {
    let db = shop("identity").await;
    db.exec("create table \"Log\" (id bigint); alter table \"Log\" owner to cdc").await;
    let mut daemon = run(&pg(&db));
    let parts = [
        &*place(&db, CDC_USER),
        "public.\"Log\"",
        "without a replica identity",
        "add a primary key, or ",
        "\"!public.Log\"",
    ];
    let message = refused(&mut daemon, &parts).await;
    db.exec("insert into \"Log\" values (1); update \"Log\" set id = 2").await;
    db.exec(statement(&message, "add a primary key, or ", " or exclude")).await;
    let mark = again(&mut daemon);
    streams_since(&mut daemon, mark).await;
    db.exec("update \"Log\" set id = 3; insert into \"Log\" values (4)").await;
    sees(&daemon, &[4]).await;
    // the other way out of the message
    let mut other = run(&pg(&db).replacen(&db.name, "other", 1).replace("[public.*]", "[public.*, \"!public.Log\"]"));
    streams(&mut other).await;
}

#[tokio::test]
async fn a_slot_in_use_is_refused_with_the_process_that_uses_it() {
    let db = shop("used").await;
    let mut first = run(&pg(&db));
    streams(&mut first).await;
    let slot = format!("rowcast_{}", db.name);
    let second = pg(&db)
        .replacen(&db.name, "second", 1)
        .replace("  user: cdc", &format!("  user: cdc\n  slot: {slot}\n  publication: {slot}"));
    let pid = db.walsender(&slot).await;
    let mut second = run(&second);
    let (used, repair) = (
        format!("replication slot {slot} is in use by the server process {pid}"),
        format!("pg_terminate_backend({pid})"),
    );
    refused(&mut second, &[&place(&db, CDC_USER), &used, "`source.slot`", &repair]).await;
    db.exec("insert into orders values (1)").await;
    sees(&first, &[1]).await;
}

#[tokio::test]
async fn a_slot_of_another_kind_or_database_is_refused() {
    let (db, other) = (shop("kind").await, shop("kind").await);
    let slot = unique("physical");
    db.exec(&format!("select pg_create_physical_replication_slot('{slot}')")).await;
    let with = |slot: &str| pg(&db).replace("  user: cdc", &format!("  user: cdc\n  slot: {slot}"));
    let repair = format!("pg_drop_replication_slot('{slot}')");
    refused(&mut run(&with(&slot)), &[&slot, "of another kind (physical", "`source.slot`", &repair]).await;
    db.exec(&format!("select pg_drop_replication_slot('{slot}')")).await;

    other.exec(&format!("select pg_create_logical_replication_slot('{}', 'pgoutput')", other.name)).await;
    refused(&mut run(&with(&other.name)), &[&format!("belongs to database {}", other.name), "`source.slot`"]).await;
}

/// One source's mistake is its own: the other one streams before, while and after.
#[tokio::test]
async fn a_source_that_is_refused_does_not_touch_the_other() {
    let db = shop("isolated").await;
    let bad = pg(&db).replacen(&db.name, "bad", 1).replace("cdcpw", "wrongpw").replace("out.jsonl", "bad.jsonl");
    let lost = pg(&db).replacen(&db.name, "lost", 1).replace("out.jsonl", "lost.jsonl");
    let closed = ClosedPort::take();
    let lost = lost.replace(&format!("port: {}", db.port()), &format!("port: {}", closed.port()));
    let mut daemon = command(&[("bad.yaml", &bad), ("good.yaml", &pg(&db)), ("lost.yaml", &lost)]).spawn();
    streams(&mut daemon).await;
    daemon.wait_for_log("stopped: ", LIMIT).await;
    daemon.wait_for_log("waiting ", LIMIT).await;
    db.exec("insert into orders values (1)").await;
    sees(&daemon, &[1]).await;
    stops(&mut daemon).await;
    let log = lines(&daemon, (0, 0));
    assert_eq!(at(&log, "ERROR").len(), 1, "{log:?}");
    for line in &log {
        let source = match line.level.as_str() {
            "ERROR" => "bad",
            "WARN" => "lost",
            _ => continue,
        };
        assert_eq!(line.source, source, "{line:?}");
    }
}
