//! Types that change under the stream, and what that means for the form that its values come in.

use serde_json::json;

use crate::support::daemon::Daemon;
use crate::support::source::{Kind, PATIENCE, Source, wait_until_streaming};

fn daemon(source: &Source, binary: &str) -> Daemon {
    let binary = format!("  user: cdc\n  binary: {binary}\n");
    let yaml = source.to_kafka_yaml("*", "backfill: never\n").replace("  user: cdc\n", &binary);
    Daemon::command()
        .file("source.yaml", &yaml)
        .args(&["run", "source.yaml"])
        .env("ROWCAST__LOGGING__LEVEL", "info,rowcast_postgres=debug")
        .spawn()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_without_binary_form_that_is_added_later_turns_the_stream_to_text() {
    let source = Source::create(Kind::Postgres, "form").await;
    source.create_table("orders", "id int primary key, n numeric").await;
    let mut daemon = daemon(&source, "auto");
    wait_until_streaming(&mut daemon).await;
    assert!(daemon.wait_for_log("stream started", PATIENCE).await.contains("binary=true"));
    source.exec("insert into orders values (1, 1.10)").await;
    source.wait_for_events("orders", 1).await;

    let mark = daemon.mark();
    source.exec("alter table orders add column at point, add column rights aclitem[]").await;
    source.exec("insert into orders values (2, 2.20, '(1.5,2)', '{cdc=r/cdc}')").await;
    let events = source.wait_for_events("orders", 2).await;
    assert_eq!(events[1]["after"], json!({"id": 2, "n": "2.20", "at": "(1.5,2)", "rights": ["cdc=r/cdc"]}));
    assert!(daemon.wait_for_log_since(mark, "stream started", PATIENCE).await.contains("binary=false"));
    source.exec("insert into orders values (3, 3.30)").await;
    assert_eq!(source.wait_for_events("orders", 3).await.len(), 3, "each once");
}

/// The server can't send an array of what has no send function: no row of it arrives, so the error is the server's.
#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_the_server_can_not_send_in_binary_turns_the_stream_to_text() {
    let source = Source::create(Kind::Postgres, "form").await;
    source.create_table("orders", "id int primary key, right_ aclitem").await;
    // in the publication, and not captured
    source.create_table("other", "id int primary key").await;
    let mut daemon = daemon(&source, "auto");
    wait_until_streaming(&mut daemon).await;
    source.exec("insert into orders values (1, 'cdc=r/cdc')").await;
    let events = source.wait_for_events("orders", 1).await;
    assert_eq!(events[0]["after"], json!({"id": 1, "right_": "cdc=r/cdc"}));
    assert!(daemon.wait_for_log("stream started", PATIENCE).await.contains("binary=true"));
    let mark = daemon.mark();
    source.exec("alter table other add column rights aclitem[]").await;
    source.exec("insert into other values (1, '{cdc=r/cdc}'); insert into orders values (2)").await;
    source.wait_for_events("orders", 2).await;
    assert_eq!(source.wait_for_events("other", 1).await[0]["after"], json!({"id": 1, "rights": ["cdc=r/cdc"]}));
    assert!(daemon.wait_for_log_since(mark, "stream started", PATIENCE).await.contains("binary=false"));
}

#[tokio::test(flavor = "multi_thread")]
async fn types_that_are_altered_while_streaming_lose_nothing() {
    for binary in ["auto", "off"] {
        let source = Source::create(Kind::Postgres, "altered").await;
        source
            .exec("create type mood as enum ('sad', 'ok'); create type pair as (a int, b text); create domain amount as numeric(9, 2)")
            .await;
        source.create_table("t", "id int primary key, m mood, ms mood[], p pair, d amount").await;
        let mut daemon = daemon(&source, binary);
        wait_until_streaming(&mut daemon).await;
        source.exec("insert into t values (1, 'sad', '{ok}', '(1,x)', 1)").await;
        // an attribute's name is that of when the table was looked up
        source.wait_for_events("t", 1).await;
        source.exec("alter type mood add value 'happy' before 'ok'").await;
        source.exec("insert into t values (2, 'happy', '{happy,sad}', '(2,y)', 2)").await;
        source.exec("alter type mood rename value 'sad' to 'blue'").await;
        source.exec("insert into t values (3, 'blue', '{blue}', '(3,z)', 3)").await;
        source.exec("alter type pair rename attribute b to c").await;
        source.exec("insert into t values (4, null, null, '(4,w)', 4)").await;
        let events = source.wait_for_events("t", 4).await;
        let images: Vec<_> = events.iter().map(|event| event["after"].clone()).collect();
        assert_eq!(images[0], json!({"id": 1, "m": "sad", "ms": ["ok"], "p": {"a": 1, "b": "x"}, "d": "1.00"}));
        assert_eq!(images[1]["ms"], json!(["happy", "sad"]), "{binary}");
        assert_eq!((&images[2]["m"], &images[2]["ms"]), (&json!("blue"), &json!(["blue"])));
        assert_eq!(images[3]["p"]["a"], 4);
        if binary == "off" {
            // more attributes than were looked up: the server's text, until the type is looked up again
            source.exec("alter type pair add attribute e int").await;
            source.exec("insert into t values (5, null, null, '(5,v,6)', null)").await;
            let events = source.wait_for_events("t", 5).await;
            assert_eq!(events[4]["after"]["p"], json!("(5,v,6)"));
        }
    }
}
