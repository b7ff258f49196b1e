//! The catalog, over an ordinary SQL connection: checks before the start, and what types and keys are.
//!
//! The connection is kept for look-ups while the stream runs, and made anew when it broke. Every query is bounded
//! by the time-out of the source. Only catalogs are read; nothing locks a user's table.

pub(crate) mod describe;
pub(crate) mod forms;
pub(crate) mod health;
pub(crate) mod leftovers;
pub(crate) mod publication;
pub(crate) mod server;
pub(crate) mod slot;
pub(crate) mod tables;

use std::collections::HashMap;
use std::time::Duration;

use rowcast_core::SourceError;
use secrecy::{ExposeSecret, SecretString};
use tokio::task::JoinHandle;
use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Row};

use crate::error::{Target, server, sql};
use crate::pgoutput::message::Relation;
use crate::pgoutput::relation::CatalogFacts;
use crate::replication::tls::{Checked, Done, Encrypt, connect, is_of_the_way, ways};
use crate::types::{CatalogType, builtin, money};
use crate::{Options, session};

/// A parameter of a query.
pub(crate) type Parameter<'a> = &'a (dyn ToSql + Sync);

#[derive(Debug)]
struct Session {
    client: Client,
    task: JoinHandle<()>,
    /// Which of several servers it is with.
    at: usize,
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

    /// Tables are described as schemas need it.
    pub(crate) fn describes(&self) -> bool {
        self.options.describe
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    fn timeout(&self) -> Duration {
        self.options.connect_timeout
    }

    async fn client(&mut self) -> Result<&Client, SourceError> {
        let chosen = self.options.servers.chosen();
        if self.session.as_ref().is_none_or(|session| session.client.is_closed() || session.at != chosen) {
            self.session = None;
            // it has a limit of its own, and may ask somebody far away
            let password = self.options.password.get(self.options.connect_timeout).await;
            let password = password.map_err(|error| self.target.net(&error))?;
            let opening = open(&self.options, &self.target, &password);
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
        if relation.replica_identity == b'f' {
            let rows = self.query(DOING, NARROWER, &[&relation.id]).await?;
            facts.narrower = rows.first().is_some_and(|row| row.get(0));
        }
        if self.options.describe {
            facts.description = Some(self.describe(relation).await?);
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

    /// What these types are, and those that they are made of.
    pub(crate) async fn types(&mut self, doing: &str, oids: &[u32]) -> Result<HashMap<u32, CatalogType>, SourceError> {
        let rows = self.query(doing, TYPES, &[&oids]).await?;
        let mut types: HashMap<u32, CatalogType> = rows.iter().map(|row| (row.get(0), described(row))).collect();
        if let Some(it) = types.get_mut(&MONEY)
            && let Some(form) = self.money(doing).await?
        {
            *it = CatalogType::Money(form);
        }
        Ok(types)
    }

    /// How amounts are written here: the sessions that send rows have the same role and database, and so the same locale.
    async fn money(&mut self, doing: &str) -> Result<Option<money::Form>, SourceError> {
        let rows = self.query(doing, "SELECT 1::money::text, (-1)::money::text", &[]).await?;
        Ok(rows.first().and_then(|row| money::Form::new(row.get(0), row.get(1))))
    }
}

const MONEY: u32 = 790;

fn described(row: &Row) -> CatalogType {
    let (kind, is_array): (&str, bool) = (row.get(1), row.get(2));
    let element = row.get(5);
    match (kind, is_array) {
        ("d", _) => CatalogType::Domain { base: row.get(3), typmod: row.get(4) },
        ("e", _) => CatalogType::Enum { labels: row.get(7) },
        ("r", _) => CatalogType::Range { element },
        ("m", _) => CatalogType::Multirange { element },
        ("c", _) => {
            let (names, (types, typmods)): (Vec<String>, (Vec<u32>, Vec<i32>)) =
                (row.get(8), (row.get(9), row.get(10)));
            let attributes = names.into_iter().zip(types).zip(typmods);
            CatalogType::Composite(attributes.map(|((name, oid), typmod)| (name, oid, typmod)).collect())
        }
        (_, true) => {
            let delimiter: &str = row.get(6);
            CatalogType::Array { element, delimiter: delimiter.bytes().next().unwrap_or(b',') }
        }
        _ => CatalogType::Base { extension: row.get(11), name: row.get(12), send: row.get(13) },
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

/// Of a table without partitions the tree has nothing.
const NARROWER: &str = "\
    SELECT EXISTS (SELECT FROM pg_partition_tree($1::oid::regclass) tree JOIN pg_class l ON l.oid = tree.relid \
        WHERE tree.isleaf AND l.oid <> $1 AND l.relreplident <> 'f')";

/// A type that is gone gives NULL from a join, so it isn't joined: it just has no row.
const NAMES: &str = "\
    SELECT DISTINCT c.type, c.modifier, format_type(c.type, c.modifier) \
    FROM unnest($1::oid[], $2::int4[]) AS c(type, modifier) JOIN pg_type t ON t.oid = c.type";

/// The types and all that they are made of. An array proper has variable length and a subscript of its elements;
/// the fixed-length ones (`point`, `name`) have a `typelem` too. Multiranges came with version 14.
const TYPES: &str = "\
    WITH RECURSIVE needed(oid) AS (\
        SELECT unnest($1::oid[]) UNION \
        SELECT p.oid FROM needed n JOIN pg_type t ON t.oid = n.oid CROSS JOIN LATERAL (\
            SELECT t.typbasetype WHERE t.typtype = 'd' \
            UNION ALL SELECT t.typelem WHERE t.typcategory = 'A' AND t.typelem <> 0 AND t.typlen = -1 \
            UNION ALL SELECT a.atttypid FROM pg_attribute a \
                WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped \
            UNION ALL SELECT r.rngsubtype FROM pg_range r \
                WHERE r.rngtypid = t.oid OR (to_jsonb(r) ->> 'rngmultitypid')::oid = t.oid) AS p(oid)) \
    SELECT t.oid, t.typtype::text, t.typcategory = 'A' AND t.typelem <> 0 AND t.typlen = -1, t.typbasetype, \
        t.typtypmod, coalesce(r.rngsubtype, t.typelem), e.typdelim::text, \
        ARRAY(SELECT l.enumlabel::text FROM pg_enum l WHERE l.enumtypid = t.oid ORDER BY l.enumsortorder), \
        c.names, c.types, c.typmods, \
        (SELECT x.extname::text FROM pg_depend d JOIN pg_extension x ON x.oid = d.refobjid \
            WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e' \
                AND d.refclassid = 'pg_extension'::regclass), \
        t.typname::text, t.typsend::text \
    FROM needed n JOIN pg_type t ON t.oid = n.oid LEFT JOIN pg_type e ON e.oid = t.typelem \
    LEFT JOIN pg_range r ON r.rngtypid = t.oid OR (to_jsonb(r) ->> 'rngmultitypid')::oid = t.oid \
    CROSS JOIN LATERAL (\
        SELECT coalesce(array_agg(a.attname::text ORDER BY a.attnum), '{}') AS names, \
            coalesce(array_agg(a.atttypid ORDER BY a.attnum), '{}') AS types, \
            coalesce(array_agg(a.atttypmod ORDER BY a.attnum), '{}') AS typmods \
        FROM pg_attribute a WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) c";

async fn open(options: &Options, target: &Target, password: &SecretString) -> Result<Session, SourceError> {
    let at = options.servers.chosen();
    let mut refused: Option<SourceError> = None;
    for way in ways(options) {
        let stream = match (connect(options, target, at, *way).await, refused.take()) {
            (Ok(stream), _) => stream,
            // that there is no other way doesn't explain what was wrong with the first
            (Err(_), Some(first)) => return Err(first),
            (Err(error), None) => return Err(error),
        };
        let encrypted = stream.is_tls();
        let mut config = Config::new();
        config
            .user(&options.user)
            .dbname(&options.database)
            .password(password.expose_secret())
            .application_name(session::application_name(&options.name))
            .options(session::OPTIONS)
            // what there is to negotiate has been
            .ssl_negotiation(SslNegotiation::Direct)
            .ssl_mode(if encrypted { SslMode::Require } else { SslMode::Disable });
        match config.connect_raw(Checked::new(stream), Done).await {
            Ok((client, connection)) => {
                let task = tokio::spawn(async move {
                    if let Err(error) = connection.await {
                        tracing::debug!(%error, "sql connection ended");
                    }
                });
                return Ok(Session { client, task, at });
            }
            Err(error) => {
                let another = server(&error).is_some_and(|refused| is_of_the_way(&refused.code));
                let explained = sql(target, "connecting", &error);
                // unencrypted because the server has no TLS: once more would be the same
                if !another || (!encrypted && *way == Encrypt::IfOffered) {
                    return Err(explained);
                }
                refused = Some(explained);
            }
        }
    }
    Err(refused.unwrap_or_else(|| target.transient("no SQL connection")))
}
