//! Foreign keys whose cascades the server doesn't log.
//!
//! InnoDB carries out `ON DELETE CASCADE` and the like below the binlog: the child's rows change, and no event says so. From MySQL 9.6
//! on the server does it itself, and logs it, unless `innodb_native_foreign_keys` is ON; MariaDB and older MySQL never do. Nothing can
//! be done about it here, so it is told at the start, with the tables.

use rowcast_core::SourceError;

use super::checks;
use crate::Flavor;
use crate::connection::Connection;

/// Foreign keys that are looked for.
const MOST: usize = 500;
/// Tables that are named in the note.
const SHOWN: usize = 10;

/// What an operator should know; none if no captured table is concerned.
pub(crate) async fn note(
    connection: &mut Connection,
    captured: &[(String, String)],
) -> Result<Option<String>, SourceError> {
    const DOING: &str = "looking for foreign keys with cascades";
    if connection.place.flavor == Flavor::Mysql {
        let sql = "SHOW GLOBAL VARIABLES LIKE 'innodb_native_foreign_keys'";
        let native = connection.query(DOING, sql).await?;
        let value = native.first().and_then(|row| row.get(1)).cloned().flatten();
        if checks::number(&connection.version) >= (9, 6) && value.is_some_and(|value| value.eq_ignore_ascii_case("OFF"))
        {
            return Ok(None);
        }
    }
    // per database: where all of them are asked for, MariaDB opens every table that it has
    let mut databases: Vec<&str> = captured.iter().map(|(db, _)| db.as_str()).collect();
    databases.dedup();
    let mut found = Vec::new();
    for db in databases {
        // REFERENTIAL_CONSTRAINTS has the rules, and MariaDB shows it to nobody who has only SELECT
        let sql = format!(
            "SELECT DISTINCT TABLE_SCHEMA, TABLE_NAME FROM information_schema.KEY_COLUMN_USAGE \
             WHERE TABLE_SCHEMA={} AND REFERENCED_TABLE_NAME IS NOT NULL",
            super::literal(db)
        );
        for row in connection.query(DOING, &sql).await? {
            let Ok([Some(db), Some(table)]) = <[_; 2]>::try_from(row) else { continue };
            if captured.binary_search_by(|(d, t)| (d, t).cmp(&(&db, &table))).is_err() || found.len() >= MOST {
                continue;
            }
            let quoted = |name: &str| name.replace('`', "``");
            let sql = format!("SHOW CREATE TABLE `{}`.`{}`", quoted(&db), quoted(&table));
            // dropped meanwhile, or hidden: no reason not to start
            let Ok(rows) = connection.ask(DOING, &sql).await else { continue };
            let create = rows.into_iter().next().and_then(|row| row.into_iter().nth(1).flatten()).unwrap_or_default();
            found.extend(acting(&create).map(|name| format!("{db}.{table} ({name})")));
        }
    }
    found.sort_unstable();
    Ok(text(&found))
}

/// The foreign keys that change rows by themselves, of a table as the server describes it: a line each.
fn acting(create: &str) -> impl Iterator<Item = &str> {
    let acts = |line: &str| {
        let rules = line.rsplit(')').next().unwrap_or_default();
        ["DELETE", "UPDATE"].iter().any(|on| {
            ["CASCADE", "SET NULL", "SET DEFAULT"].iter().any(|rule| rules.contains(&format!("ON {on} {rule}")))
        })
    };
    let constraint = |line: &'_ str| -> Option<(usize, usize)> {
        let start = line.find("CONSTRAINT `")? + "CONSTRAINT `".len();
        let length = line.get(start..)?.find("` FOREIGN KEY (")?;
        Some((start, start + length))
    };
    create.lines().filter(move |line| line.trim_start().starts_with("CONSTRAINT `") && acts(line)).filter_map(
        move |line| {
            let (start, end) = constraint(line)?;
            line.get(start..end)
        },
    )
}

fn text(found: &[String]) -> Option<String> {
    if found.is_empty() {
        return None;
    }
    let mut shown = found.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if found.len() > SHOWN {
        shown.push_str(&format!(" and {} more", found.len() - SHOWN));
    }
    Some(format!(
        "this server doesn't log what foreign keys change by themselves (ON DELETE or ON UPDATE CASCADE, SET NULL): such changes of \
         {shown} never come; delete and update children by statements of their own, or let MySQL 9.6 or later do it"
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_key_that_acts_is_told_from_one_that_forbids() {
        let create = "CREATE TABLE `c` (\n  `id` int COMMENT 'ON DELETE CASCADE',\n  CONSTRAINT `a` FOREIGN KEY (`p`) REFERENCES `p` \
                      (`id`) ON DELETE CASCADE,\n  CONSTRAINT `b` FOREIGN KEY (`p`) REFERENCES `p` (`id`),\n  CONSTRAINT `c` FOREIGN \
                      KEY (`p`) REFERENCES `d`.`p` (`id`) ON DELETE NO ACTION ON UPDATE SET NULL\n) ENGINE=InnoDB";
        assert_eq!(acting(create).collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!(acting("").count(), 0);
    }

    #[test]
    fn the_note_names_some_of_the_tables() {
        assert_eq!(text(&[]), None);
        let many: Vec<String> = (0..12).map(|number| format!("d.t{number} (fk)")).collect();
        let note = text(&many).unwrap();
        assert!(
            note.contains("d.t0 (fk), ") && note.contains("d.t9 (fk) and 2 more") && !note.contains("d.t10"),
            "{note}"
        );
    }
}
