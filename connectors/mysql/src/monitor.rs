//! How far the server's binlog goes: in transactions by GTID, in bytes by the sizes of its files.
//!
//! On a connection of its own, made when it is first needed and again after an error. One statement per look; the list of the
//! files is asked for only if the position isn't in the last one, since the server opens each of them for it. Both need the
//! privilege that the README names (`REPLICATION CLIENT`, MariaDB `BINLOG MONITOR`). Without it transactions are still counted,
//! bytes aren't, and the note says why.
//!
//! It also sees what the stream can't: that the server lost what was published (its log was reset), or that it isn't the primary any
//! more where one was asked for. The stream then begins anew, with all checks ([`Shared::alarm`]).

use rowcast_core::{GtidSet, LogPosition, Look, MariaGtidSet, Monitor, Offset, Purge, SourceError};
use rowcast_net::SessionAttributes;

use crate::binlog::event::file_number;
use crate::catalog::{self, checks, place, position};
use crate::connection::{Connection, Failure, Rows};
use crate::error::{ServerError, quoted};
use crate::shared::Shared;
use crate::{Flavor, Options};

const DOING: &str = "looking at the end of the binlog";
/// Looks without a privilege until the next login.
const LOGIN_AGAIN: u32 = 4;
/// The server's clock in microseconds.
const NOW: &str = "CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)";

/// Looks at a MySQL or MariaDB server.
#[derive(Debug)]
pub struct MysqlMonitor {
    options: Options,
    shared: Shared,
    /// Taken out while in use: a look that is cancelled or fails midway leaves none behind. With the host that it is to.
    connection: Option<(usize, Connection)>,
    /// Looks on this connection that lacked a privilege.
    refused: u32,
}

impl MysqlMonitor {
    pub(crate) fn new(options: Options, shared: Shared) -> Self {
        Self { options, shared, connection: None, refused: 0 }
    }

    /// The binlog's end, also as text; none, with the reason, if we may not ask.
    async fn end(&self, connection: &mut Connection) -> Result<Result<Option<(Offset, String)>, String>, SourceError> {
        let statement = match self.options.flavor {
            Flavor::Mysql => place::status(&connection.version),
            Flavor::MariaDb => "SHOW MASTER STATUS",
        };
        let rows = match connection.ask(DOING, statement).await {
            Ok(rows) => rows,
            Err(failure) => return self.refusal(failure).map(Err),
        };
        let end = rows.first().and_then(|row| {
            let (file, byte) = (text(row, 0)?, number(row, 1)?);
            Some((Offset { file: file_number(file), byte }, format!("{file}:{byte}")))
        });
        Ok(Ok(end))
    }

    /// Bytes from `at` to `end`, which is in a later file, and whether `at` is in the oldest one that is left.
    async fn across(
        &self,
        connection: &mut Connection,
        at: Offset,
        end: Offset,
    ) -> Result<(Option<u64>, bool), SourceError> {
        match connection.ask(DOING, "SHOW BINARY LOGS").await {
            Ok(rows) => Ok((between(&rows, at, end), is_oldest(&rows, at))),
            Err(failure) => self.refusal(failure).map(|_| (None, false)),
        }
    }

    /// What the stream has to know of the server, if it isn't any more what it was.
    fn watch(&self, lacks: Option<String>, read_only: bool) {
        let servers = &self.options.servers;
        let role = match servers.want() {
            SessionAttributes::Any | SessionAttributes::PreferStandby => None,
            want => want.lacks(read_only, read_only),
        };
        if let Some(lacks) = lacks {
            self.shared
                .alarm(format!("the server lacks what was published before: {lacks}; its log may have been reset"));
        } else if let Some(lacks) = role {
            self.shared.alarm(format!("the server isn't `{}` any more: {lacks}", servers.want().word()));
        }
    }

    /// Keeps the connection for the next look, unless a privilege may have been granted since: a session has those of its login.
    fn keep(&mut self, host: usize, connection: Connection, look: &Look) {
        self.refused = if look.note.is_some() { self.refused + 1 } else { 0 };
        if self.refused < LOGIN_AGAIN {
            self.connection = Some((host, connection));
        }
    }

    /// What a missing privilege means for the operator.
    fn refusal(&self, failure: Failure) -> Result<String, SourceError> {
        const MISSING: [u16; 3] = [1045, 1227, 1698];
        match failure {
            Failure::Server(ServerError { code, .. }) if MISSING.contains(&code) => {
                let privilege =
                    if self.options.flavor == Flavor::Mysql { "REPLICATION CLIENT" } else { "BINLOG MONITOR" };
                Ok(format!(
                    "bytes can't be counted: the user may not see the binlog's end; repair: GRANT {privilege} ON *.* TO \
                     {}@'...'",
                    quoted(&self.options.user)
                ))
            }
            Failure::Server(error) => Err(self.options.place().server(DOING, &error)),
            Failure::Source(error) => Err(error),
        }
    }

    async fn look_on(
        &self,
        connection: &mut Connection,
        from: &LogPosition,
        at: Option<Offset>,
    ) -> Result<Look, SourceError> {
        let maria = self.options.flavor == Flavor::MariaDb;
        let variable = if maria { "gtid_binlog_pos" } else { "gtid_executed" };
        // what is about to be executed may have been published; a transaction goes from there to the other
        let owned = if maria { "''" } else { "@@global.gtid_owned" };
        // before the GTIDs: a position that has all of these has everything before this place
        let offset = self.end(connection).await?;
        let sql = format!("SELECT {owned}, @@global.{variable}, {NOW}, @@global.read_only");
        let rows = connection.query(DOING, &sql).await?;
        let row = rows.into_iter().next().unwrap_or_default();
        let mut end = text(&row, 1).unwrap_or_default().replace('\n', "");
        let mut lacks = None;
        let place = self.options.place();
        let unreadable = |error: &dyn std::fmt::Display| place.protocol(format_args!("{variable}: {error}"));
        let transactions = match from {
            LogPosition::Gtid(ours) => {
                let theirs: GtidSet = end.parse().map_err(|error| unreadable(&error))?;
                let mut all = theirs.clone();
                all.add_all(&position::owned(text(&row, 0).unwrap_or_default()));
                lacks = Some(ours.minus(&all)).filter(|it| !it.is_empty()).map(|it| it.in_short());
                Some(theirs.minus(ours).count())
            }
            LogPosition::MariaDb(ours) => {
                let theirs: MariaGtidSet = end.parse().map_err(|error| unreadable(&error))?;
                lacks = Some(ours.minus(&theirs)).filter(|it| !it.is_empty()).map(|it| it.to_string());
                Some(theirs.ahead_of(ours))
            }
            LogPosition::Binlog(ours) => {
                let (ends, text) = offset.clone().ok().flatten().unzip();
                end = text.unwrap_or_default();
                let behind = ends.is_some_and(|ends| ends < ours.place.offset());
                lacks = behind.then(|| format!("its binary log ends at {end}, before {}", ours.place));
                None
            }
            LogPosition::Lsn(_) => None,
        };
        let read_only = text(&row, 3).is_none_or(|value| !matches!(value, "0" | "OFF"));
        self.watch(lacks, read_only);
        let offset = offset.map(|found| found.map(|(offset, _)| offset));
        let mut look = Look { end, now_us: number(&row, 2).unwrap_or_default(), transactions, ..Look::default() };
        let mut purge = Purge { expire_seconds: self.expiry(connection).await?, in_oldest: false };
        match offset {
            Ok(offset) => look.offset = offset,
            Err(why) => look.note = Some(why),
        }
        look.bytes = match (look.transactions, at, look.offset) {
            // the place of a position is that of its last event; what follows that is no transaction
            (Some(0), ..) => Some(0),
            (_, Some(at), Some(end)) if at.file == end.file => Some(end.byte.saturating_sub(at.byte)),
            (_, Some(at), Some(end)) if at.file < end.file => {
                let bytes;
                (bytes, purge.in_oldest) = self.across(connection, at, end).await?;
                bytes
            }
            // a place behind the end is one of another server
            _ => None,
        };
        look.purge = Some(purge);
        Ok(look)
    }

    /// After how many seconds the server purges binary logs.
    async fn expiry(&self, connection: &mut Connection) -> Result<Option<u64>, SourceError> {
        const ASKING: &str = "SHOW GLOBAL VARIABLES WHERE Variable_name IN \
             ('binlog_expire_logs_seconds','binlog_expire_logs_auto_purge','expire_logs_days')";
        let rows = connection.query(DOING, ASKING).await?;
        let pairs = rows.iter().filter_map(|row| Some((text(row, 0)?.to_ascii_lowercase(), text(row, 1)?.to_owned())));
        Ok(checks::expiry(&pairs.collect()))
    }
}

/// Whether a place is in the first of the files.
fn is_oldest(files: &Rows, at: Offset) -> bool {
    files.first().and_then(|row| text(row, 0)).is_some_and(|name| file_number(name) == at.file)
}

/// Bytes from `at` to `end` by the sizes of the files; none if one of them isn't listed.
fn between(files: &Rows, at: Offset, end: Offset) -> Option<u64> {
    let mut bytes = end.byte;
    for file in at.file..end.file {
        let row = files.iter().find(|row| text(row, 0).is_some_and(|name| file_number(name) == file))?;
        let size: u64 = number(row, 1)?;
        bytes = bytes.saturating_add(if file == at.file { size.saturating_sub(at.byte) } else { size });
    }
    Some(bytes)
}

fn text(row: &[Option<String>], index: usize) -> Option<&str> {
    row.get(index).and_then(Option::as_deref)
}

fn number<T: std::str::FromStr>(row: &[Option<String>], index: usize) -> Option<T> {
    text(row, index)?.parse().ok()
}

impl Monitor for MysqlMonitor {
    async fn look(&mut self, from: &LogPosition, at: Option<Offset>) -> Result<Look, SourceError> {
        let host = self.options.servers.chosen();
        if let Some((_, mut connection)) = self.connection.take().filter(|(to, _)| *to == host) {
            match self.look_on(&mut connection, from, at).await {
                // it was closed while nobody used it, by a time-out of the server or its restart
                Err(error) if error.is_transient() => {}
                looked => {
                    let look = looked?;
                    self.keep(host, connection, &look);
                    return Ok(look);
                }
            }
        }
        let mut connection = catalog::open(&self.options).await?;
        connection.read_timeout = connection.read_timeout.min(self.options.connect_timeout);
        let look = self.look_on(&mut connection, from, at).await?;
        self.refused = 0;
        self.keep(host, connection, &look);
        Ok(look)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted_across_files() {
        let row = |name: &str, size: &str| vec![Some(name.to_owned()), Some(size.to_owned()), Some("No".to_owned())];
        let files =
            vec![row("bin.000001", "50"), row("bin.000002", "1000"), row("bin.000003", "70"), row("bin.000004", "9")];
        let at = |file, byte| Offset { file, byte };
        assert_eq!(between(&files, at(2, 400), at(4, 9)), Some(600 + 70 + 9));
        assert_eq!(between(&files, at(4, 4), at(5, 100)), Some(5 + 100));
        assert_eq!(between(&files, at(5, 4), at(7, 100)), None, "a file that was purged, or is another server's");
        assert!(is_oldest(&files, at(1, 4)) && !is_oldest(&files, at(2, 4)) && !is_oldest(&Rows::new(), at(1, 4)));
    }
}
