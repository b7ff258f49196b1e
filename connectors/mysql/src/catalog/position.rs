//! Where the stream begins, and whether the server still has what follows.
//!
//! MySQL's GTID set says everything: the server must have executed all of ours (else it is another server, or one that
//! lost transactions), and must not have purged what we lack (else there is a gap). MariaDB checks the position itself
//! when the dump starts; only a domain that it has never seen is checked here.

use rowcast_core::{GtidSet, LogPosition, MariaGtidSet, Position, SourceError};

use crate::Flavor;
use crate::connection::Connection;
use crate::error::{GAP_REPAIR, Where};

/// The position to begin at: the checkpoint's, or the server's current end.
pub(crate) async fn start(connection: &mut Connection, resume: Option<&Position>) -> Result<LogPosition, SourceError> {
    let place = connection.place.clone();
    match place.flavor {
        Flavor::Mysql => {
            let executed: GtidSet = variable(connection, "gtid_executed").await?;
            match resume.map(|position| &position.log) {
                None => Ok(LogPosition::Gtid(executed)),
                Some(LogPosition::Gtid(ours)) => {
                    let purged: GtidSet = variable(connection, "gtid_purged").await?;
                    mysql(&place, ours, &executed, &purged)?;
                    Ok(LogPosition::Gtid(ours.clone()))
                }
                Some(other) => Err(wrong_kind(&place, other)),
            }
        }
        Flavor::MariaDb => {
            // Not gtid_current_pos: that holds replicated transactions which this binlog may lack.
            let written: MariaGtidSet = variable(connection, "gtid_binlog_pos").await?;
            match resume.map(|position| &position.log) {
                None => Ok(LogPosition::MariaDb(written)),
                Some(LogPosition::MariaDb(ours)) => {
                    maria(&place, ours, &written)?;
                    Ok(LogPosition::MariaDb(ours.clone()))
                }
                Some(other) => Err(wrong_kind(&place, other)),
            }
        }
    }
}

fn mysql(place: &Where, ours: &GtidSet, executed: &GtidSet, purged: &GtidSet) -> Result<(), SourceError> {
    let ahead = ours.minus(executed);
    if !ahead.is_empty() {
        return Err(place
            .definite(format_args!(
                "the checkpoint is ahead of the server: it has never executed {ahead}; it is another server, was \
                 restored from a backup, or lags behind its source"
            ))
            .repair("connect to the server that the checkpoint came from, or remove the checkpoint"));
    }
    let gap = purged.minus(ours);
    if !gap.is_empty() {
        return Err(place
            .definite(format_args!("GAP: the server purged transactions that were never streamed: {gap}"))
            .repair(GAP_REPAIR));
    }
    Ok(())
}

fn maria(place: &Where, ours: &MariaGtidSet, written: &MariaGtidSet) -> Result<(), SourceError> {
    for gtid in ours.domains() {
        let theirs = written.domains().find(|theirs| theirs.domain == gtid.domain);
        if theirs.is_none_or(|theirs| theirs.sequence < gtid.sequence) {
            let has = theirs.map_or("nothing of its domain".to_owned(), |theirs| theirs.to_string());
            return Err(place
                .definite(format_args!(
                    "the checkpoint is ahead of the server: {gtid} is not in its binlog, which has {has}; it is \
                     another server, was restored from a backup, or its binlog was reset"
                ))
                .repair("connect to the server that the checkpoint came from, or remove the checkpoint"));
        }
    }
    Ok(())
}

fn wrong_kind(place: &Where, position: &LogPosition) -> SourceError {
    place
        .definite(format_args!("the checkpoint's position is of kind {}, not of this server's", position.kind()))
        .repair("give the source another name, or remove its checkpoint")
}

async fn variable<T: std::str::FromStr>(connection: &mut Connection, name: &str) -> Result<T, SourceError>
where
    T::Err: std::fmt::Display,
{
    let rows = connection.query("reading the server's position", &format!("SELECT @@global.{name}")).await?;
    let text = rows.into_iter().next().and_then(|row| row.into_iter().next().flatten()).unwrap_or_default();
    text.parse().map_err(|error| connection.place.protocol(format_args!("{name}: {error}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn place() -> Where {
        Where { flavor: Flavor::Mysql, host: "h".into(), port: 1, user: "u".into(), server_id: 5 }
    }

    #[test]
    fn purged_transactions_are_a_gap_that_lists_them() {
        let set = |text: &str| format!("{UUID}:{text}").parse::<GtidSet>().unwrap();
        assert!(mysql(&place(), &set("1-5"), &set("1-9"), &set("1-5")).is_ok());
        let gap = mysql(&place(), &set("1-5"), &set("1-9"), &set("1-7")).unwrap_err();
        assert!(
            gap.to_string()
                .contains(&format!("GAP: the server purged transactions that were never streamed: {UUID}:6-7")),
            "{gap}"
        );
        let ahead = mysql(&place(), &set("1-5"), &set("1-3"), &set("1")).unwrap_err();
        assert!(ahead.to_string().contains(&format!("{UUID}:4-5")), "{ahead}");
    }

    #[test]
    fn a_mariadb_position_must_be_in_the_binlog() {
        let set = |text: &str| text.parse::<MariaGtidSet>().unwrap();
        assert!(maria(&place(), &set("0-1-5"), &set("0-2-9,1-1-1")).is_ok());
        assert!(maria(&place(), &set("0-1-5"), &set("0-1-4")).is_err());
        assert!(maria(&place(), &set("2-1-5"), &set("0-1-4")).is_err());
    }
}
