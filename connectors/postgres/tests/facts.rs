//! What a described source says besides values, against a real server, which `make test` starts; by hand:
//!
//! ```text
//! scripts/with-servers.sh --only pg cargo test -p rowcast-postgres --test facts
//! ```
//!
//! The server itself is the oracle: a row of nothing but defaults holds what each DEFAULT comes to, and a row's record lies between the
//! ends of the log before and behind it.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;
use std::time::Duration;

use rowcast_core::backfill::{Target, What};
use rowcast_core::{
    Batch, Begin, Bump, Change, Column, DefaultValue, Event, Lsn, Mark, Source, SourceStream, Table, TableFilter,
    TableReader, Transaction, Value,
};
use rowcast_postgres::{Host, MessageFilter, Options, PostgresSource, PostgresStream, Servers, TlsOptions};
use tokio_postgres::{Client, NoTls};

fn var(name: &str) -> String {
    let file = std::env::var("ROWCAST_TEST_ENV").expect("ROWCAST_TEST_ENV is not set: see the head of this file");
    let text = std::fs::read_to_string(&file).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("no {name} in {file}")).trim_matches('\'').to_owned()
}

async fn connect(database: &str) -> Client {
    let (host, port) = (var("PG_HOST"), var("PG_PORT"));
    let (user, password) = (var("PG_SUPER"), var("PG_PASSWORD"));
    let parameters = format!("host={host} port={port} user={user} password={password} dbname={database}");
    let (client, connection) = tokio_postgres::connect(&parameters, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

struct Db {
    name: String,
    client: Client,
}

impl Db {
    async fn create(name: &str, sql: &str) -> Db {
        let name = format!("facts_{name}_{}", std::process::id());
        let admin = connect("postgres").await;
        for _ in 0..100 {
            match admin.batch_execute(&format!("create database {name}")).await {
                Ok(()) => break,
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
        let db = Db { client: connect(&name).await, name };
        db.exec(sql).await;
        db
    }

    async fn exec(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{error:?} in {sql}"));
    }

    async fn end_of_log(&self) -> u64 {
        let row = self.client.query_one("select pg_current_wal_insert_lsn()::text", &[]).await.unwrap();
        row.get::<_, String>(0).parse::<Lsn>().unwrap().0
    }

    fn source(&self, describe: bool) -> PostgresSource {
        let host = Host { name: var("PG_HOST"), port: var("PG_PORT").parse().unwrap() };
        PostgresSource::new(Options {
            name: "test".to_owned(),
            servers: Servers::new(host, Vec::new(), Default::default()),
            database: self.name.clone(),
            user: var("PG_SUPER"),
            password: var("PG_PASSWORD").into(),
            tls: TlsOptions::default(),
            tables: TableFilter::parse(&["*.*"]).unwrap(),
            slot: self.name.clone(),
            publication: self.name.clone(),
            slot_in_use: Default::default(),
            known: Vec::new(),
            temporary: false,
            binary: true,
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(60),
            messages: MessageFilter::All,
            local_only: false,
            two_phase: false,
            spill_folder: std::env::temp_dir(),
            spill_limit: 1 << 30,
            describe,
        })
        .unwrap()
    }

    async fn drop(self) {
        let admin = connect("postgres").await;
        let slots = format!(
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = '{}'",
            self.name
        );
        for _ in 0..100 {
            if admin.batch_execute(&slots).await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        admin.batch_execute(&format!("drop database {} with (force)", self.name)).await.unwrap();
    }
}

/// A change with what surrounds it, its row decoded.
struct Seen {
    change: Change,
    transaction: Arc<Transaction>,
    table: Arc<Table>,
    row: Vec<String>,
    end: u64,
}

/// The next changes, whole transactions.
async fn changes(stream: &mut PostgresStream, count: usize) -> Vec<Seen> {
    let (mut found, mut since): (Vec<Seen>, usize) = (Vec::new(), 0);
    while found.len() < count || since < found.len() {
        let next = tokio::time::timeout(Duration::from_secs(60), stream.next()).await;
        let batch = next.expect("changes in time").unwrap();
        let mut open = batch.open.clone();
        for event in &batch.events {
            match event {
                Event::Begin(transaction) => open = Some(Arc::clone(transaction)),
                Event::Change(change) => found.push(Seen {
                    change: *change,
                    transaction: Arc::clone(open.as_ref().unwrap()),
                    table: Arc::clone(&batch.tables[change.table as usize]),
                    row: decoded(&batch, change),
                    end: 0,
                }),
                Event::Commit(Mark::Lsn(end), _) => {
                    found.iter_mut().skip(since).for_each(|seen| seen.end = end.0);
                    since = found.len();
                }
                _ => {}
            }
        }
    }
    found
}

fn decoded(batch: &Batch, change: &Change) -> Vec<String> {
    let (arena, mut row) = (Bump::new(), Vec::new());
    let Some(image) = change.after.or(change.before) else { return Vec::new() };
    batch.tables[change.table as usize].decode(&batch.data, image, &arena, &mut row).unwrap();
    row.iter().map(|value| format!("{value:?}")).collect()
}

/// A table as a copy has it.
async fn copied(source: &PostgresSource, table: &str) -> Arc<Table> {
    let mut reader = source.reader().await.unwrap();
    let target = Target { qualifier: "public".to_owned(), table: table.to_owned(), filter: None };
    reader.plan(&target, 1).await.unwrap();
    reader.begin(&target, What::Whole, 10).await.unwrap();
    let piece = reader.next().await.unwrap().unwrap();
    Arc::clone(&piece.batch.tables[0])
}

fn column<'a>(table: &'a Table, name: &str) -> &'a Column {
    table.columns.iter().find(|column| column.name == name).unwrap()
}

const TABLE: &str = r#"
    create type mood as enum ('so so', 'it''s', 'good');
    create domain price as numeric(10,2) default 7;
    create domain label as varchar(20) not null;
    create sequence s;
    create table t (
        id serial primary key, a text default 'it''s', b char(5) default 'x', c varchar(9) default E'a\\b',
        d numeric(10,3) default 1.5, e numeric default 12345.678, f bigint default 9223372036854775807, g int default -5,
        h smallint default 3, i real default 0.1, j double precision default 1e100, k boolean default true, l boolean default false,
        m date default '2020-02-03', n timestamp(3) default '2020-02-03 04:05:06.789', o timestamptz default '2020-02-03 04:05:06+02',
        p time default '04:05', q interval default '1 day 02:00', r uuid default '76019d1a-ad2e-4b22-96e9-1a6d6543c818',
        s json default '{"a": 1}', u bytea default '\x0102', v bit(3) default B'101', w varbit default B'1', x mood default 'it''s',
        y int[] default '{1,2}', z inet default '10.0.0.1', aa price, ab label default 'x', ac money default 12.5,
        ba timestamptz default now(), bb timestamptz default current_timestamp, bc int default nextval('s'), bd int default 1 + 2,
        be text default lower('ABC'), bf text default 'a' || 'b', bg text default null, bh text, bi int not null default 4,
        bj bigint generated by default as identity);
    comment on table t is 'all types';
    comment on column t.a is 'the first';
    create unique index nullable on t (bh);
    create table identity (k int not null, v text, n int);
    create unique index identity_k on identity (k);
    create unique index a_first on identity (n, v);
    alter table identity replica identity using index identity_k;"#;

#[tokio::test]
async fn a_default_is_what_the_server_inserts_and_stream_and_copy_describe_alike() {
    let db = Db::create("defaults", TABLE).await;
    let source = db.source(true);
    let mut opened = source.open(Begin::Now).await.unwrap();
    db.exec("insert into t default values; insert into identity values (1, 'x', 2)").await;
    let seen = changes(&mut opened.stream, 2).await;
    let table = &seen[0].table;
    let arena = Bump::new();
    let mut constants = 0;
    for (index, it) in table.columns.iter().enumerate() {
        let facts = it.facts.as_ref().unwrap();
        match facts.default.as_ref().map(|default| &default.value) {
            // a number, of which the locale's text is another
            Some(DefaultValue::Constant(_)) if it.name == "ac" => assert_eq!(table.default_value(index, &arena), None),
            Some(DefaultValue::Constant(_)) => {
                let value = table.default_value(index, &arena);
                let value = value.unwrap_or_else(|| panic!("{}: {:?}", it.name, facts.default));
                assert_eq!(format!("{value:?}"), seen[0].row[index], "{}: {:?}", it.name, facts.default);
                constants += 1;
            }
            Some(_) => assert_eq!(table.default_value(index, &arena), None),
            None => assert!(["bg", "bh", "bj"].contains(&it.name.as_str()) || it.name == "aa", "{it:?}"),
        }
    }
    assert!(constants >= 27, "{constants}");
    let value = |name: &str| column(table, name).facts.as_ref().unwrap().default.clone().unwrap().value;
    for call in ["id", "ba", "bb", "bc", "be"] {
        assert_eq!(value(call), DefaultValue::Call, "{call}");
    }
    for expression in ["bd", "bf"] {
        assert_eq!(value(expression), DefaultValue::Expression, "{expression}");
    }

    let facts = |name: &str| column(table, name).facts.clone().unwrap();
    assert_eq!(facts("a").comment.as_deref(), Some("the first"));
    assert_eq!(table.facts.as_ref().unwrap().comment.as_deref(), Some("all types"));
    let nullable = |name: &str| column(table, name).nullable;
    assert_eq!(
        [nullable("id"), nullable("bi"), nullable("ab"), nullable("a")],
        [Some(false), Some(false), Some(false), Some(true)]
    );
    assert!(facts("id").auto_increment && facts("bj").auto_increment && facts("bc").auto_increment);
    assert!(!facts("g").auto_increment);
    assert_eq!(
        [(facts("d").length, facts("d").scale), (facts("aa").length, facts("aa").scale)],
        [(Some(10), Some(3)), (Some(10), Some(2))]
    );
    assert_eq!([facts("b").length, facts("c").length, facts("ab").length], [Some(5), Some(9), Some(20)]);
    let pg = |name: &str| facts(name).pg.unwrap();
    assert_eq!((pg("y").name.as_str(), pg("y").element.unwrap().name.as_str()), ("_int4", "int4"));
    assert_eq!((pg("aa").kind, pg("aa").base.unwrap().name.as_str()), ('d', "numeric"));
    assert_eq!((pg("x").schema.as_str(), pg("x").name.as_str(), pg("x").kind), ("public", "mood", 'e'));

    let identity = &seen[1].table;
    assert_eq!(identity.key, [0]);
    let keys = identity.facts.clone().unwrap();
    assert_eq!((keys.primary_key, keys.unique_key), (vec![], vec![2, 1]), "by the index's name");

    for table in [table, identity] {
        let copy = copied(&source, &table.name.table).await;
        assert_eq!((&copy.columns, &copy.facts), (&table.columns, &table.facts));
        assert_eq!(copy.fingerprint, table.fingerprint);
    }
    opened.stream.close().await;
    db.drop().await;
}

#[tokio::test]
async fn a_changed_default_is_another_version_and_nothing_is_asked_without_need() {
    let db = Db::create("changed", "create table t (id int primary key, a int default 1)").await;
    let mut opened = db.source(true).open(Begin::Now).await.unwrap();
    db.exec("insert into t values (1)").await;
    let first = changes(&mut opened.stream, 1).await.remove(0).table;
    db.exec("alter table t alter a set default 2; insert into t values (2)").await;
    let second = changes(&mut opened.stream, 1).await.remove(0).table;
    let arena = Bump::new();
    let defaults = [&first, &second].map(|table| table.default_value(1, &arena));
    assert_eq!(defaults, [Some(Value::Int(1)), Some(Value::Int(2))]);
    assert_ne!(first.fingerprint, second.fingerprint);
    // a relation that is sent again unchanged is the same version
    db.exec("alter table t alter a set default 2; insert into t values (3)").await;
    assert!(Arc::ptr_eq(&changes(&mut opened.stream, 1).await[0].table, &second));
    opened.stream.close().await;

    let mut plain = db.source(false).open(Begin::Now).await.unwrap();
    db.exec("insert into t values (4)").await;
    let seen = changes(&mut plain.stream, 1).await;
    let table = &seen.last().unwrap().table;
    assert!(table.facts.is_none() && table.columns.iter().all(|it| it.facts.is_none() && it.nullable.is_none()));
    plain.stream.close().await;
    db.drop().await;
}

#[tokio::test]
async fn rows_and_transactions_say_where_they_are_in_the_log() {
    let db = Db::create("places", "create table t (id int primary key, a text)").await;
    let mut opened = db.source(true).open(Begin::Now).await.unwrap();
    let mut bounds = vec![db.end_of_log().await];
    db.exec("begin").await;
    for id in 1..=3 {
        db.exec(&format!("insert into t values ({id}, 'x')")).await;
        bounds.push(db.end_of_log().await);
    }
    db.exec("truncate t").await;
    bounds.push(db.end_of_log().await);
    db.exec("commit; insert into t values (9, 'y')").await;
    db.exec(
        "select pg_replication_origin_create('elsewhere'); select pg_replication_origin_session_setup('elsewhere')",
    )
    .await;
    db.exec("begin; select pg_replication_origin_xact_setup('0/ABC', now()); insert into t values (10, 'z'); commit")
        .await;
    db.exec("select pg_replication_origin_session_reset(); insert into t values (11, 'z')").await;
    let seen = changes(&mut opened.stream, 7).await;
    for (seen, between) in seen.iter().zip(bounds.windows(2)) {
        assert!((between[0]..between[1]).contains(&seen.change.place.at), "{between:?} {:?}", seen.change);
    }
    // the first transaction has none before it that this stream has seen
    let facts = |index: usize| &seen[index].transaction.facts;
    assert_eq!(facts(0).before, None);
    assert_eq!(facts(4).before, Some(Lsn(seen[0].end)));
    assert_eq!(facts(5).before, Some(Lsn(seen[4].end)));
    assert_eq!((facts(4).origin.as_deref(), facts(4).origin_lsn), (None, None));
    assert_eq!((facts(5).origin.as_deref(), facts(5).origin_lsn), (Some("elsewhere"), Some(Lsn(0xabc))));
    assert_eq!((facts(6).origin.as_deref(), facts(6).origin_lsn), (None, None));
    opened.stream.close().await;
    db.exec("select pg_replication_origin_drop('elsewhere')").await;
    db.drop().await;
}

#[tokio::test]
async fn a_transaction_that_was_streamed_in_parts_has_its_rows_places() {
    let db = Db::create("parts", "create table t (id int primary key, a text)").await;
    db.exec(&format!("alter role current_user in database {} set logical_decoding_work_mem = '64kB'", db.name)).await;
    let mut opened = db.source(true).open(Begin::Now).await.unwrap();
    let before = db.end_of_log().await;
    db.exec("insert into t select n, repeat('x', 100) from generate_series(1, 20000) n").await;
    let after = db.end_of_log().await;
    let seen = changes(&mut opened.stream, 20_000).await;
    let places: Vec<u64> = seen.iter().map(|seen| seen.change.place.at).collect();
    // several rows may be of one record
    assert!(places.is_sorted() && places[0] >= before && places[19_999] < after);
    assert!(places.windows(2).filter(|pair| pair[0] < pair[1]).count() > 100);
    opened.stream.close().await;
    db.drop().await;
}
