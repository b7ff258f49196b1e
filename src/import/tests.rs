//! Configurations as people have them, and the table of options against what the original documents.

#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;

fn fates(imported: &Imported) -> Vec<String> {
    imported.notes.iter().map(ToString::to_string).collect()
}

fn fate_of(imported: &Imported, option: &str) -> Fate {
    imported
        .notes
        .iter()
        .find(|note| note.option == option)
        .unwrap_or_else(|| panic!("no note of {option}"))
        .fate
        .clone()
}

/// A key's line of the file, without its indentation.
fn has_line(imported: &Imported, line: &str) -> bool {
    imported.yaml.lines().any(|it| it.trim() == line)
}

const POSTGRES: &str = r#"{
  "name": "Fulfilment.Connector",
  "config": {
    "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
    "tasks.max": "1",
    "plugin.name": "pgoutput",
    "database.hostname": "db.internal",
    "database.port": "5433",
    "database.user": "${env:DB_USER}",
    "database.password": "hunter2",
    "database.dbname": "shop",
    "database.sslmode": "verify-full",
    "database.sslrootcert": "/etc/tls/ca.pem",
    "topic.prefix": "fulfilment",
    "table.include.list": "public.orders,public.(customers|items)",
    "table.exclude.list": "public\\.tmp_.*",
    "slot.name": "fulfilment_slot",
    "publication.autocreate.mode": "filtered",
    "snapshot.mode": "no_data",
    "decimal.handling.mode": "string",
    "tombstones.on.delete": "false",
    "heartbeat.interval.ms": "10000",
    "heartbeat.action.query": "insert into beats values (now())",
    "max.batch.size": "4096",
    "max.queue.size.in.bytes": "67108864",
    "column.mask.with.12.chars": "public.customers.email",
    "transforms": "route,unwrap",
    "transforms.route.type": "org.apache.kafka.connect.transforms.RegexRouter",
    "transforms.route.regex": "(.*)",
    "transforms.unwrap.type": "io.debezium.transforms.ExtractNewRecordState",
    "key.converter": "org.apache.kafka.connect.json.JsonConverter",
    "key.converter.schemas.enable": "false",
    "topic.creation.default.partitions": "6",
    "topic.creation.default.replication.factor": "3",
    "topic.creation.default.cleanup.policy": "compact",
    "producer.override.compression.type": "lz4",
    "slot.drop.on.stop": "false",
    "xmin.fetch.interval.ms": "0",
    "database.ssl.mode": "required",
    "tabel.include.list": "public.x"
  }
}"#;

#[test]
fn a_connector_for_postgresql() {
    let imported = debezium(POSTGRES, None).unwrap();
    for line in [
        "name: fulfilment-connector",
        "type: postgres",
        "host: db.internal",
        "port: 5433",
        "user: \"${DB_USER}\"",
        "password: \"${FULFILMENT_CONNECTOR_PASSWORD}\"",
        "database: shop",
        "slot: fulfilment_slot",
        "publication: dbz_publication",
        "tables: [public.orders, public.customers, public.items, \"!public.tmp_*\"]",
        "mode: verify-full",
        "ca: /etc/tls/ca.pem",
        "format: debezium",
        "topic_prefix: fulfilment",
        "key_schemas_enable: false",
        "brokers: \"${KAFKA_BROKERS}\"",
        "partitions: 6",
        "replication: 3",
        "cleanup.policy: compact",
        "compression.type: lz4",
        "budget: 65536KiB",
        "mode: never",
        "heartbeat_interval_ms: 10000",
    ] {
        assert!(has_line(&imported, line), "{line}\nis not in\n{}", imported.yaml);
    }
    assert!(!imported.yaml.contains("hunter2") && !fates(&imported).join("").contains("hunter2"));
    assert_eq!(fate_of(&imported, "database.hostname"), Fate::Taken("source.host".into()));
    for needless in
        ["max.batch.size", "slot.drop.on.stop", "xmin.fetch.interval.ms", "heartbeat.action.query", "plugin.name"]
    {
        assert!(matches!(fate_of(&imported, needless), Fate::NotNeeded(_)), "{needless}");
    }
    assert_eq!(fate_of(&imported, "column.mask.with.12.chars"), Fate::Taken("debezium.column_mask_with_chars".into()));
    assert_eq!(fate_of(&imported, "transforms.unwrap.type"), Fate::Taken("flatten.enabled".into()));
    for missing in ["transforms", "transforms.route.regex"] {
        assert!(matches!(fate_of(&imported, missing), Fate::NotSupported(_)), "{missing}");
        assert!(imported.yaml.contains(&format!("# not supported  {missing}: ")), "{missing}");
    }
    assert_eq!(
        fate_of(&imported, "database.ssl.mode"),
        Fate::Unknown("an option of other databases' connectors, not of this one".into())
    );
    assert_eq!(
        fate_of(&imported, "tabel.include.list"),
        Fate::Unknown("no documented option; did you mean `table.include.list`?".into())
    );
    assert_eq!(imported.notes.len(), 37);
    assert!(imported.advice.iter().any(|advice| advice.contains("FULFILMENT_CONNECTOR_PASSWORD")));
    assert!(imported.advice.iter().any(|advice| advice.contains("KAFKA_BROKERS")));
}

#[test]
fn a_connector_whose_rows_are_flattened() {
    let imported = debezium(
        "name=inventory\nconnector.class=io.debezium.connector.mysql.MySqlConnector\ntransforms=unwrap\n\
         transforms.unwrap.type=io.debezium.transforms.ExtractNewRecordState\ntransforms.unwrap.delete.handling.mode=rewrite\n\
         transforms.unwrap.drop.tombstones=false\ntransforms.unwrap.add.fields=op,source.ts_ms,lsn\ntransforms.unwrap.add.headers.prefix=\n\
         transforms.unwrap.route.by.field=kind\ncolumn.exclude.list=a\\\\.b\\\\.c\ncolumn.include.list=a(?=b)\n\
         column.mask.hash.v2.SHA-256.with.salt.pepper=a.b.(c|d)\ncolumn.mask.hash.MD2.with.salt.pepper=a.b.e\ncolumn.truncate.to.20.chars=a.b.f\n",
        None,
    )
    .unwrap();
    for line in [
        "column_exclude_list: \"a\\\\.b\\\\.c\"",
        "SHA-256.with.salt.pepper: \"a.b.(c|d)\"",
        "20: a.b.f",
        "enabled: true",
        "delete_tombstone_handling_mode: rewrite-with-tombstone",
        "add_fields: [op, source.ts_ms]",
        "add_headers_prefix: \"\"",
    ] {
        assert!(has_line(&imported, line), "{line}\nis not in\n{}", imported.yaml);
    }
    assert_eq!(fate_of(&imported, "transforms"), Fate::Taken("flatten".into()));
    for missing in [
        "transforms.unwrap.add.fields",
        "transforms.unwrap.route.by.field",
        "column.include.list",
        "column.mask.hash.MD2.with.salt.pepper",
    ] {
        assert!(matches!(fate_of(&imported, missing), Fate::NotSupported(_)), "{missing}");
    }
}

#[test]
fn a_connector_for_mysql_by_properties() {
    let imported = debezium(
        "name=inventory\nconnector.class=io.debezium.connector.mysql.MySqlConnector\ndatabase.hostname=mysql\ndatabase.port=3306\n\
         database.user=debezium\ndatabase.password=${file:/opt/secrets.properties:mysql.password}\ndatabase.server.id=184054\ntopic.prefix=dbserver1\n\
         database.include.list=inventory,stock\ntable.include.list=.*\\\\.orders,inventory.items\nschema.history.internal.kafka.bootstrap.servers=kafka:9092\n\
         schema.history.internal.kafka.topic=schemahistory.inventory\ninclude.query=true\nsnapshot.mode=when_needed\ndatabase.ssl.mode=verify_identity\n\
         snapshot.select.statement.overrides=inventory.items\nsnapshot.select.statement.overrides.inventory.items=select * from items\n\
         converters=bool\nbool.type=io.debezium.connector.binlog.converters.TinyIntOneToBooleanConverter\nbool.selector=.*\n\
         event.processing.failure.handling.mode=warn\nslot.name=x\n",
        None,
    )
    .unwrap();
    for line in [
        "name: inventory",
        "type: mysql",
        "server_id: 184054",
        "brokers: \"kafka:9092\"",
        "tables: [inventory.orders, stock.orders, inventory.items]",
        "include_query: true",
        "mode: verify-full",
        "password: \"${INVENTORY_PASSWORD}\"",
        "on_gap: backfill",
        "on_poison: skip",
    ] {
        assert!(has_line(&imported, line), "{line}\nis not in\n{}", imported.yaml);
    }
    assert!(!imported.yaml.contains("slot: "), "{}", imported.yaml);
    assert!(matches!(fate_of(&imported, "schema.history.internal.kafka.topic"), Fate::NotNeeded(_)));
    for missing in ["snapshot.select.statement.overrides.inventory.items", "converters", "bool.type", "bool.selector"] {
        assert!(matches!(fate_of(&imported, missing), Fate::NotSupported(_)), "{missing}");
    }
    assert!(matches!(fate_of(&imported, "slot.name"), Fate::Unknown(_)));
}

#[test]
fn fields_are_dropped_only_where_another_transform_names_them() {
    let unwrap = "connector.class=io.debezium.connector.mysql.MySqlConnector\n\
         transforms.unwrap.type=io.debezium.transforms.ExtractNewRecordState\ntransforms.unwrap.drop.fields.from.key=true\n";
    let named = format!("{unwrap}transforms.unwrap.drop.fields.header.name=Unchanged\n");
    let alone = debezium(&format!("{named}transforms=unwrap\n"), None).unwrap();
    let changed = "transforms=changed,unwrap\ntransforms.changed.type=io.debezium.transforms.ExtractChangedRecordState\n\
         transforms.changed.header.unchanged.name=Unchanged\n";
    let both = debezium(&format!("{named}{changed}"), None).unwrap();
    for option in ["transforms.unwrap.drop.fields.header.name", "transforms.unwrap.drop.fields.from.key"] {
        assert!(matches!(fate_of(&alone, option), Fate::NotNeeded(_)), "{option}");
        assert!(matches!(fate_of(&both, option), Fate::NotSupported(_)), "{option}");
    }
    assert!(matches!(fate_of(&both, "transforms.changed.header.unchanged.name"), Fate::NotSupported(_)));
    let unnamed = debezium(&format!("{unwrap}{changed}"), None).unwrap();
    assert!(matches!(fate_of(&unnamed, "transforms.unwrap.drop.fields.from.key"), Fate::NotNeeded(_)));
}

#[test]
fn debezium_server_has_the_options_behind_prefixes() {
    let imported = debezium(
        "debezium.sink.type=kafka\ndebezium.sink.kafka.producer.bootstrap.servers=k1:9092,k2:9092\ndebezium.sink.kafka.producer.key.serializer=x\n\
         debezium.source.connector.class=io.debezium.connector.mariadb.MariaDbConnector\ndebezium.source.offset.storage.file.filename=data/offsets.dat\n\
         debezium.source.offset.flush.interval.ms=0\ndebezium.source.database.hostname=${DB_HOST}\ndebezium.source.database.password=${dir:/run/secrets:db}\n\
         debezium.source.topic.prefix=tutorial\ndebezium.source.database.exclude.list=tmp\ndebezium.format.value.schemas.enable=false\nquarkus.log.level=INFO\n",
        None,
    )
    .unwrap();
    for line in [
        "name: tutorial",
        "type: mariadb",
        "host: \"${DB_HOST}\"",
        "password: \"${file:/run/secrets/db}\"",
        "brokers: \"k1:9092,k2:9092\"",
        "tables: [\"*.*\", \"!tmp.*\"]",
        "value_schemas_enable: false",
    ] {
        assert!(has_line(&imported, line), "{line}\nis not in\n{}", imported.yaml);
    }
    assert_eq!(fate_of(&imported, "debezium.source.database.hostname"), Fate::Taken("source.host".into()));
    assert!(matches!(fate_of(&imported, "debezium.source.offset.storage.file.filename"), Fate::NotNeeded(_)));
    assert!(matches!(fate_of(&imported, "quarkus.log.level"), Fate::NotNeeded(_)));
}

#[test]
fn expressions_that_no_pattern_can_say_are_left_to_the_operator() {
    let imported = debezium(
        r#"{"connector.class": "io.debezium.connector.postgresql.PostgresConnector", "topic.prefix": "p", "table.include.list": "public.t[0-9]+"}"#,
        None,
    )
    .unwrap();
    assert!(matches!(fate_of(&imported, "table.include.list"), Fate::NotSupported(_)));
    assert!(imported.advice.iter().any(|advice| advice.contains("by hand")));
}

#[test]
fn what_is_no_such_connector_is_refused() {
    assert_eq!(debezium("{}", None).unwrap_err(), ImportError::NoConnector);
    let other = debezium(r#"{"connector.class": "io.debezium.connector.oracle.OracleConnector"}"#, None).unwrap_err();
    assert_eq!(other, ImportError::OtherConnector("io.debezium.connector.oracle.OracleConnector".into()));
    assert!(matches!(debezium("{", None).unwrap_err(), ImportError::Read(_)));
}

/// The names that the original's connectors and its documentation have, one a line with the connector.
#[test]
fn every_documented_option_is_known() {
    let text = include_str!("../../tests/debezium/options.txt");
    let mut unknown = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (connector, name) = line.split_once(' ').unwrap();
        if find(name, connector == "postgres").is_none() {
            unknown.push(line);
        }
    }
    assert!(text.lines().count() > 250);
    assert!(unknown.is_empty(), "{unknown:#?}");
}

/// An option further up must not hide one further down.
#[test]
fn every_option_can_be_found() {
    for option in options::OPTIONS {
        let name = option.name.trim_end_matches('*');
        for postgres in [true, false] {
            let found = find(name, postgres);
            if matches!(
                (option.of, postgres),
                (options::Of::All, _) | (options::Of::Postgres, true) | (options::Of::Binlog, false)
            ) {
                assert_eq!(found.unwrap().name, option.name);
            }
        }
    }
}

#[test]
fn with_offsets_a_source_begins_where_the_connector_stopped() {
    let offsets = of_file(include_bytes!("../../tests/debezium/offsets/connect.dat")).unwrap();
    let mysql =
        "connector.class=io.debezium.connector.mysql.MySqlConnector\ntopic.prefix=recmy\nsnapshot.mode=initial\n";
    let imported = debezium(mysql, Some(&offsets)).unwrap();
    for line in ["start_at: \"7e6bf452-e9f1-11f1-95b8-02fc00000001:1-65 events 6 rows 1\"", "mode: never"] {
        assert!(has_line(&imported, line), "{line}\nis not in\n{}", imported.yaml);
    }
    let postgres =
        "connector.class=io.debezium.connector.postgresql.PostgresConnector\ntopic.prefix=recpg\nslot.name=recpg\n";
    let imported = debezium(postgres, Some(&offsets)).unwrap();
    for line in ["start_at: \"0/1945FF8 xid 747 to 0/1946288\"", "slot: recpg", "mode: never"] {
        assert!(has_line(&imported, line), "{line}\nis not in\n{}", imported.yaml);
    }
    let other = mysql.replace("recmy", "other");
    assert!(matches!(debezium(&other, Some(&offsets)).unwrap_err(), ImportError::Offset(_)));
}
