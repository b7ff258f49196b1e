//! The supervisor: one isolated task tree per source.
//!
//! Guarantees: a failure of one source never touches another; a transient error restarts its source with growing pauses and
//! jitter; a definite one stops it with one message that says what, where and what to do. Every error is logged here and
//! nowhere else. The only place that knows the concrete connectors.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::{Duration, Instant, SystemTime};

use rand::Rng;
use rowcast_core::{Source, SourceError};
use rowcast_mysql::{Flavor, MysqlSource};
use rowcast_net::{Host, Password, Servers, SessionAttributes, TlsOptions};
use rowcast_postgres::{InUse, PostgresSource};
use secrecy::SecretString;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::backfill::control::{self, Control};
use crate::config::{
    ConnectionConfig, Delivery, FormatConfig, KafkaConfig, MysqlFlavor, OnGap, PostgresConfig, SinkConfig, SlotInUse,
    SourceConfig, SourceKind,
};
use crate::error::RunErrorClass;
use crate::format::{Format, SourceNames};
use crate::pipeline::size::Remembered;
use crate::pipeline::{self, PipelineOptions};
use crate::sink::OpenSink;
use crate::sink::kafka::{KafkaSettings, Met};
use crate::sink::lines::{LineSettings, Target};
use crate::status::{About, Phase, Status, watch as status_watch};

/// The first pause after a failure; doubled up to the longest, and back after a run of this length.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const HEALTHY: Duration = Duration::from_secs(60);

/// How the sources ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All were stopped on request, or their output went away.
    Stopped,
    /// At least one stopped with an error, and none is left.
    Failed,
}

/// Makes the sources known: whoever asks from now on finds them, as starting.
pub fn register(sources: &[SourceConfig], status: &Status) {
    for config in sources {
        status.add(about(config));
    }
}

/// Runs all sources until `stop` turns true or none is left.
///
/// With `aside` nothing is kept: no checkpoint, and what is created on the server is temporary.
pub async fn run(sources: Vec<SourceConfig>, aside: bool, status: Status, stop: watch::Receiver<bool>) -> Ended {
    let owner = format!("{:016x}", rand::rng().random::<u64>());
    let known = known(&sources);
    let mut running = JoinSet::new();
    for config in sources {
        running.spawn(supervise(config, known.clone(), aside, owner.clone(), status.clone(), stop.clone()));
    }
    let mut failed = false;
    while let Some(ended) = running.join_next().await {
        failed |= !matches!(ended, Ok(true));
    }
    if failed && !*stop.borrow() { Ended::Failed } else { Ended::Stopped }
}

/// What the sources have on PostgreSQL servers: the names of slots and publications.
fn known(sources: &[SourceConfig]) -> Vec<String> {
    let of = |source: &SourceConfig| match &source.kind {
        SourceKind::Postgres(postgres) => vec![postgres.slot.clone(), postgres.publication.clone()],
        SourceKind::Mysql(_) => Vec::new(),
    };
    sources.iter().flat_map(of).collect()
}

/// The connector of a PostgreSQL source; nothing is connected yet. `known` is what the configured sources have on servers.
///
/// # Errors
/// For names that PostgreSQL doesn't allow.
pub fn postgres_source(
    config: &SourceConfig,
    postgres: &PostgresConfig,
    known: Vec<String>,
    aside: bool,
) -> Result<PostgresSource, SourceError> {
    PostgresSource::new(rowcast_postgres::Options {
        name: config.name.clone(),
        servers: servers(&postgres.connection, postgres.session_attributes),
        database: postgres.database.clone(),
        user: postgres.connection.user.clone(),
        password: password(&postgres.connection),
        tls: tls(&postgres.connection),
        tables: postgres.tables.clone(),
        slot: postgres.slot.clone(),
        slot_in_use: match postgres.slot_in_use {
            SlotInUse::Fail => InUse::Fail,
            SlotInUse::Wait => InUse::Wait,
        },
        known,
        publication: postgres.publication.clone(),
        binary: postgres.stream.binary,
        temporary: aside,
        connect_timeout: postgres.connection.connect_timeout,
        read_timeout: postgres.connection.read_timeout,
        messages: postgres.stream.messages.clone(),
        local_only: postgres.stream.local_only,
        two_phase: postgres.stream.two_phase,
        spill_folder: config.state_dir.clone(),
        spill_limit: postgres.stream.spill_limit,
        describe: matches!(config.format, FormatConfig::Debezium(_)),
        start_at: postgres.start_at.clone(),
    })
}

/// Runs one source; true if it ended in good order.
async fn supervise(
    config: SourceConfig,
    known: Vec<String>,
    aside: bool,
    owner: String,
    status: Status,
    stop: watch::Receiver<bool>,
) -> bool {
    let control = Control::default();
    let socket = control::socket_path(&config.state_dir, &config.name);
    let meter = status.add(about(&config));
    let db = match &config.kind {
        SourceKind::Postgres(postgres) => postgres.database.clone(),
        SourceKind::Mysql(_) => String::new(),
    };
    let names = SourceNames { name: config.name.clone(), kind: config.kind.type_name() };
    let options = PipelineOptions {
        name: config.name.clone(),
        kind: config.kind.type_name(),
        format: Arc::new(Format::new(names, &db, &config.format)),
        db,
        topic: match &config.sink {
            SinkConfig::Kafka(kafka) => Some(kafka.topic.clone()),
            SinkConfig::Stdout | SinkConfig::File { .. } => None,
        },
        tombstones: matches!(&config.sink, SinkConfig::Kafka(kafka) if kafka.tombstones),
        budget: config.memory_budget,
        commit_interval: config.commit.interval,
        commit_bytes: config.commit.max_bytes,
        commit_size: Remembered::default(),
        owner,
        status,
        meter,
        backfill: (!aside).then(|| config.backfill.clone()),
        state_dir: config.state_dir.clone(),
        control: control.clone(),
        anew: None,
        start_at: config.kind.start_at().map(|handover| handover.position.clone()),
        on_poison: config.on_poison,
        on_table_failure: config.on_table_failure,
    };
    let serving = async {
        // a look aside must not be taken for the daemon
        if !aside {
            control::serve(socket, control, config.name.clone()).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = supervise_source(&config, known, options, aside, stop) => ended,
        () = serving => false,
    }
}

/// Makes the connector and runs it.
async fn supervise_source(
    config: &SourceConfig,
    known: Vec<String>,
    options: PipelineOptions,
    aside: bool,
    stop: watch::Receiver<bool>,
) -> bool {
    match &config.kind {
        SourceKind::Postgres(postgres) => match postgres_source(config, postgres, known, aside) {
            Ok(source) => Box::pin(with_sink(source, config, options, aside, stop)).await,
            Err(error) => {
                options.status.set(&config.name, Phase::Stopped { why: Some(error.to_string()) });
                tracing::error!(source = %config.name, "stopped: {error}");
                false
            }
        },
        SourceKind::Mysql(mysql) => {
            let source = MysqlSource::new(rowcast_mysql::Options {
                name: config.name.clone(),
                flavor: match mysql.flavor {
                    MysqlFlavor::Mysql => Flavor::Mysql,
                    MysqlFlavor::Mariadb => Flavor::MariaDb,
                },
                servers: servers(&mysql.connection, mysql.session_attributes),
                user: mysql.connection.user.clone(),
                password: password(&mysql.connection),
                tls: tls(&mysql.connection),
                server_public_key: mysql.server_public_key.clone(),
                cleartext_password: mysql.cleartext_password,
                compression: mysql.compression,
                tables: mysql.tables.clone(),
                server_id: mysql.server_id,
                server_id_derived: mysql.server_id_derived,
                connect_timeout: mysql.connection.connect_timeout,
                read_timeout: mysql.connection.read_timeout,
                include_query: mysql.include_query,
                spill_folder: config.state_dir.clone(),
                spill_limit: mysql.spill_limit,
                describe: matches!(config.format, FormatConfig::Debezium(_)),
                ddl: matches!(&config.format, FormatConfig::Debezium(debezium) if debezium.schema_changes),
                start_at: mysql.start_at.clone(),
            });
            Box::pin(with_sink(source, config, options, aside, stop)).await
        }
    }
}

/// What is fixed for a source.
fn about(config: &SourceConfig) -> About {
    About {
        name: config.name.clone(),
        kind: config.kind.type_name(),
        sink: match &config.sink {
            SinkConfig::Kafka(_) => "kafka",
            SinkConfig::Stdout => "stdout",
            SinkConfig::File { .. } => "file",
        },
        read_timeout: config.kind.connection().read_timeout,
    }
}

fn servers(connection: &ConnectionConfig, want: SessionAttributes) -> Servers {
    let host = |name: &str, port| Host { name: name.to_owned(), port };
    let more = connection.more_hosts.iter().map(|(name, port)| host(name, *port));
    Servers::new(host(&connection.host, connection.port), more.collect(), want)
}

fn password(connection: &ConnectionConfig) -> Password {
    match (&connection.password_command, &connection.password) {
        (Some(command), _) => Password::Command(command.clone()),
        (None, Some(password)) => Password::Fixed(password.clone()),
        (None, None) => Password::from(String::new()),
    }
}

fn tls(connection: &ConnectionConfig) -> TlsOptions {
    let tls = &connection.tls;
    TlsOptions {
        mode: tls.mode,
        ca: tls.ca.clone(),
        cert: tls.identity.as_ref().map(|identity| identity.cert.clone()),
        key: tls.identity.as_ref().map(|identity| identity.key.clone()),
        server_name: tls.server_name.clone(),
    }
}

async fn with_sink<S: Source>(
    source: S,
    config: &SourceConfig,
    options: PipelineOptions,
    aside: bool,
    stop: watch::Receiver<bool>,
) -> bool {
    let lines = |target| LineSettings {
        source: config.name.clone(),
        target,
        state: (!aside).then(|| config.state_dir.clone()),
    };
    match &config.sink {
        SinkConfig::Kafka(kafka) => {
            let settings = kafka_settings(&config.name, &options.owner, kafka, config.delivery);
            restarting(source, settings, options, config.on_gap, stop).await
        }
        SinkConfig::Stdout => restarting(source, lines(Target::Stdout), options, config.on_gap, stop).await,
        SinkConfig::File { path, rotate } => {
            restarting(source, lines(Target::File(path.clone(), *rotate)), options, config.on_gap, stop).await
        }
    }
}

/// The Kafka sink of a source. Needs a runtime.
pub fn kafka_settings(source: &str, owner: &str, kafka: &KafkaConfig, delivery: Delivery) -> KafkaSettings {
    let secret = |value: &crate::config::PropertyValue| SecretString::from(value.expose().to_owned());
    KafkaSettings {
        source: source.to_owned(),
        owner: owner.to_owned(),
        brokers: kafka.brokers.clone(),
        properties: kafka.properties.iter().map(|(key, value)| (key.clone(), secret(value))).collect(),
        topics: kafka.topics.clone(),
        met: Met::default(),
        transactional: delivery == Delivery::ExactlyOnce,
        most_batch: Arc::new(AtomicUsize::new(usize::MAX)),
        owned_before: Arc::new(AtomicBool::new(false)),
        runtime: tokio::runtime::Handle::current(),
    }
}

/// Runs a source again and again until it is stopped or has a definite error.
async fn restarting<S: Source, O: OpenSink + Clone>(
    source: S,
    opener: O,
    mut options: PipelineOptions,
    on_gap: OnGap,
    mut stop: watch::Receiver<bool>,
) -> bool {
    let source = Arc::new(source);
    let mut pause = FIRST_PAUSE;
    let (name, status) = (options.name.clone(), options.status.clone());
    let name = name.as_str();
    let ended = |why: Option<String>| status.set(name, Phase::Stopped { why });
    let mut watching = JoinSet::new();
    // a look aside has another slot and nobody to tell
    if options.backfill.is_some() {
        watching.spawn(status_watch::keep(Arc::clone(&source), Arc::clone(&options.meter), status.clone()));
    }
    loop {
        let began = Instant::now();
        let commits = options.meter.totals().commits;
        status.set(name, Phase::Starting);
        let ran = pipeline::run(&source, opener.clone(), &options, stop.clone()).await;
        let closed = options.anew.take();
        let Err(error) = ran else {
            ended(None);
            tracing::info!(source = name, "stopped");
            return true;
        };
        let why = Some(error.to_string());
        options.meter.failed(error.class);
        match error.class {
            RunErrorClass::OutputClosed => {
                ended(why);
                tracing::info!(source = name, "stopped: {error}");
                return true;
            }
            RunErrorClass::Gap if on_gap == OnGap::Backfill && (closed.is_none() || began.elapsed() >= HEALTHY) => {
                tracing::warn!(source = name, "{error}; on_gap is backfill: all captured tables are copied again");
                options.anew = Some(error.message);
                continue;
            }
            RunErrorClass::Definite | RunErrorClass::Gap => {
                ended(why);
                tracing::error!(source = name, "stopped: {error}");
                return false;
            }
            RunErrorClass::Transient | RunErrorClass::Fenced if *stop.borrow() => {
                ended(why);
                tracing::warn!(source = name, "stopped: {error}");
                return true;
            }
            RunErrorClass::Transient | RunErrorClass::Fenced => {}
        }
        // a run that got something done was no failure to start
        if began.elapsed() >= HEALTHY || options.meter.totals().commits > commits {
            pause = FIRST_PAUSE;
        }
        let wait = pause.mul_f64(rand::rng().random_range(0.5..1.5));
        status.set(name, Phase::Waiting { why: error.to_string(), until: SystemTime::now() + wait });
        tracing::warn!(source = name, "waiting {:.1} s, then starting again: {error}", wait.as_secs_f64());
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = stop.wait_for(|stop| *stop) => {
                ended(None);
                tracing::info!(source = name, "stopped");
                return true;
            }
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
        options.meter.restarted();
    }
}
