//! Another server takes the database's place: a promoted standby of PostgreSQL, a replica of MySQL or MariaDB that has the same
//! GTIDs. What it has is streamed on; that it lacks what was published is recognised. The daemon finds it through a proxy, as it
//! would by a virtual address.

use serde_json::Value as Json;
use tokio::task::{JoinSet, block_in_place};

use crate::support::daemon::Daemon;
use crate::support::proxy::{End, Flow, Proxy, Rules};
use crate::support::session::{Address, Session};
use crate::support::source::{Kind, PATIENCE, Source, wait_until_streaming};
use crate::support::{Servers, env, eventually, mysql};

/// A daemon behind a proxy, its primary and the server that is to follow.
struct Pair {
    kind: Kind,
    primary: Servers,
    next: Servers,
    source: Source,
    proxy: Proxy,
    daemon: Daemon,
    /// Rows inserted, and due in the topic.
    rows: u64,
}

const SUITE: (&str, &str) = ("ROWCAST_PG_SUITE", "trixie");

impl Pair {
    /// `settings` are those of both servers.
    async fn start(kind: Kind, settings: &[(&str, &str)]) -> Pair {
        let name = kind.server();
        let primary = block_in_place(|| Servers::private_with(&[name], settings));
        let source = Source::create_on(&primary, kind, "failover").await;
        let next = match kind {
            Kind::Postgres => {
                let port = primary.pg_port().to_string();
                let settings: Vec<_> =
                    settings.iter().copied().chain([("ROWCAST_PG_PRIMARY", port.as_str())]).collect();
                block_in_place(|| Servers::private_with(&[name], &settings))
            }
            Kind::Mysql | Kind::Mariadb => block_in_place(|| Servers::private_with(&[name], settings)),
        };
        let proxy = Proxy::to(source.port());
        source.create_table("counters", "id bigint primary key, of_server int not null").await;
        let yaml = format!(
            "{}  connect_timeout: 3s\n  read_timeout: 3s\nsink:\n  type: kafka\n  brokers: {}\nbackfill: never\n",
            source.yaml_at("*", proxy.port()),
            env().brokers()
        );
        let mut daemon = Daemon::command().file("source.yaml", &yaml).args(&["run", "source.yaml"]).spawn();
        wait_until_streaming(&mut daemon).await;
        let mut pair = Pair { kind, primary, next, source, proxy, daemon, rows: 0 };
        let port = pair.source.port();
        match kind {
            Kind::Postgres => {}
            Kind::Mysql => pair.at_next(&mysql::Kind::Mysql.follow(port)).await,
            Kind::Mariadb => pair.at_next(&mysql::Kind::Mariadb.follow(port)).await,
        }
        pair.insert(false, 10).await;
        pair.published().await;
        pair
    }

    fn address(&self, servers: &Servers, database: &str) -> Address {
        let database = database.to_owned();
        match self.kind {
            Kind::Postgres => Address::Postgres { port: servers.pg_port(), database },
            Kind::Mysql => Address::Mysql { socket: servers.var("MYSQL_SOCKET").to_owned(), database },
            Kind::Mariadb => Address::Mysql { socket: servers.var("MARIADB_SOCKET").to_owned(), database },
        }
    }

    /// Runs statements at the next server, outside the database, which it may not have yet.
    async fn at_next(&self, sql: &str) {
        let database = if self.kind == Kind::Postgres { "postgres" } else { "mysql" };
        let mut session = self.address(&self.next, database).connect_patiently().await;
        session.run(sql).await.unwrap();
    }

    /// A session with the database.
    async fn session(&self, at_next: bool) -> Session {
        let servers = if at_next { &self.next } else { &self.primary };
        self.address(servers, self.source.name()).connect_patiently().await
    }

    /// Inserts rows, each in a transaction of its own.
    async fn insert(&mut self, at_next: bool, rows: u64) {
        let mut session = self.session(at_next).await;
        let server = 1 + i32::from(at_next);
        for id in self.rows + 1..=self.rows + rows {
            session.run(&format!("insert into counters values ({id}, {server})")).await.unwrap();
        }
        self.rows += rows;
    }

    /// Waits until the next server has all rows.
    async fn replicated(&self) {
        eventually(PATIENCE, &format!("{} rows on the replica", self.rows), || async {
            let mut session = self.address(&self.next, self.source.name()).connect().await?;
            match session.number("select count(*) from counters").await? {
                rows if rows == self.rows => Ok(()),
                rows => Err(format!("{rows} rows")),
            }
        })
        .await;
    }

    /// Waits until all rows have been published, each once and in order.
    async fn published(&self) {
        let events = self.source.wait_for_events("counters", self.rows as usize).await;
        let ids: Vec<u64> = events.iter().map(|event: &Json| event["after"]["id"].as_u64().unwrap()).collect();
        assert_eq!(ids, (1..=self.rows).collect::<Vec<_>>(), "{}", self.kind.name());
    }

    /// The primary dies, and the next server takes its place.
    async fn fail_over(&mut self) {
        block_in_place(|| self.primary.kill(self.kind.server()));
        match self.kind {
            Kind::Postgres => self.at_next("select pg_promote()").await,
            Kind::Mysql => self.at_next(mysql::Kind::Mysql.promote()).await,
            Kind::Mariadb => self.at_next(mysql::Kind::Mariadb.promote()).await,
        }
    }

    fn switch(&self) {
        let server = self.kind.server();
        let port = match self.kind {
            Kind::Postgres => self.next.pg_port(),
            Kind::Mysql => self.next.mysql_port(),
            Kind::Mariadb => self.next.mariadb_port(),
        };
        self.proxy.retarget(port);
        self.proxy.pass();
        self.proxy.cut(End::Rst);
        println!("{server}: the other server on port {port} answers now");
    }

    /// The slot of PostgreSQL is on the standby, and has come as far as the checkpoint allows.
    async fn slot_synced(&self) {
        let sql = format!(
            "select count(*) from pg_replication_slots where slot_name = 'rowcast_{}' and synced and not temporary",
            self.source.name()
        );
        eventually(PATIENCE, "the slot on the standby", || async {
            let mut session = self.address(&self.next, "postgres").connect().await?;
            if session.number(&sql).await? == 1 { Ok(()) } else { Err("not synchronised".to_owned()) }
        })
        .await;
    }
}

/// The daemon lags when the primary dies; the rest and what follows comes from the other server, once and in order.
async fn goes_on(kind: Kind, settings: &[(&str, &str)]) {
    let mut pair = Pair::start(kind, settings).await;
    if kind == Kind::Postgres {
        pair.slot_synced().await;
    }
    pair.proxy.set(Rules { down: Flow::Stall, ..Rules::PASS });
    pair.insert(false, 300).await;
    pair.replicated().await;
    pair.fail_over().await;
    pair.switch();
    pair.insert(true, 200).await;
    pair.published().await;
    assert_eq!(pair.daemon.shutdown(PATIENCE).await, 0);
    pair.published().await;
}

/// The other server lacks what was published, and has gone on without it: this is never streamed over.
async fn lacks(kind: Kind, settings: &[(&str, &str)], words: &[&str]) {
    let mut pair = Pair::start(kind, settings).await;
    pair.replicated().await;
    match kind {
        Kind::Postgres => {
            pair.slot_synced().await;
            block_in_place(|| pair.next.stop("pg"));
        }
        Kind::Mysql => pair.at_next("stop replica").await,
        Kind::Mariadb => pair.at_next("stop slave").await,
    }
    let shared = pair.rows;
    pair.insert(false, 30).await;
    pair.published().await;
    // nobody is connected while it changes
    pair.proxy.set(Rules { refuse: true, ..Rules::PASS });
    pair.proxy.cut(End::Rst);
    if kind == Kind::Postgres {
        // it would catch up if it could
        block_in_place(|| {
            pair.primary.kill("pg");
            pair.next.start("pg");
        });
    }
    pair.fail_over().await;
    // it has gone further than the lost primary, by any count
    let published = std::mem::replace(&mut pair.rows, shared);
    pair.insert(true, 100).await;
    let mark = pair.daemon.mark();
    pair.switch();
    let said = pair.daemon.wait_for_log_since(mark, "ERROR", PATIENCE).await;
    for word in words {
        assert!(said.contains(word), "{}: no `{word}` in: {said}", kind.name());
    }
    assert_eq!(pair.daemon.wait(PATIENCE).await, 1);
    assert_eq!(pair.source.events("counters").await.len() as u64, published, "nothing more is published");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mysql_or_mariadb_replica_that_takes_over_is_streamed_on_by_gtid() {
    JoinSet::from_iter([Kind::Mysql, Kind::Mariadb].map(|kind| goes_on(kind, &[]))).join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mysql_or_mariadb_replica_that_lacks_what_was_published_is_refused() {
    let mut both = JoinSet::new();
    both.spawn(lacks(Kind::Mysql, &[], &["ahead of the server", "repair: "]));
    both.spawn(lacks(Kind::Mariadb, &[], &["repair: "]));
    both.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_postgres_standby_is_streamed_on_from_its_failover_slot() {
    goes_on(Kind::Postgres, &[SUITE]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_postgres_standby_that_lacks_what_was_published_is_a_gap() {
    lacks(Kind::Postgres, &[SUITE], &["gap: ", "timeline", "repair: "]).await;
}

/// Before PostgreSQL 17 a standby has no slot.
#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_postgres_standby_without_the_slot_is_a_gap() {
    let mut pair = Pair::start(Kind::Postgres, &[]).await;
    pair.insert(false, 20).await;
    pair.replicated().await;
    pair.fail_over().await;
    // where the machine's own server is newer, it may have one
    pair.at_next("select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_type = 'logical'")
        .await;
    let mark = pair.daemon.mark();
    pair.switch();
    let said = pair.daemon.wait_for_log_since(mark, "ERROR", PATIENCE).await;
    assert!(said.contains("gap: replication slot") && said.contains("does not exist"), "{said}");
    assert_eq!(pair.daemon.wait(PATIENCE).await, 1);
}
