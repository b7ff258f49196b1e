//! What is expected of a topic that exists, and the commands that an operator needs.
//!
//! Only the checkpoint's topic can stop a source: where it is cleaned by age or size, the checkpoint vanishes. Whatever else
//! differs from the configuration is a warning, once per process: a topic may be somebody else's too.

use std::collections::BTreeMap;

use rdkafka::metadata::MetadataTopic;

use super::client::KafkaSettings;
use super::topics::TopicKind;
use crate::config::TopicSettings;
use crate::error::RunError;

/// A topic as the cluster shows it.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Partitions.
    pub(super) partitions: usize,
    /// Copies of the partition that has the fewest.
    pub(super) replication: usize,
    /// Brokers of the cluster.
    pub(super) brokers: usize,
    /// Its settings, the broker's defaults included; none if this user may not read them.
    pub(super) config: Option<BTreeMap<String, String>>,
}

impl Found {
    /// What the metadata tell.
    pub(super) fn of(topic: &MetadataTopic, brokers: usize) -> Self {
        let replication = topic.partitions().iter().map(|partition| partition.replicas().len()).min().unwrap_or(0);
        Self { partitions: topic.partitions().len(), replication, brokers, config: None }
    }

    fn setting(&self, key: &str) -> Option<&str> {
        self.config.as_ref()?.get(key).map(String::as_str)
    }
}

/// Compares a topic with what it should be. `first`: differences are told, this once.
///
/// # Errors
/// Definite, for a checkpoint topic that may lose its checkpoint.
pub(super) fn existing(
    settings: &KafkaSettings,
    topic: &str,
    kind: TopicKind,
    wanted: &TopicSettings,
    found: &Found,
    first: bool,
) -> Result<(), RunError> {
    let policy = found.setting("cleanup.policy");
    let source = &settings.source;
    if kind == TopicKind::Checkpoint && policy.is_some_and(|policy| !is_compacted_only(policy)) {
        let policy = policy.unwrap_or_default();
        return Err(RunError::definite(format!(
            "kafka: topic {topic} has cleanup.policy={policy}: the checkpoint would be deleted with age; repair: {}",
            alter_command(settings, topic, "cleanup.policy=compact")
        )));
    }
    if !first {
        return Ok(());
    }
    for difference in differences(kind, wanted, found) {
        tracing::warn!(source, topic, "topic {topic} {difference}; it is left as it is");
    }
    match (kind, &found.config) {
        (TopicKind::Checkpoint, None) => tracing::warn!(
            source,
            topic,
            "can't see whether topic {topic} is compacted, as the checkpoint needs it; repair: grant the user DescribeConfigs on the \
             topic, or make sure of cleanup.policy=compact"
        ),
        (TopicKind::Schemas, Some(_)) if policy.is_some_and(|policy| !is_compacted_only(policy)) => tracing::warn!(
            source,
            topic,
            "topic {topic} has cleanup.policy={}: consumers will miss schemas of older events; repair: {}",
            policy.unwrap_or_default(),
            alter_command(settings, topic, "cleanup.policy=compact")
        ),
        _ => {}
    }
    if kind != TopicKind::Events && found.replication == 1 && found.brokers >= 3 {
        tracing::warn!(
            source,
            topic,
            "topic {topic} is on one of {} brokers only: without it this source stands still; repair: kafka-reassign-partitions, and \
             `sink.topics.replication` for topics to come",
            found.brokers
        );
    }
    if kind == TopicKind::Checkpoint && found.replication >= 3 && found.setting("min.insync.replicas") == Some("1") {
        tracing::info!(
            source,
            topic,
            "topic {topic} has min.insync.replicas=1: while only one of its brokers is up, a commit is on that one alone; better: {}",
            alter_command(settings, topic, "min.insync.replicas=2")
        );
    }
    Ok(())
}

fn is_compacted_only(policy: &str) -> bool {
    policy.split(',').map(str::trim).eq(["compact"])
}

/// What isn't as the configuration says. Of a topic of state only what was asked for.
fn differences(kind: TopicKind, wanted: &TopicSettings, found: &Found) -> Vec<String> {
    let mut told = Vec::new();
    let count = |number: i32| usize::try_from(number).unwrap_or(0);
    if let Some(partitions) = wanted.partitions.map(count)
        && partitions != found.partitions
    {
        told.push(format!("has {} partitions, the configuration says {partitions}", found.partitions));
    }
    if let Some(replication) = wanted.replication.map(count)
        && replication != found.replication
    {
        told.push(format!("has replication {}, the configuration says {replication}", found.replication));
    }
    for (key, value) in wanted.config.iter().filter(|_| kind == TopicKind::Events) {
        let Some(is) = found.config.as_ref().map(|config| config.get(key).map_or("", String::as_str)) else { continue };
        if is != value {
            told.push(format!("has {key}={is}, the configuration says {value}"));
        }
    }
    told
}

/// The command that makes a topic.
pub(super) fn create_command(settings: &KafkaSettings, topic: &str, wanted: &TopicSettings) -> String {
    let mut command = format!("kafka-topics --bootstrap-server {} --create --topic {topic}", settings.brokers);
    if let Some(partitions) = wanted.partitions {
        command.push_str(&format!(" --partitions {partitions}"));
    }
    if let Some(replication) = wanted.replication {
        command.push_str(&format!(" --replication-factor {replication}"));
    }
    for (key, value) in &wanted.config {
        command.push_str(&format!(" --config {key}={value}"));
    }
    command
}

fn alter_command(settings: &KafkaSettings, topic: &str, setting: &str) -> String {
    format!(
        "kafka-configs --bootstrap-server {} --alter --entity-type topics --entity-name {topic} --add-config {setting}",
        settings.brokers
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_compaction_alone_keeps_a_checkpoint() {
        for (policy, good) in
            [("compact", true), ("delete", false), ("compact,delete", false), ("delete, compact", false)]
        {
            assert_eq!(is_compacted_only(policy), good, "{policy}");
        }
    }

    #[test]
    fn what_was_not_asked_for_is_no_difference() {
        let config = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>()
        };
        let mut found = Found { partitions: 3, replication: 1, brokers: 1, config: Some(config(&[("a", "1")])) };
        assert_eq!(differences(TopicKind::Events, &TopicSettings::default(), &found), [""; 0]);
        let wanted =
            TopicSettings { partitions: Some(6), replication: Some(1), config: config(&[("a", "1"), ("b", "2")]) };
        let told = differences(TopicKind::Events, &wanted, &found);
        assert_eq!(told, ["has 3 partitions, the configuration says 6", "has b=, the configuration says 2"]);
        // what may not be read isn't guessed
        found.config = None;
        assert_eq!(differences(TopicKind::Events, &wanted, &found).len(), 1);
    }
}
