//! A database paused, stopped and killed.

use std::time::Duration;

use crate::asking::{Asked, SOON, caught_up, pause, to_brokers};
use crate::support::source::{Kind, PATIENCE, Source};
use crate::support::{Servers, env, mysql, postgres};

async fn create_on(servers: &Servers, kind: Kind) -> Source {
    let source = match kind {
        Kind::Postgres => Source::Postgres(postgres::Db::create_on(servers, "truth").await),
        Kind::Mysql => Source::Mysql(mysql::Db::create_on(servers, mysql::Kind::Mysql, "truth").await),
        Kind::Mariadb => Source::Mysql(mysql::Db::create_on(servers, mysql::Kind::Mariadb, "truth").await),
    };
    source.create_table("t", "id int primary key").await;
    source
}

async fn faults(kind: Kind) {
    let server = if kind == Kind::Postgres { "pg" } else { kind.name() };
    let servers = Servers::private(&[server]);
    let source = create_on(&servers, kind).await;
    let name = source.name();
    let asked = Asked::start(&[to_brokers(&source, env().brokers())]).await;
    asked.all_stream(&[name]).await;
    source.exec("insert into t values (1)").await;
    source.wait_for_events("t", 1).await;
    asked.wait_for(name, PATIENCE, "no lag", caught_up).await;

    let paused = pause(servers.pid(server));
    let took = asked.none_is_ready(&[name]).await;
    eprintln!("{server} paused: told within {took:?}");
    let why = asked.source(name).await["why"].as_str().unwrap().to_owned();
    assert!(why.contains("nothing was heard from the database for"), "{why}");
    let unknown = |it: &serde_json::Value| it["lag"]["known"] == false && it["lag"]["bytes"].is_null();
    asked.wait_for(name, SOON + SOON, "a lag that isn't known", unknown).await;
    // it stays so while the server stands still
    assert_eq!(asked.metrics().await.of("rowcast_lag_known", name), Some(0.0));
    asked.stay_unready(&[name], Duration::from_secs(2)).await;
    drop(paused);
    asked.all_stream(&[name]).await;
    source.exec("insert into t values (2)").await;
    source.wait_for_events("t", 2).await;

    for (fault, how) in [("stopped", Servers::stop as fn(&Servers, &str)), ("killed", Servers::kill)] {
        how(&servers, server);
        let took = asked.none_is_ready(&[name]).await;
        eprintln!("{server} {fault}: told within {took:?}");
        asked.wait_for(name, SOON, "the next attempt", |it| it["until"].as_f64() > it["since"].as_f64()).await;
        asked.stay_unready(&[name], Duration::from_secs(2)).await;
        servers.start(server);
        asked.all_stream(&[name]).await;
        // the lag is measured again on a connection of its own
        asked.wait_for(name, PATIENCE, "no lag", caught_up).await;
    }
}

#[tokio::test]
async fn a_postgres_that_is_paused_stopped_or_killed_is_told_of() {
    faults(Kind::Postgres).await;
}

#[tokio::test]
async fn a_mysql_that_is_paused_stopped_or_killed_is_told_of() {
    faults(Kind::Mysql).await;
}

#[tokio::test]
async fn a_mariadb_that_is_paused_stopped_or_killed_is_told_of() {
    faults(Kind::Mariadb).await;
}
