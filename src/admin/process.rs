//! What the operating system says of this process (Linux; elsewhere nothing).

use std::fs;

/// Ticks of `/proc/<pid>/stat` in a second: Linux shows user space 100 on every architecture that Rust has a standard library
/// for, whatever the kernel's own clock is.
const TICKS: f64 = 100.0;

/// Numbers of this process; absent ones can't be read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Process {
    /// Bytes in memory.
    pub resident_bytes: Option<u64>,
    /// CPU time of all threads, in seconds.
    pub cpu_seconds: Option<f64>,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
    /// The limit of these.
    pub max_fds: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
}

/// The numbers now.
pub fn now() -> Process {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    Process {
        resident_bytes: number(&status, "VmRSS:").map(|kilobytes| kilobytes * 1024),
        cpu_seconds: cpu_seconds(&stat),
        open_fds: fs::read_dir("/proc/self/fd").ok().map(|open| open.count() as u64),
        max_fds: number(&limits, "Max open files"),
        threads: number(&status, "Threads:"),
    }
}

/// The first number behind a name at the beginning of a line.
fn number(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// User and system time: fields 14 and 15. The second field is the program's name, which may hold blanks and brackets.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let ticks = |field: Option<&str>| field?.parse::<f64>().ok();
    Some((ticks(fields.next())? + ticks(fields.next())?) / TICKS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_numbers_of_this_process_are_there() {
        let process = now();
        assert!(process.resident_bytes.unwrap() > 1 << 20);
        assert!(process.open_fds.unwrap() >= 3 && process.open_fds <= process.max_fds);
        assert!(process.threads.unwrap() >= 1 && process.cpu_seconds.unwrap() >= 0.0);
    }

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let stat = "1 (a) b (c) S 0 1 1 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 1 0 5";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds(""), None);
    }
}
