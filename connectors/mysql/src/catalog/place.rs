//! Files and offsets as positions: where the server's binlog ends, and whether it is still the one that a position comes from.
//!
//! Needs the privilege to look at the binlog (`REPLICATION CLIENT`), which streaming by GTIDs doesn't.

use rowcast_core::binlog::UNKNOWN_SERVER;
use rowcast_core::gtid::parse_uuid;
use rowcast_core::{BinlogPlace, BinlogPosition, GtidSet, SourceError};

use super::checks::{self, Variables};
use super::literal;
use crate::binlog::statement::classify;
use crate::connection::{Connection, Failure, Rows};
use crate::error::{GAP_CHOICES, GAP_REPAIR, Where, quoted};

const DOING: &str = "looking at the binary logs";
/// Where the first event of a file begins.
const FIRST: u64 = 4;

/// What an operator should know of positions that are files and offsets.
pub(crate) fn note(mode: &str) -> String {
    format!(
        "gtid_mode is {mode}: positions are files and offsets of this one server; on any other one, a replica that takes over included, \
         there is a gap. SET PERSIST enforce_gtid_consistency=ON, then gtid_mode=OFF_PERMISSIVE, ON_PERMISSIVE and ON in this order \
         changes that without a restart"
    )
}

async fn ask(connection: &mut Connection, statement: &str) -> Result<Rows, SourceError> {
    /// ER_SPECIFIC_ACCESS_DENIED_ERROR
    const DENIED: u16 = 1227;
    connection.ask(DOING, statement).await.map_err(|failure| match failure {
        Failure::Source(error) => error,
        Failure::Server(error) if error.code == DENIED => {
            let user = quoted(&connection.place.user);
            connection
                .place
                .definite(format_args!("{DOING}, which positions without GTIDs need: {error}"))
                .repair(format!("GRANT REPLICATION CLIENT ON *.* TO {user}@'...'"))
        }
        Failure::Server(error) => connection.place.server(DOING, &error),
    })
}

/// The statement that tells where the binlog ends.
pub(crate) fn status(version: &str) -> &'static str {
    if checks::number(version) >= (8, 2) { "SHOW BINARY LOG STATUS" } else { "SHOW MASTER STATUS" }
}

fn text(row: &[Option<String>], index: usize) -> &str {
    row.get(index).and_then(Option::as_deref).unwrap_or_default()
}

fn server(place: &Where, variables: &Variables) -> Result<[u8; 16], SourceError> {
    let uuid = variables.get("server_uuid").and_then(|uuid| parse_uuid(uuid));
    uuid.ok_or_else(|| place.protocol("a server without a server_uuid"))
}

/// The current end.
pub(crate) async fn end(connection: &mut Connection, variables: &Variables) -> Result<BinlogPosition, SourceError> {
    let server = server(&connection.place, variables)?;
    let statement = status(&connection.version);
    let row = ask(connection, statement).await?.into_iter().next().unwrap_or_default();
    written(server, &row).ok_or_else(|| connection.place.protocol(format_args!("{statement}: no file and offset")))
}

/// The end as a row of [`status`] tells it.
pub(crate) fn written(server: [u8; 16], row: &[Option<String>]) -> Option<BinlogPosition> {
    let (file, byte) = (text(row, 0), text(row, 1).parse().ok()?);
    let place = BinlogPlace { file: file.into(), born: 0, byte };
    (!file.is_empty()).then_some(BinlogPosition { server, place, gtids: None })
}

/// Whether the server has the position's file, as far as it goes; the place where the server can go on.
pub(crate) async fn check(
    connection: &mut Connection,
    variables: &Variables,
    ours: &BinlogPosition,
) -> Result<BinlogPosition, SourceError> {
    let place = connection.place.clone();
    let server = server(&place, variables)?;
    let told = ours.server == UNKNOWN_SERVER;
    let ours = &if told { BinlogPosition { server, ..ours.clone() } } else { ours.clone() };
    if server != ours.server {
        let theirs = variables.get("server_uuid").map_or("", String::as_str);
        return Err(place
            .lost(format_args!("gap: the position {ours} is of another server: this one's server_uuid is {theirs}"))
            .repair(format!("connect to the server that the checkpoint came from; or {GAP_CHOICES}")));
    }
    let files = ask(connection, "SHOW BINARY LOGS").await?;
    let found = found(&place, &files, ours)?;
    if told {
        check_told(connection, &found.place).await?;
    }
    Ok(found)
}

/// Whether a transaction can begin at a place that somebody else has told: no event of one may stand there that isn't its first.
async fn check_told(connection: &mut Connection, at: &BinlogPlace) -> Result<(), SourceError> {
    let file = literal(&at.file);
    let asked = connection.ask(DOING, &format!("SHOW BINLOG EVENTS IN {file} FROM {} LIMIT 1", at.byte)).await;
    let wrong = |what: String| {
        connection
            .place
            .definite(format_args!("`source.start_at` is {at}, where {what}"))
            .repair("the place of a BEGIN, or of what follows a transaction")
    };
    let rows = match asked {
        Ok(rows) => rows,
        Err(Failure::Source(error)) => return Err(error),
        Err(Failure::Server(error)) => return Err(wrong(format!("the server finds no event: {error}"))),
    };
    match rows.first() {
        Some(row) if is_inside(text(row, 2), text(row, 5)) => {
            Err(wrong(format!("{} stands, which is inside of a transaction", text(row, 2))))
        }
        _ => Ok(()),
    }
}

/// Whether an event of this type, with this text, is one of a transaction, and not its first.
fn is_inside(kind: &str, text: &str) -> bool {
    match kind {
        "Query" => classify(text.as_bytes()).goes_on(),
        // nothing but the first events of transactions, and what stands between files
        "Gtid" | "Gtid_tagged" | "Anonymous_Gtid" | "Rotate" | "Stop" | "Format_desc" | "Previous_gtids" => false,
        _ => true,
    }
}

fn found(place: &Where, files: &Rows, ours: &BinlogPosition) -> Result<BinlogPosition, SourceError> {
    let BinlogPlace { file, byte, .. } = &ours.place;
    let index = files.iter().position(|row| text(row, 0) == &**file);
    let Some((index, row)) = index.and_then(|index| Some((index, files.get(index)?))) else {
        let oldest = files.first().map_or("", |row| text(row, 0));
        return Err(place
            .lost(format_args!(
                "gap: the server has no {file} any more, where we left off at offset {byte}: it was purged, or the binary logs were \
                 reset; its oldest is {oldest}"
            ))
            .repair(GAP_REPAIR));
    };
    let size: u64 = text(row, 1).parse().unwrap_or(0);
    if size < *byte {
        return Err(place
            .lost(format_args!(
                "gap: the server's {file} has {size} bytes, and we left off at offset {byte}: its end was lost in a crash of the \
                 server, or the binary logs were reset"
            ))
            .repair(GAP_REPAIR));
    }
    // A request has 32 bits for the offset. A file that is larger ends with the transaction that made it so.
    if u32::try_from(*byte).is_err() {
        let next = files.get(index + 1).map(|row| text(row, 0)).filter(|next| !next.is_empty());
        return match next {
            Some(next) => {
                let place = BinlogPlace { file: next.into(), born: 0, byte: FIRST };
                Ok(BinlogPosition { place, ..ours.clone() })
            }
            None => Err(place.transient(format_args!("the server is about to begin the file behind {file}"))),
        };
    }
    Ok(ours.clone())
}

/// The position as GTIDs, if it is known to be one: nothing without a GTID may follow it. It can't in the file that is written now,
/// since the change to `gtid_mode=ON` begins a file.
pub(crate) async fn as_gtids(
    connection: &mut Connection,
    ours: &BinlogPosition,
) -> Result<Option<GtidSet>, SourceError> {
    let Some(known) = &ours.gtids else { return Ok(None) };
    let statement = status(&connection.version);
    let row = ask(connection, statement).await?.into_iter().next().unwrap_or_default();
    if text(&row, 0) != &*ours.place.file {
        return Ok(None);
    }
    // what was purged, and what was never logged here, lies before the position too
    let rows = ask(connection, "SELECT @@global.gtid_purged").await?;
    let purged = rows.first().map_or("", |row| text(row, 0));
    let purged: GtidSet =
        purged.parse().map_err(|error| connection.place.protocol(format_args!("gtid_purged: {error}")))?;
    let mut all = known.clone();
    all.add_all(&purged);
    Ok(Some(all))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Flavor;
    use rowcast_core::ErrorClass;

    fn at(place: &str) -> BinlogPosition {
        format!("{place} begun 5 on 3e11fa47-71ca-11e1-9e33-c80aa9429562").parse().unwrap()
    }

    #[test]
    fn a_transaction_begins_with_its_gtid_or_its_begin() {
        for (kind, text) in [
            ("Anonymous_Gtid", "SET @@SESSION.GTID_NEXT= 'ANONYMOUS'"),
            ("Query", "BEGIN"),
            ("Query", "use `live`; create table t (id bigint primary key)"),
            ("Query", "XA START X'61',X'',1"),
            ("Stop", ""),
        ] {
            assert!(!is_inside(kind, text), "{kind} {text}");
        }
        for (kind, text) in
            [("Table_map", ""), ("Write_rows", ""), ("Xid", ""), ("Query", "COMMIT"), ("Query", "XA END X'61',X'',1")]
        {
            assert!(is_inside(kind, text), "{kind} {text}");
        }
    }

    #[test]
    fn a_position_must_lie_in_a_file_that_is_there() {
        let place = Where { flavor: Flavor::Mysql, host: "h".into(), port: 1, user: "u".into(), server_id: 5 };
        let row = |name: &str, size: u64| vec![Some(name.to_owned()), Some(size.to_string()), Some("No".to_owned())];
        let files = vec![row("bin.000007", 500), row("bin.000008", 5_000_000_000), row("bin.000009", 157)];
        let found = |text: &str| found(&place, &files, &at(text));
        assert_eq!(found("bin.000007:500").unwrap(), at("bin.000007:500"));
        for (text, word) in [("bin.000007:501", "has 500 bytes"), ("bin.000006:4", "no bin.000006 any more")] {
            let gap = found(text).unwrap_err();
            assert!(gap.class() == ErrorClass::Gap && gap.to_string().contains(word), "{gap}");
        }
        let next = found("bin.000008:5000000000").unwrap();
        assert_eq!((next.place.to_string().as_str(), next.place.born), ("bin.000009:4", 0));
    }
}
