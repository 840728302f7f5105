//! The connections to read from next: three queues of slots, first come, first served.
//!
//! A connection is in one of them at most, and stays in the table until its turn has come.

use std::collections::VecDeque;

use super::connection::Connection;

#[derive(Debug, Default)]
pub(super) struct ReadQueues([VecDeque<u32>; 3]);

/// Which of the queues.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Queue {
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
    /// Puts in a connection that has something new, unless it is in or has no need of it.
    pub(super) fn enlist(&mut self, slot: u32, connection: &mut Connection) {
        // A paused one that has hung up is looked at then, and not read from.
        if (!connection.is_paused() || connection.socket.has_hung_up()) && !connection.is_dead() {
            self.push(Queue::Ready, slot, connection);
        }
    }

    /// Puts in a connection that may have more input: those who send little do not wait for those
    /// who send much.
    pub(super) fn put_back(&mut self, slot: u32, connection: &mut Connection) {
        if !connection.is_paused() && connection.may_have_more() {
            self.push(Queue::Backlog, slot, connection);
        }
    }

    fn push(&mut self, queue: Queue, slot: u32, connection: &mut Connection) {
        if !connection.set_queued(true) {
            let is_lingering = connection.is_lingering();
            let queue = if is_lingering { Queue::Leaving } else { queue };
            self.0[queue as usize].push_back(slot);
        }
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
