//! A row into one value per column: a pgoutput tuple, or a DataRow of a query.
//!
//! `TupleData`: number of columns (2 bytes), then for each a kind: `n` NULL, `u` unchanged TOAST (the value was
//! neither changed nor logged), `t` a length (4 bytes) and text, `b` a length and the binary form. A key-only tuple (`K`) has NULL for every
//! column that isn't of the replica identity: these are Absent, not NULL.
//!
//! `DataRow`: number of columns (2 bytes), then for each a length (4 bytes, -1 for NULL) and text. The backfill's have one
//! column more than the table, the row's place (`ctid`), which isn't looked at here.

use std::borrow::Cow;

use rowcast_core::{Bump, DecodeError, Image, RowDecoder, Type, Value};

use super::{Plan, binary, scalar};
use crate::replication::connection::literal;
use crate::wire::Wire;

/// The tuple holds all columns.
pub(crate) const SHAPE_FULL: u32 = 0;
/// The tuple holds the columns of the replica identity only.
pub(crate) const SHAPE_KEY: u32 = 1;
/// The tuple holds all columns, or those of the key and NULL for the others: which of the two nobody says.
pub(crate) const SHAPE_PARTIAL: u32 = 3;
/// A DataRow with the table's columns and one more.
pub(crate) const SHAPE_DATA_ROW: u32 = 2;

/// The plan of one column.
#[derive(Debug)]
pub(crate) struct ColumnPlan {
    pub(crate) plan: Plan,
    /// Part of the replica identity.
    pub(crate) identity: bool,
}

/// The plan of one table version.
#[derive(Debug)]
pub(crate) struct RowPlan(pub(crate) Vec<ColumnPlan>);

/// A value that isn't NULL, as it came.
#[derive(Debug, Clone, Copy)]
enum Cell<'a> {
    Text(&'a [u8]),
    Binary(&'a [u8]),
}

fn truncated() -> DecodeError {
    DecodeError::row("a tuple that ends before its last column")
}

impl RowPlan {
    fn decode_data_row<'a>(
        &'a self,
        bytes: &'a [u8],
        arena: &'a Bump,
        row: &mut Vec<Value<'a>>,
    ) -> Result<(), DecodeError> {
        let mut wire = Wire::new(bytes);
        let count = usize::from(wire.u16().ok_or_else(truncated)?);
        if count != self.0.len() + 1 {
            return Err(DecodeError::row(format!("{count} values for a table of {} columns and ctid", self.0.len())));
        }
        row.reserve(self.0.len());
        for (index, column) in self.0.iter().enumerate() {
            row.push(match usize::try_from(wire.i32().ok_or_else(truncated)?) {
                Ok(length) => {
                    let text = wire.take(length).ok_or_else(truncated)?;
                    scalar::value(&column.plan, text, arena).map_err(|what| DecodeError::column(index, what))?
                }
                Err(_) => Value::Null,
            });
        }
        Ok(())
    }

    /// What each column that the image has is; none for NULL and for what it lacks.
    fn cells<'a>(&self, bytes: &'a [u8], shape: u32) -> Option<Vec<Option<Cell<'a>>>> {
        let mut wire = Wire::new(bytes);
        let count = usize::from(wire.u16()?);
        if count != self.0.len() + usize::from(shape == SHAPE_DATA_ROW) {
            return None;
        }
        let mut cells = Vec::with_capacity(self.0.len());
        for column in &self.0 {
            let cell = match shape {
                SHAPE_DATA_ROW => match usize::try_from(wire.i32()?) {
                    Ok(length) => Some(Cell::Text(wire.take(length)?)),
                    Err(_) => None,
                },
                _ => match wire.u8()? {
                    kind @ (b't' | b'b') => {
                        let length = wire.u32()?;
                        let bytes = wire.take(length as usize)?;
                        let cell = if kind == b'b' { Cell::Binary(bytes) } else { Cell::Text(bytes) };
                        (shape != SHAPE_KEY || column.identity).then_some(cell)
                    }
                    b'n' | b'u' => None,
                    _ => return None,
                },
            };
            cells.push(cell);
        }
        Some(cells)
    }
}

impl RowDecoder for RowPlan {
    fn decode<'a>(
        &'a self,
        data: &'a [u8],
        image: Image,
        arena: &'a Bump,
        row: &mut Vec<Value<'a>>,
    ) -> Result<(), DecodeError> {
        if image.shape == SHAPE_DATA_ROW {
            return self.decode_data_row(image.span.of(data), arena, row);
        }
        let mut wire = Wire::new(image.span.of(data));
        let count = usize::from(wire.u16().ok_or_else(truncated)?);
        if count != self.0.len() {
            return Err(DecodeError::row(format!("a tuple of {count} columns for a table of {}", self.0.len())));
        }
        row.reserve(count);
        for (index, column) in self.0.iter().enumerate() {
            let absent = image.shape == SHAPE_KEY && !column.identity;
            let unknown = image.shape == SHAPE_PARTIAL && !column.identity;
            let value = match wire.u8().ok_or_else(truncated)? {
                b'n' if absent || unknown => Value::Absent,
                b'n' => Value::Null,
                b'u' => Value::Absent,
                kind @ (b't' | b'b') => {
                    let length = wire.u32().ok_or_else(truncated)?;
                    let bytes = wire.take(length as usize).ok_or_else(truncated)?;
                    let value = match (absent, kind) {
                        (true, _) => Ok(Value::Absent),
                        (false, b't') => scalar::value(&column.plan, bytes, arena),
                        (false, _) => binary::value(&column.plan, bytes, arena),
                    };
                    value.map_err(|what| DecodeError::column(index, what))?
                }
                kind => return Err(DecodeError::column(index, format!("unknown kind of value 0x{kind:02x}"))),
            };
            row.push(value);
        }
        Ok(())
    }

    fn text_value<'a>(&'a self, column: usize, _: &Type, text: &'a str, arena: &'a Bump) -> Option<Value<'a>> {
        scalar::value(&self.0.get(column)?.plan, text.as_bytes(), arena).ok()
    }

    /// Strings without a type, which the server takes for the type of the column that they are compared to. The text of
    /// every type's output function is what its input function reads. For sessions with `standard_conforming_strings`.
    fn literals(&self, data: &[u8], image: Image, columns: &[usize]) -> Option<Vec<String>> {
        let cells = self.cells(image.span.of(data), image.shape)?;
        let literal_of = |index: &usize| {
            let text = match (*cells.get(*index)?)? {
                Cell::Text(text) => Cow::Borrowed(std::str::from_utf8(text).ok()?),
                Cell::Binary(bytes) => Cow::Owned(binary::literal(&self.0.get(*index)?.plan, bytes)?),
            };
            (!text.contains('\0')).then(|| literal(&text))
        };
        columns.iter().map(literal_of).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use rowcast_core::Span;

    fn plan() -> RowPlan {
        let column = |plan, identity| ColumnPlan { plan, identity };
        RowPlan(vec![column(Plan::Int, true), column(Plan::Text, false), column(Plan::Text, false)])
    }

    fn decode(bytes: &[u8], shape: u32, check: impl FnOnce(Result<Vec<Value<'_>>, DecodeError>)) {
        let (plan, arena, mut row) = (plan(), Bump::new(), Vec::new());
        let image = Image { span: Span::new(0, bytes.len()).unwrap(), shape };
        let result = plan.decode(bytes, image, &arena, &mut row);
        check(result.map(|()| row));
    }

    #[test]
    fn nulls_and_unchanged_toast_are_told_apart() {
        decode(b"\0\x03t\0\0\0\x017nu", SHAPE_FULL, |row| {
            assert_eq!(row.unwrap(), [Value::Int(7), Value::Null, Value::Absent]);
        });
    }

    #[test]
    fn each_value_says_in_which_form_it_is() {
        decode(b"\0\x03b\0\0\0\x04\0\0\0\x07t\0\0\0\x01xb\0\0\0\x01y", SHAPE_FULL, |row| {
            assert_eq!(row.unwrap(), [Value::Int(7), Value::Text("x"), Value::Text("y")]);
        });
    }

    #[test]
    fn a_key_only_tuple_has_absent_columns_for_all_but_the_key() {
        decode(b"\0\x03t\0\0\0\x017nn", SHAPE_KEY, |row| {
            assert_eq!(row.unwrap(), [Value::Int(7), Value::Absent, Value::Absent]);
        });
    }

    #[test]
    fn a_null_that_may_stand_for_what_was_not_logged_is_absent() {
        decode(b"\0\x03t\0\0\0\x017nt\0\0\0\x01x", SHAPE_PARTIAL, |row| {
            assert_eq!(row.unwrap(), [Value::Int(7), Value::Absent, Value::Text("x")]);
        });
    }

    #[test]
    fn a_data_row_has_one_column_more_than_the_table() {
        decode(b"\0\x04\0\0\0\x017\xff\xff\xff\xff\0\0\0\x01x\0\0\0\x05(0,1)", SHAPE_DATA_ROW, |row| {
            assert_eq!(row.unwrap(), [Value::Int(7), Value::Null, Value::Text("x")]);
        });
        for bytes in [
            &b""[..],
            b"\0\x03\0\0\0\x017\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\0\x04\0\0\0\x017",
            b"\0\x04\0\0\0\x01x\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\0\x04\x7f\xff\xff\xff7",
        ] {
            decode(bytes, SHAPE_DATA_ROW, |row| assert!(row.is_err(), "{bytes:?}"));
        }
    }

    #[test]
    fn literals_are_the_servers_own_text_in_quotes() {
        let literals = |bytes: &[u8], shape, columns: &[usize]| {
            plan().literals(bytes, Image { span: Span::new(0, bytes.len()).unwrap(), shape }, columns)
        };
        let strings = |texts: &[&str]| Some(texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        let tuple = b"\0\x03t\0\0\0\x017nt\0\0\0\x04i\\'s";
        assert_eq!(literals(tuple, SHAPE_FULL, &[2, 0]), strings(&["'i\\''s'", "'7'"]));
        assert_eq!(literals(tuple, SHAPE_FULL, &[1]), None);
        assert_eq!(literals(tuple, SHAPE_KEY, &[0]), strings(&["'7'"]));
        assert_eq!(literals(tuple, SHAPE_KEY, &[2]), None);
        assert_eq!(literals(tuple, SHAPE_FULL, &[3]), None);
        assert_eq!(literals(b"\0\x03unn", SHAPE_FULL, &[0]), None);
        let data_row = b"\0\x04\0\0\0\x017\xff\xff\xff\xff\0\0\0\x01x\0\0\0\x05(0,1)";
        assert_eq!(literals(data_row, SHAPE_DATA_ROW, &[0, 2]), strings(&["'7'", "'x'"]));
        assert_eq!(literals(data_row, SHAPE_DATA_ROW, &[1]), None);
        for end in 0..tuple.len() {
            assert_eq!(literals(&tuple[..end], SHAPE_FULL, &[0]), None);
        }
        assert_eq!(literals(b"\0\x03t\0\0\0\x01\xffnn", SHAPE_FULL, &[0]), None);
        let binary = b"\0\x03b\0\0\0\x04\0\0\0\x07nb\0\0\0\x03i's";
        assert_eq!(literals(binary, SHAPE_FULL, &[2, 0]), strings(&["'i''s'", "'7'"]));
        assert_eq!(literals(b"\0\x03b\0\0\0\x01\0nn", SHAPE_FULL, &[0]), None);
    }

    #[test]
    fn a_damaged_tuple_is_an_error() {
        for bytes in [
            &b""[..],
            b"\0",
            b"\0\x03",
            b"\0\x02nn",
            b"\0\x03nn",
            b"\0\x03nnt\0\0\0\x05abc",
            b"\0\x03nnt\xff\xff\xff\xffa",
            b"\0\x03nnb\0\0\0\x02a",
            b"\0\x03b\0\0\0\x01ann",
            b"\0\x03nnx",
            b"\0\x03t\0\0\0\x01xnn",
        ] {
            decode(bytes, SHAPE_FULL, |row| assert!(row.is_err(), "{bytes:?}"));
        }
    }
}
