//! How many bytes must have arrived until a reader is woken up.
//!
//! A server that writes each message by itself (PostgreSQL's walsender) wakes up whoever waits for its socket with each of them, also a runtime
//! whose reader only sleeps for a moment: epoll reports every packet. TCP's `SO_RCVLOWAT` has Linux report so many bytes at once.
//!
//! Guarantees: a threshold ends with [`Raised`]; bytes that are there then are reported at once (`tcp_set_rcvlowat`). Without effect on
//! Unix sockets, which have none: there is no [`Arrivals`] of these.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use super::Stream;

/// The socket below a stream.
#[derive(Debug)]
pub struct Arrivals(OwnedFd);

/// A threshold that is in force; dropping it ends it.
#[derive(Debug)]
pub struct Raised<'a>(&'a Arrivals);

impl Stream {
    /// Its socket, if the system can hold back what arrives.
    pub fn arrivals(&self) -> Option<Arrivals> {
        let socket = match self {
            _ if !cfg!(target_os = "linux") => return None,
            Self::Unix(_) => return None,
            Self::Plain(stream) => stream.as_fd(),
            Self::Tls(stream) => stream.get_ref().0.as_fd(),
        };
        socket.try_clone_to_owned().ok().map(Arrivals)
    }
}

impl Arrivals {
    /// Until the guard is dropped, readers are woken up by so many bytes; none if the system refuses.
    pub fn raised(&self, bytes: i32) -> Option<Raised<'_>> {
        self.set(bytes).then_some(Raised(self))
    }

    fn set(&self, bytes: i32) -> bool {
        let size = libc::socklen_t::try_from(size_of::<i32>()).unwrap_or(0);
        // SAFETY: the descriptor is open as long as `self`, and the value is an int that outlives the call, with its size.
        #[allow(unsafe_code)]
        let result = unsafe {
            libc::setsockopt(
                self.0.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVLOWAT,
                std::ptr::from_ref(&bytes).cast(),
                size,
            )
        };
        result == 0
    }
}

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.set(1);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn few_bytes_wait_for_others_or_for_the_end_of_the_threshold() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        peer.set_nodelay(true).unwrap();
        let mut stream = Stream::Plain(listener.accept().await.unwrap().0);
        let arrivals = stream.arrivals().unwrap();
        let mut buf = vec![0; 100_000];
        let while_ = Duration::from_millis(50);
        // a socket that wasn't read yet is tried before anything is reported
        peer.write_all(&[0]).await.unwrap();
        assert_eq!(stream.read(&mut buf).await.unwrap(), 1);
        let raised = arrivals.raised(10_000).unwrap();
        peer.write_all(&[0; 300]).await.unwrap();
        assert!(tokio::time::timeout(while_, stream.read(&mut buf)).await.is_err());
        peer.write_all(&[0; 9_700]).await.unwrap();
        assert_eq!(stream.read(&mut buf).await.unwrap(), 10_000);
        peer.write_all(&[0; 300]).await.unwrap();
        assert!(tokio::time::timeout(while_, stream.read(&mut buf)).await.is_err());
        drop(raised);
        assert_eq!(stream.read(&mut buf).await.unwrap(), 300);
    }
}
