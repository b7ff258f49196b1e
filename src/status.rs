//! What each source is doing, for whoever asks: a small file that the daemon keeps current and `rowcast health` reads.
//!
//! Guarantees: the file says what is the case now, or is visibly stale: it is replaced atomically at every change and every
//! [`REFRESH`] besides, so that a daemon that hangs or died doesn't pass for a healthy one. A source is `streaming` only while
//! its stream is open. An HTTP endpoint with lag and metrics comes with a later issue; this is what a container's health check
//! needs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Names the file; without it none is written.
pub const FILE_VARIABLE: &str = "ROWCAST_STATUS_FILE";
/// How often the file is renewed.
pub const REFRESH: Duration = Duration::from_secs(2);
/// The age from which the file says nothing any more.
const STALE: Duration = Duration::from_secs(10);

/// What a source is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum State {
    /// Opening the sink and the database.
    Starting,
    /// The stream is open.
    Streaming,
    /// Failed; will be started again.
    Waiting {
        /// The error.
        why: String,
    },
    /// Ended; needs an operator unless it was asked to.
    Stopped {
        /// The error; none if it was asked to stop.
        why: Option<String>,
    },
}

/// The states of all sources.
#[derive(Debug, Clone)]
pub struct Status(watch::Sender<BTreeMap<String, State>>);

/// The file's content.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    /// Seconds since 1970.
    at: u64,
    sources: BTreeMap<String, State>,
}

impl Default for Status {
    fn default() -> Self {
        Self(watch::Sender::new(BTreeMap::new()))
    }
}

impl Status {
    /// Says what a source is doing from now on.
    pub fn set(&self, source: &str, state: State) {
        self.0.send_modify(|states| {
            states.insert(source.to_owned(), state);
        });
    }

    /// Keeps the file current until dropped. A file that can't be written is logged once.
    pub async fn keep_file(self, path: PathBuf) {
        let mut states = self.0.subscribe();
        let mut complained = false;
        loop {
            let report = Report { at: now(), sources: states.borrow_and_update().clone() };
            if let Err(error) = write(&path, &report)
                && !complained
            {
                complained = true;
                tracing::warn!(file = %path.display(), "can't write the status file: {error}; see {FILE_VARIABLE}");
            }
            let _ = tokio::time::timeout(REFRESH, states.changed()).await;
        }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn write(path: &Path, report: &Report) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    std::fs::write(&beside, serde_json::to_vec(report)?)?;
    std::fs::rename(&beside, path)
}

/// What the file says: a line per source, and whether all is well.
///
/// # Errors
/// If there is no file, it isn't one of ours, or it is stale; the message says which.
pub fn read(path: &Path) -> Result<(Vec<String>, bool), String> {
    let shown = path.display();
    let bytes = std::fs::read(path).map_err(|error| {
        format!("no status in {shown}: {error}; is `rowcast run` running with {FILE_VARIABLE} set to this file?")
    })?;
    let report: Report =
        serde_json::from_slice(&bytes).map_err(|error| format!("{shown} is no status file: {error}"))?;
    let age = now().saturating_sub(report.at);
    if age > STALE.as_secs() {
        return Err(format!("{shown} is {age} s old: the daemon hangs or has ended"));
    }
    let line = |(source, state): (&String, &State)| match state {
        State::Starting => format!("{source}: starting"),
        State::Streaming => format!("{source}: streaming"),
        State::Waiting { why } => format!("{source}: waiting: {why}"),
        State::Stopped { why: Some(why) } => format!("{source}: stopped: {why}"),
        State::Stopped { why: None } => format!("{source}: stopped"),
    };
    let well = !report.sources.is_empty() && report.sources.values().all(|state| *state == State::Streaming);
    Ok((report.sources.iter().map(line).collect(), well))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn file(report: &Report) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        write(file.path(), report).unwrap();
        file
    }

    fn sources(states: &[(&str, State)]) -> BTreeMap<String, State> {
        states.iter().map(|(name, state)| ((*name).to_owned(), state.clone())).collect()
    }

    #[test]
    fn all_is_well_only_while_every_source_streams() {
        let waiting = State::Waiting { why: "no route".into() };
        for (states, well) in [
            (sources(&[("a", State::Streaming), ("b", State::Streaming)]), true),
            (sources(&[("a", State::Streaming), ("b", waiting)]), false),
            (sources(&[("a", State::Stopped { why: None })]), false),
            (sources(&[]), false),
        ] {
            let file = file(&Report { at: now(), sources: states });
            assert_eq!(read(file.path()).unwrap().1, well);
        }
    }

    #[test]
    fn a_stale_or_missing_file_is_never_healthy() {
        let old = file(&Report { at: now() - 60, sources: sources(&[("a", State::Streaming)]) });
        assert!(read(old.path()).unwrap_err().contains("60 s old"));
        assert!(read(Path::new("/nowhere/status")).unwrap_err().contains(FILE_VARIABLE));
    }
}
