//! Authentication plugins: what we answer to a challenge. Plain bytes in, plain bytes out, no I/O.
//!
//! Which plugin is used is the account's, so the server's choice; what it may learn is ours:
//! - a password is never sent in clear on a connection that others can read. There `caching_sha2_password` and
//!   `sha256_password` encrypt it with the server's RSA key: the one of `source.server_public_key` if there is one, else the one
//!   that the server sends, which somebody in between could replace by his own;
//! - `mysql_clear_password` is answered only if `source.cleartext_password` asks for it, and only over TLS or a Unix socket;
//! - whatever doesn't follow a plugin's own order is refused.
//!
//! What we don't speak is refused with its name.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mysql_common::auth::plugins::caching_sha2_password::scramble_sha256;
use mysql_common::auth::plugins::client_ed25519::ClientEd25519;
use mysql_common::auth::plugins::mysql_native_password::scramble_native;
use mysql_common::auth::plugins::parsec::Parsec;
use mysql_common::auth::plugins::{ChallengeResponsePlugin, Context};

/// MySQL's default plugin.
pub(crate) const CACHING_SHA2: &str = "caching_sha2_password";
/// MariaDB's default plugin.
pub(crate) const NATIVE: &str = "mysql_native_password";
const SHA256: &str = "sha256_password";
const ED25519: &str = "client_ed25519";
const PARSEC: &str = "parsec";
const CLEAR: &str = "mysql_clear_password";
/// The plugins that we speak, for messages.
const SPOKEN: &str =
    "caching_sha2_password, mysql_native_password, sha256_password, ed25519, parsec and mysql_clear_password";

/// `caching_sha2_password`: the server had the password's hash in its cache; OK follows.
const FAST: u8 = 3;
/// `caching_sha2_password`: it hadn't, and wants the password itself.
const FULL: u8 = 4;
/// Requests for the server's RSA key.
const CACHING_SHA2_KEY: u8 = 2;
const SHA256_KEY: u8 = 1;

/// Why we don't log in, and what to do about it.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) what: String,
    pub(crate) repair: &'static str,
}

const OTHER_PLUGIN: &str = "give the account a plugin that is supported: ALTER USER ... IDENTIFIED WITH caching_sha2_password BY \
                            '...' (MariaDB: IDENTIFIED VIA ed25519 USING PASSWORD('...'))";
const ENCRYPT: &str = "set `source.tls.mode` to `require` or stricter";
const DAMAGED: &str = "check that `source.port` is the server's";

fn refused(what: impl Into<String>, repair: &'static str) -> Refused {
    Refused { what: what.into(), repair }
}

/// What may be told to whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trust<'a> {
    /// Nobody else can read the connection: TLS, or a Unix socket.
    pub(crate) private: bool,
    /// `mysql_clear_password` may be answered.
    pub(crate) cleartext: bool,
    /// The server's RSA key (PEM), if it is known beforehand.
    pub(crate) key: Option<&'a [u8]>,
}

/// What the plugin waits for.
enum State {
    /// Nothing: what comes is the server's verdict.
    Done,
    /// `caching_sha2_password`: whether the hash is known.
    CachingSha2,
    /// The RSA key that we asked for.
    Key,
    /// `parsec`: the salt.
    Salt(Parsec),
}

/// One login: challenges in, answers out.
pub(crate) struct Exchange<'a> {
    password: &'a [u8],
    trust: Trust<'a>,
    nonce: Vec<u8>,
    state: State,
}

impl<'a> Exchange<'a> {
    pub(crate) fn new(password: &'a [u8], trust: Trust<'a>) -> Self {
        Self { password, trust, nonce: Vec::new(), state: State::Done }
    }

    /// The answer to a plugin's first challenge.
    pub(crate) fn begin(&mut self, plugin: &str, challenge: &[u8]) -> Result<Vec<u8>, Refused> {
        self.state = State::Done;
        self.nonce = challenge.get(..20).unwrap_or(challenge).to_vec();
        match plugin {
            CACHING_SHA2 => {
                self.state = State::CachingSha2;
                Ok(scramble_sha256(nonce::<20>(challenge)?, self.password)
                    .map(|hash| hash.to_vec())
                    .unwrap_or_default())
            }
            NATIVE => Ok(scramble_native(nonce::<20>(challenge)?, self.password)
                .map(|hash| hash.to_vec())
                .unwrap_or_default()),
            // no password: the NUL alone
            SHA256 if self.password.is_empty() => Ok(vec![0]),
            SHA256 => {
                nonce::<20>(challenge)?;
                self.in_person(SHA256_KEY)
            }
            ED25519 => self.challenged(&mut ClientEd25519::default(), nonce::<32>(challenge)?, ED25519),
            PARSEC => {
                let mut parsec = Parsec::default();
                let answer = self.challenged(&mut parsec, nonce::<32>(challenge)?, PARSEC)?;
                self.state = State::Salt(parsec);
                Ok(answer)
            }
            CLEAR if !self.trust.private => Err(refused(
                "the server asks for the password in clear (mysql_clear_password) on a connection without TLS",
                "set `source.tls.mode` to `verify-ca` or `verify-full`, and `source.cleartext_password: true` if the server is to have the \
                 password itself",
            )),
            CLEAR if !self.trust.cleartext => Err(refused(
                "the server asks for the password in clear (mysql_clear_password)",
                "set `source.cleartext_password: true` if it is to have it, as for PAM and LDAP",
            )),
            CLEAR => Ok(with_nul(self.password)),
            other => Err(refused(
                format!("the account uses the authentication plugin `{}`; supported are {SPOKEN}", shown(other)),
                OTHER_PLUGIN,
            )),
        }
    }

    /// The answer to what a plugin sends next; none if the server goes on by itself.
    pub(crate) fn more(&mut self, data: &[u8]) -> Result<Option<Vec<u8>>, Refused> {
        match std::mem::replace(&mut self.state, State::Done) {
            State::CachingSha2 => match data {
                [FAST] => Ok(None),
                [FULL] => self.in_person(CACHING_SHA2_KEY).map(Some),
                _ => Err(out_of_order()),
            },
            State::Key => self.encrypted(data).map(Some),
            State::Salt(mut parsec) => self.challenged(&mut parsec, data, PARSEC).map(Some),
            State::Done => Err(out_of_order()),
        }
    }

    /// The password itself: as it is where nobody listens, else for the server's RSA key, which is asked for if need be.
    fn in_person(&mut self, request: u8) -> Result<Vec<u8>, Refused> {
        match self.trust.key {
            _ if self.trust.private => Ok(with_nul(self.password)),
            Some(key) => self.encrypted(key),
            None => {
                self.state = State::Key;
                Ok(vec![request])
            }
        }
    }

    /// The password for an RSA key (PEM), masked with the nonce as the protocol wants it.
    fn encrypted(&self, pem: &[u8]) -> Result<Vec<u8>, Refused> {
        let masked = with_nul(self.password);
        let masked: Vec<u8> = masked.iter().zip(self.nonce.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        // mysql_common documents that it panics on a bad key; the key comes from the network.
        match catch_unwind(AssertUnwindSafe(|| mysql_common::crypto::encrypt(&masked, pem))) {
            Ok(Ok(sealed)) => Ok(sealed),
            Ok(Err(error)) => Err(refused(format!("the server's RSA key: {error}"), ENCRYPT)),
            Err(_) => Err(refused("the server's RSA key is malformed", ENCRYPT)),
        }
    }

    /// One step of a plugin of mysql_common.
    fn challenged(
        &self,
        plugin: &mut impl ChallengeResponsePlugin,
        challenge: &[u8],
        name: &str,
    ) -> Result<Vec<u8>, Refused> {
        let answer = plugin.run(PasswordOnly(self.password), challenge);
        let answer = answer.map_err(|error| refused(format!("{name}: {error}"), DAMAGED))?;
        Ok(answer.data().map(<[u8]>::to_vec).unwrap_or_default())
    }
}

fn out_of_order() -> Refused {
    refused("the server's challenge doesn't follow the authentication plugin's order", DAMAGED)
}

/// The first bytes of a challenge; what may follow is a NUL.
fn nonce<const N: usize>(challenge: &[u8]) -> Result<&[u8; N], Refused> {
    challenge.first_chunk().ok_or_else(|| refused("the server's challenge is too short", DAMAGED))
}

/// A name from the network, fit for a message.
pub(crate) fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(64).collect()
}

/// The password as it is sent where nobody listens.
fn with_nul(password: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(password.len() + 1);
    out.extend_from_slice(password);
    out.push(0);
    out
}

struct PasswordOnly<'a>(&'a [u8]);

impl Context for PasswordOnly<'_> {
    fn pass(&self) -> &[u8] {
        self.0
    }
    fn is_ipc_transport(&self) -> bool {
        false
    }
    fn is_tls_transport(&self) -> bool {
        false
    }
    fn scramble(&self) -> &[u8] {
        &[]
    }
    fn server_key_pem(&self) -> Option<&[u8]> {
        None
    }
}

#[cfg(test)]
mod tests;
