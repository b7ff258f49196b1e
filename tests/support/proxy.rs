//! A TCP proxy on 127.0.0.1 between the daemon and one server, which breaks connections in every way that a network does.
//!
//! It works in a thread of its own, so that it goes on while a test blocks. Its state is one set of [`Rules`] for all
//! connections, changed at any time, and a count of cuts: each connection ends at the first cut after its start. With
//! [`Proxy::kafka`] the traffic is taken apart into Kafka's frames, and single requests or answers can be lost.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

/// A Kafka request that commits or aborts a transaction.
pub const END_TXN: i16 = 26;
/// The largest frame of Kafka that is taken: larger than any that the daemon's clients send.
const FRAME: usize = 64 << 20;

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// In good order.
    Fin,
    /// With a reset.
    Rst,
}

/// What happens to bytes that go one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// They pass.
    Pass,
    /// They aren't even read.
    Stall,
    /// At most so many bytes a second pass.
    Slow(u32),
}

/// Which way: from the daemon to the server, or back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the server.
    Up,
    /// From the server.
    Down,
}

/// What the proxy does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Nobody listens.
    pub refuse: bool,
    /// To the server.
    pub up: Flow,
    /// From the server.
    pub down: Flow,
    /// Each connection is cut after so many bytes this way.
    pub cut_after: Option<(Way, u64, End)>,
}

impl Rules {
    /// A good network.
    pub const PASS: Rules = Rules { refuse: false, up: Flow::Pass, down: Flow::Pass, cut_after: None };
}

/// What happens to one request of Kafka, and the connection with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lose {
    /// The broker never gets it.
    Request,
    /// The broker answers, but the answer never arrives.
    Answer,
}

#[derive(Debug, Clone, Copy)]
struct Ambush {
    key: i16,
    lose: Lose,
    /// Nobody listens from then on.
    refuse: bool,
    /// Valid while there have been so many pardons.
    pardons: u64,
}

struct Shared {
    target: Mutex<u16>,
    rules: watch::Sender<Rules>,
    cuts: watch::Sender<(u64, End)>,
    frames: bool,
    ambush: Mutex<Option<Ambush>>,
    caught: watch::Sender<u64>,
    pardons: AtomicU64,
    connections: AtomicU64,
    open: AtomicU64,
    up: AtomicU64,
    down: AtomicU64,
}

/// A proxy; it and its connections end when the value is dropped.
pub struct Proxy {
    port: u16,
    /// Bound to the port as long as the proxy lives: while nobody listens there, the system would give it to the next connection of
    /// anybody.
    _reserved: TcpSocket,
    shared: Arc<Shared>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Proxy {
    /// In front of a port of 127.0.0.1.
    pub fn to(target: u16) -> Proxy {
        Proxy::new(target, false)
    }

    /// In front of a broker whose port is named later by [`Proxy::retarget`], since it must advertise this proxy's port.
    pub fn kafka() -> Proxy {
        Proxy::new(0, true)
    }

    fn new(target: u16, frames: bool) -> Proxy {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let shared = Arc::new(Shared {
            target: Mutex::new(target),
            rules: watch::Sender::new(Rules::PASS),
            cuts: watch::Sender::new((0, End::Rst)),
            frames,
            ambush: Mutex::new(None),
            caught: watch::Sender::new(0),
            pardons: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            open: AtomicU64::new(0),
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
        });
        let reserved = bound(0).unwrap();
        let port = reserved.local_addr().unwrap().port();
        let listener = runtime.block_on_anywhere(listen(port));
        runtime.spawn(accept(listener, port, Arc::clone(&shared)));
        Proxy { port, _reserved: reserved, shared, runtime: Some(runtime) }
    }

    /// Where the daemon connects.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// New connections go to another port; those that are open stay.
    pub fn retarget(&self, port: u16) {
        *self.shared.target.lock().unwrap() = port;
    }

    /// Sets what happens from now on.
    pub fn set(&self, rules: Rules) {
        self.shared.rules.send_replace(rules);
    }

    /// A good network again.
    pub fn pass(&self) {
        self.set(Rules::PASS);
    }

    /// Cuts all connections.
    pub fn cut(&self, end: End) {
        self.shared.cuts.send_modify(|(count, how)| (*count, *how) = (*count + 1, end));
    }

    /// Loses the next request of this kind, or its answer, and cuts the connection; then, if `refuse`, nobody listens.
    /// Returns the count that [`Proxy::caught`] waits for.
    pub fn lose(&self, key: i16, lose: Lose, refuse: bool) -> u64 {
        assert!(self.shared.frames, "only a proxy of Kafka knows requests");
        let mut ambush = self.shared.ambush.lock().unwrap();
        *ambush = Some(Ambush { key, lose, refuse, pardons: self.shared.pardons.load(Ordering::Relaxed) });
        *self.shared.caught.borrow() + 1
    }

    /// Loses nothing of what [`Proxy::lose`] asked for and hasn't come yet, and lets new connections in again.
    pub fn lose_nothing(&self) {
        self.shared.ambush.lock().unwrap().take();
        self.shared.pardons.fetch_add(1, Ordering::Relaxed);
        self.pass();
    }

    /// Waits until so many requests or answers were lost.
    pub async fn caught(&self, count: u64, timeout: Duration) {
        let mut caught = self.shared.caught.subscribe();
        let waited = tokio::time::timeout(timeout, caught.wait_for(|seen| *seen >= count)).await;
        assert!(waited.is_ok(), "no such request in {timeout:?}");
    }

    /// Connections that were ever made.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Connections that are open.
    pub fn open(&self) -> u64 {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// Bytes that passed, to the server and from it.
    pub fn passed(&self) -> (u64, u64) {
        (self.shared.up.load(Ordering::Relaxed), self.shared.down.load(Ordering::Relaxed))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// `block_on` that may be called inside another runtime.
trait BlockOnAnywhere {
    fn block_on_anywhere<T: Send>(&self, future: impl Future<Output = T> + Send) -> T;
}

impl BlockOnAnywhere for tokio::runtime::Runtime {
    fn block_on_anywhere<T: Send>(&self, future: impl Future<Output = T> + Send) -> T {
        std::thread::scope(|scope| scope.spawn(|| self.block_on(future)).join().unwrap())
    }
}

/// A socket that others may share the port with, as long as only one of them listens.
fn bound(port: u16) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    Ok(socket)
}

async fn listen(port: u16) -> TcpListener {
    let mut tries = 0;
    loop {
        // the port of a proxy that refused for a while may still have connections in TIME_WAIT
        match bound(port).and_then(|socket| socket.listen(128)) {
            Ok(listener) => return listener,
            Err(error) if tries == 500 => panic!("the proxy's port {port}: {error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
        tries += 1;
    }
}

async fn accept(listener: TcpListener, port: u16, shared: Arc<Shared>) {
    let mut listener = Some(listener);
    let mut rules = shared.rules.subscribe();
    loop {
        if rules.borrow_and_update().refuse {
            listener = None;
            let _ = rules.wait_for(|rules| !rules.refuse).await;
            continue;
        }
        if listener.is_none() {
            listener = Some(listen(port).await);
        }
        let Some(open) = &listener else { continue };
        tokio::select! {
            accepted = open.accept() => if let Ok((client, _)) = accepted {
                shared.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(client, Arc::clone(&shared)));
            },
            _ = rules.changed() => {}
        }
    }
}

/// One connection, until one of its ends or we end it.
async fn serve(client: TcpStream, shared: Arc<Shared>) {
    let mut cuts = shared.cuts.subscribe();
    let before = cuts.borrow_and_update().0;
    let target = *shared.target.lock().unwrap();
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else {
        // as if the server itself had refused, as near as an accepted connection comes to it
        let _ = client.set_zero_linger();
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    shared.open.fetch_add(1, Ordering::Relaxed);
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let answers = Arc::new(Mutex::new(HashMap::new()));
    let end = tokio::select! {
        end = pump(&mut from_client, &mut to_server, Way::Up, &shared, &answers) => end,
        end = pump(&mut from_server, &mut to_client, Way::Down, &shared, &answers) => end,
        cut = cuts.wait_for(|(count, _)| *count > before) => cut.map_or(End::Rst, |cut| cut.1),
    };
    if end == End::Rst {
        let _ = (to_client.as_ref().set_zero_linger(), to_server.as_ref().set_zero_linger());
    }
    shared.open.fetch_sub(1, Ordering::Relaxed);
}

/// Moves bytes one way until something ends the connection.
async fn pump(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    way: Way,
    shared: &Shared,
    answers: &Mutex<HashMap<i32, Ambush>>,
) -> End {
    let mut rules = shared.rules.subscribe();
    let mut passed = 0;
    let mut buffer = Vec::new();
    loop {
        let now = *rules.borrow_and_update();
        let flow = if way == Way::Up { now.up } else { now.down };
        if flow == Flow::Stall {
            let _ = rules.changed().await;
            continue;
        }
        let read = tokio::select! {
            read = fill(from, &mut buffer, shared.frames) => read,
            _ = rules.changed(), if !shared.frames => continue,
        };
        if !matches!(read, Ok(true)) {
            return if read.is_ok() { End::Fin } else { End::Rst };
        }
        // a frame may have been awaited for long
        let now = *rules.borrow_and_update();
        let flow = if way == Way::Up { now.up } else { now.down };
        if flow == Flow::Stall {
            let _ = rules.wait_for(|rules| (if way == Way::Up { rules.up } else { rules.down }) != Flow::Stall).await;
        }
        if shared.frames && lost(&buffer, way, shared, answers) {
            return End::Rst;
        }
        let mut bytes = buffer.as_slice();
        let mut end = None;
        if let Some((cut_way, most, how)) = now.cut_after
            && cut_way == way
        {
            let left = usize::try_from(most.saturating_sub(passed)).unwrap();
            if bytes.len() >= left {
                bytes = &bytes[..left];
                end = Some(how);
            }
        }
        if let Flow::Slow(rate) = flow {
            for chunk in bytes.chunks((rate as usize / 50).max(1)) {
                if to.write_all(chunk).await.is_err() {
                    return End::Rst;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        } else if to.write_all(bytes).await.is_err() {
            return End::Rst;
        }
        passed += bytes.len() as u64;
        let total = if way == Way::Up { &shared.up } else { &shared.down };
        total.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        buffer.clear();
        if let Some(end) = end {
            return end;
        }
    }
}

/// Reads some bytes, or one frame of Kafka: false at the end of the stream.
async fn fill(from: &mut OwnedReadHalf, buffer: &mut Vec<u8>, frames: bool) -> io::Result<bool> {
    if !frames {
        buffer.reserve(16 << 10);
        return Ok(from.read_buf(buffer).await? > 0);
    }
    let mut length = [0; 4];
    if from.read_exact(&mut length).await.is_err() {
        return Ok(false);
    }
    let size = u32::from_be_bytes(length) as usize;
    if size > FRAME {
        return Err(io::Error::other("not a frame of Kafka"));
    }
    buffer.extend_from_slice(&length);
    buffer.resize(4 + size, 0);
    from.read_exact(&mut buffer[4..]).await?;
    Ok(true)
}

/// Whether this frame is the one that is to be lost.
fn lost(frame: &[u8], way: Way, shared: &Shared, answers: &Mutex<HashMap<i32, Ambush>>) -> bool {
    let number = |at: usize| frame.get(at..at + 4).map(|bytes| i32::from_be_bytes(bytes.try_into().unwrap()));
    let caught = if way == Way::Up {
        let (Some(key), Some(id)) = (frame.get(4..6), number(8)) else { return false };
        let key = i16::from_be_bytes(key.try_into().unwrap());
        let mut ambush = shared.ambush.lock().unwrap();
        let Some(set) = ambush.take_if(|ambush| ambush.key == key) else { return false };
        if set.lose == Lose::Answer {
            answers.lock().unwrap().insert(id, set);
            return false;
        }
        set
    } else {
        let Some(set) = number(4).and_then(|id| answers.lock().unwrap().remove(&id)) else { return false };
        if set.pardons != shared.pardons.load(Ordering::Relaxed) {
            return false;
        }
        set
    };
    if caught.refuse {
        shared.rules.send_modify(|rules| rules.refuse = true);
    }
    shared.caught.send_modify(|count| *count += 1);
    true
}
