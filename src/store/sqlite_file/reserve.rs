//! Room on the disk that a database has for itself, so that it can go on when the disk is full.
//!
//! It consists of blocks behind the ends of the WAL and of the database file, which the file system
//! keeps for them: commits and the next checkpoint need no others. It must never change what is in
//! a file, nor what is seen of its size.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{io, mem};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use super::location;

/// For each of the two files: twice what the WAL holds before it is moved into the database.
const BYTES_MAX: u64 = 8 << 20;

/// It is no more than this part of the disk.
const SHARE: u64 = 16;

/// The room for one database.
#[derive(Clone, Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
    database: Option<Arc<File>>,
    wal: PathBuf,
    bytes: u64,
}

/// How much room there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// Not even the reserve is complete: the database must not grow.
    None,
    /// The reserve is complete, and less than as much again is free.
    Little,
    Plenty,
}

impl Reserve {
    /// Of the database at this path, which is no link.
    pub(crate) fn of(path: &Path) -> Self {
        let wal = location::beside(path, "-wal");
        let database = File::options().write(true).open(path).ok().map(Arc::new);
        // Never closed: when any descriptor of a file is closed, a process loses all of its locks on
        // it (fcntl(2)), those of SQLite included. Another process that leaves would then take the
        // WAL with it.
        mem::forget(database.clone());
        let disk = statvfs(path).map_or(0, |disk| disk.f_blocks.saturating_mul(disk.f_frsize));
        Self {
            path: path.to_owned(),
            database,
            wal,
            bytes: BYTES_MAX.min(disk / SHARE),
        }
    }

    /// How large the WAL may be before it is moved into the database. Of the reserve for the WAL as
    /// much is left for what is written meanwhile, and the reserve for the database takes it all.
    pub(crate) fn wal_bytes(&self) -> u64 {
        self.bytes / 2
    }

    /// Takes what is missing.
    pub(crate) fn take(&self) -> Room {
        match self.fill() {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::StorageFull => return Room::None,
            // Not every file system can do it: there the disk is full when a commit fails.
            Err(error) => log::debug!("{}: no reserve: {error}", self.path.display()),
        }
        self.look()
    }

    /// What is free beside the reserve.
    pub(crate) fn look(&self) -> Room {
        let free = statvfs(&self.path).map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        if free.is_ok_and(|free| free < self.bytes) {
            Room::Little
        } else {
            Room::Plenty
        }
    }

    fn fill(&self) -> io::Result<()> {
        // SQLite has no locks on this one.
        let wal = File::options().write(true).open(&self.wal)?;
        fallocate(&wal, FallocateFlags::KEEP_SIZE, 0, self.bytes)?;
        if let Some(database) = &self.database {
            let len = database.metadata()?.len();
            fallocate(database, FallocateFlags::KEEP_SIZE, len, self.bytes)?;
        }
        Ok(())
    }
}
