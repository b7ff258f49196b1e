//! Held events: what the stream says of a table without a key while the table is copied.
//!
//! Such a table is read whole, in one transaction. Events that this read sees are in its rows already and are left out; all
//! others are kept in a file, in order, and published behind the last row. The file is in `state_dir`, has no name (so that nothing
//! is left behind by a crash), and is dropped when it is empty. A crash loses nothing: the copy of such a table begins anew with a
//! later read.
//!
//! Memory: a few dozen bytes per transaction until the stream has passed the read's bound, and one slice of events. Fails
//! transiently when the disk is full.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rowcast_core::Transaction;
use rowcast_core::backfill::{Offset, Reading, Sight};

use crate::error::RunError;
use crate::pipeline::{Destination, Encoded, HeaderName, Record, RecordHeader};

/// Bytes of records that are published at once.
const SLICE: usize = 256 << 10;

/// The held events of one table.
#[derive(Debug)]
pub struct Hold {
    folder: PathBuf,
    write: BufWriter<File>,
    written: u64,
    replayed: u64,
    destinations: Vec<Arc<Destination>>,
    /// Number of the transaction in progress.
    current: u64,
    /// Transactions before this one are seen by the read that counts.
    covered: u64,
    /// The transaction in progress has an event here.
    touched: bool,
    /// Transactions whose sight isn't final.
    undecided: Vec<(u64, Arc<Transaction>, Offset)>,
    /// Transactions that the read sees.
    seen: HashSet<u64>,
    reading: Option<Arc<Reading>>,
}

impl Hold {
    /// An empty one with a file in `folder`.
    ///
    /// # Errors
    /// Transient, if the file can't be made.
    pub fn new(folder: &Path) -> Result<Self, RunError> {
        let failed = |error: std::io::Error| failed(folder, &error);
        std::fs::create_dir_all(folder).map_err(failed)?;
        let file = tempfile::tempfile_in(folder).map_err(failed)?;
        Ok(Self {
            folder: folder.to_owned(),
            write: BufWriter::new(file),
            written: 0,
            replayed: 0,
            destinations: Vec::new(),
            current: 0,
            covered: 0,
            touched: false,
            undecided: Vec::new(),
            seen: HashSet::new(),
            reading: None,
        })
    }

    /// Keeps a record of the transaction in progress.
    ///
    /// # Errors
    /// Transient, if it can't be written.
    pub fn push(&mut self, encoded: &Encoded, record: &Record) -> Result<(), RunError> {
        let Some(destination) = encoded.destinations.get(record.destination as usize) else { return Ok(()) };
        let index = self.destinations.iter().position(|known| Arc::ptr_eq(known, destination)).unwrap_or_else(|| {
            self.destinations.push(Arc::clone(destination));
            self.destinations.len() - 1
        });
        let bytes = |range: &Option<std::ops::Range<usize>>| {
            range.clone().and_then(|range| encoded.buf.get(range)).unwrap_or(&[])
        };
        let (key, [before, value]) = (bytes(&record.key), encoded.parts(record).unwrap_or_default());
        let mut headers = Vec::new();
        for header in &record.headers {
            let (name, value) = (header.name.as_str().as_bytes(), header.value.as_ref().map(|_| bytes(&header.value)));
            headers.extend_from_slice(&(name.len() as u64).to_le_bytes());
            headers.extend_from_slice(&value.map_or(NO_VALUE, |value| value.len() as u64).to_le_bytes());
            headers.extend_from_slice(name);
            headers.extend_from_slice(value.unwrap_or_default());
        }
        let flags = u32::from(record.key.is_some())
            | u32::from(record.value.is_some()) << 1
            | u32::from(record.to_all_partitions) << 2;
        let mut head = [0_u8; HEAD];
        let lengths = [key.len() as u64, (before.len() + value.len()) as u64, headers.len() as u64];
        let [key_length, value_length, headers_length] = lengths;
        let fields = [self.current, u64::from(flags), index as u64, key_length, value_length, headers_length];
        for (place, field) in head.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        self.touched = true;
        let written = self
            .write
            .write_all(&head)
            .and_then(|()| self.write.write_all(key))
            .and_then(|()| self.write.write_all(before))
            .and_then(|()| self.write.write_all(value))
            .and_then(|()| self.write.write_all(&headers));
        written.map_err(|error| failed(&self.folder, &error))?;
        self.written += HEAD as u64 + lengths.iter().sum::<u64>();
        Ok(())
    }

    /// The transaction in progress ended.
    pub fn commit(&mut self, transaction: &Arc<Transaction>, end: Offset) {
        if std::mem::take(&mut self.touched) {
            let number = self.current;
            match &self.reading {
                // behind the bound nothing is seen
                Some(reading) if end > reading.bound => {}
                _ => self.undecided.push((number, Arc::clone(transaction), end)),
            }
        }
        self.current += 1;
    }

    /// The copy began anew: its next read sees all that was held until now.
    pub fn cover(&mut self) {
        self.covered = self.current;
        self.undecided.retain(|(number, ..)| *number >= self.current);
        self.seen.clear();
        self.reading = None;
    }

    /// The copy won't be completed: nothing that was held is in its rows, as far as anybody can rely on them.
    pub fn give_up(&mut self) {
        self.covered = 0;
        self.seen.clear();
    }

    /// The stream has passed the bound of the read of which this is the first piece to be published. False if nobody can tell
    /// whether it sees one of the transactions here: then it must be read again.
    pub fn decide(&mut self, reading: &Arc<Reading>) -> bool {
        if self.reading.as_ref().is_some_and(|known| Arc::ptr_eq(known, reading)) {
            return true;
        }
        let sights: Vec<(u64, Sight)> = self
            .undecided
            .iter()
            .map(|(number, transaction, end)| (*number, reading.sight(transaction, *end)))
            .collect();
        if sights.iter().any(|(_, sight)| *sight == Sight::Unknown) {
            return false;
        }
        self.seen.clear();
        self.seen.extend(sights.iter().filter(|(_, sight)| *sight == Sight::Seen).map(|(number, _)| *number));
        self.undecided.clear();
        self.reading = Some(Arc::clone(reading));
        true
    }

    /// Everything is published.
    pub fn is_empty(&self) -> bool {
        self.replayed >= self.written
    }

    /// The next events to be published; none if there are no more. Between transactions.
    ///
    /// # Errors
    /// Transient, if the file can't be read.
    pub fn next_slice(&mut self) -> Result<Option<Encoded>, RunError> {
        let mut out = Encoded { destinations: self.destinations.clone(), ..Encoded::default() };
        let result = self.write.flush().and_then(|()| {
            while out.buf.len() < SLICE && self.replayed < self.written {
                self.take(&mut out)?;
            }
            Ok(())
        });
        result.map_err(|error| failed(&self.folder, &error))?;
        Ok(if out.records.is_empty() && self.is_empty() { None } else { Some(out) })
    }

    fn take(&mut self, out: &mut Encoded) -> std::io::Result<()> {
        let mut head = [0_u8; HEAD];
        // at its place: the writer's own offset stays where it is
        self.write.get_ref().read_exact_at(&mut head, self.replayed)?;
        let mut fields = head.chunks_exact(8).map(|field| u64::from_le_bytes(field.try_into().unwrap_or_default()));
        let mut field = || fields.next().unwrap_or_default();
        let (number, flags, destination) = (field(), field(), field());
        let (key, value, headers) = (field() as usize, field() as usize, field() as usize);
        let at = self.replayed + HEAD as u64;
        self.replayed = at + (key + value + headers) as u64;
        if number < self.covered || self.seen.contains(&number) {
            return Ok(());
        }
        let start = out.buf.len();
        out.buf.resize(start + key + value + headers, 0);
        if let Some(space) = out.buf.get_mut(start..) {
            self.write.get_ref().read_exact_at(space, at)?;
        }
        let middle = start + key;
        out.records.push(Record {
            destination: destination as u32,
            key: (flags & 1 != 0).then_some(start..middle),
            value: (flags & 2 != 0).then_some(middle..middle + value),
            head: 0,
            to_all_partitions: flags & 4 != 0,
            headers: headers_of(&out.buf, middle + value),
        });
        Ok(())
    }
}

/// Six numbers in front of a record's bytes.
const HEAD: usize = 48;

/// In the place of the length of a header's value, if it has none.
const NO_VALUE: u64 = u64::MAX;

/// The headers that the buffer holds from a place to its end.
fn headers_of(buf: &[u8], from: usize) -> Box<[RecordHeader]> {
    let (mut headers, mut at) = (Vec::new(), from);
    let length = |at: usize| buf.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
    while let (Some(name), Some(value)) = (length(at), length(at + 8)) {
        let start = at + 16;
        let middle = start.saturating_add(name as usize);
        let end = if value == NO_VALUE { middle } else { middle.saturating_add(value as usize) };
        let Some(name) = buf.get(start..middle) else { break };
        headers.push(RecordHeader {
            name: HeaderName::Given(Arc::from(&*String::from_utf8_lossy(name))),
            value: (value != NO_VALUE).then_some(middle..end),
        });
        at = end;
    }
    headers.into_boxed_slice()
}

fn failed(folder: &Path, error: &std::io::Error) -> RunError {
    RunError::transient(format!(
        "can't keep the events of a table without a key that is being copied in {}: {error}; repair: make room there, or set \
         `state_dir` to a folder with room",
        folder.display()
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rowcast_core::backfill::Snapshot;
    use rowcast_core::{Lsn, Mark};

    use super::*;
    use crate::pipeline::Destination;

    fn transaction(xid: u32) -> Arc<Transaction> {
        let mark = Mark::Lsn(Lsn(1));
        Arc::new(Transaction {
            id: xid.to_string(),
            xid: Some(xid),
            pos: xid.to_string(),
            mark,
            commit_us: 0,
            facts: rowcast_core::TransactionFacts::default(),
        })
    }

    fn event(text: &str) -> Encoded {
        let destination = Destination::plain("t");
        let value = Some(0..text.len());
        let record = Record { value, ..Record::default() };
        Encoded {
            buf: text.as_bytes().to_vec(),
            records: vec![record],
            destinations: vec![destination],
            ..Encoded::default()
        }
    }

    fn reading(xmax: u64) -> Arc<Reading> {
        let snapshot = Snapshot::Xids { xmin: xmax, xmax, running: vec![] };
        Arc::new(Reading {
            snapshot,
            bound: Offset { file: 0, byte: 25 },
            pos: String::new(),
            file: String::new(),
            now_us: 0,
        })
    }

    fn all(hold: &mut Hold) -> Vec<String> {
        let mut found = Vec::new();
        while let Some(slice) = hold.next_slice().unwrap() {
            for record in &slice.records {
                let bytes = slice.buf.get(record.value.clone().unwrap()).unwrap();
                found.push(String::from_utf8(bytes.to_vec()).unwrap());
            }
        }
        found
    }

    #[test]
    fn headers_come_back_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let mut hold = Hold::new(folder.path()).unwrap();
        let mut encoded = event("event{}1");
        let header = |name, value| RecordHeader { name: HeaderName::Known(name), value };
        for record in &mut encoded.records {
            record.headers = Box::from([header("key", Some(5..7)), header("none", None), header("n", Some(7..8))]);
        }
        hold.push(&encoded, encoded.records.first().unwrap()).unwrap();
        hold.commit(&transaction(5), Offset { file: 0, byte: 10 });
        assert!(hold.decide(&reading(2)));
        let slice = hold.next_slice().unwrap().unwrap();
        let headers = slice.records.first().unwrap().headers.iter();
        let found: Vec<_> = headers
            .map(|header| (header.name.as_str(), header.value.clone().map(|range| slice.buf.get(range).unwrap())))
            .collect();
        assert_eq!(found, [("key", Some(&b"{}"[..])), ("none", None), ("n", Some(b"1"))]);
    }

    #[test]
    fn what_the_read_sees_is_left_out_and_the_rest_keeps_its_order() {
        let folder = tempfile::tempdir().unwrap();
        let mut hold = Hold::new(folder.path()).unwrap();
        for (xid, end) in [(1, 10), (2, 20), (3, 30)] {
            let encoded = event(&format!("event {xid}"));
            hold.push(&encoded, encoded.records.first().unwrap()).unwrap();
            hold.commit(&transaction(xid), Offset { file: 0, byte: end });
        }
        assert!(hold.decide(&reading(2)));
        assert_eq!(all(&mut hold), ["event 2", "event 3"]);
        assert!(hold.is_empty());
        let encoded = event("later");
        hold.push(&encoded, encoded.records.first().unwrap()).unwrap();
        hold.commit(&transaction(4), Offset { file: 0, byte: 40 });
        assert_eq!(all(&mut hold), ["later"]);
    }

    #[test]
    fn a_copy_that_begins_anew_sees_all_that_was_held_until_then_and_one_that_ends_gives_all_back() {
        let folder = tempfile::tempdir().unwrap();
        let held = |hold: &mut Hold, xid: u32| {
            let encoded = event(&format!("event {xid}"));
            hold.push(&encoded, encoded.records.first().unwrap()).unwrap();
            hold.commit(&transaction(xid), Offset { file: 0, byte: u64::from(xid) * 10 });
        };
        for (given_up, expected) in
            [(false, ["event 4"].as_slice()), (true, &["event 1", "event 2", "event 3", "event 4"])]
        {
            let mut hold = Hold::new(folder.path()).unwrap();
            held(&mut hold, 1);
            assert!(hold.decide(&reading(1)));
            held(&mut hold, 2);
            // the read failed; the next one begins behind the second transaction and sees the third
            hold.cover();
            held(&mut hold, 3);
            held(&mut hold, 4);
            assert!(hold.decide(&reading(4)));
            if given_up {
                hold.give_up();
            }
            assert_eq!(all(&mut hold), expected);
        }
    }

    #[test]
    fn a_read_of_which_nobody_can_tell_what_it_sees_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut hold = Hold::new(folder.path()).unwrap();
        let encoded = event("x");
        hold.push(&encoded, encoded.records.first().unwrap()).unwrap();
        hold.commit(&transaction(1), Offset { file: 0, byte: 10 });
        let snapshot = Snapshot::AtLeast(rowcast_core::GtidSet::default());
        let unknown = Arc::new(Reading { snapshot, ..Reading::clone(&reading(1)) });
        assert!(!hold.decide(&unknown));
        assert!(hold.decide(&reading(1)));
    }
}
