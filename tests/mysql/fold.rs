//! The fold test: writers change rows and tables at random, by a seed; a reader that knows nothing but the topics holds, at the end
//! and at each snapshot that was taken meanwhile, exactly what `SELECT *` gave. On both servers, in a mode that the seed chooses
//! ([`Mode`]).
//!
//! `ROWCAST_FOLD_SEED` repeats a run's choices (not the order in which its sessions meet), `ROWCAST_FOLD_SECONDS` sets its length;
//! `make fold` is the long form. A snapshot is compared by the transactions that it sees: the reader folds their events, in
//! the topics' order, and no others. MySQL's snapshots are taken under `FLUSH TABLES WITH READ LOCK`, where `gtid_executed` is
//! exact; MariaDB's by `START TRANSACTION WITH CONSISTENT SNAPSHOT`, which says its own place in the binlog.

mod alter;
mod online;
mod statements;
mod workload;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mysql_async::Conn;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rowcast_core::GtidSet;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::task::block_in_place;

use crate::support::fold::{Defaults, Picture, Shown, read, seed, setting};
use crate::support::mysql::{exec, query, try_query};
use crate::support::source::{Kind, PATIENCE, Source, wait_until_streaming};
use crate::support::{Servers, eventually};
use statements::TABLES;
use workload::{Done, Writer};

/// How long the writers of `make test` work, per server.
const SECONDS: u64 = 20;
/// How long one database is worked on at most.
const ROUND: u64 = 30;
const WRITERS: u64 = 4;

/// What the seed chooses of the server's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode {
    kind: Kind,
    /// `binlog_row_image`.
    image: &'static str,
    metadata: Metadata,
    /// Every other session writes compressed transactions (MySQL), or the server compressed events (MariaDB).
    compressed: bool,
    /// Every other session logs changes of JSON documents as such (MySQL).
    partial_json: bool,
    /// GTIDs with tags (MySQL), of two domains (MariaDB).
    origins: bool,
}

/// `binlog_row_metadata`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Metadata {
    Full,
    Minimal,
    /// Now this, now that.
    Switched,
}

impl Mode {
    fn of(kind: Kind, seed: u64) -> Mode {
        let metadata = [Metadata::Full, Metadata::Minimal, Metadata::Full, Metadata::Switched];
        Mode {
            kind,
            image: ["FULL", "MINIMAL", "NOBLOB"][(seed % 3) as usize],
            metadata: metadata[(seed / 3 % 4) as usize],
            compressed: seed.is_multiple_of(2),
            // without the document in the log nothing says what was changed in it
            partial_json: seed.is_multiple_of(3) && (seed / 2).is_multiple_of(2) && kind == Kind::Mysql,
            origins: (seed / 4).is_multiple_of(2),
        }
    }

    /// Whether a table may change only while nothing of the log is unread: without names in the log, what lies before a change
    /// of the table can't be read behind it.
    fn calm(self) -> bool {
        self.metadata != Metadata::Full
    }
}

/// What the writers share.
struct Shared {
    mode: Mode,
    source: Source,
    defaults: Defaults,
    /// Held for writing while a snapshot is taken, and for reading while what a statement did to rows unlogged is put right.
    pictures: RwLock<()>,
    /// Held for reading during transactions, and for writing by who waits until the log is read.
    calm: RwLock<()>,
    markers: AtomicU64,
}

impl Shared {
    /// For a transaction, in modes that need it.
    async fn transaction(&self) -> Option<RwLockReadGuard<'_, ()>> {
        if self.mode.calm() { Some(self.calm.read().await) } else { None }
    }

    /// For a change of a table, in modes that need it: until it is dropped, nobody writes, and what was written is published.
    async fn settled(&self) -> Option<RwLockWriteGuard<'_, ()>> {
        if !self.mode.calm() {
            return None;
        }
        let guard = self.calm.write().await;
        self.published().await;
        Some(guard)
    }

    /// Waits until everything that is committed is published.
    async fn published(&self) {
        let number = self.markers.fetch_add(1, Ordering::Relaxed) + 1;
        self.source.exec(&format!("insert into marker values ({number})")).await;
        eventually(3 * PATIENCE, "the last transaction to be published", || async {
            let count = self.source.events("marker").await.len();
            if (count as u64) < number { Err(count) } else { Ok(()) }
        })
        .await;
    }
}

/// A snapshot of all tables; none if one was changed while it was read.
async fn picture(shared: &Shared, conn: &mut Conn, name: String) -> Option<Picture> {
    let _alone = shared.pictures.write().await;
    let sees = match shared.mode.kind {
        Kind::Mysql => begin_mysql(conn).await?,
        _ => begin_maria(conn).await,
    };
    let tables = shown(conn).await;
    exec(conn, "rollback").await;
    Some(Picture { name, sees: sees(conn).await, tables: tables? })
}

/// Tables of a snapshot; none if one was changed.
async fn shown(conn: &mut Conn) -> Option<BTreeMap<&'static str, Shown>> {
    let there = query(conn, "select table_name from information_schema.tables where table_schema = database()").await;
    let there: Vec<String> = there.into_iter().map(|row| row[0].clone().unwrap()).collect();
    let mut tables = BTreeMap::new();
    for table in TABLES.into_iter().filter(|table| there.iter().any(|name| name == table)) {
        tables.insert(table, statements::rows(conn, table).await?);
    }
    Some(tables)
}

/// Says which transactions a snapshot sees, asked behind it.
type Sees =
    Box<dyn for<'a> FnOnce(&'a mut Conn) -> std::pin::Pin<Box<dyn Future<Output = Box<dyn Fn(&str) -> bool>> + 'a>>>;

async fn begin_mysql(conn: &mut Conn) -> Option<Sees> {
    // who waits for a session that waits for us gives up
    if let Err(error) = try_query(conn, "flush tables with read lock").await {
        assert!(workload::is_allowed(&error), "{error:?}");
        return None;
    }
    let executed = query(conn, "select @@global.gtid_executed").await[0][0].clone().unwrap();
    exec(conn, "start transaction with consistent snapshot").await;
    for table in TABLES {
        // its definition is held with it
        let _ = try_query(conn, &format!("select 1 from {table} limit 1")).await;
    }
    exec(conn, "unlock tables").await;
    let set: GtidSet = executed.parse().unwrap();
    let sees = move |transaction: &str| {
        let (origin, number) = transaction.rsplit_once(':').unwrap();
        let one: GtidSet = format!("{origin}:{number}").parse().unwrap();
        set.contains_all(&one)
    };
    Some(Box::new(|_| Box::pin(async { Box::new(sees) as Box<dyn Fn(&str) -> bool> })))
}

async fn begin_maria(conn: &mut Conn) -> Sees {
    exec(conn, "start transaction with consistent snapshot").await;
    let status = query(conn, "show status like 'binlog_snapshot_%'").await;
    let status: HashMap<String, String> =
        status.into_iter().map(|row| (row[0].clone().unwrap().to_lowercase(), row[1].clone().unwrap())).collect();
    let place = format!("'{}', {}", status["binlog_snapshot_file"], status["binlog_snapshot_position"]);
    Box::new(move |conn| {
        Box::pin(async move {
            let last = query(conn, &format!("select binlog_gtid_pos({place})")).await[0][0].clone().unwrap();
            let parts = |gtid: &str| -> (u64, u64) {
                let parts: Vec<u64> = gtid.split('-').map(|part| part.parse().unwrap()).collect();
                (parts[0], parts[2])
            };
            let last: HashMap<u64, u64> = last.split(',').filter(|gtid| !gtid.is_empty()).map(parts).collect();
            Box::new(move |transaction: &str| {
                let (domain, sequence) = parts(transaction);
                last.get(&domain).is_some_and(|last| sequence <= *last)
            }) as Box<dyn Fn(&str) -> bool>
        })
    })
}

/// One run: the daemon is killed at random moments.
async fn run(servers: &Servers, kind: Kind, seed: u64, seconds: u64) {
    let mode = Mode::of(kind, seed);
    println!("{}: ROWCAST_FOLD_SEED={seed} ROWCAST_FOLD_SECONDS={seconds}, {mode:?}", kind.name());
    let source = Source::create_on(servers, kind, "fold").await;
    let Source::Mysql(db) = &source else { unreachable!() };
    let metadata = if mode.metadata == Metadata::Minimal { "MINIMAL" } else { "FULL" };
    db.exec(&format!("set global binlog_row_image = {}, global binlog_row_metadata = {metadata}", mode.image)).await;
    if kind == Kind::Mariadb {
        db.exec(&format!("set global log_bin_compress = {}", u8::from(mode.compressed))).await;
    }
    let mut conn = db.connect().await;
    for statement in statements::schema(kind) {
        exec(&mut conn, &statement).await;
    }
    let mut daemon = source.to_kafka().spawn();
    wait_until_streaming(&mut daemon).await;

    let shared = Arc::new(Shared {
        mode,
        source,
        // what an insert leaves out of a partial image
        defaults: Arc::new(Mutex::new([("touched".to_owned(), 0.into())].into())),
        pictures: RwLock::default(),
        calm: RwLock::default(),
        markers: AtomicU64::new(0),
    });
    let Source::Mysql(db) = &shared.source else { unreachable!() };
    let (stop, mut writers) = (Arc::new(AtomicBool::new(false)), Vec::new());
    for number in 0..WRITERS {
        let writer = Writer::new(db.connect().await, Arc::clone(&shared), seed, number);
        writers.push(tokio::spawn(writer.run(Arc::clone(&stop))));
    }
    let mut random = StdRng::seed_from_u64(seed);
    exec(&mut conn, "set session transaction isolation level repeatable read").await;
    exec(&mut conn, "set session time_zone = '+00:00', session lock_wait_timeout = 5").await;
    let (mut pictures, mut killed, end) = (Vec::new(), 0, Instant::now() + Duration::from_secs(seconds));
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(random.random_range(500..4000))).await;
        assert!(daemon.is_running(), "the daemon has ended");
        if writers.iter().any(|writer| writer.is_finished()) {
            break;
        }
        if random.random_ratio(1, 4) {
            daemon.kill9();
            daemon.start();
            killed += 1;
        }
        if random.random_ratio(1, 5) {
            db.exec("flush binary logs").await;
        }
        if mode.metadata == Metadata::Switched {
            let metadata = if random.random() { "MINIMAL" } else { "FULL" };
            db.exec(&format!("set global binlog_row_metadata = {metadata}")).await;
        }
        pictures.extend(picture(&shared, &mut conn, format!("at snapshot {}", pictures.len() + 1)).await);
    }
    stop.store(true, Ordering::Relaxed);
    let mut all = Done::default();
    for writer in writers {
        all += writer.await.unwrap();
    }
    pictures.push(picture(&shared, &mut conn, "at the end".to_owned()).await.unwrap());
    assert!(daemon.is_running(), "the daemon has ended");
    shared.published().await;
    let events = read(&shared.source, &TABLES).await;
    let count: usize = events.values().map(Vec::len).sum();
    println!("{all:?}, {killed} kills, {} snapshots, {count} events", pictures.len());
    for picture in &pictures {
        picture.compare(&events, &shared.defaults, mode.image != "FULL");
    }
    assert!(all.committed > 20 && all.altered > 0 && all.prepared > 0, "{all:?}: nothing was tried");
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
}

/// A longer run is several, with one seed behind the other: a reader of the topics has them in memory.
async fn fold(kind: Kind) {
    let servers = block_in_place(|| Servers::private(&[kind.server()]));
    let seed = seed();
    let seconds = setting("ROWCAST_FOLD_SECONDS").unwrap_or(SECONDS);
    for round in 0..seconds.div_ceil(ROUND) {
        run(&servers, kind, seed + round, ROUND.min(seconds - round * ROUND)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folded_topics_are_the_tables_of_mysql() {
    fold(Kind::Mysql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folded_topics_are_the_tables_of_mariadb() {
    fold(Kind::Mariadb).await;
}
