//! The tables, values for their columns, and what SQL says that they hold.

use mysql_async::Conn;
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Map, Value as Json, json};

use crate::support::fold::Shown;
use crate::support::mysql::{query, try_query};
use crate::support::source::Kind;

/// What has a topic that is compared. `r_a` and `r_b` are names of one table, `o` is replaced by tools for online changes,
/// `made` is made by CREATE TABLE ... SELECT, `audit` is written by a trigger.
pub const TABLES: [&str; 13] =
    ["a", "b", "bare", "parent", "child", "r_a", "r_b", "part", "big", "docs", "o", "made", "audit"];

/// Statements that make them.
pub fn schema(kind: Kind) -> Vec<String> {
    // MariaDB doesn't log what a cascade deletes
    let cascade = if kind == Kind::Mysql { "on delete cascade" } else { "" };
    [
        "create table a (id bigint primary key, touched int not null default 0, n int, body text, price decimal(12,2))",
        // whatever the primary key is, or none: what could stand for it is unique, too
        "create table b (x int not null, y varchar(20) not null, u bigint not null, touched int not null default 0, \
         v varchar(200), primary key (y, x), unique key b_u (u), unique key b_xy (x, y))",
        "create table bare (v int, w varchar(100), t text)",
        "create table parent (id int primary key auto_increment, v int)",
        &format!(
            "create table child (id int primary key auto_increment, parent int, v varchar(300), \
             foreign key (parent) references parent (id) {cascade})"
        ),
        "create table r_a (id int primary key, v varchar(300))",
        "create table part (id int, region int, v varchar(300), primary key (id, region)) partition by list (region) \
         (partition p1 values in (1), partition p2 values in (2))",
        "create table big (id bigint primary key, v varchar(300))",
        "create table docs (id int primary key, doc json, v int, f double, e enum('sad','ok','it''s'), s set('x','y','z'))",
        "create table o (id int primary key, touched int not null default 0, v varchar(100), w text)",
        "create table made (id bigint primary key, n int)",
        "create table audit (id bigint primary key auto_increment, what int)",
        "create trigger docs_audit after update on docs for each row insert into audit (what) values (new.id)",
        "create table marker (id int primary key)",
    ]
    .map(str::to_owned)
    .into()
}

/// Types of columns that are added, and a default of each, if it may have one, with its JSON.
pub const TYPES: [(&str, &str, &str); 17] = [
    ("int", "7", "7"),
    ("bigint unsigned", "18446744073709551615", "18446744073709551615"),
    ("mediumint", "-8388608", "-8388608"),
    ("smallint unsigned", "65535", "65535"),
    ("varchar(300)", "'dflt'", "\"dflt\""),
    ("varchar(60) character set latin1", "'ü'", "\"ü\""),
    ("decimal(12,3)", "1.5", "\"1.500\""),
    ("double", "0.25", "0.25"),
    ("enum('sad','ok','it''s')", "'it''s'", "\"it's\""),
    ("set('x','y','z')", "'x,z'", "[\"x\",\"z\"]"),
    ("datetime(3)", "'2020-02-03 04:05:06.789'", "\"2020-02-03T04:05:06.789\""),
    ("timestamp(6) null", "'2020-02-03 04:05:06.000001'", "\"2020-02-03T04:05:06.000001Z\""),
    ("time(2)", "'-01:02:03.40'", "\"-01:02:03.40\""),
    ("bit(10)", "b'1000000001'", "\"1000000001\""),
    ("binary(5)", "'ab'", "\"YWIAAAA=\""),
    ("text", "", ""),
    ("json", "", ""),
];

/// A column's name and COLUMN_TYPE.
pub type Columns = Vec<(String, String)>;

/// A table's columns; none if there is no such table.
pub async fn columns(conn: &mut Conn, table: &str) -> Columns {
    let sql = format!(
        "select column_name, column_type from information_schema.columns where table_schema = database() and \
         table_name = '{table}' order by ordinal_position"
    );
    query(conn, &sql).await.into_iter().map(|row| (row[0].clone().unwrap(), row[1].clone().unwrap())).collect()
}

/// A type without its arguments.
pub fn base(ty: &str) -> &str {
    ty.split(['(', ' ']).next().unwrap()
}

/// Characters of the words that are written.
pub fn word(random: &mut StdRng) -> String {
    (0..8).map(|_| char::from(random.random_range(b'a'..=b'z'))).collect()
}

/// SQL of a value.
pub fn value(random: &mut StdRng, ty: &str, nulls: bool) -> String {
    if nulls && random.random_ratio(1, 8) {
        return "NULL".to_owned();
    }
    let n: i32 = random.random_range(-500..500);
    let positive = n + 501;
    match base(ty) {
        "int" | "bigint" | "mediumint" | "smallint" if ty.contains("unsigned") => positive.to_string(),
        "int" | "bigint" | "mediumint" | "smallint" => n.to_string(),
        "decimal" => format!("{n}.{:02}", random.random_range(0..100)),
        "double" => format!("{n}.25"),
        "enum" => ["'sad'", "'ok'", "'it''s'"][random.random_range(0..3)].to_owned(),
        "set" => ["''", "'x'", "'y,z'", "'x,y,z'"][random.random_range(0..4)].to_owned(),
        "datetime" | "timestamp" => format!("'2021-03-{:02} 10:11:{:02}.25'", 1 + positive % 28, positive % 60),
        "time" => format!("'{}:11:{:02}.5'", n % 800, positive % 60),
        "bit" => (positive % 1024).to_string(),
        "binary" => format!("x'{positive:04x}00'"),
        // MariaDB's JSON
        "json" | "longtext" => {
            let pad = "p".repeat(random.random_range(0..300));
            format!("'{{\"k\": {n}, \"w\": \"{}\", \"l\": [1, {n}], \"pad\": \"{pad}\"}}'", word(random))
        }
        "text" if random.random_ratio(1, 4) => {
            format!("repeat('{}', {})", word(random), random.random_range(300..900))
        }
        _ if random.random_ratio(1, 20) => format!("'{} 汉 {n}'", word(random)),
        _ => format!("'{} ü {n}'", word(random)),
    }
}

/// What a table holds by SQL: its columns, and its rows as the envelope would have them; none if it was changed meanwhile.
pub async fn rows(conn: &mut Conn, table: &str) -> Option<Shown> {
    let columns = columns(conn, table).await;
    if columns.is_empty() {
        return None;
    }
    let select: Vec<String> = columns
        .iter()
        .map(|(name, ty)| match base(ty) {
            "bit" => format!("lpad(bin(`{name}` + 0), {}, '0')", arguments(ty)),
            "binary" => format!("hex(`{name}`)"),
            _ => format!("`{name}`"),
        })
        .collect();
    let rows = match try_query(conn, &format!("select {} from {table}", select.join(", "))).await {
        Ok(rows) => rows,
        Err(mysql_async::Error::Server(error)) if matches!(error.code, 1054 | 1146 | 1412 | 1205 | 1213) => {
            return None;
        }
        Err(error) => panic!("{error:?} in a snapshot of {table}"),
    };
    let rows = rows.iter().map(|row| {
        let cells = columns
            .iter()
            .zip(row)
            .map(|((name, ty), cell)| (name.clone(), cell.as_ref().map_or(Json::Null, |text| shown(ty, text))));
        Json::Object(cells.collect::<Map<_, _>>())
    });
    let rows = rows.collect();
    Some((columns.into_iter().map(|(name, _)| name).collect(), rows))
}

fn arguments(ty: &str) -> &str {
    ty.split_once('(').unwrap().1.split_once(')').unwrap().0
}

/// The envelope's form of a value, from the server's text of it.
fn shown(ty: &str, text: &str) -> Json {
    match base(ty) {
        "int" | "bigint" | "mediumint" | "smallint" if ty.contains("unsigned") => json!(text.parse::<u64>().unwrap()),
        "int" | "bigint" | "mediumint" | "smallint" => json!(text.parse::<i64>().unwrap()),
        "double" => json!(text.parse::<f64>().unwrap()),
        "set" => json!(text.split(',').filter(|label| !label.is_empty()).collect::<Vec<_>>()),
        "datetime" => json!(text.replace(' ', "T")),
        "timestamp" => json!(text.replace(' ', "T") + "Z"),
        "json" | "longtext" => serde_json::from_str(text).unwrap(),
        "binary" => {
            let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
            let bytes: Vec<u8> = text.as_bytes().chunks(2).map(byte).collect();
            json!(base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes))
        }
        "varchar" | "text" | "mediumtext" | "decimal" | "enum" | "time" | "bit" => json!(text),
        other => panic!("no rule for {other}"),
    }
}
