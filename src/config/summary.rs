//! The effective configuration of a source in a few lines, for `check-config`. Shows no secret.

use super::SourceConfig;
use super::backfill::{BackfillConfig, BackfillMode, BackfillTable};
use super::sink::{PropertyValue, SinkConfig};
use super::source::SourceKind;
use super::units::{show_bytes, show_duration};

/// `shop: ok (config/sources/shop.yaml)` and indented lines with what is in effect, without a newline at the end.
pub fn summary(source: &SourceConfig) -> String {
    let connection = source.kind.connection();
    let tls = &connection.tls;
    let place = match &source.kind {
        SourceKind::Postgres(postgres) => format!("/{}", postgres.database),
        SourceKind::Mysql(_) => String::new(),
    };
    let own = match &source.kind {
        SourceKind::Postgres(postgres) => format!("slot {}, publication {}", postgres.slot, postgres.publication),
        SourceKind::Mysql(mysql) => format!("server id {}", mysql.server_id),
    };
    let password = if connection.password.is_some() { "with a password" } else { "without a password" };
    let mut lines = vec![
        format!("{}: ok ({})", source.name, source.file.display()),
        format!(
            "  source: {} {}@{}:{}{place} {password}, tls {}{}{}",
            source.kind.type_name(),
            connection.user,
            connection.host,
            connection.port,
            tls.mode,
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
    lines.push(format!(
        "  memory: {}; commit every {} or {}",
        show_bytes(source.memory_budget as u64),
        show_duration(source.commit.interval),
        show_bytes(source.commit.max_bytes as u64)
    ));
    lines.extend(backfill_lines(&source.backfill));
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
            let tombstones = if kafka.tombstones { "with" } else { "without" };
            let mut lines = vec![format!(
                "  sink:   kafka {}, topic {}, {tombstones} tombstones, {}",
                kafka.brokers, kafka.topic, source.delivery
            )];
            let property = |(name, value): (&String, &PropertyValue)| format!("{name}={value}");
            if !kafka.properties.is_empty() {
                let properties: Vec<String> = kafka.properties.iter().map(property).collect();
                lines.push(format!("          {}", properties.join(", ")));
            }
            lines
        }
        SinkConfig::Stdout => vec![format!("  sink:   stdout, {}, {state}", source.delivery)],
        SinkConfig::File { path } => vec![format!("  sink:   file {}, {}, {state}", path.display(), source.delivery)],
    }
}
