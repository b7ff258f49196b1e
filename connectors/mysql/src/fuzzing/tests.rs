//! The entry points with what recorded binlogs hold, changed at random, and with bytes at random: another seed each run, which is said;
//! `ROWCAST_DAMAGE_SEED` repeats one.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

fn random() -> StdRng {
    let seed =
        std::env::var("ROWCAST_DAMAGE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random);
    println!("ROWCAST_DAMAGE_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

fn recorded() -> Vec<(&'static str, Vec<u8>)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "binlog") {
            let mysql = path.file_name().unwrap().to_str().unwrap().starts_with("mysql");
            let flavor = if mysql { Flavor::Mysql } else { Flavor::MariaDb };
            found.extend(
                inputs(flavor, &std::fs::read(path).unwrap()).into_iter().map(|(entry, _, input)| (entry, input)),
            );
        }
    }
    found
}

fn run(entry: &str, input: &[u8]) -> u32 {
    let mut seen = 0;
    let mut see = |_: &Value<'_>, _: bool| seen += 1;
    match entry {
        "binlog" => binlog(input, &mut see),
        "row" => row(input, &mut see),
        "value" => value(input, &mut see),
        "document" => document(input, &mut see),
        "number" => number(input, &mut see),
        "gtid" => gtid(input),
        _ => statement(input),
    }
    seen
}

/// Some bytes changed, cut out or put in.
fn damaged(random: &mut StdRng, input: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..=bytes.len());
        match random.random_range(0..6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.random()),
            2 if at < bytes.len() => {
                bytes.remove(at);
            }
            3 if at < bytes.len() => bytes[at] = [0, 0xff, 0x7f, 0x80, 0xfb, 0xfc, 0xfe][random.random_range(0..7)],
            _ if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8),
            _ => {}
        }
    }
    bytes
}

#[test]
fn what_was_recorded_is_read_and_damage_to_it_never_panics() {
    let mut random = random();
    let recorded = recorded();
    let entries: BTreeSet<_> = recorded.iter().map(|(entry, _)| *entry).collect();
    assert!(entries.is_superset(&["binlog", "gtid", "row", "statement"].into()), "{entries:?}");
    let read: u32 = recorded.iter().map(|(entry, input)| run(entry, input)).sum();
    assert!(read > 100, "{read} values");
    for _ in 0..3000 {
        let (entry, input) = &recorded[random.random_range(0..recorded.len())];
        run(entry, &damaged(&mut random, input));
    }
}

#[test]
fn bytes_at_random_never_panic() {
    let mut random = random();
    let kinds: [u8; 30] = [
        1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 140, 141, 242, 245, 246, 247, 248, 249, 250,
        252, 254, 255,
    ];
    let mut read = 0;
    for _ in 0..60_000 {
        let length = random.random_range(0..120);
        let mut bytes: Vec<u8> = (0..length).map(|_| random.random()).collect();
        let head = [
            kinds[random.random_range(0..kinds.len())],
            random.random_range(0..10),
            random.random_range(0..10),
            random.random(),
            random.random_range(0..2),
            random.random_range(0..12),
            random.random_range(0..12),
        ];
        read += run("value", &[&head[..], &bytes].concat());
        read += run("number", &[&[random.random_range(0..70), random.random_range(0..40)][..], &bytes].concat());
        run("gtid", &bytes);
        run("statement", &bytes);
        // an object or array whose counts and offsets are small
        bytes.splice(0..0, [random.random_range(0..4), random.random_range(0..6), 0, length, 0]);
        run("document", &bytes);
    }
    assert!(read > 10_000, "{read} values");
}

#[test]
fn texts_of_gtid_sets_are_read_as_they_are_written() {
    let mut random = random();
    for _ in 0..20_000 {
        let parts = [
            "3e11fa47-71ca-11e1-9e33-c80aa9429562",
            ":",
            "1",
            "-",
            "9",
            ",",
            "tag_1",
            "0",
            " ",
            "18446744073709551615",
            "\n",
        ];
        let text: String =
            (0..random.random_range(1..14)).map(|_| parts[random.random_range(0..parts.len())]).collect();
        gtid(text.as_bytes());
    }
}
