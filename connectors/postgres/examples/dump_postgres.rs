//! Prints the changes of a database as they come, or counts them: a look at the source without the daemon.
//!
//! ```text
//! PGHOST=127.0.0.1 PGUSER=cdc PGPASSWORD=... PGDATABASE=shop cargo run -p rowcast-postgres --example dump_postgres -- 'public.*'
//! ```
//!
//! `BINARY=1` takes values in binary form where possible; `SLOT=name` uses a lasting slot and publication of that name (else a temporary one), `RESUME=0/16B3748` begins
//! there, `COUNT=n` prints nothing but the rate and ends after n changes, `TLS=require` and `CA=file` as in libpq,
//! `CONFIRM=1` confirms what was printed.
//!
//! `--backfill schema.table` reads the rows that are there instead: `RANGES=n` into how many ranges it is cut, `ROWS=n` how
//! many rows a read asks for, `WHOLE=1` reads it in one transaction, `FILTER=sql` which rows, `COUNT=1` prints the rate
//! only, `PAUSE=n` waits n seconds behind the first piece (the server is held back meanwhile).

use std::env::var;
use std::error::Error;
use std::time::{Duration, Instant};

use rowcast_core::backfill::{ReadError, Target, What};
use rowcast_core::{
    Batch, Begin, Bump, Change, Confirm, Event, LogPosition, Position, Source, SourceStream, TableFilter, TableReader,
    Value,
};
use rowcast_postgres::{Host, MessageFilter, Options, PostgresSource, Servers, TlsMode, TlsOptions};

fn setting(name: &str, default: &str) -> String {
    var(name).unwrap_or_else(|_| default.to_owned())
}

fn options() -> Result<Options, Box<dyn Error>> {
    let patterns: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--backfill").collect();
    let user = setting("PGUSER", "postgres");
    Ok(Options {
        name: "dump".to_owned(),
        servers: Servers::new(
            Host { name: setting("PGHOST", "127.0.0.1"), port: setting("PGPORT", "5432").parse()? },
            Vec::new(),
            Default::default(),
        ),
        database: setting("PGDATABASE", &user),
        user,
        password: setting("PGPASSWORD", "").into(),
        tls: TlsOptions {
            mode: match setting("TLS", "prefer").as_str() {
                "disable" => TlsMode::Disable,
                "require" => TlsMode::Require,
                "verify-ca" => TlsMode::VerifyCa,
                "verify-full" => TlsMode::VerifyFull,
                _ => TlsMode::Prefer,
            },
            ca: var("CA").ok().map(Into::into),
            cert: var("CERT").ok().map(Into::into),
            key: var("KEY").ok().map(Into::into),
            server_name: None,
        },
        tables: TableFilter::parse(&patterns)?,
        slot: setting("SLOT", "dump"),
        publication: setting("PUBLICATION", &setting("SLOT", "dump")),
        slot_in_use: Default::default(),
        known: Vec::new(),
        temporary: var("SLOT").is_err(),
        binary: var("BINARY").is_ok(),
        connect_timeout: Duration::from_secs(10),
        read_timeout: Duration::from_secs(setting("READ_TIMEOUT", "60").parse()?),
        messages: MessageFilter::All,
        local_only: false,
        two_phase: false,
        spill_folder: std::env::temp_dir(),
        spill_limit: 1 << 30,
        describe: false,
        start_at: None,
    })
}

/// A value, short: long text by its length.
fn short(value: &Value<'_>) -> String {
    let text = format!("{value:?}");
    if text.len() <= 300 {
        text
    } else {
        format!("{}... ({} bytes)", text.chars().take(60).collect::<String>(), text.len())
    }
}

fn print(batch: &Batch, change: &Change, arena: &mut Bump) -> Result<(), Box<dyn Error>> {
    let Some(table) = batch.tables.get(change.table as usize) else { return Ok(()) };
    println!("  {} {:?} {} fp {:x}", change.seq, change.op, table.name, table.fingerprint);
    for (what, image) in [("before", change.before), ("after", change.after)] {
        let Some(image) = image else { continue };
        arena.reset();
        let mut row = Vec::new();
        table.decode(&batch.data, image, arena, &mut row)?;
        for (column, value) in table.columns.iter().zip(&row) {
            println!("    {what} {} [{} {:?}] = {}", column.name, column.native, column.ty, short(value));
        }
    }
    println!("    key {:?}", table.key_columns().map(|column| &column.name).collect::<Vec<_>>());
    Ok(())
}

/// Reads a table, all ranges one after the other.
async fn backfill(source: &PostgresSource) -> Result<(), Box<dyn Error>> {
    let name = std::env::args().next_back().unwrap_or_default();
    let (qualifier, table) = name.split_once('.').ok_or("--backfill schema.table")?;
    let target = Target { qualifier: qualifier.to_owned(), table: table.to_owned(), filter: var("FILTER").ok() };
    let wrong = |error: ReadError| format!("{error:?}");
    let mut reader = source.reader().await?;
    let plan = reader.plan(&target, setting("RANGES", "16").parse()?).await.map_err(wrong)?;
    eprintln!("{plan:?}");
    let (quiet, rows) = (var("COUNT").is_ok(), setting("ROWS", "50000").parse()?);
    let (mut count, mut bytes, mut reads, mut pieces) = (0, 0, 0_u64, 0_u64);
    let (began, mut arena) = (Instant::now(), Bump::new());
    let mut pause: Option<u64> = Some(setting("PAUSE", "0").parse()?);
    let ranges = if var("WHOLE").is_ok() { vec![None] } else { plan.ranges.into_iter().map(Some).collect() };
    for mut range in ranges {
        loop {
            let what = range.as_deref().map_or(What::Whole, What::Range);
            let reading = reader.begin(&target, what, rows).await.map_err(wrong)?;
            reads += 1;
            if !quiet {
                println!("{what:?}: {reading:?}");
            }
            let mut rest = None;
            while let Some(piece) = reader.next().await.map_err(wrong)? {
                count += piece.rows;
                bytes += piece.batch.data.len();
                pieces += 1;
                for event in &piece.batch.events {
                    if let (false, Event::Change(change)) = (quiet, event) {
                        print(&piece.batch, change, &mut arena)?;
                    }
                }
                rest = piece.rest;
                tokio::time::sleep(Duration::from_secs(pause.take().unwrap_or(0))).await;
            }
            reader.end().await.map_err(wrong)?;
            match rest {
                Some(rest) => range = Some(rest),
                None => break,
            }
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let rate = count as f64 / seconds;
    println!("{count} rows, {bytes} bytes, {pieces} pieces, {reads} reads, {seconds:.2} s, {rate:.0}/s");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let source = PostgresSource::new(options()?)?;
    if std::env::args().any(|argument| argument == "--backfill") {
        return backfill(&source).await;
    }
    let resume = match var("RESUME") {
        Ok(text) => Some(Position::boundary(LogPosition::parse("lsn", &text)?)),
        Err(_) => None,
    };
    let limit: u64 = setting("COUNT", "0").parse()?;
    let mut opened = source
        .open(resume.as_ref().map_or(Begin::Now, |position| Begin::At { position, identity: None, schemas: &[] }))
        .await?;
    eprintln!("{:?} from {}", opened.info, opened.start);
    let (mut position, mut count, mut bytes, mut batches) = (opened.start.clone(), 0_u64, 0_usize, 0_u64);
    let mut began = None;
    let mut arena = Bump::new();
    loop {
        let batch = tokio::select! {
            batch = opened.stream.next() => match batch {
                Ok(batch) => batch,
                Err(error) => {
                    eprintln!("{error}");
                    break;
                }
            },
            _ = tokio::signal::ctrl_c() => break,
        };
        batches += 1;
        bytes += batch.data.len();
        for event in &batch.events {
            match event {
                Event::Commit(mark, _) => position.advance(mark)?,
                Event::Heartbeat(at, _) => position = at.clone(),
                Event::Change(_) => {
                    began.get_or_insert_with(Instant::now);
                    count += 1;
                }
                _ => {}
            }
            if limit > 0 {
                continue;
            }
            match event {
                Event::Change(change) => print(&batch, change, &mut arena)?,
                Event::Message(message) => println!(
                    "  {} message {} {}",
                    message.seq,
                    String::from_utf8_lossy(batch.bytes(message.prefix)),
                    String::from_utf8_lossy(batch.bytes(message.content)),
                ),
                other => println!("{other:?}"),
            }
        }
        if var("CONFIRM").is_ok() {
            opened.confirm.confirm(&position);
        }
        if limit > 0 && count >= limit {
            let seconds = began.map_or(0.0, |began| began.elapsed().as_secs_f64());
            println!(
                "{count} changes, {bytes} bytes, {batches} batches, {seconds:.2} s, {:.0}/s",
                count as f64 / seconds
            );
            break;
        }
    }
    eprintln!("ends at {position}");
    opened.stream.close().await;
    Ok(())
}
