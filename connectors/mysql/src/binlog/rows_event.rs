//! Row events: where each row lies. Values aren't decoded here, only stepped over.
//!
//! The walk is what bounds a row: it runs over every row of every table, captured or not, since rows are counted
//! before any filter. A width that leads outside of the event, or rows that don't end where the event ends, are
//! errors: the bytes then don't belong to this table map.

use rowcast_core::Op;

use super::event::kind;
use super::table_map::{WireType, bit, wire};
use crate::cursor::{Cursor, Short};
use crate::rows::temporal;

/// How many bytes a value takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    Fixed(u8),
    /// A length of so many bytes in front.
    Prefixed(u8),
}

/// In [`rowcast_core::Image::shape`]: the row after a partial JSON update, which can't be read without the one before; the image is
/// both of them.
pub(crate) const PARTIAL: u32 = 1 << 31;
/// What a partial update's row says of itself: there are bits for the columns with documents.
pub(crate) const PARTIAL_JSON: u64 = 1;

/// Steps over one value; its bytes, with the length in front.
#[inline]
pub(crate) fn skip<'a>(at: &mut Cursor<'a>, width: Width) -> Result<&'a [u8], Short> {
    let mut ahead = *at;
    let length = match width {
        Width::Fixed(length) => return at.take(usize::from(length)),
        Width::Prefixed(1) => 1 + usize::from(ahead.u8()?),
        Width::Prefixed(2) => 2 + usize::from(ahead.u16()?),
        Width::Prefixed(width) => {
            let length = usize::try_from(ahead.uint(usize::from(width))?).map_err(|_| Short)?;
            usize::from(width).checked_add(length).ok_or(Short)?
        }
    };
    at.take(length)
}

/// The width of a type's values; none for a type that we don't know.
pub(crate) fn width(column: &WireType) -> Option<Width> {
    let fraction = column.a.div_ceil(2);
    Some(match column.kind {
        wire::TINY | wire::YEAR => Width::Fixed(1),
        wire::SHORT => Width::Fixed(2),
        wire::INT24 | wire::DATE | wire::NEWDATE => Width::Fixed(3),
        wire::LONG | wire::FLOAT => Width::Fixed(4),
        wire::LONGLONG | wire::DOUBLE => Width::Fixed(8),
        wire::TIME => Width::Fixed(temporal::old_time_size(column.a)),
        wire::DATETIME => Width::Fixed(temporal::old_datetime_size(column.a)),
        wire::TIMESTAMP => Width::Fixed(temporal::old_timestamp_size(column.a)),
        wire::TIMESTAMP2 if column.a <= 6 => Width::Fixed(4 + fraction),
        wire::DATETIME2 if column.a <= 6 => Width::Fixed(5 + fraction),
        wire::TIME2 if column.a <= 6 => Width::Fixed(3 + fraction),
        wire::NEWDECIMAL => Width::Fixed(crate::rows::decimal::size(column.a, column.b)?),
        wire::BIT if column.a < 8 => Width::Fixed(column.b.checked_add(u8::from(column.a > 0))?),
        wire::ENUM | wire::SET if matches!(column.a, 1 | 2 | 3 | 4 | 8) => Width::Fixed(column.a),
        wire::STRING | wire::VARCHAR | wire::VAR_STRING | wire::VARCHAR_COMPRESSED => {
            Width::Prefixed(if column.length > 255 { 2 } else { 1 })
        }
        wire::BLOB
        | wire::TINY_BLOB
        | wire::MEDIUM_BLOB
        | wire::LONG_BLOB
        | wire::BLOB_COMPRESSED
        | wire::JSON
        | wire::GEOMETRY
        | wire::VECTOR
            if matches!(column.a, 1..=4) =>
        {
            Width::Prefixed(column.a)
        }
        _ => return None,
    })
}

/// A row event's head. Offsets are within the event's body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowsHead {
    pub(crate) op: Op,
    pub(crate) columns: usize,
    /// Bitmap of the columns in the (first) image.
    pub(crate) present: usize,
    /// Bitmap of the columns in an update's second image.
    pub(crate) present_after: usize,
    /// The first row.
    pub(crate) rows: usize,
    /// The second images say whether they have documents' differences.
    pub(crate) partial: bool,
}

/// Reads the table id of a row event; it is where a TABLE_MAP has it.
pub(crate) use super::table_map::table_id;

impl RowsHead {
    pub(crate) fn parse(event_kind: u8, body: &[u8]) -> Result<Self, Short> {
        let mut at = Cursor::new(body);
        at.take(8)?; // table id, flags
        let op = match event_kind {
            kind::WRITE_ROWS | kind::WRITE_ROWS_V1 => Op::Insert,
            kind::UPDATE_ROWS | kind::UPDATE_ROWS_V1 | kind::PARTIAL_UPDATE_ROWS => Op::Update,
            _ => Op::Delete,
        };
        let partial = event_kind == kind::PARTIAL_UPDATE_ROWS;
        if partial || matches!(event_kind, kind::WRITE_ROWS | kind::UPDATE_ROWS | kind::DELETE_ROWS) {
            // Extra data; the length counts itself.
            let extra = usize::from(at.u16()?);
            at.take(extra.checked_sub(2).ok_or(Short)?)?;
        }
        let columns = usize::try_from(at.lenenc()?).map_err(|_| Short)?;
        let bitmap = columns.div_ceil(8);
        let present = body.len() - at.len();
        at.take(bitmap)?;
        let present_after = if op == Op::Update {
            let here = body.len() - at.len();
            at.take(bitmap)?;
            here
        } else {
            present
        };
        Ok(Self { op, columns, present, present_after, rows: body.len() - at.len(), partial })
    }
}

/// Steps over the images of one table map.
#[derive(Debug)]
pub(crate) struct Walker {
    widths: Vec<Width>,
    /// Columns with documents.
    documents: usize,
}

/// Which columns an event's images hold, prepared once per event.
#[derive(Debug, Clone)]
pub(crate) struct Present {
    /// Widths of the columns that are there; none if all are, so that nothing is copied.
    some: Option<Vec<Width>>,
    pub(crate) count: usize,
}

impl Walker {
    pub(crate) fn new(widths: Vec<Width>, documents: usize) -> Self {
        Self { widths, documents }
    }

    /// The length of the second image of a partial update, which begins with what it says of itself.
    pub(crate) fn partial_image(&self, present: &Present, bytes: &[u8]) -> Result<usize, Short> {
        let mut at = Cursor::new(bytes);
        match at.lenenc()? {
            0 => {}
            // All documents of the table have a bit, be they in the image or not.
            PARTIAL_JSON => _ = at.take(self.documents.div_ceil(8))?,
            _ => return Err(Short),
        }
        Ok(bytes.len() - at.len() + self.image(present, at.rest())?)
    }

    pub(crate) fn columns(&self) -> usize {
        self.widths.len()
    }

    pub(crate) fn present(&self, bitmap: &[u8]) -> Present {
        let all = self.widths.len();
        let count = (0..all).filter(|index| bit(bitmap, *index)).count();
        let some = (count < all).then(|| {
            self.widths.iter().enumerate().filter(|(index, _)| bit(bitmap, *index)).map(|(_, width)| *width).collect()
        });
        Present { some, count }
    }

    /// The length of the image at the front of `bytes`.
    #[inline]
    pub(crate) fn image(&self, present: &Present, bytes: &[u8]) -> Result<usize, Short> {
        let widths = present.some.as_deref().unwrap_or(&self.widths);
        let mut at = Cursor::new(bytes);
        let nulls = at.take(present.count.div_ceil(8))?;
        for (eight, null) in widths.chunks(8).zip(nulls) {
            let mut null = *null;
            for width in eight {
                if null & 1 == 0 {
                    skip(&mut at, *width)?;
                }
                null >>= 1;
            }
        }
        Ok(bytes.len() - at.len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_walk_steps_over_nulls_and_absent_columns() {
        let walker = Walker::new(vec![Width::Fixed(4), Width::Prefixed(1), Width::Fixed(1)], 0);
        let all = walker.present(&[0b111]);
        assert_eq!(walker.image(&all, &[0b000, 1, 2, 3, 4, 2, b'a', b'b', 9, 77]).unwrap(), 9);
        assert_eq!(walker.image(&all, &[0b010, 1, 2, 3, 4, 9]).unwrap(), 6);
        assert_eq!(walker.image(&all, &[0b000, 1, 2, 3, 4, 200]), Err(Short));
        let some = walker.present(&[0b110]);
        assert_eq!(walker.image(&some, &[0b00, 1, b'a', 9]).unwrap(), 4);
        let none = walker.present(&[0]);
        assert_eq!(walker.image(&none, &[]).unwrap(), 0);
    }
    #[test]
    fn a_partial_image_has_a_bit_for_each_document() {
        // nine documents of which the image has the second one
        let walker = Walker::new(vec![Width::Prefixed(4); 9], 9);
        let some = walker.present(&[0b10, 0]);
        assert_eq!(walker.partial_image(&some, &[1, 0b10, 0, 0, 1, 0, 0, 0, 77]).unwrap(), 9);
        assert_eq!(walker.partial_image(&some, &[0, 0, 1, 0, 0, 0, 77]).unwrap(), 7);
        assert_eq!(walker.partial_image(&some, &[1, 0b10, 0, 1]).unwrap(), 4);
        assert_eq!(walker.partial_image(&some, &[2, 0b10, 0, 1]), Err(Short));
        assert_eq!(walker.partial_image(&some, &[1]), Err(Short));
    }
}
