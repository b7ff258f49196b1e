//! What the stream knows of its tables' columns, where it learns it, and what becomes of a table that it doesn't know enough of.
//!
//! A table that can't be decoded fails alone ([`rowcast_core::Event::TableFailed`]): its rows are counted, so that ordinals hold, and
//! left out, which is said again at each transaction that has some; all other tables go on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rowcast_core::{Ddl, DdlVerb, Event, KeptSchema, SourceError, Table, TableFailure, TableName};

use super::assembler::Assembler;
use super::draft::Draft;
use crate::binlog::ddl;
use crate::binlog::event::{Header, Query};
use crate::binlog::table_map::{Optional, TableMap};
use crate::catalog::tables::{CatalogColumn, CatalogTable};
use crate::catalog::versions::Found;
use crate::catalog::{checks, columns};

/// What is known of a table that a TABLE_MAP announces.
#[derive(Debug)]
pub(super) enum Resolved {
    /// The catalog has to be asked; then the same event again.
    Ask,
    /// Its version.
    Version(Arc<Table>),
    /// Its rows can't be decoded.
    Failed(Arc<TableFailure>),
}

/// How often unlogged changes of other tables are warned about.
const TOLD_AGAIN: Duration = Duration::from_secs(60);

impl Assembler {
    /// Finds the version of a captured table that an event is about.
    pub(super) fn resolve(
        &mut self,
        name: &TableName,
        map: &TableMap<'_>,
        optional: &Optional,
        header: &Header,
        draft: &mut Draft,
    ) -> Resolved {
        let build =
            |catalog: Option<&CatalogTable>| columns::build(name.clone(), map, optional, catalog, &self.charsets);
        let fits = |catalog: &CatalogTable| columns::fits(map, optional, catalog, &self.charsets);
        let known = self.versions.get(name).map(|known| CatalogTable::clone(&known).with_period(map.columns.len()));
        if let Some(known) = known.filter(|known| fits(known)) {
            let mut known = known;
            if self.describe && !known.is_described() {
                // kept by a process that had no use for it
                let Some((_, answer)) = self.answer.take_if(|(answered, _)| answered == name) else {
                    return Resolved::Ask;
                };
                let same = |found: &Found| found.table.undescribed() == known;
                let answer = answer.map(|found| Found { table: found.table.with_period(map.columns.len()), ..found });
                if let Some(found) = answer.filter(same) {
                    known = found.table.clone();
                    let from = self.here().to_owned();
                    let kept = self.versions.learn(name, found, &from);
                    draft.events.extend(kept.map(|kept| Event::Schema(Arc::new(kept))));
                }
            }
            let built = columns::build(name.clone(), map, optional, Some(&known), &self.charsets);
            self.uses(name, optional);
            return self.resolved(name, built, header);
        }
        let Some((_, answer)) = self.answer.take_if(|(answered, _)| answered == name) else { return Resolved::Ask };
        let answer = answer.map(|found| Found { table: found.table.with_period(map.columns.len()), ..found });
        let found = match answer {
            Some(found) if fits(&found.table) => found,
            // with names in the event it stands alone
            other => {
                let mut catalog = other.map(|found| found.table);
                if let (Some(_), Some(earlier)) = (&optional.names, self.versions.get(name)) {
                    // columns that went since then are what they were when they were last known
                    let now = catalog.get_or_insert_default();
                    let gone = |column: &&CatalogColumn| now.columns.iter().all(|other| other.name != column.name);
                    let gone: Vec<CatalogColumn> = earlier.columns.iter().filter(gone).cloned().collect();
                    now.columns.extend(gone);
                }
                let built = build(catalog.as_ref());
                let built = built.map_err(|what| format!("{what}{}", self.how_known(name)));
                return self.resolved(name, built, header);
            }
        };
        if optional.names.is_none()
            && let Some(changed) = self.versions.is_too_young(name, &found, u64::from(header.timestamp))
        {
            let what = format!(
                "its columns' names aren't in the binlog (binlog_row_metadata=MINIMAL), and information_schema has them as they \
                 are since {changed} (seconds since 1970), when it was altered by a statement that isn't streamed yet"
            );
            return self.resolved(name, Err(what), header);
        }
        let built = build(Some(&found.table));
        let from = self.here().to_owned();
        let kept = self.versions.learn(name, found, &from);
        draft.events.extend(kept.map(|kept| Event::Schema(Arc::new(kept))));
        self.uses(name, optional);
        self.resolved(name, built, header)
    }

    /// A version tells names that the event lacks: it matters then whether it was altered.
    fn uses(&mut self, name: &TableName, optional: &Optional) {
        if optional.names.is_none() {
            self.versions.uses(name);
        }
    }

    fn how_known(&self, name: &TableName) -> &'static str {
        match self.versions.get(name) {
            Some(_) => "; what was kept of it in the checkpoint doesn't fit either",
            None => "",
        }
    }

    fn resolved(&self, name: &TableName, built: Result<Table, String>, header: &Header) -> Resolved {
        match built {
            Ok(version) => Resolved::Version(Arc::new(version)),
            Err(what) => Resolved::Failed(self.failure(
                name,
                header,
                &what,
                &format!(
                    "{} for the future, which puts the names into the binlog",
                    self.place.set("binlog_row_metadata=FULL")
                ),
            )),
        }
    }

    /// The position of the transaction in progress.
    fn here(&self) -> &str {
        self.open.as_ref().map_or("", |open| open.transaction.pos.as_str())
    }

    /// Why a table can't be followed.
    pub(super) fn failure(&self, name: &TableName, header: &Header, what: &str, repair: &str) -> Arc<TableFailure> {
        let why = format!("binlog {}, event ending at offset {}: {what}; repair: {repair}", self.file, header.end);
        Arc::new(TableFailure { table: name.clone(), why })
    }

    /// A statement that is no DML, no TRUNCATE and no part of a transaction: what is known of the tables that it names may hold no
    /// longer.
    pub(super) fn ddl(&mut self, query: &Query<'_>, header: &Header, draft: &mut Draft) {
        if let Some(verb) = ddl::effect(query.sql).rows {
            for name in self.versions.named(query.sql, query.db) {
                tracing::warn!(
                    table = %name,
                    position = self.here(),
                    "ALTER TABLE ... {verb} PARTITION or TABLESPACE moves rows without logging them: what consumers have of the table \
                     isn't what it holds any more, until `rowcast backfill` sends it again"
                );
            }
        }
        let end = u64::from(header.timestamp) + u64::from(query.seconds);
        for (name, unsure) in self.versions.altered((query.sql, query.db), end, self.at) {
            if unsure {
                let what = "it was altered once more before the stream had come to where its columns were last read from \
                            information_schema, so that events since then may have the names of later columns";
                let repair = format!("{} for the future", self.place.set("binlog_row_metadata=FULL"));
                draft.events.push(Event::TableFailed(self.failure(&name, header, what, &repair)));
            }
            let from = self.here().to_owned();
            self.newest.remove(&name);
            self.forget(&name);
            draft.events.push(Event::Schema(Arc::new(KeptSchema { table: name, from, text: None })));
        }
    }

    /// The tables that a statement which is to be told is about.
    fn tables_of_ddl(&self, query: &Query<'_>) -> (ddl::Statement, Vec<TableName>) {
        let fold = |name: String| if self.fold_case { name.to_lowercase() } else { name };
        let mut statement = ddl::Statement::read(query.sql);
        let table = |(own, table): (Option<String>, String)| TableName {
            db: fold(own.unwrap_or_else(|| String::from_utf8_lossy(query.db).into_owned())).into(),
            schema: None,
            table: fold(table).into(),
        };
        let tables = std::mem::take(&mut statement.tables).into_iter().map(table).collect();
        (statement, tables)
    }

    /// The next table of a statement that is to be told with what becomes of it; none if all were asked for.
    pub(super) fn asks_of_ddl(&mut self, query: &Query<'_>) -> Option<TableName> {
        if !self.tells_ddl || self.passing.is_some() {
            return None;
        }
        let (statement, tables) = self.tables_of_ddl(query);
        if !matches!(statement.verb, DdlVerb::CreateTable | DdlVerb::AlterTable | DdlVerb::RenameTable) {
            return None;
        }
        for name in tables.into_iter().filter(|name| checks::captures(&self.filter, &name.db, &name.table)) {
            if self.asked.iter().any(|(asked, _)| *asked == name) {
                continue;
            }
            match self.answer.take_if(|(answered, _)| *answered == name) {
                Some(answer) => self.asked.push(answer),
                None => {
                    self.asks_of_statement = true;
                    return Some(name);
                }
            }
        }
        None
    }

    /// Tells a statement that changes no rows, if somebody wants to know.
    pub(super) fn tell_ddl(&mut self, query: &Query<'_>, header: &Header, draft: &mut Draft) {
        if !self.tells_ddl || self.passing.is_some() {
            return;
        }
        let (ddl::Statement { verb, conditional, .. }, tables) = self.tables_of_ddl(query);
        let end = u64::from(header.timestamp) + u64::from(query.seconds);
        let after = std::mem::take(&mut self.asked).into_iter().filter_map(|(name, found)| {
            let found = found.filter(|found| self.versions.is_too_young(&name, found, end).is_none())?;
            Some(Arc::new(found.table.into_table(name)))
        });
        let (after, place) = (after.collect(), self.row_event(header, 0));
        let (sql, db): (String, String) =
            [query.sql, query.db].map(|text| String::from_utf8_lossy(text).into_owned()).into();
        let captured = tables.iter().map(|name| checks::captures(&self.filter, &name.db, &name.table)).collect();
        let of_db = matches!(verb, DdlVerb::CreateDatabase | DdlVerb::AlterDatabase | DdlVerb::DropDatabase);
        let captured_db = of_db && checks::captures_in(&self.filter, &db);
        draft.ddl(Ddl { sql, db, verb, conditional, tables, captured, captured_db, after, place });
    }

    /// A statement that changes rows and is in the log as such, without its rows: a failure of the table that it is about. What its
    /// triggers, functions and foreign keys changed in other tables isn't in the log either, and can't be told from its text: of
    /// a table that isn't captured, an operator is warned.
    ///
    /// # Errors
    /// If the table can't be told.
    pub(super) fn statement_logged(
        &mut self,
        keyword: &str,
        target: Option<(Option<String>, String)>,
        query: &Query<'_>,
        header: &Header,
        draft: &mut Draft,
    ) -> Result<(), SourceError> {
        let session = String::from_utf8_lossy(query.db).into_owned();
        let repair = format!("{}; don't set it in sessions", self.place.set("binlog_format=ROW"));
        let what = |of: &str| {
            format!(
                "{keyword} logged as a statement ({of}): that session's binlog_format was not ROW, so its row changes are not in \
                 the binlog"
            )
        };
        let Some((db, table)) = target else {
            return Err(self.definite(header, what(&format!("database `{session}`"))).repair(repair));
        };
        let fold = |name: String| if self.fold_case { name.to_lowercase() } else { name };
        let (db, table) = (fold(db.unwrap_or(session)), fold(table));
        if checks::captures(&self.filter, &db, &table) {
            let what = what(&format!("table `{db}.{table}`"));
            let name = TableName { db: db.into(), schema: None, table: table.into() };
            draft.events.push(Event::TableFailed(self.failure(&name, header, &what, &repair)));
        } else if self.told_unlogged.is_none_or(|told| told.elapsed() >= TOLD_AGAIN) {
            self.told_unlogged = Some(Instant::now());
            tracing::warn!(
                table = format!("{db}.{table}"),
                keyword,
                "a statement on a table that isn't captured was logged without its rows: if a trigger, a function or a foreign key of \
                 it changed a captured table, those changes are lost; repair: {repair}"
            );
        }
        Ok(())
    }

    /// What was known of all tables at the start holds from where the stream has come to.
    pub(super) fn versions_reached(&mut self, draft: &mut Draft) {
        let kept = self.versions.reached(self.at, || self.position.to_string());
        draft.events.extend(kept.into_iter().map(|kept| Event::Schema(Arc::new(kept))));
    }
}
