//! What the system says of a process: memory, descriptors, threads.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// One look at a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Resident bytes.
    pub rss: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// Threads.
    pub threads: u64,
}

/// Looks at a process; none if it has ended.
pub fn usage(pid: i32) -> Option<Usage> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let number = |name: &str| -> Option<u64> {
        status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
    };
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
    Some(Usage { rss: number("VmRSS:")? * 1024, descriptors, threads: number("Threads:")? })
}

/// Watches the resident memory of a process, whichever it is at the moment, every 20 ms.
pub struct Watch {
    pid: Arc<AtomicU64>,
    peak: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins to watch.
    pub fn new(pid: i32) -> Watch {
        let (current, peak, stop) =
            (Arc::new(AtomicU64::new(pid as u64)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (of, max, ended) = (Arc::clone(&current), Arc::clone(&peak), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                if let Some(seen) = usage(of.load(Ordering::Relaxed) as i32) {
                    max.fetch_max(seen.rss, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Watch { pid: current, peak, stop, thread: Some(thread) }
    }

    /// The process was replaced by another one.
    pub fn follow(&self, pid: i32) {
        self.pid.store(pid as u64, Ordering::Relaxed);
    }

    /// The most bytes that were seen. Fails if none were.
    pub fn peak(&self) -> u64 {
        let peak = self.peak.load(Ordering::Relaxed);
        assert!(peak > 0, "the process was never seen");
        peak
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
