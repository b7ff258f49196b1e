//! Which tables are captured: patterns such as `public.customer_*`, `"!public.customer_audit"`.
//!
//! A pattern is `schema.table` (PostgreSQL) or `database.table` (MySQL, MariaDB). In a part, `*` stands for any letters,
//! also none, and `?` for one; a part in double quotes is taken literally, so that names with dots or stars can be
//! written: `public."a.b"` (`""` is one quote). `!` in front excludes. A table is captured if a pattern matches it and no
//! excluding pattern does; the order of the patterns doesn't matter. Names are compared exactly, capitals included.

use std::fmt;

use crate::schema::TableName;

/// The tables of a source: at least one including pattern, and any number of excluding ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableFilter {
    patterns: Vec<TablePattern>,
}

/// One pattern of a [`TableFilter`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TablePattern {
    text: String,
    excludes: bool,
    schema: Glob,
    table: Glob,
}

/// A name with `*` (any letters, also none) and `?` (one letter) in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    tokens: Vec<Token>,
    /// The name, if there is no `*` or `?` in it.
    literal: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Letter(char),
    /// `?`
    One,
    /// `*`
    Any,
}

impl TableFilter {
    /// A filter of these patterns; `None` if none of them includes anything.
    pub fn new(patterns: Vec<TablePattern>) -> Option<Self> {
        patterns.iter().any(|pattern| !pattern.excludes).then_some(Self { patterns })
    }

    /// Whether the table is captured. `schema` is the database for MySQL and MariaDB.
    pub fn matches_parts(&self, schema: &str, table: &str) -> bool {
        let matching = |excludes: bool| {
            self.patterns.iter().any(|pattern| pattern.excludes == excludes && pattern.matches(schema, table))
        };
        matching(false) && !matching(true)
    }

    /// Whether there may be captured tables in a schema (MySQL and MariaDB: a database).
    pub fn may_match_in(&self, schema: &str) -> bool {
        self.patterns.iter().any(|pattern| !pattern.excludes && pattern.schema.matches(schema))
    }

    /// Parses a list of patterns.
    ///
    /// # Errors
    /// The first text that is no pattern, or a list that includes nothing.
    pub fn parse<S: AsRef<str>>(patterns: &[S]) -> Result<Self, String> {
        let patterns = patterns.iter().map(|text| TablePattern::parse(text.as_ref())).collect::<Result<_, _>>()?;
        Self::new(patterns).ok_or_else(|| "expected at least one pattern without `!`".to_owned())
    }

    /// Whether the table is captured.
    pub fn matches(&self, name: &TableName) -> bool {
        self.matches_parts(name.qualifier(), &name.table)
    }

    /// Tables named without `*` and `?` by a pattern that includes: these must exist.
    pub fn literal_includes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.patterns
            .iter()
            .filter(|pattern| !pattern.excludes)
            .filter_map(|pattern| Some((pattern.schema.literal.as_deref()?, pattern.table.literal.as_deref()?)))
    }
}

impl fmt::Display for TableFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, pattern) in self.patterns.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{pattern}")?;
        }
        Ok(())
    }
}

impl TablePattern {
    /// Reads a pattern; the error says what is expected.
    ///
    /// # Errors
    /// The text is no `schema.table`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (excludes, rest) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let mut letters = rest.chars().peekable();
        let schema = part(&mut letters)?;
        if letters.next_if_eq(&'.').is_none() {
            return Err("expected schema.table, such as public.orders or public.*".to_owned());
        }
        let table = part(&mut letters)?;
        if letters.next().is_some() {
            return Err(
                "expected schema.table with a single dot; write a name with a dot in quotes: public.\"a.b\"".to_owned()
            );
        }
        Ok(Self { text: text.to_owned(), excludes, schema, table })
    }

    /// Whether the pattern takes tables out.
    pub fn excludes(&self) -> bool {
        self.excludes
    }

    /// Whether schema and table match, be it to include or to exclude.
    pub fn matches(&self, schema: &str, table: &str) -> bool {
        self.schema.matches(schema) && self.table.matches(table)
    }
}

impl fmt::Display for TablePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn part(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Glob, String> {
    let mut tokens = Vec::new();
    if letters.next_if_eq(&'"').is_some() {
        loop {
            match letters.next() {
                Some('"') if letters.next_if_eq(&'"').is_some() => tokens.push(Token::Letter('"')),
                Some('"') => break,
                Some(letter) => tokens.push(Token::Letter(letter)),
                None => return Err("a quote is not closed".to_owned()),
            }
        }
    } else {
        while let Some(letter) = letters.next_if(|letter| *letter != '.') {
            tokens.push(match letter {
                '*' => Token::Any,
                '?' => Token::One,
                '!' | '"' | '\'' | '`' | '[' | ']' | '{' | '}' | '(' | ')' | '|' | '^' | '\\' | ',' | '/' => {
                    return Err(format!(
                        "`{letter}` has no meaning here: patterns know * and ?, and ! in front; \
                         write a name with odd characters in double quotes: public.\"a{letter}b\""
                    ));
                }
                letter if letter.is_whitespace() || letter.is_control() => {
                    return Err("it has blanks; write a name with blanks in double quotes: public.\"a b\"".to_owned());
                }
                letter => Token::Letter(letter),
            });
        }
    }
    if tokens.is_empty() {
        return Err("expected schema.table, such as public.orders or public.*; a part of it is empty".to_owned());
    }
    let literal = tokens.iter().map(|token| match token {
        Token::Letter(letter) => Some(*letter),
        Token::One | Token::Any => None,
    });
    let literal = literal.collect();
    Ok(Glob { tokens, literal })
}

impl Glob {
    /// A pattern for whole names; every letter but `*` and `?` stands for itself.
    pub fn new(pattern: &str) -> Self {
        let token = |letter| match letter {
            '*' => Token::Any,
            '?' => Token::One,
            letter => Token::Letter(letter),
        };
        let tokens: Vec<Token> = pattern.chars().map(token).collect();
        let literal = (!pattern.contains(['*', '?'])).then(|| pattern.to_owned());
        Self { tokens, literal }
    }

    /// Whether the whole text matches.
    ///
    /// Runs all ways to match side by side, so that `*a*a*a*` can't take exponential time. `reached` holds, for each
    /// token, whether the tokens before it can match the text so far.
    pub fn matches(&self, text: &str) -> bool {
        let spread = |mut reached: Vec<bool>| {
            let mut before = false;
            for (state, token) in reached.iter_mut().zip(self.tokens.iter().map(Some).chain([None])) {
                *state |= before;
                before = *state && token == Some(&Token::Any);
            }
            reached
        };
        let start = std::iter::once(true).chain(self.tokens.iter().map(|_| false)).collect();
        let mut reached = spread(start);
        for letter in text.chars() {
            let mut next = Vec::with_capacity(reached.len());
            let mut stepped = false;
            for (state, token) in reached.iter().zip(self.tokens.iter().map(Some).chain([None])) {
                next.push(stepped || (*state && token == Some(&Token::Any)));
                stepped = *state && (token == Some(&Token::One) || token == Some(&Token::Letter(letter)));
            }
            reached = spread(next);
        }
        reached.last().copied().unwrap_or(false)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn filter(patterns: &[&str]) -> TableFilter {
        TableFilter::new(patterns.iter().map(|text| TablePattern::parse(text).unwrap()).collect()).unwrap()
    }

    #[test]
    fn globs_match_whole_names() {
        for (pattern, table, expected) in [
            ("*", "", true),
            ("*", "anything", true),
            ("a*", "a", true),
            ("a*", "ba", false),
            ("*a", "bba", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXcYb", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("?", "ü", true),
            ("orders", "orders", true),
            ("orders", "Orders", false),
            ("orders", "orders2", false),
            ("**", "x", true),
            ("*a*a*a*a*a*a*a*a*a*a*b", &"a".repeat(200), false),
        ] {
            let parsed = TablePattern::parse(&format!("s.{pattern}")).unwrap();
            assert_eq!(parsed.matches("s", table), expected, "{pattern} {table}");
        }
    }

    #[test]
    fn a_table_is_captured_if_included_and_not_excluded_in_any_order() {
        for patterns in [
            ["public.orders", "public.customer_*", "!public.customer_audit"],
            ["!public.customer_audit", "public.customer_*", "public.orders"],
        ] {
            let filter = filter(&patterns);
            assert!(filter.matches_parts("public", "orders"));
            assert!(filter.matches_parts("public", "customer_address"));
            assert!(!filter.matches_parts("public", "customer_audit"));
            assert!(!filter.matches_parts("other", "orders"));
            assert_eq!(filter.literal_includes().collect::<Vec<_>>(), [("public", "orders")]);
        }
    }

    #[test]
    fn quoted_parts_are_literal() {
        let filter = filter(&["\"my db\".\"a.b*\"\"\""]);
        assert!(filter.matches_parts("my db", "a.b*\""));
        assert!(!filter.matches_parts("my db", "a.bx\""));
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_the_reason() {
        for (text, why) in [
            ("orders", "expected schema.table"),
            ("", "a part of it is empty"),
            ("public.", "a part of it is empty"),
            ("a.b.c", "single dot"),
            ("public.a b", "has blanks"),
            ("public.[ab]", "`[` has no meaning here"),
            ("public.\"a", "not closed"),
            ("!!a.b", "`!` has no meaning here"),
        ] {
            let error = TablePattern::parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn exclusions_alone_are_no_filter() {
        assert_eq!(TableFilter::new(vec![TablePattern::parse("!a.b").unwrap()]), None);
        assert_eq!(TableFilter::new(vec![]), None);
    }
}
