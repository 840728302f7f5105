//! Sessions on their way into the spill, which the store does not take in time. It decides nothing:
//! the lists are in `engine::spilling`.

use super::{BATCH_STATE_BYTES, Commit, Mark, Sessions, get_mut};

impl Sessions {
    /// The store's time is over: what it has not confirmed goes into the spill, and what is counted
    /// from here on. What the spill has refused before is tried again.
    pub(in crate::engine) fn begin_spill(&mut self) {
        self.spilling.begin(self.unconfirmed.unsaved().iter());
    }

    pub(in crate::engine) fn has_spill(&self) -> bool {
        self.spilling.is_due()
    }

    /// The next sessions to put into the spill, at most `max`.
    pub(in crate::engine) fn poll_spill(&mut self, max: usize) -> Vec<Commit> {
        let mut batch = Vec::new();
        let mut state_bytes = 0;
        while batch.len() < max
            && state_bytes < BATCH_STATE_BYTES
            && let Some(slot) = self.spilling.pop()
        {
            let Some(session) = self.slab.get(slot as usize) else {
                continue;
            };
            if let Some(next) = session.ledger.next_spill() {
                state_bytes += session.state.len() + session.posted_bytes();
                batch.push(session.commit_with_mail(slot, next));
            }
        }
        batch
    }

    pub(in crate::engine) fn handle_spilled(&mut self, commit: &Commit, kept: bool) {
        let Some(session) = get_mut(&mut self.slab, commit.key) else {
            return;
        };
        let mark = Mark::of(&commit.snapshot);
        if kept {
            session.ledger.handle_spilled(mark);
        } else {
            session.ledger.handle_spill_lost();
        }
        let grown = session.ledger.latest() > mark;
        let useful = (kept || grown) && !session.ledger.is_saved();
        let holds_all = useful.then(|| session.ledger.is_safe());
        self.spilling.handle_answer(commit.key.slot, holds_all);
    }

    /// How many sessions are in the spill and not in the store.
    pub(in crate::engine) fn spilled_len(&self) -> usize {
        self.spilling.held_len()
    }
}
