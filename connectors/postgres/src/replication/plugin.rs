//! What pgoutput is asked for: the options of START_REPLICATION.
//!
//! An option that the server's version doesn't know isn't sent: it would refuse the whole command. The versions are those of
//! `parse_output_parameters` in the server's `pgoutput.c`.

use rowcast_core::Lsn;

use super::connection::{literal, quote};

/// The first version with protocol 2 (`streaming`), `messages` and `binary`.
pub(crate) const V14: i32 = 140_000;
/// With protocol 3 (`two_phase`).
pub(crate) const V15: i32 = 150_000;
/// With protocol 4 and `origin`.
pub(crate) const V16: i32 = 160_000;

/// The options of a stream.
#[derive(Debug, Clone)]
pub(crate) struct PluginOptions<'a> {
    /// `server_version_num`
    pub(crate) server: i32,
    /// Whose tables are sent.
    pub(crate) publication: &'a str,
    /// Values in binary form.
    pub(crate) binary: bool,
    /// Large transactions are sent while they are in progress.
    pub(crate) streaming: bool,
    /// Prepared transactions are sent when they are prepared. Once asked for, the slot does it for ever.
    pub(crate) two_phase: bool,
    /// Only changes that were made here, not those that another subscription replicated to here.
    pub(crate) local_only: bool,
}

impl PluginOptions<'_> {
    /// The command that starts the stream at a position.
    pub(crate) fn command(&self, slot: &str, start: Lsn) -> String {
        let version = match self.server {
            V16.. => 4,
            V15.. => 3,
            V14.. => 2,
            _ => 1,
        };
        let mut options = vec![
            format!("proto_version '{version}'"),
            format!("publication_names {}", literal(&quote(self.publication))),
        ];
        let wanted = [
            (V14, true, "messages 'true'"),
            (V14, self.binary, "binary 'true'"),
            (V14, self.streaming, "streaming 'on'"),
            (V15, self.two_phase, "two_phase 'on'"),
            (V16, self.local_only, "origin 'none'"),
        ];
        let known = wanted.iter().filter(|(since, wanted, _)| *wanted && self.server >= *since);
        options.extend(known.map(|(_, _, option)| (*option).to_owned()));
        format!("START_REPLICATION SLOT {} LOGICAL {start} ({})", quote(slot), options.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_asked_for_what_it_knows() {
        let all = |server| {
            let options = PluginOptions {
                server,
                publication: "we\"ird",
                binary: true,
                streaming: true,
                two_phase: true,
                local_only: true,
            };
            options.command("shop", Lsn(0x100))
        };
        let base = |version| {
            format!(
                "START_REPLICATION SLOT \"shop\" LOGICAL 0/100 (proto_version '{version}', publication_names '\"we\"\"ird\"'"
            )
        };
        assert_eq!(all(130_011), base(1) + ")");
        assert_eq!(all(140_000), base(2) + ", messages 'true', binary 'true', streaming 'on')");
        assert_eq!(all(150_018), base(3) + ", messages 'true', binary 'true', streaming 'on', two_phase 'on')");
        assert_eq!(
            all(180_006),
            base(4) + ", messages 'true', binary 'true', streaming 'on', two_phase 'on', origin 'none')"
        );
    }
}
