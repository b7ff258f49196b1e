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

use rowcast_core::{Handover, LogPosition, Lsn, Part};
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

/// The offset of the connector with this topic prefix; `name` tells it from another with the same one.
pub(super) fn stopped(
    offsets: &Offsets,
    connector: Connector,
    prefix: &str,
    name: Option<&str>,
) -> Result<Stopped, String> {
    let of = |key: &[u8]| -> Option<(String, String)> {
        let key: Value = serde_json::from_slice(key).ok()?;
        Some((key.get(0)?.as_str()?.to_owned(), key.get(1)?.get("server")?.as_str()?.to_owned()))
    };
    // the last one counts, as in the topic
    let mut found: Vec<(String, Option<&Vec<u8>>)> = Vec::new();
    let mut others = Vec::new();
    for (key, value) in offsets {
        match of(key) {
            Some((of, server)) if server == prefix => {
                found.retain(|(known, _)| *known != of);
                found.push((of, value.as_ref()));
            }
            Some((_, server)) => others.push(server),
            None => {}
        }
    }
    found.retain(|(_, value)| value.is_some());
    if found.len() > 1 {
        found.retain(|(of, _)| Some(of.as_str()) == name);
    }
    let Some((_, Some(value))) = found.first() else {
        others.sort();
        others.dedup();
        let others =
            if others.is_empty() { String::new() } else { format!("; there are those of {}", others.join(", ")) };
        return Err(format!("no offset of a connector whose `topic.prefix` is `{prefix}`{others}"));
    };
    let offset: Value = serde_json::from_slice(value).map_err(|_| "the offset isn't JSON".to_owned())?;
    match connector {
        Connector::Postgres => postgres(&offset),
        Connector::Mysql | Connector::Mariadb => binlog(&offset, connector),
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

fn binlog(offset: &Value, connector: Connector) -> Result<Stopped, String> {
    if in_snapshot(offset) {
        return Err(SNAPSHOT.to_owned());
    }
    let gtids = offset.get("gtids").and_then(Value::as_str).filter(|text| !text.trim().is_empty());
    let gtids = gtids.ok_or(
        "the offset has a file and a position but no GTIDs, and a place inside of a binlog file is no place to begin at; switch GTIDs on \
         (gtid_mode=ON) and let the connector publish a transaction, or start with `backfill: initial`",
    )?;
    let kind = if connector == Connector::Mariadb { "mariadb-gtid" } else { "gtid" };
    let position = Handover::parse(kind, gtids).map_err(|error| error.to_string())?.position;
    let number = |name: &str| offset.get(name).and_then(Value::as_u64).unwrap_or(0);
    let (events, rows) = (number("event"), number("row"));
    let (part, again) = match (connector, events) {
        (_, 0) if rows == 0 => (None, None),
        (Connector::Mysql, 1..) => {
            let rows = u32::try_from(rows).map_err(|_| "the offset's `row` is no number of a row".to_owned())?;
            (Some(Part::Events { events, rows }), None)
        }
        // the events inside of a compressed transaction aren't counted; MariaDB's are others than those that are sent to us
        _ => (None, Some("the connector stopped inside a transaction, which is published again from its beginning")),
    };
    Ok(Stopped { at: Handover { position, part }, again })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    /// Of the real one, in Connect 4.1.1 standalone: stopped behind the last row of a transaction of several statements.
    const RECORDED: &[u8] = include_bytes!("../../tests/debezium/offsets/connect.dat");

    fn one(connector: Connector, offset: &str) -> Result<Stopped, String> {
        let offsets = vec![(br#"["c",{"server":"p"}]"#.to_vec(), Some(offset.as_bytes().to_vec()))];
        stopped(&offsets, connector, "p", None)
    }

    fn text(connector: Connector, offset: &str) -> String {
        one(connector, offset).unwrap().at.to_string()
    }

    #[test]
    fn recorded_offsets_are_places_to_begin_at() {
        let offsets = of_file(RECORDED).unwrap();
        let of = |connector, prefix| stopped(&offsets, connector, prefix, None).unwrap();
        let mysql = of(Connector::Mysql, "recmy");
        assert_eq!(mysql.at.to_string(), "7e6bf452-e9f1-11f1-95b8-02fc00000001:1-65 events 6 rows 1");
        let postgres = of(Connector::Postgres, "recpg");
        assert_eq!(postgres.at.to_string(), "0/1945FF8 xid 747 to 0/1946288");
        let none = stopped(&offsets, Connector::Mysql, "other", None).unwrap_err();
        assert!(none.contains("`other`") && none.contains("recmy, recpg"), "{none}");
    }

    #[test]
    fn offsets_as_connect_tells_them_are_the_same() {
        let json =
            br#" {"offsets":[{"partition":{"server":"p"},"offset":{"lsn":256,"lsn_commit":256,"messageType":"COMMIT"}},
                         {"partition":{"server":"q"},"offset":null}]}"#;
        let offsets = of_file(json).unwrap();
        assert_eq!(stopped(&offsets, Connector::Postgres, "p", Some("c")).unwrap().at.to_string(), "0/100");
        assert!(stopped(&offsets, Connector::Postgres, "q", None).is_err());
        for wrong in [&b"{"[..], b"{}", br#"{"offsets":[{}]}"#, b"", b"offsets"] {
            assert!(of_file(wrong).is_err());
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
            (Connector::Mysql, r#"{"file":"b.1","pos":4}"#, "no GTIDs"),
            (Connector::Mysql, r#"{"file":"b.1","pos":4,"gtids":"0-1-5"}"#, "0-1-5"),
            (Connector::Mysql, "[", "isn't JSON"),
        ] {
            let error = one(connector, offset).unwrap_err();
            assert!(error.contains(expected), "{offset}: {error}");
        }
        let maria = one(Connector::Mariadb, r#"{"gtids":"0-1-5","event":2,"row":1}"#).unwrap();
        assert!(maria.again.is_some() && maria.at.part.is_none());
        let compressed =
            one(Connector::Mysql, r#"{"gtids":"7e6bf452-e9f1-11f1-95b8-02fc00000001:1","row":1}"#).unwrap();
        assert!(compressed.again.is_some() && compressed.at.part.is_none());
    }

    #[test]
    fn the_last_offset_counts_and_the_name_chooses() {
        let entry = |name: &str, lsn: &str| {
            (format!(r#"["{name}",{{"server":"p"}}]"#).into_bytes(), Some(format!(r#"{{"lsn":{lsn}}}"#).into_bytes()))
        };
        let offsets = vec![entry("a", "1"), entry("a", "2")];
        assert_eq!(stopped(&offsets, Connector::Postgres, "p", None).unwrap().at.to_string(), "0/2");
        let offsets = vec![entry("a", "1"), entry("b", "2")];
        assert_eq!(stopped(&offsets, Connector::Postgres, "p", Some("b")).unwrap().at.to_string(), "0/2");
        assert!(stopped(&offsets, Connector::Postgres, "p", None).is_err());
        let mut deleted = vec![entry("a", "1")];
        deleted.push((deleted[0].0.clone(), None));
        assert!(stopped(&deleted, Connector::Postgres, "p", None).is_err());
    }
}
