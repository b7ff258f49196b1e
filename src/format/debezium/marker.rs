//! Markers of snapshots: rows that were read are written as `"snapshot":"true"`, beside the stream and before it is known which of them will be
//! published; the first and the last are changed when they are. A table has two such rows, so that what a change costs (it finds the place and
//! writes the value anew behind the buffer) doesn't count, and all others cost nothing.
//!
//! Guarantees: nothing but the marker changes, and nobody else's bytes. Fails never: a value that has no such place stays as it is.

use std::ops::Range;

use super::flat::is_marker;
use super::source::source_of;
use super::{Codec, TableText};
use crate::backfill::markers::Marker;
use crate::format::flat::member;
use crate::pipeline::Record;

impl Codec {
    /// Whether rows say it: flattened ones only if they are to.
    pub fn tells_markers(&self) -> bool {
        self.config
            .flatten
            .as_ref()
            .is_none_or(|flatten| flatten.fields.iter().chain(&flatten.headers).any(|added| is_marker(&added.part)))
    }
}

impl TableText {
    /// Has the record of a row that was read say which one of its snapshot it is.
    pub fn mark(&self, buf: &mut Vec<u8>, record: &mut Record, marker: Marker) {
        let marker = marker.as_str();
        if let Some(value) = record.value.clone()
            && let Some(text) = buf.get(value.clone())
        {
            let places = match &self.flat {
                Some(flat) => flat.markers(text, usize::from(self.value_schemas)),
                None => of_envelope(text).into_iter().collect(),
            };
            if !places.is_empty() {
                record.value = Some(replaced(buf, value, places, marker));
            }
        }
        for name in self.flat.iter().flat_map(|flat| flat.marker_headers()) {
            for header in record.headers.iter_mut().filter(|header| header.name.as_str() == name) {
                let start = buf.len();
                buf.extend_from_slice(marker.as_bytes());
                header.value = Some(start..buf.len());
            }
        }
    }
}

/// Where an envelope says that its row is from a snapshot.
fn of_envelope(value: &[u8]) -> Option<Range<usize>> {
    let source = source_of(value)?;
    let place = member(value.get(source.clone())?, "snapshot")?;
    Some(source.start + place.start..source.start + place.end)
}

/// A value written anew at the buffer's end, with a text in these places of it.
fn replaced(buf: &mut Vec<u8>, value: Range<usize>, mut places: Vec<Range<usize>>, text: &str) -> Range<usize> {
    places.sort_unstable_by_key(|place| place.start);
    let (start, mut from) = (buf.len(), value.start);
    for place in places {
        buf.extend_from_within(from..value.start + place.start);
        buf.push(b'"');
        buf.extend_from_slice(text.as_bytes());
        buf.push(b'"');
        from = value.start + place.end;
    }
    buf.extend_from_within(from..value.end);
    start..buf.len()
}
