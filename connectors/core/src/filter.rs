//! Which tables are captured: patterns `qualifier.table` with `*` and `?`; `!` in front excludes.
//!
//! A table is captured if at least one pattern names it and no `!` pattern does; the order of the patterns
//! doesn't matter. Names are compared exactly (servers fold case themselves, each in its own way).

use crate::schema::TableName;

/// A list of patterns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFilter {
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    qualifier: String,
    table: String,
}

impl TableFilter {
    /// Parses the patterns.
    ///
    /// # Errors
    /// For an empty list, a list that only excludes, or a pattern without exactly one qualifier (names with a
    /// dot in them are matched by `?`).
    pub fn parse<S: AsRef<str>>(patterns: &[S]) -> Result<Self, String> {
        let mut filter = Self { include: Vec::new(), exclude: Vec::new() };
        for text in patterns {
            let text = text.as_ref().trim();
            let (body, excludes) = match text.strip_prefix('!') {
                Some(rest) => (rest, true),
                None => (text, false),
            };
            let parts: Vec<&str> = body.split('.').collect();
            let [qualifier, table] = parts.as_slice() else {
                return Err(format!("`{text}` is not of the form `schema.table`, with `*` and `?` as wildcards"));
            };
            if qualifier.is_empty() || table.is_empty() {
                return Err(format!("`{text}` has an empty part; the form is `schema.table`"));
            }
            let pattern = Pattern { qualifier: (*qualifier).to_owned(), table: (*table).to_owned() };
            if excludes { filter.exclude.push(pattern) } else { filter.include.push(pattern) }
        }
        if filter.include.is_empty() {
            return Err("no pattern that includes a table".to_owned());
        }
        Ok(filter)
    }

    /// Whether the table is captured.
    pub fn matches(&self, name: &TableName) -> bool {
        self.matches_parts(name.qualifier(), &name.table)
    }

    /// Whether `qualifier.table` is captured.
    pub fn matches_parts(&self, qualifier: &str, table: &str) -> bool {
        let any =
            |patterns: &[Pattern]| patterns.iter().any(|p| glob(&p.qualifier, qualifier) && glob(&p.table, table));
        any(&self.include) && !any(&self.exclude)
    }

    /// Including patterns without wildcards: tables that must exist, as (qualifier, table).
    pub fn literal_includes(&self) -> impl Iterator<Item = (&str, &str)> {
        let plain = |text: &str| !text.contains(['*', '?']);
        self.include
            .iter()
            .filter(move |p| plain(&p.qualifier) && plain(&p.table))
            .map(|p| (p.qualifier.as_str(), p.table.as_str()))
    }
}

/// `*` matches any run of characters, `?` exactly one. Linear in practice: only the last star is retried.
fn glob(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    let mut retry: Option<(std::str::Chars<'_>, std::str::Chars<'_>)> = None;
    loop {
        let here = (pattern.clone(), text.clone());
        match (pattern.next(), text.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                retry = Some((pattern.clone(), here.1.clone()));
                text = here.1;
                continue;
            }
            (Some('?'), Some(_)) => continue,
            (Some(p), Some(t)) if p == t => continue,
            _ => {}
        }
        match &mut retry {
            Some((after_star, from)) => {
                if from.next().is_none() {
                    return false;
                }
                pattern = after_star.clone();
                text = from.clone();
            }
            None => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn exclusion_wins_whatever_the_order() {
        let filter = TableFilter::parse(&["!public.customer_audit", "public.orders", "public.customer_*"]).unwrap();
        assert!(filter.matches_parts("public", "orders"));
        assert!(filter.matches_parts("public", "customer_"));
        assert!(filter.matches_parts("public", "customer_address"));
        assert!(!filter.matches_parts("public", "customer_audit"));
        assert!(!filter.matches_parts("other", "orders"));
        assert_eq!(filter.literal_includes().collect::<Vec<_>>(), [("public", "orders")]);
    }

    #[test]
    fn wildcards_match_as_in_a_shell() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abb", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*ab*ab", "abxabab", true),
            ("**a", "a", true),
            ("ä?", "äö", true),
            ("odd?name", "odd.name", true),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn a_pattern_without_a_qualifier_is_refused_with_the_form() {
        assert!(TableFilter::parse(&["orders"]).unwrap_err().contains("schema.table"));
        assert!(TableFilter::parse(&["!a.b"]).is_err());
        assert!(TableFilter::parse::<&str>(&[]).is_err());
    }
}
