//! Events as lines: to standard output, or to a file that is appended to.
//!
//! One event a line; tombstones and schemas, which only a compacted topic has a use for, are left out. At least once: the
//! checkpoint moves after the events were written (a file: synced), so that a crash repeats the last ones, each with the same
//! `id`. A last line that a crash cut short is ended before new ones follow.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::PathBuf;

use super::{OpenSink, OpenedSink, Sink};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::file::{CheckpointFile, no_room};
use crate::error::{RunError, RunErrorClass};
use crate::pipeline::Encoded;

/// Where lines go.
#[derive(Debug, Clone)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// This file.
    File(PathBuf),
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
    fn open(&mut self) -> Result<OpenedSink, RunError> {
        let (state, checkpoint) = match &self.state {
            Some(folder) => {
                let (file, checkpoint) = CheckpointFile::open(folder, &self.source)?;
                (Some(file), checkpoint)
            }
            None => (None, None),
        };
        let output = match &self.target {
            Target::Stdout => Output::Stdout(BufWriter::with_capacity(1 << 16, std::io::stdout())),
            Target::File(path) => {
                let file = open_whole_lines(path).map_err(|error| {
                    let message = format!("can't append to {}: {error}", path.display());
                    if no_room(&error) {
                        RunError::transient(message)
                    } else {
                        RunError::definite(format!("{message}; repair: `sink.path`"))
                    }
                })?;
                let is_regular = file.metadata().is_ok_and(|metadata| metadata.is_file());
                Output::File { out: BufWriter::with_capacity(1 << 16, file), path: path.clone(), is_regular }
            }
        };
        Ok(OpenedSink { sink: Box::new(Lines { output, state }), checkpoint })
    }
}

/// Opens for appending, and ends a last line that a crash cut short: its event is sent again whole.
fn open_whole_lines(path: &PathBuf) -> std::io::Result<File> {
    let mut file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
    if file.metadata()?.is_file() && file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

enum Output {
    Stdout(BufWriter<std::io::Stdout>),
    File { out: BufWriter<File>, path: PathBuf, is_regular: bool },
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
            Output::File { path, .. } => {
                RunError::transient(format!("can't write events to {}: {error}", path.display()))
            }
        }
    }

    fn write(&mut self, encoded: &Encoded, records: Range<usize>) -> std::io::Result<()> {
        let out: &mut dyn Write = match &mut self.output {
            Output::Stdout(out) => out,
            Output::File { out, .. } => out,
        };
        for record in encoded.records.get(records).unwrap_or(&[]) {
            if let Some(value) = record.value.clone().and_then(|range| encoded.buf.get(range)) {
                out.write_all(value)?;
                out.write_all(b"\n")?;
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> std::io::Result<()> {
        match &mut self.output {
            Output::Stdout(out) => out.flush(),
            Output::File { out, is_regular, .. } => {
                out.flush()?;
                // pipes and /dev/null have nothing to sync, and say so with an error
                if *is_regular { out.get_ref().sync_data() } else { Ok(()) }
            }
        }
    }
}

impl Sink for Lines {
    fn stage(&mut self, encoded: &Encoded, records: Range<usize>) -> Result<(), RunError> {
        self.write(encoded, records).map_err(|error| self.failed(&error))
    }

    fn stage_schema(&mut self, _: &str, _: &str, _: &[u8]) -> Result<(), RunError> {
        Ok(())
    }

    fn commit(&mut self, checkpoint: &Checkpoint, _: bool) -> Result<(), RunError> {
        self.sync().map_err(|error| self.failed(&error))?;
        match &self.state {
            Some(file) => file.write(checkpoint),
            None => Ok(()),
        }
    }

    fn serve(&mut self) -> Result<(), RunError> {
        Ok(())
    }

    fn takes_back(&self) -> bool {
        false
    }
}
