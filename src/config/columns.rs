//! Options of columns, in the section `debezium:`: which are published, which are cut or hidden, of which the source's type is told; and the
//! columns that keys are made of.
//!
//! Lists are the original's: regular expressions with commas between them, each of which must match the whole of
//! `schema.table.column` (`database.table.column` in MySQL and MariaDB), whatever the case of its letters. What Java has and this crate hasn't
//! (looking around, references back, possessive quantifiers) is refused when the configuration is read, as is an expression that grows too large.

use regex::{Regex, RegexBuilder};

use super::reader::Section;

/// Expressions, of which one must match.
#[derive(Clone, Debug)]
pub struct Patterns(Vec<Regex>);

impl Patterns {
    /// Reads a list with commas between; `\,` is a comma.
    ///
    /// # Errors
    /// What is wrong with an expression.
    pub fn parse(list: &str) -> Result<Self, String> {
        let mut parts = vec![String::new()];
        let mut letters = list.chars();
        while let Some(letter) = letters.next() {
            match (letter, parts.last_mut()) {
                (',', _) => parts.push(String::new()),
                ('\\', Some(part)) => match letters.next() {
                    Some(',') => part.push(','),
                    next => part.extend(std::iter::once('\\').chain(next)),
                },
                (letter, Some(part)) => part.push(letter),
                (_, None) => {}
            }
        }
        let parts: Vec<&str> = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty()).collect();
        if parts.is_empty() {
            return Err(
                "expected regular expressions with commas between them, such as public\\.orders\\.(note|price)"
                    .to_owned(),
            );
        }
        parts.into_iter().map(expression).collect::<Result<_, _>>().map(Self)
    }

    /// Whether one matches.
    pub fn match_any(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| pattern.is_match(name))
    }
}

fn expression(text: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(&format!("^(?:{text})$")).case_insensitive(true).size_limit(1 << 20).build();
    built.map_err(|error| {
        let error = error.to_string();
        let what = error.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        let what = what.trim_start_matches("error: ").trim_end_matches('.');
        format!("`{text}` is no regular expression that is understood: {what}")
    })
}

/// An algorithm of `column_mask_hash`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashAlgorithm {
    /// MD5
    Md5,
    /// SHA-1
    Sha1,
    /// SHA-224
    Sha224,
    /// SHA-256
    Sha256,
    /// SHA-384
    Sha384,
    /// SHA-512
    Sha512,
    /// SHA-512/256
    Sha512Of256,
}

const ALGORITHMS: [(&str, HashAlgorithm); 8] = [
    ("MD5", HashAlgorithm::Md5),
    ("SHA-1", HashAlgorithm::Sha1),
    ("SHA", HashAlgorithm::Sha1),
    ("SHA-224", HashAlgorithm::Sha224),
    ("SHA-256", HashAlgorithm::Sha256),
    ("SHA-384", HashAlgorithm::Sha384),
    ("SHA-512", HashAlgorithm::Sha512),
    ("SHA-512/256", HashAlgorithm::Sha512Of256),
];

/// What becomes of a column's values.
#[derive(Clone, PartialEq, Eq)]
pub enum Change {
    /// At most so many characters, or bytes.
    Truncate(usize),
    /// So many asterisks.
    Mask(usize),
    /// The hexadecimal digits of a hash.
    Hash {
        /// The algorithm.
        algorithm: HashAlgorithm,
        /// Is hashed before the value.
        salt: Vec<u8>,
        /// Of Java's serialised text, as the first version has it, or of the text alone.
        serialised: bool,
    },
}

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Truncate(length) => write!(f, "Truncate({length})"),
            Self::Mask(length) => write!(f, "Mask({length})"),
            Self::Hash { algorithm, .. } => write!(f, "Hash({algorithm:?}, [salt])"),
        }
    }
}

/// The options of columns.
#[derive(Clone, Debug, Default)]
pub struct ColumnsConfig {
    /// Only these are in rows.
    pub include: Option<Patterns>,
    /// These are not.
    pub exclude: Option<Patterns>,
    /// The first that matches holds.
    pub changes: Vec<(Patterns, Change)>,
    /// Schemas tell the types of these.
    pub typed: Option<Patterns>,
    /// The same by `schema.table.type`.
    pub typed_by_type: Option<Patterns>,
}

impl ColumnsConfig {
    /// Whether a column is in rows; `name` is `schema.table.column`.
    pub fn publishes(&self, name: &str) -> bool {
        match (&self.include, &self.exclude) {
            (Some(include), _) => include.match_any(name),
            (None, Some(exclude)) => !exclude.match_any(name),
            (None, None) => true,
        }
    }

    /// What becomes of a column's values, if anything.
    pub fn change_of(&self, name: &str) -> Option<&Change> {
        self.changes.iter().find(|(patterns, _)| patterns.match_any(name)).map(|(_, change)| change)
    }

    /// Whether anything is configured.
    pub fn is_empty(&self) -> bool {
        self.include.is_none()
            && self.exclude.is_none()
            && self.changes.is_empty()
            && self.typed.is_none()
            && self.typed_by_type.is_none()
    }
}

/// Reads what is a part of an option's name in the original.
type ParseChange = fn(&str) -> Result<Change, String>;

/// Reads the options; `None` after a report.
pub(super) fn read(section: &Section<'_>) -> Option<ColumnsConfig> {
    let list = |key: &str| match section.has(key) {
        true => section.value(key, Patterns::parse).map(Some),
        false => Some(None),
    };
    let include = list("column_include_list");
    let exclude = list("column_exclude_list");
    let typed = list("column_propagate_source_type");
    let typed_by_type = list("datatype_propagate_source_type");
    let mut changes = Vec::new();
    let mut well = true;
    let kinds: [(&str, ParseChange); 4] = [
        ("column_truncate_to_chars", |text| length(text).map(Change::Truncate)),
        ("column_mask_with_chars", |text| length(text).map(Change::Mask)),
        ("column_mask_hash", |text| hash(text, true)),
        ("column_mask_hash_v2", |text| hash(text, false)),
    ];
    for (key, parse) in kinds {
        if section.is_malformed(key) {
            section.section(key);
            well = false;
            continue;
        }
        let entries = section.section(key);
        for (name, place, text) in entries.texts() {
            // the key may hold a salt
            let why = |place, why: String| section.report(place, format!("`{}`: {why}", entries.of()));
            let change = parse(name).map_err(|it| why(place, it)).ok();
            let patterns = Patterns::parse(&text.value).map_err(|it| why(&text.place, it)).ok();
            match (change, patterns) {
                (Some(change), Some(patterns)) => changes.push((patterns, change)),
                _ => well = false,
            }
        }
    }
    let config =
        ColumnsConfig { include: include?, exclude: exclude?, changes, typed: typed?, typed_by_type: typed_by_type? };
    if config.include.is_some() && config.exclude.is_some() {
        let place = section.key_place("column_exclude_list");
        section.report(place, "`column_include_list` and `column_exclude_list` exclude each other; remove one of them");
        return None;
    }
    well.then_some(config)
}

/// What is wrong with the part of an option's name that says how columns are changed.
///
/// # Errors
/// If something is.
pub(crate) fn check_change(key: &str, text: &str) -> Result<(), String> {
    match key.ends_with("_chars") {
        true => length(text).map(|_| ()),
        false => hash(text, true).map(|_| ()),
    }
}

fn length(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(length) if length <= 1_000_000 => Ok(length),
        _ => Err(format!("`{text}` is no number of characters; expected {{10: expressions of columns}}")),
    }
}

/// `SHA-256.with.salt.CzQMA0cB5K`; the salt is in no message.
fn hash(text: &str, serialised: bool) -> Result<Change, String> {
    let algorithms = || ALGORITHMS.map(|(name, _)| name).join(", ");
    let (name, salt) = text
        .split_once(".with.salt.")
        .filter(|(_, salt)| !salt.is_empty())
        .ok_or("expected {ALGORITHM.with.salt.SALT: expressions of columns}")?;
    let algorithm =
        ALGORITHMS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, algorithm)| *algorithm);
    let algorithm =
        algorithm.ok_or_else(|| format!("`{name}` is no algorithm that is known; allowed: {}", algorithms()))?;
    Ok(Change::Hash { algorithm, salt: salt.as_bytes().to_vec(), serialised })
}

/// `schema.table:a,b;schema.other:c`: expressions of the columns of keys, in the key's order.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse_key_columns(text: &str) -> Result<Vec<Patterns>, String> {
    const FORM: &str = "expected table:column,column, several separated by `;`, such as public.orders:tenant,id";
    let mut all = Vec::new();
    for entry in text.split(';').map(str::trim).filter(|entry| !entry.is_empty()) {
        let (table, columns) = entry.split_once(':').filter(|(table, _)| table.contains('.')).ok_or(FORM)?;
        for column in columns.split(',').map(str::trim) {
            if column.is_empty() || column.contains(':') {
                return Err(FORM.to_owned());
            }
            all.push(Patterns(vec![expression(&format!("{table}.{column}"))?]));
        }
    }
    Ok(all)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_expressions_of_whole_names() {
        let list = Patterns::parse(r"public\.t\.(a|b), .*\.SECRET,x{1\,2}").unwrap();
        for (name, found) in [
            ("public.t.a", true),
            ("PUBLIC.T.B", true),
            ("public.t.ab", false),
            ("q.u.secret", true),
            ("xx", true),
            ("x1,2", false),
        ] {
            assert_eq!(list.match_any(name), found, "{name}");
        }
        for (wrong, why) in [
            ("a(?=b)", "look-around"),
            (r"(a)\1", "backreferences"),
            ("(", "unclosed group"),
            (" , ", "expected regular"),
        ] {
            let found = Patterns::parse(wrong).unwrap_err();
            assert!(found.contains(why), "{wrong}: {found}");
        }
    }

    #[test]
    fn a_salt_is_in_no_message() {
        let it = hash("SHA-256.with.salt.hunter2", true).unwrap();
        assert!(!format!("{it:?}").contains("hunter2"));
        assert!(!hash("CRC.with.salt.hunter2", true).unwrap_err().contains("hunter2"));
        assert!(hash("SHA-256.with.salt.", true).is_err());
    }

    #[test]
    fn keys_columns_are_in_their_order() {
        let found = parse_key_columns(r"public.(.*):note,id; other\.t:x").unwrap();
        assert_eq!(found.len(), 3);
        assert!(found.first().unwrap().match_any("public.orders.note"));
        for wrong in ["public", "public.orders", "public.t:a,", "t:a", "a.b:c:d", "a.(:b"] {
            assert!(parse_key_columns(wrong).is_err(), "{wrong}");
        }
    }
}
