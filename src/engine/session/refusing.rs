//! What happens to a single session that the store refuses.
//!
//! A refused session is handed over again later. A count that the store has not confirmed is never
//! forgotten.

use super::{Claimed, ConnId, SessionKey, Sessions, get_mut};

/// The connections that a refused save concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Unsaved {
    /// The connection that the session belongs to.
    pub(in crate::engine) owner: Option<ConnId>,
    /// The connection that waited for the save, to take the session over on this node.
    pub(in crate::engine) waiting: Option<ConnId>,
}

impl Sessions {
    /// The store has refused a claim: the session ends.
    pub(in crate::engine) fn handle_claim_refused(&mut self, key: SessionKey) -> Option<Claimed> {
        let session = get_mut(&mut self.slab, key)?;
        let claimed = session.claimed();
        self.forget(key);
        Some(claimed)
    }

    /// The store has refused a save: the session is unsaved, whatever was saved before. A
    /// connection that waits to take it over on this node waits no longer.
    pub(in crate::engine) fn handle_save_refused(&mut self, key: SessionKey) -> Option<Unsaved> {
        let session = get_mut(&mut self.slab, key)?;
        session.ledger.handle_refused();
        let owner = session.owner;
        if !session.ledger.is_saved() {
            self.unconfirmed.handle_refused(key.slot);
        }
        let waiting = self.undo_displace(key);
        self.forget_if_over(key);
        Some(Unsaved { owner, waiting })
    }

    /// Marks up to `max` refused sessions to be saved. Returns whether there are more.
    pub(in crate::engine) fn retry_refused(&mut self, max: usize) -> bool {
        for _ in 0..max {
            let Some(slot) = self.unconfirmed.pop_refused() else {
                break;
            };
            if let Some(key) = self.key_at(slot) {
                self.mark_dirty(key);
            }
        }
        !self.unconfirmed.refused().is_empty()
    }

    /// A session that the store has refused goes into the spill, with no more time to try again.
    pub(in crate::engine) fn spill_refused(&mut self, key: SessionKey) {
        if self.get(key).is_some() && self.unconfirmed.refused().contains(key.slot) {
            self.spilling.handle_refused(key.slot);
        }
    }
}
