//! Heartbeats (`heartbeat_interval_ms`): a record now and then that says nothing but that the source is followed, and the clock.
//!
//! Nothing here needs them: positions are committed without events. They are for consumers that watch the topic. The publisher sends one with
//! a commit when it is due, and commits for it alone while the stream is idle ([`crate::pipeline`]).

use std::time::{SystemTime, UNIX_EPOCH};

use super::schema::{Schema, fields, int64, text};
use super::{Codec, close, envelope, names, string};
use crate::config::DebeziumConfig;
use crate::format::json::int;

/// The prepared key, and what stands before the value's payload.
#[derive(Debug)]
pub(super) struct Texts {
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Texts {
    pub(super) fn new(config: &DebeziumConfig) -> Self {
        let name = |part: &str| names::adjusted(&format!("io.debezium.connector.common.{part}"), config.schema_names);
        let schema = Schema::named(fields([("serverName", text(false))]), &name("ServerNameKey"));
        let mut key = if config.key_schemas { envelope(&schema) } else { Vec::new() };
        key.extend_from_slice(b"{\"serverName\":");
        string(&mut key, &config.topic_prefix);
        close(&mut key, config.key_schemas);
        let schema = Schema::named(fields([("ts_ms", int64(false))]), &name("Heartbeat"));
        Self { key, value: if config.value_schemas { envelope(&schema) } else { Vec::new() } }
    }
}

impl Codec {
    /// The topic of heartbeats.
    pub fn heartbeat_topic(&self) -> String {
        match &self.config.heartbeat_topic {
            Some(name) => name.clone(),
            None => names::sanitised(&format!("{}.{}", self.config.heartbeat_prefix, self.config.topic_prefix)),
        }
    }

    /// Writes the key and the value of one; gives back where the value begins.
    pub fn heartbeat(&self, out: &mut Vec<u8>) -> usize {
        out.extend_from_slice(&self.heartbeats.key);
        let value = out.len();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        out.extend_from_slice(&self.heartbeats.value);
        out.extend_from_slice(b"{\"ts_ms\":");
        int(out, i64::try_from(now.as_millis()).unwrap_or(i64::MAX));
        close(out, self.config.value_schemas);
        value
    }
}
