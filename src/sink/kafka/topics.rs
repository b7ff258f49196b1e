//! Creates the topics that a source needs and doesn't find.
//!
//! Partitions and replication are the broker's defaults (`num.partitions`, `default.replication.factor`), except that topics of
//! state are compacted and have one partition. A topic that exists is left as it is.

use std::collections::HashSet;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use super::client::{Background, KafkaSettings, failed};
use crate::error::RunError;

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

/// The topics of one run: which exist, and the client that creates those that don't.
pub(super) struct Topics {
    settings: KafkaSettings,
    /// Kept for the whole run: dropping one takes a tenth of a second, making one a connection.
    admin: AdminClient<Background>,
    known: HashSet<String>,
}

impl Topics {
    /// Makes the client; connects later.
    ///
    /// # Errors
    /// Definite, for properties that librdkafka refuses.
    pub(super) fn new(settings: &KafkaSettings) -> Result<Self, RunError> {
        let mut config = settings.base();
        settings.shared_properties(&mut config);
        let admin = config.create_with_context(Background::default()).map_err(|error| {
            RunError::definite(format!("can't make a kafka client: {error}; repair: `sink.properties`"))
        })?;
        Ok(Self { settings: settings.clone(), admin, known: HashSet::new() })
    }

    /// Creates the topic unless it exists. Blocks, once per topic and run.
    ///
    /// # Errors
    /// Transient if Kafka can't be reached; definite if it refuses, with the repair.
    pub(super) fn ensure(&mut self, topic: &str, kind: TopicKind) -> Result<(), RunError> {
        if !self.known.contains(topic) {
            self.create(topic, kind)?;
            self.known.insert(topic.to_owned());
        }
        Ok(())
    }

    fn create(&self, topic: &str, kind: TopicKind) -> Result<(), RunError> {
        let Self { settings, admin, .. } = self;
        let replication = TopicReplication::Fixed(-1);
        let new = match kind {
            TopicKind::Events => NewTopic::new(topic, -1, replication),
            TopicKind::Schemas => NewTopic::new(topic, 1, replication).set("cleanup.policy", "compact"),
            // small segments: what compaction can't remove yet is what a start may have to read
            TopicKind::Checkpoint => NewTopic::new(topic, 1, replication)
                .set("cleanup.policy", "compact")
                .set("segment.bytes", "4194304")
                .set("min.cleanable.dirty.ratio", "0.1"),
        };
        let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(10)));
        let failed = |error: &KafkaError| failed(&format!("create topic {topic}"), error, admin.inner().context());
        let results =
            settings.runtime.block_on(admin.create_topics([&new], &options)).map_err(|error| failed(&error))?;
        for result in results {
            match result {
                Ok(_) => tracing::info!(source = %settings.source, topic, "created topic"),
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                // a topic made beforehand may be usable without the right to create it
                Err((_, code)) if !self.exists(topic) => return Err(failed(&KafkaError::AdminOp(code))),
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn exists(&self, topic: &str) -> bool {
        let metadata = self.admin.inner().fetch_metadata(Some(topic), Duration::from_secs(10));
        metadata.is_ok_and(|found| found.topics().iter().any(|t| t.error().is_none() && !t.partitions().is_empty()))
    }
}
