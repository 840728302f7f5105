//! Whom to read from next: three queues of slots, first come, first served.
//!
//! A connection is in one of them at most, and stays in the table until its turn has come.

use std::collections::VecDeque;

/// The queues.
#[derive(Debug, Default)]
pub(super) struct ReadQueues([VecDeque<u32>; 3]);

/// Which of the queues.
#[derive(Clone, Copy, Debug)]
pub(super) enum Queue {
    /// The kernel has told something new.
    Ready,
    /// It has had its turn, and has more.
    Backlog,
    /// It is over, and has something to be read and dropped.
    Leaving,
}

/// Memory for so many in each queue is never given back.
const SLOTS_MIN: usize = 64;

impl ReadQueues {
    pub(super) fn push(&mut self, queue: Queue, slot: u32) {
        self.0[queue as usize].push_back(slot);
    }

    pub(super) fn pop(&mut self, queue: Queue) -> Option<u32> {
        self.0[queue as usize].pop_front()
    }

    pub(super) fn len(&self, queue: Queue) -> usize {
        self.0[queue as usize].len()
    }

    /// Gives back the memory that is not needed.
    pub(super) fn shrink(&mut self) {
        for queue in &mut self.0 {
            queue.shrink_to(SLOTS_MIN.max(queue.len() * 2));
        }
    }
}
