//! Reaching the server, with the TLS mode that was asked for, for both kinds of connection.
//!
//! TLS is negotiated by SSLRequest: one byte `S` or `N`. Exactly one byte is read before the handshake, so that
//! nothing which a man in the middle sends in clear text is taken for the server's (CVE-2021-23222).

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use rowcast_core::SourceError;
use rowcast_net::{NetError, Stream, TlsMode, connect_tcp, connect_unix, upgrade_tls};
use sha2::{Digest, Sha256, Sha384, Sha512};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use x509_cert::Certificate;
use x509_cert::der::Decode;

use crate::Options;
use crate::error::Target;

/// Whether a connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encrypt {
    No,
    IfOffered,
    Yes,
}

/// What a mode tries: the second if the server refuses the login over the first (`pg_hba.conf` has no line for it), as libpq does.
/// Unix sockets are never encrypted.
pub(crate) fn ways(options: &Options) -> &'static [Encrypt] {
    match options.tls.mode {
        _ if options.servers.get(options.servers.chosen()).is_folder() => &[Encrypt::No],
        TlsMode::Disable => &[Encrypt::No],
        TlsMode::Allow => &[Encrypt::No, Encrypt::Yes],
        TlsMode::Prefer => &[Encrypt::IfOffered, Encrypt::No],
        TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => &[Encrypt::Yes],
    }
}

/// Whether another way may work where the server refused this one: `invalid_authorization_specification`.
pub(crate) fn is_of_the_way(code: &str) -> bool {
    code == "28000"
}

/// Connects to the server at this index, and encrypts.
pub(crate) async fn connect(
    options: &Options,
    target: &Target,
    index: usize,
    way: Encrypt,
) -> Result<Stream, SourceError> {
    let net = |error: NetError| target.net(&error);
    let (host, limit) = (options.servers.get(index), options.connect_timeout);
    if host.is_folder() {
        let path = Path::new(&host.name).join(format!(".s.PGSQL.{}", host.port));
        return connect_unix(&path, limit).await.map(Stream::Unix).map_err(net);
    }
    let mut tcp = connect_tcp(&host.name, host.port, limit).await.map_err(net)?;
    if way == Encrypt::No {
        return Ok(Stream::Plain(tcp));
    }
    let mut request = bytes::BytesMut::new();
    postgres_protocol::message::frontend::ssl_request(&mut request);
    let lost = |error: io::Error| target.transient(format!("asking for TLS: {error}"));
    tcp.write_all(&request).await.map_err(lost)?;
    match tcp.read_u8().await.map_err(lost)? {
        b'S' => upgrade_tls(tcp, &options.tls, &host.name).await.map_err(net),
        b'N' if way == Encrypt::IfOffered => Ok(Stream::Plain(tcp)),
        b'N' => Err(no_tls(target)),
        _ => Err(target.definite("the answer to the TLS request is not PostgreSQL's").repair("check `source.port`")),
    }
}

pub(crate) fn no_tls(target: &Target) -> SourceError {
    target
        .definite("the server has no TLS, and `source.tls.mode` asks for it")
        .repair("ALTER SYSTEM SET ssl = on (with a certificate), or `tls: { mode: disable }` on a trusted network")
}

/// `tls-server-end-point` (RFC 5929): the hash of the server's certificate, by the hash of its signature, where
/// MD5 and SHA-1 stand for SHA-256. None for signatures without such a hash (Ed25519): then there is no binding.
pub(crate) fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let algorithm = Certificate::from_der(certificate).ok()?.signature_algorithm.oid.to_string();
    Some(match algorithm.as_str() {
        // md5/sha1/sha256 with RSA; sha1/sha256 with ECDSA
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.1"
        | "1.2.840.10045.4.3.2" => Sha256::digest(certificate).to_vec(),
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Sha384::digest(certificate).to_vec(),
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Sha512::digest(certificate).to_vec(),
        _ => return None,
    })
}

/// For tokio-postgres, which is given a connection that is encrypted already.
#[derive(Debug)]
pub(crate) struct Done;

impl TlsConnect<Checked> for Done {
    type Stream = Encrypted;
    type Error = NetError;
    type Future = std::future::Ready<Result<Encrypted, NetError>>;

    fn connect(self, stream: Checked) -> Self::Future {
        std::future::ready(Ok(Encrypted(stream)))
    }
}

/// A TLS connection of tokio-postgres.
#[derive(Debug)]
pub(crate) struct Encrypted(Checked);

/// A connection whose first byte is looked at: tokio-postgres would wait for the rest of a message that is none, and another kind of
/// server couldn't be told from a lost connection.
#[derive(Debug)]
pub(crate) struct Checked {
    stream: Stream,
    seen: bool,
}

impl Checked {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, seen: false }
    }
}

/// What answers doesn't speak PostgreSQL's protocol.
#[derive(Debug, thiserror::Error)]
#[error("the first answer is not PostgreSQL's")]
pub(crate) struct NotPostgres;

impl TlsStream for Encrypted {
    fn channel_binding(&self) -> ChannelBinding {
        match self.0.stream.server_certificate().and_then(|certificate| end_point(&certificate)) {
            Some(hash) => ChannelBinding::tls_server_end_point(hash),
            None => ChannelBinding::none(),
        }
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}

impl AsyncRead for Checked {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if !this.seen
            && let Some(first) = buf.filled().get(before)
        {
            this.seen = true;
            // a request for authentication, an error, a notice, a negotiation of the protocol's version
            if !matches!(first, b'R' | b'E' | b'N' | b'v') {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, NotPostgres)));
            }
        }
        read
    }
}

impl AsyncWrite for Checked {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
