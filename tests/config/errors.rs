//! Mistakes and the messages that a user gets for them, in full.

use super::{Folder, SHOP, STOCK, shop_with};

/// The errors of one file `x.yaml`, without the last line (the count).
fn errors_of(text: &str) -> String {
    errors_with(text, &[])
}

fn errors_with(text: &str, variables: &[(&str, &str)]) -> String {
    let folder = Folder::new(&[("x.yaml", text)]);
    let shown = folder.errors(&folder.request(&["x.yaml"], variables));
    assert!(!shown.contains("hunter2"), "a secret is shown: {shown}");
    let (errors, count) = shown.rsplit_once('\n').unwrap();
    assert!(count.ends_with(if errors.contains('\n') { "configuration errors" } else { "1 configuration error" }));
    errors.to_owned()
}

/// Each mistake with the message that a user gets, in full.
#[test]
fn each_mistake_gets_its_place_what_is_allowed_and_the_nearest_name() {
    let cases: &[(&str, String, &str)] = &[
        (
            "misspelt key",
            shop_with("brokers:", "broker:"),
            "x.yaml:9:1: missing key `brokers` in `sink`; such as `brokers: kafka:9092`\n\
             x.yaml:11:3: unknown key `broker` in `sink`; did you mean `brokers`? allowed: type, brokers, topic, \
             properties, topics, tombstones",
        ),
        (
            "unknown key at the top",
            format!("{SHOP}zebra: 1\n"),
            "x.yaml:12:1: unknown key `zebra`; allowed: name, source, sink, format, debezium, flatten, delivery, memory, commit, backfill, on_gap, on_poison, on_table_failure, state_dir",
        ),
        (
            "key in the wrong section",
            shop_with("  brokers", "  tables: [a.b]\n  brokers"),
            "x.yaml:11:3: unknown key `tables` in `sink`; `tables` belongs in `source`; allowed: type, brokers, topic, \
             properties, topics, tombstones",
        ),
        (
            "dotted key",
            format!("{SHOP}memory.budget: 1MiB\n"),
            "x.yaml:12:1: unknown key `memory.budget`; write nested keys in lines of their own, indented; allowed: name, \
             source, sink, format, debezium, flatten, delivery, memory, commit, backfill, on_gap, on_poison, on_table_failure, state_dir",
        ),
        (
            "key of the shared file",
            format!("{SHOP}logging: {{level: info}}\n"),
            "x.yaml:12:1: `logging` belongs in the shared file, rowcast.yaml",
        ),
        (
            "key of another kind of source",
            STOCK.replace("  user", "  slot: s\n  user"),
            "x.yaml:5:3: `source.slot` means nothing here: it belongs to `type: postgres`, and this source has `type: mysql`",
        ),
        (
            "topic settings",
            format!(
                "{SHOP}  topics:\n    partitions: 0\n    create: maybe\n    rules:\n      - {{match: 'a b', partitoins: 3}}\n      - {{replication: x}}\n      \
                 - shop.*\n"
            ),
            "x.yaml:13:17: `sink.topics.partitions` is `0`: expected a whole number from 1 to 100000\n\
             x.yaml:14:13: `sink.topics.create` is `maybe`: allowed: true, false\n\
             x.yaml:16:17: `sink.topics.rules.match` is `a b`: ` ` is in no topic's name; allowed: letters, digits, . _ -, and the patterns * ?\n\
             x.yaml:16:24: unknown key `partitoins` in an entry of `sink.topics.rules`; did you mean `partitions`? allowed: match, partitions, replication, config\n\
             x.yaml:17:9: missing key `match` in `sink.topics.rules`; a topic's name, with * and ?\n\
             x.yaml:17:23: `sink.topics.rules.replication` is `x`: expected a whole number from 1 to 32767\n\
             x.yaml:18:9: `sink.topics.rules`: `shop.*` is no rule; expected a mapping such as {match: \"shop.*\", partitions: 12}",
        ),
        (
            "a mechanism that nobody has tried",
            format!("{SHOP}  properties: {{sasl.mechanism: OAUTHBEARER}}\n"),
            "x.yaml:12:16: `sasl.mechanism` is OAUTHBEARER, which isn't supported; PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 and client \
             certificates are",
        ),
        (
            "rotation",
            SHOP.replace(
                "  type: kafka\n  brokers: kafka:9092\n",
                "  type: file\n  path: x\n  rotate: {max_bytes: 10B, keep: 0}\n",
            ),
            "x.yaml:12:23: `sink.rotate.max_bytes` is `10B`: expected 1KiB to 1024GiB\n\
             x.yaml:12:34: `sink.rotate.keep` is `0`: expected a whole number from 1 to 10000",
        ),
        (
            "rotation without a size",
            SHOP.replace("  type: kafka\n  brokers: kafka:9092\n", "  type: file\n  path: x\n  rotate: {keep: 3}\n"),
            "x.yaml:12:3: missing key `max_bytes` in `sink.rotate`; such as `max_bytes: 100MiB`",
        ),
        (
            "duplicate key",
            shop_with("  user: cdc\n", "  user: cdc\n  user: other\n"),
            "x.yaml:7:3: duplicate key `user`; it is already set in line 6",
        ),
        (
            "misspelt type",
            shop_with("type: postgres", "type: postgress"),
            "x.yaml:3:9: `source.type` is `postgress`: did you mean `postgres`? allowed: postgres, mysql, mariadb",
        ),
        (
            "misspelt delivery",
            format!("{SHOP}delivery: exactly-once\n"),
            "x.yaml:12:11: `delivery` is `exactly-once`: did you mean `exactly_once`? allowed: exactly_once, at_least_once",
        ),
        (
            "a TLS mode of PostgreSQL",
            STOCK.replace("  user", "  tls: {mode: allow}\n  user"),
            "x.yaml:5:15: `source.tls.mode` is `allow`: that is PostgreSQL's alone: write `prefer`, which encrypts if the server can",
        ),
        (
            "a misspelt TLS mode of MySQL",
            STOCK.replace("  user", "  tls: {mode: VERIFY_IDENTITIES}\n  user"),
            "x.yaml:5:15: `source.tls.mode` is `VERIFY_IDENTITIES`: did you mean `verify_identity`? allowed: disable, prefer, require, verify-ca, verify-full, \
             disabled, preferred, required, verify_ca, verify_identity, verify-identity",
        ),
        (
            "a socket beside a host",
            STOCK.replace("  user", "  socket: /run/s.sock\n  user"),
            "x.yaml:4:3: `source.host` and `source.socket` exclude each other; remove one",
        ),
        (
            "a port of a socket, and TLS over it",
            STOCK.replace("host: db.internal", "socket: /run/s.sock\n  port: 1\n  tls: {mode: required}"),
            "x.yaml:5:3: `source.port` and `source.socket` exclude each other; remove one\n\
             x.yaml:6:9: `source.tls.mode` demands TLS, which isn't spoken on a Unix socket; remove it, or connect by `host`",
        ),
        (
            "compression",
            STOCK.replace(
                "  user",
                "  compression: lz4\n  cleartext_password: yes\n  server_public_key: /no/such.pem\n  user",
            ),
            "x.yaml:5:16: `source.compression` is `lz4`: allowed: none, zlib, zstd\n\
             x.yaml:6:23: `source.cleartext_password` is `yes`: allowed: true, false\n\
             x.yaml:7:22: `source.server_public_key`: can't read `/no/such.pem`: No such file or directory",
        ),
        (
            "compression of MySQL",
            STOCK.replace("type: mysql", "type: mariadb").replace("  user", "  compression: zstd\n  user"),
            "x.yaml:5:3: `source.compression` is `zstd`, which is MySQL's alone: write `zlib`",
        ),
        (
            "two passwords",
            shop_with("  user", "  password_command: [token]\n  user"),
            "x.yaml:6:3: `source.password_command` and `source.password` exclude each other; remove one",
        ),
        (
            "no program",
            shop_with("  password: hunter2", "  password_command: []"),
            "x.yaml:7:3: `source.password_command` names no program; expected [program, argument, ...]",
        ),
        (
            "one of several hosts of MySQL",
            STOCK.replace("host: ", "host: /run/mysqld,"),
            "x.yaml:4:9: `source.host` is `/run/mysqld,db.internal`: expected a host's name or address alone, or several of the form \
             host:port with commas between them",
        ),
        (
            "which of several hosts",
            shop_with("  user", "  target_session_attrs: master\n  slot_in_use: ignore\n  user"),
            "x.yaml:6:25: `source.target_session_attrs` is `master`: allowed: any, read-write, read-only, primary, standby, \
             prefer-standby\nx.yaml:7:16: `source.slot_in_use` is `ignore`: allowed: fail, wait",
        ),
        (
            "misspelt TLS mode",
            shop_with("  user", "  tls: {mode: verify_full}\n  user"),
            "x.yaml:6:15: `source.tls.mode` is `verify_full`: did you mean `verify-full`? allowed: disable, allow, \
             prefer, require, verify-ca, verify-full",
        ),
        (
            "no port number",
            shop_with("  user", "  port: 54320000\n  user"),
            "x.yaml:6:9: `source.port` is `54320000`: expected a number from 1 to 65535",
        ),
        (
            "port in the host",
            shop_with("db.internal", "db.internal:5432"),
            "x.yaml:4:9: `source.host` is `db.internal:5432`: expected a host's name or address alone; write the port as \
             `port: 5432`",
        ),
        (
            "duration without a unit",
            format!("{SHOP}commit: {{interval: 100}}\n"),
            "x.yaml:12:20: `commit.interval` is `100`: expected a duration with a unit, such as 500ms, 10s, 1m or 1h",
        ),
        (
            "duration out of range",
            format!("{SHOP}commit: {{interval: 1m}}\n"),
            "x.yaml:12:20: `commit.interval` is `1m`: expected 1ms to 10s",
        ),
        (
            "size with a wrong unit",
            format!("{SHOP}memory: {{budget: 32M}}\n"),
            "x.yaml:12:18: `memory.budget` is `32M`: expected a size with a unit, such as 16MiB (B, KB, MB, GB, KiB, MiB, \
             GiB)",
        ),
        (
            "size out of range",
            format!("{SHOP}memory: {{budget: 8MiB}}\ncommit: {{max_bytes: 16MiB}}\n"),
            "x.yaml:13:21: `commit.max_bytes` is `16MiB`: expected 64KiB to 8MiB (the memory budget)",
        ),
        (
            "misspelt backfill",
            format!("{SHOP}backfill: nevr\n"),
            "x.yaml:12:11: `backfill` is `nevr`: did you mean `never`? allowed: initial, never, initial_only",
        ),
        (
            "a table to copy without the brackets of a list",
            format!("{SHOP}backfill: public.orders\n"),
            "x.yaml:12:11: `backfill` is `public.orders`: allowed: initial, never, initial_only; or a list of tables: \
             [public.orders]",
        ),
        (
            "misspelt key of the backfill",
            format!("{SHOP}backfill: {{paralelism: 2}}\n"),
            "x.yaml:12:12: unknown key `paralelism` in `backfill`; did you mean `parallelism`? allowed: mode, tables, \
             rows_per_second, parallelism, chunk_rows, max_load, max_lag, max_lag_bytes",
        ),
        (
            "a replica to read from",
            format!("{SHOP}backfill: {{host: replica}}\n"),
            "x.yaml:12:12: `backfill.host` isn't supported: what a replica shows can't be compared with the primary's log: \
             PostgreSQL standbys don't say which transactions a snapshot sees, and a MySQL replica has a binlog of its own; \
             remove `backfill.host`",
        ),
        (
            "tables to copy that aren't captured, are patterns, or no tables, in short",
            format!(
                "{SHOP}backfill: [public.orders, public.items, public.customer_audit, public.*, x, public.orders]\n"
            ),
            "x.yaml:12:27: `backfill`: `public.items`: `source.tables` doesn't capture it; add it there, or take it out here\n\
             x.yaml:12:41: `backfill`: `public.customer_audit`: `source.tables` doesn't capture it; add it there, or take it \
             out here\n\
             x.yaml:12:64: `backfill`: `public.*`: expected the name of one table, not a pattern; write a name with * or ? in \
             double quotes: public.\"a*b\"\n\
             x.yaml:12:74: `backfill`: `x`: expected schema.table, such as public.orders or public.*\n\
             x.yaml:12:77: `backfill`: `public.orders` is there twice",
        ),
        (
            "entries of the tables to copy",
            format!(
                "{SHOP}backfill:\n  tables:\n  - {{tabel: public.orders}}\n  - {{table: public.customer_x, where: ' '}}\n  \
                 - {{table: public.orders, where: [a]}}\n  - public.orders\n"
            ),
            "x.yaml:14:5: missing key `table` in `backfill.tables`; such as {table: public.items, where: \"price > 0\"}\n\
             x.yaml:14:6: unknown key `tabel` in an entry of `backfill.tables`; did you mean `table`? allowed: table, where\n\
             x.yaml:15:39: `backfill.tables.where` is ` `: expected an SQL condition, such as \"price > 0\"\n\
             x.yaml:16:35: `backfill.tables.where` must be a single value, found a list\n\
             x.yaml:17:5: `backfill.tables`: `public.orders` is there twice",
        ),
        (
            "tables to copy and never",
            format!("{SHOP}backfill:\n  mode: never\n  tables: [public.orders]\n"),
            "x.yaml:14:3: `backfill.tables` means nothing with `mode: never`; leave one of them out",
        ),
        (
            "no table to copy",
            format!("{SHOP}backfill: []\n"),
            "x.yaml:12:1: `backfill` names no table; leave it out to copy all captured tables, or write `backfill: never`",
        ),
        (
            "limits of the backfill out of range",
            format!(
                "{SHOP}backfill:\n  mode: Never\n  rows_per_second: 0\n  parallelism: 17\n  chunk_rows: 1e3\n  max_load: 0\n  \
                 max_lag: 30\n  max_lag_bytes: 1KiB\n"
            ),
            "x.yaml:13:9: `backfill.mode` is `Never`: did you mean `never`? allowed: initial, never, initial_only\n\
             x.yaml:14:20: `backfill.rows_per_second` is `0`: expected a whole number from 1 to 1000000000\n\
             x.yaml:15:16: `backfill.parallelism` is `17`: expected a whole number from 1 to 16\n\
             x.yaml:16:15: `backfill.chunk_rows` is `1e3`: expected a whole number from 1 to 10000000\n\
             x.yaml:17:13: `backfill.max_load` is `0`: expected a share from 0.01 to 1, such as 0.5\n\
             x.yaml:18:12: `backfill.max_lag` is `30`: expected a duration with a unit, such as 500ms, 10s, 1m or 1h\n\
             x.yaml:19:18: `backfill.max_lag_bytes` is `1KiB`: expected 1MiB to 1024GiB",
        ),
        (
            "bad name",
            shop_with("name: shop", "name: My Shop"),
            "x.yaml:1:7: `name` is `My Shop`: expected letters a-z, digits, _ and -, at most 50, a letter or digit first",
        ),
        (
            "bad pattern",
            shop_with("public.orders,", "orders,"),
            "x.yaml:8:12: `source.tables`: `orders`: expected schema.table, such as public.orders or public.*",
        ),
        (
            "exclusions only",
            STOCK.replace("[stock.*]", "[\"!stock.x\"]"),
            "x.yaml:6:12: `source.tables` captures nothing: expected at least one pattern without `!`, such as public.*",
        ),
        (
            "a value in place of a list",
            STOCK.replace("[stock.*]", "stock.*"),
            "x.yaml:6:11: `source.tables` must be a list such as [a, b], found a single value",
        ),
        (
            "a list in place of a value",
            shop_with("host: db.internal", "host: [db.internal]"),
            "x.yaml:4:9: `source.host` must be a single value, found a list",
        ),
        (
            "a value in place of a section",
            shop_with("  user", "  tls: require\n  user"),
            "x.yaml:6:8: `source.tls` must be a mapping with keys of its own, found a single value",
        ),
        (
            "a mapping in place of a secret",
            shop_with("hunter2", "{a: hunter2}"),
            "x.yaml:7:13: `source.password` must be a single value, found a mapping; put a text with { } in quotes",
        ),
        (
            "a template without quotes",
            shop_with("  brokers", "  topic: {table}\n  brokers"),
            "x.yaml:11:10: `sink.topic` must be a single value, found a mapping; put a text with { } in quotes",
        ),
        (
            "unknown placeholder",
            shop_with("  brokers", "  topic: \"{name}.{tabel}\"\n  brokers"),
            "x.yaml:11:10: `sink.topic` is `{name}.{tabel}`: unknown placeholder `{tabel}`; did you mean `table`? allowed: \
             name, db, schema, table",
        ),
        ("no value", shop_with("host: db.internal", "host:"), "x.yaml:4:3: `source.host` has no value"),
        (
            "no boolean",
            shop_with("  brokers", "  tombstones: yes\n  brokers"),
            "x.yaml:11:15: `sink.tombstones` is `yes`: allowed: true, false",
        ),
        (
            "properties of the guarantees",
            shop_with("  brokers", "  properties:\n    transactional.id: x\n    acks: 1\n    group.id: g\n  brokers"),
            "x.yaml:12:5: `transactional.id` can't be set in `sink.properties`: it is made from the source's name, so that \
             a new daemon fences the older one\n\
             x.yaml:13:5: `acks` can't be set in `sink.properties`: the guarantees need all replicas' acknowledgement; it \
             is always `all`\n\
             x.yaml:14:5: `group.id` can't be set in `sink.properties`: Rowcast is no member of a consumer group; it reads \
             its own checkpoint only",
        ),
        (
            "exactly once into a file",
            shop_with("  type: kafka\n  brokers: kafka:9092", "  type: file\n  path: x.jsonl")
                + "delivery: exactly_once\n",
            "x.yaml:12:11: `delivery` is `exactly_once`, which a sink of `type: file` can't give: it has no transactions \
             that hold the events and the position together; write at_least_once, or leave the key out",
        ),
        (
            "missing variable",
            shop_with("hunter2", "${SHOP_PASSWRD}"),
            "x.yaml:7:13: `source.password`: environment variable `SHOP_PASSWRD` is not set",
        ),
        (
            "missing secret file",
            shop_with("hunter2", "${file:/no/such/file}"),
            "x.yaml:7:13: `source.password`: can't read the secret file `/no/such/file`: No such file or directory",
        ),
        (
            "missing certificate",
            shop_with("  user", "  tls: {ca: /no/such.pem, cert: /dev}\n  user"),
            "x.yaml:6:3: missing key `key` in `source.tls`; `cert` and `key` belong together\n\
             x.yaml:6:13: `source.tls.ca`: can't read `/no/such.pem`: No such file or directory\n\
             x.yaml:6:33: `source.tls.cert`: can't read `/dev`: it is a folder",
        ),
        (
            "tab",
            shop_with("  type: postgres", "\ttype: postgres"),
            "x.yaml:3:2: invalid YAML: tabs disallowed within this context (block indentation); indent with spaces",
        ),
        (
            "unclosed bracket",
            STOCK.replace("[stock.*]", "[stock.*"),
            "x.yaml:7:5: invalid YAML: illegal placement of ':' indicator",
        ),
        ("unclosed quote", STOCK.replace("kafka:9092", "'kafka:9092"), "x.yaml:9:12: invalid YAML: unclosed quote"),
        (
            "a secret that YAML takes for an alias",
            shop_with("hunter2", "*hunter2"),
            "x.yaml:7:13: a value that begins with `*` is a YAML alias, and no anchor has this name; put the value in quotes",
        ),
        (
            "a secret that YAML takes for a tag",
            shop_with("hunter2", "!hunter2"),
            "x.yaml:7:13: a value that begins with `!` is a YAML tag, and tags aren't used here; put the value in quotes",
        ),
        (
            "a forgotten colon before a secret",
            STOCK.replace("  user: cdc\n", "  user: cdc\n  ? password hunter2\n"),
            "x.yaml:6:5: unknown key `password …` in `source`; a colon and a blank belong behind the key; allowed: type, \
             host, port, socket, target_session_attrs, user, password, password_command, tls, tables, spill_limit, \
             server_public_key, cleartext_password, compression, server_id, include_query, start_at, connect_timeout, read_timeout",
        ),
        (
            "a URL with a secret as the host",
            shop_with("db.internal", "postgres://cdc:hunter2@db/shop"),
            "x.yaml:4:9: `source.host` is `…@db/shop`: expected a host's name or address alone",
        ),
        (
            "merge key",
            format!("x: &x {{a: b}}\n{SHOP}<<: *x\n"),
            "x.yaml:1:1: unknown key `x`; allowed: name, source, sink, format, debezium, flatten, delivery, memory, commit, backfill, on_gap, on_poison, on_table_failure, state_dir\n\
             x.yaml:13:1: unknown key `<<`; YAML merge keys aren't supported, what sources share belongs in rowcast.yaml; \
             allowed: name, source, sink, format, debezium, flatten, delivery, memory, commit, backfill, on_gap, on_poison, on_table_failure, state_dir",
        ),
        (
            "options of a format that isn't chosen",
            format!("{SHOP}debezium: {{exact: false}}\n"),
            "x.yaml:12:1: `debezium` means nothing here: events are written in our own format; write `format: debezium`, or remove the section",
        ),
        (
            "Debezium's options",
            format!(
                "{SHOP}format: debezium\ndebezium:\n  exact: maybe\n  topic_prefix: 'a b'\n  decimal_handling_mode: precice\n  skipped_operations: 'c,x'\n  \
                 message_key_columns: orders\n  snapshot_mode: initial\n  heartbeat_interval_ms: soon\n  heartbeat_action_query: x\n  unavailable: x\n"
            ),
            "x.yaml:14:10: `debezium.exact` is `maybe`: allowed: true, false\n\
             x.yaml:15:17: `debezium.topic_prefix` is `a b`: expected letters, digits, . _ -, at most 200\n\
             x.yaml:16:26: `debezium.decimal_handling_mode` is `precice`: did you mean `precise`? allowed: precise, double, string\n\
             x.yaml:17:23: `debezium.skipped_operations` is `c,x`: allowed: c, u, d, t, none\n\
             x.yaml:18:24: `debezium.message_key_columns` is `orders`: expected table:column,column, several separated by `;`, such as public.orders:tenant,id\n\
             x.yaml:19:3: `debezium.snapshot_mode` isn't supported: which rows are copied is said by `backfill`; remove `debezium.snapshot_mode`\n\
             x.yaml:20:26: `debezium.heartbeat_interval_ms` is `soon`: expected milliseconds, a whole number from 0 (never) to 86400000\n\
             x.yaml:21:3: `debezium.heartbeat_action_query` isn't supported: nothing is written to the source: positions are committed without events, so that \
             neither a slot nor a checkpoint stays behind while the captured tables are idle; remove `debezium.heartbeat_action_query`\n\
             x.yaml:22:3: unknown key `unavailable` in `debezium`; allowed: exact, topic_prefix, key_schemas_enable, value_schemas_enable, value_replace_null_with_default, extended_headers_enabled, tombstones_on_delete, decimal_handling_mode, time_precision_mode, binary_handling_mode, bigint_unsigned_handling_mode, interval_handling_mode, hstore_handling_mode, money_fraction_digits, unavailable_value_placeholder, skipped_operations, schema_name_adjustment_mode, field_name_adjustment_mode, provide_transaction_metadata, topic_transaction, heartbeat_interval_ms, topic_heartbeat_prefix, topic_heartbeat_name, message_key_columns, column_include_list, column_exclude_list, column_truncate_to_chars, column_mask_with_chars, column_mask_hash, column_mask_hash_v2, column_propagate_source_type, datatype_propagate_source_type, skip_messages_without_change, topic_delimiter",
        ),
        (
            "a place to begin at that is another database's",
            STOCK.replace("  user: cdc\n", "  user: cdc\n  start_at: 0/16B3748\n"),
            "x.yaml:6:13: `source.start_at` is `0/16B3748`: `0/16B3748` is not of the form uuid:1-5:7",
        ),
        (
            "a place to begin at with a part that isn't one",
            SHOP.replace("  user: cdc\n", "  user: cdc\n  start_at: 0/16B3748 xid -1 to 0/16B3900\n"),
            "x.yaml:7:13: `source.start_at` is `0/16B3748 xid -1 to 0/16B3900`: `-1` is not a number that can stand there",
        ),
        (
            "options of columns",
            format!(
                "{SHOP}format: debezium\ndebezium:\n  column_include_list: 'a.b.c'\n  column_exclude_list: 'a(?=b)'\n  column_truncate_to_chars: {{ten: 'a.b.c'}}\n  \
                 column_mask_hash: {{CRC.with.salt.hunter2: '('}}\n  topic_delimiter: ' '\n"
            ),
            "x.yaml:15:24: `debezium.column_exclude_list` is `a(?=b)`: `a(?=b)` is no regular expression that is understood: look-around, including look-ahead and look-behind, is not supported\n\
             x.yaml:16:30: `debezium.column_truncate_to_chars`: `ten` is no number of characters; expected {10: expressions of columns}\n\
             x.yaml:17:22: `debezium.column_mask_hash`: `CRC` is no algorithm that is known; allowed: MD5, SHA-1, SHA, SHA-224, SHA-256, SHA-384, SHA-512, SHA-512/256\n\
             x.yaml:17:45: `debezium.column_mask_hash`: `(` is no regular expression that is understood: unclosed group\n\
             x.yaml:18:20: `debezium.topic_delimiter` is ` `: expected letters, digits, . _ -, at most 10",
        ),
        (
            "columns that are chosen twice",
            format!(
                "{SHOP}format: debezium\ndebezium:\n  column_include_list: 'a.b.c'\n  column_exclude_list: 'a.b.d'\n"
            ),
            "x.yaml:15:3: `column_include_list` and `column_exclude_list` exclude each other; remove one of them",
        ),
        (
            "parts of events that there aren't",
            format!(
                "{SHOP}flatten:\n  delete_tombstone_handling_mode: none\n  add_fields: [op, lsn]\n  add_headers: [op, op]\n"
            ),
            "x.yaml:13:35: `flatten.delete_tombstone_handling_mode` is `none`: allowed: tombstone, drop, rewrite, rewrite-with-tombstone, delete-to-tombstone\n\
             x.yaml:14:20: `flatten.add_fields` has `lsn`: allowed: op, id, absent, name, kind, db, schema, table, tx, seq, pos, ts_us, snapshot, query\n\
             x.yaml:15:21: `flatten.add_headers` has `op`: `__op` is there twice; another name is written behind a colon, such as op:operation",
        ),
        (
            "a mode that the binlog connectors don't have",
            format!("{STOCK}format: debezium\ndebezium: {{time_precision_mode: adaptive}}\n"),
            "x.yaml:11:12: `debezium.time_precision_mode` is `adaptive`, which the original doesn't take for MySQL and MariaDB; write \
             adaptive_time_microseconds",
        ),
        ("empty file", "# nothing\n".to_owned(), "x.yaml: the file is empty; it needs `name`, `source` and `sink`"),
        (
            "no mapping",
            "- a\n".to_owned(),
            "x.yaml:1:1: expected a mapping with keys such as `source:` and `sink:`, found a list",
        ),
        (
            "two documents",
            format!("{SHOP}---\n{STOCK}"),
            "x.yaml:12:1: more than one YAML document; write one file per source",
        ),
        (
            "all required keys missing",
            "sink: {type: kafka}\nsource: {type: postgres}\n".to_owned(),
            "x.yaml:1:1: missing key `brokers` in `sink`; such as `brokers: kafka:9092`\n\
             x.yaml:1:1: missing key `name`; it names the checkpoint and the transactional id\n\
             x.yaml:2:1: missing key `database` in `source`; PostgreSQL replicates one database\n\
             x.yaml:2:1: missing key `host` in `source`\n\
             x.yaml:2:1: missing key `tables` in `source`; such as `tables: [public.orders, public.customer_*]`\n\
             x.yaml:2:1: missing key `user` in `source`",
        ),
        (
            "missing sections",
            "name: x\n".to_owned(),
            "x.yaml:1:1: missing key `source`; the database to read changes from\n\
             x.yaml:1:1: missing key `type` in `sink`; allowed: kafka, stdout, file",
        ),
        (
            "several at once",
            "name: Shop\nsuorce: {}\nsource:\n  type: mysql\n  host: a b\n  port: x\n  user: cdc\n  tables: [a]\n  \
             read_timeout: 5\nsink:\n  type: kafak\n"
                .to_owned(),
            "x.yaml:1:7: `name` is `Shop`: expected letters a-z, digits, _ and -, at most 50, a letter or digit first\n\
             x.yaml:2:1: unknown key `suorce`; did you mean `source`? allowed: name, source, sink, format, debezium, flatten, delivery, memory, commit, \
             backfill, on_gap, on_poison, on_table_failure, state_dir\n\
             x.yaml:5:9: `source.host` is `a b`: expected a host's name or address alone\n\
             x.yaml:6:9: `source.port` is `x`: expected a number from 1 to 65535\n\
             x.yaml:8:12: `source.tables`: `a`: expected schema.table, such as public.orders or public.*\n\
             x.yaml:9:17: `source.read_timeout` is `5`: expected a duration with a unit, such as 500ms, 10s, 1m or 1h\n\
             x.yaml:11:9: `sink.type` is `kafak`: did you mean `kafka`? allowed: kafka, stdout, file",
        ),
    ];
    let mut wrong = String::new();
    for (what, text, expected) in cases {
        let found = errors_of(text);
        if found != *expected {
            wrong.push_str(&format!("--- {what}\nfound:\n{found}\nexpected:\n{expected}\n\n"));
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn wrong_variables_are_named_as_the_place() {
    let cases: &[(&[(&str, &str)], &str)] = &[
        (
            &[("ROWCAST__SINK__BROKER", "x:1")],
            "environment variable ROWCAST__SINK__BROKER: no configuration key has this name; did you mean \
             `ROWCAST__SINK__BROKERS`?",
        ),
        (
            &[("ROWCAST__SOURCE__PORT", "x")],
            "environment variable ROWCAST__SOURCE__PORT: `source.port` is `x`: expected a number from 1 to 65535",
        ),
        (
            &[("ROWCAST__SOURCE__TABLES", "public.a, b")],
            "environment variable ROWCAST__SOURCE__TABLES: `source.tables`: `b`: expected schema.table, such as \
             public.orders or public.*",
        ),
        (
            &[("ROWCAST__SINK__PROPERTIES__GROUP_ID", "g")],
            "environment variable ROWCAST__SINK__PROPERTIES__GROUP_ID: `group.id` can't be set in `sink.properties`: \
             Rowcast is no member of a consumer group; it reads its own checkpoint only",
        ),
        (
            &[("ROWCAST__SOURCE__SERVER_ID", "5")],
            "environment variable ROWCAST__SOURCE__SERVER_ID: applies to none of the sources: `source.server_id` belongs \
             to `type: mysql` or `type: mariadb`",
        ),
        (
            &[("ROWCAST__SOURCE__PASSWORD", "${NOT_SET}")],
            "environment variable ROWCAST__SOURCE__PASSWORD: `source.password`: environment variable `NOT_SET` is not set",
        ),
        (
            &[("ROWCAST__BACKFILL", "nver")],
            "environment variable ROWCAST__BACKFILL: `backfill.mode` is `nver`: did you mean `never`? allowed: initial, \
             never, initial_only",
        ),
        (
            &[("ROWCAST__BACKFILL", "public.orders,public.items")],
            "environment variable ROWCAST__BACKFILL: `backfill.tables`: `public.items`: `source.tables` doesn't capture it; \
             add it there, or take it out here",
        ),
        (
            &[("ROWCAST__BACKFILL", "never"), ("ROWCAST__BACKFILL__MODE", "initial")],
            "environment variable ROWCAST__BACKFILL__MODE: sets `backfill.mode`, as ROWCAST__BACKFILL does; remove one of \
             them",
        ),
        (
            &[("ROWCAST__BACKFILL__HOST", "replica")],
            "environment variable ROWCAST__BACKFILL__HOST: `backfill.host` isn't supported: what a replica shows can't be \
             compared with the primary's log: PostgreSQL standbys don't say which transactions a snapshot sees, and a MySQL \
             replica has a binlog of its own; remove `backfill.host`",
        ),
        (
            &[("ROWCAST__LOGGING__LEVEL", "loud")],
            "environment variable ROWCAST__LOGGING__LEVEL: `logging.level` is `loud`: allowed: off, error, warn, info, \
             debug, trace; or by module: info,rowcast_mysql=debug",
        ),
    ];
    for (variables, expected) in cases {
        assert_eq!(errors_with(SHOP, variables), *expected);
    }
}
