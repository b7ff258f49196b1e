//! What a replication slot costs its server, and how near it is to being lost: facts, and the warnings that follow from them.
//!
//! A warning has its number and what to do. It comes before the damage: WAL beyond what the server keeps anyway, a quarter left of
//! `max_slot_wal_keep_size`, half of `autovacuum_freeze_max_age`, half of `idle_replication_slot_timeout`.

use rowcast_core::{Kept, LogWarning};
use tokio_postgres::Row;

/// The first of the columns of [`COLUMNS`] is this one of the caller's query.
pub(crate) const FIRST: usize = 2;

/// For a query of `pg_replication_slots s` and the log's end `e.lsn`. What not every version has is read through `to_jsonb`:
/// `conflicting` (16), `inactive_since`, `invalidation_reason` (17).
pub(crate) const COLUMNS: &str = "\
    s.slot_name IS NOT NULL, pg_wal_lsn_diff(e.lsn, s.restart_lsn)::int8, s.safe_wal_size, s.wal_status, \
    greatest(age(s.xmin), age(s.catalog_xmin))::int8, coalesce(s.active, false), \
    CASE WHEN NOT s.active THEN \
        extract(epoch FROM clock_timestamp() - (to_jsonb(s) ->> 'inactive_since')::timestamptz)::int8 END, \
    coalesce(to_jsonb(s) ->> 'invalidation_reason', CASE WHEN to_jsonb(s) ->> 'conflicting' = 'true' THEN 'rows_removed' END), \
    pg_size_bytes(current_setting('max_slot_wal_keep_size')), pg_size_bytes(current_setting('max_wal_size')), \
    current_setting('autovacuum_freeze_max_age')::int8, \
    extract(epoch FROM current_setting('idle_replication_slot_timeout', true)::interval)::int8";

/// What the server says of a slot, and its limits.
#[derive(Debug, Clone, Default)]
pub(crate) struct Health {
    kept: Kept,
    invalidation: Option<String>,
    /// `max_slot_wal_keep_size`; none if there is no limit.
    keep_limit: Option<u64>,
    max_wal: u64,
    freeze_age: u64,
    /// `idle_replication_slot_timeout` in seconds; none if it is off.
    idle_limit: Option<u64>,
}

impl Health {
    /// From a row with [`COLUMNS`]; none if there is no such slot.
    pub(crate) fn read(row: &Row) -> Option<Self> {
        let number = |index: usize| row.get::<_, Option<i64>>(FIRST + index).and_then(|it| u64::try_from(it).ok());
        row.get::<_, bool>(FIRST).then(|| Self {
            kept: Kept {
                bytes: number(1),
                safe_bytes: row.get(FIRST + 2),
                status: row.get(FIRST + 3),
                horizon_age: number(4),
                active: row.get(FIRST + 5),
                inactive_seconds: number(6),
                warnings: Vec::new(),
            },
            invalidation: row.get(FIRST + 7),
            keep_limit: number(8),
            max_wal: number(9).unwrap_or_default(),
            freeze_age: number(10).unwrap_or_default(),
            idle_limit: number(11).filter(|limit| *limit > 0),
        })
    }

    /// With the warnings.
    pub(crate) fn judge(self, slot: &str) -> Kept {
        let warnings = [self.wal(slot), self.room(slot), self.horizon(slot), self.idle(slot)];
        Kept { warnings: warnings.into_iter().flatten().collect(), ..self.kept }
    }

    fn wal(&self, slot: &str) -> Option<LogWarning> {
        let kept = size(self.kept.bytes.unwrap_or_default());
        let status = self.kept.status.as_deref().unwrap_or_default();
        if status == "lost" || self.invalidation.is_some() {
            let why = self.invalidation.as_deref().map(reason).unwrap_or(REMOVED);
            let text = format!(
                "replication slot {slot} was invalidated by the server: {why}; the source stops, as `on_gap` says"
            );
            return Some(LogWarning { kind: "lost", text });
        }
        match status {
            "unreserved" => Some(LogWarning {
                kind: "unreserved",
                text: format!(
                    "replication slot {slot} needs {kept} of WAL, more than max_slot_wal_keep_size ({}): the server's next checkpoint \
                     may remove it, and the changes in it are lost; repair: ALTER SYSTEM SET max_slot_wal_keep_size to more than \
                     that, SELECT pg_reload_conf(), and let the source catch up",
                    size(self.keep_limit.unwrap_or_default())
                ),
            }),
            "extended" => Some(LogWarning {
                kind: "extended",
                text: format!(
                    "replication slot {slot} keeps {kept} of WAL, more than the server otherwise would (max_wal_size is {}); {}; \
                     repair: let the source catch up (`rowcast status` says what it waits for), or look for a transaction that is \
                     open for long: SELECT pid, xact_start FROM pg_stat_activity WHERE backend_xid IS NOT NULL ORDER BY 2",
                    size(self.max_wal),
                    match self.keep_limit {
                        Some(limit) => format!("at {} (max_slot_wal_keep_size) it is lost", size(limit)),
                        None => "nothing limits this (max_slot_wal_keep_size is -1) but the server's disk".to_owned(),
                    }
                ),
            }),
            _ => None,
        }
    }

    fn room(&self, slot: &str) -> Option<LogWarning> {
        let (limit, safe) = (self.keep_limit?, self.kept.safe_bytes?);
        let low = safe > 0 && safe.unsigned_abs() < limit / 4;
        low.then(|| LogWarning {
            kind: "safe_wal",
            text: format!(
                "replication slot {slot} is in danger after another {} of WAL: it keeps {}, and max_slot_wal_keep_size is {}; repair: let \
                 the source catch up, or raise max_slot_wal_keep_size",
                size(safe.unsigned_abs()),
                size(self.kept.bytes.unwrap_or_default()),
                size(limit)
            ),
        })
    }

    fn horizon(&self, slot: &str) -> Option<LogWarning> {
        let age = self.kept.horizon_age.filter(|age| self.freeze_age > 0 && *age > self.freeze_age / 2)?;
        let text = format!(
            "replication slot {slot} keeps vacuum from removing rows of the catalogs that are {age} transactions old \
             (autovacuum_freeze_max_age is {}); repair: let the source catch up, or end the transaction that is open for so long: \
             SELECT pid, xact_start FROM pg_stat_activity WHERE backend_xid IS NOT NULL ORDER BY 2",
            self.freeze_age
        );
        Some(LogWarning { kind: "horizon", text })
    }

    fn idle(&self, slot: &str) -> Option<LogWarning> {
        let (limit, idle) = (self.idle_limit?, self.kept.inactive_seconds?);
        let text = format!(
            "nobody has streamed from replication slot {slot} for {idle} s; at {limit} s (idle_replication_slot_timeout) the server \
             invalidates it; repair: let the source run, or raise idle_replication_slot_timeout"
        );
        (self.invalidation.is_none() && idle > limit / 2).then_some(LogWarning { kind: "idle", text })
    }
}

const REMOVED: &str = "its WAL exceeded max_slot_wal_keep_size and was removed";

/// A reason of `invalidation_reason`, in words.
pub(crate) fn reason(word: &str) -> &str {
    match word {
        "" | "wal_removed" => REMOVED,
        "rows_removed" => {
            "rows of the catalog that it needs were removed (on a standby: hot_standby_feedback was off, or the standby was away)"
        }
        "wal_level_insufficient" => "wal_level was lowered",
        "idle_timeout" => "it was idle longer than idle_replication_slot_timeout",
        other => other,
    }
}

/// Bytes as a person reads them; the units are the server's own (1 MB is 2^20 bytes).
pub(crate) fn size(bytes: u64) -> String {
    let units = [(30, "GB"), (20, "MB"), (10, "kB")];
    match units.into_iter().find(|(shift, _)| bytes >> shift > 0) {
        Some((shift, unit)) => format!("{:.1} {unit}", bytes as f64 / (1_u64 << shift) as f64),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rowcast_core::SLOT_WARNINGS;

    use super::*;

    fn well() -> Health {
        Health {
            kept: Kept {
                bytes: Some(10 << 20),
                safe_bytes: Some(90 << 20),
                status: Some("reserved".to_owned()),
                horizon_age: Some(100),
                active: true,
                ..Kept::default()
            },
            keep_limit: Some(100 << 20),
            max_wal: 1 << 30,
            freeze_age: 1000,
            idle_limit: Some(60),
            invalidation: None,
        }
    }

    fn kinds(health: &Health) -> Vec<&'static str> {
        let kept = health.clone().judge("shop");
        for warning in &kept.warnings {
            assert!(SLOT_WARNINGS.contains(&warning.kind));
            assert!(warning.text.contains("slot shop"), "{}", warning.text);
        }
        kept.warnings.iter().map(|warning| warning.kind).collect()
    }

    #[test]
    fn each_danger_has_its_warning_and_health_has_none() {
        assert!(kinds(&well()).is_empty());
        let with = |kept: Kept| Health { kept, ..well() };
        let status = |word: &str| with(Kept { status: Some(word.to_owned()), ..well().kept });
        for word in ["extended", "unreserved", "lost"] {
            assert_eq!(kinds(&status(word)), [word]);
        }
        assert_eq!(kinds(&with(Kept { safe_bytes: Some(25 << 20), ..well().kept })), Vec::<&str>::new());
        assert_eq!(kinds(&with(Kept { safe_bytes: Some((25 << 20) - 1), ..well().kept })), ["safe_wal"]);
        assert_eq!(kinds(&with(Kept { horizon_age: Some(501), ..well().kept })), ["horizon"]);
        let idle = |seconds| Kept { active: false, inactive_seconds: Some(seconds), ..well().kept };
        assert_eq!(kinds(&with(idle(30))), Vec::<&str>::new());
        assert_eq!(kinds(&with(idle(31))), ["idle"]);
        let gone = Health { invalidation: Some("idle_timeout".to_owned()), ..with(idle(61)) };
        assert_eq!(kinds(&gone), ["lost"]);
        // without limits nothing is near them
        let unlimited = Health { keep_limit: None, idle_limit: None, ..with(Kept { safe_bytes: None, ..idle(9000) }) };
        assert!(kinds(&unlimited).is_empty());
    }

    #[test]
    fn a_warning_has_the_numbers() {
        let long =
            Health { kept: Kept { status: Some("extended".to_owned()), ..well().kept }, keep_limit: None, ..well() };
        let text = long.judge("shop").warnings.first().unwrap().text.clone();
        assert!(text.contains("10.0 MB") && text.contains("1.0 GB") && text.contains("repair: "), "{text}");
        assert!(text.contains("max_slot_wal_keep_size is -1"), "{text}");
        assert_eq!((size(12), size(2048), size(3 << 30)), ("12 bytes".into(), "2.0 kB".into(), "3.0 GB".into()));
    }
}
