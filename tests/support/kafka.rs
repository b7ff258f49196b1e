//! Topics: reading them to their end, listing, creating, deleting.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Headers, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use super::env::env;

const TIMEOUT: Duration = Duration::from_secs(30);

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Partition.
    pub partition: i32,
    /// Offset; in a transactional topic they have holes.
    pub offset: i64,
    /// Milliseconds since 1970.
    pub timestamp: Option<i64>,
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    /// The key as text.
    pub fn key_str(&self) -> &str {
        self.key.as_deref().map_or("", |key| std::str::from_utf8(key).unwrap())
    }

    /// The key as JSON; `Null` without one.
    pub fn key_json(&self) -> serde_json::Value {
        self.key.as_deref().map_or(serde_json::Value::Null, |key| serde_json::from_slice(key).unwrap())
    }

    /// The value as JSON; `Null` for a tombstone.
    pub fn json(&self) -> serde_json::Value {
        self.value.as_deref().map_or(serde_json::Value::Null, |value| serde_json::from_slice(value).unwrap())
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        value.as_deref().map(|value| std::str::from_utf8(value).unwrap())
    }
}

/// A topic's name that no other test uses.
pub fn unique_topic(prefix: &str) -> String {
    super::unique(prefix)
}

/// All committed messages of a topic on the shared broker, partition by partition, in order; none if it doesn't exist.
pub async fn read_committed(topic: &str) -> Vec<Record> {
    read(env().brokers(), topic, true).await
}

/// Messages of open and aborted transactions included.
pub async fn read_uncommitted(topic: &str) -> Vec<Record> {
    read(env().brokers(), topic, false).await
}

/// Reads a topic from its beginning to what is its end now (its last stable offset, if `committed`).
pub async fn read(brokers: &str, topic: &str, committed: bool) -> Vec<Record> {
    let (brokers, topic) = (brokers.to_owned(), topic.to_owned());
    tokio::task::spawn_blocking(move || read_blocking(&brokers, &topic, committed)).await.unwrap()
}

/// [`read`] for code outside a runtime.
pub fn read_blocking(brokers: &str, topic: &str, committed: bool) -> Vec<Record> {
    let consumer = consumer(brokers, committed);
    let partitions = partitions(&consumer, topic);
    read_partitions(&consumer, topic, partitions)
}

/// What is committed in some partitions of a topic.
pub async fn read_some(brokers: &str, topic: &str, partitions: Vec<i32>) -> Vec<Record> {
    let (brokers, topic) = (brokers.to_owned(), topic.to_owned());
    let read = move || read_partitions(&consumer(&brokers, true), &topic, partitions);
    tokio::task::spawn_blocking(read).await.unwrap()
}

fn read_partitions(consumer: &BaseConsumer, topic: &str, partitions: Vec<i32>) -> Vec<Record> {
    let mut list = TopicPartitionList::new();
    for &partition in &partitions {
        // nothing is deleted from the topics of tests; `Beginning` would be asked for partition by partition
        list.add_partition_offset(topic, partition, Offset::Offset(0)).unwrap();
    }
    consumer.assign(&list).unwrap();
    let mut open: HashSet<i32> = partitions.into_iter().collect();
    let (mut records, deadline) = (Vec::new(), Instant::now() + Duration::from_secs(120));
    while !open.is_empty() {
        assert!(
            Instant::now() < deadline,
            "the topic {topic} does not come to an end: partitions {open:?} after {} messages",
            records.len()
        );
        match consumer.poll(Duration::from_millis(500)) {
            None => {}
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                open.remove(&partition);
            }
            // a broker that was paused or is busy; it is asked again until the deadline
            Some(Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::OperationTimedOut,
            ))) => {}
            Some(Err(e)) => panic!("reading {topic}: {e}"),
            Some(Ok(message)) => {
                let headers = message.headers().map_or_else(Vec::new, |headers| {
                    headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
                });
                records.push(Record {
                    partition: message.partition(),
                    offset: message.offset(),
                    timestamp: message.timestamp().to_millis(),
                    key: message.key().map(<[u8]>::to_vec),
                    value: message.payload().map(<[u8]>::to_vec),
                    headers,
                });
            }
        }
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    records
}

/// The end of what is committed in a topic, over all partitions: grows with every transaction, and is cheap to ask for.
pub async fn committed_end(brokers: &str, topic: &str) -> i64 {
    committed_ends(brokers, topic).await.into_iter().sum()
}

/// The same, partition by partition; all are asked for in one request.
pub async fn committed_ends(brokers: &str, topic: &str) -> Vec<i64> {
    let (brokers, topic) = (brokers.to_owned(), topic.to_owned());
    let ask = move || {
        let consumer = consumer(&brokers, true);
        let mut list = TopicPartitionList::new();
        for partition in partitions(&consumer, &topic) {
            list.add_partition_offset(&topic, partition, Offset::End).unwrap();
        }
        if list.count() == 0 {
            return Vec::new();
        }
        // a time of -1, which this offset is, means the end
        let Ok(ends) = consumer.offsets_for_times(list, TIMEOUT) else { return Vec::new() };
        let mut ends: Vec<(i32, i64)> = ends
            .elements()
            .iter()
            .map(|end| (end.partition(), end.error().map_or(0, |()| end.offset().to_raw().unwrap_or(0).max(0))))
            .collect();
        ends.sort_unstable();
        ends.into_iter().map(|(_, end)| end).collect()
    };
    tokio::task::spawn_blocking(ask).await.unwrap()
}

fn consumer(brokers: &str, committed: bool) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "rowcast-tests")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", if committed { "read_committed" } else { "read_uncommitted" })
        .set("fetch.wait.max.ms", "50")
        .set("allow.auto.create.topics", "false")
        .create()
        .unwrap()
}

fn partitions(consumer: &BaseConsumer, topic: &str) -> Vec<i32> {
    use rdkafka::types::RDKafkaRespErr::{RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART};
    let deadline = Instant::now() + 2 * TIMEOUT;
    loop {
        let metadata = match consumer.fetch_metadata(Some(topic), TIMEOUT) {
            Ok(metadata) => metadata,
            Err(error) => {
                assert!(Instant::now() < deadline, "the partitions of {topic}: {error}");
                continue;
            }
        };
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Vec::new() };
        match found.error() {
            None => return found.partitions().iter().map(|partition| partition.id()).collect(),
            Some(RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART | RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC) => return Vec::new(),
            // a broker that is busy with the topic
            Some(error) => assert!(Instant::now() < deadline, "the partitions of {topic}: {error:?}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Partitions of a topic that have a leader.
pub async fn led_partitions(brokers: &str, topic: &str) -> u64 {
    let (brokers, topic) = (brokers.to_owned(), topic.to_owned());
    let ask = move || {
        let metadata = consumer(&brokers, true).fetch_metadata(Some(&topic), TIMEOUT).unwrap();
        let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
        partitions.filter(|partition| partition.leader() >= 0 && partition.error().is_none()).count() as u64
    };
    tokio::task::spawn_blocking(ask).await.unwrap()
}

/// Names of the shared broker's topics that start with `prefix`, sorted.
pub async fn topics(prefix: &str) -> Vec<String> {
    let prefix = prefix.to_owned();
    tokio::task::spawn_blocking(move || topics_of(env().brokers(), &prefix)).await.unwrap()
}

/// [`topics`] of any broker, for code outside a runtime.
pub fn topics_of(brokers: &str, prefix: &str) -> Vec<String> {
    let metadata = consumer(brokers, true).fetch_metadata(None, TIMEOUT).unwrap();
    let mut names: Vec<_> =
        metadata.topics().iter().map(|t| t.name().to_owned()).filter(|name| name.starts_with(prefix)).collect();
    names.sort();
    names
}

fn admin(brokers: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap()
}

/// Creates a topic on the shared broker, with settings such as `("cleanup.policy", "compact")`.
pub async fn create_topic(name: &str, partitions: i32, settings: &[(&str, &str)]) {
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    for (key, value) in settings {
        topic = topic.set(key, value);
    }
    // a busy broker counts as gone for a moment
    super::eventually_within(TIMEOUT, "a broker for the topic", || async {
        let results = admin(env().brokers()).create_topics([&topic], &AdminOptions::new()).await.unwrap();
        match results.into_iter().next().unwrap() {
            Ok(_) => true,
            Err((_, RDKafkaErrorCode::InvalidReplicationFactor)) => false,
            Err(error) => panic!("{error:?}"),
        }
    })
    .await;
    // The answer may come before every part of the broker knows the topic.
    super::eventually_within(TIMEOUT, "the new topic to be known", || async {
        topics(name).await.iter().any(|topic| topic == name)
    })
    .await;
}

/// Deletes topics of the shared broker; one that doesn't exist is no error.
pub async fn delete_topics(names: &[&str]) {
    for result in admin(env().brokers()).delete_topics(names, &AdminOptions::new()).await.unwrap() {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
            Err((name, e)) => panic!("deleting {name}: {e}"),
        }
    }
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    tokio::task::spawn_blocking(move || until_gone(&names)).await.unwrap();
}

/// The answer may come before every part of the broker knows that a topic is gone: what is produced until then is taken, and goes with it.
/// No failure if it stays: somebody may have made it again.
fn until_gone(names: &[String]) {
    use rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART as UNKNOWN;
    let consumer = consumer(env().brokers(), true);
    let deadline = Instant::now() + Duration::from_secs(2);
    for name in names {
        while Instant::now() < deadline {
            let metadata = consumer.fetch_metadata(Some(name), TIMEOUT).unwrap();
            if metadata.topics().iter().all(|topic| topic.error() == Some(UNKNOWN) || topic.partitions().is_empty()) {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Waits until so many messages of a topic are committed. The end of a transaction reaches each topic by itself: that it is seen in one
/// doesn't say that it is seen in the others.
pub async fn wait_for_records(topic: &str, count: usize) -> Vec<Record> {
    super::eventually(super::source::PATIENCE, &format!("{count} records of {topic}"), || async {
        let records = read_committed(topic).await;
        if records.len() >= count { Ok(records) } else { Err(records.len()) }
    })
    .await
}

/// Changes a setting of a topic of the shared broker.
pub async fn set_topic(name: &str, key: &str, value: &str) {
    use rdkafka::admin::{AlterConfig, ResourceSpecifier};
    let change = AlterConfig::new(ResourceSpecifier::Topic(name)).set(key, value);
    for result in admin(env().brokers()).alter_configs([&change], &AdminOptions::new()).await.unwrap() {
        result.unwrap();
    }
}

/// Bytes a second that the shared broker takes from a client by its id; without a number as many as it can.
pub async fn throttle(client: &str, rate: Option<u64>) {
    let client = client.to_owned();
    tokio::task::spawn_blocking(move || {
        let rate = rate.map(|rate| format!("producer_byte_rate={rate}"));
        let change = match &rate {
            Some(rate) => ["--add-config", rate.as_str()],
            None => ["--delete-config", "producer_byte_rate"],
        };
        let brokers = env().brokers();
        let start = ["--bootstrap-server", brokers, "--alter", "--entity-type", "clients", "--entity-name", &client];
        env().kafka_tool("kafka.admin.ConfigCommand", &[&start[..], &change].concat());
    })
    .await
    .unwrap();
}

/// Writes one record into partition 0 of a topic of the shared broker.
pub async fn produce(topic: &str, key: &str, value: &str) {
    let (topic, key, value) = (topic.to_owned(), key.to_owned(), value.to_owned());
    let sent = tokio::task::spawn_blocking(move || {
        let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", env().brokers()).create().unwrap();
        producer.send(BaseRecord::to(&topic).partition(0).key(&key).payload(&value)).unwrap();
        producer.flush(TIMEOUT).unwrap();
    });
    sent.await.unwrap();
}

/// Writes records into partitions of a topic of the shared broker, in order, and in a transaction if it is given an id. A record without a value is a
/// tombstone.
pub fn write(topic: &str, records: &[(i32, &str, Option<&str>)], transaction: Option<&str>) -> BaseProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", env().brokers());
    if let Some(id) = transaction {
        config.set("transactional.id", id);
    }
    let producer: BaseProducer = config.create().unwrap();
    if transaction.is_some() {
        // a busy broker's answer may be waited for again
        (0..4).find_map(|_| producer.init_transactions(TIMEOUT).ok()).unwrap();
        producer.begin_transaction().unwrap();
    }
    for (partition, key, value) in records {
        let record = BaseRecord::<str, str>::to(topic).partition(*partition).key(key);
        producer.send(if let Some(value) = value { record.payload(value) } else { record }).unwrap();
    }
    producer.flush(TIMEOUT).unwrap();
    producer
}
