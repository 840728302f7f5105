//! Deadlines that all lie equally far ahead when they are set: a queue, so that setting one and
//! finding the earliest cost nothing.
//!
//! A deadline is never taken back: who looks at one that is due checks whether it still means
//! anything.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::engine::io::ConnId;

/// First in, first due.
#[derive(Debug)]
pub(super) struct Deadlines {
    pub(super) after: Duration,
    queue: VecDeque<(Instant, ConnId)>,
}

impl Deadlines {
    /// Deadlines `after` the moment in which they are set.
    pub(super) fn new(after: Duration) -> Self {
        Self {
            after,
            queue: VecDeque::new(),
        }
    }

    /// Sets one.
    pub(super) fn push(&mut self, conn: ConnId, now: Instant) {
        self.queue.push_back((now + self.after, conn));
    }

    /// The earliest.
    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.front().map(|(deadline, _)| *deadline)
    }

    /// The earliest, if it is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<ConnId> {
        let (deadline, conn) = *self.queue.front()?;
        if deadline > now {
            return None;
        }
        self.queue.pop_front();
        Some(conn)
    }

    /// The earliest, due or not.
    pub(super) fn pop(&mut self) -> Option<ConnId> {
        self.queue.pop_front().map(|(_, conn)| conn)
    }
}
