//! A connection to a MySQL or MariaDB server: TCP, TLS, login, and catalog queries.
//!
//! ```text
//! connect ─► greeting ─► [TLS] ─► login ─► query ... ─► (into the binlog stream)
//! ```
//!
//! Our own, because no crate gives access to the packets of a binlog dump. Every wait has a time-out; every error
//! names server and user, never the password. A query that was cancelled midway leaves the connection unusable, so
//! callers drop it then.

pub(crate) mod auth;
pub(crate) mod handshake;
pub(crate) mod packet;
pub(crate) mod statement;

use std::time::Duration;

use rowcast_core::SourceError;
use rowcast_net::{Stream, TlsMode, connect_tcp, upgrade_tls};
use secrecy::ExposeSecret;

use crate::cursor::{Cursor, Short};
use crate::error::{ServerError, Where};
use crate::{Flavor, Options};
use handshake::Greeting;
use packet::{Wire, WireError};

const COM_QUIT: u8 = 1;
const COM_QUERY: u8 = 3;
/// Most bytes that the result of one catalog query may have.
const MAX_RESULT: usize = 64 << 20;

/// Rows of a catalog query: text or NULL.
pub(crate) type Rows = Vec<Vec<Option<String>>>;

/// A connection that is logged in.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) wire: Wire,
    pub(crate) place: Where,
    pub(crate) version: String,
    pub(crate) read_timeout: Duration,
}

/// Why a statement failed: the connection is lost, or the server said no and waits for the next one.
#[derive(Debug)]
pub(crate) enum Failure {
    Source(SourceError),
    Server(ServerError),
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        Failure::Source(error)
    }
}

impl Connection {
    /// Connects and logs in within `connect_timeout`.
    pub(crate) async fn open(options: &Options) -> Result<Self, SourceError> {
        let place = options.place();
        let limit = options.connect_timeout;
        match tokio::time::timeout(limit, Box::pin(Self::login(options, place.clone()))).await {
            Ok(result) => result,
            Err(_) => Err(place.transient(format_args!("not logged in within {limit:?}"))),
        }
    }

    async fn login(options: &Options, place: Where) -> Result<Self, SourceError> {
        let limit = options.connect_timeout;
        let net = |error: rowcast_net::NetError| {
            if error.is_transient() { place.transient(error) } else { place.definite(error) }
        };
        let wire_error = |error: WireError| place.transient(format_args!("while logging in: {error}"));

        let tcp = connect_tcp(&options.host, options.port, limit).await.map_err(net)?;
        let mut wire = Wire::new(Stream::Plain(tcp));
        let first = wire.read(limit).await.map_err(wire_error)?;
        if first.first() == Some(&0xff) {
            return Err(place.server("connecting", &handshake::parse_error(&first)));
        }
        let greeting = Greeting::parse(&first)
            .map_err(|Short| place.definite("what answers there is not a MySQL or MariaDB server of this century"))?;
        check_flavor(&place, &greeting.version)?;

        let offered = greeting.capabilities & handshake::CLIENT_SSL != 0;
        let encrypt = match options.tls.mode {
            TlsMode::Disable => false,
            TlsMode::Prefer => offered,
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull if offered => true,
            _ => {
                return Err(place
                    .definite("the server offers no TLS, but `source.tls.mode` demands it")
                    .repair("set ssl_cert and ssl_key on the server, or set `source.tls.mode` to `prefer`"));
            }
        };
        let capabilities = handshake::capabilities(greeting.capabilities, encrypt);
        if encrypt {
            wire.write(&handshake::ssl_request(capabilities)).await.map_err(wire_error)?;
            // Bytes that came before the handshake would be taken for the server's: somebody put them there.
            if !wire.buf.is_empty() {
                return Err(place.protocol("bytes ahead of the TLS handshake"));
            }
            let sequence = wire.sequence;
            let Stream::Plain(tcp) = wire.stream else {
                return Err(place.protocol("TLS twice"));
            };
            wire = Wire::new(upgrade_tls(tcp, &options.tls, &options.host).await.map_err(net)?);
            wire.sequence = sequence;
        }
        authenticate(&mut wire, options, &place, &greeting, capabilities).await?;
        Ok(Self { wire, place, version: greeting.version, read_timeout: options.read_timeout })
    }

    /// Runs a statement and returns its rows (none for a statement without a result).
    pub(crate) async fn query(&mut self, doing: &str, sql: &str) -> Result<Rows, SourceError> {
        self.ask(doing, sql).await.map_err(|failure| match failure {
            Failure::Source(error) => error,
            Failure::Server(error) => self.place.server(doing, &error),
        })
    }

    /// The same for callers that look at the server's error themselves.
    pub(crate) async fn ask(&mut self, doing: &str, sql: &str) -> Result<Rows, Failure> {
        let mut payload = Vec::with_capacity(sql.len() + 1);
        payload.push(COM_QUERY);
        payload.extend_from_slice(sql.as_bytes());
        let place = self.place.clone();
        let wire_error = |error: WireError| place.transient(format_args!("{doing}: {error}"));
        let protocol = |Short| place.protocol(format_args!("{doing}: a malformed result"));

        self.wire.command(&payload).await.map_err(wire_error)?;
        let head = self.wire.read(self.read_timeout).await.map_err(wire_error)?;
        match head.first() {
            Some(0x00) => return Ok(Vec::new()),
            Some(0xff) => return Err(Failure::Server(handshake::parse_error(&head))),
            _ => {}
        }
        let columns = Cursor::new(&head).lenenc().map_err(protocol)?;
        for _ in 0..columns {
            self.wire.read(self.read_timeout).await.map_err(wire_error)?;
        }
        let end = self.wire.read(self.read_timeout).await.map_err(wire_error)?;
        if end.first() != Some(&0xfe) {
            return Err(protocol(Short).into());
        }
        let (mut rows, mut size) = (Rows::new(), 0_usize);
        loop {
            let packet = self.wire.read(self.read_timeout).await.map_err(wire_error)?;
            match packet.first() {
                Some(0xff) => return Err(Failure::Server(handshake::parse_error(&packet))),
                // An EOF packet; a row that begins with 0xfe is longer.
                Some(0xfe) if packet.len() < 9 => return Ok(rows),
                _ => {}
            }
            size += packet.len();
            if size > MAX_RESULT {
                let what = format_args!("{doing}: the result is larger than {MAX_RESULT} bytes");
                return Err(place.definite(what).into());
            }
            let mut at = Cursor::new(&packet);
            let mut row = Vec::new();
            for _ in 0..columns {
                if at.rest().first() == Some(&0xfb) {
                    at.u8().map_err(protocol)?;
                    row.push(None);
                } else {
                    row.push(Some(String::from_utf8_lossy(at.lenenc_bytes().map_err(protocol)?).into_owned()));
                }
            }
            rows.push(row);
        }
    }

    /// Says good-bye; failures don't matter any more.
    pub(crate) async fn quit(mut self) {
        let _ = tokio::time::timeout(Duration::from_millis(200), self.wire.command(&[COM_QUIT])).await;
    }
}

/// MariaDB says so in its version, behind a `5.5.5-` for old clients.
fn check_flavor(place: &Where, version: &str) -> Result<(), SourceError> {
    let maria = version.contains("MariaDB");
    let (is, wanted) = match (place.flavor, maria) {
        (Flavor::Mysql, true) => ("MariaDB", "mariadb"),
        (Flavor::MariaDb, false) => ("MySQL", "mysql"),
        _ => return Ok(()),
    };
    Err(place
        .definite(format_args!("the server is {is} ({version}), but `source.type` is `{}`", place.flavor))
        .repair(format!("set `source.type` to `{wanted}`")))
}

async fn authenticate(
    wire: &mut Wire,
    options: &Options,
    place: &Where,
    greeting: &Greeting,
    capabilities: u32,
) -> Result<(), SourceError> {
    let limit = options.connect_timeout;
    let wire_error = |error: WireError| place.transient(format_args!("while logging in: {error}"));
    let refused = |what: String| {
        place.definite(format_args!("can't log in: {what}")).repair("use another plugin for the account, or TLS")
    };
    let password = options.password.expose_secret().as_bytes();
    let tls = wire.stream.is_tls();

    // The greeting names the server's default; the account's own comes with an auth switch. A default that we don't
    // speak, or that would give the password away, is answered with one that we do.
    let mut nonce = greeting.nonce.clone();
    let mut plugin = match greeting.plugin.as_str() {
        auth::NATIVE => auth::NATIVE.to_owned(),
        _ => auth::CACHING_SHA2.to_owned(),
    };
    let first = auth::respond(&plugin, &nonce, password, tls).map_err(refused)?;
    let answer = handshake::response(capabilities, &options.user, &first, &plugin, &options.name);
    wire.write(&answer).await.map_err(wire_error)?;
    for _ in 0..10 {
        let packet = wire.read(limit).await.map_err(wire_error)?;
        let answer = match packet.split_first() {
            Some((0x00, _)) => return Ok(()),
            Some((0xff, _)) => return Err(place.server("logging in", &handshake::parse_error(&packet))),
            Some((0xfe, rest)) => {
                let mut at = Cursor::new(rest);
                let name = at.until_nul().map_err(|Short| refused("the account uses mysql_old_password".to_owned()))?;
                plugin = String::from_utf8_lossy(name).into_owned();
                nonce = at.rest().to_vec();
                if nonce.last() == Some(&0) {
                    nonce.pop();
                }
                auth::respond(&plugin, &nonce, password, tls).map_err(refused)?
            }
            Some((0x01, rest)) if plugin == auth::CACHING_SHA2 => match rest {
                // The server had the password's hash in its cache; OK follows.
                [0x03] => continue,
                [0x04] if tls => auth::with_nul(password),
                [0x04] => vec![0x02],
                key => auth::encrypt(password, &nonce, key).map_err(refused)?,
            },
            _ => return Err(place.protocol("while logging in")),
        };
        wire.write(&answer).await.map_err(wire_error)?;
    }
    Err(place.protocol("a login without an end"))
}
