//! What other threads ask of the loop: a shutdown, broadcasts, and pushes.
//!
//! It owns the channel and the counters between those threads and the loop. It blocks neither.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};

use mio::Waker;

use super::EventLoop;
use super::promises::Promises;
use crate::broadcast::{self, BroadcastError};
use crate::core::Core;
use crate::engine::io::{Body, Input, Mailbox, PushRequest, SessionId};
use crate::engine::receipt::{PushError, Receipt};

/// Pushes that wait for the loop.
const PUSHES_MAX: usize = 1_024;

/// With so many bytes of them, the next one is refused.
const PUSH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What other threads have asked for.
pub(super) struct Asked {
    pub(super) said: Receiver<Arc<str>>,
    pub(super) pushes: Pushes,
}

/// Pushes from other threads.
pub(super) struct Pushes {
    received: Receiver<PushRequest>,
    /// There was no room for all of them.
    pub(super) has_more: bool,
}

impl EventLoop {
    /// Passes pushes of other threads on, as many as there is room for.
    pub(super) fn dispatch_pushes(&mut self, core: &mut Core) {
        loop {
            self.pushes.has_more = !core.engine().has_room_for_pushes();
            if self.pushes.has_more {
                return;
            }
            let Ok(request) = self.pushes.received.try_recv() else {
                return;
            };
            self.requests
                .push_bytes
                .fetch_sub(request.len(), Ordering::AcqRel);
            core.handle_input(Input::Push(request), self);
        }
    }
}

/// Shared by the loop and all its handles.
#[derive(Debug)]
pub(crate) struct Requests {
    waker: Arc<Waker>,
    shutdowns: AtomicU32,
    broadcasts: SyncSender<Arc<str>>,
    pushes: SyncSender<PushRequest>,
    /// Bytes of those that wait for the loop.
    push_bytes: AtomicUsize,
    /// How many of those are not queued for all clients yet.
    promises: Promises,
}

impl Requests {
    /// Returns also the receivers of the broadcasts, of which at most `broadcasts_max` wait, and of
    /// the pushes.
    pub(super) fn new(waker: Arc<Waker>, broadcasts_max: usize) -> (Arc<Self>, Asked) {
        let (broadcasts, said) = mpsc::sync_channel(broadcasts_max);
        let (pushes, received) = mpsc::sync_channel(PUSHES_MAX);
        let requests = Self {
            waker,
            shutdowns: AtomicU32::new(0),
            broadcasts,
            pushes,
            push_bytes: AtomicUsize::new(0),
            promises: Promises::new(broadcasts_max),
        };
        let pushes = Pushes {
            received,
            has_more: false,
        };
        (Arc::new(requests), Asked { said, pushes })
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

    /// Another thread pushes.
    pub(crate) fn push(&self, to: SessionId, body: Body) -> Receipt {
        let len = body.len();
        let (request, receipt) = PushRequest::new(to, body);
        if len > Mailbox::BYTES_MAX {
            request.refuse(PushError::TooBig);
            return receipt;
        }
        if self.push_bytes.fetch_add(len, Ordering::AcqRel) >= PUSH_BYTES_MAX {
            self.push_bytes.fetch_sub(len, Ordering::AcqRel);
            request.refuse(PushError::TooMany);
            return receipt;
        }
        match self.pushes.try_send(request) {
            Ok(()) => self.wake(),
            Err(TrySendError::Full(request)) => {
                self.push_bytes.fetch_sub(len, Ordering::AcqRel);
                request.refuse(PushError::TooMany);
            }
            // Without a loop, it is over, and so is the receipt.
            Err(TrySendError::Disconnected(_)) => {}
        }
        receipt
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
