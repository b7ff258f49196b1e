//! Ranges of a table along its key: their text, and the SQL that reads them.
//!
//! ```text
//! k=9f0c12ab;a=17,_utf8mb4 X'61';t=500      behind the row (17, 'a'), up to 500 of the first column, that one excluded
//! k=9f0c12ab;f=100                          from 100 of the first column to the end
//! ```
//!
//! `k` is a hash of the key that the range is along: columns, their types and directions. A range of another key, or a text
//! that isn't exactly of this form, is never read: it would be another set of rows. Literals are checked, so that nothing but a
//! literal gets from a checkpoint into a statement. "Behind" and "up to" are in the index's own direction.

use crate::rows::literal::is_literal;

/// Most numbers of an ENUM that are listed; one with more is compared, at the cost of a scan.
const MAX_LISTED: usize = 1000;

/// One column of the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// Qualified and quoted: `t`.`id`.
    pub(crate) name: String,
    /// The server's name of its type.
    pub(crate) native: String,
    pub(crate) descending: bool,
    /// Labels of an ENUM. Neither server looks up in an index which numbers are greater than one, so they are listed.
    pub(crate) labels: Option<usize>,
}

impl Part {
    /// In the index's direction: behind a value, or (`inclusive`) from it on.
    fn beyond(&self, literal: &str, inclusive: bool) -> String {
        if let (Some(labels), Ok(number)) =
            (self.labels.filter(|labels| *labels <= MAX_LISTED), literal.parse::<usize>())
        {
            let number = number.min(labels);
            let listed = |number: usize| number.to_string();
            let numbers: Vec<String> = if self.descending {
                (0..number + usize::from(inclusive)).map(listed).collect()
            } else {
                (number + usize::from(!inclusive)..=labels).map(listed).collect()
            };
            return if numbers.is_empty() {
                "FALSE".to_owned()
            } else {
                format!("{} IN ({})", self.name, numbers.join(","))
            };
        }
        let operator = match (self.descending, inclusive) {
            (false, false) => ">",
            (false, true) => ">=",
            (true, false) => "<",
            (true, true) => "<=",
        };
        format!("{} {operator} {literal}", self.name)
    }

    /// Before a value.
    fn before(&self, literal: &str) -> String {
        format!("{} {} {literal}", self.name, if self.descending { ">" } else { "<" })
    }
}

/// A key's columns in index order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) parts: Vec<Part>,
}

/// A part of a table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Range {
    /// Behind the row with this key.
    pub(crate) after: Vec<String>,
    /// First value of the first column.
    pub(crate) from: Option<String>,
    /// First value of the first column that isn't in it any more.
    pub(crate) to: Option<String>,
}

/// Why a text is no range, or a list no key, of this table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// The table has got another key.
    OtherKey,
    /// What is wrong.
    Damaged(&'static str),
}

impl Order {
    /// 32-bit FNV-1a over the parts.
    fn hash(&self) -> u32 {
        let mut hash = 0x811c_9dc5_u32;
        for part in &self.parts {
            let direction = if part.descending { "-" } else { "+" };
            for byte in [part.name.as_str(), "\0", part.native.as_str(), "\0", direction].concat().bytes() {
                hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
            }
        }
        hash
    }

    /// The range's text.
    pub(crate) fn text(&self, range: &Range) -> String {
        let mut out = format!("k={:08x}", self.hash());
        let mut add = |name: &str, value: &str| {
            out.push(';');
            out.push_str(name);
            out.push_str(value);
        };
        if !range.after.is_empty() {
            add("a=", &range.after.join(","));
        }
        if let Some(from) = &range.from {
            add("f=", from);
        }
        if let Some(to) = &range.to {
            add("t=", to);
        }
        out
    }

    /// The range of a text.
    ///
    /// # Errors
    /// If it is damaged or of another key.
    pub(crate) fn parse(&self, text: &str) -> Result<Range, Unfit> {
        const DAMAGED: Unfit = Unfit::Damaged("a range of the backfill is damaged");
        let mut fields = text.split(';');
        let hash = fields.next().and_then(|field| field.strip_prefix("k=")).filter(|hash| hash.len() == 8);
        let hash = hash.and_then(|hash| u32::from_str_radix(hash, 16).ok()).ok_or(DAMAGED)?;
        if hash != self.hash() {
            return Err(Unfit::OtherKey);
        }
        let mut range = Range::default();
        let mut last = ' ';
        for field in fields {
            let (name, value) = field.split_once('=').ok_or(DAMAGED)?;
            let name = if name.len() == 1 { name.chars().next().ok_or(DAMAGED)? } else { return Err(DAMAGED) };
            if name <= last {
                return Err(DAMAGED);
            }
            last = name;
            let values: Vec<String> = value.split(',').map(str::to_owned).collect();
            let wanted = if name == 'a' { self.parts.len() } else { 1 };
            if values.len() != wanted || !values.iter().all(|value| is_literal(value)) {
                return Err(DAMAGED);
            }
            match name {
                'a' => range.after = values,
                'f' => range.from = values.into_iter().next(),
                't' => range.to = values.into_iter().next(),
                _ => return Err(DAMAGED),
            }
        }
        Ok(range)
    }

    /// `ORDER BY` of the key.
    pub(crate) fn order_by(&self) -> String {
        let parts: Vec<String> = self
            .parts
            .iter()
            .map(|part| if part.descending { format!("{} DESC", part.name) } else { part.name.clone() })
            .collect();
        parts.join(", ")
    }

    /// The conditions of a range, to be joined by AND.
    pub(crate) fn conditions(&self, range: &Range) -> Vec<String> {
        let mut found = Vec::new();
        let Some(first) = self.parts.first() else { return found };
        // A comparison of rows isn't looked up in an index, so it is spelled out, from the last column to the first.
        let mut behind: Option<String> = None;
        for (part, literal) in self.parts.iter().zip(&range.after).rev() {
            let beyond = part.beyond(literal, false);
            behind = Some(match behind {
                None => beyond,
                Some(rest) => format!("({beyond} OR ({} = {literal} AND {rest}))", part.name),
            });
        }
        if let Some(behind) = behind {
            if self.parts.len() > 1
                && let Some(literal) = range.after.first()
            {
                // Says nothing new, but is what the optimizer makes a range of.
                found.push(first.beyond(literal, true));
            }
            found.push(behind);
        }
        found.extend(range.from.as_deref().map(|literal| first.beyond(literal, true)));
        found.extend(range.to.as_deref().map(|literal| first.before(literal)));
        found
    }

    /// The condition that picks the rows with these keys.
    ///
    /// # Errors
    /// If a key isn't one literal per column.
    pub(crate) fn keys(&self, keys: &[Vec<String>]) -> Result<String, Unfit> {
        let mut rows = Vec::with_capacity(keys.len());
        for key in keys {
            if key.len() != self.parts.len() {
                return Err(Unfit::OtherKey);
            }
            if !key.iter().all(|literal| is_literal(literal)) {
                return Err(Unfit::Damaged("the key of a row isn't a list of literals"));
            }
            let equal: Vec<String> =
                self.parts.iter().zip(key).map(|(part, literal)| format!("{} = {literal}", part.name)).collect();
            rows.push(if equal.len() == 1 { equal.concat() } else { format!("({})", equal.join(" AND ")) });
        }
        Ok(if rows.is_empty() { "FALSE".to_owned() } else { rows.join(" OR ") })
    }

    /// About `count` ranges of like width between the least and the greatest value of the first column. The outermost have
    /// no bounds there, so that nothing is missed, whatever is inserted meanwhile.
    pub(crate) fn cut(&self, least: i128, most: i128, count: usize) -> Vec<Range> {
        let (Some(first), true) = (self.parts.first(), least <= most) else { return vec![Range::default()] };
        let width = most - least + 1;
        let count = (count.max(1) as i128).min(width);
        let mut cuts: Vec<String> = (1..count).map(|nth| (least + width * nth / count).to_string()).collect();
        if first.descending {
            // A bound belongs to the range that it begins, in this direction too: one less.
            cuts = (1..count).rev().map(|nth| (least + width * nth / count - 1).to_string()).collect();
        }
        let mut ranges = Vec::with_capacity(cuts.len() + 1);
        let mut from = None;
        for cut in cuts {
            ranges.push(Range { after: Vec::new(), from: from.take(), to: Some(cut.clone()) });
            from = Some(cut);
        }
        ranges.push(Range { after: Vec::new(), from, to: None });
        ranges
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn order(parts: &[(&str, bool)]) -> Order {
        let part = |(name, descending): &(&str, bool)| Part {
            name: (*name).to_owned(),
            native: "int".to_owned(),
            descending: *descending,
            labels: None,
        };
        Order { parts: parts.iter().map(part).collect() }
    }

    #[test]
    fn the_rest_of_a_range_is_spelled_out_in_the_indexs_direction() {
        let order = order(&[("a", false), ("b", true), ("c", false)]);
        let range = Range {
            after: vec!["1".to_owned(), "2".to_owned(), "X'33'".to_owned()],
            from: None,
            to: Some("9".to_owned()),
        };
        assert_eq!(
            order.conditions(&range),
            ["a >= 1", "(a > 1 OR (a = 1 AND (b < 2 OR (b = 2 AND c > X'33'))))", "a < 9"]
        );
        assert_eq!(order.order_by(), "a, b DESC, c");
        assert_eq!(order.conditions(&Range::default()), Vec::<String>::new());
        assert_eq!(order.parse(&order.text(&range)).unwrap(), range);
        let single = self::order(&[("a", true)]);
        let range = Range { after: vec!["5".to_owned()], ..Range::default() };
        assert_eq!(single.conditions(&range), ["a < 5"]);
    }

    #[test]
    fn numbers_of_an_enum_are_listed() {
        let mut order = order(&[("a", false), ("b", true)]);
        order.parts.iter_mut().for_each(|part| part.labels = Some(4));
        let range = Range { after: vec!["2".to_owned(), "3".to_owned()], ..Range::default() };
        let conditions = ["a IN (2,3,4)", "(a IN (3,4) OR (a = 2 AND b IN (0,1,2)))"];
        assert_eq!(order.conditions(&range), conditions);
        let last = Range { after: vec!["4".to_owned(), "0".to_owned()], ..Range::default() };
        assert_eq!(order.conditions(&last), ["a IN (4)", "(FALSE OR (a = 4 AND FALSE))"]);
    }

    #[test]
    fn texts_that_are_no_ranges_of_this_key_are_refused() {
        let order = order(&[("a", false), ("b", false)]);
        let good = order.text(&Range { after: vec!["1".into(), "2".into()], from: None, to: Some("3".into()) });
        assert!(order.parse(&good).is_ok());
        for wrong in [
            String::new(),
            good.replace(";t", ";z"),
            good.replace("1,2", "1"),
            good.replace("1,2", "1,2 OR 1"),
            good.replace(";t=3", ";t=3;a=1,2"),
            good.replace(";t=3", ";t=3;t=4"),
            good.replace(";t=3", ";"),
            good.replace("k=", "k=0"),
            good.replace("k=", "K="),
        ] {
            assert!(order.parse(&wrong).is_err(), "{wrong}");
        }
        let other = self::order(&[("a", false), ("b", true)]);
        assert_eq!(other.parse(&good), Err(Unfit::OtherKey));
    }

    #[test]
    fn ranges_cover_everything_once() {
        let order = order(&[("a", false)]);
        for (least, most, count) in
            [(0, 9, 3), (-5, 5, 4), (0, i128::from(u64::MAX), 7), (5, 5, 4), (i128::from(i64::MIN), 0, 2), (0, 2, 9)]
        {
            let ranges = order.cut(least, most, count);
            assert!(ranges.len() <= count.max(1));
            assert!(ranges.first().unwrap().from.is_none() && ranges.last().unwrap().to.is_none());
            for pair in ranges.windows(2) {
                let [one, two] = pair else { continue };
                assert_eq!(one.to, two.from);
            }
        }
        assert_eq!(order.cut(0, 9, 3).iter().filter_map(|range| range.to.clone()).collect::<Vec<_>>(), ["3", "6"]);
    }

    #[test]
    fn descending_ranges_begin_at_the_top() {
        let order = order(&[("a", true)]);
        let ranges = order.cut(0, 9, 2);
        let conditions: Vec<_> = ranges.iter().map(|range| order.conditions(range)).collect();
        assert_eq!(conditions, [["a > 4"], ["a <= 4"]]);
    }

    #[test]
    fn rows_are_picked_by_their_keys() {
        let order = order(&[("a", false), ("b", false)]);
        let key = |a: &str, b: &str| vec![a.to_owned(), b.to_owned()];
        assert_eq!(order.keys(&[key("1", "2"), key("3", "4")]).unwrap(), "(a = 1 AND b = 2) OR (a = 3 AND b = 4)");
        assert!(order.keys(&[key("1", "b")]).is_err());
        assert!(order.keys(&[vec!["1".to_owned()]]).is_err());
        assert_eq!(order.keys(&[]).unwrap(), "FALSE");
    }
}
