//! The template of topic names: `{name}.{schema}.{table}`.
//!
//! It is cut into parts once, when the configuration is read; the router fills them in (and escapes odd characters of
//! database names, so that two tables never share a topic by accident). Letters of the template itself must be legal in a
//! topic's name: ASCII letters, digits, `.`, `_` and `-`
//! (<https://github.com/apache/kafka/blob/trunk/clients/src/main/java/org/apache/kafka/common/internals/Topic.java>).

use std::fmt;

use super::keys::not_one_of;

/// Topics that start like this hold checkpoints; events must not be written there.
pub const CHECKPOINT_PREFIX: &str = "rowcast.checkpoint.";

/// The template that holds if none is written.
pub const DEFAULT_TOPIC: &str = "{name}.{schema}.{table}";

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicTemplate {
    text: String,
    parts: Vec<TopicPart>,
    sanitised: bool,
}

/// A piece of a [`TopicTemplate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicPart {
    /// Text, legal in a topic's name.
    Literal(String),
    /// `{name}`: the source's name.
    Name,
    /// `{db}`: the database.
    Database,
    /// `{schema}`: the schema; the database for MySQL and MariaDB.
    Schema,
    /// `{table}`: the table.
    Table,
}

const PLACEHOLDERS: [(&str, TopicPart); 4] = [
    ("name", TopicPart::Name),
    ("db", TopicPart::Database),
    ("schema", TopicPart::Schema),
    ("table", TopicPart::Table),
];

impl TopicTemplate {
    /// The parts in order; never empty.
    pub fn parts(&self) -> &[TopicPart] {
        &self.parts
    }

    /// Cuts a template into its parts; the error says what is expected.
    ///
    /// # Errors
    /// An unknown placeholder, a brace without its pair, a letter that Kafka doesn't allow, or a name that collides with
    /// the checkpoint topics.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((literal, after)) = rest.split_once('{') {
            push_literal(&mut parts, literal)?;
            let (name, after) =
                after.split_once('}').ok_or("`{` has no closing `}`; a placeholder is written {table}")?;
            let part = PLACEHOLDERS.into_iter().find(|(known, _)| *known == name).map(|(_, part)| part);
            parts.push(part.ok_or_else(|| {
                format!("unknown placeholder `{{{name}}}`; {}", not_one_of(name, &PLACEHOLDERS.map(|(known, _)| known)))
            })?);
            rest = after;
        }
        push_literal(&mut parts, rest)?;
        if parts.is_empty() || text == "." || text == ".." {
            return Err("expected a topic's name, such as {name}.{schema}.{table}".to_owned());
        }
        if text.starts_with(CHECKPOINT_PREFIX) {
            return Err(format!("topics that start with `{CHECKPOINT_PREFIX}` hold checkpoints; choose another name"));
        }
        Ok(Self { text: text.to_owned(), parts, sanitised: false })
    }

    /// The same for topics as Debezium names them: with `prefix` in place of the source's name, and `_` for each odd character of the
    /// database's names, so that two tables may share a topic.
    #[must_use]
    pub fn sanitised(&self, prefix: &str) -> Self {
        let part = |part: &TopicPart| match part {
            TopicPart::Name => TopicPart::Literal(prefix.to_owned()),
            part => part.clone(),
        };
        Self {
            text: self.text.replace("{name}", prefix),
            parts: self.parts.iter().map(part).collect(),
            sanitised: true,
        }
    }

    /// Whether odd characters are replaced instead of escaped.
    pub fn is_sanitised(&self) -> bool {
        self.sanitised
    }
}

impl fmt::Display for TopicTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn push_literal(parts: &mut Vec<TopicPart>, literal: &str) -> Result<(), String> {
    let legal = |letter: &char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
    if let Some(odd) = literal.chars().find(|letter| !legal(letter)) {
        return Err(match odd {
            '}' => "`}` has no opening `{`".to_owned(),
            odd => format!("`{odd}` is not allowed in a topic's name; allowed: letters, digits, . _ -"),
        });
    }
    if !literal.is_empty() {
        parts.push(TopicPart::Literal(literal.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_cut_into_its_parts() {
        let template = TopicTemplate::parse("cdc-{name}.{db}.{schema}{table}").unwrap();
        assert_eq!(
            template.parts(),
            [
                TopicPart::Literal("cdc-".into()),
                TopicPart::Name,
                TopicPart::Literal(".".into()),
                TopicPart::Database,
                TopicPart::Literal(".".into()),
                TopicPart::Schema,
                TopicPart::Table,
            ]
        );
        assert_eq!(TopicTemplate::parse("all-events").unwrap().parts(), [TopicPart::Literal("all-events".into())]);
    }

    #[test]
    fn what_is_no_topic_is_refused_with_the_reason() {
        for (text, why) in [
            ("{tabel}", "unknown placeholder `{tabel}`; did you mean `table`? allowed: name, db, schema, table"),
            ("{zzzzz}", "unknown placeholder `{zzzzz}`; allowed: name, db, schema, table"),
            ("{}", "unknown placeholder `{}`; allowed: name, db, schema, table"),
            ("{table", "`{` has no closing `}`; a placeholder is written {table}"),
            ("table}", "`}` has no opening `{`"),
            ("a b", "` ` is not allowed in a topic's name; allowed: letters, digits, . _ -"),
            ("a/{table}", "`/` is not allowed in a topic's name; allowed: letters, digits, . _ -"),
            ("", "expected a topic's name, such as {name}.{schema}.{table}"),
            ("..", "expected a topic's name, such as {name}.{schema}.{table}"),
            (
                "rowcast.checkpoint.{name}",
                "topics that start with `rowcast.checkpoint.` hold checkpoints; choose another name",
            ),
        ] {
            assert_eq!(TopicTemplate::parse(text).unwrap_err(), why, "{text}");
        }
    }
}
