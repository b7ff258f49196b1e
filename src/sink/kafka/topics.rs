//! Creates the topics that a source needs and doesn't find.
//!
//! Partitions and replication are the broker's defaults (`num.partitions`, `default.replication.factor`), except that topics of
//! state are compacted and have one partition. A topic that exists is left as it is.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::types::RDKafkaErrorCode;

use super::client::{Background, KafkaSettings, failed};
use crate::error::RunError;

/// What a topic is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicKind {
    /// Events of a table.
    Events,
    /// Table schemas, the last of each version kept.
    Schemas,
    /// Checkpoints of a source, the last one kept.
    Checkpoint,
}

/// Creates the topic unless it exists. Blocks.
///
/// # Errors
/// Transient if Kafka can't be reached; definite if it refuses, with the repair.
pub fn ensure_topic(settings: &KafkaSettings, topic: &str, kind: TopicKind) -> Result<(), RunError> {
    let mut config = settings.base();
    settings.shared_properties(&mut config);
    let admin: AdminClient<Background> = config.create_with_context(Background::default()).map_err(|error| {
        RunError::definite(format!("can't make a kafka client: {error}; repair: `sink.properties`"))
    })?;
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
    let doing = format!("create topic {topic}");
    let results = settings
        .runtime
        .block_on(admin.create_topics([&new], &options))
        .map_err(|error| failed(&doing, &error, admin.inner().context()))?;
    for result in results {
        match result {
            Ok(_) => tracing::info!(source = %settings.source, topic, "created topic"),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, code)) => {
                // a topic made beforehand may be usable without the right to create it
                let exists = admin.inner().fetch_metadata(Some(topic), Duration::from_secs(10)).is_ok_and(|found| {
                    found.topics().iter().any(|t| t.error().is_none() && !t.partitions().is_empty())
                });
                if !exists {
                    let error = rdkafka::error::KafkaError::AdminOp(code);
                    return Err(failed(&doing, &error, admin.inner().context()));
                }
            }
        }
    }
    Ok(())
}
