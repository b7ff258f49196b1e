//! Where the stream begins, and whether the server still has what follows.
//!
//! MySQL's GTID set says everything: the server must have executed all of ours (else it is another server, or one that
//! lost transactions), and must not have purged what we lack (else there is a gap). MariaDB checks the position itself
//! when the dump starts; only a domain that it has never seen, or not as far, is checked here. A file and an offset mean
//! something only on their own server, and while the file is there: see [`super::place`].
//!
//! A replica that is still receiving may yet get what it lacks: that is waited for.

use rowcast_core::{GtidSet, LogPosition, MariaGtidSet, Position, SourceError};

use super::checks::Variables;
use super::place;
use crate::Flavor;
use crate::connection::Connection;
use crate::error::{GAP_CHOICES, GAP_REPAIR, Where};
use crate::replica;

/// The position to begin at: the checkpoint's, or the server's current end.
pub(crate) async fn start(
    connection: &mut Connection,
    variables: &Variables,
    resume: Option<&Position>,
    notes: &mut Vec<String>,
) -> Result<LogPosition, SourceError> {
    let place = connection.place.clone();
    let resume = resume.map(|position| &position.log);
    if place.flavor == Flavor::MariaDb {
        // Not gtid_current_pos: that holds replicated transactions which this binlog may lack.
        let written: MariaGtidSet = variable(connection, "gtid_binlog_pos").await?;
        return match resume {
            None => Ok(LogPosition::MariaDb(written)),
            Some(LogPosition::MariaDb(ours)) => {
                let lacks = ours.minus(&written);
                if !lacks.is_empty() {
                    let receives = replica::may_receive(connection).await?;
                    return Err(maria_lacks(&place, &lacks, &written, receives));
                }
                Ok(LogPosition::MariaDb(ours.clone()))
            }
            Some(other) => Err(wrong_kind(&place, other)),
        };
    }
    let mode = variables.get("gtid_mode").map_or("ON", String::as_str);
    let by_gtid = mode.eq_ignore_ascii_case("ON");
    match resume {
        None if by_gtid => Ok(LogPosition::Gtid(variable(connection, "gtid_executed").await?)),
        None => {
            notes.push(place::note(mode));
            Ok(LogPosition::Binlog(place::end(connection, variables).await?))
        }
        Some(LogPosition::Gtid(_)) if !by_gtid => Err(place
            .definite(format_args!("gtid_mode is {mode}, and the checkpoint's position is of GTIDs, which a server gives only with ON"))
            .repair(
                "SET PERSIST enforce_gtid_consistency=ON; then SET PERSIST gtid_mode=OFF_PERMISSIVE, ON_PERMISSIVE, ON in this \
                 order; or remove the checkpoint to start at the server's current end, by files and offsets",
            )),
        Some(LogPosition::Gtid(ours)) => {
            check_gtids(connection, ours).await?;
            Ok(LogPosition::Gtid(ours.clone()))
        }
        Some(LogPosition::Binlog(ours)) => {
            let ours = place::check(connection, variables, ours).await?;
            if !by_gtid {
                notes.push(place::note(mode));
                return Ok(LogPosition::Binlog(ours));
            }
            match place::as_gtids(connection, &ours).await? {
                Some(gtids) => {
                    notes.push(format!(
                        "gtid_mode is ON now: {} is {} as GTIDs, and the stream goes on by these",
                        ours.place,
                        gtids.in_short()
                    ));
                    check_gtids(connection, &gtids).await?;
                    Ok(LogPosition::Gtid(gtids))
                }
                None => {
                    notes.push(
                        "gtid_mode is ON now, but the position is a file and an offset: a start after the stream has passed the \
                         beginning of the server's newest binary log goes on by GTIDs"
                            .to_owned(),
                    );
                    Ok(LogPosition::Binlog(ours))
                }
            }
        }
        Some(other) => Err(wrong_kind(&place, other)),
    }
}

/// Whether the server has all of ours, and still has all that follows.
async fn check_gtids(connection: &mut Connection, ours: &GtidSet) -> Result<(), SourceError> {
    const DOING: &str = "reading the server's position";
    let place = connection.place.clone();
    // What is in the binlog may have been streamed before it is executed: it is owned until then. In this order, since a
    // transaction goes from one to the other.
    let sql = "SELECT @@global.gtid_owned, @@global.gtid_executed, @@global.gtid_purged";
    let row = connection.query(DOING, sql).await?.into_iter().next().unwrap_or_default();
    let text = |index: usize| row.get(index).and_then(Option::as_deref).unwrap_or_default();
    let set = |name: &str, text: &str| -> Result<GtidSet, SourceError> {
        text.parse().map_err(|error| place.protocol(format_args!("{name}: {error}")))
    };
    let mut executed = set("gtid_executed", text(1))?;
    executed.add_all(&owned(text(0)));
    let purged = set("gtid_purged", text(2))?;
    let lacks = ours.minus(&executed);
    if !lacks.is_empty() {
        let receives = replica::may_receive(connection).await?;
        return Err(mysql_lacks(&place, &lacks, receives));
    }
    let gap = purged.minus(ours);
    if !gap.is_empty() {
        let what = format!("gap: the server purged transactions that were never streamed: {}", gap.in_short());
        return Err(place.lost(what).repair(GAP_REPAIR));
    }
    Ok(())
}

/// `uuid:7#12:8#13, uuid2:1#5`: what sessions are about to commit, each with its session. What can't be read is left out: it
/// makes the check stricter.
pub(crate) fn owned(text: &str) -> GtidSet {
    let mut plain = String::new();
    let mut in_session = false;
    for letter in text.chars() {
        match letter {
            '#' => in_session = true,
            ':' | ',' => in_session = false,
            _ => {}
        }
        if !in_session {
            plain.push(letter);
        }
    }
    plain.parse().unwrap_or_default()
}

const LACKS: &str = "it is another server, was restored from a backup, or took over without having received all";

fn mysql_lacks(place: &Where, lacks: &GtidSet, receives: Option<String>) -> SourceError {
    let lacks = lacks.in_short();
    let what = format!("the checkpoint is ahead of the server: it has never executed {lacks}");
    behind(place, &what, receives)
}

fn maria_lacks(place: &Where, lacks: &MariaGtidSet, written: &MariaGtidSet, receives: Option<String>) -> SourceError {
    let each = lacks.domains().map(|gtid| match written.last(gtid.domain) {
        Some(last) => format!("{gtid} is not in its binlog, whose last one there is {last}"),
        None => format!("{gtid} is not in its binlog, which has nothing of its domain"),
    });
    let what = format!("the checkpoint is ahead of the server: {}", each.collect::<Vec<_>>().join("; "));
    behind(place, &what, receives)
}

/// The server lacks what was published: a replica that runs may get it yet, else it is lost.
fn behind(place: &Where, what: &str, receives: Option<String>) -> SourceError {
    match receives {
        Some(why) => place.transient(format_args!("{what}; {why}: it is waited for")),
        None => place
            .lost(format_args!("gap: {what}; {LACKS}"))
            .repair(format!("connect to the server that has them; or {GAP_CHOICES}")),
    }
}

fn wrong_kind(place: &Where, position: &LogPosition) -> SourceError {
    place
        .definite(format_args!("the checkpoint's position is of kind {}, not of this server's", position.kind()))
        .repair("give the source another name, or remove its checkpoint")
}

pub(crate) async fn variable<T: std::str::FromStr>(connection: &mut Connection, name: &str) -> Result<T, SourceError>
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
    use rowcast_core::ErrorClass;

    const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn place() -> Where {
        Where { flavor: Flavor::Mysql, host: "h".into(), port: 1, user: "u".into(), server_id: 5 }
    }

    #[test]
    fn what_is_lacking_is_a_gap_unless_it_may_still_come() {
        let lacks = format!("{UUID}:4-5").parse().unwrap();
        let gap = mysql_lacks(&place(), &lacks, None);
        assert_eq!(gap.class(), ErrorClass::Gap);
        let said = gap.to_string();
        assert!(said.contains(&format!("ahead of the server: it has never executed {UUID}:4-5; ")), "{said}");
        assert!(said.contains("on_gap: backfill"), "{said}");
        let waits = mysql_lacks(&place(), &lacks, Some("it replicates from db1:3306".to_owned()));
        assert!(waits.is_transient() && waits.to_string().contains("replicates from db1:3306"), "{waits}");
        let set = |text: &str| text.parse::<MariaGtidSet>().unwrap();
        let gap = maria_lacks(&place(), &set("0-1-5,2-1-5"), &set("0-1-4"), None).to_string();
        let expected =
            "0-1-5 is not in its binlog, whose last one there is 0-1-4; 2-1-5 is not in its binlog, which has nothing";
        assert!(gap.contains(expected), "{gap}");
    }

    #[test]
    fn transactions_about_to_commit_are_read_without_their_sessions() {
        let set = |text: &str| text.parse::<GtidSet>().unwrap();
        assert_eq!(owned(&format!("{UUID}:7#12:9#13")), set(&format!("{UUID}:7:9")));
        assert_eq!(owned(&format!("{UUID}:7#12, 4e11fa47-71ca-11e1-9e33-c80aa9429562:1#5")).count(), 2);
        assert!(owned("").is_empty());
        assert!(owned("what is this").is_empty());
    }
}
