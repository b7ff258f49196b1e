//! Another server goes on where the first one stopped: by role, by GTIDs, or as a gap. Two servers each, with replication between
//! them, and a source that knows both.

use serde_json::Value as Json;
use tokio::task::{JoinSet, block_in_place};

use crate::support::daemon::Daemon;
use crate::support::mysql::{self, Kind};
use crate::support::session::{Address, Session};
use crate::support::source::{PATIENCE, Source, wait_until_streaming};
use crate::support::{Servers, eventually};

/// Two servers of which the second follows the first and is read-only, and a daemon that has both in `source.host`.
struct Pair {
    kind: Kind,
    servers: [Servers; 2],
    source: Source,
    daemon: Daemon,
    rows: u64,
}

impl Pair {
    async fn start(kind: Kind, attributes: &str) -> Pair {
        let servers = [(); 2].map(|()| block_in_place(|| Servers::private(&[kind.server()])));
        let db = mysql::Db::create_on(&servers[0], kind, "failover").await;
        db.exec("create table counters (id bigint primary key, of_server int not null)").await;
        let source = Source::Mysql(db);
        let ports = servers.each_ref().map(|servers| kind.port_of(servers));
        let yaml = source.to_kafka_yaml("*", "backfill: never\n").replace(
            &format!("host: 127.0.0.1\n  port: {}\n", ports[0]),
            &format!(
                "host: \"127.0.0.1:{},127.0.0.1:{}\"\n{attributes}  connect_timeout: 3s\n  read_timeout: 3s\n",
                ports[0], ports[1]
            ),
        );
        let mut pair = Pair {
            kind,
            source,
            daemon: Daemon::command().file("source.yaml", &yaml).args(&["run", "source.yaml"]).spawn(),
            servers,
            rows: 0,
        };
        pair.at(1, &format!("{}; set global read_only = 1", kind.follow(ports[0]))).await;
        wait_until_streaming(&mut pair.daemon).await;
        pair.insert(0, 10).await;
        pair.published().await;
        pair.replicated().await;
        pair
    }

    fn address(&self, server: usize, database: &str) -> Address {
        let socket = self.kind.socket_of(&self.servers[server]).to_owned();
        Address::Mysql { socket, database: database.to_owned() }
    }

    async fn session(&self, server: usize) -> Session {
        self.address(server, "mysql").connect_patiently().await
    }

    async fn at(&self, server: usize, sql: &str) {
        self.session(server).await.run(sql).await.unwrap();
    }

    async fn insert(&mut self, server: usize, rows: u64) {
        let mut session = self.session(server).await;
        for id in self.rows + 1..=self.rows + rows {
            let sql = format!("insert into {}.counters values ({id}, {server})", self.source.name());
            session.run(&sql).await.unwrap();
        }
        self.rows += rows;
    }

    async fn replicated(&self) {
        let sql = format!("select count(*) from {}.counters", self.source.name());
        eventually(PATIENCE, &format!("{} rows on the replica", self.rows), || async {
            match self.address(1, "mysql").connect().await?.number(&sql).await? {
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
        assert_eq!(ids, (1..=self.rows).collect::<Vec<_>>(), "{:?}", self.kind);
    }

    async fn promote(&self) {
        self.at(1, &format!("{}; set global read_only = 0", self.kind.promote())).await;
    }

    /// The daemon ends with an error that has all of these.
    async fn stops_with(&mut self, mark: (usize, usize), parts: &[&str]) {
        let said = self.daemon.wait_for_log_since(mark, "stopped: ", PATIENCE).await;
        for part in parts {
            assert!(said.contains(part), "{:?}: no `{part}` in: {said}", self.kind);
        }
        assert_eq!(self.daemon.wait(PATIENCE).await, 1);
    }
}

async fn both<F: Future<Output = ()> + Send + 'static>(test: fn(Kind) -> F) {
    JoinSet::from_iter([Kind::Mysql, Kind::Mariadb].map(test)).join_all().await;
}

/// The primary dies; until the replica is promoted nobody is the one, then the stream goes on there.
async fn goes_on(kind: Kind) {
    let mut pair = Pair::start(kind, "").await;
    let mark = pair.daemon.mark();
    block_in_place(|| pair.servers[0].kill(kind.server()));
    let said = pair.daemon.wait_for_log_since(mark, "no server is there that is `primary`", PATIENCE).await;
    assert!(said.contains("it is a standby") && said.contains("`source.target_session_attrs`"), "{said}");
    pair.promote().await;
    pair.insert(1, 20).await;
    pair.published().await;
    // the first one comes back, and is a primary too: the daemon stays where it is until it has to look
    block_in_place(|| pair.servers[0].start(kind.server()));
    pair.insert(1, 5).await;
    pair.published().await;
    assert_eq!(pair.daemon.shutdown(PATIENCE).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_host_is_streamed_from_once_it_is_the_primary() {
    both(goes_on).await;
}

/// A switch-over: the primary becomes the replica of the other, and nothing is cut.
async fn switched_over(kind: Kind) {
    let mut pair = Pair::start(kind, "").await;
    pair.at(0, "set global read_only = 1").await;
    pair.replicated().await;
    let mark = pair.daemon.mark();
    pair.promote().await;
    pair.insert(1, 10).await;
    let said = pair.daemon.wait_for_log_since(mark, "the server isn't `primary` any more", PATIENCE).await;
    assert!(said.contains("WARN") && said.contains("it is a standby"), "{said}");
    pair.published().await;
    assert_eq!(pair.daemon.shutdown(PATIENCE).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_becomes_read_only_is_left_for_the_next_one() {
    both(switched_over).await;
}

/// A replica is streamed from, as asked for; when it falls behind what was published, it is waited for.
async fn waits(kind: Kind) {
    let mut pair = Pair::start(kind, "  target_session_attrs: read-write\n").await;
    let port = kind.port_of(&pair.servers[0]);
    // it stops applying, and the source is switched to it
    pair.at(1, if kind == Kind::Mysql { "stop replica sql_thread" } else { "stop slave sql_thread" }).await;
    pair.insert(0, 10).await;
    pair.published().await;
    assert_eq!(pair.daemon.shutdown(PATIENCE).await, 0);
    let text = std::fs::read_to_string(pair.daemon.dir().join("source.yaml")).unwrap();
    pair.daemon.write("source.yaml", &text.replace("read-write", "standby"));
    if kind == Kind::Mariadb {
        // who replicates is told to those only who may know
        pair.at(1, "set sql_log_bin = 0; grant slave monitor on *.* to cdc").await;
    }
    // it lags: applying goes on, held up by a lock
    let mut lock = pair.session(1).await;
    lock.run(&format!("lock tables {}.counters read", pair.source.name())).await.unwrap();
    pair.at(1, if kind == Kind::Mysql { "start replica sql_thread" } else { "start slave sql_thread" }).await;
    let mark = pair.daemon.mark();
    pair.daemon.start();
    let said = pair.daemon.wait_for_log_since(mark, "it is waited for", PATIENCE).await;
    let expected = format!("it replicates from 127.0.0.1:{port} and may lag");
    assert!(said.contains("the checkpoint is ahead of the server: ") && said.contains(&expected), "{said}");
    lock.run("unlock tables").await.unwrap();
    pair.daemon.wait_for_log_since(mark, "streaming: resumed", PATIENCE).await;
    pair.insert(0, 10).await;
    pair.published().await;
    assert_eq!(pair.daemon.shutdown(PATIENCE).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_lags_behind_what_was_published_is_waited_for() {
    both(waits).await;
}

/// The replica lacks what was published, and is promoted: a gap that names it, and that `on_gap` closes.
async fn lacks(kind: Kind) {
    let mut pair = Pair::start(kind, "").await;
    pair.at(1, if kind == Kind::Mysql { "stop replica" } else { "stop slave" }).await;
    let position = match kind {
        Kind::Mysql => "select @@gtid_executed",
        Kind::Mariadb => "select @@gtid_binlog_pos",
    };
    let mut session = pair.session(0).await;
    let before = session.rows(position).await.unwrap()[0][0].clone().unwrap();
    pair.insert(0, 3).await;
    pair.published().await;
    let after = session.rows(position).await.unwrap()[0][0].clone().unwrap();
    let missing = match kind {
        Kind::Mysql => {
            let set = |text: &str| text.parse::<rowcast_core::GtidSet>().unwrap();
            format!("has never executed {}", set(&after).minus(&set(&before)))
        }
        Kind::Mariadb => format!("{after} is not in its binlog, whose last one there is {before}"),
    };
    drop(session);
    let mark = pair.daemon.mark();
    block_in_place(|| pair.servers[0].kill(kind.server()));
    pair.promote().await;
    pair.stops_with(mark, &["gap: ", "ahead of the server", &missing, "on_gap: backfill"]).await;
    let published = pair.source.events("counters").await.len();

    // an errant one of its own makes no difference; then the copy is made
    pair.at(1, &format!("insert into {}.counters values (100, 1)", pair.source.name())).await;
    let text = std::fs::read_to_string(pair.daemon.dir().join("source.yaml")).unwrap();
    pair.daemon.write("source.yaml", &text.replace("backfill: never\n", "on_gap: backfill\n"));
    let mark = pair.daemon.mark();
    pair.daemon.start();
    pair.daemon.wait_for_log_since(mark, "streaming behind a gap", PATIENCE).await;
    let events = pair.source.wait_for_events("counters", published + 12).await;
    assert_eq!(events[published]["op"], "t");
    let mut ids: Vec<u64> =
        events[published + 1..].iter().map(|event| event["after"]["id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=10).chain([100]).collect::<Vec<_>>());
    assert_eq!(pair.daemon.shutdown(PATIENCE).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_lacks_what_was_published_is_a_gap_that_names_it() {
    both(lacks).await;
}

/// The log is reset under the running stream: it isn't read on as if nothing were.
async fn reset(kind: Kind) {
    let servers = block_in_place(|| Servers::private(&[kind.server()]));
    let db = mysql::Db::create_on(&servers, kind, "reset").await;
    db.exec("create table counters (id bigint primary key)").await;
    let source = Source::Mysql(db);
    let mut daemon = source.to_kafka().spawn();
    wait_until_streaming(&mut daemon).await;
    for id in 1..=5 {
        source.exec(&format!("insert into counters values ({id})")).await;
    }
    source.wait_for_events("counters", 5).await;
    let mark = daemon.mark();
    source.exec(if kind == Kind::Mysql { "reset binary logs and gtids" } else { "reset master" }).await;
    let said = daemon.wait_for_log_since(mark, "stopped: ", PATIENCE).await;
    assert!(said.contains("gap: ") && said.contains("on_gap: backfill"), "{said}");
    assert_eq!(daemon.wait(PATIENCE).await, 1);
    // fewer than before, so that they have the same GTIDs
    source.exec("insert into counters values (6)").await;
    let mark = daemon.mark();
    daemon.start();
    let said = daemon.wait_for_log_since(mark, "stopped: ", PATIENCE).await;
    assert!(said.contains("gap: ") && said.contains("on_gap: backfill"), "{said}");
    assert_eq!(source.events("counters").await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_reset_under_the_stream_is_a_gap() {
    both(reset).await;
}

/// A replica that doesn't log what it replicates has nothing for us, and says so.
async fn unlogged(kind: Kind) {
    let (variable, option) = match kind {
        Kind::Mysql => ("ROWCAST_MYSQL_CONF", "--log-replica-updates=OFF"),
        Kind::Mariadb => ("ROWCAST_MARIADB_CONF", "--log-slave-updates=0"),
    };
    let primary = block_in_place(|| Servers::private(&[kind.server()]));
    let replica = block_in_place(|| Servers::private_with(&[kind.server()], &[(variable, option)]));
    let db = mysql::Db::create_on(&replica, kind, "unlogged").await;
    db.exec("create table counters (id bigint primary key)").await;
    let source = Source::Mysql(db);
    // not a replica yet: nothing is said of it
    let mut daemon = source.to_kafka().spawn();
    wait_until_streaming(&mut daemon).await;
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
    assert!(!daemon.logs().contains("log_replica_updates") && !daemon.logs().contains("log_slave_updates"));
    let port = kind.port_of(&primary);
    if kind == Kind::Mariadb {
        // without the privilege it is a note, if the server is read-only
        source.exec(&format!("{}; set global read_only = 1", kind.follow(port))).await;
        let mark = daemon.mark();
        daemon.start();
        daemon
            .wait_for_log_since(mark, "log_slave_updates=OFF and read_only=ON: if this server is a replica", PATIENCE)
            .await;
        assert_eq!(daemon.shutdown(PATIENCE).await, 0);
        source.exec("set global read_only = 0; set sql_log_bin = 0; grant slave monitor on *.* to cdc").await;
    } else {
        source.exec(&kind.follow(port)).await;
    }
    let mark = daemon.mark();
    daemon.start();
    let said = daemon.wait_for_log_since(mark, "stopped: ", PATIENCE).await;
    let parts = [
        format!("a replica of 127.0.0.1:{port}"),
        "updates=OFF".to_owned(),
        "updates=ON, or connect to the server".to_owned(),
    ];
    assert!(parts.iter().all(|part| said.contains(part)), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_does_not_log_what_it_replicates_is_refused() {
    both(unlogged).await;
}
