//! What rows are made of: options of columns, and those of the transform that flattens.
//!
//! Guarantee: expressions and fields that the configuration would refuse aren't written into it; the note says why.

use super::Fate;
use super::convert::{Converter, needless, taken, without};
use crate::config::{Patterns, check_added};

/// The originals' names with a part that is a key of ours, longest first.
const OF_COLUMNS: [(&str, &str, &str); 4] = [
    ("column.truncate.to.", ".chars", "debezium.column_truncate_to_chars"),
    ("column.mask.with.", ".chars", "debezium.column_mask_with_chars"),
    ("column.mask.hash.v2.", "", "debezium.column_mask_hash_v2"),
    ("column.mask.hash.", "", "debezium.column_mask_hash"),
];

impl Converter<'_> {
    /// `column.truncate.to.N.chars` and the like.
    pub(super) fn of_columns(&mut self, name: &str, value: &str) -> Fate {
        let found = OF_COLUMNS.iter().find_map(|(start, end, key)| {
            name.strip_prefix(start)?.strip_suffix(end).map(|inner| (*key, inner.to_owned()))
        });
        let Some((key, inner)) = found else { return without("no documented option of columns") };
        if let Err(why) = Patterns::parse(value) {
            return without(format!("{why}; values are published as they are"));
        }
        if let Err(why) = crate::config::check_change(key, &inner) {
            return without(format!("{why}; values are published as they are"));
        }
        self.set(&format!("{key}.{inner}"), value);
        taken(key)
    }

    /// An option of the transform that flattens, without its prefix.
    pub(super) fn unwrapped(&mut self, option: &str, value: &str) -> Fate {
        let value = value.trim();
        match option {
            "type" => taken("flatten.enabled"),
            "delete.tombstone.handling.mode" => self.deletes(&value.to_ascii_lowercase()),
            "delete.handling.mode" | "drop.tombstones" => {
                // of versions before 2.5: what becomes of deletes, and of the tombstones behind them
                let of = |name: &str| self.unwrap_option(name).unwrap_or_default().trim().to_ascii_lowercase();
                let dropped = of("drop.tombstones") != "false";
                let mode = match (of("delete.handling.mode").as_str(), dropped) {
                    ("rewrite", true) => "rewrite",
                    ("rewrite", false) => "rewrite-with-tombstone",
                    ("none", _) => "tombstone",
                    (_, true) => "drop",
                    (_, false) => "delete-to-tombstone",
                };
                self.deletes(mode)
            }
            "add.fields" | "add.headers" => {
                let kind = self.kind();
                let (mut kept, mut left_out) = (Vec::new(), Vec::new());
                for field in value.split(',').map(str::trim).filter(|field| !field.is_empty()) {
                    match check_added(field, kind) {
                        Ok(()) => kept.push(field.to_owned()),
                        Err(_) => left_out.push(field),
                    }
                }
                let key = format!("flatten.{}", option.replace('.', "_"));
                self.set_list(&key, &kept);
                match left_out.is_empty() {
                    true => taken(&key),
                    false => without(format!("`{key}` is without {}, which events don't have", left_out.join(", "))),
                }
            }
            "add.fields.prefix" | "add.headers.prefix" => {
                let key = format!("flatten.{}", option.replace('.', "_"));
                self.set(&key, value);
                taken(&key)
            }
            "replace.null.with.default" => match value {
                "false" => needless("a null is published as null, not as the column's default (`debezium.exact`)"),
                _ => needless(
                    "`debezium.value_replace_null_with_default: true` publishes defaults in the place of nulls",
                ),
            },
            "route.by.field" if value.is_empty() => needless("it is what holds anyway"),
            "route.by.field" => {
                without("records go to the topic of their table, which `sink.topic` names, whatever a row's values are")
            }
            "predicate" | "negate" => without("there are no predicates: all rows are flattened, and nothing else is"),
            "drop.fields.header.name" | "drop.fields.from.key" | "drop.fields.keep.schema.compatible" => {
                self.dropped_fields(option)
            }
            _ => without("no documented option of ExtractNewRecordState"),
        }
    }

    /// Fields that a header of the record names are left out. No connector sets such a header.
    fn dropped_fields(&self, option: &str) -> Fate {
        if self.unwrap_option("drop.fields.header.name").is_none_or(|name| name.trim().is_empty()) {
            let needless = "it says nothing without `drop.fields.header.name`";
            return Fate::NotNeeded(
                if option.ends_with("header.name") { "it is what holds anyway" } else { needless }.to_owned(),
            );
        }
        match self.has_other_transforms() {
            false => {
                needless("no transform sets the header that would name fields, so that none is left out there either")
            }
            true => without(
                "rows are published whole: there are no other transforms, which would set the header; `debezium.column_exclude_list` leaves \
                 columns out",
            ),
        }
    }

    fn deletes(&mut self, mode: &str) -> Fate {
        self.set("flatten.delete_tombstone_handling_mode", mode);
        taken("flatten.delete_tombstone_handling_mode")
    }
}
