//! Tails a server and prints what it yields; for trials by hand.
//!
//! `dump mysql|mariadb HOST:PORT USER PASSWORD PATTERN[,PATTERN] [--tls MODE] [--ca FILE] [--from POSITION]
//! [--id SERVER_ID] [--count ROWS] [--decode] [--compare] [--timeout SECONDS]`; with `--count` it is silent and prints
//! the rate at the end; with `--compare` it prints only rows whose second and third columns differ (for character sets:
//! a column in the set beside the server's own conversion of it).
//!
//! `... --backfill DB.TABLE [--rows N] [--ranges N] [--filter SQL] [--again] [--pause MS] [--whole] [--silent]` reads
//! the table instead: planned, range after range, `N` rows a read; with `--again` each row also by its key, with `--pause` a
//! pause between reads, with `--whole` all in one read; with `--silent` it prints only the figures at the end.
//! `... --rows-of DB.TABLE` prints the rows of the stream in the same form, to be compared.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use rowcast_core::backfill::{ReadError, TableReader, Target, What};
use rowcast_core::{Batch, Begin, Bump, Change, Event, LogPosition, Position, Source, SourceStream, TableFilter};
use rowcast_mysql::{Compression, Flavor, Host, MysqlSource, Options, Servers, TlsMode, TlsOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [flavor, address, user, password, tables, flags @ ..] = args.as_slice() else {
        panic!("usage: dump mysql|mariadb HOST:PORT USER PASSWORD PATTERNS [flags]");
    };
    let flag = |name: &str| flags.iter().position(|arg| arg == name).and_then(|at| flags.get(at + 1));
    let (host, port) = address.split_once(':').unwrap();
    let flavor = if flavor == "mysql" { Flavor::Mysql } else { Flavor::MariaDb };
    let mode = match flag("--tls").map(String::as_str) {
        None | Some("prefer") => TlsMode::Prefer,
        Some("disable") => TlsMode::Disable,
        Some("require") => TlsMode::Require,
        Some("verify-ca") => TlsMode::VerifyCa,
        Some(_) => TlsMode::VerifyFull,
    };
    let source = MysqlSource::new(Options {
        name: "dump".to_owned(),
        flavor,
        servers: Servers::new(
            Host { name: host.to_owned(), port: port.parse().unwrap() },
            Vec::new(),
            Default::default(),
        ),
        user: user.clone(),
        password: password.clone().into(),
        tls: TlsOptions { mode, ca: flag("--ca").map(Into::into), ..TlsOptions::default() },
        server_public_key: None,
        cleartext_password: false,
        compression: Compression::None,
        tables: TableFilter::parse(&tables.split(',').collect::<Vec<_>>()).unwrap(),
        server_id: flag("--id").map_or(77_001, |id| id.parse().unwrap()),
        server_id_derived: false,
        connect_timeout: Duration::from_secs(5),
        read_timeout: Duration::from_secs(flag("--timeout").map_or(30, |s| s.parse().unwrap())),
        include_query: false,
        spill_folder: std::env::temp_dir(),
        spill_limit: 1 << 30,
        describe: false,
        ddl: false,
        start_at: None,
    });
    if let Some(table) = flag("--backfill") {
        backfill(&source, table, flags).await;
        return;
    }
    let kind = if flavor == Flavor::Mysql { "gtid" } else { "mariadb-gtid" };
    let resume = flag("--from").map(|text| Position::boundary(LogPosition::parse(kind, text).unwrap()));
    let opened = match source
        .open(resume.as_ref().map_or(Begin::Now, |position| Begin::At { position, identity: None, schemas: &[] }))
        .await
    {
        Ok(opened) => opened,
        Err(error) => {
            println!("{} {error}", if error.is_transient() { "transient:" } else { "definite:" });
            return;
        }
    };
    eprintln!("{:?}\nstart {}", opened.info, opened.start);
    let wanted: Option<u64> = flag("--count").map(|count| count.parse().unwrap());
    let decode = wanted.is_none() || flags.iter().any(|arg| arg == "--decode");
    let mut stream = opened.stream;
    let (mut rows, mut values, mut batches) = (0_u64, 0_u64, 0_u64);
    let mut began = None;
    let mut arena = Bump::new();
    loop {
        let batch = match stream.next().await {
            Ok(batch) => batch,
            Err(error) => {
                println!("{} {error}", if error.is_transient() { "transient:" } else { "definite:" });
                return;
            }
        };
        began.get_or_insert_with(Instant::now);
        batches += 1;
        for event in &batch.events {
            let Event::Change(change) = event else {
                if wanted.is_none() && flag("--rows-of").is_none() {
                    println!("{event:?}");
                }
                continue;
            };
            rows += 1;
            if let Some(wanted) = flag("--rows-of") {
                let table = batch.tables.get(change.table as usize).unwrap();
                if table.name.to_string() == *wanted {
                    print_row(&batch, *change, true);
                }
                continue;
            }
            if !decode {
                continue;
            }
            let table = batch.tables.get(change.table as usize).unwrap();
            if wanted.is_none() {
                println!("{:?} {} seq {} schema {:x}", change.op, table.name, change.seq, table.fingerprint);
            }
            for (side, image) in [("before", change.before), ("after", change.after)] {
                let Some(image) = image else { continue };
                let mut row = Vec::new();
                let result = table.decode(&batch.data, image, &arena, &mut row);
                if flags.iter().any(|arg| arg == "--compare") {
                    if row.get(1) != row.get(2) || result.is_err() {
                        println!("{} {:?} {:?}", table.name, row, result.err());
                    }
                    continue;
                }
                values += row.len() as u64;
                if wanted.is_some() {
                    result.unwrap();
                    continue;
                }
                println!("  {side}:");
                for (column, value) in table.columns.iter().zip(&row) {
                    let mut text = format!("{value:?}");
                    if text.len() > 300 {
                        text = format!("{}... {} bytes", text.chars().take(80).collect::<String>(), text.len());
                    }
                    println!(
                        "    {} {} ({}{}) = {text}",
                        column.name,
                        column.native,
                        column.ty.name(),
                        match column.nullable {
                            Some(true) => ", null",
                            _ => "",
                        }
                    );
                }
                if let Err(error) = result {
                    println!("    {error}");
                }
            }
            arena.reset();
        }
        if wanted.is_some_and(|wanted| rows >= wanted) {
            let took = began.unwrap().elapsed().as_secs_f64();
            println!(
                "{rows} rows, {values} values, {batches} batches in {took:.3} s: {:.0} rows/s",
                rows as f64 / took
            );
            stream.close().await;
            return;
        }
    }
}

/// One line with everything that stream and backfill must have in common.
fn print_row(batch: &Batch, change: Change, keys: bool) {
    let table = batch.tables.get(change.table as usize).unwrap();
    let (arena, mut row) = (Bump::new(), Vec::new());
    let image = change.after.or(change.before).unwrap();
    let result = table.decode(&batch.data, image, &arena, &mut row);
    let key = if keys { table.key_literals(&batch.data, &[image]) } else { None };
    let names: Vec<_> = table.columns.iter().map(|column| column.name.as_str()).collect();
    let short = |text: String| match text.char_indices().nth(300) {
        Some((at, _)) => format!("{}... {} bytes", text.get(..at).unwrap(), text.len()),
        None => text,
    };
    let cells: Vec<_> =
        names.iter().zip(&row).map(|(name, value)| format!("{name}={}", short(format!("{value:?}")))).collect();
    println!("{:x} {} | key {key:?} | {:?}", table.fingerprint, cells.join(" "), result.err());
}

async fn backfill(source: &MysqlSource, table: &str, flags: &[String]) {
    let flag = |name: &str| flags.iter().position(|arg| arg == name).and_then(|at| flags.get(at + 1));
    let has = |name: &str| flags.iter().any(|arg| arg == name);
    let (qualifier, table) = table.split_once('.').unwrap();
    let target = Target { qualifier: qualifier.to_owned(), table: table.to_owned(), filter: flag("--filter").cloned() };
    let mut reader = source.reader().await.unwrap();
    let ranges = flag("--ranges").map_or(4, |ranges| ranges.parse().unwrap());
    let per_read: u64 = flag("--rows").map_or(10_000, |rows| rows.parse().unwrap());
    let plan = match reader.plan(&target, ranges).await {
        Ok(plan) => plan,
        Err(error) => {
            println!("plan: {error:?}");
            return;
        }
    };
    eprintln!("{plan:#?}");
    let (began, mut rows, mut bytes, mut pieces, mut reads) = (Instant::now(), 0_u64, 0_u64, 0_u64, 0_u64);
    let (mut arena, mut values) = (Bump::new(), 0);
    let whole = has("--whole") || !plan.keyed;
    let parts = if whole { vec![None] } else { plan.ranges.into_iter().map(Some).collect() };
    let mut failures = 0;
    for part in parts {
        let mut rest = part;
        loop {
            let what = rest.as_deref().map_or(What::Whole, What::Range);
            let reading = match reader.begin(&target, what, per_read).await {
                Ok(reading) => reading,
                Err(error) => {
                    println!("begin {what:?}: {error:?}");
                    failures += 1;
                    if failures > 3 || !matches!(error, ReadError::Changed(_)) {
                        return;
                    }
                    continue;
                }
            };
            reads += 1;
            if reads == 1 {
                eprintln!("{reading:?}");
            }
            let mut keys = Vec::new();
            let mut expected = 1;
            loop {
                let piece = match reader.next().await {
                    Ok(Some(piece)) => piece,
                    Ok(None) => break,
                    Err(error) => {
                        println!("next: {error:?}");
                        return;
                    }
                };
                pieces += 1;
                rows += piece.rows;
                bytes += piece.batch.data.len() as u64;
                let mut row = Vec::new();
                for event in &piece.batch.events {
                    let Event::Change(change) = event else { panic!("{event:?}") };
                    assert_eq!(change.seq, expected);
                    expected += 1;
                    let table = piece.batch.tables.first().unwrap();
                    table.decode(&piece.batch.data, change.after.unwrap(), &arena, &mut row).unwrap();
                    values += row.len();
                    if !has("--silent") {
                        print_row(&piece.batch, *change, true);
                    }
                    if has("--again") {
                        keys.extend(table.key_literals(&piece.batch.data, &[change.after.unwrap()]));
                    }
                }
                arena.reset();
                rest = piece.rest;
            }
            reader.end().await.unwrap();
            if !keys.is_empty() {
                reader.begin(&target, What::Keys(&keys), 1).await.unwrap();
                let mut again = 0;
                while let Some(piece) = reader.next().await.unwrap() {
                    again += piece.rows;
                }
                reader.end().await.unwrap();
                assert_eq!(again, keys.len() as u64, "rows by key");
            }
            if rest.is_none() {
                break;
            }
            if let Some(pause) = flag("--pause") {
                eprintln!("{rest:?}");
                tokio::time::sleep(Duration::from_millis(pause.parse().unwrap())).await;
            }
        }
    }
    let took = began.elapsed().as_secs_f64();
    eprintln!(
        "{rows} rows, {values} values, {bytes} bytes, {pieces} pieces, {reads} reads in {took:.3} s: {:.0} rows/s",
        rows as f64 / took
    );
}
