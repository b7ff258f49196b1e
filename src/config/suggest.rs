//! "Did you mean": the nearest of the allowed words to a misspelt one.
//!
//! Distance is the optimal string alignment distance (insertion, deletion, substitution, swap of neighbours). A word is
//! suggested when at most a third of it, and at least one letter, had to change; so nothing absurd is ever proposed.

/// The allowed word nearest to `word`, if one is near enough.
pub(crate) fn nearest<'a>(word: &str, allowed: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    allowed
        .into_iter()
        .map(|candidate| (distance(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| {
            let length = word.chars().count().max(candidate.chars().count());
            *distance <= (length / 3).max(1) && *distance < length
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `; did you mean `x`?`, or nothing.
pub(crate) fn did_you_mean<'a>(word: &str, allowed: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, allowed).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}

fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(64).collect();
    let b: Vec<char> = b.chars().take(64).collect();
    // Rows of the usual table: two back (for swaps), one back, and the current one. `at` reads without panicking.
    let at = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX / 2);
    let mut two_back: Vec<usize> = Vec::new();
    let mut back: Vec<usize> = (0..=b.len()).collect();
    let mut before_a = None;
    for (i, &letter_a) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        let mut before_b = None;
        for (j, &letter_b) in b.iter().enumerate() {
            let substitute = at(&back, j) + usize::from(letter_a != letter_b);
            let mut best = substitute.min(at(&back, j + 1) + 1).min(at(&row, j) + 1);
            if before_a == Some(letter_b) && before_b == Some(letter_a) {
                best = best.min(at(&two_back, j.saturating_sub(1)) + 1);
            }
            row.push(best);
            before_b = Some(letter_b);
        }
        two_back = std::mem::replace(&mut back, row);
        before_a = Some(letter_a);
    }
    at(&back, b.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits_and_swaps() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("broker", "brokers"), 1);
        assert_eq!(distance("hsot", "host"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("same", "same"), 0);
    }

    #[test]
    fn near_words_are_suggested_and_absurd_ones_are_not() {
        assert_eq!(nearest("broker", ["topic", "brokers"]), Some("brokers"));
        assert_eq!(nearest("Postgress", ["mysql", "postgres"]), Some("postgres"));
        assert_eq!(nearest("pasword", ["password", "user"]), Some("password"));
        assert_eq!(nearest("zebra", ["topic", "brokers"]), None);
        assert_eq!(nearest("x", ["ca"]), None);
        assert_eq!(nearest("", ["ca"]), None);
    }
}
