//! The command line: commands, arguments, help. Wrong usage ends with exit code 2, as a wrong configuration does.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::backfill::{self, BackfillArgs};
use super::drop::{self, DropArgs};
use super::import::ImportArgs;
use super::status::{self, StatusArgs};
use super::tail::{self, TailArgs};
use crate::config::{Environment, LogFormat, LoggingConfig, Request, SinkOverride, parse_level};

const EXAMPLES: &str = "\
Examples:
  rowcast run config/sources/shop-postgres.yaml --to stdout   see events as lines, no Kafka needed
  rowcast run config                                          all sources of a folder
  rowcast check-config config                                 find mistakes, show what is in effect
  rowcast status                                              what a running daemon is doing, and how far behind it is
  rowcast backfill shop public.orders                         copy a table again, beside the stream
  rowcast tail shop config --from 10m                         see what is in Kafka
  rowcast drop shop config                                    remove slot and publication of a source that is given up
  rowcast import debezium connector.json                      a source file from a connector's configuration
  ROWCAST__SINK__BROKERS=kafka:9092 rowcast run config        override a key for all sources

Files:
  One YAML file per source. rowcast.yaml in its folder, or in the one above, holds what all share.
  Every key can be overridden with an environment variable ROWCAST__SECTION__KEY=value.

Exit codes:
  0  stopped on request (SIGTERM, SIGINT), or nothing wrong found
  1  failed at run time
  2  wrong usage or configuration";

const RUN_EXAMPLES: &str = "\
Examples:
  rowcast run config/sources/shop-postgres.yaml --to stdout
  rowcast run config
  rowcast run --config /etc/rowcast/rowcast.yaml shop.yaml stock.yaml

A folder stands for its *.yaml and *.yml except rowcast.yaml, and those in its folder sources/.

Exit codes:
  0  stopped on request (SIGTERM, SIGINT)
  1  failed at run time
  2  wrong usage or configuration";

const CHECK_EXAMPLES: &str = "\
Examples:
  rowcast check-config config
  rowcast check-config config/sources/shop-postgres.yaml

Reads files, secrets and environment as `run` does, and connects to nothing.

Exit codes:
  0  nothing wrong
  2  wrong usage or configuration";

/// Change data capture from PostgreSQL, MySQL and MariaDB into Kafka, exactly once
#[derive(Clone, Debug, Parser)]
#[command(name = "rowcast", version, after_help = EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// Log level, or levels by module: info,rowcast_mysql=debug (RUST_LOG wins)
    #[arg(long, global = true, value_name = "LEVEL", value_parser = parse_level)]
    pub log_level: Option<String>,

    /// Form of the log lines on the standard error
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Publish the changes of all given sources until stopped
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// Check the configuration and show what is in effect, without secrets
    #[command(after_help = CHECK_EXAMPLES)]
    CheckConfig(CheckConfigArgs),
    /// Ask a running daemon to copy a table, and how its copies are getting on
    #[command(after_help = backfill::EXAMPLES)]
    Backfill(BackfillArgs),
    /// Print a source's committed events from Kafka, as lines
    #[command(after_help = tail::EXAMPLES)]
    Tail(TailArgs),
    /// Remove a PostgreSQL source's slot and publication from the server
    #[command(after_help = drop::EXAMPLES)]
    Drop(DropArgs),
    /// Ask a running daemon what its sources are doing, and how far behind they are: exit code 0 if all work, else 1
    #[command(after_help = status::EXAMPLES)]
    Status(StatusArgs),
    /// Turn another program's configuration into a source file, and say what becomes of each option
    Import(ImportArgs),
    /// Ask a running daemon's status file whether all sources work: exit code 0 if so, else 1
    Health(HealthArgs),
}

/// Which files are read.
#[derive(Clone, Debug, Args)]
pub struct ConfigArgs {
    /// Source files, or folders of them
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,

    /// What all sources share; default: rowcast.yaml beside the source file, or in the folder above it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Arguments of `run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Which files are read.
    #[command(flatten)]
    pub files: ConfigArgs,

    /// Send events here instead of the configured sink; slot and server id then differ from the configured ones, so that
    /// a running daemon isn't disturbed
    #[arg(long, value_name = "SINK")]
    pub to: Option<SinkOverride>,
}

/// Arguments of `check-config`.
#[derive(Clone, Debug, Args)]
pub struct CheckConfigArgs {
    /// Which files are read.
    #[command(flatten)]
    pub files: ConfigArgs,
}

/// Arguments of `health`.
#[derive(Clone, Debug, Args)]
pub struct HealthArgs {
    /// The status file that the daemon keeps
    #[arg(long, env = "ROWCAST_STATUS_FILE", value_name = "FILE")]
    pub file: PathBuf,
}

impl Cli {
    /// What the configuration says about logging, with the command line's options over it.
    pub fn logging(&self, configured: &LoggingConfig) -> LoggingConfig {
        LoggingConfig {
            format: self.log_format.unwrap_or(configured.format),
            level: self.log_level.clone().unwrap_or_else(|| configured.level.clone()),
        }
    }
}

impl ConfigArgs {
    /// The request to load these files.
    pub fn request(&self, sink: Option<SinkOverride>, environment: Environment) -> Request {
        Request { paths: self.paths.clone(), shared: self.config.clone(), sink, environment }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_takes_paths_and_options_in_any_order() {
        let cli = Cli::try_parse_from([
            "rowcast",
            "run",
            "a.yaml",
            "--to",
            "stdout",
            "--config",
            "c.yaml",
            "b",
            "--log-level",
            "debug",
            "--log-format",
            "json",
        ])
        .unwrap();
        let logging = cli.logging(&LoggingConfig::default());
        assert_eq!((logging.format, logging.level.as_str()), (LogFormat::Json, "debug"));
        let Command::Run(run) = cli.command else { panic!("not run") };
        let request = run.files.request(run.to, Environment::default());
        assert_eq!(request.paths, [PathBuf::from("a.yaml"), PathBuf::from("b")]);
        assert_eq!(request.shared, Some(PathBuf::from("c.yaml")));
        assert_eq!(request.sink, Some(SinkOverride::Stdout));
    }

    #[test]
    fn the_configured_logging_holds_without_options() {
        let cli = Cli::try_parse_from(["rowcast", "check-config", "a.yaml"]).unwrap();
        let configured = LoggingConfig { format: LogFormat::Json, level: "warn".into() };
        assert_eq!(cli.logging(&configured), configured);
    }

    #[test]
    fn wrong_usage_ends_with_exit_code_2() {
        for arguments in [
            &["rowcast", "run"][..],
            &["rowcast", "run", "a", "--to", "kafka"],
            &["rowcast", "run", "a", "--log-level", "loud"],
            &["rowcast", "rnu"],
            &["rowcast"],
        ] {
            assert_eq!(Cli::try_parse_from(arguments).unwrap_err().exit_code(), 2, "{arguments:?}");
        }
    }

    #[test]
    fn help_has_examples_and_exit_codes() {
        for arguments in [
            &["rowcast", "--help"][..],
            &["rowcast", "run", "--help"],
            &["rowcast", "check-config", "--help"],
            &["rowcast", "backfill", "--help"],
            &["rowcast", "drop", "--help"],
            &["rowcast", "tail", "--help"],
            &["rowcast", "status", "--help"],
        ] {
            let help = Cli::try_parse_from(arguments).unwrap_err();
            assert_eq!(help.exit_code(), 0);
            let text = help.to_string();
            assert!(text.contains("Examples:") && text.contains("Exit codes:"), "{text}");
        }
    }
}
