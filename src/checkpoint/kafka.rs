//! The checkpoint in Kafka: the last committed record of a compacted topic with one partition.
//!
//! Reads the tail only, backwards in growing steps from the high watermark: a start doesn't grow with the topic's age.
//! Transaction markers and aborted records take offsets too, so the last record may lie some way before the end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;

use super::Checkpoint;
use crate::error::RunError;
use crate::route;
use crate::sink::kafka::reading::{self, Reader};
use crate::sink::kafka::{Background, KafkaSettings};

/// Offsets looked at first; eight times as many in each further step.
const FIRST_STEP: i64 = 32;
/// What is fetched ahead, in KiB, and by one fetch, in bytes: records are few.
const AHEAD: (u32, u32) = (1024, 262_144);
/// How long one reading may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Up to where committed records are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// What is committed now: an open transaction of somebody else isn't waited for.
    Committed,
    /// The end of the log as it is now: after fencing, everything before it is decided.
    HighWatermark,
}

/// The key of the record of settled tables.
pub fn tables_key(source: &str) -> String {
    format!("{source}/tables")
}

/// The key of a record of what is kept of the tables' columns.
pub fn schemas_key(source: &str, number: usize) -> String {
    format!("{source}/schemas/{number}")
}

/// The topic of a source's checkpoint.
pub fn topic(source: &str) -> String {
    format!("rowcast.checkpoint.{source}")
}

/// Reads the last committed checkpoint. Blocks.
///
/// # Errors
/// Transient if Kafka can't be reached; definite if the record is of another source, version or form.
pub fn read(settings: &KafkaSettings, until: Until) -> Result<Option<Checkpoint>, RunError> {
    let topic = topic(&settings.source);
    let refused = |error| refused(&topic, &error, &Background::of(settings));
    let (low, high) = match watermarks(settings, &topic) {
        Ok(found) => found,
        // the topic is gone: whoever takes over makes a new one first
        Err(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownPartition | RDKafkaErrorCode::UnknownTopic))
            if until == Until::Committed =>
        {
            return Ok(None);
        }
        Err(error) => return Err(refused(error)),
    };
    let consumer = consumer(settings, "read_committed").map_err(refused)?;
    if until == Until::HighWatermark {
        await_decided(&consumer, &topic, high)?;
    }
    let mut step = FIRST_STEP;
    loop {
        let from = high.saturating_sub(step).max(low);
        let found = last_records(&consumer, &settings.source, &topic, from)?;
        if (found.checkpoint.is_some() && found.tables.is_some() && found.has_schemas()) || from <= low {
            let place = format!("topic {topic}");
            let Some(bytes) = found.checkpoint else { return Ok(None) };
            let mut checkpoint = Checkpoint::from_bytes(&bytes, &settings.source, &place)?;
            if let Some(tables) = found.tables {
                checkpoint.take_tables(&tables, &place)?;
            }
            let count = Checkpoint::schema_records_of(&bytes);
            checkpoint.take_schemas(&found.schemas.into_values().take(count).collect::<Vec<_>>(), &place)?;
            return Ok(Some(checkpoint));
        }
        step = step.saturating_mul(8);
    }
}

/// Whether the source has ever committed events: its schema topic then holds a record.
///
/// # Errors
/// Transient if Kafka can't be reached.
pub fn has_streamed(settings: &KafkaSettings) -> Result<bool, RunError> {
    let topic = route::schema_topic(&settings.source);
    let refused = |error| crate::sink::kafka::failed(&format!("read topic {topic}"), &error, &Background::of(settings));
    let consumer = consumer(settings, "read_committed").map_err(refused)?;
    match consumer.fetch_metadata(Some(&topic), PATIENCE) {
        Ok(found) => match found.topics().first().and_then(|topic| topic.error()).map(RDKafkaErrorCode::from) {
            None => {}
            Some(RDKafkaErrorCode::UnknownTopicOrPartition) => return Ok(false),
            // what may not be looked at isn't taken for missing
            Some(code) => return Err(refused(KafkaError::MetadataFetch(code))),
        },
        Err(error) => return Err(refused(error)),
    }
    let mut assignment = TopicPartitionList::new();
    assignment
        .add_partition_offset(&topic, 0, Offset::Beginning)
        .and_then(|()| consumer.assign(&assignment))
        .map_err(refused)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(_)) => return Ok(true),
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(false),
            // as for the checkpoint: no group is joined
            Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::GroupAuthorizationFailed))) => {}
            Some(Err(error)) => return Err(refused(error)),
            None if Instant::now() >= deadline => return Err(failed(&topic, format!("no end after {PATIENCE:?}"))),
            None => {}
        }
    }
}

/// The checkpoint of a source that has streamed is gone.
pub fn lost(source: &str) -> RunError {
    let (topic, schemas) = (topic(source), route::schema_topic(source));
    RunError::gap(format!(
        "gap: topic {topic} holds no checkpoint of source `{source}`, but topic {schemas} says that it has streamed before: nobody \
         knows what was published last; repair: restore topic {topic}; or set `on_gap: backfill`, which copies all tables again; or, \
         for a source that is to begin like a new one, delete topic {schemas}"
    ))
}

fn consumer(settings: &KafkaSettings, isolation: &str) -> Result<Reader, KafkaError> {
    reading::reader(settings, isolation, AHEAD)
}

/// The end of the log, undecided records included: a read_committed client would be told the end of what is decided.
fn watermarks(settings: &KafkaSettings, topic: &str) -> Result<(i64, i64), KafkaError> {
    consumer(settings, "read_uncommitted")?.fetch_watermarks(topic, 0, PATIENCE)
}

/// Waits until all before `high` is decided.
fn await_decided(consumer: &Reader, topic: &str, high: i64) -> Result<(), RunError> {
    match reading::undecided(consumer, (topic, 0), high, PATIENCE) {
        Ok(None) => Ok(()),
        Ok(Some(decided)) => Err(failed(topic, format!("offset {decided} of {high} is decided after {PATIENCE:?}"))),
        Err(error) => Err(refused(topic, &error, consumer.context())),
    }
}

/// The last committed records of a source.
#[derive(Default)]
struct Found {
    checkpoint: Option<Vec<u8>>,
    tables: Option<Vec<u8>>,
    /// By number.
    schemas: BTreeMap<usize, Vec<u8>>,
}

impl Found {
    /// Whether all records of schemas are there that the checkpoint counts; those beyond are of an older one.
    fn has_schemas(&self) -> bool {
        let count = self.checkpoint.as_deref().map_or(0, Checkpoint::schema_records_of);
        (0..count).all(|number| self.schemas.contains_key(&number))
    }
}

/// The last committed records with our keys from offset `from` on.
fn last_records(consumer: &Reader, source: &str, topic: &str, from: i64) -> Result<Found, RunError> {
    let mut assignment = TopicPartitionList::new();
    assignment
        .add_partition_offset(topic, 0, Offset::Offset(from))
        .and_then(|()| consumer.assign(&assignment))
        .map_err(|error| failed(topic, error))?;
    let deadline = Instant::now() + PATIENCE;
    let (mut found, mut newest, tables) = (Found::default(), 0, tables_key(source));
    let schemas = format!("{source}/schemas/");
    loop {
        match consumer.poll(Duration::from_millis(100)) {
            None if Instant::now() >= deadline => return Err(failed(topic, format!("no end after {PATIENCE:?}"))),
            Some(Ok(message)) => {
                let value = message.payload().map(<[u8]>::to_vec);
                match message.key() {
                    Some(key) if key == source.as_bytes() => {
                        // one that was deleted, or that can't be read, is never passed over
                        let generation = value.as_deref().and_then(Checkpoint::generation_of);
                        if generation.is_none_or(|generation| generation >= newest) {
                            newest = generation.unwrap_or(newest);
                            found.checkpoint = value;
                        }
                    }
                    Some(key) if key == tables.as_bytes() => found.tables = value,
                    Some(key) if key.starts_with(schemas.as_bytes()) => {
                        let number = key.get(schemas.len()..).and_then(|text| std::str::from_utf8(text).ok());
                        if let (Some(Ok(number)), Some(value)) = (number.map(str::parse), value) {
                            found.schemas.insert(number, value);
                        }
                    }
                    _ => {}
                }
            }
            None => {}
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(found),
            // asked for since librdkafka has its own ways; no group is joined, and no right to one is needed
            Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::GroupAuthorizationFailed))) => {}
            Some(Err(error)) => return Err(refused(topic, &error, consumer.context())),
        }
    }
}

/// An error of Kafka: definite where only an operator can help.
fn refused(topic: &str, error: &KafkaError, context: &Background) -> RunError {
    crate::sink::kafka::failed(&format!("read the checkpoint from {topic}"), error, context)
}

fn failed(topic: &str, what: impl std::fmt::Display) -> RunError {
    RunError::transient(format!("kafka: can't read the checkpoint from {topic}: {what}"))
}
