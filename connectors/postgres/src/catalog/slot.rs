//! The replication slot: what the server remembers of us. It is checked, never trusted for the position.
//!
//! | slot    | checkpoint | then |
//! |---------|------------|------|
//! | missing | none       | created; the stream begins at its consistent point |
//! | missing | there      | gap: the WAL behind the checkpoint is gone |
//! | there   | none       | begins where the slot stands, with a note |
//! | there   | behind it  | gap: the server forgot what lies between |
//! | there   | at or ahead of it | begins at the checkpoint |
//!
//! An invalidated slot is a gap in every case. A standby's copy of its primary's slot (17 and later) can't be streamed from before
//! the standby is promoted.
//!
//! A slot that others stream from is waited for (`slot_in_use: wait`) or refused; the message names the process.

use rowcast_core::{Lsn, SourceError};

use super::{Catalog, health};
use crate::InUse;
use crate::error::{ServerError, Target};
use crate::replication::connection::literal;

/// How to go on after a gap.
fn start_over(slot: &str) -> String {
    format!(
        "set `on_gap: backfill`, which copies all tables again; or accept the loss: SELECT pg_drop_replication_slot({}); and start the source without its \
         checkpoint (it then begins \"now\")",
        literal(slot)
    )
}

/// A slot of the server.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub(crate) confirmed: Lsn,
    /// Who streams from it.
    pub(crate) user: Option<User>,
    /// Why the server invalidated it.
    pub(crate) lost: Option<String>,
    /// It gives out prepared transactions at their PREPARE.
    pub(crate) two_phase: bool,
}

/// Who streams from a slot.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) pid: i32,
    /// `application_name`, where our role may see it.
    pub(crate) application: Option<String>,
}

/// Looks the slot up and checks that it is ours.
pub(crate) async fn find(catalog: &mut Catalog, name: &str) -> Result<Option<Slot>, SourceError> {
    let rows = catalog.query("looking at the replication slot", SLOT, &[&name]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let target = catalog.target();
    let text = |index: usize| -> String { row.get::<_, Option<String>>(index).unwrap_or_default() };
    let (kind, plugin, same_database) = (text(0), text(1), row.get::<_, bool>(2));
    if kind != "logical" || plugin != "pgoutput" {
        return Err(target
            .definite(format!("replication slot {name} is of another kind ({kind} {plugin}, not logical pgoutput)"))
            .repair(format!(
                "set `source.slot` to another name, or drop it: SELECT pg_drop_replication_slot({})",
                literal(name)
            )));
    }
    if !same_database {
        return Err(target
            .definite(format!("replication slot {name} belongs to database {}", text(3)))
            .repair("set `source.slot` to another name: a slot decodes one database only"));
    }
    let (status, invalidation) = (text(4), text(5));
    let lost = (status == "lost" || !invalidation.is_empty()).then(|| health::reason(&invalidation).to_owned());
    if row.get(9) {
        return Err(target
            .definite(format!(
                "replication slot {name} is the standby's copy of its primary's slot: nobody can stream from it before the standby is \
                 promoted"
            ))
            .repair("set `source.host` to the primary; or, to decode on the standby, `source.slot` to a name that the primary doesn't have"));
    }
    let confirmed = match text(6).parse() {
        Ok(confirmed) => confirmed,
        Err(_) if lost.is_some() => Lsn(0),
        Err(_) => {
            let what = format!("replication slot {name} has no confirmed position: it was not created to its end");
            return Err(target.definite(what));
        }
    };
    let application: Option<String> = row.get(8);
    let user = row.get::<_, Option<i32>>(7).map(|pid| User { pid, application });
    Ok(Some(Slot { confirmed, user, lost, two_phase: row.get(10) }))
}

/// The server has invalidated it.
pub(crate) fn invalidated(target: &Target, name: &str, reason: &str) -> SourceError {
    target
        .gap(format!(
            "gap: replication slot {name} was invalidated by the server: {reason}; the changes behind it are lost"
        ))
        .repair(start_over(name))
}

/// Removes a slot that is of no use any more.
pub(crate) async fn drop(catalog: &mut Catalog, name: &str) -> Result<(), SourceError> {
    const DROP: &str = "SELECT pg_drop_replication_slot($1)";
    catalog.query("removing the replication slot", DROP, &[&name]).await.map(|_| ())
}

/// A checkpoint, and the slot is gone.
pub(crate) fn missing(target: &Target, name: &str, checkpoint: Lsn) -> SourceError {
    target
        .gap(format!(
            "gap: replication slot {name} does not exist, but the checkpoint says that the stream was at {checkpoint}; \
             all changes since then that were not published are lost to the stream"
        ))
        .repair(start_over(name))
}

/// The slot has moved beyond the checkpoint.
pub(crate) fn ahead(target: &Target, name: &str, checkpoint: Lsn, confirmed: Lsn) -> SourceError {
    target
        .gap(format!(
            "gap: replication slot {name} is at {confirmed}, {} bytes of WAL ahead of the checkpoint at {checkpoint}: somebody \
             else confirmed what lies between, or the slot was dropped and created anew; the changes in between are lost to \
             the stream",
            confirmed.0.saturating_sub(checkpoint.0)
        ))
        .repair(start_over(name))
}

/// `replication slot shop is in use by the server process 42`
pub(crate) fn used_by(name: &str, user: Option<&User>) -> String {
    let by = match user {
        None => "another connection".to_owned(),
        Some(User { pid, application: Some(application) }) if !application.is_empty() => {
            format!("the server process {pid} (of `{application}`)")
        }
        Some(User { pid, .. }) => format!("the server process {pid}"),
    };
    format!("replication slot {name} is in use by {by}")
}

/// Somebody streams from it, and did so for as long as we waited.
pub(crate) fn in_use(target: &Target, name: &str, user: Option<&User>, then: InUse) -> SourceError {
    let pid = user.map_or_else(|| "<pid>".to_owned(), |user| user.pid.to_string());
    let what = used_by(name, user);
    let end = format!("a process left behind ends by SELECT pg_terminate_backend({pid})");
    match then {
        InUse::Fail => target.definite(what).repair(format!(
            "stop the other daemon, or set `source.slot` to another name, or `source.slot_in_use: wait`; {end}"
        )),
        InUse::Wait => target.transient(what).repair(format!("none is needed if it is to end by itself; {end}")),
    }
}

/// Ends the server process that streams from the slot for another process of this source, which hangs or whose machine is
/// gone: without this it would hold the slot until `wal_sender_timeout`. A role may end its own sessions; if this one was
/// another role's, or not ours at all, nothing happens.
pub(crate) async fn end_older(catalog: &mut Catalog, name: &str, application: &str) -> Result<(), SourceError> {
    let ended = catalog.query("taking over the replication slot", END_OLDER, &[&name, &application]).await?;
    if !ended.is_empty() {
        tracing::warn!(slot = name, "ended the session of an older process that still held the replication slot");
    }
    Ok(())
}

/// What the server says when the stream starts or while it runs, with what it means for slot and publication.
pub(crate) fn explain(error: &ServerError, target: &Target, doing: &str, slot: &str, publication: &str) -> SourceError {
    let explained = error.explain(target, doing);
    match error.code.as_str() {
        "42704" if error.message.contains("publication") => explained.repair(format!(
            "create publication {publication} before the slot: decoding looks it up as of each change, so the slot must \
             be created anew (SELECT pg_drop_replication_slot({}))",
            literal(slot)
        )),
        // the slot is gone, was invalidated, or its WAL is
        "42704" | "58P01" => target.gap(format!("gap: {doing}: {error}")).repair(start_over(slot)),
        "55000" if error.message.contains("slot") => target.gap(format!("gap: {doing}: {error}")).repair(start_over(slot)),
        _ => explained,
    }
}

/// Columns that not every version has are read through `to_jsonb`: `invalidation_reason` (17), `conflicting` (16), `synced` (17),
/// `two_phase` (14).
const SLOT: &str = "\
    SELECT s.slot_type, s.plugin::text, s.database IS NOT DISTINCT FROM current_database(), s.database::text, \
        s.wal_status, coalesce(to_jsonb(s) ->> 'invalidation_reason', \
            CASE WHEN to_jsonb(s) ->> 'conflicting' = 'true' THEN 'rows_removed' END), \
        s.confirmed_flush_lsn::text, s.active_pid, a.application_name, \
        pg_is_in_recovery() AND coalesce((to_jsonb(s) ->> 'synced')::bool, false), \
        coalesce(to_jsonb(s) ->> 'two_phase', '') = 'true' \
    FROM pg_replication_slots s LEFT JOIN pg_stat_activity a ON a.pid = s.active_pid WHERE s.slot_name = $1";

const END_OLDER: &str = "\
    SELECT pg_terminate_backend(s.active_pid) FROM pg_replication_slots s JOIN pg_stat_activity a ON a.pid = s.active_pid \
    WHERE s.slot_name = $1 AND a.application_name = $2 AND a.usename = current_user";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_says_how_much_is_missing_and_how_to_go_on() {
        let target = Target::new("h:1", "d", "u");
        let text = ahead(&target, "shop", Lsn(0x100), Lsn(0x180)).to_string();
        assert!(text.contains("128 bytes") && text.contains("pg_drop_replication_slot('shop')"), "{text}");
        assert!(missing(&target, "shop", Lsn(0x100)).to_string().contains("0/100"));
        let user = User { pid: 42, application: Some("other".to_owned()) };
        let fails = in_use(&target, "shop", Some(&user), InUse::Fail);
        assert!(fails.to_string().contains("process 42 (of `other`)") && !fails.is_transient(), "{fails}");
        assert!(in_use(&target, "shop", None, InUse::Wait).is_transient());
    }
}
