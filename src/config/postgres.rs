//! What the `source:` section says of PostgreSQL alone: slot, publication, and what the stream holds.

use rowcast_core::{Handover, TableFilter};
use rowcast_net::SessionAttributes;
use rowcast_postgres::MessageFilter;

use super::reader::Section;
use super::source::{ConnectionConfig, MAX_IDENTIFIER, not_empty, read_attributes, read_start_at};
use super::units::{parse_bytes, show_bytes};

/// Transactions in progress may take so much of `state_dir` unless configured.
pub(super) const SPILL_LIMIT: u64 = 10 << 30;
/// Less than this is no room for one.
const LEAST_SPILL: u64 = 1 << 20;

/// A PostgreSQL source.
#[derive(Clone, Debug)]
pub struct PostgresConfig {
    /// How the server is reached.
    pub connection: ConnectionConfig,
    /// Which of several hosts is the one, and what a single one must be.
    pub session_attributes: SessionAttributes,
    /// The database whose changes are read.
    pub database: String,
    /// The replication slot: letters a-z, digits and `_`, at most 63.
    pub slot: String,
    /// What becomes of the source while somebody else streams from the slot.
    pub slot_in_use: SlotInUse,
    /// The publication; at most 63 bytes.
    pub publication: String,
    /// Which tables are captured, as `schema.table`.
    pub tables: TableFilter,
    /// Where somebody else stopped who published the same tables before.
    pub start_at: Option<Handover>,
    /// What is streamed beside rows, and how.
    pub stream: PostgresStreamConfig,
}

/// What becomes of a source while somebody else streams from its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SlotInUse {
    /// It stops and names the process.
    #[default]
    Fail,
    /// It tries again until the slot is free.
    Wait,
}

/// What the stream of a PostgreSQL source holds.
#[derive(Clone, Debug)]
pub struct PostgresStreamConfig {
    /// Values may come in binary form (`binary: auto`), or come as text (`off`).
    pub binary: bool,
    /// Logical messages that are published.
    pub messages: MessageFilter,
    /// Only changes that were made on this server (`origin: none`), not those that a subscription brought there.
    pub local_only: bool,
    /// Prepared transactions are received at their PREPARE.
    pub two_phase: bool,
    /// Bytes of `state_dir` that transactions in progress may take; 0 if the server is to keep them.
    pub spill_limit: u64,
}

/// Reads the keys; `None` after a report. `aside`: a look at the events, which has a slot of its own.
pub(super) fn read(
    source: &Section<'_>,
    name: Option<&str>,
    aside: bool,
    connection: Option<ConnectionConfig>,
    tables: Option<TableFilter>,
) -> Option<PostgresConfig> {
    let database = source.required("database", "PostgreSQL replicates one database", not_empty);
    let default = name.map(|name| format!("rowcast_{}", name.replace('-', "_")));
    let slot = if source.has("slot") { source.value("slot", parse_slot) } else { default.clone() };
    let publication = match source.has("publication") {
        true => source.value("publication", parse_publication),
        false => default,
    };
    let slot_in_use = match source.has("slot_in_use") {
        true => source.choice("slot_in_use", &[("fail", SlotInUse::Fail), ("wait", SlotInUse::Wait)]),
        false => Some(SlotInUse::default()),
    };
    let slot = slot.map(|slot| if aside { aside_slot(&slot) } else { slot });
    let stream = read_stream(source);
    let start_at = read_start_at(source, "lsn", aside);
    let session_attributes = read_attributes(source, connection.as_ref());
    let (connection, session_attributes) = (connection?, session_attributes?);
    Some(PostgresConfig {
        connection,
        session_attributes,
        database: database?,
        slot: slot?,
        slot_in_use: slot_in_use?,
        publication: publication?,
        tables: tables?,
        start_at: start_at?,
        stream: stream?,
    })
}

fn read_stream(source: &Section<'_>) -> Option<PostgresStreamConfig> {
    let messages = match source.has("messages") {
        true => source.list("messages").map(|texts| match texts.as_slice() {
            [all] if all.value == "*" => MessageFilter::All,
            _ => MessageFilter::Prefixes(texts.into_iter().map(|text| text.value).collect()),
        }),
        false => Some(MessageFilter::All),
    };
    let binary = match source.has("binary") {
        true => source.choice("binary", &[("auto", true), ("off", false)]),
        false => Some(true),
    };
    let local_only = match source.has("origin") {
        true => source.choice("origin", &[("any", false), ("none", true)]),
        false => Some(false),
    };
    let two_phase = if source.has("two_phase") { source.switch("two_phase") } else { Some(false) };
    let spill_limit =
        if source.has("spill_limit") { source.value("spill_limit", parse_spill_limit) } else { Some(SPILL_LIMIT) };
    Some(PostgresStreamConfig {
        binary: binary?,
        messages: messages?,
        local_only: local_only?,
        two_phase: two_phase?,
        spill_limit: spill_limit?,
    })
}

fn parse_spill_limit(text: &str) -> Result<u64, String> {
    if text == "off" {
        return Ok(0);
    }
    let bytes = parse_bytes(text).map_err(|why| format!("{why}, or off"))?;
    at_least_spill(bytes).map_err(|why| format!("{why}, or off"))
}

/// The bytes, if they are room for a transaction.
pub(super) fn at_least_spill(bytes: u64) -> Result<u64, String> {
    if bytes < LEAST_SPILL { Err(format!("expected at least {}", show_bytes(LEAST_SPILL))) } else { Ok(bytes) }
}

fn parse_slot(text: &str) -> Result<String, String> {
    let legal = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    if text.is_empty() || text.len() > MAX_IDENTIFIER || !text.chars().all(legal) {
        return Err(format!("expected letters a-z, digits and _, at most {MAX_IDENTIFIER}"));
    }
    Ok(text.to_owned())
}

fn parse_publication(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > MAX_IDENTIFIER || text.contains(char::is_control) {
        return Err(format!("expected a name of at most {MAX_IDENTIFIER} bytes"));
    }
    Ok(text.to_owned())
}

/// The slot's name for a look aside; still at most 63 letters.
fn aside_slot(slot: &str) -> String {
    const SUFFIX: &str = "_aside";
    let kept: String = slot.chars().take(MAX_IDENTIFIER - SUFFIX.len()).collect();
    format!("{kept}{SUFFIX}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slot_of_a_look_aside_is_another_one_and_fits() {
        assert_eq!(aside_slot("rowcast_shop"), "rowcast_shop_aside");
        assert_eq!(aside_slot(&"x".repeat(63)).len(), 63);
    }

    #[test]
    fn room_for_transactions_in_progress_has_a_unit_or_is_off() {
        assert_eq!(parse_spill_limit("off"), Ok(0));
        assert_eq!(parse_spill_limit("2GiB"), Ok(2 << 30));
        for wrong in ["0B", "10", "1KiB", "none"] {
            assert!(parse_spill_limit(wrong).is_err(), "{wrong}");
        }
    }
}
