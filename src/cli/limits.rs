//! What the process sets for itself before anything starts: open descriptors, and how glibc keeps free memory.
//!
//! Open descriptors: a source has about sixteen of them, most of them librdkafka's, and the usual limit of 1,024 is for programs
//! that use `select`, which this one doesn't. So the limit is raised as far as the system lets us.
//!
//! Arenas: glibc gives each thread free lists of its own, up to eight times as many as there are cores. A record is allocated by the publisher's
//! thread and freed by librdkafka's, so that many of these lists hold memory that is free: with one per core, a million narrow
//! rows of MySQL took less CPU time (3.3 and 2.8 s instead of 4.1 and 3.6, two runs each on two cores) and never more memory. A `MALLOC_ARENA_MAX` in the environment wins.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors that one source may need, with its readers, and what the process itself has.
const PER_SOURCE: u64 = 24;
const OWN: u64 = 40;

/// As many arenas as cores, at least two. Before the first thread starts.
pub fn keep_memory_together() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if std::env::var_os("MALLOC_ARENA_MAX").is_none() {
        let cores = std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
        let cores = std::ffi::c_int::try_from(cores).unwrap_or(std::ffi::c_int::MAX);
        // SAFETY: mallopt takes two numbers and may be called at any time; a value that it refuses leaves all as it was.
        #[allow(unsafe_code)]
        unsafe {
            nix::libc::mallopt(nix::libc::M_ARENA_MAX, cores);
        }
    }
}

/// Raises the soft limit to the hard one. Warns if even that may be too little for so many sources; never fails: what is
/// missing shows as an error of the source that it is missing for.
pub fn raise_descriptors(sources: usize) {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let raised = soft >= hard || setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    let (have, need) = (if raised { hard.max(soft) } else { soft }, OWN + PER_SOURCE * sources as u64);
    if have < need {
        tracing::warn!(
            "{have} open descriptors are allowed, and {sources} sources may need {need}; repair: raise the limit \
             (`ulimit -n`, LimitNOFILE=)"
        );
    }
}
