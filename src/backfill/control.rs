//! The admin socket of a source: how an operator asks a running daemon for copies of tables, and how they are getting on.
//!
//! ```text
//! rowcast backfill ─► ask ─► <state_dir>/<name>.sock ─► serve ─► Control ─► the run of the pipeline that is streaming
//!                     ◄──────────── one line of JSON ◄───────────────────── Asked.answer
//! ```
//!
//! One Unix socket per source; one request, one answer, then the connection is closed. A request is a line of JSON of at most
//! [`MAX_REQUEST`] that must come within [`PATIENCE`]; the pipeline has as long again for its answer.
//!
//! Guarantees: the socket is open to the daemon's user only (mode 0600 from its first moment). One that a killed process left
//! behind is replaced; one that a live process listens at never is: then this says so once, and takes over when that process
//! has ended. The file is removed at the end, unless it belongs to another process by then. Nothing here stops a source: a
//! socket that can't be made is one warning that says why and what to do.

use std::fs::File;
use std::future::pending;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixSocket, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::config::table_text;

/// Largest request, in bytes.
pub const MAX_REQUEST: u64 = 1 << 20;
/// For a request to arrive, and for the pipeline to answer it.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Longest path of a Unix socket, in bytes, without the zero at its end.
const MAX_PATH: usize = 107;
/// Requests at a time; more wait to be accepted.
const CONNECTIONS: usize = 16;
/// How often a socket that another process listens at is looked at.
const OTHER_PROCESS: Duration = Duration::from_secs(5);

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Copy a table, rows of it, or some rows, beside the stream.
    Backfill {
        /// Schema, or database for MySQL and MariaDB.
        qualifier: String,
        /// Table.
        table: String,
        /// An SQL condition that rows must meet.
        #[serde(default)]
        filter: Option<String>,
        /// The rows with these keys only; each key as the texts of its columns, in key order, not quoted.
        #[serde(default)]
        keys: Option<Vec<Vec<String>>>,
    },
    /// Tell how all copies are getting on.
    Status,
    /// End the copy of a table, or all; what is read so far stays published.
    Cancel {
        /// `(qualifier, table)`; all if none.
        #[serde(default)]
        table: Option<(String, String)>,
    },
    /// Stop reading a table, or all, until [`Command::Resume`].
    Pause {
        /// `(qualifier, table)`; all if none.
        #[serde(default)]
        table: Option<(String, String)>,
    },
    /// Go on reading.
    Resume {
        /// `(qualifier, table)`; all if none.
        #[serde(default)]
        table: Option<(String, String)>,
    },
}

impl Command {
    /// For the log: neither conditions nor keys, which hold values of rows.
    fn name(&self) -> String {
        let of = |table: &Option<(String, String)>| match table {
            Some((qualifier, table)) => table_text(qualifier, table),
            None => "all tables".to_owned(),
        };
        match self {
            Self::Backfill { qualifier, table, filter, keys } => {
                let rows = match (filter, keys) {
                    (_, Some(keys)) if keys.len() == 1 => " (1 key)".to_owned(),
                    (_, Some(keys)) => format!(" ({} keys)", keys.len()),
                    (Some(_), None) => " (some rows)".to_owned(),
                    (None, None) => String::new(),
                };
                format!("a copy of {}{rows}", table_text(qualifier, table))
            }
            Self::Status => "the status".to_owned(),
            Self::Cancel { table } => format!("the end of the copy of {}", of(table)),
            Self::Pause { table } => format!("a pause of the copy of {}", of(table)),
            Self::Resume { table } => format!("the copy of {} to go on", of(table)),
        }
    }
}

/// A request and where its answer goes. Dropped without an answer, the operator is told that the run ended.
#[derive(Debug)]
pub struct Asked {
    /// What is asked for.
    pub command: Command,
    /// Where the answer goes; an error is a sentence for the operator.
    pub answer: oneshot::Sender<Result<Answer, String>>,
}

/// What a request is answered with.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It is done, or will be: a sentence for the operator.
    Done(String),
    /// How the copies are getting on.
    Status(Vec<TableProgress>),
}

/// How the copy of one table is getting on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TableProgress {
    /// `schema.table`, as [`table_text`] shows it.
    pub table: String,
    /// `waiting`, `reading`, `paused`, `copied`, `failed` or `cancelled`.
    pub state: String,
    /// Rows published.
    pub rows: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Rows of the table, by the server's statistics.
    pub estimated_rows: Option<u64>,
    /// How much is done.
    pub percent: Option<f64>,
    /// Rows a second, lately.
    #[serde(serialize_with = "finite")]
    pub rows_per_second: f64,
    /// At this speed.
    pub seconds_left: Option<u64>,
    /// Rows that weren't published because the stream has a newer change of them.
    pub dropped: u64,
    /// Rows that are to be read again.
    pub reread: u64,
    /// Why it failed or waits.
    pub why: Option<String>,
}

/// JSON has no infinity, and a null in its place couldn't be read back.
fn finite<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(if number.is_finite() { *number } else { 0.0 })
}

/// An answer on the wire.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    Done(String),
    Status(Vec<TableProgress>),
    Error(String),
}

/// Where requests go: a run of the pipeline registers while it streams.
#[derive(Clone, Debug, Default)]
pub struct Control(Arc<Mutex<Option<mpsc::Sender<Asked>>>>);

impl Control {
    /// From now on requests come out of this receiver, and no longer out of an earlier one. Dropping it ends that.
    pub fn register(&self) -> mpsc::Receiver<Asked> {
        let (sender, receiver) = mpsc::channel(16);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    fn listener(&self) -> Option<mpsc::Sender<Asked>> {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        sender.filter(|sender| !sender.is_closed())
    }

    /// Passes a request on and waits for the answer.
    async fn pass(&self, command: Command, source: &str, patience: Duration) -> Result<Answer, String> {
        let idle = || {
            format!(
                "the source isn't streaming now: `{source}` is starting, or waits after an error; the daemon's log says \
                 which, try again when it streams"
            )
        };
        let Some(listener) = self.listener() else { return Err(idle()) };
        let (answer, answered) = oneshot::channel();
        let passed = async {
            if listener.send(Asked { command, answer }).await.is_err() {
                return Err(idle());
            }
            answered.await.unwrap_or_else(|_| {
                Err("the source stopped streaming before it answered; ask for the status when it streams again"
                    .to_owned())
            })
        };
        timeout(patience, passed).await.unwrap_or_else(|_| {
            Err(format!(
                "`{source}` didn't answer within {} s; the request may be carried out all the same: ask for the status",
                patience.as_secs_f64()
            ))
        })
    }
}

/// The socket of a source.
pub fn socket_path(state_dir: &Path, source: &str) -> PathBuf {
    state_dir.join(format!("{source}.sock"))
}

/// Answers requests at this path. Never returns: drop it, and the socket is removed.
pub async fn serve(path: PathBuf, control: Control, source: String) {
    let listening = match listen_when_free(&path, &source).await {
        Ok(listening) => listening,
        Err(why) => {
            tracing::warn!(source, "`rowcast backfill {source}` won't reach this daemon: {why}");
            return pending().await;
        }
    };
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listening.listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, control.clone(), source.clone(), PATIENCE));
                }
                // Out of file descriptors, most likely: other connections must end first.
                Err(error) => {
                    tracing::warn!(source, "a connection to {} failed: {error}", path.display());
                    sleep(Duration::from_secs(1)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// A socket that is open, and removed when dropped.
struct Listening {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the socket's file.
    file: Option<(u64, u64)>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        if self.file.is_some() && identity(&self.path) == self.file {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Waits while another process listens there.
async fn listen_when_free(path: &Path, source: &str) -> Result<Listening, String> {
    check_length(path)?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|error| {
            format!(
                "can't make the folder {}: {error}; set `state_dir` to a folder that can be written to",
                folder.display()
            )
        })?;
    }
    let mut warned = false;
    while in_use(path).await? {
        if !warned {
            tracing::warn!(
                source,
                "`rowcast backfill {source}` reaches another process, which listens at {}; each daemon needs its own \
                 `state_dir`, unless this one is to replace that",
                path.display()
            );
            warned = true;
        }
        sleep(OTHER_PROCESS).await;
    }
    let listener = bind(path).map_err(|error| {
        format!("can't make the socket {}: {error}; set `state_dir` to a folder that can hold one", path.display())
    })?;
    if warned {
        tracing::info!(source, "listening at {} from now on", path.display());
    }
    Ok(Listening { listener, path: path.to_owned(), file: identity(path) })
}

fn check_length(path: &Path) -> Result<(), String> {
    let length = path.as_os_str().len();
    if length <= MAX_PATH {
        return Ok(());
    }
    Err(format!(
        "the path {} has {length} bytes, and a Unix socket's can have {MAX_PATH} at most: set a shorter `state_dir`",
        path.display()
    ))
}

/// Whether a live process listens there. What a dead one left is removed.
async fn in_use(path: &Path) -> Result<bool, String> {
    let fail = |error: io::Error| format!("can't use {}: {error}; set `state_dir` to another folder", path.display());
    let kind = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(fail(error)),
    };
    if !kind.is_socket() {
        return Err(format!(
            "{} is there already and is no socket; remove it, or set another `state_dir`",
            path.display()
        ));
    }
    match UnixStream::connect(path).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(fail(error)),
            _ => Ok(false),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        // A full queue of connections is that of a live process.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(fail(error)),
    }
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    const OWNER_ONLY: u32 = 0o600;
    let socket = UnixSocket::new_stream()?;
    // Linux gives the file the mode of the socket's own inode: nobody else can connect even before the next line but one.
    let own = File::from(socket.as_fd().try_clone_to_owned()?);
    let _ = own.set_permissions(std::fs::Permissions::from_mode(OWNER_ONLY));
    socket.bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(OWNER_ONLY))?;
    socket.listen(64)
}

/// One request, one answer.
async fn connection(stream: UnixStream, control: Control, source: String, patience: Duration) {
    let (read, mut write) = stream.into_split();
    let reply = match timeout(patience, request(read)).await {
        Ok(Ok(Some(command))) => {
            if command != Command::Status {
                tracing::info!(source, "asked for {}", command.name());
            }
            match control.pass(command, &source, patience).await {
                Ok(Answer::Done(what)) => Reply::Done(what),
                Ok(Answer::Status(tables)) => Reply::Status(tables),
                Err(why) => Reply::Error(why),
            }
        }
        // Closed without a word: another process looks whether somebody listens.
        Ok(Ok(None)) => return,
        Ok(Err(why)) => Reply::Error(why),
        Err(_) => Reply::Error(format!("no request came within {} s", patience.as_secs_f64())),
    };
    let Ok(mut line) = serde_json::to_vec(&reply) else { return };
    line.push(b'\n');
    // Nobody to tell if the operator is gone.
    let _ = timeout(patience, async {
        write.write_all(&line).await?;
        write.shutdown().await
    })
    .await;
}

/// The request of a connection; none if it is closed without one.
async fn request(read: impl tokio::io::AsyncRead + Unpin) -> Result<Option<Command>, String> {
    let mut line = Vec::new();
    let mut reader = BufReader::new(read.take(MAX_REQUEST + 1));
    reader.read_until(b'\n', &mut line).await.map_err(|error| format!("the request can't be read: {error}"))?;
    if line.len() as u64 > MAX_REQUEST {
        return Err(too_large());
    }
    if line.is_empty() {
        return Ok(None);
    }
    // serde's message may quote the request; it goes back to the operator and into no log.
    serde_json::from_slice(&line).map(Some).map_err(|error| format!("the request isn't understood: {error}"))
}

fn too_large() -> String {
    format!("a request can have {} MiB at most: ask for fewer keys at a time", MAX_REQUEST >> 20)
}

/// Asks the daemon that listens at this path.
///
/// # Errors
/// The daemon's own answer, or why there is none, as a sentence for the operator.
pub async fn ask(path: &Path, command: &Command) -> Result<Answer, String> {
    check_length(path)?;
    let shown = path.display();
    let mut request = serde_json::to_vec(command).map_err(|error| format!("the request can't be written: {error}"))?;
    request.push(b'\n');
    if request.len() as u64 > MAX_REQUEST {
        return Err(too_large());
    }
    let connected = timeout(PATIENCE, UnixStream::connect(path));
    let stream = match connected.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            let name = path.file_stem().map(|name| name.to_string_lossy()).unwrap_or_default();
            return Err(format!(
                "no daemon for source `{name}` listens at {shown}: is it running, and is --state-dir its state_dir? (in \
                 docker: docker compose exec rowcast rowcast backfill ...)"
            ));
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(format!(
                "the daemon's socket {shown} can't be used: {error}; only the user that it runs as can"
            ));
        }
        Err(error) => return Err(format!("the daemon's socket {shown} can't be used: {error}")),
    };
    // The server's time for the request and for the answer, and some more.
    let exchanged = timeout(PATIENCE * 2 + Duration::from_secs(5), exchange(stream, &request));
    let line = match exchanged.await {
        Ok(Ok(line)) => line,
        Ok(Err(error)) => return Err(format!("the daemon at {shown} ended the connection: {error}")),
        Err(_) => return Err(format!("the daemon at {shown} doesn't answer; it hangs, or is stopped by a signal")),
    };
    if line.is_empty() {
        return Err(format!("the daemon at {shown} ended before it answered; ask for the status when it runs again"));
    }
    match serde_json::from_slice(&line) {
        Ok(Reply::Done(what)) => Ok(Answer::Done(what)),
        Ok(Reply::Status(tables)) => Ok(Answer::Status(tables)),
        Ok(Reply::Error(why)) => Err(why),
        Err(error) => {
            Err(format!("the answer of {shown} isn't understood: {error}; is it another version of rowcast?"))
        }
    }
}

async fn exchange(mut stream: UnixStream, request: &[u8]) -> io::Result<Vec<u8>> {
    let sent = stream.write_all(request).await;
    let mut line = Vec::new();
    // A daemon that refuses a request may answer before it has read all of it.
    let read = BufReader::new(stream).read_until(b'\n', &mut line).await;
    if line.ends_with(b"\n") {
        return Ok(line);
    }
    sent.and(read).map(|_| Vec::new())
}

#[cfg(test)]
mod tests;
