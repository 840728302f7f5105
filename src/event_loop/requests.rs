//! What other threads ask of the loop: a shutdown, and broadcasts.
//!
//! It owns the channel and the counters between those threads and the loop. It blocks neither.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};

use mio::Waker;

use super::promises::Promises;
use crate::broadcast::{self, BroadcastError};

/// Shared by the loop and all its handles.
#[derive(Debug)]
pub(crate) struct Requests {
    waker: Arc<Waker>,
    shutdowns: AtomicU32,
    broadcasts: SyncSender<Arc<str>>,
    /// How many of those are not queued for all clients yet.
    promises: Promises,
}

impl Requests {
    /// Returns also the receiver of the broadcasts, of which at most `broadcasts_max` wait.
    pub(super) fn new(waker: Arc<Waker>, broadcasts_max: usize) -> (Arc<Self>, Receiver<Arc<str>>) {
        let (broadcasts, said) = mpsc::sync_channel(broadcasts_max);
        let requests = Self {
            waker,
            shutdowns: AtomicU32::new(0),
            broadcasts,
            promises: Promises::new(broadcasts_max),
        };
        (Arc::new(requests), said)
    }

    /// Another thread asks for a shutdown.
    pub(crate) fn shut_down(&self) {
        self.shutdowns.fetch_add(1, Ordering::Release);
        self.wake();
    }

    /// Another thread broadcasts this JSON.
    pub(crate) fn broadcast(&self, json: &str) -> Result<(), BroadcastError> {
        let text = broadcast::message(json.as_bytes())?;
        let reaches_others = self.promises.make()?;
        // There is room for all that are promised. Without a loop, it is over.
        let sent = self.broadcasts.try_send(text);
        sent.map_err(|_| BroadcastError::ShuttingDown)?;
        self.wake();
        if reaches_others {
            Ok(())
        } else {
            Err(BroadcastError::OnlyHere)
        }
    }

    /// How often a shutdown has been asked for since the last look.
    pub(super) fn take_shutdowns(&self) -> u32 {
        self.shutdowns.swap(0, Ordering::Acquire)
    }

    pub(super) fn promises(&self) -> &Promises {
        &self.promises
    }

    pub(super) fn waker(&self) -> &Arc<Waker> {
        &self.waker
    }

    /// Wakes the loop.
    pub(crate) fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            log::error!("cannot wake the loop: {error}");
        }
    }
}
