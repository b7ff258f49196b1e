//! A private MySQL or MariaDB database per test.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder, Row, Value};
use tokio::sync::Mutex;

use super::env::{APP_PASSWORD, APP_USER, Servers, env};

/// Rows of text; `None` is NULL. Bytes that aren't UTF-8 are shown as `0x...`.
pub type Rows = Vec<Vec<Option<String>>>;

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// MySQL.
    Mysql,
    /// MariaDB.
    Mariadb,
}

impl Kind {
    /// The name that `Servers` methods take.
    pub fn server(self) -> &'static str {
        match self {
            Kind::Mysql => "mysql",
            Kind::Mariadb => "mariadb",
        }
    }

    /// Its port on 127.0.0.1.
    pub fn port_of(self, servers: &Servers) -> u16 {
        self.port(servers)
    }

    /// The variable with the path of its socket.
    pub fn socket_of(self, servers: &Servers) -> &str {
        servers.var(if self == Kind::Mysql { "MYSQL_SOCKET" } else { "MARIADB_SOCKET" })
    }

    /// Statements that make a server a replica of the one on this port, by GTID.
    pub fn follow(self, port: u16) -> String {
        match self {
            Kind::Mysql => format!(
                "change replication source to source_host = '127.0.0.1', source_port = {port}, source_user = 'cdc', \
                 source_password = 'cdcpw', source_auto_position = 1, source_connect_retry = 1, get_source_public_key = 1; start replica"
            ),
            Kind::Mariadb => format!(
                "change master to master_host = '127.0.0.1', master_port = {port}, master_user = 'cdc', \
                 master_password = 'cdcpw', master_connect_retry = 1, master_use_gtid = slave_pos; start slave"
            ),
        }
    }

    /// Statements that make a replica a server of its own.
    pub fn promote(self) -> &'static str {
        match self {
            Kind::Mysql => "stop replica; reset replica all",
            Kind::Mariadb => "stop slave; reset slave all",
        }
    }

    fn port(self, servers: &Servers) -> u16 {
        match self {
            Kind::Mysql => servers.mysql_port(),
            Kind::Mariadb => servers.mariadb_port(),
        }
    }
}

/// A database that goes when the value is dropped.
pub struct Db {
    /// Its name.
    pub name: String,
    /// Its server.
    pub kind: Kind,
    port: u16,
    socket: String,
    conn: Mutex<Conn>,
}

impl Db {
    /// Creates a database with a unique name that starts with `prefix`, on the shared server.
    pub async fn create(kind: Kind, prefix: &str) -> Db {
        Db::create_on(env(), kind, prefix).await
    }

    /// [`Db::create`] on other servers.
    pub async fn create_on(servers: &Servers, kind: Kind, prefix: &str) -> Db {
        let (name, port) = (super::unique(prefix), kind.port(servers));
        let socket = kind.socket_of(servers).to_owned();
        let mut conn = connect(&socket, None, APP_USER, APP_PASSWORD).await;
        conn.query_drop(format!("create database {name} character set utf8mb4")).await.unwrap();
        conn.query_drop(format!("use {name}")).await.unwrap();
        Db { name, kind, port, socket, conn: Mutex::new(conn) }
    }

    /// Port of its server on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path of its server's socket.
    pub fn socket(&self) -> &str {
        &self.socket
    }

    /// Runs one or more statements, separated by semicolons, each on its own (no transaction around them).
    pub async fn exec(&self, sql: &str) {
        exec(&mut *self.conn.lock().await, sql).await;
    }

    /// Rows of a query, as text (the server's text protocol).
    pub async fn query(&self, sql: &str) -> Rows {
        query(&mut *self.conn.lock().await, sql).await
    }

    /// The first column of the first row, which must not be NULL.
    pub async fn value(&self, sql: &str) -> String {
        match self.query(sql).await.into_iter().next().and_then(|row| row.into_iter().next()) {
            Some(Some(value)) => value,
            other => panic!("{other:?} instead of a value from: {sql}"),
        }
    }

    /// Another session in this database, as the user that may do everything.
    pub async fn connect(&self) -> Conn {
        self.connect_as(APP_USER, APP_PASSWORD).await
    }

    /// Another session in this database, as any user.
    pub async fn connect_as(&self, user: &str, password: &str) -> Conn {
        connect(&self.socket, Some(&self.name), user, password).await
    }

    /// Ends all of `cdc`'s sessions on this server, replication included; of other tests too on the shared servers.
    pub async fn disconnect_cdc(&self) {
        for row in self.query("select id from information_schema.processlist where user like 'cdc%'").await {
            // It may have ended by itself.
            let id = row.into_iter().next().flatten().unwrap();
            let _ = self.conn.lock().await.query_drop(format!("kill {id}")).await;
        }
    }
}

/// [`Db::exec`] on any session.
pub async fn exec(conn: &mut Conn, sql: &str) {
    if let Err(e) = conn.query_drop(sql).await {
        panic!("{e:?} in: {sql}");
    }
}

/// [`Db::query`] on any session.
pub async fn query(conn: &mut Conn, sql: &str) -> Rows {
    match try_query(conn, sql).await {
        Ok(rows) => rows,
        Err(e) => panic!("{e:?} in: {sql}"),
    }
}

/// [`query`] for a server that may be gone.
pub async fn try_query(conn: &mut Conn, sql: &str) -> Result<Rows, mysql_async::Error> {
    let rows = conn.query::<Row, _>(sql).await?;
    Ok(rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect())
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(String::from_utf8(bytes).unwrap_or_else(|e| {
            let hex: String = e.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
            format!("0x{hex}")
        })),
        other => Some(other.as_sql(true)),
    }
}

fn options(socket: &str, database: Option<&str>, user: &str, password: &str) -> Opts {
    // Through the socket a password may be sent without TLS and without the server's RSA key.
    OptsBuilder::default()
        .socket(Some(socket))
        .prefer_socket(true)
        .db_name(database)
        .user(Some(user))
        .pass(Some(password))
        .into()
}

/// A session, or why there is none.
pub async fn try_connect(
    socket: &str,
    database: Option<&str>,
    user: &str,
    password: &str,
) -> Result<Conn, mysql_async::Error> {
    Conn::new(options(socket, database, user, password)).await
}

async fn connect(socket: &str, database: Option<&str>, user: &str, password: &str) -> Conn {
    match try_connect(socket, database, user, password).await {
        Ok(conn) => conn,
        Err(e) => panic!("{socket}, user {user}: {e:?}"),
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        let (name, socket) = (self.name.clone(), self.socket.clone());
        let cleaned = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let Ok(mut conn) = Conn::new(options(&socket, None, APP_USER, APP_PASSWORD)).await else { return };
                // A session of the test may still hold a metadata lock.
                let _ = conn.query_drop("set session lock_wait_timeout = 2").await;
                if let Err(e) = conn.query_drop(format!("drop database if exists {name}")).await {
                    eprintln!("database {name} could not be dropped: {e}");
                }
                let _ = conn.disconnect().await;
            });
        })
        .join();
        if cleaned.is_err() {
            eprintln!("dropping the database {} failed", self.name);
        }
    }
}
