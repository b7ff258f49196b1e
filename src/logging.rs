//! Logging: `tracing` lines to the standard error, for people or as JSON.
//!
//! Always the standard error: the standard output belongs to events (`--to stdout`). Times are UTC with microseconds
//! (RFC 3339). Colours only if the standard error is a terminal and `NO_COLOR` isn't set. `RUST_LOG` wins over the
//! configuration and takes all forms of `tracing_subscriber`'s `EnvFilter`.

use std::io::IsTerminal;

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogFormat, LoggingConfig};

/// Why logging can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// `RUST_LOG` can't be read.
    #[error("environment variable RUST_LOG is `{value}`: {reason}")]
    RustLog {
        /// Its value.
        value: String,
        /// What is wrong.
        reason: String,
    },
    /// The configured level can't be read.
    #[error("the log level `{level}` can't be used: {reason}")]
    Level {
        /// The level.
        level: String,
        /// What is wrong.
        reason: String,
    },
    /// Logging was set up before.
    #[error("logging is set up already: {0}")]
    Twice(String),
}

/// Sets up logging for the whole process.
///
/// # Errors
/// A level that can't be read, or a second call.
pub fn init(config: &LoggingConfig) -> Result<(), LoggingError> {
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let filter = filter(config, std::env::var("RUST_LOG").ok().as_deref())?;
    subscriber(config.format, filter, colours, std::io::stderr)
        .try_init()
        .map_err(|error| LoggingError::Twice(error.to_string()))
}

fn filter(config: &LoggingConfig, rust_log: Option<&str>) -> Result<EnvFilter, LoggingError> {
    match rust_log.filter(|value| !value.trim().is_empty()) {
        Some(value) => EnvFilter::try_new(value)
            .map_err(|error| LoggingError::RustLog { value: value.to_owned(), reason: error.to_string() }),
        None => EnvFilter::try_new(&config.level)
            .map_err(|error| LoggingError::Level { level: config.level.clone(), reason: error.to_string() }),
    }
}

fn subscriber<W>(format: LogFormat, filter: EnvFilter, colours: bool, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // The default timer is the system clock in UTC.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match format {
        LogFormat::Human => Box::new(builder.with_ansi(colours).with_target(true).finish()),
        LogFormat::Json => Box::new(
            builder.json().with_ansi(false).flatten_event(true).with_current_span(true).with_span_list(false).finish(),
        ),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn lines(format: LogFormat, level: &str, rust_log: Option<&str>) -> String {
        let written = Written::default();
        let writer = written.clone();
        let config = LoggingConfig { format, level: level.to_owned() };
        let filter = filter(&config, rust_log).unwrap();
        let subscriber = subscriber(format, filter, false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            let _span = tracing::info_span!("source", source = "shop").entered();
            tracing::info!(rows = 5, "batch \"committed\"");
            tracing::debug!("details");
        });
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_lines_are_one_object_each_with_utc_time_fields_and_span() {
        let text = lines(LogFormat::Json, "info", None);
        let value: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(value["message"], "batch \"committed\"");
        assert_eq!(value["rows"], 5);
        assert_eq!(value["level"], "INFO");
        assert_eq!(value["span"]["source"], "shop");
        assert!(value["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn human_lines_have_utc_time_and_no_escapes_without_a_terminal() {
        let text = lines(LogFormat::Human, "info", None);
        assert_eq!(text.lines().count(), 1);
        assert!(text.split_whitespace().next().unwrap().ends_with('Z'), "{text}");
        assert!(text.contains("rows=5") && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn rust_log_wins_over_the_configured_level() {
        assert_eq!(lines(LogFormat::Human, "off", Some("debug")).lines().count(), 2);
        assert_eq!(lines(LogFormat::Human, "debug", Some("off")).lines().count(), 0);
        assert_eq!(lines(LogFormat::Human, "debug", Some("")).lines().count(), 2);
    }

    #[test]
    fn a_damaged_rust_log_is_an_error_that_names_it() {
        let error = filter(&LoggingConfig::default(), Some("rowcast=loud")).unwrap_err().to_string();
        assert!(error.starts_with("environment variable RUST_LOG is `rowcast=loud`: "), "{error}");
    }
}
