//! Everything at once: six sources in both modes, each copying a table while it streams; one hand kills and replaces their
//! daemons, another breaks the databases, the broker and the network between them. All choices come from the seed; when each
//! of them takes effect does not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::{JoinSet, block_in_place};

use crate::check::Mode;
use crate::rig::{Outcome, Rig, Setup};
use crate::support::Servers;
use crate::support::proxy::{END_TXN, End, Flow, Lose, Proxy, Rules};
use crate::support::source::{Kind, Source};

/// How often each fault was made.
type Counts = BTreeMap<&'static str, u32>;

/// What the sources have in common.
struct World {
    servers: Servers,
    databases: Vec<(Kind, Proxy)>,
    kafka: Proxy,
}

fn between(random: &mut StdRng, from: u64, to: u64) -> Duration {
    Duration::from_millis(random.random_range(from..to))
}

fn end(random: &mut StdRng) -> End {
    if random.random_bool(0.5) { End::Rst } else { End::Fin }
}

impl World {
    fn start() -> World {
        let kafka = Proxy::kafka();
        let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.server()).chain(["kafka"]).collect();
        let port = kafka.port().to_string();
        let servers = block_in_place(|| Servers::private_with(&names, &[("ROWCAST_KAFKA_PROXY", &port)]));
        kafka.retarget(servers.var("KAFKA_PROXIED_PORT").parse().unwrap());
        let databases = vec![
            (Kind::Postgres, Proxy::to(servers.pg_port())),
            (Kind::Mysql, Proxy::to(servers.mysql_port())),
            (Kind::Mariadb, Proxy::to(servers.mariadb_port())),
        ];
        World { servers, databases, kafka }
    }

    fn hang(&self, server: &str, signal: Signal) {
        kill(Pid::from_raw(self.servers.pid(server)), signal).unwrap();
    }

    /// One fault, from its beginning to its end.
    async fn fault(&self, random: &mut StdRng) -> &'static str {
        let (kind, database) = &self.databases[random.random_range(0..self.databases.len())];
        let of_kafka = random.random_bool(0.5);
        let (proxy, server) = if of_kafka { (&self.kafka, "kafka") } else { (database, kind.server()) };
        match random.random_range(0..16) {
            0..4 => {
                proxy.cut(end(random));
                "connections cut"
            }
            4..6 => {
                let most = random.random_range(1..20_000);
                let way = if random.random_bool(0.5) {
                    crate::support::proxy::Way::Up
                } else {
                    crate::support::proxy::Way::Down
                };
                proxy.set(Rules { cut_after: Some((way, most, end(random))), ..Rules::PASS });
                proxy.cut(end(random));
                tokio::time::sleep(between(random, 500, 3_000)).await;
                proxy.pass();
                "connections cut again and again"
            }
            6..8 => {
                let up = if random.random_bool(0.6) { Flow::Stall } else { Flow::Pass };
                let down = if up == Flow::Pass || random.random_bool(0.6) { Flow::Stall } else { Flow::Pass };
                proxy.set(Rules { up, down, ..Rules::PASS });
                tokio::time::sleep(between(random, 500, 8_000)).await;
                proxy.pass();
                "network stalls"
            }
            8 => {
                proxy.set(Rules { up: Flow::Slow(100_000), down: Flow::Slow(100_000), ..Rules::PASS });
                tokio::time::sleep(between(random, 500, 4_000)).await;
                proxy.pass();
                "slow networks"
            }
            9..12 => {
                let lose = if random.random_bool(0.5) { Lose::Answer } else { Lose::Request };
                let refuse = random.random_bool(0.3);
                let count = self.kafka.lose(END_TXN, lose, refuse);
                // if all daemons are busy with something else, it stays set until one commits
                let _ = tokio::time::timeout(Duration::from_secs(5), self.kafka.caught(count, Duration::from_secs(60)))
                    .await;
                if refuse {
                    tokio::time::sleep(between(random, 100, 2_000)).await;
                }
                self.kafka.lose_nothing();
                "commits without an answer"
            }
            12 => {
                block_in_place(|| {
                    self.servers.kill(server);
                    self.servers.start(server);
                });
                if of_kafka { "brokers killed" } else { "databases killed" }
            }
            13 => {
                block_in_place(|| self.servers.restart(server));
                if of_kafka { "brokers restarted" } else { "databases restarted" }
            }
            _ => {
                self.hang(server, Signal::SIGSTOP);
                tokio::time::sleep(between(random, 200, 6_000)).await;
                self.hang(server, Signal::SIGCONT);
                if of_kafka { "brokers paused" } else { "databases paused" }
            }
        }
    }
}

/// The hand on one daemon.
async fn kills(mut rig: Rig, seed: u64, stop: Arc<AtomicBool>) -> (Rig, Counts) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut counts = Counts::new();
    while !stop.load(Ordering::Relaxed) {
        match random.random_range(0..20) {
            0 => {
                rig.succeed().await;
                *counts.entry("daemons replaced").or_default() += 1;
            }
            1..3 => {
                rig.progress(1).await;
                rig.kill();
                *counts.entry("daemons killed").or_default() += 1;
            }
            _ => {
                tokio::time::sleep(between(&mut random, 50, 8_000)).await;
                rig.kill();
                *counts.entry("daemons killed").or_default() += 1;
            }
        }
    }
    (rig, counts)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_reordered_whatever_breaks_and_copies_come_to_their_end() {
    let _alone = crate::ALONE.lock().await;
    let (seed, seconds) = (crate::seed(), crate::setting("ROWCAST_CHAOS_SECONDS", 120));
    let world = World::start();
    let brokers = (format!("127.0.0.1:{}", world.kafka.port()), world.servers.brokers().to_owned());
    let mut setups = Vec::new();
    for (kind, proxy) in &world.databases {
        for mode in [Mode::ExactlyOnce, Mode::AtLeastOnce] {
            let source = Source::create_on(&world.servers, *kind, "chaos").await;
            setups.push(Setup {
                name: format!("{} {mode:?}", kind.name()),
                mode,
                seed: seed.wrapping_add(setups.len() as u64),
                port: proxy.port(),
                brokers: brokers.clone(),
                rows: 2_000,
                writers: (2, Duration::from_millis(150)),
                in_source: "  connect_timeout: 3s\n  read_timeout: 3s\n".to_owned(),
                more: "backfill: { rows_per_second: 200, chunk_rows: 150 }\n".to_owned(),
                ..Setup::with(source, "", seed)
            });
        }
    }
    let mut starting = JoinSet::new();
    setups.into_iter().for_each(|setup| drop(starting.spawn(Rig::start(setup))));
    let rigs = starting.join_all().await;

    let stop = Arc::new(AtomicBool::new(false));
    let mut hands = JoinSet::new();
    for rig in rigs {
        let seed = rig.setup.seed;
        hands.spawn(kills(rig, seed, Arc::clone(&stop)));
    }
    let (began, mut random, mut counts) = (Instant::now(), StdRng::seed_from_u64(seed), Counts::new());
    while began.elapsed() < Duration::from_secs(seconds) {
        let fault = world.fault(&mut random).await;
        *counts.entry(fault).or_default() += 1;
        tokio::time::sleep(between(&mut random, 0, 2_000)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut outcomes = Vec::new();
    let mut finishing = JoinSet::new();
    for (rig, of_rig) in hands.join_all().await {
        for (fault, count) in of_rig {
            *counts.entry(fault).or_default() += count;
        }
        finishing.spawn(rig.finish());
    }
    outcomes.extend(finishing.join_all().await);
    let faults: Vec<String> = counts.iter().map(|(fault, count)| format!("{count} {fault}")).collect();
    println!("{seconds} s of chaos: {}", faults.join(", "));
    for outcome in &outcomes {
        outcome.print("chaos");
    }
    outcomes.iter().for_each(Outcome::assert_right);
}
