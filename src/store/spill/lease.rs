//! The right to replay a spill, which one process has at a time.
//!
//! It owns a lock on a file of its own beside the spill. The kernel gives it back when the process
//! ends, however it ends, so that no crash leaves it taken. It must never wait for another holder,
//! and the file is never deleted: whoever had it open would lock what nobody else sees.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

use crate::store::sqlite_file::open_private;

/// The right, for as long as this lives.
#[derive(Debug)]
pub(super) struct Lease(
    #[expect(
        dead_code,
        reason = "it is held for the lock, and dropped to release it"
    )]
    File,
);

impl Lease {
    /// Takes the lock on the file at `path`; `None` if another process has it.
    pub(super) fn take(path: &Path) -> io::Result<Option<Self>> {
        let file = open_private(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Lease::take(&path).unwrap();
        assert!(first.is_some());
        assert!(Lease::take(&path).unwrap().is_none());
        drop(first);
        assert!(Lease::take(&path).unwrap().is_some());
    }
}
