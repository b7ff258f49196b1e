//! Tails a server and prints what it yields; for trials by hand.
//!
//! `dump mysql|mariadb HOST:PORT USER PASSWORD PATTERN[,PATTERN] [--tls MODE] [--ca FILE] [--from POSITION]
//! [--id SERVER_ID] [--count ROWS] [--decode] [--compare] [--timeout SECONDS]`; with `--count` it is silent and prints
//! the rate at the end; with `--compare` it prints only rows whose second and third columns differ (for character sets:
//! a column in the set beside the server's own conversion of it).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use rowcast_core::{Bump, Event, LogPosition, Position, Source, SourceStream, TableFilter};
use rowcast_mysql::{Flavor, MysqlSource, Options, TlsMode, TlsOptions};

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
        host: host.to_owned(),
        port: port.parse().unwrap(),
        user: user.clone(),
        password: password.clone().into(),
        tls: TlsOptions { mode, ca: flag("--ca").map(Into::into), ..TlsOptions::default() },
        tables: TableFilter::parse(&tables.split(',').collect::<Vec<_>>()).unwrap(),
        server_id: flag("--id").map_or(77_001, |id| id.parse().unwrap()),
        connect_timeout: Duration::from_secs(5),
        read_timeout: Duration::from_secs(flag("--timeout").map_or(30, |s| s.parse().unwrap())),
    });
    let kind = if flavor == Flavor::Mysql { "gtid" } else { "mariadb-gtid" };
    let resume = flag("--from").map(|text| Position::boundary(LogPosition::parse(kind, text).unwrap()));
    let opened = match source.open(resume.as_ref()).await {
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
                if wanted.is_none() {
                    println!("{event:?}");
                }
                continue;
            };
            rows += 1;
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
