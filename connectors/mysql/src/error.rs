//! Errors of a MySQL or MariaDB source in an operator's words: what, where, and the repair.
//!
//! [`ServerError`] is the server's own answer; [`Where`] is the place that every message names. Which of the
//! server's errors a restart may cure is decided here and nowhere else: what isn't known to go away by itself is
//! definite, so that an unknown error stops the source with its text and doesn't loop.

use std::fmt;

use rowcast_core::{LogPosition, MariaGtidSet, SourceError};

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
        write!(f, "{} {}:{} as user `{}`", self.flavor, self.host, self.port, self.user)
    }
}

impl ServerError {
    /// Whether it says that the binlog after the requested position was purged.
    pub(crate) fn is_gap(&self) -> bool {
        let text = self.message.to_ascii_lowercase();
        self.code == 1236
            && !text.contains("diverged")
            && ["purged", "could not find gtid state", "not in the master"].iter().any(|part| text.contains(part))
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
        self.definite(format_args!("GAP: the server purged changes after {ours}, where we left off{has}: {error}"))
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
            // ER_ACCESS_DENIED_ERROR, ER_ACCESS_DENIED_NO_PASSWORD_ERROR
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
                let needed = if error.message.contains("REPLICATION SLAVE") || doing.contains("binlog") {
                    "REPLICATION SLAVE ON *.*"
                } else {
                    "SELECT ON <database>.<table>"
                };
                definite().repair(format!("GRANT {needed} TO {user}@'...'"))
            }
            // 4052: MariaDB's ER_SLAVE_SAME_ID
            1236 | 4052 => self.dump_refused(doing, error),
            // MariaDB: ER_GTID_POSITION_NOT_FOUND_IN_BINLOG(2), ER_GTID_START_FROM_BINLOG_HOLE
            1945 | 1951 | 1952 | 1955 => definite().repair(GAP_REPAIR),
            // Unknown database, unknown system variable, syntax
            1049 | 1193 | 1064 => definite(),
            // Too many connections, out of resources, shutdown, killed, timeouts, lock waits, read-only failover
            1040
            | 1041
            | 1042
            | 1043
            | 1053
            | 1077
            | 1078
            | 1079
            | 1080
            | 1129
            | 1152..=1161
            | 1203
            | 1205
            | 1213
            | 1226
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
        if text.contains("diverged") {
            return self
                .definite(format_args!("the server's history is not the one that our position comes from: {error}"))
                .repair("connect to the server that the checkpoint came from, or remove the checkpoint");
        }
        if text.contains("max_allowed_packet") {
            return definite().repair("SET GLOBAL max_allowed_packet=1073741824");
        }
        definite()
    }
}

/// The request that the server refuses in so odd a way.
pub(crate) const REGISTERING: &str = "registering for the binlog";

/// What to do about a gap; said in one place.
pub(crate) const GAP_REPAIR: &str =
    "the changes in between can't be read any more; remove the checkpoint to start at the server's current end";

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
    fn fatal_binlog_errors_are_told_apart_by_their_text() {
        assert!(error(1236, "the source purged required binary logs").is_gap());
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
        let expected = "GAP: the server purged changes after 0-1-123, where we left off (its oldest binlog, \
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
