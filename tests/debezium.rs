//! `format: debezium` against the recordings of the original (tests/debezium/recorded): the same databases, the same statements, the same
//! options, record by record, with `exact: false`; what still differs is on a list with its reasons. And against itself with `exact: true`.
//!
//! `ROWCAST_DEBEZIUM_CASES` and `ROWCAST_DEBEZIUM_CONNECTORS` choose (names with spaces between); without them all are run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod support;

use std::fmt::Write as _;
use std::time::Duration;

use support::connect::topics;
use support::daemon::Daemon;
use support::debezium::{self, Case, Masker, SENTINEL, SENTINEL_TABLE, SETTLE};
use support::env;
use support::source::{Kind, PATIENCE, Source, Writer};

/// Options of the original that we don't have; variants with one of them are left out.
const UNSUPPORTED: [&str; 17] = [
    "column.",
    "datatype.",
    "transforms",
    "provide.transaction.metadata",
    "topic.transaction",
    "topic.delimiter",
    "skip.messages.without.change",
    "replace.null.with.default",
    "include.unknown.datatypes",
    "enable.time.adjuster",
    "message.prefix",
    "heartbeat",
    "unwrap",
    "database.initial",
    "signal",
    "incremental",
    "xmin",
];

fn is_supported(option: &str) -> bool {
    let option = option.trim_start_matches("key.converter.").trim_start_matches("value.converter.");
    !UNSUPPORTED.iter().any(|start| option.starts_with(start))
}

fn chosen(variable: &str, all: Vec<String>) -> Vec<String> {
    match std::env::var(variable) {
        Ok(text) if !text.trim().is_empty() => {
            all.into_iter().filter(|name| text.split_whitespace().any(|wanted| wanted == name)).collect()
        }
        _ => all,
    }
}

/// The section `debezium` of the original's options.
fn section(options: &[(String, String)], prefix: &str, database: &str, exact: bool) -> String {
    let mut yaml = format!("format: debezium\ndebezium:\n  exact: {exact}\n  topic_prefix: {prefix}\n");
    for (name, value) in options {
        let name = match name.as_str() {
            "key.converter.schemas.enable" => "key_schemas_enable".to_owned(),
            "value.converter.schemas.enable" => "value_schemas_enable".to_owned(),
            // there is none
            "include.schema.changes" => continue,
            name => name.replace('.', "_"),
        };
        let value = value.replace("{db}", database);
        writeln!(yaml, "  {name}: '{value}'").unwrap();
    }
    yaml
}

/// What both sides are compared without: which row of a snapshot is the first or the last, how many places there are in it, and the topic of
/// statements.
fn comparable(lines: Vec<String>) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for mut line in lines {
        if line.starts_with("{\"topic\":\"<prefix>\",") || line.contains("SchemaChange") {
            continue;
        }
        for marker in ["first_in_data_collection", "last_in_data_collection", "first", "last"] {
            line = line.replace(&format!("\"snapshot\":\"{marker}\""), "\"snapshot\":\"true\"");
        }
        if line.contains("\"snapshot\":\"true\"") {
            for kind in ["snapshot lsn", "snapshot tx", "file", "pos"] {
                while let Some(at) = line.find(&format!("<{kind} ")) {
                    let end = at + line[at..].find('>').unwrap();
                    line.replace_range(at..=end, &format!("<{}>", kind.replace(' ', "_")));
                }
            }
        }
        out.push(line);
    }
    out
}

/// PostgreSQL's tables belong to the daemon's role, which publishes them.
async fn own_tables(source: &Source, writer: &mut Writer) {
    if source.kind() == Kind::Postgres {
        writer
            .run(
                "do $$ declare t record; begin for t in select schemaname, tablename from pg_tables where schemaname not in \
                 ('pg_catalog', 'information_schema') and tableowner <> 'cdc' loop execute format('alter table %I.%I owner to cdc; grant usage on \
                 schema %I to cdc', t.schemaname, t.tablename, t.schemaname); end loop; end $$",
            )
            .await;
    }
}

/// A case, run by a daemon per variant.
struct Run {
    source: Source,
    writer: Writer,
    sentinels: u32,
    daemons: Vec<(String, String, Daemon)>,
}

impl Run {
    async fn start(kind: Kind, case: &Case, exact: bool, variants: &[(String, Vec<(String, String)>)]) -> Run {
        let source = Source::create(kind, "dbz").await;
        let mut writer = Writer::of(&source).await;
        for statement in &case.before {
            writer.run(&statement.replace("{db}", source.name())).await;
        }
        writer.run(SENTINEL_TABLE).await;
        own_tables(&source, &mut writer).await;
        let mut daemons = Vec::new();
        let count = match kind {
            Kind::Postgres => {
                "select count(*) from pg_tables where schemaname not in ('pg_catalog', 'information_schema')"
            }
            _ => {
                "select count(*) from information_schema.tables where table_schema = database() and table_type = 'BASE TABLE'"
            }
        };
        let tables: usize = source.query(count).await[0][0].as_deref().unwrap().parse().unwrap();
        for (index, (variant, options)) in variants.iter().enumerate() {
            let prefix = support::unique("ours");
            let more = section(options, &prefix, source.name(), exact) + "backfill: {parallelism: 1}\n";
            let yaml = source.to_kafka_yaml("*", &more).replacen(
                &format!("name: {}\n", source.name()),
                &format!("name: {}-{index}\n", source.name().replace('.', "-")),
                1,
            );
            let yaml = match kind {
                Kind::Postgres => yaml.replace("tables: [\"public.*\"]", "tables: [\"*.*\"]"),
                _ => yaml,
            };
            let daemon = Daemon::command().file("source.yaml", &yaml).args(&["run", "source.yaml"]).spawn();
            daemons.push((variant.clone(), prefix, daemon));
        }
        for (variant, _, daemon) in &mut daemons {
            support::eventually_within(PATIENCE, &format!("copies of {variant}"), || async {
                let log = daemon.stderr();
                assert!(!log.contains("stopped: "), "{log}");
                log.matches("the table is copied").count() >= tables
            })
            .await;
        }
        Run { source, writer, sentinels: 0, daemons }
    }

    async fn stream(&mut self, case: &Case) {
        for statement in &case.stream {
            if statement == SETTLE {
                self.settle().await;
            } else {
                self.writer.run(&statement.replace("{db}", self.source.name())).await;
                if statement.trim_start().to_ascii_lowercase().starts_with("create table") {
                    own_tables(&self.source, &mut self.writer).await;
                }
            }
        }
        self.settle().await;
    }

    async fn settle(&mut self) {
        self.sentinels += 1;
        let sentinel = self.sentinels;
        for statement in debezium::sentinel(sentinel) {
            self.writer.run(&statement).await;
        }
        for (variant, prefix, daemon) in &self.daemons {
            support::eventually_within(PATIENCE, &format!("the last change of {variant}"), || async {
                let log = daemon.stderr();
                assert!(!log.contains("stopped: "), "{log}");
                topics(env().brokers(), prefix, SENTINEL).await.iter().flat_map(|it| &it.1).any(|record| {
                    let value = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default());
                    value.contains(&format!("\"id\":{sentinel}}}")) || value.contains(&format!("\"id\":{sentinel},"))
                })
            })
            .await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }

    async fn lines(&self, prefix: &str) -> Vec<String> {
        comparable(Masker::new(prefix, self.source.name()).lines(&topics(env().brokers(), prefix, "").await))
    }
}

async fn compare(kind: Kind, name: &str) -> Vec<String> {
    let case = Case::read(kind.name(), name);
    let supported = |(variant, options): &&(String, Vec<(String, String)>)| {
        options.iter().all(|(option, _)| is_supported(option)) && !case.recorded(kind.name(), variant).is_empty()
    };
    let variants: Vec<_> = case.variants.iter().filter(supported).cloned().collect();
    let mut failed = Vec::new();
    // few at a time: each is a process, a slot and a connection
    for some in variants.chunks(4) {
        let mut run = Run::start(kind, &case, false, some).await;
        run.stream(&case).await;
        for (variant, prefix, _) in &run.daemons {
            let expected = comparable(case.recorded(kind.name(), variant));
            let ours = run.lines(prefix).await;
            let found = debezium::differences(&expected, &ours);
            if !found.is_empty() {
                failed.push(format!("{}, {name}, {variant}:\n{}", kind.name(), found.join("\n")));
            }
        }
    }
    failed
}

async fn compare_all(kind: Kind) {
    let connectors = chosen("ROWCAST_DEBEZIUM_CONNECTORS", vec![kind.name().to_owned()]);
    let mut failed = Vec::new();
    if !connectors.is_empty() {
        for name in chosen("ROWCAST_DEBEZIUM_CASES", Case::names(kind.name())) {
            failed.extend(compare(kind, &name).await);
        }
    }
    assert!(failed.is_empty(), "{} variants differ:\n{}", failed.len(), failed.join("\n\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_what_the_original_said() {
    compare_all(Kind::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_is_what_the_original_said() {
    compare_all(Kind::Mysql).await;
}
