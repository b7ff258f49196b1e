//! The admin endpoint: what the daemon is doing, over HTTP, for operators, orchestrators and Prometheus.
//!
//! | path | answer |
//! |---|---|
//! | `/healthz` | 200 while the process answers |
//! | `/readyz` | 200 if every source is streaming or backfilling, else 503 with a line per source that isn't |
//! | `/metrics` | metrics ([`metrics`]) |
//! | `/api/v1/sources` | all sources as JSON ([`crate::status::report`]) |
//! | `/api/v1/sources/NAME` | one, with its tables |
//!
//! Guarantees: it only reads; nothing but GET and HEAD is taken. No answer holds a secret or a value of a row. At most
//! [`CONNECTIONS`] connections at a time, one request each, of at most [`HEAD`] bytes and [`PATIENCE`]: others wait in the
//! kernel's queue. Nothing in here stops or delays a source. It asks for no password, so that it listens on the loopback
//! interface unless told otherwise.

pub mod client;
pub mod metrics;
mod process;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::config::AdminConfig;
use crate::status::Status;

/// Connections at a time.
pub const CONNECTIONS: usize = 32;
/// The largest head of a request, in bytes.
pub const HEAD: usize = 16 << 10;
/// How long a connection may take, with its answer.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long the head of a request may take.
const HEAD_PATIENCE: Duration = Duration::from_secs(5);
/// Pause after a connection could not be accepted (out of file descriptors).
const BREATH: Duration = Duration::from_millis(100);

const JSON: &str = "application/json";
const PLAIN: &str = "text/plain; charset=utf-8";
const PATHS: &str = "/healthz\n/readyz\n/metrics\n/api/v1/sources\n/api/v1/sources/NAME\n";

/// Listens where the configuration says; none if it is off, or if the default address is taken.
///
/// # Errors
/// One sentence with the repair, if an address that somebody wrote down can't be had.
pub async fn listen(config: &AdminConfig) -> Result<Option<TcpListener>, String> {
    let Some(address) = &config.address else { return Ok(None) };
    match TcpListener::bind(address.as_str()).await {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if config.explicit => Err(format!(
            "can't listen on {address} for the admin endpoint: {error}; repair: set `admin` in rowcast.yaml (or \
             ROWCAST__ADMIN) to a free address, or to off"
        )),
        Err(error) => {
            tracing::warn!(
                "no admin endpoint: can't listen on {address}: {error}; if another daemon runs on this machine, set \
                 `admin` in rowcast.yaml to another address, or to off"
            );
            Ok(None)
        }
    }
}

/// Answers until dropped.
pub async fn serve(listener: TcpListener, status: Status) {
    if let Ok(address) = listener.local_addr() {
        tracing::info!("admin endpoint: http://{address} (/readyz, /metrics, /api/v1/sources)");
        if !address.ip().is_loopback() {
            tracing::info!("the admin endpoint can be reached from other machines, and asks for no password");
        }
    }
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let status = status.clone();
                tokio::spawn(async move {
                    let _slot = slot;
                    let _ = timeout(PATIENCE, converse(stream, status)).await;
                });
            }
            Err(error) => {
                tracing::debug!(%error, "admin endpoint: can't accept a connection");
                sleep(BREATH).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, status: Status) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = answer(&request, &status);
        async { Ok::<_, Infallible>(response) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "admin endpoint: a connection ended early");
    }
}

fn answer<B>(request: &Request<B>, status: &Status) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = respond(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET and HEAD\n".to_owned());
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match request.uri().path() {
        "/" => respond(StatusCode::OK, PLAIN, PATHS.to_owned()),
        "/healthz" => respond(StatusCode::OK, PLAIN, "alive\n".to_owned()),
        "/readyz" => ready(status),
        "/metrics" => {
            let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
            match metrics::render(status, accept) {
                Ok((kind, text)) => respond(StatusCode::OK, kind, text),
                Err(error) => respond(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, format!("{error}\n")),
            }
        }
        "/api/v1/sources" => json(StatusCode::OK, &status.reports()),
        path => match path.strip_prefix("/api/v1/sources/").map(|name| (name, status.report(name))) {
            Some((_, Some(report))) => json(StatusCode::OK, &report),
            Some((_, None)) => {
                json(StatusCode::NOT_FOUND, &serde_json::json!({"error": "no source of this name is configured"}))
            }
            None => respond(StatusCode::NOT_FOUND, PLAIN, format!("there is nothing here; there is:\n{PATHS}")),
        },
    }
}

fn ready(status: &Status) -> Response<Full<Bytes>> {
    let states = status.states();
    let unready: Vec<String> = states
        .iter()
        .filter(|(_, now)| !now.state.is_ready())
        .map(|(name, now)| match now.state.why() {
            Some(why) => format!("{name}: {}: {why}\n", now.state.name()),
            None => format!("{name}: {}\n", now.state.name()),
        })
        .collect();
    match (states.is_empty(), unready.is_empty()) {
        (true, _) => respond(StatusCode::SERVICE_UNAVAILABLE, PLAIN, "no source has started yet\n".to_owned()),
        (false, false) => respond(StatusCode::SERVICE_UNAVAILABLE, PLAIN, unready.concat()),
        (false, true) => respond(StatusCode::OK, PLAIN, "ready\n".to_owned()),
    }
}

fn json<T: serde::Serialize>(code: StatusCode, value: &T) -> Response<Full<Bytes>> {
    match serde_json::to_string(value) {
        Ok(text) => respond(code, JSON, text + "\n"),
        Err(error) => respond(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, format!("{error}\n")),
    }
}

fn respond(code: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Where a client on this machine reaches an address that was listened on.
pub fn reachable(address: &str) -> String {
    match address.parse::<SocketAddr>() {
        Ok(socket) if socket.ip().is_unspecified() && socket.is_ipv4() => format!("127.0.0.1:{}", socket.port()),
        Ok(socket) if socket.ip().is_unspecified() => format!("[::1]:{}", socket.port()),
        _ => address.to_owned(),
    }
}

#[cfg(test)]
mod tests;
