//! A server that follows a script: what no real one says on request, and what it heard meanwhile.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::support::env;

/// TLS, plugins, secure passwords, protocol 4.1.
const PLAIN: u32 = 0x8_8200;
const SSL: u32 = 0x800;

/// One step of the script.
#[derive(Debug, Clone)]
pub enum Step {
    /// Sends a payload.
    Say(Vec<u8>),
    /// Reads a packet.
    Hear,
    /// Reads packets and says OK to each, until one has this text.
    Until(&'static str),
    /// Reads the request for TLS and speaks it from now on.
    Tls,
    /// Says nothing more, and keeps the connection.
    Hang,
}

/// The server.
pub struct Fake {
    pub port: u16,
    heard: Arc<Mutex<Vec<u8>>>,
}

/// Both kinds of streams.
trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

impl Fake {
    /// Follows the script on every connection, and closes it at the end, once the client did.
    pub async fn new(script: Vec<Step>) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(follow(Box::new(client), script.clone(), Arc::clone(&all)));
            }
        });
        Fake { port, heard }
    }

    /// What clients sent, payloads only, inside of TLS where it was spoken.
    pub fn heard(&self) -> Vec<u8> {
        self.heard.lock().unwrap().clone()
    }

    /// Whether clients sent these bytes.
    pub fn heard_of(&self, bytes: &[u8]) -> bool {
        self.heard().windows(bytes.len()).any(|window| window == bytes)
    }
}

async fn follow(mut wire: Box<dyn Wire>, script: Vec<Step>, heard: Arc<Mutex<Vec<u8>>>) -> Option<()> {
    let mut sequence = 0_u8;
    for step in script {
        match step {
            Step::Say(payload) => say(&mut wire, &payload, &mut sequence).await?,
            Step::Hear => drop(hear(&mut wire, &heard, &mut sequence).await?),
            Step::Until(text) => loop {
                let payload = hear(&mut wire, &heard, &mut sequence).await?;
                if String::from_utf8_lossy(&payload).contains(text) {
                    break;
                }
                say(&mut wire, &OK, &mut sequence).await?;
            },
            Step::Tls => {
                hear(&mut wire, &heard, &mut sequence).await?;
                wire = Box::new(acceptor().accept(wire).await.ok()?);
            }
            Step::Hang => tokio::time::sleep(Duration::from_secs(3600)).await,
        }
    }
    // a socket that is dropped with something unread is reset, by chance before the client has read all: this end is orderly
    wire.shutdown().await.ok()?;
    while wire.read(&mut [0; 1024]).await.ok()? > 0 {}
    Some(())
}

async fn say(wire: &mut Box<dyn Wire>, payload: &[u8], sequence: &mut u8) -> Option<()> {
    let mut packet = u32::try_from(payload.len()).unwrap().to_le_bytes();
    packet[3] = *sequence;
    wire.write_all(&packet).await.ok()?;
    wire.write_all(payload).await.ok()?;
    wire.flush().await.ok()?;
    *sequence = sequence.wrapping_add(1);
    Some(())
}

async fn hear(wire: &mut Box<dyn Wire>, heard: &Mutex<Vec<u8>>, sequence: &mut u8) -> Option<Vec<u8>> {
    let mut header = [0; 4];
    wire.read_exact(&mut header).await.ok()?;
    *sequence = header[3].wrapping_add(1);
    header[3] = 0;
    let mut payload = vec![0; u32::from_le_bytes(header) as usize];
    wire.read_exact(&mut payload).await.ok()?;
    heard.lock().unwrap().extend_from_slice(&payload);
    Some(payload)
}

/// The servers' certificate, which is for 127.0.0.1.
fn acceptor() -> TlsAcceptor {
    let dir = env().dir.join("tls");
    let chain = CertificateDer::pem_file_iter(dir.join("server.crt")).unwrap().map(Result::unwrap).collect();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(dir.join("server.key")).unwrap())
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// A greeting of this version, with or without TLS.
pub fn greeting(version: &str, tls: bool) -> Step {
    let capabilities = PLAIN | if tls { SSL } else { 0 };
    let [a, b, c, d] = capabilities.to_le_bytes();
    let mut out = vec![10];
    out.extend_from_slice(version.as_bytes());
    out.extend_from_slice(&[0, 1, 0, 0, 0]);
    out.extend_from_slice(&[1; 8]);
    out.extend_from_slice(&[0, a, b, 45, 2, 0, c, d, 21]);
    out.extend_from_slice(&[0; 10]);
    out.extend_from_slice(&[2; 12]);
    out.extend_from_slice(b"\0caching_sha2_password\0");
    Step::Say(out)
}

/// An error packet.
pub fn error(code: u16, message: &str) -> Step {
    let [a, b] = code.to_le_bytes();
    Step::Say([&[0xff, a, b], &b"#HY000"[..], message.as_bytes()].concat())
}

/// A request for another plugin.
pub fn switch(plugin: &str, challenge: &[u8]) -> Step {
    Step::Say([b"\xfe", plugin.as_bytes(), b"\0", challenge].concat())
}

/// What a plugin says in the course of a login.
pub fn more(data: &[u8]) -> Step {
    Step::Say([b"\x01", data].concat())
}

const OK: [u8; 7] = [0, 0, 0, 2, 0, 0, 0];

/// OK.
pub fn ok() -> Step {
    Step::Say(OK.to_vec())
}

/// A result of one row with one text.
pub fn one_text(text: &str) -> Vec<Step> {
    let mut definition = b"\x03def\0\0\0\x01a\0\x0c\x2d\0".to_vec();
    definition.extend_from_slice(&[255, 0, 0, 0, 0xfd, 0, 0, 0, 0, 0]);
    let row = [&[text.len() as u8], text.as_bytes()].concat();
    let end = || Step::Say(vec![0xfe, 0, 0, 2, 0]);
    vec![Step::Say(vec![1]), Step::Say(definition), end(), Step::Say(row), end()]
}
