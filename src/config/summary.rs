//! The effective configuration of a source in a few lines, for `check-config`. Shows no secret.

use rowcast_mysql::Compression;
use rowcast_net::SessionAttributes;

use super::backfill::{BackfillConfig, BackfillMode, BackfillTable};
use super::mysql::compression_word;
use super::postgres::SlotInUse;
use super::sink::{PropertyValue, SinkConfig};
use super::source::{SourceKind, tls_word};
use super::topics::{TopicSettings, TopicsConfig};
use super::units::{show_bytes, show_duration};
use super::{FormatConfig, SourceConfig};

/// `shop: ok (config/sources/shop.yaml)` and indented lines with what is in effect, without a newline at the end.
pub fn summary(source: &SourceConfig) -> String {
    let connection = source.kind.connection();
    let tls = &connection.tls;
    let place = match &source.kind {
        SourceKind::Postgres(postgres) => format!("/{}", postgres.database),
        SourceKind::Mysql(_) => String::new(),
    };
    let own = match &source.kind {
        SourceKind::Postgres(postgres) => {
            let waits = if postgres.slot_in_use == SlotInUse::Wait { " (waited for while in use)" } else { "" };
            format!("slot {}{waits}, publication {}", postgres.slot, postgres.publication)
        }
        SourceKind::Mysql(mysql) => {
            let compressed = match mysql.compression {
                Compression::None => String::new(),
                compression => format!(", compressed by {}", compression_word(compression)),
            };
            format!("server id {}{compressed}", mysql.server_id)
        }
    };
    let password = match (&connection.password, &connection.password_command) {
        (_, Some(_)) => "with a password command",
        (Some(_), None) => "with a password",
        (None, None) => "without a password",
    };
    let others: String = connection.more_hosts.iter().map(|(host, port)| format!(",{host}:{port}")).collect();
    let attributes = match &source.kind {
        SourceKind::Postgres(postgres) => postgres.session_attributes,
        SourceKind::Mysql(mysql) => mysql.session_attributes,
    };
    let wanted = match attributes {
        SessionAttributes::Any => String::new(),
        attributes => format!(" ({})", attributes.word()),
    };
    let mut lines = vec![
        format!("{}: ok ({})", source.name, source.file.display()),
        format!(
            "  source: {} {}@{}{others}{place}{wanted} {password}, tls {}{}{}",
            source.kind.type_name(),
            connection.user,
            match &source.kind {
                SourceKind::Mysql(_) if connection.host.starts_with('/') => connection.host.clone(),
                _ => format!("{}:{}", connection.host, connection.port),
            },
            tls_word(tls.mode),
            tls.ca.as_ref().map(|ca| format!(" (ca {})", ca.display())).unwrap_or_default(),
            tls.identity.as_ref().map(|_| " with a client certificate").unwrap_or_default(),
        ),
        format!(
            "          {own}; connect timeout {}, read timeout {}",
            show_duration(connection.connect_timeout),
            show_duration(connection.read_timeout)
        ),
        format!("  tables: {}", source.kind.tables()),
    ];
    lines.extend(sink_lines(source));
    if let FormatConfig::Debezium(debezium) = &source.format {
        let schemas = match (debezium.key_schemas, debezium.value_schemas) {
            (true, true) => "with schemas",
            (false, false) => "without schemas",
            (true, false) => "with schemas of keys",
            (false, true) => "with schemas of values",
        };
        let exact = if debezium.exact { "exact" } else { "as the original" };
        lines.push(format!("  format: debezium, prefix {}, {schemas}, {exact}", debezium.topic_prefix));
    }
    if let Some(flatten) = source.format.flatten() {
        lines.push(format!("  flattened: deletes {}", flatten.deletes));
    }
    lines.push(format!(
        "  memory: {}; commit every {} or {}",
        show_bytes(source.memory_budget as u64),
        show_duration(source.commit.interval),
        show_bytes(source.commit.max_bytes as u64)
    ));
    lines.extend(backfill_lines(&source.backfill));
    lines.push(format!(
        "  on a gap: {}; on poison: {}; on a table's failure: {}",
        source.on_gap, source.on_poison, source.on_table_failure
    ));
    lines.join("\n")
}

fn backfill_lines(backfill: &BackfillConfig) -> Vec<String> {
    let what = match (backfill.mode, &backfill.tables) {
        (BackfillMode::Never, _) => "never, unless asked for".to_owned(),
        (mode, None) => format!("{mode}, all captured tables"),
        (mode, Some(tables)) => {
            let tables: Vec<String> = tables.iter().map(BackfillTable::to_string).collect();
            format!("{mode}, {}", tables.join(", "))
        }
    };
    let rate = backfill.rows_per_second.map(|rows| format!(" and {rows} rows/s")).unwrap_or_default();
    let readers = if backfill.parallelism == 1 { "1 reader" } else { &format!("{} readers", backfill.parallelism) };
    vec![
        format!("  backfill: {what}"),
        format!(
            "          {readers} at load {}{rate}, chunks of at most {} rows; paused at a lag of {} or {}",
            backfill.max_load,
            backfill.chunk_rows,
            show_duration(backfill.max_lag),
            show_bytes(backfill.max_lag_bytes)
        ),
    ]
}

fn sink_lines(source: &SourceConfig) -> Vec<String> {
    let state = format!("checkpoint in {}", source.state_dir.display());
    match &source.sink {
        SinkConfig::Kafka(kafka) => {
            let tombstones = match &source.format {
                FormatConfig::Json(_) => kafka.tombstones,
                FormatConfig::Debezium(debezium) => debezium.tombstones,
            };
            let tombstones = if tombstones { "with" } else { "without" };
            let mut lines = vec![format!(
                "  sink:   kafka {}, topic {}, {tombstones} tombstones, {}",
                kafka.brokers, kafka.topic, source.delivery
            )];
            lines.extend(topic_lines(&kafka.topics));
            let property = |(name, value): (&String, &PropertyValue)| format!("{name}={value}");
            if !kafka.properties.is_empty() {
                let properties: Vec<String> = kafka.properties.iter().map(property).collect();
                lines.push(format!("          {}", properties.join(", ")));
            }
            lines
        }
        SinkConfig::Stdout => vec![format!("  sink:   stdout, {}, {state}", source.delivery)],
        SinkConfig::File { path, rotate } => {
            let rotated = rotate.map(|it| format!(", set aside at {}, {} kept", show_bytes(it.max_bytes), it.keep));
            let rotated = rotated.unwrap_or_default();
            vec![format!("  sink:   file {}{rotated}, {}, {state}", path.display(), source.delivery)]
        }
    }
}

/// Nothing where the broker's defaults hold.
fn topic_lines(topics: &TopicsConfig) -> Vec<String> {
    let settings = |settings: &TopicSettings| {
        let mut words = Vec::new();
        words
            .extend(settings.partitions.map(|count| format!("{count} partition{}", if count == 1 { "" } else { "s" })));
        words.extend(settings.replication.map(|count| format!("replication {count}")));
        words.extend(settings.config.iter().map(|(key, value)| format!("{key}={value}")));
        words.join(", ")
    };
    let mut words = Vec::new();
    if !topics.create {
        words.push("never created".to_owned());
    }
    if topics.settings != TopicSettings::default() {
        words.push(settings(&topics.settings));
    }
    let first = (!words.is_empty()).then(|| format!("          topics: {}", words.join("; ")));
    let rules = topics.rules.iter().map(|rule| format!("          topics {}: {}", rule.text, settings(&rule.settings)));
    first.into_iter().chain(rules).collect()
}
