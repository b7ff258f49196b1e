//! Rotation of the file sink: `events.jsonl` becomes `events.jsonl.00000001`, and a new one goes on.
//!
//! Guarantees: a file is set aside only whole, after a commit that lies between two transactions, with its content and its name
//! on disk before anything is written to the next; numbers only grow, so that their order is that of the events; at most `keep`
//! files are set aside, the oldest are deleted. A crash leaves the file under one of its two names. It fails with the
//! file's name, and the next commit tries again.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::config::RotateConfig;

/// Digits of a number, so that names sort as numbers do.
const DIGITS: usize = 8;

/// Where a file's older parts are.
#[derive(Debug)]
pub(super) struct Rotation {
    path: PathBuf,
    config: RotateConfig,
}

impl Rotation {
    pub(super) fn new(path: &Path, config: RotateConfig) -> Self {
        Self { path: path.to_owned(), config }
    }

    /// Whether a file of this size is to be set aside.
    pub(super) fn is_due(&self, bytes: u64) -> bool {
        bytes >= self.config.max_bytes
    }

    /// Gives the file its number, and deletes what is more than may be kept.
    ///
    /// # Errors
    /// The file still has its name, or has it no more and is whole under the other.
    pub(super) fn set_aside(&self) -> std::io::Result<()> {
        let mut older = self.older()?;
        let number = older.last().map_or(1, |(number, _)| number + 1);
        let mut name = self.path.as_os_str().to_owned();
        name.push(format!(".{number:0DIGITS$}"));
        fs::rename(&self.path, &name)?;
        sync_folder(&self.path)?;
        older.push((number, PathBuf::from(name)));
        let most = usize::try_from(self.config.keep).unwrap_or(usize::MAX);
        for (_, path) in older.iter().take(older.len().saturating_sub(most)) {
            // the events in it are too many to keep, not too precious to go on
            if let Err(error) = fs::remove_file(path) {
                tracing::warn!(file = %path.display(), "can't delete an old file of events: {error}");
            }
        }
        Ok(())
    }

    /// The files that were set aside, the oldest first.
    fn older(&self) -> std::io::Result<Vec<(u64, PathBuf)>> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut found = Vec::new();
        for entry in fs::read_dir(folder(&self.path))? {
            let path = entry?.path();
            let number = path
                .file_name()
                .and_then(|other| other.to_str())
                .and_then(|other| other.strip_prefix(name.as_str())?.strip_prefix('.'))
                .filter(|number| number.len() >= DIGITS && number.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|number| number.parse().ok());
            found.extend(number.map(|number: u64| (number, path)));
        }
        found.sort_unstable();
        Ok(found)
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a created or renamed file's name durable.
pub(super) fn sync_folder(path: &Path) -> std::io::Result<()> {
    File::open(folder(path))?.sync_all()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn numbers_grow_the_oldest_go_and_other_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let rotation = Rotation::new(&path, RotateConfig { max_bytes: 10, keep: 2 });
        assert!(!rotation.is_due(9) && rotation.is_due(10));
        let others = ["a.jsonl.1", "a.jsonl.0000000x", "a.jsonl.bak", "b.jsonl.00000001"];
        for other in others {
            fs::write(folder.path().join(other), "other").unwrap();
        }
        for text in ["1", "2", "3", "4"] {
            fs::write(&path, text).unwrap();
            rotation.set_aside().unwrap();
            assert!(!path.exists());
        }
        let mut expected: Vec<&str> = others.to_vec();
        expected.extend(["a.jsonl.00000003", "a.jsonl.00000004"]);
        expected.sort_unstable();
        assert_eq!(names(folder.path()), expected);
        assert_eq!(fs::read_to_string(folder.path().join("a.jsonl.00000004")).unwrap(), "4");
        // a number beyond the digits is the next all the same
        fs::write(folder.path().join("a.jsonl.99999999"), "5").unwrap();
        fs::write(&path, "6").unwrap();
        rotation.set_aside().unwrap();
        assert!(folder.path().join("a.jsonl.100000000").exists());
    }
}
