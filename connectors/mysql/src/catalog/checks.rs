//! What the server must be set to, checked before the stream begins.
//!
//! Each wrong setting is a definite error with the statement that repairs it. Settings that make the server log less
//! than everything are notes, not errors: what isn't logged is `Absent` in the events, never invented.

use std::collections::{BTreeMap, HashMap};

use rowcast_core::{SourceError, TableFilter};

use super::literal;
use crate::Flavor;
use crate::connection::Connection;
use crate::error::Where;

/// Global variables by name, in lower case.
pub(crate) type Variables = BTreeMap<String, String>;

const NAMES: &[&str] = &[
    "log_bin",
    "binlog_format",
    "binlog_row_image",
    "binlog_row_metadata",
    "binlog_row_value_options",
    "binlog_checksum",
    "gtid_mode",
    "log_replica_updates",
    "log_slave_updates",
    "wsrep_on",
    "binlog_expire_logs_seconds",
    "binlog_expire_logs_auto_purge",
    "expire_logs_days",
    "lower_case_table_names",
    "server_id",
    "server_uuid",
];

pub(crate) async fn variables(connection: &mut Connection) -> Result<Variables, SourceError> {
    let names: Vec<String> = NAMES.iter().map(|name| literal(name)).collect();
    let sql = format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({})", names.join(","));
    let rows = connection.query("reading the server's settings", &sql).await?;
    let pair = |row: Vec<Option<String>>| match <[_; 2]>::try_from(row) {
        Ok([Some(name), value]) => Some((name.to_ascii_lowercase(), value.unwrap_or_default())),
        _ => None,
    };
    Ok(rows.into_iter().filter_map(pair).collect())
}

/// Checks version and settings; returns notes for the operator.
pub(crate) fn settings(place: &Where, version: &str, variables: &Variables) -> Result<Vec<String>, SourceError> {
    let is = |name: &str, value: &str| variables.get(name).is_none_or(|found| found.eq_ignore_ascii_case(value));
    let get = |name: &str| variables.get(name).map_or("?", String::as_str);
    let least = match place.flavor {
        Flavor::Mysql => (8, 0),
        Flavor::MariaDb => (10, 5),
    };
    if number(version) < least {
        let (major, minor) = least;
        return Err(
            place.definite(format_args!("version {version} is too old; {major}.{minor} is the oldest supported"))
        );
    }
    if !is("log_bin", "ON") {
        return Err(place
            .definite("the binary log is off (log_bin=OFF)")
            .repair("start the server with --log-bin --binlog-format=ROW"));
    }
    if !is("binlog_format", "ROW") {
        return Err(place
            .definite(format_args!("binlog_format is {}, not ROW", get("binlog_format")))
            .repair(format!("{}; then reconnect the writers", place.set("binlog_format=ROW"))));
    }
    let mut notes = Vec::new();
    if !is("binlog_row_image", "FULL") {
        notes.push(format!(
            "binlog_row_image={}: columns that the server doesn't log are absent in the events; SET GLOBAL \
             binlog_row_image=FULL logs all",
            get("binlog_row_image")
        ));
        if !is("binlog_row_value_options", "") {
            notes.push(
                "binlog_row_value_options=PARTIAL_JSON without whole rows: the server logs what changes in a document and not the \
                 document, so that such an update can't be published; SET GLOBAL binlog_row_image=FULL"
                    .to_owned(),
            );
        }
    }
    if !is("binlog_row_metadata", "FULL") {
        notes.push(format!(
            "binlog_row_metadata={}: column names come from information_schema and are kept with the position, so a table that is \
             altered twice while this source is away or lags stops; SET GLOBAL binlog_row_metadata=FULL avoids that",
            get("binlog_row_metadata")
        ));
    }
    if !is("binlog_checksum", "CRC32") {
        notes.push(
            "binlog_checksum=NONE: damage on the way can't be detected; SET GLOBAL binlog_checksum=CRC32".to_owned(),
        );
    }
    if let Some(seconds) = expiry(variables).filter(|seconds| *seconds < SHORT_EXPIRY) {
        notes.push(format!(
            "the server purges binary logs after {seconds} s (binlog_expire_logs_seconds): a source that is stopped or behind for longer \
             has a gap; {}",
            place.set("binlog_expire_logs_seconds=604800")
        ));
    }
    Ok(notes)
}

/// Binary logs that are kept for less are worth a word at the start.
const SHORT_EXPIRY: u64 = 3 * 3600;

/// After how many seconds the server purges binary logs; none if never.
pub(crate) fn expiry(variables: &Variables) -> Option<u64> {
    if variables.get("binlog_expire_logs_auto_purge").is_some_and(|value| value.eq_ignore_ascii_case("OFF")) {
        return None;
    }
    let get = |name: &str| variables.get(name).and_then(|value| value.parse::<f64>().ok()).filter(|value| *value > 0.0);
    // MariaDB before 10.6 has days only; since then both say the same
    let seconds = get("binlog_expire_logs_seconds").or_else(|| get("expire_logs_days").map(|days| days * 86_400.0));
    seconds.map(|seconds| seconds as u64)
}

/// Major and minor of `9.7.4-x` and `5.5.5-10.11.19-MariaDB`.
pub(crate) fn number(version: &str) -> (u32, u32) {
    let (major, minor, _) = self::version(version);
    (major, minor)
}

/// The same with the patch.
pub(crate) fn version(version: &str) -> (u32, u32, u32) {
    let version = version.strip_prefix("5.5.5-").unwrap_or(version);
    let mut parts = version.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// Character set by collation id, as the server numbers them.
pub(crate) async fn charsets(connection: &mut Connection) -> Result<HashMap<u32, String>, SourceError> {
    const DOING: &str = "reading the server's collations";
    let mut found = HashMap::new();
    let mut add = |rows: crate::connection::Rows| {
        for row in rows {
            if let [Some(id), Some(name)] = row.as_slice()
                && let Ok(id) = id.parse()
            {
                found.insert(id, name.clone());
            }
        }
    };
    add(connection.query(DOING, "SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATIONS").await?);
    // MariaDB 10.10: collations for several character sets have their ids here; older versions lack the column.
    let more = "SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY";
    if connection.place.flavor == Flavor::MariaDb
        && let Ok(rows) = connection.query(DOING, more).await
    {
        add(rows);
    }
    Ok(found)
}

/// Databases of the server itself; captured only if named literally.
const SYSTEM: &[&str] = &["mysql", "sys", "performance_schema", "information_schema"];

/// Whether a table is captured: the filter's word, and for the server's own databases a literal name.
pub(crate) fn captures(filter: &TableFilter, db: &str, table: &str) -> bool {
    filter.matches_parts(db, table)
        && (!SYSTEM.contains(&db) || filter.literal_includes().any(|literal| literal == (db, table)))
}

/// Whether tables of a database may be captured.
pub(crate) fn captures_in(filter: &TableFilter, db: &str) -> bool {
    filter.may_match_in(db) && (!SYSTEM.contains(&db) || filter.literal_includes().any(|literal| literal.0 == db))
}

/// The captured tables that are there now, sorted.
///
/// # Errors
/// For a literal name without a table (with the nearest name), for a table of which some columns are hidden, and if nothing is captured.
pub(crate) async fn tables(
    connection: &mut Connection,
    filter: &TableFilter,
) -> Result<Vec<(String, String)>, SourceError> {
    let sql = "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES \
               WHERE TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED', 'SEQUENCE')";
    let rows = connection.query("listing the tables", sql).await?;
    let all: Vec<(String, String)> = rows
        .into_iter()
        .filter_map(|row| match <[_; 2]>::try_from(row) {
            Ok([Some(db), Some(table)]) => Some((db, table)),
            _ => None,
        })
        .collect();
    let place = &connection.place;
    let user = crate::error::quoted(&place.user);
    for (db, table) in filter.literal_includes() {
        if filter.matches_parts(db, table) && !all.iter().any(|(d, t)| d == db && t == table) {
            let nearest = all
                .iter()
                .map(|(d, t)| (distance(&format!("{d}.{t}"), &format!("{db}.{table}")), d, t))
                .min()
                .filter(|(far, ..)| *far <= 3)
                .map_or_else(String::new, |(_, d, t)| format!("; did you mean `{d}.{t}`?"));
            return Err(place
                .definite(format_args!("there is no table `{db}.{table}` that this user may read{nearest}"))
                .repair(format!("correct `source.tables`, or GRANT SELECT ON `{db}`.* TO {user}@'...'")));
        }
    }
    let mut captured: Vec<(String, String)> =
        all.into_iter().filter(|(db, table)| captures(filter, db, table)).collect();
    captured.sort_unstable();
    if captured.is_empty() {
        return Err(place
            .definite("no table that this user may read matches `source.tables`")
            .repair(format!("correct `source.tables`, or GRANT SELECT ON <database>.* TO {user}@'...'")));
    }
    super::rights::whole(connection, &captured).await?;
    Ok(captured)
}

/// Edits between two names.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let (mut diagonal, mut left) = (i, i + 1);
        for (slot, y) in row.iter_mut().skip(1).zip(&b) {
            let best = (*slot + 1).min(left + 1).min(diagonal + usize::from(x != *y));
            diagonal = *slot;
            *slot = best;
            left = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn versions_are_read_in_both_dialects() {
        assert_eq!(number("9.7.4"), (9, 7));
        assert_eq!(number("5.5.5-10.11.19-MariaDB-log"), (10, 11));
        assert_eq!(number("8.0.36-28.1"), (8, 0));
    }

    #[test]
    fn binary_logs_that_are_kept_for_hours_only_are_noted() {
        let place = Where { flavor: Flavor::Mysql, host: "h".into(), port: 1, user: "u".into(), server_id: 5 };
        for (name, value, expected) in [
            ("binlog_expire_logs_seconds", "2592000", Some(2_592_000)),
            ("binlog_expire_logs_seconds", "600", Some(600)),
            ("binlog_expire_logs_seconds", "0", None),
            ("expire_logs_days", "0.041667", Some(3600)),
            ("expire_logs_days", "0.000000", None),
            ("expire_logs_days", "10", Some(864_000)),
            ("binlog_expire_logs_auto_purge", "OFF", None),
        ] {
            let variables: Variables = [(name.to_owned(), value.to_owned())].into();
            assert_eq!(expiry(&variables), expected, "{name}={value}");
            let noted = settings(&place, "9.7.4", &variables).unwrap().iter().any(|note| note.contains("purges"));
            assert_eq!(noted, expected.is_some_and(|seconds| seconds < 10_800), "{name}={value}");
        }
    }

    #[test]
    fn the_nearest_name_counts_edits() {
        assert_eq!(distance("shop.orders", "shop.ordres"), 2);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }

    #[test]
    fn the_servers_own_tables_are_captured_only_by_name() {
        let filter = TableFilter::parse(&["*.*", "mysql.user"]).unwrap();
        assert!(captures(&filter, "shop", "orders"));
        assert!(captures(&filter, "mysql", "user"));
        assert!(!captures(&filter, "mysql", "db"));
    }

    #[test]
    fn each_wrong_setting_is_named_with_its_repair() {
        let place = Where { flavor: Flavor::Mysql, host: "h".into(), port: 1, user: "u".into(), server_id: 5 };
        let good = || -> Variables {
            [("log_bin", "ON"), ("binlog_format", "ROW"), ("gtid_mode", "ON"), ("server_id", "1")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into()
        };
        assert!(settings(&place, "9.7.4", &good()).is_ok());
        for (name, value, expected) in
            [("log_bin", "OFF", "--log-bin"), ("binlog_format", "STATEMENT", "binlog_format is STATEMENT")]
        {
            let mut wrong = good();
            wrong.insert(name.to_owned(), value.to_owned());
            let error = settings(&place, "9.7.4", &wrong).unwrap_err();
            assert!(!error.is_transient() && error.to_string().contains(expected), "{error}");
        }
        assert!(settings(&place, "5.7.44", &good()).is_err());
    }
}
