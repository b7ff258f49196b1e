//! What schemas say of a column besides the form of its values, from information_schema: DEFAULT, comment, lengths.
//!
//! Asked only if a format wants it ([`crate::Options::describe`]), in the columns behind those that every look-up has; answers that were
//! kept without them describe nothing until the catalog is asked again. It is what the catalog says now, or said when the version was
//! learnt: a part of schemas, never of a value.

use rowcast_core::{ColumnDefault, ColumnFacts, DefaultValue, TableName};

use super::tables;

/// Columns behind those of [`tables::columns_sql`].
const BEHIND: &str = "COLUMN_DEFAULT, EXTRA, COLUMN_COMMENT, COLLATION_NAME";
/// The first of them.
const FIRST: usize = 7;

/// [`tables::columns_sql`] with what describes columns.
fn columns_sql(name: &TableName) -> String {
    tables::columns_sql(name).replacen(" FROM ", &format!(", {BEHIND} FROM "), 1)
}

/// [`tables::about_sql`] with what describes the table.
fn about_sql(name: &TableName) -> String {
    tables::about_sql(name).replacen(" FROM ", ", TABLE_COLLATION, TABLE_COMMENT FROM ", 1)
}

/// The statement that asks for columns.
pub(crate) fn columns(describe: bool) -> fn(&TableName) -> String {
    if describe { columns_sql } else { tables::columns_sql }
}

/// The statement that asks about a table.
pub(crate) fn about(describe: bool) -> fn(&TableName) -> String {
    if describe { about_sql } else { tables::about_sql }
}

/// A column's facts; none if the row was asked for without them.
pub(crate) fn facts(row: &[Option<String>], maria: bool) -> Option<Box<ColumnFacts>> {
    let behind = row.get(FIRST..).filter(|cells| cells.len() >= 4)?;
    let cell = |index: usize| behind.get(index).cloned().flatten();
    let (native, extra) = (row.get(4).and_then(Option::as_deref).unwrap_or(""), cell(1).unwrap_or_default());
    let extra = extra.to_ascii_uppercase();
    let generated = extra.contains("VIRTUAL GENERATED") || extra.contains("STORED GENERATED");
    let (length, scale) = tables::arguments(native);
    let default = cell(0).filter(|_| !generated);
    Some(Box::new(ColumnFacts {
        default: match maria {
            true => default.and_then(|sql| of_maria(sql, native)),
            false => default.map(|sql| of_mysql(sql, native, extra.contains("DEFAULT_GENERATED"))),
        },
        length,
        scale: scale.and_then(|scale| i32::try_from(scale).ok()),
        charset: row.get(6).cloned().flatten(),
        collation: cell(3),
        generated,
        auto_increment: extra.contains("AUTO_INCREMENT"),
        comment: cell(2).filter(|comment| !comment.is_empty()),
        pg: None,
    }))
}

/// MySQL tells constants without quotes, and says beside whether it is an expression.
fn of_mysql(sql: String, native: &str, expression: bool) -> ColumnDefault {
    let value = match expression {
        // an expression in parentheses is told in small letters
        true if sql.starts_with("CURRENT_TIMESTAMP") => DefaultValue::Call,
        true => DefaultValue::Expression,
        false => {
            DefaultValue::Constant(bits(&sql, native).or_else(|| padded(&sql, native)).unwrap_or_else(|| sql.clone()))
        }
    };
    ColumnDefault { sql, value }
}

/// MariaDB tells everything as SQL, NULL as a word.
fn of_maria(sql: String, native: &str) -> Option<ColumnDefault> {
    if sql.eq_ignore_ascii_case("NULL") {
        return None;
    }
    let number = |text: &str| {
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        digits.starts_with(|first: char| first.is_ascii_digit() || first == '.')
            && digits.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte))
    };
    let value = match bits(&sql, native).or_else(|| unquoted(&sql)) {
        // as MySQL tells bytes
        Some(text) if native.starts_with("binary(") || native.starts_with("varbinary(") => {
            let hex: String = text.bytes().map(|byte| format!("{byte:02X}")).collect();
            let hex = format!("0x{hex}");
            DefaultValue::Constant(padded(&hex, native).unwrap_or(hex))
        }
        Some(text) => DefaultValue::Constant(text),
        None if number(&sql) => DefaultValue::Constant(sql.clone()),
        None if is_now(&sql) => DefaultValue::Call,
        None => DefaultValue::Expression,
    };
    Some(ColumnDefault { sql, value })
}

fn is_now(sql: &str) -> bool {
    const NOW: &str = "current_timestamp";
    sql.get(..NOW.len()).is_some_and(|start| start.eq_ignore_ascii_case(NOW))
}

/// The bytes of a BINARY column, as many as it has: the server leaves out the zeros at the end.
fn padded(sql: &str, native: &str) -> Option<String> {
    let digits = sql.strip_prefix("0x")?;
    let length = tables::arguments(native).0.filter(|_| native.starts_with("binary("))? as usize * 2;
    Some(format!("0x{digits:0<length$}"))
}

/// The digits of `b'101'`, as many as the column has.
fn bits(sql: &str, native: &str) -> Option<String> {
    let digits = sql.strip_prefix("b'")?.strip_suffix('\'')?;
    let length = tables::arguments(native).0.filter(|_| native.starts_with("bit"))?;
    let length = length as usize;
    digits.bytes().all(|byte| matches!(byte, b'0' | b'1')).then(|| format!("{digits:0>length$}"))
}

/// The text of a literal in quotes, which is all that there is.
fn unquoted(sql: &str) -> Option<String> {
    let inside = sql.strip_prefix('\'')?.strip_suffix('\'')?;
    let mut text = String::with_capacity(inside.len());
    let mut rest = inside.chars();
    while let Some(character) = rest.next() {
        match character {
            '\'' => text.push(rest.next().filter(|next| *next == '\'')?),
            '\\' => text.push(match rest.next()? {
                '0' => '\0',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'Z' => '\u{1a}',
                other => other,
            }),
            other => text.push(other),
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn described(maria: bool, native: &str, default: Option<&str>, extra: &str) -> ColumnFacts {
        let mut row: Vec<Option<String>> =
            ["d", "t", "c", "x", native, "YES", "utf8mb4"].iter().map(|cell| Some((*cell).to_owned())).collect();
        row.push(default.map(str::to_owned));
        row.extend([extra, "", "utf8mb4_bin"].iter().map(|cell| Some((*cell).to_owned())));
        *facts(&row, maria).unwrap()
    }

    fn default(maria: bool, native: &str, sql: &str, extra: &str) -> Option<DefaultValue> {
        described(maria, native, Some(sql), extra).default.map(|default| default.value)
    }

    #[test]
    fn defaults_are_told_apart_by_what_each_server_says() {
        let constant = |text: &str| Some(DefaultValue::Constant(text.to_owned()));
        assert_eq!(default(false, "varchar(9)", "it's", ""), constant("it's"));
        assert_eq!(default(false, "varchar(9)", "uuid()", "DEFAULT_GENERATED"), Some(DefaultValue::Expression));
        assert_eq!(
            default(false, "timestamp(3)", "CURRENT_TIMESTAMP(3)", "DEFAULT_GENERATED"),
            Some(DefaultValue::Call)
        );
        assert_eq!(default(false, "varchar(9)", "CURRENT_TIMESTAMP", ""), constant("CURRENT_TIMESTAMP"));
        assert_eq!(default(false, "bit(4)", "b'101'", ""), constant("0101"));
        assert_eq!(default(false, "datetime", "now()", "DEFAULT_GENERATED"), Some(DefaultValue::Expression));
        assert_eq!(default(false, "binary(3)", "0x6162", ""), constant("0x616200"));
        assert_eq!(default(false, "varbinary(9)", "0x6162", ""), constant("0x6162"));
        assert_eq!(default(true, "binary(3)", "'ab\\0'", ""), constant("0x616200"));
        assert_eq!(default(true, "varbinary(9)", "'0x41'", ""), constant("0x30783431"));
        assert_eq!(default(true, "varchar(9)", "'it''s \\\\ \\n'", ""), constant("it's \\ \n"));
        assert_eq!(default(true, "int(11)", "-5", ""), constant("-5"));
        assert_eq!(default(true, "int(11)", "NULL", ""), None);
        assert_eq!(default(true, "varchar(9)", "'NULL'", ""), constant("NULL"));
        assert_eq!(default(true, "bit(4)", "b'1'", ""), constant("0001"));
        assert_eq!(default(true, "datetime", "current_timestamp()", ""), Some(DefaultValue::Call));
        assert_eq!(default(true, "varchar(9)", "concat('a','b')", ""), Some(DefaultValue::Expression));
        assert_eq!(default(true, "varchar(9)", "'a' 'b'", ""), Some(DefaultValue::Expression));
        assert_eq!(default(false, "int", "5", "VIRTUAL GENERATED"), None);
    }

    #[test]
    fn a_row_that_was_kept_without_facts_has_none() {
        let row = vec![Some("d".to_owned()); FIRST];
        assert_eq!(facts(&row, false), None);
        let it = described(false, "decimal(12,2) unsigned", None, "auto_increment");
        assert_eq!((it.length, it.scale, it.auto_increment, it.comment), (Some(12), Some(2), true, None));
        let name = TableName { db: "d".into(), schema: None, table: "t".into() };
        assert!(columns(true)(&name).contains("CHARACTER_SET_NAME, COLUMN_DEFAULT"));
        assert_eq!(columns(false)(&name), tables::columns_sql(&name));
    }
}
