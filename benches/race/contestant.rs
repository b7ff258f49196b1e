//! Who runs: Rowcast with Debezium's form, exactly once and at least once, and Debezium Server with its file of offsets.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tempfile::TempDir;

use crate::common::LIMIT;
use crate::common::stream::begun;
use crate::common::support::daemon::Daemon;
use crate::common::support::env::{APP_PASSWORD, APP_USER, debezium_server};
use crate::common::support::source::{Kind, Source};
use crate::common::support::{env, kafka, unique};

/// The contestants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Debezium Server.
    Debezium,
    /// Rowcast as it is by default.
    ExactlyOnce,
    /// Rowcast with what Debezium Server promises.
    AtLeastOnce,
}

impl Who {
    /// In the order in which they run; the first is who the others are compared with.
    pub fn all() -> impl Iterator<Item = Who> {
        let alone = std::env::var_os("ROWCAST_RACE_ALONE").is_some();
        let all = [Who::Debezium, Who::ExactlyOnce, Who::AtLeastOnce];
        all.into_iter().filter(move |who| !alone || *who != Who::Debezium)
    }

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Who::Debezium => "Debezium Server (at least once)",
            Who::ExactlyOnce => "Rowcast, exactly once",
            Who::AtLeastOnce => "Rowcast, at least once",
        }
    }
}

/// One that knows where to begin.
pub struct Contestant {
    /// Its topic prefix.
    prefix: String,
    process: Process,
    watcher: BaseConsumer,
}

enum Process {
    Ours(Box<Daemon>),
    Theirs { dir: TempDir, child: Option<Child> },
}

/// Version, Java and class path of the original.
fn original() -> &'static [String; 3] {
    static ORIGINAL: OnceLock<[String; 3]> = OnceLock::new();
    ORIGINAL.get_or_init(debezium_server)
}

/// Debezium Server's version, if it takes part.
pub fn version() -> &'static str {
    if Who::all().next() == Some(Who::Debezium) { &original()[0] } else { "-" }
}

/// The broker's version, from its jars.
pub fn kafka_version() -> String {
    let path = env().var("KAFKA_CP").to_owned();
    path.split('/').find_map(|part| part.strip_prefix("kafka-")).unwrap_or("?").to_owned()
}

impl Contestant {
    /// Starts it once, so that it has its place in the log, and stops it.
    pub async fn begin(who: Who, source: &Source, round: usize) -> Contestant {
        let kafka = format!("sink: {{ type: kafka, brokers: \"{}\" }}\n", env().brokers());
        let form = "format: debezium\ndebezium: { key_schemas_enable: false, value_schemas_enable: false }\n";
        let ours = async |name: &str, delivery: &str| {
            let prefix = format!("{name}{round}-");
            let daemon = begun(source, &prefix, "", &format!("{kafka}{form}delivery: {delivery}\n")).await;
            (format!("{prefix}{}", source.name()), Process::Ours(Box::new(daemon)))
        };
        let (prefix, process) = match who {
            Who::ExactlyOnce => ours("eos", "exactly_once").await,
            Who::AtLeastOnce => ours("alo", "at_least_once").await,
            Who::Debezium => {
                let prefix = unique("dbz");
                let dir = TempDir::with_prefix("rowcast-race-").unwrap();
                std::fs::create_dir(dir.path().join("config")).unwrap();
                std::fs::write(dir.path().join("config/application.properties"), properties(source, &prefix, &dir))
                    .unwrap();
                (prefix, Process::Theirs { dir, child: None })
            }
        };
        let mut contestant = Contestant { prefix, process, watcher: watcher() };
        if who == Who::Debezium {
            // it relies on the broker to make them
            for table in ["load_", "pulse"] {
                kafka::create_topic(&contestant.topic(source, table), 1, &[]).await;
            }
            contestant.begin_original(source).await;
        }
        contestant
    }

    /// Its offsets are written behind a first record, which has to come while it streams.
    async fn begin_original(&mut self, source: &Source) {
        self.start();
        let (topic, deadline) = (self.topic(source, "pulse"), Instant::now() + LIMIT);
        let mut id =
            source.query("select coalesce(max(id), 0) from pulse").await[0][0].clone().unwrap().parse::<u64>().unwrap();
        while self.records(&topic) == 0 {
            assert!(Instant::now() < deadline && self.runs(), "Debezium Server doesn't start\n{}", self.logs());
            id += 1;
            source.exec(&format!("insert into pulse values ({id}, 0)")).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let Process::Theirs { dir, .. } = &self.process else { return };
        let offsets = dir.path().join("offsets");
        while std::fs::metadata(&offsets).map_or(0, |it| it.len()) == 0 {
            assert!(Instant::now() < deadline, "Debezium Server writes no offsets\n{}", self.logs());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.stop().await;
    }

    /// The topic of a table.
    pub fn topic(&self, source: &Source, table: &str) -> String {
        format!("{}.{}.{table}", self.prefix, source.schema())
    }

    /// Starts its process.
    pub fn start(&mut self) {
        match &mut self.process {
            Process::Ours(daemon) => daemon.start(),
            Process::Theirs { dir, child } => {
                let [_, java, classes] = original();
                let log = File::options().create(true).append(true).open(dir.path().join("log")).unwrap();
                *child = Some(
                    // its own script starts it like this; Java 24 and later want the permission
                    Command::new(java)
                        .arg("--add-opens=java.base/java.lang=ALL-UNNAMED")
                        .args(["-cp", &classes.replacen(':', ":config:", 1), "io.debezium.server.Main"])
                        .current_dir(dir.path())
                        .stdin(Stdio::null())
                        .stdout(log.try_clone().unwrap())
                        .stderr(log)
                        .spawn()
                        .unwrap(),
                );
            }
        }
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        match &self.process {
            Process::Ours(daemon) => daemon.pid(),
            Process::Theirs { child, .. } => child.as_ref().unwrap().id().try_into().unwrap(),
        }
    }

    /// Whether its process is still there.
    pub fn runs(&mut self) -> bool {
        match &mut self.process {
            Process::Ours(daemon) => daemon.is_running(),
            Process::Theirs { child, .. } => child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none()),
        }
    }

    /// Stops it in good order.
    pub async fn stop(&mut self) {
        match &mut self.process {
            Process::Ours(daemon) => assert_eq!(daemon.shutdown(LIMIT).await, 0),
            Process::Theirs { child, .. } => {
                let mut child = child.take().unwrap();
                kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
                tokio::task::spawn_blocking(move || child.wait()).await.unwrap().unwrap();
            }
        }
    }

    /// Records in a topic of one partition.
    pub fn records(&mut self, topic: &str) -> u64 {
        match self.watcher.fetch_watermarks(topic, 0, Duration::from_secs(5)) {
            Ok((_, high)) => high.max(0) as u64,
            // a client that has asked for a topic too early doesn't find it later either
            Err(_) => {
                self.watcher = watcher();
                0
            }
        }
    }

    /// What it has said.
    pub fn logs(&self) -> String {
        match &self.process {
            Process::Ours(daemon) => daemon.logs(),
            Process::Theirs { dir, .. } => std::fs::read_to_string(dir.path().join("log")).unwrap_or_default(),
        }
    }
}

impl Drop for Contestant {
    fn drop(&mut self) {
        if let Process::Theirs { child: Some(child), .. } = &mut self.process {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn watcher() -> BaseConsumer {
    ClientConfig::new().set("bootstrap.servers", env().brokers()).create().unwrap()
}

/// The original's configuration: its defaults, but for what names the servers and the log's place.
fn properties(source: &Source, prefix: &str, dir: &TempDir) -> String {
    let brokers = env().brokers();
    let data = dir.path().display();
    let mut all = format!(
        "debezium.sink.type=kafka\ndebezium.sink.kafka.producer.bootstrap.servers={brokers}\n\
         debezium.sink.kafka.producer.key.serializer=org.apache.kafka.common.serialization.StringSerializer\n\
         debezium.sink.kafka.producer.value.serializer=org.apache.kafka.common.serialization.StringSerializer\n\
         debezium.sink.kafka.producer.compression.type=lz4\n\
         debezium.format.key.schemas.enable=false\ndebezium.format.value.schemas.enable=false\n\
         debezium.source.offset.storage.file.filename={data}/offsets\ndebezium.source.offset.flush.interval.ms=1000\n\
         debezium.source.topic.prefix={prefix}\ndebezium.source.snapshot.mode=no_data\n\
         debezium.source.database.hostname=127.0.0.1\ndebezium.source.database.port={}\n\
         debezium.source.database.user={APP_USER}\ndebezium.source.database.password={APP_PASSWORD}\nquarkus.http.port=0\n\
         debezium.source.include.schema.changes=false\nquarkus.log.level=WARN\nquarkus.log.console.json=false\n",
        source.port()
    );
    all += &match source.kind() {
        Kind::Postgres => format!(
            "debezium.source.connector.class=io.debezium.connector.postgresql.PostgresConnector\ndebezium.source.database.dbname={0}\n\
             debezium.source.plugin.name=pgoutput\ndebezium.source.slot.name={prefix}\ndebezium.source.publication.name={prefix}\n",
            source.name()
        ),
        _ => format!(
            "debezium.source.connector.class=io.debezium.connector.mysql.MySqlConnector\ndebezium.source.database.include.list={}\n\
             debezium.source.database.server.id={}\n\
             debezium.source.schema.history.internal=io.debezium.storage.file.history.FileSchemaHistory\n\
             debezium.source.schema.history.internal.file.filename={data}/history\n",
            source.name(),
            500_000 + std::process::id() % 100_000 + prefix.bytes().map(u32::from).sum::<u32>(),
        ),
    };
    all
}
