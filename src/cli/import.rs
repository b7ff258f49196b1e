//! `rowcast import debezium`: prints a connector's configuration as ours, and says what becomes of each of its options. Offsets come from a file or
//! from the topic that Connect keeps them in, which is only read.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use secrecy::SecretString;

use super::commands::{CONFIGURATION, FAILED, complain};
use crate::import::{self, Imported};
use crate::sink::kafka::{KafkaSettings, newest};

pub(super) const EXAMPLES: &str = "\
Examples:
  rowcast import debezium connector.json > config/sources/shop.yaml
  rowcast import debezium application.properties -o shop.yaml
  rowcast import debezium connector.properties --offsets offsets.dat -o shop.yaml
  curl -s connect:8083/connectors/shop/offsets > offsets.json; rowcast import debezium connector.json --offsets offsets.json
  rowcast import debezium connector.json --offsets-topic connect-offsets --brokers kafka:9092 -o shop.yaml

FILE is a connector's configuration as Kafka Connect's REST interface takes and gives it (JSON, with or without name and config), or
properties, as a standalone worker or Debezium Server has them; - is the standard input. The source file goes to the standard output or to
the file of -o, which must not exist. With --offsets or --offsets-topic the source begins where the connector stopped (`source.start_at`), and copies
nothing. Of distributed workers, stop the connector (PUT /connectors/NAME/stop), then name the topic of the workers' `offset.storage.topic`, or save what
GET /connectors/NAME/offsets answers (Kafka 3.6 and later). What became of each option goes to the standard error: taken, not needed, not supported, unknown.

Exit codes:
  0  imported; what isn't supported has been said, and is in the file as a comment
  1  the file could not be written, or Kafka refused or could not be reached
  2  wrong usage, not a configuration of a connector for PostgreSQL, MySQL or MariaDB, or no offset to begin at";

/// Arguments of `import`.
#[derive(Clone, Debug, Args)]
pub struct ImportArgs {
    /// Whose configuration it is.
    #[command(subcommand)]
    pub from: From_,
}

/// What can be imported.
#[derive(Clone, Debug, Subcommand)]
pub enum From_ {
    /// A Debezium connector's configuration: JSON or properties
    #[command(after_help = EXAMPLES)]
    Debezium {
        /// The file; - for the standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,

        /// Write the source file here instead of to the standard output; it must not exist
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,

        /// Begin where the connector stopped, by this file of offsets: a standalone worker's, Debezium Server's, or what Connect answers to
        /// GET /connectors/NAME/offsets
        #[arg(long, value_name = "FILE", conflicts_with = "offsets_topic")]
        offsets: Option<PathBuf>,

        /// The same by Connect's topic of offsets, `offset.storage.topic` of the workers or of Debezium Server; it is only read
        #[arg(long, value_name = "TOPIC", requires = "brokers")]
        offsets_topic: Option<String>,

        /// The brokers that have the topic: HOST:PORT, separated by commas
        #[arg(long, value_name = "BROKERS", requires = "offsets_topic")]
        brokers: Option<String>,

        /// Properties of librdkafka for these brokers, name=value a line: those of the connection and its security, as in `sink.properties`
        #[arg(long, value_name = "FILE", requires = "offsets_topic")]
        kafka_config: Option<PathBuf>,
    },
}

pub(super) fn import(args: &ImportArgs, runtime: &tokio::runtime::Runtime) -> ExitCode {
    let From_::Debezium { file, output, offsets, offsets_topic, brokers, kafka_config } = &args.from;
    let text = match file.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin()),
        false => std::fs::read_to_string(file),
    };
    let text = match text {
        Ok(text) => text,
        Err(error) => return complain(CONFIGURATION, format_args!("{}: {error}", file.display())),
    };
    let offsets = match (offsets, offsets_topic, brokers) {
        (Some(path), ..) => match read_offsets(path) {
            Ok(offsets) => Some(offsets),
            Err(error) => return complain(CONFIGURATION, format_args!("{}: {error}", path.display())),
        },
        (None, Some(topic), Some(brokers)) => {
            let properties = match kafka_config.as_deref().map_or(Ok(Vec::new()), read_properties) {
                Ok(properties) => properties,
                Err(error) => return complain(CONFIGURATION, format_args!("{error}")),
            };
            let _context = runtime.enter();
            match read_topic(topic, brokers, properties) {
                Ok(offsets) => Some(offsets),
                Err(error) => return complain(FAILED, format_args!("{error}")),
            }
        }
        _ => None,
    };
    let imported = match import::debezium(&text, offsets.as_ref()) {
        Ok(imported) => imported,
        Err(error) => return complain(CONFIGURATION, format_args!("{}: {error}", file.display())),
    };
    let written = match output {
        Some(path) => std::fs::File::create_new(path).and_then(|mut file| file.write_all(imported.yaml.as_bytes())),
        None => std::io::stdout().write_all(imported.yaml.as_bytes()),
    };
    if let Err(error) = written {
        let to = output.as_ref().map_or("the standard output".into(), |path| path.display().to_string());
        return complain(FAILED, format_args!("{to}: {error}"));
    }
    report(&imported);
    ExitCode::SUCCESS
}

/// Reads a file of offsets: some kilobytes; a larger one is none.
fn read_offsets(path: &Path) -> Result<import::Offsets, String> {
    const MOST: u64 = 64 << 20;
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    import::of_file(&bytes)
}

/// Reads a file of librdkafka's properties, in the form that Java's clients have theirs.
fn read_properties(path: &Path) -> Result<Vec<(String, SecretString)>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let read = import::properties(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(read.into_iter().map(|(name, value)| (name, SecretString::from(value))).collect())
}

/// Reads the offsets in a topic.
fn read_topic(topic: &str, brokers: &str, properties: Vec<(String, SecretString)>) -> Result<import::Offsets, String> {
    let read = KafkaSettings::aside("import", brokers, properties)
        .and_then(|settings| newest::read(&settings, topic, import::is_offset));
    // the errors of Kafka name the keys of a source file, which there is none of yet
    read.map_err(|error| {
        error
            .message
            .replace("`sink.brokers`", "`--brokers`")
            .replace("`sink.properties`", "the file of `--kafka-config`")
    })
}

fn report(imported: &Imported) {
    let mut text = String::new();
    for note in &imported.notes {
        text.push_str(&format!("{note}\n"));
    }
    if !imported.advice.is_empty() {
        text.push_str("\nBefore the first start:\n");
        for advice in &imported.advice {
            text.push_str(&format!("- {advice}\n"));
        }
    }
    // nothing is left to do if the standard error is closed
    let _ = std::io::stderr().write_all(text.as_bytes());
}
