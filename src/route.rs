//! Routing: which topic the events of a table go to.
//!
//! The template's placeholders are filled with names in which every character that isn't `[A-Za-z0-9_-]` is escaped, and
//! the escape itself is unambiguous; a dot, which separates the parts of a topic, is escaped too. So two tables never share
//! a topic by accident, whatever they are called. A name that makes the topic longer than Kafka allows (249) is cut and
//! completed with a hash.

use rowcast_core::TableName;

use crate::config::{TopicPart, TopicTemplate};

/// Kafka's limit for the length of a topic's name.
const LONGEST_TOPIC: usize = 249;

/// The topic of a table of the source called `name`. `{schema}` is the database where there are no schemas.
pub fn topic(template: &TopicTemplate, name: &str, table: &TableName) -> String {
    let mut topic = String::new();
    for part in template.parts() {
        match part {
            TopicPart::Literal(text) => topic.push_str(text),
            TopicPart::Name => topic.push_str(name),
            TopicPart::Database => escape(&mut topic, &table.db),
            TopicPart::Schema => escape(&mut topic, table.qualifier()),
            TopicPart::Table => escape(&mut topic, &table.table),
        }
    }
    if topic.len() > LONGEST_TOPIC {
        // all ASCII by now, so any place to cut is a character's
        let hash = fnv1a(&topic);
        topic.truncate(LONGEST_TOPIC - 17);
        topic.push_str(&format!("-{hash:016x}"));
    }
    topic
}

/// The topic of the messages that applications write into the log.
pub fn message_topic(name: &str) -> String {
    format!("rowcast.message.{name}")
}

/// The topic of a source's table schemas.
pub fn schema_topic(name: &str) -> String {
    format!("rowcast.schema.{name}")
}

/// Every byte outside `[A-Za-z0-9_-]` becomes `_xHH_`. A `_` that stands before an `x` is escaped as well, so that `_x` in a
/// topic always starts an escape and the name can be read back.
fn escape(topic: &mut String, name: &str) {
    let mut bytes = name.bytes().peekable();
    while let Some(byte) = bytes.next() {
        let plain = byte.is_ascii_alphanumeric() || byte == b'-' || (byte == b'_' && bytes.peek() != Some(&b'x'));
        if plain {
            topic.push(char::from(byte));
        } else {
            topic.push_str(&format!("_x{byte:02X}_"));
        }
    }
}

fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashSet;
    use std::sync::Arc;

    use super::*;

    fn table(schema: &str, table: &str) -> TableName {
        TableName { db: Arc::from("db"), schema: Some(Arc::from(schema)), table: Arc::from(table) }
    }

    #[test]
    fn plain_names_stay_readable() {
        let template = TopicTemplate::parse("{name}.{schema}.{table}").unwrap();
        assert_eq!(topic(&template, "shop", &table("public", "order_items")), "shop.public.order_items");
        let mysql = TableName { db: Arc::from("shop"), schema: None, table: Arc::from("orders") };
        assert_eq!(topic(&template, "s", &mysql), "s.shop.orders");
    }

    #[test]
    fn names_that_could_be_confused_get_topics_of_their_own() {
        let template = TopicTemplate::parse("{schema}.{table}").unwrap();
        let odd = [
            "a.b", "a_b", "a_x2E_b", "a_x5F_b", "_x", "x", "_", "__x", ".x2E_", "_x2E.", "ä", "a b", "A", "a", "-",
            "\"", "",
        ];
        let mut topics = HashSet::new();
        for schema in odd {
            for name in odd {
                let topic = topic(&template, "s", &table(schema, name));
                assert!(topic.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)), "{topic}");
                assert!(topics.insert(topic.clone()), "{topic} twice");
            }
        }
    }

    #[test]
    fn topics_are_never_longer_than_kafka_allows() {
        let template = TopicTemplate::parse("{schema}.{table}").unwrap();
        let (a, b) = ("ä".repeat(63), "ö".repeat(62) + "ü");
        let (first, second) =
            (topic(&template, "s", &table(&a, &b)), topic(&template, "s", &table(&a, &(b.clone() + "x"))));
        assert_eq!(first.len(), LONGEST_TOPIC);
        assert_ne!(first, second);
    }
}
