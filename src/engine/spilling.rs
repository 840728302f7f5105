//! Which sessions go into the spill, are on their way, and are there: by slot.
//!
//! It owns the lists, and the rule that a session is asked for once at a time: what is counted
//! meanwhile is due when the answer comes, so that a slow file cannot pile up requests. It never
//! sees a count.

use crate::slots::SlotSet;

/// Three lists of slots: due, under way, kept.
#[derive(Debug, Default)]
pub(super) struct Spilling {
    /// The store's time is over: what is done from here on goes into the spill, too.
    begun: bool,
    /// To be handed over at the next flush.
    due: SlotSet,
    /// Handed over, and not answered.
    asked: SlotSet,
    /// In the spill, with their present count, and not in the store.
    spilled: SlotSet,
}

impl Spilling {
    /// The store's time is over. These sessions it has not confirmed.
    pub(super) fn begin(&mut self, unsaved: impl Iterator<Item = u32>) {
        self.begun = true;
        for slot in unsaved {
            if !self.spilled.contains(slot) {
                self.want(slot);
            }
        }
    }

    /// The store has refused a session, and there is no time to try again. A session that the spill
    /// has all of is not handed over again.
    pub(super) fn handle_refused(&mut self, slot: u32) {
        if !self.spilled.contains(slot) {
            self.want(slot);
        }
    }

    /// A session has taken a step.
    pub(super) fn handle_step(&mut self, slot: u32) {
        self.spilled.remove(slot);
        if self.begun {
            self.want(slot);
        }
    }

    /// The store has confirmed all of a session.
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
            // The spill may have lost what it had.
            None => self.spilled.remove(slot),
        }
    }

    /// The session is gone.
    pub(super) fn forget(&mut self, slot: u32) {
        self.due.remove(slot);
        self.asked.remove(slot);
        self.spilled.remove(slot);
    }

    /// Whether a session is to be handed over.
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
