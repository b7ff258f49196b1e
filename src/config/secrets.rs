//! `${...}` in values: environment variables and files.
//!
//! | written            | becomes                                                                      |
//! |--------------------|------------------------------------------------------------------------------|
//! | `${NAME}`          | the variable; not set is an error                                            |
//! | `${NAME:-default}` | the variable, or `default` where it is not set or empty                      |
//! | `${file:path}`     | the file's text without one newline at its end; relative paths start from the folder of the file that says so |
//! | `$${`              | `${` itself                                                                  |
//!
//! It is done when a key is read, after all layers are merged: a secret that is overridden need not exist. What comes in
//! is not searched for `${` again. Errors name the variable or file, never the text around it (it may be a password).

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::errors::Place;
use super::files::reason;
use super::suggest::did_you_mean;

/// Largest secret file, in bytes.
const MAX_SECRET_BYTES: u64 = 64 << 10;

/// Replaces every `${...}` of `text`, which stands at `place`.
pub(crate) fn resolve(text: &str, place: &Place, environment: &Environment) -> Result<String, String> {
    let mut resolved = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            resolved.push_str(before);
            resolved.push_str("${");
            rest = after;
            continue;
        }
        resolved.push_str(before);
        let Some((reference, after)) = after.split_once('}') else {
            return Err("`${` has no closing `}`; write `$${` for a plain `${`".to_owned());
        };
        resolved.push_str(&look_up(reference, place, environment)?);
        rest = after;
    }
    resolved.push_str(rest);
    Ok(resolved)
}

/// Whether the text has a `${...}` that is replaced.
pub(crate) fn has_reference(text: &str) -> bool {
    text.replace("$${", "").contains("${")
}

/// A path as a place means it: relative to the folder of the file that it stands in.
pub(crate) fn relative_to(place: &Place, path: &str) -> PathBuf {
    match place.folder() {
        Some(folder) => folder.join(path),
        None => PathBuf::from(path),
    }
}

fn look_up(reference: &str, place: &Place, environment: &Environment) -> Result<String, String> {
    if let Some(path) = reference.strip_prefix("file:") {
        if path.is_empty() {
            return Err("`${file:}` names no file".to_owned());
        }
        return read_secret(&relative_to(place, path));
    }
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    let well_formed = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    if !well_formed {
        return Err("`${...}` holds no name; allowed: ${NAME}, ${NAME:-default}, ${file:path}, and $${ for a plain ${"
            .to_owned());
    }
    match (environment.get(name), default) {
        (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Some(value), _) => {
            value.to_str().map(str::to_owned).ok_or_else(|| format!("environment variable `{name}` is not UTF-8 text"))
        }
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(format!(
            "environment variable `{name}` is not set{}",
            did_you_mean(name, environment.names().filter(|candidate| candidate.len() > 3))
        )),
    }
}

fn read_secret(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let fail = |error: std::io::Error| format!("can't read the secret file `{shown}`: {}", reason(&error));
    let mut bytes = Vec::new();
    File::open(path).map_err(fail)?.take(MAX_SECRET_BYTES + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > MAX_SECRET_BYTES {
        return Err(format!("the secret file `{shown}` is larger than {} KiB", MAX_SECRET_BYTES >> 10));
    }
    let text = String::from_utf8(bytes).map_err(|_| format!("the secret file `{shown}` is not UTF-8 text"))?;
    let trimmed = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    if trimmed.is_empty() {
        return Err(format!("the secret file `{shown}` is empty"));
    }
    Ok(trimmed.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        [("SHOP_USER", "cdc"), ("EMPTY", ""), ("NESTED", "${SHOP_USER}")].into_iter().collect()
    }

    fn resolved(text: &str) -> Result<String, String> {
        resolve(text, &Place::CommandLine, &environment())
    }

    #[test]
    fn references_are_replaced_anywhere_in_a_value() {
        for (text, expected) in [
            ("plain $5 {x} $", "plain $5 {x} $"),
            ("${SHOP_USER}", "cdc"),
            ("a-${SHOP_USER}-${SHOP_USER}", "a-cdc-cdc"),
            ("${EMPTY}", ""),
            ("${EMPTY:-x}", "x"),
            ("${MISSING:-x:y}", "x:y"),
            ("${MISSING:-}", ""),
            ("$${SHOP_USER}", "${SHOP_USER}"),
            ("a$${b${SHOP_USER}", "a${bcdc"),
            ("${NESTED}", "${SHOP_USER}"),
        ] {
            assert_eq!(resolved(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn errors_name_what_is_missing_and_nothing_around_it() {
        assert_eq!(
            resolved("hunter2${SHOP_USR}").unwrap_err(),
            "environment variable `SHOP_USR` is not set; did you mean `SHOP_USER`?"
        );
        for text in ["hunter2${", "hunter2${}", "hunter2${a b}", "${hunter2 }", "${1x}", "${file:}", "${file:/no/such}"]
        {
            let error = resolved(text).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_secret_file_loses_one_newline_at_its_end() {
        let folder = tempdir("secrets");
        for (content, expected) in [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a ", " a ")] {
            std::fs::write(folder.join("s"), content).unwrap();
            assert_eq!(resolved(&format!("${{file:{}}}", folder.join("s").display())).as_deref(), Ok(expected));
        }
        // Relative to the folder of the configuration file.
        let place = Place::at(folder.join("x.yaml"), 1, 1);
        assert_eq!(resolve("${file:s}", &place, &environment()).as_deref(), Ok(" a "));
    }

    #[test]
    fn a_secret_file_that_can_not_be_used_is_an_error_that_says_why() {
        let folder = tempdir("bad-secrets");
        std::fs::write(folder.join("empty"), "\n").unwrap();
        std::fs::write(folder.join("binary"), [0xff, 0xfe]).unwrap();
        std::fs::write(folder.join("large"), vec![b'x'; 65 << 10]).unwrap();
        for (file, why) in [
            ("empty", "is empty"),
            ("binary", "is not UTF-8 text"),
            ("large", "is larger than 64 KiB"),
            ("missing", "No such file or directory"),
            (".", "Is a directory"),
        ] {
            let error = resolved(&format!("${{file:{}/{file}}}", folder.display())).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    fn tempdir(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("rowcast-config-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }
}
