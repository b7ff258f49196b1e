//! Kafka Connect with the real Debezium (`scripts/servers/connect.sh`), asked over HTTP, and a case captured by it.

use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Servers;
use super::cases::{Case, SETTLE};
use super::debezium::{self, Masker, SENTINEL, SENTINEL_TABLE};
use super::env::{APP_PASSWORD, APP_USER};
use super::kafka::{Record, read_blocking};
use super::source::{Kind, Source, Writer};

/// How long a connector may take for its snapshot, or for what it is waited for: the JVM is slow on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);

/// A request to Connect: status code and body.
pub async fn ask(servers: &Servers, method: &str, path: &str, body: Option<&Json>) -> (u16, String) {
    let address = format!("127.0.0.1:{}", servers.var("CONNECT_PORT"));
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let body = body.map(Json::to_string).unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Deletes all connectors of a kind, and their databases: those that a failed run has left. (The original tells of DDL of all databases.)
pub async fn clear(servers: &Servers, kind: Kind) {
    let (_, names) = ask(servers, "GET", "/connectors", None).await;
    let names: Vec<String> = serde_json::from_str(&names).unwrap();
    for name in names.iter().filter(|name| name.starts_with(prefix_of(kind))) {
        ask(servers, "DELETE", &format!("/connectors/{name}"), None).await;
    }
    if kind != Kind::Postgres {
        let source = Source::create_on(servers, kind, "dbzclear").await;
        let left = "select schema_name from information_schema.schemata where schema_name like 'dbzcase%'";
        for row in source.query(left).await {
            source.exec(&format!("drop database {}", row[0].as_deref().unwrap())).await;
        }
    }
}

/// What the names of a kind's connectors begin with.
fn prefix_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Postgres => "dbzpg",
        Kind::Mysql => "dbzmy",
        Kind::Mariadb => "dbzma",
    }
}

/// The options of a connector for this database, without those of a variant.
pub fn connector_options(servers: &Servers, source: &Source, prefix: &str) -> Vec<(String, String)> {
    let brokers = servers.brokers();
    let mut all = vec![
        ("topic.prefix", prefix.to_owned()),
        ("database.hostname", "127.0.0.1".to_owned()),
        ("database.port", source.port().to_string()),
        ("database.user", APP_USER.to_owned()),
        ("database.password", APP_PASSWORD.to_owned()),
        ("tasks.max", "1".to_owned()),
        // a converter's options count only beside its class
        ("key.converter", "org.apache.kafka.connect.json.JsonConverter".to_owned()),
        ("value.converter", "org.apache.kafka.connect.json.JsonConverter".to_owned()),
        ("topic.creation.default.replication.factor", "1".to_owned()),
        ("topic.creation.default.partitions", "1".to_owned()),
        ("poll.interval.ms", "50".to_owned()),
    ];
    match source.kind() {
        Kind::Postgres => all.extend([
            ("connector.class", "io.debezium.connector.postgresql.PostgresConnector".to_owned()),
            ("database.dbname", source.name().to_owned()),
            ("plugin.name", "pgoutput".to_owned()),
            ("slot.name", prefix.to_owned()),
            ("publication.name", prefix.to_owned()),
        ]),
        kind => {
            let class = match kind {
                Kind::Mariadb => "io.debezium.connector.mariadb.MariaDbConnector",
                _ => "io.debezium.connector.mysql.MySqlConnector",
            };
            all.extend([
                ("connector.class", class.to_owned()),
                ("database.include.list", source.name().to_owned()),
                ("database.server.id", (90_000 + crc(prefix) % 800_000).to_string()),
                ("schema.history.internal.kafka.bootstrap.servers", brokers.to_owned()),
                ("schema.history.internal.kafka.topic", format!("history-of-{prefix}")),
            ]);
        }
    }
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn crc(text: &str) -> u32 {
    text.bytes().fold(0, |sum: u32, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)))
}

/// A connector of one variant.
pub struct Connector {
    /// Its topic prefix, which is also its name.
    pub prefix: String,
    /// The variant's name.
    pub variant: String,
}

/// A database with a case's tables, and connectors that capture it.
pub struct Run<'a> {
    servers: &'a Servers,
    case: &'a Case,
    /// The database.
    pub source: Source,
    writer: Writer,
    /// Rows in the sentinel's table.
    sentinels: u32,
    /// The connectors that have been started.
    pub connectors: Vec<Connector>,
}

impl<'a> Run<'a> {
    /// Makes the database, its tables and the rows for the snapshot.
    pub async fn prepare(servers: &'a Servers, kind: Kind, case: &'a Case) -> Run<'a> {
        let source = Source::create_on(servers, kind, "dbzcase").await;
        let mut writer = Writer::of(&source).await;
        for statement in &case.before {
            writer.run(&statement.replace("{db}", source.name())).await;
        }
        writer.run(SENTINEL_TABLE).await;
        Run { servers, case, source, writer, sentinels: 0, connectors: Vec::new() }
    }

    /// Starts the original with this variant's options, and waits until its snapshot is over.
    pub async fn start(&mut self, variant: &str) {
        let prefix = super::unique(prefix_of(self.source.kind()));
        let options = self.options(variant, &prefix);
        let config: serde_json::Map<String, Json> =
            options.into_iter().map(|(name, value)| (name, Json::String(value))).collect();
        let (code, body) =
            ask(self.servers, "PUT", &format!("/connectors/{prefix}/config"), Some(&json!(config))).await;
        assert!(code < 300, "{}, {variant}: Connect refused it: {code} {body}", self.case.name);
        self.connectors.push(Connector { prefix, variant: variant.to_owned() });
    }

    /// All options of a variant under a topic prefix.
    pub fn options(&self, variant: &str, prefix: &str) -> Vec<(String, String)> {
        let (_, own) = self.case.variants.iter().find(|(name, _)| name == variant).unwrap();
        let mut options = connector_options(self.servers, &self.source, prefix);
        for (name, value) in own {
            options.retain(|(known, _)| known != name);
            options.push((name.clone(), value.replace("{db}", self.source.name())));
        }
        options
    }

    /// How many tables there are.
    pub async fn tables(&self) -> usize {
        let sql = match self.source.kind() {
            Kind::Postgres => {
                "select count(*) from pg_tables where schemaname not in ('pg_catalog', 'information_schema')"
            }
            _ => {
                "select count(*) from information_schema.tables where table_schema = database() and table_type = 'BASE TABLE'"
            }
        };
        self.source.query(sql).await[0][0].as_deref().unwrap().parse().unwrap()
    }

    /// Waits until all connectors stream.
    pub async fn streaming(&self) {
        let expected = self.connectors.len();
        super::eventually_within(PATIENCE, "the connectors to stream", || async {
            self.check().await;
            let sql = match self.source.kind() {
                Kind::Postgres => format!(
                    "select count(*) from pg_replication_slots s join pg_stat_replication r on r.pid = s.active_pid \
                     where s.database = '{}' and s.slot_name like 'dbzpg%' and r.state = 'streaming'",
                    self.source.name()
                ),
                _ => format!(
                    "select count(*) from information_schema.processlist where command like 'Binlog Dump%' and user = '{APP_USER}'"
                ),
            };
            let seen: usize = self.source.query(&sql).await[0][0].as_deref().unwrap().parse().unwrap();
            assert!(seen <= expected, "connectors that this run hasn't started stream: {seen}");
            seen == expected
        })
        .await;
    }

    /// Fails if a connector has.
    async fn check(&self) {
        for connector in &self.connectors {
            let path = format!("/connectors/{}/status", connector.prefix);
            let (_, body) = ask(self.servers, "GET", &path, None).await;
            assert!(!body.contains("FAILED"), "{}, {}: {body}", self.case.name, connector.variant);
        }
    }

    /// Does what the case does while it is captured. `prefixes` are those of all who capture it, and are waited for; also before a table is
    /// changed if `by_catalog`: what isn't in the log is read from MySQL's catalog then, as long as the table is as it was.
    pub async fn stream(&mut self, prefixes: &[String], by_catalog: bool) {
        for statement in &self.case.stream {
            if statement == SETTLE {
                self.settle(prefixes).await;
            } else {
                if by_catalog && self.source.kind() != Kind::Postgres && debezium::changes_a_table(statement) {
                    self.settle(prefixes).await;
                }
                self.writer.run(&statement.replace("{db}", self.source.name())).await;
            }
        }
        self.settle(prefixes).await;
    }

    /// Waits until everything that was written has arrived in the topics of all these prefixes.
    pub async fn settle(&mut self, prefixes: &[String]) {
        self.sentinels += 1;
        let sentinel = self.sentinels;
        for statement in debezium::sentinel(sentinel) {
            self.writer.run(&statement).await;
        }
        for prefix in prefixes {
            super::eventually_within(PATIENCE, "the last change to arrive", || async {
                self.check().await;
                topics(self.servers.brokers(), prefix, SENTINEL).await.iter().flat_map(|it| &it.1).any(|record| {
                    let value = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default());
                    value.contains(&format!("\"id\":{sentinel}}}")) || value.contains(&format!("\"id\":{sentinel},"))
                })
            })
            .await;
        }
        // what is behind the change: the end of its transaction, another topic's last batch
        tokio::time::sleep(Duration::from_millis(1500)).await;
    }

    /// Prefixes of the connectors.
    pub fn prefixes(&self) -> Vec<String> {
        self.connectors.iter().map(|it| it.prefix.clone()).collect()
    }

    /// The lines of what has this prefix.
    pub async fn lines(&self, prefix: &str, live: bool) -> Vec<String> {
        let masker = Masker::new(prefix, self.source.name());
        let topics = topics(self.servers.brokers(), prefix, "").await;
        if live { masker.live().lines(&topics) } else { masker.lines(&topics) }
    }

    /// Ends the connectors.
    pub async fn end(&mut self) {
        for connector in self.connectors.drain(..) {
            ask(self.servers, "DELETE", &format!("/connectors/{}", connector.prefix), None).await;
        }
        // a server notices only at its next event that nobody reads a binlog any more
        if self.source.kind() != Kind::Postgres {
            let sql = format!(
                "select id from information_schema.processlist where command like 'Binlog Dump%' and user = '{APP_USER}'"
            );
            let Source::Mysql(db) = &self.source else { return };
            let mut session = db.connect().await;
            for row in self.source.query(&sql).await {
                // it may have ended by itself
                let id = row.into_iter().next().flatten().unwrap();
                let _ = super::mysql::try_query(&mut session, &format!("kill {id}")).await;
            }
        }
    }
}

/// The topics of a prefix whose names end so, with their records; also heartbeats, whose name has the prefix at its end.
pub async fn topics(brokers: &str, prefix: &str, end: &str) -> Vec<(String, Vec<Record>)> {
    let (brokers, prefix, end) = (brokers.to_owned(), prefix.to_owned(), end.to_owned());
    tokio::task::spawn_blocking(move || {
        let names = super::kafka::topics_of(&brokers, "");
        let own = names.into_iter().filter(|name| {
            let of_prefix =
                name.strip_prefix(&prefix).is_some_and(|rest| !rest.starts_with(|it: char| it.is_ascii_alphanumeric()));
            // our own topics have the source's name there
            let beats = name.ends_with(&format!(".{prefix}")) && !name.starts_with("rowcast.");
            name.ends_with(&end) && (of_prefix || beats)
        });
        own.map(|name| (name.clone(), read_blocking(&brokers, &name, true))).collect()
    })
    .await
    .unwrap()
}
