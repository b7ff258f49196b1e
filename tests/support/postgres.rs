//! A private PostgreSQL database per test.

use std::time::{Duration, Instant};

use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use super::env::{APP_PASSWORD, APP_USER, Servers, env};

/// Rows of text, as psql would show them; `None` is NULL.
pub type Rows = Vec<Vec<Option<String>>>;

/// A database that goes, with its replication slots and sessions, when the value is dropped.
pub struct Db {
    /// Its name.
    pub name: String,
    port: u16,
    client: Client,
}

impl Db {
    /// Creates a database with a unique name that starts with `prefix`, on the shared server. `cdc` may create
    /// publications and schemas in it.
    pub async fn create(prefix: &str) -> Db {
        Db::create_on(env(), prefix).await
    }

    /// [`Db::create`] on other servers.
    pub async fn create_on(servers: &Servers, prefix: &str) -> Db {
        let (name, port) = (super::unique(prefix), servers.pg_port());
        let admin = connect(port, "postgres", APP_USER, APP_PASSWORD).await;
        // Two CREATE DATABASE at once may meet in the template database.
        let deadline = Instant::now() + Duration::from_secs(60);
        while let Err(e) = admin.batch_execute(&format!("create database {name}")).await {
            let busy = e.as_db_error().is_some_and(|e| e.code().code() == "55006");
            assert!(busy && Instant::now() < deadline, "create database {name}: {e:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        admin.batch_execute(&format!("grant create on database {name} to cdc")).await.unwrap();
        let client = connect(port, &name, APP_USER, APP_PASSWORD).await;
        client.batch_execute("grant all on schema public to cdc").await.unwrap();
        Db { name, port, client }
    }

    /// Port of its server on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs one or more statements as a superuser; several in one string are one transaction, unless they say otherwise.
    pub async fn exec(&self, sql: &str) {
        if let Err(e) = self.client.batch_execute(sql).await {
            panic!("{e:?} in: {sql}");
        }
    }

    /// Rows of a query, as text.
    pub async fn query(&self, sql: &str) -> Rows {
        query(&self.client, sql).await
    }

    /// The first column of the first row, which must not be NULL.
    pub async fn value(&self, sql: &str) -> String {
        match self.query(sql).await.into_iter().next().and_then(|row| row.into_iter().next()) {
            Some(Some(value)) => value,
            other => panic!("{other:?} instead of a value from: {sql}"),
        }
    }

    /// Another session in this database, as a superuser.
    pub async fn connect(&self) -> Client {
        connect(self.port, &self.name, APP_USER, APP_PASSWORD).await
    }

    /// Another session in this database, as any user.
    pub async fn connect_as(&self, user: &str, password: &str) -> Client {
        connect(self.port, &self.name, user, password).await
    }

    /// Waits until nobody streams from a slot. A daemon that has ended well was told so by its walsender, which lets go of the slot a
    /// moment later; until then the slot can be neither moved nor dropped.
    pub async fn slot_is_free(&self, slot: &str) {
        let sql = format!("select count(*) from pg_replication_slots where slot_name = '{slot}' and active");
        super::eventually(super::source::PATIENCE, &format!("{slot} to be free"), || async {
            if self.value(&sql).await == "0" { Ok(()) } else { Err("active") }
        })
        .await;
    }

    /// The server process that streams from a slot, once one does.
    pub async fn walsender(&self, slot: &str) -> String {
        let sql = format!("select active_pid from pg_replication_slots where slot_name = '{slot}' and active");
        super::eventually(super::source::PATIENCE, &format!("{slot} in use"), || async {
            self.query(&sql).await.into_iter().flatten().next().flatten().ok_or("not active")
        })
        .await
    }

    /// Closes the server's end of all of `cdc`'s sessions, replication included.
    pub async fn disconnect_cdc(&self) {
        self.exec(&format!(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{}' and usename like 'cdc%'",
            self.name
        ))
        .await;
    }
}

/// Rows of a query on any session, as text.
pub async fn query(client: &Client, sql: &str) -> Rows {
    match try_query(client, sql).await {
        Ok(rows) => rows,
        Err(e) => panic!("{e:?} in: {sql}"),
    }
}

/// [`query`] for a server that may be gone.
pub async fn try_query(client: &Client, sql: &str) -> Result<Rows, tokio_postgres::Error> {
    let messages = client.simple_query(sql).await?;
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect()),
        _ => None,
    };
    Ok(messages.into_iter().filter_map(row).collect())
}

/// A session, or why there is none.
pub async fn try_connect(
    port: u16,
    database: &str,
    user: &str,
    password: &str,
) -> Result<Client, tokio_postgres::Error> {
    let mut config = Config::new();
    config
        .host("127.0.0.1")
        .port(port)
        .dbname(database)
        .user(user)
        .password(password)
        .application_name("rowcast-tests");
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn connect(port: u16, database: &str, user: &str, password: &str) -> Client {
    match try_connect(port, database, user, password).await {
        Ok(client) => client,
        Err(e) => panic!("PostgreSQL on port {port}, database {database}, user {user}: {e:?}"),
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        let (name, port) = (self.name.clone(), self.port);
        // A thread with a runtime of its own: the test's may be ending, or have one thread only, which is this one.
        let cleaned = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let Ok(admin) = try_connect(port, "postgres", APP_USER, APP_PASSWORD).await else { return };
                // What a failed test left prepared would keep the database, and every new slot of the server waiting.
                let prepared = format!("select gid from pg_prepared_xacts where database = '{name}'");
                let gids: Vec<String> =
                    try_query(&admin, &prepared).await.unwrap_or_default().into_iter().flatten().flatten().collect();
                if let (false, Ok(own)) = (gids.is_empty(), try_connect(port, &name, APP_USER, APP_PASSWORD).await) {
                    for gid in gids {
                        let _ = own.simple_query(&format!("rollback prepared '{gid}'")).await;
                    }
                }
                // An active slot can't be dropped, and its walsender may come back before we do. A slot that stays takes one of the
                // server's few from all tests that follow.
                let deadline = Instant::now() + Duration::from_secs(20);
                while Instant::now() < deadline {
                    let slots = format!(
                        "select pg_terminate_backend(active_pid) from pg_replication_slots where database = '{name}' and active;
                         select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = '{name}' and not active"
                    );
                    let _ = admin.simple_query(&slots).await;
                    match admin.simple_query(&format!("drop database if exists {name} with (force)")).await {
                        Ok(_) => return,
                        Err(e) if e.is_closed() => return,
                        Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                    }
                }
                eprintln!("database {name} could not be dropped");
            });
        })
        .join();
        if cleaned.is_err() {
            eprintln!("dropping the database {} failed", self.name);
        }
    }
}
