//! How far the server's log goes, and what the slot holds back of it.
//!
//! Over the catalog's kind of connection, which is made anew when it broke. The end is what is flushed: more can't be
//! streamed. A standby's end is what it has replayed. No privilege is needed for any of this.

use rowcast_core::{LogPosition, Look, Lsn, Monitor, Offset, SourceError};

use crate::Options;
use crate::catalog::Catalog;
use crate::catalog::health::{COLUMNS, Health};
use crate::error::Target;

const DOING: &str = "looking at the end of the log";

/// Looks at a PostgreSQL server.
#[derive(Debug)]
pub struct PostgresMonitor {
    catalog: Catalog,
    slot: String,
    query: String,
}

impl PostgresMonitor {
    pub(crate) fn new(options: &Options, target: &Target) -> Self {
        let query = format!("SELECT e.lsn::text, {NOW}, {COLUMNS} FROM {END}");
        Self { catalog: Catalog::new(options, target), slot: options.slot.clone(), query }
    }
}

impl Monitor for PostgresMonitor {
    async fn look(&mut self, from: &LogPosition, _: Option<Offset>) -> Result<Look, SourceError> {
        let rows = self.catalog.query(DOING, &self.query, &[&self.slot]).await?;
        let unreadable = || self.catalog.target().transient(format!("{DOING}: an answer that can't be read"));
        let row = rows.first().ok_or_else(unreadable)?;
        let end: Lsn = row.get::<_, String>(0).parse().map_err(|_| unreadable())?;
        let bytes = match from {
            LogPosition::Lsn(at) => Some(end.0.saturating_sub(at.0)),
            _ => None,
        };
        let kept = Health::read(row).map(|health| health.judge(&self.slot));
        let note = kept.is_none().then(|| format!("replication slot {} does not exist", self.slot));
        let offset = Some(Offset { file: 0, byte: end.0 });
        Ok(Look {
            end: end.to_string(),
            offset,
            now_us: row.get(1),
            bytes,
            transactions: None,
            kept,
            purge: None,
            note,
        })
    }
}

const NOW: &str = "(extract(epoch FROM clock_timestamp()) * 1000000)::int8";

/// Differences are numeric; no log has 2^63 bytes.
const END: &str = "\
    (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END AS lsn) e \
    LEFT JOIN pg_replication_slots s ON s.slot_name = $1";
