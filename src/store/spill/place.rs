//! Where the spill is: a file that is open, one that is being made again, or none.
//!
//! It owns the helper thread that makes the file again after it was removed: to make a file takes
//! locks and fsyncs, and the loop must not wait for those. It must never call a file written to
//! that nobody will find.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::thread;
use std::time::Instant;

use mio::Waker;

use super::file::SpillFile;
use crate::clock;

pub(super) enum Place {
    /// It can be written, as far as is known.
    File(Box<SpillFile>),
    /// A thread makes it again, and wakes the loop.
    Remaking(Receiver<Result<SpillFile, String>>),
    /// Why there is none.
    Nowhere(String),
}

impl Place {
    /// Why the file that is open is not the one that its name leads to, if it is not.
    pub(super) fn changed(&self) -> Option<String> {
        match self {
            Self::File(file) => file.changed(),
            Self::Remaking(_) | Self::Nowhere(_) => None,
        }
    }

    /// Begins to make the file again.
    pub(super) fn remake(&mut self) {
        let Self::File(file) = self else { return };
        let (path, waker) = (file.path().to_owned(), file.waker());
        let (made, received) = mpsc::channel();
        let begun = thread::Builder::new()
            .name("sundown-spill".to_owned())
            .spawn(move || {
                let opened = open(&path, Arc::clone(&waker));
                if made.send(opened).is_ok()
                    && let Err(error) = waker.wake()
                {
                    log::warn!("the spill is there again, and cannot wake the loop: {error}");
                }
            });
        *self = match begun {
            Ok(_) => Self::Remaking(received),
            Err(error) => Self::Nowhere(error.to_string()),
        };
    }

    /// Takes the file that has been made, if it is there.
    pub(super) fn collect(&mut self) {
        if let Self::Remaking(received) = self {
            match received.try_recv() {
                Ok(made) => self.take(made),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => self.take(Err("no thread".to_owned())),
            }
        }
    }

    /// The same, after a wait for it: the loop is over.
    pub(super) fn wait(&mut self, until: Instant) {
        if let Self::Remaking(received) = self {
            let made = received.recv_timeout(clock::left_until(until));
            self.take(made.unwrap_or_else(|error| match error {
                RecvTimeoutError::Timeout => Err("it could not be made again in time".to_owned()),
                RecvTimeoutError::Disconnected => Err("no thread".to_owned()),
            }));
        }
    }

    fn take(&mut self, made: Result<SpillFile, String>) {
        *self = match made {
            Ok(file) => {
                log::warn!("{}: made again", file.describe());
                Self::File(Box::new(file))
            }
            Err(reason) => Self::Nowhere(reason),
        };
    }
}

fn open(path: &Path, waker: Arc<Waker>) -> Result<SpillFile, String> {
    let opened = SpillFile::open(path, waker);
    opened.map_err(|reason| format!("sqlite:{}: {reason}", path.display()))
}
