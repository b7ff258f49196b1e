//! Statements that may change what the stream knows of tables: told apart by a few words, without a grammar.
//!
//! Two questions, both answered for every statement that there is or will be: may it change a table's columns or key, and which
//! tables does it name? A statement that is not known to be harmless may change every table whose name is in its text. So the
//! answers may name a table too many, which costs a look into the catalog, and never one too few: a table is altered by its name.

use rowcast_core::DdlVerb;

use super::statement::{Word, Words};

/// Objects whose making and unmaking changes no table's columns.
const HARMLESS_OBJECTS: &[&str] = &[
    "VIEW",
    "TRIGGER",
    "EVENT",
    "PROCEDURE",
    "FUNCTION",
    "PACKAGE",
    "USER",
    "ROLE",
    "SERVER",
    "DATABASE",
    "SCHEMA",
    "TABLESPACE",
    "LOGFILE",
    "UNDO",
    "RESOURCE",
    "INSTANCE",
    "LIBRARY",
];
/// Objects that have columns or keys, or are parts of tables.
const TABLE_OBJECTS: &[&str] = &["TABLE", "TABLES", "INDEX", "SEQUENCE"];
/// Statements, by their first word, that change no table's columns.
const HARMLESS: &[&str] = &[
    "ANALYZE",
    "OPTIMIZE",
    "REPAIR",
    "CHECK",
    "CHECKSUM",
    "FLUSH",
    "GRANT",
    "REVOKE",
    "SET",
    "USE",
    "KILL",
    "INSTALL",
    "UNINSTALL",
    "CACHE",
    "RESET",
    "PURGE",
    "LOCK",
    "UNLOCK",
    "HANDLER",
    "SHOW",
];
/// Words of a statement that are looked at; the object of a CREATE, DROP or ALTER is among the first.
const LOOKED_AT: usize = 64;

/// Without one of these words an ALTER TABLE can't rename or move a column, change its labels, or do what else a row event doesn't show:
/// at most it gives columns other types, which the event has. (Whether columns may be NULL matters for keys that aren't primary.)
const TELLING: &[&str] = &[
    "RENAME",
    "CHANGE",
    "FIRST",
    "AFTER",
    "ADD",
    "DROP",
    "ENUM",
    "SET",
    "EXCHANGE",
    "CONVERT",
    "UUID",
    "INET4",
    "INET6",
    "JSON",
    "CHECK",
    "CONSTRAINT",
    "KEY",
    "UNIQUE",
    "INDEX",
    "PRIMARY",
    "SERIAL",
    "VERSIONING",
    "PERIOD",
    "IMPORT",
    "DISCARD",
    "TO",
    "AS",
];

/// What a statement may do to the columns and keys of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Columns {
    /// Nothing.
    #[default]
    Kept,
    /// No more than give them other types.
    Types,
    /// Anything.
    Changed,
}

/// What a statement may do to tables.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Effect {
    /// To the columns of the tables that it names.
    pub(crate) columns: Columns,
    /// The table that is all that it may change, whatever else it names; none if that isn't known.
    only: Option<String>,
    /// It takes rows out of a table, or puts others in, without row events; the words that say so.
    pub(crate) rows: Option<&'static str>,
}

/// What a statement that is no DML, no part of a transaction and no TRUNCATE TABLE may do.
pub(crate) fn effect(sql: &[u8]) -> Effect {
    let mut words = Words::new(sql);
    let Some(first) = first_word(&mut words) else { return Effect::default() };
    if HARMLESS.iter().any(|word| first.is(word)) {
        return Effect::default();
    }
    let all = Effect { columns: Columns::Changed, ..Effect::default() };
    let known = ["CREATE", "DROP", "ALTER", "RENAME"].iter().any(|word| first.is(word));
    if !known {
        return all;
    }
    let mut object = words.clone();
    let mut temporary = false;
    for _ in 0..LOOKED_AT {
        let Some(word) = object.next() else { break };
        if word.is("TEMPORARY") {
            temporary = true;
        }
        if HARMLESS_OBJECTS.iter().any(|name| word.is(name)) {
            return Effect::default();
        }
        if TABLE_OBJECTS.iter().any(|name| word.is(name)) {
            return match (word.is("TABLE"), &first) {
                // a temporary table hides one of its name in its session only
                (true, first) if temporary && !first.is("ALTER") => Effect::default(),
                (true, first) if first.is("CREATE") => Effect { only: named_first(&mut object), ..all },
                (true, first) if first.is("ALTER") => {
                    let tells = TELLING.iter().any(|word| names(sql, word)) && !is_of_partitions(object.clone());
                    let columns = if tells { Columns::Changed } else { Columns::Types };
                    Effect { columns, only: None, rows: rows(object) }
                }
                _ => all,
            };
        }
    }
    all
}

impl Effect {
    /// Whether a table of this name may be changed by the statement, of which this is the effect.
    pub(crate) fn is_on(&self, sql: &[u8], name: &str) -> bool {
        match &self.only {
            Some(only) if sql.is_ascii() => only.eq_ignore_ascii_case(name),
            _ => names(sql, name),
        }
    }
}

/// What a statement does, by its first words.
#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) verb: DdlVerb,
    /// The tables that it is about: database (none: the session's) and table. One that can't be told without a grammar isn't among them.
    pub(crate) tables: Vec<(Option<String>, String)>,
    /// It has IF EXISTS, or IF NOT EXISTS, in front of them.
    pub(crate) conditional: bool,
}

impl Statement {
    fn of(verb: DdlVerb) -> Self {
        Self { verb, tables: Vec::new(), conditional: false }
    }

    /// Reads the text of one.
    pub(crate) fn read(sql: &[u8]) -> Self {
        let other = Self::of(DdlVerb::Other);
        let mut words = Words::new(sql);
        let Some(first) = first_word(&mut words) else { return other };
        let verb = ["CREATE", "ALTER", "DROP", "RENAME"].into_iter().find(|verb| first.is(verb));
        let Some(verb) = verb else { return other };
        // OR REPLACE, UNIQUE, ONLINE, IGNORE: what the object is comes soon
        for _ in 0..LOOKED_AT {
            let Some(word) = words.next() else { return other };
            // one of the session's own
            if word.is("TEMPORARY") {
                return other;
            }
            if word.is("DATABASE") || word.is("SCHEMA") {
                return match verb {
                    "CREATE" => Self::of(DdlVerb::CreateDatabase),
                    "ALTER" => Self::of(DdlVerb::AlterDatabase),
                    "DROP" => Self::of(DdlVerb::DropDatabase),
                    _ => other,
                };
            }
            if word.is("INDEX") {
                while words.next().is_some_and(|word| !word.is("ON")) {}
                let name = match (words.next().and_then(Word::name), words.next()) {
                    (Some(db), Some(Word::Sign(b'.'))) => {
                        words.next().and_then(Word::name).map(|table| (Some(db), table))
                    }
                    (Some(table), _) => Some((None, table)),
                    _ => None,
                };
                return Self { tables: name.into_iter().collect(), ..Self::of(DdlVerb::Index) };
            }
            if word.is("TABLE") || word.is("TABLES") {
                let verb = match verb {
                    "CREATE" => DdlVerb::CreateTable,
                    "ALTER" => DdlVerb::AlterTable,
                    "DROP" => DdlVerb::DropTable,
                    _ => DdlVerb::RenameTable,
                };
                let conditional = condition(&mut words);
                return Self { verb, tables: listed(&mut words, verb), conditional };
            }
            if HARMLESS_OBJECTS.iter().any(|name| word.is(name)) || word.is("SEQUENCE") {
                return other;
            }
        }
        other
    }
}

/// The first word of a statement, behind MariaDB's SET STATEMENT variable=value, ... FOR.
fn first_word<'a>(words: &mut Words<'a>) -> Option<Word<'a>> {
    let mut first = words.next();
    if first.as_ref().is_some_and(|word| word.is("SET"))
        && words.clone().next().is_some_and(|word| word.is("STATEMENT"))
    {
        while first.as_ref().is_some_and(|word| !word.is("FOR")) {
            first = words.next();
        }
        first = words.next();
    }
    first
}

/// Takes IF EXISTS or IF NOT EXISTS, if that is next.
fn condition(words: &mut Words<'_>) -> bool {
    let is_there = words.clone().next().is_some_and(|word| word.is("IF"));
    if is_there {
        while words.next().is_some_and(|word| !word.is("EXISTS")) {}
    }
    is_there
}

/// The names behind TABLE: one, or a list. Of a rename each new name, too.
fn listed(words: &mut Words<'_>, verb: DdlVerb) -> Vec<(Option<String>, String)> {
    let mut found = Vec::new();
    while let Some(first) = words.next().and_then(Word::name) {
        let mut name = (None, first);
        if words.clone().next().is_some_and(|word| matches!(word, Word::Sign(b'.'))) {
            words.next();
            let Some(table) = words.next().and_then(Word::name) else { break };
            name = (Some(name.1), table);
        }
        found.push(name);
        let goes_on = words.clone().next().is_some_and(|word| match verb {
            DdlVerb::DropTable => matches!(word, Word::Sign(b',')),
            DdlVerb::RenameTable => matches!(word, Word::Sign(b',')) || word.is("TO"),
            _ => false,
        });
        if !goes_on {
            break;
        }
        words.next();
    }
    found
}

/// The table that a CREATE or ALTER TABLE names first, from the words behind TABLE, which it takes.
fn named_first(words: &mut Words<'_>) -> Option<String> {
    condition(words);
    let first = words.next()?.name()?;
    if words.clone().next().is_some_and(|word| matches!(word, Word::Sign(b'.'))) {
        words.next();
        return words.next()?.name();
    }
    Some(first)
}

/// Whether an ALTER TABLE manages partitions, which can't be put together with anything else; from the words behind TABLE.
fn is_of_partitions(mut words: Words<'_>) -> bool {
    const VERBS: [&str; 12] = [
        "ADD",
        "DROP",
        "REORGANIZE",
        "COALESCE",
        "TRUNCATE",
        "ANALYZE",
        "CHECK",
        "OPTIMIZE",
        "REBUILD",
        "REPAIR",
        "DISCARD",
        "IMPORT",
    ];
    named_first(&mut words).is_some()
        && words.next().is_some_and(|word| VERBS.iter().any(|verb| word.is(verb)))
        && words.next().is_some_and(|word| word.is("PARTITION"))
}

/// ALTER TABLE ... DROP PARTITION and the like.
fn rows(mut words: Words<'_>) -> Option<&'static str> {
    let mut before: Option<&'static str> = None;
    while let Some(word) = words.next() {
        if (word.is("PARTITION") || word.is("TABLESPACE") || word.is("SUBPARTITION")) && before.is_some() {
            return before;
        }
        const VERBS: [(&str, &str); 7] = [
            ("DROP", "DROP"),
            ("TRUNCATE", "TRUNCATE"),
            ("EXCHANGE", "EXCHANGE"),
            ("DISCARD", "DISCARD"),
            ("IMPORT", "IMPORT"),
            // CONVERT PARTITION p TO TABLE u, CONVERT TABLE u TO PARTITION p
            ("CONVERT", "CONVERT"),
            ("TO", "CONVERT"),
        ];
        before = VERBS.into_iter().find(|(verb, _)| word.is(verb)).map(|(_, shown)| shown);
    }
    None
}

/// The one table that a statement which changes rows names as its target: database (none: the session's) and table. None if it may
/// change several, or can't be told without a grammar.
pub(crate) fn target(sql: &[u8]) -> Option<(Option<String>, String)> {
    let mut words = Words::new(sql);
    let first = words.next()?;
    let skip = |words: &mut Words<'_>, skipped: &[&str]| {
        while words.clone().next().is_some_and(|word| skipped.iter().any(|it| word.is(it))) {
            words.next();
        }
    };
    // what must follow the name, if something does
    let ends: &[&str] = if first.is("INSERT") || first.is("REPLACE") {
        skip(&mut words, &["LOW_PRIORITY", "DELAYED", "HIGH_PRIORITY", "IGNORE", "INTO"]);
        &[]
    } else if first.is("UPDATE") {
        skip(&mut words, &["LOW_PRIORITY", "IGNORE"]);
        &["SET"]
    } else if first.is("DELETE") {
        skip(&mut words, &["LOW_PRIORITY", "QUICK", "IGNORE"]);
        words.next().filter(|word| word.is("FROM"))?;
        &["WHERE", "ORDER", "LIMIT"]
    } else {
        return None;
    };
    let mut name = (None, words.next()?.name()?);
    if words.clone().next().is_some_and(|word| matches!(word, Word::Sign(b'.'))) {
        words.next();
        name = (Some(name.1), words.next()?.name()?);
    }
    let follows = words.next();
    let fits = ends.is_empty() || follows.is_none_or(|word| ends.iter().any(|it| word.is(it)));
    fits.then_some(name)
}

/// Whether a statement has a name in it: as a word, in any case, with its quotes doubled or not.
///
/// Names outside of ASCII may be there in the client's character set, so that any byte outside of ASCII may be one of them.
pub(crate) fn names(sql: &[u8], name: &str) -> bool {
    if !name.is_ascii() {
        return !sql.is_ascii();
    }
    let in_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80;
    let ends = |byte: Option<&u8>, own: Option<&u8>| {
        !(byte.is_some_and(|byte| in_name(*byte)) && own.is_some_and(|own| in_name(*own)))
    };
    let is_there = |name: &[u8]| {
        !name.is_empty()
            && sql.windows(name.len()).enumerate().any(|(at, found)| {
                found.eq_ignore_ascii_case(name)
                    && ends(at.checked_sub(1).and_then(|before| sql.get(before)), name.first())
                    && ends(sql.get(at + name.len()), name.last())
            })
    };
    is_there(name.as_bytes())
        || ['`', '"']
            .into_iter()
            .any(|quote| name.contains(quote) && is_there(name.replace(quote, &format!("{quote}{quote}")).as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_change_columns_is_told_from_what_can_not() {
        for sql in [
            "ALTER TABLE t ADD a INT",
            "/* c */ alter /*!50100 ONLINE */ table t drop a",
            "ALTER IGNORE TABLE t ADD UNIQUE (a)",
            "RENAME TABLE a TO t, b TO a",
            "DROP TABLE IF EXISTS t",
            "CREATE OR REPLACE TABLE t (a INT)",
            "CREATE TABLE t LIKE u",
            "CREATE UNIQUE INDEX i ON t (a)",
            "DROP INDEX i ON t",
            "SET STATEMENT max_statement_time=1 FOR ALTER TABLE t ADD a INT",
            "/*!80000 ALTER TABLE t ADD a INT */",
            "FROBNICATE t WITH SPRINKLES",
            "ALTER SEQUENCE s RESTART",
            "ALTER TABLE t EXCHANGE PARTITION p WITH TABLE u",
            "ALTER TABLE t ADD `partition` INT",
            "ALTER TABLE t PARTITION BY HASH (a), RENAME COLUMN a TO b",
        ] {
            assert_eq!(effect(sql.as_bytes()).columns, Columns::Changed, "{sql}");
        }
        for sql in [
            "ALTER TABLE t MODIFY a BIGINT NOT NULL",
            "alter table t comment 'x', engine=innodb",
            "ALTER TABLE d.`t` ADD PARTITION (PARTITION p VALUES LESS THAN (9))",
            "alter table if exists t drop partition if exists p0",
        ] {
            assert_eq!(effect(sql.as_bytes()).columns, Columns::Types, "{sql}");
        }
        // a word that hides behind a quote that isn't one
        assert_eq!(
            effect(b"ALTER TABLE t COMMENT 'it\\'s', RENAME COLUMN a TO b, COMMENT 'x'").columns,
            Columns::Changed
        );
        let like = b"CREATE TABLE IF NOT EXISTS d.`x` LIKE t";
        assert!(effect(like).is_on(like, "X") && !effect(like).is_on(like, "t"));
        let select = b"create table x select * from t";
        assert!(effect(select).is_on(select, "x") && !effect(select).is_on(select, "t"));
        for sql in [
            "CREATE DEFINER=`a`@`%` TRIGGER x BEFORE INSERT ON t FOR EACH ROW SET @a = 1",
            "CREATE OR REPLACE ALGORITHM=MERGE VIEW v AS SELECT * FROM t",
            "CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO DELETE FROM t",
            "CREATE PROCEDURE p() ALTER TABLE t ADD a INT",
            "DROP TEMPORARY TABLE IF EXISTS `t` /* generated by server */",
            "CREATE TEMPORARY TABLE t (a INT)",
            "GRANT SELECT ON t TO u",
            "ANALYZE TABLE t",
            "OPTIMIZE NO_WRITE_TO_BINLOG TABLE t",
            "DROP DATABASE d",
            "ALTER USER u IDENTIFIED BY 'x'",
            "",
            "/* nothing */",
        ] {
            assert_eq!(effect(sql.as_bytes()), Effect::default(), "{sql}");
        }
    }

    #[test]
    fn the_target_of_a_statement_is_told_where_there_is_one() {
        let name = |db: Option<&str>, table: &str| Some((db.map(str::to_owned), table.to_owned()));
        for (sql, expected) in [
            ("insert into t values (1)", name(None, "t")),
            ("INSERT LOW_PRIORITY IGNORE INTO `d`.`t``1` (a) SELECT 1", name(Some("d"), "t`1")),
            ("/* c */ replace t set a = 1", name(None, "t")),
            ("update t set a = 1", name(None, "t")),
            ("delete from d.t where a = 1", name(Some("d"), "t")),
            ("delete from t", name(None, "t")),
            ("update t, u set t.a = u.a", None),
            ("update t join u using (id) set t.a = 1", None),
            ("delete t from t join u", None),
            ("delete from t using t join u", None),
            ("load data infile 'x' into table t", None),
            ("call p()", None),
            ("insert", None),
            ("", None),
        ] {
            assert_eq!(target(sql.as_bytes()), expected, "{sql}");
        }
    }

    #[test]
    fn a_statement_says_what_it_does_and_to_which_tables() {
        let told = |sql: &str| {
            let Statement { verb, tables, .. } = Statement::read(sql.as_bytes());
            let name = |(db, table): (Option<String>, String)| db.map_or(table.clone(), |db| format!("{db}.{table}"));
            (verb, tables.into_iter().map(name).collect::<Vec<_>>().join(" "))
        };
        for (sql, verb, expected) in [
            ("CREATE TABLE t (a INT)", DdlVerb::CreateTable, "t"),
            ("create table if not exists `d`.`t` like u", DdlVerb::CreateTable, "d.t"),
            ("create temporary table if not exists `d`.`t` like u", DdlVerb::Other, ""),
            ("/* a temporary table */ alter table t add a int", DdlVerb::AlterTable, "t"),
            ("drop table `if`", DdlVerb::DropTable, "if"),
            ("CREATE OR REPLACE TABLE d.t (a INT)", DdlVerb::CreateTable, "d.t"),
            ("/* c */ ALTER ONLINE TABLE t ADD a INT", DdlVerb::AlterTable, "t"),
            ("CREATE UNIQUE INDEX i USING BTREE ON d.t (a)", DdlVerb::Index, "d.t"),
            ("DROP INDEX i ON t", DdlVerb::Index, "t"),
            ("DROP TABLE IF EXISTS a, d.b , `c` /* generated by server */", DdlVerb::DropTable, "a d.b c"),
            ("RENAME TABLE a TO b, d.c TO d.e", DdlVerb::RenameTable, "a b d.c d.e"),
            ("CREATE DATABASE d CHARACTER SET latin1", DdlVerb::CreateDatabase, ""),
            ("ALTER SCHEMA d READ ONLY=1", DdlVerb::AlterDatabase, ""),
            ("DROP DATABASE d", DdlVerb::DropDatabase, ""),
            ("SET STATEMENT max_statement_time=1 FOR ALTER TABLE t ADD a INT", DdlVerb::AlterTable, "t"),
            ("CREATE VIEW v AS SELECT * FROM `table`", DdlVerb::Other, ""),
            ("CREATE DEFINER=`root`@`%` TRIGGER g BEFORE INSERT ON t FOR EACH ROW SET NEW.a=1", DdlVerb::Other, ""),
            ("GRANT SELECT ON TABLE t TO u", DdlVerb::Other, ""),
            ("FROBNICATE TABLE t", DdlVerb::Other, ""),
        ] {
            assert_eq!(told(sql), (verb, expected.to_owned()), "{sql}");
        }
    }

    #[test]
    fn rows_that_go_without_an_event_are_seen() {
        for (sql, verb) in [
            ("ALTER TABLE t DROP PARTITION p0, p1", Some("DROP")),
            ("alter table t truncate /* all */ partition all", Some("TRUNCATE")),
            ("ALTER TABLE t EXCHANGE PARTITION p0 WITH TABLE u", Some("EXCHANGE")),
            ("ALTER TABLE t DISCARD TABLESPACE", Some("DISCARD")),
            ("ALTER TABLE t CONVERT TABLE u TO PARTITION p VALUES LESS THAN (9)", Some("CONVERT")),
            ("ALTER TABLE t REORGANIZE PARTITION p0 INTO (PARTITION a VALUES LESS THAN (1))", None),
            ("ALTER TABLE t DROP COLUMN partition_id", None),
            ("ALTER TABLE t REMOVE PARTITIONING", None),
            ("ALTER TABLE t ADD PARTITION (PARTITION p VALUES LESS THAN (9))", None),
        ] {
            assert_eq!(effect(sql.as_bytes()).rows, verb, "{sql}");
        }
    }

    #[test]
    fn a_name_is_found_in_every_dress_and_only_as_a_word() {
        for (sql, name) in [
            ("alter table t add a int", "t"),
            ("ALTER TABLE `shop`.`T` ADD a INT", "t"),
            ("alter table shop.orders/**/add a int", "orders"),
            ("alter table `we``ird` add a int", "we`ird"),
            ("alter table \"q\"\"t\" add a int", "q\"t"),
            ("alter table `a b.c` add a int", "a b.c"),
            ("alter table `größe` add a int", "größe"),
            ("rename table x to t,t to y", "t"),
        ] {
            assert!(names(sql.as_bytes(), name), "{sql}: {name}");
        }
        // latin1
        assert!(names(b"alter table `gr\xf6\xdfe` add a int", "größe"));
        for (sql, name) in [
            ("alter table orders add a int", "order"),
            ("alter table t1 add a int", "t"),
            ("alter table _t_old drop a", "t"),
            ("create table käse (a int)", "se"),
            ("alter table u add a int", "größe"),
            ("", "t"),
        ] {
            assert!(!names(sql.as_bytes(), name), "{sql}: {name}");
        }
    }

    #[test]
    fn no_bytes_are_too_odd() {
        for odd in [&b""[..], b"/*", b"--", b"/*!", b"`", b"\xff\xfe", b"SET STATEMENT", b"ALTER", b"CREATE /*M!999999"]
        {
            effect(odd);
            Statement::read(odd);
            names(odd, "t");
        }
    }
}
