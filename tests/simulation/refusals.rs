//! What a process owes to whom when the store refuses one session by itself: that session's clients
//! are closed, nobody else's, and what it has counted is kept.

use sundown::engine::io::{ConnId, Refused, SessionId, SessionKey};

use super::{Book, Conn, by_conn, by_key};
use crate::common::Common;

impl Book {
    /// The store has refused a claim or a save.
    pub(super) fn refused(&mut self, common: &mut Common, request: &Refused) {
        let key = match request {
            Refused::Claim(key) | Refused::Read(key) => *key,
            Refused::Commit(commit) => commit.key,
        };
        let is_open = self.conns.values().any(|conn| conn.key == Some(key))
            || self.deferred.values().any(|kept| *kept == key);
        let Some(session) = self.sessions.get_mut(&by_key(key)) else {
            return;
        };
        match request {
            Refused::Read(_) => {}
            Refused::Claim(_) => {
                session.claim_asked = false;
                // It had counted nothing when someone else on this node asked: it was forgotten.
                let is_forgotten = session.displaced;
                session.lost = true;
                let id = session.id.clone();
                if !is_forgotten {
                    self.end_displaced(common, key.generation, &id);
                }
                self.refused = Some(id);
            }
            Refused::Commit(_) => {
                session.save_asked = false;
                if !is_open && session.counted <= session.confirmed && !session.may_owe_more() {
                    // It was closed and saved while it was saved once more: it was forgotten.
                    return common.seen.note("save refused of a closed session");
                }
                // The store is not known to hold anything of it.
                session.confirmed = 0;
                self.refused = Some(session.id.clone());
                self.detach(key);
                let phase = match (self.timeline.began, self.timeline.persisting) {
                    (_, Some(_)) => "save refused in Persisting or later",
                    (Some(_), None) => "save refused before Persisting",
                    (None, None) => "save refused",
                };
                common.seen.note(phase);
            }
        }
    }

    /// Whoever has the session is closed, and nothing more is promised to it; unless it has closed
    /// or was bidden goodbye, so that what it had sent is still to be saved.
    fn detach(&mut self, key: SessionKey) {
        for conn in self.conns.values_mut() {
            if conn.key == Some(key) && !conn.bye && !conn.peer_closed {
                conn.key = None;
            }
        }
    }

    /// Whoever was displaced for a claim that is refused ends as well: the store has all of it.
    fn end_displaced(&mut self, common: &Common, generation: u32, id: &SessionId) {
        let kept = common.truth.count(id);
        for (key, session) in &mut self.sessions {
            if key.1 < generation && session.id == *id && !session.lost {
                let name = &self.name;
                assert!(
                    session.counted <= kept,
                    "{name}: dropped, and {kept} is stored: {session:?}"
                );
                session.lost = true;
            }
        }
    }

    /// The store has lost all that it held: what nobody has open any more is lost with it.
    pub(crate) fn records_lost(&mut self) {
        for (key, session) in &mut self.sessions {
            let is_open = |conn: &Conn| conn.key.is_some_and(|open| by_key(open) == *key);
            let mut deferred = self.deferred.values();
            let is_kept = deferred.any(|kept| by_key(*kept) == *key);
            session.lost |= !session.is_own && !is_kept && !self.conns.values().any(is_open);
        }
    }

    /// Whether the store holds again what is open here.
    pub(crate) fn is_stored(&self, common: &Common) -> bool {
        let open = self.conns.values().filter_map(|conn| conn.key);
        let mut sessions = open.filter_map(|key| self.sessions.get(&by_key(key)));
        sessions.all(|session| session.lost || common.truth.count(&session.id) >= session.counted)
    }

    /// The engine has been told: nobody is left to wait for a session whose claim was refused.
    pub(crate) fn check_told(&self, key: SessionKey) {
        let Some(session) = self.sessions.get(&by_key(key)) else {
            return;
        };
        let waits = |conn: &&Conn| {
            let over = conn.closed.is_some() || conn.app_closes || conn.peer_closed || conn.bye;
            conn.session.as_ref() == Some(&session.id) && !over
        };
        let waiting = self.conns.values().find(waits);
        assert!(
            session.displaced || waiting.is_none(),
            "{}: is left to wait: {waiting:?}",
            self.name
        );
    }

    /// A client is told that its session is refused.
    pub(super) fn check_refused(&mut self, common: &mut Common, to: ConnId) {
        common.seen.note("session refused");
        let conn = self.conns.get(&by_conn(to));
        let own = conn.and_then(|conn| conn.session.as_ref());
        assert!(
            self.refused.is_some() && (own.is_none() || own == self.refused.as_ref()),
            "{}: {to:?} of {own:?} is closed, and {:?} is refused",
            self.name,
            self.refused
        );
    }
}
