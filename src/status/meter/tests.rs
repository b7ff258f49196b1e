#![allow(clippy::unwrap_used)]
use super::*;

fn meter() -> Meter {
    let about = About { name: "shop".into(), kind: "mysql", sink: "kafka", read_timeout: Duration::from_secs(60) };
    Meter::new(about)
}

fn board() -> Board {
    Board::new(Vec::new(), Default::default(), 1, Default::default())
}

#[test]
fn the_place_in_a_binlog_is_known_once_nothing_is_behind() {
    let meter = meter();
    let log = LogPosition::Gtid(Default::default());
    meter.opened(&Position::boundary(log.clone()), true, &board(), Pulse::default());
    let at = |byte| Some(Offset { file: 3, byte });
    let look = |byte| Look { offset: at(byte), transactions: Some(0), ..Look::default() };
    meter.saw(look(70), Some(&log), false);
    assert_eq!(meter.published().offset, None, "there was more");
    let other = LogPosition::MariaDb(Default::default());
    meter.saw(look(80), Some(&other), true);
    assert_eq!(meter.published().offset, None, "another position was at the end");
    meter.saw(look(90), Some(&log), true);
    assert_eq!(meter.published().offset, at(90));
}

fn behind(now_us: i64) -> Look {
    Look { transactions: Some(3), now_us, ..Look::default() }
}

#[test]
fn seconds_are_those_since_the_last_published_commit_or_since_nothing_was_behind() {
    let meter = meter();
    meter.saw(behind(100_000_000), None, false);
    assert_eq!(meter.seen().lag.unwrap().seconds, None, "nothing is known yet");
    meter.staged_commit(90_000_000);
    meter.saw(behind(100_000_000), None, false);
    assert_eq!(meter.seen().lag.unwrap().seconds, Some(10.0), "what is being read was committed then");
    meter.passed(&LogPosition::Gtid(Default::default()), Offset { file: 1, byte: 5 });
    meter.saw(behind(101_000_000), None, false);
    assert_eq!(meter.seen().lag.unwrap().seconds, Some(11.0));
    // idle for an hour, then something new: it can't be older than the last look
    meter.saw(Look { transactions: Some(0), now_us: 3_700_000_000, ..Look::default() }, None, true);
    assert_eq!(meter.seen().lag.unwrap().seconds, Some(0.0));
    meter.saw(behind(3_705_000_000), None, false);
    assert_eq!(meter.seen().lag.unwrap().seconds, Some(5.0));
    // a stream that began at the end owes nothing older
    let fresh = self::meter();
    fresh.opened(&Position::boundary(LogPosition::Gtid(Default::default())), true, &board(), Pulse::default());
    fresh.saw(behind(500_000_000), None, false);
    let seconds = fresh.seen().lag.unwrap().seconds.unwrap();
    assert!((0.0..5.0).contains(&seconds), "{seconds}");
    // clocks that differ give no negative lag
    meter.saw(behind(3_600_000_000), None, false);
    assert_eq!(meter.seen().lag.unwrap().seconds, Some(0.0));
}

#[test]
fn an_unknown_lag_says_since_when_and_a_look_ends_that() {
    let meter = meter();
    assert!(meter.saw_nothing("no route".into()));
    assert!(!meter.saw_nothing("refused".into()));
    assert_eq!(meter.seen().unknown.unwrap().1, "refused");
    meter.saw(behind(1), None, false);
    assert!(meter.seen().unknown.is_none());
}

#[test]
fn a_new_run_forgets_what_the_last_one_waited_for() {
    let meter = meter();
    meter.set(Phase::Streaming);
    meter.enters(Doing::Commit, Instant::now());
    meter.probes();
    assert!(meter.facts().doing.is_some() && meter.facts().probing.is_some());
    meter.set(Phase::Starting);
    assert!(meter.facts().doing.is_none() && meter.facts().probing.is_none());
}

#[test]
fn the_first_probe_without_an_answer_counts() {
    let meter = meter();
    meter.probes();
    std::thread::sleep(Duration::from_millis(20));
    meter.probed(Err("timed out".into()));
    meter.probes();
    let (since, why) = meter.facts().probing.unwrap();
    assert!(since >= Duration::from_millis(19) && why.as_deref() == Some("timed out"), "{since:?}");
    meter.probed(Ok(()));
    assert!(meter.facts().probing.is_none());
}
