//! The publication: what pgoutput sends. Created for exactly the captured tables, or checked if it is there.
//!
//! One that Rowcast created carries a comment that says so, and follows the configuration both ways. One that an
//! operator made is only ever added to, and only if our role owns it; else the error has the statement to run.
//!
//! A table that is added streams from then on: the server decodes older changes by the publication as it was then.
//! The publication must exist before the slot: decoding looks it up in the catalog as of each change.

use std::collections::BTreeSet;

use rowcast_core::{ErrorClass, SourceError};

use super::Catalog;
use super::tables::CapturedTable;
use crate::error::ServerError;
use crate::replication::connection::{literal, quote};

/// Marks a publication as ours.
pub(super) const COMMENT: &str = "created by rowcast, which keeps its tables as configured";

const OPTIONS: &str = "publish = 'insert, update, delete, truncate', publish_via_partition_root = true";

/// Names without and with quotes.
type Names = BTreeSet<(String, String)>;

struct Publication {
    all_tables: bool,
    complete: bool,
    via_root: bool,
    owned: bool,
    ours: bool,
    members: Names,
    /// What is published of members that aren't published whole.
    narrowed: Vec<String>,
}

fn names(tables: &[CapturedTable]) -> Names {
    tables.iter().map(|table| (table.schema.clone(), table.table.clone())).collect()
}

fn list(names: &Names) -> String {
    names.iter().map(|(schema, table)| format!("{}.{}", quote(schema), quote(table))).collect::<Vec<_>>().join(", ")
}

fn plain(names: &Names) -> String {
    names.iter().map(|(schema, table)| format!("{schema}.{table}")).collect::<Vec<_>>().join(", ")
}

fn create_statement(name: &str, tables: &[CapturedTable]) -> String {
    let tables: Vec<String> = tables.iter().map(CapturedTable::quoted).collect();
    format!("CREATE PUBLICATION {} FOR TABLE {} WITH ({OPTIONS});", quote(name), tables.join(", "))
}

/// Creates the publication or brings it up to date.
pub(crate) async fn ensure(
    catalog: &mut Catalog,
    name: &str,
    tables: &[CapturedTable],
    notes: &mut Vec<String>,
) -> Result<(), SourceError> {
    let Some(mut found) = find(catalog, name).await? else {
        if tables.is_empty() {
            return Err(catalog
                .target()
                .definite(format!("publication {name} is not there, and neither is any table for it")));
        }
        create(catalog, name, tables, true).await?;
        notes.push(format!("publication {name} was created for {}", plain(&names(tables))));
        return Ok(());
    };
    let partitioned = tables.iter().any(|table| table.partitioned);

    if !found.complete || (partitioned && !found.via_root) {
        let statement = format!("ALTER PUBLICATION {} SET ({OPTIONS});", quote(name));
        let what = "it does not publish all of insert, update, delete and truncate under the tables' own names";
        alter(catalog, name, &found, &statement, what).await?;
        notes.push(format!("publication {name} was set to publish all operations, partitions under their root"));
        // its partitions were its members before
        if let Some(now) = find(catalog, name).await? {
            found = now;
        }
    }
    let captured = names(tables);
    let missing: Names =
        if found.all_tables { Names::new() } else { captured.difference(&found.members).cloned().collect() };
    let surplus: Names = found.members.difference(&captured).cloned().collect();
    // not SET TABLE, which would forget row filters and column lists that an operator gave it
    if found.ours && !found.all_tables && !surplus.is_empty() {
        let statement = format!("ALTER PUBLICATION {} DROP TABLE {};", quote(name), list(&surplus));
        let what = format!("it has tables that are not captured: {}", plain(&surplus));
        alter(catalog, name, &found, &statement, &what).await?;
    }
    if !missing.is_empty() {
        let statement = format!("ALTER PUBLICATION {} ADD TABLE {};", quote(name), list(&missing));
        alter(catalog, name, &found, &statement, &format!("it lacks {}", plain(&missing))).await?;
    }
    if !missing.is_empty() {
        notes.push(format!("publication {name}: added {}, whose changes stream from now on", plain(&missing)));
    }
    if !surplus.is_empty() && !found.all_tables {
        let done = if found.ours { "removed" } else { "has tables that are not captured:" };
        notes.push(format!("publication {name}: {done} {}", plain(&surplus)));
    }
    for narrowed in &found.narrowed {
        notes.push(format!("publication {name} publishes only {narrowed}"));
    }
    Ok(())
}

/// A peek: uses the publication if it covers the tables as it is; else creates one with this name, to be dropped at
/// the end. Gives the name of the publication to use, and whether it is to be dropped.
pub(crate) async fn borrow(
    catalog: &mut Catalog,
    name: &str,
    own: &str,
    tables: &[CapturedTable],
) -> Result<(String, bool), SourceError> {
    if let Some(found) = find(catalog, name).await? {
        let covered = found.all_tables || names(tables).is_subset(&found.members);
        let via_root = found.via_root || !tables.iter().any(|table| table.partitioned);
        if covered && found.complete && via_root {
            return Ok((name.to_owned(), false));
        }
    }
    // if we may not create one, a lasting one is what the operator can create for us
    create(catalog, own, tables, false).await.map_err(|error| match error.class() {
        ErrorClass::Definite | ErrorClass::Gap => error.repair(format!(
            "as the tables' owner with CREATE on the database (or as a superuser): {}",
            create_statement(name, tables)
        )),
        ErrorClass::Transient => error,
    })?;
    Ok((own.to_owned(), true))
}

/// Drops a borrowed publication; what goes wrong is only logged.
pub(crate) async fn drop(catalog: &mut Catalog, name: &str) {
    let statement = format!("DROP PUBLICATION IF EXISTS {};", quote(name));
    match catalog.execute("dropping the publication of a peek", &statement).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(publication = name, %error, "a peek's publication is left behind"),
        Err(error) => tracing::warn!(publication = name, %error, "a peek's publication is left behind"),
    }
}

/// Whether a publication is ours; none if there is none.
pub(super) async fn owner(catalog: &mut Catalog, name: &str) -> Result<Option<bool>, SourceError> {
    let rows = catalog.query("looking at the publication", PUBLICATION, &[&name]).await?;
    Ok(rows.first().map(|row| row.get::<_, Option<String>>(4).as_deref() == Some(COMMENT)))
}

async fn find(catalog: &mut Catalog, name: &str) -> Result<Option<Publication>, SourceError> {
    const DOING: &str = "looking at the publication";
    let rows = catalog.query(DOING, PUBLICATION, &[&name]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let comment: Option<String> = row.get(4);
    let mut found = Publication {
        all_tables: row.get(0),
        complete: row.get(1),
        via_root: row.get(2),
        owned: row.get(3),
        ours: comment.as_deref() == Some(COMMENT),
        members: Names::new(),
        narrowed: Vec::new(),
    };
    for row in catalog.query(DOING, MEMBERS, &[&name]).await? {
        let (schema, table): (String, String) = (row.get(0), row.get(1));
        let (filter, columns): (Option<&str>, Vec<String>) = (row.get(2), row.get(3));
        if let Some(filter) = filter {
            found.narrowed.push(format!("the rows of {schema}.{table} with {filter}"));
        }
        if !columns.is_empty() {
            found.narrowed.push(format!("columns {} of {schema}.{table}", columns.join(", ")));
        }
        found.members.insert((schema, table));
    }
    Ok(Some(found))
}

async fn create(catalog: &mut Catalog, name: &str, tables: &[CapturedTable], lasting: bool) -> Result<(), SourceError> {
    const DOING: &str = "creating the publication";
    let statement = create_statement(name, tables);
    if let Err(refused) = catalog.execute(DOING, &statement).await? {
        return Err(refuse(catalog, refused, DOING, &statement));
    }
    if lasting {
        let comment = format!("COMMENT ON PUBLICATION {} IS {};", quote(name), literal(COMMENT));
        if let Err(refused) = catalog.execute(DOING, &comment).await? {
            return Err(refuse(catalog, refused, DOING, &comment));
        }
    }
    tracing::info!(publication = name, tables = tables.len(), "publication created");
    Ok(())
}

async fn alter(
    catalog: &mut Catalog,
    name: &str,
    found: &Publication,
    statement: &str,
    what: &str,
) -> Result<(), SourceError> {
    let doing = format!("publication {name}: {what}");
    if !found.owned {
        return Err(catalog.target().definite(&doing).repair(format!("as its owner: {statement}")));
    }
    if let Err(refused) = catalog.execute(&doing, statement).await? {
        return Err(refuse(catalog, refused, &doing, statement));
    }
    tracing::info!(publication = name, statement, "publication altered");
    Ok(())
}

fn refuse(catalog: &Catalog, refused: ServerError, doing: &str, statement: &str) -> SourceError {
    let error = refused.explain(catalog.target(), doing);
    if refused.is_privilege() {
        let how = "as the tables' owner with CREATE on the database (or as a superuser)";
        return error.repair(format!("{how}: {statement}"));
    }
    if refused.code == "25006" {
        return error.repair(format!(
            "the server is a standby, which replays what its primary has; on the primary: {statement}"
        ));
    }
    error
}

const PUBLICATION: &str = "\
    SELECT p.puballtables, p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate, p.pubviaroot, \
        pg_has_role(current_user, p.pubowner, 'USAGE'), obj_description(p.oid, 'pg_publication') \
    FROM pg_publication p WHERE p.pubname = $1";

/// `rowfilter` and lists of columns (`prattrs`) are new in version 15.
const MEMBERS: &str = "\
    SELECT t.schemaname::text, t.tablename::text, to_jsonb(t) ->> 'rowfilter', \
        ARRAY(SELECT a.attname::text FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid \
            JOIN pg_attribute a ON a.attrelid = r.prrelid WHERE p.pubname = t.pubname \
                AND r.prrelid = to_regclass(format('%I.%I', t.schemaname, t.tablename)) \
                AND a.attnum::text = ANY (regexp_split_to_array(to_jsonb(r) ->> 'prattrs', '[^0-9]+')) ORDER BY a.attnum) \
    FROM pg_publication_tables t WHERE t.pubname = $1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_for_the_operator_quotes_odd_names() {
        let table = |schema: &str, table: &str| CapturedTable {
            schema: schema.to_owned(),
            table: table.to_owned(),
            partitioned: false,
        };
        let statement = create_statement("my pub", &[table("public", "a"), table("Odd", "we\"ird.t")]);
        assert_eq!(
            statement,
            "CREATE PUBLICATION \"my pub\" FOR TABLE \"public\".\"a\", \"Odd\".\"we\"\"ird.t\" WITH (publish = 'insert, \
             update, delete, truncate', publish_via_partition_root = true);"
        );
    }
}
