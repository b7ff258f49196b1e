//! What the server says, as a [`SourceError`] with a class and a repair.
//!
//! The class is decided by SQLSTATE, never by message text; a state that isn't listed is definite: an unknown
//! error stops the source rather than loops. <https://www.postgresql.org/docs/current/errcodes-appendix.html>

use std::fmt;
use std::sync::Arc;

use rowcast_core::SourceError;
use rowcast_net::NetError;

use crate::replication::tls::NotPostgres;

/// Who is meant, for every message: never with the password.
#[derive(Debug, Clone)]
pub(crate) struct Target(Arc<str>);

impl Target {
    /// `servers` is one `host:port`, or several.
    pub(crate) fn new(servers: impl fmt::Display, database: &str, user: &str) -> Self {
        Self(Arc::from(format!("postgres {servers}/{database} as {user}")))
    }

    /// A lost connection and the like.
    pub(crate) fn transient(&self, what: impl fmt::Display) -> SourceError {
        SourceError::transient(format!("{self}: {what}"))
    }

    /// What only an operator can repair.
    pub(crate) fn definite(&self, what: impl fmt::Display) -> SourceError {
        SourceError::definite(format!("{self}: {what}"))
    }

    /// Changes are lost to the stream.
    pub(crate) fn gap(&self, what: impl fmt::Display) -> SourceError {
        SourceError::gap(format!("{self}: {what}"))
    }

    /// A connection that can't be made.
    pub(crate) fn net(&self, error: &NetError) -> SourceError {
        let error_here = if error.is_transient() { self.transient(error) } else { self.definite(error) };
        error_here.repair(error.repair())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An error as the server sends it.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServerError {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) detail: Option<String>,
    pub(crate) hint: Option<String>,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        if let Some(detail) = &self.detail {
            write!(f, " ({detail})")?;
        }
        write!(f, " [SQLSTATE {}]", self.code)
    }
}

/// Whether a restart may help.
fn is_transient(code: &str) -> bool {
    match code {
        // configuration_limit_exceeded: all slots are in use
        "53400" => false,
        // admin_shutdown, crash_shutdown, cannot_connect_now, idle_session_timeout; query_canceled; lock_not_available
        "57P01" | "57P02" | "57P03" | "57P05" | "57014" | "55P03" => true,
        // in use by a walsender that may go away
        "55006" => true,
        // connections, resources, serialization
        code => ["08", "53", "40"].iter().any(|class| code.starts_with(class)),
    }
}

fn repair(code: &str) -> Option<&'static str> {
    Some(match code {
        "28P01" => "check `source.user` and `source.password`",
        "28000" => {
            "allow this user from this host in pg_hba.conf (a line for the database; `replication` is not needed for \
             logical replication), then `SELECT pg_reload_conf()`"
        }
        "3D000" => "check `source.database`",
        "53300" => "raise `max_connections` or `max_wal_senders`, or close other connections",
        "53400" => {
            "raise `max_replication_slots` and restart the server, or drop a slot that nobody needs: \
                    SELECT slot_name, active FROM pg_replication_slots"
        }
        _ => return None,
    })
}

impl ServerError {
    /// Whether a connection pooler says this: PgBouncer passes no replication on, and no `options` of a session.
    fn is_of_pooler(&self) -> bool {
        self.message.starts_with("unsupported startup parameter")
            || self.message.to_ascii_lowercase().contains("pgbouncer")
    }

    /// As an error of the source; `doing` says what failed.
    pub(crate) fn explain(&self, target: &Target, doing: &str) -> SourceError {
        if self.is_of_pooler() {
            return pooler(target, &format!("{doing}: {self}"));
        }
        let what = format!("{target}: {doing}: {self}");
        let error = if is_transient(&self.code) { SourceError::transient(what) } else { SourceError::definite(what) };
        match repair(&self.code).map(str::to_owned).or_else(|| self.hint.clone()) {
            Some(how) => error.repair(how),
            None => error,
        }
    }

    /// `insufficient_privilege`
    pub(crate) fn is_privilege(&self) -> bool {
        self.code == "42501"
    }

    /// The server's own defect, or damaged data (class XX).
    pub(crate) fn is_internal(&self) -> bool {
        self.code.starts_with("XX")
    }

    /// From the fields of an ErrorResponse: type byte and zero-terminated text, each; a zero byte ends them.
    pub(crate) fn parse(body: &[u8]) -> Self {
        let mut error = Self::default();
        for field in body.split(|byte| *byte == 0) {
            let Some((kind, text)) = field.split_first() else { continue };
            let text = String::from_utf8_lossy(text).into_owned();
            match kind {
                b'C' => error.code = text,
                b'M' => error.message = text,
                b'D' => error.detail = Some(text),
                b'H' => error.hint = Some(text),
                _ => {}
            }
        }
        error
    }
}

/// Somebody answers who isn't the server.
pub(crate) fn pooler(target: &Target, what: &str) -> SourceError {
    target
        .definite(format!("{what}: a connection pooler such as PgBouncer answers there, and passes no replication on"))
        .repair("set `source.host` and `source.port` to the PostgreSQL server itself")
}

/// An error of tokio-postgres.
pub(crate) fn sql(target: &Target, doing: &str, error: &tokio_postgres::Error) -> SourceError {
    if let Some(server) = server(error) {
        return server.explain(target, doing);
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    let mut text = error.to_string();
    while let Some(inner) = cause {
        if let Some(net) = inner.downcast_ref::<NetError>() {
            return target.net(net);
        }
        let io = inner.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(other) = io.and_then(|inner| inner.downcast_ref::<NotPostgres>()) {
            return target.definite(format!("{doing}: {other}")).repair("check `source.port`");
        }
        if !text.ends_with(&inner.to_string()) {
            text = format!("{text}: {inner}");
        }
        cause = inner.source();
    }
    target.transient(format!("{doing}: {text}"))
}

/// The server's own error in it, if there is one.
pub(crate) fn server(error: &tokio_postgres::Error) -> Option<ServerError> {
    let db = error.as_db_error()?;
    Some(ServerError {
        code: db.code().code().to_owned(),
        message: db.message().to_owned(),
        detail: db.detail().map(str::to_owned),
        hint: db.hint().map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rowcast_core::ErrorClass;

    #[test]
    fn an_error_response_is_read_field_by_field() {
        let error = ServerError::parse(b"SFATAL\0C28P01\0Mpassword authentication failed\0Dwhy\0\0");
        assert_eq!(error.to_string(), "password authentication failed (why) [SQLSTATE 28P01]");
        let explained = error.explain(&Target::new("h:5432", "d", "u"), "logging in");
        assert_eq!(explained.class(), ErrorClass::Definite);
        assert!(explained.to_string().contains("source.password"));
        assert!(explained.to_string().starts_with("postgres h:5432/d as u: logging in"));
        ServerError::parse(b"");
        ServerError::parse(&[b'M', 0xff, 0, 0]);
    }

    #[test]
    fn states_that_pass_by_themselves_are_transient_and_unknown_ones_are_not() {
        for code in ["57P01", "57P03", "53300", "08006", "55006", "40001"] {
            assert!(is_transient(code), "{code}");
        }
        for code in ["28P01", "3D000", "42704", "55000", "42501", "53400", "XX000", "58P01", "00000", ""] {
            assert!(!is_transient(code), "{code}");
        }
    }
}
