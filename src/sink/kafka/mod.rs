//! The Kafka sink: exactly once by Kafka transactions, or at least once.
//!
//! # Exactly once
//!
//! Invariants, each kept at the place named:
//!
//! 1. *Fence, then read.* `open` first takes over the source's `transactional.id` (`init_transactions` aborts what an older
//!    producer left open and makes its next request fail), and only then reads the checkpoint. What is read is final.
//! 2. *Claim.* The new owner writes the checkpoint again under its own name at once. An older process that wakes up reads
//!    this name before it takes the `transactional.id` back ([`KafkaSettings::open`]), and stops.
//! 3. *One transaction.* Events and the checkpoint that lies behind them are in the same transaction ([`Sink::commit`]); the
//!    checkpoint is the last record sent. A reader of committed records sees both or none.
//! 4. *No failed record is committed.* The transaction is committed only when nothing is in flight and no delivery failed.
//! 5. *Doubt is resolved by reading.* After any error the producer is dropped, and the next run starts at 1: if a commit's
//!    outcome was unknown, the checkpoint that is read says which it was.
//!
//! # Time
//!
//! rdkafka's `flush`, on which its `commit_transaction` relies, polls in slices of 100 ms, and its `poll` spins through the last
//! millisecond of any time-out. So we flush by librdkafka's own call ([`client::flush`]), which wakes up the moment that
//! nothing is in flight, and commit only then. A flush overrides `linger.ms`, which may therefore be long: librdkafka's
//! threads spin through the last millisecond of it too.

mod client;
mod topics;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;

pub use client::{Background, KafkaSettings, check_properties};

use super::{OpenSink, OpenedSink, Sink};
use crate::checkpoint::{Checkpoint, kafka as checkpoints};
use crate::error::RunError;
use crate::format::json::ENVELOPE_VERSION;
use crate::pipeline::{Encoded, Record};
use client::{failed, is_fenced};
use topics::{TopicKind, Topics};

/// How long one request that takes over or commits may take before the run is started anew.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a flush waits before failed deliveries are looked at; it returns at once when all is delivered.
const FLUSH_SLICE: Duration = Duration::from_millis(50);
/// Commits after which the list of settled tables is written again, so that a start finds it near the topic's end.
const TABLES_AGAIN: u32 = 2_000;
/// Pause while librdkafka's queue is full.
const FULL_QUEUE: Duration = Duration::from_millis(2);

impl OpenSink for KafkaSettings {
    fn open(&mut self) -> Result<OpenedSink, RunError> {
        let producer = client::producer(self)?;
        client::reach(&producer, &self.brokers)?;
        if self.owned_before.load(Ordering::Relaxed) {
            // invariant 2: asked before fencing, so that a process that was replaced doesn't fence its successor
            let current = checkpoints::read(self, checkpoints::Until::Committed)?;
            if let Some(current) = current.filter(|current| current.owner != self.owner) {
                return Err(RunError::definite(format!(
                    "source `{}` was taken over by another process (instance {}); this one ({}) stops and publishes nothing more",
                    self.source, current.owner, self.owner
                )));
            }
        }
        let topic = checkpoints::topic(&self.source);
        let mut topics = Topics::new(self)?;
        topics.ensure(&topic, TopicKind::Checkpoint)?;
        let mut sink = KafkaSink {
            producer,
            settings: self.clone(),
            checkpoint_topic: topic,
            topics,
            headers: HashMap::new(),
            in_transaction: false,
            since_tables: 0,
        };
        if self.transactional {
            sink.producer
                .init_transactions(PATIENCE)
                .map_err(|error| sink.doing("take over the transactional id", &error))?;
        }
        let checkpoint = checkpoints::read(self, checkpoints::Until::HighWatermark)?;
        let claim = match &checkpoint {
            Some(found) => Checkpoint { owner: self.owner.clone(), ..found.clone() },
            None => Checkpoint::claim(&self.source, &self.owner),
        };
        sink.commit(&claim, true)?;
        self.owned_before.store(true, Ordering::Relaxed);
        Ok(OpenedSink { sink: Box::new(sink), checkpoint })
    }
}

struct KafkaSink {
    producer: BaseProducer<Background>,
    settings: KafkaSettings,
    checkpoint_topic: String,
    topics: Topics,
    /// The headers of a table version, copied by librdkafka per record.
    headers: HashMap<String, OwnedHeaders>,
    in_transaction: bool,
    /// Commits since the list of settled tables was written.
    since_tables: u32,
}

impl KafkaSink {
    fn doing(&self, what: &str, error: &KafkaError) -> RunError {
        let fenced =
            is_fenced(error) || self.producer.client().fatal_error().is_some_and(|(code, _)| client::fenced(code));
        if fenced {
            // the next opening reads who it was
            return RunError::fenced(format!(
                "kafka: fenced: a later producer took the transactional id of source `{}`",
                self.settings.source
            ));
        }
        failed(what, error, self.producer.context())
    }

    fn begin(&mut self) -> Result<(), RunError> {
        if self.settings.transactional && !self.in_transaction {
            self.producer.begin_transaction().map_err(|error| self.doing("begin a transaction", &error))?;
            self.in_transaction = true;
        }
        Ok(())
    }

    fn send(
        &self,
        topic: &str,
        partition: Option<i32>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: Option<OwnedHeaders>,
    ) -> Result<(), RunError> {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic);
        record.partition = partition;
        record.key = key;
        record.payload = value;
        record.headers = headers;
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    // this is where a slow Kafka holds back the source; the producer bounds the wait by the messages' time-out
                    self.producer.poll(Duration::ZERO);
                    std::thread::sleep(FULL_QUEUE);
                    self.check_deliveries()?;
                    record = back;
                }
                Err((error, _)) => return Err(self.doing(&format!("send to topic {topic}"), &error)),
            }
        }
    }

    /// Invariant 4: one failed record fails the run.
    fn check_deliveries(&self) -> Result<(), RunError> {
        match self.producer.context().failure() {
            Some((topic, error)) => Err(self.doing(&format!("deliver to topic {topic}"), &error)),
            None => Ok(()),
        }
    }

    fn all_partitions(&self, topic: &str) -> Result<Vec<i32>, RunError> {
        let metadata = self
            .producer
            .client()
            .fetch_metadata(Some(topic), PATIENCE)
            .map_err(|error| self.doing(&format!("ask for the partitions of topic {topic}"), &error))?;
        Ok(metadata.topics().iter().flat_map(|topic| topic.partitions()).map(|partition| partition.id()).collect())
    }

    fn stage_record(&self, encoded: &Encoded, record: &Record) -> Result<(), RunError> {
        let Some(destination) = encoded.destinations.get(record.destination as usize) else {
            return Err(RunError::definite("a record without a destination: a defect of the encoder"));
        };
        let bytes = |range: &Option<Range<usize>>| range.clone().and_then(|range| encoded.buf.get(range));
        let (key, value) = (bytes(&record.key), bytes(&record.value));
        let schema = destination.table.as_ref().map_or("", |(_, fingerprint)| fingerprint.as_str());
        let headers = || self.headers.get(schema).cloned();
        if !record.to_all_partitions {
            return self.send(&destination.topic, None, key, value, headers());
        }
        for partition in self.all_partitions(&destination.topic)? {
            self.send(&destination.topic, Some(partition), key, value, headers())?;
        }
        Ok(())
    }

    /// Makes sure that the topics of a batch exist and their headers are prepared.
    fn prepare(&mut self, encoded: &Encoded, records: &[Record]) -> Result<(), RunError> {
        let mut previous = None;
        for record in records {
            // runs of the same table are the rule
            if previous.replace(record.destination) == Some(record.destination) {
                continue;
            }
            let Some(destination) = encoded.destinations.get(record.destination as usize) else { continue };
            self.topics.ensure(&destination.topic, TopicKind::Events)?;
            let schema = destination.table.as_ref().map_or("", |(_, fingerprint)| fingerprint.as_str());
            if !self.headers.contains_key(schema) {
                let mut headers = OwnedHeaders::new_with_capacity(2)
                    .insert(Header { key: "rowcast.v", value: Some(ENVELOPE_VERSION) });
                if !schema.is_empty() {
                    headers = headers.insert(Header { key: "rowcast.schema", value: Some(schema) });
                }
                self.headers.insert(schema.to_owned(), headers);
            }
        }
        Ok(())
    }

    /// Waits until nothing is in flight. librdkafka gives up a record after its own time-out (`message.timeout.ms`, at most the
    /// transaction's), so this ends.
    fn drain(&self) -> Result<(), RunError> {
        while self.producer.in_flight_count() > 0 {
            client::flush(&self.producer, FLUSH_SLICE);
            self.producer.poll(Duration::ZERO);
            self.check_deliveries()?;
        }
        Ok(())
    }
}

impl Sink for KafkaSink {
    fn stage(&mut self, encoded: &Encoded, records: Range<usize>) -> Result<(), RunError> {
        let records = encoded.records.get(records).unwrap_or(&[]);
        if records.is_empty() {
            return Ok(());
        }
        self.prepare(encoded, records)?;
        self.begin()?;
        for record in records {
            self.stage_record(encoded, record)?;
        }
        self.producer.poll(Duration::ZERO);
        self.check_deliveries()
    }

    fn stage_schema(&mut self, topic: &str, key: &str, value: &[u8]) -> Result<(), RunError> {
        self.topics.ensure(topic, TopicKind::Schemas)?;
        self.begin()?;
        self.send(topic, None, Some(key.as_bytes()), Some(value), None)
    }

    fn commit(&mut self, checkpoint: &Checkpoint, tables_changed: bool) -> Result<(), RunError> {
        let (key, value) = (checkpoint.source.as_bytes(), checkpoint.to_bytes(false));
        if !self.settings.transactional {
            // the checkpoint must never be ahead of the events, so they are awaited first
            self.drain()?;
        }
        self.begin()?;
        self.since_tables += 1;
        if (tables_changed || self.since_tables >= TABLES_AGAIN)
            && let Some(tables) = checkpoint.tables_to_bytes()
        {
            let key = checkpoints::tables_key(&checkpoint.source);
            self.send(&self.checkpoint_topic, Some(0), Some(key.as_bytes()), Some(&tables), None)?;
            self.since_tables = 0;
        }
        self.send(&self.checkpoint_topic, Some(0), Some(key), Some(&value), None)?;
        self.drain()?;
        if self.settings.transactional {
            let deadline = Instant::now() + PATIENCE;
            loop {
                match self.producer.commit_transaction(Duration::from_secs(5)) {
                    Ok(()) => break,
                    Err(KafkaError::Transaction(error)) if error.is_retriable() && Instant::now() < deadline => {}
                    Err(error) => return Err(self.doing("commit a transaction", &error)),
                }
            }
            self.in_transaction = false;
        }
        Ok(())
    }

    fn serve(&mut self) -> Result<(), RunError> {
        self.producer.poll(Duration::ZERO);
        self.check_deliveries()?;
        match self.producer.client().fatal_error() {
            Some((code, _)) => Err(self.doing("work", &KafkaError::Global(code))),
            None => Ok(()),
        }
    }

    fn takes_back(&self) -> bool {
        self.settings.transactional
    }
}

impl Drop for KafkaSink {
    fn drop(&mut self) {
        if self.in_transaction {
            // best effort, and quick: what stays open is aborted by the next owner or by the broker's time-out
            let _ = self.producer.abort_transaction(Duration::from_secs(2));
        }
    }
}
