//! Whether this server, database and role can stream at all.

use std::time::Duration;

use rowcast_core::SourceError;

use super::Catalog;
use crate::replication::connection::quote;

/// The oldest version that is supported.
const OLDEST: i32 = 130_000;

/// What was found.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// `server_version`
    pub(crate) version: String,
    /// `server_version_num`
    pub(crate) number: i32,
    /// `wal_sender_timeout`; zero if off.
    pub(crate) wal_sender_timeout: Duration,
    /// The role that we are.
    pub(crate) role: String,
    /// A slot that standbys keep a copy of can be created here: PostgreSQL 17, not a standby itself.
    pub(crate) failover_slots: bool,
    /// It is a standby.
    pub(crate) in_recovery: bool,
    /// A standby tells its primary which rows of the catalog it still needs.
    pub(crate) feedback: bool,
    /// `max_slot_wal_keep_size` is set.
    pub(crate) keeps_limited: bool,
    /// `idle_replication_slot_timeout`, as the server writes it; none if it is off, as it is before PostgreSQL 18.
    pub(crate) idle_timeout: Option<String>,
}

impl Server {
    /// What an operator should know before something happens. `created` says that the slot is new.
    pub(crate) fn notes(&self, slot: &str, created: bool) -> Vec<String> {
        let mut notes = Vec::new();
        if self.in_recovery && !self.feedback {
            notes.push(format!(
                "the server is a standby with hot_standby_feedback off: vacuum on its primary may remove rows of the catalog that \
                 replication slot {slot} needs, and the slot is lost; set hot_standby_feedback = on there"
            ));
        }
        if created && !self.keeps_limited {
            notes.push(format!(
                "max_slot_wal_keep_size is -1: while this source is stopped, the server keeps all WAL for replication slot {slot}, until \
                 its disk is full; with a limit it would rather lose the slot"
            ));
        }
        if let Some(timeout) = &self.idle_timeout {
            notes.push(format!(
                "idle_replication_slot_timeout is {timeout}: if this source is stopped for longer, the server invalidates replication \
                 slot {slot}"
            ));
        }
        notes
    }
}

/// Checks version, `wal_level` and role.
pub(crate) async fn check(catalog: &mut Catalog) -> Result<Server, SourceError> {
    const DOING: &str = "looking at the server's settings";
    let rows = catalog.query(DOING, SETTINGS, &[]).await?;
    let target = catalog.target().clone();
    let Some(row) = rows.first() else { return Err(target.transient(format!("{DOING}: no answer"))) };
    let (number, version, wal_level): (i32, String, String) = (row.get(0), row.get(1), row.get(2));
    if number < OLDEST {
        return Err(target
            .definite(format!("the server is PostgreSQL {version}; 13 is the oldest version that is supported"))
            .repair("upgrade the server"));
    }
    if wal_level != "logical" {
        return Err(target.definite(format!("wal_level is `{wal_level}`, logical decoding needs `logical`")).repair(
            "ALTER SYSTEM SET wal_level = logical; then restart the server \
             (Amazon RDS: the parameter rds.logical_replication = 1; Cloud SQL: cloudsql.logical_decoding = on)",
        ));
    }
    let (role, may_replicate, in_recovery): (String, bool, bool) = (row.get(4), row.get(5), row.get(6));
    if !may_replicate {
        return Err(target
            .definite(format!("role {role} may not replicate"))
            .repair(format!("ALTER ROLE {0} REPLICATION; (Amazon RDS: GRANT rds_replication TO {0};)", quote(&role))));
    }
    if in_recovery && number < 160_000 {
        return Err(target
            .definite(format!("the server is a standby; PostgreSQL {version} decodes on the primary only"))
            .repair("set `source.host` to the primary"));
    }
    let timeout: i64 = row.get(3);
    let failover_slots = number >= 170_000 && !in_recovery;
    let wal_sender_timeout = Duration::from_millis(timeout.unsigned_abs());
    Ok(Server {
        version,
        number,
        wal_sender_timeout,
        role,
        failover_slots,
        in_recovery,
        feedback: row.get(7),
        keeps_limited: row.get(8),
        idle_timeout: row.get(9),
    })
}

const SETTINGS: &str = "\
    SELECT current_setting('server_version_num')::int4, current_setting('server_version'), \
        current_setting('wal_level'), \
        (SELECT setting::int8 FROM pg_settings WHERE name = 'wal_sender_timeout'), \
        current_user::text, \
        EXISTS (SELECT FROM pg_roles r WHERE r.rolname = current_user AND (r.rolsuper OR r.rolreplication)) \
            OR EXISTS (SELECT FROM pg_roles r WHERE r.rolname IN ('rds_replication', 'rds_superuser') \
                AND pg_has_role(current_user, r.oid, 'MEMBER')), \
        pg_is_in_recovery(), current_setting('hot_standby_feedback')::bool, \
        current_setting('max_slot_wal_keep_size') <> '-1', nullif(current_setting('idle_replication_slot_timeout', true), '0')";
