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

/// What is larger is no part of the heap with glibc and musl, but a mapping of its own, which is
/// better made smaller than given back (`table`).
const HEAP_MAX: usize = (128 << 10) / size_of::<(Instant, ConnId)>();

/// So many are not worth a search for those that mean nothing.
pub(super) const KEPT: usize = 64;

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

    /// Forgets the earliest, up to the first for whom `is_meant` is true.
    pub(super) fn forget_first(&mut self, is_meant: impl Fn(ConnId) -> bool) {
        while let Some((_, conn)) = self.queue.front()
            && !is_meant(*conn)
        {
            self.queue.pop_front();
        }
    }

    /// Forgets all for whom `is_meant` is not true.
    pub(super) fn retain(&mut self, is_meant: impl Fn(ConnId) -> bool) {
        self.queue.retain(|(_, conn)| is_meant(*conn));
    }

    /// Gives back memory, if much of it is not used.
    pub(super) fn shrink(&mut self) {
        let len = self.queue.len();
        if len == 0 && self.queue.capacity() < HEAP_MAX {
            // A rest of it would keep everything before it in the heap.
            self.queue = VecDeque::new();
        } else if self.queue.capacity() > KEPT.max(len * 4) {
            self.queue.shrink_to(KEPT.max(len * 2));
        }
    }

    /// The earliest, due or not.
    pub(super) fn pop(&mut self) -> Option<ConnId> {
        self.queue.pop_front().map(|(_, conn)| conn)
    }
}
