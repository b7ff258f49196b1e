//! The supervisor: one isolated task tree per source.
//!
//! Guarantees: a failure of one source never touches another; a transient error restarts its source with growing pauses and
//! jitter; a definite one stops it with one message that says what, where and what to do. Every error is logged here and
//! nowhere else. The only place that knows the concrete connectors.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rand::Rng;
use rowcast_core::Source;
use rowcast_mysql::{Flavor, MysqlSource};
use rowcast_net::{TlsMode, TlsOptions};
use rowcast_postgres::PostgresSource;
use secrecy::SecretString;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::backfill::control::{self, Control};
use crate::config::{self, ConnectionConfig, Delivery, KafkaConfig, MysqlFlavor, SinkConfig, SourceConfig, SourceKind};
use crate::error::RunErrorClass;
use crate::pipeline::{self, PipelineOptions};
use crate::sink::OpenSink;
use crate::sink::kafka::KafkaSettings;
use crate::sink::lines::{LineSettings, Target};
use crate::status::{State, Status};

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

/// Runs all sources until `stop` turns true or none is left.
///
/// With `aside` nothing is kept: no checkpoint, and what is created on the server is temporary.
pub async fn run(sources: Vec<SourceConfig>, aside: bool, status: Status, stop: watch::Receiver<bool>) -> Ended {
    let owner = format!("{:016x}", rand::rng().random::<u64>());
    let mut running = JoinSet::new();
    for config in sources {
        status.set(&config.name, State::Starting);
        running.spawn(supervise(config, aside, owner.clone(), status.clone(), stop.clone()));
    }
    let mut failed = false;
    while let Some(ended) = running.join_next().await {
        failed |= !matches!(ended, Ok(true));
    }
    if failed && !*stop.borrow() { Ended::Failed } else { Ended::Stopped }
}

/// Runs one source; true if it ended in good order.
async fn supervise(
    config: SourceConfig,
    aside: bool,
    owner: String,
    status: Status,
    stop: watch::Receiver<bool>,
) -> bool {
    let control = Control::default();
    let socket = control::socket_path(&config.state_dir, &config.name);
    let options = PipelineOptions {
        name: config.name.clone(),
        kind: config.kind.type_name(),
        db: match &config.kind {
            SourceKind::Postgres(postgres) => postgres.database.clone(),
            SourceKind::Mysql(_) => String::new(),
        },
        topic: match &config.sink {
            SinkConfig::Kafka(kafka) => Some(kafka.topic.clone()),
            SinkConfig::Stdout | SinkConfig::File { .. } => None,
        },
        tombstones: matches!(&config.sink, SinkConfig::Kafka(kafka) if kafka.tombstones),
        budget: config.memory_budget,
        commit_interval: config.commit.interval,
        commit_bytes: config.commit.max_bytes,
        owner,
        status,
        backfill: (!aside).then(|| config.backfill.clone()),
        state_dir: config.state_dir.clone(),
        control: control.clone(),
    };
    let serving = async {
        // a look aside must not be taken for the daemon
        if !aside {
            control::serve(socket, control, config.name.clone()).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = supervise_source(&config, options, aside, stop) => ended,
        () = serving => false,
    }
}

/// Makes the connector and runs it.
async fn supervise_source(
    config: &SourceConfig,
    options: PipelineOptions,
    aside: bool,
    stop: watch::Receiver<bool>,
) -> bool {
    match &config.kind {
        SourceKind::Postgres(postgres) => {
            let source = PostgresSource::new(rowcast_postgres::Options {
                name: config.name.clone(),
                host: postgres.connection.host.clone(),
                port: postgres.connection.port,
                database: postgres.database.clone(),
                user: postgres.connection.user.clone(),
                password: password(&postgres.connection),
                tls: tls(&postgres.connection),
                tables: postgres.tables.clone(),
                slot: postgres.slot.clone(),
                publication: postgres.publication.clone(),
                temporary: aside,
                connect_timeout: postgres.connection.connect_timeout,
                read_timeout: postgres.connection.read_timeout,
            });
            match source {
                Ok(source) => with_sink(source, config, options, aside, stop).await,
                Err(error) => {
                    tracing::error!(source = %config.name, "stopped: {error}");
                    false
                }
            }
        }
        SourceKind::Mysql(mysql) => {
            let source = MysqlSource::new(rowcast_mysql::Options {
                name: config.name.clone(),
                flavor: match mysql.flavor {
                    MysqlFlavor::Mysql => Flavor::Mysql,
                    MysqlFlavor::Mariadb => Flavor::MariaDb,
                },
                host: mysql.connection.host.clone(),
                port: mysql.connection.port,
                user: mysql.connection.user.clone(),
                password: password(&mysql.connection),
                tls: tls(&mysql.connection),
                tables: mysql.tables.clone(),
                server_id: mysql.server_id,
                connect_timeout: mysql.connection.connect_timeout,
                read_timeout: mysql.connection.read_timeout,
            });
            with_sink(source, config, options, aside, stop).await
        }
    }
}

fn password(connection: &ConnectionConfig) -> SecretString {
    connection.password.clone().unwrap_or_else(|| SecretString::from(String::new()))
}

fn tls(connection: &ConnectionConfig) -> TlsOptions {
    let tls = &connection.tls;
    TlsOptions {
        mode: match tls.mode {
            config::TlsMode::Disable => TlsMode::Disable,
            config::TlsMode::Prefer => TlsMode::Prefer,
            config::TlsMode::Require => TlsMode::Require,
            config::TlsMode::VerifyCa => TlsMode::VerifyCa,
            config::TlsMode::VerifyFull => TlsMode::VerifyFull,
        },
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
            restarting(source, settings, &options, stop).await
        }
        SinkConfig::Stdout => restarting(source, lines(Target::Stdout), &options, stop).await,
        SinkConfig::File { path } => restarting(source, lines(Target::File(path.clone())), &options, stop).await,
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
        transactional: delivery == Delivery::ExactlyOnce,
        owned_before: Arc::new(AtomicBool::new(false)),
        runtime: tokio::runtime::Handle::current(),
    }
}

/// Runs a source again and again until it is stopped or has a definite error.
async fn restarting<S: Source, O: OpenSink + Clone>(
    source: S,
    opener: O,
    options: &PipelineOptions,
    mut stop: watch::Receiver<bool>,
) -> bool {
    let source = Arc::new(source);
    let mut pause = FIRST_PAUSE;
    let name = options.name.as_str();
    let ended = |why: Option<String>| options.status.set(name, State::Stopped { why });
    loop {
        let began = Instant::now();
        options.status.set(name, State::Starting);
        let Err(error) = pipeline::run(&source, opener.clone(), options, stop.clone()).await else {
            ended(None);
            tracing::info!(source = name, "stopped");
            return true;
        };
        let why = Some(error.to_string());
        match error.class {
            RunErrorClass::OutputClosed => {
                ended(why);
                tracing::info!(source = name, "stopped: {error}");
                return true;
            }
            RunErrorClass::Definite => {
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
        if began.elapsed() >= HEALTHY {
            pause = FIRST_PAUSE;
        }
        options.status.set(name, State::Waiting { why: error.to_string() });
        let wait = pause.mul_f64(rand::rng().random_range(0.5..1.5));
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
    }
}
