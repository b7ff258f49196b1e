//! The status file: what `rowcast health` reads, for a container's health check.
//!
//! Guarantees: the file says what is the case now, or is visibly stale: it is replaced atomically at every change and every
//! [`REFRESH`] besides, so that a daemon that hangs or died doesn't pass for a healthy one. It works without a network and
//! whatever `admin` is set to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{State, Status};

/// Names the file; without it none is written.
pub const FILE_VARIABLE: &str = "ROWCAST_STATUS_FILE";
/// How often the file is renewed.
pub const REFRESH: Duration = Duration::from_secs(2);
/// The age from which the file says nothing any more.
const STALE: Duration = Duration::from_secs(10);

/// The file's content.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    /// Seconds since 1970.
    at: u64,
    sources: BTreeMap<String, State>,
}

impl Status {
    /// Keeps the file current until dropped. A file that can't be written is logged once.
    pub async fn keep_file(self, path: PathBuf) {
        let mut changes = self.changes();
        let mut complained = false;
        loop {
            changes.mark_unchanged();
            let sources = self.states().into_iter().map(|(name, now)| (name, now.state)).collect();
            if let Err(error) = write(&path, &Report { at: now(), sources })
                && !complained
            {
                complained = true;
                tracing::warn!(file = %path.display(), "can't write the status file: {error}; see {FILE_VARIABLE}");
            }
            let _ = tokio::time::timeout(REFRESH, changes.changed()).await;
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
    // a clock that was set back doesn't make an old file new: a living daemon writes it again soon
    let age = now().abs_diff(report.at);
    if age > STALE.as_secs() {
        let is = if report.at > now() { "of a time that comes in" } else { "old by" };
        return Err(format!("{shown} is {is} {age} s: the daemon hangs or has ended"));
    }
    let line = |(source, state): (&String, &State)| match state.why() {
        Some(why) => format!("{source}: {}: {why}", state.name()),
        None => format!("{source}: {}", state.name()),
    };
    let well = !report.sources.is_empty() && report.sources.values().all(State::is_ready);
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
    fn all_is_well_only_while_every_source_works() {
        let waiting = State::Waiting { why: "no route".into(), until: None };
        for (states, well) in [
            (sources(&[("a", State::Streaming), ("b", State::Backfilling { tables_left: 2 })]), true),
            (sources(&[("a", State::Streaming), ("b", State::Starting { why: None })]), false),
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
        assert!(read(old.path()).unwrap_err().contains("old by 60 s"));
        let future = file(&Report { at: now() + 3600, sources: sources(&[("a", State::Streaming)]) });
        assert!(read(future.path()).unwrap_err().contains("hangs or has ended"));
        assert!(read(Path::new("/nowhere/status")).unwrap_err().contains(FILE_VARIABLE));
    }
}
