//! The engine's deadlines: one of each kind.
//!
//! A fixed table: no deadline belongs to a connection, and none is set for a message, except the
//! save of `relaxed`.

use std::time::Instant;

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// The next timestamp to all clients.
    Heartbeat,
    /// `relaxed` durability: the next save of what has changed.
    Save,
    /// The next renewal of every open session in the store.
    Refresh,
    /// The next attempt to save what the store has refused.
    Retry,
    /// The next goodbyes: at clients' own slots, or of a closing that is spread out.
    Goodbye,
    /// Work that was cut off by this turn's limit goes on in the next.
    Continue,
}

impl Timer {
    /// Every kind, in the order in which they are handled.
    pub(super) const ALL: [Self; 6] = [
        Self::Heartbeat,
        Self::Save,
        Self::Refresh,
        Self::Retry,
        Self::Goodbye,
        Self::Continue,
    ];
}

/// When each timer fires.
#[derive(Debug, Default)]
pub(super) struct Timers {
    deadlines: [Option<Instant>; Timer::ALL.len()],
}

impl Timers {
    /// Fires `timer` at `deadline`, whatever was set before.
    pub(super) fn set(&mut self, timer: Timer, deadline: Instant) {
        self.deadlines[timer as usize] = Some(deadline);
    }

    /// Fires `timer` at `deadline`, unless it is set already.
    pub(super) fn set_if_unset(&mut self, timer: Timer, deadline: Instant) {
        self.deadlines[timer as usize].get_or_insert(deadline);
    }

    /// Fires `timer` at `deadline`, unless it is to fire earlier.
    pub(super) fn set_at_latest(&mut self, timer: Timer, deadline: Instant) {
        let set = self.deadlines[timer as usize].get_or_insert(deadline);
        *set = deadline.min(*set);
    }

    pub(super) fn stop(&mut self, timer: Timer) {
        self.deadlines[timer as usize] = None;
    }

    pub(super) fn take_due(&mut self, timer: Timer, now: Instant) -> bool {
        let deadline = &mut self.deadlines[timer as usize];
        let due = deadline.is_some_and(|deadline| deadline <= now);
        if due {
            *deadline = None;
        }
        due
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.deadlines.iter().flatten().min().copied()
    }
}
