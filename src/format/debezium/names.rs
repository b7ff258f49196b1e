//! Names of topics, schemas and fields, as the original makes them.
//!
//! A topic's name has `_` for every character that Kafka doesn't allow, and nothing tells that it was one: two tables may have one topic. Names
//! of schemas and fields stay as they are unless an adjustment is configured.

use rowcast_core::TableName;

use crate::config::AdjustMode;

/// Kafka's limit for the length of a topic's name.
const LONGEST_TOPIC: usize = 249;

/// The topic of a table behind a prefix: `prefix.schema.table`, or `prefix.database.table` where there are no schemas.
pub fn topic(prefix: &str, delimiter: &str, name: &TableName) -> String {
    sanitised(&format!("{prefix}{delimiter}{}{delimiter}{}", name.qualifier(), name.table))
}

/// A topic's name with `_` for what isn't allowed in one. What Java counts as two characters becomes two of them.
pub fn sanitised(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for letter in name.chars() {
        if letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-') {
            out.push(letter);
        } else {
            out.extend(std::iter::repeat_n('_', letter.len_utf16()));
        }
    }
    out.truncate(LONGEST_TOPIC);
    match out.as_str() {
        "." => "_".to_owned(),
        ".." => "__".to_owned(),
        _ => out,
    }
}

/// A schema's name.
pub(super) fn adjusted(name: &str, mode: AdjustMode) -> String {
    adjust(name, mode, true)
}

/// A field's name: a dot isn't allowed in it.
pub(super) fn field(name: &str, mode: AdjustMode) -> String {
    adjust(name, mode, false)
}

fn adjust(name: &str, mode: AdjustMode, dots: bool) -> String {
    if mode == AdjustMode::None {
        return name.to_owned();
    }
    let unicode = mode == AdjustMode::AvroUnicode;
    let mut out = String::new();
    let mut units = [0_u16; 2];
    for (at, letter) in name.chars().enumerate() {
        let first = at == 0;
        let legal = letter.is_ascii_alphabetic()
            || (letter == '_' && !unicode)
            || (!first && (letter.is_ascii_digit() || (letter == '.' && dots)));
        if legal {
            out.push(letter);
            continue;
        }
        for unit in letter.encode_utf16(&mut units) {
            if unicode {
                let hex = format!("{unit:x}");
                out.push_str(if hex.len() <= 2 { "_u00" } else { "_u" });
                out.push_str(&hex);
            } else {
                out.push('_');
            }
        }
        if first && !unicode && letter.is_ascii_digit() {
            out.push(letter);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_kafka_does_not_allow_is_an_underscore() {
        let table = |schema: Option<&str>, table: &str| TableName {
            db: Arc::from("shop"),
            schema: schema.map(Arc::from),
            table: Arc::from(table),
        };
        assert_eq!(topic("p", ".", &table(Some("public"), "orders")), "p.public.orders");
        assert_eq!(topic("p", ".", &table(None, "orders")), "p.shop.orders");
        assert_eq!(topic("p", ".", &table(Some("a b"), "日本語")), "p.a_b.___");
        assert_eq!(topic("p", ".", &table(Some("x"), "😀.y")), "p.x.__.y");
        assert_eq!(topic("p", ".", &table(Some("x"), &"t".repeat(300))).len(), LONGEST_TOPIC);
    }

    #[test]
    fn names_are_adjusted_for_avro() {
        for (name, mode, schema, of_field) in [
            ("p.my-t.Value", AdjustMode::None, "p.my-t.Value", "p.my-t.Value"),
            ("p.my-t.Value", AdjustMode::Avro, "p.my_t.Value", "p_my_t_Value"),
            ("1a", AdjustMode::Avro, "_1a", "_1a"),
            ("ä", AdjustMode::Avro, "_", "_"),
            ("a_b-c", AdjustMode::AvroUnicode, "a_u005fb_u002dc", "a_u005fb_u002dc"),
            ("1日", AdjustMode::AvroUnicode, "_u0031_u65e5", "_u0031_u65e5"),
        ] {
            assert_eq!(adjusted(name, mode), schema, "{name} {mode:?}");
            assert_eq!(field(name, mode), of_field, "{name} {mode:?}");
        }
    }
}
