//! The watcher of a source: one task beside its run, for as long as the supervisor keeps the source.
//!
//! - Every [`TICK`] it judges the state and logs when a stream stops flowing, and when it flows again.
//! - A sink that nobody used for [`IDLE`] is asked for a sign of life: an idle stream in front of a dead Kafka isn't well.
//! - Every [`LOOK`] it looks at the end of the server's log, on a connection of its own.
//!
//! It only reads and asks: no failure in here stops or delays the source.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rowcast_core::{BINLOG_WARNINGS, LogWarning, Look, Monitor, Source};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::meter::Meter;
use super::{Phase, State, Status};

/// How often the state is judged.
const TICK: Duration = Duration::from_secs(1);
/// A sink whose last answer is older is asked.
const IDLE: Duration = Duration::from_secs(3);
/// Pause between looks at the server; after failures up to the longest.
const LOOK: Duration = Duration::from_secs(5);
/// The pause while something isn't known that the stream's next events tell.
const SOON: Duration = Duration::from_millis(500);
/// How often in a row.
const MOST_QUICK: u32 = 10;
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Limit for one look, with its connection.
const LOOK_LIMIT: Duration = Duration::from_secs(10);
/// An idle stream may not have been told yet that the server has nothing for it: how long it is given for that.
const PROGRESS: Duration = Duration::from_millis(1500);
const POLL: Duration = Duration::from_millis(50);

/// Watches a source until dropped.
pub async fn keep<S: Source>(source: Arc<S>, meter: Arc<Meter>, status: Status) {
    tokio::join!(judge(&meter, &status), measure(source.monitor(), &meter));
}

async fn judge(meter: &Arc<Meter>, status: &Status) {
    let name = meter.about.name.as_str();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shown = "";
    let mut stuck: Option<Instant> = None;
    let mut probe: Option<tokio::task::JoinHandle<()>> = None;
    loop {
        ticks.tick().await;
        let Some(now) = status.state(name) else { return };
        let open = matches!(meter.phase().0, Phase::Streaming);
        match (&now.state, stuck) {
            (State::Waiting { why, .. }, None) if open => {
                stuck = Some(Instant::now());
                tracing::warn!(source = name, "waiting: {why}");
            }
            (state, Some(since)) if state.flows() => {
                stuck = None;
                tracing::info!(source = name, "goes on after {} s", since.elapsed().as_secs());
            }
            // the run has failed, which the supervisor logs
            _ if !open => stuck = None,
            _ => {}
        }
        if shown != now.state.name() {
            shown = now.state.name();
            status.changed();
        }
        if probe.as_ref().is_none_or(|probe| probe.is_finished())
            && let Some(ask) = meter.due_probe(IDLE)
        {
            let meter = Arc::clone(meter);
            meter.probes();
            probe = Some(tokio::task::spawn_blocking(move || meter.probed(ask())));
        }
    }
}

async fn measure<M: Monitor>(mut monitor: M, meter: &Meter) {
    let name = meter.about.name.as_str();
    let mut pause = LOOK;
    let mut quick = 0_u32;
    let mut warned: BTreeSet<&'static str> = BTreeSet::new();
    loop {
        let published = meter.published();
        let Some(position) = published.position else {
            // the source was never opened: nobody knows from where to measure, nor whether we may log in
            meter.open.notified().await;
            continue;
        };
        let looked = match timeout(LOOK_LIMIT, monitor.look(&position.log, published.offset)).await {
            Ok(looked) => looked.map_err(|error| error.to_string()),
            Err(_) => Err(format!("the database did not say within {} s where its log ends", LOOK_LIMIT.as_secs())),
        };
        match looked {
            Ok(look) => {
                pause = LOOK;
                let caught_up = look.caught_up() || comes_soon(&look, meter).await;
                let look = if caught_up {
                    Look { bytes: look.bytes.map(|_| 0), transactions: look.transactions.map(|_| 0), ..look }
                } else {
                    look
                };
                // a run that has just begun doesn't know its place in the binlog, nor how old what it reads is
                let (placeless, noted) = (look.bytes.is_none(), look.note.is_some());
                let (kept, purge) = (look.kept.clone(), look.purge);
                meter.saw(look, Some(&position.log), caught_up);
                let seconds = meter.seen().lag.and_then(|lag| lag.seconds);
                if kept.is_some() || purge.is_some() {
                    let mut warnings = kept.map(|kept| kept.warnings).unwrap_or_default();
                    warnings.extend(purge.iter().flat_map(|purge| purge.warnings(seconds.unwrap_or_default())));
                    tell_warnings(name, &warnings, &mut warned);
                }
                let ageless = seconds.is_none();
                let unknown = !caught_up && !noted && (placeless || ageless);
                quick = if unknown { quick.saturating_add(1) } else { 0 };
                if (1..=MOST_QUICK).contains(&quick) {
                    pause = SOON;
                }
            }
            Err(why) => {
                if meter.saw_nothing(why.clone()) {
                    tracing::info!(source = name, "the lag is unknown: {why}");
                }
                pause = (pause.max(LOOK / 2) * 2).min(LONGEST_PAUSE);
            }
        }
        tokio::select! {
            () = sleep(pause) => {}
            // a database that is back, or another one: what is known is of the last one
            () = meter.open.notified() => pause = LOOK,
        }
    }
}

/// Logs a warning of the server's log when it comes, and when it goes.
fn tell_warnings(source: &str, warnings: &[LogWarning], told: &mut BTreeSet<&'static str>) {
    for warning in warnings {
        if told.insert(warning.kind) {
            tracing::warn!(source, warning = warning.kind, "{}", warning.text);
        }
    }
    told.retain(|kind| {
        let still = warnings.iter().any(|warning| warning.kind == *kind);
        if !still {
            let of = if BINLOG_WARNINGS.contains(kind) { "the binary log" } else { "the replication slot" };
            tracing::info!(source, warning = *kind, "{of} is out of this danger");
        }
        still
    });
}

/// Whether what is behind is only that nobody has told us: the stream waits, and comes to this end as soon as it asks.
async fn comes_soon(look: &Look, meter: &Meter) -> bool {
    let Some(end) = look.offset else { return false };
    let arrived = || meter.published().offset.is_some_and(|at| at >= end);
    let deadline = Instant::now() + PROGRESS;
    while !arrived() {
        if meter.queue_bytes().0 > 0 || !matches!(meter.phase().0, Phase::Streaming) || Instant::now() >= deadline {
            return arrived();
        }
        meter.want_progress();
        sleep(POLL).await;
    }
    true
}
