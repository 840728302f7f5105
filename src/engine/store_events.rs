//! What the store's answers mean for clients: which are granted their session, answered, or closed.

use std::time::Duration;

use super::Engine;
use super::app::Closed;
use super::clients::Stage;
use super::io::{
    CloseReason, ConnId, Grant, Now, Output, Protocol, Refused, SessionKey, StoreEvent,
};
use super::message::{Hello, ServerMessage};
use super::session::{ClientSession, Session};
use super::shutdown::Phase;
use super::timers::Timer;

/// How soon a session that the store has refused to save is saved again.
const RETRY_EVERY: Duration = Duration::from_secs(1);

impl Engine {
    pub(super) fn store_event(&mut self, event: StoreEvent, now: Now) {
        match event {
            StoreEvent::Up => {
                self.saving.handle_up();
                self.sessions.handle_store_found();
                self.timers.set(Timer::Continue, now.instant);
            }
            StoreEvent::Down { .. } => {
                self.saving.handle_down();
                self.sessions.handle_store_down();
                self.finish_closed();
            }
            StoreEvent::Lost { .. } => self.sessions.handle_store_lost(),
            StoreEvent::Stalled => {
                self.saving.handle_stalled();
                self.finish_closed();
            }
            StoreEvent::Resumed => self.saving.handle_resumed(),
            StoreEvent::Claimed { key, grant } => {
                self.sessions.handle_answer();
                self.claimed(key, grant, now);
            }
            StoreEvent::Committed {
                batch,
                fenced,
                pushed,
            } => {
                let mut fenced = fenced.into_iter().peekable();
                let mut pushed = pushed.into_iter();
                for (at, commit) in batch.iter().enumerate() {
                    if fenced.next_if_eq(&at).is_some() {
                        self.lost_session(commit.key);
                    } else {
                        let outcomes = self.take_outcomes(commit, &mut pushed);
                        self.sessions.handle_saved(commit);
                        self.saved(commit.key);
                        self.plan_save(ClientSession::Stored(commit.key));
                        if commit.mail.is_some() {
                            self.pushed(commit, &outcomes);
                        }
                    }
                }
            }
            StoreEvent::Refused { request, .. } => self.refused(request, now),
            StoreEvent::Mailbox { key, mailbox } => {
                self.sessions.handle_answer();
                self.mailbox_read(key, mailbox);
            }
            StoreEvent::Mail { session, sent } => self.sessions.hear_of(&session, sent),
            StoreEvent::Synced => self.saving.handle_synced(),
            StoreEvent::Spilled { batch, kept } => self.spilled(&batch, kept),
            StoreEvent::TakenOver { session, epoch } => {
                let key = self.sessions.find(&session);
                let ours = key.and_then(|key| self.sessions.get(key)?.epoch());
                if let (Some(key), Some(ours)) = (key, ours)
                    && ours < epoch
                {
                    self.lost_session(key);
                }
            }
        }
    }

    pub(super) fn claimed(&mut self, key: SessionKey, grant: Grant, now: Now) {
        let held = &grant.snapshot;
        let (incarnation, count, resumed) = (held.incarnation, held.count, grant.found);
        let Some(granted) = self.sessions.handle_claimed(key, grant) else {
            return;
        };
        if let Some(displaced) = granted.displaced {
            self.lost_session(displaced);
        }
        if let Some(conn) = granted.owner {
            self.let_in(conn, key, (incarnation, count, resumed), now);
        }
        self.tell_refusals(key);
    }

    /// A client has its session.
    fn let_in(
        &mut self,
        conn: ConnId,
        key: SessionKey,
        (incarnation, count, resumed): (u64, u64, bool),
        now: Now,
    ) {
        let Some(client) = self.clients.get_mut(conn) else {
            return;
        };
        if client.stage() != Stage::Waiting {
            return;
        }
        let (protocol, received) = (client.protocol(), client.received());
        if self.shutdown.state().phase() >= Phase::Notifying {
            self.closing.count_granted();
        }
        let sent = self.sessions.sent(key);
        self.sessions.skip(key, received.number_in(incarnation));
        if protocol.is_own()
            && let Some(session) = self.sessions.get(key)
        {
            let hello = Hello {
                session: session.id().clone(),
                incarnation,
                count,
                resumed,
                sent,
            };
            let message = ServerMessage::Hello(Box::new(hello));
            self.outputs.push_back(Output::Send {
                conn,
                protocol,
                message,
            });
        }
        self.call_on_open(conn, resumed);
        self.deliver(key);
        self.send_late_notice(conn, now);
        self.update_pause(conn);
    }

    /// More of a session is confirmed: replies and closes that waited for that go out.
    pub(super) fn saved(&mut self, key: SessionKey) {
        let Some(conn) = self.sessions.get(key).and_then(Session::owner) else {
            return;
        };
        let Some(client) = self.clients.get_mut(conn) else {
            return;
        };
        let protocol = client.protocol();
        let mut merged = None;
        while let Some(message) = self.sessions.release(key) {
            // In `sundown.v2` a count covers all before it: one is enough.
            if protocol == Protocol::V2
                && let ServerMessage::Count(count) = message
            {
                merged = Some(count);
                continue;
            }
            self.outputs.push_back(Output::Send {
                conn,
                protocol,
                message,
            });
        }
        if let Some(count) = merged {
            self.outputs.push_back(Output::Send {
                conn,
                protocol,
                message: ServerMessage::Count(count),
            });
        }
        // A save is no reason to stop reading.
        let is_paused = client.is_paused();
        if !self.sessions.holds_replies(client.session())
            && let Some(reason) = client.take_close()
        {
            self.push_close(conn, reason);
        }
        if is_paused {
            self.update_pause(conn);
        }
        self.finish_if_safe(conn);
        if self.clients.waiting_len() > 0 {
            self.look_at_slot(conn);
        }
    }

    /// A newer claim has this session: the client that had it here is closed.
    pub(super) fn lost_session(&mut self, key: SessionKey) {
        self.leave(key);
        if let Some(conn) = self.sessions.end(key) {
            self.taken_over(conn);
        }
    }

    pub(super) fn taken_over(&mut self, conn: ConnId) {
        self.turn_away(conn, CloseReason::TakenOver);
    }

    /// A client has lost its session, for this reason.
    pub(super) fn turn_away(&mut self, conn: ConnId, reason: CloseReason) {
        self.call_on_close(conn, Closed::Refused);
        let Some(client) = self.clients.get_mut(conn) else {
            return;
        };
        client.take_session();
        match client.stage() {
            Stage::Waiting | Stage::Open => {
                self.clients.enter(conn, Stage::Closing);
                self.push_close(conn, reason);
            }
            Stage::GoodbyeSent | Stage::Closing | Stage::PeerClosed => {
                if let Some(reason) = client.take_close() {
                    self.push_close(conn, reason);
                }
            }
        }
        self.update_pause(conn);
        self.finish_if_safe(conn);
    }

    /// The store refuses a single request. Clients that wait for it are closed.
    fn refused(&mut self, request: Refused, now: Now) {
        match request {
            Refused::Claim(key) => {
                self.sessions.handle_answer();
                let Some(ended) = self.sessions.handle_claim_refused(key) else {
                    return;
                };
                // It was displaced and is saved: no connection has it now, and either client may
                // claim it.
                if let Some(conn) = ended.displaced.and_then(|key| self.sessions.end(key)) {
                    self.turn_away(conn, CloseReason::Refused);
                }
                if let Some(conn) = ended.owner {
                    self.turn_away(conn, CloseReason::Refused);
                }
            }
            Refused::Commit(commit) => self.save_refused(commit.key, now),
            Refused::Read(key) => {
                self.sessions.handle_answer();
                self.sessions.handle_read_refused(key);
            }
        }
    }

    /// The session is kept, and saved again later. Its clients are closed: nothing that they send
    /// can be acknowledged. One that was sent the goodbye stays, so that what it sends is counted.
    fn save_refused(&mut self, key: SessionKey, now: Now) {
        let Some(refused) = self.sessions.handle_save_refused(key) else {
            return;
        };
        if self.saving.is_persisting() {
            self.sessions.spill_refused(key);
        }
        self.timers
            .set_if_unset(Timer::Retry, now.instant + RETRY_EVERY);
        if let Some(conn) = refused.waiting {
            self.turn_away(conn, CloseReason::Refused);
        }
        let owner = refused.owner.and_then(|conn| {
            let client = self.clients.get(conn)?;
            let stays = matches!(client.stage(), Stage::GoodbyeSent | Stage::PeerClosed);
            (!stays).then_some(conn)
        });
        if let Some(conn) = owner {
            self.turn_away(conn, CloseReason::Refused);
            self.sessions.close(ClientSession::Stored(key));
        }
    }

    /// Saves again what the store has refused, a turn's share at a time.
    pub(super) fn retry_refused(&mut self, now: Now) {
        self.saving.save_soon();
        if self.sessions.retry_refused(self.fanout_max) {
            self.timers.set(Timer::Retry, now.instant);
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
