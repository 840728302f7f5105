//! Calls the application, and carries out what it wants done.
//!
//! It owns when a callback is called, that `on_close` follows each `on_open` once, and that a
//! callback that panics has done nothing. It never decides what a message means.

mod completing;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rand::RngExt as _;

use super::Engine;
use super::app::{Admission, Application, Closed, Hub, Session, Tells, Upgrade};
use super::clients::{Client, Stage};
use super::deferring::Caller;
use super::io::{CloseReason, ConnId, Output, Panicked, Protocol, SessionId, SessionKey};
use super::message::{Message, ServerMessage};
use super::session::{ClientSession, View};
use super::step::{State, Step};

/// What has become of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// It is taken, and so many messages are processed now.
    Taken(u64),
    /// It is open: another thread has the rest.
    Deferred,
    /// Its callback has panicked, and wants nothing done. It may have been the step of a message.
    Failed { on_message: bool },
}

impl Engine {
    /// Asks the application whether a client is let in.
    pub fn admit(&mut self, request: &Upgrade<'_>) -> Admission {
        let app = &mut *self.app;
        let asked = catch_unwind(AssertUnwindSafe(|| app.on_upgrade(request)));
        asked.unwrap_or_else(|panic| {
            let what = describe("on_upgrade", &*panic);
            let (conn, session) = (None, request.session().cloned());
            self.outputs.push_back(Output::Panicked(Box::new(Panicked {
                conn,
                session,
                what,
            })));
            Admission::refuse(500, "the service failed")
        })
    }

    /// A client has its session.
    pub(super) fn call_on_open(&mut self, conn: ConnId, is_resumed: bool) {
        if let Some(client) = self.clients.get_mut(conn) {
            client.open(is_resumed);
        }
        let Some(mut caller) = self.caller(conn) else {
            return;
        };
        let done = self.call("on_open", &mut caller, false, |app, session| {
            app.on_open(session);
        });
        self.carry_out(caller, done);
    }

    /// A shutdown has begun.
    pub(super) fn call_on_shutdown(&mut self) {
        let (app, mut letters) = (&mut *self.app, Vec::new());
        let mut hub = Hub {
            letters: &mut letters,
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| app.on_shutdown(&mut hub))) {
            self.outputs.push_back(Output::Panicked(Box::new(Panicked {
                conn: None,
                session: None,
                what: describe("on_shutdown", &*panic),
            })));
        } else if !letters.is_empty() {
            self.say_farewell(letters);
        }
    }

    /// A message has arrived.
    pub(super) fn message(&mut self, conn: ConnId, message: Message<'_>) {
        let Some(client) = self.clients.get(conn) else {
            return;
        };
        let (stage, protocol) = (client.stage(), client.protocol());
        let is_read = matches!(stage, Stage::Open | Stage::GoodbyeSent) && client.is_known();
        // A session that was displaced a moment ago counts no more.
        if !is_read || !self.sessions.may_count(client.session()) {
            return;
        }
        let mut caller = Caller::of(conn, client);
        let message = match protocol {
            Protocol::Plain | Protocol::V1 => message,
            Protocol::V2 => match self.body(conn, message) {
                Some(body) => body,
                None => return,
            },
        };
        let done = self.call("on_message", &mut caller, true, |app, session| {
            app.on_message(message, session);
        });
        self.tell_count(caller, done);
        self.carry_out(caller, done);
    }

    /// No message comes from a client any more, if the application does not know that yet. If a
    /// step of it is open that outlives the connection, the application is told when that ends.
    pub(super) fn call_on_close(&mut self, conn: ConnId, why: Closed) {
        self.stop_waking(conn);
        let Some(client) = self.clients.get_mut(conn) else {
            return;
        };
        if !client.take_known() {
            return;
        }
        let is_shutdown = client.stage() == Stage::GoodbyeSent;
        let why = if is_shutdown { Closed::Shutdown } else { why };
        if let Some(step) = client.open_step()
            && self.await_step(step, why)
        {
            return;
        }
        if let Some(caller) = self.caller(conn) {
            self.call_closed(caller, why);
        }
    }

    fn call_closed(&mut self, caller: Caller, why: Closed) {
        if let Some(key) = caller.session.key() {
            self.tell_all_refusals(key);
        }
        let mut caller = caller.gone();
        self.call("on_close", &mut caller, false, |app, session| {
            app.on_close(session, why);
        });
        self.effects.clear();
    }

    /// A session is lost to a newer claim: on this node, where the store has not been asked for it
    /// yet and what `on_close` changes is still saved, or on another one.
    pub(super) fn leave_session(&mut self, id: &SessionId) {
        if let Some(key) = self.sessions.find(id) {
            self.leave(key);
        }
    }

    /// The client of a connection, as a callback sees it.
    fn caller(&self, conn: ConnId) -> Option<Caller> {
        let client = self.clients.get(conn)?;
        Some(Caller::of(conn, client))
    }

    /// Calls the application, and takes the step that comes of it: a message `counts`, and a state
    /// may change. What else the callback wants done is in `effects` then, if the step is taken.
    pub(super) fn call(
        &mut self,
        callback: &'static str,
        caller: &mut Caller,
        counts: bool,
        call: impl FnOnce(&mut dyn Application, &mut Session<'_>),
    ) -> Done {
        let (conn, held) = (caller.conn, caller.session);
        let client = self.clients.get_mut(conn);
        let view = match held {
            ClientSession::Stored(key) => self.sessions.view(key),
            ClientSession::Ephemeral(count) => View {
                count,
                state: client.as_deref().map_or(State::NONE, Client::state),
                ..View::NONE
            },
        };
        let count = view.count + u64::from(counts);
        let mut session = Session {
            conn,
            id: view.id,
            incarnation: view.incarnation,
            count,
            state: view.state,
            is_resumed: caller.is_resumed,
            can_reply: caller.can_reply,
            effects: &mut self.effects,
            desk: &mut self.desk,
        };
        let app = &mut *self.app;
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| call(app, &mut session))) {
            if let Some(ticket) = self.desk.take_ticket() {
                ticket.cancel();
            }
            self.fail_step(*caller, describe(callback, &*panic));
            return Done::Failed { on_message: counts };
        }
        if self.desk.has_ticket()
            && let Some(ticket) = self.desk.take_ticket()
        {
            if caller.is_gone {
                ticket.cancel();
                self.effects.clear();
            } else {
                self.open_step(ticket, *caller, counts);
            }
            return Done::Deferred;
        }
        if !self.effects.letters.is_empty() {
            self.post(caller, counts);
            return Done::Taken(count);
        }
        let changes = self.effects.state.is_some();
        match (held, client) {
            (ClientSession::Ephemeral(_), Some(client)) => {
                client.count(counts);
                if changes && let Some(state) = self.effects.state.take() {
                    self.sessions.keep_state(client, state);
                }
            }
            (ClientSession::Stored(key), _) if counts || changes => {
                let state = self.effects.state.take();
                self.sessions.step(key, Step { counts, state });
                self.plan_save(held);
            }
            (ClientSession::Stored(_) | ClientSession::Ephemeral(_), _) => {}
        }
        Done::Taken(count)
    }

    /// Takes a step that pushes.
    #[cold]
    fn post(&mut self, caller: &mut Caller, counts: bool) {
        let step = Step {
            counts,
            state: self.effects.state.take(),
        };
        let letters = std::mem::take(&mut self.effects.letters);
        self.name_session(caller);
        if let ClientSession::Stored(key) = caller.session {
            self.sessions.post(key, step, letters);
            self.plan_save(caller.session);
            self.update_pause(caller.conn);
        }
    }

    /// A step of an ephemeral session pushes, and the store is to keep that: from here on the session
    /// is a stored one, with a name that was made for the connection.
    fn name_session(&mut self, caller: &mut Caller) {
        let ClientSession::Ephemeral(count) = caller.session else {
            return;
        };
        let id = SessionId::from_random(self.rng.random());
        let Some(client) = self.clients.get_mut(caller.conn) else {
            return;
        };
        let state = self.sessions.take_state(client);
        let key = self.sessions.begin(id, Some(caller.conn), count, state);
        client.set_session(key);
        caller.session = ClientSession::Stored(key);
    }

    /// A step wants nothing done.
    fn fail_step(&mut self, caller: Caller, what: String) {
        self.effects.clear();
        self.outputs.push_back(Output::Panicked(Box::new(Panicked {
            conn: Some(caller.conn),
            session: self.sessions.id(caller.session).cloned(),
            what,
        })));
    }

    /// A message is processed: its client is told, or it came after the goodbye.
    fn tell_count(&mut self, caller: Caller, done: Done) {
        let Done::Taken(count) = done else { return };
        if !caller.can_reply {
            self.closing.count_late();
        } else if caller.tells.includes(Tells::COUNTS) {
            self.effects.replies.push(ServerMessage::Count(count));
        }
    }

    /// Does what a callback wants done.
    #[inline]
    pub(super) fn carry_out(&mut self, caller: Caller, done: Done) {
        match done {
            Done::Taken(_) => {}
            Done::Deferred => return self.update_pause(caller.conn),
            Done::Failed { on_message } => {
                let reason = CloseReason::Failed { on_message };
                return self.fail(caller.conn, reason, Closed::Failed);
            }
        }
        self.send_replies(caller);
        if let Some(after) = self.effects.wake_in.take() {
            self.wake_in(caller.conn, after);
        }
        if self.effects.close.is_some()
            && let Some(reason) = self.effects.close.take()
        {
            self.close_after_replies(caller.conn, reason);
            self.call_on_close(caller.conn, Closed::ByApplication);
        }
    }

    /// With `acked`, replies leave once the session is saved.
    #[inline]
    fn send_replies(&mut self, caller: Caller) {
        let Caller {
            conn,
            session,
            protocol,
            ..
        } = caller;
        if let Some(key) = self.sessions.unsaved(session)
            && (self.saving.is_acked() || protocol == Protocol::V2)
        {
            // Most steps have one reply.
            if self.effects.replies.len() > 1 {
                let replies = self.effects.replies.drain(..);
                replies.for_each(|message| self.sessions.hold(key, message));
            } else if let Some(reply) = self.effects.replies.pop() {
                self.sessions.hold(key, reply);
            }
            self.plan_save(session);
            self.update_pause(conn);
            return;
        }
        let send = |message| Output::Send {
            conn,
            protocol,
            message,
        };
        if self.effects.replies.len() > 1 {
            let replies = self.effects.replies.drain(..);
            self.outputs.extend(replies.map(send));
        } else if let Some(reply) = self.effects.replies.pop() {
            self.outputs.push_back(send(reply));
        }
    }

    /// A message cannot be processed, or its step has failed: what was processed before is still
    /// acknowledged, and nothing that the client sends is processed any more.
    pub(super) fn fail(&mut self, conn: ConnId, reason: CloseReason, why: Closed) {
        let Some(client) = self.clients.get(conn) else {
            return;
        };
        // After the goodbye, its Close has been sent.
        if client.stage() == Stage::Open {
            self.close_after_replies(conn, reason);
        }
        self.call_on_close(conn, why);
    }
}

impl Caller {
    /// This client.
    pub(super) fn of(conn: ConnId, client: &Client) -> Self {
        Self {
            conn,
            session: client.session(),
            protocol: client.protocol(),
            tells: client.tells(),
            is_resumed: client.is_resumed(),
            can_reply: client.stage() == Stage::Open,
            is_gone: false,
        }
    }

    /// A client that has gone, or of which the application does not know any more: nothing can be
    /// sent to it, and no step of it be left open.
    pub(super) fn gone(self) -> Self {
        Self {
            can_reply: false,
            is_gone: true,
            ..self
        }
    }

    /// Nobody has this session; that connection had it last.
    pub(super) fn nobody(conn: ConnId, key: SessionKey) -> Self {
        Self {
            conn,
            session: ClientSession::Stored(key),
            protocol: Protocol::Plain,
            tells: Tells::NOTHING,
            is_resumed: false,
            can_reply: false,
            is_gone: true,
        }
    }
}

/// What the log says of a panic.
fn describe(callback: &str, panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("{callback}: {}", text.unwrap_or("(no text)"))
}

#[cfg(test)]
mod tests;
