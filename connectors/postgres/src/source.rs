//! Opening a stream: checks in an order that gives the most useful error first, then slot, then stream.
//!
//! The publication comes before the slot: pgoutput looks it up in the catalog as of each decoded change, so WAL from
//! before its creation can't be decoded with it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rowcast_core::{Begin, Confirm, LogPosition, Lsn, Opened, Part, Pulse, Source, SourceError, SourceInfo};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::Options;
use crate::backfill::PostgresReader;
use crate::catalog::tables::CapturedTable;
use crate::catalog::{Catalog, forms, leftovers, publication, server, slot, tables};
use crate::error::Target;
use crate::monitor::PostgresMonitor;
use crate::pgoutput::assembler::{Assembler, Setup};
use crate::pgoutput::form::ValueForm;
use crate::pgoutput::in_progress::Room;
use crate::replication::connection::{Connection, Purpose, Rows, quote};
use crate::replication::feedback::{self, Feedback, Shared};
use crate::replication::plugin::{self, PluginOptions};
use crate::stream::{Parts, PostgresStream};
use crate::timeline;
use crate::{servers, session};

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
    /// The last stream failed at a transaction in progress: the next one does without them.
    leave: Arc<AtomicBool>,
    /// Binary values turned out to be impossible.
    text_next: Arc<AtomicBool>,
}

impl PostgresSource {
    /// A source; nothing is connected yet.
    ///
    /// # Errors
    /// For a slot name that PostgreSQL doesn't allow.
    pub fn new(options: Options) -> Result<Self, SourceError> {
        let target = Target::new(&options.servers, &options.database, &options.user);
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
        Ok(Self { options, target, publication, leave: Arc::default(), text_next: Arc::default() })
    }

    /// Removes the slot and the publication from the server; gives a sentence for each. Nothing else does.
    ///
    /// # Errors
    /// Definite while somebody streams from the slot; as [`Source::open`] besides.
    pub async fn remove(&self) -> Result<Vec<String>, SourceError> {
        let mut catalog = servers::choose(&self.options, &self.target).await?;
        leftovers::remove(&mut catalog, &self.options).await
    }

    /// The whole way, on connections that are open. `drop_publication` is filled as soon as there is one to drop.
    async fn open_on(
        &self,
        catalog: &mut Catalog,
        begin: (Option<Lsn>, Begin<'_>),
        drop_publication: &mut Option<String>,
    ) -> Result<Ready, SourceError> {
        let options = &self.options;
        let (resume, begin) = begin;
        let mut notes = Vec::new();
        let server = server::check(catalog).await?;
        for (asked, since, key) in
            [(options.local_only, plugin::V16, "origin: none"), (options.two_phase, plugin::V15, "two_phase: true")]
        {
            if asked && server.number < since {
                return Err(self
                    .target
                    .definite(format!(
                        "`source.{key}` needs PostgreSQL {}; the server is {}",
                        since / 10_000,
                        server.version
                    ))
                    .repair("remove the setting, or upgrade the server"));
            }
        }
        let mut connection = Connection::connect(options, &self.target, Purpose::Replication).await?;
        // before anything is looked for or changed there
        let identity = timeline::identify(&mut connection, options.connect_timeout).await?;
        // behind a gap the positions of the other cluster don't count any more
        if let (Some(ours), Begin::At { .. }) = (begin.identity().filter(|ours| *ours != identity.system), begin) {
            return Err(another(&self.target, ours, &identity.system, &server.version));
        }
        if let (Some(at), Some(checkpoint)) = (resume, begin.position()) {
            let timeout = options.connect_timeout;
            timeline::check(&mut connection, &identity, checkpoint, at, server.in_recovery, timeout).await?;
        }
        let tables = tables::resolve(catalog, &options.tables, resume.is_some(), &mut notes).await?;
        let (slot_name, publication_name) = if options.temporary {
            let (slot, own) = (peek_name(&options.slot), peek_name(&options.publication));
            let (name, created) = publication::borrow(catalog, &options.publication, &own, &tables).await?;
            *drop_publication = created.then(|| name.clone());
            (slot, name)
        } else {
            // a gap is found before anything on the server is changed
            let found = slot::find(catalog, &options.slot).await?;
            if matches!(begin, Begin::Anew { .. }) {
                if found.as_ref().is_some_and(|found| found.lost.is_some()) {
                    slot::drop(catalog, &options.slot).await?;
                }
            } else {
                check_gap(&self.target, &options.slot, found.as_ref(), resume)?;
            }
            publication::ensure(catalog, &options.publication, &tables, &mut notes).await?;
            (options.slot.clone(), options.publication.clone())
        };

        let mut existing = None;
        let start = if options.temporary {
            create_slot(&mut connection, &slot_name, Keep::Temporary, server.in_recovery).await?
        } else {
            match (slot::find(catalog, &slot_name).await?, resume) {
                (Some(found), Some(checkpoint)) => {
                    existing = Some(found);
                    checkpoint
                }
                (Some(found), None) => {
                    notes.push(format!(
                        "replication slot {slot_name} exists but there is no checkpoint: the stream begins where the slot \
                         stands, at {}",
                        found.confirmed
                    ));
                    let start = found.confirmed;
                    existing = Some(found);
                    start
                }
                (None, Some(checkpoint)) => return Err(slot::missing(&self.target, &slot_name, checkpoint)),
                (None, None) => {
                    let keep = if server.failover_slots { Keep::Failover } else { Keep::Here };
                    if server.in_recovery {
                        tracing::warn!(slot = slot_name, "{STANDBY_WAITS}");
                    }
                    let start = create_slot(&mut connection, &slot_name, keep, server.in_recovery).await?;
                    notes.push(format!("replication slot {slot_name} was created at {start}"));
                    notes.extend(server.notes(&slot_name, true));
                    start
                }
            }
        };
        if resume.is_some() {
            notes.extend(server.notes(&slot_name, false));
        }
        if !options.temporary {
            notes.extend(leftovers::notes(catalog, options).await?);
        }
        let two_phase = existing.as_ref().is_some_and(|slot| slot.two_phase) || options.two_phase;
        // prepared before our position and committed behind it: the server must begin where it was prepared
        let sends_from = existing.filter(|slot| slot.two_phase && slot.confirmed < start).map(|slot| slot.confirmed);
        let streaming =
            options.spill_limit > 0 && server.number >= plugin::V14 && !self.leave.swap(false, Ordering::Relaxed);
        let binary = options.binary
            && !self.text_next.load(Ordering::Relaxed)
            && server.number >= plugin::V14
            && forms::all_binary(catalog, &publication_name).await?;
        let plugin = PluginOptions {
            server: server.number,
            publication: &publication_name,
            binary,
            streaming,
            two_phase,
            local_only: options.local_only,
        };
        let command = plugin.command(&slot_name, sends_from.unwrap_or(start));
        self.start(catalog, &mut connection, &command, &slot_name, &publication_name).await?;
        Ok(Ready {
            connection,
            server,
            tables,
            identity,
            start,
            sends_from,
            streaming,
            notes,
            slot_name,
            publication_name,
            binary,
        })
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
                        let user = slot::find(catalog, slot).await?.and_then(|found| found.user);
                        return Err(slot::in_use(&self.target, slot, user.as_ref(), self.options.slot_in_use));
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
    identity: timeline::Identity,
    start: Lsn,
    /// Where the server begins to send, if that is before `start`.
    sends_from: Option<Lsn>,
    streaming: bool,
    notes: Vec<String>,
    slot_name: String,
    publication_name: String,
    binary: bool,
}

fn check_gap(target: &Target, name: &str, found: Option<&slot::Slot>, resume: Option<Lsn>) -> Result<(), SourceError> {
    match (found, resume) {
        (Some(slot::Slot { lost: Some(reason), .. }), _) => Err(slot::invalidated(target, name, reason)),
        (None, Some(checkpoint)) => Err(slot::missing(target, name, checkpoint)),
        (Some(slot), Some(checkpoint)) if slot.confirmed > checkpoint => {
            Err(slot::ahead(target, name, checkpoint, slot.confirmed))
        }
        _ => Ok(()),
    }
}

/// Also after a major upgrade: `pg_upgrade` initialises a new cluster, whose slots (if it copied them, from 17 on) stand in a log of
/// its own.
fn another(target: &Target, ours: &str, theirs: &str, version: &str) -> SourceError {
    target
        .gap(format!(
            "gap: the checkpoint was written for the database cluster with system identifier {ours}, this one (PostgreSQL {version}) has \
             {theirs}: another server, one that was loaded from a dump, or one that pg_upgrade made; positions of one mean nothing on \
             the other"
        ))
        .repair(
            "point `source` at the old server, or give the new one another `name`; if the new one took the old one's place, set \
             `on_gap: backfill`, which copies all tables again",
        )
}

/// A name for a peek that no other peek has.
fn peek_name(base: &str) -> String {
    let head: String = base.chars().take(32).filter(char::is_ascii).collect();
    format!("{head}_peek_{:08x}", rand::random::<u32>())
}

fn cell(rows: &Rows, index: usize) -> Option<&str> {
    rows.first()?.get(index)?.as_deref()
}

/// How long a slot lives, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// As long as the connection.
    Temporary,
    /// Until it is dropped, on this server.
    Here,
    /// The same, and standbys with `sync_replication_slots` have a copy, from which the stream goes on after a failover.
    Failover,
}

/// What a slot on a standby waits for.
const STANDBY_WAITS: &str = "creating the replication slot on a standby: it waits until the primary logs which transactions run, which \
     it does only when something else happens there; to go on at once, on the primary: SELECT pg_log_standby_snapshot()";

/// Creates the slot; the stream can begin at the position that this gives.
async fn create_slot(
    connection: &mut Connection,
    name: &str,
    keep: Keep,
    on_standby: bool,
) -> Result<Lsn, SourceError> {
    const DOING: &str = "creating the replication slot (this waits for transactions in progress to end)";
    let doing = if on_standby { STANDBY_WAITS } else { DOING };
    let target = connection.target().clone();
    let (temporary, options) = match keep {
        Keep::Temporary => ("TEMPORARY ", "NOEXPORT_SNAPSHOT"),
        Keep::Here => ("", "NOEXPORT_SNAPSHOT"),
        Keep::Failover => ("", "(SNAPSHOT 'nothing', FAILOVER)"),
    };
    let command = format!("CREATE_REPLICATION_SLOT {} {temporary}LOGICAL pgoutput {options}", quote(name));
    let rows = connection
        .query(&command, doing, CREATE_SLOT)
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
    type Monitor = PostgresMonitor;

    fn monitor(&self) -> PostgresMonitor {
        PostgresMonitor::new(&self.options, &self.target)
    }

    async fn reader(&self) -> Result<PostgresReader, SourceError> {
        let publication =
            self.publication.lock().map_or_else(|poisoned| poisoned.into_inner().clone(), |it| it.clone());
        PostgresReader::connect(&self.options, &self.target, publication).await
    }

    async fn open(&self, begin: Begin<'_>) -> Result<Opened<PostgresStream, PostgresConfirm>, SourceError> {
        let options = &self.options;
        let resume = match begin.position().map(|position| &position.log) {
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
        let mut catalog = servers::choose(options, &self.target).await?;
        let mut drop_publication = None;
        let ready = match self.open_on(&mut catalog, (resume, begin), &mut drop_publication).await {
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
        tracing::debug!(role = ready.server.role, slot = ready.slot_name, start = %ready.start, binary = ready.binary, "stream started");
        let halves = ready.connection.into_streaming();
        // the checkpoint is durable, so the server may know it at once
        let (sender, receiver) = watch::channel(ready.start.0);
        let shared = Arc::new(Shared::default());
        let interval = feedback::interval(ready.server.wal_sender_timeout, options.read_timeout);
        let confirm_shared = Arc::clone(&shared);
        let pulse = Pulse::default();
        let room =
            Room { folder: options.spill_folder.clone(), limit: options.spill_limit, leave: Arc::clone(&self.leave) };
        let form = ValueForm::new(ready.binary, ready.server.number, &self.text_next);
        let assembler = Assembler::new(Setup {
            db: &options.database,
            filter: options.tables.clone(),
            form: form.clone(),
            messages: options.messages.clone(),
            room: room.clone(),
            start: ready.start.0,
            sends_from: ready.sends_from.map(|at| at.0),
            shared: Arc::clone(&shared),
            before: resume,
            describe: options.describe,
            left_out: match options.start_at.as_ref().and_then(|handover| handover.part) {
                Some(Part::UpTo { xid, lsn }) => Some((xid, lsn.0)),
                Some(Part::Events { .. }) | None => None,
            },
        });
        // from here on, so that nothing is confirmed that the assembler holds
        let feedback = Feedback::start(halves.write, Arc::clone(&shared), receiver, interval);
        let stream = PostgresStream::new(Parts {
            pulse: pulse.clone(),
            read: halves.read,
            buf: halves.buf,
            arrivals: halves.arrivals,
            assembler,
            form,
            room,
            streaming: ready.streaming,
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
            identity: Some(ready.identity.system),
            timeline: Some(ready.identity.timeline),
            prepared: Vec::new(),
            tables: ready.tables.into_iter().map(|it| (it.schema, it.table)).collect(),
            notes: ready.notes,
        };
        Ok(Opened {
            info,
            start: LogPosition::Lsn(ready.start),
            stream,
            confirm: PostgresConfirm { sender, shared: confirm_shared },
            pulse,
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
    use crate::MessageFilter;
    use crate::{Host, Servers};
    use rowcast_core::TableFilter;

    fn options(slot: &str) -> Options {
        Options {
            name: "shop".to_owned(),
            servers: Servers::new(Host { name: "localhost".to_owned(), port: 5432 }, Vec::new(), Default::default()),
            database: "shop".to_owned(),
            user: "cdc".to_owned(),
            password: "hush".to_owned().into(),
            tls: Default::default(),
            tables: TableFilter::parse(&["public.*"]).unwrap(),
            slot: slot.to_owned(),
            publication: "shop".to_owned(),
            slot_in_use: Default::default(),
            known: Vec::new(),
            temporary: false,
            binary: true,
            connect_timeout: Duration::from_secs(1),
            read_timeout: Duration::from_secs(1),
            messages: MessageFilter::All,
            local_only: false,
            two_phase: false,
            spill_folder: std::env::temp_dir(),
            spill_limit: 1 << 30,
            describe: false,
            start_at: None,
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
        let target = Target::new("h:1", "d", "u");
        let slot = slot::Slot { confirmed: Lsn(100), user: None, lost: None, two_phase: false };
        assert!(check_gap(&target, "s", Some(&slot), Some(Lsn(99))).is_err());
        assert!(check_gap(&target, "s", Some(&slot), Some(Lsn(100))).is_ok());
        assert!(check_gap(&target, "s", Some(&slot), Some(Lsn(101))).is_ok());
        assert!(check_gap(&target, "s", None, Some(Lsn(1))).is_err());
        assert!(check_gap(&target, "s", None, None).is_ok());
        let lost = slot::Slot { lost: Some("its WAL is gone".to_owned()), ..slot };
        let error = check_gap(&target, "s", Some(&lost), Some(Lsn(101))).unwrap_err();
        assert_eq!(error.class(), rowcast_core::ErrorClass::Gap);
    }
}
