//! Connections: TLS, logins, compression, sockets, packets, least privileges; and what answers there that isn't a server of ours.

mod fake;
mod large;
mod logins;
mod privileges;
mod refusals;
mod sessions;

use crate::support::mysql::{Db, Kind};
use crate::support::{Servers, env};

const KINDS: [Kind; 2] = [Kind::Mysql, Kind::Mariadb];
const CDC: &str = "  user: cdc\n  password: cdcpw\n";

/// A database with a table `orders`.
async fn shop(kind: Kind, prefix: &str) -> Db {
    with_orders(Db::create(kind, prefix).await).await
}

/// [`shop`] on other servers.
async fn shop_on(servers: &Servers, kind: Kind, prefix: &str) -> Db {
    with_orders(Db::create_on(servers, kind, prefix).await).await
}

async fn with_orders(db: Db) -> Db {
    db.exec("create table orders (id bigint primary key, note longtext)").await;
    db
}

/// A source's file; `place` are the lines of its section `source` that say where the server is, `source` are more of them.
fn yaml_at(db: &Db, place: &str, source: &str) -> String {
    let (name, kind) = (&db.name, db.kind.server());
    format!(
        "name: {name}\nsource:\n  type: {kind}\n{place}{source}  tables: [{name}.*]\n\
         sink:\n  type: file\n  path: out.jsonl\nstate_dir: state\nbackfill: never\n"
    )
}

fn at_port(port: u16) -> String {
    format!("  host: 127.0.0.1\n  port: {port}\n")
}

/// [`yaml_at`] the database's own server, as `cdc`, with these lines more.
fn yaml(db: &Db, source: &str) -> String {
    yaml_at(db, &at_port(db.port()), &format!("{CDC}{source}"))
}

/// The lines for TLS that is checked.
fn verified() -> String {
    format!("mode: verify_identity, ca: {}", env().tls_ca().display())
}

/// A user that goes when the test ends well; all rights that a source needs.
async fn user(db: &Db, name: &str, identified: &str) -> String {
    let user = format!("{name}_{}", crate::support::unique("u").replace('_', ""));
    let user = user[..user.len().min(32)].to_owned();
    db.exec(&format!("create user '{user}'@'%' {identified}")).await;
    db.exec(&format!("grant {} on *.* to '{user}'@'%'", rights(db.kind))).await;
    user
}

/// What the README asks for.
fn rights(kind: Kind) -> &'static str {
    match kind {
        Kind::Mysql => "REPLICATION SLAVE, REPLICATION CLIENT, SELECT",
        Kind::Mariadb => "REPLICATION SLAVE, BINLOG MONITOR, SELECT",
    }
}
