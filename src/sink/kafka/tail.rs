//! Reads the committed records of a source's topics, for people and tests; changes nothing in the cluster.
//!
//! Partitions are assigned, no group is joined and no offset kept. Topics and partitions that come later are read from their
//! beginning. Order is Kafka's within a partition; between partitions records come as they are fetched. Memory is bounded by
//! what librdkafka may fetch ahead.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;

use super::client::{Background, KafkaSettings, answers, failed};
use crate::config::TopicTemplate;
use crate::error::{RunError, RunErrorClass};
use crate::route;

/// How long a broker may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// How often new topics and partitions are looked for.
const LOOK: Duration = Duration::from_secs(2);
/// How long one call waits for a record.
const SLICE: Duration = Duration::from_millis(100);
/// Topics of Kafka itself, which a template such as `{table}` would take in.
const KAFKAS_OWN: [&str; 4] =
    ["__consumer_offsets", "__transaction_state", "__share_group_state", "__cluster_metadata"];

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// The first record that there is.
    Beginning,
    /// What is committed from now on.
    End,
    /// The first record that was sent at this time or later, in milliseconds since 1970.
    Time(i64),
}

/// A committed record.
#[derive(Debug)]
pub struct TailedRecord {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset; they have holes.
    pub offset: i64,
    /// Its key, if it has one.
    pub key: Option<Vec<u8>>,
    /// Its value; none is a tombstone.
    pub value: Option<Vec<u8>>,
}

/// What came of waiting a moment.
#[derive(Debug)]
pub enum Tailed {
    /// A record.
    Record(TailedRecord),
    /// Nothing yet.
    Nothing,
    /// Everything up to the end as it was when reading began has been handed out.
    End,
    /// Kafka can't be reached; it is tried again.
    Trouble(String),
}

/// A reader of one source's topics.
pub struct Tail {
    consumer: BaseConsumer<Background>,
    source: String,
    template: TopicTemplate,
    messages: String,
    assigned: BTreeMap<String, BTreeSet<i32>>,
    /// Partitions whose end of the beginning hasn't been reached, with that end.
    open: BTreeMap<(String, i32), i64>,
    told_end: bool,
    looked: Instant,
}

impl Tail {
    /// Finds the topics (those of tables and `messages`) and where to begin in them. Blocks for seconds at most.
    ///
    /// # Errors
    /// Definite if the properties or the user are refused; transient if Kafka can't be reached.
    pub fn open(
        settings: &KafkaSettings,
        template: &TopicTemplate,
        messages: String,
        from: From,
    ) -> Result<Self, RunError> {
        let mut config = settings.base();
        config
            // librdkafka wants one to assign partitions; nobody joins it and nothing is committed to it
            .set("group.id", format!("rowcast.{}", settings.source))
            .set("client.id", format!("rowcast-tail-{}", settings.source))
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed")
            .set("auto.offset.reset", "earliest")
            .set("fetch.wait.max.ms", "100")
            .set("queued.max.messages.kbytes", "8192")
            .set("fetch.message.max.bytes", "524288");
        settings.shared_properties(&mut config);
        let consumer = config.create_with_context(Background::of(settings)).map_err(|error| {
            RunError::definite(format!("can't make a kafka client: {error}; repair: `sink.properties`"))
        })?;
        let mut tail = Self {
            consumer,
            source: settings.source.clone(),
            template: template.clone(),
            messages,
            assigned: BTreeMap::new(),
            open: BTreeMap::new(),
            told_end: false,
            looked: Instant::now(),
        };
        tail.reach(&settings.brokers)?;
        tail.look(Some(from)).map_err(|error| tail.failed("find the topics", &error))?;
        Ok(tail)
    }

    /// The topics that are read.
    pub fn topics(&self) -> impl Iterator<Item = &str> {
        self.assigned.keys().map(String::as_str)
    }

    /// Waits a moment for the next record.
    ///
    /// # Errors
    /// Only what doesn't pass by itself.
    pub fn wait(&mut self) -> Result<Tailed, RunError> {
        if self.open.is_empty() && !self.told_end {
            self.told_end = true;
            return Ok(Tailed::End);
        }
        if self.looked.elapsed() >= LOOK
            && let Err(error) = self.look(None)
        {
            return self.trouble(&error);
        }
        match self.consumer.poll(SLICE) {
            None => Ok(Tailed::Nothing),
            Some(Ok(message)) => {
                let place = (message.topic().to_owned(), message.partition());
                if self.open.get(&place).is_some_and(|end| message.offset() + 1 >= *end) {
                    self.open.remove(&place);
                }
                Ok(Tailed::Record(TailedRecord {
                    topic: place.0,
                    partition: place.1,
                    offset: message.offset(),
                    key: message.key().map(<[u8]>::to_vec),
                    value: message.payload().map(<[u8]>::to_vec),
                }))
            }
            // it doesn't name the topic: all ends are compared with where we are
            Some(Err(KafkaError::PartitionEOF(_))) => {
                self.close_reached();
                Ok(Tailed::Nothing)
            }
            Some(Err(error)) => self.trouble(&error),
        }
    }

    /// Markers and aborted records take the last offsets, so that the end may be reached without a record.
    fn close_reached(&mut self) {
        let Ok(positions) = self.consumer.position() else { return };
        for element in positions.elements() {
            let place = (element.topic().to_owned(), element.partition());
            if let (Offset::Offset(at), Some(end)) = (element.offset(), self.open.get(&place))
                && at >= *end
            {
                self.open.remove(&place);
            }
        }
    }

    fn trouble(&self, error: &KafkaError) -> Result<Tailed, RunError> {
        // a topic that was deleted is no trouble: there is nothing more to read; and the group is none that anybody joins
        if let KafkaError::MessageConsumption(
            RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition,
        ) = error
        {
            return Ok(Tailed::Nothing);
        }
        let error = self.failed("read", error);
        match error.class {
            RunErrorClass::Definite => Err(error),
            _ => Ok(Tailed::Trouble(error.message)),
        }
    }

    fn failed(&self, doing: &str, error: &KafkaError) -> RunError {
        failed(doing, error, self.consumer.context())
    }

    /// The first answer, or the reason why there is none.
    fn reach(&self, brokers: &str) -> Result<(), RunError> {
        // nothing is assigned yet
        let poll = || drop(self.consumer.poll(Duration::ZERO));
        answers(self.consumer.client(), poll, brokers, ANSWER)
    }

    fn holds_events(&self, topic: &str) -> bool {
        if topic == self.messages {
            return true;
        }
        let state = ["rowcast.checkpoint.", "rowcast.schema."].iter().any(|prefix| topic.starts_with(prefix));
        !state && !KAFKAS_OWN.contains(&topic) && route::may_hold(&self.template, &self.source, topic)
    }

    /// Topics that were deleted are waited for no more; made again, they are new.
    fn forget(&mut self, there: &BTreeSet<&str>) -> KafkaResult<()> {
        let gone: Vec<String> = self.assigned.keys().filter(|topic| !there.contains(topic.as_str())).cloned().collect();
        for topic in gone {
            let mut list = TopicPartitionList::new();
            for partition in self.assigned.remove(&topic).unwrap_or_default() {
                list.add_partition(&topic, partition);
            }
            self.open.retain(|(open, _), _| *open != topic);
            self.consumer.incremental_unassign(&list)?;
        }
        Ok(())
    }

    /// Assigns what isn't yet: at the start from `from`, later from the beginning, since it is new.
    fn look(&mut self, from: Option<From>) -> KafkaResult<()> {
        self.looked = Instant::now();
        let metadata = self.consumer.fetch_metadata(None, ANSWER)?;
        let mut new = Vec::new();
        for topic in metadata.topics().iter().filter(|topic| topic.error().is_none() && self.holds_events(topic.name()))
        {
            let assigned = self.assigned.get(topic.name());
            for partition in topic.partitions() {
                if assigned.is_none_or(|assigned| !assigned.contains(&partition.id())) {
                    new.push((topic.name().to_owned(), partition.id()));
                }
            }
        }
        let there: BTreeSet<&str> = metadata.topics().iter().map(|topic| topic.name()).collect();
        self.forget(&there)?;
        if new.is_empty() {
            return Ok(());
        }
        let ask = |offset: Offset| -> KafkaResult<BTreeMap<(String, i32), Offset>> {
            let mut list = TopicPartitionList::new();
            for (topic, partition) in &new {
                list.add_partition_offset(topic, *partition, offset)?;
            }
            let found = self.consumer.offsets_for_times(list, ANSWER)?;
            let place = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
                ((element.topic().to_owned(), element.partition()), element.offset())
            };
            Ok(found.elements().iter().map(place).collect())
        };
        let mut start = BTreeMap::new();
        if let Some(from) = from {
            let ends = ask(Offset::End)?;
            start = match from {
                From::Beginning => ask(Offset::Beginning)?,
                From::End => ends.clone(),
                From::Time(millis) => ask(Offset::Offset(millis))?,
            };
            for (place, end) in &ends {
                let begin = start.entry(place.clone()).or_insert(*end);
                // nothing is as young as that
                if *begin == Offset::End {
                    *begin = *end;
                }
                if let (Offset::Offset(begin), Offset::Offset(end)) = (*begin, end)
                    && begin < *end
                {
                    self.open.insert(place.clone(), *end);
                }
            }
        }
        let mut list = TopicPartitionList::new();
        for (topic, partition) in new {
            let offset = start.get(&(topic.clone(), partition)).copied().unwrap_or(Offset::Beginning);
            list.add_partition_offset(&topic, partition, offset)?;
            self.assigned.entry(topic).or_default().insert(partition);
        }
        self.consumer.incremental_assign(&list)
    }
}
