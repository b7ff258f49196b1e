//! `format: debezium` against the recordings of the original (tests/debezium/recorded): the same databases, the same statements, the same
//! options, record by record, with `exact: false`; what still differs is on a list with its reasons. And against itself with `exact: true`.
//!
//! `ROWCAST_DEBEZIUM_CASES` and `ROWCAST_DEBEZIUM_CONNECTORS` choose (names with spaces between); without them all are run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod support;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use support::connect::topics;
use support::daemon::Daemon;
use support::debezium::{self, Case, Masker, SENTINEL, SENTINEL_TABLE, SETTLE};
use support::source::{Kind, PATIENCE, Source, Writer, wait_until_streaming};
use support::{env, kafka};

/// Options of the original that we don't have; variants with one of them are left out.
const UNSUPPORTED: [&str; 7] = [
    "include.unknown.datatypes",
    "enable.time.adjuster",
    "message.prefix",
    "database.initial",
    "signal",
    "incremental",
    "xmin",
];

/// Where ours differ though the options are the same: connector, case, a text of either side and what is compared in its place, and why.
/// Everything else must be equal.
const KNOWN: &[(&str, &str, &str, &str, &str)] = &[
    (
        "postgres",
        "numbers",
        "1.17549435E-38",
        "1.1754944E-38",
        "Java 17 writes more digits than a float needs; later versions don't",
    ),
    ("postgres", "networks", r#""name_":"n"}"#, r#""name_":null}"#, "the stream of the original loses the type `name`"),
    ("postgres", "networks", r#""name_":"a_name"}"#, r#""name_":null}"#, "the same"),
    (
        "postgres",
        "defaults",
        r#"{"type":"int32","optional":true,"field":"com"},"#,
        "",
        "a generated column isn't in the log: the original has it in its snapshot only",
    ),
    ("postgres", "defaults", r#""com":2,"#, "", "the same"),
    ("mysql", "numbers", "3.40282E38", "3.4028235E38", "the original's snapshot has six digits of a float"),
    (
        "mysql",
        "defaults",
        "\"YWJcMA==\"",
        "\"YWIA\"",
        "the original writes a DEFAULT's zero byte as the two letters \\0",
    ),
    ("mysql", "defaults", "\"61625c30\"", "\"616200\"", "the same"),
    (
        "postgres",
        "columns",
        r#""key":{"id":0}"#,
        r#""key":{"id":1}"#,
        "a key's column that isn't in rows is 0 in the original's snapshot, but for MariaDB's",
    ),
    ("mysql", "columns", r#""key":{"id":0}"#, r#""key":{"id":1}"#, "the same"),
    (
        "postgres",
        "columns",
        r#""__debezium.source.column.length":"131089","__debezium.source.column.scale":"0""#,
        r#""__debezium.source.column.length":"0""#,
        "the original reads the type of a `numeric` in two ways",
    ),
    (
        "mysql",
        "ddl",
        r#"{"type":"int64","optional":true,"field":"id"}"#,
        r#"{"type":"int64","optional":false,"field":"id"}"#,
        "after an ALTER the original's parser has forgotten that a key's column can't be NULL",
    ),
    (
        "mysql",
        "ddl",
        r#""defaultValueExpression":"1.5","#,
        r#""defaultValueExpression":"1.50","#,
        "the original has the text that stands in the statement, we the catalog's",
    ),
    (
        "mysql",
        "ddl",
        r#""typeExpression":"INT","charsetName":null,"length":11,"#,
        r#""typeExpression":"INT","charsetName":null,"length":null,"#,
        "the original has the width that stands in the statement, we the catalog's; MariaDB's always has one",
    ),
    (
        "mysql",
        "ddl",
        r#""typeExpression":"BIGINT UNSIGNED","charsetName":null,"length":20,"#,
        r#""typeExpression":"BIGINT UNSIGNED","charsetName":null,"length":null,"#,
        "the same",
    ),
    (
        "mysql",
        "ddl",
        r#""length":null,"scale":null,"position":2,"optional":true,"#,
        r#""length":null,"scale":null,"position":2,"optional":false,"#,
        "after an ALTER the original's parser has forgotten that a key's column can't be NULL",
    ),
];

/// A line without what is known to differ. MariaDB's connector is built on the same code as MySQL's.
fn without_known(kind: Kind, case: &str, line: &str) -> String {
    let of = if kind == Kind::Postgres { "postgres" } else { "mysql" };
    let known = KNOWN.iter().filter(|it| it.0 == of && it.1 == case);
    known.fold(line.to_owned(), |line, it| line.replace(it.2, it.3))
}

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
    let mut flatten = String::new();
    for (name, value) in options {
        let name = match name.as_str() {
            "key.converter.schemas.enable" => "key_schemas_enable".to_owned(),
            "value.converter.schemas.enable" => "value_schemas_enable".to_owned(),
            "value.converter.replace.null.with.default" => "value_replace_null_with_default".to_owned(),
            "transforms" => {
                flatten.push_str("flatten:\n  enabled: true\n");
                continue;
            }
            "transforms.unwrap.type" => continue,
            name if name.starts_with("transforms.unwrap.") => {
                let (key, list) = (
                    name["transforms.unwrap.".len()..].replace('.', "_"),
                    name.ends_with("add.fields") || name.ends_with("add.headers"),
                );
                let value = if list {
                    format!("[{value}]").replace(',', "\", \"").replace('[', "[\"").replace(']', "\"]")
                } else {
                    format!("'{value}'")
                };
                writeln!(flatten, "  {key}: {value}").unwrap();
                continue;
            }
            name => name.replace('.', "_"),
        };
        let value = value.replace("{db}", database);
        // what is a part of the original's name is a key of ours
        let of_columns = [
            ("column_truncate_to_", "column_truncate_to_chars"),
            ("column_mask_with_", "column_mask_with_chars"),
            ("column_mask_hash_v2_", "column_mask_hash_v2"),
            ("column_mask_hash_", "column_mask_hash"),
        ];
        if let Some((start, key)) = of_columns.iter().find(|(start, _)| name.starts_with(start)) {
            let inner = name[start.len()..].trim_end_matches("_chars").replace("_with_salt_", ".with.salt.");
            writeln!(yaml, "  {key}: {{'{inner}': '{value}'}}").unwrap();
            continue;
        }
        writeln!(yaml, "  {name}: '{value}'").unwrap();
    }
    yaml + &flatten
}

/// What both sides are compared without: how many places there are in a snapshot, and its statements, which a copy hasn't. Tables are copied one
/// after the other here, in the order in which the original reads them, so that which row is the first and the last is the same.
fn comparable(kind: Kind, case: &str, lines: &[String]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    // schemas that are equal by now, by their numbers
    let mut schemas: HashMap<String, String> = HashMap::new();
    let mut same: Vec<(String, String)> = Vec::new();
    let of_snapshot = debezium::is_statement_of_snapshot;
    let statements = lines.iter().any(|line| debezium::is_statement(line) && !of_snapshot(line));
    for line in lines {
        if of_snapshot(line) || (!statements && line.contains("SchemaChange")) {
            continue;
        }
        let mut line = without_known(kind, case, line);
        // whether there was a commit before is chance, too
        line = line.replace("\"sequence\":\"[null,<lsn", "\"sequence\":\"[<commit 1>,<lsn");
        while let Some(at) = line.find("<commit ") {
            let end = at + line[at..].find('>').unwrap();
            line.replace_range(at..=end, "<commit>");
        }
        let marked = |marker: &&str| line.contains(&format!("\"snapshot\":\"{marker}\""));
        if ["true", "first", "first_in_data_collection", "last_in_data_collection", "last"].iter().any(marked) {
            for kind in ["snapshot lsn", "snapshot tx", "file", "pos"] {
                while let Some(at) = line.find(&format!("<{kind} ")) {
                    let end = at + line[at..].find('>').unwrap();
                    line.replace_range(at..=end, &format!("<{}>", kind.replace(' ', "_")));
                }
            }
        }
        if let Some(rest) = line.strip_prefix("{\"schema\":") {
            let (number, rest) = rest.split_once(',').unwrap();
            let number = format!("<schema {number}>");
            if let Some(first) = schemas.get(rest) {
                same.push((number, first.clone()));
                continue;
            }
            schemas.insert(rest.to_owned(), number.clone());
            line = format!("{{\"schema\":\"{number}\",{rest}");
        }
        for (number, first) in &same {
            line = line.replace(number, first);
        }
        out.push(line);
    }
    renumbered(out)
}

/// Masks like `<lsn 7>`, numbered anew by first appearance: lines that were left out had numbers too.
fn renumbered(lines: Vec<String>) -> Vec<String> {
    let mut seen: HashMap<(String, String), usize> = HashMap::new();
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut renumber = |line: &String| {
        let mut out = String::new();
        let mut rest = line.as_str();
        while let Some((before, after)) = rest.split_once('<') {
            out.push_str(before);
            out.push('<');
            rest = after;
            let Some((inside, behind)) = after.split_once('>') else { continue };
            let Some((kind, number)) = inside.rsplit_once(' ') else { continue };
            if number.parse::<u32>().is_err()
                || !kind.chars().all(|letter| letter.is_ascii_lowercase() || letter == ' ')
            {
                continue;
            }
            let number = seen.entry((kind.to_owned(), number.to_owned())).or_insert_with(|| {
                let count = counts.entry(kind.to_owned()).or_default();
                *count += 1;
                *count
            });
            write!(out, "{kind} {number}>").unwrap();
            rest = behind;
        }
        out + rest
    };
    lines.iter().map(&mut renumber).collect()
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
        if kind == Kind::Postgres {
            writer.run("create publication dbz_publication for all tables").await;
        }
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
                // one for all tables, as the original makes it: also those without a key
                Kind::Postgres => {
                    yaml.replace("tables: [\"public.*\"]", "tables: [\"*.*\"]\n  publication: dbz_publication")
                }
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
                if self.source.kind() != Kind::Postgres && debezium::changes_a_table(statement) {
                    self.settle().await;
                }
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
        Masker::new(prefix, self.source.name()).lines(&topics(env().brokers(), prefix, "").await)
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
            let expected = comparable(kind, name, &case.recorded(kind.name(), variant));
            let ours = comparable(kind, name, &run.lines(prefix).await);
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
            let of = name.clone();
            match tokio::spawn(async move { compare(kind, &of).await }).await {
                Ok(found) => failed.extend(found),
                Err(error) => failed.push(format!("{}, {name}: {error}", kind.name())),
            }
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

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_is_what_the_original_said() {
    compare_all(Kind::Mariadb).await;
}

/// The values of a table's rows after by `id`, each by a copy and by the stream; both must be equal.
async fn values(kind: Kind, before: &[&str], columns: &str, rows: &[&str], more: &str) -> (String, Vec<String>) {
    let source = Source::create(kind, "exact").await;
    for statement in before {
        source.exec(statement).await;
    }
    source.create_table("t", columns).await;
    for row in rows {
        source.exec(&format!("insert into t values ({row})")).await;
    }
    let yaml = format!("format: debezium\ndebezium:\n  key_schemas_enable: false\n{more}");
    let mut daemon = source.to_kafka_with(&yaml).spawn();
    daemon.wait_for_log("the table is copied", PATIENCE).await;
    source.exec("delete from t").await;
    for row in rows {
        source.exec(&format!("insert into t values ({row})")).await;
    }
    // rows of the copy, deletes with their tombstones, and the rows again
    let count = rows.len();
    let records = support::eventually(PATIENCE, "all records", || async {
        let records = source.records("t").await;
        if records.len() == 4 * count { Ok(records) } else { Err(records.len()) }
    })
    .await;
    assert_eq!(daemon.shutdown(PATIENCE).await, 0);
    let after = |op: &str| {
        let events = records
            .iter()
            .filter_map(|record| record.value.as_deref().map(|it| String::from_utf8_lossy(it).into_owned()));
        let events = events.filter(|event| event.contains(&format!("\"op\":\"{op}\"")));
        let mut rows: Vec<String> = events
            .map(|event| event.split_once("\"after\":").unwrap().1.split_once(",\"source\":").unwrap().0.to_owned())
            .collect();
        rows.sort();
        rows
    };
    let (copied, streamed) = (after("r"), after("c"));
    assert_eq!(copied, streamed, "a copy's rows and the stream's");
    (source.name().to_owned(), streamed)
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_postgres_are_right_where_the_originals_are_not() {
    let columns = "id bigint primary key, def int default 5, num numeric, neg numeric(5,-3), tz timetz, bits bit(12), vb bit varying, dims int[], \
                   d date, span interval, pair pair, lsn pg_lsn, box box, ranges int4multirange, monies money[], nam name";
    let rows = [
        "1, null, 1.500, 12000, '24:00:00+02', B'000000000001', B'', '{{1,2},{3,4}}', 'infinity', '1 day 00:00:01', (1, 'x'), '1/2', '(1,1),(0,0)', \
         '{[1,3)}', '{1.50}', 'n'",
    ];
    let before = ["create type pair as (a int, b text)"];
    let (_, found) = values(Kind::Postgres, &before, columns, &rows, "  value_schemas_enable: false\n").await;
    let expected = r#"{"id":1,"def":null,"num":{"scale":3,"value":"Bdw="},"neg":"DA==","tz":"24:00:00+02:00","bits":"AQA=","vb":"","dims":[[1,2],[3,4]],"d":2147483647,"span":86401000000,"pair":"{\"a\":1,\"b\":\"x\"}","lsn":"1/2","box":"(1,1),(0,0)","ranges":"[{\"lower\":1,\"upper\":3,\"bounds\":\"[)\"}]","monies":["AJY="],"nam":"n"}"#;
    assert_eq!(found, [expected]);
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_mysql_are_right_where_the_originals_are_not() {
    for kind in [Kind::Mysql, Kind::Mariadb] {
        let columns = "id bigint primary key, def int default 5, big bigint unsigned, d date, ti time, j json, ts timestamp(6) null, f float";
        let rows = [
            "1, null, 18446744073709551615, '0050-01-02', '-100:00:00', '{\"a\": 1.50}', '2026-01-01 00:00:00.5', 3.4028234e38",
        ];
        let (_, found) = values(kind, &[], columns, &rows, "  value_schemas_enable: false\n").await;
        // MariaDB's JSON is text
        let json = if kind == Kind::Mysql { r#"{\"a\":1.5}"# } else { r#"{\"a\": 1.50}"# };
        let expected = format!(
            r#"{{"id":1,"def":null,"big":18446744073709551615,"d":-701264,"ti":-360000000000,"j":"{json}","ts":"2026-01-01T00:00:00.500000Z","f":3.4028235E38}}"#
        );
        assert_eq!(found, [expected]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_too_large_becomes_a_dead_letter() {
    for kind in Kind::ALL {
        let source = Source::create(kind, "exact").await;
        source.create_table("notes", "id bigint primary key, note text").await;
        kafka::create_topic(&source.topic("notes"), 1, &[("max.message.bytes", "20000")]).await;
        let yaml = "backfill: never\non_poison: dead_letter\nformat: debezium\n";
        let mut daemon = source.to_kafka_with(yaml).spawn();
        wait_until_streaming(&mut daemon).await;
        for values in ["1, 'a'", "2, repeat('x', 60000)", "3, 'b'"] {
            source.exec(&format!("insert into notes values ({values})")).await;
        }
        assert_eq!(source.wait_for_events("notes", 2).await.len(), 2);
        let letters = kafka::wait_for_records(&format!("rowcast.dead_letter.{}", source.name()), 1).await;
        assert_eq!(letters.len(), 1);
        let (key, letter) = (letters[0].key_str(), letters[0].json());
        assert!(key.contains("\"payload\":{\"id\":2}"), "{key}");
        assert_eq!((letter["op"].as_str(), letter["topic"].as_str()), (Some("c"), Some(&*source.topic("notes"))));
        assert_eq!(
            (letter["source"]["table"].as_str(), letter["source"]["name"].as_str()),
            (Some("notes"), Some(source.name()))
        );
        assert!(letter["dead_letter"].as_str().unwrap().contains("max.message.bytes"), "{letter}");
        assert!(letter["bytes"].as_u64().unwrap() > 60000);
        assert!(!daemon.logs().contains("xxxx"), "no row value in the log");
        assert_eq!(daemon.shutdown(PATIENCE).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_shows_events_with_and_without_schemas() {
    for schemas in [true, false] {
        let source = Source::create(Kind::Postgres, "exact").await;
        source.create_table("orders", "id bigint primary key, note text").await;
        source.create_table("others", "id bigint primary key").await;
        let more = format!(
            "backfill: never\nformat: debezium\ndebezium: {{key_schemas_enable: {schemas}, value_schemas_enable: {schemas}, \
             topic_prefix: {0}}}\n",
            source.name()
        );
        let mut daemon = source.to_kafka_with(&more).spawn();
        wait_until_streaming(&mut daemon).await;
        for sql in [
            "insert into orders values (1, 'a'), (2, 'b')",
            "insert into others values (1)",
            "delete from orders where id = 1",
            "select pg_logical_emit_message(true, 'note', 'hello')",
        ] {
            source.exec(sql).await;
        }
        source.wait_for_events("orders", 3).await;
        let yaml = source.to_kafka_yaml("*", &more);
        let shown = async |args: &[&str]| {
            let all = ["tail", source.name(), "source.yaml", "--from", "beginning", "--until-end"];
            let command = Daemon::command().file("source.yaml", &yaml).args(&all).args(args);
            let (code, out, error) = command.output(PATIENCE).await;
            assert_eq!(code, 0, "{error}");
            out.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let filters: [(&[&str], usize); 6] = [
            (&[], 5),
            (&["--table", "public.orders"], 3),
            (&["--op", "d"], 1),
            (&["--op", "m"], 1),
            (&["--key", "1"], 3),
            (&["--table", "public.orders", "--key", "2"], 1),
        ];
        for (args, count) in filters {
            let lines = support::eventually(PATIENCE, "what there is", || async {
                let lines = shown(args).await;
                if lines.len() == count { Ok(lines) } else { Err(format!("{args:?}, {}: {lines:?}", lines.len())) }
            })
            .await;
            assert!(lines.iter().all(|line| line.starts_with("{\"schema\":") == schemas), "{lines:?}");
        }
        assert_eq!(daemon.shutdown(PATIENCE).await, 0);
    }
}
