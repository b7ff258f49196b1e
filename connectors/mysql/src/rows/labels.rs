//! Labels of ENUM and SET: from the log, which has their bytes, or from the catalog, which has a text of them with its flaws.
//!
//! `information_schema` can't show characters beyond the first plane of Unicode: it has `?` for them, as MariaDB has for bytes. So a
//! `?` may be one or may not, where the column's character set has such characters. A label whose text isn't certain is an error
//! when a row has it, never a guess; all others of the column are good.

use super::charset::Charset;

/// The labels of one column.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Labels(Vec<Label>);

#[derive(Debug, Clone, PartialEq)]
struct Label {
    /// As the catalog shows it, or as well as it can be shown.
    shown: String,
    certain: bool,
}

impl Labels {
    /// As the log has them: bytes in the column's character set.
    pub(crate) fn of_bytes(labels: &[Vec<u8>], charset: Charset) -> Self {
        let charset = if charset == Charset::Binary { Charset::Utf8 } else { charset };
        let arena = rowcast_core::Bump::new();
        let label = |bytes: &Vec<u8>| match charset.decode(bytes, &arena) {
            Some(text) => Label { shown: text.to_owned(), certain: true },
            None => Label { shown: String::from_utf8_lossy(bytes).into_owned(), certain: false },
        };
        Self(labels.iter().map(label).collect())
    }

    /// As `COLUMN_TYPE` has them: `enum('a','b''c',x'ff')`.
    pub(crate) fn of_type(native: &str, charset: Option<&str>) -> Self {
        // All others have nothing that information_schema can't show.
        let lossy = !matches!(
            charset.map(Charset::named),
            Some(Charset::Table(table)) if table.is_basic()
        ) && !matches!(charset, Some("utf8mb3" | "utf8" | "ucs2"));
        let mut found = Vec::new();
        let mut rest = native.split_once('(').map_or("", |(_, inside)| inside);
        while let Some(at) = rest.find('\'') {
            let (front, behind) = rest.split_at(at);
            let hex = front.ends_with('x');
            let (text, tail) = unquoted(behind.get(1..).unwrap_or(""));
            rest = tail;
            let bytes = if hex { unhex(&text) } else { None };
            found.push(match bytes {
                Some(bytes) => match String::from_utf8(bytes) {
                    Ok(shown) => Label { shown, certain: true },
                    Err(_) => Label { shown: format!("x'{text}'"), certain: false },
                },
                None => Label { certain: !(lossy && text.contains('?')), shown: text },
            });
        }
        Self(found)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// All texts, be they certain or not.
    pub(crate) fn shown(&self) -> Vec<String> {
        self.0.iter().map(|label| label.shown.clone()).collect()
    }

    /// None of them is in doubt.
    pub(crate) fn are_certain(&self) -> bool {
        self.0.iter().all(|label| label.certain)
    }

    /// The label at a place: none if there is none, an error if its text isn't certain.
    pub(crate) fn get(&self, place: usize) -> Option<Result<&str, Uncertain>> {
        self.0.get(place).map(|label| if label.certain { Ok(label.shown.as_str()) } else { Err(Uncertain(place + 1)) })
    }

    /// Whether these may be the same labels.
    pub(crate) fn fit(&self, others: &Labels) -> bool {
        self.len() == others.len()
            && self
                .0
                .iter()
                .zip(&others.0)
                .all(|(one, other)| !one.certain || !other.certain || one.shown == other.shown)
    }
}

/// A label whose text isn't certain, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Uncertain(usize);

impl From<Uncertain> for rowcast_core::DecodeError {
    #[cold]
    fn from(it: Uncertain) -> Self {
        rowcast_core::DecodeError::row(format!(
            "the text of label {} isn't known: information_schema can't show its characters, or it is bytes that mean nothing in its \
             character set",
            it.0
        ))
        .repair("SET GLOBAL binlog_row_metadata=FULL, which logs the labels themselves")
    }
}

/// A text up to its closing quote, without its escapes, and what is behind it.
fn unquoted(text: &str) -> (String, &str) {
    let mut out = String::new();
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        match character {
            '\'' if characters.peek().is_some_and(|(_, next)| *next == '\'') => {
                characters.next();
                out.push('\'');
            }
            '\'' => return (out, text.get(at + 1..).unwrap_or("")),
            '\\' => match characters.next() {
                Some((_, 'n')) => out.push('\n'),
                Some((_, 'r')) => out.push('\r'),
                Some((_, '0')) => out.push('\0'),
                Some((_, other)) => out.push(other),
                None => {}
            },
            other => out.push(other),
        }
    }
    (out, "")
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let (pairs, rest) = digits.as_chunks::<2>();
    let pair = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    if rest.is_empty() { pairs.iter().map(pair).collect() } else { None }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn labels_are_read_with_their_quotes_and_escapes() {
        let labels = |native| Labels::of_type(native, Some("utf8mb4")).shown();
        assert_eq!(labels("enum('a','b''c','','x,y')"), ["a", "b'c", "", "x,y"]);
        assert_eq!(labels("set('ä')"), ["ä"]);
        assert_eq!(labels(r"enum('a\\','\n\r\0','x''','\'')"), ["a\\", "\n\r\0", "x'", "'"]);
        assert_eq!(labels("enum('a',x'62c3a4')"), ["a", "bä"]);
        assert_eq!(labels("enum"), [""; 0]);
    }

    #[test]
    fn a_question_mark_is_in_doubt_where_it_may_stand_for_something_else() {
        for (charset, certain) in [
            (Some("utf8mb4"), false),
            (Some("utf16"), false),
            (Some("gb18030"), false),
            (Some("binary"), false),
            (None, false),
            (Some("utf8mb3"), true),
            (Some("latin1"), true),
            (Some("sjis"), true),
        ] {
            let labels = Labels::of_type("enum('?','a')", charset);
            assert_eq!(labels.are_certain(), certain, "{charset:?}");
            assert_eq!(labels.get(0).unwrap().is_ok(), certain);
            assert_eq!(labels.get(1), Some(Ok("a")));
            assert_eq!(labels.get(2), None);
        }
        assert!(!Labels::of_type("enum(x'ff')", Some("binary")).are_certain());
        assert!(Labels::of_type("enum('?','a')", None).fit(&Labels::of_type("enum('b','a')", None)));
        assert!(!Labels::of_type("enum('?','a')", None).fit(&Labels::of_type("enum('b','c')", None)));
        assert!(!Labels::of_bytes(&[vec![0xff]], Charset::Utf8).are_certain());
        assert_eq!(Labels::of_bytes(&[vec![0xe9]], Charset::named("latin1")).get(0), Some(Ok("é")));
    }
}
