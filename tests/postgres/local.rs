//! A PostgreSQL source whose events go to a file: all that a test of the server's side needs.

pub use crate::support::local::{
    again, command, events, refused, refused_since, run, sees, stops, streams, streams_since,
};
use crate::support::source::PATIENCE;
use crate::support::{Servers, eventually, postgres};

/// A database with a table `orders` that belongs to `cdc`.
pub async fn shop(prefix: &str) -> postgres::Db {
    with_orders(postgres::Db::create(prefix).await).await
}

/// [`shop`] on other servers.
pub async fn shop_on(servers: &Servers, prefix: &str) -> postgres::Db {
    with_orders(postgres::Db::create_on(servers, prefix).await).await
}

async fn with_orders(db: postgres::Db) -> postgres::Db {
    db.exec("create table orders (id bigint primary key, note text); alter table orders owner to cdc").await;
    db
}

/// A source's file; `source` are more lines of its section `source`, and `host` and `port` its own.
pub fn yaml_at(db: &postgres::Db, place: &str, source: &str) -> String {
    let name = &db.name;
    format!(
        "name: {name}\nsource:\n  type: postgres\n{place}  database: {name}\n{source}  tables: [public.*]\n\
         sink:\n  type: file\n  path: out.jsonl\nstate_dir: state\nbackfill: never\n"
    )
}

pub const CDC: &str = "  user: cdc\n  password: cdcpw\n";

/// [`yaml_at`] the database's own server, as `cdc`.
pub fn yaml(db: &postgres::Db) -> String {
    yaml_at(db, &place(db), CDC)
}

pub fn place(db: &postgres::Db) -> String {
    format!("  host: 127.0.0.1\n  port: {}\n", db.port())
}

/// Waits until a query gives this value.
pub async fn becomes(db: &postgres::Db, sql: &str, expected: &str) {
    eventually(PATIENCE, sql, || async {
        let found = db.query(sql).await.into_iter().next().and_then(|row| row.into_iter().next()).flatten();
        if found.as_deref() == Some(expected) { Ok(()) } else { Err(found) }
    })
    .await;
}
