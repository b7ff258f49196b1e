//! Values: what one column of one row holds, borrowed from the row's bytes or from a batch's arena.
//!
//! A value is `Copy` and lives on the stack. Numbers, dates and times are decoded to numbers (every
//! format wants them in another form); text, JSON and decimals are text that needs no further work.
//! Nothing is lost: decimals keep their scale, times their declared digits, MySQL's zero dates their zeros.

/// One column of one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// SQL NULL.
    Null,
    /// The log left this column out: unchanged TOAST, a column that a minimal row image doesn't hold.
    /// Not NULL, and never replaced by a sentinel.
    Absent,
    /// A boolean of the server (PostgreSQL `bool`). MySQL's `tinyint(1)` is an [`Value::Int`].
    Bool(bool),
    /// A signed integer of any width.
    Int(i64),
    /// An unsigned integer of any width; MySQL's `year`.
    UInt(u64),
    /// A 4-byte float.
    Float(f32),
    /// An 8-byte float.
    Double(f64),
    /// An exact decimal as text with its scale kept; also `NaN`, `Infinity`, `-Infinity`.
    Decimal(&'a str),
    /// Text, decoded to UTF-8 from the column's character set.
    Text(&'a str),
    /// Bytes as they are.
    Bytes(&'a [u8]),
    /// A bit string as text of `0` and `1`, its length kept.
    Bits(&'a str),
    /// A date without time.
    Date(Date),
    /// A time of day (PostgreSQL `time`, up to 24:00:00) or a duration (MySQL `time`, up to ±838:59:59.999999).
    Time(Time),
    /// A time of day with a zone: the time as written and the offset east of UTC in seconds.
    TimeTz(Time, i32),
    /// Date and time without a zone (`timestamp`, `datetime`).
    DateTime(DateTime),
    /// An instant, in UTC (`timestamptz`, MySQL's `timestamp`).
    Instant(DateTime),
    /// `infinity` or `-infinity` of a date or timestamp type.
    TemporalInfinity {
        /// True for `-infinity`.
        negative: bool,
    },
    /// An interval with its fields kept apart.
    Interval(Interval),
    /// A UUID, big-endian.
    Uuid([u8; 16]),
    /// A JSON document as text, numbers and key order as the server has them.
    Json(&'a str),
    /// The label of an enumeration; empty for MySQL's index 0.
    Enum(&'a str),
    /// The labels of a MySQL set, in the order of its definition.
    Set(&'a [&'a str]),
    /// An array with its dimensions; a multirange as an array of ranges.
    Array(&'a Array<'a>),
    /// A range.
    Range(&'a Range<'a>),
    /// Named values in their order: a composite's attributes, the pairs of an `hstore`.
    Object(&'a [(&'a str, Value<'a>)]),
    /// A geometry.
    Geometry(Geometry<'a>),
    /// A vector of numbers.
    Vector(&'a [f32]),
    /// A vector of which only what isn't zero is kept.
    SparseVector(&'a SparseVector<'a>),
    /// The server's own text of a type that has no variant here.
    Other(&'a str),
}

impl Value<'_> {
    /// True for [`Value::Absent`].
    pub fn is_absent(&self) -> bool {
        matches!(self, Value::Absent)
    }
}

/// A proleptic Gregorian date. Zero year, month or day occur in MySQL (`0000-00-00`) and stay as they are.
/// Years before 1 are astronomical: 0 is 1 BC, -1 is 2 BC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    /// Astronomical year.
    pub year: i32,
    /// 1 to 12; 0 in MySQL's zero dates.
    pub month: u8,
    /// 1 to 31; 0 in MySQL's zero dates.
    pub day: u8,
}

impl Date {
    /// The date that lies `days` days after 1970-01-01 (before it if negative).
    ///
    /// The arithmetic is the well-known era-based one for the proleptic Gregorian calendar; it holds for
    /// all days whose year fits in 32 bits.
    pub fn from_unix_days(days: i64) -> Self {
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Self { year: year as i32, month: month as u8, day: day as u8 }
    }
}

/// A signed time in microseconds with the number of fraction digits that the column declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// Microseconds, negative only for MySQL's `time`.
    pub micros: i64,
    /// Fraction digits to show, 0 to 6.
    pub digits: u8,
}

/// A date and a time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DateTime {
    /// The date.
    pub date: Date,
    /// Microseconds since midnight, below 86,400,000,000.
    pub micros: u64,
    /// Fraction digits to show, 0 to 6.
    pub digits: u8,
}

impl DateTime {
    /// The date and time in UTC of an instant in microseconds since 1970-01-01T00:00:00Z.
    pub fn from_unix_micros(micros: i64, digits: u8) -> Self {
        const DAY: i64 = 86_400_000_000;
        Self { date: Date::from_unix_days(micros.div_euclid(DAY)), micros: micros.rem_euclid(DAY) as u64, digits }
    }
}

/// An interval: months, days and microseconds are kept apart, since none can be turned into another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// Whole months (years are twelve of them).
    pub months: i32,
    /// Whole days.
    pub days: i32,
    /// Microseconds.
    pub micros: i64,
}

/// An array of one or more dimensions; elements in row-major order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Array<'a> {
    /// Length and lower bound of each dimension, outermost first; empty for an empty array.
    pub dimensions: &'a [Dimension],
    /// All elements: as many as the product of the lengths.
    pub elements: &'a [Value<'a>],
}

/// One dimension of an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dimension {
    /// Number of elements.
    pub length: u32,
    /// Index of the first element; 1 unless the array says otherwise.
    pub lower: i32,
}

/// A range of values of one type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Range<'a> {
    /// It holds nothing.
    Empty,
    /// From a bound to a bound.
    Between {
        /// [`Value::Null`] if there is no bound.
        lower: Value<'a>,
        /// [`Value::Null`] if there is no bound.
        upper: Value<'a>,
        /// The lower bound is in the range.
        lower_inclusive: bool,
        /// The upper bound is in the range.
        upper_inclusive: bool,
    },
}

/// A geometry as well-known binary, and the reference system of its coordinates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry<'a> {
    /// Without the reference system in it. More dimensions than two are marked as the server does.
    pub wkb: &'a [u8],
    /// 0 if it has none.
    pub srid: u32,
}

/// A sparse vector.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SparseVector<'a> {
    /// How many numbers it has, zeros included.
    pub dimensions: u32,
    /// Where the others are, ascending, from 1.
    pub indices: &'a [u32],
    /// The others: as many as there are indices.
    pub values: &'a [f32],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unix_days_turn_into_dates_across_eras_and_leap_years() {
        for (days, year, month, day) in [
            (0, 1970, 1, 1),
            (-1, 1969, 12, 31),
            (11_016, 2000, 2, 29),
            (20_779, 2026, 11, 22),
            (-719_528, 0, 1, 1),
            (-719_529, -1, 12, 31),
            (2_932_896, 9999, 12, 31),
        ] {
            assert_eq!(Date::from_unix_days(days), Date { year, month, day }, "day {days}");
        }
    }

    #[test]
    fn instants_before_the_epoch_keep_their_time_of_day_positive() {
        let before = DateTime::from_unix_micros(-1, 6);
        assert_eq!(before.date, Date { year: 1969, month: 12, day: 31 });
        assert_eq!(before.micros, 86_399_999_999);
    }
}
