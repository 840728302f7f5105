//! Steps that are open: a callback has deferred them, and another thread has the rest.
//!
//! It owns what these steps have asked for so far, their limit, and the way by which they come back.
//! An open step is neither counted nor acknowledged. It never calls the application.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver};

use super::app::{Closed, Completion, Desk, Effects, Tells, Ticket};
use super::io::{ConnId, Protocol};
use super::session::ClientSession;

/// The steps that are open.
#[derive(Debug)]
pub(super) struct Deferring {
    /// By number.
    steps: BTreeMap<u64, OpenStep>,
    /// How many may be open before clients are not read from any more.
    max: usize,
    /// There were as many, and half of them have not ended yet.
    is_full: bool,
    completions: Receiver<Completion>,
    /// How many have come back.
    answered: u64,
    /// What has come back, and is not dealt with.
    next: Option<Completion>,
}

/// A step that is open.
#[derive(Debug)]
pub(super) struct OpenStep {
    pub(super) caller: Caller,
    /// It counts: it is a message.
    pub(super) counts: bool,
    /// What it has asked for so far.
    pub(super) effects: Effects,
    /// Its client has gone; the application is told when the step ends.
    pub(super) closed: Option<Closed>,
    ticket: Ticket,
}

/// For whom a callback is called.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    pub(super) conn: ConnId,
    pub(super) session: ClientSession,
    pub(super) protocol: Protocol,
    pub(super) tells: Tells,
    pub(super) is_resumed: bool,
    pub(super) can_reply: bool,
    /// No step of it can be left open.
    pub(super) is_gone: bool,
}

impl Deferring {
    /// No step is open. Returns also where they come back to.
    pub(super) fn new(max: usize) -> (Self, Desk) {
        let (sender, completions) = mpsc::channel();
        let deferring = Self {
            steps: BTreeMap::new(),
            max,
            is_full: false,
            completions,
            answered: 0,
            next: None,
        };
        (deferring, Desk::new(sender))
    }

    /// A step is left open.
    pub(super) fn open(&mut self, ticket: Ticket, caller: Caller, counts: bool, effects: Effects) {
        let step = ticket.step;
        let open = OpenStep {
            caller,
            counts,
            effects,
            closed: None,
            ticket,
        };
        self.steps.insert(step, open);
    }

    /// A step ends, completed or not.
    pub(super) fn take(&mut self, step: u64) -> Option<OpenStep> {
        self.steps.remove(&step)
    }

    /// A step ends without its rest.
    pub(super) fn cancel(&mut self, step: u64) -> Option<OpenStep> {
        let open = self.take(step)?;
        open.ticket.cancel();
        Some(open)
    }

    pub(super) fn get_mut(&mut self, step: u64) -> Option<&mut OpenStep> {
        self.steps.get_mut(&step)
    }

    /// Those whose client has gone.
    pub(super) fn orphans(&self) -> Vec<u64> {
        let orphans = self.steps.iter().filter(|(_, step)| step.closed.is_some());
        orphans.map(|(number, _)| *number).collect()
    }

    /// Whether one of so many that were ever handed out has come back.
    pub(super) fn has_completions(&mut self, handed_out: u64) -> bool {
        if self.next.is_none() && self.answered < handed_out {
            self.next = self.completions.try_recv().ok();
            self.answered += u64::from(self.next.is_some());
        }
        self.next.is_some()
    }

    /// What has come back.
    pub(super) fn pop(&mut self) -> Option<Completion> {
        self.next.take()
    }

    /// Whether something that has come back waits for the next turn.
    pub(super) fn has_next(&self) -> bool {
        self.next.is_some()
    }

    pub(super) fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether clients are not to be read from, since any message may be deferred.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Brings that up to date. Returns whether it has changed.
    pub(super) fn update_full(&mut self) -> bool {
        let is_full = if self.is_full {
            self.len() > self.max / 2
        } else {
            self.len() >= self.max
        };
        std::mem::replace(&mut self.is_full, is_full) != is_full
    }
}

impl Drop for Deferring {
    /// The server has ended: nobody waits for what is still open.
    fn drop(&mut self) {
        for open in self.steps.values() {
            open.ticket.cancel();
        }
    }
}
