//! Slots and publications that a former run left behind, and their removal (`rowcast drop`).
//!
//! Nothing is removed but by that command. It removes a slot that nobody streams from, and a publication that Rowcast created (its
//! comment says so); what somebody else made is left, with the statement that removes it.

use std::time::Duration;

use rowcast_core::SourceError;
use tokio::time::Instant;

use super::publication::{self, COMMENT};
use super::{Catalog, health, slot};
use crate::Options;
use crate::replication::connection::{literal, quote};

/// How the names of slots begin that Rowcast chose itself.
const PREFIX: &str = "rowcast_";
/// The server needs a moment to notice that a daemon has stopped.
const GOODBYE: Duration = Duration::from_secs(2);
/// No more of them are named.
const MOST: usize = 10;

/// Notes on what no configured source names: slots in this database that keep WAL and that nobody streams from, and publications.
pub(crate) async fn notes(catalog: &mut Catalog, options: &Options) -> Result<Vec<String>, SourceError> {
    let rows =
        catalog.query("looking for slots that were left behind", LEFT, &[&PREFIX, &options.known, &COMMENT]).await?;
    let mut notes = Vec::new();
    for row in rows.iter().take(MOST) {
        let (name, is_slot): (String, bool) = (row.get(0), row.get(1));
        notes.push(if is_slot {
            let kept = row.get::<_, Option<i64>>(2).and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default();
            format!(
                "replication slot {name} of this database is nobody's: no source of this configuration names it, nobody streams from it, \
                 and it keeps {} of WAL; if no other daemon has it: SELECT pg_drop_replication_slot({}) (or `rowcast drop` with its file)",
                health::size(kept),
                literal(&name)
            )
        } else {
            format!(
                "publication {name} of this database was created by rowcast, and no source of this configuration names it; if no other \
                 daemon has it: DROP PUBLICATION {}",
                quote(&name)
            )
        });
    }
    if rows.len() > MOST {
        notes.push(format!("{} more slots and publications were left behind", rows.len() - MOST));
    }
    Ok(notes)
}

/// Removes the source's slot and publication; gives a sentence for each of both.
///
/// # Errors
/// Definite while somebody streams from the slot: then nothing is removed.
pub(crate) async fn remove(catalog: &mut Catalog, options: &Options) -> Result<Vec<String>, SourceError> {
    let target = catalog.target().clone();
    let (slot_name, publication) = (&options.slot, &options.publication);
    let give_up = Instant::now() + GOODBYE;
    let mut found = slot::find(catalog, slot_name).await?;
    while found.as_ref().is_some_and(|found| found.user.is_some()) && Instant::now() < give_up {
        tokio::time::sleep(Duration::from_millis(200)).await;
        found = slot::find(catalog, slot_name).await?;
    }
    if let Some(user) = found.as_ref().and_then(|found| found.user.as_ref()) {
        return Err(target
            .definite(format!("{}: nothing was removed", slot::used_by(slot_name, Some(user))))
            .repair("stop the daemon that streams from it"));
    }
    let mut done = Vec::new();
    done.push(match found {
        None => format!("replication slot {slot_name}: there is none"),
        Some(_) => {
            slot::drop(catalog, slot_name).await?;
            format!("replication slot {slot_name}: removed; the server keeps no WAL for this source any more")
        }
    });
    done.push(match publication::owner(catalog, publication).await? {
        None => format!("publication {publication}: there is none"),
        Some(false) => format!(
            "publication {publication}: left, since rowcast did not create it; to remove it: DROP PUBLICATION {}",
            quote(publication)
        ),
        Some(true) => {
            let statement = format!("DROP PUBLICATION {}", quote(publication));
            let doing = format!("removing publication {publication}");
            if let Err(refused) = catalog.execute(&doing, &statement).await? {
                let error = refused.explain(&target, &doing);
                return Err(error.context(done.join("; ")).repair(format!("as its owner: {statement}")));
            }
            format!("publication {publication}: removed")
        }
    });
    Ok(done)
}

/// Slots first. A peek's are temporary, and gone with it.
const LEFT: &str = "\
    SELECT s.slot_name::text, true, \
        pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, \
            s.restart_lsn)::int8 \
    FROM pg_replication_slots s \
    WHERE s.database = current_database() AND s.plugin = 'pgoutput' AND NOT s.active AND NOT s.temporary \
        AND starts_with(s.slot_name::text, $1) AND s.slot_name::text <> ALL ($2) \
    UNION ALL \
    SELECT p.pubname::text, false, NULL FROM pg_publication p \
    WHERE obj_description(p.oid, 'pg_publication') = $3 AND starts_with(p.pubname::text, $1) AND p.pubname::text <> ALL ($2) \
        AND NOT EXISTS (SELECT FROM pg_replication_slots s WHERE s.database = current_database() AND s.slot_name = p.pubname AND s.active) \
    ORDER BY 2 DESC, 1";
