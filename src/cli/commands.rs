//! The commands, and the exit codes that they end with: 0 stopped on request or nothing wrong, 1 failed at run time, 2 wrong
//! usage or configuration.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::args::{CheckConfigArgs, Cli, Command, HealthArgs, RunArgs};
use super::backfill::backfill;
use super::drop::drop;
use super::import::import;
use super::limits;
use super::status::status;
use super::tail::tail;
use crate::config::{self, Environment, Loaded, SinkConfig, SinkOverride};
use crate::sink::kafka::check_properties;
use crate::status::{FILE_VARIABLE, Status, file};
use crate::{admin, logging, supervisor};

pub(super) const FAILED: u8 = 1;
pub(super) const CONFIGURATION: u8 = 2;
/// After a request to stop: how long until the process ends whatever its sources do.
const LONGEST_STOP: Duration = Duration::from_secs(20);

/// Runs the command of this process' arguments.
pub fn main() -> ExitCode {
    limits::keep_memory_together();
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(FAILED, format_args!("can't start: {error}")),
    };
    let code = match &cli.command {
        Command::Run(args) => run(&cli, args, &runtime),
        Command::CheckConfig(args) => check_config(args, &runtime),
        Command::Backfill(args) => backfill(args, &runtime),
        Command::Tail(args) => tail(args, &runtime),
        Command::Drop(args) => drop(args, &runtime),
        Command::Status(args) => status(args, &runtime),
        Command::Import(args) => import(args, &runtime),
        Command::Health(args) => health(args),
    };
    // blocking calls of a source that didn't end in time must not keep the process
    runtime.shutdown_background();
    code
}

/// Ends with a code and a word for the operator.
pub(super) fn complain(code: u8, what: std::fmt::Arguments<'_>) -> ExitCode {
    // nothing is left to do if the standard error is closed
    let _ = writeln!(std::io::stderr(), "{what}");
    ExitCode::from(code)
}

fn run(cli: &Cli, args: &RunArgs, runtime: &tokio::runtime::Runtime) -> ExitCode {
    let loaded = match config::load(&args.files.request(args.to, Environment::of_process())) {
        Ok(loaded) => loaded,
        Err(errors) => return complain(CONFIGURATION, format_args!("{errors}")),
    };
    // Events on the terminal would be written into the status line.
    if loaded.sources.iter().any(|source| matches!(source.sink, SinkConfig::Stdout)) && std::io::stdout().is_terminal()
    {
        logging::forbid_status_line();
    }
    if let Err(error) = logging::init(&cli.logging(&loaded.shared.logging)) {
        return complain(CONFIGURATION, format_args!("{error}"));
    }
    if let Err(message) = check_kafka(&loaded, runtime) {
        return complain(CONFIGURATION, format_args!("{message}"));
    }
    limits::raise_descriptors(loaded.sources.len());
    let aside = args.to == Some(SinkOverride::Stdout);
    let ended = runtime.block_on(until_stopped(loaded, aside));
    logging::set_status_line(None);
    match ended {
        supervisor::Ended::Stopped => ExitCode::SUCCESS,
        supervisor::Ended::Failed => ExitCode::from(FAILED),
    }
}

async fn until_stopped(loaded: Loaded, aside: bool) -> supervisor::Ended {
    tracing::info!(version = env!("CARGO_PKG_VERSION"), sources = loaded.sources.len(), "rowcast starts");
    let (stop, stopping) = watch::channel(false);
    let status = Status::default();
    supervisor::register(&loaded.sources, &status);
    // a look aside is no daemon that anybody would ask
    let listener = if aside { Ok(None) } else { admin::listen(&loaded.shared.admin).await };
    match listener {
        Ok(Some(listener)) => {
            tokio::spawn(admin::serve(listener, status.clone()));
        }
        Ok(None) => {}
        Err(error) => {
            tracing::error!("{error}");
            return supervisor::Ended::Failed;
        }
    }
    if let Some(file) = std::env::var_os(FILE_VARIABLE) {
        tokio::spawn(status.clone().keep_file(file.into()));
    }
    let mut sources = tokio::spawn(supervisor::run(loaded.sources, aside, status, stopping));
    let ended = tokio::select! {
        ended = &mut sources => Some(ended),
        name = asked_to_stop() => {
            tracing::info!("{name} received: publishing what was read, then stopping");
            let _ = stop.send(true);
            tokio::select! {
                ended = tokio::time::timeout(LONGEST_STOP, &mut sources) => ended.ok(),
                name = asked_to_stop() => {
                    tracing::warn!("{name} received again: stopping at once");
                    None
                }
            }
        }
    };
    match ended {
        Some(Ok(ended)) => ended,
        Some(Err(error)) => {
            tracing::error!("the supervisor failed: {error}: a defect of rowcast");
            supervisor::Ended::Failed
        }
        None => {
            tracing::warn!("stopped before all was published; the next start goes on at the checkpoint");
            supervisor::Ended::Stopped
        }
    }
}

/// Waits for SIGTERM or SIGINT.
async fn asked_to_stop() -> &'static str {
    let wait = |kind| async move {
        match signal(kind) {
            Ok(mut signals) => {
                signals.recv().await;
            }
            // without a handler the signal ends the process by itself
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = wait(SignalKind::terminate()) => "SIGTERM",
        () = wait(SignalKind::interrupt()) => "SIGINT",
    }
}

fn check_config(args: &CheckConfigArgs, runtime: &tokio::runtime::Runtime) -> ExitCode {
    let loaded = match config::load(&args.files.request(None, Environment::of_process())) {
        Ok(loaded) => loaded,
        Err(errors) => return complain(CONFIGURATION, format_args!("{errors}")),
    };
    if let Err(message) = check_kafka(&loaded, runtime) {
        return complain(CONFIGURATION, format_args!("{message}"));
    }
    let mut out = std::io::stdout().lock();
    for source in &loaded.sources {
        if writeln!(out, "{}", config::summary(source)).is_err() {
            break;
        }
    }
    ExitCode::SUCCESS
}

fn health(args: &HealthArgs) -> ExitCode {
    match file::read(&args.file) {
        Ok((lines, true)) => complain(0, format_args!("{}", lines.join("\n"))),
        Ok((lines, false)) if lines.is_empty() => complain(FAILED, format_args!("no source has started yet")),
        Ok((lines, false)) => complain(FAILED, format_args!("{}", lines.join("\n"))),
        Err(message) => complain(FAILED, format_args!("{message}")),
    }
}

/// Only librdkafka knows its properties: a producer is made of them and dropped, unconnected.
fn check_kafka(loaded: &Loaded, runtime: &tokio::runtime::Runtime) -> Result<(), String> {
    let _context = runtime.enter();
    for source in &loaded.sources {
        if let SinkConfig::Kafka(kafka) = &source.sink {
            let settings = supervisor::kafka_settings(&source.name, "check", kafka, source.delivery);
            check_properties(&settings).map_err(|error| format!("{}: {error}", source.file.display()))?;
        }
    }
    Ok(())
}
