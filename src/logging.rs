//! Logging: `tracing` lines to the standard error, for people or as JSON.
//!
//! Always the standard error: the standard output belongs to events (`--to stdout`). Times are UTC with microseconds
//! (RFC 3339). Colours only if the standard error is a terminal and `NO_COLOR` isn't set. `RUST_LOG` wins over the
//! configuration and takes all forms of `tracing_subscriber`'s `EnvFilter`.
//!
//! On a terminal one line may stay at the bottom, below the last log line ([`set_status_line`]): how copies of tables are
//! getting on. Without a terminal nothing of it is ever written. A log line and the status line behind it are one write, so
//! that nothing flickers; what else is written to the terminal (events on the standard output) would be written into it,
//! hence [`forbid_status_line`].

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, OnceLock, PoisonError};

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
    subscriber(config.format, filter, colours, || LogWriter)
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

/// What the status line says; none while there is no such line. Locked while the standard error is written to.
static STATUS_LINE: Mutex<Option<String>> = Mutex::new(None);
/// Whether there can be one.
static ALLOWED: OnceLock<bool> = OnceLock::new();

/// The start of the line; all of it is blank then.
const CLEARED: &str = "\r\u{1b}[2K";

/// From now on no status line is shown, whatever the standard error is. Only before the first one; else it does nothing.
pub fn forbid_status_line() {
    let _ = ALLOWED.set(false);
}

/// How many letters a status line can have; none if none is ever shown, so that none need be made.
pub fn status_line_width() -> Option<usize> {
    let able = || io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    ALLOWED.get_or_init(able).then(|| usable_width(terminal_width()))
}

/// Keeps this text in the last line of the terminal, cut to its width, until it is replaced or taken away. Nothing at all if
/// the standard error isn't a terminal. Take it away before the process ends.
pub fn set_status_line(text: Option<String>) {
    let Some(width) = status_line_width() else { return };
    let mut shown = STATUS_LINE.lock().unwrap_or_else(PoisonError::into_inner);
    let text = text.filter(|text| !text.is_empty());
    let drawn = redrawn(shown.is_some(), b"", text.as_deref(), width);
    *shown = text;
    // As with log lines, there is nobody to tell that the terminal is gone.
    let _ = io::stderr().write_all(&drawn);
}

/// What is written so that `log` (whole lines) stands above the status line.
fn redrawn(was_shown: bool, log: &[u8], text: Option<&str>, width: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(log.len() + width + 16);
    if was_shown {
        bytes.extend_from_slice(CLEARED.as_bytes());
    }
    bytes.extend_from_slice(log);
    if let Some(text) = text {
        bytes.extend_from_slice(cut(text, width).as_bytes());
    }
    bytes
}

/// The start of a text, as much as fits. Letters beyond ASCII may be twice as wide, and what a terminal would obey is blank.
fn cut(text: &str, width: usize) -> String {
    let mut room = width;
    let fits = |letter: &char| {
        let needs = if letter.is_ascii() { 1 } else { 2 };
        let fits = room >= needs;
        room = room.saturating_sub(if fits { needs } else { room });
        fits
    };
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take_while(fits).collect()
}

fn terminal_width() -> usize {
    match terminal_size::terminal_size_of(io::stderr()) {
        Some((terminal_size::Width(width), _)) if width > 0 => width.into(),
        _ => std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).unwrap_or(80),
    }
}

/// Without the last column: some terminals begin a new line as soon as it is written.
fn usable_width(width: usize) -> usize {
    width.clamp(1, 500) - 1
}

/// The standard error with the status line below it. The subscriber writes each line in one call.
struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let shown = STATUS_LINE.lock().unwrap_or_else(PoisonError::into_inner);
        // Without a status line this is the standard error and nothing else; the terminal isn't even asked for its width.
        match shown.as_deref().and_then(|text| Some((text, status_line_width()?))) {
            Some((text, width)) => io::stderr().write_all(&redrawn(true, bytes, Some(text), width)),
            None => io::stderr().write_all(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::sync::Arc;

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

    fn drawn(was_shown: bool, log: &str, text: Option<&str>, width: usize) -> String {
        String::from_utf8(redrawn(was_shown, log.as_bytes(), text, width)).unwrap()
    }

    #[test]
    fn a_log_line_goes_above_the_status_line() {
        assert_eq!(drawn(false, "", Some("50 %"), 80), "50 %");
        assert_eq!(drawn(true, "", Some("51 %"), 80), "\r\u{1b}[2K51 %");
        assert_eq!(drawn(true, "a line\n", Some("51 %"), 80), "\r\u{1b}[2Ka line\n51 %");
        assert_eq!(drawn(true, "", None, 80), "\r\u{1b}[2K");
        assert_eq!(drawn(false, "", None, 80), "");
    }

    #[test]
    fn a_status_line_is_cut_and_obeyed_by_no_terminal() {
        assert_eq!(drawn(false, "", Some("123456789"), 5), "12345");
        assert_eq!(drawn(false, "", Some("\u{1b}[2J\n\r"), 9), " [2J  ");
        assert_eq!(drawn(false, "", Some("größe"), 5), "grö");
        assert_eq!(drawn(false, "", Some("größe"), 6), "größ");
        assert_eq!(drawn(false, "", Some("größe1"), 80), "größe1");
        assert_eq!(drawn(false, "", Some("x"), usable_width(0)), "");
        assert_eq!(usable_width(80), 79);
    }

    #[test]
    fn a_damaged_rust_log_is_an_error_that_names_it() {
        let error = filter(&LoggingConfig::default(), Some("rowcast=loud")).unwrap_err().to_string();
        assert!(error.starts_with("environment variable RUST_LOG is `rowcast=loud`: "), "{error}");
    }
}
