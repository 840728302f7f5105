//! Which sessions the store has not confirmed, has refused, or is to confirm once more: by slot.
//!
//! It owns the lists. It never sees a count.

use crate::slots::SlotSet;

/// Three lists of slots.
#[derive(Debug, Default)]
pub(super) struct Unconfirmed {
    /// Sessions whose count the store has not confirmed.
    unsaved: SlotSet,
    /// Sessions that the store has refused to save, and that have not been handed over again.
    refused: SlotSet,
    /// Saved sessions whose last save before the exit is not confirmed yet.
    renewed: SlotSet,
}

impl Unconfirmed {
    /// A session has a count that the store does not have.
    pub(super) fn handle_unsaved(&mut self, slot: u32) {
        self.unsaved.insert(slot);
    }

    /// The store has confirmed a save of a session: of its whole count, or of less.
    pub(super) fn handle_saved(&mut self, slot: u32, is_whole: bool) {
        self.renewed.remove(slot);
        if is_whole {
            self.unsaved.remove(slot);
        }
    }

    /// The store has refused to save a session.
    pub(super) fn handle_refused(&mut self, slot: u32) {
        self.renewed.remove(slot);
        self.unsaved.insert(slot);
        self.refused.insert(slot);
    }

    /// A session is saved for the last time before the exit.
    pub(super) fn handle_renewed(&mut self, slot: u32) {
        if !self.unsaved.contains(slot) {
            self.renewed.insert(slot);
        }
    }

    /// What the store has confirmed once counts as saved.
    pub(super) fn give_up_renewed(&mut self) {
        self.renewed = SlotSet::default();
    }

    /// The next refused session to hand over again.
    pub(super) fn pop_refused(&mut self) -> Option<u32> {
        self.refused.pop()
    }

    /// The session is gone.
    pub(super) fn forget(&mut self, slot: u32) {
        self.unsaved.remove(slot);
        self.refused.remove(slot);
        self.renewed.remove(slot);
    }

    pub(super) fn unsaved(&self) -> &SlotSet {
        &self.unsaved
    }

    pub(super) fn refused(&self) -> &SlotSet {
        &self.refused
    }

    pub(super) fn renewed(&self) -> &SlotSet {
        &self.renewed
    }
}
