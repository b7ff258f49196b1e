//! Asking a running daemon over HTTP, for `rowcast status`. One request, bounded in time and size.

use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// For the whole of it.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest answer, in bytes: thousands of tables.
const LARGEST: usize = 16 << 20;

/// The status code and the body of `path`.
///
/// # Errors
/// A sentence for the operator: nobody listens, or what listens gives no answer that can be read.
pub async fn get(address: &str, path: &str) -> Result<(u16, String), String> {
    match timeout(PATIENCE, exchange(address, path)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("what listens on {address} gave no answer within {} s", PATIENCE.as_secs())),
    }
}

async fn exchange(address: &str, path: &str) -> Result<(u16, String), String> {
    let stream = TcpStream::connect(address).await.map_err(|error| {
        format!(
            "no daemon answers on {address}: {error}; is `rowcast run` running with `admin` set to this address? \
             --admin names another one"
        )
    })?;
    let failed = |error: &dyn std::fmt::Display| format!("what listens on {address} gave no answer: {error}");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    let connection = tokio::spawn(connection);
    let request = Request::get(path)
        .header(HOST, address)
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("can't ask for {path}: {error}"))?;
    let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
    let code: StatusCode = response.status();
    let body = Limited::new(response.into_body(), LARGEST).collect().await.map_err(|error| failed(&error))?;
    connection.abort();
    let text = String::from_utf8(body.to_bytes().to_vec()).map_err(|error| failed(&error))?;
    Ok((code.as_u16(), text))
}
