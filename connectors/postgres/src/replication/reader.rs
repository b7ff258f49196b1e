//! The read half: one growing buffer, frames found in place, bytes given out without a copy.
//!
//! ```text
//! buf: [ walked frames, the batch's bytes | frames not walked yet | part of a frame | spare ]
//!      0                                  at                                        len
//! ```
//!
//! Memory: the buffer grows for a frame larger than it only as its bytes arrive (doubling), so a damaged length
//! alone reserves nothing; a frame beyond 1 GiB is refused. All state is in the struct: every future here can be
//! dropped without losing a byte.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::future::poll_fn;
use rowcast_core::Pulse;
use rowcast_net::{Arrivals, Stream};
use tokio::io::{AsyncReadExt, ReadHalf};
use tokio::time::Instant;

use super::frame::{self, FrameError, HEADER, Peek};

/// A batch ends at about this size.
pub(crate) const BATCH_BYTES: usize = 256 << 10;
/// Less spare room than this isn't worth a system call.
const LEAST_SPARE: usize = 16 << 10;
/// Buffer of a quiet stream.
const SMALL_CHUNK: usize = 64 << 10;
/// Arrivals closer together than this are a busy stream.
const BUSY_GAP: Duration = Duration::from_millis(4);
/// So many of them in a row.
const BUSY_STREAK: u32 = 4;
/// What a busy stream gathers before its reader is woken up, if it comes in time.
const GATHERED: i32 = 48 << 10;

/// The next whole frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    pub(crate) tag: u8,
    /// Where its body begins in the buffer.
    pub(crate) body: usize,
    /// Where it ends.
    pub(crate) end: usize,
}

/// The reader.
#[derive(Debug)]
pub(crate) struct Reader {
    read: ReadHalf<Stream>,
    buf: BytesMut,
    at: usize,
    /// Size of the frame in progress at `at`, if its header is there.
    expected: Option<usize>,
    last_arrival: Instant,
    pulse: Pulse,
    arrivals: Option<Arc<Arrivals>>,
    streak: u32,
    last_batch: usize,
}

impl Reader {
    pub(crate) fn new(read: ReadHalf<Stream>, buf: BytesMut) -> Self {
        Self {
            read,
            buf,
            at: 0,
            expected: None,
            last_arrival: Instant::now(),
            pulse: Pulse::default(),
            arrivals: None,
            streak: 0,
            last_batch: 0,
        }
    }

    /// Somebody else wants to know when bytes came last, too.
    pub(crate) fn with_pulse(self, pulse: Pulse) -> Self {
        Self { pulse, ..self }
    }

    /// The socket can be told how much to gather.
    pub(crate) fn with_arrivals(self, arrivals: Option<Arrivals>) -> Self {
        Self { arrivals: arrivals.map(Arc::new), ..self }
    }

    /// Bytes of frames that were walked.
    pub(crate) fn walked(&self) -> usize {
        self.at
    }

    /// When bytes came last.
    pub(crate) fn last_arrival(&self) -> Instant {
        self.last_arrival
    }

    /// The next whole frame, if it is there. It stays next until [`Reader::advance`].
    pub(crate) fn frame(&mut self) -> Result<Option<Frame>, FrameError> {
        self.expected = None;
        match frame::peek(self.buf.get(self.at..).unwrap_or_default())? {
            Peek::Whole { tag, total } => Ok(Some(Frame { tag, body: self.at + HEADER, end: self.at + total })),
            Peek::Part { total } => {
                self.expected = Some(total);
                Ok(None)
            }
            Peek::Nothing => Ok(None),
        }
    }

    /// A frame's body.
    pub(crate) fn body(&self, frame: Frame) -> &[u8] {
        self.buf.get(frame.body..frame.end).unwrap_or_default()
    }

    /// The frame was taken in.
    pub(crate) fn advance(&mut self, frame: Frame) {
        self.at = frame.end;
    }

    /// Gives out the walked bytes.
    pub(crate) fn split(&mut self) -> Bytes {
        self.last_batch = self.at;
        let data = self.buf.split_to(self.at.min(self.buf.len())).freeze();
        self.at = 0;
        data
    }

    /// Forgets the walked bytes: no event points into them.
    pub(crate) fn discard(&mut self) {
        self.buf.advance(self.at.min(self.buf.len()));
        self.at = 0;
    }

    /// True if the frame in progress alone is larger than a batch: then what is collected goes out before it.
    pub(crate) fn large_frame_ahead(&self) -> bool {
        self.expected.is_some_and(|total| total > BATCH_BYTES)
    }

    /// True if bytes keep coming in small pieces, so that waiting a millisecond for more pays: a walsender writes each
    /// message by itself, and reading them one by one costs both sides more than the rows do (measured: half of our
    /// CPU time). Never true for what comes first after a pause.
    pub(crate) fn is_busy(&self) -> bool {
        self.streak >= BUSY_STREAK && self.last_arrival.elapsed() < BUSY_GAP
    }

    fn make_room(&mut self) {
        let spare = self.buf.capacity() - self.buf.len();
        if let Some(total) = self.expected {
            let have = self.buf.len().saturating_sub(self.at);
            let missing = total.saturating_sub(have);
            if missing > spare {
                self.buf.reserve(missing.min(have.max(SMALL_CHUNK)));
                return;
            }
            if total > SMALL_CHUNK {
                return;
            }
        }
        if spare < LEAST_SPARE {
            let chunk = if self.last_batch >= SMALL_CHUNK / 2 { BATCH_BYTES + SMALL_CHUNK } else { SMALL_CHUNK };
            self.buf.reserve(chunk);
        }
    }

    fn arrived(&mut self, result: io::Result<usize>) -> io::Result<usize> {
        let count = result?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
        }
        let now = Instant::now();
        let quick = now.duration_since(self.last_arrival) < BUSY_GAP;
        self.streak = if quick { self.streak.saturating_add(1) } else { 0 };
        self.last_arrival = now;
        self.pulse.beat();
        Ok(count)
    }

    /// Waits for bytes.
    pub(crate) async fn read(&mut self) -> io::Result<usize> {
        self.make_room();
        let result = self.read.read_buf(&mut self.buf).await;
        self.arrived(result)
    }

    /// Lets more of a busy stream come: for so long, or until enough is there. What comes is read now or later.
    pub(crate) async fn gather(&mut self, pause: Duration) -> io::Result<()> {
        let arrivals = self.arrivals.clone();
        match arrivals.as_ref().and_then(|arrivals| arrivals.raised(GATHERED)) {
            // the guard ends the threshold, also if this call is dropped
            Some(_raised) => tokio::time::timeout(pause, self.read()).await.map_or(Ok(()), |read| read.map(drop)),
            None => {
                tokio::time::sleep(pause).await;
                Ok(())
            }
        }
    }

    /// Takes the bytes that are there; none if there are none.
    pub(crate) async fn read_ready(&mut self) -> io::Result<Option<usize>> {
        self.make_room();
        let result = poll_fn(|cx| {
            let read = std::pin::pin!(self.read.read_buf(&mut self.buf));
            match Future::poll(read as Pin<&mut _>, cx) {
                Poll::Ready(result) => Poll::Ready(Some(result)),
                Poll::Pending => Poll::Ready(None),
            }
        })
        .await;
        match result {
            Some(result) => self.arrived(result).map(Some),
            None => Ok(None),
        }
    }
}
