//! Reading tables: ranges of places (`ctid`), each read in a transaction of its own.
//!
//! ```text
//! plan:  lookup (catalog) ─► leaves, blocks ─► ranges            EXPLAIN: the filter is right, how many rows
//! begin: BEGIN; LOCK TABLE; SELECT snapshot, log position, digest     one round trip, first rows included
//!        Parse, Bind, Execute ─► next: pieces (reading.rs)
//! end:   COMMIT
//! ```
//!
//! Why places: the rows of a block lie together, so that a read is sequential whatever the key is, and nothing is
//! compared or sorted. Rows that an update moves are in the stream. Rows that the *server* moves (VACUUM FULL, CLUSTER,
//! ALTER TABLE) aren't; a range says for which file it was made, and where the table has another one by now, its rows may
//! be anywhere: that is `Moved`, and only a new plan has all of them.
//!
//! Why the lock comes before the snapshot: TRUNCATE and rewriting ALTERs aren't MVCC-safe: an older snapshot finds the
//! table empty after them. With ACCESS SHARE held first (what a SELECT takes anyway) none can commit between the snapshot and the
//! read; one that committed before is visible. Neither BEGIN nor SET nor LOCK takes a snapshot.
//!
//! A read ends before its range does where too many blocks would have to be read for the rows that were asked for (dead
//! rows, a filter that few rows pass): so no read holds its snapshot for long. Nor does one that nobody goes on with: a
//! server that can't send its rows for a minute ends it, which is `TooSlow`; what was given out until then holds.
//!
//! Fails: see [`ReadError`]; after any error but `Source` the transaction is rolled back and the reader ready. Needs two
//! sessions: this one, and one for the catalog.

mod failure;
mod link;
mod lookup;
mod range;
mod reading;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rowcast_core::backfill::{Offset, Piece, Plan, ReadError, Reading, Snapshot, TableReader, Target, What};
use rowcast_core::{Lsn, SourceError};

use self::link::{LONG_SILENCE, Link, SILENCE, Server};
use self::lookup::{Known, Leaf, Lookup};
use self::range::Range;
use self::reading::{Extent, Halt, PORTAL, Read};
use crate::catalog::Catalog;
use crate::error::{self, ServerError};
use crate::replication::connection::literal;
use crate::{Options, error::Target as Peer};

/// Blocks that one read reads at most: 1 GiB.
const MOST_BLOCKS: u32 = 131_072;
/// The same for PostgreSQL 13, where each place is a value in memory.
const MOST_BLOCKS_13: u32 = 512;
/// Tables that are kept in mind.
const MOST_TABLES: usize = 256;
/// How often a read may find its table rewritten, or gone and there again, while it begins.
const ATTEMPTS: u32 = 4;

/// A connection that reads tables.
#[derive(Debug)]
pub struct PostgresReader {
    link: Link,
    server: Server,
    catalog: Catalog,
    peer: Peer,
    database: Arc<str>,
    publication: String,
    user: String,
    /// By schema and name.
    known: HashMap<(String, String), Known>,
    read: Option<Read>,
}

/// What `begin` is about to do.
struct Job {
    /// For LOCK TABLE and FROM.
    source: String,
    /// The table that the source names.
    oid: u32,
    condition: String,
    settings: &'static str,
    extent: Extent,
    wanted: u64,
    long: bool,
}

/// What came of it.
enum Begun {
    Reading(Reading),
    /// The range's table has this file now.
    Rewritten,
}

/// The first row of a read, before its rows.
struct Head {
    snapshot: Snapshot,
    lsn: Lsn,
    now_us: i64,
    digest: Option<String>,
    named: Option<u32>,
    belongs: bool,
    file: u32,
    blocks: u32,
}

impl PostgresReader {
    /// Connects.
    pub(crate) async fn connect(options: &Options, peer: &Peer, publication: String) -> Result<Self, SourceError> {
        let (link, server) = Link::open(options, peer).await?;
        Ok(Self {
            link,
            server,
            catalog: Catalog::new(options, peer),
            peer: peer.clone(),
            database: Arc::from(options.database.as_str()),
            publication,
            user: options.user.clone(),
            known: HashMap::new(),
            read: None,
        })
    }

    /// What is known of the table; looked up if nothing is.
    async fn known(&mut self, target: &Target) -> Result<&mut Known, ReadError> {
        let key = (target.qualifier.clone(), target.table.clone());
        if !self.known.contains_key(&key) {
            let lookup = Lookup {
                database: &self.database,
                publication: &self.publication,
                version: self.server.version,
                user: &self.user,
                server: &self.peer,
            };
            let found = lookup::look_up(&mut self.catalog, &lookup, target).await?;
            if self.known.len() >= MOST_TABLES {
                self.known.clear();
            }
            self.known.insert(key.clone(), found);
        }
        self.known.get_mut(&key).ok_or(ReadError::Gone)
    }

    fn forget(&mut self, target: &Target) {
        self.known.remove(&(target.qualifier.clone(), target.table.clone()));
    }

    /// The leaf that a range is of; none if the partitioned table has it no more.
    async fn leaf(&mut self, target: &Target, oid: u32) -> Result<Option<Leaf>, ReadError> {
        for again in [true, false] {
            let known = self.known(target).await?;
            if let Some(leaf) = known.leaves.iter().find(|leaf| leaf.oid == oid) {
                return Ok(Some(leaf.clone()));
            }
            if again {
                self.forget(target);
            }
        }
        // a table of the same name that isn't partitioned is another table
        if self.known(target).await?.partitioned { Ok(None) } else { Err(ReadError::Gone) }
    }

    /// What is to be read. `range` is the parsed one, for `What::Range`.
    async fn job(
        &mut self,
        target: &Target,
        what: What<'_>,
        range: Option<Range>,
        rows: u64,
    ) -> Result<Job, ReadError> {
        let (version, block) = (self.server.version, self.server.block);
        let leaf = match range {
            Some(range) => Some((range, self.leaf(target, range.leaf).await?)),
            None => None,
        };
        let peer = self.peer.clone();
        let known = self.known(target).await?;
        let root = if known.partitioned { known.name.clone() } else { format!("ONLY {}", known.name) };
        let conditions =
            |place: Option<String>| conditions(place, target.filter.as_deref(), known.published.as_deref());
        let nothing = |label| Job {
            source: root.clone(),
            oid: known.oid,
            condition: " WHERE false".to_owned(),
            settings: "",
            extent: Extent::Rows(label),
            wanted: u64::MAX,
            long: false,
        };
        Ok(match (what, leaf) {
            (_, Some((range, leaf))) => {
                let Some(leaf) = leaf else { return Ok(nothing("range")) };
                let most = if version >= 140_000 { MOST_BLOCKS } else { MOST_BLOCKS_13 };
                let blocks = (rows as f64 / known.density * 1.3 + 16.0).min(f64::from(most)) as u32;
                let until = range.from.block.saturating_add(blocks).min(range.to);
                let place = if version >= 140_000 { range.condition(until) } else { range.condition_13(until, block) };
                Job {
                    source: format!("ONLY {}", leaf.name),
                    oid: leaf.oid,
                    condition: conditions(Some(place)),
                    // the order of places is promised by no statement: only a scan by places is left to the planner
                    settings: "SET LOCAL enable_seqscan = off; ",
                    extent: Extent::Places { range, until },
                    wanted: rows.max(1),
                    long: false,
                }
            }
            (What::Keys([]), _) => nothing("keys"),
            (What::Keys(keys), _) => {
                let place = key_condition(&known.key, keys).ok_or_else(|| {
                    ReadError::Changed(format!("{peer}: the key of {} isn't what it was", known.name))
                })?;
                let condition = conditions(Some(place));
                let extent = Extent::Rows("keys");
                Job { source: root, oid: known.oid, condition, settings: "", extent, wanted: u64::MAX, long: false }
            }
            _ => Job {
                source: root,
                oid: known.oid,
                condition: conditions(None),
                // nothing smaller could be read instead
                settings: "SET LOCAL statement_timeout = 0; ",
                extent: Extent::Rows("whole"),
                wanted: u64::MAX,
                long: true,
            },
        })
    }

    /// Begins the transaction and the read in it.
    async fn start(&mut self, target: &Target, job: Job) -> Result<Begun, ReadError> {
        let (publication, block) = (literal(&self.publication), self.server.block);
        let known = self.known(target).await?;
        let (root, width) = (known.oid, known.width);
        let name = job.source.strip_prefix("ONLY ").unwrap_or(&job.source);
        let head = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; {settings}LOCK TABLE {source} IN ACCESS SHARE MODE; \
             SELECT pg_current_snapshot()::text, pg_current_wal_insert_lsn()::text, \
             (extract(epoch FROM clock_timestamp()) * 1000000)::int8, {digest}, to_regclass({name})::oid, \
             coalesce(pg_partition_root({oid}), {oid})::oid = {root}, pg_relation_filenode({oid}), \
             pg_relation_size({oid}) / {block}",
            settings = job.settings,
            source = job.source,
            digest = lookup::digest(&root.to_string(), &publication),
            name = literal(name),
            oid = job.oid,
        );
        let rows = format!("SELECT {} FROM {}{}", known.columns, job.source, job.condition);
        let filtered = target.filter.is_some() || known.published.is_some();
        let (table, expected) = (Arc::clone(&known.table), known.digest.clone());
        let (columns, first) = (table.columns.len(), reading::first(width, job.wanted));
        self.link.silence = if job.long { LONG_SILENCE } else { SILENCE };
        self.link.send(2, |out| open_portal(&head, &rows, columns, first, out)).await?;

        let answer = self.link.collect(1).await?;
        let failed = self.opened().await?;
        let problem = match answer {
            Err(error) => self.not_begun(target, &error).await?,
            Ok(rows) => {
                let cells = rows.first().and_then(|row| Head::read(row));
                let head = cells.ok_or_else(|| self.link.broken("an answer that can't be read"))?;
                let fits = head.named == Some(job.oid) && head.belongs && head.digest.as_ref() == Some(&expected);
                match (fits, failed, job.extent) {
                    (false, ..) => {
                        self.link.roll_back().await?;
                        self.forget(target);
                        // says `Gone` if that is what it is
                        let known = self.known(target).await?;
                        ReadError::Changed(format!("{} was altered since it was looked up", known.name))
                    }
                    (true, Some(error), _) => {
                        self.link.roll_back().await?;
                        self.explain(target, &error)
                    }
                    (true, None, Extent::Places { range, .. }) if range.file != head.file => {
                        self.link.roll_back().await?;
                        return Ok(Begun::Rewritten);
                    }
                    (true, None, extent) => {
                        self.read = Some(Read::new(table, extent, head.blocks, job.wanted, width, filtered));
                        return Ok(Begun::Reading(head.reading(&self.server)));
                    }
                }
            }
        };
        Err(problem)
    }

    /// Reads to the portal's description; the server's error if it didn't open.
    async fn opened(&mut self) -> Result<Option<ServerError>, ReadError> {
        loop {
            let frame = self.link.frame().await?;
            let error = (frame.tag == b'E').then(|| ServerError::parse(self.link.reader().body(frame)));
            self.link.drop_frame(frame);
            match frame.tag {
                b'T' => return Ok(None),
                b'E' => return Ok(error),
                b'1' | b'2' => {}
                tag => return Err(self.link.broken(&format!("an unexpected message 0x{tag:02x}")).into()),
            }
        }
    }

    /// The transaction's first statements failed.
    async fn not_begun(&mut self, target: &Target, error: &ServerError) -> Result<ReadError, ReadError> {
        self.link.roll_back().await?;
        if !failure::is_missing(error) {
            return Ok(self.explain(target, error));
        }
        // dropped, or renamed, or moved to another schema, or one of its partitions was
        self.forget(target);
        let known = self.known(target).await?;
        Ok(ReadError::Changed(format!("{} or one of its partitions was altered since it was looked up", known.name)))
    }

    /// An error of the server as one of a read of this table.
    fn explain(&self, target: &Target, error: &ServerError) -> ReadError {
        let known = self.known.get(&(target.qualifier.clone(), target.table.clone()));
        let grant = known.map_or("grant SELECT on it to our role", |known| known.grant.as_str());
        failure::explain(error, &self.peer, &lookup::quoted(&target.qualifier, &target.table), grant)
    }

    /// Keeps what a read has taught about the table.
    fn learn(&mut self, read: &Read) {
        let name = &read.table.name;
        let key = (name.qualifier().to_owned(), name.table.to_string());
        if let Some(known) = self.known.get_mut(&key) {
            known.width = read.width();
            if let Some(density) = read.density() {
                known.density = density.max(known.density / 8.0);
            }
        }
    }
}

/// Everything that begins a read, in one go: the transaction as a simple query, then a portal.
///
/// Values come as text, all but the place: its text would cost the server as much as those of three columns (measured: 0.3 µs).
fn open_portal(head: &str, rows: &str, columns: usize, first: u64, out: &mut BytesMut) -> io::Result<()> {
    frontend::query(head, out)?;
    frontend::parse("", rows, [], out)?;
    let none: [&str; 0] = [];
    let formats = std::iter::repeat_n(0, columns).chain([1]);
    frontend::bind(PORTAL, "", [], none, |_, _| Ok(postgres_protocol::IsNull::Yes), formats, out)
        .map_err(|_| io::Error::other("a portal that can't be bound"))?;
    frontend::describe(b'P', PORTAL, out)?;
    frontend::execute(PORTAL, i32::try_from(first).unwrap_or(i32::MAX), out)?;
    frontend::sync(out);
    Ok(())
}

/// The WHERE clause. Filters are inside CASE: so the planner can neither turn one into a join nor use an index for it, which would
/// both change the order of the rows. A line's end comes before each closing parenthesis, for filters that end in a comment.
fn conditions(place: Option<String>, filter: Option<&str>, published: Option<&str>) -> String {
    let filters: Vec<String> = [filter, published].into_iter().flatten().map(|sql| format!("({sql}\n)")).collect();
    let filters =
        (!filters.is_empty()).then(|| format!("CASE WHEN {} THEN true ELSE false END", filters.join(" AND ")));
    let all: Vec<String> = place.into_iter().chain(filters).collect();
    if all.is_empty() { String::new() } else { format!(" WHERE {}", all.join(" AND ")) }
}

/// The condition for these keys; none if they aren't keys of this table.
fn key_condition(columns: &[lookup::KeyColumn], keys: &[Vec<String>]) -> Option<String> {
    if columns.is_empty() || keys.iter().any(|key| key.len() != columns.len()) {
        return None;
    }
    if columns.iter().all(|column| column.operator.is_none()) {
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        let (open, close) = if columns.len() > 1 { ("(", ")") } else { ("", "") };
        let keys: Vec<String> = keys.iter().map(|key| format!("{open}{}{close}", key.join(", "))).collect();
        return Some(format!("({}) IN ({})", names.join(", "), keys.join(", ")));
    }
    // IN finds no operator outside of pg_catalog
    let equal = |(column, value): (&lookup::KeyColumn, &String)| {
        let schema = column.operator.as_deref().unwrap_or("pg_catalog");
        format!("{} OPERATOR({schema}.=) {value}", column.name)
    };
    let one = |key: &Vec<String>| columns.iter().zip(key).map(equal).collect::<Vec<_>>().join(" AND ");
    Some(format!("({})", keys.iter().map(one).collect::<Vec<_>>().join(" OR ")))
}

impl Head {
    fn read(row: &[Option<String>]) -> Option<Self> {
        let cell = |index: usize| row.get(index)?.as_deref();
        Some(Self {
            snapshot: snapshot(cell(0)?)?,
            lsn: cell(1)?.parse().ok()?,
            now_us: cell(2)?.parse().ok()?,
            digest: cell(3).map(str::to_owned),
            named: cell(4).and_then(|oid| oid.parse().ok()),
            belongs: cell(5) == Some("t"),
            file: cell(6).and_then(|file| file.parse().ok()).unwrap_or(0),
            blocks: cell(7).and_then(|blocks| blocks.parse().ok()).unwrap_or(0),
        })
    }

    fn reading(self, server: &Server) -> Reading {
        let bound = reachable(self.lsn.0, server.wal_page, server.wal_segment);
        Reading {
            snapshot: self.snapshot,
            bound: Offset { file: 0, byte: bound },
            pos: Lsn(bound).to_string(),
            file: String::new(),
            now_us: self.now_us,
        }
    }
}

/// Where the last record before an insert position ends. The position is where the next record will begin, which on a new
/// page is behind the page's header (24 bytes; 40 on the first page of a file), where no record ends: then it is the
/// page's start.
fn reachable(insert: u64, page: u64, segment: u64) -> u64 {
    let first = insert.checked_rem(segment).is_some_and(|offset| offset < page);
    let header = if first { 40 } else { 24 };
    match insert.checked_rem(page) {
        Some(offset) if offset == header => insert - offset,
        _ => insert,
    }
}

/// Reads `xmin:xmax:xip,...`.
fn snapshot(text: &str) -> Option<Snapshot> {
    let mut parts = text.splitn(3, ':');
    let (xmin, xmax, list) = (parts.next()?, parts.next()?, parts.next()?);
    let mut running = Vec::new();
    for xid in list.split(',').filter(|xid| !xid.is_empty()) {
        running.push(xid.parse().ok()?);
    }
    running.sort_unstable();
    Some(Snapshot::Xids { xmin: xmin.parse().ok()?, xmax: xmax.parse().ok()?, running })
}

/// The planner's estimate, from the first line of an EXPLAIN.
fn estimated_rows(line: &str) -> Option<u64> {
    let (_, behind) = line.split_once(" rows=")?;
    behind.split(' ').next()?.parse().ok()
}

/// A snapshot, and all transactions in progress: it names those only that began before the last one that ended. Each holds a lock
/// on its id until it is visible to others, prepared ones too; a subtransaction's id among them does no harm.
const RUNNING: &str = "\
    SELECT pg_current_snapshot()::text, (SELECT string_agg(transactionid::text, ',') FROM pg_locks \
    WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock' AND granted)";

impl TableReader for PostgresReader {
    async fn plan(&mut self, target: &Target, ranges: usize) -> Result<Plan, ReadError> {
        self.end().await?;
        self.forget(target);
        let known = self.known(target).await?;
        let only = if known.partitioned { "" } else { "ONLY " };
        let condition = conditions(None, target.filter.as_deref(), known.published.as_deref());
        let explain = format!("EXPLAIN SELECT {} FROM {only}{}{condition}", known.columns, known.name);
        let blocks: u64 = known.leaves.iter().map(|leaf| u64::from(leaf.blocks)).sum();
        let mut plan = Plan {
            name: known.table.name.clone(),
            keyed: !known.table.key.is_empty(),
            rows_move: true,
            ranges: range::cut(known.leaves.iter().map(|leaf| (leaf.oid, leaf.file, leaf.blocks)), ranges)
                .iter()
                .map(Range::to_string)
                .collect(),
            rows: None,
            bytes: Some(known.leaves.iter().map(|leaf| leaf.bytes).sum()),
        };
        let table = known.name.clone();
        match self.link.query(&explain).await? {
            Ok(rows) => {
                let line = rows.first().and_then(|row| row.first()?.as_deref());
                plan.rows = if blocks == 0 { Some(0) } else { line.and_then(estimated_rows) };
                Ok(plan)
            }
            Err(error) if target.filter.is_some() && filter_is_wrong(&error) => Err(ReadError::Refused(format!(
                "{}: the filter of {table} can't be used: {error}; repair: correct the table's `filter`, a condition as \
                 behind WHERE, with names outside of pg_catalog qualified by their schema",
                self.peer
            ))),
            Err(error) => Err(self.explain(target, &error)),
        }
    }

    async fn snapshot(&mut self) -> Result<Snapshot, ReadError> {
        self.end().await?;
        let rows = self.link.query(RUNNING).await?;
        let rows =
            rows.map_err(|error: ServerError| error.explain(&self.peer, "looking at the transactions in progress"))?;
        let cell = |index: usize| rows.first().and_then(|row| row.get(index)?.as_deref());
        let found = cell(0).and_then(snapshot);
        let mut found = found.ok_or_else(|| self.link.broken("a snapshot that can't be read"))?;
        let locked: Vec<u64> = cell(1)
            .unwrap_or_default()
            .split(',')
            .filter_map(|xid| xid.parse().ok())
            .map(|xid| found.widen(xid))
            .collect();
        if let Snapshot::Xids { running, .. } = &mut found {
            running.extend(locked);
            running.sort_unstable();
            running.dedup();
        }
        Ok(found)
    }

    async fn begin(&mut self, target: &Target, what: What<'_>, rows: u64) -> Result<Reading, ReadError> {
        self.end().await?;
        let range = match what {
            What::Range(text) => Some(Range::parse(text).ok_or_else(|| {
                ReadError::Refused(format!(
                    "{}: {}.{}: the range `{}` of the checkpoint is not one of PostgreSQL's; repair: begin the \
                     table's backfill anew",
                    self.peer,
                    target.qualifier,
                    target.table,
                    text.chars().take(80).collect::<String>().escape_debug(),
                ))
            })?),
            _ => None,
        };
        for _ in 0..ATTEMPTS {
            let job = self.job(target, what, range, rows).await?;
            match self.start(target, job).await? {
                Begun::Reading(reading) => return Ok(reading),
                Begun::Rewritten => {
                    self.forget(target);
                    if range.is_some() {
                        // other readers have ranges of the old file too: only a new plan has all rows, and each once
                        return Err(ReadError::Moved(format!("{}.{} was rewritten", target.qualifier, target.table)));
                    }
                }
            }
        }
        Err(ReadError::Changed(format!("{}.{} is rewritten again and again", target.qualifier, target.table)))
    }

    async fn next(&mut self) -> Result<Option<Piece>, ReadError> {
        let Some(read) = &mut self.read else { return Ok(None) };
        match read.next(&mut self.link).await {
            Ok(piece) => Ok(piece),
            Err(Halt::Source(error)) => Err(error.into()),
            Err(Halt::Server(error)) => {
                let name = read.table.name.clone();
                self.read = None;
                self.link.roll_back().await?;
                let target =
                    Target { qualifier: name.qualifier().to_owned(), table: name.table.to_string(), filter: None };
                Err(self.explain(&target, &error))
            }
        }
    }

    async fn end(&mut self) -> Result<(), ReadError> {
        let Some(read) = self.read.take() else { return Ok(()) };
        self.learn(&read);
        // behind the rows that are still coming, if there are any
        self.link.send(1, |out| frontend::query("COMMIT", out)).await?;
        self.link.drain().await?;
        self.link.silence = SILENCE;
        Ok(())
    }
}

/// Whether the server refuses a statement for what stands in it.
fn filter_is_wrong(error: &ServerError) -> bool {
    ["22", "42", "0A"].iter().any(|class| error.code.starts_with(class)) && !error::ServerError::is_privilege(error)
}

#[cfg(test)]
mod tests;
