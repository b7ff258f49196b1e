//! What is kept of the tables' columns: texts of the connector, in records of their own beside the checkpoint, written when one
//! changes and now and then again. A record holds some [`RECORD`] bytes, so that none grows too large for its topic; the checkpoint
//! says how many there are.

use std::sync::Arc;

use rowcast_core::{KeptSchema, TableName};
use serde::{Deserialize, Serialize};

use super::{Checkpoint, VERSION, belongs_to_another, check_version, damaged};
use crate::error::RunError;
use crate::pipeline::Schemas;

/// Bytes of texts in one record, about.
const RECORD: usize = 256 << 10;

/// A record.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    version: u32,
    source: String,
    schemas: Vec<StoredSchema>,
}

/// One table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct StoredSchema {
    pub(super) db: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) schema: Option<String>,
    pub(super) table: String,
    /// The position from which on it holds.
    pub(super) from: String,
    /// The connector's.
    pub(super) text: String,
}

fn size(schema: &KeptSchema) -> usize {
    schema.text.as_ref().map_or(0, String::len) + 100
}

/// How many records they take.
pub(super) fn records(schemas: &Schemas) -> usize {
    parts(schemas).len()
}

fn parts(schemas: &Schemas) -> Vec<Vec<&KeptSchema>> {
    let mut parts: Vec<Vec<&KeptSchema>> = Vec::new();
    let mut bytes = usize::MAX;
    for schema in schemas.values() {
        bytes = bytes.saturating_add(size(schema));
        match parts.last_mut() {
            Some(part) if bytes <= RECORD => part.push(schema),
            _ => {
                bytes = size(schema);
                parts.push(vec![schema]);
            }
        }
    }
    parts
}

fn one(schema: &KeptSchema) -> StoredSchema {
    StoredSchema {
        db: schema.table.db.to_string(),
        schema: schema.table.schema.as_deref().map(str::to_owned),
        table: schema.table.table.to_string(),
        from: schema.from.clone(),
        text: schema.text.clone().unwrap_or_default(),
    }
}

/// All of them, for a file.
pub(super) fn stored(schemas: &Schemas) -> Vec<StoredSchema> {
    schemas.values().map(|schema| one(schema)).collect()
}

/// The reverse of [`stored`].
pub(super) fn read(stored: Vec<StoredSchema>) -> Schemas {
    let entry = |it: StoredSchema| {
        let table = TableName { db: it.db.into(), schema: it.schema.map(Into::into), table: it.table.into() };
        (table.clone(), Arc::new(KeptSchema { table, from: it.from, text: Some(it.text) }))
    };
    stored.into_iter().map(entry).collect()
}

impl Checkpoint {
    /// How many records of schemas a checkpoint counts; none if it isn't one.
    pub(super) fn schema_records_of(bytes: &[u8]) -> usize {
        #[derive(Deserialize)]
        struct Count {
            #[serde(default)]
            schema_records: usize,
        }
        serde_json::from_slice::<Count>(bytes).map_or(0, |it| it.schema_records)
    }

    /// The records of what is kept of the tables' columns.
    pub fn schemas_to_bytes(&self) -> Vec<Vec<u8>> {
        let record = |part: Vec<&KeptSchema>| {
            let schemas = part.into_iter().map(one).collect();
            serde_json::to_vec(&Stored { version: VERSION, source: self.source.clone(), schemas }).unwrap_or_default()
        };
        parts(&self.schemas).into_iter().map(record).collect()
    }

    /// Takes in such records found at `place`: as many as [`Checkpoint::schema_records_of`] says, those behind them are older.
    ///
    /// # Errors
    /// Definite: newer version, another source, damaged.
    pub fn take_schemas(&mut self, records: &[Vec<u8>], place: &str) -> Result<(), RunError> {
        let mut all = Vec::new();
        for bytes in records {
            check_version(bytes, place)?;
            let record: Stored = serde_json::from_slice(bytes).map_err(|error| damaged(place, &error.to_string()))?;
            if record.source != self.source {
                return Err(belongs_to_another(place, &record.source, &self.source));
            }
            all.extend(record.schemas);
        }
        self.schemas = Arc::new(read(all));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn many_schemas_take_several_records_and_read_back() {
        let of = |number: usize| StoredSchema {
            db: "shop".into(),
            schema: None,
            table: format!("t{number}"),
            from: "0-1-5".into(),
            text: "x".repeat(9_000),
        };
        let mut checkpoint = Checkpoint::claim("shop", "a");
        checkpoint.schemas = Arc::new(read((0..100).map(of).collect()));
        let bytes = checkpoint.to_bytes(false);
        let records = checkpoint.schemas_to_bytes();
        assert_eq!(records.len(), Checkpoint::schema_records_of(&bytes));
        assert!(records.len() > 2 && records.iter().all(|record| record.len() < RECORD + RECORD / 4));
        let mut back = Checkpoint::from_bytes(&bytes, "shop", "here").unwrap();
        back.take_tables(&checkpoint.tables_to_bytes().unwrap(), "here").unwrap();
        back.take_schemas(&records, "here").unwrap();
        assert_eq!(back.schemas, checkpoint.schemas);
        assert!(back.take_schemas(&[b"{}".to_vec()], "here").is_err());
    }
}
