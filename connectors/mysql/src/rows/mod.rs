//! Rows: from the bytes of an image to values, by a plan that is made once per table version.
//!
//! ```text
//! present bitmap (of the event) | null bitmap, values (of the row)  ──plan──►  one Value per column
//! ```
//!
//! Text in UTF-8 and bytes are borrowed; decimals, JSON and text of other character sets are written into the arena.
//! Damage is a [`DecodeError`] that names the column, never a panic and never a guess.
//!
//! The row after a partial JSON update ([`PARTIAL`]) has differences where documents are; they are applied to those of the row
//! before. Where the log left the document out (`binlog_row_image=MINIMAL`), nothing can be told of it but that it changed: an
//! error, since "absent" would mean that it stayed the same.

pub(crate) mod charset;
mod compressed;
pub(crate) mod constant;
pub(crate) mod decimal;
mod document;
pub(crate) mod json;
pub(crate) mod kind;
pub(crate) mod labels;
pub(crate) mod literal;
pub(crate) mod select;
pub(crate) mod temporal;
mod values;

use bumpalo::Bump;
use rowcast_core::{DecodeError, Image, RowDecoder, Type, Value};

use crate::binlog::rows_event::{PARTIAL, PARTIAL_JSON, skip};
use crate::binlog::table_map::bit;
use crate::cursor::{Cursor, Short};
pub(crate) use kind::{Attributes, Kind, Special};

impl From<Short> for DecodeError {
    #[cold]
    fn from(_: Short) -> Self {
        DecodeError::row("the bytes aren't a value of the column's type")
    }
}

/// The plan of one table version.
#[derive(Debug)]
pub(crate) struct Plan {
    kinds: Vec<Kind>,
}

/// An image: which columns it has, and where its values are.
struct Row<'a> {
    present: &'a [u8],
    /// One bit per column with a document: it has differences. Empty if there are none.
    partial: &'a [u8],
    nulls: &'a [u8],
    at: Cursor<'a>,
}

/// A column of an image.
enum Cell {
    Absent,
    Null,
    /// The cursor is at its value.
    Value,
    /// The cursor is at differences to the document number so and so of the row before.
    Differences(usize),
}

/// The documents of a row: none where the log left one out or it is NULL.
type Documents<'a> = Vec<Option<&'a [u8]>>;

impl<'a> Row<'a> {
    fn is_present(&self, column: usize) -> bool {
        bit(self.present, column)
    }
}

impl Plan {
    pub(crate) fn new(kinds: Vec<Kind>) -> Self {
        Self { kinds }
    }

    fn bitmap<'a>(&self, data: &'a [u8], offset: usize) -> Result<&'a [u8], Short> {
        Cursor::new(data.get(offset..).unwrap_or(&[])).take(self.kinds.len().div_ceil(8))
    }

    fn documents(&self) -> usize {
        self.kinds.iter().filter(|kind| kind.is_document()).count()
    }

    /// The null bitmap.
    fn nulls<'a>(&self, present: &[u8], at: &mut Cursor<'a>) -> Result<&'a [u8], Short> {
        let count = (0..self.kinds.len()).filter(|index| bit(present, *index)).count();
        at.take(count.div_ceil(8))
    }

    /// The image, and of a partial update the documents of the row before.
    fn open<'a>(&self, data: &'a [u8], image: Image) -> Result<(Row<'a>, Documents<'a>), Short> {
        let offset = (image.shape & !PARTIAL) as usize;
        let present = self.bitmap(data, offset)?;
        let mut at = Cursor::new(image.span.of(data));
        if image.shape & PARTIAL == 0 {
            let nulls = self.nulls(present, &mut at)?;
            return Ok((Row { present, partial: &[], nulls, at }, Vec::new()));
        }
        let nulls = self.nulls(present, &mut at)?;
        let mut before = Row { present, partial: &[], nulls, at };
        let mut documents = Vec::with_capacity(self.documents());
        self.walk(&mut before, |_, kind, cell, at| {
            let mut document = None;
            if matches!(cell, Cell::Value) {
                document = kind.document(at)?;
            }
            if kind.is_document() {
                documents.push(document);
            }
            Ok::<_, Short>(())
        })?;
        let mut at = before.at;
        let present = self.bitmap(data, offset + self.kinds.len().div_ceil(8))?;
        let options = at.lenenc()?;
        let partial = match options {
            0 => &[][..],
            PARTIAL_JSON => at.take(self.documents().div_ceil(8))?,
            _ => return Err(Short),
        };
        let nulls = self.nulls(present, &mut at)?;
        Ok((Row { present, partial, nulls, at }, documents))
    }

    /// Hands out each column; `each` moves the cursor behind the value.
    #[inline]
    fn walk<'a, 'p, E: From<Short>>(
        &'p self,
        row: &mut Row<'a>,
        mut each: impl FnMut(usize, &'p Kind, Cell, &mut Cursor<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut nth, mut document) = (0, 0);
        for (index, kind) in self.kinds.iter().enumerate() {
            let mut differences = None;
            if !row.partial.is_empty() && kind.is_document() {
                differences = bit(row.partial, document).then_some(document);
                document += 1;
            }
            let mut cell = Cell::Absent;
            if row.is_present(index) {
                cell = match (bit(row.nulls, nth), differences) {
                    (true, _) => Cell::Null,
                    (false, Some(document)) => Cell::Differences(document),
                    (false, None) => Cell::Value,
                };
                nth += 1;
            }
            each(index, kind, cell, &mut row.at)?;
        }
        Ok(())
    }
}

impl RowDecoder for Plan {
    /// `image.shape` is the offset in `data` of the bitmap of present columns. With [`PARTIAL`] in it, it is the bitmap of the row
    /// before, behind which is that of the row after, and the image is both rows.
    fn decode<'a>(
        &'a self,
        data: &'a [u8],
        image: Image,
        arena: &'a Bump,
        row: &mut Vec<Value<'a>>,
    ) -> Result<(), DecodeError> {
        let (mut from, documents) = self.open(data, image)?;
        row.reserve(self.kinds.len());
        self.walk(&mut from, |index, kind, cell, at| {
            row.push(match cell {
                Cell::Absent => Value::Absent,
                Cell::Null => Value::Null,
                Cell::Value => kind.value(at, arena).map_err(|error| error.at(index))?,
                Cell::Differences(nth) => {
                    let before = documents.get(nth).copied().flatten();
                    changed(kind, before, at, arena).map_err(|error| error.at(index))?
                }
            });
            Ok::<_, DecodeError>(())
        })?;
        let left = from.at.len();
        if left == 0 { Ok(()) } else { Err(DecodeError::row(format!("{left} bytes behind the last column"))) }
    }

    fn text_value<'a>(&'a self, _: usize, ty: &Type, text: &'a str, arena: &'a Bump) -> Option<Value<'a>> {
        constant::value(ty, text, arena)
    }

    fn literals(&self, data: &[u8], image: Image, columns: &[usize]) -> Option<Vec<String>> {
        let (mut from, _) = self.open(data, image).ok()?;
        let mut found = vec![None; columns.len()];
        self.walk(&mut from, |index, kind, cell, at| {
            if matches!(cell, Cell::Absent | Cell::Null) {
                return Ok(());
            }
            let value = skip(at, kind.width())?;
            if !columns.contains(&index) || matches!(cell, Cell::Differences(_)) {
                return Ok(());
            }
            let literal = kind.literal(value)?;
            for (slot, _) in found.iter_mut().zip(columns).filter(|(_, wanted)| **wanted == index) {
                slot.clone_from(&literal);
            }
            Ok::<_, DecodeError>(())
        })
        .ok()?;
        found.into_iter().collect()
    }
}

/// A document by its differences to the one before.
fn changed<'a>(
    kind: &Kind,
    before: Option<&'a [u8]>,
    at: &mut Cursor<'a>,
    arena: &'a Bump,
) -> Result<Value<'a>, DecodeError> {
    let Some(differences) = kind.document(at)? else { return Err(Short.into()) };
    match before {
        Some(before) => json::patch::changed(before, differences, arena)
            .map(Value::Json)
            .ok_or_else(|| DecodeError::row("a partial JSON update that doesn't fit the document before it")),
        None if differences.is_empty() => Ok(Value::Absent),
        None => Err(DecodeError::row(
            "a partial JSON update (binlog_row_value_options=PARTIAL_JSON) of a document that isn't in the log \
             (binlog_row_image is not FULL)",
        )
        .repair("SET GLOBAL binlog_row_image=FULL, or binlog_row_value_options='', for events from now on")),
    }
}

/// The plan of a version of which no row was seen: only a TRUNCATE is known.
#[derive(Debug)]
pub(crate) struct NoRows;

impl RowDecoder for NoRows {
    fn decode<'a>(&'a self, _: &'a [u8], _: Image, _: &'a Bump, _: &mut Vec<Value<'a>>) -> Result<(), DecodeError> {
        Err(DecodeError::row("a row of a table version without rows"))
    }

    fn text_value<'a>(&'a self, _: usize, ty: &Type, text: &'a str, arena: &'a Bump) -> Option<Value<'a>> {
        constant::value(ty, text, arena)
    }

    fn literals(&self, _: &[u8], _: Image, _: &[usize]) -> Option<Vec<String>> {
        None
    }
}

#[cfg(test)]
mod tests;
