//! What is prepared where a stream begins: XA transactions whose rows stand in the binlog before the start and are published at their
//! commit behind it.
//!
//! - Behind a checkpoint they are known by name and position ([`Position::prepared`]). Their events are read once more, over a
//!   connection of its own before the stream's: MySQL is asked for everything but their GTIDs, MariaDB from before the oldest of them.
//! - At a first start `XA RECOVER` names them. The binlog is read from a file's beginning to the start, one file, two, four and so on
//!   back, until all were found. Nothing of what is passed over is given out.
//!
//! What can't be had any more, because its file was purged, is a gap. Where `XA RECOVER` may not be asked (MySQL wants
//! XA_RECOVER_ADMIN for it) nothing is known at a first start; if such a transaction is committed later, that is a gap too.

use std::collections::{HashMap, HashSet};

use rowcast_core::{BinlogPlace, GtidSet, LogPosition, MariaGtidSet, Offset, Position, Prepared, Pulse, SourceError};

use crate::binlog::event::{file_number, xa_name};
use crate::binlog::request;
use crate::catalog::{Catalog, checks, literal, position};
use crate::connection::{Connection, Failure, Rows};
use crate::error::GAP_REPAIR;
use crate::shared::Shared;
use crate::stream::MysqlStream;
use crate::stream::assembler::Assembler;
use crate::stream::keep::Registry;
use crate::stream::passing::Passing;
use crate::stream::spill::Room;
use crate::{Flavor, Options};

const DOING: &str = "looking for prepared XA transactions";

/// What an opened source needs for this.
pub(crate) struct Search<'a> {
    pub(crate) options: &'a Options,
    pub(crate) variables: &'a checks::Variables,
    pub(crate) room: &'a Room,
    /// Statements before a stream.
    pub(crate) replica_uuid: &'a str,
    pub(crate) heartbeat: std::time::Duration,
}

/// The start, and what is prepared there.
pub(crate) struct Found {
    pub(crate) start: LogPosition,
    pub(crate) prepared: Registry,
}

impl Search<'_> {
    /// Behind a checkpoint: the rows of what it says is prepared.
    pub(crate) async fn resume(&self, sql: &mut Connection, from: &Position) -> Result<Registry, SourceError> {
        if from.prepared.is_empty() {
            return Ok(Registry::default());
        }
        let place = sql.place.clone();
        let end = self.end(sql).await?;
        let begin = self.before(sql, &from.log, &from.prepared).await?;
        let wanted = from.prepared.iter().map(|prepared| prepared.pos.clone()).collect();
        let passing = Passing::new(from.log.clone(), Some(wanted), end);
        let found = Box::pin(self.pass(&begin, passing))
            .await
            .map_err(|error| error.context("reading the rows of prepared XA transactions again"))?;
        match from.prepared.iter().find(|prepared| !found.knows(&prepared.name)) {
            None => Ok(found),
            Some(missing) => Err(place
                .lost(format_args!(
                    "gap: XA transaction {} was prepared at {}, and its rows are not in the server's binlog any more",
                    missing.name, missing.pos
                ))
                .repair(GAP_REPAIR)),
        }
    }

    /// Where the server has to begin so that it sends all of these.
    async fn before(
        &self,
        sql: &mut Connection,
        log: &LogPosition,
        prepared: &[Prepared],
    ) -> Result<LogPosition, SourceError> {
        let place = sql.place.clone();
        let damaged =
            |what: &str| place.definite(format_args!("the checkpoint's prepared transactions can't be read: {what}"));
        match log {
            LogPosition::Gtid(_) => {
                let mut asked: GtidSet = position::variable(sql, "gtid_executed").await?;
                let purged: GtidSet = position::variable(sql, "gtid_purged").await?;
                for one in prepared {
                    let gtid: GtidSet = one.pos.parse().map_err(|_| damaged(&one.pos))?;
                    if !gtid.minus(&purged).is_empty() {
                        asked = asked.minus(&gtid);
                        continue;
                    }
                    return Err(place
                        .lost(format_args!(
                            "gap: XA transaction {} was prepared as {gtid} and isn't committed yet; the server purged its rows",
                            one.name
                        ))
                        .repair(GAP_REPAIR));
                }
                Ok(LogPosition::Gtid(asked))
            }
            LogPosition::MariaDb(log) => {
                // the oldest position of each domain in which something is prepared; the others at the checkpoint
                let mut begin: Vec<_> = log.domains().copied().collect();
                for one in prepared {
                    let gtid: rowcast_core::MariaGtid = one.pos.parse().map_err(|_| damaged(&one.pos))?;
                    let from: MariaGtidSet =
                        one.from.as_deref().unwrap_or_default().parse().map_err(|_| damaged(&one.name))?;
                    let from = from.domains().copied().find(|from| from.domain == gtid.domain);
                    begin.retain_mut(|known| match from {
                        _ if known.domain != gtid.domain => true,
                        None => false,
                        Some(from) => {
                            if from.sequence < known.sequence {
                                *known = from;
                            }
                            true
                        }
                    });
                }
                let mut set = MariaGtidSet::default();
                begin.into_iter().for_each(|gtid| set.add(gtid));
                Ok(LogPosition::MariaDb(set))
            }
            LogPosition::Binlog(_) => {
                let mut begin = log.clone();
                for one in prepared {
                    let from = one.from.as_deref().unwrap_or_default();
                    let from = LogPosition::parse("binlog", from).map_err(|_| damaged(&one.name))?;
                    if from < begin {
                        begin = from;
                    }
                }
                Ok(begin)
            }
            other => Ok(other.clone()),
        }
    }

    /// At a first start: the server's end, and what is prepared there.
    pub(crate) async fn first(&self, sql: &mut Connection, notes: &mut Vec<String>) -> Result<Found, SourceError> {
        let before = position::start(sql, self.variables, None, notes).await?;
        let told = notes.len();
        let recovered = self.recover(sql).await?;
        // what was prepared between the two is behind `before`; what was prepared earlier and is here is in the list
        let start = position::start(sql, self.variables, None, notes).await?;
        notes.truncate(told);
        let mut wanted: HashSet<String> = HashSet::new();
        match recovered {
            Some(names) => wanted.extend(names),
            None if self.uses_xa(sql).await? => {
                notes.push(format!(
                    "XA transactions that were prepared before this start can't be looked for: if one is committed, the source stops \
                     with a gap; repair: {}",
                    match self.options.flavor {
                        Flavor::Mysql => "GRANT XA_RECOVER_ADMIN to the user before a first start",
                        Flavor::MariaDb => "let the user run XA RECOVER",
                    }
                ));
            }
            None => {}
        }
        if wanted.is_empty() && before == start {
            return Ok(Found { start, prepared: Registry::default() });
        }
        let end = self.end(sql).await?;
        let begins = if wanted.is_empty() { vec![before.clone()] } else { self.files(sql, &before).await? };
        let last = begins.len().saturating_sub(1);
        for (index, begin) in begins.iter().enumerate() {
            let prepared = Box::pin(self.pass(begin, Passing::new(start.clone(), None, end))).await?;
            let missing: Vec<&str> = {
                // one that ended in between is not there any more
                let still: HashSet<String> = self.recover(sql).await?.unwrap_or_default().into_iter().collect();
                wanted
                    .iter()
                    .filter(|name| still.contains(*name) && !prepared.knows(name))
                    .map(String::as_str)
                    .collect()
            };
            if !missing.is_empty() && index < last {
                continue;
            }
            if let Some(name) = missing.first() {
                notes.push(format!(
                    "{} prepared XA transactions, such as {name}, are not in the binlog that the server still has; should they be \
                     committed, the source stops with a gap",
                    missing.len()
                ));
            }
            return Ok(Found { start, prepared });
        }
        Ok(Found { start, prepared: Registry::default() })
    }

    /// Positions from which the binlog can be read, each further back than the one before.
    async fn files(&self, sql: &mut Connection, before: &LogPosition) -> Result<Vec<LogPosition>, SourceError> {
        let names: Vec<String> = sql
            .query(DOING, "SHOW BINARY LOGS")
            .await?
            .into_iter()
            .filter_map(|row| row.into_iter().next().flatten())
            .collect();
        let mut begins = Vec::new();
        let mut back = 1;
        while let Some(name) = names.get(names.len().saturating_sub(back)) {
            begins.push(self.begin_of(sql, name, before).await?);
            if back >= names.len() {
                break;
            }
            back = (back * 2).min(names.len());
        }
        if begins.is_empty() {
            begins.push(before.clone());
        }
        Ok(begins)
    }

    /// The position at the beginning of a file.
    async fn begin_of(
        &self,
        sql: &mut Connection,
        file: &str,
        before: &LogPosition,
    ) -> Result<LogPosition, SourceError> {
        let place = sql.place.clone();
        let unreadable =
            |error: &dyn std::fmt::Display| place.protocol(format_args!("the beginning of {file}: {error}"));
        match before {
            LogPosition::MariaDb(_) => {
                let rows = sql.query(DOING, &format!("SELECT BINLOG_GTID_POS({}, 4)", literal(file))).await?;
                let set: MariaGtidSet =
                    text(&rows, 0, 0).unwrap_or_default().parse().map_err(|error| unreadable(&error))?;
                Ok(LogPosition::MariaDb(set))
            }
            LogPosition::Gtid(_) => {
                let rows = sql.query(DOING, &format!("SHOW BINLOG EVENTS IN {} LIMIT 3", literal(file))).await?;
                let lists = rows.iter().find(|row| row.get(2).and_then(Option::as_deref) == Some("Previous_gtids"));
                let listed = lists.and_then(|row| row.get(5)).and_then(Option::as_deref).unwrap_or_default();
                let mut set: GtidSet = listed.parse().map_err(|error| unreadable(&error))?;
                // what it has of other servers' and never had in its binlog
                let purged: GtidSet = position::variable(sql, "gtid_purged").await?;
                for (origin, intervals) in purged.origins() {
                    intervals.iter().for_each(|(first, last)| set.add_range(origin.clone(), *first, *last));
                }
                Ok(LogPosition::Gtid(set))
            }
            LogPosition::Binlog(before) => {
                let mut begin = before.clone();
                // when the file was begun is learnt from it
                begin.place = BinlogPlace { file: file.into(), born: 0, byte: 4 };
                begin.gtids = None;
                Ok(LogPosition::Binlog(begin))
            }
            other => Ok(other.clone()),
        }
    }

    /// The names of what is prepared; none if we may not ask.
    async fn recover(&self, sql: &mut Connection) -> Result<Option<Vec<String>>, SourceError> {
        // ER_XAER_RMERR: MySQL's word for a missing XA_RECOVER_ADMIN
        const REFUSED: [u16; 4] = [1044, 1142, 1227, 1401];
        let statement = match self.options.flavor {
            Flavor::Mysql => "XA RECOVER CONVERT XID",
            Flavor::MariaDb => "XA RECOVER FORMAT='SQL'",
        };
        match sql.ask(DOING, statement).await {
            Ok(rows) => Ok(Some(rows.iter().filter_map(|row| recovered(row)).collect())),
            Err(Failure::Server(error)) if REFUSED.contains(&error.code) => Ok(None),
            Err(Failure::Server(error)) => Err(sql.place.server(DOING, &error)),
            Err(Failure::Source(error)) => Err(error),
        }
    }

    /// Whether anybody has prepared an XA transaction since the server's start.
    async fn uses_xa(&self, sql: &mut Connection) -> Result<bool, SourceError> {
        let rows = sql.query(DOING, "SHOW GLOBAL STATUS LIKE 'Com_xa_prepare'").await?;
        Ok(text(&rows, 0, 1).is_none_or(|count| count != "0"))
    }

    /// The end of the binlog.
    async fn end(&self, sql: &mut Connection) -> Result<Offset, SourceError> {
        let new = self.options.flavor == Flavor::Mysql && checks::number(&sql.version) >= (8, 2);
        let rows = sql.query(DOING, if new { "SHOW BINARY LOG STATUS" } else { "SHOW MASTER STATUS" }).await?;
        let byte = text(&rows, 0, 1).and_then(|byte| byte.parse().ok()).unwrap_or_default();
        Ok(Offset { file: text(&rows, 0, 0).map_or(0, file_number), byte })
    }

    /// Reads the binlog from `begin` on, and finds what is prepared.
    async fn pass(&self, begin: &LogPosition, passing: Passing) -> Result<Registry, SourceError> {
        let options = self.options;
        let mut replica = Connection::open(options).await?;
        let maria = if let LogPosition::MariaDb(set) = begin { Some(set) } else { None };
        for statement in request::session(options.flavor, self.heartbeat.as_nanos(), self.replica_uuid, maria) {
            replica.query("preparing the binlog session", &statement).await?;
        }
        let place = replica.place.clone();
        let assembler = Assembler::new(
            place,
            options.tables.clone(),
            begin.clone(),
            false,
            self.room.clone(),
            options.include_query,
        );
        let catalog = Catalog::offline(options.clone(), HashMap::new());
        let assembler = assembler.passing(passing);
        let stream = MysqlStream::start(
            replica,
            catalog,
            assembler,
            options,
            begin,
            Pulse::default(),
            (Shared::default(), self.room.clone()),
        )
        .await?;
        stream.gather().await
    }
}

fn text(rows: &Rows, row: usize, column: usize) -> Option<&str> {
    rows.get(row)?.get(column)?.as_deref()
}

/// A row of XA RECOVER: format, lengths of the two parts, and the parts; MySQL writes them as one hexadecimal number, MariaDB as an
/// SQL literal each.
fn recovered(row: &[Option<String>]) -> Option<String> {
    let field = |index: usize| row.get(index).and_then(Option::as_deref);
    let format = field(0)?.parse().ok()?;
    let (global, branch): (usize, usize) = (field(1)?.parse().ok()?, field(2)?.parse().ok()?);
    let data = field(3)?;
    let bytes = match data.strip_prefix("0x").and_then(unhex).filter(|bytes| bytes.len() == global + branch) {
        Some(bytes) => bytes,
        None => literals(data)?,
    };
    let (global, branch) = bytes.split_at_checked(global).filter(|(_, rest)| rest.len() == branch)?;
    Some(xa_name(format, global, branch))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    digits.chunks(2).map(|pair| Some((digit(pair.first()?)? << 4 | digit(pair.get(1)?)?) as u8)).collect()
}

/// The bytes of `'a','b',7` or `X'00ff','b',7`: all literals in a row.
fn literals(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\'') {
        let is_hex = rest.get(..at)?.ends_with(['X', 'x']);
        let behind = rest.get(at + 1..)?;
        let end = behind.find('\'')?;
        let inside = behind.get(..end)?;
        if is_hex {
            out.extend(unhex(inside)?)
        } else {
            out.extend_from_slice(inside.as_bytes())
        }
        rest = behind.get(end + 1..)?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_servers_lists_name_a_transaction_as_its_prepare_does() {
        let row = |format: &str, global: &str, branch: &str, data: &str| {
            recovered(&[format, global, branch, data].map(|text| Some(text.to_owned())))
        };
        assert_eq!(row("7", "1", "2", "0x6100FF").as_deref(), Some("X'61',X'00ff',7"));
        assert_eq!(row("1", "1", "0", "'k'").as_deref(), Some("X'6b',X'',1"));
        assert_eq!(row("7", "2", "1", "'ab','c',7").as_deref(), Some("X'6162',X'63',7"));
        assert_eq!(row("1", "2", "1", "X'00ff',X'0a',1").as_deref(), Some("X'00ff',X'0a',1"));
        assert_eq!(row("1", "2", "0", "'0x'").as_deref(), Some("X'3078',X'',1"));
        assert_eq!(row("1", "5", "0", "'k'"), None);
        assert_eq!(row("x", "1", "0", "'k'"), None);
    }
}
