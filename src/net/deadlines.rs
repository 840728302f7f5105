//! Deadlines that all lie equally far ahead when they are set: a queue, so that setting one and
//! finding the earliest cost nothing.
//!
//! A deadline is not taken back when it has lost its meaning: who looks at one that is due checks
//! that. Who counts on it that they are few forgets the others from time to time.

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

    /// How many there are, those among them that mean nothing any more.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whose is the earliest.
    pub(super) fn first(&self) -> Option<ConnId> {
        self.queue.front().map(|(_, conn)| *conn)
    }

    /// Forgets those of whom `is_meant` is not true, and gives back the memory that they took.
    pub(super) fn retain(&mut self, mut is_meant: impl FnMut(ConnId) -> bool) {
        self.queue.retain(|(_, conn)| is_meant(*conn));
        self.queue.shrink_to_fit();
    }

    /// The earliest, due or not.
    pub(super) fn pop(&mut self) -> Option<ConnId> {
        self.queue.pop_front().map(|(_, conn)| conn)
    }
}
