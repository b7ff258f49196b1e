//! Global transaction identifiers of MySQL and of MariaDB: two unlike things with one name.
//!
//! MySQL: `uuid:number`, since 8.3 `uuid:tag:number`; what was executed is a *set* with possible holes.
//! MariaDB: `domain-server-sequence`; what was executed is the *last* one of each domain.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::position::PositionError;

/// The last number that a MySQL transaction can have.
pub const LAST_NUMBER: u64 = i64::MAX as u64 - 1;

/// The origin of MySQL GTIDs: the server's UUID and the tag (empty for none, else at most 32 characters
/// `[a-z_][a-z0-9_]*`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The UUID, big-endian.
    pub uuid: [u8; 16],
    /// The tag, in lower case; empty for none.
    pub tag: String,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_uuid(f, &self.uuid)?;
        if self.tag.is_empty() { Ok(()) } else { write!(f, ":{}", self.tag) }
    }
}

/// One MySQL transaction.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Gtid {
    /// Where it comes from.
    pub origin: Origin,
    /// Its number there, from 1.
    pub number: u64,
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.origin, self.number)
    }
}

/// A set of MySQL transactions.
///
/// Per origin, sorted disjoint intervals `[first, last]` that don't touch. Adding the next number of an origin, which
/// is what a stream does, costs a look-up and an increment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GtidSet {
    origins: BTreeMap<Origin, Vec<(u64, u64)>>,
}

impl GtidSet {
    /// Takes in one transaction.
    pub fn add(&mut self, gtid: &Gtid) {
        match self.origins.get_mut(&gtid.origin) {
            Some(intervals) => {
                if let Some((_, last)) = intervals.last_mut()
                    && last.checked_add(1) == Some(gtid.number)
                {
                    *last = gtid.number;
                } else {
                    add_interval(intervals, gtid.number, gtid.number);
                }
            }
            None => {
                self.origins.insert(gtid.origin.clone(), vec![(gtid.number, gtid.number)]);
            }
        }
    }

    /// Takes in the transactions `first..=last` of an origin; none if `first` is 0 or above `last`, or `last` is no number that
    /// a transaction can have.
    pub fn add_range(&mut self, origin: Origin, first: u64, last: u64) {
        if first >= 1 && first <= last && last <= LAST_NUMBER {
            add_interval(self.origins.entry(origin).or_default(), first, last);
        }
    }

    /// Takes in all transactions of another set.
    pub fn add_all(&mut self, other: &Self) {
        for (origin, theirs) in &other.origins {
            for (first, last) in theirs {
                self.add_range(origin.clone(), *first, *last);
            }
        }
    }

    /// Whether the transaction is in the set.
    pub fn contains(&self, gtid: &Gtid) -> bool {
        self.origins.get(&gtid.origin).is_some_and(|intervals| covers(intervals, gtid.number, gtid.number))
    }

    /// Whether all transactions of `other` are in this set.
    pub fn contains_all(&self, other: &Self) -> bool {
        other.origins.iter().all(|(origin, theirs)| {
            self.origins.get(origin).is_some_and(|ours| theirs.iter().all(|(first, last)| covers(ours, *first, *last)))
        })
    }

    /// What is in this set and not in `other`.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let mut result = Self::default();
        for (origin, ours) in &self.origins {
            let theirs = other.origins.get(origin).map_or(&[][..], Vec::as_slice);
            for (first, last) in ours {
                let mut from = *first;
                for (their_first, their_last) in theirs {
                    if *their_last < from || *their_first > *last {
                        continue;
                    }
                    if *their_first > from {
                        result.add_range(origin.clone(), from, *their_first - 1);
                    }
                    // numbers end below u64::MAX
                    from = their_last.saturating_add(1);
                }
                if from <= *last {
                    result.add_range(origin.clone(), from, *last);
                }
            }
        }
        result
    }

    /// What is in both sets.
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        self.minus(&self.minus(other))
    }

    /// True if there is no transaction in it.
    pub fn is_empty(&self) -> bool {
        self.origins.is_empty()
    }

    /// As text for a message: the beginning, and how many transactions there are if that isn't all.
    pub fn in_short(&self) -> String {
        const MOST: usize = 240;
        let text = self.to_string();
        match text.get(..MOST).and_then(|head| head.rfind([',', ':']).and_then(|end| head.get(..end))) {
            Some(head) if text.len() > MOST => format!("{head},... ({} transactions)", self.count()),
            _ => text,
        }
    }

    /// How many transactions are in it.
    pub fn count(&self) -> u64 {
        let of = |(first, last): &(u64, u64)| last.saturating_sub(*first).saturating_add(1);
        self.origins.values().flatten().map(of).fold(0, u64::saturating_add)
    }

    /// The intervals `(first, last)`, both included, by origin.
    pub fn origins(&self) -> impl Iterator<Item = (&Origin, &[(u64, u64)])> {
        self.origins.iter().map(|(origin, intervals)| (origin, intervals.as_slice()))
    }
}

fn covers(intervals: &[(u64, u64)], first: u64, last: u64) -> bool {
    intervals.iter().any(|(a, b)| *a <= first && last <= *b)
}

fn add_interval(intervals: &mut Vec<(u64, u64)>, mut first: u64, mut last: u64) {
    intervals.retain(|(a, b)| {
        let touches = *a <= last.saturating_add(1) && first <= b.saturating_add(1);
        if touches {
            first = first.min(*a);
            last = last.max(*b);
        }
        !touches
    });
    let at = intervals.partition_point(|(a, _)| *a < first);
    intervals.insert(at, (first, last));
}

/// The servers' form: `uuid:1-5:7,uuid:tag:1-3`, origins sorted.
impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (origin, intervals)) in self.origins.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            origin.fmt(f)?;
            for (first, last) in intervals {
                if first == last {
                    write!(f, ":{first}")?;
                } else {
                    write!(f, ":{first}-{last}")?;
                }
            }
        }
        Ok(())
    }
}

impl FromStr for GtidSet {
    type Err = PositionError;

    /// Also the servers' longer form, with line breaks and several tags behind one UUID (`uuid:1-5:tag:1-3`).
    fn from_str(text: &str) -> Result<Self, PositionError> {
        let mut set = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let wrong = || PositionError(format!("`{part}` is not of the form uuid:1-5:7"));
            let mut fields = part.split(':').map(str::trim);
            let uuid = fields.next().and_then(parse_uuid).ok_or_else(wrong)?;
            let mut origin = Origin { uuid, tag: String::new() };
            let mut any = false;
            for field in fields {
                if field.bytes().next().is_some_and(|b| b.is_ascii_digit()) {
                    let (first, last) = field.split_once('-').unwrap_or((field, field));
                    let number =
                        |digits: &str| digits.trim().parse::<u64>().ok().filter(|n| (1..=LAST_NUMBER).contains(n));
                    let (first, last) = (number(first).ok_or_else(wrong)?, number(last).ok_or_else(wrong)?);
                    if first > last {
                        return Err(wrong());
                    }
                    set.add_range(origin.clone(), first, last);
                    any = true;
                } else {
                    origin.tag = parse_tag(field).ok_or_else(wrong)?;
                }
            }
            if !any {
                return Err(wrong());
            }
        }
        Ok(set)
    }
}

/// By inclusion.
impl PartialOrd for GtidSet {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self.contains_all(other), other.contains_all(self)) {
            (true, true) => Some(Ordering::Equal),
            (true, false) => Some(Ordering::Greater),
            (false, true) => Some(Ordering::Less),
            (false, false) => None,
        }
    }
}

fn parse_tag(text: &str) -> Option<String> {
    let ok = text.len() <= 32
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    ok.then(|| text.to_ascii_lowercase())
}

/// Parses a UUID in its usual form of 36 characters.
pub fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let bytes = text.as_bytes();
    if bytes.len() != 36 {
        return None;
    }
    let mut uuid = [0_u8; 16];
    let mut digits = 0_usize;
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 8 | 13 | 18 | 23) {
            if *byte != b'-' {
                return None;
            }
            continue;
        }
        let digit = char::from(*byte).to_digit(16)? as u8;
        let place = uuid.get_mut(digits / 2)?;
        *place = *place << 4 | digit;
        digits += 1;
    }
    Some(uuid)
}

/// Writes a UUID in its usual form.
pub(crate) fn write_uuid(f: &mut fmt::Formatter<'_>, uuid: &[u8; 16]) -> fmt::Result {
    for (index, byte) in uuid.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            f.write_str("-")?;
        }
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

/// One MariaDB transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MariaGtid {
    /// Replication domain.
    pub domain: u32,
    /// Server that wrote it.
    pub server: u32,
    /// Its number in the domain.
    pub sequence: u64,
}

impl fmt::Display for MariaGtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.domain, self.server, self.sequence)
    }
}

impl FromStr for MariaGtid {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let wrong = || PositionError(format!("`{text}` is not of the form 0-1-100"));
        let mut parts = text.trim().split('-');
        let (Some(domain), Some(server), Some(sequence), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong());
        };
        Ok(Self {
            domain: domain.parse().map_err(|_| wrong())?,
            server: server.parse().map_err(|_| wrong())?,
            sequence: sequence.parse().map_err(|_| wrong())?,
        })
    }
}

/// The last MariaDB transaction of each domain (`@@gtid_binlog_pos`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MariaGtidSet {
    domains: BTreeMap<u32, MariaGtid>,
}

impl MariaGtidSet {
    /// Takes in a transaction: it becomes the last one of its domain. The log's order counts, not the number:
    /// without `gtid_strict_mode` numbers may go back.
    pub fn add(&mut self, gtid: MariaGtid) {
        self.domains.insert(gtid.domain, gtid);
    }

    /// The last transaction of a domain.
    pub fn last(&self, domain: u32) -> Option<&MariaGtid> {
        self.domains.get(&domain)
    }

    /// Whether the transaction is in it, by its number.
    pub fn contains(&self, gtid: &MariaGtid) -> bool {
        self.last(gtid.domain).is_some_and(|last| last.sequence >= gtid.sequence)
    }

    /// Takes in another position: of each domain, the later one by the numbers.
    pub fn add_all(&mut self, other: &Self) {
        for theirs in other.domains() {
            if !self.contains(theirs) {
                self.add(*theirs);
            }
        }
    }

    /// The last transactions of the domains in which this position goes further than `other`.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        Self { domains: self.domains.iter().filter(|(_, ours)| !other.contains(ours)).map(|(d, g)| (*d, *g)).collect() }
    }

    /// The last transaction of each domain.
    pub fn domains(&self) -> impl Iterator<Item = &MariaGtid> {
        self.domains.values()
    }

    /// True if there is no transaction in it.
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty()
    }

    /// How many transactions of this set are not in `other`, by the numbers: a domain's are consecutive, unless a server was
    /// told otherwise.
    pub fn ahead_of(&self, other: &Self) -> u64 {
        let behind = |ours: &MariaGtid| {
            let theirs = other.domains.get(&ours.domain).map_or(0, |theirs| theirs.sequence);
            ours.sequence.saturating_sub(theirs)
        };
        self.domains.values().map(behind).fold(0, u64::saturating_add)
    }

    fn covers(&self, other: &Self) -> bool {
        other.domains.values().all(|theirs| self.contains(theirs))
    }
}

/// The servers' form: `0-1-100,1-2-5`.
impl fmt::Display for MariaGtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, gtid) in self.domains.values().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            gtid.fmt(f)?;
        }
        Ok(())
    }
}

impl FromStr for MariaGtidSet {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let mut set = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            set.add(part.parse()?);
        }
        Ok(set)
    }
}

/// By the numbers of each domain.
impl PartialOrd for MariaGtidSet {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self.covers(other), other.covers(self)) {
            (true, true) => Some(Ordering::Equal),
            (true, false) => Some(Ordering::Greater),
            (false, true) => Some(Ordering::Less),
            (false, false) => None,
        }
    }
}

#[cfg(test)]
mod tests;
