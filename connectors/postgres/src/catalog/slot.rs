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
//! An invalidated slot is a gap in every case.

use rowcast_core::{Lsn, SourceError};

use super::Catalog;
use crate::error::{ServerError, Target};
use crate::replication::connection::literal;

/// How to go on after a gap.
fn start_over(slot: &str) -> String {
    format!(
        "accept the loss: SELECT pg_drop_replication_slot({}); and start the source without its checkpoint (it then \
         begins \"now\"); bring the tables downstream up to date by other means",
        literal(slot)
    )
}

/// A slot of the server.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub(crate) confirmed: Lsn,
    pub(crate) active_pid: Option<i32>,
}

/// Looks the slot up and checks that it can be used.
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
    if status == "lost" || !invalidation.is_empty() {
        let reason = match invalidation.as_str() {
            "" | "wal_removed" => "its WAL exceeded max_slot_wal_keep_size and was removed",
            "rows_removed" => "rows of the catalog that it needs were removed",
            "wal_level_insufficient" => "wal_level was lowered",
            "idle_timeout" => "it was idle longer than idle_replication_slot_timeout",
            other => other,
        };
        return Err(target
            .definite(format!(
                "replication slot {name} was invalidated by the server: {reason}; the changes behind it are lost"
            ))
            .repair(start_over(name)));
    }
    let confirmed = text(6).parse().map_err(|_| {
        target.definite(format!("replication slot {name} has no confirmed position: it was not created to its end"))
    })?;
    Ok(Some(Slot { confirmed, active_pid: row.get(7) }))
}

/// A checkpoint, and the slot is gone.
pub(crate) fn missing(target: &Target, name: &str, checkpoint: Lsn) -> SourceError {
    target
        .definite(format!(
            "gap: replication slot {name} does not exist, but the checkpoint says that the stream was at {checkpoint}; \
             all changes since then that were not published are lost to the stream"
        ))
        .repair(start_over(name))
}

/// The slot has moved beyond the checkpoint.
pub(crate) fn ahead(target: &Target, name: &str, checkpoint: Lsn, confirmed: Lsn) -> SourceError {
    target
        .definite(format!(
            "gap: replication slot {name} is at {confirmed}, {} bytes of WAL ahead of the checkpoint at {checkpoint}; the \
             changes in between were confirmed by somebody else and are lost to the stream",
            confirmed.0.saturating_sub(checkpoint.0)
        ))
        .repair(start_over(name))
}

/// Somebody streams from it, and did so for as long as we waited.
pub(crate) fn in_use(target: &Target, name: &str, pid: Option<i32>) -> SourceError {
    let by = pid.map_or_else(|| "another connection".to_owned(), |pid| format!("the server process {pid}"));
    target.definite(format!("replication slot {name} is in use by {by}")).repair(format!(
        "stop the other daemon, or set `source.slot` to another name; a process left behind ends by SELECT \
         pg_terminate_backend({})",
        pid.map_or_else(|| "<pid>".to_owned(), |pid| pid.to_string())
    ))
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
        "42704" => explained.repair(start_over(slot)),
        "55000" => explained.repair(start_over(slot)),
        "58P01" => explained.repair(format!("the WAL that the slot needs is gone; {}", start_over(slot))),
        _ => explained,
    }
}

/// Columns that not every version has are read through `to_jsonb`: `invalidation_reason` (17), `conflicting` (16).
const SLOT: &str = "\
    SELECT s.slot_type, s.plugin::text, s.database IS NOT DISTINCT FROM current_database(), s.database::text, \
        s.wal_status, coalesce(to_jsonb(s) ->> 'invalidation_reason', \
            CASE WHEN to_jsonb(s) ->> 'conflicting' = 'true' THEN 'rows_removed' END), \
        s.confirmed_flush_lsn::text, s.active_pid \
    FROM pg_replication_slots s WHERE s.slot_name = $1";

const END_OLDER: &str = "\
    SELECT pg_terminate_backend(s.active_pid) FROM pg_replication_slots s JOIN pg_stat_activity a ON a.pid = s.active_pid \
    WHERE s.slot_name = $1 AND a.application_name = $2 AND a.usename = current_user";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_says_how_much_is_missing_and_how_to_go_on() {
        let target = Target::new("h", 1, "d", "u");
        let text = ahead(&target, "shop", Lsn(0x100), Lsn(0x180)).to_string();
        assert!(text.contains("128 bytes") && text.contains("pg_drop_replication_slot('shop')"), "{text}");
        assert!(missing(&target, "shop", Lsn(0x100)).to_string().contains("0/100"));
        assert!(in_use(&target, "shop", Some(42)).to_string().contains("process 42"));
    }
}
