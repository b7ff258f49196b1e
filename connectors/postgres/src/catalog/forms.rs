//! Whether everything that a publication has can come in binary form.
//!
//! All its columns count, those of tables that aren't captured too: a type that has no binary form in an array would end the stream
//! with an error of the server.

use std::collections::HashMap;

use rowcast_core::SourceError;

use super::Catalog;
use crate::types::{builtin, resolve};

/// Looks all types of the publication up.
pub(crate) async fn all_binary(catalog: &mut Catalog, publication: &str) -> Result<bool, SourceError> {
    const DOING: &str = "looking at the types of the published columns";
    let rows = catalog.query(DOING, PUBLISHED_TYPES, &[&publication]).await?;
    let columns: Vec<(u32, bool)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let unknown: Vec<u32> =
        columns.iter().map(|(oid, _)| *oid).filter(|oid| builtin::plan(*oid, -1).is_none()).collect();
    let types = if unknown.is_empty() { HashMap::new() } else { catalog.types(DOING, &unknown).await? };
    let text = columns.iter().find(|(oid, key)| !resolve(*oid, -1, &types).0.streams_in_binary(*key));
    if let Some((oid, key)) = text {
        tracing::debug!(oid, key, "a published column has a type without binary form: values come as text");
    }
    Ok(text.is_none())
}

/// The types of all published columns, and whether one of that type may be part of a key.
const PUBLISHED_TYPES: &str = "\
    SELECT a.atttypid, bool_or(EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique \
        AND a.attnum = ANY (i.indkey::int2[]))) \
    FROM pg_publication_tables t JOIN pg_namespace n ON n.nspname = t.schemaname \
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename \
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
    WHERE t.pubname = $1 GROUP BY a.atttypid ORDER BY a.atttypid";
