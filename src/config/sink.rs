//! The `sink:` section: where events go.
//!
//! Guarantee: librdkafka properties on which exactly once, order or the position depend can't be set from outside; all
//! others pass through as text, letter by letter. Values that may be secrets never show in `Debug`, logs or summaries.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

use super::reader::Section;
use super::topic::{DEFAULT_TOPIC, TopicTemplate};
use super::topics::{self, TopicsConfig};
use super::units::{parse_bytes, show_bytes};

/// Files that are kept if `keep` isn't set, and the most that may be: a folder is listed for each rotation.
const KEPT: u64 = 10;
const MOST_KEPT: u64 = 10_000;

/// Where a source's events go.
#[derive(Clone, Debug)]
pub enum SinkConfig {
    /// Topics of Kafka.
    Kafka(KafkaConfig),
    /// Lines on the standard output.
    Stdout,
    /// Lines of a file.
    File {
        /// The file; created if it is missing.
        path: PathBuf,
        /// When it is set aside; none to let it grow.
        rotate: Option<RotateConfig>,
    },
}

/// When a file of events is set aside for a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotateConfig {
    /// From this size on, at the end of a transaction; from 1 KiB.
    pub max_bytes: u64,
    /// Files that were set aside and are kept, from 1; the oldest are deleted.
    pub keep: u64,
}

/// Kafka as the sink.
#[derive(Clone, Debug)]
pub struct KafkaConfig {
    /// `host:port`, separated by commas.
    pub brokers: String,
    /// Names the topic of an event.
    pub topic: TopicTemplate,
    /// How topics are created, and what existing ones are compared with.
    pub topics: TopicsConfig,
    /// librdkafka properties, none of which Rowcast sets itself for its guarantees.
    pub properties: BTreeMap<String, PropertyValue>,
    /// Whether a delete is followed by a record with the key and no value, for compacted topics.
    pub tombstones: bool,
}

/// A librdkafka property's value.
#[derive(Clone)]
pub enum PropertyValue {
    /// May be shown.
    Plain(String),
    /// A password, a key, or anything that came out of `${...}`; never shown.
    Secret(SecretString),
}

impl PropertyValue {
    /// The value itself, for librdkafka only.
    pub fn expose(&self) -> &str {
        match self {
            Self::Plain(value) => value,
            Self::Secret(value) => value.expose_secret(),
        }
    }
}

impl fmt::Display for PropertyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(value) => f.write_str(value),
            Self::Secret(_) => f.write_str("[secret]"),
        }
    }
}

impl fmt::Debug for PropertyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(value) => fmt::Debug::fmt(value, f),
            Self::Secret(_) => f.write_str("[secret]"),
        }
    }
}

/// How events are delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Events and position in one Kafka transaction: a read_committed consumer sees every change once.
    ExactlyOnce,
    /// Nothing is lost; after a crash the last events may be repeated.
    AtLeastOnce,
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ExactlyOnce => "exactly_once",
            Self::AtLeastOnce => "at_least_once",
        })
    }
}

/// The properties that Rowcast sets itself, and why they can't be set in the file.
const OWNED: &[(&[&str], &str)] = &[
    (&["bootstrap.servers", "metadata.broker.list"], "write it as `sink.brokers`"),
    (&["transactional.id"], "it is made from the source's name, so that a new daemon fences the older one"),
    (&["enable.idempotence", "idempotence"], "the guarantees need it; it is always on"),
    (&["acks", "request.required.acks"], "the guarantees need all replicas' acknowledgement; it is always `all`"),
    (&["partitioner"], "events are partitioned by murmur2 of the key, as Java clients do"),
    (&["delivery.report.only.error"], "every event's delivery report is checked before a commit"),
    (
        &[
            "group.id",
            "group.instance.id",
            "group.protocol",
            "enable.auto.commit",
            "enable.auto.offset.store",
            "auto.commit.interval.ms",
            "auto.offset.reset",
            "isolation.level",
            "partition.assignment.strategy",
        ],
        "Rowcast is no member of a consumer group; it reads its own checkpoint only",
    ),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum SinkType {
    Kafka,
    Stdout,
    File,
}

/// Reads `sink` and `delivery`; `None` after a report.
pub(crate) fn read(root: &Section<'_>) -> Option<(SinkConfig, Delivery)> {
    if root.is_malformed("sink") {
        root.section("sink");
        return None;
    }
    let sink = root.section("sink");
    if !sink.has("type") {
        sink.missing("type", "allowed: kafka, stdout, file");
    }
    let kind =
        sink.choice("type", &[("kafka", SinkType::Kafka), ("stdout", SinkType::Stdout), ("file", SinkType::File)]);
    let delivery = read_delivery(root, kind);
    let config = match kind? {
        SinkType::Kafka => read_kafka(&sink).map(SinkConfig::Kafka),
        SinkType::Stdout => Some(SinkConfig::Stdout),
        SinkType::File => {
            if !sink.has("path") {
                sink.missing("path", "the file to write events to");
            }
            let (path, rotate) = (sink.path("path"), read_rotate(&sink));
            path.zip(rotate).map(|(path, rotate)| SinkConfig::File { path, rotate })
        }
    };
    Some((config?, delivery?))
}

fn read_delivery(root: &Section<'_>, kind: Option<SinkType>) -> Option<Delivery> {
    let choices = [("exactly_once", Delivery::ExactlyOnce), ("at_least_once", Delivery::AtLeastOnce)];
    if !root.has("delivery") {
        return Some(if kind == Some(SinkType::Kafka) { Delivery::ExactlyOnce } else { Delivery::AtLeastOnce });
    }
    let delivery = root.choice("delivery", &choices)?;
    let sink = match kind {
        Some(SinkType::Stdout) => "stdout",
        Some(SinkType::File) => "file",
        Some(SinkType::Kafka) | None => return Some(delivery),
    };
    if delivery == Delivery::ExactlyOnce {
        let place = root.text("delivery").map_or_else(|| root.place().clone(), |text| text.place);
        root.report(
            &place,
            format!(
                "`delivery` is `exactly_once`, which a sink of `type: {sink}` can't give: it has no transactions that hold \
                 the events and the position together; write at_least_once, or leave the key out"
            ),
        );
        return None;
    }
    Some(delivery)
}

fn read_kafka(sink: &Section<'_>) -> Option<KafkaConfig> {
    let brokers = sink.required("brokers", "such as `brokers: kafka:9092`", parse_brokers);
    let topic = match sink.has("topic") {
        true => sink.value("topic", TopicTemplate::parse),
        false => TopicTemplate::parse(DEFAULT_TOPIC).ok(),
    };
    let tombstones = if sink.has("tombstones") { sink.switch("tombstones") } else { Some(true) };
    let topics = topics::read(sink);
    let properties = read_properties(sink);
    Some(KafkaConfig { brokers: brokers?, topic: topic?, topics: topics?, properties, tombstones: tombstones? })
}

/// None after a report; within it none if the file isn't rotated.
fn read_rotate(sink: &Section<'_>) -> Option<Option<RotateConfig>> {
    let rotate = sink.section("rotate");
    if sink.is_malformed("rotate") {
        return None;
    }
    if !sink.has("rotate") || rotate.keys().next().is_none() {
        return Some(None);
    }
    let max_bytes = rotate.required("max_bytes", "such as `max_bytes: 100MiB`", |text| {
        let (least, most) = (1 << 10, 1 << 40);
        parse_bytes(text).and_then(|bytes| match (least..=most).contains(&bytes) {
            true => Ok(bytes),
            false => Err(format!("expected {} to {}", show_bytes(least), show_bytes(most))),
        })
    });
    let keep = match rotate.has("keep") {
        true => rotate.value("keep", |text| {
            let number = text.parse().ok().filter(|number| (1..=MOST_KEPT).contains(number));
            number.ok_or_else(|| format!("expected a whole number from 1 to {MOST_KEPT}"))
        }),
        false => Some(KEPT),
    };
    Some(Some(RotateConfig { max_bytes: max_bytes?, keep: keep? }))
}

fn parse_brokers(text: &str) -> Result<String, String> {
    const FORM: &str = "expected host:port, several separated by commas, such as kafka-1:9092,kafka-2:9092";
    let brokers: Vec<&str> = text.split(',').map(str::trim).collect();
    for broker in &brokers {
        // A listener's protocol may stand in front: `SSL://kafka:9093`.
        let address = broker.split_once("://").map_or(*broker, |(_, address)| address);
        let port = match (address.strip_prefix('['), address.rsplit_once(':')) {
            (Some(ipv6), _) => ipv6.split_once(']').and_then(|(_, rest)| rest.strip_prefix(':')),
            (None, Some((_, port))) => Some(port),
            (None, None) => None,
        };
        let bad_port = port.is_some_and(|port| !port.parse::<u16>().is_ok_and(|port| port > 0));
        let bad_host = address.is_empty() || address.starts_with(':') || broker.contains(char::is_whitespace);
        if bad_port || bad_host {
            return Err(FORM.to_owned());
        }
    }
    Ok(brokers.join(","))
}

fn read_properties(sink: &Section<'_>) -> BTreeMap<String, PropertyValue> {
    let section = sink.section("properties");
    let mut properties = BTreeMap::new();
    for (name, place, text) in section.texts() {
        if let Some((_, why)) = OWNED.iter().find(|(names, _)| names.contains(&name)) {
            section.report(place, format!("`{name}` can't be set in `sink.properties`: {why}"));
        } else if ["sasl.mechanism", "sasl.mechanisms"].contains(&name) && text.value == "OAUTHBEARER" {
            section.report(
                place,
                format!("`{name}` is OAUTHBEARER, which isn't supported; PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 and client certificates are"),
            );
        } else if name.is_empty() || name.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
            section.report(place, format!("`{name}` is no name of a librdkafka property, such as compression.type"));
        } else {
            let value = match text.resolved || is_secret(name) {
                true => PropertyValue::Secret(SecretString::from(text.value)),
                false => PropertyValue::Plain(text.value),
            };
            properties.insert(name.to_owned(), value);
        }
    }
    properties
}

fn is_secret(name: &str) -> bool {
    // `sasl.oauthbearer.config` holds `secret=...` for the unsecured mechanism and arbitrary text for others.
    ["password", "passphrase", "secret", "key.pem", "private.key", "token", "oauthbearer.config", "jaas"]
        .iter()
        .any(|part| name.to_lowercase().contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_hosts_with_ports() {
        for (text, expected) in [
            ("kafka:9092", "kafka:9092"),
            ("a:1, b:2", "a:1,b:2"),
            ("kafka", "kafka"),
            ("SSL://kafka:9093", "SSL://kafka:9093"),
            ("[::1]:9092", "[::1]:9092"),
        ] {
            assert_eq!(parse_brokers(text).as_deref(), Ok(expected));
        }
        for text in ["", "kafka:", "kafka:port", "kafka:99999", ":9092", "a b:1", "a:1,,b:2", "kafka:0"] {
            assert!(parse_brokers(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_of_secrets_are_recognised() {
        for name in ["sasl.password", "ssl.key.password", "ssl.key.pem", "sasl.oauthbearer.client.secret"] {
            assert!(is_secret(name), "{name}");
        }
        assert!(!is_secret("ssl.ca.location"));
        assert!(!is_secret("ssl.key.location"));
    }
}
