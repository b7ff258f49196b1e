//! Which relations are captured, under which name, by copy and by stream alike. Lines of `debezium-losses.md` (what the best-known
//! system does with the same) are quoted where a test stands against them.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};

use crate::support::daemon::Daemon;
use crate::support::kafka::{self, topics};
use crate::support::postgres::Db;
use crate::support::source::{Kind, PATIENCE, Source, wait_until_streaming};
use crate::support::{Servers, eventually};

/// A database, and the daemon's role as the owner of what these statements make.
pub async fn database(prefix: &str, sql: &str) -> Source {
    let source = Source::create(Kind::Postgres, prefix).await;
    let db = db(&source);
    db.exec(sql).await;
    own(db).await;
    source
}

pub fn db(source: &Source) -> &Db {
    let Source::Postgres(db) = source else { unreachable!() };
    db
}

/// Gives the daemon's role all tables and schemas.
pub async fn own(db: &Db) {
    db.exec(
        "do $$ declare it record; begin
           for it in select c.oid::regclass::text as name, c.relkind from pg_class c join pg_namespace n on n.oid = c.relnamespace
             where n.nspname !~ '^pg_' and n.nspname <> 'information_schema' and c.relkind in ('r', 'p', 'f')
           loop execute format('alter %s table %s owner to cdc', case when it.relkind = 'f' then 'foreign' else '' end, it.name);
           end loop;
           for it in select nspname from pg_namespace where nspname !~ '^pg_' and nspname not in ('information_schema', 'public')
           loop execute format('grant all on schema %I to cdc', it.nspname); end loop;
         end $$",
    )
    .await;
}

/// Name of the publication that the daemon uses unless told otherwise.
fn publication(source: &Source) -> String {
    format!("rowcast_{}", source.name())
}

/// `op` and row of each event.
fn short(events: &[Json]) -> Vec<(String, Json)> {
    let row = |event: &Json| if event["op"] == "d" { event["before"].clone() } else { event["after"].clone() };
    events.iter().map(|event| (event["op"].as_str().unwrap().to_owned(), row(event))).collect()
}

/// Waits for these events; rows that are read have no order.
pub async fn wait_for(source: &Source, table: &str, expected: &[(&str, Json)]) {
    let sorted = |mut events: Vec<(String, Json)>| {
        let reads = events.iter().take_while(|(op, _)| op == "r").count();
        events[..reads].sort_by_key(|(_, row)| row.to_string());
        events
    };
    let expected = sorted(expected.iter().map(|(op, row)| ((*op).to_owned(), row.clone())).collect());
    eventually(PATIENCE, &format!("the events of {table}"), || async {
        let found = sorted(short(&source.events(table).await));
        assert!(found.len() <= expected.len(), "{table}: {found:#?}");
        if found == expected { Ok(()) } else { Err(found) }
    })
    .await;
}

/// Starts a daemon and waits until it has copied these tables, so that reads come before changes.
pub async fn copied(source: &Source, tables: &[&str]) -> Daemon {
    let mut daemon = source.to_kafka_with("").spawn();
    wait_until_streaming(&mut daemon).await;
    for table in tables {
        let text = format!("the table is copied source={} table=\"public.{table}\"", source.name());
        daemon.wait_for_log(&text, PATIENCE).await;
    }
    daemon
}

/// The tables' topics that there are, without the source's name.
async fn tables_with_topics(source: &Source) -> Vec<String> {
    let prefix = format!("{}.", source.name());
    topics(&prefix).await.iter().map(|topic| topic.strip_prefix(&prefix).unwrap().to_owned()).collect()
}

/// "Partitions without via-root: stream to leaf topics, snapshot to root, intermediate *and* leaf topics (rows twice or thrice)."
#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_their_table_by_copy_and_stream_attached_and_detached() {
    let source = database(
        "part",
        "create table p (id int, region int, v text, primary key (id, region)) partition by list (region);
         create table p1 partition of p for values in (1);
         create table p2 partition of p for values in (2, 3) partition by list (region);
         create table p2a partition of p2 for values in (2);
         create table p2b partition of p2 for values in (3);
         insert into p values (1, 1, 'a'), (2, 2, 'b'), (3, 3, 'c')",
    )
    .await;
    let _daemon = copied(&source, &["p"]).await;
    let row = |id: i32, region: i32, v: &str| json!({"id": id, "region": region, "v": v});
    let mut expected = vec![("r", row(1, 1, "a")), ("r", row(2, 2, "b")), ("r", row(3, 3, "c"))];
    wait_for(&source, "p", &expected).await;

    // other columns in another order, and one that was dropped
    source
        .exec("create table p4 (gone int, v text, region int not null, id int not null); alter table p4 drop gone")
        .await;
    source.exec("alter table p attach partition p4 for values in (4)").await;
    source.exec("insert into p values (4, 4, 'd')").await;
    source.exec("update p4 set v = 'e'").await;
    // a row that changes its partition is another row there: the server logs a delete and an insert
    source.exec("update p set region = 3 where id = 4").await;
    source.exec("alter table p detach partition p1").await;
    source.exec("insert into p1 values (5, 1, 'not of p any more')").await;
    source.exec("delete from p2b where id = 3").await;
    source.exec("truncate p").await;
    let key = |id: i32, region: i32| json!({"id": id, "region": region});
    expected.extend([
        ("c", row(4, 4, "d")),
        ("u", row(4, 4, "e")),
        ("d", key(4, 4)),
        ("c", row(4, 3, "e")),
        ("d", key(3, 3)),
        ("t", Json::Null),
    ]);
    wait_for(&source, "p", &expected).await;
    // a limit of the server: a partition that is emptied by itself is not in the stream
    source.exec("insert into p values (6, 2, 'f')").await;
    source.exec("truncate p2a").await;
    source.exec("insert into p values (7, 2, 'g')").await;
    expected.extend([("c", row(6, 2, "f")), ("c", row(7, 2, "g"))]);
    wait_for(&source, "p", &expected).await;
    assert_eq!(tables_with_topics(&source).await, ["public.p"]);
    assert!(source.events("p").await.iter().all(|event| event["source"]["table"] == "p"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_given_publication_of_partitions_by_themselves_is_set_right_or_refused_with_the_statement() {
    let source = database(
        "leaves",
        "create table p (id int primary key) partition by range (id);
         create table p1 partition of p for values from (0) to (100)",
    )
    .await;
    let name = publication(&source);
    source.exec(&format!("create publication {name} for table p")).await;
    let mut daemon = source.to_kafka().spawn();
    assert_eq!(daemon.wait(PATIENCE).await, 1);
    let repair = format!(
        "ALTER PUBLICATION \"{name}\" SET (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)"
    );
    daemon.wait_for_log(&repair, PATIENCE).await;
    source.exec(&format!("alter publication {name} owner to cdc")).await;
    let mark = daemon.mark();
    daemon.start();
    daemon.wait_for_log_since(mark, "partitions under their root", PATIENCE).await;
    source.exec("insert into p values (1)").await;
    wait_for(&source, "p", &[("c", json!({"id": 1}))]).await;
    assert_eq!(tables_with_topics(&source).await, ["public.p"]);
}

/// Partitions don't inherit their table's identity: the server sends old rows with NULL for what such a partition doesn't log.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_partition_of_narrower_identity_does_not_log_is_never_taken_for_null() {
    let source = database(
        "narrow",
        "create table p (id int primary key, v text, n int) partition by range (id);
         create table p1 partition of p for values from (0) to (100);
         alter table p replica identity full; alter table p1 replica identity full",
    )
    .await;
    let mut daemon = source.to_kafka().spawn();
    wait_until_streaming(&mut daemon).await;
    let row = |id: i32| json!({"id": id, "v": "a", "n": null});
    source.exec("insert into p values (1, 'a', null)").await;
    source.exec("delete from p where id = 1").await;
    let mut expected = vec![("c", row(1)), ("d", row(1))];
    wait_for(&source, "p", &expected).await;
    source.exec("create table p2 partition of p for values from (100) to (200)").await;
    source.exec("insert into p values (1, 'a', null), (100, 'a', null)").await;
    source.exec("delete from p where id = 100").await;
    source.exec("delete from p where id = 1").await;
    // of the first partition it is known to be NULL, but not to us: nothing says which one a row is of
    expected.extend([("c", row(1)), ("c", row(100)), ("d", json!({"id": 100})), ("d", json!({"id": 1, "v": "a"}))]);
    wait_for(&source, "p", &expected).await;
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
    let mark = daemon.mark();
    daemon.start();
    let said =
        daemon.wait_for_log_since(mark, "REPLICA IDENTITY FULL, its partitions public.p2 have not", PATIENCE).await;
    assert!(said.contains("ALTER TABLE public.p2 REPLICA IDENTITY FULL;"), "{said}");
    source.exec("alter table p2 replica identity full").await;
    source.exec("insert into p values (101, 'a', null)").await;
    source.exec("delete from p where id = 101").await;
    expected.extend([("c", row(101)), ("d", row(101))]);
    wait_for(&source, "p", &expected).await;
}

/// "Inheritance: snapshot writes child rows into the parent's topic too."
#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_child_table_are_its_own_and_come_once() {
    let source = database(
        "inherit",
        "create table parent (id int primary key, v text);
         create table child (extra int, primary key (id)) inherits (parent);
         insert into parent values (1, 'p'); insert into child values (2, 'c', 7)",
    )
    .await;
    let _daemon = copied(&source, &["parent", "child"]).await;
    let (parent, child) = (json!({"id": 1, "v": "p"}), json!({"id": 2, "v": "c", "extra": 7}));
    wait_for(&source, "parent", &[("r", parent.clone())]).await;
    wait_for(&source, "child", &[("r", child.clone())]).await;
    // by its name the parent has both
    source.exec("update parent set v = v || '2'").await;
    source.exec("insert into child values (3, null, null)").await;
    let changed = |row: &Json, v: &str| {
        let mut row = row.clone();
        row["v"] = json!(v);
        row
    };
    wait_for(&source, "parent", &[("r", parent.clone()), ("u", changed(&parent, "p2"))]).await;
    let third = json!({"id": 3, "v": null, "extra": null});
    wait_for(&source, "child", &[("r", child.clone()), ("u", changed(&child, "c2")), ("c", third)]).await;
}

/// "Unlogged and unpublished tables are in the snapshot, never in the stream; generated columns likewise."
#[tokio::test(flavor = "multi_thread")]
async fn what_is_never_in_the_stream_is_never_copied_either() {
    let source = database(
        "never",
        "create table t (id int primary key, twice int generated always as (id * 2) stored, v text);
         insert into t (id, v) values (1, 'a');
         create unlogged table u (id int primary key); insert into u values (1);
         create view v as select * from t; create materialized view m as select * from t;
         create foreign data wrapper w; create server s foreign data wrapper w; create foreign table f (id int) server s",
    )
    .await;
    let mut daemon = copied(&source, &["t"]).await;
    daemon.wait_for_log("public.u is unlogged", PATIENCE).await;
    source.exec("insert into t (id, v) values (2, 'b')").await;
    wait_for(&source, "t", &[("r", json!({"id": 1, "v": "a"})), ("c", json!({"id": 2, "v": "b"}))]).await;
    let headers: BTreeSet<String> =
        source.records("t").await.iter().map(|record| record.header("rowcast.schema").unwrap().to_owned()).collect();
    assert_eq!(headers.len(), 1, "one schema by both ways");
    assert_eq!(tables_with_topics(&source).await, ["public.t"]);
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
    // by name, each is refused with its reason
    for (table, why) in
        [("u", "it is unlogged"), ("v", "it is a view"), ("m", "it is a view"), ("f", "it is a foreign table")]
    {
        let mark = daemon.mark();
        daemon.write("source.yaml", &source.to_kafka_yaml(table, ""));
        daemon.start();
        assert_eq!(daemon.wait(PATIENCE).await, 1, "{table}");
        let said = daemon.wait_for_log_since(mark, "can't be captured", PATIENCE).await;
        assert!(said.contains(&format!("`public.{table}`")) && said.contains(why), "{said}");
    }
}

/// From 18 on stored generated columns are in the stream if the publication says so, by an option or by a list; virtual ones never are.
#[tokio::test(flavor = "multi_thread")]
async fn generated_columns_of_18_come_by_copy_and_stream_if_they_are_published() {
    let servers = Servers::private_with(&["pg"], &[("ROWCAST_PG_SUITE", "sid")]);
    let columns = "id int primary key, stored int generated always as (id * 2) stored, virtual int generated always as (id * 3) virtual, v text";
    for (option, listed) in [("none", ""), ("stored", ""), ("none", " (id, stored)")] {
        let source = Source::Postgres(Db::create_on(&servers, "gen").await);
        source.exec(&format!("create table t ({columns}); insert into t (id, v) values (1, 'a')")).await;
        own(db(&source)).await;
        let name = publication(&source);
        source
            .exec(&format!("create publication {name} for table t{listed} with (publish_generated_columns = {option})"))
            .await;
        let _daemon = copied(&source, &["t"]).await;
        source.exec("insert into t (id, v) values (2, 'a')").await;
        let row = |id: i32| match (option, listed) {
            ("stored", _) => json!({"id": id, "stored": 2 * id, "v": "a"}),
            (_, "") => json!({"id": id, "v": "a"}),
            _ => json!({"id": id, "stored": 2 * id}),
        };
        wait_for(&source, "t", &[("r", row(1)), ("c", row(2))]).await;
        let records = source.records("t").await;
        assert_eq!(records[0].header("rowcast.schema"), records[1].header("rowcast.schema"), "one schema by both ways");
    }
}

/// "Topics: every character outside `[A-Za-z0-9._-]` becomes `_`, no escaping: `"x y"` and `x_y` share one topic; `日本語` is `___`.
/// Tables `x_y` and `x.y`: Kafka refuses the second topic."
#[tokio::test(flavor = "multi_thread")]
async fn odd_names_of_tables_schemas_and_columns_are_kept_and_never_collide() {
    let names = ["x y", "x_y", "x.y", "X_Y", "日本語", "a\"b", "it's", "{table}", "%s", "select"];
    let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let columns = "\"I D\" int primary key, \"q\"\"q\" text, \"ünï.cøde\" text, \"Case\" text, \"case\" text";
    let mut sql = String::from("create schema \"Odd.Schema\";");
    for (id, name) in names.iter().enumerate() {
        sql += &format!(
            "create table {0} ({columns}); insert into {0} values ({id}, 'copy', 'ü', 'C', 'c');",
            quote(name)
        );
    }
    sql += &format!("create table \"Odd.Schema\".\"x y\" ({columns});");
    let source = database("odd", &sql).await;
    let yaml = source.to_kafka_yaml("*", "").replace("\"public.*\"", "\"public.*\", '\"Odd.Schema\".*'");
    let mut daemon = Daemon::command().file("source.yaml", &yaml).args(&["run", "source.yaml"]).spawn();
    eventually(PATIENCE, "copies of all tables", || {
        let (running, found) = (daemon.is_running(), daemon.logs().matches("the table is copied").count());
        async move {
            assert!(running, "the daemon has ended");
            if found == names.len() + 1 { Ok(()) } else { Err(found) }
        }
    })
    .await;
    source.exec("insert into \"Odd.Schema\".\"x y\" values (99, 'stream', 'ü', 'C', 'c')").await;
    for (id, name) in names.iter().enumerate() {
        source.exec(&format!("insert into {} values ({}, 'stream', 'ü', 'C', 'c')", quote(name), id + 100)).await;
    }
    let row = |id: usize, how: &str| json!({"I D": id, "q\"q": how, "ünï.cøde": "ü", "Case": "C", "case": "c"});
    eventually(PATIENCE, "a topic for each table", || async {
        let found = tables_with_topics(&source).await;
        if found.len() > names.len() { Ok(()) } else { Err(found) }
    })
    .await;
    let mut seen = BTreeSet::new();
    for topic in tables_with_topics(&source).await {
        let topic = format!("{}.{topic}", source.name());
        let events = eventually(PATIENCE, &format!("the events of {topic}"), || async {
            let records = kafka::read_committed(&topic).await;
            let events: Vec<Json> = records.iter().map(kafka::Record::json).collect();
            let whole = if topic.contains("Odd") { 1 } else { 2 };
            if events.len() == whole { Ok(events) } else { Err(events) }
        })
        .await;
        let place = (&events[0]["source"]["schema"], &events[0]["source"]["table"]);
        assert!(events.iter().all(|event| (&event["source"]["schema"], &event["source"]["table"]) == place));
        let name = place.1.as_str().unwrap().to_owned();
        if place.0 == "Odd.Schema" {
            assert_eq!(short(&events), [("c".to_owned(), row(99, "stream"))]);
            continue;
        }
        let id = names.iter().position(|other| *other == name).unwrap();
        let expected = [("r".to_owned(), row(id, "copy")), ("c".to_owned(), row(id + 100, "stream"))];
        assert_eq!(short(&events), expected, "{name}");
        seen.insert(name);
    }
    assert_eq!(seen.len(), names.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_1600_columns_has_them_all_by_copy_and_stream() {
    let columns: Vec<String> = (2..=1600).map(|n| format!("c{n} int")).collect();
    let values = |of: i32| (2..=1600).map(|n| (n * of).to_string()).collect::<Vec<_>>().join(", ");
    let source = database(
        "wide",
        &format!(
            "create table wide (id int primary key, {}); insert into wide values (1, {})",
            columns.join(", "),
            values(1)
        ),
    )
    .await;
    let _daemon = copied(&source, &["wide"]).await;
    source.exec(&format!("insert into wide values (2, {})", values(2))).await;
    source.exec("update wide set c1600 = null where id = 2").await;
    source.wait_for_events("wide", 3).await;
    let events = source.events("wide").await;
    for event in &events {
        let row = event["after"].as_object().unwrap();
        assert_eq!(row.len(), 1600);
        let of = row["id"].as_i64().unwrap();
        for n in 2..1600 {
            assert_eq!(row[&format!("c{n}")], n * of);
        }
    }
    let last: Vec<(&Json, &Json)> = events.iter().map(|event| (&event["op"], &event["after"]["c1600"])).collect();
    assert_eq!(last, [(&json!("r"), &json!(1600)), (&json!("c"), &json!(3200)), (&json!("u"), &Json::Null)]);
}

/// Lists of columns and row filters came with PostgreSQL 15.
#[tokio::test(flavor = "multi_thread")]
async fn lists_of_columns_and_row_filters_hold_for_copy_and_stream_and_are_shown() {
    let source = database(
        "listed",
        "create table t (id int primary key, a text, secret text, \"B b\" int);
         insert into t values (1, 'out', 'hush', 1), (11, 'in', 'hush', 2)",
    )
    .await;
    let name = publication(&source);
    source.exec(&format!("create publication {name} for table t (id, a, \"B b\") where (id > 10)")).await;
    let mut daemon = copied(&source, &["t"]).await;
    daemon.wait_for_log("publishes only the rows of public.t with (id > 10)", PATIENCE).await;
    daemon.wait_for_log("publishes only columns id, a, B b of public.t", PATIENCE).await;
    source.exec("insert into t values (2, 'out', 'hush', 3), (12, 'in', 'hush', 4)").await;
    // into what the filter passes, and out of it
    source.exec("update t set id = 13 where id = 2").await;
    source.exec("update t set id = 3 where id = 12").await;
    let row = |id: i32, a: &str, b: i32| json!({"id": id, "a": a, "B b": b});
    let expected =
        [("r", row(11, "in", 2)), ("c", row(12, "in", 4)), ("c", row(13, "out", 3)), ("d", json!({"id": 12}))];
    wait_for(&source, "t", &expected).await;
    let headers: BTreeSet<String> = source
        .records("t")
        .await
        .iter()
        .filter_map(|record| record.header("rowcast.schema").map(str::to_owned))
        .collect();
    assert_eq!(headers.len(), 1, "one schema by both ways");
}

/// A filter that an operator gave our own publication stays when tables are added and removed.
#[tokio::test(flavor = "multi_thread")]
async fn our_publication_follows_the_configuration_and_keeps_what_an_operator_added() {
    let source = database("follow", "create table a (id int primary key); create table b (id int primary key)").await;
    let name = publication(&source);
    let mut daemon = source.to_kafka().spawn();
    wait_until_streaming(&mut daemon).await;
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
    source
        .exec(&format!("alter publication {name} set table a where (id > 10), b; create table c (id int primary key)"))
        .await;
    own(db(&source)).await;
    source.exec("drop table b").await;
    source.exec("create table other (id int primary key)").await;
    source.exec(&format!("alter publication {name} add table other")).await;
    own(db(&source)).await;
    let yaml =
        source.to_kafka_yaml("*", "backfill: never\n").replace("\"public.*\"", "\"public.*\", \"!public.other\"");
    daemon.write("source.yaml", &yaml);
    let mark = daemon.mark();
    daemon.start();
    daemon.wait_for_log_since(mark, "added public.c", PATIENCE).await;
    daemon.wait_for_log_since(mark, "with (id > 10)", PATIENCE).await;
    let members = format!(
        "select string_agg(tablename, ',' order by tablename) from pg_publication_tables where pubname = '{name}'"
    );
    assert_eq!(db(&source).value(&members).await, "a,c");
    source.exec("insert into a values (1), (11)").await;
    wait_for(&source, "a", &[("c", json!({"id": 11}))]).await;
}

/// A row that no topic takes is refused with the limit, and the daemon's memory stays bounded by a few such rows.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_more_than_100_megabytes_is_told_which_limit_it_passes() {
    let source =
        database("huge", "create table t (id int primary key, body text); create table other (id int primary key)")
            .await;
    let mut daemon = source.to_kafka().spawn();
    wait_until_streaming(&mut daemon).await;
    source.exec("insert into t values (1, 'small')").await;
    source.exec("insert into t values (2, repeat('0123456789abcdef', 7000000))").await;
    source.exec("insert into t values (3, 'small'); insert into other values (1)").await;
    assert_eq!(daemon.wait(PATIENCE).await, 1);
    let said = daemon.wait_for_log("stopped: ", PATIENCE).await;
    for part in ["public.t", "bytes", "max.message.bytes", "on_poison"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!daemon.logs().contains("0123456789abcdef"), "no row value in the log");
    // what an operator may decide
    daemon.write("source.yaml", &source.to_kafka_yaml("*", "backfill: never\non_poison: skip\n"));
    daemon.start();
    let small = |id: i32| json!({"id": id, "body": "small"});
    wait_for(&source, "t", &[("c", small(1)), ("c", small(3))]).await;
    wait_for(&source, "other", &[("c", json!({"id": 1}))]).await;
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
}
