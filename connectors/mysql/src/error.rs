//! Errors of a MySQL or MariaDB source in an operator's words: what, where, and the repair.
//!
//! [`ServerError`] is the server's own answer; [`Where`] is the place that every message names. Which of the
//! server's errors a restart may cure is decided here and nowhere else: what isn't known to go away by itself is
//! definite, so that an unknown error stops the source with its text and doesn't loop.

use std::fmt;

use rowcast_core::{LogPosition, MariaGtidSet, SourceError};
use rowcast_net::NetError;

use crate::Flavor;

/// An ERR packet.
#[derive(Debug, Clone)]
pub(crate) struct ServerError {
    pub(crate) code: u16,
    pub(crate) message: String,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (server error {})", self.message, self.code)
    }
}

/// The server and user that a connection is for.
#[derive(Debug, Clone)]
pub(crate) struct Where {
    pub(crate) flavor: Flavor,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) server_id: u32,
}

impl fmt::Display for Where {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.socket() {
            Some(path) => write!(f, "{} {path} as user `{}`", self.flavor, self.user),
            None => write!(f, "{} {}:{} as user `{}`", self.flavor, self.host, self.port, self.user),
        }
    }
}

impl ServerError {
    /// Whether it says that the binlog after the requested position was purged.
    pub(crate) fn is_gap(&self) -> bool {
        let text = self.message.to_ascii_lowercase();
        const WORDS: [&str; 5] = [
            "purged",
            "could not find gtid state",
            "not in the master",
            // by file and offset: the file is gone, or shorter than it was
            "could not find first log file name",
            "> file size",
        ];
        self.code == 1236 && !text.contains("diverged") && WORDS.iter().any(|part| text.contains(part))
    }
}

/// What a MariaDB server still has of its binlog, as far as this user may ask.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// The oldest binlog, and the last transactions before it.
    pub(crate) oldest: Option<(String, MariaGtidSet)>,
    /// The newest transactions.
    pub(crate) newest: Option<MariaGtidSet>,
}

impl Where {
    /// The path of the Unix socket, if that is how the server is reached.
    pub(crate) fn socket(&self) -> Option<&str> {
        Some(self.host.as_str()).filter(|host| host.starts_with('/'))
    }

    /// The binlog that follows `ours` was purged: what is lost, and the server's words.
    pub(crate) fn gap(&self, ours: &LogPosition, kept: &Kept, error: &ServerError) -> SourceError {
        let set = |text: String| if text.is_empty() { "the beginning of its history".to_owned() } else { text };
        let ours = set(ours.to_string());
        let mut has = Vec::new();
        if let Some((file, before)) = &kept.oldest {
            has.push(format!("its oldest binlog, {file}, begins after {}", set(before.to_string())));
        }
        if let Some(newest) = kept.newest.as_ref().filter(|newest| !newest.is_empty()) {
            has.push(format!("its newest transaction is {newest}"));
        }
        let has = if has.is_empty() { String::new() } else { format!(" ({})", has.join(", ")) };
        self.lost(format_args!("gap: the server purged changes after {ours}, where we left off{has}: {error}"))
            .repair(GAP_REPAIR)
    }

    /// The statement for a server setting that lasts; MariaDB has no SET PERSIST.
    pub(crate) fn set(&self, setting: &str) -> String {
        match self.flavor {
            Flavor::Mysql => format!("SET PERSIST {setting}"),
            Flavor::MariaDb => format!("SET GLOBAL {setting}, and {setting} under [mysqld] in my.cnf"),
        }
    }

    pub(crate) fn transient(&self, what: impl fmt::Display) -> SourceError {
        SourceError::transient(format!("{self}: {what}"))
    }

    pub(crate) fn definite(&self, what: impl fmt::Display) -> SourceError {
        SourceError::definite(format!("{self}: {what}"))
    }

    /// Changes are lost to the stream.
    pub(crate) fn lost(&self, what: impl fmt::Display) -> SourceError {
        SourceError::gap(format!("{self}: {what}"))
    }

    /// A connection that can't be made.
    pub(crate) fn net(&self, error: &NetError) -> SourceError {
        let error_here = if error.is_transient() { self.transient(error) } else { self.definite(error) };
        error_here.repair(error.repair())
    }

    /// The server's bytes don't follow the protocol: damaged on the way or not a MySQL server. A new connection reads
    /// them again.
    pub(crate) fn protocol(&self, what: impl fmt::Display) -> SourceError {
        self.transient(format_args!("unexpected answer: {what}"))
    }

    /// Gives a server error its class and repair. `doing` says which request it answers.
    pub(crate) fn server(&self, doing: &str, error: &ServerError) -> SourceError {
        let user = quoted(&self.user);
        let definite = || self.definite(format_args!("{doing}: {error}"));
        let transient = || self.transient(format_args!("{doing}: {error}"));
        match error.code {
            // COM_REGISTER_SLAVE answers a missing privilege like a wrong password, though the login is over.
            1045 if doing == REGISTERING => self
                .definite(format_args!("{doing}: the user lacks the privilege REPLICATION SLAVE (server error 1045)"))
                .repair(format!("GRANT REPLICATION SLAVE ON *.* TO {user}@'...'")),
            // ER_ACCESS_DENIED_ERROR, ER_ACCESS_DENIED_NO_PASSWORD_ERROR. Servers say no more than that either to a user without the
            // TLS that he must have.
            1045 | 1698 if doing == LOGGING_IN => definite().repair(
                "check `source.user` and `source.password`; where the account (REQUIRE SSL, X509) or the server \
                 (require_secure_transport) demands TLS also `source.tls`, for X509 with `cert` and `key`",
            ),
            1045 | 1698 => definite().repair("check `source.user` and `source.password`"),
            // ER_HOST_NOT_PRIVILEGED
            1130 => {
                definite().repair(format!("allow {user} to connect from this host: CREATE USER {user}@'<host>' ..."))
            }
            // ER_ACCOUNT_HAS_BEEN_LOCKED, ER_MUST_CHANGE_PASSWORD(_LOGIN)
            3118 | 4151 => definite().repair(format!("ALTER USER {user}@'...' ACCOUNT UNLOCK")),
            1820 | 1862 => definite().repair(format!("ALTER USER {user}@'...' IDENTIFIED BY ...")),
            // ER_SECURE_TRANSPORT_REQUIRED
            3159 => definite().repair("set `source.tls.mode` to `require` or stricter"),
            // ER_SPECIFIC_ACCESS_DENIED_ERROR, ER_DBACCESS_DENIED_ERROR, ER_TABLEACCESS_DENIED_ERROR, ER_COLUMNACCESS..
            1227 | 1044 | 1142 | 1143 => {
                let needed = match privilege(&error.message) {
                    Some(privilege) => format!("{privilege} ON *.*"),
                    None if doing.contains("binlog") => "REPLICATION SLAVE ON *.*".to_owned(),
                    None => "SELECT ON <database>.<table>".to_owned(),
                };
                definite().repair(format!("GRANT {needed} TO {user}@'...'"))
            }
            // 4052: MariaDB's ER_SLAVE_SAME_ID
            1236 | 4052 => self.dump_refused(doing, error),
            // MariaDB: ER_GTID_POSITION_NOT_FOUND_IN_BINLOG(2), ER_GTID_START_FROM_BINLOG_HOLE
            1945 | 1951 | 1952 | 1955 => self.lost(format_args!("gap: {doing}: {error}")).repair(GAP_REPAIR),
            // Unknown database, unknown system variable, syntax
            1049 | 1193 | 1064 => definite(),
            // ER_NET_PACKET_TOO_LARGE, ER_WARN_ALLOWED_PACKET_OVERFLOWED
            1153 | 1301 => definite().repair(self.set(LARGEST_PACKET)),
            // ER_CON_COUNT_ERROR; ER_TOO_MANY_USER_CONNECTIONS, ER_USER_LIMIT_REACHED; ER_HOST_IS_BLOCKED
            1040 => transient().repair(format!("close other connections, or {}", self.set("max_connections=..."))),
            1203 | 1226 => transient().repair(format!(
                "raise the user's limit (ALTER USER {user}@'...' WITH MAX_USER_CONNECTIONS 0, max_user_connections); a source has \
                 several connections, and more while it copies tables"
            )),
            1129 => transient().repair(format!(
                "the host is blocked after failed attempts: {} on the server, and raise max_connect_errors",
                if self.flavor == Flavor::Mysql { "TRUNCATE TABLE performance_schema.host_cache" } else { "FLUSH HOSTS" }
            )),
            // Out of resources, shutdown, killed, timeouts, lock waits, read-only failover
            1041
            | 1042
            | 1043
            | 1053
            | 1077
            | 1078
            | 1079
            | 1080
            | 1152
            | 1154..=1161
            | 1205
            | 1213
            | 1317
            | 1927
            | 3024
            | 3168
            | 3169
            | 4031 => transient(),
            _ => definite(),
        }
    }

    /// ER_SOURCE_FATAL_ERROR_READING_BINLOG: one number for many things; the text tells which. Gaps go to `gap`.
    fn dump_refused(&self, doing: &str, error: &ServerError) -> SourceError {
        let definite = || self.definite(format_args!("{doing}: {error}"));
        let text = error.message.to_ascii_lowercase();
        if text.contains("same server_uuid") || text.contains("same server_id") || text.contains("same server id") {
            return self
                .definite(format_args!(
                    "another replica with our server_id {} took over the binlog stream (the server keeps only the newest of two): {error}",
                    self.server_id
                ))
                .repair("stop the other process, or give each its own `source.server_id`");
        }
        // MariaDB: our sequence number isn't there, but later ones are. MySQL: ours has more than the server.
        if text.contains("diverged") || text.contains("more gtids than") {
            return self
                .lost(format_args!(
                    "gap: the server's history is not the one that our position comes from: it lacks what was published: {error}"
                ))
                .repair(format!("connect to the server that the checkpoint came from; or {GAP_CHOICES}"));
        }
        if text.contains("anonymous transaction") {
            return self
                .lost(format_args!("gap: a transaction without a GTID follows a position of GTIDs: {error}"))
                .repair(format!("{}; and {GAP_CHOICES}", self.set("gtid_mode=ON")));
        }
        if text.contains("gtid_mode = o") {
            return definite().repair(self.set("gtid_mode=ON"));
        }
        // the end of a file that was being written when the server crashed, or damage on its disk
        if ["bogus data", "truncated in the middle", "checksum", "i/o error", "corrupt"]
            .iter()
            .any(|part| text.contains(part))
        {
            return definite().repair(
                "look at the file with mysqlbinlog --verify-binlog-checksum on the server; what can't be read there is lost to every \
                 replica: remove the checkpoint or set `on_gap: backfill` after PURGE BINARY LOGS TO the next file",
            );
        }
        // Where a crash cut a file in an event: what was committed before it has come; asked again, the server begins with the next file.
        if text.contains("truncated in the middle of event") {
            return self.transient(format_args!("{doing}: {error}"));
        }
        if text.contains("max_allowed_packet") {
            return definite().repair(self.set(LARGEST_PACKET));
        }
        definite()
    }
}

/// The privilege that a message of ER_SPECIFIC_ACCESS_DENIED_ERROR names: the last of those that would do, since SUPER comes first.
fn privilege(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("(at least one of) the ")?;
    let (names, _) = rest.split_once(" privilege(s)")?;
    let name = names.rsplit(", ").next()?;
    name.chars().all(|c| c.is_ascii_uppercase() || matches!(c, ' ' | '_')).then_some(name)
}

/// The servers' own limit.
const LARGEST_PACKET: &str = "max_allowed_packet=1073741824";

/// What a login is called in messages.
pub(crate) const LOGGING_IN: &str = "logging in";

/// The request that the server refuses in so odd a way.
pub(crate) const REGISTERING: &str = "registering for the binlog";

/// What to do about a gap; said in one place.
pub(crate) const GAP_REPAIR: &str = "the changes in between can't be read any more: set `on_gap: backfill`, which copies all tables again; or remove the checkpoint \
     to start at the server's current end";

/// The same where the changes may be elsewhere.
pub(crate) const GAP_CHOICES: &str = "set `on_gap: backfill`, which copies all tables again; or remove the checkpoint to start at the server's current end";

/// A user name as the server's GRANT wants it.
pub(crate) fn quoted(name: &str) -> String {
    format!("'{}'", name.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn place() -> Where {
        Where { flavor: Flavor::Mysql, host: "db".into(), port: 3306, user: "o'cdc".into(), server_id: 7 }
    }

    fn error(code: u16, message: &str) -> ServerError {
        ServerError { code, message: message.to_owned() }
    }

    #[test]
    fn definite_errors_name_place_and_repair() {
        let denied = place().server("logging in", &error(1045, "Access denied"));
        assert!(!denied.is_transient());
        assert!(denied.to_string().contains("mysql db:3306 as user `o'cdc`"), "{denied}");
        let missing = place().server("starting the binlog stream", &error(1227, "you need REPLICATION SLAVE"));
        assert!(missing.to_string().contains("GRANT REPLICATION SLAVE ON *.* TO 'o\\'cdc'@'...'"), "{missing}");
    }

    #[test]
    fn the_privilege_that_lacks_is_the_one_that_the_server_names() {
        for (message, grant) in [
            (
                "Access denied; you need (at least one of) the SUPER, REPLICATION CLIENT privilege(s) for this operation",
                "REPLICATION CLIENT",
            ),
            (
                "Access denied; you need (at least one of) the BINLOG MONITOR privilege(s) for this operation",
                "BINLOG MONITOR",
            ),
        ] {
            let error = place().server("beginning a read", &error(1227, message)).to_string();
            assert!(error.ends_with(&format!("repair: GRANT {grant} ON *.* TO 'o\\'cdc'@'...'")), "{error}");
        }
        assert_eq!(privilege("(at least one of) the '; DROP TABLE x privilege(s)"), None);
    }

    #[test]
    fn a_packet_that_is_too_large_names_the_setting() {
        for (code, message) in [
            (1153, "Got a packet bigger than 'max_allowed_packet' bytes"),
            (1236, "log event entry exceeded max_allowed_packet; Increase max_allowed_packet on source"),
        ] {
            let error = place().server("reading the binlog", &error(code, message));
            assert!(
                !error.is_transient() && error.to_string().contains("SET PERSIST max_allowed_packet=1073741824"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_server_that_is_full_or_blocks_us_is_waited_for_with_the_repair() {
        for (code, repair) in
            [(1040, "max_connections"), (1203, "MAX_USER_CONNECTIONS"), (1129, "performance_schema.host_cache")]
        {
            let error = place().server("connecting", &error(code, "no"));
            assert!(error.is_transient() && error.to_string().contains(repair), "{error}");
        }
    }

    #[test]
    fn fatal_binlog_errors_are_told_apart_by_their_text() {
        assert!(error(1236, "the source purged required binary logs").is_gap());
        assert!(error(1236, "Could not find first log file name in binary log index file").is_gap());
        let short = "Client requested source to start replication from position > file size; the first event ...";
        assert!(error(1236, short).is_gap());
        let more = place()
            .server("", &error(1236, "Replica has more GTIDs than the source has, using the source's SERVER_UUID"));
        assert_eq!(more.class(), rowcast_core::ErrorClass::Gap);
        let off = "The replication sender thread cannot start in AUTO_POSITION mode: this server has GTID_MODE = OFF";
        assert!(place().server("", &error(1236, off)).to_string().contains("gtid_mode=ON"));
        let anonymous = "Cannot replicate anonymous transaction when AUTO_POSITION = 1, at file x, position 4.";
        assert!(place().server("", &error(1236, anonymous)).to_string().contains("on_gap"));
        let bogus = place().server("", &error(1236, "bogus data in log event; the first event 'x' at 4"));
        assert!(bogus.to_string().contains("mysqlbinlog"), "{bogus}");
        assert!(!error(1236, "not in the master's binlog; it probably means that the slave has diverged").is_gap());
        let twin = place().server("", &error(1236, "A replica with the same server_uuid/server_id as this replica"));
        assert!(twin.to_string().contains("server_id 7"), "{twin}");
        assert!(!twin.is_transient());
    }

    #[test]
    fn a_gap_says_what_is_lost_as_far_as_it_is_known() {
        let purged = error(1236, "Could not find GTID state");
        let set = |text: &str| text.parse::<MariaGtidSet>().unwrap();
        let ours = LogPosition::MariaDb(set("0-1-123"));
        let kept = Kept { oldest: Some(("bin.000005".into(), set("0-1-200"))), newest: Some(set("0-1-300")) };
        let all = place().gap(&ours, &kept, &purged).to_string();
        let expected = "gap: the server purged changes after 0-1-123, where we left off (its oldest binlog, \
                        bin.000005, begins after 0-1-200, its newest transaction is 0-1-300): Could not";
        assert!(all.contains(expected), "{all}");
        let little = place().gap(&LogPosition::MariaDb(set("")), &Kept::default(), &purged).to_string();
        assert!(little.contains("changes after the beginning of its history, where we left off: Could"), "{little}");
    }

    #[test]
    fn a_lasting_setting_is_said_in_the_servers_dialect() {
        let maria = Where { flavor: Flavor::MariaDb, ..place() };
        assert_eq!(place().set("x=1"), "SET PERSIST x=1");
        assert_eq!(maria.set("x=1"), "SET GLOBAL x=1, and x=1 under [mysqld] in my.cnf");
    }

    #[test]
    fn a_server_that_goes_away_is_worth_a_retry() {
        assert!(place().server("", &error(1053, "Server shutdown in progress")).is_transient());
        assert!(!place().server("", &error(65_000, "never heard of")).is_transient());
    }
}
