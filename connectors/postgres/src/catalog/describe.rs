//! What schemas say of a table besides the form of its values: NULL, DEFAULT, comments, the catalog's types.
//!
//! Asked only if a format wants it ([`crate::Options::describe`]), once per Relation message and per look-up of a copy. The catalog
//! describes the table as it is now; the Relation message as of the change. A column that the catalog knows by name is described by
//! it; if its type is another one by now, its DEFAULT isn't believed. One that is gone may be NULL and has no more than its type.

use std::collections::HashMap;

use rowcast_core::{ColumnDefault, ColumnFacts, DefaultValue, PgType, SourceError, TableFacts};

use super::Catalog;
use crate::pgoutput::message::{Relation, RelationColumn};

/// Types in types: deeper than this isn't followed.
const MAX_NESTING: u8 = 16;

/// What the catalog says of a table.
#[derive(Debug, Default)]
pub(crate) struct Description {
    columns: HashMap<String, Described>,
    types: HashMap<u32, TypeRow>,
    primary_key: Vec<String>,
    unique_key: Vec<String>,
    comment: Option<String>,
}

#[derive(Debug)]
struct Described {
    oid: u32,
    not_null: bool,
    default: Option<String>,
    generated: bool,
    identity: bool,
    comment: Option<String>,
}

#[derive(Debug)]
struct TypeRow {
    schema: String,
    name: String,
    kind: char,
    base: u32,
    typmod: i32,
    element: u32,
}

impl Catalog {
    /// Describes a relation of the stream.
    pub(crate) async fn describe(&mut self, relation: &Relation) -> Result<Description, SourceError> {
        const DOING: &str = "describing a table";
        let mut found = Description::default();
        for row in self.query(DOING, COLUMNS, &[&relation.id]).await? {
            let described = Described {
                oid: row.get(1),
                not_null: row.get(2),
                default: row.get(3),
                generated: row.get(4),
                identity: row.get(5),
                comment: row.get(6),
            };
            found.columns.insert(row.get(0), described);
        }
        for row in self.query(DOING, INDEXES, &[&relation.id]).await? {
            let (primary, columns): (bool, Vec<String>) = (row.get(0), row.get(1));
            let key = if primary { &mut found.primary_key } else { &mut found.unique_key };
            if key.is_empty() {
                *key = columns;
            }
        }
        let rows = self.query(DOING, "SELECT obj_description($1::oid, 'pg_class')", &[&relation.id]).await?;
        found.comment = rows.first().and_then(|row| row.get(0));
        let oids: Vec<u32> = relation.columns.iter().map(|column| column.oid).collect();
        for row in self.query(DOING, TYPES, &[&oids]).await? {
            let kind: &str = row.get(3);
            let it = TypeRow {
                schema: row.get(1),
                name: row.get(2),
                kind: kind.chars().next().unwrap_or('b'),
                base: row.get(4),
                typmod: row.get(5),
                element: row.get(6),
            };
            found.types.insert(row.get(0), it);
        }
        Ok(found)
    }
}

impl Description {
    /// A column's facts, and whether it may be NULL.
    pub(crate) fn column(&self, column: &RelationColumn) -> (ColumnFacts, bool) {
        let pg = self.pg_type(column.oid, column.typmod, 0);
        let root = pg.as_ref().map(root);
        let (length, scale) = root.map_or((None, None), modifiers);
        let mut facts = ColumnFacts { length, scale, ..ColumnFacts::default() };
        let Some(known) = self.columns.get(&column.name) else { return (ColumnFacts { pg, ..facts }, true) };
        facts.generated = known.generated;
        facts.comment.clone_from(&known.comment);
        let default = known.default.as_ref().filter(|_| !known.generated && known.oid == column.oid);
        facts.auto_increment = known.identity || default.is_some_and(|sql| sql.contains("nextval("));
        facts.default = default.and_then(|sql| {
            let value = default_value(sql, root)?;
            Some(ColumnDefault { sql: sql.clone(), value })
        });
        (ColumnFacts { pg, ..facts }, !known.not_null)
    }

    /// The table's facts.
    pub(crate) fn table(&self, relation: &Relation) -> TableFacts {
        // a key that names a column which isn't there is another version's
        let indexes = |names: &[String]| {
            let index = |name: &String| relation.columns.iter().position(|column| column.name == *name);
            names.iter().map(index).collect::<Option<Vec<usize>>>().unwrap_or_default()
        };
        TableFacts {
            primary_key: indexes(&self.primary_key),
            unique_key: indexes(&self.unique_key),
            charset: None,
            comment: self.comment.clone(),
        }
    }

    fn pg_type(&self, oid: u32, typmod: i32, depth: u8) -> Option<PgType> {
        let row = self.types.get(&oid).filter(|_| depth <= MAX_NESTING)?;
        let inner = |oid: u32, typmod: i32| self.pg_type(oid, typmod, depth + 1).map(Box::new);
        Some(PgType {
            oid,
            schema: row.schema.clone(),
            name: row.name.clone(),
            typmod,
            kind: row.kind,
            base: if row.kind == 'd' { inner(row.base, row.typmod) } else { None },
            element: if row.element == 0 { None } else { inner(row.element, typmod) },
        })
    }
}

/// The type that values have: a domain's base.
fn root(pg: &PgType) -> &PgType {
    pg.base.as_deref().map_or(pg, root)
}

/// What a type's modifier says: length or precision, and scale.
fn modifiers(pg: &PgType) -> (Option<u32>, Option<i32>) {
    let typmod = pg.typmod;
    let ours = pg.schema == "pg_catalog" && typmod >= 0;
    let name = pg.name.strip_prefix('_').filter(|_| pg.element.is_some()).unwrap_or(&pg.name);
    match name {
        _ if !ours => (None, None),
        "bpchar" | "varchar" => (u32::try_from(typmod - 4).ok(), None),
        "numeric" => {
            let packed = typmod - 4;
            // the scale has 11 bits and a sign
            (u32::try_from(packed >> 16).ok(), Some(((packed & 0x7ff) ^ 0x400) - 0x400))
        }
        "interval" => (Some(typmod & 0xffff).filter(|digits| *digits <= 6).map(i32::unsigned_abs), None),
        "bit" | "varbit" | "time" | "timetz" | "timestamp" | "timestamptz" => (u32::try_from(typmod).ok(), None),
        _ => (None, None),
    }
}

/// What a DEFAULT comes to; none if that is NULL.
fn default_value(sql: &str, root: Option<&PgType>) -> Option<DefaultValue> {
    if sql == "NULL" || sql.starts_with("NULL::") {
        return None;
    }
    Some(match constant(sql) {
        Some(text) => DefaultValue::Constant(fitted(text, root)),
        None if is_call(sql) => DefaultValue::Call,
        None => DefaultValue::Expression,
    })
}

/// The value that a constant has in a column of this type: blanks behind a `char(n)`, zeros behind a `numeric(p,s)`.
fn fitted(mut text: String, root: Option<&PgType>) -> String {
    let Some(root) = root.filter(|root| root.schema == "pg_catalog") else { return text };
    match (root.name.as_str(), modifiers(root)) {
        ("bpchar", (Some(length), _)) => {
            let missing = (length as usize).saturating_sub(text.chars().count());
            text.extend(std::iter::repeat_n(' ', missing));
        }
        ("numeric", (_, Some(scale))) if text.bytes().all(|byte| byte.is_ascii_digit() || b"-.".contains(&byte)) => {
            let digits = text.split_once('.').map_or(0, |(_, digits)| digits.len());
            if let Some(missing) = usize::try_from(scale).ok().and_then(|scale| scale.checked_sub(digits)) {
                if digits == 0 && missing > 0 {
                    text.push('.');
                }
                text.extend(std::iter::repeat_n('0', missing));
            }
        }
        _ => {}
    }
    text
}

/// The text of a constant, as the type's output function writes it: a literal with at most a cast behind it.
fn constant(sql: &str) -> Option<String> {
    let (text, rest) = match sql {
        "true" => return Some("t".to_owned()),
        "false" => return Some("f".to_owned()),
        _ => literal(sql).or_else(|| number(sql))?,
    };
    (rest.is_empty() || is_cast(rest)).then_some(text)
}

/// A string in quotes, in all forms that the server writes, and what follows it.
fn literal(sql: &str) -> Option<(String, &str)> {
    let (escapes, quoted) = match sql.strip_prefix('E') {
        Some(rest) => (true, rest),
        None => (false, sql.strip_prefix('B').unwrap_or(sql)),
    };
    let inside = quoted.strip_prefix('\'')?;
    let mut text = String::new();
    let mut rest = inside.char_indices().peekable();
    while let Some((at, character)) = rest.next() {
        match character {
            '\'' => match rest.peek() {
                Some((_, '\'')) => {
                    rest.next();
                    text.push('\'');
                }
                _ => return Some((text, inside.get(at + 1..)?)),
            },
            // the server doubles a backslash and writes no other escape
            '\\' if escapes => text.push(rest.next()?.1),
            other => text.push(other),
        }
    }
    None
}

/// A number that needs no quotes, and what follows it.
fn number(sql: &str) -> Option<(String, &str)> {
    let (inside, rest) = match sql.strip_prefix('(') {
        Some(rest) => rest.split_once(')')?,
        None => sql.split_at(sql.find("::").unwrap_or(sql.len())),
    };
    let digits = inside.strip_prefix('-').unwrap_or(inside);
    let plain = digits.starts_with(|first: char| first.is_ascii_digit())
        && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    // a cast of a number may change it
    (plain && (rest.is_empty() || rest == "::numeric" || rest == "::double precision" || rest == "::real"))
        .then(|| (inside.to_owned(), ""))
}

/// `::type`, with a collation at most.
fn is_cast(rest: &str) -> bool {
    let of_a_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_ .\"(),[]".contains(&byte) || byte > 127;
    rest.strip_prefix("::").is_some_and(|name| !name.is_empty() && name.bytes().all(of_a_name))
}

/// A function's value, or the current time: what begins with a call, in parentheses or not.
fn is_call(sql: &str) -> bool {
    const NOW: [&str; 5] = ["current_timestamp", "current_time", "current_date", "localtime", "localtimestamp"];
    let inside = sql.strip_prefix('(').unwrap_or(sql);
    let name = inside.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || b"_.".contains(byte)).count();
    let called = name > 0 && inside.get(name..).is_some_and(|rest| rest.starts_with('(') && rest.contains(')'));
    called || NOW.contains(&sql.to_ascii_lowercase().as_str())
}

/// Of a domain that is NOT NULL the column is so, too.
const COLUMNS: &str = "\
    SELECT a.attname::text, a.atttypid, a.attnotnull OR (t.typtype = 'd' AND t.typnotnull), \
        pg_get_expr(d.adbin, d.adrelid), coalesce(to_jsonb(a) ->> 'attgenerated', '') <> '', a.attidentity <> '', \
        col_description(a.attrelid, a.attnum::int) \
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
    WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped";

/// The primary key, and the unique indexes without expressions and conditions, by name.
const INDEXES: &str = "\
    SELECT i.indisprimary, ARRAY(SELECT a.attname::text \
        FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(number, position) \
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number \
        WHERE k.position <= i.indnkeyatts ORDER BY k.position) \
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
    WHERE i.indrelid = $1 AND (i.indisprimary OR (i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL)) \
    ORDER BY c.relname COLLATE \"C\"";

/// The types, what domains are made of, and the elements of arrays proper.
const TYPES: &str = "\
    WITH RECURSIVE needed(oid) AS (\
        SELECT unnest($1::oid[]) UNION \
        SELECT p.oid FROM needed n JOIN pg_type t ON t.oid = n.oid CROSS JOIN LATERAL (\
            SELECT t.typbasetype WHERE t.typtype = 'd' \
            UNION ALL SELECT t.typelem WHERE t.typcategory = 'A' AND t.typelem <> 0 AND t.typlen = -1) AS p(oid)) \
    SELECT t.oid, s.nspname::text, t.typname::text, t.typtype::text, t.typbasetype, t.typtypmod, \
        CASE WHEN t.typcategory = 'A' AND t.typlen = -1 AND t.typtype <> 'd' THEN t.typelem ELSE 0::oid END \
    FROM needed n JOIN pg_type t ON t.oid = n.oid JOIN pg_namespace s ON s.oid = t.typnamespace";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pg(name: &str, typmod: i32) -> PgType {
        let (schema, name) = ("pg_catalog".to_owned(), name.to_owned());
        PgType { oid: 1, schema, name, typmod, kind: 'b', base: None, element: None }
    }

    fn default(sql: &str, name: &str, typmod: i32) -> Option<DefaultValue> {
        default_value(sql, Some(&pg(name, typmod)))
    }

    #[test]
    fn constants_are_read_as_the_server_writes_them() {
        for (sql, name, typmod, text) in [
            ("'it''s'::text", "text", -1, "it's"),
            (r"E'a\\b''c'::text", "text", -1, r"a\b'c"),
            ("'x'::bpchar", "bpchar", 9, "x    "),
            ("'x'::character varying", "varchar", 12, "x"),
            ("'x'::text COLLATE \"C\"", "text", -1, "x"),
            ("B'101'::\"bit\"", "bit", 3, "101"),
            ("'9223372036854775807'::bigint", "int8", -1, "9223372036854775807"),
            ("'-1'::integer", "int4", -1, "-1"),
            ("(-1)", "int4", -1, "-1"),
            ("42", "int8", -1, "42"),
            ("0", "numeric", ((10 << 16) | 2) + 4, "0.00"),
            ("1.5", "numeric", ((10 << 16) | 3) + 4, "1.500"),
            ("(1)::numeric", "numeric", -1, "1"),
            ("true", "bool", -1, "t"),
            ("'{}'::jsonb", "jsonb", -1, "{}"),
            ("'{a,b}'::text[]", "_text", -1, "{a,b}"),
            ("'v'::public.\"My Enum\"", "text", -1, "v"),
        ] {
            assert_eq!(default(sql, name, typmod), Some(DefaultValue::Constant(text.to_owned())), "{sql}");
        }
    }

    #[test]
    fn what_is_computed_is_no_constant() {
        for call in [
            "now()",
            "nextval('s'::regclass)",
            "CURRENT_TIMESTAMP",
            "CURRENT_TIMESTAMP(3)",
            "(now() + '1 day'::interval)",
            "public.f(1)",
        ] {
            assert_eq!(default(call, "text", -1), Some(DefaultValue::Call), "{call}");
        }
        for expression in [
            "('a'::text || 'b'::text)",
            "(1 + 2)",
            "1.5::integer",
            "'a'::text || 'b'",
            "ARRAY[1, 2]",
            "'unclosed",
            "SESSION_USER",
        ] {
            assert_eq!(default(expression, "text", -1), Some(DefaultValue::Expression), "{expression}");
        }
        assert_eq!(default("NULL::character varying", "varchar", -1), None);
    }

    #[test]
    fn modifiers_are_lengths_precisions_and_scales() {
        for (name, typmod, expected) in [
            ("numeric", ((12 << 16) | 2) + 4, (Some(12), Some(2))),
            ("numeric", ((5 << 16) | (0x7ff & -3)) + 4, (Some(5), Some(-3))),
            ("numeric", -1, (None, None)),
            ("varchar", 24, (Some(20), None)),
            ("bit", 3, (Some(3), None)),
            ("timestamptz", 3, (Some(3), None)),
            ("interval", 0x7fff_ffff, (None, None)),
            ("interval", (0x7fff << 16) | 3, (Some(3), None)),
            ("int4", -1, (None, None)),
        ] {
            assert_eq!(modifiers(&pg(name, typmod)), expected, "{name} {typmod}");
        }
    }
}
