//! Whole events, byte by byte.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;

use rowcast_core::{
    Bump, Column, ColumnDefault, ColumnFacts, Date, DateTime, DecodeError, DefaultValue, Gtid, Image, Lsn, Mark, Op,
    PgType, Place, RowDecoder, Table, TableName, Transaction, TransactionFacts, Type, Value,
};

use super::*;
use crate::backfill::markers::Marker;
use crate::config::{DeleteMode, FlattenConfig};
use crate::format::ReadAt;

/// Reads the texts of DEFAULTs.
#[derive(Debug)]
struct Texts;

impl RowDecoder for Texts {
    fn decode<'a>(&'a self, _: &'a [u8], _: Image, _: &'a Bump, _: &mut Vec<Value<'a>>) -> Result<(), DecodeError> {
        Err(DecodeError::row("no rows"))
    }

    fn literals(&self, _: &[u8], _: Image, _: &[usize]) -> Option<Vec<String>> {
        None
    }

    fn text_value<'a>(&'a self, column: usize, _: &Type, text: &'a str, _: &'a Bump) -> Option<Value<'a>> {
        Some(if column == 0 { Value::Int(text.parse().ok()?) } else { Value::Decimal(text) })
    }
}

fn pg_type(name: &str) -> PgType {
    let (schema, name) = ("pg_catalog".to_owned(), name.to_owned());
    PgType { oid: 0, schema, name, typmod: -1, kind: 'b', base: None, element: None }
}

fn column(name: &str, ty: Type, native: &str, nullable: bool) -> Column {
    let facts = Some(Box::new(ColumnFacts { pg: Some(pg_type(native)), ..ColumnFacts::default() }));
    Column { name: name.to_owned(), ty, native: native.to_owned(), nullable: Some(nullable), facts }
}

/// `id int4 primary key, price numeric(10,2) default 0.00, note text not null, at timestamptz`
fn orders(schema: Option<&str>) -> Table {
    let db = if schema.is_some() { "shop" } else { "stock" };
    let name = TableName { db: Arc::from(db), schema: schema.map(Arc::from), table: Arc::from("orders") };
    let mut price = column("price", Type::Decimal { precision_scale: Some((10, 2)) }, "numeric", true);
    if let Some(facts) = &mut price.facts {
        let value = DefaultValue::Constant("0.00".to_owned());
        facts.default = Some(ColumnDefault { sql: "0.00".to_owned(), value });
    }
    let columns = vec![
        column("id", Type::Int { bits: 32, unsigned: false }, "int4", false),
        price,
        column("note", Type::Text, "text", false),
        column("at", Type::Instant { digits: 6 }, "timestamptz", true),
    ];
    Table::new(name, columns, vec![0], Box::new(Texts))
}

fn config(kind: &str, schemas: bool) -> DebeziumConfig {
    DebeziumConfig { key_schemas: schemas, value_schemas: schemas, ..DebeziumConfig::defaults("p", kind) }
}

fn transaction(mark: Mark, facts: TransactionFacts) -> Transaction {
    Transaction {
        id: mark.to_string(),
        xid: matches!(mark, Mark::Lsn(_)).then_some(771),
        pos: mark.to_string(),
        mark,
        commit_us: 1_760_000_000_123_456,
        facts,
    }
}

/// The text with the clock's times replaced.
fn masked(text: &[u8]) -> String {
    let text = String::from_utf8(text.to_vec()).unwrap();
    let end = text.rfind(",\"ts_ms\":").unwrap();
    let times: serde_json::Value =
        serde_json::from_str(&format!("{{{}", text[end + 1..].trim_end_matches('}').to_owned() + "}")).unwrap();
    assert_eq!(times["ts_us"].as_i64().unwrap() / 1_000, times["ts_ms"].as_i64().unwrap());
    assert_eq!(times["ts_ns"].as_i64().unwrap() / 1_000, times["ts_us"].as_i64().unwrap());
    text[..end].to_owned()
}

fn event(
    codec: &Codec,
    table: &Table,
    from: &TransactionText,
    op: Op,
    rows: [Option<&[Value<'_>]>; 2],
    at: Place,
) -> String {
    let [before, after] = rows;
    let table = TableText::new(codec, table);
    let mut out = table.head().to_vec();
    let it = RowEvent { op, seq: 1, place: at, order: None, id_suffix: "", before, after };
    table.event(&mut out, from, &it);
    masked(&out)
}

const AT: Value<'static> =
    Value::Instant(DateTime { date: Date { year: 2026, month: 1, day: 2 }, micros: 11_045_678_901, digits: 6 });

fn postgres(config: &DebeziumConfig) -> (Codec, TransactionText) {
    let codec = Codec::new(config, "postgres", "shop");
    let facts = TransactionFacts { before: Some(Lsn(24_023_119)), ..TransactionFacts::default() };
    let mut text = TransactionText::new(&codec);
    text.begin(&codec, &transaction(Mark::Lsn(Lsn(24_023_200)), facts));
    (codec, text)
}

const SOURCE: &str = concat!(
    r#""source":{"version":"3.6.0.Final","connector":"postgresql","name":"p","ts_ms":1760000000123,"snapshot":"false","db":"shop","#,
    r#""sequence":"[\"24023119\",\"24023128\"]","ts_us":1760000000123456,"ts_ns":1760000000123456000,"schema":"public","#,
    r#""table":"orders","txId":771,"lsn":24023128,"xmin":null,"origin":null,"origin_lsn":null},"transaction":null,"op":"#
);

fn at(at: u64) -> Place {
    Place { at, ..Place::default() }
}

#[test]
fn an_event_of_postgres_is_the_originals() {
    let (codec, text) = postgres(&config("postgres", false));
    let after = [Value::Int(1), Value::Decimal("12.50"), Value::Text("a\u{1f}\"b\""), AT];
    assert_eq!(
        event(&codec, &orders(Some("public")), &text, Op::Insert, [None, Some(&after)], at(24_023_128)),
        format!(
            "{}{SOURCE}\"c\"",
            r#"{"before":null,"after":{"id":1,"price":"BOI=","note":"a\u001F\"b\"","at":"2026-01-02T03:04:05.678901Z"},"#
        )
    );
    let mut key = Vec::new();
    TableText::new(&codec, &orders(Some("public"))).key(&mut key, [(0, Value::Int(1))].into_iter());
    assert_eq!(key, br#"{"id":1}"#);
}

#[test]
fn what_an_image_lacks_is_what_the_original_has_only_where_a_schema_demands_it() {
    let before = [Value::Int(1), Value::Absent, Value::Absent, Value::Absent];
    let (null, unavailable) = (
        [Value::Int(1), Value::Null, Value::Text(""), Value::Null],
        [Value::Int(1), Value::Absent, Value::Absent, Value::Absent],
    );
    let rows = |exact, schemas| {
        let (codec, text) = postgres(&DebeziumConfig { exact, ..config("postgres", schemas) });
        let of = |op, rows| {
            let shown = event(&codec, &orders(Some("public")), &text, op, rows, at(1));
            let from = shown.find("{\"before\":").unwrap();
            shown[from..shown.find(",\"source\":{\"version").unwrap()].to_owned()
        };
        [
            of(Op::Delete, [Some(&before), None]),
            of(Op::Insert, [None, Some(&null)]),
            of(Op::Update, [None, Some(&unavailable)]),
        ]
    };
    let missing = |note| format!(r#"{{"before":{{"id":1,"price":null,"note":{note},"at":null}},"after":null"#);
    let null = |price| format!(r#"{{"before":null,"after":{{"id":1,"price":{price},"note":"","at":null}}"#);
    let unavailable = r#"{"before":null,"after":{"id":1,"price":null,"note":"__debezium_unavailable_value","at":"__debezium_unavailable_value"}"#;
    assert_eq!(rows(true, false), [missing("null"), null("null"), unavailable.to_owned()]);
    assert_eq!(rows(true, true), [missing("\"\""), null("null"), unavailable.to_owned()]);
    let theirs = rows(false, true);
    assert_eq!(theirs[0], r#"{"before":{"id":1,"price":"AA==","note":"","at":null},"after":null"#);
    assert_eq!(theirs[1], null("\"AA==\""));
}

#[test]
fn schemas_are_prepared_and_name_the_topic() {
    let (codec, text) = postgres(&config("postgres", true));
    let after = [Value::Int(1), Value::Null, Value::Text(""), Value::Null];
    let shown = event(&codec, &orders(Some("public")), &text, Op::Read, [None, Some(&after)], at(1));
    let row = concat!(
        r#"{"type":"struct","fields":[{"type":"int32","optional":false,"field":"id"},{"type":"bytes","optional":true,"#,
        r#""name":"org.apache.kafka.connect.data.Decimal","version":1,"parameters":{"scale":"2","connect.decimal.precision":"10"},"#,
        r#""default":"AA==","field":"price"},{"type":"string","optional":false,"field":"note"},{"type":"string","optional":true,"#,
        r#""name":"io.debezium.time.ZonedTimestamp","version":1,"field":"at"}],"optional":true,"name":"p.public.orders.Value","field":"#
    );
    let head = format!(
        r#"{{"schema":{{"type":"struct","fields":[{row}"before"}},{row}"after"}},{{"type":"struct","fields":["#
    );
    assert!(shown.starts_with(&head), "{shown}");
    let tail = concat!(
        r#""name":"event.block","version":1,"field":"transaction"},{"type":"string","optional":false,"field":"op"},"#,
        r#"{"type":"int64","optional":true,"field":"ts_ms"},{"type":"int64","optional":true,"field":"ts_us"},"#,
        r#"{"type":"int64","optional":true,"field":"ts_ns"}],"optional":false,"name":"p.public.orders.Envelope","version":2},"payload":{"before":null"#
    );
    assert!(shown.contains(tail), "{shown}");
    let mut key = Vec::new();
    TableText::new(&codec, &orders(Some("public"))).key(&mut key, [(0, Value::Int(1))].into_iter());
    assert_eq!(
        String::from_utf8(key).unwrap(),
        concat!(
            r#"{"schema":{"type":"struct","fields":[{"type":"int32","optional":false,"field":"id"}],"optional":false,"#,
            r#""name":"p.public.orders.Key"},"payload":{"id":1}}"#
        )
    );
}

#[test]
fn an_event_of_mysql_has_its_place_in_the_binlog() {
    let codec = Codec::new(&config("mysql", false), "mysql", "");
    let uuid = rowcast_core::gtid::parse_uuid("3e11fa47-71ca-11e1-9e33-c80aa9429562").unwrap();
    let gtid = Gtid { origin: rowcast_core::gtid::Origin { uuid, tag: String::new() }, number: 27 };
    let facts = TransactionFacts {
        file: Some(Arc::from("binlog.000003")),
        server_id: 223_344,
        thread: Some(7),
        ..TransactionFacts::default()
    };
    let mut text = TransactionText::new(&codec);
    text.begin(&codec, &transaction(Mark::Gtid(gtid), facts));
    text.statement(Some(b"insert"));
    let after = [Value::Int(1), Value::Null, Value::Text("x"), Value::Null];
    let place = Place { at: 484, row: 2, seconds: 1_760_000_000 };
    assert_eq!(
        event(&codec, &orders(None), &text, Op::Insert, [None, Some(&after)], place),
        concat!(
            r#"{"before":null,"after":{"id":1,"price":null,"note":"x","at":null},"#,
            r#""source":{"version":"3.6.0.Final","connector":"mysql","name":"p","ts_ms":1760000000123,"snapshot":"false","db":"stock","#,
            r#""sequence":null,"ts_us":1760000000123456,"ts_ns":1760000000123456000,"table":"orders","server_id":223344,"#,
            r#""gtid":"3e11fa47-71ca-11e1-9e33-c80aa9429562:27","file":"binlog.000003","pos":484,"row":2,"thread":7,"query":"insert"},"#,
            r#""transaction":null,"op":"c""#
        )
    );
    text.read(&codec, ReadAt { pos: "", log: ("binlog.000004", 157), xid: None, now_us: 1_760_000_001_000_999 });
    let shown = event(&codec, &orders(None), &text, Op::Read, [None, Some(&after)], Place::default());
    assert!(shown.contains(r#""ts_ms":1760000001000,"snapshot":"true","db":"stock""#), "{shown}");
    assert!(
        shown.contains(
            r#""server_id":0,"gtid":null,"file":"binlog.000004","pos":157,"row":0,"thread":null,"query":null}"#
        ),
        "{shown}"
    );
}

#[test]
fn a_message_is_an_event_of_its_own_form() {
    let (codec, text) = postgres(&config("postgres", false));
    let mut out = Vec::new();
    let middle = codec.message(&mut out, &text, (at(5), None), b"outbox", b"\x00\x01");
    assert_eq!(&out[..middle], br#"{"prefix":"outbox"}"#);
    let value: serde_json::Value = serde_json::from_slice(&out[middle..]).unwrap();
    let names: Vec<&String> = value.as_object().unwrap().keys().collect();
    assert_eq!(names.len(), 5);
    assert_eq!(value["op"], "m");
    assert_eq!(value["source"]["lsn"], 5);
    assert_eq!(value["source"]["table"], "");
    assert_eq!(value["message"]["content"], "AAE=");
    let (with_schemas, text) = postgres(&config("postgres", true));
    out.clear();
    let middle = with_schemas.message(&mut out, &text, (at(5), None), b"outbox", b"");
    for part in [&out[..middle], &out[middle..]] {
        let part: serde_json::Value = serde_json::from_slice(part).unwrap();
        assert!(part["schema"]["name"].as_str().unwrap().starts_with("io.debezium.connector.postgresql.Message"));
        assert!(part["payload"].is_object());
    }
}

#[test]
fn an_event_can_be_taken_apart_again() {
    let (codec, text) = postgres(&config("postgres", true));
    // what rows hold can't be taken for the envelope's own words
    let odd = Value::Text(r#","source":{},"transaction":null,"op":"x""#);
    let after = [Value::Int(1), Value::Null, odd, Value::Null];
    let mut out = Vec::new();
    let it = RowEvent {
        op: Op::Insert,
        seq: 1,
        place: at(7),
        order: None,
        id_suffix: "",
        before: None,
        after: Some(&after),
    };
    TableText::new(&codec, &orders(Some("public"))).event(&mut out, &text, &it);
    let (source, op) = parts_of(&out).unwrap();
    let source: serde_json::Value = serde_json::from_slice(source).unwrap();
    assert_eq!((source["lsn"].as_i64(), op), (Some(7), b"c".as_slice()));
    assert_eq!(parts_of(b"{}"), None);
}

#[test]
fn a_schema_is_kept_once_and_not_with_each_value() {
    let (codec, text) = postgres(&config("postgres", true));
    let table = TableText::new(&codec, &orders(Some("public")));
    let row = [Value::Int(1), Value::Null, Value::Text("x"), Value::Null];
    let mut out = Vec::new();
    let it = crate::format::json::read_row(1, &row);
    assert_eq!(table.event(&mut out, &text, &it), Written::Headless);
    assert!(out.len() < table.head().len() / 4, "{} bytes, and {} of schema", out.len(), table.head().len());
    let whole: serde_json::Value = serde_json::from_slice(&[table.head(), &out].concat()).unwrap();
    assert_eq!((&whole["schema"]["type"], &whole["payload"]["after"]["note"]), (&"struct".into(), &"x".into()));
    let record = Record { value: Some(0..out.len()), head: table.head().len() as u32, ..Record::default() };
    assert_eq!(record.size(), table.head().len() + out.len());
}

#[test]
fn a_key_is_that_of_the_configuration_if_there_is_one() {
    let key_columns = crate::config::parse_key_columns("public.(.*):note,id;other.*:x").unwrap();
    let config = DebeziumConfig { key_columns, ..config("postgres", false) };
    let (codec, _) = postgres(&config);
    assert_eq!(codec.key_of(&orders(Some("public"))), Some(vec![2, 0]));
    assert_eq!(codec.key_of(&orders(None)), None);
}

#[test]
fn events_are_numbered_in_their_transaction() {
    let (codec, text) = postgres(&DebeziumConfig { transaction_metadata: true, ..config("postgres", false) });
    let (orders, other) =
        (orders(Some("public")).name, TableName { db: "d".into(), schema: Some("s".into()), table: "t".into() });
    let mut counts = Counts::default();
    counts.begin("0/1");
    assert!(counts.begins() && !counts.begins());
    assert_eq!([counts.next(&orders), counts.next(&other), counts.next(&orders)], [[1, 1], [2, 1], [3, 2]]);
    // it goes on in another batch
    counts.begin("0/1");
    assert_eq!(counts.next(&other), [4, 2]);
    let mut out = Vec::new();
    let value = codec.transaction_begin(&mut out, &text, 24_023_128);
    assert_eq!(&out[..value], br#"{"id":"771:24023128"}"#);
    assert_eq!(
        String::from_utf8_lossy(&out[value..]),
        r#"{"status":"BEGIN","id":"771:24023128","event_count":null,"data_collections":null,"ts_ms":1760000000123}"#
    );
    assert!(counts.ends());
    out.clear();
    let value = codec.transaction_end(&mut out, &text, 24_023_200, &counts);
    assert_eq!(
        String::from_utf8_lossy(&out[value..]),
        concat!(
            r#"{"status":"END","id":"771:24023200","event_count":4,"data_collections":[{"data_collection":"public.orders","event_count":2},"#,
            r#"{"data_collection":"s.t","event_count":2}],"ts_ms":1760000000123}"#
        )
    );
    counts.begin("0/2");
    assert!(!counts.ends());
}

#[test]
fn flattened_rows_have_schemas_of_their_own() {
    let part = |name: &str, part| crate::config::Added { name: name.to_owned(), part };
    let source = |field: &str| crate::config::EventPart::Source(field.to_owned());
    for exact in [true, false] {
        let flatten = FlattenConfig {
            deletes: DeleteMode::Rewrite,
            fields: vec![part("__lsn", source("lsn")), part("__snap", source("snapshot")), part("note", source("db"))],
            headers: vec![part("__table", source("table")), part("__xmin", source("xmin"))],
        };
        let config = DebeziumConfig { flatten: Some(flatten), exact, ..config("postgres", true) };
        let (codec, text) = postgres(&config);
        let table = TableText::new(&codec, &orders(Some("public")));
        let row = [Value::Int(7), Value::Null, Value::Text("x"), Value::Null];
        let it = |op, before, after| RowEvent {
            op,
            seq: 1,
            place: at(24_023_128),
            order: None,
            id_suffix: "",
            before,
            after,
        };
        let event = it(Op::Insert, None, Some(&row[..]));
        let mut out = [b"-", table.head()].concat();
        assert_eq!(table.event(&mut out, &text, &event), Written::Headless);
        let value = String::from_utf8(out.clone()).unwrap();
        let snapshot = if exact { "\"false\"" } else { "null" };
        let price = if exact { "null" } else { "\"AA==\"" };
        assert!(
            value.starts_with(
                "-{\"schema\":{\"type\":\"struct\",\"fields\":[{\"type\":\"int32\",\"optional\":false,\"field\":\"id\"}"
            ),
            "{value}"
        );
        let end = format!(
            "{{\"type\":\"string\",\"optional\":true,\"field\":\"__deleted\"}},{{\"type\":\"int64\",\"optional\":true,\"field\":\"__lsn\"}},\
             {{\"type\":\"string\",\"optional\":true,\"name\":\"io.debezium.data.Enum\",\"version\":1,\"parameters\":{{\"allowed\":\
             \"true,first,first_in_data_collection,last_in_data_collection,last,false,incremental\"}},\"field\":\"__snap\"}}],\"optional\":false,\
             \"name\":\"p.public.orders.Value\"}},\"payload\":{{\"id\":7,\"price\":{price},\"note\":\"x\",\"at\":null,\"__deleted\":\"false\",\
             \"__lsn\":24023128,\"__snap\":{snapshot}}}}}"
        );
        assert!(value.ends_with(&end), "{value}\n{end}");
        let headers = table.headers(&mut out, &text, &event);
        let told: Vec<_> = headers.iter().map(|it| (it.name.as_str(), it.value.clone().map(|at| &out[at]))).collect();
        assert_eq!(told, [("__table", Some(&b"orders"[..])), ("__xmin", None)]);
        for (op, written) in [(Op::Truncate, Written::Nothing), (Op::Delete, Written::Headless)] {
            assert_eq!(
                table.event(&mut out, &text, &it(op, Some(&row[..]).filter(|_| op == Op::Delete), None)),
                written
            );
        }
        assert!(String::from_utf8(out).unwrap().contains("\"__deleted\":\"true\""));
    }
}

#[test]
fn a_row_that_was_read_is_marked_when_its_place_is_known() {
    let part = |name: &str, part| crate::config::Added { name: name.to_owned(), part };
    let source = |field: &str| crate::config::EventPart::Source(field.to_owned());
    let flatten = FlattenConfig {
        deletes: DeleteMode::Rewrite,
        fields: vec![
            part("__\"s\"", source("snapshot")),
            part("__db", source("db")),
            part("snapshot", source("snapshot")),
        ],
        headers: vec![part("__snapshot", source("snapshot")), part("__db", source("db"))],
    };
    let at = ReadAt { pos: "0/16B3748", log: ("", 0), xid: Some(7), now_us: 1_760_000_001_000_999 };
    // what the row holds isn't taken for the source's
    let odd = Value::Text(r#"","source":{"snapshot":"true"},"transaction":null,"snapshot":"true"#);
    let row = [Value::Int(1), Value::Null, odd, Value::Null];
    for (schemas, flatten) in [(false, None), (true, None), (false, Some(&flatten)), (true, Some(&flatten))] {
        let config = DebeziumConfig { flatten: flatten.cloned(), ..config("postgres", schemas) };
        let codec = Codec::new(&config, "postgres", "shop");
        assert!(codec.tells_markers());
        let mut text = TransactionText::new(&codec);
        text.read(&codec, at);
        let table = TableText::new(&codec, &orders(Some("public")));
        let event = crate::format::json::read_row(1, &row);
        let mut buf = b"-".to_vec();
        table.event(&mut buf, &text, &event);
        let written = buf[1..].to_vec();
        let headers = table.headers(&mut buf, &text, &event);
        let value = Some(1..1 + written.len());
        let mut record = Record { key: Some(0..1), value, headers, ..Record::default() };
        table.mark(&mut buf, &mut record, Marker::LastInDataCollection);
        assert_eq!(&buf[1..1 + written.len()], written, "what others stand in stays");
        let parsed = |bytes: &[u8]| -> serde_json::Value {
            let value: serde_json::Value = serde_json::from_slice(&[table.head(), bytes].concat()).unwrap();
            if schemas { value["payload"].clone() } else { value }
        };
        let (mut expected, told) = (parsed(&written), parsed(&buf[record.value.unwrap()]));
        let marker = "last_in_data_collection";
        match flatten {
            None => expected["source"]["snapshot"] = marker.into(),
            Some(_) => {
                expected["__\"s\""] = marker.into();
                expected["snapshot"] = marker.into();
            }
        }
        assert_eq!(told, expected);
        let headers: Vec<&[u8]> = record.headers.iter().map(|it| &buf[it.value.clone().unwrap()]).collect();
        let all: [&[u8]; 2] = [marker.as_bytes(), b"shop"];
        assert_eq!(headers, if flatten.is_some() { &all[..] } else { &[] });
    }
    let silent = FlattenConfig { fields: vec![part("__db", source("db"))], headers: Vec::new(), ..flatten };
    let config = DebeziumConfig { flatten: Some(silent), ..config("postgres", false) };
    assert!(!Codec::new(&config, "postgres", "shop").tells_markers());
}
