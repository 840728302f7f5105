//! The engine's part in a shutdown: it applies the actions of the machine in `shutdown`.
//!
//! It owns what only matters once a shutdown has begun: how far the goodbyes and the cut have come,
//! what is refused, and the outcome for the report. It never decides on a phase.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::Engine;
use super::app::Tells;
use super::clients::{Client, Stage};
use super::io::{CloseReason, Commit, ConnId, Now, Output, Protocol};
use super::message::ServerMessage;
use super::session::Session;
use super::shutdown::{Action, Census, Outcome, Phase, Request, State};
use super::timers::Timer;

/// What a shutdown has come to.
#[derive(Debug, Default)]
pub(super) struct Closing {
    /// What the report tells.
    outcome: Outcome,
    goodbyes: Option<Goodbyes>,
    /// Clients that had their goodbye before Closing began.
    departed: usize,
    /// The slot at which the cut goes on.
    cut: Option<usize>,
    /// Sessions that were granted when the notice was due, and since.
    sessions: usize,
    /// Seed of the times at which clients are asked to reconnect.
    reconnect_seed: u64,
}

/// The goodbyes, each client's at its time.
#[derive(Clone, Copy, Debug)]
struct Goodbyes {
    began: std::time::Instant,
    spread: Duration,
    /// Clients there were when it began.
    total: usize,
    said: usize,
    /// The slot at which it goes on.
    cursor: usize,
}

/// A client is asked to wait a random time before it reconnects, below this for each connection of
/// the server, so that the clients of one node arrive at a bounded rate.
const RECONNECT_PER_CLIENT: Duration = Duration::from_millis(1);

/// The bounds of that time.
const RECONNECT_WITHIN: (Duration, Duration) =
    (Duration::from_millis(250), Duration::from_secs(10));

impl Closing {
    /// A session was granted after the notice was due.
    pub(super) fn count_granted(&mut self) {
        self.sessions += 1;
    }

    /// A message was counted that arrived after the goodbye.
    pub(super) fn count_late(&mut self) {
        self.outcome.late += 1;
    }

    /// A client was sent its goodbye at its own slot.
    pub(super) fn count_departed(&mut self) {
        self.departed += 1;
    }

    /// A step was open at the cut.
    pub(super) fn count_abandoned(&mut self) {
        self.outcome.abandoned += 1;
    }

    /// A peer has completed the closing handshake after the goodbye.
    pub(super) fn count_closed(&mut self) {
        self.outcome.closed_1001 += 1;
    }
}

impl Engine {
    pub(super) fn shutdown_requested(&mut self, request: Request, now: Now) {
        self.closing.outcome.trigger.get_or_insert(request.trigger);
        let actions = self.shutdown.handle_request(request, now.instant);
        self.fanout.refuse_operators(&mut self.outputs);
        self.apply(actions, now);
    }

    /// Lets the machine go as far as this turn's levels allow.
    pub(super) fn drive_shutdown(&mut self, now: Now) {
        self.saving.allow_spill();
        loop {
            let before = self.shutdown.state();
            let census = self.census();
            let actions = self.shutdown.handle_census(&census, now.instant);
            self.apply(actions, now);
            let after = self.shutdown.state();
            // Saving takes a flush at least, however little time is left.
            if after == before || matches!(after, State::Persisting { .. }) {
                return;
            }
        }
    }

    pub(super) fn census(&self) -> Census {
        let levels = &self.levels;
        // Until draining ends, an open step is a message under way. After that it is late: it may
        // still end in time, whether its client is there or not.
        let is_late = self.phase() >= Phase::Persisting;
        let open = if is_late { 0 } else { self.deferring.len() };
        let orphans = if is_late {
            self.deferring.orphans().len()
        } else {
            0
        };
        Census {
            connections: self.clients.len() + orphans,
            leaving: self.clients.waiting_len(),
            left: self.clients.left_len(),
            untold: usize::from(self.owes_messages()),
            unsent: levels.unsent,
            unread: levels.unread + open,
            unsaved: self.saving.unsaved_len(&self.sessions),
            strangers: levels.sockets.saturating_sub(self.clients.len()),
            heard_at: levels.heard_at,
        }
    }

    /// Whether the notice or a broadcast is still to be queued for some client.
    fn owes_messages(&self) -> bool {
        let fanout = &self.fanout;
        fanout.notice_cursor().is_some() || fanout.has_broadcasts() || self.levels.promised > 0
    }

    fn apply(&mut self, actions: &[Action], now: Now) {
        for action in actions {
            match action {
                // The gate goes by the phase.
                Action::Unready => {}
                Action::Notify => self.begin_notice(now),
                Action::Persist => self.begin_persisting(now),
                Action::GiveUp => self.saving.give_up_store(&mut self.sessions),
                Action::SayGoodbye => self.begin_goodbyes(now),
                Action::CutPeers => self.cut_peers(now),
                Action::CloseListener => {
                    self.outputs.push_back(Output::CloseListener);
                    // Late messages are saved, and not synced yet.
                    if self.closing.outcome.late > 0 {
                        self.saving.sync_soon();
                    }
                }
                Action::Stop => self.outputs.push_back(Output::Stop),
            }
        }
    }

    fn begin_notice(&mut self, now: Now) {
        self.closing.outcome.connections = self.clients.len();
        self.closing.sessions = self.sessions.granted_len();
        self.closing.reconnect_seed = self.rng.random();
        self.sessions.keep_released();
        self.timers.stop(Timer::Heartbeat);
        self.timers.stop(Timer::Refresh);
        self.call_on_shutdown();
        self.fanout.begin_notice();
        self.begin_slots(now);
        self.timers.set(Timer::Continue, now.instant);
    }

    /// Sends the notice to the client at a slot, if it understands it.
    pub(super) fn send_notice(&mut self, slot: usize, now: Now) {
        let Some((conn, client)) = self.clients.at(slot) else {
            return;
        };
        if client.stage() != Stage::Open || !client.protocol().is_own() {
            return;
        }
        let protocol = client.protocol();
        let drain_end = self.shutdown.drain_end().unwrap_or(now.instant);
        let message = ServerMessage::Notice {
            drain_ms: drain_end.saturating_duration_since(now.instant).as_millis() as u64,
            reconnect_ms: self.reconnect_ms(conn),
        };
        self.outputs.push_back(Output::Send {
            conn,
            protocol,
            message,
        });
        self.closing.outcome.notified += 1;
    }

    /// A client whose session is granted during a shutdown gets the notice at once, unless it is
    /// still to come.
    pub(super) fn send_late_notice(&mut self, conn: ConnId, now: Now) {
        let has_passed = self
            .fanout
            .notice_cursor()
            .is_none_or(|cursor| (conn.slot as usize) < cursor);
        if self.phase() >= Phase::Notifying && has_passed {
            self.send_notice(conn.slot as usize, now);
        }
    }

    fn begin_persisting(&mut self, now: Now) {
        let levels = &self.levels;
        let left = levels
            .unread
            .max(levels.unsent)
            .max(self.deferring.len())
            .max(self.sessions.unsafe_len());
        let staying = self.clients.len() - self.clients.left_len();
        self.closing.outcome.drained = self.closing.departed + staying.saturating_sub(left);
        self.saving.begin_persisting();
        self.sessions.retry_refused(usize::MAX);
        if self.saving.is_up() {
            self.refresh_some(now);
        }
        self.for_each_client(Self::update_pause);
    }

    fn begin_goodbyes(&mut self, now: Now) {
        self.closing.goodbyes = Some(Goodbyes {
            began: now.instant,
            spread: self.shutdown.close_spread(now.instant),
            total: self.clients.len(),
            said: 0,
            cursor: 0,
        });
        self.say_goodbyes(now);
    }

    /// Says every goodbye that is due, up to this turn's limit.
    pub(super) fn say_goodbyes(&mut self, now: Now) {
        let Some(mut goodbyes) = self.closing.goodbyes else {
            return;
        };
        let due = goodbyes.due(now).min(goodbyes.said + self.fanout_max);
        while goodbyes.said < due && goodbyes.cursor < self.clients.slots_end() {
            let slot = goodbyes.cursor;
            goodbyes.cursor += 1;
            if self.clients.at(slot).is_some() {
                self.say_goodbye(slot);
                goodbyes.said += 1;
            }
        }
        let over = goodbyes.cursor >= self.clients.slots_end();
        if !over {
            self.timers.set(Timer::Goodbye, goodbyes.next_at());
        }
        self.closing.goodbyes = (!over).then_some(goodbyes);
    }

    pub(super) fn say_goodbye(&mut self, slot: usize) {
        let Some((conn, client)) = self.clients.at(slot) else {
            return;
        };
        match client.stage() {
            Stage::Open => {}
            Stage::Waiting => return self.send_away(conn),
            Stage::GoodbyeSent | Stage::Closing | Stage::PeerClosed => {
                return self.hurry_close(conn);
            }
        }
        // The total is what the store holds: replies that it never confirmed are not sent either.
        let (protocol, session) = (client.protocol(), client.session());
        let is_told = client.tells().includes(Tells::GOODBYE);
        let total = self.sessions.saved(session);
        let sent = session.key().map_or(0, |key| self.sessions.sent(key));
        self.sessions.drop_held(session);
        let reason = self.going_away(conn);
        if is_told {
            self.outputs.push_back(Output::Send {
                conn,
                protocol,
                message: ServerMessage::Goodbye { total, sent },
            });
            self.closing.outcome.byes += 1;
        }
        self.outputs.push_back(Output::Close {
            conn,
            reason,
            bounded: false,
        });
        self.clients.enter(conn, Stage::GoodbyeSent);
        self.update_pause(conn);
    }

    /// A client whose session the store has not granted has no known total, and nothing of it was
    /// read. It gets the Close alone, and its next hello has the count.
    fn send_away(&mut self, conn: ConnId) {
        let reason = self.going_away(conn);
        self.clients.enter(conn, Stage::Closing);
        if let Some(client) = self.clients.get_mut(conn) {
            self.sessions.close(client.take_session());
        }
        self.outputs.push_back(Output::Close {
            conn,
            reason,
            bounded: false,
        });
        self.update_pause(conn);
    }

    /// What a client is told with its goodbye: when to come back.
    pub(super) fn going_away(&self, conn: ConnId) -> CloseReason {
        let retry_after_ms = match self.slots.filter(|_| self.clients.is_leaving(conn)) {
            Some(slots) => {
                let left = slots.until_back_from(self.now.instant, conn.slot);
                left.as_millis() as u64
            }
            None => self.reconnect_ms(conn),
        };
        CloseReason::Shutdown { retry_after_ms }
    }

    /// A client that was about to be closed for another reason gets that Close now, without its
    /// replies. One whose peer has closed does not wait for the store any more.
    fn hurry_close(&mut self, conn: ConnId) {
        if let Some(client) = self.clients.get_mut(conn)
            && let Some(reason) = client.take_close()
        {
            // Nothing may follow a Close, whenever the store answers.
            self.sessions.drop_held(client.session());
            self.push_close(conn, reason);
        }
        self.finish_if_safe(conn);
    }

    /// The store is out of reach: clients that have closed do not wait for it, unless all do.
    pub(super) fn finish_closed(&mut self) {
        self.for_each_client(Self::finish_if_safe);
    }

    pub(super) fn for_each_client(&mut self, act: fn(&mut Self, ConnId)) {
        for slot in 0..self.clients.slots_end() {
            if let Some((conn, _)) = self.clients.at(slot) {
                act(self, conn);
            }
        }
    }

    fn cut_peers(&mut self, now: Now) {
        let orphans = self.deferring.orphans();
        self.abandon_steps(orphans);
        if self.shutdown.state() == State::Stopped {
            self.closing.cut = None;
            self.for_each_client(Self::cut_peer);
        } else {
            self.closing.cut = Some(0);
            self.go_on_cutting(now);
        }
    }

    /// Cuts the next peers. Those that were not sent the goodbye get it first.
    pub(super) fn go_on_cutting(&mut self, now: Now) {
        let Some(cursor) = self.closing.cut else {
            return;
        };
        let end = self.clients.slots_end().min(cursor + self.fanout_max);
        for slot in cursor..end {
            let Some((conn, client)) = self.clients.at(slot) else {
                continue;
            };
            if matches!(client.stage(), Stage::Open | Stage::Waiting) {
                self.say_goodbye(slot);
            }
            self.cut_peer(conn);
        }
        let is_over = end >= self.clients.slots_end();
        self.closing.cut = (!is_over).then_some(end);
        if !is_over {
            self.timers.set(Timer::Continue, now.instant);
        }
    }

    fn cut_peer(&mut self, conn: ConnId) {
        let step = self.clients.get(conn).and_then(Client::open_step);
        self.abandon_steps(step);
        self.closing.outcome.cut += 1;
        self.outputs.push_back(Output::Cut { conn });
        self.gone(conn);
    }

    /// When a client should reconnect: the same in its notice and in its Close, unless it has
    /// answered the notice.
    fn reconnect_ms(&self, conn: ConnId) -> u64 {
        let is_v2 = |client: &Client| client.protocol() == Protocol::V2;
        if let Some(slots) = self.slots
            && self.clients.get(conn).is_some_and(is_v2)
        {
            return slots.until_back(conn.slot).as_millis() as u64;
        }
        let clients = u32::try_from(self.closing.outcome.connections).unwrap_or(u32::MAX);
        let (least, most) = RECONNECT_WITHIN;
        let window = RECONNECT_PER_CLIENT
            .saturating_mul(clients)
            .clamp(least, most);
        let client = u64::from(conn.generation) << 32 | u64::from(conn.slot);
        let mut rng = StdRng::seed_from_u64(self.closing.reconnect_seed ^ client);
        rng.random_range(0..window.as_millis() as u64)
    }

    /// The spill has answered: clients that have closed, and waited for that, are finished.
    pub(super) fn spilled(&mut self, batch: &[Commit], kept: bool) {
        for commit in batch {
            self.sessions.handle_spilled(commit, kept);
            if let Some(conn) = self.sessions.get(commit.key).and_then(Session::owner) {
                self.finish_if_safe(conn);
            }
        }
    }

    pub(super) fn final_outcome(&self) -> Outcome {
        let unsaved: Vec<_> = self
            .sessions
            .lost()
            .map(|session| (session.id().to_string(), session.processed()))
            .chain(self.sessions.lost_released())
            .collect();
        let mut outcome = self.closing.outcome.clone();
        outcome.spilled = self.sessions.spilled_len();
        let elsewhere = unsaved.len() + outcome.spilled;
        outcome.saved = self.closing.sessions.saturating_sub(elsewhere);
        outcome.unsaved = unsaved;
        outcome.unconfirmed_pushes = self.sessions.unconfirmed_pushes();
        outcome.store_lost = self.sessions.is_store_lost();
        outcome.repeats = self.shutdown.repeats();
        outcome.timeline = *self.shutdown.timeline();
        outcome
    }
}

impl Goodbyes {
    /// How many goodbyes are due by now.
    fn due(&self, now: Now) -> usize {
        let elapsed = now.instant.saturating_duration_since(self.began);
        if elapsed >= self.spread {
            return usize::MAX;
        }
        let share = elapsed.as_nanos() * self.total as u128 / self.spread.as_nanos();
        usize::try_from(share)
            .unwrap_or(usize::MAX)
            .saturating_add(1)
    }

    /// When the next one is due.
    fn next_at(&self) -> std::time::Instant {
        let (said, total) = (self.said as u128, self.total.max(1) as u128);
        // Rounded up: a nanosecond earlier it is not due.
        let nanos = (self.spread.as_nanos() * said).div_ceil(total);
        self.began + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod spill_tests;
#[cfg(test)]
mod tests;
