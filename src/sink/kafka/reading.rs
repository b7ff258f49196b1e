//! What readers of a topic's state have in common: their settings, and how they wait for what isn't decided yet.
//!
//! Partitions are assigned by hand: no group is joined, and nothing is kept in the cluster.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;

use super::client::{Background, KafkaSettings};

/// How often it is asked how far the log is decided.
const AGAIN: Duration = Duration::from_millis(20);

/// A consumer for one reading.
pub(crate) type Reader = BaseConsumer<Background>;

/// Makes one. `ahead`: KiB that it fetches ahead, and bytes of one fetch.
///
/// # Errors
/// librdkafka's about a property.
pub(crate) fn reader(settings: &KafkaSettings, isolation: &str, ahead: (u32, u32)) -> Result<Reader, KafkaError> {
    let mut config = settings.base();
    config
        // librdkafka wants one to assign partitions
        .set("group.id", format!("rowcast.{}", settings.source))
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", isolation)
        .set("auto.offset.reset", "earliest")
        .set("fetch.wait.max.ms", "50")
        .set("queued.max.messages.kbytes", ahead.0.to_string())
        .set("fetch.message.max.bytes", ahead.1.to_string());
    settings.shared_properties(&mut config);
    config.create_with_context(Background::of(settings))
}

/// Waits until all before `high` is decided; none then, or the offset up to which it is when `patience` is over. A read_committed client is told
/// the end of what is decided as the watermark.
///
/// # Errors
/// librdkafka's about the request.
pub(crate) fn undecided(
    consumer: &Reader,
    (topic, partition): (&str, i32),
    high: i64,
    patience: Duration,
) -> Result<Option<i64>, KafkaError> {
    let deadline = Instant::now() + patience;
    loop {
        match consumer.fetch_watermarks(topic, partition, patience)?.1 {
            decided if decided >= high => return Ok(None),
            decided if Instant::now() >= deadline => return Ok(Some(decided)),
            _ => std::thread::sleep(AGAIN),
        }
    }
}
