//! Byte sizes and durations with their units: reading and showing.
//!
//! A number without a unit is refused: `interval: 100` leaves open whether it means seconds or milliseconds, and a wrong
//! guess is off by a thousand. Only whole numbers; no sums such as `1m30s`.

use std::time::Duration;

const BYTE_UNITS: [(&str, u64); 7] = [
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

const TIME_UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

const SIZE_FORM: &str = "expected a size with a unit, such as 16MiB (B, KB, MB, GB, KiB, MiB, GiB)";
const DURATION_FORM: &str = "expected a duration with a unit, such as 500ms, 10s, 1m or 1h";

/// Reads a size in bytes; the error says what is allowed.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    with_unit(text, &BYTE_UNITS).ok_or_else(|| SIZE_FORM.to_owned())
}

/// Reads a duration; the error says what is allowed.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    with_unit(text, &TIME_UNITS).map(Duration::from_millis).ok_or_else(|| DURATION_FORM.to_owned())
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.checked_mul(*factor)
}

/// A size in the largest binary unit that divides it: `33554432` is `32MiB`.
pub(crate) fn show_bytes(bytes: u64) -> String {
    let (factor, unit) = [(1_u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")]
        .into_iter()
        .find(|(factor, _)| bytes > 0 && bytes.is_multiple_of(*factor))
        .unwrap_or((1, "B"));
    format!("{}{unit}", bytes / factor)
}

/// A duration in the largest unit that divides it: 60,000 ms is `1m`.
pub(crate) fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let (unit, factor) = TIME_UNITS
        .into_iter()
        .rev()
        .find(|(_, factor)| millis > 0 && millis.is_multiple_of(*factor))
        .unwrap_or(("ms", 1));
    format!("{}{unit}", millis / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_shown_in_their_unit() {
        for (text, bytes) in
            [("1B", 1), ("32MiB", 32 << 20), ("1 GiB", 1 << 30), ("5MB", 5_000_000), ("7KiB", 7168), ("0B", 0)]
        {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        assert_eq!(show_bytes(32 << 20), "32MiB");
        assert_eq!(show_bytes(5_000_000), "5000000B");
        assert_eq!(show_bytes(0), "0B");
    }

    #[test]
    fn a_size_without_or_with_an_unknown_unit_is_refused() {
        for text in ["32", "32M", "MiB", "", "-1MiB", "1.5MiB", "32mib", "99999999999999999999B", "20000000000GiB"] {
            assert_eq!(parse_bytes(text), Err(SIZE_FORM.to_owned()), "{text}");
        }
    }

    #[test]
    fn durations_are_read_and_shown_in_their_unit() {
        for (text, millis) in [("10s", 10_000), ("500ms", 500), ("1m", 60_000), ("2h", 7_200_000), ("0s", 0)] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse_duration(text), Ok(duration), "{text}");
        }
        assert_eq!(show_duration(Duration::from_secs(60)), "1m");
        assert_eq!(show_duration(Duration::from_millis(1500)), "1500ms");
    }

    #[test]
    fn a_duration_without_or_with_an_unknown_unit_is_refused() {
        for text in ["10", "s", "", "10 seconds", "1m30s", "-1s", "99999999999999999999h"] {
            assert_eq!(parse_duration(text), Err(DURATION_FORM.to_owned()), "{text}");
        }
    }
}
