//! The options that the original documents, each with what becomes of it. Names are those of Debezium 3.6's connectors for PostgreSQL, MySQL and
//! MariaDB, of Kafka Connect, and of Debezium Server; a `*` at the end stands for the rest of a name.

/// For which connectors an option is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// All of them.
    All,
    /// PostgreSQL's.
    Postgres,
    /// MySQL's and MariaDB's.
    Binlog,
}

/// What becomes of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// [`super::convert`] has a function for it.
    Converted,
    /// The key of the same name, in snake_case, in the section `debezium`.
    Format,
    /// There is nothing to set: why.
    Needless(&'static str),
    /// There is nothing like it: what happens instead.
    Missing(&'static str),
}

/// One option.
#[derive(Clone, Copy, Debug)]
pub(super) struct Option_ {
    pub(super) name: &'static str,
    pub(super) of: Of,
    /// The value that holds there without the option; an option that says just this asks for nothing.
    pub(super) default: &'static str,
    pub(super) how: How,
}

const fn option(name: &'static str, of: Of, default: &'static str, how: How) -> Option_ {
    Option_ { name, of, default, how }
}

use How::{Converted, Format, Missing, Needless};
use Of::{All, Binlog, Postgres};

const JDBC: How = Needless("there is no JDBC driver between");
const RETRY: How = Needless("a failed source starts again by itself, with growing pauses, until it is stopped");
const BATCHES: How = Needless("`memory.budget` bounds what is in flight, in bytes");
const NO_LOCKS: How = Needless("copies take no locks and run beside the stream");
const SNAPSHOT_CODE: How =
    Missing("code of one's own can't be loaded; `backfill.mode`, `backfill.tables` and `where` say what is copied");
const JKS: How = Missing(
    "certificates are PEM files: `source.tls.ca`, `source.tls.cert`, `source.tls.key` (keytool and openssl pkcs12 export them)",
);
const SIGNALS: How = Needless("copies are asked for with `rowcast backfill NAME TABLE`, without a table of signals");
const NOTICES: How = Missing("`rowcast status`, /api/v1/sources and /metrics tell how copies are getting on");
const LINEAGE: How = Missing("no lineage events are sent");
const DDL: How =
    Needless("no history of DDL is kept: the binlog's own metadata and the catalog say what a row's columns are");
const CODE: How = Missing("code of one's own can't be loaded");
const HISTORY: How = Needless("no topic of schema history is needed");
const ERRORS: How = Needless("errors are in the log and in `rowcast status`");

/// All that are known. The first whose name fits counts.
pub(super) const OPTIONS: &[Option_] = &[
    // what it is and where
    option("name", All, "", Converted),
    option("connector.class", All, "", Converted),
    option("connector.plugin.version", All, "", Needless("there is no plugin")),
    option("tasks.max", All, "1", Needless("one source is one stream, as it is there")),
    option("tasks.max.enforce", All, "true", Needless("one source is one stream, as it is there")),
    option("topic.prefix", All, "", Converted),
    option("database.server.name", All, "", Converted),
    option("database.hostname", All, "", Converted),
    option("database.port", All, "", Converted),
    option("database.user", All, "", Converted),
    option("database.password", All, "", Converted),
    option("database.dbname", Postgres, "", Converted),
    option("database.connection.factory.class", All, "", JDBC),
    option("database.jdbc.driver", All, "", JDBC),
    option("database.protocol", All, "", JDBC),
    option(
        "database.initial.statements",
        All,
        "",
        Missing("sessions run only what they need; set parameters for the user (ALTER ROLE .. SET) or on the server"),
    ),
    option(
        "database.query.timeout.ms",
        All,
        "600000",
        Needless("a server that is silent for `source.read_timeout` counts as gone"),
    ),
    option(
        "database.tcpKeepAlive",
        Postgres,
        "true",
        Needless("a server that is silent for `source.read_timeout` counts as gone"),
    ),
    option("connection.validation.timeout.ms", All, "", Needless("connections are used at once")),
    option("connect.timeout.ms", Binlog, "30000", Converted),
    option(
        "connect.keep.alive",
        Binlog,
        "true",
        Needless("the server's heartbeats and `source.read_timeout` find dead connections"),
    ),
    option(
        "connect.keep.alive.interval.ms",
        Binlog,
        "60000",
        Needless("the server's heartbeats and `source.read_timeout` find dead connections"),
    ),
    option("database.server.id", Binlog, "", Converted),
    option("database.server.id.offset", Binlog, "10000", Needless("copies aren't replicas and need no id")),
    option("database.sslmode", Postgres, "prefer", Converted),
    option("database.sslcert", Postgres, "", Converted),
    option("database.sslkey", Postgres, "", Converted),
    option("database.sslrootcert", Postgres, "", Converted),
    option("database.sslpassword", Postgres, "", Missing("the key must be a PEM file without a password")),
    option("database.sslfactory", Postgres, "", JDBC),
    option("database.ssl.mode", Binlog, "preferred", Converted),
    option("database.ssl.keystore", Binlog, "", JKS),
    option("database.ssl.keystore.password", Binlog, "", JKS),
    option("database.ssl.truststore", Binlog, "", JKS),
    option("database.ssl.truststore.password", Binlog, "", JKS),
    // PostgreSQL's log
    option("plugin.name", Postgres, "", Converted),
    option("slot.name", Postgres, "debezium", Converted),
    option("slot.drop.on.stop", Postgres, "false", Missing("a slot is kept until `rowcast drop`")),
    option(
        "slot.failover",
        Postgres,
        "false",
        Needless("slots are made for failover wherever the server can (17 and later)"),
    ),
    option("slot.stream.params", Postgres, "", Missing("the protocol's options are chosen by the source")),
    option("slot.max.retries", Postgres, "6", RETRY),
    option("slot.retry.delay.ms", Postgres, "10000", RETRY),
    option(
        "offset.mismatch.strategy",
        Postgres,
        "no_validation",
        Needless("streaming goes on from the checkpoint, and `on_gap` says what becomes of a slot that lacks changes"),
    ),
    option(
        "internal.slot.seek.to.known.offset.on.start",
        Postgres,
        "",
        Needless("streaming goes on from the checkpoint, and `on_gap` says what becomes of a slot that lacks changes"),
    ),
    option("publication.name", Postgres, "dbz_publication", Converted),
    option(
        "publication.autocreate.mode",
        Postgres,
        "all_tables",
        Needless("a missing publication is made for exactly the captured tables; one that is there is used"),
    ),
    option("publish.via.partition.root", Postgres, "false", Needless("partitions are always published as their table")),
    option(
        "replica.identity.autoset.values",
        Postgres,
        "",
        Missing("replica identities stay as they are; ALTER TABLE .. REPLICA IDENTITY changes them"),
    ),
    option(
        "flush.lsn.source",
        Postgres,
        "true",
        Missing("the slot is confirmed after each commit; it can't be left to others"),
    ),
    option(
        "lsn.flush.mode",
        Postgres,
        "connector",
        Needless("the slot is confirmed after each commit, and moves on while nothing is captured"),
    ),
    option("lsn.flush.timeout.ms", Postgres, "30000", Needless("confirming waits for nothing")),
    option("lsn.flush.timeout.action", Postgres, "fail", Needless("confirming waits for nothing")),
    option(
        "status.update.interval.ms",
        Postgres,
        "10000",
        Needless("the server is told at each commit, and whenever it asks"),
    ),
    option("xmin.fetch.interval.ms", Postgres, "0", Missing("`source.xmin` is null")),
    option("schema.refresh.mode", Postgres, "columns_diff", Needless("schemas come with the stream")),
    option("message.prefix.include.list", Postgres, "", Converted),
    option(
        "message.prefix.exclude.list",
        Postgres,
        "",
        Missing("`source.messages` lists the prefixes that are wanted"),
    ),
    // the binlog
    option("binlog.buffer.size", Binlog, "0", Needless("transactions pass in bounded memory, whatever their size")),
    option("binlog.net.read.timeout", Binlog, "", Needless("the server's timeouts are set by the source")),
    option("binlog.net.write.timeout", Binlog, "", Needless("the server's timeouts are set by the source")),
    option("use.nongraceful.disconnect", Binlog, "false", Needless("closing never waits for the server")),
    option("gtid.source.includes", Binlog, "", Missing("all transactions of the server are followed")),
    option("gtid.source.excludes", Binlog, "", Missing("all transactions of the server are followed")),
    option("gtid.source.filter.dml.events", Binlog, "true", Missing("all transactions of the server are followed")),
    option("gtid.ignore.on.recovery", Binlog, "false", Missing("streaming goes on from the checkpoint's GTIDs")),
    option("enable.time.adjuster", Binlog, "true", Format),
    option(
        "table.ignore.builtin",
        All,
        "true",
        Missing("tables of the server's own databases aren't captured unless `source.tables` names them"),
    ),
    option("include.query", Binlog, "false", Converted),
    option("include.schema.changes", Binlog, "true", Format),
    option("include.schema.comments", All, "false", Format),
    option("inconsistent.schema.handling.mode", Binlog, "fail", Converted),
    option(
        "event.deserialization.failure.handling.mode",
        Binlog,
        "fail",
        Missing(
            "a log that can't be read stops the source, with the place and the reason; nothing is left out silently",
        ),
    ),
    option("ddl.parser.type", Binlog, "", DDL),
    option("schema.history.internal.skip.unparseable.ddl", Binlog, "false", DDL),
    option("schema.history.internal.kafka.bootstrap.servers", Binlog, "", Converted),
    option("schema.history.*", All, "", HISTORY),
    option("database.history.*", All, "", HISTORY),
    option("memory.management.*", All, "", DDL),
    // what is captured
    option("database.include.list", Binlog, "", Converted),
    option("database.exclude.list", Binlog, "", Converted),
    option("schema.include.list", Postgres, "", Converted),
    option("schema.exclude.list", Postgres, "", Converted),
    option("table.include.list", All, "", Converted),
    option("table.exclude.list", All, "", Converted),
    option("table.whitelist", All, "", Converted),
    option("table.blacklist", All, "", Converted),
    option("column.include.list", All, "", Format),
    option("column.exclude.list", All, "", Format),
    option("skip.messages.without.change", All, "false", Format),
    option(
        "guardrail.collections.max",
        All,
        "0",
        Missing("there is no limit to the number of tables; a start tells how many there are"),
    ),
    option(
        "guardrail.collections.limit.action",
        All,
        "warn",
        Missing("there is no limit to the number of tables; a start tells how many there are"),
    ),
    // how it is written
    option("time.precision.mode", All, "", Format),
    option("decimal.handling.mode", All, "precise", Format),
    option("binary.handling.mode", All, "bytes", Format),
    option("bigint.unsigned.handling.mode", Binlog, "long", Format),
    option("hstore.handling.mode", Postgres, "json", Format),
    option("interval.handling.mode", Postgres, "numeric", Format),
    option("money.fraction.digits", Postgres, "2", Format),
    option("include.unknown.datatypes", Postgres, "false", Format),
    option("unavailable.value.placeholder", All, "__debezium_unavailable_value", Format),
    option("tombstones.on.delete", All, "true", Format),
    option("skipped.operations", All, "t", Format),
    option("schema.name.adjustment.mode", All, "none", Format),
    option("field.name.adjustment.mode", All, "none", Format),
    option("extended.headers.enabled", All, "true", Format),
    option("message.key.columns", All, "", Format),
    option("column.propagate.source.type", All, "", Format),
    option("datatype.propagate.source.type", All, "", Format),
    option("column.mask.*", All, "", Converted),
    option("column.truncate.*", All, "", Converted),
    option("converters", All, "", CODE),
    option("provide.transaction.metadata", All, "false", Format),
    option("transaction.metadata.factory", All, "", CODE),
    option("transaction.boundary*", All, "", Needless("events and position are in one Kafka transaction")),
    option("sourceinfo.struct.maker", All, "", CODE),
    option("event.processing.failure.handling.mode", All, "fail", Converted),
    option(
        "topic.naming.strategy",
        All,
        "io.debezium.schema.SchemaTopicNamingStrategy",
        Missing("`sink.topic` names topics, with {name}, {db}, {schema} and {table}"),
    ),
    option("topic.delimiter", All, ".", Format),
    option("topic.transaction", All, "transaction", Format),
    option("topic.heartbeat.prefix", All, "__debezium-heartbeat", Format),
    option("heartbeat.topics.prefix", All, "__debezium-heartbeat", Converted),
    option("topic.heartbeat.name", All, "", Format),
    option("heartbeat.interval.ms", All, "0", Format),
    option(
        "heartbeat.action.query",
        All,
        "",
        Needless("the position moves on by itself while nothing is captured, without writing to the database"),
    ),
    option("topic.cache.size", All, "10000", Needless("names are made once per table")),
    option("topic.creation.groups", All, "", Missing("`sink.topics.rules` has settings by the topic's name")),
    option("topic.creation.default.*", All, "", Converted),
    option("topic.creation.*", All, "", Missing("`sink.topics.rules` has settings by the topic's name")),
    option("custom.sanitize.pattern", All, "", Missing("topics are named as they are without it")),
    option("custom.metric.tags", All, "", Missing("metrics have the source's name as a label")),
    // copies
    option("snapshot.mode", All, "initial", Converted),
    option("snapshot.mode.configuration.based.*", All, "", SNAPSHOT_CODE),
    option("snapshot.mode.custom.name", All, "", SNAPSHOT_CODE),
    option("snapshot.isolation.mode", All, "", NO_LOCKS),
    option("snapshot.locking.mode", All, "", NO_LOCKS),
    option("snapshot.locking.mode.custom.name", All, "", NO_LOCKS),
    option("snapshot.lock.timeout.ms", All, "10000", NO_LOCKS),
    option("snapshot.query.mode", All, "select_all", SNAPSHOT_CODE),
    option("snapshot.query.mode.custom.name", All, "", SNAPSHOT_CODE),
    option("snapshot.include.collection.list", All, "", Converted),
    option(
        "snapshot.select.statement.overrides*",
        All,
        "",
        Missing("`backfill.tables` takes a condition per table: `{table: T, where: \"...\"}`"),
    ),
    option(
        "snapshot.delay.ms",
        All,
        "0",
        Missing("start the daemon later, or use `backfill: never` and `rowcast backfill` when it suits"),
    ),
    option("streaming.delay.ms", All, "0", Needless("the stream begins at once, beside the copies")),
    option(
        "snapshot.fetch.size",
        All,
        "",
        Needless("chunks adapt to about a second each; `backfill.chunk_rows` bounds them"),
    ),
    option("query.fetch.size", All, "", Needless("rows are read as a stream")),
    option("snapshot.max.threads", All, "1", Converted),
    option(
        "snapshot.max.threads.multiplier",
        All,
        "1",
        Needless("`backfill.parallelism` is the number of connections that read"),
    ),
    option(
        "legacy.snapshot.max.threads",
        All,
        "false",
        Needless("`backfill.parallelism` is the number of connections that read"),
    ),
    option(
        "snapshot.tables.order.by.row.count",
        All,
        "disabled",
        Missing("tables are copied in the order of `backfill.tables`, else in that of their names"),
    ),
    option("min.row.count.to.stream.results", Binlog, "1000", Needless("rows are always read as a stream")),
    option("incremental.snapshot.chunk.size", All, "1024", Converted),
    option("incremental.snapshot.watermarking.strategy", All, "insert_insert", SIGNALS),
    option(
        "incremental.snapshot.allow.schema.changes",
        All,
        "false",
        Needless("a copy always goes on when its table changes"),
    ),
    option("read.only", All, "false", Needless("the source is never written to")),
    option("signal.*", All, "", SIGNALS),
    option("notification.*", All, "", NOTICES),
    // running
    option("max.batch.size", All, "2048", BATCHES),
    option("max.queue.size", All, "8192", BATCHES),
    option("max.queue.size.in.bytes", All, "0", Converted),
    option("poll.interval.ms", All, "500", Needless("what is there is published at once")),
    option("poll.dispatch.interval.ms", All, "", Needless("what is there is published at once")),
    option("retriable.restart.connector.wait.ms", All, "10000", RETRY),
    option("errors.max.retries", All, "-1", RETRY),
    option("errors.retry.timeout", All, "0", RETRY),
    option("errors.retry.delay.max.ms", All, "60000", RETRY),
    option("errors.tolerance", All, "none", Converted),
    option("errors.log.*", All, "", ERRORS),
    option(
        "errors.deadletterqueue.*",
        All,
        "",
        Missing("`on_poison: dead_letter` has a topic of its own, rowcast.dead_letter.<name>"),
    ),
    option("statistics.metrics.enabled", All, "false", Needless("/metrics always has them")),
    option("executor.shutdown.timeout.ms", All, "", Needless("a stop takes 20 s at most")),
    option("exactly.once.support", All, "requested", Converted),
    option("config.action.reload", All, "restart", Needless("configuration is read at the start")),
    option(
        "offsets.storage.topic",
        All,
        "",
        Needless("the checkpoint is a topic of its own, in the same transaction as the events"),
    ),
    option(
        "offset.*",
        All,
        "",
        Needless("the checkpoint is a topic of its own, in the same transaction as the events"),
    ),
    option("openlineage.*", All, "", LINEAGE),
    option("internal.*", All, "", Needless("an internal option of the original")),
    option(
        "post.processors*",
        All,
        "",
        Missing("events are published as they are; values that the log lacks are marked, and copies fill them in"),
    ),
    // Connect
    option("key.converter", All, "", Converted),
    option("value.converter", All, "", Converted),
    option("key.converter.schemas.enable", All, "true", Converted),
    option("value.converter.schemas.enable", All, "true", Converted),
    option("value.converter.replace.null.with.default", All, "true", Converted),
    option("key.converter.replace.null.with.default", All, "true", Needless("keys have no nulls with defaults")),
    option("key.converter.schemas.cache.size", All, "", Needless("schemas are made once per table")),
    option("value.converter.schemas.cache.size", All, "", Needless("schemas are made once per table")),
    option(
        "value.converter.decimal.format",
        All,
        "BASE64",
        Missing("decimals are bytes in base64; `debezium.decimal_handling_mode` has numbers and text"),
    ),
    option("key.converter.*", All, "", Missing("JSON is written, and has no other settings than schemas")),
    option("value.converter.*", All, "", Missing("JSON is written, and has no other settings than schemas")),
    option(
        "header.converter*",
        All,
        "org.apache.kafka.connect.storage.SimpleHeaderConverter",
        Missing("headers are written as SimpleHeaderConverter does, which is Connect's default"),
    ),
    option("transforms", All, "", Converted),
    option("predicates*", All, "", Missing("there are no transforms that they could choose for")),
    option("producer.override.*", All, "", Converted),
    option("consumer.override.*", All, "", Needless("nothing is consumed")),
    option("admin.override.*", All, "", Needless("topics are made with the producer's settings: `sink.properties`")),
    option("bootstrap.servers", All, "", Converted),
    option("group.id", All, "", Needless("there is no group of workers")),
    option("plugin.path", All, "", Needless("there is no plugin")),
    // Debezium Server
    option("debezium.sink.type", All, "", Converted),
    option("debezium.sink.kafka.producer.*", All, "", Converted),
    option("debezium.sink.*", All, "", Missing("the sink is Kafka; `sink` has its keys")),
    option("debezium.format.key", All, "json", Converted),
    option("debezium.format.value", All, "json", Converted),
    option("debezium.format.header", All, "json", Needless("headers have one form")),
    option("debezium.format.*", All, "", Converted),
    option("debezium.api.*", All, "", Needless("`admin` is where the daemon answers")),
    option(
        "quarkus.*",
        All,
        "",
        Needless("there is no Quarkus; `admin` and `logging` say where the daemon answers and how it logs"),
    ),
];

/// What is known of an option of a connector.
pub(super) fn find(name: &str, postgres: bool) -> Option<&'static Option_> {
    OPTIONS.iter().find(|option| {
        let fits = match option.name.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == option.name,
        };
        fits && match option.of {
            All => true,
            Postgres => postgres,
            Binlog => !postgres,
        }
    })
}

/// The names that a misspelt one may have meant.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    OPTIONS.iter().map(|option| option.name).filter(|name| !name.ends_with('*'))
}
