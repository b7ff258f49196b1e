//! Options that become keys of ours under other names, or whose meaning depends on their value.

use super::offsets::Stopped;
use super::options::How;
use super::read::Options;
use super::yaml::Document;
use super::{Connector, Fate, tables};
use crate::config::parse_name;

/// Collects keys; what depends on several options is written at the end.
pub(super) struct Converter<'a> {
    options: &'a Options,
    connector: Connector,
    document: &'a mut Document,
    /// The source's.
    name: String,
    /// Patterns of each list, by the option's name.
    lists: Vec<(String, Vec<String>)>,
    advice: Vec<String>,
    /// Prefixes of options that belong to converters and transforms of one's own, with what is said of them.
    extensions: Vec<(String, String)>,
    /// The prefix of the options of the transform that flattens.
    unwrap: Option<String>,
}

pub(super) fn taken(key: &str) -> Fate {
    Fate::Taken(key.to_owned())
}

pub(super) fn without(instead: impl Into<String>) -> Fate {
    Fate::NotSupported(instead.into())
}

pub(super) fn needless(why: &str) -> Fate {
    Fate::NotNeeded(why.to_owned())
}

impl<'a> Converter<'a> {
    /// For the options of a file.
    pub(super) fn new(options: &'a Options, connector: Connector, document: &'a mut Document) -> Self {
        let mut it = Self {
            options,
            connector,
            document,
            name: String::new(),
            lists: Vec::new(),
            advice: Vec::new(),
            extensions: Vec::new(),
            unwrap: None,
        };
        it.begin();
        it
    }

    /// Sets a key.
    pub(super) fn set(&mut self, key: &str, value: &str) {
        self.document.set(key, value.trim());
    }

    /// Sets a key to a list.
    pub(super) fn set_list(&mut self, key: &str, values: &[String]) {
        self.document.list(key, values);
    }

    /// The kind of source.
    pub(super) fn kind(&self) -> &'static str {
        self.connector.name()
    }

    /// An option of the transform that flattens.
    pub(super) fn unwrap_option(&self, name: &str) -> Option<&'a str> {
        self.options.get(&format!("{}{name}", self.unwrap.as_deref()?))
    }

    /// Whether there are transforms beside the one that flattens.
    pub(super) fn has_other_transforms(&self) -> bool {
        self.extensions.iter().any(|(prefix, _)| prefix.starts_with("transforms."))
    }

    /// What to do before the first start.
    pub(super) fn advice(&self) -> Vec<String> {
        self.advice.clone()
    }

    /// What holds there without an option, and what every file of ours needs.
    fn begin(&mut self) {
        let prefix = self.options.get("topic.prefix").or_else(|| self.options.get("database.server.name"));
        let name = self.options.name.as_deref().or_else(|| self.options.get("name")).or(prefix).unwrap_or("imported");
        self.name = source_name(name);
        self.document.set("name", &self.name);
        self.set("source.type", self.connector.name());
        self.document.set("sink.type", "kafka");
        self.document.set("format", "debezium");
        if self.connector == Connector::Postgres {
            self.set("source.slot", "debezium");
            self.set("source.publication", "dbz_publication");
        }
        for extension in ["converters", "transforms", "predicates", "post.processors"] {
            let Some(list) = self.options.get(extension) else { continue };
            for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
                if extension == "transforms" && self.class_of(name) == "ExtractNewRecordState" && self.unwrap.is_none()
                {
                    self.set("flatten.enabled", "true");
                    self.unwrap = Some(format!("transforms.{name}."));
                    continue;
                }
                let (of, prefix) = match extension {
                    "transforms" => (self.transform(name), format!("transforms.{name}.")),
                    "predicates" => {
                        ("there are no transforms that it could choose for".to_owned(), format!("predicates.{name}."))
                    }
                    _ => ("code of one's own can't be loaded".to_owned(), format!("{name}.")),
                };
                self.extensions.push((prefix, of));
            }
        }
    }

    /// What is said of options that belong to a converter, a transform or the like.
    pub(super) fn extension(&mut self, name: &str, value: &str) -> Option<Fate> {
        if let Some(option) = self.unwrap.as_deref().and_then(|prefix| name.strip_prefix(prefix)) {
            return Some(self.unwrapped(option, value));
        }
        let (_, text) = self.extensions.iter().find(|(prefix, _)| name.starts_with(prefix))?;
        Some(without(text.clone()))
    }

    /// The class of a transform, without its package.
    fn class_of(&self, name: &str) -> &'a str {
        let class = self.options.get(&format!("transforms.{name}.type")).unwrap_or_default();
        class.rsplit(['.', '$']).next().unwrap_or_default()
    }

    fn transform(&self, name: &str) -> String {
        match self.class_of(name) {
            "ExtractNewRecordState" => "rows are flattened once".to_owned(),
            "RegexRouter" | "ByLogicalTableRouter" => {
                "topics are named by `sink.topic`, with {name}, {db}, {schema} and {table}".to_owned()
            }
            "EventRouter" => "an outbox table's rows are published as any other's".to_owned(),
            "ExtractChangedRecordState" => {
                "no headers name the columns that changed; `before` and `after` tell".to_owned()
            }
            "Filter" | "ContentBasedRouter" => "all captured rows are published, to their table's topic".to_owned(),
            _ => "there are no transforms".to_owned(),
        }
    }

    /// An option that is [`How::Converted`].
    pub(super) fn convert(&mut self, name: &str, value: &str) -> Fate {
        let value = value.trim();
        match name {
            "name" => taken("name"),
            "connector.class" => taken("source.type"),
            "topic.prefix" | "database.server.name" => self.plain("debezium.topic_prefix", value),
            "database.hostname" => self.plain("source.host", value),
            "database.port" => self.plain("source.port", value),
            "database.user" => self.plain("source.user", value),
            "database.dbname" => self.plain("source.database", value),
            "database.password" => self.password(value),
            "database.sslmode" => self.plain("source.tls.mode", &value.to_ascii_lowercase()),
            "database.ssl.mode" => self.plain(
                "source.tls.mode",
                &value
                    .to_ascii_lowercase()
                    .replace('_', "-")
                    .replace("verify-identity", "verify-full")
                    .replace("preferred", "prefer")
                    .replace("required", "require")
                    .replace("disabled", "disable"),
            ),
            "database.sslrootcert" => self.plain("source.tls.ca", value),
            "database.sslcert" => self.plain("source.tls.cert", value),
            "database.sslkey" => {
                self.advise("`source.tls.key` must be a PEM file: the original takes PKCS#8 in DER form, which `openssl pkcs8 -inform DER -nocrypt` turns into PEM");
                self.plain("source.tls.key", value)
            }
            "database.server.id" => self.plain("source.server_id", value),
            "connect.timeout.ms" => self.milliseconds("source.connect_timeout", value),
            "slot.name" => self.plain("source.slot", value),
            "publication.name" => self.plain("source.publication", value),
            "plugin.name" => match value {
                "pgoutput" => needless("pgoutput is what is always used"),
                _ => {
                    self.advise("the connector's slot has another plugin than pgoutput: choose a new name for `source.slot`, so that one is made");
                    without("pgoutput is used, and its slot is another one")
                }
            },
            "message.prefix.include.list" => self.messages(value),
            "heartbeat.topics.prefix" => match value {
                "__debezium-heartbeat" => needless("it is what holds anyway"),
                _ => self.plain("debezium.topic_heartbeat_prefix", value),
            },
            "include.query" => self.plain("source.include_query", value),
            "inconsistent.schema.handling.mode" => match value {
                "fail" => self.plain("on_table_failure", "stop_source"),
                _ => self.chosen(
                    "on_table_failure",
                    "stop_table",
                    "its changes aren't left out silently: the table stops until it is copied again",
                ),
            },
            "event.processing.failure.handling.mode" => match value {
                "fail" => self.plain("on_poison", "fail"),
                _ => self.plain("on_poison", "skip"),
            },
            "errors.tolerance" => match value {
                "none" => needless("it is what holds anyway"),
                _ if self.options.get("event.processing.failure.handling.mode").is_some() => {
                    needless("`on_poison` says it")
                }
                _ => self.plain("on_poison", "skip"),
            },
            "database.include.list" | "schema.include.list" | "database.exclude.list" | "schema.exclude.list" => {
                self.list(name, tables::names(value))
            }
            "table.include.list" | "table.exclude.list" => self.list(name, tables::patterns(value)),
            "table.whitelist" => self.list("table.include.list", tables::patterns(value)),
            "table.blacklist" => self.list("table.exclude.list", tables::patterns(value)),
            "snapshot.mode" => self.snapshot(value),
            "snapshot.include.collection.list" => self.collections(value),
            "snapshot.max.threads" => match value.parse::<u32>() {
                Ok(threads) => self.plain("backfill.parallelism", &threads.clamp(1, 16).to_string()),
                Err(_) => without("not a number"),
            },
            "incremental.snapshot.chunk.size" => match value {
                "1024" => needless("chunks adapt to about a second each"),
                _ => self.plain("backfill.chunk_rows", value),
            },
            "max.queue.size.in.bytes" => match value.parse::<u64>() {
                Ok(0) => needless("`memory.budget` bounds what is in flight, in bytes"),
                Ok(bytes) => self.plain("memory.budget", &format!("{}KiB", (bytes / 1024).clamp(1024, 1024 * 1024))),
                Err(_) => without("not a number"),
            },
            "exactly.once.support" => needless("`delivery: exactly_once` is what holds anyway"),
            "bootstrap.servers" => self.plain("sink.brokers", value),
            "schema.history.internal.kafka.bootstrap.servers" => match self.document.has("sink.brokers") {
                true => needless("no topic of schema history is needed"),
                false => self.plain("sink.brokers", value),
            },
            "debezium.sink.type" => match value {
                "kafka" => taken("sink.type"),
                other => without(format!("events go to Kafka, not to {other}")),
            },
            "debezium.format.key" | "debezium.format.value" => match value {
                "json" => needless("JSON is what is written"),
                other => without(format!("JSON is written, not {other}")),
            },
            "debezium.format.schemas.enable" => {
                self.set("debezium.key_schemas_enable", value);
                self.plain("debezium.value_schemas_enable", value)
            }
            "debezium.format.key.schemas.enable" | "key.converter.schemas.enable" => {
                self.plain("debezium.key_schemas_enable", value)
            }
            "debezium.format.value.schemas.enable" | "value.converter.schemas.enable" => {
                self.plain("debezium.value_schemas_enable", value)
            }
            "key.converter" | "value.converter" => match value.rsplit('.').next() {
                Some("JsonConverter") => taken("format"),
                _ => without("JSON is written, as Connect's JsonConverter does"),
            },
            "value.converter.replace.null.with.default" => match value {
                "false" => needless("a null is published as null, not as the column's default (`debezium.exact`)"),
                _ => self.plain("debezium.value_replace_null_with_default", "true"),
            },
            "transforms" => match self.extensions.first() {
                None if self.unwrap.is_some() => taken("flatten"),
                None => needless("there are none"),
                Some(_) => without("each of them is told below"),
            },
            _ => self.by_prefix(name, value),
        }
    }

    fn by_prefix(&mut self, name: &str, value: &str) -> Fate {
        if name.starts_with("column.") {
            return self.of_columns(name, value);
        }
        if let Some(property) =
            name.strip_prefix("producer.override.").or_else(|| name.strip_prefix("debezium.sink.kafka.producer."))
        {
            return self.property(property, value);
        }
        if let Some(setting) = name.strip_prefix("topic.creation.default.") {
            return match setting {
                "replication.factor" if value == "-1" => needless("the broker's own number holds"),
                "partitions" if value == "-1" => needless("the broker's own number holds"),
                "replication.factor" => self.plain("sink.topics.replication", value),
                "partitions" => self.plain("sink.topics.partitions", value),
                "include" | "exclude" => without("`sink.topics.rules` has settings by the topic's name"),
                setting => self.plain(&format!("sink.topics.config.{setting}"), value),
            };
        }
        match super::options::find(name, self.connector == Connector::Postgres).map(|option| option.how) {
            Some(How::Missing(instead)) => without(instead),
            _ => without("JSON is written, and has no other settings than schemas"),
        }
    }

    /// A producer's property: those that librdkafka has by the same name.
    fn property(&mut self, property: &str, value: &str) -> Fate {
        match property {
            "bootstrap.servers" => self.plain("sink.brokers", value),
            "key.serializer" | "value.serializer" => needless("there is one way to write"),
            "max.request.size" => self.plain("sink.properties.message.max.bytes", value),
            "compression.type" | "linger.ms" | "batch.size" | "security.protocol" | "sasl.mechanism" | "client.id" => {
                self.plain(&format!("sink.properties.{property}"), value)
            }
            "acks"
            | "enable.idempotence"
            | "max.in.flight.requests.per.connection"
            | "retries"
            | "transactional.id"
            | "buffer.memory"
            | "delivery.timeout.ms"
            | "request.timeout.ms"
            | "max.block.ms" => needless("the guarantees depend on it, and the sink sets it"),
            "sasl.jaas.config" => without("`sink.properties` has sasl.username and sasl.password"),
            _ if property.starts_with("ssl.") => {
                without("certificates are PEM files: `sink.properties` has ssl.ca.location and its like")
            }
            _ => without("`sink.properties` takes librdkafka's properties"),
        }
    }

    /// A key with a value, in which references to Connect's providers become ours.
    fn plain(&mut self, key: &str, value: &str) -> Fate {
        match reference(value) {
            Ok(value) => {
                self.set(key, &value);
                taken(key)
            }
            Err(variable) => {
                self.set(key, &format!("${{{variable}}}"));
                self.advise(&format!("set {variable}: `{key}` was a reference that only Connect's workers can follow"));
                Fate::Taken(format!("{key}, as ${{{variable}}}"))
            }
        }
    }

    /// A key whose value isn't quite what was asked for.
    fn chosen(&mut self, key: &str, value: &str, why: &str) -> Fate {
        self.set(key, value);
        without(format!("{why} (`{key}: {value}`)"))
    }

    fn milliseconds(&mut self, key: &str, value: &str) -> Fate {
        match value.parse::<u64>() {
            Ok(number) => self.plain(key, &format!("{}ms", number.clamp(100, 3_600_000))),
            Err(_) => without("not a number"),
        }
    }

    /// Never the password itself: a file that is made by a tool tends to be shown around.
    fn password(&mut self, value: &str) -> Fate {
        if value.starts_with("${") && reference(value).is_ok() {
            return self.plain("source.password", value);
        }
        let variable = format!("{}_PASSWORD", self.name.to_ascii_uppercase().replace('-', "_"));
        self.set("source.password", &format!("${{{variable}}}"));
        self.advise(&format!("set {variable} to the database's password, which isn't copied"));
        Fate::Taken(format!("source.password, as ${{{variable}}}"))
    }

    fn messages(&mut self, value: &str) -> Fate {
        match tables::names(value) {
            Ok(prefixes) if prefixes.iter().all(|prefix| !prefix.trim_end_matches('*').contains(['*', '?'])) => {
                self.document.list("source.messages", &prefixes);
                taken("source.messages")
            }
            Ok(_) => without("`source.messages` takes prefixes, with * at the end only; all messages are published"),
            Err(why) => without(format!("{why}; all messages are published")),
        }
    }

    fn list(&mut self, name: &str, patterns: Result<Vec<String>, String>) -> Fate {
        match patterns {
            Ok(patterns) => {
                self.lists.push((name.to_owned(), patterns));
                taken("source.tables")
            }
            Err(why) => {
                self.advise(&format!("write the patterns of `{name}` into `source.tables` by hand: {why}"));
                without(format!("{why}; `source.tables` takes patterns with * and ?"))
            }
        }
    }

    fn snapshot(&mut self, value: &str) -> Fate {
        match value {
            "initial" => self.plain("backfill.mode", "initial"),
            "initial_only" => self.plain("backfill.mode", "initial_only"),
            "no_data" | "never" | "schema_only" | "recovery" | "schema_only_recovery" => {
                self.plain("backfill.mode", "never")
            }
            "when_needed" => {
                self.set("on_gap", "backfill");
                self.set("backfill.mode", "initial");
                taken("backfill.mode, on_gap")
            }
            "always" => {
                self.chosen("backfill.mode", "initial", "tables are copied once; `rowcast backfill` copies them again")
            }
            _ => self.chosen("backfill.mode", "initial", "code of one's own can't be loaded"),
        }
    }

    fn collections(&mut self, value: &str) -> Fate {
        match tables::patterns(value) {
            Ok(patterns) if patterns.iter().all(|pattern| !pattern.contains(['*', '?'])) => {
                self.document.list("backfill.tables", &patterns);
                taken("backfill.tables")
            }
            _ => without("`backfill.tables` takes names, no patterns; all captured tables are copied"),
        }
    }

    fn of(&self, name: &str) -> Option<&[String]> {
        self.lists.iter().find(|(known, _)| known == name).map(|(_, patterns)| patterns.as_slice())
    }

    /// Writes what depends on several options, and what a file of ours needs besides.
    pub(super) fn finish(&mut self, stopped: Option<Stopped>) {
        let qualifiers = if self.connector == Connector::Postgres { "schema" } else { "database" };
        let (include, exclude) = (format!("{qualifiers}.include.list"), format!("{qualifiers}.exclude.list"));
        let mut all = match (self.of("table.include.list"), self.of(&include)) {
            (Some(tables), None) => tables.to_vec(),
            (Some(tables), Some(schemas)) => both(tables, schemas),
            (None, Some(schemas)) => schemas.iter().map(|schema| format!("{schema}.*")).collect(),
            (None, None) => vec!["*.*".to_owned()],
        };
        all.extend(self.of("table.exclude.list").unwrap_or_default().iter().map(|pattern| format!("!{pattern}")));
        all.extend(self.of(&exclude).unwrap_or_default().iter().map(|schema| format!("!{schema}.*")));
        self.document.list("source.tables", &all);
        if !self.document.has("sink.brokers") {
            self.set("sink.brokers", "${KAFKA_BROKERS}");
            self.advise(
                "set KAFKA_BROKERS to the cluster of Connect's workers, which a connector's configuration doesn't name",
            );
        }
        if let Some(Stopped { at, again }) = stopped {
            self.document.set("source.start_at", &at.to_string());
            self.set("backfill.mode", "never");
            self.advise("stop the connector for good before the offsets are read, and don't start it again: what it publishes after that is published twice");
            if self.connector == Connector::Postgres {
                self.advise("the connector's slot is used on: don't drop it");
            }
            if let Some(again) = again {
                self.advise(again);
            }
        } else if self.document.has("source.slot") {
            self.advise("to go on where the connector stopped: stop it, set `backfill: never`, and start; the slot has what it hasn't confirmed, so that nothing is lost, and what it published since its last confirmation is published again");
        }
    }

    fn advise(&mut self, text: &str) {
        if !self.advice.iter().any(|known| known == text) {
            self.advice.push(text.to_owned());
        }
    }
}

/// Tables that are in one of these schemas: a pattern for any schema becomes one for each.
fn both(tables: &[String], schemas: &[String]) -> Vec<String> {
    let mut all = Vec::new();
    for pattern in tables {
        match pattern.split_once('.') {
            Some(("*", table)) => all.extend(schemas.iter().map(|schema| format!("{schema}.{table}"))),
            _ => all.push(pattern.clone()),
        }
    }
    all
}

/// A name that we allow, near the given one.
fn source_name(name: &str) -> String {
    let legal = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    let name: String = name.chars().flat_map(char::to_lowercase).map(|it| if legal(it) { it } else { '-' }).collect();
    let name: String = name.trim_matches(['-', '_']).chars().take(50).collect();
    if parse_name(&name).is_ok() { name } else { "imported".to_owned() }
}

/// A value in which `${env:NAME}` and `${dir:/folder:file}` are ours. Of another provider the name of a variable that stands for it.
fn reference(value: &str) -> Result<String, String> {
    let Some((before, rest)) = value.split_once("${") else { return Ok(value.to_owned()) };
    let Some((inner, after)) = rest.split_once('}') else { return Ok(value.replace("${", "$${")) };
    let ours = match inner.split_once(':') {
        Some(("env", name)) => format!("${{{}}}", name.trim_start_matches(':')),
        Some(("dir", place)) => match place.rsplit_once(':') {
            Some((folder, file)) => format!("${{file:{}/{file}}}", folder.trim_end_matches('/')),
            None => return Err(variable(inner)),
        },
        // Debezium Server's, from the environment too
        None => format!("${{{inner}}}"),
        Some(_) => return Err(variable(inner)),
    };
    Ok(format!("{before}{ours}{}", reference(after)?))
}

fn variable(inner: &str) -> String {
    let last = inner.rsplit([':', '/']).next().unwrap_or_default();
    let letters = last.chars().map(|it| if it.is_ascii_alphanumeric() { it.to_ascii_uppercase() } else { '_' });
    letters.collect::<String>().trim_matches('_').to_owned()
}
