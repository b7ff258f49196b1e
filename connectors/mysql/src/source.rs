//! [`MysqlSource`]: checks the server, finds the start, becomes a replica.

use rowcast_core::{Confirm, LogPosition, MariaGtidSet, Opened, Position, Source, SourceError, SourceInfo};

use crate::backfill::MysqlReader;
use crate::binlog::request;
use crate::catalog::{self, Catalog, checks, position};
use crate::connection::Connection;
use crate::stream::{MysqlStream, assembler::Assembler};
use crate::{Flavor, Options};

/// Heartbeats of an idle server. They say how far the log was read, which a backfill waits for; one costs some sixty bytes.
const HEARTBEAT: std::time::Duration = std::time::Duration::from_secs(1);

/// A MySQL or MariaDB server whose binlog can be tailed.
#[derive(Debug, Clone)]
pub struct MysqlSource {
    options: Options,
}

impl MysqlSource {
    /// A source; nothing is connected yet.
    pub fn new(options: Options) -> Self {
        Self { options }
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

    async fn reader(&self) -> Result<MysqlReader, SourceError> {
        MysqlReader::open(self.options.clone()).await
    }

    async fn open(&self, resume: Option<&Position>) -> Result<Opened<MysqlStream, MysqlConfirm>, SourceError> {
        let options = &self.options;
        let mut sql = catalog::open(options).await?;
        let place = sql.place.clone();
        let server = sql.version.clone();
        let variables = checks::variables(&mut sql).await?;
        let notes = checks::settings(&place, &server, &variables, options.server_id)?;
        let charsets = checks::charsets(&mut sql).await?;
        let tables = checks::tables(&mut sql, &options.tables).await?;
        let start = position::start(&mut sql, resume).await?;

        let mut replica = Connection::open(options).await?;
        let period = (options.read_timeout / 3).min(HEARTBEAT);
        let maria_start = match &start {
            LogPosition::MariaDb(set) => Some(set),
            _ => None::<&MariaGtidSet>,
        };
        let uuid = replica_uuid(&options.name, options.server_id);
        for statement in request::session(options.flavor, period.as_nanos(), &uuid, maria_start) {
            replica.query("preparing the binlog session", &statement).await?;
        }
        let fold_case = variables.get("lower_case_table_names").is_some_and(|value| value != "0");
        let assembler = Assembler::new(place.clone(), options.tables.clone(), start.clone(), fold_case);
        let catalog = Catalog::new(options.clone(), sql, charsets);
        let stream = MysqlStream::start(replica, catalog, assembler, options, &start).await?;
        let kind = match options.flavor {
            Flavor::Mysql => "mysql",
            Flavor::MariaDb => "mariadb",
        };
        // A GTID position is valid on every server of its topology, so there is no identity besides it.
        let info = SourceInfo { kind, server, identity: None, tables, notes };
        Ok(Opened { info, start, stream, confirm: MysqlConfirm })
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
