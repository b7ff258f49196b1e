//! A table that is read: looked up while nobody can alter it, and compared with what was looked up before each read.
//!
//! The version is the one that the stream builds for the same table ([`CatalogTable`]), so that both have one fingerprint.
//! `SHOW CREATE TABLE` is what versions are told apart by: it holds columns, labels, character sets and indexes. It is
//! compared, not understood, without its AUTO_INCREMENT, which moves with the rows.

use std::sync::Arc;

use rowcast_core::backfill::{ReadError, Target};
use rowcast_core::{Table, TableName};

use super::range::{Order, Part};
use super::session::Session;
use crate::Flavor;
use crate::catalog::describe;
use crate::catalog::tables::{self, CatalogColumn, CatalogTable};
use crate::catalog::versions::Answers;
use crate::connection::statement::ColumnDefinition;
use crate::connection::{Failure, Rows};
use crate::rows::select;

const DOING: &str = "look-up";

/// A table and how to read it.
#[derive(Debug)]
pub(crate) struct Known {
    /// Quoted for SQL.
    pub(crate) shown: String,
    pub(crate) table: Arc<Table>,
    /// The result's columns, for comparison.
    pub(crate) columns: Vec<ColumnDefinition>,
    /// `SHOW CREATE TABLE`.
    create: String,
    /// `SELECT ... FROM ...`.
    select: String,
    /// The key that it can be read along, and the clause that forces its index.
    pub(crate) order: Option<(Order, String)>,
    /// The key's first column is an integer.
    pub(crate) divisible: bool,
}

/// The statistics of a table.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Statistics {
    pub(crate) rows: Option<u64>,
    pub(crate) bytes: Option<u64>,
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A table's name in SQL.
pub(crate) fn shown(target: &Target) -> String {
    format!("{}.{}", quoted(&target.qualifier), quoted(&target.table))
}

fn cell(row: &[Option<String>], index: usize) -> &str {
    row.get(index).and_then(Option::as_deref).unwrap_or("")
}

/// Keeps a table from being altered until the transaction ends. A SELECT that returns nothing takes the same lock as one
/// that does, and no snapshot.
async fn hold(session: &mut Session, shown: &str) -> Result<(), ReadError> {
    session.ask(shown, DOING, &format!("SELECT 1 FROM {shown} LIMIT 0")).await.map(drop)
}

async fn definition(session: &mut Session, shown: &str) -> Result<String, ReadError> {
    let rows = session.ask(shown, DOING, &format!("SHOW CREATE TABLE {shown}")).await?;
    Ok(rows.first().map_or_else(String::new, |row| without_counter(cell(row, 1))))
}

/// A definition without the AUTO_INCREMENT of the table's options, which are behind the last line of the columns.
fn without_counter(create: &str) -> String {
    const OPTION: &str = " AUTO_INCREMENT=";
    let options = create.rfind("\n)").unwrap_or(0);
    let Some(at) = create.get(options..).and_then(|tail| tail.find(OPTION)).map(|at| options + at) else {
        return create.to_owned();
    };
    let (front, back) = create.split_at_checked(at).unwrap_or((create, ""));
    let back = back.strip_prefix(OPTION).unwrap_or(back).trim_start_matches(|c: char| c.is_ascii_digit());
    [front, back].concat()
}

/// The row of information_schema.TABLES.
async fn described(
    session: &mut Session,
    target: &Target,
    shown: &str,
) -> Result<(TableName, String, String, Statistics), ReadError> {
    let sql = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, ENGINE, TABLE_ROWS, DATA_LENGTH FROM information_schema.TABLES \
         WHERE TABLE_SCHEMA={} AND TABLE_NAME={}",
        crate::catalog::literal(&target.qualifier),
        crate::catalog::literal(&target.table)
    );
    let rows = session.ask(shown, DOING, &sql).await?;
    // information_schema compares names without case; tables may differ only in it.
    let ours = |row: &&Vec<Option<String>>| cell(row, 0) == target.qualifier && cell(row, 1) == target.table;
    let row = rows.iter().find(ours).ok_or(ReadError::Gone)?;
    let number = |index| cell(row, index).parse().ok();
    let statistics = Statistics { rows: number(4), bytes: number(5) };
    let name = TableName { db: cell(row, 0).into(), schema: None, table: cell(row, 1).into() };
    Ok((name, cell(row, 2).to_owned(), cell(row, 3).to_owned(), statistics))
}

/// Whether tables of this type and engine can be read: only where a transaction has a snapshot.
fn readable(shown: &str, ty: &str, engine: &str) -> Result<(), ReadError> {
    let refused = |what: String| Err(ReadError::Refused(what));
    match ty {
        "BASE TABLE" => {}
        "SYSTEM VERSIONED" => {
            return refused(format!(
                "{shown} is a system-versioned table: its history, which the stream has, isn't what a read gives; \
                 exclude it from the backfill"
            ));
        }
        other => {
            return refused(format!(
                "{shown} is a {other}, not a table; exclude it from the backfill",
                other = other.to_lowercase()
            ));
        }
    }
    if !["InnoDB", "ROCKSDB"].iter().any(|known| known.eq_ignore_ascii_case(engine)) {
        return refused(format!(
            "{shown} has the engine {engine}, which has no transactions, so that a read of it can't be put between its \
             events; repair: ALTER TABLE {shown} ENGINE=InnoDB, or exclude it from the backfill"
        ));
    }
    Ok(())
}

impl Known {
    /// Looks a table up, in a transaction of its own, which the caller ends.
    pub(crate) async fn look_up(session: &mut Session, target: &Target) -> Result<(Self, Statistics), ReadError> {
        let shown = shown(target);
        session.ask(&shown, DOING, "START TRANSACTION").await?;
        hold(session, &shown).await?;
        let (name, ty, engine, statistics) = described(session, target, &shown).await?;
        readable(&shown, &ty, &engine)?;
        let maria = session.connection.place.flavor == Flavor::MariaDb;
        let about = match session.describe {
            true => session.ask(&shown, DOING, &describe::about(true)(&name)).await?,
            false => Rows::new(),
        };
        let columns = session.ask(&shown, DOING, &describe::columns(session.describe)(&name)).await?;
        let keys = session.ask(&shown, DOING, &tables::key_sql(&name, maria)).await?;
        let checks = if maria { session.ask(&shown, DOING, &tables::checks_sql(&name)).await? } else { Rows::new() };
        let order = if tables::is_ambiguous(&name, &keys) {
            session.ask(&shown, DOING, &tables::order_sql(&name)).await?
        } else {
            Rows::new()
        };
        let answers = Answers { about, columns, keys, checks, order };
        let found = answers.table(&name, session.connection.place.flavor).ok_or(ReadError::Gone)?;
        let create = definition(session, &shown).await?;
        let known = Self::new(session, name, shown, found, create).await?;
        Ok((known, statistics))
    }

    async fn new(
        session: &mut Session,
        name: TableName,
        shown: String,
        found: CatalogTable,
        create: String,
    ) -> Result<Self, ReadError> {
        let qualified = |column: &str| format!("{shown}.{}", quoted(column));
        let expressions: Vec<String> =
            found.columns.iter().map(|column| select::expression(column, &qualified(&column.name))).collect();
        let select = format!("SELECT {} FROM {shown}", expressions.join(", "));
        let prepared = session.connection.prepare(DOING, &format!("{select} LIMIT 0")).await;
        let prepared = prepared.map_err(|failure| session.failed(&shown, DOING, failure))?;
        session.connection.close_statement(prepared.id).await?;
        let decoder = select::Plan::new(&found.columns, &prepared.columns)
            .map_err(|what| ReadError::Refused(format!("{shown} can't be read: {what}")))?;
        let parts: Vec<Part> = found
            .key
            .iter()
            .enumerate()
            .filter_map(|(nth, index)| {
                let column = found.columns.get(*index)?;
                let descending = found.index.as_ref()?.descending.get(nth).copied()?;
                let labels = match &column.ty {
                    rowcast_core::Type::Enum { labels } => Some(labels.len()),
                    _ => None,
                };
                Some(Part { name: qualified(&column.name), native: column.native.clone(), descending, labels })
            })
            .collect();
        let first = found.key.first().and_then(|index| found.columns.get(*index));
        let divisible = first.is_some_and(|column| matches!(column.ty, rowcast_core::Type::Int { .. }));
        // An index over the beginning of a column doesn't sort by the column.
        let order = found
            .index
            .as_ref()
            .filter(|index| index.whole && !parts.is_empty())
            .map(|index| (Order { parts }, format!(" FORCE INDEX ({})", quoted(&index.name))));
        let columns = found.columns.iter().map(CatalogColumn::column).collect();
        let version = Table::new(name, columns, found.key.clone(), Box::new(decoder));
        let table = Arc::new(found.described(version));
        Ok(Self { shown, table, columns: prepared.columns, create, select, order, divisible })
    }

    /// Holds the table and makes sure that it is still what was looked up.
    pub(crate) async fn verify(&self, session: &mut Session) -> Result<(), ReadError> {
        hold(session, &self.shown).await?;
        if definition(session, &self.shown).await? == self.create { Ok(()) } else { Err(self.changed()) }
    }

    pub(crate) fn changed(&self) -> ReadError {
        ReadError::Changed(format!("{} was altered", self.shown))
    }

    /// A statement with these conditions, along the key if it is to be ordered.
    pub(crate) fn sql(&self, conditions: &[String], filter: Option<&str>, rows: Option<u64>) -> String {
        let force = self.order.as_ref().map(|(_, force)| force.as_str());
        let mut sql = self.select.clone();
        sql.push_str(if rows.is_some() || !conditions.is_empty() { force.unwrap_or("") } else { "" });
        // The end of the line ends a comment in the filter, too.
        let filter = filter.map(|filter| format!("{filter}\n"));
        let all: Vec<&str> = conditions.iter().map(String::as_str).chain(filter.as_deref()).collect();
        if !all.is_empty() {
            sql.push_str(&format!(" WHERE ({})", all.join(") AND (")));
        }
        if let (Some(rows), Some((order, _))) = (rows, &self.order) {
            sql.push_str(&format!(" ORDER BY {} LIMIT {rows}", order.order_by()));
        }
        sql
    }

    /// Has the server parse the filter: alone, where parentheses that don't match are an error, and in parentheses, where
    /// an ORDER BY is.
    pub(crate) async fn check_filter(&self, session: &mut Session, filter: &str) -> Result<(), ReadError> {
        const CHECKING: &str = "checking the filter";
        let wrong = |what: &dyn std::fmt::Display| {
            ReadError::Refused(format!(
                "the backfill's filter for {} is no condition on its rows: {what}; correct it",
                self.shown
            ))
        };
        for sql in [format!("{} WHERE {filter}", self.select), self.sql(&[], Some(filter), None)] {
            match session.connection.prepare(CHECKING, &sql).await {
                Ok(prepared) => {
                    session.connection.close_statement(prepared.id).await?;
                    if prepared.parameters > 0 || prepared.columns != self.columns {
                        return Err(wrong(&"it has more in it than one expression"));
                    }
                }
                Err(Failure::Server(error)) => {
                    let failed = session.failed(&self.shown, CHECKING, Failure::Server(error.clone()));
                    return Err(match failed {
                        // A table that is missing now is one that the filter names.
                        ReadError::Gone => wrong(&error),
                        ReadError::Refused(_) if !matches!(error.code, 1044 | 1142 | 1143) => wrong(&error),
                        other => other,
                    });
                }
                Err(failure) => return Err(session.failed(&self.shown, CHECKING, failure)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_of_a_table_is_no_part_of_its_definition() {
        let create = |counter: &str| {
            format!(
                "CREATE TABLE `t` (\n  `a` int DEFAULT 1 COMMENT ' AUTO_INCREMENT=5',\n) ENGINE=InnoDB{counter} \
                 DEFAULT CHARSET=latin1"
            )
        };
        assert_eq!(without_counter(&create(" AUTO_INCREMENT=17")), create(""));
        assert_eq!(without_counter(&create("")), create(""));
        assert_eq!(without_counter(""), "");
    }

    #[test]
    fn only_tables_with_snapshots_are_read() {
        assert!(readable("`d`.`t`", "BASE TABLE", "InnoDB").is_ok());
        for (ty, engine, expected) in [
            ("BASE TABLE", "MyISAM", "ENGINE=InnoDB"),
            ("VIEW", "", "is a view"),
            ("SYSTEM VERSIONED", "InnoDB", "system-versioned"),
        ] {
            match readable("`d`.`t`", ty, engine) {
                Err(ReadError::Refused(what)) => assert!(what.contains(expected), "{what}"),
                other => assert!(other.is_err(), "{ty} {engine}"),
            }
        }
    }

    #[test]
    fn names_are_quoted() {
        let target = Target { qualifier: "a`b".to_owned(), table: "c".to_owned(), filter: None };
        assert_eq!(shown(&target), "`a``b`.`c`");
    }
}
