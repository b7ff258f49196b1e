//! Typed configuration: one YAML file per source, and `rowcast.yaml` for what all share.
//!
//! ```text
//! files ──► yaml (located tree) ──► keys (unknown ones) ──┐
//!                                    environment ─────────┼─► layers (merge) ──► reader + secrets ──► SourceConfig
//!                                    command line ────────┘
//! ```
//!
//! Guarantees:
//! - All mistakes of all files at once, each with file, line and column (or the variable's name), the wrong key or value,
//!   what is allowed, and the nearest name for a misspelt one ([`ConfigErrors`]). Unknown and duplicate keys are mistakes.
//! - Values are text until the typed reader reads them; nothing is guessed on the way.
//! - Secrets are in `SecretString`; no error, `Debug` or summary shows them.
//! - Nothing but files and the environment is looked at: a configuration that loads says nothing about the servers.
//!
//! It fails only with [`ConfigErrors`]; the process then ends with exit code 2.

mod admin;
mod backfill;
mod columns;
mod debezium;
mod environment;
mod errors;
mod files;
mod flatten;
mod keys;
mod layers;
mod load;
mod logs;
mod mysql;
mod policy;
mod postgres;
mod reader;
mod secrets;
mod sink;
mod source;
mod suggest;
mod summary;
mod topic;
mod topics;
mod units;
mod yaml;

use std::path::PathBuf;
use std::time::Duration;

pub use admin::{AdminConfig, DEFAULT_ADMIN, parse_admin};
pub use backfill::{BackfillConfig, BackfillMode, BackfillTable, parse_table, table_text};
pub use columns::{Change, ColumnsConfig, HashAlgorithm, Patterns};
pub(crate) use columns::{check_change, parse_key_columns};
pub use debezium::{
    AdjustMode, BinaryMode, DebeziumConfig, DecimalMode, FormatConfig, HstoreMode, IntervalMode, Skipped, TimeMode,
    UnsignedMode,
};
pub use environment::Environment;
pub use errors::{ConfigError, ConfigErrors, Place};
pub use files::SHARED_FILE;
pub(crate) use flatten::check as check_added;
pub use flatten::{Added, DELETED, DeleteMode, EventPart, FlattenConfig};
pub(crate) use keys::is_key;
pub use load::{DEFAULT_STATE_DIR, load, load_admin, parse_name};
pub use logs::{LogFormat, LoggingConfig, parse_level};
pub use mysql::MysqlConfig;
pub use policy::{OnGap, OnPoison, OnTableFailure};
pub use postgres::{PostgresConfig, PostgresStreamConfig, SlotInUse};
pub use rowcast_net::TlsMode;
pub use sink::{Delivery, KafkaConfig, PropertyValue, RotateConfig, SinkConfig};
pub use source::{ConnectionConfig, MysqlFlavor, SourceKind, TlsConfig, TlsIdentity};
pub(crate) use suggest::did_you_mean;
pub use summary::summary;
pub use topic::{CHECKPOINT_PREFIX, TopicPart, TopicTemplate};
pub use topics::{TopicRule, TopicSettings, TopicsConfig};
pub(crate) use units::parse_duration;

/// What to load.
#[derive(Clone, Debug)]
pub struct Request {
    /// Source files, or folders of them.
    pub paths: Vec<PathBuf>,
    /// The shared file, if it is named explicitly.
    pub shared: Option<PathBuf>,
    /// A sink from the command line, in place of the configured ones.
    pub sink: Option<SinkOverride>,
    /// Where overrides and `${NAME}` come from.
    pub environment: Environment,
}

/// A sink that replaces the configured one of every source.
///
/// The delivery is at least once then, and the slot or server id is another one than the configured (slot
/// `<slot>_aside`, a derived server id): a look at the events must never move the running daemon's slot, nor throw its
/// replica out of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SinkOverride {
    /// Events as lines on the standard output
    Stdout,
}

/// A configuration without mistakes.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What is the same for all sources.
    pub shared: Shared,
    /// The sources in the order of the files; at least one, all with different names.
    pub sources: Vec<SourceConfig>,
}

/// What is the same for all sources.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    /// The shared file, if there is one.
    pub file: Option<PathBuf>,
    /// How the daemon logs.
    pub logging: LoggingConfig,
    /// Where it answers questions about itself.
    pub admin: AdminConfig,
}

/// One source with everything in effect for it.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// `[a-z0-9][a-z0-9_-]*`, at most 50: names the checkpoint and the transactional id.
    pub name: String,
    /// The file that it stands in.
    pub file: PathBuf,
    /// The database.
    pub kind: SourceKind,
    /// Where events go.
    pub sink: SinkConfig,
    /// How events are written.
    pub format: FormatConfig,
    /// How events are delivered; `ExactlyOnce` only with Kafka.
    pub delivery: Delivery,
    /// Bytes between reader and publisher, from 1 MiB.
    pub memory_budget: usize,
    /// When to commit.
    pub commit: CommitConfig,
    /// What is copied of the rows that are already there.
    pub backfill: BackfillConfig,
    /// What follows a gap in the source's log.
    pub on_gap: OnGap,
    /// What becomes of an event that can't be delivered.
    pub on_poison: OnPoison,
    /// What becomes of a table that can't be followed any more.
    pub on_table_failure: OnTableFailure,
    /// The folder of the sockets of `rowcast backfill`, and of checkpoint files for sinks without transactions.
    pub state_dir: PathBuf,
}

/// When a busy stream is committed; an idle one is at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitConfig {
    /// After this time, from 1 ms to 10 s.
    pub interval: Duration,
    /// Or after this many bytes; not more than the memory budget.
    pub max_bytes: usize,
}
