//! Settings of the Kafka clients, what they report, and how their errors are told.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::{Client, ClientContext};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use secrecy::{ExposeSecret, SecretString};

use super::topics::Met;
use crate::config::{TopicSettings, TopicsConfig};
use crate::error::RunError;

/// How long a start waits for the first answer of a broker.
const ANSWER: Duration = Duration::from_secs(5);

/// What the producer holds in memory.
const QUEUE_KBYTES: usize = 24_576;
/// How long a transaction may stay open: short, so that a dead daemon doesn't hold back readers of committed records for long.
const TRANSACTION_MS: usize = 15_000;
/// How long records wait for others, at least once.
const LINGER_MS: usize = 25;

/// What the properties begin with that apply to every client.
const SHARED: [&str; 9] =
    ["security.", "ssl.", "sasl.", "socket.", "broker.", "client.", "metadata.", "reconnect.", "debug"];

fn is_shared(name: &str) -> bool {
    SHARED.iter().any(|start| name.starts_with(start))
}

/// What a source's Kafka sink needs.
#[derive(Debug, Clone)]
pub struct KafkaSettings {
    /// Name of the source.
    pub source: String,
    /// This process, told apart from all others.
    pub owner: String,
    /// Bootstrap servers.
    pub brokers: String,
    /// Properties of librdkafka; they win over our defaults. Secret, since some are.
    pub properties: Vec<(String, SecretString)>,
    /// How topics are created, and what existing ones are compared with.
    pub topics: TopicsConfig,
    /// Topics met in this and earlier runs.
    pub met: Met,
    /// Exactly once.
    pub transactional: bool,
    /// The smallest `max.message.bytes` of a topic met so far, if it is smaller than a batch: batches aren't larger then.
    pub most_batch: Arc<AtomicUsize>,
    /// Set once this process has owned the source.
    pub owned_before: Arc<AtomicBool>,
    /// Where the administrative requests run.
    pub runtime: tokio::runtime::Handle,
}

impl KafkaSettings {
    /// For reading what others have written, aside from any source.
    ///
    /// # Errors
    /// A property that isn't one of the connection or its security.
    pub fn aside(name: &str, brokers: &str, properties: Vec<(String, SecretString)>) -> Result<Self, RunError> {
        if let Some((name, _)) = properties.iter().find(|(name, _)| !is_shared(name)) {
            let known = SHARED.map(|start| format!("{start}*")).join(", ");
            return Err(RunError::definite(format!(
                "kafka property `{name}`: it isn't one of the connection or its security: {known}; repair: remove it from `sink.properties`"
            )));
        }
        Ok(Self {
            source: name.to_owned(),
            owner: name.to_owned(),
            brokers: brokers.to_owned(),
            properties,
            topics: TopicsConfig { create: false, settings: TopicSettings::default(), rules: Vec::new() },
            met: Met::default(),
            transactional: false,
            most_batch: Arc::new(AtomicUsize::new(usize::MAX)),
            owned_before: Arc::new(AtomicBool::new(false)),
            runtime: tokio::runtime::Handle::current(),
        })
    }

    /// What every client of this source is configured with.
    pub(crate) fn base(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", format!("rowcast-{}", self.source))
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.max.ms", "2000")
            // topics are made by rule; a broker must not make up one that was deleted
            .set("allow.auto.create.topics", "false")
            // partitions that were added are used after this time
            .set("topic.metadata.refresh.interval.ms", "30000")
            .set_log_level(RDKafkaLogLevel::Warning);
        config
    }

    /// Adds the user's properties that apply to every client (those of security and connection, not of producing).
    pub(crate) fn shared_properties(&self, config: &mut ClientConfig) {
        for (key, value) in &self.properties {
            if is_shared(key) {
                config.set(key, value.expose_secret());
            }
        }
    }

    fn producer_config(&self) -> ClientConfig {
        let mut config = self.base();
        config
            .set("compression.type", "lz4")
            .set("enable.idempotence", "true")
            // as Java clients do, so that a topic shared with them has one key in one partition
            .set("partitioner", "murmur2_random")
            .set("queue.buffering.max.kbytes", QUEUE_KBYTES.to_string())
            .set("queue.buffering.max.messages", "200000")
            // success needs no report: nothing in flight and no failure reported means that all was delivered
            .set("delivery.report.only.error", "true");
        // what is in no full batch is sent by the flush before a commit (`super::delivery`); at least once, readers needn't wait for that
        config.set("linger.ms", if self.transactional { self.patience() / 3 } else { LINGER_MS }.to_string());
        if self.transactional {
            config
                .set("transactional.id", format!("rowcast.{}", self.source))
                .set("transaction.timeout.ms", TRANSACTION_MS.to_string());
        }
        // the topics' own limits count, and these are looked at
        config.set("message.max.bytes", "1000000000");
        for (key, value) in &self.properties {
            config.set(key, value.expose_secret());
        }
        let (_, batch) = self.limits();
        config.set("batch.size", batch.to_string());
        config
    }

    /// In bytes: the largest record that the producer takes, and the largest batch that it makes.
    pub(super) fn limits(&self) -> (usize, usize) {
        // a message that doesn't fit into the queue would wait for ever
        let queue = self.number("queue.buffering.max.kbytes", QUEUE_KBYTES).saturating_mul(1024);
        let record = self.number("message.max.bytes", 1_000_000_000).min(queue);
        let batch = self.number("batch.size", 1_000_000).min(self.most_batch.load(Ordering::Relaxed)).min(record);
        (record, batch)
    }

    /// How long a record of a transaction may take, in milliseconds.
    fn patience(&self) -> usize {
        let timeouts = ["transaction.timeout.ms", "message.timeout.ms", "delivery.timeout.ms"];
        let given = timeouts.map(|name| self.number(name, TRANSACTION_MS)).into_iter().filter(|given| *given > 0);
        given.min().unwrap_or(TRANSACTION_MS).min(TRANSACTION_MS)
    }

    /// A property that is a number, or what it is by default.
    fn number(&self, name: &str, default: usize) -> usize {
        let found = self.properties.iter().rev().find(|(key, _)| key == name);
        found.and_then(|(_, value)| value.expose_secret().trim().parse().ok()).unwrap_or(default)
    }
}

/// Checks the properties by making a producer of them, without connecting.
///
/// # Errors
/// librdkafka's own words about the property, and the configuration key.
pub fn check_properties(settings: &KafkaSettings) -> Result<(), RunError> {
    producer(settings).map(drop)
}

/// Makes the producer.
pub(super) fn producer(settings: &KafkaSettings) -> Result<BaseProducer<Background>, RunError> {
    settings.producer_config().create_with_context(Background::of(settings)).map_err(|error| match error {
        KafkaError::ClientConfig(_, what, key, _) => {
            RunError::definite(format!("kafka property `{key}`: {what}; repair: `sink.properties`"))
        }
        other => RunError::definite(format!("can't make a kafka producer: {other}; repair: `sink.properties`")),
    })
}

/// Sends what lingers, and waits until nothing is in flight, at most for `timeout`.
///
/// In event mode, which rdkafka uses, librdkafka's flush waits on a condition variable for the count of messages to reach zero;
/// since only failures are reported, delivered messages leave that count without our help.
pub(super) fn flush(producer: &BaseProducer<Background>, timeout: Duration) {
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the pointer is that of a live producer, borrowed for this call; librdkafka's functions are thread-safe. The
    // result is whether messages are left, which the caller asks for itself.
    #[allow(unsafe_code)]
    let _ = unsafe { rdkafka::bindings::rd_kafka_flush(producer.client().native_ptr(), millis) };
}

/// The repair of a clock that is wrong.
const SET_THE_CLOCK: &str = "set this machine's clock, or the broker's: a topic takes what is ahead of the broker by its \
                             `message.timestamp.after.max.ms`, an hour by default";

/// A record that wasn't delivered.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) topic: String,
    pub(super) error: KafkaError,
    keyed: bool,
}

impl Failure {
    /// Whether the broker has something against the record's time, which is that of our clock. Several records that it refuses have
    /// the same code for every reason; the other reason is a compacted topic, which takes all that have a key. (librdkafka also has the
    /// broker's words, and has freed them by then.)
    pub(super) fn is_of_clock(&self) -> bool {
        match self.error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::InvalidTimestamp) => true,
            Some(RDKafkaErrorCode::InvalidRecord) => self.keyed,
            _ => false,
        }
    }

    /// The error of a clock that is wrong, which may be set right.
    pub(super) fn of_clock(&self) -> RunError {
        RunError::transient(format!(
            "kafka: can't deliver to topic {}: it takes no records of this time; repair: {SET_THE_CLOCK}",
            self.topic
        ))
    }

    /// Whether it only came along with a record that was refused.
    fn is_innocent(&self) -> bool {
        self.error.rdkafka_error_code() == Some(RDKafkaErrorCode::InvalidDifferentRecord)
    }
}

/// Collects what goes wrong in the background.
#[derive(Debug, Default)]
pub struct Background {
    /// Whether this process has owned the source: then a right or a password that is refused was taken away, and may come back.
    worked: Arc<AtomicBool>,
    failure: Mutex<Option<Failure>>,
    last_error: Mutex<Option<(Option<RDKafkaErrorCode>, String)>>,
    /// What a broker had against a partition in a transaction: librdkafka's error names the cause, its log the partition.
    refusal: Mutex<Option<String>>,
}

impl Background {
    /// Of a client of this source.
    pub(crate) fn of(settings: &KafkaSettings) -> Self {
        Self { worked: Arc::clone(&settings.owned_before), ..Self::default() }
    }

    /// The first partition that wasn't taken into a transaction, in librdkafka's words.
    pub(super) fn refusal(&self) -> Option<String> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The last error of a connection: its code and librdkafka's words.
    fn last_error(&self) -> Option<(Option<RDKafkaErrorCode>, String)> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first failed delivery.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Background {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, message, "librdkafka");
        // those that weren't even tried follow from another one
        if facility == "ADDPARTS" && !message.to_lowercase().contains("not attempted") {
            let words = message.split_once("Failed to add").map_or(message, |(_, rest)| rest).trim();
            self.refusal
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert_with(|| format!("failed to add {words}"));
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
        // "all brokers are down" says less than the reason of the broker before it
        if !matches!(error, KafkaError::Global(RDKafkaErrorCode::AllBrokersDown)) {
            *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some((code(&error), reason.to_owned()));
        }
    }
}

impl ConsumerContext for Background {}

impl ProducerContext for Background {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            if failure.as_ref().is_none_or(Failure::is_innocent) {
                let keyed = message.key().is_some();
                *failure = Some(Failure { topic: message.topic().to_owned(), error: error.clone(), keyed });
            }
        }
    }
}

/// True if a later producer with the same transactional id exists, or the broker behaves as if.
pub(super) fn fenced(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::Fenced | RDKafkaErrorCode::ProducerFenced | RDKafkaErrorCode::InvalidProducerEpoch)
}

pub(super) fn is_fenced(error: &KafkaError) -> bool {
    code(error).is_some_and(fenced)
}

/// rdkafka's own accessor leaves out the administrative requests.
fn code(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    match error {
        KafkaError::Transaction(error) => Some(error.code()),
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    }
}

/// Waits for a broker's answer, so that a start without one fails soon and with a reason: an administrative client never
/// tells why it can't connect.
///
/// # Errors
/// Transient, with the reason; definite if the user is refused.
pub(super) fn reach(producer: &BaseProducer<Background>, brokers: &str) -> Result<(), RunError> {
    let poll = || producer.poll(Duration::ZERO);
    answers(producer.client(), poll, brokers, ANSWER)
}

/// [`reach`] with any client; `poll` hands over the errors of its connections.
pub(super) fn answers(
    client: &Client<Background>,
    poll: impl Fn(),
    brokers: &str,
    patience: Duration,
) -> Result<(), RunError> {
    let deadline = Instant::now() + patience;
    while client.fetch_cluster_id(Duration::from_millis(250)).is_none() {
        poll();
        let refused = client.context().last_error().is_some_and(|(code, _)| code.is_some_and(is_login));
        if refused || Instant::now() >= deadline {
            let error = KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure);
            return Err(failed(&format!("reach {brokers}"), &error, client.context()));
        }
    }
    Ok(())
}

/// An error of Kafka in the operator's words: what was done, what came back, and what may help.
pub(crate) fn failed(doing: &str, error: &KafkaError, context: &Background) -> RunError {
    let found = code(error);
    let detail = match error {
        KafkaError::Transaction(error) => error.string(),
        other => found.map_or_else(|| other.to_string(), |code| code.to_string()),
    };
    let mut message = format!("kafka: can't {doing}: {detail}");
    let last = context.last_error();
    let why = last.as_ref().and_then(|(code, _)| *code);
    if let Some((_, reason)) = &last {
        message.push_str(&format!(" (last error of a connection: {reason})"));
    }
    // of a transaction that a record failed there is no code, only words
    if detail.contains("Invalid timestamp") {
        return RunError::transient(format!("{message}: it takes no records of this time; repair: {SET_THE_CLOCK}"));
    }
    // what was allowed once may be allowed again, without anybody at this end
    let refused = |code: RDKafkaErrorCode, how: &str| match is_login(code) || is_right(code) {
        true if context.worked.load(Ordering::Relaxed) => RunError::transient(format!("{message}; repair: {how}")),
        _ => RunError::definite(format!("{message}; repair: {how}")),
    };
    if let Some((code, how)) = found.and_then(|code| Some((code, repair(code)?))) {
        return refused(code, how);
    }
    if !found.is_some_and(out_of_reach) {
        return RunError::transient(message);
    }
    // what the broker has against us shows on the connection only
    match (why, why.and_then(repair)) {
        (Some(code), Some(how)) if is_login(code) => refused(code, how),
        (_, how) => {
            let how = connection_repair(last.as_ref().map(|(_, reason)| reason.as_str())).or(how);
            let how = how.unwrap_or("check `sink.brokers`, and that kafka runs");
            RunError::transient(format!("{message}; repair: {how}"))
        }
    }
}

/// What may help against the words with which a connection failed; none if they say nothing about it.
fn connection_repair(reason: Option<&str>) -> Option<&'static str> {
    const LISTENER: &str = "check `sink.brokers`, that kafka runs, and that `security.protocol` in `sink.properties` is that of the \
                            listener: a broker hangs up on a client that speaks another";
    // a refused connection has a reason; what is silent or hangs up without one speaks something else
    let Some(reason) = reason else { return Some(LISTENER) };
    if reason.contains("certificate verify failed") {
        Some(
            "`ssl.ca.location` in `sink.properties` must be the authority that signed the broker's certificate, and that must name \
             the host in `sink.brokers`",
        )
    } else if reason.contains("alert") && (reason.contains("certificate") || reason.contains("unknown ca")) {
        Some(
            "the broker asks for a client certificate that it trusts: `ssl.certificate.location` and `ssl.key.location` in \
             `sink.properties`",
        )
    } else if ["SSL_HANDSHAKE", "APIVERSION_QUERY"].iter().any(|state| reason.contains(state)) {
        // hung up on during its first words
        Some(LISTENER)
    } else {
        None
    }
}

/// True if the broker doesn't believe who we are.
fn is_login(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed)
}

/// True if it believes, and doesn't allow.
fn is_right(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::TopicAuthorizationFailed | Code::TransactionalIdAuthorizationFailed | Code::ClusterAuthorizationFailed
    )
}

/// True if no broker answers.
fn out_of_reach(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
    )
}

/// What an operator can do about an error that doesn't go away by itself; none for one that may.
pub(super) fn repair(code: RDKafkaErrorCode) -> Option<&'static str> {
    use RDKafkaErrorCode as Code;
    Some(match code {
        Code::MessageSizeTooLarge => {
            "raise `message.max.bytes` in `sink.properties` and the topic's `max.message.bytes`, or exclude the table"
        }
        Code::TopicAuthorizationFailed => {
            "grant the user Create, Describe and Write on the topic, and Read if it is that of the checkpoint or the schemas"
        }
        Code::TransactionalIdAuthorizationFailed => "grant the user Write on the transactional id `rowcast.<name>`",
        Code::ClusterAuthorizationFailed => {
            "grant the user Write on the topics; before Kafka 2.8, IdempotentWrite on the cluster"
        }
        Code::SaslAuthenticationFailed | Code::Authentication => {
            "`sasl.username` and `sasl.password` in `sink.properties`"
        }
        Code::SSL => "`security.protocol` and the `ssl.*` properties in `sink.properties`",
        Code::InvalidTopic => {
            "choose another `sink.topic` template: kafka takes topics that differ only in `.` and `_` for one"
        }
        Code::InvalidRecord => {
            "a compacted topic takes no record without a key (tables without one, truncations, messages): set the topic's \
             `cleanup.policy` to delete, or send these elsewhere with `sink.topic`; nor does any topic if this machine's clock is ahead"
        }
        // not InvalidReplicationFactor: that is also what a cluster says while one of its brokers is down
        Code::PolicyViolation | Code::InvalidConfig | Code::InvalidPartitions => {
            "the broker refuses the topic's settings: set `sink.topics`, or create the topic by hand"
        }
        Code::InvalidTransactionTimeout => {
            "lower `transaction.timeout.ms` or raise the broker's `transaction.max.timeout.ms`"
        }
        Code::UnsupportedVersion | Code::UnsupportedFeature => "the broker is too old: Kafka 2.5 or later is needed",
        _ => return None,
    })
}
