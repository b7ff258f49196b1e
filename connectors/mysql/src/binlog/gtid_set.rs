//! GTID sets as the replication protocol has them (`Gtid_set::encode`): in the request for a stream, and in the event that begins a
//! file.
//!
//! The number of origins, then each with its intervals `[first, last)`. With tags (8.3) the top byte of the number is 1, the number is
//! shifted by a byte, and each UUID is followed by its tag.

use rowcast_core::GtidSet;
use rowcast_core::gtid::Origin;

use crate::cursor::{Cursor, Short};

/// Longest tag.
const MOST_TAG: usize = 32;

pub(crate) fn encode(set: &GtidSet) -> Vec<u8> {
    let count = set.origins().count() as u64;
    let tagged = set.origins().any(|(origin, _)| !origin.tag.is_empty());
    let mut out = Vec::new();
    let head = if tagged { 1 << 56 | count << 8 | 1 } else { count };
    out.extend_from_slice(&head.to_le_bytes());
    for (origin, intervals) in set.origins() {
        out.extend_from_slice(&origin.uuid);
        if tagged {
            out.push((origin.tag.len() as u8) << 1); // at most 32: one byte of mysql::serialization
            out.extend_from_slice(origin.tag.as_bytes());
        }
        out.extend_from_slice(&(intervals.len() as u64).to_le_bytes());
        for (first, last) in intervals {
            out.extend_from_slice(&first.to_le_bytes());
            out.extend_from_slice(&last.saturating_add(1).to_le_bytes());
        }
    }
    out
}

/// The body of PREVIOUS_GTIDS, its checksum taken off.
pub(crate) fn decode(body: &[u8]) -> Result<GtidSet, Short> {
    let mut at = Cursor::new(body);
    let head = at.u64()?;
    let (tagged, count) = match head >> 56 {
        0 => (false, head),
        1 => (true, head >> 8 & 0xffff_ffff_ffff),
        _ => return Err(Short),
    };
    let mut set = GtidSet::default();
    for _ in 0..count {
        let uuid = at.array()?;
        let mut tag = String::new();
        if tagged {
            let length = at.u8()?;
            let text = at.take(usize::from(length >> 1))?;
            let plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
            if length & 1 != 0 || text.len() > MOST_TAG || !text.iter().all(plain) {
                return Err(Short);
            }
            tag = String::from_utf8_lossy(text).into_owned();
        }
        let origin = Origin { uuid, tag };
        for _ in 0..at.u64()? {
            let (first, behind) = (at.u64()?, at.u64()?);
            if first == 0 || behind <= first {
                return Err(Short);
            }
            set.add_range(origin.clone(), first, behind - 1);
        }
    }
    if at.is_empty() { Ok(set) } else { Err(Short) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    #[test]
    fn sets_are_encoded_with_open_ends_and_tags_only_where_there_are_any() {
        let plain: GtidSet = format!("{A}:1-5:7").parse().unwrap();
        let bytes = encode(&plain);
        assert_eq!(bytes.len(), 8 + 16 + 8 + 2 * 16);
        assert_eq!(bytes.first(), Some(&1));
        assert_eq!(bytes.get(40..48).unwrap(), 6_u64.to_le_bytes());
        let tagged: GtidSet = format!("{A}:1-5:ab:1").parse().unwrap();
        assert_eq!(encode(&tagged).get(..8).unwrap(), [1, 2, 0, 0, 0, 0, 0, 1]);
        assert_eq!(encode(&GtidSet::default()), [0; 8]);
    }

    #[test]
    fn what_is_encoded_is_decoded_and_damage_is_an_error() {
        for text in
            [String::new(), format!("{A}:1-5:7"), format!("{A}:1-5:ab:1:3-4,4e11fa47-71ca-11e1-9e33-c80aa9429562:9")]
        {
            let set: GtidSet = text.parse().unwrap();
            let bytes = encode(&set);
            assert_eq!(decode(&bytes), Ok(set));
            for end in 0..bytes.len() {
                assert_eq!(decode(bytes.get(..end).unwrap()), Err(Short), "{text} cut at {end}");
            }
            // bytes that were changed: anything but a panic or a loop without an end
            for at in 0..bytes.len() {
                for value in [0, 1, 0x7f, 0xff] {
                    let mut damaged = bytes.clone();
                    *damaged.get_mut(at).unwrap() = value;
                    let _ = decode(&damaged);
                }
            }
        }
        assert_eq!(decode(&u64::MAX.to_le_bytes()), Err(Short));
    }
}
