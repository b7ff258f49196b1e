//! The publisher's part of the copies: pieces of reads are held until the stream has passed their bound, judged by the board,
//! and staged between transactions; events of tables without a key are held back while these are copied.
//!
//! Guarantees: held events leave their file only by being published: behind the last row of their table, or, if its copy ends
//! without being complete, at once and all of them. What the board has noted of a piece is committed with the piece's rows; a piece is published whole or, where newer
//! changes have overtaken it, without these rows.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rowcast_core::TableName;
use rowcast_core::backfill::Offset;

use super::encode::Encoded;
use super::held::HeldBack;
use super::publish::Publisher;
use super::stopped::Fate;
use crate::backfill::board::{Part, Verdict};
use crate::backfill::coordinator::{Message, ReadPiece};
use crate::backfill::hold::Hold;
use crate::backfill::state::{CopyState, TableId};
use crate::error::RunError;
use crate::format::json::{self, CopyMarker};
use crate::route;

/// Pieces that wait for the stream; their bytes are bounded by the readers' budget.
const MOST_WAITING: usize = 4_096;

/// How often the server is asked how far it has sent.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// The held events of a table.
struct Held {
    /// The copy that they wait for.
    copy: String,
    /// The version of the watch list from which on the copy's next read doesn't see all of them.
    generation: u64,
    hold: Hold,
}

/// The pieces that wait, and the events that are held.
#[derive(Default)]
pub(super) struct Copies {
    pub(super) waiting: VecDeque<ReadPiece>,
    /// Pieces that could be judged, until it is known what comes behind them.
    pub(super) held: Vec<HeldBack>,
    holds: HashMap<TableId, Held>,
    /// How far the stream has come.
    pub(super) reached: Offset,
    /// When the server was last asked for it.
    asked: Option<Instant>,
    /// Copies whose end isn't committed yet.
    finished: Vec<CopyState>,
}

impl Copies {
    /// Whether more messages may be taken.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < MOST_WAITING
    }

    /// Whether events of the table are held.
    pub(super) fn holds(&self, id: &TableId) -> bool {
        self.holds.contains_key(id)
    }

    /// Takes a message in.
    pub(super) fn take(&mut self, message: Message) {
        if let Message::Piece(piece) = message {
            self.waiting.push_back(piece);
        }
    }

    /// Whether the stream has passed the bound of the next piece.
    pub(super) fn is_ready(&self) -> bool {
        self.waiting.front().is_some_and(|piece| piece.of.reading.bound <= self.reached)
    }
}

impl Publisher {
    /// Publishes at most one piece or slice of held events, and announces what is finished. True if there may be more at once.
    pub(super) fn publish_copies(&mut self) -> Result<bool, RunError> {
        if self.open.is_some() {
            return Ok(false);
        }
        self.void_copies()?;
        let piece = self.copies.next(&self.board, self.encoder.tells_markers());
        let judged = piece.is_some();
        if let Some(piece) = piece {
            self.publish_piece(piece)?;
        }
        let replayed = self.replay()?;
        while let Some((name, copy)) = self.board.take_finished() {
            self.finished(&name, &copy)?;
        }
        if self.is_due() {
            self.commit()?;
        }
        Ok(judged || replayed)
    }

    fn publish_piece(&mut self, piece: ReadPiece) -> Result<(), RunError> {
        let ReadPiece { of, rows } = piece;
        let mut encoded = self
            .runtime
            .block_on(rows)
            .map_err(|error| RunError::definite(format!("the encoder failed: {error}: a defect of rowcast")))??;
        if matches!(of.part, Part::Whole { .. })
            && self.board.is_current(&of)
            && let Some(held) = self.copies.holds.values_mut().find(|held| held.copy == of.copy)
            && !held.hold.decide(&of.reading)
        {
            tracing::info!(source = %self.options.name, "what a read sees of the table's last changes is uncertain: reading again");
            self.board.reject_whole(&of.copy);
        }
        let Verdict { publish, start, void, copy } =
            self.board.judge(&of, &encoded.keys, encoded.records.len(), &self.log);
        if let Some((name, copy)) = &copy {
            if start {
                self.mark("start", name, copy, &of.reading.pos)?;
            }
            self.last_read = Some(of.reading.pos.clone());
            if void && let Some((table, _)) = encoded.destinations.first().and_then(|it| it.table.as_ref()) {
                let text = self.encoder.read_text(&of.reading, &format!("v{}", copy.copy));
                let void = self.encoder.encode_restart(table, &text);
                self.announce(&void)?;
                self.stage_records(&void, 0..void.records.len())?;
            }
        }
        if !publish.is_empty() {
            self.announce(&encoded)?;
            if let Some((count, reason)) = &encoded.poison {
                self.poisoned(*count, reason);
            }
            self.mark_rows(&mut encoded, &publish, &of.copy);
        }
        for run in publish {
            self.stage_records(&encoded, run)?;
        }
        self.staged.moved = true;
        let name = of.copy.clone();
        drop((of, encoded));
        self.board.handled(&name);
        Ok(())
    }

    fn finished(&mut self, name: &TableName, copy: &CopyState) -> Result<(), RunError> {
        let pos = self.last_read.clone().unwrap_or_else(|| self.log.to_string());
        if !copy.announced {
            self.mark("start", name, copy, &pos)?;
        }
        self.mark("end", name, copy, &pos)?;
        self.copies.finished.push(copy.clone());
        Ok(())
    }

    /// Tells of the tables whose end is committed by now.
    pub(super) fn tell_finished(&mut self) {
        for CopyState { id, rows, bytes, dropped, again, .. } in self.copies.finished.drain(..) {
            let (source, table) = (&self.options.name, id.to_string());
            tracing::info!(%source, table, rows, bytes, dropped_for_newer_changes = dropped, read_again = again, "the table is copied");
        }
    }

    /// While a piece waits for the stream, the server is asked how far it has sent: an idle one doesn't say so for seconds.
    pub(super) fn ask_for_progress(&mut self) {
        let waits = self.copies.waiting.front().is_some_and(|piece| piece.of.reading.bound > self.copies.reached);
        let wanted = waits || self.options.meter.take_wants_progress();
        if wanted && self.copies.asked.is_none_or(|asked| asked.elapsed() >= ASK_AGAIN) {
            self.copies.asked = Some(Instant::now());
            self.confirm.ask();
        }
    }

    /// Whether pieces are on their way or held back, for which the stream's events must not wait long.
    pub(super) fn is_copying(&self) -> bool {
        !self.copies.waiting.is_empty() || !self.copies.held.is_empty()
    }

    /// A marker on the schema topic.
    fn mark(&mut self, marker: &str, name: &TableName, copy: &CopyState, pos: &str) -> Result<(), RunError> {
        let mut value = Vec::new();
        let it = CopyMarker { marker, copy: &copy.copy, rows: copy.rows, pos };
        json::copy_marker(&mut value, &self.options.format.names, (&name.db, name.schema.as_deref(), &name.table), &it);
        let key = format!("backfill/{}/{marker}", copy.id);
        self.sink.stage_schema(&route::schema_topic(&self.options.name), &key, &value)?;
        self.staged.moved = true;
        Ok(())
    }

    /// Opens files for the tables whose events are to be held from this version of the watch list on.
    pub(super) fn hold_tables(&mut self, version: u64) -> Result<(), RunError> {
        let held = self.board.held();
        for (id, (copy, generation)) in held {
            if generation > version {
                continue;
            }
            match self.copies.holds.get_mut(&id) {
                Some(held) if held.generation < generation => {
                    held.hold.cover();
                    held.generation = generation;
                }
                Some(_) => {}
                None => {
                    let hold = Hold::new(&self.options.state_dir)?;
                    self.copies.holds.insert(id, Held { copy, generation, hold });
                }
            }
        }
        Ok(())
    }

    /// Stages records of the stream; holds those of tables that are being copied and have no key, and leaves out those of tables that
    /// can't be followed.
    pub(super) fn stage_or_hold(&mut self, encoded: &Encoded, records: Range<usize>) -> Result<(), RunError> {
        if (self.copies.holds.is_empty() && self.stopped.is_empty()) || records.is_empty() {
            return self.stage_records(encoded, records);
        }
        let fates = self.fates(encoded);
        let mut from = records.start;
        for index in records.clone() {
            let Some(record) = encoded.records.get(index) else { break };
            match fates.get(record.destination as usize) {
                None | Some(Fate::Stage) => continue,
                Some(Fate::Drop) => {}
                Some(Fate::Hold(id)) => {
                    if let Some(held) = self.copies.holds.get_mut(id) {
                        held.hold.push(encoded, record)?;
                    }
                }
            }
            self.stage_records(encoded, from..index)?;
            from = index + 1;
        }
        self.stage_records(encoded, from..records.end)
    }

    /// A transaction of the stream ended.
    pub(super) fn hold_commit(&mut self, transaction: &Arc<rowcast_core::Transaction>, end: Offset) {
        for held in self.copies.holds.values_mut() {
            held.hold.commit(transaction, end);
        }
    }

    /// Publishes a slice of events of a table whose rows are all out, or whose copy ends without them; true if there is more.
    fn replay(&mut self) -> Result<bool, RunError> {
        let ready = self
            .board
            .held()
            .into_iter()
            .find_map(|(id, (copy, _))| self.board.may_replay(&copy).map(|given_up| (id, copy, given_up)));
        let Some((id, copy, given_up)) = ready else { return Ok(false) };
        if let Some(held) = self.copies.holds.get_mut(&id) {
            if given_up {
                held.hold.give_up();
            }
            if let Some(slice) = held.hold.next_slice()? {
                self.announce(&slice)?;
                self.stage_records(&slice, 0..slice.records.len())?;
                return Ok(true);
            }
        }
        if let Some((name, state)) = self.board.finish_held(&copy) {
            self.finished(&name, &state)?;
        }
        self.copies.holds.remove(&id);
        Ok(true)
    }
}
