//! A database of any kind as a source, and its events as a reader of Kafka sees them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value as Json;

use super::daemon::{Builder, Daemon};
use super::env::env;
use super::kafka::{Record, read_committed};
use super::{mysql, postgres};

/// How long a test waits for something that should take a moment, on a machine that may be busy.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// The kinds of databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// PostgreSQL.
    Postgres,
    /// MySQL.
    Mysql,
    /// MariaDB.
    Mariadb,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::Postgres, Kind::Mysql, Kind::Mariadb];

    /// The name that `Servers` methods take.
    pub fn server(self) -> &'static str {
        match self {
            Kind::Postgres => "pg",
            Kind::Mysql => "mysql",
            Kind::Mariadb => "mariadb",
        }
    }

    /// As the configuration names it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Postgres => "postgres",
            Kind::Mysql => "mysql",
            Kind::Mariadb => "mariadb",
        }
    }
}

/// A private database that a daemon tails.
pub enum Source {
    /// PostgreSQL.
    Postgres(postgres::Db),
    /// MySQL or MariaDB.
    Mysql(mysql::Db),
}

impl Source {
    /// Creates the database.
    pub async fn create(kind: Kind, prefix: &str) -> Source {
        match kind {
            Kind::Postgres => Source::Postgres(postgres::Db::create(prefix).await),
            Kind::Mysql => Source::Mysql(mysql::Db::create(mysql::Kind::Mysql, prefix).await),
            Kind::Mariadb => Source::Mysql(mysql::Db::create(mysql::Kind::Mariadb, prefix).await),
        }
    }

    /// [`Source::create`] on other servers.
    pub async fn create_on(servers: &super::Servers, kind: Kind, prefix: &str) -> Source {
        match kind {
            Kind::Postgres => Source::Postgres(postgres::Db::create_on(servers, prefix).await),
            Kind::Mysql => Source::Mysql(mysql::Db::create_on(servers, mysql::Kind::Mysql, prefix).await),
            Kind::Mariadb => Source::Mysql(mysql::Db::create_on(servers, mysql::Kind::Mariadb, prefix).await),
        }
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Source::Postgres(_) => Kind::Postgres,
            Source::Mysql(db) if db.kind == mysql::Kind::Mysql => Kind::Mysql,
            Source::Mysql(_) => Kind::Mariadb,
        }
    }

    /// Name of the database; also the source's name.
    pub fn name(&self) -> &str {
        match self {
            Source::Postgres(db) => &db.name,
            Source::Mysql(db) => &db.name,
        }
    }

    /// What qualifies a table: `public`, or the database.
    pub fn schema(&self) -> &str {
        match self {
            Source::Postgres(_) => "public",
            Source::Mysql(db) => &db.name,
        }
    }

    /// Runs statements.
    pub async fn exec(&self, sql: &str) {
        match self {
            Source::Postgres(db) => db.exec(sql).await,
            Source::Mysql(db) => db.exec(sql).await,
        }
    }

    /// Runs a `CREATE TABLE`; in PostgreSQL the table then belongs to the daemon's role, which publishes it.
    pub async fn create_table(&self, table: &str, columns: &str) {
        self.exec(&format!("create table {table} ({columns})")).await;
        if let Source::Postgres(db) = self {
            db.exec(&format!("alter table {table} owner to cdc")).await;
        }
    }

    /// Rows of text.
    pub async fn query(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        match self {
            Source::Postgres(db) => db.query(sql).await,
            Source::Mysql(db) => db.query(sql).await,
        }
    }

    /// Port of its server on 127.0.0.1.
    pub fn port(&self) -> u16 {
        match self {
            Source::Postgres(db) => db.port(),
            Source::Mysql(db) => db.port(),
        }
    }

    /// The source's part of a configuration.
    pub fn yaml(&self, tables: &str) -> String {
        self.yaml_at(tables, self.port())
    }

    /// [`Source::yaml`] with another port: a proxy's.
    pub fn yaml_at(&self, tables: &str, port: u16) -> String {
        let database = match self {
            Source::Postgres(db) => format!("  database: {}\n", db.name),
            Source::Mysql(_) => String::new(),
        };
        let (name, kind, schema) = (self.name(), self.kind().name(), self.schema());
        format!(
            "name: {name}\nsource:\n  type: {kind}\n  host: 127.0.0.1\n  port: {port}\n{database}  user: cdc\n  \
             password: cdcpw\n  tables: [\"{schema}.{tables}\"]\n"
        )
    }

    /// A daemon that publishes the changes of all tables to Kafka, without the rows that are there; not started yet.
    pub fn to_kafka(&self) -> Builder {
        self.to_kafka_with("backfill: never\n")
    }

    /// The same with these lines of YAML at the top level instead of `backfill: never`.
    pub fn to_kafka_with(&self, more: &str) -> Builder {
        Daemon::command().file("source.yaml", &self.to_kafka_yaml("*", more)).args(&["run", "source.yaml"])
    }

    /// The configuration of a daemon that publishes these tables to Kafka, with more lines at the top level.
    pub fn to_kafka_yaml(&self, tables: &str, more: &str) -> String {
        self.yaml(tables) + &format!("sink:\n  type: kafka\n  brokers: {}\n", env().brokers()) + more
    }

    /// The topic of a table.
    pub fn topic(&self, table: &str) -> String {
        format!("{}.{}.{table}", self.name(), self.schema())
    }

    /// The committed records of a table, tombstones included.
    pub async fn records(&self, table: &str) -> Vec<Record> {
        read_committed(&self.topic(table)).await
    }

    /// The committed events of a table.
    pub async fn events(&self, table: &str) -> Vec<Json> {
        self.records(table).await.iter().filter(|record| record.value.is_some()).map(Record::json).collect()
    }

    /// Waits until a table has this many events, and returns them.
    pub async fn wait_for_events(&self, table: &str, count: usize) -> Vec<Json> {
        super::eventually(PATIENCE, &format!("{count} events of {table}"), || async {
            let events = self.events(table).await;
            if events.len() >= count { Ok(events) } else { Err(format!("{} events", events.len())) }
        })
        .await
    }
}

/// A session that writes, apart from the one that asks.
pub enum Writer {
    /// PostgreSQL.
    Postgres(tokio_postgres::Client),
    /// MySQL or MariaDB.
    Mysql(Box<mysql_async::Conn>),
}

impl Writer {
    /// A new session.
    pub async fn of(source: &Source) -> Writer {
        match source {
            Source::Postgres(db) => Writer::Postgres(db.connect().await),
            Source::Mysql(db) => Writer::Mysql(Box::new(db.connect().await)),
        }
    }

    /// Runs statements.
    pub async fn run(&mut self, sql: &str) {
        match self {
            Writer::Postgres(client) => {
                if let Err(error) = client.batch_execute(sql).await {
                    panic!("{error:?} in: {sql}");
                }
            }
            Writer::Mysql(conn) => mysql::exec(conn, sql).await,
        }
    }

    /// Runs statements in one transaction.
    pub async fn transaction(&mut self, statements: &[String]) {
        self.run(&format!("begin; {}; commit", statements.join("; "))).await;
    }
}

/// Waits until a daemon says that its source streams.
pub async fn wait_until_streaming(daemon: &mut Daemon) {
    daemon.wait_for_log("streaming: ", PATIENCE).await;
}

/// Folds events by key: what a cache would hold. Fails on an event that can't follow what is there.
pub fn fold(events: &[Json], key: &str) -> BTreeMap<String, Json> {
    let mut rows = BTreeMap::new();
    for event in events {
        let image = if event["op"] == "d" { &event["before"] } else { &event["after"] };
        let id = image[key].to_string();
        match event["op"].as_str() {
            Some("c") => assert!(rows.insert(id, image.clone()).is_none(), "inserted twice: {event}"),
            Some("u") => assert!(rows.insert(id, image.clone()).is_some(), "updated before it was there: {event}"),
            Some("d") => assert!(rows.remove(&id).is_some(), "deleted before it was there: {event}"),
            other => panic!("unexpected op {other:?}"),
        }
    }
    rows
}
