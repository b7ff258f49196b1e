//! The checkpoint in a file, for sinks without transactions.
//!
//! Guarantees: after a crash at any moment the file holds the old or the new record, whole (written beside, synced, renamed,
//! folder synced); only one process uses it at a time (locked). Fails with the file's name.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::Checkpoint;
use crate::error::RunError;
use crate::fail;

/// Whether the disk is full, which may pass.
pub(crate) fn no_room(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// A source's checkpoint file, locked for this process.
#[derive(Debug)]
pub struct CheckpointFile {
    folder: PathBuf,
    path: PathBuf,
    beside: PathBuf,
    /// Held for the lock.
    _lock: File,
}

impl CheckpointFile {
    /// Locks the file and reads the checkpoint in it, if any.
    ///
    /// # Errors
    /// Definite if another process holds it, if it can't be read or written, or if it holds something else; transient if the
    /// disk is full.
    pub fn open(folder: &Path, source: &str) -> Result<(Self, Option<Checkpoint>), RunError> {
        let path = folder.join(format!("{source}.checkpoint.json"));
        let failed = |what: &str, path: &Path, error: &std::io::Error| {
            let message = format!("can't {what} {}: {error}", path.display());
            if no_room(error) {
                RunError::transient(message)
            } else {
                RunError::definite(format!("{message}; repair: `state_dir`"))
            }
        };
        std::fs::create_dir_all(folder).map_err(|error| failed("create the folder", folder, &error))?;
        let lock_path = folder.join(format!("{source}.lock"));
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(|error| failed("open", &lock_path, &error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(RunError::definite(format!(
                    "source `{source}` is already run by another process, which holds {}; repair: stop that process, or give this \
                     source another `name` or `state_dir`",
                    lock_path.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(failed("lock", &lock_path, &error)),
        }
        let checkpoint = match std::fs::read(&path) {
            Ok(bytes) => Some(Checkpoint::from_bytes(&bytes, source, &path.display().to_string())?),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(failed("read", &path, &error)),
        };
        let beside = path.with_extension("json.new");
        Ok((Self { folder: folder.to_owned(), path, beside, _lock: lock }, checkpoint))
    }

    /// Replaces the checkpoint; on return it is on disk.
    ///
    /// # Errors
    /// Transient (a full disk may get room): the old checkpoint is still there.
    pub fn write(&self, checkpoint: &Checkpoint) -> Result<(), RunError> {
        self.replace(&checkpoint.to_bytes(true)).map_err(|error| {
            RunError::transient(format!("can't write the checkpoint {}: {error}", self.path.display()))
        })
    }

    fn replace(&self, bytes: &[u8]) -> std::io::Result<()> {
        let mut file = File::create(&self.beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fail::point("file.written");
        std::fs::rename(&self.beside, &self.path)?;
        File::open(&self.folder)?.sync_all()
    }
}
