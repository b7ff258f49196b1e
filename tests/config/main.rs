//! The configuration as a user meets it: files in, typed configuration or error text out.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod errors;
mod examples;
mod files;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rowcast::config::{
    BackfillConfig, BackfillMode, ConfigErrors, Delivery, Environment, LogFormat, MysqlFlavor, Request, SinkConfig,
    SinkOverride, SourceConfig, SourceKind, TlsMode, TopicPart, load, summary,
};
use secrecy::ExposeSecret;

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("rowcast-config-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = Self(std::env::temp_dir().join(name));
        std::fs::create_dir_all(&folder.0).unwrap();
        for (path, text) in files {
            folder.write(path, text.as_bytes());
        }
        folder
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.0.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn request(&self, paths: &[&str], variables: &[(&str, &str)]) -> Request {
        Request {
            paths: paths.iter().map(|path| self.0.join(path)).collect(),
            shared: None,
            sink: None,
            environment: variables.iter().copied().collect::<Environment>(),
        }
    }

    fn errors(&self, request: &Request) -> String {
        self.shown(&load(request).unwrap_err())
    }

    /// The errors' text with paths from this folder on.
    fn shown(&self, errors: &ConfigErrors) -> String {
        errors.to_string().replace(&format!("{}/", self.0.display()), "").replace(&self.0.display().to_string(), ".")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const SHOP: &str = "\
name: shop
source:
  type: postgres
  host: db.internal
  database: shop
  user: cdc
  password: hunter2
  tables: [public.orders, public.customer_*, \"!public.customer_audit\"]
sink:
  type: kafka
  brokers: kafka:9092
";

const STOCK: &str = "\
name: stock
source:
  type: mysql
  host: db.internal
  user: cdc
  tables: [stock.*]
sink:
  type: kafka
  brokers: kafka:9092
";

fn load_one(text: &str, variables: &[(&str, &str)]) -> SourceConfig {
    let folder = Folder::new(&[("x.yaml", text)]);
    load(&folder.request(&["x.yaml"], variables)).unwrap().sources.remove(0)
}

/// One line of [`SHOP`] replaced.
fn shop_with(line: &str, replacement: &str) -> String {
    assert!(SHOP.contains(line), "{line}");
    SHOP.replace(line, replacement)
}

#[test]
fn a_source_file_alone_gets_all_defaults() {
    let shop = load_one(SHOP, &[]);
    assert_eq!(shop.name, "shop");
    assert_eq!(shop.delivery, Delivery::ExactlyOnce);
    assert_eq!(shop.memory_budget, 32 << 20);
    assert_eq!((shop.commit.interval, shop.commit.max_bytes), (Duration::from_millis(100), 16 << 20));
    assert_eq!(shop.state_dir, Path::new("rowcast-state"));
    let SourceKind::Postgres(postgres) = &shop.kind else { panic!("{shop:?}") };
    assert_eq!((postgres.slot.as_str(), postgres.publication.as_str()), ("rowcast_shop", "rowcast_shop"));
    assert_eq!((postgres.database.as_str(), postgres.connection.port), ("shop", 5432));
    assert!(postgres.stream.binary);
    assert_eq!(postgres.connection.tls.mode, TlsMode::Prefer);
    assert_eq!(postgres.connection.connect_timeout, Duration::from_secs(10));
    assert_eq!(postgres.connection.read_timeout, Duration::from_secs(60));
    assert_eq!(postgres.connection.password.as_ref().unwrap().expose_secret(), "hunter2");
    assert!(
        postgres.tables.matches_parts("public", "customer_x")
            && !postgres.tables.matches_parts("public", "customer_audit")
    );
    let SinkConfig::Kafka(kafka) = &shop.sink else { panic!("{shop:?}") };
    assert!(kafka.tombstones && kafka.properties.is_empty());
    assert_eq!(kafka.topic.parts().iter().filter(|part| matches!(part, TopicPart::Literal(_))).count(), 2);
}

#[test]
fn mysql_and_mariadb_have_their_port_and_a_stable_server_id() {
    for (word, flavor) in [("mysql", MysqlFlavor::Mysql), ("mariadb", MysqlFlavor::Mariadb)] {
        let stock = load_one(&STOCK.replace("type: mysql", &format!("type: {word}")), &[]);
        let SourceKind::Mysql(mysql) = &stock.kind else { panic!("{stock:?}") };
        assert_eq!((mysql.flavor, mysql.connection.port), (flavor, 3306));
        assert!(mysql.server_id >= 0x8000_0000);
        assert!(mysql.connection.password.is_none());
    }
    let SourceKind::Mysql(mysql) = load_one(&STOCK.replace("  user", "  server_id: 7\n  user"), &[]).kind else {
        panic!()
    };
    assert_eq!(mysql.server_id, 7);
}

#[test]
fn a_dash_in_the_name_is_an_underscore_in_slot_and_publication() {
    let SourceKind::Postgres(postgres) = load_one(&shop_with("name: shop", "name: shop-eu-1"), &[]).kind else {
        panic!()
    };
    assert_eq!((postgres.slot.as_str(), postgres.publication.as_str()), ("rowcast_shop_eu_1", "rowcast_shop_eu_1"));
}

#[test]
fn values_stay_the_text_that_was_written() {
    let text =
        shop_with("hunter2", "0123").replace("  brokers", "  properties: {a.b: 1.10, c.d: no, e: 0x1F}\n  brokers");
    let shop = load_one(&text, &[]);
    assert_eq!(shop.kind.connection().password.as_ref().unwrap().expose_secret(), "0123");
    let SinkConfig::Kafka(kafka) = &shop.sink else { panic!() };
    let values: Vec<_> = kafka.properties.iter().map(|(name, value)| format!("{name}={}", value.expose())).collect();
    assert_eq!(values, ["a.b=1.10", "c.d=no", "e=0x1F"]);
}

#[test]
fn variables_override_files_for_every_source() {
    let folder = Folder::new(&[("sources/a.yaml", SHOP), ("sources/b.yaml", STOCK)]);
    let variables = [
        ("ROWCAST__SINK__BROKERS", "other:1, third:2"),
        ("ROWCAST__SINK__PROPERTIES__COMPRESSION_TYPE", "zstd"),
        ("ROWCAST__SOURCE__PASSWORD", "007"),
        ("ROWCAST__SOURCE__TABLES", "a.b, !c.d"),
        ("ROWCAST__SOURCE__SERVER_ID", "9"),
        ("ROWCAST__LOGGING__FORMAT", "json"),
        ("ROWCAST_OTHER", "not ours"),
    ];
    let loaded = load(&folder.request(&["."], &variables)).unwrap();
    assert_eq!(loaded.shared.logging.format, LogFormat::Json);
    assert_eq!(loaded.sources.len(), 2);
    for source in &loaded.sources {
        let SinkConfig::Kafka(kafka) = &source.sink else { panic!() };
        assert_eq!(kafka.brokers, "other:1,third:2");
        assert_eq!(kafka.properties["compression.type"].expose(), "zstd");
        assert_eq!(source.kind.connection().password.as_ref().unwrap().expose_secret(), "007");
        assert_eq!(source.kind.tables().to_string(), "a.b, !c.d");
    }
}

#[test]
fn a_source_overrides_the_shared_file_key_by_key() {
    let shared = "\
sink:
  type: kafka
  brokers: shared:9092
  topic: all
  properties: {compression.type: lz4, linger.ms: 5}
memory: {budget: 64MiB}
state_dir: state
logging: {level: warn}
";
    let source = SHOP.replace("  brokers: kafka:9092\n", "  properties: {linger.ms: 0}\n");
    for shared_path in ["rowcast.yaml", "sources/rowcast.yaml"] {
        let folder = Folder::new(&[(shared_path, shared), ("sources/shop.yaml", &source)]);
        let loaded = load(&folder.request(&["sources/shop.yaml"], &[])).unwrap();
        assert_eq!(loaded.shared.file.as_deref(), Some(folder.0.join(shared_path).as_path()));
        assert_eq!(loaded.shared.logging.level, "warn");
        let shop = &loaded.sources[0];
        let SinkConfig::Kafka(kafka) = &shop.sink else { panic!() };
        assert_eq!((kafka.brokers.as_str(), kafka.topic.to_string().as_str()), ("shared:9092", "all"));
        assert_eq!(format!("{:?}", kafka.properties), r#"{"compression.type": "lz4", "linger.ms": "0"}"#);
        assert_eq!((shop.memory_budget, shop.commit.max_bytes), (64 << 20, 16 << 20));
        // Relative to the folder of the file that says so.
        assert_eq!(shop.state_dir, folder.0.join(shared_path).with_file_name("state"));
    }
}

#[test]
fn an_empty_shared_file_is_fine() {
    let folder = Folder::new(&[("rowcast.yaml", "# nothing yet\n"), ("a.yaml", SHOP)]);
    assert_eq!(load(&folder.request(&["."], &[])).unwrap().sources.len(), 1);
}

#[test]
fn a_folder_stands_for_its_sources_sorted_without_shared_and_hidden_files() {
    let named = |name: &str| SHOP.replace("name: shop", &format!("name: {name}"));
    let folder = Folder::new(&[
        ("b.yml", &named("b")),
        ("a.yaml", &named("a")),
        ("rowcast.yaml", "memory: {budget: 1MiB}\n"),
        (".hidden.yaml", "broken: ["),
        ("notes.txt", "broken: ["),
        ("sources/c.yaml", &named("c")),
        ("sources/deeper/d.yaml", "broken: ["),
    ]);
    let names = |request: &Request| -> Vec<String> {
        load(request).unwrap().sources.into_iter().map(|source| source.name).collect()
    };
    assert_eq!(names(&folder.request(&["."], &[])), ["a", "b", "c"]);
    // A file that is named twice is one source.
    assert_eq!(names(&folder.request(&["b.yml", ".", "./a.yaml"], &[])), ["b", "a", "c"]);
}

#[test]
fn the_shared_file_can_be_named_and_is_no_source_then() {
    let folder =
        Folder::new(&[("common.yaml", "memory: {budget: 2MiB}\n"), ("a.yaml", SHOP), ("rowcast.yaml", "x: [")]);
    let mut request = folder.request(&["."], &[]);
    request.shared = Some(folder.0.join("common.yaml"));
    let loaded = load(&request).unwrap();
    assert_eq!(loaded.sources[0].memory_budget, 2 << 20);
    request.shared = Some(folder.0.join("missing.yaml"));
    assert!(folder.errors(&request).contains("missing.yaml: can't read the file: No such file or directory"));
}

#[test]
fn a_look_aside_needs_no_kafka_and_disturbs_no_daemon() {
    let text = SHOP.replace("kafka:9092", "${file:/no/such/file}") + "delivery: exactly_once\n";
    let folder = Folder::new(&[("a.yaml", &text), ("b.yaml", &STOCK.replace("  user", "  server_id: 5\n  user"))]);
    let mut request =
        folder.request(&["."], &[("ROWCAST__SINK__BROKERS", "x:1"), ("ROWCAST__DELIVERY", "exactly_once")]);
    request.sink = Some(SinkOverride::Stdout);
    let sources = load(&request).unwrap().sources;
    for source in &sources {
        assert!(matches!(source.sink, SinkConfig::Stdout));
        assert_eq!(source.delivery, Delivery::AtLeastOnce);
    }
    let SourceKind::Postgres(postgres) = &sources[0].kind else { panic!() };
    assert_eq!((postgres.slot.as_str(), postgres.publication.as_str()), ("rowcast_shop_aside", "rowcast_shop"));
    let SourceKind::Mysql(mysql) = &sources[1].kind else { panic!() };
    assert_ne!(mysql.server_id, 5);
}

#[test]
fn no_secret_shows_in_debug_or_summary() {
    let text = SHOP.replace(
        "  brokers",
        "  properties: {sasl.username: me, sasl.password: hunter2, sasl.pasword: \"${PW}\", ssl.key.pem: hunter2}\n  brokers",
    );
    let shop = load_one(&text, &[("PW", "hunter2")]);
    let SinkConfig::Kafka(kafka) = &shop.sink else { panic!() };
    assert_eq!(kafka.properties["sasl.password"].expose(), "hunter2");
    for shown in [format!("{shop:?}"), format!("{shop:#?}"), summary(&shop)] {
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("[secret]") && shown.contains("me"), "{shown}");
    }
}

#[test]
fn the_summary_shows_what_is_in_effect() {
    let mut shop = load_one(&shop_with("  brokers", "  properties: {linger.ms: 5}\n  brokers"), &[]);
    shop.file = PathBuf::from("shop.yaml");
    assert_eq!(
        summary(&shop),
        "shop: ok (shop.yaml)\n  \
           source: postgres cdc@db.internal:5432/shop with a password, tls prefer\n          \
                   slot rowcast_shop, publication rowcast_shop; connect timeout 10s, read timeout 1m\n  \
           tables: public.orders, public.customer_*, !public.customer_audit\n  \
           sink:   kafka kafka:9092, topic {name}.{schema}.{table}, with tombstones, exactly_once\n          \
                   linger.ms=5\n  \
           memory: 32MiB; commit every 100ms or 16MiB\n  \
           backfill: initial, all captured tables\n          \
                   2 readers at load 1, chunks of at most 100000 rows; paused at a lag of 1m or 1GiB\n  \
           on a gap: fail; on poison: fail; on a table's failure: stop_table"
    );
    let text = format!(
        "{SHOP}backfill:\n  mode: initial_only\n  tables: [public.orders, {{table: public.customer_x, where: 'a > 0'}}]\n  \
         parallelism: 1\n  rows_per_second: 5000\n  max_load: 0.5\n"
    );
    assert!(summary(&load_one(&text, &[])).ends_with(
        "backfill: initial_only, public.orders, public.customer_x where a > 0\n          \
                   1 reader at load 0.5 and 5000 rows/s, chunks of at most 100000 rows; paused at a lag of 1m or 1GiB\n  \
           on a gap: fail; on poison: fail; on a table's failure: stop_table"
    ));
    assert!(
        summary(&load_one(SHOP, &[("ROWCAST__BACKFILL", "never")])).contains("backfill: never, unless asked for\n")
    );
}

#[test]
fn several_hosts_and_a_password_command_are_shown_and_nothing_of_the_command() {
    let text = shop_with(
        "  host: db.internal",
        "  host: \"db-1,db-2:5433,/var/run/postgresql\"\n  port: 6000\n  slot_in_use: wait",
    );
    let shown = summary(&load_one(&text.replace("  password: hunter2", "  password_command: [token, hunter2]"), &[]));
    assert!(
        shown.contains(
            "cdc@db-1:6000,db-2:5433,/var/run/postgresql:6000/shop (primary) with a password command, tls prefer\n"
        ),
        "{shown}"
    );
    assert!(shown.contains("slot rowcast_shop (waited for while in use), "), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn mysql_takes_the_clients_words_for_tls_a_socket_and_a_password_command() {
    for (word, mode) in [
        ("DISABLED", TlsMode::Disable),
        ("Preferred", TlsMode::Prefer),
        ("required", TlsMode::Require),
        ("VERIFY_CA", TlsMode::VerifyCa),
        ("verify-ca", TlsMode::VerifyCa),
        ("VERIFY_IDENTITY", TlsMode::VerifyFull),
        ("verify-identity", TlsMode::VerifyFull),
        ("verify-full", TlsMode::VerifyFull),
    ] {
        let text = STOCK.replace("  user", &format!("  tls: {{mode: {word}}}\n  user"));
        assert_eq!(load_one(&text, &[]).kind.connection().tls.mode, mode, "{word}");
    }
    let text = STOCK
        .replace("host: db.internal", "socket: /run/s.sock")
        .replace("  user", "  password_command: [token, hunter2]\n  compression: zlib\n  user");
    let stock = load_one(&text, &[]);
    assert_eq!(stock.kind.connection().host, "/run/s.sock");
    let shown = summary(&stock);
    assert!(shown.contains("mysql cdc@/run/s.sock with a password command, tls prefer\n"), "{shown}");
    assert!(shown.contains(", compressed by zlib; "), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
    // a relative one begins at the file
    let SourceKind::Mysql(mysql) = load_one(&text.replace("/run/s.sock", "s.sock"), &[]).kind else { panic!() };
    assert!(mysql.connection.host.starts_with('/') && mysql.connection.host.ends_with("/s.sock"), "{mysql:?}");
}

/// `mode: tables` of a backfill, tables as they are shown.
fn copied(backfill: &BackfillConfig) -> String {
    let tables =
        backfill.tables.as_ref().map(|tables| tables.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
    format!("{}: {}", backfill.mode, tables.as_deref().unwrap_or("all"))
}

#[test]
fn a_backfill_is_a_word_a_list_or_a_section() {
    let backfill = load_one(SHOP, &[]).backfill;
    assert_eq!(
        backfill,
        BackfillConfig {
            mode: BackfillMode::Initial,
            tables: None,
            rows_per_second: None,
            parallelism: 2,
            chunk_rows: 100_000,
            max_load: 1.0,
            max_lag: Duration::from_secs(60),
            max_lag_bytes: 1 << 30,
        }
    );
    for (written, expected) in [
        ("backfill: initial", "initial: all"),
        ("backfill: never", "never: all"),
        ("backfill: initial_only", "initial_only: all"),
        ("backfill: ${WORD}", "never: all"),
        ("backfill:", "initial: all"),
        ("backfill: {}", "initial: all"),
        ("backfill: [public.customer_x, public.orders]", "initial: public.customer_x, public.orders"),
        (
            "backfill:\n- public.orders\n- table: public.customer_x\n  where: price > 0",
            "initial: public.orders, public.customer_x where price > 0",
        ),
        ("backfill: ['public.\"customer_ä.b\"']", "initial: public.\"customer_ä.b\""),
        (
            "backfill: {mode: initial_only, tables: [{table: public.orders, where: \"a = 'b'\"}]}",
            "initial_only: public.orders where a = 'b'",
        ),
    ] {
        assert_eq!(
            copied(&load_one(&format!("{SHOP}{written}\n"), &[("WORD", "never")]).backfill),
            expected,
            "{written}"
        );
    }
    let limits = "backfill: {rows_per_second: 50000, parallelism: 16, chunk_rows: 1, max_load: 0.01, max_lag: 30s, \
                  max_lag_bytes: 1MiB}\n";
    let backfill = load_one(&format!("{SHOP}{limits}"), &[]).backfill;
    assert_eq!((backfill.rows_per_second, backfill.parallelism, backfill.chunk_rows), (Some(50_000), 16, 1));
    assert_eq!((backfill.max_lag, backfill.max_lag_bytes), (Duration::from_secs(30), 1 << 20));
    assert!((backfill.max_load - 0.01).abs() < f64::EPSILON);
}

#[test]
fn a_short_backfill_takes_the_place_of_mode_and_tables_and_leaves_the_limits() {
    let shared_tables = "backfill: {mode: initial_only, tables: [public.customer_a], parallelism: 4}";
    for (shared, source, variables, expected) in [
        (shared_tables, "", &[][..], "initial_only: public.customer_a 4"),
        (shared_tables, "backfill: never", &[], "never: all 4"),
        (shared_tables, "backfill: [public.orders]", &[], "initial: public.orders 4"),
        (shared_tables, "backfill: {mode: initial}", &[], "initial: public.customer_a 4"),
        (
            shared_tables,
            "backfill: {tables: [public.orders, public.customer_b]}",
            &[],
            "initial_only: public.orders, public.customer_b 4",
        ),
        (shared_tables, "", &[("ROWCAST__BACKFILL", "never")], "never: all 4"),
        (shared_tables, "backfill: [public.orders]", &[("ROWCAST__BACKFILL", "initial")], "initial: all 4"),
        (
            shared_tables,
            "",
            &[("ROWCAST__BACKFILL", "public.orders, public.customer_b")],
            "initial: public.orders, public.customer_b 4",
        ),
        (shared_tables, "", &[("ROWCAST__BACKFILL__MODE", "initial")], "initial: public.customer_a 4"),
        (
            "backfill: never",
            "backfill: [public.orders]",
            &[("ROWCAST__BACKFILL__PARALLELISM", "4")],
            "initial: public.orders 4",
        ),
        ("backfill: [public.orders]", "backfill: {parallelism: 3}", &[], "initial: public.orders 3"),
        ("backfill: never", "backfill:", &[], "never: all 2"),
    ] {
        let folder = Folder::new(&[("rowcast.yaml", shared), ("a.yaml", &format!("{SHOP}{source}\n"))]);
        let loaded = load(&folder.request(&["a.yaml"], variables)).unwrap();
        let backfill = &loaded.sources[0].backfill;
        assert_eq!(
            format!("{} {}", copied(backfill), backfill.parallelism),
            expected,
            "{shared} | {source} | {variables:?}"
        );
    }
}

#[test]
fn topic_settings_merge_with_the_shared_file_and_the_environment_and_are_shown() {
    let folder = Folder::new(&[
        (
            "rowcast.yaml",
            "sink:\n  type: kafka\n  brokers: kafka:9092\n  topics: {replication: 3, config: {retention.ms: \"1000\"}}\n",
        ),
        (
            "x.yaml",
            &format!(
                "{SHOP}  topics: {{partitions: 6, rules: [{{match: 'shop.*', config: {{cleanup.policy: compact}}}}]}}\n"
            ),
        ),
    ]);
    let request = folder.request(&["x.yaml"], &[("ROWCAST__SINK__TOPICS__CONFIG__SEGMENT_MS", "5")]);
    let source = load(&request).unwrap().sources.remove(0);
    let SinkConfig::Kafka(kafka) = &source.sink else { panic!("{source:?}") };
    let settings = kafka.topics.for_topic("shop.orders");
    let pairs: Vec<_> = settings.config.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!((settings.partitions, settings.replication), (Some(6), Some(3)));
    assert_eq!(pairs, ["cleanup.policy=compact", "retention.ms=1000", "segment.ms=5"]);
    let shown = summary(&source);
    for line in [
        "          topics: 6 partitions, replication 3, retention.ms=1000, segment.ms=5",
        "          topics shop.*: cleanup.policy=compact",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line} in {shown}");
    }
}
