//! `sink.topics`: how topics are created, and what existing ones are compared with.
//!
//! Settings that aren't written are the broker's. A rule's settings go over the section's, `config` key by key; the first
//! rule whose pattern matches the topic's name wins. Whether a cluster takes the settings is known only when it is asked.

use std::collections::BTreeMap;

use rowcast_core::Glob;

use super::keys::unknown_in_entry;
use super::reader::{Item, Section};

/// Most partitions that a rule may ask for: Kafka has no limit of its own, and a slip of the finger should not be found by it.
const MOST_PARTITIONS: i32 = 100_000;
/// What an entry of `rules` may hold.
const IN_RULE: [&str; 4] = ["match", "partitions", "replication", "config"];

/// How topics are made, and what existing ones are compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicsConfig {
    /// Whether missing topics are created; else they are an error.
    pub create: bool,
    /// For topics without a rule; a topic of state takes `replication` and `min.insync.replicas` of it.
    pub settings: TopicSettings,
    /// In order; the first that matches wins.
    pub rules: Vec<TopicRule>,
}

/// Settings of a topic; what is missing is the broker's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicSettings {
    /// Partitions, from 1.
    pub partitions: Option<i32>,
    /// Copies of each partition, from 1.
    pub replication: Option<i32>,
    /// Topic configuration, such as `retention.ms`.
    pub config: BTreeMap<String, String>,
}

/// Settings of the topics whose name matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicRule {
    /// As it is written.
    pub text: String,
    pattern: Glob,
    /// What differs from the section's.
    pub settings: TopicSettings,
}

impl Default for TopicsConfig {
    fn default() -> Self {
        Self { create: true, settings: TopicSettings::default(), rules: Vec::new() }
    }
}

impl TopicsConfig {
    /// What the configuration says about a topic of events.
    pub fn for_topic(&self, topic: &str) -> TopicSettings {
        let mut settings = self.settings.clone();
        if let Some(rule) = self.rules.iter().find(|rule| rule.pattern.matches(topic)) {
            settings.partitions = rule.settings.partitions.or(settings.partitions);
            settings.replication = rule.settings.replication.or(settings.replication);
            settings.config.extend(rule.settings.config.clone());
        }
        settings
    }
}

/// Reads `sink.topics`; `None` after a report.
pub(crate) fn read(sink: &Section<'_>) -> Option<TopicsConfig> {
    let section = sink.section("topics");
    let create = if section.has("create") { section.switch("create") } else { Some(true) };
    let settings = read_settings(&section);
    let rules = if section.has("rules") { read_rules(&section) } else { Some(Vec::new()) };
    if sink.is_malformed("topics") {
        return None;
    }
    Some(TopicsConfig { create: create?, settings: settings?, rules: rules? })
}

fn read_settings(section: &Section<'_>) -> Option<TopicSettings> {
    let number = |key: &str, most: i32| match section.has(key) {
        true => section.value(key, |text| whole(text, most)).map(Some),
        false => Some(None),
    };
    let partitions = number("partitions", MOST_PARTITIONS);
    let replication = number("replication", i32::from(i16::MAX));
    let free = section.section("config");
    let mut config = BTreeMap::new();
    for (name, place, text) in free.texts() {
        if name.is_empty() || name.contains(|letter: char| !(letter.is_ascii_alphanumeric() || ".-_".contains(letter)))
        {
            free.report(place, format!("`{name}` is no topic configuration, such as retention.ms"));
        } else {
            config.insert(name.to_owned(), text.value);
        }
    }
    Some(TopicSettings { partitions: partitions?, replication: replication?, config })
}

fn read_rules(section: &Section<'_>) -> Option<Vec<TopicRule>> {
    let rules: Vec<Option<TopicRule>> = section
        .items("rules")?
        .into_iter()
        .map(|item| match item {
            Item::Section(entry) => read_rule(&entry),
            Item::Text(text) => {
                section.report(
                    &text.place,
                    format!(
                        "`{}`: `{}` is no rule; expected a mapping such as {{match: \"shop.*\", partitions: 12}}",
                        section.full("rules"),
                        text.shown
                    ),
                );
                None
            }
        })
        .collect();
    rules.into_iter().collect()
}

fn read_rule(entry: &Section<'_>) -> Option<TopicRule> {
    let mut sound = true;
    for (name, place) in entry.keys().filter(|(name, _)| !IN_RULE.contains(name)) {
        entry.report(place, unknown_in_entry(name, entry.of(), &IN_RULE));
        sound = false;
    }
    let text = entry.required("match", "a topic's name, with * and ?", parse_pattern);
    let settings = read_settings(entry);
    let (text, settings) = (text?, settings?);
    sound.then(|| TopicRule { pattern: Glob::new(&text), text, settings })
}

fn parse_pattern(text: &str) -> Result<String, String> {
    let legal = |letter: char| letter.is_ascii_alphanumeric() || "._-*?".contains(letter);
    match text.chars().find(|letter| !legal(*letter)) {
        _ if text.is_empty() => Err("expected a topic's name, with * and ?, such as shop.*".to_owned()),
        Some(odd) => {
            Err(format!("`{odd}` is in no topic's name; allowed: letters, digits, . _ -, and the patterns * ?"))
        }
        None => Ok(text.to_owned()),
    }
}

fn whole(text: &str, most: i32) -> Result<i32, String> {
    text.parse()
        .ok()
        .filter(|number| (1..=most).contains(number))
        .ok_or_else(|| format!("expected a whole number from 1 to {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(partitions: Option<i32>, config: &[(&str, &str)]) -> TopicSettings {
        let config = config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        TopicSettings { partitions, replication: None, config }
    }

    #[test]
    fn the_first_rule_that_matches_goes_over_the_section() {
        let rule = |text: &str, settings| TopicRule { text: text.into(), pattern: Glob::new(text), settings };
        let topics = TopicsConfig {
            create: true,
            settings: TopicSettings { replication: Some(3), ..settings(Some(6), &[("a", "1"), ("b", "1")]) },
            rules: vec![
                rule("shop.*.audit", settings(None, &[("b", "2")])),
                rule("shop.*", settings(Some(12), &[])),
                rule("*", settings(Some(1), &[])),
            ],
        };
        let with = |partitions, config: &[(&str, &str)]| TopicSettings {
            replication: Some(3),
            ..settings(Some(partitions), config)
        };
        assert_eq!(topics.for_topic("shop.public.audit"), with(6, &[("a", "1"), ("b", "2")]));
        assert_eq!(topics.for_topic("shop.public.orders"), with(12, &[("a", "1"), ("b", "1")]));
        assert_eq!(topics.for_topic("stock.items"), with(1, &[("a", "1"), ("b", "1")]));
        assert_eq!(TopicsConfig::default().for_topic("x"), TopicSettings::default());
    }
}
