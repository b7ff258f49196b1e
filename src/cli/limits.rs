//! Open descriptors: a source has about sixteen of them, most of them librdkafka's, and the usual limit of 1,024 is for programs
//! that use `select`, which this one doesn't. So the limit is raised as far as the system lets us, before anything starts.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors that one source may need, with its readers, and what the process itself has.
const PER_SOURCE: u64 = 24;
const OWN: u64 = 40;

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
