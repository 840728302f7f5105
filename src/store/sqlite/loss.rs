//! What the store does when what it has confirmed is gone: its file was removed, replaced or
//! damaged.
//!
//! It must never be up while that is so, and it tells the engine once.

use super::SqliteStore;
use crate::engine::io::{Now, StoreEvent};

impl SqliteStore {
    /// Says once that what was saved is gone.
    pub(super) fn lose(&mut self, reason: String) {
        if !std::mem::replace(&mut self.is_lost, true) {
            self.events.push_back(StoreEvent::Lost { reason });
        }
    }

    pub(super) fn damaged(&self, what: &str) -> String {
        format!("{} has been damaged: {what}", self.path.display())
    }

    /// What has become of the file, if what is saved cannot be found in it any more.
    pub(super) fn change(&self) -> Option<String> {
        let damage = || self.checkpointer.damage().map(|what| self.damaged(what));
        self.identity.changed().or_else(damage)
    }

    /// Goes down if the file that is open is not the one that its name leads to, or is damaged:
    /// whoever opens it would not find what is saved. Another file is not taken: it knows of other
    /// epochs.
    pub(super) fn look_for_file(&mut self, now: Now) {
        if let Some(change) = self.change() {
            self.lose(change.clone());
            self.fall(&change, now);
        }
    }
}
