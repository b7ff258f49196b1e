//! Several hosts, and which of them is the one: as libpq's `host` with commas and its `target_session_attrs`, for every kind of server.
//!
//! Each start of a stream tries the hosts in their order and takes the first that answers and is as wanted; one that refuses the login
//! ends the search, as libpq does. All connections of the source then go to this one, readers and monitor too: two servers have two
//! logs. What a server is like is asked by the connector; this is the order in which it asks, and the choice.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A host name, an address, or the folder or file of a Unix socket (with a `/` in front); and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Name, address or path.
    pub name: String,
    /// Port; of a PostgreSQL socket, part of its file's name.
    pub port: u16,
}

impl Host {
    /// Whether it is the path of a Unix socket, or of the folder of one.
    pub fn is_folder(&self) -> bool {
        self.name.starts_with('/')
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.port)
    }
}

/// What the server must be like; libpq's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SessionAttributes {
    /// Anything.
    #[default]
    Any,
    /// Transactions can write.
    ReadWrite,
    /// Transactions can't write: a standby, or `default_transaction_read_only`; in MySQL and MariaDB `read_only`.
    ReadOnly,
    /// Not a standby.
    Primary,
    /// A standby.
    Standby,
    /// A standby if there is one, else anything.
    PreferStandby,
}

impl SessionAttributes {
    /// The word of the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::ReadWrite => "read-write",
            Self::ReadOnly => "read-only",
            Self::Primary => "primary",
            Self::Standby => "standby",
            Self::PreferStandby => "prefer-standby",
        }
    }

    /// Why a server isn't as wanted; none if it is. A server that knows only one of the two gives that for both.
    pub fn lacks(self, standby: bool, read_only: bool) -> Option<&'static str> {
        match self {
            Self::Primary if standby => Some("it is a standby"),
            Self::Standby | Self::PreferStandby if !standby => Some("it is no standby"),
            Self::ReadWrite if read_only => Some("its sessions are read-only"),
            Self::ReadOnly if !read_only => Some("its sessions are not read-only"),
            _ => None,
        }
    }
}

/// The hosts, and the one that was chosen. Clones share the choice.
#[derive(Debug, Clone)]
pub struct Servers {
    first: Host,
    more: Vec<Host>,
    want: SessionAttributes,
    chosen: Arc<AtomicUsize>,
}

impl Servers {
    /// Of one host or more.
    pub fn new(first: Host, more: Vec<Host>, want: SessionAttributes) -> Self {
        Self { first, more, want, chosen: Arc::default() }
    }

    /// The chosen one; the first until one was chosen.
    pub fn host(&self) -> &Host {
        self.get(self.chosen())
    }

    /// Its index.
    pub fn chosen(&self) -> usize {
        self.chosen.load(Ordering::Relaxed)
    }

    /// The host with this index; the first if there is none.
    pub fn get(&self, index: usize) -> &Host {
        index.checked_sub(1).and_then(|index| self.more.get(index)).unwrap_or(&self.first)
    }

    /// From now on it is the chosen one.
    pub fn choose(&self, index: usize) {
        self.chosen.store(index, Ordering::Relaxed);
    }

    /// The same with this choice, which nobody shares.
    #[must_use]
    pub fn pinned(&self, index: usize) -> Self {
        Self { chosen: Arc::new(AtomicUsize::new(index)), ..self.clone() }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        1 + self.more.len()
    }

    /// What the server must be like.
    pub fn want(&self) -> SessionAttributes {
        self.want
    }

    /// One host, whatever it is: nothing has to be asked.
    pub fn is_fixed(&self) -> bool {
        self.count() == 1 && self.want == SessionAttributes::Any
    }

    /// A search for the one.
    pub fn search(&self) -> Search<'_> {
        let wants: &[_] = match self.want {
            SessionAttributes::PreferStandby => &[SessionAttributes::PreferStandby, SessionAttributes::Any],
            _ => std::slice::from_ref(&self.want),
        };
        Search { servers: self, wants, index: 0, reasons: Vec::new() }
    }
}

/// Goes through the hosts: each [`Search::candidate`] is to be asked what it is like, and accepted or refused.
#[derive(Debug)]
pub struct Search<'a> {
    servers: &'a Servers,
    /// What a host must be like, in this round and the ones behind it.
    wants: &'a [SessionAttributes],
    index: usize,
    reasons: Vec<String>,
}

impl Search<'_> {
    /// The next one, as the choice of servers that nobody shares, and what it must be like; none when all were refused.
    pub fn candidate(&mut self) -> Option<(Servers, SessionAttributes)> {
        if self.index == self.servers.count() && self.wants.len() > 1 {
            self.wants = self.wants.get(1..).unwrap_or(&[]);
            self.index = 0;
            self.reasons.clear();
        }
        let want = *self.wants.first()?;
        (self.index < self.servers.count()).then(|| (self.servers.pinned(self.index), want))
    }

    /// The last one is it: from now on it is the chosen one.
    pub fn accept(self) {
        self.servers.choose(self.index);
    }

    /// The last one isn't it.
    pub fn refuse(&mut self, reason: impl fmt::Display) {
        self.reasons.push(format!("{}: {reason}", self.servers.get(self.index)));
        self.index += 1;
    }

    /// Why none is it.
    pub fn reasons(&self) -> String {
        format!("no server is there that is `{}`: {}", self.servers.want.word(), self.reasons.join("; "))
    }
}

impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        self.more.iter().try_for_each(|host| write!(f, ",{host}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, port: u16) -> Host {
        Host { name: name.to_owned(), port }
    }

    #[test]
    fn a_choice_is_shared_by_clones_and_a_pinned_one_is_not() {
        let servers = Servers::new(host("a", 1), vec![host("b", 2)], SessionAttributes::Any);
        assert_eq!(servers.to_string(), "a:1,b:2");
        let (clone, pinned) = (servers.clone(), servers.pinned(1));
        assert_eq!((clone.host(), pinned.host()), (&host("a", 1), &host("b", 2)));
        servers.choose(1);
        assert_eq!(clone.host().port, 2);
        pinned.choose(0);
        assert_eq!(clone.chosen(), 1);
    }

    #[test]
    fn attributes_mean_what_they_mean_to_libpq() {
        use SessionAttributes as A;
        // a standby is read-only
        for (want, primary, read_only_primary, standby) in [
            (A::Any, true, true, true),
            (A::ReadWrite, true, false, false),
            (A::ReadOnly, false, true, true),
            (A::Primary, true, true, false),
            (A::Standby, false, false, true),
            (A::PreferStandby, false, false, true),
        ] {
            let is = |standby, read_only| want.lacks(standby, read_only).is_none();
            let found = (is(false, false), is(false, true), is(true, true));
            assert_eq!(found, (primary, read_only_primary, standby), "{}", want.word());
        }
    }

    #[test]
    fn the_first_that_is_as_wanted_is_chosen() {
        // by port: 1 is down, 2 a standby, 3 a primary
        fn run(ports: &[u16], want: SessionAttributes) -> Result<u16, String> {
            let mut hosts = ports.iter().map(|port| host("h", *port));
            let servers = Servers::new(hosts.next().unwrap_or(host("h", 0)), hosts.collect(), want);
            let mut search = servers.search();
            while let Some((pinned, want)) = search.candidate() {
                let port = pinned.host().port;
                match want.lacks(port == 2, port == 2) {
                    _ if port == 1 => search.refuse("down"),
                    Some(lacks) => search.refuse(lacks),
                    None => {
                        search.accept();
                        return Ok(servers.host().port);
                    }
                }
            }
            Err(search.reasons())
        }
        assert_eq!(run(&[1, 2, 3], SessionAttributes::Primary), Ok(3));
        assert_eq!(run(&[3, 2], SessionAttributes::PreferStandby), Ok(2));
        assert_eq!(run(&[1, 3], SessionAttributes::PreferStandby), Ok(3));
        let said = "no server is there that is `primary`: h:1: down; h:2: it is a standby";
        assert_eq!(run(&[1, 2], SessionAttributes::Primary), Err(said.to_owned()));
        let said = "no server is there that is `prefer-standby`: h:1: down";
        assert_eq!(run(&[1], SessionAttributes::PreferStandby), Err(said.to_owned()));
    }
}
