//! Where a connector stopped, by Connect's offsets, as `source.start_at`.
//!
//! ```text
//! ["connector",{"server":"prefix"}]  {"file":...,"pos":...,"gtids":"uuid:1-65","event":6,"row":1}          MySQL, MariaDB
//! ["connector",{"server":"prefix"}]  {"lsn_commit":26501112,"lsn":26501768,"txId":747,"messageType":...}   PostgreSQL
//! ```
//!
//! An offset is that of the last event that was delivered, which mostly lies inside a transaction: behind `gtids` so many events of the binlog
//! and rows of the next one, behind `lsn_commit` what stands up to `lsn` in the transaction `txId`. What can't be told so is an error that
//! says why, never a guess.

use rowcast_core::{BinlogPosition, Handover, LogPosition, Lsn, Part};
use serde_json::Value;

use super::{Connector, java};

/// Where a connector stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stopped {
    pub(super) at: Handover,
    /// What is published again; none if nothing is.
    pub(super) again: Option<&'static str>,
}

/// Offsets, by their keys.
pub type Offsets = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// The offsets in a file: Connect's own, or JSON as its REST interface gives them (`GET /connectors/NAME/offsets`).
///
/// # Errors
/// It is another file.
pub fn of_file(bytes: &[u8]) -> Result<Offsets, String> {
    if bytes.trim_ascii_start().starts_with(b"{") { of_json(bytes) } else { java::map(bytes) }
}

/// `{"offsets":[{"partition":{"server":"prefix"},"offset":{...}}]}`
fn of_json(bytes: &[u8]) -> Result<Offsets, String> {
    const FORM: &str = "not offsets as `GET /connectors/NAME/offsets` gives them";
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|error| format!("{FORM}: line {}, column {}: not JSON", error.line(), error.column()))?;
    let offsets = value.get("offsets").and_then(Value::as_array).ok_or_else(|| format!("{FORM}: no `offsets`"))?;
    let entry = |it: &Value| {
        let key = serde_json::json!(["", it.get("partition")?]);
        let offset = it.get("offset").filter(|offset| !offset.is_null());
        Some((key.to_string().into_bytes(), offset.map(|offset| offset.to_string().into_bytes())))
    };
    offsets.iter().map(|it| entry(it).ok_or_else(|| format!("{FORM}: no `partition`"))).collect()
}

/// Whether the key of a record is that of an offset that this may be about. Other systems' offsets are in the same topic.
pub fn is_offset(key: &[u8]) -> bool {
    owner(key).is_some()
}

/// The connector's name and its topic prefix, by the key of its offset.
fn owner(key: &[u8]) -> Option<(String, String)> {
    let key: Value = serde_json::from_slice(key).ok()?;
    Some((key.get(0)?.as_str()?.to_owned(), key.get(1)?.get("server")?.as_str()?.to_owned()))
}

/// Names in a message.
fn listed(mut names: Vec<String>) -> String {
    const SHOWN: usize = 8;
    names.sort();
    names.dedup();
    match names.len().checked_sub(SHOWN) {
        Some(more @ 1..) => {
            names.truncate(SHOWN);
            format!("{} and {more} more", names.join(", "))
        }
        _ => names.join(", "),
    }
}

/// The offset of the connector with this topic prefix; `name` tells it from another with the same one. `queries`: its `include.query`.
pub(super) fn stopped(
    offsets: &Offsets,
    connector: Connector,
    prefix: &str,
    name: Option<&str>,
    queries: bool,
) -> Result<Stopped, String> {
    // the last one counts, as in the topic
    let mut found: Vec<(String, Option<&Vec<u8>>)> = Vec::new();
    let mut others = Vec::new();
    for (key, value) in offsets {
        match owner(key) {
            Some((of, server)) if server == prefix => {
                found.retain(|(known, _)| *known != of);
                found.push((of, value.as_ref()));
            }
            Some((_, server)) => others.push(server),
            None => {}
        }
    }
    let removed = !found.is_empty();
    let mut there: Vec<(String, &Vec<u8>)> = found.into_iter().filter_map(|(of, value)| Some((of, value?))).collect();
    if there.len() > 1 && there.iter().any(|(of, _)| Some(of.as_str()) == name) {
        there.retain(|(of, _)| Some(of.as_str()) == name);
    }
    let value = match there.as_slice() {
        [(_, value)] => value,
        [] if removed => {
            return Err(format!("the offset of the connector whose `topic.prefix` is `{prefix}` was removed"));
        }
        [] => {
            let others =
                if others.is_empty() { String::new() } else { format!("; there are those of {}", listed(others)) };
            return Err(format!("no offset of a connector whose `topic.prefix` is `{prefix}`{others}"));
        }
        several => {
            let names = several.iter().map(|(of, _)| of.clone()).collect();
            return Err(format!(
                "there are offsets of several connectors whose `topic.prefix` is `{prefix}`, and none has the configuration's `name`: {}",
                listed(names)
            ));
        }
    };
    let offset: Value = serde_json::from_slice(value).map_err(|_| "the offset isn't JSON".to_owned())?;
    match connector {
        Connector::Postgres => postgres(&offset),
        Connector::Mysql | Connector::Mariadb => binlog(&offset, connector, queries),
    }
}

/// A snapshot that isn't over: true, or INITIAL, without the word that it is completed.
fn in_snapshot(offset: &Value) -> bool {
    let snapshot = match offset.get("snapshot") {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::String(text)) => !text.eq_ignore_ascii_case("false"),
        Some(_) => true,
    };
    snapshot && offset.get("snapshot_completed").and_then(Value::as_bool) != Some(true)
}

const SNAPSHOT: &str =
    "the connector stopped in its snapshot, so that there is nothing to go on from; start with `backfill: initial`";

fn postgres(offset: &Value) -> Result<Stopped, String> {
    if in_snapshot(offset) {
        return Err(SNAPSHOT.to_owned());
    }
    let number = |name: &str| offset.get(name).and_then(Value::as_u64);
    let lsn = number("lsn").ok_or("the offset has no `lsn`")?;
    let streamed = offset.get("messageType").is_some();
    let commit = match (number("lsn_commit"), streamed) {
        (Some(commit), _) => commit,
        (None, false) => lsn,
        (None, true) => {
            return Err(
                "the connector has published nothing but a part of its first transaction, so that the offset names no \
                        commit (`lsn_commit`); let it publish another transaction, and stop it again"
                    .to_owned(),
            );
        }
    };
    let part = match number("txId").and_then(|xid| u32::try_from(xid & 0xffff_ffff).ok()) {
        Some(xid) if streamed && lsn > commit => Some(Part::UpTo { xid, lsn: Lsn(lsn) }),
        _ => None,
    };
    Ok(Stopped { at: Handover { position: LogPosition::Lsn(Lsn(commit)), part }, again: None })
}

/// `queries`: the connector is sent the texts of statements (`include.query`).
fn binlog(offset: &Value, connector: Connector, queries: bool) -> Result<Stopped, String> {
    if in_snapshot(offset) {
        return Err(SNAPSHOT.to_owned());
    }
    let number = |name: &str| offset.get(name).and_then(Value::as_u64).unwrap_or(0);
    let (events, rows) = (number("event"), number("row"));
    let rows = u32::try_from(rows).map_err(|_| "the offset's `row` is no number of a row".to_owned())?;
    let gtids = offset.get("gtids").and_then(Value::as_str).filter(|text| !text.trim().is_empty());
    let kind = if connector == Connector::Mariadb { "mariadb-gtid" } else { "gtid" };
    let position =
        match (gtids, connector) {
            (Some(gtids), _) => Handover::parse(kind, gtids).map_err(|error| error.to_string())?.position,
            (None, Connector::Mysql) if events == 0 && rows > 0 => return Err(NO_BEGINNING.to_owned()),
            (None, Connector::Mysql) => LogPosition::Binlog(placed(offset)?),
            (None, _) => return Err(
                "the offset has no `gtids`, and MariaDB's log is read by GTIDs only; start with `backfill: initial`"
                    .to_owned(),
            ),
        };
    let (part, again) = match (connector, events) {
        (_, 0) if rows == 0 => (None, None),
        // the events inside of a compressed transaction aren't counted
        (_, 0) => {
            (None, Some("the connector stopped inside a transaction, which is published again from its beginning"))
        }
        _ => {
            let queries = queries && connector == Connector::Mariadb;
            (Some(Part::Events { events, rows, queries }), None)
        }
    };
    Ok(Stopped { at: Handover { position, part }, again })
}

/// An offset is a place behind rows if these are in no transaction that the connector knows of: it doesn't look into these two kinds.
const NO_BEGINNING: &str = "the connector stopped inside a compressed or an XA transaction, and without GTIDs (gtid_mode is OFF) the offset doesn't \
    say where that begins; let the connector publish an ordinary transaction, and stop it again";

/// The place of a BEGIN, or of what follows a transaction.
fn placed(offset: &Value) -> Result<BinlogPosition, String> {
    let file = offset.get("file").and_then(Value::as_str).filter(|file| !file.is_empty());
    match (file, offset.get("pos").and_then(Value::as_u64)) {
        (Some(file), Some(pos)) => BinlogPosition::told(&format!("{file}:{pos}")).map_err(|error| error.to_string()),
        _ => Err("the offset has neither `gtids` nor `file` and `pos`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    /// Of the real one, in Connect 4.1.1 standalone: stopped behind the last row of a transaction of several statements.
    const RECORDED: &[u8] = include_bytes!("../../tests/debezium/offsets/connect.dat");

    fn one(connector: Connector, offset: &str) -> Result<Stopped, String> {
        let offsets = vec![(br#"["c",{"server":"p"}]"#.to_vec(), Some(offset.as_bytes().to_vec()))];
        stopped(&offsets, connector, "p", None, false)
    }

    fn text(connector: Connector, offset: &str) -> String {
        one(connector, offset).unwrap().at.to_string()
    }

    #[test]
    fn recorded_offsets_are_places_to_begin_at() {
        let offsets = of_file(RECORDED).unwrap();
        let of = |connector, prefix| stopped(&offsets, connector, prefix, None, false).unwrap();
        let mysql = of(Connector::Mysql, "recmy");
        assert_eq!(mysql.at.to_string(), "7e6bf452-e9f1-11f1-95b8-02fc00000001:1-65 events 6 rows 1");
        let postgres = of(Connector::Postgres, "recpg");
        assert_eq!(postgres.at.to_string(), "0/1945FF8 xid 747 to 0/1946288");
        let none = stopped(&offsets, Connector::Mysql, "other", None, false).unwrap_err();
        assert!(none.contains("`other`") && none.contains("recmy, recpg"), "{none}");
    }

    #[test]
    fn offsets_as_connect_tells_them_are_the_same() {
        let json =
            br#" {"offsets":[{"partition":{"server":"p"},"offset":{"lsn":256,"lsn_commit":256,"messageType":"COMMIT"}},
                         {"partition":{"server":"q"},"offset":null}]}"#;
        let offsets = of_file(json).unwrap();
        assert_eq!(stopped(&offsets, Connector::Postgres, "p", Some("c"), false).unwrap().at.to_string(), "0/100");
        assert!(stopped(&offsets, Connector::Postgres, "q", None, false).is_err());
        for wrong in [&b"{"[..], b"{}", br#"{"offsets":[{}]}"#, b"", b"offsets"] {
            assert!(of_file(wrong).is_err());
        }
    }

    #[test]
    fn one_connector_of_a_prefix_is_chosen_and_what_is_there_instead_is_named() {
        let offset = br#"{"lsn":256,"lsn_commit":256,"messageType":"COMMIT"}"#;
        let of = |names: &[(&str, bool)]| -> Offsets {
            let key = |name: &str| format!(r#"["{name}",{{"server":"p"}}]"#).into_bytes();
            names.iter().map(|(name, there)| (key(name), there.then(|| offset.to_vec()))).collect()
        };
        let found = |offsets: &Offsets, name| {
            stopped(offsets, Connector::Postgres, "p", name, false).map(|it| it.at.to_string())
        };
        // the name counts only where it has to
        assert_eq!(found(&of(&[("kafka", true)]), Some("other")), Ok("0/100".to_owned()));
        assert_eq!(found(&of(&[("a", true), ("b", true)]), Some("b")), Ok("0/100".to_owned()));
        assert_eq!(found(&of(&[("a", true), ("b", false)]), Some("b")), Ok("0/100".to_owned()));
        let several = found(&of(&[("b", true), ("a", true)]), None).unwrap_err();
        assert!(several.contains("several connectors") && several.ends_with(": a, b"), "{several}");
        let removed = found(&of(&[("a", true), ("a", false)]), None).unwrap_err();
        assert!(removed.ends_with("was removed"), "{removed}");
        let many: Offsets = (0..20).map(|it| (format!(r#"["c",{{"server":"s{it}"}}]"#).into_bytes(), None)).collect();
        let none = found(&many, None).unwrap_err();
        assert!(none.ends_with("s14, s15 and 12 more"), "{none}");
        assert_eq!(found(&Offsets::new(), None).unwrap_err(), "no offset of a connector whose `topic.prefix` is `p`");
    }

    #[test]
    fn offsets_of_other_systems_are_told_by_their_keys() {
        for (key, is) in [
            (&br#"["c",{"server":"p"}]"#[..], true),
            (br#"["c",{"filename":"f"}]"#, false),
            (br#"["mirror",{"cluster":"a","partition":1,"topic":"t"}]"#, false),
            (b"[]", false),
            (b"c", false),
            (b"", false),
        ] {
            assert_eq!(is_offset(key), is, "{}", String::from_utf8_lossy(key));
        }
    }

    #[test]
    fn between_transactions_nothing_is_left_out() {
        let uuid = "7e6bf452-e9f1-11f1-95b8-02fc00000001";
        let offset = format!(r#"{{"file":"b.1","pos":4,"gtids":"{uuid}:1-65"}}"#);
        assert_eq!(text(Connector::Mysql, &offset), format!("{uuid}:1-65"));
        assert_eq!(text(Connector::Mariadb, r#"{"file":"b.1","pos":4,"gtids":"0-1-65"}"#), "0-1-65");
        assert_eq!(
            text(Connector::Postgres, r#"{"lsn":256,"lsn_commit":256,"messageType":"COMMIT","txId":7}"#),
            "0/100"
        );
        let after_snapshot =
            r#"{"last_snapshot_record":true,"lsn":256,"txId":7,"snapshot":"INITIAL","snapshot_completed":true}"#;
        assert_eq!(text(Connector::Postgres, after_snapshot), "0/100");
    }

    #[test]
    fn what_can_not_be_told_is_an_error_or_said() {
        for (connector, offset, expected) in [
            (Connector::Postgres, r#"{"lsn":256,"messageType":"INSERT","txId":7}"#, "lsn_commit"),
            (Connector::Postgres, r#"{"lsn":256,"snapshot":"INITIAL"}"#, "in its snapshot"),
            (
                Connector::Mysql,
                r#"{"file":"b.1","pos":4,"gtids":"x","snapshot":"INITIAL","snapshot_completed":false}"#,
                "in its snapshot",
            ),
            (Connector::Mysql, r#"{"file":"b.1","pos":4,"snapshot":true}"#, "in its snapshot"),
            (Connector::Mysql, r#"{"file":"b.1","pos":4,"row":1}"#, "compressed or an XA"),
            (Connector::Mysql, r#"{"file":"b.1","gtids":" "}"#, "neither `gtids` nor `file` and `pos`"),
            (Connector::Mysql, r#"{"file":"b.1","pos":-4}"#, "neither `gtids` nor `file` and `pos`"),
            (Connector::Mysql, r#"{"gtids":"0-1-5","event":2,"row":4294967296}"#, "`row`"),
            (Connector::Mariadb, r#"{"file":"b.1","pos":4}"#, "no `gtids`"),
            (Connector::Mysql, r#"{"file":"b.1","pos":4,"gtids":"0-1-5"}"#, "0-1-5"),
            (Connector::Mysql, "[", "isn't JSON"),
        ] {
            let error = one(connector, offset).unwrap_err();
            assert!(error.contains(expected), "{offset}: {error}");
        }
        let compressed =
            one(Connector::Mysql, r#"{"gtids":"7e6bf452-e9f1-11f1-95b8-02fc00000001:1","row":1}"#).unwrap();
        assert!(compressed.again.is_some() && compressed.at.part.is_none());
    }

    #[test]
    fn inside_a_transaction_the_connectors_count_is_taken_over() {
        let place = r#"{"server_id":1,"file":"mysql-bin.000007","pos":1234,"event":4,"row":2,"ts_sec":1}"#;
        assert_eq!(text(Connector::Mysql, place), "mysql-bin.000007:1234 events 4 rows 2");
        assert_eq!(text(Connector::Mysql, r#"{"file":"b.1","pos":4}"#), "b.1:4");
        let maria = br#"{"gtids":"0-1-5","event":3,"row":1}"#;
        let offsets = vec![(br#"["c",{"server":"p"}]"#.to_vec(), Some(maria.to_vec()))];
        for (queries, expected) in [(false, "0-1-5 events 3 rows 1"), (true, "0-1-5 events 3 rows 1 queries")] {
            let found = stopped(&offsets, Connector::Mariadb, "p", None, queries).unwrap();
            assert_eq!((found.at.to_string().as_str(), found.again), (expected, None));
        }
    }

    #[test]
    fn the_last_offset_counts_and_the_name_chooses() {
        let entry = |name: &str, lsn: &str| {
            (format!(r#"["{name}",{{"server":"p"}}]"#).into_bytes(), Some(format!(r#"{{"lsn":{lsn}}}"#).into_bytes()))
        };
        let offsets = vec![entry("a", "1"), entry("a", "2")];
        assert_eq!(stopped(&offsets, Connector::Postgres, "p", None, false).unwrap().at.to_string(), "0/2");
        let offsets = vec![entry("a", "1"), entry("b", "2")];
        assert_eq!(stopped(&offsets, Connector::Postgres, "p", Some("b"), false).unwrap().at.to_string(), "0/2");
        assert!(stopped(&offsets, Connector::Postgres, "p", None, false).is_err());
        let mut deleted = vec![entry("a", "1")];
        deleted.push((deleted[0].0.clone(), None));
        assert!(stopped(&deleted, Connector::Postgres, "p", None, false).is_err());
    }
}
