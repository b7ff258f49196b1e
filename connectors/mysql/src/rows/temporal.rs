//! Dates and times of the binlog, old and new forms.
//!
//! The new forms (5.6) are big-endian with an offset that makes them sort as bytes, and a fraction of half as many
//! bytes as digits (`sql-common/my_time.cc`). The old forms, kept by tables from before, are decimal digits in an
//! integer. Zero parts stay zero: `0000-00-00` is a value that MySQL stores.

use rowcast_core::{Date, DateTime, Time, Value};

use crate::cursor::{Cursor, Short};

const SECOND: i64 = 1_000_000;

/// The fraction of `digits` digits in microseconds: stored in half as many bytes, as hundredths, ten-thousandths or
/// millionths.
fn fraction(at: &mut Cursor<'_>, digits: u8) -> Result<u64, Short> {
    let value = at.uint_be(usize::from(digits.div_ceil(2)))?;
    Ok(match digits {
        0 => 0,
        1 | 2 => value * 10_000,
        3 | 4 => value * 100,
        _ => value,
    })
}

fn checked(date: Date, hour: u64, minute: u64, second: u64, micros: u64, digits: u8) -> Result<DateTime, Short> {
    if date.month > 12 || hour > 23 || minute > 59 || second > 59 || micros >= SECOND as u64 {
        return Err(Short);
    }
    let micros = ((hour * 60 + minute) * 60 + second) * SECOND as u64 + micros;
    Ok(DateTime { date, micros, digits })
}

const ZERO: Date = Date { year: 0, month: 0, day: 0 };

pub(crate) fn date(raw: u32) -> Result<Date, Short> {
    let date = Date { year: (raw >> 9) as i32, month: (raw >> 5 & 15) as u8, day: (raw & 31) as u8 };
    if date.month > 12 { Err(Short) } else { Ok(date) }
}

/// DATETIME: 1 bit sign, 17 bits year and month, 5 day, 5 hour, 6 minute, 6 second, then the fraction.
pub(crate) fn datetime2<'a>(at: &mut Cursor<'_>, digits: u8) -> Result<Value<'a>, Short> {
    let packed = at.uint_be(5)?.checked_sub(0x80_0000_0000).ok_or(Short)?;
    let micros = fraction(at, digits)?;
    packed_datetime(packed, micros, digits).map(Value::DateTime)
}

/// The 40 bits behind the sign.
pub(crate) fn packed_datetime(packed: u64, micros: u64, digits: u8) -> Result<DateTime, Short> {
    let (ymd, hms) = (packed >> 17, packed & 0x1_ffff);
    let (year_month, day) = (ymd >> 5, ymd & 31);
    let date = Date { year: (year_month / 13) as i32, month: (year_month % 13) as u8, day: day as u8 };
    checked(date, hms >> 12, hms >> 6 & 63, hms & 63, micros, digits)
}

/// TIMESTAMP: unsigned seconds since 1970 (MariaDB 11.5 uses all 32 bits), then the fraction. Zero is the zero date.
pub(crate) fn timestamp2<'a>(at: &mut Cursor<'_>, digits: u8) -> Result<Value<'a>, Short> {
    let seconds = at.uint_be(4)?;
    let micros = fraction(at, digits)?;
    if micros >= SECOND as u64 {
        return Err(Short);
    }
    Ok(Value::Instant(if seconds == 0 && micros == 0 {
        DateTime { date: ZERO, micros: 0, digits }
    } else {
        DateTime::from_unix_micros(seconds as i64 * SECOND + micros as i64, digits)
    }))
}

/// TIME: a sign, 10 bits hour, 6 minute, 6 second and the fraction, as one offset integer: a negative time with a
/// fraction borrows from the seconds.
pub(crate) fn time2<'a>(at: &mut Cursor<'_>, digits: u8) -> Result<Value<'a>, Short> {
    let bytes = usize::from(digits.div_ceil(2));
    let raw = at.uint_be(3 + bytes)? as i64 - (0x80_0000_i64 << (8 * bytes));
    let magnitude = raw.unsigned_abs();
    let (whole, rest) = (magnitude >> (8 * bytes), magnitude & ((1 << (8 * bytes)) - 1));
    let micros = match digits {
        0 => 0,
        1 | 2 => rest * 10_000,
        3 | 4 => rest * 100,
        _ => rest,
    };
    packed_time(raw < 0, whole, micros, digits).map(Value::Time)
}

pub(crate) fn packed_time(negative: bool, hms: u64, micros: u64, digits: u8) -> Result<Time, Short> {
    let (hour, minute, second) = (hms >> 12 & 0x3ff, hms >> 6 & 63, hms & 63);
    time_of(negative, hour, minute, second, micros, digits)
}

fn time_of(negative: bool, hour: u64, minute: u64, second: u64, micros: u64, digits: u8) -> Result<Time, Short> {
    if hour > 838 || minute > 59 || second > 59 || micros >= SECOND as u64 {
        return Err(Short);
    }
    let total = ((hour * 60 + minute) * 60 + second) as i64 * SECOND + micros as i64;
    Ok(Time { micros: if negative { -total } else { total }, digits })
}

/// TIME before 5.6: HHMMSS as a signed number.
pub(crate) fn old_time<'a>(raw: u32) -> Result<Value<'a>, Short> {
    let signed = (raw << 8) as i32 >> 8;
    let digits = u64::from(signed.unsigned_abs());
    time_of(signed < 0, digits / 10_000, digits / 100 % 100, digits % 100, 0, 0).map(Value::Time)
}

/// DATETIME before 5.6: YYYYMMDDHHMMSS as a number.
pub(crate) fn old_datetime<'a>(raw: u64) -> Result<Value<'a>, Short> {
    let (day, time) = (raw / 1_000_000, raw % 1_000_000);
    if day > 99_991_231 {
        return Err(Short);
    }
    let date = Date { year: (day / 10_000) as i32, month: (day / 100 % 100) as u8, day: (day % 100) as u8 };
    checked(date, time / 10_000, time / 100 % 100, time % 100, 0, 0).map(Value::DateTime)
}

/// TIMESTAMP before 5.6: seconds.
pub(crate) fn old_timestamp<'a>(seconds: u32) -> Value<'a> {
    Value::Instant(if seconds == 0 {
        DateTime { date: ZERO, micros: 0, digits: 0 }
    } else {
        DateTime::from_unix_micros(i64::from(seconds) * SECOND, 0)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn time(bytes: &[u8], digits: u8) -> i64 {
        match time2(&mut Cursor::new(bytes), digits).unwrap() {
            Value::Time(time) => time.micros,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn negative_times_with_fractions_borrow_from_the_seconds() {
        // As MySQL 9.7 writes them: -01:02:03.45 in TIME(2), -00:00:00.000001 in TIME(6), -838:59:59 in TIME.
        assert_eq!(time(&[0x7f, 0xef, 0x7c, 0xd3], 2), -3_723_450_000);
        assert_eq!(time(&[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff], 6), -1);
        assert_eq!(time(&[0x4b, 0x91, 0x05], 0), -3_020_399_000_000);
        assert_eq!(time(&[0x80, 0x00, 0x01, 0x00, 0x05], 3), 1_000_500);
    }

    #[test]
    fn zero_dates_stay_zero() {
        let zero = datetime2(&mut Cursor::new(&[0x80, 0, 0, 0, 0]), 0).unwrap();
        assert_eq!(zero, Value::DateTime(DateTime { date: ZERO, micros: 0, digits: 0 }));
        assert_eq!(
            timestamp2(&mut Cursor::new(&[0; 7]), 6).unwrap(),
            Value::Instant(DateTime { date: ZERO, micros: 0, digits: 6 })
        );
        assert_eq!(date(0).unwrap(), ZERO);
    }

    #[test]
    fn old_forms_are_digits() {
        assert_eq!(old_time(0xff_ffff).unwrap(), Value::Time(Time { micros: -SECOND, digits: 0 }));
        assert!(old_datetime(20_261_122_113_236).is_ok());
        assert!(old_datetime(20_261_322_113_236).is_err());
        assert!(old_datetime(u64::MAX).is_err());
    }
}
