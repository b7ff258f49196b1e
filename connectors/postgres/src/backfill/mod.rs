//! Reading tables (in the making).

use rowcast_core::backfill::{Piece, Plan, ReadError, Reading, Snapshot, TableReader, Target, What};

/// A connection that reads tables.
#[derive(Debug)]
pub struct PostgresReader;

impl TableReader for PostgresReader {
    async fn plan(&mut self, _: &Target, _: usize) -> Result<Plan, ReadError> {
        Err(ReadError::Gone)
    }

    async fn snapshot(&mut self) -> Result<Snapshot, ReadError> {
        Err(ReadError::Gone)
    }

    async fn begin(&mut self, _: &Target, _: What<'_>, _: u64) -> Result<Reading, ReadError> {
        Err(ReadError::Gone)
    }

    async fn next(&mut self) -> Result<Option<Piece>, ReadError> {
        Err(ReadError::Gone)
    }

    async fn end(&mut self) -> Result<(), ReadError> {
        Err(ReadError::Gone)
    }
}
