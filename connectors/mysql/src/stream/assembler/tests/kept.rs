//! Hand-made events: XA, what is rolled back in the log, compressed transactions, statements' texts, and what ends the stream.

use rowcast_core::{Batch, ErrorClass, Prepared};

use super::*;
use crate::Flavor;
use crate::stream::passing::Passing;

/// What is seen of a stream, a word an event: `begin 0-1-5`, `row 2 = 7`, `commit`.
type Seen = Vec<String>;

struct Feed {
    assembler: Assembler,
    seen: Seen,
}

fn event(event_kind: u8, flags: u16, body: &[u8]) -> Vec<u8> {
    let mut out = 1_700_000_000_u32.to_le_bytes().to_vec();
    out.push(event_kind);
    out.extend_from_slice(&1_u32.to_le_bytes());
    out.extend_from_slice(&((event::HEADER + body.len()) as u32).to_le_bytes());
    out.extend_from_slice(&0_u32.to_le_bytes());
    out.extend_from_slice(&flags.to_le_bytes());
    out.extend_from_slice(body);
    out
}

fn query(sql: &str) -> Vec<u8> {
    let body = [&[0; 8][..], &[2, 0, 0, 0, 0], b"ty\0", sql.as_bytes()].concat();
    event(kind::QUERY, 0, &body)
}

fn gtid(number: u64, flags: u8) -> Vec<u8> {
    event(kind::GTID, 0, &[&[flags][..], &[1; 16], &number.to_le_bytes()].concat())
}

const MIXED: u8 = 0b1000;
const TRANSACTIONAL: u8 = 0b1100;
const STANDALONE: u8 = 0b1001;

fn maria(number: u64, flags: u8) -> Vec<u8> {
    event(kind::MARIA_GTID, 0, &[&number.to_le_bytes()[..], &[0, 0, 0, 0, flags], &[0; 6]].concat())
}

/// A table map and rows of one integer column.
fn rows(table: &str, values: &[i32]) -> Vec<Vec<u8>> {
    let id = [table.len() as u8, 0, 0, 0, 0, 0];
    let name = [&[2][..], b"ty\0", &[table.len() as u8], table.as_bytes(), &[0]].concat();
    let map = [&id[..], &[1, 0], &name, &[1, 3, 0, 0], &[4, 3, 2], b"id"].concat();
    let mut body = [&id[..], &[1, 0, 1, 1]].concat();
    for value in values {
        body.push(0);
        body.extend_from_slice(&value.to_le_bytes());
    }
    vec![event(kind::TABLE_MAP, 0, &map), event(kind::WRITE_ROWS_V1, 0, &body)]
}

fn xa_prepare(name: u8, one_phase: bool) -> Vec<u8> {
    event(kind::XA_PREPARE, 0, &[u8::from(one_phase), 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, name])
}

fn xid() -> Vec<u8> {
    event(kind::XID, 0, &[0; 8])
}

/// Without checksums.
fn format_description(created: u32) -> Vec<u8> {
    let body = [&[4, 0][..], &[0; 50], &created.to_le_bytes(), &[19], &[0; 40], &[0], &[0; 4]].concat();
    event(kind::FORMAT_DESCRIPTION, 0, &body)
}

impl Feed {
    fn new(flavor: Flavor) -> Self {
        let mut feed = Self { assembler: assembler(flavor), seen: Seen::new() };
        feed.give(&[format_description(0)]).unwrap();
        feed
    }

    fn give(&mut self, events: &[Vec<u8>]) -> Result<(), SourceError> {
        for one in events {
            let mut draft = self.assembler.draft();
            let outcome = loop {
                match self.assembler.event(one, 0, one.len(), &mut draft)? {
                    Outcome::Need(name) => self.assembler.answer(name, None),
                    other => break other,
                }
            };
            let mut batches = vec![draft.finish(one.clone().into())];
            if !matches!(outcome, Outcome::Done) {
                follow(&mut self.assembler, outcome, one, &mut batches)?;
            }
            batches.iter().for_each(|batch| self.see(batch));
        }
        Ok(())
    }

    /// All in one batch; nothing follows them.
    fn together(&mut self, events: &[Vec<u8>]) {
        let data = events.concat();
        let (mut draft, mut at) = (self.assembler.draft(), 0);
        for one in events {
            let end = at + one.len();
            loop {
                match self.assembler.event(&data, at, end, &mut draft).unwrap() {
                    Outcome::Need(name) => self.assembler.answer(name, None),
                    Outcome::Done => break,
                    other => panic!("{other:?}"),
                }
            }
            at = end;
        }
        self.see(&draft.finish(data.into()));
    }

    fn see(&mut self, batch: &Batch) {
        for one in &batch.events {
            self.seen.push(match one {
                Event::Begin(transaction) => format!("begin {}", transaction.id.rsplit([':', '-']).next().unwrap()),
                Event::Commit(..) => "commit".to_owned(),
                Event::Prepared(it) => format!("prepared {}", it.name),
                Event::Settled(name) => format!("settled {name}"),
                Event::Statement(text) => {
                    format!("statement {}", text.as_ref().map_or("-".into(), |text| String::from_utf8_lossy(text)))
                }
                Event::Change(change) => {
                    let table = &batch.tables[change.table as usize];
                    let (arena, mut row) = (Bump::new(), Vec::new());
                    table.decode(&batch.data, change.after.unwrap(), &arena, &mut row).unwrap();
                    let Value::Int(value) = row[0] else { panic!("{row:?}") };
                    format!("{} {} = {value}", table.name.table, change.seq)
                }
                other => format!("{other:?}"),
            });
        }
    }

    fn seen(&mut self) -> Seen {
        std::mem::take(&mut self.seen)
    }
}

fn xa(number: u64, name: u8, values: &[i32]) -> Vec<Vec<u8>> {
    let text = format!("X'{name:02x}',X'',1");
    let mut events = vec![gtid(number, 0), query(&format!("XA START {text}"))];
    events.extend(rows("t", values));
    events.extend([query(&format!("XA END {text}")), xa_prepare(name, false)]);
    events
}

#[test]
fn a_prepared_transaction_is_published_in_its_commits_transaction() {
    let mut feed = Feed::new(Flavor::Mysql);
    feed.give(&xa(1, 0x61, &[1, 2])).unwrap();
    feed.give(&xa(2, 0x62, &[3])).unwrap();
    assert_eq!(feed.seen(), ["begin 1", "prepared X'61',X'',1", "commit", "begin 2", "prepared X'62',X'',1", "commit"]);
    feed.give(&[gtid(3, 1), query("XA COMMIT X'61',X'',1")]).unwrap();
    assert_eq!(feed.seen(), ["begin 3", "settled X'61',X'',1", "t 1 = 1", "t 2 = 2", "commit"]);
    feed.give(&[gtid(4, 1), query("XA ROLLBACK X'62',X'',1")]).unwrap();
    assert_eq!(feed.seen(), ["begin 4", "settled X'62',X'',1", "commit"]);
    // in one phase
    let mut events = vec![gtid(5, 0), query("XA START X'63',X'',1")];
    events.extend(rows("t", &[5]));
    events.extend([query("XA END X'63',X'',1"), xa_prepare(0x63, true)]);
    feed.give(&events).unwrap();
    assert_eq!(feed.seen(), ["begin 5", "t 1 = 5", "commit"]);
    // nobody knows its rows
    feed.give(&[gtid(6, 1)]).unwrap();
    let error = feed.give(&[query("XA COMMIT X'64',X'',1")]).unwrap_err();
    assert!(error.class() == ErrorClass::Gap && error.to_string().contains("XA COMMIT X'64',X'',1"), "{error}");
}

#[test]
fn what_is_rolled_back_in_the_log_is_left_out_and_ordinals_are_those_of_what_stays() {
    let mut feed = Feed::new(Flavor::MariaDb);
    let mut events = vec![maria(1, MIXED)];
    events.extend(rows("t", &[1]));
    events.push(query("SAVEPOINT `a`"));
    events.extend(rows("t", &[2, 3]));
    events.push(query("ROLLBACK TO `A`"));
    events.extend(rows("other", &[4]));
    events.extend(rows("t", &[5]));
    events.push(xid());
    feed.give(&events).unwrap();
    assert_eq!(feed.seen(), ["begin 1", "t 1 = 1", "other 2 = 4", "t 3 = 5", "commit"]);
    let mut events = vec![maria(2, MIXED)];
    events.extend(rows("t", &[1]));
    events.push(query("ROLLBACK"));
    feed.give(&events).unwrap();
    assert_eq!(feed.seen(), ["begin 2", "commit"]);
    // one that doesn't say so: in one batch it is taken out of that
    let mut events = vec![maria(3, TRANSACTIONAL)];
    events.extend(rows("t", &[1]));
    events.push(query("SAVEPOINT a"));
    events.extend(rows("other", &[2]));
    events.push(query("ROLLBACK TO a"));
    events.extend(rows("t", &[3]));
    events.push(xid());
    events.push(maria(4, TRANSACTIONAL));
    events.extend(rows("t", &[4]));
    events.push(query("ROLLBACK"));
    feed.together(&events);
    assert_eq!(feed.seen(), ["begin 3", "t 1 = 1", "statement -", "t 2 = 3", "commit", "begin 4", "commit"]);
    // behind a batch the next stream keeps all
    for end in ["ROLLBACK", "ROLLBACK TO a"] {
        let mut feed = Feed::new(Flavor::MariaDb);
        let mut events = vec![maria(5, TRANSACTIONAL), query("SAVEPOINT a")];
        events.extend(rows("t", &[1]));
        feed.give(&events).unwrap();
        let error = feed.give(&[query(end)]).unwrap_err();
        assert!(error.is_transient() && error.to_string().contains("is rolled back in the binlog"), "{error}");
        assert!(feed.assembler.doubt.next.load(std::sync::atomic::Ordering::Relaxed));
        events.extend([query(end), xid()]);
        if end == "ROLLBACK" {
            events.pop();
        }
        for (inside, expected) in [(None, true), (Some("0-1-4"), true), (Some("0-1-5"), false)] {
            let mut feed = Feed::new(Flavor::MariaDb);
            let inside = inside.map(str::to_owned);
            feed.assembler = feed.assembler.doubting(Doubt { all: true, inside, ..Doubt::default() });
            let given = feed.give(&events);
            assert_eq!(given.is_ok(), expected, "{given:?}");
            assert!(!expected || feed.seen() == ["begin 5", "commit"]);
            assert!(expected || given.is_err_and(|error| error.class() == ErrorClass::Gap));
        }
    }
}

#[test]
fn statements_that_are_rolled_back_fail_no_table_and_those_that_commit_do() {
    let mut feed = Feed::new(Flavor::MariaDb);
    feed.give(&[maria(1, MIXED), query("INSERT INTO t VALUES (1)"), query("ROLLBACK")]).unwrap();
    assert_eq!(feed.seen(), ["begin 1", "commit"]);
    feed.give(&[maria(2, MIXED), query("INSERT INTO t VALUES (1)"), query("COMMIT")]).unwrap();
    let seen = feed.seen();
    assert!(seen.len() == 3 && seen[1].contains("INSERT logged as a statement (table `ty.t`)"), "{seen:?}");
}

/// A TRANSACTION_PAYLOAD of these events.
fn payload(events: &[Vec<u8>]) -> Vec<u8> {
    let plain = events.concat();
    let packed = zstd::encode_all(&plain[..], 3).unwrap();
    let mut body = vec![2, 1, 0, 1, 9, 0xfe];
    body.extend_from_slice(&(packed.len() as u64).to_le_bytes());
    body.extend_from_slice(&[3, 9, 0xfe]);
    body.extend_from_slice(&(plain.len() as u64).to_le_bytes());
    body.push(0);
    body.extend_from_slice(&packed);
    event(kind::TRANSACTION_PAYLOAD, 0, &body)
}

#[test]
fn a_compressed_transaction_is_read_as_if_it_were_not() {
    let mut feed = Feed::new(Flavor::Mysql);
    let inside = |end: Vec<u8>| {
        let mut events = vec![query("BEGIN")];
        events.extend(rows("t", &[1, 2]));
        events.push(query("SAVEPOINT `s`"));
        events.extend(rows("t", &[3]));
        events.push(end);
        events
    };
    feed.give(&[gtid(1, 0), payload(&inside(xid()))]).unwrap();
    assert_eq!(feed.seen(), ["begin 1", "t 1 = 1", "t 2 = 2", "t 3 = 3", "commit"]);
    // one that may hold a ROLLBACK: kept, and replayed, out of the compressed one
    let mut taken_back = inside(query("ROLLBACK TO `s`"));
    taken_back.push(xid());
    feed.give(&[gtid(2, 1), payload(&taken_back)]).unwrap();
    assert_eq!(feed.seen(), ["begin 2", "t 1 = 1", "t 2 = 2", "commit"]);
    // prepared inside of it
    let prepared = xa(3, 0x61, &[7]);
    feed.give(&[prepared[0].clone(), payload(&prepared[1..])]).unwrap();
    feed.give(&[gtid(4, 1), query("XA COMMIT X'61',X'',1")]).unwrap();
    assert_eq!(
        feed.seen(),
        ["begin 3", "prepared X'61',X'',1", "commit", "begin 4", "settled X'61',X'',1", "t 1 = 7", "commit"]
    );
    // without its commit, damaged, or where none is due
    let mut open = inside(xid());
    open.pop();
    feed.give(&[gtid(5, 0)]).unwrap();
    let error = feed.give(&[payload(&open)]).unwrap_err();
    assert!(error.to_string().contains("it has no commit"), "{error}");
    let mut feed = Feed::new(Flavor::Mysql);
    assert!(feed.give(&[payload(&inside(xid()))]).unwrap_err().to_string().contains("outside of any transaction"));
    feed.give(&[gtid(6, 0)]).unwrap();
    let mut damaged = payload(&inside(xid()));
    let middle = damaged.len() - 20;
    damaged.truncate(middle);
    let length = damaged.len() as u32;
    damaged[9..13].copy_from_slice(&length.to_le_bytes());
    let error = feed.give(&[damaged]).unwrap_err();
    assert!(!error.is_transient() && error.to_string().contains("compressed transaction"), "{error}");
    assert_eq!(feed.seen(), ["begin 6"]);
}

#[test]
fn a_statements_text_is_told_once_and_ends_with_its_last_row() {
    let mut feed = Feed::new(Flavor::MariaDb);
    let text = |text: &str| event(kind::MARIA_ANNOTATE_ROWS, 0, text.as_bytes());
    let mut events = vec![maria(1, TRANSACTIONAL), text("one")];
    let mut first = rows("t", &[1]);
    // not the statement's last event
    first[1][event::HEADER + 6] = 0;
    events.extend(first);
    events.extend(rows("t", &[2]));
    events.extend(rows("t", &[3]));
    events.push(text("two"));
    events.extend(rows("t", &[4]));
    events.push(xid());
    events.push(maria(2, TRANSACTIONAL));
    events.extend(rows("t", &[5]));
    events.push(xid());
    feed.give(&events).unwrap();
    assert_eq!(
        feed.seen(),
        [
            "begin 1",
            "statement one",
            "t 1 = 1",
            "t 2 = 2",
            "statement -",
            "t 3 = 3",
            "statement two",
            "t 4 = 4",
            "commit",
            "begin 2",
            "t 1 = 5",
            "commit"
        ]
    );
    // cut at a character
    feed.give(&[maria(3, TRANSACTIONAL), text(&format!("x{}", "ä".repeat(40_000)))]).unwrap();
    feed.give(&rows("t", &[1])).unwrap();
    assert_eq!(feed.seen()[1].len(), "statement ".len() + (64 << 10) - 1);
}

#[test]
fn passing_over_the_log_finds_what_is_prepared_and_gives_nothing_out() {
    let mut log = xa(1, 0x61, &[1]);
    log.extend(xa(2, 0x62, &[2]));
    log.extend(xa(3, 0x63, &[3]));
    log.extend([gtid(4, 0), query("BEGIN")]);
    log.extend(rows("t", &[9]));
    log.extend([xid(), gtid(5, 1), query("XA ROLLBACK X'62',X'',1")]);
    // behind what is asked for
    log.extend([gtid(6, 1), query("XA COMMIT X'61',X'',1")]);
    log.extend(xa(7, 0x67, &[7]));
    let until: LogPosition =
        LogPosition::parse("gtid", &format!("{}:1-5", "01010101-0101-0101-0101-010101010101")).unwrap();
    let all = |wanted: Option<&[u64]>| {
        let wanted = wanted.map(|numbers| {
            numbers.iter().map(|number| format!("01010101-0101-0101-0101-010101010101:{number}")).collect()
        });
        let end = Offset { file: 9, byte: 0 };
        let mut feed = Feed::new(Flavor::Mysql);
        feed.assembler = feed.assembler.passing(Passing::new(until.clone(), wanted, end));
        for one in &log {
            feed.give(std::slice::from_ref(one)).unwrap();
            if let Some(found) = feed.assembler.passed() {
                return found;
            }
        }
        feed.assembler.at = end;
        feed.assembler.passed().unwrap()
    };
    let names = |prepared: Vec<Prepared>| prepared.into_iter().map(|it| it.name).collect::<Vec<_>>();
    assert_eq!(names(all(None).prepared()), ["X'61',X'',1", "X'63',X'',1"]);
    assert_eq!(names(all(Some(&[1])).prepared()), ["X'61',X'',1"]);
    // found there, it is published by the stream that follows
    let mut feed = Feed::new(Flavor::Mysql);
    feed.assembler = feed.assembler.with_prepared(all(None));
    feed.give(&[gtid(6, 1), query("XA COMMIT X'61',X'',1")]).unwrap();
    assert_eq!(feed.seen(), ["begin 6", "settled X'61',X'',1", "t 1 = 1", "commit"]);
}

#[test]
fn what_ends_the_stream_says_why() {
    let mut feed = Feed::new(Flavor::MariaDb);
    // group replication's notes, and whatever is marked so
    feed.give(&[event(200, event::FLAG_IGNORABLE, &[1, 2, 3])]).unwrap();
    for (one, class, expected) in [
        (event(200, 0, &[1]), ErrorClass::Definite, "unknown event type 200"),
        (event(kind::INCIDENT, 0, &[1, 0, 0]), ErrorClass::Gap, "LOST_EVENTS"),
        (event(kind::MARIA_PARTIAL_ROW_DATA, 0, &[0; 20]), ErrorClass::Definite, "PARTIAL_ROW_DATA_EVENT"),
        (event(18, 0, &[0; 20]), ErrorClass::Definite, "LOAD DATA logged as a statement"),
    ] {
        let error = feed.give(&[one]).unwrap_err();
        assert!(error.class() == class && error.to_string().contains(expected), "{error}");
    }
    // a file that the server made at its start, behind one that ends in a transaction
    feed.give(&[maria(1, TRANSACTIONAL)]).unwrap();
    feed.give(&rows("t", &[1])).unwrap();
    let torn = feed.give(&[format_description(7)]).unwrap_err();
    assert!(torn.is_transient() && torn.to_string().contains("which it has rolled back"), "{torn}");
    // one that is only the next
    feed.give(&[format_description(0)]).unwrap();
    feed.give(&[maria(9, STANDALONE)]).unwrap_err();
}
