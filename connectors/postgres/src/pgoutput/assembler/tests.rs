//! The assembler by messages as a server writes them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
use super::*;

fn assembler() -> Assembler {
    set_up(None)
}

fn set_up(sends_from: Option<u64>) -> Assembler {
    Assembler::new(Setup {
        db: "db",
        filter: TableFilter::parse(&["public.a"]).unwrap(),
        form: ValueForm::default(),
        messages: MessageFilter::All,
        room: Room { folder: std::env::temp_dir(), limit: 1 << 20, leave: Arc::default() },
        start: 50,
        sends_from,
        shared: Arc::default(),
        before: None,
        describe: false,
        left_out: None,
    })
}

fn relation(id: u32, table: &str) -> Vec<u8> {
    let mut bytes = [&b"R"[..], &id.to_be_bytes(), b"public\0", table.as_bytes(), b"\0d\0\x01\x01id\0"].concat();
    bytes.extend_from_slice(&23_u32.to_be_bytes());
    bytes.extend_from_slice(&(-1_i32).to_be_bytes());
    bytes
}

fn begin(at: u64) -> Vec<u8> {
    [&b"B"[..], &at.to_be_bytes(), &[0; 8], &7_u32.to_be_bytes()].concat()
}

fn commit(at: u64) -> Vec<u8> {
    [&b"C\0"[..], &at.to_be_bytes(), &(at + 8).to_be_bytes(), &[0; 8]].concat()
}

fn insert(id: u32) -> Vec<u8> {
    [&b"I"[..], &id.to_be_bytes(), b"N\0\x01t\0\0\0\x011"].concat()
}

fn feed(assembler: &mut Assembler, messages: &[Vec<u8>]) {
    for message in messages {
        assert!(matches!(assembler.message(message, (0, 0)).unwrap(), Step::Done));
    }
}

fn message(transactional: bool, lsn: u64) -> Vec<u8> {
    [&[b'M', u8::from(transactional)][..], &lsn.to_be_bytes(), b"p\0", &1_u32.to_be_bytes(), b"x"].concat()
}

#[test]
fn ordinals_count_rows_of_tables_that_are_not_captured() {
    let mut it = assembler();
    feed(&mut it, &[begin(100), relation(1, "a"), relation(2, "b"), insert(2), message(true, 90), insert(1)]);
    feed(&mut it, &[commit(100)]);
    let collected = it.take();
    let Some(Event::Change(change)) = collected.events.get(2) else { panic!("{:?}", collected.events) };
    assert_eq!((change.seq, change.table), (3, 0));
    assert_eq!(collected.tables.len(), 1);
    assert!(matches!(collected.events.last(), Some(Event::Commit(Mark::Lsn(Lsn(108)), _))));
}

#[test]
fn a_batch_says_which_transaction_was_open_and_indexes_its_own_tables() {
    let mut it = assembler();
    feed(&mut it, &[begin(100), relation(1, "a"), insert(1)]);
    assert!(it.take().open.is_none());
    feed(&mut it, &[insert(1)]);
    let second = it.take();
    assert_eq!(second.open.unwrap().pos, "0/64");
    assert_eq!(second.tables.len(), 1);
    assert!(matches!(second.events.first(), Some(Event::Change(change)) if change.seq == 2));
}

#[test]
fn what_was_published_before_is_passed_over_and_held_until_then() {
    let mut it = set_up(Some(10));
    assert_eq!(it.shared.holds.bound(50), 10);
    feed(&mut it, &[message(false, 40), begin(30), relation(1, "a"), insert(1), commit(30)]);
    assert!(!it.has_something());
    feed(&mut it, &[begin(60)]);
    assert_eq!(it.shared.holds.bound(50), 50);
    feed(&mut it, &[insert(1), commit(60)]);
    assert!(
        matches!(it.take().events.as_slice(), [Event::Begin(_), Event::Change(change), Event::Commit(..)] if change.seq == 1)
    );
}

/// The relation of `public.a` with one column of this name.
fn column(name: &str) -> Vec<u8> {
    let head = [&b"R"[..], &1_u32.to_be_bytes(), b"public\0a\0d\0\x01\x01", name.as_bytes(), b"\0"].concat();
    [head, 23_u32.to_be_bytes().to_vec(), (-1_i32).to_be_bytes().to_vec()].concat()
}

/// Transaction 7 while it is in progress: the table with one column of this name, and a row.
fn streamed(name: &str) -> Vec<Vec<u8>> {
    let of_7 = |bytes: &[u8]| [&bytes[..1], &7_u32.to_be_bytes(), &bytes[1..]].concat();
    let start = [&b"S"[..], &7_u32.to_be_bytes(), &[1]].concat();
    vec![start, of_7(&column(name)), of_7(&insert(1)), b"E".to_vec()]
}

/// Commits transaction 7, and replays it.
fn streamed_commit(it: &mut Assembler, at: u64) {
    let Step::Replay(committed, mut replay) = it.message(&stream_commit(at), (0, 0)).unwrap() else {
        panic!("no replay")
    };
    it.replay_begins(committed, replay.origin.take()).unwrap();
    replay_rest(it, committed, *replay);
}

fn stream_commit(at: u64) -> Vec<u8> {
    [&b"c"[..], &7_u32.to_be_bytes(), &[0], &at.to_be_bytes(), &(at + 8).to_be_bytes(), &[0; 8]].concat()
}

fn replay_rest(it: &mut Assembler, committed: Committed, mut replay: Replay) {
    while let Some(record) = replay.record().unwrap() {
        it.replayed(replay.message(record), record.start, record.number).unwrap();
        replay.advance(record);
    }
    it.replay_ends(committed).unwrap();
}

/// The first columns' names of the rows' tables.
fn names(collected: &Collected) -> Vec<&str> {
    collected
        .events
        .iter()
        .filter_map(|event| if let Event::Change(change) = event { Some(change.table as usize) } else { None })
        .map(|table| collected.tables[table].columns[0].name.as_str())
        .collect()
}

#[test]
fn a_replay_has_relations_of_its_own_unless_they_are_newer() {
    let mut it = assembler();
    feed(&mut it, &streamed("old"));
    feed(&mut it, &[begin(100), column("new"), insert(1), commit(100)]);
    streamed_commit(&mut it, 200);
    feed(&mut it, &[begin(300), insert(1), commit(300)]);
    assert_eq!(names(&it.take()), ["new", "old", "new"]);
}

/// The server sends a relation once to a stream, in a transaction that was published before, too.
#[test]
fn relations_of_a_streamed_transaction_that_is_passed_over_hold_for_what_follows() {
    let mut it = set_up(Some(10));
    feed(&mut it, &streamed("its"));
    streamed_commit(&mut it, 30);
    assert!(!it.has_something());
    feed(&mut it, &[begin(60), insert(1), commit(60)]);
    assert_eq!(names(&it.take()), ["its"]);
}

#[test]
fn keepalives_become_one_heartbeat_that_never_goes_back() {
    let mut it = assembler();
    it.keepalive(40);
    assert!(!it.has_something());
    it.keepalive(60);
    it.keepalive(70);
    assert!(matches!(it.take().events.as_slice(), [Event::Heartbeat(LogPosition::Lsn(Lsn(70)), _)]));
    it.keepalive(70);
    assert!(!it.has_something());
    feed(&mut it, &[begin(100)]);
    it.keepalive(200);
    feed(&mut it, &[commit(100)]);
    assert!(it.take().events.iter().all(|event| !matches!(event, Event::Heartbeat(..))));
}

#[test]
fn a_message_outside_of_transactions_is_one_of_its_own() {
    let mut it = assembler();
    feed(&mut it, &[message(false, 80), begin(100), commit(100)]);
    let events = it.take().events;
    assert!(matches!(events.first(), Some(Event::Begin(own)) if own.id.is_empty() && own.pos == "0/4F"));
    assert!(matches!(events.get(2), Some(Event::Commit(Mark::Lsn(Lsn(80)), _))));
}

#[test]
fn a_relation_that_is_sent_again_unchanged_keeps_its_version() {
    let mut it = assembler();
    feed(&mut it, &[begin(100), relation(1, "a"), insert(1), relation(1, "a"), insert(1)]);
    assert_eq!(it.take().tables.len(), 1);
}

#[test]
fn rows_without_relation_or_transaction_are_errors() {
    assert!(assembler().message(&insert(1), (0, 0)).is_err());
    let mut it = assembler();
    feed(&mut it, &[begin(100)]);
    assert!(it.message(&insert(1), (0, 0)).is_err());
    assert!(it.message(&begin(200), (0, 0)).is_err());
    assert!(assembler().message(&commit(1), (0, 0)).is_err());
    assert!(assembler().message(&message(true, 1), (0, 0)).is_err());
}

/// The changes' places and the transactions' facts.
fn told(collected: &Collected) -> (Vec<u64>, Vec<TransactionFacts>) {
    let (mut places, mut facts) = (Vec::new(), Vec::new());
    facts.extend(collected.open.iter().map(|open| open.facts.clone()));
    for event in &collected.events {
        match event {
            Event::Change(change) => places.push(change.place.at),
            Event::Begin(transaction) => facts.push(transaction.facts.clone()),
            _ => {}
        }
    }
    (places, facts)
}

fn origin(lsn: u64) -> Vec<u8> {
    [&b"O"[..], &lsn.to_be_bytes(), b"elsewhere\0"].concat()
}

#[test]
fn a_row_has_the_lsn_of_its_record_and_a_transaction_the_end_of_the_commit_before() {
    let mut it = assembler();
    feed(&mut it, &[begin(100), relation(1, "a")]);
    it.message(&insert(1), (0, 77)).unwrap();
    it.message(&insert(1), (0, 88)).unwrap();
    feed(&mut it, &[commit(100), begin(200), commit(200)]);
    // a keep-alive is no commit
    it.keepalive(500);
    feed(&mut it, &[begin(600), commit(600)]);
    let (places, facts) = told(&it.take());
    assert_eq!(places, [77, 88]);
    let before: Vec<_> = facts.iter().map(|facts| facts.before.map(|lsn| lsn.0)).collect();
    assert_eq!(before, [None, Some(108), Some(208)]);
}

#[test]
fn an_origin_is_of_its_transaction_alone_wherever_the_batch_ends() {
    let named =
        |facts: &TransactionFacts| (facts.origin.as_deref().map(str::to_owned), facts.origin_lsn.map(|lsn| lsn.0));
    let elsewhere = |lsn| (Some("elsewhere".to_owned()), lsn);
    let mut it = assembler();
    feed(&mut it, &[relation(1, "a"), begin(50), origin(8), commit(50)]);
    it.describe = true;
    let (_, facts) = told(&it.take());
    assert_eq!(facts.iter().map(named).collect::<Vec<_>>(), [(None, None)], "not asked");
    feed(&mut it, &[begin(100), origin(9), insert(1), commit(100), begin(200)]);
    let (_, facts) = told(&it.take());
    assert_eq!(facts.iter().map(named).collect::<Vec<_>>(), [elsewhere(Some(9)), (None, None)]);
    feed(&mut it, &[origin(10), insert(1), commit(200), begin(300), insert(1)]);
    let (_, facts) = told(&it.take());
    assert_eq!(facts.iter().map(named).collect::<Vec<_>>(), [elsewhere(Some(10)), (None, None)]);
}

#[test]
fn a_streamed_transaction_has_its_rows_lsns_and_its_origin() {
    let mut it = assembler();
    let mut parts = streamed("id");
    parts.insert(1, origin(0));
    // a described relation would wait for the catalog
    it.describe = true;
    for (nth, part) in parts.iter().enumerate() {
        it.message(part, (0, 70 + nth as u64)).unwrap();
    }
    let Step::Replay(committed, mut replay) = it.message(&stream_commit(200), (0, 0)).unwrap() else { panic!() };
    it.replay_begins(committed, replay.origin.take()).unwrap();
    it.describe = false;
    replay_rest(&mut it, committed, *replay);
    let (places, facts) = told(&it.take());
    assert_eq!(places, [73]);
    assert_eq!((facts[0].origin.as_deref(), facts[0].origin_lsn), (Some("elsewhere"), None));
}

#[test]
fn a_message_has_its_lsn() {
    let mut it = assembler();
    feed(&mut it, &[message(false, 80)]);
    assert!(matches!(it.take().events.get(1), Some(Event::Message(it)) if it.lsn == Lsn(80)));
}

#[test]
fn what_somebody_else_has_published_of_a_transaction_is_left_out_and_counts() {
    let mut it = assembler();
    it.left_out = Some((7, 80));
    let at = |it: &mut Assembler, message: Vec<u8>, lsn| {
        assert!(matches!(it.message(&message, (0, lsn)).unwrap(), Step::Done));
    };
    for (message, lsn) in
        [(begin(100), 0), (relation(1, "a"), 0), (insert(1), 70), (insert(1), 80), (insert(1), 90), (commit(100), 0)]
    {
        at(&mut it, message, lsn);
    }
    let rows = |it: &mut Assembler| -> Vec<u64> {
        let events = it.take().events;
        events
            .iter()
            .filter_map(|event| if let Event::Change(change) = event { Some(change.seq) } else { None })
            .collect()
    };
    assert_eq!(rows(&mut it), [3]);
    // of another transaction nothing is, wherever its rows stand
    it.left_out = Some((8, 80));
    for (message, lsn) in [(begin(200), 0), (insert(1), 70), (commit(200), 0)] {
        at(&mut it, message, lsn);
    }
    assert_eq!(rows(&mut it), [1]);
}
