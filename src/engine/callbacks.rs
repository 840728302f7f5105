//! Calls the application, and carries out what it wants done.
//!
//! It owns when a callback is called, that `on_close` follows each `on_open` once, and that a
//! callback that panics has done nothing. It never decides what a message means.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Engine;
use super::app::{Admission, Application, Closed, Session, Tells, Upgrade};
use super::clients::Stage;
use super::io::{CloseReason, ConnId, Output, SessionId};
use super::message::{Message, ServerMessage};
use super::step::Step;

impl Engine {
    /// Asks the application whether a client is let in.
    pub fn admit(&mut self, request: &Upgrade<'_>) -> Admission {
        let app = &mut *self.app;
        let asked = catch_unwind(AssertUnwindSafe(|| app.on_upgrade(request)));
        asked.unwrap_or_else(|panic| {
            let what = describe("on_upgrade", &*panic);
            let (conn, session) = (None, request.session().cloned());
            self.outputs.push_back(Output::Panicked {
                conn,
                session,
                what,
            });
            Admission::refuse(500, "the service failed")
        })
    }

    /// A client has its session.
    pub(super) fn call_on_open(&mut self, conn: ConnId, is_resumed: bool) {
        if let Some(client) = self.clients.get_mut(conn) {
            client.open(is_resumed);
        }
        let done = self.call("on_open", conn, false, |app, session| app.on_open(session));
        self.carry_out(conn, done);
    }

    /// A message has arrived.
    pub(super) fn message(&mut self, conn: ConnId, message: Message<'_>) {
        let Some(client) = self.clients.get(conn) else {
            return;
        };
        let (stage, tells) = (client.stage(), client.tells());
        let is_read = matches!(stage, Stage::Open | Stage::GoodbyeSent) && client.is_known();
        // A session that was displaced a moment ago counts no more.
        if !is_read || !self.sessions.may_count(client.session()) {
            return;
        }
        let done = self.call("on_message", conn, true, |app, session| {
            app.on_message(message, session);
        });
        match done {
            Some(_) if stage == Stage::GoodbyeSent => self.closing.count_late(),
            Some(count) if tells.includes(Tells::COUNTS) => {
                self.effects.replies.push(ServerMessage::Count(count));
            }
            Some(_) | None => {}
        }
        self.carry_out(conn, done);
    }

    /// No message comes from a client any more, if the application does not know that yet.
    pub(super) fn call_on_close(&mut self, conn: ConnId, why: Closed) {
        let Some(client) = self.clients.get_mut(conn) else {
            return;
        };
        if !client.take_known() {
            return;
        }
        let is_shutdown = client.stage() == Stage::GoodbyeSent;
        let why = if is_shutdown { Closed::Shutdown } else { why };
        // A panic has nothing to undo: the client goes in any case.
        self.call("on_close", conn, false, |app, session| {
            session.can_reply = false;
            app.on_close(session, why);
        });
        self.effects.clear();
    }

    /// Whoever has this session on this node loses it to a new claim, which the store has not been
    /// asked for: what `on_close` changes is still saved.
    pub(super) fn leave_session(&mut self, id: &SessionId) {
        let owner = self.sessions.find(id).and_then(|key| {
            let session = self.sessions.get(key)?;
            session.owner()
        });
        if let Some(conn) = owner {
            self.call_on_close(conn, Closed::TakenOver);
        }
    }

    /// Calls the application, and takes the step that comes of it: a message `counts`, and a state
    /// may change. Returns the count; `None` if the callback has panicked, and wants nothing done.
    fn call(
        &mut self,
        callback: &'static str,
        conn: ConnId,
        counts: bool,
        call: impl FnOnce(&mut dyn Application, &mut Session<'_>),
    ) -> Option<u64> {
        let client = self.clients.get_mut(conn)?;
        let held = client.session();
        let count = self.sessions.processed(held) + u64::from(counts);
        let mut session = Session {
            conn,
            id: self.sessions.id(held),
            incarnation: self.sessions.incarnation(held),
            count,
            state: self.sessions.state(client),
            is_resumed: client.is_resumed(),
            can_reply: client.stage() == Stage::Open,
            effects: &mut self.effects,
        };
        let app = &mut *self.app;
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| call(app, &mut session))) {
            self.effects.clear();
            self.outputs.push_back(Output::Panicked {
                conn: Some(conn),
                session: self.sessions.id(held).cloned(),
                what: describe(callback, &*panic),
            });
            return None;
        }
        let state = self.effects.state.take();
        if counts || state.is_some() {
            self.sessions.step(client, Step { counts, state });
            self.plan_save(held);
        }
        Some(count)
    }

    /// Does what a callback wants done, unless it has panicked; with `acked`, replies leave once the
    /// session is saved.
    fn carry_out(&mut self, conn: ConnId, done: Option<u64>) {
        let Some(client) = self.clients.get(conn) else {
            return;
        };
        let unsaved = self.sessions.unsaved(client.session());
        let replies = self.effects.replies.drain(..);
        if let Some(key) = unsaved.filter(|_| self.saving.is_acked()) {
            replies.for_each(|message| self.sessions.hold(key, message));
            self.update_pause(conn);
        } else {
            self.outputs
                .extend(replies.map(|message| Output::Send { conn, message }));
        }
        let close = self.effects.close.take();
        if done.is_none() {
            self.fail(conn);
        } else if let Some(reason) = close {
            self.close_after_replies(conn, reason);
            self.call_on_close(conn, Closed::ByApplication);
        }
    }

    /// A callback has panicked: what was processed before is still acknowledged, and nothing that
    /// the client sends is processed any more.
    fn fail(&mut self, conn: ConnId) {
        let Some(client) = self.clients.get(conn) else {
            return;
        };
        // After the goodbye, its Close has been sent.
        if client.stage() == Stage::Open {
            self.close_after_replies(conn, CloseReason::Failed);
        }
        self.call_on_close(conn, Closed::Failed);
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
