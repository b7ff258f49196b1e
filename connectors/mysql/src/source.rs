//! [`MysqlSource`]: checks the server, finds the start, becomes a replica.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rowcast_core::{
    Begin, Confirm, LogPosition, MariaGtidSet, Opened, Pulse, Source, SourceError, SourceInfo, TableName,
};

use crate::backfill::MysqlReader;
use crate::binlog::request;
use crate::catalog::versions::Versions;
use crate::catalog::{Catalog, checks, foreign_keys, position};
use crate::connection::Connection;
use crate::monitor::MysqlMonitor;
use crate::shared::Shared;
use crate::stream::{MysqlStream, assembler::Assembler, keep::Doubt, spill::Room};
use crate::{Flavor, Options, replica, servers, xa};

/// Heartbeats of an idle server. They say how far the log was read, which a backfill waits for; one costs some sixty bytes.
const HEARTBEAT: std::time::Duration = std::time::Duration::from_secs(1);

/// A MySQL or MariaDB server whose binlog can be tailed.
#[derive(Debug, Clone)]
pub struct MysqlSource {
    options: Options,
    /// The next stream keeps all transactions until their end.
    keep: Arc<AtomicBool>,
    shared: Shared,
}

impl MysqlSource {
    /// A source; nothing is connected yet.
    pub fn new(options: Options) -> Self {
        Self { options, keep: Arc::default(), shared: Shared::default() }
    }
}

/// Nothing to confirm: a binlog is kept by age and size (`binlog_expire_logs_seconds`), not by what its readers have
/// acknowledged, and the position is in our checkpoint only. What was purged before we read it is a gap at the next
/// start.
#[derive(Debug)]
pub struct MysqlConfirm;

impl Confirm for MysqlConfirm {
    fn confirm(&self, _: &LogPosition) {}
}

impl Source for MysqlSource {
    type Stream = MysqlStream;
    type Confirm = MysqlConfirm;
    type Reader = MysqlReader;
    type Monitor = MysqlMonitor;

    fn monitor(&self) -> MysqlMonitor {
        MysqlMonitor::new(self.options.clone(), self.shared.clone())
    }

    async fn reader(&self) -> Result<MysqlReader, SourceError> {
        MysqlReader::open(self.options.clone(), self.shared.clone()).await
    }

    async fn open(&self, begin: Begin<'_>) -> Result<Opened<MysqlStream, MysqlConfirm>, SourceError> {
        let mut sql = servers::choose(&self.options).await?;
        let place = sql.place.clone();
        let server = sql.version.clone();
        let variables = checks::variables(&mut sql).await?;
        let mut notes = checks::settings(&place, &server, &variables)?;
        let server_id = replica::free_id(&mut sql, &self.options, &variables).await?;
        let options = &Options { server_id, ..self.options.clone() };
        replica::check_logging(&mut sql, &variables, &mut notes).await?;
        let charsets = checks::charsets(&mut sql).await?;
        let tables = checks::tables(&mut sql, &options.tables).await?;
        notes.extend(Box::pin(foreign_keys::note(&mut sql, &tables)).await?);
        let period = (options.read_timeout / 3).min(HEARTBEAT);
        let uuid = replica_uuid(&options.name, options.server_id);
        let room = Room::new(options.spill_folder.clone(), options.spill_limit);
        let search = xa::Search { options, variables: &variables, room: &room, replica_uuid: &uuid, heartbeat: period };
        let (start, prepared) = match begin.position() {
            None => {
                let found = Box::pin(search.first(&mut sql, &mut notes)).await?;
                (found.start, found.prepared)
            }
            Some(from) => {
                let start = position::start(&mut sql, &variables, Some(from), &mut notes).await?;
                (start, Box::pin(search.resume(&mut sql, from)).await?)
            }
        };
        let at_start = prepared.prepared();

        let mut replica = Connection::open(options).await?;
        let maria_start = match &start {
            LogPosition::MariaDb(set) => Some(set),
            _ => None::<&MariaGtidSet>,
        };
        for statement in request::session(options.flavor, period.as_nanos(), &uuid, maria_start) {
            replica.query("preparing the binlog session", &statement).await?;
        }
        let fold_case = variables.get("lower_case_table_names").is_some_and(|value| value != "0");
        let tables_of = options.tables.clone();
        let mut assembler =
            Assembler::new(place.clone(), tables_of, start.clone(), fold_case, room.clone(), options.include_query)
                .telling(options.describe, options.ddl)
                .leaving_out(options.start_at.as_ref(), begin.position().map(|position| &position.log))
                .with_prepared(prepared)
                .doubting(Doubt {
                    all: self.keep.swap(false, Ordering::Relaxed),
                    next: Arc::clone(&self.keep),
                    inside: begin.position().and_then(|position| position.inside.clone()).map(|it| it.transaction),
                });
        let mut catalog = Catalog::new(options.clone(), sql, charsets);
        let mut versions = Versions::of(begin.schemas(), options.flavor);
        let named = variables.get("binlog_row_metadata").is_some_and(|value| value.eq_ignore_ascii_case("FULL"));
        if !named {
            let names: Vec<TableName> = tables
                .iter()
                .map(|(db, table)| TableName { db: db.as_str().into(), schema: None, table: table.as_str().into() })
                .collect();
            let found = Box::pin(catalog.all(&names)).await?;
            if let Some(at) = catalog.end().await? {
                versions.expect(at, found);
            }
        }
        assembler.set_versions(versions);
        let pulse = Pulse::default();
        self.shared.begins(matches!(start, LogPosition::Binlog(_)));
        let shared = self.shared.clone();
        let stream =
            MysqlStream::start(replica, catalog, assembler, options, &start, pulse.clone(), (shared, room)).await?;
        // a place says when its file was begun only now
        let start = stream.position().clone();
        let kind = match options.flavor {
            Flavor::Mysql => "mysql",
            Flavor::MariaDb => "mariadb",
        };
        // A GTID position is valid on every server of its topology, and any other says itself which server it is of.
        let info = SourceInfo { kind, server, identity: None, timeline: None, prepared: at_start, tables, notes };
        Ok(Opened { info, start, stream, confirm: MysqlConfirm, pulse })
    }
}

/// The UUID by which the server tells replicas apart: the same for the same source, so that a server which still holds
/// our broken connection ends it when we come back.
fn replica_uuid(name: &str, server_id: u32) -> String {
    let hash = |seed: u64| {
        name.bytes().chain(server_id.to_le_bytes()).fold(0xcbf2_9ce4_8422_2325 ^ seed, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    };
    let (high, low) = (hash(0), hash(0x9e37_79b9_7f4a_7c15));
    format!(
        "{:08x}-{:04x}-5{:03x}-8{:03x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        low >> 52,
        low & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_replicas_uuid_is_stable_and_well_formed() {
        let uuid = replica_uuid("shop", 7);
        assert_eq!(uuid, replica_uuid("shop", 7));
        assert_ne!(uuid, replica_uuid("shop", 8));
        assert!(rowcast_core::gtid::parse_uuid(&uuid).is_some(), "{uuid}");
    }
}
