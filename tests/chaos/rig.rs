//! A source under fire: its database, its writers, its daemon, and the reader and the checker behind them.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::check::{self, Mode, Report};
use crate::reader::Reader;
use crate::support::daemon::{Builder, Daemon};
use crate::support::env;
use crate::support::eventually;
use crate::support::session::Address;
use crate::support::source::{Kind, PATIENCE, Source, wait_until_streaming};
use crate::workload::{self, Pace, TABLES, Truth};

/// What a rig is made of.
pub struct Setup {
    /// In messages and figures.
    pub name: String,
    /// The database.
    pub source: Source,
    /// How the daemon delivers.
    pub mode: Mode,
    /// Of the writers.
    pub seed: u64,
    /// How many these are, and the longest pause between two transactions of one.
    pub writers: (i64, Duration),
    /// Where the daemon finds the database.
    pub port: u16,
    /// Where the daemon finds Kafka, and where the reader does.
    pub brokers: (String, String),
    /// Rows that are there before, of the last writer; they are copied, if `more` says so.
    pub rows: i64,
    /// One topic for all tables: shows the order of commits across tables. Several show that they are committed together.
    pub one_topic: bool,
    /// More lines of YAML below `source:`, each with its two spaces in front.
    pub in_source: String,
    /// More lines of YAML below `sink:`.
    pub in_sink: String,
    /// More lines of YAML at the top level.
    pub more: String,
    /// Of the daemon.
    pub environment: Vec<(String, String)>,
}

impl Setup {
    /// A source of the shared servers, exactly once, with two writers.
    pub async fn of(kind: Kind, prefix: &str, seed: u64) -> Setup {
        Setup::with(Source::create(kind, prefix).await, prefix, seed)
    }

    /// The same with a database of any server.
    pub fn with(source: Source, name: &str, seed: u64) -> Setup {
        let port = source.port();
        Setup {
            name: format!("{} {name}", source.kind().name()),
            source,
            mode: Mode::ExactlyOnce,
            seed,
            writers: (2, Duration::from_millis(60)),
            port,
            brokers: (String::new(), String::new()),
            rows: 0,
            one_topic: false,
            in_source: String::new(),
            in_sink: String::new(),
            more: String::new(),
            environment: Vec::new(),
        }
    }

    /// The daemon's configuration.
    pub fn builder(&self) -> Builder {
        let Setup { source, port, in_source, in_sink, more, environment, .. } = self;
        let topic = if self.one_topic { "  topic: \"{name}.all\"\n" } else { "" };
        let backfill = if self.rows == 0 { "backfill: never\n" } else { "" };
        let delivery = if self.mode == Mode::ExactlyOnce { "exactly_once" } else { "at_least_once" };
        let brokers = if self.brokers.0.is_empty() { env().brokers() } else { &self.brokers.0 };
        let yaml = format!(
            "{}{in_source}sink:\n  type: kafka\n  brokers: \"{brokers}\"\n{topic}{in_sink}delivery: \
             {delivery}\n{backfill}{more}",
            source.yaml_at("*", *port)
        );
        let builder = Daemon::command().file("source.yaml", &yaml).args(&["run", "source.yaml"]);
        environment.iter().fold(builder, |builder, (name, value)| builder.env(name, value))
    }
}

/// It runs.
pub struct Rig {
    /// What it was made of.
    pub setup: Setup,
    /// The daemon at the moment.
    pub daemon: Daemon,
    /// Reads what it publishes.
    pub reader: Reader,
    /// Where the database is.
    pub address: Address,
    /// How fast the writers work.
    pub pace: Pace,
    writers: Vec<tokio::task::JoinHandle<Truth>>,
    truth: Truth,
    /// Where the log of the daemon's present process begins.
    pub mark: (usize, usize),
    /// The longest wait of [`Rig::progress`].
    pub longest: Duration,
}

impl Rig {
    /// Makes the tables, starts the daemon and, once it streams, the writers. Returns when the first events are out.
    pub async fn start(setup: Setup) -> Rig {
        workload::prepare(&setup.source).await;
        workload::populate(&setup.source, setup.writers.0, setup.rows).await;
        let mut daemon = setup.builder().spawn();
        wait_until_streaming(&mut daemon).await;
        let topics = if setup.one_topic {
            vec![format!("{}.all", setup.source.name())]
        } else {
            TABLES.iter().map(|table| setup.source.topic(table)).collect()
        };
        let brokers = if setup.brokers.1.is_empty() { env().brokers() } else { &setup.brokers.1 };
        let reader = Reader::start(brokers, topics, &TABLES, true);
        let truth = workload::begin(&setup.source, setup.writers.0).await;
        // a daemon that has no checkpoint yet begins where the server stands
        eventually(PATIENCE, &format!("{}: the first events", setup.name), || async {
            let (seen, expected) = (reader.distinct(), truth.count());
            if seen >= expected { Ok(()) } else { Err(format!("{seen} of {expected}")) }
        })
        .await;
        let (address, pace) = (Address::of(&setup.source), Pace::new(setup.writers.1));
        let writers = (1..=setup.writers.0)
            .map(|writer| {
                let rows = if writer == setup.writers.0 { setup.rows } else { 0 };
                workload::start(address.clone(), writer, rows, setup.seed, pace.clone())
            })
            .collect();
        Rig { setup, daemon, reader, address, pace, writers, truth, mark: (0, 0), longest: Duration::ZERO }
    }

    /// Waits until so many more events have come.
    pub async fn progress(&mut self, events: usize) {
        let (name, began, before) = (&self.setup.name, Instant::now(), self.reader.distinct());
        eventually(2 * PATIENCE, &format!("{name}: {events} more events than {before}"), || async {
            let now = self.reader.distinct();
            if now >= before + events { Ok(()) } else { Err((now, last_lines(&self.daemon))) }
        })
        .await;
        self.longest = self.longest.max(began.elapsed());
    }

    /// SIGKILL, and a new process.
    pub fn kill(&mut self) {
        self.daemon.assert_running(&self.setup.name);
        self.daemon.kill9();
        self.mark = self.daemon.mark();
        self.daemon.start();
    }

    /// The daemon stands still, as a paused machine does, and another one takes its place. Then it wakes up, and has to notice.
    pub async fn succeed(&mut self) {
        let name = self.setup.name.clone();
        self.daemon.assert_running(&name);
        // one that hasn't owned the source yet would be the successor itself when it wakes up
        let mark = self.mark;
        self.daemon.wait_for_log_since(mark, "streaming: ", PATIENCE).await;
        self.daemon.stop_signal();
        let mut old = std::mem::replace(&mut self.daemon, self.setup.builder().spawn());
        self.mark = (0, 0);
        wait_until_streaming(&mut self.daemon).await;
        self.progress(1).await;
        old.cont();
        // while kafka is out of reach it can't know; and after that its next try may be half a minute away
        let code = old.wait(3 * PATIENCE).await;
        // by the checkpoint's owner, or by the server of which both are replicas
        let noticed = ["taken over by another process", "took over the binlog stream"];
        assert!(code == 1 && noticed.iter().any(|why| old.logs().contains(why)), "{name}: {code}: {}", old.logs());
        self.progress(1).await;
    }

    /// Ends the writers, waits for what is missing, stops the daemon in good order and checks everything.
    pub async fn finish(mut self) -> Outcome {
        let name = self.setup.name.clone();
        self.pace.stop.store(true, Ordering::Relaxed);
        for writer in std::mem::take(&mut self.writers) {
            self.truth.add(writer.await.unwrap());
        }
        workload::read_clock(&self.address, &mut self.truth).await;
        // before it has got its bearings a SIGTERM ends it as it ends any process
        let mark = self.mark;
        self.daemon.wait_for_log_since(mark, "streaming: ", PATIENCE).await;
        let (began, expected, mark) = (Instant::now(), self.truth.count(), self.daemon.mark());
        // what is missing at the end of this is reported as lost
        while self.reader.distinct() < expected && began.elapsed() < PATIENCE {
            self.daemon.assert_running(&name);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let longest = self.longest.max(began.elapsed());
        // a copy has its own pace
        while self.reader.unseen(&self.truth.initial) > 0 && began.elapsed() < 3 * PATIENCE {
            self.daemon.assert_running(&name);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(self.daemon.shutdown(PATIENCE).await, 0, "{name}: {}", &self.daemon.stderr()[mark.1..]);
        let (seen, torn) = self.reader.finish().await;
        let mut report = check::check(&self.truth, &seen, &torn, self.setup.mode);
        check::compare_with_clock(&self.truth, &seen, &mut report);
        let mut session = self.address.connect_patiently().await;
        check::compare_with_tables(&mut session, &seen, &mut report).await;
        Outcome { name, report, truth: self.truth, longest }
    }
}

fn last_lines(daemon: &Daemon) -> String {
    let text = daemon.logs();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(3)..].join("\n")
}

/// What a source went through.
pub struct Outcome {
    /// Of the setup.
    pub name: String,
    /// What the checker found.
    pub report: Report,
    /// What was committed.
    pub truth: Truth,
    /// The longest wait for an event after a fault.
    pub longest: Duration,
}

impl Outcome {
    /// Prints the figures; fails if anything is wrong.
    pub fn print(&self, faults: &str) -> &Self {
        let Outcome { name, report, truth, longest } = self;
        println!(
            "{name}: {faults}, {} transactions ({} rolled back, {} looked up), {} events ({} of copies), {} repeated, {} lost, \
             {} reordered, longest recovery {:.1} s",
            truth.transactions,
            truth.rolled_back,
            truth.looked_up,
            report.events,
            report.copied,
            report.repeated,
            report.lost,
            report.reordered,
            longest.as_secs_f64()
        );
        self
    }

    /// Fails if anything is wrong.
    pub fn assert_right(&self) {
        self.report.assert_right(&self.name);
    }
}
