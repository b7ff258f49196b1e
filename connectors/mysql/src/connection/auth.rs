//! Authentication plugins: what we answer to a challenge.
//!
//! The password is never sent in clear without TLS: `caching_sha2_password` then encrypts it with the server's
//! RSA key, and `mysql_clear_password` is refused. Which plugin is used is the server's choice.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mysql_common::auth::plugins::caching_sha2_password::scramble_sha256;
use mysql_common::auth::plugins::client_ed25519::ClientEd25519;
use mysql_common::auth::plugins::mysql_native_password::scramble_native;
use mysql_common::auth::plugins::{ChallengeResponsePlugin, Context};

pub(crate) const CACHING_SHA2: &str = "caching_sha2_password";
pub(crate) const NATIVE: &str = "mysql_native_password";
pub(crate) const ED25519: &str = "client_ed25519";
pub(crate) const CLEAR: &str = "mysql_clear_password";

/// The first answer to a plugin's challenge.
///
/// # Errors
/// A sentence saying why not: an unknown plugin, or one that would show the password to everybody on the way.
pub(crate) fn respond(plugin: &str, nonce: &[u8], password: &[u8], tls: bool) -> Result<Vec<u8>, String> {
    match plugin {
        CACHING_SHA2 => {
            let nonce: &[u8; 20] = nonce.first_chunk().ok_or("the server's challenge is too short")?;
            Ok(scramble_sha256(nonce, password).map(|hash| hash.to_vec()).unwrap_or_default())
        }
        NATIVE => {
            let nonce: &[u8; 20] = nonce.first_chunk().ok_or("the server's challenge is too short")?;
            Ok(scramble_native(nonce, password).map(|hash| hash.to_vec()).unwrap_or_default())
        }
        ED25519 => {
            let answer = ClientEd25519::default()
                .run(PasswordOnly(password), nonce)
                .map_err(|error| format!("client_ed25519: {error}"))?;
            Ok(answer.data().map(<[u8]>::to_vec).unwrap_or_default())
        }
        CLEAR if tls => Ok(with_nul(password)),
        CLEAR => Err("the server asks for the password in clear text (mysql_clear_password) on a connection without \
                      TLS; refused"
            .to_owned()),
        other => Err(format!(
            "the account uses the authentication plugin `{other}`; supported are {CACHING_SHA2}, {NATIVE}, {ED25519}"
        )),
    }
}

/// The password for the server's RSA key (PEM), masked with the nonce as the protocol wants it.
pub(crate) fn encrypt(password: &[u8], nonce: &[u8], pem: &[u8]) -> Result<Vec<u8>, String> {
    let masked: Vec<u8> = with_nul(password).iter().zip(nonce.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    // mysql_common documents that it panics on a bad key; the key comes from the network.
    match catch_unwind(AssertUnwindSafe(|| mysql_common::crypto::encrypt(&masked, pem))) {
        Ok(Ok(sealed)) => Ok(sealed),
        Ok(Err(error)) => Err(format!("the server's RSA key: {error}")),
        Err(_) => Err("the server's RSA key is malformed".to_owned()),
    }
}

/// The password as plugins send it over TLS.
pub(crate) fn with_nul(password: &[u8]) -> Vec<u8> {
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn clear_text_is_refused_without_tls() {
        assert!(respond(CLEAR, &[], b"secret", false).unwrap_err().contains("refused"));
        assert_eq!(respond(CLEAR, &[], b"secret", true).unwrap(), b"secret\0");
    }

    #[test]
    fn an_unknown_plugin_is_named() {
        assert!(respond("authentication_kerberos_client", &[0; 20], b"x", true).unwrap_err().contains("kerberos"));
        assert!(respond(NATIVE, &[0; 3], b"x", true).is_err());
    }

    #[test]
    fn a_malformed_key_is_an_error() {
        assert!(encrypt(b"secret", &[1; 20], b"not a key").is_err());
        assert!(encrypt(b"secret", &[1; 20], b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n").is_err());
    }
}
