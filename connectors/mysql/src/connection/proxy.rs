//! Proxies in the way. What we need is one server: its catalog, its binlog and its position on several connections, of which one
//! becomes a replica's.
//!
//! - ProxySQL spreads statements over servers and passes no binlog on, unless it is told to pass everything: always refused. It is known
//!   by its version, or by its own answer to one question.
//! - MaxScale has modes that pass everything on, and one that serves binlogs: it is named when the stream is refused.

use rowcast_core::SourceError;

use super::{Connection, Failure};
use crate::error::Where;

/// ProxySQL answers this itself, in exactly this form.
const QUESTION: &str = "select @@version_comment limit 1";
const REPAIR: &str = "set `source.host` and `source.port` to the database server itself";

fn proxysql(place: &Where) -> SourceError {
    place.definite("ProxySQL answers there, and passes no binlog on").repair(REPAIR)
}

/// The refusal of a proxy that its greeting names.
pub(super) fn by_version(place: &Where, version: &str) -> Option<SourceError> {
    version.to_ascii_lowercase().contains("proxysql").then(|| proxysql(place))
}

/// An error of what makes us a replica; it names the proxy that may be why.
pub(crate) fn blamed(version: &str, error: SourceError) -> SourceError {
    if !version.to_ascii_lowercase().contains("maxscale") {
        return error;
    }
    error.context(format_args!("MaxScale answers there ({version}); unless its service passes binlogs on, {REPAIR}"))
}

impl Connection {
    /// Refuses a proxy that says it is one.
    pub(crate) async fn refuse_proxies(&mut self) -> Result<(), SourceError> {
        let rows = match self.ask("asking who answers", QUESTION).await {
            Ok(rows) => rows,
            Err(Failure::Source(error)) => return Err(error),
            // some server that has no such variable: no proxy that we know
            Err(Failure::Server(_)) => return Ok(()),
        };
        let comment = rows.into_iter().next().and_then(|row| row.into_iter().next().flatten());
        if comment.is_some_and(|comment| comment.to_ascii_lowercase().contains("proxysql")) {
            return Err(proxysql(&self.place));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Flavor;

    #[test]
    fn proxies_are_known_by_their_versions() {
        let place = Where { flavor: Flavor::Mysql, host: "h".into(), port: 6033, user: "u".into(), server_id: 5 };
        let error = by_version(&place, "8.0.30-ProxySQL").unwrap();
        assert!(!error.is_transient() && error.to_string().contains("the database server itself"), "{error}");
        assert!(by_version(&place, "8.0.30").is_none());
        let lost = || place.transient("starting the binlog stream: the server closed the connection");
        let error = blamed("5.5.5-10.11.4 22.08.2-maxscale", lost());
        assert!(error.is_transient() && error.to_string().contains("MaxScale answers there"), "{error}");
        assert_eq!(blamed("5.5.5-10.11.4-MariaDB", lost()).to_string(), lost().to_string());
    }
}
