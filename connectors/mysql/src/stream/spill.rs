//! Bytes that have to wait for the end of something: in memory while they are few, else in a file without a name.
//!
//! What waits: transactions of which it isn't known yet whether they commit ([`super::keep`]), and compressed transactions of many
//! packets. Nothing is left behind by a crash: the server sends it all again. Bounded by `source.spill_limit` for all of a source
//! together; beyond it the source stops with the repair, since only room helps.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Where;
use rowcast_core::SourceError;

/// Bytes that are written at once.
const WRITE: usize = 256 << 10;
/// Bytes that may stay in memory while nothing is added.
const RESTING: usize = 16 << 10;

/// Where such bytes are kept, and how many.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    folder: PathBuf,
    limit: u64,
    used: Arc<AtomicU64>,
}

/// Why bytes can't be kept.
#[derive(Debug)]
pub(crate) enum NoRoom {
    /// The bound of all together.
    Limit(u64),
    /// The disk.
    Disk(PathBuf, io::Error),
}

impl NoRoom {
    /// The error for the operator; `what` is it that needs the room.
    pub(crate) fn explain(self, place: &Where, what: &str) -> SourceError {
        match self {
            NoRoom::Limit(limit) => place
                .definite(format_args!(
                    "{what}: what has to be kept until it is known whether it commits takes more than `source.spill_limit` \
                     ({limit} bytes)"
                ))
                .repair("raise `source.spill_limit`, or end XA transactions that were prepared long ago (XA RECOVER)"),
            NoRoom::Disk(folder, error) => place.transient(format_args!("{what}: {}: {error}", folder.display())),
        }
    }
}

impl Room {
    pub(crate) fn new(folder: PathBuf, limit: u64) -> Self {
        Self { folder, limit, used: Arc::default() }
    }
}

/// Such bytes.
#[derive(Debug)]
pub(crate) struct Spill {
    room: Room,
    file: Option<File>,
    /// Bytes in the file.
    written: u64,
    /// Those behind them.
    buffer: Vec<u8>,
}

impl Spill {
    pub(crate) fn new(room: Room) -> Self {
        Self { room, file: None, written: 0, buffer: Vec::new() }
    }

    pub(crate) fn len(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Adds bytes.
    pub(crate) fn push(&mut self, parts: &[&[u8]]) -> Result<(), NoRoom> {
        let bytes = parts.iter().map(|part| part.len() as u64).sum::<u64>();
        let used = self.room.used.fetch_add(bytes, Ordering::Relaxed);
        for part in parts {
            self.buffer.extend_from_slice(part);
        }
        if used.saturating_add(bytes) > self.room.limit {
            return Err(NoRoom::Limit(self.room.limit));
        }
        if self.buffer.len() >= WRITE { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), NoRoom> {
        let failed = |error| NoRoom::Disk(self.room.folder.clone(), error);
        let file = match self.file.take() {
            Some(file) => file,
            None => std::fs::create_dir_all(&self.room.folder)
                .and_then(|()| tempfile::tempfile_in(&self.room.folder))
                .map_err(failed)?,
        };
        file.write_all_at(&self.buffer, self.written).map_err(failed)?;
        self.file = Some(file);
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Forgets all behind the first `length` bytes.
    pub(crate) fn truncate(&mut self, length: u64) {
        let gone = self.len().saturating_sub(length);
        self.room.used.fetch_sub(gone, Ordering::Relaxed);
        match length.checked_sub(self.written) {
            Some(rest) => self.buffer.truncate(usize::try_from(rest).unwrap_or(usize::MAX)),
            None => {
                // the file's bytes behind are overwritten, or never read
                self.buffer.clear();
                self.written = length;
            }
        }
    }

    /// Nothing is added for a while: gives memory back.
    pub(crate) fn rest(&mut self) -> Result<(), NoRoom> {
        if self.buffer.len() > RESTING {
            self.flush()?;
        }
        self.buffer.shrink_to_fit();
        Ok(())
    }

    /// Reads it from the beginning.
    pub(crate) fn read(self) -> SpillReader {
        SpillReader { spill: self, at: 0 }
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        self.room.used.fetch_sub(self.len(), Ordering::Relaxed);
    }
}

/// Reads such bytes.
#[derive(Debug)]
pub(crate) struct SpillReader {
    spill: Spill,
    at: u64,
}

impl SpillReader {
    /// Goes on here.
    pub(crate) fn skip_to(&mut self, at: u64) {
        self.at = at;
    }
}

impl io::Read for SpillReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let Spill { file, written, buffer, .. } = &self.spill;
        let in_file = written.saturating_sub(self.at);
        let count = match file {
            Some(file) if in_file > 0 => {
                let most = usize::try_from(in_file).unwrap_or(usize::MAX).min(out.len());
                let count = file.read_at(out.get_mut(..most).unwrap_or_default(), self.at)?;
                if count == 0 && most > 0 {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a spilled file is shorter than it was"));
                }
                count
            }
            _ => {
                let from = usize::try_from(self.at.saturating_sub(*written)).unwrap_or(usize::MAX);
                let rest = buffer.get(from..).unwrap_or_default();
                let most = rest.len().min(out.len());
                out.get_mut(..most).unwrap_or_default().copy_from_slice(rest.get(..most).unwrap_or_default());
                most
            }
        };
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use std::io::Read;

    use super::*;

    fn room(limit: u64) -> Room {
        Room::new(std::env::temp_dir(), limit)
    }

    #[test]
    fn what_was_kept_is_read_whether_in_memory_or_in_a_file_and_what_was_taken_back_is_not() {
        let room = room(10 << 20);
        for lengths in [vec![10, 20], vec![WRITE, 5], vec![3 * WRITE + 7, 9, WRITE - 1]] {
            let mut spill = Spill::new(room.clone());
            let mut expected = Vec::new();
            for (round, length) in lengths.iter().enumerate() {
                let bytes = vec![round as u8; *length];
                let before = spill.len();
                spill.push(&[&vec![0xee; WRITE + 3]]).unwrap();
                spill.truncate(before);
                spill.push(&[&bytes[..length / 2], &bytes[length / 2..]]).unwrap();
                expected.extend_from_slice(&bytes);
            }
            spill.rest().unwrap();
            assert_eq!(spill.len(), expected.len() as u64);
            let mut found = Vec::new();
            spill.read().read_to_end(&mut found).unwrap();
            assert!(found == expected, "{lengths:?}");
        }
        assert_eq!(room.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_bound_is_for_all_together_and_given_back() {
        let room = room(100);
        let mut first = Spill::new(room.clone());
        first.push(&[&[0; 60]]).unwrap();
        let mut second = Spill::new(room.clone());
        assert!(matches!(second.push(&[&[0; 60]]), Err(NoRoom::Limit(100))));
        drop(second);
        drop(first);
        Spill::new(room.clone()).push(&[&[0; 100]]).unwrap();
        let mut nowhere = Spill::new(Room::new("/dev/null/x".into(), 1 << 30));
        assert!(matches!(nowhere.push(&[&[0; WRITE]]), Err(NoRoom::Disk(..))));
    }
}
