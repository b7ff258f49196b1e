//! Which of several hosts is the one: see [`rowcast_net::Servers`]. A server that is `read_only` is a standby; `super_read_only` and
//! the members of a group that don't write are `read_only` too. A single host, whatever it is, costs no question.

use rowcast_core::SourceError;
use rowcast_net::SessionAttributes;

use crate::Options;
use crate::catalog;
use crate::connection::{Connection, Rows};

/// The question that tells a standby: any word but these two is one (MariaDB has several).
pub(crate) const READ_ONLY: &str = "SELECT @@global.read_only";
const DOING: &str = "asking a server whether it is read-only";

/// The answer.
pub(crate) fn is_read_only(rows: &Rows) -> bool {
    let value = rows.first().and_then(|row| row.first()).and_then(Option::as_deref);
    !matches!(value, Some("0" | "OFF"))
}

/// Connects to the first server that is as wanted; from now on it is the chosen one.
///
/// # Errors
/// Transient if none answers and is as wanted, with the reason of each; the refusal of the first that refuses the login.
pub(crate) async fn choose(options: &Options) -> Result<Connection, SourceError> {
    let servers = &options.servers;
    if servers.is_fixed() {
        return catalog::open(options).await;
    }
    let mut search = servers.search();
    while let Some((servers, want)) = search.candidate() {
        match look(&Options { servers, ..options.clone() }, want).await {
            Ok((connection, None)) => {
                search.accept();
                if options.servers.count() > 1 {
                    let server = options.servers.host();
                    tracing::info!(source = options.name, %server, "connected to this one of several servers");
                }
                return Ok(connection);
            }
            Ok((connection, Some(lacks))) => {
                connection.quit().await;
                search.refuse(lacks);
            }
            Err(error) if error.is_transient() => search.refuse(error),
            Err(error) => return Err(error),
        }
    }
    let repair = "check `source.host`, and `source.target_session_attrs`";
    Err(options.place().transient(search.reasons()).repair(repair))
}

async fn look(options: &Options, want: SessionAttributes) -> Result<(Connection, Option<&'static str>), SourceError> {
    let mut connection = catalog::open(options).await?;
    let read_only = is_read_only(&connection.query(DOING, READ_ONLY).await?);
    Ok((connection, want.lacks(read_only, read_only)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standby_is_whatever_is_not_plainly_writable() {
        for (value, expected) in [("0", false), ("OFF", false), ("1", true), ("ON", true), ("NO_LOCK", true)] {
            assert_eq!(is_read_only(&vec![vec![Some(value.to_owned())]]), expected, "{value}");
        }
    }
}
