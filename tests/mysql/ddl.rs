//! No statement that someone runs can stop the stream: tables that are altered under it, odd DDL, online schema changes, names that
//! nobody would choose. Each line of what other systems lose or stop at is a statement here.

use std::process::Command;

use serde_json::{Value as Json, json};
use tokio::task::block_in_place;

use crate::support::daemon::Daemon;
use crate::support::kafka::{Record, read_committed};
use crate::support::source::{Kind, PATIENCE, Source, Writer, wait_until_streaming};
use crate::support::{Servers, env, eventually};
use crate::versions::{KINDS, minimal, wait_for_rows};

/// A step: what is run, and the row of the one event that it gives, if it gives one.
type Step = (&'static str, Option<Json>);

fn steps() -> Vec<Step> {
    let row = |sql, row: Json| (sql, Some(row));
    let alter = |sql| (sql, None);
    vec![
        row("insert into t values (1, 10, 'x')", json!({"id": 1, "a": 10, "b": "x"})),
        alter("alter table t add c decimal(6,2) not null default 1.5 first, algorithm=instant"),
        row("insert into t values (2, 2, 20, 'y')", json!({"c": "2.00", "id": 2, "a": 20, "b": "y"})),
        row("update t set a = 11 where id = 1", json!({"c": "1.50", "id": 1, "a": 11, "b": "x"})),
        alter("alter table t rename column a to `A new`"),
        row("insert into t values (3, 3, 30, 'z')", json!({"c": "3.00", "id": 3, "A new": 30, "b": "z"})),
        // reordered, and of another type
        alter(
            "alter table t modify b varchar(30) character set latin1 after id, modify `A new` bigint unsigned, algorithm=copy",
        ),
        row(
            "insert into t values (4, 4, 'é', 18446744073709551615)",
            json!({"c": "4.00", "id": 4, "b": "é", "A new": 18_446_744_073_709_551_615_u64}),
        ),
        alter("alter table t convert to character set utf8mb4, lock=shared"),
        row("insert into t values (5, 5, '日', 5)", json!({"c": "5.00", "id": 5, "b": "日", "A new": 5})),
        alter("alter table t drop c, add mood enum('sad', 'it''s', 'a,b') not null default 'sad', algorithm=inplace"),
        row("insert into t values (6, 'm', 6, 'a,b')", json!({"id": 6, "b": "m", "A new": 6, "mood": "a,b"})),
        alter("alter table t modify mood enum('sad', 'fine', 'a,b', 'new') not null"),
        row("insert into t values (7, 'm', 7, 'fine')", json!({"id": 7, "b": "m", "A new": 7, "mood": "fine"})),
        alter("alter table t drop primary key, add primary key (b, id), drop mood"),
        row("insert into t values (8, 'k', 8)", json!({"id": 8, "b": "k", "A new": 8})),
        alter("alter table t add v int as (id + 1) virtual, add s int as (id + 2) stored, add auto int default 7"),
        row(
            "insert into t (id, b, `A new`) values (9, 'k', 9)",
            json!({"id": 9, "b": "k", "A new": 9, "v": 10, "s": 11, "auto": 7}),
        ),
    ]
}

async fn database(servers: &Servers, kind: Kind, prefix: &str, tables: &str) -> Source {
    let source = Source::create_on(servers, kind, prefix).await;
    source.exec(tables).await;
    source
}

async fn stop(daemon: &mut Daemon) {
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
    let logs = daemon.logs();
    assert!(!logs.contains("ERROR") && !logs.contains("is stopped"), "{logs}");
}

/// Each version of a table as the schema topic tells it: names and key.
async fn versions(source: &Source, table: &str) -> Vec<(Vec<String>, Json)> {
    let records = read_committed(&format!("rowcast.schema.{}", source.name())).await;
    let names = |json: &Json| {
        json["columns"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
    };
    records
        .iter()
        .map(Record::json)
        .filter(|json| json["source"]["table"] == table && json["columns"].is_array())
        .map(|json| (names(&json), json["key"].clone()))
        .collect()
}

async fn altered_under_the_stream(servers: &Servers, kind: Kind) {
    let source = database(
        servers,
        kind,
        "ddl",
        "create table t (id int primary key, a int, b varchar(10)) character set utf8mb4",
    )
    .await;
    let mut daemon = source.to_kafka().spawn();
    wait_until_streaming(&mut daemon).await;
    let steps = steps();
    let mut count = 0;
    for (sql, row) in &steps {
        source.exec(sql).await;
        count += usize::from(row.is_some());
        source.wait_for_events("t", count).await;
    }
    let records = source.records("t").await;
    let rows: Vec<Json> = records.iter().map(|record| record.json()["after"].clone()).collect();
    let expected: Vec<Json> = steps.into_iter().filter_map(|(_, row)| row).collect();
    assert_eq!(rows, expected, "{}", kind.name());
    let versions = versions(&source, "t").await;
    assert_eq!(versions.len(), 8, "{versions:?}");
    assert_eq!(versions[0], (vec!["id".into(), "a".into(), "b".into()], json!(["id"])));
    assert_eq!(versions[6], (vec!["id".into(), "b".into(), "A new".into()], json!(["b", "id"])));
    assert_eq!(records.last().unwrap().key_json(), json!({"b": "k", "id": 9}));
    stop(&mut daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_altered_under_the_stream_has_each_version_with_its_events() {
    for kind in KINDS {
        altered_under_the_stream(env(), kind).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_altered_under_the_stream_without_names_in_the_binlog_has_them_too() {
    for kind in KINDS {
        altered_under_the_stream(minimal(), kind).await;
    }
}

/// Statements that were seen to stop others, or might: run between inserts, on a captured table `t (id, a)` and beside it. `{o}` is
/// another database, which nobody captures.
fn corpus(kind: Kind) -> Vec<String> {
    let mut all: Vec<&str> = vec![
        "-- a comment\n alter table t comment 'x'",
        "# another\nalter table t comment 'y'",
        "/* a */ alter /* b */ table /* c */ t /* d */ comment 'it''s'",
        "alter table t comment 'a \"quoted\" comment; drop table t'",
        "/*!50000 alter table t comment 'versioned' */",
        "alter table t /*!50000 comment 'inside' */",
        "create table `q` (id int primary key, d varchar(30) default 'a\"b\"c', e enum('x\"\"y', 'o''clock', 'b,c', 'h\\\\i', '😀', ''), auto int) comment 'say \"hi\"' character set utf8mb4",
        "insert into q values (1, default, 'x\"\"y', 1)",
        "insert into q values (2, 'it''s', '😀', 2)",
        "alter table q add column `default` set('a', 'b''c', 'd\"e') default 'b''c', add `table` json, add `a.b` int, add `a``c` int",
        "insert into q (id, e) values (3, 'h\\\\i')",
        "alter table t algorithm=inplace, lock=none, add index i (a)",
        "alter table t drop index i, algorithm=copy",
        "create index i on t (a)",
        "drop index i on t",
        "analyze table t",
        "optimize table t",
        "create temporary table t (x text)",
        "insert into t values ('hidden')",
        "alter table t add y int",
        "drop temporary table t",
        "create temporary table temp1 as select * from t",
        "drop temporary table if exists temp1, temp2",
        "create view v as select * from t",
        "create or replace view v as select id from t",
        "drop view v",
        "create trigger tr before insert on t for each row set new.a = new.a",
        "drop trigger tr",
        "create procedure p() begin alter table t comment 'by a procedure'; insert into q (id) values (4); end",
        "call p()",
        "drop procedure p",
        "create function f() returns int deterministic return 1",
        "drop function f",
        "create event e on schedule every 1 year starts current_timestamp + interval 1 year do delete from t",
        "alter event e disable",
        "drop event e",
        "prepare s from 'alter table t comment ''prepared'''",
        "execute s",
        "deallocate prepare s",
        "create table made as select id, a from t",
        "insert into made select id + 1000, a from t",
        "create table liked like t",
        "insert into liked select * from t limit 2",
        "replace into liked values (1, 99)",
        "insert into liked values (1, 5) on duplicate key update a = values(a) + 1",
        "update liked, t set liked.a = -1 where liked.id = t.id and t.id = 1",
        "delete liked from liked join t using (id) where t.id = 1",
        "begin; insert into liked values (50, 1); savepoint s; insert into liked values (51, 1); rollback to s; insert into liked values (52, 1); release savepoint s; commit",
        "begin; insert into liked values (60, 1); rollback",
        "rename table liked to {o}.liked",
        "insert into {o}.liked values (70, 1)",
        "rename table {o}.liked to liked",
        "insert into liked values (71, 1)",
        "rename table liked to a, made to liked, a to made",
        "drop table made, liked",
        "create table m (id int primary key) engine=myisam",
        "insert into m values (1), (2)",
        "drop table if exists m, not_there",
        "create database if not exists {o}",
        "create table {o}.t like t",
        "insert into {o}.t values (1, 1)",
        "alter table {o}.t add secret int",
        "drop database {o}",
        "create database {o}",
        "create user if not exists 'odd'@'localhost' identified by 'x'",
        "grant select on t to 'odd'@'localhost'",
        "drop user 'odd'@'localhost'",
        "flush tables",
        "flush binary logs",
        "flush privileges",
        "lock tables t write; unlock tables",
        "set @x = 'alter table t drop a'",
        "create table part (id int primary key, a int) partition by range (id) (partition p0 values less than (10), partition p1 values less than (20))",
        "insert into part values (1, 1), (11, 11)",
        "alter table part truncate partition p0",
        "alter table part add partition (partition p2 values less than (30))",
        "alter table part reorganize partition p2 into (partition p2 values less than (25), partition p3 values less than (30))",
        "insert into part values (21, 21)",
        "alter table part drop partition p1",
        "alter table part remove partitioning",
        "alter table t drop column a, add column a int",
        "alter table t engine=innodb",
        "alter table t row_format=compressed, force",
        "alter table t auto_increment=1000",
        "alter table t default character set latin1",
        "alter table t add constraint ck check (id >= 0)",
        "alter table t drop constraint ck",
        "alter database default character set utf8mb4",
    ];
    match kind {
        Kind::Mariadb => all.extend([
            "/*M! alter table t comment 'mariadb' */",
            "/*M!100000 alter table t comment 'mariadb 10' */",
            "alter table t /*M! comment 'inside' */",
            "set statement max_statement_time=100 for alter table t comment 'with a limit'",
            "alter online table t comment 'online'",
            "alter table if exists t add column if not exists z int",
            "alter table t drop column if exists z, drop column if exists not_there",
            "create or replace table again (id int primary key, a int)",
            "insert into again values (1, 1)",
            "create or replace table again (b varchar(5), id int primary key)",
            "insert into again values ('new', 1)",
            "create sequence sq",
            "select next value for sq",
            "select nextval(sq), lastval(sq)",
            "alter sequence sq restart 50",
            "select setval(sq, 100)",
            "create table serial_like (id int primary key default (next value for sq), a int)",
            "insert into serial_like (a) values (1), (2)",
            "drop sequence if exists not_there",
            "create table sv (id int primary key, a int) with system versioning",
            "insert into sv values (1, 1)",
            "update sv set a = 2",
            "set system_versioning_alter_history=keep",
            "alter table sv add b int",
            "delete from sv",
            "delete history from sv",
            "alter table sv drop system versioning",
            "insert into sv values (2, 2, 2)",
            "create table inets (id int primary key, four inet4, six inet6, u uuid)",
            "insert into inets values (1, '1.2.3.4', '::1', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11')",
            "insert into q (id) values (90) returning id",
            "begin not atomic alter table t comment 'compound'; end",
        ]),
        _ => all.extend([
            "alter table t add column hid int invisible, algorithm=inplace",
            "alter table t drop column hid, algorithm=inplace",
            "alter table t alter column a set invisible",
            "alter table t alter column a set visible",
            "alter table t add index fx ((a + 1))",
            "drop index fx on t",
            "alter table t add index ix (a) invisible",
            "drop index ix on t",
            "create table `gen` (id int primary key, a int, b int generated always as (a * 2) virtual, key ((a + b)))",
            "insert into gen (id, a) values (1, 2)",
            "create table later (id int primary key) start transaction; commit",
            "set session sql_generate_invisible_primary_key=on",
            "create table gipk (a int)",
            "insert into gipk values (1)",
            "set session sql_generate_invisible_primary_key=off",
            "create tablespace ts add datafile 'ts_{o}.ibd'",
            "alter table t tablespace innodb_file_per_table",
            "drop tablespace ts",
            "insert into q (id) with recursive n as (select 80 as i union all select i + 1 from n where i < 82) select i from n",
            "alter table t secondary_engine=null",
            "alter table t engine_attribute='{}'",
        ]),
    }
    all.into_iter().map(str::to_owned).collect()
}

async fn survives(servers: &Servers, kind: Kind) {
    let source = database(
        servers,
        kind,
        "odd",
        "create table t (id int primary key, a int); create table probe (id int primary key)",
    )
    .await;
    let other = format!("{}_other", source.name());
    source.exec(&format!("create database {other}")).await;
    let mut daemon = source.to_kafka().spawn();
    wait_until_streaming(&mut daemon).await;
    let mut session = Writer::of(&source).await;
    let named = source.query("select @@global.binlog_row_metadata").await[0][0].as_deref() == Some("FULL");
    // the catalog lacks what utf8mb3 does, so that such a label isn't known without the event's
    let emoji = if named { "😀" } else { "日" };
    let corpus: Vec<String> = corpus(kind).iter().map(|sql| sql.replace("😀", emoji)).collect();
    let (mut run, mut refused) = (0, Vec::new());
    for (index, sql) in corpus.iter().enumerate() {
        let Writer::Mysql(conn) = &mut session else { unreachable!() };
        // what a version of a server doesn't know is no test of us; the last lines count these
        match mysql_async::prelude::Queryable::query_drop(&mut **conn, sql.replace("{o}", &other)).await {
            Ok(()) => run += 1,
            Err(error) => refused.push(format!("{sql}: {error}")),
        }
        source.exec(&format!("insert into probe values ({index}); insert into t (id, a) values ({index}, 7)")).await;
        // so that each statement meets a stream that is where it was run
        source.wait_for_events("probe", index + 1).await;
    }
    println!("{}: {run} statements, refused: {refused:#?}", kind.name());
    assert!(refused.len() <= 2, "{refused:#?}");
    let count = corpus.len();
    let ids = |events: &[Json]| events.iter().map(|event| event["after"]["id"].as_u64().unwrap()).collect::<Vec<_>>();
    let wanted: Vec<u64> = (0..count as u64).collect();
    assert_eq!(ids(&source.events("probe").await), wanted);
    let events = source.wait_for_events("t", count).await;
    assert_eq!(ids(&events), wanted);
    assert!(events.iter().all(|event| event["after"]["a"] == 7));
    let q = source.events("q").await;
    assert_eq!(q[0]["after"], json!({"id": 1, "d": "a\"b\"c", "e": "x\"\"y", "auto": 1}));
    assert_eq!((&q[1]["after"]["e"], &q[1]["after"]["d"]), (&json!(emoji), &json!("it's")));
    assert_eq!((&q[2]["after"]["e"], &q[2]["after"]["default"]), (&json!("h\\i"), &json!(["b'c"])));
    // `liked` and `made` have changed names since
    let liked = source.events("liked").await;
    let named: Vec<i64> =
        liked.iter().filter(|event| event["op"] == "c").map(|event| event["after"]["id"].as_i64().unwrap()).collect();
    assert!(named.ends_with(&[50, 52, 71]), "{named:?}");
    if kind == Kind::Mariadb {
        let again: Vec<Json> = source.events("again").await.iter().map(|event| event["after"].clone()).collect();
        assert_eq!(again, [json!({"id": 1, "a": 1}), json!({"b": "new", "id": 1})]);
        // every version of a row is a row of its own: what the topic adds up to is the table with its history
        let sv = source.records("sv").await;
        let keys: Vec<Json> = sv.iter().map(Record::key_json).collect();
        assert!(keys[0]["id"] == 1 && keys[0]["row_end"].is_string(), "{keys:?}");
        let ops: Vec<Json> = source.events("sv").await.iter().map(|event| event["op"].clone()).collect();
        assert_eq!(ops[..3], [json!("c"), json!("u"), json!("c")], "{ops:?}");
        let inets = source.events("inets").await;
        assert_eq!(
            inets[0]["after"],
            json!({"id": 1, "four": "1.2.3.4", "six": "::1", "u": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"})
        );
    }
    let logs = daemon.logs();
    let partitions = logs.lines().filter(|line| line.contains("PARTITION or TABLESPACE moves rows")).count();
    assert_eq!(partitions, 2, "{logs}");
    stop(&mut daemon).await;
    source.exec(&format!("drop database if exists {other}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_statement_stops_the_stream_of_mysql() {
    survives(env(), Kind::Mysql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_statement_stops_the_stream_of_mariadb() {
    survives(env(), Kind::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_statement_stops_the_stream_of_mysql_without_names_in_the_binlog() {
    survives(minimal(), Kind::Mysql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_statement_stops_the_stream_of_mariadb_without_names_in_the_binlog() {
    survives(minimal(), Kind::Mariadb).await;
}

/// As gh-ost does it: a shadow table, rows in chunks and changes by its own writes, then both names changed at once.
fn ghost() -> Vec<&'static str> {
    vec![
        "create /* gh-ost */ table _t_ghc (id bigint auto_increment, hint varchar(64) not null, value varchar(4096) not null, primary key (id), unique key hint_uidx (hint)) auto_increment=256",
        "create /* gh-ost */ table _t_gho like t",
        "alter /* gh-ost */ table _t_gho add c int not null default 5, drop b",
        "insert /* gh-ost */ into _t_ghc (id, hint, value) values (nullif(0, 0), 'state', 'GhostTableMigrated') on duplicate key update value = values(value)",
        "insert /* gh-ost */ ignore into _t_gho (id, a) (select id, a from t where id >= 1 and id <= 100 lock in share mode)",
        "update t set a = 22 where id = 2",
        "replace /* gh-ost */ into _t_gho (id, a) values (2, 22)",
        "create table _t_del (id int auto_increment primary key) comment='ghost-cut-over-sentry'",
        "drop table _t_del",
        "rename /* gh-ost */ table t to _t_del, _t_gho to t",
        "insert into t values (4, 40, 6)",
        "drop /* gh-ost */ table if exists _t_ghc, _t_del",
        "update t set a = 41 where id = 4",
    ]
}

/// As pt-online-schema-change does it: triggers carry the changes over.
fn pt_osc() -> Vec<&'static str> {
    vec![
        "create table _t_new like t",
        "alter table _t_new add c int not null default 5, drop b",
        "create trigger pt_del after delete on t for each row delete ignore from _t_new where _t_new.id <=> old.id",
        "create trigger pt_upd after update on t for each row begin delete ignore from _t_new where !(old.id <=> new.id) and _t_new.id <=> old.id; replace into _t_new (id, a) values (new.id, new.a); end",
        "create trigger pt_ins after insert on t for each row replace into _t_new (id, a) values (new.id, new.a)",
        "insert low_priority ignore into _t_new (id, a) select id, a from t lock in share mode /*pt-online-schema-change 1 copy nibble*/",
        "update t set a = 22 where id = 2",
        "analyze table _t_new /* pt-online-schema-change */",
        "rename table t to _t_old, _t_new to t",
        "drop table if exists _t_old",
        "drop trigger if exists pt_del; drop trigger if exists pt_upd; drop trigger if exists pt_ins",
        "insert into t values (4, 40, 6)",
        "update t set a = 41 where id = 4",
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn online_schema_changes_are_streamed_with_the_columns_of_both_tables() {
    for servers in [env(), minimal()] {
        for (kind, tool) in KINDS.into_iter().flat_map(|kind| [(kind, ghost()), (kind, pt_osc())]) {
            let tables = "create table t (id int primary key, a int, b int); create table probe (id int primary key)";
            let source = database(servers, kind, "online", tables).await;
            // the tools' tables are captured, too: nobody excludes them beforehand
            let mut daemon = source.to_kafka().spawn();
            wait_until_streaming(&mut daemon).await;
            source.exec("insert into t values (1, 10, 1), (2, 20, 2), (3, 30, 3)").await;
            source.wait_for_events("t", 3).await;
            for (index, sql) in tool.iter().enumerate() {
                source.exec(&format!("{sql}; insert into probe values ({index})")).await;
                // a stream that keeps up, as one does while such a tool runs for hours
                source.wait_for_events("probe", index + 1).await;
            }
            wait_for_rows(
                &source,
                "t",
                &[
                    ("c", json!({"id": 1, "a": 10, "b": 1})),
                    ("c", json!({"id": 2, "a": 20, "b": 2})),
                    ("c", json!({"id": 3, "a": 30, "b": 3})),
                    ("u", json!({"id": 2, "a": 22, "b": 2})),
                    ("c", json!({"id": 4, "a": 40, "c": 6})),
                    ("u", json!({"id": 4, "a": 41, "c": 6})),
                ],
            )
            .await;
            stop(&mut daemon).await;
        }
    }
}

/// All events of a source that sends them to one topic.
async fn of_one_topic(source: &Source, count: usize) -> Vec<Json> {
    let topic = format!("{}.all", source.name());
    eventually(PATIENCE, &format!("{count} events"), || async {
        let records = read_committed(&topic).await;
        let events: Vec<Json> = records.iter().filter(|record| record.value.is_some()).map(Record::json).collect();
        if events.len() >= count { Ok(events) } else { Err(events.len()) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_any_name_are_altered_and_truncated() {
    let long = "ü".repeat(64);
    let names = [
        "x y",
        "x.y",
        "back`tick",
        "quo\"te",
        "it's",
        "日本語",
        "select",
        "TABLE",
        "a;b",
        "-- c",
        "/*!x*/",
        "t$1",
        "%",
        &long,
    ];
    for servers in [env(), minimal()] {
        for kind in KINDS {
            let source = database(servers, kind, "names", "create table first (id int primary key)").await;
            let yaml = source
                .to_kafka_yaml("*", "backfill: never\n")
                .replace("  type: kafka\n", "  type: kafka\n  topic: \"{name}.all\"\n  tombstones: false\n");
            let mut daemon = Daemon::command().file("source.yaml", &yaml).args(&["run", "source.yaml"]).spawn();
            wait_until_streaming(&mut daemon).await;
            let mut count = 0;
            for name in names {
                let quoted = format!("`{}`", name.replace('`', "``"));
                source.exec(&format!("create table {quoted} (id int primary key, `c``1` int)")).await;
                source.exec(&format!("insert into {quoted} values (1, 1)")).await;
                count += 1;
                of_one_topic(&source, count).await;
                source.exec(&format!("alter table {quoted} rename column `c``1` to `größe`")).await;
                source.exec(&format!("insert into {quoted} values (2, 2)")).await;
                source.exec(&format!("truncate table {quoted}")).await;
                count += 2;
            }
            let events = of_one_topic(&source, count).await;
            for name in names {
                let of: Vec<(&str, Json)> = events
                    .iter()
                    .filter(|event| event["source"]["table"] == name)
                    .map(|event| (event["op"].as_str().unwrap(), event["after"].clone()))
                    .collect();
                let expected =
                    [("c", json!({"id": 1, "c`1": 1})), ("c", json!({"id": 2, "größe": 2})), ("t", Json::Null)];
                assert_eq!(of, expected, "{name} on {}", kind.name());
            }
            stop(&mut daemon).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_compared_as_the_server_compares_them() {
    let conf = "--lower-case-table-names=1 --binlog-row-metadata=MINIMAL";
    let servers = block_in_place(|| Servers::private_with(&["mariadb"], &[("ROWCAST_MARIADB_CONF", conf)]));
    let source = database(&servers, Kind::Mariadb, "fold", "create table Orders (id int primary key, a int)").await;
    let mut daemon = Daemon::command()
        .file("source.yaml", &source.to_kafka_yaml("orders", "backfill: never\n"))
        .args(&["run", "source.yaml"])
        .spawn();
    wait_until_streaming(&mut daemon).await;
    source.exec("insert into ORDERS values (1, 1)").await;
    source.wait_for_events("orders", 1).await;
    source.exec("ALTER TABLE ORDERS rename column a to b; insert into Orders values (2, 2); TRUNCATE oRdErS").await;
    wait_for_rows(
        &source,
        "orders",
        &[("c", json!({"id": 1, "a": 1})), ("c", json!({"id": 2, "b": 2})), ("t", Json::Null)],
    )
    .await;
    stop(&mut daemon).await;
}

/// LOAD DATA is logged as rows.
#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_loaded_file_are_streamed() {
    for kind in KINDS {
        let source = database(env(), kind, "load", "create table t (id int primary key, a varchar(20))").await;
        source.exec("set global local_infile = 1").await;
        let mut daemon = source.to_kafka().spawn();
        wait_until_streaming(&mut daemon).await;
        let file = daemon.write("rows.csv", "1,one\n2,two\n3,three\n");
        let client = env().var(if kind == Kind::Mysql { "MYSQL_CLIENT" } else { "MARIADB_CLIENT" }).to_owned();
        let words: Vec<&str> = client.split(' ').collect();
        let sql = format!("load data local infile '{}' into table t fields terminated by ','", file.display());
        let output = block_in_place(|| {
            Command::new(words[0])
                .args(&words[1..])
                .args([
                    "--local-infile=1",
                    "-h127.0.0.1",
                    &format!("-P{}", source.port()),
                    "-uapp",
                    source.name(),
                    "-e",
                    &sql,
                ])
                .env("MYSQL_PWD", "apppw")
                .output()
                .unwrap()
        });
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let row = |id: i32, a: &str| ("c", json!({"id": id, "a": a}));
        wait_for_rows(&source, "t", &[row(1, "one"), row(2, "two"), row(3, "three")]).await;
        stop(&mut daemon).await;
    }
}

/// Many sessions alter and write at once, with names in the binlog: whatever the catalog says when it is asked, rows are right.
#[tokio::test(flavor = "multi_thread")]
async fn alters_in_a_burst_leave_every_row_with_its_own_columns() {
    for kind in KINDS {
        let source = database(env(), kind, "burst", "create table t (id int primary key, n0 int)").await;
        let mut daemon = source.to_kafka().spawn();
        wait_until_streaming(&mut daemon).await;
        const ROUNDS: i32 = 40;
        for round in 0..ROUNDS {
            let (id, next) = (round * 2, round + 1);
            source
                .exec(&format!(
                    "insert into t values ({id}, {round}); alter table t rename column n{round} to n{next}; insert into t values ({}, {round})",
                    id + 1
                ))
                .await;
        }
        let events = source.wait_for_events("t", 2 * ROUNDS as usize).await;
        for (index, event) in events.iter().enumerate() {
            let (id, round) = (index as i32, index as i32 / 2);
            let column = format!("n{}", round + id % 2);
            assert_eq!(event["after"], json!({"id": id, column: round}), "{}", kind.name());
        }
        stop(&mut daemon).await;
    }
}
