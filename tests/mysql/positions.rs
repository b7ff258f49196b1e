//! Positions: GTID sets against the server's own functions, tags and domains; being one replica among others. Files and offsets
//! are in [`places`].

pub mod places;

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rowcast_core::GtidSet;
use serde_json::Value as Json;
use tokio::task::block_in_place;

use crate::support::daemon::Daemon;
use crate::support::mysql::{Db, Kind, Rows};
use crate::support::proxy::{End, Flow, Proxy, Rules};
use crate::support::source::{PATIENCE, Source, wait_until_streaming};
use crate::support::{Servers, env, eventually, kafka};

/// A set as somebody may write it: origins in any order and more than once, tags, intervals that overlap and touch.
fn random_set(random: &mut StdRng) -> String {
    let parts = (0..random.random_range(0..5)).map(|_| {
        let mut part = format!("3e11fa47-71ca-11e1-9e33-c80aa942956{}", random.random_range(0..3));
        if random.random_bool(0.4) {
            part += [":a", ":b_0", ":Long_tag_of_thirty_two_letters_x"][random.random_range(0..3)];
        }
        for _ in 0..random.random_range(1..5) {
            let first: u64 = random.random_range(1..40);
            part += &match random.random_range(0..3) {
                0 => format!(":{first}"),
                _ => format!(":{first}-{}", first + random.random_range(0..10)),
            };
        }
        part
    });
    parts.collect::<Vec<_>>().join(",")
}

#[tokio::test]
async fn gtid_sets_agree_with_the_servers_own_functions() {
    let db = Db::create(Kind::Mysql, "sets").await;
    let mut random = StdRng::seed_from_u64(8_003);
    for round in 0..40 {
        let pairs: Vec<(String, String)> =
            (0..25).map(|_| (random_set(&mut random), random_set(&mut random))).collect();
        let parsed: Vec<(GtidSet, GtidSet)> =
            pairs.iter().map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap())).collect();
        let asked = pairs.iter().zip(&parsed).map(|((a, b), (x, y))| {
            let mut union = x.clone();
            union.add_all(y);
            let minus = x.minus(y);
            let common = x.common(y);
            // what we print is the same set to the server, and what it answers is the same set to us
            format!(
                "select gtid_subset('{b}', '{a}'), gtid_subtract('{a}', '{b}'), \
                 gtid_subset('{x}', '{a}') and gtid_subset('{a}', '{x}'), \
                 gtid_subset('{union}', '{a},{b}') and gtid_subset('{a},{b}', '{union}'), \
                 gtid_subtract('{a}', '{b}') = gtid_subtract('{minus}', ''), \
                 gtid_subtract('{a}', gtid_subtract('{a}', '{b}')) = gtid_subtract('{common}', '')"
            )
        });
        let rows: Rows = db.query(&asked.collect::<Vec<_>>().join(" union all ")).await;
        assert_eq!(rows.len(), pairs.len());
        for ((row, (x, y)), pair) in rows.iter().zip(&parsed).zip(&pairs) {
            let cell = |index: usize| row[index].as_deref().unwrap();
            let case = format!("round {round}: {pair:?}");
            assert_eq!(cell(0) == "1", x.contains_all(y), "{case}");
            assert_eq!(cell(1).parse::<GtidSet>().unwrap(), x.minus(y), "{case}");
            assert_eq!(
                &row[2..],
                [Some("1".to_owned()), Some("1".to_owned()), Some("1".to_owned()), Some("1".to_owned())],
                "{case}"
            );
        }
    }
}

fn of_ids(events: &[Json]) -> Vec<u64> {
    events.iter().map(|event| event["after"]["id"].as_u64().unwrap()).collect()
}

/// The position that a source's checkpoint has, of its kind.
async fn checkpoint(source: &Source) -> (String, String) {
    let records = kafka::read_committed(&format!("rowcast.checkpoint.{}", source.name())).await;
    let last = records.into_iter().rfind(|record| record.key_str() == source.name()).unwrap().json();
    let text = |key: &str| last["position"][key].as_str().unwrap().to_owned();
    (text("kind"), text("log"))
}

async fn stops(daemon: &mut Daemon) {
    assert_eq!(daemon.shutdown(PATIENCE).await, 0, "{}", daemon.logs());
}

async fn refused(daemon: &mut Daemon, parts: &[&str]) {
    let mark = daemon.mark();
    daemon.start();
    assert_eq!(daemon.wait(PATIENCE).await, 1, "{}", daemon.logs());
    let said = daemon.wait_for_log_since(mark, "stopped: ", PATIENCE).await;
    for part in parts {
        assert!(said.contains(part), "no `{part}` in: {said}");
    }
}

/// Waits until the server lists us by this id.
async fn becomes(id: &impl AsyncFn() -> Option<String>, expected: Option<&String>) {
    eventually(PATIENCE, "us among the replicas by our id", || async {
        let found = id().await;
        if found.as_ref() == expected { Ok(()) } else { Err(found) }
    })
    .await;
}

/// Another replica has our id: a given one is refused, one that was made up is left for the next.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_id_that_another_replica_has_is_not_taken() {
    for kind in [Kind::Mysql, Kind::Mariadb] {
        let primary = block_in_place(|| Servers::private(&[kind.server()]));
        let db = Db::create_on(&primary, kind, "ids").await;
        db.exec("create table orders (id bigint primary key, v bigint)").await;
        if kind == Kind::Mariadb {
            db.exec("grant replication master admin on *.* to cdc").await;
        }
        let source = Source::Mysql(db);
        let Source::Mysql(db) = &source else { unreachable!() };
        let hosts = if kind == Kind::Mysql { "show replicas" } else { "show slave hosts" };
        let id = async || {
            let rows = db.query(hosts).await;
            let ours = rows.iter().find(|row| row[1].as_deref() == Some(&format!("rowcast-{}", db.name)));
            ours.map(|row| row[0].clone().unwrap())
        };
        let mut daemon = source.to_kafka().spawn();
        wait_until_streaming(&mut daemon).await;
        let first = eventually(PATIENCE, "us among the replicas", || async { id().await.ok_or("not there") }).await;
        // killed, we are no other to ourselves
        daemon.kill9();
        let mark = daemon.mark();
        daemon.start();
        daemon.wait_for_log_since(mark, "streaming: resumed", PATIENCE).await;
        becomes(&id, Some(&first)).await;
        stops(&mut daemon).await;

        let (variable, option) = match kind {
            Kind::Mysql => ("ROWCAST_MYSQL_CONF", format!("--server-id={first} --report-host=db-2")),
            Kind::Mariadb => ("ROWCAST_MARIADB_CONF", format!("--server-id={first} --report-host=db-2")),
        };
        let replica = block_in_place(|| Servers::private_with(&[kind.server()], &[(variable, option.as_str())]));
        let mut session =
            crate::support::mysql::try_connect(kind.socket_of(&replica), None, "app", "apppw").await.unwrap();
        crate::support::mysql::exec(&mut session, &kind.follow(source.port())).await;
        eventually(PATIENCE, "the other replica", || async {
            let rows = db.query(hosts).await;
            if rows.iter().any(|row| row[1].as_deref() == Some("db-2")) { Ok(()) } else { Err(rows) }
        })
        .await;
        let mark = daemon.mark();
        daemon.start();
        daemon.wait_for_log_since(mark, &format!("server_id {first} is the replica `db-2`'s: taking "), PATIENCE).await;
        daemon.wait_for_log_since(mark, "streaming: resumed", PATIENCE).await;
        let second = eventually(PATIENCE, "us among the replicas, by another id", || async {
            id().await.filter(|id| *id != first).ok_or("not there")
        })
        .await;
        db.exec("insert into orders values (1, 1)").await;
        source.wait_for_events("orders", 1).await;
        stops(&mut daemon).await;
        // the same again
        let mark = daemon.mark();
        daemon.start();
        daemon.wait_for_log_since(mark, "streaming: resumed", PATIENCE).await;
        becomes(&id, Some(&second)).await;
        stops(&mut daemon).await;
        // an id that somebody asked for is theirs to change
        let yaml = source.to_kafka_yaml("*", "backfill: never\n");
        daemon.write("source.yaml", &yaml.replace("  user: cdc\n", &format!("  user: cdc\n  server_id: {first}\n")));
        let said = [&*format!("server_id {first} is the replica `db-2`'s"), "set another `source.server_id`"];
        refused(&mut daemon, &said).await;
    }
}

/// Somebody takes our id, or UUID, while we stream: we say so and stop, and don't fight for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_throws_us_out_is_named_and_not_fought() {
    for kind in [Kind::Mysql, Kind::Mariadb] {
        let source = Source::Mysql(Db::create(kind, "twin").await);
        source.create_table("orders", "id bigint primary key, v bigint").await;
        let yaml =
            source.to_kafka_yaml("*", "backfill: never\n").replace("  user: cdc\n", "  user: cdc\n  server_id: 4001\n");
        let mut daemon = Daemon::command().file("source.yaml", &yaml).args(&["run", "source.yaml"]).spawn();
        wait_until_streaming(&mut daemon).await;
        // the same source, started by somebody else who looks at its events
        let peek = yaml.split("sink:").next().unwrap().to_owned()
            + "sink:\n  type: file\n  path: out.jsonl\nbackfill: never\n";
        let mut twin = Daemon::command().file("source.yaml", &peek).args(&["run", "source.yaml"]).spawn();
        wait_until_streaming(&mut twin).await;
        let said = daemon.wait_for_log("stopped: ", PATIENCE).await;
        assert!(
            said.contains("another replica with our server_id 4001 took over") && said.contains("repair: "),
            "{said}"
        );
        assert_eq!(daemon.wait(PATIENCE).await, 1);
        source.exec("insert into orders values (1, 1)").await;
        eventually(PATIENCE, "the other one to go on", || async {
            let text = std::fs::read_to_string(twin.dir().join("out.jsonl")).unwrap_or_default();
            if text.contains("\"op\":\"c\"") { Ok(()) } else { Err(text) }
        })
        .await;
        stops(&mut twin).await;
    }
}

/// Rows of a source that are streamed, and after a restart of the daemon streamed on.
async fn flows(source: &Source, first: u64) -> Daemon {
    let mut daemon = source.to_kafka().spawn();
    wait_until_streaming(&mut daemon).await;
    for id in first..first + 3 {
        source.exec(&format!("insert into orders values ({id}, 1)")).await;
    }
    source.wait_for_events("orders", 3).await;
    stops(&mut daemon).await;
    source.exec(&format!("insert into orders values ({}, 1)", first + 3)).await;
    source.exec("flush binary logs").await;
    source.exec(&format!("insert into orders values ({}, 1)", first + 4)).await;
    daemon.start();
    let events = source.wait_for_events("orders", 5).await;
    assert_eq!(of_ids(&events), (first..first + 5).collect::<Vec<_>>());
    daemon
}

/// The server decrypts what it sends; what is on its disk isn't our matter.
#[tokio::test(flavor = "multi_thread")]
async fn encrypted_binary_logs_are_streamed_as_any() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    std::fs::write(&keys, "1;770A8A65DA156D24EE2A093277530142\n").unwrap();
    let readable = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    readable(folder.path(), 0o755);
    readable(&keys, 0o644);
    let maria = format!(
        "--plugin-load-add=file_key_management --file-key-management-filename={} --encrypt-binlog=1",
        keys.display()
    );
    let mysql = [("ROWCAST_MYSQL_KEYRING", "1"), ("ROWCAST_MYSQL_CONF", "--binlog-encryption=ON")];
    for (kind, settings) in
        [(Kind::Mysql, &mysql[..]), (Kind::Mariadb, &[("ROWCAST_MARIADB_CONF", maria.as_str())][..])]
    {
        let servers = block_in_place(|| Servers::private_with(&[kind.server()], settings));
        let db = Db::create_on(&servers, kind, "encrypted").await;
        db.exec("create table orders (id bigint primary key, v bigint)").await;
        db.exec("create table secrets (v varchar(99)); insert into secrets values ('to be found in a plain file')")
            .await;
        let file = match kind {
            Kind::Mysql => servers.var("MYSQL_DATA"),
            Kind::Mariadb => servers.var("MARIADB_DATA"),
        };
        let bytes = std::fs::read(format!("{file}/binlog.000001")).unwrap();
        let plain = bytes.windows(14).any(|part| part == b"to be found in");
        assert!(!plain, "{kind:?}: the log is encrypted");
        let mut daemon = flows(&Source::Mysql(db), 1).await;
        stops(&mut daemon).await;
    }
}

/// A server that waits for acknowledgements doesn't wait for ours, and one that is a member of a group streams as any.
#[tokio::test(flavor = "multi_thread")]
async fn semi_synchronous_replication_and_groups_are_left_alone() {
    let port = crate::support::server_port();
    let group = "6c7f1a52-71ca-11e1-9e33-c80aa9429562";
    let mysql = format!(
        "--plugin-load-add=semisync_source.so --loose-rpl-semi-sync-source-enabled=ON --loose-rpl-semi-sync-source-timeout=100 \
         --plugin-load-add=group_replication.so --loose-group-replication-group-name={group} \
         --loose-group-replication-local-address=127.0.0.1:{port} --loose-group-replication-group-seeds=127.0.0.1:{port} \
         --loose-group-replication-bootstrap-group=ON --loose-group-replication-start-on-boot=OFF --report-host=127.0.0.1"
    );
    let maria = "--rpl-semi-sync-master-enabled=ON --rpl-semi-sync-master-timeout=100";
    for (kind, variable, settings, clients) in [
        (Kind::Mysql, "ROWCAST_MYSQL_CONF", mysql.as_str(), "Rpl_semi_sync_source_clients"),
        (Kind::Mariadb, "ROWCAST_MARIADB_CONF", maria, "Rpl_semi_sync_master_clients"),
    ] {
        let servers = block_in_place(|| Servers::private_with(&[kind.server()], &[(variable, settings)]));
        let db = Db::create_on(&servers, kind, "semi").await;
        db.exec("create table orders (id bigint primary key, v bigint)").await;
        if kind == Kind::Mysql {
            db.exec("start group_replication").await;
        }
        let source = Source::Mysql(db);
        let mut daemon = flows(&source, 1).await;
        let row = &source.query(&format!("show status like '{clients}'")).await[0];
        assert_eq!(row[1].as_deref(), Some("0"), "{kind:?}: nobody waits for us");
        if kind == Kind::Mysql {
            let events = source.events("orders").await;
            assert!(
                events.iter().all(|event| event["source"]["tx"].as_str().unwrap().starts_with(group)),
                "{events:?}"
            );
        }
        stops(&mut daemon).await;
    }
}

/// Transactions with tags, beside those without, across a restart.
#[tokio::test(flavor = "multi_thread")]
async fn gtids_with_tags_are_streamed_and_resumed() {
    let servers = block_in_place(|| Servers::private(&["mysql"]));
    let db = Db::create_on(&servers, Kind::Mysql, "tags").await;
    db.exec("create table orders (id bigint primary key, v bigint)").await;
    db.exec("set gtid_next = 'automatic:early'; insert into orders values (1, 1)").await;
    let source = Source::Mysql(db);
    let mut daemon = flows(&source, 2).await;
    source.exec("set gtid_next = 'automatic:late_1'; insert into orders values (7, 1)").await;
    source.exec("set gtid_next = 'automatic'; insert into orders values (8, 1)").await;
    let events = source.wait_for_events("orders", 7).await;
    let tagged: Vec<bool> =
        events.iter().map(|event| event["source"]["tx"].as_str().unwrap().matches(':').count() == 2).collect();
    assert_eq!(tagged, [true, true, true, true, true, true, false]);
    let executed: GtidSet = source.query("select @@gtid_executed").await[0][0].as_deref().unwrap().parse().unwrap();
    eventually(PATIENCE, "the checkpoint", || async {
        let (kind, log) = checkpoint(&source).await;
        assert_eq!(kind, "gtid");
        if log.parse::<GtidSet>().unwrap() == executed { Ok(()) } else { Err(log) }
    })
    .await;
    stops(&mut daemon).await;
}

/// MariaDB with several domains: each goes on for itself.
#[tokio::test(flavor = "multi_thread")]
async fn several_domains_of_mariadb_are_streamed_and_resumed() {
    let servers = block_in_place(|| Servers::private(&["mariadb"]));
    let db = Db::create_on(&servers, Kind::Mariadb, "domains").await;
    db.exec("create table orders (id bigint primary key, v bigint)").await;
    db.exec("set gtid_domain_id = 7; insert into orders values (1, 1)").await;
    let source = Source::Mysql(db);
    let mut daemon = flows(&source, 2).await;
    for (id, domain) in [(7, 0), (8, 3), (9, 7), (10, 0), (11, 3)] {
        source.exec(&format!("set gtid_domain_id = {domain}; insert into orders values ({id}, 1)")).await;
        if id == 9 {
            daemon.kill9();
            daemon.start();
        }
    }
    let events = source.wait_for_events("orders", 10).await;
    assert_eq!(of_ids(&events), (2..=11).collect::<Vec<_>>());
    let written: rowcast_core::MariaGtidSet =
        source.query("select @@gtid_binlog_pos").await[0][0].as_deref().unwrap().parse().unwrap();
    assert_eq!(written.domains().count(), 3);
    eventually(PATIENCE, "the checkpoint", || async {
        let (kind, log) = checkpoint(&source).await;
        assert_eq!(kind, "mariadb-gtid");
        if log.parse::<rowcast_core::MariaGtidSet>().unwrap() == written { Ok(()) } else { Err(log) }
    })
    .await;
    stops(&mut daemon).await;
}

/// An idle server is heard all the time; one that falls silent is left after the time-out, and gone back to.
#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_keep_an_idle_stream_and_silence_ends_it() {
    for kind in [Kind::Mysql, Kind::Mariadb] {
        let source = Source::Mysql(Db::create(kind, "silence").await);
        source.create_table("orders", "id bigint primary key, v bigint").await;
        let proxy = Proxy::to(source.port());
        let yaml = source.yaml_at("*", proxy.port())
            + &format!("  read_timeout: 4s\nsink:\n  type: kafka\n  brokers: {}\nbackfill: never\n", env().brokers());
        let mut daemon = Daemon::command().file("source.yaml", &yaml).args(&["run", "source.yaml"]).spawn();
        wait_until_streaming(&mut daemon).await;
        let mark = daemon.mark();
        // three time-outs without a change
        tokio::time::sleep(Duration::from_secs(12)).await;
        source.exec("insert into orders values (1, 1)").await;
        source.wait_for_events("orders", 1).await;
        let logs = daemon.stderr()[mark.1..].to_owned() + &daemon.stdout()[mark.0..];
        assert!(!logs.contains("waiting"), "{logs}");
        proxy.set(Rules { down: Flow::Stall, ..Rules::PASS });
        daemon.wait_for_log_since(mark, "starting again: ", PATIENCE).await;
        source.exec("insert into orders values (2, 1)").await;
        proxy.pass();
        proxy.cut(End::Rst);
        let events = source.wait_for_events("orders", 2).await;
        assert_eq!(of_ids(&events), [1, 2]);
        stops(&mut daemon).await;
    }
}
