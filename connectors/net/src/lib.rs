//! The connection below every connector's protocol: TCP with time-outs and keep-alive, Unix sockets, TLS; passwords, and
//! the choice among several hosts.
//!
//! Guarantees: connecting ends within the time-out; a peer that vanished is noticed by TCP keep-alive within about
//! a minute and a half; a mode that verifies never falls back to one that doesn't. Errors name host, port and file.

mod arrivals;
mod password;
mod servers;
mod tls;

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

pub use arrivals::{Arrivals, Raised};
pub use password::Password;
pub use servers::{Host, Search, Servers, SessionAttributes};
pub use tls::{TlsMode, TlsOptions, client_config, upgrade_tls};

/// A connection that can't be made.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The name doesn't resolve, nobody listens, or no answer within the time-out.
    #[error("can't connect to {host}:{port}: {reason}")]
    Connect {
        /// Host as configured.
        host: String,
        /// Port as configured.
        port: u16,
        /// What the system says.
        reason: String,
    },
    /// Nobody listens on a Unix socket, or no answer within the time-out.
    #[error("can't connect to {path}: {reason}")]
    Socket {
        /// The socket's path.
        path: String,
        /// What the system says.
        reason: String,
    },
    /// A certificate or key file that can't be used. Retrying doesn't help.
    #[error("tls: {0}")]
    TlsSetup(String),
    /// The handshake failed: the certificate isn't trusted or for another host.
    #[error("tls handshake with {host} failed: {reason}")]
    Handshake {
        /// Host as configured.
        host: String,
        /// What the TLS library says.
        reason: String,
        /// True if the connection broke rather than the peer's certificate being refused.
        transient: bool,
    },
    /// A command that is to print the password gave none.
    #[error("the password command `{program}`: {reason}")]
    Password {
        /// The program, without its arguments.
        program: String,
        /// What went wrong; nothing of what it printed as the password.
        reason: String,
        /// True if it may work another time.
        transient: bool,
    },
}

impl NetError {
    /// True if a retry may help.
    pub fn is_transient(&self) -> bool {
        match self {
            NetError::Connect { .. } | NetError::Socket { .. } => true,
            NetError::TlsSetup(_) => false,
            NetError::Handshake { transient, .. } | NetError::Password { transient, .. } => *transient,
        }
    }

    /// What an operator can do about it, in the keys of the configuration.
    pub fn repair(&self) -> &'static str {
        match self {
            NetError::Connect { .. } => "check `source.host` and `source.port`, and that the server runs",
            NetError::Socket { .. } => {
                "check the socket's path, that the server runs, and that this user may enter its folder"
            }
            NetError::TlsSetup(_) => "check the files under `source.tls`",
            NetError::Handshake { .. } => {
                "check `source.tls`: the authority in `ca`, the name in `server_name`, or the mode"
            }
            NetError::Password { .. } => "run the command of `source.password_command` by hand, as this user",
        }
    }
}

/// Connects to the first address of `host` that answers within `timeout` (for all of them together).
///
/// Nagle is off; keep-alive probes start after 30 s of silence, every 10 s, six times.
///
/// # Errors
/// [`NetError::Connect`] with the last address' reason.
pub async fn connect_tcp(host: &str, port: u16, timeout: Duration) -> Result<TcpStream, NetError> {
    let failed = |reason: String| NetError::Connect { host: host.to_owned(), port, reason };
    let stream = match tokio::time::timeout(timeout, TcpStream::connect((host, port))).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_) => return Err(failed(format!("no answer within {timeout:?}"))),
    };
    stream.set_nodelay(true).map_err(|error| failed(error.to_string()))?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10))
        .with_retries(6);
    socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive).map_err(|error| failed(error.to_string()))?;
    Ok(stream)
}

/// Connects to a Unix socket.
///
/// # Errors
/// [`NetError::Socket`].
pub async fn connect_unix(path: &Path, timeout: Duration) -> Result<UnixStream, NetError> {
    let failed = |reason: String| NetError::Socket { path: path.display().to_string(), reason };
    match tokio::time::timeout(timeout, UnixStream::connect(path)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed(format!("no answer within {timeout:?}"))),
    }
}

/// A connection with or without TLS.
#[derive(Debug)]
pub enum Stream {
    /// A Unix socket.
    Unix(UnixStream),
    /// Bare TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// True if what is sent is encrypted.
    pub fn is_tls(&self) -> bool {
        matches!(self, Stream::Tls(_))
    }

    /// The server's certificate (end entity, DER), for channel binding; none without TLS.
    pub fn server_certificate(&self) -> Option<CertificateDer<'static>> {
        match self {
            Stream::Plain(_) | Stream::Unix(_) => None,
            Stream::Tls(stream) => {
                stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).map(|c| c.clone().into_owned())
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
