//! The session that a deferred step keeps: it is not forgotten while the step is open.

use super::{SessionKey, Sessions, get_mut};

impl Sessions {
    /// The step that is open.
    pub(in crate::engine) fn open_step(&self, key: SessionKey) -> Option<u64> {
        self.get(key)?.open_step
    }

    /// A step is left open, or has ended.
    pub(in crate::engine) fn set_open_step(&mut self, key: SessionKey, step: Option<u64>) {
        if let Some(session) = get_mut(&mut self.slab, key) {
            session.open_step = step;
            self.forget_if_over(key);
        }
    }
}
