//! Reaching the server, with the TLS mode that was asked for, for both kinds of connection.
//!
//! TLS is negotiated by SSLRequest: one byte `S` or `N`. Exactly one byte is read before the handshake, so that
//! nothing which a man in the middle sends in clear text is taken for the server's (CVE-2021-23222).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use rowcast_core::SourceError;
use rowcast_net::{NetError, Stream, TlsMode, TlsOptions, connect_tcp, upgrade_tls};
use sha2::{Digest, Sha256, Sha384, Sha512};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use x509_cert::Certificate;
use x509_cert::der::Decode;

use crate::Options;
use crate::error::Target;

/// Connects, and encrypts if the mode says so.
pub(crate) async fn connect(options: &Options, target: &Target) -> Result<Stream, SourceError> {
    let net = |error: NetError| target.net(&error);
    let mut tcp = connect_tcp(&options.host, options.port, options.connect_timeout).await.map_err(net)?;
    if options.tls.mode == TlsMode::Disable {
        return Ok(Stream::Plain(tcp));
    }
    let mut request = bytes::BytesMut::new();
    postgres_protocol::message::frontend::ssl_request(&mut request);
    let lost = |error: io::Error| target.transient(format!("asking for TLS: {error}"));
    tcp.write_all(&request).await.map_err(lost)?;
    match tcp.read_u8().await.map_err(lost)? {
        b'S' => upgrade_tls(tcp, &options.tls, &options.host).await.map_err(net),
        b'N' if options.tls.mode == TlsMode::Prefer => Ok(Stream::Plain(tcp)),
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

/// The handshake for tokio-postgres, which sends the SSLRequest itself.
#[derive(Debug)]
pub(crate) struct Upgrade {
    pub(crate) tls: TlsOptions,
    pub(crate) host: String,
}

impl TlsConnect<TcpStream> for Upgrade {
    type Stream = Encrypted;
    type Error = NetError;
    type Future = Pin<Box<dyn Future<Output = Result<Encrypted, NetError>> + Send>>;

    fn connect(self, tcp: TcpStream) -> Self::Future {
        Box::pin(async move { upgrade_tls(tcp, &self.tls, &self.host).await.map(Encrypted) })
    }
}

/// A TLS connection of tokio-postgres.
#[derive(Debug)]
pub(crate) struct Encrypted(Stream);

impl TlsStream for Encrypted {
    fn channel_binding(&self) -> ChannelBinding {
        match self.0.server_certificate().and_then(|certificate| end_point(&certificate)) {
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
