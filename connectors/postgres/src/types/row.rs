//! A pgoutput tuple into one value per column.
//!
//! `TupleData`: number of columns (2 bytes), then for each a kind: `n` NULL, `u` unchanged TOAST (the value was
//! neither changed nor logged), `t` a length (4 bytes) and text. A key-only tuple (`K`) has NULL for every
//! column that isn't of the replica identity: these are Absent, not NULL.

use rowcast_core::{Bump, DecodeError, Image, RowDecoder, Value};

use super::{Plan, scalar};
use crate::wire::Wire;

/// The tuple holds all columns.
pub(crate) const SHAPE_FULL: u32 = 0;
/// The tuple holds the columns of the replica identity only.
pub(crate) const SHAPE_KEY: u32 = 1;

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

impl RowDecoder for RowPlan {
    fn decode<'a>(
        &'a self,
        data: &'a [u8],
        image: Image,
        arena: &'a Bump,
        row: &mut Vec<Value<'a>>,
    ) -> Result<(), DecodeError> {
        let truncated = || DecodeError::row("a tuple that ends before its last column");
        let mut wire = Wire::new(image.span.of(data));
        let count = usize::from(wire.u16().ok_or_else(truncated)?);
        if count != self.0.len() {
            return Err(DecodeError::row(format!("a tuple of {count} columns for a table of {}", self.0.len())));
        }
        row.reserve(count);
        for (index, column) in self.0.iter().enumerate() {
            let absent = image.shape == SHAPE_KEY && !column.identity;
            let value = match wire.u8().ok_or_else(truncated)? {
                b'n' if absent => Value::Absent,
                b'n' => Value::Null,
                b'u' => Value::Absent,
                b't' => {
                    let length = wire.u32().ok_or_else(truncated)?;
                    let text = wire.take(length as usize).ok_or_else(truncated)?;
                    match absent {
                        true => Value::Absent,
                        false => {
                            scalar::value(&column.plan, text, arena).map_err(|what| DecodeError::column(index, what))?
                        }
                    }
                }
                b'b' => return Err(DecodeError::column(index, "binary form, which was not asked for")),
                kind => return Err(DecodeError::column(index, format!("unknown kind of value 0x{kind:02x}"))),
            };
            row.push(value);
        }
        Ok(())
    }

    fn literals(&self, _: &[u8], _: Image, _: &[usize]) -> Option<Vec<String>> {
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
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
    fn a_key_only_tuple_has_absent_columns_for_all_but_the_key() {
        decode(b"\0\x03t\0\0\0\x017nn", SHAPE_KEY, |row| {
            assert_eq!(row.unwrap(), [Value::Int(7), Value::Absent, Value::Absent]);
        });
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
            b"\0\x03nnb\0\0\0\x01a",
            b"\0\x03nnx",
            b"\0\x03t\0\0\0\x01xnn",
        ] {
            decode(bytes, SHAPE_FULL, |row| assert!(row.is_err(), "{bytes:?}"));
        }
    }
}
