#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
use super::*;

const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
const B: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";

fn set(text: &str) -> GtidSet {
    text.parse().unwrap()
}

#[test]
fn what_is_missing_is_counted() {
    let set = |text: &str| text.parse::<GtidSet>().unwrap();
    let (a, b) = ("3e11fa47-71ca-11e1-9e33-c80aa9429562", "3e11fa47-71ca-11e1-9e33-c80aa9429563");
    let server = set(&format!("{a}:1-10:20,{b}:1-3,{b}:tag:7"));
    assert_eq!(server.count(), 15);
    assert_eq!(server.minus(&set(&format!("{a}:1-4:20"))).count(), 10);
    assert_eq!(set("").count(), 0);
    let maria = |text: &str| text.parse::<MariaGtidSet>().unwrap();
    assert_eq!(maria("0-1-100,2-1-5").ahead_of(&maria("0-1-90")), 15);
    assert_eq!(maria("0-1-100").ahead_of(&maria("0-2-100,1-1-7")), 0);
}

#[test]
fn a_set_reads_back_in_its_normal_form() {
    assert_eq!(set(&format!("{A}:1-5:7")).to_string(), format!("{A}:1-5:7"));
    assert_eq!(set(&format!("{A}:6:1-5:7-9")).to_string(), format!("{A}:1-9"));
    assert_eq!(set(&format!("{B}:1,\n{A}:2")).to_string(), format!("{A}:2,{B}:1"));
    assert_eq!(set(&format!("{A}:1-5:Tag:1-3:4")).to_string(), format!("{A}:1-5,{A}:tag:1-4"));
    assert_eq!(set("").to_string(), "");
    for wrong in [A.to_owned(), format!("{A}:5-1"), format!("{A}:0"), "x:1".to_owned(), format!("{A}:1-x")] {
        assert!(wrong.parse::<GtidSet>().is_err(), "{wrong}");
    }
}

#[test]
fn adding_the_next_transaction_extends_the_last_interval() {
    let mut executed = set(&format!("{A}:1-5"));
    let origin = Origin { uuid: parse_uuid(A).unwrap(), tag: String::new() };
    executed.add(&Gtid { origin: origin.clone(), number: 6 });
    executed.add(&Gtid { origin: origin.clone(), number: 9 });
    executed.add(&Gtid { origin: origin.clone(), number: 3 });
    assert_eq!(executed.to_string(), format!("{A}:1-6:9"));
    assert!(executed.contains(&Gtid { origin: origin.clone(), number: 9 }));
    assert!(!executed.contains(&Gtid { origin, number: 8 }));
}

#[test]
fn sets_are_ordered_by_inclusion_and_subtracted() {
    let (small, large) = (set(&format!("{A}:2-3")), set(&format!("{A}:1-5,{B}:1")));
    assert!(small < large);
    assert_eq!(small.partial_cmp(&set(&format!("{A}:3-4"))), None);
    assert_eq!(large.minus(&small).to_string(), format!("{A}:1:4-5,{B}:1"));
    assert!(small.minus(&large).is_empty());
}

#[test]
fn mariadb_positions_keep_the_last_transaction_of_each_domain() {
    let mut at: MariaGtidSet = "1-2-5,0-1-100".parse().unwrap();
    assert_eq!(at.to_string(), "0-1-100,1-2-5");
    let before = at.clone();
    at.add("0-7-101".parse().unwrap());
    assert_eq!(at.to_string(), "0-7-101,1-2-5");
    assert!(before < at);
    assert!("0-1".parse::<MariaGtid>().is_err());
    assert!("0-1-2-3".parse::<MariaGtid>().is_err());
}

/// Sets as lists of their transactions: slow, and too simple to be wrong.
mod model {
    use std::collections::BTreeSet;

    use super::*;

    pub(super) type Model = BTreeSet<(usize, u64)>;

    /// Origins: two servers, one of them with tags.
    fn origin(index: usize) -> Origin {
        let (uuid, tag) = [(A, ""), (A, "a"), (A, "long_tag_0"), (B, "")][index % 4];
        Origin { uuid: parse_uuid(uuid).unwrap(), tag: tag.to_owned() }
    }

    pub(super) fn set(model: &Model) -> GtidSet {
        let mut set = GtidSet::default();
        for (index, number) in model {
            set.add(&Gtid { origin: origin(*index), number: *number });
        }
        set
    }

    /// A generator of its own, so that a failure can be had again (splitmix64).
    pub(super) struct Dice(pub(super) u64);

    impl Dice {
        pub(super) fn below(&mut self, most: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut it = self.0;
            it = (it ^ it >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            it = (it ^ it >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            (it ^ it >> 31) % most
        }

        pub(super) fn model(&mut self) -> Model {
            let mut model = Model::new();
            for _ in 0..self.below(6) {
                let (index, first) = (self.below(4) as usize, 1 + self.below(20));
                model.extend((first..first + 1 + self.below(8)).map(|number| (index, number)));
            }
            model
        }
    }
}

#[test]
fn sets_do_what_lists_of_transactions_do() {
    let mut dice = model::Dice(7);
    for round in 0..3000 {
        let (a, b) = (dice.model(), dice.model());
        let (x, y) = (model::set(&a), model::set(&b));
        let is = |found: &GtidSet, expected: model::Model| {
            assert_eq!(*found, model::set(&expected), "round {round}: {a:?} {b:?}");
            assert_eq!(found.count(), expected.len() as u64, "round {round}");
            // canonical: equal sets have one text, and it reads back
            assert_eq!(found.to_string().parse::<GtidSet>().unwrap(), *found, "round {round}");
        };
        is(&x.minus(&y), a.difference(&b).copied().collect());
        is(&x.common(&y), a.intersection(&b).copied().collect());
        let mut both = x.clone();
        both.add_all(&y);
        is(&both, a.union(&b).copied().collect());
        assert_eq!(x.contains_all(&y), a.is_superset(&b), "round {round}");
        assert_eq!(x.is_empty(), a.is_empty());
        let order = match (a.is_superset(&b), b.is_superset(&a)) {
            (true, true) => Some(Ordering::Equal),
            (true, false) => Some(Ordering::Greater),
            (false, true) => Some(Ordering::Less),
            (false, false) => None,
        };
        assert_eq!(x.partial_cmp(&y), order, "round {round}");
        for (origin, intervals) in x.origins() {
            for (first, last) in intervals {
                for number in first.saturating_sub(1)..=last + 1 {
                    let gtid = Gtid { origin: origin.clone(), number };
                    let listed = intervals.iter().any(|(first, last)| (*first..=*last).contains(&number));
                    assert_eq!(x.contains(&gtid), listed, "round {round}: {gtid}");
                }
            }
            // sorted, and no two touch
            assert!(intervals.windows(2).all(|two| two[0].1 + 1 < two[1].0), "{intervals:?}");
        }
    }
}

#[test]
fn numbers_end_where_the_servers_do() {
    assert!(format!("{A}:1-{LAST_NUMBER}").parse::<GtidSet>().is_ok());
    assert!(format!("{A}:1-{}", LAST_NUMBER + 1).parse::<GtidSet>().is_err());
    let all = set(&format!("{A}:1-{LAST_NUMBER}"));
    assert_eq!(all.minus(&set(&format!("{A}:5"))).to_string(), format!("{A}:1-4:6-{LAST_NUMBER}"));
    assert!(set(&format!("{A}:{LAST_NUMBER}")).minus(&all).is_empty());
}

#[test]
fn a_long_set_is_told_in_short() {
    let holes: Vec<String> = (1..200).map(|n| (2 * n).to_string()).collect();
    let short = set(&format!("{A}:{}", holes.join(":"))).in_short();
    assert!(short.starts_with(&format!("{A}:2:4:6")) && short.ends_with(",... (199 transactions)"), "{short}");
    assert!(short.len() < 300, "{short}");
    assert_eq!(set(&format!("{A}:1-9")).in_short(), format!("{A}:1-9"));
}

#[test]
fn mariadb_positions_do_what_the_numbers_of_their_domains_do() {
    let mut dice = model::Dice(11);
    for round in 0..2000 {
        let mut random = || {
            let domains = (0..dice.below(4)).map(|_| (dice.below(4) as u32, 1 + dice.below(9)));
            domains.collect::<Vec<_>>().into_iter().collect::<BTreeMap<u32, u64>>()
        };
        let (a, b) = (random(), random());
        let of = |model: &BTreeMap<u32, u64>| {
            let mut at = MariaGtidSet::default();
            for (domain, sequence) in model {
                at.add(MariaGtid { domain: *domain, server: 1, sequence: *sequence });
            }
            at
        };
        let (x, y) = (of(&a), of(&b));
        assert_eq!(x.to_string().parse::<MariaGtidSet>().unwrap(), x);
        let covers = |a: &BTreeMap<u32, u64>, b: &BTreeMap<u32, u64>| {
            b.iter().all(|(domain, sequence)| a.get(domain).is_some_and(|ours| ours >= sequence))
        };
        assert_eq!(x >= y, covers(&a, &b), "round {round}: {x} {y}");
        assert_eq!(x == y, a == b);
        let mut both = x.clone();
        both.add_all(&y);
        let mut larger = a.clone();
        for (domain, sequence) in &b {
            let ours = larger.entry(*domain).or_default();
            *ours = (*ours).max(*sequence);
        }
        assert_eq!(both, of(&larger), "round {round}: {x} {y}");
        assert!(both >= x && both >= y);
        assert_eq!(x.minus(&y).is_empty(), covers(&b, &a), "round {round}: {x} {y}");
        let ahead: u64 = a.iter().map(|(domain, sequence)| sequence.saturating_sub(*b.get(domain).unwrap_or(&0))).sum();
        assert_eq!(x.ahead_of(&y), ahead, "round {round}: {x} {y}");
    }
}
