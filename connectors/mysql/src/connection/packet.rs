//! Packets: a 3-byte length, a sequence number, a payload; payloads of 0xffffff bytes go on in the next packet.
//!
//! Guarantees: sequence numbers are checked, payloads are bounded, memory grows only with bytes that have arrived.
//! Reading is cancel-safe: what has arrived stays in the buffer. Whether the connection is compressed shows nowhere else.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use rowcast_net::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::compress::{Compression, Frames};

/// A payload of this length goes on in the next packet.
pub(crate) const MAX_PAYLOAD: usize = 0x00ff_ffff;
/// The server's own limit (`max_allowed_packet` can't be larger).
pub(crate) const MAX_LOGICAL: usize = 1 << 30;
/// Length of a packet's header.
pub(crate) const HEADER: usize = 4;
/// Bytes that a read asks for.
const READ_SIZE: usize = 256 * 1024;
/// A server that takes nothing for so long is taken for dead. What we send is small.
const WRITE_LIMIT: Duration = Duration::from_secs(60);

/// The transport failed, or the peer doesn't speak the protocol.
#[derive(Debug)]
pub(crate) enum WireError {
    /// The server ended the connection, in good order or not.
    Closed,
    /// The connection broke.
    Io(String),
    /// Nothing came in time.
    Silent(Duration),
    /// Nothing was taken in time.
    Deaf(Duration),
    /// The bytes aren't packets.
    Malformed(String),
}

impl std::fmt::Display for WireError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            WireError::Closed => f.write_str("the server closed the connection"),
            WireError::Io(what) => write!(f, "connection lost: {what}"),
            WireError::Silent(limit) => write!(f, "the server sent nothing for {limit:?}"),
            WireError::Deaf(limit) => write!(f, "the server took nothing for {limit:?}"),
            WireError::Malformed(what) => f.write_str(what),
        }
    }
}

impl From<std::io::Error> for WireError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            // rustls' text for a peer that ends TCP without ending TLS first is about rustls.
            std::io::ErrorKind::UnexpectedEof => WireError::Closed,
            _ => WireError::Io(error.to_string()),
        }
    }
}

/// A packet's header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    pub(crate) length: usize,
    pub(crate) sequence: u8,
}

impl Header {
    /// The header at the front of `bytes`; none if it isn't whole.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, sequence] = *bytes.first_chunk::<HEADER>()?;
        Some(Self { length: u32::from_le_bytes([a, b, c, 0]) as usize, sequence })
    }
}

/// A connection as a sequence of packets.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) stream: Stream,
    /// Bytes that have arrived and aren't consumed.
    pub(crate) buf: BytesMut,
    /// The sequence number that the next packet must have.
    pub(crate) sequence: u8,
    /// The frames of a compressed connection.
    frames: Option<Frames>,
}

impl Wire {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, buf: BytesMut::new(), sequence: 0, frames: None }
    }

    /// From now on both sides send frames: right after the login.
    pub(crate) fn compress(&mut self, compression: Compression) -> Result<(), WireError> {
        self.frames = Frames::new(compression)?;
        Ok(())
    }

    /// Reads what is there, at least one byte, or opens one compressed frame; the number of bytes that came.
    pub(crate) async fn fill(&mut self, limit: Duration) -> Result<usize, WireError> {
        let raw = match &mut self.frames {
            None => &mut self.buf,
            Some(frames) => {
                let before = self.buf.len();
                if frames.open(&mut self.buf)? {
                    return Ok(self.buf.len() - before);
                }
                &mut frames.raw
            }
        };
        // One large allocation serves many reads; a packet that is larger than what is left makes it grow.
        if raw.capacity() - raw.len() < READ_SIZE / 8 {
            raw.reserve(READ_SIZE);
        }
        match tokio::time::timeout(limit, self.stream.read_buf(raw)).await {
            Ok(Ok(0)) => Err(WireError::Closed),
            Ok(Ok(count)) => Ok(count),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(WireError::Silent(limit)),
        }
    }

    /// Whether the packet with this header is the one that is due.
    pub(crate) fn is_due(&self, header: Header) -> bool {
        self.frames.is_some() || header.sequence == self.sequence
    }

    /// Checks the sequence number of the packet in front and counts it.
    pub(crate) fn check_sequence(&mut self, header: Header) -> Result<(), WireError> {
        if !self.is_due(header) {
            return Err(WireError::Malformed(format!(
                "packet number {} where {} was due",
                header.sequence, self.sequence
            )));
        }
        self.sequence = self.sequence.wrapping_add(1);
        Ok(())
    }

    /// Reads one payload, put together from as many packets as it takes.
    pub(crate) async fn read(&mut self, limit: Duration) -> Result<Bytes, WireError> {
        let mut whole: Option<BytesMut> = None;
        loop {
            let header = loop {
                match Header::read(&self.buf) {
                    Some(header) if self.buf.len() >= HEADER + header.length => break header,
                    _ => self.fill(limit).await?,
                };
            };
            self.check_sequence(header)?;
            self.buf.advance(HEADER);
            let part = self.buf.split_to(header.length);
            let last = header.length < MAX_PAYLOAD;
            let payload = match whole.take() {
                None => part,
                Some(mut front) => {
                    if front.len() + part.len() > MAX_LOGICAL {
                        return Err(WireError::Malformed("a packet of more than 1 GiB".to_owned()));
                    }
                    front.extend_from_slice(&part);
                    front
                }
            };
            if last {
                return Ok(payload.freeze());
            }
            whole = Some(payload);
        }
    }

    /// Sends one payload as an answer within the current exchange.
    pub(crate) async fn write(&mut self, payload: &[u8]) -> Result<(), WireError> {
        let mut out = Vec::with_capacity(payload.len() + HEADER * (payload.len() / MAX_PAYLOAD + 1));
        let mut rest = payload;
        loop {
            let (part, tail) = rest.split_at(rest.len().min(MAX_PAYLOAD));
            let [a, b, c, _] = (part.len() as u32).to_le_bytes();
            out.extend_from_slice(&[a, b, c, self.sequence]);
            out.extend_from_slice(part);
            self.sequence = self.sequence.wrapping_add(1);
            rest = tail;
            if part.len() < MAX_PAYLOAD {
                break;
            }
        }
        if let Some(frames) = &mut self.frames {
            let mut framed = Vec::with_capacity(out.len() + 16);
            frames.pack(&out, &mut framed);
            out = framed;
        }
        let sent = async {
            self.stream.write_all(&out).await?;
            self.stream.flush().await
        };
        match tokio::time::timeout(WRITE_LIMIT, sent).await {
            Ok(sent) => Ok(sent?),
            Err(_) => Err(WireError::Deaf(WRITE_LIMIT)),
        }
    }

    /// Starts a new exchange with a command.
    pub(crate) async fn command(&mut self, payload: &[u8]) -> Result<(), WireError> {
        self.sequence = 0;
        if let Some(frames) = &mut self.frames {
            frames.number = 0;
        }
        self.write(payload).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_hangs_up_is_said_to() {
        let tls = "peer closed connection without sending TLS close_notify: https://docs.rs/rustls";
        let error = WireError::from(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, tls));
        assert_eq!(error.to_string(), "the server closed the connection");
        let error = WireError::from(std::io::Error::new(std::io::ErrorKind::ConnectionReset, "reset"));
        assert_eq!(error.to_string(), "connection lost: reset");
    }
}
