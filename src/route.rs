//! Routing: which topic the events of a table go to.
//!
//! The template's placeholders are filled with names in which every character that isn't `[A-Za-z0-9_-]` is escaped, and
//! the escape itself is unambiguous; a dot, which separates the parts of a topic, is escaped too. So two tables never share
//! a topic by accident, whatever they are called. A name that makes the topic longer than Kafka allows (249) is cut and
//! completed with a hash.

use rowcast_core::TableName;

use crate::config::{TopicPart, TopicTemplate};
use crate::format::debezium::names;

/// Kafka's limit for the length of a topic's name.
const LONGEST_TOPIC: usize = 249;

/// The topic of a table of the source called `name`. `{schema}` is the database where there are no schemas.
pub fn topic(template: &TopicTemplate, name: &str, table: &TableName) -> String {
    if template.is_sanitised() {
        return sanitised(template, name, table);
    }
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

/// The same as Debezium names it: two tables may have one topic.
fn sanitised(template: &TopicTemplate, name: &str, table: &TableName) -> String {
    let part = |part: &TopicPart| match part {
        TopicPart::Literal(text) => text.clone(),
        TopicPart::Name => name.to_owned(),
        TopicPart::Database => table.db.to_string(),
        TopicPart::Schema => table.qualifier().to_owned(),
        TopicPart::Table => table.table.to_string(),
    };
    names::sanitised(&template.parts().iter().map(part).collect::<String>())
}

/// The topic of the messages that applications write into the log.
pub fn message_topic(name: &str) -> String {
    format!("rowcast.message.{name}")
}

/// The topic of what could not be delivered of a source's events.
pub fn dead_letter_topic(name: &str) -> String {
    format!("rowcast.dead_letter.{name}")
}

/// The topic of a source's table schemas.
pub fn schema_topic(name: &str) -> String {
    format!("rowcast.schema.{name}")
}

/// Whether a topic of this name may hold events of the source called `name`: whether some table's would. True for some topics of
/// others, since a template such as `{table}` says little.
pub fn may_hold(template: &TopicTemplate, name: &str, topic: &str) -> bool {
    if template.is_sanitised() {
        let reached = reached(template, name, topic.as_bytes());
        return reached.whole || (topic.len() == LONGEST_TOPIC && reached.begun);
    }
    let cut = topic.len() == LONGEST_TOPIC
        && topic.get(LONGEST_TOPIC - 17..).is_some_and(|end| {
            let hash = end.strip_prefix('-').unwrap_or_default();
            !hash.is_empty() && hash.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        });
    let whole = reached(template, name, topic.as_bytes()).whole;
    let begun = || topic.get(..LONGEST_TOPIC - 17).is_some_and(|start| reached(template, name, start.as_bytes()).begun);
    whole || (cut && begun())
}

struct Reached {
    /// The text is a whole topic.
    whole: bool,
    /// The text is how a topic may begin.
    begun: bool,
}

/// Runs all ways to read `text` as the template's parts side by side: `ends` are the places that the parts so far may end at.
fn reached(template: &TopicTemplate, name: &str, text: &[u8]) -> Reached {
    let mut ends = vec![0];
    let mut begun = false;
    for part in template.parts() {
        let mut next = Vec::new();
        for start in ends {
            let rest = text.get(start..).unwrap_or_default();
            let literal = match part {
                TopicPart::Literal(literal) => literal,
                TopicPart::Name => name,
                TopicPart::Database | TopicPart::Schema | TopicPart::Table => {
                    let (lengths, open) = match template.is_sanitised() {
                        true => sanitised_lengths(rest),
                        false => escaped_lengths(rest),
                    };
                    begun |= open;
                    next.extend(lengths.into_iter().map(|length| start + length));
                    continue;
                }
            };
            begun |= literal.as_bytes().starts_with(rest);
            if rest.starts_with(literal.as_bytes()) {
                next.push(start + literal.len());
            }
        }
        next.sort_unstable();
        next.dedup();
        ends = next;
    }
    Reached { whole: ends.contains(&text.len()), begun }
}

/// The same of a name in which odd characters were replaced: any text that may stand in a topic's name.
fn sanitised_lengths(text: &[u8]) -> (Vec<usize>, bool) {
    let legal = text.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte)).count();
    ((0..=legal).collect(), legal == text.len())
}

/// The lengths of the beginnings of `text` that [`escape`] may have written, and whether all of it is how such a text may begin.
fn escaped_lengths(text: &[u8]) -> (Vec<usize>, bool) {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let (mut lengths, mut at) = (vec![0], 0);
    while let Some(&byte) = text.get(at) {
        // an `x` behind a `_` is an escape's, always: a name's own `_` is escaped there
        at += match (byte, text.get(at + 1)) {
            (b'_', Some(b'x')) => {
                // a name may end with the `_`, and the template go on with an `x`
                lengths.push(at + 1);
                match text.get(at + 2..at + 5) {
                    Some([high, low, b'_']) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => 5,
                    Some(_) => return (lengths, false),
                    None => return (lengths, true),
                }
            }
            _ if plain(byte) => 1,
            _ => return (lengths, false),
        };
        lengths.push(at);
    }
    (lengths, true)
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

/// FNV-1a of a text, 64 bits (<http://www.isthe.com/chongo/tech/comp/fnv/>): the same in every run.
pub fn fnv1a(text: &str) -> u64 {
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
    fn every_topic_of_a_template_is_recognised_and_others_are_not() {
        let odd =
            ["a.b", "a_b", "_x", "x", "_", "a_x2E_b", "ä", "a b", "-", "\"", "order_items", &"ö".repeat(60), "_xA"];
        for text in ["{name}.{schema}.{table}", "x{table}x", "{schema}{table}", "{table}", "all", "{db}x2E_{name}"] {
            let template = TopicTemplate::parse(text).unwrap();
            for schema in odd {
                for name in odd {
                    let topic = topic(&template, "shop", &table(schema, name));
                    assert!(may_hold(&template, "shop", &topic), "{text}: {topic}");
                }
            }
        }
        let template = TopicTemplate::parse("{name}.{schema}.{table}").unwrap();
        for topic in [
            "shop.a",
            "shop.a.b.c",
            "shops.a.b",
            "shop.a.b_x2",
            "shop.a._xZZ_",
            "rowcast.checkpoint.shop",
            "",
            &"a".repeat(249),
        ] {
            assert!(!may_hold(&template, "shop", topic), "{topic}");
        }
        assert!(!may_hold(&TopicTemplate::parse("all").unwrap(), "shop", "alles"));
        let long = format!("shop.{}-0123456789abcdef", "a".repeat(227));
        assert!(may_hold(&template, "shop", &long), "cut before its table");
        assert!(!may_hold(&template, "stock", &long));
    }

    #[test]
    fn topics_as_debezium_names_them_are_recognised() {
        let template = TopicTemplate::parse("{name}.{schema}.{table}").unwrap().sanitised("fulfil.ment");
        assert_eq!(template.to_string(), "fulfil.ment.{schema}.{table}");
        for (schema, name, expected) in
            [("public", "orders", "fulfil.ment.public.orders"), ("a b", "x.ü", "fulfil.ment.a_b.x._")]
        {
            let topic = topic(&template, "shop", &table(schema, name));
            assert_eq!(topic, expected);
            assert!(may_hold(&template, "shop", &topic));
        }
        for topic in ["shop.public.orders", "fulfil.ment", "fulfil.ment.orders", "fulfilment.public.orders"] {
            assert!(!may_hold(&template, "shop", topic), "{topic}");
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
