//! Every type of both servers with its odd values, by stream in each mode of the binlog's metadata, and by a copy: the same bytes.
//!
//! The files are those of [`crate::support::golden`], in `tests/golden/mysql`; most are for both servers, and expect the same of both.
//! `-- mysql` or `-- mariadb` in front of a row: of this server only. The mode changes while the stream runs, and must change nothing:
//! all events of a table have one fingerprint. Each value is compared with the server's own SELECT ([`crate::review`]), each event with
//! the envelope's JSON Schema. What other systems lose is named in the files' heads.

use std::collections::HashSet;

use serde_json::json;
use tokio::task::block_in_place;

use crate::review;
use crate::support::Servers;
use crate::support::golden::{Family, after, check_schema, columns, same_from_a_copy};
use crate::support::kafka::{Record, wait_for_records};
use crate::support::source::{Kind, Source, wait_until_streaming};

const BOTH: [&str; 6] = ["numbers", "times", "texts", "labels", "geometries", "columns"];

async fn create(source: &Source, name: &'static str) -> Family {
    let (ours, theirs) = match source.kind() {
        Kind::Mysql => ("-- mysql ", "-- mariadb "),
        _ => ("-- mariadb ", "-- mysql "),
    };
    let row = |line: &str| match line.strip_prefix(ours) {
        Some(row) => Some(row.to_owned()),
        None => (!line.starts_with(theirs)).then(|| line.to_owned()),
    };
    let family = Family::read("mysql", name, row);
    source.exec(&family.setup).await;
    family
}

/// Runs the rows of families in one mode, and compares what comes.
async fn run(source: &Source, families: &[Family], mode: &str) {
    source.exec(&format!("set global binlog_row_metadata = {mode}")).await;
    source.exec("set time_zone = '+00:00', sql_mode = ''").await;
    let mut before = Vec::new();
    for family in families {
        before.push(source.records(family.name).await.iter().filter(|record| record.value.is_some()).count());
        source.exec(&format!("delete from `{}`", family.name)).await;
        for row in &family.rows {
            source.exec(row).await;
        }
    }
    for (family, before) in families.iter().zip(before) {
        // those that were there were deleted
        let deleted = if before == 0 { 0 } else { family.rows.len() };
        source.wait_for_events(family.name, before + deleted + family.rows.len()).await;
        let records = source.records(family.name).await;
        let inserted: Vec<&Record> = records.iter().filter(|record| record.value.is_some()).collect();
        let inserted = &inserted[inserted.len() - family.rows.len()..];
        let images: Vec<String> = inserted.iter().map(|record| after(record)).collect();
        family.check(&images);
        let versions: HashSet<_> = records.iter().filter_map(|record| record.header("rowcast.schema")).collect();
        assert_eq!(versions.len(), 1, "{} in mode {mode}: another version", family.name);
        let types = columns(source).await[*versions.iter().next().unwrap()].clone();
        review::against_select(source, family.name, &types, &images).await;
    }
}

async fn golden(kind: Kind, modes: &[&str], own: &[&'static str]) {
    let servers = block_in_place(|| Servers::private_with(&[kind.server()], &[]));
    let source = Source::create_on(&servers, kind, "golden").await;
    source.exec("create database unseen").await;
    let names: Vec<&'static str> = BOTH.iter().chain(own).copied().collect();
    let mut families = Vec::new();
    for name in &names {
        families.push(create(&source, name).await);
    }
    let emoji = [create(&source, "emoji").await];
    let mut daemon = source.to_kafka().spawn();
    wait_until_streaming(&mut daemon).await;
    for mode in modes {
        run(&source, &families, mode).await;
    }
    if kind == Kind::Mariadb {
        // its rows are stepped over, by widths that are nowhere but in the catalog
        source.exec("insert into unseen.oldtimes select * from oldtimes").await;
    }
    // Without the labels in the log they would be in doubt.
    run(&source, &emoji, "FULL").await;
    let all: Vec<&Family> = families.iter().chain(&emoji).collect();
    let counts: Vec<(&str, usize)> = all.iter().map(|family| (family.name, family.rows.len())).collect();
    same_from_a_copy(&source, &daemon, &counts).await;
    let names: Vec<&'static str> = all.iter().map(|family| family.name).collect();
    check_schema(&source, &names).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_mysql_have_their_documented_form() {
    golden(Kind::Mysql, &["FULL", "MINIMAL", "FULL"], &["json"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_mariadb_have_their_documented_form() {
    golden(Kind::Mariadb, &["FULL", "MINIMAL", "NO_LOG"], &["maria", "oldtimes"]).await;
}

/// A column that is added or dropped without a copy of the table changes nothing that is in the rows.
#[tokio::test(flavor = "multi_thread")]
async fn columns_that_were_added_and_dropped_instantly_are_as_a_select_has_them() {
    for kind in [Kind::Mysql, Kind::Mariadb] {
        let source = Source::create(kind, "instant").await;
        source.create_table("orders", "id int primary key, gone varchar(20), n int").await;
        source.exec("insert into orders values (1, 'old', 10), (2, 'old', 20)").await;
        source.exec("alter table orders add column late varchar(20) default 'it''s', add column num decimal(8,3) not null default 1.5, algorithm=instant").await;
        source.exec("alter table orders add column front int default 7 first, algorithm=instant").await;
        source.exec("insert into orders (id, gone, n) values (3, 'mid', 30)").await;
        source.exec("alter table orders drop column gone, algorithm=instant").await;
        source.exec("insert into orders (id, n, late, front) values (4, 40, null, null)").await;
        let mut daemon = source.to_kafka().spawn();
        wait_until_streaming(&mut daemon).await;
        // what is stored in the form of its time is logged whole
        source.exec("update orders set n = n + 1").await;
        let events = source.wait_for_events("orders", 4).await;
        let row =
            |id: i64, late, front| json!({"front": front, "id": id, "n": 10 * id + 1, "late": late, "num": "1.500"});
        let images: Vec<_> = events.iter().map(|event| event["after"].clone()).collect();
        let (late, front) = (json!("it's"), json!(7));
        assert_eq!(images[0], row(1, late.clone(), front.clone()), "{kind:?}");
        assert_eq!(images[2], row(3, late, front));
        assert_eq!(images[3], row(4, json!(null), json!(null)));
        assert_eq!(events[0]["before"]["n"], 10);
        same_from_a_copy(&source, &daemon, &[("orders", 4)]).await;
        // lost elsewhere: a column of this name stops the stream
        source.exec("alter table orders add column auto int default 1").await;
        source.exec("insert into orders (id) values (5)").await;
        let events = source.wait_for_events("orders", 9).await;
        assert_eq!(
            events[8]["after"],
            json!({"front": 7, "id": 5, "n": null, "late": "it's", "num": "1.500", "auto": 1})
        );
    }
}

/// Primary keys that MySQL makes itself are columns like all others, whether the catalog shows them or not.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_key_that_the_server_made_is_a_key() {
    let servers = block_in_place(|| Servers::private_with(&["mysql"], &[]));
    for mode in ["FULL", "MINIMAL"] {
        let source = Source::create_on(&servers, Kind::Mysql, "made").await;
        source.exec(&format!("set global binlog_row_metadata = {mode}")).await;
        source.exec("set global show_gipk_in_create_table_and_information_schema = off").await;
        source.exec("set sql_generate_invisible_primary_key = on").await;
        source.create_table("orders", "a int, b text").await;
        let mut daemon = source.to_kafka().spawn();
        wait_until_streaming(&mut daemon).await;
        source.exec("insert into orders (a, b) values (5, 'x'), (5, 'x')").await;
        source.wait_for_events("orders", 2).await;
        let records = source.records("orders").await;
        assert_eq!(records[1].key_json(), json!({"my_row_id": 2}), "{mode}");
        assert_eq!(records[1].json()["after"], json!({"my_row_id": 2, "a": 5, "b": "x"}));
        same_from_a_copy(&source, &daemon, &[("orders", 2)]).await;
    }
}

/// Labels that only the log has, where the log doesn't have them: an error that names them, or the policy's.
#[tokio::test(flavor = "multi_thread")]
async fn a_label_in_doubt_is_never_a_question_mark() {
    for kind in [Kind::Mysql, Kind::Mariadb] {
        let servers = block_in_place(|| Servers::private_with(&[kind.server()], &[]));
        let source = Source::create_on(&servers, kind, "doubt").await;
        let mode = if kind == Kind::Mysql { "MINIMAL" } else { "NO_LOG" };
        source.exec(&format!("set global binlog_row_metadata = {mode}")).await;
        source.create_table("moods", "id int primary key, mood enum('plain', '😀'), s set('a', '😀')").await;
        let mut daemon = source.to_kafka().spawn();
        wait_until_streaming(&mut daemon).await;
        source.exec("insert into moods values (1, 'plain', 'a')").await;
        assert_eq!(source.wait_for_events("moods", 1).await[0]["after"]["mood"], "plain");
        source.exec("insert into moods values (2, '😀', 'a')").await;
        let line = daemon.wait_for_log("can't decode a row of", crate::support::source::PATIENCE).await;
        for part in ["moods, column `mood` (enum(", "the text of label 2 isn't known", "binlog_row_metadata=FULL"] {
            assert!(line.contains(part), "{line}");
        }
    }
}

/// Bytes that mean nothing in their column's character set, and text that isn't the JSON that its column is said to hold.
#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_decoded_stops_the_source_or_becomes_a_dead_letter() {
    for kind in [Kind::Mysql, Kind::Mariadb] {
        let source = Source::create(kind, "undecodable").await;
        source.create_table("notes", "id int primary key, t varchar(20) character set cp1250, doc json").await;
        let yaml = source.to_kafka_yaml("*", "backfill: never\non_poison: dead_letter\n");
        let mut daemon =
            crate::support::daemon::Daemon::command().file("source.yaml", &yaml).args(&["run", "source.yaml"]).spawn();
        wait_until_streaming(&mut daemon).await;
        source
            .exec("insert into notes values (1, 'ž', '{}'); insert into notes values (2, _cp1250 x'61819a', null)")
            .await;
        let mut lost = 1;
        if kind == Kind::Mariadb {
            source.exec("set check_constraint_checks = 0").await;
            source
                .exec(
                    "insert into notes values (3, null, '{\"a\": 1.}'); insert into notes values (4, null, 'no json')",
                )
                .await;
            lost = 3;
        }
        source.exec("insert into notes values (5, 'é', '[]')").await;
        let events = source.wait_for_events("notes", 2).await;
        assert_eq!((&events[0]["after"]["t"], &events[1]["after"]["t"]), (&json!("ž"), &json!("é")));
        let letters = wait_for_records(&format!("rowcast.dead_letter.{}", source.name()), lost).await;
        let reasons: Vec<String> =
            letters.iter().map(|letter| letter.json()["dead_letter"].as_str().unwrap().to_owned()).collect();
        assert_eq!(reasons.len(), lost, "{reasons:#?}");
        for part in [
            "notes, column `t` (varchar(20))",
            "bytes that mean nothing in character set `cp1250`",
            "repair: correct the rows",
        ] {
            assert!(reasons[0].contains(part), "{reasons:#?}");
        }
        if kind == Kind::Mariadb {
            assert!(reasons[2].contains("column `doc`") && reasons[2].contains("isn't JSON"), "{reasons:#?}");
        }
        // a copy meets the same
        crate::support::golden::copy(&source, &daemon, "notes").await;
        source.wait_for_events("notes", 4).await;
        let letters = wait_for_records(&format!("rowcast.dead_letter.{}", source.name()), 2 * lost).await;
        assert_eq!(letters.len(), 2 * lost);
    }
}
