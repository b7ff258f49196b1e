//! Being a replica among others: an id and a UUID of our own, and what the server itself replicates.
//!
//! A server keeps one dump per replica: the newest of two with the same UUID (MySQL) or id (MariaDB). So an id that another replica has
//! is refused before it is thrown out, or, where nobody has asked for this very id, the next one is taken.

use rowcast_core::SourceError;

use crate::catalog::checks::{self, Variables};
use crate::connection::{Connection, Failure, Rows};
use crate::error::{Where, quoted};
use crate::{Flavor, Options};

/// Letters of a host that the server takes.
const MOST_HOST: usize = 60;
/// Ids that are tried.
const TRIES: u32 = 16;

/// The name by which SHOW REPLICAS has us as the host.
pub(crate) fn host(name: &str) -> String {
    format!("rowcast-{name}").chars().take(MOST_HOST).collect()
}

/// An id that no other replica has: the given one, unless it was made up.
///
/// # Errors
/// If another replica or the server has the given one.
pub(crate) async fn free_id(
    connection: &mut Connection,
    options: &Options,
    variables: &Variables,
) -> Result<u32, SourceError> {
    let servers_own = variables.get("server_id").and_then(|id| id.parse().ok()).unwrap_or(0);
    let taken = others(&replicas(connection).await?, &host(&options.name));
    let used = |id: u32| id == 0 || id == servers_own || taken.iter().any(|(taken, _)| *taken == id);
    let wanted = options.server_id;
    if !used(wanted) {
        return Ok(wanted);
    }
    let by = match taken.iter().find(|(taken, _)| *taken == wanted) {
        Some((_, host)) if !host.is_empty() => format!("the replica `{host}`'s"),
        Some(_) => "another replica's".to_owned(),
        None => "the server's own or 0; a replica needs one of its own".to_owned(),
    };
    let ids = (1..TRIES).map(|round| next_id(wanted, round));
    match ids.into_iter().find(|id| options.server_id_derived && !used(*id)) {
        Some(id) => {
            tracing::info!(source = options.name, "server_id {wanted} is {by}: taking {id}");
            Ok(id)
        }
        None => Err(connection
            .place
            .definite(format_args!("server_id {wanted} is {by}"))
            .repair("set another `source.server_id`")),
    }
}

/// Always the same for the same id and round, and high, as made-up ids are.
fn next_id(id: u32, round: u32) -> u32 {
    (id ^ round).wrapping_mul(0x0100_0193) | 0x8000_0000
}

/// Ids and hosts of the other replicas. One of ours from before, which the server hasn't missed yet, is no other.
fn others(rows: &Rows, ours: &str) -> Vec<(u32, String)> {
    let other = |row: &Vec<Option<String>>| {
        let id = row.first()?.as_deref()?.parse().ok()?;
        let host = row.get(1).and_then(Option::as_deref).unwrap_or_default();
        (host != ours).then(|| (id, host.to_owned()))
    };
    rows.iter().filter_map(other).collect()
}

/// The replicas that are registered; none if we may not know (MariaDB asks for REPLICATION MASTER ADMIN).
async fn replicas(connection: &mut Connection) -> Result<Rows, SourceError> {
    let new = connection.place.flavor == Flavor::Mysql && checks::version(&connection.version) >= (8, 0, 22);
    let statement = if new { "SHOW REPLICAS" } else { "SHOW SLAVE HOSTS" };
    Ok(allowed(connection, "looking for other replicas", statement).await?.unwrap_or_default())
}

/// The rows of a statement; none if a privilege is missing.
async fn allowed(connection: &mut Connection, doing: &str, statement: &str) -> Result<Option<Rows>, SourceError> {
    match connection.ask(doing, statement).await {
        Ok(rows) => Ok(Some(rows)),
        Err(Failure::Source(error)) => Err(error),
        Err(Failure::Server(error)) => {
            tracing::debug!("{doing}: {error}");
            Ok(None)
        }
    }
}

/// What a server replicates itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Upstream {
    /// The server that it replicates from.
    pub(crate) host: String,
    /// It receives and applies changes.
    pub(crate) runs: bool,
}

/// Whether the server is a replica itself; none if it is none, or if we may not know (MariaDB asks for REPLICA MONITOR).
pub(crate) async fn upstream(connection: &mut Connection) -> Result<Option<Upstream>, SourceError> {
    let new = connection.place.flavor == Flavor::Mysql && checks::version(&connection.version) >= (8, 0, 22);
    let statement = if new { "SHOW REPLICA STATUS" } else { "SHOW SLAVE STATUS" };
    let rows = allowed(connection, "asking whether the server is a replica", statement).await?;
    Ok(rows.and_then(|rows| of_status(&rows)))
}

/// Where a server may still get from what it lacks; none if it gets nothing any more. A read-only one that doesn't tell us is taken
/// for a replica: to take it for a server that has lost something would have its tables copied.
pub(crate) async fn may_receive(connection: &mut Connection) -> Result<Option<String>, SourceError> {
    if let Some(upstream) = upstream(connection).await? {
        return Ok(upstream.runs.then(|| format!("it replicates from {} and may lag", upstream.host)));
    }
    let maria = connection.place.flavor == Flavor::MariaDb;
    let rows = connection.query("asking a server whether it is read-only", crate::servers::READ_ONLY).await?;
    if !maria || !crate::servers::is_read_only(&rows) {
        return Ok(None);
    }
    let told = allowed(connection, "asking whether the server is a replica", "SHOW SLAVE STATUS").await?.is_some();
    let user = quoted(&connection.place.user);
    Ok((!told).then(|| {
        format!(
            "it is read-only, and may be a replica that lags (GRANT SLAVE MONITOR ON *.* TO {user}@'...' to be told)"
        )
    }))
}

/// State, host, user, port, ..., and at these places in all versions whether its two threads run.
fn of_status(rows: &Rows) -> Option<Upstream> {
    const RECEIVES: usize = 10;
    let text = |row: &[Option<String>], index: usize| row.get(index).cloned().flatten().unwrap_or_default();
    let row = rows.first()?;
    let runs = |index| matches!(text(row, index).as_str(), "Yes" | "Connecting");
    Some(Upstream { host: format!("{}:{}", text(row, 1), text(row, 3)), runs: runs(RECEIVES) && runs(RECEIVES + 1) })
}

/// A replica that doesn't log what it replicates has nothing of it for us: refused if it is known to be one, else noted.
pub(crate) async fn check_logging(
    connection: &mut Connection,
    variables: &Variables,
    notes: &mut Vec<String>,
) -> Result<(), SourceError> {
    let off = |name: &str| variables.get(name).is_some_and(|value| value.eq_ignore_ascii_case("OFF"));
    if !off("log_replica_updates") && !off("log_slave_updates") {
        return Ok(());
    }
    let option = match connection.place.flavor {
        Flavor::Mysql => "log_replica_updates",
        Flavor::MariaDb => "log_slave_updates",
    };
    let place = connection.place.clone();
    // a member of a Galera cluster has the others' changes as a replica has
    if variables.get("wsrep_on").is_some_and(|value| value.eq_ignore_ascii_case("ON")) {
        return Err(not_logged(&place, option, "the other members of its cluster (wsrep_on=ON)"));
    }
    if let Some(upstream) = upstream(connection).await? {
        return Err(not_logged(&place, option, &upstream.host));
    }
    // a server that is written to needs no word about it
    let read_only = connection.query("asking a server whether it is read-only", crate::servers::READ_ONLY).await?;
    if crate::servers::is_read_only(&read_only) {
        notes.push(format!(
            "{option}=OFF and read_only=ON: if this server is a replica, what it replicates is not in its binary log and is never \
             streamed; start it with --{option}=ON"
        ));
    }
    Ok(())
}

fn not_logged(place: &Where, option: &str, host: &str) -> SourceError {
    place
        .definite(format_args!(
            "the server is a replica of {host} and doesn't write what it replicates to its own binary log ({option}=OFF): none of it \
             would be streamed"
        ))
        .repair(format!("start it with --{option}=ON, or connect to the server that the changes are made on"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;

    fn row(cells: &[&str]) -> Vec<Option<String>> {
        cells.iter().map(|cell| Some((*cell).to_owned())).collect()
    }

    #[test]
    fn a_replica_of_our_name_is_no_other() {
        let rows =
            vec![row(&["7", "rowcast-shop", "0", "1", "x"]), row(&["8", "", "3306", "1", "y"]), row(&["x", "z"])];
        assert_eq!(others(&rows, &host("shop")), [(8, String::new())]);
        assert!(host(&"n".repeat(200)).len() <= 60);
    }

    #[test]
    fn made_up_ids_are_high_stable_and_differ() {
        let mut ids: Vec<u32> = (1..TRIES).map(|round| next_id(0x8123_4567, round)).collect();
        assert!(ids.iter().all(|id| *id >= 0x8000_0000));
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len() as u32, TRIES - 1);
    }

    #[test]
    fn a_status_tells_the_source_and_whether_it_runs() {
        let mut cells = vec!["Waiting", "db1", "repl", "3306", "60", "f", "4", "r", "4", "f", "Yes", "Yes"];
        let runs = |cells: &[&str]| of_status(&vec![row(cells)]);
        assert_eq!(runs(&cells), Some(Upstream { host: "db1:3306".to_owned(), runs: true }));
        cells[10] = "Connecting";
        assert!(runs(&cells).is_some_and(|it| it.runs));
        cells[11] = "No";
        assert!(runs(&cells).is_some_and(|it| !it.runs));
        assert_eq!(of_status(&Rows::new()), None);
    }
}
