//! The newest committed record of each key of a topic, as a compacted topic is kept for it: others' state, read once and aside from any source.
//!
//! Guarantees: everything that was written before the call counts, also what was in a transaction then, which is waited for; a key that stands in
//! several partitions counts by its latest record. Partitions are assigned, no group is joined and nothing is kept in the cluster. Memory is
//! bounded by 64 MiB of keys and values and what librdkafka fetches ahead; beyond that it is an error, as is a broker that is silent for 30 seconds.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode as Code;

use super::client::{Background, KafkaSettings, answers, failed};
use super::reading::{self, Reader};
use crate::error::RunError;

/// How long brokers may take for the first answer.
const FIRST_ANSWER: Duration = Duration::from_secs(10);
/// How long a broker may take for any other one, and transactions of others for their end.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one call waits for a record.
const SLICE: Duration = Duration::from_millis(100);
/// What is fetched ahead, in KiB, and by one fetch, in bytes.
const AHEAD: (u32, u32) = (8192, 524_288);
/// Bytes of keys and values that are kept.
const MOST: usize = 64 << 20;
/// What a key takes beside its bytes.
const OVERHEAD: usize = 128;

/// A key and its value; none if it was removed.
pub type Entry = (Vec<u8>, Option<Vec<u8>>);

/// The newest record of each key that is wanted, sorted by key. Blocks.
///
/// # Errors
/// Kafka can't be reached or refuses; there is no such topic; more is wanted than memory is for.
pub fn read(settings: &KafkaSettings, topic: &str, wanted: impl Fn(&[u8]) -> bool) -> Result<Vec<Entry>, RunError> {
    let consumer = reader(settings, "read_committed")?;
    answers(consumer.client(), || drop(consumer.poll(Duration::ZERO)), &settings.brokers, FIRST_ANSWER)?;
    let partitions = partitions(&consumer, topic)?;
    let refused = |error: &KafkaError| refused(topic, error, consumer.context());
    // the end of the log, with what isn't decided yet
    let whole = reader(settings, "read_uncommitted")?;
    let mut open = BTreeMap::new();
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        let (low, high) = whole.fetch_watermarks(topic, partition, PATIENCE).map_err(|error| refused(&error))?;
        if low < high {
            open.insert(partition, high);
            list.add_partition_offset(topic, partition, Offset::Offset(low)).map_err(|error| refused(&error))?;
        }
    }
    drop(whole);
    for (partition, high) in &open {
        await_decided(&consumer, topic, *partition, *high)?;
    }
    consumer.assign(&list).map_err(|error| refused(&error))?;
    let mut newest = Newest::default();
    let mut heard = Instant::now();
    while !open.is_empty() {
        match consumer.poll(SLICE) {
            None if heard.elapsed() >= PATIENCE => {
                let what = format!("{} partitions have no end after {PATIENCE:?} without a record", open.len());
                return Err(RunError::transient(format!("kafka: can't read topic {topic}: {what}")));
            }
            None => continue,
            Some(Ok(message)) => {
                let place =
                    Place { partition: message.partition(), millis: message.timestamp().to_millis().unwrap_or(0) };
                if let Some(key) = message.key().filter(|key| wanted(key)) {
                    newest.note(key, message.payload(), place).map_err(|()| too_much(topic))?;
                }
                if open.get(&place.partition).is_some_and(|end| message.offset() + 1 >= *end) {
                    open.remove(&place.partition);
                }
            }
            // markers and aborted records take the last offsets, so that the end may come without a record
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(open.remove(&partition)),
            // no group is joined, and no right to one is needed
            Some(Err(KafkaError::MessageConsumption(Code::GroupAuthorizationFailed))) => continue,
            Some(Err(error)) => return Err(refused(&error)),
        }
        heard = Instant::now();
    }
    Ok(newest.entries())
}

fn reader(settings: &KafkaSettings, isolation: &str) -> Result<Reader, RunError> {
    reading::reader(settings, isolation, AHEAD).map_err(|error| match error {
        // the words and the name, never the value
        KafkaError::ClientConfig(_, what, key, _) => {
            RunError::definite(format!("kafka property `{key}`: {what}; repair: `sink.properties`"))
        }
        other => RunError::definite(format!("can't make a kafka client: {other}; repair: `sink.properties`")),
    })
}

/// The partitions of a topic that is there.
fn partitions(consumer: &Reader, topic: &str) -> Result<Vec<i32>, RunError> {
    let asked = consumer.fetch_metadata(Some(topic), PATIENCE);
    let metadata = asked.map_err(|error| refused(topic, &error, consumer.context()))?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        return Err(no_topic(consumer, topic));
    };
    match found.error().map(Code::from) {
        None => Ok(found.partitions().iter().map(|partition| partition.id()).collect()),
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
            Err(no_topic(consumer, topic))
        }
        Some(code) => Err(refused(topic, &KafkaError::MetadataFetch(code), consumer.context())),
    }
}

/// There is no such topic; those whose names have a word of it are named.
fn no_topic(consumer: &Reader, topic: &str) -> RunError {
    const SHOWN: usize = 8;
    let words: Vec<&str> = topic.split(['-', '_', '.']).filter(|word| word.len() > 2).collect();
    let near = |name: &str| !name.starts_with("__") && words.iter().any(|word| name.contains(word));
    let all = consumer.fetch_metadata(None, PATIENCE);
    let mut names: Vec<String> =
        all.iter().flat_map(|all| all.topics()).map(|it| it.name().to_owned()).filter(|name| near(name)).collect();
    names.sort();
    names.truncate(SHOWN);
    let there = if names.is_empty() {
        "none there has a name like it".to_owned()
    } else {
        format!("there are {}", names.join(", "))
    };
    RunError::definite(format!("kafka: there is no topic {topic}; {there}"))
}

/// Waits until all before `high` is decided: a record of ours may stand behind the open transaction of somebody else.
fn await_decided(consumer: &Reader, topic: &str, partition: i32, high: i64) -> Result<(), RunError> {
    match reading::undecided(consumer, (topic, partition), high, PATIENCE) {
        Ok(None) => Ok(()),
        Ok(Some(decided)) => Err(RunError::transient(format!(
            "kafka: can't read topic {topic}: partition {partition} ends at offset {high}, and after {PATIENCE:?} there is still an open \
             transaction at {decided}; repair: try again when it has ended"
        ))),
        Err(error) => Err(refused(topic, &error, consumer.context())),
    }
}

fn too_much(topic: &str) -> RunError {
    RunError::definite(format!("kafka: topic {topic} holds more than {} MiB for different keys", MOST >> 20))
}

fn refused(topic: &str, error: &KafkaError, context: &Background) -> RunError {
    let denied = matches!(
        error,
        KafkaError::MetadataFetch(Code::TopicAuthorizationFailed)
            | KafkaError::MessageConsumption(Code::TopicAuthorizationFailed)
    );
    match denied {
        true => RunError::definite(format!(
            "kafka: the user may not read topic {topic}; repair: grant the user Read and Describe on it"
        )),
        false => failed(&format!("read topic {topic}"), error, context),
    }
}

/// Where and when a record was written.
#[derive(Debug, Clone, Copy)]
struct Place {
    partition: i32,
    millis: i64,
}

/// The records that count so far.
#[derive(Debug, Default)]
struct Newest {
    records: HashMap<Vec<u8>, (Place, Option<Vec<u8>>)>,
    bytes: usize,
}

impl Newest {
    /// Takes in a record, in the order of its partition.
    fn note(&mut self, key: &[u8], value: Option<&[u8]>, place: Place) -> Result<(), ()> {
        let size = |value: Option<&[u8]>| value.map_or(0, <[u8]>::len);
        match self.records.get_mut(key) {
            // written before partitions were added
            Some((known, _)) if known.partition != place.partition && known.millis > place.millis => return Ok(()),
            Some((known, old)) => {
                self.bytes = self.bytes - size(old.as_deref()) + size(value);
                (*known, *old) = (place, value.map(<[u8]>::to_vec));
            }
            None => {
                self.bytes += key.len() + size(value) + OVERHEAD;
                self.records.insert(key.to_vec(), (place, value.map(<[u8]>::to_vec)));
            }
        }
        if self.bytes > MOST { Err(()) } else { Ok(()) }
    }

    fn entries(self) -> Vec<Entry> {
        let mut all: Vec<Entry> = self.records.into_iter().map(|(key, (_, value))| (key, value)).collect();
        all.sort();
        all
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_last_record_of_a_partition_counts_and_the_latest_of_several() {
        let mut newest = Newest::default();
        let at = |partition, millis| Place { partition, millis };
        newest.note(b"a", Some(b"1"), at(0, 50)).unwrap();
        // a clock that went back
        newest.note(b"a", Some(b"2"), at(0, 40)).unwrap();
        newest.note(b"a", Some(b"old"), at(3, 10)).unwrap();
        newest.note(b"b", Some(b"old"), at(1, 10)).unwrap();
        newest.note(b"b", None, at(0, 20)).unwrap();
        let text = |text: &[u8]| Some(text.to_vec());
        assert_eq!(newest.entries(), [(b"a".to_vec(), text(b"2")), (b"b".to_vec(), None)]);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut newest = Newest::default();
        let place = Place { partition: 0, millis: 0 };
        let large = vec![0; 1 << 20];
        // the same key again and again takes its room once
        for _ in 0..200 {
            newest.note(b"a", Some(&large), place).unwrap();
        }
        let kept = (0_u32..).take_while(|it| newest.note(&it.to_le_bytes(), Some(&large), place).is_ok()).count();
        assert!(kept == 62, "{kept}");
    }
}
