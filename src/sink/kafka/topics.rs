//! The topics of one run: creates those that are missing, looks at those that are there, and notices what becomes of them.
//!
//! Event topics are created by the rules of `sink.topics`; what the rules leave open is the broker's default. Topics of state
//! have one partition and are compacted. A topic that exists is never changed: what differs from the rules is a warning, and
//! what endangers the checkpoint an error ([`check`](super::check)).
//!
//! While the source runs, partitions and disappearance are looked at every [`WATCH`], beside the stream. A topic that was
//! deleted is created again with a warning when its next event comes, or is an error where we may not create topics; the broker
//! never creates one on its own for us (`allow.auto.create.topics` is off).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::KafkaError;
use rdkafka::metadata::MetadataTopic;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};

use super::check::{self, Found};
use super::client::{Background, KafkaSettings, failed};
use crate::config::TopicSettings;
use crate::error::RunError;

/// How long one administrative request may take.
const REQUEST: Duration = Duration::from_secs(10);
/// A topic that was created may be unknown to other brokers for a moment.
const SPREADING: Duration = Duration::from_secs(5);
/// How often topics are looked at while the source runs.
const WATCH: Duration = Duration::from_secs(15);
/// How long topics are looked at for an error message.
const GLANCE: Duration = Duration::from_secs(1);
/// With more topics than this all of the cluster's are asked for at once.
const ONE_BY_ONE: usize = 20;

/// What a topic is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TopicKind {
    /// Events of a table.
    Events,
    /// Table schemas, the last of each version kept.
    Schemas,
    /// Checkpoints of a source, the last one kept.
    Checkpoint,
}

/// Topics that a source of this process has met, with their partitions; outlives the runs.
pub type Met = Arc<Mutex<HashMap<String, usize>>>;

/// What the watch saw: partitions by topic, 0 for one that is gone.
type Seen = Arc<Mutex<Option<HashMap<String, usize>>>>;

/// The topics of one run: which exist, and the client that creates those that don't.
pub(super) struct Topics {
    settings: KafkaSettings,
    /// Kept for the whole run: dropping one takes a tenth of a second, making one a connection.
    admin: Arc<AdminClient<Background>>,
    /// With the largest batch in bytes that it takes, where that may be asked.
    known: HashMap<String, Option<usize>>,
    seen: Seen,
    watched: Instant,
}

impl Topics {
    /// Makes the client; connects later.
    ///
    /// # Errors
    /// Definite, for properties that librdkafka refuses.
    pub(super) fn new(settings: &KafkaSettings) -> Result<Self, RunError> {
        let mut config = settings.base();
        settings.shared_properties(&mut config);
        let admin = config.create_with_context(Background::of(settings)).map_err(|error| {
            RunError::definite(format!("can't make a kafka client: {error}; repair: `sink.properties`"))
        })?;
        Ok(Self {
            settings: settings.clone(),
            admin: Arc::new(admin),
            known: HashMap::new(),
            seen: Seen::default(),
            watched: Instant::now(),
        })
    }

    /// Whether the topic is known to exist.
    pub(super) fn knows(&self, topic: &str) -> bool {
        self.known.contains_key(topic)
    }

    /// The topic's `max.message.bytes`: the largest batch, and so the largest record, that it takes. None for a topic that
    /// wasn't met yet, or whose settings this user may not read.
    pub(super) fn max_message_bytes(&self, topic: &str) -> Option<usize> {
        self.known.get(topic).copied().flatten()
    }

    /// Creates those topics that don't exist, and checks the others. Blocks, once per topic and run.
    ///
    /// # Errors
    /// Transient if Kafka can't be reached; definite if it refuses, if a topic is missing that we may not create, or if the
    /// checkpoint isn't safe in its topic; with the repair.
    pub(super) fn ensure(&mut self, topics: &[&str], kind: TopicKind) -> Result<(), RunError> {
        let new: Vec<&str> = topics.iter().copied().filter(|topic| !self.knows(topic)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let refused = if self.settings.topics.create { self.create(&new, kind)? } else { HashMap::new() };
        let deadline = Instant::now() + SPREADING;
        let mut found = self.look(&new)?;
        // one that was refused isn't waited for
        while new.iter().any(|topic| !found.contains_key(*topic) && !refused.contains_key(*topic))
            && self.settings.topics.create
            && Instant::now() < deadline
        {
            std::thread::sleep(Duration::from_millis(20));
            found = self.look(&new)?;
        }
        for topic in &new {
            if !found.contains_key(*topic) {
                return Err(self.missing(topic, kind, refused.get(*topic)));
            }
        }
        self.describe(&new, &mut found);
        for topic in new {
            let Some(found) = found.get(topic) else { continue };
            let first = self.met(topic, found.partitions);
            check::existing(&self.settings, topic, kind, &self.wanted(topic, kind), found, first)?;
            let largest = found.config.as_ref().and_then(|config| config.get("max.message.bytes")?.parse().ok());
            self.known.insert(topic.to_owned(), largest);
        }
        Ok(())
    }

    /// What the topic is made with. Topics of state follow no rule: only what makes them safer is taken from the section.
    fn wanted(&self, topic: &str, kind: TopicKind) -> TopicSettings {
        let topics = &self.settings.topics;
        let of_state: &[(&str, &str)] = match kind {
            TopicKind::Events => return topics.for_topic(topic),
            TopicKind::Schemas => &[("cleanup.policy", "compact")],
            // small segments: what compaction can't remove yet is what a start may have to read
            TopicKind::Checkpoint => {
                &[("cleanup.policy", "compact"), ("segment.bytes", "4194304"), ("min.cleanable.dirty.ratio", "0.1")]
            }
        };
        const SAFER: &str = "min.insync.replicas";
        let safer = topics.settings.config.get(SAFER).map(|value| (SAFER.to_owned(), value.clone()));
        let config =
            of_state.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).chain(safer).collect();
        TopicSettings { partitions: Some(1), replication: topics.settings.replication, config }
    }

    /// Asks for all of them to be created; returns why some couldn't be.
    fn create(&self, topics: &[&str], kind: TopicKind) -> Result<HashMap<String, RDKafkaErrorCode>, RunError> {
        let Self { settings, admin, .. } = self;
        let wanted: Vec<TopicSettings> = topics.iter().map(|topic| self.wanted(topic, kind)).collect();
        let new: Vec<NewTopic<'_>> = topics
            .iter()
            .zip(&wanted)
            .map(|(topic, wanted)| {
                let replication = TopicReplication::Fixed(wanted.replication.unwrap_or(-1));
                let new = NewTopic::new(topic, wanted.partitions.unwrap_or(-1), replication);
                wanted.config.iter().fold(new, |new, (key, value)| new.set(key, value))
            })
            .collect();
        let options = AdminOptions::new().request_timeout(Some(REQUEST));
        let results = settings
            .runtime
            .block_on(admin.create_topics(&new, &options))
            .map_err(|error| failed(&format!("create topic {}", topics.join(", ")), &error, admin.inner().context()))?;
        let mut refused = HashMap::new();
        for result in results {
            match result {
                Ok(topic) if self.was_met(&topic) => tracing::warn!(
                    source = %settings.source,
                    topic,
                    "topic {topic} was deleted while this source ran, and has been created again: what was in it is gone, the \
                     events since the last commit are sent again"
                ),
                Ok(topic) => tracing::info!(source = %settings.source, topic, "created topic"),
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                // a topic made beforehand may be usable without the right to create it
                Err((topic, code)) => {
                    refused.insert(topic, code);
                }
            }
        }
        Ok(refused)
    }

    /// Those of the topics that exist.
    fn look(&self, topics: &[&str]) -> Result<HashMap<String, Found>, RunError> {
        let context = self.admin.inner().context();
        let mut found = HashMap::new();
        if let [first, ..] = topics
            && topics.len() > ONE_BY_ONE
        {
            let all = self.admin.inner().fetch_metadata(None, REQUEST);
            let all = all.map_err(|error| failed(&format!("look at topic {first} and others"), &error, context))?;
            for topic in all.topics().iter().filter(|topic| exists(topic)) {
                if topics.contains(&topic.name()) {
                    found.insert(topic.name().to_owned(), Found::of(topic, all.brokers().len()));
                }
            }
            return Ok(found);
        }
        for name in topics {
            let doing = format!("look at topic {name}");
            let answer = self.admin.inner().fetch_metadata(Some(name), REQUEST);
            let answer = answer.map_err(|error| failed(&doing, &error, context))?;
            for topic in answer.topics().iter().filter(|topic| topic.name() == *name) {
                if exists(topic) {
                    found.insert(topic.name().to_owned(), Found::of(topic, answer.brokers().len()));
                } else if topic.error() == Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED) {
                    let error = KafkaError::AdminOp(RDKafkaErrorCode::TopicAuthorizationFailed);
                    return Err(failed(&doing, &error, context));
                }
            }
        }
        Ok(found)
    }

    /// Adds the settings that the cluster tells.
    fn describe(&self, topics: &[&str], found: &mut HashMap<String, Found>) {
        let resources: Vec<ResourceSpecifier<'_>> =
            topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
        let options = AdminOptions::new().request_timeout(Some(REQUEST));
        let source = &self.settings.source;
        let results = match self.settings.runtime.block_on(self.admin.describe_configs(&resources, &options)) {
            Ok(results) => results,
            Err(error) => {
                tracing::debug!(source, ?topics, "can't ask for the settings of topics: {error}");
                return;
            }
        };
        // librdkafka keeps the order of the request
        for (topic, result) in topics.iter().zip(results) {
            match result {
                Ok(resource) => {
                    let value = |entry: rdkafka::admin::ConfigEntry| Some((entry.name, entry.value?));
                    if let Some(found) = found.get_mut(*topic) {
                        found.config = Some(resource.entries.into_iter().filter_map(value).collect());
                    }
                }
                Err(code) => tracing::debug!(source, topic, "can't ask for a topic's settings: {code}"),
            }
        }
    }

    /// A topic that isn't there, and that was not or could not be created.
    fn missing(&self, topic: &str, kind: TopicKind, refused: Option<&RDKafkaErrorCode>) -> RunError {
        let command = check::create_command(&self.settings, topic, &self.wanted(topic, kind));
        match refused {
            Some(code) => {
                let error =
                    failed(&format!("create topic {topic}"), &KafkaError::AdminOp(*code), self.admin.inner().context());
                let by_hand = matches!(
                    code,
                    RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed
                );
                let more = match code {
                    _ if by_hand => format!("; or have it created: {command}"),
                    // passes if it is a broker that is down
                    RDKafkaErrorCode::InvalidReplicationFactor => {
                        "; repair: start all brokers, or lower `sink.topics.replication`".to_owned()
                    }
                    _ => String::new(),
                };
                RunError { message: error.message + &more, ..error }
            }
            None if self.settings.topics.create => {
                RunError::transient(format!("kafka: topic {topic} was created, and is unknown after {SPREADING:?}"))
            }
            None => {
                let gone = match self.was_met(topic) {
                    true => "was deleted while this source ran",
                    false => "doesn't exist",
                };
                RunError::definite(format!(
                    "kafka: topic {topic} {gone}, and `sink.topics.create` is false; repair: {command}"
                ))
            }
        }
    }

    /// Those of the known topics that are gone, for an error message: librdkafka reports a record that waited too long, not what
    /// it waited for. Asks at most [`GLANCE`].
    pub(super) fn gone(&self) -> Vec<String> {
        let seen = look_beside(&self.admin, self.known.keys().cloned().collect(), GLANCE).unwrap_or_default();
        seen.into_iter().filter(|(_, partitions)| *partitions == 0).map(|(topic, _)| topic).collect()
    }

    fn was_met(&self, topic: &str) -> bool {
        self.settings.met.lock().unwrap_or_else(PoisonError::into_inner).contains_key(topic)
    }

    /// Remembers a topic beyond this run; true if it is new, or has other partitions than before, which is told.
    fn met(&self, topic: &str, partitions: usize) -> bool {
        let before =
            self.settings.met.lock().unwrap_or_else(PoisonError::into_inner).insert(topic.to_owned(), partitions);
        match before {
            None => true,
            Some(before) if before != partitions => {
                tracing::warn!(
                    source = %self.settings.source,
                    topic,
                    "topic {topic} has {partitions} partitions now, and had {before}: keys are in other partitions from now on, so \
                     that the order of a key's events holds in each partition only"
                );
                true
            }
            Some(_) => false,
        }
    }

    /// Looks at the topics beside the stream, every [`WATCH`], and deals with what was seen last time. Doesn't block.
    pub(super) fn watch(&mut self) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
        for (topic, partitions) in seen.into_iter().flatten() {
            if partitions > 0 {
                self.met(&topic, partitions);
            } else if self.known.remove(&topic).is_some() {
                tracing::debug!(source = %self.settings.source, topic, "topic is gone; looked at again with its next event");
            }
        }
        if self.watched.elapsed() < WATCH {
            return;
        }
        self.watched = Instant::now();
        // one look at a time: while a cluster doesn't answer, no more of them gather
        if Arc::strong_count(&self.admin) > 1 {
            return;
        }
        let (admin, seen) = (Arc::clone(&self.admin), Arc::clone(&self.seen));
        let topics: Vec<String> = self.known.keys().cloned().collect();
        self.settings.runtime.spawn_blocking(move || {
            let found = look_beside(&admin, topics, REQUEST);
            drop(admin);
            *seen.lock().unwrap_or_else(PoisonError::into_inner) = found;
        });
    }
}

/// Partitions of topics, 0 for one that is gone; none if the cluster doesn't answer.
fn look_beside(
    admin: &AdminClient<Background>,
    topics: Vec<String>,
    limit: Duration,
) -> Option<HashMap<String, usize>> {
    let mut seen = HashMap::new();
    let deadline = Instant::now() + limit;
    let left = || deadline.saturating_duration_since(Instant::now());
    if topics.len() > ONE_BY_ONE {
        let answer = admin.inner().fetch_metadata(None, left()).ok()?;
        let counts: HashMap<&str, usize> = answer
            .topics()
            .iter()
            .filter(|topic| exists(topic))
            .map(|topic| (topic.name(), topic.partitions().len()))
            .collect();
        seen.extend(topics.into_iter().map(|topic| {
            let count = counts.get(topic.as_str()).copied().unwrap_or(0);
            (topic, count)
        }));
        return Some(seen);
    }
    for name in topics {
        let answer = admin.inner().fetch_metadata(Some(&name), left()).ok()?;
        let Some(topic) = answer.topics().iter().find(|topic| topic.name() == name) else { continue };
        if exists(topic) {
            seen.insert(name, topic.partitions().len());
        } else if topic.error() == Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) {
            seen.insert(name, 0);
        }
    }
    Some(seen)
}

/// A partition without a leader is no reason to take the topic for missing.
fn exists(topic: &MetadataTopic) -> bool {
    use RDKafkaRespErr::{RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE as NO_LEADER, RD_KAFKA_RESP_ERR_NO_ERROR as OK};
    !topic.partitions().is_empty() && topic.error().is_none_or(|error| error == OK || error == NO_LEADER)
}
