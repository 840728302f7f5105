//! A step that takes longer than a callback may: the part of it that another thread holds.
//!
//! It owns the way back to the loop. It holds nothing of the engine's, so that it may outlive its
//! connection, its session and its server.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;

use super::Session;

/// The rest of a step, which [`Session::defer`] has left open. It may go to another thread.
///
/// Until it is completed the session's next message waits, and other sessions go on. Dropped without
/// being completed, it fails the step: the message is not counted, and the connection is closed with
/// 1011, so that the client sends it again.
#[must_use]
pub struct Deferred {
    step: u64,
    is_cancelled: Arc<AtomicBool>,
    way: Way,
    is_answered: bool,
}

/// The way by which deferred steps come back.
#[derive(Clone)]
pub(crate) struct Way {
    pub(crate) completions: Sender<Completion>,
    pub(crate) wake: Arc<dyn Fn() + Send + Sync>,
}

/// What a callback needs to defer its step.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) way: Way,
    next_step: u64,
    /// The callback that runs has deferred its step.
    ticket: Option<Ticket>,
}

/// A deferred step has come back.
pub(crate) struct Completion {
    pub(crate) step: u64,
    /// `None`: it was dropped.
    pub(crate) rest: Option<Rest>,
}

/// What is left to do in a step, on the loop's thread.
pub(crate) type Rest = Box<dyn FnOnce(&mut Session<'_>) + Send>;

/// An open step, as the engine sees it.
#[derive(Clone, Debug)]
pub(crate) struct Ticket {
    pub(crate) step: u64,
    is_cancelled: Arc<AtomicBool>,
}

impl Ticket {
    /// The step ends without its rest.
    pub(crate) fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Release);
    }
}

impl Desk {
    pub(crate) fn new(completions: Sender<Completion>) -> Self {
        Self {
            way: Way {
                completions,
                wake: Arc::new(|| {}),
            },
            next_step: 0,
            ticket: None,
        }
    }

    /// Leaves the step open. Of two calls for one step, the second one counts.
    pub(super) fn defer(&mut self) -> Deferred {
        let step = self.next_step;
        self.next_step += 1;
        let is_cancelled = Arc::new(AtomicBool::new(false));
        let ticket = Ticket {
            step,
            is_cancelled: Arc::clone(&is_cancelled),
        };
        if let Some(earlier) = self.ticket.replace(ticket) {
            earlier.cancel();
        }
        Deferred {
            step,
            is_cancelled,
            way: self.way.clone(),
            is_answered: false,
        }
    }

    /// How many steps were ever deferred.
    pub(crate) fn handed_out(&self) -> u64 {
        self.next_step
    }

    /// Whether the callback that runs has deferred its step.
    pub(crate) fn has_ticket(&self) -> bool {
        self.ticket.is_some()
    }

    /// The deferral of the callback that has run.
    pub(crate) fn take_ticket(&mut self) -> Option<Ticket> {
        self.ticket.take()
    }
}

impl Deferred {
    /// Ends the step: `rest` runs on the loop's thread, with what the callback has asked for before,
    /// and all of it is committed together. If the step was cancelled, `rest` never runs.
    ///
    /// The client may have gone meanwhile, or the server said goodbye: then nothing can be sent
    /// ([`Session::can_reply`]), and the step is committed all the same.
    pub fn complete(mut self, rest: impl FnOnce(&mut Session<'_>) + Send + 'static) {
        self.answer(Some(Box::new(rest)));
    }

    /// Whether the step has ended without this: a newer connection has claimed the session, the
    /// connection of a client without a session is gone, or the server has ended. The work may stop.
    pub fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Acquire)
    }

    fn answer(&mut self, rest: Option<Rest>) {
        self.is_answered = true;
        let completion = Completion {
            step: self.step,
            rest,
        };
        // Without a server, nobody waits for it.
        if self.way.completions.send(completion).is_ok() {
            (self.way.wake)();
        }
    }
}

impl Drop for Deferred {
    fn drop(&mut self) {
        if !self.is_answered {
            self.answer(None);
        }
    }
}

impl fmt::Debug for Deferred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_cancelled = self.is_cancelled();
        let mut shown = f.debug_struct("Deferred");
        shown
            .field("is_cancelled", &is_cancelled)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Way")
    }
}

impl fmt::Debug for Completion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Completion({})", self.step)
    }
}
