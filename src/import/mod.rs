//! `rowcast import debezium`: a connector's configuration as ours, and what becomes of each of its options.
//!
//! [`read`] takes the file apart, [`options`] is the table of what is known, [`convert`] and [`rows`] make keys of ours, [`tables`] patterns of regular
//! expressions, [`yaml`] writes them. [`offsets`] says where the connector stopped, [`java`] reads the file that has it.
//!
//! Guarantees: every option of the file is told once, as taken, not needed (and why), not supported (and what happens instead) or unknown; none
//! is left out silently. No secret is written or printed: passwords become references to the environment.

mod convert;
mod java;
mod offsets;
mod options;
mod read;
mod rows;
mod tables;
mod yaml;

#[cfg(test)]
mod tests;

use std::fmt;

pub use self::offsets::{Offsets, is_offset, of_file};
use self::options::{How, find, names};
pub use self::read::{ReadError, properties};
use self::yaml::Document;
use crate::config::{Patterns, is_key, parse_key_columns};

/// What became of an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is in this key of ours.
    Taken(String),
    /// There is nothing to set: why.
    NotNeeded(String),
    /// There is nothing like it: what happens instead.
    NotSupported(String),
    /// No option that is documented has this name.
    Unknown(String),
}

/// An option and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The name, as the file has it.
    pub option: String,
    /// What became of it.
    pub fate: Fate,
}

/// A configuration that was imported.
#[derive(Clone, Debug)]
pub struct Imported {
    /// A source file for `rowcast run`.
    pub yaml: String,
    /// What became of each option, in the order of the file.
    pub notes: Vec<Note>,
    /// What to do before the first start.
    pub advice: Vec<String>,
}

/// Why a file can't be imported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// It can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// No connector class in it.
    #[error(
        "no `connector.class`: is this a connector's configuration? (Debezium Server has it as `debezium.source.connector.class`)"
    )]
    NoConnector,
    /// A connector that reads from something else.
    #[error("the connector `{0}` reads from a source that isn't supported; PostgreSQL's, MySQL's and MariaDB's are")]
    OtherConnector(String),
    /// Its offset is no place to begin at.
    #[error("the offsets: {0}")]
    Offset(String),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (fate, text) = match &self.fate {
            Fate::Taken(text) => ("taken", text),
            Fate::NotNeeded(text) => ("not needed", text),
            Fate::NotSupported(text) => ("not supported", text),
            Fate::Unknown(text) => ("unknown", text),
        };
        write!(f, "{fate:<13}  {}: {text}", self.option)
    }
}

/// Which database a connector reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connector {
    Postgres,
    Mysql,
    Mariadb,
}

impl Connector {
    fn of_class(class: &str) -> Option<Self> {
        match class.rsplit('.').next()? {
            "PostgresConnector" => Some(Self::Postgres),
            "MySqlConnector" => Some(Self::Mysql),
            "MariaDbConnector" => Some(Self::Mariadb),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Mysql => "mysql",
            Self::Mariadb => "mariadb",
        }
    }
}

/// Imports a connector's configuration: JSON, or properties. With Connect's offsets the source begins where the connector stopped.
///
/// # Errors
/// It can't be read, or is of another connector; there is no offset of it, or none to begin at.
pub fn debezium(text: &str, offsets: Option<&Offsets>) -> Result<Imported, ImportError> {
    let mut options = read::read(text)?;
    // Debezium Server has a connector's options behind a prefix; notes name them as the file does
    let written: Vec<String> = options.all.iter().map(|(name, _)| name.clone()).collect();
    for (name, _) in &mut options.all {
        if let Some(own) = name.strip_prefix("debezium.source.") {
            *name = own.to_owned();
        } else if name.starts_with("debezium.transforms") || name.starts_with("debezium.predicates") {
            *name = name.trim_start_matches("debezium.").to_owned();
        }
    }
    let class = options.get("connector.class").ok_or(ImportError::NoConnector)?;
    let connector = Connector::of_class(class).ok_or_else(|| ImportError::OtherConnector(class.to_owned()))?;
    let mut document = Document::default();
    let mut converter = convert::Converter::new(&options, connector, &mut document);
    let mut notes = Vec::new();
    for ((name, value), written) in options.all.iter().zip(written) {
        notes.push(Note { option: written, fate: fate(&mut converter, name, value, connector) });
    }
    let stopped = offsets.map(|offsets| {
        let prefix = options.get("topic.prefix").or_else(|| options.get("database.server.name")).unwrap_or_default();
        // Debezium Server gives its connector the name of its sink
        let name =
            options.name.as_deref().or_else(|| options.get("name")).or_else(|| options.get("debezium.sink.type"));
        let queries = options.get("include.query").is_some_and(|value| value.trim().eq_ignore_ascii_case("true"));
        offsets::stopped(offsets, connector, prefix, name, queries).map_err(ImportError::Offset)
    });
    converter.finish(stopped.transpose()?);
    let advice = converter.advice();
    let mut yaml = format!("# Made by `rowcast import debezium` of a configuration of {class}.\n");
    for note in &notes {
        if let Fate::NotSupported(_) | Fate::Unknown(_) = note.fate {
            yaml.push_str(&format!("# {note}\n"));
        }
    }
    yaml.push_str(&document.text());
    Ok(Imported { yaml, notes, advice })
}

/// What is wrong with an option that has expressions of columns.
fn expressions(name: &str, value: &str) -> Result<(), String> {
    match name {
        "message.key.columns" => parse_key_columns(value).map(|_| ()),
        "column.include.list"
        | "column.exclude.list"
        | "column.propagate.source.type"
        | "datatype.propagate.source.type" => Patterns::parse(value).map(|_| ()),
        _ => Ok(()),
    }
}

fn fate(converter: &mut convert::Converter<'_>, name: &str, value: &str, connector: Connector) -> Fate {
    if let Some(fate) = converter.extension(name, value) {
        return fate;
    }
    let Some(option) = find(name, connector == Connector::Postgres) else {
        let near = crate::config::did_you_mean(name, names());
        let other = find(name, connector != Connector::Postgres).is_some();
        return Fate::Unknown(match other {
            true => "an option of other databases' connectors, not of this one".to_owned(),
            false => format!("no documented option{near}"),
        });
    };
    // what only says what holds anyway asks for nothing
    let is_default = !option.default.is_empty() && value.trim().eq_ignore_ascii_case(option.default);
    match option.how {
        How::Converted => converter.convert(name, value),
        How::Format => {
            let key = format!("debezium.{}", name.replace('.', "_"));
            if let Err(why) = expressions(name, value) {
                Fate::NotSupported(format!("{why}; events are written as if it weren't set"))
            } else if is_key(&key) {
                converter.set(&key, value);
                Fate::Taken(key)
            } else if is_default {
                Fate::NotNeeded("it is what holds anyway".to_owned())
            } else {
                Fate::NotSupported("events are written as if it weren't set".to_owned())
            }
        }
        How::Needless(why) => Fate::NotNeeded(why.to_owned()),
        How::Missing(_) if is_default => Fate::NotNeeded("it is what holds anyway".to_owned()),
        How::Missing(instead) => Fate::NotSupported(instead.to_owned()),
    }
}
