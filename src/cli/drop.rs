//! `rowcast drop`: removes what a source has on its PostgreSQL server, the slot and the publication. No other command does.
//!
//! It refuses while a daemon runs the source (it answers on the source's socket) or anybody streams from the slot, and says what
//! was removed and what is left: the events, the schemas and the checkpoint, which are the operator's to delete. While the checkpoint
//! is there, a start without the slot is a gap, so that dropping by mistake is noticed and never skips a change.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::commands::{CONFIGURATION, FAILED, complain};
use super::named::{named, of_file};
use crate::backfill::control;
use crate::config::{CHECKPOINT_PREFIX, SinkConfig, SourceConfig, SourceKind, parse_name};
use crate::{route, supervisor};

pub(super) const EXAMPLES: &str = "\
Examples:
  rowcast drop shop config                         by name, among the files of a folder
  rowcast drop config/sources/shop-postgres.yaml   by file

Removes the replication slot and the publication of a PostgreSQL source, the latter only if rowcast created it, and says what is left.
Stop the daemon first. Afterwards the server keeps no WAL for the source; what it changes from then on is lost to it.
PATH is as for `run`; without one, config in the working directory, else /etc/rowcast.

Exit codes:
  0  nothing of the source is on the server any more, but what others made
  1  the source is in use, or the server refused or could not be reached; it says what was removed
  2  wrong usage or configuration";

/// Arguments of `drop`.
#[derive(Clone, Debug, Args)]
pub struct DropArgs {
    /// The source's name, or its file
    #[arg(value_name = "NAME|FILE")]
    pub source: String,

    /// Source files, or folders of them
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,

    /// What all sources share; default: rowcast.yaml beside the source file, or in the folder above it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

pub(super) fn drop(args: &DropArgs, runtime: &tokio::runtime::Runtime) -> ExitCode {
    let source = match find(args) {
        Ok(source) => source,
        Err(message) => return complain(CONFIGURATION, format_args!("{message}")),
    };
    let SourceKind::Postgres(postgres) = &source.kind else {
        return complain(
            CONFIGURATION,
            format_args!(
                "source `{}` is of type {}: it has nothing on its server that could be removed",
                source.name,
                source.kind.type_name()
            ),
        );
    };
    let socket = control::socket_path(&source.state_dir, &source.name);
    if UnixStream::connect(&socket).is_ok() {
        return complain(
            FAILED,
            format_args!(
                "source `{}` is run by a daemon (it answers at {}): nothing was removed; repair: stop the daemon, or take the source out \
                 of its configuration",
                source.name,
                socket.display()
            ),
        );
    }
    let removed = supervisor::postgres_source(&source, postgres, Vec::new(), false)
        .and_then(|connector| runtime.block_on(connector.remove()));
    match removed {
        Ok(done) => {
            let mut out = std::io::stdout().lock();
            for line in done.iter().chain(&left(&source)) {
                // a reader that went away changes nothing about what was done
                let _ = writeln!(out, "{}: {line}", source.name);
            }
            ExitCode::SUCCESS
        }
        Err(error) => complain(FAILED, format_args!("{}: {error}", source.name)),
    }
}

fn find(args: &DropArgs) -> Result<SourceConfig, String> {
    let path = Path::new(&args.source);
    if args.paths.is_empty() && path.is_file() {
        return of_file(path, args.config.as_ref());
    }
    let name = parse_name(&args.source)
        .map_err(|why| format!("`{}` is neither a file nor a source's name: {why}", args.source))?;
    named("drop", &name, &args.paths, args.config.as_ref())
}

/// What this command doesn't remove.
fn left(source: &SourceConfig) -> Vec<String> {
    let name = &source.name;
    match &source.sink {
        SinkConfig::Kafka(kafka) => vec![
            format!(
                "left in Kafka: its events ({}), and where it was: {CHECKPOINT_PREFIX}{name}, {}",
                kafka.topic,
                route::schema_topic(name)
            ),
            format!(
                "a start finds this checkpoint, and stops at the gap behind it, or copies all tables again (`on_gap: backfill`); to begin \
                 like a new source, delete the topics {CHECKPOINT_PREFIX}{name} and {}",
                route::schema_topic(name)
            ),
        ],
        SinkConfig::File { path, .. } => vec![
            format!("left: its events ({}) and its checkpoint", path.display()),
            format!(
                "a start finds the checkpoint, and stops at the gap behind it; to begin like a new source, delete {}",
                source.state_dir.join(format!("{name}.checkpoint.json")).display()
            ),
        ],
        SinkConfig::Stdout => {
            let checkpoint = source.state_dir.join(format!("{name}.checkpoint.json"));
            vec![format!("left: its checkpoint, {}", checkpoint.display())]
        }
    }
}
