//! Steps that a callback has left open: how they end.
//!
//! A step ends once: by its rest, by being dropped, or because its session is lost.

use super::{Caller, Done};
use crate::engine::Engine;
use crate::engine::app::{Closed, Completion, Ticket};
use crate::engine::clients::Stage;
use crate::engine::deferring::OpenStep;
use crate::engine::io::SessionKey;
use crate::engine::session::ClientSession;

impl Engine {
    /// Whether a deferred step has come back: [`Input::Completed`](crate::engine::io::Input) deals
    /// with one.
    pub fn has_completions(&mut self) -> bool {
        self.deferring.has_completions(self.desk.handed_out())
    }

    /// What wakes the loop when a deferred step comes back.
    pub fn wake_by(&mut self, wake: impl Fn() + Send + Sync + 'static) {
        self.desk.way.wake = std::sync::Arc::new(wake);
    }

    /// A deferred step has come back.
    pub(in crate::engine) fn complete_step(&mut self) {
        let Some(Completion { step, rest }) = self.deferring.pop() else {
            return;
        };
        let Some(open) = self.deferring.take(step) else {
            return;
        };
        let OpenStep {
            caller: asked,
            counts,
            effects,
            closed,
            ..
        } = open;
        let conn = asked.conn;
        if let Some(client) = self.clients.get_mut(conn) {
            client.set_open_step(None);
        }
        let client = self.clients.get(conn);
        let is_open = client.is_some_and(|client| client.stage() == Stage::Open);
        let mut caller = Caller {
            can_reply: is_open && !self.saving.is_persisting(),
            ..asked
        };
        self.effects = effects;
        if !caller.can_reply {
            self.effects.replies.clear();
            self.effects.close = None;
        }
        let done = if let Some(rest) = rest {
            self.call("a deferred step", &mut caller, counts, |_, session| {
                rest(session);
            })
        } else {
            let what = "a deferred step: it was dropped, and not completed".to_owned();
            self.fail_step(caller, what);
            Done::Failed { on_message: counts }
        };
        if counts && (caller.can_reply || !asked.can_reply) {
            self.tell_count(caller, done);
        }
        self.carry_out(caller, done);
        match (closed, done) {
            (Some(why), Done::Deferred) => {
                if let Some(step) = self.step_of(asked) {
                    self.await_step(step, why);
                }
            }
            (Some(why), _) => self.call_closed(caller, why),
            (None, _) => {}
        }
        // The session was kept until here.
        if let Some(key) = asked.session.key()
            && self.sessions.open_step(key) == Some(step)
        {
            self.sessions.set_open_step(key, None);
        }
        if let Some(key) = asked.session.key() {
            self.tell_refusals(key);
        }
        self.update_full();
        self.wake_if_due(conn);
        self.update_pause(conn);
        self.finish_if_safe(conn);
        if self.clients.waiting_len() > 0 {
            self.look_at_slot(conn);
        }
    }

    /// A callback has left its step open.
    pub(super) fn open_step(&mut self, ticket: Ticket, caller: Caller, counts: bool) {
        let effects = std::mem::take(&mut self.effects);
        self.mark_step(caller, Some(ticket.step));
        self.deferring.open(ticket, caller, counts, effects);
        self.update_full();
    }

    /// The client of an open step has gone: the application is told when the step ends. Returns
    /// whether the step outlives its connection; otherwise it is cancelled.
    pub(super) fn await_step(&mut self, step: u64, why: Closed) -> bool {
        let Some(open) = self.deferring.get_mut(step) else {
            return false;
        };
        let is_stored = open.caller.session.key().is_some();
        let outlives = match why {
            Closed::ByClient | Closed::Lost | Closed::TooSlow | Closed::Shutdown => is_stored,
            Closed::ByApplication | Closed::TakenOver | Closed::Refused | Closed::Failed => false,
        };
        if outlives {
            open.closed = Some(why);
        } else {
            self.cancel_step(step);
        }
        outlives
    }

    /// A session is lost to a newer claim.
    pub(in crate::engine) fn leave(&mut self, key: SessionKey) {
        if let Some(step) = self.sessions.open_step(key) {
            self.cancel_step(step);
        }
        if let Some(conn) = self
            .sessions
            .get(key)
            .and_then(crate::engine::session::Session::owner)
        {
            self.call_on_close(conn, Closed::TakenOver);
        }
    }

    /// The shutdown's end: these steps are neither counted nor acknowledged.
    pub(in crate::engine) fn abandon_steps(&mut self, steps: impl IntoIterator<Item = u64>) {
        for step in steps {
            self.closing.count_abandoned();
            self.cancel_step(step);
        }
    }

    /// A step ends without its rest. Its client is about to go, or to lose its session.
    fn cancel_step(&mut self, step: u64) {
        let Some(open) = self.deferring.cancel(step) else {
            return;
        };
        if let Some(why) = open.closed {
            self.call_closed(open.caller, why);
        }
        self.mark_step(open.caller, None);
    }

    fn step_of(&self, caller: Caller) -> Option<u64> {
        match caller.session {
            ClientSession::Stored(key) => self.sessions.open_step(key),
            ClientSession::Ephemeral(_) => self.clients.get(caller.conn)?.open_step(),
        }
    }

    /// Client and session know which step of theirs is open.
    fn mark_step(&mut self, caller: Caller, step: Option<u64>) {
        if let Some(client) = self.clients.get_mut(caller.conn) {
            client.set_open_step(step);
        }
        if let ClientSession::Stored(key) = caller.session {
            self.sessions.set_open_step(key, step);
        }
    }

    /// Whether clients are read from depends on how many steps are open.
    pub(in crate::engine) fn update_full(&mut self) {
        if self.deferring.update_full() {
            self.for_each_client(Self::update_pause);
        }
    }
}

#[cfg(test)]
mod tests;
