//! How old events are when a reader of committed records has them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::LIMIT;
use super::support::env;
use super::support::source::Writer;

/// What is measured before this is warm-up.
pub const WARM_UP: Duration = Duration::from_secs(3);

/// Runs statements for so long, one behind the other with this pause between their beginnings; the number of rows. `statement` makes the next
/// one, with the number of its rows, from the next row's number.
pub async fn write(
    writer: &mut Writer,
    next: &mut u64,
    time: Duration,
    pause: Duration,
    statement: impl Fn(u64) -> (u64, String),
) -> u64 {
    let (begun, first) = (Instant::now(), *next);
    let mut due = begun;
    while begun.elapsed() < time {
        let (rows, sql) = statement(*next);
        *next += rows;
        writer.run(&sql).await;
        due += pause;
        let wait = due.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
    *next - first
}

/// When each event came, and how old it was, in µs.
pub type Reading = std::thread::JoinHandle<Vec<(Instant, u64)>>;
/// Tells a reader to end, and how many events it has.
pub type Told = Arc<(AtomicBool, AtomicU64)>;

/// Reads partition 0 of a topic from its end on, until told to end. Behind the last `field` of an event is a time in µs since 1970.
pub fn reader(topic: &str, field: &'static [u8]) -> (Told, Reading) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", env().brokers())
        .set("group.id", "latency")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "100")
        .create()
        .unwrap();
    let (_, high) = consumer.fetch_watermarks(topic, 0, LIMIT).unwrap();
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, 0, Offset::Offset(high)).unwrap();
    consumer.assign(&assignment).unwrap();
    let stop = Told::default();
    let told = Arc::clone(&stop);
    let thread = std::thread::spawn(move || {
        let mut ages = Vec::new();
        while !told.0.load(Ordering::Relaxed) {
            let Some(Ok(message)) = consumer.poll(Duration::from_millis(20)) else { continue };
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
            let value = message.payload().unwrap();
            let place = value.windows(field.len()).rposition(|window| window == field).unwrap() + field.len();
            let digits: Vec<u8> = value[place..].iter().copied().take_while(u8::is_ascii_digit).collect();
            let written: u64 = String::from_utf8(digits).unwrap().parse().unwrap();
            ages.push((Instant::now(), now.saturating_sub(written)));
            told.1.fetch_add(1, Ordering::Relaxed);
        }
        ages
    });
    (stop, thread)
}

/// Waits for all events; the ages of those behind the warm-up.
pub async fn drained(stop: Told, reading: Reading, rows: u64, begun: Instant) -> Vec<u64> {
    let deadline = Instant::now() + LIMIT;
    while stop.1.load(Ordering::Relaxed) < rows {
        assert!(Instant::now() < deadline, "{} of {rows} events", stop.1.load(Ordering::Relaxed));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.0.store(true, Ordering::Relaxed);
    let ages = reading.join().unwrap();
    ages.into_iter().filter(|(at, _)| *at >= begun + WARM_UP).map(|(_, age)| age).collect()
}
