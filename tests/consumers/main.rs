//! Consumers made for Debezium read what we publish with `format: debezium`, and end with the same rows as the database: Flink's `debezium-json`, with
//! and without schemas, and Debezium's own JDBC sink in Kafka Connect, behind Connect's JsonConverter.
//!
//! Both run as their users run them, from their published packages; the rows are compared as text that the databases themselves make.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod flink;
mod jdbc;

use support::daemon::Daemon;
use support::kafka;
use support::source::{Kind, PATIENCE, Source};
use support::{Servers, eventually};

/// A table that is filled before it is captured, and the daemon that captures it.
pub struct Captured {
    pub source: Source,
    _daemon: Daemon,
}

impl Captured {
    /// The table with its first rows, copied; these lines are in the section `debezium`. The events go to these brokers.
    pub async fn start(kind: Kind, brokers: &str, options: &str) -> Captured {
        let source = Source::create(kind, "consumed").await;
        let columns = match kind {
            Kind::Postgres => {
                "id int primary key, big bigint, name varchar(50), price numeric(12,3) not null, paid boolean, at timestamp(6), day date, \
                 weight double precision, data bytea, doc jsonb"
            }
            _ => {
                "id int primary key, big bigint, name varchar(50), price decimal(12,3) not null, paid tinyint(1), at datetime(6), day date, \
                 weight double, data varbinary(100), doc json"
            }
        };
        source.create_table("goods", columns).await;
        if kind == Kind::Postgres {
            // Flink wants the whole row as it was
            source.exec("alter table goods replica identity full").await;
        }
        for first in [0, 50] {
            source.exec(&format!("insert into goods values {}", rows(kind, first..first + 50))).await;
        }
        let yaml = source.yaml("*")
            + &format!("sink:\n  type: kafka\n  brokers: {brokers}\nformat: debezium\n")
            + if options.is_empty() { "" } else { "debezium:\n" }
            + options;
        let mut daemon = Daemon::command().file("source.yaml", &yaml).args(&["run", "source.yaml"]).spawn();
        daemon.wait_for_log("the table is copied", PATIENCE).await;
        Captured { source, _daemon: daemon }
    }

    /// The table's topic.
    pub fn topic(&self) -> String {
        self.source.topic("goods")
    }

    /// Changes of every kind, and a last row; waits until it is in the topic.
    pub async fn change(&self, brokers: &str) {
        let kind = self.source.kind();
        for statement in [
            format!("insert into goods values {}", rows(kind, 100..150)),
            "update goods set name = null, price = price + 1 where id < 20".to_owned(),
            "delete from goods where id between 30 and 49".to_owned(),
            // the key changes, onto one that was there
            "update goods set id = id - 20 where id between 50 and 59".to_owned(),
            "update goods set data = null, doc = null, at = null, day = null, weight = null where id >= 140".to_owned(),
            "delete from goods where id = 31".to_owned(),
            format!("insert into goods values {}", rows(kind, 31..32)),
            format!("insert into goods values {}", rows(kind, 999..1000)),
        ] {
            self.source.exec(&statement).await;
        }
        eventually(PATIENCE, "the last row", || async {
            let records = kafka::read(brokers, &self.topic(), true).await;
            let last = records.iter().any(|record| record.key_str().contains("999"));
            if last { Ok(()) } else { Err(records.len()) }
        })
        .await;
    }

    /// The table's rows in the form of [`text`], sorted.
    pub async fn rows(&self) -> Vec<String> {
        text_rows(&self.source, "goods").await
    }
}

/// Values of rows with these ids.
fn rows(kind: Kind, ids: std::ops::Range<u32>) -> String {
    let row = |id: u32| {
        let paid = if kind == Kind::Postgres { ["false", "true"] } else { ["0", "1"] }[id as usize % 2];
        let hex = format!("{:08x}", id * 65_521);
        let data = if kind == Kind::Postgres { format!("'\\x{hex}'") } else { format!("x'{hex}'") };
        let (day, micros) = (1 + id % 28, id * 997);
        format!(
            "({id}, {}, 'name {id} \u{e9}\u{1f600}', {}.{:03}, {paid}, '2026-11-{day:02} 10:11:12.{micros:06}', '19{:02}-02-{day:02}', {id}.5, {data}, \
             '{{\"n\": {id}}}')",
            i64::MAX - i64::from(id),
            id * 1000,
            id % 1000,
            id % 100,
        )
    };
    ids.map(row).collect::<Vec<_>>().join(", ")
}

/// An expression of a row's text: numbers, micro-seconds and days since 1970, base64, JSON without blanks, `null`.
fn text(kind: Kind) -> &'static str {
    match kind {
        Kind::Postgres => {
            "concat_ws('|', id, big, coalesce(name, 'null'), price, paid::int, \
             coalesce((extract(epoch from at) * 1000000)::bigint::text, 'null'), coalesce((day - date '1970-01-01')::text, 'null'), \
             coalesce(weight::text, 'null'), coalesce(encode(data, 'base64'), 'null'), coalesce(replace(doc::text, ' ', ''), 'null'))"
        }
        _ => {
            "concat_ws('|', id, big, coalesce(name, 'null'), price, paid, \
             coalesce(timestampdiff(microsecond, '1970-01-01 00:00:00', at), 'null'), coalesce(datediff(day, '1970-01-01'), 'null'), \
             coalesce(weight, 'null'), coalesce(to_base64(data), 'null'), coalesce(replace(doc, ' ', ''), 'null'))"
        }
    }
}

/// All rows of a table of a database.
async fn text_rows(source: &Source, table: &str) -> Vec<String> {
    let rows = source.query(&format!("select {} from {table}", text(source.kind()))).await;
    let mut rows: Vec<String> = rows.into_iter().map(|row| row[0].clone().unwrap()).collect();
    rows.sort();
    rows
}

/// Fails with what one side has and the other hasn't.
fn assert_same(what: &str, expected: &[String], found: &[String]) {
    let missing: Vec<_> = expected.iter().filter(|row| !found.contains(row)).take(5).collect();
    let odd: Vec<_> = found.iter().filter(|row| !expected.contains(row)).take(5).collect();
    assert!(missing.is_empty() && odd.is_empty(), "{what}: missing {missing:#?}, instead {odd:#?}");
    assert_eq!(expected.len(), found.len(), "{what}: rows that are there twice");
}

/// Servers with Kafka and Connect, which has the JDBC sink.
fn connect() -> Servers {
    let mut servers = Servers::private_with(&["kafka"], &[("ROWCAST_CONNECT_PLUGINS", "jdbc")]);
    servers.add("connect");
    servers
}
