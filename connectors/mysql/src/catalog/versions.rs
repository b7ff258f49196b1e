//! Versions of the tables' columns: what the catalog said of a table, and from where in the binlog on that holds.
//!
//! The catalog knows a table as it is now, the binlog holds rows of all its forms. So what was learnt of a table is kept, in the
//! daemon's checkpoint, and holds until a statement that names the table comes by in the binlog ([`crate::binlog::ddl`]); only then
//! the catalog is asked again, at the table's next rows. A restart thus decodes old rows with the columns of their time.
//!
//! Guarantees: rows that don't name their columns (`binlog_row_metadata=MINIMAL`) are decoded by a version that the stream itself has
//! led to, or by the catalog's, if nothing says that the table was altered in between: its time of change lies before what was
//! streamed, and its columns fit the event's in number and types. If a statement shows afterwards that it was altered in between, that
//! is found out and said ([`Versions::altered`]). What is learnt too late is a failure of this table, never a guess.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rowcast_core::{KeptSchema, Offset, TableFacts, TableName};

use super::tables::{self, CatalogTable};
use crate::Flavor;
use crate::binlog::ddl::{self, Columns};
use crate::connection::Rows;

/// Tables that versions are known of; as many as the daemon keeps.
const MOST: usize = 16_384;

/// The server's answers about one table, as they are kept.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Answers {
    pub(crate) about: Rows,
    pub(crate) columns: Rows,
    pub(crate) keys: Rows,
    pub(crate) checks: Rows,
    pub(crate) order: Rows,
}

/// Version of the text's form.
const FORM: u32 = 1;

impl Answers {
    fn text(&self) -> String {
        let Self { about, columns, keys, checks, order } = self;
        // lists of texts always serialize
        serde_json::to_string(&(FORM, about, columns, keys, checks, order)).unwrap_or_default()
    }

    fn of(text: &str) -> Option<Self> {
        let (form, about, columns, keys, checks, order) =
            serde_json::from_str::<(u32, Rows, Rows, Rows, Rows, Rows)>(text).ok()?;
        (form == FORM).then_some(Self { about, columns, keys, checks, order })
    }

    /// The table; none if there is none.
    pub(crate) fn table(&self, name: &TableName, flavor: Flavor) -> Option<CatalogTable> {
        let maria = flavor == Flavor::MariaDb;
        let table = CatalogTable::new(name, maria, &self.columns, &self.keys, &self.checks, &self.order)?;
        let facts = table.is_described().then(|| {
            let cell = |index| self.cell(name, index).filter(|text| !text.is_empty()).map(str::to_owned);
            // a collation begins with its character set
            let charset = cell(4).map(|collation| collation.split('_').next().unwrap_or_default().to_owned());
            let primary_key = if table.has_primary_key() { table.key.clone() } else { Vec::new() };
            Box::new(TableFacts { primary_key, charset, comment: cell(5), ..TableFacts::default() })
        });
        Some(CatalogTable { versioned: self.cell(name, 2) == Some("SYSTEM VERSIONED"), facts, ..table })
    }

    fn cell(&self, name: &TableName, index: usize) -> Option<&str> {
        let cell = |row: &'_ [Option<String>], index: usize| row.get(index).cloned().flatten();
        let ours = |row: &&Vec<Option<String>>| {
            cell(row, 0).as_deref() == Some(&*name.db) && cell(row, 1).as_deref() == Some(&*name.table)
        };
        self.about.iter().find(ours)?.get(index)?.as_deref()
    }

    /// When the table was altered last, in seconds since 1970 by the server's clock; none if it doesn't say.
    fn changed(&self, name: &TableName) -> Option<u64> {
        self.cell(name, 3)?.split('.').next()?.parse().ok()
    }
}

/// What the catalog said of a table.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) table: CatalogTable,
    pub(crate) answers: Answers,
    /// The end of the server's binlog after it was asked; none if the stream has come there.
    pub(crate) until: Option<Offset>,
}

/// A version that holds.
#[derive(Debug)]
struct Version {
    table: Arc<CatalogTable>,
    /// The catalog was asked when the server was here: before the stream has reached it, nobody knows whether an ALTER lies between.
    until: Option<Offset>,
    /// Rows were decoded by it.
    used: bool,
}

/// The versions of a stream's tables.
#[derive(Debug, Default)]
pub(crate) struct Versions {
    known: HashMap<TableName, Version>,
    /// What the catalog said at the start: holds from there on where the server was then.
    first: Option<(Offset, HashMap<TableName, Found>)>,
    /// When the last statement that may have changed a table had ended, in seconds since 1970.
    changed: u64,
}

impl Versions {
    /// Those that were kept.
    pub(crate) fn of(kept: &[Arc<KeptSchema>], flavor: Flavor) -> Self {
        let version = |it: &Arc<KeptSchema>| {
            // of another form: it is asked for again
            let table = Answers::of(it.text.as_deref()?)?.table(&it.table, flavor)?;
            Some((it.table.clone(), Version { table: Arc::new(table), until: None, used: false }))
        };
        Self { known: kept.iter().filter_map(version).collect(), ..Self::default() }
    }

    /// What the catalog said of all tables at the start of a stream, before the server's binlog ended at `at`.
    pub(crate) fn expect(&mut self, at: Offset, found: HashMap<TableName, Found>) {
        self.first = Some((at, found));
    }

    /// The version that holds where the stream is.
    pub(crate) fn get(&self, name: &TableName) -> Option<Arc<CatalogTable>> {
        self.known.get(name).map(|version| Arc::clone(&version.table))
    }

    /// Rows of a table are decoded by its version.
    pub(crate) fn uses(&mut self, name: &TableName) {
        if let Some(version) = self.known.get_mut(name) {
            version.used = true;
        }
    }

    /// Whether the catalog's word is younger than what was streamed, with rows of a time in seconds: then the table was altered by a
    /// statement that is still to come. A second is left for what the clocks cut off.
    pub(crate) fn is_too_young(&self, name: &TableName, found: &Found, now: u64) -> Option<u64> {
        found.answers.changed(name).filter(|changed| *changed > now.max(self.changed).saturating_add(1))
    }

    /// Takes in what the catalog said; what is to be kept of it, if that is new. `from` is where the stream is.
    pub(crate) fn learn(&mut self, name: &TableName, found: Found, from: &str) -> Option<KeptSchema> {
        if self.known.len() >= MOST && !self.known.contains_key(name) {
            return None;
        }
        let Found { table, answers, until } = found;
        let same = self.known.get(name).is_some_and(|known| *known.table == table);
        self.known.insert(name.clone(), Version { table: Arc::new(table), until, used: false });
        (!same).then(|| KeptSchema { table: name.clone(), from: from.to_owned(), text: Some(answers.text()) })
    }

    /// Once the stream has come as far as the server was when it began, what the catalog said then holds for all tables that no
    /// statement has named since.
    pub(crate) fn reached(&mut self, at: Offset, from: impl FnOnce() -> String) -> Vec<KeptSchema> {
        let Some((_, found)) = self.first.take_if(|(until, _)| at >= *until) else { return Vec::new() };
        let from = from();
        let missing = found.into_iter().filter(|(name, _)| !self.known.contains_key(name)).collect::<Vec<_>>();
        missing
            .into_iter()
            .filter_map(|(name, found)| self.learn(&name, Found { until: None, ..found }, &from))
            .collect()
    }

    /// The tables that a statement in the database `db` names, of those that are known.
    pub(crate) fn named(&self, sql: &[u8], db: &[u8]) -> Vec<TableName> {
        let named = |name: &&TableName| is_about(sql, db, &name.db) && ddl::names(sql, &name.table);
        self.known.keys().filter(named).cloned().collect()
    }

    /// A statement in the database `db` that may change tables, which had ended at `end` in seconds since 1970 and in the binlog at `at`: forgets those that it names. Their names,
    /// with true for those whose rows may have been decoded by a version that was altered before the stream came to it.
    pub(crate) fn altered(&mut self, (sql, db): (&[u8], &[u8]), end: u64, at: Offset) -> Vec<(TableName, bool)> {
        let effect = ddl::effect(sql);
        if effect.columns == Columns::Kept {
            return Vec::new();
        }
        self.changed = self.changed.max(end);
        // other types are seen in the event; a key that isn't primary may become another with them
        let changed = |name: &TableName, table: &CatalogTable| {
            (effect.columns == Columns::Changed || !table.has_primary_key())
                && is_about(sql, db, &name.db)
                && effect.is_on(sql, &name.table)
        };
        if let Some((_, found)) = &mut self.first {
            found.retain(|name, found| !changed(name, &found.table));
        }
        let named: HashSet<TableName> = self
            .known
            .iter()
            .filter(|(name, version)| changed(name, &version.table))
            .map(|(name, _)| name.clone())
            .collect();
        let forget = |name: TableName| {
            let version = self.known.remove(&name)?;
            let unsure = version.used && version.until.is_some_and(|until| at <= until);
            Some((name, unsure))
        };
        named.into_iter().filter_map(forget).collect()
    }
}

/// Whether a statement can be about tables of a database: it is the session's, or is named. One with a database for each of its users has
/// tables of the same names in all of them.
fn is_about(sql: &[u8], session: &[u8], db: &str) -> bool {
    session.eq_ignore_ascii_case(db.as_bytes()) || ddl::names(sql, db)
}

/// The statements that ask for all tables of a database: their answers are told apart by names.
pub(crate) fn of_database(sql: fn(&TableName) -> String, db: &str) -> String {
    let name = TableName { db: db.into(), schema: None, table: "".into() };
    let one = sql(&name);
    let table = format!(" AND TABLE_NAME={}", super::literal(""));
    one.replacen(&table, "", 1)
}

/// Parts the answers about a database by table.
pub(crate) fn part(all: &Answers, name: &TableName) -> Answers {
    let ours = |rows: &Rows| -> Rows {
        let is = |row: &&Vec<Option<String>>| {
            row.first().cloned().flatten().as_deref() == Some(&*name.db)
                && row.get(1).cloned().flatten().as_deref() == Some(&*name.table)
        };
        rows.iter().filter(is).cloned().collect()
    };
    Answers {
        about: ours(&all.about),
        columns: ours(&all.columns),
        keys: ours(&all.keys),
        checks: ours(&all.checks),
        order: Rows::new(),
    }
}

/// The key statement of a flavour, as a function of the name alone.
pub(crate) fn key_sql(flavor: Flavor) -> fn(&TableName) -> String {
    match flavor {
        Flavor::Mysql => |name| tables::key_sql(name, false),
        Flavor::MariaDb => |name| tables::key_sql(name, true),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn name(table: &str) -> TableName {
        TableName { db: "d".into(), schema: None, table: table.into() }
    }

    fn at(byte: u64) -> Offset {
        Offset { file: 1, byte }
    }

    fn found(table: &str, columns: &[&str], changed: &str, until: u64) -> Found {
        let row = |cells: &[&str]| cells.iter().map(|cell| Some((*cell).to_owned())).collect::<Vec<_>>();
        let answers = Answers {
            about: vec![row(&["d", table, "BASE TABLE", changed])],
            columns: columns.iter().map(|column| row(&["d", table, column, "int", "int", "NO"])).collect(),
            ..Answers::default()
        };
        let table = answers.table(&name(table), Flavor::MariaDb).unwrap();
        Found { table, answers, until: Some(at(until)) }
    }

    #[test]
    fn what_is_kept_reads_back_and_holds() {
        let mut versions = Versions::default();
        let kept = versions.learn(&name("t"), found("t", &["a", "b"], "5", 9), "0-1-7").unwrap();
        assert_eq!(kept.from, "0-1-7");
        let again = Versions::of(&[Arc::new(kept)], Flavor::MariaDb);
        assert_eq!(again.get(&name("t")), versions.get(&name("t")));
        // the same once more is nothing new
        assert!(versions.learn(&name("t"), found("t", &["a", "b"], "6", 11), "0-1-10").is_none());
        let odd = KeptSchema { table: name("t"), from: String::new(), text: Some("[7]".into()) };
        assert!(Versions::of(&[Arc::new(odd)], Flavor::MariaDb).get(&name("t")).is_none());
    }

    #[test]
    fn a_statement_forgets_what_it_names_and_says_where_that_came_too_late() {
        let mut versions = Versions::default();
        assert!(versions.altered((b"alter table t comment 'x'", b"d"), 1, at(8)).is_empty());
        for table in ["t", "u", "unused"] {
            versions.learn(&name(table), found(table, &["a"], "5", 9), "0-1-7");
        }
        versions.uses(&name("t"));
        versions.uses(&name("u"));
        assert!(versions.altered((b"alter table t add b int", b"other"), 20, at(8)).is_empty(), "another database's");
        assert_eq!(versions.altered((b"alter table t add b int", b"d"), 20, at(8)), [(name("t"), true)]);
        assert_eq!(versions.altered((b"alter table unused add b int", b"d"), 20, at(8)), [(name("unused"), false)]);
        assert_eq!(versions.altered((b"alter table `D`.u add b int", b"other"), 20, at(10)), [(name("u"), false)]);
        assert!(versions.get(&name("t")).is_none() && versions.altered((b"drop table t", b"d"), 21, at(9)).is_empty());
    }

    #[test]
    fn a_table_that_was_altered_later_than_what_was_streamed_is_recognised() {
        let mut versions = Versions::default();
        let late = found("t", &["a"], "100.000000", 9);
        assert_eq!(versions.is_too_young(&name("t"), &late, 50), Some(100));
        assert_eq!(versions.is_too_young(&name("t"), &late, 99), None);
        versions.altered((b"alter table t add b int", b"d"), 99, at(8));
        assert_eq!(versions.is_too_young(&name("t"), &late, 50), None, "that statement explains it");
    }

    #[test]
    fn what_was_there_at_the_start_holds_from_there_unless_a_statement_named_it() {
        let mut versions = Versions::default();
        let all = ["t", "u"].map(|table| (name(table), found(table, &["a"], "5", 9)));
        versions.expect(at(9), all.into());
        assert!(versions.reached(at(8), String::new).is_empty());
        versions.altered((b"alter table u add b int", b"d"), 20, at(8));
        let kept = versions.reached(at(9), String::new);
        assert_eq!(kept.iter().map(|kept| &*kept.table.table).collect::<Vec<_>>(), ["t"]);
        assert!(versions.reached(at(10), String::new).is_empty() && versions.get(&name("t")).is_some());
    }

    #[test]
    fn the_statements_for_a_database_ask_for_all_of_its_tables() {
        for sql in [
            tables::about_sql as fn(&TableName) -> String,
            tables::columns_sql,
            tables::checks_sql,
            key_sql(Flavor::Mysql),
        ] {
            let all = of_database(sql, "a'b");
            assert!(all.contains("a\\'b") && !all.contains("TABLE_NAME="), "{all}");
        }
    }
}
