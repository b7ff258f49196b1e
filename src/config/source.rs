//! The `source:` section: which database, how to reach it, and which tables.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::mysql::{self, MysqlConfig};
use super::postgres::{self, PostgresConfig};
use super::reader::Section;
use super::units::{parse_duration, show_duration};
use rowcast_core::{Handover, TableFilter, TablePattern};
use rowcast_net::{SessionAttributes, TlsMode};

/// PostgreSQL cuts identifiers at 63 bytes (`NAMEDATALEN` - 1).
pub(super) const MAX_IDENTIFIER: usize = 63;

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

    /// Where somebody else stopped who published the same tables before.
    pub fn start_at(&self) -> Option<&Handover> {
        match self {
            Self::Postgres(postgres) => postgres.start_at.as_ref(),
            Self::Mysql(mysql) => mysql.start_at.as_ref(),
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

/// `start_at`: a position of this kind, and what is published behind it; `Some(None)` without it, and for a look aside, which begins now.
pub(super) fn read_start_at(source: &Section<'_>, kind: &str, aside: bool) -> Option<Option<Handover>> {
    if !source.has("start_at") {
        return Some(None);
    }
    let read = source.value("start_at", |text| Handover::parse(kind, text).map_err(|error| error.to_string()));
    read.map(|handover| Some(handover).filter(|_| !aside))
}

/// How a server is reached.
#[derive(Clone, Debug)]
pub struct ConnectionConfig {
    /// Name or address; or of a Unix socket, PostgreSQL: the folder, MySQL: the path.
    pub host: String,
    /// From 1; means nothing to a socket of MySQL.
    pub port: u16,
    /// The hosts that are tried after the first one.
    pub more_hosts: Vec<(String, u16)>,
    /// The database's user.
    pub user: String,
    /// Its password; `None` if none was given.
    pub password: Option<SecretString>,
    /// The program that prints it, with its arguments, instead.
    pub password_command: Option<Vec<String>>,
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

const TLS_MODES: [(&str, TlsMode); 6] = [
    ("disable", TlsMode::Disable),
    ("allow", TlsMode::Allow),
    ("prefer", TlsMode::Prefer),
    ("require", TlsMode::Require),
    ("verify-ca", TlsMode::VerifyCa),
    ("verify-full", TlsMode::VerifyFull),
];

/// The word that the configuration has for it.
pub(crate) fn tls_word(mode: TlsMode) -> &'static str {
    TLS_MODES.iter().find(|(_, known)| *known == mode).map_or("", |(word, _)| word)
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
    let connection = read_connection(&source, matches!(kind, Some(SourceType::Postgres)));
    let tables = read_tables(&source);
    match kind? {
        SourceType::Postgres => postgres::read(&source, name, aside, connection, tables).map(SourceKind::Postgres),
        SourceType::Mysql(flavor) => {
            mysql::read(&source, name, aside, flavor, connection, tables).map(SourceKind::Mysql)
        }
    }
}

fn read_connection(source: &Section<'_>, is_postgres: bool) -> Option<ConnectionConfig> {
    let default_port = if is_postgres { 5432 } else { 3306 };
    let port = if source.has("port") { source.value("port", parse_port) } else { Some(default_port) };
    let hosts = match source.has("socket") && !is_postgres {
        true => mysql::read_socket(source).map(|socket| vec![(socket, None)]),
        false => source.required("host", "", |text| parse_hosts(text, is_postgres)),
    };
    let user = source.required("user", "", not_empty);
    let password = if source.has("password") { source.secret("password").map(Some) } else { Some(None) };
    let password_command = match source.has("password_command") {
        true => read_command(source).map(Some),
        false => Some(None),
    };
    let tls = read_tls(source, is_postgres);
    let connect_timeout = timeout(source, "connect_timeout", Duration::from_secs(10));
    let read_timeout = timeout(source, "read_timeout", Duration::from_secs(60));
    let port = port?;
    let mut hosts = hosts?.into_iter().map(|(host, own)| (host, own.unwrap_or(port)));
    let (host, port) = hosts.next()?;
    Some(ConnectionConfig {
        host,
        port,
        more_hosts: hosts.collect(),
        user: user?,
        password: password?,
        password_command: password_command?,
        tls: tls?,
        connect_timeout: connect_timeout?,
        read_timeout: read_timeout?,
    })
}

fn read_command(source: &Section<'_>) -> Option<Vec<String>> {
    let words: Vec<String> = source.list("password_command")?.into_iter().map(|text| text.value).collect();
    let place = source.key_place("password_command");
    if words.first().is_none_or(String::is_empty) {
        source.report(place, "`source.password_command` names no program; expected [program, argument, ...]");
        return None;
    }
    if source.has("password") {
        source.report(place, "`source.password_command` and `source.password` exclude each other; remove one");
        return None;
    }
    Some(words)
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

fn read_tls(source: &Section<'_>, is_postgres: bool) -> Option<TlsConfig> {
    if source.is_malformed("tls") {
        source.section("tls");
        return None;
    }
    let tls = source.section("tls");
    let mode = match (tls.has("mode"), is_postgres) {
        (false, _) => Some(TlsMode::Prefer),
        (true, true) => tls.choice("mode", &TLS_MODES),
        (true, false) => mysql::read_tls_mode(source, &tls),
    };
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

pub(super) fn not_empty(text: &str) -> Result<String, String> {
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

/// One host, or several with commas between them; with several each may have its own port. A host of PostgreSQL may be the folder of a
/// Unix socket.
fn parse_hosts(text: &str, folders: bool) -> Result<Vec<(String, Option<u16>)>, String> {
    let several = text.contains(',');
    text.split(',').map(str::trim).map(|part| parse_one_of(part, several, folders)).collect()
}

fn parse_one_of(part: &str, several: bool, folders: bool) -> Result<(String, Option<u16>), String> {
    let (host, port) = match part.rsplit_once(':') {
        Some((host, port)) if several && (!host.contains(':') || host.ends_with(']')) => {
            (host, Some(parse_port(port)?))
        }
        _ => (part, None),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if folders && host.starts_with('/') && !host.contains(char::is_whitespace) {
        return Ok((host.to_owned(), port));
    }
    let what = match (several, folders) {
        (true, _) => ", or several of the form host:port with commas between them",
        (false, true) => ", or the folder of a Unix socket",
        (false, false) => "",
    };
    parse_host(host).map(|host| (host, port)).map_err(|why| match host.contains(':') {
        // what was meant is clear
        true => why,
        false => format!("{why}{what}"),
    })
}

fn parse_port(text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|port| *port > 0).ok_or_else(|| "expected a number from 1 to 65535".to_owned())
}

const ATTRIBUTES: [(&str, SessionAttributes); 6] = [
    ("any", SessionAttributes::Any),
    ("read-write", SessionAttributes::ReadWrite),
    ("read-only", SessionAttributes::ReadOnly),
    ("primary", SessionAttributes::Primary),
    ("standby", SessionAttributes::Standby),
    ("prefer-standby", SessionAttributes::PreferStandby),
];

/// `target_session_attrs`; of several hosts it is the primary unless something else is written: two servers of which any would do
/// have two logs. `None` after a report.
pub(super) fn read_attributes(
    source: &Section<'_>,
    connection: Option<&ConnectionConfig>,
) -> Option<SessionAttributes> {
    if source.has("target_session_attrs") {
        return source.choice("target_session_attrs", &ATTRIBUTES);
    }
    Some(match connection?.more_hosts.is_empty() {
        true => SessionAttributes::Any,
        false => SessionAttributes::Primary,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_of_postgres_may_be_a_folder_or_several() {
        let one = |host: &str, port| (host.to_owned(), port);
        for (text, hosts) in [
            ("db.internal", vec![one("db.internal", None)]),
            ("::1", vec![one("::1", None)]),
            ("/var/run/postgresql", vec![one("/var/run/postgresql", None)]),
            ("a:5433, b", vec![one("a", Some(5433)), one("b", None)]),
            ("[::1]:5433,10.0.0.1,/tmp", vec![one("::1", Some(5433)), one("10.0.0.1", None), one("/tmp", None)]),
        ] {
            assert_eq!(parse_hosts(text, true), Ok(hosts), "{text}");
        }
        assert!(parse_hosts("db:5432", true).is_err_and(|why| why.contains("`port: 5432`")));
        for wrong in ["", "a,", "a:0,b", "a:x,b", "a b,c", "postgres://db", "user@db", "/a b"] {
            assert!(parse_hosts(wrong, true).is_err(), "{wrong}");
        }
        assert_eq!(parse_hosts("a:3307,b", false), Ok(vec![one("a", Some(3307)), one("b", None)]));
        assert!(parse_hosts("a,/tmp", false).is_err());
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
