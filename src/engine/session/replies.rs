//! The replies that wait until the store has saved what they acknowledge.
//!
//! They are released in their order, each when its step is saved and never earlier, or are dropped.

use std::collections::VecDeque;

use super::{ClientSession, ServerMessage, Session, SessionKey, Sessions, get_mut};
use crate::memory::{Account, Kind};

impl Sessions {
    /// Keeps a reply until the store has the latest step.
    pub(in crate::engine) fn hold(&mut self, key: SessionKey, message: ServerMessage) {
        if let Some(session) = get_mut(&mut self.slab, key) {
            let bytes = message.weight();
            session.held_bytes += bytes;
            self.memory.add(Kind::Replies, bytes);
            let step = session.ledger.latest().step;
            session.held.push_back((step, message));
        }
    }

    /// The next reply whose step the store has.
    pub(in crate::engine) fn release(&mut self, key: SessionKey) -> Option<ServerMessage> {
        let session = get_mut(&mut self.slab, key)?;
        let (step, _) = session.held.front()?;
        if !session.ledger.may_tell(*step) {
            return None;
        }
        let (_, message) = session.held.pop_front()?;
        let bytes = message.weight();
        session.held_bytes -= bytes;
        self.memory.subtract(Kind::Replies, bytes);
        if session.held.is_empty() && session.held.capacity() > 64 {
            session.held = VecDeque::new();
        }
        Some(message)
    }

    /// Whether replies wait for a save.
    pub(in crate::engine) fn holds_replies(&self, session: ClientSession) -> bool {
        self.stored(session)
            .is_some_and(|session| !session.held.is_empty())
    }

    /// Replies that wait for a save, of all sessions.
    pub(in crate::engine) fn held_len(&self) -> usize {
        let lens = self.slab.iter().map(|(_, session)| session.held.len());
        lens.sum()
    }

    /// Drops the replies that wait: what they acknowledge was never confirmed.
    pub(in crate::engine) fn drop_held(&mut self, session: ClientSession) {
        if let Some(session) = session.key().and_then(|key| get_mut(&mut self.slab, key)) {
            session.drop_held(&mut self.memory);
        }
    }

    /// Bytes of the replies that wait, and of states.
    pub(in crate::engine) fn memory(&self) -> Account {
        self.memory
    }

    /// The same, added up one by one.
    #[cfg(test)]
    pub(in crate::engine) fn count_memory(&self) -> Account {
        let mut memory = Account::default();
        for (_, message) in self.slab.iter().flat_map(|(_, session)| &session.held) {
            memory.add(Kind::Replies, message.weight());
        }
        for (_, session) in &self.slab {
            memory.add(Kind::States, session.state.len());
            memory.add(Kind::Pushes, session.mail_bytes());
        }
        memory
    }
}

impl Session {
    /// Drops the replies that wait.
    pub(super) fn drop_held(&mut self, memory: &mut Account) {
        self.held = VecDeque::new();
        memory.subtract(Kind::Replies, std::mem::take(&mut self.held_bytes));
    }
}
