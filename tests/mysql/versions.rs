//! Tables whose columns the binlog doesn't name (`binlog_row_metadata=MINIMAL`): each row has the columns of its time, also across a
//! restart; a table that can't be known fails alone, says so, and is repaired by a copy.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::{Value as Json, json};
use tokio::task::block_in_place;

use crate::asking::Asked;
use crate::exposition::Exposition;
use crate::support::daemon::Daemon;
use crate::support::source::{Kind, PATIENCE, Source, Writer, wait_until_streaming};
use crate::support::{Servers, env, eventually};

pub const KINDS: [Kind; 2] = [Kind::Mysql, Kind::Mariadb];

/// Servers of this test binary's own that name no columns. They end with this process.
pub fn minimal() -> &'static Servers {
    static SERVERS: OnceLock<Servers> = OnceLock::new();
    block_in_place(|| {
        SERVERS.get_or_init(|| {
            let conf = "--binlog-row-metadata=MINIMAL";
            Servers::private_with(
                &["mysql", "mariadb"],
                &[("ROWCAST_MYSQL_CONF", conf), ("ROWCAST_MARIADB_CONF", conf)],
            )
        })
    })
}

async fn database(kind: Kind, prefix: &str, tables: &str) -> Source {
    let source = Source::create_on(minimal(), kind, prefix).await;
    source.exec(tables).await;
    source
}

async fn stop(daemon: &mut Daemon) {
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
}

/// The rows of a table's events: operation, and the image that is there.
pub async fn wait_for_rows(source: &Source, table: &str, expected: &[(&str, Json)]) {
    let expected: Vec<(String, Json)> = expected.iter().map(|(op, row)| ((*op).to_owned(), row.clone())).collect();
    eventually(PATIENCE, &format!("the events of {table}"), || async {
        let rows: Vec<(String, Json)> = source
            .events(table)
            .await
            .iter()
            .map(|event| {
                let image = if event["op"] == "d" { &event["before"] } else { &event["after"] };
                (event["op"].as_str().unwrap().to_owned(), image.clone())
            })
            .collect();
        if rows == expected { Ok(()) } else { Err(rows) }
    })
    .await;
}

/// What consumers have of a table with the key `id`: its topic, folded.
pub async fn fold(source: &Source, table: &str) -> BTreeMap<String, Json> {
    let mut rows = BTreeMap::new();
    for event in source.events(table).await {
        match event["op"].as_str().unwrap() {
            "t" => rows.clear(),
            "d" => drop(rows.remove(&event["before"]["id"].to_string())),
            _ => drop(rows.insert(event["after"]["id"].to_string(), event["after"].clone())),
        }
    }
    rows
}

/// Altered, dropped and renamed while nobody streams, in ways that a row event doesn't show: names change places, a type stays.
async fn columns_of_their_time(kind: Kind) {
    let source = database(
        kind,
        "versions",
        "create table t (id int primary key, a int, b int);
         create table gone (id int primary key, word varchar(20), kind enum('x', 'y'));
         create table quiet (id int primary key, a int unsigned, b int);
         create table labels (id int primary key, mood enum('sad', 'glad'))",
    )
    .await;
    let mut daemon = source.to_kafka().spawn();
    wait_until_streaming(&mut daemon).await;
    source.exec("insert into t values (1, 10, 100); insert into gone values (1, 'one', 'y'); insert into labels values (1, 'glad')").await;
    source.wait_for_events("labels", 1).await;
    stop(&mut daemon).await;
    // `quiet` had no row yet: it is known from the start
    source.exec("insert into t values (2, 20, 200); insert into gone values (2, 'two', 'x'); insert into quiet values (1, 4000000000, -1)").await;
    source.exec("alter table t rename column a to x; insert into t values (3, 30, 300)").await;
    source.exec("drop table gone").await;
    source.exec("alter table quiet change a c int unsigned, change b a int; insert into quiet values (2, 5, 6)").await;
    source.exec("insert into labels values (2, 'sad'); alter table labels modify mood enum('glad', 'sad'); insert into labels values (3, 'glad')").await;
    daemon.start();
    wait_for_rows(
        &source,
        "t",
        &[
            ("c", json!({"id": 1, "a": 10, "b": 100})),
            ("c", json!({"id": 2, "a": 20, "b": 200})),
            ("c", json!({"id": 3, "x": 30, "b": 300})),
        ],
    )
    .await;
    wait_for_rows(
        &source,
        "gone",
        &[("c", json!({"id": 1, "word": "one", "kind": "y"})), ("c", json!({"id": 2, "word": "two", "kind": "x"}))],
    )
    .await;
    wait_for_rows(
        &source,
        "quiet",
        &[("c", json!({"id": 1, "a": 4_000_000_000_u32, "b": -1})), ("c", json!({"id": 2, "c": 5, "a": 6}))],
    )
    .await;
    wait_for_rows(
        &source,
        "labels",
        &[
            ("c", json!({"id": 1, "mood": "glad"})),
            ("c", json!({"id": 2, "mood": "sad"})),
            ("c", json!({"id": 3, "mood": "glad"})),
        ],
    )
    .await;
    // under the stream, and once more behind a kill
    source.exec("alter table t add c int first; insert into t values (4, 4, 40, 400)").await;
    source.wait_for_events("t", 4).await;
    daemon.kill9();
    source.exec("insert into t values (5, 5, 50, 500); alter table t rename column b to y; insert into t values (6, 6, 60, 600)").await;
    daemon.start();
    let events = source.wait_for_events("t", 6).await;
    let rows: Vec<&Json> = events[3..].iter().map(|event| &event["after"]).collect();
    assert_eq!(rows[0], &json!({"c": 4, "id": 4, "x": 40, "b": 400}));
    assert_eq!(rows[1], &json!({"c": 5, "id": 5, "x": 50, "b": 500}));
    assert_eq!(rows[2], &json!({"c": 6, "id": 6, "x": 60, "y": 600}));
    stop(&mut daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_from_before_a_table_was_altered_have_the_columns_of_their_time_on_mysql() {
    columns_of_their_time(Kind::Mysql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_from_before_a_table_was_altered_have_the_columns_of_their_time_on_mariadb() {
    columns_of_their_time(Kind::Mariadb).await;
}

fn yaml(source: &Source, more: &str) -> String {
    format!("{}sink:\n  type: kafka\n  brokers: {}\nstate_dir: state\n{more}", source.yaml("*"), env().brokers())
}

/// Alters a table twice while nobody streams, with a row between: nobody can know that row's columns.
async fn alter_twice(source: &Source) {
    source.exec("alter table t rename column a to x; insert into t values (3, 30)").await;
    source.exec("alter table t add c int; insert into t values (4, 40, 400); delete from t where id = 1").await;
    source.exec("insert into u values (2)").await;
}

const TABLES: &str = "create table t (id int primary key, a int); insert into t values (1, 10);
    create table u (id int primary key); insert into u values (1)";

/// The story of a table that fails: it stops, says so everywhere, stays stopped, and is repaired by a copy.
async fn fails_alone_and_is_repaired(kind: Kind) {
    let source = database(kind, "failed", TABLES).await;
    let mut asked = Asked::start(&[yaml(&source, "")]).await;
    source.wait_for_events("t", 1).await;
    source.wait_for_events("u", 1).await;
    source.exec("insert into t values (2, 20)").await;
    source.wait_for_events("t", 2).await;
    stop(&mut asked.daemon).await;
    alter_twice(&source).await;
    let mark = asked.daemon.mark();
    asked.again().await;
    let said = asked.daemon.wait_for_log_since(mark, "the table is stopped", PATIENCE).await;
    let (name, table) = (source.name().to_owned(), format!("{}.t", source.name()));
    for part in ["ERROR", &table, "binlog_row_metadata", "repair: ", &format!("rowcast backfill {name}")] {
        assert!(said.contains(part), "no `{part}` in: {said}");
    }
    // all others go on, before and behind it
    source.exec("insert into u values (3)").await;
    source.wait_for_events("u", 3).await;
    source.exec("insert into t values (5, 50, 500)").await;
    source.exec("insert into u values (4)").await;
    source.wait_for_events("u", 4).await;
    assert_eq!(source.events("t").await.len(), 2, "nothing from the failing row on");
    asked.is_stopped(&name, &table).await;
    // told once, however many of its rows come
    let told = asked.daemon.logs().matches("the table is stopped").count();
    assert_eq!(told, 1);

    // a restart keeps it, though the table's rows could be decoded now
    stop(&mut asked.daemon).await;
    let mark = asked.daemon.mark();
    asked.again().await;
    asked.daemon.wait_for_log_since(mark, "stays stopped", PATIENCE).await;
    source.exec("insert into t values (6, 60, 600)").await;
    source.exec("insert into u values (5)").await;
    source.wait_for_events("u", 5).await;
    assert_eq!(source.events("t").await.len(), 2);
    asked.is_stopped(&name, &table).await;

    // not by a part of it
    let backfill = |more: &[&str]| {
        let socket = asked.daemon.dir().join("state");
        Daemon::command().args(&["backfill", &name, &table, "--state-dir", socket.to_str().unwrap()]).args(more)
    };
    let (code, _, error) = backfill(&["--keys", "[3]"]).output(PATIENCE).await;
    assert!(code == 1 && error.contains("whole table"), "{code}: {error}");
    let (code, out, error) = backfill(&[]).output(PATIENCE).await;
    assert_eq!(code, 0, "{out}{error}");
    source.exec("insert into t values (7, 70, 700); update t set x = 21 where id = 2").await;
    let now = || async {
        let rows = source.query("select id, x, c from t").await;
        let number =
            |text: &Option<String>| text.as_ref().map_or(Json::Null, |text| text.parse::<i64>().unwrap().into());
        let row =
            |row: &Vec<Option<String>>| json!({"id": number(&row[0]), "x": number(&row[1]), "c": number(&row[2])});
        rows.iter().map(|it| (it[0].clone().unwrap(), row(it))).collect::<BTreeMap<String, Json>>()
    };
    eventually(PATIENCE, "the topic adds up to the table", || async {
        let (folded, now) = (fold(&source, "t").await, now().await);
        if folded == now { Ok(()) } else { Err((folded, now)) }
    })
    .await;
    let ops: Vec<Json> = source.events("t").await.iter().map(|event| event["op"].clone()).collect();
    assert_eq!(ops[2], "t", "what consumers had is void first: {ops:?}");
    eventually(PATIENCE, "ready again", || async {
        let (code, body) = asked.get("/readyz").await;
        if code == 200 { Ok(()) } else { Err(body) }
    })
    .await;
    stop(&mut asked.daemon).await;
    asked.again().await;
    source.exec("delete from t where id = 7").await;
    eventually(PATIENCE, "it streams behind a restart", || async {
        let (folded, now) = (fold(&source, "t").await, now().await);
        if folded == now { Ok(()) } else { Err((folded, now)) }
    })
    .await;
}

impl Asked {
    /// One table is stopped, and everybody who asks is told.
    async fn is_stopped(&self, name: &str, table: &str) {
        let (code, body) = self.get("/readyz").await;
        assert!(code == 503 && body.contains("degraded") && body.contains(table), "{code}: {body}");
        let (_, body) = self.get(&format!("/api/v1/sources/{name}")).await;
        let report: Json = serde_json::from_str(&body).unwrap();
        assert_eq!((&report["state"], &report["tables_stopped"]), (&json!("degraded"), &json!(1)), "{body}");
        let tables = report["backfill"]["tables"].as_array().unwrap();
        let it = tables.iter().find(|it| it["table"] == table).unwrap();
        assert!(it["state"] == "stopped" && it["why"].as_str().unwrap().contains("can't be followed"), "{it}");
        let (_, metrics) = self.get("/metrics").await;
        let metrics = Exposition::parse(&metrics);
        assert_eq!(metrics.of("rowcast_tables_stopped", name), Some(1.0));
        assert_eq!(metrics.of("rowcast_source_ready", name), Some(0.0));
        let status = Daemon::command().args(&["status", name, "--admin", self.address()]);
        let (code, out, error) = status.output(PATIENCE).await;
        assert!(code == 1 && out.contains("degraded: ") && out.contains("stopped"), "{code}: {out}{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_can_not_be_known_fails_alone_and_is_repaired_by_a_copy_on_mysql() {
    fails_alone_and_is_repaired(Kind::Mysql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_can_not_be_known_fails_alone_and_is_repaired_by_a_copy_on_mariadb() {
    fails_alone_and_is_repaired(Kind::Mariadb).await;
}

/// The configuration may say that the source stops instead, and then that it doesn't.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_may_be_stopped_by_a_tables_failure() {
    for kind in KINDS {
        let source = database(kind, "policy", TABLES).await;
        let stops = yaml(&source, "backfill: never\non_table_failure: stop_source\n");
        let mut daemon = Daemon::command().file("source.yaml", &stops).args(&["run", "source.yaml"]).spawn();
        wait_until_streaming(&mut daemon).await;
        source.exec("insert into t values (2, 20)").await;
        source.wait_for_events("t", 1).await;
        stop(&mut daemon).await;
        alter_twice(&source).await;
        let mark = daemon.mark();
        daemon.start();
        assert_eq!(daemon.wait(PATIENCE).await, 1);
        let said = daemon.wait_for_log_since(mark, "stopped: ", PATIENCE).await;
        assert!(said.contains("can't be followed") && said.contains("on_table_failure: stop_table"), "{said}");
        assert_eq!(source.events("u").await.len(), 0);
        daemon.write("source.yaml", &stops.replace("stop_source", "stop_table"));
        daemon.start();
        source.wait_for_events("u", 1).await;
        assert_eq!(source.events("t").await.len(), 1);
        stop(&mut daemon).await;
    }
}

/// A failure that is not in a checkpoint when the process is killed is met again; what was published of the table stays what it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_committed_with_the_position_behind_it() {
    let source = database(Kind::Mysql, "killed", TABLES).await;
    let yaml = yaml(&source, "backfill: never\n");
    let mut daemon = Daemon::command().file("source.yaml", &yaml).args(&["run", "source.yaml"]).spawn();
    wait_until_streaming(&mut daemon).await;
    source.exec("insert into t values (2, 20)").await;
    source.wait_for_events("t", 1).await;
    daemon.kill9();
    alter_twice(&source).await;
    for point in ["commit.begun:2", "commit.drained:2", "commit.done:2"] {
        daemon.set_env("ROWCAST_FAIL_POINT", Some(point));
        daemon.start();
        let code = daemon.wait(PATIENCE).await;
        assert_ne!(code, 0, "{point}");
        assert_eq!(source.events("t").await.len(), 1, "{point}");
    }
    daemon.set_env("ROWCAST_FAIL_POINT", None);
    daemon.start();
    source.exec("insert into u values (9); insert into t values (9, 9, 9)").await;
    source.exec("insert into u values (10)").await;
    source.wait_for_events("u", 3).await;
    assert_eq!(source.events("t").await.len(), 1);
    stop(&mut daemon).await;
}

/// "`binlog_format=STATEMENT`: rows silently lost." Here the table stops, with the statement and the setting; others go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_without_its_rows_stops_the_table_that_it_names() {
    for kind in KINDS {
        let source = Source::create(kind, "statement").await;
        source.exec("create table t (id int primary key, a int); create table u (id int primary key); create table vv (id int primary key)").await;
        let tables = source.to_kafka_yaml("?", "backfill: never\n");
        let mut daemon = Daemon::command().file("source.yaml", &tables).args(&["run", "source.yaml"]).spawn();
        wait_until_streaming(&mut daemon).await;
        let mut session = Writer::of(&source).await;
        session.run("set session binlog_format = 'STATEMENT'").await;
        // nobody captures it
        session.run("insert into vv values (1)").await;
        session.run("insert into t values (1, 1)").await;
        let said = daemon.wait_for_log("the table is stopped", PATIENCE).await;
        for part in ["INSERT logged as a statement", &format!("`{}.t`", source.name()), "binlog_format=ROW", "repair: "]
        {
            assert!(said.contains(part), "no `{part}` in: {said}");
        }
        source.exec("insert into u values (1); insert into t values (2, 2)").await;
        source.exec("insert into u values (2)").await;
        source.wait_for_events("u", 2).await;
        assert!(source.events("t").await.is_empty());
        stop(&mut daemon).await;
    }
}

/// "MySQL 9.7 logs foreign key cascades; MariaDB does not: cascaded deletes and updates never arrive." There the start says so.
#[tokio::test(flavor = "multi_thread")]
async fn cascades_that_are_not_logged_are_told_at_the_start() {
    for kind in KINDS {
        let source = Source::create(kind, "cascades").await;
        source
            .exec(
                "create table p (id int primary key);
                 create table c (id int primary key, p int, foreign key named (p) references p (id) on delete cascade);
                 create table plain (id int primary key, p int, foreign key (p) references p (id));
                 insert into p values (1), (2); insert into c values (1, 1), (2, 1), (3, 2)",
            )
            .await;
        let mut daemon = source.to_kafka_with("backfill: initial\n").spawn();
        wait_until_streaming(&mut daemon).await;
        source.wait_for_events("c", 3).await;
        source.exec("delete from p where id = 1").await;
        let said = daemon.logs();
        let noted = said.lines().find(|line| line.contains("doesn't log what foreign keys change"));
        match kind {
            Kind::Mariadb => {
                let noted = noted.unwrap();
                assert!(noted.contains(&format!("{}.c (", source.name())) && !noted.contains(".plain"), "{noted}");
                source.wait_for_events("p", 3).await;
            }
            _ => {
                assert!(noted.is_none(), "{said}");
                let events = source.wait_for_events("c", 5).await;
                assert!(events[3..].iter().all(|event| event["op"] == "d"), "{events:?}");
            }
        }
        stop(&mut daemon).await;
    }
}
