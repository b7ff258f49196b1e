//! Which files are read: the sources that the command line names, and the shared file beside them.
//!
//! A file is a source. A folder stands for all its `*.yaml` and `*.yml` except the shared file and hidden ones, and for
//! those in its folder `sources/`, sorted by name. The shared file, `rowcast.yaml`, is the one given with `--config`, else
//! the one in the source file's folder, else the one in that folder's parent.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::errors::{Collector, Place};
use super::yaml::MAX_FILE_BYTES;

/// The name of the shared file.
pub const SHARED_FILE: &str = "rowcast.yaml";

/// The source files that `paths` stand for, each once.
pub(crate) fn sources(paths: &[PathBuf], shared: Option<&Path>, errors: &Collector) -> Vec<Arc<Path>> {
    let mut found: Vec<PathBuf> = Vec::new();
    for path in paths {
        let place = Place::file(path.as_path());
        match path.metadata() {
            Ok(metadata) if metadata.is_dir() => {
                let mut inside = yaml_files(path, shared, errors);
                let nested = path.join("sources");
                if nested.is_dir() {
                    inside.extend(yaml_files(&nested, shared, errors));
                }
                if inside.is_empty() && errors.is_empty() {
                    errors.push(
                        &place,
                        "no source found: the folder has no *.yaml except rowcast.yaml, nor has its folder sources/",
                    );
                }
                found.extend(inside);
            }
            Ok(_) if is_shared(path) => {
                errors.push(&place, "this is the shared file, not a source; name the source files or their folder");
            }
            Ok(_) => found.push(path.clone()),
            Err(error) => errors.push(&place, format!("can't read the file: {}", reason(&error))),
        }
    }
    let mut seen = Vec::new();
    found.retain(|path| {
        let real = path.canonicalize().unwrap_or_else(|_| path.clone());
        let new = !seen.contains(&real);
        seen.push(real);
        new
    });
    found.into_iter().map(Arc::from).collect()
}

fn yaml_files(folder: &Path, shared: Option<&Path>, errors: &Collector) -> Vec<PathBuf> {
    let entries = match folder.read_dir() {
        Ok(entries) => entries,
        Err(error) => {
            errors.push(&Place::file(folder), format!("can't read the folder: {}", reason(&error)));
            return Vec::new();
        }
    };
    let shared = shared.and_then(|path| path.canonicalize().ok());
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
            let yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
            // `is_file` follows links: a ConfigMap of Kubernetes is a folder of links.
            yaml && !hidden && path.is_file() && !is_shared(path)
        })
        .filter(|path| shared.is_none() || path.canonicalize().ok() != shared)
        .collect();
    files.sort();
    files
}

fn is_shared(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == SHARED_FILE)
}

/// The shared file that belongs to a source file, if there is one.
pub(crate) fn shared_beside(source: &Path) -> Option<PathBuf> {
    let folder = source.parent().unwrap_or(Path::new(""));
    [folder.to_owned(), parent_of(folder)].into_iter().map(|folder| folder.join(SHARED_FILE)).find(|path| path.exists())
}

/// `a/b` -> `a`, `a` -> the working directory, the working directory -> `..`.
fn parent_of(folder: &Path) -> PathBuf {
    match folder.components().next_back() {
        Some(Component::Normal(_)) => folder.parent().unwrap_or(Path::new("")).to_owned(),
        Some(Component::RootDir | Component::Prefix(_)) => folder.to_owned(),
        Some(Component::CurDir | Component::ParentDir) | None => folder.join(".."),
    }
}

/// Reads a configuration file, at most [`MAX_FILE_BYTES`] of it.
pub(crate) fn read(file: &Arc<Path>, errors: &Collector) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|opened| opened.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) if bytes.len() as u64 > MAX_FILE_BYTES => {
            errors.push(&Place::file(Arc::clone(file)), "the file is larger than 1 MiB; is it a configuration file?");
            None
        }
        Ok(_) => Some(bytes),
        Err(error) => {
            errors.push(&Place::file(Arc::clone(file)), format!("can't read the file: {}", reason(&error)));
            None
        }
    }
}

/// An I/O error's text without the number of the error, which tells an operator nothing.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.clone(), |(text, _)| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_of_a_relative_folder_is_found() {
        for (folder, parent) in
            [("a/b", "a"), ("a", ""), ("", ".."), (".", "./.."), ("..", "../.."), ("/a", "/"), ("/", "/")]
        {
            assert_eq!(parent_of(Path::new(folder)), Path::new(parent), "{folder}");
        }
    }
}
