//! An independent reader: tails a source's topics while everything else breaks, and knows nothing of the daemon but the
//! envelope's documented members.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value as Json;

use crate::support::{eventually, kafka};

/// A row as an event shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Key.
    pub id: i64,
    /// Version of the key.
    pub version: u64,
    /// Who wrote it.
    pub writer: i64,
    /// The writer's transaction.
    pub txn: u64,
    /// Which of the transaction's rows in this table.
    pub n: u64,
    /// How many these are.
    pub rows_of: u64,
    /// The rest.
    pub pad: String,
}

/// An event.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Number of the table in the list that the reader was given.
    pub table: usize,
    /// Partition.
    pub partition: i32,
    /// `c`, `u`, `d` or `r`.
    pub op: char,
    /// `id` of the event.
    pub id: String,
    /// Of all bytes of key and value.
    pub digest: u64,
    /// What it says: `before` of a delete, else `after`.
    pub row: Image,
}

#[derive(Default)]
struct Shared {
    /// Events in the order in which each topic's reader met them.
    seen: Mutex<Vec<Seen>>,
    ids: Mutex<HashSet<String>>,
    /// Of these, changes: all but rows that were read.
    changes: AtomicU64,
    keys: Mutex<HashSet<(usize, i64)>>,
    events: AtomicU64,
    /// Transactions of which only a part was visible at some moment.
    torn: Mutex<Vec<String>>,
    failure: Mutex<Option<String>>,
    stop: AtomicBool,
}

/// A reader, in threads of its own, one per topic: the end of a partition is reported without the topic's name.
pub struct Reader {
    brokers: String,
    topics: Vec<String>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Reader {
    /// Reads topics from their beginning, as soon as they exist, for events of these tables.
    pub fn start(brokers: &str, topics: Vec<String>, tables: &[&str], committed: bool) -> Reader {
        let shared = Arc::new(Shared::default());
        let tables: Vec<String> = tables.iter().map(|table| (*table).to_owned()).collect();
        let run = |topic: &String| {
            let (of, brokers) = (Arc::clone(&shared), brokers.to_owned());
            let (topic, tables) = (topic.clone(), tables.clone());
            std::thread::spawn(move || {
                if let Err(error) = tail(&brokers, &topic, &tables, committed, &of) {
                    *of.failure.lock().unwrap() = Some(format!("{topic}: {error}"));
                }
            })
        };
        let threads = topics.iter().map(run).collect();
        Reader { brokers: brokers.to_owned(), topics, shared, threads }
    }

    /// Changes with distinct ids so far.
    pub fn distinct(&self) -> usize {
        if let Some(error) = &*self.shared.failure.lock().unwrap() {
            panic!("the reader failed: {error}");
        }
        self.shared.changes.load(Ordering::Relaxed) as usize
    }

    /// How many of these keys (table and row) no event has been about.
    pub fn unseen<'a>(&self, keys: impl IntoIterator<Item = &'a (usize, i64)>) -> usize {
        let seen = self.shared.keys.lock().unwrap();
        keys.into_iter().filter(|key| !seen.contains(key)).count()
    }

    /// Events so far.
    pub fn events(&self) -> u64 {
        self.shared.events.load(Ordering::Relaxed)
    }

    /// Waits until all that is there now has been read, as counted by another reading of the topics, and returns it, with
    /// what was seen of torn transactions. To be called when nobody writes any more.
    pub async fn finish(mut self) -> (Vec<Seen>, Vec<String>) {
        let mut there = 0;
        for topic in &self.topics {
            let records = kafka::read(&self.brokers, topic, true).await;
            there += records.iter().filter(|record| record.value.is_some()).count() as u64;
        }
        eventually(Duration::from_secs(60), "all events that are in the topics", || async {
            self.distinct();
            if self.events() == there { Ok(()) } else { Err((self.events(), there)) }
        })
        .await;
        self.end();
        let seen = std::mem::take(&mut *self.shared.seen.lock().unwrap());
        let torn = std::mem::take(&mut *self.shared.torn.lock().unwrap());
        (seen, torn)
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.end();
    }
}

/// Transactions of which not all rows of a table have come: by partition, table, writer and number; rows, and of how many.
type Open = HashMap<(i32, usize, i64, u64), (u64, u64)>;

/// A consumer that has heard nothing for so long is made anew, where it was: one that lives through a broker's death may fetch no
/// more, or from somewhere else.
const SILENCE: Duration = Duration::from_secs(15);

/// What is read next, by partition.
type Next = HashMap<i32, Offset>;

fn consumer(brokers: &str, committed: bool) -> Result<BaseConsumer, String> {
    ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "rowcast-chaos")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", if committed { "read_committed" } else { "read_uncommitted" })
        // an offset that the broker doesn't know for a moment must not be taken for the end
        .set("auto.offset.reset", "error")
        .set("fetch.wait.max.ms", "100")
        .set("reconnect.backoff.max.ms", "1000")
        .set("allow.auto.create.topics", "false")
        .create()
        .map_err(|error| error.to_string())
}

fn tail(brokers: &str, topic: &str, tables: &[String], committed: bool, shared: &Shared) -> Result<(), String> {
    let (mut next, mut open) = (Next::new(), Open::new());
    while !shared.stop.load(Ordering::Relaxed) {
        let consumer = consumer(brokers, committed)?;
        if next.is_empty() {
            discover(&consumer, topic, &mut next);
        } else {
            assign(&consumer, topic, &next);
        }
        let mut heard = Instant::now();
        while !shared.stop.load(Ordering::Relaxed) && heard.elapsed() < SILENCE && !next.is_empty() {
            match consumer.poll(Duration::from_millis(100)) {
                None => {}
                // the end of what is decided: a reader of committed records now sees whole transactions only
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    let parts: Vec<_> = open.iter().filter(|(key, _)| key.0 == partition).collect();
                    let mut torn = shared.torn.lock().unwrap();
                    if committed && !parts.is_empty() && torn.len() < 10 {
                        torn.push(format!("{topic}: (partition, table, writer, transaction), (rows, of): {parts:?}"));
                    }
                }
                // the broker may be down: that is what these tests do to it
                Some(Err(_)) => {}
                Some(Ok(message)) => {
                    heard = Instant::now();
                    next.insert(message.partition(), Offset::Offset(message.offset() + 1));
                    let Some(value) = message.payload() else { continue };
                    let key = message.key().unwrap_or_default();
                    take_in(parse(tables, message.partition(), key, value)?, &mut open, shared);
                }
            }
        }
    }
    Ok(())
}

fn take_in(seen: Seen, open: &mut Open, shared: &Shared) {
    shared.keys.lock().unwrap().insert((seen.table, seen.row.id));
    if shared.ids.lock().unwrap().insert(seen.id.clone()) {
        track(open, &seen);
        shared.changes.fetch_add(u64::from(seen.op != 'r'), Ordering::Relaxed);
    }
    shared.seen.lock().unwrap().push(seen);
    shared.events.fetch_add(1, Ordering::Relaxed);
}

/// Notes that a row of a transaction has come.
fn track(open: &mut Open, seen: &Seen) {
    if seen.op == 'd' || seen.op == 'r' || seen.row.writer < 0 {
        return;
    }
    let key = (seen.partition, seen.table, seen.row.writer, seen.row.txn);
    let rows = open.entry(key).or_insert((0, seen.row.rows_of));
    rows.0 += 1;
    if rows.0 >= rows.1 {
        open.remove(&key);
    }
}

/// Assigns the partitions, once the topic is there.
fn discover(consumer: &BaseConsumer, topic: &str, next: &mut Next) {
    let Ok(metadata) = consumer.fetch_metadata(Some(topic), Duration::from_secs(5)) else { return };
    let found = metadata.topics().iter().filter(|found| found.name() == topic && found.error().is_none());
    next.extend(found.flat_map(|found| found.partitions()).map(|partition| (partition.id(), Offset::Beginning)));
    if next.is_empty() {
        std::thread::sleep(Duration::from_millis(200));
    } else {
        assign(consumer, topic, next);
    }
}

fn assign(consumer: &BaseConsumer, topic: &str, next: &Next) {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in next {
        list.add_partition_offset(topic, *partition, *offset).unwrap();
    }
    consumer.assign(&list).unwrap();
}

fn parse(tables: &[String], partition: i32, key: &[u8], value: &[u8]) -> Result<Seen, String> {
    let text = || format!("{} = {}", String::from_utf8_lossy(key), String::from_utf8_lossy(value));
    let event: Json = serde_json::from_slice(value).map_err(|error| format!("{error}: {}", text()))?;
    let op = event["op"].as_str().and_then(|op| op.chars().next()).ok_or_else(text)?;
    let row = if op == 'd' { &event["before"] } else { &event["after"] };
    let table = tables.iter().position(|table| event["source"]["table"] == **table).ok_or_else(text)?;
    let number = |name: &str| row[name].as_i64().ok_or_else(text);
    let image = Image {
        id: number("id")?,
        version: number("version")? as u64,
        writer: number("writer")?,
        txn: number("txn")? as u64,
        n: number("n")? as u64,
        rows_of: number("rows_of")? as u64,
        pad: row["pad"].as_str().ok_or_else(text)?.to_owned(),
    };
    let of_key: Json = serde_json::from_slice(key).map_err(|error| format!("{error}: {}", text()))?;
    if of_key["id"].as_i64() != Some(image.id) {
        return Err(format!("a key that isn't the row's: {}", text()));
    }
    let mut hasher = DefaultHasher::new();
    (key, value).hash(&mut hasher);
    let id = event["id"].as_str().ok_or_else(text)?.to_owned();
    Ok(Seen { table, partition, op, id, digest: hasher.finish(), row: image })
}
