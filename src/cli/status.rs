//! `rowcast status`: asks a running daemon's admin endpoint what its sources are doing, and shows it to people.
//!
//! Where to ask follows from `--admin`, else from the shared file that `--config` names and `ROWCAST__ADMIN`, else it is the
//! default. Exit code 0 only if every source that was asked for works.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Args;

use super::commands::{CONFIGURATION, FAILED, complain};
use crate::admin::{client, reachable};
use crate::backfill::report::{clean, count, size, table as copies, time};
use crate::config::{self, AdminConfig, Environment, parse_admin, parse_name};
use crate::status::report::SourceReport;
use crate::status::state::{State, seconds};

pub(super) const EXAMPLES: &str = "\
Examples:
  rowcast status                                   all sources of the daemon on this machine
  rowcast status shop                              one, with its tables
  rowcast status --json | jq '.[] | {name, state, lag: .lag.seconds}'
  rowcast status --admin 10.0.0.7:9187
  rowcast status --config /etc/rowcast/rowcast.yaml
  docker compose exec rowcast rowcast status

Exit codes:
  0  every source is streaming or backfilling
  1  at least one isn't, or no daemon answers
  2  wrong usage or configuration";

/// Arguments of `status`.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// One source only, with its tables
    #[arg(value_name = "NAME", value_parser = parse_name)]
    pub source: Option<String>,

    /// Where the daemon's admin endpoint listens; default: what `admin` in the configuration says, else 127.0.0.1:9187
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_admin)]
    pub admin: Option<AdminConfig>,

    /// The daemon's shared file, rowcast.yaml, to read `admin` from
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Print the endpoint's JSON
    #[arg(long)]
    pub json: bool,
}

/// Asks, and shows the answer.
pub(super) fn status(args: &StatusArgs, runtime: &tokio::runtime::Runtime) -> ExitCode {
    let admin = match &args.admin {
        Some(admin) => admin.clone(),
        None => match config::load_admin(args.config.as_deref(), Environment::of_process()) {
            Ok(admin) => admin,
            Err(errors) => return complain(CONFIGURATION, format_args!("{errors}")),
        },
    };
    let Some(address) = admin.address.as_deref().map(reachable) else {
        return complain(CONFIGURATION, format_args!("the admin endpoint is off: `admin: off`"));
    };
    let path = match &args.source {
        Some(name) => format!("/api/v1/sources/{name}"),
        None => "/api/v1/sources".to_owned(),
    };
    let text = match runtime.block_on(client::get(&address, &path)) {
        Ok((200, text)) => text,
        Ok((404, _)) if args.source.is_some() => {
            return complain(FAILED, format_args!("the daemon on {address} has no source of this name"));
        }
        Ok((code, text)) => {
            return complain(FAILED, format_args!("{address} answered {code}: {}", clean(text.trim())));
        }
        Err(why) => return complain(FAILED, format_args!("{why}")),
    };
    let parsed = match &args.source {
        Some(_) => serde_json::from_str(&text).map(|report| vec![report]),
        None => serde_json::from_str::<Vec<SourceReport>>(&text),
    };
    let reports = match parsed {
        Ok(reports) => reports,
        Err(error) => {
            let what = "what answers there is no rowcast of this version";
            return complain(FAILED, format_args!("{address}: {what}: {error}"));
        }
    };
    let shown = if args.json { text.trim_end().to_owned() } else { show(&reports, seconds(SystemTime::now())) };
    // `| head` may have closed it; that is no failure.
    let _ = writeln!(std::io::stdout(), "{shown}");
    let well = !reports.is_empty() && reports.iter().all(|report| report.state.is_ready());
    if well { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

/// A table of the sources, with a line for each reason, and the copies of a single source, below it.
fn show(reports: &[SourceReport], now: f64) -> String {
    let head = ["SOURCE", "STATE", "FOR", "LAG", "BYTES BEHIND", "TX BEHIND", "EVENTS", "RESTARTS", "POSITION"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(reports.iter().map(|report| row(report, now)));
    let mut text = columns(&rows);
    for report in reports {
        let mut tell = |what: String| text.push_str(&format!("\n{}: {}", clean(&report.name), clean(&what)));
        if let Some(why) = report.state.why() {
            let until = match report.state {
                State::Waiting { until: Some(until), .. } => {
                    format!("; next attempt in {}", time((until - now).max(0.0).ceil() as u64))
                }
                _ => String::new(),
            };
            tell(format!("{}: {why}{until}", report.state.name()));
        }
        if let Some(note) = &report.lag.note {
            tell(format!("lag: {note}"));
        }
        if let Some(slot) = &report.slot
            && let Some(kept) = slot.kept_bytes
        {
            let status = slot.wal_status.as_ref().map(|status| format!(", {status}")).unwrap_or_default();
            let safe = match slot.safe_bytes {
                Some(bytes) if bytes <= 0 => "; it may be lost at any moment".to_owned(),
                Some(bytes) => format!("; {} more until it may be lost", size(bytes.unsigned_abs())),
                None => String::new(),
            };
            tell(format!("the replication slot holds back {} of WAL{status}{safe}", size(kept)));
        }
        let binlog = report.binlog.iter().flat_map(|binlog| &binlog.warnings);
        for warning in report.slot.iter().flat_map(|slot| &slot.warnings).chain(binlog) {
            tell(format!("warning: {}", warning.text));
        }
    }
    if let [one] = reports
        && !one.backfill.tables.is_empty()
    {
        text.push_str("\n\n");
        text.push_str(&copies(&one.backfill.tables));
    }
    text
}

fn row(report: &SourceReport, now: f64) -> [String; 9] {
    let unknown = || "?".to_owned();
    let lag = &report.lag;
    let state = match &report.state {
        State::Backfilling { tables_left } => match report.backfill.rows_left {
            Some(rows) => format!("backfilling ({tables_left} tables, about {} rows left)", count(rows)),
            None => format!("backfilling ({tables_left} tables left)"),
        },
        state => state.name().to_owned(),
    };
    let position = report.position.as_deref().map_or_else(unknown, clean);
    // a GTID set of many servers is as long as it likes
    let shortened = match position.char_indices().nth(60) {
        Some((at, _)) => format!("{}...", position.get(..at).unwrap_or_default()),
        None => position,
    };
    let transactions = match report.kind.as_str() {
        "postgres" => "-".to_owned(),
        _ => lag.transactions.map_or_else(unknown, count),
    };
    [
        clean(&report.name),
        state,
        time((now - report.since).max(0.0) as u64),
        lag.seconds.map_or_else(
            unknown,
            |seconds| if seconds < 60.0 { format!("{seconds:.1} s") } else { time(seconds as u64) },
        ),
        lag.bytes.map_or_else(unknown, size),
        transactions,
        count(report.totals.rows),
        count(report.totals.restarts),
        shortened,
    ]
}

/// Aligned columns, the last one as it is.
fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let line = |row: &[String; N]| {
        let cells: Vec<String> = row
            .iter()
            .enumerate()
            .map(|(at, cell)| format!("{cell:<width$}", width = width(at).unwrap_or(0)))
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use rowcast_core::{Kept, Look};

    use super::*;
    use crate::status::{About, Phase, Status};

    #[test]
    fn the_table_says_what_is_the_matter_and_what_is_unknown() {
        let status = Status::default();
        for (name, kind) in [("shop", "postgres"), ("stock", "mysql")] {
            let read_timeout = std::time::Duration::from_secs(60);
            status.add(About { name: name.into(), kind, sink: "kafka", read_timeout });
        }
        status.set("shop", Phase::Streaming);
        let until = SystemTime::now() + std::time::Duration::from_secs(90);
        status.set("stock", Phase::Waiting { why: "kafka: no\u{1b}[31m route".into(), until });
        let kept = Some(Kept {
            bytes: Some(5 << 20),
            safe_bytes: Some(0),
            status: Some("unreserved".into()),
            ..Kept::default()
        });
        status.meter("shop").unwrap().saw(Look { bytes: Some(1234), kept, ..Look::default() }, None, false);
        let text = show(&status.reports(), seconds(SystemTime::now()));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("SOURCE  STATE"), "{text}");
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(lines[1])[..2], ["shop", "streaming"], "{text}");
        assert_eq!(words(lines[2])[..2], ["stock", "waiting"], "{text}");
        assert!(text.contains("stock: waiting: kafka: no") && text.contains("next attempt in "), "{text}");
        assert!(text.contains("shop: the replication slot holds back 5.2 MB of WAL, unreserved"), "{text}");
        assert!(text.contains("may be lost at any moment"), "{text}");
        assert!(text.contains("stock: lag: unknown until the stream was open once"), "{text}");
        assert!(!text.contains('\u{1b}'), "a terminal would obey it");
    }
}
