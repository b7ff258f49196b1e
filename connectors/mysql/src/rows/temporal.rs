//! Dates and times of the binlog, old and new forms.
//!
//! The new forms (5.6) are big-endian with an offset that makes them sort as bytes, and a fraction of half as many
//! bytes as digits (`sql-common/my_time.cc`). The old forms, kept by tables from before, are decimal digits in an
//! integer; MariaDB had forms of its own for fractions before it took those of MySQL (5.3, and later with
//! `mysql56_temporal_format=OFF`), which the binlog doesn't tell from those without. Zero parts stay zero: `0000-00-00` is a value that MySQL stores.

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

/// Bytes of an old TIME: three of digits, or MariaDB's with a fraction.
pub(crate) fn old_time_size(digits: u8) -> u8 {
    match digits {
        0 => 3,
        1 | 2 => 4,
        3..=5 => 5,
        _ => 6,
    }
}

/// Bytes of an old DATETIME: eight of digits, or MariaDB's with a fraction.
pub(crate) fn old_datetime_size(digits: u8) -> u8 {
    match digits {
        0 => 8,
        1 | 2 => 6,
        3..=5 => 7,
        _ => 8,
    }
}

/// Bytes of an old TIMESTAMP.
pub(crate) fn old_timestamp_size(digits: u8) -> u8 {
    4 + digits.div_ceil(2)
}

/// Units of the last digit in a second.
fn units(digits: u8) -> u64 {
    10_u64.pow(u32::from(digits.min(6)))
}

/// TIME before 5.6: HHMMSS as a signed number. MariaDB's with a fraction: units of the last digit since one second before the
/// least time, big-endian.
pub(crate) fn old_time<'a>(at: &mut Cursor<'_>, digits: u8) -> Result<Value<'a>, Short> {
    const BEYOND: i64 = 838 * 3600 + 59 * 60 + 60;
    if digits == 0 {
        let signed = (at.u24()? << 8) as i32 >> 8;
        let packed = u64::from(signed.unsigned_abs());
        return time_of(signed < 0, packed / 10_000, packed / 100 % 100, packed % 100, 0, 0).map(Value::Time);
    }
    let units = units(digits) as i64;
    let time = at.uint_be(usize::from(old_time_size(digits)))? as i64 - BEYOND * units;
    if time.abs() >= BEYOND * units {
        return Err(Short);
    }
    Ok(Value::Time(Time { micros: time * (SECOND / units), digits }))
}

/// DATETIME before 5.6: YYYYMMDDHHMMSS as a number. MariaDB's with a fraction: months of 32 days, 13 to the year, in units of the
/// last digit, big-endian.
pub(crate) fn old_datetime<'a>(at: &mut Cursor<'_>, digits: u8) -> Result<Value<'a>, Short> {
    if digits == 0 {
        let raw = at.u64()?;
        let (day, time) = (raw / 1_000_000, raw % 1_000_000);
        if day > 99_991_231 {
            return Err(Short);
        }
        let date = Date { year: (day / 10_000) as i32, month: (day / 100 % 100) as u8, day: (day % 100) as u8 };
        return checked(date, time / 10_000, time / 100 % 100, time % 100, 0, 0).map(Value::DateTime);
    }
    let raw = at.uint_be(usize::from(old_datetime_size(digits)))?;
    let (seconds, fraction) = (raw / units(digits), raw % units(digits));
    let days = seconds / 86_400;
    if days / 32 / 13 > 9999 {
        return Err(Short);
    }
    let date = Date { year: (days / 32 / 13) as i32, month: (days / 32 % 13) as u8, day: (days % 32) as u8 };
    let micros = fraction * (SECOND as u64 / units(digits));
    checked(date, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60, micros, digits).map(Value::DateTime)
}

/// TIMESTAMP before 5.6: seconds. MariaDB's with a fraction: the seconds big-endian, then the fraction in units of the last digit.
pub(crate) fn old_timestamp<'a>(at: &mut Cursor<'_>, digits: u8) -> Result<Value<'a>, Short> {
    let (seconds, fraction) = match digits {
        0 => (u64::from(at.u32()?), 0),
        _ => (at.uint_be(4)?, at.uint_be(usize::from(digits.div_ceil(2)))?),
    };
    if fraction >= units(digits) {
        return Err(Short);
    }
    let micros = fraction as i64 * (SECOND / units(digits) as i64);
    Ok(Value::Instant(if seconds == 0 && micros == 0 {
        DateTime { date: ZERO, micros: 0, digits }
    } else {
        DateTime::from_unix_micros(seconds as i64 * SECOND + micros, digits)
    }))
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
        let time = |raw: [u8; 3]| old_time(&mut Cursor::new(&raw), 0);
        let datetime = |raw: u64| old_datetime(&mut Cursor::new(&raw.to_le_bytes()), 0);
        assert_eq!(time([0xff, 0xff, 0xff]).unwrap(), Value::Time(Time { micros: -SECOND, digits: 0 }));
        assert!(datetime(20_261_122_113_236).is_ok());
        assert!(datetime(20_261_322_113_236).is_err());
        assert!(datetime(u64::MAX).is_err());
    }

    #[test]
    fn mariadbs_old_forms_with_fractions() {
        // As MariaDB 10.11 writes -12:34:56.789012 and 2026-11-22 11:32:36.789012 with mysql56_temporal_format=OFF.
        let time = -(12 * 3600 + 34 * 60 + 56) * SECOND;
        for (digits, bytes, micros) in [
            (1, &[0x01, 0xc5, 0xf6, 0xf9][..], -700_000),
            (3, &[0x00, 0xb1, 0x54, 0x78, 0xeb], -789_000),
            (6, &[0x02, 0xb4, 0xb1, 0xf8, 0x55, 0xec], -789_012),
        ] {
            let expected = Value::Time(Time { micros: time + micros, digits });
            assert_eq!(bytes.len(), usize::from(old_time_size(digits)));
            assert_eq!(old_time(&mut Cursor::new(bytes), digits).unwrap(), expected);
        }
        let date = Date { year: 2026, month: 11, day: 22 };
        let noon = (11 * 3600 + 32 * 60 + 36) * SECOND as u64;
        for (digits, bytes, stamp, micros) in [
            (1, &[0x00, 0xa9, 0x9e, 0xf8, 0xc1, 0x4f][..], &[0x6b, 0x02, 0xd2, 0xd4, 0x07][..], 700_000),
            (3, &[0x00, 0x42, 0x42, 0x19, 0x2b, 0x83, 0x35], &[0x6b, 0x02, 0xd2, 0xd4, 0x03, 0x15], 789_000),
            (
                6,
                &[0x01, 0x02, 0xd2, 0x32, 0x51, 0xf8, 0x87, 0x14],
                &[0x6b, 0x02, 0xd2, 0xd4, 0x0c, 0x0a, 0x14],
                789_012,
            ),
        ] {
            let expected = DateTime { date, micros: noon + micros, digits };
            assert_eq!(old_datetime(&mut Cursor::new(bytes), digits).unwrap(), Value::DateTime(expected));
            assert_eq!(old_timestamp(&mut Cursor::new(stamp), digits).unwrap(), Value::Instant(expected));
        }
        assert!(old_time(&mut Cursor::new(&[0xff; 6]), 6).is_err());
        assert!(old_time(&mut Cursor::new(&[0; 6]), 6).is_err());
        assert!(old_datetime(&mut Cursor::new(&[0xff; 8]), 6).is_err());
        assert!(old_timestamp(&mut Cursor::new(&[0xff; 7]), 6).is_err());
        assert_eq!(
            old_datetime(&mut Cursor::new(&[0; 6]), 2).unwrap(),
            Value::DateTime(DateTime { date: ZERO, micros: 0, digits: 2 })
        );
    }
}
