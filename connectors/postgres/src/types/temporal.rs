//! Dates, times and intervals from the server's ISO text.
//!
//! The forms are those of `datetime.c` under `DateStyle = ISO`, `IntervalStyle = iso_8601`, `TimeZone = UTC`:
//! years have four digits or more, ` BC` stands last, `infinity` and `-infinity` are words, fractions have up to
//! six digits. Any other text gives none.

use rowcast_core::{Date, DateTime, Interval, Time, Value};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// A walk over the text.
struct Scan<'a>(&'a [u8]);

impl Scan<'_> {
    /// Takes `byte` if it is next.
    fn eat(&mut self, byte: u8) -> bool {
        match self.0.split_first() {
            Some((first, rest)) if *first == byte => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    fn need(&mut self, byte: u8) -> Option<()> {
        self.eat(byte).then_some(())
    }

    /// A number of `min` to `max` digits (at most 18).
    fn digits(&mut self, min: usize, max: usize) -> Option<i64> {
        let (mut number, mut count) = (0_i64, 0);
        while let Some((first, rest)) = self.0.split_first()
            && first.is_ascii_digit()
            && count < max
        {
            number = number * 10 + i64::from(first - b'0');
            count += 1;
            self.0 = rest;
        }
        (count >= min).then_some(number)
    }

    /// `.` and up to six digits as microseconds; zero if there is no point.
    fn fraction(&mut self) -> Option<i64> {
        if !self.eat(b'.') {
            return Some(0);
        }
        let before = self.0.len();
        let number = self.digits(1, 6)?;
        let count = before.checked_sub(self.0.len())?;
        Some((count..6).fold(number, |number, _| number * 10))
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }

    fn date(&mut self) -> Option<(i64, u8, u8)> {
        let year = self.digits(4, 7)?;
        self.need(b'-')?;
        let month = self.digits(2, 2).filter(|month| (1..=12).contains(month))?;
        self.need(b'-')?;
        let day = self.digits(2, 2).filter(|day| (1..=31).contains(day))?;
        Some((year, month as u8, day as u8))
    }

    /// Microseconds since midnight; 24:00:00 is a valid `time`.
    fn time(&mut self) -> Option<i64> {
        let hours = self.digits(2, 2)?;
        self.need(b':')?;
        let minutes = self.digits(2, 2).filter(|minutes| *minutes < 60)?;
        self.need(b':')?;
        let seconds = self.digits(2, 2).filter(|seconds| *seconds < 60)?;
        let micros = ((hours * 60 + minutes) * 60 + seconds) * SECOND + self.fraction()?;
        (micros <= DAY).then_some(micros)
    }

    /// Seconds east of UTC: `+00`, `-03:30`, `+05:30:15`.
    fn offset(&mut self) -> Option<i32> {
        let negative = match (self.eat(b'+'), self.eat(b'-')) {
            (true, false) => false,
            (false, true) => true,
            _ => return None,
        };
        let mut seconds = self.digits(2, 2)? * 3600;
        if self.eat(b':') {
            seconds += self.digits(2, 2)? * 60;
            if self.eat(b':') {
                seconds += self.digits(2, 2)?;
            }
        }
        let seconds = i32::try_from(seconds).ok()?;
        Some(if negative { -seconds } else { seconds })
    }

    /// The rest: nothing, or ` BC`.
    fn era(&self) -> Option<bool> {
        match self.0 {
            b"" => Some(false),
            b" BC" => Some(true),
            _ => None,
        }
    }
}

fn infinity(text: &[u8]) -> Option<Value<'static>> {
    match text {
        b"infinity" => Some(Value::TemporalInfinity { negative: false }),
        b"-infinity" => Some(Value::TemporalInfinity { negative: true }),
        _ => None,
    }
}

/// Year 1 BC is the astronomical year 0.
fn dated((year, month, day): (i64, u8, u8), before_christ: bool) -> Option<Date> {
    let year = if before_christ { 1 - year } else { year };
    Some(Date { year: i32::try_from(year).ok()?, month, day })
}

/// `date`
pub(crate) fn date(text: &[u8]) -> Option<Value<'static>> {
    if let Some(infinite) = infinity(text) {
        return Some(infinite);
    }
    let mut scan = Scan(text);
    let parts = scan.date()?;
    Some(Value::Date(dated(parts, scan.era()?)?))
}

/// `time`
pub(crate) fn time(text: &[u8], digits: u8) -> Option<Value<'static>> {
    let mut scan = Scan(text);
    let micros = scan.time()?;
    scan.end()?;
    Some(Value::Time(Time { micros, digits }))
}

/// `timetz`: the offset is the value's own, not the session's.
pub(crate) fn time_tz(text: &[u8], digits: u8) -> Option<Value<'static>> {
    let mut scan = Scan(text);
    let micros = scan.time()?;
    let offset = scan.offset()?;
    scan.end()?;
    Some(Value::TimeTz(Time { micros, digits }, offset))
}

/// `timestamp`
pub(crate) fn date_time(text: &[u8], digits: u8) -> Option<Value<'static>> {
    if let Some(infinite) = infinity(text) {
        return Some(infinite);
    }
    timestamp(text, digits, false).map(Value::DateTime)
}

/// `timestamptz`: the session's zone is UTC, so any other offset is an error.
pub(crate) fn instant(text: &[u8], digits: u8) -> Option<Value<'static>> {
    if let Some(infinite) = infinity(text) {
        return Some(infinite);
    }
    timestamp(text, digits, true).map(Value::Instant)
}

fn timestamp(text: &[u8], digits: u8, zoned: bool) -> Option<DateTime> {
    let mut scan = Scan(text);
    let parts = scan.date()?;
    scan.need(b' ')?;
    let micros = scan.time().filter(|micros| *micros < DAY)?;
    if zoned && scan.offset()? != 0 {
        return None;
    }
    let date = dated(parts, scan.era()?)?;
    Some(DateTime { date, micros: u64::try_from(micros).ok()?, digits })
}

/// `interval`: `P1Y2M3DT4H5M6.7S`, each field with its own sign, `PT0S` for none; infinite since version 17.
pub(crate) fn interval(text: &[u8]) -> Option<Value<'static>> {
    if let Some(infinite) = infinity(text) {
        return Some(infinite);
    }
    let mut scan = Scan(text);
    scan.need(b'P')?;
    let (mut months, mut days, mut micros) = (0_i64, 0_i64, 0_i64);
    let (mut in_time, mut fields) = (false, 0);
    while !scan.0.is_empty() {
        if !in_time && scan.eat(b'T') {
            in_time = true;
            continue;
        }
        let sign = if scan.eat(b'-') { -1 } else { 1 };
        let number = scan.digits(1, 18)?.checked_mul(sign)?;
        let fraction = scan.fraction()? * sign;
        let (unit, rest) = scan.0.split_first()?;
        scan.0 = rest;
        if *unit != b'S' && fraction != 0 {
            return None;
        }
        match (in_time, unit) {
            (false, b'Y') => months = months.checked_add(number.checked_mul(12)?)?,
            (false, b'M') => months = months.checked_add(number)?,
            (false, b'D') => days = days.checked_add(number)?,
            (true, b'H') => micros = micros.checked_add(number.checked_mul(3600 * SECOND)?)?,
            (true, b'M') => micros = micros.checked_add(number.checked_mul(60 * SECOND)?)?,
            (true, b'S') => micros = micros.checked_add(number.checked_mul(SECOND)?.checked_add(fraction)?)?,
            _ => return None,
        }
        fields += 1;
    }
    if fields == 0 {
        return None;
    }
    Some(Value::Interval(Interval { months: i32::try_from(months).ok()?, days: i32::try_from(days).ok()?, micros }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(year: i32, month: u8, day: u8) -> Date {
        Date { year, month, day }
    }

    #[test]
    fn dates_of_all_eras_are_read() {
        assert_eq!(date(b"2026-11-22"), Some(Value::Date(day(2026, 11, 22))));
        assert_eq!(date(b"0001-01-01"), Some(Value::Date(day(1, 1, 1))));
        assert_eq!(date(b"0001-12-31 BC"), Some(Value::Date(day(0, 12, 31))));
        assert_eq!(date(b"4714-11-24 BC"), Some(Value::Date(day(-4713, 11, 24))));
        assert_eq!(date(b"5874897-12-31"), Some(Value::Date(day(5_874_897, 12, 31))));
        assert_eq!(date(b"infinity"), Some(Value::TemporalInfinity { negative: false }));
        assert_eq!(date(b"-infinity"), Some(Value::TemporalInfinity { negative: true }));
        for wrong in ["", "2026-1-1", "2026-13-01", "2026-01-00", "11/22/2026", "2026-11-22 AD", "22.11.2026"] {
            assert_eq!(date(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn times_keep_their_declared_digits() {
        assert_eq!(time(b"12:00:00.5", 3), Some(Value::Time(Time { micros: 43_200_500_000, digits: 3 })));
        assert_eq!(time(b"24:00:00", 6), Some(Value::Time(Time { micros: DAY, digits: 6 })));
        let expected = Value::TimeTz(Time { micros: 1, digits: 6 }, -(15 * 3600 + 59 * 60 + 59));
        assert_eq!(time_tz(b"00:00:00.000001-15:59:59", 6), Some(expected));
        for wrong in ["24:00:00.000001", "12:60:00", "12:00", "12:00:00.", "12:00:00.1234567", "1:00:00", "12:00:00+00"]
        {
            assert_eq!(time(wrong.as_bytes(), 6), None, "{wrong}");
        }
        assert_eq!(time_tz(b"12:00:00", 6), None);
    }

    #[test]
    fn timestamps_are_read_with_zone_utc_only() {
        let at = DateTime { date: day(2026, 11, 22), micros: 41_556_411_035, digits: 6 };
        assert_eq!(date_time(b"2026-11-22 11:32:36.411035", 6), Some(Value::DateTime(at)));
        assert_eq!(instant(b"2026-11-22 11:32:36.411035+00", 6), Some(Value::Instant(at)));
        let far = DateTime { date: day(294_276, 12, 31), micros: 86_399_999_999, digits: 6 };
        assert_eq!(date_time(b"294276-12-31 23:59:59.999999", 6), Some(Value::DateTime(far)));
        let old = DateTime { date: day(-4713, 11, 24), micros: 0, digits: 6 };
        assert_eq!(instant(b"4714-11-24 00:00:00+00 BC", 6), Some(Value::Instant(old)));
        assert_eq!(instant(b"infinity", 6), Some(Value::TemporalInfinity { negative: false }));
        assert_eq!(instant(b"2026-11-22 11:32:36+01", 6), None);
        assert_eq!(instant(b"2026-11-22 11:32:36", 6), None);
        assert_eq!(date_time(b"2026-11-22 24:00:00", 6), None);
        assert_eq!(date_time(b"2026-11-22T11:32:36", 6), None);
    }

    #[test]
    fn intervals_keep_months_days_and_time_apart() {
        let is = |months, days, micros| Some(Value::Interval(Interval { months, days, micros }));
        assert_eq!(interval(b"P1Y2M3DT4H5M6.7S"), is(14, 3, 14_706_700_000));
        assert_eq!(interval(b"P-1Y-2M3DT-4H-5M-6.7S"), is(-14, 3, -14_706_700_000));
        assert_eq!(interval(b"PT0S"), is(0, 0, 0));
        assert_eq!(interval(b"PT-0.000001S"), is(0, 0, -1));
        assert_eq!(interval(b"P178956970Y7M"), is(i32::MAX, 0, 0));
        assert_eq!(interval(b"PT2562047788H54.775807S"), is(0, 0, 9_223_372_036_854_775_807));
        assert_eq!(interval(b"infinity"), Some(Value::TemporalInfinity { negative: false }));
        for wrong in ["", "P", "PT", "1 year", "P1", "P1.5Y", "PT1D", "P1H", "P999999999999Y", "PTT1S"] {
            assert_eq!(interval(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
