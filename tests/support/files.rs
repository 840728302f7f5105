//! How many files a test may open: for crowds that are larger than the usual soft limit.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the limit of open files, which the server inherits, and says so if that is not enough.
#[track_caller]
pub(crate) fn allow_files(needed: u64) {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("up to the hard limit is allowed to all");
    let allowed = limit.current.unwrap_or(u64::MAX);
    assert!(
        allowed >= needed,
        "this test opens up to {needed} files, and {allowed} are allowed: raise the hard limit \
         (ulimit -Hn)"
    );
}
