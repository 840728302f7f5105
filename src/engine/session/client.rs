//! What a client asks of its session. The engine takes one path for every client: one without a
//! session id has an ephemeral session, which no store keeps.

use super::{Session, SessionId, SessionKey, Sessions, get_mut, replace_state};
use crate::engine::clients::Client;
use crate::engine::step::{State, Step};

/// The session that a client's messages count in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum ClientSession {
    /// A session that the store keeps.
    Stored(SessionKey),
    /// The count of one connection: always saved, and gone with the connection. It is kept here,
    /// and not among the stored sessions, since a client at rest must cost little memory.
    Ephemeral(u64),
}

impl ClientSession {
    /// A session that nothing has been counted in.
    pub(in crate::engine) const EPHEMERAL: Self = Self::Ephemeral(0);

    /// The stored session, if it is one.
    pub(in crate::engine) fn key(self) -> Option<SessionKey> {
        match self {
            Self::Stored(key) => Some(key),
            Self::Ephemeral(_) => None,
        }
    }
}

/// A session, as a callback sees it.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct View<'a> {
    pub(in crate::engine) id: Option<&'a SessionId>,
    pub(in crate::engine) incarnation: u64,
    pub(in crate::engine) count: u64,
    pub(in crate::engine) state: &'a State,
}

impl View<'_> {
    /// A session that is gone.
    pub(in crate::engine) const NONE: Self = Self {
        id: None,
        incarnation: 0,
        count: 0,
        state: State::NONE,
    };
}

impl Sessions {
    /// Takes a step in a stored session, if it may take any. It is unsaved then, whatever the step
    /// changes.
    pub(in crate::engine) fn step(&mut self, key: SessionKey, step: Step) {
        if let Some(session) = get_mut(&mut self.slab, key)
            && session.ledger.step(step.counts).is_some()
        {
            if let Some(state) = step.state {
                replace_state(&mut self.memory, &mut session.state, state);
            }
            self.unconfirmed.handle_unsaved(key.slot);
            self.mark_dirty(key);
            self.spilling.handle_step(key.slot);
        }
    }

    /// The state of a client whose session is ephemeral.
    pub(in crate::engine) fn keep_state(&mut self, client: &mut Client, state: State) {
        replace_state(&mut self.memory, client.state_mut(), state);
    }

    /// The state of a client's ephemeral session, which is a stored one from here on.
    pub(in crate::engine) fn take_state(&mut self, client: &mut Client) -> State {
        let state = client.state().clone();
        if !state.is_empty() {
            self.keep_state(client, State::default());
        }
        state
    }

    /// The client is gone.
    pub(in crate::engine) fn drop_client(&mut self, mut client: Client) {
        if !client.state().is_empty() {
            self.keep_state(&mut client, State::default());
        }
        self.close(client.session());
    }

    /// A stored session, as a callback sees it.
    pub(in crate::engine) fn view(&self, key: SessionKey) -> View<'_> {
        self.get(key).map_or(View::NONE, |session| View {
            id: Some(&session.id),
            incarnation: session.incarnation,
            count: session.processed(),
            state: &session.state,
        })
    }

    /// Whether a message may be counted in it.
    pub(in crate::engine) fn may_count(&self, session: ClientSession) -> bool {
        match session {
            ClientSession::Stored(key) => self.get(key).and_then(Session::epoch).is_some(),
            ClientSession::Ephemeral(_) => true,
        }
    }

    /// The session, if there is something in it that the store has not confirmed.
    pub(in crate::engine) fn unsaved(&self, session: ClientSession) -> Option<SessionKey> {
        session.key().filter(|key| !self.is_saved(*key))
    }

    /// Whether nothing is lost if the client goes: store or spill have all of its session.
    pub(in crate::engine) fn is_safe(&self, session: ClientSession) -> bool {
        let unsaved = self.unsaved(session);
        unsaved.is_none_or(|key| self.spilling.holds(key.slot))
    }

    /// Whether the session is on its way into the spill.
    pub(in crate::engine) fn awaits_spill(&self, session: ClientSession) -> bool {
        self.stored(session).is_some()
            && session
                .key()
                .is_some_and(|key| self.spilling.awaits(key.slot))
    }

    /// The session's id; `None` if it is ephemeral.
    pub(in crate::engine) fn id(&self, session: ClientSession) -> Option<&SessionId> {
        self.stored(session).map(Session::id)
    }

    /// The count that the store has confirmed.
    pub(in crate::engine) fn saved(&self, session: ClientSession) -> u64 {
        match session {
            ClientSession::Stored(key) => self.get(key).map_or(0, Session::saved),
            ClientSession::Ephemeral(count) => count,
        }
    }

    /// Whether its client is not to be read from: the session is not granted, or too many replies
    /// wait. A client that `is_paused` is read again at half of either limit, which may round down
    /// to zero.
    pub(in crate::engine) fn is_blocked(&self, session: ClientSession, is_paused: bool) -> bool {
        let (max, bytes_max) = (self.held_replies_max, self.held_bytes_max);
        self.stored(session).is_some_and(|session| {
            let (held, bytes) = (session.held.len(), session.held_bytes);
            let full = if is_paused {
                held > max / 2 || bytes > bytes_max / 2
            } else {
                held >= max || bytes >= bytes_max
            };
            session.epoch().is_none() || full || self.is_posting(session, is_paused)
        })
    }

    /// The connection has let go of its session, which is forgotten as soon as it is saved.
    pub(in crate::engine) fn close(&mut self, session: ClientSession) {
        if let Some(key) = session.key()
            && let Some(session) = get_mut(&mut self.slab, key)
        {
            let owner = session.owner.take();
            if let Some(mailing) = &mut session.mailing {
                mailing.last_owner = owner.or(mailing.last_owner);
            }
            session.drop_held(&mut self.memory);
            self.forget_if_over(key);
            self.forget_if_unwanted(key);
        }
    }

    pub(super) fn stored(&self, session: ClientSession) -> Option<&Session> {
        self.get(session.key()?)
    }
}
