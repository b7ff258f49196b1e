//! Events as lines: to standard output, or to a file that is appended to.
//!
//! One event a line; tombstones and schemas, which only a compacted topic has a use for, are left out. At least once: the
//! checkpoint moves after the events were written (a file: synced), so that a crash repeats the last ones, each with the same
//! `id`. A last line that a crash cut short is removed before new ones follow (in a file that holds no events of ours yet, which
//! somebody else began, it is ended). A large file is set aside between two transactions ([`Rotation`]).

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::PathBuf;

use super::rotate::{Rotation, sync_folder};
use super::{Changed, OpenSink, OpenedSink, Sink};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::file::{CheckpointFile, no_room};
use crate::config::RotateConfig;
use crate::error::{RunError, RunErrorClass};
use crate::fail;
use crate::pipeline::Encoded;

/// Where lines go.
#[derive(Debug, Clone)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// This file, and when it is set aside.
    File(PathBuf, Option<RotateConfig>),
}

/// Settings of a line sink.
#[derive(Debug, Clone)]
pub struct LineSettings {
    /// Name of the source.
    pub source: String,
    /// Where lines go.
    pub target: Target,
    /// Folder of the checkpoint file; none to keep no checkpoint at all (a look at the stream that leaves no trace).
    pub state: Option<PathBuf>,
}

impl OpenSink for LineSettings {
    fn open(&mut self, _: bool) -> Result<OpenedSink, RunError> {
        let (state, checkpoint) = match &self.state {
            Some(folder) => {
                let (file, checkpoint) = CheckpointFile::open(folder, &self.source)?;
                (Some(file), checkpoint)
            }
            None => (None, None),
        };
        let output = match &self.target {
            Target::Stdout => Output::Stdout(BufWriter::with_capacity(1 << 16, std::io::stdout())),
            Target::File(path, rotate) => {
                if rotate.is_some() && path.is_symlink() {
                    return Err(RunError::definite(format!(
                        "{} is a symbolic link, which can't be set aside with what it points to; repair: name the file itself in \
                         `sink.path`, or leave `sink.rotate` out",
                        path.display()
                    )));
                }
                Output::File(EventFile::open(path, *rotate, checkpoint.is_some())?)
            }
        };
        Ok(OpenedSink { sink: Box::new(Lines { output, state }), checkpoint, generation: 0 })
    }
}

/// The file that is written to.
struct EventFile {
    out: BufWriter<File>,
    path: PathBuf,
    /// Pipes and devices have nothing to sync or to set aside.
    is_regular: bool,
    bytes: u64,
    rotation: Option<Rotation>,
}

impl EventFile {
    /// `ours`: events of ours may be in it, so that a line without an end is one that a crash cut short.
    fn open(path: &PathBuf, rotate: Option<RotateConfig>, ours: bool) -> Result<Self, RunError> {
        let file = open_whole_lines(path, ours).map_err(|error| {
            let message = format!("can't append to {}: {error}", path.display());
            if no_room(&error) {
                RunError::transient(message)
            } else {
                RunError::definite(format!("{message}; repair: `sink.path`"))
            }
        })?;
        let metadata = file.metadata().ok();
        let is_regular = metadata.as_ref().is_some_and(std::fs::Metadata::is_file);
        let bytes = metadata.map_or(0, |metadata| metadata.len());
        let rotation = rotate.filter(|_| is_regular).map(|config| Rotation::new(path, config));
        Ok(Self { out: BufWriter::with_capacity(1 << 16, file), path: path.clone(), is_regular, bytes, rotation })
    }

    fn sync(&mut self) -> std::io::Result<()> {
        self.out.flush()?;
        // a device says with an error that it has nothing to sync
        if self.is_regular { self.out.get_ref().sync_data() } else { Ok(()) }
    }

    /// Sets the file aside if it is large enough. All of it is on disk, and ends with a transaction.
    fn rotate(&mut self) -> std::io::Result<()> {
        let Some(rotation) = self.rotation.as_ref().filter(|rotation| rotation.is_due(self.bytes)) else {
            return Ok(());
        };
        rotation.set_aside()?;
        self.out = BufWriter::with_capacity(1 << 16, open_whole_lines(&self.path, true)?);
        self.bytes = 0;
        tracing::debug!(file = %self.path.display(), "set aside");
        Ok(())
    }
}

/// Opens for appending. A last line without an end is removed if it is ours, since its event is sent again; else ended.
fn open_whole_lines(path: &PathBuf, ours: bool) -> std::io::Result<File> {
    let is_new = !path.exists();
    let mut file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
    if !file.metadata()?.is_file() {
        return Ok(file);
    }
    if is_new {
        sync_folder(path)?;
    }
    let length = file.seek(SeekFrom::End(0))?;
    let whole = whole_lines(&mut file, length)?;
    if whole < length {
        if ours {
            file.set_len(whole)?;
        } else {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

/// The length without a last line that has no end.
fn whole_lines(file: &mut File, length: u64) -> std::io::Result<u64> {
    let mut block = [0; 1 << 13];
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        file.seek(SeekFrom::Start(start))?;
        let block = block.get_mut(..usize::try_from(end - start).unwrap_or(0)).unwrap_or_default();
        file.read_exact(block)?;
        if let Some(at) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

enum Output {
    Stdout(BufWriter<std::io::Stdout>),
    File(EventFile),
}

struct Lines {
    output: Output,
    state: Option<CheckpointFile>,
}

impl Lines {
    fn failed(&self, error: &std::io::Error) -> RunError {
        match &self.output {
            Output::Stdout(_) if error.kind() == ErrorKind::BrokenPipe => RunError {
                class: RunErrorClass::OutputClosed,
                message: "the reader of standard output has gone".into(),
            },
            Output::Stdout(_) => RunError::transient(format!("can't write to standard output: {error}")),
            Output::File(file) => {
                RunError::transient(format!("can't write events to {}: {error}", file.path.display()))
            }
        }
    }

    fn write(&mut self, encoded: &Encoded, records: Range<usize>) -> std::io::Result<()> {
        let mut bytes = 0;
        let out: &mut dyn Write = match &mut self.output {
            Output::Stdout(out) => out,
            Output::File(file) => &mut file.out,
        };
        for record in encoded.records.get(records).unwrap_or(&[]) {
            if let Some([head, value]) = encoded.parts(record) {
                out.write_all(head)?;
                out.write_all(value)?;
                out.write_all(b"\n")?;
                bytes += (head.len() + value.len()) as u64 + 1;
            }
        }
        if let Output::File(file) = &mut self.output {
            file.bytes += bytes;
        }
        Ok(())
    }

    fn sync(&mut self) -> std::io::Result<()> {
        match &mut self.output {
            Output::Stdout(out) => out.flush(),
            Output::File(file) => file.sync(),
        }
    }
}

impl Sink for Lines {
    fn prepare(&mut self, _: &Encoded, _: Range<usize>) -> Result<(), RunError> {
        Ok(())
    }

    fn largest(&mut self, _: &str) -> Result<usize, RunError> {
        Ok(usize::MAX)
    }

    fn stage(&mut self, encoded: &Encoded, records: Range<usize>) -> Result<(), RunError> {
        self.write(encoded, records).map_err(|error| self.failed(&error))
    }

    fn stage_schema(&mut self, _: &str, _: &str, _: &[u8]) -> Result<(), RunError> {
        Ok(())
    }

    fn commit(&mut self, checkpoint: &Checkpoint, _: Changed) -> Result<(), RunError> {
        self.sync().map_err(|error| self.failed(&error))?;
        fail::point("file.synced");
        if let Some(file) = &self.state {
            file.write(checkpoint)?;
        }
        // a transaction of which a part is out stays in one file
        let between = checkpoint.position.as_ref().is_none_or(|position| position.inside.is_none());
        match &mut self.output {
            Output::File(file) if between => file.rotate().map_err(|error| self.failed(&error)),
            _ => Ok(()),
        }
    }

    fn serve(&mut self) -> Result<(), RunError> {
        Ok(())
    }

    fn takes_back(&self) -> bool {
        false
    }
}
