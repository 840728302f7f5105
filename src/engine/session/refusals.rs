//! Pushes of a session that the store has refused, until the application is told.
//!
//! It owns how long a session is kept for that. It never calls the application.

use std::collections::VecDeque;

use super::{Session, SessionKey, Sessions, get_mut};
use crate::engine::ids::ConnId;
use crate::engine::io::SessionId;
use crate::engine::mailbox::{Push, PushRefused};
use crate::memory::Kind;

/// Pushes that were refused, and why.
pub(super) type Refusals = VecDeque<(Push, PushRefused)>;

impl Sessions {
    /// A push of this session is refused. If a newer connection is about to have it, that one's
    /// application is told.
    pub(in crate::engine) fn keep_refusal(
        &mut self,
        id: &SessionId,
        push: &Push,
        why: PushRefused,
    ) {
        if let Some(key) = self.find(id)
            && let Some(session) = get_mut(&mut self.slab, key)
        {
            self.memory.add(Kind::Pushes, push.body.len());
            let mailing = session.mailing.get_or_insert_default();
            mailing.refusals.push_back((push.clone(), why));
        }
    }

    /// The next push of a session of whose refusal the application is to be told, and the connection
    /// that has the session, or had it last. There is none while the session may take no step.
    pub(in crate::engine) fn next_refusal(
        &mut self,
        key: SessionKey,
    ) -> Option<(ConnId, Push, PushRefused)> {
        let session = get_mut(&mut self.slab, key)?;
        session.ledger.epoch()?;
        let mailing = session.mailing.as_mut()?;
        let conn = session.owner.or(mailing.last_owner)?;
        let (push, why) = mailing.refusals.pop_front()?;
        self.memory.subtract(Kind::Pushes, push.body.len());
        Some((conn, push, why))
    }

    /// The application is told of all.
    pub(in crate::engine) fn has_told_refusals(&mut self, key: SessionKey) {
        self.forget_if_over(key);
    }
}

impl Session {
    /// Whether the application is to be told of a refusal.
    pub(super) fn has_refusals(&self) -> bool {
        self.mailing
            .as_ref()
            .is_some_and(|mailing| !mailing.refusals.is_empty())
    }
}
