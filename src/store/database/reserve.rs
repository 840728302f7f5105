//! Room on the disk that a database keeps for itself, so that it can go on when the disk is full:
//! to delete takes room, too, and so does a start.
//!
//! It owns a file beside the database that holds nothing. It must never take the last room for it.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::location;

/// What a checkpoint of the WAL and the next transactions may take.
const BYTES_MAX: u64 = 4 << 20;

/// It takes no more than this part of what is free.
const SHARE: u64 = 8;

/// The room.
#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
    is_held: bool,
    /// How much it was at first: less is not taken again, nor is the last room.
    wanted: u64,
}

impl Reserve {
    /// Of the database at this path. Takes the room, if there is enough.
    pub(crate) fn of(path: &Path) -> Self {
        let mut reserve = Self::given_up(path);
        reserve.take();
        reserve
    }

    /// The same without taking it.
    pub(crate) fn given_up(path: &Path) -> Self {
        Self {
            path: location::beside(path, "-reserve"),
            is_held: false,
            wanted: 0,
        }
    }

    /// Whether it is there to be given up.
    pub(crate) fn is_held(&self) -> bool {
        self.is_held
    }

    /// Whether somebody has taken it, be it an earlier process.
    pub(crate) fn is_there(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|metadata| metadata.len() > 0)
    }

    /// Takes the room again, if there is enough. Whether it is held.
    pub(crate) fn take(&mut self) -> bool {
        if !self.is_held {
            self.is_held = self.fill().unwrap_or(false);
        }
        self.is_held
    }

    /// Takes a part of what is there, for the next start.
    pub(crate) fn leave_some(&mut self) {
        self.wanted = 0;
        self.take();
    }

    /// Gives the room up.
    pub(crate) fn give_up(&mut self) {
        self.is_held = false;
        let emptied = location::open_private(&self.path).and_then(|file| file.set_len(0));
        if let Err(error) = emptied {
            log::debug!("{}: {error}", self.path.display());
        }
    }

    fn fill(&mut self) -> io::Result<bool> {
        let mut file = location::open_private(&self.path)?;
        let disk = rustix::fs::fstatvfs(&file)?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let held = file.metadata()?.len();
        if self.wanted == 0 {
            self.wanted = BYTES_MAX.min(free.saturating_add(held) / SHARE);
        } else if free < 2 * self.wanted {
            return Ok(false);
        }
        let zeros = vec![0; 64 << 10];
        let mut len = held;
        while len < self.wanted {
            if let Err(error) = file.write_all(&zeros) {
                file.set_len(0)?;
                return Err(error);
            }
            len += zeros.len() as u64;
        }
        Ok(len > 0)
    }
}
