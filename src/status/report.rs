//! All that is told of a source, as the admin endpoint's JSON and as `rowcast status` reads it back.
//!
//! Names, states, positions and numbers: no secret and no value of a row. Times are seconds since 1970. Absent numbers are
//! unknown, never zero.

use std::time::Duration;

use rowcast_core::LogWarning;
use serde::{Deserialize, Serialize};

use super::meter::{ERROR_KINDS, Meter, Totals};
use super::state::{State, seconds};
use super::{Now, Status};
use crate::backfill::control::TableProgress;

/// A lag that was measured longer ago isn't known any more.
const FRESH: Duration = Duration::from_secs(20);

/// A source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceReport {
    /// Its name.
    pub name: String,
    /// `postgres`, `mysql`, `mariadb`.
    pub kind: String,
    /// `kafka`, `file`, `stdout`.
    pub sink: String,
    /// What it is doing: `state`, `why`, `until`, `tables_left`.
    #[serde(flatten)]
    pub state: State,
    /// Since when.
    pub since: f64,
    /// Up to where everything is published, as the server writes positions.
    pub position: Option<String>,
    /// When the last published transaction was committed in the database.
    pub committed_at: Option<f64>,
    /// How far behind the server that is.
    pub lag: LagReport,
    /// What the server's replication slot holds back; PostgreSQL only.
    pub slot: Option<SlotReport>,
    /// When the server purges its binary logs; MySQL and MariaDB only.
    #[serde(default)]
    pub binlog: Option<BinlogReport>,
    /// What waits between the database and the sink.
    pub queue: QueueReport,
    /// Since the process began.
    pub totals: TotalsReport,
    /// Copies of tables.
    pub backfill: BackfillReport,
}

/// How far behind the server a source is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LagReport {
    /// Whether the server said lately where its log ends.
    pub known: bool,
    /// Bytes of the server's log that aren't published.
    pub bytes: Option<u64>,
    /// Transactions that aren't published; not known of PostgreSQL.
    pub transactions: Option<u64>,
    /// Age of the oldest change that isn't published, at most.
    pub seconds: Option<f64>,
    /// The end of the server's log.
    pub server_position: Option<String>,
    /// How many seconds ago this was measured.
    pub measured_seconds_ago: Option<f64>,
    /// Why something isn't known.
    pub note: Option<String>,
}

/// What a replication slot holds back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SlotReport {
    /// Bytes of WAL that the server keeps for it.
    pub kept_bytes: Option<u64>,
    /// Bytes that may be written before it is in danger of being lost; none if there is no limit.
    pub safe_bytes: Option<i64>,
    /// The server's word: `reserved`, `extended`, `unreserved`, `lost`.
    pub wal_status: Option<String>,
    /// Transactions since the oldest one whose catalog rows vacuum keeps for it.
    #[serde(default)]
    pub horizon_age: Option<u64>,
    /// Whether somebody streams from it.
    #[serde(default)]
    pub active: bool,
    /// For how many seconds nobody has.
    #[serde(default)]
    pub inactive_seconds: Option<u64>,
    /// What is to be done before it is lost or the server suffers.
    #[serde(default)]
    pub warnings: Vec<SlotWarningReport>,
}

/// A slot or binary logs in danger, or what endangers the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SlotWarningReport {
    /// Of a slot `extended`, `safe_wal`, `unreserved`, `lost`, `horizon`, `idle`; of binary logs `expiry`, `oldest`.
    pub kind: String,
    /// What is the matter, by how much, and the repair.
    pub text: String,
}

/// When the server purges its binary logs, whoever still needs them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BinlogReport {
    /// Age in seconds at which a file goes; none if files don't go by age.
    pub expire_seconds: Option<u64>,
    /// What is to be done before one goes that isn't read yet.
    #[serde(default)]
    pub warnings: Vec<SlotWarningReport>,
}

/// What waits for the sink.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueueReport {
    /// Bytes.
    pub bytes: u64,
    /// Bytes from which on the database is held back; 0 before the source has streamed.
    pub limit_bytes: u64,
}

/// Counters since the process began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TotalsReport {
    /// Events committed in the sink, those of copies included.
    pub rows: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Commits.
    pub commits: u64,
    /// Runs after a failed one.
    pub restarts: u64,
    /// Events that could not be delivered (`on_poison`).
    pub poison: u64,
    /// Failed runs.
    pub errors: std::collections::BTreeMap<String, u64>,
}

/// How copies are getting on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BackfillReport {
    /// Tables whose copies aren't complete.
    pub tables_left: u64,
    /// Rows of them, by the servers' statistics; none if a table's size isn't known.
    pub rows_left: Option<u64>,
    /// Tables that can't be followed.
    #[serde(default)]
    pub tables_stopped: u64,
    /// Each table; only where one source is asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<TableProgress>,
}

impl Status {
    /// The report of one source, with its tables.
    pub fn report(&self, source: &str) -> Option<SourceReport> {
        let (meter, now) = (self.meter(source)?, self.state(source)?);
        Some(report(&meter, &now, true))
    }

    /// The reports of all sources, without their tables.
    pub fn reports(&self) -> Vec<SourceReport> {
        let states = self.states();
        let of = |meter: &std::sync::Arc<Meter>| Some(report(meter, states.get(&meter.about.name)?, false));
        self.meters().iter().filter_map(of).collect()
    }
}

fn warnings(warnings: Vec<LogWarning>) -> Vec<SlotWarningReport> {
    warnings
        .into_iter()
        .map(|warning| SlotWarningReport { kind: warning.kind.to_owned(), text: warning.text })
        .collect()
}

fn report(meter: &Meter, now: &Now, with_tables: bool) -> SourceReport {
    let about = &meter.about;
    let (published, seen) = (meter.published(), meter.seen());
    let Totals { rows, bytes, commits, restarts, poison, errors } = meter.totals();
    let (queued, limit) = meter.queue_bytes();
    let mut lag = LagReport::default();
    let (mut slot, mut purge) = (None, None);
    if let Some(measured) = &seen.lag {
        let age = measured.at.elapsed();
        lag.known = seen.unknown.is_none() && age <= FRESH;
        lag.server_position = Some(measured.look.end.clone());
        lag.measured_seconds_ago = Some(age.as_secs_f64());
        if lag.known {
            (lag.bytes, lag.transactions, lag.seconds) =
                (measured.look.bytes, measured.look.transactions, measured.seconds);
            lag.note.clone_from(&measured.look.note);
            slot = measured.look.kept.clone();
            purge = measured.look.purge;
        }
    }
    if let Some((since, why)) = &seen.unknown {
        lag.note = Some(format!("unknown for {} s: {why}", since.elapsed().as_secs()));
    } else if !lag.known && lag.note.is_none() {
        lag.note = Some(match published.position {
            Some(_) => "not measured yet".to_owned(),
            None => "unknown until the stream was open once".to_owned(),
        });
    }
    let binlog = purge.map(|purge| BinlogReport {
        expire_seconds: purge.expire_seconds,
        warnings: warnings(purge.warnings(lag.seconds.unwrap_or_default())),
    });
    SourceReport {
        name: about.name.clone(),
        kind: about.kind.to_owned(),
        sink: about.sink.to_owned(),
        state: now.state.clone(),
        since: seconds(now.since),
        position: published.position.map(|position| position.to_string()),
        committed_at: (published.commit_us > 0).then_some(published.commit_us as f64 / 1e6),
        lag,
        slot: slot.map(|kept| SlotReport {
            kept_bytes: kept.bytes,
            safe_bytes: kept.safe_bytes,
            wal_status: kept.status,
            horizon_age: kept.horizon_age,
            active: kept.active,
            inactive_seconds: kept.inactive_seconds,
            warnings: warnings(kept.warnings),
        }),
        binlog,
        queue: QueueReport { bytes: queued as u64, limit_bytes: limit as u64 },
        totals: TotalsReport {
            rows,
            bytes,
            commits,
            restarts,
            poison,
            errors: ERROR_KINDS.iter().map(|kind| (*kind).to_owned()).zip(errors).collect(),
        },
        backfill: backfill(meter, with_tables),
    }
}

fn backfill(meter: &Meter, with_tables: bool) -> BackfillReport {
    let Some(board) = meter.board() else { return BackfillReport::default() };
    let (tables, tables_left) = (board.progress(), board.left() as u64);
    let open = |table: &&TableProgress| matches!(table.state.as_str(), "reading" | "waiting" | "paused");
    let left = |table: &TableProgress| Some(table.estimated_rows?.saturating_sub(table.rows));
    let rows_left = tables.iter().filter(open).map(left).sum();
    let tables_stopped = tables.iter().filter(|table| table.state == "stopped").count() as u64;
    BackfillReport { tables_left, rows_left, tables_stopped, tables: if with_tables { tables } else { Vec::new() } }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::unwrap_used)]
    use rowcast_core::{Kept, Look};

    use super::*;
    use crate::status::{About, Phase};

    #[test]
    fn a_report_reads_back_and_what_is_unknown_is_absent() {
        let status = Status::default();
        let about = About { name: "shop".into(), kind: "postgres", sink: "kafka", read_timeout: FRESH };
        let meter = status.add(about);
        let fresh = status.report("shop").unwrap();
        assert_eq!((fresh.lag.known, fresh.lag.bytes), (false, None));
        assert!(fresh.lag.note.as_ref().unwrap().contains("until the stream was open"));

        status.set("shop", Phase::Waiting { why: "no route".into(), until: std::time::SystemTime::now() });
        let kept = Kept { bytes: Some(7), safe_bytes: Some(-1), status: Some("unreserved".into()), ..Kept::default() };
        meter.saw(Look { end: "0/10".into(), bytes: Some(5), kept: Some(kept), ..Look::default() }, None, false);
        let report = status.report("shop").unwrap();
        assert_eq!(
            (report.lag.known, report.lag.bytes, report.slot.clone().unwrap().safe_bytes),
            (true, Some(5), Some(-1))
        );
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((json["state"].as_str(), json["why"].as_str()), (Some("waiting"), Some("no route")));
        let back: SourceReport = serde_json::from_value(json).unwrap();
        assert_eq!((back.state, back.slot), (report.state, report.slot));

        meter.saw_nothing("refused".into());
        let gone = status.reports().pop().unwrap();
        assert_eq!((gone.lag.known, gone.lag.bytes, gone.slot), (false, None, None));
        assert!(gone.lag.note.unwrap().contains("refused"));
        assert!(status.report("other").is_none());
    }
}
