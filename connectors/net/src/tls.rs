//! TLS by rustls (ring): the six modes that libpq's users know.
//!
//! `prefer` and `require` encrypt without looking at the certificate, as libpq does; `verify-ca` checks that the
//! chain ends at a trusted authority; `verify-full` checks the host name too. Trusted are the authorities of the
//! file `ca`, else those of the system.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{NetError, Stream};

/// How much a connection is protected, in the words of <https://www.postgresql.org/docs/current/libpq-ssl.html>.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsMode {
    /// Never encrypted.
    Disable,
    /// Encrypted only if the server demands it; the certificate isn't checked. PostgreSQL's alone.
    Allow,
    /// Encrypted if the server offers it; the certificate isn't checked.
    #[default]
    Prefer,
    /// Always encrypted; the certificate isn't checked.
    Require,
    /// Always encrypted; the certificate must come from a trusted authority.
    VerifyCa,
    /// As `VerifyCa`, and it must be for the host that was asked for.
    VerifyFull,
}

/// TLS settings of one connection.
#[derive(Debug, Clone, Default)]
pub struct TlsOptions {
    /// How much is checked.
    pub mode: TlsMode,
    /// PEM file of trusted authorities; the system's if none.
    pub ca: Option<PathBuf>,
    /// PEM file of the client's certificate chain.
    pub cert: Option<PathBuf>,
    /// PEM file of the client's key.
    pub key: Option<PathBuf>,
    /// Name that the certificate must be for, if not the host.
    pub server_name: Option<String>,
}

/// Builds the TLS configuration; reads the files.
///
/// # Errors
/// [`NetError::TlsSetup`] naming the file.
pub fn client_config(options: &TlsOptions) -> Result<Arc<ClientConfig>, NetError> {
    let provider = Arc::new(ring::default_provider());
    let setup = |what: String| NetError::TlsSetup(what);
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| setup(error.to_string()))?;
    let verifier: Arc<dyn ServerCertVerifier> = match options.mode {
        TlsMode::Disable | TlsMode::Allow | TlsMode::Prefer | TlsMode::Require => Arc::new(Unverified(provider)),
        TlsMode::VerifyCa | TlsMode::VerifyFull => {
            let roots = Arc::new(trusted(options)?);
            let webpki = WebPkiServerVerifier::builder_with_provider(roots, provider)
                .build()
                .map_err(|error| setup(error.to_string()))?;
            if options.mode == TlsMode::VerifyCa { Arc::new(AnyName(webpki)) } else { webpki }
        }
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let config = match (&options.cert, &options.key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(cert), Some(key)) => {
            let chain = certificates(cert)?;
            let key_der = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| setup(format!("can't read a private key from {}: {error}", key.display())))?;
            builder
                .with_client_auth_cert(chain, key_der)
                .map_err(|error| setup(format!("{} with {}: {error}", cert.display(), key.display())))?
        }
        _ => return Err(setup("`cert` and `key` go together: both or none".to_owned())),
    };
    Ok(Arc::new(config))
}

/// Performs the handshake on a connection whose peer is ready for it.
///
/// # Errors
/// [`NetError::TlsSetup`] for files and names, [`NetError::Handshake`] for the peer.
pub async fn upgrade_tls(tcp: TcpStream, options: &TlsOptions, host: &str) -> Result<Stream, NetError> {
    let config = client_config(options)?;
    let name = options.server_name.as_deref().unwrap_or(host);
    let server = ServerName::try_from(name.to_owned())
        .map_err(|_| NetError::TlsSetup(format!("`{name}` is not a host name that a certificate can be for")))?;
    match TlsConnector::from(config).connect(server, tcp).await {
        Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
        Err(error) => Err(NetError::Handshake {
            host: host.to_owned(),
            transient: error.kind() != io::ErrorKind::InvalidData,
            reason: error.to_string(),
        }),
    }
}

fn certificates(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, NetError> {
    let wrong = |what: String| NetError::TlsSetup(format!("can't read certificates from {}: {what}", path.display()));
    let found = CertificateDer::pem_file_iter(path)
        .and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>())
        .map_err(|error| wrong(error.to_string()))?;
    if found.is_empty() { Err(wrong("there is none in it".to_owned())) } else { Ok(found) }
}

fn trusted(options: &TlsOptions) -> Result<RootCertStore, NetError> {
    let mut roots = RootCertStore::empty();
    match &options.ca {
        Some(path) => {
            for certificate in certificates(path)? {
                roots
                    .add(certificate)
                    .map_err(|error| NetError::TlsSetup(format!("authority in {}: {error}", path.display())))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(NetError::TlsSetup(
                    "the system has no trusted authorities; name a file with `tls: { ca: ... }`".to_owned(),
                ));
            }
        }
    }
    Ok(roots)
}

/// Encrypts without asking who the peer is (`prefer`, `require`). Signatures are still checked.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Checks the chain but accepts any name (`verify-ca`).
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        cert: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.0.verify_server_cert(cert, chain, name, ocsp, now) {
            // webpki checks the name last, so this error says that all else was right
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
