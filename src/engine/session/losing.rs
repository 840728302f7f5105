//! Sessions whose records the store has lost after it had confirmed them.
//!
//! It owns the ids of sessions that were saved and closed during a shutdown, in case the store
//! loses them before the exit. It must never report a lost session as safe.

use super::{Session, SessionId, SessionKey, Sessions};

/// Sessions that were saved and closed.
#[derive(Debug, Default)]
pub(super) struct Released {
    /// A shutdown is under way, and its report names all of them.
    kept: bool,
    sessions: Vec<(SessionId, u64)>,
    /// What the store had confirmed is gone.
    is_lost: bool,
    /// Pushes to them that their clients have not confirmed.
    unconfirmed_pushes: usize,
}

impl Sessions {
    /// The sessions whose count neither the store nor the spill has.
    pub(in crate::engine) fn lost(&self) -> impl Iterator<Item = &Session> {
        let unsaved = self.unconfirmed.unsaved().iter();
        unsaved
            .filter(|slot| !self.spilling.holds(*slot))
            .filter_map(|slot| self.slab.get(slot as usize))
    }

    /// From here on, the ids of released sessions are kept.
    pub(in crate::engine) fn keep_released(&mut self) {
        self.released.kept = true;
    }

    /// A session is saved and closed.
    pub(super) fn remember_released(&mut self, key: SessionKey) {
        if !self.released.kept {
            return;
        }
        self.released.unconfirmed_pushes += self.get(key).map_or(0, Session::unconfirmed_pushes);
        if let Some(session) = self.get(key)
            && !session.ledger.is_blank()
        {
            let entry = (session.id().clone(), session.processed());
            self.released.sessions.push(entry);
        }
    }

    /// What was saved is gone: every open session is unsaved, whatever was confirmed.
    pub(in crate::engine) fn handle_store_lost(&mut self) {
        self.released.is_lost = true;
        for (slot, session) in &mut self.slab {
            session.ledger.handle_refused();
            if !session.ledger.is_saved() {
                self.unconfirmed.handle_unsaved(slot as u32);
            }
        }
    }

    /// The store is there, with what it had confirmed.
    pub(in crate::engine) fn handle_store_found(&mut self) {
        self.released.is_lost = false;
    }

    /// Whether what the store had confirmed is gone.
    pub(in crate::engine) fn is_store_lost(&self) -> bool {
        self.released.is_lost
    }

    /// Pushes to sessions that are open, or were during the shutdown, that no client has confirmed.
    pub(in crate::engine) fn unconfirmed_pushes(&self) -> usize {
        let open = self
            .slab
            .iter()
            .map(|(_, session)| session.unconfirmed_pushes());
        self.released.unconfirmed_pushes + open.sum::<usize>()
    }

    /// The released sessions, if they are lost.
    pub(in crate::engine) fn lost_released(&self) -> impl Iterator<Item = (String, u64)> {
        let lost = self
            .released
            .sessions
            .iter()
            .filter(|_| self.released.is_lost);
        lost.map(|(session, count)| (session.to_string(), *count))
    }
}
