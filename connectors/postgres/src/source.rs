//! Opening a stream: checks in an order that gives the most useful error first, then slot, then stream.
//!
//! The publication comes before the slot: pgoutput looks it up in the catalog as of each decoded change, so WAL from
//! before its creation can't be decoded with it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rowcast_core::{Confirm, LogPosition, Lsn, Opened, Position, Source, SourceError, SourceInfo};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::Options;
use crate::backfill::PostgresReader;
use crate::catalog::tables::CapturedTable;
use crate::catalog::{Catalog, publication, server, slot, tables};
use crate::error::Target;
use crate::pgoutput::assembler::Assembler;
use crate::replication::connection::{Connection, Purpose, Rows, literal, quote};
use crate::replication::feedback::{self, Feedback, Shared};
use crate::session;
use crate::stream::{Parts, PostgresStream};

/// A successor that takes over sees its predecessor's walsender for a moment.
const TAKE_OVER: Duration = Duration::from_secs(10);
/// Creating a slot waits for every transaction in progress to end.
const CREATE_SLOT: Duration = Duration::from_secs(120);

/// A PostgreSQL database whose log can be tailed.
#[derive(Debug)]
pub struct PostgresSource {
    options: Options,
    target: Target,
    /// The publication that the stream has: a peek may have one of its own. Readers read what it publishes.
    publication: Mutex<String>,
}

impl PostgresSource {
    /// A source; nothing is connected yet.
    ///
    /// # Errors
    /// For a slot name that PostgreSQL doesn't allow.
    pub fn new(options: Options) -> Result<Self, SourceError> {
        let target = Target::new(&options.host, options.port, &options.database, &options.user);
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if options.slot.is_empty() || options.slot.len() > 63 || !options.slot.bytes().all(plain) {
            return Err(target
                .definite(format!("`{}` can't be the name of a replication slot", options.slot))
                .repair("set `source.slot` to a name of 1 to 63 lower-case letters, digits and underscores"));
        }
        if options.publication.is_empty() || options.publication.len() > 63 {
            return Err(target
                .definite(format!("`{}` can't be the name of a publication", options.publication))
                .repair("set `source.publication` to a name of 1 to 63 bytes"));
        }
        let publication = Mutex::new(options.publication.clone());
        Ok(Self { options, target, publication })
    }

    /// The whole way, on connections that are open. `drop_publication` is filled as soon as there is one to drop.
    async fn open_on(
        &self,
        catalog: &mut Catalog,
        resume: Option<Lsn>,
        drop_publication: &mut Option<String>,
    ) -> Result<Ready, SourceError> {
        let options = &self.options;
        let mut notes = Vec::new();
        let server = server::check(catalog).await?;
        let tables = tables::resolve(catalog, &options.tables, &mut notes).await?;
        let (slot_name, publication_name) = if options.temporary {
            let (slot, own) = (peek_name(&options.slot), peek_name(&options.publication));
            let (name, created) = publication::borrow(catalog, &options.publication, &own, &tables).await?;
            *drop_publication = created.then(|| name.clone());
            (slot, name)
        } else {
            // a gap is found before anything on the server is changed
            let found = slot::find(catalog, &options.slot).await?;
            check_gap(&self.target, &options.slot, found.as_ref(), resume)?;
            publication::ensure(catalog, &options.publication, &tables, &mut notes).await?;
            (options.slot.clone(), options.publication.clone())
        };

        let mut connection = Connection::connect(options, &self.target, Purpose::Replication).await?;
        let identity = identify(&mut connection, options.connect_timeout).await?;
        let start = if options.temporary {
            create_slot(&mut connection, &slot_name, true).await?
        } else {
            match (slot::find(catalog, &slot_name).await?, resume) {
                (Some(_), Some(checkpoint)) => checkpoint,
                (Some(found), None) => {
                    notes.push(format!(
                        "replication slot {slot_name} exists but there is no checkpoint: the stream begins where the slot \
                         stands, at {}",
                        found.confirmed
                    ));
                    found.confirmed
                }
                (None, Some(checkpoint)) => return Err(slot::missing(&self.target, &slot_name, checkpoint)),
                (None, None) => {
                    let start = create_slot(&mut connection, &slot_name, false).await?;
                    notes.push(format!("replication slot {slot_name} was created at {start}"));
                    start
                }
            }
        };
        let mut command = format!(
            "START_REPLICATION SLOT {} LOGICAL {start} (proto_version '{}', publication_names {}",
            quote(&slot_name),
            if server.number >= 140_000 { 2 } else { 1 },
            literal(&quote(&publication_name)),
        );
        if server.number >= 140_000 {
            command.push_str(", messages 'true'");
        }
        command.push(')');
        self.start(catalog, &mut connection, &command, &slot_name, &publication_name).await?;
        Ok(Ready { connection, server, tables, identity, start, notes, slot_name, publication_name })
    }

    /// Starts the stream. A slot that an older process of ours still holds is taken over, since the sink has fenced that
    /// process already; one that somebody else holds is waited for a while.
    async fn start(
        &self,
        catalog: &mut Catalog,
        connection: &mut Connection,
        command: &str,
        slot: &str,
        publication: &str,
    ) -> Result<(), SourceError> {
        let give_up = Instant::now() + TAKE_OVER;
        loop {
            match connection.start(command).await? {
                Ok(()) => return Ok(()),
                Err(refused) if refused.code == "55006" => {
                    slot::end_older(catalog, slot, &session::application_name(&self.options.name)).await?;
                    if Instant::now() >= give_up {
                        let pid = slot::find(catalog, slot).await?.and_then(|found| found.active_pid);
                        return Err(slot::in_use(&self.target, slot, pid));
                    }
                    tokio::time::sleep(Duration::from_millis(250)).await;
                }
                Err(refused) => {
                    return Err(slot::explain(&refused, &self.target, "starting the stream", slot, publication));
                }
            }
        }
    }
}

/// What an open stream is built of.
struct Ready {
    connection: Connection,
    server: server::Server,
    tables: Vec<CapturedTable>,
    identity: String,
    start: Lsn,
    notes: Vec<String>,
    slot_name: String,
    publication_name: String,
}

fn check_gap(target: &Target, name: &str, found: Option<&slot::Slot>, resume: Option<Lsn>) -> Result<(), SourceError> {
    match (found, resume) {
        (None, Some(checkpoint)) => Err(slot::missing(target, name, checkpoint)),
        (Some(slot), Some(checkpoint)) if slot.confirmed > checkpoint => {
            Err(slot::ahead(target, name, checkpoint, slot.confirmed))
        }
        _ => Ok(()),
    }
}

/// A name for a peek that no other peek has.
fn peek_name(base: &str) -> String {
    let head: String = base.chars().take(32).filter(char::is_ascii).collect();
    format!("{head}_peek_{:08x}", rand::random::<u32>())
}

fn cell(rows: &Rows, index: usize) -> Option<&str> {
    rows.first()?.get(index)?.as_deref()
}

/// The system identifier: another one is another cluster, whose positions mean nothing here.
async fn identify(connection: &mut Connection, timeout: Duration) -> Result<String, SourceError> {
    const DOING: &str = "asking for the system identifier";
    let target = connection.target().clone();
    let rows =
        connection.query("IDENTIFY_SYSTEM", DOING, timeout).await?.map_err(|error| error.explain(&target, DOING))?;
    cell(&rows, 0).map(str::to_owned).ok_or_else(|| target.transient(format!("{DOING}: no answer")))
}

/// Creates the slot; the stream can begin at the position that this gives.
async fn create_slot(connection: &mut Connection, name: &str, temporary: bool) -> Result<Lsn, SourceError> {
    const DOING: &str = "creating the replication slot (this waits for transactions in progress to end)";
    let target = connection.target().clone();
    let temporary = if temporary { "TEMPORARY " } else { "" };
    let command = format!("CREATE_REPLICATION_SLOT {} {temporary}LOGICAL pgoutput NOEXPORT_SNAPSHOT", quote(name));
    let rows = connection
        .query(&command, DOING, CREATE_SLOT)
        .await?
        .map_err(|error| error.explain(&target, "creating the replication slot"))?;
    cell(&rows, 1)
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| target.transient("creating the replication slot: no position in the answer"))
}

impl Source for PostgresSource {
    type Stream = PostgresStream;
    type Confirm = PostgresConfirm;
    type Reader = PostgresReader;

    async fn reader(&self) -> Result<PostgresReader, SourceError> {
        let publication =
            self.publication.lock().map_or_else(|poisoned| poisoned.into_inner().clone(), |it| it.clone());
        PostgresReader::connect(&self.options, &self.target, publication).await
    }

    async fn open(&self, resume: Option<&Position>) -> Result<Opened<PostgresStream, PostgresConfirm>, SourceError> {
        let options = &self.options;
        let resume = match resume.map(|position| &position.log) {
            None => None,
            Some(_) if options.temporary => None,
            Some(LogPosition::Lsn(lsn)) => Some(*lsn),
            Some(other) => {
                return Err(self
                    .target
                    .definite(format!("the checkpoint holds a position of kind {}, not of PostgreSQL", other.kind()))
                    .repair("give the source another `name`, or restore its former type"));
            }
        };
        let mut catalog = Catalog::connect(options, &self.target).await?;
        let mut drop_publication = None;
        let ready = match self.open_on(&mut catalog, resume, &mut drop_publication).await {
            Ok(ready) => ready,
            Err(error) => {
                if let Some(name) = drop_publication {
                    publication::drop(&mut catalog, &name).await;
                }
                return Err(error);
            }
        };

        if let Ok(mut publication) = self.publication.lock() {
            publication.clone_from(&ready.publication_name);
        }
        tracing::debug!(role = ready.server.role, slot = ready.slot_name, start = %ready.start, "stream started");
        let streaming = ready.connection.into_streaming();
        // the checkpoint is durable, so the server may know it at once
        let (sender, receiver) = watch::channel(ready.start.0);
        let shared = Arc::new(Shared::default());
        let interval = feedback::interval(ready.server.wal_sender_timeout, options.read_timeout);
        let confirm_shared = Arc::clone(&shared);
        let feedback = Feedback::start(streaming.write, Arc::clone(&shared), receiver, interval);
        let stream = PostgresStream::new(Parts {
            read: streaming.read,
            buf: streaming.buf,
            assembler: Assembler::new(&options.database, options.tables.clone(), ready.start.0),
            shared,
            feedback,
            catalog,
            target: self.target.clone(),
            read_timeout: options.read_timeout,
            slot: ready.slot_name,
            publication: ready.publication_name,
            drop_publication,
        });
        let info = SourceInfo {
            kind: "postgres",
            server: ready.server.version,
            identity: Some(ready.identity),
            tables: ready.tables.into_iter().map(|it| (it.schema, it.table)).collect(),
            notes: ready.notes,
        };
        Ok(Opened {
            info,
            start: LogPosition::Lsn(ready.start),
            stream,
            confirm: PostgresConfirm { sender, shared: confirm_shared },
        })
    }
}

/// Tells the server what it may forget.
#[derive(Debug)]
pub struct PostgresConfirm {
    sender: watch::Sender<u64>,
    shared: Arc<Shared>,
}

impl Confirm for PostgresConfirm {
    fn ask(&self) {
        self.shared.ask();
    }

    fn confirm(&self, position: &LogPosition) {
        let LogPosition::Lsn(lsn) = position else {
            tracing::error!(kind = position.kind(), "a position of another kind can't be confirmed to postgres");
            return;
        };
        self.sender.send_if_modified(|confirmed| {
            let moved = lsn.0 > *confirmed;
            *confirmed = (*confirmed).max(lsn.0);
            moved
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rowcast_core::TableFilter;

    fn options(slot: &str) -> Options {
        Options {
            name: "shop".to_owned(),
            host: "localhost".to_owned(),
            port: 5432,
            database: "shop".to_owned(),
            user: "cdc".to_owned(),
            password: "hush".to_owned().into(),
            tls: Default::default(),
            tables: TableFilter::parse(&["public.*"]).unwrap(),
            slot: slot.to_owned(),
            publication: "shop".to_owned(),
            temporary: false,
            connect_timeout: Duration::from_secs(1),
            read_timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn slot_names_are_checked_before_the_server_does() {
        assert!(PostgresSource::new(options("shop_1")).is_ok());
        for wrong in ["", "Shop", "a-b", "a b", &"x".repeat(64)] {
            assert!(PostgresSource::new(options(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_password_shows_nowhere() {
        let source = PostgresSource::new(options("shop")).unwrap();
        assert!(!format!("{source:?}").contains("hush"));
    }

    #[test]
    fn confirmations_never_go_back() {
        let (sender, receiver) = watch::channel(10);
        let confirm = PostgresConfirm { sender, shared: Arc::default() };
        for (at, expected) in [(20, 20), (15, 20), (30, 30)] {
            confirm.confirm(&LogPosition::Lsn(Lsn(at)));
            assert_eq!(*receiver.borrow(), expected);
        }
    }

    #[test]
    fn a_slot_ahead_of_the_checkpoint_is_a_gap_and_one_behind_it_is_not() {
        let target = Target::new("h", 1, "d", "u");
        let slot = slot::Slot { confirmed: Lsn(100), active_pid: None };
        assert!(check_gap(&target, "s", Some(&slot), Some(Lsn(99))).is_err());
        assert!(check_gap(&target, "s", Some(&slot), Some(Lsn(100))).is_ok());
        assert!(check_gap(&target, "s", Some(&slot), Some(Lsn(101))).is_ok());
        assert!(check_gap(&target, "s", None, Some(Lsn(1))).is_err());
        assert!(check_gap(&target, "s", None, None).is_ok());
    }
}
