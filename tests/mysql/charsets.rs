//! Text in every character set that the servers have: each byte and each sequence of bytes is what the server's own
//! `CONVERT(.. USING utf8mb4)` says, by stream and by copy, and what means nothing to it is an error.

use std::collections::BTreeMap;

use crate::support::daemon::Daemon;
use crate::support::golden::same_from_a_copy;
use crate::support::kafka::wait_for_records;
use crate::support::source::{Kind, Source, wait_until_streaming};

/// Sequences in a row.
const CHUNK: usize = 150;
/// Forms of Unicode.
const UNICODE: [&str; 6] = ["ucs2", "utf16", "utf16le", "utf32", "utf8mb3", "utf8mb4"];

/// A sequence that is well-formed in a character set, and what it means; none if it means nothing.
type Sequence = (String, Option<String>);

/// The server's word on `count` sequences; `bytes` is an expression of `i` that gives their hexadecimal digits.
async fn ask(source: &Source, set: &str, count: u32, bytes: &str) -> Vec<Sequence> {
    let rows = source
        .query(&format!(
            "with recursive n (i) as (select 0 union all select i + 1 from n where i < {count} - 1) \
             select hex(b), convert(c using utf8mb4) from (select b, convert(b using {set}) c from (select unhex({bytes}) b from n) x) y \
             where c is not null and hex(c) = hex(b)"
        ))
        .await;
    rows.into_iter()
        .map(|row| {
            let [bytes, text] = <[_; 2]>::try_from(row).unwrap();
            let (bytes, text) = (bytes.unwrap(), text.unwrap());
            // `?` is the server's word for nothing, and no text at all for the beginning of a sequence
            let meaning = (bytes == "3F" || !text.contains('?') && !text.is_empty()).then_some(text);
            (bytes, meaning)
        })
        .collect()
}

async fn sequences(source: &Source, set: &str) -> Vec<Sequence> {
    let mut found = ask(source, set, 256, "lpad(hex(i), 2, '0')").await;
    let single = found.len();
    if !matches!(set, "big5" | "cp932" | "eucjpms" | "euckr" | "gb18030" | "gb2312" | "gbk" | "sjis" | "ujis") {
        assert!(single >= 128, "{set}");
        return found;
    }
    // What begins with a byte that stands alone is two characters.
    let alone: Vec<String> = found.iter().filter(|(_, text)| text.is_some()).map(|(bytes, _)| bytes.clone()).collect();
    let pairs = ask(source, set, 32_768, "hex(32768 + i)").await;
    let one = |bytes: &str| !alone.iter().any(|alone| bytes.starts_with(alone.as_str()));
    found.extend(pairs.into_iter().filter(|(bytes, _)| one(bytes)));
    if matches!(set, "eucjpms" | "ujis") {
        found.extend(ask(source, set, 32_768, "concat('8F', hex(32768 + i))").await);
    }
    if set == "gb18030" {
        let four = |n: &str| {
            format!(
                "concat(hex(129 + {n} div 12600), hex(48 + {n} div 1260 % 10), hex(129 + {n} div 10 % 126), hex(48 + {n} % 10))"
            )
        };
        found.extend(ask(source, set, 39_500, &four("i")).await);
        // of the other planes some
        found.extend(ask(source, set, 2_000, &four("(189000 + 524 * i)")).await);
    }
    assert!(found.len() > 7_000, "{set}: {}", found.len());
    found
}

async fn every_sequence(kind: Kind) {
    let source = Source::create(kind, "charsets").await;
    let depth = if kind == Kind::Mysql { "cte_max_recursion_depth" } else { "max_recursive_iterations" };
    source.exec(&format!("set {depth} = 100000, sql_mode = ''")).await;
    let names: Vec<String> =
        source.query("show character set").await.into_iter().map(|row| row[0].clone().unwrap()).collect();
    let names: Vec<String> =
        names.into_iter().filter(|name| name != "binary" && !UNICODE.contains(&name.as_str())).collect();
    assert!(names.len() >= 33, "{names:?}");
    let mut sets = Vec::new();
    for name in &names {
        sets.push((name.as_str(), sequences(&source, name).await));
    }
    let columns = |length: usize| {
        let columns: Vec<String> =
            names.iter().map(|name| format!("{name}_ varchar({length}) character set {name}")).collect();
        format!("id int primary key, {}", columns.join(", "))
    };
    source.create_table("sets", &columns(2 * CHUNK)).await;
    source.create_table("holes", &columns(4)).await;
    let yaml = source.to_kafka_yaml("*", "backfill: never\non_poison: dead_letter\n");
    let mut daemon = Daemon::command().file("source.yaml", &yaml).args(&["run", "source.yaml"]).spawn();
    wait_until_streaming(&mut daemon).await;

    // What means something: a row has a part of each set.
    let mut expected: Vec<BTreeMap<&str, String>> = Vec::new();
    let mut literals: Vec<BTreeMap<&str, String>> = Vec::new();
    let mut holes = Vec::new();
    for (name, all) in &sets {
        let known: Vec<(&str, &str)> =
            all.iter().filter_map(|(bytes, text)| text.as_deref().map(|text| (bytes.as_str(), text))).collect();
        holes.extend(all.iter().filter(|(_, text)| text.is_none()).map(|(bytes, _)| (*name, bytes.as_str())));
        for (nth, chunk) in known.chunks(CHUNK).enumerate() {
            if expected.len() <= nth {
                expected.push(BTreeMap::new());
                literals.push(BTreeMap::new());
            }
            let (bytes, text): (Vec<&str>, Vec<&str>) = chunk.iter().copied().unzip();
            expected[nth].insert(name, text.concat());
            literals[nth].insert(name, format!("convert(x'{}' using {name})", bytes.concat()));
        }
    }
    for (id, row) in literals.iter().enumerate() {
        let columns: Vec<String> = row.keys().map(|name| format!("{name}_")).collect();
        let values: Vec<&str> = row.values().map(String::as_str).collect();
        source
            .exec(&format!("insert into sets (id, {}) values ({id}, {})", columns.join(", "), values.join(", ")))
            .await;
    }
    let events = source.wait_for_events("sets", expected.len()).await;
    for event in &events {
        let id = usize::try_from(event["after"]["id"].as_u64().unwrap()).unwrap();
        for name in &names {
            let found = &event["after"][format!("{name}_")];
            assert_eq!(
                found.as_str(),
                expected[id].get(name.as_str()).map(String::as_str),
                "{kind:?} {name}, part {id}"
            );
        }
    }
    same_from_a_copy(&source, &daemon, &[("sets", expected.len())]).await;

    // What means nothing: a row for each.
    for (nth, part) in holes.chunks(500).enumerate() {
        let mut by_set: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (place, (name, bytes)) in part.iter().enumerate() {
            let row = format!("({}, convert(x'{bytes}' using {name}))", 500 * nth + place);
            by_set.entry(name).or_default().push(row);
        }
        for (name, rows) in by_set {
            source.exec(&format!("insert into holes (id, {name}_) values {}", rows.join(", "))).await;
        }
    }
    source.exec("insert into holes (id) values (-1)").await;
    // What isn't well-formed in a column is nothing at all there (MySQL: bytes beyond ASCII, lone first bytes of eucjpms).
    let empty: Vec<String> = names.iter().map(|name| format!("coalesce(octet_length({name}_) = 0, 0)")).collect();
    let sql = format!("select cast(sum({}) as char) from holes", empty.join(" + "));
    let empty: usize = source.query(&sql).await[0][0].clone().unwrap().parse().unwrap();
    let events = source.wait_for_events("holes", 1 + empty).await;
    let text = events.iter().find(|event| {
        let row = event["after"].as_object().unwrap();
        row.iter().any(|(name, value)| name != "id" && value.as_str().is_some_and(|text| !text.is_empty()))
    });
    assert_eq!(text, None, "text of bytes that mean nothing");
    assert_eq!(events.len(), 1 + empty);
    let rest = holes.len() - empty;
    let letters = wait_for_records(&format!("rowcast.dead_letter.{}", source.name()), rest).await;
    assert_eq!(letters.len(), rest);
    assert!(empty < 300, "{empty}");
    assert!(holes.len() > 15_000, "{}", holes.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sequence_of_bytes_is_what_mysql_says() {
    every_sequence(Kind::Mysql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sequence_of_bytes_is_what_mariadb_says() {
    every_sequence(Kind::Mariadb).await;
}

/// All of the first plane, and of the others some, in each form of Unicode.
#[tokio::test(flavor = "multi_thread")]
async fn all_forms_of_unicode_are_decoded() {
    for kind in [Kind::Mysql, Kind::Mariadb] {
        let source = Source::create(kind, "unicode").await;
        let columns: Vec<String> =
            UNICODE.iter().map(|name| format!("{name}_ varchar(512) character set {name}")).collect();
        source.create_table("t", &format!("id int primary key, {}", columns.join(", "))).await;
        let mut daemon = source.to_kafka().spawn();
        wait_until_streaming(&mut daemon).await;
        let basic: Vec<char> = (0..=0xffff).filter_map(char::from_u32).collect();
        let others: Vec<char> = (0x1_0000..=0x10_ffff).step_by(331).filter_map(char::from_u32).collect();
        let chunks: Vec<&[char]> = basic.chunks(512).chain(others.chunks(512)).collect();
        for (id, chunk) in chunks.iter().enumerate() {
            let hex: String = chunk.iter().map(|character| format!("{:08X}", u32::from(*character))).collect();
            let value = |name: &&str| match (*name, chunk[0] as u32 > 0xffff) {
                ("ucs2" | "utf8mb3", true) => "null".to_owned(),
                (name, _) => format!("convert(_utf32 x'{hex}' using {name})"),
            };
            let values: Vec<String> = UNICODE.iter().map(value).collect();
            source.exec(&format!("insert into t values ({id}, {})", values.join(", "))).await;
        }
        let events = source.wait_for_events("t", chunks.len()).await;
        for (event, chunk) in events.iter().zip(&chunks) {
            let text: String = chunk.iter().collect();
            for name in UNICODE {
                let found = &event["after"][format!("{name}_")];
                if !(found.is_null() && chunk[0] as u32 > 0xffff) {
                    assert_eq!(found.as_str(), Some(text.as_str()), "{kind:?} {name}");
                }
            }
        }
        same_from_a_copy(&source, &daemon, &[("t", chunks.len())]).await;
    }
}
