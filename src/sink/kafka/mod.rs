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
//! 5. *A lost checkpoint is not a new source.* The first commit of a source leaves a record on its schema topic; if that is there
//!    and the checkpoint isn't, this is a gap ([`checkpoints::has_streamed`]).
//! 6. *Doubt is resolved by reading.* After any error the producer is dropped, and the next run starts at 1: if a commit's
//!    outcome was unknown, the checkpoint that is read says which it was.
//!
//! # Time
//!
//! rdkafka's `flush`, on which its `commit_transaction` relies, polls in slices of 100 ms, and its `poll` spins through the last
//! millisecond of any time-out. So we flush by librdkafka's own call ([`client::flush`]), which wakes up the moment that
//! nothing is in flight, and commit only then. A flush overrides `linger.ms`, which is therefore long; when to flush is the subject of
//! [`delivery`].

mod check;
mod client;
mod delivery;
pub mod newest;
mod outlet;
pub(crate) mod reading;
pub mod tail;
mod topics;

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::CString;
use std::iter;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::types::RDKafkaErrorCode;

pub(crate) use client::failed;
pub use client::{Background, KafkaSettings, check_properties};
pub use topics::Met;

use super::{Changed, OpenSink, OpenedSink, Sink};
use crate::checkpoint::{Checkpoint, kafka as checkpoints};
use crate::error::RunError;
use crate::fail;
use crate::format::debezium::{NEW_KEY, OLD_KEY};
use crate::format::json::ENVELOPE_VERSION;
use crate::pipeline::{Destination, Encoded, Headers, Record};
use crate::status::Probe;
use client::{Failure, is_fenced};
use delivery::{Sent, Wait};
use outlet::{HeaderField, Outlet};
use topics::{TopicKind, Topics};

/// How long one request that takes over or commits may take before the run is started anew.
const PATIENCE: Duration = Duration::from_secs(20);
/// Commits after which the list of settled tables is written again, so that a start finds it near the topic's end.
const TABLES_AGAIN: u32 = 2_000;
/// How long a broker may take for a sign of life.
const PROBE: Duration = Duration::from_secs(4);
/// What a record takes in a batch besides its key and value: the batch's header, lengths, our headers.
const OVERHEAD: usize = 512;
/// How long behind a commit the next transaction begins. The end of one reaches its partitions some milliseconds after the answer; until
/// then the coordinator sends back the next one's partitions (CONCURRENT_TRANSACTIONS), and librdkafka asks again after 20 ms
/// (`rd_kafka_txn_handle_AddPartitionsToTxn`). Measured at 1,000 commits/s: a quarter of all transactions without this pause, none with it.
const SETTLES: Duration = Duration::from_millis(4);
/// The largest buffer for a record that is kept for the next one.
const LARGEST_WHOLE: usize = 1 << 20;
/// Pause while librdkafka's queue is full.
const FULL_QUEUE: Duration = Duration::from_millis(2);

impl OpenSink for KafkaSettings {
    fn open(&mut self, anew: bool) -> Result<OpenedSink, RunError> {
        let producer = client::producer(self)?;
        client::reach(&producer, &self.brokers)?;
        fail::point("open.reached");
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
        topics.ensure(&[&topic], TopicKind::Checkpoint)?;
        let producer = Arc::new(producer);
        let mut sink = KafkaSink {
            outlet: Outlet::new(Arc::clone(&producer)),
            producer,
            settings: self.clone(),
            checkpoint_topic: topic,
            topics,
            headers: HashMap::new(),
            fixed_headers: None,
            in_transaction: false,
            ended: None,
            since_tables: 0,
            limits: self.limits(),
            sent: Sent::default(),
            whole: Cell::default(),
        };
        if self.transactional {
            sink.producer
                .init_transactions(PATIENCE)
                .map_err(|error| sink.doing("take over the transactional id", &error))?;
        }
        fail::point("open.fenced");
        let checkpoint = checkpoints::read(self, checkpoints::Until::HighWatermark)?;
        let streamed = checkpoint.as_ref().is_some_and(|found| found.position.is_some());
        if !streamed && !anew && checkpoints::has_streamed(self)? {
            return Err(checkpoints::lost(&self.source));
        }
        fail::point("open.read");
        let claim = match &checkpoint {
            Some(found) => Checkpoint { owner: self.owner.clone(), generation: found.generation + 1, ..found.clone() },
            None => Checkpoint::claim(&self.source, &self.owner),
        };
        sink.commit(&claim, Changed { tables: true, schemas: true })?;
        fail::point("open.claimed");
        self.owned_before.store(true, Ordering::Relaxed);
        Ok(OpenedSink { sink: Box::new(sink), checkpoint, generation: claim.generation })
    }
}

struct KafkaSink {
    producer: Arc<BaseProducer<Background>>,
    settings: KafkaSettings,
    checkpoint_topic: String,
    topics: Topics,
    outlet: Outlet,
    /// The headers of a table version.
    headers: HashMap<String, Vec<Named>>,
    /// Those that a format has for all of its records.
    fixed_headers: Option<Vec<Named>>,
    in_transaction: bool,
    /// When the last transaction was committed.
    ended: Option<Instant>,
    /// Commits since the list of settled tables was written.
    since_tables: u32,
    /// The largest record and batch, in bytes.
    limits: (usize, usize),
    sent: Sent,
    /// Where a record's value and its head are put together.
    whole: Cell<Vec<u8>>,
}

impl KafkaSink {
    fn doing(&self, what: &str, error: &KafkaError) -> RunError {
        // behind a fatal error every call fails with just that word
        let fatal = self.producer.client().fatal_error().map(|(code, _)| code);
        let fenced = is_fenced(error) || fatal.is_some_and(client::fenced);
        if fenced {
            // the next opening reads who it was
            return RunError::fenced(format!(
                "kafka: fenced: a later producer took the transactional id of source `{}`",
                self.settings.source
            ));
        }
        let fatal = fatal.map(KafkaError::Global);
        let error = failed(what, fatal.as_ref().unwrap_or(error), self.producer.context());
        RunError { message: error.message.replace("<name>", &self.settings.source), ..error }
    }

    fn begin(&mut self) -> Result<(), RunError> {
        if self.settings.transactional && !self.in_transaction {
            if let Some(ended) = self.ended {
                std::thread::sleep(SETTLES.saturating_sub(ended.elapsed()));
            }
            self.producer.begin_transaction().map_err(|error| self.doing("begin a transaction", &error))?;
            self.in_transaction = true;
        }
        Ok(())
    }

    fn send<'a>(
        &'a self,
        topic: &str,
        partition: Option<i32>,
        key: Option<&'a [u8]>,
        value: Option<&'a [u8]>,
        headers: impl Iterator<Item = HeaderField<'a>>,
    ) -> Result<(), RunError> {
        let failed = |error| self.doing(&format!("send to topic {topic}"), &error);
        let record = self.outlet.record(topic, partition, key, value, headers).map_err(failed)?;
        self.sent.add(key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len));
        let mut wait = None;
        loop {
            match record.send() {
                Ok(()) => return Ok(()),
                Err(KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) => {
                    // this is where a slow Kafka holds back the source; the producer bounds the wait by the messages' time-out
                    self.producer.poll(Duration::ZERO);
                    wait.get_or_insert_with(Wait::new).a_moment(&self.producer, FULL_QUEUE);
                    self.check_deliveries()?;
                }
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// Invariant 4: one failed record fails the run.
    fn check_deliveries(&self) -> Result<(), RunError> {
        match self.producer.context().failure() {
            Some(failure) if failure.is_of_clock() => Err(failure.of_clock()),
            Some(Failure { topic, error, .. }) => {
                use RDKafkaErrorCode::{PurgeInflight, PurgeQueue};
                let purged = matches!(error.rdkafka_error_code(), Some(PurgeQueue | PurgeInflight));
                let error = match if purged { self.cause() } else { None } {
                    Some(cause) => {
                        // hands over what else librdkafka has said
                        self.producer.poll(Duration::from_millis(5));
                        let refusal = self.producer.context().refusal();
                        let what =
                            refusal.map_or_else(|| "deliver".to_owned(), |refusal| format!("deliver ({refusal})"));
                        self.doing(&what, &cause)
                    }
                    None => self.doing(&format!("deliver to topic {topic}"), &error),
                };
                let gone = self.topics.gone();
                let missing = if gone.is_empty() { String::new() } else { format!(" (missing: {})", gone.join(", ")) };
                Err(RunError { message: error.message + &missing, ..error })
            }
            None => Ok(()),
        }
    }

    /// Why the transaction in progress failed. Its records are then purged, which is all that their reports say; to begin another
    /// one is refused with the cause, and is without effect while one is in progress.
    fn cause(&self) -> Option<KafkaError> {
        if !self.in_transaction {
            return None;
        }
        match self.producer.begin_transaction() {
            Err(KafkaError::Transaction(error)) if error.txn_requires_abort() || error.is_fatal() => {
                Some(KafkaError::Transaction(error))
            }
            _ => None,
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
        let mut whole = self.whole.take();
        let (key, value) = (bytes(&record.key), encoded.value(record, &mut whole));
        // those that name a changed key's other half stand before those that all of Debezium's records have, what is added of the event behind
        let of_all = match &destination.headers {
            Headers::Own => self.headers.get(fingerprint_of(destination)),
            Headers::Fixed(all) => self.fixed_headers.as_ref().filter(|_| !all.is_empty()),
        };
        let of_all = of_all.map_or(&[][..], Vec::as_slice).iter().map(|(name, value)| (&**name, Some(&**value)));
        let first = match &destination.headers {
            Headers::Own => 0,
            Headers::Fixed(_) => {
                record.headers.iter().take_while(|it| [NEW_KEY, OLD_KEY].contains(&it.name.as_str())).count()
            }
        };
        let names = record.headers.iter().map(|header| c_name(header.name.as_str())).collect::<Result<Vec<_>, _>>()?;
        let own = || names.iter().zip(&record.headers).map(|(name, header)| (&**name, bytes(&header.value)));
        let headers = || own().take(first).chain(of_all.clone()).chain(own().skip(first));
        if record.to_all_partitions {
            for partition in self.all_partitions(&destination.topic)? {
                self.send(&destination.topic, Some(partition), key, value, headers())?;
            }
        } else {
            self.send(&destination.topic, destination.partition, key, value, headers())?;
        }
        if whole.capacity() <= LARGEST_WHOLE {
            self.whole.set(whole);
        }
        Ok(())
    }

    /// Waits until nothing is in flight. librdkafka gives up a record after its own time-out (`message.timeout.ms`, at most the
    /// transaction's), so this ends.
    fn drain(&self) -> Result<(), RunError> {
        let mut wait = Wait::new();
        while delivery::in_flight(&self.producer) > 0 {
            wait.for_all(&self.producer, &self.sent, self.limits.1);
            self.producer.poll(Duration::ZERO);
            self.check_deliveries()?;
        }
        self.sent.clear();
        Ok(())
    }
}

impl Sink for KafkaSink {
    fn prepare(&mut self, encoded: &Encoded, records: Range<usize>) -> Result<(), RunError> {
        let mut previous = None;
        let mut new: Vec<&str> = Vec::new();
        for record in encoded.records.get(records).unwrap_or(&[]) {
            // runs of the same table are the rule
            if previous.replace(record.destination) == Some(record.destination) {
                continue;
            }
            let Some(destination) = encoded.destinations.get(record.destination as usize) else { continue };
            if !self.topics.knows(&destination.topic) && !new.contains(&destination.topic.as_str()) {
                new.push(&destination.topic);
            }
            if let Headers::Fixed(all) = &destination.headers {
                if self.fixed_headers.is_none() && !all.is_empty() {
                    let all = all.iter().map(|(name, value)| Ok((c_name(name)?, value.clone().into_bytes())));
                    self.fixed_headers = Some(all.collect::<Result<_, RunError>>()?);
                }
                continue;
            }
            let schema = fingerprint_of(destination);
            if !self.headers.contains_key(schema) {
                let mut headers = vec![(c"rowcast.v".to_owned(), ENVELOPE_VERSION.into())];
                if !schema.is_empty() {
                    headers.push((c"rowcast.schema".to_owned(), schema.into()));
                }
                self.headers.insert(schema.to_owned(), headers);
            }
        }
        self.topics.ensure(&new, TopicKind::Events)
    }

    fn largest(&mut self, topic: &str) -> Result<usize, RunError> {
        self.topics.ensure(&[topic], TopicKind::Events)?;
        let (producer, batch) = self.limits;
        let topic_takes = self.topics.max_message_bytes(topic).unwrap_or(usize::MAX);
        if topic_takes < batch {
            // a batch of records that fit, each by itself, would be refused as a whole
            self.settings.most_batch.store(topic_takes, Ordering::Relaxed);
            return Err(RunError::transient(format!(
                "topic {topic} takes batches of at most {topic_takes} bytes (its `max.message.bytes`): the producer is made anew with \
                 smaller ones"
            )));
        }
        Ok(producer.min(topic_takes).saturating_sub(OVERHEAD))
    }

    fn stage(&mut self, encoded: &Encoded, records: Range<usize>) -> Result<(), RunError> {
        let records = encoded.records.get(records).unwrap_or(&[]);
        if records.is_empty() {
            return Ok(());
        }
        self.begin()?;
        fail::point("stage.begun");
        for record in records {
            self.stage_record(encoded, record)?;
        }
        fail::point("stage.sent");
        self.producer.poll(Duration::ZERO);
        self.check_deliveries()
    }

    fn stage_schema(&mut self, topic: &str, key: &str, value: &[u8]) -> Result<(), RunError> {
        self.topics.ensure(&[topic], TopicKind::Schemas)?;
        self.begin()?;
        self.send(topic, None, Some(key.as_bytes()), Some(value), iter::empty())
    }

    fn commit(&mut self, checkpoint: &Checkpoint, changed: Changed) -> Result<(), RunError> {
        self.topics.watch();
        let (key, value) = (checkpoint.source.as_bytes(), checkpoint.to_bytes(false));
        if !self.settings.transactional {
            // the checkpoint must never be ahead of the events, so they are awaited first
            self.drain()?;
        }
        self.begin()?;
        fail::point("commit.begun");
        self.since_tables += 1;
        let again = self.since_tables >= TABLES_AGAIN;
        if changed.schemas || again {
            for (number, record) in checkpoint.schemas_to_bytes().iter().enumerate() {
                let key = checkpoints::schemas_key(&checkpoint.source, number);
                self.send(&self.checkpoint_topic, Some(0), Some(key.as_bytes()), Some(record), iter::empty())?;
            }
        }
        if (changed.tables || again)
            && let Some(tables) = checkpoint.tables_to_bytes()
        {
            let key = checkpoints::tables_key(&checkpoint.source);
            self.send(&self.checkpoint_topic, Some(0), Some(key.as_bytes()), Some(&tables), iter::empty())?;
            self.since_tables = 0;
        }
        self.send(&self.checkpoint_topic, Some(0), Some(key), Some(&value), iter::empty())?;
        fail::point("commit.sent");
        self.drain()?;
        fail::point("commit.drained");
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
            self.ended = Some(Instant::now());
        }
        fail::point("commit.done");
        Ok(())
    }

    fn serve(&mut self) -> Result<(), RunError> {
        self.topics.watch();
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

    fn probe(&self) -> Option<Probe> {
        let (producer, topic) = (Arc::downgrade(&self.producer), self.checkpoint_topic.clone());
        Some(Arc::new(move || {
            let producer = producer.upgrade().ok_or("the producer is gone")?;
            let answer = producer.client().fetch_metadata(Some(&topic), PROBE);
            answer.map(drop).map_err(|error| failed("ask for a sign of life", &error, producer.context()).message)
        }))
    }
}

/// The fingerprint of a destination's table version; empty if it has none.
fn fingerprint_of(destination: &Destination) -> &str {
    destination.table.as_ref().map_or("", |(_, fingerprint)| fingerprint.as_str())
}

/// A header's name and value.
type Named = (CString, Vec<u8>);

/// A header's name as librdkafka wants it.
fn c_name(name: &str) -> Result<CString, RunError> {
    CString::new(name).map_err(|_| {
        RunError::definite(format!("a header can't be called {name:?}: its name has a zero; repair: another name"))
    })
}

impl Drop for KafkaSink {
    fn drop(&mut self) {
        if self.in_transaction {
            // best effort, and quick: what stays open is aborted by the next owner or by the broker's time-out
            let _ = self.producer.abort_transaction(Duration::from_secs(2));
        }
    }
}
