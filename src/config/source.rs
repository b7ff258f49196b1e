//! The `source:` section: which database, how to reach it, and which tables.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::reader::Section;
use super::units::{parse_duration, show_duration};
use rowcast_core::{TableFilter, TablePattern};

/// PostgreSQL cuts identifiers at 63 bytes (`NAMEDATALEN` - 1).
const MAX_IDENTIFIER: usize = 63;

/// The database that changes are read from.
#[derive(Clone, Debug)]
pub enum SourceKind {
    /// PostgreSQL.
    Postgres(PostgresConfig),
    /// MySQL or MariaDB.
    Mysql(MysqlConfig),
}

impl SourceKind {
    /// How the server is reached.
    pub fn connection(&self) -> &ConnectionConfig {
        match self {
            Self::Postgres(postgres) => &postgres.connection,
            Self::Mysql(mysql) => &mysql.connection,
        }
    }

    /// Which tables are captured.
    pub fn tables(&self) -> &TableFilter {
        match self {
            Self::Postgres(postgres) => &postgres.tables,
            Self::Mysql(mysql) => &mysql.tables,
        }
    }

    /// `postgres`, `mysql` or `mariadb`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgres",
            Self::Mysql(mysql) => mysql.flavor.name(),
        }
    }
}

/// A PostgreSQL source.
#[derive(Clone, Debug)]
pub struct PostgresConfig {
    /// How the server is reached.
    pub connection: ConnectionConfig,
    /// The database whose changes are read.
    pub database: String,
    /// The replication slot: letters a-z, digits and `_`, at most 63.
    pub slot: String,
    /// The publication; at most 63 bytes.
    pub publication: String,
    /// Which tables are captured, as `schema.table`.
    pub tables: TableFilter,
}

/// A MySQL or MariaDB source.
#[derive(Clone, Debug)]
pub struct MysqlConfig {
    /// Which of the two.
    pub flavor: MysqlFlavor,
    /// How the server is reached.
    pub connection: ConnectionConfig,
    /// Our id among the server's replicas; from 1. Two with the same id throw each other out.
    pub server_id: u32,
    /// Which tables are captured, as `database.table`.
    pub tables: TableFilter,
}

/// The two dialects of the MySQL protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MysqlFlavor {
    /// MySQL.
    Mysql,
    /// MariaDB.
    Mariadb,
}

impl MysqlFlavor {
    /// `mysql` or `mariadb`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mysql => "mysql",
            Self::Mariadb => "mariadb",
        }
    }
}

/// How a server is reached.
#[derive(Clone, Debug)]
pub struct ConnectionConfig {
    /// Name or address.
    pub host: String,
    /// From 1.
    pub port: u16,
    /// The database's user.
    pub user: String,
    /// Its password; `None` if none was given.
    pub password: Option<SecretString>,
    /// Encryption.
    pub tls: TlsConfig,
    /// For connecting and logging in.
    pub connect_timeout: Duration,
    /// How long the server may stay silent before the connection counts as dead.
    pub read_timeout: Duration,
}

/// Encryption of a connection, with libpq's modes for all databases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// How much is asked for.
    pub mode: TlsMode,
    /// Certificates of the authorities to trust (PEM); `None` means those of the system.
    pub ca: Option<PathBuf>,
    /// Our certificate (PEM) and its key (PEM).
    pub identity: Option<TlsIdentity>,
    /// The name to check in the server's certificate instead of the host.
    pub server_name: Option<String>,
}

/// A client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsIdentity {
    /// The certificate chain (PEM).
    pub cert: PathBuf,
    /// Its private key (PEM).
    pub key: PathBuf,
}

/// What is asked of TLS (<https://www.postgresql.org/docs/current/libpq-ssl.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// No TLS.
    Disable,
    /// TLS if the server has it, unchecked.
    Prefer,
    /// TLS, unchecked.
    Require,
    /// TLS with a certificate of a trusted authority.
    VerifyCa,
    /// TLS with a certificate of a trusted authority for this host.
    VerifyFull,
}

const TLS_MODES: [(&str, TlsMode); 5] = [
    ("disable", TlsMode::Disable),
    ("prefer", TlsMode::Prefer),
    ("require", TlsMode::Require),
    ("verify-ca", TlsMode::VerifyCa),
    ("verify-full", TlsMode::VerifyFull),
];

impl fmt::Display for TlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = TLS_MODES.iter().find(|(_, mode)| mode == self).map_or("", |(word, _)| word);
        f.write_str(word)
    }
}

#[derive(Clone, Copy)]
enum SourceType {
    Postgres,
    Mysql(MysqlFlavor),
}

/// Reads `source`; `None` after a report. `aside` is true if the sink was replaced on the command line: slot and server id
/// then are others than those of the daemon whose configuration this is, so that a look at the events never disturbs it.
pub(crate) fn read(root: &Section<'_>, name: Option<&str>, aside: bool) -> Option<SourceKind> {
    if !root.has("source") {
        root.missing("source", "the database to read changes from");
        return None;
    }
    let source = root.section("source");
    if root.is_malformed("source") {
        return None;
    }
    if !source.has("type") {
        source.missing("type", "allowed: postgres, mysql, mariadb");
    }
    let kind = source.choice(
        "type",
        &[
            ("postgres", SourceType::Postgres),
            ("mysql", SourceType::Mysql(MysqlFlavor::Mysql)),
            ("mariadb", SourceType::Mysql(MysqlFlavor::Mariadb)),
        ],
    );
    let default_port = if matches!(kind, Some(SourceType::Postgres)) { 5432 } else { 3306 };
    let connection = read_connection(&source, default_port);
    let tables = read_tables(&source);
    match kind? {
        SourceType::Postgres => {
            let database = source.required("database", "PostgreSQL replicates one database", not_empty);
            let default = name.map(|name| format!("rowcast_{}", name.replace('-', "_")));
            let slot = if source.has("slot") { source.value("slot", parse_slot) } else { default.clone() };
            let publication = match source.has("publication") {
                true => source.value("publication", parse_publication),
                false => default,
            };
            let slot = slot.map(|slot| if aside { aside_slot(&slot) } else { slot });
            let (connection, tables) = (connection?, tables?);
            Some(SourceKind::Postgres(PostgresConfig {
                connection,
                database: database?,
                slot: slot?,
                publication: publication?,
                tables,
            }))
        }
        SourceType::Mysql(flavor) => {
            let written = source.value("server_id", parse_server_id);
            if source.has("server_id") && written.is_none() {
                return None;
            }
            let server_id = match (written, aside) {
                (Some(server_id), false) => Some(server_id),
                (_, false) => name.map(derived_server_id),
                (_, true) => name.map(|name| derived_server_id(&format!("{name} aside"))),
            };
            let (connection, tables) = (connection?, tables?);
            Some(SourceKind::Mysql(MysqlConfig { flavor, connection, server_id: server_id?, tables }))
        }
    }
}

fn read_connection(source: &Section<'_>, default_port: u16) -> Option<ConnectionConfig> {
    let host = source.required("host", "", parse_host);
    let port = if source.has("port") { source.value("port", parse_port) } else { Some(default_port) };
    let user = source.required("user", "", not_empty);
    let password = if source.has("password") { source.secret("password").map(Some) } else { Some(None) };
    let tls = read_tls(source);
    let connect_timeout = timeout(source, "connect_timeout", Duration::from_secs(10));
    let read_timeout = timeout(source, "read_timeout", Duration::from_secs(60));
    Some(ConnectionConfig {
        host: host?,
        port: port?,
        user: user?,
        password: password?,
        tls: tls?,
        connect_timeout: connect_timeout?,
        read_timeout: read_timeout?,
    })
}

fn timeout(source: &Section<'_>, key: &str, default: Duration) -> Option<Duration> {
    if !source.has(key) {
        return Some(default);
    }
    source.value(key, |text| within(parse_duration(text)?, Duration::from_millis(100), Duration::from_secs(3600)))
}

/// The duration, if it is in the range.
pub(crate) fn within(duration: Duration, least: Duration, most: Duration) -> Result<Duration, String> {
    if (least..=most).contains(&duration) {
        return Ok(duration);
    }
    Err(format!("expected {} to {}", show_duration(least), show_duration(most)))
}

fn read_tls(source: &Section<'_>) -> Option<TlsConfig> {
    if source.is_malformed("tls") {
        source.section("tls");
        return None;
    }
    let tls = source.section("tls");
    let mode = if tls.has("mode") { tls.choice("mode", &TLS_MODES) } else { Some(TlsMode::Prefer) };
    let file =
        |key: &str| -> Option<Option<PathBuf>> { if tls.has(key) { tls.file(key).map(Some) } else { Some(None) } };
    let (ca, cert, key) = (file("ca"), file("cert"), file("key"));
    let server_name = if tls.has("server_name") { tls.value("server_name", not_empty).map(Some) } else { Some(None) };
    for (given, lacking) in [("cert", "key"), ("key", "cert")] {
        if tls.has(given) && !tls.has(lacking) {
            tls.missing(lacking, "`cert` and `key` belong together");
        }
    }
    let identity = match (cert?, key?) {
        (Some(cert), Some(key)) => Some(TlsIdentity { cert, key }),
        _ => None,
    };
    Some(TlsConfig { mode: mode?, ca: ca?, identity, server_name: server_name? })
}

fn read_tables(source: &Section<'_>) -> Option<TableFilter> {
    if !source.has("tables") {
        source.missing("tables", "such as `tables: [public.orders, public.customer_*]`");
        return None;
    }
    let texts = source.list("tables")?;
    let mut patterns = Vec::new();
    let mut good = true;
    for text in &texts {
        match TablePattern::parse(&text.value) {
            Ok(pattern) => patterns.push(pattern),
            Err(why) => {
                good = false;
                source.report(&text.place, format!("`source.tables`: `{}`: {why}", text.shown));
            }
        }
    }
    if !good {
        return None;
    }
    let filter = TableFilter::new(patterns);
    if filter.is_none() {
        let place = texts.first().map_or_else(|| source.place().clone(), |text| text.place.clone());
        source.report(
            &place,
            "`source.tables` captures nothing: expected at least one pattern without `!`, such as public.*",
        );
    }
    filter
}

fn not_empty(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("expected a value that is not empty".to_owned()) } else { Ok(text.to_owned()) }
}

fn parse_host(text: &str) -> Result<String, String> {
    const FORM: &str = "expected a host's name or address alone";
    if let Some((host, port)) = text.split_once(':')
        && port.parse::<u16>().is_ok()
        && !host.is_empty()
    {
        return Err(format!("{FORM}; write the port as `port: {port}`"));
    }
    if text.is_empty()
        || text.contains("//")
        || text.contains(|c: char| c.is_whitespace() || matches!(c, '/' | '@' | ','))
    {
        return Err(FORM.to_owned());
    }
    Ok(text.to_owned())
}

fn parse_port(text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|port| *port > 0).ok_or_else(|| "expected a number from 1 to 65535".to_owned())
}

fn parse_slot(text: &str) -> Result<String, String> {
    let legal = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    if text.is_empty() || text.len() > MAX_IDENTIFIER || !text.chars().all(legal) {
        return Err(format!("expected letters a-z, digits and _, at most {MAX_IDENTIFIER}"));
    }
    Ok(text.to_owned())
}

fn parse_publication(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > MAX_IDENTIFIER || text.contains(char::is_control) {
        return Err(format!("expected a name of at most {MAX_IDENTIFIER} bytes"));
    }
    Ok(text.to_owned())
}

fn parse_server_id(text: &str) -> Result<u32, String> {
    text.parse().ok().filter(|id| *id > 0).ok_or_else(|| format!("expected a number from 1 to {}", u32::MAX))
}

/// The slot's name for a look aside; still at most 63 letters.
fn aside_slot(slot: &str) -> String {
    const SUFFIX: &str = "_aside";
    let kept: String = slot.chars().take(MAX_IDENTIFIER - SUFFIX.len()).collect();
    format!("{kept}{SUFFIX}")
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

    #[test]
    fn the_slot_of_a_look_aside_is_another_one_and_fits() {
        assert_eq!(aside_slot("rowcast_shop"), "rowcast_shop_aside");
        assert_eq!(aside_slot(&"x".repeat(63)).len(), 63);
    }

    #[test]
    fn a_host_is_a_name_or_an_address_alone() {
        for host in ["db.internal", "127.0.0.1", "::1", "fe80::1", "my_host"] {
            assert_eq!(parse_host(host).as_deref(), Ok(host));
        }
        assert!(parse_host("db:5432").is_err_and(|why| why.contains("`port: 5432`")));
        for host in ["", "a b", "postgres://db", "/var/run", "user@db", "a,b"] {
            assert!(parse_host(host).is_err(), "{host}");
        }
    }
}
