//! The server's greeting and our answer to it: plain bytes in, plain bytes out, no I/O.
//!
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_packets.html>

use super::compress::Compression;
use crate::cursor::{Cursor, Short};
use crate::error::ServerError;

const CLIENT_LONG_PASSWORD: u32 = 1;
const CLIENT_LONG_FLAG: u32 = 4;
const CLIENT_COMPRESS: u32 = 0x20;
const CLIENT_PROTOCOL_41: u32 = 0x200;
pub(crate) const CLIENT_SSL: u32 = 0x800;
const CLIENT_TRANSACTIONS: u32 = 0x2000;
const CLIENT_SECURE_CONNECTION: u32 = 0x8000;
const CLIENT_PLUGIN_AUTH: u32 = 0x8_0000;
const CLIENT_CONNECT_ATTRS: u32 = 0x10_0000;
const CLIENT_PLUGIN_AUTH_LENENC: u32 = 0x20_0000;
const CLIENT_ZSTD_COMPRESSION: u32 = 0x400_0000;
/// We don't do it; a server that knows that we know of it names the second factor's plugin.
const CLIENT_MULTI_FACTOR: u32 = 0x1000_0000;

/// The largest packet that we take: the servers' own limit.
const MAX_PACKET: u32 = 1 << 30;
/// The server's effort when it compresses by zstd: its own default.
const ZSTD_LEVEL: u8 = 3;

/// utf8mb4_general_ci: known to every version of both servers.
const COLLATION: u8 = 45;

/// What the server says first.
#[derive(Debug)]
pub(crate) struct Greeting {
    pub(crate) version: String,
    pub(crate) capabilities: u32,
    pub(crate) nonce: Vec<u8>,
    pub(crate) plugin: String,
}

impl Greeting {
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, Short> {
        let mut at = Cursor::new(payload);
        if at.u8()? != 10 {
            return Err(Short);
        }
        let version = String::from_utf8_lossy(at.until_nul()?).into_owned();
        at.u32()?; // connection id
        let mut nonce = at.take(8)?.to_vec();
        at.u8()?;
        let low = at.u16()?;
        at.u8()?; // character set
        at.u16()?; // status
        let high = at.u16()?;
        let length = usize::from(at.u8()?);
        at.take(10)?;
        let capabilities = u32::from(high) << 16 | u32::from(low);
        if capabilities & CLIENT_PROTOCOL_41 == 0 || capabilities & CLIENT_PLUGIN_AUTH == 0 {
            return Err(Short);
        }
        nonce.extend_from_slice(at.take(length.saturating_sub(8).max(13))?);
        // The nonce has 20 bytes; what follows is a NUL.
        nonce.truncate(20);
        let plugin = at.until_nul().unwrap_or(at.rest());
        Ok(Self { version, capabilities, nonce, plugin: String::from_utf8_lossy(plugin).into_owned() })
    }
}

/// The server's capability that a kind of compression needs.
fn compressing(compression: Compression) -> u32 {
    match compression {
        Compression::None => 0,
        Compression::Zlib => CLIENT_COMPRESS,
        Compression::Zstd => CLIENT_ZSTD_COMPRESSION,
    }
}

impl Greeting {
    /// Whether the server compresses so.
    pub(crate) fn offers(&self, compression: Compression) -> bool {
        let needed = compressing(compression);
        self.capabilities & needed == needed
    }

    /// The capabilities that we ask for.
    pub(crate) fn ours(&self, tls: bool, compression: Compression) -> u32 {
        let base = CLIENT_LONG_PASSWORD
            | CLIENT_LONG_FLAG
            | CLIENT_PROTOCOL_41
            | CLIENT_TRANSACTIONS
            | CLIENT_SECURE_CONNECTION
            | CLIENT_PLUGIN_AUTH;
        let optional =
            CLIENT_CONNECT_ATTRS | CLIENT_PLUGIN_AUTH_LENENC | CLIENT_MULTI_FACTOR | compressing(compression);
        base | (optional & self.capabilities) | if tls { CLIENT_SSL } else { 0 }
    }
}

/// The first part of the answer; alone it asks for TLS.
pub(crate) fn ssl_request(capabilities: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(&capabilities.to_le_bytes());
    out.extend_from_slice(&MAX_PACKET.to_le_bytes());
    out.push(COLLATION);
    out.extend_from_slice(&[0; 23]);
    out
}

/// The whole answer. `name` is the source's, for `performance_schema.session_connect_attrs`.
pub(crate) fn response(capabilities: u32, user: &str, auth: &[u8], plugin: &str, name: &str) -> Vec<u8> {
    let mut out = ssl_request(capabilities);
    out.extend_from_slice(user.as_bytes());
    out.push(0);
    // Responses of all plugins that answer the greeting are shorter than 251 bytes: both length forms are one byte.
    let auth = auth.get(..250).unwrap_or(auth);
    out.push(auth.len() as u8);
    out.extend_from_slice(auth);
    out.extend_from_slice(plugin.as_bytes());
    out.push(0);
    if capabilities & CLIENT_CONNECT_ATTRS != 0 {
        let pid = std::process::id().to_string();
        let mut attributes = Vec::new();
        for (key, value) in [
            ("program_name", "rowcast"),
            ("_client_version", env!("CARGO_PKG_VERSION")),
            ("_pid", pid.as_str()),
            ("rowcast_source", name),
        ] {
            for text in [key, value] {
                let end = (0..=text.len().min(64)).rev().find(|end| text.is_char_boundary(*end));
                let text = end.and_then(|end| text.get(..end)).unwrap_or("");
                attributes.push(text.len() as u8);
                attributes.extend_from_slice(text.as_bytes());
            }
        }
        // Texts of at most 64 bytes, all but one ours and short: one length byte is enough.
        if attributes.len() > 250 {
            attributes.clear();
        }
        out.push(attributes.len() as u8);
        out.extend_from_slice(&attributes);
    }
    if capabilities & CLIENT_ZSTD_COMPRESSION != 0 {
        out.push(ZSTD_LEVEL);
    }
    out
}

/// Reads an ERR packet (with its 0xff).
pub(crate) fn parse_error(payload: &[u8]) -> ServerError {
    let mut at = Cursor::new(payload);
    let code = at.u8().and_then(|_| at.u16()).unwrap_or(0);
    let text = match at.rest() {
        [b'#', _, _, _, _, _, text @ ..] => text,
        text => text,
    };
    ServerError { code, message: String::from_utf8_lossy(text.get(..2000).unwrap_or(text)).into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_greeting_is_an_error_and_never_a_panic() {
        for length in 0..80 {
            let _ = Greeting::parse(&vec![10; length]);
            let _ = Greeting::parse(&vec![0; length]);
        }
    }

    #[test]
    fn an_error_packet_is_read_with_and_without_a_state() {
        assert_eq!(parse_error(b"\xff\x15\x04#28000Access denied").code, 1045);
        assert_eq!(parse_error(b"\xff\x15\x04#28000Access denied").message, "Access denied");
        assert_eq!(parse_error(b"\xff\x10\x04Too many connections").message, "Too many connections");
        assert_eq!(parse_error(b"\xff").code, 0);
    }
}
