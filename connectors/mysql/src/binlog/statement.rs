//! Statements in the binlog: told apart by their first words, without a grammar.
//!
//! What matters: the ends of transactions, statements that change rows (binlog_format was not ROW), and TRUNCATE,
//! which empties a table without a row event. Everything else is DDL, which only shows as the next TABLE_MAP.

/// What a statement means for the stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Statement<'a> {
    Begin,
    Commit,
    Rollback,
    /// ROLLBACK TO: takes back row events that are in the log before it. The savepoint's name, if it can be read.
    RollbackTo(Option<String>),
    Savepoint(Option<String>),
    /// RELEASE SAVEPOINT.
    Release,
    XaStart,
    XaEnd,
    /// XA COMMIT of a transaction whose rows came with an earlier XA PREPARE; its name: what stands behind the keywords.
    XaCommit(&'a [u8]),
    /// XA ROLLBACK of a prepared transaction.
    XaRollback(&'a [u8]),
    /// A statement that changes rows, by its keyword.
    Dml(&'a str),
    Truncate {
        /// None: the session's database.
        db: Option<String>,
        table: String,
    },
    /// A TRUNCATE whose table can't be read.
    TruncateUnread,
    Other,
}

impl Statement<'_> {
    /// Whether it stands in a transaction that has begun.
    pub(crate) fn goes_on(&self) -> bool {
        matches!(
            self,
            Self::Commit | Self::Rollback | Self::RollbackTo(_) | Self::Savepoint(_) | Self::Release | Self::XaEnd
        )
    }
}

/// Classifies a statement.
pub(crate) fn classify(sql: &[u8]) -> Statement<'_> {
    let mut words = Words { rest: sql, executable: false };
    let Some(mut first) = words.next() else { return Statement::Other };
    if first.is("SET") && words.clone().next().is_some_and(|word| word.is("STATEMENT")) {
        // MariaDB: SET STATEMENT variable=value, ... FOR statement
        first = loop {
            match words.next() {
                None => return Statement::Other,
                Some(word) if word.is("FOR") => match words.next() {
                    Some(word) => break word,
                    None => return Statement::Other,
                },
                Some(_) => {}
            }
        };
    }
    let Word::Plain(text) = first else { return Statement::Other };
    let second_is = |expected: &str| words.clone().next().is_some_and(|word| word.is(expected));
    match text.to_ascii_uppercase().as_str() {
        "BEGIN" => Statement::Begin,
        "COMMIT" => Statement::Commit,
        "ROLLBACK" if second_is("TO") => {
            words.next();
            let mut name = words.next();
            if name.as_ref().is_some_and(|word| word.is("SAVEPOINT")) {
                name = words.next();
            }
            Statement::RollbackTo(name.and_then(Word::name))
        }
        "ROLLBACK" => Statement::Rollback,
        "SAVEPOINT" => Statement::Savepoint(words.next().and_then(Word::name)),
        "RELEASE" => Statement::Release,
        "XA" if second_is("COMMIT") => {
            words.next();
            Statement::XaCommit(words.rest.trim_ascii())
        }
        "XA" if second_is("ROLLBACK") => {
            words.next();
            Statement::XaRollback(words.rest.trim_ascii())
        }
        "XA" if second_is("END") => Statement::XaEnd,
        "XA" => Statement::XaStart,
        "INSERT" => Statement::Dml("INSERT"),
        "REPLACE" => Statement::Dml("REPLACE"),
        "UPDATE" => Statement::Dml("UPDATE"),
        "DELETE" => delete(&mut words),
        "LOAD" => Statement::Dml("LOAD"),
        "CALL" => Statement::Dml("CALL"),
        "WITH" => Statement::Dml("WITH"),
        "SELECT" => Statement::Dml("SELECT"),
        "DO" => Statement::Dml("DO"),
        "TRUNCATE" => truncate(&mut words),
        _ => Statement::Other,
    }
}

/// `DELETE FROM [db.]table` with nothing behind it empties the table: so the servers themselves say after a restart that a MEMORY table is
/// empty now, whatever binlog_format is.
fn delete<'a>(words: &mut Words<'a>) -> Statement<'a> {
    let other = Statement::Dml("DELETE");
    if !words.next().is_some_and(|word| word.is("FROM")) {
        return other;
    }
    let Some(first) = words.next().and_then(Word::name) else { return other };
    let (db, table, behind) = match words.next() {
        Some(Word::Sign(b'.')) => match words.next().and_then(Word::name) {
            Some(table) => (Some(first), table, words.next()),
            None => return other,
        },
        behind => (None, first, behind),
    };
    match behind {
        None | Some(Word::Sign(b';')) => Statement::Truncate { db, table },
        Some(_) => other,
    }
}

/// `TRUNCATE [TABLE] [db.]table`
fn truncate<'a>(words: &mut Words<'a>) -> Statement<'a> {
    let mut next = words.next();
    // A table may itself be called `table` only in quotes.
    if next.as_ref().is_some_and(|word| word.is("TABLE")) {
        next = words.next();
    }
    let first = next.and_then(Word::name);
    if words.clone().next().is_some_and(|word| matches!(word, Word::Sign(b'.'))) {
        words.next();
        return match (first, words.next().and_then(Word::name)) {
            (Some(db), Some(table)) => Statement::Truncate { db: Some(db), table },
            _ => Statement::TruncateUnread,
        };
    }
    match first {
        Some(table) => Statement::Truncate { db: None, table },
        None => Statement::TruncateUnread,
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Word<'a> {
    Plain(&'a str),
    Quoted(Option<String>),
    Sign(u8),
}

impl Word<'_> {
    pub(crate) fn is(&self, keyword: &str) -> bool {
        matches!(self, Word::Plain(text) if text.eq_ignore_ascii_case(keyword))
    }

    pub(crate) fn name(self) -> Option<String> {
        match self {
            Word::Plain(text) => Some(text.to_owned()),
            Word::Quoted(text) => text,
            Word::Sign(_) => None,
        }
    }
}

/// Words of a statement; comments are skipped, executable comments (`/*!50100 ... */`) are read.
#[derive(Debug, Clone)]
pub(crate) struct Words<'a> {
    rest: &'a [u8],
    executable: bool,
}

impl<'a> Words<'a> {
    pub(crate) fn new(sql: &'a [u8]) -> Self {
        Self { rest: sql, executable: false }
    }

    fn skip(&mut self, count: usize) {
        self.rest = self.rest.get(count..).unwrap_or(&[]);
    }

    fn skip_past(&mut self, end: &[u8]) {
        let found = self.rest.windows(end.len()).position(|window| window == end);
        self.skip(found.map_or(self.rest.len(), |at| at + end.len()));
    }

    /// Skips blanks and comments.
    fn blanks(&mut self) {
        loop {
            match self.rest {
                [b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c, ..] => self.skip(1),
                [b'#', ..] => self.skip_past(b"\n"),
                [b'-', b'-', blank, ..] if *blank <= b' ' => self.skip_past(b"\n"),
                [b'/', b'*', b'!', ..] | [b'/', b'*', b'M', b'!', ..] => {
                    self.executable = true;
                    self.skip_past(b"!");
                    let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
                    self.skip(digits.min(6));
                }
                [b'/', b'*', ..] => {
                    self.skip(2);
                    self.skip_past(b"*/");
                }
                [b'*', b'/', ..] if self.executable => {
                    self.executable = false;
                    self.skip(2);
                }
                _ => return,
            }
        }
    }

    pub(crate) fn next(&mut self) -> Option<Word<'a>> {
        self.blanks();
        let first = *self.rest.first()?;
        if matches!(first, b'`' | b'"' | b'\'') {
            return Some(Word::Quoted(self.quoted(first)));
        }
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || *byte >= 0x80;
        let length = self.rest.iter().take_while(|byte| is_word(byte)).count();
        let (word, tail) = self.rest.split_at_checked(length.max(1))?;
        self.rest = tail;
        if length == 0 {
            return Some(Word::Sign(first));
        }
        Some(std::str::from_utf8(word).map_or(Word::Quoted(None), Word::Plain))
    }

    /// A quoted name, the quote doubled inside; none if it has no end or isn't UTF-8.
    fn quoted(&mut self, quote: u8) -> Option<String> {
        self.skip(1);
        let mut name = Vec::new();
        loop {
            let byte = *self.rest.first()?;
            self.skip(1);
            if byte == quote {
                if self.rest.first() != Some(&quote) {
                    return String::from_utf8(name).ok();
                }
                self.skip(1);
            }
            name.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truncated(db: Option<&str>, table: &str) -> Statement<'static> {
        Statement::Truncate { db: db.map(str::to_owned), table: table.to_owned() }
    }

    #[test]
    fn truncate_is_found_in_every_dress() {
        for sql in [
            "truncate t",
            "TRUNCATE TABLE t",
            "/* why */ TRUNCATE /* x */ TABLE -- y\n t;",
            "# c\ntruncate table `t`",
            "/*!50100 TRUNCATE TABLE t */",
            "SET STATEMENT max_statement_time=1 FOR TRUNCATE TABLE t WAIT 5",
        ] {
            assert_eq!(classify(sql.as_bytes()), truncated(None, "t"), "{sql}");
        }
        assert_eq!(classify(b"TRUNCATE shop . `we``ird.n\xc3\xa4me`"), truncated(Some("shop"), "we`ird.näme"));
        assert_eq!(classify(b"TRUNCATE `a``b`.`c`"), truncated(Some("a`b"), "c"));
        assert_eq!(classify(b"TRUNCATE TABLE `open"), Statement::TruncateUnread);
        assert_eq!(classify(b"TRUNCATE TABLE caf\xe9"), Statement::TruncateUnread);
    }

    #[test]
    fn a_table_that_a_restart_emptied_is_truncated() {
        assert_eq!(classify(b"DELETE FROM `db`.`t`"), truncated(Some("db"), "t"));
        assert_eq!(classify(b"DELETE FROM `t` ;"), truncated(None, "t"));
        assert_eq!(classify(b"TRUNCATE TABLE `db`.`t` /* generated by server */"), truncated(Some("db"), "t"));
        for sql in [
            "DELETE FROM t WHERE a=1",
            "DELETE t FROM t JOIN u",
            "DELETE FROM t USING t JOIN u",
            "DELETE FROM",
            "DELETE FROM t, u",
        ] {
            assert_eq!(classify(sql.as_bytes()), Statement::Dml("DELETE"), "{sql}");
        }
    }

    #[test]
    fn the_ends_of_transactions_and_row_changes_are_told_apart_from_ddl() {
        assert_eq!(classify(b"BEGIN"), Statement::Begin);
        assert_eq!(classify(b"commit"), Statement::Commit);
        assert_eq!(classify(b"ROLLBACK"), Statement::Rollback);
        assert_eq!(classify(b"ROLLBACK TO `sp`"), Statement::RollbackTo(Some("sp".into())));
        assert_eq!(classify(b"ROLLBACK TO SAVEPOINT sp"), Statement::RollbackTo(Some("sp".into())));
        assert_eq!(classify(b"SAVEPOINT `a``b`"), Statement::Savepoint(Some("a`b".into())));
        assert_eq!(classify(b"XA START X'61',X'',1"), Statement::XaStart);
        assert_eq!(classify(b"XA END X'61',X'',1"), Statement::XaEnd);
        assert_eq!(classify(b"XA COMMIT X'61',X'',1"), Statement::XaCommit(b"X'61',X'',1"));
        assert_eq!(classify(b"XA ROLLBACK X'61',X'',1"), Statement::XaRollback(b"X'61',X'',1"));
        assert_eq!(classify(b"CREATE TABLE truncate_me (a int)"), Statement::Other);
        assert_eq!(classify(b"ALTER TABLE t TRUNCATE PARTITION p"), Statement::Other);
        assert_eq!(classify(b"/* a */ insert into t values (1)"), Statement::Dml("INSERT"));
        assert_eq!(classify(b"CREATE TABLE truncate_me (a int)"), Statement::Other);
        for odd in [&b""[..], b"/*", b"--", b"/*!", b"`", b"\xff\xfe", b"SET STATEMENT", b"/*M!999999"] {
            classify(odd);
        }
    }
}
