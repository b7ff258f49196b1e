//! What is copied, by configuration.

use super::racing::{copied, until_same};
use super::support::kafka;
use super::support::source::{Kind, PATIENCE, Source, wait_until_streaming};
use super::traffic::{COLUMNS, fill};

const ALL: [Kind; 3] = [Kind::Postgres, Kind::Mysql, Kind::Mariadb];

#[tokio::test(flavor = "multi_thread")]
async fn initial_only_copies_and_ends_with_success() {
    for kind in ALL {
        let source = Source::create(kind, "only").await;
        source.create_table("accounts", COLUMNS).await;
        source.create_table("nothing", "id int primary key").await;
        fill(&source, "accounts", 5_000).await;
        let mut daemon = source.to_kafka_with("backfill: initial_only\n").spawn();
        assert_eq!(daemon.wait(PATIENCE).await, 0, "{}", daemon.logs());
        let folded = until_same(&source, "accounts").await;
        assert_eq!(folded.counts.get("r"), Some(&5_000));
        // once more: there is nothing left to do
        daemon.start();
        assert_eq!(daemon.wait(PATIENCE).await, 0, "{}", daemon.logs());
        assert_eq!(source.events("accounts").await.len(), 5_000);
        assert_eq!(super::faults::markers(&source, "nothing").await, ["start", "end"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_copies_these_tables_in_this_order_with_their_conditions() {
    let source = Source::create(Kind::Postgres, "list").await;
    for table in ["a", "b", "c"] {
        source.create_table(table, COLUMNS).await;
        fill(&source, table, 1_000).await;
    }
    let list = "backfill:\n  parallelism: 1\n  tables: [public.c, {table: public.a, where: \"id > 990\"}]\n";
    let mut daemon = source.to_kafka_with(list).spawn();
    copied(&mut daemon, (0, 0), &source, "c").await;
    copied(&mut daemon, (0, 0), &source, "a").await;
    let log = daemon.stderr();
    assert!(log.find("table=\"public.c\"").unwrap() < log.find("table=\"public.a\"").unwrap(), "{log}");
    assert_eq!(source.wait_for_events("a", 10).await.len(), 10);
    assert_eq!(source.wait_for_events("c", 1_000).await.len(), 1_000);
    assert!(source.events("b").await.is_empty());
    source.exec("insert into b values (5000, 1, 'x', 'y')").await;
    source.wait_for_events("b", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn never_copies_nothing_until_it_is_asked_for() {
    let source = Source::create(Kind::Mysql, "never").await;
    source.create_table("accounts", COLUMNS).await;
    fill(&source, "accounts", 1_000).await;
    let mut daemon = source.to_kafka().spawn();
    wait_until_streaming(&mut daemon).await;
    source.exec("update accounts set v = 1 where id = 5").await;
    assert_eq!(source.wait_for_events("accounts", 1).await[0]["op"], "u");
    let table = format!("{}.accounts", source.schema());
    let (code, out, err) = super::faults::ask(&daemon, &source, &[&table]).await;
    assert_eq!(code, 0, "{out}{err}");
    copied(&mut daemon, (0, 0), &source, "accounts").await;
    assert_eq!(until_same(&source, "accounts").await.counts["r"], 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_every_kind_are_copied_once_each() {
    let keys = [
        ("composite", "a int, b varchar(20), v int, primary key (b, a)", "a, b, v", "(n % 7, 'k' || n, n)"),
        ("texts", "k varchar(40) primary key, v int", "k, v", "('Ä' || n || 'ß', n)"),
        ("decimals", "k numeric(20, 4) primary key, v int", "k, v", "(n - 500.1234, n)"),
        ("moments", "k timestamp(3) primary key, v int", "k, v", "(MOMENT, n)"),
        ("doubles", "k double precision primary key, v int", "k, v", "(n / 3.0, n)"),
        ("uniques", "k int not null unique, v int", "k, v", "(n * 1000, n)"),
    ];
    for kind in ALL {
        let source = Source::create(kind, "keys").await;
        let postgres = kind == Kind::Postgres;
        for (table, columns, names, values) in keys {
            let columns = if postgres { columns.to_owned() } else { columns.replace("timestamp(3)", "datetime(3)") };
            source.create_table(table, &columns).await;
            if postgres {
                source.exec(&format!("alter table {table} replica identity full")).await;
                let values = values.replace("MOMENT", "timestamp '2026-01-01' + n * interval '1.5 s'");
                let select = values.trim_start_matches('(').trim_end_matches(')');
                source
                    .exec(&format!("insert into {table} ({names}) select {select} from generate_series(1, 1000) n"))
                    .await;
            } else {
                for chunk in 0..2 {
                    let rows: Vec<String> = (chunk * 500 + 1..=chunk * 500 + 500)
                        .map(|n: i32| {
                            let mut row = values.replace(
                                "MOMENT",
                                "timestamp'2026-01-01 00:00:00' + interval n * 1500 * 1000 microsecond",
                            );
                            row = row
                                .replace("'k' || n", "concat('k', n)")
                                .replace("'Ä' || n || 'ß'", "concat('Ä', n, 'ß')");
                            regex_n(&row, n)
                        })
                        .collect();
                    source.exec(&format!("insert into {table} ({names}) values {}", rows.join(","))).await;
                }
            }
        }
        // many small reads, so that each boundary between two is crossed
        let mut daemon = source.to_kafka_with("backfill: { chunk_rows: 37 }\n").spawn();
        for (table, ..) in keys {
            copied(&mut daemon, (0, 0), &source, table).await;
            let records = kafka::wait_for_records(&source.topic(table), 1_000).await;
            let mut seen: Vec<i64> =
                records.iter().map(|record| record.json()["after"]["v"].as_i64().unwrap()).collect();
            seen.sort_unstable();
            assert!(seen.iter().copied().eq(1..=1000), "{kind:?} {table}: {} rows", seen.len());
            assert!(records.iter().all(|record| record.key.is_some()), "{kind:?} {table}: rows without a key");
        }
        assert_eq!(daemon.shutdown(PATIENCE).await, 0);
    }
}

/// Puts a number in the place of the letter n where it stands alone.
fn regex_n(text: &str, n: i32) -> String {
    let mut out = String::new();
    let letters: Vec<char> = text.chars().collect();
    for (index, letter) in letters.iter().enumerate() {
        let word = |place: Option<&char>| place.is_some_and(|letter| letter.is_alphanumeric() || *letter == '_');
        let alone = !word(index.checked_sub(1).and_then(|before| letters.get(before))) && !word(letters.get(index + 1));
        if *letter == 'n' && alone { out.push_str(&n.to_string()) } else { out.push(*letter) }
    }
    out
}
