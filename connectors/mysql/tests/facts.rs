//! What a described source says besides values, against real servers, which `make test` starts; by hand:
//!
//! ```text
//! scripts/with-servers.sh --only "mysql mariadb" cargo test -p rowcast-mysql --test facts
//! ```
//!
//! The servers themselves are the oracles: `SHOW BINLOG EVENTS` says which event begins where, a row of nothing but defaults holds
//! what each DEFAULT comes to, `CONNECTION_ID()` is the thread.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rowcast_core::backfill::{Target, What};
use rowcast_core::{
    Begin, Bump, Change, Column, Ddl, DdlVerb, DefaultValue, Event, Op, Position, Source, SourceStream, Table,
    TableFilter, TableReader, Transaction, Value,
};
use rowcast_mysql::{Compression, Flavor, Host, MysqlSource, MysqlStream, Options, Servers, TlsOptions};

fn var(name: &str) -> String {
    let file = std::env::var("ROWCAST_TEST_ENV").expect("ROWCAST_TEST_ENV is not set: see the head of this file");
    let text = std::fs::read_to_string(&file).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("no {name} in {file}")).trim_matches('\'').to_owned()
}

/// A database of one of the servers.
struct Db {
    flavor: Flavor,
    name: String,
}

impl Db {
    fn create(flavor: Flavor, name: &str) -> Db {
        let db = Db { flavor, name: format!("facts_{name}_{}", std::process::id()) };
        db.server(&format!("create database {} character set utf8mb4", db.name));
        // a source of no tables is a mistake
        db.exec("create table first (id int)");
        db
    }

    fn prefix(&self) -> &'static str {
        if self.flavor == Flavor::Mysql { "MYSQL" } else { "MARIADB" }
    }

    /// Statements of the administrator, in one session; what they return, a line each.
    fn client(&self, sql: &str, arguments: &[&str]) -> Vec<String> {
        let client = var(&format!("{}_CLIENT", self.prefix()));
        let mut words = client.split_whitespace();
        let socket = format!("--socket={}", var(&format!("{}_SOCKET", self.prefix())));
        let output = Command::new(words.next().unwrap())
            .args(words)
            .args([socket.as_str(), "-uroot", "--default-character-set=utf8mb4", "-N", "-B", "-e", sql])
            .args(arguments)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    fn server(&self, sql: &str) -> Vec<String> {
        self.client(sql, &[])
    }

    fn exec(&self, sql: &str) -> Vec<String> {
        self.client(sql, &[&self.name])
    }

    fn source(&self, describe: bool) -> MysqlSource {
        static SOURCES: AtomicU32 = AtomicU32::new(0);
        let port = var(&format!("{}_PORT", self.prefix())).parse().unwrap();
        MysqlSource::new(Options {
            name: self.name.clone(),
            flavor: self.flavor,
            servers: Servers::new(Host { name: "127.0.0.1".to_owned(), port }, Vec::new(), Default::default()),
            user: "cdc".to_owned(),
            password: "cdcpw".to_owned().into(),
            tls: TlsOptions::default(),
            server_public_key: None,
            cleartext_password: false,
            compression: Compression::None,
            tables: TableFilter::parse(&[&format!("{}.*", self.name)]).unwrap(),
            server_id: 90_000 + std::process::id() * 16 + SOURCES.fetch_add(1, Ordering::Relaxed),
            server_id_derived: true,
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(60),
            include_query: false,
            spill_folder: std::env::temp_dir(),
            spill_limit: 1 << 30,
            describe,
            ddl: describe,
            start_at: None,
        })
    }

    /// The type of the event that begins at a place, as the server tells it.
    fn event_at(&self, file: &str, at: u64) -> String {
        let rows = self.server(&format!("show binlog events in '{file}' from {at} limit 1"));
        let cells: Vec<&str> = rows[0].split('\t').collect();
        assert_eq!((cells[0], cells[1]), (file, at.to_string().as_str()));
        cells[2].to_owned()
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        self.server(&format!("drop database {}", self.name));
    }
}

/// A change with what surrounds it, its row decoded.
struct Seen {
    change: Change,
    transaction: Arc<Transaction>,
    table: Arc<Table>,
    row: Vec<String>,
}

/// The next changes, and the statements between them.
async fn changes(stream: &mut MysqlStream, count: usize) -> (Vec<Seen>, Vec<Arc<Ddl>>) {
    let (mut found, mut statements) = (Vec::new(), Vec::new());
    while found.len() < count {
        let next = tokio::time::timeout(Duration::from_secs(60), stream.next()).await;
        let batch = next.expect("changes in time").unwrap();
        let (mut open, arena) = (batch.open.clone(), Bump::new());
        for event in &batch.events {
            match event {
                Event::Begin(transaction) => open = Some(Arc::clone(transaction)),
                Event::Ddl(it) => statements.push(Arc::clone(it)),
                Event::Change(change) => {
                    let table = &batch.tables[change.table as usize];
                    let mut row = Vec::new();
                    if let Some(image) = change.after.or(change.before) {
                        table.decode(&batch.data, image, &arena, &mut row).unwrap();
                    }
                    found.push(Seen {
                        change: *change,
                        transaction: Arc::clone(open.as_ref().unwrap()),
                        table: Arc::clone(table),
                        row: row.iter().map(|value| format!("{value:?}")).collect(),
                    });
                }
                _ => {}
            }
        }
    }
    (found, statements)
}

/// A table as a copy has it, and the binlog file that the copy names.
async fn copied(source: &MysqlSource, db: &str, table: &str) -> (Arc<Table>, String) {
    let mut reader = source.reader().await.unwrap();
    let target = Target { qualifier: db.to_owned(), table: table.to_owned(), filter: None };
    let plan = reader.plan(&target, 1).await.unwrap();
    let reading = reader.begin(&target, What::Range(&plan.ranges[0]), 10).await.unwrap();
    let piece = reader.next().await.unwrap().unwrap();
    reader.end().await.unwrap();
    (Arc::clone(&piece.batch.tables[0]), reading.file)
}

fn column<'a>(table: &'a Table, name: &str) -> &'a Column {
    table.columns.iter().find(|column| column.name == name).unwrap()
}

/// Columns with constants, and from `aa` on others, but for the last.
const TABLE: &str = r#"create table t (id int not null auto_increment primary key comment 'the key', a varchar(9) default 'it''s',
    b binary(3) default 'ab', c varbinary(9) default '0x41', d bit(4) default b'101', e decimal(12,2) unsigned default 1,
    f datetime(3) default '2020-01-02 03:04:05', g enum('x','y''z') default 'y''z', h set('a','b') default 'a,b',
    i year default 2020, j bigint unsigned default 18446744073709551615, k double default 1e100, l float default 0.1,
    m time(2) default '-01:02:03.45', n date default '1999-12-31', o tinyint(1) default true,
    p char(5) character set latin1 default 'é', q varchar(9) not null default '', r varchar(20) default 'a\\b"c',
    s int(5) zerofill default 7, t bigint default -1, u decimal(5,0) default -3, v float(7,3) default 1.5, w bit default b'1',
    aa timestamp(3) null default current_timestamp(3) on update current_timestamp(3), ab datetime default now(),
    ac varchar(36) default (uuid()), ad int default (1+1), ae int generated always as (t+1) virtual, af text, ag int default null,
    ah timestamp not null default '2021-01-01 00:00:00') comment 'all' character set latin1"#;

async fn described(flavor: Flavor) {
    let db = Db::create(flavor, "defaults");
    let source = db.source(true);
    let mut opened = source.open(Begin::Now).await.unwrap();
    db.exec(&format!("set time_zone='+00:00'; {TABLE}; insert into t () values ()"));
    let (seen, _) = changes(&mut opened.stream, 1).await;
    let (table, arena) = (&seen[0].table, Bump::new());
    let value = |name: &str| Some(column(table, name).facts.as_ref()?.default.clone()?.value);
    let mut constants = 0;
    for (index, it) in table.columns.iter().enumerate() {
        if let Some(DefaultValue::Constant(text)) = value(&it.name) {
            let found = table.default_value(index, &arena).unwrap_or_else(|| panic!("{}: {text}", it.name));
            assert_eq!(format!("{found:?}"), seen[0].row[index], "{flavor} {}: {text}", it.name);
            constants += 1;
        }
    }
    assert_eq!(constants, 24, "{flavor}");
    assert_eq!([value("aa"), value("ab")], [Some(DefaultValue::Call), Some(DefaultValue::Call)], "{flavor}");
    let expression = || Some(DefaultValue::Expression);
    assert_eq!([value("ac"), value("ad")], [expression(), expression()], "{flavor}");
    assert_eq!([value("id"), value("ae"), value("af"), value("ag")], [None, None, None, None], "{flavor}");

    let facts = |name: &str| column(table, name).facts.clone().unwrap();
    assert!(facts("id").auto_increment && !facts("a").auto_increment);
    assert!(facts("ae").generated && !facts("ad").generated);
    assert_eq!([facts("id").comment.as_deref(), facts("a").comment.as_deref()], [Some("the key"), None]);
    assert_eq!([facts("a").charset.as_deref(), facts("e").charset.as_deref()], [Some("latin1"), None]);
    let decimal = facts("e");
    assert_eq!((decimal.length, decimal.scale, facts("o").length), (Some(12), Some(2), Some(1)));
    assert_eq!([column(table, "id").nullable, column(table, "a").nullable], [Some(false), Some(true)]);
    let whole = table.facts.clone().unwrap();
    assert_eq!(
        (whole.primary_key, whole.charset.as_deref(), whole.comment.as_deref()),
        (vec![0], Some("latin1"), Some("all"))
    );

    let (copy, file) = copied(&source, &db.name, "t").await;
    assert_eq!((&copy.columns, &copy.facts), (&table.columns, &table.facts), "{flavor}");
    assert_eq!(copy.fingerprint, table.fingerprint, "{flavor}");
    let status = if flavor == Flavor::Mysql { "show binary log status" } else { "show master status" };
    assert_eq!(db.server(status)[0].split('\t').next(), Some(file.as_str()));

    // another default is another version
    db.exec("alter table t alter a set default 'z'; insert into t () values ()");
    let (seen, mut statements) = changes(&mut opened.stream, 1).await;
    statements.retain(|it| it.db == db.name);
    let index = seen[0].table.columns.iter().position(|it| it.name == "a").unwrap();
    assert_eq!(format!("{:?}", seen[0].table.default_value(index, &arena).unwrap()), seen[0].row[index]);
    assert_ne!(seen[0].table.fingerprint, table.fingerprint);
    assert_eq!((statements.len(), statements[0].verb), (1, DdlVerb::AlterTable), "{statements:?}");
    let after = &statements[0].after[0];
    assert_eq!(
        (&after.name, &after.columns, &after.facts),
        (&table.name, &seen[0].table.columns, &seen[0].table.facts)
    );
    opened.stream.close().await;

    let plain = db.source(false);
    let mut opened = plain.open(Begin::Now).await.unwrap();
    db.exec("create table u (id int); insert into t () values ()");
    let (seen, statements) = changes(&mut opened.stream, 1).await;
    assert!(seen[0].table.facts.is_none() && seen[0].table.columns.iter().all(|it| it.facts.is_none()));
    assert!(statements.is_empty() && seen[0].transaction.facts.thread.is_none());
    let (copy, _) = copied(&plain, &db.name, "t").await;
    assert_eq!(copy.fingerprint, seen[0].table.fingerprint);
    opened.stream.close().await;
}

#[tokio::test]
async fn a_default_is_what_mysql_inserts_and_stream_and_copy_describe_alike() {
    Box::pin(described(Flavor::Mysql)).await;
}

#[tokio::test]
async fn a_default_is_what_mariadb_inserts_and_stream_and_copy_describe_alike() {
    Box::pin(described(Flavor::MariaDb)).await;
}

async fn placed(flavor: Flavor) {
    let db = Db::create(flavor, "places");
    let mut opened = db.source(true).open(Begin::Now).await.unwrap();
    let answers = db.exec(
        "create table t (id int primary key, a int); begin; insert into t values (1, 1), (2, 2), (3, 3); \
         update t set a = a + 1 where id > 1; commit; truncate t; select connection_id(), @@server_id",
    );
    let (thread, server) = answers[0].split_once('\t').unwrap();
    let (seen, mut statements) = changes(&mut opened.stream, 6).await;
    // those of other databases are told as well
    statements.retain(|it| it.db == db.name);
    let shown: Vec<(Op, u32)> = seen.iter().map(|seen| (seen.change.op, seen.change.place.row)).collect();
    let expected =
        [(Op::Insert, 0), (Op::Insert, 1), (Op::Insert, 2), (Op::Update, 0), (Op::Update, 1), (Op::Truncate, 0)];
    assert_eq!(shown, expected);
    for it in &seen {
        let facts = &it.transaction.facts;
        let kind = db.event_at(facts.file.as_ref().unwrap(), it.change.place.at);
        let wanted = match it.change.op {
            Op::Insert => "Write_rows",
            Op::Update => "Update_rows",
            _ => "Query",
        };
        assert!(kind.starts_with(wanted), "{kind} {:?}", it.change);
        assert_eq!(facts.server_id.to_string(), server);
        let begun = db.event_at(facts.file.as_ref().unwrap(), facts.begins);
        assert!(matches!(begun.as_str(), "Query" | "Annotate_rows"), "{begun}");
        let of_mysql = flavor == Flavor::Mysql && it.change.op != Op::Truncate;
        assert_eq!(facts.thread.map(|thread| thread.to_string()), of_mysql.then(|| thread.to_owned()));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert!(now.abs_diff(u64::from(it.change.place.seconds)) < 600);
    }
    let create = &statements[0];
    assert_eq!((create.verb, create.db.as_str()), (DdlVerb::CreateTable, db.name.as_str()));
    assert_eq!(create.tables[0].to_string(), format!("{}.t", db.name));
    assert!(create.sql.to_lowercase().contains("create table t (id int primary key, a int)"), "{create:?}");
    assert_eq!(create.after.iter().map(|it| it.name.to_string()).collect::<Vec<_>>(), [format!("{}.t", db.name)]);
    // a truncation is a change
    assert_eq!(statements.len(), 1, "{statements:?}");

    // nothing is read meanwhile: the catalog knows the table as it is behind the second statement
    db.exec("alter table t add b int");
    std::thread::sleep(Duration::from_secs(3));
    db.exec("alter table t add c int, algorithm=copy; drop table first; insert into t (id) values (0)");
    let (_, mut statements) = changes(&mut opened.stream, 1).await;
    statements.retain(|it| it.db == db.name);
    let told: Vec<_> = statements.iter().map(|it| (it.verb, it.tables.len(), it.after.len())).collect();
    assert_eq!(told, [(DdlVerb::AlterTable, 1, 0), (DdlVerb::AlterTable, 1, 1), (DdlVerb::DropTable, 1, 0)]);
    assert_eq!(statements[1].after[0].columns.len(), 4);

    // the rows of an XA transaction stand where it was prepared, and are told where it commits
    db.exec(
        "xa start 'x'; insert into t (id) values (4); insert into t (id) values (5); xa end 'x'; xa prepare 'x'; \
         xa commit 'x'",
    );
    let (seen, _) = changes(&mut opened.stream, 2).await;
    let file = seen[0].transaction.facts.file.clone().unwrap();
    assert_eq!(seen[0].change.place.at, seen[1].change.place.at);
    assert_eq!([seen[0].change.place.row, seen[1].change.place.row], [0, 1]);
    assert_eq!(db.event_at(&file, seen[0].change.place.at), "Query");

    // another file
    db.server("flush binary logs");
    db.exec("insert into t (id) values (6)");
    let (seen, _) = changes(&mut opened.stream, 1).await;
    let next = seen[0].transaction.facts.file.clone().unwrap();
    assert!(*next > *file, "{file} {next}");
    assert!(db.event_at(&next, seen[0].change.place.at).starts_with("Write_rows"));
    if flavor == Flavor::Mysql {
        db.exec(
            "set session binlog_transaction_compression=on; begin; insert into t (id) values (7), (8); \
             insert into t (id) values (9); commit",
        );
        let (seen, _) = changes(&mut opened.stream, 3).await;
        let kind = db.event_at(&seen[0].transaction.facts.file.clone().unwrap(), seen[0].change.place.at);
        assert_eq!(kind, "Transaction_payload");
        assert_eq!(seen.iter().map(|seen| seen.change.place.row).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(seen.iter().all(|it| it.transaction.facts.thread.is_some()));
    }
    opened.stream.close().await;
}

#[tokio::test]
async fn rows_stand_where_mysql_says() {
    Box::pin(placed(Flavor::Mysql)).await;
}

#[tokio::test]
async fn rows_stand_where_mariadb_says() {
    Box::pin(placed(Flavor::MariaDb)).await;
}

/// What was kept of a table's columns by a process that had no use for facts: a row names no columns (`binlog_row_metadata=MINIMAL`), so that
/// this is what its version is made of.
async fn kept(flavor: Flavor) {
    let db = Db::create(flavor, "kept");
    let plain = db.source(false);
    let mut opened = plain.open(Begin::Now).await.unwrap();
    db.exec("create table t (id int primary key, a int default 7); insert into t values (1, 1)");
    let (mut log, mut schemas, mut rows) = (opened.start.clone(), Vec::new(), 0);
    while rows == 0 || schemas.is_empty() {
        let batch = tokio::time::timeout(Duration::from_secs(60), opened.stream.next()).await.unwrap().unwrap();
        for event in &batch.events {
            match event {
                Event::Change(change) => {
                    rows += 1;
                    assert!(batch.tables[change.table as usize].columns[0].facts.is_none());
                }
                Event::Schema(it) if it.text.is_some() && &*it.table.table == "t" => schemas.push(Arc::clone(it)),
                Event::Commit(mark, _) => log.advance(mark).unwrap(),
                _ => {}
            }
        }
    }
    opened.stream.close().await;
    let identity = opened.info.identity;
    db.exec("insert into t values (2, 2), (3, 3)");
    let position = Position::boundary(log);
    let begin = Begin::At { position: &position, identity: identity.as_deref(), schemas: &schemas };
    let mut opened = db.source(true).open(begin).await.unwrap();
    let (seen, _) = changes(&mut opened.stream, 2).await;
    let arena = Bump::new();
    assert_eq!(seen[0].table.default_value(1, &arena), Some(Value::Int(7)), "{flavor} {:?}", seen[0].table);
    assert_eq!(seen[0].row, ["Int(2)", "Int(2)"]);
    assert!(Arc::ptr_eq(&seen[0].table, &seen[1].table));
    opened.stream.close().await;
}

#[tokio::test]
async fn what_mysql_was_asked_before_is_asked_again_for_what_it_lacks() {
    Box::pin(kept(Flavor::Mysql)).await;
}

#[tokio::test]
async fn what_mariadb_was_asked_before_is_asked_again_for_what_it_lacks() {
    Box::pin(kept(Flavor::MariaDb)).await;
}
