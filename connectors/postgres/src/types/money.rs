//! `money`: whole units of the smallest coin, whose text is the locale's (`lc_monetary`).
//!
//! What the text of one and of minus one unit are, the server is asked once ([`Form::new`]); they say how many fraction digits
//! the locale has, and what a negative amount has around it. Everything else between the digits only groups them.

use rowcast_core::Bump;

/// The locale's way to write an amount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Form {
    /// Fraction digits.
    pub(crate) digits: u8,
    /// What stands before and behind the digits of an amount.
    positive: (String, String),
    /// The same, of a negative one.
    negative: (String, String),
}

/// What stands before the first digit, from there to the last, and behind it.
fn parts(text: &str) -> Option<(&str, &str, &str)> {
    let first = text.find(|letter: char| letter.is_ascii_digit())?;
    let last = text.rfind(|letter: char| letter.is_ascii_digit())? + 1;
    Some((text.get(..first)?, text.get(first..last)?, text.get(last..)?))
}

impl Form {
    /// From the texts of `1::money` and `(-1)::money`; none if they aren't such texts.
    pub(crate) fn new(one: &str, minus_one: &str) -> Option<Self> {
        let (before, digits, behind) = parts(one)?;
        let (minus_before, _, minus_behind) = parts(minus_one)?;
        let count = digits.bytes().filter(u8::is_ascii_digit).count().checked_sub(1)?;
        let positive = (before.to_owned(), behind.to_owned());
        let negative = (minus_before.to_owned(), minus_behind.to_owned());
        // the server allows ten digits, and goes back to two beyond
        (count <= 10 && positive != negative && digits.starts_with('1')).then_some(Self {
            digits: count as u8,
            positive,
            negative,
        })
    }

    /// An amount's text as a decimal with this many fraction digits; none if it has another form.
    pub(crate) fn decimal<'a>(&self, text: &str, arena: &'a Bump) -> Option<&'a str> {
        let (before, digits, behind) = parts(text)?;
        let is = |(prefix, suffix): &(String, String)| prefix == before && suffix == behind;
        let mut units: i64 = 0;
        for digit in digits.bytes().filter(u8::is_ascii_digit) {
            units = units.checked_mul(10)?.checked_sub(i64::from(digit - b'0'))?;
        }
        match (is(&self.positive), is(&self.negative)) {
            (true, _) => Some(self.of_units(units.checked_neg()?, arena)),
            (_, true) => Some(self.of_units(units, arena)),
            _ => None,
        }
    }

    /// An amount in the smallest unit.
    pub(crate) fn of_units<'a>(&self, units: i64, arena: &'a Bump) -> &'a str {
        let width = usize::from(self.digits);
        let sign = if units < 0 { "-" } else { "" };
        let digits = format!("{:0>width$}", units.unsigned_abs(), width = width + 1);
        let (whole, fraction) = digits.split_at_checked(digits.len().saturating_sub(width)).unwrap_or((&digits, ""));
        let point = if fraction.is_empty() { "" } else { "." };
        let mut out = bumpalo::collections::String::with_capacity_in(digits.len() + 2, arena);
        [sign, whole, point, fraction].iter().for_each(|part| out.push_str(part));
        out.into_bump_str()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn amounts_of_every_locale_are_read_by_their_digits() {
        let arena = Bump::new();
        for (one, minus, cases) in [
            (
                "$1.00",
                "-$1.00",
                &[
                    ("$1,234.56", "1234.56"),
                    ("-$0.05", "-0.05"),
                    ("-$92,233,720,368,547,758.08", "-92233720368547758.08"),
                ][..],
            ),
            ("$1.00", "($1.00)", &[("($3.10)", "-3.10"), ("$3.10", "3.10")]),
            ("1,00 €", "-1,00 €", &[("-1.234.567,89 €", "-1234567.89"), ("0,00 €", "0.00")]),
            ("1,00\u{a0}kr", "\u{2212}1,00\u{a0}kr", &[("\u{2212}7\u{a0}000,01\u{a0}kr", "-7000.01")]),
            ("￥1", "-￥1", &[("-￥1,234", "-1234"), ("￥0", "0")]),
            ("1.000 د.ك", "1.000- د.ك", &[("0.001- د.ك", "-0.001")]),
        ] {
            let form = Form::new(one, minus).unwrap();
            for (text, expected) in cases {
                assert_eq!(form.decimal(text, &arena), Some(*expected), "{text}");
            }
        }
    }

    #[test]
    fn text_of_another_locale_is_refused() {
        let (form, arena) = (Form::new("$1.00", "-$1.00").unwrap(), Bump::new());
        for text in ["", "$", "1.00", "€1.00", "-€1.00", "$99999999999999999999.00", "($1.00)"] {
            assert_eq!(form.decimal(text, &arena), None, "{text}");
        }
        for (one, minus) in [("", ""), ("$1.00", "$1.00"), ("$2.00", "-$2.00"), ("$x", "-$x")] {
            assert_eq!(Form::new(one, minus), None);
        }
    }

    #[test]
    fn units_have_the_fraction_digits_of_the_locale() {
        let arena = Bump::new();
        let two = Form::new("$1.00", "-$1.00").unwrap();
        for (units, text) in [(0, "0.00"), (-5, "-0.05"), (123_456, "1234.56"), (i64::MIN, "-92233720368547758.08")] {
            assert_eq!(two.of_units(units, &arena), text);
        }
        assert_eq!(Form::new("￥1", "-￥1").unwrap().of_units(-12, &arena), "-12");
    }
}
