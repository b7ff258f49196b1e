//! What the catalog says about a table that is to be read, so that its rows get the same [`Table`] as the stream's.
//!
//! The Relation message that the stream would have is built here from the catalog, and goes the same way
//! (`pgoutput::relation`). The digest comes first: whatever changes while the rest is looked up makes it wrong, and the
//! read that compares it in its own snapshot ends with `Changed`.
//!
//! Refuses what can't be read as the stream's table would be: with the reason, and the statement that repairs it.

use std::collections::HashMap;
use std::sync::Arc;

use rowcast_core::Table;
use rowcast_core::backfill::{ReadError, Target};

use crate::catalog::Catalog;
use crate::error;
use crate::pgoutput::message::{Relation, RelationColumn};
use crate::pgoutput::relation::{self, CatalogFacts};
use crate::replication::connection::quote;

const DOING: &str = "looking up a table that is to be read";

/// A table, or one of its partitions that hold rows.
#[derive(Debug, Clone)]
pub(super) struct Leaf {
    pub(super) oid: u32,
    /// Quoted, with its schema.
    pub(super) name: String,
    pub(super) file: u32,
    pub(super) blocks: u32,
    pub(super) bytes: u64,
}

/// A key column, for conditions.
#[derive(Debug, Clone)]
pub(super) struct KeyColumn {
    /// Quoted.
    pub(super) name: String,
    /// The schema of its `=`, quoted, if that isn't `pg_catalog` (types of extensions).
    pub(super) operator: Option<String>,
}

/// A table that can be read.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) oid: u32,
    pub(super) table: Arc<Table>,
    pub(super) partitioned: bool,
    /// Quoted, with its schema.
    pub(super) name: String,
    /// Quoted names of the columns, and `ctid`.
    pub(super) columns: String,
    pub(super) key: Vec<KeyColumn>,
    /// The publication's row filter.
    pub(super) published: Option<String>,
    pub(super) leaves: Vec<Leaf>,
    /// See [`digest`].
    pub(super) digest: String,
    /// What our role needs.
    pub(super) grant: String,
    /// Rows in a block.
    pub(super) density: f64,
    /// Bytes of a row, as it comes.
    pub(super) width: f64,
}

/// Where a table stands in the database, and what a read of it needs besides.
#[derive(Debug)]
pub(super) struct Lookup<'a> {
    pub(super) database: &'a Arc<str>,
    pub(super) publication: &'a str,
    /// `server_version_num`
    pub(super) version: u32,
    pub(super) user: &'a str,
    pub(super) server: &'a error::Target,
}

fn refused(lookup: &Lookup<'_>, name: &str, why: &str, how: &str) -> ReadError {
    ReadError::Refused(format!("{}: {name} can't be read: {why}; repair: {how}", lookup.server))
}

/// `schema.table` in quotes.
pub(super) fn quoted(schema: &str, table: &str) -> String {
    format!("{}.{}", quote(schema), quote(table))
}

fn grant_statement(schema: &str, tables: &[&str], user: &str) -> String {
    let user = quote(user);
    format!("GRANT USAGE ON SCHEMA {} TO {user}; GRANT SELECT ON {} TO {user};", quote(schema), tables.join(", "))
}

/// Looks a table up.
pub(super) async fn look_up(catalog: &mut Catalog, lookup: &Lookup<'_>, target: &Target) -> Result<Known, ReadError> {
    let Target { qualifier: schema, table, .. } = target;
    let name = quoted(schema, table);
    let rows = catalog.query(DOING, TABLE, &[schema, table]).await?;
    let row = rows.first().ok_or(ReadError::Gone)?;
    let (oid, kind, persistence, identity): (u32, &str, &str, &str) = (row.get(0), row.get(1), row.get(2), row.get(3));
    let (root, no_rows): (Option<String>, bool) = (row.get(4), row.get(5));
    let refuse = |why: &str, how: &str| Err(refused(lookup, &name, why, how));
    match (kind, persistence) {
        ("v" | "m", _) => return refuse("it is a view", "name the tables that it reads"),
        ("f", _) => return refuse("it is a foreign table", "read it from the server where it lives"),
        ("r" | "p", "p") => {}
        ("r" | "p", _) => {
            return refuse("its changes are not in the log", &format!("ALTER TABLE {name} SET LOGGED;"));
        }
        _ => return Err(ReadError::Gone),
    }
    if let Some(root) = root {
        return refuse(&format!("it is a partition of {root}"), "name that table");
    }
    let grant = grant_statement(schema, &[&name], lookup.user);
    if no_rows {
        let user = quote(lookup.user);
        return refuse("row-level security hides rows of it from our role", &format!("ALTER ROLE {user} BYPASSRLS;"));
    }

    let query = format!("SELECT {}", digest("$1::oid", "$2::text"));
    let digests = catalog.query(DOING, &query, &[&oid, &lookup.publication]).await?;
    let digest: Option<String> = digests.first().and_then(|row| row.get(0));
    let digest = digest.ok_or(ReadError::Gone)?;
    let leaves = leaves(catalog, lookup, oid, &name).await?;
    let (published_columns, published) = published(catalog, lookup, schema, table).await?;
    let (mut relation_columns, mut operators) = (Vec::new(), HashMap::new());
    for row in catalog.query(DOING, COLUMNS, &[&oid]).await? {
        let (column, generated): (String, &str) = (row.get(0), row.get(3));
        let listed = published_columns.as_ref().is_none_or(|list| list.contains(&column));
        // generated columns are published from version 18 on, if the list or an option of the publication says so
        let sent = generated.is_empty() || (lookup.version >= 180_000 && published_columns.is_some());
        if listed && sent {
            operators.insert(column.clone(), row.get::<_, Option<String>>(5));
            let identity = identity == "f" || row.get(4);
            relation_columns.push(RelationColumn { identity, name: column, oid: row.get(1), typmod: row.get(2) });
        }
    }
    let relation = Relation {
        id: oid,
        schema: schema.clone(),
        table: table.clone(),
        replica_identity: identity.bytes().next().unwrap_or(b'd'),
        columns: relation_columns,
    };
    let facts = match catalog.describes() || relation::needs_catalog(&relation) {
        true => catalog.facts(&relation).await?,
        false => CatalogFacts::default(),
    };
    let table = relation::table(lookup.database, &relation, &facts, &HashMap::new(), lookup.version < 170_000);
    let key = table.key_columns().map(|column| KeyColumn {
        name: quote(&column.name),
        operator: operators.get(&column.name).cloned().flatten().map(|schema| quote(&schema)),
    });
    let key = key.collect();
    let columns: Vec<String> = relation.columns.iter().map(|column| quote(&column.name)).collect();
    let columns = columns.iter().map(String::as_str).chain(["ctid"]).collect::<Vec<_>>().join(", ");
    let (density, width): (Option<f64>, Option<f64>) = (row.get(6), row.get(7));
    Ok(Known {
        oid,
        table,
        partitioned: kind == "p",
        name,
        columns,
        key,
        published,
        leaves,
        digest,
        grant,
        density: density.unwrap_or(50.0).clamp(0.01, 1000.0),
        width: width.unwrap_or(400.0).clamp(10.0, 1e8),
    })
}

/// The table itself, or its partitions at the bottom.
async fn leaves(catalog: &mut Catalog, lookup: &Lookup<'_>, root: u32, name: &str) -> Result<Vec<Leaf>, ReadError> {
    let (mut leaves, mut hidden) = (Vec::new(), Vec::new());
    for row in catalog.query(DOING, LEAVES, &[&root]).await? {
        let (oid, schema, table): (u32, String, String) = (row.get(0), row.get(1), row.get(2));
        let (kind, persistence, method): (&str, &str, Option<&str>) = (row.get(3), row.get(4), row.get(5));
        let leaf = quoted(&schema, &table);
        if kind != "r" || persistence != "p" {
            tracing::warn!(table = name, partition = leaf, "left out: changes of this partition are not in the log");
            continue;
        }
        if !method.is_some_and(|method| method == "heap" || method.starts_with("tde_heap")) {
            let why = format!("{leaf} has the access method {}, which has no places", method.unwrap_or("?"));
            return Err(refused(lookup, name, &why, "exclude the table from the backfill"));
        }
        if !row.get::<_, bool>(6) {
            hidden.push((schema, leaf));
            continue;
        }
        // a table that was dropped since the query began has no size and no file
        let (Some(blocks), Some(bytes), Some(file)) =
            (row.get::<_, Option<i64>>(7), row.get::<_, Option<i64>>(8), row.get::<_, Option<u32>>(9))
        else {
            continue;
        };
        let blocks = u32::try_from(blocks).unwrap_or(u32::MAX - 1);
        leaves.push(Leaf { oid, name: leaf, file, blocks, bytes: bytes.unsigned_abs() });
    }
    if let Some((schema, first)) = hidden.first() {
        let same: Vec<&str> =
            hidden.iter().filter(|(other, _)| other == schema).map(|(_, leaf)| leaf.as_str()).collect();
        let why = format!("role {} may not read {first}", lookup.user);
        return Err(refused(lookup, name, &why, &grant_statement(schema, &same, lookup.user)));
    }
    Ok(leaves)
}

/// The publication's list of columns (none: all of them) and row filter.
async fn published(
    catalog: &mut Catalog,
    lookup: &Lookup<'_>,
    schema: &str,
    table: &str,
) -> Result<(Option<Vec<String>>, Option<String>), ReadError> {
    let rows = catalog.query(DOING, PUBLISHED, &[&lookup.publication, &schema, &table]).await?;
    Ok(rows.first().map_or((None, None), |row| (row.get(0), row.get(1))))
}

/// SQL that gives a text which is another one whenever something changes on which [`Known`] depends, for all but types;
/// NULL if there is no such table. `oid` and `publication` are SQL too.
pub(super) fn digest(oid: &str, publication: &str) -> String {
    DIGEST.replace("{oid}", oid).replace("{publication}", publication)
}

const DIGEST: &str = "\
    (SELECT hashtextextended(concat_ws('|', n.nspname, c.relname, c.relkind, c.relreplident, c.relpersistence, \
        (SELECT string_agg(concat_ws(',', a.attname, a.atttypid, a.atttypmod, a.attgenerated, a.attnotnull), ';' \
            ORDER BY a.attnum) FROM pg_attribute a \
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), \
        (SELECT string_agg(concat_ws(',', x.relname, i.indisprimary, i.indisreplident, i.indisvalid, i.indimmediate, \
            i.indkey), ';' ORDER BY x.oid) FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid \
            WHERE i.indrelid = c.oid AND i.indisunique), \
        (SELECT string_agg(to_jsonb(r)::text, ';' ORDER BY r.oid) FROM pg_publication_rel r \
            JOIN pg_publication p ON p.oid = r.prpubid WHERE r.prrelid = c.oid AND p.pubname = {publication}), \
        (SELECT to_jsonb(p)::text FROM pg_publication p WHERE p.pubname = {publication})), 0)::text \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = {oid})";

/// Density and width are guesses by statistics; `relpages` is 0 where there are none.
const TABLE: &str = "\
    SELECT c.oid, c.relkind::text, c.relpersistence::text, c.relreplident::text, \
        CASE WHEN c.relispartition THEN pg_partition_root(c.oid)::text END, row_security_active(c.oid), \
        s.rows / s.pages, s.pages * current_setting('block_size')::float8 / nullif(s.rows, 0) \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN LATERAL (\
        SELECT sum(l.reltuples)::float8 AS rows, sum(l.relpages)::float8 AS pages FROM pg_class l \
        WHERE l.relkind = 'r' AND l.relpages > 0 AND l.reltuples >= 0 \
            AND (l.oid = c.oid OR l.oid IN (SELECT relid FROM pg_partition_tree(c.oid)))) s ON s.pages > 0 \
    WHERE n.nspname = $1 AND c.relname = $2";

const LEAVES: &str = "\
    SELECT l.oid, n.nspname::text, l.relname::text, l.relkind::text, l.relpersistence::text, m.amname::text, \
        has_table_privilege(l.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE'), \
        pg_relation_size(l.oid) / current_setting('block_size')::int8, pg_table_size(l.oid), pg_relation_filenode(l.oid) \
    FROM (SELECT c.oid FROM pg_class c WHERE c.oid = $1 AND c.relkind = 'r' \
        UNION SELECT relid::oid FROM pg_partition_tree($1::oid::regclass) WHERE isleaf) tree \
    JOIN pg_class l ON l.oid = tree.oid JOIN pg_namespace n ON n.oid = l.relnamespace \
    LEFT JOIN pg_am m ON m.oid = l.relam WHERE l.relkind <> 'p' ORDER BY l.oid";

/// `attnames` and `rowfilter` are new in version 15.
const PUBLISHED: &str = "\
    SELECT CASE WHEN jsonb_typeof(to_jsonb(t) -> 'attnames') = 'array' \
            THEN ARRAY(SELECT jsonb_array_elements_text(to_jsonb(t) -> 'attnames')) END, to_jsonb(t) ->> 'rowfilter' \
    FROM pg_publication_tables t WHERE t.pubname = $1 AND t.schemaname = $2 AND t.tablename = $3";

/// Whether a column is of the replica identity as `RelationGetIdentityKeyBitmap` has it.
const COLUMNS: &str = "\
    SELECT a.attname::text, a.atttypid, a.atttypmod, a.attgenerated::text, \
        EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid \
            AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]) \
            AND (c.relreplident = 'd' AND i.indisprimary AND i.indimmediate \
                OR c.relreplident = 'i' AND i.indisreplident)), \
        (SELECT min(n.nspname::text) FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace \
            WHERE o.oprname = '=' AND o.oprleft = t.base AND o.oprright = t.base AND n.nspname <> 'pg_catalog') \
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
    JOIN LATERAL (SELECT CASE WHEN y.typtype = 'd' THEN y.typbasetype ELSE y.oid END AS base \
        FROM pg_type y WHERE y.oid = a.atttypid) t ON true \
    WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_statements_are_quoted() {
        assert_eq!(quoted("my \"s\"", "a.b"), "\"my \"\"s\"\"\".\"a.b\"");
        assert_eq!(
            grant_statement("s", &["\"s\".\"a\"", "\"s\".\"b\""], "cdc"),
            "GRANT USAGE ON SCHEMA \"s\" TO \"cdc\"; GRANT SELECT ON \"s\".\"a\", \"s\".\"b\" TO \"cdc\";"
        );
    }

    #[test]
    fn the_digest_has_both_its_parameters() {
        let sql = digest("42::oid", "'p'");
        assert!(!sql.contains('{') && sql.contains("42::oid") && sql.contains("p.pubname = 'p'"));
    }
}
