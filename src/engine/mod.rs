//! The pure engine: it decides, the shell performs.
//!
//! It owns the clients, their sessions, the shutdown and every deadline above the socket. It never
//! sees a socket, a file descriptor or a clock: what happens comes in through `handle_input` and
//! `handle_timeout`, with the time; what to do goes out through `poll_output` and `poll_store`; and
//! `poll_timeout` says when it wants to be called again. After each `handle_*`, drain
//! `poll_output`; once a turn, hand `poll_spill` to the spill and then `poll_store` to the store.

pub mod app;
mod callbacks;
mod clients;
mod closing;
mod deferring;
mod delivering;
mod fanout;
mod hub;
mod ids;
pub mod io;
mod kinds;
mod leaving;
pub mod ledger;
pub mod mailbox;
pub mod message;
pub mod receipt;
mod saving;
mod session;
pub mod shutdown;
mod spilling;
pub mod step;
mod store_events;
mod timers;
mod waking;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::config::Config;
use crate::memory::{Account, Kind};
use app::{Application, Closed, Desk, Effects, Tells};
use clients::{Client, Clients, Stage};
use closing::Closing;
use deferring::Deferring;
use fanout::Fanout;
use hub::Own;
use io::{
    CloseReason, Commit, ConnId, Gate, Input, Levels, Now, Output, Protocol, Received, SessionId,
    StoreCommand,
};
use leaving::Slots;
use message::ServerMessage;
use saving::Saving;
use session::{ClientSession, Displaced, Sessions};
use shutdown::{Outcome, Phase, Shutdown, State};
use timers::{Timer, Timers};
use waking::Waking;

/// Everything that sundown decides, as a value.
pub struct Engine {
    app: Box<dyn Application>,
    heartbeat: Duration,
    connections_max: usize,
    fanout_max: usize,
    rng: StdRng,
    clients: Clients,
    sessions: Sessions,
    saving: Saving,
    shutdown: Shutdown,
    closing: Closing,
    slots: Option<Slots>,
    timers: Timers,
    fanout: Fanout,
    levels: Levels,
    /// The time of the last input.
    now: Now,
    outputs: VecDeque<Output>,
    /// What a callback wants done: empty between two steps, and kept for its capacity.
    effects: Effects,
    /// How a callback defers its step, and the steps that are deferred.
    desk: Desk,
    deferring: Deferring,
    /// The process's own session.
    hub: Own,
    waking: Waking,
}

/// `relaxed`: how long a count may wait for its save.
const SAVE_EVERY: Duration = Duration::from_millis(100);

impl Engine {
    /// An engine without clients; `seed` decides session ids, tokens and the spread of reconnects.
    pub fn new(config: &Config, app: Box<dyn Application>, seed: [u8; 32], now: Now) -> Self {
        let heartbeat = config.heartbeat;
        let (deferring, desk) = Deferring::new(config.limits.deferred_max);
        let saving = Saving::new(config, now);
        let mut timers = Timers::default();
        timers.set(Timer::Refresh, now.instant + saving.refresh_every());
        if heartbeat > Duration::ZERO {
            timers.set(Timer::Heartbeat, now.instant + heartbeat);
        }
        Self {
            app,
            heartbeat,
            connections_max: config.limits.connections_max,
            fanout_max: config.limits.fanout_max,
            rng: StdRng::from_seed(seed),
            clients: Clients::default(),
            sessions: Sessions::new(&config.limits),
            saving,
            shutdown: Shutdown::new(config.shutdown),
            closing: Closing::default(),
            slots: None,
            timers,
            fanout: Fanout::new(config.limits.broadcasts_max),
            levels: Levels::default(),
            now,
            outputs: VecDeque::new(),
            effects: Effects::default(),
            desk,
            deferring,
            hub: Own::default(),
            waking: Waking::default(),
        }
    }

    /// Takes in what has happened.
    pub fn handle_input(&mut self, input: Input<'_>, now: Now) {
        self.now = now;
        match input {
            Input::Opened {
                conn,
                protocol,
                tells,
                session,
                received,
            } => self.opened(conn, protocol, tells, session, received),
            Input::Message { conn, message } => self.message(conn, message),
            Input::PeerClosed { conn, by_frame } => self.peer_closed(conn, by_frame, now),
            Input::Gone { conn } => self.gone(conn),
            Input::SlowReader { conn, message } => self.slow_reader(conn, message),
            Input::Store(event) => self.store_event(event, now),
            Input::Completed => self.complete_step(),
            Input::Push(request) => self.push(request),
            Input::Taken { conn } => self.taken(conn),
            Input::Broadcast(broadcast) => self.broadcast(broadcast, now),
            Input::Shutdown(request) => self.shutdown_requested(request, now),
            Input::Levels(levels) => {
                self.levels = levels;
                self.drive_shutdown(now);
            }
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        self.now = now;
        self.saving.handle_clock(now);
        for timer in Timer::ALL {
            if !self.timers.take_due(timer, now.instant) {
                continue;
            }
            match timer {
                Timer::Heartbeat => {
                    self.fanout.handle_heartbeat();
                    self.begin_pass(now);
                    self.timers
                        .set(Timer::Heartbeat, now.instant + self.heartbeat);
                }
                Timer::Save => self.saving.save_soon(),
                Timer::Refresh => {
                    self.saving.begin_refresh();
                    let every = self.saving.refresh_every();
                    self.timers.set(Timer::Refresh, now.instant + every);
                }
                Timer::Retry => self.retry_refused(now),
                Timer::Goodbye if self.phase() < Phase::Closing => self.let_go(now),
                Timer::Goodbye => self.say_goodbyes(now),
                Timer::Continue => {}
            }
        }
        self.update_full();
        self.wake_some(now);
        self.refresh_some(now);
        self.send_slice(now);
        self.go_on_cutting(now);
    }

    /// What to do next; `None` when all is done.
    pub fn poll_output(&mut self) -> Option<Output> {
        let next = self.outputs.pop_front();
        next.or_else(|| self.fanout.poll_output())
    }

    /// What to put into the spill next, once a turn, until `None`: the store does not take it in
    /// time. [`StoreEvent::Spilled`](io::StoreEvent::Spilled) answers, also where there is no
    /// spill. A turn has its share, and the last one all of it.
    pub fn poll_spill(&mut self) -> Option<Vec<Commit>> {
        let is_last = self.shutdown.state() == State::Stopped;
        self.saving.poll_spill(&mut self.sessions, is_last)
    }

    /// What to ask of the store next, once a turn after `poll_spill`, until `None`.
    pub fn poll_store(&mut self) -> Option<StoreCommand> {
        self.saving.poll(&mut self.sessions)
    }

    /// When `handle_timeout` and the next `Input::Levels` are due, if the levels stay as they are.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let shutdown = self.shutdown.poll_timeout(&self.census());
        // What did not fit into the last turn's share is due at once.
        let spill = self.sessions.has_spill();
        let spill = self.shutdown.timeline().began.filter(|_| spill);
        let completed = self.deferring.has_next().then_some(self.now.instant);
        let waking = self.waking.next();
        let times = [self.timers.next(), shutdown, spill, completed, waking];
        times.into_iter().flatten().min()
    }

    /// What may be let in.
    pub fn gate(&self) -> Gate {
        let has_seats = self.clients.len() < self.connections_max;
        Gate {
            ready: self.saving.is_up() && self.phase() == Phase::Serving && has_seats,
            upgrades: self.phase() < Phase::Notifying && has_seats,
            sessions: self.saving.is_up(),
        }
    }

    /// Whether a shutdown has been asked for.
    pub fn is_shutting_down(&self) -> bool {
        self.shutdown.timeline().began.is_some()
    }

    /// When the process is to have ended. `None` while serving.
    pub fn end(&self) -> Option<Instant> {
        self.shutdown.end()
    }

    /// How it ended, once `Output::Stop` has come out.
    pub fn outcome(&self) -> Outcome {
        self.final_outcome()
    }

    /// How many WebSocket connections there are.
    pub fn connections(&self) -> usize {
        self.clients.len()
    }

    /// How many sessions neither the store nor the spill has confirmed.
    pub fn unsaved(&self) -> usize {
        self.sessions.unsafe_len()
    }

    /// How many sessions are open on this node.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// How many steps are open: a callback has deferred them.
    pub fn open_steps(&self) -> usize {
        self.deferring.len()
    }

    /// How many replies wait for a save. Counts them one session after the other.
    pub fn waiting_replies(&self) -> usize {
        self.sessions.held_len()
    }

    /// Bytes of the replies and the broadcasts that wait. The list of broadcasts is short, so its
    /// bytes are added up here.
    pub(crate) fn memory(&self) -> Account {
        let mut memory = self.sessions.memory();
        memory.add(Kind::Broadcasts, self.fanout.held_bytes());
        memory
    }

    /// The phase of the shutdown.
    pub fn phase(&self) -> Phase {
        self.shutdown.state().phase()
    }

    /// How long each phase of the shutdown has lasted.
    pub fn phases_lasted(&self, now: Instant) -> [(Phase, Duration); 6] {
        self.shutdown.timeline().lasted(Some(now))
    }

    fn opened(
        &mut self,
        conn: ConnId,
        protocol: Protocol,
        tells: Tells,
        session: Option<SessionId>,
        received: Received,
    ) {
        let id = session.or_else(|| match protocol {
            Protocol::Plain => None,
            Protocol::V1 | Protocol::V2 => Some(SessionId::from_random(self.rng.random())),
        });
        let Some(id) = id else {
            let session = ClientSession::EPHEMERAL;
            let client = Client::new(protocol, tells, session, Stage::Waiting);
            self.clients.insert(conn, client);
            return self.call_on_open(conn, false);
        };
        self.leave_session(&id);
        let (key, displaced) = self.sessions.open(id, conn, self.rng.random());
        let session = ClientSession::Stored(key);
        let mut client = Client::new(protocol, tells, session, Stage::Waiting);
        client.set_received(received);
        self.clients.insert(conn, client);
        self.update_pause(conn);
        match displaced {
            Some(Displaced::Pending(old)) => self.update_pause(old),
            Some(Displaced::Ended(old)) => self.taken_over(old),
            None => {}
        }
    }

    /// `relaxed`: what is not saved goes out with the next save; at once, if a reply waits for it.
    fn plan_save(&mut self, session: ClientSession) {
        if self.saving.is_acked() || self.sessions.unsaved(session).is_none() {
            return;
        }
        if self.sessions.holds_replies(session) {
            self.saving.save_soon();
        } else {
            self.timers
                .set_if_unset(Timer::Save, self.now.instant + SAVE_EVERY);
        }
    }

    fn close_after_replies(&mut self, conn: ConnId, reason: CloseReason) {
        self.clients.enter(conn, Stage::Closing);
        let Some(client) = self.clients.get_mut(conn) else {
            return;
        };
        if self.sessions.holds_replies(client.session()) {
            client.close_later(reason);
        } else {
            self.push_close(conn, reason);
        }
    }

    fn peer_closed(&mut self, conn: ConnId, by_frame: bool, now: Now) {
        let Some(client) = self.clients.get_mut(conn) else {
            return;
        };
        if client.stage() == Stage::GoodbyeSent && by_frame {
            self.closing.count_closed();
        }
        let why = if by_frame {
            Closed::ByClient
        } else {
            Closed::Lost
        };
        self.call_on_close(conn, why);
        self.clients.enter(conn, Stage::PeerClosed);
        if !self.saving.is_acked() {
            // A client that reconnects at once to another node must find what was acknowledged.
            self.timers.set(Timer::Save, now.instant);
        }
        self.update_pause(conn);
        self.finish_if_safe(conn);
    }

    /// Finishes a peer that has closed, once nothing of its session is lost by that.
    fn finish_if_safe(&mut self, conn: ConnId) {
        let Some(client) = self.clients.get(conn) else {
            return;
        };
        if client.open_step().is_some() {
            return;
        }
        let session = client.session();
        let waits = self.saving.waits_for_store() || self.sessions.awaits_spill(session);
        if client.stage() == Stage::PeerClosed && (self.sessions.is_safe(session) || !waits) {
            self.outputs.push_back(Output::Finish { conn });
            self.gone(conn);
        }
    }

    fn gone(&mut self, conn: ConnId) {
        self.call_on_close(conn, Closed::Lost);
        if let Some(client) = self.clients.remove(conn) {
            self.sessions.drop_client(client);
        }
    }

    /// There is no room for a message to this peer, which is closed before anything else is done.
    fn slow_reader(&mut self, conn: ConnId, message: &ServerMessage) {
        if let ServerMessage::Broadcast(_) = message {
            self.fanout.handle_missed();
        }
        let reason = CloseReason::TooSlow;
        self.outputs.push_front(Output::Fail { conn, reason });
        self.call_on_close(conn, Closed::TooSlow);
        self.gone(conn);
    }

    /// Goes on with a renewal of all sessions.
    fn refresh_some(&mut self, now: Now) {
        if self.saving.refresh(&mut self.sessions, self.fanout_max) {
            self.timers.set(Timer::Continue, now.instant);
        }
    }

    fn push_close(&mut self, conn: ConnId, reason: CloseReason) {
        self.outputs.push_back(Output::Close {
            conn,
            reason,
            bounded: true,
        });
    }

    /// Tells the shell whether to read from a client, if that has changed.
    fn update_pause(&mut self, conn: ConnId) {
        let Some(client) = self.clients.get_mut(conn) else {
            return;
        };
        let pause = match client.stage() {
            Stage::Waiting => true,
            Stage::Open => {
                self.saving.is_persisting()
                    || self
                        .sessions
                        .is_blocked(client.session(), client.is_paused())
                    || client.open_step().is_some()
                    || self.deferring.is_full()
            }
            Stage::GoodbyeSent => client.open_step().is_some(),
            Stage::Closing | Stage::PeerClosed => false,
        };
        if client.set_paused(pause) {
            if pause {
                self.outputs.push_back(Output::Pause { conn });
            } else {
                self.outputs.push_back(Output::Resume { conn });
                self.wake_if_due(conn);
            }
        }
    }
}

#[cfg(test)]
mod tests;
