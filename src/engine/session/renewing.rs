//! Saves of sessions that have not changed: at intervals while they are open, and once at a
//! shutdown.
//!
//! The store has to confirm the latter before the exit.

use super::{ClientSession, Session, SessionKey, Sessions};

impl Sessions {
    /// Marks up to `max` open sessions from `cursor` on to be saved, changed or not: that renews
    /// their time to live, restores them in a store that has lost them, and finds those that
    /// another node has taken over. The last time, each is unconfirmed until it is answered.
    /// Returns where to go on.
    pub(in crate::engine) fn refresh(
        &mut self,
        cursor: usize,
        max: usize,
        is_last: bool,
    ) -> Option<usize> {
        let end = self.slab.capacity().min(cursor + max);
        for slot in cursor..end {
            if let Some(key) = self.key_at(slot as u32) {
                if is_last {
                    self.save_for_the_last_time(key);
                } else {
                    self.mark_dirty(key);
                }
            }
        }
        (end < self.slab.capacity()).then_some(end)
    }

    /// The same for one session whose client is about to leave.
    pub(in crate::engine) fn save_for_the_last_time(&mut self, key: SessionKey) {
        self.mark_dirty(key);
        let is_granted = |session: &Session| session.ledger.granted_epoch().is_some();
        if self.get(key).is_some_and(is_granted) {
            self.unconfirmed.handle_renewed(key.slot);
        }
    }

    /// Whether the store has all of a session, and has confirmed its last save if there was one.
    pub(in crate::engine) fn is_confirmed(&self, session: ClientSession) -> bool {
        let is_renewed = |key: SessionKey| !self.unconfirmed.renewed().contains(key.slot);
        self.unsaved(session).is_none() && session.key().is_none_or(is_renewed)
    }

    /// How many saved sessions are to be confirmed once more.
    pub(in crate::engine) fn unconfirmed_len(&self) -> usize {
        self.unconfirmed.renewed().len()
    }

    /// What the store has confirmed once counts as saved.
    pub(in crate::engine) fn give_up_confirming(&mut self) {
        self.unconfirmed.give_up_renewed();
    }
}
