//! Reads the one thing of Java's serialization that matters here: a `java.util.HashMap` of byte arrays, which Connect's file of offsets is
//! (`FileOffsetBackingStore`; a standalone worker and Debezium Server have one).
//!
//! Fails with the place of the first byte that isn't of that form; nothing else is understood, nothing is constructed, and what is taken into
//! memory is bounded by the file.

/// More entries than a worker has connectors.
const MOST: usize = 65_536;

/// The head of such a stream: version, the class with its two fields, no superclass.
const MAP: &[u8] = b"\xac\xed\x00\x05sr\x00\x11java.util.HashMap\x05\x07\xda\xc1\xc3\x16`\xd1\x03\x00\x02F\x00\x0aloadFactorI\x00\x09thresholdxp";
/// The class of byte arrays, where it is first met.
const BYTES: &[u8] = b"r\x00\x02[B\xac\xf3\x17\xf8\x06\x08T\xe0\x02\x00\x00xp";
/// The same class again: a reference to the third thing that the stream has described (the map's class, the map, this one).
const AGAIN: &[u8] = b"q\x00\x7e\x00\x02";

/// A key and its value; a value of null is one that was deleted.
pub(super) type Entry = (Vec<u8>, Option<Vec<u8>>);

/// The entries of a map.
///
/// # Errors
/// The stream is something else.
pub(super) fn map(bytes: &[u8]) -> Result<Vec<Entry>, String> {
    let mut reader = Reader { bytes, at: 0, met: false };
    let entries = reader.map();
    entries.ok_or_else(|| {
        format!(
            "not a file of Connect's offsets (a serialized HashMap of byte arrays): byte {} isn't what stands there",
            reader.at
        )
    })
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The class of byte arrays was described.
    met: bool,
}

impl Reader<'_> {
    fn map(&mut self) -> Option<Vec<Entry>> {
        self.word(MAP)?;
        // the load factor and the threshold, which say nothing of what is in it
        self.take(8)?;
        // capacity and number of entries, in a block of eight bytes
        self.word(b"w\x08")?;
        self.take(4)?;
        let count = self.number()?;
        if count > MOST {
            return None;
        }
        let mut entries = Vec::new();
        for _ in 0..count {
            let key = self.array()?;
            let value = if self.word(b"p").is_some() { None } else { Some(self.array()?) };
            entries.push((key, value));
        }
        self.word(b"x")?;
        (self.at == self.bytes.len()).then_some(entries)
    }

    fn array(&mut self) -> Option<Vec<u8>> {
        self.word(b"u")?;
        if self.met {
            self.word(AGAIN)?;
        } else {
            self.word(BYTES)?;
            self.met = true;
        }
        let length = self.number()?;
        self.take(length).map(<[u8]>::to_vec)
    }

    fn number(&mut self) -> Option<usize> {
        let bytes: [u8; 4] = self.take(4)?.try_into().ok()?;
        usize::try_from(i32::from_be_bytes(bytes)).ok()
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.bytes.get(self.at..)?.strip_prefix(word)?;
        self.at += word.len();
        Some(())
    }

    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let end = self.at.checked_add(count)?;
        let found = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    const RECORDED: &[u8] = include_bytes!("../../tests/debezium/offsets/connect.dat");

    #[test]
    fn a_recorded_file_is_read() {
        let entries = map(RECORDED).unwrap();
        let keys: Vec<&[u8]> = entries.iter().map(|(key, _)| key.as_slice()).collect();
        assert_eq!(keys, [br#"["recmy",{"server":"recmy"}]"#, br#"["recpg",{"server":"recpg"}]"#]);
        assert!(entries.iter().all(|(_, value)| value.as_ref().unwrap().starts_with(b"{\"")));
    }

    #[test]
    fn a_deleted_offset_is_one_without_a_value() {
        let mut bytes = MAP.to_vec();
        bytes.extend_from_slice(b"\0\0\0\0\0\0\0\0w\x08\0\0\0\x10\0\0\0\x01u");
        bytes.extend_from_slice(BYTES);
        bytes.extend_from_slice(b"\0\0\0\x01kpx");
        assert_eq!(map(&bytes), Ok(vec![(b"k".to_vec(), None)]));
    }

    #[test]
    fn what_is_cut_damaged_or_something_else_is_an_error_with_its_place() {
        for end in 0..RECORDED.len() {
            assert!(map(&RECORDED[..end]).is_err(), "{end}");
        }
        for at in 0..RECORDED.len() {
            let mut damaged = RECORDED.to_vec();
            damaged[at] ^= 0x80;
            // a flip in a text or in the factor isn't seen; none may panic or run on
            let _ = map(&damaged);
        }
        let mut longer = RECORDED.to_vec();
        longer.push(0);
        assert!(map(&longer).is_err());
        assert!(map(b"{\"json\": true}").unwrap_err().contains("byte 0"));
        let mut many = RECORDED.to_vec();
        let count = MAP.len() + 8 + 2 + 4;
        many[count..count + 4].copy_from_slice(&i32::MAX.to_be_bytes());
        assert!(map(&many).is_err());
    }
}
