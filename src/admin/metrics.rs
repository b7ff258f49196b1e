//! `/metrics`: what the meters say, for Prometheus.
//!
//! OpenMetrics for those who ask for it, else the older text format. The number of series is that of the sources times a
//! constant: nothing is told by table. What isn't known has no sample.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use rowcast_core::{BINLOG_WARNINGS, SLOT_WARNINGS};

use super::process;
use crate::status::meter::ERROR_KINDS;
use crate::status::report::SourceReport;
use crate::status::state::STATES;
use crate::status::{State, Status};

/// The content type of the older format.
pub const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// The content type of OpenMetrics.
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics now, and their content type. `accept` is the request's header.
///
/// # Errors
/// Never, as far as is known: it writes into memory.
pub fn render(status: &Status, accept: &str) -> Result<(&'static str, String), fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Sources(status.clone())));
    let mut out = String::with_capacity(16 << 10);
    text::encode(&mut out, &registry)?;
    if accept.contains("application/openmetrics-text") { Ok((OPENMETRICS, out)) } else { Ok((TEXT, older(&out))) }
}

/// The older format: there a counter's type is declared under the name of its samples.
fn older(openmetrics: &str) -> String {
    let mut out = String::with_capacity(openmetrics.len() + 256);
    let mut lines = openmetrics.lines().peekable();
    while let Some(line) = lines.next() {
        let counter = |line: &str| line.starts_with("# TYPE ") && line.ends_with(" counter");
        let name = |line: &str| line.split(' ').nth(2).map(str::to_owned).unwrap_or_default();
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        if counter(line) || (line.starts_with("# HELP ") && lines.peek().is_some_and(|next| counter(next))) {
            let name = name(line);
            out.push_str(&line.replacen(&name, &format!("{name}_total"), 1));
        } else {
            out.push_str(line);
        }
        out.push('\n');
    }
    out
}

#[derive(Debug)]
struct Sources(Status);

/// Labels of a sample.
type Labels<'a> = Vec<(&'static str, &'a str)>;

/// Writes families.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    /// A family of gauges or counters, left out if it has no samples.
    fn numbers(
        &mut self,
        kind: MetricType,
        name: &str,
        help: &str,
        samples: Vec<(Labels<'_>, f64)>,
    ) -> Result<(), fmt::Error> {
        if samples.is_empty() {
            return Ok(());
        }
        let counter = matches!(kind, MetricType::Counter);
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        let write = |sample: &mut MetricEncoder<'_>, value: f64| match counter {
            true => sample.encode_counter::<NoLabelSet, _, f64>(&value, None),
            false => sample.encode_gauge(&value),
        };
        for (labels, value) in samples {
            // braces around nothing are allowed, and odd
            match labels.is_empty() {
                true => write(&mut family, value)?,
                false => write(&mut family.encode_family(&labels)?, value)?,
            }
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, samples: Vec<(Labels<'_>, f64)>) -> Result<(), fmt::Error> {
        self.numbers(MetricType::Gauge, name, help, samples)
    }

    fn counter(&mut self, name: &str, help: &str, samples: Vec<(Labels<'_>, f64)>) -> Result<(), fmt::Error> {
        self.numbers(MetricType::Counter, name, help, samples)
    }
}

/// A number of each source that has it.
fn each<'a>(reports: &'a [SourceReport], number: impl Fn(&SourceReport) -> Option<f64>) -> Vec<(Labels<'a>, f64)> {
    reports.iter().filter_map(|it| Some((vec![("source", it.name.as_str())], number(it)?))).collect()
}

fn whole(number: Option<u64>) -> Option<f64> {
    number.map(|number| number as f64)
}

impl Collector for Sources {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let reports = &self.0.reports();
        let mut out = Families(encoder);
        states(&mut out, reports)?;
        totals(&mut out, reports)?;
        self.commit_durations(&mut out)?;
        lags(&mut out, reports)?;
        process_numbers(&mut out)
    }
}

impl Sources {
    fn commit_durations(&self, out: &mut Families<'_>) -> Result<(), fmt::Error> {
        const HELP: &str = "How long commits take, Kafka's answer included";
        let mut family =
            out.0.encode_descriptor("rowcast_commit_duration_seconds", HELP, None, MetricType::Histogram)?;
        for meter in self.0.meters() {
            let labels: Labels<'_> = vec![("source", meter.about.name.as_str())];
            meter.commit_seconds.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn states(out: &mut Families<'_>, reports: &[SourceReport]) -> Result<(), fmt::Error> {
    let version = vec![("version", env!("CARGO_PKG_VERSION"))];
    out.gauge("rowcast_build_info", "The version that runs", vec![(version, 1.0)])?;
    let mut infos = Vec::new();
    for SourceReport { name, kind, sink, .. } in reports {
        infos.push((vec![("source", name.as_str()), ("kind", kind.as_str()), ("sink", sink.as_str())], 1.0));
    }
    out.gauge("rowcast_source_info", "Kind of database and sink", infos)?;
    let one_hot = |it: &'_ SourceReport, state: &str| if it.state.name() == state { 1.0 } else { 0.0 };
    let mut samples = Vec::new();
    for it in reports {
        for state in STATES {
            samples.push((vec![("source", it.name.as_str()), ("state", state)], one_hot(it, state)));
        }
    }
    out.gauge("rowcast_source_state", "1 for the state that the source is in, else 0", samples)?;
    let ready = |it: &SourceReport| Some(if it.state.is_ready() { 1.0 } else { 0.0 });
    out.gauge("rowcast_source_ready", "1 while the source works (streaming or backfilling)", each(reports, ready))?;
    let until = |it: &SourceReport| match it.state {
        State::Waiting { until, .. } => until,
        _ => None,
    };
    out.gauge(
        "rowcast_source_next_attempt_timestamp_seconds",
        "When a source that waits after an error is started again",
        each(reports, until),
    )
}

fn totals(out: &mut Families<'_>, reports: &[SourceReport]) -> Result<(), fmt::Error> {
    let rows = each(reports, |it| Some(it.totals.rows as f64));
    out.counter("rowcast_rows", "Events committed in the sink, those of copies included", rows)?;
    let bytes = each(reports, |it| Some(it.totals.bytes as f64));
    out.counter("rowcast_bytes", "Bytes of keys and values committed in the sink", bytes)?;
    out.counter("rowcast_commits", "Commits in the sink", each(reports, |it| Some(it.totals.commits as f64)))?;
    let restarts = each(reports, |it| Some(it.totals.restarts as f64));
    out.counter("rowcast_restarts", "Runs that were started after a failed one", restarts)?;
    let poison = each(reports, |it| Some(it.totals.poison as f64));
    out.counter(
        "rowcast_poison_events",
        "Events that could not be delivered: left out, or sent to the dead letters",
        poison,
    )?;
    let mut errors = Vec::new();
    for it in reports {
        for kind in ERROR_KINDS {
            let count = it.totals.errors.get(kind).copied().unwrap_or_default();
            errors.push((vec![("source", it.name.as_str()), ("kind", kind)], count as f64));
        }
    }
    out.counter("rowcast_errors", "Failed runs by what followed: a restart, or the end (definite)", errors)
}

fn lags(out: &mut Families<'_>, reports: &[SourceReport]) -> Result<(), fmt::Error> {
    let known = |it: &SourceReport| Some(if it.lag.known { 1.0 } else { 0.0 });
    out.gauge("rowcast_lag_known", "1 while the server says where its log ends", each(reports, known))?;
    let bytes = each(reports, |it| whole(it.lag.bytes));
    out.gauge("rowcast_lag_bytes", "Bytes of the server's log that are not published", bytes)?;
    let transactions = each(reports, |it| whole(it.lag.transactions));
    out.gauge("rowcast_lag_transactions", "Transactions that are not published (not PostgreSQL)", transactions)?;
    let age = each(reports, |it| it.lag.seconds);
    out.gauge("rowcast_lag_seconds", "Age of the oldest change that is not published, at most", age)?;
    let last = each(reports, |it| it.committed_at);
    out.gauge(
        "rowcast_published_commit_timestamp_seconds",
        "When the last published transaction was committed in the database",
        last,
    )?;
    let queued = each(reports, |it| Some(it.queue.bytes as f64));
    out.gauge("rowcast_queue_bytes", "Bytes that wait between the database and the sink", queued)?;
    let limit = each(reports, |it| Some(it.queue.limit_bytes as f64));
    out.gauge("rowcast_queue_limit_bytes", "Bytes from which on the database is held back", limit)?;
    let kept = each(reports, |it| whole(it.slot.as_ref()?.kept_bytes));
    out.gauge("rowcast_slot_kept_bytes", "WAL that the replication slot makes the server keep", kept)?;
    let safe = each(reports, |it| it.slot.as_ref()?.safe_bytes.map(|bytes| bytes as f64));
    out.gauge("rowcast_slot_safe_bytes", "WAL that may be written before the slot may be lost", safe)?;
    let age = each(reports, |it| whole(it.slot.as_ref()?.horizon_age));
    out.gauge(
        "rowcast_slot_horizon_age_transactions",
        "Transactions since the oldest one whose catalog rows vacuum keeps for the slot",
        age,
    )?;
    let mut warnings = Vec::new();
    for (it, slot) in reports.iter().filter_map(|it| Some((it, it.slot.as_ref()?))) {
        for kind in SLOT_WARNINGS {
            let on = slot.warnings.iter().any(|warning| warning.kind == kind);
            warnings.push((vec![("source", it.name.as_str()), ("warning", kind)], if on { 1.0 } else { 0.0 }));
        }
    }
    out.gauge("rowcast_slot_warning", "1 while the replication slot is in this danger, else 0", warnings)?;
    let expiry = each(reports, |it| whole(it.binlog.as_ref()?.expire_seconds));
    out.gauge("rowcast_binlog_expire_seconds", "Age at which the server purges a binary log, read or not", expiry)?;
    let mut warnings = Vec::new();
    for (it, binlog) in reports.iter().filter_map(|it| Some((it, it.binlog.as_ref()?))) {
        for kind in BINLOG_WARNINGS {
            let on = binlog.warnings.iter().any(|warning| warning.kind == kind);
            warnings.push((vec![("source", it.name.as_str()), ("warning", kind)], if on { 1.0 } else { 0.0 }));
        }
    }
    out.gauge("rowcast_binlog_warning", "1 while a binary log that is needed may soon be purged, else 0", warnings)?;
    let tables = each(reports, |it| Some(it.backfill.tables_left as f64));
    out.gauge("rowcast_backfill_tables_left", "Tables whose copies are not complete", tables)?;
    let stopped = each(reports, |it| Some(it.backfill.tables_stopped as f64));
    out.gauge("rowcast_tables_stopped", "Tables that can not be followed: an operator has to repair them", stopped)?;
    let rows = each(reports, |it| whole(it.backfill.rows_left));
    out.gauge("rowcast_backfill_rows_left", "Rows of these tables, by the server's statistics", rows)
}

fn process_numbers(out: &mut Families<'_>) -> Result<(), fmt::Error> {
    let process = process::now();
    let one = |number: Option<f64>| number.map(|number| (Labels::new(), number)).into_iter().collect::<Vec<_>>();
    out.gauge("process_resident_memory_bytes", "Resident memory", one(whole(process.resident_bytes)))?;
    out.counter("process_cpu_seconds", "User and system CPU time", one(process.cpu_seconds))?;
    out.gauge("process_open_fds", "Open file descriptors", one(whole(process.open_fds)))?;
    out.gauge("process_max_fds", "Limit of open file descriptors", one(whole(process.max_fds)))?;
    out.gauge("process_threads", "Threads", one(whole(process.threads)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use rowcast_core::Look;

    use super::*;
    use crate::status::{About, Phase};

    fn status() -> Status {
        let status = Status::default();
        for (name, kind) in [("a", "postgres"), ("b", "mysql")] {
            status.add(About { name: name.into(), kind, sink: "kafka", read_timeout: Duration::from_secs(60) });
        }
        status.set("a", Phase::Streaming);
        if let Some(meter) = status.meter("b") {
            meter.saw(Look { bytes: Some(7), ..Look::default() }, None, false);
        }
        status
    }

    #[test]
    fn the_older_format_declares_counters_as_they_are_sampled() {
        let (kind, text) = render(&status(), "text/plain").unwrap();
        assert_eq!(kind, TEXT);
        for line in [
            "# TYPE rowcast_rows_total counter",
            "# HELP rowcast_rows_total Events committed in the sink, those of copies included",
            "# TYPE rowcast_lag_bytes gauge",
            "# TYPE rowcast_commit_duration_seconds histogram",
            "rowcast_rows_total{source=\"a\"} 0.0",
            "rowcast_source_state{source=\"a\",state=\"streaming\"} 1.0",
            "rowcast_source_state{source=\"a\",state=\"waiting\"} 0.0",
            "rowcast_source_ready{source=\"b\"} 0.0",
            "rowcast_lag_bytes{source=\"b\"} 7.0",
            "rowcast_commit_duration_seconds_bucket{le=\"+Inf\",source=\"a\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in:\n{text}");
        }
        assert!(!text.contains("rowcast_lag_bytes{source=\"a\"}"), "an unknown lag is no number");
        assert!(!text.contains("EOF"));
    }

    #[test]
    fn openmetrics_is_given_to_those_who_ask() {
        let (kind, text) = render(&status(), "application/openmetrics-text;version=1.0.0,text/plain").unwrap();
        assert_eq!(kind, OPENMETRICS);
        assert!(text.ends_with("# EOF\n") && text.contains("# TYPE rowcast_rows counter"), "{text}");
    }
}
