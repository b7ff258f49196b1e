//! The catalog, over an ordinary SQL connection: checks before the start, and what types and keys are.
//!
//! The connection is kept for look-ups while the stream runs, and made anew when it broke. Every query is bounded
//! by the time-out of the source. Only catalogs are read; nothing locks a user's table.

pub(crate) mod publication;
pub(crate) mod server;
pub(crate) mod slot;
pub(crate) mod tables;

use std::collections::HashMap;
use std::time::Duration;

use rowcast_core::SourceError;
use rowcast_net::{TlsMode, connect_tcp};
use secrecy::ExposeSecret;
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Row};

use crate::error::{Target, server, sql};
use crate::pgoutput::message::Relation;
use crate::pgoutput::relation::CatalogFacts;
use crate::replication::tls::{Upgrade, no_tls};
use crate::types::{CatalogType, builtin};
use crate::{Options, session};

/// A parameter of a query.
pub(crate) type Parameter<'a> = &'a (dyn ToSql + Sync);

#[derive(Debug)]
struct Session {
    client: Client,
    task: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        // the client's end alone would let the task say goodbye; with the runtime at its end it must not linger
        if self.client.is_closed() {
            self.task.abort();
        }
    }
}

/// The SQL connection.
#[derive(Debug)]
pub(crate) struct Catalog {
    options: Options,
    target: Target,
    session: Option<Session>,
}

impl Catalog {
    /// One that connects when it is first used.
    pub(crate) fn new(options: &Options, target: &Target) -> Self {
        Self { options: options.clone(), target: target.clone(), session: None }
    }

    /// Connects.
    pub(crate) async fn connect(options: &Options, target: &Target) -> Result<Self, SourceError> {
        let mut catalog = Self::new(options, target);
        catalog.client().await?;
        Ok(catalog)
    }

    /// Another one for the same server, which connects when it is first used.
    pub(crate) fn reconnecting(&self) -> Self {
        Self::new(&self.options, &self.target)
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    fn timeout(&self) -> Duration {
        self.options.connect_timeout
    }

    async fn client(&mut self) -> Result<&Client, SourceError> {
        if self.session.as_ref().is_none_or(|session| session.client.is_closed()) {
            self.session = None;
            let opening = open(&self.options, &self.target);
            let opened = tokio::time::timeout(self.options.connect_timeout, opening).await.map_err(|_| {
                self.target.transient(format!("no SQL connection within {:?}", self.options.connect_timeout))
            })??;
            self.session = Some(opened);
        }
        match &self.session {
            Some(session) => Ok(&session.client),
            None => Err(self.target.transient("no SQL connection")),
        }
    }

    /// Runs a query.
    pub(crate) async fn query(
        &mut self,
        doing: &str,
        text: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, SourceError> {
        let (timeout, target) = (self.timeout(), self.target.clone());
        let client = self.client().await?;
        match tokio::time::timeout(timeout, client.query(text, parameters)).await {
            Ok(result) => result.map_err(|error| sql(&target, doing, &error)),
            Err(_) => {
                self.session = None;
                Err(target.transient(format!("{doing}: no answer within {timeout:?}")))
            }
        }
    }

    /// Runs a statement without parameters; the server's own error is an answer, not a failure.
    pub(crate) async fn execute(
        &mut self,
        doing: &str,
        statement: &str,
    ) -> Result<Result<(), crate::error::ServerError>, SourceError> {
        let (timeout, target) = (self.timeout(), self.target.clone());
        let client = self.client().await?;
        match tokio::time::timeout(timeout, client.batch_execute(statement)).await {
            Ok(Ok(())) => Ok(Ok(())),
            Ok(Err(error)) => match server(&error) {
                Some(refused) => Ok(Err(refused)),
                None => Err(sql(&target, doing, &error)),
            },
            Err(_) => {
                self.session = None;
                Err(target.transient(format!("{doing}: no answer within {timeout:?} (is a table locked?)")))
            }
        }
    }

    /// What the catalog knows about a relation of the stream. A connection that broke meanwhile is made anew once.
    pub(crate) async fn facts(&mut self, relation: &Relation) -> Result<CatalogFacts, SourceError> {
        match self.facts_once(relation).await {
            Err(error) if error.is_transient() => {
                self.session = None;
                self.facts_once(relation).await
            }
            result => result,
        }
    }

    async fn facts_once(&mut self, relation: &Relation) -> Result<CatalogFacts, SourceError> {
        const DOING: &str = "looking a table up in the catalog";
        let mut facts = CatalogFacts::default();
        for row in self.query(DOING, KEYS, &[&relation.id]).await? {
            let columns: Vec<String> = row.get(3);
            if row.get(0) {
                facts.primary_key.clone_from(&columns);
            }
            if row.get(2) && facts.unique_key.is_empty() {
                facts.unique_key.clone_from(&columns);
            }
            if row.get(1) {
                facts.identity_index = columns;
            }
        }
        let unknown = |column: &&crate::pgoutput::message::RelationColumn| {
            builtin::plan(column.oid, column.typmod).is_none() || builtin::native(column.oid, column.typmod).is_none()
        };
        let (oids, typmods): (Vec<u32>, Vec<i32>) =
            relation.columns.iter().filter(unknown).map(|column| (column.oid, column.typmod)).unzip();
        if oids.is_empty() {
            return Ok(facts);
        }
        for row in self.query(DOING, NAMES, &[&oids, &typmods]).await? {
            facts.names.insert((row.get(0), row.get(1)), row.get(2));
        }
        facts.types = self.types(DOING, &oids).await?;
        Ok(facts)
    }

    async fn types(&mut self, doing: &str, oids: &[u32]) -> Result<HashMap<u32, CatalogType>, SourceError> {
        let rows = self.query(doing, TYPES, &[&oids]).await?;
        Ok(rows
            .iter()
            .map(|row| {
                let (kind, is_array): (&str, bool) = (row.get(1), row.get(2));
                let described = match (kind, is_array) {
                    ("d", _) => CatalogType::Domain { base: row.get(3), typmod: row.get(4) },
                    ("e", _) => CatalogType::Enum { labels: row.get(7) },
                    (_, true) => {
                        let delimiter: &str = row.get(6);
                        let delimiter = delimiter.bytes().next().unwrap_or(b',');
                        CatalogType::Array { element: row.get(5), delimiter }
                    }
                    _ => CatalogType::Other,
                };
                (row.get(0), described)
            })
            .collect())
    }
}

/// Key columns in key order: of the primary key, of the replica identity's index, and of the unique indexes that tell
/// every row apart, by name (an oid would be another one after a dump and restore).
const KEYS: &str = "\
    SELECT k.indisprimary, k.indisreplident, k.tells_apart, k.columns FROM (\
        SELECT i.indisprimary, i.indisreplident, c.relname, \
            i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL \
                AND NOT EXISTS (SELECT FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(number, position) \
                    LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number \
                    WHERE k.position <= i.indnkeyatts AND a.attnotnull IS NOT TRUE) AS tells_apart, \
            ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(number, position) \
                JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number \
                WHERE k.position <= i.indnkeyatts ORDER BY k.position) AS columns \
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = $1) k \
    WHERE k.indisprimary OR k.indisreplident OR k.tells_apart ORDER BY k.relname COLLATE \"C\"";

/// A type that is gone gives NULL from a join, so it isn't joined: it just has no row.
const NAMES: &str = "\
    SELECT DISTINCT c.type, c.modifier, format_type(c.type, c.modifier) \
    FROM unnest($1::oid[], $2::int4[]) AS c(type, modifier) JOIN pg_type t ON t.oid = c.type";

/// The types and all that they are made of. An array proper has variable length and a subscript of its elements;
/// the fixed-length ones (`point`, `name`) have a `typelem` too.
const TYPES: &str = "\
    WITH RECURSIVE needed(oid) AS (\
        SELECT unnest($1::oid[]) UNION \
        SELECT CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.typelem END \
        FROM needed n JOIN pg_type t ON t.oid = n.oid \
        WHERE t.typtype = 'd' OR (t.typcategory = 'A' AND t.typelem <> 0 AND t.typlen = -1)) \
    SELECT t.oid, t.typtype::text, t.typcategory = 'A' AND t.typelem <> 0 AND t.typlen = -1, t.typbasetype, \
        t.typtypmod, t.typelem, e.typdelim::text, \
        ARRAY(SELECT l.enumlabel::text FROM pg_enum l WHERE l.enumtypid = t.oid ORDER BY l.enumsortorder) \
    FROM needed n JOIN pg_type t ON t.oid = n.oid LEFT JOIN pg_type e ON e.oid = t.typelem";

async fn open(options: &Options, target: &Target) -> Result<Session, SourceError> {
    let tcp =
        connect_tcp(&options.host, options.port, options.connect_timeout).await.map_err(|error| target.net(&error))?;
    let mut config = Config::new();
    config
        .user(&options.user)
        .dbname(&options.database)
        .password(options.password.expose_secret())
        .application_name(session::application_name(&options.name))
        .options(session::OPTIONS)
        .ssl_mode(match options.tls.mode {
            TlsMode::Disable => SslMode::Disable,
            TlsMode::Prefer => SslMode::Prefer,
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
        });
    let upgrade = Upgrade { tls: options.tls.clone(), host: options.host.clone() };
    let (client, connection) = config.connect_raw(tcp, upgrade).await.map_err(|error| {
        // the only words that tokio-postgres has for it
        if error.to_string().contains("TLS")
            && std::error::Error::source(&error)
                .is_some_and(|why| why.to_string().contains("server does not support TLS"))
        {
            return no_tls(target);
        }
        sql(target, "connecting", &error)
    })?;
    let task = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "sql connection ended");
        }
    });
    Ok(Session { client, task })
}
