//! Logging in: SCRAM-SHA-256 with channel binding where there is TLS, MD5, and clear text over TLS only.

use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256};
use postgres_protocol::message::frontend;
use rowcast_core::SourceError;
use secrecy::{ExposeSecret, SecretString};

use super::connection::Wired;
use super::tls::end_point;
use crate::Options;
use crate::wire::Wire;

/// Answers the server's requests until it is content.
pub(super) async fn log_in(wired: &mut Wired, options: &Options) -> Result<(), SourceError> {
    loop {
        let (tag, body) = wired.receive("logging in").await?;
        if tag != b'R' {
            return Err(wired.unexpected(tag, "logging in"));
        }
        let mut wire = Wire::new(&body);
        match wire.u32() {
            Some(0) => return Ok(()),
            Some(3) if wired.is_tls() => {
                let password = password(wired, options).await?;
                wired.send(|buf| frontend::password_message(password.expose_secret().as_bytes(), buf)).await?;
            }
            Some(3) => {
                return Err(wired
                    .target()
                    .definite("the server asks for the password in clear text over a connection without TLS")
                    .repair("use `scram-sha-256` in pg_hba.conf, or `source.tls.mode: require` or better"));
            }
            Some(5) => {
                let salt = wire.take(4).and_then(|salt| salt.try_into().ok()).ok_or_else(|| wired.damaged())?;
                let password = password(wired, options).await?;
                let hash = md5_hash(options.user.as_bytes(), password.expose_secret().as_bytes(), salt);
                wired.send(|buf| frontend::password_message(hash.as_bytes(), buf)).await?;
            }
            Some(10) => scram(wired, options, body.get(4..).unwrap_or_default()).await?,
            Some(method) => {
                return Err(wired
                    .target()
                    .definite(format!("the server asks for authentication method {method}, which is not supported"))
                    .repair("use `scram-sha-256` (or `cert` over TLS) for this user in pg_hba.conf"));
            }
            None => return Err(wired.damaged()),
        }
    }
}

async fn password(wired: &Wired, options: &Options) -> Result<SecretString, SourceError> {
    options.password.get(options.connect_timeout).await.map_err(|error| wired.target().net(&error))
}

async fn scram(wired: &mut Wired, options: &Options, offered: &[u8]) -> Result<(), SourceError> {
    let has = |name: &str| offered.split(|byte| *byte == 0).any(|offer| offer == name.as_bytes());
    let binding = wired.certificate().and_then(|certificate| end_point(&certificate));
    let (mechanism, binding) = match binding {
        Some(hash) if has(SCRAM_SHA_256_PLUS) => (SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(hash)),
        // says that we could have: a server that offered it notices that somebody took the offer away
        Some(_) if has(SCRAM_SHA_256) => (SCRAM_SHA_256, ChannelBinding::unrequested()),
        None if has(SCRAM_SHA_256) => (SCRAM_SHA_256, ChannelBinding::unsupported()),
        _ => return Err(wired.target().definite("the server offers no SASL mechanism that is supported")),
    };
    let failed = |what: std::io::Error, wired: &Wired| {
        wired.target().definite(format!("logging in by {mechanism}: {what}")).repair("check `source.password`")
    };
    let password = password(wired, options).await?;
    let mut scram = ScramSha256::new(password.expose_secret().as_bytes(), binding);
    wired.send(|buf| frontend::sasl_initial_response(mechanism, scram.message(), buf)).await?;

    let first = step(wired, 11).await?;
    scram.update(&first).map_err(|error| failed(error, wired))?;
    wired.send(|buf| frontend::sasl_response(scram.message(), buf)).await?;

    // a server that doesn't know the password can't sign this
    let last = step(wired, 12).await?;
    scram.finish(&last).map_err(|error| failed(error, wired))
}

/// The data of the authentication message `kind`.
async fn step(wired: &mut Wired, kind: u32) -> Result<Vec<u8>, SourceError> {
    let (tag, body) = wired.receive("logging in").await?;
    let mut wire = Wire::new(&body);
    match (tag, wire.u32()) {
        (b'R', Some(found)) if found == kind => Ok(wire.take(wire.left()).unwrap_or_default().to_vec()),
        (tag, _) => Err(wired.unexpected(tag, "logging in")),
    }
}
