//! What a source's state is: the supervisor's phase, judged by the facts of its meter.
//!
//! Guarantees: a source whose stream is open is `streaming` only while something flows or could: not while the sink has not
//! answered for [`STUCK`], nor while the database has been silent for so long. (Before a stream's beginning is committed the phase
//! is still [`Phase::Starting`].) A pure function, so that every case is tested here; what the facts are worth is tested on real
//! servers in `tests/truth/`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::meter::Doing;

/// After so long without an answer from the sink or the database a source counts as waiting.
pub const STUCK: Duration = Duration::from_secs(5);

/// What the supervisor is doing with a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Opening the sink and the database.
    Starting,
    /// The stream is open.
    Streaming,
    /// A run has failed; there will be another.
    Waiting {
        /// The error.
        why: String,
        /// When it is started again.
        until: SystemTime,
    },
    /// Ended.
    Stopped {
        /// The error; none if it was asked to stop.
        why: Option<String>,
    },
}

/// What is known of a source.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The supervisor's word.
    pub phase: Phase,
    /// Since when.
    pub since: SystemTime,
    /// Why the last run failed, until a stream is open again.
    pub last_error: Option<String>,
    /// What the run is waiting for besides the stream, and for how long.
    pub doing: Option<(Doing, Duration)>,
    /// For how long the sink has not answered when it was asked for a sign of life, and what went wrong.
    pub probing: Option<(Duration, Option<String>)>,
    /// For how long nothing was heard from the database while somebody listened.
    pub silent: Option<Duration>,
    /// Tables whose copies aren't complete.
    pub tables_left: usize,
    /// Tables that can't be followed, and why the first of them can't.
    pub tables_stopped: (usize, Option<String>),
    /// Bytes that wait for the sink, and their limit.
    pub queue: (usize, usize),
}

/// What a source is doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum State {
    /// Opening the sink and the database.
    Starting {
        /// What takes long, if something does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// Rows that were there before are copied, and changes are streamed.
    Backfilling {
        /// Tables whose copies aren't complete.
        tables_left: usize,
    },
    /// Changes are streamed as they come.
    Streaming,
    /// Changes are streamed, but not those of some tables, which can't be followed: needs an operator.
    Degraded {
        /// The first of them, and why.
        why: String,
        /// How many.
        tables_stopped: usize,
    },
    /// Nothing is published now; it will go on by itself.
    Waiting {
        /// What is the matter.
        why: String,
        /// When the next attempt is made, in seconds since 1970; none if it goes on as soon as the other side answers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<f64>,
    },
    /// Ended; needs an operator unless it was asked to.
    Stopped {
        /// The error; none if it was asked to stop.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
}

/// All names of states.
pub const STATES: [&str; 6] = ["starting", "backfilling", "streaming", "degraded", "waiting", "stopped"];

impl State {
    /// Its name, one of [`STATES`].
    pub fn name(&self) -> &'static str {
        match self {
            Self::Starting { .. } => "starting",
            Self::Backfilling { .. } => "backfilling",
            Self::Streaming => "streaming",
            Self::Degraded { .. } => "degraded",
            Self::Waiting { .. } => "waiting",
            Self::Stopped { .. } => "stopped",
        }
    }

    /// Whether the source works.
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Streaming | Self::Backfilling { .. })
    }

    /// Whether changes are published, of some tables at least.
    pub fn flows(&self) -> bool {
        self.is_ready() || matches!(self, Self::Degraded { .. })
    }

    /// Why it is that, where there is a reason.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Starting { why } | Self::Stopped { why } => why.as_deref(),
            Self::Waiting { why, .. } | Self::Degraded { why, .. } => Some(why),
            Self::Backfilling { .. } | Self::Streaming => None,
        }
    }
}

/// Seconds since 1970.
pub fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// The state that follows from the facts, and for how long the facts are like that.
pub fn derive(facts: &Facts, sink: &str, read_timeout: Duration) -> (State, Duration) {
    let phase_age = SystemTime::now().duration_since(facts.since).unwrap_or_default();
    let waiting = |why: String| State::Waiting { why, until: None };
    match &facts.phase {
        Phase::Starting => {
            let slow = facts.doing.filter(|(_, since)| *since >= STUCK).map(|(doing, since)| {
                let what = match doing {
                    Doing::OpenSink => format!("opening {sink}"),
                    Doing::OpenSource => "opening the database".to_owned(),
                    // a restart would begin later: what is written now isn't promised yet
                    Doing::Stage | Doing::Commit => format!("committing to {sink} where the stream begins"),
                };
                format!("{what} takes {} s by now", since.as_secs())
            });
            let again = facts.last_error.as_ref().map(|error| format!("trying again after: {error}"));
            let why = [slow, again].into_iter().flatten().collect::<Vec<_>>().join("; ");
            (State::Starting { why: (!why.is_empty()).then_some(why) }, phase_age)
        }
        Phase::Waiting { why, until } => (State::Waiting { why: why.clone(), until: Some(seconds(*until)) }, phase_age),
        Phase::Stopped { why } => (State::Stopped { why: why.clone() }, phase_age),
        Phase::Streaming => {
            if let Some((doing, since)) = facts.doing.filter(|(_, since)| *since >= STUCK) {
                let what = if doing == Doing::Stage { "taken any events" } else { "acknowledged a commit" };
                let (bytes, limit) = facts.queue;
                let held = if limit > 0 && bytes >= limit / 2 { "; the database is held back" } else { "" };
                let why = format!("{sink} has not {what} for {} s; {bytes} bytes wait for it{held}", since.as_secs());
                return (waiting(why), since);
            }
            if let Some((since, failed)) = facts.probing.as_ref().filter(|(since, _)| *since >= STUCK) {
                let failed = failed.as_ref().map(|failed| format!(": {failed}")).unwrap_or_default();
                return (waiting(format!("{sink} has not answered for {} s{failed}", since.as_secs())), *since);
            }
            if let Some(silent) = facts.silent.filter(|silent| *silent >= STUCK) {
                let why = format!(
                    "nothing was heard from the database for {} s; the connection is given up after {} s",
                    silent.as_secs(),
                    read_timeout.as_secs()
                );
                return (waiting(why), silent);
            }
            if let (tables_stopped, Some(first)) = &facts.tables_stopped {
                let more = match tables_stopped {
                    0 | 1 => String::new(),
                    count => format!("{count} tables, the first: "),
                };
                let why = format!("{more}{first}");
                return (State::Degraded { why, tables_stopped: *tables_stopped }, phase_age);
            }
            match facts.tables_left {
                0 => (State::Streaming, phase_age),
                tables_left => (State::Backfilling { tables_left }, phase_age),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(phase: Phase) -> Facts {
        Facts {
            phase,
            since: SystemTime::now(),
            last_error: None,
            doing: None,
            probing: None,
            silent: None,
            tables_left: 0,
            tables_stopped: (0, None),
            queue: (0, 0),
        }
    }

    fn state(facts: &Facts) -> State {
        derive(facts, "kafka", Duration::from_secs(60)).0
    }

    #[test]
    fn an_open_stream_is_streaming_only_while_both_ends_answer() {
        let streaming = facts(Phase::Streaming);
        assert_eq!(state(&streaming), State::Streaming);
        let (short, long) = (STUCK - Duration::from_millis(1), STUCK + Duration::from_secs(7));
        for (ended, stuck, says) in [
            (
                Facts { doing: Some((Doing::Commit, short)), ..streaming.clone() },
                Facts { doing: Some((Doing::Commit, long)), queue: (70, 100), ..streaming.clone() },
                "kafka has not acknowledged a commit for 12 s; 70 bytes wait for it; the database is held back",
            ),
            (
                Facts { doing: Some((Doing::Stage, short)), ..streaming.clone() },
                Facts { doing: Some((Doing::Stage, long)), ..streaming.clone() },
                "kafka has not taken any events for 12 s; 0 bytes wait for it",
            ),
            (
                Facts { probing: Some((short, None)), ..streaming.clone() },
                Facts { probing: Some((long, Some("timed out".into()))), ..streaming.clone() },
                "kafka has not answered for 12 s: timed out",
            ),
            (
                Facts { silent: Some(short), ..streaming.clone() },
                Facts { silent: Some(long), tables_left: 3, ..streaming.clone() },
                "nothing was heard from the database for 12 s; the connection is given up after 60 s",
            ),
        ] {
            assert_eq!(state(&ended), State::Streaming);
            let (stuck, since) = derive(&stuck, "kafka", Duration::from_secs(60));
            assert_eq!(stuck, State::Waiting { why: says.to_owned(), until: None });
            assert_eq!(since, long);
            assert!(!stuck.is_ready());
        }
    }

    #[test]
    fn a_stream_whose_beginning_is_not_committed_promises_nothing() {
        let first = Facts { doing: Some((Doing::Commit, STUCK)), tables_left: 1, ..facts(Phase::Starting) };
        assert_eq!(state(&first).why(), Some("committing to kafka where the stream begins takes 5 s by now"));
        assert!(!state(&first).is_ready());
    }

    #[test]
    fn copies_make_it_backfilling_and_ready() {
        let copying = state(&Facts { tables_left: 2, ..facts(Phase::Streaming) });
        assert_eq!(copying, State::Backfilling { tables_left: 2 });
        assert!(copying.is_ready());
    }

    #[test]
    fn a_stream_without_some_of_its_tables_is_not_ready() {
        let stopped = |count| (count, Some("shop.orders can't be followed".to_owned()));
        let one = state(&Facts { tables_stopped: stopped(1), tables_left: 2, ..facts(Phase::Streaming) });
        assert!(!one.is_ready() && one.name() == "degraded");
        assert_eq!(one.why(), Some("shop.orders can't be followed"));
        let two = state(&Facts { tables_stopped: stopped(2), ..facts(Phase::Streaming) });
        assert_eq!(two.why(), Some("2 tables, the first: shop.orders can't be followed"));
        let silent = Facts { silent: Some(STUCK), tables_stopped: stopped(1), ..facts(Phase::Streaming) };
        assert_eq!(state(&silent).name(), "waiting", "the worse of both");
    }

    #[test]
    fn what_is_not_open_is_never_ready_whatever_the_facts() {
        let waiting = Phase::Waiting { why: "no route".into(), until: UNIX_EPOCH + Duration::from_millis(1500) };
        for phase in [Phase::Starting, waiting.clone(), Phase::Stopped { why: Some("x".into()) }] {
            assert!(!state(&Facts { tables_left: 1, ..facts(phase) }).is_ready());
        }
        assert_eq!(state(&facts(waiting)), State::Waiting { why: "no route".into(), until: Some(1.5) });
        let slow = Facts { doing: Some((Doing::OpenSink, STUCK * 2)), ..facts(Phase::Starting) };
        assert_eq!(state(&slow).why(), Some("opening kafka takes 10 s by now"));
        let again = Facts { last_error: Some("no route".into()), ..slow };
        assert_eq!(state(&again).why(), Some("opening kafka takes 10 s by now; trying again after: no route"));
    }

    #[test]
    fn a_state_is_flat_json_and_reads_back() {
        for (state, json) in [
            (State::Streaming, r#"{"state":"streaming"}"#),
            (State::Starting { why: None }, r#"{"state":"starting"}"#),
            (State::Waiting { why: "w".into(), until: Some(1.5) }, r#"{"state":"waiting","why":"w","until":1.5}"#),
            (State::Backfilling { tables_left: 2 }, r#"{"state":"backfilling","tables_left":2}"#),
        ] {
            assert_eq!(serde_json::to_string(&state).ok().as_deref(), Some(json));
            assert_eq!(serde_json::from_str::<State>(json).ok(), Some(state.clone()));
            assert!(STATES.contains(&state.name()));
        }
    }
}
