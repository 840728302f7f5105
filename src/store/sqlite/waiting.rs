//! A store whose file could not be opened at the start because the disk is full: it is down, and a
//! helper thread opens the file as soon as there is room. It must never wait for that thread.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use mio::Waker;

use super::SqliteStore;
use crate::engine::io::{Disk, Now, StoreCommand, StoreEvent};
use crate::error::Error;
use crate::store::SessionStore;
use crate::store::sqlite_file::OpenError;

/// How often the file is tried.
const PAUSE: Duration = Duration::from_secs(1);

/// Opens the store; on a full disk one that is down until there is room.
pub(crate) fn open(
    path: &Path,
    ttl: Duration,
    waker: Arc<Waker>,
) -> Result<Box<dyn SessionStore>, Error> {
    match SqliteStore::try_open(path, ttl, Arc::clone(&waker)) {
        Ok(store) => Ok(Box::new(store)),
        Err(OpenError { text, is_full }) if is_full => {
            Ok(Box::new(WaitingStore::start(path, ttl, waker, text)?))
        }
        Err(error) => Err(Error::Store(error.text)),
    }
}

#[derive(Debug)]
struct WaitingStore {
    path: PathBuf,
    /// That it is down, said once.
    down: Option<StoreEvent>,
    opened: Receiver<SqliteStore>,
    store: Option<SqliteStore>,
}

impl WaitingStore {
    /// Tries again and again; `reason` is why the first attempt has failed.
    fn start(path: &Path, ttl: Duration, waker: Arc<Waker>, reason: String) -> Result<Self, Error> {
        let (sender, opened) = mpsc::channel();
        let (path, path_of_thread) = (path.to_owned(), path.to_owned());
        let reason_of_thread = reason.clone();
        thread::Builder::new()
            .name("sundown-open".to_owned())
            .spawn(move || {
                let store = open_at_last(&path_of_thread, ttl, &waker, reason_of_thread);
                // Whoever waits may be gone by now.
                let is_told = sender.send(store).is_ok();
                if is_told && let Err(error) = waker.wake() {
                    log::error!("sqlite: cannot wake the loop: {error}");
                }
            })
            .map_err(Error::io("cannot start the thread that opens the store"))?;
        Ok(Self {
            path,
            down: Some(StoreEvent::Down { reason }),
            opened,
            store: None,
        })
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this runs on the helper thread, which is there to wait"
)]
fn open_at_last(path: &Path, ttl: Duration, waker: &Arc<Waker>, mut reason: String) -> SqliteStore {
    loop {
        thread::sleep(PAUSE);
        match SqliteStore::try_open(path, ttl, Arc::clone(waker)) {
            Ok(store) => return store,
            Err(error) if error.text == reason => {}
            Err(error) => {
                reason = error.text;
                log::warn!("still down: {reason}");
            }
        }
    }
}

impl SessionStore for WaitingStore {
    fn describe(&self) -> String {
        format!("sqlite:{}", self.path.display())
    }

    fn ask(&mut self, command: StoreCommand) {
        if let Some(store) = &mut self.store {
            store.ask(command);
        }
    }

    fn handle_ready(&mut self, now: Now) {
        if self.store.is_none() {
            self.store = self.opened.try_recv().ok();
        }
        if let Some(store) = &mut self.store {
            store.handle_ready(now);
        }
    }

    fn handle_timeout(&mut self, now: Now) {
        if let Some(store) = &mut self.store {
            store.handle_timeout(now);
        }
    }

    fn flush(&mut self, now: Now) {
        if let Some(store) = &mut self.store {
            store.flush(now);
        }
    }

    fn handle_end(&mut self, until: Instant) {
        if let Some(store) = &mut self.store {
            store.handle_end(until);
        }
    }

    fn disk(&self) -> Option<Disk> {
        self.store.as_ref()?.disk()
    }

    fn poll_event(&mut self) -> Option<StoreEvent> {
        let down = self.down.take();
        down.or_else(|| self.store.as_mut()?.poll_event())
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.store.as_ref()?.poll_timeout()
    }
}
