//! Which sessions go into the spill, are on their way, and are there: by slot.
//!
//! It owns the lists, and the rule that nothing is asked twice: what is counted while a session is
//! on its way is due when the answer comes, so that a slow file cannot pile up requests. It never
//! looks at a count: `session` does.

use crate::slots::SlotSet;

/// The lists.
#[derive(Debug, Default)]
pub(super) struct Spilling {
    /// The store has had its time: whatever is counted goes into the spill, too.
    begun: bool,
    /// To be handed over at the next flush.
    due: SlotSet,
    /// Handed over, and not answered.
    asked: SlotSet,
    /// In the spill, with their present count, and not in the store.
    spilled: SlotSet,
}

impl Spilling {
    /// The store has had its time. These are what it has not confirmed.
    pub(super) fn begin(&mut self, unsaved: impl Iterator<Item = u32>) {
        self.begun = true;
        for slot in unsaved {
            if !self.spilled.contains(slot) {
                self.want(slot);
            }
        }
    }

    /// The store has refused a session, and there is no time to try again. What the spill has all of
    /// is not handed over once more: nothing of it would be on its way.
    pub(super) fn handle_refused(&mut self, slot: u32) {
        if !self.spilled.contains(slot) {
            self.want(slot);
        }
    }

    /// A session has counted a message.
    pub(super) fn handle_counted(&mut self, slot: u32) {
        self.spilled.remove(slot);
        if self.begun {
            self.want(slot);
        }
    }

    /// The store has all of a session after all.
    pub(super) fn handle_saved(&mut self, slot: u32) {
        self.due.remove(slot);
        self.spilled.remove(slot);
    }

    /// The next session to hand over, which is on its way from here on.
    pub(super) fn pop(&mut self) -> Option<u32> {
        let slot = self.due.pop()?;
        self.asked.insert(slot);
        Some(slot)
    }

    /// The spill has answered: it holds all of the session, and the store does not (`Some(true)`);
    /// more has been counted since (`Some(false)`); or it is of no use (`None`).
    pub(super) fn handle_answer(&mut self, slot: u32, holds_all: Option<bool>) {
        self.asked.remove(slot);
        match holds_all {
            Some(true) => self.spilled.insert(slot),
            Some(false) => self.want(slot),
            // Be it that the spill has lost what it had.
            None => self.spilled.remove(slot),
        }
    }

    /// The session is gone.
    pub(super) fn forget(&mut self, slot: u32) {
        self.due.remove(slot);
        self.asked.remove(slot);
        self.spilled.remove(slot);
    }

    /// Whether anything is to be handed over.
    pub(super) fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Whether a session is on its way into the spill.
    pub(super) fn awaits(&self, slot: u32) -> bool {
        self.due.contains(slot) || self.asked.contains(slot)
    }

    /// Whether the spill has all of a session.
    pub(super) fn holds(&self, slot: u32) -> bool {
        self.spilled.contains(slot)
    }

    /// How many sessions it has all of.
    pub(super) fn held_len(&self) -> usize {
        self.spilled.len()
    }

    fn want(&mut self, slot: u32) {
        if !self.asked.contains(slot) {
            self.due.insert(slot);
        }
    }
}
