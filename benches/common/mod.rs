//! What the benchmarks share: the table and its rows, processes and what they cost, a table of figures.

// each benchmark uses a part of it
#![allow(dead_code)]

#[path = "../../tests/support/mod.rs"]
pub mod support;

pub mod latency;
pub mod stream;

use std::io::{Read, Seek};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::source::Source;

/// Rows of one transaction of [`fill`].
pub const PER_TRANSACTION: u64 = 100;
/// How long anything may take.
pub const LIMIT: Duration = Duration::from_secs(600);

/// The table's ten columns.
pub const COLUMNS: &str = "id bigint primary key, customer int not null, status varchar(20), total decimal(12,2), \
    created timestamp, paid boolean, body varchar(200), weight double precision, day date, doc json";

/// What one process did and cost.
pub struct Figure {
    /// Which.
    pub what: String,
    /// Seconds.
    pub wall: f64,
    /// Seconds.
    pub cpu: f64,
    /// Peak.
    pub rss_mb: f64,
    /// The last column.
    pub extra: Option<String>,
}

/// What the command line asks for: names of databases (none: all) and a number of rows.
pub struct Wanted {
    names: Vec<String>,
    /// Rows of the table.
    pub rows: u64,
}

impl Wanted {
    /// Reads the process' arguments.
    pub fn read() -> Wanted {
        let arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
        let (numbers, names): (Vec<_>, Vec<_>) = arguments.partition(|argument| argument.parse::<u64>().is_ok());
        let rows = numbers.first().map_or(1_000_000, |number| number.parse().unwrap());
        Wanted { names, rows }
    }

    /// Whether it is asked for.
    pub fn includes(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|wanted| wanted == name)
    }
}

/// Prints figures; their ratios are to the first of them.
pub fn report(title: &str, extra: &str, reference: &str, rows: u64, figures: &[Figure]) {
    println!("\n{title}");
    println!("{:<32}{:>9}{:>12}{:>8}{:>12}{:>10}{:>12}", "", "wall s", "rows/s", "ratio", "CPU s/M", "RSS MB", extra);
    for figure in figures {
        println!(
            "{:<32}{:>9.2}{:>12.0}{:>8.2}{:>12.2}{:>10.1}{:>12}",
            figure.what,
            figure.wall,
            rows as f64 / figure.wall,
            figures[0].wall / figure.wall,
            figure.cpu / (rows as f64 / 1e6),
            figure.rss_mb,
            figure.extra.as_deref().unwrap_or("-"),
        );
    }
    println!("ratio: rows/s as a multiple of {reference}'s in the same run");
}

/// Writes rows into an empty table of these columns, in transactions of [`PER_TRANSACTION`].
pub async fn fill(source: &Source, table: &str, rows: u64) {
    println!("{}: writing {rows} rows", source.kind().name());
    match source {
        Source::Postgres(db) => {
            db.exec(&format!(
                "do $$ begin for t in 0..{} loop insert into {table} select n, n % 1000, 'status-' || n % 7, n / 100.0, \
                 timestamp '2026-11-22 10:00:00' + n * interval '1 ms', n % 2 = 0, \
                 md5(n::text) || md5((n + 1)::text) || 'tail', \
                 n / 7.0, date '2026-01-01' + (n % 300)::int, json_build_object('n', n, 'tag', 't' || n % 10) \
                 from generate_series(t * {PER_TRANSACTION}::bigint, t * {PER_TRANSACTION} + {PER_TRANSACTION} - 1) n; \
                 commit; end loop; end $$",
                (rows / PER_TRANSACTION).saturating_sub(1)
            ))
            .await;
        }
        Source::Mysql(db) => {
            let mut writer = db.connect().await;
            for transaction in 0..rows / PER_TRANSACTION {
                let first = transaction * PER_TRANSACTION;
                let values: Vec<String> = (first..first + PER_TRANSACTION).map(mysql_row).collect();
                let sql = format!("insert into {table} values {}", values.join(","));
                support::mysql::exec(&mut writer, &sql).await;
            }
        }
    }
}

/// Values of one row of [`COLUMNS`].
pub fn mysql_row(n: u64) -> String {
    format!(
        "({n},{},'status-{}',{}.{:02},'2026-11-22 10:00:00' + interval {} second,{},'{:032x}{:032x}tail',{}/7e0,\
         '2026-01-01' + interval {} day,'{{\"n\": {n}, \"tag\": \"t{}\"}}')",
        n % 1000,
        n % 7,
        n / 100,
        n % 100,
        n / 1000,
        n % 2,
        n * 0x9E37_79B9,
        n,
        n,
        n % 300,
        n % 10
    )
}

/// What a process has cost so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    /// Seconds.
    pub cpu: f64,
    /// Peak.
    pub rss_mb: f64,
    /// It has ended; nobody has waited for it yet.
    pub ended: bool,
}

/// Reads what a process has cost; of one that has ended its CPU time is known, its memory isn't.
pub fn cost(pid: i32) -> Cost {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let stat = read("stat");
    // field 3 is the state, 14 and 15 are clock ticks of 10 ms; the name in field 2 may hold blanks
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let cpu = (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0;
    let status = read("status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next());
    Cost { cpu, rss_mb: peak.map_or(0.0, |kb| kb.parse::<f64>().unwrap() / 1024.0), ended: fields[0] == "Z" }
}

/// Watches a child until it ends; it is still to be waited for. The wall's resolution is that of the watching: 5 ms.
pub fn watch(what: &str, begun: Instant, pid: i32) -> Figure {
    let mut rss_mb = 0_f64;
    loop {
        let now = cost(pid);
        rss_mb = rss_mb.max(now.rss_mb);
        let wall = begun.elapsed().as_secs_f64();
        if now.ended {
            return Figure { what: what.to_owned(), wall, cpu: now.cpu, rss_mb, extra: None };
        }
        assert!(begun.elapsed() < LIMIT, "{what} has not ended in {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a tool to its end; what it says goes to /dev/null.
pub fn run(command: &mut Command, what: &str) -> Figure {
    let mut errors = tempfile::tempfile().unwrap();
    let begun = Instant::now();
    let mut child = command.stdout(Stdio::null()).stderr(errors.try_clone().unwrap()).spawn().unwrap();
    let figure = watch(what, begun, child.id().try_into().unwrap());
    let status = child.wait().unwrap();
    let mut text = String::new();
    errors.rewind().unwrap();
    errors.read_to_string(&mut text).unwrap();
    assert!(status.success(), "{what}: {text}");
    figure
}
