//! Broadcasts of other threads that were accepted and are not queued for all clients yet.
//!
//! It owns their number, which bounds what may wait between those threads and the loop. Both sides
//! change it by one atomic operation, so that there is no moment in which a promise is made to a
//! loop that takes no more.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::broadcast::BroadcastError;

/// The number of them.
#[derive(Debug)]
pub(super) struct Promises {
    /// How many there are; above that, what [`CLOSED`] and [`APART`] say.
    state: AtomicU32,
    max: u32,
}

/// A shutdown has begun: no more are made.
const CLOSED: u32 = 1 << 31;
/// Other nodes are out of reach.
const APART: u32 = 1 << 30;

impl Promises {
    /// At most `max` at a time.
    pub(super) fn new(max: usize) -> Self {
        let max = u32::try_from(max).unwrap_or(u32::MAX).min(APART - 1);
        let state = AtomicU32::new(0);
        Self { state, max }
    }

    /// Another thread: makes one. Whether other nodes are in reach.
    pub(super) fn make(&self) -> Result<bool, BroadcastError> {
        let one_more = |state: u32| {
            let is_open = state & CLOSED == 0;
            (is_open && state & !APART < self.max).then_some(state + 1)
        };
        let made = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more);
        match made {
            Ok(state) => Ok(state & APART == 0),
            Err(state) if state & CLOSED != 0 => Err(BroadcastError::ShuttingDown),
            Err(_) => Err(BroadcastError::TooMany),
        }
    }

    /// The loop: one has been kept.
    pub(super) fn keep(&self) {
        let before = self.state.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before & !(CLOSED | APART) > 0, "it was made before");
    }

    /// The loop: no more are made.
    pub(super) fn close(&self) {
        self.state.fetch_or(CLOSED, Ordering::AcqRel);
    }

    /// The loop: whether other nodes are in reach.
    pub(super) fn set_reach(&self, is_up: bool) {
        if is_up {
            self.state.fetch_and(!APART, Ordering::AcqRel);
        } else {
            self.state.fetch_or(APART, Ordering::AcqRel);
        }
    }

    /// How many are not kept yet.
    pub(super) fn len(&self) -> usize {
        (self.state.load(Ordering::Acquire) & !(CLOSED | APART)) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_there_may_and_none_after_the_end() {
        let promises = Promises::new(2);
        promises.set_reach(false);
        assert_eq!((promises.make(), promises.len()), (Ok(false), 1));
        promises.set_reach(true);
        assert_eq!(promises.make(), Ok(true));
        assert_eq!(promises.make(), Err(BroadcastError::TooMany));
        promises.keep();
        promises.close();
        assert_eq!(promises.make(), Err(BroadcastError::ShuttingDown));
        assert_eq!(promises.len(), 1);
        promises.keep();
        assert_eq!(promises.len(), 0);
    }
}
