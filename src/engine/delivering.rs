//! Pushes on their way: what has come of those that steps have asked for, and the way of each to the
//! client of its session.
//!
//! It owns who is told of a push, and when. A client is handed a push once the store has accepted it,
//! and after all of its session that came before.

use super::callbacks::Done;
use super::clients::Stage;
use super::deferring::Caller;
use super::io::{CloseReason, Commit, ConnId, Output, Protocol, SessionId, SessionKey};
use super::mailbox::{Body, Mail, Mailbox, Pushed};
use super::message::{Delivery, ServerMessage};
use super::session::{MailboxRead, Session};
use super::timers::Timer;
use super::{Engine, SAVE_EVERY};

impl Engine {
    /// What has become of the pushes of a commit. A session is kept until the application is told of
    /// those that were refused.
    #[inline]
    pub(super) fn take_outcomes(
        &mut self,
        commit: &Commit,
        outcomes: &mut impl Iterator<Item = Pushed>,
    ) -> Vec<Pushed> {
        match &commit.mail {
            None => Vec::new(),
            Some(mail) => self.take_some_outcomes(commit, mail, outcomes),
        }
    }

    #[cold]
    fn take_some_outcomes(
        &mut self,
        commit: &Commit,
        mail: &Mail,
        outcomes: &mut impl Iterator<Item = Pushed>,
    ) -> Vec<Pushed> {
        let outcomes: Vec<_> = outcomes.take(mail.pushes.len()).collect();
        if !self.hub.is(commit.key) {
            for (push, outcome) in mail.pushes.iter().zip(&outcomes) {
                if let Pushed::Refused(why) = outcome {
                    self.sessions.keep_refusal(&commit.session, push, *why);
                }
            }
        }
        outcomes
    }

    /// The store has carried out the pushes of a commit, and says what has come of each.
    #[cold]
    pub(super) fn pushed(&mut self, commit: &Commit, outcomes: &[Pushed]) {
        let is_ours = self.hub.is(commit.key);
        let pushes = commit.mail.iter().flat_map(|mail| &mail.pushes);
        for (push, outcome) in pushes.zip(outcomes) {
            if is_ours {
                self.hub.answer(push.step, *outcome);
            }
            match *outcome {
                Pushed::Accepted(number) => self.accepted(&push.to, number, &push.body),
                Pushed::Refused(_) => {}
                Pushed::Before => self.sessions.look_into(&push.to),
            }
        }
        if is_ours {
            self.look_at_farewell();
        } else {
            self.tell_refusals(commit.key);
        }
    }

    fn accepted(&mut self, to: &SessionId, number: u64, body: &Body) {
        if let Some(key) = self.sessions.arrive(to, number, body) {
            self.deliver(key);
        }
    }

    /// The application is told which pushes of a session were refused: at once, whether the client
    /// is still there or not, but not while a step of the session is open.
    #[cold]
    pub(super) fn tell_refusals(&mut self, key: SessionKey) {
        if self.sessions.open_step(key).is_none() {
            self.tell_all_refusals(key);
        }
    }

    /// The same, between the last step of a session and `on_close`.
    #[cold]
    pub(super) fn tell_all_refusals(&mut self, key: SessionKey) {
        while let Some((conn, push, why)) = self.sessions.next_refusal(key) {
            let client = self.clients.get(conn).filter(|client| client.is_known());
            let mut caller = match client {
                Some(client) => Caller::of(conn, client),
                None => Caller::nobody(conn, key),
            };
            let done = self.call("on_push_refused", &mut caller, false, |app, session| {
                app.on_push_refused(&push.to, &push.body, why, session);
            });
            if caller.is_gone {
                self.effects.clear();
                continue;
            }
            self.carry_out(caller, done);
            if done == Done::Deferred {
                // The others wait for its end.
                return;
            }
        }
        self.sessions.has_told_refusals(key);
    }

    /// The store says what a mailbox holds.
    pub(super) fn mailbox_read(&mut self, key: SessionKey, mailbox: Mailbox) {
        match self.sessions.handle_mailbox(key, mailbox) {
            Some(MailboxRead::Known) => self.deliver(key),
            Some(MailboxRead::TakenOver) => self.lost_session(key),
            // Its client counts by numbers that mean something else now.
            Some(MailboxRead::Lost) => {
                if let Some(conn) = self.sessions.get(key).and_then(Session::owner) {
                    self.give_back(key, conn);
                }
            }
            None => {}
        }
    }

    /// Hands the client of a session what it may get.
    pub(super) fn deliver(&mut self, key: SessionKey) {
        let Some(conn) = self.sessions.get(key).and_then(Session::owner) else {
            return;
        };
        let Some(client) = self.clients.get(conn) else {
            return;
        };
        if client.stage() != Stage::Open || !client.is_known() {
            return;
        }
        let protocol = client.protocol();
        // What the kernel takes from here on may not be stored any more, and would be sent again.
        if self.saving.is_persisting() && protocol != Protocol::V2 {
            return;
        }
        while let Some((number, body)) = self.sessions.next_delivery(key) {
            let message = ServerMessage::Push(Box::new(Delivery { number, body }));
            self.outputs.push_back(Output::Send {
                conn,
                protocol,
                message,
            });
        }
    }

    /// A client of `sundown.v2` has received all pushes up to this number.
    pub(super) fn received(&mut self, conn: ConnId, number: u64) {
        self.confirm(conn, Some(number));
    }

    /// The kernel has taken all that a client was sent: for those that cannot confirm pushes by
    /// themselves, that is what counts.
    pub(super) fn taken(&mut self, conn: ConnId) {
        let protocol = self.clients.get(conn).map(super::clients::Client::protocol);
        if protocol.is_some_and(|protocol| protocol != Protocol::V2) {
            self.confirm(conn, None);
        }
    }

    fn confirm(&mut self, conn: ConnId, number: Option<u64>) {
        let Some(client) = self.clients.get(conn) else {
            return;
        };
        let session = client.session();
        if let Some(key) = session.key()
            && self.sessions.confirm(key, number)
        {
            self.timers
                .set_if_unset(Timer::Save, self.now.instant + SAVE_EVERY);
            self.deliver(key);
        }
    }

    /// The client of a session is closed, to come back later: what it knows of it does not hold.
    fn give_back(&mut self, key: SessionKey, conn: ConnId) {
        self.turn_away(conn, CloseReason::Refused);
        self.sessions
            .close(super::session::ClientSession::Stored(key));
    }
}

#[cfg(test)]
mod refusal_tests;
#[cfg(test)]
mod tests;
