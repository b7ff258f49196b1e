//! Batches of events that lie in others: see [`super::inner`].

use bytes::{Bytes, BytesMut};
use rowcast_core::SourceError;

use super::assembler::Outcome;
use super::draft::Draft;
use super::inner::{Inner, Origin};
use super::{BATCH_BYTES, Failure, MysqlStream, Step};
use crate::binlog::compressed;
use crate::binlog::event::{self, kind};
use crate::connection::packet::{HEADER, Header, MAX_PAYLOAD};

/// Events that hold others hold none that do so again, but what was kept may be replayed out of a compressed transaction.
const DEEPEST: usize = 2;

impl MysqlStream {
    /// The next batch of the events that come before those of the socket.
    pub(super) fn enclosed(&mut self, mut draft: Draft) -> Result<Step, Failure> {
        let depth = self.inner.len();
        let Some(mut inner) = self.inner.pop() else { return Ok(Step::Again) };
        let mut follows = None;
        while inner.walked() < BATCH_BYTES && !draft.is_full() && (inner.walked() == 0 || !inner.is_dry()) {
            let known = draft.events.len();
            let outcome = match inner.event() {
                Ok(Some((start, end))) => {
                    let outcome = self.assembler.inner_event(inner.data(), (start, end), inner.origin, &mut draft);
                    outcome.map(|outcome| Some((outcome, end)))
                }
                Ok(None) => self.inner_ended(inner.origin, &mut draft).map(|()| None),
                Err(what) => Err(self.assembler.inner_unreadable(inner.origin, &what)),
            };
            match outcome {
                Err(error) if known == 0 => return Err(error.into()),
                Err(error) => {
                    draft.events.truncate(known);
                    self.failed = Some(error.into());
                    break;
                }
                Ok(None) => {
                    let data = inner.split();
                    return Ok(if draft.events.is_empty() { Step::Again } else { Step::Batch(draft.finish(data)) });
                }
                Ok(Some((Outcome::Done, end))) => inner.advance(end),
                Ok(Some((Outcome::Need(name), _))) => {
                    if draft.events.is_empty() {
                        inner.discard();
                        self.inner.push(inner);
                        return Ok(Step::Need(name));
                    }
                    break;
                }
                Ok(Some((Outcome::Payload(..) | Outcome::Unpack, _))) => {
                    let what = "it holds another one";
                    return Err(self.assembler.inner_unreadable(inner.origin, what).into());
                }
                Ok(Some((outcome, end))) => {
                    inner.advance(end);
                    follows = Some(outcome);
                    break;
                }
            }
        }
        let data = if draft.events.is_empty() && follows.is_none() {
            inner.discard();
            Bytes::new()
        } else {
            inner.split()
        };
        self.inner.push(inner);
        if let Some(outcome) = follows {
            if matches!(outcome, Outcome::Inner(_)) && depth >= DEEPEST {
                return Err(self.place.protocol("events within events within events").into());
            }
            self.follow(outcome, &data)?;
        }
        Ok(if draft.events.is_empty() { Step::Again } else { Step::Batch(draft.finish(data)) })
    }

    fn inner_ended(&mut self, origin: Origin, draft: &mut Draft) -> Result<(), SourceError> {
        match origin {
            Origin::Kept => self.assembler.replayed(draft),
            Origin::Payload => self.assembler.payload_ended(),
            Origin::Unpacked => Ok(()),
        }
    }

    /// What one compressed event stands for.
    pub(super) fn unpacked(&self, data: &[u8]) -> Result<Inner, Failure> {
        let mut out = BytesMut::new();
        self.unpack_event(data.get(1..).unwrap_or(&[]), &mut out)?;
        Ok(Inner::of(Origin::Unpacked, out))
    }

    fn unpack_event(&self, bytes: &[u8], out: &mut BytesMut) -> Result<(), SourceError> {
        let unreadable = |what: &str| self.assembler.inner_unreadable(Origin::Unpacked, what);
        let header = event::Header::parse(bytes).map_err(|_| unreadable("it has no header"))?;
        let body = self.assembler.body(bytes, &header)?;
        let head = bytes.get(..event::HEADER).unwrap_or(&[]);
        compressed::unpack(head, header.kind, body, out).map_err(|what| unreadable(&what))
    }

    /// Unpacks the compressed event in front and those behind it, compressed or not, into one run of events: a batch each would be many
    /// small ones.
    pub(super) fn unpack_packets(&mut self) -> Result<Step, Failure> {
        let (mut at, mut out) = (0, BytesMut::new());
        while out.len() < BATCH_BYTES {
            let Some(header) = Header::read(self.wire.buf.get(at..).unwrap_or(&[])) else { break };
            let (start, end) = (at + HEADER, at + HEADER + header.length);
            let Some([0, bytes @ ..]) = self.wire.buf.get(start..end) else { break };
            // what changes how events are read, or isn't one, is met as it comes
            let in_order = header.length < MAX_PAYLOAD && self.wire.is_due(header);
            let plain = matches!(bytes.get(4), None | Some(&(kind::FORMAT_DESCRIPTION | kind::ROTATE)));
            if !in_order || plain {
                break;
            }
            let known = out.len();
            if let Err(error) = self.unpack_event(bytes, &mut out) {
                if known == 0 {
                    return Err(error.into());
                }
                // it is met again behind what came before it
                out.truncate(known);
                break;
            }
            self.wire.sequence = self.wire.sequence.wrapping_add(1);
            at = end;
        }
        let _ = self.wire.buf.split_to(at);
        self.inner.push(Inner::of(Origin::Unpacked, out));
        Ok(Step::Again)
    }
}
