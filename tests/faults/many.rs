//! Many sources in one process, and many tables in one source.

use std::time::{Duration, Instant};

use tokio::task::block_in_place;

use crate::support::daemon::{Builder, Daemon};
use crate::support::process::usage;
use crate::support::proxy::{Flow, Proxy, Rules};
use crate::support::session::Address;
use crate::support::source::{Kind, PATIENCE, Source, wait_until_streaming};
use crate::support::{Servers, env, eventually, kafka};

const SOURCES: usize = 64;
const TABLES: usize = 2_000;
/// For all sources to start, built without optimisation, on a machine that does other things.
const LIMIT: Duration = Duration::from_secs(240);

/// Milliseconds since 1970.
fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}

/// Inserts a row and waits until each of these sources has published it; gives the longest time from a row to its record, which says itself
/// when it was made: reading so many topics takes longer than all the rest, and a varying time.
async fn round(sources: &[&Source], brokers: &str, id: u64) -> Duration {
    let mut written = Vec::new();
    for source in sources {
        let mut session = Address::of(source).connect_patiently().await;
        written.push(now());
        session.run(&format!("insert into t values ({id})")).await.unwrap();
    }
    let mut longest = 0;
    for (source, written) in sources.iter().zip(written) {
        let made = eventually(PATIENCE, &format!("row {id} of {}", source.name()), || async {
            let records = kafka::read(brokers, &source.topic("t"), true).await;
            let last = records.last().map(|record| (record.json()["after"]["id"].clone(), record.timestamp));
            match last {
                Some((last, Some(made))) if last == id => Ok(made),
                other => Err(other),
            }
        })
        .await;
        longest = longest.max(made - written);
    }
    Duration::from_millis(u64::try_from(longest).unwrap_or_default())
}

/// Three of 64 sources, one of each kind, get stuck: their servers say nothing more. The others don't notice.
#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_sources_run_in_one_process_and_stuck_ones_hold_up_no_other() {
    let servers = block_in_place(|| {
        let more = [("ROWCAST_PG_CONF", "max_replication_slots=80 max_wal_senders=80")];
        Servers::private_with(&["pg", "mysql", "mariadb", "kafka"], &more)
    });
    let (mut sources, mut proxies) = (Vec::new(), Vec::new());
    let mut builder: Builder = Daemon::command();
    for number in 0..SOURCES {
        let kind = Kind::ALL[number % 3];
        let source = Source::create_on(&servers, kind, "many").await;
        source.create_table("t", "id bigint primary key").await;
        let port = if number < 3 {
            proxies.push(Proxy::to(source.port()));
            proxies[number].port()
        } else {
            source.port()
        };
        let yaml = format!(
            "{}sink: {{ type: kafka, brokers: \"{}\" }}\nbackfill: never\nmemory: {{ budget: 8MiB }}\n",
            source.yaml_at("*", port),
            servers.brokers()
        );
        builder = builder.file(&format!("sources/{number}.yaml"), &yaml);
        sources.push(source);
    }
    let began = Instant::now();
    // the usual soft limit is less than they need: the daemon raises it
    let mut daemon = builder.args(&["run", "sources"]).by(&["prlimit", "--nofile=256:8192"]).spawn();
    eventually(LIMIT, "all sources to stream", || async {
        let streaming = daemon.stderr().matches("streaming: ").count();
        if streaming >= SOURCES { Ok(()) } else { Err(streaming) }
    })
    .await;
    let started = began.elapsed();
    let all: Vec<&Source> = sources.iter().collect();
    let first = round(&all, servers.brokers(), 1).await;
    let before = round(&all, servers.brokers(), 2).await;
    proxies.iter().for_each(|proxy| proxy.set(Rules { up: Flow::Stall, down: Flow::Stall, ..Rules::PASS }));
    let beside = round(&all[3..], servers.brokers(), 3).await;
    proxies.iter().for_each(Proxy::pass);
    round(&all[..3], servers.brokers(), 3).await;
    let used = usage(daemon.pid()).unwrap();
    println!(
        "{SOURCES} sources: all stream after {:.1} s; a row in each is out after {:.1} s, the next one after {:.1} s, {:.1} s \
         beside three that are stuck; {} MB, {} threads, {} descriptors",
        started.as_secs_f64(),
        first.as_secs_f64(),
        before.as_secs_f64(),
        beside.as_secs_f64(),
        used.rss >> 20,
        used.threads,
        used.descriptors
    );
    // a source that waited for a stuck one would take its time-out of a minute
    assert!(beside < before + Duration::from_secs(30), "{beside:?} instead of {before:?}");
    assert!(used.descriptors > 256 && !daemon.stderr().contains("may need"), "{}", daemon.stderr());
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
}

async fn many_tables(kind: Kind) {
    let source = Source::create(kind, "tables").await;
    for from in (0..TABLES).step_by(100) {
        let statements: Vec<String> = (from..from + 100)
            .map(|n| {
                let owner =
                    if kind == Kind::Postgres { format!("; alter table t{n} owner to cdc") } else { String::new() };
                format!("create table t{n} (id bigint primary key, a varchar(20), b int){owner}")
            })
            .collect();
        source.exec(&statements.join("; ")).await;
    }
    let sink = format!("sink: {{ type: kafka, brokers: \"{}\", topic: \"{{name}}.all\" }}\n", env().brokers());
    let yaml = source.yaml("*") + &sink + "backfill: never\n";
    let mut daemon = Daemon::command().file("source.yaml", &yaml).args(&["run", "source.yaml"]).spawn();
    let began = Instant::now();
    wait_until_streaming(&mut daemon).await;
    let started = began.elapsed();
    let idle = usage(daemon.pid()).unwrap().rss;
    let began = Instant::now();
    for from in (0..TABLES).step_by(100) {
        let inserts: Vec<String> =
            (from..from + 100).map(|n| format!("insert into t{n} values ({n}, 'x', 1)")).collect();
        source.exec(&inserts.join("; ")).await;
    }
    let topic = format!("{}.all", source.name());
    let records = eventually(PATIENCE, "a row of each table", || async {
        let records = kafka::read(env().brokers(), &topic, true).await;
        if records.len() >= TABLES { Ok(records) } else { Err(records.len()) }
    })
    .await;
    let out = began.elapsed();
    for (n, record) in records.iter().enumerate() {
        let event = record.json();
        assert_eq!((&event["source"]["table"], &event["after"]["id"]), (&format!("t{n}").into(), &n.into()));
    }
    assert_eq!(records.len(), TABLES);
    println!(
        "{}: {TABLES} tables: streams after {:.1} s with {} MB; a row of each is out after {:.1} s, with {} MB",
        kind.name(),
        started.as_secs_f64(),
        idle >> 20,
        out.as_secs_f64(),
        usage(daemon.pid()).unwrap().rss >> 20
    );
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_tables_of_one_source_are_streamed() {
    for kind in Kind::ALL {
        many_tables(kind).await;
    }
}
