//! The source that a command names, from its file.

use std::path::{Path, PathBuf};

use crate::config::{self, Environment, Request, SourceConfig};

/// Where configuration is looked for if no path is given.
const PLACES: [&str; 2] = ["config", "/etc/rowcast"];

/// The source called `name` among these files, or those of the usual places.
///
/// # Errors
/// A sentence with the repair; all mistakes of the files.
pub(super) fn named(
    command: &str,
    name: &str,
    paths: &[PathBuf],
    shared: Option<&PathBuf>,
) -> Result<SourceConfig, String> {
    let paths = match paths.is_empty() {
        false => paths.to_vec(),
        true => match PLACES.iter().map(Path::new).find(|place| place.exists()) {
            Some(place) => vec![place.to_owned()],
            None => {
                return Err(format!(
                    "no configuration: neither {} is there; repair: name the source's file: rowcast {command} {name} FILE",
                    PLACES.join(" nor "),
                ));
            }
        },
    };
    let shown = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
    let sources = load(paths, shared)?;
    let names: Vec<String> = sources.iter().map(|source| source.name.clone()).collect();
    sources
        .into_iter()
        .find(|source| source.name == name)
        .ok_or_else(|| format!("no source is called `{name}` in {shown}; repair: one of {}", names.join(", ")))
}

/// The one source of a file.
///
/// # Errors
/// As [`named`].
pub(super) fn of_file(path: &Path, shared: Option<&PathBuf>) -> Result<SourceConfig, String> {
    let mut sources = load(vec![path.to_owned()], shared)?;
    match (sources.pop(), sources.is_empty()) {
        (Some(source), true) => Ok(source),
        (None, _) => Err(format!("{} has no source", path.display())),
        (Some(_), false) => Err(format!("{} has several sources; repair: name one: NAME {0}", path.display())),
    }
}

fn load(paths: Vec<PathBuf>, shared: Option<&PathBuf>) -> Result<Vec<SourceConfig>, String> {
    let request = Request { paths, shared: shared.cloned(), sink: None, environment: Environment::of_process() };
    Ok(config::load(&request).map_err(|errors| errors.to_string())?.sources)
}
