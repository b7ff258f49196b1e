//! The text of one value into a [`Value`]: numbers, text, bytes, bits, uuids; the rest is delegated.
//!
//! Borrowed wherever the text is the value; only `bytea` and arrays are converted, into the arena. Bytes that no
//! output function writes are an error without the value in it; nothing here panics.

use std::str;

use rowcast_core::{Bump, Value};

use super::{Plan, array, extension, nested, temporal};

/// What is wrong with a value, without the value.
pub(crate) type Wrong = &'static str;

/// Decodes one value that isn't NULL.
pub(crate) fn value<'a>(plan: &'a Plan, text: &'a [u8], arena: &'a Bump) -> Result<Value<'a>, Wrong> {
    match plan {
        Plan::Int => integer(text).map(Value::Int).ok_or("not an integer"),
        Plan::Text | Plan::Char => utf8(text).map(Value::Text),
        Plan::Decimal => decimal(text).map(Value::Decimal),
        Plan::Bool => match text {
            b"t" => Ok(Value::Bool(true)),
            b"f" => Ok(Value::Bool(false)),
            _ => Err("not a boolean"),
        },
        Plan::Oid => integer(text)
            .and_then(|number| u32::try_from(number).ok())
            .map(|number| Value::UInt(u64::from(number)))
            .ok_or("not an oid"),
        Plan::Float => utf8(text)?.parse().map(Value::Float).map_err(|_| "not a float"),
        Plan::Double => utf8(text)?.parse().map(Value::Double).map_err(|_| "not a float"),
        Plan::Bytes => bytes(text, arena).map(Value::Bytes),
        Plan::Bits => match text.iter().all(|byte| matches!(byte, b'0' | b'1')) {
            true => utf8(text).map(Value::Bits),
            false => Err("not a bit string"),
        },
        Plan::Date => temporal::date(text).ok_or("not a date in ISO form"),
        Plan::Time(digits) => temporal::time(text, *digits).ok_or("not a time"),
        Plan::TimeTz(digits) => temporal::time_tz(text, *digits).ok_or("not a time with zone"),
        Plan::DateTime(digits) => temporal::date_time(text, *digits).ok_or("not a timestamp in ISO form"),
        Plan::Instant(digits) => temporal::instant(text, *digits).ok_or("not a timestamp in ISO form and UTC"),
        Plan::Interval | Plan::FiniteInterval => temporal::interval(text).ok_or("not an interval in ISO 8601 form"),
        Plan::Uuid => uuid(text).map(Value::Uuid).ok_or("not a uuid"),
        Plan::Json | Plan::JsonB => utf8(text).map(Value::Json),
        Plan::Enum => utf8(text).map(Value::Enum),
        Plan::Array(plan) => array::decode(plan, text, arena),
        Plan::Money(form) => form
            .decimal(utf8(text)?, arena)
            .map(Value::Decimal)
            .ok_or("not an amount in the form of lc_monetary (was it changed?)"),
        Plan::Spaced(element) => nested::spaced(element, text, arena),
        Plan::Range(element) => nested::range(element, text, arena),
        Plan::Multirange(element) => nested::multirange(element, text, arena),
        Plan::Composite(attributes) => nested::composite(attributes, text, arena),
        Plan::Hstore => nested::hstore(text, arena),
        Plan::Geometry => extension::geometry_text(text, arena),
        Plan::Vector | Plan::HalfVector => extension::vector_text(text, arena),
        Plan::SparseVector => extension::sparse_text(text, arena),
        Plan::Other(_) => utf8(text).map(Value::Other),
    }
}

/// A database in `SQL_ASCII` doesn't convert: then bytes that aren't UTF-8 arrive here.
pub(super) fn utf8(text: &[u8]) -> Result<&str, Wrong> {
    str::from_utf8(text).map_err(|_| "not UTF-8 (is the database's encoding SQL_ASCII?)")
}

fn integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    // summed up as a negative number, since there is one more of them
    let mut sum: i64 = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        sum = sum.checked_mul(10)?.checked_sub(i64::from(digit))?;
    }
    if negative { Some(sum) } else { sum.checked_neg() }
}

fn decimal(text: &[u8]) -> Result<&str, Wrong> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let plain = digits.first().is_some_and(u8::is_ascii_digit)
        && digits.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    if plain || matches!(text, b"NaN" | b"Infinity" | b"-Infinity") { utf8(text) } else { Err("not a decimal") }
}

/// `bytea_output = hex`: `\x` and two digits for each byte.
fn bytes<'a>(text: &[u8], arena: &'a Bump) -> Result<&'a [u8], Wrong> {
    text.strip_prefix(b"\\x").and_then(|digits| hex(digits, arena)).ok_or("not bytes in hex form")
}

/// Two digits for each byte.
pub(super) fn hex<'a>(digits: &[u8], arena: &'a Bump) -> Option<&'a [u8]> {
    let (pairs, rest) = digits.as_chunks::<2>();
    let mut invalid = rest.len() as u8;
    let decoded = arena.alloc_slice_fill_iter(pairs.iter().map(|[high, low]| {
        let (high, low) = (nibble(*high), nibble(*low));
        invalid |= (high | low) & 0xf0;
        high << 4 | (low & 0x0f)
    }));
    (invalid == 0).then_some(decoded)
}

/// The value of a hex digit; a value above 15 for any other byte.
fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => 0xff,
    }
}

fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    if text.len() != 36 {
        return None;
    }
    let mut uuid = [0_u8; 16];
    let mut digits = 0_usize;
    for (at, byte) in text.iter().enumerate() {
        if matches!(at, 8 | 13 | 18 | 23) {
            if *byte != b'-' {
                return None;
            }
            continue;
        }
        let value = nibble(*byte);
        if value > 15 {
            return None;
        }
        let slot = uuid.get_mut(digits / 2)?;
        *slot = *slot << 4 | value;
        digits += 1;
    }
    Some(uuid)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::Form;
    use super::*;

    fn check(plan: Plan, text: &str, expected: Value<'_>) {
        let arena = Bump::new();
        assert_eq!(value(&plan, text.as_bytes(), &arena).unwrap(), expected, "{text}");
    }

    fn refused(plan: Plan, texts: &[&str]) {
        let arena = Bump::new();
        for text in texts {
            assert!(value(&plan, text.as_bytes(), &arena).is_err(), "{plan:?} {text}");
        }
    }

    #[test]
    fn integers_of_the_whole_range_are_read() {
        for number in [0, 1, -1, i64::MAX, i64::MIN, 32_767, -2_147_483_648] {
            check(Plan::Int, &number.to_string(), Value::Int(number));
        }
        check(Plan::Oid, "4294967295", Value::UInt(4_294_967_295));
        refused(Plan::Int, &["", "-", "1.0", "9223372036854775808", "-9223372036854775809", "+1", " 1", "1 "]);
        refused(Plan::Oid, &["-1", "4294967296"]);
    }

    #[test]
    fn floats_read_back_what_the_server_wrote() {
        check(Plan::Double, "0.1", Value::Double(0.1));
        check(Plan::Double, "1e+300", Value::Double(1e300));
        check(Plan::Double, "-Infinity", Value::Double(f64::NEG_INFINITY));
        check(Plan::Float, "3.4028235e+38", Value::Float(f32::MAX));
        let arena = Bump::new();
        assert!(matches!(value(&Plan::Float, b"NaN", &arena), Ok(Value::Float(nan)) if nan.is_nan()));
        refused(Plan::Double, &["", "1,5", "abc"]);
    }

    #[test]
    fn decimals_keep_their_text() {
        for text in ["0", "-0.00", "12.50", "NaN", "Infinity", "-Infinity", "123456789012345678901234567890.1"] {
            check(Plan::Decimal, text, Value::Decimal(text));
        }
        refused(Plan::Decimal, &["", "-", "1e5", "$1", "--1", "nan", ".5"]);
    }

    #[test]
    fn text_like_types_are_borrowed_as_they_are() {
        check(Plan::Text, "grüße\n\\ \"", Value::Text("grüße\n\\ \""));
        check(Plan::Text, "", Value::Text(""));
        check(Plan::Json, "{\"a\": 1.0}", Value::Json("{\"a\": 1.0}"));
        check(Plan::Enum, "new", Value::Enum("new"));
        check(Plan::Other(Form::Opaque), "(1,2)", Value::Other("(1,2)"));
        let arena = Bump::new();
        assert!(value(&Plan::Text, &[0xff], &arena).is_err());
    }

    #[test]
    fn bytes_bits_and_uuids_are_converted() {
        check(Plan::Bytes, "\\x00ffAb", Value::Bytes(&[0, 0xff, 0xab]));
        check(Plan::Bytes, "\\x", Value::Bytes(&[]));
        check(Plan::Bits, "0101", Value::Bits("0101"));
        check(Plan::Bits, "", Value::Bits(""));
        check(Plan::Bool, "t", Value::Bool(true));
        check(
            Plan::Uuid,
            "00112233-4455-6677-8899-aabbccddeeff",
            Value::Uuid([0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff]),
        );
        refused(Plan::Bytes, &["", "00", "\\x0", "\\xzz", "\\x000", "\\x0g"]);
        refused(Plan::Bits, &["012", "x"]);
        refused(Plan::Bool, &["", "true", "x"]);
        refused(Plan::Uuid, &["", "00112233-4455-6677-8899-aabbccddeef", "00112233x4455-6677-8899-aabbccddeeff"]);
    }

    #[test]
    fn no_bytes_make_any_plan_panic() {
        use super::super::{ArrayPlan, Attribute};
        let array = |element, delimiter| Plan::Array(Box::new(ArrayPlan { element, delimiter }));
        let plans = [
            Plan::Bool,
            Plan::Int,
            Plan::Oid,
            Plan::Float,
            Plan::Double,
            Plan::Decimal,
            Plan::Text,
            Plan::Bytes,
            Plan::Bits,
            Plan::Date,
            Plan::Time(6),
            Plan::TimeTz(3),
            Plan::DateTime(0),
            Plan::Instant(6),
            Plan::Interval,
            Plan::Uuid,
            Plan::Json,
            Plan::Enum,
            Plan::Other(Form::Opaque),
            array(Plan::Int, b','),
            array(Plan::Text, b','),
            array(Plan::Other(Form::Opaque), b';'),
            array(array(Plan::Instant(6), b','), b','),
            Plan::Range(Box::new(Plan::Decimal)),
            Plan::Multirange(Box::new(Plan::Text)),
            Plan::Composite([Attribute { name: "a".into(), oid: 0, plan: array(Plan::Text, b',') }].into()),
            Plan::Hstore,
            Plan::Geometry,
            Plan::Vector,
            Plan::SparseVector,
        ];
        let seeds: [&[u8]; 20] = [
            b"2026-11-22 11:32:36.411035+00 BC",
            b"-infinity",
            b"P1Y2M-3DT4H5M-6.789S",
            b"24:00:00.000001-15:59:59",
            b"[0:2][1:1]={{1},{NULL},{\"a\\\"b\"}}",
            b"{{{{{{1,2}}}}}}",
            b"{1;2}",
            b"-9223372036854775808",
            b"\\xdeadbeef",
            b"00112233-4455-6677-8899-aabbccddeeff",
            b"1e+300",
            b"294276-12-31 23:59:59.999999",
            b"[2147483647:-1]={}",
            b"{\"{1,2}\",\"{3,NULL}\"}",
            b"{[1,2),(\"a \"\"b\\\\\",]}",
            b"(\"{a,\"\"b c\"\"}\")",
            b"\"a\"=>NULL, \"b\"=>\"c \\\"\"",
            b"0101000020E6100000000000000000F03F0000000000000040",
            b"{1:1.5,3:-2}/5",
            b"[1,-2.5]",
        ];
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let alphabet = b"0123456789-+:. {}[],;\"\\=PTYMDHSBCNULLinfty\xff\x00";
        let mut arena = Bump::new();
        for round in 0..20_000 {
            arena.reset();
            let mut text = seeds.get(round % seeds.len()).unwrap().to_vec();
            for _ in 0..random() % 4 {
                let at = (random() as usize) % text.len().max(1);
                let byte = *alphabet.get((random() as usize) % alphabet.len()).unwrap();
                match random() % 4 {
                    0 => text.insert(at.min(text.len()), byte),
                    1 if !text.is_empty() => drop(text.remove(at)),
                    2 => text.truncate(at),
                    _ => {
                        if let Some(slot) = text.get_mut(at) {
                            *slot = byte;
                        }
                    }
                }
            }
            for plan in &plans {
                let _ = value(plan, &text, &arena);
            }
        }
    }
}
