//! What we send to become a replica: session variables, registration, and the request for the stream.

use rowcast_core::{GtidSet, MariaGtidSet};

use super::gtid_set;
use crate::Flavor;

const COM_BINLOG_DUMP: u8 = 0x12;
const COM_REGISTER_SLAVE: u8 = 0x15;
const COM_BINLOG_DUMP_GTID: u8 = 0x1e;
/// BINLOG_THROUGH_GTID: the set says where to begin.
const THROUGH_GTID: u16 = 4;
/// BINLOG_SEND_ANNOTATE_ROWS_EVENT.
const ANNOTATE_ROWS: u16 = 2;

/// Statements before registration.
///
/// Both the old (`master`, `slave`) and the new (`source`, `replica`) names are set: user variables that a server
/// doesn't look at do no harm. `net_write_timeout` is a day, since we hold the server back by not reading: with its
/// default of a minute it would drop us while Kafka is slow.
pub(crate) fn session(
    flavor: Flavor,
    heartbeat_ns: u128,
    uuid: &str,
    maria_start: Option<&MariaGtidSet>,
) -> Vec<String> {
    let mut statements = vec![
        "SET SESSION net_write_timeout=86400".to_owned(),
        "SET @master_binlog_checksum=@@global.binlog_checksum, @source_binlog_checksum=@@global.binlog_checksum"
            .to_owned(),
        format!("SET @master_heartbeat_period={heartbeat_ns}, @source_heartbeat_period={heartbeat_ns}"),
        format!("SET @slave_uuid='{uuid}', @replica_uuid='{uuid}'"),
    ];
    if flavor == Flavor::MariaDb {
        let start = maria_start.map(ToString::to_string).unwrap_or_default();
        // Capability 4: we know GTID events; else the server replaces them by BEGIN.
        statements.push("SET @mariadb_slave_capability=4".to_owned());
        statements.push(format!("SET @slave_connect_state='{start}'"));
        // Strict: a start that isn't in the binlog is an error and not a guess. Nothing is to be ignored.
        statements.push("SET @slave_gtid_strict_mode=1, @slave_gtid_ignore_duplicates=0".to_owned());
    }
    statements
}

/// COM_REGISTER_SLAVE: shows us in SHOW REPLICAS, by this host.
pub(crate) fn register(server_id: u32, host: &str) -> Vec<u8> {
    let mut out = vec![COM_REGISTER_SLAVE];
    out.extend_from_slice(&server_id.to_le_bytes());
    out.push(host.len() as u8);
    out.extend_from_slice(host.as_bytes());
    out.extend_from_slice(&[0, 0]); // user, password: empty
    out.extend_from_slice(&[0; 2 + 4 + 4]); // port, rank, source id
    out
}

/// COM_BINLOG_DUMP_GTID: everything that isn't in the set.
pub(crate) fn dump_gtid(server_id: u32, executed: &GtidSet) -> Vec<u8> {
    let set = gtid_set::encode(executed);
    let mut out = vec![COM_BINLOG_DUMP_GTID];
    out.extend_from_slice(&THROUGH_GTID.to_le_bytes());
    out.extend_from_slice(&server_id.to_le_bytes());
    out.extend_from_slice(&0_u32.to_le_bytes()); // file name: none
    out.extend_from_slice(&4_u64.to_le_bytes());
    out.extend_from_slice(&(set.len() as u32).to_le_bytes());
    out.extend_from_slice(&set);
    out
}

/// COM_BINLOG_DUMP without a file: MariaDB begins at `@slave_connect_state`. Statements' texts come if they are asked for.
pub(crate) fn dump_maria(server_id: u32, statements: bool) -> Vec<u8> {
    let mut out = vec![COM_BINLOG_DUMP];
    out.extend_from_slice(&4_u32.to_le_bytes());
    out.extend_from_slice(&if statements { ANNOTATE_ROWS } else { 0 }.to_le_bytes());
    out.extend_from_slice(&server_id.to_le_bytes());
    out
}

/// COM_BINLOG_DUMP: from a place in a file on.
pub(crate) fn dump_place(server_id: u32, file: &str, byte: u32) -> Vec<u8> {
    let mut out = vec![COM_BINLOG_DUMP];
    out.extend_from_slice(&byte.to_le_bytes());
    out.extend_from_slice(&0_u16.to_le_bytes());
    out.extend_from_slice(&server_id.to_le_bytes());
    out.extend_from_slice(file.as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_asked_for_by_offset_and_name() {
        let bytes = dump_place(7, "binlog.000042", 0x0102);
        assert_eq!(bytes, [&[0x12, 2, 1, 0, 0, 0, 0, 7, 0, 0, 0][..], b"binlog.000042"].concat());
    }
}
