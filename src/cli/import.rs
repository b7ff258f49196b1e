//! `rowcast import debezium`: prints a connector's configuration as ours, and says what becomes of each of its options.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::commands::{CONFIGURATION, FAILED, complain};
use crate::import::{self, Imported};

pub(super) const EXAMPLES: &str = "\
Examples:
  rowcast import debezium connector.json > config/sources/shop.yaml
  rowcast import debezium application.properties -o shop.yaml
  rowcast import debezium connector.properties --offsets offsets.dat -o shop.yaml
  curl -s connect:8083/connectors/shop/offsets > offsets.json; rowcast import debezium connector.json --offsets offsets.json

FILE is a connector's configuration as Kafka Connect's REST interface takes and gives it (JSON, with or without name and config), or
properties, as a standalone worker or Debezium Server has them; - is the standard input. The source file goes to the standard output or to
the file of -o, which must not exist. With --offsets the source begins where the connector stopped (`source.start_at`), and copies nothing.
Of distributed workers, stop the connector (PUT /connectors/NAME/stop) and save what GET /connectors/NAME/offsets answers (Kafka 3.6 and later). What became of each option goes to the standard error: taken, not needed, not supported, unknown.

Exit codes:
  0  imported; what isn't supported has been said, and is in the file as a comment
  1  the file could not be written
  2  wrong usage, or not a configuration of a connector for PostgreSQL, MySQL or MariaDB";

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
        #[arg(long, value_name = "FILE")]
        offsets: Option<PathBuf>,
    },
}

pub(super) fn import(args: &ImportArgs) -> ExitCode {
    let From_::Debezium { file, output, offsets } = &args.from;
    let text = match file.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin()),
        false => std::fs::read_to_string(file),
    };
    let text = match text {
        Ok(text) => text,
        Err(error) => return complain(CONFIGURATION, format_args!("{}: {error}", file.display())),
    };
    let offsets = match offsets.as_ref().map(|path| (path, read_offsets(path))) {
        None => None,
        Some((_, Ok(offsets))) => Some(offsets),
        Some((path, Err(error))) => return complain(CONFIGURATION, format_args!("{}: {error}", path.display())),
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
