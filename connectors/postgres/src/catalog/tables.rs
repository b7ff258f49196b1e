//! Which tables are captured now, and whether the server can log their changes.
//!
//! A partitioned table is captured as one table: its partitions' events come under its name
//! (`publish_via_partition_root`), so partitions are never captured by themselves.
//!
//! A table without a replica identity is refused only if publishing it would be our doing: from then on its writers'
//! updates and deletes fail. Where it is published already, they fail whatever we do, and a note says so.

use std::collections::BTreeSet;

use rowcast_core::{SourceError, TableFilter};

use super::Catalog;
use crate::replication::connection::quote;

/// A captured table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CapturedTable {
    pub(crate) schema: String,
    pub(crate) table: String,
    pub(crate) partitioned: bool,
}

impl CapturedTable {
    /// `schema.table`, as patterns have it.
    pub(crate) fn plain(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }

    /// Quoted, for SQL.
    pub(crate) fn quoted(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote(&self.table))
    }
}

/// A relation of the database that a pattern could mean.
struct Found {
    schema: String,
    name: String,
    kind: String,
    persistence: String,
    root: Option<String>,
    /// Partitions whose old rows are logged only in part, while the table's identity says that they are logged whole.
    narrower: Vec<String>,
    /// Leaves (or the table itself) whose updates and deletes can't be logged.
    unidentified: Vec<String>,
}

/// Finds the captured tables, sorted; notes are for the operator. A stream that `resumes` may have changes of tables that are
/// gone: then it is no error if none is left.
pub(crate) async fn resolve(
    catalog: &mut Catalog,
    filter: &TableFilter,
    resumes: bool,
    notes: &mut Vec<String>,
) -> Result<Vec<CapturedTable>, SourceError> {
    let rows = catalog.query("listing the tables", RELATIONS, &[]).await?;
    let found: Vec<Found> = rows
        .iter()
        .map(|row| Found {
            schema: row.get(0),
            name: row.get(1),
            kind: row.get(2),
            persistence: row.get(3),
            root: row.get(4),
            unidentified: row.get(5),
            narrower: row.get(6),
        })
        .collect();
    let target = catalog.target().clone();
    for (schema, table) in filter.literal_includes() {
        if filter.matches_parts(schema, table)
            && let Some(why) = refusal(&found, schema, table)
        {
            let mut repair =
                "correct the name under `source.tables` (`schema.table`, case as the catalog has it)".to_owned();
            if resumes && !found.iter().any(|it| it.schema == schema && it.name == table) {
                repair += &format!(
                    "; if it was renamed or dropped while rowcast was stopped, its last changes still come by a pattern \
                     such as `{schema}.{table}*` beside its new name"
                );
            }
            return Err(target.definite(format!("`{schema}.{table}` can't be captured: {why}")).repair(repair));
        }
    }
    let mut captured = Vec::new();
    let mut unidentified = Vec::new();
    for it in found.iter().filter(|it| filter.matches_parts(&it.schema, &it.name)) {
        if !matches!(it.kind.as_str(), "r" | "p") || it.root.is_some() {
            continue;
        }
        if it.persistence != "p" {
            notes.push(format!("{}.{} is unlogged: its changes are not in the log", it.schema, it.name));
            continue;
        }
        if !it.narrower.is_empty() {
            let sql = it.narrower.iter().map(|leaf| format!("ALTER TABLE {leaf} REPLICA IDENTITY FULL;"));
            notes.push(format!(
                "{}.{} has REPLICA IDENTITY FULL, its partitions {} have not: `before` lacks what is NULL, since the server sends \
                 NULL for what they don't log; {}",
                it.schema,
                it.name,
                it.narrower.join(", "),
                sql.collect::<Vec<_>>().join(" ")
            ));
        }
        let table = CapturedTable { schema: it.schema.clone(), table: it.name.clone(), partitioned: it.kind == "p" };
        unidentified.extend(it.unidentified.iter().map(|leaf| (table.clone(), leaf.clone())));
        captured.push(table);
    }
    if captured.is_empty() && resumes {
        notes.push(
            "no table of the database matches `source.tables`: only changes from before come, of tables that are gone"
                .to_owned(),
        );
    } else if captured.is_empty() {
        return Err(target
            .definite(format!("no table of the database matches `source.tables` ({} tables looked at)", found.len()))
            .repair("correct the patterns, or create the tables first"));
    }
    if !unidentified.is_empty() {
        let rows = catalog.query("listing what is published", PUBLISHED, &[]).await?;
        let published: BTreeSet<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let leaves: BTreeSet<String> = rows.iter().map(|row| row.get(2)).collect();
        unidentified.retain(|(table, leaf)| {
            let root = published.contains(&(table.schema.clone(), table.table.clone()));
            let already = root || leaves.contains(leaf);
            if already {
                notes.push(format!(
                    "{leaf} has no replica identity (no primary key): the server refuses updates and deletes of it, as of \
                     any published table, so that only inserts and truncations come; ALTER TABLE {leaf} REPLICA IDENTITY \
                     FULL; lets them pass"
                ));
            }
            !already
        });
    }
    if let Some((first, _)) = unidentified.first() {
        let first = first.plain();
        let names: Vec<&str> = unidentified.iter().map(|(_, leaf)| leaf.as_str()).collect();
        let sql: Vec<String> = names.iter().map(|name| format!("ALTER TABLE {name} REPLICA IDENTITY FULL;")).collect();
        return Err(target
            .definite(format!(
                "the server can't log updates and deletes of {} without a replica identity (no primary key): as a \
                 published table it would refuse them",
                names.join(", ")
            ))
            .repair(format!(
                "add a primary key, or {} or exclude it with \"!{first}\" under `source.tables`; one whose rows are only \
                 ever inserted is captured if you publish it yourself",
                sql.join(" ")
            )));
    }
    captured.sort();
    Ok(captured)
}

/// Why a table that is named literally can't be captured.
fn refusal(found: &[Found], schema: &str, table: &str) -> Option<String> {
    let Some(it) = found.iter().find(|it| it.schema == schema && it.name == table) else {
        let wanted = format!("{schema}.{table}");
        let nearest = found
            .iter()
            .filter(|it| matches!(it.kind.as_str(), "r" | "p"))
            .map(|it| format!("{}.{}", it.schema, it.name))
            .map(|name| (distance(&wanted, &name), name))
            .min()
            .filter(|(distance, _)| *distance <= (table.chars().count() / 3).max(1));
        return Some(match nearest {
            Some((_, name)) => format!("no such table; did you mean `{name}`?"),
            None => "no such table".to_owned(),
        });
    };
    match (it.kind.as_str(), &it.root, it.persistence.as_str()) {
        ("v" | "m", ..) => Some("it is a view; name the tables that it reads".to_owned()),
        ("f", ..) => Some("it is a foreign table; its changes are logged by the server where it lives".to_owned()),
        (_, Some(root), _) => Some(format!("it is a partition; its changes come under `{root}`")),
        (.., "u") => Some("it is unlogged: its changes are not in the log (ALTER TABLE ... SET LOGGED)".to_owned()),
        _ => None,
    }
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (to, above) in b.iter().zip(row.iter().skip(1)) {
            let changed = diagonal + usize::from(from != *to);
            left = changed.min(above + 1).min(left + 1);
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

/// A default identity is the primary key if it isn't deferrable (`RelationGetIndexList`). With `USING INDEX` the
/// index must still be there. Temporary tables have schemas of their own, `pg_temp_...`.
const RELATIONS: &str = "\
    SELECT n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text, \
        CASE WHEN c.relispartition THEN (SELECT rn.nspname || '.' || r.relname \
            FROM pg_class r JOIN pg_namespace rn ON rn.oid = r.relnamespace \
            WHERE r.oid = pg_partition_root(c.oid)) END, \
        CASE WHEN c.relkind IN ('r', 'p') THEN ARRAY(\
            SELECT format('%I.%I', ln.nspname, l.relname) \
            FROM (SELECT c.oid AS relid WHERE c.relkind = 'r' UNION \
                SELECT relid::oid FROM pg_partition_tree(c.oid) WHERE c.relkind = 'p' AND isleaf) leaves \
            JOIN pg_class l ON l.oid = leaves.relid JOIN pg_namespace ln ON ln.oid = l.relnamespace \
            WHERE l.relkind = 'r' AND (l.relreplident = 'n' \
                OR l.relreplident = 'd' AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = l.oid \
                    AND i.indisprimary AND i.indimmediate AND i.indisvalid) \
                OR l.relreplident = 'i' AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = l.oid \
                    AND i.indisreplident AND i.indisvalid)) ORDER BY 1) \
        ELSE '{}' END, \
        CASE WHEN c.relkind = 'p' AND c.relreplident = 'f' THEN ARRAY(\
            SELECT format('%I.%I', ln.nspname, l.relname) FROM pg_partition_tree(c.oid) tree \
            JOIN pg_class l ON l.oid = tree.relid JOIN pg_namespace ln ON ln.oid = l.relnamespace \
            WHERE tree.isleaf AND l.relkind = 'r' AND l.relreplident <> 'f' ORDER BY 1) ELSE '{}' END \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't' \
        AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)' \
    ORDER BY 1, 2";

/// What the server refuses updates and deletes of, if it has no identity. Those of partitions are published by their root,
/// if the publication says so.
const PUBLISHED: &str = "\
    SELECT DISTINCT t.schemaname::text, t.tablename::text, format('%I.%I', t.schemaname, t.tablename) \
    FROM pg_publication_tables t JOIN pg_publication p ON p.pubname = t.pubname WHERE p.pubupdate AND p.pubdelete";

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, kind: &str, persistence: &str, root: Option<&str>) -> Found {
        Found {
            schema: "public".to_owned(),
            name: name.to_owned(),
            kind: kind.to_owned(),
            persistence: persistence.to_owned(),
            root: root.map(str::to_owned),
            unidentified: Vec::new(),
            narrower: Vec::new(),
        }
    }

    #[test]
    fn a_misspelt_table_is_told_its_nearest_name() {
        let all = [found("orders", "r", "p", None), found("customers", "r", "p", None)];
        let why = refusal(&all, "public", "order");
        assert_eq!(why.as_deref(), Some("no such table; did you mean `public.orders`?"));
        assert_eq!(refusal(&all, "public", "orders"), None);
        assert_eq!(refusal(&all, "sales", "zzzzzzzzzzzz").as_deref(), Some("no such table"));
    }

    #[test]
    fn what_is_not_a_logged_table_is_refused_with_the_reason() {
        let all = [
            found("v", "v", "p", None),
            found("u", "r", "u", None),
            found("p1", "r", "p", Some("public.p")),
            found("f", "f", "p", None),
        ];
        for (name, part) in [("v", "view"), ("u", "unlogged"), ("p1", "`public.p`"), ("f", "foreign")] {
            assert!(refusal(&all, "public", name).is_some_and(|why| why.contains(part)), "{name}");
        }
    }

    #[test]
    fn distances_are_levenshteins() {
        for (a, b, expected) in [("", "abc", 3), ("kitten", "sitting", 3), ("same", "same", 0)] {
            assert_eq!(distance(a, b), expected);
        }
    }
}
