//! The `logging:` section of the shared file, and the form of a log level.

use std::fmt;

use super::keys::not_one_of;
use super::reader::Section;

/// How the daemon logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggingConfig {
    /// For people or for machines.
    pub format: LogFormat,
    /// A level, or levels by module: `info`, `info,rowcast_mysql=debug`.
    pub level: String,
}

impl Default for LoggingConfig {
    fn default() -> Self {
        Self { format: LogFormat::Human, level: "info".to_owned() }
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Text for people
    #[default]
    Human,
    /// One JSON object per line
    Json,
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Human => "human",
            Self::Json => "json",
        })
    }
}

/// Reads `logging`; `None` after a report.
pub(crate) fn read(root: &Section<'_>) -> Option<LoggingConfig> {
    let logging = root.section("logging");
    let default = LoggingConfig::default();
    let format = match logging.has("format") {
        true => logging.choice("format", &[("human", LogFormat::Human), ("json", LogFormat::Json)]),
        false => Some(default.format),
    };
    let level = if logging.has("level") { logging.value("level", parse_level) } else { Some(default.level) };
    Some(LoggingConfig { format: format?, level: level? })
}

/// Checks a level: one of the words, or several `module=level` with commas. The filter's own parser would take a
/// misspelt `inof` as a module to log everything of.
///
/// # Errors
/// Says what is allowed.
pub fn parse_level(text: &str) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    for directive in text.split(',') {
        let (module, level) = match directive.split_once('=') {
            Some((module, level)) => (module.trim(), level.trim()),
            None => ("rowcast", directive.trim()),
        };
        if !LEVELS.contains(&level) {
            return Err(format!("{}; or by module: info,rowcast_mysql=debug", not_one_of(level, &LEVELS)));
        }
        let legal = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == ':';
        if module.is_empty() || !module.chars().all(legal) {
            return Err(format!("`{module}` is no module; allowed: info,rowcast_mysql=debug"));
        }
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_a_word_or_words_by_module() {
        for text in ["info", "off", "info,rowcast_mysql=debug", "warn, rowcast::pipeline=trace"] {
            assert_eq!(parse_level(text).as_deref(), Ok(text));
        }
        assert_eq!(
            parse_level("inof"),
            Err("did you mean `info`? allowed: off, error, warn, info, debug, trace; or by module: \
                 info,rowcast_mysql=debug"
                .to_owned())
        );
        for text in ["", "info,", "=info", "a b=info", "a=", "INFO "] {
            assert!(parse_level(text).is_err(), "{text}");
        }
    }
}
