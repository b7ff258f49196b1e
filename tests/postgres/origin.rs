//! `origin: none`: what a subscription brought to this server is left out.

use crate::support::Servers;
use crate::support::daemon::Daemon;
use crate::support::source::{Kind, PATIENCE, Source, wait_until_streaming};

fn yaml(source: &Source, origin: &str) -> String {
    let whole = source.to_kafka_yaml("*", "backfill: never\n");
    whole.replacen("sink:\n", &format!("  origin: {origin}\nsink:\n"), 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_came_by_replication_are_left_out_if_asked_for() {
    let servers = tokio::task::block_in_place(|| Servers::private_with(&["pg"], &[("ROWCAST_PG_SUITE", "trixie")]));
    for (origin, expected) in [("none", vec![1, 3]), ("any", vec![1, 2, 3])] {
        let source = Source::create_on(&servers, Kind::Postgres, "origin").await;
        source.create_table("orders", "id int primary key").await;
        let mut daemon = Daemon::command().file("s.yaml", &yaml(&source, origin)).args(&["run", "s.yaml"]).spawn();
        wait_until_streaming(&mut daemon).await;
        let name = source.name();
        source.exec("insert into orders values (1)").await;
        source
            .exec(&format!(
                "select pg_replication_origin_create('{name}'), pg_replication_origin_session_setup('{name}')"
            ))
            .await;
        source.exec("insert into orders values (2)").await;
        source.exec("select pg_replication_origin_session_reset()").await;
        source.exec("insert into orders values (3)").await;
        let events = source.wait_for_events("orders", expected.len()).await;
        let ids: Vec<u64> = events.iter().map(|event| event["after"]["id"].as_u64().unwrap()).collect();
        assert_eq!(ids, expected, "{origin}");
        source.exec(&format!("select pg_replication_origin_drop('{name}')")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_know_origins_is_an_error() {
    let source = Source::create(Kind::Postgres, "origin").await;
    source.create_table("orders", "id int primary key").await;
    let (code, _, err) =
        Daemon::command().file("s.yaml", &yaml(&source, "none")).args(&["run", "s.yaml"]).output(PATIENCE).await;
    assert!(code != 0 && err.contains("`source.origin: none` needs PostgreSQL 16"), "{code} {err}");
}
