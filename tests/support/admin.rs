//! The daemon's admin endpoint, asked over HTTP.

use serde_json::Value as Json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::daemon::Daemon;
use super::eventually;
use super::source::PATIENCE;

/// The environment of a daemon that has one, on a free port.
pub const ANY: (&str, &str) = ("ROWCAST__ADMIN", "127.0.0.1:0");

/// Where it listens: the line that its start after this mark prints.
pub async fn address(daemon: &mut Daemon, mark: (usize, usize)) -> String {
    let line = daemon.wait_for_log_since(mark, "admin endpoint: http://", PATIENCE).await;
    let rest = line.split("http://").nth(1).unwrap();
    rest.split(' ').next().unwrap().to_owned()
}

/// Status code and body. A daemon that starves on a busy machine gives a connection up after some seconds: it is asked again.
pub async fn get(address: &str, path: &str) -> (u16, String) {
    let answer = eventually(PATIENCE, &format!("an answer to {path}"), || ask(address, path)).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

async fn ask(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    if answer.contains("\r\n\r\n") { Ok(answer) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
}

/// What it says of a source.
pub async fn source(address: &str, name: &str) -> Json {
    let (code, body) = get(address, &format!("/api/v1/sources/{name}")).await;
    assert_eq!(code, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}
