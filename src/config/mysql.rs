//! What the `source:` section says of MySQL and MariaDB alone.

use std::path::PathBuf;

use rowcast_core::{Handover, TableFilter};
use rowcast_mysql::Compression;
use rowcast_net::{SessionAttributes, TlsMode};

use super::keys::not_one_of;
use super::postgres;
use super::reader::Section;
use super::source::{ConnectionConfig, MysqlFlavor, read_attributes, read_start_at};
use super::units::parse_bytes;

/// A MySQL or MariaDB source.
#[derive(Clone, Debug)]
pub struct MysqlConfig {
    /// Which of the two.
    pub flavor: MysqlFlavor,
    /// How the server is reached.
    pub connection: ConnectionConfig,
    /// Which of several hosts is the one, and what a single one must be.
    pub session_attributes: SessionAttributes,
    /// The server's RSA key (PEM), if it is known beforehand.
    pub server_public_key: Option<PathBuf>,
    /// Whether the server may have the password itself (`mysql_clear_password`).
    pub cleartext_password: bool,
    /// How the server compresses what it sends.
    pub compression: Compression,
    /// Our id among the server's replicas; from 1. Two with the same id throw each other out.
    pub server_id: u32,
    /// It was made from the name: another one may be taken if a replica has it already.
    pub server_id_derived: bool,
    /// Which tables are captured, as `database.table`.
    pub tables: TableFilter,
    /// Events say the text of the statement that made them, as far as the server logs it.
    pub include_query: bool,
    /// Where somebody else stopped who published the same tables before.
    pub start_at: Option<Handover>,
    /// Bytes of `state_dir` that transactions may take of which it isn't known yet whether they commit.
    pub spill_limit: u64,
}

/// The words for TLS: libpq's first, which all sources have, then the mysql client's, without regard to case.
const TLS_MODES: [(&str, TlsMode); 11] = [
    ("disable", TlsMode::Disable),
    ("prefer", TlsMode::Prefer),
    ("require", TlsMode::Require),
    ("verify-ca", TlsMode::VerifyCa),
    ("verify-full", TlsMode::VerifyFull),
    ("disabled", TlsMode::Disable),
    ("preferred", TlsMode::Prefer),
    ("required", TlsMode::Require),
    ("verify_ca", TlsMode::VerifyCa),
    ("verify_identity", TlsMode::VerifyFull),
    ("verify-identity", TlsMode::VerifyFull),
];

const COMPRESSIONS: [(&str, Compression); 3] =
    [("none", Compression::None), ("zlib", Compression::Zlib), ("zstd", Compression::Zstd)];

/// The word that the configuration has for it.
pub(super) fn compression_word(compression: Compression) -> &'static str {
    COMPRESSIONS.iter().find(|(_, known)| *known == compression).map_or("", |(word, _)| word)
}

/// Reads the keys; `None` after a report. `aside`: a look at the events, which has a server id of its own.
pub(super) fn read(
    source: &Section<'_>,
    name: Option<&str>,
    aside: bool,
    flavor: MysqlFlavor,
    connection: Option<ConnectionConfig>,
    tables: Option<TableFilter>,
) -> Option<MysqlConfig> {
    let server_public_key = match source.has("server_public_key") {
        true => source.file("server_public_key").map(Some),
        false => Some(None),
    };
    let cleartext_password = match source.has("cleartext_password") {
        true => source.switch("cleartext_password"),
        false => Some(false),
    };
    let compression = read_compression(source, flavor);
    let written = source.value("server_id", parse_server_id);
    if source.has("server_id") && written.is_none() {
        return None;
    }
    let server_id = match (written, aside) {
        (Some(server_id), false) => Some(server_id),
        (_, false) => name.map(derived_server_id),
        (_, true) => name.map(|name| derived_server_id(&format!("{name} aside"))),
    };
    let include_query = if source.has("include_query") { source.switch("include_query") } else { Some(false) };
    let spill_limit = match source.has("spill_limit") {
        true => source.value("spill_limit", |text| postgres::at_least_spill(parse_bytes(text)?)),
        false => Some(postgres::SPILL_LIMIT),
    };
    let start_at = match flavor {
        MysqlFlavor::Mysql => read_start_at(source, "gtid", aside),
        MysqlFlavor::Mariadb => read_start_at(source, "mariadb-gtid", aside),
    };
    let session_attributes = read_attributes(source, connection.as_ref());
    Some(MysqlConfig {
        flavor,
        connection: connection?,
        session_attributes: session_attributes?,
        server_public_key: server_public_key?,
        cleartext_password: cleartext_password?,
        compression: compression?,
        server_id: server_id?,
        server_id_derived: written.is_none() || aside,
        tables: tables?,
        include_query: include_query?,
        start_at: start_at?,
        spill_limit: spill_limit?,
    })
}

/// The path of the server's socket, which takes the place of host and port.
pub(super) fn read_socket(source: &Section<'_>) -> Option<String> {
    let socket = source.path("socket")?;
    for key in ["host", "port"] {
        if source.has(key) {
            let what = format!("`source.{key}` and `source.socket` exclude each other; remove one");
            source.report(source.key_place(key), what);
            return None;
        }
    }
    let socket = std::path::absolute(&socket).unwrap_or(socket);
    match socket.to_str() {
        Some(socket) => Some(socket.to_owned()),
        None => {
            source.report(source.key_place("socket"), "`source.socket` is not UTF-8 text");
            None
        }
    }
}

/// `tls.mode` in the words of the mysql client, in any case, or in those of the other sources.
pub(super) fn read_tls_mode(source: &Section<'_>, tls: &Section<'_>) -> Option<TlsMode> {
    let mode = tls.value("mode", |text| {
        let lower = text.to_ascii_lowercase();
        let found = TLS_MODES.iter().find(|(word, _)| *word == lower);
        found.map(|(_, mode)| *mode).ok_or_else(|| match lower.as_str() {
            "allow" => "that is PostgreSQL's alone: write `prefer`, which encrypts if the server can".to_owned(),
            _ => not_one_of(text, &TLS_MODES.map(|(word, _)| word)),
        })
    })?;
    if source.has("socket") && !matches!(mode, TlsMode::Disable | TlsMode::Prefer) {
        let what =
            "`source.tls.mode` demands TLS, which isn't spoken on a Unix socket; remove it, or connect by `host`";
        tls.report(tls.key_place("mode"), what);
        return None;
    }
    Some(mode)
}

fn read_compression(source: &Section<'_>, flavor: MysqlFlavor) -> Option<Compression> {
    if !source.has("compression") {
        return Some(Compression::None);
    }
    let compression = source.choice("compression", &COMPRESSIONS)?;
    if (flavor, compression) == (MysqlFlavor::Mariadb, Compression::Zstd) {
        let what = "`source.compression` is `zstd`, which is MySQL's alone: write `zlib`";
        source.report(source.key_place("compression"), what);
        return None;
    }
    Some(compression)
}

fn parse_server_id(text: &str) -> Result<u32, String> {
    text.parse().ok().filter(|id| *id > 0).ok_or_else(|| format!("expected a number from 1 to {}", u32::MAX))
}

/// A stable id from 2,147,483,648 to 4,294,967,295, where people's own ids seldom are: FNV-1a of the name (32 bits,
/// <http://www.isthe.com/chongo/tech/comp/fnv/>) with the highest bit set.
fn derived_server_id(name: &str) -> u32 {
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash | 0x8000_0000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_derived_server_id_is_high_and_never_changes() {
        // The published vector of FNV-1a, 32 bits.
        assert_eq!(derived_server_id("foobar"), 0xbf9c_f968);
        // Pinned: another id would be another replica to the server after an update.
        assert_eq!(derived_server_id("shop"), 2_823_282_857);
        assert_ne!(derived_server_id("shop"), derived_server_id("shop-2"));
    }
}
