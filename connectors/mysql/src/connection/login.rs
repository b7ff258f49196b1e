//! From nothing to a session: connect, read the greeting, encrypt, log in, begin to compress.
//!
//! TLS is never less than `source.tls.mode` asks for: only `prefer` goes on without it, and only if the server doesn't offer
//! it. Nothing that a server sent before the handshake is believed after it, except the greeting: its version, its
//! capabilities and its nonce aren't secret, and what a changed one does is to fail the login.

use std::path::Path;

use rowcast_core::SourceError;
use rowcast_net::{NetError, Stream, TlsMode, connect_tcp, connect_unix, upgrade_tls};
use secrecy::ExposeSecret;

use super::auth::{self, Exchange, Refused, Trust};
use super::compress::Compression;
use super::handshake::{self, Greeting};
use super::packet::{HEADER, Header, Wire, WireError};
use super::{Connection, proxy};
use crate::cursor::{Cursor, Short};
use crate::error::{LOGGING_IN, Where};
use crate::{Flavor, Options};

/// Packets that a login may take: the longest one has six.
const STEPS: usize = 10;
/// No greeting is longer.
const MAX_GREETING: usize = 16 << 10;
/// No RSA key in PEM is longer.
const MAX_KEY: u64 = 64 << 10;

pub(super) async fn login(options: &Options, place: Where) -> Result<Connection, SourceError> {
    let limit = options.connect_timeout;
    let net = |error: NetError| place.net(&error);
    let lost = |error: WireError| place.transient(format_args!("while logging in: {error}"));

    // before connecting: servers don't wait for long
    let password = options.password.get(limit).await.map_err(net)?;
    let key = known_key(options, &place)?;
    let mut wire = Wire::new(match place.socket() {
        Some(path) => Stream::Unix(connect_unix(Path::new(path), limit).await.map_err(net)?),
        None => Stream::Plain(connect_tcp(&place.host, place.port, limit).await.map_err(net)?),
    });
    let stranger = || {
        place
            .definite("what answers there is not a MySQL or MariaDB server of this century")
            .repair("check `source.host` and `source.port`")
    };
    // before all of what it takes for a packet is waited for
    while wire.buf.len() < HEADER {
        wire.fill(limit).await.map_err(lost)?;
    }
    if Header::read(&wire.buf).is_none_or(|header| header.sequence != 0 || header.length > MAX_GREETING) {
        return Err(stranger());
    }
    let first = wire.read(limit).await.map_err(lost)?;
    if first.first() == Some(&0xff) {
        return Err(place.server("connecting", &handshake::parse_error(&first)));
    }
    let greeting = Greeting::parse(&first).map_err(|Short| stranger())?;
    if let Some(error) = proxy::by_version(&place, &greeting.version) {
        return Err(error);
    }
    check_flavor(&place, &greeting.version)?;
    check_compression(&place, &greeting, options.compression)?;

    let encrypt = encrypts(options, &place, &greeting)?;
    let capabilities = greeting.ours(encrypt, options.compression);
    if encrypt {
        wire = into_tls(wire, capabilities, options, &place).await?;
    }
    let private = !matches!(wire.stream, Stream::Plain(_));
    let trust = Trust { private, cleartext: options.cleartext_password, key: key.as_deref() };
    let exchange = Exchange::new(password.expose_secret().as_bytes(), trust);
    authenticate(&mut wire, exchange, options, &place, &greeting, capabilities).await?;
    wire.compress(options.compression).map_err(lost)?;
    Ok(Connection { wire, place, version: greeting.version, read_timeout: options.read_timeout })
}

/// The server's RSA key from the operator's file.
fn known_key(options: &Options, place: &Where) -> Result<Option<Vec<u8>>, SourceError> {
    use std::io::Read;
    let Some(path) = &options.server_public_key else { return Ok(None) };
    let mut key = Vec::new();
    match std::fs::File::open(path).and_then(|file| file.take(MAX_KEY).read_to_end(&mut key)) {
        Ok(_) => Ok(Some(key)),
        Err(error) => Err(place
            .definite(format_args!("can't read the server's public key from {}: {error}", path.display()))
            .repair("check `source.server_public_key`")),
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

fn check_compression(place: &Where, greeting: &Greeting, wanted: Compression) -> Result<(), SourceError> {
    if greeting.offers(wanted) {
        return Ok(());
    }
    let (word, repair) = match (wanted, place.flavor) {
        (Compression::Zstd, Flavor::MariaDb) => ("zstd", "set `source.compression` to `zlib`".to_owned()),
        (wanted, _) => (
            if wanted == Compression::Zstd { "zstd" } else { "zlib" },
            "set `source.compression` to `none`, or on MySQL: SET PERSIST protocol_compression_algorithms='zlib,zstd,uncompressed'"
                .to_owned(),
        ),
    };
    Err(place.definite(format_args!("the server doesn't compress by {word}")).repair(repair))
}

/// Whether this connection is encrypted.
fn encrypts(options: &Options, place: &Where, greeting: &Greeting) -> Result<bool, SourceError> {
    let offered = greeting.capabilities & handshake::CLIENT_SSL != 0;
    match options.tls.mode {
        TlsMode::Disable => Ok(false),
        // nobody else listens on a socket
        TlsMode::Prefer if place.socket().is_some() => Ok(false),
        TlsMode::Allow | TlsMode::Prefer => Ok(offered),
        TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull if place.socket().is_some() => Err(place
            .definite("TLS isn't spoken on a Unix socket, but `source.tls.mode` demands it")
            .repair("remove `source.tls`, or connect by `source.host`")),
        TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull if offered => Ok(true),
        TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => Err(place
            .definite("the server offers no TLS, but `source.tls.mode` demands it")
            .repair("set ssl_cert and ssl_key on the server, or set `source.tls.mode` to `prefer`")),
    }
}

async fn into_tls(mut wire: Wire, capabilities: u32, options: &Options, place: &Where) -> Result<Wire, SourceError> {
    let lost = |error: WireError| place.transient(format_args!("while logging in: {error}"));
    wire.write(&handshake::ssl_request(capabilities)).await.map_err(lost)?;
    // Bytes that came before the handshake would be taken for the server's: somebody put them there.
    if !wire.buf.is_empty() {
        return Err(place.protocol("bytes ahead of the TLS handshake"));
    }
    let sequence = wire.sequence;
    let Stream::Plain(tcp) = wire.stream else {
        return Err(place.protocol("TLS twice"));
    };
    let stream = upgrade_tls(tcp, &options.tls, &place.host).await;
    wire = Wire::new(stream.map_err(|error| place.net(&error))?);
    wire.sequence = sequence;
    Ok(wire)
}

async fn authenticate(
    wire: &mut Wire,
    mut exchange: Exchange<'_>,
    options: &Options,
    place: &Where,
    greeting: &Greeting,
    capabilities: u32,
) -> Result<(), SourceError> {
    let limit = options.connect_timeout;
    let lost = |error: WireError| place.transient(format_args!("while logging in: {error}"));
    let refused =
        |Refused { what, repair }: Refused| place.definite(format_args!("can't log in: {what}")).repair(repair);

    // The greeting names the server's default; the account's own comes with an auth switch. A default that we don't
    // speak, or that would want the password itself, is answered with one that we do.
    let plugin = if greeting.plugin == auth::NATIVE { auth::NATIVE } else { auth::CACHING_SHA2 };
    let first = exchange.begin(plugin, &greeting.nonce).map_err(refused)?;
    let answer = handshake::response(capabilities, &options.user, &first, plugin, &options.name);
    wire.write(&answer).await.map_err(lost)?;
    for _ in 0..STEPS {
        let packet = wire.read(limit).await.map_err(lost)?;
        let answer = match packet.split_first() {
            Some((0x00, _)) => return Ok(()),
            Some((0xff, _)) => return Err(place.server(LOGGING_IN, &handshake::parse_error(&packet))),
            // of servers older than plugins
            Some((0xfe, [])) => exchange.begin("mysql_old_password", &[]).map_err(refused)?,
            Some((0xfe, rest)) => {
                let mut at = Cursor::new(rest);
                let name = at.until_nul().map_err(|Short| place.protocol("while logging in"))?;
                exchange.begin(&String::from_utf8_lossy(name), at.rest()).map_err(refused)?
            }
            Some((0x01, data)) => match exchange.more(data).map_err(refused)? {
                Some(answer) => answer,
                None => continue,
            },
            Some((0x02, rest)) => {
                let name = Cursor::new(rest).until_nul().unwrap_or_default();
                let name = auth::shown(&String::from_utf8_lossy(name));
                return Err(place
                    .definite(format_args!(
                        "can't log in: the account has a second authentication factor, `{name}`, which isn't supported"
                    ))
                    .repair(format!(
                        "ALTER USER {}@'...' DROP 2 FACTOR, or use an account that has a password alone",
                        crate::error::quoted(&place.user)
                    )));
            }
            _ => return Err(place.protocol("while logging in")),
        };
        wire.write(&answer).await.map_err(lost)?;
    }
    Err(place.protocol("a login without an end"))
}
