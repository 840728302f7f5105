//! Sessions that want to be woken: one time for each connection.
//!
//! It owns the times. A session is woken while its client is read from, and never while a step of it
//! is open.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::Engine;
use super::clients::Stage;
use super::deferring::Caller;
use super::io::{ConnId, Now};

/// Who is to be woken, and when.
#[derive(Debug, Default)]
pub(super) struct Waking(BTreeSet<(Instant, ConnId)>);

impl Waking {
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Another time takes the place of the one before.
    fn set(&mut self, conn: ConnId, before: Option<Instant>, at: Option<Instant>) {
        if let Some(before) = before {
            self.0.remove(&(before, conn));
        }
        if let Some(at) = at {
            self.0.insert((at, conn));
        }
    }

    fn pop_due(&mut self, now: Instant) -> Option<ConnId> {
        let first = self.0.first().filter(|(at, _)| *at <= now)?;
        let (_, conn) = *first;
        self.0.pop_first();
        Some(conn)
    }
}

impl Engine {
    /// A step wants its session to be woken.
    pub(super) fn wake_in(&mut self, conn: ConnId, after: Duration) {
        // A time that no clock has never comes.
        let at = self.now.instant.checked_add(after);
        if let Some(client) = self.clients.get_mut(conn) {
            let before = client.set_wake_at(at);
            self.waking.set(conn, before, at);
        }
    }

    /// A client is gone, or has said its last.
    pub(super) fn stop_waking(&mut self, conn: ConnId) {
        if let Some(client) = self.clients.get_mut(conn)
            && client.wake_at().is_some()
        {
            let before = client.set_wake_at(None);
            self.waking.set(conn, before, None);
        }
    }

    /// Wakes those whose time has come, a turn's share of them.
    pub(super) fn wake_some(&mut self, now: Now) {
        for _ in 0..self.fanout_max {
            let Some(conn) = self.waking.pop_due(now.instant) else {
                return;
            };
            self.wake(conn);
        }
    }

    /// The time may have come while the session could not be woken.
    pub(super) fn wake_if_due(&mut self, conn: ConnId) {
        let at = self
            .clients
            .get(conn)
            .and_then(super::clients::Client::wake_at);
        if let Some(at) = at
            && at <= self.now.instant
        {
            self.waking.set(conn, None, Some(at));
        }
    }

    fn wake(&mut self, conn: ConnId) {
        let Some(client) = self.clients.get_mut(conn) else {
            return;
        };
        let may_step = client.stage() == Stage::Open && client.is_known();
        // Nor while too much of it waits for the store.
        if may_step && (client.open_step().is_some() || client.is_paused()) {
            return;
        }
        client.set_wake_at(None);
        if !may_step || !self.sessions.may_count(client.session()) {
            return;
        }
        let mut caller = Caller::of(conn, client);
        let done = self.call("on_timer", &mut caller, false, |app, session| {
            app.on_timer(session);
        });
        self.carry_out(caller, done);
    }
}
