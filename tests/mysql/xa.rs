//! XA transactions on real servers: their rows are logged at the PREPARE, and published at the commit, whoever commits and whenever.

use serde_json::Value as Json;
use tokio::task::{JoinSet, block_in_place};

use crate::positions::places::OFF;
use crate::support::daemon::Daemon;
use crate::support::session::Address;
use crate::support::source::{Kind, PATIENCE, Source, wait_until_streaming};
use crate::support::{Servers, env, eventually, kafka};

const KINDS: [Kind; 2] = [Kind::Mysql, Kind::Mariadb];
/// Both servers, and MySQL without GTIDs, where a transaction is known by its file and offset.
const SERVERS: [(Kind, &[(&str, &str)]); 3] = [(Kind::Mysql, &[]), (Kind::Mysql, &[OFF]), (Kind::Mariadb, &[])];
/// Rows of a transaction that is published in parts.
const LARGE: u64 = 30_000;
const COLUMNS: &str = "id int primary key, v varchar(200)";

fn daemon(source: &Source, more: &str) -> Daemon {
    source.to_kafka_with(more).spawn()
}

/// A transaction's name that no other test has: both parts, some odd bytes, and a format.
fn xid(source: &Source, name: &str) -> String {
    format!("'{}',X'00ff27{}',7", source.name(), name.bytes().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// Runs statements in a session of its own, which then goes.
async fn run(source: &Source, statements: &[String]) {
    let mut session = Address::of(source).connect_patiently().await;
    for statement in statements {
        session.run(statement).await.unwrap();
    }
    if let crate::support::session::Session::Mysql(connection) = session {
        connection.disconnect().await.unwrap();
    }
}

async fn prepare(source: &Source, name: &str, statements: &str) {
    let xid = xid(source, name);
    let xa = |what: &str| format!("xa {what} {xid}");
    run(source, &[xa("start"), statements.to_owned(), xa("end"), xa("prepare")]).await;
}

/// `XA COMMIT` or `XA ROLLBACK` in another session; the one that prepared it may still be on its way out.
async fn end(source: &Source, how: &str, name: &str) {
    let (address, statement) = (Address::of(source), format!("xa {how} {}", xid(source, name)));
    eventually(PATIENCE, &statement, || async { address.connect().await?.run(&statement).await }).await;
}

/// Inserts rows of these ids.
fn rows(from: u32, to: u32) -> String {
    let values: Vec<String> = (from..=to).map(|id| format!("({id},repeat('{}',200))", id % 10)).collect();
    format!("insert into t values {}", values.join(","))
}

fn ids(events: &[Json]) -> Vec<u64> {
    events.iter().map(|event| event["after"]["id"].as_u64().unwrap()).collect()
}

fn numbers(ranges: &[std::ops::RangeInclusive<u64>]) -> Vec<u64> {
    ranges.iter().cloned().flatten().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_published_when_it_commits_and_never_if_it_is_rolled_back() {
    for kind in KINDS {
        let source = Source::create(kind, "xa").await;
        source.create_table("t", COLUMNS).await;
        source.create_table("outside", COLUMNS).await;
        let yaml = source.to_kafka_yaml("t", "backfill: never\n");
        let mut daemon = Daemon::command().file("source.yaml", &yaml).args(&["run", "source.yaml"]).spawn();
        wait_until_streaming(&mut daemon).await;
        prepare(
            &source,
            "a",
            "insert into t values (1,'a'); update t set v='b' where id=1; insert into t values (2,'a')",
        )
        .await;
        prepare(&source, "undone", "insert into t values (3,'gone')").await;
        let one = xid(&source, "one phase");
        let xa = |what: &str| format!("xa {what} {one}");
        run(&source, &[xa("start"), "insert into t values (4,'x')".into(), xa("end"), xa("commit") + " one phase"])
            .await;
        // rolled back before it was prepared: nothing of it is in the log
        run(&source, &[xa("start"), "insert into t values (9,'x')".into(), xa("end"), xa("rollback")]).await;
        source.exec("insert into t values (5,'x')").await;
        end(&source, "rollback", "undone").await;
        end(&source, "commit", "a").await;
        source.exec("insert into t values (6,'x')").await;
        if kind == Kind::Mysql {
            // a compressed one; and one without a row that is captured, of the same name as before
            source.exec("set session binlog_transaction_compression = on").await;
        }
        prepare(&source, "a", "insert into outside values (1,'x')").await;
        end(&source, "commit", "a").await;
        let compress = if kind == Kind::Mysql { "set session binlog_transaction_compression = on" } else { "do 1" };
        let packed = xid(&source, "packed");
        let xa = |what: &str| format!("xa {what} {packed}");
        run(&source, &[compress.into(), xa("start"), rows(100, 300), xa("end"), xa("prepare")]).await;
        source.exec("insert into t values (7,'x')").await;
        end(&source, "commit", "packed").await;
        let count = 2 + 3 + 1 + 1 + 201;
        let events = source.wait_for_events("t", count).await;
        let expected = numbers(&[4..=5, 1..=1, 1..=2, 6..=7, 100..=300]);
        assert_eq!(ids(&events), expected, "{kind:?}");
        let place = |index: usize| &events[index]["source"];
        assert_eq!(events[3]["op"], "u");
        for (index, seq) in [(2, 1), (3, 2), (4, 3), (5, 1), (7, 1), (207, 201)] {
            assert_eq!(place(index)["seq"], seq, "{kind:?} {}", events[index]);
        }
        // it is the commit's transaction, not the PREPARE's
        let transactions: Vec<&str> = [1, 2, 5].map(|index| place(index)["tx"].as_str().unwrap()).to_vec();
        let number = |tx: &str| tx.rsplit([':', '-']).next().unwrap().parse::<u64>().unwrap();
        assert!(number(transactions[0]) < number(transactions[1]), "{transactions:?}");
        assert!(number(transactions[1]) < number(transactions[2]), "{transactions:?}");
        assert_eq!(daemon.shutdown(PATIENCE).await, 0);
    }
}

async fn through_restarts((kind, settings): (Kind, &[(&str, &str)])) {
    let servers = block_in_place(|| Servers::private_with(&[kind.server()], settings));
    let source = Source::create_on(&servers, kind, "xa").await;
    source.create_table("t", COLUMNS).await;
    let mut daemon = daemon(&source, "backfill: never\ncommit: { interval: 20ms, max_bytes: 64KiB }\n");
    wait_until_streaming(&mut daemon).await;
    source.exec("insert into t values (1,'x')").await;
    prepare(&source, "large", &rows(1001, 1000 + LARGE as u32)).await;
    prepare(&source, "undone", "insert into t values (2,'gone')").await;
    source.exec("insert into t values (3,'between'); flush binary logs").await;
    prepare(&source, "late", "insert into t values (4,'late')").await;
    source.wait_for_events("t", 2).await;
    // committed while nobody looked, in another file than it was prepared in
    daemon.kill9();
    end(&source, "commit", "large").await;
    source.exec("insert into t values (5,'while it was down')").await;
    daemon.start();
    // killed inside of it, again and again
    let mut cuts = Vec::new();
    for _ in 0..3 {
        let before = cuts.last().copied().unwrap_or(0);
        let out = eventually(PATIENCE * 3, "a further part", || async {
            let end = kafka::committed_end(env().brokers(), &source.topic("t")).await;
            if end > before + 500 || end as u64 > LARGE { Ok(end) } else { Err(end) }
        })
        .await;
        cuts.push(out);
        daemon.kill9();
        daemon.start();
    }
    assert!(cuts.iter().any(|cut| (*cut as u64) < LARGE), "all was out before the first kill: {cuts:?}");
    source.wait_for_events("t", LARGE as usize + 3).await;
    end(&source, "rollback", "undone").await;
    // the server restarts with one prepared, the daemon behind it, in good order
    block_in_place(|| servers.restart(kind.server()));
    run(&source, &["insert into t values (6,'behind the restart')".into()]).await;
    source.wait_for_events("t", LARGE as usize + 4).await;
    assert_eq!(daemon.shutdown(PATIENCE).await, 0, "{}", daemon.logs());
    let mark = daemon.mark();
    daemon.start();
    daemon.wait_for_log_since(mark, "streaming: ", PATIENCE).await;
    run(&source, &["flush binary logs".into()]).await;
    end(&source, "commit", "late").await;
    run(&source, &["insert into t values (7,'the end')".into()]).await;
    let events = source.wait_for_events("t", LARGE as usize + 6).await;
    let expected = numbers(&[1..=1, 3..=3, 1001..=1000 + LARGE, 5..=6, 4..=4, 7..=7]);
    let found = ids(&events);
    let first = found.iter().zip(&expected).position(|(found, expected)| found != expected);
    assert!(found == expected, "{kind:?} {settings:?}: {} events, differs from {first:?} on", found.len());
    let large: Vec<u64> =
        events[2..2 + LARGE as usize].iter().map(|event| event["source"]["seq"].as_u64().unwrap()).collect();
    assert!(large == numbers(&[1..=LARGE]));
    // one that is prepared and purged before it is committed is lost to us, and told
    prepare(&source, "purged", "insert into t values (8,'purged')").await;
    run(&source, &["insert into t values (9,'x')".into()]).await;
    source.wait_for_events("t", LARGE as usize + 7).await;
    assert_eq!(daemon.shutdown(PATIENCE).await, 0, "{}", daemon.logs());
    let mut session = Address::of(&source).connect_patiently().await;
    session.run("flush binary logs").await.unwrap();
    let files = session.rows("show binary logs").await.unwrap();
    let last = files.last().unwrap()[0].clone().unwrap();
    // MariaDB keeps what a binlog checkpoint still needs, until another commit
    eventually(PATIENCE, "a purge", || {
        let (address, last) = (Address::of(&source), last.clone());
        async move {
            let mut session = address.connect().await?;
            session.run(&format!("purge binary logs to '{last}'")).await?;
            let files = session.rows("show binary logs").await?;
            if files[0][0].as_deref() == Some(last.as_str()) { Ok(()) } else { Err(format!("{files:?}")) }
        }
    })
    .await;
    let mark = daemon.mark();
    daemon.start();
    let line = daemon.wait_for_log_since(mark, "gap: ", PATIENCE).await;
    assert!(line.contains("on_gap: backfill"), "{line}");
    // without GTIDs the file where we left off is gone with it, which is said first
    if kind == Kind::Mysql && settings.is_empty() {
        assert!(line.contains("XA transaction X'") && line.contains("purged its rows"), "{line}");
    }
    end(&source, "rollback", "purged").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prepared_transactions_outlive_the_daemon_the_server_and_the_file() {
    JoinSet::from_iter(SERVERS.map(through_restarts)).join_all().await;
}

async fn before_the_first_start((kind, settings): (Kind, &[(&str, &str)])) {
    let servers = block_in_place(|| Servers::private_with(&[kind.server()], settings));
    let source = Source::create_on(&servers, kind, "xa").await;
    source.create_table("t", COLUMNS).await;
    source.create_table("u", COLUMNS).await;
    if let Source::Mysql(db) = &source
        && kind == Kind::Mysql
    {
        db.exec("grant xa_recover_admin on *.* to cdc").await;
    }
    source.exec("insert into t values (1,'copied')").await;
    prepare(&source, "early", "insert into t values (2,'early'); insert into t values (3,'early')").await;
    prepare(&source, "undone", "insert into t values (4,'undone')").await;
    for round in 0..4 {
        source.exec(&format!("insert into u values ({round},'x'); flush binary logs")).await;
    }
    let mut daemon = daemon(&source, "");
    wait_until_streaming(&mut daemon).await;
    // the copy doesn't see them: they aren't committed
    assert_eq!(ids(&source.wait_for_events("t", 1).await), [1]);
    source.wait_for_events("u", 4).await;
    // a start between first start and commit
    daemon.kill9();
    daemon.start();
    end(&source, "rollback", "undone").await;
    end(&source, "commit", "early").await;
    source.exec("insert into t values (5,'x')").await;
    let events = source.wait_for_events("t", 4).await;
    assert_eq!(ids(&events), [1, 2, 3, 5], "{kind:?} {settings:?}");
    let ops: Vec<&str> = events.iter().map(|event| event["op"].as_str().unwrap()).collect();
    assert_eq!(ops, ["r", "c", "c", "c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_prepared_before_the_first_start_is_found_in_older_files() {
    JoinSet::from_iter(SERVERS.map(before_the_first_start)).join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_look_for_it_a_commit_is_a_gap_that_names_it() {
    let servers = block_in_place(|| Servers::private(&["mysql"]));
    let source = Source::create_on(&servers, Kind::Mysql, "xa").await;
    source.create_table("t", COLUMNS).await;
    prepare(&source, "early", "insert into t values (2,'early')").await;
    let mut daemon = daemon(&source, "backfill: never\n");
    daemon.wait_for_log("GRANT XA_RECOVER_ADMIN", PATIENCE).await;
    wait_until_streaming(&mut daemon).await;
    end(&source, "commit", "early").await;
    let line = daemon.wait_for_log("gap: XA COMMIT X'", PATIENCE).await;
    assert!(line.contains("prepared before this source began to stream"), "{line}");
}
