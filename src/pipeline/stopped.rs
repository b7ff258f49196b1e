//! What a connector says of single tables: one can't be followed any more (`on_table_failure` decides), or something is to be kept of
//! its columns. Both are committed with the position where they stand.
//!
//! Guarantees: behind a failure no event of its table is published, in this run and all later ones, until a copy of it was asked for;
//! the first thing that is published then is a truncation, which voids what consumers have of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use rowcast_core::{KeptSchema, TableFailure, TableName};

use super::encode::Encoded;
use super::publish::Publisher;
use crate::backfill::state::{Settled, TableId};
use crate::config::OnTableFailure;
use crate::error::RunError;

/// What is kept of the tables' columns for the connector.
pub type Schemas = BTreeMap<TableName, Arc<KeptSchema>>;

/// Tables of which something is kept; far above what a source captures.
const MOST_SCHEMAS: usize = 16_384;

/// What becomes of a destination's records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// They are published.
    Stage,
    /// They wait until their table is copied.
    Hold(TableId),
    /// They are left out.
    Drop,
}

impl Publisher {
    /// A table can't be followed from here on.
    pub(super) fn table_failed(&mut self, failure: &TableFailure) -> Result<(), RunError> {
        let (source, id) = (&self.options.name, TableId::of(&failure.table));
        let at = self.open.as_ref().map_or_else(|| self.log.to_string(), |(transaction, _)| transaction.pos.clone());
        let what = format!("{id} can't be followed from {at} on: {}", failure.why);
        let again = format!(
            "`rowcast backfill {source} '{id}'` voids what was published of it, copies it anew and follows it again"
        );
        if self.options.on_table_failure == OnTableFailure::StopSource {
            return Err(RunError::definite(format!(
                "{what}; or set `on_table_failure: stop_table`: then the source goes on without this table, until {again}"
            )));
        }
        let why = format!("{what}; then {again}");
        if self.board.stop_table(&id, Settled::Stopped { why: why.clone() }) {
            tracing::error!(%source, table = %id, "the table is stopped, all others go on: {why}");
            self.options.status.changed();
        }
        self.stopped = self.board.stopped();
        self.staged.moved = true;
        Ok(())
    }

    /// Keeps, or forgets, what a connector has to say of a table's columns.
    pub(super) fn keep_schema(&mut self, schema: &Arc<KeptSchema>) {
        let known = self.schemas.get(&schema.table);
        if known.map(|known| &known.text) == schema.text.is_some().then_some(&schema.text) {
            return;
        }
        if known.is_none() && self.schemas.len() >= MOST_SCHEMAS {
            tracing::debug!(source = %self.options.name, table = %schema.table, "too many tables: its columns aren't kept");
            return;
        }
        let schemas = Arc::make_mut(&mut self.schemas);
        match schema.text {
            Some(_) => schemas.insert(schema.table.clone(), Arc::clone(schema)),
            None => schemas.remove(&schema.table),
        };
        self.schemas_changed = true;
        self.staged.moved = true;
    }

    /// Between transactions: says of tables whose copies were asked for that what was published of them is void.
    pub(super) fn void_copies(&mut self) -> Result<(), RunError> {
        if self.open.is_some() {
            return Ok(());
        }
        for (copy, id) in self.board.to_void() {
            let text = self.encoder.own_text(&self.log.to_string(), &format!("v{copy}"));
            let mut void = Encoded::default();
            self.encoder.encode_void(&mut void, &super::table_name(&self.options, &id), &text);
            self.stage_records(&void, 0..void.records.len())?;
            self.board.voided(&copy);
            self.staged.moved = true;
            tracing::info!(source = %self.options.name, table = %id, "what was published of the table is void; it is copied and followed again");
            self.options.status.changed();
        }
        self.stopped = self.board.stopped();
        Ok(())
    }

    /// What becomes of the records of each destination of a batch.
    pub(super) fn fates(&self, encoded: &Encoded) -> Vec<Fate> {
        let fate = |id: TableId| match (self.stopped.contains(&id), self.copies.holds(&id)) {
            (true, _) => Fate::Drop,
            (false, true) => Fate::Hold(id),
            (false, false) => Fate::Stage,
        };
        let of = |table: &TableName| fate(TableId::of(table));
        encoded
            .destinations
            .iter()
            .map(|it| it.table.as_ref().map_or(Fate::Stage, |(table, _)| of(&table.name)))
            .collect()
    }
}
