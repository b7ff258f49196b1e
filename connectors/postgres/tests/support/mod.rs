//! A database of a test on the server that `make test` starts, and a source of it.

use std::time::Duration;

use rowcast_core::TableFilter;
use rowcast_postgres::{Host, MessageFilter, Options, Servers, TlsOptions};
use tokio_postgres::{Client, NoTls};

/// A value of the environment that the servers' script wrote.
pub fn var(name: &str) -> String {
    let file = std::env::var("ROWCAST_TEST_ENV").expect("ROWCAST_TEST_ENV is not set: see the head of this file");
    let text = std::fs::read_to_string(&file).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("no {name} in {file}")).trim_matches('\'').to_owned()
}

/// A database of one test, and the administrator's connection to it.
pub struct Db {
    pub name: String,
    pub client: Client,
}

/// A connection of the administrator.
pub async fn connect(database: &str) -> Client {
    let parameters = format!(
        "host={} port={} user={} password={} dbname={database}",
        var("PG_HOST"),
        var("PG_PORT"),
        var("PG_SUPER"),
        var("PG_PASSWORD")
    );
    let (client, connection) = tokio_postgres::connect(&parameters, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

impl Db {
    /// A new one, with what these statements make.
    pub async fn create(name: &str, sql: &str) -> Db {
        let name = format!("{name}_{}", std::process::id());
        let admin = connect("postgres").await;
        for _ in 0..100 {
            match admin.batch_execute(&format!("create database {name}")).await {
                Ok(()) => break,
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
        let client = connect(&name).await;
        let db = Db { name, client };
        db.exec(sql).await;
        db
    }

    /// Runs statements.
    pub async fn exec(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{error:?} in {sql}"));
    }

    /// A source of all its tables, whose slot and publication have its name.
    pub fn options(&self, user: &str, password: &str) -> Options {
        Options {
            name: "test".to_owned(),
            servers: Servers::new(
                Host { name: var("PG_HOST"), port: var("PG_PORT").parse().unwrap() },
                Vec::new(),
                Default::default(),
            ),
            database: self.name.clone(),
            user: user.to_owned(),
            password: password.to_owned().into(),
            tls: TlsOptions::default(),
            tables: TableFilter::parse(&["*.*"]).unwrap(),
            slot: self.name.clone(),
            publication: self.name.clone(),
            slot_in_use: Default::default(),
            known: Vec::new(),
            temporary: false,
            binary: true,
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(60),
            messages: MessageFilter::All,
            local_only: false,
            two_phase: false,
            spill_folder: std::env::temp_dir(),
            spill_limit: 1 << 30,
            describe: false,
            start_at: None,
        }
    }

    /// Drops it with its slots.
    pub async fn drop(self) {
        let admin = connect("postgres").await;
        let slots = format!(
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = '{}'",
            self.name
        );
        for _ in 0..100 {
            if admin.batch_execute(&slots).await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        admin.batch_execute(&format!("drop database {} with (force)", self.name)).await.unwrap();
    }
}
