//! Events of the binlog beside plain rows, on real servers: compressed ones, very large ones, texts of statements, what is rolled back
//! in the log, and what the servers write by themselves.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value as Json, json};
use tokio::task::{JoinSet, block_in_place};

use crate::support::daemon::Daemon;
use crate::support::process::Watch;
use crate::support::session::Address;
use crate::support::source::{Kind, PATIENCE, Source, Writer, fold, wait_until_streaming};
use crate::support::{Servers, env, eventually, kafka};

const KINDS: [Kind; 2] = [Kind::Mysql, Kind::Mariadb];
const COLUMNS: &str = "id int primary key, v varchar(200)";
/// Bytes that a daemon may take, built without optimisation.
const MOST: u64 = 128 << 20;

async fn streaming(source: &Source, tables: &str, more: &str) -> Daemon {
    let yaml = source.to_kafka_yaml(tables, &format!("backfill: never\n{more}"));
    let mut daemon = Daemon::command().file("source.yaml", &yaml).args(&["run", "source.yaml"]).spawn();
    wait_until_streaming(&mut daemon).await;
    daemon
}

fn ids(events: &[Json]) -> Vec<u64> {
    events.iter().map(|event| event["after"]["id"].as_u64().unwrap()).collect()
}

/// `insert into TABLE select n, EXPRESSION from 1..=rows`
fn series(kind: Kind, table: &str, expression: &str, rows: usize) -> String {
    let limit = if kind == Kind::Mysql { "cte_max_recursion_depth" } else { "max_recursive_iterations" };
    format!(
        "set session {limit} = 10000000; insert into {table} with recursive s(n) as (select 1 union all select n + 1 from s where n < \
         {rows}) select n, {expression} from s"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_transactions_have_the_events_that_plain_ones_have() {
    let source = Source::create(Kind::Mysql, "packed").await;
    source.create_table("t", COLUMNS).await;
    source.create_table("outside", COLUMNS).await;
    let mut daemon = streaming(&source, "t", "").await;
    let mut seen = Vec::new();
    for compression in ["off", "on"] {
        source.exec(&format!("set session binlog_transaction_compression = {compression}")).await;
        source
            .exec(
                "begin; insert into t values (1,'a'),(2,'b'); insert into outside values (1,'a'); savepoint s; \
                 insert into t values (3,'c'); rollback to s; update t set v = 'd'; delete from t; delete from outside; commit",
            )
            .await;
        source.exec("insert into t values (9,'x'); truncate table t").await;
        seen.push(source.wait_for_events("t", 8 * (seen.len() + 1)).await.split_off(8 * seen.len()));
    }
    let plain = |event: &Json| {
        let mut event = event.clone();
        let gtid = event["source"]["tx"].as_str().unwrap().to_owned();
        for member in ["tx", "pos", "ts_us"] {
            event["source"][member] = Json::Null;
        }
        event["id"] = json!(event["id"].as_str().unwrap().replace(&gtid, "GTID"));
        event
    };
    let (off, on): (Vec<Json>, Vec<Json>) = (seen[0].iter().map(plain).collect(), seen[1].iter().map(plain).collect());
    assert_eq!(off, on);
    assert_eq!(off[2]["source"]["seq"], 4, "the row of the table that isn't captured counts");
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
}

/// One transaction in parts, killed in between; the most memory that the daemon took.
async fn in_parts(compression: &str) -> u64 {
    const ROWS: usize = 150_000;
    let source = Source::create(Kind::Mysql, "packed").await;
    source.create_table("t", COLUMNS).await;
    let mut daemon =
        streaming(&source, "*", "memory: { budget: 4MiB }\ncommit: { interval: 20ms, max_bytes: 256KiB }\n").await;
    let watch = Watch::new(daemon.pid());
    source.exec(&format!("set session binlog_transaction_compression = {compression}")).await;
    source.exec(&series(Kind::Mysql, "t", "concat(n, repeat('x', 190))", ROWS)).await;
    let topic = source.topic("t");
    let mut cuts = Vec::new();
    for _ in 0..3 {
        let before = cuts.last().copied().unwrap_or(0);
        let out = eventually(PATIENCE * 3, "a further part", || async {
            let end = kafka::committed_end(env().brokers(), &topic).await;
            if end > before + 2_000 { Ok(end) } else { Err(end) }
        })
        .await;
        cuts.push(out);
        daemon.kill9();
        daemon.start();
        watch.follow(daemon.pid());
    }
    assert!(cuts.iter().all(|cut| (*cut as usize) < ROWS), "all was out before the last kill: {cuts:?}");
    let events = eventually(PATIENCE * 3, "all rows", || async {
        let records = kafka::read(env().brokers(), &topic, true).await;
        if records.len() >= ROWS { Ok(records) } else { Err(records.len()) }
    })
    .await;
    assert_eq!(events.len(), ROWS);
    for (index, record) in events.iter().enumerate() {
        let event = record.json();
        assert_eq!(event["source"]["seq"].as_u64().unwrap(), index as u64 + 1, "{event}");
        assert_eq!(event["after"]["id"].as_u64().unwrap(), index as u64 + 1, "{event}");
    }
    let peak = watch.peak();
    println!("{ROWS} rows, compression {compression}: peak {} MB, killed with {cuts:?} out", peak >> 20);
    peak
}

/// What comes out of one event is far larger than the budget: it passes in parts, and is gone on with behind the last row that was
/// published.
#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_transaction_passes_in_parts_and_is_gone_on_with_after_a_kill() {
    let (plain, packed) = (in_parts("off").await, in_parts("on").await);
    assert!(packed.max(plain) < MOST, "{} MB, and {} MB without compression", packed >> 20, plain >> 20);
}

/// A compressed transaction of several packets is put together in a file.
#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_transaction_of_several_packets_is_not_held_in_memory() {
    const ROWS: usize = 60_000;
    let source = Source::create(Kind::Mysql, "packed").await;
    source.create_table("t", "id int primary key, v varbinary(1000)").await;
    let mut daemon = streaming(&source, "*", "memory: { budget: 4MiB }\ncommit: { max_bytes: 1MiB }\n").await;
    let watch = Watch::new(daemon.pid());
    source.exec("set session binlog_transaction_compression = on").await;
    // 60 MB that no compression makes smaller
    source.exec(&series(Kind::Mysql, "t", "random_bytes(1000)", ROWS)).await;
    source.exec("insert into t values (1000000, 'behind')").await;
    let topic = source.topic("t");
    eventually(PATIENCE * 3, "all rows", || async {
        let end = kafka::committed_end(env().brokers(), &topic).await;
        // the ends of transactions count too
        if end as usize > ROWS + 1 { Ok(()) } else { Err(end) }
    })
    .await;
    let sum = source.query("select count(*), hex(max(v)) from t where id <= 60000").await;
    assert_eq!(sum[0][0].as_deref(), Some("60000"));
    let peak = watch.peak();
    println!("a compressed transaction of 60 MB: peak {} MB", peak >> 20);
    assert!(peak < MOST, "{} MB", peak >> 20);
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadbs_compressed_events_have_the_events_that_plain_ones_have() {
    const ROWS: usize = 20_000;
    let settings = [("ROWCAST_MARIADB_CONF", "--log-bin-compress=1 --log-bin-compress-min-len=10")];
    let servers = block_in_place(|| Servers::private_with(&["mariadb"], &settings));
    let source = Source::create_on(&servers, Kind::Mariadb, "packed").await;
    source.create_table("t", COLUMNS).await;
    source.create_table("big", "id int primary key, v longblob").await;
    let mut daemon = streaming(&source, "*", "commit: { interval: 20ms, max_bytes: 64KiB }\non_poison: skip\n").await;
    source.exec("insert into t values (1, repeat('a', 150)); update t set v = repeat('b', 150); delete from t").await;
    source.exec(&series(Kind::Mariadb, "t", "concat(n, repeat('x', 150))", ROWS)).await;
    // far larger than a batch, and too large for its topic: that it was read whole is said by the size of its event
    source.exec("insert into big values (1, repeat('abcdefghijklmnop', 2500000))").await;
    source.exec("truncate table /* a long statement, so that it is compressed as well: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx */ t").await;
    let half = source.wait_for_events("t", 3 + ROWS / 2).await;
    daemon.kill9();
    daemon.start();
    let events = source.wait_for_events("t", 3 + ROWS + 1).await;
    assert!(half.len() <= events.len());
    assert_eq!(events[1]["before"]["v"], "a".repeat(150));
    assert_eq!(events[2]["before"]["v"], "b".repeat(150));
    for (index, event) in events[3..3 + ROWS].iter().enumerate() {
        assert_eq!(event["source"]["seq"].as_u64().unwrap(), index as u64 + 1, "{event}");
        assert_eq!(event["after"]["v"], format!("{}{}", index + 1, "x".repeat(150)));
    }
    assert_eq!(events[3 + ROWS]["op"], "t");
    let compressed = source.query("show global status like 'Binlog_bytes_written'").await;
    assert!(compressed[0][1].as_deref().unwrap().parse::<usize>().unwrap() < ROWS * 150, "{compressed:?}");
    daemon.wait_for_log("has 53333", PATIENCE).await;
}

/// An event of more than 16 MB comes in several packets; one of exactly a packet's length has an empty one behind it.
#[tokio::test(flavor = "multi_thread")]
async fn rows_larger_than_a_packet_are_whole() {
    for kind in KINDS {
        let source = Source::create(kind, "wide").await;
        source.create_table("t", "id int primary key, v longblob").await;
        let file = tempfile::NamedTempFile::new().unwrap();
        let yaml =
            source.yaml("*") + &format!("sink:\n  type: file\n  path: {}\nbackfill: never\n", file.path().display());
        let mut daemon = Daemon::command().file("source.yaml", &yaml).args(&["run", "source.yaml"]).spawn();
        wait_until_streaming(&mut daemon).await;
        // around a packet's length, whatever the event has beside the value
        let lengths = [(16 << 20) + 100, (16 << 20) - 60, 40_000_000];
        for (id, length) in lengths.iter().enumerate() {
            source.exec(&format!("insert into t values ({id}, repeat('{id}bc', {length} / 3))")).await;
        }
        source.exec("insert into t values (100, 'behind')").await;
        let lines = eventually(PATIENCE, "the last row", || async {
            let text = std::fs::read_to_string(file.path()).unwrap();
            if text.contains("YmVoaW5k") && text.ends_with('\n') { Ok(text) } else { Err(text.len()) }
        })
        .await;
        let found: Vec<usize> = lines
            .lines()
            .filter_map(|line| {
                let event: Json = serde_json::from_str(line).unwrap();
                let value = event.pointer("/value/after/v").or(event.pointer("/after/v"))?.as_str()?.len();
                Some(value / 4 * 3)
            })
            .collect();
        let expected: Vec<usize> = lengths.iter().map(|length| length / 3 * 3).chain([6]).collect();
        assert_eq!(found.len(), expected.len(), "{kind:?}: {found:?}");
        for (found, expected) in found.iter().zip(&expected) {
            assert!(found.abs_diff(*expected) <= 3, "{kind:?}: {found} instead of {expected}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rows_event_says_its_statement_if_that_is_asked_for() {
    for kind in KINDS {
        let source = Source::create(kind, "texts").await;
        source.create_table("t", COLUMNS).await;
        source.create_table("u", COLUMNS).await;
        let yaml = source.to_kafka_yaml("*", "backfill: never\n");
        let asks = yaml.replacen("\nsink:", "\n  include_query: true\nsink:", 1);
        let plain = yaml.replacen(source.name(), &format!("{}_plain", source.name()), 1);
        let plain = plain.replacen("tables: [\"", "server_id: 4711\n  tables: [\"", 1);
        let mut daemons = Vec::new();
        for text in [&asks, &plain] {
            let mut daemon = Daemon::command().file("source.yaml", text).args(&["run", "source.yaml"]).spawn();
            wait_until_streaming(&mut daemon).await;
            daemons.push(daemon);
        }
        let mut writer = Writer::of(&source).await;
        writer
            .run(if kind == Kind::Mysql {
                "set session binlog_rows_query_log_events = on"
            } else {
                "set session binlog_annotate_row_events = on"
            })
            .await;
        writer
            .run("create trigger copies after insert on t for each row insert into u values (new.id, 'by trigger')")
            .await;
        let odd = "insert into t values (1, 'quote \" back \\\\ ö 😀'), (2, 'secret-word')";
        writer.run(odd).await;
        let first = "update t set v = concat(v, '!') where id = 1";
        writer.run("begin").await;
        writer.run(first).await;
        let second = format!("delete /* {} */ from t where id = 2", "ä".repeat(60_000));
        writer.run(&second).await;
        writer.run("commit").await;
        // a session that doesn't log it
        writer
            .run(if kind == Kind::Mysql {
                "set session binlog_rows_query_log_events = off"
            } else {
                "set session binlog_annotate_row_events = off"
            })
            .await;
        writer.run("insert into t values (3, 'x')").await;
        let events = source.wait_for_events("t", 5).await;
        let query = |event: &Json| event["source"]["query"].as_str().map(str::to_owned);
        assert_eq!(query(&events[0]).as_deref(), Some(odd), "{kind:?}");
        assert_eq!(query(&events[1]).as_deref(), Some(odd));
        assert_eq!(query(&events[2]).as_deref(), Some(first));
        let cut = query(&events[3]).unwrap();
        assert!(cut.len() <= 64 << 10 && cut.len() > (64 << 10) - 4 && second.starts_with(&cut), "{}", cut.len());
        assert_eq!(query(&events[4]), None);
        let copies = source.wait_for_events("u", 3).await;
        assert_eq!(query(&copies[0]).as_deref(), Some(odd), "what a trigger does is the statement's");
        // it isn't told unless asked for, and never logged
        let topic = format!("{}_plain.{}.t", source.name(), source.name());
        let quiet = eventually(PATIENCE, "events of the other daemon", || async {
            let records = kafka::read(env().brokers(), &topic, true).await;
            if records.len() >= 5 { Ok(records) } else { Err(records.len()) }
        })
        .await;
        assert!(quiet.iter().filter(|record| record.value.is_some()).all(|record| query(&record.json()).is_none()));
        assert!(daemons.iter().all(|daemon| !daemon.logs().contains("secret-word")));
    }
}

/// MariaDB logs what was rolled back beside a table without transactions, with a ROLLBACK behind it; MySQL doesn't.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_rolled_back_in_the_log_is_never_published() {
    for kind in KINDS {
        let source = Source::create(kind, "mixed").await;
        source.create_table("t", COLUMNS).await;
        source.exec(&format!("create table m ({COLUMNS}) engine=myisam")).await;
        let mut daemon = streaming(&source, "*", "").await;
        let name = source.name();
        let mut writer = Writer::of(&source).await;
        let mixed = kind == Kind::Mariadb;
        let m = |id: u32| if mixed { format!("insert into m values ({id},'m')") } else { "do 1".to_owned() };
        for transaction in [
            // a part is taken back
            format!(
                "begin; insert into t values (1,'x'); savepoint `S``x`; insert into t values (2,'x'); {}; rollback to `s``X`; \
                 insert into t values (3,'x'); commit",
                m(2)
            ),
            // two savepoints of one name, and one inside of the other
            format!(
                "begin; savepoint a; insert into t values (4,'x'); {}; savepoint a; insert into t values (5,'x'); savepoint b; \
                 insert into t values (6,'x'); rollback to b; insert into t values (7,'x'); rollback to a; insert into t values (8,'x'); commit",
                m(5)
            ),
            // all of it
            format!("begin; insert into t values (9,'x'); {}; rollback", m(9)),
            format!("xa start '{name}'; {}; insert into t values (10,'x'); xa end '{name}'; xa rollback '{name}'", m(10)),
            "begin; insert into t values (11,'x'); create temporary table tmp (a int); rollback; drop temporary table tmp".to_owned(),
            // a statement that failed in the middle of its rows
            "begin; insert into t values (12,'x')".to_owned(),
        ] {
            writer.run(&transaction).await;
        }
        if let Writer::Mysql(connection) = &mut writer {
            use mysql_async::prelude::Queryable;
            let failed = connection.query_drop("insert into m values (30,'m'),(30,'twice')").await;
            assert!(failed.is_err());
        }
        writer.run("insert into t values (13,'x'); commit").await;
        let events = source.wait_for_events("t", 6).await;
        assert_eq!(ids(&events), [1, 3, 4, 8, 12, 13], "{kind:?}");
        let expected = if mixed { vec![2, 5, 9, 10, 30] } else { vec![] };
        assert_eq!(ids(&source.wait_for_events("m", expected.len()).await), expected, "{kind:?}");
        assert_eq!(daemon.shutdown(PATIENCE).await, 0, "{}", daemon.logs());
    }
}

/// The server dies while it writes a transaction: it has rolled it back when it comes up, whatever is in its file.
async fn torn(kind: Kind) {
    // on a busy machine the whole transaction may be written before we see its beginning
    for _ in 0..5 {
        if torn_by_a_kill(kind).await {
            return;
        }
    }
    panic!("{kind:?}: each time the transaction was written before the server was killed");
}

/// False if it was written whole.
async fn torn_by_a_kill(kind: Kind) -> bool {
    let servers = block_in_place(|| Servers::private(&[kind.server()]));
    let source = Source::create_on(&servers, kind, "torn").await;
    source.create_table("t", "id int primary key, v longblob").await;
    let mut daemon = streaming(&source, "*", "commit: { interval: 20ms, max_bytes: 1MiB }\n").await;
    source.exec("insert into t values (1,'before')").await;
    source.wait_for_events("t", 1).await;
    let folder = std::path::PathBuf::from(servers.var(if kind == Kind::Mysql { "MYSQL_DATA" } else { "MARIADB_DATA" }));
    let size = || std::fs::metadata(folder.join("binlog.000001")).unwrap().len();
    let before = size();
    let address = Address::of(&source);
    let writing = tokio::spawn(async move {
        let mut session = address.connect().await.unwrap();
        let rows: Vec<String> = (2..24).map(|id| format!("({id},repeat('torn',2500000))")).collect();
        session.run(&format!("insert into t values {}", rows.join(","))).await
    });
    block_in_place(|| {
        while size() < before + 3_000_000 {
            std::thread::yield_now();
        }
        // at once: the script takes its time
        kill(Pid::from_raw(servers.pid(kind.server())), Signal::SIGKILL).unwrap();
        servers.kill(kind.server());
    });
    if writing.await.unwrap().is_ok() {
        return false;
    }
    block_in_place(|| servers.start(kind.server()));
    let mut session = Address::of(&source).connect_patiently().await;
    // or its commit was through, and only the answer lost
    if session.number("select count(*) from t").await != Ok(1) {
        return false;
    }
    // the GTID of the torn one is used again
    session.run("insert into t values (100,'behind'),(101,'behind')").await.unwrap();
    let events = source.wait_for_events("t", 3).await;
    assert_eq!(ids(&events), [1, 100, 101], "{kind:?}");
    assert_eq!(events[2]["source"]["seq"], 2);
    assert_eq!(daemon.shutdown(PATIENCE).await, 0, "{}", daemon.logs());
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_a_crash_tore_is_dropped() {
    JoinSet::from_iter(KINDS.map(torn)).join_all().await;
}

/// After a restart a MEMORY table is empty; the servers log that as a statement when it is first used.
async fn emptied(kind: Kind) {
    let servers = block_in_place(|| Servers::private(&[kind.server()]));
    let source = Source::create_on(&servers, kind, "memory").await;
    source.exec(&format!("create table t ({COLUMNS}) engine=memory")).await;
    let mut daemon = streaming(&source, "*", "").await;
    source.exec("insert into t values (1,'x')").await;
    source.wait_for_events("t", 1).await;
    block_in_place(|| servers.restart(kind.server()));
    let mut session = Address::of(&source).connect_patiently().await;
    assert_eq!(session.number("select count(*) from t").await, Ok(0));
    session.run("insert into t values (2,'y')").await.unwrap();
    let events = source.wait_for_events("t", 3).await;
    let ops: Vec<&str> = events.iter().map(|event| event["op"].as_str().unwrap()).collect();
    assert_eq!(ops, ["c", "t", "c"], "{kind:?}");
    assert!(daemon.is_running(), "{}", daemon.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_table_that_a_restart_emptied_is_truncated() {
    JoinSet::from_iter(KINDS.map(emptied)).join_all().await;
}

/// Two things that the log can't say or says otherwise: rows that go with their partition have no events, and are warned about; a
/// BLACKHOLE table keeps nothing, and what was written to it is published as it is in the log.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_warned_about_and_blackholes_are_as_the_log_has_them() {
    for kind in KINDS {
        let source = Source::create(kind, "parts").await;
        source
            .exec(&format!(
                "create table t ({COLUMNS}) partition by range (id) (partition low values less than (10), partition high values less \
                 than maxvalue)"
            ))
            .await;
        let engines = source.query("select support from information_schema.engines where engine = 'BLACKHOLE'").await;
        let blackhole = engines.iter().any(|row| row[0].as_deref() == Some("YES"));
        source
            .exec(&format!("create table b ({COLUMNS}) engine={}", if blackhole { "blackhole" } else { "innodb" }))
            .await;
        let mut daemon = streaming(&source, "*", "").await;
        source.exec("insert into t values (1,'x'),(2,'x'),(11,'x')").await;
        source.exec("alter table t truncate partition low").await;
        daemon.wait_for_log("TRUNCATE PARTITION or TABLESPACE moves rows without logging them", PATIENCE).await;
        source.exec("insert into t values (1,'again')").await;
        source.exec("alter table t drop partition high").await;
        daemon.wait_for_log("DROP PARTITION or TABLESPACE moves rows without logging them", PATIENCE).await;
        source.exec("insert into b values (1,'x')").await;
        assert_eq!(ids(&source.wait_for_events("t", 4).await), [1, 2, 11, 1]);
        assert_eq!(fold(&source.wait_for_events("b", 1).await, "id").len(), 1);
        assert!(daemon.is_running());
    }
}
