//! Dates and times as numbers since an epoch, and as ISO 8601 text as `java.time` writes it.
//!
//! Numbers are computed in 128 bits: what doesn't fit into the 64 of the published type is wrapped as the original does, or written in
//! full (`exact`).

use rowcast_core::{Date, DateTime, Interval, Time};

use crate::format::json::{clock, fraction, significant};

const DAY_MICROS: i128 = 86_400_000_000;

/// What the original has for `infinity` and `-infinity` of a timestamp, in microseconds.
const INFINITY: [i128; 2] = [9_223_372_036_825_200_000, -9_223_372_036_832_400_000];
/// The same of a date, in days.
const DATE_INFINITY: [i128; 2] = [-2_147_472_692, -2_147_472_691];

/// The unit of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Millis,
    Micros,
    Nanos,
}

impl Unit {
    fn of_micros(self, micros: i128) -> i128 {
        match self {
            Unit::Millis => micros.div_euclid(1_000),
            Unit::Micros => micros,
            Unit::Nanos => micros * 1_000,
        }
    }
}

/// Writes a number of 64 bits: in full, or what is left of it in them.
pub(super) fn number(out: &mut Vec<u8>, number: i128, exact: bool) {
    let mut buffer = itoa::Buffer::new();
    out.extend_from_slice(
        match exact {
            true => buffer.format(number),
            false => buffer.format(number as i64),
        }
        .as_bytes(),
    );
}

/// Days since 1970-01-01; the arithmetic of the proleptic calendar, also for months and days that are zero.
pub(super) fn days(date: Date) -> i128 {
    let year = i128::from(date.year) - i128::from(date.month <= 2);
    let (era, month) = (year.div_euclid(400), i128::from(date.month));
    let year_of_era = year.rem_euclid(400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted + 2) / 5 + i128::from(date.day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Whether a date is none of the calendar: MySQL's zero dates.
pub(super) fn is_zero(date: Date) -> bool {
    date.month == 0 || date.day == 0
}

/// The original's way with years of two digits: 0 to 69 are of this century, 70 to 99 of the last.
pub(super) fn adjusted(date: Date) -> Date {
    let year = match date.year {
        year @ 0..=69 => year + 2000,
        year @ 70..=99 => year + 1900,
        year => year,
    };
    Date { year, ..date }
}

/// Microseconds since 1970-01-01T00:00:00.
pub(super) fn micros(at: DateTime) -> i128 {
    days(at.date) * DAY_MICROS + i128::from(at.micros)
}

/// A date and time in a unit.
pub(super) fn timestamp(at: DateTime, unit: Unit) -> i128 {
    unit.of_micros(micros(at))
}

/// A time of day in a unit.
pub(super) fn time(time: Time, unit: Unit) -> i128 {
    // towards zero, as a division of Java
    match unit {
        Unit::Millis => i128::from(time.micros / 1_000),
        unit => unit.of_micros(i128::from(time.micros)),
    }
}

/// What stands for an infinite timestamp.
pub(super) fn infinity(negative: bool, unit: Unit) -> i128 {
    let [positive, below] = INFINITY;
    let micros = if negative { below } else { positive };
    unit.of_micros(micros).clamp(i128::from(i64::MIN), i128::from(i64::MAX))
}

/// What stands for an infinite date: days that nobody takes for a date, or the original's.
pub(super) fn infinite_date(negative: bool, exact: bool) -> i128 {
    let [positive, below] = DATE_INFINITY;
    match (exact, negative) {
        (true, true) => i128::from(i32::MIN),
        (true, false) => i128::from(i32::MAX),
        (false, true) => below,
        (false, false) => positive,
    }
}

/// `2026-11-22`, with a sign for years that have more than four digits or are before the year 0.
pub(super) fn write_date(out: &mut Vec<u8>, date: Date) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(date.year.unsigned_abs()).as_bytes();
    if date.year < 0 {
        out.push(b'-');
    } else if date.year > 9999 {
        out.push(b'+');
    }
    out.extend((digits.len()..4).map(|_| b'0'));
    out.extend_from_slice(digits);
    for part in [date.month, date.day] {
        let part = part.min(99);
        out.extend_from_slice(&[b'-', b'0' + part / 10, b'0' + part % 10]);
    }
}

/// `2026-11-22T11:32:36.411Z`: as many digits as asked for, or as the fraction has.
pub(super) fn write_instant(out: &mut Vec<u8>, at: DateTime, digits: Option<u8>) {
    write_date(out, at.date);
    out.push(b'T');
    write_clock(out, at.micros, digits);
    out.push(b'Z');
}

/// `11:32:36.411`
pub(super) fn write_clock(out: &mut Vec<u8>, micros: u64, digits: Option<u8>) {
    clock(out, micros, digits.unwrap_or_else(|| significant(micros % 1_000_000)));
}

/// A time of day in UTC, or with the offset that it was given.
pub(super) fn write_zoned_time(out: &mut Vec<u8>, time: Time, offset: i32, keep: bool) {
    if keep {
        write_clock(out, time.micros.unsigned_abs(), None);
        return crate::format::json::write_offset(out, offset);
    }
    let utc = (i128::from(time.micros) - i128::from(offset) * 1_000_000).rem_euclid(DAY_MICROS);
    write_clock(out, utc as u64, None);
    out.push(b'Z');
}

/// An interval's time as hours, minutes and microseconds, each with its sign.
fn parts(micros: i64) -> (i64, i64, i64) {
    let minutes = micros / 60_000_000;
    (minutes / 60, minutes % 60, micros % 60_000_000)
}

/// An interval in microseconds, a month being 30.4375 days: exactly, or in floats as the original computes it.
pub(super) fn interval(interval: Interval, exact: bool) -> i128 {
    if exact {
        return i128::from(interval.months) * 2_629_800_000_000
            + i128::from(interval.days) * DAY_MICROS
            + i128::from(interval.micros);
    }
    let (hours, minutes, rest) = parts(interval.micros);
    let days = f64::from(interval.months) * (365.25 / 12.0) + f64::from(interval.days);
    let seconds = (((days * 24.0 + hours as f64) * 60.0) + minutes as f64) * 60.0 + rest as f64 / 1e6;
    i128::from((seconds * 1e6) as i64)
}

/// `P1Y2M3DT4H5M6.78S`, with all fields.
pub(super) fn write_interval(out: &mut Vec<u8>, interval: Interval) {
    let (hours, minutes, rest) = parts(interval.micros);
    let fields = [
        (i64::from(interval.months / 12), b"Y".as_slice()),
        (i64::from(interval.months % 12), b"M"),
        (i64::from(interval.days), b"DT"),
        (hours, b"H"),
        (minutes, b"M"),
    ];
    out.push(b'P');
    for (number, unit) in fields {
        crate::format::json::int(out, number);
        out.extend_from_slice(unit);
    }
    if rest < 0 {
        out.push(b'-');
    }
    let rest = rest.unsigned_abs();
    crate::format::json::uint(out, rest / 1_000_000);
    fraction(out, rest % 1_000_000, significant(rest % 1_000_000));
    out.push(b'S');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn date(year: i32, month: u8, day: u8) -> Date {
        Date { year, month, day }
    }

    fn shown(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn days_are_the_inverse_of_dates() {
        for at in [-2_147_483_648_i64, -719_529, -719_528, -1, 0, 1, 59, 60, 17_109, 16_321, 2_932_896] {
            assert_eq!(days(Date::from_unix_days(at)), i128::from(at));
        }
        assert_eq!(days(date(2014, 9, 8)), 16_321);
        assert_eq!(days(adjusted(date(18, 4, 1))), 17_622);
        assert_eq!(days(date(-43, 3, 15)), -735_160);
    }

    #[test]
    fn numbers_are_those_of_the_originals_tests() {
        let at = |day, micros| DateTime { date: day, micros, digits: 6 };
        let ts = at(date(2016, 11, 4), 49_890_123_456);
        assert_eq!(timestamp(ts, Unit::Micros), 1_478_267_490_123_456);
        assert_eq!(timestamp(ts, Unit::Millis), 1_478_267_490_123);
        // before the epoch milliseconds round down
        assert_eq!(timestamp(at(date(1969, 12, 31), 86_399_999_999), Unit::Millis), -1);
        assert_eq!(timestamp(at(date(-4712, 12, 31), 86_399_999_999), Unit::Micros), -210_831_897_600_000_001);
        let negative = Time { micros: -3_020_398_999_999, digits: 6 };
        assert_eq!(time(negative, Unit::Micros), -3_020_398_999_999);
        let long = Interval { months: 14, days: 3, micros: 14_706_780_000 };
        for exact in [false, true] {
            assert_eq!(interval(long, exact), 37_091_106_780_000);
        }
        let far = timestamp(at(date(294_276, 12, 31), 86_399_999_999), Unit::Micros);
        assert_eq!(shown(|out| number(out, far, true)), "9224318015999999999");
        assert_eq!(shown(|out| number(out, far, false)), "-9222426057709551617");
    }

    #[test]
    fn texts_are_javas() {
        let at = |year, micros| DateTime { date: date(year, 11, 4), micros, digits: 6 };
        for (at, digits, expected) in [
            (at(2016, 42_690_123_456), Some(6), "2016-11-04T11:51:30.123456Z"),
            (at(21_016, 24_690_000_000), Some(6), "+21016-11-04T06:51:30.000000Z"),
            (at(-4713, 86_399_999_999), Some(6), "-4713-11-04T23:59:59.999999Z"),
            (at(2016, 42_690_120_000), None, "2016-11-04T11:51:30.12Z"),
            (at(2016, 42_690_000_000), Some(0), "2016-11-04T11:51:30Z"),
        ] {
            assert_eq!(shown(|out| write_instant(out, at, digits)), expected);
        }
        let clock = Time { micros: 49_890_123_789, digits: 6 };
        assert_eq!(shown(|out| write_zoned_time(out, clock, 7200, false)), "11:51:30.123789Z");
        assert_eq!(shown(|out| write_zoned_time(out, clock, 7200, true)), "13:51:30.123789+02:00");
        let end = Time { micros: 86_400_000_000, digits: 0 };
        assert_eq!(shown(|out| write_zoned_time(out, end, 0, false)), "00:00:00Z");
        assert_eq!(shown(|out| write_zoned_time(out, end, 0, true)), "24:00:00Z");
        let interval = Interval { months: 14, days: 3, micros: 14_706_780_000 };
        assert_eq!(shown(|out| write_interval(out, interval)), "P1Y2M3DT4H5M6.78S");
        let none = Interval { months: 0, days: 0, micros: 0 };
        assert_eq!(shown(|out| write_interval(out, none)), "P0Y0M0DT0H0M0S");
    }
}
