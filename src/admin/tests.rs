#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::status::{About, Phase};

fn status() -> Status {
    let status = Status::default();
    for name in ["a", "b"] {
        status.add(About { name: name.into(), kind: "mysql", sink: "kafka", read_timeout: PATIENCE });
        status.set(name, Phase::Streaming);
    }
    status
}

async fn serving(status: &Status) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, status.clone()));
    address
}

/// The answer to a request as it is on the wire.
async fn raw(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    // a server that closes before it has read all may reset the connection
    let _ = stream.read_to_string(&mut answer).await;
    answer
}

async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    client::get(&address.to_string(), path).await.unwrap()
}

#[tokio::test]
async fn readiness_is_that_of_all_sources_and_says_why_not() {
    let status = status();
    let address = serving(&status).await;
    assert_eq!(get(address, "/readyz").await, (200, "ready\n".to_owned()));
    status.set("b", Phase::Stopped { why: Some("wrong password".into()) });
    assert_eq!(get(address, "/readyz").await, (503, "b: stopped: wrong password\n".to_owned()));
    assert_eq!(get(address, "/healthz").await.0, 200);
    let nobody = serving(&Status::default()).await;
    assert_eq!(get(nobody, "/readyz").await.0, 503);
}

#[tokio::test]
async fn sources_are_listed_and_found_by_name() {
    let address = serving(&status()).await;
    let (code, text) = get(address, "/api/v1/sources").await;
    let all: Vec<crate::status::report::SourceReport> = serde_json::from_str(&text).unwrap();
    assert_eq!((code, all.len()), (200, 2));
    let (code, text) = get(address, "/api/v1/sources/b").await;
    let one: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, one["name"].as_str(), one["state"].as_str()), (200, Some("b"), Some("streaming")));
    assert_eq!(get(address, "/api/v1/sources/c").await.0, 404);
    assert_eq!(get(address, "/etc/passwd").await.0, 404);
    assert_eq!(get(address, "/metrics?x=y").await.0, 200);
}

#[tokio::test]
async fn nothing_can_be_changed_and_odd_requests_are_refused() {
    let address = serving(&status()).await;
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer = raw(address, &format!("{method} /readyz HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 405") && answer.to_lowercase().contains("allow: get, head"), "{answer}");
    }
    let head = raw(address, "HEAD /readyz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(head.to_lowercase().contains("connection: close"), "{head}");
    let large = raw(address, &format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(2 * HEAD))).await;
    assert!(!large.contains("200 OK"), "{large}");
    assert!(!raw(address, "\u{1}\u{2}\r\n\r\n").await.contains("200 OK"));
    assert_eq!(get(address, "/healthz").await.0, 200, "still there");
}

/// More connections than there are slots, all of them silent: the endpoint is free again when their time is up.
#[tokio::test]
async fn silent_connections_are_bounded_and_given_up() {
    let address = serving(&status()).await;
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS + 3 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let began = std::time::Instant::now();
    assert_eq!(get(address, "/healthz").await.0, 200);
    let waited = began.elapsed();
    assert!(waited >= HEAD_PATIENCE - Duration::from_secs(1), "all slots were taken, yet it answered in {waited:?}");
    assert!(waited < PATIENCE, "{waited:?}");
}

#[tokio::test]
async fn an_address_that_was_asked_for_must_be_had_and_the_default_need_not() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Some(taken.local_addr().unwrap().to_string());
    let error = listen(&AdminConfig { address: address.clone(), explicit: true }).await.unwrap_err();
    assert!(error.contains("repair: set `admin`"), "{error}");
    assert!(listen(&AdminConfig { address, explicit: false }).await.unwrap().is_none());
    assert!(listen(&AdminConfig { address: None, explicit: true }).await.unwrap().is_none());
    assert_eq!(reachable("0.0.0.0:7"), "127.0.0.1:7");
    assert_eq!(reachable("[::]:7"), "[::1]:7");
    assert_eq!(reachable("host:7"), "host:7");
}
