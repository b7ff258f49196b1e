//! Which server this is, and whether its history holds the checkpoint.
//!
//! A standby that is promoted begins a new timeline at the place up to which it had its primary's log. What the primary
//! wrote behind that place is gone, published or not, and the new timeline uses the same places for other transactions.
//! The server would stream from any place it is given; so the checkpoint's timeline must be the server's own, or one that
//! it left at or behind the checkpoint. Anything else is a gap.

use std::time::Duration;

use rowcast_core::{Lsn, Position, SourceError};

use crate::error::{Target, pooler};
use crate::replication::connection::{Connection, Rows};

/// What the server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The system identifier: another one is another cluster, whose positions mean nothing here.
    pub(crate) system: String,
    /// The timeline that it writes, or replays.
    pub(crate) timeline: u32,
    /// The end of its log.
    end: Lsn,
}

/// Asks the server who it is.
pub(crate) async fn identify(connection: &mut Connection, timeout: Duration) -> Result<Identity, SourceError> {
    const DOING: &str = "asking for the system identifier";
    let target = connection.target().clone();
    let rows =
        connection.query("IDENTIFY_SYSTEM", DOING, timeout).await?.map_err(|error| match error.code.as_str() {
            // it is no command of SQL: this is an ordinary session, though another was asked for
            "42601" => pooler(&target, "what was to be a replication connection is none"),
            _ => error.explain(&target, DOING),
        })?;
    parse(&rows).ok_or_else(|| target.transient(format!("{DOING}: no answer")))
}

fn parse(rows: &Rows) -> Option<Identity> {
    let row = rows.first()?;
    let text = |index: usize| row.get(index)?.as_deref();
    Some(Identity { system: text(0)?.to_owned(), timeline: text(1)?.parse().ok()?, end: text(2)?.parse().ok()? })
}

/// Checks that the server's log holds everything up to the checkpoint, on the checkpoint's timeline.
///
/// # Errors
/// Transient if a standby hasn't come so far yet; else a gap.
pub(crate) async fn check(
    connection: &mut Connection,
    server: &Identity,
    checkpoint: &Position,
    at: Lsn,
    is_standby: bool,
    timeout: Duration,
) -> Result<(), SourceError> {
    const DOING: &str = "reading the timeline's history";
    let target = connection.target().clone();
    // a checkpoint of an older version doesn't say its timeline
    let left = match checkpoint.timeline {
        Some(timeline) if timeline != server.timeline => {
            let command = format!("TIMELINE_HISTORY {}", server.timeline);
            let rows =
                connection.query(&command, DOING, timeout).await?.map_err(|error| error.explain(&target, DOING))?;
            let history = rows.first().and_then(|row| row.get(1)?.as_deref()).unwrap_or_default();
            Some((timeline, left_at(history, timeline)))
        }
        _ => None,
    };
    judge(&target, server, at, left, is_standby)
}

/// `left` is the checkpoint's timeline if it isn't the server's, and where the server left it.
fn judge(
    target: &Target,
    server: &Identity,
    at: Lsn,
    left: Option<(u32, Option<Lsn>)>,
    is_standby: bool,
) -> Result<(), SourceError> {
    let lost = match left {
        Some((timeline, Some(left))) if left < at => format!(
            "the server left timeline {timeline} at {left} when it was promoted, {} bytes of WAL before the checkpoint at \
             {at}, and is on timeline {} now",
            at.0.saturating_sub(left.0),
            server.timeline
        ),
        Some((timeline, None)) => format!(
            "the checkpoint at {at} is on timeline {timeline}, which isn't in the history of the server's timeline {} (was it restored \
             from an older backup, or is it another standby?)",
            server.timeline
        ),
        _ if server.end < at && is_standby => {
            return Err(target.transient(format!(
                "the standby has replayed the log up to {}, and the checkpoint is at {at}",
                server.end
            )));
        }
        _ if server.end < at => format!(
            "the server's log ends at {} on timeline {}, {} bytes of WAL before the checkpoint at {at} (was it restored from a \
             backup?)",
            server.end,
            server.timeline,
            at.0.saturating_sub(server.end.0)
        ),
        _ => return Ok(()),
    };
    Err(target
        .gap(format!(
            "gap: {lost}: it lacks transactions that were published, and what it has in their place would be skipped"
        ))
        .repair(
            "point `source.host` at a server that has them; or set `on_gap: backfill`, which copies all tables again",
        ))
}

/// Where a timeline ended, as the history file of a later one says: lines of timeline, place and reason.
fn left_at(history: &str, timeline: u32) -> Option<Lsn> {
    history.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        if words.next()?.parse() != Ok(timeline) { None } else { words.next()?.parse().ok() }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HISTORY: &str = "1\t0/3000A28\tno recovery target specified\n\n2\t0/5000000\tbefore 2026-01-01 00:00:00+00\n";

    fn judged(at: u64, timeline: Option<u32>, is_standby: bool) -> Result<(), SourceError> {
        let target = Target::new("h:1", "d", "u");
        let server = Identity { system: "7".to_owned(), timeline: 3, end: Lsn(0x600_0000) };
        judge(&target, &server, Lsn(at), timeline.map(|timeline| (timeline, left_at(HISTORY, timeline))), is_standby)
    }

    #[test]
    fn a_timeline_ends_where_the_next_one_begins() {
        assert_eq!(left_at(HISTORY, 1), Some(Lsn(0x300_0A28)));
        assert_eq!(left_at(HISTORY, 2), Some(Lsn(0x500_0000)));
        assert_eq!(left_at(HISTORY, 3), None);
        assert_eq!(left_at("", 1), None);
    }

    #[test]
    fn a_checkpoint_on_a_timeline_that_the_server_left_before_it_is_a_gap() {
        assert!(judged(0x300_0A28, Some(1), false).is_ok());
        let gap = judged(0x300_0A29, Some(1), false).unwrap_err().to_string();
        assert!(gap.contains("gap: ") && gap.contains("1 bytes") && gap.contains("repair: "), "{gap}");
        assert!(judged(0x500_0000, Some(2), false).is_ok());
        assert!(judged(0x100_0000, Some(4), false).unwrap_err().to_string().contains("timeline 4"));
    }

    #[test]
    fn a_checkpoint_behind_the_end_of_the_log_is_a_gap_unless_a_standby_may_still_get_it() {
        assert!(judged(0x600_0000, None, false).is_ok());
        assert!(!judged(0x600_0001, None, false).unwrap_err().is_transient());
        assert!(judged(0x600_0001, None, true).unwrap_err().is_transient());
    }
}
