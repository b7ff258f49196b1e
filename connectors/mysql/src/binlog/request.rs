//! What we send to become a replica: session variables, registration, and the request for the stream.

use rowcast_core::{GtidSet, MariaGtidSet};

use crate::Flavor;

const COM_BINLOG_DUMP: u8 = 0x12;
const COM_REGISTER_SLAVE: u8 = 0x15;
const COM_BINLOG_DUMP_GTID: u8 = 0x1e;
/// BINLOG_THROUGH_GTID: the set says where to begin.
const THROUGH_GTID: u16 = 4;

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

/// COM_REGISTER_SLAVE: shows us in SHOW REPLICAS.
pub(crate) fn register(server_id: u32, name: &str) -> Vec<u8> {
    let mut out = vec![COM_REGISTER_SLAVE];
    out.extend_from_slice(&server_id.to_le_bytes());
    let host = format!("rowcast-{name}");
    let host = host.get(..60).unwrap_or("rowcast");
    out.push(host.len() as u8);
    out.extend_from_slice(host.as_bytes());
    out.extend_from_slice(&[0, 0]); // user, password: empty
    out.extend_from_slice(&[0; 2 + 4 + 4]); // port, rank, source id
    out
}

/// COM_BINLOG_DUMP_GTID: everything that isn't in the set.
pub(crate) fn dump_gtid(server_id: u32, executed: &GtidSet) -> Vec<u8> {
    let set = encode_set(executed);
    let mut out = vec![COM_BINLOG_DUMP_GTID];
    out.extend_from_slice(&THROUGH_GTID.to_le_bytes());
    out.extend_from_slice(&server_id.to_le_bytes());
    out.extend_from_slice(&0_u32.to_le_bytes()); // file name: none
    out.extend_from_slice(&4_u64.to_le_bytes());
    out.extend_from_slice(&(set.len() as u32).to_le_bytes());
    out.extend_from_slice(&set);
    out
}

/// COM_BINLOG_DUMP without a file: MariaDB begins at `@slave_connect_state`.
pub(crate) fn dump_maria(server_id: u32) -> Vec<u8> {
    let mut out = vec![COM_BINLOG_DUMP];
    out.extend_from_slice(&4_u32.to_le_bytes());
    out.extend_from_slice(&0_u16.to_le_bytes());
    out.extend_from_slice(&server_id.to_le_bytes());
    out
}

/// `Gtid_set::encode`: the number of origins, then each with its intervals `[first, last)`. With tags (8.3) the top
/// byte of the number is 1, the number is shifted by a byte, and each UUID is followed by its tag.
fn encode_set(set: &GtidSet) -> Vec<u8> {
    let count = set.origins().count() as u64;
    let tagged = set.origins().any(|(origin, _)| !origin.tag.is_empty());
    let mut out = Vec::new();
    let head = if tagged { 1 << 56 | count << 8 | 1 } else { count };
    out.extend_from_slice(&head.to_le_bytes());
    for (origin, intervals) in set.origins() {
        out.extend_from_slice(&origin.uuid);
        if tagged {
            out.push((origin.tag.len() as u8) << 1); // at most 32: one byte of mysql::serialization
            out.extend_from_slice(origin.tag.as_bytes());
        }
        out.extend_from_slice(&(intervals.len() as u64).to_le_bytes());
        for (first, last) in intervals {
            out.extend_from_slice(&first.to_le_bytes());
            out.extend_from_slice(&last.saturating_add(1).to_le_bytes());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sets_are_encoded_with_open_ends_and_tags_only_where_there_are_any() {
        let plain: GtidSet = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:7".parse().unwrap();
        let bytes = encode_set(&plain);
        assert_eq!(bytes.len(), 8 + 16 + 8 + 2 * 16);
        assert_eq!(bytes.first(), Some(&1));
        assert_eq!(bytes.get(40..48).unwrap(), 6_u64.to_le_bytes());
        let tagged: GtidSet = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:ab:1".parse().unwrap();
        let bytes = encode_set(&tagged);
        assert_eq!(bytes.get(..8).unwrap(), [1, 2, 0, 0, 0, 0, 0, 1]);
        assert_eq!(encode_set(&GtidSet::default()), [0; 8]);
    }
}
