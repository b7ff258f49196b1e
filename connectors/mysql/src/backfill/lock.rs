//! What a snapshot of MySQL sees, as a place in the binlog: where the stream is read by files and offsets.
//!
//! The binlog is written before the engine commits, so its end says nothing of what is visible. Two ways lead to a place that does:
//!
//! - `performance_schema.log_status` (privilege BACKUP_ADMIN): the server stands still between two commits for the moment in which it
//!   reads its places, so all before them is committed. It is read *before* the snapshot is taken, the end of the binlog *after* it: what
//!   lies in between may be visible or not, as with GTIDs.
//! - `FLUSH TABLES WITH READ LOCK` (privilege RELOAD): nothing commits while it is held, which is for three short statements. But it
//!   waits for statements that run, and everything that writes then waits for it: it is given up after [`LOCK_SECONDS`], and tried again
//!   with the read.
//!
//! Without either privilege a table can't be read, and the error says which to grant.

use rowcast_core::Offset;
use rowcast_core::backfill::{ReadError, Reading, Snapshot};

use super::session::{BEGINNING, NOW, Session, number};
use crate::connection::Failure;
use crate::error::quoted;

/// How long a read waits for the lock, and writers for it.
const LOCK_SECONDS: u32 = 2;
/// ER_LOCK_WAIT_TIMEOUT.
const WAITED: u16 = 1205;

/// The ways that weren't refused yet in this session: a grant holds from the next login on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ways {
    status: bool,
    lock: bool,
}

impl Default for Ways {
    fn default() -> Self {
        Self { status: true, lock: true }
    }
}

impl Session {
    /// A transaction whose snapshot is taken at once, and the place up to which it sees everything.
    pub(super) async fn begin_at_place(&mut self) -> Result<Reading, ReadError> {
        if self.ways.status
            && let Some((seen, pos)) = self.log_status().await?
        {
            let (_, now_us) = self.executed().await?;
            self.connection.query(BEGINNING, "START TRANSACTION WITH CONSISTENT SNAPSHOT").await?;
            let (bound, file, _) = self.end_of_log().await?;
            return Ok(Reading { pos, snapshot: Snapshot::UpTo(seen), bound, file, now_us });
        }
        if self.ways.lock
            && let Some(reading) = self.locked().await?
        {
            return Ok(reading);
        }
        let place = &self.connection.place;
        let user = quoted(&place.user);
        Err(ReadError::Refused(format!(
            "{place}: without GTIDs a table can be read only by a user who may learn which transactions a read sees; repair: GRANT \
             BACKUP_ADMIN ON *.* TO {user}@'...' (it reads performance_schema.log_status), or GRANT RELOAD ON *.* TO {user}@'...' \
             (FLUSH TABLES WITH READ LOCK for a moment per read), or switch gtid_mode to ON"
        )))
    }

    /// The server's place between two commits; none if it may not be read.
    async fn log_status(&mut self) -> Result<Option<(Offset, String)>, ReadError> {
        let sql =
            "SELECT LOCAL->>'$.binary_log_file', LOCAL->>'$.binary_log_position' FROM performance_schema.log_status";
        let row = match self.connection.ask(BEGINNING, sql).await {
            Ok(rows) => rows.into_iter().next().unwrap_or_default(),
            Err(Failure::Source(error)) => return Err(error.into()),
            Err(Failure::Server(error)) => {
                tracing::debug!("performance_schema.log_status can't be read: {error}");
                self.ways.status = false;
                return Ok(None);
            }
        };
        let (file, byte) = (row.first().cloned().flatten(), row.get(1).cloned().flatten());
        let (Some(file), Some(byte)) = (file, byte) else {
            self.ways.status = false;
            return Ok(None);
        };
        let text = format!("{file}:{byte}");
        Ok(Some((self.place(Some(file), Some(byte))?, text)))
    }

    /// The snapshot of a moment in which nothing commits; none if we may not bring that about.
    async fn locked(&mut self) -> Result<Option<Reading>, ReadError> {
        self.connection.query(BEGINNING, &format!("SET SESSION lock_wait_timeout={LOCK_SECONDS}")).await?;
        let locked = self.connection.ask(BEGINNING, "FLUSH TABLES WITH READ LOCK").await;
        self.connection.query(BEGINNING, "SET SESSION lock_wait_timeout=10").await?;
        match locked {
            Ok(_) => {}
            Err(Failure::Source(error)) => return Err(error.into()),
            Err(Failure::Server(error)) if error.code == WAITED => {
                return Err(ReadError::TooSlow(format!(
                    "{}: FLUSH TABLES WITH READ LOCK had to wait for {LOCK_SECONDS} s, for a statement that runs or a lock that somebody \
                     holds; it is tried again",
                    self.connection.place
                )));
            }
            Err(Failure::Server(error)) => {
                tracing::debug!("no read lock: {error}");
                self.ways.lock = false;
                return Ok(None);
            }
        }
        // whatever fails in between loses the connection, and the lock with it
        self.connection.query(BEGINNING, "START TRANSACTION WITH CONSISTENT SNAPSHOT").await?;
        let (end, file, pos) = self.end_of_log().await?;
        self.connection.query(BEGINNING, "UNLOCK TABLES").await?;
        let row =
            self.connection.query(BEGINNING, &format!("SELECT {NOW}")).await?.into_iter().next().unwrap_or_default();
        Ok(Some(Reading { pos, snapshot: Snapshot::UpTo(end), bound: end, file, now_us: number(&row, 0) }))
    }
}
