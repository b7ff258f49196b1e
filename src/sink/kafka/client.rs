//! Settings of the Kafka clients, what they report, and how their errors are told.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use secrecy::{ExposeSecret, SecretString};

use crate::error::RunError;

/// How long a start waits for the first answer of a broker.
const ANSWER: Duration = Duration::from_secs(5);

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
    /// Exactly once.
    pub transactional: bool,
    /// Set once this process has owned the source.
    pub owned_before: Arc<AtomicBool>,
    /// Where the administrative requests run.
    pub runtime: tokio::runtime::Handle,
}

impl KafkaSettings {
    /// What every client of this source is configured with.
    pub(crate) fn base(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", format!("rowcast-{}", self.source))
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.max.ms", "2000")
            .set_log_level(RDKafkaLogLevel::Warning);
        config
    }

    /// Adds the user's properties that apply to every client (those of security and connection, not of producing).
    pub(crate) fn shared_properties(&self, config: &mut ClientConfig) {
        const SHARED: [&str; 9] =
            ["security.", "ssl.", "sasl.", "socket.", "broker.", "client.", "metadata.", "reconnect.", "debug"];
        for (key, value) in &self.properties {
            if SHARED.iter().any(|prefix| key.starts_with(prefix)) {
                config.set(key, value.expose_secret());
            }
        }
    }

    fn producer_config(&self) -> ClientConfig {
        let mut config = self.base();
        config
            .set("compression.type", "lz4")
            .set("linger.ms", "25")
            .set("enable.idempotence", "true")
            // as Java clients do, so that a topic shared with them has one key in one partition
            .set("partitioner", "murmur2_random")
            .set("queue.buffering.max.kbytes", "24576")
            .set("queue.buffering.max.messages", "200000")
            // success needs no report: nothing in flight and no failure reported means that all was delivered
            .set("delivery.report.only.error", "true");
        if self.transactional {
            // short, so that a dead daemon doesn't hold back readers of committed records for long
            config.set("transactional.id", format!("rowcast.{}", self.source)).set("transaction.timeout.ms", "15000");
        }
        for (key, value) in &self.properties {
            config.set(key, value.expose_secret());
        }
        config
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
    settings.producer_config().create_with_context(Background::default()).map_err(|error| match error {
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

/// Collects what goes wrong in the background.
#[derive(Debug, Default)]
pub struct Background {
    failure: Mutex<Option<(String, KafkaError)>>,
    last_error: Mutex<Option<(Option<RDKafkaErrorCode>, String)>>,
}

impl Background {
    /// The first failed delivery: its topic and why.
    pub(super) fn failure(&self) -> Option<(String, KafkaError)> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Background {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, message, "librdkafka");
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
            failure.get_or_insert_with(|| (message.topic().to_owned(), error.clone()));
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
    let deadline = Instant::now() + ANSWER;
    while producer.client().fetch_cluster_id(Duration::from_millis(250)).is_none() {
        // this is what hands over the errors of connections
        producer.poll(Duration::ZERO);
        if Instant::now() >= deadline {
            let doing = format!("reach {brokers}");
            let error = KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure);
            return Err(failed(&doing, &error, producer.context()));
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
    let last = context.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut why = None;
    if let Some((of_connection, reason)) = last {
        message.push_str(&format!(" (last error of a connection: {reason})"));
        why = of_connection;
    }
    if let Some(how) = found.and_then(repair) {
        return RunError::definite(format!("{message}; repair: {how}"));
    }
    if !found.is_some_and(out_of_reach) {
        return RunError::transient(message);
    }
    // what the broker has against us shows on the connection only
    match (why, why.and_then(repair)) {
        (Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed), Some(how)) => {
            RunError::definite(format!("{message}; repair: {how}"))
        }
        (_, Some(how)) => RunError::transient(format!("{message}; repair: {how}")),
        (_, None) => RunError::transient(format!("{message}; repair: check `sink.brokers`, and that kafka runs")),
    }
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
        Code::TopicAuthorizationFailed => "grant the user Create, Describe and Write on the topic",
        Code::TransactionalIdAuthorizationFailed => "grant the user Write on the transactional id `rowcast.<name>`",
        Code::ClusterAuthorizationFailed => "grant the user Create and IdempotentWrite on the cluster",
        Code::SaslAuthenticationFailed | Code::Authentication => {
            "`sasl.username` and `sasl.password` in `sink.properties`"
        }
        Code::SSL => "`security.protocol` and the `ssl.*` properties in `sink.properties`",
        Code::InvalidTopic => {
            "choose another `sink.topic` template: kafka takes topics that differ only in `.` and `_` for one"
        }
        // not InvalidReplicationFactor: that is also what a cluster says while one of its brokers is down
        Code::PolicyViolation | Code::InvalidConfig | Code::InvalidPartitions => {
            "create the topic by hand; the broker refuses its default settings"
        }
        Code::InvalidTransactionTimeout => {
            "lower `transaction.timeout.ms` or raise the broker's `transaction.max.timeout.ms`"
        }
        Code::UnsupportedVersion | Code::UnsupportedFeature => "the broker is too old: Kafka 2.5 or later is needed",
        _ => return None,
    })
}
